/*
 * flight.c - tickets and their flights: spreading units over workers, sending, taking answers, doubling late flights, computing here, adding up. See crew.h.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "link/crew.h"

#define SHUN_MIN (50 * TD_MS)
#define SHUN_MAX (2000 * TD_MS)
#define TICKET_MIN (240000 * TD_MS)    /* a ticket that somebody works on may take this long, however short the patience with nobody */

td_status td_tickets_reserve(td_crew *crew)
{
    const td_shape *s = &crew->shape;
    size_t rows = (size_t)crew->options.rows_max, units = (size_t)s->top_k + 1;
    size_t row_most = td_submit_bytes(s, 0, 1, TD_ENCODING_F32) + units * (size_t)s->d_model * 4 + units * 6 + 256;
    crew->row_most = row_most;
    if (crew->options.frame_bytes_max < row_most) return td_fail(TD_E_INVALID, "link: frames of %zu bytes cannot hold one row (%zu)", crew->options.frame_bytes_max, row_most);
    crew->wanted = TD_NEW(&crew->arena, uint64_t, rows);
    if (!crew->wanted) return TD_E_MEMORY;
    for (int i = 0; i < TD_MICRO_BATCHES_MAX; i++) {
        td_ticket *ticket = &crew->tickets[i];
        ticket->here = TD_NEW(&crew->arena, uint64_t, rows);
        ticket->covered = TD_NEW(&crew->arena, uint64_t, rows);
        ticket->summed = TD_NEW(&crew->arena, uint8_t, rows);
        ticket->slots = TD_NEW(&crew->arena, float, rows * units * (size_t)s->d_model);
        uint64_t *masks = TD_NEW(&crew->arena, uint64_t, rows * TD_FLIGHTS_MAX);
        if (!ticket->here || !ticket->covered || !ticket->summed || !ticket->slots || !masks) return TD_E_MEMORY;
        for (int f = 0; f < TD_FLIGHTS_MAX; f++) ticket->flights[f].masks = masks + (size_t)f * rows;
    }
    return TD_OK;
}

/* ---- ends ----------------------------------------------------------------------------------------------------------------------------- */

static void free_flight(td_crew *crew, td_ticket *ticket, td_flight *flight)
{
    if (flight->state == TD_FLIGHT_FREE) return;
    if (flight->state == TD_FLIGHT_READY) crew->ready_flights--;
    flight->state = TD_FLIGHT_FREE;
    ticket->live--;
}

static void free_flights(td_crew *crew, td_ticket *ticket)
{
    for (int f = 0; f < TD_FLIGHTS_MAX && ticket->live > 0; f++) free_flight(crew, ticket, &ticket->flights[f]);
}

static void fail_ticket(td_crew *crew, td_ticket *ticket, const char *why)
{
    snprintf(ticket->why, sizeof ticket->why, "%s", why);
    free_flights(crew, ticket);
    ticket->state = TD_TICKET_FAILED;
}

/* All units are here: the sums, in slot order whoever computed them. */
static void complete_ticket(td_crew *crew, td_ticket *ticket)
{
    const td_shape *s = &crew->shape;
    const td_link_job *job = &ticket->job;
    int64_t d = s->d_model, units = s->top_k + 1;
    bool moe = s->is_moe[job->layer];
    for (int r = 0; r < job->rows; r++) {
        float *slots = ticket->slots + (int64_t)r * units * d, *plain = slots + (int64_t)s->top_k * d;
        if (ticket->summed[r]) continue;
        if (moe) td_ffn_combine(crew->options.kernel, job->y + (int64_t)r * d, slots, d, job->weights + (int64_t)r * s->top_k, s->top_k, s->shared ? plain : NULL, d);
        else memcpy(job->y + (int64_t)r * d, plain, (size_t)d * sizeof(float));
    }
    free_flights(crew, ticket);
    ticket->state = TD_TICKET_DONE;
    td_link_times *times = &crew->times;
    times->tickets++;
    times->ffn_us += (double)ticket->compute_ns * 1e-3;
    times->queue_us += (double)ticket->queue_ns * 1e-3;
    times->wire_us += (double)ticket->wire_ns * 1e-3;
}

