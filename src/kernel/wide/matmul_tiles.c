/*
 * matmul_tiles.c - products with Q8_0, Q4_0 and k-quants on AMX tiles, lanes being outputs. A tile of activations is 16 rows of 32 or 64 bytes of K as they are; a tile of weights is
 * the same K of 16 outputs in columns of four, which is how packed Q8_0 lies in memory (tensor/pack.h): it is loaded from there, everything else is brought into columns piece by
 * piece (which stay in L1). The tile product is the exact integer sum that kernel.h asks for; the scales come in afterwards. Few rows go to the vector products of VNNI.
 *
 * k-quants: scale * quant does not fit a byte, so the scale goes as digits: 6 bits as low + 8 * high (Q4_K, Q5_K: up to 31 * 7), 8 bits as four of two bits (Q6_K: (q - 32) * digit,
 * the top digit signed). Each digit's plane is a product of its own over all 256 of K, and the planes are added as integers. Sums of minimums are products too: the activations'
 * sums, cut into s = 128 * high + low, times bytes of minimums.
 */
#include "kernel/wide/tiles.h"
#include "kernel/wide/unpack.h"

enum { TILE = 16, TILES = 4, CHUNK = 2048, BLOCKS = CHUNK / TD_Q_BLOCK, PIECE = 32, BATCH = 8, SUPERS = CHUNK / TD_QK_BLOCK, PLANES = 4, STEPS = 4 };

/* Activations of up to TILES * TILE rows and CHUNK of K. Rows that do not exist are never given out. */
typedef struct {
    union {
        _Alignas(64) int8_t q8[TILES][BLOCKS][TILE][32];
        int8_t q8k[TILES][SUPERS][STEPS][TILE][64];
    };
    int8_t sums[TILES][SUPERS][2][TILE][8]; /* of 32: low and high part */
    float d[TILES][BLOCKS][TILE];
} x_tiles;

/* Weights of 16 outputs: columns of four k. */
typedef struct {
    _Alignas(64) int8_t q[PIECE][8][64];
    F d[PIECE];
} piece_q8;

typedef struct {
    _Alignas(64) uint8_t q[STEPS][PLANES][16][64];
    uint8_t mins[2][64];
    F d, dmin;
} super_block;

/* Where the weights of 16 outputs are: see point() and distances(). */
typedef struct {
    const uint8_t *row[TILE];
    I distance;
} weight_rows;

static tile_shapes shapes_of(const td_dtype type, int rows)
{
    const bool kquant = td_act_kind_of(type) == TD_ACT_Q8K;
    tile_shapes s = {.palette = 1};
    for (int t = 2; t < 6; t++) s.rows[t] = (uint8_t)rows, s.bytes[t] = 64; /* sums */
    s.rows[0] = (uint8_t)rows, s.bytes[0] = kquant ? 64 : 32;               /* activations */
    s.rows[1] = kquant ? 16 : 8, s.bytes[1] = 64;                          /* weights */
    s.rows[6] = (uint8_t)rows, s.bytes[6] = kquant ? 8 : 32;                /* sums of activations; a second tile of activations */
    s.rows[7] = kquant ? 2 : 8, s.bytes[7] = 64;                            /* minimums; a second tile of weights */
    return s;
}

/* ---- activations ------------------------------------------------------------------------------------------------------------------------- */

static void take_q8(const td_matmul_job *job, int first_row, int rows, int64_t begin, int blocks, x_tiles *x, int tile)
{
    const td_q8 *q[TILE];
    for (int r = 0; r < rows; r++) q[r] = (const td_q8 *)row_of(job, first_row + r) + begin / TD_Q_BLOCK;
    for (int b = 0; b < blocks; b++)
        for (int r = 0; r < rows; r++) {
            memcpy(x->q8[tile][b][r], q[r][b].q, 32);
            x->d[tile][b][r] = q[r][b].d;
        }
}

