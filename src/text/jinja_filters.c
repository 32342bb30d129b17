/* jinja_filters.c - filters, as Jinja has them; tojson as chat templates expect it (no escaping of HTML or of non-ASCII). See jinja.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

j_value j_arg(const j_args *args, int index, const char *name, j_value otherwise)
{
    if (index >= 0 && index < args->count) return args->positional[index];
    for (int i = 0; i < args->named_count; i++)
        if (j_is(args->names[i], name)) return args->named[i];
    return otherwise;
}

td_status j_arg_int(j_run *run, const j_args *args, int index, const char *name, int64_t otherwise, int64_t *out)
{
    j_value v = j_arg(args, index, name, j_int(otherwise));
    if (v.kind != J_INT && v.kind != J_BOOL) return j_fail(run, "argument '%s': expected an integer, found %s", name, j_type(v));
    *out = v.kind == J_BOOL ? v.truth : v.integer;
    return TD_OK;
}

static bool arg_truth(const j_args *args, int index, const char *name, bool otherwise) { return j_truth(j_arg(args, index, name, j_bool(otherwise))); }

static td_status arg_text(j_run *run, const j_args *args, int index, const char *name, const char *otherwise, j_text *out)
{
    return j_string_of(run, j_arg(args, index, name, j_str(otherwise, strlen(otherwise))), out);
}

/* Calls a method of the text of a value. */
static td_status by_method(j_run *run, j_value v, const char *name, j_args *args, j_value *out)
{
    j_text text;
    TD_TRY(j_string_of(run, v, &text));
    return j_call_method(run, j_str(text.text, text.bytes), (j_text){name, strlen(name)}, args, out);
}

static td_status f_upper(j_run *run, j_value v, j_args *args, j_value *out) { return by_method(run, v, "upper", args, out); }
static td_status f_lower(j_run *run, j_value v, j_args *args, j_value *out) { return by_method(run, v, "lower", args, out); }
static td_status f_capitalize(j_run *run, j_value v, j_args *args, j_value *out) { return by_method(run, v, "capitalize", args, out); }

static td_status f_trim(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_args none = {0};
    j_value chars = j_arg(args, 0, "chars", j_none());
    if (chars.kind != J_NONE) none.positional[none.count++] = chars;
    return by_method(run, v, "strip", &none, out);
}

/* Jinja's own title: a word starts behind white space, - ( { [ <, and the rest of it is lower case. */
static td_status f_title(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_text text;
    td_buffer made = {0};
    TD_TRY(j_string_of(run, v, &text));
    bool start = true;
    for (size_t i = 0, length; i < text.bytes; i += length) {
        char one[4];
        length = td_utf8_length(text.text + i, text.bytes - i);
        if (length == 0) length = 1;
        uint32_t code = td_utf8_decode(text.text + i, length);
        bool breaks = td_unicode_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code));
        td_buffer_put(&made, one, td_utf8_encode((uint32_t)(start ? utf8proc_toupper((utf8proc_int32_t)code) : utf8proc_tolower((utf8proc_int32_t)code)), one));
        start = breaks;
    }
    return j_take(run, &made, out);
}

static td_status f_replace(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_args given = {.count = 2};
    j_text old, new;
    TD_TRY(arg_text(run, args, 0, "old", "", &old));
    TD_TRY(arg_text(run, args, 1, "new", "", &new));
    given.positional[0] = j_str(old.text, old.bytes);
    given.positional[1] = j_str(new.text, new.bytes);
    j_value count = j_arg(args, 2, "count", j_none());
    if (count.kind != J_NONE) given.positional[given.count++] = count;
    return by_method(run, v, "replace", &given, out);
}

