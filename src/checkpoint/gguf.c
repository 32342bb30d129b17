/*
 * gguf.c - reading GGUF v2 and v3, split sets included: header, metadata, tensor table.
 *
 * File: "GGUF", u32 version, u64 tensors, u64 keys; keys (string, u32 type, value); tensors (string name, u32 dims, u64 sizes innermost first, u32 type, u64 offset);
 * padding to the alignment; data. All little-endian. A cursor reads it; it never passes the end of the file, and every count is checked against what is left
 * before anything is allocated for it, so that a lying header costs no more than a small multiple of the file's own size.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/inside.h"

enum { KEY_MAX = 65535, NAME_MAX_BYTES = 1024, ARRAY_DEPTH = 4, ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 1 << 20, SPLITS_MAX = 65535 };

/* ggml's tensor types by number: block elements and bytes; TD_DTYPES: known, but not of this program. */
static const struct { const char *name; td_dtype type; uint16_t elements, bytes; } ggml_types[] = {
    [0] = {"f32", TD_F32, 1, 4}, [1] = {"f16", TD_F16, 1, 2}, [2] = {"q4_0", TD_Q4_0, 32, 18}, [3] = {"q4_1", TD_DTYPES, 32, 20}, [6] = {"q5_0", TD_DTYPES, 32, 22},
    [7] = {"q5_1", TD_DTYPES, 32, 24}, [8] = {"q8_0", TD_Q8_0, 32, 34}, [9] = {"q8_1", TD_DTYPES, 32, 36}, [10] = {"q2_K", TD_DTYPES, 256, 84}, [11] = {"q3_K", TD_DTYPES, 256, 110},
    [12] = {"q4_K", TD_Q4_K, 256, 144}, [13] = {"q5_K", TD_Q5_K, 256, 176}, [14] = {"q6_K", TD_Q6_K, 256, 210}, [15] = {"q8_K", TD_DTYPES, 256, 292},
    [16] = {"iq2_xxs", TD_DTYPES, 256, 66}, [17] = {"iq2_xs", TD_DTYPES, 256, 74}, [18] = {"iq3_xxs", TD_DTYPES, 256, 98}, [19] = {"iq1_s", TD_DTYPES, 256, 50},
    [20] = {"iq4_nl", TD_DTYPES, 32, 18}, [21] = {"iq3_s", TD_DTYPES, 256, 110}, [22] = {"iq2_s", TD_DTYPES, 256, 82}, [23] = {"iq4_xs", TD_DTYPES, 256, 136},
    [24] = {"i8", TD_I8, 1, 1}, [25] = {"i16", TD_DTYPES, 1, 2}, [26] = {"i32", TD_I32, 1, 4}, [27] = {"i64", TD_I64, 1, 8}, [28] = {"f64", TD_DTYPES, 1, 8},
    [29] = {"iq1_m", TD_DTYPES, 256, 56}, [30] = {"bf16", TD_BF16, 1, 2}, [34] = {"tq1_0", TD_DTYPES, 256, 54}, [35] = {"tq2_0", TD_DTYPES, 256, 66},
    [39] = {"mxfp4", TD_DTYPES, 32, 17}, [40] = {"nvfp4", TD_DTYPES, 64, 36},
};

typedef struct { const td_file *file; uint64_t at; const char *what; } cursor; /* what: the thing being read, for messages */

static td_status cut_off(const cursor *c, uint64_t wanted)
{
    return td_fail(TD_E_FORMAT, "file %s, byte %llu: expected %llu more bytes for %s, found %llu", c->file->path, (unsigned long long)c->at, (unsigned long long)wanted, c->what,
                   (unsigned long long)(c->file->bytes - c->at));
}

static uint64_t left(const cursor *c) { return c->file->bytes - c->at; }

static uint64_t little_endian(const uint8_t *data, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | data[i];
    return value;
}

static td_status read_u32(cursor *c, uint32_t *out)
{
    if (left(c) < 4) return cut_off(c, 4);
    *out = (uint32_t)little_endian(c->file->data + c->at, 4);
    c->at += 4;
    return TD_OK;
}

static td_status read_u64(cursor *c, uint64_t *out)
{
    if (left(c) < 8) return cut_off(c, 8);
    *out = little_endian(c->file->data + c->at, 8);
    c->at += 8;
    return TD_OK;
}

