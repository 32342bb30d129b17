/* pump.c - see pump.h. A batch of rows is made by all threads, each row its own place, so the file does not depend on their number; then it is written. */
#define _GNU_SOURCE
#include "checkpoint/pump.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 8 << 20, ROWS_PER_TASK = 8 };

/* ---- the list ---- */

typedef struct { const td_outline *o; td_format format; td_pump_list list; size_t room; } planner;

static void plan_slot(planner *p, td_slot slot, int layer, int expert)
{
    int dims;
    int64_t shape[TD_DIMS_MAX];
    if (!td_outline_shape(p->o, p->format, slot, layer, &dims, shape)) return;
    char name[TD_NAME_MAX];
    if (!td_name_write(p->o->family, p->format, slot, layer, expert, name)) return;
    if (p->list.rows) {
        td_sink_row *row = &p->list.rows[p->list.count];
        *row = (td_sink_row){.type = TD_DTYPES, .dims = dims};
        memcpy(row->name, name, sizeof name);
        memcpy(row->shape, shape, sizeof shape);
        p->list.items[p->list.count] = (td_pump_item){.name = {slot, td_slot_per_layer(slot) ? layer : -1, expert}};
    }
    p->list.count++;
}

static void plan_all(planner *p)
{
    p->list.count = 0;
    plan_slot(p, TD_SLOT_EMBED, 0, -1);
    for (int layer = 0; layer < p->o->layers; layer++)
        for (int slot = TD_SLOT_ATTN_NORM; slot < TD_SLOTS; slot++) {
            bool single = slot >= TD_SLOT_EXPERT_GATE && slot <= TD_SLOT_EXPERT_DOWN;
            if (slot == TD_SLOT_EXPERT_UP || slot == TD_SLOT_EXPERT_DOWN) continue;
            if (!single) plan_slot(p, (td_slot)slot, layer, -1);
            for (int e = 0; single && p->o->moe[layer] && e < p->o->experts; e++)
                for (int part = TD_SLOT_EXPERT_GATE; part <= TD_SLOT_EXPERT_DOWN; part++) plan_slot(p, (td_slot)part, layer, e);
        }
    plan_slot(p, TD_SLOT_FINAL_NORM, 0, -1);
    plan_slot(p, TD_SLOT_HEAD, 0, -1);
    plan_slot(p, TD_SLOT_ROPE_FREQS, 0, -1);
}

td_status td_pump_plan(const td_outline *outline, td_format format, td_arena *arena, td_pump_list *out)
{
    planner p = {.o = outline, .format = format};
    if (outline->experts > 1 << 16) return td_fail(TD_E_INVALID, "model %s: expected at most 65536 experts, found %lld", outline->name, (long long)outline->experts);
    plan_all(&p);
    p.list.rows = TD_NEW(arena, td_sink_row, p.list.count);
    p.list.items = TD_NEW(arena, td_pump_item, p.list.count);
    if (!p.list.rows || !p.list.items) return TD_E_MEMORY;
    plan_all(&p);
    *out = p.list;
    return TD_OK;
}

void td_pump_drop(td_pump_list *list, size_t index)
{
    list->count--;
    memmove(list->rows + index, list->rows + index + 1, (list->count - index) * sizeof *list->rows);
    memmove(list->items + index, list->items + index + 1, (list->count - index) * sizeof *list->items);
}

td_status td_pump_add_scales(td_pump_list *list, td_arena *arena)
{
    td_sink_row *rows = TD_NEW(arena, td_sink_row, 2 * list->count);
    td_pump_item *items = TD_NEW(arena, td_pump_item, 2 * list->count);
    if (!rows || !items) return TD_E_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        rows[count] = list->rows[i];
        items[count++] = list->items[i];
        if (list->rows[i].type != TD_F8_E4M3) continue;
        td_sink_row *row = &rows[count];
        *row = list->rows[i];
        row->type = TD_F32;
        strncat(row->name, "_scale_inv", sizeof row->name - strlen(row->name) - 1);
        for (int d = row->dims - 2; d < row->dims; d++) row->shape[d] = (row->shape[d] + TD_F8_BLOCK - 1) / TD_F8_BLOCK;
        items[count] = list->items[i];
        items[count++].scale = true;
    }
    *list = (td_pump_list){rows, items, count};
    return TD_OK;
}

