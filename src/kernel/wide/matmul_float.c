/*
 * matmul_float.c - products with F32, F16, BF16 and F8 weights. Lanes run along K as kernel.h orders the sums, so a tile is outputs x rows of dot products.
 * Few rows: tiles straight from the weights. Many rows: a panel of PANEL_OUTS x 1024 weights is converted to f32 once (it stays in L2) and used by every tile of rows
 * (which stays in L1), while the next panel's weights are fetched ahead.
 */
#include "kernel/wide/vec.h"

#if defined(__AVX512F__)
enum { TILE_ROWS = 6 };
#else
enum { TILE_ROWS = 3 };
#endif
enum { TILE_OUTS = 4, GEMV_OUTS = 8, PANEL_OUTS = 64, FEW_ROWS = 48 };

/* Where a tile's weights are: rows of any float type from element 0 of a K block on, F8 with the scales of each row from that block on. */
typedef struct {
    const char *row[GEMV_OUTS];
    const float *scale[GEMV_OUTS];
    float tail[GEMV_OUTS][TD_LANES]; /* the last n % 16 weights, filled up with zeros */
} weights;

/* Dots of OUTS weight rows with ROWS rows of x over a K block of n elements: sums[r * OUTS + o]. next: weights to bring nearer meanwhile, or NULL. */
INLINE void tile(const td_dtype type, const weights *w, const float *const *x, int n, fetch *next, const int OUTS, const int ROWS, float *sums)
{
    F acc[HALVES][TILE_ROWS][GEMV_OUTS], lane[GEMV_OUTS];
    UNROLL for (int h = 0; h < HALVES; h++) {
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int o = 0; o < OUTS; o++) acc[h][r][o] = f_zero();
        int k = h * WIDTH;
        for (; k + TD_LANES - h * WIDTH <= n; k += TD_LANES) {
            if (next && h == 0) fetch_some(next);
            UNROLL for (int o = 0; o < OUTS; o++) {
                lane[o] = f_load_as(type, w->row[o], k);
                if (type == TD_F8_E4M3) lane[o] = f_mul(lane[o], f_set(w->scale[o][k / TD_F8_BLOCK]));
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                F v = f_load(x[r] + k);
                UNROLL for (int o = 0; o < OUTS; o++) acc[h][r][o] = f_fma(lane[o], v, acc[h][r][o]);
            }
        }
        if (n % TD_LANES != 0) {
            UNROLL for (int r = 0; r < ROWS; r++) {
                F v = f_load_n(x[r] + k, n - k);
                UNROLL for (int o = 0; o < OUTS; o++) acc[h][r][o] = f_fma(f_load(w->tail[o] + h * WIDTH), v, acc[h][r][o]);
            }
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int o = 0; o < OUTS; o += 4) {
            __m256 folded[4];
            UNROLL for (int i = 0; i < 4; i++) {
                F both[HALVES];
                UNROLL for (int h = 0; h < HALVES; h++) both[h] = acc[h][r][o + i];
                folded[i] = f_fold(both);
            }
            _mm_storeu_ps(sums + r * OUTS + o, tree8_by4(folded[0], folded[1], folded[2], folded[3]));
        }
}

/* The zero-filled last lanes of a weight row's K block of n elements. */
static void fill_tail(const td_dtype type, const char *row, const float *scale, int n, float tail[TD_LANES])
{
    int whole = n / TD_LANES * TD_LANES;
    memset(tail, 0, TD_LANES * sizeof(float));
    td_dequantise_row(type, row + (size_t)whole * td_dtype_row_bytes(type, 1), tail, n - whole);
    if (scale)
        for (int i = 0; i < n - whole; i++) tail[i] = tail[i] * scale[(whole + i) / TD_F8_BLOCK];
}

static const float one_scale[TD_K_BLOCK / TD_F8_BLOCK] = {1, 1, 1, 1, 1, 1, 1, 1};

/* Points w at the K block from begin on of OUTS weight rows from out on; rows past the end repeat the last one. */
INLINE void point(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin, int n, const int OUTS, weights *w)
{
    int64_t k = job->w->shape[1], scales = (k + TD_F8_BLOCK - 1) / TD_F8_BLOCK;
    size_t element = td_dtype_row_bytes(type, 1);
    for (int o = 0; o < OUTS; o++) {
        int64_t row = TD_MIN(out + o, job->out_end - 1);
        w->row[o] = (const char *)job->w->data + (size_t)(row * k + begin) * element;
        if (type == TD_F8_E4M3) w->scale[o] = job->w->scale ? job->w->scale + row / TD_F8_BLOCK * scales + begin / TD_F8_BLOCK : one_scale;
        if (n % TD_LANES != 0) fill_tail(type, w->row[o], type == TD_F8_E4M3 ? w->scale[o] : NULL, n, w->tail[o]);
    }
}

