/* jinja_value.c - values: making, comparing, printing as Python does. See jinja.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

enum { CHUNK = 64 * 1024, PRINT_DEPTH_MAX = 200 };

void *j_get(j_pool *pool, size_t bytes)
{
    size_t wanted = (bytes + 15) & ~(size_t)15;
    if (wanted < bytes || (pool->limit && pool->used + wanted > pool->limit)) {
        td_fail(TD_E_INVALID, "template: its values need more than %zu MiB", pool->limit >> 20);
        return NULL;
    }
    pool->used += wanted;
    if (wanted > CHUNK / 4) return td_arena_get(&pool->arena, wanted);
    if (pool->left < wanted) {
        pool->at = td_arena_get(&pool->arena, CHUNK);
        if (!pool->at) return NULL;
        pool->left = CHUNK;
    }
    void *piece = pool->at;
    pool->at += wanted;
    pool->left -= wanted;
    return piece;
}

td_status j_fail(const j_run *run, const char *format, ...)
{
    char message[768];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return run->node ? td_fail(TD_E_INVALID, "template, line %d, column %d: %s", run->node->line, run->node->column, message) : td_fail(TD_E_INVALID, "template: %s", message);
}

td_status j_step(j_run *run, size_t steps)
{
    run->steps += (int64_t)TD_MIN(steps, (size_t)J_STEPS_MAX);
    return run->steps > J_STEPS_MAX ? j_fail(run, "more than %d steps of evaluation", J_STEPS_MAX) : TD_OK;
}

bool j_is(j_text text, const char *literal)
{
    size_t n = strlen(literal);
    return text.bytes == n && !memcmp(text.text, literal, n);
}

bool j_same(j_text a, j_text b) { return a.bytes == b.bytes && (a.bytes == 0 || !memcmp(a.text, b.text, a.bytes)); }

td_status j_copy(j_run *run, const char *text, size_t bytes, j_value *out)
{
    TD_TRY(j_step(run, bytes / 64));
    char *copy = j_get(&run->pool, bytes + 1);
    if (!copy) return TD_E_INVALID;
    if (bytes) memcpy(copy, text, bytes);
    *out = j_str(copy, bytes);
    return TD_OK;
}

td_status j_take(j_run *run, td_buffer *buffer, j_value *out)
{
    td_status status = td_buffer_status(buffer);
    if (status == TD_OK) status = j_copy(run, buffer->data, buffer->bytes, out);
    td_buffer_free(buffer);
    return status;
}

td_status j_list_new(j_run *run, j_kind kind, size_t capacity, j_value *out)
{
    j_list *list = j_get(&run->pool, sizeof *list);
    if (!list) return TD_E_INVALID;
    if (capacity) {
        list->items = capacity < J_MEMORY_MAX / sizeof *list->items ? j_get(&run->pool, capacity * sizeof *list->items) : NULL;
        if (!list->items) return j_fail(run, "no memory for a list of %zu", capacity);
        list->capacity = capacity;
    }
    *out = (j_value){.kind = kind, .list = list};
    return TD_OK;
}

td_status j_list_put(j_run *run, j_list *list, j_value item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 8;
        j_value *grown = j_get(&run->pool, capacity * sizeof *grown);
        if (!grown) return TD_E_INVALID;
        if (list->count) memcpy(grown, list->items, list->count * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return j_step(run, 1);
}

td_status j_dict_new(j_run *run, j_value *out)
{
    j_dict *dict = j_get(&run->pool, sizeof *dict);
    if (!dict) return TD_E_INVALID;
    *out = (j_value){.kind = J_DICT, .dict = dict};
    return TD_OK;
}

td_status j_dict_find(j_run *run, const j_dict *dict, j_value key, j_value **out)
{
    TD_TRY(j_step(run, 1 + dict->count / 16));
    *out = NULL;
    for (size_t i = 0; i < dict->count; i++)
        if (j_equal(run, dict->keys[i], key)) {
            *out = &dict->values[i];
            break;
        }
    return TD_OK;
}

td_status j_dict_put(j_run *run, j_dict *dict, j_value key, j_value value)
{
    j_value *there;
    TD_TRY(j_dict_find(run, dict, key, &there));
    if (there) {
        *there = value;
        return TD_OK;
    }
    if (dict->count == dict->capacity) {
        size_t capacity = dict->capacity ? dict->capacity * 2 : 8;
        j_value *grown = j_get(&run->pool, 2 * capacity * sizeof *grown);
        if (!grown) return TD_E_INVALID;
        if (dict->count) {
            memcpy(grown, dict->keys, dict->count * sizeof *grown);
            memcpy(grown + capacity, dict->values, dict->count * sizeof *grown);
        }
        dict->keys = grown;
        dict->values = grown + capacity;
        dict->capacity = capacity;
    }
    dict->keys[dict->count] = key;
    dict->values[dict->count++] = value;
    return TD_OK;
}

/* JSON has one kind of number: whole ones up to 2^53 are integers here. */
static j_value from_number(double number)
{
    return number == floor(number) && fabs(number) <= 9007199254740992.0 ? j_int((int64_t)number) : j_float(number);
}

