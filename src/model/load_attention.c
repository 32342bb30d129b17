/* load_attention.c - the attention side's weights: embedding, head, norms, projections, router; MLA's kv_b cut into what the absorbed form reads. */
#include <stdlib.h>

#include "checkpoint/layout.h"
#include "model/load.h"

/* A float32 matrix stored in the arena as `type` (exact: the values came from that type, or it is f32). */
static td_status keep(td_loader *loader, td_dtype type, const float *values, int64_t rows, int64_t k, const char *name, td_tensor *out)
{
    char *data = td_arena_array(&loader->model->arena, (size_t)rows, td_dtype_row_bytes(type, k));
    if (!data) return TD_E_MEMORY;
    for (int64_t r = 0; r < rows; r++) td_quantise_row(type, values + r * k, data + (size_t)r * td_dtype_row_bytes(type, k), k);
    *out = (td_tensor){.type = type, .dims = 2, .shape = {rows, k}, .data = data, .name = name};
    return TD_OK;
}

/* Of one head, where its parts are whole scale blocks: v_b is a view of kv_b, k_b its bytes and block scales transposed. */
static td_status split_fp8(td_loader *loader, const td_tensor *kv_b, int head, td_tensor *k_b, td_tensor *v_b)
{
    const td_config *c = &loader->model->config;
    int64_t nope = c->nope_dim, v = c->head_v_dim, rank = c->kv_rank, first = head * (nope + v), blocks = (rank + TD_F8_BLOCK - 1) / TD_F8_BLOCK;
    uint8_t *data = td_arena_get(&loader->model->arena, (size_t)(rank * nope));
    float *scale = TD_NEW(&loader->model->arena, float, (size_t)(blocks * (nope / TD_F8_BLOCK)));
    const uint8_t *from = (const uint8_t *)kv_b->data + first * rank;
    const float *from_scale = kv_b->scale + first / TD_F8_BLOCK * blocks;
    if (!data || !scale) return TD_E_MEMORY;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t n = 0; n < nope; n++) data[r * nope + n] = from[n * rank + r];
    for (int64_t r = 0; r < blocks; r++)
        for (int64_t n = 0; n < nope / TD_F8_BLOCK; n++) scale[r * (nope / TD_F8_BLOCK) + n] = from_scale[n * blocks + r];
    *k_b = (td_tensor){.type = kv_b->type, .dims = 2, .shape = {rank, nope}, .data = data, .scale = scale, .name = kv_b->name};
    *v_b = (td_tensor){.type = kv_b->type, .dims = 2, .shape = {v, rank}, .data = from + nope * rank, .scale = from_scale + nope / TD_F8_BLOCK * blocks, .name = kv_b->name};
    return TD_OK;
}

/* Splits kv_b [heads*(nope+v), kv_rank] per head: k_b transposed to [kv_rank, nope], v_b as rows. BF16 stays BF16, FP8 stays FP8 where its scales can be split; anything else
 * becomes f32. */
static td_status split_kv_b(td_loader *loader, const td_tensor *kv_b, td_tensor *k_b, td_tensor *v_b)
{
    const td_config *c = &loader->model->config;
    int64_t nope = c->nope_dim, v = c->head_v_dim, rank = c->kv_rank;
    td_dtype type = kv_b->type == TD_BF16 ? TD_BF16 : TD_F32;
    if (kv_b->type == TD_F8_E4M3 && nope % TD_F8_BLOCK == 0 && v % TD_F8_BLOCK == 0) {
        for (int h = 0; h < c->heads; h++) TD_TRY(split_fp8(loader, kv_b, h, &k_b[h], &v_b[h]));
        return TD_OK;
    }
    float *values = malloc((size_t)(TD_MAX(nope, v) * rank + rank) * sizeof *values), *scratch = values + TD_MAX(nope, v) * rank;
    td_status status = values ? TD_OK : td_fail(TD_E_MEMORY, "tensor %s: no memory to split it", kv_b->name);
    for (int h = 0; h < c->heads && status == TD_OK; h++) {
        td_layout_k_b(kv_b, h, (int)nope, (int)v, scratch, values);
        status = keep(loader, type, values, rank, nope, kv_b->name, &k_b[h]);
        if (status < 0) break;
        td_layout_v_b(kv_b, h, (int)nope, (int)v, values);
        status = keep(loader, type, values, v, rank, kv_b->name, &v_b[h]);
    }
    free(values);
    return status;
}

