/*
 * attention.c - attention over the KV pages of one head, all queries that share it at once. A page of V is converted to f32 once (it stays in L2), values are outer products (queries x
 * lanes of dv) with the sums in registers. Scores of many queries are outer products too: K is transposed once a page, so that lanes are positions and each of the 16 partial sums of a
 * dot product is a vector of its own (leaf_tile); with few queries that does not pay, and scores are tiles of dot products with lanes along dk (dot_tile). The sums are the same.
 */
#include "kernel/wide/vec.h"

#if defined(__AVX512F__)
enum { LEAF_VECTORS = 4, SUM_QUERIES = 6, TRANSPOSE_F32 = 4 };
#else
enum { LEAF_VECTORS = 2, SUM_QUERIES = 3, TRANSPOSE_F32 = 12 };
#endif
enum { TILE_QUERIES = 6, DOT_QUERIES = 3, DOT_TOKENS = 4, SUM_VECTORS = 4, RANGE_MAX = 1 << 30, FETCH_EACH = 4 };
enum { TRANSPOSE_QUERIES = DOT_QUERIES + 1 }; /* from how many queries on K is transposed; F32 need not be converted without it, so that it pays later there */

/* K or V of one page as f32: rows `stride` apart, or (K for many queries) columns of `columns` floats each, one a position, in the order of column_place. Meanwhile the next page is brought nearer. */
typedef struct { const float *rows; int64_t stride; int columns; fetch next; } page_part;
typedef struct { int low, high; } range; /* positions of a page that a query attends to */

INLINE void convert_row(td_dtype type, const void *row, float *to, int n)
{
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) f_store(to + i, f_load_as(type, row, i));
    if (i < n) { /* only BF16: Q8_0 rows are whole blocks */
        for (; i < n; i++) to[i] = td_bf16_to_f32(((const uint16_t *)row)[i]);
    }
}

static void convert_rows(td_dtype type, const char *rows, size_t row_bytes, int low, int high, int n, float *to)
{
    for (int t = low; t < high; t++) {
        if (type == TD_BF16) convert_row(TD_BF16, rows + (size_t)t * row_bytes, to + (int64_t)t * n, n);
        else convert_row(TD_Q8_0, rows + (size_t)t * row_bytes, to + (int64_t)t * n, n);
    }
}

/* How many columns a partial sum has in the block of column d; and which place column d has: columns lie by their partial sum (k mod 16), block after block. */
INLINE int columns_each(int d, int dk) { return (TD_MIN(dk - d / TD_K_BLOCK * TD_K_BLOCK, TD_K_BLOCK) + TD_LANES - 1) / TD_LANES; }
INLINE int64_t column_place(int d, int dk) { return d / TD_K_BLOCK * TD_K_BLOCK + (int64_t)(d % TD_LANES) * columns_each(d, dk) + d % TD_K_BLOCK / TD_LANES; }

/* Stores vectors of columns d, d + by, ... of K at position t. */
INLINE void store_columns(const I v[WIDTH], int mask, int shift, int d, int by, int dk, float *to, int columns, int t)
{
    int64_t lane = (int64_t)columns_each(d, dk) * columns;
    float *at = to + column_place(d, dk) * columns + t;
    UNROLL for (int i = 0; i < WIDTH; i++) {
        f_store(at + (i * by % TD_LANES) * lane + i * by / TD_LANES * columns, f_bits(i_and(shift ? i_shl(v[i], 16) : v[i], i_set(mask))));
    }
}

/* K of positions low..high-1 as columns; the places of other positions repeat a neighbour's, so that nothing is read that is not there. */
INLINE void transpose_rows(td_dtype type, const char *k, size_t row_bytes, int low, int high, int dk, float *to, int columns)
{
    int step = type == TD_BF16 ? 2 * WIDTH : WIDTH;
    for (int t = low / WIDTH * WIDTH; t < high; t += WIDTH) {
        const char *row[WIDTH];
        for (int i = 0; i < WIDTH; i++) row[i] = k + (size_t)TD_MIN(TD_MAX(t + i, low), high - 1) * row_bytes;
        int d = 0;
        for (; d + step <= dk; d += step) {
            I v[WIDTH];
            if (type == TD_BF16) UNROLL for (int i = 0; i < WIDTH; i++) v[i] = i_load(row[i] + 2 * (size_t)d); /* pairs of columns travel together */
            else UNROLL for (int i = 0; i < WIDTH; i++) v[i] = i_bits(f_load_as(type, row[i], d));
            i_transpose(v);
            if (type == TD_BF16) {
                store_columns(v, -1, 1, d, 2, dk, to, columns, t);
                store_columns(v, (int32_t)0xFFFF0000, 0, d + 1, 2, dk, to, columns, t);
            } else {
                store_columns(v, -1, 0, d, 1, dk, to, columns, t);
            }
        }
        for (; d < dk; d++) { /* not Q8_0: its rows are whole blocks */
            float *at = to + column_place(d, dk) * columns + t;
            for (int i = 0; i < WIDTH; i++) at[i] = type == TD_F32 ? ((const float *)row[i])[d] : td_bf16_to_f32(((const uint16_t *)row[i])[d]);
        }
    }
}

