/* jinja_eval.c - running the tree: statements write to run->out, expressions give values. See jinja.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"

/* ---- variables ---- */

static td_status set_var(j_run *run, j_text name, j_value value) { return j_dict_put(run, &run->frame->vars, j_str(name.text, name.bytes), value); }

static td_status get_var(j_run *run, j_text name, j_value *out)
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

static td_status push_frame(j_run *run, j_frame *parent)
{
    j_frame *frame = j_get(&run->pool, sizeof *frame);
    if (!frame) return TD_E_INVALID;
    frame->parent = parent;
    run->frame = frame;
    return TD_OK;
}

static td_status assign(j_run *run, const j_node *target, j_value value)
{
    run->node = target;
    if (target->kind == N_NAME) return set_var(run, target->name, value);
    if (target->kind == N_ATTRIBUTE) {
        j_value space;
        TD_TRY(get_var(run, target->a->name, &space));
        if (space.kind != J_NAMESPACE) return j_fail(run, "cannot assign attribute on non-namespace object");
        return j_dict_put(run, space.dict, j_str(target->name.text, target->name.bytes), value);
    }
    j_list *items;
    TD_TRY(j_iterate(run, value, &items));
    if (items->count != (size_t)target->count) return j_fail(run, "expected %d values to unpack, found %zu", target->count, items->count);
    for (int i = 0; i < target->count; i++) TD_TRY(assign(run, target->list[i], items->items[i]));
    return TD_OK;
}

/* ---- operators ---- */

static bool is_whole(j_value v) { return v.kind == J_INT || v.kind == J_BOOL; }
static bool is_number(j_value v) { return is_whole(v) || v.kind == J_FLOAT; }
static int64_t whole(j_value v) { return v.kind == J_BOOL ? v.truth : v.integer; }
static double real(j_value v) { return v.kind == J_FLOAT ? v.number : (double)whole(v); }

static td_status power(j_run *run, j_value a, j_value b, j_value *out)
{
    if (!is_whole(a) || !is_whole(b) || whole(b) < 0) {
        if (real(a) == 0 && real(b) < 0) return j_fail(run, "0.0 cannot be raised to a negative power");
        *out = j_float(pow(real(a), real(b)));
        return TD_OK;
    }
    int64_t result = 1, base = whole(a);
    for (int64_t n = whole(b); n > 0; n >>= 1) {
        if ((n & 1) && __builtin_mul_overflow(result, base, &result)) return j_fail(run, "an integer beyond 64 bits");
        if (n > 1 && __builtin_mul_overflow(base, base, &base)) return j_fail(run, "an integer beyond 64 bits");
    }
    *out = j_int(result);
    return TD_OK;
}

static td_status whole_arithmetic(j_run *run, j_node_kind kind, int64_t a, int64_t b, j_value *out)
{
    int64_t result = 0;
    bool overflow = false;
    switch (kind) {
    case N_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
    case N_SUB: overflow = __builtin_sub_overflow(a, b, &result); break;
    case N_MUL: overflow = __builtin_mul_overflow(a, b, &result); break;
    default:
        if (b == 0) return j_fail(run, "division by zero");
        if (b == -1) {
            overflow = __builtin_sub_overflow(0, kind == N_FLOOR ? a : 0, &result);
            break;
        }
        result = kind == N_FLOOR ? a / b - (a % b != 0 && (a < 0) != (b < 0)) : a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
    }
    if (overflow) return j_fail(run, "an integer beyond 64 bits");
    *out = j_int(result);
    return TD_OK;
}

static td_status arithmetic(j_run *run, j_node_kind kind, j_value a, j_value b, j_value *out)
{
    if (kind == N_POW) return power(run, a, b, out);
    if (is_whole(a) && is_whole(b) && kind != N_DIV) return whole_arithmetic(run, kind, whole(a), whole(b), out);
    double x = real(a), y = real(b);
    if ((kind == N_DIV || kind == N_FLOOR || kind == N_MOD) && y == 0) return j_fail(run, "division by zero");
    switch (kind) {
    case N_ADD: *out = j_float(x + y); break;
    case N_SUB: *out = j_float(x - y); break;
    case N_MUL: *out = j_float(x * y); break;
    case N_DIV: *out = j_float(x / y); break;
    case N_FLOOR: *out = j_float(floor(x / y)); break;
    default: *out = j_float(x - y * floor(x / y)); break;
    }
    return TD_OK;
}