static td_status read_string(cursor *c, const char **out, uint64_t *bytes)
{
    uint64_t length = 0;
    TD_TRY(read_u64(c, &length));
    if (length > left(c)) return cut_off(c, length);
    *out = (const char *)c->file->data + c->at;
    *bytes = length;
    c->at += length;
    return TD_OK;
}

int td_gguf_type_bytes(td_gguf_type type)
{
    static const uint8_t bytes[GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return (unsigned)type < GGUF_TYPES ? bytes[type] : 0;
}

const char *td_gguf_type_name(td_gguf_type type)
{
    static const char *const names[GGUF_TYPES] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)type < GGUF_TYPES ? names[type] : "?";
}

static td_status read_type(cursor *c, td_gguf_type *out)
{
    uint32_t type = 0;
    uint64_t at = c->at;
    TD_TRY(read_u32(c, &type));
    if (type >= GGUF_TYPES) return td_fail(TD_E_FORMAT, "file %s, byte %llu: expected a value type from 0 to 12 for %s, found %u", c->file->path, (unsigned long long)at, c->what, type);
    *out = (td_gguf_type)type;
    return TD_OK;
}

static td_status skip_array(cursor *c, int depth);

static td_status skip_elements(cursor *c, td_gguf_type type, uint64_t count, int depth)
{
    int size = td_gguf_type_bytes(type);
    if (size > 0) {
        if (count > left(c) / (unsigned)size) return cut_off(c, count > UINT64_MAX / 8 ? UINT64_MAX : count * (unsigned)size);
        c->at += count * (unsigned)size;
        return TD_OK;
    }
    if (count > left(c) / 8) return cut_off(c, count > UINT64_MAX / 8 ? UINT64_MAX : count * 8);
    for (uint64_t i = 0; i < count; i++) {
        const char *text;
        uint64_t bytes;
        if (type == GGUF_STRING) TD_TRY(read_string(c, &text, &bytes));
        else TD_TRY(skip_array(c, depth + 1));
    }
    return TD_OK;
}

static td_status skip_array(cursor *c, int depth)
{
    td_gguf_type type = GGUF_U8;
    uint64_t count = 0;
    if (depth >= ARRAY_DEPTH) return td_fail(TD_E_FORMAT, "file %s, byte %llu: expected at most %d nested arrays in %s", c->file->path, (unsigned long long)c->at, ARRAY_DEPTH, c->what);
    TD_TRY(read_type(c, &type));
    TD_TRY(read_u64(c, &count));
    return skip_elements(c, type, count, depth);
}

/* Keeps where each string of an array stands. */
static td_status index_strings(td_checkpoint *checkpoint, cursor *c, td_gguf_value *value)
{
    if (value->count > left(c) / 8) return cut_off(c, value->count > UINT64_MAX / 8 ? UINT64_MAX : value->count * 8);
    const uint8_t **strings = TD_NEW(&checkpoint->arena, const uint8_t *, value->count);
    if (!strings) return TD_E_MEMORY;
    for (uint64_t i = 0; i < value->count; i++) {
        const char *text;
        uint64_t bytes;
        strings[i] = c->file->data + c->at;
        TD_TRY(read_string(c, &text, &bytes));
    }
    value->strings = strings;
    return TD_OK;
}

static td_status read_value(td_checkpoint *checkpoint, cursor *c, td_gguf_value *value)
{
    TD_TRY(read_type(c, &value->type));
    value->count = 1;
    if (value->type == GGUF_STRING) {
        const char *text;
        TD_TRY(read_string(c, &text, &value->bytes));
        value->data = (const uint8_t *)text;
        return TD_OK;
    }
    if (value->type != GGUF_ARRAY) {
        value->data = c->file->data + c->at;
        return skip_elements(c, value->type, 1, 0);
    }
    TD_TRY(read_type(c, &value->element));
    TD_TRY(read_u64(c, &value->count));
    value->data = c->file->data + c->at;
    return value->element == GGUF_STRING ? index_strings(checkpoint, c, value) : skip_elements(c, value->element, value->count, 0);
}

