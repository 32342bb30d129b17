/*
 * jobs.c - a few worker threads for what would hold up MHD's thread: checking and parsing bodies, templates, tokenising, and waiting for cancelled
 * requests to leave the engine. The list of jobs is bounded by the number of connections: each has at most one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "serve/serve.h"

/* Parses the body and lets the route do its work. On return the exchange has an answer or generates. */
static void do_job(td_exchange *x)
{
    char sentence[1024];
    td_status status = td_body_parse(x->body.data ? x->body.data : "", x->body.bytes, &x->json);
    if (status == TD_E_INVALID) {
        snprintf(sentence, sizeof sentence, "%s", td_error());
        td_serve_refuse(x, 400, "invalid_json", NULL, "%s", sentence);
    } else if (status < 0) td_serve_refuse_status(x, status, NULL);
    else if (!cJSON_IsObject(x->json)) status = td_serve_refuse(x, 400, "invalid_value", NULL, "body: expected a JSON object, found %s", td_body_kind(x->json));
    if (x->server->options.log_prompts) td_log(TD_LOG_INFO, "serve", "body id=%s %.900s", x->id, x->body.data ? x->body.data : "");
    td_buffer_free(&x->body);
    if (status == TD_OK) {
        x->shape = x->route->shape;
        status = x->shape ? x->shape->prepare(x) : x->route->work(x);
    }
    if (status < 0 && x->http == 0) td_serve_refuse_status(x, status, NULL);
    if (status == TD_OK && x->shape && x->choice_count) {
        status = td_admit_queue(x);
        if (status < 0) td_serve_refuse_status(x, status, NULL);
    }
    bool generates = status == TD_OK && x->shape && x->choice_count;
    if (generates) td_admit_pump(x->server);
    td_exchange_hand_back(x, generates ? TD_PHASE_GENERATE : TD_PHASE_ANSWER);
}

static void reap(td_server *server, td_reap *first)
{
    while (first) {
        td_reap *next = first->next;
        td_request_free(first->request);
        td_held_free(first->held);
        free(first);
        pthread_mutex_lock(&server->admit_lock);
        server->running--;
        pthread_mutex_unlock(&server->admit_lock);
        first = next;
    }
    td_admit_pump(server);
}

static void *work(void *arg)
{
    td_server *server = arg;
    pthread_mutex_lock(&server->job_lock);
    for (;;) {
        td_exchange *x = server->job_first;
        td_reap *dead = server->reap_first;
        if (dead) {
            server->reap_first = NULL;
            pthread_mutex_unlock(&server->job_lock);
            reap(server, dead);
        } else if (x) {
            server->job_first = x->job_next;
            if (!server->job_first) server->job_last = NULL;
            pthread_mutex_unlock(&server->job_lock);
            do_job(x);
        } else if (server->jobs_closing) {
            break;
        } else {
            pthread_cond_wait(&server->job_wake, &server->job_lock);
            continue;
        }
        pthread_mutex_lock(&server->job_lock);
    }
    pthread_mutex_unlock(&server->job_lock);
    return NULL;
}

td_status td_jobs_open(td_server *server)
{
    for (int i = 0; i < TD_WORKERS; i++) {
        if (pthread_create(&server->workers[i], NULL, work, server)) return td_fail(TD_E_IO, "serve: the system refused thread %d of %d", i + 1, TD_WORKERS);
        server->worker_count++;
    }
    return TD_OK;
}

bool td_jobs_push(td_server *server, td_exchange *x)
{
    pthread_mutex_lock(&server->job_lock);
    bool open = !server->jobs_closing;
    if (open) {
        x->job_next = NULL;
        if (server->job_last) server->job_last->job_next = x;
        else server->job_first = x;
        server->job_last = x;
        pthread_cond_signal(&server->job_wake);
    }
    pthread_mutex_unlock(&server->job_lock);
    return open;
}

/* Frees here: only when there is no worker or no memory for a list entry. */
static void reap_now(td_server *server, td_request *request, td_held *held)
{
    td_request_free(request);
    td_held_free(held);
    pthread_mutex_lock(&server->admit_lock);
    server->running--;
    pthread_mutex_unlock(&server->admit_lock);
}

void td_jobs_reap(td_server *server, td_request *request, td_held *held)
{
    td_reap *dead = malloc(sizeof *dead);
    pthread_mutex_lock(&server->job_lock);
    bool queued = dead && !server->jobs_closing;
    if (queued) {
        *dead = (td_reap){.request = request, .held = held, .next = server->reap_first};
        server->reap_first = dead;
        pthread_cond_signal(&server->job_wake);
    }
    pthread_mutex_unlock(&server->job_lock);
    if (queued) return;
    free(dead);
    reap_now(server, request, held);
}

void td_jobs_close(td_server *server)
{
    pthread_mutex_lock(&server->job_lock);
    server->jobs_closing = true;
    pthread_cond_broadcast(&server->job_wake);
    pthread_mutex_unlock(&server->job_lock);
    for (int i = 0; i < server->worker_count; i++) pthread_join(server->workers[i], NULL);
    server->worker_count = 0;
}