static void transpose_keys(const td_attention_job *job, const char *k, int low, int high, float *to, int columns)
{
    switch (job->kv_type) {
    case TD_BF16: transpose_rows(TD_BF16, k, job->k_row_bytes, low, high, job->dk, to, columns); break;
    case TD_F32: transpose_rows(TD_F32, k, job->k_row_bytes, low, high, job->dk, to, columns); break;
    default: transpose_rows(TD_Q8_0, k, job->k_row_bytes, low, high, job->dk, to, columns); break;
    }
}

/* K of positions low..high-1 of a page: rows where they lie when they are F32, else in the buffer. */
static page_part keys_of(const td_attention_job *job, const char *k, int low, int high, float *buffer)
{
    page_part part = {.rows = buffer, .stride = job->dk};
    int enough = job->kv_type == TD_F32 ? TRANSPOSE_F32 : TRANSPOSE_QUERIES;
    if (job->queries >= enough) part.columns = td_attention_columns(job->page_tokens), transpose_keys(job, k, low, high, buffer, part.columns);
    else if (job->kv_type == TD_F32) part.rows = (const float *)k, part.stride = (int64_t)job->k_row_bytes / 4;
    else convert_rows(job->kv_type, k, job->k_row_bytes, low, high, job->dk, buffer);
    return part;
}

/* V likewise, when nobody needs K any more: it takes its place. V that is the front of K may be there already. */
static page_part values_of(const td_attention_job *job, const char *k, const char *v, int low, int high, float *buffer, const page_part *keys)
{
    if (k == v && job->k_row_bytes == job->v_row_bytes && job->dv <= job->dk && !keys->columns) return (page_part){.rows = keys->rows, .stride = keys->stride};
    if (job->kv_type == TD_F32) return (page_part){.rows = (const float *)v, .stride = (int64_t)job->v_row_bytes / 4};
    convert_rows(job->kv_type, v, job->v_row_bytes, low, high, job->dv, buffer);
    return (page_part){.rows = buffer, .stride = job->dv};
}

/* Scores of QUERIES queries with VECTORS * WIDTH positions, K as columns from k on: a partial sum at a time, added as the tree of kernel.h does, halves first. `room` is how many scores fit. */
INLINE void leaf_tile(const float *q, int64_t q_stride, const float *k, int64_t columns, int dk, const int QUERIES, const int VECTORS, float *s, int64_t s_stride, int room, fetch *next)
{
    for (int begin = 0; begin < dk; begin += TD_K_BLOCK) {
        int n = TD_MIN(dk - begin, TD_K_BLOCK), each = columns_each(begin, dk);
        F acc[TILE_QUERIES][LEAF_VECTORS], half[4][TILE_QUERIES][LEAF_VECTORS];
        for (int leaf = 0; leaf < TD_LANES; leaf++) {
            int lane = (leaf & 1) << 3 | (leaf & 2) << 1 | (leaf & 4) >> 1 | (leaf & 8) >> 3, depth = 0;
            const float *column = k + (begin + (int64_t)lane * each) * columns, *query = q + begin + lane, *end = q + begin + n;
            UNROLL for (int i = 0; i < QUERIES; i++)
                UNROLL for (int j = 0; j < VECTORS; j++) acc[i][j] = f_zero();
            fetch_some(next);
            for (; query < end; query += TD_LANES, column += columns) {
                F key[LEAF_VECTORS];
                UNROLL for (int j = 0; j < VECTORS; j++) key[j] = f_load(column + j * WIDTH);
                UNROLL for (int i = 0; i < QUERIES; i++) {
                    F value = f_set(query[i * q_stride]);
                    UNROLL for (int j = 0; j < VECTORS; j++) {
                        acc[i][j] = f_fma(value, key[j], acc[i][j]);
                        KEEP(acc[i][j]);
                    }
                }
            }
            for (; leaf >> depth & 1; depth++)
                UNROLL for (int i = 0; i < QUERIES; i++)
                    UNROLL for (int j = 0; j < VECTORS; j++) acc[i][j] = f_add(half[depth][i][j], acc[i][j]);
            if (depth == 4) break;
            UNROLL for (int i = 0; i < QUERIES; i++)
                UNROLL for (int j = 0; j < VECTORS; j++) half[depth][i][j] = acc[i][j];
        }
        UNROLL for (int i = 0; i < QUERIES; i++)
            UNROLL for (int j = 0; j < VECTORS; j++) {
                float *to = s + i * s_stride + j * WIDTH;
                f_store_n(to, begin == 0 ? acc[i][j] : f_add(f_load_n(to, room - j * WIDTH), acc[i][j]), room - j * WIDTH);
            }
    }
}

