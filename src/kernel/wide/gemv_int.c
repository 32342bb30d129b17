/*
 * gemv_int.c - products of a few rows with Q8_0, Q4_0 and k-quants, straight from the file's layout: eight outputs at a time, lanes along K inside a block, then the eight
 * integer sums are brought into the eight lanes of one vector and scaled. Bound by memory, so 256-bit vectors serve every instruction set.
 */
#include "kernel/wide/vec.h"
#include "tensor/kquant.h"

enum { OUTS = 8 };

/* Four neighbouring products u8 * s8 added, in each of eight lanes. No pair may exceed int16: a*b + c*d <= 32767. */
INLINE __m256i dot4(__m256i u, __m256i s)
{
#if defined(__AVX512VNNI__)
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
#endif
}

/* The sums of eight vectors. */
INLINE __m256i sums_of(const __m256i v[OUTS])
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

INLINE int half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

/* The f16 at the same place of eight rows, as f32. */
INLINE __m256 halves_of(const uint8_t *const p[OUTS], size_t at)
{
    __m128i h = _mm_cvtsi32_si128(half_at(p[0] + at));
    h = _mm_insert_epi16(h, half_at(p[1] + at), 1);
    h = _mm_insert_epi16(h, half_at(p[2] + at), 2);
    h = _mm_insert_epi16(h, half_at(p[3] + at), 3);
    h = _mm_insert_epi16(h, half_at(p[4] + at), 4);
    h = _mm_insert_epi16(h, half_at(p[5] + at), 5);
    h = _mm_insert_epi16(h, half_at(p[6] + at), 6);
    h = _mm_insert_epi16(h, half_at(p[7] + at), 7);
    return _mm256_cvtph_ps(h);
}

INLINE void put(const td_matmul_job *job, int r, int64_t out, __m256 total)
{
    float y[OUTS];
    _mm256_storeu_ps(y, total);
    for (int64_t i = 0; i < TD_MIN(OUTS, job->out_end - out); i++) job->y[r * job->y_stride + out + i] = y[i];
}

/* Rows past the end repeat the last one. */
INLINE void point(const td_matmul_job *job, int64_t out, size_t row_bytes, const uint8_t *p[OUTS])
{
    for (int i = 0; i < OUTS; i++) p[i] = (const uint8_t *)job->w->data + (size_t)TD_MIN(out + i, job->out_end - 1) * row_bytes;
}

/* ---- Q8_0, Q4_0 -------------------------------------------------------------------------------------------------------------------------- */

INLINE __m256 eight_q8(td_dtype type, const uint8_t *const p[OUTS], const td_q8 *x, int64_t blocks)
{
    const size_t block_bytes = type == TD_Q8_0 ? 34 : 18;
    __m256 total = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m256i xq = _mm256_loadu_si256((const void *)x[b].q), v[OUTS];
        size_t at = (size_t)b * block_bytes;
        UNROLL for (int i = 0; i < OUTS; i++) {
            if (type == TD_Q8_0) { /* |w| * (x with w's sign): 2 * 128 * 127 fits */
                __m256i w = _mm256_loadu_si256((const void *)(p[i] + at + 2));
                v[i] = dot4(_mm256_abs_epi8(w), _mm256_sign_epi8(xq, w));
            } else {
                __m128i w = _mm_loadu_si128((const void *)(p[i] + at + 2));
                __m256i u = _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(w), _mm_srli_epi16(w, 4), 1), _mm256_set1_epi8(15));
                v[i] = dot4(u, xq);
            }
        }
        __m256i isum = sums_of(v);
        if (type == TD_Q4_0) isum = _mm256_sub_epi32(isum, _mm256_set1_epi32(8 * x[b].sum));
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(halves_of(p, at), _mm256_set1_ps(x[b].d)), total);
    }
    return total;
}

INLINE void gemv_q8(const td_matmul_job *job, td_dtype type)
{
    int64_t k = job->w->shape[1];
    const uint8_t *p[OUTS];
    for (int64_t out = job->out_begin; out < job->out_end; out += OUTS) {
        point(job, out, td_dtype_row_bytes(type, k), p);
        for (int r = 0; r < job->rows; r++) put(job, r, out, eight_q8(type, p, row_of(job, r), k / TD_Q_BLOCK));
    }
}

void WIDE(gemv_q8)(const td_matmul_job *job)
{
    if (job->w->type == TD_Q8_0) gemv_q8(job, TD_Q8_0);
    else gemv_q8(job, TD_Q4_0);
}

/* ---- k-quants ---------------------------------------------------------------------------------------------------------------------------- */

/* The eight 6-bit scales of a block as int16 pairs (s, s), and its eight minimums as int16. */
INLINE void scales_of(const uint8_t packed[12], int32_t pairs[8], __m128i *mins)
{
    uint32_t a, b, c;
    memcpy(&a, packed, 4), memcpy(&b, packed + 4, 4), memcpy(&c, packed + 8, 4);
    uint32_t scale_high = (c & 0x0F0F0F0F) | (a >> 6 & 0x03030303) << 4, min_high = (c >> 4 & 0x0F0F0F0F) | (b >> 6 & 0x03030303) << 4;
    __m256i scale = _mm256_cvtepu8_epi32(_mm_set_epi64x(0, (int64_t)((uint64_t)scale_high << 32 | (a & 0x3F3F3F3F))));
    _mm256_storeu_si256((void *)pairs, _mm256_or_si256(scale, _mm256_slli_epi32(scale, 16)));
    *mins = _mm_cvtepu8_epi16(_mm_set_epi64x(0, (int64_t)((uint64_t)min_high << 32 | (b & 0x3F3F3F3F))));
}

