/* jinja_tests.c - tests ("x is defined") and global functions (range, namespace, raise_exception, ...). See jinja.h. */
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

#define TEST(name, condition)                                                              \
    static td_status t_##name(j_run *run, j_value v, j_args *args, j_value *out)          \
    {                                                                                      \
        (void)run, (void)args;                                                             \
        *out = j_bool(condition);                                                          \
        return TD_OK;                                                                      \
    }

TEST(defined, v.kind != J_UNDEFINED)
TEST(undefined, v.kind == J_UNDEFINED)
TEST(none, v.kind == J_NONE)
TEST(string, v.kind == J_STRING)
TEST(mapping, v.kind == J_DICT)
TEST(sequence, v.kind == J_STRING || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_DICT || v.kind == J_UNDEFINED)
TEST(iterable, v.kind == J_STRING || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_DICT || v.kind == J_UNDEFINED || v.kind == J_LOOP)
TEST(number, v.kind == J_INT || v.kind == J_FLOAT || v.kind == J_BOOL)
TEST(integer, v.kind == J_INT)
TEST(float, v.kind == J_FLOAT)
TEST(boolean, v.kind == J_BOOL)
TEST(true, v.kind == J_BOOL && v.truth)
TEST(false, v.kind == J_BOOL && !v.truth)
TEST(callable, v.kind == J_MACRO || v.kind == J_METHOD || v.kind == J_FUNCTION)
TEST(sameas, v.kind == j_arg(args, 0, "other", j_undefined(J_TEXT("other"))).kind && j_equal(run, v, j_arg(args, 0, "other", j_none())))
TEST(eq, j_equal(run, v, j_arg(args, 0, "other", j_undefined(J_TEXT("other")))))
TEST(ne, !j_equal(run, v, j_arg(args, 0, "other", j_undefined(J_TEXT("other")))))
TEST(filter, v.kind == J_STRING && j_find_filter(v.text))
TEST(test, v.kind == J_STRING && j_find_test(v.text))

static td_status ordered(j_run *run, j_value v, j_args *args, int *order) { return j_order(run, v, j_arg(args, 0, "other", j_undefined(J_TEXT("other"))), order); }

#define ORDER_TEST(name, condition)                                                        \
    static td_status t_##name(j_run *run, j_value v, j_args *args, j_value *out)          \
    {                                                                                      \
        int order;                                                                         \
        TD_TRY(ordered(run, v, args, &order));                                             \
        *out = j_bool(condition);                                                          \
        return TD_OK;                                                                      \
    }

ORDER_TEST(lt, order < 0)
ORDER_TEST(le, order <= 0)
ORDER_TEST(gt, order > 0)
ORDER_TEST(ge, order >= 0)

static td_status t_in(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_node left = {.kind = N_CONST, .value = v}, right = {.kind = N_CONST, .value = j_arg(args, 0, "seq", j_none())};
    j_node *both[] = {&left, &right};
    uint8_t op = C_IN;
    left.line = right.line = run->node->line;
    j_node in = {.kind = N_COMPARE, .line = run->node->line, .column = run->node->column, .list = both, .ops = &op, .count = 2};
    const j_node *node = run->node;
    td_status status = j_evaluate(run, &in, out);
    if (status == TD_OK) run->node = node;
    return status;
}

static td_status remainder_of(j_run *run, j_value v, int64_t by, int64_t *out)
{
    if ((v.kind != J_INT && v.kind != J_BOOL) || by == 0) return j_fail(run, "expected integers and a divisor other than zero, found %s", j_type(v));
    int64_t n = v.kind == J_BOOL ? v.truth : v.integer;
    *out = by == -1 ? 0 : n % by;
    return TD_OK;
}

static td_status t_divisibleby(j_run *run, j_value v, j_args *args, j_value *out)
{
    int64_t by, rest = 0;
    TD_TRY(j_arg_int(run, args, 0, "num", 0, &by));
    TD_TRY(remainder_of(run, v, by, &rest));
    *out = j_bool(rest == 0);
    return TD_OK;
}

static td_status t_odd(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    int64_t rest = 0;
    TD_TRY(remainder_of(run, v, 2, &rest));
    *out = j_bool(rest != 0);
    return TD_OK;
}

static td_status t_even(j_run *run, j_value v, j_args *args, j_value *out)
{
    TD_TRY(t_odd(run, v, args, out));
    out->truth = !out->truth;
    return TD_OK;
}

/* As str.isupper: some letter with case, and none of the other. */
static td_status cased(j_run *run, j_value v, const char *wanted, const char *other, j_value *out)
{
    j_text text;
    bool any = false, all = true;
    TD_TRY(j_string_of(run, v, &text));
    for (size_t i = 0, length; i < text.bytes; i += length) {
        length = td_utf8_length(text.text + i, text.bytes - i);
        if (length == 0) length = 1;
        unsigned category = td_unicode_category(td_utf8_decode(text.text + i, length));
        any |= category == ((unsigned)wanted[0] << 8 | (unsigned)wanted[1]);
        all &= category != ((unsigned)other[0] << 8 | (unsigned)other[1]) && category != ('L' << 8 | 't');
    }
    *out = j_bool(any && all);
    return TD_OK;
}

static td_status t_upper(j_run *run, j_value v, j_args *args, j_value *out) { return (void)args, cased(run, v, "Lu", "Ll", out); }
static td_status t_lower(j_run *run, j_value v, j_args *args, j_value *out) { return (void)args, cased(run, v, "Ll", "Lu", out); }

