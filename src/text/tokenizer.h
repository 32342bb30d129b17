/*
 * tokenizer.h - text <-> token ids, as the checkpoint's own tokenizer does it.
 * Built from tokenizer.json or from GGUF metadata; immutable afterwards and safe to share between threads (each call uses its own scratch).
 */
#ifndef TD_TEXT_TOKENIZER_H
#define TD_TEXT_TOKENIZER_H

#include "checkpoint/checkpoint.h"

typedef struct td_tokenizer td_tokenizer;

/* From a checkpoint: tokenizer.json (+ tokenizer_config.json) of a folder, or tokenizer.ggml.* of a GGUF.
 * TD_E_NOT_FOUND when it has none; TD_E_UNSUPPORTED names what is not supported. */
td_status td_tokenizer_open(const td_checkpoint *checkpoint, td_tokenizer **out);
/* From the text of a tokenizer.json; config_text (tokenizer_config.json) may be NULL. For tests and fuzzers. */
td_status td_tokenizer_from_json(const char *json, size_t bytes, const char *config_text, size_t config_bytes, td_tokenizer **out);
void td_tokenizer_close(td_tokenizer *tokenizer);

int td_tokenizer_size(const td_tokenizer *tokenizer); /* largest id + 1 */
int32_t td_tokenizer_bos(const td_tokenizer *tokenizer); /* -1: none */
int32_t td_tokenizer_eos(const td_tokenizer *tokenizer);
/* Ends a generation: eos, eot and what generation_config or the added tokens say. */
bool td_tokenizer_is_end(const td_tokenizer *tokenizer, int32_t id);
bool td_tokenizer_is_special(const td_tokenizer *tokenizer, int32_t id);
bool td_tokenizer_adds_bos(const td_tokenizer *tokenizer);
int32_t td_tokenizer_find(const td_tokenizer *tokenizer, const char *token, size_t bytes); /* an added or vocabulary token by its text; -1 */

/* Appends ids to a growing array (realloc'd; *ids may be NULL with *capacity 0). flags as td_tokenize. Any bytes are valid input. */
td_status td_tokenizer_encode(const td_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags, int32_t **ids, size_t *count, size_t *capacity);

/* Bytes of one token as the decoder spells them (not necessarily whole characters): pointer into the tokenizer, valid as long as it. id out of range:
 * 0 bytes. For special tokens the bytes of their text. */
const char *td_tokenizer_bytes(const td_tokenizer *tokenizer, int32_t id, size_t *bytes);

/* Streaming detokenisation. Caller owns the state (zero-initialised); it never emits half a character: bytes of an unfinished one are held back;
 * bytes that can never become a character come out as U+FFFD as soon as that is certain, as the reference decoder shows them: one for
 * every maximal start of a character; with byte tokens (SentencePiece) one for every bad byte, where the reference also gives up the good characters
 * among neighbouring byte tokens, which a stream cannot take back. */
typedef struct { char held[8]; uint8_t held_bytes; bool started, every_byte; } td_detokenizer;
enum { TD_DETOKENIZE_MAX = 4 }; /* output bytes at most TD_DETOKENIZE_MAX * (token bytes + 8) */
/* Writes the text that became certain by this token. skip_special: special tokens give no text. Returns bytes written (out has room as above). */
size_t td_detokenizer_put(const td_tokenizer *tokenizer, td_detokenizer *state, int32_t id, bool skip_special, char *out);
/* What was still held back, as U+FFFD. */
size_t td_detokenizer_end(td_detokenizer *state, char *out);
int td_tokenizer_bytes_max(const td_tokenizer *tokenizer); /* longest token in bytes */

#endif
