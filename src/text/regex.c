/* regex.c - Oniguruma patterns rewritten for PCRE2, and bounded matching. See regex.h. */
#include "text/regex.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/unicode.h"

struct td_regex { pcre2_code *code; };
struct td_regex_scratch { pcre2_match_data *match; pcre2_match_context *context; pcre2_jit_stack *stack; };

enum { PATTERN_MAX = 64 * 1024, GROUPS_MAX = 64 };

static const char space_ranges[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
static const char not_space_ranges[] = "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}";

/* The rewriter: reads text[at..bytes), writes out; atom is where the last thing that can be repeated begins in out. */
typedef struct {
    const char *text;
    size_t bytes, at;
    td_buffer *out;
    size_t atom, groups[GROUPS_MAX];
    int depth;
    bool in_class;
} rewriter;

static td_status refuse(const rewriter *r, const char *what)
{
    return td_fail(TD_E_UNSUPPORTED, "regular expression at byte %zu: %s", r->at, what);
}

static bool starts(const rewriter *r, const char *text)
{
    size_t n = strlen(text);
    return r->bytes - r->at >= n && !memcmp(r->text + r->at, text, n);
}

/* A set given as class contents: alone it gets its own brackets. */
static void put_set(rewriter *r, const char *contents, bool negated)
{
    if (!r->in_class) td_buffer_text(r->out, negated ? "[^" : "[");
    td_buffer_text(r->out, contents);
    if (!r->in_class) td_buffer_text(r->out, "]");
}

static void put_word(rewriter *r, bool negated)
{
    td_buffer set = {0};
    td_buffer_text(&set, "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}");
    if (!r->in_class) td_buffer_text(&set, "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"); /* Oniguruma counts these six of Latin-1, outside of a class */
    td_unicode_new_ranges("L", &set);
    td_unicode_new_ranges("M", &set);
    td_unicode_new_ranges("Nd", &set);
    td_unicode_new_ranges("Nl", &set);
    put_set(r, set.data ? set.data : "", negated);
    td_buffer_free(&set);
}

/* \p{Name}, \P{Name}, \p{^Name}; r->at is at the backslash. */
static td_status put_property(rewriter *r)
{
    bool negated = r->text[r->at + 1] == 'P';
    size_t from = r->at + 2;
    if (from >= r->bytes || r->text[from] != '{') return refuse(r, "expected '{' after \\p");
    from++;
    const char *close = memchr(r->text + from, '}', r->bytes - from);
    if (!close) return refuse(r, "expected '}' to close \\p{");
    size_t end = (size_t)(close - r->text);
    if (r->text[from] == '^') negated = !negated, from++;
    const char *name = r->text + from;
    size_t length = end - from;
    if (length == 0 || length > 40) return refuse(r, "expected a property name of 1 to 40 characters");
    const char *known = td_unicode_property(name, length);
    bool inverse = negated && r->in_class;
    td_buffer set = {0};
    if (known && strlen(known) <= 2 && (inverse || !strcmp(known, "C") || !strcmp(known, "Cn") || !strcmp(known, "Mn"))) { /* what is new cannot be taken away: every range by itself */
        td_unicode_category_ranges(known, inverse, &set);
        put_set(r, set.data ? set.data : "", negated && !inverse);
    } else if (known) {
        if (inverse) td_buffer_free(&set);
        if (inverse) return refuse(r, "a negated script inside a class is not supported");
        td_buffer_format(&set, "\\p{%s%s}", strlen(known) > 2 ? "sc:" : "", known);
        td_unicode_new_ranges(known, &set);
        put_set(r, set.data ? set.data : "", negated);
    } else { /* another script; anything else does not compile */
        td_buffer_format(&set, inverse ? "\\P{sc:%.*s}" : "\\p{sc:%.*s}", (int)length, name);
        put_set(r, set.data ? set.data : "", negated && !inverse);
    }
    td_buffer_free(&set);
    r->at = end + 1;
    return TD_OK;
}

static td_status put_escape(rewriter *r)
{
    if (r->at + 1 >= r->bytes) return refuse(r, "expected a character after the last backslash");
    char c = r->text[r->at + 1];
    switch (c) {
    case 'p': case 'P': return put_property(r);
    case 's': put_set(r, space_ranges, false); break;
    case 'S': put_set(r, r->in_class ? not_space_ranges : space_ranges, true); break;
    case 'w': put_word(r, false); break;
    case 'W':
        if (r->in_class) return refuse(r, "\\W inside a class is not supported");
        put_word(r, true);
        break;
    case 'h': put_set(r, "0-9a-fA-F", false); break;
    case 'H':
        if (r->in_class) return refuse(r, "\\H inside a class is not supported");
        put_set(r, "0-9a-fA-F", true);
        break;
    case 'd': case 'D': {
        td_buffer set = {0};
        if (c == 'D' && r->in_class) return refuse(r, "\\D inside a class is not supported");
        td_buffer_text(&set, "\\p{Nd}");
        td_unicode_new_ranges("Nd", &set);
        put_set(r, set.data ? set.data : "", c == 'D');
        td_buffer_free(&set);
        break;
    }
    case 'u':
        if (r->bytes - r->at < 6) return refuse(r, "expected four hex digits after \\u");
        for (int i = 2; i < 6; i++)
            if (!strchr("0123456789abcdefABCDEF", r->text[r->at + (size_t)i]) || !r->text[r->at + (size_t)i]) return refuse(r, "expected four hex digits after \\u");
        td_buffer_format(r->out, "\\x{%.4s}", r->text + r->at + 2);
        r->at += 6;
        return TD_OK;
    case 'K': case 'C': case 'G': case 'X': case 'N': case 'g': case 'k': case 'Q': case 'E': case 'y': case 'Y': case 'O': case 'o': case 'c': case 'M':
        return td_fail(TD_E_UNSUPPORTED, "regular expression at byte %zu: \\%c is not supported", r->at, c);
    default: {
        size_t length = 2; /* a multi-byte character escaped by a backslash is copied whole by the next rounds */
        td_buffer_put(r->out, r->text + r->at, length);
        r->at += length;
        return TD_OK;
    }
    }
    r->at += 2;
    return TD_OK;
}

/* [:name:] inside a class, where both sides mean the same characters. */
static td_status put_named_class(rewriter *r, const char *name, size_t length)
{
    if (length == 5 && !memcmp(name, "space", 5)) td_buffer_text(r->out, space_ranges);
    else if (length == 5 && !memcmp(name, "cntrl", 5)) td_buffer_text(r->out, "\\p{Cc}");
    else if (length == 6 && !memcmp(name, "xdigit", 6)) td_buffer_text(r->out, "0-9a-fA-F");
    else if (length == 5 && !memcmp(name, "digit", 5)) td_buffer_text(r->out, "\\p{Nd}"), td_unicode_new_ranges("Nd", r->out);
    else return refuse(r, "a named class other than [:space:], [:cntrl:], [:digit:] and [:xdigit:] is not supported");
    return TD_OK;
}

static td_status put_class(rewriter *r)
{
    r->atom = r->out->bytes;
    r->in_class = true;
    td_buffer_put(r->out, "[", 1);
    r->at++;
    if (r->at < r->bytes && r->text[r->at] == '^') td_buffer_put(r->out, "^", 1), r->at++;
    for (bool first = true;; first = false) {
        if (r->at >= r->bytes) return refuse(r, "expected ']' to close the class");
        char c = r->text[r->at];
        if (c == ']' && !first) break;
        if (starts(r, "&&")) return refuse(r, "the class intersection && is not supported (this PCRE2 would read it as two ordinary characters)");
        if (c == '[' && !starts(r, "[:")) return refuse(r, "a class inside a class is not supported");
        if (c == ']') td_buffer_put(r->out, "\\", 1); /* first in the class: an ordinary character */
        if (c == '\\') {
            TD_TRY(put_escape(r));
            continue;
        }
        if (starts(r, "[:")) {
            const char *end = memchr(r->text + r->at + 2, ':', r->bytes - r->at - 2);
            if (!end || end + 1 >= r->text + r->bytes || end[1] != ']') return refuse(r, "expected ':]' to close the named class");
            size_t length = (size_t)(end + 2 - r->text) - r->at;
            TD_TRY(put_named_class(r, r->text + r->at + 2, length - 4));
            r->at += length;
            continue;
        }
        td_buffer_put(r->out, &c, 1);
        r->at++;
    }
    td_buffer_put(r->out, "]", 1);
    r->at++;
    r->in_class = false;
    return TD_OK;
}

/* Length of "{n}", "{n,}", "{,m}" or "{n,m}" at r->at, or 0 for an ordinary brace. */
static size_t interval_length(const rewriter *r)
{
    size_t i = r->at + 1, digits = 0;
    for (int comma = 0; i < r->bytes; i++) {
        if (r->text[i] >= '0' && r->text[i] <= '9') digits++;
        else if (r->text[i] == ',' && !comma) comma = 1;
        else break;
    }
    return digits && i < r->bytes && r->text[i] == '}' ? i + 1 - r->at : 0;
}

static td_status put_interval(rewriter *r, size_t length)
{
    td_buffer_put(r->out, r->text + r->at, length);
    r->at += length;
    if (r->at >= r->bytes || r->text[r->at] != '+') return TD_OK;
    /* Oniguruma reads x{n,m}+ as (?:x{n,m})+, PCRE2 as a possessive repeat */
    td_buffer moved = {0};
    td_buffer_put(&moved, r->out->data + r->atom, r->out->bytes - r->atom);
    r->out->bytes = r->atom;
    td_buffer_text(r->out, "(?:");
    td_buffer_put(r->out, moved.data, moved.bytes);
    td_buffer_text(r->out, ")");
    td_buffer_free(&moved);
    return TD_OK; /* the '+' follows as usual */
}

static td_status rewrite(rewriter *r)
{
    while (r->at < r->bytes) {
        char c = r->text[r->at];
        size_t interval = c == '{' ? interval_length(r) : 0;
        if (c == '[') {
            TD_TRY(put_class(r));
            continue;
        }
        if (interval) {
            TD_TRY(put_interval(r, interval));
            continue;
        }
        if (c != '*' && c != '+' && c != '?' && c != ')') r->atom = r->out->bytes;
        if (c == '\\') {
            TD_TRY(put_escape(r));
            continue;
        }
        if (c == '(') {
            if (r->depth == GROUPS_MAX) return refuse(r, "groups are nested deeper than 64");
            if (starts(r, "(*")) return refuse(r, "expected a pattern, found a PCRE2 verb");
            if (starts(r, "(?~") || starts(r, "(?{") || starts(r, "(?C") || starts(r, "(?R") || starts(r, "(?&")) return refuse(r, "this kind of group is not supported");
            r->groups[r->depth++] = r->out->bytes;
        }
        if (c == ')' && r->depth > 0) r->atom = r->groups[--r->depth];
        td_buffer_put(r->out, &c, 1);
        r->at++;
    }
    return td_buffer_status(r->out);
}

static td_status compile(const td_buffer *rewritten, pcre2_code **out)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return td_fail(TD_E_MEMORY, "regular expression: no memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, GROUPS_MAX);
    int error = 0;
    PCRE2_SIZE at = 0;
    /* Oniguruma's Ruby syntax: ^ and $ match at every line */
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)(rewritten->data ? rewritten->data : ""), rewritten->bytes, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, context);
    pcre2_compile_context_free(context);
    if (!code) {
        char message[160] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        return td_fail(TD_E_UNSUPPORTED, "regular expression: %s at byte %zu of its PCRE2 form '%.200s'", message, (size_t)at, rewritten->data ? rewritten->data : "");
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without JIT it is slower and means the same */
    *out = code;
    return TD_OK;
}

