/*
 * vec.h - one vocabulary of vectors for the fast tables. The files of kernel/wide/ are compiled for each instruction set that changes them (TD_WIDE names it); here F is a vector of floats and
 * I one of integers, 8 or 16 lanes wide, and a group of 16 lanes (kernel.h) is HALVES vectors. Weights are read from unaligned addresses throughout.
 */
#ifndef TD_KERNEL_WIDE_VEC_H
#define TD_KERNEL_WIDE_VEC_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernel/tables.h"
#include "kernel/wide/entries.h"

#define WIDE(name) TD_ENTRY(TD_WIDE, name)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
/* Pins a sum to its place: else gcc computes all products of an unrolled tile first and spills them. */
#define KEEP(v) __asm__ volatile("" : "+v"(v))

#if defined(__AVX512F__)
enum { WIDTH = 16, HALVES = 1 };
typedef __m512 F;
typedef __m512i I;
INLINE F f_zero(void) { return _mm512_setzero_ps(); }
INLINE F f_set(float x) { return _mm512_set1_ps(x); }
INLINE F f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, F a) { _mm512_storeu_ps(p, a); }
INLINE __mmask16 mask_of(int64_t n) { return n >= 16 ? 0xFFFF : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }
INLINE F f_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(mask_of(n), p); } /* the rest zero; n may be <= 0 or >= WIDTH */
INLINE void f_store_n(float *p, F a, int64_t n) { _mm512_mask_storeu_ps(p, mask_of(n), a); }
INLINE F f_first_n(F a, int64_t n) { return _mm512_maskz_mov_ps(mask_of(n), a); } /* the rest zero */
INLINE F f_add(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
INLINE F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
INLINE F f_div(F a, F b) { return _mm512_div_ps(a, b); }
INLINE F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
INLINE F f_fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE F f_max(F a, F b) { return _mm512_max_ps(a, b); } /* a > b ? a : b: b when a is NaN */
INLINE F f_min(F a, F b) { return _mm512_min_ps(a, b); } /* a < b ? a : b */
INLINE F f_abs(F a) { return _mm512_abs_ps(a); }
INLINE F f_pick_less(F a, F b, F yes, F no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); } /* a < b ? yes : no */
INLINE F f_of_i(I a) { return _mm512_cvtepi32_ps(a); }
INLINE F f_bits(I a) { return _mm512_castsi512_ps(a); }
INLINE I i_bits(F a) { return _mm512_castps_si512(a); }
INLINE I i_round(F a) { return _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a); } /* NaN: 0 */
INLINE F f_round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE I i_zero(void) { return _mm512_setzero_si512(); }
INLINE I i_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE I i_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void i_store(void *p, I a) { _mm512_storeu_si512(p, a); }
INLINE I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
INLINE I i_sub(I a, I b) { return _mm512_sub_epi32(a, b); }
INLINE I i_mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
INLINE I i_and(I a, I b) { return _mm512_and_si512(a, b); }
INLINE I i_or(I a, I b) { return _mm512_or_si512(a, b); }
INLINE I i_xor(I a, I b) { return _mm512_xor_si512(a, b); }
#define i_shl(a, n) _mm512_slli_epi32((a), (n))
#define i_sar(a, n) _mm512_srai_epi32((a), (n))
#define i_shr(a, n) _mm512_srli_epi32((a), (n))
#define i_shr16(a, n) _mm512_srli_epi16((a), (n))
#define i_shl16(a, n) _mm512_slli_epi16((a), (n))
#define i_sar16(a, n) _mm512_srai_epi16((a), (n))
INLINE I i_add16(I a, I b) { return _mm512_add_epi16(a, b); }
INLINE I i_madd(I a, I b) { return _mm512_madd_epi16(a, b); }       /* pairs of int16 */
INLINE I i_maddubs(I a, I b) { return _mm512_maddubs_epi16(a, b); } /* pairs of u8 * s8, saturating */
INLINE I i_abs8(I a) { return _mm512_abs_epi8(a); } /* of s8, as u8 */
INLINE I i_negate8(I a, I b) { return _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a); } /* b < 0 ? -a : a; where b is 0, anything */
INLINE F f_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
INLINE F f_load_bf16(const void *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16)); }
INLINE F f_load_s8(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p))); }
INLINE F f_load_f8(const void *p)
{
    __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128(p));
    __m256i body = _mm256_slli_epi16(_mm256_and_si256(b, _mm256_set1_epi16(0x7F)), 7);
    body = _mm256_mask_mov_epi16(body, _mm256_cmpeq_epi16_mask(body, _mm256_set1_epi16(0x3F80)), _mm256_set1_epi16(0x7F80));
    __m256i half = _mm256_or_si256(body, _mm256_slli_epi16(_mm256_and_si256(b, _mm256_set1_epi16(0x80)), 8));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0f)); /* f16's exponent bias is 8 more than that of f8 */
}
INLINE F f_of_half(I a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); } /* the low 16 bits of each lane as f16 */
INLINE float f_max_lane(F a) { return _mm512_reduce_max_ps(a); }
INLINE void i_transpose(I v[WIDTH]) /* a square of 32-bit elements: v[i][j] <-> v[j][i] */
{
    I a[16];
    UNROLL for (int i = 0; i < 16; i += 2) a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]), a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    UNROLL for (int i = 0; i < 16; i += 4) { /* v[i + j]: column 4 x + j of rows i .. i + 3, x = 0..3 */
        v[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]), v[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]), v[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        a[j] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0x44), a[j + 4] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0xEE);
        a[j + 8] = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0x44), a[j + 12] = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0xEE);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i32x4(a[j], a[j + 8], 0x88), v[j + 4] = _mm512_shuffle_i32x4(a[j], a[j + 8], 0xDD);
        v[j + 8] = _mm512_shuffle_i32x4(a[j + 4], a[j + 12], 0x88), v[j + 12] = _mm512_shuffle_i32x4(a[j + 4], a[j + 12], 0xDD);
    }
}
INLINE __m256 f_fold(const F acc[HALVES]) { return _mm256_add_ps(_mm512_castps512_ps256(acc[0]), _mm512_extractf32x8_ps(acc[0], 1)); } /* lane i + lane i+8 */
#else
enum { WIDTH = 8, HALVES = 2 };
typedef __m256 F;
typedef __m256i I;
INLINE F f_zero(void) { return _mm256_setzero_ps(); }
INLINE F f_set(float x) { return _mm256_set1_ps(x); }
INLINE F f_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void f_store(float *p, F a) { _mm256_storeu_ps(p, a); }
INLINE __m256i mask_of(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n > 8 ? 8 : n < 0 ? 0 : n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE F f_load_n(const float *p, int64_t n) { return _mm256_maskload_ps(p, mask_of(n)); }
INLINE void f_store_n(float *p, F a, int64_t n) { _mm256_maskstore_ps(p, mask_of(n), a); }
INLINE F f_first_n(F a, int64_t n) { return _mm256_and_ps(a, _mm256_castsi256_ps(mask_of(n))); }
INLINE F f_add(F a, F b) { return _mm256_add_ps(a, b); }
INLINE F f_sub(F a, F b) { return _mm256_sub_ps(a, b); }
INLINE F f_mul(F a, F b) { return _mm256_mul_ps(a, b); }
INLINE F f_div(F a, F b) { return _mm256_div_ps(a, b); }
INLINE F f_fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
INLINE F f_fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE F f_max(F a, F b) { return _mm256_max_ps(a, b); }
INLINE F f_min(F a, F b) { return _mm256_min_ps(a, b); }
INLINE F f_abs(F a) { return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF))); }
INLINE F f_pick_less(F a, F b, F yes, F no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
INLINE F f_of_i(I a) { return _mm256_cvtepi32_ps(a); }
INLINE F f_bits(I a) { return _mm256_castsi256_ps(a); }
INLINE I i_bits(F a) { return _mm256_castps_si256(a); }
INLINE I i_round(F a) { return _mm256_and_si256(_mm256_cvtps_epi32(a), _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_ORD_Q))); }
INLINE F f_round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE I i_zero(void) { return _mm256_setzero_si256(); }
INLINE I i_set(int32_t x) { return _mm256_set1_epi32(x); }
INLINE I i_load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void i_store(void *p, I a) { _mm256_storeu_si256(p, a); }
INLINE I i_add(I a, I b) { return _mm256_add_epi32(a, b); }
INLINE I i_sub(I a, I b) { return _mm256_sub_epi32(a, b); }
INLINE I i_mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
INLINE I i_and(I a, I b) { return _mm256_and_si256(a, b); }
INLINE I i_or(I a, I b) { return _mm256_or_si256(a, b); }
INLINE I i_xor(I a, I b) { return _mm256_xor_si256(a, b); }
#define i_shl(a, n) _mm256_slli_epi32((a), (n))
#define i_sar(a, n) _mm256_srai_epi32((a), (n))
#define i_shr(a, n) _mm256_srli_epi32((a), (n))
#define i_shr16(a, n) _mm256_srli_epi16((a), (n))
#define i_shl16(a, n) _mm256_slli_epi16((a), (n))
#define i_sar16(a, n) _mm256_srai_epi16((a), (n))
INLINE I i_add16(I a, I b) { return _mm256_add_epi16(a, b); }
INLINE I i_madd(I a, I b) { return _mm256_madd_epi16(a, b); }
INLINE I i_maddubs(I a, I b) { return _mm256_maddubs_epi16(a, b); }
INLINE I i_abs8(I a) { return _mm256_abs_epi8(a); }
INLINE I i_negate8(I a, I b) { return _mm256_sign_epi8(a, b); }
INLINE F f_load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
INLINE F f_load_bf16(const void *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16)); }
INLINE F f_load_s8(const void *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p))); }
INLINE F f_load_f8(const void *p)
{
    __m128i b = _mm_cvtepu8_epi16(_mm_loadl_epi64(p));
    __m128i body = _mm_slli_epi16(_mm_and_si128(b, _mm_set1_epi16(0x7F)), 7);
    body = _mm_or_si128(body, _mm_and_si128(_mm_cmpeq_epi16(body, _mm_set1_epi16(0x3F80)), _mm_set1_epi16(0x7F80)));
    __m128i half = _mm_or_si128(body, _mm_slli_epi16(_mm_and_si128(b, _mm_set1_epi16(0x80)), 8));
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0f)); /* f16's exponent bias is 8 more than that of f8 */
}
INLINE F f_of_half(I a)
{
    a = _mm256_and_si256(a, _mm256_set1_epi32(0xFFFF));
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}
INLINE void i_transpose(I v[WIDTH])
{
    I a[8];
    UNROLL for (int i = 0; i < 8; i += 2) a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]), a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    UNROLL for (int i = 0; i < 8; i += 4) {
        v[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]), v[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]), v[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        I low = _mm256_permute2x128_si256(v[j], v[j + 4], 0x20), high = _mm256_permute2x128_si256(v[j], v[j + 4], 0x31);
        v[j] = low, v[j + 4] = high;
    }
}
INLINE float f_max_lane(F a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
INLINE __m256 f_fold(const F acc[HALVES]) { return _mm256_add_ps(acc[0], acc[1]); }
#endif

/* The rest of the tree of kernel.h, from 8 lanes: for one sum, and for four at once. */
INLINE float tree8(__m256 a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE __m128 tree8_by4(__m256 a, __m256 b, __m256 c, __m256 d)
{
    __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)); /* a's four sums, b's four sums */
    __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    __m256 s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE)); /* a0 a1 c0 c1 | b0 b1 d0 d1 */
    s = _mm256_add_ps(_mm256_shuffle_ps(s, s, 0xA0), _mm256_shuffle_ps(s, s, 0xF5));           /* a a c c | b b d d */
    return _mm_unpacklo_ps(_mm_shuffle_ps(_mm256_castps256_ps128(s), _mm256_castps256_ps128(s), 0x08), _mm_shuffle_ps(_mm256_extractf128_ps(s, 1), _mm256_extractf128_ps(s, 1), 0x08));
}
INLINE float tree16(const F acc[HALVES]) { return tree8(f_fold(acc)); }