static td_status join_texts(j_run *run, j_text a, j_text b, j_value *out)
{
    TD_TRY(j_step(run, (a.bytes + b.bytes) / 64));
    if (a.bytes + b.bytes > J_OUTPUT_MAX) return j_fail(run, "a text of more than %d MiB", J_OUTPUT_MAX >> 20);
    char *text = j_get(&run->pool, a.bytes + b.bytes + 1);
    if (!text) return TD_E_INVALID;
    if (a.bytes) memcpy(text, a.text, a.bytes);
    if (b.bytes) memcpy(text + a.bytes, b.text, b.bytes);
    *out = j_str(text, a.bytes + b.bytes);
    return TD_OK;
}

static td_status join_lists(j_run *run, j_value a, j_value b, j_value *out)
{
    TD_TRY(j_list_new(run, a.kind, a.list->count + b.list->count, out));
    for (size_t i = 0; i < a.list->count; i++) TD_TRY(j_list_put(run, out->list, a.list->items[i]));
    for (size_t i = 0; i < b.list->count; i++) TD_TRY(j_list_put(run, out->list, b.list->items[i]));
    return TD_OK;
}

static td_status repeat(j_run *run, j_value thing, int64_t times, j_value *out)
{
    if (times < 0) times = 0;
    if (thing.kind == J_STRING) {
        if (thing.text.bytes && times > J_OUTPUT_MAX / (int64_t)thing.text.bytes) return j_fail(run, "a text of more than %d MiB", J_OUTPUT_MAX >> 20);
        td_buffer text = {0};
        for (int64_t i = 0; i < times && thing.text.bytes; i++) td_buffer_put(&text, thing.text.text, thing.text.bytes);
        return j_take(run, &text, out);
    }
    TD_TRY(j_list_new(run, thing.kind, 0, out));
    for (int64_t i = 0; i < times && thing.list->count; i++)
        for (size_t k = 0; k < thing.list->count; k++) TD_TRY(j_list_put(run, out->list, thing.list->items[k]));
    return TD_OK;
}

static td_status operate(j_run *run, const j_node *node, j_value *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    j_value a, b;
    TD_TRY(j_evaluate(run, node->a, &a));
    TD_TRY(j_evaluate(run, node->b, &b));
    run->node = node;
    bool sequence_a = a.kind == J_STRING || a.kind == J_LIST || a.kind == J_TUPLE, sequence_b = b.kind == J_STRING || b.kind == J_LIST || b.kind == J_TUPLE;
    if (node->kind == N_MOD && a.kind == J_STRING) return j_format_percent(run, a.text, b, out);
    if (is_number(a) && is_number(b)) return arithmetic(run, node->kind, a, b, out);
    if (node->kind == N_ADD && a.kind == b.kind && sequence_a) return a.kind == J_STRING ? join_texts(run, a.text, b.text, out) : join_lists(run, a, b, out);
    if (node->kind == N_MUL && sequence_a && is_whole(b)) return repeat(run, a, whole(b), out);
    if (node->kind == N_MUL && sequence_b && is_whole(a)) return repeat(run, b, whole(a), out);
    j_value undefined = a.kind == J_UNDEFINED ? a : b;
    if (undefined.kind == J_UNDEFINED) return j_fail(run, "'%.*s' is undefined", (int)TD_MIN(undefined.text.bytes, 80), undefined.text.text ? undefined.text.text : "");
    return j_fail(run, "unsupported operand types for %s: '%s' and '%s'", signs[node->kind - N_ADD], j_type(a), j_type(b));
}

static td_status concatenate(j_run *run, const j_node *node, j_value *out)
{
    j_value a, b;
    j_text x, y;
    TD_TRY(j_evaluate(run, node->a, &a));
    TD_TRY(j_evaluate(run, node->b, &b));
    TD_TRY(j_string_of(run, a, &x));
    TD_TRY(j_string_of(run, b, &y));
    return join_texts(run, x, y, out);
}