td_status td_pump_sort(td_pump_list *list, td_arena *arena)
{
    td_sink_row *rows = TD_NEW(arena, td_sink_row, list->count);
    td_pump_item *items = TD_NEW(arena, td_pump_item, list->count);
    if (!rows || !items) return TD_E_MEMORY;
    size_t count = 0;
    for (int size = 8; size > 0; size /= 2)
        for (size_t i = 0; i < list->count; i++)
            if (td_dtype_block_bytes(list->rows[i].type) == size) {
                rows[count] = list->rows[i];
                items[count++] = list->items[i];
            }
    if (count != list->count) return td_fail(TD_E_INTERNAL, "safetensors cannot hold block-quantised tensors");
    list->rows = rows;
    list->items = items;
    return TD_OK;
}

td_dtype td_pump_type(td_dtype wanted, int64_t columns)
{
    if (td_dtype_row_bytes(wanted, columns) > 0) return wanted;
    return td_dtype_block_elements(wanted) == TD_QK_BLOCK && columns % TD_Q_BLOCK == 0 ? TD_Q8_0 : TD_BF16;
}

/* ---- rows ---- */

typedef struct {
    const td_pump_work *work;
    size_t item;
    int64_t first, rows, columns;
    size_t row_bytes;
    uint8_t *out;
    float *scratch;          /* two rows for each worker */
    _Atomic int64_t refused; /* smallest refused row, or -1 */
    const char *_Atomic reason;
} batch;

static void make_rows(void *arg, int task, int worker)
{
    batch *b = arg;
    int64_t first = (int64_t)task * ROWS_PER_TASK, end = TD_MIN(first + ROWS_PER_TASK, b->rows);
    for (int64_t r = first; r < end; r++) {
        const char *reason = NULL;
        if (b->work->row(b->work->arg, b->item, b->first + r, b->out + (size_t)r * b->row_bytes, b->scratch + 2 * worker * b->columns, &reason)) continue;
        int64_t none = -1;
        if (atomic_compare_exchange_strong(&b->refused, &none, b->first + r)) atomic_store(&b->reason, reason);
        return;
    }
}

static td_status run_item(const td_pump_list *list, const td_pump_work *work, td_pool *pool, batch *b, td_sink *sink, uint64_t *done)
{
    const td_sink_row *row = &list->rows[b->item];
    b->columns = row->shape[row->dims - 1];
    b->row_bytes = td_dtype_row_bytes(row->type, b->columns);
    int64_t rows = 1, most = TD_MAX((int64_t)(BATCH_BYTES / b->row_bytes), 1);
    for (int d = 0; d < row->dims - 1; d++) rows *= row->shape[d];
    b->scratch = malloc(2 * (size_t)td_pool_threads(pool) * (size_t)b->columns * sizeof(float));
    b->out = malloc((size_t)TD_MIN(most, rows) * b->row_bytes);
    td_status status = b->scratch && b->out ? TD_OK : td_fail(TD_E_MEMORY, "tensor %s: no memory for rows of %lld elements", row->name, (long long)b->columns);
    for (b->first = 0; b->first < rows && status == TD_OK; b->first += b->rows) {
        b->rows = TD_MIN(most, rows - b->first);
        td_pool_run(pool, (int)((b->rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK), make_rows, b);
        int64_t refused = atomic_load(&b->refused);
        const char *reason = atomic_load(&b->reason);
        if (refused >= 0) status = td_fail(TD_E_FORMAT, "tensor %s, row %lld: %s", row->name, (long long)refused, reason ? reason : "cannot be converted");
        else status = td_sink_put(sink, b->out, (size_t)b->rows * b->row_bytes);
        *done += (uint64_t)b->rows * b->row_bytes;
        if (status == TD_OK && work->progress && !work->progress(work->progress_user, row->name, *done, sink->total)) status = td_fail(TD_E_CANCELLED, "writing %s was cancelled", sink->path);
    }
    free(b->scratch);
    free(b->out);
    return status;
}

td_status td_pump_run(const td_pump_list *list, const td_pump_work *work, td_sink *sink)
{
    td_pool *pool;
    uint64_t done = 0;
    TD_TRY(td_pool_open(work->threads, &pool));
    td_status status = TD_OK;
    for (size_t i = 0; i < list->count && status == TD_OK; i++) {
        batch b = {.work = work, .item = i, .refused = -1};
        if (work->begin) status = work->begin(work->arg, i);
        if (status == TD_OK) status = run_item(list, work, pool, &b, sink, &done);
    }
    td_pool_close(pool);
    return status;
}
