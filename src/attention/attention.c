/*
 * attention.c - a layer of the A wing for one micro-batch.
 *
 *   x -> norm -> q (MFA: down, norm, up; MLA: down, norm, up, absorb W_uk), k, v -> head norms -> RoPE -> KV pages -> attend -> (MLA: W_uv) -> o -> x +=
 *   x -> norm -> router
 *
 * K and V of all rows are written before any row attends. Query-sized buffers hold ROW bytes for at most `q_rows` rows; larger batches go through them in turns.
 */
#include "attention/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/attend.h"
#include "attention/router.h"
#include "base/meter.h"
#include "kernel/linear.h"

enum { QUERY_BUFFER_BYTES = 48 << 20, ROWS_ALONE = 2 };

struct td_attention {
    const td_model *model;
    const td_kernel *kernel;
    td_pool *pool;
    td_kv *kv;
    td_arena arena;
    td_attend *attend;
    int rows_max, q_rows, logit_rows_max;
    td_rows rows;             /* activations of the running product */
    float *h;                 /* [rows_max, d_model] normalised rows, then o's output */
    float *qa;                /* [rows_max, q_rank] */
    float *kv_rows;           /* [rows_max, kv_heads*k_dim] then [rows_max, kv_heads*v_dim] */
    float *v_rows;
    float *q, *q_absorbed;    /* [q_rows, heads, ..]; absorbed: MLA */
    float *latent, *heads_out;/* [q_rows, heads, v_dim], MLA also [q_rows, heads, head_v_dim] */
    float *cos, *sin;         /* [rows_max, rope_dim/2] of the step's rows */
    float *router_scratch;    /* per worker 2 * experts */
    float *scores;            /* [rows_max, experts] */
    void **head_acts;         /* per worker, one quantised head row (MLA) */
    /* the running call */
    const td_layer_attention *weights;
    const td_batch *batch;
    int layer, first, count;
    float *x, *m;
    int32_t *ids;
    float *chosen;
    const int32_t *tokens;
    td_work_sum work[TD_WORK_CLASSES];
};

static int64_t q_width(const td_config *c) { return c->attention == TD_ATTN_MLA ? c->nope_dim + c->rope_dim : c->k_dim; }

static td_status reserve(td_attention *a, int64_t context_max)
{
    const td_config *c = &a->model->config;
    td_arena *arena = &a->arena;
    bool mla = c->attention == TD_ATTN_MLA;
    size_t rows = (size_t)a->rows_max, heads = (size_t)c->heads, threads = (size_t)td_pool_threads(a->pool);
    size_t per_row = heads * sizeof(float) * (size_t)(q_width(c) + c->v_dim + (mla ? c->k_dim + c->head_v_dim : 0));
    a->q_rows = (int)TD_MIN(rows, TD_MAX((size_t)QUERY_BUFFER_BYTES / per_row, (size_t)16));
    size_t q_rows = (size_t)a->q_rows;
    int64_t widest = TD_MAX(c->d_model, TD_MAX(c->q_rank, c->heads * c->head_v_dim));
    TD_TRY(td_rows_reserve(&a->rows, arena, a->rows_max, widest));
    a->h = TD_NEW(arena, float, rows * (size_t)c->d_model);
    a->qa = TD_NEW(arena, float, rows * (size_t)c->q_rank);
    a->kv_rows = TD_NEW(arena, float, rows * (size_t)(c->kv_heads * c->k_dim));
    a->v_rows = TD_NEW(arena, float, mla ? 0 : rows * (size_t)(c->kv_heads * c->v_dim));
    a->q = TD_NEW(arena, float, q_rows * heads * (size_t)q_width(c));
    a->q_absorbed = mla ? TD_NEW(arena, float, q_rows * heads * (size_t)c->k_dim) : a->q;
    a->latent = TD_NEW(arena, float, q_rows * heads * (size_t)c->v_dim);
    a->heads_out = mla ? TD_NEW(arena, float, q_rows * heads * (size_t)c->head_v_dim) : a->latent;
    a->cos = TD_NEW(arena, float, rows * (size_t)c->rope_dim / 2);
    a->sin = TD_NEW(arena, float, rows * (size_t)c->rope_dim / 2);
    a->scores = TD_NEW(arena, float, rows * (size_t)c->experts);
    a->router_scratch = TD_NEW(arena, float, threads * 2 * (size_t)c->experts);
    a->head_acts = TD_NEW(arena, void *, threads);
    if (!a->h || !a->qa || !a->kv_rows || !a->v_rows || !a->q || !a->q_absorbed || !a->latent || !a->heads_out || !a->cos || !a->sin || !a->scores || !a->router_scratch || !a->head_acts)
        return TD_E_MEMORY;
    for (size_t t = 0; mla && t < threads; t++) {
        int64_t widest_head = (TD_MAX(c->nope_dim, c->v_dim) + TD_QK_BLOCK - 1) / TD_QK_BLOCK * TD_QK_BLOCK;
        a->head_acts[t] = td_arena_array(arena, q_rows, TD_MAX(td_act_row_bytes(TD_ACT_Q8, widest_head), td_act_row_bytes(TD_ACT_Q8K, widest_head)));
        if (!a->head_acts[t]) return TD_E_MEMORY;
    }
    return td_attend_open(c, a->kernel, a->pool, a->kv, a->rows_max, context_max, arena, &a->attend);
}

