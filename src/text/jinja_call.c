/* jinja_call.c - calls: arguments, macros and their parameters, loops that call themselves. See jinja_run.h. */
#include "text/jinja_run.h"

td_status j_evaluate_args(j_run *run, const j_node *node, j_args *args)
{
    args->count = args->named_count = 0;
    for (int i = 0; i < node->count; i++) {
        j_value v;
        TD_TRY(j_evaluate(run, node->list[i], &v));
        if (node->keywords[i].text) {
            args->names[args->named_count] = node->keywords[i];
            args->named[args->named_count++] = v;
        } else {
            args->positional[args->count++] = v;
        }
    }
    run->node = node;
    return TD_OK;
}

/* Output of fn as a value. */
td_status j_capture(j_run *run, const j_node *body, j_value *out)
{
    td_buffer text = {0}, *outer = run->out;
    run->out = &text;
    td_status status = j_execute(run, body);
    run->out = outer;
    if (status == TD_OK) return j_take(run, &text, out);
    td_buffer_free(&text);
    return status;
}

static int parameter_index(const j_node *node, j_text name)
{
    for (int i = 0; i < node->count; i++)
        if (j_same(node->list[i]->name, name)) return i;
    return -1;
}

/* varargs and kwargs: what no parameter takes, when the macro speaks of them. */
static td_status bind_rest(j_run *run, const j_node *node, j_text name, const j_args *args)
{
    j_value rest, named;
    if (args->count > node->count && !(node->uses & J_VARARGS)) return j_fail(run, "macro '%.*s' takes not more than %d arguments", (int)name.bytes, name.text, node->count);
    TD_TRY(j_list_new(run, J_TUPLE, 0, &rest));
    TD_TRY(j_dict_new(run, &named));
    for (int i = node->count; i < args->count; i++) TD_TRY(j_list_put(run, rest.list, args->positional[i]));
    for (int k = 0; k < args->named_count; k++) {
        if (parameter_index(node, args->names[k]) >= 0) continue;
        if (j_is(args->names[k], "caller")) TD_TRY(j_set_var(run, args->names[k], args->named[k]));
        else if (node->uses & J_KWARGS) TD_TRY(j_dict_put(run, named.dict, j_str(args->names[k].text, args->names[k].bytes), args->named[k]));
        else return j_fail(run, "macro '%.*s' takes no keyword argument '%.*s'", (int)name.bytes, name.text, (int)args->names[k].bytes, args->names[k].text);
    }
    if (node->uses & J_VARARGS) TD_TRY(j_set_var(run, J_TEXT("varargs"), rest));
    return node->uses & J_KWARGS ? j_set_var(run, J_TEXT("kwargs"), named) : TD_OK;
}

static td_status bind_parameters(j_run *run, const j_node *node, j_text name, const j_args *args)
{
    for (int i = 0; i < node->count; i++) {
        j_text parameter = node->list[i]->name;
        j_value v = j_undefined(parameter);
        bool given = i < args->count;
        if (given) v = args->positional[i];
        for (int k = 0; !given && k < args->named_count; k++)
            if (j_same(args->names[k], parameter)) v = args->named[k], given = true;
        if (!given && node->more[i]) TD_TRY(j_evaluate(run, node->more[i], &v));
        TD_TRY(j_set_var(run, parameter, v));
    }
    return bind_rest(run, node, name, args);
}

static td_status call_macro(j_run *run, const j_macro *macro, const j_args *args, j_value *out)
{
    j_frame *outer = run->frame;
    TD_TRY(j_push_frame(run, macro->frame));
    td_status status = bind_parameters(run, macro->node, macro->name, args);
    if (status == TD_OK) status = j_capture(run, macro->body, out);
    run->frame = outer;
    return status;
}

/* loop(items) inside a recursive loop: its body for other items, as text, in the frame around it. */
static td_status call_recursive(j_run *run, const j_loop *loop, const j_args *args, j_value *out)
{
    td_buffer text = {0}, *outer = run->out;
    j_frame *frame = run->frame;
    if (!loop->node->recursive) return j_fail(run, "the loop must have the 'recursive' marker to be called");
    if (args->count != 1 || args->named_count) return j_fail(run, "a recursive loop takes one argument");
    run->out = &text;
    td_status status = j_execute_items(run, loop->node, args->positional[0], loop->frame, loop->depth + 1);
    run->out = outer;
    run->frame = frame;
    if (status == TD_OK) return j_take(run, &text, out);
    td_buffer_free(&text);
    return status;
}

td_status j_call(j_run *run, j_value callee, j_args *args, j_value *out)
{
    TD_TRY(j_step(run, 1));
    if (++run->depth > J_DEPTH_MAX) return j_fail(run, "evaluation is nested deeper than %d", J_DEPTH_MAX);
    td_status status;
    switch (callee.kind) {
    case J_MACRO: status = call_macro(run, callee.macro, args, out); break;
    case J_METHOD: status = j_call_method(run, callee.method->self, callee.method->name, args, out); break;
    case J_FUNCTION: status = j_call_function(run, callee.text, args, out); break;
    case J_LOOP: status = call_recursive(run, callee.loop, args, out); break;
    case J_UNDEFINED: status = j_fail(run, "'%.*s' is undefined", (int)TD_MIN(callee.text.bytes, 80), callee.text.text ? callee.text.text : ""); break;
    default: status = j_fail(run, "'%s' object is not callable", j_type(callee));
    }
    run->depth--;
    return status;
}

td_status j_make_macro(j_run *run, const j_node *node, j_text name, bool is_caller, j_value *out)
{
    j_macro *macro = j_get(&run->pool, sizeof *macro);
    if (!macro) return TD_E_INVALID;
    *macro = (j_macro){(j_node *)node, run->frame, node->c, name, is_caller};
    *out = (j_value){.kind = J_MACRO, .macro = macro};
    return TD_OK;
}

/* loop.cycle(...) and loop.changed(...) */
static td_status call_loop(j_run *run, j_loop *loop, j_text name, const j_args *args, j_value *out)
{
    if (j_is(name, "cycle")) {
        if (args->count == 0) return j_fail(run, "no items for cycling given");
        *out = args->positional[loop->index % (size_t)args->count];
        return TD_OK;
    }
    j_value now;
    TD_TRY(j_list_new(run, J_TUPLE, (size_t)args->count, &now));
    for (int i = 0; i < args->count; i++) TD_TRY(j_list_put(run, now.list, args->positional[i]));
    *out = j_bool(!loop->has_changed || !j_equal(run, loop->changed, now));
    loop->changed = now;
    loop->has_changed = true;
    return TD_OK;
}

td_status j_evaluate_call(j_run *run, const j_node *node, j_value caller, j_value *out)
{
    j_value callee;
    j_args args;
    const j_node *target = node->a;
    if (target->kind == N_ATTRIBUTE && (j_is(target->name, "cycle") || j_is(target->name, "changed"))) {
        j_value self;
        TD_TRY(j_evaluate(run, target->a, &self));
        if (self.kind == J_LOOP) {
            TD_TRY(j_evaluate_args(run, node, &args));
            return call_loop(run, self.loop, target->name, &args, out);
        }
    }
    TD_TRY(j_evaluate(run, target, &callee));
    TD_TRY(j_evaluate_args(run, node, &args));
    if (caller.kind == J_MACRO) {
        if (args.named_count == J_ARGS_MAX) return j_fail(run, "more than %d arguments", J_ARGS_MAX);
        args.names[args.named_count] = J_TEXT("caller");
        args.named[args.named_count++] = caller;
    }
    return j_call(run, callee, &args, out);
}
