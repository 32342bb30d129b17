/*
 * matcher.c - where a text stands in a grammar, and which tokens may come next. See grammar.h.
 * A place is a set of stacks. Stacks are lists of return places, each made once (so equal stacks are one number); sets of tops are states, each made
 * once, with the state behind every byte filled in when it is first asked. The allowed tokens of a state are found by walking the vocabulary in the order of
 * its bytes, going on from what neighbours share, and are kept as bits. When the tables are full, all but the states in hand and the stacks below them goes
 * (make_room): a place needs nothing of the text before it, so a text may be of any length, and only time is lost.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

enum { STACKS_MAX = 4096, SEEN_MAX = 1 << 14, TOKEN_BYTES_MAX = 256, UNKNOWN = -2, DEAD = -1 };

/* Tables of 8.8 MB a matcher, and what hangs on them: 32 MB are 1,700 masks of a vocabulary of 150,000. */
static const td_matcher_limits usual = {.states = 4096, .nodes = 1 << 18, .held_bytes = 32 << 20};

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
    td_matcher_limits limits;
    node *nodes;             /* [limits.nodes]; 0 unused (bottom); a parent's number is smaller than its child's */
    uint32_t nodes_count;
    uint32_t *node_slots;    /* hash: [2 * limits.nodes] */
    matcher_state *states;   /* [limits.states] */
    int states_count;
    int32_t *state_slots;    /* hash, numbers + 1: [2 * limits.states] */
    size_t held_bytes;       /* of the states' tops and masks; at most limits.held_bytes and one mask */
    int32_t current;
    uint32_t *work;          /* [STACKS_MAX] tops of the state under construction */
    int work_count;
    bool work_complete, full;
    struct { uint32_t place, parent, round; } *seen; /* [SEEN_MAX] references expanded for the state under construction (round): repeats of what may be empty come back */
    uint32_t round, seen_count;
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

/* Where the hash has the node (place, parent), or would have it: 0 there. */
static uint32_t *node_slot(td_matcher *m, uint32_t place, uint32_t parent)
{
    uint32_t last = 2 * m->limits.nodes - 1, slot = (uint32_t)mix((uint64_t)place << 32 | parent) & last;
    for (; m->node_slots[slot]; slot = (slot + 1) & last) {
        const node *n = &m->nodes[m->node_slots[slot]];
        if (n->place == place && n->parent == parent) break;
    }
    return &m->node_slots[slot];
}

