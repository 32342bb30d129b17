/* sink.c - see sink.h. A folder is written beside its final name and renamed at the end, as td_writer does with a file. */
#define _GNU_SOURCE
#include "checkpoint/sink.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32 };
static const uint64_t shard_bytes_max = 5000000000u; /* as transformers cuts them */

/* ---- GGUF keys ---- */

static void put_text(td_buffer *b, const char *text, size_t bytes)
{
    uint64_t length = bytes;
    td_buffer_put(b, &length, 8);
    td_buffer_put(b, text, bytes);
}

static void put_key(td_gguf_keys *keys, const char *key, uint32_t type)
{
    put_text(&keys->bytes, key, strlen(key));
    td_buffer_put(&keys->bytes, &type, 4);
    keys->count++;
}

void td_gguf_put_u32(td_gguf_keys *keys, const char *key, int64_t value)
{
    uint32_t v = (uint32_t)value;
    put_key(keys, key, GGUF_U32);
    td_buffer_put(&keys->bytes, &v, 4);
}

void td_gguf_put_f32(td_gguf_keys *keys, const char *key, double value)
{
    float v = (float)value;
    put_key(keys, key, GGUF_F32);
    td_buffer_put(&keys->bytes, &v, 4);
}

void td_gguf_put_bool(td_gguf_keys *keys, const char *key, bool value)
{
    put_key(keys, key, GGUF_BOOL);
    td_buffer_put(&keys->bytes, value ? "\1" : "\0", 1);
}

void td_gguf_put_string(td_gguf_keys *keys, const char *key, const char *text, size_t bytes)
{
    put_key(keys, key, GGUF_STRING);
    put_text(&keys->bytes, text, bytes);
}

void td_gguf_put_array(td_gguf_keys *keys, const char *key, td_gguf_type element, uint64_t count)
{
    uint32_t type = element;
    put_key(keys, key, GGUF_ARRAY);
    td_buffer_put(&keys->bytes, &type, 4);
    td_buffer_put(&keys->bytes, &count, 8);
}

void td_gguf_put_element_i32(td_gguf_keys *keys, int32_t value) { td_buffer_put(&keys->bytes, &value, 4); }
void td_gguf_put_element_f32(td_gguf_keys *keys, float value) { td_buffer_put(&keys->bytes, &value, 4); }
void td_gguf_put_element_string(td_gguf_keys *keys, const char *text, size_t bytes) { put_text(&keys->bytes, text, bytes); }

/* ---- common ---- */

uint64_t td_sink_row_bytes(const td_sink_row *row)
{
    td_tensor t = {.type = row->type, .dims = row->dims};
    memcpy(t.shape, row->shape, sizeof t.shape);
    return td_tensor_bytes(&t);
}

static td_status begin(const char *path, td_format format, const td_sink_row *rows, size_t count, td_sink *sink)
{
    *sink = (td_sink){.format = format, .rows = rows, .count = count, .path = strdup(path), .writer = {.fd = -1}};
    if (!sink->path) return td_fail(TD_E_MEMORY, "file %s: no memory", path);
    size_t length = strlen(sink->path);
    while (length > 1 && sink->path[length - 1] == '/') sink->path[--length] = 0;
    for (size_t i = 0; i < count; i++) sink->total += td_sink_row_bytes(&rows[i]);
    if (count) sink->left = td_sink_row_bytes(&rows[0]);
    return TD_OK;
}

/* ---- GGUF ---- */

static uint32_t ggml_number(td_dtype type)
{
    static const uint8_t numbers[TD_DTYPES] = {[TD_F32] = 0, [TD_F16] = 1, [TD_BF16] = 30, [TD_Q8_0] = 8, [TD_Q4_0] = 2, [TD_Q4_K] = 12, [TD_Q5_K] = 13, [TD_Q6_K] = 14,
                                               [TD_I8] = 24, [TD_I32] = 26, [TD_I64] = 27, [TD_F8_E4M3] = 24};
    return numbers[type];
}

