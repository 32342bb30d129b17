/* jinja_methods.c - methods of texts, lists and dictionaries as Python has them, and "..." % values. See jinja.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

typedef td_status (*method_fn)(j_run *run, j_value self, j_args *args, j_value *out);

static bool python_space(uint32_t code) { return td_unicode_space(code) || (code >= 0x1C && code <= 0x1F); }

static uint32_t char_at(j_text text, size_t at, size_t *length)
{
    *length = td_utf8_length(text.text + at, text.bytes - at);
    if (*length == 0) {
        *length = 1;
        return 0xFFFD;
    }
    return td_utf8_decode(text.text + at, *length);
}

static size_t char_before(j_text text, size_t end)
{
    size_t at = end - 1;
    while (at > 0 && ((unsigned char)text.text[at] & 0xC0) == 0x80) at--;
    return at;
}

/* First place of part at or after from, or SIZE_MAX. */
static size_t find_text(j_text text, j_text part, size_t from)
{
    for (size_t i = from; i + part.bytes <= text.bytes; i++) {
        if (part.bytes == 0 || (text.text[i] == part.text[0] && !memcmp(text.text + i, part.text, part.bytes))) return i;
    }
    return SIZE_MAX;
}

static td_status need_text(j_run *run, const j_args *args, int index, const char *method, j_text *out)
{
    j_value v = j_arg(args, index, "", j_none());
    *out = (j_text){"", 0};
    if (v.kind != J_STRING) return j_fail(run, "%s: expected a text, found %s", method, j_type(v));
    *out = v.text;
    return TD_OK;
}

/* ---- texts ---- */

static bool strips(uint32_t code, const j_value *chars)
{
    if (chars->kind != J_STRING) return python_space(code);
    for (size_t i = 0, length; i < chars->text.bytes; i += length)
        if (char_at(chars->text, i, &length) == code) return true;
    return false;
}

static td_status strip(j_run *run, j_value self, j_args *args, bool left, bool right, j_value *out)
{
    j_value chars = j_arg(args, 0, "chars", j_none());
    size_t start = 0, end = self.text.bytes, length;
    if (chars.kind != J_NONE && chars.kind != J_STRING) return j_fail(run, "strip: expected a text or None, found %s", j_type(chars));
    TD_TRY(j_step(run, self.text.bytes / 64));
    while (left && start < end && strips(char_at(self.text, start, &length), &chars)) start += length;
    while (right && end > start) {
        size_t at = char_before(self.text, end);
        if (at < start || !strips(char_at(self.text, at, &length), &chars)) break;
        end = at;
    }
    *out = j_str(self.text.text + start, end - start);
    return TD_OK;
}

static td_status m_strip(j_run *run, j_value self, j_args *args, j_value *out) { return strip(run, self, args, true, true, out); }
static td_status m_lstrip(j_run *run, j_value self, j_args *args, j_value *out) { return strip(run, self, args, true, false, out); }
static td_status m_rstrip(j_run *run, j_value self, j_args *args, j_value *out) { return strip(run, self, args, false, true, out); }

/* split() at runs of white space: max pieces, then the rest. */
static td_status split_space(j_run *run, j_text text, int64_t max, bool right, j_value *out)
{
    size_t at = 0, end = text.bytes, length;
    TD_TRY(j_list_new(run, J_LIST, 0, out));
    if (right && max >= 0) { /* from the right: gather, then turn round */
        while (end > 0) {
            while (end > 0 && python_space(char_at(text, char_before(text, end), &length))) end = char_before(text, end);
            if (end == 0) break;
            size_t start = end;
            if (max-- == 0) start = 0;
            while (start > 0 && !python_space(char_at(text, char_before(text, start), &length))) start = char_before(text, start);
            while (start == 0 && start < end && python_space(char_at(text, start, &length))) start += length;
            TD_TRY(j_list_put(run, out->list, j_str(text.text + start, end - start)));
            if (max < 0) break;
            end = start;
        }
        for (size_t i = 0, n = out->list->count; i < n / 2; i++) {
            j_value swap = out->list->items[i];
            out->list->items[i] = out->list->items[n - 1 - i];
            out->list->items[n - 1 - i] = swap;
        }
        return TD_OK;
    }
    for (int64_t pieces = 0;; pieces++) {
        while (at < text.bytes && python_space(char_at(text, at, &length))) at += length;
        if (at >= text.bytes) return TD_OK;
        if (max >= 0 && pieces == max) break;
        size_t start = at;
        while (at < text.bytes && !python_space(char_at(text, at, &length))) at += length;
        TD_TRY(j_list_put(run, out->list, j_str(text.text + start, at - start)));
    }
    while (end > at && python_space(char_at(text, char_before(text, end), &length))) end = char_before(text, end);
    /* Python keeps the white space at the end of the last piece when max stops it */
    return j_list_put(run, out->list, j_str(text.text + at, text.bytes - at));
}

