/*
 * detokenizer.c - ids to text, piece by piece: what comes out is always whole characters. See tokenizer.h.
 * Bytes that can no longer become a character are shown as U+FFFD: one for every maximal start of a character (byte-level; Unicode 3.9, what the
 * reference's lossy conversion does), or one for every byte (byte tokens of SentencePiece vocabularies).
 */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_parts.h"

static const char replacement[] = "\xEF\xBF\xBD";

/* How many bytes the character that begins with these needs, when all of them so far fit; 0 when they never become one. */
static size_t wanted(const char *held, size_t count)
{
    const unsigned char *h = (const unsigned char *)held;
    size_t length = h[0] < 0x80 ? 1 : h[0] >= 0xC2 && h[0] <= 0xDF ? 2 : h[0] >= 0xE0 && h[0] <= 0xEF ? 3 : h[0] >= 0xF0 && h[0] <= 0xF4 ? 4 : 0;
    for (size_t i = 1; i < count; i++)
        if ((h[i] & 0xC0) != 0x80) return 0;
    if (count > 1 && ((h[0] == 0xE0 && h[1] < 0xA0) || (h[0] == 0xED && h[1] > 0x9F) || (h[0] == 0xF0 && h[1] < 0x90) || (h[0] == 0xF4 && h[1] > 0x8F))) return 0;
    return length;
}

static size_t give_up(td_detokenizer *state, bool every_byte, char *out)
{
    size_t signs = state->held_bytes == 0 ? 0 : every_byte ? state->held_bytes : 1;
    for (size_t i = 0; i < signs; i++) memcpy(out + 3 * i, replacement, 3);
    state->held_bytes = 0;
    return 3 * signs;
}

static size_t put_byte(td_detokenizer *state, char byte, bool every_byte, char *out)
{
    size_t written = 0;
    state->held[state->held_bytes] = byte;
    if (state->held_bytes && wanted(state->held, state->held_bytes + 1u) == 0) {
        written = give_up(state, every_byte, out);
        state->held[0] = byte;
    }
    state->held_bytes++;
    size_t length = wanted(state->held, state->held_bytes);
    if (length == 0) return written + give_up(state, every_byte, out + written);
    if (length > state->held_bytes) return written;
    memcpy(out + written, state->held, length);
    state->held_bytes = 0;
    return written + length;
}

size_t td_detokenizer_put(const td_tokenizer *t, td_detokenizer *state, int32_t id, bool skip_special, char *out)
{
    if (id < 0 || id >= t->size || (skip_special && (t->flags[id] & TD_TOKEN_SPECIAL))) return 0;
    size_t bytes, written = 0;
    const char *text = td_tokenizer_bytes(t, id, &bytes);
    if (t->join_with_space && state->started) written += put_byte(state, ' ', false, out);
    /* a SentencePiece token is either one byte or whole characters, and those end an unfinished run of bytes */
    if (t->lossy_bytes && !(t->flags[id] & TD_TOKEN_BYTE) && bytes) written += give_up(state, true, out);
    state->every_byte = t->lossy_bytes;
    bool first = !state->started;
    if (first && t->first && t->first[id].at != t->spans[id].at) text = t->decoded.data + t->first[id].at, bytes = t->first[id].bytes;
    if (bytes || t->join_with_space || t->first) state->started = true;
    if (first && t->start_rule == TD_START_ONE_SPACE && bytes && text[0] == ' ') text++, bytes--;
    for (size_t i = 0; i < bytes; i++) written += put_byte(state, text[i], t->lossy_bytes, out + written);
    return written;
}

size_t td_detokenizer_end(td_detokenizer *state, char *out)
{
    size_t written = give_up(state, state->every_byte, out);
    *state = (td_detokenizer){0};
    return written;
}
