/*
 * serve_worker.c - td_worker_run: an FFN worker as a process. The calling thread moves messages and computes; while it computes, a second thread looks in every
 * 20 ms so that heartbeats are answered and submits of other clients are taken in. And td_workers_ask: a control client.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "link/remote.h"
#include "link/worker.h"

#define US ((int64_t)1000)
#define SPIN_NS (50 * US)
#define DRAIN_MAX (10000 * TD_MS)

enum { REPLY_MAX = (1 << 20) + 4096 }; /* what a control client receives */

static atomic_int stop_wishes; /* of this process's worker; a signal handler may write it */
void td_worker_stop(void) { atomic_fetch_add(&stop_wishes, 1); }

typedef struct {
    td_transport *transport;
    td_worker *worker;
    td_pool *pool;
    td_ffn *ffn;
    pthread_t helper;
    bool helper_started;
    atomic_bool closing;
    atomic_int owner;
    int64_t looked_at;         /* end of the last look at what arrives */
} worker_process;

static bool try_own(worker_process *p) { return !atomic_exchange_explicit(&p->owner, 1, memory_order_acquire); }
static void lock(void *user)
{
    worker_process *p = user;
    while (!try_own(p)) sched_yield();
}
static void unlock(void *user) { atomic_store_explicit(&((worker_process *)user)->owner, 0, memory_order_release); }

static void look(worker_process *p)
{
    p->worker->unseen = td_now_ns() - p->looked_at;
    while (p->transport->ops->progress(p->transport)) p->worker->unseen = 0;
    p->worker->unseen = 0;
    p->looked_at = td_now_ns();
}

static void *help(void *arg)
{
    worker_process *p = arg;
    while (!atomic_load(&p->closing)) {
        struct timespec sleep = {.tv_nsec = 20 * TD_MS};
        nanosleep(&sleep, NULL);
        if (!try_own(p)) continue;
        look(p);
        td_worker_tend(p->worker);
        unlock(p);
    }
    return NULL;
}

static td_status open_all(worker_process *p, const td_model *model, td_shape *shape, const td_worker_options *o)
{
    uint8_t layers[64], experts[512], preferred[512] = {0};
    const td_kernel *kernel;
    td_worker_setup setup = {.shape = shape, .require_encryption = o->encrypt, .layers = layers, .experts = experts, .clients_max = o->clients_max, .rows_max = o->rows_max ? o->rows_max : 512,
                             .batch_wait = o->batch_wait_us > 0 ? o->batch_wait_us * US : o->batch_wait_us, .lock = lock, .unlock = unlock, .lock_user = p};
    if (!o->listen) return td_fail(TD_E_INVALID, "worker: expected an address to listen on, found none");
    TD_TRY(td_secret_load(o->secret_file, &setup.secret));
    td_weights_here(model, layers, experts);
    bool any = false;
    for (int i = 0; i < 64; i++) any |= layers[i] != 0;
    if (!any) return td_fail(TD_E_INVALID, "worker: the model was opened without FFN weights");
    if (o->preferred_experts) {
        TD_TRY(td_bits_parse("experts", o->preferred_experts, model->config.experts, preferred));
        setup.preferred = preferred;
    }
    TD_TRY(td_kernel_pick(o->isa, &kernel));
    TD_TRY(td_pool_open(o->threads, &p->pool));
    TD_TRY(td_ffn_open(model, kernel, p->pool, setup.rows_max, &p->ffn));
    TD_TRY(td_transport_ucx_open((1 << 20) + 4096, SPIN_NS, o->listen, &p->transport));
    setup.kernel = kernel;
    setup.transport = p->transport;
    setup.compute = td_compute_ffn(p->ffn);
    TD_TRY(td_worker_open(&setup, &p->worker));
    TD_TRY(p->transport->ops->listen(p->transport, o->listen));
    if (pthread_create(&p->helper, NULL, help, p) != 0) return td_fail(TD_E_MEMORY, "worker: the system refused a thread");
    p->helper_started = true;
    td_log(TD_LOG_INFO, "worker", "ready on %s: %s (%s), %s, %d threads, scratch %.1f MB", o->listen, shape->name, shape->dtype, kernel->name, td_pool_threads(p->pool),
           (double)(p->worker->arena.bytes_reserved + td_ffn_scratch_bytes(p->ffn)) * 1e-6);
    return TD_OK;
}

static void serve(worker_process *p)
{
    int64_t asked_at = 0;
    lock(p);
    p->looked_at = td_now_ns();
    for (;;) {
        look(p);
        int64_t wake = td_worker_step(p->worker), now = td_now_ns();
        int wishes = atomic_load(&stop_wishes);
        if (wishes > 0 && asked_at == 0) {
            td_worker_drain(p->worker);
            asked_at = now;
        }
        if (wishes > 1 || (asked_at && (td_worker_drained(p->worker) || now - asked_at > DRAIN_MAX))) break;
        if (wake <= now) continue;
        p->transport->ops->rest(p->transport, TD_MIN(wake - now, 100 * TD_MS));
        p->looked_at = td_now_ns();
    }
    unlock(p);
}

td_status td_worker_run(td_model *model, const td_worker_options *options)
{
    worker_process p = {0};
    td_shape shape = td_shape_of(model);
    atomic_store(&stop_wishes, 0);
    td_status status = open_all(&p, model, &shape, options);
    if (status == TD_OK) {
        if (options->ready) options->ready(options->ready_user);
        serve(&p);
    }
    char why[900];
    snprintf(why, sizeof why, "%s", td_error());
    atomic_store(&p.closing, true);
    if (p.helper_started) pthread_join(p.helper, NULL);
    td_worker_close(p.worker);
    if (p.transport) p.transport->ops->close(p.transport);
    td_ffn_close(p.ffn);
    td_pool_close(p.pool);
    return status < 0 ? td_fail(status, "%s", why) : TD_OK;
}

