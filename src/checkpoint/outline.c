/* outline.c - shapes of every tensor of an outline, known models, reduced models, and the outline as config.json. */
#include "checkpoint/outline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool give(int *dims, int64_t shape[TD_DIMS_MAX], int64_t a, int64_t b, int64_t c)
{
    *dims = c ? 3 : b ? 2 : 1;
    shape[0] = a, shape[1] = b, shape[2] = c, shape[3] = 0;
    return true;
}

static bool attention_shape(const td_outline *o, td_format format, td_slot slot, int *dims, int64_t *shape)
{
    bool mla = o->family == TD_FAMILY_DEEPSEEK, mfa = o->family == TD_FAMILY_STEP3, gqa = !mla && !mfa, gguf = format == TD_FORMAT_GGUF;
    bool qk_norm = o->family == TD_FAMILY_QWEN3 || o->family == TD_FAMILY_QWEN3_MOE;
    int64_t d = o->d_model, q = o->heads * o->head_dim, kv = o->kv_heads * o->head_dim;
    switch (slot) {
    case TD_SLOT_ATTN_NORM: case TD_SLOT_FFN_NORM: return give(dims, shape, d, 0, 0);
    case TD_SLOT_Q: return (gqa || (mla && !o->q_rank)) && give(dims, shape, q, d, 0);
    case TD_SLOT_K: case TD_SLOT_V: return !mla && give(dims, shape, kv, d, 0);
    case TD_SLOT_O: return give(dims, shape, d, mla ? o->heads * o->v_dim : q, 0);
    case TD_SLOT_Q_BIAS: return gqa && o->bias && give(dims, shape, q, 0, 0);
    case TD_SLOT_K_BIAS: case TD_SLOT_V_BIAS: return gqa && o->bias && give(dims, shape, kv, 0, 0);
    case TD_SLOT_O_BIAS: return gqa && o->bias && give(dims, shape, d, 0, 0);
    case TD_SLOT_Q_NORM: case TD_SLOT_K_NORM: return qk_norm && give(dims, shape, o->head_dim, 0, 0);
    case TD_SLOT_Q_A: return o->q_rank && give(dims, shape, o->q_rank, d, 0);
    case TD_SLOT_Q_A_NORM: return o->q_rank && give(dims, shape, o->q_rank, 0, 0);
    case TD_SLOT_Q_B: return o->q_rank && give(dims, shape, q, o->q_rank, 0);
    case TD_SLOT_KV_A: return mla && give(dims, shape, o->kv_rank + o->rope_dim, d, 0);
    case TD_SLOT_KV_A_NORM: return mla && give(dims, shape, o->kv_rank, 0, 0);
    case TD_SLOT_KV_B: return mla && !gguf && give(dims, shape, o->heads * (o->nope_dim + o->v_dim), o->kv_rank, 0);
    case TD_SLOT_K_B: return mla && gguf && give(dims, shape, o->heads, o->kv_rank, o->nope_dim);
    case TD_SLOT_V_B: return mla && gguf && give(dims, shape, o->heads, o->v_dim, o->kv_rank);
    default: return false;
    }
}

