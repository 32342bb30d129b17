/* jinja_expression.c - expressions of a template, from tuples and "a if b else c" down to names and literals. See jinja_parse.h. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_parse.h"

static td_status enter(j_parser *p)
{
    if (++p->nesting > 3 * J_NESTING_MAX) return j_parse_fail(p, peek(p)->at, "nested deeper than %d", J_NESTING_MAX);
    return TD_OK;
}

static td_status parse_or(j_parser *p, j_node **out);
static td_status parse_unary(j_parser *p, bool with_filters, j_node **out);
static td_status parse_postfix(j_parser *p, j_node **node);

static td_status binary(j_parser *p, j_node_kind kind, size_t at, j_node *a, j_node *b, j_node **out)
{
    TD_TRY(j_new_node(p, kind, at, out));
    (*out)->a = a;
    (*out)->b = b;
    return TD_OK;
}

/* "(" arguments ")" into list and keywords of node; the bracket is taken already. */
td_status j_parse_arguments(j_parser *p, j_node *node)
{
    j_node *items[J_ARGS_MAX];
    j_text names[J_ARGS_MAX];
    int count = 0;
    while (!take_op(p, ")")) {
        if (count == J_ARGS_MAX) return j_parse_fail(p, peek(p)->at, "more than %d arguments", J_ARGS_MAX);
        if (is_op(p, "*") || is_op(p, "**")) return j_parse_fail(p, peek(p)->at, "*args and **kwargs in a call are not supported");
        names[count] = (j_text){NULL, 0};
        const j_token *after = &p->tokens[p->next + 1];
        if (peek(p)->kind == T_NAME && after->kind == T_OP && j_is(after->text, "=")) {
            names[count] = peek(p)->text;
            p->next += 2;
        } else if (count > 0 && names[count - 1].text) {
            return j_parse_fail(p, peek(p)->at, "a positional argument behind a keyword argument");
        }
        TD_TRY(j_parse_expression(p, &items[count++]));
        if (!take_op(p, ",") && !is_op(p, ")")) return j_expected(p, "',' or ')'");
    }
    node->count = count;
    node->list = j_pool_copy(p, items, (size_t)count * sizeof *items);
    node->keywords = j_pool_copy(p, names, (size_t)count * sizeof *names);
    return node->list && node->keywords ? TD_OK : TD_E_MEMORY;
}

static bool starts_expression(const j_parser *p)
{
    j_token_kind kind = peek(p)->kind;
    return kind == T_NAME || kind == T_STRING || kind == T_INT || kind == T_FLOAT || is_op(p, "(") || is_op(p, "[") || is_op(p, "{");
}

td_status j_tuple(j_parser *p, td_status status, j_nodes *list, bool comma, size_t at, j_node **out)
{
    if (status == TD_OK && list->count == 1 && !comma) *out = list->items[0];
    else if (status == TD_OK && (status = j_new_node(p, N_TUPLE, at, out)) == TD_OK) {
        (*out)->count = list->count;
        return j_keep(p, list, &(*out)->list);
    }
    free(list->items);
    return status;
}

/* Behind "(": a bracketed expression or a tuple. */
static td_status parse_bracketed(j_parser *p, j_node **out)
{
    j_nodes list = {0};
    size_t at = peek(p)->at;
    bool comma = false;
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, ")")) {
        j_node *item;
        status = j_parse_expression(p, &item);
        if (status == TD_OK) status = j_add_node(&list, item);
        if (status < 0 || !take_op(p, ",")) break;
        comma = true;
    }
    if (status == TD_OK) status = j_need_op(p, ")");
    return j_tuple(p, status, &list, comma, at, out);
}