static td_status gguf_header(td_sink *sink, const td_gguf_keys *keys)
{
    td_buffer head = {0};
    uint32_t version = GGUF_VERSION;
    uint64_t tensors = sink->count, offset = 0;
    td_buffer_put(&head, "GGUF", 4);
    td_buffer_put(&head, &version, 4);
    td_buffer_put(&head, &tensors, 8);
    td_buffer_put(&head, &keys->count, 8);
    td_buffer_put(&head, keys->bytes.data, keys->bytes.bytes);
    for (size_t i = 0; i < sink->count; i++) {
        const td_sink_row *row = &sink->rows[i];
        uint32_t dims = (uint32_t)row->dims, type = ggml_number(row->type);
        put_text(&head, row->name, strlen(row->name));
        td_buffer_put(&head, &dims, 4);
        for (int d = row->dims - 1; d >= 0; d--) td_buffer_put(&head, &row->shape[d], 8);
        td_buffer_put(&head, &type, 4);
        td_buffer_put(&head, &offset, 8);
        offset += (td_sink_row_bytes(row) + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    }
    td_status status = td_buffer_status(&head);
    if (status == TD_OK) status = td_buffer_status(&keys->bytes);
    if (status == TD_OK) status = td_writer_put(&sink->writer, head.data, head.bytes);
    if (status == TD_OK) status = td_writer_align(&sink->writer, GGUF_ALIGNMENT);
    td_buffer_free(&head);
    return status;
}

td_status td_sink_open_gguf(const char *path, const td_gguf_keys *keys, const td_sink_row *rows, size_t count, td_sink *out)
{
    td_sink sink;
    td_status status = begin(path, TD_FORMAT_GGUF, rows, count, &sink);
    if (status == TD_OK) status = td_writer_open(sink.path, &sink.writer);
    if (status == TD_OK) status = gguf_header(&sink, keys);
    if (status < 0) td_sink_discard(&sink);
    else *out = sink;
    return status;
}

/* ---- safetensors ---- */

static const char *safetensors_type(td_dtype type)
{
    switch (type) {
    case TD_F32: return "F32";
    case TD_F16: return "F16";
    case TD_BF16: return "BF16";
    case TD_F8_E4M3: return "F8_E4M3";
    case TD_I8: return "I8";
    case TD_I32: return "I32";
    default: return "I64";
    }
}

/* First row that does not fit the shard that begins with row first. */
static size_t shard_end(const td_sink *sink, size_t first)
{
    uint64_t bytes = 0;
    size_t i = first;
    for (; i < sink->count; i++) {
        bytes += td_sink_row_bytes(&sink->rows[i]);
        if (bytes > shard_bytes_max && i > first) break;
    }
    return i;
}

static void shard_name(const td_sink *sink, char out[64])
{
    if (sink->shards == 1) snprintf(out, 64, "model.safetensors");
    else snprintf(out, 64, "model-%05zu-of-%05zu.safetensors", sink->shard + 1, sink->shards);
}

static td_status open_shard(td_sink *sink)
{
    char name[64];
    td_buffer head = {0};
    uint64_t offset = 0;
    shard_name(sink, name);
    sink->shard_end = shard_end(sink, sink->at);
    td_buffer_text(&head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = sink->at; i < sink->shard_end; i++) {
        const td_sink_row *row = &sink->rows[i];
        uint64_t bytes = td_sink_row_bytes(row);
        td_buffer_text(&head, ",");
        td_buffer_json(&head, row->name, strlen(row->name));
        td_buffer_format(&head, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_type(row->type));
        for (int d = 0; d < row->dims; d++) td_buffer_format(&head, "%s%lld", d ? "," : "", (long long)row->shape[d]);
        td_buffer_format(&head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset, (unsigned long long)(offset + bytes));
        offset += bytes;
        td_buffer_text(&sink->index, sink->index.bytes ? ",\n    " : "");
        td_buffer_json(&sink->index, row->name, strlen(row->name));
        td_buffer_format(&sink->index, ": \"%s\"", name);
    }
    td_buffer_text(&head, "}");
    while (head.bytes % 8 && !head.failed) td_buffer_text(&head, " ");
    uint64_t length = head.bytes;
    char *path = td_path_join(sink->folder, name);
    td_status status = path ? td_buffer_status(&head) : td_fail(TD_E_MEMORY, "file %s: no memory", name);
    if (status == TD_OK) status = td_writer_open(path, &sink->writer);
    if (status == TD_OK) status = td_writer_put(&sink->writer, &length, 8);
    if (status == TD_OK) status = td_writer_put(&sink->writer, head.data, head.bytes);
    free(path);
    td_buffer_free(&head);
    return status;
}

static td_status check_target(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return TD_OK;
    if (!S_ISDIR(info.st_mode)) return td_fail(TD_E_INVALID, "folder %s: expected a new folder, found a file of that name", path);
    DIR *folder = opendir(path);
    int entries = 0;
    for (struct dirent *e; folder && (e = readdir(folder));) entries += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (folder) closedir(folder);
    return entries ? td_fail(TD_E_INVALID, "folder %s: expected a new or empty folder, found %d files in it", path, entries) : TD_OK;
}

td_status td_sink_open_folder(const char *path, const td_sink_row *rows, size_t count, td_sink *out)
{
    td_sink sink;
    td_status status = begin(path, TD_FORMAT_SAFETENSORS, rows, count, &sink);
    if (status == TD_OK) status = check_target(sink.path);
    if (status == TD_OK && asprintf(&sink.folder, "%s.partial-%ld", sink.path, (long)getpid()) < 0) {
        sink.folder = NULL;
        status = td_fail(TD_E_MEMORY, "folder %s: no memory", path);
    }
    if (status == TD_OK && mkdir(sink.folder, 0777) != 0) {
        status = td_fail(TD_E_IO, "folder %s: cannot be created: %s", sink.path, strerror(errno));
        free(sink.folder);
        sink.folder = NULL;
    }
    for (size_t at = 0; at < count; at = shard_end(&sink, at)) sink.shards++;
    if (status == TD_OK) status = open_shard(&sink);
    if (status < 0) td_sink_discard(&sink);
    else *out = sink;
    return status;
}

td_status td_sink_side_file(td_sink *sink, const char *name, const char *text, size_t bytes)
{
    char *path = td_path_join(sink->folder, name);
    if (!path) return td_fail(TD_E_MEMORY, "file %s: no memory", name);
    td_writer writer = {.fd = -1};
    td_status status = td_writer_open(path, &writer);
    if (status == TD_OK) status = td_writer_put(&writer, text, bytes);
    if (status == TD_OK) status = td_writer_commit(&writer);
    else td_writer_discard(&writer);
    free(path);
    return status;
}

/* ---- bytes ---- */

/* Moves on over a finished tensor (and over empty ones). */
static td_status next_tensor(td_sink *sink)
{
    while (sink->left == 0 && sink->at < sink->count) {
        if (sink->format == TD_FORMAT_GGUF) TD_TRY(td_writer_align(&sink->writer, GGUF_ALIGNMENT));
        sink->at++;
        if (sink->format == TD_FORMAT_SAFETENSORS && sink->at == sink->shard_end) {
            TD_TRY(td_writer_commit(&sink->writer));
            sink->shard++;
            if (sink->at < sink->count) TD_TRY(open_shard(sink));
        }
        if (sink->at < sink->count) sink->left = td_sink_row_bytes(&sink->rows[sink->at]);
    }
    return TD_OK;
}

td_status td_sink_put(td_sink *sink, const void *data, size_t bytes)
{
    if (sink->at >= sink->count || bytes > sink->left) return td_fail(TD_E_INTERNAL, "file %s: more bytes than were declared", sink->path);
    TD_TRY(td_writer_put(&sink->writer, data, bytes));
    sink->left -= bytes;
    return next_tensor(sink);
}

static td_status put_index(td_sink *sink)
{
    if (sink->shards < 2) return TD_OK;
    td_buffer b = {0};
    td_buffer_format(&b, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {\n    ", (unsigned long long)sink->total);
    td_buffer_put(&b, sink->index.data, sink->index.bytes);
    td_buffer_text(&b, "\n  }\n}\n");
    td_status status = td_buffer_status(&sink->index);
    if (status == TD_OK) status = td_buffer_status(&b);
    if (status == TD_OK) status = td_sink_side_file(sink, "model.safetensors.index.json", b.data, b.bytes);
    td_buffer_free(&b);
    return status;
}

td_status td_sink_commit(td_sink *sink)
{
    td_status status = next_tensor(sink);
    if (status == TD_OK && sink->at < sink->count) status = td_fail(TD_E_INTERNAL, "file %s: fewer bytes than were declared", sink->path);
    if (status == TD_OK && sink->format == TD_FORMAT_GGUF) status = td_writer_commit(&sink->writer);
    if (status == TD_OK && sink->folder) {
        status = put_index(sink);
        if (status == TD_OK && rename(sink->folder, sink->path) != 0) status = td_fail(TD_E_IO, "folder %s: cannot be put in place: %s", sink->path, strerror(errno));
        if (status == TD_OK) {
            free(sink->folder);
            sink->folder = NULL;
        }
    }
    td_sink_discard(sink);
    return status;
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *e; folder && (e = readdir(folder));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(folder), e->d_name, 0);
    if (folder) closedir(folder);
    rmdir(path);
}

void td_sink_discard(td_sink *sink)
{
    td_writer_discard(&sink->writer);
    if (sink->folder) remove_folder(sink->folder); /* nothing but our own files is in it */
    free(sink->folder);
    free(sink->path);
    td_buffer_free(&sink->index);
    *sink = (td_sink){.writer = {.fd = -1}};
}
