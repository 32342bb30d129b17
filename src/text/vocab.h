/*
 * vocab.h - tokens by id and by text, and the merges of byte-pair encoding, in flat bounded tables.
 */
#ifndef TD_TEXT_VOCAB_H
#define TD_TEXT_VOCAB_H

#include "base/buffer.h"

enum {
    TD_VOCAB_IDS_MAX = 1 << 24,   /* largest id + 1 that is accepted; published vocabularies have up to 300,000 */
    TD_TOKEN_BYTES_MAX = 1 << 16, /* longest token text */
};

/* Text of a token in the pool; absent ids have bytes 0 and present false. */
typedef struct { uint32_t at; uint32_t bytes : 31; uint32_t present : 1; } td_vocab_entry;

typedef struct {
    td_buffer pool;          /* texts, one behind the other */
    td_vocab_entry *entries; /* [count] */
    int32_t count;           /* largest id + 1 */
    int32_t capacity;
    int32_t *slots;          /* hash table of ids, -1 empty */
    uint32_t slots_count;    /* power of two, at most half full */
    uint32_t slots_used;
    uint32_t bytes_max;      /* longest text */
} td_vocab;

/* Adds a token. Two tokens with one id are refused (TD_E_FORMAT); of two with the same text the later one is found by text. */
td_status td_vocab_add(td_vocab *vocab, int64_t id, const char *text, size_t bytes);
int32_t td_vocab_find(const td_vocab *vocab, const char *text, size_t bytes); /* -1 */
const char *td_vocab_text(const td_vocab *vocab, int32_t id, size_t *bytes);  /* absent: 0 bytes */
static inline bool td_vocab_has(const td_vocab *vocab, int32_t id) { return id >= 0 && id < vocab->count && vocab->entries[id].present; }
void td_vocab_free(td_vocab *vocab);

typedef struct { uint64_t pair; uint32_t rank; int32_t id; } td_merge; /* pair: left << 32 | right; id < 0: empty slot */
typedef struct {
    td_merge *slots;
    uint32_t slots_count; /* power of two */
    uint32_t used;
} td_merges;

/* A pair that is there already takes the new rank (the reference's map does). */
td_status td_merges_add(td_merges *merges, int32_t left, int32_t right, uint32_t rank, int32_t id);
const td_merge *td_merges_find(const td_merges *merges, int32_t left, int32_t right); /* NULL when the two do not merge */
td_status td_merges_reserve(td_merges *merges, size_t pairs);
void td_merges_free(td_merges *merges);

/* The reversible byte-to-character map of byte-level tokenizers (GPT-2): every byte as a printable character of U+0021..U+0143. */
uint32_t td_byte_char(uint8_t byte);
int td_char_byte(uint32_t code); /* -1 when the character stands for no byte */

#endif
