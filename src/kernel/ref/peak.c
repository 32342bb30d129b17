/* peak.c - what plain C multiply-adds reach: the yardstick of the table "ref". */
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
