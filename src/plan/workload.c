/* workload.c - arrivals for the simulator (Poisson, or a trace file), its report, and the published closed form for the ratio of attention to FFN instances. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "plan/sim.h"

enum { TOKENS_MAX = 100000000 };

/* Geometric on 1, 2, ... with the given mean, from a uniform number. */
static int geometric(double mean, double u) { return mean <= 1 ? 1 : (int)fmin(TOKENS_MAX, 1 + floor(log1p(-u) / log1p(-1 / mean))); }

td_status plan_poisson(double rate, int64_t count, double prompt, double output, bool fixed, uint64_t seed, plan_arrival **out)
{
    if (!(rate > 0) || count < 1 || count > 50000000 || !(prompt >= 0) || !(output >= 1) || prompt > TOKENS_MAX || output > TOKENS_MAX)
        return td_fail(TD_E_INVALID, "requests: expected a rate above 0, 1 to 50000000 requests, a prompt of at least 0 and an output of at least 1 token, found %g, %lld, %g, %g", rate, (long long)count, prompt, output);
    plan_arrival *a = malloc((size_t)count * sizeof *a);
    if (!a) return td_fail(TD_E_MEMORY, "no memory for %lld requests", (long long)count);
    double now = 0;
    for (int64_t i = 0; i < count; i++) {
        if (isfinite(rate)) now += -log1p(-td_random_unit(seed, 3 * (uint64_t)i)) / rate;
        a[i] = (plan_arrival){now, fixed ? (int)prompt : prompt < 1 ? 0 : geometric(prompt, td_random_unit(seed, 3 * (uint64_t)i + 1)), fixed ? (int)output : geometric(output, td_random_unit(seed, 3 * (uint64_t)i + 2))};
    }
    *out = a;
    return TD_OK;
}

static int by_time(const void *a, const void *b)
{
    double x = ((const plan_arrival *)a)->at_s, y = ((const plan_arrival *)b)->at_s;
    return x < y ? -1 : x > y;
}

td_status plan_trace_read(const char *path, plan_arrival **out, int64_t *count)
{
    char *text;
    size_t lines = 1, line = 0;
    TD_TRY(td_file_read_text(path, (size_t)1 << 31, &text));
    for (const char *c = text; *c; c++) lines += *c == '\n';
    plan_arrival *a = malloc(lines * sizeof *a);
    td_status status = a ? TD_OK : td_fail(TD_E_MEMORY, "file %s: no memory for %zu lines", path, lines);
    int64_t n = 0;
    for (char *at = text; status == TD_OK && *at;) {
        char *end = at + strcspn(at, "\n"), *more = *end ? end + 1 : end;
        *end = 0;
        line++;
        at += strspn(at, " \t\r");
        double v[3] = {0};
        char *p = at;
        int got = 0;
        while (*at && *at != '#' && got < 3) {
            char *stop;
            v[got] = strtod(p, &stop);
            if (stop == p) break;
            got++;
            p = stop + strspn(stop, " \t\r,");
        }
        if (*at && *at != '#') {
            if (got != 3 || (*p && *p != '#') || !(v[0] >= 0 && v[0] < 1e12) || !(v[1] >= 0 && v[1] <= TOKENS_MAX) || !(v[2] >= 1 && v[2] <= TOKENS_MAX))
                status = td_fail(TD_E_FORMAT, "file %s line %zu: expected 'arrival_seconds prompt_tokens output_tokens', found '%.60s'", path, line, at);
            else a[n++] = (plan_arrival){v[0], (int)v[1], (int)v[2]};
        }
        at = more;
    }
    free(text);
    if (status == TD_OK && n == 0) status = td_fail(TD_E_FORMAT, "file %s: expected lines 'arrival_seconds prompt_tokens output_tokens', found none", path);
    if (status < 0) {
        free(a);
        return status;
    }
    qsort(a, (size_t)n, sizeof *a, by_time);
    *out = a;
    *count = n;
    return TD_OK;
}

double plan_theta(const plan_arrival *arrivals, int64_t count)
{
    double load = 0, steps = 0;
    for (int64_t i = 0; i < count; i++) {
        double p = arrivals[i].prompt, o = arrivals[i].output;
        load += p * o + o * (o - 1) / 2;
        steps += o;
    }
    return steps > 0 ? load / steps : 0;
}

double plan_optimal_ratio(double a1, double a0, double f1, double f0, double wire, double slots, double theta)
{
    double r_a = (a1 * slots * theta + a0 - f0) / (f1 * slots), r_c = (wire - f0) / (f1 * slots), r_peak = sqrt(f0 / (f1 * slots));
    return fmax(r_a, fmax(r_c, r_peak));
}

