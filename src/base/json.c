/*
 * json.c - see json.h. A state per reader (what may come next) and one bit per open level (object or array); every byte is looked at once.
 */
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* What may come next. */
enum { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END, NOTHING };

void td_json_begin(td_json *json, const char *text, size_t bytes, const char *what)
{
    *json = (td_json){.text = text, .bytes = bytes, .what = what, .token = text, .expects = VALUE};
}

static td_status fail_at(td_json *json, size_t at, const char *sentence)
{
    size_t line = 1;
    for (size_t i = 0; i < at && i < json->bytes; i++) line += json->text[i] == '\n';
    json->status = td_fail(TD_E_FORMAT, "%s, line %zu, byte %zu: %s", json->what, line, at, sentence);
    return json->status;
}

static td_status fail_found(td_json *json, size_t at, const char *expected)
{
    char sentence[128];
    if (at >= json->bytes) snprintf(sentence, sizeof sentence, "expected %s, found the end", expected);
    else {
        unsigned char c = (unsigned char)json->text[at];
        if (c > 0x20 && c < 0x7F) snprintf(sentence, sizeof sentence, "expected %s, found '%c'", expected, c);
        else snprintf(sentence, sizeof sentence, "expected %s, found byte 0x%02x", expected, c);
    }
    return fail_at(json, at, sentence);
}

td_status td_json_fail(td_json *json, const char *format, ...)
{
    if (json->status < 0) return json->status;
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return fail_at(json, json->token ? (size_t)(json->token - json->text) : 0, sentence);
}

const char *td_json_kind_name(td_json_kind kind)
{
    static const char *const names[] = {"nothing", "an object", "a key", "the end of an object", "an array", "the end of an array",
                                        "a string", "a number", "true", "false", "null", "the end"};
    return (unsigned)kind < TD_COUNT(names) ? names[kind] : "?";
}

