/*
 * engine.c - opening (every byte that decoding needs is allocated here), the decoding thread's loop, closing, and what the engine says about itself.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

/* a KV cache of a given size is taken from the system at once if it is at most this share of memory */
#define TOUCHED_SHARE 0.25

enum { REQUESTS_DEFAULT = 64, QUEUE_DEFAULT = 1024, PREFILL_DEFAULT = 512, KV_TOKENS_DEFAULT = 65536 };

/* ---- options ------------------------------------------------------------------------------------------------------------------------- */

static td_status whole_between(const char *name, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high) return TD_OK;
    return td_fail(TD_E_INVALID, "%s: expected %lld to %lld (0: automatic), found %lld", name, (long long)low, (long long)high, (long long)value);
}

static td_status fill_defaults(const td_model *model, td_engine_options *o)
{
    TD_TRY(whole_between("threads", o->threads, 0, TD_THREADS_MAX));
    TD_TRY(whole_between("requests_max", o->requests_max, 0, TD_REQUESTS_MAX));
    TD_TRY(whole_between("queue_max", o->queue_max, 0, 1 << 20));
    TD_TRY(whole_between("context_max", o->context_max, 0, 1 << 24));
    TD_TRY(whole_between("prefill_chunk", o->prefill_chunk, 0, 1 << 14));
    TD_TRY(whole_between("micro_batches", o->micro_batches, 0, TD_MICRO_BATCHES_MAX));
    TD_TRY(whole_between("kv_tokens", (int64_t)(o->kv_tokens >> 1), 0, (int64_t)1 << 40));
    if (o->wire && strcmp(o->wire, "f32") && strcmp(o->wire, "bf16") && strcmp(o->wire, "fp8")) return td_fail(TD_E_INVALID, "wire: expected f32, bf16 or fp8, found %s", o->wire);
    if (o->context_max > model->config.context_max)
        td_log(TD_LOG_WARN, "engine", "context %d is longer than the %d the model was made for", o->context_max, model->config.context_max);
    if (!o->requests_max) o->requests_max = REQUESTS_DEFAULT;
    if (!o->queue_max) o->queue_max = QUEUE_DEFAULT;
    if (!o->context_max) o->context_max = TD_MIN(model->config.context_max, TD_CONTEXT_DEFAULT_MAX);
    if (!o->prefill_chunk) o->prefill_chunk = PREFILL_DEFAULT;
    return TD_OK;
}

