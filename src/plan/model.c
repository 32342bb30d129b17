/*
 * model.c - a config.json, reduced to what costs time. Reads the keys of the published families; a key that is missing and has no safe default, or holds
 * what is no whole number in its range, is an error that names it. The table of published configurations (data/plan/models.json) holds the same keys, so there is one path.
 */
#include "plan/plan.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"

extern const char plan_models_json[];

static const char *const kind_names[] = {"MHA", "GQA", "MQA", "MFA", "MLA", "linear"};
const char *plan_kind_name(plan_kind kind) { return kind_names[kind]; }

/* ---- reading keys ---- */

typedef struct { const cJSON *root; const char *name; td_status status; char key[64]; /* the last that held something */ } reader;

/* Lists, objects, false and null stand in published configurations where this file knows only numbers: they say nothing. */
static bool says(const reader *r, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->root, key);
    return cJSON_IsNumber(item) || cJSON_IsString(item) || cJSON_IsTrue(item);
}

/* The first of the '|'-separated keys that says something: a whole number in min..max, or an error that stays in r->status. */
static bool number(reader *r, const char *keys, double min, double max, double *out)
{
    char copy[256], *rest = copy, found[32];
    snprintf(copy, sizeof copy, "%s", keys);
    for (char *key; (key = strsep(&rest, "|"));) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->root, key);
        if (!says(r, key)) continue;
        snprintf(r->key, sizeof r->key, "%s", key);
        snprintf(found, sizeof found, "%.15g", item->valuedouble);
        double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
        if (value >= min && value <= max && value == floor(value)) *out = value;
        else if (r->status == TD_OK)
            r->status = td_fail(TD_E_FORMAT, "model %s: expected '%s' to be a whole number between %.0f and %.0f, found %s", r->name, key, min, max, cJSON_IsString(item) ? "a string" : cJSON_IsTrue(item) ? "true" : found);
        return true;
    }
    return false;
}

/* Where 0 means "none". */
static double optional(reader *r, const char *keys, double fallback, double max)
{
    double value = fallback;
    number(r, keys, 0, max, &value);
    return value;
}

static double positive(reader *r, const char *keys, double fallback, double max)
{
    double value = fallback;
    number(r, keys, 1, max, &value);
    return value;
}

/* A whole number in 1..max, or an error that stays in r->status. */
static int required(reader *r, const char *keys, double max)
{
    double value = 1;
    if (r->status < 0) return 1;
    if (!number(r, keys, 1, max, &value)) r->status = td_fail(TD_E_FORMAT, "model %s: expected '%s' in the configuration, found none", r->name, keys);
    return (int)value;
}

/* The heads of keys and values that were read last. */
static int divisor(reader *r, int kv_heads, int heads)
{
    if (r->status == TD_OK && heads % kv_heads) r->status = td_fail(TD_E_FORMAT, "model %s: expected '%s' to divide the %d attention heads, found %d", r->name, r->key, heads, kv_heads);
    return kv_heads;
}

static bool flag(const reader *r, const char *key) { return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(r->root, key)); }

