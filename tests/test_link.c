/*
 * test_link.c - single promises of the corridor, each in virtual time: the crew and the worker of src/link over the transport of tests/sim, or one of them against a
 * client made by hand. What many things at once do to them is in test_link_sim.c.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "link/crew.h"
#include "link/worker.h"
#include "sim/sim.h"

#define MS ((int64_t)1000000)

enum { D = 64, TOP_K = 8, EXPERTS = 16, ROWS = 64, FRAME = 6144, CLIENTS = 6, CREDITS = 3 };

static const td_kernel *kernel;
static const td_secret secret = {{7}};
static const bool moe[2] = {true, false};
static const td_shape shape = {.fingerprint = 5, .name = "toy", .dtype = "f32", .layers = 2, .d_model = D, .experts = EXPERTS, .top_k = TOP_K, .shared = true, .is_moe = moe};

/* ---- the stage: one worker, one attention instance ---------------------------------------------------------------------------------------------- */

typedef struct {
    sim *world;
    sim_node *worker_node, *crew_node;
    td_worker *worker;
    td_crew *crew;
    int64_t compute_ns;        /* that the local fallback takes */
    bool never;
    float x[ROWS * D], y[ROWS * D], weights[ROWS * TOP_K];
    int32_t ids[ROWS * TOP_K];
} stage;

static void toy_slots(void *user, const td_ffn_job *job, float *slots, float *shared)
{
    stage *s = user;
    for (int i = 0; job->ids && i < job->rows * TOP_K; i++)
        for (int j = 0; job->ids[i] >= 0 && j < D; j++) slots[i * D + j] = job->x[i / TOP_K * D + j] * (float)(job->ids[i] + 1);
    for (int i = 0; shared && i < job->rows * D; i++) shared[i] = job->x[i] * 100;
    if (s) s->world->now += s->compute_ns;
}

static void toy_run(void *user, const td_ffn_job *job, float *y)
{
    static float slots[ROWS * TOP_K * D], shared[ROWS * D];
    toy_slots(user, job, slots, shared);
    for (int r = 0; r < job->rows; r++) {
        if (job->ids) td_ffn_combine(kernel, y + r * D, slots + r * TOP_K * D, D, job->weights + r * TOP_K, TOP_K, shared + r * D, D);
        else memcpy(y + r * D, shared + r * D, D * sizeof(float));
    }
}

static int64_t worker_life(void *user) { return td_worker_step(((stage *)user)->worker); }

/* Steps when it is due, as remote.c does. */
static int64_t crew_life(void *user)
{
    stage *s = user;
    int64_t wake = td_crew_step(s->crew, true);
    return s->crew->due ? s->world->now : wake;
}

static void pass(stage *s, int64_t ns) { sim_run(s->world, s->world->now + ns, &s->never); }

static void open_worker(stage *s)
{
    td_worker_setup setup = {.shape = &shape, .kernel = kernel, .transport = &s->worker_node->base, .compute = {NULL, toy_run, toy_slots}, .secret = secret, .clients_max = CLIENTS, .places = CLIENTS * CREDITS,
                             .rows_max = 2 * ROWS, .frame_bytes_max = FRAME, .batch_wait = -1};
    assert_int_equal(td_worker_open(&setup, &s->worker), TD_OK);
}

static void open_stage(stage *s)
{
    memset(s, 0, sizeof *s);
    s->world = sim_open(1);
    s->world->weather = (sim_weather){.delay_min = 10000, .delay_max = 10000};
    s->worker_node = sim_add(s->world, "w:1", worker_life, s);
    open_worker(s);
    for (int i = 0; i < ROWS * D; i++) s->x[i] = (float)(i % 7) - 3;
    for (int i = 0; i < ROWS * TOP_K; i++) {
        s->ids[i] = (i / TOP_K + i % TOP_K) % EXPERTS;
        s->weights[i] = 0.125f * (float)(i % 3);
    }
}

