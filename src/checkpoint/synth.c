/*
 * synth.c - td_synth: random weights at the real or reduced dimensions of a known model, for timing and tests.
 *
 * Scales: a matrix has a standard deviation of 1/sqrt(inputs), so that normalised inputs give outputs of variance 1; what adds to the residual stream (o, down)
 * is divided by sqrt(2 layers) more, so that the stream grows by a constant over any depth; routers see normalised inputs and so choose experts evenly.
 * Quantised blocks are drawn directly, without a float row in between. The n-th word of a row depends on (seed, tensor name, row, n) alone, so the file does not
 * depend on the number of threads.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "checkpoint/outline_gguf.h"
#include "checkpoint/pump.h"
#include "checkpoint/synth_blocks.h"
#include "checkpoint/vocabulary.h"

typedef struct { const td_outline *o; td_pump_list list; uint64_t seed, *seeds; float *divisors; } maker;

static double deviation(const td_outline *o, td_slot slot, int64_t inputs)
{
    double unit = 1 / sqrt((double)inputs), residual = 1 / sqrt(2.0 * (double)o->layers);
    switch (slot) {
    case TD_SLOT_EMBED: return o->tied ? 2 * unit : 1;
    case TD_SLOT_HEAD: return 2 * unit;
    case TD_SLOT_O: return unit * residual;
    case TD_SLOT_DOWN: case TD_SLOT_EXPERT_DOWN: case TD_SLOT_EXPERTS_DOWN: case TD_SLOT_SHARED_DOWN: return 2 * unit * residual; /* silu(g)*u has a deviation of about 0.6 */
    case TD_SLOT_ROUTER_BIAS: return 0.01;
    case TD_SLOT_Q_BIAS: case TD_SLOT_K_BIAS: case TD_SLOT_V_BIAS: case TD_SLOT_O_BIAS: return 0.02;
    default: return unit;
    }
}

/* FNV-1a: a seed for each name. */
static uint64_t hash_of(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001B3u;
    return h;
}

static bool make_row(void *arg, size_t item, int64_t row, void *out, float *scratch, const char **reason)
{
    (void)reason;
    const maker *m = arg;
    const td_sink_row *r = &m->list.rows[item];
    td_slot slot = m->list.items[item].name.slot;
    int64_t columns = r->shape[r->dims - 1];
    if (slot == TD_SLOT_ROPE_FREQS) {
        memcpy(out, m->divisors, (size_t)columns * sizeof(float));
        return true;
    }
    double s = deviation(m->o, slot, columns);
    if (m->list.items[item].scale) {
        for (int64_t i = 0; i < columns; i++) ((float *)out)[i] = td_synth_f8_scale(deviation(m->o, slot, m->list.rows[item - 1].shape[r->dims - 1]));
        return true;
    }
    uint64_t seed = td_mix64(m->seeds[item] + (uint64_t)row * 0x9E3779B97F4A7C15u);
    if (td_slot_get_kind(slot) == TD_KIND_NORM) {
        for (int64_t i = 0; i < columns; i++) scratch[i] = (float)(0.9 + 0.2 * td_random_unit(seed, (uint64_t)i));
        td_quantise_row(r->type, scratch, out, columns);
        return true;
    }
    td_synth_row(r->type, seed, s, columns, out, scratch);
    return true;
}

static td_status choose_types(td_pump_list *list, td_format format, td_dtype wanted)
{
    bool told = false;
    for (size_t i = 0; i < list->count; i++) {
        td_sink_row *row = &list->rows[i];
        td_slot_kind kind = td_slot_get_kind(list->items[i].name.slot);
        bool weight = kind == TD_KIND_MATRIX || kind == TD_KIND_EMBED;
        if (!weight) row->type = format == TD_FORMAT_GGUF || wanted == TD_F32 || list->items[i].name.slot == TD_SLOT_ROUTER_BIAS ? TD_F32 : wanted == TD_F16 ? TD_F16 : TD_BF16;
        else if (wanted == TD_F8_E4M3) row->type = kind == TD_KIND_EMBED ? TD_BF16 : TD_F8_E4M3; /* as Step-3 and DeepSeek publish */
        else row->type = td_pump_type(wanted, row->shape[row->dims - 1]);
        if (weight && wanted != TD_F8_E4M3 && row->type != wanted && !told) {
            td_log(TD_LOG_INFO, "checkpoint", "tensor %s and its like: rows of %lld elements do not fit %s and are %s", row->name, (long long)row->shape[row->dims - 1], td_dtype_name(wanted),
                   td_dtype_name(row->type));
            told = true;
        }
    }
    return TD_OK;
}

