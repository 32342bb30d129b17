/*
 * bench_kernel.c - how near each kernel comes to what the machine can do. For every table that runs here: its limits (td_kernel_limits), then per weight type and number of
 * rows the rate reached, best of several passes, after the results were compared with the plain table's, byte for byte.
 *
 *   bench_kernel [--threads N] [--table avx2|avx512|vnni] [--only TEXT]      TEXT: part of a line's name, e.g. q8_0, attention
 *
 * Bytes are those of the weights (or KV), once per product; operations are 2 * rows * outputs * K. Few rows walk through 256 MiB of weights, as decoding does.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/threads.h"
#include "kernel/kernel.h"
#include "tensor/pack.h"

enum { K = 4096, BIG_BYTES = 256 << 20, CHECK_OUTS = 67, SLICES = 24 };
static const double SECONDS = 0.3;

typedef struct {
    const td_kernel *kernel;
    td_matmul_job job;
    int tasks;
    int64_t first_out;                 /* of this pass */
    const td_attention_job *attention; /* [tasks] */
} run;

static void product_task(void *arg, int task, int worker)
{
    (void)worker;
    const run *r = arg;
    td_matmul_job job = r->job;
    int64_t outs = r->job.out_end, step = (outs / r->tasks + 15) / 16 * 16;
    job.out_begin = r->first_out + TD_MIN(task * step, outs), job.out_end = r->first_out + TD_MIN((task + 1) * step, outs);
    r->kernel->matmul[job.w->type](&job);
}

static void attention_task(void *arg, int task, int worker)
{
    (void)worker;
    const run *r = arg;
    r->kernel->attention_part(&r->attention[r->first_out + task]);
}

/* The best pass; products walk through `slices` parts of the weights, one a pass, short enough that some passes are not disturbed. */
static double best_seconds(td_pool *pool, td_task task, run *r, int slices)
{
    double best = 1e9;
    int64_t start = td_now_ns();
    for (int pass = 0; pass < 2 * slices || pass < 5 || td_seconds_since(start) < SECONDS; pass++) {
        r->first_out = pass % slices * (task == attention_task ? r->tasks : r->job.out_end);
        int64_t begin = td_now_ns();
        td_pool_run(pool, r->tasks, task, r);
        best = TD_MIN(best, td_seconds_since(begin));
    }
    return best;
}

static void fill(td_dtype type, void *data, int64_t rows, int64_t k)
{
    td_random random = {.seed = 1};
    float row[K];
    size_t bytes = td_dtype_row_bytes(type, k);
    for (int64_t o = 0; o < rows; o++) {
        if (o >= 32) {
            memcpy((char *)data + (size_t)o * bytes, (char *)data + (size_t)(o % 32) * bytes, bytes);
            continue;
        }
        for (int64_t i = 0; i < k; i++) row[i] = (float)(td_random_next_unit(&random) - 0.5);
        td_quantise_row(type, row, (char *)data + (size_t)o * bytes, k);
    }
}

/* In place. */
static void pack(const td_tensor *w)
{
    size_t bytes = td_dtype_row_bytes(w->type, K) * TD_PACK_ROWS;
    char *copy = malloc(bytes);
    for (int64_t g = 0; g < w->shape[0] / TD_PACK_ROWS; g++) {
        char *at = (char *)(uintptr_t)w->data + (size_t)g * bytes;
        memcpy(copy, at, bytes);
        td_pack_rows(w->type, K, copy, at);
    }
    free(copy);
}

static int check_product(const td_kernel *kernel, td_matmul_job job)
{
    const td_kernel *all[TD_KERNELS_MAX];
    td_kernel_all(all);
    job.rows = TD_MIN(job.rows, 19), job.out_end = job.w->packed ? CHECK_OUTS / TD_PACK_ROWS * TD_PACK_ROWS : CHECK_OUTS, job.y_stride = CHECK_OUTS;
    size_t bytes = (size_t)(job.rows * CHECK_OUTS) * 4;
    float *right = calloc(bytes, 1), *y = calloc(bytes, 1);
    job.y = right, all[0]->matmul[job.w->type](&job);
    job.y = y, kernel->matmul[job.w->type](&job);
    int same = memcmp(right, y, bytes) == 0;
    free(right), free(y);
    return same;
}

