/*
 * crew.c - workers as peers: connecting, hello, heartbeats, loss, leaving; control visitors. See crew.h. Tickets are in flight.c, sentences and JSON in report.c.
 */
#include "link/crew.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define MS ((int64_t)1000000)

enum { BIG_BUFFERS = 24, SMALL_BUFFERS = 96, SMALL_PAYLOAD = TD_HELLO_BYTES + TD_OFFER_BYTES_MAX, WORK_FACTOR = 8 };
#define HANDSHAKE_MAX (3000 * MS)
#define BACKOFF_MIN (50 * MS)
#define BACKOFF_MAX (2000 * MS)
#define REFUSED_AGAIN (2000 * MS)
#define PING_MIN (25 * MS)
#define VISIT_MAX (30000 * MS)

void td_crew_due(td_crew *crew)
{
    crew->due = true;
    crew->wake = TD_MIN(crew->wake, td_crew_now(crew));
}

int64_t td_crew_now(const td_crew *crew) { return crew->options.transport->ops->now(crew->options.transport); }

/* ---- who may get work ----------------------------------------------------------------------------------------------------------------- */

static void refresh_view(td_crew *crew)
{
    crew->view.usable = 0;
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        const td_peer *peer = &crew->peers[i];
        crew->view.hello[i] = &peer->hello;
        if (peer->state == TD_PEER_READY && !peer->leave) crew->view.usable |= (uint64_t)1 << i;
    }
}

static void set_state(td_crew *crew, td_peer *peer, td_peer_state state)
{
    peer->state = state;
    peer->since = td_crew_now(crew);
    td_crew_due(crew);
    refresh_view(crew);
}

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

/* A small frame; false when no buffer is free (the caller tries again later or does without). */
static bool send_small(td_crew *crew, int index, const td_frame *frame)
{
    uint8_t *room = td_outbox_take(&crew->small);
    if (!room) return false;
    if (frame->payload_bytes) memcpy(td_outbox_payload(room), frame->payload, frame->payload_bytes);
    return td_crew_send(crew, index, &crew->small, room, frame);
}

/* Handshake frames are finished already and not sealed. */
static bool send_plain(td_crew *crew, int conn, const uint8_t *data, size_t bytes)
{
    td_transport *t = crew->options.transport;
    uint8_t *room = td_outbox_take(&crew->small);
    if (!room) return false;
    memcpy(room, data, bytes);
    if (t->ops->send(t, conn, room, bytes, room)) return true;
    td_outbox_give(&crew->small, room);
    return false;
}

/* ---- losing a worker ------------------------------------------------------------------------------------------------------------------ */

static void forget_peer(td_crew *crew, td_peer *peer)
{
    *peer = (td_peer){.state = TD_PEER_FREE};
    refresh_view(crew);
}

/* The connection ended or is ended here. Open flights of the peer die; unless it was told to leave it is tried again. */
static void lose_peer(td_crew *crew, int index, bool hang_up, const char *why)
{
    td_peer *peer = &crew->peers[index];
    bool worked = peer->state == TD_PEER_READY || peer->state == TD_PEER_LEAVING, left = peer->leave, expected = left || peer->state == TD_PEER_LEAVING;
    td_transport *t = crew->options.transport;
    if (hang_up) t->ops->hang_up(t, peer->conn);
    snprintf(peer->why, sizeof peer->why, "%s", why);
    int64_t now = td_crew_now(crew);
    if (worked && now - peer->since > 5000 * MS) peer->backoff = 0;
    bool wanted = false; /* tickets wait for somebody to come back: look more often */
    for (int i = 0; i < TD_MICRO_BATCHES_MAX; i++) wanted |= crew->tickets[i].state == TD_TICKET_OPEN && crew->tickets[i].stuck_at != 0;
    peer->backoff = peer->backoff ? TD_MIN(peer->backoff * 2, wanted ? 2 * BACKOFF_MIN : BACKOFF_MAX) : BACKOFF_MIN;
    peer->retry_at = now + peer->backoff;
    peer->in_air = 0;
    peer->conn = -1;
    if (worked && !expected) {
        peer->stats.lost++;
        crew->stats.workers_lost++;
        td_log(TD_LOG_WARN, "link", "worker %s is lost: %s", peer->address, why);
    } else {
        if (strstr(why, "no buffer")) td_log(TD_LOG_WARN, "link", "worker %s: %s", peer->address, why);
        td_log(expected ? TD_LOG_INFO : TD_LOG_DEBUG, "link", "worker %s: %s", peer->address, why);
    }
    set_state(crew, peer, TD_PEER_AWAY);
    if (worked) {
        crew->epoch++;
        td_flights_lose(crew, index);
    }
    if (left) forget_peer(crew, peer);
}