static void skip_space(td_json *json)
{
    while (json->at < json->bytes) {
        char c = json->text[json->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') break;
        json->at++;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Four hex digits at text, or -1. */
static int32_t hex4(const char *text, size_t bytes)
{
    if (bytes < 4) return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* json->at stands on a backslash; checks the escape and moves behind it. */
static td_status scan_escape(td_json *json)
{
    size_t at = json->at + 1;
    json->escaped = true;
    char c = at < json->bytes ? json->text[at] : 0;
    if (c != 'u') {
        if (c == 0 || !strchr("\"\\/bfnrt", c)) return fail_found(json, at, "an escape (one of \"\\/bfnrtu)");
        json->at = at + 1;
        return TD_OK;
    }
    int32_t code = hex4(json->text + at + 1, json->bytes - at - 1);
    if (code < 0) return fail_at(json, at, "expected four hex digits behind \\u");
    at += 5;
    if (code >= 0xDC00 && code <= 0xDFFF) return fail_at(json, at - 6, "expected a character, found the second half of a surrogate pair");
    if (code >= 0xD800 && code <= 0xDBFF) {
        int32_t low = at + 2 <= json->bytes && json->text[at] == '\\' && json->text[at + 1] == 'u' ? hex4(json->text + at + 2, json->bytes - at - 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF) return fail_at(json, at - 6, "expected a surrogate pair, found only its first half");
        at += 6;
    }
    json->at = at;
    return TD_OK;
}

/* json->at stands on the opening quote. */
static td_status scan_string(td_json *json)
{
    size_t start = ++json->at;
    json->escaped = false;
    for (;;) {
        while (json->at < json->bytes) { /* the usual run: printable ASCII */
            unsigned char c = (unsigned char)json->text[json->at];
            if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
            json->at++;
        }
        if (json->at >= json->bytes) return fail_at(json, start - 1, "a string is not closed");
        unsigned char c = (unsigned char)json->text[json->at];
        if (c == '"') break;
        if (c == '\\') {
            TD_TRY(scan_escape(json));
            continue;
        }
        if (c < 0x20) return fail_found(json, json->at, "no control character inside a string");
        size_t length = td_utf8_length(json->text + json->at, json->bytes - json->at);
        if (length == 0) return fail_found(json, json->at, "valid UTF-8");
        json->at += length;
    }
    json->token = json->text + start;
    json->token_bytes = json->at - start;
    json->at++;
    return TD_OK;
}

static size_t scan_digits(td_json *json)
{
    size_t start = json->at;
    while (json->at < json->bytes && json->text[json->at] >= '0' && json->text[json->at] <= '9') json->at++;
    return json->at - start;
}

static td_status scan_number(td_json *json)
{
    size_t start = json->at;
    if (json->text[json->at] == '-') json->at++;
    bool zero = json->at < json->bytes && json->text[json->at] == '0';
    size_t digits = scan_digits(json);
    if (digits == 0) return fail_found(json, json->at, "a digit");
    if (zero && digits > 1) return fail_at(json, start, "expected a number without leading zeros");
    if (json->at < json->bytes && json->text[json->at] == '.') {
        json->at++;
        if (scan_digits(json) == 0) return fail_found(json, json->at, "a digit");
    }
    if (json->at < json->bytes && (json->text[json->at] | 0x20) == 'e') {
        json->at++;
        if (json->at < json->bytes && (json->text[json->at] == '+' || json->text[json->at] == '-')) json->at++;
        if (scan_digits(json) == 0) return fail_found(json, json->at, "a digit");
    }
    json->token = json->text + start;
    json->token_bytes = json->at - start;
    return TD_OK;
}

static bool inside_object(const td_json *json)
{
    int level = json->depth - 1;
    return json->is_object[level / 8] >> (level % 8) & 1;
}

static td_status open_level(td_json *json, bool object)
{
    if (json->depth == TD_JSON_DEPTH) return fail_at(json, json->at, "expected at most 128 nested levels");
    int level = json->depth++;
    uint8_t bit = (uint8_t)(1u << (level % 8));
    json->is_object[level / 8] = (uint8_t)(object ? json->is_object[level / 8] | bit : json->is_object[level / 8] & ~bit);
    json->kind = object ? TD_JSON_OBJECT : TD_JSON_ARRAY;
    json->expects = object ? KEY_OR_END : VALUE_OR_END;
    json->at++;
    return TD_OK;
}

static td_status close_level(td_json *json)
{
    json->kind = inside_object(json) ? TD_JSON_OBJECT_END : TD_JSON_ARRAY_END;
    json->depth--;
    json->expects = json->depth ? COMMA_OR_END : NOTHING;
    json->at++;
    return TD_OK;
}

static td_status scan_word(td_json *json, const char *word, td_json_kind kind)
{
    size_t length = strlen(word);
    if (json->bytes - json->at < length || memcmp(json->text + json->at, word, length) != 0) return fail_found(json, json->at, "a value");
    json->token_bytes = length;
    json->at += length;
    json->kind = kind;
    return TD_OK;
}

static td_status scan_value(td_json *json)
{
    char c = json->text[json->at];
    json->token = json->text + json->at;
    json->token_bytes = 1;
    if (c == '{' || c == '[') return open_level(json, c == '{');
    if (c == '"') {
        json->kind = TD_JSON_STRING;
        TD_TRY(scan_string(json));
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        json->kind = TD_JSON_NUMBER;
        TD_TRY(scan_number(json));
    } else if (c == 't') {
        TD_TRY(scan_word(json, "true", TD_JSON_TRUE));
    } else if (c == 'f') {
        TD_TRY(scan_word(json, "false", TD_JSON_FALSE));
    } else if (c == 'n') {
        TD_TRY(scan_word(json, "null", TD_JSON_NULL));
    } else {
        return fail_found(json, json->at, "a value");
    }
    json->expects = json->depth ? COMMA_OR_END : NOTHING;
    return TD_OK;
}

static td_status scan_key(td_json *json)
{
    if (json->text[json->at] != '"') return fail_found(json, json->at, "a key in quotes");
    TD_TRY(scan_string(json));
    json->kind = TD_JSON_KEY;
    skip_space(json);
    if (json->at >= json->bytes || json->text[json->at] != ':') return fail_found(json, json->at, "':'");
    json->at++;
    json->expects = VALUE;
    return TD_OK;
}

td_status td_json_next(td_json *json)
{
    if (json->status < 0) return json->status;
    skip_space(json);
    if (json->expects == NOTHING) {
        if (json->at < json->bytes) return fail_found(json, json->at, "nothing behind the value");
        json->kind = TD_JSON_END;
        json->token = json->text + json->bytes;
        json->token_bytes = 0;
        return TD_OK;
    }
    if (json->at >= json->bytes) {
        static const char *const wanted[] = {"a value", "a value or ']'", "a key", "a key or '}'", "':'", "',' or a closing bracket"};
        return fail_found(json, json->at, wanted[json->expects]);
    }
    char c = json->text[json->at];
    json->token = json->text + json->at;
    json->token_bytes = 1;
    switch (json->expects) {
    case VALUE_OR_END: return c == ']' ? close_level(json) : scan_value(json);
    case KEY_OR_END: return c == '}' ? close_level(json) : scan_key(json);
    case KEY: return scan_key(json);
    case COMMA_OR_END:
        if (c == (inside_object(json) ? '}' : ']')) return close_level(json);
        if (c != ',') return fail_found(json, json->at, inside_object(json) ? "',' or '}'" : "',' or ']'");
        json->at++;
        json->expects = inside_object(json) ? KEY : VALUE;
        return td_json_next(json); /* at most once: expects is no longer COMMA_OR_END */
    default: return scan_value(json);
    }
}

td_status td_json_expect(td_json *json, td_json_kind kind, const char *role)
{
    TD_TRY(td_json_next(json));
    if (json->kind != kind) return td_json_fail(json, "expected %s for %s, found %s", td_json_kind_name(kind), role, td_json_kind_name(json->kind));
    return TD_OK;
}

td_status td_json_skip(td_json *json)
{
    if (json->kind == TD_JSON_KEY) TD_TRY(td_json_next(json));
    if (json->kind != TD_JSON_OBJECT && json->kind != TD_JSON_ARRAY) return json->status;
    int outside = json->depth - 1;
    while (json->depth > outside) TD_TRY(td_json_next(json));
    return TD_OK;
}

/* One unescaped character from text (checked before) into out; returns its length, *used raw bytes. */
static size_t unescape_one(const char *text, size_t *used, char out[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    *used = 1;
    out[0] = text[0];
    if (text[0] != '\\') return 1;
    *used = 2;
    if (text[1] != 'u') {
        const char *found = strchr(from, text[1]);
        out[0] = found ? to[found - from] : text[1];
        return 1;
    }
    uint32_t code = (uint32_t)hex4(text + 2, 4);
    *used = 6;
    if (code >= 0xD800 && code <= 0xDBFF) {
        code = 0x10000 + ((code - 0xD800) << 10) + ((uint32_t)hex4(text + 8, 4) - 0xDC00);
        *used = 12;
    }
    return td_utf8_encode(code, out);
}

bool td_json_equals(const td_json *json, const char *text)
{
    size_t length = strlen(text);
    if (!json->escaped) return json->token_bytes == length && memcmp(json->token, text, length) == 0;
    size_t at = 0;
    for (size_t i = 0, used; i < json->token_bytes; i += used) {
        char piece[4];
        size_t bytes = unescape_one(json->token + i, &used, piece);
        if (bytes > length - at || memcmp(text + at, piece, bytes) != 0) return false;
        at += bytes;
    }
    return at == length;
}

size_t td_json_text(const td_json *json, char *out)
{
    size_t bytes = json->token_bytes;
    if (!json->escaped) memcpy(out, json->token, bytes);
    else {
        bytes = 0;
        for (size_t i = 0, used; i < json->token_bytes; i += used) bytes += unescape_one(json->token + i, &used, out + bytes);
    }
    out[bytes] = 0;
    return bytes;
}

td_status td_json_i64(td_json *json, const char *role, int64_t *out)
{
    if (json->status < 0) return json->status;
    bool negative = json->token_bytes > 0 && json->token[0] == '-';
    int64_t value = 0;
    bool whole = json->kind == TD_JSON_NUMBER;
    for (size_t i = negative; whole && i < json->token_bytes; i++) {
        int digit = json->token[i] - '0';
        whole = digit >= 0 && digit <= 9 && !__builtin_mul_overflow(value, 10, &value) && !__builtin_sub_overflow(value, digit, &value);
    }
    if (whole && !negative) whole = value != INT64_MIN;
    if (!whole) return td_json_fail(json, "expected a whole number for %s, found %.*s", role, (int)TD_MIN(json->token_bytes, 40), json->token);
    *out = negative ? value : -value; /* counted downwards, so that the smallest value fits */
    return TD_OK;
}

td_status td_json_f64(td_json *json, const char *role, double *out)
{
    if (json->status < 0) return json->status;
    char digits[64];
    if (json->kind != TD_JSON_NUMBER || json->token_bytes >= sizeof digits)
        return td_json_fail(json, "expected a number of at most %zu characters for %s", sizeof digits - 1, role);
    memcpy(digits, json->token, json->token_bytes);
    digits[json->token_bytes] = 0;
    *out = strtod(digits, NULL); /* the program never calls setlocale with LC_NUMERIC */
    return TD_OK;
}
