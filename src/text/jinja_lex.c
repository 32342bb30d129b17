/*
 * jinja_lex.c - template source to tokens. White space around tags is handled as Jinja does with trim_blocks and lstrip_blocks on, which is how
 * published chat templates are run. See jinja_parse.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_parse.h"
#include "text/unicode.h"

static td_status put_token(j_parser *p, j_token t)
{
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 256;
        j_token *grown = realloc(p->tokens, capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "template: no memory for %zu tokens", capacity);
        p->tokens = grown;
        p->capacity = capacity;
    }
    p->tokens[p->count++] = t;
    return TD_OK;
}

static bool is_space_at(const char *text, size_t bytes, size_t *length)
{
    *length = td_utf8_length(text, bytes);
    if (*length == 0) return false;
    uint32_t code = td_utf8_decode(text, *length);
    return td_unicode_space(code) || (code >= 0x1C && code <= 0x1F);
}

static size_t skip_space(const j_parser *p, size_t at)
{
    size_t length;
    while (at < p->bytes && is_space_at(p->source + at, p->bytes - at, &length)) at += length;
    return at;
}

/* End of text[start..end) without the white space at its end. */
static size_t without_space(const j_parser *p, size_t start, size_t end)
{
    while (end > start) {
        size_t at = end - 1, length;
        while (at > start && ((unsigned char)p->source[at] & 0xC0) == 0x80) at--;
        if (!is_space_at(p->source + at, end - at, &length)) break;
        end = at;
    }
    return end;
}

static bool at_text(const j_parser *p, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= p->bytes && p->bytes - at >= n && !memcmp(p->source + at, text, n);
}

/* Output text before a tag at end: '-' takes all white space, lstrip_blocks the indentation of a tag that stands first on its line. */
static td_status put_text(j_parser *p, size_t start, size_t end, char sign, bool is_print, bool line_start)
{
    if (sign == '-') end = without_space(p, start, end);
    else if (sign != '+' && !is_print) {
        size_t line = end;
        while (line > start && p->source[line - 1] != '\n') line--;
        if ((line > start || line_start) && without_space(p, line, end) == line) end = line;
    }
    if (end == start) return TD_OK;
    return put_token(p, (j_token){.kind = T_TEXT, .at = start, .text = {p->source + start, end - start}});
}

static int hex_value(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* One escape behind a backslash at *at, as Python reads it; writes its character. */
static size_t read_escape(const j_parser *p, size_t *at, char *out)
{
    static const char names[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    char c = p->source[*at];
    const char *known = c ? strchr(names, c) : NULL;
    if (known) {
        *out = values[known - names];
        ++*at;
        return 1;
    }
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        uint32_t code = 0;
        int i = 0;
        for (; i < digits && *at + 1 + (size_t)i < p->bytes && hex_value(p->source[*at + 1 + (size_t)i]) >= 0; i++) code = code * 16 + (uint32_t)hex_value(p->source[*at + 1 + (size_t)i]);
        if (i == digits) {
            *at += 1 + (size_t)digits;
            return td_utf8_encode(code, out);
        }
    }
    if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        for (int i = 0; i < 3 && *at < p->bytes && p->source[*at] >= '0' && p->source[*at] <= '7'; i++) code = code * 8 + (uint32_t)(p->source[(*at)++] - '0');
        return td_utf8_encode(code, out);
    }
    if (c == '\n') {
        ++*at;
        return 0;
    }
    out[0] = '\\'; /* an unknown escape stays as it is */
    return 1;
}

