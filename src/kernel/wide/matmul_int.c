/*
 * matmul_int.c - products of many rows with Q8_0, Q4_0 and k-quants. Lanes are outputs: a panel of weights (128 outputs x CHUNK of K) is unpacked once so that one vector
 * holds four neighbouring k of WIDTH outputs, and a tile (two vectors of outputs) multiplies it with four broadcast bytes of each of its rows. Scales come in once per block and output, as kernel.h orders.
 *
 * Weights are made unsigned (Q8_0: +128, Q4_0: 0..15, Q6_K: 0..63) and the offset is taken off with the activations' sums, except that without VNNI Q8_0 goes as int16
 * pairs, because unsigned bytes times signed bytes would saturate in pairs.
 */
#include "kernel/wide/vec.h"
#include "tensor/kquant.h"

#if defined(__AVX512VNNI__)
enum { VNNI = 1 };
#define DPBUSD(acc, u, s) _mm512_dpbusd_epi32(acc, u, s)
#else
enum { VNNI = 0 };
#define DPBUSD(acc, u, s) (acc)
#endif
#if defined(__AVX512F__)
enum { TILE_ROWS = 6, FEW_ROWS = 1 };
#else
enum { TILE_ROWS = 3, FEW_ROWS = 1 };
#endif
enum { VECS = 2, GROUP = VECS * WIDTH, PANEL_OUTS = 128, GROUPS = PANEL_OUTS / GROUP, CHUNK = 1024, CHUNK_WORDS = 512, BLOCKS = CHUNK / TD_Q_BLOCK, SUPERS = CHUNK / TD_QK_BLOCK };

/* q: [block of 32][4-byte column][GROUP outputs], one region per group; int16 pairs: [block][16 pairs][GROUP outputs]. */
typedef struct { float d[SUPERS][GROUP], dmin[SUPERS][GROUP]; int32_t scale[SUPERS][16][GROUP], pair[SUPERS][8][GROUP]; } super_scales;
typedef struct {
    _Alignas(64) uint8_t q[GROUPS][CHUNK * GROUP];
    union { float d[GROUPS][BLOCKS][GROUP]; super_scales super[GROUPS]; } s;
    fetch next;
} panel;

/* What a tile of rows brings besides its bytes. Q8 blocks: d, and what takes off the weights' offset; without VNNI Q8_0's bytes as int16. k-quants: pairs of sums per 32. */
typedef struct {
    const td_q8 *q8[TILE_ROWS];
    const td_q8k *q8k[TILE_ROWS];
    float d[BLOCKS][TILE_ROWS];
    int32_t offset[BLOCKS][TILE_ROWS];
    int32_t sums[SUPERS][TILE_ROWS][4];
    int32_t words[VNNI ? 1 : CHUNK_WORDS / TD_Q_BLOCK][TILE_ROWS][16];
} x_tile;

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
INLINE void columns32(const uint8_t *const *p, size_t at, I out[8])
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
INLINE void columns16(const uint8_t *const *p, size_t at, I out[4])
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
INLINE void columns32(const uint8_t *const *p, size_t at, I out[8])
{
    I low[4], high[4];
    columns4(i_load(p[0] + at), i_load(p[1] + at), i_load(p[2] + at), i_load(p[3] + at), low);
    columns4(i_load(p[4] + at), i_load(p[5] + at), i_load(p[6] + at), i_load(p[7] + at), high);
    UNROLL for (int c = 0; c < 4; c++) {
        out[c] = _mm256_permute2x128_si256(low[c], high[c], 0x20);
        out[c + 4] = _mm256_permute2x128_si256(low[c], high[c], 0x31);
    }
}
INLINE void columns16(const uint8_t *const *p, size_t at, I out[4])
{
    I row[4];
    UNROLL for (int i = 0; i < 4; i++)
        row[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)(p[i] + at))), _mm_loadu_si128((const void *)(p[i + 4] + at)), 1);
    columns4(row[0], row[1], row[2], row[3], out);
}
INLINE I i_bytes(int x) { return _mm256_set1_epi8((char)x); }
#endif

INLINE void put_column(uint8_t *q, int column, int half, I v) { i_store(q + ((size_t)column * VECS + (size_t)half) * sizeof(I), v); }

