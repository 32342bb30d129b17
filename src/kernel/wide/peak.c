/* peak.c - multiply-adds of floats alone on registers, and loads alone: what the other files are measured against. peak_int.c has those of bytes. */
#include "kernel/wide/vec.h"

enum { CHAINS = 12 }; /* latency 4 or 5, two a cycle */

double WIDE(peak_f32)(int64_t rounds, float *sink)
{
    F a[CHAINS], b = f_set(*sink), c = f_set(*sink + 1);
    UNROLL for (int j = 0; j < CHAINS; j++) a[j] = f_set((float)j);
    for (int64_t i = 0; i < rounds; i++)
        UNROLL for (int j = 0; j < CHAINS; j++) {
            a[j] = f_fma(b, c, a[j]);
            __asm__ volatile("" : "+v"(a[j]));
        }
    UNROLL for (int j = 1; j < CHAINS; j++) a[0] = f_add(a[0], a[j]);
    *sink += f_max_lane(a[0]);
    return (double)rounds * CHAINS * WIDTH * 2;
}

uint32_t WIDE(read)(const void *data, size_t bytes)
{
    enum { STREAMS = 8, LINE = 64, STEP = WIDTH * 4 };
    I a[STREAMS];
    uint32_t lanes[WIDTH], sum = 0;
    size_t each = bytes / STREAMS;
    UNROLL for (int s = 0; s < STREAMS; s++) a[s] = i_zero();
    for (size_t at = 0; at < each; at += LINE)
        UNROLL for (int s = 0; s < STREAMS; s++)
            UNROLL for (int j = 0; j < LINE; j += STEP) a[s] = i_xor(a[s], i_load((const char *)data + (size_t)s * each + at + j));
    UNROLL for (int s = 1; s < STREAMS; s++) a[0] = i_xor(a[0], a[s]);
    memcpy(lanes, &a[0], sizeof lanes);
    for (int i = 0; i < WIDTH; i++) sum ^= lanes[i];
    return sum;
}
