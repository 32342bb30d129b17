/*
 * peer.c - a worker as attention sees it: connecting, hello, heartbeats, loss, leaving, refusal. Its flights are in flight.c; see crew.h.
 */
#include "link/crew.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define BACKOFF_MIN (50 * TD_MS)
#define BACKOFF_MAX (2000 * TD_MS)
#define REFUSED_AGAIN (2000 * TD_MS)
#define PING_MIN (25 * TD_MS)

void td_peer_set(td_crew *crew, td_peer *peer, td_peer_state state)
{
    peer->state = state;
    peer->since = td_crew_now(crew);
    td_crew_due(crew);
    td_crew_refresh(crew);
}

/* A small frame; false when no buffer is free (the caller tries again later or does without). */
static bool send_small(td_crew *crew, int index, const td_frame *frame)
{
    uint8_t *room = td_outbox_take(&crew->small);
    if (!room) return false;
    if (frame->payload_bytes) memcpy(td_outbox_payload(room), frame->payload, frame->payload_bytes);
    return td_crew_send(crew, index, &crew->small, room, frame);
}

/* ---- losing a worker ----------------------------------------------------------------------------------------------------------------------------- */

void td_peer_forget(td_crew *crew, td_peer *peer)
{
    *peer = (td_peer){.state = TD_PEER_FREE};
    td_crew_refresh(crew);
}

/* The connection ended or is ended here. Open flights of the peer die; unless it was told to leave it is tried again. */
void td_peer_lose(td_crew *crew, int index, bool hang_up, const char *why)
{
    td_peer *peer = &crew->peers[index];
    bool worked = peer->state == TD_PEER_READY || peer->state == TD_PEER_LEAVING, left = peer->leave, expected = left || peer->state == TD_PEER_LEAVING;
    td_transport *t = crew->options.transport;
    if (hang_up) t->ops->hang_up(t, peer->conn);
    snprintf(peer->why, sizeof peer->why, "%s", why);
    int64_t now = td_crew_now(crew);
    if (worked && now - peer->since > 5000 * TD_MS) peer->backoff = 0;
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
    td_peer_set(crew, peer, TD_PEER_AWAY);
    if (worked) {
        crew->epoch++;
        td_flights_lose(crew, index);
    }
    if (left) td_peer_forget(crew, peer);
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
    td_peer_set(crew, peer, TD_PEER_REFUSED);
}

/* ---- connecting ---------------------------------------------------------------------------------------------------------------------------------- */

static void start_connecting(td_crew *crew, int index)
{
    td_peer *peer = &crew->peers[index];
    td_transport *t = crew->options.transport;
    uint8_t greeting[TD_HANDSHAKE_FRAME];
    if (t->ops->connect(t, peer->address, &peer->conn) < 0) {
        peer->conn = -1;
        td_peer_lose(crew, index, false, td_error());
        return;
    }
    td_peer_set(crew, peer, TD_PEER_GREETING); /* why it was away or refused stays said until its hello */
    size_t bytes = td_session_greet(&peer->session, crew->options.encrypt, greeting);
    if (!td_crew_send_plain(crew, peer->conn, greeting, bytes)) td_peer_lose(crew, index, true, "no buffer for a greeting");
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
    if (!send_small(crew, index, &frame)) td_peer_lose(crew, index, true, "no buffer for hello");
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
        td_peer_lose(crew, index, true, td_error());
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
        td_peer_lose(crew, index, true, td_error());
        return;
    }
    say_hello(crew, index); /* by the lanes already, so that nothing overtakes it */
    if (peer->state != TD_PEER_GREETING) return;
    peer->heard_at = td_crew_now(crew); /* opening lanes takes its time: no silence of the worker */
    td_peer_set(crew, peer, TD_PEER_READY);
    crew->epoch++;
    if (!same) td_placement_rebuild(&crew->placement, &crew->view);
    crew->options.transport->ops->describe(crew->options.transport, peer->conn, lanes, sizeof lanes);
    td_log(TD_LOG_INFO, "link", "worker %s is ready: %s (%s)%s, lanes %s", peer->address, hello.shape.name, hello.shape.dtype, peer->session.encrypt ? ", encrypted" : "", lanes);
}

/* ---- frames ------------------------------------------------------------------------------------------------------------------------------------- */

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
            td_peer_set(crew, peer, TD_PEER_LEAVING);
            snprintf(peer->why, sizeof peer->why, "it is leaving");
            td_log(TD_LOG_INFO, "link", "worker %s is leaving", peer->address);
        }
        break;
    case TD_FRAME_ERROR:
        td_frame_text(frame, text, sizeof text);
        if (peer->state == TD_PEER_GREETING) refuse_peer(crew, index, text);
        else td_peer_lose(crew, index, true, text);
        break;
    default:
        td_peer_lose(crew, index, true, "it sent a frame that workers do not send");
    }
}

/* What came by its connection. */
void td_peer_take(td_crew *crew, int index, const uint8_t *data, size_t bytes)
{
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
        else td_peer_lose(crew, index, true, why);
        return;
    }
    if (back_bytes && !td_crew_send_plain(crew, peer->conn, back, back_bytes)) td_peer_lose(crew, index, true, "no buffer for the handshake");
    else if (what == TD_TAKE_FRAME) take_frame(crew, index, &frame);
}

/* ---- timers ------------------------------------------------------------------------------------------------------------------------------------- */

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
        snprintf(why, sizeof why, "nothing heard for %lld ms", (long long)((now - peer->heard_at) / TD_MS));
        td_peer_lose(crew, index, true, why);
        return;
    }
    if (peer->leave && peer->in_air == 0) {
        td_frame bye = {.kind = TD_FRAME_DRAIN};
        send_small(crew, index, &bye);
        td_peer_lose(crew, index, true, "drained");
        return;
    }
    if (now >= peer->ping_at) {
        td_frame ping = {.kind = TD_FRAME_PING, .epoch = crew->epoch, .peer = (uint16_t)index, .stamp_ns = (uint64_t)now};
        if (send_small(crew, index, &ping)) peer->asked = (uint64_t)now;
        peer->ping_at = now + every;
    }
    *wake = TD_MIN(*wake, TD_MIN(peer->ping_at, heard + silence + 1));
}

void td_peer_tend(td_crew *crew, int index, int64_t now, int64_t *wake)
{
    td_peer *peer = &crew->peers[index];
    switch (peer->state) {
    case TD_PEER_AWAY:
    case TD_PEER_REFUSED:
        if (now >= peer->retry_at) start_connecting(crew, index);
        else *wake = TD_MIN(*wake, peer->retry_at);
        break;
    case TD_PEER_GREETING:
        if (now - peer->since > TD_HANDSHAKE_TIME) td_peer_lose(crew, index, true, peer->session.state == TD_SESSION_OPEN ? "it has the secret, but says nothing as workers do: is this an attention side's control address?" : "it did not answer the greeting");
        else *wake = TD_MIN(*wake, peer->since + TD_HANDSHAKE_TIME + 1);
        break;
    case TD_PEER_READY:
    case TD_PEER_LEAVING: tend_ready(crew, index, now, wake); break;
    default: break;
    }
}

void td_peer_goodbye(td_crew *crew, int index)
{
    td_peer *peer = &crew->peers[index];
    td_transport *t = crew->options.transport;
    if (peer->state == TD_PEER_FREE || peer->conn < 0) return;
    td_frame bye = {.kind = TD_FRAME_DRAIN};
    if (peer->session.state == TD_SESSION_OPEN) send_small(crew, index, &bye);
    t->ops->hang_up(t, peer->conn);
}
