/*
 * linear.h - matrix products of whole layers over the thread pool.
 *
 * td_rows is a batch of activation rows with its quantised forms made when first wanted and reused by every matrix that reads the same rows.
 * td_linear_run divides outputs (never K) between tasks, so that thread counts cannot change a bit.
 */
#ifndef TD_KERNEL_LINEAR_H
#define TD_KERNEL_LINEAR_H

#include "base/arena.h"
#include "base/threads.h"
#include "kernel/kernel.h"

typedef struct {
    const float *x;      /* [rows, k]; borrowed */
    int rows;
    int64_t k;
    void *q8, *q8k;      /* room for rows_max quantised rows, or NULL when no matrix wants that form */
    bool has_q8, has_q8k;
} td_rows;

/* Room for quantised forms of up to rows_max rows of up to k_max elements. */
td_status td_rows_reserve(td_rows *rows, td_arena *arena, int rows_max, int64_t k_max);
/* Points at fresh activations; quantised forms are forgotten. */
void td_rows_set(td_rows *rows, const float *x, int count, int64_t k);
/* The rows as a matrix of this type wants them, quantising on the pool when needed. *stride in bytes. */
const void *td_rows_as(td_rows *rows, const td_kernel *kernel, td_pool *pool, td_dtype weights, size_t *stride);

typedef struct {
    const td_tensor *w;  /* [out, k] */
    td_rows *x;
    float *y;            /* [rows, out], rows y_stride elements apart */
    int64_t y_stride;
    const float *bias;   /* [out] or NULL */
} td_linear;

enum { TD_LINEAR_MAX = 4 };
/* Runs up to TD_LINEAR_MAX products in one pass over the pool. */
void td_linear_run(const td_kernel *kernel, td_pool *pool, const td_linear *list, int count);

#endif
