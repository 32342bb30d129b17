/*
 * ffn.h - the F wing: stateless. Given normalised rows (and, on MoE layers, the experts that the router chose), what the layer adds to the residual stream.
 *
 * Order of sums, fixed whatever the placement: y = w[0]*e[0], then y = fma(w[s], e[s], y) over ascending slots s, then y += shared. A remote answer therefore carries
 * unweighted slot outputs (td_ffn_slots); td_ffn_combine is the one place that adds them, here and on the attention side of a network link.
 */
#ifndef TD_FFN_FFN_H
#define TD_FFN_FFN_H

#include "base/threads.h"
#include "kernel/kernel.h"
#include "model/model.h"
#include "tandem.h"

typedef struct td_ffn td_ffn;

/* Scratch for batches of up to rows_max rows is allocated here; nothing later. The pool is borrowed and used only inside calls. One call at a time. */
td_status td_ffn_open(const td_model *model, const td_kernel *kernel, td_pool *pool, int rows_max, td_ffn **out);
void td_ffn_close(td_ffn *ffn);
size_t td_ffn_scratch_bytes(const td_ffn *ffn);
/* What this wing has done so far. Read by the thread that calls the rest. */
const td_work_sum *td_ffn_work(const td_ffn *ffn);

typedef struct {
    int layer, rows;        /* 0 <= rows <= rows_max */
    const float *x;         /* [rows, d_model], normalised */
    const int32_t *ids;     /* MoE: [rows, top_k] experts in slot order, each 0..experts-1, or -1: slot not wanted; dense layer: NULL */
    const float *weights;   /* MoE: [rows, top_k] */
} td_ffn_job;

/* y [rows, d_model] = the layer's whole FFN: dense, or all slots and the shared expert. No slot may be -1. */
void td_ffn_run(td_ffn *ffn, const td_ffn_job *job, float *y);

/* Slot outputs without weights: row of (r, s) is slots + (r*top_k + s)*d_model; slots with id -1 are left untouched. shared (may be NULL) [rows, d_model] gets the
 * shared expert's output, or on a dense layer the whole FFN's. For workers. */
void td_ffn_slots(td_ffn *ffn, const td_ffn_job *job, float *slots, float *shared);

/* One row: y = sum over slots in order, then + shared (NULL: none). slot s is at slots + s*slot_stride. The same operations as td_ffn_run. */
void td_ffn_combine(const td_kernel *kernel, float *y, const float *slots, int64_t slot_stride, const float *weights, int top_k, const float *shared, int64_t d_model);

#endif