static td_status contains(j_run *run, j_value part, j_value whole_thing, bool *out)
{
    *out = false;
    if (whole_thing.kind == J_STRING) {
        if (part.kind != J_STRING) return j_fail(run, "'in <string>' requires string as left operand, not %s", j_type(part));
        TD_TRY(j_step(run, whole_thing.text.bytes / 16));
        for (size_t i = 0; i + part.text.bytes <= whole_thing.text.bytes && !*out; i++) *out = part.text.bytes == 0 || !memcmp(whole_thing.text.text + i, part.text.text, part.text.bytes);
        return TD_OK;
    }
    if (whole_thing.kind == J_DICT) {
        j_value *found;
        TD_TRY(j_dict_find(run, whole_thing.dict, part, &found));
        *out = found != NULL;
        return TD_OK;
    }
    j_list *items;
    TD_TRY(j_iterate(run, whole_thing, &items));
    TD_TRY(j_step(run, items->count));
    for (size_t i = 0; i < items->count && !*out; i++) *out = j_equal(run, items->items[i], part);
    return TD_OK;
}

static td_status compare(j_run *run, const j_node *node, j_value *out)
{
    j_value left, right;
    TD_TRY(j_evaluate(run, node->list[0], &left));
    for (int i = 1; i < node->count; i++, left = right) {
        bool holds = false;
        int order = 0;
        TD_TRY(j_evaluate(run, node->list[i], &right));
        run->node = node;
        j_compare op = node->ops[i - 1];
        if (op == C_EQ || op == C_NE) holds = j_equal(run, left, right) == (op == C_EQ);
        else if (op == C_IN || op == C_NOT_IN) {
            TD_TRY(contains(run, left, right, &holds));
            holds ^= op == C_NOT_IN;
        } else {
            TD_TRY(j_order(run, left, right, &order));
            bool nan = (left.kind == J_FLOAT && isnan(left.number)) || (right.kind == J_FLOAT && isnan(right.number));
            holds = !nan && (op == C_LT ? order < 0 : op == C_LE ? order <= 0 : op == C_GT ? order > 0 : order >= 0);
        }
        if (!holds) {
            *out = j_bool(false);
            return TD_OK;
        }
    }
    *out = j_bool(true);
    return TD_OK;
}

static td_status negate(j_run *run, const j_node *node, j_value *out)
{
    j_value a;
    TD_TRY(j_evaluate(run, node->a, &a));
    run->node = node;
    if (!is_number(a)) return j_fail(run, "bad operand type for unary %c: '%s'", node->kind == N_NEGATE ? '-' : '+', j_type(a));
    if (node->kind == N_PLUS) *out = is_whole(a) ? j_int(whole(a)) : a;
    else if (a.kind == J_FLOAT) *out = j_float(-a.number);
    else return whole_arithmetic(run, N_SUB, 0, whole(a), out);
    return TD_OK;
}

/* ---- slices ---- */

/* One bound of a slice as Python clips it. */
static td_status slice_bound(j_run *run, const j_node *node, int64_t otherwise, int64_t low, int64_t high, int64_t count, int64_t *out)
{
    j_value v = j_none();
    if (node) TD_TRY(j_evaluate(run, node, &v));
    if (v.kind == J_NONE) {
        *out = otherwise;
        return TD_OK;
    }
    if (!is_whole(v)) return j_fail(run, "slice indices must be integers or None, not %s", j_type(v));
    int64_t i = whole(v);
    if (i < 0) i = i < -count ? low : i + count;
    *out = i < low ? low : i > high ? high : i;
    return TD_OK;
}

