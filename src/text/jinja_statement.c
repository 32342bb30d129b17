/* jinja_statement.c - {% tags %} of a template, the bodies between them, and {{ output }}. See jinja_parse.h. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_parse.h"

static td_status block_end(j_parser *p) { return peek(p)->kind == T_BLOCK_END && p->next++ < p->count ? TD_OK : j_expected(p, "%}"); }

static bool ends_here(const j_parser *p, const char *const *ends)
{
    if (peek(p)->kind != T_BLOCK || p->next + 1 >= p->count || p->tokens[p->next + 1].kind != T_NAME) return false;
    for (int i = 0; ends[i]; i++)
        if (j_is(p->tokens[p->next + 1].text, ends[i])) return true;
    return false;
}

/* Body up to "{% name %}", which is taken with its end. */
static td_status parse_until(j_parser *p, const char *name, j_node **out)
{
    const char *const ends[] = {name, NULL};
    TD_TRY(block_end(p));
    TD_TRY(j_parse_body(p, ends, out));
    if (!ends_here(p, ends)) return j_parse_fail(p, peek(p)->at, "expected {%% %s %%}", name);
    p->next += 2;
    if (!strcmp(name, "endmacro") && peek(p)->kind == T_NAME) p->next++;
    return block_end(p);
}

/* A name, a tuple of names, or namespace.attribute. */
static td_status parse_target(j_parser *p, bool attributes, j_node **out)
{
    j_nodes list = {0};
    size_t at = peek(p)->at;
    bool bracket = take_op(p, "("), comma = false;
    td_status status = TD_OK;
    do {
        if (peek(p)->kind != T_NAME) {
            if (comma) break;
            status = j_expected(p, "a name to assign to");
            break;
        }
        j_node *name;
        if ((status = j_new_node(p, N_NAME, peek(p)->at, &name)) < 0) break;
        name->name = peek(p)->text;
        p->next++;
        if (attributes && take_op(p, ".")) {
            if (peek(p)->kind != T_NAME) {
                status = j_expected(p, "the name of an attribute");
                break;
            }
            j_node *attribute;
            if ((status = j_new_node(p, N_ATTRIBUTE, peek(p)->at, &attribute)) < 0) break;
            attribute->a = name;
            attribute->name = peek(p)->text;
            p->next++;
            name = attribute;
        }
        status = j_add_node(&list, name);
    } while (status == TD_OK && take_op(p, ",") && (comma = true));
    if (status == TD_OK && bracket) status = j_need_op(p, ")");
    return j_tuple(p, status, &list, comma, at, out);
}

/* list: conditions, more: bodies; c: else. */
static td_status parse_if(j_parser *p, j_node *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    j_nodes conditions = {0}, bodies = {0};
    td_status status;
    for (;;) {
        j_node *condition, *body;
        if ((status = j_parse_tuple(p, true, &condition)) < 0 || (status = block_end(p)) < 0 || (status = j_parse_body(p, ends, &body)) < 0) break;
        if ((status = j_add_node(&conditions, condition)) < 0 || (status = j_add_node(&bodies, body)) < 0) break;
        if (!ends_here(p, ends)) {
            status = j_parse_fail(p, peek(p)->at, "expected {%% endif %%}");
            break;
        }
        j_text name = p->tokens[p->next + 1].text;
        p->next += 2;
        if (j_is(name, "elif")) continue;
        status = j_is(name, "else") ? parse_until(p, "endif", &node->c) : block_end(p);
        break;
    }
    node->count = conditions.count;
    if (status == TD_OK) status = j_keep(p, &conditions, &node->list);
    if (status == TD_OK) status = j_keep(p, &bodies, &node->more);
    free(conditions.items);
    free(bodies.items);
    return status;
}

