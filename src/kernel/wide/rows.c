/* rows.c - everything that works on one row, in vectors. See kernel/ref/rows.c for the definitions. */
#include "kernel/wide/vec.h"

/* ---- quantising ------------------------------------------------------------------------------------------------------------------------- */

/* Largest magnitude of n (a multiple of 16) elements; NaN passed over. */
INLINE float magnitude(const float *x, int n)
{
    F max = f_zero();
    for (int i = 0; i < n; i += WIDTH) max = f_max(f_abs(f_load(x + i)), max);
    return f_max_lane(max);
}

INLINE float block_scale(float max, float *inverse)
{
    float d = max / 127.0f, id = 1.0f / d;
    *inverse = id <= 3.4028234664e38f ? id : 0;
    return id <= 3.4028234664e38f ? d : 0;
}

/* 16 elements to int8; returns their sum. */
INLINE int quantise16(const float *x, float inverse, int8_t *q)
{
#if defined(__AVX512F__)
    I v = i_round(f_mul(f_load(x), f_set(inverse)));
    _mm_storeu_si128((void *)q, _mm512_cvtepi32_epi8(v));
    return _mm512_reduce_add_epi32(v);
#else
    I a = i_round(f_mul(f_load(x), f_set(inverse))), b = i_round(f_mul(f_load(x + 8), f_set(inverse)));
    I words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    _mm_storeu_si128((void *)q, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    a = i_add(a, b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
#endif
}

void WIDE(quantise_q8)(const float *x, td_q8 *out, int64_t k)
{
    for (; k > 0; k -= 32, x += 32, out++) {
        float inverse;
        out->d = block_scale(magnitude(x, 32), &inverse);
        out->offset = -8 * (quantise16(x, inverse, out->q) + quantise16(x + 16, inverse, out->q + 16));
    }
}

void WIDE(quantise_q8k)(const float *x, td_q8k *out, int64_t k)
{
    for (; k > 0; k -= 256, x += 256, out++) {
        float inverse;
        out->d = block_scale(magnitude(x, 256), &inverse);
        for (int i = 0; i < 16; i++) out->sums[i] = (int16_t)quantise16(x + 16 * i, inverse, out->q + 16 * i);
    }
}

static void store_bf16(const float *x, uint16_t *out, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
        __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
        __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
        rounded = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
        _mm_storeu_si128((void *)(out + i), _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
    }
    for (; i < n; i++) out[i] = td_f32_to_bf16(x[i]);
}

void WIDE(store_row)(td_dtype type, const float *x, void *out, int64_t n)
{
    if (type == TD_BF16) store_bf16(x, out, n);
    else td_quantise_row(type, x, out, n);
}

/* ---- element-wise ----------------------------------------------------------------------------------------------------------------------- */

void WIDE(rmsnorm)(float *y, const float *x, const float *w, int64_t n, float eps)
{
    F acc[HALVES] = {f_zero()};
    for (int h = 0; h < HALVES; h++) acc[h] = f_zero();
    for (int64_t i = 0; i < n; i += TD_LANES)
        UNROLL for (int h = 0; h < HALVES; h++) {
            F v = f_load_n(x + i + h * WIDTH, n - i - h * WIDTH);
            acc[h] = f_fma(v, v, acc[h]);
        }
    float s = 1.0f / sqrtf(tree16(acc) / (float)n + eps);
    for (int64_t i = 0; i < n; i += WIDTH) {
        F v = f_mul(f_load_n(x + i, n - i), f_set(s));
        f_store_n(y + i, w ? f_mul(v, f_load_n(w + i, n - i)) : v, n - i);
    }
}

void WIDE(silu_mul)(float *gate, const float *up, int64_t n, float limit)
{
    F top = f_set(limit), bottom = f_set(-limit);
    for (int64_t i = 0; i < n; i += WIDTH) {
        F x = f_load_n(gate + i, n - i), u = f_load_n(up + i, n - i);
        F g = f_div(x, f_add(f_set(1.0f), f_exp(f_bits(i_xor(i_bits(x), i_set(INT32_MIN))))));
        if (limit > 0) {
            g = f_min(top, g); /* a NaN second operand comes through */
            u = f_max(bottom, f_min(top, u));
        }
        f_store_n(gate + i, f_mul(g, u), n - i);
    }
}

void WIDE(add)(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += WIDTH) f_store_n(y + i, f_add(f_load_n(y + i, n - i), f_load_n(x + i, n - i)), n - i);
}

void WIDE(add_scaled)(float *y, const float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i += WIDTH) f_store_n(y + i, f_fma(f_set(s), f_load_n(x + i, n - i), f_load_n(y + i, n - i)), n - i);
}

