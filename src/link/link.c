/* link.c - the corridor's door: picks the kind of link and forwards to it. */
#include "link/ops.h"
#include "link/remote.h"

td_status td_link_open(const td_link_options *options, td_link **out)
{
    if (!options->ffn) return td_link_local_open(options, out);
    return td_link_remote_open(options, out);
}

void td_link_close(td_link *link)
{
    if (link) link->ops->close(link);
}

td_status td_link_submit(td_link *link, const td_link_job *job) { return link->ops->submit(link, job); }
td_status td_link_wait(td_link *link, int micro_batch) { return link->ops->wait(link, micro_batch); }
void td_link_cancel(td_link *link, int micro_batch) { link->ops->cancel(link, micro_batch); }
bool td_link_ready(td_link *link, int micro_batch) { return link->ops->ready(link, micro_batch); }
void td_link_get_times(td_link *link, td_link_times *out) { link->ops->get_times(link, out); }
void td_link_get_stats(td_link *link, td_link_stats *out) { link->ops->get_stats(link, out); }
td_status td_link_workers_json(td_link *link, td_buffer *out) { return link->ops->workers_json(link, out); }
td_status td_link_change(td_link *link, const char *command) { return link->ops->change(link, command); }
size_t td_link_scratch_bytes(const td_link *link) { return link->ops->scratch_bytes(link); }
