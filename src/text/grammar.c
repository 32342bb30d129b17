/*
 * grammar.c - GBNF to rules over bytes. An element is a range of bytes, a reference to a rule, or the end of an alternative; a class of characters becomes
 * a rule whose alternatives are sequences of byte ranges (UTF-8), a repetition a rule of its own. See grammar.h and grammar_parts.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/grammar_parts.h"

enum { DEPTH_MAX = 64, REPEAT_MAX = 2000, RANGES_MAX = 256 };

typedef struct { uint32_t low, high; } code_range;

typedef struct {
    td_grammar *g;
    const char *text;
    size_t bytes, at;
    int depth;
} gbnf;

static td_status gbnf_fail(const gbnf *p, const char *what)
{
    int line = 1;
    for (size_t i = 0; i < p->at && i < p->bytes; i++) line += p->text[i] == '\n';
    return td_fail(TD_E_INVALID, "grammar, line %d, byte %zu: %s", line, p->at, what);
}

/* ---- rules under construction ---- */

/* An alternative grows in a buffer of elements; rules take finished ones. */
typedef struct { td_element *items; size_t count, capacity; } sequence;

static td_status put_element(sequence *s, td_element e)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 16;
        td_element *grown = capacity > TD_GRAMMAR_ELEMENTS_MAX ? NULL : realloc(s->items, capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_INVALID, "grammar: expected at most %d elements", TD_GRAMMAR_ELEMENTS_MAX);
        s->items = grown;
        s->capacity = capacity;
    }
    s->items[s->count++] = e;
    return TD_OK;
}

static td_status new_rule(td_grammar *g, int *out)
{
    if (g->rules_count == g->rules_capacity) {
        int capacity = g->rules_capacity ? g->rules_capacity * 2 : 64;
        td_rule *grown = capacity > TD_GRAMMAR_ELEMENTS_MAX ? NULL : realloc(g->rules, (size_t)capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_INVALID, "grammar: expected at most %d rules", TD_GRAMMAR_ELEMENTS_MAX);
        g->rules = grown;
        g->rules_capacity = capacity;
    }
    g->rules[g->rules_count] = (td_rule){0};
    *out = g->rules_count++;
    return TD_OK;
}

/* Appends an alternative (END is added here) to a rule. */
static td_status add_alternative(td_grammar *g, int rule, const td_element *items, size_t count)
{
    td_rule *r = &g->rules[rule];
    if (g->elements_count + count + 1 > TD_GRAMMAR_ELEMENTS_MAX) return td_fail(TD_E_INVALID, "grammar: expected at most %d elements", TD_GRAMMAR_ELEMENTS_MAX);
    if (g->elements_count + count + 1 > g->elements_capacity) {
        size_t capacity = TD_MAX(g->elements_capacity * 2, g->elements_count + count + 256);
        td_element *grown = realloc(g->elements, capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "grammar: no memory");
        g->elements = grown;
        g->elements_capacity = capacity;
    }
    uint32_t *starts = realloc(r->starts, ((size_t)r->count + 1) * sizeof *starts);
    if (!starts) return td_fail(TD_E_MEMORY, "grammar: no memory");
    r->starts = starts;
    r->starts[r->count++] = (uint32_t)g->elements_count;
    if (count) memcpy(g->elements + g->elements_count, items, count * sizeof *items);
    g->elements_count += count;
    g->elements[g->elements_count++] = (td_element){.kind = TD_ELEMENT_END};
    return TD_OK;
}

/* ---- characters as bytes ---- */

static td_element byte_range(uint32_t low, uint32_t high) { return (td_element){.kind = TD_ELEMENT_BYTES, .low = (uint8_t)low, .high = (uint8_t)high}; }