static td_status f_tojson(j_run *run, j_value v, j_args *args, j_value *out)
{
    /* tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
    j_json_style style = {.ascii = arg_truth(args, 0, "ensure_ascii", false), .sort = arg_truth(args, 3, "sort_keys", false), .indent = -1, .item = J_TEXT(", "), .key = J_TEXT(": ")};
    j_value indent = j_arg(args, 1, "indent", j_none()), separators = j_arg(args, 2, "separators", j_none());
    if (indent.kind == J_INT || indent.kind == J_BOOL) {
        TD_TRY(j_arg_int(run, args, 1, "indent", 0, &(int64_t){0}));
        style.indent = (int)TD_MAX(0, TD_MIN(indent.kind == J_INT ? indent.integer : indent.truth, 32));
        style.item = J_TEXT(",");
    } else if (indent.kind != J_NONE) {
        return j_fail(run, "tojson: expected an integer indent, found %s", j_type(indent));
    }
    if (separators.kind != J_NONE) {
        if ((separators.kind != J_LIST && separators.kind != J_TUPLE) || separators.list->count != 2) return j_fail(run, "tojson: expected two separators");
        TD_TRY(j_string_of(run, separators.list->items[0], &style.item));
        TD_TRY(j_string_of(run, separators.list->items[1], &style.key));
    }
    td_buffer json = {0};
    td_status status = j_json(run, v, &style, 0, &json);
    if (status == TD_OK) return j_take(run, &json, out);
    td_buffer_free(&json);
    return status;
}

static td_status f_length(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    switch (v.kind) {
    case J_STRING:
        TD_TRY(j_step(run, v.text.bytes / 64));
        *out = j_int((int64_t)j_characters(v.text));
        return TD_OK;
    case J_LIST: case J_TUPLE: *out = j_int((int64_t)v.list->count); return TD_OK;
    case J_DICT: *out = j_int((int64_t)v.dict->count); return TD_OK;
    case J_UNDEFINED: *out = j_int(0); return TD_OK;
    case J_LOOP: *out = j_int((int64_t)v.loop->items->count); return TD_OK;
    default: return j_fail(run, "object of type '%s' has no len()", j_type(v));
    }
}

static td_status f_default(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)run;
    bool missing = v.kind == J_UNDEFINED || (arg_truth(args, 1, "boolean", false) && !j_truth(v));
    *out = missing ? j_arg(args, 0, "default_value", j_str("", 0)) : v;
    return TD_OK;
}

/* value.a.b.0 */
static td_status by_path(j_run *run, j_value v, j_value path, j_value *out)
{
    *out = v;
    if (path.kind == J_INT) return j_item(run, v, path, out);
    if (path.kind != J_STRING) return j_fail(run, "expected the name of an attribute, found %s", j_type(path));
    j_text left = path.text;
    while (left.bytes || path.text.bytes == 0) {
        const char *dot = left.bytes ? memchr(left.text, '.', left.bytes) : NULL;
        j_text part = {left.text, dot ? (size_t)(dot - left.text) : left.bytes};
        bool digits = part.bytes > 0 && part.bytes < 10;
        int64_t number = 0;
        for (size_t i = 0; i < part.bytes && digits; i++) {
            digits = part.text[i] >= '0' && part.text[i] <= '9';
            if (digits) number = number * 10 + part.text[i] - '0';
        }
        TD_TRY(j_item(run, *out, digits ? j_int(number) : j_str(part.text, part.bytes), out));
        if (!dot) break;
        left = (j_text){dot + 1, left.bytes - part.bytes - 1};
    }
    return TD_OK;
}

static td_status f_join(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_list *items;
    j_text glue, text;
    j_value attribute = j_arg(args, 1, "attribute", j_none());
    td_buffer made = {0};
    TD_TRY(j_iterate(run, v, &items));
    TD_TRY(arg_text(run, args, 0, "d", "", &glue));
    for (size_t i = 0; i < items->count; i++) {
        j_value item = items->items[i];
        td_status status = attribute.kind == J_NONE ? TD_OK : by_path(run, item, attribute, &item);
        if (status == TD_OK) status = j_string_of(run, item, &text);
        if (status == TD_OK && made.bytes > J_OUTPUT_MAX) status = j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
        if (status < 0) {
            td_buffer_free(&made);
            return status;
        }
        if (i) td_buffer_put(&made, glue.text, glue.bytes);
        td_buffer_put(&made, text.text, text.bytes);
    }
    return j_take(run, &made, out);
}

static td_status f_first(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    *out = items->count ? items->items[0] : j_undefined(J_TEXT("the first item of nothing"));
    return TD_OK;
}

static td_status f_last(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    *out = items->count ? items->items[items->count - 1] : j_undefined(J_TEXT("the last item of nothing"));
    return TD_OK;
}

static td_status copy_list(j_run *run, j_value v, j_value *out)
{
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    TD_TRY(j_list_new(run, J_LIST, items->count, out));
    for (size_t i = 0; i < items->count; i++) TD_TRY(j_list_put(run, out->list, items->items[i]));
    return TD_OK;
}

static td_status f_list(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    return copy_list(run, v, out);
}

static td_status f_items(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    if (v.kind == J_UNDEFINED) return j_list_new(run, J_LIST, 0, out);
    if (v.kind != J_DICT) return j_fail(run, "can only get item pairs from a mapping, found %s", j_type(v));
    return j_call_method(run, v, J_TEXT("items"), &(j_args){0}, out);
}

static td_status f_string(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_text text;
    TD_TRY(j_string_of(run, v, &text));
    *out = j_str(text.text, text.bytes);
    return TD_OK;
}

static td_status f_escape(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_text text;
    td_buffer made = {0};
    TD_TRY(j_string_of(run, v, &text));
    for (size_t i = 0; i < text.bytes; i++) {
        char c = text.text[i];
        const char *name = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : c == '\'' ? "&#39;" : NULL;
        if (name) td_buffer_text(&made, name);
        else td_buffer_put(&made, &c, 1);
    }
    return j_take(run, &made, out);
}

/* A text as Python's int() or float() reads it; false when it does not. */
static bool read_number(j_text text, bool whole, double *number, int64_t *integer)
{
    char digits[64], *end;
    while (text.bytes && strchr(" \t\n\r\v\f", text.text[0]) && text.text[0]) text.text++, text.bytes--;
    while (text.bytes && strchr(" \t\n\r\v\f", text.text[text.bytes - 1]) && text.text[text.bytes - 1]) text.bytes--;
    if (text.bytes == 0 || text.bytes >= sizeof digits || memchr(text.text, 0, text.bytes)) return false;
    size_t n = 0;
    for (size_t i = 0; i < text.bytes; i++)
        if (text.text[i] != '_' || i == 0 || i + 1 == text.bytes) digits[n++] = text.text[i];
    digits[n] = 0;
    if (strpbrk(digits, "xXpP(")) return false;
    if (whole) {
        if (strlen(digits) > 18) return false;
        *integer = strtoll(digits, &end, 10);
    } else {
        *number = strtod(digits, &end);
    }
    return *end == 0 && end != digits;
}

static td_status f_int(j_run *run, j_value v, j_args *args, j_value *out)
{
    double number = 0;
    int64_t integer = 0, base = 10;
    TD_TRY(j_arg_int(run, args, 1, "base", 10, &base));
    *out = j_arg(args, 0, "default", j_int(0));
    if (v.kind == J_INT) *out = v;
    else if (v.kind == J_BOOL) *out = j_int(v.truth);
    else if (v.kind == J_FLOAT && fabs(v.number) < 9e18) *out = j_int((int64_t)v.number);
    else if (v.kind == J_STRING && base != 10 && v.text.bytes > 0 && v.text.bytes < 18 && base >= 2 && base <= 36) {
        char digits[32], *end;
        snprintf(digits, sizeof digits, "%.*s", (int)v.text.bytes, v.text.text);
        integer = strtoll(digits, &end, (int)base);
        if (*end == 0) *out = j_int(integer);
    } else if (v.kind == J_STRING && read_number(v.text, true, &number, &integer)) *out = j_int(integer);
    else if (v.kind == J_STRING && read_number(v.text, false, &number, &integer) && fabs(number) < 9e18) *out = j_int((int64_t)number);
    return TD_OK;
}

static td_status f_float(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)run;
    double number;
    int64_t integer;
    *out = j_arg(args, 0, "default", j_float(0));
    if (v.kind == J_INT) *out = j_float((double)v.integer);
    else if (v.kind == J_BOOL) *out = j_float(v.truth);
    else if (v.kind == J_FLOAT) *out = v;
    else if (v.kind == J_STRING && read_number(v.text, false, &number, &integer)) *out = j_float(number);
    return TD_OK;
}

