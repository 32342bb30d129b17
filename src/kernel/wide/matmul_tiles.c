/*
 * matmul_tiles.c - products with Q8_0, Q4_0 and k-quants on AMX tiles. A tile of weights is 16 outputs x 32 or 64 bytes of K: Q8_0's lie so in the file and are loaded from there,
 * the others are unpacked to bytes piece by piece (which stay in L1). A tile of activations is their K by 16 rows, made once for all outputs of the job. The tile product is
 * the exact integer sum that kernel.h asks for; the scales come in afterwards, lanes being rows. Few rows go to the vector products.
 *
 * k-quants: scale * quant does not fit a byte, so the scale goes as digits: 6 bits as low + 8 * high (Q4_K, Q5_K: up to 31 * 7), 8 bits as four of two bits (Q6_K: (q - 32) * digit,
 * the top digit signed). Each digit's plane is a product of its own over all 256 of K, and the planes are added as integers. Sums of minimums are products too: bytes of
 * minimums times the activations' sums, cut into s = 128 * high + low.
 */
#include "kernel/wide/tiles.h"
#include "kernel/wide/unpack.h"

enum { TILE = 16, TILES = 8, CHUNK = 2048, BLOCKS = CHUNK / TD_Q_BLOCK, PIECE = 32, BATCH = 8, SUPERS = CHUNK / TD_QK_BLOCK, PLANES = 4, STEPS = 4 };

/* Activations of up to TILES * TILE rows and CHUNK of K, as tiles [k / 4][row][k % 4]. */
typedef struct {
    union {
        _Alignas(64) int8_t q8[TILES][BLOCKS][8][TILE][4];
        int8_t q8k[TILES][SUPERS][STEPS][16][TILE][4];
    };
    int8_t sums[TILES][SUPERS][2][2][TILE][4]; /* of 32: low and high part */
    float d[TILES][BLOCKS][TILE];
} x_tiles;

/* Weights of 16 outputs. */
typedef struct {
    _Alignas(64) int8_t q[PIECE][TILE][32];
    float d[PIECE][TILE];
} piece_q8;

typedef struct {
    _Alignas(64) uint8_t q[STEPS][PLANES][TILE][64];
    uint8_t mins[TILE][8];
    float d[TILE], dmin[TILE];
} super_block;

static tile_shapes shapes_of(const td_dtype type)
{
    const bool kquant = td_act_kind_of(type) == TD_ACT_Q8K;
    tile_shapes s = {.palette = 1};
    for (int t = 2; t < 6; t++) s.rows[t] = TILE, s.bytes[t] = 64; /* sums */
    
    s.rows[0] = TILE, s.bytes[0] = kquant ? 64 : 32;               /* weights */
    s.rows[1] = kquant ? 16 : 8, s.bytes[1] = 64;                 /* activations */
    s.rows[6] = TILE, s.bytes[6] = kquant ? 8 : 32;                /* minimums; a second tile of weights */
    s.rows[7] = kquant ? 2 : 8, s.bytes[7] = 64;                   /* sums of activations; a second tile of activations */
    return s;
}

/* ---- activations ------------------------------------------------------------------------------------------------------------------------- */

/* Pointers to the blocks from K = begin on of a tile's rows; rows past the end repeat the first one. */
INLINE void point_rows(const td_matmul_job *job, int first_row, int rows, size_t at, const uint8_t *p[TILE])
{
    for (int r = 0; r < TILE; r++) p[r] = (const uint8_t *)row_of(job, first_row + (r < rows ? r : 0)) + at;
}

static void take_q8(const td_matmul_job *job, int first_row, int rows, int64_t begin, int blocks, x_tiles *x, int tile)
{
    const uint8_t *p[TILE];
    point_rows(job, first_row, rows, (size_t)(begin / TD_Q_BLOCK) * sizeof(td_q8), p);
    for (int b = 0; b < blocks; b++) {
        I columns[8];
        columns32(p, (size_t)b * sizeof(td_q8) + offsetof(td_q8, q), columns);
        UNROLL for (int i = 0; i < 8; i++) i_store(x->q8[tile][b][i], columns[i]);
        for (int r = 0; r < TILE; r++) x->d[tile][b][r] = ((const td_q8 *)(const void *)p[r])[b].d;
    }
}

