/* worker.c - see worker.h. */
#include "link/worker.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define US ((int64_t)1000)

enum { SMALL_PAYLOAD = TD_HELLO_BYTES + TD_OFFER_BYTES_MAX, SMALL_BUFFERS = 96, BIG_BUFFERS = 24, BATCH_WORKS_MAX = 16 };
#define CLIENT_SILENCE (15000 * TD_MS)
#define ACTIVE (50 * TD_MS)            /* a client that submitted within this time is worth waiting for */
#define PARTS_WAIT (2 * TD_MS)         /* for the rest of a ticket that was cut into several submits */
#define GOODBYE (300 * TD_MS)

static int64_t now_of(const td_worker *w) { return w->setup.transport->ops->now(w->setup.transport); }

/* ---- sending ---------------------------------------------------------------------------------------------------------------------------- */

static void send_room(td_worker *w, td_client *client, td_outbox *box, uint8_t *room, const td_frame *frame)
{
    size_t bytes;
    const uint8_t *data = td_session_seal(&client->session, room, frame, &bytes);
    client->bytes_out += bytes;
    if (!w->setup.transport->ops->send(w->setup.transport, client->conn, data, bytes, room)) td_outbox_give(box, room);
}

static bool send_small(td_worker *w, td_client *client, const td_frame *frame)
{
    uint8_t *room = td_outbox_take(&w->small);
    if (!room) return false;
    if (frame->payload_bytes) memcpy(td_outbox_payload(room), frame->payload, frame->payload_bytes);
    send_room(w, client, &w->small, room, frame);
    return true;
}

static void send_text(td_worker *w, td_client *client, td_frame_kind kind, const char *text, size_t bytes)
{
    uint8_t *room = td_outbox_take(&w->big);
    if (!room) return;
    td_frame frame = {.kind = kind, .payload = td_outbox_payload(room), .payload_bytes = TD_MIN(bytes, (size_t)TD_TEXT_BYTES_MAX)};
    memcpy(td_outbox_payload(room), text, frame.payload_bytes);
    send_room(w, client, &w->big, room, &frame);
}

/* ---- clients ---------------------------------------------------------------------------------------------------------------------------- */

static void free_place(td_worker *w, td_place *place)
{
    if (place->state == TD_PLACE_WAITING) w->waiting--;
    place->state = TD_PLACE_FREE;
}

static void forget_client(td_worker *w, td_client *client, bool hang_up, const char *why)
{
    int index = (int)(client - w->clients);
    if (hang_up) w->setup.transport->ops->hang_up(w->setup.transport, client->conn);
    td_log(client->known ? TD_LOG_INFO : TD_LOG_DEBUG, "worker", "%s: %s", client->name, why);
    for (int i = 0; i < w->setup.places; i++)
        if (w->places[i].state == TD_PLACE_WAITING && w->places[i].client == index) free_place(w, &w->places[i]);
    *client = (td_client){.conn = -1};
}

static void say_hello(td_worker *w, td_client *client)
{
    uint8_t payload[TD_HELLO_BYTES + TD_OFFER_BYTES_MAX];
    td_transport *t = w->setup.transport;
    td_hello_put(payload, &w->hello);
    size_t offer = t->ops->offer(t, client->conn, payload + TD_HELLO_BYTES, TD_OFFER_BYTES_MAX);
    td_frame frame = {.kind = TD_FRAME_HELLO, .payload = payload, .payload_bytes = TD_HELLO_BYTES + offer};
    if (!send_small(w, client, &frame)) forget_client(w, client, true, "no buffer for hello");
    else if (w->draining) {
        td_frame bye = {.kind = TD_FRAME_DRAIN};
        send_small(w, client, &bye);
    }
}