static td_status f_abs(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    if (v.kind == J_FLOAT) *out = j_float(fabs(v.number));
    else if (v.kind == J_INT && v.integer > INT64_MIN) *out = j_int(llabs(v.integer));
    else if (v.kind == J_BOOL) *out = j_int(v.truth);
    else return j_fail(run, "bad operand type for abs(): '%s'", j_type(v));
    return TD_OK;
}

static td_status f_round(j_run *run, j_value v, j_args *args, j_value *out)
{
    int64_t precision;
    j_text method;
    TD_TRY(j_arg_int(run, args, 0, "precision", 0, &precision));
    TD_TRY(arg_text(run, args, 1, "method", "common", &method));
    if (v.kind != J_FLOAT && v.kind != J_INT && v.kind != J_BOOL) return j_fail(run, "type %s doesn't define __round__ method", j_type(v));
    double x = v.kind == J_FLOAT ? v.number : v.kind == J_INT ? (double)v.integer : v.truth;
    if (precision < -15 || precision > 15) {
        *out = j_float(x);
    } else if (j_is(method, "common")) {
        if (v.kind != J_FLOAT && precision >= 0) {
            *out = v.kind == J_BOOL ? j_int(v.truth) : v; /* round(int, n) stays an integer */
            return TD_OK;
        }
        if (precision >= 0) { /* printing rounds the decimal value half to even, as Python does */
            char digits[400];
            snprintf(digits, sizeof digits, "%.*f", (int)precision, x);
            *out = j_float(strtod(digits, NULL));
        } else {
            double scale = pow(10, (double)-precision), r = nearbyint(x / scale) * scale;
            *out = v.kind == J_FLOAT ? j_float(r) : j_int((int64_t)r);
        }
    } else if (j_is(method, "ceil") || j_is(method, "floor")) {
        double scale = pow(10, (double)precision);
        *out = j_float((j_is(method, "ceil") ? ceil(x * scale) : floor(x * scale)) / scale);
    } else {
        return j_fail(run, "round: method must be common, ceil or floor");
    }
    return TD_OK;
}

