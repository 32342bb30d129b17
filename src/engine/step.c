/*
 * step.c - one step: embedding, then every layer for every micro-batch with the FFN's answers arriving through the link, then logits, then tokens.
 *
 * The order "for each layer, for each micro-batch: wait, attend, route, submit" lets micro-batch 1 attend while micro-batch 0 is away. A row's K and V of
 * a layer are written before any later row of the same request attends in that layer, because micro-batches keep row order.
 */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* ---- hooks --------------------------------------------------------------------------------------------------------------------------- */

static bool hook_wants(const td_request *request, td_point point, int layer)
{
    const td_request_options *o = &request->options;
    if (!o->hook || !(o->hook_points & 1u << point)) return false;
    return (o->hook_layer_first == 0 && o->hook_layer_last == 0) || (layer >= o->hook_layer_first && layer <= o->hook_layer_last);
}

static void show_slices(void *user, td_point point, int layer, const td_batch *batch, int width, float *data)
{
    const td_micro_batch *micro = user;
    for (int s = 0; s < batch->slice_count; s++) {
        const td_slice *slice = &batch->slices[s];
        const td_request *request = micro->parts[s]->request;
        if (hook_wants(request, point, layer))
            request->options.hook(request->options.hook_user, point, layer, slice->position, slice->rows, width, data + (int64_t)slice->row * width);
    }
}

static td_tap tap_of(td_micro_batch *micro)
{
    td_tap tap = {.look = show_slices, .user = micro};
    for (int s = 0; s < micro->batch.slice_count; s++)
        if (micro->parts[s]->request->options.hook) tap.points |= micro->parts[s]->request->options.hook_points;
    return tap;
}

static void show(td_micro_batch *micro, const td_tap *tap, td_point point, int layer, int width, float *data)
{
    if (tap->points & 1u << point) show_slices(micro, point, layer, &micro->batch, width, data);
}

/* ---- micro-batches ------------------------------------------------------------------------------------------------------------------- */

/* Cuts the step's rows into `count` runs of nearly equal length; a part may be cut too. */
static void cut_micro_batches(td_engine *engine, int count)
{
    int part = 0;
    for (int i = 0; i < count; i++) {
        td_micro_batch *micro = &engine->micro[i];
        int first = (int)((int64_t)engine->rows * i / count), stop = (int)((int64_t)engine->rows * (i + 1) / count);
        micro->row = first;
        int slices = 0;
        while (part < engine->part_count && engine->parts[part].row + engine->parts[part].rows <= first) part++;
        for (int p = part; p < engine->part_count && engine->parts[p].row < stop; p++) {
            const td_part *whole = &engine->parts[p];
            int begin = TD_MAX(whole->row, first), end = TD_MIN(whole->row + whole->rows, stop);
            micro->parts[slices] = whole;
            micro->slices[slices++] = (td_slice){.row = begin - first, .rows = end - begin, .position = whole->position + (begin - whole->row), .pages = whole->request->pages};
        }
        micro->batch = (td_batch){.rows = stop - first, .slice_count = slices, .slices = micro->slices, .step_row = first};
    }
}

static float *rows_at(float *base, const td_engine *engine, const td_micro_batch *micro) { return base + (int64_t)micro->row * engine->model->config.d_model; }

/* Waits for the FFN of a layer and adds it to the residual stream. */
static td_status finish_layer(td_engine *engine, int index, int layer, const td_tap *tap)
{
    td_micro_batch *micro = &engine->micro[index];
    int d = engine->model->config.d_model;
    float *x = rows_at(engine->x, engine, micro), *y = rows_at(engine->y, engine, micro);
    int64_t start = td_now_ns();
    td_status status = td_link_wait(engine->link, index);
    engine->ffn_seconds += td_seconds_since(start);
    if (status < 0) return status;
    show(micro, tap, TD_POINT_FFN_OUT, layer, d, y);
    engine->kernel->add(x, y, (int64_t)micro->batch.rows * d);
    show(micro, tap, TD_POINT_RESID_OUT, layer, d, x);
    return TD_OK;
}