/* Sequences of byte ranges for the code points low..high, which have the same UTF-8 length. */
static td_status add_range_of_length(td_grammar *g, int rule, const unsigned char *low, const unsigned char *high, size_t length, td_element *prefix, size_t depth)
{
    if (depth + 1 == length || low[0] == high[0]) {
        prefix[depth] = byte_range(low[0], high[0]);
        return depth + 1 == length ? add_alternative(g, rule, prefix, length) : add_range_of_length(g, rule, low + 1, high + 1, length, prefix, depth + 1);
    }
    static const unsigned char least[3] = {0x80, 0x80, 0x80}, most[3] = {0xBF, 0xBF, 0xBF};
    bool from_least = !memcmp(low + 1, least, length - depth - 1), to_most = !memcmp(high + 1, most, length - depth - 1);
    unsigned first = low[0] + !from_least, last = high[0] - !to_most;
    if (!from_least) {
        prefix[depth] = byte_range(low[0], low[0]);
        TD_TRY(add_range_of_length(g, rule, low + 1, most, length, prefix, depth + 1));
    }
    if (first <= last) {
        prefix[depth] = byte_range(first, last);
        TD_TRY(add_range_of_length(g, rule, least, most, length, prefix, depth + 1));
    }
    if (to_most) return TD_OK;
    prefix[depth] = byte_range(high[0], high[0]);
    return add_range_of_length(g, rule, least, high + 1, length, prefix, depth + 1);
}

static td_status add_code_range(td_grammar *g, int rule, uint32_t low, uint32_t high)
{
    static const uint32_t limits[] = {0x7F, 0x7FF, 0xD7FF, 0xFFFF, 0x10FFFF}; /* surrogates are no characters */
    for (size_t i = 0; i < TD_COUNT(limits) && low <= high; i++) {
        if (low > limits[i]) continue;
        if (low >= 0xD800 && low <= 0xDFFF) low = 0xE000;
        uint32_t end = TD_MIN(high, limits[i]);
        char a[4], b[4];
        td_element prefix[4];
        if (low > end) continue;
        size_t length = td_utf8_encode(low, a);
        td_utf8_encode(end, b);
        if (!(end >= 0xD800 && end <= 0xDFFF)) TD_TRY(add_range_of_length(g, rule, (unsigned char *)a, (unsigned char *)b, length, prefix, 0));
        low = end + 1;
    }
    return TD_OK;
}

static int by_low(const void *a, const void *b)
{
    const code_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

/* A rule that matches one character of the ranges (or none of them). */
static td_status class_rule(td_grammar *g, code_range *ranges, size_t count, bool negated, int *out)
{
    TD_TRY(new_rule(g, out));
    if (count) qsort(ranges, count, sizeof *ranges, by_low);
    uint32_t next = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t low = TD_MAX(ranges[i].low, next);
        if (low > ranges[i].high) continue;
        if (negated && low > next) TD_TRY(add_code_range(g, *out, next, low - 1));
        if (!negated) TD_TRY(add_code_range(g, *out, low, ranges[i].high));
        next = ranges[i].high + 1;
    }
    return negated && next <= 0x10FFFF ? add_code_range(g, *out, next, 0x10FFFF) : TD_OK;
}

/* ---- GBNF text ---- */

static void skip_blank(gbnf *p, bool lines)
{
    while (p->at < p->bytes) {
        char c = p->text[p->at];
        if (c == '#') while (p->at < p->bytes && p->text[p->at] != '\n') p->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) p->at++;
        else break;
    }
}

static char here(const gbnf *p) { return p->at < p->bytes ? p->text[p->at] : 0; }
static bool name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

/* Rule number of a name, made when it is new. */
static td_status rule_of(td_grammar *g, const char *name, size_t bytes, int *out)
{
    int32_t id = td_vocab_find(&g->names, name, bytes);
    if (id >= 0) {
        *out = g->named[id];
        return TD_OK;
    }
    TD_TRY(new_rule(g, out));
    int *grown = realloc(g->named, ((size_t)g->names.count + 1) * sizeof *grown);
    if (!grown) return td_fail(TD_E_MEMORY, "grammar: no memory");
    g->named = grown;
    g->named[g->names.count] = *out;
    return td_vocab_add(&g->names, g->names.count, name, bytes);
}

static td_status read_char(gbnf *p, uint32_t *out)
{
    size_t length = td_utf8_length(p->text + p->at, p->bytes - p->at);
    if (length == 0) return gbnf_fail(p, "expected UTF-8");
    *out = td_utf8_decode(p->text + p->at, length);
    p->at += length;
    if (*out != '\\') return TD_OK;
    char c = here(p);
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    static const char names[] = "nrt\\\"[]^-/", values[] = "\n\r\t\\\"[]^-/";
    const char *known = c ? strchr(names, c) : NULL;
    if (known) *out = (unsigned char)values[known - names];
    else if (!digits) return gbnf_fail(p, "expected \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH, \\uHHHH or \\UHHHHHHHH");
    p->at++;
    if (known) return TD_OK;
    *out = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        const char *hex = "0123456789abcdef", *place = here(p) ? strchr(hex, here(p) | ((here(p) >= 'A') ? 0x20 : 0)) : NULL;
        if (!place) return gbnf_fail(p, "expected a hex digit");
        *out = *out * 16 + (uint32_t)(place - hex);
    }
    return *out > 0x10FFFF ? gbnf_fail(p, "expected a code point of at most 10FFFF") : TD_OK;
}