static td_status f_reverse(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    td_buffer text = {0};
    TD_TRY(j_list_new(run, J_LIST, items->count, out));
    for (size_t i = items->count; i-- > 0;) {
        if (v.kind == J_STRING) td_buffer_put(&text, items->items[i].text.text, items->items[i].text.bytes);
        else TD_TRY(j_list_put(run, out->list, items->items[i]));
    }
    return v.kind == J_STRING ? j_take(run, &text, out) : TD_OK;
}

/* ---- sorting ---- */

typedef struct { j_value key, item; } keyed;

/* Strings compare without case unless asked. */
static td_status sort_key(j_run *run, j_value item, j_value attribute, bool case_sensitive, j_value *out)
{
    *out = item;
    if (attribute.kind != J_NONE) TD_TRY(by_path(run, item, attribute, out));
    if (out->kind == J_STRING && !case_sensitive) return j_call_method(run, *out, J_TEXT("lower"), &(j_args){0}, out);
    return TD_OK;
}

/* Stable merge sort; comparisons may fail. */
static td_status sort_keyed(j_run *run, keyed *list, keyed *scratch, size_t count, bool reverse)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t low = 0; low < count; low += 2 * width) {
            size_t middle = TD_MIN(low + width, count), high = TD_MIN(low + 2 * width, count), a = low, b = middle;
            for (size_t i = low; i < high; i++) {
                int order = 0;
                if (a < middle && b < high) TD_TRY(j_order(run, list[b].key, list[a].key, &order));
                bool right = a == middle || (b < high && (reverse ? order > 0 : order < 0));
                scratch[i] = right ? list[b++] : list[a++];
            }
        }
        memcpy(list, scratch, count * sizeof *list);
    }
    return TD_OK;
}

static td_status sorted(j_run *run, j_list *items, j_value attribute, bool case_sensitive, bool reverse, j_value *out)
{
    keyed *list = j_get(&run->pool, (items->count + 1) * sizeof *list), *scratch = j_get(&run->pool, (items->count + 1) * sizeof *list);
    if (!list || !scratch) return TD_E_INVALID;
    for (size_t i = 0; i < items->count; i++) {
        list[i].item = items->items[i];
        TD_TRY(sort_key(run, items->items[i], attribute, case_sensitive, &list[i].key));
    }
    TD_TRY(sort_keyed(run, list, scratch, items->count, reverse));
    TD_TRY(j_list_new(run, J_LIST, items->count, out));
    for (size_t i = 0; i < items->count; i++) TD_TRY(j_list_put(run, out->list, list[i].item));
    return TD_OK;
}

static td_status f_sort(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_list *items;
    TD_TRY(j_iterate(run, v, &items));
    return sorted(run, items, j_arg(args, 2, "attribute", j_none()), arg_truth(args, 1, "case_sensitive", false), arg_truth(args, 0, "reverse", false), out);
}