/* td_expf in every lane. */
INLINE F f_exp(F x)
{
    F t = f_fma(x, f_set(TD_EXP_LOG2E), f_set(TD_EXP_MAGIC)), n = f_sub(t, f_set(TD_EXP_MAGIC));
    F r = f_fma(n, f_set(-TD_EXP_LN2_HIGH), x);
    r = f_fma(n, f_set(-TD_EXP_LN2_LOW), r);
    F p = f_fma(f_set(TD_EXP_P0), r, f_set(TD_EXP_P1));
    p = f_fma(p, r, f_set(TD_EXP_P2));
    p = f_fma(p, r, f_set(TD_EXP_P3));
    p = f_fma(p, r, f_set(TD_EXP_P4));
    p = f_fma(p, r, f_set(TD_EXP_P5));
    p = f_add(f_fma(p, f_mul(r, r), r), f_set(1.0f));
    I exponent = i_sub(i_bits(t), i_set(0x4B400000)), half = i_sar(exponent, 1);
    p = f_mul(p, f_bits(i_shl(i_add(half, i_set(127)), 23)));
    p = f_mul(p, f_bits(i_shl(i_add(i_sub(exponent, half), i_set(127)), 23)));
    p = f_pick_less(x, f_set(TD_EXP_LOW), f_zero(), p);
    return f_pick_less(f_set(TD_EXP_HIGH), x, f_set(INFINITY), p);
}

