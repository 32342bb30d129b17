/* status.c - the calling thread's error sentence. Never allocates; a sentence that does not fit is cut, not dropped. Names out of broken files may be in it, so
 * what a terminal cannot show is replaced: an error is one line of UTF-8. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

/* Cuts back to the last whole UTF-8 character when the text was longer than the buffer. */
static void trim_partial_character(char *text, int wanted)
{
    if (wanted < MESSAGE_BYTES) return;
    size_t end = MESSAGE_BYTES - 1, lead = end;
    while (lead > 0 && ((unsigned char)text[lead - 1] & 0xC0) == 0x80) lead--;
    if (lead > 0 && (unsigned char)text[lead - 1] >= 0xC0 && td_utf8_length(text + lead - 1, end - lead + 1) == 0) text[lead - 1] = 0;
}

td_status td_fail(td_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char fresh[MESSAGE_BYTES]; /* arguments may point into the old message */
    int wanted = vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    trim_partial_character(fresh, wanted);
    td_utf8_clean(fresh, strlen(fresh));
    memcpy(message, fresh, sizeof message);
    return code;
}

td_status td_context(td_status code, const char *format, ...)
{
    char prefix[MESSAGE_BYTES], fresh[2 * MESSAGE_BYTES + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    int wanted = snprintf(fresh, sizeof fresh, "%s: %s", prefix, message);
    memcpy(message, fresh, MESSAGE_BYTES - 1);
    message[MESSAGE_BYTES - 1] = 0;
    trim_partial_character(message, wanted);
    td_utf8_clean(message, strlen(message));
    return code;
}

const char *td_error(void) { return message; }

const char *td_status_name(td_status code)
{
    switch (code) {
    case TD_OK: return "ok";
    case TD_E_INVALID: return "invalid";
    case TD_E_IO: return "io";
    case TD_E_FORMAT: return "format";
    case TD_E_MEMORY: return "memory";
    case TD_E_UNSUPPORTED: return "unsupported";
    case TD_E_NOT_FOUND: return "not found";
    case TD_E_FULL: return "full";
    case TD_E_CANCELLED: return "cancelled";
    case TD_E_TIMEOUT: return "timeout";
    case TD_E_PEER: return "peer";
    case TD_E_INTERNAL: return "internal";
    default: return code > 0 ? "ok" : "unknown";
    }
}
