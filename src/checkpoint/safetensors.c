/*
 * safetensors.c - Hugging Face folders: config.json, one or many .safetensors files with or without an index, FP8 block scales.
 *
 * A file is an 8-byte little-endian header length, a JSON header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, and the data,
 * which the tensors cover without hole or overlap. As in the reference implementation the header has at most 100 MB. Nothing is believed before it is checked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "checkpoint/inside.h"

enum { HEADER_MAX = 100000000, CONFIG_MAX = 16 << 20, INDEX_MAX = 256 << 20 };

static const struct { const char *name; td_dtype type; int bits; } dtypes[] = {
    {"F32", TD_F32, 32}, {"F16", TD_F16, 16}, {"BF16", TD_BF16, 16}, {"F8_E4M3", TD_F8_E4M3, 8}, {"I8", TD_I8, 8}, {"I32", TD_I32, 32}, {"I64", TD_I64, 64},
    {"F64", TD_DTYPES, 64}, {"U8", TD_DTYPES, 8}, {"BOOL", TD_DTYPES, 8}, {"I16", TD_DTYPES, 16}, {"U16", TD_DTYPES, 16}, {"U32", TD_DTYPES, 32}, {"U64", TD_DTYPES, 64},
    {"F8_E5M2", TD_DTYPES, 8}, {"F8_E8M0", TD_DTYPES, 8}, {"C64", TD_DTYPES, 64}, {"F4", TD_DTYPES, 4}, {"F6_E2M3", TD_DTYPES, 6}, {"F6_E3M2", TD_DTYPES, 6},
};

/* What a header says of one tensor. */
typedef struct {
    char *name;
    char dtype[24];
    int dims; /* as written; -1: no shape yet */
    int64_t shape[TD_DIMS_MAX];
    uint64_t elements; /* of all dimensions */
    int64_t begin, end; /* begin -1: none yet */
} header_row;

static td_status read_shape(td_json *j, header_row *row)
{
    TD_TRY(td_json_expect(j, TD_JSON_ARRAY, "\"shape\""));
    row->dims = 0;
    row->elements = 1;
    for (;;) {
        TD_TRY(td_json_next(j));
        if (j->kind == TD_JSON_ARRAY_END) return TD_OK;
        int64_t size = 0;
        TD_TRY(td_json_i64(j, "a dimension", &size));
        if (size < 0) return td_json_fail(j, "tensor %s: expected a dimension of at least 0, found %lld", row->name, (long long)size);
        if (row->dims == 64) return td_json_fail(j, "tensor %s: expected at most 64 dimensions", row->name);
        if (row->dims < TD_DIMS_MAX) row->shape[row->dims] = size;
        row->dims++;
        if (__builtin_mul_overflow(row->elements, (uint64_t)size, &row->elements) || row->elements > INT64_MAX)
            return td_json_fail(j, "tensor %s: the number of elements does not fit 63 bits", row->name);
    }
}

static td_status read_offsets(td_json *j, header_row *row)
{
    TD_TRY(td_json_expect(j, TD_JSON_ARRAY, "\"data_offsets\""));
    TD_TRY(td_json_next(j));
    TD_TRY(td_json_i64(j, "\"data_offsets\"", &row->begin));
    TD_TRY(td_json_next(j));
    TD_TRY(td_json_i64(j, "\"data_offsets\"", &row->end));
    TD_TRY(td_json_expect(j, TD_JSON_ARRAY_END, "the end of \"data_offsets\""));
    if (row->begin < 0 || row->end < row->begin)
        return td_json_fail(j, "tensor %s: expected rising data_offsets, found %lld to %lld", row->name, (long long)row->begin, (long long)row->end);
    return TD_OK;
}

