/*
 * fake_engine.c - the part of tandem.h that the server uses, without a model: bytes are tokens, text is a function of prompt and seed, and faults happen on
 * request. For tests of the server alone: queueing, slow readers, lost clients, shutdown, errors in the middle of an answer.
 *
 * Token 0 ends, 1 begins, byte b is token b + 2. A prompt that holds "SAY:" continues with what follows it (up to "|"); otherwise letters chosen by the seed.
 * "FAULT" in the prompt fails after three tokens as if a worker were lost, "FAULT:NAN" as if a weight were no number; with "UNLIKELY" the best tokens are a, b, ... and not the one that was chosen; "NEVER" reads nothing until cancelled or out of time. FAKE_STEP_US is the time of a step, FAKE_LOAD_MS of loading,
 * FAKE_DEGRADED a reason, FAKE_TEMPLATE the source of the chat template as the server sees it (which marks of calls it knows).
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/utf8.h"

enum { VOCAB = 258, WIDTH = 16, LAYERS = 2, CONTEXT = 4096 };

struct td_model { td_model_info info; };
struct td_engine { td_engine_options options; pthread_mutex_t lock; pthread_cond_t wake; pthread_t thread; td_request *first; bool closing; td_engine_stats stats; };
struct td_request {
    td_engine *engine;
    td_request *next;
    td_request_options o;
    int32_t *prompt, *made;
    size_t prompt_count, made_count, read, made_max, told; /* told: of the prompt, for prompt_logprobs */
    char *stop[16], *say;
    bool cancelled, finished, read_finish, prompt_done;
    td_finish finish;
    char held[8], text[8];
    size_t held_bytes;
    int64_t submitted_ns;
    td_logprob top[21];
    td_event last;
};

static long env_number(const char *name, long fallback) { const char *text = getenv(name); return text ? atol(text) : fallback; }

td_status td_model_open(const char *path, const td_model_options *options, td_model **out)
{
    if (path && strcmp(path, "fake")) return td_fail(TD_E_NOT_FOUND, "file %s: no such file", path);
    for (long done = 0, all = env_number("FAKE_LOAD_MS", 0); done < all; done += 10) {
        usleep(10000);
        if (options->progress && !options->progress(options->progress_user, "weights", (uint64_t)done, (uint64_t)all)) return td_fail(TD_E_CANCELLED, "loading was given up");
    }
    td_model *model = calloc(1, sizeof *model);
    model->info = (td_model_info){.path = "fake", .format = "gguf", .family = "fake", .name = "fake", .dtype = "f32", .layers = LAYERS, .d_model = WIDTH, .vocab_size = VOCAB, .context_max = CONTEXT,
        .experts = 8, .experts_per_token = 2, .parameters = 1, .weight_bytes = 4, .fingerprint = 0xFA4E, .has_tokenizer = true, .has_chat_template = true, .bos = 1, .eos = 0,
        .chat_template = getenv("FAKE_TEMPLATE") ? getenv("FAKE_TEMPLATE") : "<think> <tool_call>"};
    *out = model;
    return TD_OK;
}
void td_model_close(td_model *model) { free(model); }
const td_model_info *td_model_get_info(const td_model *model) { return &model->info; }

td_status td_tokenize(const td_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t capacity, size_t *count)
{
    size_t n = 0, bos = flags & TD_TOKENIZE_BOS ? 1 : 0;
    (void)model;
    *count = bytes + bos;
    if (!ids && !capacity) return TD_OK;
    if (*count > capacity) return td_fail(TD_E_FULL, "tokens: no room");
    if (bos) ids[n++] = 1;
    for (size_t i = 0; i < bytes; i++) ids[n++] = (unsigned char)text[i] + 2;
    return TD_OK;
}

