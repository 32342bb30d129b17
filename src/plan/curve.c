/*
 * curve.c - what one pass over the weights costs for 1 to 512 rows, by weight type and threads: the engine's own matrix products, timed on this machine. Kernels change their way of working at
 * certain numbers of rows (tiles, panels), so that time is no straight line; a table says what a formula would miss.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/sort.h"
#include "kernel/linear.h"
#include "plan/calibrate.h"
#include "tensor/pack.h"

enum { SIDE = 2048, WEIGHT_BYTES_MIN = 192 << 20, PASSES_MIN = 4, PASSES_MAX = 24, ROWS_MOST = 512 };
static const int rows_timed[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 14, 16, 17, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256, ROWS_MOST};
static const double PASS_SECONDS = 0.12;

typedef struct { td_tensor *weights; int count; char *data; float *x, *y; td_arena arena; td_rows rows; const td_kernel *kernel; td_pool *pool; } rig;

/* All rows are alike: one group of sixteen, packed, is every group. */
static td_status pack(rig *r, size_t row_bytes)
{
    size_t group = row_bytes * TD_PACK_ROWS, all = (size_t)r->count * row_bytes * SIDE;
    char *packed = malloc(group);
    if (!packed) return td_fail(TD_E_MEMORY, "timing the kernels: no memory");
    td_pack_rows(r->weights[0].type, SIDE, r->data, packed);
    for (size_t at = 0; at < all; at += group) memcpy(r->data + at, packed, group);
    free(packed);
    for (int m = 0; m < r->count; m++) r->weights[m].packed = true;
    return TD_OK;
}

static td_status rig_open(rig *r, td_dtype type)
{
    size_t row_bytes = td_dtype_row_bytes(type, SIDE), matrix = row_bytes * SIDE, all = (size_t)td_uncached_bytes(WEIGHT_BYTES_MIN);
    float row[SIDE];
    *r = (rig){.count = (int)(all / matrix), .arena = {.name = "curve"}};
    r->weights = calloc((size_t)r->count, sizeof *r->weights);
    r->data = aligned_alloc(2 << 20, ((size_t)r->count * matrix + (2 << 20) - 1) / (2 << 20) * (2 << 20));
    r->x = aligned_alloc(64, sizeof(float) * ROWS_MOST * SIDE);
    r->y = aligned_alloc(64, sizeof(float) * ROWS_MOST * SIDE);
    if (!r->weights || !r->data || !r->x || !r->y) return td_fail(TD_E_MEMORY, "timing the kernels needs %zu MiB", (all >> 20) + 8);
    for (int i = 0; i < SIDE; i++) row[i] = (float)(td_random_unit(1, (uint64_t)i) - 0.5);
    td_quantise_row(type, row, r->data, SIDE);
    for (size_t at = row_bytes; at < (size_t)r->count * matrix; at += row_bytes) memcpy(r->data + at, r->data, row_bytes);
    for (size_t i = 0; i < (size_t)ROWS_MOST * SIDE; i++) r->x[i] = (float)(td_random_unit(2, i) - 0.5);
    for (int m = 0; m < r->count; m++) r->weights[m] = (td_tensor){.type = type, .dims = 2, .shape = {SIDE, SIDE}, .data = r->data + (size_t)m * matrix};
    TD_TRY(td_kernel_pick(NULL, &r->kernel));
    if (r->kernel->packs && td_pack_fits(&r->weights[0])) TD_TRY(pack(r, row_bytes)); /* as the engine has them */
    return td_rows_reserve(&r->rows, &r->arena, ROWS_MOST, SIDE);
}

static void rig_close(rig *r)
{
    free(r->weights), free(r->data), free(r->x), free(r->y);
    td_arena_free(&r->arena);
}

/* Seconds of the products of rows with so many matrices, from the next one on. */
static double pass(rig *r, int rows, int matrices, int *next)
{
    int64_t start = td_now_ns();
    td_rows_set(&r->rows, r->x, rows, SIDE);
    for (int m = 0; m < matrices; m++, *next = (*next + 1) % r->count) {
        td_linear one = {.w = &r->weights[*next], .x = &r->rows, .y = r->y, .y_stride = SIDE};
        td_linear_run(r->kernel, r->pool, &one, 1);
    }
    return td_seconds_since(start);
}

