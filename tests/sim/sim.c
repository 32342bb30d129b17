/* sim.c - see sim.h. */
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS ((int64_t)1000000)

/* ---- events ------------------------------------------------------------------------------------------------------------------------------ */

static bool before(const sim_event *a, const sim_event *b) { return a->at != b->at ? a->at < b->at : a->order < b->order; }

static void push(sim *w, sim_event event)
{
    if (w->event_count == SIM_EVENTS_MAX) {
        fprintf(stderr, "sim: too many events\n");
        abort();
    }
    event.order = w->order++;
    int i = w->event_count++;
    while (i > 0 && before(&event, &w->events[(i - 1) / 2])) {
        w->events[i] = w->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->events[i] = event;
}

static sim_event pop(sim *w)
{
    sim_event first = w->events[0], last = w->events[--w->event_count];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= w->event_count) break;
        if (child + 1 < w->event_count && before(&w->events[child + 1], &w->events[child])) child++;
        if (!before(&w->events[child], &last)) break;
        w->events[i] = w->events[child];
        i = child;
    }
    w->events[i] = last;
    return first;
}

static bool chance(sim *w, double p) { return p > 0 && td_random_next_unit(&w->random) < p; }

/* ---- the transport ------------------------------------------------------------------------------------------------------------------------ */

static int64_t delay_of(sim *w, const sim_node *from)
{
    int64_t delay = td_random_between(&w->random, w->weather.delay_min, w->weather.delay_max) + from->slow;
    if (chance(w, w->weather.long_delay)) delay += td_random_between(&w->random, 0, 300 * MS);
    return delay;
}

static sim_node *other_end(sim *w, int conn, const sim_node *node) { return &w->nodes[w->conns[conn].a == node->index ? w->conns[conn].b : w->conns[conn].a]; }
static bool *open_flag(sim *w, int conn, const sim_node *node) { return w->conns[conn].a == node->index ? &w->conns[conn].open_a : &w->conns[conn].open_b; }

static td_status sim_listen(td_transport *t, const char *address) { return (void)t, (void)address, TD_OK; }

static td_status sim_connect(td_transport *t, const char *address, int *conn)
{
    sim_node *node = (sim_node *)t;
    sim *w = node->world;
    int to = 0;
    while (to < SIM_NODES_MAX && !(w->nodes[to].used && !strcmp(w->nodes[to].address, address))) to++;
    if (to == SIM_NODES_MAX) return td_fail(TD_E_NOT_FOUND, "sim: nobody is called %s", address);
    if (w->conn_count == SIM_CONNS_MAX) {
        fprintf(stderr, "sim: too many connections\n");
        abort();
    }
    int id = w->conn_count++;
    int64_t delay = delay_of(w, node);
    w->conns[id] = (sim_conn){.used = true, .a = node->index, .b = to, .open_a = true, .last_ab = w->now + delay};
    *conn = id;
    if (w->nodes[to].alive) {
        w->conns[id].open_b = true;
        push(w, (sim_event){.at = w->now + delay, .kind = SIM_ACCEPT, .conn = id, .to = to});
    } else {
        push(w, (sim_event){.at = w->now + 2 * delay, .kind = SIM_CLOSED, .conn = id, .to = node->index, .why = "connection refused"});
    }
    return TD_OK;
}

/* An offer that the other side can tell from anything else: the connection's number and a mark. */
static size_t sim_offer(td_transport *t, int conn, uint8_t *out, size_t room)
{
    int64_t offer[2] = {conn, 0x5AFE};
    (void)t;
    if (room < sizeof offer) return 0;
    memcpy(out, offer, sizeof offer);
    return sizeof offer;
}

static td_status sim_join(td_transport *t, int conn, const uint8_t *offer, size_t bytes)
{
    int64_t wanted[2] = {conn, 0x5AFE};
    (void)t;
    return bytes == sizeof wanted && !memcmp(offer, wanted, sizeof wanted) ? TD_OK : td_fail(TD_E_FORMAT, "an offer that nobody made");
}

static void send_copy(sim *w, sim_node *from, int conn, const uint8_t *data, size_t bytes)
{
    sim_conn *c = &w->conns[conn];
    sim_node *to = other_end(w, conn, from);
    int64_t *last = c->a == from->index ? &c->last_ab : &c->last_ba, at = w->now + delay_of(w, from);
    if (!chance(w, w->weather.overtake)) at = TD_MAX(at, *last + 1);
    *last = TD_MAX(*last, at);
    uint8_t *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, data, bytes);
    if (from->garbage)
        for (size_t i = 0; i < bytes; i++) copy[i] = (uint8_t)td_random_next(&w->random);
    if (bytes && chance(w, w->weather.corrupt)) copy[td_random_between(&w->random, 0, (int64_t)bytes - 1)] ^= (uint8_t)(1u << td_random_between(&w->random, 0, 7));
    push(w, (sim_event){.at = at, .kind = SIM_FRAME, .conn = conn, .to = to->index, .data = copy, .bytes = bytes});
}

static bool sim_send(td_transport *t, int conn, const void *data, size_t bytes, void *buffer)
{
    sim_node *node = (sim_node *)t;
    sim *w = node->world;
    if (conn < 0 || conn >= w->conn_count || !*open_flag(w, conn, node)) return false;
    if (!chance(w, w->weather.drop) && !node->cut && !other_end(w, conn, node)->cut) {
        send_copy(w, node, conn, data, bytes);
        if (chance(w, w->weather.twice)) send_copy(w, node, conn, data, bytes);
    }
    if (node->base.events.sent) node->base.events.sent(node->base.events.user, buffer);
    return true;
}

