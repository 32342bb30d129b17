/* load_ffn.c - the FFN side's weights: dense matrices, experts (stacked, fused gate+up, or one tensor each) and the shared expert. Only what is wanted here is touched. */
#include "model/load.h"

#include <stdio.h>

/* One kind of expert matrix for all experts; those not wanted here keep their shape without data. */
static td_status load_kind(td_loader *loader, td_slot part, int layer, int64_t rows, int64_t k, td_tensor *out)
{
    const td_config *c = &loader->model->config;
    const td_checkpoint *checkpoint = loader->source->checkpoint;
    for (int e = 0; e < c->experts; e++) {
        td_tensor view;
        TD_TRY(td_names_expert(checkpoint, loader->family, part, layer, e, &view));
        if (view.dims != 2 || view.shape[0] != rows || view.shape[1] != k)
            return td_fail(TD_E_FORMAT, "%s: tensor %s: expected experts of %lldx%lld, found another shape", td_checkpoint_path(checkpoint), view.name, (long long)rows, (long long)k);
        if (!loader->want_expert || loader->want_expert[e]) TD_TRY(td_load_convert(loader, &view, &out[e]));
        else out[e] = (td_tensor){.type = view.type, .dims = 2, .shape = {rows, k}, .name = view.name};
    }
    return TD_OK;
}

static td_status load_experts(td_loader *loader, int layer, td_layer_ffn *w)
{
    const td_config *c = &loader->model->config;
    td_arena *arena = &loader->model->arena;
    td_tensor *gate = TD_NEW(arena, td_tensor, (size_t)c->experts), *up = TD_NEW(arena, td_tensor, (size_t)c->experts), *down = TD_NEW(arena, td_tensor, (size_t)c->experts);
    if (!gate || !up || !down) return TD_E_MEMORY;
    TD_TRY(load_kind(loader, TD_SLOT_EXPERT_GATE, layer, c->d_expert, c->d_model, gate));
    TD_TRY(load_kind(loader, TD_SLOT_EXPERT_UP, layer, c->d_expert, c->d_model, up));
    TD_TRY(load_kind(loader, TD_SLOT_EXPERT_DOWN, layer, c->d_model, c->d_expert, down));
    w->expert_gate = gate;
    w->expert_up = up;
    w->expert_down = down;
    if (!c->d_shared) return TD_OK;
    TD_TRY(td_load_matrix(loader, TD_SLOT_SHARED_GATE, layer, c->d_shared, c->d_model, true, &w->shared_gate));
    TD_TRY(td_load_matrix(loader, TD_SLOT_SHARED_UP, layer, c->d_shared, c->d_model, true, &w->shared_up));
    return td_load_matrix(loader, TD_SLOT_SHARED_DOWN, layer, c->d_model, c->d_shared, true, &w->shared_down);
}

/* Biases of the dense FFN, which GGUF files of llama may hold: refused, as mlp_bias in config.json is. */
static td_status refuse_biases(const td_loader *loader, int layer)
{
    static const char *const names[] = {"gate", "up", "down"};
    char name[64];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "blk.%d.ffn_%s.bias", layer, names[i]);
        if (td_checkpoint_find(loader->source->checkpoint, name)) return td_fail(TD_E_UNSUPPORTED, "%s, tensor %s: expected an FFN without biases, found one", td_checkpoint_path(loader->source->checkpoint), name);
    }
    return TD_OK;
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
        TD_TRY(refuse_biases(loader, layer));
        TD_TRY(td_load_matrix(loader, TD_SLOT_GATE, layer, c->d_ff, c->d_model, true, &w->gate));
        TD_TRY(td_load_matrix(loader, TD_SLOT_UP, layer, c->d_ff, c->d_model, true, &w->up));
        TD_TRY(td_load_matrix(loader, TD_SLOT_DOWN, layer, c->d_model, c->d_ff, true, &w->down));
    }
    model->ffn = layers;
    return TD_OK;
}
