/* inspect.c - td_inspect: the tensor table of a checkpoint with the side of the house each tensor lives on, totals, metadata; as text or JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "checkpoint/inside.h"
#include "checkpoint/names.h"

enum { TYPES_MAX = 64, SHOWN_BYTES = 120 };

typedef struct { const char *name; uint64_t tensors, parameters, bytes; } total;
typedef struct {
    const td_checkpoint *c;
    td_family family;
    const char *found;        /* family name when it is not one of ours, or NULL */
    total types[TYPES_MAX];
    size_t types_count;
    total sides[3];           /* attention, ffn, other */
    int layers;               /* largest layer + 1 */
} view;

static uint64_t parameters_of(const td_tensor *t)
{
    int64_t n = td_tensor_elements(t);
    return n > 0 ? (uint64_t)n : 0;
}

static void add(total *sum, uint64_t parameters, uint64_t bytes)
{
    sum->tensors++;
    sum->parameters += parameters;
    sum->bytes += bytes;
}

static total *type_total(view *v, const char *name)
{
    for (size_t i = 0; i < v->types_count; i++)
        if (!strcmp(v->types[i].name, name)) return &v->types[i];
    if (v->types_count == TYPES_MAX) return &v->types[TYPES_MAX - 1]; /* more kinds than that is no model: the last line takes them */
    v->types[v->types_count].name = name;
    return &v->types[v->types_count++];
}

/* Side ('A', 'F' or '-') and slot of a tensor; slot TD_SLOTS when it is none of the text model's. */
static char place(const view *v, const td_tensor *t, td_name *name)
{
    *name = (td_name){.slot = TD_SLOTS, .layer = -1, .expert = -1};
    return td_name_read(v->family, td_checkpoint_format(v->c), t->name, name) ? td_slot_side(name->slot) : '-';
}

static void sum_up(view *v)
{
    static const char *const names[] = {"attention", "ffn", "other"};
    for (int i = 0; i < 3; i++) v->sides[i].name = names[i];
    for (size_t i = 0; i < td_checkpoint_count(v->c); i++) {
        const td_tensor *t = td_checkpoint_at(v->c, i);
        td_name name;
        char side = place(v, t, &name);
        uint64_t bytes = td_checkpoint_bytes(v->c, i);
        add(type_total(v, td_checkpoint_type_name(v->c, i)), parameters_of(t), bytes);
        add(&v->sides[side == 'A' ? 0 : side == 'F' ? 1 : 2], parameters_of(t), bytes);
        if (name.layer >= v->layers) v->layers = name.layer + 1;
    }
}

static void put_scalar(td_buffer *b, td_gguf_type type, const uint8_t *data)
{
    td_gguf_value v = {.type = type, .data = data};
    td_checkpoint one = {.values = &v, .values_count = 1, .values_by_key = (uint32_t[]){0}};
    int64_t whole;
    double real;
    v.key = "";
    if (type == GGUF_BOOL) td_buffer_text(b, data[0] ? "true" : "false");
    else if (td_gguf_i64(&one, "", &whole)) td_buffer_format(b, "%lld", (long long)whole);
    else if (td_gguf_f64(&one, "", &real) && real - real == 0) td_buffer_format(b, "%.9g", real);
    else td_buffer_text(b, "null");
}

static void put_value(td_buffer *b, const td_gguf_value *v)
{
    if (v->type == GGUF_STRING) {
        size_t shown = TD_MIN(v->bytes, (uint64_t)SHOWN_BYTES);
        td_buffer_json(b, (const char *)v->data, shown);
    } else if (v->type == GGUF_ARRAY) {
        td_buffer_format(b, "\"array of %llu %s\"", (unsigned long long)v->count, td_gguf_type_name(v->element));
    } else {
        put_scalar(b, v->type, v->data);
    }
}

/* "key": value pairs; for config.json every top-level key that is not an object or a long array. */
static void put_metadata(td_buffer *b, const td_checkpoint *c, const char *between, const char *colon, bool quoted)
{
    bool first = true;
    for (size_t i = 0; i < c->values_count; i++) {
        td_buffer_text(b, first ? "" : between);
        first = false;
        if (quoted) td_buffer_json(b, c->values[i].key, c->values[i].key_bytes);
        else td_buffer_put(b, c->values[i].key, c->values[i].key_bytes);
        td_buffer_text(b, colon);
        put_value(b, &c->values[i]);
    }
    for (const cJSON *item = c->config ? c->config->child : NULL; item; item = item->next) {
        char *text = cJSON_PrintUnformatted(item);
        if (!text) continue;
        td_buffer_text(b, first ? "" : between);
        first = false;
        if (quoted) td_buffer_json(b, item->string, strlen(item->string));
        else td_buffer_text(b, item->string);
        td_buffer_text(b, colon);
        size_t length = strlen(text);
        if (quoted || length <= SHOWN_BYTES) td_buffer_put(b, text, length);
        else td_buffer_format(b, "%s of %zu bytes", cJSON_IsObject(item) ? "object" : "text", length);
        cJSON_free(text);
    }
}

static void put_shape(td_buffer *b, const td_tensor *t, const char *between)
{
    for (int d = 0; d < t->dims; d++) td_buffer_format(b, "%s%lld", d ? between : "", (long long)t->shape[d]);
}

static const char *family_word(const view *v) { return v->family != TD_FAMILY_NONE ? td_family_name(v->family) : v->found ? v->found : "unknown"; }
static const char *format_word(const view *v) { return td_checkpoint_format(v->c) == TD_FORMAT_GGUF ? "gguf" : "safetensors"; }

