/*
 * sim.h - requests replayed in virtual time through copies of a deployment.
 *
 * One heap of events: arrivals, prompts read, steps. A step of a copy carries its micro-batches through all layers: attention (all devices of the side
 * must finish), wire out, FFN, wire back, each a first-come resource whose state is carried from step to step, so bubbles appear where they would.
 * A request waits in one queue, then occupies a slot (device, micro-batch) until its last token; its cache must fit there in full.
 */
#ifndef TD_PLAN_SIM_H
#define TD_PLAN_SIM_H

#include "plan/schedule.h"

typedef struct { double at_s; int prompt, output; } plan_arrival;

typedef enum { PLAN_PREFILL_INLINE, PLAN_PREFILL_POOL, PLAN_PREFILL_NONE } plan_prefill;

typedef struct {
    const plan_case *c;            /* rows of the deployment are the most tokens a device takes in one micro-batch; load->jitter applies to every stage */
    int replicas;
    const plan_arrival *arrivals;  /* ascending in time; borrowed */
    int64_t count;
    plan_prefill prefill;
    int prefill_servers;           /* POOL: each serves one prompt at a time in prefill_s_per_token * tokens */
    double prefill_s_per_token;
    double prefill_devices;        /* POOL: of the servers, beside the deployment's; for the report */
    int prefill_chunk;             /* INLINE: prompt tokens a slot reads in one step; 0: 512 */
    uint64_t seed;
} plan_simulation;

typedef struct { double mean, p50, p90, p99, max; } plan_spread;

typedef struct {
    int64_t finished, refused;     /* refused: larger than any slot */
    double makespan_s, output_tokens, tokens_s;
    double full_tokens_s;          /* while requests were waiting, after a fifth had finished: saturated throughput; 0: never so */
    plan_spread ttft_s, tpot_s, queue_s, prefill_wait_s;
    double batch_mean;             /* tokens in a step of one copy, average over time */
    double a_busy, f_busy, wire_busy; /* share of the time from first to last step of a copy */
    double a_device_busy;          /* a_busy without waiting for the slowest device of the side */
    double share_a, share_out, share_f, share_back, share_head, share_wait; /* of the time between two tokens */
    int64_t events, steps;
} plan_sim_result;

td_status plan_simulate(const plan_simulation *simulation, plan_sim_result *out);
/* count arrivals of a Poisson process with geometric prompt and output lengths of the given means (fixed: exactly the means). malloc'd. */
td_status plan_poisson(double rate, int64_t count, double prompt, double output, bool fixed, uint64_t seed, plan_arrival **out);
/* Lines "arrival_seconds prompt_tokens output_tokens"; '#' starts a comment; any order. malloc'd. */
td_status plan_trace_read(const char *path, plan_arrival **out, int64_t *count);
td_status plan_sim_report(const plan_simulation *simulation, const plan_sim_result *r, bool json, td_buffer *out);

/* Optimal attention to FFN ratio of one FFN instance (arXiv 2601.21351): stage times linear in load, t_A = a1 T + a0 for T cached tokens, t_F = f1 n + f0 for
 * n tokens, wire t_C; B slots per attention instance whose mean load is theta tokens. Returns max(r_A, r_C, r_peak). */
double plan_optimal_ratio(double a1, double a0, double f1, double f0, double wire, double slots, double theta);
/* Mean tokens in the cache of a busy slot: E[sum over decode steps of (prompt + steps)] / E[output]. */
double plan_theta(const plan_arrival *arrivals, int64_t count);

#endif
