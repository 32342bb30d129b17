/* attend.c - see attend.h. All scratch is per worker or per wave entry; the arena is the attention room's. */
#include "attention/attend.h"

#include <math.h>
#include <string.h>

enum { QUERIES_WANTED = 128, WAVE_PER_THREAD = 4, UNITS_ENOUGH_PER_THREAD = 2 };

/* Running softmax state of a unit's queries. */
typedef struct { float *m, *l, *o; } state;

typedef struct {
    const td_slice *slice;
    int row, rows, head; /* batch rows, KV head */
    int end;             /* positions 0 .. end-1 are seen by the last row */
    int partitions;
} unit;

/* Buffers of one worker or of one unit in wave mode. */
typedef struct {
    float *q;
    int32_t *limits;
    const void **k_pages, **v_pages;
} unit_input;

struct td_attend {
    const td_config *config;
    const td_kernel *kernel;
    td_pool *pool;
    td_kv *kv;
    int queries_max, rows_per_unit, pages_max, units_max, wave_units, wave_max;
    unit *units;
    int unit_count;
    unit_input *worker_input, *wave_input; /* [threads], [wave_units] */
    state *worker_state, *worker_part;     /* [threads] */
    state *wave_state, *wave_part;         /* [wave_units], [wave_max] */
    float **worker_scratch;
    int *wave_unit, *wave_partition;       /* [wave_max] */
    int wave_count;
    /* the running job */
    int layer, first;
    const float *q;
    float *out;
};

static bool new_state(td_attend *a, td_arena *arena, state *s)
{
    s->m = TD_NEW(arena, float, (size_t)a->queries_max);
    s->l = TD_NEW(arena, float, (size_t)a->queries_max);
    s->o = TD_NEW(arena, float, (size_t)a->queries_max * (size_t)a->config->v_dim);
    return s->m && s->l && s->o;
}

static bool new_input(td_attend *a, td_arena *arena, unit_input *in)
{
    in->q = TD_NEW(arena, float, (size_t)a->queries_max * (size_t)a->config->k_dim);
    in->limits = TD_NEW(arena, int32_t, (size_t)a->queries_max);
    in->k_pages = TD_NEW(arena, const void *, (size_t)a->pages_max);
    in->v_pages = TD_NEW(arena, const void *, (size_t)a->pages_max);
    return in->q && in->limits && in->k_pages && in->v_pages;
}

static bool reserve(td_attend *a, td_arena *arena, int rows_max)
{
    size_t threads = (size_t)td_pool_threads(a->pool);
    a->wave_units = (int)threads * UNITS_ENOUGH_PER_THREAD;
    a->wave_max = (int)threads * WAVE_PER_THREAD;
    a->units_max = rows_max * a->config->kv_heads;
    a->units = TD_NEW(arena, unit, (size_t)a->units_max);
    a->worker_input = TD_NEW(arena, unit_input, threads);
    a->wave_input = TD_NEW(arena, unit_input, (size_t)a->wave_units);
    a->worker_state = TD_NEW(arena, state, threads);
    a->worker_part = TD_NEW(arena, state, threads);
    a->wave_state = TD_NEW(arena, state, (size_t)a->wave_units);
    a->wave_part = TD_NEW(arena, state, (size_t)a->wave_max);
    a->worker_scratch = TD_NEW(arena, float *, threads);
    a->wave_unit = TD_NEW(arena, int, (size_t)a->wave_max);
    a->wave_partition = TD_NEW(arena, int, (size_t)a->wave_max);
    bool all = a->units && a->worker_input && a->wave_input && a->worker_state && a->worker_part && a->wave_state && a->wave_part && a->worker_scratch && a->wave_unit && a->wave_partition;
    for (size_t t = 0; all && t < threads; t++) {
        a->worker_scratch[t] = TD_NEW(arena, float, td_attention_scratch_floats(a->queries_max, TD_PAGE_TOKENS, a->config->k_dim, a->config->v_dim));
        all = a->worker_scratch[t] && new_input(a, arena, &a->worker_input[t]) && new_state(a, arena, &a->worker_state[t]) && new_state(a, arena, &a->worker_part[t]);
    }
    for (int i = 0; all && i < a->wave_units; i++) all = new_input(a, arena, &a->wave_input[i]) && new_state(a, arena, &a->wave_state[i]);
    for (int i = 0; all && i < a->wave_max; i++) all = new_state(a, arena, &a->wave_part[i]);
    return all;
}

