/*
 * checkpoint.h - a published model on disk as named tensor views and one bag of metadata. Knows formats, not families.
 *
 * Opening maps the files and reads headers only; every header field is verified before use (counts, offsets, overlaps, sizes against the file).
 * Hugging Face folder: config.json (kept as parsed JSON), *.safetensors (with or without index), scale tensors "X_scale_inv" are attached to
 * "X" as td_tensor.scale when X is F8_E4M3 (converted to f32 when stored otherwise), and are not listed by themselves.
 * GGUF v2/v3: metadata, tensors of all splits; shapes are reversed to outermost first.
 */
#ifndef TD_CHECKPOINT_CHECKPOINT_H
#define TD_CHECKPOINT_CHECKPOINT_H

#include <cjson/cJSON.h>

#include "tensor/tensor.h"

typedef struct td_checkpoint td_checkpoint;
typedef struct gguf_value td_gguf_value; /* opaque here; see gguf.h */

typedef enum { TD_FORMAT_SAFETENSORS, TD_FORMAT_GGUF } td_format;

/* Folder, .gguf file, or a single .safetensors file inside a folder. Errors name the file and the byte or key. */
td_status td_checkpoint_open(const char *path, td_checkpoint **out);
void td_checkpoint_close(td_checkpoint *checkpoint);

td_format td_checkpoint_format(const td_checkpoint *checkpoint);
const char *td_checkpoint_path(const td_checkpoint *checkpoint);
size_t td_checkpoint_count(const td_checkpoint *checkpoint);
const td_tensor *td_checkpoint_at(const td_checkpoint *checkpoint, size_t index);          /* in file order */
/* NULL when absent, or of a type that this program cannot use; O(log count). */
const td_tensor *td_checkpoint_find(const td_checkpoint *checkpoint, const char *name);
/* The same with a sentence: TD_E_NOT_FOUND, or TD_E_UNSUPPORTED naming the type. */
td_status td_checkpoint_require(const td_checkpoint *checkpoint, const char *name, const td_tensor **out);
/* As the file calls the type ("BF16", "q3_K"), and the bytes in the file. A tensor that td_checkpoint_at gives but this program cannot use has type TD_DTYPES and no data. */
const char *td_checkpoint_type_name(const td_checkpoint *checkpoint, size_t index);
uint64_t td_checkpoint_bytes(const td_checkpoint *checkpoint, size_t index);

/* Hugging Face: config.json as parsed (root object), else NULL. Also NULL-able: generation_config.json, tokenizer_config.json. Owned by the checkpoint. */
const cJSON *td_checkpoint_config(const td_checkpoint *checkpoint);
/* malloc'd text of a side file of the folder ("tokenizer.json"), or TD_E_NOT_FOUND. */
td_status td_checkpoint_side_file(const td_checkpoint *checkpoint, const char *name, char **out, size_t *bytes);

/* GGUF metadata; each returns false (output unchanged) when the key is absent or has another type. Integers of all widths are accepted for i64,
 * integers and floats for f64. Arrays: count elements; strings are (pointer, bytes) into the mapped file. */
bool td_gguf_i64(const td_checkpoint *checkpoint, const char *key, int64_t *out);
bool td_gguf_f64(const td_checkpoint *checkpoint, const char *key, double *out);
bool td_gguf_bool(const td_checkpoint *checkpoint, const char *key, bool *out);
bool td_gguf_has(const td_checkpoint *checkpoint, const char *key); /* of whatever type */
bool td_gguf_string(const td_checkpoint *checkpoint, const char *key, const char **out, size_t *bytes);
bool td_gguf_array_count(const td_checkpoint *checkpoint, const char *key, size_t *count);
bool td_gguf_array_i64(const td_checkpoint *checkpoint, const char *key, size_t index, int64_t *out);
bool td_gguf_array_f64(const td_checkpoint *checkpoint, const char *key, size_t index, double *out);
bool td_gguf_array_string(const td_checkpoint *checkpoint, const char *key, size_t index, const char **out, size_t *bytes);
/* Must be O(1) per call also for string arrays of 150,000 elements (offsets are indexed when the array is first used or at open). */

/* Advises the kernel that a tensor's pages will (or will not) be read soon. */
void td_checkpoint_prefetch(const td_tensor *tensor, bool wanted);

#endif
