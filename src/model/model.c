/* model.c - opening a model: checkpoint, family, description, the tables of the wings, tokenizer and chat template; and what it says about itself. */
#define _GNU_SOURCE
#include "text/grammar.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "checkpoint/layout.h"
#include "kernel/kernel.h"
#include "model/load.h"

/* "auto" lays weights out anew if they fill at most this share of memory */
#define PACKED_SHARE 0.5

/* ---- where the shipped model lies ---------------------------------------------------------------------------------------------------- */

/* Beside the program: ../models/nano (build folder), ../share/tandem/nano (installed). */
static char *shipped_path(void)
{
    static const char *const places[] = {"../models/nano", "models/nano", "../share/tandem/nano"};
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return NULL;
    self[length] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    for (size_t i = 0; i < TD_COUNT(places); i++) {
        char *path = td_path_join(self, places[i]);
        if (path && td_path_exists(path)) return path;
        free(path);
    }
    return NULL;
}

/* ---- options ------------------------------------------------------------------------------------------------------------------------- */

/* "0-23,40" over count entries. NULL text: NULL (all). */
static td_status parse_ranges(const char *what, const char *text, int count, td_arena *arena, const bool **out)
{
    *out = NULL;
    if (!text) return TD_OK;
    bool *wanted = TD_NEW(arena, bool, (size_t)count);
    if (!wanted) return TD_E_MEMORY;
    if (!*text) return td_fail(TD_E_INVALID, "%s: expected ranges like 0-23,40 below %d, found nothing", what, count);
    for (const char *at = text; *at;) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        bool fine = end != at && *at >= '0' && *at <= '9';
        if (fine && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            fine = end != at && *at >= '0' && *at <= '9';
        }
        if (!fine || first > last || last >= count || (*end && *end != ',')) return td_fail(TD_E_INVALID, "%s: expected ranges like 0-23,40 below %d, found '%s'", what, count, text);
        for (long i = first; i <= last; i++) wanted[i] = true;
        at = *end ? end + 1 : end;
    }
    *out = wanted;
    return TD_OK;
}

static td_status check_config(const td_model *model)
{
    const td_config *c = &model->config;
    const char *path = td_checkpoint_path(model->checkpoint);
    bool any_moe = false, any_dense = false;
    for (int layer = 0; layer < c->layers; layer++) (model->is_moe[layer] ? &any_moe : &any_dense)[0] = true;
    if (any_moe && c->experts < 1) return td_fail(TD_E_FORMAT, "%s: expected a number of experts (moe_num_experts, num_experts, n_routed_experts) above 0 with MoE layers, found %d", path, c->experts);
    if (any_moe && c->experts % c->groups) return td_fail(TD_E_FORMAT, "%s: expected experts (%d) that divide into n_group %d groups", path, c->experts, c->groups);
    if (any_moe && c->groups_used > c->groups) return td_fail(TD_E_FORMAT, "%s: expected topk_group of at most %d (n_group), found %d", path, c->groups, c->groups_used);
    if (any_moe && c->top_k > c->experts / c->groups * c->groups_used)
        return td_fail(TD_E_FORMAT, "%s: expected experts per token (moe_top_k, num_experts_per_tok) of at most the %d within topk_group, found %d", path, c->experts / c->groups * c->groups_used, c->top_k);
    if (any_dense && c->d_ff < 1) return td_fail(TD_E_FORMAT, "%s: expected a dense width (intermediate_size) above 0 with dense layers, found %d", path, c->d_ff);
    return TD_OK;
}