td_status td_attention_open(const td_model *model, const td_kernel *kernel, td_pool *pool, td_kv *kv, int rows_max, int64_t context_max, int logit_rows_max, td_attention **out)
{
    td_attention *a = calloc(1, sizeof *a);
    if (!a) return td_fail(TD_E_MEMORY, "attention: no memory");
    *a = (td_attention){.model = model, .kernel = kernel, .pool = pool, .kv = kv, .rows_max = rows_max, .logit_rows_max = logit_rows_max, .arena = {.name = "attention"}};
    td_status status = reserve(a, context_max);
    if (status < 0) {
        td_attention_close(a);
        return status;
    }
    *out = a;
    return TD_OK;
}

void td_attention_close(td_attention *attention)
{
    if (!attention) return;
    td_arena_free(&attention->arena);
    free(attention);
}

size_t td_attention_scratch_bytes(const td_attention *attention) { return attention->arena.bytes_reserved; }

/* Runs fn for every row; a few rows are not worth waking the pool. */
static void for_rows(td_attention *a, int rows, td_task fn)
{
    if (rows <= ROWS_ALONE)
        for (int r = 0; r < rows; r++) fn(a, r, 0);
    else td_pool_run(a->pool, rows, fn, a);
}

static void look(const td_tap *tap, td_point point, int layer, const td_batch *batch, int width, float *data)
{
    if (tap && tap->points & 1u << point) tap->look(tap->user, point, layer, batch, width, data);
}

static double product_flops(const td_tensor *w, int rows) { return 2.0 * rows * (double)w->shape[0] * (double)w->shape[1]; }

static void product(td_attention *a, int class, const td_tensor *w, const float *x, int rows, float *y, const float *bias)
{
    int64_t start = td_now_ns();
    td_rows_set(&a->rows, x, rows, w->shape[1]);
    td_linear one = {.w = w, .x = &a->rows, .y = y, .y_stride = w->shape[0], .bias = bias};
    td_linear_run(a->kernel, a->pool, &one, 1);
    td_work_add(&a->work[class], start, (double)td_tensor_bytes(w), product_flops(w, rows));
}

/* ---- rows of a layer ----------------------------------------------------------------------------------------------------------------- */

static const td_slice *slice_of(const td_batch *batch, int row)
{
    int low = 0, high = batch->slice_count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (batch->slices[middle].row <= row) low = middle;
        else high = middle - 1;
    }
    return &batch->slices[low];
}

static int64_t position_of(const td_batch *batch, int row)
{
    const td_slice *slice = slice_of(batch, row);
    return slice->position + (row - slice->row);
}

