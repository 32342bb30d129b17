/* load.h - from a checkpoint's tensors to the two wings' tables. */
#ifndef TD_MODEL_LOAD_H
#define TD_MODEL_LOAD_H

#include "base/threads.h"
#include "model/family.h"

typedef struct {
    td_model *model;
    const td_source *source;
    td_family family;
    const td_model_options *options;
    td_pool *pool;                 /* only when something is quantised or packed on load */
    bool quantise, pack;
    td_dtype quant;
    const bool *want_expert;       /* [experts], NULL: all */
    const bool *want_layer;        /* [layers], NULL: all; FFN side only */
    uint64_t done, total;          /* bytes, for progress */
    bool *is_moe;
} td_loader;

/* The checkpoint's tensor of a slot, or NULL. */
const td_tensor *td_load_find(const td_loader *loader, td_slot slot, int layer, int expert);

/* load_attention.c, load_ffn.c: fill one side's tables. Every shape is verified; the sentence names the tensor. */
td_status td_load_attention(td_loader *loader);
td_status td_load_ffn(td_loader *loader);

/* A matrix [out, k] as it is used: checked, and quantised when asked for. required false and absent: out is zeroed. */
td_status td_load_matrix(td_loader *loader, td_slot slot, int layer, int64_t out_rows, int64_t k, bool required, td_tensor *out);
/* The same for one that is read by rows: never packed, and with exact not quantised either. */
td_status td_load_rows(td_loader *loader, td_slot slot, int layer, int64_t out_rows, int64_t k, bool exact, td_tensor *out);
/* Checks and converts a view that the caller cut out of a larger tensor. */
td_status td_load_convert(td_loader *loader, const td_tensor *view, td_tensor *out);
/* A matrix laid out for the kernels' vectors (tensor/pack.h) where that is wanted and fits, else itself. in_place: from's memory is the arena's and takes it. */
td_status td_load_pack(td_loader *loader, const td_tensor *from, bool in_place, td_tensor *out);
/* A vector as float32 in the arena; absent and not required: NULL. */
td_status td_load_vector(td_loader *loader, td_slot slot, int layer, int64_t n, bool required, const float **out);

#endif