/* One stacked tensor [heads, rows, k] as a matrix per head. */
static td_status cut_heads(td_loader *loader, td_slot slot, int layer, int64_t rows, int64_t k, td_tensor *out)
{
    const td_tensor *stack = td_load_find(loader, slot, layer, 0);
    int heads = loader->model->config.heads;
    if (!stack || stack->dims != 3 || stack->shape[0] != heads || stack->shape[1] != rows || stack->shape[2] != k)
        return td_fail(TD_E_FORMAT, "%s: layer %d: expected attn_kv_b, or attn_k_b and attn_v_b as %dx%lldx%lld, found another shape or none", td_checkpoint_path(loader->source->checkpoint), layer,
                       heads, (long long)rows, (long long)k);
    for (int h = 0; h < heads; h++) {
        td_tensor view = td_tensor_slice(stack, h);
        TD_TRY(td_load_convert(loader, &view, &out[h]));
    }
    return TD_OK;
}

static td_status load_mla(td_loader *loader, int layer, td_layer_attention *w)
{
    const td_config *c = &loader->model->config;
    td_tensor *k_b = TD_NEW(&loader->model->arena, td_tensor, (size_t)c->heads), *v_b = TD_NEW(&loader->model->arena, td_tensor, (size_t)c->heads);
    if (!k_b || !v_b) return TD_E_MEMORY;
    w->k_b = k_b;
    w->v_b = v_b;
    int64_t width = c->nope_dim + c->rope_dim;
    TD_TRY(td_load_matrix(loader, c->q_rank ? TD_SLOT_Q_B : TD_SLOT_Q, layer, c->heads * width, c->q_rank ? c->q_rank : c->d_model, true, &w->q));
    TD_TRY(td_load_matrix(loader, TD_SLOT_KV_A, layer, c->kv_rank + c->rope_dim, c->d_model, true, &w->k));
    TD_TRY(td_load_vector(loader, TD_SLOT_KV_A_NORM, layer, c->kv_rank, true, &w->kv_a_norm));
    const td_tensor *kv_b = td_load_find(loader, TD_SLOT_KV_B, layer, 0);
    if (!kv_b && !td_load_find(loader, TD_SLOT_K_B, layer, 0)) return td_load_matrix(loader, TD_SLOT_KV_B, layer, 1, 1, true, &w->k); /* says what is missing */
    if (!kv_b) {
        TD_TRY(cut_heads(loader, TD_SLOT_K_B, layer, c->kv_rank, c->nope_dim, k_b));
        return cut_heads(loader, TD_SLOT_V_B, layer, c->head_v_dim, c->kv_rank, v_b);
    }
    td_tensor whole; /* the split pieces stay exact; they are small */
    TD_TRY(td_load_rows(loader, TD_SLOT_KV_B, layer, (int64_t)c->heads * (c->nope_dim + c->head_v_dim), c->kv_rank, true, &whole));
    return split_kv_b(loader, &whole, k_b, v_b);
}

