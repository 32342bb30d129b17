/* limits.c - what this machine can do at most: read bandwidth and multiply-adds, measured with the threads of a pool. */
#include "base/clock.h"
#include "base/threads.h"
#include "kernel/kernel.h"
#include "kernel/tables.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { READ_BYTES = 256 << 20, SLICES = 8, TASKS_PER_THREAD = 8 };
static const double MEASURE_SECONDS = 0.3;

typedef struct {
    const uint64_t *data;
    size_t words;      /* of one task */
    uint64_t *sums;    /* [tasks] */
    double (*peak)(int64_t, float *);
    int64_t rounds;
    double *done;      /* [tasks] */
} work;

static void read_task(void *arg, int task, int worker)
{
    (void)worker;
    const work *w = arg;
    typedef uint64_t vector __attribute__((vector_size(32)));
    const vector *p = (const void *)(w->data + (size_t)task * w->words);
    vector a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= w->words / 4; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
    a ^= b ^ c ^ d;
    w->sums[task] = a[0] ^ a[1] ^ a[2] ^ a[3];
}

static td_status measure_read(td_pool *pool, double *gbs)
{
    int tasks = td_pool_threads(pool) * TASKS_PER_THREAD;
    uint64_t *data = aligned_alloc(2 << 20, READ_BYTES), *sums = calloc((size_t)tasks, sizeof *sums);
    if (!data || !sums) {
        free(data), free(sums);
        return td_fail(TD_E_MEMORY, "measuring the read bandwidth needs %d MiB", READ_BYTES >> 20);
    }
    madvise(data, READ_BYTES, MADV_HUGEPAGE);
    memset(data, 1, READ_BYTES);
    work w = {.words = READ_BYTES / SLICES / 8 / (size_t)tasks / 16 * 16, .sums = sums};
    double best = 0;
    int64_t start = td_now_ns();
    for (int slice = 0; slice < SLICES || td_seconds_since(start) < MEASURE_SECONDS; slice++) { /* short passes: some of them are not disturbed by other work */
        w.data = data + (size_t)(slice % SLICES) * (READ_BYTES / SLICES / 8);
        int64_t pass = td_now_ns();
        td_pool_run(pool, tasks, read_task, &w);
        best = TD_MAX(best, (double)(w.words * 8 * (size_t)tasks) / td_seconds_since(pass) * 1e-9);
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
    double (*f32)(int64_t, float *) = td_ref_peak_f32, (*int8)(int64_t, float *) = td_ref_peak_int8;
#if defined(__x86_64__) && !defined(TD_PLAIN_ONLY)
    if (kernel == &td_kernel_avx2) f32 = td_avx2_peak_f32, int8 = td_avx2_peak_int8;
    if (kernel == &td_kernel_avx512) f32 = td_avx512_peak_f32, int8 = td_avx512_peak_int8;
    if (kernel == &td_kernel_vnni) f32 = td_vnni_peak_f32, int8 = td_vnni_peak_int8;
    if (kernel == &td_kernel_amx) f32 = td_amx_peak_f32, int8 = td_amx_peak_int8;
#else
    (void)kernel;
#endif
    td_machine_limits limits;
    TD_TRY(measure_read(pool, &limits.read_gbs));
    limits.f32_gflops = measure_peak(pool, f32);
    limits.int8_gops = measure_peak(pool, int8);
    *out = limits;
    return TD_OK;
}