static td_status read_row(td_json *j, header_row *row)
{
    TD_TRY(td_json_expect(j, TD_JSON_OBJECT, "a tensor"));
    for (;;) {
        TD_TRY(td_json_next(j));
        if (j->kind == TD_JSON_OBJECT_END) break;
        if (td_json_equals(j, "dtype")) {
            TD_TRY(td_json_expect(j, TD_JSON_STRING, "\"dtype\""));
            if (j->token_bytes >= sizeof row->dtype) return td_json_fail(j, "tensor %s: expected a dtype, found a text of %zu bytes", row->name, j->token_bytes);
            td_json_text(j, row->dtype);
        } else if (td_json_equals(j, "shape")) TD_TRY(read_shape(j, row));
        else if (td_json_equals(j, "data_offsets")) TD_TRY(read_offsets(j, row));
        else TD_TRY(td_json_skip(j));
    }
    if (!row->dtype[0] || row->dims < 0 || row->begin < 0) return td_json_fail(j, "tensor %s: expected dtype, shape and data_offsets, found not all of them", row->name);
    return TD_OK;
}

/* Turns a row into a tensor; data starts at byte `start` of file. */
static td_status add_row(td_checkpoint *c, td_json *j, const td_file *file, uint64_t start, const header_row *row)
{
    size_t known = 0;
    while (known < TD_COUNT(dtypes) && strcmp(dtypes[known].name, row->dtype)) known++;
    uint64_t bytes = (uint64_t)(row->end - row->begin);
    if ((uint64_t)row->end > file->bytes - start)
        return td_json_fail(j, "tensor %s: its data ends at byte %llu of a file of %zu bytes", row->name, (unsigned long long)row->end + start, file->bytes);
    if (known < TD_COUNT(dtypes)) {
        uint64_t bits;
        if (__builtin_mul_overflow(row->elements, (uint64_t)dtypes[known].bits, &bits) || bits / 8 + (bits % 8 != 0) != bytes)
            return td_json_fail(j, "tensor %s: expected %llu elements of %s, found %llu bytes", row->name, (unsigned long long)row->elements, row->dtype, (unsigned long long)bytes);
    }
    td_tensor t = {.type = known < TD_COUNT(dtypes) ? dtypes[known].type : TD_DTYPES, .dims = row->dims ? TD_MIN(row->dims, TD_DIMS_MAX) : 1, .name = row->name};
    memcpy(t.shape, row->shape, sizeof t.shape);
    if (row->dims == 0) t.shape[0] = 1;
    td_entry entry = {.bytes = bytes, .offset = start + (uint64_t)row->begin, .file = (uint32_t)(c->files_count - 1)};
    entry.type_name = known < TD_COUNT(dtypes) ? dtypes[known].name : td_arena_text(&c->arena, row->dtype, strlen(row->dtype));
    if (!entry.type_name) return TD_E_MEMORY;
    if (row->dims > TD_DIMS_MAX) t.type = TD_DTYPES, entry.trouble = "expected at most 4 dimensions";
    else if (t.type == TD_DTYPES) {
        char text[64];
        int length = snprintf(text, sizeof text, "tensor type %s is not supported", row->dtype);
        if (!(entry.trouble = td_arena_text(&c->arena, text, (size_t)length))) return TD_E_MEMORY;
    } else {
        t.data = file->data + entry.offset;
        TD_TRY(td_checkpoint_align(c, &t, bytes));
    }
    return td_checkpoint_add(c, &t, &entry);
}

static td_status read_header(td_checkpoint *c, const td_file *file, uint64_t header_bytes, const char *what)
{
    td_json j;
    td_json_begin(&j, (const char *)file->data + 8, header_bytes, what);
    TD_TRY(td_json_expect(&j, TD_JSON_OBJECT, "the header"));
    for (;;) {
        TD_TRY(td_json_next(&j));
        if (j.kind == TD_JSON_OBJECT_END) break;
        if (td_json_equals(&j, "__metadata__")) {
            TD_TRY(td_json_skip(&j));
            continue;
        }
        header_row row = {.dims = -1, .begin = -1};
        row.name = td_arena_get(&c->arena, j.token_bytes + 1);
        if (!row.name) return TD_E_MEMORY;
        size_t length = td_json_text(&j, row.name);
        if (length == 0 || strlen(row.name) != length) return td_json_fail(&j, "expected a tensor's name, found an empty text or a NUL character");
        TD_TRY(read_row(&j, &row));
        TD_TRY(add_row(c, &j, file, 8 + header_bytes, &row));
    }
    return td_json_expect(&j, TD_JSON_END, "the end of the header");
}

