/* matmul.c - the definition of the matrix products: one weight row at a time, unpacked by tensor/, then one dot a row of activations. */
#include "kernel/ref/ref.h"
#include "tensor/kquant.h"
#include "tensor/pack.h"

TD_REF_BODY matmul_float(const td_matmul_job *job)
{
    const td_tensor *w = job->w;
    int64_t k = w->shape[1], scales = (k + TD_F8_BLOCK - 1) / TD_F8_BLOCK;
    size_t element = td_dtype_row_bytes(w->type, 1);
    float block[TD_K_BLOCK];
    for (int64_t o = job->out_begin; o < job->out_end; o++) {
        const char *row = (const char *)w->data + (size_t)(o * k) * element;
        for (int r = 0; r < job->rows; r++) job->y[r * job->y_stride + o] = 0;
        for (int64_t begin = 0; begin < k; begin += TD_K_BLOCK) {
            int n = (int)TD_MIN(k - begin, TD_K_BLOCK);
            td_dequantise_row(w->type, row + (size_t)begin * element, block, n);
            if (w->scale)
                for (int i = 0; i < n; i++) block[i] = block[i] * w->scale[o / TD_F8_BLOCK * scales + (begin + i) / TD_F8_BLOCK];
            for (int r = 0; r < job->rows; r++) {
                float sum = ref_dot_block(block, (const float *)ref_row(job, r) + begin, n), *y = &job->y[r * job->y_stride + o];
                *y = begin == 0 ? sum : *y + sum;
            }
        }
    }
}
TD_REF_FUNCTION(td_ref_matmul_float, matmul_float, td_matmul_job)

/* Block j of weight row o, through `copy` where rows lie interleaved. */
static const uint8_t *block_of(const td_tensor *w, int64_t o, int64_t j, uint8_t copy[sizeof(td_q6k_block)])
{
    if (!w->packed) return (const uint8_t *)w->data + (size_t)o * td_dtype_row_bytes(w->type, w->shape[1]) + j * td_dtype_block_bytes(w->type);
    td_pack_read(w, o, j, copy);
    return copy;
}

static uint16_t half_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* Q8_0 and Q4_0. */
TD_REF_BODY matmul_q8(const td_matmul_job *job)
{
    const td_tensor *w = job->w;
    int64_t k = w->shape[1];
    uint8_t copy[sizeof(td_q6k_block)];
    for (int64_t o = job->out_begin; o < job->out_end; o++) {
        for (int r = 0; r < job->rows; r++) {
            const td_q8 *x = ref_row(job, r);
            float total = 0;
            for (int64_t j = 0; j < k / TD_Q_BLOCK; j++) {
                const uint8_t *b = block_of(w, o, j, copy);
                int32_t isum = 0;
                for (int i = 0; i < TD_Q_BLOCK; i++) {
                    int q = w->type == TD_Q8_0 ? (int8_t)b[2 + i] : (b[2 + i % 16] >> (i / 16 * 4) & 15) - 8;
                    isum += q * x[j].q[i];
                }
                total = fmaf((float)isum, td_f16_to_f32(half_at(b)) * x[j].d, total);
            }
            job->y[r * job->y_stride + o] = total;
        }
    }
}
TD_REF_FUNCTION(td_ref_matmul_q8, matmul_q8, td_matmul_job)

/* One block of 256: q are the quants (Q6_K: minus 32), scale and min per 32 or 16 elements. */
static inline __attribute__((always_inline)) float kquant_block(td_dtype type, const uint8_t *block, const uint8_t *q, const td_q8k *x, float total)
{
    int32_t isum = 0, msum = 0;
    if (type == TD_Q6_K) {
        const td_q6k_block *b = (const void *)block;
        for (int i = 0; i < 256; i++) isum += b->scales[i / 16] * (q[i] - 32) * x->q[i];
        return fmaf((float)isum, td_f16_to_f32(b->d) * x->d, total);
    }
    const td_q4k_block *b = (const void *)block; /* Q5_K starts alike */
    uint8_t scale[8], min[8];
    td_kquant_scales(b->scales, scale, min);
    for (int i = 0; i < 256; i++) isum += scale[i / 32] * q[i] * x->q[i];
    for (int j = 0; j < 16; j++) msum += min[j / 2] * x->sums[j];
    total = fmaf((float)isum, td_f16_to_f32(b->d) * x->d, total);
    return fmaf((float)msum, -(td_f16_to_f32(b->dmin) * x->d), total);
}

TD_REF_BODY matmul_kquant(const td_matmul_job *job)
{
    const td_tensor *w = job->w;
    int64_t k = w->shape[1];
    uint8_t q[TD_QK_BLOCK], copy[sizeof(td_q6k_block)];
    for (int64_t o = job->out_begin; o < job->out_end; o++) {
        for (int r = 0; r < job->rows; r++) job->y[r * job->y_stride + o] = 0;
        for (int64_t j = 0; j < k / TD_QK_BLOCK; j++) {
            const uint8_t *b = block_of(w, o, j, copy);
            td_kquant_unpack(w->type, b, q);
            for (int r = 0; r < job->rows; r++) {
                float *y = &job->y[r * job->y_stride + o];
                *y = kquant_block(w->type, b, q, (const td_q8k *)ref_row(job, r) + j, *y);
            }
        }
    }
}
TD_REF_FUNCTION(td_ref_matmul_kquant, matmul_kquant, td_matmul_job)
