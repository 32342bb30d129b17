/*
 * checkpoint.c - opening and closing, the table of tensors, side files. The formats are read in safetensors.c and gguf.c; both put what they found into one
 * list, which is checked here: names are unique, extents do not overlap, data is aligned for its type.
 */
#define _GNU_SOURCE
#include "checkpoint/checkpoint.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "checkpoint/inside.h"

enum { SIDE_FILE_MAX = 256 << 20, FILES_MAX = 65536 };

td_status td_checkpoint_add_file(td_checkpoint *checkpoint, const char *path, td_file *out)
{
    if (checkpoint->files_count == FILES_MAX) return td_fail(TD_E_INVALID, "checkpoint %s: expected at most %d files", checkpoint->path, FILES_MAX);
    td_file *files = realloc(checkpoint->files, (checkpoint->files_count + 1) * sizeof *files);
    if (!files) return td_fail(TD_E_MEMORY, "file %s: no memory", path);
    checkpoint->files = files;
    TD_TRY(td_file_map(path, &files[checkpoint->files_count]));
    *out = files[checkpoint->files_count++];
    return TD_OK;
}

td_status td_checkpoint_add(td_checkpoint *checkpoint, const td_tensor *tensor, const td_entry *entry)
{
    if (checkpoint->count == checkpoint->capacity) {
        size_t capacity = checkpoint->capacity ? 2 * checkpoint->capacity : 256;
        if (capacity > UINT32_MAX) return td_fail(TD_E_FORMAT, "checkpoint %s: expected fewer than 2^32 tensors", checkpoint->path);
        td_tensor *tensors = realloc(checkpoint->tensors, capacity * sizeof *tensors);
        if (tensors) checkpoint->tensors = tensors;
        td_entry *entries = realloc(checkpoint->entries, capacity * sizeof *entries);
        if (entries) checkpoint->entries = entries;
        if (!tensors || !entries) return td_fail(TD_E_MEMORY, "checkpoint %s: no memory for %zu tensors", checkpoint->path, capacity);
        checkpoint->capacity = capacity;
    }
    checkpoint->tensors[checkpoint->count] = *tensor;
    checkpoint->entries[checkpoint->count++] = *entry;
    return TD_OK;
}

static int by_offset(const void *left, const void *right, void *arg)
{
    const td_entry *entries = arg;
    const td_entry *a = &entries[*(const uint32_t *)left], *b = &entries[*(const uint32_t *)right];
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty tensors first */
}

td_status td_checkpoint_check_extents(const td_checkpoint *checkpoint, size_t first, uint64_t start, uint64_t end, bool gapless)
{
    size_t count = checkpoint->count - first;
    if (count == 0) return TD_OK;
    const char *path = checkpoint->files[checkpoint->entries[first].file].path;
    uint32_t *order = malloc(count * sizeof *order);
    if (!order) return td_fail(TD_E_MEMORY, "file %s: no memory for a table of %zu tensors", path, count);
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)(first + i);
    qsort_r(order, count, sizeof *order, by_offset, checkpoint->entries);
    td_status status = TD_OK;
    uint64_t at = start;
    for (size_t i = 0; i < count && status == TD_OK; i++) {
        const td_entry *entry = &checkpoint->entries[order[i]];
        const char *name = checkpoint->tensors[order[i]].name;
        if (entry->offset < at)
            status = td_fail(TD_E_FORMAT, "file %s, tensor %s: its data begins at byte %llu, inside tensor %s that ends at %llu", path, name, (unsigned long long)entry->offset,
                             i ? checkpoint->tensors[order[i - 1]].name : "?", (unsigned long long)at);
        else if (gapless && entry->offset != at)
            status = td_fail(TD_E_FORMAT, "file %s, tensor %s: expected its data at byte %llu, found a hole up to %llu", path, name, (unsigned long long)at, (unsigned long long)entry->offset);
        at = entry->offset + entry->bytes;
    }
    if (status == TD_OK && gapless && at != end)
        status = td_fail(TD_E_FORMAT, "file %s: expected %llu bytes as its header says, found %llu", path, (unsigned long long)at, (unsigned long long)end);
    free(order);
    return status;
}

