/* utf8.h - what is a whole, valid UTF-8 character (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). */
#ifndef TD_BASE_UTF8_H
#define TD_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length in bytes (1..4) of the valid character at text, or 0 when there is none (also when it is cut off). bytes > 0. */
static inline size_t td_utf8_length(const char *text, size_t bytes)
{
    const unsigned char *t = (const unsigned char *)text;
    if (t[0] < 0x80) return 1;
    size_t length = t[0] >= 0xC2 && t[0] <= 0xDF ? 2 : t[0] >= 0xE0 && t[0] <= 0xEF ? 3 : t[0] >= 0xF0 && t[0] <= 0xF4 ? 4 : 0;
    if (length == 0 || length > bytes) return 0;
    for (size_t i = 1; i < length; i++)
        if ((t[i] & 0xC0) != 0x80) return 0;
    if ((t[0] == 0xE0 && t[1] < 0xA0) || (t[0] == 0xED && t[1] > 0x9F) || (t[0] == 0xF0 && t[1] < 0x90) || (t[0] == 0xF4 && t[1] > 0x8F)) return 0;
    return length;
}

/* The code point of a valid character of the given length. */
static inline uint32_t td_utf8_decode(const char *text, size_t length)
{
    const unsigned char *t = (const unsigned char *)text;
    switch (length) {
    case 1: return t[0];
    case 2: return (uint32_t)(t[0] & 0x1F) << 6 | (t[1] & 0x3F);
    case 3: return (uint32_t)(t[0] & 0x0F) << 12 | (uint32_t)(t[1] & 0x3F) << 6 | (t[2] & 0x3F);
    default: return (uint32_t)(t[0] & 0x07) << 18 | (uint32_t)(t[1] & 0x3F) << 12 | (uint32_t)(t[2] & 0x3F) << 6 | (t[3] & 0x3F);
    }
}

/* Writes a code point (a surrogate becomes U+FFFD) and returns its length; out has room for 4 bytes. */
static inline size_t td_utf8_encode(uint32_t code, char *out)
{
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) code = 0xFFFD;
    if (code < 0x80) { out[0] = (char)code; return 1; }
    if (code < 0x800) { out[0] = (char)(0xC0 | code >> 6); out[1] = (char)(0x80 | (code & 0x3F)); return 2; }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12); out[1] = (char)(0x80 | (code >> 6 & 0x3F)); out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18); out[1] = (char)(0x80 | (code >> 12 & 0x3F)); out[2] = (char)(0x80 | (code >> 6 & 0x3F)); out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* Makes a text of unknown origin fit to be shown on a terminal, in place: bytes that are no UTF-8, and control characters (of C1 too), become question marks. */
static inline void td_utf8_clean(char *text, size_t bytes)
{
    for (size_t i = 0, length; i < bytes; i += length) {
        length = td_utf8_length(text + i, bytes - i);
        uint32_t code = length ? td_utf8_decode(text + i, length) : 0;
        length += length == 0;
        if (code >= 0x20 && (code < 0x7F || code > 0x9F)) continue;
        for (size_t k = 0; k < length; k++) text[i + k] = '?';
    }
}

#endif
