/* family.c - the list of families, and what they share. */
#include "model/family.h"

#include <math.h>
#include <string.h>

static const td_family_rules *const rules[] = {&td_rules_step3, &td_rules_qwen3, &td_rules_qwen3_moe, &td_rules_llama, &td_rules_deepseek};

td_status td_family_pick(const td_source *source, const td_family_rules **out)
{
    td_family family = td_family_of(source->checkpoint, NULL);
    for (size_t i = 0; i < TD_COUNT(rules); i++) {
        if (rules[i]->family != family) continue;
        *out = rules[i];
        return TD_OK;
    }
    return td_fail(TD_E_UNSUPPORTED, "%s: expected a model of the families step3, qwen3, qwen3_moe, llama, deepseek_v2, deepseek_v3, found '%s'",
                   td_checkpoint_path(source->checkpoint), source->architecture);
}

/* Keys of config.json that would change the arithmetic in a way that no family here has: refused rather than ignored. */
static td_status refuse_variants(const td_source *source)
{
    static const char *const flags[] = {"mlp_bias", "use_sliding_window"};
    const char *activation;
    double rotated;
    TD_TRY(td_source_text(source, "hidden_act", "silu", &activation));
    if (strcmp(activation, "silu") && strcmp(activation, "swish")) return td_source_wrong(source, "hidden_act", "silu", activation);
    for (size_t i = 0; i < TD_COUNT(flags); i++) {
        bool set;
        TD_TRY(td_source_bool(source, flags[i], NULL, false, &set));
        if (set) return td_source_wrong(source, flags[i], "false (the other is not implemented)", "true");
    }
    TD_TRY(td_source_float(source, "partial_rotary_factor", NULL, 0.0, 1.0, &(double){1.0}, &rotated));
    return rotated == 1.0 ? TD_OK : td_source_wrong(source, "partial_rotary_factor", "1 (the other is not implemented)", "less");
}

td_family_defaults td_source_defaults(const td_source *source)
{
    return td_family_get_defaults(td_family_of(source->checkpoint, NULL), td_family_is_v3(source->architecture), td_checkpoint_format(source->checkpoint));
}

td_status td_family_common(const td_source *source, td_config *c)
{
    td_family_defaults absent = td_source_defaults(source);
    double eps;
    if (source->config) TD_TRY(refuse_variants(source));
    TD_NEED(source, "num_hidden_layers", "block_count", 1, TD_LAYERS_MAX, &c->layers);
    TD_NEED(source, "hidden_size", "embedding_length", 1, 1 << 20, &c->d_model);
    TD_NEED(source, "num_attention_heads", "attention.head_count", 1, TD_HEADS_MAX, &c->heads);
    TD_MAY(source, "intermediate_size", "feed_forward_length", 0, 1 << 24, 0, &c->d_ff);
    TD_TRY(td_source_float(source, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0.0, 1.0, &absent.norm_eps, &eps));
    c->norm_eps = c->latent_eps = (float)eps;
    if (source->config) TD_NEED(source, "vocab_size", NULL, 1, 1 << 24, &c->vocab);
    c->router_scale = c->rope_magnitude = 1.0f;
    c->groups = c->groups_used = 1;
    if (!source->config) {
        const td_tensor *embed = td_checkpoint_find(source->checkpoint, "token_embd.weight");
        if (!embed || embed->dims != 2) return td_source_wrong(source, "tensor token_embd.weight", "a matrix", "none");
        c->vocab = (int)embed->shape[0];
    }
    TD_MAY(source, "max_position_embeddings", "context_length", 1, 1 << 24, 0, &c->context_max);
    return TD_OK;
}

td_status td_family_whole_rope(const td_source *source, const td_config *c)
{
    int rotated;
    if (source->config) return TD_OK;
    TD_MAY(source, NULL, "rope.dimension_count", 1, 1 << 14, c->k_dim, &rotated);
    return rotated == c->k_dim ? TD_OK : td_source_wrong(source, "rope.dimension_count", "the whole width of a head (a part of it is not implemented for this family)", "less");
}

td_status td_family_gqa(const td_source *source, td_config *c)
{
    td_family_defaults absent = td_source_defaults(source);
    int head_dim;
    c->attention = TD_ATTN_GQA;
    TD_MAY(source, "num_key_value_heads", "attention.head_count_kv", 1, TD_HEADS_MAX, absent.kv_heads ? absent.kv_heads : c->heads, &c->kv_heads);
    if (c->heads % c->kv_heads) return td_source_wrong(source, source->config ? "num_key_value_heads" : "attention.head_count_kv", "a divisor of the query heads", "another number");
    TD_MAY(source, "head_dim", "attention.key_length", 2, 1 << 14, absent.head_dim ? absent.head_dim : c->d_model / c->heads, &head_dim);
    if (head_dim % 2) return td_source_wrong(source, "head_dim", "an even number", "an odd one");
    c->k_dim = c->v_dim = c->head_v_dim = c->rope_dim = head_dim;
    c->softmax_scale = 1.0f / sqrtf((float)head_dim);
    c->rope_neox = true;
    return td_source_bool(source, "attention_bias", NULL, false, &c->attention_bias);
}
