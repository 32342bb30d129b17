/*
 * cuda.h - the operations of both wings on a Hopper GPU, as plain C. Other rooms include this whether or not the program was built with CUDA: without it
 * td_cuda_built() is false, td_cuda_open says so in a sentence, and nothing else can be reached.
 *
 * A td_cuda is one device with one stream. Everything below td_cuda_finish only enqueues: pointers marked [device] come from td_cuda_new, and an
 * enqueued operation's shapes are fixed, so a sequence can be recorded once (td_cuda_record) and replayed as a graph. Errors of the device
 * are reported by the next td_cuda_finish.
 *
 * Numbers. Weights: BF16 (as stored), BF16X2 (a value as the sum of two BF16, 16 bits of mantissa: for f32, f16 and the quantised types), F8 (E4M3 with the file's scale per
 * 128x128 block). Activations: BF16, BF16X2, or F8 with one scale per row and 128 elements (max/448). Products are formed by tensor cores and accumulated in f32; F8
 * partial sums of 128 elements are scaled and added in ascending order. Residual stream, norms, router and softmax are f32.
 *
 * The same bits for every batch: sums over k are cut by the shape of the matrix alone, attention by the position in the context alone (TD_PARTITION_TOKENS), slots are
 * added in slot order. Against the CPU's tables results differ by rounding; the tests bound it.
 */
#ifndef TD_KERNEL_CUDA_CUDA_H
#define TD_KERNEL_CUDA_CUDA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/buffer.h"
#include "kernel/kernel.h"

typedef struct td_cuda td_cuda;
typedef struct td_cuda_graph td_cuda_graph;

bool td_cuda_built(void);
/* The first device, with a stream of its own. TD_E_UNSUPPORTED with the reason: not built, no driver, no device, not a Hopper GPU. */
td_status td_cuda_open(td_cuda **out);
void td_cuda_close(td_cuda *cuda);

typedef struct { char name[128]; int major, minor, multiprocessors; size_t memory_bytes, free_bytes; } td_cuda_device;
td_status td_cuda_describe(td_cuda *cuda, td_cuda_device *out);

/* Measured on this device, best of several runs: bytes read per second over 2 GiB, and multiply-adds of tensor cores as our kernels issue them (mma.sync) on registers. */
typedef struct { double read_gbs, copy_gbs, bf16_tflops, f8_tflops; } td_cuda_limits;
td_status td_cuda_measure(td_cuda *cuda, td_cuda_limits *out);
/* What `tandem doctor` says about GPUs: rows of text, or a JSON object. Nothing when not built. */
void td_cuda_doctor(bool json, td_buffer *out);
/* Runs every operation once at a small shape and compares with the CPU's plain kernels; TD_E_UNSUPPORTED names the first that differs. Whoever computes for a user calls
 * this first: a device on which the kernels are wrong is refused, not used. */
td_status td_cuda_self_check(td_cuda *cuda);

/* ---- memory ---- */

td_status td_cuda_new(td_cuda *cuda, size_t bytes, void **out);   /* [device], 256-byte aligned, zeroed */
void td_cuda_delete(td_cuda *cuda, void *data);
td_status td_cuda_pinned(td_cuda *cuda, size_t bytes, void **out); /* memory of the host that copies reach directly */
void td_cuda_unpin(td_cuda *cuda, void *data);
td_status td_cuda_upload(td_cuda *cuda, void *to, const void *from, size_t bytes);   /* enqueues; `from` stays until td_cuda_finish */
td_status td_cuda_download(td_cuda *cuda, void *to, const void *from, size_t bytes);
/* Waits for everything enqueued; TD_E_IO with the device's error. */
td_status td_cuda_finish(td_cuda *cuda);

/* Between record and recorded operations are not run but kept; replay enqueues them all in one call. */
td_status td_cuda_record(td_cuda *cuda);
td_status td_cuda_recorded(td_cuda *cuda, td_cuda_graph **out);
td_status td_cuda_replay(td_cuda *cuda, td_cuda_graph *graph);
void td_cuda_graph_free(td_cuda_graph *graph);

/* Milliseconds of the device between two marks (0..15), after td_cuda_finish. */
td_status td_cuda_mark(td_cuda *cuda, int mark);
td_status td_cuda_between(td_cuda *cuda, int from, int to, double *ms);

/* ---- matrices and rows ---- */

typedef enum { TD_CUDA_BF16, TD_CUDA_BF16X2, TD_CUDA_F8 } td_cuda_form;
static inline int td_cuda_planes(td_cuda_form form) { return form == TD_CUDA_BF16X2 ? 2 : 1; }
static inline int td_cuda_tile_k(td_cuda_form form) { return form == TD_CUDA_F8 ? 128 : 64; } /* elements in 128 bytes */
static inline int64_t td_cuda_padded(td_cuda_form form, int64_t k) { return (k + td_cuda_tile_k(form) - 1) / td_cuda_tile_k(form) * td_cuda_tile_k(form); }

