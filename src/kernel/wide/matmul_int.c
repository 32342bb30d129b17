/*
 * matmul_int.c - products with Q8_0, Q4_0 and k-quants. Lanes are outputs: the blocks of WIDTH outputs are transposed so that one vector holds four neighbouring k of each,
 * and multiplied with four broadcast bytes of each row of activations. Scales come in once per block and output, as kernel.h orders.
 * Few rows: transposed and used at once. Many rows: a panel of weights (128 outputs x CHUNK of K) is transposed once and stays in L2, and tiles of two vectors of outputs
 * times some rows run over it while the next panel's weights are fetched ahead.
 *
 * Weights are made unsigned (Q8_0: +128, Q4_0: 0..15, Q6_K: 0..63) and the offset is taken off with the activations' sums, except that without VNNI Q8_0 goes as int16
 * pairs, because unsigned bytes times signed bytes would saturate in pairs.
 */
#include "kernel/wide/unpack.h"

#if defined(__AVX512VNNI__)
#define DPBUSD(acc, u, s) _mm512_dpbusd_epi32(acc, u, s)
#else
#define DPBUSD(acc, u, s) (acc)
#endif
#if defined(__AVX512F__)
enum { TILE_ROWS = 6 };
#else
enum { TILE_ROWS = 3 };
#endif
enum { VECS = 2, GROUP = VECS * WIDTH, PANEL_OUTS = 128, GROUPS = PANEL_OUTS / GROUP, CHUNK = 1024, CHUNK_WORDS = 512, BLOCKS = CHUNK / TD_Q_BLOCK, SUPERS = CHUNK / TD_QK_BLOCK };

/* What a tile of rows brings besides its bytes. Q8 blocks: d, and what takes off the weights' offset; without VNNI Q8_0's bytes as int16. k-quants: pairs of sums per 32. */
typedef struct {
    const td_q8 *q8[TILE_ROWS];
    const td_q8k *q8k[TILE_ROWS];
    float d[BLOCKS][TILE_ROWS];
    int32_t offset[BLOCKS][TILE_ROWS];
    int32_t sums[SUPERS][TILE_ROWS][4];
    int32_t words[VNNI ? 1 : CHUNK_WORDS / TD_Q_BLOCK][TILE_ROWS][16];
} x_tile;

/* ---- panels ------------------------------------------------------------------------------------------------------------------------------ */

/* q: [block of 32][4-byte column][GROUP outputs], one region per group; int16 pairs: [block][16 pairs][GROUP outputs]. */
typedef struct {
    _Alignas(64) uint8_t q[GROUPS][CHUNK * GROUP];
    union { F d[GROUPS][BLOCKS][VECS]; super_scales super[GROUPS][SUPERS][VECS]; } s;
    fetch next;
} panel;

INLINE void put_column(uint8_t *q, int column, int half, I v) { i_store(q + ((size_t)column * VECS + (size_t)half) * sizeof(I), v); }

/* GROUP outputs from out on, K from begin on for n elements. Outputs past the end repeat the last one. */
INLINE void unpack_group(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin, int n, panel *p, int group)
{
    const int block = td_act_kind_of(type) == TD_ACT_Q8 ? TD_Q_BLOCK : TD_QK_BLOCK;
    const size_t bytes = (size_t)block_bytes(type);
    const uint8_t *rows[GROUP];
    point(job, type, out, begin, GROUP, rows);
    uint8_t *q = p->q[group];
    for (int b = 0; b < n / block; b++) {
        size_t at = (size_t)b * bytes;
        UNROLL for (int h = 0; h < VECS; h++) {
            const uint8_t *const *own = rows + h * WIDTH;
            I w[8], second[8];
            if (block == TD_Q_BLOCK) {
                q8_columns(type, own, at, w);
                p->s.d[group][b][h] = halves_of(own, at);
                UNROLL for (int i = 0; i < 8; i++) {
                    if (type == TD_Q8_0 && !VNNI) { /* bytes 0 and 2, then 1 and 3 of the four */
                        put_column(q, i, h, i_sar16(i_shl16(w[i], 8), 8));
                        put_column(q, i + 8, h, i_sar16(w[i], 8));
                    } else {
                        put_column(q, i, h, w[i]);
                    }
                }
                continue;
            }
            scales_of(type, own, at, &p->s.super[group][b][h]);
            UNROLL for (int g = 0; g < 4; g++) {
                pair_columns(type, own, at, g, w, second);
                UNROLL for (int i = 0; i < 8; i++) put_column(q, first_of_pair(type, g) * 8 + i, h, w[i]), put_column(q, second_of_pair(type, g) * 8 + i, h, second[i]);
            }
        }
        q += (type == TD_Q8_0 && !VNNI ? 64 : block) * GROUP;
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
            F d = p->s.d[group][b][h];
            UNROLL for (int r = 0; r < ROWS; r++) {
                I sum = acc[r][h];
                if (!VNNI && !words) sum = i_add(i_madd(sum, i_set(0x10001)), i_set(x->offset[b][r]));
                total[r][h] = f_fma(f_of_i(sum), f_mul(d, f_set(x->d[b][r])), total[r][h]);
            }
        }
    }
}