/* The options may be changed by whoever calls: local is this process's fallback. */
static void open_crew(stage *s, td_crew_options options)
{
    s->crew_node = sim_add(s->world, "a:1", crew_life, s);
    options.shape = &shape;
    options.kernel = kernel;
    options.transport = &s->crew_node->base;
    options.secret = secret;
    options.rows_max = ROWS;
    options.frame_bytes_max = FRAME;
    assert_int_equal(td_crew_open(&options, &s->crew), TD_OK);
    assert_int_equal(td_crew_add(s->crew, "w:1"), TD_OK);
}

static void close_stage(stage *s)
{
    td_crew_close(s->crew);
    td_worker_close(s->worker);
    sim_close(s->world);
}

static void submit(stage *s, int layer, int rows)
{
    static uint64_t step;
    td_link_job job = {.step = ++step, .layer = layer, .rows = rows, .x = s->x, .ids = moe[layer] ? s->ids : NULL, .weights = moe[layer] ? s->weights : NULL, .y = s->y};
    assert_int_equal(td_crew_submit(s->crew, &job), TD_OK);
    s->crew_node->wake_at = s->world->now;
}

/* What the ticket became within that time. */
static td_ticket_state outcome(stage *s, int64_t ns)
{
    int64_t until = s->world->now + ns;
    while (s->world->now < until && td_crew_look(s->crew, 0) == TD_TICKET_OPEN) pass(s, TD_MIN(10000, until - s->world->now));
    return td_crew_look(s->crew, 0);
}

/* ---- a client made by hand --------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    sim_node *node;
    int conn, answers, texts, closed;
    td_session session;
    bool hello;
} hand;

static void hand_send(hand *h, td_frame frame, const void *payload)
{
    static uint8_t room[TD_FRAME_OUTER + TD_FRAME_HEADER + FRAME + TD_FRAME_TAG];
    size_t bytes;
    memcpy(room + TD_FRAME_OUTER + TD_FRAME_HEADER, payload, frame.payload_bytes);
    frame.payload = room + TD_FRAME_OUTER + TD_FRAME_HEADER;
    const uint8_t *data = td_session_seal(&h->session, room, &frame, &bytes);
    h->node->base.ops->send(&h->node->base, h->conn, data, bytes, room);
}

static void hand_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    static uint8_t scratch[1 << 16];
    hand *h = user;
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME], hello_bytes[TD_HELLO_BYTES];
    size_t back_bytes;
    assert_int_equal(conn, h->conn);
    assert_int_equal(td_session_take(&h->session, &secret, false, data, bytes, scratch, sizeof scratch, &what, &frame, back, &back_bytes), TD_OK);
    if (back_bytes) h->node->base.ops->send(&h->node->base, conn, back, back_bytes, NULL);
    if (what == TD_TAKE_OPENED) {
        td_hello hello = {.shape = shape, .role = TD_ROLE_ATTENTION};
        td_hello_put(hello_bytes, &hello);
        hand_send(h, (td_frame){.kind = TD_FRAME_HELLO, .payload_bytes = TD_HELLO_BYTES}, hello_bytes);
    }
    if (what != TD_TAKE_FRAME) return;
    h->hello |= frame.kind == TD_FRAME_HELLO;
    h->answers += frame.kind == TD_FRAME_ANSWER;
    h->texts += frame.kind == TD_FRAME_REPLY;
}

static void hand_closed(void *user, int conn, const char *why) { (void)conn, (void)why, ((hand *)user)->closed++; }

/* A connection to that address; who greets goes through the handshake, others say nothing. */
static void reach(stage *s, hand *h, const char *address, bool greets)
{
    uint8_t greeting[TD_HANDSHAKE_FRAME];
    if (!h->node) h->node = sim_add(s->world, "h:1", NULL, NULL);
    h->node->base.events = (td_transport_events){.user = h, .frame = hand_frame, .closed = hand_closed};
    assert_int_equal(h->node->base.ops->connect(&h->node->base, address, &h->conn), TD_OK);
    if (!greets) return;
    size_t bytes = td_session_greet(&h->session, false, greeting);
    h->node->base.ops->send(&h->node->base, h->conn, greeting, bytes, NULL);
    pass(s, MS);
}

