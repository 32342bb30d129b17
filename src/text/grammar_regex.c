/*
 * grammar_regex.c - regular expressions as GBNF: a subset that is matched as a whole, or searched for in a JSON string. A class of characters is read into
 * ranges of code points first, so that what a JSON string cannot hold unescaped is taken out of it. See grammar.h and grammar_make.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/grammar.h"
#include "text/grammar_make.h"

enum { RANGES_MAX = 200, REGEX_BYTES_MAX = 1 << 16 };

typedef struct { uint32_t low, high; } range;
typedef struct { range items[RANGES_MAX]; size_t count; bool full; } range_set;
typedef struct { td_buffer *out; const char *text; size_t end, at; bool in_json, alternatives; int depth; } reader;

static td_status regex_fail(size_t at, const char *what) { return td_fail(TD_E_UNSUPPORTED, "regular expression, byte %zu: %s", at, what); }

void td_gbnf_literal(td_buffer *out, const char *text, size_t bytes)
{
    td_buffer_text(out, "\"");
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') td_buffer_format(out, "\\%c", c);
        else if (c < 0x20) td_buffer_format(out, "\\x%02X", c);
        else td_buffer_put(out, text + i, 1);
    }
    td_buffer_text(out, "\"");
}

static void add_range(range_set *set, uint32_t low, uint32_t high)
{
    if (low > high) return;
    if (set->count == RANGES_MAX) set->full = true;
    else set->items[set->count++] = (range){low, high};
}

static int by_low(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

/* Everything that is not in the set. */
static void complement(range_set *set)
{
    range_set other = {.full = set->full};
    uint32_t next = 0;
    qsort(set->items, set->count, sizeof *set->items, by_low);
    for (size_t i = 0; i < set->count; i++) {
        if (set->items[i].low > next) add_range(&other, next, set->items[i].low - 1);
        if (set->items[i].high + 1 > next) next = set->items[i].high + 1;
    }
    add_range(&other, next, 0x10FFFF);
    *set = other;
}

static bool holds(const range_set *set, uint32_t code)
{
    for (size_t i = 0; i < set->count; i++)
        if (code >= set->items[i].low && code <= set->items[i].high) return true;
    return false;
}