/* Columns whose products are added before they are scaled; without VNNI as many as fit int16. */
INLINE int span_of(const td_dtype type) { return VNNI ? (type == TD_Q6_K ? 4 : 8) : type == TD_Q4_K ? 8 : type == TD_Q5_K ? 4 : 2; }
/* The scale of column `column` of sub-block `sub`. */
INLINE I scale_at(const td_dtype type, const super_scales *s, int sub, int column) { return s->scale[type == TD_Q6_K ? 2 * sub + column / 4 : sub]; }
INLINE I scaled(I dot, I scale) { return VNNI ? i_mul(dot, scale) : i_madd(dot, scale); }

INLINE void tile_kquant(const td_dtype type, const panel *p, int group, const x_tile *x, int blocks, const int ROWS, F total[TILE_ROWS][VECS])
{
    const int SPAN = span_of(type), PAIRS = type == TD_Q6_K ? 8 : 4;
    for (int b = 0; b < blocks; b++) {
        const super_scales *s = p->s.super[group][b];
        I acc[TILE_ROWS][VECS], low[TILE_ROWS][VECS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) acc[r][h] = i_zero();
        for (int sub = 0; sub < 8; sub++) {
            const uint8_t *q = p->q[group] + (size_t)(b * 8 + sub) * 32 * GROUP;
            UNROLL for (int begin = 0; begin < 8; begin += SPAN) {
                I dot[TILE_ROWS][VECS];
                UNROLL for (int j = begin; j < begin + SPAN; j++) {
                    I w[VECS];
                    UNROLL for (int h = 0; h < VECS; h++) w[h] = weights_at(q, j, h);
                    UNROLL for (int r = 0; r < ROWS; r++) {
                        I v = i_set(four_at(x->q8k[r][b].q + 32 * sub + 4 * j));
                        UNROLL for (int h = 0; h < VECS; h++) {
                            if (VNNI) dot[r][h] = DPBUSD(j == begin ? i_zero() : dot[r][h], w[h], v);
                            else dot[r][h] = j == begin ? i_maddubs(w[h], v) : i_add16(dot[r][h], i_maddubs(w[h], v));
                            KEEP(dot[r][h]);
                        }
                    }
                }
                UNROLL for (int h = 0; h < VECS; h++)
                    UNROLL for (int r = 0; r < ROWS; r++) acc[r][h] = i_add(acc[r][h], scaled(dot[r][h], scale_at(type, &s[h], sub, begin)));
            }
        }
        UNROLL for (int h = 0; h < VECS; h++)
            UNROLL for (int r = 0; r < ROWS; r++) {
                F dx = f_set(x->q8k[r][b].d);
                low[r][h] = i_zero();
                UNROLL for (int j = 0; j < PAIRS; j++) low[r][h] = i_add(low[r][h], i_madd(s[h].pair[j], i_set(type == TD_Q6_K ? four_at(x->q8k[r][b].sums + 2 * j) : x->sums[b][r][j])));
                if (type == TD_Q6_K) acc[r][h] = i_sub(acc[r][h], i_shl(low[r][h], 5));
                total[r][h] = f_fma(f_of_i(acc[r][h]), f_mul(s[h].d, dx), total[r][h]);
                if (type != TD_Q6_K) total[r][h] = f_fnma(f_of_i(low[r][h]), f_mul(s[h].dmin, dx), total[r][h]);
            }
    }
}