static void take_hello(td_worker *w, td_client *client, const td_frame *frame)
{
    td_hello hello;
    const td_shape *a = w->setup.shape, *b = &hello.shape;
    if (td_hello_check(frame, &hello) < 0) {
        forget_client(w, client, true, td_error());
        return;
    }
    client->role = hello.role;
    if (hello.role == TD_ROLE_ATTENTION && (a->fingerprint != b->fingerprint || strcmp(a->dtype, b->dtype) != 0)) {
        char why[320];
        snprintf(why, sizeof why, "this worker has %s (%s, fingerprint %016llx), the other side has %s (%s, fingerprint %016llx)", a->name, a->dtype, (unsigned long long)a->fingerprint, b->name,
                 b->dtype, (unsigned long long)b->fingerprint);
        td_frame error = {.kind = TD_FRAME_ERROR, .payload = (const uint8_t *)why, .payload_bytes = strlen(why)};
        send_small(w, client, &error);
        w->refused++;
        td_log(TD_LOG_WARN, "worker", "%s is refused: %s", client->name, why);
        client->since = now_of(w) - TD_HANDSHAKE_TIME + 200 * TD_MS; /* time for the sentence to arrive, then the hang-up */
        return;
    }
    if (hello.offer_bytes && w->setup.transport->ops->join(w->setup.transport, client->conn, hello.offer, hello.offer_bytes) < 0) {
        td_log(TD_LOG_WARN, "worker", "%s: %s", client->name, td_error());
        forget_client(w, client, true, "hung up: no lanes to it");
        return;
    }
    client->known = true;
    snprintf(client->peer, sizeof client->peer, "%.79s", b->name);
    td_log(TD_LOG_INFO, "worker", "%s: %s joined%s", client->name, hello.role == TD_ROLE_ATTENTION ? "an attention instance" : "control", client->session.encrypt ? ", encrypted" : "");
}

/* False: this serial was here before, or is too old to tell. */
static bool count_serial(td_client *client, uint32_t serial)
{
    int32_t ahead = (int32_t)(serial - client->serial); /* after 2^32 submits they begin again */
    if (ahead > 0) {
        for (int32_t i = 1; i <= TD_MIN(ahead, (int32_t)TD_SERIAL_WINDOW); i++) {
            uint32_t at = (client->serial + (uint32_t)i) % TD_SERIAL_WINDOW;
            client->serials[at / 64] &= ~((uint64_t)1 << at % 64);
        }
        client->serial = serial;
    } else if (client->serial - serial >= TD_SERIAL_WINDOW) {
        return false;
    }
    uint32_t at = serial % TD_SERIAL_WINDOW;
    bool fresh = !(client->serials[at / 64] >> at % 64 & 1);
    client->serials[at / 64] |= (uint64_t)1 << at % 64;
    return fresh;
}

/* The worker can compute what the submit wants, and the answer fits the frame that its buffers have room for. */
static td_status check_mapped(const td_worker *w, const td_submit_view *view)
{
    if (!td_bit(w->hello.layers, view->layer)) return td_fail(TD_E_PEER, "submit: this worker does not have layer %d", view->layer);
    if (view->rows > (int)w->hello.rows_max) return td_fail(TD_E_PEER, "submit: expected at most %u rows, found %d", w->hello.rows_max, view->rows);
    size_t answer = TD_FRAME_HEADER + TD_ANSWER_INFO + view->answer_bytes;
    if (answer > w->setup.frame_bytes_max) return td_fail(TD_E_PEER, "submit: expected an answer of at most %zu bytes, %d rows ask for %zu", w->setup.frame_bytes_max, view->rows, answer);
    for (int i = 0; view->ids && i < view->rows * w->setup.shape->top_k; i++) {
        uint16_t id = td_get16(view->ids + (size_t)i * 2);
        if (id != 0xFFFF && !td_bit(w->hello.experts, id)) return td_fail(TD_E_PEER, "submit: this worker does not have expert %d", id);
    }
    return TD_OK;
}