/* ---- spreading -------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    td_crew *crew;
    td_ticket *ticket;
    uint64_t allowed, shunned;         /* workers that may be asked; those that were late just now */
    int16_t current[TD_PEERS_MAX + 1]; /* the flight that still takes rows, or -1 */
    int nobody, nobody_expert;         /* units that nobody can compute, one of their experts */
    int placed;
} spread;

static size_t frame_limit(const td_crew *crew, int peer)
{
    size_t own = crew->options.frame_bytes_max;
    return peer == TD_LOCAL ? own : TD_MIN(own, (size_t)crew->peers[peer].hello.frame_bytes_max);
}

static int rows_limit(const td_crew *crew, int peer) { return peer == TD_LOCAL ? crew->options.rows_max : (int)crew->peers[peer].hello.rows_max; }

/* The flight to `peer` that has room for one more row with that mask; NULL when all flights are in use. */
static td_flight *flight_with_room(spread *s, int peer, uint64_t mask)
{
    td_crew *crew = s->crew;
    td_ticket *ticket = s->ticket;
    int layer = ticket->job.layer;
    size_t limit = frame_limit(crew, peer) - TD_FRAME_HEADER, row = td_answer_row_bytes(&crew->shape, layer, mask, crew->options.mode.back);
    if (s->current[peer] >= 0) {
        td_flight *flight = &ticket->flights[s->current[peer]];
        if (flight->rows < rows_limit(crew, peer) && td_submit_bytes(&crew->shape, layer, flight->rows + 1, crew->options.mode.out) <= limit && TD_ANSWER_INFO + flight->answer_bytes + row <= limit) return flight;
    }
    for (int f = 0; f < TD_FLIGHTS_MAX; f++) {
        td_flight *flight = &ticket->flights[f];
        if (flight->state != TD_FLIGHT_FREE) continue;
        memset(flight->masks, 0, (size_t)ticket->job.rows * sizeof *flight->masks);
        *flight = (td_flight){.state = TD_FLIGHT_READY, .peer = peer, .masks = flight->masks};
        ticket->live++;
        crew->ready_flights++;
        s->current[peer] = (int16_t)f;
        return flight;
    }
    return NULL;
}

static void place(spread *s, int peer, int row, uint64_t mask)
{
    td_flight *flight = flight_with_room(s, peer, mask);
    if (!flight) return; /* stays uncovered until a flight has landed */
    flight->masks[row] = mask;
    flight->rows++;
    flight->answer_bytes += td_answer_row_bytes(&s->crew->shape, s->ticket->job.layer, mask, s->crew->options.mode.back);
    s->ticket->covered[row] |= mask;
    s->placed += __builtin_popcountll(mask);
}

/* A worker for an expert of a row, or this process, or -1. */
static int choose(spread *s, int expert, int row)
{
    td_crew *crew = s->crew;
    int peer = -1, layer = s->ticket->job.layer;
    if (s->shunned) peer = td_placement_choose(&crew->placement, &crew->view, layer, expert, row, s->allowed & ~s->shunned);
    if (peer < 0) peer = td_placement_choose(&crew->placement, &crew->view, layer, expert, row, s->allowed);
    if (peer < 0 && crew->options.local) return TD_LOCAL;
    if (peer < 0) {
        s->nobody++;
        s->nobody_expert = expert;
    }
    return peer;
}