static const j_builtin tests[] = {
    {"!=", t_ne}, {"<", t_lt}, {"<=", t_le}, {"==", t_eq}, {">", t_gt}, {">=", t_ge}, {"boolean", t_boolean}, {"callable", t_callable}, {"defined", t_defined}, {"divisibleby", t_divisibleby},
    {"eq", t_eq}, {"equalto", t_eq}, {"even", t_even}, {"false", t_false}, {"filter", t_filter}, {"float", t_float}, {"ge", t_ge}, {"greaterthan", t_gt}, {"gt", t_gt}, {"in", t_in}, {"integer", t_integer},
    {"iterable", t_iterable}, {"le", t_le}, {"lessthan", t_lt}, {"lower", t_lower}, {"lt", t_lt}, {"mapping", t_mapping}, {"ne", t_ne}, {"none", t_none}, {"number", t_number}, {"odd", t_odd},
    {"sameas", t_sameas}, {"sequence", t_sequence}, {"string", t_string}, {"test", t_test}, {"true", t_true}, {"undefined", t_undefined}, {"upper", t_upper},
};

const j_builtin *j_find_test(j_text name)
{
    for (size_t i = 0; i < TD_COUNT(tests); i++)
        if (j_is(name, tests[i].name)) return &tests[i];
    return NULL;
}

/* ---- functions ---- */

static td_status fn_range(j_run *run, j_args *args, j_value *out)
{
    int64_t start = 0, stop, step = 1;
    enum { RANGE_MAX = 100000 }; /* the sandbox's */
    if (args->count < 1 || args->count > 3) return j_fail(run, "range expected 1 to 3 arguments, got %d", args->count);
    TD_TRY(j_arg_int(run, args, args->count > 1, "stop", 0, &stop));
    if (args->count > 1) TD_TRY(j_arg_int(run, args, 0, "start", 0, &start));
    if (args->count > 2) TD_TRY(j_arg_int(run, args, 2, "step", 1, &step));
    if (step == 0) return j_fail(run, "range() arg 3 must not be zero");
    if (start < -(1ll << 60) || start > 1ll << 60 || stop < -(1ll << 60) || stop > 1ll << 60) return j_fail(run, "range: numbers beyond 60 bits");
    int64_t count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0) : (start > stop ? (step == INT64_MIN ? 1 : (start - stop - 1) / -step + 1) : 0);
    if (count > RANGE_MAX) return j_fail(run, "range too big, maximum size is %d", RANGE_MAX);
    TD_TRY(j_list_new(run, J_LIST, (size_t)count, out));
    for (int64_t i = 0; i < count; i++) TD_TRY(j_list_put(run, out->list, j_int(start + i * step)));
    return TD_OK;
}

static td_status fn_dict(j_run *run, j_args *args, j_value *out)
{
    TD_TRY(j_dict_new(run, out));
    j_value from = j_arg(args, 0, "", j_none());
    for (size_t i = 0; from.kind == J_DICT && i < from.dict->count; i++) TD_TRY(j_dict_put(run, out->dict, from.dict->keys[i], from.dict->values[i]));
    for (int i = 0; i < args->named_count; i++) TD_TRY(j_dict_put(run, out->dict, j_str(args->names[i].text, args->names[i].bytes), args->named[i]));
    return TD_OK;
}

static td_status fn_namespace(j_run *run, j_args *args, j_value *out)
{
    TD_TRY(fn_dict(run, args, out));
    out->kind = J_NAMESPACE;
    return TD_OK;
}

static td_status fn_raise(j_run *run, j_args *args, j_value *out)
{
    j_text text;
    (void)out;
    TD_TRY(j_string_of(run, j_arg(args, 0, "message", j_str("", 0)), &text));
    return td_fail(TD_E_INVALID, "the chat template refuses: %.*s", (int)TD_MIN(text.bytes, 900), text.text);
}

static td_status fn_strftime(j_run *run, j_args *args, j_value *out)
{
    j_text text;
    char format[128], made[512];
    struct tm parts;
    time_t now = time(NULL);
    TD_TRY(j_string_of(run, j_arg(args, 0, "format", j_str("%Y-%m-%d", 8)), &text));
    if (text.bytes >= sizeof format || memchr(text.text, 0, text.bytes)) return j_fail(run, "strftime_now: expected a format of at most %zu bytes", sizeof format - 1);
    memcpy(format, text.text, text.bytes);
    format[text.bytes] = 0;
    localtime_r(&now, &parts);
    size_t n = strftime(made, sizeof made, format, &parts);
    return j_copy(run, made, n, out);
}

static const struct { const char *name; td_status (*fn)(j_run *run, j_args *args, j_value *out); } functions[] = {
    {"range", fn_range}, {"dict", fn_dict}, {"namespace", fn_namespace}, {"raise_exception", fn_raise}, {"strftime_now", fn_strftime},
};

bool j_is_function(j_text name)
{
    for (size_t i = 0; i < TD_COUNT(functions); i++)
        if (j_is(name, functions[i].name)) return true;
    return false;
}

td_status j_call_function(j_run *run, j_text name, j_args *args, j_value *out)
{
    for (size_t i = 0; i < TD_COUNT(functions); i++)
        if (j_is(name, functions[i].name)) return functions[i].fn(run, args, out);
    return j_fail(run, "no function '%.*s'", (int)name.bytes, name.text);
}
