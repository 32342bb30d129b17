/* stream.c - see stream.h. pending holds at most the longest stop string and one token's text. */
#include "engine/stream.h"

#include <stdlib.h>
#include <string.h>

td_status td_stream_open(const td_tokenizer *tokenizer, bool keep_special, const uint8_t *hidden, const char *const *stops, int stop_count, td_stream *out)
{
    size_t longest = 0;
    for (int i = 0; i < stop_count; i++) longest = TD_MAX(longest, strlen(stops[i]));
    td_stream stream = {.tokenizer = tokenizer, .keep_special = keep_special, .hidden = hidden, .stops = stops, .stop_count = stop_count, .matched = -1};
    stream.pending_max = longest + (tokenizer ? TD_DETOKENIZE_MAX * ((size_t)td_tokenizer_bytes_max(tokenizer) + 8) : 0) + 64;
    stream.pending = malloc(stream.pending_max);
    if (!stream.pending) return td_fail(TD_E_MEMORY, "request: no memory for its text");
    *out = stream;
    return TD_OK;
}

void td_stream_close(td_stream *stream)
{
    free(stream->pending);
    *stream = (td_stream){0};
}

static void drop_given(td_stream *s)
{
    memmove(s->pending, s->pending + s->given, s->pending_bytes - s->given);
    s->pending_bytes -= s->given;
    s->given = 0;
}

/* Where the first complete stop string begins, or SIZE_MAX; notes which. */
static size_t find_stop(td_stream *s)
{
    size_t first = SIZE_MAX;
    for (int i = 0; i < s->stop_count; i++) {
        size_t length = strlen(s->stops[i]);
        for (size_t at = 0; at + length <= s->pending_bytes && at < first; at++)
            if (memcmp(s->pending + at, s->stops[i], length) == 0) {
                first = at;
                s->matched = i;
            }
    }
    return first;
}

/* Bytes at the end that are the beginning of some stop string. */
static size_t held_back(const td_stream *s)
{
    size_t held = 0;
    for (int i = 0; i < s->stop_count; i++) {
        size_t length = TD_MIN(strlen(s->stops[i]) - 1, s->pending_bytes);
        while (length > held && memcmp(s->pending + s->pending_bytes - length, s->stops[i], length) != 0) length--;
        held = TD_MAX(held, length);
    }
    return held;
}

bool td_stream_put(td_stream *s, int32_t token, const char **text, size_t *bytes)
{
    drop_given(s);
    *text = s->pending;
    *bytes = 0;
    if (!s->tokenizer) return false;
    bool skip_special = !s->keep_special || (s->hidden && token >= 0 && s->hidden[token / 8] >> token % 8 & 1);
    s->pending_bytes += td_detokenizer_put(s->tokenizer, &s->detokenizer, token, skip_special, s->pending + s->pending_bytes);
    size_t stop = find_stop(s);
    s->given = stop != SIZE_MAX ? stop : s->pending_bytes - held_back(s);
    *bytes = s->given;
    if (stop != SIZE_MAX) s->pending_bytes = stop;
    return stop != SIZE_MAX;
}

void td_stream_end(td_stream *s, const char **text, size_t *bytes)
{
    drop_given(s);
    if (s->tokenizer) s->pending_bytes += td_detokenizer_end(&s->detokenizer, s->pending + s->pending_bytes);
    s->given = s->pending_bytes;
    *text = s->pending;
    *bytes = s->pending_bytes;
}
