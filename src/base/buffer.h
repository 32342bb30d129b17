/*
 * buffer.h - a growing byte string, always NUL-terminated, owned by its holder. A failed growth sticks (failed = true) and later puts
 * do nothing, so a writer may check once at the end with td_buffer_status.
 */
#ifndef TD_BASE_BUFFER_H
#define TD_BASE_BUFFER_H

#include "base/status.h"

typedef struct {
    char *data;       /* NULL while empty */
    size_t bytes, capacity;
    bool failed;
} td_buffer;

void td_buffer_put(td_buffer *buffer, const void *data, size_t bytes);
void td_buffer_text(td_buffer *buffer, const char *text);
void td_buffer_format(td_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "text" as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void td_buffer_json(td_buffer *buffer, const char *text, size_t bytes);
void td_buffer_clear(td_buffer *buffer); /* keeps the memory */
void td_buffer_free(td_buffer *buffer);
td_status td_buffer_status(const td_buffer *buffer);

#endif