static void angle_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    int half = c->rope_dim / 2;
    float position = (float)position_of(a->batch, row);
    for (int i = 0; i < half; i++) {
        double angle = (double)(position * c->rope_frequencies[i]);
        a->cos[(a->batch->step_row + row) * half + i] = (float)cos(angle) * c->rope_magnitude;
        a->sin[(a->batch->step_row + row) * half + i] = (float)sin(angle) * c->rope_magnitude;
    }
}

void td_attention_begin(td_attention *a, const td_batch *batch)
{
    a->batch = batch;
    for_rows(a, batch->rows, angle_task);
}

static void norm_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    a->kernel->rmsnorm(a->h + (int64_t)row * c->d_model, a->x + (int64_t)row * c->d_model, a->weights->attn_norm, c->d_model, c->norm_eps);
}

static void rotate(const td_attention *a, float *head, int row)
{
    const td_config *c = &a->model->config;
    int half = c->rope_dim / 2;
    float *part = c->attention == TD_ATTN_MLA ? head + c->nope_dim : head;
    int64_t at = (int64_t)(a->batch->step_row + row) * half;
    a->kernel->rope(part, a->cos + at, a->sin + at, c->rope_dim, c->rope_neox);
}

/* Norms and rotates a row's K, and stores K and V in its page. */
static void store_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    bool mla = c->attention == TD_ATTN_MLA;
    const td_slice *slice = slice_of(a->batch, row);
    int64_t position = slice->position + (row - slice->row);
    int32_t page = slice->pages[position / TD_PAGE_TOKENS];
    size_t at = (size_t)(position % TD_PAGE_TOKENS);
    for (int head = 0; head < c->kv_heads; head++) {
        float *k = a->kv_rows + ((int64_t)row * c->kv_heads + head) * c->k_dim;
        if (mla) {
            a->kernel->rmsnorm(k, k, a->weights->kv_a_norm, c->kv_rank, c->latent_eps);
            rotate(a, k + c->kv_rank - c->nope_dim, row);
        } else {
            if (c->qk_norm) a->kernel->rmsnorm(k, k, a->weights->k_norm, c->k_dim, c->norm_eps);
            rotate(a, k, row);
            a->kernel->store_row(td_kv_dtype(a->kv), a->v_rows + ((int64_t)row * c->kv_heads + head) * c->v_dim,
                                 (char *)td_kv_v(a->kv, a->layer, page, head) + at * td_kv_v_row_bytes(a->kv), c->v_dim);
        }
        a->kernel->store_row(td_kv_dtype(a->kv), k, (char *)td_kv_k(a->kv, a->layer, page, head) + at * td_kv_k_row_bytes(a->kv), c->k_dim);
    }
}

static void query_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    int64_t width = q_width(c);
    for (int head = 0; head < c->heads; head++) {
        float *q = a->q + ((int64_t)row * c->heads + head) * width;
        if (c->qk_norm) a->kernel->rmsnorm(q, q, a->weights->q_norm, width, c->norm_eps);
        rotate(a, q, a->first + row);
    }
}

/* ---- MLA: per-head products on either side of the latent space -------------------------------------------------------------------------- */

/* y[row] = w * x[row] for one head: x rows x_stride apart, y rows y_stride apart. */
static void head_product(td_attention *a, const td_tensor *w, const float *x, int64_t x_stride, float *y, int64_t y_stride, int worker)
{
    td_act_kind kind = td_act_kind_of(w->type);
    td_matmul_job job = {.w = w, .x = x, .x_stride = (size_t)x_stride * sizeof(float), .rows = a->count, .out_end = w->shape[0], .y = y, .y_stride = y_stride};
    if (kind != TD_ACT_F32) {
        job.x = a->head_acts[worker];
        job.x_stride = td_act_row_bytes(kind, w->shape[1]);
        for (int r = 0; r < a->count; r++) td_act_quantise(a->kernel, kind, x + r * x_stride, w->shape[1], (char *)a->head_acts[worker] + (size_t)r * job.x_stride);
    }
    a->kernel->matmul[w->type](&job);
}