void WIDE(softmax)(float *x, int64_t n)
{
    float max = -INFINITY;
    F most = f_set(-INFINITY), acc[HALVES];
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) most = f_max(f_load(x + i), most);
    for (max = f_max_lane(most); i < n; i++) max = x[i] > max ? x[i] : max;
    for (int h = 0; h < HALVES; h++) acc[h] = f_zero();
    for (i = 0; i < n; i += TD_LANES)
        UNROLL for (int h = 0; h < HALVES; h++) {
            int64_t left = n - i - h * WIDTH;
            if (left <= 0) break;
            float *p = x + i + h * WIDTH;
            f_store_n(p, f_exp(f_sub(f_load_n(p, left), f_set(max))), left);
            acc[h] = f_add(acc[h], f_load_n(p, left));
        }
    F sum = f_set(tree16(acc));
    for (i = 0; i < n; i += WIDTH) f_store_n(x + i, f_div(f_load_n(x + i, n - i), sum), n - i);
}

static void rope_neox(float *x, const float *cos, const float *sin, int pairs)
{
    for (int i = 0; i < pairs; i += WIDTH) {
        int left = pairs - i;
        F a = f_load_n(x + i, left), b = f_load_n(x + pairs + i, left), c = f_load_n(cos + i, left), s = f_load_n(sin + i, left);
        F bs = f_bits(i_xor(i_bits(f_mul(b, s)), i_set(INT32_MIN)));
        f_store_n(x + i, f_fma(a, c, bs), left);
        f_store_n(x + pairs + i, f_fma(b, c, f_mul(a, s)), left);
    }
}

void WIDE(rope)(float *x, const float *cos, const float *sin, int n_rot, bool neox)
{
    int pairs = n_rot / 2, i = 0;
    if (neox) {
        rope_neox(x, cos, sin, pairs);
        return;
    }
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256 negative = _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
    for (; i + 4 <= pairs; i += 4) { /* a b a b ..: fma(x, c, -+ swapped * s) */
        __m256 v = _mm256_loadu_ps(x + 2 * i);
        __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cos + i)), twice), s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sin + i)), twice);
        __m256 swapped = _mm256_xor_ps(_mm256_mul_ps(_mm256_permute_ps(v, 0xB1), s), negative);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmadd_ps(v, c, swapped));
    }
    for (; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = fmaf(a, cos[i], -(b * sin[i]));
        x[2 * i + 1] = fmaf(b, cos[i], a * sin[i]);
    }
}

int64_t WIDE(argmax)(const float *x, int64_t n)
{
    enum { PART = 4096 };
    float max = -INFINITY;
    int64_t best = 0; /* where the first part with the maximum begins */
    for (int64_t begin = 0; begin < n; begin += PART) {
        F most = f_set(-INFINITY);
        int64_t i = begin, end = TD_MIN(begin + PART, n);
        for (; i + WIDTH <= end; i += WIDTH) most = f_max(f_load(x + i), most);
        float own = f_max_lane(most);
        for (; i < end; i++) own = x[i] > own ? x[i] : own;
        if (own > max) max = own, best = begin;
    }
    while (best < n && !(x[best] == max)) best++; /* -infinity throughout, NaN aside: the first that is no NaN */
    return best < n ? best : 0;
}
