/*
 * threads.h - one pool of worker threads for the arithmetic of a process.
 *
 * td_pool_run(pool, tasks, fn, arg) calls fn(arg, task, worker) once for every task in 0..tasks-1, spread over the pool's threads (the caller
 * is worker 0), and returns when all are done. Which thread runs which task is not fixed, so a task must write only what is its own; then
 * results cannot depend on the thread count. Workers spin briefly between runs, then sleep. One run at a time; never call it from a task.
 */
#ifndef TD_BASE_THREADS_H
#define TD_BASE_THREADS_H

#include "base/status.h"

typedef struct td_pool td_pool;
typedef void (*td_task)(void *arg, int task, int worker);

enum { TD_THREADS_MAX = 256 };

/* threads 1..TD_THREADS_MAX; 0 means one per usable core. */
td_status td_pool_open(int threads, td_pool **out);
void td_pool_close(td_pool *pool);                  /* NULL is allowed */
int td_pool_threads(const td_pool *pool);
void td_pool_run(td_pool *pool, int tasks, td_task fn, void *arg);

/* Cores this process may use (affinity mask, then cgroup quota). */
int td_cores_usable(void);

/* The number of threads that is measured after t: 1, 2, 4, ... and `most` itself; after that one a number above most. */
static inline int td_more_threads(int t, int most) { return t < most && 2 * t > most ? most : 2 * t; }

#endif