static void take_submit(td_worker *w, td_client *client, const td_frame *frame)
{
    td_submit_view view;
    if (!client->known || client->role != TD_ROLE_ATTENTION) {
        forget_client(w, client, true, "a submit before hello");
        return;
    }
    td_status status = td_submit_check(frame, w->setup.shape, &view);
    if (status == TD_OK) status = check_mapped(w, &view);
    if (status < 0) {
        w->bad_frames++;
        td_log(TD_LOG_WARN, "worker", "%s: %s", client->name, td_error());
        forget_client(w, client, true, "hung up after a wrong submit");
        return;
    }
    if (!count_serial(client, frame->serial)) {
        client->repeated++;
        return;
    }
    int at = 0;
    while (at < w->setup.places && w->places[at].state != TD_PLACE_FREE) at++;
    if (at == w->setup.places || client->pending >= (int)w->hello.credits) return; /* more than was agreed: it will ask again */
    td_place *place = &w->places[at];
    td_work_take(&place->work, w->setup.shape, &view);
    place->state = TD_PLACE_WAITING;
    place->client = (int)(client - w->clients);
    place->conn = client->conn;
    place->key = *frame;
    place->key.payload = NULL;
    place->arrived_at = w->last_submit = client->asked_at = now_of(w);
    place->order = w->order++;
    place->unseen = w->unseen;
    w->waiting++;
    client->pending++;
    client->submits++;
    client->rows += (uint64_t)view.rows;
}

static void take_ping(td_worker *w, td_client *client, const td_frame *frame)
{
    uint8_t payload[16] = {0};
    td_put64(payload, frame->stamp_ns);
    td_put32(payload + 8, (uint32_t)client->pending);
    td_frame pong = {.kind = TD_FRAME_PONG, .epoch = frame->epoch, .peer = frame->peer, .stamp_ns = (uint64_t)now_of(w), .payload = payload, .payload_bytes = sizeof payload};
    send_small(w, client, &pong);
}

static void take_command(td_worker *w, td_client *client, const td_frame *frame)
{
    if (frame->payload_bytes == 5 && !memcmp(frame->payload, "stats", 5)) {
        td_buffer json = {0};
        td_worker_json(w, &json);
        if (td_buffer_status(&json) == TD_OK) send_text(w, client, TD_FRAME_REPLY, json.data, json.bytes);
        td_buffer_free(&json);
        return;
    }
    static const char why[] = "this is a worker: it knows only 'stats'; add and drain go to the control address of the process that runs the requests";
    send_text(w, client, TD_FRAME_ERROR, why, sizeof why - 1);
}

static void take_frame(td_worker *w, td_client *client, const td_frame *frame)
{
    switch (frame->kind) {
    case TD_FRAME_HELLO: take_hello(w, client, frame); break;
    case TD_FRAME_SUBMIT: take_submit(w, client, frame); break;
    case TD_FRAME_PING: take_ping(w, client, frame); break;
    case TD_FRAME_COMMAND: take_command(w, client, frame); break;
    case TD_FRAME_DRAIN: forget_client(w, client, true, "left"); break;
    case TD_FRAME_ERROR: forget_client(w, client, true, "it refused this worker"); break;
    default: forget_client(w, client, true, "it sent a frame that clients do not send");
    }
}

/* ---- events of the transport ------------------------------------------------------------------------------------------------------------ */

/* A free place, else that of who has been here longest without having proven the secret; NULL: all are clients, or had no time yet. */
static td_client *place_for_client(td_worker *w)
{
    td_client *stranger = NULL;
    for (int i = 0; i < w->setup.clients_max; i++) {
        td_client *client = &w->clients[i];
        if (!client->used) return client;
        if (client->session.state != TD_SESSION_OPEN && (!stranger || client->since < stranger->since)) stranger = client;
    }
    if (!stranger || now_of(w) - stranger->since < TD_STRANGER_TIME) return NULL;
    forget_client(w, stranger, true, "made room for somebody else: it did not prove that it has the secret");
    return stranger;
}

static void on_accepted(void *user, int conn, const char *name)
{
    td_worker *w = user;
    td_client *client = place_for_client(w);
    if (client) {
        *client = (td_client){.used = true, .conn = conn, .since = now_of(w), .heard_at = now_of(w)};
        snprintf(client->name, sizeof client->name, "%s", name);
        td_session_await(&client->session);
        return;
    }
    w->refused++;
    td_log(TD_LOG_WARN, "worker", "%s is turned away: %d clients are here already", name, w->setup.clients_max);
    w->setup.transport->ops->hang_up(w->setup.transport, conn);
}