/* Sub-blocks of 32 that a step multiplies: Q4_K and Q5_K take every second one, as their nibbles share bytes. */
INLINE int first_sub(const td_dtype type, int step) { return type == TD_Q6_K ? 2 * step : step / 2 * 4 + step % 2; }
INLINE int second_sub(const td_dtype type, int step) { return first_sub(type, step) + (type == TD_Q6_K ? 1 : 2); }

INLINE void take_q8k(const td_matmul_job *job, const td_dtype type, int first_row, int rows, int64_t begin, int blocks, x_tiles *x, int tile)
{
    const uint8_t *p[TILE];
    point_rows(job, first_row, rows, (size_t)(begin / TD_QK_BLOCK) * sizeof(td_q8k), p);
    for (int b = 0; b < blocks; b++) {
        size_t at = (size_t)b * sizeof(td_q8k);
        for (int step = 0; step < STEPS; step++) {
            I columns[16];
            columns32(p, at + offsetof(td_q8k, q) + 32 * (size_t)first_sub(type, step), columns);
            columns32(p, at + offsetof(td_q8k, q) + 32 * (size_t)second_sub(type, step), columns + 8);
            UNROLL for (int i = 0; i < 16; i++) i_store(x->q8k[tile][b][step][i], columns[i]);
        }
        for (int r = 0; r < TILE; r++) {
            const td_q8k *q = (const td_q8k *)(const void *)p[r] + b;
            x->d[tile][b][r] = q->d;
            for (int j = 0; j < 8 && type != TD_Q6_K; j++) {
                int sum = q->sums[2 * j] + q->sums[2 * j + 1];
                x->sums[tile][b][0][j / 4][r][j % 4] = (int8_t)(sum & 127), x->sums[tile][b][1][j / 4][r][j % 4] = (int8_t)(sum >> 7);
            }
        }
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------------------------------- */

/* Where 16 weight rows are. gather: their distances from the first; whole: all 16 exist, a row apart. */
typedef struct {
    const uint8_t *row[TILE];
    int64_t row_bytes;
    I gather;
    bool whole;
} weight_rows;

INLINE weight_rows point_weights(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin)
{
    weight_rows w;
    int32_t distance[TILE];
    const int block = td_act_kind_of(type) == TD_ACT_Q8 ? TD_Q_BLOCK : TD_QK_BLOCK;
    point(job, type, out, begin, TILE, w.row);
    for (int i = 0; i < TILE; i++) distance[i] = (int32_t)(w.row[i] - w.row[0]);
    w.row_bytes = job->w->shape[1] / block * block_bytes(type);
    w.gather = i_load(distance);
    w.whole = out + TILE <= job->out_end;
    return w;
}

/* The four bytes at the same place of the 16 rows. */
INLINE I fours_of(const weight_rows *w, size_t at) { return _mm512_i32gather_epi32(w->gather, (const void *)(w->row[0] + at), 1); }

INLINE void unpack_q4(const weight_rows *w, size_t at, int8_t q[TILE][32])
{
    const I shifts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    UNROLL for (int i = 0; i < TILE; i += 2) {
        I v = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(w->row[i] + at)));
        v = _mm512_mask_broadcast_i32x4(v, 0xFF00, _mm_loadu_si128((const void *)(w->row[i + 1] + at)));
        v = i_and(_mm512_srlv_epi64(v, shifts), _mm512_set1_epi8(15));
        i_store(q[i], _mm512_sub_epi8(v, _mm512_set1_epi8(8)));
    }
}

