/* local.c - attention and FFN in one room: submit is the FFN's arithmetic, wait has nothing to wait for. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ffn/ffn.h"
#include "link/ops.h"

enum { TD_EXPERTS_SHOWN = 1024 };

typedef struct {
    td_link base;
    td_ffn *ffn;
    td_link_stats stats;
    const td_model *model;
    atomic_uint *load;  /* [layers, experts] rows since the start; NULL: a dense model */
} local_link;

static void local_close(td_link *link)
{
    local_link *local = (local_link *)link;
    td_ffn_close(local->ffn);
    free(local->load);
    free(local);
}

static td_status local_submit(td_link *link, const td_link_job *job)
{
    local_link *local = (local_link *)link;
    td_ffn_job work = {.layer = job->layer, .rows = job->rows, .x = job->x, .ids = job->ids, .weights = job->weights};
    td_ffn_run(local->ffn, &work, job->y);
    atomic_uint *load = local->load && job->ids ? local->load + (size_t)job->layer * (size_t)local->model->config.experts : NULL;
    for (int i = 0; load && i < job->rows * local->model->config.top_k; i++) atomic_fetch_add_explicit(&load[job->ids[i]], 1, memory_order_relaxed);
    return TD_OK;
}

static td_status local_wait(td_link *link, int micro_batch)
{
    (void)link, (void)micro_batch;
    return TD_OK;
}

static void local_cancel(td_link *link, int micro_batch) { (void)link, (void)micro_batch; }

static bool local_ready(td_link *link, int micro_batch)
{
    (void)link, (void)micro_batch;
    return true;
}

static void local_times(td_link *link, td_link_times *out)
{
    const td_work_sum *work = td_ffn_work(((const local_link *)link)->ffn);
    *out = (td_link_times){.bytes = work->bytes, .flops = work->flops};
}

static void local_stats(td_link *link, td_link_stats *out) { *out = ((local_link *)link)->stats; }

static td_status local_workers_json(td_link *link, td_buffer *out)
{
    const local_link *local = (const local_link *)link;
    const td_config *config = &local->model->config;
    const char *comma = "";
    td_buffer_text(out, "{\"kind\":\"local\",\"workers\":[],\"layers\":[");
    for (int layer = 0; local->load && layer < config->layers; layer++) {
        uint64_t total = 0;
        int hottest = 0;
        unsigned loads[TD_EXPERTS_SHOWN];
        int experts = TD_MIN(config->experts, TD_EXPERTS_SHOWN);
        for (int e = 0; e < experts; e++) {
            loads[e] = atomic_load_explicit(&local->load[(size_t)layer * (size_t)config->experts + (size_t)e], memory_order_relaxed);
            total += loads[e];
            if (loads[e] > loads[hottest]) hottest = e;
        }
        if (!total) continue; /* a dense layer, or nothing was computed yet */
        td_buffer_format(out, "%s{\"layer\":%d,\"hottest_expert\":%d,\"hottest_share\":%.3f,\"load\":[", comma, layer, hottest, (double)loads[hottest] / (double)total);
        for (int e = 0; e < experts; e++) td_buffer_format(out, "%s%u", e ? "," : "", loads[e]);
        td_buffer_text(out, "]}");
        comma = ",";
    }
    td_buffer_text(out, "]}");
    return td_buffer_status(out);
}

static td_status local_change(td_link *link, const char *command)
{
    (void)link;
    return td_fail(TD_E_UNSUPPORTED, "workers: '%s' needs an engine started with --ffn; this one computes the FFN itself", command);
}

static size_t local_scratch(const td_link *link) { return td_ffn_scratch_bytes(((const local_link *)link)->ffn); }

td_status td_link_local_open(const td_link_options *options, td_link **out)
{
    static const td_link_ops ops = {local_close, local_submit, local_wait, local_cancel, local_ready, local_times, local_stats, local_workers_json, local_change, local_scratch};
    if (!options->model->ffn) return td_fail(TD_E_INVALID, "ffn: expected FFN weights in this process or --ffn host:port, found neither");
    local_link *local = calloc(1, sizeof *local);
    if (!local) return td_fail(TD_E_MEMORY, "link: no memory");
    local->base.ops = &ops;
    local->model = options->model;
    const td_config *config = &options->model->config;
    if (config->experts > 0) {
        local->load = calloc((size_t)config->layers * (size_t)config->experts, sizeof *local->load);
        if (!local->load) {
            free(local);
            return td_fail(TD_E_MEMORY, "link: no memory");
        }
    }
    td_status status = td_ffn_open(options->model, options->kernel, options->pool, options->rows_max, &local->ffn);
    if (status < 0) {
        free(local->load);
        free(local);
        return status;
    }
    *out = &local->base;
    return TD_OK;
}
