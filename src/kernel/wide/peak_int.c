/* peak_int.c - the instructions that products of bytes are made of, alone on registers: what matmul_int.c and matmul_tiles.c are measured against. */
#include "kernel/wide/tiles.h"
#include "kernel/wide/vec.h"

#if defined(__AMX_INT8__)
/* Four tile products in flight, 16 x 16 x 64 each. */
double WIDE(peak_int8)(int64_t rounds, float *sink)
{
    tile_shapes shapes = {.palette = 1};
    _Alignas(64) int32_t tile[16][16] = {{(int32_t)*sink}};
    for (int t = 0; t < 8; t++) shapes.rows[t] = 16, shapes.bytes[t] = 64;
    rounds /= 16;
    TILE_CONFIGURE(&shapes);
    TILE_LOAD(0, tile, 64);
    TILE_LOAD(1, tile, 64);
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_ZERO(4);
    TILE_ZERO(5);
    for (int64_t i = 0; i < rounds; i++) {
        TILE_DOT_SS(2, 0, 1);
        TILE_DOT_SS(3, 0, 1);
        TILE_DOT_SS(4, 0, 1);
        TILE_DOT_SS(5, 0, 1);
    }
    TILE_STORE(5, tile, 64);
    TILE_RELEASE();
    *sink += (float)tile[0][0];
    return (double)rounds * 4 * 16 * 16 * 64 * 2;
}
#else
/* VNNI: u8 * s8 into int32. Else what Q4_0 and the k-quants do: u8 * s8 to int16 pairs, added as int16. */
double WIDE(peak_int8)(int64_t rounds, float *sink)
{
    enum { CHAINS = 12 }; /* latency 4 or 5, two a cycle */
    I a[CHAINS], b = i_set((int32_t)*sink), c = i_set((int32_t)*sink + 1);
    UNROLL for (int j = 0; j < CHAINS; j++) a[j] = i_set(j);
    for (int64_t i = 0; i < rounds; i++)
        UNROLL for (int j = 0; j < CHAINS; j++) {
#if defined(__AVX512VNNI__)
            a[j] = _mm512_dpbusd_epi32(a[j], b, c);
#else
            __asm__ volatile("" : "+v"(b));
            a[j] = i_add16(a[j], i_maddubs(b, c));
#endif
            __asm__ volatile("" : "+v"(a[j]));
        }
    UNROLL for (int j = 1; j < CHAINS; j++) a[0] = i_add(a[0], a[j]);
    *sink += f_max_lane(f_of_i(a[0]));
    return (double)rounds * CHAINS * WIDTH * 4 * 2;
}
#endif