td_status j_from_json(j_run *run, const cJSON *json, int depth, j_value *out)
{
    const cJSON *item;
    if (depth > PRINT_DEPTH_MAX) return j_fail(run, "values are nested deeper than %d", PRINT_DEPTH_MAX);
    TD_TRY(j_step(run, 1));
    if (cJSON_IsString(json)) { /* cJSON's text lives as long as the rendering */
        size_t bytes = strlen(json->valuestring);
        *out = j_str(json->valuestring, bytes);
        for (size_t i = 0, length; i < bytes; i += length)
            if ((length = td_utf8_length(json->valuestring + i, bytes - i)) == 0) return j_fail(run, "a text of the messages is not UTF-8 at byte %zu", i);
    } else if (cJSON_IsNumber(json)) {
        *out = from_number(json->valuedouble);
    } else if (cJSON_IsBool(json)) {
        *out = j_bool(cJSON_IsTrue(json));
    } else if (cJSON_IsArray(json)) {
        j_value list, element;
        TD_TRY(j_list_new(run, J_LIST, 0, &list));
        cJSON_ArrayForEach(item, json) {
            TD_TRY(j_from_json(run, item, depth + 1, &element));
            TD_TRY(j_list_put(run, list.list, element));
        }
        *out = list;
    } else if (cJSON_IsObject(json)) {
        j_value dict, element;
        TD_TRY(j_dict_new(run, &dict));
        cJSON_ArrayForEach(item, json) {
            TD_TRY(j_from_json(run, item, depth + 1, &element));
            TD_TRY(j_dict_put(run, dict.dict, j_str(item->string, strlen(item->string)), element));
        }
        *out = dict;
    } else {
        *out = j_none();
    }
    return TD_OK;
}

/* ---- comparing ---- */

bool j_truth(j_value v)
{
    switch (v.kind) {
    case J_UNDEFINED: case J_NONE: return false;
    case J_BOOL: return v.truth;
    case J_INT: return v.integer != 0;
    case J_FLOAT: return v.number != 0;
    case J_STRING: return v.text.bytes > 0;
    case J_LIST: case J_TUPLE: return v.list->count > 0;
    case J_DICT: return v.dict->count > 0;
    default: return true;
    }
}

static bool is_number(j_value v) { return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT; }
static int64_t whole(j_value v) { return v.kind == J_BOOL ? v.truth : v.integer; }
static double real(j_value v) { return v.kind == J_FLOAT ? v.number : (double)whole(v); }

static bool equal(j_run *run, j_value a, j_value b, int depth);

static bool equal_dicts(j_run *run, const j_dict *a, const j_dict *b, int depth)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        size_t k = 0;
        while (k < b->count && !equal(run, a->keys[i], b->keys[k], depth)) k++;
        if (k == b->count || !equal(run, a->values[i], b->values[k], depth)) return false;
    }
    return true;
}

/* Counts its steps without failing itself: past the bound everything is different and the next step of the evaluation fails. */
static bool equal(j_run *run, j_value a, j_value b, int depth)
{
    if (is_number(a) && is_number(b)) return a.kind == J_FLOAT || b.kind == J_FLOAT ? real(a) == real(b) : whole(a) == whole(b);
    if (a.kind != b.kind || depth > PRINT_DEPTH_MAX || run->steps > J_STEPS_MAX) return false;
    switch (a.kind) {
    case J_UNDEFINED: case J_NONE: return true;
    case J_STRING: case J_FUNCTION: return j_same(a.text, b.text);
    case J_LIST: case J_TUPLE:
        if (a.list == b.list) return true;
        if (a.list->count != b.list->count) return false;
        for (size_t i = 0; i < a.list->count; i++, run->steps++)
            if (!equal(run, a.list->items[i], b.list->items[i], depth + 1)) return false;
        return true;
    case J_DICT:
        run->steps += (int64_t)a.dict->count;
        return a.dict == b.dict || equal_dicts(run, a.dict, b.dict, depth + 1);
    case J_NAMESPACE: return a.dict == b.dict;
    case J_MACRO: return a.macro == b.macro;
    case J_LOOP: return a.loop == b.loop;
    default: return false;
    }
}

