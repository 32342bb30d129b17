/*
 * jinja_parse.c - template source to tree. Tokens are made on the way; white space around tags is handled as Jinja does with trim_blocks and
 * lstrip_blocks on, which is how published chat templates are run. See jinja.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

typedef enum { T_END, T_TEXT, T_BLOCK, T_BLOCK_END, T_PRINT, T_PRINT_END, T_NAME, T_STRING, T_INT, T_FLOAT, T_OP } token_kind;

typedef struct {
    token_kind kind;
    size_t at;          /* in the source */
    j_text text;        /* name, operator; unescaped string; output text */
    int64_t integer;
    double number;
} token;

typedef struct {
    j_pool *pool;
    const char *source;
    size_t bytes;
    token *tokens;
    size_t count, capacity, next;
    int nesting;
    int in_loop;
    uint8_t uses;       /* J_VARARGS, J_KWARGS in the macro that is read */
    struct { size_t at; int line, column; } placed;
} parser;

static td_status parse_fail(const parser *p, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
static td_status parse_fail(const parser *p, size_t at, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    int line = 1, column = 1;
    for (size_t i = 0; i < at && i < p->bytes; i++) {
        column++;
        if (p->source[i] == '\n') line++, column = 1;
    }
    return td_fail(TD_E_INVALID, "template, line %d, column %d: %s", line, column, message);
}

/* Tokens come in order and a tree is built front to back, so counting lines goes on from the last place. */
static void place(parser *p, size_t at, int *line, int *column)
{
    if (p->placed.line == 0 || at < p->placed.at) p->placed.at = 0, p->placed.line = 1, p->placed.column = 1;
    for (; p->placed.at < at; p->placed.at++) {
        p->placed.column++;
        if (p->source[p->placed.at] == '\n') p->placed.line++, p->placed.column = 1;
    }
    *line = p->placed.line;
    *column = p->placed.column;
}

/* ---- tokens ---- */

static td_status put_token(parser *p, token t)
{
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 256;
        token *grown = realloc(p->tokens, capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "template: no memory for %zu tokens", capacity);
        p->tokens = grown;
        p->capacity = capacity;
    }
    p->tokens[p->count++] = t;
    return TD_OK;
}

static bool is_space_at(const char *text, size_t bytes, size_t *length)
{
    *length = td_utf8_length(text, bytes);
    if (*length == 0) return false;
    uint32_t code = td_utf8_decode(text, *length);
    return td_unicode_space(code) || (code >= 0x1C && code <= 0x1F);
}

static size_t skip_space(const parser *p, size_t at)
{
    size_t length;
    while (at < p->bytes && is_space_at(p->source + at, p->bytes - at, &length)) at += length;
    return at;
}

/* End of text[start..end) without the white space at its end. */
static size_t without_space(const parser *p, size_t start, size_t end)
{
    while (end > start) {
        size_t at = end - 1, length;
        while (at > start && ((unsigned char)p->source[at] & 0xC0) == 0x80) at--;
        if (!is_space_at(p->source + at, end - at, &length)) break;
        end = at;
    }
    return end;
}

static bool at_text(const parser *p, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= p->bytes && p->bytes - at >= n && !memcmp(p->source + at, text, n);
}

/* Output text before a tag at end: '-' takes all white space, lstrip_blocks the indentation of a tag that stands first on its line. */
static td_status put_text(parser *p, size_t start, size_t end, char sign, bool is_print, bool line_start)
{
    if (sign == '-') end = without_space(p, start, end);
    else if (sign != '+' && !is_print) {
        size_t line = end;
        while (line > start && p->source[line - 1] != '\n') line--;
        if ((line > start || line_start) && without_space(p, line, end) == line) end = line;
    }
    if (end == start) return TD_OK;
    return put_token(p, (token){.kind = T_TEXT, .at = start, .text = {p->source + start, end - start}});
}

static int hex_value(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* One escape behind a backslash at *at, as Python reads it; writes its character. */
static size_t read_escape(const parser *p, size_t *at, char *out)
{
    static const char names[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    char c = p->source[*at];
    const char *known = c ? strchr(names, c) : NULL;
    if (known) {
        *out = values[known - names];
        ++*at;
        return 1;
    }
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        uint32_t code = 0;
        int i = 0;
        for (; i < digits && *at + 1 + (size_t)i < p->bytes && hex_value(p->source[*at + 1 + (size_t)i]) >= 0; i++) code = code * 16 + (uint32_t)hex_value(p->source[*at + 1 + (size_t)i]);
        if (i == digits) {
            *at += 1 + (size_t)digits;
            return td_utf8_encode(code, out);
        }
    }
    if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        for (int i = 0; i < 3 && *at < p->bytes && p->source[*at] >= '0' && p->source[*at] <= '7'; i++) code = code * 8 + (uint32_t)(p->source[(*at)++] - '0');
        return td_utf8_encode(code, out);
    }
    if (c == '\n') {
        ++*at;
        return 0;
    }
    out[0] = '\\'; /* an unknown escape stays as it is */
    return 1;
}

