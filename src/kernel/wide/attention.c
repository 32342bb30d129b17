/*
 * attention.c - attention over the KV pages of one head, all queries that share it at once: a page of K and V is converted to f32 once (it stays in L2), scores are tiles of
 * dot products (queries x positions, lanes along dk), values are outer products (queries x lanes of dv) with the sums in registers.
 */
#include "kernel/wide/vec.h"

#if defined(__AVX512F__)
enum { DOT_QUERIES = 6, SUM_QUERIES = 6 };
#else
enum { DOT_QUERIES = 3, SUM_QUERIES = 3 };
#endif
enum { DOT_TOKENS = 4, SUM_VECTORS = 4, RANGE_MAX = 1 << 30 };

/* One page as f32 rows. */
typedef struct { const float *k, *v; int64_t k_stride, v_stride; } page_rows;

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

/* K and V of positions low..high-1 of a page: where they lie when they are F32, else converted into buffer. V that is the front of K is converted with it. */
static page_rows rows_of(const td_attention_job *job, int number, int low, int high, float *buffer)
{
    const char *k = job->k_pages[number], *v = job->v_pages[number];
    if (job->kv_type == TD_F32) return (page_rows){(const float *)k, (const float *)v, (int64_t)job->k_row_bytes / 4, (int64_t)job->v_row_bytes / 4};
    convert_rows(job->kv_type, k, job->k_row_bytes, low, high, job->dk, buffer);
    if (k == v && job->k_row_bytes == job->v_row_bytes && job->dv <= job->dk) return (page_rows){buffer, buffer, job->dk, job->dk};
    float *values = buffer + (int64_t)job->page_tokens * job->dk;
    convert_rows(job->kv_type, v, job->v_row_bytes, low, high, job->dv, values);
    return (page_rows){buffer, values, job->dk, job->dv};
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
INLINE void scores(const td_attention_job *job, const page_rows *page, int first, int low, int high, const int QUERIES)
{
    const float *q = job->q + first * job->q_stride;
    float *s = job->scratch + (int64_t)first * job->page_tokens;
    if (high - low < DOT_TOKENS) {
        float four[DOT_QUERIES * DOT_TOKENS];
        for (int t = low; t < high; t++) {
            dot_tile(q, job->q_stride, page->k + t * page->k_stride, 0, job->dk, QUERIES, four, DOT_TOKENS);
            for (int i = 0; i < QUERIES; i++) s[i * job->page_tokens + t] = four[i * DOT_TOKENS];
        }
        return;
    }
    for (int t = low; t < high; t += DOT_TOKENS) {
        int at = TD_MIN(t, high - DOT_TOKENS);
        dot_tile(q, job->q_stride, page->k + at * page->k_stride, page->k_stride, job->dk, QUERIES, s + at, job->page_tokens);
    }
}

/* o[i] += p[i][t] * v[t] for positions low..high-1, QUERIES queries at once. */
INLINE void sum_values(float *o, int64_t o_stride, const float *p, int64_t p_stride, const page_rows *page, int low, int high, int dv, const int QUERIES)
{
    if (low >= high) return;
    int d = 0;
    for (; d + SUM_VECTORS * WIDTH <= dv; d += SUM_VECTORS * WIDTH) {
        F acc[SUM_QUERIES][SUM_VECTORS], value[SUM_VECTORS];
        UNROLL for (int i = 0; i < QUERIES; i++)
            UNROLL for (int j = 0; j < SUM_VECTORS; j++) acc[i][j] = f_load(o + i * o_stride + d + j * WIDTH);
        for (int t = low; t < high; t++) {
            const float *v = page->v + t * page->v_stride + d;
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
            F value = f_load_n(page->v + t * page->v_stride + d, dv - d);
            UNROLL for (int i = 0; i < QUERIES; i++) acc[i] = f_fma(f_set(p[i * p_stride + t]), value, acc[i]);
        }
        UNROLL for (int i = 0; i < QUERIES; i++) f_store_n(o + i * o_stride + d, acc[i], dv - d);
    }
}

/* Functions of their own: inside their callers gcc keeps the sums in memory. */
typedef void sum_function(float *o, int64_t o_stride, const float *p, int64_t p_stride, const page_rows *page, int low, int high, int dv);
#define SUM(n) \
    static __attribute__((noinline)) void sum_##n(float *o, int64_t o_stride, const float *p, int64_t p_stride, const page_rows *page, int low, int high, int dv) \
    { \
        sum_values(o, o_stride, p, p_stride, page, low, high, dv, n); \
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

typedef struct { int low, high; } range; /* positions of a page that a query attends to */

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
            F p = f_exp(f_sub(f_load_n(s + at, left), m));
            if (at < r.low) { /* positions before the window count nothing */
                float these[WIDTH];
                f_store(these, p);
                for (int j = 0; j < WIDTH && at + j < r.low; j++) these[j] = 0;
                p = f_load(these);
            }
            f_store_n(s + at, p, left);
            lanes[h] = f_add(lanes[h], f_load_n(s + at, left));
        }
    job->l[i] = job->l[i] + tree16(lanes);
    return r;
}

