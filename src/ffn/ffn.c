/*
 * ffn.c - one layer of dense or routed experts for a batch of rows.
 *
 * Two passes over the pool. Pass 1, tasks (matrix pair, tile of hidden columns): gate and up for the rows of one expert, silu, product, stored as `down` wants them
 * (quantised once). Rows of an expert are gathered through an index; hidden rows lie in expert order ("compact" order).
 * Pass 2, tasks (tile of output columns): down of every expert for that tile, then each row's slots are added in slot order. So each weight is read once per
 * batch, and no buffer of rows x slots x d_model is needed.
 */
#include "ffn/ffn.h"

#include <stdlib.h>
#include <string.h>

#include "base/meter.h"
#include "kernel/linear.h"
#include "tensor/pack.h"

enum { HIDDEN_TILE = 256, ROW_TILE = 128, OUT_TILE_FEW = 128, OUT_TILE_MANY = 64, FEW_SLOTS = 1024 };

/* The rows of one expert (or of the dense / shared FFN), and where their hidden rows lie. */
typedef struct {
    const td_tensor *gate, *up, *down;
    const int32_t *x_rows;  /* NULL: all rows in order */
    int rows, first;        /* first: compact index of the first row within `hidden` */
    char *hidden;           /* rows of hidden_stride bytes */
    size_t hidden_stride;
    bool shared;
} group;

struct td_ffn {
    const td_model *model;
    const td_kernel *kernel;
    td_pool *pool;
    int rows_max;
    td_arena arena;
    td_rows x;
    group *groups;
    int group_count;
    int32_t *compact_row;   /* [rows*top_k] row of each compact index */
    int32_t *slot_compact;  /* [rows*top_k] compact index of each (row, slot), -1: none */
    int32_t *counts;        /* [experts + 1] */
    char *hidden_routed, *hidden_plain; /* routed experts; shared or dense */
    float *tile_buffers;    /* per worker: gate and up tiles in pass 1, slot and shared tiles in pass 2 */
    size_t tile_floats;     /* per worker */
    int *group_task;        /* first task of each group in pass 1 */
    /* the running job */
    const td_ffn_job *job;
    float *y, *slots, *shared;
    int64_t out_tile;
    td_work_sum work;
};

/* The widest hidden row in bytes over the forms that a down matrix may want. */
static size_t hidden_bytes_max(int64_t d)
{
    int64_t padded = (d + TD_QK_BLOCK - 1) / TD_QK_BLOCK * TD_QK_BLOCK;
    return TD_MAX(td_act_row_bytes(TD_ACT_F32, padded), TD_MAX(td_act_row_bytes(TD_ACT_Q8, padded), td_act_row_bytes(TD_ACT_Q8K, padded)));
}

static td_status reserve(td_ffn *ffn)
{
    const td_config *c = &ffn->model->config;
    size_t rows = (size_t)ffn->rows_max, slots = rows * (size_t)TD_MAX(c->top_k, 1);
    int groups_max = (int)TD_MIN((size_t)c->experts, slots) + 1;
    TD_TRY(td_rows_reserve(&ffn->x, &ffn->arena, ffn->rows_max, c->d_model));
    size_t pass1 = 2u * ROW_TILE * HIDDEN_TILE;
    size_t pass2 = TD_MAX(TD_MIN(slots, FEW_SLOTS) * OUT_TILE_FEW, slots * OUT_TILE_MANY) + rows * OUT_TILE_FEW;
    ffn->tile_floats = TD_MAX(pass1, pass2);
    ffn->groups = TD_NEW(&ffn->arena, group, (size_t)groups_max);
    ffn->group_task = TD_NEW(&ffn->arena, int, (size_t)groups_max + 1);
    ffn->compact_row = TD_NEW(&ffn->arena, int32_t, slots);
    ffn->slot_compact = TD_NEW(&ffn->arena, int32_t, slots);
    ffn->counts = TD_NEW(&ffn->arena, int32_t, (size_t)c->experts + 1);
    ffn->hidden_routed = td_arena_array(&ffn->arena, c->experts ? slots : 0, hidden_bytes_max(c->d_expert));
    ffn->hidden_plain = td_arena_array(&ffn->arena, rows, hidden_bytes_max(TD_MAX(c->d_ff, c->d_shared)));
    ffn->tile_buffers = TD_NEW(&ffn->arena, float, ffn->tile_floats * (size_t)td_pool_threads(ffn->pool));
    bool all = ffn->groups && ffn->group_task && ffn->compact_row && ffn->slot_compact && ffn->counts && ffn->hidden_routed && ffn->hidden_plain && ffn->tile_buffers;
    return all ? TD_OK : TD_E_MEMORY;
}

