/*
 * request.c - a request's two sides: submit and read (any thread), produce and finish (the decoding thread). They meet under the request's lock.
 * Everything a request needs is allocated at submit, sized by its prompt and max_tokens.
 */
#include "engine/engine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- checking and copying options ---------------------------------------------------------------------------------------------------- */

static td_status check_range(const char *name, double value, double low, double high)
{
    if (value >= low && value <= high) return TD_OK;
    return td_fail(TD_E_INVALID, "%s: expected %g to %g, found %g", name, low, high, value);
}

static td_status check_options(const td_engine *engine, const td_request_options *o)
{
    TD_TRY(check_range("temperature", o->temperature, 0, 100));
    TD_TRY(check_range("top_p", o->top_p, 0, 1));
    TD_TRY(check_range("min_p", o->min_p, 0, 1));
    TD_TRY(check_range("top_k", o->top_k, 0, 1e9));
    TD_TRY(check_range("repetition_penalty", o->repetition_penalty, 0, 100));
    TD_TRY(check_range("presence_penalty", o->presence_penalty, -100, 100));
    TD_TRY(check_range("frequency_penalty", o->frequency_penalty, -100, 100));
    TD_TRY(check_range("penalty_window", o->penalty_window, -1, 1e9));
    TD_TRY(check_range("logprobs", o->logprobs, 0, TD_LOGPROBS_MAX));
    TD_TRY(check_range("max_tokens", (double)o->max_tokens, -1, 1e12));
    TD_TRY(check_range("time_max_ms", (double)o->time_max_ms, 0, 1e12));
    TD_TRY(check_range("stop strings", (double)o->stop_count, 0, TD_STOPS_MAX));
    for (size_t i = 0; i < o->stop_count; i++) TD_TRY(check_range("bytes of a stop string", (double)strlen(o->stop[i]), 1, TD_STOP_BYTES_MAX));
    for (size_t i = 0; i < o->logit_bias_count; i++) {
        TD_TRY(check_range("logit_bias token", o->logit_bias[i].token, 0, engine->model->config.vocab - 1));
        if (isnan(o->logit_bias[i].bias)) return td_fail(TD_E_INVALID, "logit_bias: expected a number for token %d, found NaN", o->logit_bias[i].token);
    }
    if (o->text && o->tokens) return td_fail(TD_E_INVALID, "prompt: expected text or tokens, found both");
    if (o->prompt_logprobs && o->logprobs == 0) return td_fail(TD_E_INVALID, "prompt_logprobs: expected logprobs above 0 with it, found 0");
    if (o->stop_count && !engine->model->tokenizer) return td_fail(TD_E_UNSUPPORTED, "stop strings: this model has no tokenizer");
    return TD_OK;
}

/* The prompt as ids in malloc'd memory. */
static td_status take_prompt(const td_engine *engine, const td_request_options *o, int32_t **ids, size_t *count)
{
    size_t capacity = 0;
    int vocab = engine->model->config.vocab;
    *ids = NULL;
    *count = 0;
    if (o->text) {
        if (!engine->model->tokenizer) return td_fail(TD_E_UNSUPPORTED, "prompt: expected token ids, because %s has no tokenizer", engine->model->info.path);
        TD_TRY(td_tokenizer_encode(engine->model->tokenizer, o->text, o->text_bytes, TD_TOKENIZE_BOS | TD_TOKENIZE_SPECIAL, ids, count, &capacity));
        if (*count >= 2 && (*ids)[0] == (*ids)[1] && (*ids)[0] == td_tokenizer_bos(engine->model->tokenizer)) /* the text (a rendered chat template) began with it already */
            memmove(*ids, *ids + 1, --*count * sizeof **ids);
    } else if (o->tokens_count) {
        *ids = malloc(o->tokens_count * sizeof **ids);
        if (!*ids) return td_fail(TD_E_MEMORY, "prompt: no memory for %zu tokens", o->tokens_count);
        memcpy(*ids, o->tokens, o->tokens_count * sizeof **ids);
        *count = o->tokens_count;
    }
    if (*count == 0) return td_fail(TD_E_INVALID, "prompt: expected at least one token, found none");
    for (size_t i = 0; i < *count; i++)
        if ((*ids)[i] < 0 || (*ids)[i] >= vocab) return td_fail(TD_E_INVALID, "prompt token %zu: expected 0 to %d, found %d", i, vocab - 1, (*ids)[i]);
    if (*count > (size_t)engine->options.context_max)
        return td_fail(TD_E_INVALID, "prompt: expected at most %d tokens (the context), found %zu", engine->options.context_max, *count);
    return TD_OK;
}