static void on_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    td_worker *w = user;
    int index = 0;
    while (index < w->setup.clients_max && !(w->clients[index].used && w->clients[index].conn == conn)) index++;
    if (index == w->setup.clients_max) return;
    td_client *client = &w->clients[index];
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME];
    size_t back_bytes;
    client->bytes_in += bytes;
    client->heard_at = now_of(w);
    if (td_session_take(&client->session, &w->setup.secret, w->setup.require_encryption, data, bytes, w->scratch, w->big.each, &what, &frame, back, &back_bytes) < 0) {
        w->bad_frames++;
        td_log(TD_LOG_WARN, "worker", "%s is turned away: %s", client->name, td_error());
        forget_client(w, client, true, "hung up");
        return;
    }
    if (back_bytes) {
        uint8_t *room = td_outbox_take(&w->small);
        if (!room) {
            forget_client(w, client, true, "no buffer for the handshake");
            return;
        }
        memcpy(room, back, back_bytes);
        if (!w->setup.transport->ops->send(w->setup.transport, conn, room, back_bytes, room)) td_outbox_give(&w->small, room);
    }
    if (what == TD_TAKE_OPENED) say_hello(w, client);
    else if (what == TD_TAKE_FRAME) take_frame(w, client, &frame);
}

static void on_closed(void *user, int conn, const char *why)
{
    td_worker *w = user;
    for (int i = 0; i < w->setup.clients_max; i++)
        if (w->clients[i].used && w->clients[i].conn == conn) forget_client(w, &w->clients[i], false, why);
}

static void on_sent(void *user, void *buffer)
{
    td_worker *w = user;
    if (td_outbox_owns(&w->big, buffer)) td_outbox_give(&w->big, buffer);
    else if (td_outbox_owns(&w->small, buffer)) td_outbox_give(&w->small, buffer);
}

/* ---- batches ---------------------------------------------------------------------------------------------------------------------------- */

static td_place *oldest(const td_worker *w)
{
    td_place *first = NULL;
    for (int i = 0; i < w->setup.places; i++)
        if (w->places[i].state == TD_PLACE_WAITING && (!first || w->places[i].order < first->order)) first = &w->places[i];
    return first;
}

/* Until when the oldest submit waits for company: for the rest of its ticket, and for other clients that are active and have nothing lying here. full: nobody else has room in this batch. */
static int64_t wait_until(const td_worker *w, const td_place *first, td_place *const *batch, int count, bool full, int64_t now)
{
    int64_t until = first->arrived_at;
    for (int i = 0; i < count && !full; i++) {
        if (batch[i]->key.aux == 0 || w->clients[batch[i]->client].pending >= (int)w->hello.credits) continue; /* nothing follows, or nothing may before an answer */
        int64_t patience = batch[i]->arrived_at + PARTS_WAIT; /* more of this ticket follows; did it come? */
        bool last_is_here = false;
        for (int j = 0; j < count; j++) last_is_here |= batch[j]->client == batch[i]->client && batch[j]->key.micro_batch == batch[i]->key.micro_batch && batch[j]->key.aux == 0;
        if (!last_is_here) until = TD_MAX(until, patience);
    }
    for (int i = 0; i < w->setup.clients_max && !full; i++) {
        const td_client *client = &w->clients[i];
        if (client->used && client->known && client->pending == 0 && client->asked_at && now - client->asked_at < ACTIVE) until = TD_MAX(until, first->arrived_at + TD_MAX(w->setup.batch_wait, 0));
    }
    return until;
}