static void bench_product(const td_kernel *kernel, td_pool *pool, const td_machine_limits *limits, td_dtype type, bool packed, int rows, void *data, float *y)
{
    size_t row_bytes = td_dtype_row_bytes(type, K);
    int64_t all = BIG_BYTES / (int64_t)row_bytes / 64 * 64, outs = rows <= 48 ? all / SLICES / 64 * 64 : (rows <= 64 ? 256 : 64) * td_pool_threads(pool);
    td_act_kind kind = td_act_kind_of(type);
    size_t x_bytes = td_act_row_bytes(kind, K);
    char *x = aligned_alloc(64, (x_bytes * (size_t)rows + 63) / 64 * 64);
    float *plain = malloc(K * 4), *scale = malloc((size_t)((all + 127) / 128 * (K / 128)) * 4);
    for (int64_t i = 0; i < (all + 127) / 128 * (K / 128); i++) scale[i] = 0.01f;
    td_random random = {.seed = 2};
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < K; i++) plain[i] = (float)(td_random_next_unit(&random) - 0.5);
        if (kind == TD_ACT_F32) memcpy(x + (size_t)r * x_bytes, plain, x_bytes);
        else td_act_quantise(kernel, kind, plain, K, x + (size_t)r * x_bytes);
    }
    td_tensor w = {.type = type, .dims = 2, .shape = {all, K}, .data = data, .scale = type == TD_F8_E4M3 ? scale : NULL, .packed = packed};
    run r = {.kernel = kernel, .job = {.w = &w, .x = x, .x_stride = x_bytes, .rows = rows, .out_end = outs, .y = y, .y_stride = all}, .tasks = td_pool_threads(pool) * (rows <= 48 ? 8 : 1)};
    if (!check_product(kernel, r.job)) {
        printf("%s%s, %d rows: differs from ref\n", td_dtype_name(type), packed ? " packed" : "", rows);
        exit(1);
    }
    double seconds = best_seconds(pool, product_task, &r, rows <= 48 ? SLICES : 1);
    double gbs = (double)row_bytes * (double)outs / seconds * 1e-9, gops = 2.0 * rows * (double)outs * K / seconds * 1e-9;
    double peak = kind == TD_ACT_F32 ? limits->f32_gflops : limits->int8_gops;
    printf("%-4s %-6s rows %-4d %8.1f GB/s %5.0f %%  %9.1f Gop/s %5.0f %%\n", td_dtype_name(type), packed ? "packed" : "", rows, gbs, gbs / limits->read.steady_gbs * 100, gops, gops / peak * 100);
    fflush(stdout);
    free(x), free(plain), free(scale);
}

typedef struct { const char *name; td_dtype type; int dk, dv, queries, shared, tokens; } attention_shape;

/* Every task is another KV head (or request) with its own pages. */
static void bench_attention(const td_kernel *kernel, td_pool *pool, const td_machine_limits *limits, const attention_shape *s, char *data)
{
    size_t k_bytes = td_dtype_row_bytes(s->type, s->dk), v_bytes = td_dtype_row_bytes(s->type, s->dv), head_bytes = (size_t)s->tokens * (k_bytes + (s->shared ? 0 : v_bytes));
    int tasks = (int)TD_MIN((size_t)(BIG_BYTES / 2) / head_bytes, 64), pages = s->tokens / TD_PAGE_TOKENS;
    tasks = TD_MAX(tasks / td_pool_threads(pool) * td_pool_threads(pool), td_pool_threads(pool));
    size_t scratch = td_attention_scratch_floats(s->queries, TD_PAGE_TOKENS, s->dk, s->dv);
    td_attention_job *jobs = calloc((size_t)tasks, sizeof *jobs);
    float *out = malloc((size_t)tasks * (size_t)s->queries * (size_t)(s->dv + 2) * 4), *work = malloc((size_t)tasks * scratch * 4), *q = aligned_alloc(64, (size_t)s->queries * (size_t)s->dk * 4);
    const void **pointers = malloc((size_t)tasks * (size_t)pages * 2 * sizeof *pointers);
    int32_t *limit = malloc((size_t)s->queries * sizeof *limit);
    td_random random = {.seed = 3};
    for (int i = 0; i < s->queries * s->dk; i++) q[i] = (float)(td_random_next_unit(&random) - 0.5) * 0.3f;
    for (int i = 0; i < s->queries; i++) limit[i] = s->tokens;
    fill(s->type, data, (int64_t)(TD_MIN(head_bytes * (size_t)tasks, BIG_BYTES) / k_bytes), s->dk);
    for (int t = 0; t < tasks; t++) {
        const void **k = pointers + (size_t)t * 2 * (size_t)pages, **v = k + pages;
        char *head = data + (size_t)t * head_bytes;
        for (int p = 0; p < pages; p++) {
            k[p] = head + (size_t)(p * TD_PAGE_TOKENS) * k_bytes;
            v[p] = s->shared ? k[p] : head + (size_t)s->tokens * k_bytes + (size_t)(p * TD_PAGE_TOKENS) * v_bytes;
        }
        float *o = out + (size_t)t * (size_t)s->queries * (size_t)(s->dv + 2);
        jobs[t] = (td_attention_job){.kv_type = s->type, .dk = s->dk, .dv = s->dv, .page_tokens = TD_PAGE_TOKENS, .k_pages = k, .v_pages = v, .k_row_bytes = k_bytes,
            .v_row_bytes = s->shared ? k_bytes : v_bytes, .end = s->tokens, .q = q, .q_stride = s->dk, .queries = s->queries, .limits = limit,
            .m = o, .l = o + s->queries, .o = o + 2 * s->queries, .scratch = work + (size_t)t * scratch};
    }
    run r = {.kernel = kernel, .tasks = tasks, .attention = jobs};
    double flop_each = 2.0 * s->queries * s->tokens * (s->dk + s->dv);
    r.tasks = TD_MAX((int)TD_MIN(tasks, 1e8 / flop_each) * td_pool_threads(pool), td_pool_threads(pool)), r.tasks = TD_MIN(r.tasks, tasks);
    double seconds = best_seconds(pool, attention_task, &r, tasks / r.tasks), flop = flop_each * r.tasks;
    double gbs = (double)head_bytes * r.tasks / seconds * 1e-9, gflops = flop / seconds * 1e-9;
    printf("%-32s %8.1f GB/s %5.0f %%  %9.1f Gop/s %5.0f %%\n", s->name, gbs, gbs / limits->read.steady_gbs * 100, gflops, gflops / limits->f32_gflops * 100);
    fflush(stdout);
    free(jobs), free(out), free(work), free(q), free(pointers), free(limit);
}

