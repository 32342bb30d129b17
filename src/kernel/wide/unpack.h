/*
 * unpack.h - weight rows of the integer types as vectors: the blocks of WIDTH outputs transposed, so that one vector holds four neighbouring k of each, and their scales.
 * For the product files of kernel/wide/ only.
 */
#ifndef TD_KERNEL_WIDE_UNPACK_H
#define TD_KERNEL_WIDE_UNPACK_H

#include "kernel/wide/vec.h"
#include "tensor/pack.h"

#if defined(__AVX512VNNI__)
enum { VNNI = 1 };
#else
enum { VNNI = 0 };
#endif

INLINE int block_bytes(const td_dtype type) { return type == TD_Q8_0 ? 34 : type == TD_Q4_0 ? 18 : type == TD_Q4_K ? 144 : type == TD_Q5_K ? 176 : 210; }

/* The blocks from K = begin on of `count` weight rows from out on; rows past the end repeat the last one. Packed (tensor/pack.h): for every WIDTH of them, which lie in one group of
 * sixteen, where the group's four-byte pieces of these rows begin, and where its two-byte pieces do; byte X of a row's block is then found 16 X further. */
INLINE void point(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int64_t begin, int count, const uint8_t **rows)
{
    const int block = td_act_kind_of(type) == TD_ACT_Q8 ? TD_Q_BLOCK : TD_QK_BLOCK;
    int64_t row_bytes = job->w->shape[1] / block * block_bytes(type);
    for (int i = 0; packed && i < count; i += WIDTH) {
        int64_t first = TD_MIN(out + i, job->out_end - WIDTH), place = first % TD_PACK_ROWS;
        const uint8_t *group = (const uint8_t *)job->w->data + (first - place) * row_bytes + begin / block * block_bytes(type) * TD_PACK_ROWS;
        rows[i] = group + place * 4, rows[i + 1] = group + place * 2;
    }
    if (packed) return;
    for (int i = 0; i < count; i++) rows[i] = (const uint8_t *)job->w->data + TD_MIN(out + i, job->out_end - 1) * row_bytes + begin / block * block_bytes(type);
}

/* The weights of up to `most` outputs from out on, K from begin on for n elements. */
INLINE fetch fetch_outs(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int most, int64_t begin, int n, int64_t calls)
{
    const int rows = packed ? TD_PACK_ROWS : 1; /* that lie together */
    int64_t row_bytes = (int64_t)td_dtype_row_bytes(type, job->w->shape[1]), outs = TD_MIN(most, job->out_end - out);
    return fetch_plan((const char *)job->w->data + out * row_bytes + (int64_t)td_dtype_row_bytes(type, begin) * rows, outs / rows, (int64_t)td_dtype_row_bytes(type, n) * rows, row_bytes * rows, calls);
}

