/*
 * engine.h - the engine's own view of itself: requests, the batch of a step, and who may touch what.
 *
 * A request: submitted (queue, under engine lock) -> waiting -> running -> finished. Only the decoding thread touches what is marked [step]; what readers share
 * is marked [shared] and lies under the request's lock; the rest never changes after submit.
 */
#ifndef TD_ENGINE_ENGINE_H
#define TD_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "attention/attention.h"
#include "base/threads.h"
#include "engine/pace.h"
#include "engine/sampler.h"
#include "engine/stream.h"
#include "link/link.h"

enum { TD_REQUESTS_MAX = 1024, TD_LOGIT_ROWS_MAX = 64 };

typedef struct { int32_t token; float logprob; bool from_prompt; uint8_t top_count; } td_record;

struct td_request {
    td_engine *engine;
    td_request *next;             /* in the queue, then in the waiting list */
    td_request_options options;   /* pointers lead into `copies` */
    td_arena copies;
    atomic_bool cancelled;
    int64_t submitted_ns;

    int32_t *tokens;              /* [step] prompt, then generated; room for tokens_max */
    int64_t prompt_count, count, tokens_max;
    int64_t computed;             /* [step] positions whose K and V are in the pages */
    int64_t cached_tokens;        /* [step] */
    int32_t *pages;               /* [step] */
    int page_count, pages_published;
    uint64_t serial;              /* [step] end of the published chain */
    bool reuse_prefix, broken;    /* [step] broken: its logits were not numbers */
    td_stream watch;              /* [step] for stop strings */
    float *logits_out;            /* [count, vocab] of td_engine_logits, or NULL */
    int64_t first_step_ns, first_token_ns;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    td_record *records;           /* [shared] events so far; room for records_max */
    td_logprob *tops;             /* [records_max, logprobs] */
    int64_t produced, records_max; /* produced: only the decoding thread writes it */
    int64_t progress;             /* [shared] prompt tokens read */
    bool finished;                /* [shared] no more records */
    td_finish finish;
    td_status status;
    char message[512];
    double queue_ms, prompt_ms, decode_ms;

    td_stream reader;             /* the reader's own */
    int64_t read_records, read_progress, read_generated;
    bool read_finished;
    td_event last;
};

/* What the sampler made of one row of logits. error: its grammar could not be followed; why: the sentence. */
typedef struct { int32_t token; float logprob; int top_count; bool go_on, broken; td_status error; char why[256]; td_logprob top[TD_LOGPROBS_MAX]; } td_sampled;

/* One request's rows in the running step. */
typedef struct { td_request *request; int row, rows; int64_t position; } td_part;

typedef struct {
    td_batch batch;
    td_slice *slices;             /* room for parts_max + 1 */
    const td_part **parts;        /* the request of each slice */
    int row;                      /* first row within the step */
} td_micro_batch;

struct td_engine {
    td_model *model;
    td_engine_options options;    /* defaults filled in */
    const td_kernel *kernel;
    td_pool *pool;
    td_kv *kv;
    td_attention *attention;
    td_link *link;
    td_arena arena;

    /* decoding thread */
    td_request **running;         /* [requests_max], oldest first */
    int running_count;
    td_request *waiting_first, *waiting_last;
    td_part *parts;
    int part_count, rows, rows_max, logit_rows_max;
    int32_t *row_tokens;
    float *x, *m, *y, *weights;   /* [rows_max, ...] residual, FFN input, FFN output, router weights */
    int32_t *ids;
    float *head_rows, *logits;    /* [logit_rows_max, d_model], [logit_rows_max, vocab] */
    td_micro_batch micro[TD_MICRO_BATCHES_MAX];
    td_sampler *samplers;         /* one per worker */
    td_sampled *sampled;          /* [logit_rows_max] */
    td_pace pace;                 /* how many micro-batches */
    uint64_t step;
    uint64_t prompt_rows, tokens_taken; /* prompt rows computed and tokens sampled since open; the decoding thread's own, shown by count_step */
    double step_seconds;
    double ffn_seconds;      /* in submit and wait; written by the decoding thread */

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;         /* queue, closing, counters */
    pthread_cond_t wake;
    td_request *queue_first, *queue_last;
    int unfinished;               /* submitted and not finished: queued, waiting or running */
    bool closing;
    td_engine_stats stats;
};

/* scheduler.c: takes new requests, ends cancelled ones, finds pages, and fills engine->parts. Returns the rows of the step (0: nothing to do). */
int td_schedule(td_engine *engine);
/* Releases a running request's pages and takes it out of `running`. */
void td_unschedule(td_engine *engine, td_request *request);

/* step.c: runs the scheduled rows through the model and hands tokens to their requests. An error (a lost link) ends the step's requests. */
td_status td_step(td_engine *engine);

/* request.c: does this token end the request by itself? Asked by both sides: its text does not depend on who comes first. */
bool td_request_ends_with(const td_request *request, int32_t token);
/* What the decoding thread tells a request. */
void td_request_produce(td_request *request, const td_record *record, const td_logprob *top);
void td_request_progress(td_request *request, int64_t done);
void td_request_finish(td_request *request, td_finish finish, td_status status, const char *message);

#endif