static td_status lex_string(parser *p, size_t *at)
{
    size_t start = *at, end = start + 1;
    char quote = p->source[start];
    while (end < p->bytes && p->source[end] != quote) end += p->source[end] == '\\' ? 2 : 1;
    if (end >= p->bytes) return parse_fail(p, start, "expected a closing %c", quote);
    char *text = j_get(p->pool, end - start + 1);
    if (!text) return TD_E_MEMORY;
    size_t n = 0;
    for (size_t i = start + 1; i < end;) {
        if (p->source[i] != '\\') {
            text[n++] = p->source[i++];
            continue;
        }
        i++;
        n += read_escape(p, &i, text + n);
    }
    *at = end + 1;
    return put_token(p, (token){.kind = T_STRING, .at = start, .text = {text, n}});
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name_start(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80; }

static td_status lex_number(parser *p, size_t *at)
{
    char digits[64];
    size_t n = 0, i = *at;
    bool is_float = false;
    for (; i < p->bytes && n < sizeof digits - 1; i++) {
        char c = p->source[i];
        if (c == '_' && i + 1 < p->bytes && is_digit(p->source[i + 1])) continue;
        if (c == '.' && !is_float && i + 1 < p->bytes && is_digit(p->source[i + 1])) is_float = true;
        else if ((c == 'e' || c == 'E') && i + 1 < p->bytes && (is_digit(p->source[i + 1]) || (i + 2 < p->bytes && strchr("+-", p->source[i + 1]) && is_digit(p->source[i + 2])))) {
            is_float = true;
            digits[n++] = c;
            c = p->source[++i];
        } else if (!is_digit(c)) break;
        digits[n++] = c;
    }
    digits[n] = 0;
    token t = {.kind = is_float ? T_FLOAT : T_INT, .at = *at};
    if (is_float) t.number = strtod(digits, NULL);
    else {
        errno = 0;
        t.integer = strtoll(digits, NULL, 10);
        if (errno) return parse_fail(p, *at, "an integer beyond 64 bits");
    }
    *at = i;
    return put_token(p, t);
}

static size_t operator_length(const parser *p, size_t at)
{
    static const char *const two[] = {"==", "!=", ">=", "<=", "//", "**"};
    for (size_t i = 0; i < TD_COUNT(two); i++)
        if (at_text(p, at, two[i])) return 2;
    return p->source[at] && strchr("+-/*%~[](){}<>=.:|,;", p->source[at]) ? 1 : 0;
}

/* The inside of {{ }} or {% %}; *at moves behind the closing delimiter and what it trims. */
static td_status lex_inside(parser *p, size_t *at, bool print)
{
    const char *close = print ? "}}" : "%}", *close_minus = print ? "-}}" : "-%}", *close_plus = print ? "" : "+%}";
    size_t open = *at;
    char brackets[J_NESTING_MAX + 1];
    int depth = 0;
    for (;;) {
        *at = skip_space(p, *at);
        if (*at >= p->bytes) return parse_fail(p, open, "expected %s to close this tag", close);
        bool minus = at_text(p, *at, close_minus), plus = *close_plus && at_text(p, *at, close_plus);
        if (depth == 0 && (minus || plus || at_text(p, *at, close))) {
            TD_TRY(put_token(p, (token){.kind = print ? T_PRINT_END : T_BLOCK_END, .at = *at}));
            *at += minus || plus ? 3 : 2;
            if (minus) *at = skip_space(p, *at);
            else if (!print && !plus && *at < p->bytes && p->source[*at] == '\n') ++*at; /* trim_blocks */
            return TD_OK;
        }
        char c = p->source[*at];
        if (c == '"' || c == '\'') {
            TD_TRY(lex_string(p, at));
        } else if (is_digit(c)) {
            TD_TRY(lex_number(p, at));
        } else if (is_name_start((unsigned char)c)) {
            size_t end = *at;
            while (end < p->bytes && (is_name_start((unsigned char)p->source[end]) || is_digit(p->source[end]))) end++;
            TD_TRY(put_token(p, (token){.kind = T_NAME, .at = *at, .text = {p->source + *at, end - *at}}));
            *at = end;
        } else {
            size_t length = operator_length(p, *at);
            if (!length) return parse_fail(p, *at, "an unexpected character '%c' in a tag", c);
            if (strchr("([{", c)) {
                if (depth == J_NESTING_MAX) return parse_fail(p, *at, "brackets are nested deeper than %d", J_NESTING_MAX);
                brackets[depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
            } else if (strchr(")]}", c)) {
                if (depth == 0 || brackets[--depth] != c) return parse_fail(p, *at, "an unexpected '%c'", c);
            }
            TD_TRY(put_token(p, (token){.kind = T_OP, .at = *at, .text = {p->source + *at, length}}));
            *at += length;
        }
    }
}

/* At "{%": {% raw %}...{% endraw %} becomes text. *is_raw tells. */
static td_status lex_raw(parser *p, size_t *at, bool *is_raw)
{
    size_t i = *at + 2, open = *at;
    if (i < p->bytes && (p->source[i] == '-' || p->source[i] == '+')) i++;
    i = skip_space(p, i);
    *is_raw = false;
    if (!at_text(p, i, "raw")) return TD_OK;
    i = skip_space(p, i + 3);
    bool minus = at_text(p, i, "-%}");
    if (!minus && !at_text(p, i, "%}")) return TD_OK;
    i += minus ? 3 : 2;
    if (minus) i = skip_space(p, i);
    for (size_t end = i; end < p->bytes; end++) {
        if (!at_text(p, end, "{%")) continue;
        size_t j = end + 2;
        char sign = j < p->bytes ? p->source[j] : 0;
        if (sign == '-' || sign == '+') j++;
        j = skip_space(p, j);
        if (!at_text(p, j, "endraw")) continue;
        j = skip_space(p, j + 6);
        bool end_minus = at_text(p, j, "-%}"), end_plus = at_text(p, j, "+%}");
        if (!end_minus && !end_plus && !at_text(p, j, "%}")) continue;
        TD_TRY(put_text(p, i, end, sign, false, false));
        j += end_minus || end_plus ? 3 : 2;
        if (end_minus) j = skip_space(p, j);
        else if (!end_plus && j < p->bytes && p->source[j] == '\n') j++;
        *at = j;
        *is_raw = true;
        return TD_OK;
    }
    return parse_fail(p, open, "expected {%% endraw %%}");
}

static td_status lex(parser *p)
{
    size_t at = 0, start = 0;
    bool line_start = true;
    while (at < p->bytes) {
        bool block = at_text(p, at, "{%"), print = at_text(p, at, "{{"), comment = at_text(p, at, "{#");
        if (!block && !print && !comment) {
            at++;
            continue;
        }
        char sign = at + 2 < p->bytes ? p->source[at + 2] : 0;
        if (sign != '-' && (sign != '+' || print)) sign = 0;
        TD_TRY(put_text(p, start, at, sign, print, line_start));
        bool is_raw = false;
        if (block) TD_TRY(lex_raw(p, &at, &is_raw));
        if (comment) {
            size_t end = at + 2;
            while (end < p->bytes && !at_text(p, end, "#}")) end++;
            if (end >= p->bytes) return parse_fail(p, at, "expected #} to close the comment");
            char last = end > at + 2 ? p->source[end - 1] : 0;
            at = end + 2;
            if (last == '-') at = skip_space(p, at);
            else if (last != '+' && at < p->bytes && p->source[at] == '\n') at++;
        } else if (!is_raw) {
            TD_TRY(put_token(p, (token){.kind = block ? T_BLOCK : T_PRINT, .at = at}));
            at += sign ? 3 : 2;
            TD_TRY(lex_inside(p, &at, print));
        }
        start = at;
        line_start = at > 0 && p->source[at - 1] == '\n';
    }
    if (start < at) TD_TRY(put_token(p, (token){.kind = T_TEXT, .at = start, .text = {p->source + start, at - start}}));
    return put_token(p, (token){.kind = T_END, .at = p->bytes});
}

/* ---- helpers of the parser ---- */

static const token *peek(const parser *p) { return &p->tokens[p->next]; }
static bool is_op(const parser *p, const char *op) { return peek(p)->kind == T_OP && j_is(peek(p)->text, op); }
static bool is_name(const parser *p, const char *name) { return peek(p)->kind == T_NAME && j_is(peek(p)->text, name); }
static bool take_op(parser *p, const char *op) { return is_op(p, op) && p->next++ < p->count; }
static bool take_name(parser *p, const char *name) { return is_name(p, name) && p->next++ < p->count; }

static td_status expected(const parser *p, const char *what)
{
    const token *t = peek(p);
    static const char *const names[] = {"the end", "text", "{%", "%}", "{{", "}}", "", "a string", "a number", "a number", ""};
    if (t->kind == T_NAME || t->kind == T_OP) return parse_fail(p, t->at, "expected %s, found '%.*s'", what, (int)TD_MIN(t->text.bytes, 60), t->text.text);
    return parse_fail(p, t->at, "expected %s, found %s", what, names[t->kind]);
}

static td_status need_op(parser *p, const char *op)
{
    char what[8];
    snprintf(what, sizeof what, "'%s'", op);
    return take_op(p, op) ? TD_OK : expected(p, what);
}

static td_status new_node(parser *p, j_node_kind kind, size_t at, j_node **out)
{
    j_node *node = j_get(p->pool, sizeof *node);
    if (!node) return TD_E_MEMORY;
    node->kind = kind;
    place(p, at, &node->line, &node->column);
    *out = node;
    return TD_OK;
}

/* Growing list of a node under construction; copied to the pool by keep. */
typedef struct { j_node **items; int count, capacity; } node_list;

static td_status add_node(node_list *list, j_node *node)
{
    if (list->count == list->capacity) {
        int capacity = list->capacity ? list->capacity * 2 : 8;
        j_node **grown = realloc(list->items, (size_t)capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "template: no memory");
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = node;
    return TD_OK;
}

static td_status keep(parser *p, node_list *list, j_node ***out)
{
    j_node **items = j_get(p->pool, ((size_t)list->count + 1) * sizeof *items);
    if (items && list->count) memcpy(items, list->items, (size_t)list->count * sizeof *items);
    free(list->items);
    *list = (node_list){0};
    *out = items;
    return items ? TD_OK : TD_E_MEMORY;
}

static td_status enter(parser *p)
{
    if (++p->nesting > 3 * J_NESTING_MAX) return parse_fail(p, peek(p)->at, "nested deeper than %d", J_NESTING_MAX);
    return TD_OK;
}

/* ---- expressions ---- */

static td_status parse_expression(parser *p, j_node **out);
static td_status parse_or(parser *p, j_node **out);
static td_status parse_unary(parser *p, bool with_filters, j_node **out);
static td_status parse_postfix(parser *p, j_node **node);

static td_status binary(parser *p, j_node_kind kind, size_t at, j_node *a, j_node *b, j_node **out)
{
    TD_TRY(new_node(p, kind, at, out));
    (*out)->a = a;
    (*out)->b = b;
    return TD_OK;
}

/* "(" arguments ")" into list and keywords of node; the bracket is taken already. */
static td_status parse_arguments(parser *p, j_node *node)
{
    j_node *items[J_ARGS_MAX];
    j_text names[J_ARGS_MAX];
    int count = 0;
    while (!take_op(p, ")")) {
        if (count == J_ARGS_MAX) return parse_fail(p, peek(p)->at, "more than %d arguments", J_ARGS_MAX);
        if (is_op(p, "*") || is_op(p, "**")) return parse_fail(p, peek(p)->at, "*args and **kwargs in a call are not supported");
        names[count] = (j_text){NULL, 0};
        const token *after = &p->tokens[p->next + 1];
        if (peek(p)->kind == T_NAME && after->kind == T_OP && j_is(after->text, "=")) {
            names[count] = peek(p)->text;
            p->next += 2;
        } else if (count > 0 && names[count - 1].text) {
            return parse_fail(p, peek(p)->at, "a positional argument behind a keyword argument");
        }
        TD_TRY(parse_expression(p, &items[count++]));
        if (!take_op(p, ",") && !is_op(p, ")")) return expected(p, "',' or ')'");
    }
    node->count = count;
    node->list = j_get(p->pool, (size_t)(count + 1) * sizeof *node->list);
    node->keywords = j_get(p->pool, (size_t)(count + 1) * sizeof *node->keywords);
    if (!node->list || !node->keywords) return TD_E_MEMORY;
    memcpy(node->list, items, (size_t)count * sizeof *items);
    memcpy(node->keywords, names, (size_t)count * sizeof *names);
    return TD_OK;
}

static bool starts_expression(const parser *p)
{
    token_kind kind = peek(p)->kind;
    return kind == T_NAME || kind == T_STRING || kind == T_INT || kind == T_FLOAT || is_op(p, "(") || is_op(p, "[") || is_op(p, "{");
}

/* Behind "(": a bracketed expression or a tuple. */
static td_status parse_bracketed(parser *p, j_node **out)
{
    node_list list = {0};
    size_t at = peek(p)->at;
    bool comma = false;
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, ")")) {
        j_node *item;
        status = parse_expression(p, &item);
        if (status == TD_OK) status = add_node(&list, item);
        if (status < 0 || !take_op(p, ",")) break;
        comma = true;
    }
    if (status == TD_OK) status = need_op(p, ")");
    if (status == TD_OK && list.count == 1 && !comma) *out = list.items[0];
    else if (status == TD_OK && (status = new_node(p, N_TUPLE, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

static td_status parse_list(parser *p, size_t at, j_node **out)
{
    node_list list = {0};
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, "]")) {
        j_node *item;
        status = parse_expression(p, &item);
        if (status == TD_OK) status = add_node(&list, item);
        if (status < 0 || !take_op(p, ",")) break;
    }
    if (status == TD_OK) status = need_op(p, "]");
    if (status == TD_OK && (status = new_node(p, N_LIST, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

static td_status parse_dict(parser *p, size_t at, j_node **out)
{
    node_list keys = {0}, values = {0};
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, "}")) {
        j_node *key, *value;
        if ((status = parse_expression(p, &key)) < 0 || (status = need_op(p, ":")) < 0 || (status = parse_expression(p, &value)) < 0) break;
        if ((status = add_node(&keys, key)) < 0 || (status = add_node(&values, value)) < 0) break;
        if (!take_op(p, ",")) break;
    }
    if (status == TD_OK) status = need_op(p, "}");
    if (status == TD_OK) status = new_node(p, N_DICT, at, out);
    if (status == TD_OK) {
        (*out)->count = keys.count;
        status = keep(p, &keys, &(*out)->list);
    }
    if (status == TD_OK) status = keep(p, &values, &(*out)->more);
    free(keys.items);
    free(values.items);
    return status;
}

static td_status parse_strings(parser *p, j_node *node)
{
    td_buffer joined = {0};
    for (; peek(p)->kind == T_STRING; p->next++) td_buffer_put(&joined, peek(p)->text.text, peek(p)->text.bytes);
    char *text = j_get(p->pool, joined.bytes + 1);
    if (text && joined.bytes) memcpy(text, joined.data, joined.bytes);
    node->value = j_str(text, joined.bytes);
    bool failed = joined.failed;
    td_buffer_free(&joined);
    return !text || failed ? td_fail(TD_E_MEMORY, "template: no memory") : TD_OK;
}

static td_status parse_primary(parser *p, j_node **out)
{
    const token *t = peek(p);
    switch (t->kind) {
    case T_NAME:
        p->next++;
        TD_TRY(new_node(p, N_CONST, t->at, out));
        if (j_is(t->text, "true") || j_is(t->text, "True")) (*out)->value = j_bool(true);
        else if (j_is(t->text, "false") || j_is(t->text, "False")) (*out)->value = j_bool(false);
        else if (j_is(t->text, "none") || j_is(t->text, "None")) (*out)->value = j_none();
        else {
            (*out)->kind = N_NAME, (*out)->name = t->text;
            if (j_is(t->text, "varargs")) p->uses |= J_VARARGS;
            if (j_is(t->text, "kwargs")) p->uses |= J_KWARGS;
        }
        return TD_OK;
    case T_STRING:
        TD_TRY(new_node(p, N_CONST, t->at, out));
        return parse_strings(p, *out);
    case T_INT: case T_FLOAT:
        p->next++;
        TD_TRY(new_node(p, N_CONST, t->at, out));
        (*out)->value = t->kind == T_INT ? j_int(t->integer) : j_float(t->number);
        return TD_OK;
    default: break;
    }
    if (take_op(p, "(")) return parse_bracketed(p, out);
    if (take_op(p, "[")) return parse_list(p, t->at, out);
    if (take_op(p, "{")) return parse_dict(p, t->at, out);
    return expected(p, "an expression");
}

/* Behind "[": an index or a slice; a, b, c are start, stop, step. */
static td_status parse_subscript(parser *p, j_node *base, size_t at, j_node **out)
{
    j_node *parts[3] = {NULL, NULL, NULL};
    int colons = 0;
    for (;;) {
        if (take_op(p, ":")) {
            if (++colons > 2) return expected(p, "']'");
            continue;
        }
        if (take_op(p, "]")) break;
        if (parts[colons]) return expected(p, "':' or ']'");
        TD_TRY(parse_expression(p, &parts[colons]));
    }
    if (colons == 0 && !parts[0]) return parse_fail(p, at, "expected an index");
    TD_TRY(new_node(p, colons ? N_SLICE : N_ITEM, at, out));
    (*out)->a = base;
    if (!colons) {
        (*out)->b = parts[0];
        return TD_OK;
    }
    (*out)->list = j_get(p->pool, 3 * sizeof *(*out)->list);
    if (!(*out)->list) return TD_E_MEMORY;
    memcpy((*out)->list, parts, sizeof parts);
    return TD_OK;
}

static td_status parse_call(parser *p, j_node **node)
{
    j_node *call;
    TD_TRY(new_node(p, N_CALL, peek(p)->at, &call));
    call->a = *node;
    TD_TRY(parse_arguments(p, call));
    *node = call;
    return TD_OK;
}

static td_status parse_postfix(parser *p, j_node **node)
{
    for (int links = 0;; links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return parse_fail(p, at, "a chain of more than %d links", 4 * J_NESTING_MAX);
        if (take_op(p, ".")) {
            if (peek(p)->kind == T_INT) { /* tuple.0 */
                j_node *item, *index;
                TD_TRY(new_node(p, N_CONST, at, &index));
                index->value = j_int(peek(p)->integer);
                p->next++;
                TD_TRY(binary(p, N_ITEM, at, *node, index, &item));
                *node = item;
                continue;
            }
            if (peek(p)->kind != T_NAME) return expected(p, "a name behind '.'");
            j_node *attribute;
            TD_TRY(new_node(p, N_ATTRIBUTE, at, &attribute));
            attribute->a = *node;
            attribute->name = peek(p)->text;
            p->next++;
            *node = attribute;
        } else if (take_op(p, "[")) {
            j_node *item = NULL;
            TD_TRY(parse_subscript(p, *node, at, &item));
            *node = item;
        } else if (take_op(p, "(")) {
            TD_TRY(parse_call(p, node));
        } else {
            return TD_OK;
        }
    }
}

/* Name of a filter or test, found among the built-in ones. */
static td_status parse_builtin(parser *p, j_node *node, bool is_test)
{
    const token *t = peek(p);
    if (t->kind != T_NAME) return expected(p, is_test ? "the name of a test" : "the name of a filter");
    p->next++;
    node->name = t->text;
    node->builtin = is_test ? (const void *)j_find_test(t->text) : (const void *)j_find_filter(t->text);
    if (!node->builtin) return parse_fail(p, t->at, "there is no %s '%.*s' here", is_test ? "test" : "filter", (int)TD_MIN(t->text.bytes, 60), t->text.text);
    return TD_OK;
}

static td_status parse_test(parser *p, size_t at, j_node **node)
{
    j_node *test;
    TD_TRY(new_node(p, N_TEST, at, &test));
    test->a = *node;
    test->negated = take_name(p, "not");
    TD_TRY(parse_builtin(p, test, true));
    if (take_op(p, "(")) {
        TD_TRY(parse_arguments(p, test));
    } else if (starts_expression(p) && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") && !is_name(p, "if") && !is_name(p, "is") && !is_name(p, "not") && !is_name(p, "in")) {
        test->list = j_get(p->pool, sizeof *test->list);
        test->keywords = j_get(p->pool, sizeof *test->keywords);
        if (!test->list || !test->keywords) return TD_E_MEMORY;
        TD_TRY(parse_primary(p, &test->list[0]));
        TD_TRY(parse_postfix(p, &test->list[0]));
        test->count = 1;
    }
    *node = test;
    return TD_OK;
}

static td_status parse_filters(parser *p, j_node **node)
{
    for (int links = 0;; links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return parse_fail(p, at, "a chain of more than %d filters", 4 * J_NESTING_MAX);
        if (take_op(p, "|")) {
            j_node *filter;
            TD_TRY(new_node(p, N_FILTER, at, &filter));
            filter->a = *node;
            TD_TRY(parse_builtin(p, filter, false));
            if (take_op(p, "(")) TD_TRY(parse_arguments(p, filter));
            *node = filter;
        } else if (take_name(p, "is")) {
            TD_TRY(parse_test(p, at, node));
        } else if (take_op(p, "(")) {
            TD_TRY(parse_call(p, node));
        } else {
            return TD_OK;
        }
    }
}

static td_status parse_unary(parser *p, bool with_filters, j_node **out)
{
    size_t at = peek(p)->at;
    TD_TRY(enter(p));
    if (is_op(p, "-") || is_op(p, "+")) {
        bool minus = is_op(p, "-");
        p->next++;
        j_node *inner;
        TD_TRY(parse_unary(p, false, &inner));
        TD_TRY(binary(p, minus ? N_NEGATE : N_PLUS, at, inner, NULL, out));
    } else {
        TD_TRY(parse_primary(p, out));
    }
    TD_TRY(parse_postfix(p, out));
    if (with_filters) TD_TRY(parse_filters(p, out));
    p->nesting--;
    return TD_OK;
}

/* Left-associative binary operators, loosest first. */
static const struct { const char *op; j_node_kind kind; int level; } operators[] = {
    {"+", N_ADD, 0}, {"-", N_SUB, 0}, {"~", N_CONCAT, 1}, {"*", N_MUL, 2}, {"/", N_DIV, 2}, {"//", N_FLOOR, 2}, {"%", N_MOD, 2}, {"**", N_POW, 3},
};

static td_status parse_binary(parser *p, int level, j_node **out)
{
    if (level == 4) return parse_unary(p, true, out);
    TD_TRY(parse_binary(p, level + 1, out));
    for (int links = 0;; links++) {
        size_t i = 0, at = peek(p)->at;
        while (i < TD_COUNT(operators) && !(operators[i].level == level && is_op(p, operators[i].op))) i++;
        if (i == TD_COUNT(operators)) return TD_OK;
        if (links > 4 * J_NESTING_MAX) return parse_fail(p, at, "a chain of more than %d operators", 4 * J_NESTING_MAX);
        p->next++;
        j_node *right;
        TD_TRY(parse_binary(p, level + 1, &right));
        TD_TRY(binary(p, operators[i].kind, at, *out, right, out));
    }
}

static bool take_compare(parser *p, uint8_t *op)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < TD_COUNT(ops); i++)
        if (take_op(p, ops[i])) {
            *op = (uint8_t)i;
            return true;
        }
    if (take_name(p, "in")) {
        *op = C_IN;
        return true;
    }
    const token *after = &p->tokens[p->next + (peek(p)->kind != T_END)];
    if (is_name(p, "not") && after->kind == T_NAME && j_is(after->text, "in")) {
        p->next += 2;
        *op = C_NOT_IN;
        return true;
    }
    return false;
}

static td_status parse_compare(parser *p, j_node **out)
{
    enum { CHAIN_MAX = 16 };
    j_node *items[CHAIN_MAX];
    uint8_t ops[CHAIN_MAX], op;
    int count = 1;
    size_t at = peek(p)->at;
    TD_TRY(parse_binary(p, 0, &items[0]));
    while (take_compare(p, &op)) {
        if (count == CHAIN_MAX) return parse_fail(p, at, "a chain of more than %d comparisons", CHAIN_MAX);
        ops[count - 1] = op;
        TD_TRY(parse_binary(p, 0, &items[count++]));
    }
    if (count == 1) {
        *out = items[0];
        return TD_OK;
    }
    TD_TRY(new_node(p, N_COMPARE, at, out));
    (*out)->count = count;
    (*out)->list = j_get(p->pool, sizeof items);
    (*out)->ops = j_get(p->pool, sizeof ops);
    if (!(*out)->list || !(*out)->ops) return TD_E_MEMORY;
    memcpy((*out)->list, items, (size_t)count * sizeof *items);
    memcpy((*out)->ops, ops, (size_t)count - 1);
    return TD_OK;
}

static td_status parse_not(parser *p, j_node **out)
{
    size_t at = peek(p)->at;
    if (!take_name(p, "not")) return parse_compare(p, out);
    TD_TRY(enter(p));
    j_node *inner;
    TD_TRY(parse_not(p, &inner));
    p->nesting--;
    return binary(p, N_NOT, at, inner, NULL, out);
}

static td_status parse_and(parser *p, j_node **out)
{
    TD_TRY(parse_not(p, out));
    for (int links = 0; is_name(p, "and"); links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return parse_fail(p, at, "a chain of more than %d operators", 4 * J_NESTING_MAX);
        p->next++;
        j_node *right;
        TD_TRY(parse_not(p, &right));
        TD_TRY(binary(p, N_AND, at, *out, right, out));
    }
    return TD_OK;
}

static td_status parse_or(parser *p, j_node **out)
{
    TD_TRY(parse_and(p, out));
    for (int links = 0; is_name(p, "or"); links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return parse_fail(p, at, "a chain of more than %d operators", 4 * J_NESTING_MAX);
        p->next++;
        j_node *right;
        TD_TRY(parse_and(p, &right));
        TD_TRY(binary(p, N_OR, at, *out, right, out));
    }
    return TD_OK;
}

/* a if condition else b */
static td_status parse_expression(parser *p, j_node **out)
{
    TD_TRY(enter(p));
    TD_TRY(parse_or(p, out));
    for (size_t at = peek(p)->at; take_name(p, "if"); at = peek(p)->at) {
        j_node *condition, *otherwise = NULL, *node;
        TD_TRY(parse_or(p, &condition));
        if (take_name(p, "else")) TD_TRY(parse_expression(p, &otherwise));
        TD_TRY(binary(p, N_IF_ELSE, at, *out, otherwise, &node));
        node->c = condition;
        *out = node;
    }
    p->nesting--;
    return TD_OK;
}

/* Expressions with commas between are a tuple. without_if: "if" belongs to the statement. */
static td_status parse_tuple(parser *p, bool without_if, j_node **out)
{
    node_list list = {0};
    size_t at = peek(p)->at;
    td_status status = without_if ? parse_or(p, out) : parse_expression(p, out);
    if (status < 0 || !is_op(p, ",")) return status;
    status = add_node(&list, *out);
    while (status == TD_OK && take_op(p, ",") && starts_expression(p)) {
        j_node *item;
        status = without_if ? parse_or(p, &item) : parse_expression(p, &item);
        if (status == TD_OK) status = add_node(&list, item);
    }
    if (status == TD_OK && (status = new_node(p, N_TUPLE, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

/* ---- statements ---- */

static td_status parse_body(parser *p, const char *const *ends, j_node **out);
static td_status block_end(parser *p) { return peek(p)->kind == T_BLOCK_END && p->next++ < p->count ? TD_OK : expected(p, "%}"); }

static bool ends_here(const parser *p, const char *const *ends)
{
    if (peek(p)->kind != T_BLOCK || p->next + 1 >= p->count || p->tokens[p->next + 1].kind != T_NAME) return false;
    for (int i = 0; ends[i]; i++)
        if (j_is(p->tokens[p->next + 1].text, ends[i])) return true;
    return false;
}

/* Body up to "{% name %}", which is taken with its end. */
static td_status parse_until(parser *p, const char *name, j_node **out)
{
    const char *const ends[] = {name, NULL};
    TD_TRY(block_end(p));
    TD_TRY(parse_body(p, ends, out));
    if (!ends_here(p, ends)) return parse_fail(p, peek(p)->at, "expected {%% %s %%}", name);
    p->next += 2;
    if (!strcmp(name, "endmacro") && peek(p)->kind == T_NAME) p->next++;
    return block_end(p);
}

/* A name, a tuple of names, or namespace.attribute. */
static td_status parse_target(parser *p, bool attributes, j_node **out)
{
    node_list list = {0};
    size_t at = peek(p)->at;
    bool bracket = take_op(p, "("), comma = false;
    td_status status = TD_OK;
    do {
        if (peek(p)->kind != T_NAME) {
            if (comma) break;
            status = expected(p, "a name to assign to");
            break;
        }
        j_node *name;
        if ((status = new_node(p, N_NAME, peek(p)->at, &name)) < 0) break;
        name->name = peek(p)->text;
        p->next++;
        if (attributes && take_op(p, ".")) {
            if (peek(p)->kind != T_NAME) {
                status = expected(p, "the name of an attribute");
                break;
            }
            j_node *attribute;
            if ((status = new_node(p, N_ATTRIBUTE, peek(p)->at, &attribute)) < 0) break;
            attribute->a = name;
            attribute->name = peek(p)->text;
            p->next++;
            name = attribute;
        }
        status = add_node(&list, name);
    } while (status == TD_OK && take_op(p, ",") && (comma = true));
    if (status == TD_OK && bracket) status = need_op(p, ")");
    if (status == TD_OK && list.count == 1 && !comma) *out = list.items[0];
    else if (status == TD_OK && (status = new_node(p, N_TUPLE, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

/* list: conditions, more: bodies; c: else. */
static td_status parse_if(parser *p, j_node *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    node_list conditions = {0}, bodies = {0};
    td_status status;
    for (;;) {
        j_node *condition, *body;
        if ((status = parse_tuple(p, true, &condition)) < 0 || (status = block_end(p)) < 0 || (status = parse_body(p, ends, &body)) < 0) break;
        if ((status = add_node(&conditions, condition)) < 0 || (status = add_node(&bodies, body)) < 0) break;
        if (!ends_here(p, ends)) {
            status = parse_fail(p, peek(p)->at, "expected {%% endif %%}");
            break;
        }
        j_text name = p->tokens[p->next + 1].text;
        p->next += 2;
        if (j_is(name, "elif")) continue;
        status = j_is(name, "else") ? parse_until(p, "endif", &node->c) : block_end(p);
        break;
    }
    node->count = conditions.count;
    if (status == TD_OK) status = keep(p, &conditions, &node->list);
    if (status == TD_OK) status = keep(p, &bodies, &node->more);
    free(conditions.items);
    free(bodies.items);
    return status;
}

/* a: target, b: iterable, c: body; list[0]: condition, list[1]: else body (either NULL). */
static td_status parse_for(parser *p, j_node *node)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    node->list = j_get(p->pool, 2 * sizeof *node->list);
    if (!node->list) return TD_E_MEMORY;
    TD_TRY(parse_target(p, false, &node->a));
    if (!take_name(p, "in")) return expected(p, "'in'");
    TD_TRY(parse_tuple(p, true, &node->b));
    if (take_name(p, "if")) TD_TRY(parse_expression(p, &node->list[0]));
    node->recursive = take_name(p, "recursive");
    TD_TRY(block_end(p));
    p->in_loop++;
    TD_TRY(parse_body(p, ends, &node->c));
    p->in_loop--;
    if (!ends_here(p, ends)) return parse_fail(p, peek(p)->at, "expected {%% endfor %%}");
    bool otherwise = j_is(p->tokens[p->next + 1].text, "else");
    p->next += 2;
    return otherwise ? parse_until(p, "endfor", &node->list[1]) : block_end(p);
}

/* a: target, b: expression; or N_SET_BLOCK with c: body and b: a chain of filters over NULL. */
static td_status parse_set(parser *p, j_node *node)
{
    TD_TRY(parse_target(p, true, &node->a));
    if (take_op(p, "=")) {
        TD_TRY(parse_tuple(p, false, &node->b));
        return block_end(p);
    }
    node->kind = N_SET_BLOCK;
    if (is_op(p, "|")) TD_TRY(parse_filters(p, &node->b));
    int in_loop = p->in_loop;
    p->in_loop = 0;
    TD_TRY(parse_until(p, "endset", &node->c));
    p->in_loop = in_loop;
    return TD_OK;
}

/* Parameters "(a, b=1)" into list (names) and more (defaults or NULL); the bracket is taken. */
static td_status parse_parameters(parser *p, j_node *node)
{
    j_node *names[J_ARGS_MAX], *defaults[J_ARGS_MAX];
    int count = 0;
    while (!take_op(p, ")")) {
        if (count == J_ARGS_MAX) return parse_fail(p, peek(p)->at, "more than %d parameters", J_ARGS_MAX);
        if (peek(p)->kind != T_NAME) return expected(p, "the name of a parameter");
        TD_TRY(new_node(p, N_NAME, peek(p)->at, &names[count]));
        names[count]->name = peek(p)->text;
        p->next++;
        defaults[count] = NULL;
        if (take_op(p, "=")) TD_TRY(parse_expression(p, &defaults[count]));
        count++;
        if (!take_op(p, ",") && !is_op(p, ")")) return expected(p, "',' or ')'");
    }
    node->count = count;
    node->list = j_get(p->pool, (size_t)(count + 1) * sizeof *node->list);
    node->more = j_get(p->pool, (size_t)(count + 1) * sizeof *node->more);
    if (!node->list || !node->more) return TD_E_MEMORY;
    memcpy(node->list, names, (size_t)count * sizeof *names);
    memcpy(node->more, defaults, (size_t)count * sizeof *defaults);
    return TD_OK;
}

/* Body of something that a loop outside cannot be left from. */
static td_status parse_apart(parser *p, const char *end, j_node **out)
{
    int in_loop = p->in_loop;
    p->in_loop = 0;
    TD_TRY(parse_until(p, end, out));
    p->in_loop = in_loop;
    return TD_OK;
}

static td_status parse_macro(parser *p, j_node *node)
{
    if (peek(p)->kind != T_NAME) return expected(p, "the name of a macro");
    node->name = peek(p)->text;
    p->next++;
    TD_TRY(need_op(p, "("));
    TD_TRY(parse_parameters(p, node));
    uint8_t outside = p->uses;
    p->uses = 0;
    TD_TRY(parse_apart(p, "endmacro", &node->c));
    node->uses = p->uses;
    p->uses |= outside;
    return TD_OK;
}

/* a: the call, c: body, list and more: the caller's parameters. */
static td_status parse_call_block(parser *p, j_node *node)
{
    if (take_op(p, "(")) TD_TRY(parse_parameters(p, node));
    TD_TRY(parse_expression(p, &node->a));
    if (node->a->kind != N_CALL) return parse_fail(p, peek(p)->at, "expected a call");
    return parse_apart(p, "endcall", &node->c);
}

/* list: targets, more: values, c: body */
static td_status parse_with(parser *p, j_node *node)
{
    node_list targets = {0}, values = {0};
    td_status status = TD_OK;
    while (peek(p)->kind != T_BLOCK_END) {
        j_node *target, *value;
        if (targets.count && (status = need_op(p, ",")) < 0) break;
        if (peek(p)->kind != T_NAME) {
            status = expected(p, "a name");
            break;
        }
        if ((status = new_node(p, N_NAME, peek(p)->at, &target)) < 0) break;
        target->name = peek(p)->text;
        p->next++;
        if ((status = need_op(p, "=")) < 0 || (status = parse_expression(p, &value)) < 0) break;
        if ((status = add_node(&targets, target)) < 0 || (status = add_node(&values, value)) < 0) break;
    }
    node->count = targets.count;
    if (status == TD_OK) status = keep(p, &targets, &node->list);
    if (status == TD_OK) status = keep(p, &values, &node->more);
    free(targets.items);
    free(values.items);
    return status < 0 ? status : parse_until(p, "endwith", &node->c);
}

static td_status parse_filter_block(parser *p, j_node *node)
{
    TD_TRY(new_node(p, N_FILTER, peek(p)->at, &node->b));
    TD_TRY(parse_builtin(p, node->b, false));
    if (take_op(p, "(")) TD_TRY(parse_arguments(p, node->b));
    TD_TRY(parse_filters(p, &node->b));
    return parse_apart(p, "endfilter", &node->c);
}

static td_status parse_generation(parser *p, j_node *node)
{
    node->list = j_get(p->pool, sizeof *node->list);
    node->count = 1;
    return node->list ? parse_until(p, "endgeneration", &node->list[0]) : TD_E_MEMORY;
}

static const struct { const char *name; j_node_kind kind; td_status (*parse)(parser *p, j_node *node); } statements[] = {
    {"if", N_IF, parse_if}, {"for", N_FOR, parse_for}, {"set", N_SET, parse_set}, {"macro", N_MACRO, parse_macro}, {"call", N_CALL_BLOCK, parse_call_block},
    {"with", N_WITH, parse_with}, {"filter", N_FILTER_BLOCK, parse_filter_block}, {"generation", N_BODY, parse_generation},
};

static td_status parse_statement(parser *p, j_node **out)
{
    const token *t = peek(p);
    if (t->kind != T_NAME) return expected(p, "a statement");
    p->next++;
    for (size_t i = 0; i < TD_COUNT(statements); i++)
        if (j_is(t->text, statements[i].name)) {
            TD_TRY(new_node(p, statements[i].kind, t->at, out));
            return statements[i].parse(p, *out);
        }
    bool is_break = j_is(t->text, "break");
    if (is_break || j_is(t->text, "continue")) {
        if (!p->in_loop) return parse_fail(p, t->at, "%s outside of a loop", is_break ? "break" : "continue");
        TD_TRY(new_node(p, is_break ? N_BREAK : N_CONTINUE, t->at, out));
        return block_end(p);
    }
    return parse_fail(p, t->at, "the statement '%.*s' is not known or not supported", (int)TD_MIN(t->text.bytes, 60), t->text.text);
}

static td_status parse_body(parser *p, const char *const *ends, j_node **out)
{
    node_list list = {0};
    size_t at = peek(p)->at;
    td_status status = ++p->nesting > 3 * J_NESTING_MAX ? parse_fail(p, at, "nested deeper than %d", J_NESTING_MAX) : TD_OK;
    while (status == TD_OK && peek(p)->kind != T_END && !ends_here(p, ends)) {
        const token *t = peek(p);
        j_node *node = NULL;
        p->next++;
        if (t->kind == T_TEXT) {
            if ((status = new_node(p, N_TEXT, t->at, &node)) == TD_OK) node->value = j_str(t->text.text, t->text.bytes);
        } else if (t->kind == T_PRINT) {
            if ((status = new_node(p, N_OUTPUT, t->at, &node)) == TD_OK && (status = parse_tuple(p, false, &node->a)) == TD_OK && peek(p)->kind != T_PRINT_END) status = expected(p, "}}");
            if (status == TD_OK) p->next++;
        } else {
            status = parse_statement(p, &node);
        }
        if (status == TD_OK) status = add_node(&list, node);
    }
    p->nesting--;
    if (status == TD_OK && (status = new_node(p, N_BODY, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

/* Line ends become \n and one at the very end goes, as Jinja does. */
static td_status normal_source(j_pool *pool, const char *source, size_t bytes, char **out, size_t *out_bytes)
{
    char *text = j_get(pool, bytes + 1);
    if (!text) return TD_E_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (source[i] == '\r') {
            text[n++] = '\n';
            i += i + 1 < bytes && source[i + 1] == '\n';
        } else {
            text[n++] = source[i];
        }
    }
    if (n > 0 && text[n - 1] == '\n') n--;
    *out = text;
    *out_bytes = n;
    return TD_OK;
}

td_status j_parse(j_pool *pool, const char *source, size_t bytes, j_node **out)
{
    static const char *const no_end[] = {NULL};
    if (bytes > J_SOURCE_MAX) return td_fail(TD_E_INVALID, "template: expected at most %d bytes, found %zu", J_SOURCE_MAX, bytes);
    for (size_t i = 0, length; i < bytes; i += length)
        if ((length = td_utf8_length(source + i, bytes - i)) == 0) return td_fail(TD_E_INVALID, "template: expected UTF-8, found a bad byte at %zu", i);
    parser p = {.pool = pool};
    char *text;
    TD_TRY(normal_source(pool, source, bytes, &text, &p.bytes));
    p.source = text;
    td_status status = lex(&p);
    if (status == TD_OK) status = parse_body(&p, no_end, out);
    free(p.tokens);
    return status;
}
