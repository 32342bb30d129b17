/*
 * http.c - the HTTP library's side, in its one thread: routing, framing, bodies, answers, SSE. A request is refused as early as possible: unknown
 * path, missing key and oversized bodies before the body is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/serve.h"

enum { STREAM_BLOCK_BYTES = 16 << 10, PREFLIGHT_BYTES_MAX = 2048 /* browsers name some twenty headers */ };

/* ---- answers --------------------------------------------------------------------------------------------------------------------------------------------- */

static void add_headers(td_exchange *x, struct MHD_Response *response, const char *type)
{
    char number[16];
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Request-Id", x->id);
    if (td_serve_anthropic(x) || MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "anthropic-version")) MHD_add_response_header(response, "request-id", x->id); /* the name that its packages read */
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (x->server->options.cors_origin) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", x->server->options.cors_origin);
        MHD_add_response_header(response, "Access-Control-Expose-Headers", "X-Request-Id, request-id, Retry-After");
        if (strcmp(x->server->options.cors_origin, "*")) MHD_add_response_header(response, "Vary", "Origin");
    }
    if (x->retry_after_s) {
        snprintf(number, sizeof number, "%d", x->retry_after_s);
        MHD_add_response_header(response, "Retry-After", number);
    }
    if (x->route && x->route->quick == td_answer_page) /* the page talks to this server only, and text never becomes code */
        MHD_add_response_header(response, "Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    if (x->http == 415) MHD_add_response_header(response, "Accept-Encoding", "identity");
    if (x->http == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (x->allow[0]) MHD_add_response_header(response, "Allow", x->allow);
}

static enum MHD_Result send_response(td_exchange *x, struct MHD_Response *response)
{
    if (!response) return MHD_NO;
    int http = x->http ? x->http : 200;
    atomic_fetch_add(&x->server->metrics.responses[http < TD_STATUS_CLASSES ? http : 500], 1);
    enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)http, response);
    MHD_destroy_response(response);
    pthread_mutex_lock(&x->wake_lock);
    x->phase = TD_PHASE_SENT;
    pthread_mutex_unlock(&x->wake_lock);
    return result;
}

/* Sends x->out, or the error that was set. */
static enum MHD_Result send_answer(td_exchange *x)
{
    if (x->http >= 400) td_metrics_error(&x->server->metrics, x->code);
    if (x->http >= 400 && !x->out.bytes) td_serve_error_body(x, x->http, x->code, x->param, x->message, &x->out);
    if (x->out.failed) {
        static const char body[] = "{\"error\":{\"message\":\"no memory for the answer\",\"type\":\"server_error\",\"param\":null,\"code\":\"out_of_memory\"}}";
        x->http = 503;
        struct MHD_Response *response = MHD_create_response_from_buffer(sizeof body - 1, (void *)(uintptr_t)body, MHD_RESPMEM_PERSISTENT);
        if (response) add_headers(x, response, "application/json");
        return send_response(x, response);
    }
    bool error = x->http >= 400;
    struct MHD_Response *response = MHD_create_response_from_buffer(x->out.bytes, x->out.data ? x->out.data : (char *)(uintptr_t) "", x->out.bytes ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    x->out = (td_buffer){0};
    add_headers(x, response, !error && x->route && x->route->type ? x->route->type : "application/json");
    return send_response(x, response);
}

static const td_fault shutting_down = {503, "shutting_down", "the server is shutting down"};

/* MHD wants bytes of a stream. */
static ssize_t read_stream(void *cls, uint64_t position, char *buffer, size_t room)
{
    td_exchange *x = cls;
    (void)position;
    for (;;) {
        if (x->out_sent < x->out.bytes) {
            size_t n = TD_MIN(room, x->out.bytes - x->out_sent);
            memcpy(buffer, x->out.data + x->out_sent, n);
            x->out_sent += n;
            atomic_store(&x->last_sent_ns, td_now_ns());
            return (ssize_t)n;
        }
        x->out_sent = 0;
        if (x->out.failed || atomic_load(&x->gone)) return MHD_CONTENT_READER_END_WITH_ERROR;
        td_buffer_clear(&x->out);
        if (x->stream_over) return MHD_CONTENT_READER_END_OF_STREAM;
        pthread_mutex_lock(&x->wake_lock);
        x->ready = false;
        pthread_mutex_unlock(&x->wake_lock);
        td_generate_pump(x);
        if (!x->stream_over && atomic_load(&x->server->phase) == TD_SERVER_ENDING) {
            td_generate_fault(x, &shutting_down);
        }
        if (atomic_exchange(&x->ping, false) && !x->out.bytes && !x->stream_over) {
            td_buffer_text(&x->out, ": keep-alive\n\n");
            atomic_fetch_add(&x->server->metrics.stream_keep_alives, 1);
        }
        if (!x->out.bytes && !x->stream_over && td_exchange_sleep(x)) return 0;
    }
}

static enum MHD_Result send_stream(td_exchange *x)
{
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, x, NULL);
    if (!response) return MHD_NO;
    x->streaming = true;
    add_headers(x, response, "text/event-stream; charset=utf-8");
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    MHD_add_response_header(response, "X-Accel-Buffering", "no");
    return send_response(x, response);
}