/* ---- few rows: unpacked and used at once, without a panel -------------------------------------------------------------------------------- */

/* start + dots of eight columns with 32 activations. Q8_0 without VNNI as int16. */
INLINE I dot32(const td_dtype type, const I w[8], const int8_t *q, I start)
{
    if (VNNI) {
        UNROLL for (int j = 0; j < 8; j++) start = DPBUSD(start, w[j], i_set(four_at(q + 4 * j)));
    } else if (type == TD_Q8_0) {
        UNROLL for (int j = 0; j < 8; j++) {
            I v = i_set(four_at(q + 4 * j));
            start = i_add(start, i_madd(i_sar16(i_shl16(w[j], 8), 8), i_sar16(i_shl16(v, 8), 8)));
            start = i_add(start, i_madd(i_sar16(w[j], 8), i_sar16(v, 8)));
        }
    } else {
        I sum = i_maddubs(w[0], i_set(four_at(q)));
        UNROLL for (int j = 1; j < 8; j++) sum = i_add16(sum, i_maddubs(w[j], i_set(four_at(q + 4 * j))));
        start = i_add(start, i_madd(sum, i_set(0x10001)));
    }
    return start;
}

/* WIDTH weight rows are read in turn, in pieces shorter than a cache line, which the hardware fetches too late: so the next WIDTH rows come into L2 meanwhile, in the order in
 * which they lie. */
INLINE fetch fetch_next(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t blocks)
{
    int64_t row_bytes = (int64_t)td_dtype_row_bytes(type, job->w->shape[1]);
    return fetch_plan((const char *)job->w->data + (out + WIDTH) * row_bytes, TD_MIN(WIDTH, job->out_end - out - WIDTH), row_bytes, row_bytes, blocks);
}

INLINE void direct_q8(const td_matmul_job *job, const td_dtype type, int first_row, const int ROWS)
{
    int64_t blocks = job->w->shape[1] / TD_Q_BLOCK;
    const uint8_t *rows[WIDTH];
    const td_q8 *x[TILE_ROWS];
    for (int r = 0; r < ROWS; r++) x[r] = row_of(job, first_row + r);
    for (int64_t out = job->out_begin; out < job->out_end; out += WIDTH) {
        F total[TILE_ROWS];
        UNROLL for (int r = 0; r < ROWS; r++) total[r] = f_zero();
        point(job, type, out, 0, WIDTH, rows);
        fetch next = fetch_next(job, type, out, blocks);
        const I distance = distances(rows);
        for (int64_t b = 0; b < blocks; b++) {
            size_t at = (size_t)b * (size_t)block_bytes(type);
            fetch_some(&next);
            I w[8];
            q8_columns(type, rows, at, w);
            F d = halves_at(rows, distance, at);
            UNROLL for (int r = 0; r < ROWS; r++) {
                I sum = i_set(x[r][b].sum), offset = type == TD_Q4_0 ? i_shl(sum, 3) : VNNI ? i_shl(sum, 7) : i_zero();
                total[r] = f_fma(f_of_i(dot32(type, w, x[r][b].q, i_sub(i_zero(), offset))), f_mul(d, f_set(x[r][b].d)), total[r]);
            }
        }
        for (int r = 0; r < ROWS; r++) f_store_n(job->y + (first_row + r) * job->y_stride + out, total[r], job->out_end - out);
    }
}

/* acc + scaled dots of one sub-block. */
INLINE I sub_block(const td_dtype type, const I w[8], const int8_t *q, const super_scales *s, int sub, I acc)
{
    const int SPAN = span_of(type);
    UNROLL for (int begin = 0; begin < 8; begin += SPAN) {
        I dot = VNNI ? i_zero() : i_maddubs(w[begin], i_set(four_at(q + 4 * begin)));
        UNROLL for (int j = begin + !VNNI; j < begin + SPAN; j++) {
            I v = i_set(four_at(q + 4 * j));
            if (VNNI) dot = DPBUSD(dot, w[j], v);
            else dot = i_add16(dot, i_maddubs(w[j], v));
        }
        acc = i_add(acc, scaled(dot, scale_at(type, s, sub, begin)));
    }
    return acc;
}

