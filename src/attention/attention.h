/*
 * attention.h - the A wing: embedding, norms, q/k/v, RoPE, paged attention, output projection, router, LM head. It owns the arithmetic, not the requests:
 * the engine says which rows belong to which pages.
 *
 * One call at a time. Scratch is allocated at open. Row results do not depend on the batch they are in.
 */
#ifndef TD_ATTENTION_ATTENTION_H
#define TD_ATTENTION_ATTENTION_H

#include "attention/kv.h"
#include "base/threads.h"

typedef struct td_attention td_attention;

/* rows of the batch that belong to one request, at consecutive positions. */
typedef struct {
    int row, rows;
    int64_t position;       /* of the first row */
    const int32_t *pages;   /* pages that hold positions 0 .. position + rows - 1 */
} td_slice;

/* A micro-batch: `rows` rows, divided into slices in row order. */
typedef struct {
    int rows, slice_count;
    const td_slice *slices;
    int step_row;           /* rows of the step before this micro-batch: where its RoPE angles lie */
} td_batch;

/* Lets the engine's hooks see a value. data is [rows, width] of the micro-batch and may be changed. */
typedef struct {
    void (*look)(void *user, td_point point, int layer, const td_batch *batch, int width, float *data);
    void *user;
    unsigned points;        /* which points are wanted at all */
} td_tap;

td_status td_attention_open(const td_model *model, const td_kernel *kernel, td_pool *pool, td_kv *kv, int rows_max, int64_t context_max, int logit_rows_max, td_attention **out);
void td_attention_close(td_attention *attention);
size_t td_attention_scratch_bytes(const td_attention *attention);

/* Computes the RoPE angles of a micro-batch's rows, once a step. step_row + rows <= rows_max. */
void td_attention_begin(td_attention *attention, const td_batch *batch);

/* x [rows, d_model] = embedding of the tokens (each 0..vocab-1). */
void td_attention_embed(td_attention *attention, const int32_t *tokens, int rows, float *x);

/* x += attention of the layer; writes the rows' K and V. */
void td_attention_layer(td_attention *attention, int layer, const td_batch *batch, float *x, const td_tap *tap);

/* m [rows, d_model] = normalised x; on MoE layers ids and weights [rows, top_k] = the router's choice. */
void td_attention_route(td_attention *attention, int layer, const td_batch *batch, const float *x, float *m, int32_t *ids, float *weights, const td_tap *tap);

/* Final norm in place on x [rows, d_model]; then logits [rows, vocab] of normalised rows, at most logit_rows_max of them. */
void td_attention_final_norm(td_attention *attention, int rows, float *x);
void td_attention_logits(td_attention *attention, int rows, const float *x, float *logits);

/* What this wing has done so far: [TD_WORK_CLASSES], of which projections (the router's too), attention and head are its own. Read by the thread that calls the rest. */
const td_work_sum *td_attention_work(const td_attention *attention);

#endif
