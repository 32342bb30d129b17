/*
 * prometheus.c - /metrics in Prometheus' text format (0.0.4): what the HTTP side counts, what the engine counts, and each FFN worker, every number with its own name and type.
 * Samples of one name stand together behind its HELP and TYPE, as the format asks.
 */
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"

enum { EXPERT_SAMPLES_MAX = 4096 };

static void put_number(td_buffer *out, const char *name, const char *type, const char *help, double value)
{
    td_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static void put_family(td_buffer *out, const char *name, const char *type, const char *help) { td_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type); }

static double load(atomic_ullong *counter) { return (double)atomic_load(counter); }

static void put_http(td_server *server, td_buffer *out)
{
    static const char *const finishes[] = {"none", "eos", "stop", "length", "context", "cancelled", "time", "error"};
    td_metrics *m = &server->metrics;
    put_family(out, "tandem_http_responses_total", "counter", "Answers by HTTP status.");
    for (int i = 100; i < TD_STATUS_CLASSES; i++)
        if (atomic_load(&m->responses[i])) td_buffer_format(out, "tandem_http_responses_total{code=\"%d\"} %llu\n", i, (unsigned long long)atomic_load(&m->responses[i]));
    put_family(out, "tandem_errors_total", "counter", "Errors told to clients, by the code of the error object.");
    for (int i = 0; td_error_kinds[i]; i++) td_buffer_format(out, "tandem_errors_total{kind=\"%s\"} %llu\n", td_error_kinds[i], (unsigned long long)atomic_load(&m->errors[i]));
    put_family(out, "tandem_completions_total", "counter", "Completions by how they ended.");
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
    put_number(out, "tandem_micro_batches", "gauge", "Micro-batches in flight.", s.micro_batches);
    put_number(out, "tandem_memory_bytes", "gauge", "Weights, KV cache and scratch of the engine.", (double)(s.weight_bytes + s.kv_bytes + s.scratch_bytes));
    put_number(out, "tandem_degraded", "gauge", "1 when FFN workers are missing.", s.degraded);
}

/* ---- workers and experts: from the engine's JSON ---------------------------------------------------------------------------------------------------------- */

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void begin_sample(td_buffer *out, const char *name, const cJSON *worker)
{
    const char *address = td_fields_string(worker, "address") ? td_fields_string(worker, "address") : td_fields_string(worker, "name");
    td_buffer_format(out, "%s{worker=", name);
    td_body_text(out, address ? address : "?"); /* JSON's escapes of quotes, backslashes and newlines are Prometheus' */
}

static const cJSON *first_of(const cJSON *list) { return cJSON_IsArray(list) ? list->child : NULL; }

/* One number of every worker; without workers only what the name means. */
static void put_workers(td_buffer *out, const cJSON *workers, const char *name, const char *type, const char *help, const char *member, double scale)
{
    put_family(out, name, type, help);
    for (const cJSON *w = first_of(workers); w; w = w->next) {
        const char *state = td_fields_string(w, "state");
        begin_sample(out, name, w);
        td_buffer_format(out, "} %.15g\n", member ? number_of(w, member) * scale : state && (!strcmp(state, "up") || !strcmp(state, "ready")));
    }
}

static void put_parts(td_buffer *out, const cJSON *workers)
{
    static const char *const parts[] = {"out", "queue", "compute", "back"};
    put_family(out, "tandem_worker_part_seconds", "gauge", "Where an answer's time goes: moving means of the way out, its queue, computing, the way back.");
    for (const cJSON *w = first_of(workers); w; w = w->next)
        for (size_t i = 0; i < TD_COUNT(parts); i++) {
            char member[16];
            snprintf(member, sizeof member, "%s_us", parts[i]);
            begin_sample(out, "tandem_worker_part_seconds", w);
            td_buffer_format(out, ",part=\"%s\"} %.9g\n", parts[i], number_of(w, member) * 1e-6);
        }
}

