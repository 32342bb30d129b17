/*
 * crew.c - all workers together: the list of them, whose events the transport brings, the timers of a step, opening and closing. See crew.h. One worker is in peer.c, control clients in
 * visitor.c, tickets in flight.c, sentences and JSON in report.c.
 */
#include "link/crew.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { BIG_BUFFERS = 24, SMALL_BUFFERS = 96, SMALL_PAYLOAD = TD_HELLO_BYTES + TD_OFFER_BYTES_MAX };
#define GAP_MIN (25 * TD_MS)

void td_crew_due(td_crew *crew)
{
    crew->due = true;
    crew->wake = TD_MIN(crew->wake, td_crew_now(crew));
}

int64_t td_crew_now(const td_crew *crew) { return crew->options.transport->ops->now(crew->options.transport); }

/* Who may get work. */
void td_crew_refresh(td_crew *crew)
{
    crew->view.usable = 0;
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        const td_peer *peer = &crew->peers[i];
        crew->view.hello[i] = &peer->hello;
        if (peer->state == TD_PEER_READY && !peer->leave) crew->view.usable |= (uint64_t)1 << i;
    }
}

/* ---- sending ------------------------------------------------------------------------------------------------------------------------------------ */

bool td_crew_send(td_crew *crew, int index, td_outbox *box, uint8_t *room, const td_frame *frame)
{
    td_peer *peer = &crew->peers[index];
    td_transport *t = crew->options.transport;
    size_t bytes;
    const uint8_t *data = td_session_seal(&peer->session, room, frame, &bytes);
    peer->stats.bytes_out += bytes;
    crew->stats.bytes_out += bytes;
    if (t->ops->send(t, peer->conn, data, bytes, room)) return true;
    td_outbox_give(box, room);
    return false;
}

/* Handshake frames are finished already and not sealed. */
bool td_crew_send_plain(td_crew *crew, int conn, const uint8_t *data, size_t bytes)
{
    td_transport *t = crew->options.transport;
    uint8_t *room = td_outbox_take(&crew->small);
    if (!room) return false;
    memcpy(room, data, bytes);
    if (t->ops->send(t, conn, room, bytes, room)) return true;
    td_outbox_give(&crew->small, room);
    return false;
}

/* ---- events of the transport --------------------------------------------------------------------------------------------------------------------- */

static void on_accepted(void *user, int conn, const char *name) { td_visit_begin(user, conn, name); }

static void on_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    td_crew *crew = user;
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used && crew->visitors[i].conn == conn) {
            td_visit_frame(crew, &crew->visitors[i], data, bytes);
            return;
        }
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE && crew->peers[i].conn == conn) {
            td_peer_take(crew, i, data, bytes);
            return;
        }
}

static void on_closed(void *user, int conn, const char *why)
{
    td_crew *crew = user;
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used && crew->visitors[i].conn == conn) td_visit_end(crew, &crew->visitors[i], false);
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE && crew->peers[i].conn == conn) {
            char greeting[200];
            snprintf(greeting, sizeof greeting, "%.100s during the greeting (has it as many clients as it takes, --clients?)", why);
            td_peer_lose(crew, i, false, crew->peers[i].state == TD_PEER_GREETING && strstr(why, "closed") ? greeting : why);
        }
}

static void on_sent(void *user, void *buffer)
{
    td_crew *crew = user;
    if (td_outbox_owns(&crew->big, buffer)) td_outbox_give(&crew->big, buffer);
    else if (td_outbox_owns(&crew->small, buffer)) td_outbox_give(&crew->small, buffer);
}

/* ---- timers ------------------------------------------------------------------------------------------------------------------------------------- */

static void rebalance(td_crew *crew, int64_t now, int64_t *wake)
{
    if (crew->options.rebalance_every < 0 || __builtin_popcountll(crew->view.usable) < 2) return;
    if (now >= crew->rebalance_at) {
        double least = 0;
        for (int i = 0; i < TD_PEERS_MAX; i++)
            if (crew->view.usable >> i & 1 && crew->peers[i].base > 0 && (least == 0 || crew->peers[i].base < least)) least = crew->peers[i].base;
        for (int i = 0; i < TD_PEERS_MAX; i++) crew->view.cost[i] = least > 0 && crew->peers[i].base > 0 ? TD_MIN(crew->peers[i].base / least, 16.0) : 1;
        int moves = td_placement_rebalance(&crew->placement, &crew->view);
        if (moves) td_log(TD_LOG_DEBUG, "link", "placement: %d experts moved (%llu so far)", moves, (unsigned long long)crew->placement.moves);
        crew->rebalance_at = now + crew->options.rebalance_every;
    }
    *wake = TD_MIN(*wake, crew->rebalance_at);
}

