/*
 * fuzz_answer.c - a request and what a model said to it: the first byte chooses the route, then the body up to a NUL, then the text. Everything runs but sockets and the engine: fields, prompts,
 * tools, grammars, reasoning and calls out of the text, and the answer. Whatever came in, an answer is JSON and a stream is events of JSON, a refusal says why. The model is tests/serve/fake_engine.c.
 */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "serve/serve.h"

static td_server *open_server(void)
{
    static td_server server = {.name = "fake", .epoll_fd = -1};
    if (server.model) return &server;
    td_model_options options = {0};
    if (td_model_open("fake", &options, &server.model) < 0) abort();
    td_log_level(TD_LOG_ERROR);
    server.info = td_model_get_info(server.model);
    server.context_max = server.info->context_max;
    server.arena.name = "server";
    if (td_splitter_prepare(&server) < 0) abort();
    return &server;
}

/* A token may be the byte 0: an escaped NUL is JSON, but nothing that td_body_check takes from clients. */
static void must_be_json(char *text, size_t bytes)
{
    for (char *nul = text; bytes && (nul = memmem(nul, bytes - (size_t)(nul - text), "\\u0000", 6)); nul += 6) nul[5] = '1';
    if (td_body_check(text, bytes) == TD_OK) return;
    fprintf(stderr, "not JSON: %s: %.*s\n", td_error(), (int)bytes, text);
    abort();
}

/* "event: NAME" and comments may stand between; every "data: " is JSON or [DONE]. */
static void must_be_events(char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t line = end ? (size_t)(end - text) - at : bytes - at;
        if (line > 6 && !memcmp(text + at, "data: ", 6) && !(line == 12 && !memcmp(text + at + 6, "[DONE]", 6))) must_be_json(text + at + 6, line - 6);
        at += line + 1;
    }
}

/* The engine gives whole characters only. */
static void make_valid(char *text, size_t bytes)
{
    for (size_t i = 0, length; i < bytes; i += length) {
        length = td_utf8_length(text + i, bytes - i);
        if (!length || !text[i]) text[i] = '?', length = 1;
    }
}

static void say(td_choice *c, const char *text, size_t bytes)
{
    size_t step = 1 + bytes / 40;
    for (size_t at = 0, take; at < bytes; at += take) {
        take = TD_MIN(step, bytes - at);
        while (at + take < bytes && ((unsigned char)text[at + take] & 0xC0) == 0x80) take++;
        td_splitter_put(c, text + at, take);
    }
    td_splitter_end(c);
    c->finished = true;
    c->finish = TD_FINISH_EOS;
    c->stop = -1;
    c->generated_tokens = (int64_t)bytes;
}

static void answer(td_exchange *x, const char *text, size_t bytes)
{
    const td_shape *shape = x->shape;
    atomic_store(&x->streaming, x->ask.stream);
    if (x->ask.stream) shape->open(x);
    for (int i = 0; i < x->choice_count; i++) {
        say(&x->choices[i], text, bytes);
        if (x->ask.stream) shape->end_choice(&x->choices[i]);
    }
    if (x->ask.stream) shape->close(x);
    else shape->whole(x);
    if (x->out.failed) return;
    if (x->ask.stream) must_be_events(x->out.data, x->out.bytes);
    else must_be_json(x->out.data, x->out.bytes);
}

static const td_route *choose(unsigned number)
{
    int count = 0;
    const td_route *posts[32];
    for (const td_route *r = td_routes; r->path; r++)
        if (!r->quick && count < 32) posts[count++] = r;
    return posts[number % (unsigned)count];
}

static void run(td_exchange *x, const char *text, size_t bytes)
{
    td_status status = x->route->work ? x->route->work(x) : (x->shape = x->route->shape)->prepare(x);
    if (status < 0 && !x->http) td_serve_refuse_status(x, status, NULL);
    if (status < 0) {
        if (!x->message[0] || x->http < 400 || x->http >= 500) { /* a client's fault, and the sentence says which */
            fprintf(stderr, "refused with %d: %s\n", x->http, x->message);
            abort();
        }
        td_buffer_clear(&x->out);
        td_serve_error_body(x, x->http, x->code, x->param, x->message, &x->out);
        must_be_json(x->out.data, x->out.bytes);
    } else if (x->route->work) {
        must_be_json(x->out.data, x->out.bytes);
    } else if (x->shape->piece) {
        answer(x, text, bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 1) return 0;
    const uint8_t *end = memchr(data + 1, 0, bytes - 1);
    size_t body = end ? (size_t)(end - data) - 1 : bytes - 1, said = end ? bytes - body - 2 : 0;
    char *text = malloc(said + 1);
    td_exchange *x = calloc(1, sizeof *x);
    if (!x || !text) return 0;
    if (said) memcpy(text, end + 1, said);
    make_valid(text, said);
    x->server = open_server();
    x->route = choose(data[0]);
    x->arena.name = "request";
    x->fd = -1;
    pthread_mutex_init(&x->wake_lock, NULL);
    memcpy(x->id, "req_1", 6);
    if (td_body_parse((const char *)data + 1, body, &x->json) == TD_OK && cJSON_IsObject(x->json)) run(x, text, said);
    td_exchange_close(x);
    free(text);
    return 0;
}