static const char *text(const reader *r, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->root, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* ---- attention ---- */

static plan_attention grouped(int hidden, int heads, int kv_heads, int head_dim)
{
    plan_attention a = {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    a.kind = kv_heads == heads ? PLAN_MHA : kv_heads == 1 ? PLAN_MQA : PLAN_GQA;
    a.kv_values = 2.0 * kv_heads * head_dim;
    a.core_flops = a.core_flops_paper = 4.0 * heads * head_dim;
    a.parameters = 2.0 * hidden * heads * head_dim + 2.0 * hidden * kv_heads * head_dim;
    return a;
}

static plan_attention latent(reader *r, int hidden, int heads)
{
    double kv = required(r, "kv_lora_rank", 65536), rope = required(r, "qk_rope_head_dim", 65536), nope = required(r, "qk_nope_head_dim", 65536);
    double v = required(r, "v_head_dim", 65536), q = optional(r, "q_lora_rank", 0, 1e6);
    plan_attention a = {.kind = PLAN_MLA, .heads = heads, .kv_heads = 1, .head_dim = (int)(kv + rope)};
    a.kv_values = kv + rope;
    a.core_flops = 2.0 * heads * (kv + rope + kv); /* absorbed: scores over latent and rope, values over the latent */
    a.core_flops_paper = 4.0 * heads * (kv + rope);
    a.parameters = (q > 0 ? hidden * q + q * heads * (nope + rope) : hidden * heads * (nope + rope)) + hidden * (kv + rope) + kv * heads * (nope + v) + heads * v * hidden;
    double index_heads = optional(r, "index_n_heads", 0, 65536), index_dim = optional(r, "index_head_dim", 0, 65536), top = optional(r, "index_topk", 0, 1e9);
    if (index_heads > 0 && top > 0) {
        a.read_max = top;
        a.index_bytes = index_dim; /* an FP8 key per token */
        a.index_flops = 2.0 * index_heads * index_dim;
        a.parameters += (q > 0 ? q : hidden) * index_heads * index_dim + hidden * index_dim + hidden * index_heads;
        a.note = "sparse top-k reads";
    }
    return a;
}

static plan_attention factored(reader *r, int hidden, int heads, int head_dim)
{
    double q = required(r, "share_q_dim", 1e6);
    plan_attention a = grouped(hidden, heads, 1, head_dim);
    a.kind = PLAN_MFA;
    a.parameters = hidden * q + q * heads * head_dim + 2.0 * hidden * head_dim + (double)heads * head_dim * hidden;
    return a;
}

/* MiniMax lightning attention: FP32 state head_dim x head_dim a head; 10 FLOPs an element is what the paper's tables need. Query, key, value, gate, output. */
static plan_attention lightning(int hidden, int heads, int head_dim)
{
    plan_attention a = {.kind = PLAN_LINEAR, .heads = heads, .kv_heads = heads, .head_dim = head_dim, .note = "lightning state"};
    double elements = (double)heads * head_dim * head_dim;
    a.state_bytes = 4 * elements;
    a.state_flops = 10 * elements;
    a.parameters = 5.0 * hidden * heads * head_dim;
    return a;
}

/* Gated delta layers of Qwen3-Next and later: FP32 state key_dim x value_dim a value head. */
static plan_attention delta(reader *r, int hidden)
{
    double key_heads = required(r, "linear_num_key_heads", 65536), value_heads = required(r, "linear_num_value_heads", 65536);
    double key_dim = required(r, "linear_key_head_dim", 65536), value_dim = required(r, "linear_value_head_dim", 65536);
    plan_attention a = {.kind = PLAN_LINEAR, .heads = (int)value_heads, .kv_heads = (int)key_heads, .head_dim = (int)value_dim, .note = "gated delta state"};
    double elements = value_heads * key_dim * value_dim;
    a.state_bytes = 4 * elements;
    a.state_flops = 10 * elements;
    a.parameters = hidden * (2 * key_heads * key_dim + 3 * value_heads * value_dim + 2 * value_heads);
    return a;
}

/* Attention layers differ: group 0 is "full", group 1 the other kind. choose tells which layer is which. */
static void other_group(plan_model *m, plan_attention other, bool (*is_other)(reader *r, int layer), reader *r)
{
    m->attention[m->attention_groups++] = other;
    for (int l = 0; l < m->layers; l++) m->layer_attention[l] = is_other(r, l) ? 1 : 0;
}

static bool other_by_layer_types(reader *r, int layer)
{
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(r->root, "layer_types");
    if (cJSON_IsArray(types)) {
        const cJSON *item = cJSON_GetArrayItem(types, layer);
        return cJSON_IsString(item) && strcmp(item->valuestring, "full_attention") != 0;
    }
    double interval = optional(r, "full_attention_interval|no_rope_layer_interval|sliding_window_pattern", 0, 1000);
    return interval >= 2 ? (layer + 1) % (int)interval != 0 : true;
}

static bool other_by_attn_type_list(reader *r, int layer)
{
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(r->root, "attn_type_list"), layer);
    return cJSON_IsNumber(item) && item->valuedouble == 0;
}

static plan_attention windowed(plan_attention a, double window, const char *note)
{
    a.read_max = window;
    a.cache_limited = true;
    a.note = note;
    return a;
}

static void read_attention(reader *r, plan_model *m)
{
    int heads = required(r, "num_attention_heads", 65536);
    if (says(r, "kv_lora_rank")) {
        m->attention[m->attention_groups++] = latent(r, m->hidden, heads);
        return;
    }
    int head_dim = (int)positive(r, "head_dim", m->hidden / heads, 65536);
    int kv_heads = divisor(r, (int)positive(r, "num_key_value_heads|num_attention_groups|num_kv_heads", heads, heads), heads);
    if (r->status == TD_OK && head_dim < 1) r->status = td_fail(TD_E_FORMAT, "model %s: expected 'head_dim', or 'num_attention_heads' of at most the hidden size %d, found %d", r->name, m->hidden, heads);
    if (r->status < 0) return;
    if (says(r, "share_q_dim")) {
        m->attention[m->attention_groups++] = factored(r, m->hidden, heads, head_dim);
        return;
    }
    plan_attention full = grouped(m->hidden, heads, kv_heads, head_dim);
    if (flag(r, "attn_output_gate")) full.parameters += (double)m->hidden * heads * head_dim;
    if (flag(r, "use_head_wise_attn_gate")) full.parameters += (double)m->hidden * heads;
    m->attention[m->attention_groups++] = full;
    double window = optional(r, "sliding_window", 0, 1e9), chunk = optional(r, "attention_chunk_size", 0, 1e9);
    bool window_on = window > 0 && !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(r->root, "use_sliding_window"));
    if (cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(r->root, "attn_type_list"))) other_group(m, lightning(m->hidden, heads, head_dim), other_by_attn_type_list, r);
    else if (says(r, "linear_num_value_heads")) other_group(m, delta(r, m->hidden), other_by_layer_types, r);
    else if (chunk > 0) other_group(m, windowed(full, chunk, "chunked"), other_by_layer_types, r);
    else if (window_on) {
        plan_attention slide = full;
        reader other = {.root = cJSON_GetObjectItemCaseSensitive(r->root, "attention_other_setting"), .name = r->name};
        if (other.root) {
            int other_heads = required(&other, "num_attention_heads", 65536), other_kv = divisor(&other, required(&other, "num_attention_groups", other_heads), other_heads);
            slide = grouped(m->hidden, other_heads, other_kv, (int)positive(&other, "head_dim", head_dim, 65536));
            if (r->status == TD_OK) r->status = other.status;
            if (flag(r, "use_head_wise_attn_gate")) slide.parameters += (double)m->hidden * other_heads;
        }
        other_group(m, windowed(slide, window, "sliding window"), other_by_layer_types, r);
    }
}