static td_status read_file(td_checkpoint *c, const char *path)
{
    td_file file;
    TD_TRY(td_checkpoint_add_file(c, path, &file));
    if (file.bytes < 8) return td_fail(TD_E_FORMAT, "file %s: expected a safetensors file, found %zu bytes", path, file.bytes);
    uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; i--) header_bytes = header_bytes << 8 | file.data[i];
    if (header_bytes > HEADER_MAX || header_bytes > file.bytes - 8)
        return td_fail(TD_E_FORMAT, "file %s: expected a header of at most %llu bytes, found a length of %llu", path,
                       (unsigned long long)TD_MIN((uint64_t)HEADER_MAX, file.bytes - 8), (unsigned long long)header_bytes);
    char *what = malloc(strlen(path) + 32);
    if (!what) return td_fail(TD_E_MEMORY, "file %s: no memory", path);
    sprintf(what, "file %s, header", path);
    size_t first = c->count;
    td_status status = read_header(c, &file, header_bytes, what);
    free(what);
    TD_TRY(status);
    return td_checkpoint_check_extents(c, first, 8 + header_bytes, file.bytes, true);
}

/* ---- folders ---- */

/* Checked by the strict reader first (for the place of an error), then parsed. */
static td_status read_config(td_checkpoint *c)
{
    char *path = td_path_join(c->folder, "config.json"), *text = NULL;
    if (!path) return td_fail(TD_E_MEMORY, "folder %s: no memory", c->folder);
    size_t bytes = 0;
    td_status status = TD_OK;
    if (td_path_exists(path) && (status = td_file_read(path, CONFIG_MAX, &text, &bytes)) == TD_OK) {
        char what[512];
        snprintf(what, sizeof what, "file %.480s", path);
        td_json j;
        td_json_begin(&j, text, bytes, what);
        status = td_json_expect(&j, TD_JSON_OBJECT, "the configuration");
        if (status == TD_OK) status = td_json_skip(&j);
        if (status == TD_OK) status = td_json_expect(&j, TD_JSON_END, "the end");
        if (status == TD_OK && !(c->config = cJSON_ParseWithLength(text, bytes))) status = td_fail(TD_E_FORMAT, "file %s: expected a JSON object", path);
    }
    free(text);
    free(path);
    return status;
}

typedef struct { char **names; size_t count, capacity; } name_list;

static void free_names(name_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->names[i]);
    free(list->names);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static td_status add_name(name_list *list, char *name)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        char **names = realloc(list->names, capacity * sizeof *names);
        if (!names) return td_fail(TD_E_MEMORY, "no memory for %zu names", capacity);
        list->names = names;
        list->capacity = capacity;
    }
    list->names[list->count++] = name;
    return TD_OK;
}

static bool plain_file_name(const char *name) { return name[0] && name[0] != '.' && !strchr(name, '/'); }

/* The value of one weight_map entry; consecutive equal names are kept once, the rest is sorted out later. */
static td_status add_shard(td_json *j, name_list *shards)
{
    TD_TRY(td_json_expect(j, TD_JSON_STRING, "a shard's file name"));
    if (j->token_bytes > 1024) return td_json_fail(j, "expected a shard's file name, found a text of %zu bytes", j->token_bytes);
    char *name = malloc(j->token_bytes + 1);
    if (!name) return td_fail(TD_E_MEMORY, "no memory for a shard's name");
    td_status status = TD_OK;
    td_json_text(j, name);
    if (!plain_file_name(name)) status = td_json_fail(j, "expected a file name inside the folder, found %s", name);
    else if (shards->count && !strcmp(shards->names[shards->count - 1], name)) free(name), name = NULL;
    else if ((status = add_name(shards, name)) == TD_OK) name = NULL;
    free(name);
    return status;
}

