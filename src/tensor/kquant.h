/* kquant.h - inside of the k-quants: block layouts (little-endian, as GGUF), the packed 6-bit scales, row conversions. For tensor/ and kernel/ only. */
#ifndef TD_TENSOR_KQUANT_H
#define TD_TENSOR_KQUANT_H

#include "tensor/dtype.h"

typedef struct { uint16_t d, dmin; uint8_t scales[12], q[128]; } td_q4k_block;
typedef struct { uint16_t d, dmin; uint8_t scales[12], high[32], q[128]; } td_q5k_block;
typedef struct __attribute__((packed)) { uint8_t low[128], high[64]; int8_t scales[16]; uint16_t d; } td_q6k_block;

/* Scale and minimum (0..63) of sub-blocks 0..7: bytes 0-3 and 4-7 hold the low six bits of 0-3, bytes 8-11 the low four of 4-7, whose top two sit above those of 0-3. */
static inline void td_kquant_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = packed[j] & 63;
        min[j] = packed[j + 4] & 63;
        scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
        min[j + 4] = (uint8_t)((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
}

/* The 256 quants of a block in element order: Q4_K 0..15, Q5_K 0..31, Q6_K 0..63 (value q - 32). */
void td_kquant_unpack(td_dtype type, const void *block, uint8_t q[256]);
void td_kquant_dequantise(td_dtype type, const void *from, float *to, int64_t n);
void td_kquant_quantise(td_dtype type, const float *from, void *to, int64_t n);

#endif
