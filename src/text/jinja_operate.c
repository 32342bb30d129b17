/* jinja_operate.c - operators: arithmetic, sequences, comparisons, slices; as Python has them. See jinja_run.h. */
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

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

td_status j_operate(j_run *run, const j_node *node, j_value *out)
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

td_status j_concatenate(j_run *run, const j_node *node, j_value *out)
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

td_status j_compare_chain(j_run *run, const j_node *node, j_value *out)
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

td_status j_negate(j_run *run, const j_node *node, j_value *out)
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

td_status j_slice(j_run *run, const j_node *node, j_value *out)
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
