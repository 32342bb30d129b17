/*
 * constrain.c - what a request forbids its sampler, token by token: thinking beyond its budget. Runs on the decoding thread, over memory that lives as long
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

static bool limit_thinking(void *user, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    td_mask *m = user;
    for (; m->seen < count && !m->over; m->seen++) {
        if (m->inside && ends_with(tokens, m->seen + 1, &m->close)) m->over = true;
        else if (!m->inside && ends_with(tokens, m->seen + 1, &m->open)) {
            m->inside = true;
            m->began = m->seen + 1;
        }
    }
    if (!m->over && m->inside && (m->forced || count - m->began >= m->budget) && m->forced < m->close.count) force(logits, vocab, m->close.ids[m->forced++]);
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
    if (!x->ask.thinking_budget) return TD_OK;
    td_held *held = c->held ? c->held : calloc(1, sizeof *held);
    td_mask *m = calloc(1, sizeof *m);
    c->held = held;
    if (!held || !m) {
        free(m);
        return td_fail(TD_E_MEMORY, "request: no memory");
    }
    held->mask = m;
    *m = (td_mask){.budget = (size_t)x->ask.thinking_budget, .inside = starts_in_reasoning};
    TD_TRY(find_mark(x->server, "<think>", &m->open));
    return find_mark(x->server, "</think>", &m->close);
}

void td_constrain_adjust(td_choice *c, td_request_options *o)
{
    if (!c->held || !c->held->mask) return;
    o->logits_fn = limit_thinking;
    o->logits_user = c->held->mask;
}