static td_status read_values(td_checkpoint *checkpoint, cursor *c, uint64_t count, td_gguf_value **out)
{
    c->what = "the metadata";
    if (count > left(c) / 13) return cut_off(c, count > UINT64_MAX / 13 ? UINT64_MAX : count * 13); /* a length, a type and one byte at least */
    td_gguf_value *values = TD_NEW(&checkpoint->arena, td_gguf_value, count);
    if (!values) return TD_E_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        c->what = "a key";
        uint64_t at = c->at, bytes;
        TD_TRY(read_string(c, &values[i].key, &bytes));
        if (bytes == 0 || bytes > KEY_MAX || memchr(values[i].key, 0, bytes))
            return td_fail(TD_E_FORMAT, "file %s, byte %llu: expected a key of 1 to %d bytes without NUL, found %llu bytes", c->file->path, (unsigned long long)at, KEY_MAX, (unsigned long long)bytes);
        values[i].key_bytes = bytes;
        char what[96];
        snprintf(what, sizeof what, "key %.*s", (int)TD_MIN(bytes, (uint64_t)64), values[i].key);
        c->what = what;
        td_status status = read_value(checkpoint, c, &values[i]);
        c->what = "the metadata";
        TD_TRY(status);
    }
    *out = values;
    return TD_OK;
}

typedef struct { uint64_t sizes[TD_DIMS_MAX], offset; uint32_t dims, type; char *name; } table_row;

static td_status read_row(td_checkpoint *checkpoint, cursor *c, table_row *row)
{
    const char *name;
    uint64_t bytes, at = c->at;
    c->what = "a tensor";
    TD_TRY(read_string(c, &name, &bytes));
    if (bytes == 0 || bytes > NAME_MAX_BYTES || memchr(name, 0, bytes))
        return td_fail(TD_E_FORMAT, "file %s, byte %llu: expected a tensor's name of 1 to %d bytes without NUL, found %llu bytes", c->file->path, (unsigned long long)at, NAME_MAX_BYTES, (unsigned long long)bytes);
    if (!(row->name = td_arena_text(&checkpoint->arena, name, bytes))) return TD_E_MEMORY;
    TD_TRY(read_u32(c, &row->dims));
    if (row->dims < 1 || row->dims > TD_DIMS_MAX)
        return td_fail(TD_E_FORMAT, "file %s, tensor %s: expected 1 to %d dimensions, found %u", c->file->path, row->name, TD_DIMS_MAX, row->dims);
    for (uint32_t d = 0; d < row->dims; d++) TD_TRY(read_u64(c, &row->sizes[d]));
    TD_TRY(read_u32(c, &row->type));
    return read_u64(c, &row->offset);
}

/* Bytes of a tensor of a known type, or an error: sizes of zero, too large for 63 bits, rows that are not whole blocks. */
static td_status row_bytes(const cursor *c, const table_row *row, uint64_t *bytes)
{
    uint64_t elements = 1;
    for (uint32_t d = 0; d < row->dims; d++)
        if (row->sizes[d] == 0 || __builtin_mul_overflow(elements, row->sizes[d], &elements) || elements > INT64_MAX / 8)
            return td_fail(TD_E_FORMAT, "file %s, tensor %s: expected sizes above 0 whose product fits 60 bits, found %llu in dimension %u", c->file->path, row->name,
                           (unsigned long long)row->sizes[d], d);
    *bytes = 0;
    if (row->type >= TD_COUNT(ggml_types) || !ggml_types[row->type].name) return TD_OK;
    unsigned block = ggml_types[row->type].elements;
    if (row->sizes[0] % block)
        return td_fail(TD_E_FORMAT, "file %s, tensor %s: expected rows of a multiple of %u elements for type %s, found %llu", c->file->path, row->name, block, ggml_types[row->type].name,
                       (unsigned long long)row->sizes[0]);
    if (__builtin_mul_overflow(elements / block, (uint64_t)ggml_types[row->type].bytes, bytes)) *bytes = UINT64_MAX;
    return TD_OK;
}

