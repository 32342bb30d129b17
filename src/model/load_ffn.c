/* load_ffn.c - the FFN side's weights: dense matrices, experts (stacked, fused gate+up, or one tensor each) and the shared expert. Only what is wanted here is touched. */
#include "model/load.h"

static td_status wrong_stack(const td_loader *loader, const td_tensor *t, int64_t experts, int64_t rows, int64_t k)
{
    return td_fail(TD_E_FORMAT, "%s: tensor %s: expected %lldx%lldx%lld, found another shape", td_checkpoint_path(loader->source->checkpoint), t->name, (long long)experts, (long long)rows, (long long)k);
}

static bool wanted(const td_loader *loader, int expert) { return !loader->want_expert || loader->want_expert[expert]; }

/* Views of one kind of expert matrix: from a stack, or from one tensor an expert. */
static td_status load_kind(td_loader *loader, td_slot slot, int layer, int64_t rows, int64_t k, td_tensor *out)
{
    const td_config *c = &loader->model->config;
    for (int e = 0; e < c->experts; e++) {
        const td_tensor *found = td_load_find(loader, slot, layer, e);
        td_tensor view;
        if (!found) return td_load_matrix(loader, slot, layer, rows, k, true, &out[e]); /* says what is missing */
        if (found->dims == 3) {
            if (found->shape[0] != c->experts || found->shape[1] != rows || found->shape[2] != k) return wrong_stack(loader, found, c->experts, rows, k);
            view = td_tensor_slice(found, e);
        } else {
            if (found->dims != 2 || found->shape[0] != rows || found->shape[1] != k) return wrong_stack(loader, found, 1, rows, k);
            view = *found;
        }
        if (wanted(loader, e)) TD_TRY(td_load_convert(loader, &view, &out[e]));
        else out[e] = (td_tensor){.type = view.type, .dims = 2, .shape = {rows, k}, .name = view.name};
    }
    return TD_OK;
}

/* Fused gate+up stacks [experts, 2*d_expert, d_model]. */
static td_status load_fused(td_loader *loader, const td_tensor *fused, td_tensor *gate, td_tensor *up)
{
    const td_config *c = &loader->model->config;
    if (fused->dims != 3 || fused->shape[0] != c->experts || fused->shape[1] != 2 * (int64_t)c->d_expert || fused->shape[2] != c->d_model)
        return wrong_stack(loader, fused, c->experts, 2 * (int64_t)c->d_expert, c->d_model);
    for (int e = 0; e < c->experts; e++) {
        td_tensor both = td_tensor_slice(fused, e), g, u;
        if (!td_load_rows(&both, 0, c->d_expert, &g) || !td_load_rows(&both, c->d_expert, c->d_expert, &u))
            return td_fail(TD_E_UNSUPPORTED, "%s: tensor %s: f8 block scales do not divide between gate and up", td_checkpoint_path(loader->source->checkpoint), fused->name);
        if (!wanted(loader, e)) g.data = u.data = NULL;
        TD_TRY(g.data ? td_load_convert(loader, &g, &gate[e]) : TD_OK);
        TD_TRY(u.data ? td_load_convert(loader, &u, &up[e]) : TD_OK);
        if (!g.data) gate[e] = g, up[e] = u;
    }
    return TD_OK;
}

static td_status load_experts(td_loader *loader, int layer, td_layer_ffn *w)
{
    const td_config *c = &loader->model->config;
    td_arena *arena = &loader->model->arena;
    td_tensor *gate = TD_NEW(arena, td_tensor, (size_t)c->experts), *up = TD_NEW(arena, td_tensor, (size_t)c->experts), *down = TD_NEW(arena, td_tensor, (size_t)c->experts);
    if (!gate || !up || !down) return TD_E_MEMORY;
    const td_tensor *fused = td_load_find(loader, TD_SLOT_EXPERT_GATE_UP, layer, 0);
    if (fused) TD_TRY(load_fused(loader, fused, gate, up));
    else {
        TD_TRY(load_kind(loader, TD_SLOT_EXPERT_GATE, layer, c->d_expert, c->d_model, gate));
        TD_TRY(load_kind(loader, TD_SLOT_EXPERT_UP, layer, c->d_expert, c->d_model, up));
    }
    TD_TRY(load_kind(loader, TD_SLOT_EXPERT_DOWN, layer, c->d_model, c->d_expert, down));
    w->expert_gate = gate;
    w->expert_up = up;
    w->expert_down = down;
    if (!c->d_shared) return TD_OK;
    TD_TRY(td_load_matrix(loader, TD_SLOT_SHARED_GATE, layer, c->d_shared, c->d_model, true, &w->shared_gate));
    TD_TRY(td_load_matrix(loader, TD_SLOT_SHARED_UP, layer, c->d_shared, c->d_model, true, &w->shared_up));
    return td_load_matrix(loader, TD_SLOT_SHARED_DOWN, layer, c->d_model, c->d_shared, true, &w->shared_down);
}

td_status td_load_ffn(td_loader *loader)
{
    td_model *model = loader->model;
    const td_config *c = &model->config;
    td_layer_ffn *layers = TD_NEW(&model->arena, td_layer_ffn, (size_t)c->layers);
    if (!layers) return TD_E_MEMORY;
    for (int layer = 0; layer < c->layers; layer++) {
        td_layer_ffn *w = &layers[layer];
        if (loader->want_layer && !loader->want_layer[layer]) continue;
        if (loader->is_moe[layer]) {
            TD_TRY(load_experts(loader, layer, w));
            continue;
        }
        TD_TRY(td_load_matrix(loader, TD_SLOT_GATE, layer, c->d_ff, c->d_model, true, &w->gate));
        TD_TRY(td_load_matrix(loader, TD_SLOT_UP, layer, c->d_ff, c->d_model, true, &w->up));
        TD_TRY(td_load_matrix(loader, TD_SLOT_DOWN, layer, c->d_model, c->d_ff, true, &w->down));
    }
    model->ffn = layers;
    return TD_OK;
}