/* a: target, b: iterable, c: body; list[0]: condition, list[1]: else body (either NULL). */
static td_status parse_for(j_parser *p, j_node *node)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    node->list = j_get(p->pool, 2 * sizeof *node->list);
    if (!node->list) return TD_E_MEMORY;
    TD_TRY(parse_target(p, false, &node->a));
    if (!take_name(p, "in")) return j_expected(p, "'in'");
    TD_TRY(j_parse_tuple(p, true, &node->b));
    if (take_name(p, "if")) TD_TRY(j_parse_expression(p, &node->list[0]));
    node->recursive = take_name(p, "recursive");
    TD_TRY(block_end(p));
    p->in_loop++;
    TD_TRY(j_parse_body(p, ends, &node->c));
    p->in_loop--;
    if (!ends_here(p, ends)) return j_parse_fail(p, peek(p)->at, "expected {%% endfor %%}");
    bool otherwise = j_is(p->tokens[p->next + 1].text, "else");
    p->next += 2;
    return otherwise ? parse_until(p, "endfor", &node->list[1]) : block_end(p);
}

/* a: target, b: expression; or N_SET_BLOCK with c: body and b: a chain of filters over NULL. */
static td_status parse_set(j_parser *p, j_node *node)
{
    TD_TRY(parse_target(p, true, &node->a));
    if (take_op(p, "=")) {
        TD_TRY(j_parse_tuple(p, false, &node->b));
        return block_end(p);
    }
    node->kind = N_SET_BLOCK;
    if (is_op(p, "|")) TD_TRY(j_parse_filters(p, &node->b));
    int in_loop = p->in_loop;
    p->in_loop = 0;
    TD_TRY(parse_until(p, "endset", &node->c));
    p->in_loop = in_loop;
    return TD_OK;
}

/* Parameters "(a, b=1)" into list (names) and more (defaults or NULL); the bracket is taken. */
static td_status parse_parameters(j_parser *p, j_node *node)
{
    j_node *names[J_ARGS_MAX], *defaults[J_ARGS_MAX];
    int count = 0;
    while (!take_op(p, ")")) {
        if (count == J_ARGS_MAX) return j_parse_fail(p, peek(p)->at, "more than %d parameters", J_ARGS_MAX);
        if (peek(p)->kind != T_NAME) return j_expected(p, "the name of a parameter");
        TD_TRY(j_new_node(p, N_NAME, peek(p)->at, &names[count]));
        names[count]->name = peek(p)->text;
        p->next++;
        defaults[count] = NULL;
        if (take_op(p, "=")) TD_TRY(j_parse_expression(p, &defaults[count]));
        count++;
        if (!take_op(p, ",") && !is_op(p, ")")) return j_expected(p, "',' or ')'");
    }
    node->count = count;
    node->list = j_pool_copy(p, names, (size_t)count * sizeof *names);
    node->more = j_pool_copy(p, defaults, (size_t)count * sizeof *defaults);
    return node->list && node->more ? TD_OK : TD_E_MEMORY;
}

/* Body of something that a loop outside cannot be left from. */
static td_status parse_apart(j_parser *p, const char *end, j_node **out)
{
    int in_loop = p->in_loop;
    p->in_loop = 0;
    TD_TRY(parse_until(p, end, out));
    p->in_loop = in_loop;
    return TD_OK;
}

static td_status parse_macro(j_parser *p, j_node *node)
{
    if (peek(p)->kind != T_NAME) return j_expected(p, "the name of a macro");
    node->name = peek(p)->text;
    p->next++;
    TD_TRY(j_need_op(p, "("));
    TD_TRY(parse_parameters(p, node));
    uint8_t outside = p->uses;
    p->uses = 0;
    TD_TRY(parse_apart(p, "endmacro", &node->c));
    node->uses = p->uses;
    p->uses |= outside;
    return TD_OK;
}

/* a: the call, c: body, list and more: the caller's parameters. */
static td_status parse_call_block(j_parser *p, j_node *node)
{
    if (take_op(p, "(")) TD_TRY(parse_parameters(p, node));
    TD_TRY(j_parse_expression(p, &node->a));
    if (node->a->kind != N_CALL) return j_parse_fail(p, peek(p)->at, "expected a call");
    return parse_apart(p, "endcall", &node->c);
}