/* data: start of the data section, a multiple of alignment. */
static td_status add_tensor(td_checkpoint *checkpoint, const cursor *c, const table_row *row, uint64_t data, uint64_t alignment)
{
    uint64_t bytes;
    const char *path = c->file->path;
    TD_TRY(row_bytes(c, row, &bytes));
    if (row->offset % alignment)
        return td_fail(TD_E_FORMAT, "file %s, tensor %s: expected an offset that is a multiple of %llu, found %llu", path, row->name, (unsigned long long)alignment, (unsigned long long)row->offset);
    uint64_t room = data < c->file->bytes ? c->file->bytes - data : 0;
    if (row->offset > room || bytes > room - row->offset)
        return td_fail(TD_E_FORMAT, "file %s, tensor %s: expected %llu bytes of data at byte %llu, found a file of %zu bytes", path, row->name, (unsigned long long)bytes,
                       (unsigned long long)(row->offset > UINT64_MAX - data ? UINT64_MAX : data + row->offset), c->file->bytes);
    td_tensor t = {.type = TD_DTYPES, .dims = (int)row->dims, .name = row->name};
    for (uint32_t d = 0; d < row->dims; d++) t.shape[d] = (int64_t)row->sizes[row->dims - 1 - d];
    td_entry entry = {.bytes = bytes, .offset = data + row->offset, .file = (uint32_t)(checkpoint->files_count - 1)};
    bool known = row->type < TD_COUNT(ggml_types) && ggml_types[row->type].name;
    if (known) t.type = ggml_types[row->type].type;
    if (t.type == TD_DTYPES) {
        char text[64];
        int length = snprintf(text, sizeof text, known ? "tensor type %s (%u) is not supported" : "tensor type%s %u is unknown", known ? ggml_types[row->type].name : "", row->type);
        if (!(entry.trouble = td_arena_text(&checkpoint->arena, text, (size_t)length))) return TD_E_MEMORY;
        length = snprintf(text, sizeof text, "type %u", row->type);
        entry.type_name = known ? ggml_types[row->type].name : td_arena_text(&checkpoint->arena, text, (size_t)length);
        if (!entry.type_name) return TD_E_MEMORY;
    } else {
        entry.type_name = ggml_types[row->type].name;
        t.data = c->file->data + entry.offset;
        TD_TRY(td_checkpoint_align(checkpoint, &t, bytes)); /* only files with an alignment below 8 */
    }
    return td_checkpoint_add(checkpoint, &t, &entry);
}

static const td_gguf_value *value_of(const td_gguf_value *values, uint64_t count, const char *key)
{
    size_t bytes = strlen(key);
    for (uint64_t i = 0; i < count; i++)
        if (values[i].key_bytes == bytes && !memcmp(values[i].key, key, bytes)) return &values[i];
    return NULL;
}

/* An unsigned number of at most 32 bits under key, or fallback. */
static uint64_t number_of(const td_gguf_value *values, uint64_t count, const char *key, uint64_t fallback)
{
    const td_gguf_value *v = value_of(values, count, key);
    if (!v || (v->type != GGUF_U8 && v->type != GGUF_U16 && v->type != GGUF_U32 && v->type != GGUF_I32 && v->type != GGUF_U64 && v->type != GGUF_I64)) return fallback;
    return little_endian(v->data, td_gguf_type_bytes(v->type));
}

static td_status read_head(cursor *c, uint64_t *tensors, uint64_t *values)
{
    const td_file *file = c->file;
    uint32_t version = 0;
    if (file->bytes < 4 || memcmp(file->data, "GGUF", 4))
        return td_fail(TD_E_FORMAT, "file %s: expected a folder, a .safetensors file or a GGUF file, found %s", file->path, file->bytes ? "other bytes at its start" : "an empty file");
    c->at = 4;
    TD_TRY(read_u32(c, &version));
    if (version != 2 && version != 3) {
        bool swapped = version >> 24 == 2 || version >> 24 == 3;
        return td_fail(TD_E_UNSUPPORTED, "file %s: expected GGUF version 2 or 3, found %s%u", file->path, swapped ? "a big-endian " : "", swapped ? version >> 24 : version);
    }
    TD_TRY(read_u64(c, tensors));
    return read_u64(c, values);
}

typedef struct { uint64_t number, count, tensors_all, tensors; } split_info;