/* Walks weight_map: with shards, collects the files; without, checks that every tensor of the map was found in the folder. */
static td_status walk_index(td_checkpoint *c, const char *text, size_t bytes, const char *what, name_list *shards)
{
    td_json j;
    td_json_begin(&j, text, bytes, what);
    bool found = false;
    TD_TRY(td_json_expect(&j, TD_JSON_OBJECT, "the index"));
    for (;;) {
        TD_TRY(td_json_next(&j));
        if (j.kind == TD_JSON_OBJECT_END) break;
        if (!td_json_equals(&j, "weight_map")) {
            TD_TRY(td_json_skip(&j));
            continue;
        }
        found = true;
        TD_TRY(td_json_expect(&j, TD_JSON_OBJECT, "\"weight_map\""));
        for (;;) {
            TD_TRY(td_json_next(&j));
            if (j.kind == TD_JSON_OBJECT_END) break;
            if (shards) TD_TRY(add_shard(&j, shards));
            else {
                char *name = malloc(j.token_bytes + 1);
                if (!name) return td_fail(TD_E_MEMORY, "%s: no memory for a name", what);
                td_json_text(&j, name);
                td_status status = td_checkpoint_place(c, name) < c->count ? TD_OK : td_json_fail(&j, "tensor %s is in no file of the folder", name);
                free(name);
                TD_TRY(status);
                TD_TRY(td_json_skip(&j));
            }
        }
    }
    if (!found) return td_json_fail(&j, "expected \"weight_map\", found none");
    return td_json_expect(&j, TD_JSON_END, "the end");
}

static td_status open_shards(td_checkpoint *c, name_list *shards)
{
    if (shards->count) qsort(shards->names, shards->count, sizeof *shards->names, compare_names);
    for (size_t i = 0; i < shards->count; i++) {
        if (i && !strcmp(shards->names[i - 1], shards->names[i])) continue;
        char *path = td_path_join(c->folder, shards->names[i]);
        if (!path) return td_fail(TD_E_MEMORY, "folder %s: no memory", c->folder);
        td_status status = read_file(c, path);
        free(path);
        TD_TRY(status);
    }
    return TD_OK;
}

static td_status open_indexed(td_checkpoint *c, const char *index)
{
    char *text = NULL, what[512];
    size_t bytes;
    snprintf(what, sizeof what, "file %.480s", index);
    TD_TRY(td_file_read(index, INDEX_MAX, &text, &bytes));
    name_list shards = {0};
    td_status status = walk_index(c, text, bytes, what, &shards);
    if (status == TD_OK) {
        status = open_shards(c, &shards);
        if (status == TD_E_NOT_FOUND) status = td_context(TD_E_FORMAT, "%s names a file that is missing", what);
    }
    free_names(&shards);
    if (status == TD_OK) status = td_checkpoint_sort_names(c);
    if (status == TD_OK) status = walk_index(c, text, bytes, what, NULL);
    free(text);
    return status;
}

static int visible_safetensors(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 12 && !strcmp(entry->d_name + length - 12, ".safetensors");
}

/* Without an index: model.safetensors, else every .safetensors file. */
static td_status open_unindexed(td_checkpoint *c)
{
    char *single = td_path_join(c->folder, "model.safetensors");
    if (!single) return td_fail(TD_E_MEMORY, "folder %s: no memory", c->folder);
    td_status status = td_path_exists(single) ? read_file(c, single) : 1;
    free(single);
    if (status != 1) return status;
    struct dirent **found;
    int count = scandir(c->folder, &found, visible_safetensors, alphasort);
    if (count < 0) return td_fail(TD_E_IO, "folder %s: cannot be listed", c->folder);
    name_list shards = {0};
    status = count ? TD_OK : td_fail(TD_E_NOT_FOUND, "folder %s: expected *.safetensors files or a GGUF file, found none", c->folder);
    for (int i = 0; i < count; i++) {
        char *name = status == TD_OK ? strdup(found[i]->d_name) : NULL;
        if (status == TD_OK) status = name ? add_name(&shards, name) : td_fail(TD_E_MEMORY, "folder %s: no memory", c->folder);
        free(found[i]);
    }
    free(found);
    if (status == TD_OK) status = open_shards(c, &shards);
    free_names(&shards);
    return status;
}

