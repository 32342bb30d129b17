/* metrics.c - histograms in Prometheus' text format. */
#include "serve/metrics.h"

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
