/* rows.c - rows of activations on the wire. Each row is encoded by itself, so that a mode's bits do not depend on who is in the message with it. */
#include <string.h>

#include "link/wire.h"
#include "tensor/dtype.h"

enum { F8_BLOCK = 128 };

td_status td_wire_mode_parse(const char *name, td_wire_mode *out)
{
    if (!name || !strcmp(name, "f32")) *out = (td_wire_mode){TD_ENCODING_F32, TD_ENCODING_F32};
    else if (!strcmp(name, "bf16")) *out = (td_wire_mode){TD_ENCODING_BF16, TD_ENCODING_BF16};
    else if (!strcmp(name, "fp8")) *out = (td_wire_mode){TD_ENCODING_F8, TD_ENCODING_BF16};
    else return td_fail(TD_E_INVALID, "wire: expected f32, bf16 or fp8, found '%s'", name);
    return TD_OK;
}

size_t td_wire_row_bytes(td_encoding encoding, int n)
{
    switch (encoding) {
    case TD_ENCODING_BF16: return (size_t)n * 2;
    case TD_ENCODING_F8: return ((size_t)n + 3) / 4 * 4 + (size_t)(n + F8_BLOCK - 1) / F8_BLOCK * 4;
    default: return (size_t)n * 4;
    }
}

static void put_bf16(const float *row, int n, uint8_t *out)
{
    for (int i = 0; i < n; i++) {
        uint16_t bits = td_f32_to_bf16(row[i]);
        memcpy(out + 2 * i, &bits, 2); /* this program runs on little-endian machines; hello carries its number layout implicitly in the magic */
    }
}

static void get_bf16(const uint8_t *in, int n, float *row)
{
    for (int i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, in + 2 * i, 2);
        row[i] = td_bf16_to_f32(bits);
    }
}

/* E4M3 of |v| <= 448, nearest even; without branches, so that compilers use vectors. Same values as td_f32_to_f8e4m3. */
static inline uint8_t f8_bits(float v)
{
    union { float f; uint32_t u; } x = {.f = v}, tiny;
    uint32_t sign = x.u >> 24 & 0x80;
    x.u &= 0x7FFFFFFF;
    tiny.f = x.f + 16384.0f;                      /* one unit in the last place there is 2^-9, the subnormal step */
    uint32_t subnormal = tiny.u - 0x46800000u;
    uint32_t normal = (x.u + 0x7FFFF + (x.u >> 20 & 1)) >> 20;
    normal -= 120u << 3;
    uint32_t bits = x.u < 0x3C800000u ? subnormal : normal; /* 2^-6 */
    return (uint8_t)(sign | bits);
}

static void put_f8(const float *row, int n, uint8_t *out)
{
    uint8_t *scales = out + (n + 3) / 4 * 4;
    for (int i = n; i < (n + 3) / 4 * 4; i++) out[i] = 0;
    for (int begin = 0; begin < n; begin += F8_BLOCK, scales += 4) {
        int count = n - begin < F8_BLOCK ? n - begin : F8_BLOCK;
        const float *x = row + begin;
        uint32_t largest = 0; /* bits of magnitudes order like the magnitudes; NaN and infinity are above all */
        for (int i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, x + i, 4);
            bits &= 0x7FFFFFFF;
            largest = bits > largest ? bits : largest;
        }
        float magnitude;
        memcpy(&magnitude, &largest, 4);
        float scale = largest == 0 ? 1.0f : magnitude / 448.0f;
        if (scale < 0x1p-126f) scale = 0x1p-126f; /* keeps the inverse finite */
        memcpy(scales, &scale, 4);
        if (largest >= 0x7F800000) { /* not a number: the whole block says so, it must not turn into something plausible */
            memset(out + begin, 0x7F, (size_t)count);
            continue;
        }
        float inverse = 1.0f / scale;
        for (int i = 0; i < count; i++) {
            float v = x[i] * inverse;
            v = v > 448.0f ? 448.0f : v < -448.0f ? -448.0f : v;
            out[begin + i] = f8_bits(v);
        }
    }
}

/* The byte's exponent and mantissa moved to a float's place are 2^-120 of the value, subnormal or not. */
static inline float f8_value(uint8_t bits)
{
    union { uint32_t u; float f; } x = {.u = (uint32_t)(bits & 0x7F) << 20};
    x.f *= 0x1p120f;
    if ((bits & 0x7F) == 0x7F) x.u = 0x7FC00000;
    x.u |= (uint32_t)(bits & 0x80) << 24;
    return x.f;
}

static void get_f8(const uint8_t *in, int n, float *row)
{
    const uint8_t *scales = in + (n + 3) / 4 * 4;
    for (int begin = 0; begin < n; begin += F8_BLOCK, scales += 4) {
        int end = begin + F8_BLOCK < n ? begin + F8_BLOCK : n;
        float scale;
        memcpy(&scale, scales, 4);
        for (int i = begin; i < end; i++) row[i] = f8_value(in[i]) * scale;
    }
}

void td_wire_row_put(td_encoding encoding, const float *row, int n, uint8_t *out)
{
    if (encoding == TD_ENCODING_BF16) put_bf16(row, n, out);
    else if (encoding == TD_ENCODING_F8) put_f8(row, n, out);
    else memcpy(out, row, (size_t)n * 4);
}

void td_wire_row_get(td_encoding encoding, const uint8_t *in, int n, float *row)
{
    if (encoding == TD_ENCODING_BF16) get_bf16(in, n, row);
    else if (encoding == TD_ENCODING_F8) get_f8(in, n, row);
    else memcpy(row, in, (size_t)n * 4);
}

void td_wire_row_round(td_encoding encoding, float *row, int n)
{
    if (encoding == TD_ENCODING_BF16)
        for (int i = 0; i < n; i++) row[i] = td_bf16_to_f32(td_f32_to_bf16(row[i]));
}