/* Nobody stepped for long, though a step was wanted earlier: this process was stopped or starved, so nobody could be heard, and no ticket could end. */
static void forgive_gap(td_crew *crew, int64_t now)
{
    int64_t gap = now - TD_MAX(crew->last_step, crew->wake);
    if (!crew->last_step || now - crew->last_step <= crew->options.silence_min / 2 || gap < GAP_MIN) return;
    crew->blind_until = now;
    for (int i = 0; i < TD_MICRO_BATCHES_MAX; i++) {
        td_ticket *ticket = &crew->tickets[i];
        if (ticket->state != TD_TICKET_OPEN) continue;
        ticket->opened_at = TD_MIN(ticket->opened_at + gap, now);
        if (ticket->stuck_at) ticket->stuck_at = TD_MIN(ticket->stuck_at + gap, now);
    }
}

/* Nobody listened while this process computed: that time is no worker's silence. Only that time, so that one that hangs is still noticed while every step computes. */
static void forgive_computing(td_crew *crew, int64_t begin, int64_t end)
{
    if (end - begin <= crew->options.silence_min / 2) return;
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state == TD_PEER_READY || crew->peers[i].state == TD_PEER_LEAVING) crew->peers[i].heard_at += end - begin;
}

int64_t td_crew_step(td_crew *crew, bool may_compute)
{
    int64_t now = td_crew_now(crew), wake = now + 1000 * TD_MS;
    if (crew->in_step) return now;
    crew->in_step = true;
    crew->due = false;
    forgive_gap(crew, now);
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE) td_peer_tend(crew, i, now, &wake);
    td_visits_tend(crew, now);
    td_flights_step(crew, may_compute, &wake);
    rebalance(crew, now, &wake);
    crew->last_step = td_crew_now(crew);
    forgive_computing(crew, now, crew->last_step);
    crew->wake = crew->due ? crew->last_step : wake;
    crew->in_step = false;
    return wake;
}

/* ---- the list of workers ------------------------------------------------------------------------------------------------------------------------- */

static int find_peer(const td_crew *crew, const char *address)
{
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE && !strcmp(crew->peers[i].address, address)) return i;
    return -1;
}

td_status td_crew_add(td_crew *crew, const char *address)
{
    if (!address[0] || strlen(address) >= TD_ADDRESS_MAX || !strchr(address, ':')) return td_fail(TD_E_INVALID, "worker: expected HOST:PORT, found '%s'", address);
    int index = find_peer(crew, address);
    if (index >= 0) {
        if (!crew->peers[index].leave) return td_fail(TD_E_INVALID, "worker %s is on the list already", address);
        crew->peers[index].leave = false;
        td_crew_due(crew);
        td_crew_refresh(crew);
        return TD_OK;
    }
    for (index = 0; index < TD_PEERS_MAX && crew->peers[index].state != TD_PEER_FREE; index++) {}
    if (index == TD_PEERS_MAX) return td_fail(TD_E_FULL, "worker %s: the list is full (%d workers)", address, TD_PEERS_MAX);
    td_peer *peer = &crew->peers[index];
    *peer = (td_peer){.conn = -1};
    snprintf(peer->address, sizeof peer->address, "%s", address);
    td_peer_set(crew, peer, TD_PEER_AWAY);
    return TD_OK;
}

td_status td_crew_drain(td_crew *crew, const char *address)
{
    int index = find_peer(crew, address), layer, expert;
    if (index < 0) return td_fail(TD_E_NOT_FOUND, "worker %s is not on the list", address);
    td_peer *peer = &crew->peers[index];
    uint64_t others = crew->view.usable & ~((uint64_t)1 << index);
    if (peer->state == TD_PEER_READY && !crew->options.local && td_placement_gap(&crew->placement, &crew->view, others, &layer, &expert)) {
        if (expert == crew->shape.experts) return td_fail(TD_E_INVALID, "worker %s cannot be drained: nobody else has layer %d", address, layer);
        return td_fail(TD_E_INVALID, "worker %s cannot be drained: nobody else has expert %d of layer %d", address, expert, layer);
    }
    peer->leave = true;
    td_crew_due(crew);
    if (peer->state != TD_PEER_READY && peer->state != TD_PEER_LEAVING) {
        if (peer->conn >= 0) crew->options.transport->ops->hang_up(crew->options.transport, peer->conn);
        td_peer_forget(crew, peer);
        return TD_OK;
    }
    td_crew_refresh(crew);
    td_placement_rebuild(&crew->placement, &crew->view);
    crew->epoch++;
    td_log(TD_LOG_INFO, "link", "worker %s is being drained", address);
    return TD_OK;
}

td_status td_crew_command(td_crew *crew, const char *command)
{
    if (!strncmp(command, "add ", 4)) return td_crew_add(crew, command + 4);
    if (!strncmp(command, "drain ", 6)) return td_crew_drain(crew, command + 6);
    return td_fail(TD_E_INVALID, "workers: expected 'add HOST:PORT' or 'drain HOST:PORT', found '%s'", command);
}

td_status td_crew_refusal(const td_crew *crew)
{
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state == TD_PEER_REFUSED) return td_fail(TD_E_PEER, "worker %s: %s", crew->peers[i].address, crew->peers[i].why);
    return TD_OK;
}