static void refuse_peer(td_crew *crew, int index, const char *why)
{
    td_peer *peer = &crew->peers[index];
    td_transport *t = crew->options.transport;
    t->ops->hang_up(t, peer->conn);
    snprintf(peer->why, sizeof peer->why, "%s", why);
    peer->conn = -1;
    peer->retry_at = td_crew_now(crew) + REFUSED_AGAIN; /* it may be restarted with the right model */
    td_log(TD_LOG_WARN, "link", "worker %s is refused: %s", peer->address, why);
    set_state(crew, peer, TD_PEER_REFUSED);
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------------------ */

static void start_connecting(td_crew *crew, int index)
{
    td_peer *peer = &crew->peers[index];
    td_transport *t = crew->options.transport;
    uint8_t greeting[TD_HANDSHAKE_FRAME];
    if (t->ops->connect(t, peer->address, &peer->conn) < 0) {
        peer->conn = -1;
        lose_peer(crew, index, false, td_error());
        return;
    }
    bool refused = peer->state == TD_PEER_REFUSED;
    set_state(crew, peer, TD_PEER_GREETING);
    if (!refused) peer->why[0] = 0;
    size_t bytes = td_session_greet(&peer->session, crew->options.encrypt, greeting);
    if (!send_plain(crew, peer->conn, greeting, bytes)) lose_peer(crew, index, true, "no buffer for a greeting");
}

static td_hello own_hello(const td_crew *crew)
{
    td_hello hello = {.shape = crew->shape, .role = TD_ROLE_ATTENTION, .frame_bytes_max = (uint32_t)crew->options.frame_bytes_max, .instance = crew->instance};
    snprintf(hello.version, sizeof hello.version, "%s", TD_VERSION);
    return hello;
}

static void say_hello(td_crew *crew, int index)
{
    uint8_t payload[TD_HELLO_BYTES + TD_OFFER_BYTES_MAX];
    td_transport *t = crew->options.transport;
    td_hello hello = own_hello(crew);
    td_hello_put(payload, &hello);
    size_t offer = t->ops->offer(t, crew->peers[index].conn, payload + TD_HELLO_BYTES, TD_OFFER_BYTES_MAX);
    td_frame frame = {.kind = TD_FRAME_HELLO, .payload = payload, .payload_bytes = TD_HELLO_BYTES + offer};
    if (!send_small(crew, index, &frame)) lose_peer(crew, index, true, "no buffer for hello");
}

/* Both models side by side; an empty sentence when they fit. */
static void compare_models(const td_crew *crew, const td_hello *theirs, char *why, size_t room)
{
    const td_shape *a = &crew->shape, *b = &theirs->shape;
    why[0] = 0;
    if (theirs->role != TD_ROLE_WORKER) snprintf(why, room, "expected a worker there, found another attention instance");
    else if (a->fingerprint != b->fingerprint || a->layers != b->layers || a->d_model != b->d_model || a->experts != b->experts || a->top_k != b->top_k || a->shared != b->shared)
        snprintf(why, room, "this side has %s (%s, fingerprint %016llx, %d layers, width %d, %d experts), the worker has %s (%s, fingerprint %016llx, %d layers, width %d, %d experts)", a->name,
                 a->dtype, (unsigned long long)a->fingerprint, a->layers, a->d_model, a->experts, b->name, b->dtype, (unsigned long long)b->fingerprint, b->layers, b->d_model, b->experts);
    else if (strcmp(a->dtype, b->dtype) != 0) snprintf(why, room, "this side has %s as %s, the worker as %s", a->name, a->dtype, b->dtype);
    else if (theirs->frame_bytes_max < crew->row_most || theirs->credits == 0 || theirs->credits > 4096 || theirs->rows_max == 0 || theirs->rows_max > 1 << 20)
        snprintf(why, room, "the worker offers frames of %u bytes (one row needs %zu), %u places and %u rows", theirs->frame_bytes_max, crew->row_most, theirs->credits, theirs->rows_max);
}

static void take_hello(td_crew *crew, int index, const td_frame *frame)
{
    td_peer *peer = &crew->peers[index];
    td_hello hello;
    char why[512], lanes[192];
    if (td_hello_check(frame, &hello) < 0) {
        peer->stats.bad_frames++;
        lose_peer(crew, index, true, td_error());
        return;
    }
    compare_models(crew, &hello, why, sizeof why);
    if (why[0]) {
        td_frame error = {.kind = TD_FRAME_ERROR, .payload = (const uint8_t *)why, .payload_bytes = strlen(why)};
        send_small(crew, index, &error);
        refuse_peer(crew, index, why);
        return;
    }
    bool same = peer->known && !memcmp(peer->hello.experts, hello.experts, sizeof hello.experts) && !memcmp(peer->hello.layers, hello.layers, sizeof hello.layers) &&
                !memcmp(peer->hello.preferred, hello.preferred, sizeof hello.preferred);
    peer->hello = hello;
    peer->hello.shape.is_moe = NULL;
    peer->hello.offer = NULL;
    peer->known = true;
    peer->serial = 0;
    peer->in_air = 0;
    peer->best_round = INT64_MAX;
    peer->ping_at = 0;
    peer->why[0] = 0;
    if (hello.offer_bytes && crew->options.transport->ops->join(crew->options.transport, peer->conn, hello.offer, hello.offer_bytes) < 0) {
        lose_peer(crew, index, true, td_error());
        return;
    }
    say_hello(crew, index); /* by the lanes already, so that nothing overtakes it */
    if (peer->state != TD_PEER_GREETING) return;
    peer->heard_at = td_crew_now(crew); /* opening lanes takes its time: no silence of the worker */
    set_state(crew, peer, TD_PEER_READY);
    crew->epoch++;
    if (!same) td_placement_rebuild(&crew->placement, &crew->view);
    crew->options.transport->ops->describe(crew->options.transport, peer->conn, lanes, sizeof lanes);
    td_log(TD_LOG_INFO, "link", "worker %s is ready: %s (%s)%s, lanes %s", peer->address, hello.shape.name, hello.shape.dtype, peer->session.encrypt ? ", encrypted" : "", lanes);
}

/* ---- frames ---------------------------------------------------------------------------------------------------------------------------- */

static void moving_mean(double *mean, double value) { *mean = *mean == 0 ? value : *mean + 0.2 * (value - *mean); }

static void take_pong(td_crew *crew, int index, const td_frame *frame)
{
    td_peer *peer = &crew->peers[index];
    if (frame->payload_bytes != 16) return;
    int64_t now = td_crew_now(crew), sent = (int64_t)td_get64(frame->payload), round = now - sent;
    if (round < 0) return;
    moving_mean(&peer->round, (double)round);
    if (round < peer->best_round) {
        peer->best_round = round;
        peer->offset = (int64_t)frame->stamp_ns - (sent + round / 2);
    }
    if (td_get32(frame->payload + 8) == 0) td_flights_missing(crew, index, (uint64_t)sent); /* it holds no work of ours */
}

/* Text of a frame as a sentence for logs. */
static void frame_text(const td_frame *frame, char *out, size_t room)
{
    size_t n = TD_MIN(frame->payload_bytes, room - 1);
    for (size_t i = 0; i < n; i++) out[i] = frame->payload[i] >= 0x20 && frame->payload[i] < 0x7F ? (char)frame->payload[i] : '?';
    out[n] = 0;
}

static void take_frame(td_crew *crew, int index, const td_frame *frame)
{
    td_peer *peer = &crew->peers[index];
    char text[256];
    bool ready = peer->state == TD_PEER_READY || peer->state == TD_PEER_LEAVING;
    peer->heard_at = td_crew_now(crew);
    switch (frame->kind) {
    case TD_FRAME_HELLO:
        if (peer->state == TD_PEER_GREETING) take_hello(crew, index, frame);
        break;
    case TD_FRAME_ANSWER:
        if (ready) td_flights_answer(crew, index, frame);
        break;
    case TD_FRAME_PONG:
        if (ready) take_pong(crew, index, frame);
        break;
    case TD_FRAME_DRAIN: /* the worker wants to go: it gets no new work, and hangs up when it has answered */
        if (peer->state == TD_PEER_READY) {
            set_state(crew, peer, TD_PEER_LEAVING);
            snprintf(peer->why, sizeof peer->why, "it is leaving");
            td_log(TD_LOG_INFO, "link", "worker %s is leaving", peer->address);
        }
        break;
    case TD_FRAME_ERROR:
        frame_text(frame, text, sizeof text);
        if (peer->state == TD_PEER_GREETING) refuse_peer(crew, index, text);
        else lose_peer(crew, index, true, text);
        break;
    default:
        lose_peer(crew, index, true, "it sent a frame that workers do not send");
    }
}

/* ---- visitors: control clients ---------------------------------------------------------------------------------------------------------- */

static void end_visit(td_crew *crew, td_visitor *visitor, bool hang_up)
{
    if (hang_up) crew->options.transport->ops->hang_up(crew->options.transport, visitor->conn);
    *visitor = (td_visitor){0};
}

/* Text back to a control client; it hangs up itself. */
static void reply(td_crew *crew, td_visitor *visitor, const char *text, size_t bytes, bool error)
{
    td_transport *t = crew->options.transport;
    uint8_t *room = td_outbox_take(&crew->big);
    if (!room) return;
    size_t n = TD_MIN(bytes, TD_MIN(crew->options.frame_bytes_max, (size_t)TD_TEXT_BYTES_MAX)), length;
    memcpy(td_outbox_payload(room), text, n);
    td_frame frame = {.kind = error ? TD_FRAME_ERROR : TD_FRAME_REPLY, .payload = td_outbox_payload(room), .payload_bytes = n};
    const uint8_t *data = td_session_seal(&visitor->session, room, &frame, &length);
    if (!t->ops->send(t, visitor->conn, data, length, room)) td_outbox_give(&crew->big, room);
}

static void visitor_command(td_crew *crew, td_visitor *visitor, const td_frame *frame)
{
    char text[TD_ADDRESS_MAX + 16];
    frame_text(frame, text, sizeof text);
    if (!strcmp(text, "stats")) {
        td_buffer json = {0};
        td_crew_json(crew, &json);
        if (td_buffer_status(&json) == TD_OK) reply(crew, visitor, json.data, json.bytes, false);
        else reply(crew, visitor, td_error(), strlen(td_error()), true);
        td_buffer_free(&json);
        return;
    }
    td_status status = td_crew_command(crew, text);
    if (status < 0) reply(crew, visitor, td_error(), strlen(td_error()), true);
    else reply(crew, visitor, "{\"done\":true}", 13, false);
}

static void visitor_frame(td_crew *crew, td_visitor *visitor, const uint8_t *data, size_t bytes)
{
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME];
    size_t back_bytes;
    td_status status = td_session_take(&visitor->session, &crew->options.secret, false, data, bytes, crew->scratch, crew->big.each, &what, &frame, back, &back_bytes);
    if (status < 0 || (back_bytes && !send_plain(crew, visitor->conn, back, back_bytes))) {
        td_log(TD_LOG_WARN, "link", "control: a visitor is turned away: %s", td_error());
        end_visit(crew, visitor, true);
        return;
    }
    if (what != TD_TAKE_FRAME || frame.kind == TD_FRAME_HELLO) return;
    if (frame.kind == TD_FRAME_COMMAND) visitor_command(crew, visitor, &frame);
    else end_visit(crew, visitor, true);
}