/* y = or += the sums of a tile, as far as there are outputs. */
INLINE void put(const td_matmul_job *job, int first_row, int64_t out, bool first, const int OUTS, const int ROWS, const float *sums)
{
    int outs = (int)TD_MIN(OUTS, job->out_end - out);
    for (int r = 0; r < ROWS; r++) {
        float *y = job->y + (first_row + r) * job->y_stride + out;
        if (outs == OUTS) {
            UNROLL for (int o = 0; o < OUTS; o += 4) {
                __m128 s = _mm_loadu_ps(sums + r * OUTS + o);
                _mm_storeu_ps(y + o, first ? s : _mm_add_ps(_mm_loadu_ps(y + o), s));
            }
        } else {
            for (int o = 0; o < outs; o++) y[o] = first ? sums[r * OUTS + o] : y[o] + sums[r * OUTS + o];
        }
    }
}

/* ---- few rows ---------------------------------------------------------------------------------------------------------------------------- */

/* OUTS outputs and one K block with ROWS rows. */
INLINE void direct_tile(const td_matmul_job *job, const td_dtype type, const weights *w, int first_row, int64_t out, int64_t begin, int n, fetch *next, const int OUTS, const int ROWS)
{
    float sums[GEMV_OUTS * TILE_ROWS];
    const float *x[TILE_ROWS];
    for (int r = 0; r < ROWS; r++) x[r] = (const float *)row_of(job, first_row + r) + begin;
    tile(type, w, x, n, next, OUTS, ROWS, sums);
    put(job, first_row, out, begin == 0, OUTS, ROWS, sums);
}

/* The weights that are read after K = begin of OUTS outputs from out on, n elements. */
INLINE fetch fetch_next(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin, int n, const int OUTS)
{
    int64_t k = job->w->shape[1], element = (int64_t)td_dtype_row_bytes(type, 1);
    if (begin + n >= k) out += OUTS, begin = 0;
    else begin += n;
    return fetch_plan((const char *)job->w->data + (out * k + begin) * element, TD_MIN(OUTS, job->out_end - out), TD_MIN(k - begin, TD_K_BLOCK) * element, k * element, TD_MAX(n / TD_LANES, 1));
}

/* With more rows than a tile has, the later tiles find the weights in L1. */
INLINE void direct(const td_matmul_job *job, const td_dtype type, const int OUTS, const int LAST)
{
    int64_t k = job->w->shape[1];
    weights w;
    for (int64_t out = job->out_begin; out < job->out_end; out += OUTS) {
        for (int64_t begin = 0; begin < k; begin += TD_K_BLOCK) {
            int n = (int)TD_MIN(k - begin, TD_K_BLOCK), r = 0;
            point(job, type, out, begin, n, OUTS, &w);
            fetch next = fetch_next(job, type, out, begin, n, OUTS);
            if (OUTS == TILE_OUTS)
                for (; r + TILE_ROWS <= job->rows; r += TILE_ROWS) direct_tile(job, type, &w, r, out, begin, n, &next, OUTS, TILE_ROWS);
            if (LAST) direct_tile(job, type, &w, r, out, begin, n, &next, OUTS, LAST);
        }
    }
}

INLINE void direct_rows(const td_matmul_job *job, const td_dtype type)
{
    if (job->rows == 1) {
        direct(job, type, GEMV_OUTS, 1);
        return;
    }
    switch (job->rows % TILE_ROWS) {
    case 0: direct(job, type, TILE_OUTS, 0); break;
    case 1: direct(job, type, TILE_OUTS, 1); break;
    case 2: direct(job, type, TILE_OUTS, 2); break;
#if defined(__AVX512F__)
    case 3: direct(job, type, TILE_OUTS, 3); break;
    case 4: direct(job, type, TILE_OUTS, 4); break;
    case 5: direct(job, type, TILE_OUTS, 5); break;
#endif
    default: break;
    }
}

