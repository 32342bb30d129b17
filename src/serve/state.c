/* state.c - what the server says about itself: /health, /v1/models, /props, /slots, and /state for the web page. */
#include <stdio.h>
#include <string.h>
#include <time.h>

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

/* One object for both clients: OpenAI's members and Anthropic's (type, display_name, created_at, lifecycle). */
static void put_model(td_exchange *x)
{
    const td_server *server = x->server;
    const td_model_info *info = server->info;
    char date[32];
    struct tm utc;
    time_t started = (time_t)server->started_s;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&started, &utc));
    td_buffer_text(&x->out, "{\"id\":");
    td_body_text(&x->out, server->name);
    td_buffer_format(&x->out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"tandem\",\"max_model_len\":%d,\"type\":\"model\",\"created_at\":\"%s\",\"lifecycle\":\"active\",\"max_input_tokens\":%d,\"max_tokens\":%d,\"display_name\":",
                     (long long)server->started_s, server->context_max, date, server->context_max, server->context_max);
    td_body_text(&x->out, server->name);
    td_buffer_format(&x->out, ",\"meta\":{\"family\":\"%s\",\"format\":\"%s\",\"dtype\":\"%s\",\"n_vocab\":%d,\"n_ctx_train\":%d,\"n_embd\":%d,\"n_layer\":%d,\"n_params\":%llu,\"size\":%llu,\"experts\":%d,\"experts_per_token\":%d}}",
                     info->family ? info->family : "", info->format ? info->format : "", info->dtype ? info->dtype : "", info->vocab_size, info->context_max, info->d_model, info->layers,
                     (unsigned long long)info->parameters, (unsigned long long)info->weight_bytes, info->experts, info->experts_per_token);
}

td_status td_answer_model(td_exchange *x)
{
    if (strcmp(x->path_rest, x->server->name) && strcmp(x->path_rest, "default"))
        return td_serve_refuse(x, 404, "model_not_found", "model", "model: expected \"%s\" (or \"default\"), found \"%.120s\"", x->server->name, x->path_rest);
    put_model(x);
    return TD_OK;
}

td_status td_answer_models(td_exchange *x)
{
    const td_server *server = x->server;
    td_buffer_text(&x->out, "{\"object\":\"list\",\"data\":[");
    put_model(x);
    td_buffer_text(&x->out, "],\"has_more\":false,\"first_id\":");
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