/* ---- events of the transport ------------------------------------------------------------------------------------------------------------ */

/* A free place, else that of who has been here longest without having proven the secret; NULL: all have, or had no time yet. */
static td_visitor *place_for_visitor(td_crew *crew)
{
    td_visitor *stranger = NULL;
    for (int i = 0; i < TD_VISITORS_MAX; i++) {
        td_visitor *visitor = &crew->visitors[i];
        if (!visitor->used) return visitor;
        if (visitor->session.state != TD_SESSION_OPEN && (!stranger || visitor->since < stranger->since)) stranger = visitor;
    }
    if (!stranger || td_crew_now(crew) - stranger->since < TD_STRANGER_TIME) return NULL;
    end_visit(crew, stranger, true);
    return stranger;
}

static void on_accepted(void *user, int conn, const char *name)
{
    td_crew *crew = user;
    td_visitor *visitor = place_for_visitor(crew);
    if (visitor) {
        *visitor = (td_visitor){.conn = conn, .used = true, .since = td_crew_now(crew)};
        td_session_await(&visitor->session);
        return;
    }
    td_log(TD_LOG_WARN, "link", "control: %s is turned away, %d visitors are here already", name, TD_VISITORS_MAX);
    crew->options.transport->ops->hang_up(crew->options.transport, conn);
}

