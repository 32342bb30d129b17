/* layout.c - see layout.h. */
#include "checkpoint/layout.h"

#include <string.h>

bool td_layout_same(const td_tensor *a, const td_tensor *b)
{
    return a->type == b->type && a->dims == b->dims && !a->scale && !b->scale && !memcmp(a->shape, b->shape, (size_t)a->dims * sizeof *a->shape) && !memcmp(a->data, b->data, td_tensor_bytes(a));
}

int64_t td_layout_rope_hf_row(int64_t gguf_row, int64_t head_dim)
{
    int64_t head = gguf_row / head_dim, i = gguf_row % head_dim;
    return head * head_dim + i % 2 * (head_dim / 2) + i / 2;
}

int64_t td_layout_rope_gguf_row(int64_t hf_row, int64_t head_dim)
{
    int64_t head = hf_row / head_dim, i = hf_row % head_dim, half = head_dim / 2;
    return head * head_dim + 2 * (i % half) + i / half;
}

void td_layout_k_b(const td_tensor *kv_b, int head, int nope, int v, float *scratch, float *out)
{
    int64_t rank = kv_b->shape[kv_b->dims - 1];
    for (int64_t i = 0; i < nope; i++) {
        td_tensor_row(kv_b, (int64_t)head * (nope + v) + i, scratch);
        for (int64_t j = 0; j < rank; j++) out[j * nope + i] = scratch[j];
    }
}

void td_layout_v_b(const td_tensor *kv_b, int head, int nope, int v, float *out)
{
    int64_t rank = kv_b->shape[kv_b->dims - 1];
    for (int64_t i = 0; i < v; i++) td_tensor_row(kv_b, (int64_t)head * (nope + v) + nope + i, out + i * rank);
}

void td_layout_kv_b(const td_tensor *k_b, const td_tensor *v_b, int head, float *scratch, float *out)
{
    int64_t rank = k_b->shape[1], nope = k_b->shape[2], v = v_b->shape[1];
    for (int64_t j = 0; j < rank; j++) {
        td_tensor_row(k_b, head * rank + j, scratch);
        for (int64_t i = 0; i < nope; i++) out[i * rank + j] = scratch[i];
    }
    for (int64_t i = 0; i < v; i++) td_tensor_row(v_b, head * v + i, out + (nope + i) * rank);
}