/* `count` matrices [out, k] of one form, laid out once: units of 16 rows x 128 bytes, contiguous along k, their 16-byte pieces permuted as shared memory wants them; scales per
 * 8 rows. pair: gate and up in one, 8 rows of gate then 8 of up in every unit; out counts both. */
typedef struct {
    td_cuda_form form;
    int count;
    bool pair;
    int64_t out, k;
    void *data;              /* [device] [count][planes] of matrix_bytes / planes */
    float *scale;            /* [device] F8: [count][k/128][out rounded up to 16, / 8]; else NULL */
    size_t matrix_bytes, scale_floats; /* of one */
} td_cuda_matrix;

/* The form that loses nothing (F8, BF16) or next to nothing (BF16X2). */
td_cuda_form td_cuda_form_of(td_dtype type);
/* Lays out w[0..count-1] (all of one shape and type; with up: pairs) and uploads them. BF16 and F8 take tensors of that type, BF16X2 any weight type. */
td_status td_cuda_matrix_load(td_cuda *cuda, const td_tensor *w, const td_tensor *up, int count, td_cuda_matrix *out);
/* The same shape with contents from a random generator on the device, for timings. */
td_status td_cuda_matrix_random(td_cuda *cuda, td_cuda_form form, int64_t out_rows, int64_t k, int count, bool pair, uint64_t seed, td_cuda_matrix *out);
void td_cuda_matrix_free(td_cuda *cuda, td_cuda_matrix *matrix);

/* Activations as products read them. */
typedef struct {
    td_cuda_form form;
    int rows_max;
    int64_t k, stride;       /* elements; stride = td_cuda_padded(k), the padding is zero */
    void *data;              /* [device] [planes][rows_max][stride] */
    float *scale;            /* [device] F8: [rows_max][stride/128] */
} td_cuda_rows;
td_status td_cuda_rows_new(td_cuda *cuda, td_cuda_form form, int rows_max, int64_t k, td_cuda_rows *out);
void td_cuda_rows_free(td_cuda *cuda, td_cuda_rows *rows);

/* ---- rows.cu ---- */

/* h = x * (1/sqrt(mean(x^2) + eps)) * w in h's form, and in f32 where y is given (may be x); x [rows, h->k], rows x_stride elements apart. w NULL: ones; eps < 0: no norm, only the form. */
td_status td_cuda_norm(td_cuda *cuda, const float *x, int64_t x_stride, int rows, const float *w, float eps, td_cuda_rows *h, float *y);
td_status td_cuda_add(td_cuda *cuda, float *y, const float *x, int64_t n);
/* Scores [rows, experts] (logits of the router) become the choice: softmax or sigmoid, bias for the choice only, best of groups, top-k with the lowest index on ties. */
typedef struct { int experts, top_k, groups, groups_used; bool softmax, renormalise, group_by_top2; float scale; const float *bias; } td_cuda_router;
td_status td_cuda_choose(td_cuda *cuda, const td_cuda_router *router, const float *logits, int rows, int32_t *ids, float *weights);
/* Index of the largest of n, lowest on ties, NaN passed over, per row. */
td_status td_cuda_argmax(td_cuda *cuda, const float *x, int rows, int64_t n, int32_t *out);
/* y[r] = sum over slots s in order of weights[r,s] * slots[slot_row[r,s]], then + shared (NULL: none). slot_row -1: not there, added as nothing. */
td_status td_cuda_combine(td_cuda *cuda, float *y, const float *slots, const int32_t *slot_row, const float *weights, int rows, int top_k, const float *shared, int64_t n);

/* ---- linear.cu ---- */

/* Rows by expert: made on the device from the router's choice, in ascending row order. Buffers for rows_max rows. */
typedef struct {
    int rows_max, top_k, experts, tile_rows, tiles_max;
    int32_t *row;            /* [device] [rows*top_k] row of each compact index */
    int32_t *slot_row;       /* [device] [rows*top_k] compact index of each slot, -1: its expert is not in 0..experts-1 */
    int32_t *counts;         /* [device] [experts] */
    int32_t *tiles;          /* [device] [tiles_max][4]: expert, first compact index, rows, 0; rows 0 past the end */
} td_cuda_groups;
td_status td_cuda_groups_new(td_cuda *cuda, int rows_max, int top_k, int experts, td_cuda_groups *out);
void td_cuda_groups_free(td_cuda *cuda, td_cuda_groups *groups);
/* ids [rows, top_k] name experts first..first+experts-1 of the model; others are someone else's. */
td_status td_cuda_group(td_cuda *cuda, const int32_t *ids, int rows, int first, td_cuda_groups *groups);

