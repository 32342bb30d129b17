/*
 * sink.h - writing a checkpoint, whole or not at all: a GGUF file, or a Hugging Face folder with one or more safetensors files. The tensors are declared first;
 * then their bytes come in that order. For checkpoint/ only.
 */
#ifndef TD_CHECKPOINT_SINK_H
#define TD_CHECKPOINT_SINK_H

#include "base/buffer.h"
#include "base/file.h"
#include "checkpoint/inside.h"
#include "checkpoint/names.h"

typedef struct {
    char name[TD_NAME_MAX];
    td_dtype type;
    int dims;
    int64_t shape[TD_DIMS_MAX]; /* outermost first */
} td_sink_row;

/* GGUF metadata being built: the bytes of the key-value section. */
typedef struct { td_buffer bytes; uint64_t count; } td_gguf_keys;
void td_gguf_put_u32(td_gguf_keys *keys, const char *key, int64_t value);
void td_gguf_put_f32(td_gguf_keys *keys, const char *key, double value);
void td_gguf_put_bool(td_gguf_keys *keys, const char *key, bool value);
void td_gguf_put_string(td_gguf_keys *keys, const char *key, const char *text, size_t bytes);
void td_gguf_put_array(td_gguf_keys *keys, const char *key, td_gguf_type element, uint64_t count); /* its elements follow: */
void td_gguf_put_element_i32(td_gguf_keys *keys, int32_t value);
void td_gguf_put_element_f32(td_gguf_keys *keys, float value);
void td_gguf_put_element_string(td_gguf_keys *keys, const char *text, size_t bytes);

typedef struct {
    td_format format;
    char *path, *folder;       /* owned; folder: the temporary one of a safetensors sink */
    const td_sink_row *rows;   /* borrowed */
    size_t count, at;          /* at: tensor that is being written */
    uint64_t left;             /* bytes still missing of it */
    uint64_t total;            /* bytes of all tensors */
    size_t shard, shards, shard_end; /* safetensors: file now open (from 0), number of files, first row of the next one */
    td_writer writer;
    td_buffer index;           /* safetensors: weight_map */
} td_sink;

uint64_t td_sink_row_bytes(const td_sink_row *row);

/* Rows and keys must live until commit. Errors: TD_E_IO (cannot be created, exists as a folder that is not empty), TD_E_MEMORY. */
td_status td_sink_open_gguf(const char *path, const td_gguf_keys *keys, const td_sink_row *rows, size_t count, td_sink *out);
/* Rows with larger elements come first, so that every tensor is aligned for its type. */
td_status td_sink_open_folder(const char *path, const td_sink_row *rows, size_t count, td_sink *out);

td_status td_sink_put(td_sink *sink, const void *data, size_t bytes); /* the next bytes, never across the end of a tensor */
td_status td_sink_side_file(td_sink *sink, const char *name, const char *text, size_t bytes); /* folders only */
td_status td_sink_commit(td_sink *sink);  /* ends the sink in any case */
void td_sink_discard(td_sink *sink);      /* leaves nothing behind; after commit a no-op */

#endif