static void spread_row(spread *s, int row, uint64_t wanted)
{
    const td_shape *shape = &s->crew->shape;
    int peers[TD_WIRE_SLOTS_MAX + 1], distinct = 0;
    uint64_t masks[TD_WIRE_SLOTS_MAX + 1];
    for (uint64_t left = wanted & ~TD_UNIT_PLAIN; left; left &= left - 1) {
        int slot = __builtin_ctzll(left), peer = choose(s, s->ticket->job.ids[row * shape->top_k + slot], row), i = 0;
        if (peer < 0) continue;
        while (i < distinct && peers[i] != peer) i++;
        if (i == distinct) {
            peers[distinct] = peer;
            masks[distinct++] = 0;
        }
        masks[i] |= (uint64_t)1 << slot;
    }
    if (wanted & TD_UNIT_PLAIN) { /* with the row's only worker, so that it can add up; else with the layer's worker for it, so that one of them reads those weights */
        int peer = distinct == 1 ? peers[0] : choose(s, shape->experts, row), i = 0;
        while (i < distinct && peers[i] != peer) i++;
        if (peer >= 0 && i == distinct) {
            peers[distinct] = peer;
            masks[distinct++] = 0;
        }
        if (peer >= 0) masks[i] |= TD_UNIT_PLAIN;
    }
    for (int i = 0; i < distinct; i++) place(s, peers[i], row, masks[i]);
}

/* Puts the units in crew->wanted into flights. */
static spread spread_wanted(td_crew *crew, td_ticket *ticket, uint64_t allowed)
{
    spread s = {.crew = crew, .ticket = ticket, .allowed = allowed};
    int64_t now = td_crew_now(crew);
    for (uint64_t left = crew->view.usable; left; left &= left - 1)
        if (crew->peers[__builtin_ctzll(left)].shunned_until > now) s.shunned |= left & -left;
    memset(s.current, 0xFF, sizeof s.current);
    for (int r = 0; r < ticket->job.rows; r++)
        if (crew->wanted[r]) spread_row(&s, r, crew->wanted[r]);
    return s;
}

/* Finds somebody for every unit that is neither here nor in a flight. */
static void cover(td_crew *crew, td_ticket *ticket, int64_t now)
{
    uint64_t full = td_shape_full(&crew->shape, ticket->job.layer);
    for (int r = 0; r < ticket->job.rows; r++) crew->wanted[r] = full & ~ticket->covered[r];
    spread s = spread_wanted(crew, ticket, ~(uint64_t)0);
    ticket->uncovered -= s.placed;
    if (s.nobody == 0) {
        ticket->stuck_at = 0;
        return;
    }
    if (!ticket->stuck_at) ticket->stuck_at = now ? now : 1;
    if (now - ticket->stuck_at < crew->options.patience) return;
    char why[256];
    if (s.nobody_expert == crew->shape.experts) snprintf(why, sizeof why, "nobody has layer %d; waited %lld ms for a worker to come back", ticket->job.layer, (long long)(crew->options.patience / TD_MS));
    else snprintf(why, sizeof why, "nobody has expert %d of layer %d; waited %lld ms for a worker to come back", s.nobody_expert, ticket->job.layer, (long long)(crew->options.patience / TD_MS));
    fail_ticket(crew, ticket, why);
}

/* What is covered, from scratch, after flights have died. */
static void recount(td_crew *crew, td_ticket *ticket)
{
    int rows = ticket->job.rows;
    uint64_t full = td_shape_full(&crew->shape, ticket->job.layer);
    memcpy(ticket->covered, ticket->here, (size_t)rows * sizeof *ticket->covered);
    for (int f = 0; f < TD_FLIGHTS_MAX; f++)
        if (ticket->flights[f].state != TD_FLIGHT_FREE)
            for (int r = 0; r < rows; r++) ticket->covered[r] |= ticket->flights[f].masks[r];
    ticket->uncovered = 0;
    for (int r = 0; r < rows; r++) ticket->uncovered += __builtin_popcountll(full & ~ticket->covered[r]);
}