bool td_outline_shape(const td_outline *o, td_format format, td_slot slot, int layer, int *dims, int64_t shape[TD_DIMS_MAX])
{
    int64_t d = o->d_model;
    bool moe = td_slot_per_layer(slot) && o->moe[layer], stacked = format == TD_FORMAT_GGUF || o->family == TD_FAMILY_STEP3;
    switch (slot) {
    case TD_SLOT_EMBED: return give(dims, shape, o->vocab, d, 0);
    case TD_SLOT_HEAD: return !o->tied && give(dims, shape, o->vocab, d, 0);
    case TD_SLOT_FINAL_NORM: return give(dims, shape, d, 0, 0);
    case TD_SLOT_ROPE_FREQS: return o->rope == TD_ROPE_LLAMA3 && format == TD_FORMAT_GGUF && give(dims, shape, td_outline_rope_dim(o) / 2, 0, 0);
    case TD_SLOT_GATE: case TD_SLOT_UP: return !moe && give(dims, shape, o->d_ff, d, 0);
    case TD_SLOT_DOWN: return !moe && give(dims, shape, d, o->d_ff, 0);
    case TD_SLOT_ROUTER: return moe && give(dims, shape, o->experts, d, 0);
    case TD_SLOT_ROUTER_BIAS: return moe && o->v3 && give(dims, shape, o->experts, 0, 0);
    case TD_SLOT_EXPERT_GATE: case TD_SLOT_EXPERT_UP: return moe && !stacked && give(dims, shape, o->d_expert, d, 0);
    case TD_SLOT_EXPERT_DOWN: return moe && !stacked && give(dims, shape, d, o->d_expert, 0);
    case TD_SLOT_EXPERTS_GATE: case TD_SLOT_EXPERTS_UP: return moe && stacked && give(dims, shape, o->experts, o->d_expert, d);
    case TD_SLOT_EXPERTS_DOWN: return moe && stacked && give(dims, shape, o->experts, d, o->d_expert);
    case TD_SLOT_SHARED_GATE: case TD_SLOT_SHARED_UP: return moe && o->d_shared && give(dims, shape, o->d_shared, d, 0);
    case TD_SLOT_SHARED_DOWN: return moe && o->d_shared && give(dims, shape, d, o->d_shared, 0);
    default: return attention_shape(o, format, slot, dims, shape);
    }
}

double td_outline_yarn_magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

int64_t td_outline_rope_dim(const td_outline *o) { return o->family == TD_FAMILY_DEEPSEEK ? o->rope_dim : o->head_dim; }

/* As Llama 3.1 defines it: long wavelengths divided by the factor, short ones left, smooth between. */
void td_outline_rope_divisors(const td_outline *o, float *out)
{
    double low = (double)o->rope_original / o->rope_low, high = (double)o->rope_original / o->rope_high;
    int64_t dim = td_outline_rope_dim(o);
    for (int64_t i = 0; i < dim / 2; i++) {
        double wave = 2 * 3.14159265358979323846 * pow(o->rope_theta, 2.0 * (double)i / (double)dim), divisor = 1;
        if (wave > low) divisor = o->rope_factor;
        else if (wave >= high) {
            double smooth = ((double)o->rope_original / wave - o->rope_low) / (o->rope_high - o->rope_low);
            divisor = 1 / ((1 - smooth) / o->rope_factor + smooth);
        }
        out[i] = (float)divisor;
    }
}

/* ---- known models (sources: the published config.json files; step3: docs/models.md) ---- */

static void all_moe(td_outline *o, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++) o->moe[i] = true;
}

static td_outline qwen3(int64_t layers, int64_t d, int64_t d_ff, int64_t heads, int64_t kv, bool tied)
{
    return (td_outline){.family = TD_FAMILY_QWEN3, .layers = layers, .d_model = d, .d_ff = d_ff, .heads = heads, .kv_heads = kv, .head_dim = 128, .vocab = 151936, .context = 40960,
                        .norm_eps = 1e-6, .rope_theta = 1e6, .tied = tied};
}

static td_outline qwen3_moe(int64_t layers, int64_t d, int64_t d_ff, int64_t heads, int64_t d_expert)
{
    td_outline o = qwen3(layers, d, d_ff, heads, 4, false);
    o.family = TD_FAMILY_QWEN3_MOE;
    o.experts = 128, o.top_k = 8, o.d_expert = d_expert, o.norm_topk = true;
    all_moe(&o, 0, layers);
    return o;
}

static td_outline llama3(int64_t layers, int64_t d, int64_t d_ff, int64_t heads, double factor, bool tied)
{
    td_outline o = {.family = TD_FAMILY_LLAMA, .layers = layers, .d_model = d, .d_ff = d_ff, .heads = heads, .kv_heads = 8, .head_dim = d / heads, .vocab = 128256, .context = factor > 0 ? 131072 : 8192,
                    .norm_eps = 1e-5, .rope_theta = 5e5, .tied = tied};
    if (factor > 0) o.rope = TD_ROPE_LLAMA3, o.rope_factor = factor, o.rope_low = 1, o.rope_high = 4, o.rope_original = 8192;
    return o;
}

