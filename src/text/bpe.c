/* bpe.c - see bpe.h. Short pieces are merged by scanning, long ones with a heap; both take the lowest rank, leftmost first. */
#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { SCAN_SYMBOLS_MAX = 24 };

/* A symbol: token id and span of the piece; merged-away symbols have bytes 0. prev and next are indices, -1 at the ends. */
typedef struct { int32_t id, prev, next; uint32_t at, bytes; } symbol;
typedef struct { uint32_t rank, left; int32_t id; uint32_t bytes; } candidate; /* merging left and its next gives id, spanning bytes */

struct td_bpe_scratch {
    symbol *symbols;
    size_t count, capacity;
    candidate *heap;
    size_t heap_count, heap_capacity;
};

td_bpe_scratch *td_bpe_scratch_open(void) { return calloc(1, sizeof(td_bpe_scratch)); }

void td_bpe_scratch_close(td_bpe_scratch *s)
{
    if (!s) return;
    free(s->symbols);
    free(s->heap);
    free(s);
}

static td_status no_memory(size_t bytes) { return td_fail(TD_E_MEMORY, "tokenizer: no memory (%zu bytes) for a piece of text", bytes); }

/* Room for one more element of a growing array; doubles. */
static void *grow(void *array, size_t *capacity, size_t size)
{
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(array, wanted * size);
    if (grown) *capacity = wanted;
    return grown;
}

td_status td_ids_reserve(td_ids *ids, size_t more)
{
    while (ids->capacity - ids->count < more) {
        int32_t *grown = grow(ids->ids, &ids->capacity, sizeof *grown);
        if (!grown) return no_memory(ids->capacity * 2 * sizeof *grown);
        ids->ids = grown;
    }
    return TD_OK;
}

void td_bpe_ready(td_bpe *bpe)
{
    for (uint32_t c = 0; c < TD_COUNT(bpe->char_ids); c++) {
        char text[4];
        bpe->char_ids[c] = td_vocab_find(&bpe->vocab, text, td_utf8_encode(c, text));
    }
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        bpe->byte_ids[b] = td_vocab_find(&bpe->vocab, text, 6);
    }
}

void td_bpe_free(td_bpe *bpe)
{
    td_vocab_free(&bpe->vocab);
    td_merges_free(&bpe->merges);
    free(bpe->rank);
    *bpe = (td_bpe){0};
}

static td_status add_symbol(td_bpe_scratch *s, int32_t id, uint32_t at, uint32_t bytes)
{
    if (s->count == s->capacity) {
        symbol *grown = grow(s->symbols, &s->capacity, sizeof *grown);
        if (!grown) return no_memory(s->capacity * 2 * sizeof *grown);
        s->symbols = grown;
    }
    s->symbols[s->count] = (symbol){id, (int32_t)s->count - 1, -1, at, bytes};
    if (s->count) s->symbols[s->count - 1].next = (int32_t)s->count;
    s->count++;
    return TD_OK;
}

static int32_t char_id(const td_bpe *bpe, const char *text, size_t length)
{
    uint32_t code = td_utf8_decode(text, length);
    return code < TD_COUNT(bpe->char_ids) ? bpe->char_ids[code] : td_vocab_find(&bpe->vocab, text, length);
}

static bool has_bytes(const td_bpe *bpe, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bpe->byte_ids[(uint8_t)text[i]] < 0) return false;
    return true;
}

/* The piece as its smallest tokens. Unknown characters wait in *unknown so that neighbours can be fused, in the reference's order: byte tokens
 * do not end such a run. */
static td_status split_characters(const td_bpe *bpe, td_bpe_scratch *s, const char *piece, size_t bytes)
{
    uint32_t unknown_at = 0, unknown_bytes = 0;
    s->count = 0;
    for (size_t at = 0; at < bytes;) {
        size_t length = td_utf8_length(piece + at, bytes - at);
        if (length == 0) return td_fail(TD_E_INTERNAL, "tokenizer: a piece is not valid UTF-8 at byte %zu", at);
        int32_t id = char_id(bpe, piece + at, length);
        if (bpe->by_score) { /* here a character without token may still merge into one */
            TD_TRY(add_symbol(s, id, (uint32_t)at, (uint32_t)length));
        } else if (id >= 0) {
            if (unknown_bytes) TD_TRY(add_symbol(s, bpe->unknown, unknown_at, unknown_bytes));
            unknown_bytes = 0;
            TD_TRY(add_symbol(s, id, (uint32_t)at, (uint32_t)length));
        } else if (bpe->byte_fallback && has_bytes(bpe, piece + at, length)) {
            for (size_t i = 0; i < length; i++) TD_TRY(add_symbol(s, bpe->byte_ids[(uint8_t)piece[at + i]], (uint32_t)(at + i), 1));
        } else if (bpe->unknown >= 0) {
            if (unknown_bytes && !bpe->fuse_unknown) {
                TD_TRY(add_symbol(s, bpe->unknown, unknown_at, unknown_bytes));
                unknown_bytes = 0;
            }
            if (!unknown_bytes) unknown_at = (uint32_t)at;
            unknown_bytes += (uint32_t)length;
        }
        at += length;
    }
    return unknown_bytes ? add_symbol(s, bpe->unknown, unknown_at, unknown_bytes) : TD_OK;
}

