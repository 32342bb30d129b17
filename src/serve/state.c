/* state.c - what the server says about itself: /health, /v1/models, /props, /slots, /metrics, and /state for the web page. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "serve/serve.h"

td_status td_answer_health(td_exchange *x)
{
    td_server *server = x->server;
    td_server_phase phase = atomic_load(&server->phase);
    if (phase == TD_SERVER_READY) {
        td_engine_stats stats;
        td_engine_get_stats(server->engine, &stats);
        td_buffer_format(&x->out, "{\"status\":\"%s\"", stats.degraded ? "degraded" : "ok");
        if (stats.degraded) {
            td_buffer_text(&x->out, ",\"reason\":");
            td_body_text(&x->out, stats.degraded_reason);
        }
        td_buffer_text(&x->out, "}");
        return TD_OK;
    }
    x->http = 503;
    x->retry_after_s = 2;
    if (phase != TD_SERVER_LOADING) {
        td_buffer_text(&x->out, "{\"status\":\"stopping\",\"error\":{\"code\":503,\"message\":\"the server is shutting down\",\"type\":\"unavailable_error\"}}");
        return TD_OK;
    }
    pthread_mutex_lock(&server->progress_lock);
    td_buffer_text(&x->out, "{\"status\":\"loading model\",\"what\":");
    td_body_text(&x->out, server->progress_what);
    td_buffer_format(&x->out, ",\"progress\":%.4f,\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}", server->progress_share);
    pthread_mutex_unlock(&server->progress_lock);
    return TD_OK;
}

td_status td_answer_models(td_exchange *x)
{
    const td_server *server = x->server;
    const td_model_info *info = server->info;
    td_buffer_text(&x->out, "{\"object\":\"list\",\"data\":[{\"id\":");
    td_body_text(&x->out, server->name);
    td_buffer_format(&x->out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"tandem\",\"max_model_len\":%d,\"type\":\"model\",\"display_name\":", (long long)server->started_s, server->context_max);
    td_body_text(&x->out, server->name);
    td_buffer_format(&x->out, ",\"meta\":{\"family\":\"%s\",\"format\":\"%s\",\"dtype\":\"%s\",\"n_vocab\":%d,\"n_ctx_train\":%d,\"n_embd\":%d,\"n_layer\":%d,\"n_params\":%llu,\"size\":%llu,\"experts\":%d,\"experts_per_token\":%d}}],",
                     info->family ? info->family : "", info->format ? info->format : "", info->dtype ? info->dtype : "", info->vocab_size, info->context_max, info->d_model, info->layers,
                     (unsigned long long)info->parameters, (unsigned long long)info->weight_bytes, info->experts, info->experts_per_token);
    td_buffer_text(&x->out, "\"has_more\":false,\"first_id\":");
    td_body_text(&x->out, server->name);
    td_buffer_text(&x->out, ",\"last_id\":");
    td_body_text(&x->out, server->name);
    td_buffer_text(&x->out, "}");
    return TD_OK;
}

td_status td_answer_props(td_exchange *x)
{
    td_server *server = x->server;
    td_engine_stats stats;
    td_engine_get_stats(server->engine, &stats);
    td_buffer_text(&x->out, "{\"model_alias\":");
    td_body_text(&x->out, server->name);
    td_buffer_text(&x->out, ",\"chat_template\":");
    td_body_text(&x->out, server->info->chat_template ? server->info->chat_template : "");
    td_buffer_format(&x->out, ",\"total_slots\":%d,\"queue_max\":%d,\"n_ctx\":%d,\"has_chat_template\":%s,\"modalities\":{\"vision\":false,\"audio\":false},\"build_info\":\"tandem %s\",", server->options.requests_max,
                     server->options.queue_max, server->context_max, server->info->has_chat_template ? "true" : "false", td_version());
    td_buffer_format(&x->out, "\"default_generation_settings\":{\"n_ctx\":%d,\"params\":{\"temperature\":1.0,\"top_p\":1.0,\"top_k\":0,\"min_p\":0.0,\"seed\":-1}},\"engine\":{\"threads\":%d,\"micro_batches\":%d,\"isa\":\"%s\",",
                     server->context_max, stats.threads, stats.micro_batches, stats.isa ? stats.isa : "");
    td_buffer_format(&x->out, "\"weight_bytes\":%llu,\"kv_bytes\":%llu,\"scratch_bytes\":%llu,\"kv_tokens\":%llu}}", (unsigned long long)stats.weight_bytes, (unsigned long long)stats.kv_bytes,
                     (unsigned long long)stats.scratch_bytes, (unsigned long long)(stats.kv_pages * stats.kv_page_tokens));
    return TD_OK;
}

td_status td_answer_slots(td_exchange *x)
{
    td_admit_slots_json(x->server, &x->out);
    return TD_OK;
}

static void put_workers(td_server *server, td_buffer *out)
{
    char *workers;
    if (td_engine_workers_json(server->engine, &workers) < 0) {
        td_buffer_text(out, "null");
        return;
    }
    td_buffer_text(out, workers);
    td_free(workers);
}

/* Everything that the web page shows, in one answer. */
td_status td_answer_state(td_exchange *x)
{
    td_server *server = x->server;
    td_engine_stats s;
    td_engine_get_stats(server->engine, &s);
    pthread_mutex_lock(&server->admit_lock);
    int waiting = server->waiting, running = server->running;
    pthread_mutex_unlock(&server->admit_lock);
    td_buffer *out = &x->out;
    td_buffer_format(out, "{\"time_ms\":%.1f,\"uptime_s\":%.1f,\"model\":", (double)td_now_ns() * 1e-6, td_seconds_since(server->started_ns));
    td_body_text(out, server->name);
    td_buffer_format(out, ",\"family\":\"%s\",\"layers\":%d,\"experts\":%d,\"experts_per_token\":%d,\"context\":%d,\"running\":%d,\"waiting\":%d,\"slots_total\":%d,", server->info->family ? server->info->family : "",
                     server->info->layers, server->info->experts, server->info->experts_per_token, server->context_max, running, waiting, server->options.requests_max);
    td_buffer_format(out, "\"engine\":{\"steps\":%llu,\"prompt_tokens\":%llu,\"cached_tokens\":%llu,\"decoded_tokens\":%llu,\"running\":%d,\"waiting\":%d,\"kv_pages\":%llu,\"kv_pages_used\":%llu,\"kv_page_tokens\":%llu,",
                     (unsigned long long)s.steps, (unsigned long long)s.prompt_tokens, (unsigned long long)s.cached_tokens, (unsigned long long)s.decoded_tokens, s.requests_running, s.requests_waiting,
                     (unsigned long long)s.kv_pages, (unsigned long long)s.kv_pages_used, (unsigned long long)s.kv_page_tokens);
    td_buffer_format(out, "\"step_ms\":%.3f,\"threads\":%d,\"micro_batches\":%d,\"isa\":\"%s\",\"degraded\":%s,\"degraded_reason\":", s.step_ms_mean, s.threads, s.micro_batches, s.isa ? s.isa : "",
                     s.degraded ? "true" : "false");
    td_body_text(out, s.degraded_reason);
    td_buffer_format(out, ",\"weight_bytes\":%llu,\"kv_bytes\":%llu},\"ttft_p50_s\":%g,\"tpot_p50_s\":%g,\"workers\":", (unsigned long long)s.weight_bytes, (unsigned long long)s.kv_bytes,
                     td_histogram_quantile(&server->metrics.ttft, 0.5), td_histogram_quantile(&server->metrics.tpot, 0.5));
    put_workers(server, out);
    td_buffer_text(out, ",\"slots\":");
    td_admit_slots_json(server, out);
    td_buffer_text(out, "}");
    return td_buffer_status(out);
}

