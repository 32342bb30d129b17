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

/* What the token adds to the text; special tokens are not part of it. */
static size_t plain_bytes(const td_choice *c, int32_t id, unsigned flags)
{
    char *text;
    size_t bytes;
    if (td_detokenize(c->exchange->server->model, &id, 1, flags, &text, &bytes) < 0) return 0;
    td_free(text);
    return bytes;
}

static void put_token(td_choice *c, int32_t id, const float *logprob, const td_logprob *top, int top_count)
{
    const td_server *server = c->exchange->server;
    const char *comma = c->lp[TOKENS].bytes ? "," : "";
    size_t bytes = 0;
    char *text = td_token_text(server, id, &bytes);
    td_buffer_text(&c->lp[TOKENS], comma);
    td_buffer_json(&c->lp[TOKENS], text ? text : "", bytes);
    td_free(text);
    td_buffer_format(&c->lp[OFFSETS], "%s%zu", comma, c->text_offset);
    c->text_offset += plain_bytes(c, id, c->text_begun ? TD_TOKENIZE_INSIDE : 0);
    c->text_begun |= plain_bytes(c, id, TD_TOKENIZE_INSIDE) > 0;
    if (!logprob) {
        td_buffer_format(&c->lp[LOGPROBS], "%snull", comma);
        td_buffer_format(&c->lp[TOPS], "%snull", comma);
        return;
    }
    td_buffer_format(&c->lp[LOGPROBS], "%s%.6f", comma, *logprob < -9999 ? -9999.0 : (double)*logprob);
    td_buffer_format(&c->lp[TOPS], "%s{", comma);
    for (int i = 0; i < top_count && i < c->exchange->ask.top_logprobs; i++) {
        text = td_token_text(server, top[i].token, &bytes);
        td_buffer_text(&c->lp[TOPS], i ? "," : "");
        td_buffer_json(&c->lp[TOPS], text ? text : "", text ? bytes : 0);
        td_buffer_format(&c->lp[TOPS], ":%.6f", top[i].logprob < -9999 ? -9999.0 : (double)top[i].logprob);
        td_free(text);
    }
    td_buffer_text(&c->lp[TOPS], "}");
}

static void token(td_choice *c, const td_event *e)
{
    const td_ask *ask = &c->exchange->ask;
    if (ask->return_tokens && !e->from_prompt) td_buffer_format(&c->tokens_json, "%s%d", c->tokens_json.bytes ? "," : "", e->token);
    if (!ask->logprobs) return;
    if (ask->echo && !c->wrote_first) put_token(c, c->prompt->tokens[0], NULL, NULL, 0); /* nothing comes before it */
    c->wrote_first = true;
    if (!e->from_prompt && e->generated_tokens == 1) c->text_begun = plain_bytes(c, c->prompt->tokens[c->prompt->count - 1], TD_TOKENIZE_INSIDE) > 0; /* as the engine has it */
    put_token(c, e->token, &e->logprob, e->top, e->top_count);
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

static void fault(td_exchange *x, const char *message)
{
    td_buffer_text(&x->out, "data: ");
    td_serve_error_body(x, 500, "generation_failed", NULL, message, &x->out);
    td_buffer_text(&x->out, "\n\n");
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
                                       .end_choice = end_choice, .close = close_stream, .fault = fault, .whole = whole};