static td_outline deepseek(bool v3)
{
    td_outline o = {.family = TD_FAMILY_DEEPSEEK, .v3 = v3, .layers = v3 ? 61 : 27, .d_model = v3 ? 7168 : 2048, .d_ff = v3 ? 18432 : 10944, .heads = v3 ? 128 : 16, .kv_heads = 1, .head_dim = 192,
                    .q_rank = v3 ? 1536 : 0, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128, .vocab = v3 ? 129280 : 102400, .context = 163840, .norm_eps = 1e-6, .rope_theta = 1e4,
                    .experts = v3 ? 256 : 64, .top_k = v3 ? 8 : 6, .d_expert = v3 ? 2048 : 1408, .shared_experts = v3 ? 1 : 2, .norm_topk = v3, .sigmoid = v3, .routed_scale = v3 ? 2.5 : 1,
                    .groups = v3 ? 8 : 1, .groups_used = v3 ? 4 : 1, .rope = TD_ROPE_YARN, .rope_factor = 40, .rope_original = 4096, .rope_beta_fast = 32, .rope_beta_slow = 1,
                    .rope_mscale = v3 ? 1 : 0.707, .rope_mscale_all = v3 ? 1 : 0.707};
    o.d_shared = o.shared_experts * o.d_expert;
    all_moe(&o, v3 ? 3 : 1, o.layers);
    return o;
}

static td_outline kimi_k2(void)
{
    td_outline o = deepseek(true);
    o.heads = 64, o.experts = 384, o.groups = o.groups_used = 1, o.routed_scale = 2.827, o.vocab = 163840, o.context = 131072, o.rope_theta = 5e4, o.rope_factor = 32, o.rope_beta_fast = 1;
    o.moe[1] = o.moe[2] = true;
    return o;
}

static td_outline step3(void)
{
    td_outline o = {.family = TD_FAMILY_STEP3, .layers = 61, .d_model = 7168, .d_ff = 18432, .heads = 64, .kv_heads = 1, .head_dim = 256, .q_rank = 2048, .vocab = 128815, .context = 65536,
                    .norm_eps = 1e-5, .rope_theta = 5e5, .experts = 48, .top_k = 3, .d_expert = 5120, .shared_experts = 1, .d_shared = 5120};
    all_moe(&o, 4, 60);
    return o;
}

static const char known[] = "step3, qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b, qwen3-32b, qwen3-30b-a3b, qwen3-235b-a22b, llama3-8b, llama3.1-8b, llama3.1-70b, llama3.2-1b, deepseek-v2-lite, deepseek-v3, kimi-k2";

td_status td_outline_preset(const char *like, td_outline *out)
{
    td_outline o;
    if (!strcmp(like, "step3")) o = step3();
    else if (!strcmp(like, "qwen3-0.6b")) o = qwen3(28, 1024, 3072, 16, 8, true);
    else if (!strcmp(like, "qwen3-1.7b")) o = qwen3(28, 2048, 6144, 16, 8, true);
    else if (!strcmp(like, "qwen3-4b")) o = qwen3(36, 2560, 9728, 32, 8, true);
    else if (!strcmp(like, "qwen3-8b")) o = qwen3(36, 4096, 12288, 32, 8, false);
    else if (!strcmp(like, "qwen3-32b")) o = qwen3(64, 5120, 25600, 64, 8, false);
    else if (!strcmp(like, "qwen3-30b-a3b")) o = qwen3_moe(48, 2048, 6144, 32, 768);
    else if (!strcmp(like, "qwen3-235b-a22b")) o = qwen3_moe(94, 4096, 12288, 64, 1536);
    else if (!strcmp(like, "llama3-8b")) o = llama3(32, 4096, 14336, 32, 0, false);
    else if (!strcmp(like, "llama3.1-8b")) o = llama3(32, 4096, 14336, 32, 8, false);
    else if (!strcmp(like, "llama3.1-70b")) o = llama3(80, 8192, 28672, 64, 8, false);
    else if (!strcmp(like, "llama3.2-1b")) o = llama3(16, 2048, 8192, 32, 32, true);
    else if (!strcmp(like, "deepseek-v2-lite")) o = deepseek(false);
    else if (!strcmp(like, "deepseek-v3")) o = deepseek(true);
    else if (!strcmp(like, "kimi-k2")) o = kimi_k2();
    else return td_fail(TD_E_INVALID, "model '%s' is not known; known are %s", like, known);
    if (o.routed_scale == 0) o.routed_scale = 1;
    if (o.groups == 0) o.groups = o.groups_used = 1;
    o.bos = o.vocab - 2, o.eos[0] = o.vocab - 1, o.eos[1] = o.eos[2] = o.eos[3] = -1;
    snprintf(o.name, sizeof o.name, "synthetic %s", like);
    *out = o;
    return TD_OK;
}

