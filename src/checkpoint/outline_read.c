/* outline_read.c - config.json and GGUF keys into a td_outline. Every number is bounded here, so that no product of two overflows later. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "checkpoint/layout.h"
#include "checkpoint/outline.h"

enum { SIZE_MAX_ANY = 1 << 28 };

/* Where numbers come from; the first error sticks. */
typedef struct {
    const td_checkpoint *c;
    const cJSON *config;    /* text part of config.json; NULL: GGUF */
    const char *prefix;     /* GGUF architecture */
    td_status status;
} source;

static const cJSON *item(const source *s, const char *key) { return cJSON_GetObjectItemCaseSensitive(s->config, key); }

static bool number(const source *s, const char *key, double *out)
{
    if (s->config) {
        const cJSON *found = item(s, key);
        if (!cJSON_IsNumber(found)) return false;
        *out = found->valuedouble;
        return true;
    }
    char full[128];
    snprintf(full, sizeof full, "%s.%s", s->prefix, key);
    return td_gguf_f64(s->c, full, out);
}

static void missing(source *s, const char *key, const char *expected)
{
    if (s->status == TD_OK)
        s->status = td_fail(TD_E_FORMAT, "checkpoint %s: expected %s under %s%s%s", td_checkpoint_path(s->c), expected, s->config ? "config.json key " : s->prefix, s->config ? "" : ".", key);
}

/* A size from low to SIZE_MAX_ANY; fallback when absent (negative: it must be there). */
static int64_t size_of(source *s, const char *key, int64_t low, int64_t fallback)
{
    double value;
    if (!number(s, key, &value)) {
        if (fallback < 0) missing(s, key, "a whole number");
        return fallback;
    }
    if (!(value >= (double)low && value <= SIZE_MAX_ANY) || value != floor(value)) {
        char text[96];
        snprintf(text, sizeof text, "a whole number from %lld to %d (found %g)", (long long)low, SIZE_MAX_ANY, value);
        missing(s, key, text);
        return low;
    }
    return (int64_t)value;
}

static double real_of(source *s, const char *key, double fallback)
{
    double value = fallback;
    number(s, key, &value);
    if (!isfinite(value)) missing(s, key, "a finite number");
    return value;
}

static bool flag_of(const source *s, const char *key, bool fallback)
{
    bool value = fallback;
    if (s->config) {
        const cJSON *found = item(s, key);
        return cJSON_IsNull(found) ? false : cJSON_IsBool(found) ? cJSON_IsTrue(found) : fallback; /* null is Python's None: false */
    }
    char full[128];
    snprintf(full, sizeof full, "%s.%s", s->prefix, key);
    td_gguf_bool(s->c, full, &value);
    return value;
}

static void take_name(td_outline *o, const char *text, size_t bytes)
{
    size_t length = TD_MIN(bytes, sizeof o->name - 1);
    memcpy(o->name, text, length);
    o->name[length] = 0;
}

/* ---- config.json ---- */