/* ---- FFN ---- */

/* Marks the layers of "4,5,6" or [4,5,6]; false when the key is absent. */
static bool marked_layers(const reader *r, const char *key, bool *marks, int layers)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(r->root, key);
    if (cJSON_IsArray(list)) {
        const cJSON *item;
        cJSON_ArrayForEach(item, list) if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < layers) marks[(int)item->valuedouble] = true;
        return true;
    }
    if (!cJSON_IsString(list)) return false;
    for (const char *at = list->valuestring; *at;) {
        char *end;
        long layer = strtol(at, &end, 10);
        if (end == at) at++;
        else {
            if (layer >= 0 && layer < layers) marks[layer] = true;
            at = end;
        }
    }
    return true;
}

static void moe_layers(reader *r, bool *moe, int layers)
{
    if (marked_layers(r, "moe_layers_enum", moe, layers)) return;
    int first = (int)optional(r, "first_k_dense_replace|moe_layer_start_index", 0, PLAN_LAYERS_MAX);
    int step = (int)optional(r, "interleave_moe_layer_step|decoder_sparse_step|moe_layer_freq", 1, PLAN_LAYERS_MAX);
    if (step < 1) step = 1;
    bool dense[PLAN_LAYERS_MAX] = {0};
    marked_layers(r, "mlp_only_layers", dense, layers);
    for (int l = 0; l < layers; l++) moe[l] = l >= first && (l + 1) % step == 0 && !dense[l];
}