/* One block of 16 outputs: its scales, and its bytes where they cannot be loaded from where they are. */
INLINE void unpack_block(const td_dtype type, const weight_rows *w, int64_t number, piece_q8 *p, int b, fetch *next)
{
    const size_t bytes = (size_t)block_bytes(type), at = (size_t)number * bytes;
    fetch_some(next);
    f_store(p->d[b], f_of_half(fours_of(w, at)));
    if (type == TD_Q4_0) unpack_q4(w, at + 2, p->q[b]);
    else if (!w->whole)
        for (int i = 0; i < TILE; i++) memcpy(p->q[b][i], w->row[i] + at + 2, 32);
}

/* The scales of a k-quant row as eight bytes, and its minimums. */
INLINE void scales_and_mins(const uint8_t *packed, uint64_t *scales, uint64_t *mins)
{
    uint32_t a, b, c;
    memcpy(&a, packed, 4), memcpy(&b, packed + 4, 4), memcpy(&c, packed + 8, 4);
    *scales = (a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
    *mins = (b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
}

/* For a shuffle of bytes 0..: byte `first` to the 16-bit lanes of the first 32 bytes, byte `second` to the others. */
INLINE I two_words(int first, int second) { return _mm512_inserti64x4(_mm512_set1_epi16((short)(0x8000 | first)), _mm256_set1_epi16((short)(0x8000 | second)), 1); }

INLINE void unpack_row_q45(const td_dtype type, const uint8_t *block, super_block *s, int row)
{
    const I nibble = _mm512_set1_epi8(15);
    uint64_t scales, mins;
    scales_and_mins(block + 4, &scales, &mins);
    memcpy(s->mins[row], &mins, 8);
    I digit[2] = {_mm512_set1_epi64((int64_t)(scales & 0x0707070707070707)), _mm512_set1_epi64((int64_t)(scales >> 3 & 0x0707070707070707))};
    I high = type == TD_Q5_K ? _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(block + 16))) : i_zero();
    UNROLL for (int half = 0; half < 2; half++) {
        I v = i_load(block + (type == TD_Q4_K ? 16 : 48) + 64 * half), q[2] = {i_and(v, nibble), i_and(i_shr16(v, 4), nibble)};
        UNROLL for (int i = 0; i < 2; i++) {
            const int step = 2 * half + i, first = first_sub(type, step), second = second_sub(type, step);
            if (type == TD_Q5_K) {
                I bit = i_and(_mm512_srlv_epi64(high, _mm512_setr_epi64(first, first, first, first, second, second, second, second)), _mm512_set1_epi8(1));
                q[i] = i_or(q[i], i_shl16(bit, 4));
            }
            UNROLL for (int plane = 0; plane < 2; plane++) /* two bytes at once: no product reaches 256 */
                i_store(s->q[step][plane][row], _mm512_mullo_epi16(q[i], _mm512_shuffle_epi8(digit[plane], two_words(first, second))));
        }
    }
}

INLINE void unpack_row_q6(const uint8_t *block, super_block *s, int row)
{
    const I nibble = _mm512_set1_epi8(15), three = _mm512_set1_epi8(3);
    I scales = _mm512_broadcast_i32x4(_mm_xor_si128(_mm_loadu_si128((const void *)(block + 192)), _mm_set1_epi8((char)0x80))); /* + 128 */
    UNROLL for (int half = 0; half < 2; half++) {
        I v = i_load(block + 64 * half), high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(block + 128 + 32 * half)));
        UNROLL for (int i = 0; i < 2; i++) {
            const int step = 2 * half + i, n = 4 * i;
            I bits = i_and(_mm512_srlv_epi64(high, _mm512_setr_epi64(n, n, n, n, n + 2, n + 2, n + 2, n + 2)), three);
            I q = i_or(i_and(i ? i_shr16(v, 4) : v, nibble), i_shl16(bits, 4));
            /* each lane of 16 bytes has one scale */
            const I pick = i_or(_mm512_set1_epi8((char)(4 * step)), _mm512_setr_epi64(0, 0, 0x0101010101010101, 0x0101010101010101, 0x0202020202020202, 0x0202020202020202, 0x0303030303030303, 0x0303030303030303));
            I scale = _mm512_shuffle_epi8(scales, pick);
            UNROLL for (int plane = 0; plane < PLANES; plane++) { /* (q - 32) * digit, the top digit less 2 */
                I digit = i_and(i_shr16(scale, 2 * plane), three);
                I product = _mm512_mullo_epi16(q, i_and(digit, _mm512_set1_epi16(0xFF)));
                if (plane == PLANES - 1) product = _mm512_add_epi8(_mm512_sub_epi8(product, _mm512_add_epi8(q, q)), _mm512_set1_epi8(64));
                i_store(s->q[step][plane][row], _mm512_sub_epi8(product, i_shl16(digit, 5)));
            }
        }
    }
}