static void close_end(sim *w, int conn, sim_node *node, const char *why)
{
    bool *open = open_flag(w, conn, node);
    if (!*open) return;
    *open = false;
    sim_node *other = other_end(w, conn, node);
    if (!node->cut && !other->cut) push(w, (sim_event){.at = w->now + delay_of(w, node) + 5 * MS, .kind = SIM_CLOSED, .conn = conn, .to = other->index, .why = why});
}

static void sim_hang_up(td_transport *t, int conn)
{
    sim_node *node = (sim_node *)t;
    if (conn >= 0) close_end(node->world, conn, node, "the other side hung up");
}

static bool sim_progress(td_transport *t) { return (void)t, false; }
static int64_t sim_now(const td_transport *t) { return ((const sim_node *)t)->world->now; }
static void sim_rest(td_transport *t, int64_t ns) { (void)t, (void)ns; }
static void sim_describe(td_transport *t, int conn, char *out, size_t room) { (void)t, (void)conn, snprintf(out, room, "virtual"); }
static void sim_quiesce(td_transport *t) { (void)t; }
static void sim_close_transport(td_transport *t) { (void)t; }

static const td_transport_ops ops = {sim_listen, sim_connect, sim_offer, sim_join, sim_send, sim_hang_up, sim_progress, sim_now, sim_rest, sim_describe, sim_quiesce, sim_close_transport};

/* ---- the world ------------------------------------------------------------------------------------------------------------------------------ */

sim *sim_open(uint64_t seed)
{
    sim *w = calloc(1, sizeof *w);
    w->events = malloc(SIM_EVENTS_MAX * sizeof *w->events);
    w->random = (td_random){.seed = seed};
    w->now = 1000 * MS;
    return w;
}

void sim_close(sim *w)
{
    for (int i = 0; i < w->event_count; i++) free(w->events[i].data);
    free(w->events);
    free(w);
}

sim_node *sim_add(sim *w, const char *address, int64_t (*step)(void *user), void *user)
{
    int i = 0;
    while (i < SIM_NODES_MAX && w->nodes[i].used) i++;
    if (i == SIM_NODES_MAX) abort();
    sim_node *node = &w->nodes[i];
    *node = (sim_node){.base = {.ops = &ops}, .world = w, .index = i, .used = true, .alive = true, .step = step, .user = user, .wake_at = w->now};
    snprintf(node->address, sizeof node->address, "%s", address);
    return node;
}

void sim_kill(sim_node *node)
{
    sim *w = node->world;
    node->alive = false;
    node->step = NULL;
    node->base.events = (td_transport_events){0};
    for (int i = 0; i < w->conn_count; i++)
        if (w->conns[i].a == node->index || w->conns[i].b == node->index) close_end(w, i, node, "connection reset by remote peer");
}

void sim_revive(sim_node *node, int64_t (*step)(void *user), void *user)
{
    node->alive = true;
    node->stopped = node->cut = node->garbage = false;
    node->slow = 0;
    node->step = step;
    node->user = user;
    node->wake_at = node->world->now;
}

static void deliver(sim *w, sim_event *event)
{
    sim_node *node = &w->nodes[event->to];
    const td_transport_events *e = &node->base.events;
    bool *open = open_flag(w, event->conn, node);
    if (!node->alive || !e->user || !*open) {
        if (event->kind == SIM_ACCEPT) close_end(w, event->conn, node, "connection refused");
        return;
    }
    w->delivered++;
    w->trace = td_mix64(w->trace ^ (uint64_t)w->now ^ (uint64_t)event->kind << 60 ^ (uint64_t)event->to << 50 ^ event->bytes);
    if (event->kind == SIM_ACCEPT) {
        char name[48];
        snprintf(name, sizeof name, "%s#%d", w->nodes[w->conns[event->conn].a].address, event->conn);
        e->accepted(e->user, event->conn, name);
    } else if (event->kind == SIM_FRAME) {
        e->frame(e->user, event->conn, event->data, event->bytes);
    } else {
        *open = false;
        e->closed(e->user, event->conn, event->why);
    }
    node->wake_at = w->now;
}

void sim_run(sim *w, int64_t until, const bool *stop)
{
    while (!*stop) {
        sim_node *next = NULL;
        for (int i = 0; i < SIM_NODES_MAX; i++) {
            sim_node *node = &w->nodes[i];
            if (node->used && node->alive && !node->stopped && node->step && (!next || node->wake_at < next->wake_at)) next = node;
        }
        int64_t node_at = next ? TD_MAX(next->wake_at, w->now) : INT64_MAX, event_at = w->event_count ? w->events[0].at : INT64_MAX;
        int64_t at = TD_MIN(node_at, event_at);
        if (at > until) {
            w->now = TD_MAX(w->now, until); /* a node may have let time pass itself */
            return;
        }
        w->now = TD_MAX(w->now, at);
        if (node_at <= event_at) {
            int64_t again = next->step(next->user);
            if (next->step) next->wake_at = TD_MAX(again, w->now + 1000); /* a state machine that asks for now gets the next microsecond */
            continue;
        }
        sim_event event = pop(w);
        if (w->nodes[event.to].stopped && w->nodes[event.to].alive) { /* its kernel keeps the bytes until it runs again */
            event.at = w->now + 10 * MS;
            push(w, event);
            continue;
        }
        deliver(w, &event);
        free(event.data);
    }
}
