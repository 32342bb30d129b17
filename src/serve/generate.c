/*
 * generate.c - from a choice to engine options, and from engine events to pieces of an answer. Events are taken only while the answer's buffer is small,
 * so a slow reader costs its own buffer and the engine's bounded record of its own request.
 */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/utf8.h"
#include "serve/serve.h"

static const td_piece no_text = {.kind = TD_PIECE_CONTENT, .text = "", .bytes = 0};

/* ---- options ------------------------------------------------------------------------------------------------------------------------------ */

static int64_t tokens_wanted(const td_ask *ask)
{
    if (ask->max_completion_tokens) return ask->max_completion_tokens;
    return ask->max_tokens;
}

static int64_t time_limit_ms(const td_exchange *x)
{
    int64_t server_ms = (int64_t)x->server->options.request_s_max * 1000;
    return x->ask.time_max_ms ? TD_MIN(x->ask.time_max_ms, server_ms) : server_ms;
}

void td_choice_options(td_choice *c, td_request_options *o, const char *const *stops)
{
    td_exchange *x = c->exchange;
    const td_ask *ask = &x->ask;
    *o = (td_request_options){.tokens = c->prompt->tokens, .tokens_count = c->prompt->count, .max_tokens = tokens_wanted(ask), .ignore_eos = ask->ignore_eos,
        .stop = stops, .stop_count = (size_t)ask->stop_count, .logit_bias = ask->bias, .logit_bias_count = (size_t)ask->bias_count,
        .repetition_penalty = (float)ask->repetition_penalty, .presence_penalty = (float)ask->presence_penalty, .frequency_penalty = (float)ask->frequency_penalty,
        .penalty_window = (int)ask->penalty_window, .temperature = (float)ask->temperature, .top_k = (int)ask->top_k,
        .top_p = ask->top_p >= 1 ? 0 : TD_MAX((float)ask->top_p, FLT_MIN) /* the engine's 0 is off, a client's the narrowest */, .min_p = (float)ask->min_p, .seed = c->seed,
        .logprobs = ask->logprobs ? (int)ask->top_logprobs + 1 : 0, .prompt_logprobs = ask->echo && ask->logprobs, .want_progress = ask->return_progress && ask->stream,
        .time_max_ms = time_limit_ms(x), .notify = td_exchange_notify, .notify_user = x->slot};
    o->keep_special = c->splitter != NULL;
    o->hidden = x->server->hidden;
    td_constrain_adjust(c, o);
    if (x->shape->adjust) x->shape->adjust(c, o);
    c->reads_only = o->max_tokens < 0;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------------------- */

void td_choice_emit(td_choice *c, td_piece_kind kind, int call, const char *text, size_t bytes)
{
    td_exchange *x = c->exchange;
    if (!bytes && kind != TD_PIECE_CALL) return;
    bool keeps = !x->ask.stream || x->shape->keeps_text;
    c->last = kind;
    if (kind == TD_PIECE_REASONING && keeps) td_buffer_put(&c->reasoning, text, bytes);
    if (kind == TD_PIECE_CONTENT && keeps) td_buffer_put(&c->content, text, bytes);
    if (kind == TD_PIECE_ARGUMENTS) td_buffer_put(&c->calls[call].arguments, text, bytes);
    if (x->ask.stream) x->shape->piece(c, &(td_piece){.kind = kind, .call = call, .text = text, .bytes = bytes});
}

int td_choice_call(td_choice *c, const char *name, size_t name_bytes)
{
    if (!c->calls) c->calls = TD_NEW(&c->exchange->arena, td_call, TD_CALLS_MAX);
    if (!c->calls || c->call_count == TD_CALLS_MAX) return -1;
    td_call *call = &c->calls[c->call_count];
    td_buffer_put(&call->name, name, name_bytes);
    td_serve_random_id(call->id, sizeof call->id, c->exchange->shape->anthropic ? "toolu_" : "call_");
    td_choice_emit(c, TD_PIECE_CALL, c->call_count, name, name_bytes);
    return c->call_count++;
}

/* ---- events ------------------------------------------------------------------------------------------------------------------------------- */

static void measure_token(td_choice *c)
{
    td_metrics *m = &c->exchange->server->metrics;
    int64_t now = td_now_ns();
    if (!c->first_ns) {
        c->first_ns = now;
        td_histogram_add(&m->ttft, (double)(now - c->exchange->started_ns) * 1e-9);
    } else {
        td_histogram_add(&m->tpot, (double)(now - c->last_ns) * 1e-9);
    }
    c->last_ns = now;
    atomic_fetch_add(&m->generated_tokens, 1);
}

static void take_token(td_choice *c, const td_event *e)
{
    td_exchange *x = c->exchange;
    size_t before = x->out.bytes;
    if (!e->from_prompt) {
        measure_token(c);
        c->generated_tokens = e->generated_tokens;
    }
    if (x->shape->token && (x->ask.logprobs || x->ask.return_tokens)) x->shape->token(c, e);
    if (e->from_prompt) return;
    td_splitter_put(c, e->text, e->text_bytes);
    c->reasoning_tokens += td_splitter_reasons(c);
    if (td_splitter_enough(c)) td_request_cancel(atomic_load(&c->request));
    bool noted = c->logprobs.bytes || c->lp[0].bytes || c->tokens_json.bytes;
    if (x->ask.stream && noted && x->out.bytes == before) x->shape->piece(c, &no_text);
}

static void note_finish(td_choice *c, const td_event *e)
{
    td_metrics *m = &c->exchange->server->metrics;
    bool enough = td_splitter_enough(c) && e->finish != TD_FINISH_ERROR; /* the answer ended before whatever else the engine met until it was cancelled */
    c->finish = enough ? TD_FINISH_STOP : e->finish;
    c->status = e->status;
    c->stop = !enough && e->stop >= 0 && e->stop < c->exchange->ask.stop_count && c->finish == TD_FINISH_STOP ? e->stop : -1;
    if (e->finish == TD_FINISH_ERROR) snprintf(c->message, sizeof c->message, "%s", e->message ? e->message : "the engine gave up");
    if (e->finish == TD_FINISH_TIME && c->reads_only) { /* half a prompt has no answer */
        c->finish = TD_FINISH_ERROR;
        c->status = TD_E_TIMEOUT;
        snprintf(c->message, sizeof c->message, "prompt: expected to be read within %lld ms, found it only begun", (long long)time_limit_ms(c->exchange));
    }
    c->prompt_tokens = e->prompt_tokens;
    c->cached_tokens = e->cached_tokens;
    c->generated_tokens = e->generated_tokens;
    c->queue_ms = e->queue_ms + (double)(c->admitted_ns - c->queued_ns) * 1e-6;
    c->prompt_ms = e->prompt_ms;
    c->decode_ms = e->decode_ms;
    td_histogram_add(&m->queue, c->queue_ms * 1e-3);
    td_histogram_add(&m->prompt, c->prompt_ms * 1e-3);
    atomic_fetch_add(&m->prompt_ns, (unsigned long long)(c->prompt_ms * 1e6));
    atomic_fetch_add(&m->decode_ns, (unsigned long long)(c->decode_ms * 1e6));
    atomic_fetch_add(&m->prompt_tokens, (unsigned long long)e->prompt_tokens);
    atomic_fetch_add(&m->cached_tokens, (unsigned long long)e->cached_tokens);
    atomic_fetch_add(&m->finished[e->finish & 7], 1);
}

/* The engine is done with it: gives its place back and lets the next one in. */
static void release_request(td_choice *c)
{
    td_server *server = c->exchange->server;
    td_request *request = atomic_exchange(&c->request, NULL);
    td_admit_done(c);
    if (!request) return;
    td_request_free(request);
    pthread_mutex_lock(&server->admit_lock);
    server->running--;
    pthread_mutex_unlock(&server->admit_lock);
    td_admit_pump(server);
}

/* What the engine took was a good request: only submit may still call it wrong. */
td_fault td_choice_fault(const td_choice *c)
{
    td_status status = c->finish != TD_FINISH_ERROR || c->status >= 0 ? TD_E_CANCELLED : c->status;
    if (!atomic_load(&c->failed) && td_serve_http_of(status) < 429) status = TD_E_INTERNAL;
    return td_serve_fault_of(status, c->message[0] ? c->message : "the server is shutting down");
}

void td_fault_event(td_exchange *x, const td_fault *fault)
{
    td_buffer_text(&x->out, "data: ");
    td_serve_error_body(x, fault->http, fault->code, NULL, fault->message, &x->out);
    td_buffer_text(&x->out, "\n\n");
}

void td_generate_fault(td_exchange *x, const td_fault *fault)
{
    td_metrics_error(&x->server->metrics, fault->code);
    x->shape->fault(x, fault);
    x->stream_over = true;
}

static void end_choice(td_choice *c)
{
    td_exchange *x = c->exchange;
    c->finished = true;
    x->choices_finished++;
    if (c->finish == TD_FINISH_ERROR || (c->finish == TD_FINISH_CANCELLED && !atomic_load(&x->gone))) {
        x->log_finish = "error";
        if (x->streaming && !x->stream_over) {
            td_fault fault = td_choice_fault(c);
            td_generate_fault(x, &fault);
        }
    } else if (x->streaming) {
        x->shape->end_choice(c);
    }
}

static void take_event(td_choice *c, const td_event *e)
{
    td_exchange *x = c->exchange;
    if (e->kind == TD_EVENT_TOKEN) take_token(c, e);
    else if (e->kind == TD_EVENT_PROGRESS) {
        if (x->streaming && x->shape->progress) x->shape->progress(c, e);
    } else {
        td_splitter_put(c, e->text, e->text_bytes);
        td_splitter_end(c);
        note_finish(c, e);
        release_request(c);
        end_choice(c);
    }
}

static void pump_choice(td_choice *c)
{
    td_exchange *x = c->exchange;
    if (atomic_load(&c->failed)) {
        c->finish = TD_FINISH_ERROR;
        end_choice(c);
        return;
    }
    td_request *request = atomic_load(&c->request);
    while (request && !c->finished && !x->stream_over && x->out.bytes - x->out_sent < TD_OUT_HIGH_BYTES) {
        td_event event;
        td_status status = td_request_next(request, 0, &event);
        if (status == TD_E_TIMEOUT) break;
        if (status < 0) {
            c->finish = TD_FINISH_ERROR;
            c->status = status;
            snprintf(c->message, sizeof c->message, "%s", td_error());
            release_request(c);
            end_choice(c);
            break;
        }
        take_event(c, &event);
    }
}

void td_generate_pump(td_exchange *x)
{
    if (x->streaming && !x->stream_opened) {
        x->stream_opened = true;
        x->shape->open(x);
    }
    for (int i = 0; i < x->choice_count && !x->stream_over; i++)
        if (!x->choices[i].finished) pump_choice(&x->choices[i]);
    if (x->streaming && !x->stream_over && x->choices_finished == x->choice_count) {
        x->shape->close(x);
        x->stream_over = true;
    }
}

void td_generate_abandon(td_exchange *x)
{
    if (!x->submitted) return;
    td_admit_remove(x);
    for (int i = 0; i < x->choice_count; i++) {
        td_choice *c = &x->choices[i];
        td_request *request = atomic_exchange(&c->request, NULL);
        td_admit_done(c);
        if (!request) continue;
        td_request_cancel(request);
        td_jobs_reap(x->server, request, c->held);
        c->held = NULL;
    }
}

/* ---- what every shape tells at the end ------------------------------------------------------------------------------------------------------ */

const char *td_choice_reason(const td_choice *c)
{
    switch (c->finish) {
    case TD_FINISH_EOS: case TD_FINISH_STOP: return c->call_count ? "tool_calls" : "stop";
    default: return "length";
    }
}

int64_t td_usage_prompt(const td_exchange *x, int64_t *cached)
{
    int64_t sum = 0, hits = 0;
    const td_prompt *last = NULL;
    for (int i = 0; i < x->choice_count; i++) {
        if (x->choices[i].prompt == last) continue; /* n completions share one prompt */
        last = x->choices[i].prompt;
        sum += (int64_t)last->count;
        hits += x->choices[i].cached_tokens;
    }
    if (cached) *cached = hits;
    return sum;
}

int64_t td_usage_generated(const td_exchange *x, int64_t *reasoning)
{
    int64_t sum = 0, thought = 0;
    for (int i = 0; i < x->choice_count; i++) {
        sum += x->choices[i].generated_tokens;
        thought += x->choices[i].reasoning_tokens;
    }
    if (reasoning) *reasoning = thought;
    return sum;
}

void td_generate_usage(const td_exchange *x, td_buffer *out)
{
    int64_t cached, reasoning, prompt = td_usage_prompt(x, &cached), generated = td_usage_generated(x, &reasoning);
    td_buffer_format(out, "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld},\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}",
                     (long long)prompt, (long long)generated, (long long)(prompt + generated), (long long)cached, (long long)reasoning);
}

void td_choice_timings(const td_choice *c, td_buffer *out)
{
    int64_t fresh = c->prompt_tokens - c->cached_tokens, generated = c->generated_tokens;
    double decode_ms = c->decode_ms, prompt_ms = c->prompt_ms;
    if (!c->finished && c->first_ns) { /* so far */
        prompt_ms = (double)(c->first_ns - c->admitted_ns) * 1e-6;
        decode_ms = (double)(c->last_ns - c->first_ns) * 1e-6;
    }
    td_buffer_format(out, "{\"queue_ms\":%.3f,\"cache_n\":%lld,\"prompt_n\":%lld,\"prompt_ms\":%.3f,\"prompt_per_token_ms\":%.4f,\"prompt_per_second\":%.3f,", c->queue_ms, (long long)c->cached_tokens,
                     (long long)fresh, prompt_ms, fresh > 0 ? prompt_ms / (double)fresh : 0, prompt_ms > 0 ? (double)fresh * 1e3 / prompt_ms : 0);
    /* the first token belongs to the prompt's step */
    int64_t steps = generated > 1 ? generated - 1 : 0;
    td_buffer_format(out, "\"predicted_n\":%lld,\"predicted_ms\":%.3f,\"predicted_per_token_ms\":%.4f,\"predicted_per_second\":%.3f}", (long long)generated, decode_ms,
                     steps ? decode_ms / (double)steps : 0, decode_ms > 0 ? (double)steps * 1e3 / decode_ms : 0);
}

char *td_token_text(const td_server *server, int32_t token, size_t *bytes)
{
    char *text;
    if (td_detokenize(server->model, &token, 1, TD_TOKENIZE_SPECIAL | TD_TOKENIZE_INSIDE, &text, bytes) < 0) return NULL;
    return text;
}

void td_token_bytes(td_buffer *out, const char *text, size_t bytes)
{
    if (memmem(text, bytes, "\xEF\xBF\xBD", 3)) {
        td_buffer_text(out, "null"); /* part of a character: the engine gives whole ones only */
        return;
    }
    td_buffer_text(out, "[");
    for (size_t i = 0; i < bytes; i++) td_buffer_format(out, "%s%u", i ? "," : "", (unsigned char)text[i]);
    td_buffer_text(out, "]");
}
