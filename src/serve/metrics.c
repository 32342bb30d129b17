/* metrics.c - histograms in Prometheus' text format, errors by kind. */
#include "serve/metrics.h"

#include <string.h>

const char *const td_error_kinds[] = {"invalid_value", "invalid_type", "unknown_parameter", "missing_required_parameter", "unsupported_value", "unsupported_parameter", "unsupported", "context_length_exceeded", "invalid_json",
    "model_not_found", "not_found", "method_not_allowed", "invalid_api_key", "invalid_framing", "body_too_large", "unsupported_encoding", "queue_full", "loading", "shutting_down", "ffn_worker_lost", "out_of_memory", "timeout", "cancelled", "internal_error",
    "other", NULL};
_Static_assert(TD_COUNT(td_error_kinds) <= TD_ERROR_KINDS, "one counter a kind");

void td_metrics_error(td_metrics *metrics, const char *code)
{
    int i = 0;
    while (td_error_kinds[i + 1] && strcmp(td_error_kinds[i], code)) i++;
    atomic_fetch_add(&metrics->errors[i], 1);
}

static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160};
_Static_assert(TD_COUNT(bounds) == TD_BUCKETS_MAX, "one count a bound");

void td_histogram_add(td_histogram *histogram, double seconds)
{
    int bucket = 0;
    while (bucket < TD_BUCKETS_MAX && seconds > bounds[bucket]) bucket++;
    atomic_fetch_add(&histogram->counts[bucket], 1);
    atomic_fetch_add(&histogram->total, 1);
    if (seconds > 0) atomic_fetch_add(&histogram->sum_ns, (unsigned long long)(seconds * 1e9));
}

void td_histogram_put(td_buffer *out, const char *name, const char *help, const td_histogram *histogram)
{
    td_buffer_format(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    unsigned long long running = 0;
    for (int i = 0; i < TD_BUCKETS_MAX; i++) {
        running += atomic_load(&histogram->counts[i]);
        td_buffer_format(out, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], running);
    }
    running += atomic_load(&histogram->counts[TD_BUCKETS_MAX]);
    td_buffer_format(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, running, name, (double)atomic_load(&histogram->sum_ns) * 1e-9, name, running);
}

double td_histogram_quantile(const td_histogram *histogram, double share)
{
    unsigned long long total = 0, running = 0;
    for (int i = 0; i <= TD_BUCKETS_MAX; i++) total += atomic_load(&histogram->counts[i]);
    if (!total) return 0;
    for (int i = 0; i < TD_BUCKETS_MAX; i++) {
        running += atomic_load(&histogram->counts[i]);
        if ((double)running >= share * (double)total) return bounds[i];
    }
    return bounds[TD_BUCKETS_MAX - 1];
}