static td_status f_dictsort(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text by;
    j_value pairs;
    TD_TRY(arg_text(run, args, 1, "by", "key", &by));
    TD_TRY(f_items(run, v, args, &pairs));
    if (!j_is(by, "key") && !j_is(by, "value")) return j_fail(run, "dictsort: you can only sort by either 'key' or 'value'");
    return sorted(run, pairs.list, j_int(j_is(by, "value")), arg_truth(args, 0, "case_sensitive", false), arg_truth(args, 2, "reverse", false), out);
}

static td_status f_unique(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_list *items;
    j_value attribute = j_arg(args, 1, "attribute", j_none()), seen, key;
    bool case_sensitive = arg_truth(args, 0, "case_sensitive", false);
    TD_TRY(j_iterate(run, v, &items));
    TD_TRY(j_dict_new(run, &seen));
    TD_TRY(j_list_new(run, J_LIST, 0, out));
    for (size_t i = 0; i < items->count; i++) {
        j_value *found;
        TD_TRY(sort_key(run, items->items[i], attribute, case_sensitive, &key));
        TD_TRY(j_dict_find(run, seen.dict, key, &found));
        if (found) continue;
        TD_TRY(j_dict_put(run, seen.dict, key, j_none()));
        TD_TRY(j_list_put(run, out->list, items->items[i]));
    }
    return TD_OK;
}

/* min and max */
static td_status extreme(j_run *run, j_value v, j_args *args, int sign, j_value *out)
{
    j_list *items;
    j_value best, key, attribute = j_arg(args, 1, "attribute", j_none());
    bool case_sensitive = arg_truth(args, 0, "case_sensitive", false);
    TD_TRY(j_iterate(run, v, &items));
    *out = j_undefined(J_TEXT("no aggregated item, sequence was empty"));
    for (size_t i = 0; i < items->count; i++) {
        int order = sign;
        TD_TRY(sort_key(run, items->items[i], attribute, case_sensitive, &key));
        if (i) TD_TRY(j_order(run, key, best, &order));
        if (order * sign <= 0 && i) continue;
        best = key;
        *out = items->items[i];
    }
    return TD_OK;
}

static td_status f_max(j_run *run, j_value v, j_args *args, j_value *out) { return extreme(run, v, args, 1, out); }
static td_status f_min(j_run *run, j_value v, j_args *args, j_value *out) { return extreme(run, v, args, -1, out); }

static td_status f_sum(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_list *items;
    j_value attribute = j_arg(args, 0, "attribute", j_none());
    TD_TRY(j_iterate(run, v, &items));
    *out = j_arg(args, 1, "start", j_int(0));
    for (size_t i = 0; i < items->count; i++) {
        j_node left = {.kind = N_CONST, .value = *out}, right = {.kind = N_CONST, .value = items->items[i]};
        if (attribute.kind != J_NONE) TD_TRY(by_path(run, items->items[i], attribute, &right.value));
        j_node add = {.kind = N_ADD, .line = run->node->line, .column = run->node->column, .a = &left, .b = &right};
        const j_node *node = run->node;
        td_status status = j_evaluate(run, &add, out);
        if (status < 0) return status;
        run->node = node;
    }
    return TD_OK;
}

/* ---- map, select and their kin ---- */

static td_status f_map(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_list *items;
    j_value attribute = j_arg(args, -1, "attribute", j_none()), otherwise = j_arg(args, -1, "default", j_none());
    const j_builtin *filter = NULL;
    if (!j_truth(v)) return j_list_new(run, J_LIST, 0, out);
    TD_TRY(j_iterate(run, v, &items));
    if (attribute.kind == J_NONE) {
        if (args->count == 0 || args->positional[0].kind != J_STRING) return j_fail(run, "map requires a filter argument");
        filter = j_find_filter(args->positional[0].text);
        if (!filter) return j_fail(run, "no filter named '%.*s'", (int)TD_MIN(args->positional[0].text.bytes, 60), args->positional[0].text.text);
    }
    TD_TRY(j_list_new(run, J_LIST, items->count, out));
    for (size_t i = 0; i < items->count; i++) {
        j_value item;
        if (filter) {
            j_args rest = *args;
            memmove(rest.positional, rest.positional + 1, (size_t)(J_ARGS_MAX - 1) * sizeof *rest.positional);
            rest.count--;
            TD_TRY(filter->fn(run, items->items[i], &rest, &item));
        } else {
            TD_TRY(by_path(run, items->items[i], attribute, &item));
            if (item.kind == J_UNDEFINED && otherwise.kind != J_NONE) item = otherwise;
        }
        TD_TRY(j_list_put(run, out->list, item));
    }
    return TD_OK;
}