/* One block of WIDTH outputs, vector h of the group. */
INLINE void unpack_q8_0(const uint8_t *const *p, size_t at, uint8_t *q, int h)
{
    I c[8];
    columns32(p, at + 2, c);
    UNROLL for (int i = 0; i < 8; i++) {
        if (VNNI) {
            put_column(q, i, h, i_xor(c[i], i_bytes(128)));
        } else { /* bytes 0 and 2, then 1 and 3 of the four */
            put_column(q, i, h, i_sar16(i_shl16(c[i], 8), 8));
            put_column(q, i + 8, h, i_sar16(c[i], 8));
        }
    }
}

INLINE void unpack_q4_0(const uint8_t *const *p, size_t at, uint8_t *q, int h)
{
    I c[4];
    columns16(p, at + 2, c);
    UNROLL for (int i = 0; i < 4; i++) {
        put_column(q, i, h, i_and(c[i], i_bytes(15)));
        put_column(q, i + 4, h, i_and(i_shr16(c[i], 4), i_bytes(15)));
    }
}

INLINE void unpack_q45k(td_dtype type, const uint8_t *const *p, size_t at, uint8_t *q, int h)
{
    I c[8], high[8];
    if (type == TD_Q5_K) columns32(p, at + 16, high);
    UNROLL for (int g = 0; g < 4; g++) {
        columns32(p, at + (type == TD_Q4_K ? 16 : 48) + 32 * (size_t)g, c);
        UNROLL for (int s = 0; s < 2; s++)
            UNROLL for (int i = 0; i < 8; i++) {
                I v = i_and(s ? i_shr16(c[i], 4) : c[i], i_bytes(15));
                if (type == TD_Q5_K) v = i_or(v, i_shl16(i_and(i_shr16(high[i], 2 * g + s), i_bytes(1)), 4));
                put_column(q, (2 * g + s) * 8 + i, h, v);
            }
    }
}

INLINE void unpack_q6k(const uint8_t *const *p, size_t at, uint8_t *q, int h)
{
    I c[8], high[8];
    for (int half = 0; half < 2; half++) {
        columns32(p, at + 128 + 32 * (size_t)half, high);
        UNROLL for (int g = 0; g < 2; g++) {
            columns32(p, at + 64 * (size_t)half + 32 * (size_t)g, c);
            UNROLL for (int s = 0; s < 2; s++)
                UNROLL for (int i = 0; i < 8; i++) {
                    I v = i_and(s ? i_shr16(c[i], 4) : c[i], i_bytes(15));
                    v = i_or(v, i_shl16(i_and(i_shr16(high[i], 2 * (2 * s + g)), i_bytes(3)), 4));
                    put_column(q, (half * 4 + 2 * s + g) * 8 + i, h, v);
                }
        }
    }
}

INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

/* A scale as the tiles want it: an int32, or without VNNI a pair of int16. */
INLINE int32_t scale_entry(int s) { return VNNI ? s : (int32_t)((uint32_t)(uint16_t)s * 0x10001u); }
INLINE int32_t pair_entry(int a, int b) { return (int32_t)((uint32_t)(uint16_t)a | (uint32_t)(uint16_t)b << 16); }

INLINE void unpack_super_scales(td_dtype type, const uint8_t *block, super_scales *s, int b, int out)
{
    if (type == TD_Q6_K) {
        const td_q6k_block *q6 = (const void *)block;
        s->d[b][out] = half_at(block + 208);
        for (int j = 0; j < 16; j++) s->scale[b][j][out] = scale_entry(q6->scales[j]);
        for (int j = 0; j < 8; j++) s->pair[b][j][out] = pair_entry(q6->scales[2 * j], q6->scales[2 * j + 1]);
        return;
    }
    uint8_t scale[8], min[8];
    td_kquant_scales(block + 4, scale, min);
    s->d[b][out] = half_at(block), s->dmin[b][out] = half_at(block + 2);
    for (int j = 0; j < 8; j++) s->scale[b][j][out] = scale_entry(scale[j]);
    for (int j = 0; j < 4; j++) s->pair[b][j][out] = pair_entry(min[2 * j], min[2 * j + 1]);
}