void td_flights_lose(td_crew *crew, int peer)
{
    td_crew_due(crew);
    for (int t = 0; t < TD_MICRO_BATCHES_MAX; t++) {
        td_ticket *ticket = &crew->tickets[t];
        if (ticket->state != TD_TICKET_OPEN) continue;
        int died = 0;
        for (int f = 0; f < TD_FLIGHTS_MAX; f++) {
            td_flight *flight = &ticket->flights[f];
            if (flight->state == TD_FLIGHT_FREE || flight->peer != peer) continue;
            if (flight->state == TD_FLIGHT_AIR) died++;
            free_flight(crew, ticket, flight);
        }
        crew->stats.retries += (uint64_t)died;
        recount(crew, ticket);
    }
}

void td_flights_missing(td_crew *crew, int peer, uint64_t ping_stamp)
{
    int in_air = 0;
    for (int t = 0; t < TD_MICRO_BATCHES_MAX; t++)
        for (int f = 0; f < TD_FLIGHTS_MAX && crew->tickets[t].state == TD_TICKET_OPEN; f++) {
            td_flight *flight = &crew->tickets[t].flights[f];
            if (flight->state != TD_FLIGHT_AIR || flight->peer != peer) continue;
            if ((uint64_t)flight->sent_at >= ping_stamp) {
                in_air++;
                continue;
            }
            flight->state = TD_FLIGHT_READY; /* the message or its answer was lost on the way */
            crew->ready_flights++;
            crew->stats.retries++;
        }
    crew->peers[peer].in_air = in_air;
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------------------- */

/* Puts one row's vectors in their places. Returns the bytes read. */
static size_t take_row(td_crew *crew, td_ticket *ticket, int row, uint64_t mask, const uint8_t *in)
{
    const td_shape *s = &crew->shape;
    const td_link_job *job = &ticket->job;
    int d = s->d_model;
    bool moe = s->is_moe[job->layer];
    uint64_t fresh = mask & ~ticket->here[row];
    size_t bytes = td_answer_row_bytes(s, job->layer, mask, crew->options.mode.back), each = td_wire_row_bytes(crew->options.mode.back, d);
    if (!fresh) return bytes;
    if (moe && mask == td_shape_full(s, job->layer)) {
        td_wire_row_get(TD_ENCODING_F32, in, d, job->y + (int64_t)row * d);
        ticket->summed[row] = 1;
    } else {
        float *slots = ticket->slots + (int64_t)row * (s->top_k + 1) * d;
        const uint8_t *at = in;
        for (uint64_t left = mask; left; left &= left - 1, at += each) { /* the plain unit is bit 63: last */
            int unit = __builtin_ctzll(left);
            if (fresh >> unit & 1) td_wire_row_get(crew->options.mode.back, at, d, slots + (int64_t)TD_MIN(unit, s->top_k) * d);
        }
    }
    ticket->here[row] |= mask;
    ticket->missing -= __builtin_popcountll(fresh);
    return bytes;
}

static void take_rows(td_crew *crew, td_ticket *ticket, td_flight *flight, const uint8_t *in)
{
    for (int r = 0; r < ticket->job.rows; r++)
        if (flight->masks[r]) in += take_row(crew, ticket, r, flight->masks[r], in);
    free_flight(crew, ticket, flight);
    if (ticket->missing == 0) complete_ticket(crew, ticket);
}

static void moving_mean(double *mean, double value) { *mean = *mean == 0 ? value : *mean + 0.1 * (value - *mean); }

/* Of a message's journey, what it lay unread because its receiver computed: at most `blind`, and only what exceeds the journey of messages that were awaited. */
static int64_t unseen_part(double *clear, int64_t journey, int64_t blind, int64_t at_first)
{
    if (blind < 50000) {
        moving_mean(clear, (double)journey);
        return 0;
    }
    return TD_MIN(blind, TD_MAX(journey - (int64_t)(*clear > 0 ? *clear : (double)at_first), 0));
}

/* Where an answer's time went, on this side's clock; also of an answer that came too late to be used. rows and times are the worker's word: they steer, nothing more. */
static void count_answer(td_crew *crew, int index, const td_frame *frame, td_ticket *ticket)
{
    td_peer *peer = &crew->peers[index];
    if (frame->payload_bytes < TD_ANSWER_INFO || frame->layer >= crew->shape.layers || frame->rows == 0) return;
    int64_t now = td_crew_now(crew), sent_at = (int64_t)td_get64(frame->payload + 24), total = now - sent_at;
    if (total <= 0 || total > 600000 * TD_MS) return;
    int64_t received = (int64_t)td_get64(frame->payload) - peer->offset;
    int64_t queue = (int64_t)td_get32(frame->payload + 8) * 1000, compute = (int64_t)td_get32(frame->payload + 12) * 1000;
    int64_t wire = TD_MAX(total - queue - compute, 0), out = TD_MIN(TD_MAX(received - sent_at, 0), wire), back = wire - out;
    int64_t unseen = unseen_part(&peer->clear_out, out, (int64_t)td_get32(frame->payload + 32) * 1000, peer->best_round / 2);
    queue += unseen; /* it lay there while the worker computed */
    out -= unseen;
    back -= unseen_part(&peer->clear_back, back, crew->unseen, peer->best_round / 2); /* it lay here while this side computed */
    wire = out + back;
    double rows_at_once = TD_MAX((double)td_get32(frame->payload + 16), (double)frame->rows);
    crew->times.busy_us[index] += (double)compute * 1e-3 * (double)frame->rows / rows_at_once;
    td_layer_stats *layer = &crew->layers[frame->layer];
    moving_mean(&peer->stats.out_us, (double)out * 1e-3);
    moving_mean(&peer->stats.queue_us, (double)queue * 1e-3);
    moving_mean(&peer->stats.compute_us, (double)compute * 1e-3);
    moving_mean(&peer->stats.back_us, (double)back * 1e-3);
    if (frame->rows <= 16) moving_mean(&peer->base, (double)total);
    else moving_mean(&peer->per_row, (double)total / frame->rows);
    int bucket = 0;
    while (bucket < TD_TRIP_BUCKETS && (double)total * 1e-3 > td_trip_bounds_us[bucket]) bucket++;
    peer->stats.trips[bucket]++;
    peer->stats.trips_us += (double)total * 1e-3;
    peer->stats.messages++;
    peer->stats.rows += frame->rows;
    layer->answers++;
    layer->bytes_in += frame->payload_bytes + TD_FRAME_HEADER;
    layer->out_us += (double)out * 1e-3;
    layer->queue_us += (double)queue * 1e-3;
    layer->compute_us += (double)compute * 1e-3;
    layer->back_us += (double)back * 1e-3;
    if (ticket) {
        ticket->compute_ns = compute;
        ticket->queue_ns = queue;
        ticket->wire_ns = wire;
    }
    if (!crew->options.trace) return;
    td_span span = {.step = frame->step, .layer = frame->layer, .rows = (uint16_t)frame->rows, .micro_batch = frame->micro_batch, .peer = (uint8_t)index};
    int64_t at = sent_at, lengths[4] = {out, queue, compute, back};
    for (int i = 0; i < 4; i++) {
        span.kind = (uint8_t)(TD_SPAN_OUT + i);
        span.begin = at;
        span.end = at += lengths[i];
        td_trace_add(crew->options.trace, &span);
    }
}

/* The flight that the answer belongs to; NULL: an old epoch, a repetition, or nothing of ours. */
static td_flight *flight_of(td_crew *crew, int peer, const td_frame *frame, td_ticket **ticket_out)
{
    if (frame->micro_batch >= TD_MICRO_BATCHES_MAX || frame->part >= TD_FLIGHTS_MAX) return NULL;
    td_ticket *ticket = &crew->tickets[frame->micro_batch];
    td_flight *flight = &ticket->flights[frame->part];
    if (ticket->state != TD_TICKET_OPEN || flight->state != TD_FLIGHT_AIR || flight->peer != peer || frame->peer != peer) return NULL;
    if (frame->epoch != flight->epoch || frame->serial != flight->serial || frame->step != ticket->job.step || frame->layer != ticket->job.layer) return NULL;
    *ticket_out = ticket;
    return flight;
}

static void send_ready(td_crew *crew, bool may_compute);

void td_flights_answer(td_crew *crew, int peer, const td_frame *frame)
{
    td_ticket *ticket;
    td_flight *flight = flight_of(crew, peer, frame, &ticket);
    if (crew->peers[peer].in_air > 0) crew->peers[peer].in_air--;
    count_answer(crew, peer, frame, flight ? ticket : NULL);
    if (flight && frame->payload_bytes == TD_ANSWER_INFO + flight->answer_bytes && frame->rows == (uint32_t)flight->rows) {
        if (!flight->doubled && crew->peers[peer].shun > 0) crew->peers[peer].shun /= 2;
        take_rows(crew, ticket, flight, frame->payload + TD_ANSWER_INFO);
    } else {
        crew->peers[peer].stats.dropped++;
    }
    if (crew->ready_flights > 0) send_ready(crew, false);
}

/* ---- sending ----------------------------------------------------------------------------------------------------------------------------- */

static size_t put_submit(td_crew *crew, const td_ticket *ticket, const td_flight *flight, uint8_t *out)
{
    const td_link_job *job = &ticket->job;
    return td_submit_put(out, &crew->shape, job->layer, job->rows, flight->masks, job->x, job->ids, job->weights, crew->options.mode.out);
}

static td_frame submit_frame(const td_crew *crew, const td_ticket *ticket, const td_flight *flight)
{
    const td_link_job *job = &ticket->job;
    return (td_frame){.kind = TD_FRAME_SUBMIT, .flags = (uint8_t)(crew->options.mode.out | crew->options.mode.back << 4), .epoch = flight->epoch, .step = job->step, .layer = (uint16_t)job->layer,
                      .part = (uint16_t)(flight - ticket->flights), .micro_batch = (uint8_t)job->micro_batch, .peer = (uint16_t)flight->peer, .rows = (uint32_t)flight->rows, .serial = flight->serial};
}

/* How long a flight of that many rows takes with the fastest worker that is here; a slow one is late by this measure, not by its own. */
static double expected_ns(const td_crew *crew, int rows)
{
    double best = 0;
    for (uint64_t left = crew->view.usable; left; left &= left - 1) {
        const td_peer *peer = &crew->peers[__builtin_ctzll(left)];
        double expected = peer->base + (rows > 16 || peer->base == 0 ? peer->per_row * rows : 0);
        if (expected > 0 && (best == 0 || expected < best)) best = expected;
    }
    return best > 0 ? best : 250.0 * (double)TD_MS;
}

/* False: no buffer, try later. */
static bool send_flight(td_crew *crew, td_ticket *ticket, td_flight *flight)
{
    td_peer *peer = &crew->peers[flight->peer];
    uint8_t *room = td_outbox_take(&crew->big);
    if (!room) return false;
    flight->epoch = crew->epoch;
    flight->serial = ++peer->serial;
    flight->sent_at = td_crew_now(crew);
    flight->look_at = flight->sent_at + TD_MAX(crew->options.late_min, (int64_t)(4 * expected_ns(crew, flight->rows)));
    td_frame frame = submit_frame(crew, ticket, flight);
    for (int f = 0; f < TD_FLIGHTS_MAX; f++) frame.aux += &ticket->flights[f] != flight && ticket->flights[f].state == TD_FLIGHT_READY && ticket->flights[f].peer == flight->peer;
    frame.aux = TD_MIN(frame.aux, (uint32_t)TD_MAX((int)peer->hello.credits - peer->in_air - 1, 0)); /* those that follow at once: the others wait for an answer first */
    frame.stamp_ns = (uint64_t)flight->sent_at;
    frame.payload = td_outbox_payload(room);
    frame.payload_bytes = put_submit(crew, ticket, flight, td_outbox_payload(room));
    crew->layers[ticket->job.layer].bytes_out += frame.payload_bytes + TD_FRAME_HEADER;
    flight->state = TD_FLIGHT_AIR;
    crew->ready_flights--;
    peer->in_air++;
    crew->stats.messages++;
    td_crew_send(crew, flight->peer, &crew->big, room, &frame); /* a failure comes as `closed`, or as silence */
    return true;
}

/* The same bytes a worker would send: through the wire's encodings. */
static void compute_here(td_crew *crew, td_ticket *ticket, td_flight *flight)
{
    td_submit_view view;
    td_work *work = &crew->local_work;
    flight->state = TD_FLIGHT_AIR;
    crew->ready_flights--;
    td_frame frame = submit_frame(crew, ticket, flight);
    frame.payload = crew->local_submit;
    frame.payload_bytes = put_submit(crew, ticket, flight, crew->local_submit);
    if (td_submit_check(&frame, &crew->shape, &view) < 0) {
        fail_ticket(crew, ticket, td_error());
        return;
    }
    td_work_take(work, &crew->shape, &view);
    int64_t start = td_crew_now(crew);
    td_desk_answer(&crew->desk, &work, &crew->local_answer, 1);
    int64_t took = td_crew_now(crew) - start;
    ticket->compute_ns += took;
    crew->times.busy_us[TD_LOCAL] += (double)took * 1e-3;
    take_rows(crew, ticket, flight, crew->local_answer);
}

/* Flights that wait for a place at their worker, or for this thread. */
static void send_ready(td_crew *crew, bool may_compute)
{
    for (int t = 0; t < TD_MICRO_BATCHES_MAX && crew->ready_flights > 0; t++) {
        td_ticket *ticket = &crew->tickets[t];
        for (int f = 0; f < TD_FLIGHTS_MAX && ticket->state == TD_TICKET_OPEN; f++) {
            td_flight *flight = &ticket->flights[f];
            if (flight->state != TD_FLIGHT_READY) continue;
            if (flight->peer == TD_LOCAL) {
                if (may_compute) compute_here(crew, ticket, flight);
                continue;
            }
            const td_peer *peer = &crew->peers[flight->peer];
            if (peer->in_air < (int)peer->hello.credits && !send_flight(crew, ticket, flight)) return;
        }
    }
}

/* ---- time -------------------------------------------------------------------------------------------------------------------------------- */

/* A late flight's missing units are asked of others as well. */
static void double_late(td_crew *crew, td_ticket *ticket, td_flight *flight, int64_t now)
{
    for (int r = 0; r < ticket->job.rows; r++) crew->wanted[r] = flight->masks[r] & ~ticket->here[r];
    int peer = flight->peer;
    spread s = spread_wanted(crew, ticket, ~((uint64_t)1 << peer));
    crew->peers[peer].stats.late++;
    if (s.placed > 0) { /* somebody else can do it: let the late one have nothing new for a while, twice as long each time */
        td_peer *late = &crew->peers[peer];
        flight->doubled = true;
        crew->stats.retries++;
        late->shun = TD_MIN(TD_MAX(late->shun * 2, SHUN_MIN), SHUN_MAX);
        late->shunned_until = now + late->shun;
    }
    flight->look_at = now + 8 * crew->options.late_min;
}

static void tend_ticket(td_crew *crew, td_ticket *ticket, int64_t now, int64_t *wake)
{
    if (ticket->uncovered > 0) {
        cover(crew, ticket, now);
        if (ticket->state == TD_TICKET_OPEN && ticket->stuck_at) *wake = TD_MIN(*wake, ticket->stuck_at + crew->options.patience);
    }
    for (int f = 0; f < TD_FLIGHTS_MAX && ticket->state == TD_TICKET_OPEN; f++) {
        td_flight *flight = &ticket->flights[f];
        if (flight->state != TD_FLIGHT_AIR || flight->doubled) continue;
        if (now >= flight->look_at) double_late(crew, ticket, flight, now);
        if (!flight->doubled) *wake = TD_MIN(*wake, flight->look_at);
    }
    if (ticket->state == TD_TICKET_OPEN && now - ticket->opened_at > TD_MAX(8 * crew->options.patience, TICKET_MIN)) fail_ticket(crew, ticket, "no answer, though workers came and went");
}

void td_flights_step(td_crew *crew, bool may_compute, int64_t *wake)
{
    int64_t now = td_crew_now(crew);
    for (int t = 0; t < TD_MICRO_BATCHES_MAX; t++)
        if (crew->tickets[t].state == TD_TICKET_OPEN) tend_ticket(crew, &crew->tickets[t], now, wake);
    send_ready(crew, may_compute);
}

/* ---- calls of the engine ----------------------------------------------------------------------------------------------------------------- */

static td_status check_job(const td_crew *crew, const td_link_job *job)
{
    if (job->micro_batch < 0 || job->micro_batch >= TD_MICRO_BATCHES_MAX || job->layer < 0 || job->layer >= crew->shape.layers || job->rows < 0 || job->rows > crew->options.rows_max)
        return td_fail(TD_E_INVALID, "link: micro-batch %d, layer %d or %d rows is out of range", job->micro_batch, job->layer, job->rows);
    if (crew->tickets[job->micro_batch].state != TD_TICKET_NONE) return td_fail(TD_E_INVALID, "link: micro-batch %d has an open ticket", job->micro_batch);
    if (!crew->shape.is_moe[job->layer]) return TD_OK;
    for (int i = 0; i < job->rows * crew->shape.top_k; i++)
        if (job->ids[i] < 0 || job->ids[i] >= crew->shape.experts) return td_fail(TD_E_INVALID, "link: expert %d of %d", job->ids[i], crew->shape.experts);
    return TD_OK;
}

td_status td_crew_submit(td_crew *crew, const td_link_job *job)
{
    TD_TRY(check_job(crew, job));
    td_ticket *ticket = &crew->tickets[job->micro_batch];
    size_t rows = (size_t)job->rows;
    bool moe = crew->shape.is_moe[job->layer];
    ticket->job = *job;
    ticket->state = TD_TICKET_OPEN;
    ticket->opened_at = td_crew_now(crew);
    ticket->stuck_at = 0;
    ticket->compute_ns = ticket->queue_ns = ticket->wire_ns = 0;
    ticket->missing = ticket->uncovered = job->rows * __builtin_popcountll(td_shape_full(&crew->shape, job->layer));
    memset(ticket->here, 0, rows * sizeof *ticket->here);
    memset(ticket->covered, 0, rows * sizeof *ticket->covered);
    memset(ticket->summed, 0, rows);
    for (size_t i = 0; moe && i < rows * (size_t)crew->shape.top_k; i++)
        crew->placement.load[(size_t)job->layer * (size_t)crew->shape.experts + (size_t)job->ids[i]]++;
    if (job->rows == 0) {
        ticket->state = TD_TICKET_DONE;
        return TD_OK;
    }
    td_crew_due(crew);
    cover(crew, ticket, ticket->opened_at);
    send_ready(crew, false);
    return TD_OK;
}

td_ticket_state td_crew_look(const td_crew *crew, int micro_batch) { return crew->tickets[micro_batch].state; }

td_status td_crew_finish(td_crew *crew, int micro_batch)
{
    td_ticket *ticket = &crew->tickets[micro_batch];
    td_ticket_state state = ticket->state;
    free_flights(crew, ticket);
    ticket->state = TD_TICKET_NONE;
    if (state == TD_TICKET_FAILED) return td_fail(TD_E_PEER, "layer %d, micro-batch %d: %s", ticket->job.layer, micro_batch, ticket->why);
    if (state == TD_TICKET_OPEN) return td_fail(TD_E_CANCELLED, "link: the ticket was given up");
    return TD_OK;
}
