/* limits.c - what this machine can do at most: read bandwidth and multiply-adds, measured with the threads of a pool. */
#include "base/clock.h"
#include "base/threads.h"
#include "kernel/kernel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { READ_BYTES = 256 << 20, SLICES = 8, TASKS_PER_THREAD = 8 };
static const double MEASURE_SECONDS = 0.3;

typedef struct {
    const td_kernel *kernel;
    const char *data;
    size_t bytes;      /* of one task */
    uint64_t *sums;    /* [tasks] */
    double (*peak)(int64_t, float *);
    int64_t rounds;
    double *done;      /* [tasks] */
} work;

static void read_task(void *arg, int task, int worker)
{
    (void)worker;
    const work *w = arg;
    w->sums[task] = w->kernel->read(w->data + (size_t)task * w->bytes, w->bytes);
}

static td_status measure_read(const td_kernel *kernel, td_pool *pool, double *gbs)
{
    int tasks = td_pool_threads(pool) * TASKS_PER_THREAD;
    char *data = aligned_alloc(2 << 20, READ_BYTES);
    uint64_t *sums = calloc((size_t)tasks, sizeof *sums);
    if (!data || !sums) {
        free(data), free(sums);
        return td_fail(TD_E_MEMORY, "measuring the read bandwidth needs %d MiB", READ_BYTES >> 20);
    }
    madvise(data, READ_BYTES, MADV_HUGEPAGE);
    memset(data, 1, READ_BYTES);
    work w = {.kernel = kernel, .bytes = READ_BYTES / SLICES / (size_t)tasks / TD_READ_BYTES * TD_READ_BYTES, .sums = sums};
    double best = 0;
    int64_t start = td_now_ns();
    for (int slice = 0; slice < SLICES || td_seconds_since(start) < MEASURE_SECONDS; slice++) { /* short passes: some of them are not disturbed by other work */
        w.data = data + (size_t)(slice % SLICES) * (READ_BYTES / SLICES);
        int64_t pass = td_now_ns();
        td_pool_run(pool, tasks, read_task, &w);
        best = TD_MAX(best, (double)(w.bytes * (size_t)tasks) / td_seconds_since(pass) * 1e-9);
    }
    free(data), free(sums);
    *gbs = best;
    return TD_OK;
}

static void peak_task(void *arg, int task, int worker)
{
    (void)worker;
    const work *w = arg;
    float sink = 0.5f;
    w->done[task] = w->peak(w->rounds, &sink);
    if (sink == 0.123f) w->sums[task]++;
}

static double measure_peak(td_pool *pool, double (*peak)(int64_t, float *))
{
    double done[TD_THREADS_MAX];
    uint64_t sums[TD_THREADS_MAX] = {0};
    int tasks = td_pool_threads(pool);
    work w = {.peak = peak, .rounds = 100000, .done = done, .sums = sums};
    double best = 0;
    int64_t start = td_now_ns();
    do {
        int64_t pass = td_now_ns();
        td_pool_run(pool, tasks, peak_task, &w);
        double seconds = td_seconds_since(pass), total = 0;
        for (int i = 0; i < tasks; i++) total += done[i];
        best = TD_MAX(best, total / seconds * 1e-9);
    } while (td_seconds_since(start) < MEASURE_SECONDS);
    return best;
}

td_status td_kernel_limits(const td_kernel *kernel, struct td_pool *pool, td_machine_limits *out)
{
    td_machine_limits limits;
    TD_TRY(measure_read(kernel, pool, &limits.read_gbs));
    limits.f32_gflops = measure_peak(pool, kernel->peak_f32);
    limits.int8_gops = measure_peak(pool, kernel->peak_int8);
    *out = limits;
    return TD_OK;
}
