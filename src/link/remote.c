/*
 * remote.c - the link to FFN workers: a crew over UCX behind link.h.
 *
 * The decoding thread drives everything from inside submit and wait. A second thread looks in every 20 ms (every half millisecond while tickets are open and the
 * decoding thread computes), so that heartbeats go on and large messages keep moving. Whoever holds `owner` may touch the crew and the transport; taking it is one
 * atomic exchange, and the decoding thread holds it while it waits.
 */
#include "link/remote.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "link/crew.h"
#include "link/ops.h"

#define US ((int64_t)1000)
#define SPIN_NS (50 * US)      /* how long wait looks before it sleeps: a few times a small answer's journey over shared memory */
#define REST_MAX (2 * TD_MS)      /* others may need the crew */

typedef struct {
    td_link base;
    td_shape shape;
    td_transport *transport;
    td_crew *crew;
    td_ffn *ffn;               /* the local fallback */
    td_compute compute;
    td_trace *trace;
    pthread_t helper;
    bool helper_started;
    atomic_bool closing;
    atomic_int owner, visitors;
    double wait_ms;
    int64_t looked_at;         /* end of the last look at what arrives */
    int64_t idle_since;        /* end of the last call */
} remote_link;

/* ---- shape of a model -------------------------------------------------------------------------------------------------------------------------- */

td_shape td_shape_of(const td_model *m)
{
    const td_config *c = &m->config;
    td_shape shape = {.fingerprint = m->info.fingerprint, .layers = c->layers, .d_model = c->d_model, .experts = c->experts, .top_k = c->top_k, .shared = c->experts > 0 && c->d_shared > 0, .is_moe = m->is_moe};
    snprintf(shape.name, sizeof shape.name, "%s", m->info.name ? m->info.name : "unnamed");
    snprintf(shape.dtype, sizeof shape.dtype, "%s", m->info.dtype ? m->info.dtype : "");
    return shape;
}

bool td_weights_here(const td_model *m, uint8_t layers[64], uint8_t experts[512])
{
    const td_config *c = &m->config;
    bool all = m->ffn != NULL;
    memset(layers, 0, 64);
    memset(experts, 0xFF, 512);
    for (int l = 0; m->ffn && l < c->layers; l++) {
        const td_layer_ffn *f = &m->ffn[l];
        bool any = !m->is_moe[l] && f->gate.data;
        for (int e = 0; m->is_moe[l] && f->expert_gate && e < c->experts; e++) any |= f->expert_gate[e].data != NULL;
        if (any) td_bit_set(layers, l);
        else all = false;
        for (int e = 0; any && m->is_moe[l] && e < c->experts; e++)
            if (!f->expert_gate[e].data) {
                experts[e >> 3] &= (uint8_t)~(1u << (e & 7));
                all = false;
            }
    }
    if (!m->ffn) memset(experts, 0, 512);
    return all;
}

td_status td_bits_parse(const char *what, const char *text, int count, uint8_t *bits)
{
    const char *at = text;
    while (*at) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        bool good = end != at;
        if (good && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            good = end != at;
        }
        if (!good || first < 0 || last < first || last >= count || (*end && *end != ','))
            return td_fail(TD_E_INVALID, "%s: expected ranges such as 0-23,40 below %d, found '%s'", what, count, text);
        for (long i = first; i <= last; i++) td_bit_set(bits, (int)i);
        at = *end ? end + 1 : end;
    }
    return TD_OK;
}

/* ---- whose turn --------------------------------------------------------------------------------------------------------------------------------- */

static bool try_own(remote_link *r) { return !atomic_exchange_explicit(&r->owner, 1, memory_order_acquire); }
static void own(remote_link *r)
{
    while (!try_own(r)) sched_yield();
}
static void release(remote_link *r) { atomic_store_explicit(&r->owner, 0, memory_order_release); }

/* For threads that come rarely: the decoding thread makes room when it sees them. */
static void visit(remote_link *r)
{
    atomic_fetch_add(&r->visitors, 1);
    own(r);
}
static void leave(remote_link *r)
{
    release(r);
    atomic_fetch_sub(&r->visitors, 1);
}
static void make_room(remote_link *r)
{
    if (atomic_load_explicit(&r->visitors, memory_order_relaxed) == 0) return;
    release(r);
    while (atomic_load(&r->visitors) > 0) sched_yield();
    own(r);
}

/* One look at what has arrived. */
static bool look(remote_link *r)
{
    r->crew->unseen = r->looked_at ? td_now_ns() - r->looked_at : 0;
    bool happened = r->transport->ops->progress(r->transport);
    r->crew->unseen = 0;
    r->looked_at = td_now_ns();
    return happened;
}

static bool tickets_open(const remote_link *r)
{
    for (int i = 0; i < TD_MICRO_BATCHES_MAX; i++)
        if (td_crew_look(r->crew, i) == TD_TICKET_OPEN) return true;
    return false;
}