/* rope_parameters (transformers 5) holds both, but a rope_scaling beside it displaces it; else rope_theta and rope_scaling stand apart. */
static void rope_from_config(source *s, td_outline *o)
{
    const cJSON *scaling = item(s, "rope_scaling");
    source r = {.c = s->c, .config = cJSON_IsObject(scaling) && scaling->child ? scaling : item(s, "rope_parameters")};
    double theta = real_of(s, "rope_theta", td_family_get_defaults(o->family, o->v3, TD_FORMAT_SAFETENSORS).rope_theta);
    o->rope_theta = cJSON_IsObject(r.config) ? real_of(&r, "rope_theta", theta) : theta;
    if (!cJSON_IsObject(r.config)) return;
    const cJSON *type = item(&r, "rope_type") ? item(&r, "rope_type") : item(&r, "type");
    const char *word = cJSON_IsString(type) ? type->valuestring : "default";
    if (!strcmp(word, "default")) return;
    if (!strcmp(word, "linear")) o->rope = TD_ROPE_LINEAR;
    else if (!strcmp(word, "yarn")) o->rope = TD_ROPE_YARN;
    else if (!strcmp(word, "llama3")) o->rope = TD_ROPE_LLAMA3;
    else s->status = td_fail(TD_E_UNSUPPORTED, "checkpoint %s: expected RoPE scaling linear, yarn or llama3, found %s", td_checkpoint_path(s->c), word);
    o->rope_factor = real_of(&r, "factor", 1);
    o->rope_low = real_of(&r, "low_freq_factor", 1);
    o->rope_high = real_of(&r, "high_freq_factor", 4);
    o->rope_beta_fast = real_of(&r, "beta_fast", 32);
    o->rope_beta_slow = real_of(&r, "beta_slow", 1);
    o->rope_mscale = real_of(&r, "mscale", 0);
    o->rope_mscale_all = real_of(&r, "mscale_all_dim", 0);
    o->rope_attention = real_of(&r, "attention_factor", 0);
    o->rope_untruncated = !flag_of(&r, "truncate", true);
    o->rope_original = size_of(&r, "original_max_position_embeddings", 1, o->context);
    if (o->rope == TD_ROPE_YARN && !cJSON_IsNumber(item(&r, "factor"))) o->rope_factor = (double)o->context / (double)o->rope_original;
    if (r.status < 0) s->status = r.status;
    if (o->family == TD_FAMILY_DEEPSEEK && o->rope != TD_ROPE_YARN && o->rope_mscale_all > 0) missing(s, "rope_scaling.mscale_all_dim", "0 (other formats have no place for it without yarn)");
    if (s->status == TD_OK && !(o->rope_factor > 0)) missing(s, "rope_scaling", "a factor above 0");
}

static void ends_from_config(const source *s, td_outline *o)
{
    const cJSON *bos = item(s, "bos_token_id"), *eos = item(s, "eos_token_id");
    if (cJSON_IsNumber(bos)) o->bos = (int64_t)bos->valuedouble;
    if (cJSON_IsNumber(eos)) o->eos[0] = (int64_t)eos->valuedouble;
    for (int i = 0; cJSON_IsArray(eos) && i < 4 && i < cJSON_GetArraySize(eos); i++)
        if (cJSON_IsNumber(cJSON_GetArrayItem(eos, i))) o->eos[i] = (int64_t)cJSON_GetArrayItem(eos, i)->valuedouble;
}

/* step3: "4,5,...,59" or an array of numbers. */
static void moe_layers_from_config(source *s, td_outline *o)
{
    const cJSON *list = item(s, "moe_layers_enum"), *entry;
    cJSON_ArrayForEach(entry, list)
        if (cJSON_IsNumber(entry) && entry->valuedouble >= 0 && entry->valuedouble < (double)o->layers) o->moe[(int)entry->valuedouble] = true;
    if (!cJSON_IsString(list)) {
        for (int64_t i = 1; !list && i < o->layers; i++) o->moe[i] = true;
        return;
    }
    const char *t = list->valuestring;
    while (*t) {
        char *end;
        long layer = strtol(t, &end, 10);
        if (end == t || layer < 0 || (*end && *end != ',' && *end != ' ')) {
            missing(s, "moe_layers_enum", "layer numbers between commas");
            return;
        }
        if (layer < o->layers) o->moe[layer] = true;
        t = end;
        while (*t == ',' || *t == ' ') t++;
    }
}

static void moe_layers_by_step(source *s, td_outline *o)
{
    int64_t step = size_of(s, "decoder_sparse_step", 1, 1);
    for (int64_t i = 0; i < o->layers; i++) o->moe[i] = (i + 1) % step == 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, item(s, "mlp_only_layers"))
        if (cJSON_IsNumber(entry) && entry->valuedouble >= 0 && entry->valuedouble < (double)o->layers) o->moe[(int)entry->valuedouble] = false;
}

