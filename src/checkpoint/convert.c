/*
 * convert.c - td_convert: a model of a known family from one format to the other, weight matrices quantised on the way when asked. Norms, router and biases are
 * never quantised. What differs inside tensors (llama's row order, MLA's kv_b, stacked experts) is in layout.h and names.h; here it is put to use row by row.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "checkpoint/layout.h"
#include "checkpoint/outline_gguf.h"
#include "checkpoint/pump.h"
#include "checkpoint/vocabulary.h"

/* Where the rows of one output tensor come from. */
typedef struct {
    td_tensor *parts;      /* matrices one behind the other (experts), or one tensor */
    int64_t parts_count, part_rows;
    int64_t rope_dim;      /* llama q and k: head_dim, rows are permuted; else 0 */
    bool prepared;         /* K_B, V_B, KV_B: rows are in converter.dense */
} origin;

typedef struct {
    const td_checkpoint *from;
    td_outline *o;
    td_format format;      /* of the output */
    bool quant_given;
    td_dtype quant;
    td_arena arena;
    td_pump_list list;
    origin *origins;       /* beside the list */
    float *dense;          /* of the prepared tensor in work; owned */
    float *divisors;       /* rope_freqs */
} converter;

/* ---- what each output tensor is made of ---- */

static bool optional_slot(td_slot slot) { return slot == TD_SLOT_O_BIAS || slot == TD_SLOT_Q_BIAS || slot == TD_SLOT_K_BIAS || slot == TD_SLOT_V_BIAS || slot == TD_SLOT_ROUTER_BIAS; }

static int64_t rows_of(const td_tensor *t)
{
    int64_t rows = 1;
    for (int d = 0; d < t->dims - 1; d++) rows *= t->shape[d];
    return rows;
}

static td_status check_part(const converter *v, const td_tensor *part, int64_t rows, int64_t columns)
{
    if (part->type == TD_I8 || part->type == TD_I32 || part->type == TD_I64)
        return td_fail(TD_E_UNSUPPORTED, "checkpoint %s, tensor %s: expected floating-point weights, found %s", td_checkpoint_path(v->from), part->name, td_dtype_name(part->type));
    if (part->dims >= 1 && rows_of(part) == rows && part->shape[part->dims - 1] == columns) return TD_OK;
    return td_fail(TD_E_FORMAT, "checkpoint %s, tensor %s: expected %lld rows of %lld elements, found %lld of %lld", td_checkpoint_path(v->from), part->name, (long long)rows, (long long)columns,
                   (long long)rows_of(part), (long long)part->shape[part->dims - 1]);
}

static td_status require_slot(const converter *v, td_slot slot, int layer, const td_tensor **out)
{
    *out = td_names_find(v->from, v->o->family, slot, layer, -1);
    if (*out) return TD_OK;
    char name[TD_NAME_MAX] = "?";
    td_name_write(v->o->family, td_checkpoint_format(v->from), slot, layer, -1, name);
    return td_checkpoint_require(v->from, name, out);
}

static td_status origin_of_experts(converter *v, const td_sink_row *row, const td_name *name, origin *out)
{
    bool stacked = row->dims == 3;
    td_slot part = name->slot;
    if (part == TD_SLOT_EXPERTS_GATE) part = TD_SLOT_EXPERT_GATE;
    if (part == TD_SLOT_EXPERTS_UP) part = TD_SLOT_EXPERT_UP;
    if (part == TD_SLOT_EXPERTS_DOWN) part = TD_SLOT_EXPERT_DOWN;
    out->parts_count = stacked ? row->shape[0] : 1;
    out->part_rows = row->shape[row->dims - 2];
    out->parts = TD_NEW(&v->arena, td_tensor, (size_t)out->parts_count);
    if (!out->parts) return TD_E_MEMORY;
    for (int64_t e = 0; e < out->parts_count; e++) {
        TD_TRY(td_names_expert(v->from, v->o->family, part, name->layer, stacked ? (int)e : name->expert, &out->parts[e]));
        TD_TRY(check_part(v, &out->parts[e], out->part_rows, row->shape[row->dims - 1]));
    }
    return TD_OK;
}