td_status td_detokenize(const td_model *model, const int32_t *ids, size_t count, unsigned flags, char **out, size_t *bytes)
{
    td_buffer raw = {0}, text = {0};
    (void)model;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= 2) td_buffer_put(&raw, &(char){(char)(ids[i] - 2)}, 1);
        else if (flags & TD_TOKENIZE_SPECIAL) td_buffer_text(&raw, ids[i] ? "<bos>" : "<eos>");
    }
    td_buffer_put(&text, "", 0);
    for (size_t i = 0; i < raw.bytes;) {
        size_t length = td_utf8_length(raw.data + i, raw.bytes - i);
        td_buffer_put(&text, length ? raw.data + i : "\xEF\xBF\xBD", length ? length : 3);
        i += length ? length : 1;
    }
    td_buffer_free(&raw);
    *out = text.data;
    *bytes = text.bytes;
    return TD_OK;
}

td_status td_chat_render(const td_model *model, const char *messages_json, const char *context_json, bool add_generation_prompt, char **out)
{
    td_buffer text = {0};
    cJSON *messages = cJSON_Parse(messages_json), *context = cJSON_Parse(context_json ? context_json : "{}");
    (void)model;
    td_buffer_text(&text, "");
    if (strstr(messages_json, "\"parsed")) td_buffer_text(&text, "REFUSE"); /* no template knows such a member */
    if (cJSON_GetObjectItem(context, "tools")) td_buffer_text(&text, "[tools]");
    for (cJSON *m = messages->child; m; m = m->next) td_buffer_format(&text, "<%s>%s\n", cJSON_GetObjectItem(m, "role")->valuestring, cJSON_GetObjectItem(m, "content")->valuestring);
    if (add_generation_prompt) td_buffer_text(&text, cJSON_IsTrue(cJSON_GetObjectItem(context, "enable_thinking")) ? "<assistant><think>\n" : "<assistant>");
    bool refused = strstr(text.data, "REFUSE") != NULL;
    cJSON_Delete(messages);
    cJSON_Delete(context);
    if (refused) {
        td_buffer_free(&text);
        return td_fail(TD_E_INVALID, "chat template: REFUSE was written");
    }
    *out = text.data;
    return TD_OK;
}

/* No grammar without a vocabulary: everything is allowed, a text with "BROKEN" is a mistake; but JSON does not begin with "<", and behind a mark that is waited for it does not end before its
 * braces are closed. One with "HELD" that waits for a mark says the same call behind it. */
struct td_constraint { char mark[32]; bool held, json, nothing; };

td_status td_constraint_open(td_model *model, const char *kind, const char *text, size_t bytes, td_constraint **out)
{
    (void)model;
    (void)bytes;
    if (strstr(text, "BROKEN")) return td_fail(TD_E_INVALID, "%s: BROKEN was written", kind);
    *out = calloc(1, sizeof **out);
    **out = (td_constraint){.held = strstr(text, "HELD") != NULL, .json = !strncmp(kind, "json", 4), .nothing = !strcmp(text, "root ::= \"\"")};
    return TD_OK;
}

td_status td_constraint_wait(td_constraint *constraint, const char *mark, bool may_think, bool thinks)
{
    (void)may_think;
    (void)thinks;
    strncpy(constraint->mark, mark, sizeof constraint->mark - 1);
    return TD_OK;
}

bool td_constraint_mask(void *constraint, const int32_t *tokens, size_t count, float *logits, int vocab_size)
{
    static const char said[] = "{\"name\": \"f\", \"arguments\": {\"HELD\": 7}}";
    td_constraint *c = constraint;
    td_buffer text = {0};
    td_buffer_text(&text, "");
    for (size_t i = 0; i < count; i++) td_buffer_put(&text, &(char){(char)(tokens[i] - 2)}, 1);
    const char *behind = NULL;
    for (const char *next = *c->mark ? strstr(text.data, c->mark) : NULL; next; next = strstr(next + 1, c->mark)) behind = next + strlen(c->mark);
    int depth = 0, seen = 0;
    for (const char *p = behind ? behind : ""; *p && !(seen && !depth); p++) {
        depth += (*p == '{') - (*p == '}');
        seen |= *p == '{';
    }
    if (behind && (!seen || depth)) logits[0] = -INFINITY;
    for (int i = 1; c->nothing && i < vocab_size; i++) logits[i] = -INFINITY;
    if (c->json && !*c->mark && !count) logits['<' + 2] = -INFINITY;
    size_t at = behind && c->held ? strlen(behind) : sizeof said;
    if (at < sizeof said - 1) logits[(unsigned char)said[at] + 2] = 9;
    td_buffer_free(&text);
    return vocab_size > 0;
}

