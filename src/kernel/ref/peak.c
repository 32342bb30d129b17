/* peak.c - what plain C multiply-adds and loads reach: the yardstick of the table "ref". */
#include "kernel/ref/ref.h"

double td_ref_peak_f32(int64_t rounds, float *sink)
{
    float a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b = *sink, c = b + 1;
    for (int64_t i = 0; i < rounds; i++)
        for (int j = 0; j < 8; j++) a[j] = a[j] * b + c;
    for (int j = 0; j < 8; j++) *sink += a[j];
    return (double)rounds * 16;
}

double td_ref_peak_int8(int64_t rounds, float *sink)
{
    uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b = (uint32_t)*sink, c = b + 1;
    for (int64_t i = 0; i < rounds; i++)
        for (int j = 0; j < 8; j++) a[j] = a[j] * b + c;
    for (int j = 0; j < 8; j++) *sink += (float)a[j];
    return (double)rounds * 16;
}

uint32_t td_ref_read(const void *data, size_t bytes)
{
    enum { STREAMS = 8 };
    const uint64_t *p = data;
    uint64_t a[STREAMS][8] = {{0}}, sum = 0;
    size_t each = bytes / 8 / STREAMS;
    for (size_t i = 0; i < each; i += 8)
        for (int s = 0; s < STREAMS; s++)
            for (size_t j = 0; j < 8; j++) a[s][j] ^= p[(size_t)s * each + i + j];
    for (int s = 0; s < STREAMS; s++)
        for (int j = 0; j < 8; j++) sum ^= a[s][j];
    return (uint32_t)(sum ^ sum >> 32);
}