INLINE void direct_kquant(const td_matmul_job *job, const td_dtype type, int first_row, const int ROWS)
{
    int64_t blocks = job->w->shape[1] / TD_QK_BLOCK;
    const int PAIRS = type == TD_Q6_K ? 8 : 4;
    const uint8_t *rows[WIDTH];
    const td_q8k *x[TILE_ROWS];
    for (int r = 0; r < ROWS; r++) x[r] = row_of(job, first_row + r);
    for (int64_t out = job->out_begin; out < job->out_end; out += WIDTH) {
        F total[TILE_ROWS];
        UNROLL for (int r = 0; r < ROWS; r++) total[r] = f_zero();
        point(job, type, out, 0, WIDTH, rows);
        fetch next = fetch_next(job, type, out, blocks);
        for (int64_t b = 0; b < blocks; b++) {
            size_t at = (size_t)b * (size_t)block_bytes(type);
            fetch_some(&next);
            super_scales s;
            I acc[TILE_ROWS], first[8], second[8];
            scales_of(type, rows, at, &s);
            UNROLL for (int r = 0; r < ROWS; r++) acc[r] = i_zero();
            UNROLL for (int g = 0; g < 4; g++) {
                int a = first_of_pair(type, g), c = second_of_pair(type, g);
                pair_columns(type, rows, at, g, first, second);
                UNROLL for (int r = 0; r < ROWS; r++) acc[r] = sub_block(type, second, x[r][b].q + 32 * c, &s, c, sub_block(type, first, x[r][b].q + 32 * a, &s, a, acc[r]));
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                F dx = f_set(x[r][b].d);
                I low = i_zero();
                __m128i sums = _mm_hadd_epi16(_mm_loadu_si128((const void *)x[r][b].sums), _mm_loadu_si128((const void *)(x[r][b].sums + 8)));
                int32_t pairs[4];
                _mm_storeu_si128((void *)pairs, sums);
                UNROLL for (int j = 0; j < PAIRS; j++) low = i_add(low, i_madd(s.pair[j], i_set(type == TD_Q6_K ? four_at(x[r][b].sums + 2 * j) : pairs[j])));
                if (type == TD_Q6_K) acc[r] = i_sub(acc[r], i_shl(low, 5));
                total[r] = f_fma(f_of_i(acc[r]), f_mul(s.d, dx), total[r]);
                if (type != TD_Q6_K) total[r] = f_fnma(f_of_i(low), f_mul(s.dmin, dx), total[r]);
            }
        }
        for (int r = 0; r < ROWS; r++) f_store_n(job->y + (first_row + r) * job->y_stride + out, total[r], job->out_end - out);
    }
}

INLINE void direct(const td_matmul_job *job, const td_dtype type, int first_row, const int ROWS)
{
    if (td_act_kind_of(type) == TD_ACT_Q8) direct_q8(job, type, first_row, ROWS);
    else direct_kquant(job, type, first_row, ROWS);
}

INLINE void direct_rows(const td_matmul_job *job, const td_dtype type)
{
    switch (job->rows) {
    case 1: direct(job, type, 0, 1); break;
    case 2: direct(job, type, 0, 2); break;
    case 3: direct(job, type, 0, 3); break;
#if defined(__AVX512F__)
    case 4: direct(job, type, 0, 4); break;
    case 5: direct(job, type, 0, 5); break;
    case 6: direct(job, type, 0, 6); break;
#endif
    default: break;
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
    if (job->rows <= TILE_ROWS) {
        direct_rows(job, type);
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

#if defined(TD_TILES)
#define ENTRY(type) WIDE(vectors_##type) /* matmul_tiles.c has the table's entries and uses these for few rows */
#else
#define ENTRY(type) WIDE(matmul_##type)
#endif
void ENTRY(q8_0)(const td_matmul_job *job) { matmul(job, TD_Q8_0); }
void ENTRY(q4_0)(const td_matmul_job *job) { matmul(job, TD_Q4_0); }
void ENTRY(q4_k)(const td_matmul_job *job) { matmul(job, TD_Q4_K); }
void ENTRY(q5_k)(const td_matmul_job *job) { matmul(job, TD_Q5_K); }
void ENTRY(q6_k)(const td_matmul_job *job) { matmul(job, TD_Q6_K); }
