/*
 * bpe.h - byte-pair encoding of one piece of text: the lowest-ranked pair is merged first, the leftmost of equals, until none is left.
 * O(n log n) in the length of the piece.
 */
#ifndef TD_TEXT_BPE_H
#define TD_TEXT_BPE_H

#include "text/vocab.h"

typedef struct {
    td_vocab vocab;          /* the model's own tokens, as the file spells them */
    td_merges merges;        /* by_score false */
    bool by_score;           /* SentencePiece: two neighbours merge when their joined text is a token; rank[id] is its score's place */
    uint32_t *rank;          /* [vocab.count], UINT32_MAX: never made by merging; owned; NULL unless by_score */
    bool ignore_merges;      /* a piece that is a token is that token */
    bool byte_fallback;      /* a character without token becomes its <0xXX> tokens */
    bool fuse_unknown;
    int32_t unknown;         /* -1: characters without token are dropped */
    int32_t byte_ids[256];   /* ids of <0xXX>, -1 */
    int32_t char_ids[0x180]; /* ids of the characters below U+0180 (all of the byte-level alphabet), -1; filled by td_bpe_ready */
} td_bpe;

typedef struct { int32_t *ids; size_t count, capacity; } td_ids; /* growing array */
td_status td_ids_reserve(td_ids *ids, size_t more);

typedef struct td_bpe_scratch td_bpe_scratch;
td_bpe_scratch *td_bpe_scratch_open(void); /* NULL: no memory */
void td_bpe_scratch_close(td_bpe_scratch *scratch);

/* Fills the derived tables once vocabulary and merges are complete. */
void td_bpe_ready(td_bpe *bpe);
void td_bpe_free(td_bpe *bpe);

/* Appends the ids of a piece of valid UTF-8, spelled as the vocabulary is (byte-level pieces already mapped). */
td_status td_bpe_encode(const td_bpe *bpe, td_bpe_scratch *scratch, const char *piece, size_t bytes, td_ids *out);

#endif
