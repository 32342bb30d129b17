/*
 * test_requests.c - what a request may ask for and how it ends: sampling, penalties, log-probabilities, end tokens, stop strings, refusals, cancelling, the local fallback,
 * hooks. That its bytes are always the same: test_engine.c.
 */
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/sampler.h"
#include "engine_support.h"

/* ---- requests ------------------------------------------------------------------------------------------------------------------------ */

static void sampling_is_reproducible_and_follows_its_options(void **state)
{
    (void)state;
    td_model *model = open_reference("llama");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *engine = open_engine(model, (td_engine_options){0});
    int32_t ids[16];
    random_ids(ids, 16, vocab, 3);
    td_request_options options = {.tokens = ids, .tokens_count = 16, .max_tokens = 100, .ignore_eos = true, .temperature = 1.5f, .seed = 42};
    outcome a = generate(engine, options), b = generate(engine, options);
    assert_memory_equal(a.tokens, b.tokens, 100 * sizeof(int32_t));
    options.seed = 43;
    outcome c = generate(engine, options);
    assert_memory_not_equal(a.tokens, c.tokens, 100 * sizeof(int32_t));
    td_request_options greedy = {.tokens = ids, .tokens_count = 16, .max_tokens = 100, .ignore_eos = true};
    outcome best = generate(engine, greedy);
    options.top_k = 1;
    assert_memory_equal(generate(engine, options).tokens, best.tokens, 100 * sizeof(int32_t));
    options.top_k = 0;
    options.top_p = 1e-6f;
    assert_memory_equal(generate(engine, options).tokens, best.tokens, 100 * sizeof(int32_t));
    options.top_p = 0;
    options.min_p = 1.0f;
    assert_memory_equal(generate(engine, options).tokens, best.tokens, 100 * sizeof(int32_t));
    td_logit_bias only = {.token = 9, .bias = 1e6f};
    greedy.logit_bias = &only;
    greedy.logit_bias_count = 1;
    outcome biased = generate(engine, greedy);
    for (size_t i = 0; i < biased.count; i++) assert_int_equal(biased.tokens[i], 9);
    greedy.logit_bias_count = 0;
    greedy.presence_penalty = 100.0f; /* no token twice while the vocabulary lasts */
    greedy.max_tokens = 40;
    outcome distinct = generate(engine, greedy);
    for (size_t i = 0; i < distinct.count; i++)
        for (size_t j = 0; j < i; j++) assert_int_not_equal(distinct.tokens[i], distinct.tokens[j]);
    td_engine_close(engine);
    td_model_close(model);
}

/* The penalties as they are defined: each token looks back over the whole window. */
static void penalise_plainly(const td_request_options *o, const int32_t *tokens, int64_t prompt_count, int64_t count, float *logits)
{
    int64_t window = o->penalty_window == 0 ? 64 : o->penalty_window < 0 ? count : o->penalty_window, first = count > window ? count - window : 0;
    for (int64_t i = first; i < count && o->repetition_penalty != 0 && o->repetition_penalty != 1; i++) {
        bool seen = false;
        for (int64_t j = first; j < i; j++) seen |= tokens[j] == tokens[i];
        if (!seen) logits[tokens[i]] = logits[tokens[i]] > 0 ? logits[tokens[i]] / o->repetition_penalty : logits[tokens[i]] * o->repetition_penalty;
    }
    for (int64_t i = prompt_count; i < count && (o->presence_penalty != 0 || o->frequency_penalty != 0); i++) {
        bool seen = false;
        for (int64_t j = prompt_count; j < i; j++) seen |= tokens[j] == tokens[i];
        logits[tokens[i]] -= o->frequency_penalty + (seen ? 0.0f : o->presence_penalty);
    }
}

