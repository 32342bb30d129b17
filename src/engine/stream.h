/*
 * stream.h - tokens to text that is certain: whole characters only, and nothing that may still turn out to be the beginning of a stop string.
 * The decoding thread runs one to know when a request ends; the reader of events runs an equal one to get the text.
 */
#ifndef TD_ENGINE_STREAM_H
#define TD_ENGINE_STREAM_H

#include "text/tokenizer.h"

enum { TD_STOPS_MAX = 64, TD_STOP_BYTES_MAX = 1024 };

typedef struct {
    const td_tokenizer *tokenizer;  /* NULL: no text */
    td_detokenizer detokenizer;
    bool keep_special;
    const uint8_t *hidden;          /* one bit a token: left out in spite of keep_special; borrowed; NULL: none */
    int stop_count;
    const char *const *stops;       /* NUL-terminated; borrowed from the request */
    char *pending;                  /* owned; text not yet given out */
    size_t pending_bytes, pending_max, given; /* given: bytes at the front that the last call handed out */
    int matched;                    /* the stop string that was found, or -1 */
} td_stream;

td_status td_stream_open(const td_tokenizer *tokenizer, bool keep_special, const uint8_t *hidden, const char *const *stops, int stop_count, td_stream *out);
void td_stream_close(td_stream *stream);

/* Takes a token. *text (valid until the next call) is what became certain. Returns true when a stop string is complete: text ends before it. */
bool td_stream_put(td_stream *stream, int32_t token, const char **text, size_t *bytes);
/* Everything still held back. */
void td_stream_end(td_stream *stream, const char **text, size_t *bytes);

#endif
