/*
 * kquant.c - Q4_K, Q5_K, Q6_K: blocks of 256 with small scales for sub-blocks of 32 (16 in Q6_K) under one f16 scale.
 * Quantising looks for the scale (and minimum) that has the least weighted square error among a few starting scales, each refined by least squares.
 */
#include "tensor/kquant.h"

#include <math.h>
#include <string.h>

void td_kquant_unpack(td_dtype type, const void *block, uint8_t q[256])
{
    if (type == TD_Q6_K) {
        const td_q6k_block *b = block;
        for (int i = 0; i < 256; i++) {
            int half = i / 128, r = i % 128; /* each half: 64 bytes of low nibbles, 32 bytes of high pairs */
            int low = b->low[half * 64 + r % 64] >> (r / 64 * 4) & 15, high = b->high[half * 32 + r % 32] >> (r / 32 * 2) & 3;
            q[i] = (uint8_t)(low | high << 4);
        }
        return;
    }
    const uint8_t *nibbles = type == TD_Q4_K ? ((const td_q4k_block *)block)->q : ((const td_q5k_block *)block)->q;
    for (int i = 0; i < 256; i++) {
        int sub = i / 32;
        q[i] = nibbles[sub / 2 * 32 + i % 32] >> (sub % 2 * 4) & 15;
        if (type == TD_Q5_K) q[i] |= (uint8_t)((((const td_q5k_block *)block)->high[i % 32] >> sub & 1) << 4);
    }
}

void td_kquant_dequantise(td_dtype type, const void *from, float *to, int64_t n)
{
    const uint8_t *block = from;
    uint8_t q[256], scale[8], min[8];
    for (int64_t k = 0; k < n; k += 256, block += td_dtype_block_bytes(type), to += 256) {
        td_kquant_unpack(type, block, q);
        if (type == TD_Q6_K) {
            const td_q6k_block *b = (const void *)block;
            float d = td_f16_to_f32(b->d);
            for (int i = 0; i < 256; i++) to[i] = d * (float)b->scales[i / 16] * (float)(q[i] - 32);
            continue;
        }
        const td_q4k_block *b = (const void *)block; /* Q5_K starts alike */
        float d = td_f16_to_f32(b->d), dmin = td_f16_to_f32(b->dmin);
        td_kquant_scales(b->scales, scale, min);
        for (int i = 0; i < 256; i++) to[i] = d * (float)scale[i / 32] * (float)q[i] - dmin * (float)min[i / 32];
    }
}

static int clamp_int(float x, int low, int high)
{
    return !(x > (float)low) ? low : x >= (float)high ? high : (int)lrintf(x);
}

static float safe_ratio(float a, float b)
{
    float r = b != 0 ? a / b : 0;
    return fabsf(r) <= 3.4028234664e38f ? r : 0;
}

typedef struct { float scale, min; } fit;

/* Weighted square error of x ~ scale*q - min over 32 elements, q the nearest in 0..top. */
static double fit_error(const float *x, const float *weight, fit f, int top, uint8_t q[32])
{
    double error = 0;
    float inverse = safe_ratio(1, f.scale);
    for (int i = 0; i < 32; i++) {
        q[i] = (uint8_t)clamp_int((x[i] + f.min) * inverse, 0, top);
        double difference = (double)f.scale * q[i] - f.min - x[i];
        error += weight[i] * difference * difference;
    }
    return error;
}

/* Least-squares scale and minimum for fixed q; min >= 0. */
static fit refit(const float *x, const float *weight, const uint8_t q[32], fit old)
{
    double w = 0, wq = 0, wqq = 0, wx = 0, wqx = 0;
    for (int i = 0; i < 32; i++) {
        double a = weight[i], b = a * q[i];
        w += a, wq += b, wqq += b * q[i], wx += a * x[i], wqx += b * x[i];
    }
    double determinant = w * wqq - wq * wq;
    if (!(determinant > 0)) return old;
    fit f = {(float)((w * wqx - wq * wx) / determinant), (float)((wq * wqx - wqq * wx) / determinant)};
    if (f.min < 0 && wqq > 0) f = (fit){(float)(wqx / wqq), 0};
    return f.scale > 0 ? f : old;
}

static fit best_fit(const float *x, int top)
{
    float low = 0, high = x[0], weight[32];
    double squares = 0;
    for (int i = 0; i < 32; i++) low = fminf(low, x[i]), high = fmaxf(high, x[i]), squares += (double)x[i] * x[i];
    float rms = (float)sqrt(squares / 32);
    for (int i = 0; i < 32; i++) weight[i] = rms + fabsf(x[i]);
    fit best = {(high - low) / (float)top, -low};
    if (!(high > low) || !(best.scale > 0) || !isfinite(best.scale)) return (fit){0, -low};
    uint8_t q[32], ignored[32];
    double least = fit_error(x, weight, best, top, q);
    for (int step = -6; step <= 6; step++) {
        fit f = {(high - low) / ((float)top + 0.15f * (float)step), -low};
        fit_error(x, weight, f, top, q);
        f = refit(x, weight, q, f);
        double error = fit_error(x, weight, f, top, ignored);
        if (error < least) least = error, best = f;
    }
    return best;
}

