/* limits.c - what this machine can do at most: read bandwidth and multiply-adds, measured with the threads of a pool. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "base/threads.h"
#include "kernel/kernel.h"

#include <string.h>
#include <sys/mman.h>

enum { READ_BYTES = 256 << 20, PASS_BYTES = 32 << 20, TASK_BYTES = 256 << 10 };
static const double MEASURE_SECONDS = 0.3;

typedef struct {
    const td_kernel *kernel;
    const char *data;
    uint32_t *sums;    /* [tasks] */
    double (*peak)(int64_t, float *);
    int64_t rounds;
    double *done;      /* [tasks] */
} work;

static void read_task(void *arg, int task, int worker)
{
    (void)worker;
    const work *w = arg;
    w->sums[task] = w->kernel->read(w->data + (size_t)task * TASK_BYTES, TASK_BYTES);
}

td_status td_kernel_read_rate(const td_kernel *kernel, struct td_pool *pool, size_t bytes, double seconds, td_read_rate *out)
{
    bytes = TD_MAX((bytes + TASK_BYTES - 1) / TASK_BYTES, 1) * TASK_BYTES;
    size_t pass = TD_MIN(bytes, (size_t)PASS_BYTES), passes = bytes / pass;
    char *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return td_fail(TD_E_MEMORY, "measuring the read bandwidth needs %zu MiB", bytes >> 20);
    madvise(data, bytes, MADV_HUGEPAGE);
    memset(data, 1, bytes);
    uint32_t sums[PASS_BYTES / TASK_BYTES];
    work w = {.kernel = kernel, .data = data, .sums = sums};
    double best = 0, all = 0, spent = 0;
    for (size_t i = 0; i < passes || spent < seconds || i < 2; i++) { /* the first finds what memset left in the caches */
        w.data = data + i % passes * pass;
        int64_t start = td_now_ns();
        td_pool_run(pool, (int)(pass / TASK_BYTES), read_task, &w);
        double took = td_seconds_since(start);
        if (i == 0) continue;
        best = TD_MAX(best, (double)pass / took);
        all += (double)pass;
        spent += took;
    }
    munmap(data, bytes);
    *out = (td_read_rate){all / spent * 1e-9, best * 1e-9};
    return TD_OK;
}

static void peak_task(void *arg, int task, int worker)
{
    (void)worker;
    const work *w = arg;
    float sink = 0.5f;
    w->done[task] = w->peak(w->rounds, &sink);
    if (sink == 0.123f) w->sums[0]++;
}

static double measure_peak(td_pool *pool, double (*peak)(int64_t, float *))
{
    double done[TD_THREADS_MAX];
    uint32_t sums[1] = {0};
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
    TD_TRY(td_kernel_read_rate(kernel, pool, READ_BYTES, MEASURE_SECONDS, &limits.read));
    limits.f32_gflops = measure_peak(pool, kernel->peak_f32);
    limits.int8_gops = measure_peak(pool, kernel->peak_int8);
    *out = limits;
    return TD_OK;
}
