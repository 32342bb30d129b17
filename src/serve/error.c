/* error.c - what a client is told when something is wrong: an HTTP status, a code, the field, one sentence. */
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"

td_status td_serve_refuse(td_exchange *x, int http, const char *code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(x->message, sizeof x->message, format, args);
    va_end(args);
    x->http = http;
    snprintf(x->code, sizeof x->code, "%s", code ? code : "");
    snprintf(x->param, sizeof x->param, "%s", param ? param : "");
    return td_fail(TD_E_INVALID, "%s", x->message);
}

int td_serve_http_of(td_status status)
{
    switch (status) {
    case TD_OK: return 200;
    case TD_E_INVALID: case TD_E_UNSUPPORTED: case TD_E_FORMAT: return 400;
    case TD_E_NOT_FOUND: return 404;
    case TD_E_FULL: return 429;
    case TD_E_TIMEOUT: return 504;
    case TD_E_CANCELLED: case TD_E_PEER: case TD_E_MEMORY: return 503;
    default: return 500;
    }
}

static const char *code_of(td_status status)
{
    switch (status) {
    case TD_E_UNSUPPORTED: return "unsupported";
    case TD_E_NOT_FOUND: return "not_found";
    case TD_E_FULL: return "queue_full";
    case TD_E_CANCELLED: return "cancelled";
    case TD_E_TIMEOUT: return "timeout";
    case TD_E_PEER: return "ffn_worker_lost";
    case TD_E_MEMORY: return "out_of_memory";
    case TD_E_INVALID: case TD_E_FORMAT: return "invalid_value";
    default: return "internal_error";
    }
}

td_fault td_serve_fault_of(td_status status, const char *message) { return (td_fault){td_serve_http_of(status), code_of(status), message}; }

td_status td_serve_refuse_status(td_exchange *x, td_status status, const char *param)
{
    char sentence[sizeof x->message];
    snprintf(sentence, sizeof sentence, "%s", td_error());
    int http = td_serve_http_of(status);
    if (http == 429 || http == 503) x->retry_after_s = 1;
    td_serve_refuse(x, http, code_of(status), param, "%s", sentence);
    return status;
}

static const char *type_of(int http, bool anthropic)
{
    switch (http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return anthropic ? "not_found_error" : "invalid_request_error";
    case 413: return anthropic ? "request_too_large" : "invalid_request_error";
    case 429: return "rate_limit_error";
    case 503: return anthropic ? "overloaded_error" : "service_unavailable_error";
    case 504: return anthropic ? "timeout_error" : "server_error";
    default: return http >= 500 ? (anthropic ? "api_error" : "server_error") : "invalid_request_error";
    }
}

bool td_serve_anthropic(const td_exchange *x) { return x->shape ? x->shape->anthropic : x->route && !strncmp(x->route->path, "/v1/messages", 12); }

void td_serve_error_body(const td_exchange *x, int http, const char *code, const char *param, const char *message, td_buffer *out)
{
    if (td_serve_anthropic(x)) {
        td_buffer_format(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type_of(http, true));
        td_body_text(out, message);
        td_buffer_text(out, "},\"request_id\":");
        td_body_text(out, x->id);
        td_buffer_text(out, "}");
        return;
    }
    td_buffer_text(out, "{\"error\":{\"message\":");
    td_body_text(out, message);
    td_buffer_format(out, ",\"type\":\"%s\",\"param\":", type_of(http, false));
    if (param && *param) td_body_text(out, param);
    else td_buffer_text(out, "null");
    td_buffer_text(out, ",\"code\":");
    if (code && *code) td_body_text(out, code);
    else td_buffer_text(out, "null");
    td_buffer_text(out, "}}");
}