static td_status start_layer(td_engine *engine, int index, int layer, const td_tap *tap)
{
    td_micro_batch *micro = &engine->micro[index];
    const td_config *c = &engine->model->config;
    float *x = rows_at(engine->x, engine, micro), *m = rows_at(engine->m, engine, micro);
    int32_t *ids = engine->ids + (int64_t)micro->row * c->top_k;
    float *weights = engine->weights + (int64_t)micro->row * c->top_k;
    int64_t start = td_now_ns();
    td_attention_layer(engine->attention, layer, &micro->batch, x, tap);
    td_attention_route(engine->attention, layer, &micro->batch, x, m, ids, weights, tap);
    int64_t away = td_now_ns();
    engine->pace.attention_ns += away - start;
    bool moe = engine->model->is_moe[layer];
    td_link_job job = {.step = engine->step, .layer = layer, .micro_batch = index, .rows = micro->batch.rows, .x = m, .ids = moe ? ids : NULL,
                       .weights = moe ? weights : NULL, .y = rows_at(engine->y, engine, micro)};
    td_status status = td_link_submit(engine->link, &job);
    engine->ffn_seconds += td_seconds_since(away);
    return status;
}

static td_status run_layers(td_engine *engine, int count)
{
    int layers = engine->model->config.layers;
    td_tap taps[TD_MICRO_BATCHES_MAX];
    td_status status = TD_OK;
    for (int i = 0; i < count; i++) {
        td_micro_batch *micro = &engine->micro[i];
        taps[i] = tap_of(micro);
        td_attention_begin(engine->attention, &micro->batch);
        show(micro, &taps[i], TD_POINT_EMBED, 0, engine->model->config.d_model, rows_at(engine->x, engine, micro));
    }
    for (int layer = 0; layer <= layers && status == TD_OK; layer++)
        for (int i = 0; i < count && status == TD_OK; i++) {
            if (layer > 0) status = finish_layer(engine, i, layer - 1, &taps[i]);
            if (layer < layers && status == TD_OK) status = start_layer(engine, i, layer, &taps[i]);
        }
    if (status < 0)
        for (int i = 0; i < count; i++) td_link_cancel(engine->link, i);
    return status;
}

/* ---- tokens -------------------------------------------------------------------------------------------------------------------------- */

static void end_request(td_engine *engine, td_request *request, td_finish finish, td_status status, const char *message)
{
    td_unschedule(engine, request);
    td_request_finish(request, finish, status, message);
}

/* Appends a token and decides whether the request goes on. */
static void take_token(td_engine *engine, td_request *request, int32_t token, float logprob, const td_logprob *top, int top_count)
{
    const td_request_options *o = &request->options;
    if (request->count == request->prompt_count) request->first_token_ns = td_now_ns();
    request->tokens[request->count++] = token;
    engine->tokens_taken++;
    int64_t generated = request->count - request->prompt_count;
    bool ended = td_request_ends_with(request, token);
    td_record record = {.token = token, .logprob = logprob, .top_count = (uint8_t)top_count};
    td_request_produce(request, &record, top);
    bool stopped = false;
    if (o->stop_count && !ended) {
        const char *text;
        size_t bytes;
        stopped = td_stream_put(&request->watch, token, &text, &bytes);
    }
    if (ended) end_request(engine, request, TD_FINISH_EOS, TD_OK, NULL);
    else if (stopped) end_request(engine, request, TD_FINISH_STOP, TD_OK, NULL);
    else if (o->max_tokens > 0 && generated >= o->max_tokens) end_request(engine, request, TD_FINISH_LENGTH, TD_OK, NULL);
    else if (request->count >= engine->options.context_max) end_request(engine, request, TD_FINISH_CONTEXT, TD_OK, NULL);
}

/* A row whose logits are wanted. */
typedef struct { td_request *request; int64_t position; int row; bool samples; } wanted_row;

typedef struct {
    td_engine *engine;
    const wanted_row *wanted;
    td_sampled *results;
} sample_run;

/* Minus infinity is allowed (a hook may mask); NaN and plus infinity are not. */
static bool all_finite(const float *logits, int vocab)
{
    int odd = 0; /* as wide as a logit: compilers make vectors of it */
    for (int i = 0; i < vocab; i++) odd |= !(logits[i] < INFINITY);
    return odd == 0;
}