/* A whole answer: takes events until every choice ended, then formats once. */
static enum MHD_Result collect(td_exchange *x)
{
    for (;;) {
        pthread_mutex_lock(&x->wake_lock);
        x->ready = false;
        pthread_mutex_unlock(&x->wake_lock);
        td_generate_pump(x);
        for (int i = 0; i < x->choice_count; i++) {
            td_choice *c = &x->choices[i];
            if (!c->finished || (c->finish != TD_FINISH_ERROR && c->finish != TD_FINISH_CANCELLED)) continue;
            td_fault fault = td_choice_fault(c);
            if (fault.http == 429 || fault.http == 503) x->retry_after_s = 1;
            td_serve_refuse(x, fault.http, fault.code, NULL, "%s", fault.message);
            td_generate_abandon(x);
            return send_answer(x);
        }
        if (x->choices_finished == x->choice_count) {
            x->shape->whole(x);
            return send_answer(x);
        }
        if (atomic_load(&x->gone)) return MHD_NO;
        if (atomic_load(&x->server->phase) == TD_SERVER_ENDING) {
            td_serve_refuse(x, shutting_down.http, shutting_down.code, NULL, "%s", shutting_down.message);
            td_generate_abandon(x);
            return send_answer(x);
        }
        if (td_exchange_sleep(x)) return MHD_YES;
    }
}

/* ---- requests ---------------------------------------------------------------------------------------------------------------------------------------------- */

static int count_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    (void)value;
    int *counts = cls;
    if (!strcasecmp(key, "Content-Length")) counts[0]++;
    if (!strcasecmp(key, "Transfer-Encoding")) counts[1] += strcasecmp(value ? value : "", "chunked") ? 2 : 1;
    if (!strcasecmp(key, "Host")) counts[2]++;
    return MHD_YES;
}

/* How long the body is must have one meaning, for us and for any proxy before us. */
static td_status check_framing(td_exchange *x)
{
    int counts[3] = {0};
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, (MHD_KeyValueIterator)(void (*)(void))count_header, counts);
    if (counts[0] > 1 || counts[1] > 1 || (counts[0] && counts[1]) || counts[2] > 1)
        return td_serve_refuse(x, 400, "invalid_framing", NULL, "headers: expected one Content-Length, or Transfer-Encoding: chunked, and one Host, found several or others");
    const char *length = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Content-Length");
    if (length && strspn(length, "0123456789") != strlen(length)) return td_serve_refuse(x, 400, "invalid_framing", NULL, "Content-Length: expected digits");
    /* A client that is already sending would not see an early answer: what is only somewhat too large is read, thrown away and then refused. */
    uint64_t limit = x->server->options.body_bytes_max;
    if (!MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Expect")) limit *= 4;
    if (length && (strlen(length) > 18 || strtoull(length, NULL, 10) > limit))
        return td_serve_refuse(x, 413, "body_too_large", NULL, "body: expected at most %llu bytes, found %.20s", (unsigned long long)x->server->options.body_bytes_max, length);
    return TD_OK;
}

