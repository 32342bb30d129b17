/* tokenizer_parts.h - what a tokenizer is made of; only for the files that build and use one. */
#ifndef TD_TEXT_TOKENIZER_PARTS_H
#define TD_TEXT_TOKENIZER_PARTS_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/pipeline.h"
#include "text/tokenizer.h"

enum { TD_TOKEN_SPECIAL = 1, TD_TOKEN_END = 2, TD_TOKEN_BYTE = 4 /* one raw byte of a SentencePiece vocabulary */ };

/* What the decoder takes off the very start of the text; MARKS: every mark of a space in the first token, but no space that is its own. */
typedef enum { TD_START_KEEP, TD_START_ONE_SPACE, TD_START_NO_MARKS } td_start_rule;

typedef struct { uint32_t at, bytes; } td_span;

struct td_tokenizer {
    td_bpe bpe;
    td_pipeline pipeline;
    td_added_set raw;         /* matched in the text as it is */
    td_added_set normalized;  /* matched in the normalised text */
    td_vocab names;           /* texts of added tokens by id, where they are not the model's own */

    int32_t size;             /* largest id + 1 */
    uint8_t *flags;           /* [size] TD_TOKEN_... */
    td_buffer decoded;        /* pool of decoded bytes */
    td_span *spans;           /* [size] into decoded */
    td_span *first;           /* [size] the same for a token that begins the text; NULL unless start_rule is TD_START_NO_MARKS */
    int bytes_max;
    td_start_rule start_rule;
    bool join_with_space;     /* no decoder: tokens are joined by spaces, as the reference does */
    bool lossy_bytes;         /* byte tokens: every bad byte is one U+FFFD (else: every bad sequence) */

    int32_t bos, eos;
    int32_t *prefix;          /* ids put in front by TD_TOKENIZE_BOS; owned */
    int prefix_count;
    bool adds_bos;
};

/* How the text of a token becomes bytes; filled by a builder before td_tokenizer_finish. */
typedef struct {
    bool byte_level;          /* unmap; tokens with other characters stay as they are */
    bool byte_tokens;         /* <0xXX> is one byte */
    struct { const char *from, *to; size_t from_bytes, to_bytes; } replace[4];
    int replace_count;
    int mark;                 /* with TD_START_NO_MARKS: the replacement whose 'from' is dropped in the first token */
} td_decode_rules;

/* Fills size, flags (kept when already allocated), spans and decoded. */
td_status td_tokenizer_finish(td_tokenizer *t, const td_decode_rules *rules);
td_status td_tokenizer_flag(td_tokenizer *t, int32_t id, unsigned flag); /* grows flags to id + 1 */
const char *td_tokenizer_name(const td_tokenizer *t, int32_t id, size_t *bytes); /* added or model token's text */
td_status td_tokenizer_mark_ends(td_tokenizer *t); /* special tokens that published models end a turn with */
td_status td_tokenizer_from_gguf(const td_checkpoint *checkpoint, td_tokenizer **out);

#endif