static void penalties_are_those_of_their_definition(void **state)
{
    (void)state;
    enum { VOCAB = 96, TOKENS_MAX = 300, ROUNDS = 400 };
    static td_candidate candidates[VOCAB];
    td_sampler sampler = {.vocab = VOCAB, .candidates = candidates};
    assert_ok(td_kernel_pick("ref", &sampler.kernel));
    memset(candidates, 0xFF, sizeof candidates);
    td_random dice = {.seed = seed + 12};
    for (int round = 0; round < ROUNDS; round++) {
        int32_t tokens[TOKENS_MAX];
        float logits[VOCAB], plain[VOCAB];
        int64_t count = 1 + (int64_t)(td_random_next_unit(&dice) * (TOKENS_MAX - 1)), prompt = (int64_t)(td_random_next_unit(&dice) * (double)count);
        int distinct = 1 + (int)(td_random_next_unit(&dice) * (VOCAB - 1));
        for (int64_t i = 0; i < count; i++) tokens[i] = (int32_t)(td_random_next_unit(&dice) * distinct);
        for (int i = 0; i < VOCAB; i++) plain[i] = logits[i] = (float)(td_random_next_unit(&dice) * 20 - 10);
        td_request_options o = {.penalty_window = round % 3 == 0 ? -1 : round % 3 == 1 ? 0 : 1 + (int)(td_random_next_unit(&dice) * TOKENS_MAX), .temperature = round % 2 ? 0.7f : 0.0f}; /* sampling leaves the marks in any state */
        if (round % 4) o.repetition_penalty = 0.5f + (float)td_random_next_unit(&dice);
        if (round % 5) o.presence_penalty = (float)td_random_next_unit(&dice) - 0.5f;
        if (round % 7) o.frequency_penalty = (float)td_random_next_unit(&dice) - 0.5f;
        td_sample(&sampler, &o, tokens, prompt, count, logits);
        penalise_plainly(&o, tokens, prompt, count, plain);
        assert_memory_equal(logits, plain, sizeof plain);
    }
}

static void logprobs_are_those_of_the_logits(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *engine = open_engine(model, (td_engine_options){0});
    enum { PROMPT = 30, NEW = 10 };
    int32_t ids[PROMPT + NEW];
    random_ids(ids, PROMPT, vocab, 9);
    td_request_options options = {.tokens = ids, .tokens_count = PROMPT, .max_tokens = NEW, .ignore_eos = true, .logprobs = 3, .prompt_logprobs = true};
    td_request *request;
    td_event event;
    struct { int32_t token; float logprob; td_logprob top[3]; bool prompt; } seen[PROMPT + NEW];
    int count = 0;
    assert_ok(td_request_submit(engine, &options, &request));
    while (td_request_next(request, 60000, &event) == TD_OK && event.kind != TD_EVENT_FINISHED) {
        if (event.kind != TD_EVENT_TOKEN) continue;
        assert_int_equal(event.top_count, 3);
        seen[count].token = event.token;
        seen[count].logprob = event.logprob;
        seen[count].prompt = event.from_prompt;
        memcpy(seen[count++].top, event.top, sizeof seen[0].top);
    }
    td_request_free(request);
    assert_int_equal(count, PROMPT - 1 + NEW);
    for (int i = 0; i < NEW; i++) ids[PROMPT + i] = seen[PROMPT - 1 + i].token;
    float *logits = malloc((PROMPT + NEW) * (size_t)vocab * sizeof *logits);
    assert_ok(td_engine_logits(engine, ids, PROMPT + NEW - 1, logits));
    for (int i = 0; i < count; i++) {
        assert_int_equal(seen[i].prompt, i < PROMPT - 1);
        assert_int_equal(seen[i].token, ids[i + 1]);
        const float *row = logits + (size_t)i * (size_t)vocab;
        double sum = 0, best = -1e30;
        for (int v = 0; v < vocab; v++) sum += exp((double)row[v]);
        for (int v = 0; v < vocab; v++) best = fmax(best, (double)row[v]);
        assert_true(fabs((double)row[ids[i + 1]] - log(sum) - (double)seen[i].logprob) < 1e-4);
        assert_true(fabs(best - log(sum) - (double)seen[i].top[0].logprob) < 1e-4);
        assert_true(seen[i].top[0].logprob >= seen[i].top[1].logprob && seen[i].top[1].logprob >= seen[i].top[2].logprob);
    }
    free(logits);
    td_engine_close(engine);
    td_model_close(model);
}

enum { ORDINARY = 300 };

/* The shipped model, but an ordinary token ends its generations, too. *folder is to be given to forget_folder. */
static td_model *open_with_an_ordinary_end(char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char from[200], to[300];
    td_model *model;
    strcpy(folder, "/tmp/tandem-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "models/nano/%s", files[i]);
        char *whole = realpath(source_path(from), NULL);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        assert_int_equal(symlink(whole, to), 0);
        free(whole);
    }
    snprintf(to, sizeof to, "%s/generation_config.json", folder);
    FILE *file = fopen(to, "w");
    assert_non_null(file);
    fprintf(file, "{\"eos_token_id\": [1, %d]}", ORDINARY);
    fclose(file);
    assert_ok(td_model_open(folder, NULL, &model));
    return model;
}