/* MLA: the split or joined form, whichever the source has not. parts: [k_b, v_b] or [kv_b]. */
static td_status origin_of_mla(converter *v, const td_name *name, origin *out, bool *done)
{
    const td_outline *o = v->o;
    const td_tensor *kv_b = td_names_find(v->from, o->family, TD_SLOT_KV_B, name->layer, -1), *k_b, *v_b;
    *done = true;
    out->parts = TD_NEW(&v->arena, td_tensor, 2);
    if (!out->parts) return TD_E_MEMORY;
    if (name->slot == TD_SLOT_KV_B ? kv_b != NULL : td_names_find(v->from, o->family, name->slot, name->layer, -1) != NULL) {
        *done = false; /* the same form: copied as any other tensor */
        return TD_OK;
    }
    out->prepared = true;
    if (name->slot != TD_SLOT_KV_B) {
        TD_TRY(require_slot(v, TD_SLOT_KV_B, name->layer, &kv_b));
        out->parts[0] = *kv_b, out->parts_count = 1;
        return check_part(v, kv_b, o->heads * (o->nope_dim + o->v_dim), o->kv_rank);
    }
    TD_TRY(require_slot(v, TD_SLOT_K_B, name->layer, &k_b));
    TD_TRY(require_slot(v, TD_SLOT_V_B, name->layer, &v_b));
    out->parts[0] = *k_b, out->parts[1] = *v_b, out->parts_count = 2;
    TD_TRY(check_part(v, k_b, o->heads * o->kv_rank, o->nope_dim));
    TD_TRY(check_part(v, v_b, o->heads * o->v_dim, o->kv_rank));
    if (k_b->dims == 3 && v_b->dims == 3) return TD_OK;
    return td_fail(TD_E_FORMAT, "checkpoint %s, tensor %s: expected three dimensions", td_checkpoint_path(v->from), k_b->name);
}

/* *absent: an optional tensor that the source has not. */
static td_status find_origin(converter *v, const td_sink_row *row, const td_name *name, origin *out, bool *absent)
{
    td_slot slot = name->slot;
    *out = (origin){0};
    *absent = false;
    if (slot == TD_SLOT_ROPE_FREQS) {
        out->prepared = true;
        return TD_OK;
    }
    if (slot >= TD_SLOT_EXPERT_GATE && slot <= TD_SLOT_EXPERTS_GATE_UP) return origin_of_experts(v, row, name, out);
    if (slot == TD_SLOT_K_B || slot == TD_SLOT_V_B || slot == TD_SLOT_KV_B) {
        bool done;
        TD_TRY(origin_of_mla(v, name, out, &done));
        if (done) return TD_OK;
    }
    const td_tensor *found = td_names_find(v->from, v->o->family, slot, name->layer, -1);
    *absent = !found && optional_slot(slot);
    if (*absent) return TD_OK;
    if (!found) TD_TRY(require_slot(v, slot, name->layer, &found));
    int64_t columns = row->shape[row->dims - 1];
    td_tensor expected = {.dims = row->dims};
    memcpy(expected.shape, row->shape, sizeof expected.shape);
    TD_TRY(check_part(v, found, rows_of(&expected), columns));
    out->parts = TD_NEW(&v->arena, td_tensor, 1);
    if (!out->parts) return TD_E_MEMORY;
    out->parts[0] = *found;
    out->parts_count = 1;
    out->part_rows = rows_of(found);
    bool q_or_k = slot == TD_SLOT_Q || slot == TD_SLOT_K || slot == TD_SLOT_Q_BIAS || slot == TD_SLOT_K_BIAS;
    if (v->o->family == TD_FAMILY_LLAMA && q_or_k && v->format != td_checkpoint_format(v->from)) out->rope_dim = v->o->head_dim;
    return TD_OK;
}

/* ---- types ---- */