static void step3_from_config(source *s, td_outline *o)
{
    o->kv_heads = size_of(s, "num_attention_groups", 1, 1);
    o->q_rank = size_of(s, "share_q_dim", 1, -1);
    o->head_dim = size_of(s, "head_dim", 1, -1);
    o->context = size_of(s, "max_position_embedding", 1, size_of(s, "max_seq_len", 1, 65536));
    o->experts = size_of(s, "moe_num_experts", 1, -1);
    o->top_k = size_of(s, "moe_top_k", 1, -1);
    o->d_expert = size_of(s, "moe_intermediate_size", 1, -1);
    o->shared_experts = 1;
    o->d_shared = size_of(s, "share_expert_dim", 1, o->d_expert);
    o->norm_topk = flag_of(s, "norm_expert_weight", false);
    moe_layers_from_config(s, o);
}

static void deepseek_from_config(source *s, td_outline *o)
{
    td_family_defaults absent = td_family_get_defaults(o->family, o->v3, TD_FORMAT_SAFETENSORS);
    o->kv_heads = 1;
    o->q_rank = size_of(s, "q_lora_rank", 0, 0);
    o->rope_halves = !flag_of(s, "rope_interleave", true);
    o->kv_rank = size_of(s, "kv_lora_rank", 1, -1);
    o->nope_dim = size_of(s, "qk_nope_head_dim", 1, -1);
    o->rope_dim = size_of(s, "qk_rope_head_dim", 2, -1);
    o->v_dim = size_of(s, "v_head_dim", 1, -1);
    o->head_dim = o->nope_dim + o->rope_dim;
    o->experts = size_of(s, "n_routed_experts", 0, 0);
    o->top_k = size_of(s, "num_experts_per_tok", 0, 0);
    o->d_expert = size_of(s, "moe_intermediate_size", 0, 0);
    o->shared_experts = size_of(s, "n_shared_experts", 0, absent.shared_experts);
    o->d_shared = o->shared_experts * o->d_expert;
    o->groups = size_of(s, "n_group", 1, absent.groups);
    o->groups_used = size_of(s, "topk_group", 1, absent.groups_used);
    o->routed_scale = real_of(s, "routed_scaling_factor", absent.routed_scale);
    const cJSON *scoring = item(s, "scoring_func"), *method = item(s, "topk_method");
    o->norm_topk = o->v3 && flag_of(s, "norm_topk_prob", true); /* the V2 reference never renormalises */
    o->sigmoid = cJSON_IsString(scoring) ? !strcmp(scoring->valuestring, "sigmoid") : o->v3;
    o->group_greedy = cJSON_IsString(method) && !strcmp(method->valuestring, "group_limited_greedy");
    bool greedy = cJSON_IsString(method) ? !strcmp(method->valuestring, "greedy") : !o->v3;
    if (o->experts > 0 && o->sigmoid != o->v3) missing(s, "scoring_func", o->v3 ? "sigmoid (V3's; another has no place in other formats)" : "softmax (V2's; another has no place in other formats)");
    if (o->experts > 0 && o->v3 == (greedy || o->group_greedy)) missing(s, "topk_method", o->v3 ? "noaux_tc (V3's; another has no place in other formats)" : "greedy or group_limited_greedy (V2's; another has no place in other formats)");
    if (greedy) o->groups = o->groups_used = 1; /* whatever n_group says */
    int64_t first = size_of(s, "first_k_dense_replace", 0, absent.first_dense), every = size_of(s, "moe_layer_freq", 1, 1);
    for (int64_t i = 0; i < o->layers; i++) o->moe[i] = o->experts > 0 && i >= first && i % every == 0;
}

/* What would change the arithmetic and has no place in an outline: refused, as the loader does, rather than dropped. */
static void refuse_variants(source *s, const td_outline *o)
{
    const cJSON *activation = item(s, "hidden_act");
    if (cJSON_IsString(activation) && strcmp(activation->valuestring, "silu") && strcmp(activation->valuestring, "swish")) missing(s, "hidden_act", "silu");
    if (flag_of(s, "mlp_bias", false)) missing(s, "mlp_bias", "false (the other is not implemented)");
    if (flag_of(s, "use_sliding_window", false)) missing(s, "use_sliding_window", "false (the other is not implemented)");
    if (real_of(s, "partial_rotary_factor", 1) != 1) missing(s, "partial_rotary_factor", "1 (the other is not implemented)");
    if (o->bias && o->family == TD_FAMILY_DEEPSEEK) missing(s, "attention_bias", "false (MLA with biases is not implemented)");
}