/* Query in latent space: [W_uk^T q_nope, q_rope]. */
static void absorb_task(void *arg, int head, int worker)
{
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    int64_t width = q_width(c), from_stride = c->heads * width, to_stride = (int64_t)c->heads * c->k_dim;
    const float *from = a->q + head * width;
    float *to = a->q_absorbed + (int64_t)head * c->k_dim;
    head_product(a, &a->weights->k_b[head], from, from_stride, to, to_stride, worker);
    for (int r = 0; r < a->count; r++) memcpy(to + r * to_stride + c->kv_rank, from + r * from_stride + c->nope_dim, (size_t)c->rope_dim * sizeof(float));
}

static void unabsorb_task(void *arg, int head, int worker)
{
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    head_product(a, &a->weights->v_b[head], a->latent + (int64_t)head * c->v_dim, (int64_t)c->heads * c->v_dim, a->heads_out + (int64_t)head * c->head_v_dim,
                 (int64_t)c->heads * c->head_v_dim, worker);
}

static void per_head(td_attention *a, td_task fn, const td_tensor *weights)
{
    int heads = a->model->config.heads;
    int64_t start = td_now_ns();
    td_pool_run(a->pool, heads, fn, a);
    td_work_add(&a->work[TD_WORK_PROJECTIONS], start, heads * (double)td_tensor_bytes(weights), heads * product_flops(weights, a->count));
}

/* ---- the layer ----------------------------------------------------------------------------------------------------------------------- */

/* Does q come from the same rows as k and v, and is there room for all of it at once? */
static bool q_with_k(const td_attention *a, int rows) { return !a->model->config.q_rank && rows <= a->q_rows; }

/* q_a and its norm where the family has them, k and v, and q where it can: all from the normalised rows in one pass. */
static void project(td_attention *a, int rows)
{
    const td_config *c = &a->model->config;
    const td_layer_attention *w = a->weights;
    td_linear list[3];
    int count = 0;
    int64_t start = td_now_ns();
    double bytes = 0, flops = 0;
    td_rows_set(&a->rows, a->h, rows, c->d_model);
    if (q_with_k(a, rows)) list[count++] = (td_linear){.w = &w->q, .x = &a->rows, .y = a->q, .y_stride = w->q.shape[0], .bias = w->q_bias};
    if (c->q_rank) list[count++] = (td_linear){.w = &w->q_a, .x = &a->rows, .y = a->qa, .y_stride = c->q_rank};
    list[count++] = (td_linear){.w = &w->k, .x = &a->rows, .y = a->kv_rows, .y_stride = w->k.shape[0], .bias = w->k_bias};
    if (w->v.dims) list[count++] = (td_linear){.w = &w->v, .x = &a->rows, .y = a->v_rows, .y_stride = w->v.shape[0], .bias = w->v_bias};
    td_linear_run(a->kernel, a->pool, list, count);
    for (int i = 0; i < count; i++) bytes += (double)td_tensor_bytes(list[i].w), flops += product_flops(list[i].w, rows);
    td_work_add(&a->work[TD_WORK_PROJECTIONS], start, bytes, flops);
    if (c->q_rank)
        for (int r = 0; r < rows; r++) a->kernel->rmsnorm(a->qa + (int64_t)r * c->q_rank, a->qa + (int64_t)r * c->q_rank, w->q_a_norm, c->q_rank, c->latent_eps);
}