/* Functions of their own: inside their callers gcc keeps the sums in memory. */
typedef void leaf_function(const float *q, int64_t q_stride, const float *k, int64_t columns, int dk, float *s, int64_t s_stride, int room, fetch *next);
#define LEAF(n) \
    static __attribute__((noinline)) void leaf_##n(const float *q, int64_t q_stride, const float *k, int64_t columns, int dk, float *s, int64_t s_stride, int room, fetch *next) \
    { \
        leaf_tile(q, q_stride, k, columns, dk, n, LEAF_VECTORS, s, s_stride, room, next); \
    } \
    static __attribute__((noinline)) void leaf_narrow_##n(const float *q, int64_t q_stride, const float *k, int64_t columns, int dk, float *s, int64_t s_stride, int room, fetch *next) \
    { \
        leaf_tile(q, q_stride, k, columns, dk, n, 1, s, s_stride, room, next); \
    }
LEAF(1)
LEAF(2)
LEAF(3)
LEAF(4)
LEAF(5)
LEAF(6)
static leaf_function *const leaves[] = {NULL, leaf_1, leaf_2, leaf_3, leaf_4, leaf_5, leaf_6};
static leaf_function *const narrow_leaves[] = {NULL, leaf_narrow_1, leaf_narrow_2, leaf_narrow_3, leaf_narrow_4, leaf_narrow_5, leaf_narrow_6};

/* Scores of some queries for positions low..high-1, K as columns. */
static void scores_of_columns(const td_attention_job *job, page_part *keys, int first, int low, int high, int queries)
{
    const float *q = job->q + first * job->q_stride;
    float *s = job->scratch + (int64_t)first * job->page_tokens;
    for (int t = low / WIDTH * WIDTH; t < high;) {
        bool wide = t + (LEAF_VECTORS - 1) * WIDTH < high && t + LEAF_VECTORS * WIDTH <= keys->columns;
        (wide ? leaves : narrow_leaves)[queries](q, job->q_stride, keys->rows + t, keys->columns, job->dk, s + t, job->page_tokens, job->page_tokens - t, &keys->next);
        t += wide ? LEAF_VECTORS * WIDTH : WIDTH;
    }
}

/* Scores of QUERIES queries with DOT_TOKENS positions from k on (each row k_stride apart): s[i * s_stride + t]. */
INLINE void dot_tile(const float *q, int64_t q_stride, const float *k, int64_t k_stride, int dk, const int QUERIES, float *s, int64_t s_stride)
{
    for (int begin = 0; begin < dk || begin == 0; begin += TD_K_BLOCK) {
        int n = TD_MIN(dk - begin, TD_K_BLOCK);
        F acc[HALVES][DOT_QUERIES][DOT_TOKENS], key[DOT_TOKENS];
        UNROLL for (int h = 0; h < HALVES; h++) {
            UNROLL for (int i = 0; i < QUERIES; i++)
                UNROLL for (int t = 0; t < DOT_TOKENS; t++) acc[h][i][t] = f_zero();
            int at = h * WIDTH;
            for (; at + TD_LANES - h * WIDTH <= n; at += TD_LANES) {
                UNROLL for (int t = 0; t < DOT_TOKENS; t++) key[t] = f_load(k + t * k_stride + begin + at);
                UNROLL for (int i = 0; i < QUERIES; i++) {
                    F v = f_load(q + i * q_stride + begin + at);
                    UNROLL for (int t = 0; t < DOT_TOKENS; t++) acc[h][i][t] = f_fma(v, key[t], acc[h][i][t]);
                }
            }
            if (n % TD_LANES != 0) {
                UNROLL for (int i = 0; i < QUERIES; i++)
                    UNROLL for (int t = 0; t < DOT_TOKENS; t++)
                        acc[h][i][t] = f_fma(f_load_n(q + i * q_stride + begin + at, n - at), f_load_n(k + t * k_stride + begin + at, n - at), acc[h][i][t]);
            }
        }
        UNROLL for (int i = 0; i < QUERIES; i++) {
            __m256 folded[DOT_TOKENS];
            UNROLL for (int t = 0; t < DOT_TOKENS; t++) {
                F both[HALVES];
                UNROLL for (int h = 0; h < HALVES; h++) both[h] = acc[h][i][t];
                folded[t] = f_fold(both);
            }
            __m128 sum = tree8_by4(folded[0], folded[1], folded[2], folded[3]);
            _mm_storeu_ps(s + i * s_stride, begin == 0 ? sum : _mm_add_ps(_mm_loadu_ps(s + i * s_stride), sum));
        }
    }
}