static td_status parse_literal(gbnf *p, sequence *s)
{
    p->at++;
    while (here(p) != '"') {
        uint32_t code;
        char text[4];
        if (p->at >= p->bytes) return gbnf_fail(p, "expected a closing \"");
        TD_TRY(read_char(p, &code));
        size_t length = td_utf8_encode(code, text);
        for (size_t i = 0; i < length; i++) TD_TRY(put_element(s, byte_range((unsigned char)text[i], (unsigned char)text[i])));
    }
    p->at++;
    return TD_OK;
}

static td_status parse_class(gbnf *p, sequence *s)
{
    code_range ranges[RANGES_MAX];
    size_t count = 0;
    p->at++;
    bool negated = here(p) == '^';
    p->at += negated;
    while (here(p) != ']') {
        if (p->at >= p->bytes) return gbnf_fail(p, "expected a closing ]");
        if (count == RANGES_MAX) return gbnf_fail(p, "a class of more than 256 ranges");
        TD_TRY(read_char(p, &ranges[count].low));
        ranges[count].high = ranges[count].low;
        if (here(p) == '-' && p->at + 1 < p->bytes && p->text[p->at + 1] != ']') {
            p->at++;
            TD_TRY(read_char(p, &ranges[count].high));
        }
        if (ranges[count].high < ranges[count].low) return gbnf_fail(p, "a range that ends before it starts");
        count++;
    }
    p->at++;
    int rule = -1;
    TD_TRY(class_rule(p->g, ranges, count, negated, &rule));
    return put_element(s, (td_element){.kind = TD_ELEMENT_RULE, .rule = (uint32_t)rule});
}

/* x{low,high}: one rule for x, and for each optional repeat a rule that may stop; high -1: a rule that calls itself. */
static td_status repeat(gbnf *p, sequence *s, size_t from, int low, int high)
{
    td_grammar *g = p->g;
    int unit = -1, tail = -1;
    TD_TRY(new_rule(g, &unit));
    TD_TRY(add_alternative(g, unit, s->items + from, s->count - from));
    s->count = from;
    td_element one = {.kind = TD_ELEMENT_RULE, .rule = (uint32_t)unit};
    if (high < 0) {
        TD_TRY(new_rule(g, &tail));
        td_element both[] = {one, {.kind = TD_ELEMENT_RULE, .rule = (uint32_t)tail}};
        TD_TRY(add_alternative(g, tail, both, 2));
        TD_TRY(add_alternative(g, tail, NULL, 0));
    }
    for (int i = low; i < high; i++) {
        int next = -1;
        TD_TRY(new_rule(g, &next));
        td_element both[] = {one, {.kind = TD_ELEMENT_RULE, .rule = (uint32_t)TD_MAX(tail, 0)}};
        TD_TRY(add_alternative(g, next, both, tail < 0 ? 1 : 2));
        TD_TRY(add_alternative(g, next, NULL, 0));
        tail = next;
    }
    for (int i = 0; i < low; i++) TD_TRY(put_element(s, one));
    return tail < 0 ? TD_OK : put_element(s, (td_element){.kind = TD_ELEMENT_RULE, .rule = (uint32_t)tail});
}

static bool read_count(gbnf *p, int *out)
{
    int value = -1;
    while (here(p) >= '0' && here(p) <= '9' && value <= REPEAT_MAX) value = TD_MAX(value, 0) * 10 + p->text[p->at++] - '0';
    if (value >= 0) *out = value;
    return value >= 0;
}