void td_attention_layer(td_attention *a, int layer, const td_batch *batch, float *x, const td_tap *tap)
{
    const td_config *c = &a->model->config;
    const td_layer_attention *w = &a->model->attention[layer];
    bool mla = c->attention == TD_ATTN_MLA;
    a->weights = w;
    a->batch = batch;
    a->layer = layer;
    a->x = x;
    for_rows(a, batch->rows, norm_task);
    look(tap, TD_POINT_ATTN_IN, layer, batch, c->d_model, a->h);
    project(a, batch->rows);
    for_rows(a, batch->rows, store_task);
    for (a->first = 0; a->first < batch->rows; a->first += a->count) {
        a->count = TD_MIN(a->q_rows, batch->rows - a->first);
        const float *from = c->q_rank ? a->qa + (int64_t)a->first * c->q_rank : a->h + (int64_t)a->first * c->d_model;
        if (!q_with_k(a, batch->rows)) product(a, TD_WORK_PROJECTIONS, &w->q, from, a->count, a->q, w->q_bias);
        for_rows(a, a->count, query_task);
        if (mla) per_head(a, absorb_task, w->k_b);
        int64_t start = td_now_ns();
        td_attended seen = td_attend_run(a->attend, layer, batch, a->first, a->count, a->q_absorbed, a->latent);
        td_work_add(&a->work[TD_WORK_ATTENTION], start, seen.bytes, seen.flops);
        if (mla) per_head(a, unabsorb_task, w->v_b);
        product(a, TD_WORK_PROJECTIONS, &w->o, a->heads_out, a->count, a->h + (int64_t)a->first * c->d_model, w->o_bias);
    }
    look(tap, TD_POINT_ATTN_OUT, layer, batch, c->d_model, a->h);
    a->kernel->add(x, a->h, (int64_t)batch->rows * c->d_model);
    look(tap, TD_POINT_RESID_MID, layer, batch, c->d_model, x);
}

static void ffn_norm_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    a->kernel->rmsnorm(a->m + (int64_t)row * c->d_model, a->x + (int64_t)row * c->d_model, a->weights->ffn_norm, c->d_model, c->norm_eps);
}

static void score_task(void *arg, int row, int worker)
{
    (void)worker;
    td_attention *a = arg;
    td_router_score_row(&a->model->config, a->kernel, a->scores + (int64_t)row * a->model->config.experts);
}

static void choose_task(void *arg, int row, int worker)
{
    td_attention *a = arg;
    const td_config *c = &a->model->config;
    td_router_choose(c, a->scores + (int64_t)row * c->experts, a->weights->router_bias, a->ids + (int64_t)row * c->top_k, a->chosen + (int64_t)row * c->top_k,
                     a->router_scratch + (size_t)worker * 2 * (size_t)c->experts);
}

void td_attention_route(td_attention *a, int layer, const td_batch *batch, const float *x, float *m, int32_t *ids, float *weights, const td_tap *tap)
{
    const td_config *c = &a->model->config;
    a->weights = &a->model->attention[layer];
    a->x = (float *)(uintptr_t)x;
    a->m = m;
    a->ids = ids;
    a->chosen = weights;
    for_rows(a, batch->rows, ffn_norm_task);
    look(tap, TD_POINT_FFN_IN, layer, batch, c->d_model, m);
    if (!a->model->is_moe[layer]) return;
    product(a, TD_WORK_PROJECTIONS, &a->weights->router, m, batch->rows, a->scores, NULL);
    for_rows(a, batch->rows, score_task);
    look(tap, TD_POINT_ROUTER, layer, batch, c->experts, a->scores);
    for_rows(a, batch->rows, choose_task);
}

/* ---- both ends ----------------------------------------------------------------------------------------------------------------------- */

void td_attention_embed(td_attention *a, const int32_t *tokens, int rows, float *x)
{
    const td_tensor *embed = &a->model->embed;
    for (int r = 0; r < rows; r++) td_tensor_row(embed, tokens[r], x + (int64_t)r * embed->shape[1]); /* with the scales of an FP8 one */
}

void td_attention_final_norm(td_attention *a, int rows, float *x)
{
    const td_config *c = &a->model->config;
    for (int r = 0; r < rows; r++) a->kernel->rmsnorm(x + (int64_t)r * c->d_model, x + (int64_t)r * c->d_model, a->model->final_norm, c->d_model, c->norm_eps);
}

void td_attention_logits(td_attention *a, int rows, const float *x, float *logits) { product(a, TD_WORK_HEAD, &a->model->head, x, rows, logits, NULL); }

const td_work_sum *td_attention_work(const td_attention *a) { return a->work; }
