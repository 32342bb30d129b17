/* gguf_values.c - the metadata of a GGUF as typed look-ups: keys sorted once, values read from the mapped file. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "checkpoint/inside.h"

static int compare_keys(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, TD_MIN(a_bytes, b_bytes));
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_key(const void *left, const void *right, void *arg)
{
    const td_gguf_value *values = arg, *a = &values[*(const uint32_t *)left], *b = &values[*(const uint32_t *)right];
    return compare_keys(a->key, a->key_bytes, b->key, b->key_bytes);
}

td_status td_gguf_index(td_checkpoint *c, const char *path)
{
    c->values_by_key = TD_NEW(&c->arena, uint32_t, c->values_count);
    if (!c->values_by_key) return TD_E_MEMORY;
    for (size_t i = 0; i < c->values_count; i++) c->values_by_key[i] = (uint32_t)i;
    qsort_r(c->values_by_key, c->values_count, sizeof *c->values_by_key, by_key, c->values);
    for (size_t i = 1; i < c->values_count; i++) {
        const td_gguf_value *v = &c->values[c->values_by_key[i]];
        if (!by_key(&c->values_by_key[i - 1], &c->values_by_key[i], c->values))
            return td_fail(TD_E_FORMAT, "file %s: key %.*s comes twice", path, (int)TD_MIN(v->key_bytes, (size_t)200), v->key);
    }
    return TD_OK;
}

const td_gguf_value *td_gguf_find(const td_checkpoint *c, const char *key)
{
    size_t low = 0, high = c->values_count, bytes = strlen(key);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const td_gguf_value *v = &c->values[c->values_by_key[middle]];
        int order = compare_keys(v->key, v->key_bytes, key, bytes);
        if (order == 0) return v;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static bool integer_at(td_gguf_type type, const uint8_t *data, int64_t *out)
{
    switch (type) {
    case GGUF_U8: *out = data[0]; return true;
    case GGUF_I8: *out = (int8_t)data[0]; return true;
    case GGUF_U16: { uint16_t v; memcpy(&v, data, 2); *out = v; return true; }
    case GGUF_I16: { int16_t v; memcpy(&v, data, 2); *out = v; return true; }
    case GGUF_U32: { uint32_t v; memcpy(&v, data, 4); *out = v; return true; }
    case GGUF_I32: { int32_t v; memcpy(&v, data, 4); *out = v; return true; }
    case GGUF_I64: memcpy(out, data, 8); return true;
    case GGUF_U64: {
        uint64_t v;
        memcpy(&v, data, 8);
        if (v > INT64_MAX) return false;
        *out = (int64_t)v;
        return true;
    }
    default: return false;
    }
}

static bool number_at(td_gguf_type type, const uint8_t *data, double *out)
{
    int64_t whole;
    if (type == GGUF_F64) memcpy(out, data, 8);
    else if (type == GGUF_F32) {
        float v;
        memcpy(&v, data, 4);
        *out = (double)v;
    } else if (integer_at(type, data, &whole)) *out = (double)whole;
    else return false;
    return true;
}

bool td_gguf_i64(const td_checkpoint *c, const char *key, int64_t *out)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    return v && integer_at(v->type, v->data, out);
}

bool td_gguf_f64(const td_checkpoint *c, const char *key, double *out)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    return v && number_at(v->type, v->data, out);
}

bool td_gguf_bool(const td_checkpoint *c, const char *key, bool *out)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    if (!v || v->type != GGUF_BOOL) return false;
    *out = v->data[0] != 0;
    return true;
}

bool td_gguf_has(const td_checkpoint *c, const char *key) { return td_gguf_find(c, key) != NULL; }

bool td_gguf_string(const td_checkpoint *c, const char *key, const char **out, size_t *bytes)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    if (!v || v->type != GGUF_STRING) return false;
    *out = (const char *)v->data;
    *bytes = v->bytes;
    return true;
}

static const td_gguf_value *array_with(const td_checkpoint *c, const char *key, size_t index)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    return v && v->type == GGUF_ARRAY && index < v->count ? v : NULL;
}

bool td_gguf_array_count(const td_checkpoint *c, const char *key, size_t *count)
{
    const td_gguf_value *v = td_gguf_find(c, key);
    if (!v || v->type != GGUF_ARRAY) return false;
    *count = v->count;
    return true;
}

bool td_gguf_array_i64(const td_checkpoint *c, const char *key, size_t index, int64_t *out)
{
    const td_gguf_value *v = array_with(c, key, index);
    if (!v || td_gguf_type_bytes(v->element) == 0) return false;
    const uint8_t *data = v->data + index * (size_t)td_gguf_type_bytes(v->element);
    if (v->element == GGUF_BOOL) return *out = data[0] != 0, true;
    return integer_at(v->element, data, out);
}

bool td_gguf_array_f64(const td_checkpoint *c, const char *key, size_t index, double *out)
{
    const td_gguf_value *v = array_with(c, key, index);
    return v && td_gguf_type_bytes(v->element) && number_at(v->element, v->data + index * (size_t)td_gguf_type_bytes(v->element), out);
}

bool td_gguf_array_string(const td_checkpoint *c, const char *key, size_t index, const char **out, size_t *bytes)
{
    const td_gguf_value *v = array_with(c, key, index);
    if (!v || !v->strings) return false;
    uint64_t length;
    memcpy(&length, v->strings[index], 8);
    *out = (const char *)v->strings[index] + 8;
    *bytes = length;
    return true;
}