/* list: targets, more: values, c: body */
static td_status parse_with(j_parser *p, j_node *node)
{
    j_nodes targets = {0}, values = {0};
    td_status status = TD_OK;
    while (peek(p)->kind != T_BLOCK_END) {
        j_node *target, *value;
        if (targets.count && (status = j_need_op(p, ",")) < 0) break;
        if (peek(p)->kind != T_NAME) {
            status = j_expected(p, "a name");
            break;
        }
        if ((status = j_new_node(p, N_NAME, peek(p)->at, &target)) < 0) break;
        target->name = peek(p)->text;
        p->next++;
        if ((status = j_need_op(p, "=")) < 0 || (status = j_parse_expression(p, &value)) < 0) break;
        if ((status = j_add_node(&targets, target)) < 0 || (status = j_add_node(&values, value)) < 0) break;
    }
    node->count = targets.count;
    if (status == TD_OK) status = j_keep(p, &targets, &node->list);
    if (status == TD_OK) status = j_keep(p, &values, &node->more);
    free(targets.items);
    free(values.items);
    return status < 0 ? status : parse_until(p, "endwith", &node->c);
}

static td_status parse_filter_block(j_parser *p, j_node *node)
{
    TD_TRY(j_new_node(p, N_FILTER, peek(p)->at, &node->b));
    TD_TRY(j_parse_builtin(p, node->b, false));
    if (take_op(p, "(")) TD_TRY(j_parse_arguments(p, node->b));
    TD_TRY(j_parse_filters(p, &node->b));
    return parse_apart(p, "endfilter", &node->c);
}

static td_status parse_generation(j_parser *p, j_node *node)
{
    node->list = j_get(p->pool, sizeof *node->list);
    node->count = 1;
    return node->list ? parse_until(p, "endgeneration", &node->list[0]) : TD_E_MEMORY;
}

static const struct { const char *name; j_node_kind kind; td_status (*parse)(j_parser *p, j_node *node); } statements[] = {
    {"if", N_IF, parse_if}, {"for", N_FOR, parse_for}, {"set", N_SET, parse_set}, {"macro", N_MACRO, parse_macro}, {"call", N_CALL_BLOCK, parse_call_block},
    {"with", N_WITH, parse_with}, {"filter", N_FILTER_BLOCK, parse_filter_block}, {"generation", N_BODY, parse_generation},
};

static td_status parse_statement(j_parser *p, j_node **out)
{
    const j_token *t = peek(p);
    if (t->kind != T_NAME) return j_expected(p, "a statement");
    p->next++;
    for (size_t i = 0; i < TD_COUNT(statements); i++)
        if (j_is(t->text, statements[i].name)) {
            TD_TRY(j_new_node(p, statements[i].kind, t->at, out));
            return statements[i].parse(p, *out);
        }
    bool is_break = j_is(t->text, "break");
    if (is_break || j_is(t->text, "continue")) {
        if (!p->in_loop) return j_parse_fail(p, t->at, "%s outside of a loop", is_break ? "break" : "continue");
        TD_TRY(j_new_node(p, is_break ? N_BREAK : N_CONTINUE, t->at, out));
        return block_end(p);
    }
    return j_parse_fail(p, t->at, "the statement '%.*s' is not known or not supported", (int)TD_MIN(t->text.bytes, 60), t->text.text);
}

td_status j_parse_body(j_parser *p, const char *const *ends, j_node **out)
{
    j_nodes list = {0};
    size_t at = peek(p)->at;
    td_status status = ++p->nesting > 3 * J_NESTING_MAX ? j_parse_fail(p, at, "nested deeper than %d", J_NESTING_MAX) : TD_OK;
    while (status == TD_OK && peek(p)->kind != T_END && !ends_here(p, ends)) {
        const j_token *t = peek(p);
        j_node *node = NULL;
        p->next++;
        if (t->kind == T_TEXT) {
            if ((status = j_new_node(p, N_TEXT, t->at, &node)) == TD_OK) node->value = j_str(t->text.text, t->text.bytes);
        } else if (t->kind == T_PRINT) {
            if ((status = j_new_node(p, N_OUTPUT, t->at, &node)) == TD_OK && (status = j_parse_tuple(p, false, &node->a)) == TD_OK && peek(p)->kind != T_PRINT_END) status = j_expected(p, "}}");
            if (status == TD_OK) p->next++;
        } else {
            status = parse_statement(p, &node);
        }
        if (status == TD_OK) status = j_add_node(&list, node);
    }
    p->nesting--;
    if (status == TD_OK && (status = j_new_node(p, N_BODY, at, out)) == TD_OK) {
        (*out)->count = list.count;
        return j_keep(p, &list, &(*out)->list);
    }
    free(list.items);
    return status;
}
