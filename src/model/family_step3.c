/*
 * family_step3.c - Step-3 (step3_text, and the text part of step3_vl): multi-matrix factorisation attention (one KV head, low-rank query), a few dense layers, the others
 * MoE with stacked experts, softmax router over all experts whose top-k weights are not renormalised, one unscaled shared expert.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/family.h"

/* moe_layers_enum: a string "4,5,...", or an array; absent: every layer but the first. */
static td_status read_moe_layers(const td_source *source, const td_config *c, bool *is_moe)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(source->config, "moe_layers_enum"), *item;
    if (!list || cJSON_IsNull(list)) {
        for (int layer = 1; layer < c->layers; layer++) is_moe[layer] = true;
        return TD_OK;
    }
    if (cJSON_IsString(list)) {
        for (const char *at = list->valuestring; *at;) {
            char *end;
            long layer = strtol(at, &end, 10);
            if (end == at || layer < 0 || layer >= c->layers || (*end && *end != ',' && *end != ' ')) return td_source_wrong(source, "moe_layers_enum", "layer numbers below num_hidden_layers separated by commas", list->valuestring);
            is_moe[layer] = true;
            at = end + strspn(end, ", ");
        }
        return TD_OK;
    }
    if (!cJSON_IsArray(list)) return td_source_wrong(source, "moe_layers_enum", "a string or an array of layer numbers", "another type");
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble >= c->layers) return td_source_wrong(source, "moe_layers_enum", "layer numbers below num_hidden_layers", "something else");
        is_moe[item->valueint] = true;
    }
    return TD_OK;
}

static td_status configure(const td_source *source, td_arena *arena, td_config *c, bool *is_moe)
{
    TD_TRY(td_family_common(source, c));
    c->attention = TD_ATTN_MFA;
    TD_MAY(source, "num_attention_groups", "attention.head_count_kv", 1, 1, 1, &c->kv_heads);
    TD_NEED(source, "head_dim", "attention.key_length", 2, 1 << 14, &c->k_dim);
    if (c->k_dim % 2) return td_source_wrong(source, "head_dim", "an even number", "an odd one");
    TD_NEED(source, "share_q_dim", "attention.q_lora_rank", 1, 1 << 20, &c->q_rank);
    c->v_dim = c->head_v_dim = c->rope_dim = c->k_dim;
    c->softmax_scale = 1.0f / sqrtf((float)c->k_dim);
    c->rope_neox = true;
    TD_TRY(td_family_whole_rope(source, c));
    TD_NEED(source, "moe_num_experts", "expert_count", 0, TD_EXPERTS_MAX, &c->experts);
    TD_NEED(source, "moe_top_k", "expert_used_count", 1, TD_TOP_K_MAX, &c->top_k);
    TD_NEED(source, "moe_intermediate_size", "expert_feed_forward_length", 1, 1 << 24, &c->d_expert);
    TD_MAY(source, "share_expert_dim", "expert_shared_feed_forward_length", 0, 1 << 24, c->d_expert, &c->d_shared);
    TD_TRY(td_source_bool(source, "norm_expert_weight", "expert_weights_norm", false, &c->router_norm));
    TD_TRY(td_source_bool(source, "tie_word_embeddings", NULL, false, &c->tied));
    if (c->context_max == 0) TD_MAY(source, "max_position_embedding", NULL, 1, 1 << 24, 65536, &c->context_max);
    if (source->config) TD_TRY(read_moe_layers(source, c, is_moe));
    return td_rope_fill(source, td_source_defaults(source).rope_theta, arena, c);
}

const td_family_rules td_rules_step3 = {TD_FAMILY_STEP3, configure};