static void on_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    td_crew *crew = user;
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used && crew->visitors[i].conn == conn) {
            visitor_frame(crew, &crew->visitors[i], data, bytes);
            return;
        }
    int index = 0;
    while (index < TD_PEERS_MAX && (crew->peers[index].state == TD_PEER_FREE || crew->peers[index].conn != conn)) index++;
    if (index == TD_PEERS_MAX) return;
    td_peer *peer = &crew->peers[index];
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME];
    size_t back_bytes;
    peer->stats.bytes_in += bytes;
    crew->stats.bytes_in += bytes;
    if (td_session_take(&peer->session, &crew->options.secret, false, data, bytes, crew->scratch, crew->big.each, &what, &frame, back, &back_bytes) < 0) {
        char why[256];
        snprintf(why, sizeof why, "%s", td_error());
        peer->stats.bad_frames++;
        if (strstr(why, "same secret")) refuse_peer(crew, index, why);
        else lose_peer(crew, index, true, why);
        return;
    }
    if (back_bytes && !send_plain(crew, conn, back, back_bytes)) lose_peer(crew, index, true, "no buffer for the handshake");
    else if (what == TD_TAKE_FRAME) take_frame(crew, index, &frame);
}

static void on_closed(void *user, int conn, const char *why)
{
    td_crew *crew = user;
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used && crew->visitors[i].conn == conn) end_visit(crew, &crew->visitors[i], false);
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE && crew->peers[i].conn == conn) lose_peer(crew, i, false, why);
}