INLINE void unpack_super(const td_dtype type, const weight_rows *w, int64_t number, super_block *s, fetch *next)
{
    const size_t bytes = (size_t)block_bytes(type), at = (size_t)number * bytes;
    for (int row = 0; row < TILE; row++) {
        fetch_some(next);
        if (type == TD_Q6_K) unpack_row_q6(w->row[row] + at, s, row);
        else unpack_row_q45(type, w->row[row] + at, s, row);
    }
    I fours = fours_of(w, at + (type == TD_Q6_K ? 206 : 0));
    f_store(s->d, f_of_half(type == TD_Q6_K ? i_shr(fours, 16) : fours));
    f_store(s->dmin, f_of_half(i_shr(fours, 16)));
}

/* ---- products ---------------------------------------------------------------------------------------------------------------------------- */

/* The weights of block `number` for a tile load: Q8_0 where it lies, others from the piece. */
#define LOAD_WEIGHTS(t, type, w, number, p, b)                                                  \
    do {                                                                                        \
        if (type == TD_Q8_0 && w->whole) TILE_LOAD(t, w->row[0] + (number) * 34 + 2, w->row_bytes); \
        else TILE_LOAD(t, p->q[b], 32);                                                         \
    } while (0)
#define BLOCK_PRODUCT(a, b, c, i)                             \
    do {                                                      \
        LOAD_WEIGHTS(a, type, w, first_block + (i), p, i);    \
        TILE_LOAD(b, x->q8[tile][first_block + (i)], 64);     \
        TILE_ZERO(c);                                         \
        TILE_DOT_SS(c, a, b);                                 \
    } while (0)

INLINE void add_block(const piece_q8 *p, const x_tiles *x, int tile, int64_t first_block, int i, int32_t sums[4][TILE][TILE], F total[TILE])
{
    F d = f_load(x->d[tile][first_block + i]);
    UNROLL for (int o = 0; o < TILE; o++) total[o] = f_fma(f_of_i(i_load(sums[i % 4][o])), f_mul(f_set(p->d[i][o]), d), total[o]);
}

/* Adds the blocks of a piece to the totals of 16 outputs, lanes being rows. The first tile of rows unpacks the piece, some blocks before they are loaded as tiles: a tile row read
 * right after it was written would wait. */
