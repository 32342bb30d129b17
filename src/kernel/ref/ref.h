/*
 * ref.h - what the plain definitions share. They are C without intrinsics. On x86 each heavy one is compiled twice from the same text, once with permission to use the FMA
 * instruction, because a fused multiply-add in software is a hundred times slower; the results are the same.
 */
#ifndef TD_KERNEL_REF_H
#define TD_KERNEL_REF_H

#include <math.h>
#include <string.h>

#include "kernel/tables.h"

#define TD_REF_BODY static inline __attribute__((always_inline)) void
#if defined(__x86_64__)
#define TD_REF_FUNCTION(name, body, job_type)                                                    \
    __attribute__((target("avx2,fma"))) static void name##_fused(const job_type *job) { body(job); } \
    static void name##_plain(const job_type *job) { body(job); }                                 \
    void name(const job_type *job) { (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2") ? name##_fused : name##_plain)(job); }
#else
#define TD_REF_FUNCTION(name, body, job_type) void name(const job_type *job) { body(job); }
#endif

/* Adds 16 lanes as the tree of kernel.h; p is destroyed. */
static inline __attribute__((always_inline)) float ref_tree(float p[TD_LANES])
{
    for (int half = TD_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) p[i] = p[i] + p[i + half];
    return p[0];
}

/* Dot of at most TD_K_BLOCK elements in the order of kernel.h. */
static inline __attribute__((always_inline)) float ref_dot_block(const float *a, const float *b, int n)
{
    float p[TD_LANES] = {0};
    int k = 0;
    for (; k + TD_LANES <= n; k += TD_LANES)
        for (int i = 0; i < TD_LANES; i++) p[i] = fmaf(a[k + i], b[k + i], p[i]);
    if (k < n)
        for (int i = 0; i < TD_LANES; i++) p[i] = fmaf(k + i < n ? a[k + i] : 0, k + i < n ? b[k + i] : 0, p[i]);
    return ref_tree(p);
}

static inline const void *ref_row(const td_matmul_job *job, int r)
{
    return (const char *)job->x + (size_t)(job->x_rows ? job->x_rows[r] : r) * job->x_stride;
}

void td_ref_matmul_float(const td_matmul_job *job);
void td_ref_matmul_q8(const td_matmul_job *job);
void td_ref_matmul_kquant(const td_matmul_job *job);
void td_ref_attention_part(const td_attention_job *job);
void td_ref_attention_merge(float *m, float *l, float *o, float mb, float lb, const float *ob, int dv);

void td_ref_quantise_q8(const float *x, td_q8 *out, int64_t k);
void td_ref_quantise_q8k(const float *x, td_q8k *out, int64_t k);
void td_ref_rmsnorm(float *y, const float *x, const float *w, int64_t n, float eps);
void td_ref_silu_mul(float *gate, const float *up, int64_t n, float limit);
void td_ref_add(float *y, const float *x, int64_t n);
void td_ref_add_scaled(float *y, const float *x, float s, int64_t n);
void td_ref_softmax(float *x, int64_t n);
void td_ref_rope(float *x, const float *cos, const float *sin, int n_rot, bool neox);
int64_t td_ref_argmax(const float *x, int64_t n);
uint32_t td_ref_read(const void *data, size_t bytes);
double td_ref_peak_f32(int64_t rounds, float *sink);
double td_ref_peak_int8(int64_t rounds, float *sink);

#endif