/* The caller's function changes a row's logits, or ends its request. */
static void ask_caller(const td_request *request, float *logits, int vocab, td_sampled *result)
{
    const td_request_options *o = &request->options;
    result->go_on = true;
    if (!o->logits_fn) return;
    td_constraint_take_error(); /* whatever this thread did before */
    result->go_on = o->logits_fn(o->logits_user, request->tokens + request->prompt_count, (size_t)(request->count - request->prompt_count), logits, vocab);
    if (result->go_on) return;
    result->error = td_constraint_take_error();
    if (result->error < 0) snprintf(result->why, sizeof result->why, "%s", td_error());
}

static void sample_task(void *arg, int task, int worker)
{
    sample_run *run = arg;
    td_engine *engine = run->engine;
    const wanted_row *wanted = &run->wanted[task];
    td_request *request = wanted->request;
    const td_request_options *o = &request->options;
    td_sampler *sampler = &engine->samplers[worker];
    int vocab = engine->model->config.vocab;
    float *logits = engine->logits + (int64_t)task * vocab;
    td_sampled *result = &run->results[task];
    result->broken = !all_finite(logits, vocab);
    if (request->logits_out) memcpy(request->logits_out + wanted->position * vocab, logits, (size_t)vocab * sizeof(float));
    int32_t next = wanted->position + 1 < request->count ? request->tokens[wanted->position + 1] : -1;
    bool logprobs = o->logprobs > 0 && (wanted->samples || (o->prompt_logprobs && next >= 0));
    if (wanted->samples) {
        ask_caller(request, logits, vocab, result);
        if (logprobs) memcpy(sampler->raw, logits, (size_t)vocab * sizeof(float));
        next = td_sample(sampler, o, request->tokens, request->prompt_count, request->count, logits);
        if (logprobs) logits = sampler->raw;
    }
    result->token = next;
    if (logprobs) result->top_count = td_logprobs(logits, vocab, next, TD_MIN(o->logprobs, TD_LOGPROBS_MAX), &result->logprob, result->top);
}

/* Logits and tokens of up to logit_rows_max rows. */
static void sample_rows(td_engine *engine, const wanted_row *wanted, int count, sample_run *run)
{
    const td_config *c = &engine->model->config;
    bool logits = false;
    for (int i = 0; i < count; i++) {
        memcpy(engine->head_rows + (int64_t)i * c->d_model, engine->x + (int64_t)wanted[i].row * c->d_model, (size_t)c->d_model * sizeof(float));
        logits |= wanted[i].samples || wanted[i].request->logits_out || wanted[i].request->options.prompt_logprobs || hook_wants(wanted[i].request, TD_POINT_LOGITS, c->layers);
    }
    td_attention_final_norm(engine->attention, count, engine->head_rows);
    for (int i = 0; i < count; i++)
        if (hook_wants(wanted[i].request, TD_POINT_FINAL, c->layers))
            wanted[i].request->options.hook(wanted[i].request->options.hook_user, TD_POINT_FINAL, c->layers, wanted[i].position, 1, c->d_model, engine->head_rows + (int64_t)i * c->d_model);
    if (!logits) return;
    td_attention_logits(engine->attention, count, engine->head_rows, engine->logits);
    for (int i = 0; i < count; i++)
        if (hook_wants(wanted[i].request, TD_POINT_LOGITS, c->layers))
            wanted[i].request->options.hook(wanted[i].request->options.hook_user, TD_POINT_LOGITS, c->layers, wanted[i].position, 1, c->vocab, engine->logits + (int64_t)i * c->vocab);
    run->wanted = wanted;
    memset(run->results, 0, (size_t)count * sizeof *run->results);
    td_pool_run(engine->pool, count, sample_task, run);
    for (int i = 0; i < count; i++) {
        td_request *request = wanted[i].request;
        if (run->results[i].broken) {
            if (!request->broken) td_model_explain_nan(engine->model);
            request->broken = true; /* ends below, behind its last row */
        }
        if (request->broken && (wanted[i].samples || wanted[i].position + 1 == request->count)) {
            end_request(engine, request, TD_FINISH_ERROR, TD_E_FORMAT, td_error());
        } else if (wanted[i].samples && !run->results[i].go_on) {
            end_request(engine, request, run->results[i].error < 0 ? TD_FINISH_ERROR : TD_FINISH_STOP, run->results[i].error, run->results[i].why);
        } else if (wanted[i].samples) {
            take_token(engine, request, run->results[i].token, run->results[i].logprob, run->results[i].top, run->results[i].top_count);
        } else if (request->options.prompt_logprobs && run->results[i].token >= 0 && wanted[i].position == request->produced) {
            /* with prompt_logprobs record p is what the row at position p predicts; rows read again after a preemption have theirs already */
            td_record record = {.token = run->results[i].token, .logprob = run->results[i].logprob, .from_prompt = true, .top_count = (uint8_t)run->results[i].top_count};
            td_request_produce(request, &record, run->results[i].top);
        }
    }
}

