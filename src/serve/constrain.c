/*
 * constrain.c - what a request forbids its sampler, token by token: thinking beyond its budget, and text outside its grammar. Runs on the decoding thread, over memory that lives as long
 * as the request (td_held).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve.h"

enum { MARK_TOKENS_MAX = 16 };

typedef struct { int32_t ids[MARK_TOKENS_MAX]; size_t count; } mark;

typedef struct {
    mark open, close;     /* <think> and </think> as tokens */
    size_t budget, seen;  /* seen: tokens looked at */
    size_t began;         /* tokens before thinking began */
    size_t forced;        /* tokens of `close` that were forced */
    bool inside, over;
    size_t start;         /* tokens before the grammar begins: thinking is free */
    td_constraint *grammar;
    td_constraint *calls; /* holds only inside calls */
} td_mask;

static bool ends_with(const int32_t *tokens, size_t count, const mark *m)
{
    return m->count && count >= m->count && !memcmp(tokens + count - m->count, m->ids, m->count * sizeof *tokens);
}

/* Leaves only one token to choose. */
static void force(float *logits, int vocab, int32_t token)
{
    float own = logits[token];
    for (int i = 0; i < vocab; i++) logits[i] = -INFINITY;
    logits[token] = isfinite(own) ? own : 0;
}

static void follow_thinking(td_mask *m, const int32_t *tokens, size_t count)
{
    for (; m->seen < count && !m->over; m->seen++) {
        if (m->inside && ends_with(tokens, m->seen + 1, &m->close)) {
            m->over = true;
            m->start = m->seen + 1;
        } else if (!m->inside && !m->grammar && ends_with(tokens, m->seen + 1, &m->open)) {
            m->inside = true;
            m->began = m->seen + 1;
        }
    }
}

static bool mask_logits(void *user, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    td_mask *m = user;
    follow_thinking(m, tokens, count);
    if (m->grammar && (m->over || !m->inside)) return td_constraint_mask(m->grammar, tokens + m->start, count - m->start, logits, vocab);
    if (m->calls && !td_constraint_mask(m->calls, tokens, count, logits, vocab)) return false;
    if (m->budget && !m->over && m->inside && (m->forced || count - m->began >= m->budget) && m->forced < m->close.count) force(logits, vocab, m->close.ids[m->forced++]);
    return true;
}

static td_status find_mark(const td_server *server, const char *text, mark *out)
{
    td_status status = td_tokenize(server->model, text, strlen(text), TD_TOKENIZE_SPECIAL, out->ids, MARK_TOKENS_MAX, &out->count);
    return status == TD_E_FULL ? td_fail(TD_E_UNSUPPORTED, "thinking budget: %s is more than %d tokens in this model", text, MARK_TOKENS_MAX) : status;
}

td_status td_constrain_open(td_choice *c, bool starts_in_reasoning)
{
    td_exchange *x = c->exchange;
    if (!x->ask.thinking_budget && !x->ask.grammar_kind && !x->ask.calls_schema) return TD_OK;
    td_held *held = c->held ? c->held : calloc(1, sizeof *held);
    td_mask *m = calloc(1, sizeof *m);
    c->held = held;
    if (!held || !m) {
        free(m);
        return td_fail(TD_E_MEMORY, "request: no memory");
    }
    held->mask = m;
    *m = (td_mask){.budget = (size_t)x->ask.thinking_budget, .inside = starts_in_reasoning};
    if (x->ask.grammar_kind) {
        td_status status = td_constraint_open(x->server->model, x->ask.grammar_kind, x->ask.grammar_text, strlen(x->ask.grammar_text), &m->grammar);
        if (status < 0) return td_serve_refuse_status(x, status, x->ask.grammar_param);
    }
    if (x->ask.calls_schema) {
        bool thinks = td_splitter_thinks(x, c->prompt);
        td_status status = td_constraint_open(x->server->model, "json_schema", x->ask.calls_schema, strlen(x->ask.calls_schema), &m->calls);
        if (status == TD_OK) status = td_constraint_wait(m->calls, "<tool_call>", thinks, thinks && starts_in_reasoning);
        if (status < 0) return td_serve_refuse_status(x, status, "tools");
    }
    if (!x->ask.thinking_budget && !x->ask.grammar_kind) return TD_OK;
    TD_TRY(find_mark(x->server, "<think>", &m->open));
    return find_mark(x->server, "</think>", &m->close);
}

void td_constrain_adjust(td_choice *c, td_request_options *o)
{
    if (!c->held || !c->held->mask) return;
    o->logits_fn = mask_logits;
    o->logits_user = c->held->mask;
}

void td_constrain_free(void *mask)
{
    td_mask *m = mask;
    if (m) td_constraint_close(m->grammar);
    if (m) td_constraint_close(m->calls);
    free(m);
}