static void put_bytes(td_buffer *b, uint64_t bytes)
{
    if (bytes >= 10000000000) td_buffer_format(b, "%.1f GB", (double)bytes / 1e9);
    else if (bytes >= 10000000) td_buffer_format(b, "%.1f MB", (double)bytes / 1e6);
    else td_buffer_format(b, "%llu B", (unsigned long long)bytes);
}

static void put_total_line(td_buffer *b, const total *t)
{
    td_buffer_format(b, "  %-10s %7llu tensors %16llu parameters  ", t->name, (unsigned long long)t->tensors, (unsigned long long)t->parameters);
    put_bytes(b, t->bytes);
    td_buffer_text(b, "\n");
}

static void put_text(const view *v, td_buffer *b)
{
    int width = 20;
    for (size_t i = 0; i < td_checkpoint_count(v->c); i++) width = TD_MAX(width, (int)TD_MIN(strlen(td_checkpoint_at(v->c, i)->name), (size_t)80));
    td_buffer_format(b, "%s: %s, family %s, %d layers\n\n%-*s  %-8s %-20s %14s  side layer\n", td_checkpoint_path(v->c), format_word(v), family_word(v), v->layers, width, "tensor", "type", "shape", "bytes");
    for (size_t i = 0; i < td_checkpoint_count(v->c); i++) {
        const td_tensor *t = td_checkpoint_at(v->c, i);
        td_name name;
        char side = place(v, t, &name);
        td_buffer shape = {0};
        put_shape(&shape, t, "x");
        td_buffer_format(b, "%-*s  %-8s %-20s %14llu  %c", width, t->name, td_checkpoint_type_name(v->c, i), shape.data ? shape.data : "", (unsigned long long)td_checkpoint_bytes(v->c, i), side);
        if (name.layer >= 0) td_buffer_format(b, "%8d", name.layer);
        if (v->c->entries[i].trouble) td_buffer_format(b, "  %s", v->c->entries[i].trouble);
        td_buffer_text(b, "\n");
        td_buffer_free(&shape);
    }
    td_buffer_text(b, "\ntypes\n");
    for (size_t i = 0; i < v->types_count; i++) put_total_line(b, &v->types[i]);
    td_buffer_text(b, "sides (A attention, F ffn, - not part of plain decoding)\n");
    for (int i = 0; i < 3; i++) put_total_line(b, &v->sides[i]);
    td_buffer_text(b, "metadata\n  ");
    put_metadata(b, v->c, "\n  ", " = ", false);
    td_buffer_text(b, "\n");
}

static void put_totals_json(td_buffer *b, const char *key, const total *totals, size_t count)
{
    td_buffer_format(b, ",\"%s\":{", key);
    for (size_t i = 0; i < count; i++) {
        td_buffer_text(b, i ? "," : "");
        td_buffer_json(b, totals[i].name, strlen(totals[i].name));
        td_buffer_format(b, ":{\"tensors\":%llu,\"parameters\":%llu,\"bytes\":%llu}", (unsigned long long)totals[i].tensors, (unsigned long long)totals[i].parameters, (unsigned long long)totals[i].bytes);
    }
    td_buffer_text(b, "}");
}

static void put_json(const view *v, td_buffer *b)
{
    td_buffer_text(b, "{\"path\":");
    td_buffer_json(b, td_checkpoint_path(v->c), strlen(td_checkpoint_path(v->c)));
    td_buffer_format(b, ",\"format\":\"%s\",\"family\":", format_word(v));
    td_buffer_json(b, family_word(v), strlen(family_word(v)));
    td_buffer_format(b, ",\"layers\":%d,\"tensors\":[", v->layers);
    for (size_t i = 0; i < td_checkpoint_count(v->c); i++) {
        const td_tensor *t = td_checkpoint_at(v->c, i);
        td_name name;
        char side = place(v, t, &name);
        td_buffer_text(b, i ? ",\n{\"name\":" : "\n{\"name\":");
        td_buffer_json(b, t->name, strlen(t->name));
        td_buffer_text(b, ",\"type\":");
        td_buffer_json(b, td_checkpoint_type_name(v->c, i), strlen(td_checkpoint_type_name(v->c, i)));
        td_buffer_text(b, ",\"shape\":[");
        put_shape(b, t, ",");
        td_buffer_format(b, "],\"bytes\":%llu,\"side\":\"%c\",\"slot\":", (unsigned long long)td_checkpoint_bytes(v->c, i), side);
        td_buffer_format(b, name.slot == TD_SLOTS ? "null" : "\"%s\"", td_slot_name(name.slot));
        td_buffer_format(b, name.layer < 0 ? ",\"layer\":null" : ",\"layer\":%d", name.layer);
        td_buffer_format(b, ",\"usable\":%s}", v->c->entries[i].trouble ? "false" : "true");
    }
    td_buffer_text(b, "]");
    put_totals_json(b, "types", v->types, v->types_count);
    put_totals_json(b, "sides", v->sides, 3);
    td_buffer_text(b, ",\"metadata\":{");
    put_metadata(b, v->c, ",", ":", true);
    td_buffer_text(b, "}}\n");
}

td_status td_inspect(const char *path, bool json, char **out)
{
    td_checkpoint *c;
    TD_TRY(td_checkpoint_open(path, &c));
    view *v = calloc(1, sizeof *v);
    td_buffer b = {0};
    td_status status = v ? TD_OK : td_fail(TD_E_MEMORY, "checkpoint %s: no memory", path);
    if (v) {
        v->c = c;
        v->family = td_family_of(c, &v->found);
        sum_up(v);
        (json ? put_json : put_text)(v, &b);
        status = td_buffer_status(&b);
    }
    free(v);
    td_checkpoint_close(c);
    if (status < 0) td_buffer_free(&b);
    else *out = b.data;
    return status;
}