/* ---- info ---------------------------------------------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const td_tensor *t) { return t->data ? td_tensor_bytes(t) : 0; }
static uint64_t elements_of(const td_tensor *t) { return (uint64_t)td_tensor_elements(t); }

typedef struct { uint64_t by_type[TD_DTYPES], attention, ffn, active, parameters; } totals;

static void add(totals *sum, const td_tensor *t, bool ffn, double active)
{
    uint64_t bytes = bytes_of(t);
    sum->by_type[t->type] += bytes;
    *(ffn ? &sum->ffn : &sum->attention) += bytes;
    sum->active += (uint64_t)(active * (double)bytes);
    sum->parameters += elements_of(t);
}

static void add_attention_layer(totals *sum, const td_model *model, int layer)
{
    const td_layer_attention *w = &model->attention[layer];
    const td_tensor *all[] = {&w->q, &w->q_a, &w->k, &w->v, &w->o, &w->router};
    for (size_t i = 0; i < TD_COUNT(all); i++)
        if (all[i]->dims) add(sum, all[i], false, 1.0);
    for (int h = 0; w->k_b && h < model->config.heads; h++) {
        add(sum, &w->k_b[h], false, 1.0);
        add(sum, &w->v_b[h], false, 1.0);
    }
}

static void add_ffn_layer(totals *sum, const td_model *model, int layer)
{
    const td_config *c = &model->config;
    const td_layer_ffn *w = &model->ffn[layer];
    const td_tensor *plain[] = {&w->gate, &w->up, &w->down, &w->shared_gate, &w->shared_up, &w->shared_down};
    for (size_t i = 0; i < TD_COUNT(plain); i++)
        if (plain[i]->dims) add(sum, plain[i], true, 1.0);
    double share = c->experts ? (double)c->top_k / c->experts : 0.0;
    for (int e = 0; w->expert_gate && e < c->experts; e++) {
        add(sum, &w->expert_gate[e], true, share);
        add(sum, &w->expert_up[e], true, share);
        add(sum, &w->expert_down[e], true, share);
    }
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i++) h = td_mix64(h ^ p[i]);
    return h;
}

/* Same configuration, same tensor types and shapes, same norm vectors and first embedding row. Reads from the checkpoint, so a worker that holds a part agrees. */
static uint64_t fingerprint(const td_loader *loader)
{
    const td_config *c = &loader->model->config;
    const int numbers[] = {c->layers, c->d_model, c->vocab, (int)c->attention, c->heads, c->kv_heads, c->k_dim, c->v_dim, c->head_v_dim, c->q_rank, c->kv_rank, c->d_ff, c->experts, c->top_k, c->d_expert, c->d_shared,
                           c->nope_dim, c->rope_dim, c->rope_neox, c->qk_norm, c->attention_bias, c->window, (int)c->router_score, c->router_norm, c->groups, c->groups_used, c->router_bias,
                           c->group_by_top2, c->tied, loader->quantise ? (int)loader->quant + 1 : 0};
    const float reals[] = {c->norm_eps, c->latent_eps, c->softmax_scale, c->rope_magnitude, c->router_scale};
    uint64_t h = hash_bytes(0x7464, numbers, sizeof numbers);
    h = hash_bytes(h, reals, sizeof reals);
    if (c->rope_frequencies) h = hash_bytes(h, c->rope_frequencies, (size_t)(c->rope_dim / 2) * sizeof *c->rope_frequencies);
    for (int layer = 0; layer < c->layers; layer++) {
        const td_tensor *norm = td_load_find(loader, TD_SLOT_FFN_NORM, layer, 0);
        if (norm) h = hash_bytes(h, norm->data, TD_MIN(td_tensor_bytes(norm), (size_t)256));
        td_tensor first;
        const td_tensor *down = loader->is_moe[layer] ? NULL : td_load_find(loader, TD_SLOT_DOWN, layer, 0);
        if (down) h = td_mix64(h ^ (uint64_t)down->type);
        else if (td_names_expert(loader->source->checkpoint, loader->family, TD_SLOT_EXPERT_DOWN, layer, 0, &first) == TD_OK) h = td_mix64(h ^ (uint64_t)first.type);
    }
    const td_tensor *embed = td_load_find(loader, TD_SLOT_EMBED, 0, 0);
    return embed ? hash_bytes(h, embed->data, TD_MIN(td_tensor_bytes(embed), (size_t)256)) : h;
}

/* general.name of a GGUF, or the last part of the path. */
static const char *display_name(td_model *model)
{
    const char *text, *path = td_checkpoint_path(model->checkpoint);
    size_t bytes;
    if (td_gguf_string(model->checkpoint, "general.name", &text, &bytes) && bytes > 0 && bytes < 256) return td_arena_text(&model->arena, text, bytes);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/') start--;
    return td_arena_text(&model->arena, path + start, length - start);
}

/* A token that config.json or GGUF metadata names; -1 without. */
static int32_t named_token(const td_source *source, const char *hf, const char *gguf)
{
    int64_t id = -1;
    if (!source->config) {
        td_gguf_i64(source->checkpoint, gguf, &id);
        return (int32_t)id;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->config, hf);
    return cJSON_IsNumber(item) ? item->valueint : -1;
}

static void add_end(td_model *model, double id)
{
    if (!(id >= 0 && id < model->config.vocab) || model->end_count == TD_ENDS_MAX) return;
    model->ends[model->end_count++] = (int32_t)id;
}

/* "eos_token_id": a number or a list of them. */
static void add_ends(td_model *model, const cJSON *object)
{
    const cJSON *item, *ids = cJSON_GetObjectItemCaseSensitive(object, "eos_token_id");
    if (cJSON_IsNumber(ids)) add_end(model, ids->valuedouble);
    cJSON_ArrayForEach(item, ids)
        if (cJSON_IsNumber(item)) add_end(model, item->valuedouble);
}