/* n / divisor as a multiple of 256 when that is at least 256 (whole k-quant blocks), else of 32. */
static int64_t divided(int64_t n, int64_t divisor)
{
    int64_t part = n / divisor;
    if (part >= 256) return (part + 128) / 256 * 256;
    return TD_MAX((part + 16) / 32 * 32, 32);
}

td_status td_outline_reduce(td_outline *o, int layers, int divisor)
{
    if (layers < 0 || layers > TD_OUTLINE_LAYERS_MAX) return td_fail(TD_E_INVALID, "layers: expected 0 to %d, found %d", TD_OUTLINE_LAYERS_MAX, layers);
    if (divisor < 0 || divisor > 4096) return td_fail(TD_E_INVALID, "scale divisor: expected 1 to 4096, found %d", divisor);
    if (layers > 0) {
        for (int64_t i = o->layers; i < layers; i++) o->moe[i] = o->experts > 0;
        /* a short model still has both kinds of layers */
        if (o->experts && layers > 1 && !o->moe[layers - 1]) o->moe[layers - 1] = true;
        if (o->family == TD_FAMILY_DEEPSEEK && layers > 1 && layers < 4)
            for (int i = 1; i < layers; i++) o->moe[i] = true;
        o->layers = layers;
    }
    if (divisor <= 1) return TD_OK;
    o->d_model = divided(o->d_model, divisor);
    o->d_ff = divided(o->d_ff, divisor);
    o->d_expert = o->experts ? divided(o->d_expert, divisor) : 0;
    o->d_shared = o->family == TD_FAMILY_DEEPSEEK ? o->shared_experts * o->d_expert : o->d_shared ? divided(o->d_shared, divisor) : 0;
    o->q_rank = o->q_rank ? divided(o->q_rank, divisor) : 0;
    o->kv_rank = o->kv_rank ? divided(o->kv_rank, divisor) : 0;
    int64_t group = o->heads / o->kv_heads;
    if (o->kv_heads > 1) o->kv_heads = TD_MAX(o->kv_heads / divisor, 1);
    o->heads = o->kv_heads > 1 || o->family == TD_FAMILY_QWEN3 || o->family == TD_FAMILY_QWEN3_MOE || o->family == TD_FAMILY_LLAMA ? o->kv_heads * group : TD_MAX(o->heads / divisor, 2);
    if (o->experts) {
        int64_t least = o->groups > 1 ? 4 * o->groups : 2 * o->top_k;
        o->experts = TD_MIN(o->experts, TD_MAX(o->experts / divisor, least) / o->groups * o->groups);
    }
    o->vocab = TD_MAX(o->vocab / divisor / 32 * 32, 512);
    o->bos = o->vocab - 2, o->eos[0] = o->vocab - 1;
    return TD_OK;
}

/* ---- config.json ---- */

static void put_ends(const td_outline *o, td_buffer *b)
{
    if (o->bos >= 0) td_buffer_format(b, ",\n  \"bos_token_id\": %lld", (long long)o->bos);
    if (o->eos[0] < 0) return;
    td_buffer_format(b, ",\n  \"eos_token_id\": %s%lld", o->eos[1] >= 0 ? "[" : "", (long long)o->eos[0]);
    for (int i = 1; i < 4 && o->eos[i] >= 0; i++) td_buffer_format(b, ", %lld", (long long)o->eos[i]);
    if (o->eos[1] >= 0) td_buffer_text(b, "]");
}

