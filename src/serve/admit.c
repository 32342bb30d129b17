/*
 * admit.c - the bounded queue in front of the engine, fair between clients: whoever has the fewest completions running is next, then whoever waits
 * longest in the ring. A client is an API key, or an address, with the request's "user". The engine gets at most requests_max at a time, so its own queue
 * stays short and a late client does not stand behind an early one's hundred requests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/serve.h"

static td_client *find_client(td_server *server, const char *key)
{
    td_client **link = &server->clients;
    for (; *link; link = &(*link)->next)
        if (!strcmp((*link)->key, key)) return *link;
    td_client *client = calloc(1, sizeof *client);
    if (!client) return NULL;
    snprintf(client->key, sizeof client->key, "%s", key);
    *link = client;
    return client;
}

static void forget_if_idle(td_server *server, td_client *client)
{
    if (client->waiting || client->running) return;
    for (td_client **link = &server->clients; *link; link = &(*link)->next)
        if (*link == client) {
            *link = client->next;
            free(client);
            return;
        }
}

td_status td_admit_queue(td_exchange *x)
{
    td_server *server = x->server;
    td_status status = TD_OK;
    x->slot = td_wake_slot_get(x);
    pthread_mutex_lock(&server->admit_lock);
    td_client *client = x->slot ? find_client(server, x->client_key) : NULL;
    if (!client) status = td_fail(TD_E_MEMORY, "queue: no memory");
    else if (server->waiting + x->choice_count > server->options.queue_max + (server->running < server->options.requests_max ? server->options.requests_max - server->running : 0)) {
        status = td_fail(TD_E_FULL, "queue: %d completions are running and %d wait; at most %d may wait, try again later", server->running, server->waiting, server->options.queue_max);
        atomic_fetch_add(&server->metrics.refused_queue, 1);
        forget_if_idle(server, client);
    } else {
        for (int i = 0; i < x->choice_count; i++) {
            td_choice *c = &x->choices[i];
            c->client = client;
            c->queued_ns = td_now_ns();
            td_choice **link = &client->first;
            while (*link) link = &(*link)->next;
            *link = c;
        }
        client->waiting += x->choice_count;
        server->waiting += x->choice_count;
        x->submitted = true;
    }
    pthread_mutex_unlock(&server->admit_lock);
    return status;
}

/* Takes the next choice out of the queue: of the clients with the fewest running, the one nearest the front; that client then goes to the end. */
static td_choice *take_next(td_server *server)
{
    td_client **best = NULL;
    for (td_client **link = &server->clients; *link; link = &(*link)->next)
        if ((*link)->waiting && (!best || (*link)->running < (*best)->running)) best = link;
    if (!best) return NULL;
    td_client *client = *best;
    td_choice *c = client->first;
    client->first = c->next;
    c->next = NULL;
    client->waiting--;
    client->running++;
    server->waiting--;
    server->running++;
    *best = client->next;
    client->next = NULL;
    td_client **end = &server->clients;
    while (*end) end = &(*end)->next;
    *end = client;
    return c;
}

static void take_slot(td_server *server, td_choice *c)
{
    c->slot = -1;
    for (int i = 0; i < server->options.requests_max; i++)
        if (!server->slots[i]) {
            server->slots[i] = c;
            c->slot = i;
            return;
        }
}

static void leave(td_server *server, td_choice *c)
{
    if (c->slot >= 0) server->slots[c->slot] = NULL;
    c->slot = -1;
    c->counted = false;
    c->client->running--;
    forget_if_idle(server, c->client);
    c->client = NULL;
}

static void submit(td_server *server, td_choice *c)
{
    td_request_options options;
    td_request *request = NULL;
    td_choice_options(c, &options, c->exchange->ask.stops);
    c->counted = true;
    c->admitted_ns = td_now_ns();
    take_slot(server, c);
    td_status status = td_request_submit(server->engine, &options, &request);
    if (status < 0) {
        c->status = status;
        snprintf(c->message, sizeof c->message, "%s", td_error());
        leave(server, c);
        server->running--;
        atomic_store(&c->failed, true);
    } else {
        atomic_store(&c->request, request);
    }
    td_exchange_wake(c->exchange); /* an event may have come before the request was stored */
}

void td_admit_pump(td_server *server)
{
    pthread_mutex_lock(&server->admit_lock);
    while (server->running < server->options.requests_max) {
        td_choice *c = take_next(server);
        if (!c) break;
        submit(server, c);
    }
    pthread_mutex_unlock(&server->admit_lock);
}

void td_admit_remove(td_exchange *x)
{
    td_server *server = x->server;
    pthread_mutex_lock(&server->admit_lock);
    for (int i = 0; i < x->choice_count; i++) {
        td_choice *c = &x->choices[i];
        if (!c->client || c->counted) continue;
        for (td_choice **link = &c->client->first; *link; link = &(*link)->next)
            if (*link == c) {
                *link = c->next;
                break;
            }
        c->client->waiting--;
        server->waiting--;
        forget_if_idle(server, c->client);
        c->client = NULL;
    }
    pthread_mutex_unlock(&server->admit_lock);
}

/* The choice gives its slot back; whoever frees the request also lowers `running`. */
void td_admit_done(td_choice *c)
{
    td_server *server = c->exchange->server;
    pthread_mutex_lock(&server->admit_lock);
    if (c->counted) leave(server, c);
    pthread_mutex_unlock(&server->admit_lock);
}

void td_admit_slots_json(td_server *server, td_buffer *out)
{
    int64_t now = td_now_ns();
    pthread_mutex_lock(&server->admit_lock);
    td_buffer_text(out, "[");
    for (int i = 0; i < server->options.requests_max; i++) {
        const td_choice *c = server->slots[i];
        td_buffer_format(out, "%s{\"id\":%d,\"is_processing\":%s", i ? "," : "", i, c ? "true" : "false");
        if (c) {
            double seconds = (double)(now - (c->first_ns ? c->first_ns : now)) * 1e-9;
            td_buffer_format(out, ",\"request_id\":\"%s\",\"choice\":%d,\"endpoint\":\"%s\",\"state\":\"%s\",\"n_prompt_tokens\":%zu,\"n_decoded\":%lld,\"seconds\":%.3f,\"tokens_per_second\":%.2f",
                             c->exchange->id, c->index, c->exchange->shape->name, c->first_ns ? "decoding" : "prompt", c->prompt->count, (long long)c->generated_tokens,
                             (double)(now - c->admitted_ns) * 1e-9, seconds > 0 ? (double)c->generated_tokens / seconds : 0.0);
        }
        td_buffer_text(out, "}");
    }
    td_buffer_text(out, "]");
    pthread_mutex_unlock(&server->admit_lock);
}