static td_status write_side_files(const td_outline *o, const td_vocabulary *v, td_dtype type, td_sink *sink)
{
    td_buffer b = {0};
    td_status status = td_outline_config_json(o, type == TD_F32 ? "float32" : type == TD_F16 ? "float16" : "bfloat16", &b);
    if (status == TD_OK && type == TD_F8_E4M3) { /* before the closing brace */
        b.bytes -= 3;
        td_buffer_text(&b, ",\n  \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}\n}\n");
    }
    if (status == TD_OK) status = td_sink_side_file(sink, "config.json", b.data, b.bytes);
    td_buffer_clear(&b);
    if (status == TD_OK) status = td_vocabulary_tokenizer_json(v, &b);
    if (status == TD_OK) status = td_sink_side_file(sink, "tokenizer.json", b.data, b.bytes);
    td_buffer_clear(&b);
    if (status == TD_OK) status = td_vocabulary_config_json(v, o, &b);
    if (status == TD_OK) status = td_sink_side_file(sink, "tokenizer_config.json", b.data, b.bytes);
    td_buffer_free(&b);
    return status;
}

static td_status open_sink(const char *path, const td_outline *o, td_format format, td_dtype type, td_arena *arena, maker *m, td_sink *sink)
{
    td_vocabulary v;
    TD_TRY(td_vocabulary_made_up(o, arena, &v));
    TD_TRY(td_pump_plan(o, format, arena, &m->list));
    TD_TRY(choose_types(&m->list, format, type));
    if (format == TD_FORMAT_SAFETENSORS) {
        /* scales stay right behind their tensor, where make_row looks; else by size, for alignment */
        if (type == TD_F8_E4M3) TD_TRY(td_pump_add_scales(&m->list, arena));
        else TD_TRY(td_pump_sort(&m->list, arena));
    }
    m->seeds = TD_NEW(arena, uint64_t, m->list.count);
    m->divisors = TD_NEW(arena, float, (size_t)o->head_dim);
    if (!m->seeds || !m->divisors) return TD_E_MEMORY;
    for (size_t i = 0; i < m->list.count; i++) m->seeds[i] = td_mix64(m->seed ^ hash_of(m->list.rows[i].name));
    if (o->rope == TD_ROPE_LLAMA3) td_outline_rope_divisors(o, m->divisors);
    if (format == TD_FORMAT_SAFETENSORS) {
        TD_TRY(td_sink_open_folder(path, m->list.rows, m->list.count, sink));
        td_status status = write_side_files(o, &v, type, sink);
        if (status < 0) td_sink_discard(sink);
        return status;
    }
    td_gguf_keys keys = {0};
    td_outline_gguf_keys(o, type, &keys);
    td_vocabulary_gguf_keys(&v, &keys);
    td_status status = td_sink_open_gguf(path, &keys, m->list.rows, m->list.count, sink);
    td_buffer_free(&keys.bytes);
    return status;
}

td_status td_synth(const char *path, const td_synth_options *options)
{
    td_outline *o = malloc(sizeof *o);
    td_dtype type = TD_BF16;
    td_format format = TD_FORMAT_GGUF;
    const char *word = options->format ? options->format : "gguf";
    if (!o) return td_fail(TD_E_MEMORY, "synth: no memory");
    td_status status = options->like ? td_outline_preset(options->like, o) : td_fail(TD_E_INVALID, "synth: expected the name of a model to be like, found none");
    if (status == TD_OK) status = td_outline_reduce(o, options->layers, options->scale_divisor);
    if (status == TD_OK && options->dtype) status = td_dtype_parse(options->dtype, &type);
    if (status == TD_OK && !strcmp(word, "safetensors")) format = TD_FORMAT_SAFETENSORS;
    else if (status == TD_OK && strcmp(word, "gguf")) status = td_fail(TD_E_INVALID, "format: expected gguf or safetensors, found %s", word);
    bool whole = type == TD_F32 || type == TD_F16 || type == TD_BF16;
    bool blocks = type == TD_Q8_0 || type == TD_Q4_0 || type == TD_Q4_K || type == TD_Q5_K || type == TD_Q6_K;
    if (status == TD_OK && !(whole || (format == TD_FORMAT_GGUF ? blocks : type == TD_F8_E4M3)))
        status = td_fail(TD_E_INVALID, "dtype: expected %s for %s, found %s", format == TD_FORMAT_GGUF ? "f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k" : "f32, f16, bf16 or f8_e4m3", word, td_dtype_name(type));
    td_arena arena = {.name = "synth"};
    maker m = {.o = o, .seed = options->seed};
    td_sink sink = {.writer = {.fd = -1}};
    if (status == TD_OK) status = open_sink(path, o, format, type, &arena, &m, &sink);
    if (status == TD_OK) {
        td_pump_work work = {.row = make_row, .arg = &m, .progress = options->progress, .progress_user = options->progress_user};
        status = td_pump_run(&m.list, &work, &sink);
        if (status == TD_OK) status = td_sink_commit(&sink);
        else td_sink_discard(&sink);
    }
    td_arena_free(&arena);
    free(o);
    return status;
}
