/* support.h - what several tests need: NPY vectors, paths below the source tree, engines with a few settings. */
#ifndef TD_TESTS_SUPPORT_H
#define TD_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tandem.h"

/* source tree + "/" + name, in a static buffer (four in turn). */
static inline const char *source_path(const char *name)
{
    static char buffers[4][1024];
    static int turn;
    const char *root = getenv("TD_SOURCE");
    char *buffer = buffers[turn++ & 3];
    snprintf(buffer, sizeof buffers[0], "%s/%s", root ? root : ".", name);
    return buffer;
}

/* Reads an NPY 1.0 array of the given type ("<f4", "<i8", "<i4"); malloc'd data, number of elements. NULL when it is not that. */
static inline void *read_npy(const char *path, const char *type, size_t element, size_t *count)
{
    FILE *file = fopen(path, "rb");
    unsigned char start[10];
    char header[1024] = "";
    if (!file || fread(start, 1, 10, file) != 10) return NULL;
    size_t length = (size_t)start[8] | (size_t)start[9] << 8;
    if (length >= sizeof header || fread(header, 1, length, file) != length || !strstr(header, type)) return NULL;
    long at = ftell(file);
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)(ftell(file) - at);
    fseek(file, at, SEEK_SET);
    void *data = malloc(bytes + 1);
    if (data && fread(data, 1, bytes, file) != bytes) return NULL;
    fclose(file);
    *count = bytes / element;
    return data;
}

/* Fails the test with the library's sentence. */
#define assert_ok(expression)                                                                \
    do {                                                                                     \
        td_status status_ = (expression);                                                    \
        if (status_ < 0) fail_msg("%s: %s (%s)", #expression, td_error(), td_status_name(status_)); \
    } while (0)

#endif
