/* synth_blocks.c - see synth_blocks.h. Uniform numbers; the deviation of -n..n in whole steps is about n/sqrt(3). */
#include "checkpoint/synth_blocks.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "tensor/kquant.h"

static const double root3 = 1.7320508075688772;

static void fill_bits(uint64_t seed, uint64_t *n, void *out, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = td_random_at(seed, (*n)++);
        memcpy((uint8_t *)out + at, &word, TD_MIN(bytes - at, (size_t)8));
    }
}

static void q8_0(uint64_t seed, double s, int64_t n, uint8_t *out)
{
    uint16_t d = td_f32_to_f16((float)(s * root3 / 127));
    uint64_t at = 0;
    for (int64_t b = 0; b < n / 32; b++, out += 34) {
        memcpy(out, &d, 2);
        fill_bits(seed, &at, out + 2, 32);
        for (int i = 2; i < 34; i++) out[i] = out[i] == 0x80 ? 0x81 : out[i]; /* -128 does not occur in real files */
    }
}

static void q4_0(uint64_t seed, double s, int64_t n, uint8_t *out)
{
    uint16_t d = td_f32_to_f16((float)(s / 4.61));
    uint64_t at = 0;
    for (int64_t b = 0; b < n / 32; b++, out += 18) {
        fill_bits(seed, &at, out + 2, 16);
        uint16_t signed_d = (uint16_t)(d | (td_random_at(~seed, (uint64_t)b) & 1) << 15); /* nibbles lean to -1/2: either sign, so that rows do not */
        memcpy(out, &signed_d, 2);
    }
}

/* Eight scales 32..63, each minimum equal to its scale. */
static void pack_scales(uint64_t bits, uint8_t packed[12])
{
    uint8_t scale[8];
    for (int j = 0; j < 8; j++) scale[j] = (uint8_t)(32 + (bits >> (5 * j) & 31));
    for (int j = 0; j < 4; j++) {
        packed[j] = packed[j + 4] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((scale[j + 4] & 15) | (scale[j + 4] & 15) << 4);
    }
}

static void q4_k(uint64_t seed, double s, int64_t n, td_q4k_block *out)
{
    uint16_t d = td_f32_to_f16((float)(s / (48.4 * 4.61))), dmin = td_f32_to_f16(7.5f * td_f16_to_f32(d));
    uint64_t at = 0;
    for (int64_t b = 0; b < n / 256; b++) {
        out[b].d = d;
        out[b].dmin = dmin;
        pack_scales(td_random_at(~seed, (uint64_t)b), out[b].scales);
        fill_bits(seed, &at, out[b].q, sizeof out[b].q);
    }
}

static void q5_k(uint64_t seed, double s, int64_t n, td_q5k_block *out)
{
    uint16_t d = td_f32_to_f16((float)(s / (48.4 * 9.23))), dmin = td_f32_to_f16(15.5f * td_f16_to_f32(d));
    uint64_t at = 0;
    for (int64_t b = 0; b < n / 256; b++) {
        out[b].d = d;
        out[b].dmin = dmin;
        pack_scales(td_random_at(~seed, (uint64_t)b), out[b].scales);
        fill_bits(seed, &at, out[b].high, sizeof out[b].high);
        fill_bits(seed, &at, out[b].q, sizeof out[b].q);
    }
}

static void q6_k(uint64_t seed, double s, int64_t n, td_q6k_block *out)
{
    uint16_t d = td_f32_to_f16((float)(s / (84.1 * 18.48)));
    uint64_t at = 0;
    for (int64_t b = 0; b < n / 256; b++) {
        fill_bits(seed, &at, out[b].low, sizeof out[b].low);
        fill_bits(seed, &at, out[b].high, sizeof out[b].high);
        uint64_t bits[2] = {td_random_at(~seed, 2 * (uint64_t)b), td_random_at(~seed, 2 * (uint64_t)b + 1)};
        for (int j = 0; j < 16; j++) {
            int byte = (int)(bits[j / 8] >> (8 * (j % 8)) & 255), size = 32 + byte % 128 * 3 / 4;
            out[b].scales[j] = (int8_t)(byte < 128 ? size : -size);
        }
        out[b].d = d;
    }
}

/* Bytes of F8_E4M3 that lie evenly over -444.5 .. 444.5. */
static void f8(uint64_t seed, int64_t n, uint8_t *out)
{
    uint8_t codes[256];
    for (int i = 0; i < 256; i++) codes[i] = td_f32_to_f8e4m3((float)TD_MAX((int8_t)i, (int8_t)-127) * 3.5f);
    uint64_t at = 0;
    fill_bits(seed, &at, out, (size_t)n);
    for (int64_t i = 0; i < n; i++) out[i] = codes[out[i]];
}

float td_synth_f8_scale(double s) { return (float)(s * root3 / 444.5); }

static void floats(uint64_t seed, double s, int64_t n, float *out)
{
    float step = (float)(s * root3 / 32768);
    uint64_t word = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) word = td_random_at(seed, (uint64_t)i / 4);
        out[i] = ((float)(int16_t)(word & 0xFFFF) + 0.5f) * step;
        word >>= 16;
    }
}

void td_synth_row(td_dtype type, uint64_t seed, double s, int64_t n, void *out, float *scratch)
{
    switch (type) {
    case TD_Q8_0: q8_0(seed, s, n, out); break;
    case TD_Q4_0: q4_0(seed, s, n, out); break;
    case TD_Q4_K: q4_k(seed, s, n, out); break;
    case TD_Q5_K: q5_k(seed, s, n, out); break;
    case TD_Q6_K: q6_k(seed, s, n, out); break;
    case TD_F8_E4M3: f8(seed, n, out); break;
    case TD_F32: floats(seed, s, n, out); break;
    default:
        floats(seed, s, n, scratch);
        td_quantise_row(type, scratch, out, n);
    }
}
