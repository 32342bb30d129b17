/*
 * dtype.c - names and sizes of the weight types, scalar conversions, and the simple row formats. The k-quants are in kquant.c.
 * These are the definitions: the kernels' faster conversions give the same values.
 */
#include "tensor/dtype.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "tensor/kquant.h"

static const struct { const char *name; int elements, bytes; } types[TD_DTYPES] = {
    [TD_F32] = {"f32", 1, 4},     [TD_F16] = {"f16", 1, 2},     [TD_BF16] = {"bf16", 1, 2},    [TD_F8_E4M3] = {"f8_e4m3", 1, 1},
    [TD_Q8_0] = {"q8_0", 32, 34}, [TD_Q4_0] = {"q4_0", 32, 18}, [TD_Q4_K] = {"q4_k", 256, 144}, [TD_Q5_K] = {"q5_k", 256, 176},
    [TD_Q6_K] = {"q6_k", 256, 210}, [TD_I8] = {"i8", 1, 1},     [TD_I32] = {"i32", 1, 4},      [TD_I64] = {"i64", 1, 8},
};

static bool known(td_dtype type) { return (unsigned)type < TD_DTYPES; }

const char *td_dtype_name(td_dtype type) { return known(type) ? types[type].name : "unknown"; }
int td_dtype_block_elements(td_dtype type) { return known(type) ? types[type].elements : 1; }
int td_dtype_block_bytes(td_dtype type) { return known(type) ? types[type].bytes : 0; }

td_status td_dtype_parse(const char *name, td_dtype *out)
{
    char names[128] = "";
    for (int i = 0; i < TD_DTYPES; i++) {
        if (strcasecmp(name, types[i].name) == 0) {
            *out = (td_dtype)i;
            return TD_OK;
        }
        strcat(strcat(names, i ? ", " : ""), types[i].name); /* 12 names of at most 7 bytes */
    }
    return td_fail(TD_E_INVALID, "type \"%.40s\": expected one of %s", name, names);
}

size_t td_dtype_row_bytes(td_dtype type, int64_t n)
{
    if (!known(type) || n < 0 || n % types[type].elements != 0) return 0;
    return (size_t)(n / types[type].elements) * (size_t)types[type].bytes;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

float td_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, body = h & 0x7FFF;
    if (body >= 0x7C00) return float_of(sign | 0x7F800000 | (body & 0x3FF) << 13 | (body > 0x7C00 ? 0x400000 : 0)); /* NaN comes out quiet, as in F16C */
    if (body < 0x0400) return float_of(bits_of((float)body * 0x1p-24f) | sign);
    return float_of(sign | ((body << 13) + (112u << 23)));
}

uint16_t td_f32_to_f16(float value)
{
    uint32_t bits = bits_of(value), body = bits & 0x7FFFFFFF;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (body > 0x7F800000) return sign | 0x7E00 | (body >> 13 & 0x3FF);
    if (body >= 0x477FF000) return sign | 0x7C00;                         /* at least 65520 rounds to infinity */
    if (body < 0x38800000) {                                              /* below 2^-14: a multiple of 2^-24, rounded by the addition */
        return sign | (uint16_t)(bits_of(float_of(body) + 0.5f) - bits_of(0.5f));
    }
    body += 0xFFF + (body >> 13 & 1);
    return sign | (uint16_t)((body >> 13) - (112u << 10));
}

float td_f8e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, body = b & 0x7F;
    if (body == 0x7F) return float_of(sign | 0x7FC00000);
    if (body < 8) return float_of(bits_of((float)body * 0x1p-9f) | sign);
    return float_of(sign | ((body << 20) + (120u << 23)));
}

uint8_t td_f32_to_f8e4m3(float value)
{
    uint32_t bits = bits_of(value), body = bits & 0x7FFFFFFF;
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    if (body > 0x7F800000) return sign | 0x7F;
    if (body >= 0x43E00000) return sign | 0x7E;                           /* 448 and more saturate */
    if (body < 0x3C800000) return sign | (uint8_t)(bits_of(float_of(body) + 0x1p14f) - bits_of(0x1p14f)); /* below 2^-6: multiples of 2^-9 */
    body += 0x7FFFF + (body >> 20 & 1);
    uint32_t code = (body >> 20) - (120u << 3);
    return sign | (uint8_t)(code > 0x7E ? 0x7E : code);
}