static td_status lex_string(j_parser *p, size_t *at)
{
    size_t start = *at, end = start + 1;
    char quote = p->source[start];
    while (end < p->bytes && p->source[end] != quote) end += p->source[end] == '\\' ? 2 : 1;
    if (end >= p->bytes) return j_parse_fail(p, start, "expected a closing %c", quote);
    char *text = j_get(p->pool, end - start + 1);
    if (!text) return TD_E_MEMORY;
    size_t n = 0;
    for (size_t i = start + 1; i < end;) {
        if (p->source[i] != '\\') {
            text[n++] = p->source[i++];
            continue;
        }
        i++;
        n += read_escape(p, &i, text + n);
    }
    *at = end + 1;
    return put_token(p, (j_token){.kind = T_STRING, .at = start, .text = {text, n}});
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name_start(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80; }

static td_status lex_number(j_parser *p, size_t *at)
{
    char digits[64];
    size_t n = 0, i = *at;
    bool is_float = false;
    for (; i < p->bytes && n < sizeof digits - 1; i++) {
        char c = p->source[i];
        if (c == '_' && i + 1 < p->bytes && is_digit(p->source[i + 1])) continue;
        if (c == '.' && !is_float && i + 1 < p->bytes && is_digit(p->source[i + 1])) is_float = true;
        else if ((c == 'e' || c == 'E') && i + 1 < p->bytes && (is_digit(p->source[i + 1]) || (i + 2 < p->bytes && strchr("+-", p->source[i + 1]) && is_digit(p->source[i + 2])))) {
            is_float = true;
            digits[n++] = c;
            c = p->source[++i];
        } else if (!is_digit(c)) break;
        digits[n++] = c;
    }
    digits[n] = 0;
    j_token t = {.kind = is_float ? T_FLOAT : T_INT, .at = *at};
    if (is_float) t.number = strtod(digits, NULL);
    else {
        errno = 0;
        t.integer = strtoll(digits, NULL, 10);
        if (errno) return j_parse_fail(p, *at, "an integer beyond 64 bits");
    }
    *at = i;
    return put_token(p, t);
}

static size_t operator_length(const j_parser *p, size_t at)
{
    static const char *const two[] = {"==", "!=", ">=", "<=", "//", "**"};
    for (size_t i = 0; i < TD_COUNT(two); i++)
        if (at_text(p, at, two[i])) return 2;
    return p->source[at] && strchr("+-/*%~[](){}<>=.:|,;", p->source[at]) ? 1 : 0;
}

/* The inside of {{ }} or {% %}; *at moves behind the closing delimiter and what it trims. */
static td_status lex_inside(j_parser *p, size_t *at, bool print)
{
    const char *close = print ? "}}" : "%}", *close_minus = print ? "-}}" : "-%}", *close_plus = print ? "" : "+%}";
    size_t open = *at;
    char brackets[J_NESTING_MAX + 1];
    int depth = 0;
    for (;;) {
        *at = skip_space(p, *at);
        if (*at >= p->bytes) return j_parse_fail(p, open, "expected %s to close this tag", close);
        bool minus = at_text(p, *at, close_minus), plus = *close_plus && at_text(p, *at, close_plus);
        if (depth == 0 && (minus || plus || at_text(p, *at, close))) {
            TD_TRY(put_token(p, (j_token){.kind = print ? T_PRINT_END : T_BLOCK_END, .at = *at}));
            *at += minus || plus ? 3 : 2;
            if (minus) *at = skip_space(p, *at);
            else if (!print && !plus && *at < p->bytes && p->source[*at] == '\n') ++*at; /* trim_blocks */
            return TD_OK;
        }
        char c = p->source[*at];
        if (c == '"' || c == '\'') {
            TD_TRY(lex_string(p, at));
        } else if (is_digit(c)) {
            TD_TRY(lex_number(p, at));
        } else if (is_name_start((unsigned char)c)) {
            size_t end = *at;
            while (end < p->bytes && (is_name_start((unsigned char)p->source[end]) || is_digit(p->source[end]))) end++;
            TD_TRY(put_token(p, (j_token){.kind = T_NAME, .at = *at, .text = {p->source + *at, end - *at}}));
            *at = end;
        } else {
            size_t length = operator_length(p, *at);
            if (!length) return j_parse_fail(p, *at, "an unexpected character '%c' in a tag", c);
            if (strchr("([{", c)) {
                if (depth == J_NESTING_MAX) return j_parse_fail(p, *at, "brackets are nested deeper than %d", J_NESTING_MAX);
                brackets[depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
            } else if (strchr(")]}", c)) {
                if (depth == 0 || brackets[--depth] != c) return j_parse_fail(p, *at, "an unexpected '%c'", c);
            }
            TD_TRY(put_token(p, (j_token){.kind = T_OP, .at = *at, .text = {p->source + *at, length}}));
            *at += length;
        }
    }
}

/* At "{%": {% raw %}...{% endraw %} becomes text. *is_raw tells. */
static td_status lex_raw(j_parser *p, size_t *at, bool *is_raw)
{
    size_t i = *at + 2, open = *at;
    if (i < p->bytes && (p->source[i] == '-' || p->source[i] == '+')) i++;
    i = skip_space(p, i);
    *is_raw = false;
    if (!at_text(p, i, "raw")) return TD_OK;
    i = skip_space(p, i + 3);
    bool minus = at_text(p, i, "-%}");
    if (!minus && !at_text(p, i, "%}")) return TD_OK;
    i += minus ? 3 : 2;
    if (minus) i = skip_space(p, i);
    for (size_t end = i; end < p->bytes; end++) {
        if (!at_text(p, end, "{%")) continue;
        size_t j = end + 2;
        char sign = j < p->bytes ? p->source[j] : 0;
        if (sign == '-' || sign == '+') j++;
        j = skip_space(p, j);
        if (!at_text(p, j, "endraw")) continue;
        j = skip_space(p, j + 6);
        bool end_minus = at_text(p, j, "-%}"), end_plus = at_text(p, j, "+%}");
        if (!end_minus && !end_plus && !at_text(p, j, "%}")) continue;
        TD_TRY(put_text(p, i, end, sign, false, false));
        j += end_minus || end_plus ? 3 : 2;
        if (end_minus) j = skip_space(p, j);
        else if (!end_plus && j < p->bytes && p->source[j] == '\n') j++;
        *at = j;
        *is_raw = true;
        return TD_OK;
    }
    return j_parse_fail(p, open, "expected {%% endraw %%}");
}

td_status j_lex(j_parser *p)
{
    size_t at = 0, start = 0;
    bool line_start = true;
    while (at < p->bytes) {
        bool block = at_text(p, at, "{%"), print = at_text(p, at, "{{"), comment = at_text(p, at, "{#");
        if (!block && !print && !comment) {
            at++;
            continue;
        }
        char sign = at + 2 < p->bytes ? p->source[at + 2] : 0;
        if (sign != '-' && (sign != '+' || print)) sign = 0;
        TD_TRY(put_text(p, start, at, sign, print, line_start));
        bool is_raw = false;
        if (block) TD_TRY(lex_raw(p, &at, &is_raw));
        if (comment) {
            size_t end = at + 2;
            while (end < p->bytes && !at_text(p, end, "#}")) end++;
            if (end >= p->bytes) return j_parse_fail(p, at, "expected #} to close the comment");
            char last = end > at + 2 ? p->source[end - 1] : 0;
            at = end + 2;
            if (last == '-') at = skip_space(p, at);
            else if (last != '+' && at < p->bytes && p->source[at] == '\n') at++;
        } else if (!is_raw) {
            TD_TRY(put_token(p, (j_token){.kind = block ? T_BLOCK : T_PRINT, .at = at}));
            at += sign ? 3 : 2;
            TD_TRY(lex_inside(p, &at, print));
        }
        start = at;
        line_start = at > 0 && p->source[at - 1] == '\n';
    }
    if (start < at) TD_TRY(put_token(p, (j_token){.kind = T_TEXT, .at = start, .text = {p->source + start, at - start}}));
    return put_token(p, (j_token){.kind = T_END, .at = p->bytes});
}
