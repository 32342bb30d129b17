/*
 * shape.h - a worse network between real processes: a layer over UCX that delays, loses, repeats and damages what arrives. There is no netem on every kernel; a program
 * linked with -Wl,--wrap=td_transport_ucx_open and shape.c gets this layer instead of bare UCX, with the same code above it.
 *
 * Delay counts from the moment of sending (the header's clock, one machine) and is one-way: a receiver that computes meanwhile finds the message when it looks, as with a real wire.
 */
#ifndef TD_TESTS_AFD_SHAPE_H
#define TD_TESTS_AFD_SHAPE_H

#include <stdint.h>

typedef struct {
    int64_t delay_ns, jitter_ns;   /* one way; jitter: up to that much more, messages do not overtake */
    double lose, twice, damage;    /* probabilities per message */
    uint64_t seed;
} td_shape_weather;

/* What holds in this process. NULL: read from TD_SHAPE ("delay_us=500,jitter_us=50,lose=0.01,twice=0.01,damage=0.001,seed=1") at the first opening. May lie in memory
 * that several processes share and be changed while they run. */
extern volatile td_shape_weather *td_shape_now;

#endif
