/* completions.c - POST /v1/completions: text, token ids, batches of prompts, echo, log-probabilities of prompt and completion. */
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "serve/serve.h"

enum { TOKENS, LOGPROBS, TOPS, OFFSETS };

static td_status prepare(td_exchange *x)
{
    td_ask *ask = &x->ask;
    ask->temperature = ask->top_p = 1;
    ask->max_tokens = 16;
    TD_TRY(td_fields_read(x, &td_completions_fields));
    if (ask->max_tokens == 0) ask->max_tokens = -1; /* none: score the prompt */
    if (!ask->seed_given) randombytes_buf(&ask->seed, sizeof ask->seed);
    TD_TRY(td_prompts_from_field(x, ask->prompt, "prompt"));
    return td_choices_make(x);
}

/* ---- log-probabilities: four parallel arrays ------------------------------------------------------------------------------------------------------ */

static bool adds_text(const td_choice *c, int32_t id)
{
    char *text;
    size_t bytes;
    if (td_detokenize(c->exchange->server->model, &id, 1, TD_TOKENIZE_INSIDE, &text, &bytes) < 0) return false;
    td_free(text);
    return bytes > 0;
}

static size_t characters(const char *text, size_t bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) count += (text[i] & 0xC0) != 0x80;
    return count;
}

/* Goes on in the text by the tokens in `broken`. While these end inside a character, whose text is then U+FFFD, they wait for the tokens that complete it, and it counts once; unless
 * `settled`: none will come. special: special tokens are part of the text, too. */
static void advance(td_choice *c, bool special, bool settled)
{
    static const char unknown[] = "\xEF\xBF\xBD";
    unsigned flags = (c->text_begun ? TD_TOKENIZE_INSIDE : 0) | (special ? TD_TOKENIZE_SPECIAL : 0);
    char *text = NULL;
    size_t bytes = 0, whole;
    if (td_detokenize(c->exchange->server->model, c->broken, (size_t)c->broken_count, flags, &text, &bytes) < 0) settled = true;
    for (whole = bytes; whole >= 3 && !memcmp(text + whole - 3, unknown, 3); whole -= 3) {}
    bool waits = whole < bytes && c->broken_count < TD_BROKEN_MAX && !settled;
    c->text_offset = c->text_from + (waits ? characters(text, whole) + 1 : characters(text, bytes));
    td_free(text);
    if (waits) return;
    for (int i = 0; i < c->broken_count; i++) c->text_begun |= adds_text(c, c->broken[i]);
    c->text_from = c->text_offset;
    c->broken_count = 0;
}

static void put_top(td_choice *c, const char *comma, int32_t id, float logprob)
{
    td_buffer *out = &c->lp[TOPS];
    size_t bytes = 0;
    char *text = td_token_text(c->exchange->server, id, &bytes);
    td_buffer_text(out, comma);
    td_buffer_json(out, text ? text : "", text ? bytes : 0);
    td_buffer_format(out, ":%.6f", logprob < -9999 ? -9999.0 : (double)logprob);
    td_free(text);
}

static void put_token(td_choice *c, int32_t id, bool special, const float *logprob, const td_logprob *top, int top_count)
{
    const td_server *server = c->exchange->server;
    const char *comma = c->lp[TOKENS].bytes ? "," : "";
    size_t bytes = 0;
    bool told = false;
    char *text = td_token_text(server, id, &bytes);
    td_buffer_text(&c->lp[TOKENS], comma);
    td_buffer_json(&c->lp[TOKENS], text ? text : "", bytes);
    td_free(text);
    td_buffer_format(&c->lp[OFFSETS], "%s%zu", comma, c->text_offset);
    c->broken[c->broken_count++] = id;
    advance(c, special, false);
    if (!logprob) {
        td_buffer_format(&c->lp[LOGPROBS], "%snull", comma);
        td_buffer_format(&c->lp[TOPS], "%snull", comma);
        return;
    }
    td_buffer_format(&c->lp[LOGPROBS], "%s%.6f", comma, *logprob < -9999 ? -9999.0 : (double)*logprob);
    td_buffer_format(&c->lp[TOPS], "%s{", comma);
    for (int i = 0; i < top_count && i < c->exchange->ask.top_logprobs; i++) {
        told |= top[i].token == id;
        put_top(c, i ? "," : "", top[i].token, top[i].logprob);
    }
    if (!told) put_top(c, top_count && c->exchange->ask.top_logprobs ? "," : "", id, *logprob); /* the token itself is always there: up to logprobs + 1 */
    td_buffer_text(&c->lp[TOPS], "}");
}

/* The prompt was given as text that begins with this token's: it is no BOS that the tokenizer added. */
static bool begins_with(const td_choice *c, int32_t id)
{
    size_t bytes = 0;
    char *text = td_token_text(c->exchange->server, id, &bytes);
    bool begins = text && c->prompt->text && bytes <= c->prompt->text_bytes && !memcmp(text, c->prompt->text, bytes);
    td_free(text);
    return begins;
}

static void token(td_choice *c, const td_event *e)
{
    const td_ask *ask = &c->exchange->ask;
    if (ask->return_tokens && !e->from_prompt) td_buffer_format(&c->tokens_json, "%s%d", c->tokens_json.bytes ? "," : "", e->token);
    if (!ask->logprobs) return;
    if (ask->echo && !c->wrote_first) put_token(c, c->prompt->tokens[0], begins_with(c, c->prompt->tokens[0]), NULL, NULL, 0); /* nothing comes before it */
    c->wrote_first = true;
    if (!e->from_prompt && e->generated_tokens == 1) { /* as the engine has it: its text begins anew */
        advance(c, false, true);
        c->text_begun = adds_text(c, c->prompt->tokens[c->prompt->count - 1]);
    }
    put_token(c, e->token, e->from_prompt && c->prompt->text, &e->logprob, e->top, e->top_count);
}

