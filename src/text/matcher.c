/*
 * matcher.c - where a text stands in a grammar, and which tokens may come next. See grammar.h.
 * A place is a set of stacks. Stacks are lists of return places, each made once (so equal stacks are one number); sets of tops are states, each made
 * once, with the state behind every byte filled in when it is first asked. The allowed tokens of a state are found by walking the vocabulary in the order of
 * its bytes, going on from what neighbours share, and are kept as bits. When the tables are full they are emptied; only time is lost.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

enum { STATES_MAX = 4096, NODES_MAX = 1 << 18, STACKS_MAX = 4096, SEEN_MAX = 1 << 14, TOKEN_BYTES_MAX = 256, UNKNOWN = -2, DEAD = -1 };

typedef struct { int32_t id; uint32_t bytes, shared; int32_t jump; const char *text; } sorted_token; /* shared: leading bytes in common with the one before; jump: the next that shares less */

struct td_grammar_vocab {
    const td_tokenizer *tokenizer;
    sorted_token *tokens;
    int count, size;
};

typedef struct { uint32_t place, parent; } node;            /* parent: node, 0 is the bottom */
typedef struct { uint32_t *tops; int count; bool complete; int32_t next[256]; uint64_t *mask; int allowed; } matcher_state; /* tops: nodes at BYTES elements */

struct td_matcher {
    const td_grammar *grammar;
    const td_grammar_vocab *vocab;
    node *nodes;             /* [NODES_MAX]; 0 unused (bottom) */
    uint32_t nodes_count;
    uint32_t *node_slots;    /* hash: [2 * NODES_MAX] */
    matcher_state *states;   /* [STATES_MAX] */
    int states_count;
    int32_t *state_slots;    /* hash: [2 * STATES_MAX] */
    int32_t current;
    uint32_t *work;          /* [STACKS_MAX] tops of the state under construction */
    int work_count;
    bool work_complete, full;
    struct { uint32_t place, parent, round; } *seen; /* [SEEN_MAX] references expanded for the state under construction (round): repeats of what may be empty come back */
    uint32_t round, seen_count;
    td_buffer so_far;        /* bytes of the text, to find the place again after emptying */
};

/* ---- vocabulary ---- */