/* A route that ends with {name} takes any rest of the path. */
static bool path_is(td_exchange *x, const char *path, const char *url)
{
    const char *open = strchr(path, '{');
    if (!open) return !strcmp(path, url);
    size_t fixed = (size_t)(open - path);
    if (strncmp(path, url, fixed) || !url[fixed]) return false;
    snprintf(x->path_rest, sizeof x->path_rest, "%s", url + fixed);
    return true;
}

static td_status find_route(td_exchange *x, const char *url, const char *method)
{
    bool path_known = false;
    if (!strcmp(method, "HEAD")) method = "GET";
    for (const td_route *r = td_routes; r->path; r++) {
        if (!path_is(x, r->path, url)) continue;
        if (!strcmp(r->method, method)) x->route = r;
        path_known = true;
        snprintf(x->allow, sizeof x->allow, "%s, OPTIONS", r->method);
    }
    if (x->route) {
        x->allow[0] = 0;
        if (x->route->shape) td_serve_random_id(x->id, sizeof x->id, x->route->shape->id_prefix);
        return TD_OK;
    }
    if (path_known) return td_serve_refuse(x, 405, "method_not_allowed", NULL, "%.80s: expected %s, found %.20s", url, x->allow, method);
    return td_serve_refuse(x, 404, "not_found", NULL, "%.200s: there is no such path", url);
}

static td_status check_request(td_exchange *x, const char *url, const char *method)
{
    TD_TRY(check_framing(x));
    TD_TRY(find_route(x, url, method));
    if (!x->route->open && !td_key_accepted(x)) return td_serve_refuse(x, 401, "invalid_api_key", NULL, "Authorization: expected \"Bearer\" and a valid API key");
    td_server_phase phase = atomic_load(&x->server->phase);
    if (!x->route->while_loading && phase == TD_SERVER_LOADING) {
        x->retry_after_s = 2;
        return td_serve_refuse(x, 503, "loading", NULL, "the model is still loading");
    }
    if (!x->route->quick && phase != TD_SERVER_READY) {
        x->retry_after_s = 5;
        return td_serve_refuse(x, 503, "shutting_down", NULL, "the server is shutting down");
    }
    return TD_OK;
}

/* What a page's request may carry: the headers that it asks for (clients add their own, as x-stainless-os), when they are a list of names; else those that this server reads. */
static const char *allowed_headers(const td_exchange *x)
{
    static const char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", between[] = ", \t";
    const char *asked = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Access-Control-Request-Headers");
    size_t length = asked ? strnlen(asked, PREFLIGHT_BYTES_MAX + 1) : 0, i = 0;
    while (i < length && (strchr(names, asked[i]) || strchr(between, asked[i]))) i++;
    bool named = length && length <= PREFLIGHT_BYTES_MAX && i == length && strspn(asked, between) < length;
    return named ? asked : "Authorization, Content-Type, x-api-key, anthropic-version, anthropic-beta";
}

/* CORS preflight: answered only when an origin was allowed by option. */
static enum MHD_Result send_preflight(td_exchange *x)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    x->http = 204;
    snprintf(x->allow, sizeof x->allow, "GET, POST, OPTIONS");
    add_headers(x, response, "text/plain");
    if (x->server->options.cors_origin) {
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        MHD_add_response_header(response, "Access-Control-Allow-Headers", allowed_headers(x));
        MHD_add_response_header(response, "Vary", "Access-Control-Request-Headers");
        MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    }
    return send_response(x, response);
}

/* False: far beyond the limit, the connection is closed. */
static bool take_body(td_exchange *x, const char *data, size_t bytes)
{
    uint64_t limit = x->server->options.body_bytes_max;
    x->body_bytes += bytes;
    if (x->body_bytes > limit) td_buffer_free(&x->body);
    else td_buffer_put(&x->body, data, bytes);
    return x->body_bytes <= 4 * limit;
}