/* Asks for the first rows of the stage with that mask. */
static void hand_submit(stage *s, hand *h, td_wire_mode mode, int rows, uint64_t mask, uint32_t serial, uint32_t follow)
{
    static uint8_t payload[FRAME];
    uint64_t masks[ROWS];
    for (int r = 0; r < rows; r++) masks[r] = mask;
    td_frame frame = {.kind = TD_FRAME_SUBMIT, .flags = (uint8_t)(mode.out | mode.back << 4), .rows = (uint32_t)rows, .serial = serial, .aux = follow};
    frame.payload_bytes = td_submit_put(payload, &shape, 0, rows, masks, s->x, s->ids, s->weights, mode.out);
    assert_true(TD_FRAME_HEADER + frame.payload_bytes <= FRAME);
    hand_send(h, frame, payload);
}

/* ---- answers fit ------------------------------------------------------------------------------------------------------------------------------- */

static const td_wire_mode narrow = {TD_ENCODING_F8, TD_ENCODING_F32};

static void a_submit_may_not_ask_for_more_than_a_frame_holds(void **state)
{
    (void)state;
    uint64_t most = td_shape_full(&shape, 0) & ~(uint64_t)1; /* every unit but one: the longest answer */
    int fit = (FRAME - TD_FRAME_HEADER - TD_ANSWER_INFO) / (TOP_K * D * 4);
    for (int more = 0; more < 2; more++) {
        stage s;
        hand h = {0};
        open_stage(&s);
        reach(&s, &h, "w:1", true);
        assert_true(h.hello);
        hand_submit(&s, &h, narrow, more ? ROWS / 2 : fit, most, 1, 0);
        pass(&s, 20 * MS);
        assert_int_equal(h.answers, !more);
        assert_int_equal(h.closed, more);
        assert_int_equal(s.worker->bad_frames, more);
        if (more) assert_non_null(strstr(td_error(), "submit: expected an answer of at most 6144 bytes, 32 rows ask for"));
        close_stage(&s);
    }
}

/* However small the worker's frames are, no mode asks for more. */
static void honest_submits_are_never_refused(void **state)
{
    (void)state;
    static const td_wire_mode modes[] = {{TD_ENCODING_F32, TD_ENCODING_F32}, {TD_ENCODING_BF16, TD_ENCODING_BF16}, {TD_ENCODING_F8, TD_ENCODING_BF16}, {TD_ENCODING_F8, TD_ENCODING_F32}};
    for (int m = 0; m < 4; m++)
        for (int part = 0; part < 2; part++) {
            stage s;
            open_stage(&s);
            if (part) /* half of the experts: rows in parts, the rest is computed here */
                for (int e = 0; e < EXPERTS; e += 2) s.worker->hello.experts[e >> 3] &= (uint8_t)~(1u << (e & 7)), s.worker->hello.preferred[e >> 3] &= (uint8_t)~(1u << (e & 7));
            td_compute local = {NULL, toy_run, toy_slots};
            open_crew(&s, (td_crew_options){.mode = modes[m], .local = &local});
            pass(&s, 20 * MS);
            s.worker->hello.frame_bytes_max = s.worker->setup.frame_bytes_max = (uint32_t)s.crew->row_most;
            s.crew->peers[0].hello.frame_bytes_max = (uint32_t)s.crew->row_most;
            for (int rows = 1; rows <= ROWS; rows++) {
                submit(&s, rows % 4 == 0, rows);
                assert_int_equal(outcome(&s, 1000 * MS), TD_TICKET_DONE);
                assert_int_equal(td_crew_finish(s.crew, 0), TD_OK);
            }
            assert_int_equal(s.worker->bad_frames, 0);
            assert_true(s.worker->clients[0].submits > ROWS);
            close_stage(&s);
        }
}

/* ---- serials ------------------------------------------------------------------------------------------------------------------------------------- */