static td_status load_gqa_or_mfa(td_loader *loader, int layer, td_layer_attention *w)
{
    const td_config *c = &loader->model->config;
    int64_t q_out = (int64_t)c->heads * c->k_dim, k_out = (int64_t)c->kv_heads * c->k_dim, v_out = (int64_t)c->kv_heads * c->v_dim;
    TD_TRY(td_load_matrix(loader, c->q_rank ? TD_SLOT_Q_B : TD_SLOT_Q, layer, q_out, c->q_rank ? c->q_rank : c->d_model, true, &w->q));
    TD_TRY(td_load_matrix(loader, TD_SLOT_K, layer, k_out, c->d_model, true, &w->k));
    TD_TRY(td_load_matrix(loader, TD_SLOT_V, layer, v_out, c->d_model, true, &w->v));
    TD_TRY(td_load_vector(loader, TD_SLOT_Q_BIAS, layer, q_out, c->attention_bias, &w->q_bias));
    TD_TRY(td_load_vector(loader, TD_SLOT_K_BIAS, layer, k_out, c->attention_bias, &w->k_bias));
    TD_TRY(td_load_vector(loader, TD_SLOT_V_BIAS, layer, v_out, c->attention_bias, &w->v_bias));
    TD_TRY(td_load_vector(loader, TD_SLOT_Q_NORM, layer, c->k_dim, c->qk_norm, &w->q_norm));
    return td_load_vector(loader, TD_SLOT_K_NORM, layer, c->k_dim, c->qk_norm, &w->k_norm);
}

static td_status load_layer(td_loader *loader, int layer, td_layer_attention *w)
{
    const td_config *c = &loader->model->config;
    TD_TRY(td_load_vector(loader, TD_SLOT_ATTN_NORM, layer, c->d_model, true, &w->attn_norm));
    TD_TRY(td_load_vector(loader, TD_SLOT_FFN_NORM, layer, c->d_model, true, &w->ffn_norm));
    if (c->q_rank) {
        TD_TRY(td_load_matrix(loader, TD_SLOT_Q_A, layer, c->q_rank, c->d_model, true, &w->q_a));
        TD_TRY(td_load_vector(loader, TD_SLOT_Q_A_NORM, layer, c->q_rank, true, &w->q_a_norm));
    }
    TD_TRY(c->attention == TD_ATTN_MLA ? load_mla(loader, layer, w) : load_gqa_or_mfa(loader, layer, w));
    TD_TRY(td_load_matrix(loader, TD_SLOT_O, layer, c->d_model, (int64_t)c->heads * c->head_v_dim, true, &w->o));
    TD_TRY(td_load_vector(loader, TD_SLOT_O_BIAS, layer, c->d_model, c->attention_bias, &w->o_bias));
    if (!loader->is_moe[layer]) return TD_OK;
    bool quantise = loader->quantise;
    loader->quantise = false; /* the router is never quantised */
    td_status status = td_load_matrix(loader, TD_SLOT_ROUTER, layer, c->experts, c->d_model, true, &w->router);
    loader->quantise = quantise;
    TD_TRY(status);
    return td_load_vector(loader, TD_SLOT_ROUTER_BIAS, layer, c->experts, c->router_bias, &w->router_bias);
}

td_status td_load_attention(td_loader *loader)
{
    td_model *model = loader->model;
    const td_config *c = &model->config;
    td_layer_attention *layers = TD_NEW(&model->arena, td_layer_attention, (size_t)c->layers);
    if (!layers) return TD_E_MEMORY;
    TD_TRY(td_load_rows(loader, TD_SLOT_EMBED, 0, c->vocab, c->d_model, false, &model->embed));
    TD_TRY(td_load_vector(loader, TD_SLOT_FINAL_NORM, 0, c->d_model, true, &model->final_norm));
    bool head = !c->tied && td_load_find(loader, TD_SLOT_HEAD, 0, 0) != NULL;
    if (head) TD_TRY(td_load_matrix(loader, TD_SLOT_HEAD, 0, c->vocab, c->d_model, true, &model->head));
    else if (!c->tied && loader->source->config) return td_load_matrix(loader, TD_SLOT_HEAD, 0, c->vocab, c->d_model, true, &model->head); /* says what is missing */
    else TD_TRY(td_load_pack(loader, &model->embed, false, &model->head)); /* tied; GGUF says so by leaving output.weight out */
    for (int layer = 0; layer < c->layers; layer++) TD_TRY(load_layer(loader, layer, &layers[layer]));
    model->attention = layers;
    return TD_OK;
}