/* Places of the oldest submit's layer, in order of arrival, as many as the desk and the outbox have room for. *full: one more would not fit. */
static int collect(td_worker *w, td_place *batch[BATCH_WORKS_MAX], bool *full)
{
    td_place *first = oldest(w);
    if (!first || w->big.free_count == 0) return 0;
    int count = 0, rows = 0, limit = TD_MIN((int)BATCH_WORKS_MAX, w->big.free_count);
    uint64_t after = first->order;
    td_place *next = first;
    while (next && count < limit && rows + next->work.rows <= w->setup.rows_max) {
        batch[count++] = next;
        rows += next->work.rows;
        after = next->order;
        next = NULL;
        for (int i = 0; i < w->setup.places; i++) {
            td_place *place = &w->places[i];
            if (place->state == TD_PLACE_WAITING && place->work.layer == first->work.layer && place->order > after && (!next || place->order < next->order)) next = place;
        }
    }
    *full = next || count == limit || rows == w->setup.rows_max;
    return count;
}

static void answer(td_worker *w, td_place *place, uint8_t *room, int64_t compute_ns, int batch_rows)
{
    td_client *client = &w->clients[place->client];
    uint8_t *info = td_outbox_payload(room);
    bool here = client->used && client->conn == place->conn;
    if (here) {
        td_frame frame = place->key;
        memset(info, 0, TD_ANSWER_INFO);
        td_put64(info, (uint64_t)place->arrived_at);
        td_put32(info + 8, (uint32_t)((place->started_at - place->arrived_at) / US));
        td_put32(info + 12, (uint32_t)(compute_ns / US));
        td_put32(info + 16, (uint32_t)batch_rows);
        td_put32(info + 20, (uint32_t)w->waiting);
        td_put64(info + 24, place->key.stamp_ns);
        td_put32(info + 32, (uint32_t)TD_MIN(place->unseen / US, (int64_t)UINT32_MAX));
        frame.kind = TD_FRAME_ANSWER;
        frame.stamp_ns = (uint64_t)now_of(w);
        frame.payload = info;
        frame.payload_bytes = TD_ANSWER_INFO + td_work_answer_bytes(&place->work, w->setup.shape);
        client->pending--;
        send_room(w, client, &w->big, room, &frame);
    } else {
        td_outbox_give(&w->big, room);
    }
    place->state = TD_PLACE_FREE;
}

static void compute(td_worker *w, td_place *const *batch, int count)
{
    td_work *works[BATCH_WORKS_MAX];
    uint8_t *rooms[BATCH_WORKS_MAX], *outs[BATCH_WORKS_MAX];
    int64_t started = now_of(w);
    int rows = 0;
    for (int i = 0; i < count; i++) {
        works[i] = &batch[i]->work;
        rooms[i] = td_outbox_take(&w->big);
        outs[i] = td_outbox_payload(rooms[i]) + TD_ANSWER_INFO;
        batch[i]->state = TD_PLACE_COMPUTING;
        batch[i]->started_at = started;
        w->waiting--;
        rows += works[i]->rows;
        w->queue_ms += (double)(started - batch[i]->arrived_at) * 1e-6;
    }
    if (w->setup.unlock) w->setup.unlock(w->setup.lock_user);
    td_desk_answer(&w->desk, works, outs, count);
    if (w->setup.lock) w->setup.lock(w->setup.lock_user);
    int64_t took = now_of(w) - started;
    w->batches++;
    w->rows += (uint64_t)rows;
    w->compute_ms += (double)took * 1e-6;
    for (int i = 0; i < count; i++) answer(w, batch[i], rooms[i], took, rows);
}

/* ---- time -------------------------------------------------------------------------------------------------------------------------------- */

int64_t td_worker_tend(td_worker *w)
{
    int64_t now = now_of(w), wake = now + 1000 * TD_MS;
    if (w->draining && !w->told) {
        td_frame bye = {.kind = TD_FRAME_DRAIN};
        for (int i = 0; i < w->setup.clients_max; i++)
            if (w->clients[i].used && w->clients[i].session.state == TD_SESSION_OPEN) send_small(w, &w->clients[i], &bye);
        w->told = true;
        w->drain_at = now;
    }
    if (w->draining) wake = TD_MIN(wake, now + 20 * TD_MS);
    for (int i = 0; i < w->setup.clients_max; i++) {
        td_client *client = &w->clients[i];
        if (!client->used) continue;
        int64_t limit = client->known ? client->heard_at + CLIENT_SILENCE : client->since + TD_HANDSHAKE_TIME;
        if (now > limit) forget_client(w, client, true, client->known ? "nothing heard for 15 s" : "did not say who it is");
        else wake = TD_MIN(wake, limit + 1);
    }
    return wake;
}

