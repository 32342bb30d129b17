/*
 * exchange.c - one HTTP request and its answer: made when the headers are read, gone when MHD is done with it. Sleeping and waking keep one rule:
 * `ready` is cleared before looking for work and checked, under the lock, before suspending; so no notification is lost.
 */
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/serve.h"

void td_serve_random_id(char *out, size_t bytes, const char *prefix)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t n = (size_t)snprintf(out, bytes, "%s", prefix);
    for (int i = 0; i < 24 && n + 1 < bytes; i++) out[n++] = letters[randombytes_uniform(36)];
    out[n] = 0;
}

/* ---- wake slots -------------------------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static td_wake_slot *slots_free;

/* The engine may still be inside notify when td_request_free has returned, so what notify gets must never be freed. Slots are used again: a late
 * notification then wakes another exchange for nothing. Their number is bounded by the exchanges that ever generated at the same time. */
td_wake_slot *td_wake_slot_get(td_exchange *x)
{
    pthread_mutex_lock(&slots_lock);
    td_wake_slot *slot = slots_free;
    if (slot) slots_free = slot->next;
    pthread_mutex_unlock(&slots_lock);
    if (!slot) {
        slot = calloc(1, sizeof *slot);
        if (!slot) return NULL;
        pthread_mutex_init(&slot->lock, NULL);
    }
    pthread_mutex_lock(&slot->lock);
    slot->exchange = x;
    pthread_mutex_unlock(&slot->lock);
    return slot;
}

void td_wake_slot_put(td_wake_slot *slot)
{
    if (!slot) return;
    pthread_mutex_lock(&slot->lock);
    slot->exchange = NULL;
    pthread_mutex_unlock(&slot->lock);
    pthread_mutex_lock(&slots_lock);
    slot->next = slots_free;
    slots_free = slot;
    pthread_mutex_unlock(&slots_lock);
}

void td_exchange_notify(void *wake_slot)
{
    td_wake_slot *slot = wake_slot;
    pthread_mutex_lock(&slot->lock);
    if (slot->exchange) td_exchange_wake(slot->exchange);
    pthread_mutex_unlock(&slot->lock);
}

/* While a worker has the exchange its connection stays suspended, whoever calls: MHD would close it when the client left, under the worker's hands. The worker's hand-back wakes it. */
void td_exchange_wake(td_exchange *x)
{
    pthread_mutex_lock(&x->wake_lock);
    x->ready = true;
    if (x->suspended && x->phase != TD_PHASE_WORK) {
        x->suspended = false;
        MHD_resume_connection(x->connection);
    }
    pthread_mutex_unlock(&x->wake_lock);
}

void td_exchange_hand_back(td_exchange *x, td_phase phase)
{
    pthread_mutex_lock(&x->wake_lock);
    x->phase = phase;
    x->ready = true;
    if (x->suspended) {
        x->suspended = false;
        MHD_resume_connection(x->connection);
    }
    pthread_mutex_unlock(&x->wake_lock); /* now MHD's thread may end the exchange */
}

td_phase td_exchange_phase(td_exchange *x)
{
    pthread_mutex_lock(&x->wake_lock);
    td_phase phase = x->phase;
    pthread_mutex_unlock(&x->wake_lock);
    return phase;
}

bool td_exchange_sleep(td_exchange *x)
{
    pthread_mutex_lock(&x->wake_lock);
    bool sleeps = !x->ready;
    if (sleeps) {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->wake_lock);
    return sleeps;
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------------------- */

static void name_peer(td_exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    snprintf(x->peer, sizeof x->peer, "unknown");
    if (!info || !info->client_addr) return;
    socklen_t length = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(info->client_addr, length, x->peer, sizeof x->peer, NULL, 0, NI_NUMERICHOST)) snprintf(x->peer, sizeof x->peer, "unknown");
}

td_exchange *td_exchange_open(td_server *server, struct MHD_Connection *connection)
{
    td_exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->server = server;
    x->connection = connection;
    x->arena.name = "request";
    x->started_ns = td_now_ns();
    x->created_s = (int64_t)time(NULL);
    x->fd = -1;
    pthread_mutex_init(&x->wake_lock, NULL);
    td_serve_random_id(x->id, sizeof x->id, "req_");
    name_peer(x);
    snprintf(x->client_key, sizeof x->client_key, "%s", x->peer);
    return x;
}

void td_held_free(td_held *held)
{
    if (!held) return;
    free(held->sum);
    td_constrain_free(held->mask);
    free(held);
}

static void free_choice(td_choice *c)
{
    td_held_free(c->held);
    td_splitter_close(c);
    td_buffer *buffers[] = {&c->content, &c->reasoning, &c->warning, &c->logprobs, &c->tokens_json, &c->lp[0], &c->lp[1], &c->lp[2], &c->lp[3]};
    for (size_t i = 0; i < TD_COUNT(buffers); i++) td_buffer_free(buffers[i]);
    for (int i = 0; i < c->call_count; i++) {
        td_buffer_free(&c->calls[i].name);
        td_buffer_free(&c->calls[i].arguments);
    }
}

void td_exchange_close(td_exchange *x)
{
    pthread_mutex_lock(&x->wake_lock); /* a worker that handed it back a moment ago may still hold the lock */
    pthread_mutex_unlock(&x->wake_lock);
    td_watch_remove(x);
    td_generate_abandon(x);
    td_wake_slot_put(x->slot);
    if (x->shape && x->shape->forget) x->shape->forget(x);
    for (int i = 0; i < x->choice_count; i++) free_choice(&x->choices[i]);
    td_buffer_free(&x->body);
    td_buffer_free(&x->out);
    cJSON_Delete(x->json);
    cJSON_Delete(x->converted_tools);
    td_arena_free(&x->arena);
    pthread_mutex_destroy(&x->wake_lock);
    free(x);
}
