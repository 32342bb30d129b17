/*
 * trace.h - a timeline that Perfetto and chrome://tracing open: one process lane per instance, one name (hence one colour) per micro-batch.
 * Events go into a ring allocated at open (the newest win); td_trace_write makes the file.
 */
#ifndef TD_LINK_TRACE_H
#define TD_LINK_TRACE_H

#include "base/status.h"

typedef enum { TD_SPAN_ATTENTION, TD_SPAN_WAIT, TD_SPAN_OUT, TD_SPAN_QUEUE, TD_SPAN_COMPUTE, TD_SPAN_BACK, TD_SPAN_EVENT, TD_SPAN_KINDS } td_span_kind;

typedef struct {
    int64_t begin, end;      /* ns on this process's clock */
    uint64_t step;
    uint16_t layer, rows;
    uint8_t kind, micro_batch, peer; /* peer: 255 is this instance */
} td_span;

typedef struct td_trace td_trace;
td_status td_trace_open(const char *path, size_t spans_max, td_trace **out); /* 0: 1 million */
void td_trace_add(td_trace *trace, const td_span *span);                      /* trace NULL: nothing */
/* names[peer] of up to 64 workers label the lanes. Writes the file and frees the trace. */
td_status td_trace_close(td_trace *trace, const char *const *names, int count);

#endif
