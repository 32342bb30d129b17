/*
 * file.h - files mapped for reading, and files written whole or not at all.
 */
#ifndef TD_BASE_FILE_H
#define TD_BASE_FILE_H

#include "base/status.h"

typedef struct {
    const uint8_t *data; /* bytes of the file; NULL when bytes is 0 */
    size_t bytes;
    char *path;          /* owned, for messages */
} td_file;

/* Maps a regular file read-only and shared. Errors: TD_E_NOT_FOUND, TD_E_IO; a directory or a device is TD_E_INVALID. */
td_status td_file_map(const char *path, td_file *out);
void td_file_unmap(td_file *file); /* a zeroed file is allowed */
/* These mapped bytes are not needed for now: they no longer count as this process's memory, and are read again when they are used again. */
void td_file_forget(const void *data, size_t bytes);

/* Reads a whole file of at most bytes_max into malloc'd memory with a NUL behind it. The caller frees *out. */
td_status td_file_read(const char *path, size_t bytes_max, char **out, size_t *bytes);
/* The same for a text that is read up to its NUL: one that stands earlier in the file is TD_E_FORMAT, so that nothing behind it is passed over. */
td_status td_file_read_text(const char *path, size_t bytes_max, char **out);

/* A file that appears under its name only when it is complete: written beside it, synced and renamed by commit. A device or pipe is written as it is. */
typedef struct {
    int fd;
    char *path, *temporary; /* owned; temporary NULL: a device or pipe */
    uint8_t *buffer;        /* owned */
    size_t filled;
    uint64_t bytes;         /* written so far */
} td_writer;

td_status td_writer_open(const char *path, td_writer *out);
td_status td_writer_put(td_writer *writer, const void *data, size_t bytes);
td_status td_writer_align(td_writer *writer, size_t alignment); /* zero bytes up to a multiple */
td_status td_writer_commit(td_writer *writer);                  /* closes on success and on failure */
void td_writer_discard(td_writer *writer);                      /* removes the unfinished file; after commit a no-op */

bool td_path_is_directory(const char *path);
bool td_path_exists(const char *path);
/* directory/name in malloc'd memory, or NULL. */
char *td_path_join(const char *directory, const char *name);

#endif
