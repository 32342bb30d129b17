/*
 * matmul_int.c - products with Q8_0, Q4_0 and k-quants. Lanes are outputs: the blocks of WIDTH outputs are transposed so that one vector holds four neighbouring k of each,
 * and multiplied with four broadcast bytes of each row of activations. Scales come in once per block and output, as kernel.h orders.
 * Up to DIRECT_ROWS rows: transposed and used at once, from registers. More: a panel of weights (128 outputs x CHUNK of K) is transposed once and stays in L2, and tiles of
 * two vectors of outputs times some rows run over it while the next panel's weights are fetched ahead, some cache lines a block: more at once would hold all fill buffers and
 * wait. Packed weights (tensor/pack.h) need no transposing and are one stream: up to PACKED_ROWS rows they are used straight from where they lie, in several passes.
 * Where one ends and the other begins is measured (bench/bench_kernel.c).
 *
 * Weights are made unsigned (Q8_0: +128, Q4_0: 0..15, Q6_K: 0..63) and the offset is taken off with the activations' sums. Without VNNI sums of two such
 * products of Q8_0 would saturate: panels hold int16 pairs, widened once for all rows; few rows, where every pass would widen, multiply magnitudes, the signs given to the activations.
 */
#include "kernel/wide/unpack.h"

/* acc + dots of four u8 with four s8 (only where VNNI is), and of two int16 with two int16. */
#if defined(__AVX512VNNI__)
#define DPBUSD(acc, u, s) _mm512_dpbusd_epi32(acc, u, s)
#define ADD_PAIRS(acc, a, b) _mm512_dpwssd_epi32(acc, a, b)
#else
#define DPBUSD(acc, u, s) ((void)(u), (void)(s), (acc))
#define ADD_PAIRS(acc, a, b) i_add(acc, i_madd(a, b))
#endif