static void serials_begin_again(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    open_crew(&s, (td_crew_options){0});
    pass(&s, 20 * MS);
    s.crew->peers[0].serial = s.worker->clients[0].serial = 0xFFFFFFF0;
    for (int i = 0; i < 600; i++) {
        submit(&s, 0, 1);
        assert_int_equal(outcome(&s, 1000 * MS), TD_TICKET_DONE);
        td_crew_finish(s.crew, 0);
    }
    assert_int_equal(s.worker->clients[0].serial, 600 - 16);
    assert_int_equal(s.worker->clients[0].repeated, 0);
    close_stage(&s);
}

static void old_and_doubled_submits_are_passed_over(void **state)
{
    (void)state;
    static const struct { uint32_t serial; bool fresh; } sent[] = {{0xFFFFFFFE, true}, {2, true}, {0xFFFFFFFE, false}, {0xFFFFFFFF, true}, {2, false}, {0xFFFFFF02, false}, {0xFFFFFF03, true}, {300, true}, {44, false}, {45, true}};
    stage s;
    hand h = {0};
    int answers = 0;
    open_stage(&s);
    reach(&s, &h, "w:1", true);
    s.worker->clients[0].serial = 0xFFFFFFF0;
    for (int i = 0; i < (int)(sizeof sent / sizeof *sent); i++) {
        hand_submit(&s, &h, narrow, 1, td_shape_full(&shape, 0), sent[i].serial, 0);
        pass(&s, 5 * MS);
        answers += sent[i].fresh;
        assert_int_equal(h.answers, answers);
    }
    close_stage(&s);
}

/* The worker has every other expert; what is left is computed here. */
static void open_half_stage(stage *s, const td_compute *local)
{
    open_stage(s);
    for (int e = 0; e < EXPERTS; e += 2) s->worker->hello.experts[e >> 3] &= (uint8_t)~(1u << (e & 7)), s->worker->hello.preferred[e >> 3] &= (uint8_t)~(1u << (e & 7));
    open_crew(s, (td_crew_options){.local = local});
    pass(s, 100 * MS);
}

/* ---- who is lost --------------------------------------------------------------------------------------------------------------------------------- */

/* The fallback computes for longer than any silence that is allowed: nobody is lost for what this process did not hear. */
static void computing_here_is_not_silence_there(void **state)
{
    (void)state;
    stage s;
    td_compute local = {&s, toy_run, toy_slots};
    open_half_stage(&s, &local);
    while (s.crew->peers[0].heard_at <= (int64_t)s.crew->peers[0].asked || s.crew->peers[0].ping_at <= s.world->now + MS) pass(&s, MS); /* no ping is on its way */
    s.compute_ns = 3000 * MS;
    for (int i = 0; i < ROWS * TOP_K; i++) s.ids[i] = i % TOP_K * 2; /* none of the worker's */
    s.crew_node->step = NULL;
    submit(&s, 0, 1);
    td_crew_step(s.crew, true);
    td_crew_step(s.crew, true);
    assert_int_equal(s.crew->peers[0].state, TD_PEER_READY);
    assert_int_equal(s.crew->stats.workers_lost, 0);
    s.crew_node->step = crew_life;
    s.worker_node->stopped = true; /* and it is lost when it really is silent */
    pass(&s, 2100 * MS);
    assert_int_equal(s.crew->stats.workers_lost, 1);
    close_stage(&s);
}

static stage *slow_join;
static td_status join_late(td_transport *transport, int conn, const uint8_t *offer, size_t bytes)
{
    (void)transport, (void)conn, (void)offer, (void)bytes;
    slow_join->world->now += 400 * MS;
    return TD_OK;
}

