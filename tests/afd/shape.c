/* shape.c - see shape.h. */
#include "shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "link/transport.h"

enum { HELD_MAX = 4096 };

volatile td_shape_weather *td_shape_now;

typedef struct { uint8_t *data; size_t bytes, room; int conn; int64_t due; } held_frame;

typedef struct {
    td_transport base;
    td_transport *inner;
    td_random random;
    held_frame held[HELD_MAX];     /* a ring: due in order of arrival */
    int first, count;
    int64_t last_due;
} shaped;

td_status __real_td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out);
td_status __wrap_td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out);

static bool chance(shaped *s, double p) { return p > 0 && td_random_next_unit(&s->random) < p; }

/* ---- what arrives ----------------------------------------------------------------------------------------------------------------------- */

/* When it was sent, by its own header; sealed frames and strange clocks count from now. */
static int64_t sent_at(const uint8_t *data, size_t bytes, int64_t now)
{
    int64_t stamp;
    if (bytes < 64 || memcmp(data, "TNDM", 4) != 0) return now;
    memcpy(&stamp, data + 48, 8);
    return stamp <= now && now - stamp < 1000000000 ? stamp : now;
}

static void hold(shaped *s, int conn, const uint8_t *data, size_t bytes, int64_t due)
{
    if (s->count == HELD_MAX) return; /* lost */
    held_frame *h = &s->held[(s->first + s->count++) % HELD_MAX];
    if (h->room < bytes) {
        free(h->data);
        h->data = malloc(bytes);
        h->room = h->data ? bytes : 0;
    }
    if (!h->data) {
        s->count--;
        return;
    }
    memcpy(h->data, data, bytes);
    h->bytes = bytes;
    h->conn = conn;
    h->due = s->last_due = due > s->last_due ? due : s->last_due;
}

static void on_frame(void *user, int conn, const uint8_t *data, size_t bytes)
{
    shaped *s = user;
    const volatile td_shape_weather *w = td_shape_now;
    if (chance(s, w->lose)) return;
    bool damage = chance(s, w->damage), twice = chance(s, w->twice);
    if (!damage && !twice && w->delay_ns == 0 && w->jitter_ns == 0 && s->count == 0) {
        s->base.events.frame(s->base.events.user, conn, data, bytes);
        return;
    }
    int64_t now = td_now_ns(), due = sent_at(data, bytes, now) + w->delay_ns + (w->jitter_ns ? td_random_between(&s->random, 0, w->jitter_ns) : 0);
    int place = (s->first + s->count) % HELD_MAX, before = s->count;
    hold(s, conn, data, bytes, due);
    if (damage && s->count > before && bytes) s->held[place].data[td_random_between(&s->random, 0, (int64_t)bytes - 1)] ^= (uint8_t)(1u << td_random_between(&s->random, 0, 7));
    if (twice) hold(s, conn, data, bytes, due);
}

static void on_accepted(void *user, int conn, const char *name)
{
    shaped *s = user;
    if (s->base.events.accepted) s->base.events.accepted(s->base.events.user, conn, name);
}

static void on_closed(void *user, int conn, const char *why)
{
    shaped *s = user;
    for (int i = 0; i < s->count; i++)
        if (s->held[(s->first + i) % HELD_MAX].conn == conn) s->held[(s->first + i) % HELD_MAX].conn = -1;
    if (s->base.events.closed) s->base.events.closed(s->base.events.user, conn, why);
}

static void on_sent(void *user, void *buffer)
{
    shaped *s = user;
    if (s->base.events.sent) s->base.events.sent(s->base.events.user, buffer);
}

static bool deliver_due(shaped *s)
{
    bool any = false;
    while (s->count > 0 && s->held[s->first].due <= td_now_ns()) {
        held_frame *h = &s->held[s->first], mine = *h;
        *h = (held_frame){0}; /* the callback may hold more */
        s->first = (s->first + 1) % HELD_MAX;
        s->count--;
        if (mine.conn >= 0 && s->base.events.frame) s->base.events.frame(s->base.events.user, mine.conn, mine.data, mine.bytes);
        free(mine.data);
        any = true;
    }
    return any;
}

