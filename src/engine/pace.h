/*
 * pace.h - how many micro-batches a step is cut into when the FFN is elsewhere. More of them hide more of the wire and let attention and FFN work at the same time;
 * fewer read each weight less often. Which wins depends on the machines, so it is measured: for every size of step (powers of two) each count is tried a few times,
 * then the fastest is kept, and now and then another one is tried again. Tokens do not depend on it.
 *
 * Beside each measured time stands what the stage times predict. One micro-batch and layer takes A on this side, F until its FFN is computed and W on the wire; B is its share of what
 * the busiest worker computes. A layer takes
 *     max(m A, m B, A + F + W).
 * B is F only when a worker takes each micro-batch by itself. A worker that is the bound finds several of a layer waiting and computes them at once: each then waits F for all of
 * their rows, but the worker spends it once, and reads each weight once. m F would count that m times over. It is a bound: the real time is at least this.
 */
#ifndef TD_ENGINE_PACE_H
#define TD_ENGINE_PACE_H

#include <stddef.h>

#include "link/link.h"

enum { TD_PACE_SIZES = 12 };

/* Moving means over steps of one size that were cut into m micro-batches; microseconds per layer. */
typedef struct { int steps; double layer_us, attention_us, ffn_us, share_us, wire_us; } td_pace_row;

typedef struct {
    bool automatic, watching;        /* watching: measures though the count is set */
    int fixed, layers;
    int count, size;                 /* of the running step */
    int64_t attention_ns;            /* of the running step, all micro-batches and layers */
    td_link_times before;
    int workers;
    int age[TD_PACE_SIZES], chosen[TD_PACE_SIZES], told[TD_PACE_SIZES]; /* steps of that size; the count in use, 0: still trying; the count last logged */
    td_pace_row rows[TD_PACE_SIZES][TD_MICRO_BATCHES_MAX];
} td_pace;

/* micro_batches 0: choose; else it stays. remote: the FFN is behind a network link. */
void td_pace_open(td_pace *pace, int micro_batches, bool remote, int layers);
/* Micro-batches for a step of that many rows; at most one a row. */
int td_pace_begin(td_pace *pace, int rows, td_link *link);
/* The layers of the step took that long. */
void td_pace_end(td_pace *pace, int rows, td_link *link, int64_t took_ns);
/* What max(m A, m B, A + F + W) says for a row of m micro-batches. */
double td_pace_predict(const td_pace_row *row, int micro_batches);

#endif
