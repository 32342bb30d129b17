/* added.c - see added.h. The sorted list is narrowed byte by byte; no automaton is built. */
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

td_status td_added_put(td_added_set *set, const char *text, size_t bytes, td_added properties)
{
    if (bytes == 0) return TD_OK; /* the reference ignores them too */
    if (bytes > TD_ADDED_BYTES_MAX) return td_fail(TD_E_UNSUPPORTED, "tokenizer: an added token of %zu bytes; expected at most %d", bytes, TD_ADDED_BYTES_MAX);
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 64;
        td_added *grown = realloc(set->tokens, capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %zu added tokens", capacity);
        set->tokens = grown;
        set->capacity = capacity;
    }
    char *copy = malloc(bytes + 1);
    if (!copy) return td_fail(TD_E_MEMORY, "tokenizer: no memory for an added token");
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    properties.text = copy;
    properties.bytes = (uint32_t)bytes;
    set->tokens[set->count++] = properties;
    return TD_OK;
}

static int by_text(const void *a, const void *b)
{
    const td_added *x = a, *y = b;
    int order = memcmp(x->text, y->text, TD_MIN(x->bytes, y->bytes));
    if (order == 0) order = (x->bytes > y->bytes) - (x->bytes < y->bytes);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

void td_added_ready(td_added_set *set)
{
    if (set->count) qsort(set->tokens, set->count, sizeof *set->tokens, by_text);
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        bool twin = i + 1 < set->count && set->tokens[i].bytes == set->tokens[i + 1].bytes && !memcmp(set->tokens[i].text, set->tokens[i + 1].text, set->tokens[i].bytes);
        if (twin) free(set->tokens[i].text);
        else set->tokens[kept++] = set->tokens[i];
    }
    set->count = kept;
    memset(set->first, 0, sizeof set->first);
    for (size_t i = 0; i < kept; i++) set->first[(uint8_t)set->tokens[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++) set->first[b + 1] += set->first[b];
}

void td_added_free(td_added_set *set)
{
    for (size_t i = 0; i < set->count; i++) free(set->tokens[i].text);
    free(set->tokens);
    *set = (td_added_set){0};
}

/* First token of [low, high) whose byte at depth is at least (or, with above, more than) value. */
static size_t bound(const td_added_set *set, size_t low, size_t high, uint32_t depth, int value)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const td_added *t = &set->tokens[middle];
        int byte = t->bytes > depth ? (uint8_t)t->text[depth] : -1;
        if (byte < value) low = middle + 1;
        else high = middle;
    }
    return low;
}

static const td_added *longest_at(const td_added_set *set, const char *text, size_t bytes)
{
    size_t low = set->first[(uint8_t)text[0]], high = set->first[(uint8_t)text[0] + 1];
    const td_added *best = NULL;
    for (uint32_t depth = 1; low < high; depth++) {
        if (set->tokens[low].bytes == depth) best = &set->tokens[low++];
        if (depth >= bytes || low == high) break;
        int byte = (uint8_t)text[depth];
        low = bound(set, low, high, depth, byte);
        high = bound(set, low, high, depth, byte + 1);
    }
    return best;
}

/* Length of the character that ends at end; broken bytes count as one. */
static size_t char_before(const char *text, size_t end, uint32_t *code)
{
    for (size_t length = 1; length <= 4 && length <= end; length++)
        if (td_utf8_length(text + end - length, length) == length) {
            *code = td_utf8_decode(text + end - length, length);
            return length;
        }
    *code = 0xFFFD;
    return 1;
}

static size_t char_at(const char *text, size_t bytes, uint32_t *code)
{
    size_t length = td_utf8_length(text, bytes);
    *code = length ? td_utf8_decode(text, length) : 0xFFFD;
    return length ? length : 1;
}

static bool stands_alone(const char *text, size_t bytes, size_t start, size_t end)
{
    uint32_t code;
    if (start > 0 && (char_before(text, start, &code), td_unicode_word(code))) return false;
    return !(end < bytes && (char_at(text + end, bytes - end, &code), td_unicode_word(code)));
}

const td_added *td_added_next(const td_added_set *set, const char *text, size_t bytes, size_t *at, size_t floor, bool read_special, size_t *start, size_t *end)
{
    if (set->count == 0) return NULL;
    while (*at < bytes) {
        const td_added *t = set->first[(uint8_t)text[*at]] < set->first[(uint8_t)text[*at] + 1] ? longest_at(set, text + *at, bytes - *at) : NULL;
        if (!t) {
            ++*at;
            continue;
        }
        *start = *at;
        *end = *at = *at + t->bytes;
        if ((t->special && !read_special) || (t->single_word && !stands_alone(text, bytes, *start, *end))) continue;
        uint32_t code;
        while (t->lstrip && *start > floor) {
            size_t length = char_before(text, *start, &code);
            if (!td_unicode_space(code) || *start - length < floor) break;
            *start -= length;
        }
        while (t->rstrip && *end < bytes) {
            size_t length = char_at(text + *end, bytes - *end, &code);
            if (!td_unicode_space(code)) break;
            *end += length;
        }
        if (t->lstrip && *start < floor) *start = floor; /* the token before took these spaces: what is left of this one may be nothing */
        if (*end <= *start) continue;
        return t;
    }
    return NULL;
}