static td_status choose(j_run *run, j_value v, j_args *args, bool by_attribute, bool wanted, j_value *out)
{
    j_list *items;
    int used = by_attribute ? 1 : 0;
    const j_builtin *test = NULL;
    if (!j_truth(v)) return j_list_new(run, J_LIST, 0, out); /* whatever is false has no items */
    TD_TRY(j_iterate(run, v, &items));
    if (args->count < used) return j_fail(run, "expected the name of an attribute");
    if (args->count > used) {
        j_value name = args->positional[used];
        if (name.kind == J_STRING) test = j_find_test(name.text);
        if (!test) return j_fail(run, "no test of that name");
    }
    j_args rest = *args;
    int skip = used + (test != NULL);
    memmove(rest.positional, rest.positional + skip, (size_t)(J_ARGS_MAX - skip) * sizeof *rest.positional);
    rest.count = TD_MAX(rest.count - skip, 0);
    TD_TRY(j_list_new(run, J_LIST, 0, out));
    for (size_t i = 0; i < items->count; i++) {
        j_value item = items->items[i], result;
        if (by_attribute) TD_TRY(by_path(run, item, args->positional[0], &item));
        result = item;
        if (test) TD_TRY(test->fn(run, item, &rest, &result));
        if (j_truth(result) == wanted) TD_TRY(j_list_put(run, out->list, items->items[i]));
    }
    return TD_OK;
}

static td_status f_select(j_run *run, j_value v, j_args *args, j_value *out) { return choose(run, v, args, false, true, out); }
static td_status f_reject(j_run *run, j_value v, j_args *args, j_value *out) { return choose(run, v, args, false, false, out); }
static td_status f_selectattr(j_run *run, j_value v, j_args *args, j_value *out) { return choose(run, v, args, true, true, out); }
static td_status f_rejectattr(j_run *run, j_value v, j_args *args, j_value *out) { return choose(run, v, args, true, false, out); }

/* ---- texts ---- */

static td_status f_indent(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text text, fill;
    j_value width = j_arg(args, 0, "width", j_int(4));
    bool first = arg_truth(args, 1, "first", false), blank = arg_truth(args, 2, "blank", false);
    char spaces[256];
    memset(spaces, ' ', sizeof spaces);
    TD_TRY(j_string_of(run, v, &text));
    if (width.kind == J_STRING) fill = width.text;
    else if (width.kind == J_INT && width.integer >= 0 && width.integer <= (int64_t)sizeof spaces) fill = (j_text){spaces, (size_t)width.integer};
    else return j_fail(run, "indent: expected a width from 0 to %zu or a text", sizeof spaces);
    td_buffer made = {0};
    j_value ended, lines;
    td_buffer_put(&made, text.text, text.bytes);
    td_buffer_text(&made, "\n");
    TD_TRY(j_take(run, &made, &ended));
    TD_TRY(j_call_method(run, ended, J_TEXT("splitlines"), &(j_args){0}, &lines));
    made = (td_buffer){0};
    for (size_t i = 0; i < lines.list->count; i++) {
        j_text line = lines.list->items[i].text;
        if (i) td_buffer_text(&made, "\n");
        if (i == 0 ? first : (line.bytes || blank)) td_buffer_put(&made, fill.text, fill.bytes);
        td_buffer_put(&made, line.text, line.bytes);
    }
    return j_take(run, &made, out);
}

static td_status f_center(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text text;
    int64_t width;
    TD_TRY(j_string_of(run, v, &text));
    TD_TRY(j_arg_int(run, args, 0, "width", 80, &width));
    if (width > 100000) return j_fail(run, "center: expected a width of at most 100000");
    int64_t pad = width - (int64_t)j_characters(text), left = pad / 2 + (pad & width & 1);
    td_buffer made = {0};
    for (int64_t i = 0; i < pad && i < left; i++) td_buffer_text(&made, " ");
    td_buffer_put(&made, text.text, text.bytes);
    for (int64_t i = left; i < pad; i++) td_buffer_text(&made, " ");
    return j_take(run, &made, out);
}