static void on_sent(void *user, void *buffer)
{
    td_crew *crew = user;
    if (td_outbox_owns(&crew->big, buffer)) td_outbox_give(&crew->big, buffer);
    else if (td_outbox_owns(&crew->small, buffer)) td_outbox_give(&crew->small, buffer);
}

/* ---- timers ------------------------------------------------------------------------------------------------------------------------------ */

static int64_t silence_of(const td_crew *crew, const td_peer *peer)
{
    int64_t measured = (int64_t)(8 * peer->round);
    return TD_MIN(TD_MAX(measured, crew->options.silence_min), crew->options.silence_max);
}

static void tend_ready(td_crew *crew, int index, int64_t now, int64_t *wake)
{
    td_peer *peer = &crew->peers[index];
    int64_t silence = silence_of(crew, peer), every = TD_MAX(silence / 8, PING_MIN);
    int64_t heard = TD_MAX(peer->heard_at, crew->blind_until); /* while this process slept nobody could be heard */
    if (now - heard > silence) {
        char why[96];
        snprintf(why, sizeof why, "nothing heard for %lld ms", (long long)((now - peer->heard_at) / MS));
        lose_peer(crew, index, true, why);
        return;
    }
    if (peer->leave && peer->in_air == 0) {
        td_frame bye = {.kind = TD_FRAME_DRAIN};
        send_small(crew, index, &bye);
        lose_peer(crew, index, true, "drained");
        return;
    }
    if (now >= peer->ping_at) {
        td_frame ping = {.kind = TD_FRAME_PING, .epoch = crew->epoch, .peer = (uint16_t)index, .stamp_ns = (uint64_t)now};
        if (send_small(crew, index, &ping)) peer->asked = (uint64_t)now;
        peer->ping_at = now + every;
    }
    *wake = TD_MIN(*wake, TD_MIN(peer->ping_at, heard + silence + 1));
}