/* Scores for positions low..high-1 of the page. The last tile is moved back so that it stays inside; fewer than DOT_TOKENS positions go one by one. */
INLINE void scores(const td_attention_job *job, const page_part *keys, int first, int low, int high, const int QUERIES)
{
    const float *q = job->q + first * job->q_stride;
    float *s = job->scratch + (int64_t)first * job->page_tokens;
    if (high - low < DOT_TOKENS) {
        float four[DOT_QUERIES * DOT_TOKENS];
        for (int t = low; t < high; t++) {
            dot_tile(q, job->q_stride, keys->rows + t * keys->stride, 0, job->dk, QUERIES, four, DOT_TOKENS);
            for (int i = 0; i < QUERIES; i++) s[i * job->page_tokens + t] = four[i * DOT_TOKENS];
        }
        return;
    }
    for (int t = low; t < high; t += DOT_TOKENS) {
        int at = TD_MIN(t, high - DOT_TOKENS);
        dot_tile(q, job->q_stride, keys->rows + at * keys->stride, keys->stride, job->dk, QUERIES, s + at, job->page_tokens);
    }
}

/* o[i] += p[i][t] * v[t] for positions low..high-1, QUERIES queries at once. */
INLINE void sum_values(float *o, int64_t o_stride, const float *p, int64_t p_stride, page_part *values, int low, int high, int dv, const int QUERIES)
{
    if (low >= high) return;
    int d = 0;
    for (; d + SUM_VECTORS * WIDTH <= dv; d += SUM_VECTORS * WIDTH) {
        F acc[SUM_QUERIES][SUM_VECTORS], value[SUM_VECTORS];
        UNROLL for (int i = 0; i < QUERIES; i++)
            UNROLL for (int j = 0; j < SUM_VECTORS; j++) acc[i][j] = f_load(o + i * o_stride + d + j * WIDTH);
        for (int t = low; t < high; t++) {
            const float *v = values->rows + t * values->stride + d;
            if (t % FETCH_EACH == 0) fetch_some(&values->next);
            UNROLL for (int j = 0; j < SUM_VECTORS; j++) value[j] = f_load(v + j * WIDTH);
            UNROLL for (int i = 0; i < QUERIES; i++) {
                F weight = f_set(p[i * p_stride + t]);
                UNROLL for (int j = 0; j < SUM_VECTORS; j++) {
                    acc[i][j] = f_fma(weight, value[j], acc[i][j]);
                    KEEP(acc[i][j]);
                }
            }
        }
        UNROLL for (int i = 0; i < QUERIES; i++)
            UNROLL for (int j = 0; j < SUM_VECTORS; j++) f_store(o + i * o_stride + d + j * WIDTH, acc[i][j]);
    }
    for (; d < dv; d += WIDTH) {
        F acc[SUM_QUERIES];
        UNROLL for (int i = 0; i < QUERIES; i++) acc[i] = f_load_n(o + i * o_stride + d, dv - d);
        for (int t = low; t < high; t++) {
            F value = f_load_n(values->rows + t * values->stride + d, dv - d);
            UNROLL for (int i = 0; i < QUERIES; i++) acc[i] = f_fma(f_set(p[i * p_stride + t]), value, acc[i]);
        }
        UNROLL for (int i = 0; i < QUERIES; i++) f_store_n(o + i * o_stride + d, acc[i], dv - d);
    }
}