INLINE void piece_rows(const td_dtype type, const weight_rows *w, piece_q8 *p, int64_t first_block, int blocks, const x_tiles *x, int tile, fetch *next, F total[TILE])
{
    _Alignas(64) int32_t sums[4][TILE][TILE];
    int i = 0;
    for (; i + 4 <= blocks; i += 4) {
        if (tile == 0 && i % BATCH == 0)
            for (int j = i; j < TD_MIN(i + BATCH, blocks); j++) unpack_block(type, w, first_block + j, p, j, next);
        BLOCK_PRODUCT(0, 1, 2, i);
        BLOCK_PRODUCT(6, 7, 3, i + 1);
        BLOCK_PRODUCT(0, 1, 4, i + 2);
        BLOCK_PRODUCT(6, 7, 5, i + 3);
        TILE_STORE(2, sums[0], 64);
        TILE_STORE(3, sums[1], 64);
        TILE_STORE(4, sums[2], 64);
        TILE_STORE(5, sums[3], 64);
        UNROLL for (int j = 0; j < 4; j++) add_block(p, x, tile, first_block, i + j, sums, total);
    }
    for (; i < blocks; i++) {
        if (tile == 0) unpack_block(type, w, first_block + i, p, i, next);
        BLOCK_PRODUCT(0, 1, 2, i);
        TILE_STORE(2, sums[i % 4], 64);
        add_block(p, x, tile, first_block, i, sums, total);
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
        TILE_LOAD(1, x->q8k[tile][b][step], 64);
        TILE_LOAD(0, s->q[step][0], 64);
        if (type == TD_Q6_K) TILE_DOT_SS(2, 0, 1);
        else TILE_DOT_US(2, 0, 1);
        TILE_LOAD(0, s->q[step][1], 64);
        if (type == TD_Q6_K) TILE_DOT_SS(3, 0, 1);
        else TILE_DOT_US(3, 0, 1);
        if (type == TD_Q6_K) {
            TILE_LOAD(0, s->q[step][2], 64);
            TILE_DOT_SS(4, 0, 1);
            TILE_LOAD(0, s->q[step][3], 64);
            TILE_DOT_SS(5, 0, 1);
        }
    }
    if (type != TD_Q6_K) {
        TILE_LOAD(6, s->mins, 8);
        TILE_LOAD(7, x->sums[tile][b][0], 64);
        TILE_DOT_US(4, 6, 7);
        TILE_LOAD(7, x->sums[tile][b][1], 64);
        TILE_DOT_US(5, 6, 7);
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
    F d = f_load(x->d[tile][b]);
    UNROLL for (int o = 0; o < TILE; o++)
        total[o] = super_sum(type, i_load(sums[0][o]), i_load(sums[1][o]), i_load(sums[2][o]), i_load(sums[3][o]), f_mul(f_set(s->d[o]), d), f_mul(f_set(s->dmin[o]), d), total[o]);
}

/* ---- loops ------------------------------------------------------------------------------------------------------------------------------- */

/* 16 vectors of 16 lanes, rows and lanes exchanged. */
INLINE void transpose(F v[TILE])
{
    F a[TILE];
    UNROLL for (int i = 0; i < TILE; i += 4) {
        F ab = _mm512_unpacklo_ps(v[i], v[i + 1]), AB = _mm512_unpackhi_ps(v[i], v[i + 1]), cd = _mm512_unpacklo_ps(v[i + 2], v[i + 3]), CD = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
        a[i] = _mm512_shuffle_ps(ab, cd, 0x44), a[i + 1] = _mm512_shuffle_ps(ab, cd, 0xEE), a[i + 2] = _mm512_shuffle_ps(AB, CD, 0x44), a[i + 3] = _mm512_shuffle_ps(AB, CD, 0xEE);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        F p = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), q = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD), r = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88), s = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xDD);
        v[i] = _mm512_shuffle_f32x4(p, r, 0x88), v[i + 8] = _mm512_shuffle_f32x4(p, r, 0xDD), v[i + 4] = _mm512_shuffle_f32x4(q, s, 0x88), v[i + 12] = _mm512_shuffle_f32x4(q, s, 0xDD);
    }
}

/* The totals of 16 outputs x 16 rows, lanes being rows, from or to y. */
INLINE void totals_from(const td_matmul_job *job, int first_row, int rows, int64_t out, F total[TILE])
{
    UNROLL for (int r = 0; r < TILE; r++) total[r] = r < rows ? f_load_n(job->y + (first_row + r) * job->y_stride + out, job->out_end - out) : f_zero();
    transpose(total);
}

INLINE void totals_to(const td_matmul_job *job, int first_row, int rows, int64_t out, F total[TILE])
{
    transpose(total);
    UNROLL for (int r = 0; r < TILE; r++)
        if (r < rows) f_store_n(job->y + (first_row + r) * job->y_stride + out, total[r], job->out_end - out);
}