int64_t td_worker_step(td_worker *w)
{
    td_place *batch[BATCH_WORKS_MAX];
    int64_t wake = td_worker_tend(w);
    if (w->waiting == 0) return wake;
    bool full;
    int count = collect(w, batch, &full);
    if (count == 0) return wake; /* no buffer: one will come back with a `sent` */
    int64_t now = now_of(w), until = wait_until(w, batch[0], batch, count, full, now);
    if (now < until) return TD_MIN(wake, until);
    compute(w, batch, count);
    return now;
}

void td_worker_drain(td_worker *w) { w->draining = true; }

bool td_worker_drained(const td_worker *w)
{
    if (!w->told || w->waiting > 0) return false;
    int64_t now = now_of(w);
    bool clients = false;
    for (int i = 0; i < w->setup.clients_max; i++) clients |= w->clients[i].used && w->clients[i].known;
    return !clients || (now - TD_MAX(w->drain_at, w->last_submit) > GOODBYE && w->big.free_count == w->big.count);
}

/* ---- sight -------------------------------------------------------------------------------------------------------------------------------- */

static double resident_mb(void)
{
    long pages = 0, ignored;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%ld %ld", &ignored, &pages) != 2) pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) * 1e-6;
}

static void put_ranges(td_buffer *out, const uint8_t *bits, int count)
{
    bool first = true;
    td_buffer_text(out, "\"");
    for (int i = 0; i < count; i++) {
        if (!td_bit(bits, i)) continue;
        int end = i;
        while (end + 1 < count && td_bit(bits, end + 1)) end++;
        td_buffer_format(out, end > i ? "%s%d-%d" : "%s%d", first ? "" : ",", i, end);
        first = false;
        i = end;
    }
    td_buffer_text(out, "\"");
}