static td_status f_wordcount(j_run *run, j_value v, j_args *args, j_value *out)
{
    (void)args;
    j_text text;
    int64_t words = 0;
    bool inside = false;
    TD_TRY(j_string_of(run, v, &text));
    for (size_t i = 0, length; i < text.bytes; i += length) {
        length = td_utf8_length(text.text + i, text.bytes - i);
        if (length == 0) length = 1;
        uint32_t code = td_utf8_decode(text.text + i, length);
        bool word = td_unicode_word(code);
        words += word && !inside;
        inside = word;
    }
    *out = j_int(words);
    return TD_OK;
}

static td_status f_format(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text text;
    j_value values;
    TD_TRY(j_string_of(run, v, &text));
    if (args->named_count) {
        TD_TRY(j_dict_new(run, &values));
        for (int i = 0; i < args->named_count; i++) TD_TRY(j_dict_put(run, values.dict, j_str(args->names[i].text, args->names[i].bytes), args->named[i]));
    } else {
        TD_TRY(j_list_new(run, J_TUPLE, (size_t)args->count, &values));
        for (int i = 0; i < args->count; i++) TD_TRY(j_list_put(run, values.list, args->positional[i]));
    }
    return j_format_percent(run, text, values, out);
}

static td_status f_attr(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text name;
    TD_TRY(arg_text(run, args, 0, "name", "", &name));
    if (v.kind == J_DICT && !j_has_method(v, name)) { /* attributes only, never items */
        *out = j_undefined(name);
        return TD_OK;
    }
    return j_attribute(run, v, name, out);
}

static td_status f_truncate(j_run *run, j_value v, j_args *args, j_value *out)
{
    j_text text, end;
    int64_t length, leeway;
    TD_TRY(j_string_of(run, v, &text));
    TD_TRY(j_arg_int(run, args, 0, "length", 255, &length));
    TD_TRY(arg_text(run, args, 2, "end", "...", &end));
    TD_TRY(j_arg_int(run, args, 3, "leeway", 5, &leeway));
    int64_t room = length - (int64_t)j_characters(end);
    if (room < 0 || leeway < 0) return j_fail(run, "truncate: expected a length of at least %zu", j_characters(end));
    if ((int64_t)j_characters(text) <= length + leeway) {
        *out = j_str(text.text, text.bytes);
        return TD_OK;
    }
    size_t cut = j_offset(text, (size_t)room);
    if (!arg_truth(args, 1, "killwords", false))
        for (size_t i = cut; i-- > 0;)
            if (text.text[i] == ' ') {
                cut = i;
                break;
            }
    td_buffer made = {0};
    td_buffer_put(&made, text.text, cut);
    td_buffer_put(&made, end.text, end.bytes);
    return j_take(run, &made, out);
}

static const j_builtin filters[] = {
    {"abs", f_abs}, {"attr", f_attr}, {"capitalize", f_capitalize}, {"center", f_center}, {"count", f_length}, {"d", f_default}, {"default", f_default}, {"dictsort", f_dictsort},
    {"e", f_escape}, {"escape", f_escape}, {"first", f_first}, {"float", f_float}, {"format", f_format}, {"indent", f_indent}, {"int", f_int}, {"items", f_items}, {"join", f_join}, {"last", f_last},
    {"length", f_length}, {"list", f_list}, {"lower", f_lower}, {"map", f_map}, {"max", f_max}, {"min", f_min}, {"reject", f_reject}, {"rejectattr", f_rejectattr},
    {"replace", f_replace}, {"reverse", f_reverse}, {"round", f_round}, {"safe", f_string}, {"select", f_select}, {"selectattr", f_selectattr}, {"sort", f_sort},
    {"string", f_string}, {"sum", f_sum}, {"title", f_title}, {"tojson", f_tojson}, {"trim", f_trim}, {"truncate", f_truncate}, {"unique", f_unique}, {"upper", f_upper}, {"wordcount", f_wordcount},
};

const j_builtin *j_find_filter(j_text name)
{
    for (size_t i = 0; i < TD_COUNT(filters); i++)
        if (j_is(name, filters[i].name)) return &filters[i];
    return NULL;
}