static td_status copy_options(td_request *request, const td_request_options *o)
{
    td_request_options *own = &request->options;
    *own = *o;
    own->text = NULL;
    own->tokens = NULL;
    char **stops = TD_NEW(&request->copies, char *, o->stop_count);
    td_logit_bias *bias = TD_NEW(&request->copies, td_logit_bias, o->logit_bias_count);
    if (!stops || !bias) return TD_E_MEMORY;
    for (size_t i = 0; i < o->stop_count; i++) {
        stops[i] = td_arena_text(&request->copies, o->stop[i], strlen(o->stop[i]));
        if (!stops[i]) return TD_E_MEMORY;
    }
    if (o->logit_bias_count) memcpy(bias, o->logit_bias, o->logit_bias_count * sizeof *bias);
    own->stop = (const char *const *)stops;
    own->logit_bias = bias;
    return TD_OK;
}

/* Room for tokens, records and pages. */
static td_status reserve(td_request *request, const int32_t *ids, size_t count)
{
    const td_request_options *o = &request->options;
    int64_t context = request->engine->options.context_max, wanted = o->max_tokens == 0 ? context : TD_MAX(o->max_tokens, (int64_t)0);
    request->prompt_count = request->count = (int64_t)count;
    request->tokens_max = TD_MIN((int64_t)count + wanted, context) + 1;
    request->records_max = request->tokens_max - (o->prompt_logprobs ? 0 : request->prompt_count) + 1;
    request->tokens = TD_NEW(&request->copies, int32_t, (size_t)request->tokens_max);
    request->records = TD_NEW(&request->copies, td_record, (size_t)request->records_max);
    request->tops = TD_NEW(&request->copies, td_logprob, (size_t)request->records_max * (size_t)o->logprobs);
    request->pages = TD_NEW(&request->copies, int32_t, (size_t)(request->tokens_max / TD_PAGE_TOKENS + 2));
    if (!request->tokens || !request->records || !request->tops || !request->pages) return TD_E_MEMORY;
    memcpy(request->tokens, ids, count * sizeof *ids);
    const td_tokenizer *tokenizer = request->engine->model->tokenizer;
    TD_TRY(td_stream_open(tokenizer, o->keep_special, o->hidden, o->stop, (int)o->stop_count, &request->watch));
    TD_TRY(td_stream_open(tokenizer, o->keep_special, o->hidden, o->stop, (int)o->stop_count, &request->reader));
    bool inside = tokenizer && !td_tokenizer_is_special(tokenizer, ids[count - 1]); /* the completion goes on with a text: its first token keeps its space */
    request->watch.detokenizer.started = request->reader.detokenizer.started = inside;
    return TD_OK;
}

static void destroy(td_request *request)
{
    td_stream_close(&request->watch);
    td_stream_close(&request->reader);
    td_arena_free(&request->copies);
    pthread_mutex_destroy(&request->lock);
    pthread_cond_destroy(&request->wake);
    free(request);
}

static td_status build(td_engine *engine, const td_request_options *options, td_request **out)
{
    TD_TRY(check_options(engine, options));
    int32_t *ids = NULL;
    size_t count;
    td_status status = take_prompt(engine, options, &ids, &count);
    td_request *request = status == TD_OK ? calloc(1, sizeof *request) : NULL;
    if (status == TD_OK && !request) status = td_fail(TD_E_MEMORY, "request: no memory");
    if (request) {
        request->engine = engine;
        request->copies.name = "request";
        pthread_mutex_init(&request->lock, NULL);
        pthread_condattr_t monotonic;
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&request->wake, &monotonic);
        pthread_condattr_destroy(&monotonic);
        request->reuse_prefix = !engine->options.no_prefix_reuse && !options->hook && !options->prompt_logprobs;
        status = copy_options(request, options);
        if (status == TD_OK) status = reserve(request, ids, count);
        if (status < 0) destroy(request);
    }
    free(ids);
    if (status == TD_OK) *out = request;
    return status;
}