INLINE int32_t four_at(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* ---- unpacking --------------------------------------------------------------------------------------------------------------------------- */

#if defined(__AVX512F__)
INLINE void columns4(I a, I b, I c, I d, I t[4]) /* 4x4 of 32 bits in each 128-bit lane */
{
    I ab = _mm512_unpacklo_epi32(a, b), AB = _mm512_unpackhi_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d), CD = _mm512_unpackhi_epi32(c, d);
    t[0] = _mm512_unpacklo_epi64(ab, cd), t[1] = _mm512_unpackhi_epi64(ab, cd), t[2] = _mm512_unpacklo_epi64(AB, CD), t[3] = _mm512_unpackhi_epi64(AB, CD);
}
INLINE I two_rows(const uint8_t *a, const uint8_t *b) { return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)a)), _mm256_loadu_si256((const void *)b), 1); }
/* 32 bytes at `at` of 16 rows: column c holds their bytes 4c..4c+3. */
INLINE void columns32_rows(const uint8_t *const *p, size_t at, I out[8])
{
    I low[4], high[4];
    columns4(two_rows(p[0] + at, p[4] + at), two_rows(p[1] + at, p[5] + at), two_rows(p[2] + at, p[6] + at), two_rows(p[3] + at, p[7] + at), low);
    columns4(two_rows(p[8] + at, p[12] + at), two_rows(p[9] + at, p[13] + at), two_rows(p[10] + at, p[14] + at), two_rows(p[11] + at, p[15] + at), high);
    UNROLL for (int c = 0; c < 4; c++) {
        out[c] = _mm512_shuffle_i32x4(low[c], high[c], 0x88);
        out[c + 4] = _mm512_shuffle_i32x4(low[c], high[c], 0xDD);
    }
}
/* The same with 16 bytes: columns 0..3. */
INLINE void columns16_rows(const uint8_t *const *p, size_t at, I out[4])
{
    I row[4];
    UNROLL for (int i = 0; i < 4; i++) {
        row[i] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(p[i] + at)));
        row[i] = _mm512_inserti32x4(row[i], _mm_loadu_si128((const void *)(p[i + 4] + at)), 1);
        row[i] = _mm512_inserti32x4(row[i], _mm_loadu_si128((const void *)(p[i + 8] + at)), 2);
        row[i] = _mm512_inserti32x4(row[i], _mm_loadu_si128((const void *)(p[i + 12] + at)), 3);
    }
    columns4(row[0], row[1], row[2], row[3], out);
}
INLINE I i_bytes(int x) { return _mm512_set1_epi8((char)x); }
#else
INLINE void columns4(I a, I b, I c, I d, I t[4])
{
    I ab = _mm256_unpacklo_epi32(a, b), AB = _mm256_unpackhi_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d), CD = _mm256_unpackhi_epi32(c, d);
    t[0] = _mm256_unpacklo_epi64(ab, cd), t[1] = _mm256_unpackhi_epi64(ab, cd), t[2] = _mm256_unpacklo_epi64(AB, CD), t[3] = _mm256_unpackhi_epi64(AB, CD);
}
INLINE void columns32_rows(const uint8_t *const *p, size_t at, I out[8])
{
    I low[4], high[4];
    columns4(i_load(p[0] + at), i_load(p[1] + at), i_load(p[2] + at), i_load(p[3] + at), low);
    columns4(i_load(p[4] + at), i_load(p[5] + at), i_load(p[6] + at), i_load(p[7] + at), high);
    UNROLL for (int c = 0; c < 4; c++) {
        out[c] = _mm256_permute2x128_si256(low[c], high[c], 0x20);
        out[c + 4] = _mm256_permute2x128_si256(low[c], high[c], 0x31);
    }
}
INLINE void columns16_rows(const uint8_t *const *p, size_t at, I out[4])
{
    I row[4];
    UNROLL for (int i = 0; i < 4; i++)
        row[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)(p[i] + at))), _mm_loadu_si128((const void *)(p[i + 4] + at)), 1);
    columns4(row[0], row[1], row[2], row[3], out);
}
INLINE I i_bytes(int x) { return _mm256_set1_epi8((char)x); }
#endif

INLINE void columns32(const bool packed, const uint8_t *const *p, size_t at, I out[8])
{
    if (!packed) columns32_rows(p, at, out);
    else UNROLL for (int c = 0; c < 8; c++) out[c] = i_load(p[0] + (at + 4 * (size_t)c) * TD_PACK_ROWS);
}

INLINE void columns16(const bool packed, const uint8_t *const *p, size_t at, I out[4])
{
    if (!packed) columns16_rows(p, at, out);
    else UNROLL for (int c = 0; c < 4; c++) out[c] = i_load(p[0] + (at + 4 * (size_t)c) * TD_PACK_ROWS);
}

/* One block of WIDTH outputs of Q8_0 (VNNI: unsigned, else as they are) or Q4_0. */
INLINE void q8_columns(const td_dtype type, const bool packed, const uint8_t *const *p, size_t at, I w[8])
{
    if (type == TD_Q8_0) {
        columns32(packed, p, at + 2, w);
        UNROLL for (int i = 0; i < 8 * VNNI; i++) w[i] = i_xor(w[i], i_bytes(128));
        return;
    }
    columns16(packed, p, at + 2, w);
    UNROLL for (int i = 0; i < 4; i++) {
        w[i + 4] = i_and(i_shr16(w[i], 4), i_bytes(15));
        w[i] = i_and(w[i], i_bytes(15));
    }
}