/* ---- the table ---------------------------------------------------------------------------------------------------------------------------- */

static td_transport *inner(td_transport *t) { return ((shaped *)t)->inner; }
static td_status sh_listen(td_transport *t, const char *address) { return inner(t)->ops->listen(inner(t), address); }
static td_status sh_connect(td_transport *t, const char *address, int *conn) { return inner(t)->ops->connect(inner(t), address, conn); }
static size_t sh_offer(td_transport *t, int conn, uint8_t *out, size_t room) { return inner(t)->ops->offer(inner(t), conn, out, room); }
static td_status sh_join(td_transport *t, int conn, const uint8_t *offer, size_t bytes) { return inner(t)->ops->join(inner(t), conn, offer, bytes); }
static bool sh_send(td_transport *t, int conn, const void *data, size_t bytes, void *buffer) { return inner(t)->ops->send(inner(t), conn, data, bytes, buffer); }
static void sh_hang_up(td_transport *t, int conn) { inner(t)->ops->hang_up(inner(t), conn); }
static int64_t sh_now(const td_transport *t) { return ((const shaped *)t)->inner->ops->now(((const shaped *)t)->inner); }
static void sh_describe(td_transport *t, int conn, char *out, size_t room) { inner(t)->ops->describe(inner(t), conn, out, room); }

static bool sh_progress(td_transport *t)
{
    bool happened = inner(t)->ops->progress(inner(t));
    return deliver_due((shaped *)t) || happened;
}

static void sh_rest(td_transport *t, int64_t ns)
{
    shaped *s = (shaped *)t;
    int64_t until = td_now_ns() + ns;
    while (s->count > 0) { /* exact: until the next one is due */
        if (sh_progress(t) || td_now_ns() >= until) return;
    }
    inner(t)->ops->rest(inner(t), ns);
    deliver_due(s);
}

static void sh_quiesce(td_transport *t) { inner(t)->ops->quiesce(inner(t)); }

static void sh_close(td_transport *t)
{
    shaped *s = (shaped *)t;
    s->inner->events = (td_transport_events){0};
    s->inner->ops->close(s->inner);
    for (int i = 0; i < HELD_MAX; i++) free(s->held[i].data);
    free(s);
}

/* ---- opening -------------------------------------------------------------------------------------------------------------------------------- */

static double value_of(const char *text, const char *name)
{
    const char *at = text ? strstr(text, name) : NULL;
    return at ? atof(at + strlen(name)) : 0;
}

static void read_environment(void)
{
    static td_shape_weather own;
    const char *text = getenv("TD_SHAPE");
    own = (td_shape_weather){(int64_t)(value_of(text, "delay_us=") * 1000), (int64_t)(value_of(text, "jitter_us=") * 1000), value_of(text, "lose="), value_of(text, "twice="), value_of(text, "damage="),
                             (uint64_t)value_of(text, "seed=")};
    td_shape_now = &own;
}

td_status __wrap_td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out)
{
    static const td_transport_ops ops = {sh_listen, sh_connect, sh_offer, sh_join, sh_send, sh_hang_up, sh_progress, sh_now, sh_rest, sh_describe, sh_quiesce, sh_close};
    if (!td_shape_now) read_environment();
    shaped *s = calloc(1, sizeof *s);
    if (!s) return td_fail(TD_E_MEMORY, "shape: no memory");
    td_status status = __real_td_transport_ucx_open(frame_bytes_max, spin_ns, addresses, &s->inner);
    if (status < 0) {
        free(s);
        return status;
    }
    s->base.ops = &ops;
    s->random = (td_random){.seed = td_shape_now->seed};
    s->inner->events = (td_transport_events){s, on_accepted, on_frame, on_closed, on_sent};
    *out = &s->base;
    return TD_OK;
}