void td_worker_json(const td_worker *w, td_buffer *out)
{
    const td_shape *s = w->setup.shape;
    td_buffer_text(out, "{\"kind\":\"worker\",\"model\":");
    td_buffer_json(out, s->name, strlen(s->name));
    td_buffer_format(out, ",\"dtype\":\"%s\",\"fingerprint\":\"%016llx\",\"layers\":", s->dtype, (unsigned long long)s->fingerprint);
    put_ranges(out, w->hello.layers, s->layers);
    td_buffer_text(out, ",\"experts\":");
    put_ranges(out, w->hello.experts, s->experts);
    td_buffer_format(out, ",\"resident_mb\":%.1f,\"batches\":%llu,\"rows\":%llu,\"rows_per_batch\":%.2f,\"compute_ms\":%.1f,\"queue_ms\":%.1f,\"waiting\":%d,\"draining\":%s,\"refused\":%llu,\"bad_frames\":%llu,\"clients\":[",
                     resident_mb(), (unsigned long long)w->batches, (unsigned long long)w->rows, w->batches ? (double)w->rows / (double)w->batches : 0, w->compute_ms, w->queue_ms, w->waiting,
                     w->draining ? "true" : "false", (unsigned long long)w->refused, (unsigned long long)w->bad_frames);
    bool first = true;
    for (int i = 0; i < w->setup.clients_max; i++) {
        const td_client *c = &w->clients[i];
        if (!c->used || !c->known) continue;
        td_buffer_text(out, first ? "{\"name\":" : ",{\"name\":");
        td_buffer_json(out, c->name, strlen(c->name));
        td_buffer_format(out, ",\"role\":\"%s\",\"encrypted\":%s,\"submits\":%llu,\"rows\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"repeated\":%llu,\"pending\":%d}",
                         c->role == TD_ROLE_ATTENTION ? "attention" : "control", c->session.encrypt ? "true" : "false", (unsigned long long)c->submits, (unsigned long long)c->rows,
                         (unsigned long long)c->bytes_in, (unsigned long long)c->bytes_out, (unsigned long long)c->repeated, c->pending);
        first = false;
    }
    td_buffer_text(out, "]}");
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------ */

static void fill_hello(td_worker *w)
{
    const td_worker_setup *s = &w->setup;
    w->hello = (td_hello){.shape = *s->shape, .role = TD_ROLE_WORKER, .frame_bytes_max = (uint32_t)s->frame_bytes_max, .credits = (uint32_t)TD_MAX(s->places / s->clients_max, 1),
                          .rows_max = (uint32_t)TD_MAX(s->rows_max / 2, 1)};
    snprintf(w->hello.version, sizeof w->hello.version, "%s", TD_VERSION);
    randombytes_buf(&w->hello.instance, sizeof w->hello.instance);
    for (int i = 0; i < s->shape->layers; i++)
        if (!s->layers || td_bit(s->layers, i)) td_bit_set(w->hello.layers, i);
    for (int i = 0; i < s->shape->experts; i++) {
        if (!s->experts || td_bit(s->experts, i)) td_bit_set(w->hello.experts, i);
        if (td_bit(w->hello.experts, i) && (!s->preferred || td_bit(s->preferred, i))) td_bit_set(w->hello.preferred, i);
    }
}

static td_status reserve(td_worker *w)
{
    td_worker_setup *s = &w->setup;
    w->clients = TD_NEW(&w->arena, td_client, (size_t)s->clients_max);
    w->places = TD_NEW(&w->arena, td_place, (size_t)s->places);
    if (!w->clients || !w->places) return TD_E_MEMORY;
    for (int i = 0; i < s->places; i++) TD_TRY(td_work_reserve(&w->places[i].work, s->shape, (int)w->hello.rows_max, &w->arena));
    TD_TRY(td_outbox_reserve(&w->big, BIG_BUFFERS, TD_MAX(s->frame_bytes_max, (size_t)TD_TEXT_BYTES_MAX), &w->arena));
    TD_TRY(td_outbox_reserve(&w->small, SMALL_BUFFERS, SMALL_PAYLOAD, &w->arena));
    w->scratch = td_arena_get(&w->arena, w->big.each);
    if (!w->scratch) return TD_E_MEMORY;
    return td_desk_reserve(&w->desk, s->shape, s->kernel, s->compute, s->rows_max, &w->arena);
}

td_status td_worker_open(const td_worker_setup *setup, td_worker **out)
{
    const td_shape *shape = setup->shape;
    if (shape->top_k > TD_WIRE_SLOTS_MAX || shape->d_model % 2) return td_fail(TD_E_UNSUPPORTED, "worker: expected at most %d experts per token and an even width", TD_WIRE_SLOTS_MAX);
    if (sodium_init() < 0) return td_fail(TD_E_INTERNAL, "worker: libsodium did not start");
    td_worker *w = calloc(1, sizeof *w);
    if (!w) return td_fail(TD_E_MEMORY, "worker: no memory");
    w->setup = *setup;
    w->arena.name = "worker";
    if (!w->setup.clients_max) w->setup.clients_max = 16;
    if (!w->setup.places) w->setup.places = 64;
    if (!w->setup.rows_max) w->setup.rows_max = 512;
    if (!w->setup.frame_bytes_max) w->setup.frame_bytes_max = 1 << 20;
    if (!w->setup.batch_wait) w->setup.batch_wait = 200 * US;
    fill_hello(w);
    td_status status = reserve(w);
    if (status < 0) {
        td_arena_free(&w->arena);
        free(w);
        return status;
    }
    w->setup.transport->events = (td_transport_events){w, on_accepted, on_frame, on_closed, on_sent};
    *out = w;
    return TD_OK;
}

void td_worker_close(td_worker *w)
{
    if (!w) return;
    td_transport *t = w->setup.transport;
    for (int i = 0; i < w->setup.clients_max; i++)
        if (w->clients[i].used) t->ops->hang_up(t, w->clients[i].conn);
    t->ops->quiesce(t);
    t->events = (td_transport_events){0};
    td_arena_free(&w->arena);
    free(w);
}