static void *help(void *arg)
{
    remote_link *r = arg;
    int64_t pause = 20 * TD_MS;
    while (!atomic_load(&r->closing)) {
        struct timespec sleep = {.tv_nsec = pause};
        nanosleep(&sleep, NULL);
        if (!try_own(r)) continue; /* the decoding thread is at it */
        while (look(r)) {}
        td_crew_step(r->crew, false);
        pause = tickets_open(r) ? TD_MS / 2 : 20 * TD_MS;
        release(r);
    }
    return NULL;
}

/* ---- link.h -------------------------------------------------------------------------------------------------------------------------------------- */

static void note(remote_link *r, td_span_kind kind, int64_t begin, int64_t end, uint64_t step, int layer, int micro_batch, int rows)
{
    if (!r->trace || end <= begin) return;
    td_span span = {.begin = begin, .end = end, .step = step, .layer = (uint16_t)layer, .rows = (uint16_t)rows, .kind = (uint8_t)kind, .micro_batch = (uint8_t)micro_batch, .peer = 255};
    td_trace_add(r->trace, &span);
}

static td_status remote_submit(td_link *link, const td_link_job *job)
{
    remote_link *r = (remote_link *)link;
    int64_t now = td_now_ns();
    own(r);
    note(r, TD_SPAN_ATTENTION, r->idle_since, now, job->step, job->layer, job->micro_batch, job->rows);
    td_status status = td_crew_submit(r->crew, job);
    look(r);
    release(r);
    r->idle_since = td_now_ns();
    return status;
}

static td_status remote_wait(td_link *link, int micro_batch)
{
    remote_link *r = (remote_link *)link;
    int64_t start = td_now_ns();
    own(r);
    td_crew *crew = r->crew;
    const td_link_job job = crew->tickets[micro_batch].job;
    while (td_crew_look(crew, micro_batch) == TD_TICKET_OPEN) {
        bool happened = look(r);
        if (td_crew_look(crew, micro_batch) != TD_TICKET_OPEN) break;
        if (td_now_ns() >= crew->wake || crew->due || crew->ready_flights > 0) {
            td_crew_step(crew, true);
            happened |= look(r);
        }
        make_room(r);
        if (happened || crew->due || td_crew_look(crew, micro_batch) != TD_TICKET_OPEN) continue;
        r->transport->ops->rest(r->transport, TD_MAX(TD_MIN(crew->wake - td_now_ns(), REST_MAX), 0));
        r->looked_at = td_now_ns();
    }
    td_status status = td_crew_finish(crew, micro_batch);
    r->idle_since = td_now_ns();
    r->wait_ms += (double)(r->idle_since - start) * 1e-6;
    note(r, TD_SPAN_WAIT, start, r->idle_since, job.step, job.layer, micro_batch, job.rows);
    release(r);
    return status;
}

static void remote_cancel(td_link *link, int micro_batch)
{
    remote_link *r = (remote_link *)link;
    own(r);
    if (td_crew_look(r->crew, micro_batch) != TD_TICKET_NONE) {
        char kept[512];
        snprintf(kept, sizeof kept, "%s", td_error()); /* the sentence of what went wrong is still wanted */
        td_crew_finish(r->crew, micro_batch);
        td_fail(TD_E_PEER, "%s", kept);
    }
    release(r);
}

static bool remote_ready(td_link *link, int micro_batch)
{
    remote_link *r = (remote_link *)link;
    own(r);
    look(r);
    bool ready = td_crew_look(r->crew, micro_batch) != TD_TICKET_OPEN;
    release(r);
    return ready;
}

static void remote_times(td_link *link, td_link_times *out)
{
    remote_link *r = (remote_link *)link;
    own(r);
    *out = r->crew->times;
    out->workers_ready = __builtin_popcountll(r->crew->view.usable);
    release(r);
}

static void remote_stats(td_link *link, td_link_stats *out)
{
    remote_link *r = (remote_link *)link;
    visit(r);
    td_crew_stats(r->crew, out);
    out->wait_ms = r->wait_ms;
    leave(r);
}

static td_status remote_json(td_link *link, td_buffer *out)
{
    remote_link *r = (remote_link *)link;
    visit(r);
    td_crew_json(r->crew, out);
    leave(r);
    return td_buffer_status(out);
}

static td_status remote_change(td_link *link, const char *command)
{
    remote_link *r = (remote_link *)link;
    visit(r);
    td_status status = td_crew_command(r->crew, command);
    leave(r);
    return status;
}

static size_t remote_scratch(const td_link *link)
{
    const remote_link *r = (const remote_link *)link;
    return r->crew->arena.bytes_reserved + (r->ffn ? td_ffn_scratch_bytes(r->ffn) : 0);
}

