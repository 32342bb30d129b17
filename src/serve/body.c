/* body.c - see body.h. One pass, no recursion: a stack of open brackets of fixed depth. */
#include "serve/body.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

typedef struct {
    const char *text;
    size_t bytes, at;
    size_t values;
    int depth;
    char open[TD_BODY_DEPTH_MAX]; /* '[' or '{' */
} reader;

static td_status wrong(const reader *r, const char *expected)
{
    if (r->at >= r->bytes) return td_fail(TD_E_INVALID, "JSON: expected %s, found the end of the text at byte %zu", expected, r->at);
    unsigned char c = (unsigned char)r->text[r->at];
    if (c > 0x20 && c < 0x7F) return td_fail(TD_E_INVALID, "JSON: expected %s at byte %zu, found '%c'", expected, r->at, c);
    return td_fail(TD_E_INVALID, "JSON: expected %s at byte %zu, found 0x%02x", expected, r->at, c);
}

static void skip_space(reader *r)
{
    while (r->at < r->bytes && (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\r' || r->text[r->at] == '\t')) r->at++;
}

static bool next_is(const reader *r, char c) { return r->at < r->bytes && r->text[r->at] == c; }

static td_status read_hex4(reader *r, unsigned *out)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->bytes ? r->text[r->at] : 0;
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return wrong(r, "a hexadecimal digit");
        code = code * 16 + (unsigned)digit;
    }
    *out = code;
    return TD_OK;
}

static td_status read_escape(reader *r)
{
    r->at++;
    if (r->at >= r->bytes || !strchr("\"\\/bfnrtu", r->text[r->at]) || !r->text[r->at]) return wrong(r, "an escape (one of \"\\/bfnrtu)");
    if (r->text[r->at++] != 'u') return TD_OK;
    unsigned code = 0, low = 0;
    TD_TRY(read_hex4(r, &code));
    if (code == 0) return td_fail(TD_E_INVALID, "JSON: the character U+0000 (\\u0000) at byte %zu is not accepted", r->at - 6);
    if (code >= 0xDC00 && code <= 0xDFFF) return td_fail(TD_E_INVALID, "JSON: expected a high surrogate before the low surrogate at byte %zu", r->at - 6);
    if (code < 0xD800 || code > 0xDBFF) return TD_OK;
    if (!(r->at + 1 < r->bytes && r->text[r->at] == '\\' && r->text[r->at + 1] == 'u')) return td_fail(TD_E_INVALID, "JSON: expected a low surrogate after the high surrogate at byte %zu", r->at - 6);
    r->at += 2;
    TD_TRY(read_hex4(r, &low));
    if (low < 0xDC00 || low > 0xDFFF) return td_fail(TD_E_INVALID, "JSON: expected a low surrogate (\\udc00 to \\udfff) at byte %zu", r->at - 6);
    return TD_OK;
}

static td_status read_string(reader *r)
{
    r->at++;
    while (r->at < r->bytes && r->text[r->at] != '"') {
        unsigned char c = (unsigned char)r->text[r->at];
        if (c == '\\') {
            TD_TRY(read_escape(r));
            continue;
        }
        if (c < 0x20) return wrong(r, "a printable character (control characters are written \\uXXXX)");
        size_t length = td_utf8_length(r->text + r->at, r->bytes - r->at);
        if (!length) return wrong(r, "valid UTF-8");
        r->at += length;
    }
    if (r->at >= r->bytes) return wrong(r, "'\"' (the end of a string)");
    r->at++;
    return TD_OK;
}

static size_t skip_digits(reader *r)
{
    size_t start = r->at;
    while (r->at < r->bytes && r->text[r->at] >= '0' && r->text[r->at] <= '9') r->at++;
    return r->at - start;
}

static td_status read_number(reader *r)
{
    size_t start = r->at;
    if (next_is(r, '-')) r->at++;
    if (next_is(r, '0')) r->at++;
    else if (!skip_digits(r)) return wrong(r, "a digit");
    if (next_is(r, '.')) {
        r->at++;
        if (!skip_digits(r)) return wrong(r, "a digit");
    }
    if (next_is(r, 'e') || next_is(r, 'E')) {
        r->at++;
        if (next_is(r, '+') || next_is(r, '-')) r->at++;
        if (!skip_digits(r)) return wrong(r, "a digit");
    }
    if (r->at - start > TD_BODY_NUMBER_MAX) return td_fail(TD_E_INVALID, "JSON: expected a number of at most %d characters at byte %zu, found %zu", TD_BODY_NUMBER_MAX, start, r->at - start);
    return TD_OK;
}

static td_status read_word(reader *r, const char *word)
{
    size_t length = strlen(word);
    if (r->bytes - r->at < length || memcmp(r->text + r->at, word, length)) return wrong(r, "a JSON value");
    r->at += length;
    return TD_OK;
}