static void put_trips(td_buffer *out, const cJSON *workers)
{
    static const char name[] = "tandem_ffn_round_trip_seconds";
    put_family(out, name, "histogram", "From sending rows to an FFN worker to its answer, computing included.");
    for (const cJSON *w = first_of(workers); w; w = w->next) {
        const cJSON *trips = cJSON_GetObjectItemCaseSensitive(w, "trips");
        double running = 0;
        for (const cJSON *t = first_of(trips); t; t = t->next) {
            const cJSON *bound = cJSON_GetArrayItem(t, 0), *count = cJSON_GetArrayItem(t, 1);
            running += cJSON_IsNumber(count) ? count->valuedouble : 0;
            begin_sample(out, "tandem_ffn_round_trip_seconds_bucket", w);
            if (cJSON_IsNumber(bound)) td_buffer_format(out, ",le=\"%g\"} %.15g\n", bound->valuedouble * 1e-6, running);
            else td_buffer_format(out, ",le=\"+Inf\"} %.15g\n", running);
        }
        begin_sample(out, "tandem_ffn_round_trip_seconds_sum", w);
        td_buffer_format(out, "} %.9g\n", number_of(w, "trips_us") * 1e-6);
        begin_sample(out, "tandem_ffn_round_trip_seconds_count", w);
        td_buffer_format(out, "} %.15g\n", running);
    }
}

static void put_experts(td_buffer *out, const cJSON *layers)
{
    int samples = 0;
    put_family(out, "tandem_expert_hottest_share", "gauge", "Rows of a layer's most used expert, as a share of all.");
    for (const cJSON *l = first_of(layers); l; l = l->next) {
        samples += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(l, "load"));
        if (cJSON_HasObjectItem(l, "hottest_share")) td_buffer_format(out, "tandem_expert_hottest_share{layer=\"%.0f\"} %.15g\n", number_of(l, "layer"), number_of(l, "hottest_share"));
    }
    if (samples > EXPERT_SAMPLES_MAX) return; /* too many series for one scrape; /state has them */
    put_family(out, "tandem_expert_load", "gauge", "Recent rows of each expert; old ones fade where workers rebalance.");
    for (const cJSON *l = first_of(layers); l; l = l->next) {
        int expert = 0;
        const cJSON *loads = cJSON_GetObjectItemCaseSensitive(l, "load");
        for (const cJSON *e = first_of(loads); e; e = e->next, expert++)
            td_buffer_format(out, "tandem_expert_load{layer=\"%.0f\",expert=\"%d\"} %.15g\n", number_of(l, "layer"), expert, e->valuedouble);
    }
}

static void put_link(td_server *server, td_buffer *out)
{
    char *text;
    cJSON *root = NULL;
    if (td_engine_workers_json(server->engine, &text) < 0) return;
    if (td_body_parse(text, strlen(text), &root) == TD_OK) {
        const cJSON *workers = cJSON_GetObjectItemCaseSensitive(root, "workers"), *layers = cJSON_GetObjectItemCaseSensitive(root, "layers");
        put_number(out, "tandem_link_messages_total", "counter", "Messages to and from FFN workers.", number_of(root, "messages"));
        put_number(out, "tandem_link_bytes_out_total", "counter", "Bytes sent to FFN workers.", number_of(root, "bytes_out"));
        put_number(out, "tandem_link_bytes_in_total", "counter", "Bytes received from FFN workers.", number_of(root, "bytes_in"));
        put_number(out, "tandem_retries_total", "counter", "Work that was asked for again because a worker was late or lost.", number_of(root, "retries"));
        put_number(out, "tandem_workers_lost_total", "counter", "FFN workers that were lost.", number_of(root, "workers_lost"));
        put_number(out, "tandem_experts_moved_total", "counter", "Experts that were given to another worker.", number_of(root, "experts_moved"));
        put_workers(out, workers, "tandem_worker_up", "gauge", "1 when the worker takes work.", NULL, 1);
        put_workers(out, workers, "tandem_worker_rows_total", "counter", "Rows that the worker computed.", "rows", 1);
        put_workers(out, workers, "tandem_worker_bytes_out_total", "counter", "Bytes sent to it.", "bytes_out", 1);
        put_workers(out, workers, "tandem_worker_bytes_in_total", "counter", "Bytes received from it.", "bytes_in", 1);
        put_workers(out, workers, "tandem_worker_lost_total", "counter", "How often it was lost.", "lost", 1);
        put_workers(out, workers, "tandem_worker_late_total", "counter", "Answers that came too late to be used alone.", "late", 1);
        put_workers(out, workers, "tandem_worker_bad_frames_total", "counter", "Frames that could not be read.", "bad_frames", 1);
        put_workers(out, workers, "tandem_worker_in_flight", "gauge", "Messages that wait for its answer.", "in_air", 1);
        put_workers(out, workers, "tandem_worker_experts_placed", "gauge", "Pairs of layer and expert that it computes.", "experts_placed", 1);
        put_workers(out, workers, "tandem_worker_ping_seconds", "gauge", "Moving mean of its pings.", "round_trip_us", 1e-6);
        put_parts(out, workers);
        put_trips(out, workers);
        put_experts(out, layers);
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