bool j_equal(j_run *run, j_value a, j_value b) { return equal(run, a, b, 0); }

const char *j_type(j_value v)
{
    static const char *const names[] = {"Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple", "dict", "Namespace", "Macro", "method", "function", "LoopContext"};
    return names[v.kind];
}

td_status j_order(j_run *run, j_value a, j_value b, int *out)
{
    TD_TRY(j_step(run, 1));
    if (is_number(a) && is_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT) *out = real(a) < real(b) ? -1 : real(a) > real(b);
        else *out = whole(a) < whole(b) ? -1 : whole(a) > whole(b);
        return TD_OK;
    }
    if (a.kind == J_STRING && b.kind == J_STRING) { /* UTF-8 sorts as its code points do */
        int order = memcmp(a.text.text, b.text.text, TD_MIN(a.text.bytes, b.text.bytes));
        *out = order ? order : (a.text.bytes > b.text.bytes) - (a.text.bytes < b.text.bytes);
        return TD_OK;
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        for (size_t i = 0; i < TD_MIN(a.list->count, b.list->count); i++) {
            if (j_equal(run, a.list->items[i], b.list->items[i])) continue;
            if (++run->depth > J_DEPTH_MAX) return j_fail(run, "evaluation is nested deeper than %d", J_DEPTH_MAX);
            td_status status = j_order(run, a.list->items[i], b.list->items[i], out);
            run->depth--;
            return status;
        }
        *out = (a.list->count > b.list->count) - (a.list->count < b.list->count);
        return TD_OK;
    }
    return j_fail(run, "'<' not supported between instances of '%s' and '%s'", j_type(a), j_type(b));
}

/* ---- printing ---- */