/* GROUP outputs from out on, K from begin on for n elements. Outputs past the end repeat the last one. */
INLINE void unpack_group(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin, int n, panel *p, int group)
{
    const int block = td_act_kind_of(type) == TD_ACT_Q8 ? TD_Q_BLOCK : TD_QK_BLOCK;
    const size_t bytes = type == TD_Q8_0 ? 34 : type == TD_Q4_0 ? 18 : type == TD_Q4_K ? 144 : type == TD_Q5_K ? 176 : 210;
    size_t row_bytes = (size_t)(job->w->shape[1] / block) * bytes;
    const uint8_t *rows[GROUP];
    for (int i = 0; i < GROUP; i++)
        rows[i] = (const uint8_t *)job->w->data + (size_t)TD_MIN(out + i, job->out_end - 1) * row_bytes + (size_t)(begin / block) * bytes;
    uint8_t *q = p->q[group];
    for (int b = 0; b < n / block; b++) {
        size_t at = (size_t)b * bytes;
        UNROLL for (int h = 0; h < VECS; h++) {
            const uint8_t *const *p_h = rows + h * WIDTH;
            if (type == TD_Q8_0) unpack_q8_0(p_h, at, q + (size_t)b * (VNNI ? 32 : 64) * GROUP, h);
            else if (type == TD_Q4_0) unpack_q4_0(p_h, at, q + (size_t)b * 32 * GROUP, h);
            else if (type == TD_Q6_K) unpack_q6k(p_h, at, q + (size_t)b * 256 * GROUP, h);
            else unpack_q45k(type, p_h, at, q + (size_t)b * 256 * GROUP, h);
        }
        for (int i = 0; i < GROUP; i++) {
            if (block == TD_Q_BLOCK) p->s.d[group][b][i] = half_at(rows[i] + at);
            else unpack_super_scales(type, rows[i] + at, &p->s.super[group], b, i);
        }
    }
}

/* ---- tiles ------------------------------------------------------------------------------------------------------------------------------- */

INLINE I weights_at(const uint8_t *q, int column, int half) { return i_load(q + ((size_t)column * VECS + (size_t)half) * sizeof(I)); }

/* Adds the blocks of one group to the totals of ROWS rows. */
INLINE void tile_q8(const td_dtype type, const panel *p, int group, const x_tile *x, int blocks, const int ROWS, F total[TILE_ROWS][VECS])
{
    const uint8_t *q = p->q[group];
    const bool words = type == TD_Q8_0 && !VNNI;
    const int COLUMNS = words ? 16 : 8;
    for (int b = 0; b < blocks; b++, q += (words ? 64 : 32) * GROUP) {
        I acc[TILE_ROWS][VECS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) acc[r][h] = VNNI ? i_set(x->offset[b][r]) : i_zero();
        UNROLL for (int j = 0; j < COLUMNS; j++) {
            I w[VECS];
            UNROLL for (int h = 0; h < VECS; h++) w[h] = weights_at(q, j, h);
            UNROLL for (int r = 0; r < ROWS; r++) {
                I v = i_set(words ? x->words[b][r][j] : four_at(x->q8[r][b].q + 4 * j));
                UNROLL for (int h = 0; h < VECS; h++) {
                    if (VNNI) acc[r][h] = DPBUSD(acc[r][h], w[h], v);
                    else if (words) acc[r][h] = i_add(acc[r][h], i_madd(w[h], v));
                    else acc[r][h] = i_add16(acc[r][h], i_maddubs(w[h], v)); /* 8 times 2 * 15 * 127 fits */
                    KEEP(acc[r][h]);
                }
            }
        }
        UNROLL for (int h = 0; h < VECS; h++) {
            F d = f_load(p->s.d[group][b] + h * WIDTH);
            UNROLL for (int r = 0; r < ROWS; r++) {
                I sum = acc[r][h];
                if (!VNNI && !words) sum = i_add(i_madd(sum, i_set(0x10001)), i_set(x->offset[b][r]));
                total[r][h] = f_fma(f_of_i(sum), f_mul(d, f_set(x->d[b][r])), total[r][h]);
            }
        }
    }
}

