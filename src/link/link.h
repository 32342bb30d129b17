/*
 * link.h - the corridor between attention and FFN. The engine submits a micro-batch and later waits for what the FFN adds to the residual stream;
 * whether that was a function call or a journey over the network, it cannot tell: the same bytes come back.
 *
 * All calls come from one thread (the decoding thread). At most TD_MICRO_BATCHES_MAX tickets are open, one per micro-batch.
 */
#ifndef TD_LINK_LINK_H
#define TD_LINK_LINK_H

#include "base/buffer.h"
#include "base/threads.h"
#include "kernel/kernel.h"
#include "model/model.h"

enum { TD_MICRO_BATCHES_MAX = 4 };

typedef struct td_link td_link;

typedef struct {
    const td_model *model;     /* borrowed */
    const td_kernel *kernel;   /* borrowed */
    td_pool *pool;             /* borrowed; the local FFN computes on it inside submit */
    int rows_max;              /* rows per micro-batch */
    const char *ffn;           /* NULL: local. "host:port,host:port": workers */
    const char *secret_file, *wire;
    bool encrypt;
    int wait_for_workers_ms;
    bool fallback;             /* compute here what no worker can; the model must have all FFN weights (TD_E_INVALID) */
    const char *trace;         /* timeline file, or NULL */
    const char *control;       /* "host:port" where add, drain and stats are taken (tandem workers), or NULL */
} td_link_options;

typedef struct {
    uint64_t step;             /* counts engine steps; with layer and micro_batch the ticket's key */
    int layer, micro_batch, rows;
    const float *x;            /* [rows, d_model]; borrowed until wait returns */
    const int32_t *ids;        /* [rows, top_k] or NULL on dense layers; borrowed likewise */
    const float *weights;      /* [rows, top_k] */
    float *y;                  /* [rows, d_model]; written before wait returns TD_OK */
} td_link_job;

typedef struct {
    uint64_t messages, bytes_out, bytes_in, retries, workers_lost;
    double wait_ms;            /* time the engine waited */
    int workers, workers_ready;
    bool degraded;
    char degraded_reason[256];
} td_link_stats;

enum { TD_COMPUTERS_MAX = 65 }; /* workers, and this process */

/* Where the time of tickets went, summed over those that are done; what an engine chooses its micro-batches by. */
typedef struct {
    uint64_t tickets;
    double ffn_us, queue_us, wire_us; /* the worker whose answer came last: computing, waiting there, the rest */
    /* What each computer spent on our rows. Less than the sum of ffn_us where a worker takes several micro-batches at once: each of those waits for all of it, it is spent once. */
    double busy_us[TD_COMPUTERS_MAX];
    int workers_ready;
    double bytes, flops;              /* of the FFN computed in this process; 0 with workers */
} td_link_times;

/* Local, or a pool of workers: connects, authenticates, compares fingerprints. Refusals are sentences that name both sides. */
td_status td_link_open(const td_link_options *options, td_link **out);
void td_link_close(td_link *link);

/* Never blocks on a peer. The job is copied; its arrays are borrowed. */
td_status td_link_submit(td_link *link, const td_link_job *job);
/* Waits for micro_batch's answer. Returns TD_OK with y complete; TD_E_PEER after wait_for_workers_ms without anyone who has the experts. */
td_status td_link_wait(td_link *link, int micro_batch);
/* Forgets micro_batch's open ticket (late answers are dropped). */
void td_link_cancel(td_link *link, int micro_batch);
/* True when the answer is there, so that wait would not block. */
bool td_link_ready(td_link *link, int micro_batch);

void td_link_get_times(td_link *link, td_link_times *out);       /* decoding thread */
void td_link_get_stats(td_link *link, td_link_stats *out);       /* any thread */
td_status td_link_workers_json(td_link *link, td_buffer *out);   /* any thread */
td_status td_link_change(td_link *link, const char *command);    /* "add host:port" | "drain host:port"; any thread */
size_t td_link_scratch_bytes(const td_link *link);

#endif