/* Whether a small tensor's numbers are all numbers of `type` (it had that type before it was in a GGUF, which keeps small tensors in F32). */
static bool fits(const origin *from, td_dtype type)
{
    for (int64_t p = 0; p < from->parts_count; p++) {
        if (from->parts[p].type == type) continue;
        if (from->parts[p].type != TD_F32) return false;
        const float *values = from->parts[p].data;
        for (int64_t i = 0; i < td_tensor_elements(&from->parts[p]); i++) {
            float again = type == TD_BF16 ? td_bf16_to_f32(td_f32_to_bf16(values[i])) : td_f16_to_f32(td_f32_to_f16(values[i]));
            if (again != values[i]) return false;
        }
    }
    return true;
}

/* main: the embedding's type in the output. */
static td_dtype type_of(const converter *v, const td_sink_row *row, td_slot slot, const origin *from, td_dtype main)
{
    td_slot_kind kind = td_slot_get_kind(slot);
    if (kind != TD_KIND_MATRIX && kind != TD_KIND_EMBED) {
        if (v->format == TD_FORMAT_GGUF || from->parts_count == 0) return TD_F32; /* other engines want these in F32 */
        return (main == TD_BF16 || main == TD_F16) && fits(from, main) ? main : from->parts[0].type;
    }
    td_dtype wanted = v->quant_given ? v->quant : from->parts[0].type;
    if (wanted == TD_F8_E4M3 || (v->format == TD_FORMAT_SAFETENSORS && td_dtype_block_elements(wanted) > 1)) wanted = TD_BF16;
    return td_pump_type(wanted, row->shape[row->dims - 1]);
}

static void tell_types(const converter *v)
{
    bool told[TD_DTYPES][TD_DTYPES] = {{false}};
    for (size_t i = 0; i < v->list.count; i++) {
        if (td_slot_get_kind(v->list.items[i].name.slot) > TD_KIND_EMBED || v->origins[i].parts_count == 0) continue;
        td_dtype from = v->origins[i].parts[0].type, to = v->list.rows[i].type;
        if (from == to || (v->quant_given && to == v->quant) || told[from][to]) continue;
        told[from][to] = true;
        td_log(TD_LOG_INFO, "checkpoint", "tensor %s and its like are written as %s (from %s, rows of %lld)", v->list.rows[i].name, td_dtype_name(to), td_dtype_name(from),
               (long long)v->list.rows[i].shape[v->list.rows[i].dims - 1]);
    }
}

/* Multi-token prediction, vision: what decoding does not read is not carried, and that is said. */
static void tell_left_out(const converter *v)
{
    size_t left_out = 0, example = 0;
    for (size_t i = 0; i < td_checkpoint_count(v->from); i++) {
        td_name name;
        bool known = td_name_read(v->o->family, td_checkpoint_format(v->from), td_checkpoint_at(v->from, i)->name, &name) && name.layer < v->o->layers;
        if (!known && left_out++ == 0) example = i;
    }
    if (left_out)
        td_log(TD_LOG_WARN, "checkpoint", "%zu tensors that are no part of the text model's layers are left out (%s, ...)", left_out, td_checkpoint_at(v->from, example)->name);
}

/* ---- rows ---- */

static td_status prepare(void *arg, size_t item)
{
    converter *v = arg;
    const td_outline *o = v->o;
    const origin *from = &v->origins[item];
    td_slot slot = v->list.items[item].name.slot;
    free(v->dense);
    v->dense = NULL;
    if (!from->prepared || slot == TD_SLOT_ROPE_FREQS) return TD_OK;
    int64_t elements = 1, head = 0;
    for (int d = 0; d < v->list.rows[item].dims; d++) elements *= v->list.rows[item].shape[d];
    head = elements / o->heads;
    v->dense = malloc((size_t)elements * sizeof(float));
    float *scratch = malloc((size_t)TD_MAX(o->kv_rank, o->nope_dim) * sizeof(float));
    for (int h = 0; v->dense && scratch && h < o->heads; h++) {
        float *out = v->dense + h * head;
        if (slot == TD_SLOT_K_B) td_layout_k_b(&from->parts[0], h, (int)o->nope_dim, (int)o->v_dim, scratch, out);
        else if (slot == TD_SLOT_V_B) td_layout_v_b(&from->parts[0], h, (int)o->nope_dim, (int)o->v_dim, out);
        else td_layout_kv_b(&from->parts[0], &from->parts[1], h, scratch, out);
    }
    bool room = v->dense && scratch;
    free(scratch);
    return room ? TD_OK : td_fail(TD_E_MEMORY, "tensor %s: no memory for %lld elements", v->list.rows[item].name, (long long)elements);
}