/* Python's repr of a float: the shortest digits that read back the same. */
void j_show_float(double number, td_buffer *out)
{
    char digits[40];
    if (isnan(number) || isinf(number)) {
        td_buffer_text(out, isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 1;
    do snprintf(digits, sizeof digits, "%.*e", precision - 1, number);
    while (strtod(digits, NULL) != number && precision++ < 17);
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    if (exponent >= -4 && exponent < 16) {
        snprintf(digits, sizeof digits, "%.*f", TD_MAX(precision - 1 - exponent, 0), number);
        td_buffer_text(out, digits);
        if (!strchr(digits, '.')) td_buffer_text(out, ".0");
        return;
    }
    *e = 0;
    td_buffer_format(out, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
}

static bool printable(uint32_t code)
{
    unsigned category = td_unicode_category(code);
    return code == ' ' || !(category >> 8 == 'C' || category >> 8 == 'Z');
}

static void repr_string(j_text text, td_buffer *out)
{
    bool single = text.bytes && memchr(text.text, '\'', text.bytes), twice = text.bytes && memchr(text.text, '"', text.bytes);
    char quote = single && !twice ? '"' : '\'';
    td_buffer_put(out, &quote, 1);
    for (size_t i = 0, length; i < text.bytes; i += length) {
        length = td_utf8_length(text.text + i, text.bytes - i);
        if (length == 0) break;
        uint32_t code = td_utf8_decode(text.text + i, length);
        if (code == '\n') td_buffer_text(out, "\\n");
        else if (code == '\r') td_buffer_text(out, "\\r");
        else if (code == '\t') td_buffer_text(out, "\\t");
        else if (code == '\\' || code == (uint32_t)(unsigned char)quote) td_buffer_format(out, "\\%c", (int)code);
        else if (printable(code)) td_buffer_put(out, text.text + i, length);
        else td_buffer_format(out, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
    }
    td_buffer_put(out, &quote, 1);
}

static td_status repr_dict(j_run *run, const j_dict *dict, int depth, td_buffer *out)
{
    td_buffer_text(out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) td_buffer_text(out, ", ");
        TD_TRY(j_repr(run, dict->keys[i], depth + 1, out));
        td_buffer_text(out, ": ");
        TD_TRY(j_repr(run, dict->values[i], depth + 1, out));
    }
    td_buffer_text(out, "}");
    return TD_OK;
}

td_status j_repr(j_run *run, j_value v, int depth, td_buffer *out)
{
    TD_TRY(j_step(run, 1));
    if (depth > PRINT_DEPTH_MAX) return j_fail(run, "values are nested deeper than %d", PRINT_DEPTH_MAX);
    if (out->bytes > J_OUTPUT_MAX) return j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
    switch (v.kind) {
    case J_UNDEFINED: td_buffer_text(out, "Undefined"); return TD_OK;
    case J_STRING: repr_string(v.text, out); return TD_OK;
    case J_LIST: case J_TUPLE:
        td_buffer_text(out, v.kind == J_LIST ? "[" : "(");
        for (size_t i = 0; i < v.list->count; i++) {
            if (i) td_buffer_text(out, ", ");
            TD_TRY(j_repr(run, v.list->items[i], depth + 1, out));
        }
        td_buffer_text(out, v.kind == J_LIST ? "]" : v.list->count == 1 ? ",)" : ")");
        return TD_OK;
    case J_DICT: return repr_dict(run, v.dict, depth, out);
    case J_NAMESPACE:
        td_buffer_text(out, "<Namespace ");
        TD_TRY(repr_dict(run, v.dict, depth, out));
        td_buffer_text(out, ">");
        return TD_OK;
    case J_MACRO: td_buffer_format(out, "<Macro '%.*s'>", (int)v.macro->name.bytes, v.macro->name.text); return TD_OK;
    case J_METHOD: case J_FUNCTION: case J_LOOP: td_buffer_format(out, "<%s>", j_type(v)); return TD_OK;
    default: return j_show(run, v, out);
    }
}

td_status j_show(j_run *run, j_value v, td_buffer *out)
{
    switch (v.kind) {
    case J_UNDEFINED: return TD_OK;
    case J_NONE: td_buffer_text(out, "None"); return TD_OK;
    case J_BOOL: td_buffer_text(out, v.truth ? "True" : "False"); return TD_OK;
    case J_INT: td_buffer_format(out, "%" PRId64, v.integer); return TD_OK;
    case J_FLOAT: j_show_float(v.number, out); return TD_OK;
    case J_STRING: td_buffer_put(out, v.text.text, v.text.bytes); return TD_OK;
    default: return j_repr(run, v, 0, out);
    }
}

td_status j_string_of(j_run *run, j_value v, j_text *out)
{
    j_value text = v;
    if (v.kind != J_STRING) {
        td_buffer shown = {0};
        td_status status = j_show(run, v, &shown);
        if (status < 0) td_buffer_free(&shown);
        TD_TRY(status);
        TD_TRY(j_take(run, &shown, &text));
    }
    *out = text.text;
    return TD_OK;
}

/* ---- json.dumps ---- */

static void json_string(j_text text, bool ascii, td_buffer *out)
{
    td_buffer_text(out, "\"");
    for (size_t i = 0, length; i < text.bytes; i += length) {
        length = td_utf8_length(text.text + i, text.bytes - i);
        if (length == 0) break;
        uint32_t code = td_utf8_decode(text.text + i, length);
        static const char pairs[] = "\"\"\\\\\nn\rr\tt\bb\ff";
        const char *known = NULL;
        for (size_t k = 0; k + 1 < sizeof pairs; k += 2)
            if ((uint32_t)(unsigned char)pairs[k] == code) known = pairs + k + 1;
        if (known) td_buffer_format(out, "\\%c", *known);
        else if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000)) td_buffer_format(out, "\\u%04x", code);
        else if (ascii && code >= 0x10000) td_buffer_format(out, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
        else td_buffer_put(out, text.text + i, length);
    }
    td_buffer_text(out, "\"");
}

static void json_line(const j_json_style *style, int depth, td_buffer *out)
{
    if (style->indent < 0) return;
    td_buffer_text(out, "\n");
    for (int i = 0; i < style->indent * depth; i++) td_buffer_text(out, " ");
}

static int by_key(const void *a, const void *b)
{
    const j_value *x = *(const j_value *const *)a, *y = *(const j_value *const *)b;
    int order = memcmp(x->text.text, y->text.text, TD_MIN(x->text.bytes, y->text.bytes));
    return order ? order : (x->text.bytes > y->text.bytes) - (x->text.bytes < y->text.bytes);
}

static td_status json_key(j_run *run, j_value key, bool ascii, td_buffer *out)
{
    switch (key.kind) {
    case J_STRING: json_string(key.text, ascii, out); return TD_OK;
    case J_BOOL: td_buffer_text(out, key.truth ? "\"true\"" : "\"false\""); return TD_OK;
    case J_NONE: td_buffer_text(out, "\"null\""); return TD_OK;
    case J_INT: td_buffer_format(out, "\"%" PRId64 "\"", key.integer); return TD_OK;
    case J_FLOAT:
        td_buffer_text(out, "\"");
        j_show_float(key.number, out);
        td_buffer_text(out, "\"");
        return TD_OK;
    default: return j_fail(run, "keys of JSON must be str, int, float, bool or None, not %s", j_type(key));
    }
}

static td_status json_dict(j_run *run, const j_dict *dict, const j_json_style *style, int depth, td_buffer *out)
{
    if (dict->count == 0) {
        td_buffer_text(out, "{}");
        return TD_OK;
    }
    const j_value **order = j_get(&run->pool, dict->count * sizeof *order);
    if (!order) return TD_E_INVALID;
    bool texts = true;
    for (size_t i = 0; i < dict->count; i++) {
        order[i] = &dict->keys[i];
        texts &= dict->keys[i].kind == J_STRING;
    }
    if (style->sort && texts) qsort(order, dict->count, sizeof *order, by_key);
    td_buffer_text(out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) td_buffer_put(out, style->item.text, style->item.bytes);
        json_line(style, depth + 1, out);
        TD_TRY(json_key(run, *order[i], style->ascii, out));
        td_buffer_put(out, style->key.text, style->key.bytes);
        TD_TRY(j_json(run, dict->values[order[i] - dict->keys], style, depth + 1, out));
    }
    json_line(style, depth, out);
    td_buffer_text(out, "}");
    return TD_OK;
}

td_status j_json(j_run *run, j_value v, const j_json_style *style, int depth, td_buffer *out)
{
    TD_TRY(j_step(run, 1));
    if (depth > PRINT_DEPTH_MAX) return j_fail(run, "values are nested deeper than %d", PRINT_DEPTH_MAX);
    if (out->bytes > J_OUTPUT_MAX) return j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
    switch (v.kind) {
    case J_NONE: td_buffer_text(out, "null"); return TD_OK;
    case J_BOOL: td_buffer_text(out, v.truth ? "true" : "false"); return TD_OK;
    case J_INT: td_buffer_format(out, "%" PRId64, v.integer); return TD_OK;
    case J_FLOAT:
        if (isnan(v.number) || isinf(v.number)) td_buffer_text(out, isnan(v.number) ? "NaN" : v.number < 0 ? "-Infinity" : "Infinity");
        else j_show_float(v.number, out);
        return TD_OK;
    case J_STRING: json_string(v.text, style->ascii, out); return TD_OK;
    case J_LIST: case J_TUPLE:
        if (v.list->count == 0) {
            td_buffer_text(out, "[]");
            return TD_OK;
        }
        td_buffer_text(out, "[");
        for (size_t i = 0; i < v.list->count; i++) {
            if (i) td_buffer_put(out, style->item.text, style->item.bytes);
            json_line(style, depth + 1, out);
            TD_TRY(j_json(run, v.list->items[i], style, depth + 1, out));
        }
        json_line(style, depth, out);
        td_buffer_text(out, "]");
        return TD_OK;
    case J_DICT: return json_dict(run, v.dict, style, depth, out);
    default: return j_fail(run, "an object of type %s is not JSON serializable", j_type(v));
    }
}

/* ---- characters, items, attributes ---- */

size_t j_characters(j_text text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.bytes; i++) n += ((unsigned char)text.text[i] & 0xC0) != 0x80;
    return n;
}