/* \d \w \s and their opposites; of ASCII, except that \s in a schema is what ECMA-262 says. */
static bool named_set(char name, bool in_json, range_set *set)
{
    char lower = (char)(name | 0x20);
    range_set own = {0};
    if (lower == 'd') add_range(&own, '0', '9');
    else if (lower == 'w') add_range(&own, '0', '9'), add_range(&own, 'A', 'Z'), add_range(&own, '_', '_'), add_range(&own, 'a', 'z');
    else if (lower == 's') {
        static const range wide[] = {{0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
        add_range(&own, 9, 13), add_range(&own, ' ', ' ');
        for (size_t i = 0; in_json && i < TD_COUNT(wide); i++) add_range(&own, wide[i].low, wide[i].high);
    } else return false;
    if (name != lower) complement(&own);
    for (size_t i = 0; i < own.count; i++) add_range(set, own.items[i].low, own.items[i].high);
    return true;
}

/* A set of characters as GBNF; in a JSON string without those that must be escaped, which are added as escapes when they were asked for by name. */
static td_status put_set(reader *r, const range_set *set, bool by_name)
{
    static const struct { char c; const char *spelled; } escapes[] = {{'"', "\\\\\\\""}, {'\\', "\\\\\\\\"}, {'\n', "\\\\n"}, {'\t', "\\\\t"}, {'\r', "\\\\r"}};
    range_set kept = *set;
    if (r->in_json) { /* kept = set without "controls, quote, backslash" */
        complement(&kept);
        add_range(&kept, 0, 0x1F);
        add_range(&kept, '"', '"');
        add_range(&kept, '\\', '\\');
        complement(&kept);
    }
    if (set->full || kept.full) return regex_fail(r->at, "a class of too many ranges");
    bool any = false;
    td_buffer_text(r->out, "( ");
    if (kept.count) {
        td_buffer_text(r->out, "[");
        for (size_t i = 0; i < kept.count; i++) td_buffer_format(r->out, "\\U%08X-\\U%08X", kept.items[i].low, kept.items[i].high);
        td_buffer_text(r->out, "]");
        any = true;
    }
    for (size_t i = 0; r->in_json && by_name && i < TD_COUNT(escapes); i++)
        if (holds(set, (unsigned char)escapes[i].c)) {
            td_buffer_format(r->out, "%s\"%s\"", any ? " | " : "", escapes[i].spelled);
            any = true;
        }
    td_buffer_text(r->out, " )");
    return any ? TD_OK : regex_fail(r->at, "a class that no character is in");
}

/* Behind a backslash: one code point, or a named set added to set (*code stays UINT32_MAX). */
static td_status read_escape(reader *r, range_set *set, uint32_t *code)
{
    static const char names[] = "ntrfv0", values[] = "\n\t\r\f\v\0";
    *code = UINT32_MAX;
    if (++r->at >= r->end) return regex_fail(r->at, "expected a character behind \\");
    char c = r->text[r->at++];
    const char *known = strchr(names, c);
    if (named_set(c, r->in_json, set)) return TD_OK;
    if (c && known) {
        *code = (unsigned char)values[known - names];
        return TD_OK;
    }
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    if (digits) {
        *code = 0;
        for (int i = 0; i < digits; i++, r->at++) {
            const char *hex = "0123456789abcdef", *place = r->at < r->end && r->text[r->at] ? strchr(hex, r->text[r->at] | (r->text[r->at] >= 'A' ? 0x20 : 0)) : NULL;
            if (!place) return regex_fail(r->at, "expected a hex digit");
            *code = *code * 16 + (uint32_t)(place - hex);
        }
        return *code >= 0xD800 && *code <= 0xDFFF ? regex_fail(r->at, "half a surrogate pair is not supported") : TD_OK;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80)
        return regex_fail(r->at, "only \\d \\w \\s \\D \\W \\S \\n \\t \\r \\f \\v \\0 \\xHH \\uHHHH and escaped punctuation are supported");
    *code = (unsigned char)c;
    return TD_OK;
}

static td_status read_member(reader *r, range_set *set, uint32_t *code)
{
    if (r->text[r->at] == '\\') return read_escape(r, set, code);
    size_t length = td_utf8_length(r->text + r->at, r->end - r->at);
    if (length == 0) return regex_fail(r->at, "expected UTF-8");
    *code = td_utf8_decode(r->text + r->at, length);
    r->at += length;
    return TD_OK;
}

static td_status put_class(reader *r)
{
    range_set set = {0};
    bool negated = ++r->at < r->end && r->text[r->at] == '^';
    r->at += negated;
    for (bool first = true; r->at < r->end && (first || r->text[r->at] != ']'); first = false) {
        uint32_t low, high;
        if (r->text[r->at] == '[' && r->at + 1 < r->end && strchr(":.=", r->text[r->at + 1])) return regex_fail(r->at, "named classes are not supported");
        TD_TRY(read_member(r, &set, &low));
        high = low;
        if (r->at + 1 < r->end && r->text[r->at] == '-' && r->text[r->at + 1] != ']') {
            r->at++;
            TD_TRY(read_member(r, &set, &high));
            if (low == UINT32_MAX || high == UINT32_MAX || high < low) return regex_fail(r->at, "expected a range of characters in order");
        }
        if (low != UINT32_MAX) add_range(&set, low, high);
    }
    if (r->at >= r->end) return regex_fail(r->at, "expected ]");
    r->at++;
    if (negated) complement(&set);
    return put_set(r, &set, !negated);
}

static td_status put_one(reader *r, uint32_t code, const range_set *named)
{
    range_set one = *named;
    if (code != UINT32_MAX) add_range(&one, code, code);
    return put_set(r, &one, true);
}

/* Behind "(": only groups that mean nothing but order. */
static td_status open_group(reader *r)
{
    r->at++;
    if (++r->depth > 60) return regex_fail(r->at, "groups are nested deeper than 60");
    if (r->end - r->at >= 2 && !memcmp(r->text + r->at, "?:", 2)) r->at += 2;
    else if (r->end - r->at >= 3 && !memcmp(r->text + r->at, "?P<", 3)) {
        const char *close = memchr(r->text + r->at, '>', r->end - r->at);
        if (!close) return regex_fail(r->at, "expected >");
        r->at = (size_t)(close - r->text) + 1;
    } else if (r->at < r->end && r->text[r->at] == '?') return regex_fail(r->at, "only ( ), (?: ) and (?P< > ) groups are supported");
    td_buffer_text(r->out, "( ");
    return TD_OK;
}

static td_status put_repeat(reader *r)
{
    char c = r->text[r->at];
    if (c == '{') {
        const char *close = memchr(r->text + r->at, '}', r->end - r->at);
        if (!close) return regex_fail(r->at, "expected }");
        td_buffer_put(r->out, r->text + r->at, (size_t)(close - r->text) - r->at + 1);
        r->at = (size_t)(close - r->text) + 1;
    } else {
        td_buffer_put(r->out, &c, 1);
        r->at++;
    }
    if (r->at < r->end && r->text[r->at] && strchr("*+?{", r->text[r->at])) return regex_fail(r->at, "lazy and possessive repeats are not supported");
    return TD_OK;
}

static td_status put_expression(reader *r)
{
    bool can_repeat = false;
    while (r->at < r->end) {
        char c = r->text[r->at];
        uint32_t code;
        range_set set = {0};
        bool repeat = c && strchr("*+?{", c), closes = c == ')';
        if (repeat && !can_repeat) return regex_fail(r->at, "expected something to repeat");
        if (repeat) TD_TRY(put_repeat(r));
        else if (c == '[') TD_TRY(put_class(r));
        else if (c == '(') TD_TRY(open_group(r));
        else if (closes || c == '|') {
            if (closes && r->depth-- == 0) return regex_fail(r->at, "an unexpected )");
            r->alternatives |= r->depth == 0 && !closes;
            td_buffer_put(r->out, &c, 1);
            r->at++;
        } else if (c == '.') {
            add_range(&set, '\n', '\n');
            complement(&set);
            TD_TRY(put_set(r, &set, false));
            r->at++;
        } else if (c == '^' || c == '$') {
            return regex_fail(r->at, "^ and $ are supported at the ends only");
        } else {
            TD_TRY(read_member(r, &set, &code));
            TD_TRY(put_one(r, code, &set));
        }
        can_repeat = !repeat && c != '(' && c != '|';
        bool repeats = r->at < r->end && r->text[r->at] && strchr("*+?{", r->text[r->at]);
        td_buffer_text(r->out, repeats && can_repeat ? "" : " ");
    }
    return r->depth ? regex_fail(r->at, "expected )") : td_buffer_status(r->out);
}

td_status td_gbnf_regex(td_buffer *out, const char *pattern, size_t bytes, bool in_json)
{
    if (bytes > REGEX_BYTES_MAX) return td_fail(TD_E_INVALID, "regular expression: expected at most %d bytes, found %zu", REGEX_BYTES_MAX, bytes);
    size_t slashes = 0;
    while (bytes >= 2 + slashes && pattern[bytes - 2 - slashes] == '\\') slashes++;
    bool starts = bytes && pattern[0] == '^', ends = bytes > starts && pattern[bytes - 1] == '$' && slashes % 2 == 0;
    reader r = {.out = out, .text = pattern, .at = starts, .end = bytes - ends, .in_json = in_json};
    td_buffer_text(out, in_json && !starts ? "( char* ( " : "( ( ");
    TD_TRY(put_expression(&r));
    td_buffer_text(out, in_json && !ends ? " ) char* )" : " ) )");
    if (in_json && r.alternatives && (starts || ends)) return regex_fail(0, "alternatives beside ^ or $ need brackets around them");
    return td_buffer_status(out);
}

td_status td_grammar_from_regex(const char *pattern, size_t bytes, td_grammar **out)
{
    td_buffer text = {0};
    td_buffer_text(&text, "root ::= ");
    td_status status = td_gbnf_regex(&text, pattern, bytes, false);
    td_buffer_text(&text, "\n");
    if (status == TD_OK) status = td_buffer_status(&text);
    if (status == TD_OK) status = td_grammar_from_gbnf(text.data, text.bytes, out);
    td_buffer_free(&text);
    return status;
}