/* A step multiplies the two sub-blocks of 32 that share bytes. */
INLINE void take_q8k(const td_matmul_job *job, const td_dtype type, int first_row, int rows, int64_t begin, int blocks, x_tiles *x, int tile)
{
    for (int r = 0; r < rows; r++) {
        const td_q8k *q = (const td_q8k *)row_of(job, first_row + r) + begin / TD_QK_BLOCK;
        for (int b = 0; b < blocks; b++) {
            for (int step = 0; step < STEPS; step++) {
                memcpy(x->q8k[tile][b][step][r], q[b].q + 32 * first_of_pair(type, step), 32);
                memcpy(x->q8k[tile][b][step][r] + 32, q[b].q + 32 * second_of_pair(type, step), 32);
            }
            x->d[tile][b][r] = q[b].d;
            for (int j = 0; j < 8 && type != TD_Q6_K; j++) {
                int sum = q[b].sums[2 * j] + q[b].sums[2 * j + 1];
                x->sums[tile][b][0][r][j] = (int8_t)(sum & 127), x->sums[tile][b][1][r][j] = (int8_t)(sum >> 7);
            }
        }
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------------------------------- */

INLINE weight_rows point_weights(const td_matmul_job *job, const td_dtype type, const bool packed, int64_t out, int64_t begin)
{
    weight_rows w;
    point(job, type, packed, out, begin, TILE, w.row);
    w.distance = distances(packed, w.row);
    return w;
}

/* Block `number`: its scales, and its columns where they do not lie in memory as they are. */
INLINE void unpack_block(const td_dtype type, const bool packed, const weight_rows *w, int64_t number, piece_q8 *p, int b, fetch *next)
{
    const size_t at = (size_t)number * (size_t)block_bytes(type);
    I columns[8];
    fetch_some(next);
    p->d[b] = halves_at(packed, w->row, w->distance, at);
    if (type == TD_Q8_0 && packed) return;
    if (type == TD_Q8_0) columns32(packed, w->row, at + 2, columns);
    else q8_columns(type, packed, w->row, at, columns);
    UNROLL for (int i = 0; i < 8; i++) i_store(p->q[b][i], type == TD_Q4_0 ? _mm512_sub_epi8(columns[i], i_bytes(8)) : columns[i]);
}

/* The planes of a sub-block's eight columns: each output's quants times the digits of its scale. */
INLINE void put_planes(const td_dtype type, const super_scales *scales, int sub, const I w[8], uint8_t q[PLANES][16][64], int first)
{
    const int DIGITS = type == TD_Q6_K ? PLANES : 2;
    UNROLL for (int half = 0; half < 2; half++) {
        const I scale = type == TD_Q6_K ? i_add(scales->scale[2 * sub + half], i_set(128)) : scales->scale[sub];
        UNROLL for (int plane = 0; plane < DIGITS; plane++) {
            const I digit = type == TD_Q6_K ? i_and(i_shr(scale, 2 * plane), i_set(3)) : i_and(i_shr(scale, 3 * plane), i_set(7));
            const I words = i_or(digit, i_shl(digit, 16)), many = i_or(i_shl(words, 5), i_shl(words, 13)); /* 32 * digit in every byte */
            UNROLL for (int i = 4 * half; i < 4 * half + 4; i++) {
                I product = _mm512_mullo_epi16(w[i], words); /* two bytes at once: no product reaches 256 */
                if (type == TD_Q6_K && plane == PLANES - 1) product = _mm512_add_epi8(_mm512_sub_epi8(product, _mm512_add_epi8(w[i], w[i])), i_bytes(64)); /* the top digit less 2 */
                if (type == TD_Q6_K) product = _mm512_sub_epi8(product, many);
                i_store(q[plane][first + i], product);
            }
        }
    }
}

INLINE void unpack_super(const td_dtype type, const bool packed, const weight_rows *w, int64_t number, super_block *s, fetch *next)
{
    const size_t at = (size_t)number * (size_t)block_bytes(type);
    super_scales scales;
    scales_of(type, packed, w->row, at, &scales);
    s->d = scales.d;
    UNROLL for (int step = 0; step < STEPS; step++) {
        I first[8], second[8];
        fetch_some(next);
        pair_columns(type, packed, w->row, at, step, first, second);
        put_planes(type, &scales, first_of_pair(type, step), first, s->q[step], 0);
        put_planes(type, &scales, second_of_pair(type, step), second, s->q[step], 8);
    }
    if (type == TD_Q6_K) return;
    s->dmin = scales.dmin;
    UNROLL for (int i = 0; i < 2; i++) { /* pairs of minimums as bytes */
        I low = i_or(scales.pair[2 * i], i_shr(scales.pair[2 * i], 8)), high = i_or(scales.pair[2 * i + 1], i_shr(scales.pair[2 * i + 1], 8));
        i_store(s->mins[i], join_halves(low, high));
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------------------------------- */

/* The weights of block `number` for a tile load: packed Q8_0 where it lies, others from the piece. */
#define LOAD_WEIGHTS(t, number, i)                                                                                              \
    do {                                                                                                                        \
        if (type == TD_Q8_0 && packed) TILE_LOAD(t, w->row[0] + ((number) * block_bytes(type) + 2) * TD_PACK_ROWS, 64);         \
        else TILE_LOAD(t, p->q[i], 64);                                                                                         \
    } while (0)
#define BLOCK_PRODUCT(a, b, c, i)                              \
    do {                                                       \
        TILE_LOAD(a, x->q8[tile][first_block + (i)], 32);      \
        LOAD_WEIGHTS(b, first_block + (i), i);                 \
        TILE_ZERO(c);                                          \
        TILE_DOT_SS(c, a, b);                                  \
    } while (0)

INLINE void add_block(const piece_q8 *p, const x_tiles *x, int tile, int64_t first_block, int i, int32_t sums[TILE][TILE], F total[TILE])
{
    const float *d = x->d[tile][first_block + i];
    UNROLL for (int r = 0; r < TILE; r++) total[r] = f_fma(f_of_i(i_load(sums[r])), f_mul(p->d[i], f_set(d[r])), total[r]);
}

/* Some blocks before they are loaded as tiles: a tile row read right after it was written would wait. */
INLINE void unpack_ahead(const td_dtype type, const bool packed, const weight_rows *w, int64_t first_block, int from, int to, piece_q8 *p, fetch *next)
{
    for (int i = from; i < to; i++) unpack_block(type, packed, w, first_block + i, p, i, next);
}

/* Adds the blocks of a piece to the totals of 16 outputs. The first tile of rows unpacks the piece. */
INLINE void piece_rows(const td_dtype type, const bool packed, const weight_rows *w, piece_q8 *p, int64_t first_block, int blocks, const x_tiles *x, int tile, fetch *next, F total[TILE])
{
    _Alignas(64) int32_t sums[4][TILE][TILE];
    int i = 0;
    for (; i + 4 <= blocks; i += 4) {
        if (tile == 0 && i % BATCH == 0) unpack_ahead(type, packed, w, first_block, i, TD_MIN(i + BATCH, blocks), p, next);
        BLOCK_PRODUCT(0, 1, 2, i);
        BLOCK_PRODUCT(6, 7, 3, i + 1);
        BLOCK_PRODUCT(0, 1, 4, i + 2);
        BLOCK_PRODUCT(6, 7, 5, i + 3);
        TILE_STORE(2, sums[0], 64);
        TILE_STORE(3, sums[1], 64);
        TILE_STORE(4, sums[2], 64);
        TILE_STORE(5, sums[3], 64);
        UNROLL for (int j = 0; j < 4; j++) add_block(p, x, tile, first_block, i + j, sums[j], total);
    }
    for (; i < blocks; i++) {
        if (tile == 0 && i % BATCH == 0) unpack_ahead(type, packed, w, first_block, i, TD_MIN(i + BATCH, blocks), p, next);
        BLOCK_PRODUCT(0, 1, 2, i);
        TILE_STORE(2, sums[0], 64);
        add_block(p, x, tile, first_block, i, sums[0], total);
    }
}

/* The tile products of one super-block: planes 0 and 1 with low and high sums of minimums in tiles 2 to 5, or Q6_K's four planes. */
INLINE void super_products(const td_dtype type, const super_block *s, const x_tiles *x, int tile, int b)
{
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_ZERO(4);
    TILE_ZERO(5);
    UNROLL for (int step = 0; step < STEPS; step++) {
        TILE_LOAD(0, x->q8k[tile][b][step], 64);
        TILE_LOAD(1, s->q[step][0], 64);
        if (type == TD_Q6_K) TILE_DOT_SS(2, 0, 1);
        else TILE_DOT_SU(2, 0, 1);
        TILE_LOAD(1, s->q[step][1], 64);
        if (type == TD_Q6_K) TILE_DOT_SS(3, 0, 1);
        else TILE_DOT_SU(3, 0, 1);
        if (type == TD_Q6_K) {
            TILE_LOAD(1, s->q[step][2], 64);
            TILE_DOT_SS(4, 0, 1);
            TILE_LOAD(1, s->q[step][3], 64);
            TILE_DOT_SS(5, 0, 1);
        }
    }
    if (type != TD_Q6_K) {
        TILE_LOAD(7, s->mins, 64);
        TILE_LOAD(6, x->sums[tile][b][0], 8);
        TILE_DOT_SU(4, 6, 7);
        TILE_LOAD(6, x->sums[tile][b][1], 8);
        TILE_DOT_SU(5, 6, 7);
    }
}

/* total + the scaled sums of one vector: d, dmin times the activations' scale. */
INLINE F super_sum(const td_dtype type, I a, I b, I c, I d, F scale, F scale_min, F total)
{
    if (type == TD_Q6_K) return f_fma(f_of_i(i_add(i_add(a, i_shl(b, 2)), i_add(i_shl(c, 4), i_shl(d, 6)))), scale, total);
    total = f_fma(f_of_i(i_add(a, i_shl(b, 3))), scale, total);
    return f_fnma(f_of_i(i_add(c, i_shl(d, 7))), scale_min, total);
}

INLINE void super_rows(const td_dtype type, const super_block *s, const x_tiles *x, int tile, int b, F total[TILE])
{
    _Alignas(64) int32_t sums[4][TILE][TILE];
    super_products(type, s, x, tile, b);
    TILE_STORE(2, sums[0], 64);
    TILE_STORE(3, sums[1], 64);
    TILE_STORE(4, sums[2], 64);
    TILE_STORE(5, sums[3], 64);
    UNROLL for (int r = 0; r < TILE; r++) {
        F d = f_set(x->d[tile][b][r]);
        total[r] = super_sum(type, i_load(sums[0][r]), i_load(sums[1][r]), i_load(sums[2][r]), i_load(sums[3][r]), f_mul(s->d, d), type == TD_Q6_K ? d : f_mul(s->dmin, d), total[r]);
    }
}

/* ---- loops ------------------------------------------------------------------------------------------------------------------------------- */

/* Up to TILES * TILE rows and a chunk of K, all outputs. */
INLINE void chunk_rows(const td_matmul_job *job, const td_dtype type, const bool packed, int first_row, int rows, int64_t begin, int n, x_tiles *x)
{
    const bool q8 = td_act_kind_of(type) == TD_ACT_Q8;
    const int tiles = (rows + TILE - 1) / TILE, blocks = n / (q8 ? TD_Q_BLOCK : TD_QK_BLOCK), piece = q8 ? PIECE : 1;
    F kept[TILES][TILE];
    for (int t = 0; t < tiles; t++) {
        int count = TD_MIN(rows - t * TILE, TILE);
        if (q8) take_q8(job, first_row + t * TILE, count, begin, blocks, x, t);
        else take_q8k(job, type, first_row + t * TILE, count, begin, blocks, x, t);
    }
    for (int64_t out = job->out_begin; out < job->out_end; out += TILE) {
        weight_rows w = point_weights(job, type, packed, out, begin);
        fetch next = fetch_outs(job, type, packed, out + TILE, TILE, begin, n, (int64_t)blocks * (q8 ? 1 : STEPS));
        for (int b = 0; b < blocks; b += piece) {
            piece_q8 p;
            super_block s;
            const int count = TD_MIN(piece, blocks - b);
            if (!q8) unpack_super(type, packed, &w, b, &s, &next);
            for (int t = 0; t < tiles; t++) {
                F total[TILE];
                const int own = TD_MIN(rows - t * TILE, TILE);
                float *y = job->y + (first_row + t * TILE) * job->y_stride + out;
                UNROLL for (int r = 0; r < TILE; r++) total[r] = b > 0 ? kept[t][r] : begin > 0 && r < own ? f_load_n(y + r * job->y_stride, job->out_end - out) : f_zero();
                if (q8) piece_rows(type, packed, &w, &p, b, count, x, t, &next, total);
                else super_rows(type, &s, x, t, b, total);
                if (b + count < blocks) UNROLL for (int r = 0; r < TILE; r++) kept[t][r] = total[r];
                else UNROLL for (int r = 0; r < TILE; r++) if (r < own) f_store_n(y + r * job->y_stride, total[r], job->out_end - out);
            }
        }
    }
}

INLINE void all_rows(const td_matmul_job *job, const td_dtype type, const bool packed)
{
    x_tiles x;
    for (int row = 0; row < job->rows; row += TILES * TILE)
        for (int64_t begin = 0; begin < job->w->shape[1]; begin += CHUNK)
            chunk_rows(job, type, packed, row, TD_MIN(job->rows - row, TILES * TILE), begin, (int)TD_MIN(job->w->shape[1] - begin, CHUNK), &x);
}

/* Below this many rows the vector products are faster (measured): the weights' way from memory is what counts there, and a tile makes it no shorter. */
INLINE int rows_least(const td_dtype type, const bool packed) { return type == TD_Q8_0 && packed ? 24 : type == TD_Q8_0 || type == TD_Q6_K ? 12 : 9; }

INLINE void matmul(const td_matmul_job *job, const td_dtype type, void (*vectors)(const td_matmul_job *))
{
    if (job->rows < rows_least(type, job->w->packed)) {
        vectors(job);
        return;
    }
    const tile_shapes shapes = shapes_of(type, TD_MIN(job->rows, TILE));
    TILE_CONFIGURE(&shapes);
    if (job->w->packed) all_rows(job, type, true);
    else all_rows(job, type, false);
    TILE_RELEASE();
}

void WIDE(matmul_q8_0)(const td_matmul_job *job) { matmul(job, TD_Q8_0, td_vnni_matmul_q8_0); }
void WIDE(matmul_q4_0)(const td_matmul_job *job) { matmul(job, TD_Q4_0, td_vnni_matmul_q4_0); }
void WIDE(matmul_q4_k)(const td_matmul_job *job) { matmul(job, TD_Q4_K, td_vnni_matmul_q4_k); }
void WIDE(matmul_q5_k)(const td_matmul_job *job) { matmul(job, TD_Q5_K, td_vnni_matmul_q5_k); }
void WIDE(matmul_q6_k)(const td_matmul_job *job) { matmul(job, TD_Q6_K, td_vnni_matmul_q6_k); }
