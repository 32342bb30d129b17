/*
 * family_qwen3.c - Qwen3 (dense) and Qwen3-MoE: grouped-query attention with an RMSNorm over each head of q and k before RoPE; MoE layers route by softmax over all
 * experts and renormalise the chosen weights.
 */
#include <string.h>

#include "model/family.h"

static td_status configure_dense(const td_source *source, td_arena *arena, td_config *c, bool *is_moe)
{
    (void)is_moe;
    TD_TRY(td_family_common(source, c));
    TD_TRY(td_family_gqa(source, c));
    TD_TRY(td_family_whole_rope(source, c));
    c->qk_norm = true;
    TD_TRY(td_source_bool(source, "tie_word_embeddings", NULL, false, &c->tied));
    if (c->context_max == 0) c->context_max = 32768;
    return td_rope_fill(source, td_source_defaults(source).rope_theta, arena, c);
}

/* decoder_sparse_step and mlp_only_layers say which layers are MoE. */
static td_status read_moe_layers(const td_source *source, const td_config *c, bool *is_moe)
{
    int step;
    TD_MAY(source, "decoder_sparse_step", NULL, 1, TD_LAYERS_MAX, 1, &step);
    for (int layer = 0; layer < c->layers; layer++) is_moe[layer] = (layer + 1) % step == 0;
    const cJSON *dense = cJSON_GetObjectItemCaseSensitive(source->config, "mlp_only_layers"), *item;
    if (dense && !cJSON_IsNull(dense) && !cJSON_IsArray(dense)) return td_source_wrong(source, "mlp_only_layers", "an array of layer numbers", "another type");
    cJSON_ArrayForEach(item, dense) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble >= c->layers) return td_source_wrong(source, "mlp_only_layers", "layer numbers below num_hidden_layers", "something else");
        is_moe[item->valueint] = false;
    }
    return TD_OK;
}

static td_status configure_moe(const td_source *source, td_arena *arena, td_config *c, bool *is_moe)
{
    TD_TRY(configure_dense(source, arena, c, is_moe));
    const char *experts_key = source->config && cJSON_GetObjectItemCaseSensitive(source->config, "num_local_experts") ? "num_local_experts" : "num_experts";
    TD_NEED(source, experts_key, "expert_count", 1, TD_EXPERTS_MAX, &c->experts);
    TD_NEED(source, "num_experts_per_tok", "expert_used_count", 1, TD_TOP_K_MAX, &c->top_k);
    if (source->config) TD_NEED(source, "moe_intermediate_size", NULL, 1, 1 << 24, &c->d_expert);
    else TD_MAY(source, NULL, "expert_feed_forward_length", 1, 1 << 24, c->d_ff / c->top_k, &c->d_expert);
    TD_TRY(td_source_bool(source, "norm_topk_prob", "expert_weights_norm", !source->config, &c->router_norm));
    return source->config ? read_moe_layers(source, c, is_moe) : TD_OK;
}

const td_family_rules td_rules_qwen3 = {TD_FAMILY_QWEN3, configure_dense};
const td_family_rules td_rules_qwen3_moe = {TD_FAMILY_QWEN3_MOE, configure_moe};
