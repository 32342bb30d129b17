/* vocab.c - see vocab.h. Open addressing, linear probing, power-of-two sizes. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_text(const char *text, size_t bytes)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ bytes;
    for (; bytes >= 8; text += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 31;
    }
    uint64_t tail = 0;
    if (bytes) memcpy(&tail, text, bytes);
    h = (h ^ tail) * 0x94D049BB133111EBu;
    return h ^ h >> 29;
}

static uint64_t hash_pair(uint64_t pair)
{
    pair = (pair ^ pair >> 29) * 0xBF58476D1CE4E5B9u;
    return pair ^ pair >> 32;
}

/* The slot that holds text, or the empty one where it would go. */
static uint32_t slot_of(const td_vocab *v, const char *text, size_t bytes)
{
    uint32_t slot = (uint32_t)hash_text(text, bytes) & (v->slots_count - 1);
    for (; v->slots[slot] >= 0; slot = (slot + 1) & (v->slots_count - 1)) {
        const td_vocab_entry *e = &v->entries[v->slots[slot]];
        if (e->bytes == bytes && (bytes == 0 || !memcmp(v->pool.data + e->at, text, bytes))) break;
    }
    return slot;
}

static td_status grow_slots(td_vocab *v)
{
    uint32_t count = v->slots_count ? v->slots_count * 2 : 1024;
    int32_t *old = v->slots, *fresh = malloc(count * sizeof *fresh);
    if (!fresh) return td_fail(TD_E_MEMORY, "tokenizer: no memory for a table of %u tokens", count);
    uint32_t old_count = v->slots_count;
    memset(fresh, 0xFF, count * sizeof *fresh);
    v->slots = fresh;
    v->slots_count = count;
    for (uint32_t i = 0; i < old_count; i++)
        if (old[i] >= 0) {
            const td_vocab_entry *e = &v->entries[old[i]];
            v->slots[slot_of(v, e->bytes ? v->pool.data + e->at : "", e->bytes)] = old[i];
        }
    free(old);
    return TD_OK;
}

static td_status grow_entries(td_vocab *v, int32_t count)
{
    if (count > v->capacity) {
        int32_t capacity = TD_MAX(count, TD_MIN(v->capacity * 2, TD_VOCAB_IDS_MAX));
        td_vocab_entry *grown = realloc(v->entries, (size_t)capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %d tokens", capacity);
        v->entries = grown;
        v->capacity = capacity;
    }
    if (count > v->count) {
        memset(v->entries + v->count, 0, (size_t)(count - v->count) * sizeof *v->entries);
        v->count = count;
    }
    return TD_OK;
}

td_status td_vocab_add(td_vocab *v, int64_t id, const char *text, size_t bytes)
{
    if (id < 0 || id >= TD_VOCAB_IDS_MAX) return td_fail(TD_E_FORMAT, "tokenizer: token '%.*s': expected an id from 0 to %d, found %lld", (int)TD_MIN(bytes, 40), text, TD_VOCAB_IDS_MAX - 1, (long long)id);
    if (bytes > TD_TOKEN_BYTES_MAX) return td_fail(TD_E_FORMAT, "tokenizer: token %lld: expected at most %d bytes, found %zu", (long long)id, TD_TOKEN_BYTES_MAX, bytes);
    if (v->pool.bytes + bytes > UINT32_MAX) return td_fail(TD_E_FORMAT, "tokenizer: the texts of all tokens are larger than 4 GiB");
    if (2 * (v->slots_used + 1) > v->slots_count) TD_TRY(grow_slots(v));
    TD_TRY(grow_entries(v, (int32_t)id + 1));
    td_vocab_entry *e = &v->entries[id];
    if (e->present) return td_fail(TD_E_FORMAT, "tokenizer: two tokens have the id %lld, one of them '%.*s'", (long long)id, (int)TD_MIN(bytes, 40), text);
    uint32_t slot = slot_of(v, text, bytes), at = (uint32_t)v->pool.bytes;
    td_buffer_put(&v->pool, text, bytes);
    TD_TRY(td_buffer_status(&v->pool));
    *e = (td_vocab_entry){at, (uint32_t)bytes, 1};
    v->slots_used += v->slots[slot] < 0;
    v->slots[slot] = (int32_t)id;
    v->bytes_max = TD_MAX(v->bytes_max, (uint32_t)bytes);
    return TD_OK;
}

int32_t td_vocab_find(const td_vocab *v, const char *text, size_t bytes)
{
    if (bytes > v->bytes_max || v->slots_count == 0) return -1;
    return v->slots[slot_of(v, text, bytes)];
}

const char *td_vocab_text(const td_vocab *v, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (!td_vocab_has(v, id)) return "";
    *bytes = v->entries[id].bytes;
    return v->entries[id].bytes ? v->pool.data + v->entries[id].at : "";
}

void td_vocab_free(td_vocab *v)
{
    td_buffer_free(&v->pool);
    free(v->entries);
    free(v->slots);
    *v = (td_vocab){0};
}

static uint32_t merge_slot(const td_merges *m, uint64_t pair)
{
    uint32_t slot = (uint32_t)hash_pair(pair) & (m->slots_count - 1);
    while (m->slots[slot].id >= 0 && m->slots[slot].pair != pair) slot = (slot + 1) & (m->slots_count - 1);
    return slot;
}

td_status td_merges_reserve(td_merges *m, size_t pairs)
{
    uint32_t count = m->slots_count ? m->slots_count : 1024;
    if (pairs > 1u << 28) return td_fail(TD_E_FORMAT, "tokenizer: %zu merges; expected at most %u", pairs, 1u << 28);
    while (count < 2 * pairs) count *= 2;
    if (count == m->slots_count) return TD_OK;
    td_merge *fresh = malloc(count * sizeof *fresh);
    if (!fresh) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %zu merges", pairs);
    for (uint32_t i = 0; i < count; i++) fresh[i] = (td_merge){0, 0, -1};
    td_merges old = *m;
    m->slots = fresh;
    m->slots_count = count;
    for (uint32_t i = 0; i < old.slots_count; i++)
        if (old.slots[i].id >= 0) m->slots[merge_slot(m, old.slots[i].pair)] = old.slots[i];
    free(old.slots);
    return TD_OK;
}

td_status td_merges_add(td_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    TD_TRY(td_merges_reserve(m, (size_t)m->used + 1));
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    td_merge *slot = &m->slots[merge_slot(m, pair)];
    m->used += slot->id < 0;
    *slot = (td_merge){pair, rank, id};
    return TD_OK;
}

const td_merge *td_merges_find(const td_merges *m, int32_t left, int32_t right)
{
    if (m->slots_count == 0) return NULL;
    const td_merge *slot = &m->slots[merge_slot(m, (uint64_t)(uint32_t)left << 32 | (uint32_t)right)];
    return slot->id >= 0 ? slot : NULL;
}

void td_merges_free(td_merges *m)
{
    free(m->slots);
    *m = (td_merges){0};
}

/* Printable ASCII and Latin-1 (without U+00AD) stand for themselves; the 68 others follow from U+0100 in byte order. */
static bool is_itself(uint32_t b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF); }

uint32_t td_byte_char(uint8_t byte)
{
    if (is_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143u; /* 0xAD */
}

int td_char_byte(uint32_t code)
{
    if (code < 0x100) return is_itself(code) ? (int)code : -1;
    if (code <= 0x120) return (int)(code - 0x100);
    if (code <= 0x142) return (int)(code - 0x121 + 0x7F);
    return code == 0x143 ? 0xAD : -1;
}