static td_status split_at(j_run *run, j_text text, j_text separator, int64_t max, bool right, j_value *out)
{
    if (separator.bytes == 0) return j_fail(run, "empty separator");
    TD_TRY(j_step(run, text.bytes / 64));
    TD_TRY(j_list_new(run, J_LIST, 0, out));
    int64_t found = 0, skip = 0;
    if (right && max >= 0) { /* the first ones stay together */
        for (size_t i = 0; (i = find_text(text, separator, i)) != SIZE_MAX; i += separator.bytes) found++;
        skip = TD_MAX(found - max, 0);
        max = -1;
    }
    size_t start = 0, from = 0, hit;
    while (max != 0 && (hit = find_text(text, separator, from)) != SIZE_MAX) {
        from = hit + separator.bytes;
        if (skip-- > 0) continue;
        TD_TRY(j_list_put(run, out->list, j_str(text.text + start, hit - start)));
        start = from;
        if (max > 0) max--;
    }
    return j_list_put(run, out->list, j_str(text.text + start, text.bytes - start));
}

static td_status split(j_run *run, j_value self, j_args *args, bool right, j_value *out)
{
    int64_t max;
    j_value separator = j_arg(args, 0, "sep", j_none());
    TD_TRY(j_arg_int(run, args, 1, "maxsplit", -1, &max));
    if (separator.kind == J_NONE) return split_space(run, self.text, max, right, out);
    if (separator.kind != J_STRING) return j_fail(run, "split: expected a text or None, found %s", j_type(separator));
    return split_at(run, self.text, separator.text, max, right, out);
}

static td_status m_split(j_run *run, j_value self, j_args *args, j_value *out) { return split(run, self, args, false, out); }
static td_status m_rsplit(j_run *run, j_value self, j_args *args, j_value *out) { return split(run, self, args, true, out); }

static td_status partition(j_run *run, j_value self, j_args *args, bool right, j_value *out)
{
    j_text part;
    TD_TRY(need_text(run, args, 0, "partition", &part));
    if (part.bytes == 0) return j_fail(run, "empty separator");
    size_t at = SIZE_MAX;
    for (size_t i = 0; (i = find_text(self.text, part, i)) != SIZE_MAX; i++) {
        at = i;
        if (!right) break;
    }
    j_value none = j_str("", 0);
    TD_TRY(j_list_new(run, J_TUPLE, 3, out));
    if (at == SIZE_MAX) {
        TD_TRY(j_list_put(run, out->list, right ? none : self));
        TD_TRY(j_list_put(run, out->list, none));
        return j_list_put(run, out->list, right ? self : none);
    }
    TD_TRY(j_list_put(run, out->list, j_str(self.text.text, at)));
    TD_TRY(j_list_put(run, out->list, j_str(part.text, part.bytes)));
    return j_list_put(run, out->list, j_str(self.text.text + at + part.bytes, self.text.bytes - at - part.bytes));
}

static td_status m_partition(j_run *run, j_value self, j_args *args, j_value *out) { return partition(run, self, args, false, out); }
static td_status m_rpartition(j_run *run, j_value self, j_args *args, j_value *out) { return partition(run, self, args, true, out); }