static void spread_row(const char *name, const plan_spread *s, double unit, td_buffer *out)
{
    td_buffer_format(out, "  %-28s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, s->mean * unit, s->p50 * unit, s->p90 * unit, s->p99 * unit, s->max * unit);
}

static void spread_json(const char *name, const plan_spread *s, td_buffer *out)
{
    td_buffer_format(out, ",\"%s\":{\"mean\":%.9g,\"p50\":%.9g,\"p90\":%.9g,\"p99\":%.9g,\"max\":%.9g}", name, s->mean, s->p50, s->p90, s->p99, s->max);
}

td_status plan_sim_report(const plan_simulation *s, const plan_sim_result *r, bool json, td_buffer *out)
{
    const plan_deployment *d = s->c->deployment;
    double devices = 0;
    for (int p = 0; p < d->a_pools; p++) devices += d->a[p].devices;
    for (int p = 0; p < d->f_pools; p++) devices += d->f[p].devices;
    devices *= s->replicas;
    if (json) {
        td_buffer_text(out, "{\"deploy\":\"");
        plan_deployment_write(d, out);
        td_buffer_format(out, "\",\"replicas\":%d,\"devices\":%.0f,\"prefill_devices\":%.0f,\"requests\":%lld,\"finished\":%lld,\"refused\":%lld,\"makespan_s\":%.9g,\"tokens_per_s\":%.9g,\"tokens_per_s_device\":%.9g,\"batch_mean\":%.6g", s->replicas,
                         devices, s->prefill_devices, (long long)s->count, (long long)r->finished, (long long)r->refused, r->makespan_s, r->tokens_s, r->tokens_s / devices, r->batch_mean);
        spread_json("ttft_s", &r->ttft_s, out), spread_json("tpot_s", &r->tpot_s, out), spread_json("queue_s", &r->queue_s, out), spread_json("prefill_wait_s", &r->prefill_wait_s, out);
        td_buffer_format(out, ",\"attention_busy\":%.6f,\"attention_device_busy\":%.6f,\"ffn_busy\":%.6f,\"wire_busy\":%.6f,\"shares\":{\"attention\":%.6f,\"out\":%.6f,\"ffn\":%.6f,\"back\":%.6f,\"head\":%.6f,\"wait\":%.6f},\"events\":%lld,\"steps\":%lld}\n",
                         r->a_busy, r->a_device_busy, r->f_busy, r->wire_busy, r->share_a, r->share_out, r->share_f, r->share_back, r->share_head, r->share_wait, (long long)r->events, (long long)r->steps);
        return td_buffer_status(out);
    }
    td_buffer_format(out, "%d x ", s->replicas);
    plan_deployment_write(d, out);
    td_buffer_format(out, " (%.0f devices", devices);
    if (s->prefill == PLAN_PREFILL_POOL) td_buffer_format(out, " and %.0f more that read prompts", s->prefill_devices);
    td_buffer_format(out, "): %lld requests finished in %.1f s, %lld refused as too long for a slot\n\n", (long long)r->finished, r->makespan_s, (long long)r->refused);
    td_buffer_format(out, "  %-28s %10s %10s %10s %10s %10s\n", "", "mean", "p50", "p90", "p99", "max");
    spread_row("time to first token, ms", &r->ttft_s, 1e3, out);
    spread_row("time per output token, ms", &r->tpot_s, 1e3, out);
    spread_row("wait for a slot, ms", &r->queue_s, 1e3, out);
    if (s->prefill == PLAN_PREFILL_POOL) spread_row("wait for prefill, ms", &r->prefill_wait_s, 1e3, out);
    td_buffer_format(out, "\n  %.0f output tokens/s, %.0f a device%s; %.0f tokens in flight a copy\n", r->tokens_s, r->tokens_s / devices, s->prefill == PLAN_PREFILL_POOL ? " that decodes" : "", r->batch_mean);
    td_buffer_format(out, "  busy: attention side %.1f %% (a device on average %.1f %%: the rest waits for the slowest), FFN side %.1f %%, wire %.1f %%\n", 100 * r->a_busy, 100 * r->a_device_busy, 100 * r->f_busy, 100 * r->wire_busy);
    td_buffer_format(out, "  between two tokens: attention %.1f %%, wire out %.1f %%, FFN %.1f %%, wire back %.1f %%, LM head %.1f %%, waiting for a side %.1f %%\n", 100 * r->share_a, 100 * r->share_out, 100 * r->share_f, 100 * r->share_back,
                     100 * r->share_head, 100 * r->share_wait);
    td_buffer_format(out, "  %lld events, %lld steps\n", (long long)r->events, (long long)r->steps);
    return td_buffer_status(out);
}
