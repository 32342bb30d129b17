/*
 * threads.c - the pool. A run is published by raising `generation`; workers take tasks from a shared counter and the last one
 * to leave is seen through `active`. No lock is taken while workers are awake; a sleeping worker is woken through a condition variable.
 */
#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#else
#define PAUSE() sched_yield()
#endif

enum { SPINS = 4000 }; /* about 50-150 microseconds of pauses: longer than the gaps inside a step, shorter than a scheduler tick */

typedef struct { td_pool *pool; int worker; pthread_t thread; } pool_worker;

struct td_pool {
    int threads, started;
    _Alignas(64) atomic_uint generation; /* odd/even has no meaning; a change means "new run" */
    _Alignas(64) atomic_int next_task;
    _Alignas(64) atomic_int active;      /* workers that have not finished the current run */
    atomic_int sleepers;
    atomic_bool closing;
    int tasks;
    td_task fn;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pool_worker workers[];
};

static void take_tasks(td_pool *pool, int worker)
{
    for (;;) {
        int task = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed);
        if (task >= pool->tasks) return;
        pool->fn(pool->arg, task, worker);
    }
}

/* Waits until generation differs from seen; returns the new one. */
static unsigned await_run(td_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        PAUSE();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    unsigned now;
    while ((now = atomic_load(&pool->generation)) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void *worker_main(void *arg)
{
    pool_worker *self = arg;
    td_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        seen = await_run(pool, seen);
        if (atomic_load(&pool->closing)) return NULL;
        take_tasks(pool, self->worker);
        atomic_fetch_sub_explicit(&pool->active, 1, memory_order_release);
    }
}

static void publish(td_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1); /* sequentially consistent with `sleepers`: a sleeper is either counted or sees the change */
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

td_status td_pool_open(int threads, td_pool **out)
{
    if (threads == 0) threads = td_cores_usable();
    if (threads < 1 || threads > TD_THREADS_MAX)
        return td_fail(TD_E_INVALID, "threads: expected 0 (automatic) to %d, found %d", TD_THREADS_MAX, threads);
    size_t bytes = sizeof(td_pool) + (size_t)threads * sizeof(pool_worker);
    bytes = (bytes + 63) / 64 * 64;
    td_pool *pool = aligned_alloc(64, bytes);
    if (!pool) return td_fail(TD_E_MEMORY, "threads: no memory for a pool of %d", threads);
    *pool = (td_pool){.threads = threads};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (int i = 1; i < threads; i++) {
        pool->workers[i] = (pool_worker){.pool = pool, .worker = i};
        if (pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]) != 0) {
            pool->threads = i;
            td_pool_close(pool);
            return td_fail(TD_E_MEMORY, "threads: the system refused thread %d of %d", i + 1, threads);
        }
    }
    *out = pool;
    return TD_OK;
}

void td_pool_close(td_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->closing, true);
    publish(pool);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int td_pool_threads(const td_pool *pool) { return pool->threads; }

void td_pool_run(td_pool *pool, int tasks, td_task fn, void *arg)
{
    if (tasks <= 0) return;
    if (pool->threads == 1 || tasks == 1) {
        for (int task = 0; task < tasks; task++) fn(arg, task, 0);
        return;
    }
    pool->tasks = tasks;
    pool->fn = fn;
    pool->arg = arg;
    atomic_store_explicit(&pool->next_task, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->active, pool->threads - 1, memory_order_relaxed);
    publish(pool);
    take_tasks(pool, 0);
    for (int spins = 0; atomic_load_explicit(&pool->active, memory_order_acquire) > 0; spins++) {
        if (spins < SPINS) PAUSE();
        else sched_yield();
    }
}

/* The cgroup v2 quota in whole cores, rounded up; 0 when there is none. */
static int cgroup_cores(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!file) return 0;
    long quota = 0, period = 0;
    int fields = fscanf(file, "%ld %ld", &quota, &period); /* "max 100000" leaves fields at 0 */
    fclose(file);
    return fields == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int td_cores_usable(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = cgroup_cores();
    if (quota > 0 && quota < cores) cores = quota;
    return cores < 1 ? 1 : TD_MIN(cores, TD_THREADS_MAX);
}
