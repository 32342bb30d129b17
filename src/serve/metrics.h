/*
 * metrics.h - what /metrics counts on the HTTP side: atomics, written from any thread, read without a lock. The engine's own numbers are read from
 * td_engine_get_stats when somebody asks.
 */
#ifndef TD_SERVE_METRICS_H
#define TD_SERVE_METRICS_H

#include <stdatomic.h>

#include "base/buffer.h"

enum { TD_BUCKETS_MAX = 20, TD_STATUS_CLASSES = 600, TD_ERROR_KINDS = 32 };

/* Cumulative histogram in Prometheus' sense; bounds in seconds. */
typedef struct {
    atomic_ullong counts[TD_BUCKETS_MAX + 1];
    atomic_ullong total, sum_ns;
} td_histogram;

typedef struct {
    td_histogram ttft, tpot, queue, request, prompt;
    atomic_ullong responses[TD_STATUS_CLASSES];  /* by HTTP status */
    atomic_ullong prompt_tokens, cached_tokens, generated_tokens;
    atomic_ullong errors[TD_ERROR_KINDS];        /* by td_error_kinds */
    atomic_ullong finished[8];                   /* by td_finish */
    atomic_ullong refused_queue, disconnects, stream_keep_alives, parser_warnings, connections_total;
    atomic_ullong prompt_ns, decode_ns;
} td_metrics;

/* The codes of errors, NULL at the end; the last one stands for all others. */
extern const char *const td_error_kinds[];
void td_metrics_error(td_metrics *metrics, const char *code);

void td_histogram_add(td_histogram *histogram, double seconds);
/* Appends HELP, TYPE and samples. */
void td_histogram_put(td_buffer *out, const char *name, const char *help, const td_histogram *histogram);
double td_histogram_quantile(const td_histogram *histogram, double share); /* upper bound of the bucket; seconds; 0 when empty */

#endif