/* ---- control client ------------------------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    td_transport *transport;
    td_secret secret;
    td_session session;
    td_arena arena;
    td_outbox box;
    uint8_t *scratch;
    int conn;
    const char *command;
    bool done;
    td_status status;
    char *reply;
} asking;

static void ask_fail(asking *a, td_status status, const char *why)
{
    if (a->done) return;
    a->done = true;
    a->status = td_fail(status, "%s", why);
}

static void ask_send(asking *a, td_frame_kind kind, const void *payload, size_t bytes)
{
    uint8_t *room = td_outbox_take(&a->box);
    size_t length;
    if (!room) return;
    memcpy(td_outbox_payload(room), payload, bytes);
    td_frame frame = {.kind = kind, .payload = td_outbox_payload(room), .payload_bytes = bytes};
    const uint8_t *data = td_session_seal(&a->session, room, &frame, &length);
    if (!a->transport->ops->send(a->transport, a->conn, data, length, room)) td_outbox_give(&a->box, room);
}

static void ask_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    asking *a = user;
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME], hello_bytes[TD_HELLO_BYTES];
    size_t back_bytes;
    if (conn != a->conn || a->done) return;
    if (td_session_take(&a->session, &a->secret, false, data, bytes, a->scratch, REPLY_MAX, &what, &frame, back, &back_bytes) < 0) {
        char why[256];
        snprintf(why, sizeof why, "%s", td_error());
        ask_fail(a, TD_E_PEER, why);
        return;
    }
    if (back_bytes) {
        uint8_t *room = td_outbox_take(&a->box);
        if (room) {
            memcpy(room, back, back_bytes);
            if (!a->transport->ops->send(a->transport, conn, room, back_bytes, room)) td_outbox_give(&a->box, room);
        }
    }
    if (what == TD_TAKE_OPENED) {
        td_hello hello = {.role = TD_ROLE_CONTROL, .shape = {.layers = 1, .d_model = 2}};
        snprintf(hello.version, sizeof hello.version, "%s", TD_VERSION);
        td_hello_put(hello_bytes, &hello);
        ask_send(a, TD_FRAME_HELLO, hello_bytes, sizeof hello_bytes);
        ask_send(a, TD_FRAME_COMMAND, a->command, strlen(a->command));
    }
    if (what != TD_TAKE_FRAME || (frame.kind != TD_FRAME_REPLY && frame.kind != TD_FRAME_ERROR)) return;
    char *text = malloc(frame.payload_bytes + 1);
    if (!text) {
        ask_fail(a, TD_E_MEMORY, "no memory for the reply");
        return;
    }
    memcpy(text, frame.payload, frame.payload_bytes);
    text[frame.payload_bytes] = 0;
    if (frame.kind == TD_FRAME_ERROR) {
        ask_fail(a, TD_E_INVALID, text);
        free(text);
        return;
    }
    a->reply = text;
    a->done = true;
}

static void ask_closed(void *user, int conn, const char *why)
{
    asking *a = user;
    char text[256];
    snprintf(text, sizeof text, "the connection ended (%s); is that a Tandem worker or --control address, with the same secret, and not full (--clients)?", why);
    if (conn == a->conn) ask_fail(a, TD_E_PEER, text);
}

static void ask_sent(void *user, void *buffer) { td_outbox_give(&((asking *)user)->box, buffer); }

static td_status ask(asking *a, const char *address, const char *secret_file)
{
    uint8_t *room;
    TD_TRY(td_secret_load(secret_file, &a->secret));
    TD_TRY(td_transport_ucx_open(REPLY_MAX, 0, address, &a->transport));
    TD_TRY(td_outbox_reserve(&a->box, 8, 4096, &a->arena));
    if (!(a->scratch = td_arena_get(&a->arena, REPLY_MAX))) return TD_E_MEMORY;
    a->transport->events = (td_transport_events){.user = a, .frame = ask_frame, .closed = ask_closed, .sent = ask_sent};
    int64_t start = td_now_ns();
    td_status status;
    while ((status = a->transport->ops->connect(a->transport, address, &a->conn)) == TD_E_TIMEOUT && td_now_ns() - start < 5000 * TD_MS) a->transport->ops->rest(a->transport, 10 * TD_MS); /* a name */
    TD_TRY(status);
    room = td_outbox_take(&a->box);
    size_t bytes = td_session_greet(&a->session, true, room);
    if (!a->transport->ops->send(a->transport, a->conn, room, bytes, room)) td_outbox_give(&a->box, room);
    while (!a->done && td_now_ns() - start < 5000 * TD_MS) a->transport->ops->rest(a->transport, 10 * TD_MS);
    if (!a->done) return td_fail(TD_E_TIMEOUT, "no answer within 5 s");
    return a->status;
}

td_status td_workers_ask(const char *address, const char *secret_file, const char *command, char **out)
{
    asking a = {.conn = -1, .command = command};
    if (strlen(command) > 1024) return td_fail(TD_E_INVALID, "workers: a command of %zu characters", strlen(command));
    td_status status = ask(&a, address, secret_file);
    char why[900];
    snprintf(why, sizeof why, "%s", td_error());
    if (a.transport) {
        if (a.conn >= 0) a.transport->ops->hang_up(a.transport, a.conn);
        a.transport->ops->close(a.transport);
    }
    td_arena_free(&a.arena);
    if (status < 0) {
        free(a.reply);
        return td_fail(status, "%s: %s", address, why);
    }
    *out = a.reply;
    return TD_OK;
}