size_t j_offset(j_text text, size_t character)
{
    size_t i = 0;
    for (; i < text.bytes; i++)
        if (((unsigned char)text.text[i] & 0xC0) != 0x80 && character-- == 0) break;
    return i;
}

td_status j_iterate(j_run *run, j_value v, j_list **out)
{
    j_value list;
    switch (v.kind) {
    case J_LIST: case J_TUPLE: *out = v.list; return TD_OK;
    case J_UNDEFINED: case J_DICT:
        TD_TRY(j_list_new(run, J_LIST, v.kind == J_DICT ? v.dict->count : 0, &list));
        for (size_t i = 0; v.kind == J_DICT && i < v.dict->count; i++) TD_TRY(j_list_put(run, list.list, v.dict->keys[i]));
        break;
    case J_STRING:
        TD_TRY(j_list_new(run, J_LIST, j_characters(v.text), &list));
        for (size_t i = 0, length; i < v.text.bytes; i += length) {
            length = td_utf8_length(v.text.text + i, v.text.bytes - i);
            if (length == 0) length = 1;
            TD_TRY(j_list_put(run, list.list, j_str(v.text.text + i, length)));
        }
        break;
    default: return j_fail(run, "'%s' object is not iterable", j_type(v));
    }
    *out = list.list;
    return TD_OK;
}