static void read_config(source *s, td_outline *o, const char *type)
{
    o->layers = size_of(s, "num_hidden_layers", 1, -1);
    o->d_model = size_of(s, "hidden_size", 1, -1);
    o->vocab = size_of(s, "vocab_size", 1, -1);
    o->heads = size_of(s, "num_attention_heads", 1, -1);
    o->d_ff = size_of(s, "intermediate_size", 1, -1);
    o->v3 = td_family_is_v3(type);
    td_family_defaults absent = td_family_get_defaults(o->family, o->v3, TD_FORMAT_SAFETENSORS);
    o->norm_eps = real_of(s, "rms_norm_eps", absent.norm_eps);
    o->tied = flag_of(s, "tie_word_embeddings", false);
    o->bias = o->out_bias = flag_of(s, "attention_bias", false);
    refuse_variants(s, o);
    if (o->layers > TD_OUTLINE_LAYERS_MAX) missing(s, "num_hidden_layers", "at most 512 layers");
    if (s->status < 0) return;
    o->context = size_of(s, "max_position_embeddings", 1, 4096);
    if (o->family == TD_FAMILY_STEP3) step3_from_config(s, o);
    else if (o->family == TD_FAMILY_DEEPSEEK) deepseek_from_config(s, o);
    else {
        o->kv_heads = size_of(s, "num_key_value_heads", 1, absent.kv_heads ? absent.kv_heads : o->heads);
        o->head_dim = size_of(s, "head_dim", 1, absent.head_dim ? absent.head_dim : o->heads > 0 ? o->d_model / o->heads : 0);
    }
    if (o->family == TD_FAMILY_QWEN3_MOE) {
        o->experts = size_of(s, item(s, "num_local_experts") ? "num_local_experts" : "num_experts", 1, -1); /* transformers 5 writes the former */
        o->top_k = size_of(s, "num_experts_per_tok", 1, -1);
        o->d_expert = size_of(s, "moe_intermediate_size", 1, -1);
        o->norm_topk = flag_of(s, "norm_topk_prob", false);
        moe_layers_by_step(s, o);
    }
    const td_tensor *embed = td_names_find(s->c, o->family, TD_SLOT_EMBED, 0, 0), *head = td_names_find(s->c, o->family, TD_SLOT_HEAD, 0, 0);
    if (o->tied && embed && head) o->tied = td_layout_same(embed, head); /* the weights count, not the key */
    rope_from_config(s, o);
    ends_from_config(s, o);
}

/* ---- GGUF ---- */

