/* file.c - see file.h. A write error (full disk included) is reported with the path and leaves nothing half-written under the final name. */
#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITER_BUFFER = 1 << 20 };

static td_status open_regular(const char *path, int *fd, size_t *bytes)
{
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (handle < 0)
        return td_fail(errno == ENOENT ? TD_E_NOT_FOUND : TD_E_IO, "file %s: cannot be opened: %s", path, strerror(errno));
    struct stat info;
    if (fstat(handle, &info) != 0) {
        close(handle);
        return td_fail(TD_E_IO, "file %s: cannot be read: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        close(handle);
        return td_fail(TD_E_INVALID, "file %s: expected a regular file, found %s", path, S_ISDIR(info.st_mode) ? "a directory" : "a special file");
    }
    *fd = handle;
    *bytes = (size_t)info.st_size;
    return TD_OK;
}

td_status td_file_map(const char *path, td_file *out)
{
    int fd;
    size_t bytes;
    TD_TRY(open_regular(path, &fd, &bytes));
    void *data = NULL;
    if (bytes > 0) {
        data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            int reason = errno;
            close(fd);
            return td_fail(TD_E_IO, "file %s: %zu bytes cannot be mapped: %s", path, bytes, strerror(reason));
        }
        madvise(data, bytes, MADV_HUGEPAGE);
    }
    close(fd);
    char *copy = strdup(path);
    if (!copy) {
        if (data) munmap(data, bytes);
        return td_fail(TD_E_MEMORY, "file %s: no memory", path);
    }
    *out = (td_file){.data = data, .bytes = bytes, .path = copy};
    return TD_OK;
}

void td_file_forget(const void *data, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + bytes) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void td_file_unmap(td_file *file)
{
    if (file->data) munmap((void *)(uintptr_t)file->data, file->bytes);
    free(file->path);
    *file = (td_file){0};
}

td_status td_file_read(const char *path, size_t bytes_max, char **out, size_t *bytes)
{
    int fd;
    size_t size;
    TD_TRY(open_regular(path, &fd, &size));
    if (size > bytes_max) {
        close(fd);
        return td_fail(TD_E_INVALID, "file %s: expected at most %zu bytes, found %zu", path, bytes_max, size);
    }
    char *text = malloc(size + 1);
    size_t have = 0;
    while (text && have < size) {
        ssize_t got = read(fd, text + have, size - have);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        have += (size_t)got;
    }
    close(fd);
    if (!text) return td_fail(TD_E_MEMORY, "file %s: no memory for %zu bytes", path, size);
    if (have < size) {
        free(text);
        return td_fail(TD_E_IO, "file %s: expected %zu bytes, read %zu", path, size, have);
    }
    text[size] = 0;
    *out = text;
    if (bytes) *bytes = size;
    return TD_OK;
}

td_status td_file_read_text(const char *path, size_t bytes_max, char **out)
{
    char *text;
    size_t bytes;
    TD_TRY(td_file_read(path, bytes_max, &text, &bytes));
    size_t length = strlen(text);
    if (length < bytes) {
        free(text);
        return td_fail(TD_E_FORMAT, "file %s: expected text, found a NUL byte at %zu", path, length);
    }
    *out = text;
    return TD_OK;
}

/* Where a device or pipe stands, a rename would put a file in its place: such a path is written as it is. A directory is refused. */
static td_status written_in_place(const char *path, bool *in_place)
{
    struct stat info;
    *in_place = stat(path, &info) == 0 && !S_ISREG(info.st_mode);
    if (*in_place && S_ISDIR(info.st_mode)) return td_fail(TD_E_IO, "file %s: cannot be created: a directory of this name is there", path);
    return TD_OK;
}

td_status td_writer_open(const char *path, td_writer *out)
{
    bool in_place;
    TD_TRY(written_in_place(path, &in_place));
    td_writer writer = {.fd = -1, .path = strdup(path), .buffer = malloc(WRITER_BUFFER)};
    size_t length = strlen(path) + 32;
    writer.temporary = malloc(length);
    if (!writer.path || !writer.buffer || !writer.temporary) {
        td_writer_discard(&writer);
        return td_fail(TD_E_MEMORY, "file %s: no memory for writing", path);
    }
    snprintf(writer.temporary, length, "%s.partial-%ld", path, (long)getpid());
    if (in_place) {
        free(writer.temporary);
        writer.temporary = NULL;
    }
    writer.fd = open(in_place ? path : writer.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer.fd < 0) {
        int reason = errno;
        free(writer.temporary);
        writer.temporary = NULL;
        td_writer_discard(&writer);
        return td_fail(TD_E_IO, "file %s: cannot be created: %s", path, strerror(reason));
    }
    *out = writer;
    return TD_OK;
}

static td_status write_all(td_writer *writer, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t put = write(writer->fd, data, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return td_fail(TD_E_IO, "file %s: writing stopped after %llu bytes: %s", writer->path, (unsigned long long)writer->bytes, strerror(errno));
        data += put;
        bytes -= (size_t)put;
    }
    return TD_OK;
}

static td_status flush(td_writer *writer)
{
    TD_TRY(write_all(writer, writer->buffer, writer->filled));
    writer->filled = 0;
    return TD_OK;
}

td_status td_writer_put(td_writer *writer, const void *data, size_t bytes)
{
    if (bytes > WRITER_BUFFER - writer->filled) TD_TRY(flush(writer));
    if (bytes >= WRITER_BUFFER) {
        TD_TRY(write_all(writer, data, bytes));
    } else if (bytes > 0) {
        memcpy(writer->buffer + writer->filled, data, bytes);
        writer->filled += bytes;
    }
    writer->bytes += bytes;
    return TD_OK;
}

td_status td_writer_align(td_writer *writer, size_t alignment)
{
    static const uint8_t zeros[4096];
    size_t missing = (alignment - writer->bytes % alignment) % alignment;
    while (missing > 0) {
        size_t part = TD_MIN(missing, sizeof zeros);
        TD_TRY(td_writer_put(writer, zeros, part));
        missing -= part;
    }
    return TD_OK;
}

td_status td_writer_commit(td_writer *writer)
{
    td_status status = flush(writer);
    if (status == TD_OK && writer->temporary && fsync(writer->fd) != 0) status = td_fail(TD_E_IO, "file %s: cannot be synced: %s", writer->path, strerror(errno));
    if (close(writer->fd) != 0 && status == TD_OK) status = td_fail(TD_E_IO, "file %s: cannot be closed: %s", writer->path, strerror(errno));
    writer->fd = -1;
    if (status == TD_OK && writer->temporary && rename(writer->temporary, writer->path) != 0)
        status = td_fail(TD_E_IO, "file %s: cannot be put in place: %s", writer->path, strerror(errno));
    if (status == TD_OK) {
        free(writer->temporary);
        writer->temporary = NULL;
    }
    td_writer_discard(writer);
    return status;
}

void td_writer_discard(td_writer *writer)
{
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temporary) unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    free(writer->buffer);
    *writer = (td_writer){.fd = -1};
}

bool td_path_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool td_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

char *td_path_join(const char *directory, const char *name)
{
    size_t length = strlen(directory) + strlen(name) + 2;
    char *path = malloc(length);
    if (path) snprintf(path, length, "%s/%s", directory, name);
    return path;
}