int main(int argc, char **argv)
{
    static const int rows[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 512};
    static const attention_shape shapes[] = {
        {"attention MFA 64 x 256 bf16", TD_BF16, 256, 256, 64, 0, 512}, {"attention MLA 128 x 576 bf16", TD_BF16, 576, 512, 128, 1, 512}, {"attention MLA 128 x 576 q8_0", TD_Q8_0, 576, 512, 128, 1, 512},
        {"attention GQA 8 x 128 bf16", TD_BF16, 128, 128, 8, 0, 512},  {"attention GQA 8 x 128 f32", TD_F32, 128, 128, 8, 0, 512},      {"attention GQA 4 x 128 q8_0", TD_Q8_0, 128, 128, 4, 0, 512},
        {"attention MHA 1 x 128 bf16", TD_BF16, 128, 128, 1, 0, 512},  {"attention prefill 512 x 128 bf16", TD_BF16, 128, 128, 512, 0, 512},
    };
    int threads = 1;
    const char *table = NULL, *only = "";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0) threads = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--table") == 0) table = argv[i + 1];
        if (strcmp(argv[i], "--only") == 0) only = argv[i + 1];
    }
    td_pool *pool;
    if (td_pool_open(threads, &pool) < 0) {
        fprintf(stderr, "%s\n", td_error());
        return 1;
    }
    void *data = aligned_alloc(1 << 21, BIG_BYTES);
    madvise(data, BIG_BYTES, MADV_HUGEPAGE); /* as weights that are packed at load lie */
    float *y = malloc((size_t)512 * (BIG_BYTES / 2304) * 4);
    const td_kernel *all[TD_KERNELS_MAX];
    int count = td_kernel_all(all);
    for (int t = 1; t < count; t++) {
        const char *name = strstr(all[t]->why, "with VNNI") ? "vnni" : all[t]->name;
        td_machine_limits limits;
        if (table && strcmp(table, name) != 0) continue;
        if (td_kernel_limits(all[t], pool, &limits) < 0) return 1;
        printf("\n%s (%s), %d thread(s): reads %.1f GB/s (%.1f at best), f32 %.1f GFLOP/s, int8 %.1f Gop/s\n", name, all[t]->why, threads, limits.read.steady_gbs, limits.read.best_gbs, limits.f32_gflops, limits.int8_gops);
        for (td_dtype type = TD_F32; type <= TD_Q6_K; type++) {
            if (!strstr(td_dtype_name(type), only)) continue;
            fill(type, data, BIG_BYTES / (int64_t)td_dtype_row_bytes(type, K), K);
            for (size_t i = 0; i < TD_COUNT(rows); i++) bench_product(all[t], pool, &limits, type, false, rows[i], data, y);
            td_tensor w = {.type = type, .dims = 2, .shape = {BIG_BYTES / (int64_t)td_dtype_row_bytes(type, K) / TD_PACK_ROWS * TD_PACK_ROWS, K}, .data = data};
            if (!td_pack_fits(&w)) continue;
            pack(&w);
            for (size_t i = 0; i < TD_COUNT(rows); i++) bench_product(all[t], pool, &limits, type, true, rows[i], data, y);
        }
        for (size_t i = 0; i < TD_COUNT(shapes); i++)
            if (strstr(shapes[i].name, only)) bench_attention(all[t], pool, &limits, &shapes[i], data);
    }
    td_pool_close(pool);
    free(data), free(y);
    return 0;
}