/* Puts a built request into the queue. */
static td_status enqueue(td_engine *engine, td_request *request)
{
    td_status status = TD_OK;
    pthread_mutex_lock(&engine->lock);
    if (engine->closing) status = td_fail(TD_E_CANCELLED, "engine: it is closing");
    else if (engine->unfinished >= engine->options.queue_max + engine->options.requests_max) {
        engine->stats.requests_refused++;
        status = td_fail(TD_E_FULL, "queue: expected at most %d waiting and %d running requests, found as many", engine->options.queue_max, engine->options.requests_max);
    } else {
        request->submitted_ns = td_now_ns();
        if (engine->queue_last) engine->queue_last->next = request;
        else engine->queue_first = request;
        engine->queue_last = request;
        engine->unfinished++;
        pthread_cond_signal(&engine->wake);
    }
    pthread_mutex_unlock(&engine->lock);
    return status;
}

td_status td_request_submit(td_engine *engine, const td_request_options *options, td_request **out)
{
    td_request *request;
    TD_TRY(build(engine, options, &request));
    td_status status = enqueue(engine, request);
    if (status < 0) destroy(request);
    else *out = request;
    return status;
}

td_status td_engine_logits(td_engine *engine, const int32_t *tokens, size_t count, float *logits)
{
    td_request_options options = {.tokens = tokens, .tokens_count = count, .max_tokens = -1};
    td_request *request;
    TD_TRY(build(engine, &options, &request));
    request->logits_out = logits;
    request->reuse_prefix = false;
    td_status status = enqueue(engine, request);
    if (status < 0) {
        destroy(request);
        return status;
    }
    td_event event;
    do status = td_request_next(request, -1, &event);
    while (status == TD_OK && event.kind != TD_EVENT_FINISHED);
    if (status == TD_OK && event.finish == TD_FINISH_ERROR) status = td_fail(event.status, "%s", event.message);
    else if (status == TD_OK && event.finish != TD_FINISH_LENGTH) status = td_fail(TD_E_CANCELLED, "logits: the engine closed first");
    td_request_free(request);
    return status;
}

bool td_request_ends_with(const td_request *request, int32_t token)
{
    return !request->options.ignore_eos && td_model_is_end(request->engine->model, token);
}

/* ---- the decoding thread's side -------------------------------------------------------------------------------------------------------- */

static void announce(td_request *request)
{
    pthread_cond_broadcast(&request->wake);
    pthread_mutex_unlock(&request->lock);
    if (request->options.notify) request->options.notify(request->options.notify_user);
}

void td_request_produce(td_request *request, const td_record *record, const td_logprob *top)
{
    pthread_mutex_lock(&request->lock);
    if (request->produced < request->records_max) {
        if (record->top_count) memcpy(request->tops + request->produced * request->options.logprobs, top, record->top_count * sizeof *top);
        request->records[request->produced++] = *record;
    }
    announce(request);
}

void td_request_progress(td_request *request, int64_t done)
{
    if (!request->options.want_progress) return;
    pthread_mutex_lock(&request->lock);
    request->progress = done;
    announce(request);
}

void td_request_finish(td_request *request, td_finish finish, td_status status, const char *message)
{
    td_engine *engine = request->engine;
    pthread_mutex_lock(&engine->lock);
    engine->unfinished--;
    engine->stats.requests_finished++;
    pthread_mutex_unlock(&engine->lock);
    int64_t now = td_now_ns();
    pthread_mutex_lock(&request->lock);
    request->finish = finish;
    request->status = status;
    if (message) strncpy(request->message, message, sizeof request->message - 1);
    int64_t started = request->first_step_ns ? request->first_step_ns : now, first = request->first_token_ns ? request->first_token_ns : now;
    request->queue_ms = (double)(started - request->submitted_ns) * 1e-6;
    request->prompt_ms = (double)(first - started) * 1e-6;
    request->decode_ms = (double)(now - first) * 1e-6;
    request->finished = true;
    void (*notify)(void *) = request->options.notify;
    void *user = request->options.notify_user;
    pthread_cond_broadcast(&request->wake);
    pthread_mutex_unlock(&request->lock); /* from here on the reader may free the request */
    if (notify) notify(user);
}