/* Opening lanes takes longer than any silence, or this process stands still as soon as they are open: the worker stays. */
static void a_worker_is_not_lost_while_it_becomes_ready(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++) {
        stage s;
        open_stage(&s);
        open_crew(&s, (td_crew_options){0});
        td_transport_ops ops = *s.crew_node->base.ops;
        if (!after) ops.join = join_late;
        s.crew_node->base.ops = &ops;
        slow_join = &s;
        while (s.crew->peers[0].state != TD_PEER_READY) {
            pass(&s, 1000);
            if (s.crew->peers[0].state == TD_PEER_GREETING && !s.crew->due) s.crew_node->step = NULL; /* no step between ready and here */
        }
        if (after) s.world->now += 400 * MS;
        td_crew_step(s.crew, true);
        assert_int_equal(s.crew->peers[0].state, TD_PEER_READY);
        s.crew_node->step = crew_life;
        pass(&s, 1000 * MS);
        assert_int_equal(s.crew->stats.workers_lost, 0);
        close_stage(&s);
    }
}

/* A worker hangs, and every step computes here for long: it is given up all the same, so that tickets stop asking it first. */
static void one_that_hangs_is_noticed_between_computing(void **state)
{
    (void)state;
    stage s;
    td_compute local = {&s, toy_run, toy_slots};
    open_half_stage(&s, &local);
    for (int i = 0; i < 60; i++) {
        if (i == 20) s.compute_ns = 400 * MS, s.worker_node->stopped = true; /* by now it is known how fast the worker was */
        submit(&s, 0, 2);
        assert_int_equal(outcome(&s, 5000 * MS), TD_TICKET_DONE);
        td_crew_finish(s.crew, 0);
    }
    assert_int_equal(s.crew->stats.workers_lost, 1);
    close_stage(&s);
}

/* Long round trips make long pauses between steps: they are not this process's blindness. */
static void one_far_worker_that_hangs_is_noticed(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    s.worker_node->slow = 200 * MS;
    open_crew(&s, (td_crew_options){0});
    pass(&s, 10000 * MS);
    assert_int_equal(s.crew->peers[0].state, TD_PEER_READY);
    s.worker_node->stopped = true;
    pass(&s, 2600 * MS);
    assert_int_equal(s.crew->stats.workers_lost, 1);
    close_stage(&s);
}

/* ---- when to step, when to give up --------------------------------------------------------------------------------------------------------------- */

static void what_happens_makes_a_step_due(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    open_crew(&s, (td_crew_options){0});
    assert_true(s.crew->due); /* a worker was added */
    s.crew_node->step = NULL;
    td_crew_step(s.crew, true);
    td_crew_step(s.crew, true);
    assert_false(s.crew->due);
    pass(&s, 20 * MS);
    assert_true(s.crew->due); /* it is ready */
    td_crew_step(s.crew, true);
    assert_false(s.crew->due);
    submit(&s, 0, ROWS);
    assert_true(s.crew->due);
    td_crew_step(s.crew, true);
    sim_kill(s.worker_node);
    td_worker_close(s.worker);
    s.worker = NULL;
    pass(&s, 6 * MS);
    assert_int_equal(s.crew->peers[0].state, TD_PEER_AWAY);
    assert_true(s.crew->due); /* it is lost */
    assert_true(td_crew_step(s.crew, true) <= s.crew->peers[0].retry_at);
    assert_true(s.crew->wake <= s.crew->peers[0].retry_at);
    assert_int_equal(td_crew_drain(s.crew, "w:1"), TD_OK);
    assert_true(s.crew->due);
    td_crew_finish(s.crew, 0);
    close_stage(&s);
}

static void slow_is_not_lost_however_short_the_patience(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    open_crew(&s, (td_crew_options){.patience = MS});
    pass(&s, 20 * MS);
    s.worker_node->slow = 100 * MS;
    submit(&s, 0, ROWS);
    assert_int_equal(outcome(&s, 1000 * MS), TD_TICKET_DONE);
    td_crew_finish(s.crew, 0);
    close_stage(&s);
}