/* Reads one file of a set and appends its tensors; the first file's metadata becomes the checkpoint's. */
static td_status read_file(td_checkpoint *checkpoint, const char *path, split_info *split)
{
    td_file file;
    TD_TRY(td_checkpoint_add_file(checkpoint, path, &file));
    cursor c = {.file = &file, .what = "the header"};
    uint64_t tensors = 0, count = 0;
    td_gguf_value *values = NULL;
    TD_TRY(read_head(&c, &tensors, &count));
    TD_TRY(read_values(checkpoint, &c, count, &values));
    *split = (split_info){number_of(values, count, "split.no", 0), number_of(values, count, "split.count", 0), number_of(values, count, "split.tensors.count", 0), tensors};
    uint64_t alignment = number_of(values, count, "general.alignment", ALIGNMENT_DEFAULT);
    if (alignment == 0 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)))
        return td_fail(TD_E_FORMAT, "file %s: expected general.alignment to be a power of two up to %d, found %llu", path, ALIGNMENT_MAX, (unsigned long long)alignment);
    if (!checkpoint->values) {
        checkpoint->values = values;
        checkpoint->values_count = count;
    }
    c.what = "the tensor table";
    if (tensors > left(&c) / 33) return cut_off(&c, tensors > UINT64_MAX / 33 ? UINT64_MAX : tensors * 33); /* name of one byte, one dimension */
    table_row *rows = malloc((tensors + 1) * sizeof *rows);
    if (!rows) return td_fail(TD_E_MEMORY, "file %s: no memory for %llu tensors", path, (unsigned long long)tensors);
    td_status status = TD_OK;
    for (uint64_t i = 0; i < tensors && status == TD_OK; i++) status = read_row(checkpoint, &c, &rows[i]);
    uint64_t data = (c.at + alignment - 1) / alignment * alignment;
    size_t first = checkpoint->count;
    for (uint64_t i = 0; i < tensors && status == TD_OK; i++) status = add_tensor(checkpoint, &c, &rows[i], data, alignment);
    free(rows);
    TD_TRY(status);
    return td_checkpoint_check_extents(checkpoint, first, data, file.bytes, false);
}

/* "name-00002-of-00005.gguf": the place of "00002", or NULL. */
static const char *split_number(const char *path)
{
    static const char shape[] = "-00000-of-00000.gguf";
    size_t length = strlen(path), tail = sizeof shape - 1;
    if (length < tail) return NULL;
    const char *end = path + length - tail;
    for (size_t i = 0; i < tail; i++)
        if (shape[i] == '0' ? end[i] < '0' || end[i] > '9' : end[i] != shape[i]) return NULL;
    return end + 1;
}

static td_status check_split(const char *path, const split_info *split, uint64_t number, uint64_t count)
{
    if (split->number == number && split->count == count) return TD_OK;
    return td_fail(TD_E_FORMAT, "file %s: expected split %llu of %llu, found split.no %llu and split.count %llu", path, (unsigned long long)number, (unsigned long long)count,
                   (unsigned long long)split->number, (unsigned long long)split->count);
}

static td_status read_set(td_checkpoint *checkpoint, char *path, char *number)
{
    uint64_t count = strtoull(number + 9, NULL, 10);
    split_info split = {0};
    if (count == 0 || count > SPLITS_MAX) return td_fail(TD_E_FORMAT, "file %s: expected a set of 1 to %d files, found %llu", path, SPLITS_MAX, (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        char digits[24];
        snprintf(digits, sizeof digits, "%05llu", (unsigned long long)i + 1);
        memcpy(number, digits, 5);
        td_status status = read_file(checkpoint, path, &split);
        if (status == TD_E_NOT_FOUND && i) return td_context(TD_E_FORMAT, "GGUF in %llu files", (unsigned long long)count);
        TD_TRY(status);
        if (i == 0 && split.count <= 1 && count == 1) return TD_OK;
        TD_TRY(check_split(path, &split, i, count));
    }
    if (split.tensors_all && split.tensors_all != checkpoint->count)
        return td_fail(TD_E_FORMAT, "file %s: expected %llu tensors in the set (split.tensors.count), found %zu", path, (unsigned long long)split.tensors_all, checkpoint->count);
    return TD_OK;
}

td_status td_gguf_open(td_checkpoint *checkpoint, const char *path)
{
    checkpoint->format = TD_FORMAT_GGUF;
    free(checkpoint->folder);
    checkpoint->folder = NULL;
    split_info split = {0};
    const char *number = split_number(path);
    if (number) {
        char *copy = strdup(path);
        if (!copy) return td_fail(TD_E_MEMORY, "file %s: no memory", path);
        td_status status = td_path_exists(path) ? read_set(checkpoint, copy, copy + (number - path)) : td_fail(TD_E_NOT_FOUND, "file %s: does not exist", path);
        free(copy);
        TD_TRY(status);
    } else {
        TD_TRY(read_file(checkpoint, path, &split));
        if (split.count > 1)
            return td_fail(TD_E_FORMAT, "file %s: expected a whole model, found split %llu of %llu under a name that does not say so (…-00001-of-00003.gguf)", path,
                           (unsigned long long)split.number + 1, (unsigned long long)split.count);
    }
    return td_gguf_index(checkpoint, path);
}
