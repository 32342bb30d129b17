/*
 * bench_link.c - what the corridor itself costs, without arithmetic and with it.
 *
 *   bench_link message [--bytes 65536] [--rounds 4000]
 *       Own overhead per message: a submit and its answer through crew, UCX and worker (frames, checksums, copies, state machines; the FFN is a memcpy of the rows) against
 *       a bare ping-pong of active messages of the same sizes with the same UCX settings. Two processes, a core each, shared memory; taken in turns in one run.
 *   bench_link seam MODEL [--rows 16] [--layers N]
 *       The local link against calling the FFN directly, on the same random rows, in turns.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "median.h"
#include "base/random.h"
#include "ffn/ffn.h"
#include "link/crew.h"
#include "link/worker.h"

enum { PORT_BASE = 20000, WIDTH = 2048, BATCHES = 9 };
#define PATIENT ((int64_t)60000000000)

static td_secret secret;

static __attribute__((noreturn)) void stop(const char *what)
{
    fprintf(stderr, "bench_link: %s: %s\n", what, td_error());
    exit(1);
}

static void use_core(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- bare ping-pong ----------------------------------------------------------------------------------------------------------------------- */

typedef struct { td_transport *transport; uint8_t *buffer; int conn, pending; bool echo, joined, arrived; } end;

enum { OFFER_MAX = 4096 };

/* Connections begin at the door; lanes are there once each side has joined what the other offered. */
static void bare_offer(end *e)
{
    static uint8_t offer[OFFER_MAX];
    size_t bytes = e->transport->ops->offer(e->transport, e->conn, offer, sizeof offer);
    if (bytes == 0) stop("no lanes are offered");
    e->pending++;
    e->transport->ops->send(e->transport, e->conn, offer, bytes, offer);
}

static void bare_join(end *e, const uint8_t *offer, size_t bytes)
{
    if (e->transport->ops->join(e->transport, e->conn, offer, bytes) < 0) stop("lanes");
    e->joined = true;
    if (e->echo) bare_offer(e); /* by the lanes already */
}

static void bare_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    end *e = user; /* a receiver that reads where UCX put it */
    if (!e->joined) {
        bare_join(e, data, bytes);
        return;
    }
    if (!e->echo) {
        e->arrived = true;
        return;
    }
    e->pending++;
    e->transport->ops->send(e->transport, conn, e->buffer, bytes, e->buffer);
}

static void bare_closed(void *user, int conn, const char *why) { (void)conn, (void)why, ((end *)user)->conn = -1; }
static void bare_accepted(void *user, int conn, const char *name) { (void)name, ((end *)user)->conn = conn; }
static void bare_sent(void *user, void *buffer) { (void)buffer, ((end *)user)->pending--; }

static end *bare_end(const char *address, size_t bytes, bool echo)
{
    end *e = calloc(1, sizeof *e);
    e->buffer = aligned_alloc(64, (bytes + 64) / 64 * 64);
    memset(e->buffer, 1, bytes);
    e->echo = echo;
    if (td_transport_ucx_open((1 << 20) + 4096, 50000, address, &e->transport) < 0) stop("ucx");
    e->transport->events = (td_transport_events){e, bare_accepted, bare_frame, bare_closed, bare_sent};
    return e;
}

static double bare_rounds(end *e, size_t bytes, int rounds)
{
    int64_t start = td_now_ns();
    for (int i = 0; i < rounds; i++) {
        e->arrived = false;
        e->pending++;
        e->transport->ops->send(e->transport, e->conn, e->buffer, bytes, e->buffer);
        while ((!e->arrived || e->pending > 0) && e->conn >= 0) e->transport->ops->progress(e->transport);
        if (e->conn < 0) stop("the bare side lost its peer");
    }
    return td_seconds_since(start) * 1e6 / rounds;
}

/* ---- the corridor with an FFN that copies ----------------------------------------------------------------------------------------------------- */

static void copy_run(void *user, const td_ffn_job *job, float *y) { (void)user, memcpy(y, job->x, (size_t)job->rows * WIDTH * sizeof(float)); }
static void copy_slots(void *user, const td_ffn_job *job, float *slots, float *shared) { (void)user, (void)job, (void)slots, (void)shared; }

static td_shape shape_of(const bool *is_moe) { return (td_shape){.fingerprint = 7, .name = "copy", .dtype = "f32", .layers = 1, .d_model = WIDTH, .is_moe = is_moe}; }