/* Does this request want logits of rows before its last one? */
static bool wants_every_row(const td_engine *engine, const td_request *request)
{
    int layers = engine->model->config.layers;
    return request->logits_out || request->options.prompt_logprobs || hook_wants(request, TD_POINT_FINAL, layers) || hook_wants(request, TD_POINT_LOGITS, layers);
}

static void sample_step(td_engine *engine)
{
    wanted_row wanted[TD_LOGIT_ROWS_MAX];
    int room = engine->logit_rows_max, count = 0;
    sample_run run = {.engine = engine, .results = engine->sampled};
    for (int p = 0; p < engine->part_count; p++) {
        td_part part = engine->parts[p]; /* the request may end, but not before its last wanted row */
        td_request *request = part.request;
        bool reaches_end = part.position + part.rows == request->count;
        for (int r = wants_every_row(engine, request) ? 0 : part.rows - 1; r < part.rows; r++) {
            bool last = reaches_end && r == part.rows - 1, samples = last && request->options.max_tokens >= 0;
            if (!samples && !wants_every_row(engine, request)) continue;
            wanted[count++] = (wanted_row){request, part.position + r, part.row + r, samples};
            if (count == room) {
                sample_rows(engine, wanted, count, &run);
                count = 0;
            }
        }
    }
    if (count) sample_rows(engine, wanted, count, &run);
}

/* Books the rows as computed and makes full pages findable. */
static void account(td_engine *engine)
{
    for (int p = 0; p < engine->part_count; p++) {
        td_part *part = &engine->parts[p];
        td_request *request = part->request;
        request->computed += part->rows;
        if (part->position < request->prompt_count) engine->prompt_rows += (uint64_t)(TD_MIN(request->computed, request->prompt_count) - part->position);
        for (; request->reuse_prefix && (int64_t)(request->pages_published + 1) * TD_PAGE_TOKENS <= request->computed; request->pages_published++)
            request->serial = td_kv_publish(engine->kv, request->serial, request->pages[request->pages_published], request->tokens + (int64_t)request->pages_published * TD_PAGE_TOKENS);
        if (part->position < request->prompt_count) td_request_progress(request, TD_MIN(request->computed, request->prompt_count));
    }
}

/* Requests that only wanted their prompt read. */
static void end_prefill_only(td_engine *engine)
{
    for (int i = engine->running_count - 1; i >= 0; i--) {
        td_request *request = engine->running[i];
        if (request->options.max_tokens < 0 && request->computed == request->count) end_request(engine, request, TD_FINISH_LENGTH, TD_OK, NULL);
    }
}

td_status td_step(td_engine *engine)
{
    engine->step++;
    int count = td_pace_begin(&engine->pace, engine->rows, engine->link);
    cut_micro_batches(engine, count);
    td_attention_embed(engine->attention, engine->row_tokens, engine->rows, engine->x);
    int64_t start = td_now_ns();
    TD_TRY(run_layers(engine, count));
    td_pace_end(&engine->pace, engine->rows, engine->link, td_now_ns() - start);
    account(engine);
    sample_step(engine);
    end_prefill_only(engine);
    return TD_OK;
}