static void tend_peer(td_crew *crew, int index, int64_t now, int64_t *wake)
{
    td_peer *peer = &crew->peers[index];
    switch (peer->state) {
    case TD_PEER_AWAY:
    case TD_PEER_REFUSED:
        if (now >= peer->retry_at) start_connecting(crew, index);
        else *wake = TD_MIN(*wake, peer->retry_at);
        break;
    case TD_PEER_GREETING:
        if (now - peer->since > HANDSHAKE_MAX) lose_peer(crew, index, true, "it did not answer the greeting");
        else *wake = TD_MIN(*wake, peer->since + HANDSHAKE_MAX + 1);
        break;
    case TD_PEER_READY:
    case TD_PEER_LEAVING: tend_ready(crew, index, now, wake); break;
    default: break;
    }
}

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
    if (!crew->last_step || now - crew->last_step <= crew->options.silence_min / 2 || gap < PING_MIN) return;
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
    int64_t now = td_crew_now(crew), wake = now + 1000 * MS;
    if (crew->in_step) return now;
    crew->in_step = true;
    crew->due = false;
    forgive_gap(crew, now);
    for (int i = 0; i < TD_PEERS_MAX; i++)
        if (crew->peers[i].state != TD_PEER_FREE) tend_peer(crew, i, now, &wake);
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used && now - crew->visitors[i].since > (crew->visitors[i].session.state == TD_SESSION_OPEN ? VISIT_MAX : HANDSHAKE_MAX)) end_visit(crew, &crew->visitors[i], true);
    td_flights_step(crew, may_compute, &wake);
    rebalance(crew, now, &wake);
    crew->last_step = td_crew_now(crew);
    forgive_computing(crew, now, crew->last_step);
    crew->wake = crew->due ? crew->last_step : wake;
    crew->in_step = false;
    return wake;
}

/* ---- the list of workers ----------------------------------------------------------------------------------------------------------------- */

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
        refresh_view(crew);
        return TD_OK;
    }
    for (index = 0; index < TD_PEERS_MAX && crew->peers[index].state != TD_PEER_FREE; index++) {}
    if (index == TD_PEERS_MAX) return td_fail(TD_E_FULL, "worker %s: the list is full (%d workers)", address, TD_PEERS_MAX);
    td_peer *peer = &crew->peers[index];
    *peer = (td_peer){.conn = -1};
    snprintf(peer->address, sizeof peer->address, "%s", address);
    set_state(crew, peer, TD_PEER_AWAY);
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
        forget_peer(crew, peer);
        return TD_OK;
    }
    refresh_view(crew);
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

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------ */

static void defaults(td_crew_options *o)
{
    if (!o->frame_bytes_max) o->frame_bytes_max = 1 << 20;
    if (!o->silence_min) o->silence_min = 300 * MS;
    if (!o->silence_max) o->silence_max = 2000 * MS;
    if (!o->late_min) o->late_min = 20 * MS;
    if (!o->patience) o->patience = 30000 * MS;
    if (!o->rebalance_every) o->rebalance_every = 50 * MS;
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
    refresh_view(crew);
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
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        td_peer *peer = &crew->peers[i];
        if (peer->state == TD_PEER_FREE || peer->conn < 0) continue;
        td_frame bye = {.kind = TD_FRAME_DRAIN};
        if (peer->session.state == TD_SESSION_OPEN) send_small(crew, i, &bye);
        t->ops->hang_up(t, peer->conn);
    }
    for (int i = 0; i < TD_VISITORS_MAX; i++)
        if (crew->visitors[i].used) end_visit(crew, &crew->visitors[i], true);
    t->ops->quiesce(t);
    t->events = (td_transport_events){0};
    td_arena_free(&crew->arena);
    free(crew);
}