td_status td_attend_open(const td_config *config, const td_kernel *kernel, td_pool *pool, td_kv *kv, int rows_max, int64_t context_max, td_arena *arena, td_attend **out)
{
    td_attend *a = TD_NEW(arena, td_attend, 1);
    if (!a) return TD_E_MEMORY;
    int share = config->heads / config->kv_heads;
    *a = (td_attend){.config = config, .kernel = kernel, .pool = pool, .kv = kv};
    a->rows_per_unit = TD_MAX(QUERIES_WANTED / share, 1);
    a->queries_max = a->rows_per_unit * share;
    a->pages_max = (int)((context_max + TD_PAGE_TOKENS - 1) / TD_PAGE_TOKENS);
    if (!reserve(a, arena, rows_max)) return TD_E_MEMORY;
    *out = a;
    return TD_OK;
}

/* ---- one unit ------------------------------------------------------------------------------------------------------------------------ */

static int query_count(const td_attend *a, const unit *u) { return u->rows * (a->config->heads / a->config->kv_heads); }

/* Gathers the unit's scaled queries, their limits and the page addresses. */
static void load_unit(const td_attend *a, const unit *u, unit_input *in)
{
    const td_config *c = a->config;
    int share = c->heads / c->kv_heads;
    for (int r = 0; r < u->rows; r++) {
        const float *from = a->q + ((int64_t)(u->row - a->first + r) * c->heads + (int64_t)u->head * share) * c->k_dim;
        float *to = in->q + (int64_t)r * share * c->k_dim;
        for (int64_t i = 0; i < (int64_t)share * c->k_dim; i++) to[i] = from[i] * c->softmax_scale;
        int32_t limit = (int32_t)(u->slice->position + (u->row - u->slice->row) + r + 1);
        for (int h = 0; h < share; h++) in->limits[r * share + h] = limit;
    }
    for (int p = 0; p * TD_PAGE_TOKENS < u->end; p++) {
        in->k_pages[p] = td_kv_k(a->kv, a->layer, u->slice->pages[p], u->head);
        in->v_pages[p] = td_kv_v(a->kv, a->layer, u->slice->pages[p], u->head);
    }
}

static void run_partition(const td_attend *a, const unit *u, const unit_input *in, int partition, const state *out, float *scratch)
{
    const td_config *c = a->config;
    int begin = partition * TD_PARTITION_TOKENS;
    td_attention_job job = {
        .kv_type = td_kv_dtype(a->kv), .dk = c->k_dim, .dv = c->v_dim, .page_tokens = TD_PAGE_TOKENS, .k_pages = in->k_pages, .v_pages = in->v_pages,
        .k_row_bytes = td_kv_k_row_bytes(a->kv), .v_row_bytes = td_kv_v_row_bytes(a->kv), .begin = begin, .end = TD_MIN(begin + TD_PARTITION_TOKENS, u->end),
        .q = in->q, .q_stride = c->k_dim, .queries = query_count(a, u), .limits = in->limits, .window = c->window, .m = out->m, .l = out->l, .o = out->o, .scratch = scratch,
    };
    a->kernel->attention_part(&job);
}

/* Takes a finished partition into the running state; the first one that holds anything becomes the state. */
static void take_partition(const td_attend *a, int queries, state *into, const state *part, bool first)
{
    int dv = a->config->v_dim;
    for (int i = 0; i < queries; i++) {
        if (!first && part->l[i] == 0.0f) continue;
        if (first || into->l[i] == 0.0f) {
            into->m[i] = part->m[i];
            into->l[i] = part->l[i];
            memcpy(into->o + (int64_t)i * dv, part->o + (int64_t)i * dv, (size_t)dv * sizeof(float));
        } else {
            a->kernel->attention_merge(&into->m[i], &into->l[i], into->o + (int64_t)i * dv, part->m[i], part->l[i], part->o + (int64_t)i * dv, dv);
        }
    }
}

static void store_unit(const td_attend *a, const unit *u, const state *s)
{
    const td_config *c = a->config;
    int share = c->heads / c->kv_heads, dv = c->v_dim;
    for (int i = 0; i < query_count(a, u); i++) {
        int row = u->row - a->first + i / share, head = u->head * share + i % share;
        float *to = a->out + ((int64_t)row * c->heads + head) * dv;
        const float *from = s->o + (int64_t)i * dv;
        float inverse = 1.0f / s->l[i];
        for (int d = 0; d < dv; d++) to[d] = from[d] * inverse;
    }
}

