/*
 * vocabulary.h - a tokenizer as data, carried between tokenizer.json and GGUF's tokenizer.ggml.* keys by convert, and made up by synth. It is not used to
 * tokenise (text/ does). For checkpoint/ only.
 */
#ifndef TD_CHECKPOINT_VOCABULARY_H
#define TD_CHECKPOINT_VOCABULARY_H

#include "checkpoint/outline.h"
#include "checkpoint/sink.h"

typedef enum { TD_WORD_NORMAL = 1, TD_WORD_UNKNOWN, TD_WORD_CONTROL, TD_WORD_USER, TD_WORD_UNUSED, TD_WORD_BYTE } td_word_type; /* GGUF's token_type numbers */

typedef struct { const char *text; size_t bytes; } td_span;
typedef struct { td_span text; td_word_type type; float score; } td_word;

/* All texts live in the arena or in the checkpoint. */
typedef struct {
    td_arena *arena;
    td_word *words;          /* [count], by id */
    int64_t count;
    td_span *merges;         /* "left right", best first */
    size_t merges_count;
    bool sentencepiece;      /* GGUF model "llama", else "gpt2" (byte-level BPE) */
    const char *pre;         /* GGUF's name of the pre-tokeniser: "qwen2", "llama-bpe", ... */
    int64_t bos, eos, eot, pad; /* -1: none */
    bool add_bos;
    td_span chat_template;   /* text NULL: none */
    td_span json;            /* the published tokenizer.json; text NULL: none */
} td_vocabulary;

/* From the folder's tokenizer.json (+ tokenizer_config.json, chat_template.jinja). TD_E_NOT_FOUND without a tokenizer.json. */
td_status td_vocabulary_from_folder(const td_checkpoint *checkpoint, const td_outline *outline, td_arena *arena, td_vocabulary *out);
/* TD_E_NOT_FOUND without tokenizer.ggml.tokens. */
td_status td_vocabulary_from_gguf(const td_checkpoint *checkpoint, const td_outline *outline, td_arena *arena, td_vocabulary *out);
/* A small valid byte-level BPE: 256 bytes, some merges, unused tokens up to the outline's size, begin and end of text. */
td_status td_vocabulary_made_up(const td_outline *outline, td_arena *arena, td_vocabulary *out);

void td_vocabulary_gguf_keys(const td_vocabulary *vocabulary, td_gguf_keys *keys);
/* tokenizer.json as published, or built from the words. TD_E_UNSUPPORTED for a SentencePiece vocabulary without its tokenizer.json. */
td_status td_vocabulary_tokenizer_json(const td_vocabulary *vocabulary, td_buffer *out);
td_status td_vocabulary_config_json(const td_vocabulary *vocabulary, const td_outline *outline, td_buffer *out); /* tokenizer_config.json */

#endif