static size_t alignment_of(td_dtype type)
{
    switch (type) {
    case TD_F32: case TD_I32: return 4;
    case TD_I64: return 8;
    case TD_F16: case TD_BF16: case TD_Q4_K: case TD_Q5_K: case TD_Q6_K: return 2;
    default: return 1;
    }
}

td_status td_checkpoint_align(td_checkpoint *checkpoint, td_tensor *tensor, uint64_t bytes)
{
    if ((uintptr_t)tensor->data % alignment_of(tensor->type) == 0) return TD_OK;
    if (bytes > 1 << 20) td_log(TD_LOG_WARN, "checkpoint", "tensor %s of %llu bytes lies at an odd place in its file and is copied", tensor->name, (unsigned long long)bytes);
    void *copy = td_arena_get(&checkpoint->arena, bytes);
    if (!copy) return TD_E_MEMORY;
    memcpy(copy, tensor->data, bytes);
    tensor->data = copy;
    return TD_OK;
}

static int by_name(const void *left, const void *right, void *arg)
{
    const td_tensor *tensors = arg;
    return strcmp(tensors[*(const uint32_t *)left].name, tensors[*(const uint32_t *)right].name);
}

td_status td_checkpoint_sort_names(td_checkpoint *c)
{
    c->by_name = TD_NEW(&c->arena, uint32_t, c->count);
    if (!c->by_name) return TD_E_MEMORY;
    for (size_t i = 0; i < c->count; i++) c->by_name[i] = (uint32_t)i;
    qsort_r(c->by_name, c->count, sizeof *c->by_name, by_name, c->tensors);
    for (size_t i = 1; i < c->count; i++) {
        const char *name = c->tensors[c->by_name[i]].name;
        if (!strcmp(c->tensors[c->by_name[i - 1]].name, name))
            return td_fail(TD_E_FORMAT, "file %s, tensor %s: the name comes twice", c->files[c->entries[c->by_name[i]].file].path, name);
    }
    return TD_OK;
}

static void report_unusable(const td_checkpoint *c)
{
    size_t unusable = 0, example = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i].trouble && unusable++ == 0) example = i;
    if (unusable)
        td_log(TD_LOG_INFO, "checkpoint", "%s: %zu of %zu tensors are of a kind that this program cannot use (%s: %s)", c->path, unusable, c->count, c->tensors[example].name,
               c->entries[example].trouble);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

static int visible_gguf(const struct dirent *entry) { return entry->d_name[0] != '.' && ends_with(entry->d_name, ".gguf"); }

/* A folder that holds GGUF files instead: the first, when the others are its splits (which opening it checks). */
static td_status open_folder(td_checkpoint *c, const char *path)
{
    td_status status = td_safetensors_open(c, path);
    if (status != TD_E_NOT_FOUND || c->files_count) return status;
    struct dirent **names;
    int count = scandir(path, &names, visible_gguf, alphasort);
    if (count < 1) {
        if (count == 0) free(names);
        return status;
    }
    char *file = td_path_join(path, names[0]->d_name);
    bool several = count > 1 && !strstr(names[0]->d_name, "-00001-of-");
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
    if (several) status = td_fail(TD_E_INVALID, "folder %s: expected one model, found %d GGUF files; name one of them", path, count);
    else if (!file) status = td_fail(TD_E_MEMORY, "folder %s: no memory", path);
    else status = td_gguf_open(c, file);
    free(file);
    return status;
}