static bool finite_row(const float *row, int64_t n, const char **reason)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(row[i])) {
            *reason = isnan(row[i]) ? "expected finite weights, found NaN" : "expected finite weights, found an infinity";
            return false;
        }
    return true;
}

static bool make_row(void *arg, size_t item, int64_t row, void *out, float *scratch, const char **reason)
{
    converter *v = arg;
    const td_sink_row *r = &v->list.rows[item];
    const origin *from = &v->origins[item];
    int64_t columns = r->shape[r->dims - 1];
    if (from->prepared) {
        const float *values = v->list.items[item].name.slot == TD_SLOT_ROPE_FREQS ? v->divisors : v->dense + row * columns;
        if (!finite_row(values, columns, reason)) return false;
        td_quantise_row(r->type, values, out, columns);
        return true;
    }
    if (from->rope_dim && r->dims == 1) { /* a bias: its elements are the rows */
        td_tensor_row(&from->parts[0], 0, scratch);
        bool to_gguf = v->format == TD_FORMAT_GGUF;
        for (int64_t i = 0; i < columns; i++) scratch[columns + i] = scratch[to_gguf ? td_layout_rope_hf_row(i, from->rope_dim) : td_layout_rope_gguf_row(i, from->rope_dim)];
        if (!finite_row(scratch, columns, reason)) return false;
        td_quantise_row(r->type, scratch + columns, out, columns);
        return true;
    }
    if (from->rope_dim) row = v->format == TD_FORMAT_GGUF ? td_layout_rope_hf_row(row, from->rope_dim) : td_layout_rope_gguf_row(row, from->rope_dim);
    const td_tensor *part = &from->parts[row / from->part_rows];
    row %= from->part_rows;
    bool same = part->type == r->type && !part->scale;
    if (!same || td_dtype_block_elements(r->type) == 1) {
        td_tensor_row(part, row, scratch);
        if (!finite_row(scratch, columns, reason)) return false;
    }
    size_t bytes = td_dtype_row_bytes(r->type, columns);
    if (same) memcpy(out, (const char *)part->data + (size_t)row * bytes, bytes);
    else td_quantise_row(r->type, scratch, out, columns);
    return true;
}

/* ---- the whole ---- */

static td_status plan(converter *v)
{
    TD_TRY(td_pump_plan(v->o, v->format, &v->arena, &v->list));
    td_dtype main = TD_DTYPES;
    for (int pass = 0; pass < 2; pass++) { /* safetensors: types first, then sorted by size, then origins again beside the sorted list */
        v->origins = TD_NEW(&v->arena, origin, v->list.count);
        if (!v->origins) return TD_E_MEMORY;
        for (size_t i = 0; i < v->list.count; i++) {
            bool absent;
            TD_TRY(find_origin(v, &v->list.rows[i], &v->list.items[i].name, &v->origins[i], &absent));
            if (absent) {
                td_pump_drop(&v->list, i--);
                continue;
            }
            td_dtype type = type_of(v, &v->list.rows[i], v->list.items[i].name.slot, &v->origins[i], main);
            if (v->list.items[i].name.slot == TD_SLOT_EMBED) main = type; /* planned first */
            v->list.rows[i].type = type;
        }
        if (v->format == TD_FORMAT_GGUF) break;
        if (pass == 0) TD_TRY(td_pump_sort(&v->list, &v->arena));
    }
    if (v->o->rope == TD_ROPE_LLAMA3) {
        v->divisors = TD_NEW(&v->arena, float, (size_t)v->o->head_dim);
        if (!v->divisors) return TD_E_MEMORY;
        td_outline_rope_divisors(v->o, v->divisors);
    }
    tell_types(v);
    tell_left_out(v);
    return TD_OK;
}