#if defined(__AVX512F__)
enum { TILE_ROWS = 6, DIRECT_ROWS = 12, DIRECT_ROWS_K = VNNI ? 8 : 6, PACKED_ROWS = VNNI ? 36 : 16, PACKED_ROWS_K = VNNI ? 16 : 8 };
#else
enum { TILE_ROWS = 3, DIRECT_ROWS = 6, DIRECT_ROWS_K = 6, PACKED_ROWS = 36, PACKED_ROWS_K = 16 };
#endif
enum { VECS = 2, GROUP = VECS * WIDTH, PANEL_OUTS = 128, GROUPS = PANEL_OUTS / GROUP, CHUNK = 1024, CHUNK_WORDS = 512, PASSES_MAX = 16, BLOCKS = CHUNK / TD_Q_BLOCK, SUPERS = CHUNK / TD_QK_BLOCK };

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
INLINE void unpack_group(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int64_t begin, int n, panel *p, int group)
{
    const int block = td_act_kind_of(type) == TD_ACT_Q8 ? TD_Q_BLOCK : TD_QK_BLOCK;
    const size_t bytes = (size_t)block_bytes(type);
    const uint8_t *rows[GROUP];
    point(job, type, packed, out, begin, GROUP, rows);
    uint8_t *q = p->q[group];
    for (int b = 0; b < n / block; b++) {
        size_t at = (size_t)b * bytes;
        UNROLL for (int h = 0; h < VECS; h++) {
            const uint8_t *const *own = rows + h * WIDTH;
            I w[8], second[8];
            if (block == TD_Q_BLOCK) {
                q8_columns(type, packed, own, at, w);
                p->s.d[group][b][h] = halves_of(packed, own, at);
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
            scales_of(type, packed, own, at, &p->s.super[group][b][h]);
            UNROLL for (int g = 0; g < 4; g++) {
                pair_columns(type, packed, own, at, g, w, second);
                UNROLL for (int i = 0; i < 8; i++) put_column(q, first_of_pair(type, g) * 8 + i, h, w[i]), put_column(q, second_of_pair(type, g) * 8 + i, h, second[i]);
            }
        }
        q += (type == TD_Q8_0 && !VNNI ? 64 : block) * GROUP;
    }
}

/* ---- tiles ------------------------------------------------------------------------------------------------------------------------------- */

INLINE I weights_at(const uint8_t *q, int column, int half) { return i_load(q + ((size_t)column * VECS + (size_t)half) * sizeof(I)); }

/* Adds the blocks of one group to the totals of ROWS rows. */
INLINE void tile_q8(const td_dtype type, panel *p, int group, const x_tile *x, int blocks, const int ROWS, F total[TILE_ROWS][VECS])
{
    const uint8_t *q = p->q[group];
    const bool words = type == TD_Q8_0 && !VNNI;
    const int COLUMNS = words ? 16 : 8;
    for (int b = 0; b < blocks; b++, q += (words ? 64 : 32) * GROUP) {
        I acc[TILE_ROWS][VECS];
        fetch_some(&p->next);
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

INLINE void tile_kquant(const td_dtype type, panel *p, int group, const x_tile *x, int blocks, const int ROWS, F total[TILE_ROWS][VECS])
{
    const int SPAN = span_of(type), PAIRS = type == TD_Q6_K ? 8 : 4;
    for (int b = 0; b < blocks; b++) {
        const super_scales *s = p->s.super[group][b];
        I acc[TILE_ROWS][VECS], low[TILE_ROWS][VECS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) acc[r][h] = i_zero();
        for (int sub = 0; sub < 8; sub++) {
            const uint8_t *q = p->q[group] + (size_t)(b * 8 + sub) * 32 * GROUP;
            fetch_some(&p->next);
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
                UNROLL for (int j = 0; j < PAIRS; j++) low[r][h] = ADD_PAIRS(low[r][h], s[h].pair[j], i_set(type == TD_Q6_K ? four_at(x->q8k[r][b].sums + 2 * j) : x->sums[b][r][j]));
                if (type == TD_Q6_K) acc[r][h] = i_sub(acc[r][h], i_shl(low[r][h], 5));
                total[r][h] = f_fma(f_of_i(acc[r][h]), f_mul(s[h].d, dx), total[r][h]);
                if (type != TD_Q6_K) total[r][h] = f_fnma(f_of_i(low[r][h]), f_mul(s[h].dmin, dx), total[r][h]);
            }
    }
}

/* ---- few rows: unpacked and used at once, without a panel -------------------------------------------------------------------------------- */

/* Both functions go column by column, so that products next to each other do not wait for one another. */

/* acc + dots of eight columns with 32 activations of every row. Q8_0 without VNNI: the weights' sign goes to the activations, because 2 * 128 * 127 fits. */
INLINE void dots32(const td_dtype type, const I w[8], const td_q8 *const *x, int64_t b, const int ROWS, I acc[DIRECT_ROWS])
{
    const I ones = i_set(0x10001);
    I sum[DIRECT_ROWS];
    UNROLL for (int j = 0; j < 8; j++) {
        const int column = type == TD_Q4_0 ? j / 2 + j % 2 * 4 : j; /* those that share bytes */
        const I own = w[column], size = VNNI || type != TD_Q8_0 ? own : i_abs8(own);
        UNROLL for (int r = 0; r < ROWS; r++) {
            I v = i_set(four_at(x[r][b].q + 4 * column));
            if (VNNI) acc[r] = DPBUSD(acc[r], own, v);
            else if (type == TD_Q8_0) acc[r] = i_add(acc[r], i_madd(i_maddubs(size, i_negate8(v, own)), ones));
            else sum[r] = j == 0 ? i_maddubs(own, v) : i_add16(sum[r], i_maddubs(own, v)); /* 8 times 2 * 15 * 127 fits */
            if (VNNI || type == TD_Q8_0) KEEP(acc[r]);
            else KEEP(sum[r]);
        }
    }
    UNROLL for (int r = 0; !VNNI && type == TD_Q4_0 && r < ROWS; r++) acc[r] = i_add(acc[r], i_madd(sum[r], ones));
}

/* acc + scaled dots of sub-block `sub` of every row. */
INLINE void sub_block(const td_dtype type, const I w[8], const td_q8k *const *x, int64_t b, const super_scales *s, int sub, const int ROWS, I acc[DIRECT_ROWS_K])
{
    const int SPAN = span_of(type);
    UNROLL for (int begin = 0; begin < 8; begin += SPAN) {
        I dot[DIRECT_ROWS_K];
        UNROLL for (int j = begin; j < begin + SPAN; j++) {
            UNROLL for (int r = 0; r < ROWS; r++) {
                I v = i_set(four_at(x[r][b].q + 32 * sub + 4 * j));
                if (VNNI) dot[r] = DPBUSD(j == begin ? i_zero() : dot[r], w[j], v);
                else dot[r] = j == begin ? i_maddubs(w[j], v) : i_add16(dot[r], i_maddubs(w[j], v));
                KEEP(dot[r]);
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++) acc[r] = i_add(acc[r], scaled(dot[r], scale_at(type, s, sub, begin)));
    }
}

/* WIDTH weight rows are read in turn, in pieces shorter than a cache line, which the hardware fetches too late: so the next WIDTH rows come into L2 meanwhile, in the order in
 * which they lie. Packed: the next group of sixteen, or a part of it as large as what is read now; behind the
 * last one what the job says is read next. */
INLINE fetch fetch_next(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int64_t blocks)
{
    int64_t row_bytes = (int64_t)td_dtype_row_bytes(type, job->w->shape[1]);
    if (packed && out + TD_PACK_ROWS >= job->out_end && job->next) return fetch_plan(job->next, 1, (int64_t)job->next_bytes, (int64_t)job->next_bytes, blocks);
    if (packed) return fetch_plan((const char *)job->w->data + (out + TD_PACK_ROWS) * row_bytes, TD_MIN(WIDTH, job->out_end - out - TD_PACK_ROWS), row_bytes, row_bytes, blocks);
    return fetch_plan((const char *)job->w->data + (out + WIDTH) * row_bytes, TD_MIN(WIDTH, job->out_end - out - WIDTH), row_bytes, row_bytes, blocks);
}

/* WIDTH outputs from out on of ROWS rows from first_row on. Rows past the end repeat the last one and are not stored. */
INLINE void direct_q8(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int first_row, fetch *next, const int ROWS)
{
    int64_t blocks = job->w->shape[1] / TD_Q_BLOCK;
    const uint8_t *rows[WIDTH];
    const td_q8 *x[DIRECT_ROWS];
    F total[DIRECT_ROWS];
    for (int r = 0; r < ROWS; r++) x[r] = row_of(job, TD_MIN(first_row + r, job->rows - 1));
    UNROLL for (int r = 0; r < ROWS; r++) total[r] = f_zero();
    point(job, type, packed, out, 0, WIDTH, rows);
    const I distance = distances(packed, rows);
    for (int64_t b = 0; b < blocks; b++) {
        size_t at = (size_t)b * (size_t)block_bytes(type);
        fetch_some(next);
        I w[8];
        q8_columns(type, packed, rows, at, w);
        F d = halves_at(packed, rows, distance, at);
        I acc[DIRECT_ROWS];
        UNROLL for (int r = 0; r < ROWS; r++) {
            acc[r] = i_set(x[r][b].offset);
            if (type == TD_Q8_0) acc[r] = VNNI ? i_shl(acc[r], 4) : i_zero();
        }
        dots32(type, w, x, b, ROWS, acc);
        UNROLL for (int r = 0; r < ROWS; r++) total[r] = f_fma(f_of_i(acc[r]), f_mul(d, f_set(x[r][b].d)), total[r]);
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        if (first_row + r < job->rows) f_store_n(job->y + (first_row + r) * job->y_stride + out, total[r], job->out_end - out);
}

INLINE void direct_kquant(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int first_row, fetch *next, const int ROWS)
{
    int64_t blocks = job->w->shape[1] / TD_QK_BLOCK;
    const int PAIRS = type == TD_Q6_K ? 8 : 4;
    const uint8_t *rows[WIDTH];
    const td_q8k *x[DIRECT_ROWS_K];
    F total[DIRECT_ROWS_K];
    for (int r = 0; r < ROWS; r++) x[r] = row_of(job, TD_MIN(first_row + r, job->rows - 1));
    UNROLL for (int r = 0; r < ROWS; r++) total[r] = f_zero();
    point(job, type, packed, out, 0, WIDTH, rows);
    for (int64_t b = 0; b < blocks; b++) {
        size_t at = (size_t)b * (size_t)block_bytes(type);
        fetch_some(next);
        super_scales s;
        I acc[DIRECT_ROWS_K], first[8], second[8];
        scales_of(type, packed, rows, at, &s);
        UNROLL for (int r = 0; r < ROWS; r++) acc[r] = i_zero();
        UNROLL for (int g = 0; g < 4; g++) {
            int a = first_of_pair(type, g), c = second_of_pair(type, g);
            pair_columns(type, packed, rows, at, g, first, second);
            sub_block(type, first, x, b, &s, a, ROWS, acc);
            sub_block(type, second, x, b, &s, c, ROWS, acc);
        }
        UNROLL for (int r = 0; r < ROWS; r++) {
            F dx = f_set(x[r][b].d);
            I low = i_zero();
            __m128i sums = _mm_hadd_epi16(_mm_loadu_si128((const void *)x[r][b].sums), _mm_loadu_si128((const void *)(x[r][b].sums + 8)));
            int32_t pairs[4];
            _mm_storeu_si128((void *)pairs, sums);
            UNROLL for (int j = 0; j < PAIRS; j++) low = ADD_PAIRS(low, s.pair[j], i_set(type == TD_Q6_K ? four_at(x[r][b].sums + 2 * j) : pairs[j]));
            if (type == TD_Q6_K) acc[r] = i_sub(acc[r], i_shl(low, 5));
            total[r] = f_fma(f_of_i(acc[r]), f_mul(s.d, dx), total[r]);
            if (type != TD_Q6_K) total[r] = f_fnma(f_of_i(low), f_mul(s.dmin, dx), total[r]);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        if (first_row + r < job->rows) f_store_n(job->y + (first_row + r) * job->y_stride + out, total[r], job->out_end - out);
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
            x->offset[b][r] = type == TD_Q8_0 ? 16 * q->offset : q->offset;
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
        if (td_act_kind_of(type) == TD_ACT_Q8) tile_q8(type, p, g, &x, n / TD_Q_BLOCK, ROWS, total);
        else tile_kquant(type, p, g, &x, n / TD_QK_BLOCK, ROWS, total);
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < VECS; h++) f_store_n(y + r * job->y_stride + h * WIDTH, total[r][h], left - h * WIDTH);
    }
}

/* ---- the functions of a type: separate ones, because compilers' time grows faster than a function does ------------------------------------- */

typedef void direct_fn(const td_matmul_job *job, int64_t out, int first_row, fetch *next);
typedef void unpack_fn(const td_matmul_job *job, int64_t out, int64_t begin, int n, panel *p, int group);
typedef void tile_fn(const td_matmul_job *job, panel *p, int first_row, int64_t out, int64_t begin, int n);

typedef struct {
    direct_fn *direct[2][DIRECT_ROWS + 1]; /* [packed][rows of the pass] */
    unpack_fn *unpack[2];
    tile_fn *tile[TILE_ROWS + 1];
} functions;

/* All rows in passes that some function has the size of (FEW, MORE, MOST); the weights of a second pass are still near. */
static void direct_rows(const td_matmul_job *job, const td_dtype type, const functions *f)
{
    const bool q8 = td_act_kind_of(type) == TD_ACT_Q8, packed = job->w->packed;
    const int most = q8 ? DIRECT_ROWS : DIRECT_ROWS_K, middle = most == 12 ? 8 : most == 8 ? 6 : 4;
    int64_t blocks = job->w->shape[1] / (q8 ? TD_Q_BLOCK : TD_QK_BLOCK);
    int passes[PASSES_MAX], count = 0;
    for (int left = job->rows; left > 0; left -= passes[count++]) passes[count] = left > 2 * middle ? most : left > most ? middle : left;
    for (int64_t out = job->out_begin; out < job->out_end; out += WIDTH) {
        fetch next = fetch_next(job, type, packed, out, blocks * count);
        for (int i = 0, r = 0; i < count; r += passes[i++]) f->direct[packed][passes[i]](job, out, r, &next);
    }
}

static void product(const td_matmul_job *job, const td_dtype type, const functions *f)
{
    const int chunk = type == TD_Q8_0 && !VNNI ? CHUNK_WORDS : CHUNK;
    const int64_t k = job->w->shape[1];
    const bool q8 = td_act_kind_of(type) == TD_ACT_Q8, packed = job->w->packed;
    if (job->rows == 0) return;
    if (job->rows <= (packed ? (q8 ? PACKED_ROWS : PACKED_ROWS_K) : q8 ? DIRECT_ROWS : DIRECT_ROWS_K)) {
        direct_rows(job, type, f);
        return;
    }
    panel p;
    for (int64_t out = job->out_begin; out < job->out_end; out += PANEL_OUTS) {
        for (int64_t begin = 0; begin < k; begin += chunk) {
            int n = (int)TD_MIN(k - begin, chunk);
            for (int g = 0; g < GROUPS && out + g * GROUP < job->out_end; g++) f->unpack[packed](job, out + g * GROUP, begin, n, &p, g);
            bool across = begin + n >= k; /* the next panel is of the next outputs */
            int64_t next_out = across ? out + PANEL_OUTS : out, next_begin = across ? 0 : begin + n;
            p.next = fetch_outs(job, type, packed, next_out, PANEL_OUTS, next_begin, (int)TD_MIN(k - next_begin, chunk), (int64_t)(job->rows + TILE_ROWS - 1) / TILE_ROWS * GROUPS * (n / TD_Q_BLOCK));
            for (int r = 0; r < job->rows; r += TILE_ROWS) f->tile[TD_MIN(TILE_ROWS, job->rows - r)](job, &p, r, out, begin, n);
        }
    }
}

#define NOINLINE static __attribute__((noinline))
#define DIRECT(name, type, kind, ROWS) \
    NOINLINE void name##_packed_##ROWS(const td_matmul_job *job, int64_t out, int first_row, fetch *next) { direct_##kind(job, type, true, out, first_row, next, ROWS); } \
    NOINLINE void name##_rows_##ROWS(const td_matmul_job *job, int64_t out, int first_row, fetch *next) { direct_##kind(job, type, false, out, first_row, next, ROWS); }
#define TILE(name, type, ROWS) \
    NOINLINE void name##_tile_##ROWS(const td_matmul_job *job, panel *p, int first_row, int64_t out, int64_t begin, int n) { panel_tile(job, type, p, first_row, out, begin, n, ROWS); }
#define UNPACK(name, type) \
    NOINLINE void name##_unpack_packed(const td_matmul_job *job, int64_t out, int64_t begin, int n, panel *p, int group) { unpack_group(job, type, true, out, begin, n, p, group); } \
    NOINLINE void name##_unpack_rows(const td_matmul_job *job, int64_t out, int64_t begin, int n, panel *p, int group) { unpack_group(job, type, false, out, begin, n, p, group); }
#define ENTRY(name, type, UP_TO) \
    static const functions name = {{{UP_TO(name##_rows)}, {UP_TO(name##_packed)}}, {name##_unpack_rows, name##_unpack_packed}, {TILES(name##_tile)}}; \
    void WIDE(matmul_##name)(const td_matmul_job *job) { product(job, type, &name); }

/* There is no code for every number of rows: 5 go as 6, 7 as 8, 9 to 11 as 12, the last row computed again. */
#define FEW(name, type, kind) DIRECT(name, type, kind, 1) DIRECT(name, type, kind, 2) DIRECT(name, type, kind, 3) DIRECT(name, type, kind, 4) DIRECT(name, type, kind, 6)
#define UP_TO_FEW(f) NULL, f##_1, f##_2, f##_3, f##_4, f##_6, f##_6
#if defined(__AVX512F__)
#define MORE(name, type, kind) DIRECT(name, type, kind, 8)
#define UP_TO_MORE(f) UP_TO_FEW(f), f##_8, f##_8
#define MOST(name, type) DIRECT(name, type, q8, 12)
#define UP_TO_MOST(f) UP_TO_MORE(f), f##_12, f##_12, f##_12, f##_12
#define ALL_TILES(name, type) TILE(name, type, 1) TILE(name, type, 2) TILE(name, type, 3) TILE(name, type, 4) TILE(name, type, 5) TILE(name, type, 6)
#define TILES(f) NULL, f##_1, f##_2, f##_3, f##_4, f##_5, f##_6
#else
#define MORE(name, type, kind)
#define UP_TO_MORE(f) UP_TO_FEW(f)
#define MOST(name, type)
#define UP_TO_MOST(f) UP_TO_MORE(f)
#define ALL_TILES(name, type) TILE(name, type, 1) TILE(name, type, 2) TILE(name, type, 3)
#define TILES(f) NULL, f##_1, f##_2, f##_3
#endif

#if defined(__AVX512VNNI__) /* without it eight rows of k-quants are slower at once than four and four */
#define MORE_K(name, type) MORE(name, type, kquant)
#define UP_TO_MORE_K(f) UP_TO_MORE(f)
#else
#define MORE_K(name, type)
#define UP_TO_MORE_K(f) UP_TO_FEW(f)
#endif

#define Q8_TYPE(name, type) FEW(name, type, q8) MORE(name, type, q8) MOST(name, type) UNPACK(name, type) ALL_TILES(name, type) ENTRY(name, type, UP_TO_MOST)
#define KQUANT_TYPE(name, type) FEW(name, type, kquant) MORE_K(name, type) UNPACK(name, type) ALL_TILES(name, type) ENTRY(name, type, UP_TO_MORE_K)
Q8_TYPE(q8_0, TD_Q8_0)
Q8_TYPE(q4_0, TD_Q4_0)
KQUANT_TYPE(q4_k, TD_Q4_K)
KQUANT_TYPE(q5_k, TD_Q5_K)
KQUANT_TYPE(q6_k, TD_Q6_K)
