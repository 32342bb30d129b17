/* load.c - finding, checking and converting single tensors. */
#include "model/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* ---- finding ------------------------------------------------------------------------------------------------------------------------- */

/* Published folders of multimodal models put the language model deeper. */
static const td_tensor *find_hf(const td_checkpoint *checkpoint, const char *name)
{
    static const char *const prefixes[] = {"model.language_model.", "language_model.model."};
    const td_tensor *tensor = td_checkpoint_find(checkpoint, name);
    char other[320];
    for (size_t i = 0; !tensor && i < TD_COUNT(prefixes) && !strncmp(name, "model.", 6); i++) {
        snprintf(other, sizeof other, "%s%s", prefixes[i], name + 6);
        tensor = td_checkpoint_find(checkpoint, other);
    }
    if (!tensor && !strncmp(name, "lm_head", 7)) {
        snprintf(other, sizeof other, "language_model.%s", name);
        tensor = td_checkpoint_find(checkpoint, other);
    }
    return tensor;
}

const td_tensor *td_load_find(const td_loader *loader, td_slot slot, int layer, int expert)
{
    bool gguf = loader->source->config == NULL;
    char name[256];
    for (const td_name *row = loader->family->names; row->hf || row->gguf; row++) {
        if (row->slot != slot || !(gguf ? row->gguf : row->hf)) continue;
        td_name_spell(row, gguf, layer, expert, name, sizeof name);
        const td_tensor *tensor = gguf ? td_checkpoint_find(loader->source->checkpoint, name) : find_hf(loader->source->checkpoint, name);
        if (tensor) return tensor;
    }
    return NULL;
}

static td_status absent(const td_loader *loader, td_slot slot, int layer)
{
    bool gguf = loader->source->config == NULL;
    char name[256] = "?";
    for (const td_name *row = loader->family->names; row->hf || row->gguf; row++)
        if (row->slot == slot && (gguf ? row->gguf : row->hf)) {
            td_name_spell(row, gguf, layer, 0, name, sizeof name);
            break;
        }
    return td_fail(TD_E_NOT_FOUND, "%s: expected tensor %s, found none", td_checkpoint_path(loader->source->checkpoint), name);
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

bool td_load_rows(const td_tensor *matrix, int64_t begin, int64_t count, td_tensor *out)
{
    td_tensor rows = *matrix;
    rows.shape[0] = count;
    rows.data = (const char *)matrix->data + (size_t)begin * td_dtype_row_bytes(matrix->type, matrix->shape[1]);
    if (matrix->scale) {
        if (begin % TD_F8_BLOCK) return false;
        rows.scale = matrix->scale + begin / TD_F8_BLOCK * ((matrix->shape[1] + TD_F8_BLOCK - 1) / TD_F8_BLOCK);
    }
    *out = rows;
    return true;
}

static void dequantise_one(const td_tensor *t, int64_t row, float *out)
{
    int64_t k = t->shape[1];
    td_dequantise_row(t->type, (const char *)t->data + (size_t)row * td_dtype_row_bytes(t->type, k), out, k);
    if (!t->scale) return;
    const float *scales = t->scale + row / TD_F8_BLOCK * ((k + TD_F8_BLOCK - 1) / TD_F8_BLOCK);
    for (int64_t i = 0; i < k; i++) out[i] *= scales[i / TD_F8_BLOCK];
}

void td_load_dequantise(const td_tensor *matrix, float *out)
{
    for (int64_t row = 0; row < matrix->shape[0]; row++) dequantise_one(matrix, row, out + row * matrix->shape[1]);
}

typedef struct { const td_tensor *from; td_tensor *to; float *scratch; } convert_run;

static void convert_task(void *arg, int row, int worker)
{
    convert_run *run = arg;
    int64_t k = run->from->shape[1];
    float *values = run->scratch + worker * k;
    dequantise_one(run->from, row, values);
    td_quantise_row(run->to->type, values, (char *)(uintptr_t)run->to->data + (size_t)row * td_dtype_row_bytes(run->to->type, k), k);
}

/* The type that a row of k can have: the wanted one, else a wider one. */
static td_dtype fitting(td_dtype wanted, int64_t k)
{
    if (k % td_dtype_block_elements(wanted) == 0) return wanted;
    return k % TD_Q_BLOCK == 0 ? TD_Q8_0 : TD_BF16;
}

static bool report(td_loader *loader, uint64_t bytes)
{
    loader->done += bytes;
    const td_model_options *o = loader->options;
    return !o->progress || o->progress(o->progress_user, "quantising", TD_MIN(loader->done, loader->total), loader->total);
}

td_status td_load_convert(td_loader *loader, const td_tensor *view, td_tensor *out)
{
    TD_TRY(check_type(loader, view));
    td_dtype type = loader->quantise ? fitting(loader->quant, view->shape[1]) : view->type;
    if (type == view->type) {
        *out = *view;
        return TD_OK;
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
    if (!report(loader, td_tensor_bytes(view))) return td_fail(TD_E_CANCELLED, "model: loading was given up");
    *out = fresh;
    return TD_OK;
}

td_status td_load_matrix(td_loader *loader, td_slot slot, int layer, int64_t rows, int64_t k, bool required, td_tensor *out)
{
    const td_tensor *found = td_load_find(loader, slot, layer, 0);
    *out = (td_tensor){0};
    if (!found) return required ? absent(loader, slot, layer) : TD_OK;
    TD_TRY(check_shape(loader, found, rows, k));
    return td_load_convert(loader, found, out);
}

td_status td_load_vector(td_loader *loader, td_slot slot, int layer, int64_t n, bool required, const float **out)
{
    const td_tensor *found = td_load_find(loader, slot, layer, 0);
    *out = NULL;
    if (!found) return required ? absent(loader, slot, layer) : TD_OK;
    const char *path = td_checkpoint_path(loader->source->checkpoint);
    if (td_tensor_elements(found) != n || found->shape[found->dims - 1] != n)
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
