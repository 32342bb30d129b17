/* linear.c - see linear.h. Tiles are multiples of 16 outputs, small enough that the last task of a pass does not keep the others waiting. */
#include "kernel/linear.h"

enum { TILE_STEP = 16, TASKS_PER_THREAD = 8, QUANTISE_ALONE = 4 };

td_status td_rows_reserve(td_rows *rows, td_arena *arena, int rows_max, int64_t k_max)
{
    int64_t k8 = (k_max + TD_Q_BLOCK - 1) / TD_Q_BLOCK * TD_Q_BLOCK, k256 = (k_max + TD_QK_BLOCK - 1) / TD_QK_BLOCK * TD_QK_BLOCK;
    rows->q8 = td_arena_array(arena, (size_t)rows_max, td_act_row_bytes(TD_ACT_Q8, k8));
    rows->q8k = td_arena_array(arena, (size_t)rows_max, td_act_row_bytes(TD_ACT_Q8K, k256));
    return rows->q8 && rows->q8k ? TD_OK : TD_E_MEMORY;
}

void td_rows_set(td_rows *rows, const float *x, int count, int64_t k)
{
    rows->x = x;
    rows->rows = count;
    rows->k = k;
    rows->has_q8 = rows->has_q8k = false;
}

typedef struct { const td_kernel *kernel; const td_rows *rows; td_act_kind kind; void *out; size_t stride; } quantise_run;

static void quantise_task(void *arg, int task, int worker)
{
    (void)worker;
    const quantise_run *run = arg;
    td_act_quantise(run->kernel, run->kind, run->rows->x + task * run->rows->k, run->rows->k, (char *)run->out + (size_t)task * run->stride);
}

const void *td_rows_as(td_rows *rows, const td_kernel *kernel, td_pool *pool, td_dtype weights, size_t *stride)
{
    td_act_kind kind = td_act_kind_of(weights);
    *stride = td_act_row_bytes(kind, rows->k);
    if (kind == TD_ACT_F32) return rows->x;
    bool *has = kind == TD_ACT_Q8 ? &rows->has_q8 : &rows->has_q8k;
    void *out = kind == TD_ACT_Q8 ? rows->q8 : rows->q8k;
    if (!*has) {
        quantise_run run = {kernel, rows, kind, out, *stride};
        if (rows->rows < QUANTISE_ALONE)
            for (int r = 0; r < rows->rows; r++) quantise_task(&run, r, 0);
        else td_pool_run(pool, rows->rows, quantise_task, &run);
        *has = true;
    }
    return out;
}

typedef struct {
    const td_kernel *kernel;
    const td_linear *list;
    td_matmul_job jobs[TD_LINEAR_MAX];
    int first_task[TD_LINEAR_MAX + 1];
    int64_t tile;
    int count;
} linear_run;

static void linear_task(void *arg, int task, int worker)
{
    (void)worker;
    const linear_run *run = arg;
    int which = 0;
    while (task >= run->first_task[which + 1]) which++;
    const td_linear *linear = &run->list[which];
    td_matmul_job job = run->jobs[which];
    job.out_begin = (task - run->first_task[which]) * run->tile;
    job.out_end = TD_MIN(job.out_begin + run->tile, linear->w->shape[0]);
    run->kernel->matmul[linear->w->type](&job);
    if (linear->bias)
        for (int r = 0; r < job.rows; r++)
            run->kernel->add(job.y + r * job.y_stride + job.out_begin, linear->bias + job.out_begin, job.out_end - job.out_begin);
}

void td_linear_run(const td_kernel *kernel, td_pool *pool, const td_linear *list, int count)
{
    linear_run run = {.kernel = kernel, .list = list, .count = count};
    int64_t outs = 0;
    for (int i = 0; i < count; i++) {
        outs += list[i].w->shape[0];
        td_matmul_job *job = &run.jobs[i];
        *job = (td_matmul_job){.w = list[i].w, .rows = list[i].x->rows, .y = list[i].y, .y_stride = list[i].y_stride};
        job->x = td_rows_as(list[i].x, kernel, pool, list[i].w->type, &job->x_stride);
    }
    int tasks_wanted = td_pool_threads(pool) * TASKS_PER_THREAD;
    run.tile = TD_MAX((outs / tasks_wanted + TILE_STEP - 1) / TILE_STEP * TILE_STEP, TILE_STEP);
    for (int i = 0; i < count; i++) run.first_task[i + 1] = run.first_task[i] + (int)((list[i].w->shape[0] + run.tile - 1) / run.tile);
    td_pool_run(pool, run.first_task[count], linear_task, &run);
}
