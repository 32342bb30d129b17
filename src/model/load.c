/* load.c - finding, checking and converting single tensors. */
#include "model/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/layout.h"
#include "tensor/pack.h"

/* ---- finding ------------------------------------------------------------------------------------------------------------------------- */

const td_tensor *td_load_find(const td_loader *loader, td_slot slot, int layer, int expert)
{
    return td_names_find(loader->source->checkpoint, loader->family, slot, layer, expert);
}

static td_status absent(const td_loader *loader, td_slot slot, int layer)
{
    char name[TD_NAME_MAX];
    const td_checkpoint *checkpoint = loader->source->checkpoint;
    if (!td_name_write(loader->family, td_checkpoint_format(checkpoint), slot, layer, 0, name)) snprintf(name, sizeof name, "%s of layer %d", td_slot_name(slot), layer);
    const td_tensor *there;
    td_status status = td_checkpoint_require(checkpoint, name, &there); /* present, but of a type that cannot be used: says which */
    return status < 0 ? status : td_fail(TD_E_NOT_FOUND, "%s: expected tensor %s, found none", td_checkpoint_path(checkpoint), name);
}

/* ---- checking ------------------------------------------------------------------------------------------------------------------------ */

static td_status check_shape(const td_loader *loader, const td_tensor *t, int64_t rows, int64_t k)
{
    bool matrix = t->dims == 2 && t->shape[0] == rows && t->shape[1] == k;
    if (matrix) return TD_OK;
    char found[96] = "";
    for (int i = 0; i < t->dims; i++) snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? "x" : "", (long long)t->shape[i]);
    return td_fail(TD_E_FORMAT, "%s: tensor %s: expected %lldx%lld, found %s", td_checkpoint_path(loader->source->checkpoint), t->name, (long long)rows, (long long)k, found);
}

static bool is_weight_type(td_dtype type) { return type <= TD_Q6_K; }

static td_status check_type(const td_loader *loader, const td_tensor *t)
{
    const char *path = td_checkpoint_path(loader->source->checkpoint);
    if (!is_weight_type(t->type)) return td_fail(TD_E_UNSUPPORTED, "%s: tensor %s: expected a weight type (f32 to q6_k), found %s", path, t->name, td_dtype_name(t->type));
    if (t->type == TD_F8_E4M3 && !t->scale) return td_fail(TD_E_FORMAT, "%s: tensor %s: expected 128x128 block scales (weight_scale_inv) beside f8_e4m3, found none", path, t->name);
    return TD_OK;
}

/* ---- converting ---------------------------------------------------------------------------------------------------------------------- */

typedef struct { const td_tensor *from; td_tensor *to; float *scratch; } convert_run;

static void convert_task(void *arg, int row, int worker)
{
    convert_run *run = arg;
    int64_t k = run->from->shape[1];
    float *values = run->scratch + worker * k;
    td_tensor_row(run->from, row, values);
    td_quantise_row(run->to->type, values, (char *)(uintptr_t)run->to->data + (size_t)row * td_dtype_row_bytes(run->to->type, k), k);
}

/* The type that a row of k can have: the wanted one, else a wider one. */
static td_dtype fitting(td_dtype wanted, int64_t k)
{
    if (k % td_dtype_block_elements(wanted) == 0) return wanted;
    return k % TD_Q_BLOCK == 0 ? TD_Q8_0 : TD_BF16;
}

static td_status report(td_loader *loader, const char *what, uint64_t bytes)
{
    loader->done += bytes;
    const td_model_options *o = loader->options;
    if (!o->progress || o->progress(o->progress_user, what, TD_MIN(loader->done, loader->total), loader->total)) return TD_OK;
    return td_fail(TD_E_CANCELLED, "model: loading was given up");
}

/* ---- packing ------------------------------------------------------------------------------------------------------------------------- */

enum { GROUPS_A_TASK = 4 };
typedef struct { const td_tensor *from; char *to; char *copies; size_t group_bytes; int64_t groups; } pack_run;

static void pack_task(void *arg, int task, int worker)
{
    const pack_run *run = arg;
    for (int64_t g = task * GROUPS_A_TASK; g < TD_MIN((task + 1) * GROUPS_A_TASK, run->groups); g++) {
        const char *from = (const char *)run->from->data + (size_t)g * run->group_bytes;
        char *copy = run->copies + (size_t)worker * run->group_bytes, *to = run->to + (size_t)g * run->group_bytes;
        if (from == to) from = memcpy(copy, from, run->group_bytes);
        td_pack_rows(run->from->type, run->from->shape[1], from, to);
    }
}

