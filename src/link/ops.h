/* ops.h - what a kind of link provides; link.c hands each call of link.h to the kind that was opened. Every kind's struct begins with a td_link. */
#ifndef TD_LINK_OPS_H
#define TD_LINK_OPS_H

#include "link/link.h"

typedef struct {
    void (*close)(td_link *link);
    td_status (*submit)(td_link *link, const td_link_job *job);
    td_status (*wait)(td_link *link, int micro_batch);
    void (*cancel)(td_link *link, int micro_batch);
    bool (*ready)(td_link *link, int micro_batch);
    void (*get_times)(td_link *link, td_link_times *out);
    void (*get_stats)(td_link *link, td_link_stats *out);
    td_status (*workers_json)(td_link *link, td_buffer *out);
    td_status (*change)(td_link *link, const char *command);
    size_t (*scratch_bytes)(const td_link *link);
} td_link_ops;

struct td_link { const td_link_ops *ops; };

/* local.c: the FFN lives in this process; submit computes it. */
td_status td_link_local_open(const td_link_options *options, td_link **out);

#endif