static td_status loop_attribute(j_run *run, const j_loop *loop, j_text name, j_value *out)
{
    size_t i = loop->index, n = loop->items->count;
    if (j_is(name, "index")) *out = j_int((int64_t)i + 1);
    else if (j_is(name, "index0")) *out = j_int((int64_t)i);
    else if (j_is(name, "revindex")) *out = j_int((int64_t)(n - i));
    else if (j_is(name, "revindex0")) *out = j_int((int64_t)(n - i) - 1);
    else if (j_is(name, "first")) *out = j_bool(i == 0);
    else if (j_is(name, "last")) *out = j_bool(i + 1 == n);
    else if (j_is(name, "length")) *out = j_int((int64_t)n);
    else if (j_is(name, "depth")) *out = j_int(loop->depth); /* counts recursion only */
    else if (j_is(name, "depth0")) *out = j_int(loop->depth - 1);
    else if (j_is(name, "previtem")) *out = i > 0 ? loop->items->items[i - 1] : j_undefined(name);
    else if (j_is(name, "nextitem")) *out = i + 1 < n ? loop->items->items[i + 1] : j_undefined(name);
    else *out = j_undefined(name);
    (void)run;
    return TD_OK;
}

static td_status bind_method(j_run *run, j_value self, j_text name, j_value *out)
{
    j_method *method = j_get(&run->pool, sizeof *method);
    if (!method) return TD_E_INVALID;
    *method = (j_method){self, name};
    *out = (j_value){.kind = J_METHOD, .method = method};
    return TD_OK;
}

td_status j_attribute(j_run *run, j_value v, j_text name, j_value *out)
{
    j_value *found = NULL;
    if (v.kind == J_UNDEFINED) return j_fail(run, "'%.*s' is undefined", (int)TD_MIN(v.text.bytes, 80), v.text.text ? v.text.text : "");
    if (j_has_method(v, name)) return bind_method(run, v, name, out);
    if (v.kind == J_DICT || v.kind == J_NAMESPACE) TD_TRY(j_dict_find(run, v.dict, j_str(name.text, name.bytes), &found));
    if (found) *out = *found;
    else if (v.kind == J_LOOP) return loop_attribute(run, v.loop, name, out);
    else if (v.kind == J_MACRO && j_is(name, "name")) *out = j_str(v.macro->name.text, v.macro->name.bytes);
    else *out = j_undefined(name);
    return TD_OK;
}

td_status j_item(j_run *run, j_value v, j_value key, j_value *out)
{
    j_value *found = NULL;
    bool index = key.kind == J_INT || key.kind == J_BOOL;
    if (v.kind == J_UNDEFINED) return j_fail(run, "'%.*s' is undefined", (int)TD_MIN(v.text.bytes, 80), v.text.text ? v.text.text : "");
    if (v.kind == J_DICT) TD_TRY(j_dict_find(run, v.dict, key, &found));
    if (found) {
        *out = *found;
        return TD_OK;
    }
    if (index && (v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_STRING)) {
        int64_t n = (int64_t)(v.kind == J_STRING ? j_characters(v.text) : v.list->count), i = whole(key);
        if (v.kind == J_STRING) TD_TRY(j_step(run, v.text.bytes / 16));
        if (i < 0) i += n;
        if (i < 0 || i >= n) *out = j_undefined(J_TEXT("item"));
        else if (v.kind != J_STRING) *out = v.list->items[i];
        else {
            size_t start = j_offset(v.text, (size_t)i);
            *out = j_str(v.text.text + start, td_utf8_length(v.text.text + start, v.text.bytes - start));
        }
        return TD_OK;
    }
    if (key.kind == J_STRING) return j_attribute(run, v, key.text, out);
    *out = j_undefined(J_TEXT("item"));
    return TD_OK;
}