static void scores_of_rows(const td_attention_job *job, const page_part *keys, int first, int low, int high, int queries)
{
    switch (queries) {
    case 1: scores(job, keys, first, low, high, 1); break;
    case 2: scores(job, keys, first, low, high, 2); break;
    default: scores(job, keys, first, low, high, DOT_QUERIES); break;
    }
}

typedef void sum_function(float *o, int64_t o_stride, const float *p, int64_t p_stride, page_part *values, int low, int high, int dv);
#define SUM(n) \
    static __attribute__((noinline)) void sum_##n(float *o, int64_t o_stride, const float *p, int64_t p_stride, page_part *values, int low, int high, int dv) \
    { \
        sum_values(o, o_stride, p, p_stride, values, low, high, dv, n); \
    }
SUM(1)
SUM(2)
SUM(3)
#if defined(__AVX512F__)
SUM(4)
SUM(5)
SUM(6)
static sum_function *const sums[] = {NULL, sum_1, sum_2, sum_3, sum_4, sum_5, sum_6};
#else
static sum_function *const sums[] = {NULL, sum_1, sum_2, sum_3};
#endif

static range range_of(const td_attention_job *job, int i, int first_position)
{
    int end = TD_MIN(job->limits[i], job->end), begin = job->window ? TD_MAX(job->limits[i] - job->window, job->begin) : job->begin;
    range r = {TD_MAX(begin - first_position, 0), TD_MIN(end - first_position, job->page_tokens)};
    return r.low < r.high ? r : (range){0, 0};
}

/* Turns one query's scores into weights and updates m, l and (where m changed) the scale of o. An empty or hopeless page gets the empty range. */
static range weigh(const td_attention_job *job, int i, range r)
{
    float *s = job->scratch + (int64_t)i * job->page_tokens, *o = job->o + (int64_t)i * job->dv, max = -INFINITY;
    F most = f_set(-INFINITY), lanes[HALVES];
    int t = r.low;
    for (; t + WIDTH <= r.high; t += WIDTH) most = f_max(f_load(s + t), most);
    for (max = f_max_lane(most); t < r.high; t++) max = s[t] > max ? s[t] : max;
    if (max == -INFINITY) return (range){0, 0};
    if (max > job->m[i]) {
        float shrink = td_expf(job->m[i] - max);
        job->m[i] = max;
        job->l[i] = job->l[i] * shrink;
        for (int d = 0; d < job->dv; d += WIDTH) f_store_n(o + d, f_mul(f_load_n(o + d, job->dv - d), f_set(shrink)), job->dv - d);
    }
    F m = f_set(job->m[i]);
    UNROLL for (int h = 0; h < HALVES; h++) lanes[h] = f_zero();
    for (t = 0; t < r.low; t++) s[t] = 0;
    for (int begin = r.low / TD_LANES * TD_LANES; begin < r.high; begin += TD_LANES)
        UNROLL for (int h = 0; h < HALVES; h++) {
            int at = begin + h * WIDTH, left = r.high - at;
            F p;
            if (at >= r.low && left >= WIDTH) {
                p = f_exp(f_sub(f_load(s + at), m));
                f_store(s + at, p);
            } else {
                p = f_first_n(f_exp(f_sub(f_load_n(s + at, left), m)), left);
                if (at < r.low) { /* positions before the window count nothing */
                    float these[WIDTH];
                    f_store(these, p);
                    for (int j = 0; j < WIDTH && at + j < r.low; j++) these[j] = 0;
                    p = f_load(these);
                }
                f_store_n(s + at, p, left);
            }
            lanes[h] = f_add(lanes[h], p);
        }
    job->l[i] = job->l[i] + tree16(lanes);
    return r;
}

/* Values of some neighbouring queries: together over the positions that all of them attend to, one by one before and after. */
static void take_values(const td_attention_job *job, page_part *values, int first, const range *r, int queries)
{
    int low = 0, high = RANGE_MAX;
    float *o = job->o + (int64_t)first * job->dv;
    const float *p = job->scratch + (int64_t)first * job->page_tokens;
    for (int i = 0; i < queries; i++) low = TD_MAX(low, r[i].low), high = TD_MIN(high, r[i].high);
    if (low >= high) {
        for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, values, r[i].low, r[i].high, job->dv);
        return;
    }
    for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, values, r[i].low, low, job->dv);
    sums[queries](o, job->dv, p, job->page_tokens, values, low, high, job->dv);
    for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, values, high, r[i].high, job->dv);
}