typedef enum { TD_CUDA_STORE, TD_CUDA_ADD, TD_CUDA_SWIGLU } td_cuda_then;
/* y[r, o] = sum_k W[o, k] x[r, k] (+ bias[o]): stored, added to y, or (pairs) h[r, j] = silu(gate) * up in h's form. With groups, matrix `expert` for each group's rows:
 * x through groups->row when gather is set, else at the compact index; outputs at the compact index. Without groups and with w->count > 1 every matrix is
 * applied to all rows (heads): matrix i reads x + i * x_step elements and writes y + i * y_step. */
typedef struct {
    const td_cuda_matrix *w;
    const td_cuda_rows *x;
    int rows;
    const td_cuda_groups *groups;
    bool gather;
    int64_t x_step, y_step;
    td_cuda_then then;
    const float *bias;       /* [device] [out] or NULL; not with groups or SWIGLU */
    float *y;                /* [device] */
    int64_t y_stride;
    td_cuda_rows *h;
} td_cuda_product;
td_status td_cuda_linear(td_cuda *cuda, const td_cuda_product *product);

/* ---- attend.cu ---- */

typedef enum { TD_CUDA_KV_BF16, TD_CUDA_KV_F8 } td_cuda_kv_type;
/* The paged cache of one layer: page p of head h is at k + ((p * kv_heads + h) * TD_PAGE_TOKENS) rows; F8 rows have a scale each (max/448). MLA: v NULL, V is the front of K. */
typedef struct {
    td_cuda_kv_type type;
    int kv_heads, dk, dv, pages;
    void *k, *v;             /* [device] */
    float *k_scale, *v_scale;/* [device] F8 only, per row */
} td_cuda_kv;
td_status td_cuda_kv_new(td_cuda *cuda, td_cuda_kv_type type, int kv_heads, int dk, int dv, bool v_is_k, int pages, td_cuda_kv *out);
void td_cuda_kv_free(td_cuda *cuda, td_cuda_kv *kv);

/* One row a query token: where it stands and where its context lies. */
typedef struct {
    const int32_t *positions; /* [device] [rows] position of each row's token: it attends to 0..position */
    const int32_t *tables;    /* [device] [rows][table_stride] pages of each row's request */
    int table_stride;
    int context_max;          /* no position is at or beyond it; fixes the grid */
} td_cuda_context;

/* Rotation and norms of heads, fused with what follows them. frequencies [n_rot/2] f32; cos and sin are multiplied by magnitude. norm (may be NULL) [dk]: RMSNorm of
 * each head (of its first norm_dim elements) before the rotation of elements rot_first .. rot_first + n_rot - 1. */
typedef struct { const float *frequencies; float magnitude; int rot_first, n_rot; bool neox; const float *norm; int norm_dim; float eps; } td_cuda_rope;
/* K [rows, kv_heads, dk] and V [rows, kv_heads, dv] (v NULL: MLA) in f32 -> normed, rotated, converted, at their places in the cache. */
td_status td_cuda_append(td_cuda *cuda, const td_cuda_rope *rope, const td_cuda_context *context, int rows, const float *k, const float *v, td_cuda_kv *kv);
/* The same for q [rows, heads, dk], in place, f32. */
td_status td_cuda_rotate(td_cuda *cuda, const td_cuda_rope *rope, const td_cuda_context *context, int rows, int heads, int dk, float *q);

/* The context is cut in partitions of `partition` positions (a multiple of 128) counted from 0: results depend on it, on nothing else of the batch. */
typedef struct { int rows_max, heads, partition, partitions; float *m, *l, *o; size_t bytes; } td_cuda_attend_scratch;
td_status td_cuda_attend_reserve(td_cuda *cuda, const td_cuda_kv *kv, int rows_max, int heads, int context_max, int partition, td_cuda_attend_scratch *out);
void td_cuda_attend_release(td_cuda *cuda, td_cuda_attend_scratch *scratch);
/* out [rows, heads, dv] f32 = softmax(scale * q K^T) V; q [rows, heads, dk] f32. window > 0: only the last `window` positions. exact (BF16 cache): queries and probabilities in
 * two BF16 each, twice the products. */
td_status td_cuda_attend(td_cuda *cuda, const td_cuda_kv *kv, const td_cuda_context *context, int rows, int heads, const float *q, float scale, int window, bool exact, td_cuda_attend_scratch *scratch, float *out);

#ifdef __cplusplus
}
#endif
#endif
