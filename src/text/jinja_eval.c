/* jinja_eval.c - running expressions: variables and their frames, literals, operators and calls by their kind. See jinja_run.h. */
#include "text/jinja_run.h"

/* ---- variables ---- */

td_status j_set_var(j_run *run, j_text name, j_value value) { return j_dict_put(run, &run->frame->vars, j_str(name.text, name.bytes), value); }

td_status j_get_var(j_run *run, j_text name, j_value *out)
{
    for (const j_frame *f = run->frame; f; f = f->parent) {
        j_value *found;
        TD_TRY(j_dict_find(run, &f->vars, j_str(name.text, name.bytes), &found));
        if (found) {
            *out = *found;
            return TD_OK;
        }
    }
    *out = j_is_function(name) ? (j_value){.kind = J_FUNCTION, .text = name} : j_undefined(name);
    return TD_OK;
}

td_status j_push_frame(j_run *run, j_frame *parent)
{
    j_frame *frame = j_get(&run->pool, sizeof *frame);
    if (!frame) return TD_E_INVALID;
    frame->parent = parent;
    run->frame = frame;
    return TD_OK;
}

td_status j_assign(j_run *run, const j_node *target, j_value value)
{
    run->node = target;
    if (target->kind == N_NAME) return j_set_var(run, target->name, value);
    if (target->kind == N_ATTRIBUTE) {
        j_value space;
        TD_TRY(j_get_var(run, target->a->name, &space));
        if (space.kind != J_NAMESPACE) return j_fail(run, "cannot assign attribute on non-namespace object");
        return j_dict_put(run, space.dict, j_str(target->name.text, target->name.bytes), value);
    }
    j_list *items;
    TD_TRY(j_iterate(run, value, &items));
    if (items->count != (size_t)target->count) return j_fail(run, "expected %d values to unpack, found %zu", target->count, items->count);
    for (int i = 0; i < target->count; i++) TD_TRY(j_assign(run, target->list[i], items->items[i]));
    return TD_OK;
}

/* ---- expressions ---- */

static td_status evaluate_filter(j_run *run, const j_node *node, j_value *out)
{
    j_value v;
    j_args args;
    TD_TRY(j_evaluate(run, node->a, &v));
    TD_TRY(j_evaluate_args(run, node, &args));
    const j_builtin *builtin = node->builtin;
    TD_TRY(builtin->fn(run, v, &args, out));
    if (node->kind == N_TEST) *out = j_bool(j_truth(*out) != node->negated);
    return TD_OK;
}

static td_status evaluate_list(j_run *run, const j_node *node, j_value *out)
{
    TD_TRY(j_list_new(run, node->kind == N_LIST ? J_LIST : J_TUPLE, (size_t)node->count, out));
    for (int i = 0; i < node->count; i++) {
        j_value v;
        TD_TRY(j_evaluate(run, node->list[i], &v));
        TD_TRY(j_list_put(run, out->list, v));
    }
    return TD_OK;
}

static td_status evaluate_dict(j_run *run, const j_node *node, j_value *out)
{
    TD_TRY(j_dict_new(run, out));
    for (int i = 0; i < node->count; i++) {
        j_value key, value;
        TD_TRY(j_evaluate(run, node->list[i], &key));
        TD_TRY(j_evaluate(run, node->more[i], &value));
        if (key.kind == J_LIST || key.kind == J_DICT) return j_fail(run, "unhashable type: '%s'", j_type(key));
        TD_TRY(j_dict_put(run, out->dict, key, value));
    }
    return TD_OK;
}

static td_status evaluate(j_run *run, const j_node *node, j_value *out)
{
    j_value a, b;
    switch (node->kind) {
    case N_CONST: *out = node->value; return TD_OK;
    case N_NAME: return j_get_var(run, node->name, out);
    case N_LIST: case N_TUPLE: return evaluate_list(run, node, out);
    case N_DICT: return evaluate_dict(run, node, out);
    case N_IF_ELSE:
        TD_TRY(j_evaluate(run, node->c, &a));
        if (j_truth(a)) return j_evaluate(run, node->a, out);
        if (node->b) return j_evaluate(run, node->b, out);
        *out = j_undefined(J_TEXT("the inline if-expression"));
        return TD_OK;
    case N_OR: case N_AND:
        TD_TRY(j_evaluate(run, node->a, out));
        return j_truth(*out) == (node->kind == N_OR) ? TD_OK : j_evaluate(run, node->b, out);
    case N_NOT:
        TD_TRY(j_evaluate(run, node->a, &a));
        *out = j_bool(!j_truth(a));
        return TD_OK;
    case N_COMPARE: return j_compare_chain(run, node, out);
    case N_ADD: case N_SUB: case N_MUL: case N_DIV: case N_FLOOR: case N_MOD: case N_POW: return j_operate(run, node, out);
    case N_CONCAT: return j_concatenate(run, node, out);
    case N_NEGATE: case N_PLUS: return j_negate(run, node, out);
    case N_ATTRIBUTE:
        TD_TRY(j_evaluate(run, node->a, &a));
        run->node = node;
        return j_attribute(run, a, node->name, out);
    case N_ITEM:
        TD_TRY(j_evaluate(run, node->a, &a));
        TD_TRY(j_evaluate(run, node->b, &b));
        run->node = node;
        return j_item(run, a, b, out);
    case N_SLICE: return j_slice(run, node, out);
    case N_CALL: return j_evaluate_call(run, node, j_none(), out);
    case N_FILTER: case N_TEST: return evaluate_filter(run, node, out);
    default: return j_fail(run, "not an expression");
    }
}

td_status j_evaluate(j_run *run, const j_node *node, j_value *out)
{
    if (!node) {
        *out = run->block;
        return TD_OK;
    }
    run->node = node;
    TD_TRY(j_step(run, 1));
    if (++run->depth > J_DEPTH_MAX) return j_fail(run, "evaluation is nested deeper than %d", J_DEPTH_MAX);
    td_status status = evaluate(run, node, out);
    run->depth--;
    return status;
}