td_status td_regex_open(const char *pattern, size_t bytes, td_regex **out)
{
    if (bytes > PATTERN_MAX) return td_fail(TD_E_UNSUPPORTED, "regular expression of %zu bytes; expected at most %d", bytes, PATTERN_MAX);
    td_buffer rewritten = {0};
    rewriter r = {.text = pattern, .bytes = bytes, .out = &rewritten};
    pcre2_code *code = NULL;
    td_status status = rewrite(&r);
    if (status == TD_OK) status = compile(&rewritten, &code);
    td_buffer_free(&rewritten);
    if (status < 0) return status;
    td_regex *regex = malloc(sizeof *regex);
    if (!regex) {
        pcre2_code_free(code);
        return td_fail(TD_E_MEMORY, "regular expression: no memory");
    }
    regex->code = code;
    *out = regex;
    return TD_OK;
}

void td_regex_close(td_regex *regex)
{
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex);
}

td_status td_regex_scratch_open(td_regex_scratch **out)
{
    td_regex_scratch *s = calloc(1, sizeof *s);
    if (s) {
        s->match = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        s->stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, NULL);
    }
    if (!s || !s->match || !s->context) {
        td_regex_scratch_close(s);
        return td_fail(TD_E_MEMORY, "regular expression: no memory for matching");
    }
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_heap_limit(s->context, 64 * 1024); /* KiB */
    *out = s;
    return TD_OK;
}