static void read_ffn(reader *r, plan_model *m)
{
    double experts = optional(r, "n_routed_experts|num_experts|num_local_experts|moe_num_experts", 0, 1e6), h = m->hidden;
    if (experts < 1) {
        m->ffn[m->ffn_groups++] = (plan_ffn){.shared_parameters = 3 * h * required(r, "intermediate_size", 1e7)};
        return;
    }
    double width = positive(r, "moe_intermediate_size", 0, 1e7), dense = optional(r, "intermediate_size_mlp", 0, 1e7);
    if (width < 1) width = required(r, "intermediate_size", 1e7);
    if (dense < 1) dense = optional(r, "intermediate_size", width, 1e7);
    plan_ffn f = {.experts = (int)experts, .top_k = required(r, "num_experts_per_tok|experts_per_token|moe_top_k|moe_k", experts)};
    double shared = optional(r, "share_expert_dim|shared_expert_intermediate_size|share_expert_dims", 0, 1e7);
    if (shared < 1) shared = width * optional(r, "n_shared_experts|num_shared_experts|moe_num_shared_experts", strncmp(text(r, "model_type"), "llama4", 6) ? 0 : 1, 64);
    f.expert_parameters = 3 * h * width;
    f.shared_parameters = 3 * h * shared;
    f.router_parameters = h * experts;
    m->ffn[m->ffn_groups++] = f;
    bool moe[PLAN_LAYERS_MAX] = {0}, any_dense = false;
    moe_layers(r, moe, m->layers);
    for (int l = 0; l < m->layers; l++) {
        m->layer_ffn[l] = moe[l] ? 0 : 1;
        any_dense |= !moe[l];
    }
    if (any_dense) m->ffn[m->ffn_groups++] = (plan_ffn){.shared_parameters = 3 * h * dense};
}

/* ---- the whole ---- */

static void count_groups(plan_model *m)
{
    for (int l = 0; l < m->layers; l++) {
        m->attention[m->layer_attention[l]].layers++;
        m->ffn[m->layer_ffn[l]].layers++;
    }
}

td_status plan_model_from_config(const cJSON *config, const char *name, plan_model *out)
{
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(config, "text_config");
    reader r = {.root = cJSON_IsObject(inner) ? inner : config, .name = name};
    if (!cJSON_IsObject(config)) return td_fail(TD_E_FORMAT, "model %s: expected a JSON object as configuration", name);
    plan_model m = {0};
    snprintf(m.name, sizeof m.name, "%s", name);
    m.hidden = required(&r, "hidden_size", 1e6);
    m.layers = required(&r, "num_hidden_layers", PLAN_LAYERS_MAX);
    m.vocab = required(&r, "vocab_size", 1e8);
    m.context_max = (int)optional(&r, "max_position_embeddings|max_position_embedding|max_seq_len", 0, 1e9);
    m.tied_embeddings = flag(&r, "tie_word_embeddings");
    if (r.status == TD_OK) read_attention(&r, &m);
    if (r.status == TD_OK) read_ffn(&r, &m);
    if (r.status < 0) return r.status;
    count_groups(&m);
    *out = m;
    return TD_OK;
}

void plan_model_kinds(const plan_model *model, td_buffer *out)
{
    for (int g = 0; g < model->attention_groups; g++) {
        const plan_attention *a = &model->attention[g];
        if (a->layers == 0) continue;
        td_buffer_format(out, "%s%s", out->bytes ? " + " : "", plan_kind_name(a->kind));
        if (a->note && a->read_max > 0) td_buffer_format(out, " (%s %.0f, %d layers)", a->note, a->read_max, a->layers);
        else if (model->attention_groups > 1) td_buffer_format(out, " (%s%s%d layers)", a->note ? a->note : "", a->note ? ", " : "", a->layers);
    }
}

