/* table.c - the fast tables. An instruction set brings its own products of integers; the floats of the sets with 512 bits are the same code, and AMX leaves few rows to VNNI. */
#include "kernel/tables.h"
#include "kernel/wide/entries.h"

#define TABLE(isa, floats, shown, because) \
    const td_kernel td_kernel_##isa = { \
        .name = (shown), .why = (because), .packs = true, \
        .matmul = {[TD_F32] = TD_ENTRY(floats, matmul_f32), [TD_F16] = TD_ENTRY(floats, matmul_f16), [TD_BF16] = TD_ENTRY(floats, matmul_bf16), [TD_F8_E4M3] = TD_ENTRY(floats, matmul_f8), \
            [TD_Q8_0] = TD_ENTRY(isa, matmul_q8_0), [TD_Q4_0] = TD_ENTRY(isa, matmul_q4_0), \
            [TD_Q4_K] = TD_ENTRY(isa, matmul_q4_k), [TD_Q5_K] = TD_ENTRY(isa, matmul_q5_k), [TD_Q6_K] = TD_ENTRY(isa, matmul_q6_k)}, \
        .quantise_q8 = TD_ENTRY(floats, quantise_q8), .quantise_q8k = TD_ENTRY(floats, quantise_q8k), .rmsnorm = TD_ENTRY(floats, rmsnorm), .silu_mul = TD_ENTRY(floats, silu_mul), \
        .add = TD_ENTRY(floats, add), .add_scaled = TD_ENTRY(floats, add_scaled), .softmax = TD_ENTRY(floats, softmax), .rope = TD_ENTRY(floats, rope), \
        .attention_part = TD_ENTRY(floats, attention_part), .attention_merge = TD_ENTRY(floats, attention_merge), .store_row = TD_ENTRY(floats, store_row), \
        .argmax = TD_ENTRY(floats, argmax), .read = TD_ENTRY(floats, read), .peak_f32 = TD_ENTRY(floats, peak_f32), .peak_int8 = TD_ENTRY(isa, peak_int8), \
    };

TABLE(avx2, avx2, "avx2", "AVX2, FMA, F16C")
TABLE(avx512, avx512, "avx512", "AVX-512 (F, BW, DQ, VL), no VNNI")
TABLE(vnni, avx512, "avx512", "AVX-512 (F, BW, DQ, VL) with VNNI int8 dot products")
TABLE(amx, avx512, "amx", "AMX int8 tiles, AVX-512 for the rest")