/* A body is read as it comes: one that is compressed would only be called no JSON (RFC 9110, 8.4). Asked when it is complete: a client that is sending would not see the answer. */
static td_status check_coding(td_exchange *x)
{
    const char *coding = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Content-Encoding");
    if (!coding || !*coding || !strcasecmp(coding, "identity")) return TD_OK;
    return td_serve_refuse(x, 415, "unsupported_encoding", NULL, "Content-Encoding: expected identity, which is all that is supported, found \"%.40s\"", coding);
}

/* The body is complete. */
static enum MHD_Result act(td_exchange *x)
{
    if (x->route->quick) {
        if (x->route->quick(x) < 0 && !x->http) td_serve_refuse_status(x, TD_E_INTERNAL, NULL);
        return send_answer(x);
    }
    if (x->body_bytes > x->server->options.body_bytes_max || x->body.failed) {
        td_serve_refuse(x, 413, "body_too_large", NULL, "body: expected at most %llu bytes, found more", (unsigned long long)x->server->options.body_bytes_max);
        return send_answer(x);
    }
    if (check_coding(x) < 0) return send_answer(x);
    td_watch_add(x);
    pthread_mutex_lock(&x->wake_lock);
    x->phase = TD_PHASE_WORK;
    bool pushed = td_jobs_push(x->server, x);
    if (pushed) { /* the worker's hand-back waits for wake_lock */
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->wake_lock);
    if (pushed) return MHD_YES;
    td_serve_refuse(x, 503, "shutting_down", NULL, "the server is shutting down");
    return send_answer(x);
}

/* Woken by an event or by the watcher before the worker was done: sleeps again. */
static bool wait_for_worker(td_exchange *x)
{
    pthread_mutex_lock(&x->wake_lock);
    bool waits = x->phase == TD_PHASE_WORK;
    if (waits) {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->wake_lock);
    return waits;
}

static enum MHD_Result go_on(td_exchange *x)
{
    switch (td_exchange_phase(x)) {
    case TD_PHASE_BODY: return act(x);
    case TD_PHASE_WORK: return wait_for_worker(x) ? MHD_YES : go_on(x);
    case TD_PHASE_ANSWER: return send_answer(x);
    case TD_PHASE_GENERATE: return x->ask.stream ? send_stream(x) : collect(x);
    default: return MHD_YES;
    }
}

enum MHD_Result td_on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *data, size_t *bytes, void **state)
{
    td_exchange *x = *state;
    (void)version;
    if (!x) {
        x = td_exchange_open(cls, connection);
        if (!x) return MHD_NO;
        *state = x;
        if (!strcmp(method, "OPTIONS") && check_framing(x) == TD_OK) return send_preflight(x);
        x->http = 0;
        return check_request(x, url, method) < 0 ? send_answer(x) : MHD_YES;
    }
    if (*bytes) {
        bool goes_on = take_body(x, data, *bytes);
        *bytes = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    return go_on(x);
}

void td_on_completed(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    td_exchange *x = *state;
    td_server *server = cls;
    (void)connection;
    if (!x) return;
    *state = NULL;
    double seconds = td_seconds_since(x->started_ns);
    bool left = code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (left && x->submitted) atomic_fetch_add(&server->metrics.disconnects, 1);
    if (x->submitted) td_histogram_add(&server->metrics.request, seconds);
    td_log(x->submitted || x->http >= 400 ? TD_LOG_INFO : TD_LOG_DEBUG, "serve", "request id=%s client=%s path=%s status=%d ms=%.1f prompt_tokens=%lld generated_tokens=%lld completions=%d end=%s", x->id, x->peer,
           x->route ? x->route->path : "?", x->http ? x->http : 200, seconds * 1e3, (long long)(x->submitted ? td_usage_prompt(x, NULL) : 0), (long long)(x->submitted ? td_usage_generated(x, NULL) : 0),
           x->choice_count, left ? "disconnect" : x->log_finish ? x->log_finish : "ok");
    td_exchange_close(x);
}

void td_on_connection(void *cls, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
    td_server *server = cls;
    (void)connection;
    (void)socket_context;
    atomic_fetch_add(&server->connections, code == MHD_CONNECTION_NOTIFY_STARTED ? 1 : -1);
}

