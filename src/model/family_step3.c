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
    TD_NEED(source, "moe_num_experts", "expert_count", 0, TD_EXPERTS_MAX, &c->experts);
    TD_NEED(source, "moe_top_k", "expert_used_count", 1, TD_TOP_K_MAX, &c->top_k);
    TD_NEED(source, "moe_intermediate_size", "expert_feed_forward_length", 1, 1 << 24, &c->d_expert);
    TD_MAY(source, "share_expert_dim", "expert_shared_feed_forward_length", 0, 1 << 24, c->d_expert, &c->d_shared);
    TD_TRY(td_source_bool(source, "norm_expert_weight", "expert_weights_norm", false, &c->router_norm));
    TD_TRY(td_source_bool(source, "tie_word_embeddings", NULL, false, &c->tied));
    if (c->context_max == 0) TD_MAY(source, "max_position_embedding", NULL, 1, 1 << 24, 65536, &c->context_max);
    if (source->config) TD_TRY(read_moe_layers(source, c, is_moe));
    return td_rope_fill(source, 500000.0, arena, c);
}

static const td_name names[] = {
    {TD_SLOT_EMBED, "model.embed_tokens.weight", "token_embd.weight"},
    {TD_SLOT_FINAL_NORM, "model.norm.weight", "output_norm.weight"},
    {TD_SLOT_HEAD, "lm_head.weight", "output.weight"},
    {TD_SLOT_ATTN_NORM, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight"},
    {TD_SLOT_Q_A, "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q_a.weight"},
    {TD_SLOT_Q_A_NORM, "model.layers.%d.self_attn.inter_norm.weight", "blk.%d.attn_q_a_norm.weight"},
    {TD_SLOT_Q, "model.layers.%d.self_attn.wq.weight", "blk.%d.attn_q_b.weight"},
    {TD_SLOT_K, "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight"},
    {TD_SLOT_V, "model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight"},
    {TD_SLOT_O, "model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight"},
    {TD_SLOT_FFN_NORM, "model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight"},
    {TD_SLOT_ROUTER, "model.layers.%d.moe.gate.weight", "blk.%d.ffn_gate_inp.weight"},
    {TD_SLOT_GATE, "model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight"},
    {TD_SLOT_UP, "model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight"},
    {TD_SLOT_DOWN, "model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight"},
    {TD_SLOT_EXPERT_GATE, "model.layers.%d.moe.gate_proj.weight", "blk.%d.ffn_gate_exps.weight"},
    {TD_SLOT_EXPERT_UP, "model.layers.%d.moe.up_proj.weight", "blk.%d.ffn_up_exps.weight"},
    {TD_SLOT_EXPERT_DOWN, "model.layers.%d.moe.down_proj.weight", "blk.%d.ffn_down_exps.weight"},
    {TD_SLOT_SHARED_GATE, "model.layers.%d.share_expert.gate_proj.weight", "blk.%d.ffn_gate_shexp.weight"},
    {TD_SLOT_SHARED_UP, "model.layers.%d.share_expert.up_proj.weight", "blk.%d.ffn_up_shexp.weight"},
    {TD_SLOT_SHARED_DOWN, "model.layers.%d.share_expert.down_proj.weight", "blk.%d.ffn_down_shexp.weight"},
    {TD_SLOTS, NULL, NULL},
};

const td_family td_family_step3 = {"step3", {"step3_text", "step3_vl", "step3"}, {"step3"}, configure, names};