/* Eight partial isums of one Q4_K or Q5_K block; *mins as above. */
INLINE __m256i block_q45k(td_dtype type, const uint8_t *block, const td_q8k *x, __m128i *mins)
{
    const __m256i low = _mm256_set1_epi8(15), bit = _mm256_set1_epi8(1);
    const uint8_t *q = block + (type == TD_Q4_K ? 16 : 48);
    int32_t pairs[8];
    __m256i acc = _mm256_setzero_si256(), high = acc;
    scales_of(block + 4, pairs, mins);
    if (type == TD_Q5_K) high = _mm256_loadu_si256((const void *)(block + 16));
    UNROLL for (int j = 0; j < 8; j++) {
        __m256i v = _mm256_loadu_si256((const void *)(q + j / 2 * 32));
        v = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(v, 4) : v, low);
        if (type == TD_Q5_K) v = _mm256_or_si256(v, _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, j), bit), 4));
        __m256i pair = _mm256_maddubs_epi16(v, _mm256_loadu_si256((const void *)(x->q + 32 * j)));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pair, _mm256_set1_epi32(pairs[j])));
    }
    return acc;
}

/* The same for Q6_K, the offset of 32 taken off. */
INLINE __m256i block_q6k(const td_q6k_block *b, const td_q8k *x)
{
    const __m256i low4 = _mm256_set1_epi8(15), low2 = _mm256_set1_epi8(3);
    __m256i scale = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b->scales)), sums = _mm256_loadu_si256((const void *)x->sums);
    __m256i acc = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(_mm256_madd_epi16(scale, sums), 5));
    UNROLL for (int g = 0; g < 8; g++) {
        int half = g / 4, s = g % 4;
        __m256i v = _mm256_loadu_si256((const void *)(b->low + half * 64 + s % 2 * 32)), high = _mm256_loadu_si256((const void *)(b->high + half * 32));
        v = _mm256_and_si256(s / 2 ? _mm256_srli_epi16(v, 4) : v, low4);
        v = _mm256_or_si256(v, _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, 2 * s), low2), 4));
        __m256i own = _mm256_permute4x64_epi64(scale, half ? 0xEE : 0x44); /* the half's eight scales in both lanes; lane 0 wants number 2s, lane 1 number 2s+1 */
        short first = (short)(4 * s | (4 * s + 1) << 8), second = (short)(first + 0x0202);
        own = _mm256_shuffle_epi8(own, _mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first)));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(v, _mm256_loadu_si256((const void *)(x->q + 32 * g))), own));
    }
    return acc;
}

INLINE __m256 eight_kquant(td_dtype type, const uint8_t *const p[OUTS], const td_q8k *x, int64_t blocks)
{
    const size_t block_bytes = type == TD_Q4_K ? 144 : type == TD_Q5_K ? 176 : 210;
    __m256 total = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++, x++) {
        size_t at = (size_t)b * block_bytes;
        __m256i v[OUTS], m[OUTS];
        __m256 dx = _mm256_set1_ps(x->d);
        if (type == TD_Q6_K) {
            for (int i = 0; i < OUTS; i++) v[i] = block_q6k((const void *)(p[i] + at), x);
            total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums_of(v)), _mm256_mul_ps(halves_of(p, at + 208), dx), total);
            continue;
        }
        __m128i sums = _mm_hadd_epi16(_mm_loadu_si128((const void *)x->sums), _mm_loadu_si128((const void *)(x->sums + 8)));
        for (int i = 0; i < OUTS; i++) {
            __m128i mins;
            v[i] = block_q45k(type, p[i] + at, x, &mins);
            m[i] = _mm256_zextsi128_si256(_mm_madd_epi16(mins, sums));
        }
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums_of(v)), _mm256_mul_ps(halves_of(p, at), dx), total);
        total = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sums_of(m)), _mm256_mul_ps(halves_of(p, at + 2), dx), total);
    }
    return total;
}

INLINE void gemv_kquant(const td_matmul_job *job, td_dtype type)
{
    int64_t k = job->w->shape[1];
    const uint8_t *p[OUTS];
    for (int64_t out = job->out_begin; out < job->out_end; out += OUTS) {
        point(job, out, td_dtype_row_bytes(type, k), p);
        for (int r = 0; r < job->rows; r++) put(job, r, out, eight_kquant(type, p, row_of(job, r), k / TD_QK_BLOCK));
    }
}

void WIDE(gemv_kquant)(const td_matmul_job *job)
{
    switch (job->w->type) {
    case TD_Q4_K: gemv_kquant(job, TD_Q4_K); break;
    case TD_Q5_K: gemv_kquant(job, TD_Q5_K); break;
    default: gemv_kquant(job, TD_Q6_K); break;
    }
}
