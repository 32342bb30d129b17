/*
 * scheduler.c - which rows the next step computes.
 *
 * Requests that only need their next token go first (one row each), then prompts are read in order of arrival, up to prefill_chunk rows. When pages run out the
 * youngest running request gives its pages up and waits; it is read again later from its own tokens, with the same result. The oldest always finds room,
 * because the cache holds at least one full context.
 */
#include "engine/engine.h"

#include <string.h>

#include "base/clock.h"

static void push_waiting_front(td_engine *engine, td_request *request)
{
    request->next = engine->waiting_first;
    engine->waiting_first = request;
    if (!engine->waiting_last) engine->waiting_last = request;
}

static td_request *pop_waiting(td_engine *engine)
{
    td_request *request = engine->waiting_first;
    engine->waiting_first = request->next;
    if (!engine->waiting_first) engine->waiting_last = NULL;
    request->next = NULL;
    return request;
}

static void take_queue(td_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    td_request *first = engine->queue_first, *last = engine->queue_last;
    engine->queue_first = engine->queue_last = NULL;
    pthread_mutex_unlock(&engine->lock);
    if (!first) return;
    if (engine->waiting_last) engine->waiting_last->next = first;
    else engine->waiting_first = first;
    engine->waiting_last = last;
}

/* From the last to the first: what was released first is evicted first, and a prefix without its first page could not be found any more. */
static void release_pages(td_engine *engine, td_request *request)
{
    for (int i = request->page_count - 1; i >= 0; i--) td_kv_release(engine->kv, request->pages[i]);
    request->page_count = request->pages_published = 0;
    request->computed = 0;
    request->serial = 0;
}

void td_unschedule(td_engine *engine, td_request *request)
{
    release_pages(engine, request);
    int i = 0;
    while (i < engine->running_count && engine->running[i] != request) i++;
    if (i == engine->running_count) return;
    memmove(engine->running + i, engine->running + i + 1, (size_t)(engine->running_count - i - 1) * sizeof *engine->running);
    engine->running_count--;
    pthread_mutex_lock(&engine->lock);
    engine->stats.requests_running = engine->running_count;
    engine->stats.kv_pages_used = (uint64_t)td_kv_pages_held(engine->kv);
    pthread_mutex_unlock(&engine->lock);
}

static bool out_of_time(const td_request *request)
{
    return request->options.time_max_ms > 0 && td_now_ns() - request->submitted_ns > request->options.time_max_ms * 1000000;
}

/* Ends what was cancelled or ran out of time, running or waiting. */
static void end_unwanted(td_engine *engine)
{
    for (int i = engine->running_count - 1; i >= 0; i--) {
        td_request *request = engine->running[i];
        bool cancelled = atomic_load(&request->cancelled), late = !cancelled && out_of_time(request);
        if (!cancelled && !late) continue;
        td_unschedule(engine, request);
        td_request_finish(request, cancelled ? TD_FINISH_CANCELLED : TD_FINISH_TIME, TD_OK, NULL);
    }
    td_request **link = &engine->waiting_first;
    engine->waiting_last = NULL;
    while (*link) {
        td_request *request = *link;
        bool cancelled = atomic_load(&request->cancelled), late = !cancelled && out_of_time(request);
        if (cancelled || late) {
            *link = request->next;
            td_request_finish(request, cancelled ? TD_FINISH_CANCELLED : TD_FINISH_TIME, TD_OK, NULL);
        } else {
            engine->waiting_last = request;
            link = &request->next;
        }
    }
}

/* Starts waiting requests while there is a place and room for their prompt's next chunk; what the cache already knows is taken over. */
static void admit(td_engine *engine)
{
    while (engine->waiting_first && engine->running_count < engine->options.requests_max) {
        td_request *request = engine->waiting_first;
        int64_t pages_needed = (TD_MIN(request->count, (int64_t)engine->options.prefill_chunk) + TD_PAGE_TOKENS) / TD_PAGE_TOKENS;
        if (engine->running_count > 0 && td_kv_pages_available(engine->kv) < pages_needed) return;
        pop_waiting(engine);
        if (request->reuse_prefix) { /* at least one token is computed, for its logits */
            request->page_count = td_kv_match(engine->kv, request->tokens, request->count - 1, request->pages, &request->serial);
            request->pages_published = request->page_count;
            request->computed = (int64_t)request->page_count * TD_PAGE_TOKENS;
        }
        if (request->first_step_ns == 0) {
            request->first_step_ns = td_now_ns();
            request->cached_tokens = request->computed;
            pthread_mutex_lock(&engine->lock);
            engine->stats.cached_tokens += (uint64_t)request->cached_tokens;
            pthread_mutex_unlock(&engine->lock);
        }
        engine->running[engine->running_count++] = request;
    }
}

/* The youngest running request goes back to waiting. */
static void preempt_youngest(td_engine *engine)
{
    td_request *youngest = engine->running[engine->running_count - 1];
    td_unschedule(engine, youngest);
    push_waiting_front(engine, youngest);
    pthread_mutex_lock(&engine->lock);
    engine->stats.preemptions++;
    pthread_mutex_unlock(&engine->lock);
}

/* Pages for positions 0 .. end-1; younger requests make room. False: this request itself was the youngest and had to go. */
static bool find_pages(td_engine *engine, td_request *request, int64_t end)
{
    while ((int64_t)request->page_count * TD_PAGE_TOKENS < end) {
        int32_t page = td_kv_take(engine->kv);
        if (page >= 0) {
            request->pages[request->page_count++] = page;
            continue;
        }
        bool self = engine->running[engine->running_count - 1] == request;
        preempt_youngest(engine);
        if (self) return false;
    }
    return true;
}

/* Rows that the request's pages and the free ones could hold. */
static int64_t rows_that_fit(const td_engine *engine, const td_request *request)
{
    return ((int64_t)request->page_count + td_kv_pages_available(engine->kv)) * TD_PAGE_TOKENS - request->computed;
}

static void add_part(td_engine *engine, td_request *request, int rows)
{
    engine->parts[engine->part_count++] = (td_part){request, engine->rows, rows, request->computed};
    memcpy(engine->row_tokens + engine->rows, request->tokens + request->computed, (size_t)rows * sizeof(int32_t));
    engine->rows += rows;
}

int td_schedule(td_engine *engine)
{
    take_queue(engine);
    end_unwanted(engine);
    admit(engine);
    engine->part_count = engine->rows = 0;
    /* oldest first; a preemption only ever removes requests behind the current one, and those have no rows yet in this pass */
    for (int i = 0; i < engine->running_count; i++) {
        td_request *request = engine->running[i];
        if (request->count - request->computed == 1 && find_pages(engine, request, request->count)) add_part(engine, request, 1);
    }
    int budget = engine->options.prefill_chunk;
    for (int i = 0; i < engine->running_count && budget > 0; i++) {
        td_request *request = engine->running[i];
        int64_t left = request->count - request->computed;
        if (left <= 1) continue;
        int64_t room = rows_that_fit(engine, request);
        if (room <= 0) { /* nobody who already has rows may lose its pages */
            if (engine->part_count > 0 || !find_pages(engine, request, request->computed + 1)) break;
            room = rows_that_fit(engine, request);
        }
        int rows = (int)TD_MIN(TD_MIN(left, (int64_t)budget), room);
        find_pages(engine, request, request->computed + rows);
        add_part(engine, request, rows);
        budget -= rows;
    }
    return engine->rows;
}