void td_constraint_close(td_constraint *constraint) { free(constraint); }

/* ---- engine --------------------------------------------------------------------------------------------------------------------------------------------- */

static void finish(td_request *r, td_finish why)
{
    r->finished = true;
    r->finish = why;
    r->engine->stats.requests_finished++;
    if (r->o.notify) r->o.notify(r->o.notify_user);
}

static int32_t choose(const td_request *r)
{
    if (r->say) return r->made_count < strlen(r->say) ? (unsigned char)r->say[r->made_count] + 2 : 0;
    return 'a' + 2 + (int32_t)(td_random_at(r->o.seed, r->made_count) % 26);
}

static int stopped(const td_request *r)
{
    for (size_t s = 0; s < r->o.stop_count; s++) {
        size_t length = strlen(r->stop[s]), i = 0;
        if (r->made_count < length) continue;
        while (i < length && r->made[r->made_count - length + i] == (unsigned char)r->stop[s][i] + 2) i++;
        if (i == length) return (int)s;
    }
    return -1;
}

static bool contains(const td_request *r, const char *word)
{
    size_t length = strlen(word);
    for (size_t at = 0; at + length <= r->prompt_count; at++) {
        size_t i = 0;
        while (i < length && r->prompt[at + i] == (unsigned char)word[i] + 2) i++;
        if (i == length) return true;
    }
    return false;
}

static void step(td_request *r)
{
    if (r->cancelled) { finish(r, TD_FINISH_CANCELLED); return; }
    if (r->o.time_max_ms && td_now_ns() - r->submitted_ns > r->o.time_max_ms * 1000000) { finish(r, TD_FINISH_TIME); return; }
    if (contains(r, "NEVER")) return;
    if (!r->prompt_done) {
        r->prompt_done = true;
        r->engine->stats.prompt_tokens += r->prompt_count;
        float row[WIDTH];
        for (size_t p = 0; r->o.hook && p < r->prompt_count; p++) {
            for (int i = 0; i < WIDTH; i++) row[i] = sinf((float)(r->prompt[p] * (i + 1)));
            r->o.hook(r->o.hook_user, TD_POINT_FINAL, LAYERS, (int64_t)p, 1, WIDTH, row);
        }
    }
    if (r->o.max_tokens < 0) { finish(r, TD_FINISH_LENGTH); return; }
    if (contains(r, "FAULT") && r->made_count == 3) { finish(r, TD_FINISH_ERROR); return; }
    int32_t token = choose(r);
    if (r->o.logits_fn) {
        float logits[VOCAB] = {0};
        logits[token] = 1;
        if (!r->o.logits_fn(r->o.logits_user, r->made, r->made_count, logits, VOCAB)) { finish(r, TD_FINISH_STOP); return; }
        for (int i = 0; i < VOCAB; i++)
            if (logits[i] > logits[token]) token = i;
    }
    r->made[r->made_count++] = token;
    r->engine->stats.decoded_tokens++;
    if (token == 0 && !r->o.ignore_eos) { finish(r, TD_FINISH_EOS); return; }
    if (stopped(r) >= 0) { finish(r, TD_FINISH_STOP); return; }
    if (r->made_count == r->made_max) { finish(r, r->prompt_count + r->made_count >= CONTEXT ? TD_FINISH_CONTEXT : TD_FINISH_LENGTH); return; }
    if (r->o.notify) r->o.notify(r->o.notify_user);
}