/* ---- the table of names ---- */

bool plan_model_at(int index, char *name, size_t bytes)
{
    cJSON *table = cJSON_Parse(plan_models_json);
    const cJSON *item = cJSON_GetArrayItem(table, index);
    if (item) snprintf(name, bytes, "%s", cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring);
    cJSON_Delete(table);
    return item != NULL;
}

static td_status from_table(const cJSON *entry, plan_model *out)
{
    const char *name = cJSON_GetObjectItemCaseSensitive(entry, "name")->valuestring;
    TD_TRY(plan_model_from_config(cJSON_GetObjectItemCaseSensitive(entry, "config"), name, out));
    snprintf(out->source, sizeof out->source, "table of published configurations (%s)", cJSON_GetObjectItemCaseSensitive(entry, "source")->valuestring);
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(entry, "plan"), "full_kv_bytes");
    if (cJSON_IsNumber(full)) out->attention[0].kv_value_bytes = full->valuedouble;
    return TD_OK;
}

static td_status from_file(const char *path, plan_model *out)
{
    char *contents;
    size_t bytes;
    TD_TRY(td_file_read(path, 16 << 20, &contents, &bytes));
    cJSON *config = cJSON_ParseWithLength(contents, bytes);
    free(contents);
    if (!config) return td_fail(TD_E_FORMAT, "file %s: expected JSON, found something else", path);
    td_status status = plan_model_from_config(config, path, out);
    cJSON_Delete(config);
    if (status == TD_OK) snprintf(out->source, sizeof out->source, "%s", path);
    return status;
}

static bool ends_with(const char *text_, const char *end)
{
    size_t n = strlen(text_), k = strlen(end);
    return n >= k && !strcasecmp(text_ + n - k, end);
}

/* The entry called name, or NULL and the nearest name. */
static const cJSON *entry_named(const cJSON *table, const char *name, char *nearest, size_t bytes)
{
    int nearest_steps = 1000;
    const cJSON *entry, *alias;
    cJSON_ArrayForEach(entry, table) {
        const char *known = cJSON_GetObjectItemCaseSensitive(entry, "name")->valuestring;
        int steps = plan_distance(known, name);
        cJSON_ArrayForEach(alias, cJSON_GetObjectItemCaseSensitive(entry, "aliases")) steps = TD_MIN(steps, plan_distance(alias->valuestring, name));
        if (steps == 0) return entry;
        if (steps < nearest_steps) {
            nearest_steps = steps;
            snprintf(nearest, bytes, "%s", known);
        }
    }
    return NULL;
}

td_status plan_model_find(const char *name, plan_model *out)
{
    if (!name || !*name) return td_fail(TD_E_INVALID, "expected a model: a name ('tandem plan --list-models'), a folder with config.json, or a GGUF file");
    char nearest[96] = "";
    cJSON *table = cJSON_Parse(plan_models_json);
    if (!table) return td_fail(TD_E_MEMORY, "no memory for the table of models");
    const cJSON *entry = entry_named(table, name, nearest, sizeof nearest);
    td_status status = entry ? from_table(entry, out) : TD_E_NOT_FOUND;
    cJSON_Delete(table);
    if (entry) return status;
    if (td_path_is_directory(name)) {
        char *path = td_path_join(name, "config.json");
        if (!path) return td_fail(TD_E_MEMORY, "no memory");
        status = from_file(path, out);
        free(path);
        if (status == TD_OK) snprintf(out->name, sizeof out->name, "%s", name);
        return status;
    }
    if (td_path_exists(name)) return ends_with(name, ".gguf") ? plan_model_from_gguf(name, out) : from_file(name, out);
    return td_fail(TD_E_NOT_FOUND, "model '%s': neither a file, a folder nor a known name; the nearest known name is '%s' ('tandem plan --list-models' lists all)", name, nearest);
}