/* Scores and weights of at most TILE_QUERIES neighbouring queries over one page. */
static void weigh_tile(const td_attention_job *job, page_part *keys, int first, int first_position, int queries, range *r)
{
    int low = RANGE_MAX, high = 0;
    for (int i = 0; i < queries; i++) {
        r[i] = range_of(job, first + i, first_position);
        if (r[i].low < r[i].high) low = TD_MIN(low, r[i].low), high = TD_MAX(high, r[i].high);
    }
    if (low >= high) return;
    if (keys->columns) scores_of_columns(job, keys, first, low, high, queries);
    else scores_of_rows(job, keys, first, low, high, queries);
    for (int i = 0; i < queries; i++) r[i] = weigh(job, first + i, r[i]);
}

/* K or V (rows of n elements) of a page that comes next, its fetching spread over `calls`. */
static fetch plan_next(const td_attention_job *job, const void *page, int n, size_t row_bytes, int64_t calls)
{
    return fetch_plan(page, job->page_tokens, (int64_t)td_dtype_row_bytes(job->kv_type, n), (int64_t)row_bytes, TD_MAX(calls, 1));
}

/* All queries over one page: first all that needs K, then all that needs V, so that either stays in the nearest cache. Queries go in tiles of the same size, as near as can be. */
static void take_page(const td_attention_job *job, int number, int low, int high, bool last, range *r, float *buffer)
{
    const char *k = job->k_pages[number], *v = job->v_pages[number];
    page_part keys = keys_of(job, k, low, high, buffer);
    int position = number * job->page_tokens, most = keys.columns ? TILE_QUERIES : DOT_QUERIES, tiles = (job->queries + most - 1) / most;
    bool ahead = keys.columns && !last;
    if (ahead) keys.next = plan_next(job, job->k_pages[number + 1], job->dk, job->k_row_bytes, (int64_t)tiles * TD_LANES * job->page_tokens / (LEAF_VECTORS * WIDTH));
    for (int i = 0, left = tiles; left > 0; left--) {
        int queries = (job->queries - i + left - 1) / left;
        weigh_tile(job, &keys, i, position, queries, r + i);
        i += queries;
    }
    page_part values = values_of(job, k, v, low, high, buffer, &keys);
    tiles = (job->queries + SUM_QUERIES - 1) / SUM_QUERIES;
    if (ahead && k != v) values.next = plan_next(job, job->v_pages[number + 1], job->dv, job->v_row_bytes, (int64_t)tiles * (job->dv / (SUM_VECTORS * WIDTH)) * job->page_tokens / FETCH_EACH);
    for (int i = 0, left = tiles; left > 0; left--) {
        int queries = (job->queries - i + left - 1) / left;
        take_values(job, &values, i, r + i, queries);
        i += queries;
    }
}

void WIDE(attention_part)(const td_attention_job *job)
{
    int least = RANGE_MAX, most = 0;
    for (int i = 0; i < job->queries; i++) {
        job->m[i] = -INFINITY, job->l[i] = 0;
        memset(job->o + (int64_t)i * job->dv, 0, (size_t)job->dv * sizeof(float));
        least = TD_MIN(least, job->window ? job->limits[i] - job->window : 0), most = TD_MAX(most, job->limits[i]);
    }
    most = TD_MIN(most, job->end), least = TD_MAX(least, job->begin);
    range *ranges = (range *)(job->scratch + (int64_t)job->queries * job->page_tokens);
    float *buffer = (float *)(ranges + job->queries);
    buffer += (64 - (uintptr_t)buffer % 64) % 64 / sizeof(float); /* the scratch has 64 floats more */
    for (int number = least / job->page_tokens; number * job->page_tokens < most; number++) {
        int position = number * job->page_tokens;
        take_page(job, number, TD_MAX(least - position, 0), TD_MIN(most - position, job->page_tokens), position + job->page_tokens >= most, ranges, buffer);
    }
}

void WIDE(attention_merge)(float *m, float *l, float *o, float mb, float lb, const float *ob, int dv)
{
    if (mb == -INFINITY) return;
    if (*m == -INFINITY) {
        *m = mb, *l = lb;
        memcpy(o, ob, (size_t)dv * sizeof(float));
        return;
    }
    float max = mb > *m ? mb : *m, a = td_expf(*m - max), b = td_expf(mb - max);
    *m = max;
    *l = fmaf(b, lb, a * *l);
    for (int d = 0; d < dv; d += WIDTH) f_store_n(o + d, f_fma(f_set(b), f_load_n(ob + d, dv - d), f_mul(f_set(a), f_load_n(o + d, dv - d))), dv - d);
}