/* Two sub-blocks of 32 that share bytes: pair g is (2g, 2g+1), in Q6_K (0, 2), (1, 3), (4, 6), (5, 7). */
INLINE int first_of_pair(const td_dtype type, int g) { return type == TD_Q6_K ? g / 2 * 4 + g % 2 : 2 * g; }
INLINE int second_of_pair(const td_dtype type, int g) { return first_of_pair(type, g) + (type == TD_Q6_K ? 2 : 1); }
INLINE void pair_columns(const td_dtype type, const bool packed, const uint8_t *const *p, size_t at, int g, I first[8], I second[8])
{
    I high[8];
    columns32(packed, p, at + (type == TD_Q4_K ? 16 : type == TD_Q5_K ? 48 : 0) + 32 * (size_t)g, first);
    if (type == TD_Q5_K) columns32(packed, p, at + 16, high);
    if (type == TD_Q6_K) columns32(packed, p, at + 128 + 32 * (size_t)(g / 2), high);
    UNROLL for (int i = 0; i < 8; i++) {
        second[i] = i_and(i_shr16(first[i], 4), i_bytes(15));
        first[i] = i_and(first[i], i_bytes(15));
        if (type == TD_Q5_K) {
            first[i] = i_or(first[i], i_shl16(i_and(i_shr16(high[i], 2 * g), i_bytes(1)), 4));
            second[i] = i_or(second[i], i_shl16(i_and(i_shr16(high[i], 2 * g + 1), i_bytes(1)), 4));
        }
        if (type == TD_Q6_K) {
            first[i] = i_or(first[i], i_shl16(i_and(i_shr16(high[i], 2 * (g % 2)), i_bytes(3)), 4));
            second[i] = i_or(second[i], i_shl16(i_and(i_shr16(high[i], 2 * (g % 2) + 4), i_bytes(3)), 4));
        }
    }
}

/* The f16 at the same place of WIDTH rows, as f32. */
INLINE F halves_of(const bool packed, const uint8_t *const *p, size_t at)
{
    if (packed) return f_load_f16(p[1] + at * TD_PACK_ROWS);
    uint16_t h[WIDTH];
    UNROLL for (int i = 0; i < WIDTH; i++) memcpy(&h[i], p[i] + at, 2);
    return f_load_f16(h);
}

/* The same with the rows' distances from the first one: one instruction where there is one. */
INLINE I distances(const bool packed, const uint8_t *const *p)
{
    if (packed) return i_zero();
    int32_t d[WIDTH];
    for (int i = 0; i < WIDTH; i++) d[i] = (int32_t)(p[i] - p[0]);
    return i_load(d);
}

INLINE F halves_at(const bool packed, const uint8_t *const *p, const I distance, size_t at)
{
    if (packed) return halves_of(true, p, at);
#if defined(__AVX512F__)
    return f_of_half(_mm512_i32gather_epi32(distance, (const void *)(p[0] + at), 1));
#else
    (void)distance;
    return halves_of(false, p, at);
#endif
}

/* The scales of one super-block of WIDTH outputs. scale: int32, or without VNNI a pair of equal int16, for each of the 8 (Q6_K: 16) sub-blocks. pair: two neighbouring
 * minimums (Q6_K: scales) as int16. */
typedef struct { F d, dmin; I scale[16], pair[8]; } super_scales;

INLINE I both_halves(I v) { return VNNI ? v : i_or(i_and(v, i_set(0xFFFF)), i_shl(v, 16)); }
INLINE I join_halves(I low, I high) { return i_or(i_and(low, i_set(0xFFFF)), i_shl(high, 16)); }

INLINE void scales_of(const td_dtype type, const bool packed, const uint8_t *const *p, size_t at, super_scales *s)
{
    I c[4];
    if (type == TD_Q6_K) {
        columns16(packed, p, at + 192, c);
        s->d = halves_of(packed, p, at + 208);
        UNROLL for (int j = 0; j < 16; j++) s->scale[j] = i_sar(i_shl(c[j / 4], 24 - j % 4 * 8), 24);
        UNROLL for (int j = 0; j < 8; j++) s->pair[j] = join_halves(s->scale[2 * j], s->scale[2 * j + 1]);
        UNROLL for (int j = 0; j < 16; j++) s->scale[j] = both_halves(s->scale[j]);
        return;
    }
    const I six = i_set(63), four = i_set(15), two = i_set(0x30);
    I min[8];
    columns16(packed, p, at, c); /* d and dmin, then the twelve bytes of td_kquant_scales */
    s->d = f_of_half(c[0]), s->dmin = f_of_half(i_shr(c[0], 16));
    UNROLL for (int j = 0; j < 4; j++) {
        I top = i_shr(c[3], 8 * j);
        s->scale[j] = i_and(i_shr(c[1], 8 * j), six), min[j] = i_and(i_shr(c[2], 8 * j), six);
        s->scale[j + 4] = i_or(i_and(top, four), i_and(i_shr(c[1], 8 * j + 2), two));
        min[j + 4] = i_or(i_and(i_shr(top, 4), four), i_and(i_shr(c[2], 8 * j + 2), two));
    }
    UNROLL for (int j = 0; j < 4; j++) s->pair[j] = i_or(min[2 * j], i_shl(min[2 * j + 1], 16));
    UNROLL for (int j = 0; j < 8; j++) s->scale[j] = both_halves(s->scale[j]);
}

#endif
