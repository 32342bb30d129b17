/* trace.c - see trace.h. */
#include "link/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

struct td_trace {
    char *path;
    td_span *spans;
    size_t capacity, next;
    bool wrapped;
};

td_status td_trace_open(const char *path, size_t spans_max, td_trace **out)
{
    td_writer writer = {0};
    TD_TRY(td_writer_open(path, &writer)); /* can it be written? Asked now, not after hours */
    td_writer_discard(&writer);
    td_trace *trace = calloc(1, sizeof *trace);
    if (!trace) return td_fail(TD_E_MEMORY, "trace: no memory");
    trace->capacity = spans_max ? spans_max : (size_t)1 << 20;
    trace->spans = calloc(trace->capacity, sizeof *trace->spans);
    trace->path = strdup(path);
    if (!trace->spans || !trace->path) {
        free(trace->spans);
        free(trace->path);
        free(trace);
        return td_fail(TD_E_MEMORY, "trace: no memory for %zu events", spans_max);
    }
    *out = trace;
    return TD_OK;
}

void td_trace_add(td_trace *trace, const td_span *span)
{
    if (!trace) return;
    trace->spans[trace->next] = *span;
    if (++trace->next == trace->capacity) {
        trace->next = 0;
        trace->wrapped = true;
    }
}

/* Spans of one lane must not overlap: what is on the way or waits has a lane per micro-batch, since several are under way at once. So has computing where a worker computed rows of
 * several at once; busy: until when the lane of computing is taken, of each peer. */
static int lane_of(const td_span *span, int64_t busy[256])
{
    switch (span->kind) {
    case TD_SPAN_COMPUTE:
        if (span->begin < busy[span->peer]) return 2 + span->micro_batch;
        busy[span->peer] = span->end;
        return 1;
    case TD_SPAN_OUT: return 10 + span->micro_batch;
    case TD_SPAN_QUEUE: return 20 + span->micro_batch;
    case TD_SPAN_BACK: return 30 + span->micro_batch;
    default: return 1;
    }
}

static td_status put_line(td_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static td_status put_line(td_writer *writer, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return td_writer_put(writer, line, (size_t)TD_MIN(length, (int)sizeof line - 1));
}

static td_status put_lane(td_writer *writer, int pid, int tid, const char *name, int micro_batch)
{
    char number[24] = "";
    if (micro_batch >= 0) snprintf(number, sizeof number, " %d", micro_batch);
    TD_TRY(put_line(writer, ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s%s\"}}", pid, tid, name, number));
    return put_line(writer, ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%d}}", pid, tid, tid);
}

/* pid 1: attention; pid 2 + peer: a worker, with a lane for its compute and, per micro-batch, lanes for the wires and the queue. used: a bit per lane that has spans. */
static td_status put_names(td_writer *writer, const char *const *names, int count, const uint64_t *used)
{
    static const char *wires[] = {"to FFN, micro-batch", "queue, micro-batch", "to attention, micro-batch"};
    TD_TRY(put_lane(writer, 1, 1, "attention", -1));
    for (int i = 0; i < count; i++) {
        if (!names[i]) continue;
        TD_TRY(put_line(writer, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"FFN worker %.200s\"}}", i + 2, names[i]));
        TD_TRY(put_lane(writer, i + 2, 1, "compute", -1));
        for (int lane = 2; lane < 40; lane++)
            if (used[i] >> lane & 1) TD_TRY(lane < 10 ? put_lane(writer, i + 2, lane, "compute beside, micro-batch", lane - 2) : put_lane(writer, i + 2, lane, wires[lane / 10 - 1], lane % 10));
    }
    return TD_OK;
}

static td_status put_span(td_writer *writer, const td_span *span, int lane, int64_t zero)
{
    static const char *kinds[] = {"attention", "wait", "out", "queue", "compute", "back", "event"};
    double begin = (double)(span->begin - zero) * 1e-3, length = (double)(span->end - span->begin) * 1e-3;
    int pid = span->peer == 255 ? 1 : span->peer + 2;
    return put_line(writer, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"%smicro-batch %d\",\"cat\":\"%s\",\"args\":{\"step\":%llu,\"layer\":%d,\"rows\":%d}}", pid, lane, begin,
                    length, span->kind == TD_SPAN_WAIT ? "wait " : "", span->micro_batch, kinds[span->kind], (unsigned long long)span->step, span->layer, span->rows);
}

static td_status write_all(td_trace *trace, td_writer *writer, const char *const *names, int count)
{
    size_t first = trace->wrapped ? trace->next : 0, total = trace->wrapped ? trace->capacity : trace->next;
    int64_t zero = INT64_MAX, busy[256];
    uint64_t used[256] = {0};
    for (size_t i = 0; i < total; i++) zero = TD_MIN(zero, trace->spans[i].begin);
    for (int i = 0; i < 256; i++) busy[i] = INT64_MIN;
    TD_TRY(put_line(writer, "[{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"attention\"}}"));
    for (size_t i = 0; i < total; i++) {
        const td_span *span = &trace->spans[(first + i) % trace->capacity];
        int lane = lane_of(span, busy);
        used[span->peer] |= (uint64_t)1 << lane;
        TD_TRY(put_span(writer, span, lane, zero));
    }
    TD_TRY(put_names(writer, names, count, used)); /* behind the spans, which tell the lanes */
    return put_line(writer, "]\n");
}

td_status td_trace_close(td_trace *trace, const char *const *names, int count)
{
    if (!trace) return TD_OK;
    td_writer writer = {0};
    td_status status = td_writer_open(trace->path, &writer);
    if (status == TD_OK) {
        status = write_all(trace, &writer, names, count);
        if (status == TD_OK) status = td_writer_commit(&writer);
        else td_writer_discard(&writer);
    }
    free(trace->spans);
    free(trace->path);
    free(trace);
    return status;
}