static uint16_t half_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static void put_half(uint8_t *p, float value)
{
    uint16_t h = td_f32_to_f16(fminf(fmaxf(value, -65504.0f), 65504.0f)); /* a finite block keeps a finite scale */
    p[0] = (uint8_t)h, p[1] = (uint8_t)(h >> 8);
}

static void dequantise_q8_0(const uint8_t *b, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i += 32, b += 34, to += 32) {
        float d = td_f16_to_f32(half_at(b));
        for (int j = 0; j < 32; j++) to[j] = d * (float)(int8_t)b[2 + j];
    }
}

static void dequantise_q4_0(const uint8_t *b, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i += 32, b += 18, to += 32) {
        float d = td_f16_to_f32(half_at(b));
        for (int j = 0; j < 16; j++) {
            to[j] = d * (float)((b[2 + j] & 15) - 8);
            to[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

/* 1/d, or 0 when d is 0, so small that its inverse is no number, or not a number. */
static float inverse(float d)
{
    float id = d != 0 ? 1.0f / d : 0;
    return fabsf(id) <= 3.4028234664e38f ? id : 0;
}

static void quantise_q8_0(const float *from, uint8_t *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += 32, b += 34, from += 32) {
        float max = 0;
        for (int j = 0; j < 32; j++) max = fabsf(from[j]) > max ? fabsf(from[j]) : max;
        float d = max / 127.0f, id = inverse(d);
        put_half(b, d);
        for (int j = 0; j < 32; j++) {
            float q = roundf(from[j] * id);
            b[2 + j] = q == q ? (uint8_t)(int8_t)q : 0;
        }
    }
}

static int nibble(float x) { return x > 0 ? TD_MIN((int)x, 15) : 0; }

static void quantise_q4_0(const float *from, uint8_t *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += 32, b += 18, from += 32) {
        float max = 0; /* the element of largest magnitude, with its sign: it becomes -8 */
        for (int j = 0; j < 32; j++) max = fabsf(from[j]) > fabsf(max) ? from[j] : max;
        float d = max / -8.0f, id = inverse(d);
        put_half(b, d);
        for (int j = 0; j < 16; j++) b[2 + j] = (uint8_t)(nibble(from[j] * id + 8.5f) | nibble(from[j + 16] * id + 8.5f) << 4);
    }
}

void td_dequantise_row(td_dtype type, const void *from, float *to, int64_t n)
{
    switch (type) {
    case TD_F32: memcpy(to, from, (size_t)n * 4); break;
    case TD_F16:
        for (int64_t i = 0; i < n; i++) to[i] = td_f16_to_f32(((const uint16_t *)from)[i]);
        break;
    case TD_BF16:
        for (int64_t i = 0; i < n; i++) to[i] = td_bf16_to_f32(((const uint16_t *)from)[i]);
        break;
    case TD_F8_E4M3:
        for (int64_t i = 0; i < n; i++) to[i] = td_f8e4m3_to_f32(((const uint8_t *)from)[i]);
        break;
    case TD_Q8_0: dequantise_q8_0(from, to, n); break;
    case TD_Q4_0: dequantise_q4_0(from, to, n); break;
    case TD_Q4_K: case TD_Q5_K: case TD_Q6_K: td_kquant_dequantise(type, from, to, n); break;
    default: break;
    }
}

void td_quantise_row(td_dtype type, const float *from, void *to, int64_t n)
{
    switch (type) {
    case TD_F32: memcpy(to, from, (size_t)n * 4); break;
    case TD_F16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)to)[i] = td_f32_to_f16(from[i]);
        break;
    case TD_BF16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)to)[i] = td_f32_to_bf16(from[i]);
        break;
    case TD_F8_E4M3:
        for (int64_t i = 0; i < n; i++) ((uint8_t *)to)[i] = td_f32_to_f8e4m3(from[i]);
        break;
    case TD_Q8_0: quantise_q8_0(from, to, n); break;
    case TD_Q4_0: quantise_q4_0(from, to, n); break;
    case TD_Q4_K: case TD_Q5_K: case TD_Q6_K: td_kquant_quantise(type, from, to, n); break;
    default: break;
    }
}
