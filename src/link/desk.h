/*
 * desk.h - where submitted rows are computed: decode, one FFN call for all the messages of a layer that lie on the desk, encode. Used by workers, and by an
 * attention instance that has the weights itself (the local fallback), so that both give the same bytes in every wire mode.
 */
#ifndef TD_LINK_DESK_H
#define TD_LINK_DESK_H

#include "base/arena.h"
#include "ffn/ffn.h"
#include "link/wire.h"

/* The FFN behind two pointers, so that tests can put something else there. */
typedef struct {
    void *user;
    void (*run)(void *user, const td_ffn_job *job, float *y);                         /* td_ffn_run */
    void (*slots)(void *user, const td_ffn_job *job, float *slots, float *shared);    /* td_ffn_slots */
} td_compute;
td_compute td_compute_ffn(td_ffn *ffn);

/* A decoded submit; the arrays have room for rows_max rows. */
typedef struct {
    int layer, rows;
    td_encoding back;
    uint8_t *row_flags;   /* [rows] */
    float *x;             /* [rows, d_model] */
    int32_t *ids;         /* [rows, top_k] */
    float *weights;       /* [rows, top_k] */
} td_work;

td_status td_work_reserve(td_work *work, const td_shape *shape, int rows_max, td_arena *arena);
void td_work_take(td_work *work, const td_shape *shape, const td_submit_view *view); /* view->rows <= rows_max */
size_t td_work_answer_bytes(const td_work *work, const td_shape *shape);            /* without TD_ANSWER_INFO */

typedef struct {
    const td_shape *shape;
    const td_kernel *kernel;
    td_compute compute;
    int rows_max;
    float *x, *slots, *shared, *weights; /* [rows_max, d], [rows_max, top_k, d], [rows_max, d], [rows_max, top_k] */
    int32_t *ids;
} td_desk;

/* rows_max: rows of all works of one call together. Memory comes from the arena. */
td_status td_desk_reserve(td_desk *desk, const td_shape *shape, const td_kernel *kernel, td_compute compute, int rows_max, td_arena *arena);
/* Computes works of one layer; outs[i] (4-byte aligned) gets td_work_answer_bytes(works[i]). */
void td_desk_answer(td_desk *desk, td_work *const *works, uint8_t *const *outs, int count);

#endif