static td_status m_splitlines(j_run *run, j_value self, j_args *args, j_value *out)
{
    bool keep = j_truth(j_arg(args, 0, "keepends", j_bool(false)));
    TD_TRY(j_list_new(run, J_LIST, 0, out));
    for (size_t start = 0; start < self.text.bytes;) {
        size_t at = start, length = 0, mark = 0;
        for (; at < self.text.bytes; at += length) {
            uint32_t code = char_at(self.text, at, &length);
            if ((code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 || code == 0x2029) {
                mark = length + (code == 0x0D && at + 1 < self.text.bytes && self.text.text[at + 1] == '\n');
                break;
            }
        }
        TD_TRY(j_list_put(run, out->list, j_str(self.text.text + start, at - start + (keep ? mark : 0))));
        start = at + mark;
    }
    return TD_OK;
}

/* One text or a tuple of them. */
static td_status ends(j_run *run, j_value self, j_args *args, bool at_start, j_value *out)
{
    j_value parts = j_arg(args, 0, "", j_none());
    size_t count = parts.kind == J_TUPLE ? parts.list->count : 1;
    *out = j_bool(false);
    for (size_t i = 0; i < count; i++) {
        j_value part = parts.kind == J_TUPLE ? parts.list->items[i] : parts;
        if (part.kind != J_STRING) return j_fail(run, "%s first arg must be str or a tuple of str, not %s", at_start ? "startswith" : "endswith", j_type(part));
        if (part.text.bytes > self.text.bytes) continue;
        const char *place = self.text.text + (at_start ? 0 : self.text.bytes - part.text.bytes);
        if (part.text.bytes == 0 || !memcmp(place, part.text.text, part.text.bytes)) *out = j_bool(true);
    }
    return TD_OK;
}

static td_status m_startswith(j_run *run, j_value self, j_args *args, j_value *out) { return ends(run, self, args, true, out); }
static td_status m_endswith(j_run *run, j_value self, j_args *args, j_value *out) { return ends(run, self, args, false, out); }

static td_status m_removeprefix(j_run *run, j_value self, j_args *args, j_value *out)
{
    j_value yes;
    TD_TRY(ends(run, self, args, true, &yes));
    size_t cut = yes.truth ? args->positional[0].text.bytes : 0;
    *out = j_str(self.text.text + cut, self.text.bytes - cut);
    return TD_OK;
}

static td_status m_removesuffix(j_run *run, j_value self, j_args *args, j_value *out)
{
    j_value yes;
    TD_TRY(ends(run, self, args, false, &yes));
    *out = j_str(self.text.text, self.text.bytes - (yes.truth ? args->positional[0].text.bytes : 0));
    return TD_OK;
}

static td_status m_replace(j_run *run, j_value self, j_args *args, j_value *out)
{
    j_text old, new;
    int64_t max;
    td_buffer made = {0};
    TD_TRY(need_text(run, args, 0, "replace", &old));
    TD_TRY(need_text(run, args, 1, "replace", &new));
    TD_TRY(j_arg_int(run, args, 2, "count", -1, &max));
    TD_TRY(j_step(run, self.text.bytes / 64));
    size_t at = 0, hit;
    for (size_t from = 0; max != 0 && (hit = find_text(self.text, old, from)) != SIZE_MAX; max--) {
        td_buffer_put(&made, self.text.text + at, hit - at);
        td_buffer_put(&made, new.text, new.bytes);
        at = from = hit + old.bytes;
        if (made.bytes > J_OUTPUT_MAX) {
            td_buffer_free(&made);
            return j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
        }
        if (old.bytes == 0) { /* between all characters */
            if (hit >= self.text.bytes) break;
            size_t length;
            char_at(self.text, hit, &length);
            from = hit + length;
        }
    }
    td_buffer_put(&made, self.text.text + at, self.text.bytes - at);
    return j_take(run, &made, out);
}

typedef enum { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP } case_kind;

/* Simple case mapping, with the special cases that Python's full mapping has among common letters. */
static void put_cased(td_buffer *out, uint32_t code, bool upper, bool first)
{
    char one[4];
    if (upper && code == 0xDF) td_buffer_text(out, first ? "Ss" : "SS");
    else if (!upper && code == 0x130) td_buffer_text(out, "i\xCC\x87");
    else td_buffer_put(out, one, td_utf8_encode((uint32_t)(upper ? (first ? utf8proc_totitle((utf8proc_int32_t)code) : utf8proc_toupper((utf8proc_int32_t)code)) : utf8proc_tolower((utf8proc_int32_t)code)), one));
}

/* A capital sigma at the end of a word becomes the final one. */
static bool final_sigma(j_text text, size_t at, size_t length, bool after_letter)
{
    size_t next;
    if (!after_letter) return false;
    return at + length >= text.bytes || td_unicode_category(char_at(text, at + length, &next)) >> 8 != 'L';
}

static td_status change_case(j_run *run, j_value self, case_kind kind, j_value *out)
{
    td_buffer made = {0};
    TD_TRY(j_step(run, self.text.bytes / 16));
    bool inside = false;
    for (size_t i = 0, length; i < self.text.bytes; i += length) {
        uint32_t code = char_at(self.text, i, &length);
        unsigned category = td_unicode_category(code);
        bool letter = category == ('L' << 8 | 'u') || category == ('L' << 8 | 'l') || category == ('L' << 8 | 't');
        bool start = kind == CASE_TITLE ? !inside : i == 0, upper = kind == CASE_UPPER || ((kind == CASE_TITLE || kind == CASE_CAPITAL) && start);
        if (kind == CASE_SWAP) upper = category == ('L' << 8 | 'l');
        if (code == 0x3A3 && !upper && final_sigma(self.text, i, length, inside)) code = 0x3C2;
        put_cased(&made, code, upper, kind == CASE_TITLE || kind == CASE_CAPITAL);
        inside = letter;
    }
    return j_take(run, &made, out);
}

static td_status m_upper(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, change_case(run, self, CASE_UPPER, out); }
static td_status m_lower(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, change_case(run, self, CASE_LOWER, out); }
static td_status m_title(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, change_case(run, self, CASE_TITLE, out); }
static td_status m_capitalize(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, change_case(run, self, CASE_CAPITAL, out); }
static td_status m_swapcase(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, change_case(run, self, CASE_SWAP, out); }

static td_status m_join(j_run *run, j_value self, j_args *args, j_value *out)
{
    j_list *items;
    td_buffer made = {0};
    TD_TRY(j_iterate(run, j_arg(args, 0, "iterable", j_none()), &items));
    for (size_t i = 0; i < items->count; i++) {
        j_value item = items->items[i];
        if (item.kind != J_STRING || made.bytes > J_OUTPUT_MAX) {
            td_buffer_free(&made);
            return j_fail(run, "sequence item %zu: expected str instance, %s found", i, j_type(item));
        }
        if (i) td_buffer_put(&made, self.text.text, self.text.bytes);
        td_buffer_put(&made, item.text.text, item.text.bytes);
    }
    return j_take(run, &made, out);
}

/* find, rfind, index, count: positions in characters. */
static td_status search(j_run *run, j_value self, j_args *args, const char *method, bool right, bool must, j_value *out)
{
    j_text part;
    int64_t from;
    TD_TRY(need_text(run, args, 0, method, &part));
    TD_TRY(j_arg_int(run, args, 1, "start", 0, &from));
    TD_TRY(j_step(run, self.text.bytes / 16));
    int64_t n = (int64_t)j_characters(self.text);
    if (from < 0) from = TD_MAX(from + n, 0);
    size_t at = SIZE_MAX;
    for (size_t i = j_offset(self.text, (size_t)TD_MIN(from, n)); from <= n && (i = find_text(self.text, part, i)) != SIZE_MAX; i++) {
        at = i;
        if (!right) break;
    }
    if (at == SIZE_MAX && must) return j_fail(run, "substring not found");
    *out = j_int(at == SIZE_MAX ? -1 : (int64_t)j_characters((j_text){self.text.text, at}));
    return TD_OK;
}

static td_status m_find(j_run *run, j_value self, j_args *args, j_value *out) { return search(run, self, args, "find", false, false, out); }
static td_status m_rfind(j_run *run, j_value self, j_args *args, j_value *out) { return search(run, self, args, "rfind", true, false, out); }

static td_status m_index(j_run *run, j_value self, j_args *args, j_value *out)
{
    if (self.kind == J_STRING) return search(run, self, args, "index", false, true, out);
    for (size_t i = 0; i < self.list->count; i++)
        if (j_equal(run, self.list->items[i], j_arg(args, 0, "", j_none()))) {
            *out = j_int((int64_t)i);
            return TD_OK;
        }
    return j_fail(run, "value is not in list");
}

static td_status m_count(j_run *run, j_value self, j_args *args, j_value *out)
{
    int64_t count = 0;
    if (self.kind == J_STRING) {
        j_text part;
        TD_TRY(need_text(run, args, 0, "count", &part));
        TD_TRY(j_step(run, self.text.bytes / 16));
        if (part.bytes == 0) count = (int64_t)j_characters(self.text) + 1;
        for (size_t i = 0; part.bytes && (i = find_text(self.text, part, i)) != SIZE_MAX; i += part.bytes) count++;
    } else {
        TD_TRY(j_step(run, self.list->count));
        for (size_t i = 0; i < self.list->count; i++) count += j_equal(run, self.list->items[i], j_arg(args, 0, "", j_none()));
    }
    *out = j_int(count);
    return TD_OK;
}

/* Every character passes, and there is one. */
static td_status all_of(j_value self, bool (*passes)(uint32_t code), j_value *out)
{
    bool all = self.text.bytes > 0;
    for (size_t i = 0, length; i < self.text.bytes && all; i += length) all = passes(char_at(self.text, i, &length));
    *out = j_bool(all);
    return TD_OK;
}

static bool is_digit(uint32_t code) { return td_unicode_category(code) == ('N' << 8 | 'd'); }
static bool is_alpha(uint32_t code) { return td_unicode_category(code) >> 8 == 'L'; }
static bool is_alnum(uint32_t code) { return is_alpha(code) || td_unicode_category(code) >> 8 == 'N'; }

static td_status m_isdigit(j_run *run, j_value self, j_args *args, j_value *out) { return (void)run, (void)args, all_of(self, is_digit, out); }
static td_status m_isalpha(j_run *run, j_value self, j_args *args, j_value *out) { return (void)run, (void)args, all_of(self, is_alpha, out); }
static td_status m_isalnum(j_run *run, j_value self, j_args *args, j_value *out) { return (void)run, (void)args, all_of(self, is_alnum, out); }
static td_status m_isspace(j_run *run, j_value self, j_args *args, j_value *out) { return (void)run, (void)args, all_of(self, python_space, out); }

static td_status cased_test(j_run *run, j_value self, const char *name, j_value *out)
{
    return j_find_test((j_text){name, 5})->fn(run, self, &(j_args){0}, out);
}

static td_status m_isupper(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, cased_test(run, self, "upper", out); }
static td_status m_islower(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, cased_test(run, self, "lower", out); }

/* {}, {0}, {name} without conversions; {{ and }} are braces. */
static td_status put_field(j_run *run, j_text field, const j_args *args, int *next, td_buffer *out)
{
    j_value v = j_undefined(field);
    bool digits = field.bytes > 0 && field.bytes < 4;
    int index = 0;
    for (size_t i = 0; i < field.bytes && digits; i++) {
        digits = field.text[i] >= '0' && field.text[i] <= '9';
        index = index * 10 + field.text[i] - '0';
    }
    if (field.bytes == 0) index = (*next)++;
    if (field.bytes == 0 || digits) {
        if (index >= args->count) return j_fail(run, "format: replacement index %d out of range", index);
        v = args->positional[index];
    } else {
        for (int i = 0; i < args->named_count; i++)
            if (j_same(args->names[i], field)) v = args->named[i];
        if (v.kind == J_UNDEFINED) return j_fail(run, "format: only {}, {0} and {name} of given arguments are supported, found {%.*s}", (int)TD_MIN(field.bytes, 40), field.text);
    }
    return j_show(run, v, out);
}

static td_status m_format(j_run *run, j_value self, j_args *args, j_value *out)
{
    td_buffer made = {0};
    int next = 0;
    td_status status = TD_OK;
    for (size_t i = 0; i < self.text.bytes && status == TD_OK;) {
        char c = self.text.text[i];
        bool twice = i + 1 < self.text.bytes && self.text.text[i + 1] == c;
        if ((c == '{' || c == '}') && !twice) {
            const char *close = c == '{' ? memchr(self.text.text + i, '}', self.text.bytes - i) : NULL;
            if (!close) {
                status = j_fail(run, "format: a single '%c'", c);
                break;
            }
            j_text field = {self.text.text + i + 1, (size_t)(close - self.text.text) - i - 1};
            status = put_field(run, field, args, &next, &made);
            i += field.bytes + 2;
        } else {
            td_buffer_put(&made, &c, 1);
            i += (c == '{' || c == '}') ? 2 : 1;
        }
        if (made.bytes > J_OUTPUT_MAX) status = j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
    }
    if (status == TD_OK) return j_take(run, &made, out);
    td_buffer_free(&made);
    return status;
}

static td_status pad(j_run *run, j_value self, j_args *args, bool left, const char *fill, j_value *out)
{
    int64_t width;
    j_text filler = {fill, 1};
    TD_TRY(j_arg_int(run, args, 0, "width", 0, &width));
    if (args->count > 1) TD_TRY(need_text(run, args, 1, "just", &filler));
    if (width > 100000) return j_fail(run, "expected a width of at most 100000");
    int64_t missing = width - (int64_t)j_characters(self.text);
    td_buffer made = {0};
    if (!left) td_buffer_put(&made, self.text.text, self.text.bytes);
    for (int64_t i = 0; i < missing; i++) td_buffer_put(&made, filler.text, filler.bytes);
    if (left) td_buffer_put(&made, self.text.text, self.text.bytes);
    return j_take(run, &made, out);
}

static td_status m_ljust(j_run *run, j_value self, j_args *args, j_value *out) { return pad(run, self, args, false, " ", out); }
static td_status m_rjust(j_run *run, j_value self, j_args *args, j_value *out) { return pad(run, self, args, true, " ", out); }
static td_status m_zfill(j_run *run, j_value self, j_args *args, j_value *out)
{
    bool sign = self.text.bytes && (self.text.text[0] == '-' || self.text.text[0] == '+');
    if (!sign) return pad(run, self, args, true, "0", out);
    j_args less = *args;
    j_value digits;
    int64_t width;
    TD_TRY(j_arg_int(run, args, 0, "width", 0, &width));
    less.positional[0] = j_int(width - 1);
    TD_TRY(pad(run, j_str(self.text.text + 1, self.text.bytes - 1), &less, true, "0", &digits));
    td_buffer made = {0};
    td_buffer_put(&made, self.text.text, 1);
    td_buffer_put(&made, digits.text.text, digits.text.bytes);
    return j_take(run, &made, out);
}

/* ---- dictionaries ---- */

static td_status m_items(j_run *run, j_value self, j_args *args, j_value *out)
{
    (void)args;
    TD_TRY(j_list_new(run, J_LIST, self.dict->count, out));
    for (size_t i = 0; i < self.dict->count; i++) {
        j_value pair;
        TD_TRY(j_list_new(run, J_TUPLE, 2, &pair));
        TD_TRY(j_list_put(run, pair.list, self.dict->keys[i]));
        TD_TRY(j_list_put(run, pair.list, self.dict->values[i]));
        TD_TRY(j_list_put(run, out->list, pair));
    }
    return TD_OK;
}

static td_status copy_values(j_run *run, const j_value *values, size_t count, j_value *out)
{
    TD_TRY(j_list_new(run, J_LIST, count, out));
    for (size_t i = 0; i < count; i++) TD_TRY(j_list_put(run, out->list, values[i]));
    return TD_OK;
}

static td_status m_keys(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, copy_values(run, self.dict->keys, self.dict->count, out); }
static td_status m_values(j_run *run, j_value self, j_args *args, j_value *out) { return (void)args, copy_values(run, self.dict->values, self.dict->count, out); }

static td_status m_center(j_run *run, j_value self, j_args *args, j_value *out)
{
    int64_t width;
    j_value fill = j_arg(args, 1, "fillchar", j_str(" ", 1));
    TD_TRY(j_arg_int(run, args, 0, "width", 0, &width));
    if (fill.kind != J_STRING || !fill.text.bytes || td_utf8_length(fill.text.text, fill.text.bytes) != fill.text.bytes) return j_fail(run, "The fill character must be exactly one character long");
    if (width > J_OUTPUT_MAX) return j_fail(run, "a text of more than %d MiB", J_OUTPUT_MAX >> 20);
    int64_t count = 0;
    for (size_t at = 0; at < self.text.bytes; count++) at += TD_MAX(td_utf8_length(self.text.text + at, self.text.bytes - at), 1);
    int64_t all = TD_MAX(width - count, 0), left = all / 2 + (all & width & 1);
    td_buffer text = {0};
    for (int64_t i = 0; i < left; i++) td_buffer_put(&text, fill.text.text, fill.text.bytes);
    td_buffer_put(&text, self.text.text, self.text.bytes);
    for (int64_t i = left; i < all; i++) td_buffer_put(&text, fill.text.text, fill.text.bytes);
    return j_take(run, &text, out);
}

static td_status m_get(j_run *run, j_value self, j_args *args, j_value *out)
{
    j_value *found;
    TD_TRY(j_dict_find(run, self.dict, j_arg(args, 0, "key", j_none()), &found));
    *out = found ? *found : j_arg(args, 1, "default", j_none());
    return TD_OK;
}

static td_status m_copy(j_run *run, j_value self, j_args *args, j_value *out)
{
    (void)run, (void)args;
    *out = self; /* nothing changes them */
    return TD_OK;
}

static td_status m_refused(j_run *run, j_value self, j_args *args, j_value *out)
{
    (void)args, (void)out;
    return j_fail(run, "changing a %s in place is not allowed in a chat template", j_type(self));
}

typedef struct { const char *name; method_fn fn; } method;

static const method text_methods[] = {
    {"capitalize", m_capitalize}, {"casefold", m_lower}, {"center", m_center}, {"count", m_count}, {"endswith", m_endswith}, {"find", m_find}, {"format", m_format}, {"index", m_index}, {"isalnum", m_isalnum}, {"isalpha", m_isalpha},
    {"isdecimal", m_isdigit}, {"isdigit", m_isdigit}, {"islower", m_islower}, {"isnumeric", m_isdigit}, {"isspace", m_isspace}, {"isupper", m_isupper}, {"join", m_join}, {"ljust", m_ljust}, {"lower", m_lower},
    {"lstrip", m_lstrip}, {"partition", m_partition}, {"removeprefix", m_removeprefix}, {"removesuffix", m_removesuffix}, {"replace", m_replace}, {"rfind", m_rfind}, {"rjust", m_rjust},
    {"rpartition", m_rpartition}, {"rsplit", m_rsplit}, {"rstrip", m_rstrip}, {"split", m_split}, {"splitlines", m_splitlines}, {"startswith", m_startswith}, {"strip", m_strip},
    {"swapcase", m_swapcase}, {"title", m_title}, {"upper", m_upper}, {"zfill", m_zfill},
};
static const method list_methods[] = {
    {"append", m_refused}, {"clear", m_refused}, {"copy", m_copy}, {"count", m_count}, {"extend", m_refused}, {"index", m_index}, {"insert", m_refused}, {"pop", m_refused}, {"remove", m_refused}, {"reverse", m_refused}, {"sort", m_refused},
};
static const method dict_methods[] = {
    {"clear", m_refused}, {"copy", m_copy}, {"get", m_get}, {"items", m_items}, {"keys", m_keys}, {"pop", m_refused}, {"popitem", m_refused}, {"setdefault", m_refused}, {"update", m_refused}, {"values", m_values},
};

static method_fn find_method(j_value self, j_text name)
{
    const method *list = self.kind == J_STRING ? text_methods : self.kind == J_LIST || self.kind == J_TUPLE ? list_methods : self.kind == J_DICT ? dict_methods : NULL;
    size_t count = self.kind == J_STRING ? TD_COUNT(text_methods) : self.kind == J_DICT ? TD_COUNT(dict_methods) : TD_COUNT(list_methods);
    for (size_t i = 0; list && i < count; i++)
        if (j_is(name, list[i].name)) return list[i].fn;
    return NULL;
}

bool j_has_method(j_value self, j_text name) { return find_method(self, name) != NULL; }

td_status j_call_method(j_run *run, j_value self, j_text name, j_args *args, j_value *out)
{
    method_fn fn = find_method(self, name);
    return fn ? fn(run, self, args, out) : j_fail(run, "'%s' object has no method '%.*s'", j_type(self), (int)TD_MIN(name.bytes, 60), name.text);
}

/* ---- "..." % values ---- */

/* %s and %r: width and precision count characters. */
static td_status put_shown(j_run *run, const char *spec, char kind, j_value v, td_buffer *out)
{
    const char *dot = strchr(spec, '.'), *digits = spec + strspn(spec, "%-+ 0#");
    size_t width = strtoul(digits, NULL, 10), most = dot ? strtoul(dot + 1, NULL, 10) : SIZE_MAX, count = 0, at = 0;
    td_buffer text = {0};
    td_status status = kind == 's' ? j_show(run, v, &text) : j_repr(run, v, 0, &text);
    for (; status == TD_OK && at < text.bytes && count < most; count++) at += TD_MAX(td_utf8_length(text.data + at, text.bytes - at), 1);
    bool left = memchr(spec, '-', (size_t)(digits - spec)) != NULL;
    if (left && at) td_buffer_put(out, text.data, at);
    for (size_t i = count; i < width; i++) td_buffer_text(out, " ");
    if (!left && at) td_buffer_put(out, text.data, at);
    td_buffer_free(&text);
    return status;
}

/* %[(key)][flags][width][.precision]kind at *at (behind the %). */
static td_status put_percent(j_run *run, j_text format, size_t *at, j_value values, size_t *next, td_buffer *out)
{
    char spec[40] = "%";
    size_t n = 1;
    j_value v = values;
    if (*at < format.bytes && format.text[*at] == '(') {
        const char *close = memchr(format.text + *at, ')', format.bytes - *at);
        j_value *found = NULL;
        if (!close || values.kind != J_DICT) return j_fail(run, "format requires a mapping");
        size_t length = (size_t)(close - format.text) - *at - 1;
        TD_TRY(j_dict_find(run, values.dict, j_str(format.text + *at + 1, length), &found));
        if (!found) return j_fail(run, "format: no key '%.*s'", (int)TD_MIN(length, 60), format.text + *at + 1);
        v = *found;
        *at += length + 2;
    } else if (values.kind == J_TUPLE) {
        if (*at < format.bytes && format.text[*at] != '%' && *next >= values.list->count) return j_fail(run, "not enough arguments for format string");
        if (*at < format.bytes && format.text[*at] != '%') v = values.list->items[(*next)++];
    }
    while (*at < format.bytes && n < 8 && format.text[*at] && strchr("-+ 0#.123456789", format.text[*at])) spec[n++] = format.text[(*at)++];
    char kind = *at < format.bytes ? format.text[(*at)++] : 0;
    char made[400];
    j_value number = v;
    switch (kind) {
    case '%': td_buffer_text(out, "%"); return TD_OK;
    case 's': case 'r': return put_shown(run, spec, kind, v, out);
    case 'd': case 'i': case 'u': case 'x': case 'X': case 'o':
        if (number.kind == J_FLOAT && !(fabs(number.number) < 9e18)) return j_fail(run, "%%%c format: an integer beyond 64 bits", kind);
        if (number.kind == J_FLOAT) number = j_int((int64_t)number.number);
        if (number.kind == J_BOOL) number = j_int(number.truth);
        if (number.kind != J_INT) return j_fail(run, "%%%c format: a real number is required, not %s", kind, j_type(v));
        snprintf(spec + n, sizeof spec - n, "ll%c", kind == 'u' || kind == 'i' ? 'd' : kind);
        if (snprintf(made, sizeof made, spec, (long long)number.integer) >= (int)sizeof made) return j_fail(run, "format: wider than %d characters", (int)sizeof made - 1);
        td_buffer_text(out, made);
        return TD_OK;
    case 'f': case 'F': case 'e': case 'E': case 'g': case 'G':
        if (v.kind != J_FLOAT && v.kind != J_INT && v.kind != J_BOOL) return j_fail(run, "must be real number, not %s", j_type(v));
        snprintf(spec + n, sizeof spec - n, "%c", kind);
        if (snprintf(made, sizeof made, spec, v.kind == J_FLOAT ? v.number : v.kind == J_INT ? (double)v.integer : (double)v.truth) >= (int)sizeof made) return j_fail(run, "format: wider than %d characters", (int)sizeof made - 1);
        td_buffer_text(out, made);
        return TD_OK;
    default: return j_fail(run, "unsupported format character '%c'", kind ? kind : ' ');
    }
}

td_status j_format_percent(j_run *run, j_text format, j_value values, j_value *out)
{
    td_buffer made = {0};
    size_t next = 0;
    td_status status = TD_OK;
    for (size_t i = 0; i < format.bytes && status == TD_OK;) {
        char c = format.text[i++];
        if (c == '%') status = put_percent(run, format, &i, values, &next, &made);
        else td_buffer_put(&made, &c, 1);
        if (made.bytes > J_OUTPUT_MAX) status = j_fail(run, "more than %d MiB of text", J_OUTPUT_MAX >> 20);
    }
    if (status == TD_OK && values.kind == J_TUPLE && next < values.list->count) status = j_fail(run, "not all arguments converted during string formatting");
    if (status == TD_OK) return j_take(run, &made, out);
    td_buffer_free(&made);
    return status;
}
