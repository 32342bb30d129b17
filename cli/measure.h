/* measure.h - decode and prefill of random prompts through an engine, timed: what 'tandem bench' prints and 'tandem plan --calibrate' fits. */
#ifndef TD_CLI_MEASURE_H
#define TD_CLI_MEASURE_H

#include "tandem.h"

/* seconds for `tokens` over all requests. */
typedef struct {
    double seconds;
    long long tokens;
    bool fine;
    double steps;                         /* that `work` is of */
    td_work_sum work[TD_WORK_CLASSES];    /* what the engine did meanwhile, to a step */
} timing;

/* Times `tokens` steps of `batch` requests of `context` prompt tokens (at least 1; what lies in the cache is not read again) while all of them decode. chunk: the engine's prefill_chunk.
 * Sentences about errors go to stderr. */
timing time_decode(td_engine *engine, int vocab, int batch, int context, int chunk, int tokens, uint64_t seed);
/* Tokens that each of those requests asks for beyond `tokens`: room for them must be in the context. */
int decode_surplus(int batch, int context, int chunk);
/* A prompt of `tokens`, until its first token. */
timing time_prefill(td_engine *engine, int vocab, int tokens, uint64_t seed);

/* Sorts. */
double median(double *values, int count);

/* Synthetic models through the engine in all ways that a prediction is made for (1, 2, ... all threads; with a worker beside), five to fifteen minutes: a file of measured rows and curves for
 * td_plan(TD_PLAN_CALIBRATE), whose path is written into path (malloc'd; the caller unlinks and frees), and *folder with the models, to be given to remove_folder after the fit. */
int measure_machine(const char *dtype, int threads, char **path, char **folder);
void remove_folder(char *folder);

#endif
