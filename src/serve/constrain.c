/*
 * constrain.c - what a request forbids its sampler, token by token: thinking beyond its budget, and text outside its grammar. Runs on the decoding thread, over memory that lives as long
 * as the request (td_held).
 *
 * A grammar beside tools that the model may call (tools.c) leaves the choice to it: the answer begins with a token that the grammar allows, or with the mark of the model's own calls. Then
 * there are calls and nothing else: behind each, only another one or the end.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve.h"

enum { MARK_TOKENS_MAX = 32, ENDS_MAX = 16 };

typedef struct { int32_t ids[MARK_TOKENS_MAX]; size_t count; } mark;

typedef enum { CALL_NONE, CALL_MARK, CALL_TEXT, CALL_CLOSE, CALL_BETWEEN, CALL_FREE } call_stage;

typedef struct {
    mark open, shut;      /* <think> and </think> as tokens */
    size_t budget, seen;  /* seen: tokens looked at */
    size_t began;         /* tokens before thinking began */
    size_t forced;        /* tokens of `shut` that were forced */
    bool inside, over;
    size_t start;         /* tokens before the grammar begins: thinking is free */
    td_constraint *grammar;
    td_constraint *calls; /* holds only inside calls */
    mark call, close;     /* a grammar beside calls: how one begins, and ends; none: the grammar is all */
    int32_t ends[ENDS_MAX]; /* of a generation */
    int end_count;
    call_stage stage;
    size_t placed;        /* tokens of the mark under way that are there */
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
        if (m->inside && ends_with(tokens, m->seen + 1, &m->shut)) {
            m->over = true;
            m->start = m->seen + 1;
        } else if (!m->inside && !m->grammar && ends_with(tokens, m->seen + 1, &m->open)) {
            m->inside = true;
            m->began = m->seen + 1;
        }
    }
}

/* Is the text of a call complete? While it is not, no text may end, so that the end tells: it is left alone only where everything is allowed. */
static bool mask_call(td_mask *m, const int32_t *tokens, size_t count, float *logits, int vocab, bool *complete)
{
    int32_t end = m->ends[0];
    float own = logits[end];
    logits[end] = 0;
    if (!td_constraint_mask(m->calls, tokens, count, logits, vocab)) return false;
    *complete = logits[end] == 0;
    logits[end] = *complete ? own : -INFINITY;
    return true;
}

/* Another call, the end, or one line feed before these. */
static void mask_between(const td_mask *m, int32_t last, float *logits, int vocab)
{
    int32_t line = m->close.ids[0];
    float call = logits[m->call.ids[0]], feed = logits[line], ends[ENDS_MAX];
    for (int i = 0; i < m->end_count; i++) ends[i] = logits[m->ends[i]];
    for (int i = 0; i < vocab; i++) logits[i] = -INFINITY;
    for (int i = 0; i < m->end_count; i++) logits[m->ends[i]] = ends[i];
    if (last != line) logits[line] = feed;
    logits[m->call.ids[0]] = call;
}

static bool mask_calls(td_mask *m, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    bool complete = false;
    if (m->stage == CALL_BETWEEN && tokens[count - 1] == m->call.ids[0]) {
        m->stage = CALL_MARK;
        m->placed = 1;
    }
    if (m->stage == CALL_MARK && m->placed == m->call.count) m->stage = m->calls && m->end_count ? CALL_TEXT : CALL_FREE;
    if (m->stage == CALL_TEXT) {
        if (!mask_call(m, tokens, count, logits, vocab, &complete)) return false;
        if (!complete) return true;
        m->stage = CALL_CLOSE;
        m->placed = 0;
    }
    if (m->stage == CALL_CLOSE && m->placed == m->close.count) m->stage = CALL_BETWEEN;
    switch (m->stage) {
    case CALL_MARK: force(logits, vocab, m->call.ids[m->placed++]); return true;
    case CALL_CLOSE: force(logits, vocab, m->close.ids[m->placed++]); return true;
    case CALL_BETWEEN: mask_between(m, tokens[count - 1], logits, vocab); return true;
    default: return !m->calls || td_constraint_mask(m->calls, tokens, count, logits, vocab);
    }
}

/* Text of the grammar, or calls: the first token tells. */
static bool mask_answer(td_mask *m, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    bool begins = count == m->start;
    if (m->stage == CALL_NONE && count == m->start + 1 && m->call.count && tokens[m->start] == m->call.ids[0]) {
        m->stage = CALL_MARK;
        m->placed = 1;
    }
    if (m->stage != CALL_NONE) return mask_calls(m, tokens, count, logits, vocab);
    float own = begins && m->call.count ? logits[m->call.ids[0]] : 0;
    bool goes_on = td_constraint_mask(m->grammar, tokens + m->start, count - m->start, logits, vocab);
    if (begins && m->call.count) logits[m->call.ids[0]] = own;
    return goes_on;
}

static bool mask_logits(void *user, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    td_mask *m = user;
    follow_thinking(m, tokens, count);
    if (m->grammar && (m->over || !m->inside)) return mask_answer(m, tokens, count, logits, vocab);
    if (m->calls && !td_constraint_mask(m->calls, tokens, count, logits, vocab)) return false;
    if (m->budget && !m->over && m->inside && (m->forced || count - m->began >= m->budget) && m->forced < m->shut.count) force(logits, vocab, m->shut.ids[m->forced++]);
    return true;
}

static td_status find_mark(const td_server *server, const char *text, mark *out)
{
    td_status status = td_tokenize(server->model, text, strlen(text), TD_TOKENIZE_SPECIAL, out->ids, MARK_TOKENS_MAX, &out->count);
    for (size_t i = 0; status == TD_OK && i < out->count; i++)
        if (out->ids[i] >= server->info->vocab_size) status = td_fail(TD_E_UNSUPPORTED, "%s has a token that the model does not know", text);
    return status == TD_E_FULL ? td_fail(TD_E_UNSUPPORTED, "%s is more than %d tokens in this model", text, MARK_TOKENS_MAX) : status;
}

/* What may follow where nothing may: the model's own ends. */
static td_status find_ends(const td_server *server, td_mask *m)
{
    static const char nothing[] = "root ::= \"\"";
    int vocab = server->info->vocab_size;
    td_constraint *grammar = NULL;
    float *logits = calloc((size_t)vocab, sizeof *logits);
    if (!logits) return td_fail(TD_E_MEMORY, "request: no memory");
    td_status status = td_constraint_open(server->model, "gbnf", nothing, sizeof nothing - 1, &grammar);
    bool ends = status == TD_OK && td_constraint_mask(grammar, NULL, 0, logits, vocab);
    for (int32_t i = 0; ends && i < vocab && m->end_count < ENDS_MAX; i++)
        if (isfinite(logits[i])) m->ends[m->end_count++] = i;
    td_constraint_close(grammar);
    free(logits);
    return status;
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
    if (x->ask.calls_mark && x->ask.grammar_kind) {
        TD_TRY(find_ends(x->server, m));
        TD_TRY(find_mark(x->server, x->ask.calls_mark, &m->call));
        TD_TRY(find_mark(x->server, "\n</tool_call>", &m->close));
    }
    if (!x->ask.thinking_budget && !x->ask.grammar_kind) return TD_OK;
    TD_TRY(find_mark(x->server, "<think>", &m->open));
    return find_mark(x->server, "</think>", &m->shut);
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