static td_status open_into(td_checkpoint *c, const char *path)
{
    c->arena.name = "checkpoint";
    c->path = strdup(path);
    if (!c->path) return td_fail(TD_E_MEMORY, "checkpoint %s: no memory", path);
    if (td_path_is_directory(path)) TD_TRY(open_folder(c, path));
    else if (ends_with(path, ".safetensors")) TD_TRY(td_safetensors_open(c, path));
    else TD_TRY(td_gguf_open(c, path));
    if (c->count == 0) return td_fail(TD_E_FORMAT, "checkpoint %s: expected tensors, found none", path);
    TD_TRY(td_checkpoint_sort_names(c));
    if (c->format == TD_FORMAT_SAFETENSORS) {
        bool removed = false;
        TD_TRY(td_safetensors_attach_scales(c, &removed));
        if (removed) TD_TRY(td_checkpoint_sort_names(c));
    }
    report_unusable(c);
    return TD_OK;
}

td_status td_checkpoint_open(const char *path, td_checkpoint **out)
{
    td_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return td_fail(TD_E_MEMORY, "checkpoint %s: no memory", path);
    td_status status = open_into(c, path);
    if (status < 0) {
        td_checkpoint_close(c);
        return status;
    }
    *out = c;
    return TD_OK;
}

void td_checkpoint_close(td_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->files_count; i++) td_file_unmap(&c->files[i]);
    free(c->files);
    free(c->tensors);
    free(c->entries);
    cJSON_Delete(c->config);
    td_arena_free(&c->arena);
    free(c->path);
    free(c->folder);
    free(c);
}

td_format td_checkpoint_format(const td_checkpoint *c) { return c->format; }
const char *td_checkpoint_path(const td_checkpoint *c) { return c->path; }
size_t td_checkpoint_count(const td_checkpoint *c) { return c->count; }
const td_tensor *td_checkpoint_at(const td_checkpoint *c, size_t index) { return index < c->count ? &c->tensors[index] : NULL; }
const cJSON *td_checkpoint_config(const td_checkpoint *c) { return c->config; }
const char *td_checkpoint_type_name(const td_checkpoint *c, size_t index) { return index < c->count ? c->entries[index].type_name : "?"; }
uint64_t td_checkpoint_bytes(const td_checkpoint *c, size_t index) { return index < c->count ? c->entries[index].bytes : 0; }

size_t td_checkpoint_place(const td_checkpoint *c, const char *name)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(c->tensors[c->by_name[middle]].name, name);
        if (order == 0) return c->by_name[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return c->count;
}

const td_tensor *td_checkpoint_find(const td_checkpoint *c, const char *name)
{
    size_t place = td_checkpoint_place(c, name);
    return place < c->count && !c->entries[place].trouble ? &c->tensors[place] : NULL;
}

td_status td_checkpoint_require(const td_checkpoint *c, const char *name, const td_tensor **out)
{
    size_t place = td_checkpoint_place(c, name);
    if (place == c->count) return td_fail(TD_E_NOT_FOUND, "checkpoint %s: tensor %s is missing", c->path, name);
    if (c->entries[place].trouble) return td_fail(TD_E_UNSUPPORTED, "checkpoint %s, tensor %s: %s", c->path, name, c->entries[place].trouble);
    *out = &c->tensors[place];
    return TD_OK;
}

td_status td_checkpoint_side_file(const td_checkpoint *c, const char *name, char **out, size_t *bytes)
{
    if (!c->folder) return td_fail(TD_E_NOT_FOUND, "checkpoint %s: a GGUF file has no file %s beside it", c->path, name);
    char *path = td_path_join(c->folder, name);
    if (!path) return td_fail(TD_E_MEMORY, "file %s: no memory", name);
    td_status status = td_file_read(path, SIDE_FILE_MAX, out, bytes);
    free(path);
    return status;
}

void td_checkpoint_prefetch(const td_tensor *tensor, bool wanted)
{
    size_t bytes = td_tensor_bytes(tensor);
    if (!tensor->data || bytes == 0) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)tensor->data & ~(page - 1);
    /* COLD, not DONTNEED: harmless also where the data is a copy in memory. */
    madvise((void *)start, (uintptr_t)tensor->data + bytes - start, wanted ? MADV_WILLNEED : MADV_COLD);
}