static void rope_from_gguf(source *s, td_outline *o)
{
    const char *type = "";
    size_t bytes = 0;
    char key[64];
    o->rope_theta = real_of(s, "rope.freq_base", td_family_get_defaults(o->family, false, TD_FORMAT_GGUF).rope_theta);
    snprintf(key, sizeof key, "%s.rope.scaling.type", s->prefix);
    td_gguf_string(s->c, key, &type, &bytes);
    double factor = real_of(s, "rope.scaling.factor", real_of(s, "rope.scale_linear", 1)), more = real_of(s, "rope.scaling.attn_factor", 1);
    double multiplier = real_of(s, "rope.scaling.yarn_log_multiplier", 0); /* deepseek2 files hold 0.1 * mscale_all_dim; mscale itself equals it in every published checkpoint */
    if (bytes == 4 && !memcmp(type, "yarn", 4)) o->rope = TD_ROPE_YARN;
    else if ((bytes == 6 && !memcmp(type, "linear", 6)) || (!bytes && factor != 1)) o->rope = TD_ROPE_LINEAR;
    if (o->rope != TD_ROPE_YARN && more != 1) missing(s, "rope.scaling.attn_factor", "1 (another has no place without yarn)");
    if (o->rope == TD_ROPE_LINEAR && multiplier > 0 && o->family == TD_FAMILY_DEEPSEEK) missing(s, "rope.scaling.yarn_log_multiplier", "0 (another has no place without yarn)");
    if (o->rope != TD_ROPE_PLAIN) {
        o->rope_factor = factor;
        o->rope_original = size_of(s, "rope.scaling.original_context_length", 1, o->context);
        o->rope_beta_fast = real_of(s, "rope.scaling.yarn_beta_fast", 32);
        o->rope_beta_slow = real_of(s, "rope.scaling.yarn_beta_slow", 1);
        o->rope_attention = real_of(s, "rope.scaling.yarn_attn_factor", 0);
        if (more != 1) o->rope_attention = more * (o->rope_attention > 0 ? o->rope_attention : multiplier > 0 ? 1 : td_outline_yarn_magnitude(factor, 1));
        bool truncate = true;
        td_gguf_bool(s->c, "tandem.rope.yarn.truncate", &truncate);
        o->rope_untruncated = !truncate;
        o->rope_mscale = o->rope_mscale_all = round(multiplier * 1e7) / 1e6;
        if (s->status == TD_OK && !(o->rope_factor > 0)) missing(s, "rope.scaling.factor", "a number above 0");
        return;
    }
    source own = {.c = s->c, .prefix = "tandem"};
    if (!number(&own, "rope.llama3.factor", &factor)) return;
    o->rope = TD_ROPE_LLAMA3;
    o->rope_factor = factor;
    o->rope_low = real_of(&own, "rope.llama3.low_freq_factor", 1);
    o->rope_high = real_of(&own, "rope.llama3.high_freq_factor", 4);
    o->rope_original = size_of(&own, "rope.llama3.original_context_length", 1, 8192);
    if (own.status < 0) s->status = own.status;
}

/* What GGUF allows and the others have no word for. */
static void refuse_gguf_variants(source *s, const td_outline *o)
{
    if (o->family != TD_FAMILY_DEEPSEEK && size_of(s, "rope.dimension_count", 1, o->head_dim) != o->head_dim) missing(s, "rope.dimension_count", "the whole width of a head (a part of it has no place in other formats)");
    static const td_slot biases[] = {TD_SLOT_Q_BIAS, TD_SLOT_K_BIAS, TD_SLOT_V_BIAS, TD_SLOT_O_BIAS};
    for (int64_t i = 0; i < o->layers && s->status == TD_OK && o->family == TD_FAMILY_LLAMA; i++)
        for (size_t b = 0; b < TD_COUNT(biases); b++)
            if ((td_names_find(s->c, o->family, biases[b], (int)i, 0) != NULL) != (biases[b] == TD_SLOT_O_BIAS ? o->out_bias && o->bias : o->bias)) {
                s->status = td_fail(TD_E_UNSUPPORTED, "checkpoint %s: expected biases of q, k and v in all layers or in none, and of o likewise, found others in layer %lld", td_checkpoint_path(s->c), (long long)i);
                break;
            }
}

/* A file of another program holds only the divisors of llama3 scaling: tried are the two sets of numbers that Llama 3.1 and 3.2 were published with. */
static void rope_from_divisors(source *s, td_outline *o)
{
    const td_tensor *t = td_names_find(s->c, o->family, TD_SLOT_ROPE_FREQS, 0, 0);
    if (!t || o->rope == TD_ROPE_LLAMA3 || s->status < 0) return;
    if (o->rope != TD_ROPE_PLAIN) {
        s->status = td_fail(TD_E_UNSUPPORTED, "checkpoint %s: expected RoPE scaling or the divisors of tensor %s, found both, which no other format can say", td_checkpoint_path(s->c), t->name);
        return;
    }
    int64_t count = td_outline_rope_dim(o) / 2;
    if (t->type != TD_F32 || t->dims != 1 || t->shape[0] != count || count > 4096) {
        s->status = td_fail(TD_E_FORMAT, "checkpoint %s, tensor %s: expected %lld F32 divisors", td_checkpoint_path(s->c), t->name, (long long)count);
        return;
    }
    static const double factors[] = {8, 32};
    const float *stored = t->data;
    for (size_t f = 0; f < TD_COUNT(factors); f++) {
        td_outline trial = *o;
        trial.rope = TD_ROPE_LLAMA3, trial.rope_factor = factors[f], trial.rope_low = 1, trial.rope_high = 4, trial.rope_original = 8192;
        float divisors[4096];
        td_outline_rope_divisors(&trial, divisors);
        bool same = true;
        for (int64_t i = 0; i < count && same; i++) same = fabsf(divisors[i] - stored[i]) <= 1e-4f * divisors[i];
        if (same) {
            *o = trial;
            return;
        }
    }
    s->status = td_fail(TD_E_UNSUPPORTED, "checkpoint %s, tensor %s: expected the RoPE divisors of Llama 3.1 or 3.2, found others", td_checkpoint_path(s->c), t->name);
}