td_status td_load_pack(td_loader *loader, const td_tensor *from, bool in_place, td_tensor *out)
{
    *out = *from;
    if (!loader->pack || !td_pack_fits(from)) return TD_OK;
    size_t bytes = td_tensor_bytes(from), group = bytes / (size_t)(from->shape[0] / TD_PACK_ROWS);
    char *copies = malloc(group * (size_t)td_pool_threads(loader->pool));
    if (!in_place) out->data = td_arena_get(&loader->model->arena, bytes);
    if (!copies || !out->data) {
        free(copies);
        return td_fail(TD_E_MEMORY, "tensor %s: no memory for %zu bytes laid out anew; --layout file needs none", from->name, bytes);
    }
    pack_run run = {from, (char *)(uintptr_t)out->data, copies, group, from->shape[0] / TD_PACK_ROWS};
    td_pool_run(loader->pool, (int)((run.groups + GROUPS_A_TASK - 1) / GROUPS_A_TASK), pack_task, &run);
    free(copies);
    out->packed = true;
    return report(loader, "laying out", bytes);
}

/* ---- what the two sides call ---------------------------------------------------------------------------------------------------------- */

td_status td_load_convert(td_loader *loader, const td_tensor *view, td_tensor *out)
{
    TD_TRY(check_type(loader, view));
    td_dtype type = loader->quantise ? fitting(loader->quant, view->shape[1]) : view->type;
    if (type == view->type) {
        td_status status = td_load_pack(loader, view, false, out);
        if (out->packed) td_file_forget(view->data, td_tensor_bytes(view));
        return status;
    }
    if (type != loader->quant) td_log(TD_LOG_INFO, "model", "tensor %s: rows of %lld do not fit %s, stored as %s", view->name, (long long)view->shape[1], td_dtype_name(loader->quant), td_dtype_name(type));
    td_tensor fresh = *view;
    fresh.type = type;
    fresh.scale = NULL;
    fresh.data = td_arena_get(&loader->model->arena, td_tensor_bytes(&fresh));
    float *scratch = malloc((size_t)td_pool_threads(loader->pool) * (size_t)view->shape[1] * sizeof *scratch);
    if (!fresh.data || !scratch) {
        free(scratch);
        return td_fail(TD_E_MEMORY, "tensor %s: no memory to quantise it", view->name);
    }
    convert_run run = {view, &fresh, scratch};
    td_pool_run(loader->pool, (int)view->shape[0], convert_task, &run);
    free(scratch);
    TD_TRY(report(loader, "quantising", td_tensor_bytes(view)));
    return td_load_pack(loader, &fresh, true, out);
}

td_status td_load_matrix(td_loader *loader, td_slot slot, int layer, int64_t rows, int64_t k, bool required, td_tensor *out)
{
    const td_tensor *found = td_load_find(loader, slot, layer, 0);
    *out = (td_tensor){0};
    if (!found) return required ? absent(loader, slot, layer) : TD_OK;
    TD_TRY(check_shape(loader, found, rows, k));
    return td_load_convert(loader, found, out);
}

td_status td_load_rows(td_loader *loader, td_slot slot, int layer, int64_t rows, int64_t k, bool exact, td_tensor *out)
{
    bool quantise = loader->quantise, pack = loader->pack;
    loader->quantise &= !exact;
    loader->pack = false;
    td_status status = td_load_matrix(loader, slot, layer, rows, k, true, out);
    loader->quantise = quantise;
    loader->pack = pack;
    return status;
}

td_status td_load_vector(td_loader *loader, td_slot slot, int layer, int64_t n, bool required, const float **out)
{
    const td_tensor *found = td_load_find(loader, slot, layer, 0);
    *out = NULL;
    if (!found) return required ? absent(loader, slot, layer) : TD_OK;
    const char *path = td_checkpoint_path(loader->source->checkpoint);
    if (found->dims < 1 || td_tensor_elements(found) != n || found->shape[found->dims - 1] != n)
        return td_fail(TD_E_FORMAT, "%s: tensor %s: expected %lld elements, found %lld", path, found->name, (long long)n, (long long)td_tensor_elements(found));
    if (found->type > TD_BF16) return td_fail(TD_E_UNSUPPORTED, "%s: tensor %s: expected f32, f16 or bf16, found %s", path, found->name, td_dtype_name(found->type));
    float *values = TD_NEW(&loader->model->arena, float, (size_t)n);
    if (!values) return TD_E_MEMORY;
    td_dequantise_row(found->type, found->data, values, n);
    for (int64_t i = 0; i < n; i++)
        if (!(values[i] - values[i] == 0.0f)) return td_fail(TD_E_FORMAT, "%s: tensor %s: expected finite numbers, found %f at element %lld", path, found->name, (double)values[i], (long long)i);
    *out = values;
    return TD_OK;
}