/* The node (place, parent), made when it is new; 0 when there is no room. */
static uint32_t node_of(td_matcher *m, uint32_t place, uint32_t parent)
{
    uint32_t *slot = node_slot(m, place, parent);
    if (*slot) return *slot;
    if (m->nodes_count == m->limits.nodes) {
        m->full = true;
        return 0;
    }
    m->nodes[m->nodes_count] = (node){place, parent};
    return *slot = m->nodes_count++;
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

/* Where the hash has the state of these tops, or would have it: 0 there. */
static int32_t *state_slot(td_matcher *m, const uint32_t *tops, int count, bool complete)
{
    uint64_t h = complete;
    for (int i = 0; i < count; i++) h = mix(h * 31 + tops[i]);
    uint32_t last = 2 * m->limits.states - 1, slot = (uint32_t)h & last;
    for (; m->state_slots[slot]; slot = (slot + 1) & last) {
        const matcher_state *s = &m->states[m->state_slots[slot] - 1];
        if (s->count == count && s->complete == complete && (count == 0 || !memcmp(s->tops, tops, (size_t)count * sizeof *tops))) break;
    }
    return &m->state_slots[slot];
}

static size_t tops_bytes(int count) { return ((size_t)count + 1) * sizeof(uint32_t); }
static size_t mask_words(const td_matcher *m) { return ((size_t)m->vocab->size + 63) / 64; }

/* The state of the tops in work: DEAD when there is nothing, UNKNOWN when there is no room. */
static int32_t state_of_work(td_matcher *m)
{
    if (m->full) return UNKNOWN;
    if (m->work_count == 0 && !m->work_complete) return DEAD;
    qsort(m->work, (size_t)m->work_count, sizeof *m->work, by_number);
    int32_t *slot = state_slot(m, m->work, m->work_count, m->work_complete);
    if (*slot) return *slot - 1;
    size_t bytes = tops_bytes(m->work_count);
    if (m->states_count == (int)m->limits.states || m->held_bytes + bytes > m->limits.held_bytes) return UNKNOWN;
    matcher_state *s = &m->states[m->states_count];
    *s = (matcher_state){.count = m->work_count, .complete = m->work_complete, .allowed = -1, .tops = malloc(bytes)};
    if (!s->tops) return UNKNOWN;
    m->held_bytes += bytes;
    memcpy(s->tops, m->work, (size_t)m->work_count * sizeof *s->tops);
    for (int b = 0; b < 256; b++) s->next[b] = UNKNOWN;
    *slot = ++m->states_count;
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

/* ---- room ---- */

static void drop_state(td_matcher *m, matcher_state *s)
{
    m->held_bytes -= tops_bytes(s->count) + (s->mask ? mask_words(m) * sizeof *s->mask : 0);
    free(s->tops);
    free(s->mask);
}

static void empty_tables(td_matcher *m)
{
    for (int i = 0; i < m->states_count; i++) drop_state(m, &m->states[i]);
    m->states_count = 0;
    m->nodes_count = 1;
    m->full = false;
    memset(m->node_slots, 0, 2 * m->limits.nodes * sizeof *m->node_slots);
    memset(m->state_slots, 0, 2 * m->limits.states * sizeof *m->state_slots);
}

/* Drops all states but the current one and kept[0..count); these are numbered anew, and what lies behind their bytes must be asked again. */
static void keep_states(td_matcher *m, int32_t *kept, int count)
{
    int32_t *now = m->state_slots, left = 0; /* marks, then new numbers: the hash is made anew anyway */
    memset(now, 0, 2 * m->limits.states * sizeof *now);
    now[m->current] = 1;
    for (int i = 0; i < count; i++) now[kept[i]] = 1;
    for (int i = 0; i < m->states_count; i++) {
        if (!now[i]) {
            drop_state(m, &m->states[i]);
            continue;
        }
        if (left < i) m->states[left] = m->states[i];
        for (int b = 0; b < 256; b++)
            if (m->states[left].next[b] != DEAD) m->states[left].next[b] = UNKNOWN;
        now[i] = left++;
    }
    m->states_count = left;
    m->current = now[m->current];
    for (int i = 0; i < count; i++) kept[i] = now[kept[i]];
}

/* Drops all nodes that are not below a top of the states. Their order stays: sorted tops stay sorted, parents before their children. */
static void keep_nodes(td_matcher *m)
{
    uint32_t *now = m->node_slots, left = 1; /* as above */
    memset(now, 0, 2 * m->limits.nodes * sizeof *now);
    for (int i = 0; i < m->states_count; i++)
        for (int k = 0; k < m->states[i].count; k++)
            for (uint32_t n = m->states[i].tops[k]; n && !now[n]; n = m->nodes[n].parent) now[n] = 1;
    for (uint32_t n = 1; n < m->nodes_count; n++) {
        if (!now[n]) continue;
        m->nodes[left] = (node){m->nodes[n].place, now[m->nodes[n].parent]};
        now[n] = left++;
    }
    for (int i = 0; i < m->states_count; i++)
        for (int k = 0; k < m->states[i].count; k++) m->states[i].tops[k] = now[m->states[i].tops[k]];
    m->nodes_count = left;
}

/* Empties the tables but for the current state and kept[0..count), which get new numbers, and the stacks of these. False: they alone fill so much that the
 * tables would be full again soon, and again: each time costs as much as all that was computed since the last. */
static bool make_room(td_matcher *m, int32_t *kept, int count)
{
    keep_states(m, kept, count);
    keep_nodes(m);
    memset(m->node_slots, 0, 2 * m->limits.nodes * sizeof *m->node_slots);
    memset(m->state_slots, 0, 2 * m->limits.states * sizeof *m->state_slots);
    for (uint32_t n = 1; n < m->nodes_count; n++) *node_slot(m, m->nodes[n].place, m->nodes[n].parent) = n;
    for (int i = 0; i < m->states_count; i++) *state_slot(m, m->states[i].tops, m->states[i].count, m->states[i].complete) = i + 1;
    m->full = false;
    return m->nodes_count <= m->limits.nodes / 4 * 3 && m->states_count <= (int)m->limits.states / 4 * 3 && m->held_bytes <= m->limits.held_bytes / 4 * 3;
}

/* The state behind a byte from path[count - 1]. When the tables are full room is made, and the states of the path get new numbers. */
static int32_t step(td_matcher *m, int32_t *path, int count, uint8_t byte)
{
    int32_t next = next_state(m, path[count - 1], byte);
    if (next != UNKNOWN || !make_room(m, path, count)) return next;
    return next_state(m, path[count - 1], byte);
}

/* ---- a matcher's life ---- */

static td_status no_room(const td_matcher *m)
{
    return td_fail(TD_E_UNSUPPORTED, "grammar: expected at most %d stacks at one place of a text, and at most %u elements on them, found more", STACKS_MAX, m->limits.nodes / 4 * 3);
}

td_status td_matcher_open(const td_grammar *grammar, const td_grammar_vocab *vocab, td_matcher **out) { return td_matcher_open_sized(grammar, vocab, &usual, out); }

td_status td_matcher_open_sized(const td_grammar *grammar, const td_grammar_vocab *vocab, const td_matcher_limits *limits, td_matcher **out)
{
    td_matcher *m = calloc(1, sizeof *m);
    if (m) {
        m->grammar = grammar;
        m->vocab = vocab;
        m->limits = *limits;
        m->nodes = malloc(limits->nodes * sizeof *m->nodes);
        m->node_slots = malloc(2 * limits->nodes * sizeof *m->node_slots);
        m->states = malloc(limits->states * sizeof *m->states);
        m->state_slots = malloc(2 * limits->states * sizeof *m->state_slots);
        m->work = malloc(STACKS_MAX * sizeof *m->work);
        m->seen = calloc(SEEN_MAX, sizeof *m->seen);
    }
    if (!m || !m->nodes || !m->node_slots || !m->states || !m->state_slots || !m->work || !m->seen) {
        td_matcher_close(m);
        return td_fail(TD_E_MEMORY, "grammar: no memory for a matcher");
    }
    empty_tables(m);
    m->current = start_state(m);
    if (m->current < 0) {
        td_status status = m->current == DEAD ? td_fail(TD_E_INVALID, "grammar: no text can match it") : no_room(m);
        td_matcher_close(m);
        return status;
    }
    *out = m;
    return TD_OK;
}

bool td_matcher_restart(td_matcher *m)
{
    int32_t start = start_state(m);
    if (start == UNKNOWN) {
        empty_tables(m);
        start = start_state(m);
    }
    if (start < 0) td_fail(TD_E_MEMORY, "grammar: no memory for a matcher");
    m->current = start;
    return start >= 0;
}

void td_matcher_close(td_matcher *m)
{
    if (!m) return;
    for (int i = 0; i < m->states_count; i++) drop_state(m, &m->states[i]);
    free(m->nodes);
    free(m->node_slots);
    free(m->states);
    free(m->state_slots);
    free(m->work);
    free(m->seen);
    free(m);
}

/* ---- masks ---- */

/* Bits of the tokens that the current state allows; false when the path of one token does not fit. */
static bool find_allowed(td_matcher *m)
{
    int32_t path[TOKEN_BYTES_MAX + 1];
    const td_grammar_vocab *v = m->vocab;
    size_t bytes = mask_words(m) * sizeof(uint64_t);
    if (m->held_bytes + bytes > m->limits.held_bytes) make_room(m, NULL, 0);
    uint64_t *mask = calloc(1, bytes);
    uint32_t alive = 0; /* so many leading bytes of the last token lead somewhere */
    int allowed = 0;
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
            state = step(m, path, (int)at + 1, (uint8_t)t->text[at]);
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
    m->held_bytes += bytes;
    return true;
}

int td_matcher_mask(td_matcher *m, float *logits, int vocab_size)
{
    if (!m->states[m->current].mask && !find_allowed(m)) return no_room(m);
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
    for (size_t i = 0; i < bytes && state >= 0; i++) state = step(m, &state, 1, (uint8_t)text[i]);
    if (state == DEAD) td_fail(TD_E_INVALID, "grammar: text came that it does not allow");
    if (state == UNKNOWN) no_room(m);
    if (state < 0) return false;
    m->current = state;
    return true;
}

bool td_matcher_token(td_matcher *m, int32_t id)
{
    size_t bytes;
    bool ends = td_tokenizer_is_end(m->vocab->tokenizer, id);
    if (ends && td_matcher_complete(m)) return true;
    const char *text = td_tokenizer_bytes(m->vocab->tokenizer, id, &bytes);
    if (!ends && bytes > 0 && !td_tokenizer_is_special(m->vocab->tokenizer, id)) return td_matcher_bytes(m, text, bytes);
    td_fail(TD_E_INVALID, "grammar: token %d came, %s", id, ends ? "an end, where the text is not complete" : "which is no text");
    return false;
}

bool td_matcher_complete(const td_matcher *m) { return m->states[m->current].complete; }
