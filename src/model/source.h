/*
 * source.h - hyperparameters by name, from config.json or from GGUF metadata: one call names both spellings, so a family is described once.
 */
#ifndef TD_MODEL_SOURCE_H
#define TD_MODEL_SOURCE_H

#include "model/model.h"

typedef struct {
    const td_checkpoint *checkpoint;
    const cJSON *config;       /* HF: the object with the text model's keys (root or text_config); NULL: GGUF */
    char architecture[64];     /* HF model_type, or GGUF general.architecture */
} td_source;

td_status td_source_open(const td_checkpoint *checkpoint, td_source *out);

/* An integer in low..high. hf or gguf NULL: not spelt in that format. With a fallback the key may be absent (or null); without (NULL), it is required. */
td_status td_source_int(const td_source *source, const char *hf, const char *gguf, int64_t low, int64_t high, const int64_t *fallback, int *out);
td_status td_source_float(const td_source *source, const char *hf, const char *gguf, double low, double high, const double *fallback, double *out);
td_status td_source_bool(const td_source *source, const char *hf, const char *gguf, bool fallback, bool *out);
/* HF string; fallback (may be NULL) when absent or null. The result is borrowed. */
td_status td_source_text(const td_source *source, const char *hf, const char *fallback, const char **out);

/* "KEY: expected ..., found ..." with the file's name; returns TD_E_FORMAT. */
td_status td_source_wrong(const td_source *source, const char *key, const char *expected, const char *found);

/* Required / optional in one word. */
#define TD_NEED(source, hf, gguf, low, high, out) TD_TRY(td_source_int((source), (hf), (gguf), (low), (high), NULL, (out)))
#define TD_MAY(source, hf, gguf, low, high, fallback, out) TD_TRY(td_source_int((source), (hf), (gguf), (low), (high), &(int64_t){fallback}, (out)))

/* rope.c: fills rope_frequencies and rope_magnitude (and the YaRN factor of softmax_scale for MLA) from the source's RoPE keys. rope_dim, softmax_scale and
 * context_max must be set. default_theta: when the checkpoint names none. */
td_status td_rope_fill(const td_source *source, double default_theta, td_arena *arena, td_config *config);

#endif