/* ---- the reader's side --------------------------------------------------------------------------------------------------------------- */

static void fill_counts(const td_request *request, td_event *event)
{
    event->prompt_tokens = request->prompt_count;
    event->cached_tokens = request->cached_tokens;
    event->generated_tokens = request->read_generated;
}

static void read_token(td_request *request, td_event *event)
{
    const td_record *record = &request->records[request->read_records];
    *event = (td_event){.kind = TD_EVENT_TOKEN, .text = "", .token = record->token, .from_prompt = record->from_prompt, .logprob = record->logprob,
                        .top = request->tops + request->read_records * request->options.logprobs, .top_count = record->top_count};
    request->read_records++;
    if (record->from_prompt) return;
    request->read_generated++;
    if (td_request_ends_with(request, record->token) && !request->options.keep_special) return;
    td_stream_put(&request->reader, record->token, &event->text, &event->text_bytes);
}

static void read_finish(td_request *request, td_event *event)
{
    *event = (td_event){.kind = TD_EVENT_FINISHED, .text = "", .finish = request->finish, .status = request->status, .message = request->message,
                        .stop = request->finish == TD_FINISH_STOP ? request->reader.matched : -1, .queue_ms = request->queue_ms, .prompt_ms = request->prompt_ms, .decode_ms = request->decode_ms};
    bool cut = request->finish == TD_FINISH_STOP && request->reader.matched >= 0; /* what is held back lies behind the stop string */
    if (!request->read_finished && !cut) td_stream_end(&request->reader, &event->text, &event->text_bytes);
    request->read_finished = true;
}

/* Something to read? Called under the lock. */
static bool read_one(td_request *request, td_event *event)
{
    if (request->read_progress < request->progress && request->read_records == 0) {
        request->read_progress = request->progress;
        *event = (td_event){.kind = TD_EVENT_PROGRESS, .text = "", .done = request->progress, .total = request->prompt_count};
    } else if (request->read_records < request->produced) {
        read_token(request, event);
    } else if (request->finished) {
        read_finish(request, event);
    } else {
        return false;
    }
    fill_counts(request, event);
    return true;
}

td_status td_request_next(td_request *request, int timeout_ms, td_event *out)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        int64_t ns = until.tv_nsec + (int64_t)timeout_ms % 1000 * 1000000;
        until.tv_sec += timeout_ms / 1000 + ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
    }
    td_status status = TD_OK;
    pthread_mutex_lock(&request->lock);
    while (!read_one(request, &request->last)) {
        int waited = timeout_ms < 0 ? pthread_cond_wait(&request->wake, &request->lock) : timeout_ms == 0 ? ETIMEDOUT : pthread_cond_timedwait(&request->wake, &request->lock, &until);
        if (waited == ETIMEDOUT) {
            status = read_one(request, &request->last) ? TD_OK : td_fail(TD_E_TIMEOUT, "request: no event within %d ms", timeout_ms);
            break;
        }
    }
    if (status == TD_OK) *out = request->last;
    pthread_mutex_unlock(&request->lock);
    return status;
}

void td_request_cancel(td_request *request)
{
    atomic_store(&request->cancelled, true);
    pthread_mutex_lock(&request->engine->lock);
    pthread_cond_signal(&request->engine->wake);
    pthread_mutex_unlock(&request->engine->lock);
}

void td_request_free(td_request *request)
{
    if (!request) return;
    pthread_mutex_lock(&request->lock);
    bool finished = request->finished;
    pthread_mutex_unlock(&request->lock);
    if (!finished) {
        td_request_cancel(request);
        pthread_mutex_lock(&request->lock);
        while (!request->finished) pthread_cond_wait(&request->wake, &request->lock);
        pthread_mutex_unlock(&request->lock);
    }
    destroy(request);
}
