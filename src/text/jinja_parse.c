/* jinja_parse.c - template source to tree: the way in, and what the parsers of expressions and statements share. See jinja_parse.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_parse.h"

td_status j_parse_fail(const j_parser *p, size_t at, const char *format, ...)
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
static void place(j_parser *p, size_t at, int *line, int *column)
{
    if (p->placed.line == 0 || at < p->placed.at) p->placed.at = 0, p->placed.line = 1, p->placed.column = 1;
    for (; p->placed.at < at; p->placed.at++) {
        p->placed.column++;
        if (p->source[p->placed.at] == '\n') p->placed.line++, p->placed.column = 1;
    }
    *line = p->placed.line;
    *column = p->placed.column;
}

td_status j_expected(const j_parser *p, const char *what)
{
    const j_token *t = peek(p);
    static const char *const names[] = {"the end", "text", "{%", "%}", "{{", "}}", "", "a string", "a number", "a number", ""};
    if (t->kind == T_NAME || t->kind == T_OP) return j_parse_fail(p, t->at, "expected %s, found '%.*s'", what, (int)TD_MIN(t->text.bytes, 60), t->text.text);
    return j_parse_fail(p, t->at, "expected %s, found %s", what, names[t->kind]);
}

td_status j_need_op(j_parser *p, const char *op)
{
    char what[8];
    snprintf(what, sizeof what, "'%s'", op);
    return take_op(p, op) ? TD_OK : j_expected(p, what);
}

td_status j_new_node(j_parser *p, j_node_kind kind, size_t at, j_node **out)
{
    j_node *node = j_get(p->pool, sizeof *node);
    if (!node) return TD_E_MEMORY;
    node->kind = kind;
    place(p, at, &node->line, &node->column);
    *out = node;
    return TD_OK;
}

td_status j_add_node(j_nodes *list, j_node *node)
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

void *j_pool_copy(j_parser *p, const void *from, size_t bytes)
{
    void *copy = j_get(p->pool, bytes + sizeof(void *)); /* of nothing, too */
    if (copy && bytes) memcpy(copy, from, bytes);
    return copy;
}

td_status j_keep(j_parser *p, j_nodes *list, j_node ***out)
{
    *out = j_pool_copy(p, list->items, (size_t)list->count * sizeof *list->items);
    free(list->items);
    *list = (j_nodes){0};
    return *out ? TD_OK : TD_E_MEMORY;
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
    j_parser p = {.pool = pool};
    char *text;
    TD_TRY(normal_source(pool, source, bytes, &text, &p.bytes));
    p.source = text;
    td_status status = j_lex(&p);
    if (status == TD_OK) status = j_parse_body(&p, no_end, out);
    free(p.tokens);
    return status;
}