static void deepseek_from_gguf(source *s, td_outline *o)
{
    o->kv_rank = size_of(s, "attention.kv_lora_rank", 1, -1);
    o->rope_dim = size_of(s, "rope.dimension_count", 2, -1);
    o->head_dim = size_of(s, "attention.key_length_mla", 1, size_of(s, "attention.key_length", 1, -1));
    o->v_dim = size_of(s, "attention.value_length_mla", 1, size_of(s, "attention.value_length", 1, -1));
    o->nope_dim = o->head_dim - o->rope_dim;
    if (s->status == TD_OK && o->nope_dim < 1) missing(s, "attention.key_length_mla", "more than rope.dimension_count");
    o->shared_experts = size_of(s, "expert_shared_count", 0, 0);
    o->d_shared = o->shared_experts * o->d_expert;
    o->groups = size_of(s, "expert_group_count", 1, 1);
    o->groups_used = size_of(s, "expert_group_used_count", 1, 1);
    o->routed_scale = real_of(s, "expert_weights_scale", 1);
    o->v3 = o->sigmoid = size_of(s, "expert_gating_func", 0, 1) == 2;
    int last = (int)o->layers - 1;
    while (last >= 0 && !o->moe[last]) last--;
    if (last < 0) return; /* no layer has experts, whatever expert_count says */
    bool biased = td_names_find(s->c, o->family, TD_SLOT_ROUTER_BIAS, last, 0) != NULL;
    if (biased != o->sigmoid) missing(s, "expert_gating_func", biased ? "2 (sigmoid) where the router has a bias" : "1 (softmax) where the router has no bias");
    if (!o->sigmoid && o->norm_topk)
        missing(s, "expert_weights_norm", "false with softmax gating (config.json cannot say otherwise: V2's reference never normalises)");
    o->group_greedy = !o->v3 && o->groups > 1;
}