/* Up to TILES * TILE rows and a chunk of K, all outputs. */
INLINE void chunk_rows(const td_matmul_job *job, const td_dtype type, int first_row, int rows, int64_t begin, int n, x_tiles *x)
{
    const bool q8 = td_act_kind_of(type) == TD_ACT_Q8;
    const int tiles = (rows + TILE - 1) / TILE, blocks = n / (q8 ? TD_Q_BLOCK : TD_QK_BLOCK);
    for (int t = 0; t < tiles; t++) {
        int count = TD_MIN(rows - t * TILE, TILE);
        if (q8) take_q8(job, first_row + t * TILE, count, begin, blocks, x, t);
        else take_q8k(job, type, first_row + t * TILE, count, begin, blocks, x, t);
    }
    _Alignas(64) float kept[TILES][TILE][TILE];
    for (int64_t out = job->out_begin; out < job->out_end; out += TILE) {
        weight_rows w = point_weights(job, type, out, begin);
        fetch next = fetch_plan((const char *)w.row[0] + TILE * w.row_bytes, TD_MIN(TILE, job->out_end - out - TILE), (int64_t)td_dtype_row_bytes(type, n), w.row_bytes, (int64_t)blocks * (q8 ? 1 : TILE));
        const int piece = q8 ? PIECE : 1;
        for (int b = 0; b < blocks; b += piece) {
            piece_q8 p;
            super_block s;
            const int count = TD_MIN(piece, blocks - b);
            if (!q8) unpack_super(type, &w, b, &s, &next);
            for (int t = 0; t < tiles; t++) {
                F total[TILE];
                const int first = first_row + t * TILE, tile_rows = TD_MIN(rows - t * TILE, TILE);
                if (b > 0) UNROLL for (int o = 0; o < TILE; o++) total[o] = f_load(kept[t][o]);
                else if (begin > 0) totals_from(job, first, tile_rows, out, total);
                else UNROLL for (int o = 0; o < TILE; o++) total[o] = f_zero();
                if (q8) piece_rows(type, &w, &p, b, count, x, t, &next, total);
                else super_rows(type, &s, x, t, b, total);
                if (b + count < blocks) UNROLL for (int o = 0; o < TILE; o++) f_store(kept[t][o], total[o]);
                else totals_to(job, first, tile_rows, out, total);
            }
        }
    }
}

/* Below this many rows the vector products are faster (measured): the weights' way from memory is what counts there, and a tile makes it no shorter. */
INLINE int rows_least(const td_dtype type) { return type == TD_Q8_0 ? 4 : type == TD_Q6_K ? 12 : 7; }

INLINE void matmul(const td_matmul_job *job, const td_dtype type, void (*vectors)(const td_matmul_job *))
{
    if (job->rows < rows_least(type)) {
        vectors(job);
        return;
    }
    const tile_shapes shapes = shapes_of(type);
    x_tiles x;
    TILE_CONFIGURE(&shapes);
    for (int row = 0; row < job->rows; row += TILES * TILE)
        for (int64_t begin = 0; begin < job->w->shape[1]; begin += CHUNK)
            chunk_rows(job, type, row, TD_MIN(job->rows - row, TILES * TILE), begin, (int)TD_MIN(job->w->shape[1] - begin, CHUNK), &x);
    TILE_RELEASE();
}

void WIDE(matmul_q8_0)(const td_matmul_job *job) { matmul(job, TD_Q8_0, WIDE(vectors_q8_0)); }
void WIDE(matmul_q4_0)(const td_matmul_job *job) { matmul(job, TD_Q4_0, WIDE(vectors_q4_0)); }
void WIDE(matmul_q4_k)(const td_matmul_job *job) { matmul(job, TD_Q4_K, WIDE(vectors_q4_k)); }
void WIDE(matmul_q5_k)(const td_matmul_job *job) { matmul(job, TD_Q5_K, WIDE(vectors_q5_k)); }
void WIDE(matmul_q6_k)(const td_matmul_job *job) { matmul(job, TD_Q6_K, WIDE(vectors_q6_k)); }
