/*
 * random.h - counter-based random numbers: the n-th number of a seed needs no state, so that a draw does not depend on what else runs.
 * Mixing function: the 64-bit finaliser of SplitMix64 (Steele, Lea, Flood 2014).
 */
#ifndef TD_BASE_RANDOM_H
#define TD_BASE_RANDOM_H

#include <stdint.h>

static inline uint64_t td_mix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The n-th 64-bit number of a seed. */
static inline uint64_t td_random_at(uint64_t seed, uint64_t n) { return td_mix64(td_mix64(seed) + n * 0xD1342543DE82EF95u); }

/* Uniform in [0, 1) with 53 bits. */
static inline double td_random_unit(uint64_t seed, uint64_t n) { return (double)(td_random_at(seed, n) >> 11) * 0x1p-53; }

/* A stream for tests and tools. */
typedef struct { uint64_t seed, n; } td_random;
static inline uint64_t td_random_next(td_random *r) { return td_random_at(r->seed, r->n++); }
static inline double td_random_next_unit(td_random *r) { return td_random_unit(r->seed, r->n++); }
/* Uniform in [low, high], low <= high. */
static inline int64_t td_random_between(td_random *r, int64_t low, int64_t high)
{
    return low + (int64_t)(td_random_next(r) % (uint64_t)(high - low + 1));
}

#endif
