/* buffer.c - see buffer.h. Grows by doubling. */
#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static bool reserve(td_buffer *buffer, size_t more)
{
    if (buffer->failed) return false;
    size_t need;
    if (__builtin_add_overflow(buffer->bytes, more, &need) || need > SIZE_MAX / 2 - 1) {
        buffer->failed = true;
        return false;
    }
    if (need < buffer->capacity) return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity <= need) capacity *= 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void td_buffer_put(td_buffer *buffer, const void *data, size_t bytes)
{
    if (!reserve(buffer, bytes)) return;
    if (bytes) memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = 0;
}

void td_buffer_text(td_buffer *buffer, const char *text) { td_buffer_put(buffer, text, strlen(text)); }

void td_buffer_format(td_buffer *buffer, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length >= 0 && reserve(buffer, (size_t)length + 1)) {
        vsnprintf(buffer->data + buffer->bytes, (size_t)length + 1, format, again);
        buffer->bytes += (size_t)length;
    }
    va_end(again);
}

void td_buffer_json(td_buffer *buffer, const char *text, size_t bytes)
{
    td_buffer_put(buffer, "\"", 1);
    for (size_t i = 0; i < bytes;) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') td_buffer_format(buffer, "\\%c", c);
        else if (c == '\n') td_buffer_text(buffer, "\\n");
        else if (c == '\t') td_buffer_text(buffer, "\\t");
        else if (c == '\r') td_buffer_text(buffer, "\\r");
        else if (c < 0x20 || c == 0x7F) td_buffer_format(buffer, "\\u%04x", c);
        else {
            size_t length = td_utf8_length(text + i, bytes - i);
            if (length) td_buffer_put(buffer, text + i, length);
            else td_buffer_text(buffer, "\xEF\xBF\xBD");
            i += length ? length : 1;
            continue;
        }
        i++;
    }
    td_buffer_put(buffer, "\"", 1);
}

void td_buffer_clear(td_buffer *buffer)
{
    buffer->bytes = 0;
    buffer->failed = false;
    if (buffer->data) buffer->data[0] = 0;
}

void td_buffer_free(td_buffer *buffer)
{
    free(buffer->data);
    *buffer = (td_buffer){0};
}

td_status td_buffer_status(const td_buffer *buffer)
{
    return buffer->failed ? td_fail(TD_E_MEMORY, "no memory for a text of more than %zu bytes", buffer->bytes) : TD_OK;
}