static void find_ends(td_model *model, const td_source *source)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    char *text = NULL;
    size_t bytes = 0;
    for (size_t i = 0; !source->config && i < TD_COUNT(keys); i++) add_end(model, named_token(source, NULL, keys[i]));
    if (!source->config) return;
    add_ends(model, source->config);
    if (source->config != td_checkpoint_config(model->checkpoint)) add_ends(model, td_checkpoint_config(model->checkpoint));
    if (td_checkpoint_side_file(model->checkpoint, "generation_config.json", &text, &bytes) < 0) return;
    cJSON *file = cJSON_ParseWithLength(text, bytes);
    add_ends(model, file);
    cJSON_Delete(file);
    free(text);
}

bool td_model_is_end(const td_model *model, int32_t token)
{
    for (int i = 0; i < model->end_count; i++)
        if (model->ends[i] == token) return true;
    return model->tokenizer && td_tokenizer_is_end(model->tokenizer, token);
}

static void fill_info(td_loader *loader)
{
    td_model *model = loader->model;
    const td_config *c = &model->config;
    totals sum = {0};
    if (model->attention) {
        add(&sum, &model->embed, false, 0.0);
        if (model->head.name != model->embed.name) add(&sum, &model->head, false, 1.0);
        else sum.active += bytes_of(&model->head);
        for (int layer = 0; layer < c->layers; layer++) add_attention_layer(&sum, model, layer);
    }
    for (int layer = 0; model->ffn && layer < c->layers; layer++) add_ffn_layer(&sum, model, layer);
    find_ends(model, loader->source);
    int common = 0;
    for (int t = 0; t < TD_DTYPES; t++)
        if (sum.by_type[t] > sum.by_type[common]) common = t;
    bool mla = c->attention == TD_ATTN_MLA;
    model->info = (td_model_info){
        .path = td_checkpoint_path(model->checkpoint), .format = loader->source->config ? "safetensors" : "gguf", .family = c->family, .name = display_name(model),
        .dtype = td_dtype_name((td_dtype)common), .layers = c->layers, .d_model = c->d_model, .vocab_size = c->vocab, .context_max = c->context_max, .experts = c->experts,
        .experts_per_token = c->experts ? c->top_k : 0, .parameters = sum.parameters, .weight_bytes = sum.attention + sum.ffn, .attention_bytes = sum.attention, .ffn_bytes = sum.ffn,
        .active_bytes = sum.active, .kv_bytes_per_token = (uint64_t)c->layers * (uint64_t)c->kv_heads * (uint64_t)(c->k_dim + (mla ? 0 : c->v_dim)) * 2, .fingerprint = fingerprint(loader),
        .has_tokenizer = model->tokenizer != NULL, .has_chat_template = model->chat != NULL, .chat_template = model->chat ? td_chat_template_source(model->chat) : NULL,
        .bos = model->tokenizer ? td_tokenizer_bos(model->tokenizer) : named_token(loader->source, "bos_token_id", "tokenizer.ggml.bos_token_id"),
        .eos = model->tokenizer && td_tokenizer_eos(model->tokenizer) >= 0 ? td_tokenizer_eos(model->tokenizer) : model->end_count ? model->ends[0] : -1,
    };
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------- */

/* Packed weights are a copy: without being told, only where the kernels gain by it and it leaves memory for the file's pages and everything else. */
static td_status choose_layout(td_loader *loader)
{
    const char *layout = loader->options->layout;
    const td_kernel *kernel;
    uint64_t bytes = 0;
    for (size_t i = 0; i < td_checkpoint_count(loader->model->checkpoint); i++) bytes += td_tensor_bytes(td_checkpoint_at(loader->model->checkpoint, i));
    if (layout && !strcmp(layout, "packed")) loader->pack = true;
    else if (layout && !strcmp(layout, "auto")) {
        TD_TRY(td_kernel_pick(NULL, &kernel));
        double memory = td_memory_bytes();
        loader->pack = kernel->packs && (double)bytes <= PACKED_SHARE * memory;
        if (kernel->packs && !loader->pack) td_log(TD_LOG_INFO, "model", "weights of %.1f GB are used as they lie in the file: laid out anew they would fill more than half of %.1f GB", 1e-9 * (double)bytes, 1e-9 * memory);
    } else if (layout && strcmp(layout, "file")) return td_fail(TD_E_INVALID, "--layout: expected auto, file or packed, found %s", layout);
    if (!loader->pack && !loader->quantise) return TD_OK;
    loader->total = bytes * (uint64_t)(loader->pack + loader->quantise);
    return td_pool_open(loader->options->threads, &loader->pool);
}

static td_status load_weights(td_loader *loader)
{
    td_model *model = loader->model;
    const td_model_options *o = loader->options;
    td_arena *arena = &model->arena;
    if (o->quant) {
        if (td_dtype_parse(o->quant, &loader->quant) < 0 || loader->quant > TD_Q6_K || loader->quant == TD_F8_E4M3) return td_fail(TD_E_INVALID, "--quant: expected f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k, found %s", o->quant);
        loader->quantise = true;
    }
    TD_TRY(choose_layout(loader));
    bool part = o->ffn_only || o->ffn_experts || o->ffn_layers;
    TD_TRY(parse_ranges("--experts", o->ffn_experts, TD_MAX(model->config.experts, 1), arena, &loader->want_expert));
    TD_TRY(parse_ranges("--layers", o->ffn_layers, model->config.layers, arena, &loader->want_layer));
    if (!part) TD_TRY(td_load_attention(loader));
    if (!o->attention_only) TD_TRY(td_load_ffn(loader));
    return TD_OK;
}

/* A tokenizer or template is optional; one that is there and wrong is an error. */
static td_status load_text(td_model *model)
{
    td_status status = td_tokenizer_open(model->checkpoint, &model->tokenizer);
    if (status < 0 && status != TD_E_NOT_FOUND) return status;
    if (model->tokenizer && td_tokenizer_size(model->tokenizer) > model->config.vocab)
        td_log(TD_LOG_WARN, "model", "%s: the tokenizer has %d tokens, the model %d", td_checkpoint_path(model->checkpoint), td_tokenizer_size(model->tokenizer), model->config.vocab);
    status = td_chat_template_open(model->checkpoint, &model->chat);
    if (status == TD_E_NOT_FOUND) return TD_OK;
    if (status < 0) td_log(TD_LOG_WARN, "model", "%s: chat template not usable: %s", td_checkpoint_path(model->checkpoint), td_error());
    return TD_OK;
}

/* Both matrices there and not the same: the weights count, not the key that says tied (as in transformers). */
static void untie(td_loader *loader)
{
    td_config *c = &loader->model->config;
    const td_tensor *embed = td_load_find(loader, TD_SLOT_EMBED, 0, 0), *head = td_load_find(loader, TD_SLOT_HEAD, 0, 0);
    if (!c->tied || !embed || !head || td_layout_same(embed, head)) return;
    td_log(TD_LOG_WARN, "model", "tie_word_embeddings is true, but %s differs from the embedding: it is used", head->name);
    c->tied = false;
}

static td_status open_parts(td_model *model, const char *path, const td_model_options *options)
{
    td_source source;
    const td_family_rules *rules;
    TD_TRY(td_checkpoint_open(path, &model->checkpoint));
    TD_TRY(td_source_open(model->checkpoint, &source));
    TD_TRY(td_family_pick(&source, &rules));
    bool *is_moe = TD_NEW(&model->arena, bool, TD_LAYERS_MAX);
    if (!is_moe) return TD_E_MEMORY;
    TD_TRY(rules->configure(&source, &model->arena, &model->config, is_moe));
    snprintf(model->config.family, sizeof model->config.family, "%.31s", source.config && rules->family != TD_FAMILY_STEP3 ? source.architecture : td_family_name(rules->family));
    model->is_moe = is_moe;
    td_loader loader = {.model = model, .source = &source, .family = rules->family, .options = options, .is_moe = is_moe};
    for (int layer = 0; !source.config && layer < model->config.layers; layer++) is_moe[layer] = td_load_find(&loader, TD_SLOT_ROUTER, layer, 0) != NULL; /* GGUF says it by presence */
    untie(&loader);
    TD_TRY(check_config(model));
    td_status status = load_weights(&loader);
    td_pool_close(loader.pool);
    TD_TRY(status);
    if (!options->ffn_only && !options->ffn_experts && !options->ffn_layers) TD_TRY(load_text(model));
    fill_info(&loader);
    return TD_OK;
}

td_status td_model_open(const char *path, const td_model_options *options, td_model **out)
{
    static const td_model_options defaults;
    char *shipped = path && *path ? NULL : shipped_path();
    if (!(path && *path) && !shipped) return td_fail(TD_E_NOT_FOUND, "model: expected a path, because the model that ships with tandem is not beside the program");
    td_model *model = calloc(1, sizeof *model);
    td_status status = model ? TD_OK : td_fail(TD_E_MEMORY, "model: no memory");
    if (model) {
        model->arena.name = "model";
        status = open_parts(model, shipped ? shipped : path, options ? options : &defaults);
    }
    free(shipped);
    if (status < 0) td_model_close(model);
    else *out = model;
    return status;
}

void td_model_close(td_model *model)
{
    if (!model) return;
    td_grammar_vocab_close(model->grammar_vocab);
    td_tokenizer_close(model->tokenizer);
    td_chat_template_close(model->chat);
    td_checkpoint_close(model->checkpoint);
    td_arena_free(&model->arena);
    free(model);
}

const td_model_info *td_model_get_info(const td_model *model) { return &model->info; }