td_status td_crew_covered(const td_crew *crew)
{
    int layer, expert;
    if (crew->options.local || !td_placement_gap(&crew->placement, &crew->view, crew->view.usable, &layer, &expert)) return TD_OK;
    char trouble[512] = "";
    size_t n = 0;
    for (int i = 0; i < TD_PEERS_MAX && n < sizeof trouble - 1; i++)
        if (crew->peers[i].state != TD_PEER_FREE && crew->peers[i].state != TD_PEER_READY)
            n += (size_t)snprintf(trouble + n, sizeof trouble - n, "; %s: %s", crew->peers[i].address, crew->peers[i].why[0] ? crew->peers[i].why : "not there yet");
    if (expert == crew->shape.experts) return td_fail(TD_E_PEER, "no worker has layer %d%s", layer, trouble);
    return td_fail(TD_E_PEER, "no worker has expert %d of layer %d%s", expert, layer, trouble);
}

bool td_crew_all_ready(const td_crew *crew)
{
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE && crew->peers[i].state != TD_PEER_READY) return false;
    return true;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------------ */

static void defaults(td_crew_options *o)
{
    if (!o->frame_bytes_max) o->frame_bytes_max = 1 << 20;
    if (!o->silence_min) o->silence_min = 300 * TD_MS;
    if (!o->silence_max) o->silence_max = 2000 * TD_MS;
    if (!o->late_min) o->late_min = 20 * TD_MS;
    if (!o->patience) o->patience = 30000 * TD_MS;
    if (!o->rebalance_every) o->rebalance_every = 50 * TD_MS;
}

static td_status reserve(td_crew *crew)
{
    const td_crew_options *o = &crew->options;
    TD_TRY(td_outbox_reserve(&crew->big, BIG_BUFFERS, TD_MAX(o->frame_bytes_max, (size_t)TD_TEXT_BYTES_MAX), &crew->arena));
    TD_TRY(td_outbox_reserve(&crew->small, SMALL_BUFFERS, SMALL_PAYLOAD, &crew->arena));
    TD_TRY(td_placement_reserve(&crew->placement, &crew->shape, &crew->arena));
    crew->scratch = td_arena_get(&crew->arena, crew->big.each);
    crew->layers = TD_NEW(&crew->arena, td_layer_stats, (size_t)crew->shape.layers);
    if (!crew->scratch || !crew->layers) return TD_E_MEMORY;
    if (o->local) {
        size_t row_most = (size_t)crew->shape.d_model * 4 * ((size_t)crew->shape.top_k + 1) + TD_ANSWER_INFO;
        crew->local_submit = td_arena_get(&crew->arena, o->frame_bytes_max + row_most);
        crew->local_answer = td_arena_get(&crew->arena, o->frame_bytes_max + row_most);
        if (!crew->local_submit || !crew->local_answer) return TD_E_MEMORY;
        TD_TRY(td_work_reserve(&crew->local_work, &crew->shape, o->rows_max, &crew->arena));
        TD_TRY(td_desk_reserve(&crew->desk, &crew->shape, o->kernel, *o->local, o->rows_max, &crew->arena));
    }
    return td_tickets_reserve(crew);
}

td_status td_crew_open(const td_crew_options *options, td_crew **out)
{
    const td_shape *s = options->shape;
    if (s->top_k > TD_WIRE_SLOTS_MAX) return td_fail(TD_E_UNSUPPORTED, "workers: at most %d experts per token can be sent, the model uses %d", TD_WIRE_SLOTS_MAX, s->top_k);
    if (s->d_model % 2) return td_fail(TD_E_UNSUPPORTED, "workers: expected an even width, found %d", s->d_model);
    if (sodium_init() < 0) return td_fail(TD_E_INTERNAL, "link: libsodium did not start");
    td_crew *crew = calloc(1, sizeof *crew);
    if (!crew) return td_fail(TD_E_MEMORY, "link: no memory");
    crew->options = *options;
    crew->shape = *s;
    crew->arena.name = "link";
    defaults(&crew->options);
    randombytes_buf(&crew->instance, sizeof crew->instance);
    for (int i = 0; i < TD_PEERS_MAX; i++) crew->view.cost[i] = 1;
    td_crew_refresh(crew);
    td_status status = reserve(crew);
    if (status < 0) {
        td_arena_free(&crew->arena);
        free(crew);
        return status;
    }
    crew->options.transport->events = (td_transport_events){crew, on_accepted, on_frame, on_closed, on_sent};
    *out = crew;
    return TD_OK;
}

void td_crew_close(td_crew *crew)
{
    if (!crew) return;
    td_transport *t = crew->options.transport;
    for (int i = 0; i < TD_PEERS_MAX; i++) td_peer_goodbye(crew, i);
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used) td_visit_end(crew, &crew->visitors[i], true);
    t->ops->quiesce(t);
    t->events = (td_transport_events){0};
    td_arena_free(&crew->arena);
    free(crew);
}