static int by_text(const void *a, const void *b)
{
    const sorted_token *x = a, *y = b;
    int order = memcmp(x->text, y->text, TD_MIN(x->bytes, y->bytes));
    if (order == 0) order = (x->bytes > y->bytes) - (x->bytes < y->bytes);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

td_status td_grammar_vocab_open(const td_tokenizer *tokenizer, td_grammar_vocab **out)
{
    td_grammar_vocab *v = calloc(1, sizeof *v);
    int size = td_tokenizer_size(tokenizer);
    if (v) v->tokens = malloc((size_t)size * sizeof *v->tokens);
    if (!v || !v->tokens) {
        free(v);
        return td_fail(TD_E_MEMORY, "grammar: no memory for %d tokens", size);
    }
    v->tokenizer = tokenizer;
    v->size = size;
    for (int32_t id = 0; id < size; id++) {
        size_t bytes;
        const char *text = td_tokenizer_bytes(tokenizer, id, &bytes);
        if (bytes == 0 || bytes > TOKEN_BYTES_MAX || td_tokenizer_is_special(tokenizer, id) || td_tokenizer_is_end(tokenizer, id)) continue;
        v->tokens[v->count++] = (sorted_token){id, (uint32_t)bytes, 0, 0, text};
    }
    qsort(v->tokens, (size_t)v->count, sizeof *v->tokens, by_text);
    for (int i = 1; i < v->count; i++) {
        uint32_t n = 0, most = TD_MIN(v->tokens[i].bytes, v->tokens[i - 1].bytes);
        while (n < most && v->tokens[i].text[n] == v->tokens[i - 1].text[n]) n++;
        v->tokens[i].shared = n;
    }
    for (int i = v->count - 1; i >= 0; i--) {
        int32_t next = i + 1;
        while (next < v->count && v->tokens[next].shared >= v->tokens[i].shared) next = v->tokens[next].jump;
        v->tokens[i].jump = next;
    }
    *out = v;
    return TD_OK;
}

void td_grammar_vocab_close(td_grammar_vocab *v)
{
    if (!v) return;
    free(v->tokens);
    free(v);
}

/* ---- stacks and states ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0xBF58476D1CE4E5B9u;
    return x ^ x >> 29;
}

/* The node (place, parent), made when it is new; 0 when there is no room. */
static uint32_t node_of(td_matcher *m, uint32_t place, uint32_t parent)
{
    uint32_t slot = (uint32_t)mix((uint64_t)place << 32 | parent) & (2 * NODES_MAX - 1);
    for (; m->node_slots[slot]; slot = (slot + 1) & (2 * NODES_MAX - 1)) {
        const node *n = &m->nodes[m->node_slots[slot]];
        if (n->place == place && n->parent == parent) return m->node_slots[slot];
    }
    if (m->nodes_count == NODES_MAX) {
        m->full = true;
        return 0;
    }
    m->nodes[m->nodes_count] = (node){place, parent};
    m->node_slots[slot] = m->nodes_count;
    return m->nodes_count++;
}

static void add_top(td_matcher *m, uint32_t top)
{
    for (int i = 0; i < m->work_count; i++)
        if (m->work[i] == top) return;
    if (m->work_count == STACKS_MAX || !top) m->full = true;
    else m->work[m->work_count++] = top;
}

/* A reference that was expanded already for this state? Else it is noted. */
static bool seen_before(td_matcher *m, uint32_t place, uint32_t parent)
{
    uint32_t slot = (uint32_t)mix((uint64_t)place << 32 | parent) & (SEEN_MAX - 1);
    for (; m->seen[slot].round == m->round; slot = (slot + 1) & (SEEN_MAX - 1))
        if (m->seen[slot].place == place && m->seen[slot].parent == parent) return true;
    if (m->seen_count++ > SEEN_MAX / 2) m->full = true;
    else m->seen[slot].place = place, m->seen[slot].parent = parent, m->seen[slot].round = m->round;
    return false;
}

/* Adds the tops that a place with its returns stands for. No left recursion that grows, so it ends; depth only guards the C stack. */
static void expand(td_matcher *m, uint32_t place, uint32_t parent, int depth)
{
    const td_element *e = &m->grammar->elements[place];
    if (m->full) return;
    if (depth > 2000) {
        m->full = true;
        return;
    }
    switch (e->kind) {
    case TD_ELEMENT_END:
        if (parent == 0) m->work_complete = true;
        else expand(m, m->nodes[parent].place, m->nodes[parent].parent, depth + 1);
        return;
    case TD_ELEMENT_BYTES: add_top(m, node_of(m, place, parent)); return;
    default: break;
    }
    if (seen_before(m, place, parent)) return;
    const td_rule *rule = &m->grammar->rules[e->rule];
    /* a reference at the end returns to where this alternative would have: endless repeats need no endless stack */
    uint32_t back = e[1].kind == TD_ELEMENT_END ? parent : node_of(m, place + 1, parent);
    for (int i = 0; i < rule->count; i++) expand(m, rule->starts[i], back, depth + 1);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The state of the tops in work: DEAD when there is nothing, UNKNOWN when there is no room. */
static int32_t state_of_work(td_matcher *m)
{
    if (m->full) return UNKNOWN;
    if (m->work_count == 0 && !m->work_complete) return DEAD;
    qsort(m->work, (size_t)m->work_count, sizeof *m->work, by_number);
    uint64_t h = m->work_complete;
    for (int i = 0; i < m->work_count; i++) h = mix(h * 31 + m->work[i]);
    uint32_t slot = (uint32_t)h & (2 * STATES_MAX - 1);
    for (; m->state_slots[slot]; slot = (slot + 1) & (2 * STATES_MAX - 1)) {
        const matcher_state *s = &m->states[m->state_slots[slot] - 1];
        if (s->count == m->work_count && s->complete == m->work_complete && (s->count == 0 || !memcmp(s->tops, m->work, (size_t)s->count * sizeof *s->tops))) return m->state_slots[slot] - 1;
    }
    if (m->states_count == STATES_MAX) return UNKNOWN;
    matcher_state *s = &m->states[m->states_count];
    *s = (matcher_state){.count = m->work_count, .complete = m->work_complete, .allowed = -1, .tops = malloc(((size_t)m->work_count + 1) * sizeof *s->tops)};
    if (!s->tops) return UNKNOWN;
    memcpy(s->tops, m->work, (size_t)m->work_count * sizeof *s->tops);
    for (int b = 0; b < 256; b++) s->next[b] = UNKNOWN;
    m->state_slots[slot] = ++m->states_count;
    return m->states_count - 1;
}

static void begin_work(td_matcher *m)
{
    m->work_count = 0;
    m->work_complete = false;
    m->seen_count = 0;
    if (++m->round == 0) memset(m->seen, 0, SEEN_MAX * sizeof *m->seen), m->round = 1;
}

static int32_t start_state(td_matcher *m)
{
    const td_rule *root = &m->grammar->rules[m->grammar->root];
    begin_work(m);
    for (int i = 0; i < root->count; i++) expand(m, root->starts[i], 0, 0);
    return state_of_work(m);
}

static int32_t next_state(td_matcher *m, int32_t from, uint8_t byte)
{
    int32_t known = m->states[from].next[byte];
    if (known != UNKNOWN) return known;
    begin_work(m);
    for (int i = 0; i < m->states[from].count; i++) {
        uint32_t top = m->states[from].tops[i];
        const td_element *e = &m->grammar->elements[m->nodes[top].place];
        if (byte >= e->low && byte <= e->high) expand(m, m->nodes[top].place + 1, m->nodes[top].parent, 0);
    }
    int32_t next = state_of_work(m);
    m->states[from].next[byte] = next;
    return next;
}

static void empty_tables(td_matcher *m)
{
    for (int i = 0; i < m->states_count; i++) {
        free(m->states[i].tops);
        free(m->states[i].mask);
    }
    m->states_count = 0;
    m->nodes_count = 1;
    m->full = false;
    memset(m->node_slots, 0, 2 * NODES_MAX * sizeof *m->node_slots);
    memset(m->state_slots, 0, 2 * STATES_MAX * sizeof *m->state_slots);
}

/* Empties the tables and finds the place again. */
static bool start_again(td_matcher *m)
{
    empty_tables(m);
    m->current = start_state(m);
    for (size_t i = 0; i < m->so_far.bytes && m->current >= 0; i++) m->current = next_state(m, m->current, (uint8_t)m->so_far.data[i]);
    return m->current >= 0;
}

td_status td_matcher_open(const td_grammar *grammar, const td_grammar_vocab *vocab, td_matcher **out)
{
    td_matcher *m = calloc(1, sizeof *m);
    if (m) {
        m->grammar = grammar;
        m->vocab = vocab;
        m->nodes = malloc(NODES_MAX * sizeof *m->nodes);
        m->node_slots = malloc(2 * NODES_MAX * sizeof *m->node_slots);
        m->states = malloc(STATES_MAX * sizeof *m->states);
        m->state_slots = malloc(2 * STATES_MAX * sizeof *m->state_slots);
        m->work = malloc(STACKS_MAX * sizeof *m->work);
        m->seen = calloc(SEEN_MAX, sizeof *m->seen);
    }
    if (!m || !m->nodes || !m->node_slots || !m->states || !m->state_slots || !m->work || !m->seen) {
        td_matcher_close(m);
        return td_fail(TD_E_MEMORY, "grammar: no memory for a matcher");
    }
    if (!start_again(m)) {
        bool none = m->current == DEAD;
        td_matcher_close(m);
        return none ? td_fail(TD_E_INVALID, "grammar: no text can match it") : td_fail(TD_E_UNSUPPORTED, "grammar: more than %d places at its start", STACKS_MAX);
    }
    *out = m;
    return TD_OK;
}

bool td_matcher_restart(td_matcher *m)
{
    td_buffer_clear(&m->so_far);
    m->current = start_state(m);
    return m->current >= 0 || start_again(m);
}

void td_matcher_close(td_matcher *m)
{
    if (!m) return;
    for (int i = 0; m->states && i < m->states_count; i++) {
        free(m->states[i].tops);
        free(m->states[i].mask);
    }
    free(m->nodes);
    free(m->node_slots);
    free(m->states);
    free(m->state_slots);
    free(m->work);
    free(m->seen);
    td_buffer_free(&m->so_far);
    free(m);
}

/* ---- masks ---- */

/* Bits of the tokens that the current state allows; false when the tables filled up on the way. */
static bool find_allowed(td_matcher *m)
{
    int32_t path[TOKEN_BYTES_MAX + 1];
    const td_grammar_vocab *v = m->vocab;
    int words = (v->size + 63) / 64, allowed = 0;
    uint64_t *mask = calloc((size_t)words, sizeof *mask);
    uint32_t alive = 0; /* so many leading bytes of the last token lead somewhere */
    if (!mask) return false;
    path[0] = m->current;
    for (int i = 0; i < v->count; i++) {
        const sorted_token *t = &v->tokens[i];
        if (t->shared > alive) { /* shares the byte that led nowhere, as do all up to the next that shares less */
            i = t->jump - 1;
            continue;
        }
        uint32_t at = t->shared;
        int32_t state = path[at];
        for (; at < t->bytes; at++) {
            state = next_state(m, state, (uint8_t)t->text[at]);
            if (state < 0) break;
            path[at + 1] = state;
        }
        alive = at;
        if (state == UNKNOWN) {
            free(mask);
            return false;
        }
        if (at < t->bytes) continue;
        mask[t->id / 64] |= 1ull << (t->id % 64);
        allowed++;
    }
    m->states[m->current].mask = mask;
    m->states[m->current].allowed = allowed;
    return true;
}

int td_matcher_mask(td_matcher *m, float *logits, int vocab_size)
{
    if (!m->states[m->current].mask && !find_allowed(m) && !(start_again(m) && find_allowed(m)))
        return td_fail(TD_E_UNSUPPORTED, "grammar: its places do not fit into %d states", STATES_MAX);
    const matcher_state *s = &m->states[m->current];
    const td_grammar_vocab *v = m->vocab;
    int allowed = s->allowed;
    for (int base = 0; base < vocab_size; base += 64) {
        uint64_t bits = base / 64 < (v->size + 63) / 64 ? s->mask[base / 64] : 0;
        int end = TD_MIN(vocab_size - base, 64);
        if (bits == ~0ull) continue;
        for (int i = 0; i < end; i++) {
            if (bits >> i & 1) continue;
            if (s->complete && td_tokenizer_is_end(v->tokenizer, base + i)) allowed++;
            else logits[base + i] = -INFINITY;
        }
    }
    return allowed;
}

bool td_matcher_bytes(td_matcher *m, const char *text, size_t bytes)
{
    int32_t state = m->current;
    for (size_t i = 0; i < bytes && state >= 0; i++) state = next_state(m, state, (uint8_t)text[i]);
    if (state == DEAD) return false;
    if (state == UNKNOWN) { /* the tables are full: once more with empty ones */
        if (!start_again(m)) return false;
        state = m->current;
        for (size_t i = 0; i < bytes && state >= 0; i++) state = next_state(m, state, (uint8_t)text[i]);
        if (state < 0) return false;
    }
    td_buffer_put(&m->so_far, text, bytes);
    m->current = state;
    return !m->so_far.failed;
}

bool td_matcher_token(td_matcher *m, int32_t id)
{
    size_t bytes;
    if (td_tokenizer_is_end(m->vocab->tokenizer, id)) return m->states[m->current].complete;
    if (td_tokenizer_is_special(m->vocab->tokenizer, id)) return false;
    const char *text = td_tokenizer_bytes(m->vocab->tokenizer, id, &bytes);
    return bytes > 0 && td_matcher_bytes(m, text, bytes);
}

bool td_matcher_complete(const td_matcher *m) { return m->states[m->current].complete; }
