/* desk.c - see desk.h. */
#include "link/desk.h"

#include <string.h>

static void ffn_run(void *user, const td_ffn_job *job, float *y) { td_ffn_run(user, job, y); }
static void ffn_slots(void *user, const td_ffn_job *job, float *slots, float *shared) { td_ffn_slots(user, job, slots, shared); }
td_compute td_compute_ffn(td_ffn *ffn) { return (td_compute){ffn, ffn_run, ffn_slots}; }

/* ---- work ---------------------------------------------------------------------------------------------------------------------------- */

td_status td_work_reserve(td_work *work, const td_shape *shape, int rows_max, td_arena *arena)
{
    size_t rows = (size_t)rows_max, top_k = (size_t)shape->top_k;
    work->row_flags = TD_NEW(arena, uint8_t, rows);
    work->x = TD_NEW(arena, float, rows * (size_t)shape->d_model);
    work->ids = TD_NEW(arena, int32_t, rows * top_k);
    work->weights = TD_NEW(arena, float, rows * top_k);
    return work->row_flags && work->x && work->ids && work->weights ? TD_OK : TD_E_MEMORY;
}

void td_work_take(td_work *work, const td_shape *shape, const td_submit_view *view)
{
    work->layer = view->layer;
    work->rows = view->rows;
    work->back = view->back;
    memcpy(work->row_flags, view->row_flags, (size_t)view->rows);
    int units = view->ids ? view->rows * shape->top_k : 0;
    for (int i = 0; i < units; i++) {
        uint16_t id = td_get16(view->ids + (size_t)i * 2);
        uint32_t bits = td_get32(view->weights + (size_t)i * 4);
        work->ids[i] = id == 0xFFFF ? -1 : id;
        memcpy(&work->weights[i], &bits, 4);
    }
    size_t row_bytes = td_wire_row_bytes(view->encoding, shape->d_model);
    for (int r = 0; r < view->rows; r++) td_wire_row_get(view->encoding, view->x + (size_t)r * row_bytes, shape->d_model, work->x + (size_t)r * (size_t)shape->d_model);
}

static uint64_t row_mask(const td_work *work, const td_shape *shape, int row)
{
    uint64_t mask = work->row_flags[row] & TD_ROW_PLAIN ? TD_UNIT_PLAIN : 0;
    if (shape->is_moe[work->layer])
        for (int s = 0; s < shape->top_k; s++)
            if (work->ids[row * shape->top_k + s] >= 0) mask |= (uint64_t)1 << s;
    return mask;
}

size_t td_work_answer_bytes(const td_work *work, const td_shape *shape)
{
    size_t bytes = 0;
    for (int r = 0; r < work->rows; r++) bytes += td_answer_row_bytes(shape, work->layer, row_mask(work, shape, r), work->back);
    return bytes;
}

/* ---- desk ---------------------------------------------------------------------------------------------------------------------------- */

td_status td_desk_reserve(td_desk *desk, const td_shape *shape, const td_kernel *kernel, td_compute compute, int rows_max, td_arena *arena)
{
    size_t rows = (size_t)rows_max, d = (size_t)shape->d_model, top_k = (size_t)shape->top_k;
    *desk = (td_desk){.shape = shape, .kernel = kernel, .compute = compute, .rows_max = rows_max};
    desk->x = TD_NEW(arena, float, rows * d);
    desk->slots = TD_NEW(arena, float, rows * d * top_k);
    desk->shared = TD_NEW(arena, float, rows * d);
    desk->weights = TD_NEW(arena, float, rows * top_k);
    desk->ids = TD_NEW(arena, int32_t, rows * top_k);
    return desk->x && desk->slots && desk->shared && desk->weights && desk->ids ? TD_OK : TD_E_MEMORY;
}