static void *decode(void *arg)
{
    td_engine *e = arg;
    long step_us = env_number("FAKE_STEP_US", 200);
    pthread_mutex_lock(&e->lock);
    while (!e->closing) {
        int running = 0;
        for (td_request *r = e->first; r; r = r->next)
            if (!r->finished && running++ < (e->options.requests_max ? e->options.requests_max : 64)) step(r);
        e->stats.steps += running > 0;
        e->stats.requests_running = running;
        if (!running) pthread_cond_wait(&e->wake, &e->lock);
        else {
            pthread_cond_broadcast(&e->wake);
            pthread_mutex_unlock(&e->lock);
            if (step_us) usleep((useconds_t)step_us);
            pthread_mutex_lock(&e->lock);
        }
    }
    for (td_request *r = e->first; r; r = r->next)
        if (!r->finished) finish(r, TD_FINISH_CANCELLED);
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

td_status td_engine_open(td_model *model, const td_engine_options *options, td_engine **out)
{
    td_engine *e = calloc(1, sizeof *e);
    (void)model;
    e->options = *options;
    e->stats = (td_engine_stats){.kv_pages = 256, .kv_page_tokens = 16, .threads = 1, .micro_batches = 1, .isa = "ref"};
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    pthread_create(&e->thread, NULL, decode, e);
    *out = e;
    return TD_OK;
}

void td_engine_close(td_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    free(e);
}

void td_engine_get_stats(td_engine *e, td_engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
    const char *reason = getenv("FAKE_DEGRADED");
    if (reason) {
        out->degraded = true;
        strncpy(out->degraded_reason, reason, sizeof out->degraded_reason - 1);
    }
}

td_status td_engine_workers_json(td_engine *e, char **out)
{
    (void)e;
    *out = strdup("{\"kind\":\"workers\",\"messages\":3,\"workers\":[{\"address\":\"fake:1\",\"state\":\"ready\",\"rows\":12,\"round_trip_us\":500,\"trips_us\":1400,\"trips\":[[500,1],[1000,2],[null,0]]},"
                  "{\"address\":\"fake:2 \\\"quoted\\\"\",\"state\":\"away\",\"rows\":0,\"trips\":[[500,0],[1000,0],[null,0]]}],"
                  "\"layers\":[{\"layer\":1,\"hottest_expert\":0,\"hottest_share\":0.75,\"load\":[3,1]}]}");
    return TD_OK;
}

/* ---- requests --------------------------------------------------------------------------------------------------------------------------------------------- */

static char *find_say(const td_request *r)
{
    static const char word[] = "SAY:";
    for (size_t at = r->prompt_count; at-- > 0;) {
        size_t i = 0;
        while (i < 4 && at + i < r->prompt_count && r->prompt[at + i] == word[i] + 2) i++;
        if (i < 4) continue;
        char *say = calloc(1, r->prompt_count);
        for (size_t n = 0; at + 4 + n < r->prompt_count && r->prompt[at + 4 + n] != '|' + 2; n++) say[n] = (char)(r->prompt[at + 4 + n] - 2);
        return say;
    }
    return NULL;
}

td_status td_request_submit(td_engine *e, const td_request_options *o, td_request **out)
{
    if (!o->tokens_count) return td_fail(TD_E_INVALID, "prompt: expected at least one token, found none");
    td_request *r = calloc(1, sizeof *r);
    r->engine = e;
    r->o = *o;
    r->submitted_ns = td_now_ns();
    r->prompt_count = o->tokens_count;
    r->told = 1; /* nothing comes before the first */
    r->prompt = malloc(o->tokens_count * sizeof *r->prompt);
    memcpy(r->prompt, o->tokens, o->tokens_count * sizeof *r->prompt);
    for (size_t i = 0; i < o->stop_count; i++) r->stop[i] = strdup(o->stop[i]);
    r->made_max = CONTEXT > o->tokens_count ? CONTEXT - o->tokens_count : 1;
    if (o->max_tokens > 0 && (size_t)o->max_tokens < r->made_max) r->made_max = (size_t)o->max_tokens;
    r->made = malloc((r->made_max + 1) * sizeof *r->made);
    r->say = find_say(r);
    pthread_mutex_lock(&e->lock);
    td_request **link = &e->first;
    while (*link) link = &(*link)->next;
    *link = r;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    *out = r;
    return TD_OK;
}

/* Whole characters only; a stop string and the end token give no text. */
static void read_text(td_request *r, int32_t token, td_event *event)
{
    bool cut = r->finished && r->read == r->made_count && (token == 0 || r->finish == TD_FINISH_STOP);
    event->text = "";
    if (cut || token < 2) return;
    r->held[r->held_bytes++] = (char)(token - 2);
    size_t length = td_utf8_length(r->held, r->held_bytes);
    if (!length && r->held_bytes < 4) return;
    memcpy(r->text, length ? r->held : "\xEF\xBF\xBD", length ? length : 3);
    event->text = r->text;
    event->text_bytes = length ? length : 3;
    r->held_bytes = 0;
}

static void put_best(td_request *r, td_event *event)
{
    event->logprob = -0.25f;
    event->top = r->top;
    event->top_count = r->o.logprobs;
    for (int i = 0; i < r->o.logprobs; i++) r->top[i] = (td_logprob){.token = i || contains(r, "UNLIKELY") ? 'a' + 2 + i : event->token, .logprob = -0.25f - (float)i};
}

td_status td_request_next(td_request *r, int timeout_ms, td_event *out)
{
    td_status status = TD_OK;
    pthread_mutex_lock(&r->engine->lock);
    while (timeout_ms && r->read == r->made_count && !r->finished) pthread_cond_wait(&r->engine->wake, &r->engine->lock);
    td_event event = {.prompt_tokens = (int64_t)r->prompt_count, .text = ""};
    if (r->o.prompt_logprobs && r->prompt_done && r->told < r->prompt_count) {
        event.kind = TD_EVENT_TOKEN;
        event.token = r->prompt[r->told++];
        event.from_prompt = true;
        put_best(r, &event);
    } else if (r->read < r->made_count) {
        int32_t token = r->made[r->read++];
        event.kind = TD_EVENT_TOKEN;
        event.token = token;
        read_text(r, token, &event);
        put_best(r, &event);
    } else if (r->finished) {
        event.kind = TD_EVENT_FINISHED;
        event.finish = r->finish;
        event.stop = r->finish == TD_FINISH_STOP ? stopped(r) : -1;
        bool nan = contains(r, "FAULT:NAN");
        event.status = r->finish == TD_FINISH_ERROR ? nan ? TD_E_FORMAT : TD_E_PEER : TD_OK;
        event.message = r->finish == TD_FINISH_ERROR ? nan ? "tensor fake: expected numbers, found NaN" : "worker fake:1 is gone and nobody has its experts" : "";
        event.prompt_ms = 1;
        event.decode_ms = (double)r->made_count;
    } else {
        status = TD_E_TIMEOUT;
    }
    event.generated_tokens = (int64_t)r->read;
    if (status == TD_OK) *out = event;
    pthread_mutex_unlock(&r->engine->lock);
    return status;
}

void td_request_cancel(td_request *r)
{
    pthread_mutex_lock(&r->engine->lock);
    r->cancelled = true;
    pthread_mutex_unlock(&r->engine->lock);
}

void td_request_free(td_request *r)
{
    if (!r) return;
    td_engine *e = r->engine;
    pthread_mutex_lock(&e->lock);
    r->cancelled = true;
    while (!r->finished) pthread_cond_wait(&e->wake, &e->lock);
    td_request **link = &e->first;
    while (*link != r) link = &(*link)->next;
    *link = r->next;
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < r->o.stop_count; i++) free(r->stop[i]);
    free(r->prompt);
    free(r->made);
    free(r->say);
    free(r);
}