/* acc += scaled dots of one block of 32 (scale: one vector of entries per SPAN columns). */
INLINE void sub_block(const td_dtype type, const uint8_t *q, const int32_t (*scale)[GROUP], const td_q8k *const *x, int b, int sub, const int ROWS, I acc[TILE_ROWS][VECS])
{
    const int SPAN = VNNI ? (type == TD_Q6_K ? 4 : 8) : type == TD_Q4_K ? 8 : type == TD_Q5_K ? 4 : 2; /* columns added before they are scaled; without VNNI as many as fit int16 */
    UNROLL for (int begin = 0; begin < 8; begin += SPAN) {
        I dot[TILE_ROWS][VECS];
        UNROLL for (int j = begin; j < begin + SPAN; j++) {
            I w[VECS];
            UNROLL for (int h = 0; h < VECS; h++) w[h] = weights_at(q, j, h);
            UNROLL for (int r = 0; r < ROWS; r++) {
                I v = i_set(four_at(x[r][b].q + 32 * sub + 4 * j));
                UNROLL for (int h = 0; h < VECS; h++) {
                    if (VNNI) dot[r][h] = DPBUSD(j == begin ? i_zero() : dot[r][h], w[h], v);
                    else dot[r][h] = j == begin ? i_maddubs(w[h], v) : i_add16(dot[r][h], i_maddubs(w[h], v));
                    KEEP(dot[r][h]);
                }
            }
        }
        UNROLL for (int h = 0; h < VECS; h++) {
            I s = i_load(scale[type == TD_Q6_K ? begin / 4 : 0] + h * WIDTH);
            UNROLL for (int r = 0; r < ROWS; r++) acc[r][h] = i_add(acc[r][h], VNNI ? i_mul(dot[r][h], s) : i_madd(dot[r][h], s));
        }
    }
}

INLINE void tile_kquant(const td_dtype type, const panel *p, int group, const x_tile *x, int blocks, const int ROWS, F total[TILE_ROWS][VECS])
{
    const super_scales *s = &p->s.super[group];
    const int PER_SUB = type == TD_Q6_K ? 2 : 1;
    for (int b = 0; b < blocks; b++) {
        I acc[TILE_ROWS][VECS], low[TILE_ROWS][VECS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) acc[r][h] = i_zero(), low[r][h] = i_zero();
        for (int sub = 0; sub < 8; sub++) sub_block(type, p->q[group] + (size_t)(b * 8 + sub) * 32 * GROUP, s->scale[b] + sub * PER_SUB, x->q8k, b, sub, ROWS, acc);
        UNROLL for (int j = 0; j < 4 * PER_SUB; j++)
            UNROLL for (int h = 0; h < VECS; h++) {
                I m = i_load(s->pair[b][j] + h * WIDTH);
                UNROLL for (int r = 0; r < ROWS; r++) low[r][h] = i_add(low[r][h], i_madd(m, i_set(type == TD_Q6_K ? four_at(x->q8k[r][b].sums + 2 * j) : x->sums[b][r][j])));
            }
        UNROLL for (int h = 0; h < VECS; h++) {
            F d = f_load(s->d[b] + h * WIDTH), dmin = f_load(s->dmin[b] + h * WIDTH);
            UNROLL for (int r = 0; r < ROWS; r++) {
                F dx = f_set(x->q8k[r][b].d);
                if (type == TD_Q6_K) acc[r][h] = i_sub(acc[r][h], i_shl(low[r][h], 5));
                total[r][h] = f_fma(f_of_i(acc[r][h]), f_mul(d, dx), total[r][h]);
                if (type != TD_Q6_K) total[r][h] = f_fnma(f_of_i(low[r][h]), f_mul(dmin, dx), total[r][h]);
            }
        }
    }
}

/* ---- the loops around them --------------------------------------------------------------------------------------------------------------- */

