/*
 * tiles.h - the tile instructions of AMX that the products use, and the shapes of the eight tile registers.
 *
 * A tile is up to 16 rows of 64 bytes. tdpb.. c, a, b: c[m][n] += sum over the bytes k of a[m][k] * b[k/4][n][k%4], exactly, in int32. Every load names its bytes in memory, so the
 * instructions are written here with a memory clobber, which the compilers' own intrinsics lack.
 */
#ifndef TD_KERNEL_WIDE_TILES_H
#define TD_KERNEL_WIDE_TILES_H

#include <stdint.h>

typedef struct {
    uint8_t palette, start_row, zero[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} tile_shapes;

#define TILE_CONFIGURE(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(*(shapes)) : "memory")
#define TILE_RELEASE() __asm__ volatile("tilerelease" ::: "memory")
#define TILE_LOAD(t, from, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((int64_t)(stride)) : "memory")
#define TILE_ZERO(t) __asm__ volatile("tilezero %tmm" #t)
#define TILE_DOT_SS(c, a, b) __asm__ volatile("tdpbssd %tmm" #b ", %tmm" #a ", %tmm" #c) /* both signed */
#define TILE_DOT_SU(c, a, b) __asm__ volatile("tdpbsud %tmm" #b ", %tmm" #a ", %tmm" #c) /* b unsigned */

#endif
