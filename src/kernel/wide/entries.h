/* entries.h - the functions of kernel/wide/ by instruction set: what one set of files defines and table.c puts together. */
#ifndef TD_KERNEL_WIDE_ENTRIES_H
#define TD_KERNEL_WIDE_ENTRIES_H

#include "kernel/kernel.h"

#define TD_PASTE_(a, b, c) a##b##_##c
#define TD_PASTE(a, b, c) TD_PASTE_(a, b, c)
#define TD_ENTRY(isa, name) TD_PASTE(td_, isa, name) /* td_avx2_rope */

/* rows.c, matmul_float.c, attention.c and peak.c. */
#define TD_FLOAT_ENTRIES(isa) \
    void TD_ENTRY(isa, matmul_f32)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_f16)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_bf16)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_f8)(const td_matmul_job *job); \
    void TD_ENTRY(isa, quantise_q8)(const float *x, td_q8 *out, int64_t k); \
    void TD_ENTRY(isa, quantise_q8k)(const float *x, td_q8k *out, int64_t k); \
    void TD_ENTRY(isa, rmsnorm)(float *y, const float *x, const float *w, int64_t n, float eps); \
    void TD_ENTRY(isa, silu_mul)(float *gate, const float *up, int64_t n, float limit); \
    void TD_ENTRY(isa, add)(float *y, const float *x, int64_t n); \
    void TD_ENTRY(isa, add_scaled)(float *y, const float *x, float s, int64_t n); \
    void TD_ENTRY(isa, softmax)(float *x, int64_t n); \
    void TD_ENTRY(isa, rope)(float *x, const float *cos, const float *sin, int n_rot, bool neox); \
    void TD_ENTRY(isa, attention_part)(const td_attention_job *job); \
    void TD_ENTRY(isa, attention_merge)(float *m, float *l, float *o, float mb, float lb, const float *ob, int dv); \
    void TD_ENTRY(isa, store_row)(td_dtype type, const float *x, void *out, int64_t n); \
    int64_t TD_ENTRY(isa, argmax)(const float *x, int64_t n); \
    uint32_t TD_ENTRY(isa, read)(const void *data, size_t bytes); \
    double TD_ENTRY(isa, peak_f32)(int64_t rounds, float *sink);

/* matmul_int.c or matmul_tiles.c, and peak_int.c. */
#define TD_INT_ENTRIES(isa) \
    void TD_ENTRY(isa, matmul_q8_0)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_q4_0)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_q4_k)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_q5_k)(const td_matmul_job *job); \
    void TD_ENTRY(isa, matmul_q6_k)(const td_matmul_job *job); \
    double TD_ENTRY(isa, peak_int8)(int64_t rounds, float *sink);

TD_FLOAT_ENTRIES(avx2)
TD_FLOAT_ENTRIES(avx512)
TD_INT_ENTRIES(avx2)
TD_INT_ENTRIES(avx512)
TD_INT_ENTRIES(vnni)
TD_INT_ENTRIES(amx)

#endif
