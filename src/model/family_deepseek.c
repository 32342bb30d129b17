/*
 * family_deepseek.c - DeepSeek-V2, V3 and relatives: multi-head latent attention in the absorbed form (one cached latent row a token), first layers dense, the others MoE with
 * softmax (V2) or sigmoid (V3) routing, groups, a bias that counts for the choice only, shared experts. RoPE is interleaved.
 */
#include <math.h>
#include <string.h>

#include "model/family.h"

static td_status configure_mla(const td_source *source, td_config *c)
{
    int q_rank, v_width;
    c->attention = TD_ATTN_MLA;
    c->kv_heads = 1;
    TD_MAY(source, "q_lora_rank", "attention.q_lora_rank", 0, 1 << 20, 0, &q_rank);
    TD_NEED(source, "kv_lora_rank", "attention.kv_lora_rank", 1, 1 << 20, &c->kv_rank);
    TD_NEED(source, "qk_rope_head_dim", "rope.dimension_count", 2, 1 << 14, &c->rope_dim);
    if (source->config) {
        TD_NEED(source, "qk_nope_head_dim", NULL, 1, 1 << 14, &c->nope_dim);
        TD_NEED(source, "v_head_dim", NULL, 1, 1 << 14, &v_width);
    } else { /* newer files give the true head sizes as *_mla; older ones, without absorption, as key_length and value_length */
        int key, key_mla;
        TD_NEED(source, NULL, "attention.key_length", 1, 1 << 14, &key);
        TD_MAY(source, NULL, "attention.key_length_mla", 1, 1 << 14, key, &key_mla);
        c->nope_dim = key_mla - c->rope_dim;
        TD_NEED(source, NULL, "attention.value_length", 1, 1 << 14, &v_width);
        TD_MAY(source, NULL, "attention.value_length_mla", 1, 1 << 14, v_width, &v_width);
        if (c->nope_dim < 1) return td_source_wrong(source, "attention.key_length_mla", "more than rope.dimension_count", "less");
    }
    if (c->rope_dim % 2) return td_source_wrong(source, "qk_rope_head_dim", "an even number", "an odd one");
    c->q_rank = q_rank;
    c->k_dim = c->kv_rank + c->rope_dim;
    c->v_dim = c->kv_rank;
    c->head_v_dim = v_width;
    c->latent_eps = 1e-6f; /* the published code makes these two norms with its default, whatever rms_norm_eps says */
    c->softmax_scale = 1.0f / sqrtf((float)(c->nope_dim + c->rope_dim));
    return td_source_bool(source, "rope_interleave", NULL, true, &c->rope_neox);
}

static td_status configure_routing(const td_source *source, td_config *c, bool *is_moe)
{
    int shared, first, every, gating;
    double scale;
    bool v3 = td_family_is_v3(source->architecture);
    td_family_defaults absent = td_source_defaults(source);
    const char *method, *scoring;
    TD_MAY(source, "n_routed_experts", "expert_count", 0, TD_EXPERTS_MAX, 0, &c->experts);
    if (c->experts == 0) return TD_OK;
    TD_NEED(source, "num_experts_per_tok", "expert_used_count", 1, TD_TOP_K_MAX, &c->top_k);
    TD_NEED(source, "moe_intermediate_size", "expert_feed_forward_length", 1, 1 << 24, &c->d_expert);
    TD_MAY(source, "n_shared_experts", "expert_shared_count", 0, 1024, absent.shared_experts, &shared);
    c->d_shared = c->d_expert * shared;
    TD_MAY(source, "first_k_dense_replace", "leading_dense_block_count", 0, TD_LAYERS_MAX, absent.first_dense, &first);
    TD_MAY(source, "moe_layer_freq", NULL, 1, TD_LAYERS_MAX, 1, &every);
    for (int layer = first; layer < c->layers; layer++) is_moe[layer] = layer % every == 0;
    TD_TRY(td_source_float(source, "routed_scaling_factor", "expert_weights_scale", 0.0, 1e6, &absent.routed_scale, &scale));
    c->router_scale = scale == 0.0 && !source->config ? 1.0f : (float)scale; /* GGUF writes 0 for none */
    TD_TRY(td_source_bool(source, "norm_topk_prob", "expert_weights_norm", v3, &c->router_norm));
    TD_MAY(source, "n_group", "expert_group_count", 1, TD_EXPERTS_MAX, absent.groups, &c->groups);
    TD_MAY(source, "topk_group", "expert_group_used_count", 1, TD_EXPERTS_MAX, absent.groups_used, &c->groups_used);
    TD_TRY(td_source_text(source, "topk_method", v3 ? "noaux_tc" : "greedy", &method));
    TD_TRY(td_source_text(source, "scoring_func", v3 ? "sigmoid" : "softmax", &scoring));
    TD_MAY(source, NULL, "expert_gating_func", 1, 2, 1, &gating);
    if (strcmp(method, "noaux_tc") && strcmp(method, "greedy") && strcmp(method, "group_limited_greedy")) return td_source_wrong(source, "topk_method", "noaux_tc, greedy or group_limited_greedy", method);
    if (strcmp(scoring, "sigmoid") && strcmp(scoring, "softmax")) return td_source_wrong(source, "scoring_func", "sigmoid or softmax", scoring);
    c->router_bias = source->config && !strcmp(method, "noaux_tc");
    bool sigmoid = source->config ? !strcmp(scoring, "sigmoid") : gating == 2;
    c->router_score = sigmoid ? TD_SCORE_SIGMOID : TD_SCORE_SOFTMAX;
    c->group_by_top2 = source->config ? !strcmp(method, "noaux_tc") : sigmoid;
    if (source->config && !strcmp(method, "greedy")) c->groups = c->groups_used = 1;
    if (!v3 && source->config) c->router_norm = false; /* the V2 reference never renormalises */
    return TD_OK;
}

static td_status configure(const td_source *source, td_arena *arena, td_config *c, bool *is_moe)
{
    TD_TRY(td_family_common(source, c));
    TD_TRY(configure_mla(source, c));
    c->rope_neox = !c->rope_neox; /* the key says interleaved */
    TD_TRY(configure_routing(source, c, is_moe));
    TD_TRY(td_source_bool(source, "tie_word_embeddings", NULL, false, &c->tied));
    TD_TRY(td_source_bool(source, "attention_bias", NULL, false, &c->attention_bias));
    if (c->attention_bias) return td_source_wrong(source, "attention_bias", "false (MLA with biases is not implemented)", "true");
    if (c->context_max == 0) c->context_max = 4096;
    int extra;
    TD_MAY(source, NULL, "nextn_predict_layers", 0, 8, 0, &extra); /* counted in block_count, come last, not used for decoding */
    c->layers -= TD_MIN(extra, c->layers - 1);
    return td_rope_fill(source, td_source_defaults(source).rope_theta, arena, c);
}

const td_family_rules td_rules_deepseek = {TD_FAMILY_DEEPSEEK, configure};