/* Pages for the KV cache: what was asked for, or a default that leaves most memory alone; at least one full context. */
static td_status choose_pages(const td_engine *engine, td_dtype type, int *pages)
{
    const td_config *c = &engine->model->config;
    const td_engine_options *o = &engine->options;
    size_t widths = td_dtype_row_bytes(type, c->k_dim) + (c->attention == TD_ATTN_MLA ? 0 : td_dtype_row_bytes(type, c->v_dim));
    double token_bytes = (double)c->layers * c->kv_heads * (double)widths;
    double memory = td_memory_bytes();
    int64_t one = (o->context_max + TD_PAGE_TOKENS - 1) / TD_PAGE_TOKENS, tokens = (int64_t)o->kv_tokens;
    if (tokens == 0) tokens = TD_MIN((int64_t)KV_TOKENS_DEFAULT, (int64_t)(memory / 5 / (token_bytes + 1)));
    int64_t wanted = TD_MAX((tokens + TD_PAGE_TOKENS - 1) / TD_PAGE_TOKENS, one);
    if (wanted > INT32_MAX / 2 || (double)wanted * TD_PAGE_TOKENS * token_bytes > memory)
        return td_fail(TD_E_MEMORY, "KV cache: %lld tokens need %.1f GB, this machine has %.1f GB; a smaller context (now %d) or KV type needs less",
                       (long long)wanted * TD_PAGE_TOKENS, (double)wanted * TD_PAGE_TOKENS * token_bytes * 1e-9, memory * 1e-9, o->context_max);
    *pages = (int)wanted;
    return TD_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------- */

static td_status reserve(td_engine *engine)
{
    const td_config *c = &engine->model->config;
    td_arena *arena = &engine->arena;
    size_t rows = (size_t)engine->rows_max, d = (size_t)c->d_model, slots = (size_t)TD_MAX(c->top_k, 1), logit_rows = (size_t)engine->logit_rows_max;
    size_t parts_max = (size_t)engine->options.requests_max, threads = (size_t)td_pool_threads(engine->pool);
    engine->running = TD_NEW(arena, td_request *, parts_max);
    engine->parts = TD_NEW(arena, td_part, parts_max);
    engine->row_tokens = TD_NEW(arena, int32_t, rows);
    engine->x = TD_NEW(arena, float, rows * d);
    engine->m = TD_NEW(arena, float, rows * d);
    engine->y = TD_NEW(arena, float, rows * d);
    engine->weights = TD_NEW(arena, float, rows * slots);
    engine->ids = TD_NEW(arena, int32_t, rows * slots);
    engine->head_rows = TD_NEW(arena, float, logit_rows * d);
    engine->logits = TD_NEW(arena, float, logit_rows * (size_t)c->vocab);
    engine->samplers = TD_NEW(arena, td_sampler, threads);
    engine->sampled = TD_NEW(arena, td_sampled, logit_rows);
    bool all = engine->running && engine->parts && engine->row_tokens && engine->x && engine->m && engine->y && engine->weights && engine->ids && engine->head_rows && engine->logits &&
               engine->samplers && engine->sampled;
    for (int i = 0; all && i < TD_MICRO_BATCHES_MAX; i++) {
        engine->micro[i].slices = TD_NEW(arena, td_slice, parts_max + 1);
        engine->micro[i].parts = TD_NEW(arena, const td_part *, parts_max + 1);
        all = engine->micro[i].slices && engine->micro[i].parts;
    }
    for (size_t t = 0; all && t < threads; t++) {
        engine->samplers[t] = (td_sampler){.kernel = engine->kernel, .vocab = c->vocab, .candidates = TD_NEW(arena, td_candidate, (size_t)c->vocab), .raw = TD_NEW(arena, float, (size_t)c->vocab)};
        all = engine->samplers[t].candidates && engine->samplers[t].raw;
    }
    return all ? TD_OK : TD_E_MEMORY;
}

static td_status open_rooms(td_engine *engine)
{
    const td_engine_options *o = &engine->options;
    td_dtype kv_type = TD_BF16;
    int pages = 0;
    if (o->kv_dtype) TD_TRY(td_dtype_parse(o->kv_dtype, &kv_type));
    if (!o->ffn && (o->trace || o->control)) return td_fail(TD_E_INVALID, "%s: expected FFN workers beside it (ffn), found none", o->trace ? "trace" : "control");
    if (!engine->model->attention) return td_fail(TD_E_INVALID, "engine: expected a model with attention weights, found one opened for FFN only");
    TD_TRY(td_kernel_pick(o->isa, &engine->kernel));
    TD_TRY(td_pool_open(o->threads, &engine->pool));
    engine->rows_max = o->prefill_chunk + o->requests_max;
    engine->logit_rows_max = TD_MIN(engine->rows_max, TD_LOGIT_ROWS_MAX); /* also for one request: for the logits of a whole prompt the head is read once for all of these rows; what stays unused is never touched */
    TD_TRY(choose_pages(engine, kv_type, &pages));
    TD_TRY(td_kv_open(&engine->model->config, kv_type, pages, &engine->kv));
    if (o->kv_tokens && (double)td_kv_bytes(engine->kv) <= td_memory_bytes() * TOUCHED_SHARE) td_kv_touch(engine->kv);
    TD_TRY(td_attention_open(engine->model, engine->kernel, engine->pool, engine->kv, engine->rows_max, o->context_max, engine->logit_rows_max, &engine->attention));
    td_link_options link = {.model = engine->model, .kernel = engine->kernel, .pool = engine->pool, .rows_max = engine->rows_max, .ffn = o->ffn, .secret_file = o->secret_file,
                            .wire = o->wire, .encrypt = o->encrypt, .wait_for_workers_ms = o->wait_for_workers_ms ? o->wait_for_workers_ms : 30000, .fallback = o->ffn_fallback, .trace = o->trace, .control = o->control};
    TD_TRY(td_link_open(&link, &engine->link));
    td_pace_open(&engine->pace, o->micro_batches, o->ffn != NULL, engine->model->config.layers);
    return reserve(engine);
}

/* ---- the decoding thread ------------------------------------------------------------------------------------------------------------- */

/* Waits until there is something to do. False: the engine closes. */
static bool await_work(td_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    while (!engine->closing && !engine->queue_first && engine->running_count == 0 && !engine->waiting_first) pthread_cond_wait(&engine->wake, &engine->lock);
    bool go_on = !engine->closing;
    pthread_mutex_unlock(&engine->lock);
    return go_on;
}

/* What each class of work took in all steps; what nobody measured is the rest. */
static void count_work(td_engine *engine, td_work_sum *work)
{
    td_link_times ffn;
    td_link_get_times(engine->link, &ffn);
    memcpy(work, td_attention_work(engine->attention), TD_WORK_CLASSES * sizeof *work);
    work[TD_WORK_FFN] = (td_work_sum){engine->ffn_seconds, ffn.bytes, ffn.flops};
    double known = 0;
    for (int i = 0; i < TD_WORK_REST; i++) known += work[i].seconds;
    work[TD_WORK_REST] = (td_work_sum){.seconds = engine->step_seconds - known};
}

static void count_step(td_engine *engine, double seconds)
{
    td_link_stats link;
    td_link_get_stats(engine->link, &link);
    pthread_mutex_lock(&engine->lock);
    td_engine_stats *s = &engine->stats;
    s->steps++;
    s->prompt_tokens = engine->prompt_rows;
    s->decoded_tokens = engine->tokens_taken;
    engine->step_seconds += seconds;
    count_work(engine, s->work);
    s->step_ms_mean = engine->step_seconds * 1e3 / (double)s->steps;
    s->requests_running = engine->running_count;
    s->micro_batches = engine->pace.count;
    s->kv_pages_used = (uint64_t)td_kv_pages_held(engine->kv);
    s->degraded = link.degraded;
    memcpy(s->degraded_reason, link.degraded_reason, sizeof s->degraded_reason);
    pthread_mutex_unlock(&engine->lock);
}

/* Ends every request of a step that could not be computed. */
static void fail_step(td_engine *engine, td_status status)
{
    char message[512];
    snprintf(message, sizeof message, "%s", td_error());
    td_log(TD_LOG_ERROR, "engine", "step %llu: %s", (unsigned long long)engine->step, message);
    for (int p = 0; p < engine->part_count; p++) {
        td_request *request = engine->parts[p].request;
        td_unschedule(engine, request);
        td_request_finish(request, TD_FINISH_ERROR, status, message);
    }
}

static void cancel_list(td_request *request)
{
    while (request) {
        td_request *next = request->next;
        td_request_finish(request, TD_FINISH_CANCELLED, TD_OK, NULL);
        request = next;
    }
}

static void *decode(void *arg)
{
    td_engine *engine = arg;
    while (await_work(engine)) {
        if (td_schedule(engine) == 0) continue;
        int64_t start = td_now_ns();
        td_status status = td_step(engine);
        if (status < 0) fail_step(engine, status);
        count_step(engine, td_seconds_since(start));
    }
    while (engine->running_count > 0) {
        td_request *request = engine->running[engine->running_count - 1];
        td_unschedule(engine, request);
        td_request_finish(request, TD_FINISH_CANCELLED, TD_OK, NULL);
    }
    cancel_list(engine->waiting_first);
    pthread_mutex_lock(&engine->lock);
    td_request *queue = engine->queue_first;
    engine->queue_first = engine->queue_last = NULL;
    pthread_mutex_unlock(&engine->lock);
    cancel_list(queue);
    return NULL;
}

/* ---- public -------------------------------------------------------------------------------------------------------------------------- */

static void fill_memory_table(td_engine *engine)
{
    td_engine_stats *s = &engine->stats;
    s->kv_pages = (uint64_t)td_kv_pages(engine->kv);
    s->kv_page_tokens = TD_PAGE_TOKENS;
    s->kv_bytes = td_kv_bytes(engine->kv);
    s->weight_bytes = engine->model->info.weight_bytes;
    s->scratch_bytes = engine->arena.bytes_reserved + td_attention_scratch_bytes(engine->attention) + td_link_scratch_bytes(engine->link);
    s->threads = td_pool_threads(engine->pool);
    s->micro_batches = engine->options.micro_batches ? engine->options.micro_batches : 1; /* with workers and nothing set: what the last step used */
    s->isa = engine->kernel->name;
}

td_status td_engine_open(td_model *model, const td_engine_options *options, td_engine **out)
{
    td_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return td_fail(TD_E_MEMORY, "engine: no memory");
    engine->model = model;
    engine->arena.name = "engine";
    if (options) engine->options = *options;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->wake, NULL);
    td_status status = fill_defaults(model, &engine->options);
    if (status == TD_OK) status = open_rooms(engine);
    if (status == TD_OK) {
        fill_memory_table(engine);
        td_log(TD_LOG_INFO, "engine", "ready: weights %.1f MB, KV %.1f MB (%d pages of %d tokens), scratch %.1f MB, %d threads, %s", (double)engine->stats.weight_bytes * 1e-6,
               (double)engine->stats.kv_bytes * 1e-6, (int)engine->stats.kv_pages, TD_PAGE_TOKENS, (double)engine->stats.scratch_bytes * 1e-6, engine->stats.threads, engine->stats.isa);
        if (pthread_create(&engine->thread, NULL, decode, engine) == 0) engine->thread_started = true;
        else status = td_fail(TD_E_MEMORY, "engine: the system refused a thread");
    }
    if (status < 0) td_engine_close(engine);
    else *out = engine;
    return status;
}