static td_dtype most_used(const td_pump_list *list)
{
    uint64_t bytes[TD_DTYPES] = {0};
    td_dtype best = TD_F32;
    for (size_t i = 0; i < list->count; i++) bytes[list->rows[i].type] += td_sink_row_bytes(&list->rows[i]);
    for (int t = 0; t < TD_DTYPES; t++)
        if (bytes[t] > bytes[best]) best = (td_dtype)t;
    return best;
}

/* TD_E_NOT_FOUND and TD_E_UNSUPPORTED leave the model without a tokenizer, with a warning; a broken one is an error. */
static td_status read_vocabulary(converter *v, td_vocabulary *out, bool *have)
{
    td_status status = td_checkpoint_format(v->from) == TD_FORMAT_GGUF ? td_vocabulary_from_gguf(v->from, v->o, &v->arena, out) : td_vocabulary_from_folder(v->from, v->o, &v->arena, out);
    *have = status == TD_OK;
    if (status != TD_E_NOT_FOUND && status != TD_E_UNSUPPORTED) return status;
    td_log(TD_LOG_WARN, "checkpoint", "written without a tokenizer: %s", td_error());
    return TD_OK;
}

/* The source's own file when it is a folder, else text. */
static td_status copy_or_write(converter *v, td_sink *sink, const char *name, const td_buffer *text)
{
    char *own = NULL;
    size_t bytes = 0;
    td_status status = td_checkpoint_side_file(v->from, name, &own, &bytes);
    if (status == TD_OK) status = td_sink_side_file(sink, name, own, bytes);
    else if (status == TD_E_NOT_FOUND) status = text && text->bytes ? td_sink_side_file(sink, name, text->data, text->bytes) : TD_OK;
    free(own);
    return status;
}

static td_status write_folder_files(converter *v, const td_vocabulary *words, td_sink *sink)
{
    td_buffer b = {0};
    td_dtype most = most_used(&v->list);
    td_status status = td_outline_config_json(v->o, most == TD_F32 ? "float32" : most == TD_F16 ? "float16" : "bfloat16", &b);
    if (status == TD_OK) status = td_sink_side_file(sink, "config.json", b.data, b.bytes);
    td_buffer_clear(&b);
    if (status == TD_OK && words) {
        status = td_vocabulary_tokenizer_json(words, &b);
        if (status == TD_OK) status = copy_or_write(v, sink, "tokenizer.json", &b);
        else if (status == TD_E_UNSUPPORTED) td_log(TD_LOG_WARN, "checkpoint", "written without a tokenizer.json: %s", td_error()), status = TD_OK;
        td_buffer_clear(&b);
        if (status == TD_OK) status = td_vocabulary_config_json(words, v->o, &b);
        if (status == TD_OK) status = copy_or_write(v, sink, "tokenizer_config.json", &b);
        td_buffer_clear(&b);
    }
    if (status == TD_OK) status = copy_or_write(v, sink, "generation_config.json", NULL);
    if (status == TD_OK) status = copy_or_write(v, sink, "chat_template.jinja", NULL);
    td_buffer_free(&b);
    return status;
}

static td_status open_sink(converter *v, const char *to, td_sink *sink)
{
    td_vocabulary words;
    bool have;
    TD_TRY(read_vocabulary(v, &words, &have));
    if (v->format == TD_FORMAT_SAFETENSORS) {
        TD_TRY(td_sink_open_folder(to, v->list.rows, v->list.count, sink));
        td_status status = write_folder_files(v, have ? &words : NULL, sink);
        if (status < 0) td_sink_discard(sink);
        return status;
    }
    td_gguf_keys keys = {0};
    td_outline_gguf_keys(v->o, most_used(&v->list), &keys);
    if (have) td_vocabulary_gguf_keys(&words, &keys);
    td_status status = td_sink_open_gguf(to, &keys, v->list.rows, v->list.count, sink);
    td_buffer_free(&keys.bytes);
    return status;
}