td_status td_ffn_open(const td_model *model, const td_kernel *kernel, td_pool *pool, int rows_max, td_ffn **out)
{
    td_ffn *ffn = calloc(1, sizeof *ffn);
    if (!ffn) return td_fail(TD_E_MEMORY, "ffn: no memory");
    *ffn = (td_ffn){.model = model, .kernel = kernel, .pool = pool, .rows_max = rows_max, .arena = {.name = "ffn"}};
    td_status status = reserve(ffn);
    if (status < 0) {
        td_ffn_close(ffn);
        return status;
    }
    *out = ffn;
    return TD_OK;
}

void td_ffn_close(td_ffn *ffn)
{
    if (!ffn) return;
    td_arena_free(&ffn->arena);
    free(ffn);
}

size_t td_ffn_scratch_bytes(const td_ffn *ffn) { return ffn->arena.bytes_reserved; }

const td_work_sum *td_ffn_work(const td_ffn *ffn) { return &ffn->work; }

/* Tells a product which weights are read after its own: the first outputs of w from `out` on. */
static void then_read(td_matmul_job *job, const td_tensor *w, int64_t out)
{
    if (!w->packed) return;
    size_t row_bytes = td_dtype_row_bytes(w->type, w->shape[1]);
    job->next = (const char *)w->data + (size_t)out * row_bytes;
    job->next_bytes = TD_PACK_ROWS * row_bytes;
}

/* ---- pass 1: hidden rows ------------------------------------------------------------------------------------------------------------- */

static void hidden_tile(td_ffn *ffn, const group *g, int64_t begin, int64_t end, float *buffer)
{
    const td_kernel *kernel = ffn->kernel;
    td_act_kind kind = td_act_kind_of(g->down->type);
    float *gate = buffer, *up = buffer + ROW_TILE * HIDDEN_TILE;
    size_t x_stride;
    const void *x = td_rows_as(&ffn->x, kernel, ffn->pool, g->gate->type, &x_stride);
    size_t up_stride;
    const void *x_up = td_rows_as(&ffn->x, kernel, ffn->pool, g->up->type, &up_stride);
    for (int first = 0; first < g->rows; first += ROW_TILE) {
        int rows = TD_MIN(ROW_TILE, g->rows - first);
        td_matmul_job job = {.w = g->gate, .x_stride = x_stride, .rows = rows, .out_begin = begin, .out_end = end, .y = gate - begin, .y_stride = HIDDEN_TILE};
        job.x = g->x_rows ? x : (const char *)x + (size_t)first * x_stride;
        job.x_rows = g->x_rows ? g->x_rows + first : NULL;
        then_read(&job, g->up, begin);
        kernel->matmul[g->gate->type](&job);
        job.w = g->up;
        job.next = NULL;
        job.x_stride = up_stride;
        job.x = g->x_rows ? x_up : (const char *)x_up + (size_t)first * up_stride;
        job.y = up - begin;
        kernel->matmul[g->up->type](&job);
        for (int r = 0; r < rows; r++) {
            float *h = gate + (int64_t)r * HIDDEN_TILE;
            kernel->silu_mul(h, up + (int64_t)r * HIDDEN_TILE, end - begin, 0.0f);
            char *to = g->hidden + (size_t)(g->first + first + r) * g->hidden_stride + td_act_row_bytes(kind, begin);
            if (kind == TD_ACT_F32) memcpy(to, h, (size_t)(end - begin) * sizeof(float));
            else td_act_quantise(kernel, kind, h, end - begin, to);
        }
    }
}