static void forget_folder(const char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"};
    char path[300];
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

typedef struct { td_request *_Atomic request; atomic_bool over; char text[256]; td_event end; } listener;

static void add_text(listener *r, const td_event *event)
{
    assert_true(strlen(r->text) + event->text_bytes < sizeof r->text);
    strncat(r->text, event->text, event->text_bytes);
    r->end = *event;
}

/* A reader that is told of a record has it before the decoding thread goes on. */
static void read_at_once(void *user)
{
    listener *r = user;
    td_event event = {0};
    while (!r->request) {} /* submit returns any moment now */
    while (td_request_next(r->request, 0, &event) == TD_OK) {
        add_text(r, &event);
        if (event.kind == TD_EVENT_FINISHED) break;
    }
    if (event.kind == TD_EVENT_FINISHED) r->over = true;
}

/* The text of a request that is read as early as possible, or only when it is over. */
static listener read_request(td_engine *engine, td_request_options options, bool early)
{
    listener r = {.text = ""};
    td_request *request;
    td_engine_stats stats;
    td_engine_get_stats(engine, &stats);
    uint64_t before = stats.requests_finished;
    if (early) options.notify = read_at_once, options.notify_user = &r;
    assert_ok(td_request_submit(engine, &options, &request));
    r.request = request;
    while (early ? !r.over : stats.requests_finished == before) usleep(100), td_engine_get_stats(engine, &stats);
    td_event event = {0};
    while (!early && event.kind != TD_EVENT_FINISHED) {
        assert_ok(td_request_next(request, 60000, &event));
        add_text(&r, &event);
    }
    td_request_free(request);
    return r;
}

static void the_text_of_an_end_does_not_depend_on_when_it_is_read(void **state)
{
    (void)state;
    char folder[64], *spelt;
    size_t bytes;
    td_model *model = open_with_an_ordinary_end(folder);
    td_engine *engine = open_engine(model, (td_engine_options){0});
    assert_ok(td_detokenize(model, &(int32_t){ORDINARY}, 1, TD_TOKENIZE_SPECIAL, &spelt, &bytes));
    assert_true(bytes > 0);
    td_logit_bias only = {.token = ORDINARY, .bias = 1e6f};
    td_request_options options = {.text = "Once", .text_bytes = 4, .max_tokens = 2, .logit_bias = &only, .logit_bias_count = 1};
    for (int early = 0; early < 2; early++) {
        options.keep_special = options.ignore_eos = false;
        listener plain = read_request(engine, options, early);
        assert_int_equal(plain.end.finish, TD_FINISH_EOS);
        assert_string_equal(plain.text, "");
        options.keep_special = true;
        listener kept = read_request(engine, options, early);
        assert_int_equal(kept.end.finish, TD_FINISH_EOS);
        assert_string_equal(kept.text, spelt);
        options.keep_special = false;
        options.ignore_eos = true;
        listener ignored = read_request(engine, options, early);
        assert_int_equal(ignored.end.finish, TD_FINISH_LENGTH);
        assert_int_equal(strlen(ignored.text), 2 * bytes);
    }
    td_free(spelt);
    td_engine_close(engine);
    td_model_close(model);
    forget_folder(folder);
}

static bool until_twelve(void *user, const int32_t *tokens, size_t count, float *logits, int vocab_size)
{
    (void)user, (void)tokens, (void)logits, (void)vocab_size;
    return count < 12;
}

/* What may be the beginning of a stop string is held back, but not lost when a grammar or the length ends the request. */
static void held_back_text_comes_when_no_stop_string_did(void **state)
{
    (void)state;
    td_model *model;
    assert_ok(td_model_open(source_path("models/nano"), NULL, &model));
    td_engine *engine = open_engine(model, (td_engine_options){0});
    char stop[16];
    const char *stops[1] = {stop};
    td_request_options options = {.text = "Once upon a time", .text_bytes = 16, .max_tokens = 12, .ignore_eos = true};
    listener plain = read_request(engine, options, false);
    size_t length = strlen(plain.text);
    assert_int_equal(plain.end.finish, TD_FINISH_LENGTH);
    assert_true(length > 8);
    snprintf(stop, sizeof stop, "%s\x01", plain.text + length - 1);
    options.stop = stops;
    options.stop_count = 1;
    listener cut = read_request(engine, options, false);
    assert_int_equal(cut.end.finish, TD_FINISH_LENGTH);
    assert_string_equal(cut.text, plain.text);
    options.logits_fn = until_twelve;
    options.max_tokens = 40;
    listener ended = read_request(engine, options, false);
    assert_int_equal(ended.end.finish, TD_FINISH_STOP);
    assert_int_equal(ended.end.stop, -1);
    assert_string_equal(ended.text, plain.text);
    snprintf(stop, sizeof stop, "%.3s", plain.text + length - 5);
    listener stopped = read_request(engine, options, false);
    assert_int_equal(stopped.end.finish, TD_FINISH_STOP);
    assert_int_equal(stopped.end.stop, 0);
    assert_int_equal(strlen(stopped.text), strstr(plain.text, stop) - plain.text);
    assert_memory_equal(stopped.text, plain.text, strlen(stopped.text));
    td_engine_close(engine);
    td_model_close(model);
}

static void wrong_requests_are_refused_in_a_sentence(void **state)
{
    (void)state;
    td_model *model = open_reference("llama");
    int32_t ids[600] = {1, 2, 3};
    td_engine *engine = open_engine(model, (td_engine_options){.context_max = 64});
    td_request *request = NULL;
    const td_request_options good = {.tokens = ids, .tokens_count = 3, .max_tokens = 4};
    struct { td_request_options options; const char *word; } bad[16];
    int count = 0;
#define BAD(text, ...) do { td_request_options o = good; __VA_ARGS__; bad[count].options = o; bad[count++].word = text; } while (0)
    int32_t negative[1] = {-1}, high[1] = {100000};
    td_logit_bias wrong = {.token = 100000, .bias = 1};
    BAD("temperature", o.temperature = -1);
    BAD("temperature", o.temperature = NAN);
    BAD("top_p", o.top_p = 1.5f);
    BAD("min_p", o.min_p = -0.1f);
    BAD("top_k", o.top_k = -3);
    BAD("max_tokens", o.max_tokens = -7);
    BAD("prompt", o.tokens_count = 0);
    BAD("prompt token 0", o.tokens = negative; o.tokens_count = 1);
    BAD("prompt token 0", o.tokens = high; o.tokens_count = 1);
    BAD("context", o.tokens_count = 65);
    BAD("logit_bias", o.logit_bias = &wrong; o.logit_bias_count = 1);
    BAD("logprobs", o.logprobs = 1000);
    BAD("prompt_logprobs", o.prompt_logprobs = true);
#undef BAD
    for (int i = 0; i < count; i++) {
        assert_int_equal(td_request_submit(engine, &bad[i].options, &request), TD_E_INVALID);
        assert_null(request);
        if (!strstr(td_error(), bad[i].word)) fail_msg("'%s' lacks '%s'", td_error(), bad[i].word);
    }
    td_request_options full = good;
    full.max_tokens = 0;
    full.ignore_eos = true;
    outcome o = generate(engine, full);
    assert_int_equal(o.end.finish, TD_FINISH_CONTEXT);
    assert_int_equal(o.count, 61);
    td_engine_close(engine);
    td_model_close(model);
}

static void cancel_queue_and_close_end_every_request_once(void **state)
{
    (void)state;
    td_model *model = open_reference("llama");
    int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    td_engine *engine = open_engine(model, (td_engine_options){.requests_max = 2, .queue_max = 3, .context_max = 512});
    td_request_options options = {.tokens = ids, .tokens_count = 8, .ignore_eos = true, .max_tokens = 400};
    td_request *requests[16];
    int count = 0;
    td_status status = TD_OK;
    while (count < 16 && (status = td_request_submit(engine, &options, &requests[count])) == TD_OK) count++;
    assert_int_equal(status, TD_E_FULL);
    assert_true(count >= 5);
    td_request_cancel(requests[0]);
    assert_int_equal(finish_request(requests[0]).end.finish, TD_FINISH_CANCELLED);
    td_event event;
    assert_ok(td_request_next(requests[1], 60000, &event));
    td_request_free(requests[1]); /* while it runs */
    td_request_options late = options;
    late.time_max_ms = 1;
    late.max_tokens = 0;
    td_request *timed;
    assert_ok(td_request_submit(engine, &late, &timed));
    assert_int_equal(finish_request(timed).end.finish, TD_FINISH_TIME);
    for (int i = 2; i < count; i++) {
        outcome o = finish_request(requests[i]);
        assert_int_equal(o.end.finish, TD_FINISH_LENGTH);
        assert_int_equal(o.count, 400);
    }
    td_request *left;
    assert_ok(td_request_submit(engine, &options, &left));
    td_engine_close(engine); /* the request outlives nothing: its events stay readable */
    do assert_ok(td_request_next(left, 0, &event));
    while (event.kind != TD_EVENT_FINISHED);
    assert_true(event.finish == TD_FINISH_CANCELLED || event.finish == TD_FINISH_LENGTH);
    td_request_free(left);
    td_model_close(model);
}

/* ---- workers ------------------------------------------------------------------------------------------------------------------------- */

/* Weights that happen to be here compute for absent workers only when the options say so. */
static void the_fallback_is_there_when_it_is_asked_for(void **state)
{
    (void)state;
    char secret[] = "/tmp/tandem-test-XXXXXX";
    int fd = mkstemp(secret);
    assert_true(fd >= 0 && write(fd, "0123456789abcdef", 16) == 16);
    close(fd);
    td_model *whole = open_reference("qwen3_moe"), *half;
    char path[256];
    snprintf(path, sizeof path, "%s", source_path("tests/data/reference/qwen3_moe"));
    assert_ok(td_model_open(path, &(td_model_options){.attention_only = true}, &half));
    td_engine *engine = NULL;
    td_engine_options options = {.threads = 1, .context_max = 128, .ffn = "127.0.0.1:9", .secret_file = secret, .wait_for_workers_ms = 100}; /* nobody is there */
    assert_int_equal(td_engine_open(whole, &options, &engine), TD_E_PEER);
    options.ffn_fallback = true;
    assert_int_equal(td_engine_open(half, &options, &engine), TD_E_INVALID);
    assert_non_null(strstr(td_error(), "ffn_fallback"));
    assert_null(engine);
    assert_ok(td_engine_open(whole, &options, &engine));
    int32_t ids[20];
    random_ids(ids, 20, td_model_get_info(whole)->vocab_size, 30);
    td_request_options ask = {.tokens = ids, .tokens_count = 20, .max_tokens = 10, .ignore_eos = true};
    outcome away = generate(engine, ask);
    td_engine_close(engine);
    options.ffn = NULL;
    assert_ok(td_engine_open(whole, &options, &engine));
    outcome here = generate(engine, ask);
    assert_int_equal(away.end.finish, TD_FINISH_LENGTH);
    assert_memory_equal(away.tokens, here.tokens, 10 * sizeof(int32_t));
    td_engine_close(engine);
    td_model_close(half);
    td_model_close(whole);
    unlink(secret);
}

/* ---- hooks --------------------------------------------------------------------------------------------------------------------------- */

typedef struct { unsigned seen; int64_t rows; int layer; float add; } probe;

static void probe_hook(void *user, td_point point, int layer, int64_t position, int rows, int width, float *data)
{
    probe *p = user;
    (void)position;
    p->seen |= 1u << point;
    p->rows += rows;
    if (p->add != 0 && layer == p->layer && point == TD_POINT_RESID_OUT)
        for (int64_t i = 0; i < (int64_t)rows * width; i++) data[i] += p->add;
}

static void hooks_see_every_point_and_steer_only_their_request(void **state)
{
    (void)state;
    td_model *model = open_reference("step3");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *engine = open_engine(model, (td_engine_options){.micro_batches = 2, .prefill_chunk = 16});
    int32_t ids[40];
    random_ids(ids, 40, vocab, 11);
    td_request_options options = {.tokens = ids, .tokens_count = 40, .max_tokens = 30, .ignore_eos = true};
    outcome plain = generate(engine, options);
    probe look = {0}, steer = {.layer = 1, .add = 3.0f};
    options.hook = probe_hook;
    options.hook_points = (1u << TD_POINTS) - 1;
    options.hook_user = &look;
    outcome watched = generate(engine, options);
    assert_memory_equal(watched.tokens, plain.tokens, 30 * sizeof(int32_t));
    assert_int_equal(look.seen, (1u << TD_POINTS) - 1);
    options.hook_user = &steer;
    td_request *steered, *beside;
    td_request_options no_hook = options;
    no_hook.hook = NULL;
    assert_ok(td_request_submit(engine, &options, &steered));
    assert_ok(td_request_submit(engine, &no_hook, &beside));
    outcome changed = finish_request(steered), same = finish_request(beside);
    assert_memory_not_equal(changed.tokens, plain.tokens, 30 * sizeof(int32_t));
    assert_memory_equal(same.tokens, plain.tokens, 30 * sizeof(int32_t));
    td_engine_close(engine);
    td_model_close(model);
}
int main(void)
{
    take_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_is_reproducible_and_follows_its_options),
        cmocka_unit_test(penalties_are_those_of_their_definition),
        cmocka_unit_test(logprobs_are_those_of_the_logits),
        cmocka_unit_test(the_text_of_an_end_does_not_depend_on_when_it_is_read),
        cmocka_unit_test(held_back_text_comes_when_no_stop_string_did),
        cmocka_unit_test(wrong_requests_are_refused_in_a_sentence),
        cmocka_unit_test(cancel_queue_and_close_end_every_request_once),
        cmocka_unit_test(the_fallback_is_there_when_it_is_asked_for),
        cmocka_unit_test(hooks_see_every_point_and_steer_only_their_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