static void remote_close(td_link *link)
{
    remote_link *r = (remote_link *)link;
    const char *names[TD_PEERS_MAX] = {0};
    char addresses[TD_PEERS_MAX][TD_ADDRESS_MAX];
    atomic_store(&r->closing, true);
    if (r->helper_started) pthread_join(r->helper, NULL);
    for (int i = 0; r->crew && i < TD_PEERS_MAX; i++) {
        snprintf(addresses[i], TD_ADDRESS_MAX, "%s", r->crew->peers[i].address);
        if (addresses[i][0]) names[i] = addresses[i];
    }
    td_crew_close(r->crew);
    if (r->transport) r->transport->ops->close(r->transport);
    if (r->trace && td_trace_close(r->trace, names, TD_PEERS_MAX) < 0) td_log(TD_LOG_WARN, "link", "trace: %s", td_error());
    td_ffn_close(r->ffn);
    free(r);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------------------------- */

static td_status add_workers(remote_link *r, const char *list)
{
    char address[TD_ADDRESS_MAX];
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        if (n >= sizeof address) return td_fail(TD_E_INVALID, "ffn: an address of %zu characters", n);
        memcpy(address, at, n);
        address[n] = 0;
        TD_TRY(td_crew_add(r->crew, address));
        at += n + (at[n] == ',');
    }
    return TD_OK;
}

/* Until every worker is there, or until everything is covered and the missing ones had 3 s, or patience is over. A refusal ends it at once. */
static td_status await_workers(remote_link *r, int64_t patience)
{
    int64_t start = td_now_ns();
    for (;;) {
        r->transport->ops->progress(r->transport);
        int64_t wake = td_crew_step(r->crew, false), now = td_now_ns();
        TD_TRY(td_crew_refusal(r->crew));
        td_status covered = td_crew_covered(r->crew);
        if (td_crew_all_ready(r->crew)) return covered;
        if (covered == TD_OK && now - start > TD_MIN(patience, 3000 * TD_MS)) {
            td_link_stats stats = {0};
            td_crew_stats(r->crew, &stats);
            td_log(TD_LOG_WARN, "link", "going on with %d of %d workers: %s", stats.workers_ready, stats.workers, stats.degraded_reason);
            return TD_OK;
        }
        if (now - start > patience) return covered;
        r->transport->ops->rest(r->transport, TD_MAX(TD_MIN(wake - now, 5 * TD_MS), 0));
    }
}

static td_status open_rooms(remote_link *r, const td_link_options *o)
{
    uint8_t layers[64], experts[512];
    td_crew_options crew = {.shape = &r->shape, .kernel = o->kernel, .rows_max = o->rows_max, .encrypt = o->encrypt, .patience = (int64_t)TD_MAX(o->wait_for_workers_ms, 1) * TD_MS};
    TD_TRY(td_wire_mode_parse(o->wire, &crew.mode));
    TD_TRY(td_secret_load(o->secret_file, &crew.secret));
    if (o->fallback && !td_weights_here(o->model, layers, experts)) return td_fail(TD_E_INVALID, "ffn_fallback: expected all FFN weights in this process, found a model opened without them");
    if (o->fallback) {
        TD_TRY(td_ffn_open(o->model, o->kernel, o->pool, o->rows_max, &r->ffn));
        r->compute = td_compute_ffn(r->ffn);
        crew.local = &r->compute;
    }
    if (o->trace) TD_TRY(td_trace_open(o->trace, 0, &r->trace));
    TD_TRY(td_transport_ucx_open((1 << 20) + 4096, SPIN_NS, o->ffn, &r->transport));
    crew.transport = r->transport;
    crew.trace = r->trace;
    TD_TRY(td_crew_open(&crew, &r->crew));
    if (o->control) TD_TRY(r->transport->ops->listen(r->transport, o->control));
    TD_TRY(add_workers(r, o->ffn));
    TD_TRY(await_workers(r, crew.patience));
    if (pthread_create(&r->helper, NULL, help, r) != 0) return td_fail(TD_E_MEMORY, "link: the system refused a thread");
    r->helper_started = true;
    r->idle_since = td_now_ns();
    td_log(TD_LOG_INFO, "link", "%s fallback in this process", r->ffn ? "with" : "without");
    return TD_OK;
}

td_status td_link_remote_open(const td_link_options *options, td_link **out)
{
    static const td_link_ops ops = {remote_close, remote_submit, remote_wait, remote_cancel, remote_ready, remote_times, remote_stats, remote_json, remote_change, remote_scratch};
    remote_link *r = calloc(1, sizeof *r);
    if (!r) return td_fail(TD_E_MEMORY, "link: no memory");
    r->base.ops = &ops;
    r->shape = td_shape_of(options->model);
    td_status status = open_rooms(r, options);
    if (status < 0) {
        char why[900];
        snprintf(why, sizeof why, "%s", td_error());
        remote_close(&r->base);
        return td_fail(status, "%s", why);
    }
    *out = &r->base;
    return TD_OK;
}