/* Seconds per weight of a pass over all matrices (many rows: over some of them, each time others), so that weights come from memory as they do in a step: the median of several passes. */
static double time_rows(rig *r, int rows)
{
    double seconds[PASSES_MAX];
    int passes = 0, next = 0;
    double one = pass(r, rows, 1, &next); /* of slow kernels a pass over more would take minutes */
    int each = (int)fmax(1, fmin(rows < 32 ? r->count : r->count / 8, PASS_SECONDS / one)), least = each * one < PASS_SECONDS ? PASSES_MIN : 1;
    int64_t start = td_now_ns();
    while (passes < least || (passes < PASSES_MAX && td_seconds_since(start) < PASS_SECONDS)) seconds[passes++] = pass(r, rows, each, &next) / ((double)each * SIDE * SIDE);
    td_sort(seconds, passes);
    return seconds[passes / 2];
}

td_status plan_curve_measure(const char *dtype, int threads, plan_curve *out)
{
    static const td_dtype types[] = {TD_F32, TD_F16, TD_BF16, TD_Q8_0, TD_Q4_0, TD_Q4_K, TD_Q5_K, TD_Q6_K};
    plan_curve c = {.threads = threads, .count = TD_COUNT(rows_timed)};
    size_t t = 0;
    rig r = {0};
    while (t < TD_COUNT(types) && strcmp(td_dtype_name(types[t]), dtype)) t++;
    if (t == TD_COUNT(types)) return td_fail(TD_E_INVALID, "--weights: expected a type that the engine computes with (f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k), found '%s'", dtype);
    snprintf(c.dtype, sizeof c.dtype, "%s", dtype);
    td_status status = rig_open(&r, types[t]);
    if (status == TD_OK) status = td_pool_open(threads, &r.pool);
    if (status == TD_OK) {
        time_rows(&r, 1); /* pages and clock rate settle */
        for (int i = 0; i < c.count; i++) c.rows[i] = rows_timed[i], c.seconds[i] = time_rows(&r, rows_timed[i]);
        *out = c;
    }
    td_pool_close(r.pool);
    rig_close(&r);
    return status;
}

plan_curve plan_curve_median(const plan_curve sweeps[PLAN_SWEEPS])
{
    plan_curve c = sweeps[0];
    for (int i = 0; i < c.count; i++) {
        double seconds[PLAN_SWEEPS];
        for (int s = 0; s < PLAN_SWEEPS; s++) seconds[s] = sweeps[s].seconds[i];
        td_sort(seconds, PLAN_SWEEPS);
        c.seconds[i] = seconds[PLAN_SWEEPS / 2];
    }
    return c;
}

double plan_curve_at(const plan_curve *c, double rows)
{
    int i = 0;
    if (rows <= c->rows[0]) return c->seconds[0];
    if (rows >= c->rows[c->count - 1]) return c->seconds[c->count - 1] * rows / c->rows[c->count - 1];
    while (c->rows[i + 1] < rows) i++;
    return c->seconds[i] + (c->seconds[i + 1] - c->seconds[i]) * (rows - c->rows[i]) / (c->rows[i + 1] - c->rows[i]);
}

/* Expected seconds per weight of one expert that each of `rows` tokens chooses with probability p: nobody came, no time. */
static double expert_seconds(const plan_curve *c, double rows, double p)
{
    double sum = 0, log_p = log(p), log_q = log1p(-p), mean = rows * p, far = 12 * sqrt(mean) + 12;
    if (p >= 1) return plan_curve_at(c, rows);
    for (double n = fmax(1, floor(mean - far)); n <= fmin(rows, mean + far); n++)
        sum += exp(lgamma(rows + 1) - lgamma(n + 1) - lgamma(rows - n + 1) + n * log_p + (rows - n) * log_q) * plan_curve_at(c, n);
    return sum;
}

double plan_curve_seconds(const plan_curve *c, const plan_model *model, double rows, double head_rows)
{
    double each = plan_curve_at(c, rows), sum = plan_attention_parameters(model) * each + (head_rows > 0 ? (double)model->vocab * model->hidden * plan_curve_at(c, head_rows) : 0);
    for (int g = 0; g < model->ffn_groups; g++) {
        const plan_ffn *f = &model->ffn[g];
        sum += f->layers * f->shared_parameters * each;
        if (f->experts > 0) sum += f->layers * (double)f->experts * f->expert_parameters * expert_seconds(c, rows, (double)f->top_k / f->experts);
    }
    return sum;
}