void td_engine_close(td_engine *engine)
{
    if (!engine) return;
    if (engine->thread_started) {
        pthread_mutex_lock(&engine->lock);
        engine->closing = true;
        pthread_cond_broadcast(&engine->wake);
        pthread_mutex_unlock(&engine->lock);
        pthread_join(engine->thread, NULL);
    }
    td_link_close(engine->link);
    td_attention_close(engine->attention);
    td_kv_close(engine->kv);
    td_pool_close(engine->pool);
    td_arena_free(&engine->arena);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

void td_engine_get_stats(td_engine *engine, td_engine_stats *out)
{
    pthread_mutex_lock(&engine->lock);
    *out = engine->stats;
    out->requests_waiting = TD_MAX(engine->unfinished - engine->stats.requests_running, 0);
    pthread_mutex_unlock(&engine->lock);
}

td_status td_engine_workers_json(td_engine *engine, char **out)
{
    td_buffer text = {0};
    td_status status = td_link_workers_json(engine->link, &text);
    if (status == TD_OK) status = td_buffer_status(&text);
    if (status < 0) td_buffer_free(&text);
    else *out = text.data;
    return status;
}

td_status td_engine_workers_change(td_engine *engine, const char *command) { return td_link_change(engine->link, command); }

const char *td_point_name(td_point point)
{
    static const char *names[] = {"embed", "attn_in", "attn_out", "resid_mid", "ffn_in", "router", "ffn_out", "resid_out", "final", "logits"};
    return point < TD_POINTS ? names[point] : "unknown";
}