static td_status read_scalar(reader *r)
{
    char c = r->at < r->bytes ? r->text[r->at] : 0;
    if (c == '"') return read_string(r);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r);
    return c == 't' ? read_word(r, "true") : c == 'f' ? read_word(r, "false") : c == 'n' ? read_word(r, "null") : wrong(r, "a JSON value");
}

static td_status read_key(reader *r)
{
    skip_space(r);
    if (!next_is(r, '"')) return wrong(r, "'\"' (the name of a member)");
    TD_TRY(read_string(r));
    skip_space(r);
    if (!next_is(r, ':')) return wrong(r, "':'");
    r->at++;
    return TD_OK;
}

/* Reads the beginning of a value. *opened: it was a bracket with something in it. */
static td_status begin_value(reader *r, bool *opened)
{
    *opened = false;
    skip_space(r);
    if (++r->values > TD_BODY_VALUES_MAX) return td_fail(TD_E_INVALID, "JSON: expected at most %d values, found more at byte %zu", TD_BODY_VALUES_MAX, r->at);
    if (!next_is(r, '{') && !next_is(r, '[')) return read_scalar(r);
    char c = r->text[r->at];
    if (r->depth == TD_BODY_DEPTH_MAX) return td_fail(TD_E_INVALID, "JSON: expected at most %d levels of nesting, found more at byte %zu", TD_BODY_DEPTH_MAX, r->at);
    r->at++;
    skip_space(r);
    if (next_is(r, c == '{' ? '}' : ']')) {
        r->at++;
        return TD_OK;
    }
    r->open[r->depth++] = c;
    *opened = true;
    return c == '{' ? read_key(r) : TD_OK;
}

/* Behind a value: closes brackets and steps over a comma. */
static td_status end_value(reader *r)
{
    while (r->depth > 0) {
        skip_space(r);
        bool object = r->open[r->depth - 1] == '{';
        if (next_is(r, ',')) {
            r->at++;
            return object ? read_key(r) : TD_OK;
        }
        if (!next_is(r, object ? '}' : ']')) return wrong(r, object ? "',' or '}'" : "',' or ']'");
        r->at++;
        r->depth--;
    }
    return TD_OK;
}

td_status td_body_check(const char *text, size_t bytes)
{
    reader r = {.text = text, .bytes = bytes};
    do {
        bool opened;
        TD_TRY(begin_value(&r, &opened));
        if (!opened) TD_TRY(end_value(&r));
    } while (r.depth > 0);
    skip_space(&r);
    return r.at < r.bytes ? wrong(&r, "the end of the text") : TD_OK;
}

td_status td_body_parse(const char *text, size_t bytes, cJSON **out)
{
    TD_TRY(td_body_check(text, bytes));
    cJSON *value = cJSON_ParseWithLength(text, bytes);
    if (!value) return td_fail(TD_E_MEMORY, "JSON: no memory for a text of %zu bytes", bytes);
    *out = value;
    return TD_OK;
}

const char *td_body_kind(const cJSON *value)
{
    switch (value->type & 0xFF) {
    case cJSON_False: case cJSON_True: return "a boolean";
    case cJSON_NULL: return "null";
    case cJSON_Number: return "a number";
    case cJSON_String: return "a string";
    case cJSON_Array: return "an array";
    default: return "an object";
    }
}

static void put_number(td_buffer *out, double number)
{
    if (!isfinite(number)) td_buffer_text(out, "null");
    else if (number == floor(number) && fabs(number) < 9007199254740992.0) td_buffer_format(out, "%.0f", number);
    else td_buffer_format(out, "%.17g", number);
}

/* Recursion is bounded by td_body_check. */
void td_body_put(td_buffer *out, const cJSON *value)
{
    int type = value->type & 0xFF;
    if (type == cJSON_False || type == cJSON_True || type == cJSON_NULL) td_buffer_text(out, type == cJSON_NULL ? "null" : type == cJSON_True ? "true" : "false");
    else if (type == cJSON_Number) put_number(out, value->valuedouble);
    else if (type == cJSON_String) td_body_text(out, value->valuestring);
    else {
        bool object = type == cJSON_Object;
        td_buffer_text(out, object ? "{" : "[");
        for (const cJSON *item = value->child; item; item = item->next) {
            if (object) {
                td_body_text(out, item->string);
                td_buffer_text(out, ":");
            }
            td_body_put(out, item);
            if (item->next) td_buffer_text(out, ",");
        }
        td_buffer_text(out, object ? "}" : "]");
    }
}

void td_body_text(td_buffer *out, const char *text) { td_buffer_json(out, text, strlen(text)); }