static void unit_task(void *arg, int task, int worker)
{
    td_attend *a = arg;
    const unit *u = &a->units[task];
    state *whole = &a->worker_state[worker], *part = &a->worker_part[worker];
    load_unit(a, u, &a->worker_input[worker]);
    for (int p = 0; p < u->partitions; p++) {
        run_partition(a, u, &a->worker_input[worker], p, part, a->worker_scratch[worker]);
        take_partition(a, query_count(a, u), whole, part, p == 0);
    }
    store_unit(a, u, whole);
}

/* ---- waves: few units, many partitions ----------------------------------------------------------------------------------------------- */

static void load_task(void *arg, int task, int worker)
{
    (void)worker;
    td_attend *a = arg;
    load_unit(a, &a->units[task], &a->wave_input[task]);
}

static void partition_task(void *arg, int task, int worker)
{
    td_attend *a = arg;
    int u = a->wave_unit[task];
    run_partition(a, &a->units[u], &a->wave_input[u], a->wave_partition[task], &a->wave_part[task], a->worker_scratch[worker]);
}

static void merge_task(void *arg, int task, int worker)
{
    (void)worker;
    td_attend *a = arg;
    for (int i = 0; i < a->wave_count; i++)
        if (a->wave_unit[i] == task) take_partition(a, query_count(a, &a->units[task]), &a->wave_state[task], &a->wave_part[i], a->wave_partition[i] == 0);
}

static void run_waves(td_attend *a)
{
    td_pool_run(a->pool, a->unit_count, load_task, a);
    int u = 0, p = 0;
    while (u < a->unit_count) {
        for (a->wave_count = 0; a->wave_count < a->wave_max && u < a->unit_count; a->wave_count++) {
            a->wave_unit[a->wave_count] = u;
            a->wave_partition[a->wave_count] = p;
            if (++p == a->units[u].partitions) {
                u++;
                p = 0;
            }
        }
        td_pool_run(a->pool, a->wave_count, partition_task, a);
        td_pool_run(a->pool, a->unit_count, merge_task, a);
    }
    for (int i = 0; i < a->unit_count; i++) store_unit(a, &a->units[i], &a->wave_state[i]);
}

/* Units of the batch rows first .. first+rows-1; returns the partitions they have in all. A unit's later rows see more than its first: a window or the end of the context is taken as that of the last. */
static int64_t cut_units(td_attend *a, const td_batch *batch, int first, int rows, td_attended *seen)
{
    const td_config *c = a->config;
    int64_t partitions = 0;
    double row_bytes = (double)td_kv_k_row_bytes(a->kv) + (c->attention == TD_ATTN_MLA ? 0 : (double)td_kv_v_row_bytes(a->kv)); /* MLA: V is the front of K */
    a->unit_count = 0;
    for (int s = 0; s < batch->slice_count; s++) {
        const td_slice *slice = &batch->slices[s];
        int row = TD_MAX(slice->row, first), stop = TD_MIN(slice->row + slice->rows, first + rows);
        for (; row < stop; row += a->rows_per_unit) {
            int count = TD_MIN(a->rows_per_unit, stop - row);
            int end = (int)(slice->position + (row - slice->row) + count);
            for (int head = 0; head < a->config->kv_heads; head++) {
                unit *u = &a->units[a->unit_count++];
                *u = (unit){.slice = slice, .row = row, .rows = count, .head = head, .end = end, .partitions = (end + TD_PARTITION_TOKENS - 1) / TD_PARTITION_TOKENS};
                partitions += u->partitions;
                double positions = c->window > 0 ? TD_MIN(end, c->window) : end;
                seen->bytes += positions * row_bytes;
                seen->flops += 2 * positions * query_count(a, u) * (c->k_dim + c->v_dim);
            }
        }
    }
    return partitions;
}

td_attended td_attend_run(td_attend *a, int layer, const td_batch *batch, int first, int rows, const float *q, float *out)
{
    a->layer = layer;
    a->first = first;
    a->q = q;
    a->out = out;
    td_attended seen = {0};
    int64_t partitions = cut_units(a, batch, first, rows, &seen);
    if (a->unit_count < a->wave_units && partitions > a->unit_count && td_pool_threads(a->pool) > 1) run_waves(a);
    else td_pool_run(a->pool, a->unit_count, unit_task, a);
    return seen;
}