static td_status parse_repeat(gbnf *p, sequence *s, size_t from)
{
    char c = here(p);
    int low = c == '+', high = c == '?' ? 1 : -1;
    p->at++;
    if (c == '{') {
        skip_blank(p, false);
        bool given = read_count(p, &low);
        skip_blank(p, false);
        high = given ? low : -1;
        if (here(p) == ',') {
            p->at++;
            skip_blank(p, false);
            high = -1;
            if (!read_count(p, &high) && !given) return gbnf_fail(p, "expected a number in {m,n}");
            skip_blank(p, false);
        } else if (!given) {
            return gbnf_fail(p, "expected a number in {m,n}");
        }
        if (here(p) != '}') return gbnf_fail(p, "expected }");
        p->at++;
        if (low > REPEAT_MAX || high > REPEAT_MAX || (high >= 0 && high < low)) return gbnf_fail(p, "expected at most 2000 repeats, in order");
    }
    if (from == s->count) return TD_OK; /* nothing, however often */
    return repeat(p, s, from, low, high);
}

static td_status parse_alternatives(gbnf *p, int rule, bool nested);

static td_status parse_sequence(gbnf *p, sequence *s, bool nested)
{
    for (;;) {
        skip_blank(p, nested);
        size_t from = s->count;
        char c = here(p);
        if (c == '"') TD_TRY(parse_literal(p, s));
        else if (c == '[') TD_TRY(parse_class(p, s));
        else if (c == '.') {
            int rule = -1;
            p->at++;
            TD_TRY(class_rule(p->g, NULL, 0, true, &rule));
            TD_TRY(put_element(s, (td_element){.kind = TD_ELEMENT_RULE, .rule = (uint32_t)rule}));
        } else if (c == '(') {
            int rule = -1;
            if (++p->depth > DEPTH_MAX) return gbnf_fail(p, "groups are nested deeper than 64");
            p->at++;
            TD_TRY(new_rule(p->g, &rule));
            TD_TRY(parse_alternatives(p, rule, true));
            if (here(p) != ')') return gbnf_fail(p, "expected )");
            p->at++;
            p->depth--;
            TD_TRY(put_element(s, (td_element){.kind = TD_ELEMENT_RULE, .rule = (uint32_t)rule}));
        } else if (name_char(c)) {
            size_t start = p->at;
            int rule;
            while (name_char(here(p))) p->at++;
            size_t length = p->at - start;
            size_t after = p->at;
            skip_blank(p, false);
            if (p->bytes - p->at >= 3 && !memcmp(p->text + p->at, "::=", 3)) { /* the next rule of a file whose lines go on */
                p->at = start;
                return TD_OK;
            }
            p->at = after;
            TD_TRY(rule_of(p->g, p->text + start, length, &rule));
            TD_TRY(put_element(s, (td_element){.kind = TD_ELEMENT_RULE, .rule = (uint32_t)rule}));
        } else {
            return TD_OK;
        }
        while (here(p) && strchr("*+?{", here(p))) TD_TRY(parse_repeat(p, s, from));
    }
}

static td_status parse_alternatives(gbnf *p, int rule, bool nested)
{
    for (;;) {
        sequence s = {0};
        td_status status = parse_sequence(p, &s, nested);
        if (status == TD_OK) status = add_alternative(p->g, rule, s.items, s.count);
        free(s.items);
        TD_TRY(status);
        size_t end = p->at;
        skip_blank(p, true);
        if (here(p) != '|') {
            if (!nested) p->at = end;
            return TD_OK;
        }
        p->at++;
        skip_blank(p, true);
    }
}

static td_status parse_rules(gbnf *p)
{
    for (skip_blank(p, true); p->at < p->bytes; skip_blank(p, true)) {
        size_t start = p->at;
        int rule;
        while (name_char(here(p))) p->at++;
        if (p->at == start) return gbnf_fail(p, "expected the name of a rule");
        TD_TRY(rule_of(p->g, p->text + start, p->at - start, &rule));
        skip_blank(p, false);
        if (p->bytes - p->at < 3 || memcmp(p->text + p->at, "::=", 3)) return gbnf_fail(p, "expected ::=");
        p->at += 3;
        if (p->g->rules[rule].count) return gbnf_fail(p, "a rule that is there already");
        skip_blank(p, true);
        TD_TRY(parse_alternatives(p, rule, false));
        skip_blank(p, false);
        if (p->at < p->bytes && here(p) != '\n' && here(p) != '\r') return gbnf_fail(p, "expected the end of the rule");
    }
    return TD_OK;
}

/* ---- checks ---- */