td_status td_safetensors_open(td_checkpoint *c, const char *path)
{
    c->format = TD_FORMAT_SAFETENSORS;
    bool folder = td_path_is_directory(path);
    const char *slash = strrchr(path, '/');
    c->folder = folder ? strdup(path) : slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!c->folder) return td_fail(TD_E_MEMORY, "checkpoint %s: no memory", path);
    TD_TRY(read_config(c));
    if (!folder) return read_file(c, path);
    char *index = td_path_join(path, "model.safetensors.index.json"), *single = td_path_join(path, "model.safetensors");
    td_status status;
    if (!index || !single) status = td_fail(TD_E_MEMORY, "folder %s: no memory", path);
    else if (td_path_exists(single)) status = read_file(c, single); /* before an index that an earlier save left, as transformers does */
    else status = td_path_exists(index) ? open_indexed(c, index) : open_unindexed(c);
    free(index);
    free(single);
    return status;
}

/* ---- FP8 block scales ---- */

static td_status check_scale_shape(const td_checkpoint *c, const td_tensor *t, const td_tensor *scale)
{
    bool right = scale->dims == t->dims && t->dims >= 2;
    for (int d = 0; right && d < t->dims; d++) {
        int64_t expected = d < t->dims - 2 ? t->shape[d] : t->shape[d] / TD_F8_BLOCK + (t->shape[d] % TD_F8_BLOCK != 0);
        right = scale->shape[d] == expected;
    }
    if (right) return TD_OK;
    return td_fail(TD_E_FORMAT, "checkpoint %s, tensor %s: expected one scale per 128x128 block of %s, found another shape", c->path, scale->name, t->name);
}

/* A scale's shape does not always betray another block size: config.json must not name one. */
static td_status check_block_size(const td_checkpoint *c)
{
    const cJSON *root = td_checkpoint_config(c), *text = cJSON_GetObjectItemCaseSensitive(root, "text_config"), *edge;
    const cJSON *quantised = cJSON_GetObjectItemCaseSensitive(root, "quantization_config");
    if (!quantised) quantised = cJSON_GetObjectItemCaseSensitive(text, "quantization_config");
    cJSON_ArrayForEach(edge, cJSON_GetObjectItemCaseSensitive(quantised, "weight_block_size"))
        if (!cJSON_IsNumber(edge) || edge->valuedouble != TD_F8_BLOCK)
            return td_fail(TD_E_UNSUPPORTED, "checkpoint %s: config.json quantization_config.weight_block_size: expected [128, 128], found another size", c->path);
    return TD_OK;
}

static const float *scale_values(td_checkpoint *c, const td_tensor *scale)
{
    if (scale->type == TD_F32) return scale->data;
    int64_t count = td_tensor_elements(scale);
    float *values = TD_NEW(&c->arena, float, (size_t)count);
    if (values) td_dequantise_row(scale->type, scale->data, values, count);
    return values;
}

td_status td_safetensors_attach_scales(td_checkpoint *c, bool *removed)
{
    static const char ending[] = "_scale_inv";
    bool *gone = TD_NEW(&c->arena, bool, c->count);
    if (!gone) return TD_E_MEMORY;
    for (size_t i = 0; i < c->count; i++) {
        td_tensor *scale = &c->tensors[i];
        size_t length = strlen(scale->name);
        if (length < sizeof ending || strcmp(scale->name + length - (sizeof ending - 1), ending)) continue;
        char *base = td_arena_text(&c->arena, scale->name, length - (sizeof ending - 1));
        if (!base) return TD_E_MEMORY;
        size_t place = td_checkpoint_place(c, base);
        if (place == c->count || c->tensors[place].type != TD_F8_E4M3) continue;
        if (scale->type != TD_F32 && scale->type != TD_BF16 && scale->type != TD_F16)
            return td_fail(TD_E_UNSUPPORTED, "checkpoint %s, tensor %s: expected scales of type F32, BF16 or F16, found %s", c->path, scale->name, c->entries[i].type_name);
        TD_TRY(check_block_size(c));
        TD_TRY(check_scale_shape(c, &c->tensors[place], scale));
        if (!(c->tensors[place].scale = scale_values(c, scale))) return TD_E_MEMORY;
        c->entries[place].bytes += c->entries[i].bytes;
        gone[i] = *removed = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (gone[i]) continue;
        c->tensors[kept] = c->tensors[i];
        c->entries[kept++] = c->entries[i];
    }
    c->count = kept;
    return TD_OK;
}