INLINE void load_x(const td_matmul_job *job, const td_dtype type, int first_row, int64_t begin, int n, const int ROWS, x_tile *x)
{
    for (int r = 0; r < ROWS; r++) {
        if (td_act_kind_of(type) == TD_ACT_Q8K) {
            x->q8k[r] = (const td_q8k *)row_of(job, first_row + r) + begin / TD_QK_BLOCK;
            if (type == TD_Q6_K) continue;
            for (int b = 0; b < n / TD_QK_BLOCK; b++) {
                const int16_t *s = x->q8k[r][b].sums;
                _mm_storeu_si128((void *)x->sums[b][r], _mm_hadd_epi16(_mm_loadu_si128((const void *)s), _mm_loadu_si128((const void *)(s + 8))));
            }
            continue;
        }
        x->q8[r] = (const td_q8 *)row_of(job, first_row + r) + begin / TD_Q_BLOCK;
        for (int b = 0; b < n / TD_Q_BLOCK; b++) {
            const td_q8 *q = &x->q8[r][b];
            x->d[b][r] = q->d;
            x->offset[b][r] = (type == TD_Q8_0 ? -128 : -8) * q->sum;
            if (type == TD_Q8_0 && !VNNI) {
                __m256i v = _mm256_loadu_si256((const void *)q->q);
                _mm256_storeu_si256((void *)x->words[b][r], _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
                _mm256_storeu_si256((void *)(x->words[b][r] + 8), _mm256_srai_epi16(v, 8));
            }
        }
    }
}

INLINE void panel_tile(const td_matmul_job *job, const td_dtype type, panel *p, int first_row, int64_t out, int64_t begin, int n, const int ROWS)
{
    x_tile x;
    load_x(job, type, first_row, begin, n, ROWS, &x);
    for (int g = 0; g < GROUPS && out + g * GROUP < job->out_end; g++) {
        F total[TILE_ROWS][VECS];
        float *y = job->y + first_row * job->y_stride + out + g * GROUP;
        int64_t left = job->out_end - out - g * GROUP;
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) total[r][h] = begin == 0 ? f_zero() : f_load_n(y + r * job->y_stride + h * WIDTH, left - h * WIDTH);
        fetch_some(&p->next);
        if (td_act_kind_of(type) == TD_ACT_Q8) tile_q8(type, p, g, &x, n / TD_Q_BLOCK, ROWS, total);
        else tile_kquant(type, p, g, &x, n / TD_QK_BLOCK, ROWS, total);
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) f_store_n(y + r * job->y_stride + h * WIDTH, total[r][h], left - h * WIDTH);
    }
}

INLINE void panel_rows(const td_matmul_job *job, const td_dtype type, panel *p, int64_t out, int64_t begin, int n)
{
    int r = 0;
    for (; r + TILE_ROWS <= job->rows; r += TILE_ROWS) panel_tile(job, type, p, r, out, begin, n, TILE_ROWS);
    switch (job->rows - r) {
    case 1: panel_tile(job, type, p, r, out, begin, n, 1); break;
    case 2: panel_tile(job, type, p, r, out, begin, n, 2); break;
#if defined(__AVX512F__)
    case 3: panel_tile(job, type, p, r, out, begin, n, 3); break;
    case 4: panel_tile(job, type, p, r, out, begin, n, 4); break;
    case 5: panel_tile(job, type, p, r, out, begin, n, 5); break;
#endif
    default: break;
    }
}

INLINE void matmul(const td_matmul_job *job, const td_dtype type)
{
    const int chunk = type == TD_Q8_0 && !VNNI ? CHUNK_WORDS : CHUNK;
    int64_t k = job->w->shape[1], row_bytes = (int64_t)td_dtype_row_bytes(type, k);
    if (job->rows <= FEW_ROWS || k == 0) {
        if (td_act_kind_of(type) == TD_ACT_Q8) WIDE(gemv_q8)(job);
        else WIDE(gemv_kquant)(job);
        return;
    }
    panel p;
    for (int64_t out = job->out_begin; out < job->out_end; out += PANEL_OUTS) {
        for (int64_t begin = 0; begin < k; begin += chunk) {
            int n = (int)TD_MIN(k - begin, chunk);
            for (int g = 0; g < GROUPS && out + g * GROUP < job->out_end; g++) unpack_group(job, type, out + g * GROUP, begin, n, &p, g);
            bool across = begin + n >= k; /* the next panel is of the next outputs */
            int64_t next_out = across ? out + PANEL_OUTS : out, next_begin = across ? 0 : begin + n;
            p.next = fetch_plan((const char *)job->w->data + next_out * row_bytes + (int64_t)td_dtype_row_bytes(type, next_begin), TD_MIN(PANEL_OUTS, job->out_end - next_out),
                (int64_t)td_dtype_row_bytes(type, TD_MIN(k - next_begin, chunk)), row_bytes, (int64_t)(job->rows + TILE_ROWS - 1) / TILE_ROWS * GROUPS);
            panel_rows(job, type, &p, out, begin, n);
        }
    }
}

void WIDE(matmul_q8_0)(const td_matmul_job *job) { matmul(job, TD_Q8_0); }
void WIDE(matmul_q4_0)(const td_matmul_job *job) { matmul(job, TD_Q4_0); }
void WIDE(matmul_q4_k)(const td_matmul_job *job) { matmul(job, TD_Q4_K); }
void WIDE(matmul_q5_k)(const td_matmul_job *job) { matmul(job, TD_Q5_K); }
void WIDE(matmul_q6_k)(const td_matmul_job *job) { matmul(job, TD_Q6_K); }