/* One FFN job over all works; with a single one, its own arrays. */
static td_ffn_job gather(td_desk *desk, td_work *const *works, int count)
{
    const td_shape *shape = desk->shape;
    bool moe = shape->is_moe[works[0]->layer];
    td_ffn_job job = {.layer = works[0]->layer};
    if (count == 1) {
        job.rows = works[0]->rows;
        job.x = works[0]->x;
        job.ids = moe ? works[0]->ids : NULL;
        job.weights = moe ? works[0]->weights : NULL;
        return job;
    }
    for (int i = 0; i < count; i++) {
        const td_work *work = works[i];
        size_t rows = (size_t)work->rows, units = (size_t)job.rows * (size_t)shape->top_k;
        memcpy(desk->x + (size_t)job.rows * (size_t)shape->d_model, work->x, rows * (size_t)shape->d_model * sizeof(float));
        if (moe) {
            memcpy(desk->ids + units, work->ids, rows * (size_t)shape->top_k * sizeof(int32_t));
            memcpy(desk->weights + units, work->weights, rows * (size_t)shape->top_k * sizeof(float));
        }
        job.rows += work->rows;
    }
    job.x = desk->x;
    job.ids = moe ? desk->ids : NULL;
    job.weights = moe ? desk->weights : NULL;
    return job;
}

/* Every row wants its sum, and no part of it is rounded first: the FFN can add up itself. */
static bool only_sums(const td_desk *desk, td_work *const *works, int count)
{
    bool dense = !desk->shape->is_moe[works[0]->layer];
    for (int i = 0; i < count; i++) {
        if (!dense && works[i]->back != TD_ENCODING_F32) return false;
        for (int r = 0; r < works[i]->rows; r++)
            if (!(works[i]->row_flags[r] & TD_ROW_WHOLE)) return false;
    }
    return true;
}

/* One row's slots (and shared) as the mask wants them. Returns the bytes written. */
static size_t put_row(const td_desk *desk, const td_work *work, int row, float *slots, float *shared, uint8_t *out)
{
    const td_shape *shape = desk->shape;
    int d = shape->d_model, top_k = shape->top_k;
    uint8_t flags = work->row_flags[row];
    if (flags & TD_ROW_WHOLE) {
        for (int s = 0; s < top_k; s++) td_wire_row_round(work->back, slots + (int64_t)s * d, d);
        if (flags & TD_ROW_PLAIN) td_wire_row_round(work->back, shared, d);
        td_ffn_combine(desk->kernel, (float *)(void *)out, slots, d, work->weights + row * top_k, top_k, flags & TD_ROW_PLAIN ? shared : NULL, d);
        return (size_t)d * sizeof(float);
    }
    uint8_t *at = out;
    size_t bytes = td_wire_row_bytes(work->back, d);
    for (int s = 0; s < top_k; s++) {
        if (work->ids[row * top_k + s] < 0) continue;
        td_wire_row_put(work->back, slots + (int64_t)s * d, d, at);
        at += bytes;
    }
    if (flags & TD_ROW_PLAIN) {
        td_wire_row_put(work->back, shared, d, at);
        at += bytes;
    }
    return (size_t)(at - out);
}

void td_desk_answer(td_desk *desk, td_work *const *works, uint8_t *const *outs, int count)
{
    const td_shape *shape = desk->shape;
    td_ffn_job job = gather(desk, works, count);
    size_t d = (size_t)shape->d_model;
    if (only_sums(desk, works, count)) {
        bool dense = !job.ids;
        bool direct = count == 1 && (!dense || works[0]->back == TD_ENCODING_F32);
        float *y = direct ? (float *)(void *)outs[0] : desk->shared;
        desk->compute.run(desk->compute.user, &job, y);
        if (direct) return;
        for (int i = 0; i < count; i++) {
            td_encoding encoding = dense ? works[i]->back : TD_ENCODING_F32;
            for (int r = 0; r < works[i]->rows; r++, y += d) td_wire_row_put(encoding, y, (int)d, outs[i] + (size_t)r * td_wire_row_bytes(encoding, (int)d));
        }
        return;
    }
    bool plain = false;
    for (int i = 0; i < count; i++)
        for (int r = 0; r < works[i]->rows; r++) plain |= (works[i]->row_flags[r] & TD_ROW_PLAIN) != 0;
    desk->compute.slots(desk->compute.user, &job, desk->slots, plain ? desk->shared : NULL);
    size_t row = 0;
    for (int i = 0; i < count; i++) {
        uint8_t *out = outs[i];
        for (int r = 0; r < works[i]->rows; r++, row++) out += put_row(desk, works[i], r, desk->slots + row * (size_t)shape->top_k * d, desk->shared + row * d, out);
    }
}