static td_status choose_format(const char *to, const td_convert_options *options, td_format *out)
{
    size_t length = strlen(to);
    if (!options || !options->format) *out = length > 5 && !strcmp(to + length - 5, ".gguf") ? TD_FORMAT_GGUF : TD_FORMAT_SAFETENSORS;
    else if (!strcmp(options->format, "gguf")) *out = TD_FORMAT_GGUF;
    else if (!strcmp(options->format, "safetensors")) *out = TD_FORMAT_SAFETENSORS;
    else return td_fail(TD_E_INVALID, "format: expected gguf or safetensors, found %s", options->format);
    return TD_OK;
}

static td_status choose_quant(converter *v, const td_convert_options *options)
{
    if (!options || !options->quant) return TD_OK;
    v->quant_given = true;
    bool known = td_dtype_parse(options->quant, &v->quant) == TD_OK, whole = known && (v->quant == TD_F32 || v->quant == TD_F16 || v->quant == TD_BF16);
    bool blocks = known && (v->quant == TD_Q8_0 || v->quant == TD_Q4_0 || v->quant == TD_Q4_K || v->quant == TD_Q5_K || v->quant == TD_Q6_K);
    if (whole || (blocks && v->format == TD_FORMAT_GGUF)) return TD_OK;
    return td_fail(TD_E_INVALID, "quant: expected %s, found %.40s", v->format == TD_FORMAT_GGUF ? "f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k" : "f32, f16 or bf16 for safetensors", options->quant);
}

/* A file that is there is never replaced: it may be the model itself, under this or another name, or the only copy at a better precision. */
static td_status check_new(const char *to)
{
    struct stat info;
    if (stat(to, &info) != 0 || !S_ISREG(info.st_mode)) return TD_OK;
    return td_fail(TD_E_INVALID, "file %s: expected the name of a new file, found a file of %lld bytes there; remove it first", to, (long long)info.st_size);
}

static td_status run(converter *v, const char *from, const char *to, const td_convert_options *options)
{
    TD_TRY(choose_format(to, options, &v->format));
    TD_TRY(choose_quant(v, options));
    if (v->format == TD_FORMAT_GGUF) TD_TRY(check_new(to));
    td_checkpoint *checkpoint;
    TD_TRY(td_checkpoint_open(from, &checkpoint));
    v->from = checkpoint;
    td_sink sink = {.writer = {.fd = -1}};
    td_status status = td_outline_read(checkpoint, v->o);
    if (status == TD_OK && v->format == TD_FORMAT_GGUF && v->o->rope_halves)
        status = td_fail(TD_E_UNSUPPORTED, "checkpoint %s: expected rope_interleave true, because GGUF files of deepseek2 have no key for the other, found false", from);
    if (status == TD_OK) status = plan(v);
    if (status == TD_OK) status = open_sink(v, to, &sink);
    if (status == TD_OK) {
        td_pump_work work = {.row = make_row, .begin = prepare, .arg = v};
        if (options) work.progress = options->progress, work.progress_user = options->progress_user, work.threads = options->threads;
        status = td_pump_run(&v->list, &work, &sink);
        if (status == TD_OK) status = td_sink_commit(&sink);
        else td_sink_discard(&sink);
    }
    td_checkpoint_close(checkpoint);
    return status;
}

td_status td_convert(const char *from, const char *to, const td_convert_options *options)
{
    converter v = {.arena = {.name = "convert"}, .o = malloc(sizeof *v.o)};
    td_status status = v.o ? run(&v, from, to, options) : td_fail(TD_E_MEMORY, "convert: no memory");
    free(v.o);
    free(v.dense);
    td_arena_free(&v.arena);
    return status;
}