static void hidden_task(void *arg, int task, int worker)
{
    td_ffn *ffn = arg;
    int low = 0, high = ffn->group_count - 1; /* the last group whose first task is not after this one */
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (ffn->group_task[middle] <= task) low = middle;
        else high = middle - 1;
    }
    const group *g = &ffn->groups[low];
    int64_t begin = (int64_t)(task - ffn->group_task[low]) * HIDDEN_TILE;
    hidden_tile(ffn, g, begin, TD_MIN(begin + HIDDEN_TILE, g->gate->shape[0]), ffn->tile_buffers + (size_t)worker * ffn->tile_floats);
}

/* ---- pass 2: outputs ----------------------------------------------------------------------------------------------------------------- */

static void down_tile(const td_ffn *ffn, const group *g, const group *after, int64_t begin, int64_t end, float *out, int64_t out_stride)
{
    td_matmul_job job = {.w = g->down, .x = g->hidden + (size_t)g->first * g->hidden_stride, .x_stride = g->hidden_stride, .rows = g->rows, .out_begin = begin,
                         .out_end = end, .y = out + g->first * out_stride - begin, .y_stride = out_stride};
    if (after) then_read(&job, after->down, begin);
    ffn->kernel->matmul[g->down->type](&job);
}

static void combine(const td_kernel *kernel, float *y, const float *const *slots, const float *weights, int top_k, const float *shared, int64_t n)
{
    memset(y, 0, (size_t)n * sizeof *y);
    for (int s = 0; s < top_k; s++) kernel->add_scaled(y, slots[s], weights[s], n);
    if (shared) kernel->add(y, shared, n);
}

static void output_task(void *arg, int task, int worker)
{
    td_ffn *ffn = arg;
    const td_ffn_job *job = ffn->job;
    const td_config *c = &ffn->model->config;
    int64_t tile = ffn->out_tile, begin = task * tile, end = TD_MIN(begin + tile, (int64_t)c->d_model), n = end - begin;
    int top_k = job->ids ? c->top_k : 0;
    float *slot_tile = ffn->tile_buffers + (size_t)worker * ffn->tile_floats;
    float *plain_tile = slot_tile + (int64_t)job->rows * top_k * tile;
    bool plain = false;
    for (int i = 0; i < ffn->group_count; i++) {
        const group *g = &ffn->groups[i];
        plain |= g->shared;
        down_tile(ffn, g, i + 1 < ffn->group_count ? g + 1 : NULL, begin, end, g->shared ? plain_tile : slot_tile, tile);
    }
    for (int r = 0; r < job->rows; r++) {
        const float *shared = plain ? plain_tile + r * tile : NULL;
        if (ffn->y && top_k == 0) {
            memcpy(ffn->y + (int64_t)r * c->d_model + begin, shared, (size_t)n * sizeof(float));
        } else if (ffn->y) {
            const float *slots[TD_TOP_K_MAX];
            for (int s = 0; s < top_k; s++) slots[s] = slot_tile + ffn->slot_compact[r * top_k + s] * tile;
            combine(ffn->kernel, ffn->y + (int64_t)r * c->d_model + begin, slots, job->weights + r * top_k, top_k, shared, n);
        } else {
            for (int s = 0; s < top_k; s++) {
                int compact = ffn->slot_compact[r * top_k + s];
                if (compact >= 0) memcpy(ffn->slots + ((int64_t)r * top_k + s) * c->d_model + begin, slot_tile + compact * tile, (size_t)n * sizeof(float));
            }
            if (ffn->shared && shared) memcpy(ffn->shared + (int64_t)r * c->d_model + begin, shared, (size_t)n * sizeof(float));
        }
    }
}

/* ---- a job --------------------------------------------------------------------------------------------------------------------------- */

static void add_group(td_ffn *ffn, const td_tensor *gate, const td_tensor *up, const td_tensor *down, const int32_t *x_rows, int rows, int first, bool shared)
{
    ffn->groups[ffn->group_count++] = (group){
        .gate = gate, .up = up, .down = down, .x_rows = x_rows, .rows = rows, .first = first, .shared = shared,
        .hidden = shared ? ffn->hidden_plain : ffn->hidden_routed,
        .hidden_stride = td_act_row_bytes(td_act_kind_of(down->type), down->shape[1]),
    };
}

