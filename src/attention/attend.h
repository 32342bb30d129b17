/*
 * attend.h - softmax(q K) V for the rows of a batch over paged KV: how the work is cut, never what is computed.
 *
 * A unit is one KV head and a few consecutive rows of one request (their query heads share each page read). Its positions are cut in partitions of
 * TD_PARTITION_TOKENS counted from position 0, combined in ascending order. With many units a task does one whole unit; with few, tasks are single
 * partitions and the combination follows. Both give the same bits.
 */
#ifndef TD_ATTENTION_ATTEND_H
#define TD_ATTENTION_ATTEND_H

#include "attention/attention.h"

typedef struct td_attend td_attend;

td_status td_attend_open(const td_config *config, const td_kernel *kernel, td_pool *pool, td_kv *kv, int rows_max, int64_t context_max, td_arena *arena, td_attend **out);

/* Bytes of K and V read from memory when a page stays in the caches for all rows of its unit, and operations. */
typedef struct { double bytes, flops; } td_attended;

/* q [rows, heads, k_dim] (rows of the batch from row `first` on, q points at that row; not scaled) -> out [rows, heads, v_dim], for `rows` rows. */
td_attended td_attend_run(td_attend *attend, int layer, const td_batch *batch, int first, int rows, const float *q, float *out);

#endif