static void time_in_which_this_process_stood_still_is_not_patience(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    open_crew(&s, (td_crew_options){.patience = 1000 * MS});
    pass(&s, 20 * MS);
    sim_kill(s.worker_node);
    td_worker_close(s.worker);
    s.worker = NULL;
    pass(&s, 20 * MS);
    submit(&s, 0, 1);
    pass(&s, 100 * MS);
    s.world->now += 5000 * MS; /* as after SIGSTOP */
    pass(&s, 800 * MS);
    assert_int_equal(td_crew_look(s.crew, 0), TD_TICKET_OPEN);
    pass(&s, 300 * MS);
    assert_int_equal(td_crew_look(s.crew, 0), TD_TICKET_FAILED);
    td_crew_finish(s.crew, 0);
    s.world->now += 300000 * MS;
    close_stage(&s);
}

/* ---- parts of a ticket --------------------------------------------------------------------------------------------------------------------------- */

/* More parts than may be in the air at once: the worker does not wait for those that wait for its answers. */
static void parts_that_cannot_come_are_not_awaited(void **state)
{
    (void)state;
    stage s;
    open_stage(&s);
    open_crew(&s, (td_crew_options){0});
    pass(&s, 20 * MS);
    s.worker_node->step = NULL; /* so that what it is sent lies there */
    submit(&s, 0, ROWS);
    pass(&s, MS / 10);
    for (int i = 0; i < CREDITS; i++) assert_int_equal(s.worker->places[i].key.aux, CREDITS - 1 - i);
    s.worker_node->step = worker_life;
    s.worker_node->wake_at = s.world->now;
    assert_int_equal(outcome(&s, MS), TD_TICKET_DONE);
    assert_true(s.worker->clients[0].submits > CREDITS);
    td_crew_finish(s.crew, 0);
    close_stage(&s);
}

/* The same with a client that counts wrongly: all its places are taken, or the batch is full. Else the worker waits for what was announced, but not for ever. */
static void what_a_client_announces_is_bounded(void **state)
{
    (void)state;
    static const struct { int submits, rows, at_once; } cases[] = {{CREDITS, 1, CREDITS}, {1, 1, 0}, {2, 32, 2}};
    for (int c = 0; c < 3; c++) {
        stage s;
        hand h = {0};
        open_stage(&s);
        if (c == 2) s.worker->setup.rows_max = 64;
        reach(&s, &h, "w:1", true);
        for (int i = 0; i < cases[c].submits; i++) hand_submit(&s, &h, (td_wire_mode){TD_ENCODING_F8, TD_ENCODING_BF16}, cases[c].rows, 1, (uint32_t)i + 1, 9);
        pass(&s, MS);
        assert_int_equal(h.answers, cases[c].at_once);
        pass(&s, 2 * MS);
        assert_int_equal(h.answers, cases[c].submits);
        close_stage(&s);
    }
}

/* ---- strangers ----------------------------------------------------------------------------------------------------------------------------------- */

static void strangers_make_room_at_a_worker(void **state)
{
    (void)state;
    stage s;
    hand strangers[CLIENTS] = {0};
    open_stage(&s);
    for (int i = 0; i < CLIENTS; i++) strangers[i].node = i ? strangers[0].node : NULL, reach(&s, &strangers[i], "w:1", false);
    pass(&s, 50 * MS);
    hand early = {.node = strangers[0].node}; /* those who came have a moment to prove who they are */
    reach(&s, &early, "w:1", false);
    pass(&s, 10 * MS);
    assert_int_equal(s.worker->refused, 1);
    pass(&s, 50 * MS);
    open_crew(&s, (td_crew_options){0});
    pass(&s, 10 * MS);
    assert_int_equal(s.crew->peers[0].state, TD_PEER_READY);
    assert_int_equal(s.worker->refused, 1);
    hand more[CLIENTS] = {0}; /* a client is not moved by strangers */
    for (int i = 0; i < CLIENTS; i++) {
        pass(&s, 200 * MS);
        more[i].node = strangers[0].node;
        reach(&s, &more[i], "w:1", false);
    }
    pass(&s, 200 * MS);
    assert_int_equal(s.crew->peers[0].state, TD_PEER_READY);
    assert_int_equal(s.crew->stats.workers_lost, 0);
    close_stage(&s);
}