static td_status slice(j_run *run, const j_node *node, j_value *out)
{
    j_value v, step_value = j_none();
    int64_t start, stop, step = 1;
    TD_TRY(j_evaluate(run, node->a, &v));
    if (node->list[2]) TD_TRY(j_evaluate(run, node->list[2], &step_value));
    run->node = node;
    if (step_value.kind != J_NONE) {
        if (!is_whole(step_value) || whole(step_value) == 0) return j_fail(run, "a slice step must be an integer other than zero");
        step = whole(step_value);
        if (step < -INT32_MAX || step > INT32_MAX) return j_fail(run, "a slice step beyond 32 bits");
    }
    if (v.kind == J_UNDEFINED) return j_fail(run, "'%.*s' is undefined", (int)TD_MIN(v.text.bytes, 80), v.text.text ? v.text.text : "");
    if (v.kind != J_STRING && v.kind != J_LIST && v.kind != J_TUPLE) return j_fail(run, "'%s' object is not subscriptable", j_type(v));
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    int64_t n = (int64_t)items->count, low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    TD_TRY(slice_bound(run, node->list[0], step < 0 ? high : low, low, high, n, &start));
    TD_TRY(slice_bound(run, node->list[1], step < 0 ? low : high, low, high, n, &stop));
    td_buffer text = {0};
    if (v.kind != J_STRING) TD_TRY(j_list_new(run, v.kind, 0, out));
    td_status status = TD_OK;
    for (int64_t i = start; status == TD_OK && (step > 0 ? i < stop : i > stop); i += step) {
        if (v.kind == J_STRING) td_buffer_put(&text, items->items[i].text.text, items->items[i].text.bytes);
        else status = j_list_put(run, out->list, items->items[i]);
    }
    return v.kind == J_STRING ? j_take(run, &text, out) : status;
}

/* ---- calls ---- */

static td_status evaluate_args(j_run *run, const j_node *node, j_args *args)
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
static td_status capture(j_run *run, const j_node *body, j_value *out)
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
        if (j_is(args->names[k], "caller")) TD_TRY(set_var(run, args->names[k], args->named[k]));
        else if (node->uses & J_KWARGS) TD_TRY(j_dict_put(run, named.dict, j_str(args->names[k].text, args->names[k].bytes), args->named[k]));
        else return j_fail(run, "macro '%.*s' takes no keyword argument '%.*s'", (int)name.bytes, name.text, (int)args->names[k].bytes, args->names[k].text);
    }
    if (node->uses & J_VARARGS) TD_TRY(set_var(run, J_TEXT("varargs"), rest));
    return node->uses & J_KWARGS ? set_var(run, J_TEXT("kwargs"), named) : TD_OK;
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
        TD_TRY(set_var(run, parameter, v));
    }
    return bind_rest(run, node, name, args);
}

static td_status call_macro(j_run *run, const j_macro *macro, const j_args *args, j_value *out)
{
    j_frame *outer = run->frame;
    TD_TRY(push_frame(run, macro->frame));
    td_status status = bind_parameters(run, macro->node, macro->name, args);
    if (status == TD_OK) status = capture(run, macro->body, out);
    run->frame = outer;
    return status;
}

static td_status execute_items(j_run *run, const j_node *node, j_value iterable, j_frame *frame, int depth);