/* WIDTH elements at index k of a row of a float type, as f32; Q8_0 rows as d*q (k and WIDTH inside one block of 32). */
INLINE F f_load_as(td_dtype type, const void *row, int64_t k)
{
    if (type == TD_F32) return f_load((const float *)row + k);
    if (type == TD_F16) return f_load_f16((const uint16_t *)row + k);
    if (type == TD_BF16) return f_load_bf16((const uint16_t *)row + k);
    if (type == TD_F8_E4M3) return f_load_f8((const uint8_t *)row + k);
    const uint8_t *block = (const uint8_t *)row + k / 32 * 34;
    uint16_t d;
    memcpy(&d, block, 2);
    return f_mul(f_set(_cvtsh_ss(d)), f_load_s8(block + 2 + k % 32));
}

INLINE const void *row_of(const td_matmul_job *job, int r)
{
    return (const char *)job->x + (size_t)(job->x_rows ? job->x_rows[r] : r) * job->x_stride;
}

/* Weights to bring nearer while others are computed with: `rows` pieces of `bytes` bytes, `stride` apart, in the order in which they lie, so that the hardware sees a stream and runs
 * ahead of it; `calls` calls bring the same share each, because lines that come at once hold all fill buffers. per_call and due are quarters of cache lines: at least one line a call, and a
 * number of lines that comes again after four calls, which branches are predicted for. */
typedef struct { const char *at, *row_end; int64_t rows, bytes, stride; uint64_t per_call, due; } fetch;

INLINE fetch fetch_plan(const char *base, int64_t rows, int64_t bytes, int64_t stride, int64_t calls)
{
    fetch f = {.at = base, .row_end = base + bytes, .rows = TD_MAX(rows, 0), .bytes = bytes, .stride = stride};
    if (stride <= bytes + 64) f.row_end = base + f.rows * stride, f.rows = f.rows > 0; /* rows without gaps are one piece */
    f.per_call = (uint64_t)TD_MAX((TD_MAX(rows, 0) * ((bytes + 63) / 64 + 1) * 4 + calls - 1) / calls, 4); /* a call ends where a row does: one line more a row */
    return f;
}

INLINE void fetch_some(fetch *f)
{
    if (f->rows == 0) return;
    f->due += f->per_call;
    const char *at = f->at, *stop = TD_MIN(at + f->due / 4 * 64, f->row_end);
    f->due %= 4;
    for (; at < stop; at += 64) __builtin_prefetch(at, 0, 2);
    f->at = at;
    if (at >= f->row_end) f->rows--, f->at = f->row_end - f->bytes + f->stride, f->row_end += f->stride;
}

#endif