/* Rules that may match nothing; found by going round until nothing changes. */
static void find_empty(const td_grammar *g, uint8_t *empty)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int r = 0; r < g->rules_count; r++)
            for (int a = 0; a < g->rules[r].count && !empty[r]; a++) {
                const td_element *e = g->elements + g->rules[r].starts[a];
                while (e->kind == TD_ELEMENT_RULE && empty[e->rule]) e++;
                if (e->kind == TD_ELEMENT_END) empty[r] = changed = true;
            }
    }
}

typedef struct { int rule, alternative; const td_element *e; bool grows; } visit; /* grows: the reference under way is not the last of its alternative */

static visit visit_rule(const td_grammar *g, int rule) { return (visit){rule, 0, g->elements + g->rules[rule].starts[0], false}; }

/* From the rule that is visited again down to the last: does a round leave something behind? Otherwise it only repeats itself, which the matcher notices. */
static bool round_grows(const visit *stack, size_t depth, int rule)
{
    for (size_t i = depth; i-- > 0;) {
        if (stack[i].grows) return true;
        if (stack[i].rule == rule) return false;
    }
    return false;
}

/* A rule that can come back to itself before any byte, with ever more to do, would go on for ever. Depth first with a stack of its own: 1 on the way, 2 done. */
static td_status refuse_left_recursion(const td_grammar *g)
{
    size_t n = (size_t)g->rules_count;
    uint8_t *empty = calloc(n, 1), *mark = calloc(n, 1);
    visit *stack = malloc((n + 1) * sizeof *stack);
    bool found = false, memory = empty && mark && stack;
    if (memory) find_empty(g, empty);
    for (int root = 0; memory && root < g->rules_count && !found; root++) {
        if (mark[root] || g->rules[root].count == 0) continue;
        stack[0] = visit_rule(g, root);
        mark[root] = 1;
        for (size_t depth = 1; depth > 0 && !found;) {
            visit *top = &stack[depth - 1];
            const td_element *e = top->e;
            if (!e || e->kind != TD_ELEMENT_RULE) {
                if (++top->alternative < g->rules[top->rule].count) top->e = g->elements + g->rules[top->rule].starts[top->alternative];
                else mark[top->rule] = 2, depth--;
                continue;
            }
            int next = (int)e->rule;
            top->e = empty[next] ? e + 1 : NULL;
            top->grows = e[1].kind != TD_ELEMENT_END;
            found = mark[next] == 1 && round_grows(stack, depth, next);
            if (mark[next] || g->rules[next].count == 0) continue;
            mark[next] = 1;
            stack[depth++] = visit_rule(g, next);
        }
    }
    free(empty);
    free(mark);
    free(stack);
    if (!memory) return td_fail(TD_E_MEMORY, "grammar: no memory");
    return found ? td_fail(TD_E_INVALID, "grammar: expected no left recursion, found a rule that begins with itself") : TD_OK;
}

static td_status check(td_grammar *g)
{
    int32_t root = td_vocab_find(&g->names, "root", 4);
    if (root < 0) return td_fail(TD_E_INVALID, "grammar: expected a rule 'root', found none");
    g->root = g->named[root];
    for (int32_t i = 0; i < g->names.count; i++) {
        size_t bytes;
        const char *name = td_vocab_text(&g->names, i, &bytes);
        if (g->rules[g->named[i]].count == 0) return td_fail(TD_E_INVALID, "grammar: the rule '%.*s' is used and not defined", (int)TD_MIN(bytes, 60), name);
    }
    return refuse_left_recursion(g);
}

td_status td_grammar_from_gbnf(const char *text, size_t bytes, td_grammar **out)
{
    if (bytes > TD_GRAMMAR_TEXT_MAX) return td_fail(TD_E_INVALID, "grammar: expected at most %d bytes, found %zu", TD_GRAMMAR_TEXT_MAX, bytes);
    td_grammar *g = calloc(1, sizeof *g);
    if (!g) return td_fail(TD_E_MEMORY, "grammar: no memory");
    gbnf p = {.g = g, .text = text, .bytes = bytes};
    td_status status = parse_rules(&p);
    if (status == TD_OK) status = check(g);
    if (status == TD_OK) *out = g;
    else td_grammar_close(g);
    return status;
}

void td_grammar_close(td_grammar *g)
{
    if (!g) return;
    for (int i = 0; i < g->rules_count; i++) free(g->rules[i].starts);
    free(g->rules);
    free(g->elements);
    free(g->named);
    td_vocab_free(&g->names);
    free(g);
}
