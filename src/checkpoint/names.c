/* names.c - see names.h. One table of slots, one of spellings a family; reading a name back tries the patterns of the family's table. */
#include "checkpoint/names.h"

#include <stdio.h>
#include <string.h>

typedef struct { const char *name; char side; uint8_t kind; bool per_layer; } slot_row;

static const slot_row slots[TD_SLOTS] = {
    [TD_SLOT_EMBED] = {"embed", 'A', TD_KIND_EMBED, false},
    [TD_SLOT_FINAL_NORM] = {"final_norm", 'A', TD_KIND_NORM, false},
    [TD_SLOT_HEAD] = {"head", 'A', TD_KIND_EMBED, false},
    [TD_SLOT_ROPE_FREQS] = {"rope_freqs", 'A', TD_KIND_NORM, false},
    [TD_SLOT_ATTN_NORM] = {"attn_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_FFN_NORM] = {"ffn_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_Q] = {"q", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_K] = {"k", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_V] = {"v", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_O] = {"o", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_Q_BIAS] = {"q_bias", 'A', TD_KIND_BIAS, true},
    [TD_SLOT_K_BIAS] = {"k_bias", 'A', TD_KIND_BIAS, true},
    [TD_SLOT_V_BIAS] = {"v_bias", 'A', TD_KIND_BIAS, true},
    [TD_SLOT_O_BIAS] = {"o_bias", 'A', TD_KIND_BIAS, true},
    [TD_SLOT_Q_NORM] = {"q_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_K_NORM] = {"k_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_Q_A] = {"q_a", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_Q_A_NORM] = {"q_a_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_Q_B] = {"q_b", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_KV_A] = {"kv_a", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_KV_A_NORM] = {"kv_a_norm", 'A', TD_KIND_NORM, true},
    [TD_SLOT_KV_B] = {"kv_b", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_K_B] = {"k_b", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_V_B] = {"v_b", 'A', TD_KIND_MATRIX, true},
    [TD_SLOT_ROUTER] = {"router", 'A', TD_KIND_ROUTER, true},
    [TD_SLOT_ROUTER_BIAS] = {"router_bias", 'A', TD_KIND_BIAS, true},
    [TD_SLOT_GATE] = {"gate", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_UP] = {"up", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_DOWN] = {"down", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERT_GATE] = {"expert_gate", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERT_UP] = {"expert_up", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERT_DOWN] = {"expert_down", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERTS_GATE] = {"experts_gate", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERTS_UP] = {"experts_up", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERTS_DOWN] = {"experts_down", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_EXPERTS_GATE_UP] = {"experts_gate_up", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_SHARED_GATE] = {"shared_gate", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_SHARED_UP] = {"shared_up", 'F', TD_KIND_MATRIX, true},
    [TD_SLOT_SHARED_DOWN] = {"shared_down", 'F', TD_KIND_MATRIX, true},
};

/* '#' stands for the layer, '@' for the expert. NULL: that format does not have it. */
typedef struct { td_slot slot; const char *hf, *gguf; } spelling;

#define COMMON                                                                              \
    {TD_SLOT_EMBED, "model.embed_tokens.weight", "token_embd.weight"},                      \
    {TD_SLOT_FINAL_NORM, "model.norm.weight", "output_norm.weight"},                        \
    {TD_SLOT_HEAD, "lm_head.weight", "output.weight"},                                      \
    {TD_SLOT_ROPE_FREQS, NULL, "rope_freqs.weight"},                                        \
    {TD_SLOT_ATTN_NORM, "model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight"}, \
    {TD_SLOT_FFN_NORM, "model.layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight"}, \
    {TD_SLOT_O, "model.layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight"}
#define KV                                                                                  \
    {TD_SLOT_K, "model.layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight"},           \
    {TD_SLOT_V, "model.layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight"}
#define GQA                                                                                 \
    {TD_SLOT_Q, "model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight"}, KV,       \
    {TD_SLOT_Q_BIAS, "model.layers.#.self_attn.q_proj.bias", "blk.#.attn_q.bias"},          \
    {TD_SLOT_K_BIAS, "model.layers.#.self_attn.k_proj.bias", "blk.#.attn_k.bias"},          \
    {TD_SLOT_V_BIAS, "model.layers.#.self_attn.v_proj.bias", "blk.#.attn_v.bias"},          \
    {TD_SLOT_O_BIAS, "model.layers.#.self_attn.o_proj.bias", "blk.#.attn_output.bias"}
#define QK_NORM                                                                             \
    {TD_SLOT_Q_NORM, "model.layers.#.self_attn.q_norm.weight", "blk.#.attn_q_norm.weight"}, \
    {TD_SLOT_K_NORM, "model.layers.#.self_attn.k_norm.weight", "blk.#.attn_k_norm.weight"}
#define DENSE                                                                               \
    {TD_SLOT_GATE, "model.layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight"},         \
    {TD_SLOT_UP, "model.layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight"},               \
    {TD_SLOT_DOWN, "model.layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight"}
#define EXPERTS                                                                             \
    {TD_SLOT_ROUTER, "model.layers.#.mlp.gate.weight", "blk.#.ffn_gate_inp.weight"},        \
    {TD_SLOT_EXPERT_GATE, "model.layers.#.mlp.experts.@.gate_proj.weight", NULL},           \
    {TD_SLOT_EXPERT_UP, "model.layers.#.mlp.experts.@.up_proj.weight", NULL},               \
    {TD_SLOT_EXPERT_DOWN, "model.layers.#.mlp.experts.@.down_proj.weight", NULL},           \
    {TD_SLOT_EXPERTS_GATE, NULL, "blk.#.ffn_gate_exps.weight"},                             \
    {TD_SLOT_EXPERTS_UP, NULL, "blk.#.ffn_up_exps.weight"},                                 \
    {TD_SLOT_EXPERTS_DOWN, "model.layers.#.mlp.experts.down_proj", "blk.#.ffn_down_exps.weight"}, \
    {TD_SLOT_EXPERTS_GATE_UP, "model.layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_gate_up_exps.weight"}

static const spelling step3[] = {
    COMMON, KV, DENSE,
    {TD_SLOT_Q_A, "model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q_a.weight"},
    {TD_SLOT_Q_A_NORM, "model.layers.#.self_attn.inter_norm.weight", "blk.#.attn_q_a_norm.weight"},
    {TD_SLOT_Q_B, "model.layers.#.self_attn.wq.weight", "blk.#.attn_q_b.weight"},
    {TD_SLOT_ROUTER, "model.layers.#.moe.gate.weight", "blk.#.ffn_gate_inp.weight"},
    {TD_SLOT_EXPERTS_GATE, "model.layers.#.moe.gate_proj.weight", "blk.#.ffn_gate_exps.weight"},
    {TD_SLOT_EXPERTS_UP, "model.layers.#.moe.up_proj.weight", "blk.#.ffn_up_exps.weight"},
    {TD_SLOT_EXPERTS_DOWN, "model.layers.#.moe.down_proj.weight", "blk.#.ffn_down_exps.weight"},
    {TD_SLOT_SHARED_GATE, "model.layers.#.share_expert.gate_proj.weight", "blk.#.ffn_gate_shexp.weight"},
    {TD_SLOT_SHARED_UP, "model.layers.#.share_expert.up_proj.weight", "blk.#.ffn_up_shexp.weight"},
    {TD_SLOT_SHARED_DOWN, "model.layers.#.share_expert.down_proj.weight", "blk.#.ffn_down_shexp.weight"},
};

static const spelling qwen3[] = {COMMON, GQA, QK_NORM, DENSE};
static const spelling qwen3_moe[] = {COMMON, GQA, QK_NORM, DENSE, EXPERTS};
static const spelling llama[] = {COMMON, GQA, DENSE};

static const spelling deepseek[] = {
    COMMON, DENSE, EXPERTS,
    {TD_SLOT_Q, "model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight"},
    {TD_SLOT_Q_A, "model.layers.#.self_attn.q_a_proj.weight", "blk.#.attn_q_a.weight"},
    {TD_SLOT_Q_A_NORM, "model.layers.#.self_attn.q_a_layernorm.weight", "blk.#.attn_q_a_norm.weight"},
    {TD_SLOT_Q_B, "model.layers.#.self_attn.q_b_proj.weight", "blk.#.attn_q_b.weight"},
    {TD_SLOT_KV_A, "model.layers.#.self_attn.kv_a_proj_with_mqa.weight", "blk.#.attn_kv_a_mqa.weight"},
    {TD_SLOT_KV_A_NORM, "model.layers.#.self_attn.kv_a_layernorm.weight", "blk.#.attn_kv_a_norm.weight"},
    {TD_SLOT_KV_B, "model.layers.#.self_attn.kv_b_proj.weight", "blk.#.attn_kv_b.weight"},
    {TD_SLOT_K_B, NULL, "blk.#.attn_k_b.weight"},
    {TD_SLOT_V_B, NULL, "blk.#.attn_v_b.weight"},
    {TD_SLOT_ROUTER_BIAS, "model.layers.#.mlp.gate.e_score_correction_bias", "blk.#.exp_probs_b.bias"},
    {TD_SLOT_SHARED_GATE, "model.layers.#.mlp.shared_experts.gate_proj.weight", "blk.#.ffn_gate_shexp.weight"},
    {TD_SLOT_SHARED_UP, "model.layers.#.mlp.shared_experts.up_proj.weight", "blk.#.ffn_up_shexp.weight"},
    {TD_SLOT_SHARED_DOWN, "model.layers.#.mlp.shared_experts.down_proj.weight", "blk.#.ffn_down_shexp.weight"},
};

static const struct { const char *name, *architecture; const spelling *rows; size_t count; } families[TD_FAMILIES] = {
    [TD_FAMILY_NONE] = {"?", "?", NULL, 0},
    [TD_FAMILY_STEP3] = {"step3", "step3", step3, TD_COUNT(step3)},
    [TD_FAMILY_QWEN3] = {"qwen3", "qwen3", qwen3, TD_COUNT(qwen3)},
    [TD_FAMILY_QWEN3_MOE] = {"qwen3_moe", "qwen3moe", qwen3_moe, TD_COUNT(qwen3_moe)},
    [TD_FAMILY_LLAMA] = {"llama", "llama", llama, TD_COUNT(llama)},
    [TD_FAMILY_DEEPSEEK] = {"deepseek", "deepseek2", deepseek, TD_COUNT(deepseek)},
};

/* Instead of "model." in front of the body; the published spelling first. */
static const char *const prefixes[] = {"model.", "model.language_model.", "language_model.model.", "language_model.", ""};

const char *td_family_name(td_family family) { return (unsigned)family < TD_FAMILIES ? families[family].name : "?"; }
const char *td_family_architecture(td_family family) { return (unsigned)family < TD_FAMILIES ? families[family].architecture : "?"; }

bool td_family_is_v3(const char *type) { return !strcmp(type, "deepseek_v3") || !strcmp(type, "kimi_k2"); }

td_family_defaults td_family_get_defaults(td_family family, bool v3, td_format format)
{
    bool mfa = family == TD_FAMILY_STEP3;
    td_family_defaults d = {.rope_theta = mfa ? 500000 : 10000, .norm_eps = mfa ? 1e-5 : 1e-6, .routed_scale = 1, .groups = 1, .groups_used = 1};
    if (format == TD_FORMAT_GGUF) return d;
    if (family == TD_FAMILY_QWEN3) d.kv_heads = 32, d.head_dim = 128;
    if (family == TD_FAMILY_QWEN3_MOE) d.kv_heads = 4;
    if (family == TD_FAMILY_DEEPSEEK) d.shared_experts = v3 ? 1 : 2;
    if (family == TD_FAMILY_DEEPSEEK && v3) d.routed_scale = 2.5, d.groups = 8, d.groups_used = 4, d.first_dense = 3;
    return d;
}

const char *td_slot_name(td_slot slot) { return (unsigned)slot < TD_SLOTS ? slots[slot].name : "?"; }
td_slot_kind td_slot_get_kind(td_slot slot) { return slots[slot].kind; }
char td_slot_side(td_slot slot) { return slots[slot].side; }
bool td_slot_per_layer(td_slot slot) { return slots[slot].per_layer; }

td_family td_family_of(const td_checkpoint *checkpoint, const char **found)
{
    static const struct { const char *word; td_family family; } types[] = {
        {"step3_vl", TD_FAMILY_STEP3}, {"step3_text", TD_FAMILY_STEP3}, {"step3", TD_FAMILY_STEP3}, {"qwen3", TD_FAMILY_QWEN3}, {"qwen3_moe", TD_FAMILY_QWEN3_MOE},
        {"llama", TD_FAMILY_LLAMA}, {"deepseek_v2", TD_FAMILY_DEEPSEEK}, {"deepseek_v3", TD_FAMILY_DEEPSEEK}, {"kimi_k2", TD_FAMILY_DEEPSEEK}};
    if (found) *found = NULL;
    if (td_checkpoint_format(checkpoint) == TD_FORMAT_GGUF) {
        const char *word;
        size_t bytes;
        if (!td_gguf_string(checkpoint, "general.architecture", &word, &bytes)) return TD_FAMILY_NONE;
        for (int f = TD_FAMILY_NONE + 1; f < TD_FAMILIES; f++)
            if (strlen(families[f].architecture) == bytes && !memcmp(families[f].architecture, word, bytes)) return (td_family)f;
        static _Thread_local char copy[64];
        snprintf(copy, sizeof copy, "%.*s", (int)TD_MIN(bytes, sizeof copy - 1), word);
        if (found) *found = copy;
        return TD_FAMILY_NONE;
    }
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(td_checkpoint_config(checkpoint), "model_type");
    if (!cJSON_IsString(type)) return TD_FAMILY_NONE;
    for (size_t i = 0; i < TD_COUNT(types); i++)
        if (!strcmp(types[i].word, type->valuestring)) return types[i].family;
    if (found) *found = type->valuestring;
    return TD_FAMILY_NONE;
}

static const char *pattern_of(td_family family, td_format format, td_slot slot)
{
    for (size_t i = 0; i < families[family].count; i++)
        if (families[family].rows[i].slot == slot) return format == TD_FORMAT_GGUF ? families[family].rows[i].gguf : families[family].rows[i].hf;
    return NULL;
}

static void fill(const char *prefix, const char *pattern, int layer, int expert, char out[TD_NAME_MAX])
{
    size_t at = (size_t)snprintf(out, TD_NAME_MAX, "%s", prefix);
    for (const char *p = pattern; *p && at + 12 < TD_NAME_MAX; p++) {
        if (*p == '#' || *p == '@') at += (size_t)snprintf(out + at, TD_NAME_MAX - at, "%d", *p == '#' ? layer : expert);
        else out[at++] = *p;
    }
    out[at] = 0;
}

bool td_name_write(td_family family, td_format format, td_slot slot, int layer, int expert, char out[TD_NAME_MAX])
{
    const char *pattern = pattern_of(family, format, slot);
    if (!pattern) return false;
    fill("", pattern, layer, expert, out);
    return true;
}

/* A number without leading zeros below a million, or -1; *text moves behind it. */
static int read_number(const char **text)
{
    int value = 0, digits = 0;
    const char *t = *text;
    while (*t >= '0' && *t <= '9' && digits < 6) value = value * 10 + (*t++ - '0'), digits++;
    if (digits == 0 || (digits > 1 && **text == '0') || (*t >= '0' && *t <= '9')) return -1;
    *text = t;
    return value;
}

static bool matches(const char *pattern, const char *name, td_name *out)
{
    td_name found = {.slot = out->slot, .layer = -1, .expert = -1};
    for (; *pattern; pattern++) {
        if (*pattern == '#' || *pattern == '@') {
            int number = read_number(&name);
            if (number < 0) return false;
            if (*pattern == '#') found.layer = number;
            else found.expert = number;
        } else if (*name++ != *pattern) {
            return false;
        }
    }
    if (*name) return false;
    *out = found;
    return true;
}

/* The part of a pattern behind "model.", or the whole with no such front (lm_head). */
static const char *body_of(const char *pattern) { return !strncmp(pattern, "model.", 6) ? pattern + 6 : pattern; }

bool td_name_read(td_family family, td_format format, const char *name, td_name *out)
{
    for (size_t i = 0; i < families[family].count; i++) {
        const spelling *row = &families[family].rows[i];
        td_name found = {.slot = row->slot};
        if (format == TD_FORMAT_GGUF) {
            if (!row->gguf || !matches(row->gguf, name, &found)) continue;
            *out = found;
            return true;
        }
        if (!row->hf) continue;
        for (size_t p = 0; p < TD_COUNT(prefixes); p++) {
            size_t length = strlen(prefixes[p]);
            if (strncmp(name, prefixes[p], length) || !matches(body_of(row->hf), name + length, &found)) continue;
            *out = found;
            return true;
        }
    }
    return false;
}

const td_tensor *td_names_find(const td_checkpoint *checkpoint, td_family family, td_slot slot, int layer, int expert)
{
    td_format format = td_checkpoint_format(checkpoint);
    const char *pattern = pattern_of(family, format, slot);
    if (!pattern) return NULL;
    char name[TD_NAME_MAX];
    fill("", pattern, layer, expert, name);
    const td_tensor *found = td_checkpoint_find(checkpoint, name);
    for (size_t p = 0; !found && format == TD_FORMAT_SAFETENSORS && p < TD_COUNT(prefixes); p++) {
        fill(prefixes[p], body_of(pattern), layer, expert, name);
        found = td_checkpoint_find(checkpoint, name);
    }
    return found;
}

/* Rows first .. first+rows-1 of a matrix, scales included; first is a multiple of 128 for F8 tensors. */
static td_tensor rows_of(const td_tensor *m, int64_t first, int64_t rows)
{
    td_tensor part = *m;
    part.shape[0] = rows;
    part.data = (const char *)m->data + (size_t)first * td_dtype_row_bytes(m->type, m->shape[1]);
    if (m->scale) part.scale = m->scale + first / TD_F8_BLOCK * ((m->shape[1] + TD_F8_BLOCK - 1) / TD_F8_BLOCK);
    return part;
}

static td_status slice_stacked(const td_tensor *stacked, int expert, td_tensor *out)
{
    if (stacked->dims != 3) return td_fail(TD_E_FORMAT, "tensor %s: expected three dimensions (experts, out, in), found %d", stacked->name, stacked->dims);
    if (expert < 0 || expert >= stacked->shape[0])
        return td_fail(TD_E_FORMAT, "tensor %s: expected at least %d experts, found %lld", stacked->name, expert + 1, (long long)stacked->shape[0]);
    *out = td_tensor_slice(stacked, expert);
    return TD_OK;
}

td_status td_names_expert(const td_checkpoint *checkpoint, td_family family, td_slot part, int layer, int expert, td_tensor *out)
{
    const td_tensor *found = td_names_find(checkpoint, family, part, layer, expert);
    if (found) {
        *out = *found;
        return TD_OK;
    }
    td_slot all = part == TD_SLOT_EXPERT_GATE ? TD_SLOT_EXPERTS_GATE : part == TD_SLOT_EXPERT_UP ? TD_SLOT_EXPERTS_UP : TD_SLOT_EXPERTS_DOWN;
    found = td_names_find(checkpoint, family, all, layer, 0);
    if (found) return slice_stacked(found, expert, out);
    if (part != TD_SLOT_EXPERT_DOWN && (found = td_names_find(checkpoint, family, TD_SLOT_EXPERTS_GATE_UP, layer, 0))) {
        td_tensor both;
        TD_TRY(slice_stacked(found, expert, &both));
        int64_t half = both.shape[0] / 2;
        if (both.shape[0] % 2 || (found->scale && half % TD_F8_BLOCK))
            return td_fail(TD_E_FORMAT, "tensor %s: gate and up of %lld joined rows cannot be told apart", found->name, (long long)both.shape[0]);
        *out = rows_of(&both, part == TD_SLOT_EXPERT_UP ? half : 0, half);
        return TD_OK;
    }
    char name[TD_NAME_MAX];
    td_format format = td_checkpoint_format(checkpoint);
    if (!td_name_write(family, format, part, layer, expert, name)) td_name_write(family, format, all, layer, expert, name);
    return td_fail(TD_E_NOT_FOUND, "checkpoint %s: tensor %s is missing", td_checkpoint_path(checkpoint), name);
}