static uint16_t half_of(float value) { return td_f32_to_f16(fminf(value, 65504.0f)); }

/* Q4_K (top 15) and Q5_K (top 31): d, dmin and the 6-bit scales; q gets the 256 quants. */
static void quantise_with_min(const float *x, int top, td_q4k_block *head, uint8_t q[256])
{
    fit fits[8];
    float scale_max = 0, min_max = 0;
    for (int j = 0; j < 8; j++) {
        fits[j] = best_fit(x + 32 * j, top);
        scale_max = fmaxf(scale_max, fits[j].scale), min_max = fmaxf(min_max, fits[j].min);
    }
    head->d = half_of(scale_max / 63), head->dmin = half_of(min_max / 63);
    float d = td_f16_to_f32(head->d), dmin = td_f16_to_f32(head->dmin);
    memset(head->scales, 0, 12);
    for (int j = 0; j < 8; j++) {
        int scale = clamp_int(safe_ratio(fits[j].scale, d), 0, 63), min = clamp_int(safe_ratio(fits[j].min, dmin), 0, 63);
        if (j < 4) {
            head->scales[j] |= (uint8_t)scale, head->scales[j + 4] |= (uint8_t)min;
        } else {
            head->scales[j + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
            head->scales[j - 4] |= (uint8_t)(scale >> 4 << 6), head->scales[j] |= (uint8_t)(min >> 4 << 6);
        }
        float inverse = safe_ratio(1, d * (float)scale);
        for (int i = 0; i < 32; i++) q[32 * j + i] = (uint8_t)clamp_int((x[32 * j + i] + dmin * (float)min) * inverse, 0, top);
    }
}

/* The scale for 16 elements and q in -32..31 with the least square error weighted by x^2. */
static float best_scale16(const float *x)
{
    float max = 0;
    for (int i = 0; i < 16; i++) max = fabsf(x[i]) > fabsf(max) ? x[i] : max;
    if (max == 0) return 0;
    float best = 0;
    double most = -1;
    for (int step = -9; step <= 9; step++) {
        float inverse = safe_ratio(-(32.0f + 0.1f * (float)step), max);
        double qx = 0, qq = 0;
        for (int i = 0; i < 16; i++) {
            int q = clamp_int(x[i] * inverse, -32, 31);
            double weight = (double)x[i] * x[i];
            qx += weight * q * x[i], qq += weight * q * q;
        }
        if (qq > 0 && qx * qx > most * qq) most = qx * qx / qq, best = (float)(qx / qq); /* the error falls by qx^2/qq */
    }
    return best;
}

static void quantise_q6k(const float *x, td_q6k_block *b)
{
    float scales[16], max = 0;
    for (int j = 0; j < 16; j++) {
        scales[j] = best_scale16(x + 16 * j);
        max = fabsf(scales[j]) > fabsf(max) ? scales[j] : max;
    }
    memset(b, 0, sizeof *b);
    b->d = td_f32_to_f16(fminf(fmaxf(max / -128.0f, -65504.0f), 65504.0f));
    float d = td_f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        if (i % 16 == 0) b->scales[i / 16] = (int8_t)clamp_int(safe_ratio(scales[i / 16], d), -128, 127);
        float step = d * (float)b->scales[i / 16];
        int q = clamp_int(safe_ratio(x[i], step), -32, 31) + 32, half = i / 128, r = i % 128;
        b->low[half * 64 + r % 64] |= (uint8_t)((q & 15) << (r / 64 * 4));
        b->high[half * 32 + r % 32] |= (uint8_t)((q >> 4) << (r / 32 * 2));
    }
}

void td_kquant_quantise(td_dtype type, const float *from, void *to, int64_t n)
{
    uint8_t q[256], *block = to;
    float x[256];
    for (int64_t k = 0; k < n; k += 256, block += td_dtype_block_bytes(type)) {
        for (int i = 0; i < 256; i++) x[i] = from[k + i] == from[k + i] ? from[k + i] : 0;
        if (type == TD_Q6_K) {
            quantise_q6k(x, (td_q6k_block *)block);
            continue;
        }
        td_q5k_block head = {0};
        quantise_with_min(x, type == TD_Q4_K ? 15 : 31, (td_q4k_block *)&head, q);
        uint8_t nibbles[128];
        for (int i = 0; i < 128; i++) nibbles[i] = (uint8_t)((q[i / 32 * 64 + i % 32] & 15) | (q[i / 32 * 64 + 32 + i % 32] & 15) << 4);
        memcpy(block, &head, 16);
        if (type == TD_Q5_K) {
            for (int i = 0; i < 256; i++) head.high[i % 32] |= (uint8_t)((q[i] >> 4) << (i / 32));
            memcpy(block + 16, head.high, 32);
        }
        memcpy(block + (type == TD_Q4_K ? 16 : 48), nibbles, 128);
    }
}