static void read_gguf(source *s, td_outline *o)
{
    o->layers = size_of(s, "block_count", 1, -1);
    o->d_model = size_of(s, "embedding_length", 1, -1);
    o->heads = size_of(s, "attention.head_count", 1, -1);
    o->kv_heads = size_of(s, "attention.head_count_kv", 1, o->heads);
    o->head_dim = size_of(s, "attention.key_length", 1, o->heads > 0 ? o->d_model / o->heads : 0);
    o->context = size_of(s, "context_length", 1, 4096);
    o->d_ff = size_of(s, "feed_forward_length", 1, -1);
    o->norm_eps = real_of(s, "attention.layer_norm_rms_epsilon", td_family_get_defaults(o->family, false, TD_FORMAT_GGUF).norm_eps);
    o->q_rank = size_of(s, "attention.q_lora_rank", 1, 0);
    o->experts = size_of(s, "expert_count", 0, 0);
    o->top_k = size_of(s, "expert_used_count", 0, 0);
    o->d_expert = size_of(s, "expert_feed_forward_length", 1, o->experts && o->top_k ? o->d_ff / o->top_k : 0);
    o->norm_topk = flag_of(s, "expert_weights_norm", o->family == TD_FAMILY_QWEN3_MOE);
    if (o->layers > TD_OUTLINE_LAYERS_MAX) missing(s, "block_count", "at most 512 layers");
    if (s->status < 0) return;
    if (o->family == TD_FAMILY_DEEPSEEK) o->layers -= TD_MIN(size_of(s, "nextn_predict_layers", 0, 0), o->layers - 1); /* counted in block_count, come last, not used for decoding */
    const td_tensor *embed = td_names_find(s->c, o->family, TD_SLOT_EMBED, 0, 0);
    o->vocab = embed && embed->dims == 2 ? embed->shape[0] : size_of(s, "vocab_size", 1, -1);
    o->tied = !td_names_find(s->c, o->family, TD_SLOT_HEAD, 0, 0);
    o->bias = td_names_find(s->c, o->family, TD_SLOT_Q_BIAS, 0, 0) != NULL;
    o->out_bias = td_names_find(s->c, o->family, TD_SLOT_O_BIAS, 0, 0) != NULL;
    for (int64_t i = 0; i < o->layers; i++) o->moe[i] = td_names_find(s->c, o->family, TD_SLOT_ROUTER, (int)i, 0) != NULL;
    if (o->family == TD_FAMILY_DEEPSEEK) deepseek_from_gguf(s, o);
    if (o->family == TD_FAMILY_STEP3) {
        o->shared_experts = 1;
        o->d_shared = size_of(s, "expert_shared_feed_forward_length", 1, o->d_expert);
    }
    rope_from_gguf(s, o);
    rope_from_divisors(s, o);
    refuse_gguf_variants(s, o);
    int64_t id;
    if (td_gguf_i64(s->c, "tokenizer.ggml.bos_token_id", &id)) o->bos = id;
    if (td_gguf_i64(s->c, "tokenizer.ggml.eos_token_id", &id)) o->eos[0] = id;
    if (td_gguf_i64(s->c, "tokenizer.ggml.eot_token_id", &id) && id != o->eos[0]) o->eos[1] = id;
}

static void name_of(const td_checkpoint *c, td_outline *o)
{
    const char *text;
    size_t bytes;
    if (td_gguf_string(c, "general.name", &text, &bytes)) {
        take_name(o, text, bytes);
        return;
    }
    const char *path = td_checkpoint_path(c);
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    take_name(o, path + start, end - start);
}

td_status td_outline_read(const td_checkpoint *c, td_outline *out)
{
    const char *found, *type = "";
    td_outline o = {.bos = -1, .eos = {-1, -1, -1, -1}, .routed_scale = 1, .groups = 1, .groups_used = 1, .rope_factor = 1};
    o.family = td_family_of(c, &found);
    if (o.family == TD_FAMILY_NONE)
        return td_fail(TD_E_UNSUPPORTED, "checkpoint %s: expected a model of family step3, qwen3, qwen3_moe, llama or deepseek_v2/v3, found %.60s", td_checkpoint_path(c), found ? found : "none named");
    source s = {.c = c};
    if (td_checkpoint_format(c) == TD_FORMAT_SAFETENSORS) {
        const cJSON *config = td_checkpoint_config(c), *text = cJSON_GetObjectItemCaseSensitive(config, "text_config");
        type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "model_type"));
        s.config = cJSON_IsObject(text) ? text : config;
        read_config(&s, &o, type);
    } else {
        s.prefix = td_family_architecture(o.family);
        read_gguf(&s, &o);
    }
    TD_TRY(s.status);
    bool moe = false;
    for (int64_t i = 0; i < o.layers; i++) moe |= o.moe[i];
    if (moe && (o.experts < 1 || o.top_k < 1 || o.top_k > o.experts || o.d_expert < 1))
        return td_fail(TD_E_FORMAT, "checkpoint %s: expected 1 to %lld chosen experts of a width above 0, found %lld of width %lld", td_checkpoint_path(c), (long long)o.experts, (long long)o.top_k,
                       (long long)o.d_expert);
    if (o.heads % o.kv_heads || (o.family == TD_FAMILY_STEP3 && !o.q_rank))
        return td_fail(TD_E_FORMAT, "checkpoint %s: expected query heads in whole groups, found %lld over %lld", td_checkpoint_path(c), (long long)o.heads, (long long)o.kv_heads);
    name_of(c, &o);
    *out = o;
    return TD_OK;
}
