/*
 * layout.h - what differs between Hugging Face and GGUF inside a tensor: RoPE row order of llama, the split of MLA's kv_b. See names.h.
 */
#ifndef TD_CHECKPOINT_LAYOUT_H
#define TD_CHECKPOINT_LAYOUT_H

#include "tensor/tensor.h"

/* Same type, shape, values and scales. */
bool td_layout_same(const td_tensor *a, const td_tensor *b);

/* llama: the HF row that GGUF row `row` of q or k (or their bias) holds, and back. head_dim is even; rows count over all heads. */
int64_t td_layout_rope_hf_row(int64_t gguf_row, int64_t head_dim);
int64_t td_layout_rope_gguf_row(int64_t hf_row, int64_t head_dim);

/* kv_b [heads*(nope+v), kv_rank] -> k_b of one head, float32 [kv_rank, nope] (transposed). Any weight type, FP8 scales applied. scratch: kv_rank floats. */
void td_layout_k_b(const td_tensor *kv_b, int head, int nope, int v, float *scratch, float *out);
/* kv_b -> v_b of one head, float32 [v, kv_rank]. */
void td_layout_v_b(const td_tensor *kv_b, int head, int nope, int v, float *out);
/* k_b [heads, kv_rank, nope] and v_b [heads, v, kv_rank] -> kv_b rows of one head, float32 [nope + v, kv_rank]. scratch: nope floats. */
void td_layout_kv_b(const td_tensor *k_b, const td_tensor *v_b, int head, float *scratch, float *out);

#endif