/* What the symbol left makes with its right neighbour; false when nothing. */
static bool merge_of(const td_bpe *bpe, const td_bpe_scratch *s, const char *piece, int32_t left, candidate *out)
{
    const symbol *a = &s->symbols[left];
    if (a->next < 0) return false;
    const symbol *b = &s->symbols[a->next];
    uint32_t rank;
    int32_t id;
    if (bpe->by_score) {
        if (a->at + a->bytes != b->at) return false;
        id = td_vocab_find(&bpe->vocab, piece + a->at, (size_t)a->bytes + b->bytes);
        rank = id >= 0 ? bpe->rank[id] : UINT32_MAX;
        if (rank == UINT32_MAX) return false;
    } else {
        const td_merge *merge = td_merges_find(&bpe->merges, a->id, b->id);
        if (!merge) return false;
        id = merge->id;
        rank = merge->rank;
    }
    *out = (candidate){rank, (uint32_t)left, id, a->bytes + b->bytes};
    return true;
}

static void apply(td_bpe_scratch *s, const candidate *c)
{
    symbol *a = &s->symbols[c->left], *b = &s->symbols[a->next];
    a->id = c->id;
    a->bytes += b->bytes;
    a->next = b->next;
    if (b->next >= 0) s->symbols[b->next].prev = (int32_t)c->left;
    b->bytes = 0;
}

static void merge_by_scanning(const td_bpe *bpe, td_bpe_scratch *s, const char *piece)
{
    candidate cached[SCAN_SYMBOLS_MAX];
    for (int32_t i = 0; i < (int32_t)s->count; i++)
        if (!merge_of(bpe, s, piece, i, &cached[i])) cached[i].rank = UINT32_MAX;
    for (;;) {
        int32_t best = 0;
        for (int32_t i = s->symbols[0].next; i >= 0; i = s->symbols[i].next)
            if (cached[i].rank < cached[best].rank) best = i;
        if (cached[best].rank == UINT32_MAX) return;
        apply(s, &cached[best]);
        int32_t before = s->symbols[best].prev;
        if (!merge_of(bpe, s, piece, best, &cached[best])) cached[best].rank = UINT32_MAX;
        if (before >= 0 && !merge_of(bpe, s, piece, before, &cached[before])) cached[before].rank = UINT32_MAX;
    }
}

static bool before(const candidate *a, const candidate *b) { return a->rank != b->rank ? a->rank < b->rank : a->left < b->left; }

static td_status heap_push(td_bpe_scratch *s, candidate c)
{
    if (s->heap_count == s->heap_capacity) {
        candidate *grown = grow(s->heap, &s->heap_capacity, sizeof *grown);
        if (!grown) return no_memory(s->heap_capacity * 2 * sizeof *grown);
        s->heap = grown;
    }
    size_t i = s->heap_count++;
    for (; i > 0 && before(&c, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
    return TD_OK;
}

static candidate heap_pop(td_bpe_scratch *s)
{
    candidate top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->heap_count) s->heap[i] = last;
    return top;
}

static td_status merge_by_heap(const td_bpe *bpe, td_bpe_scratch *s, const char *piece)
{
    candidate c, now;
    s->heap_count = 0;
    for (int32_t i = 0; i < (int32_t)s->count; i++)
        if (merge_of(bpe, s, piece, i, &c)) TD_TRY(heap_push(s, c));
    while (s->heap_count) {
        c = heap_pop(s);
        /* an entry is old when its left symbol is gone or the pair is another one by now */
        if (s->symbols[c.left].bytes == 0 || !merge_of(bpe, s, piece, (int32_t)c.left, &now) || now.id != c.id || now.bytes != c.bytes) continue;
        apply(s, &c);
        if (merge_of(bpe, s, piece, (int32_t)c.left, &now)) TD_TRY(heap_push(s, now));
        int32_t left = s->symbols[c.left].prev;
        if (left >= 0 && merge_of(bpe, s, piece, left, &now)) TD_TRY(heap_push(s, now));
    }
    return TD_OK;
}

/* A symbol's id; without one (only by score) its bytes, or the unknown token. */
static td_status put_symbol(const td_bpe *bpe, const symbol *one, const char *piece, td_ids *out)
{
    TD_TRY(td_ids_reserve(out, one->bytes + 1));
    if (one->id >= 0) out->ids[out->count++] = one->id;
    else if (bpe->byte_fallback && has_bytes(bpe, piece + one->at, one->bytes))
        for (uint32_t i = 0; i < one->bytes; i++) out->ids[out->count++] = bpe->byte_ids[(uint8_t)piece[one->at + i]];
    else if (bpe->unknown >= 0) out->ids[out->count++] = bpe->unknown;
    return TD_OK;
}

td_status td_bpe_encode(const td_bpe *bpe, td_bpe_scratch *s, const char *piece, size_t bytes, td_ids *out)
{
    if (bytes == 0) return TD_OK;
    if (bpe->ignore_merges) {
        int32_t id = td_vocab_find(&bpe->vocab, piece, bytes);
        if (id >= 0) {
            TD_TRY(td_ids_reserve(out, 1));
            out->ids[out->count++] = id;
            return TD_OK;
        }
    }
    TD_TRY(split_characters(bpe, s, piece, bytes));
    if (s->count == 0) return TD_OK;
    if (s->count <= SCAN_SYMBOLS_MAX) merge_by_scanning(bpe, s, piece);
    else TD_TRY(merge_by_heap(bpe, s, piece));
    for (int32_t i = 0; i >= 0; i = s->symbols[i].next) TD_TRY(put_symbol(bpe, &s->symbols[i], piece, out));
    return TD_OK;
}