void td_regex_scratch_close(td_regex_scratch *scratch)
{
    if (!scratch) return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

td_status td_regex_find(const td_regex *regex, td_regex_scratch *scratch, const char *text, size_t bytes, size_t from, bool *found, size_t *start, size_t *end)
{
    /* linear backtracking is what published patterns need (a run of spaces given back one by one); more is a pattern gone wild */
    uint64_t limit = 1000000 + 32 * (uint64_t)(bytes - from);
    pcre2_set_match_limit(scratch->context, (uint32_t)TD_MIN(limit, UINT32_MAX));
    int n = pcre2_match(regex->code, (PCRE2_SPTR)(text ? text : ""), bytes, from, PCRE2_NO_UTF_CHECK, scratch->match, scratch->context);
    if (n == PCRE2_ERROR_NOMATCH) {
        *found = false;
        return TD_OK;
    }
    if (n < 0) {
        char message[160] = "";
        pcre2_get_error_message(n, (PCRE2_UCHAR *)message, sizeof message);
        return td_fail(TD_E_UNSUPPORTED, "tokenizer: its regular expression gave up at byte %zu of a text of %zu bytes: %s", from, bytes, message);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(scratch->match);
    *found = true;
    *start = span[0];
    *end = TD_MAX(span[0], span[1]);
    return TD_OK;
}