static double crew_rounds(td_crew *crew, td_transport *t, const td_link_job *job, int rounds)
{
    int64_t start = td_now_ns();
    for (int i = 0; i < rounds; i++) {
        if (td_crew_submit(crew, job) < 0) stop("submit");
        int64_t wake = 0;
        while (td_crew_look(crew, 0) == TD_TICKET_OPEN) {
            t->ops->progress(t);
            if (td_now_ns() >= wake) wake = td_crew_step(crew, false);
        }
        if (td_crew_finish(crew, 0) < 0) stop("answer");
    }
    return td_seconds_since(start) * 1e6 / rounds;
}

/* The other process: both kinds of service, whoever calls. */
static void serve_forever(const char *bare, const char *full, size_t bytes, const td_kernel *kernel, int ready)
{
    static const bool dense[1] = {false};
    td_shape shape = shape_of(dense);
    td_transport *t;
    td_worker *worker;
    end *e = bare_end(bare, bytes, true);
    if (e->transport->ops->listen(e->transport, bare) < 0 || td_transport_ucx_open((1 << 20) + 4096, 50000, full, &t) < 0) stop("ucx");
    td_worker_setup setup = {.shape = &shape, .kernel = kernel, .transport = t, .compute = {NULL, copy_run, copy_slots}, .secret = secret};
    if (td_worker_open(&setup, &worker) < 0 || t->ops->listen(t, full) < 0) stop("worker");
    if (write(ready, "r", 1) != 1) exit(1);
    for (;;) {
        e->transport->ops->progress(e->transport);
        t->ops->progress(t);
        td_worker_step(worker);
    }
}

static int message(size_t bytes, int rounds)
{
    static const bool dense[1] = {false};
    char bare[32], full[32], byte;
    int ends[2], rows = (int)(bytes / (WIDTH * sizeof(float)));
    double plain[BATCHES], own[BATCHES], difference[BATCHES];
    const td_kernel *kernel;
    td_shape shape = shape_of(dense);
    if (rows < 1 || td_kernel_pick(NULL, &kernel) < 0 || pipe(ends) < 0) stop("start");
    snprintf(bare, sizeof bare, "127.0.0.1:%d", PORT_BASE + getpid() % 20000);
    snprintf(full, sizeof full, "127.0.0.1:%d", PORT_BASE + 20000 + getpid() % 20000);
    memset(secret.key, 5, sizeof secret.key);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        use_core(1);
        serve_forever(bare, full, bytes, kernel, ends[1]);
    }
    if (child < 0 || read(ends[0], &byte, 1) != 1) stop("child");
    use_core(0);
    end *e = bare_end(bare, bytes, false);
    if (e->transport->ops->connect(e->transport, bare, &e->conn) < 0) stop("connect");
    bare_offer(e);
    while (!e->joined && e->conn >= 0) e->transport->ops->progress(e->transport);
    if (e->conn < 0) stop("the bare side found nobody");
    td_transport *t;
    td_crew *crew;
    if (td_transport_ucx_open((1 << 20) + 4096, 50000, full, &t) < 0) stop("ucx");
    td_crew_options options = {.shape = &shape, .kernel = kernel, .transport = t, .secret = secret, .rows_max = rows, .silence_min = PATIENT, .silence_max = PATIENT}; /* while the bare side has its turn nobody looks at the heartbeats */
    if (td_crew_open(&options, &crew) < 0 || td_crew_add(crew, full) < 0) stop("crew");
    while (!td_crew_all_ready(crew)) {
        t->ops->progress(t);
        td_crew_step(crew, false);
    }
    float *x = aligned_alloc(64, bytes), *y = aligned_alloc(64, bytes);
    for (size_t i = 0; i < bytes / 4; i++) x[i] = (float)i;
    td_link_job job = {.rows = rows, .x = x, .y = y};
    bare_rounds(e, bytes, rounds / 4);
    crew_rounds(crew, t, &job, rounds / 4);
    for (int i = 0; i < BATCHES; i++) {
        plain[i] = bare_rounds(e, bytes, rounds / BATCHES);
        own[i] = crew_rounds(crew, t, &job, rounds / BATCHES);
        difference[i] = (own[i] - plain[i]) / 2;
    }
    char lanes[2][192];
    e->transport->ops->describe(e->transport, e->conn, lanes[0], sizeof lanes[0]);
    t->ops->describe(t, crew->peers[0].conn, lanes[1], sizeof lanes[1]);
    printf("lanes: bare %s; crew and worker %s\n", lanes[0], lanes[1]);
    if (strcmp(lanes[0], lanes[1]) != 0 || !lanes[0][0]) stop("the two sides went different ways: the difference would say nothing");
    printf("%zu bytes each way: bare round trip %.1f us, through crew and worker %.1f us; own overhead %.1f us a message (median of %d)\n", bytes, median(plain, BATCHES), median(own, BATCHES),
           median(difference, BATCHES), BATCHES);
    if (memcmp(x, y, bytes) != 0) stop("other bytes came back");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