static void strangers_make_room_at_the_control_address(void **state)
{
    (void)state;
    stage s;
    hand strangers[TD_VISITORS_MAX] = {0}, visitor = {0};
    open_stage(&s);
    open_crew(&s, (td_crew_options){0});
    pass(&s, 20 * MS);
    for (int i = 0; i < TD_VISITORS_MAX; i++) strangers[i].node = i ? strangers[0].node : NULL, reach(&s, &strangers[i], "a:1", false);
    pass(&s, 150 * MS);
    reach(&s, &visitor, "a:1", true);
    hand_send(&visitor, (td_frame){.kind = TD_FRAME_COMMAND, .payload_bytes = 5}, "stats");
    pass(&s, 10 * MS);
    assert_int_equal(visitor.texts, 1);
    close_stage(&s);
}

/* Spans of one lane must not overlap, else viewers drop one: rows of two micro-batches that a worker computed at once get two lanes, the next ones one again; a file that is there is kept until then. */
static void spans_of_a_lane_do_not_overlap(void **state)
{
    (void)state;
    char path[] = "/tmp/tandem-trace-XXXXXX", *text;
    size_t bytes;
    td_trace *trace;
    const char *names[TD_PEERS_MAX] = {"w:1"};
    static const int64_t spans[][3] = {{1000, 2000, 0}, {1100, 2100, 1}, {2200, 2900, 2}}; /* begin, end, micro-batch */
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "before", 6) == 6 && close(fd) == 0);
    assert_int_equal(td_trace_open(path, 8, &trace), TD_OK);
    assert_int_equal(td_file_read(path, 1 << 20, &text, &bytes), TD_OK);
    assert_true(bytes == 6);
    free(text);
    for (size_t i = 0; i < TD_COUNT(spans); i++) td_trace_add(trace, &(td_span){.begin = spans[i][0], .end = spans[i][1], .kind = TD_SPAN_COMPUTE, .micro_batch = (uint8_t)spans[i][2]});
    assert_int_equal(td_trace_close(trace, names, TD_PEERS_MAX), TD_OK);
    assert_int_equal(td_file_read(path, 1 << 20, &text, &bytes), TD_OK);
    int lanes[3], found = 0;
    for (const char *at = text; (at = strstr(at, "\"ph\":\"X\"")) && found < 3; at++) assert_int_equal(sscanf(strstr(at, "\"tid\":"), "\"tid\":%d", &lanes[found++]), 1);
    assert_int_equal(found, 3);
    assert_true(lanes[0] == 1 && lanes[1] == 3 && lanes[2] == 1);
    free(text);
    unlink(path);
    assert_int_equal(td_trace_open("/nonexistent/t.json", 8, &trace), TD_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submit_may_not_ask_for_more_than_a_frame_holds), cmocka_unit_test(honest_submits_are_never_refused), cmocka_unit_test(serials_begin_again),
        cmocka_unit_test(old_and_doubled_submits_are_passed_over), cmocka_unit_test(computing_here_is_not_silence_there), cmocka_unit_test(a_worker_is_not_lost_while_it_becomes_ready), cmocka_unit_test(one_that_hangs_is_noticed_between_computing), cmocka_unit_test(one_far_worker_that_hangs_is_noticed),
        cmocka_unit_test(what_happens_makes_a_step_due), cmocka_unit_test(slow_is_not_lost_however_short_the_patience), cmocka_unit_test(time_in_which_this_process_stood_still_is_not_patience),
        cmocka_unit_test(parts_that_cannot_come_are_not_awaited), cmocka_unit_test(what_a_client_announces_is_bounded), cmocka_unit_test(strangers_make_room_at_a_worker),
        cmocka_unit_test(strangers_make_room_at_the_control_address), cmocka_unit_test(spans_of_a_lane_do_not_overlap),
    };
    if (sodium_init() < 0 || td_kernel_pick("ref", &kernel) < 0) return 1;
    td_log_level(getenv("TD_LOUD") ? TD_LOG_DEBUG : TD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
