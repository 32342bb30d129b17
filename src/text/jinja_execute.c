/* jinja_execute.c - running statements: they write to run->out. See jinja_run.h. */
#include "text/jinja_run.h"

static td_status put_text(j_run *run, j_text text)
{
    run->out_total += text.bytes;
    if (run->out_total > J_OUTPUT_MAX) return j_fail(run, "more than %d MiB of output", J_OUTPUT_MAX >> 20);
    td_buffer_put(run->out, text.text, text.bytes);
    return TD_OK;
}

static td_status output(j_run *run, const j_node *node)
{
    j_value v;
    j_text text;
    TD_TRY(j_evaluate(run, node->a, &v));
    TD_TRY(j_string_of(run, v, &text));
    return put_text(run, text);
}

/* Items that pass the loop's own condition; each is tried in a frame of its own. */
static td_status filter_items(j_run *run, const j_node *node, j_list *items, j_list **out)
{
    if (!node->list[0]) {
        *out = items;
        return TD_OK;
    }
    j_frame *outer = run->frame;
    j_value kept, condition;
    TD_TRY(j_list_new(run, J_LIST, 0, &kept));
    for (size_t i = 0; i < items->count; i++) {
        TD_TRY(j_push_frame(run, outer));
        TD_TRY(j_assign(run, node->a, items->items[i]));
        TD_TRY(j_evaluate(run, node->list[0], &condition));
        if (j_truth(condition)) TD_TRY(j_list_put(run, kept.list, items->items[i]));
    }
    run->frame = outer;
    *out = kept.list;
    return TD_OK;
}

static td_status run_loop(j_run *run, const j_node *node, j_loop *loop)
{
    j_frame *outer = run->frame;
    for (; loop->index < loop->items->count; loop->index++) {
        TD_TRY(j_push_frame(run, outer));
        TD_TRY(j_set_var(run, J_TEXT("loop"), (j_value){.kind = J_LOOP, .loop = loop}));
        TD_TRY(j_assign(run, node->a, loop->items->items[loop->index]));
        td_status status = j_execute(run, node->c);
        run->frame = outer;
        if (status < 0) return status;
        if (status == J_BREAK) break;
    }
    return TD_OK;
}

/* The loop of a node over other things, in a frame; depth counts recursion from 1. */
td_status j_execute_items(j_run *run, const j_node *node, j_value iterable, j_frame *frame, int depth)
{
    j_list *items;
    run->node = node;
    run->frame = frame;
    TD_TRY(j_iterate(run, iterable, &items));
    TD_TRY(filter_items(run, node, items, &items));
    if (items->count == 0) {
        if (!node->list[1]) return TD_OK;
        TD_TRY(j_push_frame(run, frame));
        td_status status = j_execute(run, node->list[1]);
        run->frame = frame;
        return status;
    }
    j_loop *loop = j_get(&run->pool, sizeof *loop);
    if (!loop) return TD_E_INVALID;
    *loop = (j_loop){.items = items, .node = node, .frame = frame, .depth = depth};
    return run_loop(run, node, loop);
}

static td_status execute_for(j_run *run, const j_node *node)
{
    j_value iterable;
    TD_TRY(j_evaluate(run, node->b, &iterable));
    return j_execute_items(run, node, iterable, run->frame, 1);
}

static td_status execute_if(j_run *run, const j_node *node)
{
    for (int i = 0; i < node->count; i++) {
        j_value condition;
        TD_TRY(j_evaluate(run, node->list[i], &condition));
        if (j_truth(condition)) return j_execute(run, node->more[i]);
    }
    return node->c ? j_execute(run, node->c) : TD_OK;
}

/* Body in a frame of its own, as text. */
static td_status capture_apart(j_run *run, const j_node *body, j_value *out)
{
    j_frame *outer = run->frame;
    TD_TRY(j_push_frame(run, outer));
    td_status status = j_capture(run, body, out);
    run->frame = outer;
    return status;
}

/* {% set x %}..{% endset %} and {% filter f %}..{% endfilter %}: the text through the filters. */
static td_status filtered_block(j_run *run, const j_node *node, j_value *out)
{
    TD_TRY(capture_apart(run, node->c, out));
    if (!node->b) return TD_OK;
    j_value outer = run->block;
    run->block = *out;
    td_status status = j_evaluate(run, node->b, out);
    run->block = outer;
    return status;
}

static td_status execute_call_block(j_run *run, const j_node *node)
{
    j_value caller, result;
    j_text text;
    TD_TRY(j_make_macro(run, node, J_TEXT("caller"), true, &caller));
    TD_TRY(j_evaluate_call(run, node->a, caller, &result));
    TD_TRY(j_string_of(run, result, &text));
    return put_text(run, text);
}

static td_status execute_with(j_run *run, const j_node *node)
{
    j_frame *outer = run->frame;
    j_value v[J_ARGS_MAX];
    if (node->count > J_ARGS_MAX) return j_fail(run, "more than %d assignments", J_ARGS_MAX);
    for (int i = 0; i < node->count; i++) TD_TRY(j_evaluate(run, node->more[i], &v[i]));
    TD_TRY(j_push_frame(run, outer));
    for (int i = 0; i < node->count; i++) TD_TRY(j_set_var(run, node->list[i]->name, v[i]));
    td_status status = j_execute(run, node->c);
    run->frame = outer;
    return status;
}

static td_status execute(j_run *run, const j_node *node)
{
    j_value v;
    switch (node->kind) {
    case N_TEXT: return put_text(run, node->value.text);
    case N_OUTPUT: return output(run, node);
    case N_IF: return execute_if(run, node);
    case N_FOR: return execute_for(run, node);
    case N_SET:
        TD_TRY(j_evaluate(run, node->b, &v));
        return j_assign(run, node->a, v);
    case N_SET_BLOCK:
        TD_TRY(filtered_block(run, node, &v));
        return j_assign(run, node->a, v);
    case N_MACRO:
        TD_TRY(j_make_macro(run, node, node->name, false, &v));
        return j_set_var(run, node->name, v);
    case N_CALL_BLOCK: return execute_call_block(run, node);
    case N_FILTER_BLOCK: {
        j_text text;
        TD_TRY(filtered_block(run, node, &v));
        TD_TRY(j_string_of(run, v, &text));
        return put_text(run, text);
    }
    case N_WITH: return execute_with(run, node);
    case N_BREAK: return J_BREAK;
    case N_CONTINUE: return J_CONTINUE;
    case N_BODY:
        for (int i = 0; i < node->count; i++) {
            td_status status = j_execute(run, node->list[i]);
            if (status != TD_OK) return status;
        }
        return TD_OK;
    default: return j_fail(run, "not a statement");
    }
}

td_status j_execute(j_run *run, const j_node *node)
{
    run->node = node;
    TD_TRY(j_step(run, 1));
    if (++run->depth > J_DEPTH_MAX) return j_fail(run, "evaluation is nested deeper than %d", J_DEPTH_MAX);
    td_status status = execute(run, node);
    run->depth--;
    return status;
}