/* Values of some neighbouring queries: together over the positions that all of them attend to, one by one before and after. */
static void take_values(const td_attention_job *job, const page_rows *page, int first, const range *r, int queries)
{
    int low = 0, high = RANGE_MAX;
    float *o = job->o + (int64_t)first * job->dv;
    const float *p = job->scratch + (int64_t)first * job->page_tokens;
    for (int i = 0; i < queries; i++) low = TD_MAX(low, r[i].low), high = TD_MIN(high, r[i].high);
    if (low >= high) {
        for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, page, r[i].low, r[i].high, job->dv);
        return;
    }
    for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, page, r[i].low, low, job->dv);
    sums[queries](o, job->dv, p, job->page_tokens, page, low, high, job->dv);
    for (int i = 0; i < queries; i++) sum_1(o + (int64_t)i * job->dv, 0, p + i * job->page_tokens, 0, page, high, r[i].high, job->dv);
}

INLINE void query_tile(const td_attention_job *job, const page_rows *page, int first, int first_position, const int QUERIES)
{
    range r[DOT_QUERIES];
    int low = RANGE_MAX, high = 0;
    for (int i = 0; i < QUERIES; i++) {
        r[i] = range_of(job, first + i, first_position);
        if (r[i].low < r[i].high) low = TD_MIN(low, r[i].low), high = TD_MAX(high, r[i].high);
    }
    if (low >= high) return;
    scores(job, page, first, low, high, QUERIES);
    for (int i = 0; i < QUERIES; i++) r[i] = weigh(job, first + i, r[i]);
    take_values(job, page, first, r, QUERIES);
}

static void page_queries(const td_attention_job *job, const page_rows *page, int first_position)
{
    int i = 0;
    for (; i + DOT_QUERIES <= job->queries; i += DOT_QUERIES) query_tile(job, page, i, first_position, DOT_QUERIES);
    switch (job->queries - i) {
    case 1: query_tile(job, page, i, first_position, 1); break;
    case 2: query_tile(job, page, i, first_position, 2); break;
#if defined(__AVX512F__)
    case 3: query_tile(job, page, i, first_position, 3); break;
    case 4: query_tile(job, page, i, first_position, 4); break;
    case 5: query_tile(job, page, i, first_position, 5); break;
#endif
    default: break;
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
    float *buffer = job->scratch + (int64_t)job->queries * job->page_tokens;
    buffer += (64 - (uintptr_t)buffer % 64) % 64 / sizeof(float); /* the scratch has 64 floats more */
    for (int number = least / job->page_tokens; number * job->page_tokens < most; number++) {
        int position = number * job->page_tokens;
        page_rows page = rows_of(job, number, TD_MAX(least - position, 0), TD_MIN(most - position, job->page_tokens), buffer);
        page_queries(job, &page, position);
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
