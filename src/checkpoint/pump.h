/*
 * pump.h - the tensors of a model in file order, and rows made in parallel and written in order. Shared by convert and synth. For checkpoint/ only.
 */
#ifndef TD_CHECKPOINT_PUMP_H
#define TD_CHECKPOINT_PUMP_H

#include "base/threads.h"
#include "checkpoint/outline.h"
#include "checkpoint/sink.h"

typedef struct {
    td_name name;        /* slot, layer, expert */
    bool scale;          /* the F8 block scales of that slot */
} td_pump_item;

typedef struct {
    td_sink_row *rows;   /* [count], what the sink writes */
    td_pump_item *items; /* [count], what they are */
    size_t count;
} td_pump_list;

/* Every tensor that a model of this outline has in a file of that format, types unset (TD_DTYPES). Memory from the arena. */
td_status td_pump_plan(const td_outline *outline, td_format format, td_arena *arena, td_pump_list *out);
/* Takes tensor `index` off the list. */
void td_pump_drop(td_pump_list *list, size_t index);
/* Adds the scales of every F8_E4M3 tensor of at least two dimensions. */
td_status td_pump_add_scales(td_pump_list *list, td_arena *arena);
/* Puts tensors with larger elements first (safetensors has no padding). */
td_status td_pump_sort(td_pump_list *list, td_arena *arena);

/* wanted, or what a row of `columns` elements allows instead: k-quants, then q8_0, then bf16. */
td_dtype td_pump_type(td_dtype wanted, int64_t columns);

/* Makes row `row` of tensor `item` (all dimensions but the last joined) into out; scratch: two rows of float. Any thread. False: *reason (static text) says why. */
typedef bool (*td_row_fn)(void *arg, size_t item, int64_t row, void *out, float *scratch, const char **reason);

/* Called before the first row of a tensor, on the calling thread; may prepare what row_fn needs. */
typedef td_status (*td_item_fn)(void *arg, size_t item);

typedef struct {
    td_row_fn row;
    td_item_fn begin;      /* may be NULL */
    void *arg;
    td_progress progress;  /* may be NULL */
    void *progress_user;
    int threads;
} td_pump_work;

/* Writes every tensor of the list into the sink. Errors: TD_E_CANCELLED, those of begin and of the sink, TD_E_FORMAT with tensor and row when row_fn refuses. */
td_status td_pump_run(const td_pump_list *list, const td_pump_work *work, td_sink *sink);

#endif