/* ---- the seam ------------------------------------------------------------------------------------------------------------------------------------ */

static int seam(const char *path, int rows)
{
    enum { ROUNDS = 7, TIMES = 12 };
    td_model *model;
    td_pool *pool;
    td_ffn *ffn;
    td_link *link;
    const td_kernel *kernel;
    double direct[ROUNDS], linked[ROUNDS], ratio[ROUNDS];
    if (td_model_open(path, NULL, &model) < 0 || td_kernel_pick(NULL, &kernel) < 0 || td_pool_open(0, &pool) < 0 || td_ffn_open(model, kernel, pool, rows, &ffn) < 0) stop("model");
    td_link_options options = {.model = model, .kernel = kernel, .pool = pool, .rows_max = rows};
    if (td_link_open(&options, &link) < 0) stop("link");
    const td_config *c = &model->config;
    size_t n = (size_t)rows * (size_t)c->d_model, slots = (size_t)rows * (size_t)TD_MAX(c->top_k, 1);
    float *x = malloc(n * 4), *y = malloc(n * 4), *weights = malloc(slots * 4);
    int32_t *ids = malloc(slots * 4);
    td_random dice = {.seed = 3};
    for (size_t i = 0; i < n; i++) x[i] = (float)td_random_next_unit(&dice) - 0.5f;
    for (size_t i = 0; i < slots; i++) {
        weights[i] = 0.1f;
        ids[i] = c->experts ? (int32_t)((i % (size_t)c->top_k * 37 + i / (size_t)c->top_k * 11) % (size_t)c->experts) : 0;
    }
    for (int r = -1; r < ROUNDS; r++) {
        int64_t start = td_now_ns();
        for (int i = 0; i < TIMES; i++) {
            int layer = i % c->layers;
            td_ffn_job job = {.layer = layer, .rows = rows, .x = x, .ids = model->is_moe[layer] ? ids : NULL, .weights = model->is_moe[layer] ? weights : NULL};
            td_ffn_run(ffn, &job, y);
        }
        int64_t middle = td_now_ns();
        for (int i = 0; i < TIMES; i++) {
            int layer = i % c->layers;
            td_link_job job = {.step = (uint64_t)i, .layer = layer, .rows = rows, .x = x, .ids = model->is_moe[layer] ? ids : NULL, .weights = model->is_moe[layer] ? weights : NULL, .y = y};
            if (td_link_submit(link, &job) < 0 || td_link_wait(link, 0) < 0) stop("link");
        }
        if (r < 0) continue;
        direct[r] = (double)(middle - start) * 1e-3 / TIMES;
        linked[r] = (double)(td_now_ns() - middle) * 1e-3 / TIMES;
        ratio[r] = linked[r] / direct[r];
    }
    int64_t start = td_now_ns();
    td_link_job none = {.y = y, .x = x};
    for (int i = 0; i < 1000000; i++) {
        td_link_submit(link, &none);
        td_link_wait(link, 0);
    }
    double empty = td_seconds_since(start) * 1e9 / 1e6;
    printf("%s %s, %d rows: FFN called directly %.1f us a layer, through the local link %.1f us, ratio %.4f (median of %d); an empty submit and wait takes %.0f ns, %.5f %% of a layer\n", model->info.name,
           model->info.dtype, rows, median(direct, ROUNDS), median(linked, ROUNDS), median(ratio, ROUNDS), ROUNDS, empty, empty / 10 / median(direct, ROUNDS));
    return 0;
}

int main(int argc, char **argv)
{
    size_t bytes = 65536;
    int rounds = 4000, rows = 16;
    const char *model = NULL;
    if (argc < 2) goto usage;
    for (int i = 2; i < argc; i++) {
        if (i + 1 < argc && !strcmp(argv[i], "--bytes")) bytes = (size_t)atoll(argv[++i]);
        else if (i + 1 < argc && !strcmp(argv[i], "--rounds")) rounds = atoi(argv[++i]);
        else if (i + 1 < argc && !strcmp(argv[i], "--rows")) rows = atoi(argv[++i]);
        else model = argv[i];
    }
    if (!strcmp(argv[1], "message")) return message(bytes, rounds < BATCHES ? BATCHES : rounds);
    if (!strcmp(argv[1], "seam") && model && rows > 0) return seam(model, rows);
usage:
    fprintf(stderr, "usage: bench_link message [--bytes N] [--rounds N] | seam MODEL [--rows N]\n");
    return 2;
}