/* Counting sort of (row, slot) by expert; rows of an expert stay in ascending order. */
static void group_by_expert(td_ffn *ffn, const td_ffn_job *job, const td_layer_ffn *layer)
{
    const td_config *c = &ffn->model->config;
    int slots = job->rows * c->top_k;
    memset(ffn->counts, 0, ((size_t)c->experts + 1) * sizeof *ffn->counts);
    for (int i = 0; i < slots; i++)
        if (job->ids[i] >= 0) ffn->counts[job->ids[i] + 1]++;
    for (int e = 0; e < c->experts; e++) {
        int rows = ffn->counts[e + 1], first = ffn->counts[e];
        ffn->counts[e + 1] += first;
        if (rows) add_group(ffn, &layer->expert_gate[e], &layer->expert_up[e], &layer->expert_down[e], ffn->compact_row + first, rows, first, false);
    }
    for (int i = 0; i < slots; i++) { /* counts[e] now walks through expert e's compact indices */
        int e = job->ids[i];
        ffn->slot_compact[i] = e >= 0 ? ffn->counts[e]++ : -1;
        if (e >= 0) ffn->compact_row[ffn->slot_compact[i]] = i / c->top_k;
    }
}

static void run(td_ffn *ffn, const td_ffn_job *job, bool want_shared)
{
    const td_config *c = &ffn->model->config;
    const td_layer_ffn *layer = &ffn->model->ffn[job->layer];
    int64_t start = td_now_ns();
    double bytes = 0, flops = 0;
    ffn->job = job;
    ffn->group_count = 0;
    td_rows_set(&ffn->x, job->x, job->rows, c->d_model);
    if (job->ids) group_by_expert(ffn, job, layer);
    if (!job->ids) add_group(ffn, &layer->gate, &layer->up, &layer->down, NULL, job->rows, 0, true);
    else if (want_shared && layer->shared_gate.dims) add_group(ffn, &layer->shared_gate, &layer->shared_up, &layer->shared_down, NULL, job->rows, 0, true);
    int tasks = 0;
    size_t ignored;
    for (int i = 0; i < ffn->group_count; i++) {
        const group *g = &ffn->groups[i];
        td_rows_as(&ffn->x, ffn->kernel, ffn->pool, g->gate->type, &ignored); /* quantise before the pass, not inside it */
        td_rows_as(&ffn->x, ffn->kernel, ffn->pool, g->up->type, &ignored);
        bytes += (double)(td_tensor_bytes(g->gate) + td_tensor_bytes(g->up) + td_tensor_bytes(g->down));
        flops += 6.0 * g->rows * (double)g->gate->shape[0] * (double)g->gate->shape[1];
        ffn->group_task[i] = tasks;
        tasks += (int)((g->gate->shape[0] + HIDDEN_TILE - 1) / HIDDEN_TILE);
    }
    td_pool_run(ffn->pool, tasks, hidden_task, ffn);
    int slots = job->ids ? job->rows * c->top_k : 0;
    ffn->out_tile = slots <= FEW_SLOTS ? OUT_TILE_FEW : OUT_TILE_MANY;
    td_pool_run(ffn->pool, (int)((c->d_model + ffn->out_tile - 1) / ffn->out_tile), output_task, ffn);
    td_work_add(&ffn->work, start, bytes, flops);
}

void td_ffn_run(td_ffn *ffn, const td_ffn_job *job, float *y)
{
    if (job->rows == 0) return;
    ffn->y = y;
    ffn->slots = ffn->shared = NULL;
    run(ffn, job, true);
}

void td_ffn_slots(td_ffn *ffn, const td_ffn_job *job, float *slots, float *shared)
{
    if (job->rows == 0) return;
    ffn->y = NULL;
    ffn->slots = slots;
    ffn->shared = shared;
    run(ffn, job, shared != NULL);
}

void td_ffn_combine(const td_kernel *kernel, float *y, const float *slots, int64_t slot_stride, const float *weights, int top_k, const float *shared, int64_t d_model)
{
    const float *rows[TD_TOP_K_MAX];
    for (int s = 0; s < top_k; s++) rows[s] = slots + s * slot_stride;
    combine(kernel, y, rows, weights, top_k, shared, d_model);
}
