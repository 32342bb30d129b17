/* tensor.h - a view of numbers that somebody else owns: a type, a shape, a pointer. */
#ifndef TD_TENSOR_TENSOR_H
#define TD_TENSOR_TENSOR_H

#include "tensor/dtype.h"

enum { TD_DIMS_MAX = 4 };

typedef struct {
    td_dtype type;
    int dims;
    int64_t shape[TD_DIMS_MAX]; /* outermost first, as in safetensors (GGUF files list the reverse); a matrix is [out, in] */
    const void *data;           /* rows of shape[dims-1] elements, packed; borrowed */
    const float *scale;         /* F8_E4M3: [.., ceil(out/128), ceil(in/128)] f32 block scales, else NULL; borrowed */
    const char *name;           /* as in the file; borrowed; may be NULL */
    bool packed;                /* sixteen rows interleaved: tensor/pack.h */
} td_tensor;

/* Elements, or 0 for a zeroed tensor. */
static inline int64_t td_tensor_elements(const td_tensor *t)
{
    int64_t n = t->dims > 0;
    for (int i = 0; i < t->dims; i++) n *= t->shape[i];
    return n;
}

static inline size_t td_tensor_bytes(const td_tensor *t)
{
    if (t->dims == 0) return 0;
    return td_dtype_row_bytes(t->type, t->shape[t->dims - 1]) * (size_t)(td_tensor_elements(t) / TD_MAX(t->shape[t->dims - 1], 1));
}

/* Matrix number index of a stacked [n, out, in] tensor (one expert), scales included. */
static inline td_tensor td_tensor_slice(const td_tensor *t, int64_t index)
{
    td_tensor m = {.type = t->type, .dims = 2, .shape = {t->shape[1], t->shape[2]}, .name = t->name};
    m.data = (const char *)t->data + (size_t)index * td_tensor_bytes(&m);
    if (t->scale) m.scale = t->scale + index * ((t->shape[1] + TD_F8_BLOCK - 1) / TD_F8_BLOCK) * ((t->shape[2] + TD_F8_BLOCK - 1) / TD_F8_BLOCK);
    return m;
}

/* Row `row` of a tensor seen as [rows, columns] (all dimensions but the last joined) as float32; FP8 block scales applied (last two dimensions). Not for integer types. */
void td_tensor_row(const td_tensor *tensor, int64_t row, float *out);

#endif
