/*
 * gguf.c - a GGUF file, reduced to what costs time. Its metadata keys are spelled as config.json would spell them, so that model.c reads both; which layers
 * have experts, and the bytes that one parameter of each side really takes, come from the tensors.
 */
#include "plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"

typedef struct { const td_checkpoint *file; char architecture[48]; cJSON *config; } translation;

/* One architecture key, a scalar or the first element of a per-layer array, under its config.json name. */
static double put(translation *t, const char *key, const char *name)
{
    char full[128];
    int64_t value = 0;
    snprintf(full, sizeof full, "%s.%s", t->architecture, key);
    if (!td_gguf_i64(t->file, full, &value) && !td_gguf_array_i64(t->file, full, 0, &value)) return 0;
    if (name) cJSON_AddNumberToObject(t->config, name, (double)value);
    return (double)value;
}

/* A key with a value of its own, in the place of a 0 that the file has. */
static void put_instead(translation *t, const char *name, double value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(t->config, name);
    cJSON_AddNumberToObject(t->config, name, value);
}

/* "sliding_window_pattern" (true: sliding) as layer_types. */
static void put_pattern(translation *t, int layers)
{
    char full[128];
    size_t count;
    int64_t value;
    snprintf(full, sizeof full, "%s.attention.sliding_window_pattern", t->architecture);
    if (!td_gguf_array_count(t->file, full, &count)) return;
    cJSON *types = cJSON_AddArrayToObject(t->config, "layer_types");
    for (int l = 0; l < layers && (size_t)l < count; l++)
        cJSON_AddItemToArray(types, cJSON_CreateString(td_gguf_array_i64(t->file, full, (size_t)l, &value) && value ? "sliding_attention" : "full_attention"));
}

static void put_attention(translation *t)
{
    double heads = put(t, "attention.head_count", "num_attention_heads"), rank = put(t, "attention.kv_lora_rank", "kv_lora_rank");
    double key = put(t, "attention.key_length", NULL), key_mla = put(t, "attention.key_length_mla", NULL), value = put(t, "attention.value_length", NULL), value_mla = put(t, "attention.value_length_mla", NULL);
    if (rank > 0) {
        double rope = put(t, "rope.dimension_count", "qk_rope_head_dim"), true_key = key_mla > 0 ? key_mla : key;
        cJSON_AddNumberToObject(t->config, "qk_nope_head_dim", true_key - rope);
        cJSON_AddNumberToObject(t->config, "v_head_dim", value_mla > 0 ? value_mla : value);
        put(t, "attention.q_lora_rank", "q_lora_rank");
        return;
    }
    if (key > 0) cJSON_AddNumberToObject(t->config, "head_dim", key);
    if (put(t, "attention.head_count_kv", "num_key_value_heads") < 1 && heads > 0) put_instead(t, "num_key_value_heads", heads);
    put(t, "attention.q_lora_rank", "share_q_dim"); /* a low-rank query without a latent cache: MFA */
    put(t, "attention.sliding_window", "sliding_window");
}

static void put_ffn(translation *t, int layers)
{
    double width = put(t, "feed_forward_length", "intermediate_size");
    if (put(t, "expert_count", "num_experts") < 1) return;
    double used = put(t, "expert_used_count", "num_experts_per_tok");
    if (put(t, "expert_feed_forward_length", "moe_intermediate_size") < 1 && used > 0) put_instead(t, "moe_intermediate_size", floor(width / used));
    if (put(t, "expert_shared_feed_forward_length", "share_expert_dim") < 1) put(t, "expert_shared_count", "n_shared_experts");
    cJSON *list = cJSON_AddArrayToObject(t->config, "moe_layers_enum");
    for (int l = 0; l < layers; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", l);
        if (td_checkpoint_find(t->file, name)) cJSON_AddItemToArray(list, cJSON_CreateNumber(l));
    }
}

/* Bytes of one parameter of each side, as stored. */
static void weigh(const td_checkpoint *file, plan_model *m)
{
    double bytes[3] = {0}, parameters[3] = {0};
    for (size_t i = 0; i < td_checkpoint_count(file); i++) {
        const td_tensor *t = td_checkpoint_at(file, i);
        const char *name = t->name ? t->name : "";
        if (t->dims < 2 || strstr(name, "ffn_gate_inp") || strstr(name, "nextn")) continue;
        int side = strstr(name, ".ffn_") ? 1 : strstr(name, ".attn_") ? 0 : !strcmp(name, "output.weight") || (!strcmp(name, "token_embd.weight") && parameters[2] == 0) ? 2 : -1;
        if (side < 0) continue;
        if (side == 2) bytes[2] = parameters[2] = 0; /* the head's own matrix counts, not the embedding's */
        bytes[side] += (double)td_tensor_bytes(t);
        parameters[side] += (double)td_tensor_elements(t);
    }
    if (parameters[0] > 0) m->attention_weight_bytes = bytes[0] / parameters[0];
    if (parameters[1] > 0) m->ffn_weight_bytes = bytes[1] / parameters[1];
    if (parameters[2] > 0) m->head_weight_bytes = bytes[2] / parameters[2];
    m->tied_embeddings = !td_checkpoint_find(file, "output.weight");
}

static td_status translate(translation *t, const char *path, plan_model *out)
{
    const char *architecture;
    size_t bytes, tokens;
    if (!td_gguf_string(t->file, "general.architecture", &architecture, &bytes) || bytes == 0 || bytes >= sizeof t->architecture)
        return td_fail(TD_E_FORMAT, "file %s: expected 'general.architecture', found none", path);
    memcpy(t->architecture, architecture, bytes);
    double blocks = put(t, "block_count", NULL) - put(t, "nextn_predict_layers", NULL);
    int layers = blocks >= 1 && blocks <= PLAN_LAYERS_MAX ? (int)blocks : 0;
    cJSON_AddNumberToObject(t->config, "num_hidden_layers", layers);
    put(t, "embedding_length", "hidden_size");
    put(t, "context_length", "max_position_embeddings");
    if (put(t, "vocab_size", "vocab_size") < 1) {
        const td_tensor *embedding = td_checkpoint_find(t->file, "token_embd.weight");
        if (td_gguf_array_count(t->file, "tokenizer.ggml.tokens", &tokens)) put_instead(t, "vocab_size", (double)tokens);
        else if (embedding) put_instead(t, "vocab_size", (double)embedding->shape[0]);
    }
    put_attention(t);
    put_pattern(t, layers);
    put_ffn(t, layers);
    TD_TRY(plan_model_from_config(t->config, path, out));
    weigh(t->file, out);
    snprintf(out->source, sizeof out->source, "%.150s", path);
    return TD_OK;
}

td_status plan_model_from_gguf(const char *path, plan_model *out)
{
    td_checkpoint *file;
    plan_model model;
    TD_TRY(td_checkpoint_open(path, &file));
    translation t = {.file = file, .config = cJSON_CreateObject()};
    td_status status = t.config ? translate(&t, path, &model) : td_fail(TD_E_MEMORY, "no memory");
    cJSON_Delete(t.config);
    td_checkpoint_close(file);
    if (status == TD_OK) *out = model;
    return status;
}
