/* outline_gguf.c - the outline as GGUF keys, spelled as current engines read them (qwen3, qwen3moe, llama, deepseek2) and as docs/models.md defines for step3. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/outline_gguf.h"

typedef struct { td_gguf_keys *keys; const char *prefix; char text[128]; } writer;

static const char *key(writer *w, const char *name)
{
    snprintf(w->text, sizeof w->text, "%s.%s", w->prefix, name);
    return w->text;
}

static void put(writer *w, const char *name, int64_t value) { td_gguf_put_u32(w->keys, key(w, name), value); }
static void put_real(writer *w, const char *name, double value) { td_gguf_put_f32(w->keys, key(w, name), value); }

/* What multiplies cos and sin when it is not what a reader of the other keys works out itself (1 with a log multiplier, else 0.1 ln factor + 1); 0: it is. */
static double yarn_attention(const td_outline *o)
{
    if (o->rope_attention > 0) return o->rope_attention;
    if (!(o->rope_mscale_all > 0) || o->rope_mscale == o->rope_mscale_all) return 0;
    if (!(o->rope_mscale > 0)) return td_outline_yarn_magnitude(o->rope_factor, 1);
    return td_outline_yarn_magnitude(o->rope_factor, o->rope_mscale) / td_outline_yarn_magnitude(o->rope_factor, o->rope_mscale_all);
}

static void put_rope(writer *w, const td_outline *o)
{
    put_real(w, "rope.freq_base", o->rope_theta);
    put(w, "rope.dimension_count", o->family == TD_FAMILY_DEEPSEEK ? o->rope_dim : o->head_dim);
    if (o->rope == TD_ROPE_LLAMA3) { /* other engines read the rope_freqs tensor; these four let the configuration be written back */
        td_gguf_put_f32(w->keys, "tandem.rope.llama3.factor", o->rope_factor);
        td_gguf_put_f32(w->keys, "tandem.rope.llama3.low_freq_factor", o->rope_low);
        td_gguf_put_f32(w->keys, "tandem.rope.llama3.high_freq_factor", o->rope_high);
        td_gguf_put_u32(w->keys, "tandem.rope.llama3.original_context_length", o->rope_original);
    }
    if (o->rope != TD_ROPE_LINEAR && o->rope != TD_ROPE_YARN) return;
    const char *word = o->rope == TD_ROPE_LINEAR ? "linear" : "yarn";
    td_gguf_put_string(w->keys, key(w, "rope.scaling.type"), word, strlen(word));
    put_real(w, "rope.scaling.factor", o->rope_factor);
    if (o->rope == TD_ROPE_LINEAR) return;
    put(w, "rope.scaling.original_context_length", o->rope_original);
    put_real(w, "rope.scaling.yarn_beta_fast", o->rope_beta_fast);
    put_real(w, "rope.scaling.yarn_beta_slow", o->rope_beta_slow);
    if (o->rope_mscale_all > 0) put_real(w, "rope.scaling.yarn_log_multiplier", 0.1 * o->rope_mscale_all);
    double attention = yarn_attention(o);
    if (attention > 0) put_real(w, "rope.scaling.yarn_attn_factor", attention);
    if (o->rope_untruncated) td_gguf_put_bool(w->keys, "tandem.rope.yarn.truncate", false);
}

static void put_experts(writer *w, const td_outline *o)
{
    put(w, "expert_count", o->experts);
    put(w, "expert_used_count", o->top_k);
    put(w, "expert_feed_forward_length", o->d_expert);
    if (o->family == TD_FAMILY_QWEN3_MOE) {
        if (!o->norm_topk) td_gguf_put_bool(w->keys, key(w, "expert_weights_norm"), false); /* other engines always normalise for this family */
        return;
    }
    put(w, "expert_shared_count", o->shared_experts);
    put(w, "expert_gating_func", o->sigmoid ? 2 : 1);
    td_gguf_put_bool(w->keys, key(w, "expert_weights_norm"), o->norm_topk);
    if (o->family == TD_FAMILY_STEP3) {
        put(w, "expert_shared_feed_forward_length", o->d_shared);
        uint64_t count = 0;
        for (int64_t i = 0; i < o->layers; i++) count += o->moe[i];
        td_gguf_put_array(w->keys, key(w, "moe_layers"), GGUF_I32, count);
        for (int64_t i = 0; i < o->layers; i++)
            if (o->moe[i]) td_gguf_put_element_i32(w->keys, (int32_t)i);
        return;
    }
    int64_t dense = 0;
    while (dense < o->layers && !o->moe[dense]) dense++;
    put(w, "leading_dense_block_count", dense);
    put_real(w, "expert_weights_scale", o->routed_scale);
    if (o->groups > 1) put(w, "expert_group_count", o->groups), put(w, "expert_group_used_count", o->groups_used);
}

static void put_attention(writer *w, const td_outline *o)
{
    bool mla = o->family == TD_FAMILY_DEEPSEEK;
    put(w, "attention.head_count", o->heads);
    put(w, "attention.head_count_kv", mla ? 1 : o->kv_heads);
    put_real(w, "attention.layer_norm_rms_epsilon", o->norm_eps);
    put(w, "attention.key_length", mla ? o->kv_rank + o->rope_dim : o->head_dim);
    put(w, "attention.value_length", mla ? o->kv_rank : o->head_dim);
    if (o->q_rank) put(w, "attention.q_lora_rank", o->q_rank);
    if (!mla) return;
    put(w, "attention.kv_lora_rank", o->kv_rank);
    put(w, "attention.key_length_mla", o->head_dim);
    put(w, "attention.value_length_mla", o->v_dim);
}

/* general.file_type: what most weights are, by llama.cpp's numbers. */
static int64_t file_type(td_dtype type)
{
    switch (type) {
    case TD_F32: return 0;
    case TD_F16: return 1;
    case TD_Q4_0: return 2;
    case TD_Q8_0: return 7;
    case TD_Q4_K: return 14;
    case TD_Q5_K: return 16;
    case TD_Q6_K: return 18;
    default: return 32;
    }
}

void td_outline_gguf_keys(const td_outline *o, td_dtype type, td_gguf_keys *keys)
{
    writer w = {.keys = keys, .prefix = td_family_architecture(o->family)};
    td_gguf_put_string(keys, "general.architecture", w.prefix, strlen(w.prefix));
    td_gguf_put_string(keys, "general.type", "model", 5);
    td_gguf_put_string(keys, "general.name", o->name, strlen(o->name));
    td_gguf_put_u32(keys, "general.file_type", file_type(type));
    td_gguf_put_u32(keys, "general.quantization_version", 2);
    put(&w, "block_count", o->layers);
    put(&w, "context_length", o->context);
    put(&w, "embedding_length", o->d_model);
    put(&w, "feed_forward_length", o->d_ff);
    put(&w, "vocab_size", o->vocab);
    put_attention(&w, o);
    put_rope(&w, o);
    if (o->experts) put_experts(&w, o);
    else if (o->family == TD_FAMILY_DEEPSEEK) put(&w, "leading_dense_block_count", o->layers);
}