/* loop(items) inside a recursive loop: its body for other items, as text, in the frame around it. */
static td_status call_recursive(j_run *run, const j_loop *loop, const j_args *args, j_value *out)
{
    td_buffer text = {0}, *outer = run->out;
    j_frame *frame = run->frame;
    if (!loop->node->recursive) return j_fail(run, "the loop must have the 'recursive' marker to be called");
    if (args->count != 1 || args->named_count) return j_fail(run, "a recursive loop takes one argument");
    run->out = &text;
    td_status status = execute_items(run, loop->node, args->positional[0], loop->frame, loop->depth + 1);
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

static td_status make_macro(j_run *run, const j_node *node, j_text name, bool is_caller, j_value *out)
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

static td_status evaluate_call(j_run *run, const j_node *node, j_value caller, j_value *out)
{
    j_value callee;
    j_args args;
    const j_node *target = node->a;
    if (target->kind == N_ATTRIBUTE && (j_is(target->name, "cycle") || j_is(target->name, "changed"))) {
        j_value self;
        TD_TRY(j_evaluate(run, target->a, &self));
        if (self.kind == J_LOOP) {
            TD_TRY(evaluate_args(run, node, &args));
            return call_loop(run, self.loop, target->name, &args, out);
        }
    }
    TD_TRY(j_evaluate(run, target, &callee));
    TD_TRY(evaluate_args(run, node, &args));
    if (caller.kind == J_MACRO) {
        if (args.named_count == J_ARGS_MAX) return j_fail(run, "more than %d arguments", J_ARGS_MAX);
        args.names[args.named_count] = J_TEXT("caller");
        args.named[args.named_count++] = caller;
    }
    return j_call(run, callee, &args, out);
}

static td_status evaluate_filter(j_run *run, const j_node *node, j_value *out)
{
    j_value v;
    j_args args;
    TD_TRY(j_evaluate(run, node->a, &v));
    TD_TRY(evaluate_args(run, node, &args));
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
    case N_NAME: return get_var(run, node->name, out);
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
    case N_COMPARE: return compare(run, node, out);
    case N_ADD: case N_SUB: case N_MUL: case N_DIV: case N_FLOOR: case N_MOD: case N_POW: return operate(run, node, out);
    case N_CONCAT: return concatenate(run, node, out);
    case N_NEGATE: case N_PLUS: return negate(run, node, out);
    case N_ATTRIBUTE:
        TD_TRY(j_evaluate(run, node->a, &a));
        run->node = node;
        return j_attribute(run, a, node->name, out);
    case N_ITEM:
        TD_TRY(j_evaluate(run, node->a, &a));
        TD_TRY(j_evaluate(run, node->b, &b));
        run->node = node;
        return j_item(run, a, b, out);
    case N_SLICE: return slice(run, node, out);
    case N_CALL: return evaluate_call(run, node, j_none(), out);
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

/* ---- statements ---- */

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
        TD_TRY(push_frame(run, outer));
        TD_TRY(assign(run, node->a, items->items[i]));
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
        TD_TRY(push_frame(run, outer));
        TD_TRY(set_var(run, J_TEXT("loop"), (j_value){.kind = J_LOOP, .loop = loop}));
        TD_TRY(assign(run, node->a, loop->items->items[loop->index]));
        td_status status = j_execute(run, node->c);
        run->frame = outer;
        if (status < 0) return status;
        if (status == J_BREAK) break;
    }
    return TD_OK;
}

/* The loop of a node over other things, in a frame; depth counts recursion from 1. */
static td_status execute_items(j_run *run, const j_node *node, j_value iterable, j_frame *frame, int depth)
{
    j_list *items;
    run->node = node;
    run->frame = frame;
    TD_TRY(j_iterate(run, iterable, &items));
    TD_TRY(filter_items(run, node, items, &items));
    if (items->count == 0) {
        if (!node->list[1]) return TD_OK;
        TD_TRY(push_frame(run, frame));
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
    return execute_items(run, node, iterable, run->frame, 1);
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
    TD_TRY(push_frame(run, outer));
    td_status status = capture(run, body, out);
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
    TD_TRY(make_macro(run, node, J_TEXT("caller"), true, &caller));
    TD_TRY(evaluate_call(run, node->a, caller, &result));
    TD_TRY(j_string_of(run, result, &text));
    return put_text(run, text);
}

static td_status execute_with(j_run *run, const j_node *node)
{
    j_frame *outer = run->frame;
    j_value v[J_ARGS_MAX];
    if (node->count > J_ARGS_MAX) return j_fail(run, "more than %d assignments", J_ARGS_MAX);
    for (int i = 0; i < node->count; i++) TD_TRY(j_evaluate(run, node->more[i], &v[i]));
    TD_TRY(push_frame(run, outer));
    for (int i = 0; i < node->count; i++) TD_TRY(set_var(run, node->list[i]->name, v[i]));
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
        return assign(run, node->a, v);
    case N_SET_BLOCK:
        TD_TRY(filtered_block(run, node, &v));
        return assign(run, node->a, v);
    case N_MACRO:
        TD_TRY(make_macro(run, node, node->name, false, &v));
        return set_var(run, node->name, v);
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