/* The shortest digits that mean the same float32 (GGUF keeps no more), always as a real number: readers that check types refuse 1 where 1.0 belongs. */
static void put_real(td_buffer *b, const char *before, double value)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) break;
    }
    td_buffer_format(b, "%s%s%s", before, text, strpbrk(text, ".e") ? "" : ".0");
}

static void put_rope(const td_outline *o, td_buffer *b)
{
    put_real(b, ",\n  \"rope_theta\": ", o->rope_theta);
    td_buffer_text(b, ",\n  \"rope_scaling\": ");
    switch (o->rope) {
    case TD_ROPE_PLAIN: td_buffer_text(b, "null"); break;
    case TD_ROPE_LINEAR:
        put_real(b, "{\"type\": \"linear\", \"rope_type\": \"linear\", \"factor\": ", o->rope_factor);
        td_buffer_text(b, "}");
        break;
    case TD_ROPE_LLAMA3:
        put_real(b, "{\"rope_type\": \"llama3\", \"factor\": ", o->rope_factor);
        put_real(b, ", \"low_freq_factor\": ", o->rope_low);
        put_real(b, ", \"high_freq_factor\": ", o->rope_high);
        td_buffer_format(b, ", \"original_max_position_embeddings\": %lld}", (long long)o->rope_original);
        break;
    case TD_ROPE_YARN:
        put_real(b, "{\"type\": \"yarn\", \"rope_type\": \"yarn\", \"factor\": ", o->rope_factor);
        td_buffer_format(b, ", \"original_max_position_embeddings\": %lld", (long long)o->rope_original);
        put_real(b, ", \"beta_fast\": ", o->rope_beta_fast);
        put_real(b, ", \"beta_slow\": ", o->rope_beta_slow);
        if (o->rope_mscale > 0) put_real(b, ", \"mscale\": ", o->rope_mscale);
        if (o->rope_mscale_all > 0) put_real(b, ", \"mscale_all_dim\": ", o->rope_mscale_all);
        if (o->rope_attention > 0) put_real(b, ", \"attention_factor\": ", o->rope_attention);
        if (o->rope_untruncated) td_buffer_text(b, ", \"truncate\": false");
        td_buffer_text(b, "}");
    }
}

#define PUT(key, value) td_buffer_format(b, ",\n  \"" key "\": %lld", (long long)(value))
#define PUT_FLAG(key, value) td_buffer_format(b, ",\n  \"" key "\": %s", (value) ? "true" : "false")

static void put_step3(const td_outline *o, td_buffer *b)
{
    PUT("num_attention_groups", o->kv_heads), PUT("head_dim", o->head_dim), PUT("share_q_dim", o->q_rank), PUT("max_position_embedding", o->context), PUT("max_seq_len", o->context);
    PUT("moe_num_experts", o->experts), PUT("moe_top_k", o->top_k), PUT("moe_intermediate_size", o->d_expert), PUT("share_expert_dim", o->d_shared);
    PUT_FLAG("norm_expert_weight", o->norm_topk);
    td_buffer_text(b, ",\n  \"moe_layers_enum\": \"");
    bool first = true;
    for (int64_t i = 0; i < o->layers; i++) {
        if (!o->moe[i]) continue;
        td_buffer_format(b, "%s%lld", first ? "" : ",", (long long)i);
        first = false;
    }
    td_buffer_text(b, "\"");
}

/* Behind the dense layers those whose number divides by this are MoE. */
static int64_t moe_frequency(const td_outline *o, int64_t dense)
{
    for (int64_t every = 1; every < o->layers; every++) {
        bool all = true;
        for (int64_t i = dense; i < o->layers && all; i++) all = o->moe[i] == (i % every == 0);
        if (all) return every;
    }
    return 1;
}

