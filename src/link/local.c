/* local.c - attention and FFN in one room: submit is the FFN's arithmetic, wait has nothing to wait for. */
#include <stdlib.h>
#include <string.h>

#include "ffn/ffn.h"
#include "link/ops.h"

typedef struct {
    td_link base;
    td_ffn *ffn;
    td_link_stats stats;
} local_link;

static void local_close(td_link *link)
{
    local_link *local = (local_link *)link;
    td_ffn_close(local->ffn);
    free(local);
}

static td_status local_submit(td_link *link, const td_link_job *job)
{
    local_link *local = (local_link *)link;
    td_ffn_job work = {.layer = job->layer, .rows = job->rows, .x = job->x, .ids = job->ids, .weights = job->weights};
    td_ffn_run(local->ffn, &work, job->y);
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

static void local_stats(td_link *link, td_link_stats *out) { *out = ((local_link *)link)->stats; }

static td_status local_workers_json(td_link *link, td_buffer *out)
{
    (void)link;
    td_buffer_text(out, "{\"kind\":\"local\",\"workers\":[]}");
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
    static const td_link_ops ops = {local_close, local_submit, local_wait, local_cancel, local_ready, local_stats, local_workers_json, local_change, local_scratch};
    if (!options->model->ffn) return td_fail(TD_E_INVALID, "ffn: expected FFN weights in this process or --ffn host:port, found neither");
    local_link *local = calloc(1, sizeof *local);
    if (!local) return td_fail(TD_E_MEMORY, "link: no memory");
    local->base.ops = &ops;
    td_status status = td_ffn_open(options->model, options->kernel, options->pool, options->rows_max, &local->ffn);
    if (status < 0) {
        free(local);
        return status;
    }
    *out = &local->base;
    return TD_OK;
}
