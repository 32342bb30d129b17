/*
 * dtype.h - the types a weight can have, their block formats, and conversions of whole rows.
 *
 * A row of n elements is n / block_elements blocks of block_bytes, little-endian, laid out as in GGUF (ggml) and safetensors:
 *   Q8_0  32 elements: f16 d; int8 q[32]                                   value = d*q
 *   Q4_0  32: f16 d; 16 bytes, element i low nibble of byte i, i+16 high    value = d*(q-8)
 *   Q4_K  256: f16 d, f16 dmin, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles   value = d*sc*q - dmin*m   per 32
 *   Q5_K  256: as Q4_K with 32 bytes of high bits before the nibbles
 *   Q6_K  256: 128 bytes low nibbles, 64 bytes of high 2 bits, 16 int8 scales (per 16), f16 d    value = d*sc*(q-32)
 *   F8_E4M3 one byte an element (OCP E4M3FN); scales, one f32 per 128x128 block, are a tensor beside it (weight_scale_inv)
 */
#ifndef TD_TENSOR_DTYPE_H
#define TD_TENSOR_DTYPE_H

#include "base/status.h"

typedef enum {
    TD_F32, TD_F16, TD_BF16, TD_F8_E4M3, TD_Q8_0, TD_Q4_0, TD_Q4_K, TD_Q5_K, TD_Q6_K, TD_I8, TD_I32, TD_I64,
    TD_DTYPES
} td_dtype;

enum { TD_F8_BLOCK = 128, TD_Q_BLOCK = 32, TD_QK_BLOCK = 256 };

const char *td_dtype_name(td_dtype type);                 /* "f32", "q4_k", ... */
td_status td_dtype_parse(const char *name, td_dtype *out); /* either case; the error lists the names */
int td_dtype_block_elements(td_dtype type);
int td_dtype_block_bytes(td_dtype type);

/* Bytes of a row of n elements; 0 when n is not a multiple of the block. */
size_t td_dtype_row_bytes(td_dtype type, int64_t n);

/* Row conversions; n is a multiple of the block, data aligned to 4 (F32), 2 (F16, BF16, k-quants) or 1 bytes. F8 without its scales. Nothing is done for integer types.
 * The products are rounded from left to right: d*q, (d*sc)*q, (d*sc)*q - dmin*m. */
void td_dequantise_row(td_dtype type, const void *from, float *to, int64_t n);
/* F16, BF16, F8: nearest even. Q8_0 and Q4_0: the same bytes as ggml's reference (d = max/127, halves away from zero; d = -max/8, halves up). Q4_K..Q6_K: scales by
 * least squares. Any finite input gives a finite row (scales saturate); NaN in a block format becomes 0, elsewhere it stays NaN. */
void td_quantise_row(td_dtype type, const float *from, void *to, int64_t n);

float td_f16_to_f32(uint16_t bits);
uint16_t td_f32_to_f16(float value);      /* nearest even; 65520 and more: infinity */
float td_f8e4m3_to_f32(uint8_t bits);
uint8_t td_f32_to_f8e4m3(float value);    /* nearest even; more than 448: 448 (the format has no infinity) */

static inline float td_bf16_to_f32(uint16_t bits)
{
    union { uint32_t u; float f; } v = {.u = (uint32_t)bits << 16};
    return v.f;
}
/* Nearest even; NaN stays NaN. */
static inline uint16_t td_f32_to_bf16(float value)
{
    union { float f; uint32_t u; } v = {.f = value};
    if ((v.u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)((v.u >> 16) | 0x40);
    return (uint16_t)((v.u + 0x7FFF + ((v.u >> 16) & 1)) >> 16);
}

#endif