static void put_deepseek(const td_outline *o, td_buffer *b)
{
    int64_t dense = 0;
    while (dense < o->layers && !o->moe[dense]) dense++;
    PUT("num_key_value_heads", o->heads), PUT("max_position_embeddings", o->context), PUT("kv_lora_rank", o->kv_rank), PUT("qk_nope_head_dim", o->nope_dim), PUT("qk_rope_head_dim", o->rope_dim);
    PUT("v_head_dim", o->v_dim), PUT("n_routed_experts", o->experts), PUT("n_shared_experts", o->shared_experts), PUT("num_experts_per_tok", o->top_k), PUT("moe_intermediate_size", o->d_expert);
    PUT("first_k_dense_replace", dense), PUT("moe_layer_freq", moe_frequency(o, dense)), PUT("n_group", o->groups), PUT("topk_group", o->groups_used), PUT("num_nextn_predict_layers", 0);
    if (o->q_rank) PUT("q_lora_rank", o->q_rank);
    else td_buffer_text(b, ",\n  \"q_lora_rank\": null");
    PUT_FLAG("norm_topk_prob", o->norm_topk);
    if (o->rope_halves) PUT_FLAG("rope_interleave", false);
    put_real(b, ",\n  \"routed_scaling_factor\": ", o->routed_scale);
    td_buffer_format(b, ",\n  \"scoring_func\": \"%s\",\n  \"topk_method\": \"%s\"", o->sigmoid ? "sigmoid" : "softmax",
                     o->v3 ? "noaux_tc" : o->group_greedy ? "group_limited_greedy" : "greedy");
}

static void put_gqa(const td_outline *o, td_buffer *b)
{
    PUT("num_key_value_heads", o->kv_heads), PUT("head_dim", o->head_dim), PUT("max_position_embeddings", o->context);
    if (o->family == TD_FAMILY_LLAMA) PUT_FLAG("mlp_bias", false);
    if (o->family != TD_FAMILY_QWEN3_MOE) return;
    PUT("num_experts", o->experts), PUT("num_experts_per_tok", o->top_k), PUT("moe_intermediate_size", o->d_expert), PUT("decoder_sparse_step", 1);
    PUT_FLAG("norm_topk_prob", o->norm_topk);
    td_buffer_text(b, ",\n  \"mlp_only_layers\": [");
    bool first = true;
    for (int64_t i = 0; i < o->layers; i++) {
        if (o->moe[i]) continue;
        td_buffer_format(b, "%s%lld", first ? "" : ", ", (long long)i);
        first = false;
    }
    td_buffer_text(b, "]");
}

td_status td_outline_config_json(const td_outline *o, const char *dtype, td_buffer *b)
{
    static const char *const classes[TD_FAMILIES] = {"", "Step3TextForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "LlamaForCausalLM", "DeepseekV2ForCausalLM"};
    static const char *const types[TD_FAMILIES] = {"", "step3_text", "qwen3", "qwen3_moe", "llama", "deepseek_v2"};
    bool v3 = o->family == TD_FAMILY_DEEPSEEK && o->v3;
    if (o->bias && !o->out_bias) return td_fail(TD_E_UNSUPPORTED, "expected biases of q, k, v and o or none (config.json has one word for all, attention_bias), found none of o");
    td_buffer_format(b, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n  \"torch_dtype\": \"%s\"", v3 ? "DeepseekV3ForCausalLM" : classes[o->family], v3 ? "deepseek_v3" : types[o->family], dtype);
    PUT("vocab_size", o->vocab), PUT("hidden_size", o->d_model), PUT("intermediate_size", o->d_ff), PUT("num_hidden_layers", o->layers), PUT("num_attention_heads", o->heads);
    td_buffer_text(b, ",\n  \"hidden_act\": \"silu\"");
    put_real(b, ",\n  \"rms_norm_eps\": ", o->norm_eps);
    PUT_FLAG("tie_word_embeddings", o->tied);
    PUT_FLAG("attention_bias", o->bias);
    if (o->family == TD_FAMILY_STEP3) put_step3(o, b);
    else if (o->family == TD_FAMILY_DEEPSEEK) put_deepseek(o, b);
    else put_gqa(o, b);
    put_rope(o, b);
    put_ends(o, b);
    td_buffer_text(b, "\n}\n");
    return td_buffer_status(b);
}
