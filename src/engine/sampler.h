/*
 * sampler.h - one row of logits to one token. The n-th token of a request depends on its logits, its options, its seed and n alone.
 */
#ifndef TD_ENGINE_SAMPLER_H
#define TD_ENGINE_SAMPLER_H

#include "kernel/kernel.h"

enum { TD_LOGPROBS_MAX = 21 };

typedef struct { float p; int32_t id; } td_candidate;

/* Scratch of one worker: candidates [vocab]. */
typedef struct {
    const td_kernel *kernel;
    int vocab;
    td_candidate *candidates;
    float *raw; /* [vocab]; only touched when logprobs are wanted: the logits before the chain */
} td_sampler;

/* tokens: prompt and generated, `count` in all, the last count - prompt_count generated. logits is changed. */
int32_t td_sample(td_sampler *sampler, const td_request_options *options, const int32_t *tokens, int64_t prompt_count, int64_t count, float *logits);

/* Natural log-probabilities of a row: the given token's, and the `wanted` best (sorted, lowest id first on ties). Returns how many were written. */
int td_logprobs(const float *logits, int vocab, int32_t token, int wanted, float *logprob, td_logprob *top);

#endif