static void put_logprobs(td_choice *c, td_buffer *out)
{
    static const char *const names[] = {"\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[", "],\"text_offset\":["};
    if (c->exchange->ask.logprobs) {
        td_buffer_text(out, "{");
        for (int i = 0; i < 4; i++) {
            td_buffer_text(out, names[i]);
            td_buffer_put(out, c->lp[i].data, c->lp[i].bytes);
            td_buffer_clear(&c->lp[i]);
        }
        td_buffer_text(out, "]}");
    } else {
        td_buffer_text(out, "null");
    }
    if (c->tokens_json.bytes) {
        td_buffer_text(out, ",\"tokens\":[");
        td_buffer_put(out, c->tokens_json.data, c->tokens_json.bytes);
        td_buffer_text(out, "]");
        td_buffer_clear(&c->tokens_json);
    }
}

/* The prompt as text, for echo. */
static void put_prompt(const td_choice *c, td_buffer *text)
{
    char *decoded = NULL;
    size_t bytes = 0;
    if (c->prompt->text) td_buffer_put(text, c->prompt->text, c->prompt->text_bytes);
    else if (td_detokenize(c->exchange->server->model, c->prompt->tokens, c->prompt->count, 0, &decoded, &bytes) == TD_OK) {
        td_buffer_put(text, decoded, bytes);
        td_free(decoded);
    }
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_head(td_exchange *x)
{
    td_buffer_format(&x->out, "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", x->id, (long long)x->created_s);
    td_body_text(&x->out, x->server->name);
    td_buffer_format(&x->out, ",\"system_fingerprint\":\"fp_%016llx\",", (unsigned long long)x->server->info->fingerprint);
}

static void put_choice(td_choice *c, const char *text, size_t bytes, const char *reason)
{
    td_buffer *out = &c->exchange->out;
    td_buffer_text(out, "{\"text\":");
    td_buffer_json(out, text, bytes);
    td_buffer_format(out, ",\"index\":%d,\"logprobs\":", c->index);
    put_logprobs(c, out);
    if (reason) td_buffer_format(out, ",\"finish_reason\":\"%s\"}", reason);
    else td_buffer_text(out, ",\"finish_reason\":null}");
}

static void chunk(td_choice *c, const char *text, size_t bytes, const char *reason)
{
    td_exchange *x = c->exchange;
    td_buffer_text(&x->out, "data: ");
    put_head(x);
    td_buffer_text(&x->out, "\"choices\":[");
    put_choice(c, text, bytes, reason);
    td_buffer_text(&x->out, "]");
    if (x->ask.include_usage) td_buffer_text(&x->out, ",\"usage\":null");
    if (reason || x->ask.timings_per_token) {
        td_buffer_text(&x->out, ",\"timings\":");
        td_choice_timings(c, &x->out);
    }
    td_buffer_text(&x->out, "}\n\n");
}

static void open(td_exchange *x)
{
    if (!x->ask.echo) return;
    for (int i = 0; i < x->choice_count; i++) {
        td_buffer text = {0};
        put_prompt(&x->choices[i], &text);
        chunk(&x->choices[i], text.data ? text.data : "", text.bytes, NULL);
        td_buffer_free(&text);
    }
}

static void piece(td_choice *c, const td_piece *p) { chunk(c, p->text, p->bytes, NULL); }
static void end_choice(td_choice *c) { chunk(c, "", 0, td_choice_reason(c)); }

static void close_stream(td_exchange *x)
{
    if (x->ask.include_usage) {
        td_buffer_text(&x->out, "data: ");
        put_head(x);
        td_buffer_text(&x->out, "\"choices\":[],\"usage\":");
        td_generate_usage(x, &x->out);
        td_buffer_text(&x->out, "}\n\n");
    }
    td_buffer_text(&x->out, "data: [DONE]\n\n");
}

static void progress(td_choice *c, const td_event *e)
{
    td_exchange *x = c->exchange;
    td_buffer_text(&x->out, "data: ");
    put_head(x);
    td_buffer_format(&x->out, "\"choices\":[{\"text\":\"\",\"index\":%d,\"logprobs\":null,\"finish_reason\":null}],\"prompt_progress\":{\"total\":%lld,\"cache\":%lld,\"processed\":%lld,\"time_ms\":%.1f}}\n\n",
                     c->index, (long long)e->total, (long long)e->cached_tokens, (long long)e->done, (double)(td_now_ns() - c->admitted_ns) * 1e-6);
}

static void whole(td_exchange *x)
{
    put_head(x);
    td_buffer_text(&x->out, "\"choices\":[");
    for (int i = 0; i < x->choice_count; i++) {
        td_choice *c = &x->choices[i];
        td_buffer text = {0};
        if (x->ask.echo) put_prompt(c, &text);
        td_buffer_put(&text, c->content.data, c->content.bytes);
        if (i) td_buffer_text(&x->out, ",");
        put_choice(c, text.data ? text.data : "", text.bytes, td_choice_reason(c));
        td_buffer_free(&text);
    }
    td_buffer_text(&x->out, "],\"usage\":");
    td_generate_usage(x, &x->out);
    td_buffer_text(&x->out, ",\"timings\":");
    td_choice_timings(&x->choices[0], &x->out);
    td_buffer_text(&x->out, "}");
}

const td_shape td_completions_shape = {.name = "completions", .id_prefix = "cmpl-", .prepare = prepare, .open = open, .piece = piece, .token = token, .progress = progress,
                                       .end_choice = end_choice, .close = close_stream, .fault = td_fault_event, .whole = whole};