static td_status parse_list(j_parser *p, size_t at, j_node **out)
{
    j_nodes list = {0};
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, "]")) {
        j_node *item;
        status = j_parse_expression(p, &item);
        if (status == TD_OK) status = j_add_node(&list, item);
        if (status < 0 || !take_op(p, ",")) break;
    }
    if (status == TD_OK) status = j_need_op(p, "]");
    if (status == TD_OK && (status = j_new_node(p, N_LIST, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return j_keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}

static td_status parse_dict(j_parser *p, size_t at, j_node **out)
{
    j_nodes keys = {0}, values = {0};
    td_status status = TD_OK;
    while (status == TD_OK && !is_op(p, "}")) {
        j_node *key, *value;
        if ((status = j_parse_expression(p, &key)) < 0 || (status = j_need_op(p, ":")) < 0 || (status = j_parse_expression(p, &value)) < 0) break;
        if ((status = j_add_node(&keys, key)) < 0 || (status = j_add_node(&values, value)) < 0) break;
        if (!take_op(p, ",")) break;
    }
    if (status == TD_OK) status = j_need_op(p, "}");
    if (status == TD_OK) status = j_new_node(p, N_DICT, at, out);
    if (status == TD_OK) {
        (*out)->count = keys.count;
        status = j_keep(p, &keys, &(*out)->list);
    }
    if (status == TD_OK) status = j_keep(p, &values, &(*out)->more);
    free(keys.items);
    free(values.items);
    return status;
}

static td_status parse_strings(j_parser *p, j_node *node)
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

static td_status parse_primary(j_parser *p, j_node **out)
{
    const j_token *t = peek(p);
    switch (t->kind) {
    case T_NAME:
        p->next++;
        TD_TRY(j_new_node(p, N_CONST, t->at, out));
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
        TD_TRY(j_new_node(p, N_CONST, t->at, out));
        return parse_strings(p, *out);
    case T_INT: case T_FLOAT:
        p->next++;
        TD_TRY(j_new_node(p, N_CONST, t->at, out));
        (*out)->value = t->kind == T_INT ? j_int(t->integer) : j_float(t->number);
        return TD_OK;
    default: break;
    }
    if (take_op(p, "(")) return parse_bracketed(p, out);
    if (take_op(p, "[")) return parse_list(p, t->at, out);
    if (take_op(p, "{")) return parse_dict(p, t->at, out);
    return j_expected(p, "an expression");
}

/* Behind "[": an index or a slice; a, b, c are start, stop, step. */
static td_status parse_subscript(j_parser *p, j_node *base, size_t at, j_node **out)
{
    j_node *parts[3] = {NULL, NULL, NULL};
    int colons = 0;
    for (;;) {
        if (take_op(p, ":")) {
            if (++colons > 2) return j_expected(p, "']'");
            continue;
        }
        if (take_op(p, "]")) break;
        if (parts[colons]) return j_expected(p, "':' or ']'");
        TD_TRY(j_parse_expression(p, &parts[colons]));
    }
    if (colons == 0 && !parts[0]) return j_parse_fail(p, at, "expected an index");
    TD_TRY(j_new_node(p, colons ? N_SLICE : N_ITEM, at, out));
    (*out)->a = base;
    if (!colons) {
        (*out)->b = parts[0];
        return TD_OK;
    }
    (*out)->list = j_pool_copy(p, parts, sizeof parts);
    return (*out)->list ? TD_OK : TD_E_MEMORY;
}

static td_status parse_call(j_parser *p, j_node **node)
{
    j_node *call;
    TD_TRY(j_new_node(p, N_CALL, peek(p)->at, &call));
    call->a = *node;
    TD_TRY(j_parse_arguments(p, call));
    *node = call;
    return TD_OK;
}

static td_status parse_postfix(j_parser *p, j_node **node)
{
    for (int links = 0;; links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return j_parse_fail(p, at, "a chain of more than %d links", 4 * J_NESTING_MAX);
        if (take_op(p, ".")) {
            if (peek(p)->kind == T_INT) { /* tuple.0 */
                j_node *item, *index;
                TD_TRY(j_new_node(p, N_CONST, at, &index));
                index->value = j_int(peek(p)->integer);
                p->next++;
                TD_TRY(binary(p, N_ITEM, at, *node, index, &item));
                *node = item;
                continue;
            }
            if (peek(p)->kind != T_NAME) return j_expected(p, "a name behind '.'");
            j_node *attribute;
            TD_TRY(j_new_node(p, N_ATTRIBUTE, at, &attribute));
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
td_status j_parse_builtin(j_parser *p, j_node *node, bool is_test)
{
    const j_token *t = peek(p);
    if (t->kind != T_NAME) return j_expected(p, is_test ? "the name of a test" : "the name of a filter");
    p->next++;
    node->name = t->text;
    node->builtin = is_test ? (const void *)j_find_test(t->text) : (const void *)j_find_filter(t->text);
    if (!node->builtin) return j_parse_fail(p, t->at, "there is no %s '%.*s' here", is_test ? "test" : "filter", (int)TD_MIN(t->text.bytes, 60), t->text.text);
    return TD_OK;
}

static td_status parse_test(j_parser *p, size_t at, j_node **node)
{
    j_node *test;
    TD_TRY(j_new_node(p, N_TEST, at, &test));
    test->a = *node;
    test->negated = take_name(p, "not");
    TD_TRY(j_parse_builtin(p, test, true));
    if (take_op(p, "(")) {
        TD_TRY(j_parse_arguments(p, test));
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

td_status j_parse_filters(j_parser *p, j_node **node)
{
    for (int links = 0;; links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return j_parse_fail(p, at, "a chain of more than %d filters", 4 * J_NESTING_MAX);
        if (take_op(p, "|")) {
            j_node *filter;
            TD_TRY(j_new_node(p, N_FILTER, at, &filter));
            filter->a = *node;
            TD_TRY(j_parse_builtin(p, filter, false));
            if (take_op(p, "(")) TD_TRY(j_parse_arguments(p, filter));
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

static td_status parse_unary(j_parser *p, bool with_filters, j_node **out)
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
    if (with_filters) TD_TRY(j_parse_filters(p, out));
    p->nesting--;
    return TD_OK;
}

/* Left-associative binary operators, loosest first. */
static const struct { const char *op; j_node_kind kind; int level; } operators[] = {
    {"+", N_ADD, 0}, {"-", N_SUB, 0}, {"~", N_CONCAT, 1}, {"*", N_MUL, 2}, {"/", N_DIV, 2}, {"//", N_FLOOR, 2}, {"%", N_MOD, 2}, {"**", N_POW, 3},
};

static td_status parse_binary(j_parser *p, int level, j_node **out)
{
    if (level == 4) return parse_unary(p, true, out);
    TD_TRY(parse_binary(p, level + 1, out));
    for (int links = 0;; links++) {
        size_t i = 0, at = peek(p)->at;
        while (i < TD_COUNT(operators) && !(operators[i].level == level && is_op(p, operators[i].op))) i++;
        if (i == TD_COUNT(operators)) return TD_OK;
        if (links > 4 * J_NESTING_MAX) return j_parse_fail(p, at, "a chain of more than %d operators", 4 * J_NESTING_MAX);
        p->next++;
        j_node *right;
        TD_TRY(parse_binary(p, level + 1, &right));
        TD_TRY(binary(p, operators[i].kind, at, *out, right, out));
    }
}

static bool take_compare(j_parser *p, uint8_t *op)
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
    const j_token *after = &p->tokens[p->next + (peek(p)->kind != T_END)];
    if (is_name(p, "not") && after->kind == T_NAME && j_is(after->text, "in")) {
        p->next += 2;
        *op = C_NOT_IN;
        return true;
    }
    return false;
}

static td_status parse_compare(j_parser *p, j_node **out)
{
    enum { CHAIN_MAX = 16 };
    j_node *items[CHAIN_MAX];
    uint8_t ops[CHAIN_MAX], op;
    int count = 1;
    size_t at = peek(p)->at;
    TD_TRY(parse_binary(p, 0, &items[0]));
    while (take_compare(p, &op)) {
        if (count == CHAIN_MAX) return j_parse_fail(p, at, "a chain of more than %d comparisons", CHAIN_MAX);
        ops[count - 1] = op;
        TD_TRY(parse_binary(p, 0, &items[count++]));
    }
    if (count == 1) {
        *out = items[0];
        return TD_OK;
    }
    TD_TRY(j_new_node(p, N_COMPARE, at, out));
    (*out)->count = count;
    (*out)->list = j_pool_copy(p, items, (size_t)count * sizeof *items);
    (*out)->ops = j_pool_copy(p, ops, (size_t)count - 1);
    return (*out)->list && (*out)->ops ? TD_OK : TD_E_MEMORY;
}

static td_status parse_not(j_parser *p, j_node **out)
{
    size_t at = peek(p)->at;
    if (!take_name(p, "not")) return parse_compare(p, out);
    TD_TRY(enter(p));
    j_node *inner;
    TD_TRY(parse_not(p, &inner));
    p->nesting--;
    return binary(p, N_NOT, at, inner, NULL, out);
}

/* Parts joined by a word, from the left. */
static td_status parse_joined(j_parser *p, const char *word, j_node_kind kind, td_status (*part)(j_parser *, j_node **), j_node **out)
{
    TD_TRY(part(p, out));
    for (int links = 0; is_name(p, word); links++) {
        size_t at = peek(p)->at;
        if (links > 4 * J_NESTING_MAX) return j_parse_fail(p, at, "a chain of more than %d operators", 4 * J_NESTING_MAX);
        p->next++;
        j_node *right;
        TD_TRY(part(p, &right));
        TD_TRY(binary(p, kind, at, *out, right, out));
    }
    return TD_OK;
}

static td_status parse_and(j_parser *p, j_node **out) { return parse_joined(p, "and", N_AND, parse_not, out); }
static td_status parse_or(j_parser *p, j_node **out) { return parse_joined(p, "or", N_OR, parse_and, out); }

/* a if condition else b */
td_status j_parse_expression(j_parser *p, j_node **out)
{
    TD_TRY(enter(p));
    TD_TRY(parse_or(p, out));
    for (size_t at = peek(p)->at; take_name(p, "if"); at = peek(p)->at) {
        j_node *condition, *otherwise = NULL, *node;
        TD_TRY(parse_or(p, &condition));
        if (take_name(p, "else")) TD_TRY(j_parse_expression(p, &otherwise));
        TD_TRY(binary(p, N_IF_ELSE, at, *out, otherwise, &node));
        node->c = condition;
        *out = node;
    }
    p->nesting--;
    return TD_OK;
}

/* Expressions with commas between are a tuple. without_if: "if" belongs to the statement. */
td_status j_parse_tuple(j_parser *p, bool without_if, j_node **out)
{
    j_nodes list = {0};
    size_t at = peek(p)->at;
    td_status status = without_if ? parse_or(p, out) : j_parse_expression(p, out);
    if (status < 0 || !is_op(p, ",")) return status;
    status = j_add_node(&list, *out);
    while (status == TD_OK && take_op(p, ",") && starts_expression(p)) {
        j_node *item;
        status = without_if ? parse_or(p, &item) : j_parse_expression(p, &item);
        if (status == TD_OK) status = j_add_node(&list, item);
    }
    if (status == TD_OK && (status = j_new_node(p, N_TUPLE, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return j_keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}