/* ---- Prometheus ---------------------------------------------------------------------------------------------------------------------------------------- */

static void put_number(td_buffer *out, const char *name, const char *type, const char *help, double value)
{
    td_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static double load(atomic_ullong *counter) { return (double)atomic_load(counter); }

static void put_http(td_server *server, td_buffer *out)
{
    static const char *const finishes[] = {"none", "eos", "stop", "length", "context", "cancelled", "time", "error"};
    td_metrics *m = &server->metrics;
    td_buffer_text(out, "# HELP tandem_http_responses_total Answers by HTTP status.\n# TYPE tandem_http_responses_total counter\n");
    for (int i = 100; i < TD_STATUS_CLASSES; i++)
        if (atomic_load(&m->responses[i])) td_buffer_format(out, "tandem_http_responses_total{code=\"%d\"} %llu\n", i, (unsigned long long)atomic_load(&m->responses[i]));
    td_buffer_text(out, "# HELP tandem_completions_total Completions by how they ended.\n# TYPE tandem_completions_total counter\n");
    for (int i = 1; i < 8; i++) td_buffer_format(out, "tandem_completions_total{finish=\"%s\"} %llu\n", finishes[i], (unsigned long long)atomic_load(&m->finished[i]));
    put_number(out, "tandem_queue_refused_total", "counter", "Requests answered with 429.", load(&m->refused_queue));
    put_number(out, "tandem_disconnects_total", "counter", "Clients that left before their answer was complete.", load(&m->disconnects));
    put_number(out, "tandem_parser_warnings_total", "counter", "Answers whose reasoning or tool calls could not be parsed (raw text was returned).", load(&m->parser_warnings));
    put_number(out, "tandem_prompt_seconds_total", "counter", "Time spent reading prompts, summed over requests.", load(&m->prompt_ns) * 1e-9);
    put_number(out, "tandem_decode_seconds_total", "counter", "Time spent decoding, summed over requests.", load(&m->decode_ns) * 1e-9);
    put_number(out, "tandem_connections", "gauge", "Open connections.", atomic_load(&server->connections));
    td_histogram_put(out, "tandem_time_to_first_token_seconds", "From a request's headers to its first token.", &m->ttft);
    td_histogram_put(out, "tandem_time_per_output_token_seconds", "Between two tokens of one completion.", &m->tpot);
    td_histogram_put(out, "tandem_queue_seconds", "From queueing to the engine's first step for a completion.", &m->queue);
    td_histogram_put(out, "tandem_prompt_seconds", "Reading one prompt.", &m->prompt);
    td_histogram_put(out, "tandem_request_seconds", "From headers to the end of the answer, generations only.", &m->request);
}

static void put_engine(td_server *server, td_buffer *out)
{
    td_engine_stats s;
    td_engine_get_stats(server->engine, &s);
    put_number(out, "tandem_steps_total", "counter", "Engine steps.", (double)s.steps);
    put_number(out, "tandem_prompt_tokens_total", "counter", "Prompt tokens computed.", (double)s.prompt_tokens);
    put_number(out, "tandem_cached_tokens_total", "counter", "Prompt tokens found in the prefix cache.", (double)s.cached_tokens);
    put_number(out, "tandem_generated_tokens_total", "counter", "Tokens decoded.", (double)s.decoded_tokens);
    put_number(out, "tandem_preemptions_total", "counter", "Requests that had to give back their KV pages for a while.", (double)s.preemptions);
    put_number(out, "tandem_requests_running", "gauge", "Requests in the batch.", s.requests_running);
    pthread_mutex_lock(&server->admit_lock);
    int waiting = server->waiting;
    pthread_mutex_unlock(&server->admit_lock);
    put_number(out, "tandem_requests_waiting", "gauge", "Completions that wait for a place in the batch.", waiting + s.requests_waiting);
    put_number(out, "tandem_kv_pages", "gauge", "KV pages.", (double)s.kv_pages);
    put_number(out, "tandem_kv_pages_used", "gauge", "KV pages in use.", (double)s.kv_pages_used);
    put_number(out, "tandem_step_seconds_mean", "gauge", "Mean duration of recent steps.", s.step_ms_mean * 1e-3);
    put_number(out, "tandem_memory_bytes", "gauge", "Weights, KV cache and scratch of the engine.", (double)(s.weight_bytes + s.kv_bytes + s.scratch_bytes));
    put_number(out, "tandem_degraded", "gauge", "1 when FFN workers are missing.", s.degraded);
}

/* Every number of an object becomes a sample {what="name"}; the engine decides what there is. */
static void put_numbers(const cJSON *object, const char *metric, const char *labels, td_buffer *out)
{
    for (const cJSON *item = object->child; item; item = item->next)
        if (cJSON_IsNumber(item) || cJSON_IsBool(item))
            td_buffer_format(out, "%s{%swhat=\"%s\"} %.15g\n", metric, labels, item->string, cJSON_IsNumber(item) ? item->valuedouble : cJSON_IsTrue(item));
}

static void put_worker(const cJSON *worker, td_buffer *out)
{
    const char *name = td_fields_string(worker, "address") ? td_fields_string(worker, "address") : td_fields_string(worker, "name");
    const char *state = td_fields_string(worker, "state");
    td_buffer labels = {0};
    td_buffer_text(&labels, "worker=");
    td_body_text(&labels, name ? name : "?");
    td_buffer_text(&labels, ",");
    put_numbers(worker, "tandem_worker", labels.data ? labels.data : "", out);
    td_buffer_format(out, "tandem_worker{%swhat=\"up\"} %d\n", labels.data ? labels.data : "", state && (!strcmp(state, "up") || !strcmp(state, "ready")));
    td_buffer_free(&labels);
}

static void put_link(td_server *server, td_buffer *out)
{
    char *text;
    cJSON *root = NULL;
    if (td_engine_workers_json(server->engine, &text) < 0) return;
    if (td_body_parse(text, strlen(text), &root) == TD_OK) {
        const cJSON *workers = cJSON_GetObjectItemCaseSensitive(root, "workers"), *layers = cJSON_GetObjectItemCaseSensitive(root, "layers");
        td_buffer_text(out, "# HELP tandem_link Numbers of the link to the FFN workers.\n# TYPE tandem_link untyped\n");
        put_numbers(root, "tandem_link", "", out);
        td_buffer_text(out, "# HELP tandem_worker Numbers of each FFN worker.\n# TYPE tandem_worker untyped\n");
        for (const cJSON *w = cJSON_IsArray(workers) ? workers->child : NULL; w; w = w->next) put_worker(w, out);
        td_buffer_text(out, "# HELP tandem_expert_hottest_share Rows of a layer's most used expert, as a share.\n# TYPE tandem_expert_hottest_share gauge\n");
        for (const cJSON *l = cJSON_IsArray(layers) ? layers->child : NULL; l; l = l->next) {
            const cJSON *layer = cJSON_GetObjectItemCaseSensitive(l, "layer"), *share = cJSON_GetObjectItemCaseSensitive(l, "hottest_share");
            if (cJSON_IsNumber(layer) && cJSON_IsNumber(share)) td_buffer_format(out, "tandem_expert_hottest_share{layer=\"%d\"} %.15g\n", layer->valueint, share->valuedouble);
        }
    }
    cJSON_Delete(root);
    td_free(text);
}

td_status td_answer_metrics(td_exchange *x)
{
    put_http(x->server, &x->out);
    if (atomic_load(&x->server->phase) != TD_SERVER_LOADING) {
        put_engine(x->server, &x->out);
        put_link(x->server, &x->out);
    }
    return td_buffer_status(&x->out);
}