/* ---- many rows --------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    _Alignas(64) float data[PANEL_OUTS][TD_K_BLOCK];
    int outs, n;
    fetch next;
} panel;

INLINE void convert(const td_matmul_job *job, const td_dtype type, int64_t out, int64_t begin, panel *p)
{
    weights w;
    for (int o = 0; o < p->outs; o++) {
        point(job, type, out + o, begin, p->n, 1, &w);
        int k = 0;
        for (; k + TD_LANES <= p->n; k += TD_LANES)
            UNROLL for (int h = 0; h < HALVES; h++) {
                F v = f_load_as(type, w.row[0], k + h * WIDTH);
                if (type == TD_F8_E4M3) v = f_mul(v, f_set(w.scale[0][k / TD_F8_BLOCK]));
                f_store(p->data[o] + k + h * WIDTH, v);
            }
        if (k < p->n) memcpy(p->data[o] + k, w.tail[0], sizeof w.tail[0]);
    }
}

/* All outputs of the panel with ROWS rows. */
INLINE void panel_tile(const td_matmul_job *job, panel *p, int first_row, int64_t out, int64_t begin, const int ROWS)
{
    float sums[TILE_OUTS * TILE_ROWS];
    const float *x[TILE_ROWS];
    weights w;
    for (int r = 0; r < ROWS; r++) x[r] = (const float *)row_of(job, first_row + r) + begin;
    for (int o = 0; o < p->outs; o += TILE_OUTS) {
        for (int i = 0; i < TILE_OUTS; i++) {
            w.row[i] = (const char *)p->data[TD_MIN(o + i, p->outs - 1)];
            if (p->n % TD_LANES != 0) memcpy(w.tail[i], (const float *)w.row[i] + p->n / TD_LANES * TD_LANES, sizeof w.tail[i]);
        }
        fetch_some(&p->next);
        tile(TD_F32, &w, x, p->n, NULL, TILE_OUTS, ROWS, sums);
        put(job, first_row, out + o, begin == 0, TILE_OUTS, ROWS, sums);
    }
}

static void panel_rows(const td_matmul_job *job, panel *p, int64_t out, int64_t begin)
{
    int r = 0;
    for (; r + TILE_ROWS <= job->rows; r += TILE_ROWS) panel_tile(job, p, r, out, begin, TILE_ROWS);
    switch (job->rows - r) {
    case 1: panel_tile(job, p, r, out, begin, 1); break;
    case 2: panel_tile(job, p, r, out, begin, 2); break;
#if defined(__AVX512F__)
    case 3: panel_tile(job, p, r, out, begin, 3); break;
    case 4: panel_tile(job, p, r, out, begin, 4); break;
    case 5: panel_tile(job, p, r, out, begin, 5); break;
#endif
    default: break;
    }
}

INLINE void panels(const td_matmul_job *job, const td_dtype type)
{
    int64_t k = job->w->shape[1];
    size_t element = td_dtype_row_bytes(type, 1);
    panel p;
    for (int64_t out = job->out_begin; out < job->out_end; out += PANEL_OUTS) {
        p.outs = (int)TD_MIN(PANEL_OUTS, job->out_end - out);
        for (int64_t begin = 0; begin < k; begin += TD_K_BLOCK) {
            p.n = (int)TD_MIN(k - begin, TD_K_BLOCK);
            convert(job, type, out, begin, &p);
            bool across = begin + p.n >= k; /* the next panel is of the next outputs */
            int64_t next_out = across ? out + PANEL_OUTS : out, next_begin = across ? 0 : begin + p.n;
            p.next = fetch_plan((const char *)job->w->data + (size_t)(next_out * k + next_begin) * element, TD_MIN(PANEL_OUTS, job->out_end - next_out),
                (int64_t)element * TD_MIN(k - next_begin, TD_K_BLOCK), k * (int64_t)element, (job->rows + TILE_ROWS - 1) / TILE_ROWS * ((p.outs + TILE_OUTS - 1) / TILE_OUTS));
            panel_rows(job, &p, out, begin);
        }
    }
}

INLINE void matmul(const td_matmul_job *job, const td_dtype type)
{
    if (job->w->shape[1] == 0)
        for (int r = 0; r < job->rows; r++)
            for (int64_t o = job->out_begin; o < job->out_end; o++) job->y[r * job->y_stride + o] = 0;
    if (job->rows <= FEW_ROWS) direct_rows(job, type);
    else panels(job, type);
}

void WIDE(matmul_f32)(const td_matmul_job *job) { matmul(job, TD_F32); }
void WIDE(matmul_f16)(const td_matmul_job *job) { matmul(job, TD_F16); }
void WIDE(matmul_bf16)(const td_matmul_job *job) { matmul(job, TD_BF16); }
void WIDE(matmul_f8)(const td_matmul_job *job) { matmul(job, TD_F8_E4M3); }
