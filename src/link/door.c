/* door.c - see door.h. Non-blocking sockets in one epoll set. */
#define _GNU_SOURCE
#include "link/door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "link/names.h"

enum { EVENTS = 64, READ_STEP = 16384, LISTENER = TD_DOOR_PLACES, WATCHED };

typedef struct {
    int fd;                         /* -1: nobody here */
    bool connecting, ended;
    uint8_t *in, *out;              /* half a message that has arrived; what could not leave yet */
    size_t in_bytes, in_room, out_bytes, out_room;
} place;

struct td_door {
    td_door_events events;
    int epoll, listener;
    td_names *names;
    place places[TD_DOOR_PLACES];
};

static uint32_t length_at(const uint8_t *p) { return (uint32_t)(p[0] | p[1] << 8 | p[2] << 16) | (uint32_t)p[3] << 24; }

/* ---- addresses ------------------------------------------------------------------------------------------------------------------------- */

/* "host:port", "[v6]:port"; a host of "*" (with AI_PASSIVE) is every address of this machine. A name may take seconds, unless flags say AI_NUMERICHOST. */
static td_status resolve(const char *address, int flags, td_place_of_name *out)
{
    char host[256];
    const char *colon = strrchr(address, ':'), *begin = address, *end = colon;
    if (!colon || !colon[1] || colon == address) return td_fail(TD_E_INVALID, "address: expected HOST:PORT, found '%s'", address);
    char *rest;
    long port = strtol(colon + 1, &rest, 10);
    if (colon[1] < '0' || colon[1] > '9' || *rest || port < 1 || port > 65535) return td_fail(TD_E_INVALID, "address '%s': expected a port from 1 to 65535, found '%.20s'", address, colon + 1);
    if (*begin == '[' && end[-1] == ']') begin++, end--;
    if ((size_t)(end - begin) >= sizeof host) return td_fail(TD_E_INVALID, "address '%s': the host name is too long", address);
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found;
    int error = getaddrinfo(host[0] == '*' ? NULL : host, colon + 1, &hints, &found);
    if (error) return td_fail(TD_E_NOT_FOUND, "address '%s': %s", address, gai_strerror(error));
    memcpy(&out->at, found->ai_addr, found->ai_addrlen);
    out->length = found->ai_addrlen;
    freeaddrinfo(found);
    return TD_OK;
}

static td_status look_up(const char *address, td_place_of_name *out) { return resolve(address, 0, out); }

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (!a || !b || a->sa_family != b->sa_family) return false;
    if (a->sa_family == AF_INET) return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->sa_family == AF_INET6 && !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
}

/* The address of ours that a packet to `to` would carry; an address of our own gives itself. */
static bool own_side(const td_place_of_name *to, struct sockaddr_storage *out)
{
    socklen_t room = sizeof *out;
    int fd = socket(to->at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* connecting it sends nothing */
    bool good = fd >= 0 && connect(fd, (const struct sockaddr *)&to->at, to->length) == 0 && getsockname(fd, (struct sockaddr *)out, &room) == 0;
    if (fd >= 0) close(fd);
    return good;
}

/* One more name for a list separated by commas, unless it is there already or does not fit. True: the list is longer now. */
static bool list(char *names, size_t room, const char *name)
{
    size_t n = strlen(name), used = strlen(names);
    for (const char *at = names; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && !strncmp(at, name, n)) return false;
    if (used + n + 2 > room) return false;
    snprintf(names + used, room - used, "%s%s", used ? "," : "", name);
    return true;
}

/* Lists the interfaces that have this address of ours; *longer: one was not listed yet. False: none has it. */
static bool list_of(const struct ifaddrs *all, const struct sockaddr_storage *own, char *names, size_t room, bool *longer)
{
    bool found = false;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!same_host(i->ifa_addr, (const struct sockaddr *)own)) continue;
        found = true;
        *longer |= list(names, room, i->ifa_name);
    }
    return found;
}

bool td_door_interface(const td_door *d, int index, char *names, size_t room)
{
    struct sockaddr_storage own;
    socklen_t bytes = sizeof own;
    struct ifaddrs *all = NULL;
    bool longer = false;
    if (d->places[index].fd < 0 || getsockname(d->places[index].fd, (struct sockaddr *)&own, &bytes) != 0 || getifaddrs(&all) != 0) return false;
    list_of(all, &own, names, room, &longer);
    freeifaddrs(all);
    return longer;
}

void td_door_interfaces(const char *addresses, char *out, size_t room)
{
    struct ifaddrs *all = NULL;
    out[0] = 0;
    if (getifaddrs(&all) != 0) return;
    for (const char *at = addresses; *at; at += strcspn(at, ","), at += *at == ',') {
        char one[300];
        td_place_of_name to;
        struct sockaddr_storage own;
        bool longer = false;
        snprintf(one, sizeof one, "%.*s", (int)TD_MIN(strcspn(at, ","), sizeof one - 1), at);
        bool every = one[0] == '*' || !strncmp(one, "0.0.0.0:", 8) || !strncmp(one, "[::]:", 5);
        if (resolve(one, AI_PASSIVE, &to) < 0) continue; /* said where it is used */
        bool found = !every && own_side(&to, &own) && list_of(all, &own, out, room, &longer);
        if (!found) { /* every interface, or one that nobody can name */
            out[0] = 0;
            break;
        }
    }
    freeifaddrs(all);
}

/* ---- sockets ---------------------------------------------------------------------------------------------------------------------------- */

static bool watch(td_door *d, int op, int fd, uint32_t events, int what)
{
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)what};
    return epoll_ctl(d->epoll, op, fd, &event) == 0;
}

static void end(td_door *d, int index, const char *why)
{
    place *p = &d->places[index];
    if (p->fd < 0 || p->ended) return;
    p->ended = true;
    epoll_ctl(d->epoll, EPOLL_CTL_DEL, p->fd, NULL);
    d->events.ended(d->events.user, index, why);
}

static bool settle(td_door *d, int index, int fd, bool connecting)
{
    int one = 1;
    d->places[index] = (place){.fd = fd, .connecting = connecting};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (watch(d, EPOLL_CTL_ADD, fd, EPOLLIN | (connecting ? EPOLLOUT : 0), index)) return true;
    close(fd);
    d->places[index].fd = -1;
    return false;
}

/* Writes what waits. False: the connection has ended. */
static bool flush(td_door *d, int index)
{
    place *p = &d->places[index];
    size_t gone = 0;
    while (gone < p->out_bytes) {
        ssize_t n = send(p->fd, p->out + gone, p->out_bytes - gone, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) {
            end(d, index, strerror(errno));
            return false;
        }
        if (n < 0) break;
        gone += (size_t)n;
    }
    if (gone) memmove(p->out, p->out + gone, p->out_bytes - gone);
    p->out_bytes -= gone;
    watch(d, EPOLL_CTL_MOD, p->fd, EPOLLIN | (p->out_bytes ? EPOLLOUT : 0), index);
    return true;
}

static bool grow(uint8_t **memory, size_t *room, size_t needed)
{
    if (needed <= *room) return true;
    size_t larger = TD_MAX(needed, *room * 2);
    uint8_t *moved = realloc(*memory, larger);
    if (!moved) return false;
    *memory = moved;
    *room = larger;
    return true;
}

/* Hands over what has arrived whole. */
static void deliver(td_door *d, int index)
{
    place *p = &d->places[index];
    size_t at = 0;
    while (p->in_bytes - at >= 4) {
        uint32_t length = length_at(p->in + at);
        if (length == 0 || length > TD_DOOR_MESSAGE_MAX) {
            end(d, index, "it does not speak this protocol");
            return;
        }
        if (p->in_bytes - at - 4 < length) break;
        d->events.message(d->events.user, index, p->in + at + 4, length);
        at += 4 + (size_t)length;
    }
    if (at) memmove(p->in, p->in + at, p->in_bytes - at);
    p->in_bytes -= at;
}

static void read_place(td_door *d, int index)
{
    place *p = &d->places[index];
    if (!grow(&p->in, &p->in_room, p->in_bytes + READ_STEP)) {
        end(d, index, "no memory");
        return;
    }
    ssize_t n = recv(p->fd, p->in + p->in_bytes, READ_STEP, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        end(d, index, n == 0 ? "the other side closed it" : strerror(errno));
        return;
    }
    p->in_bytes += (size_t)n;
    deliver(d, index);
}

/* Trying a port of this host that nobody listens on, a socket may be given that very port, and is then connected with itself. */
static bool with_itself(int fd)
{
    struct sockaddr_storage own = {0}, other = {0};
    socklen_t a = sizeof own, b = sizeof other;
    return getsockname(fd, (struct sockaddr *)&own, &a) == 0 && getpeername(fd, (struct sockaddr *)&other, &b) == 0 && a == b && !memcmp(&own, &other, a);
}

static void tend(td_door *d, int index, uint32_t events)
{
    place *p = &d->places[index];
    if (p->fd < 0 || p->ended) return;
    if (p->connecting) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error || with_itself(p->fd)) {
            end(d, index, strerror(error ? error : ECONNREFUSED));
            return;
        }
        if (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) return;
        p->connecting = false;
    }
    if ((events & EPOLLOUT) && !flush(d, index)) return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_place(d, index);
}

static void let_in(td_door *d)
{
    struct sockaddr_storage from;
    for (;;) {
        socklen_t length = sizeof from;
        int fd = accept4(d->listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return; /* nobody, or no descriptors: tried again when somebody comes */
        char host[64] = "", port[16] = "", name[96] = "somebody";
        if (getnameinfo((struct sockaddr *)&from, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0) snprintf(name, sizeof name, "%s:%s", host, port);
        int index = d->events.arrived(d->events.user, name);
        if (index < 0) close(fd);
        else if (!settle(d, index, fd, false)) d->events.ended(d->events.user, index, "no descriptors");
    }
}

/* ---- the interface ---------------------------------------------------------------------------------------------------------------------- */

td_status td_door_open(td_door_events events, td_door **out)
{
    td_door *d = calloc(1, sizeof *d);
    if (!d) return td_fail(TD_E_MEMORY, "link: no memory");
    d->events = events;
    d->listener = -1;
    for (int i = 0; i < TD_DOOR_PLACES; i++) d->places[i].fd = -1;
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    td_status status = d->epoll < 0 ? td_fail(TD_E_IO, "link: %s", strerror(errno)) : td_names_open(look_up, &d->names);
    if (status < 0) {
        if (d->epoll >= 0) close(d->epoll);
        free(d);
        return status;
    }
    *out = d;
    return TD_OK;
}

void td_door_free(td_door *d)
{
    if (!d) return;
    for (int i = 0; i < TD_DOOR_PLACES; i++) td_door_close(d, i);
    if (d->listener >= 0) close(d->listener);
    close(d->epoll);
    td_names_close(d->names);
    free(d);
}

td_status td_door_listen(td_door *d, const char *address)
{
    td_place_of_name to;
    int one = 1;
    TD_TRY(resolve(address, AI_PASSIVE, &to)); /* while nothing runs yet */
    int fd = socket(to.at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* a worker that is restarted gets its port back at once */
    if (fd < 0 || bind(fd, (struct sockaddr *)&to.at, to.length) != 0 || listen(fd, 64) != 0 || !watch(d, EPOLL_CTL_ADD, fd, EPOLLIN, LISTENER)) {
        td_status status = td_fail(TD_E_IO, "listen %s: %s", address, strerror(errno));
        if (fd >= 0) close(fd);
        return status;
    }
    d->listener = fd;
    return TD_OK;
}

td_status td_door_connect(td_door *d, int index, const char *address)
{
    td_place_of_name to;
    td_status found = resolve(address, AI_NUMERICHOST, &to);
    if (found == TD_E_NOT_FOUND) found = td_names_get(d->names, address, &to); /* a name: this thread has tokens to make */
    if (found < 0) return found;
    int fd = socket(to.at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return td_fail(TD_E_IO, "%s: %s", address, strerror(errno));
    if (connect(fd, (struct sockaddr *)&to.at, to.length) != 0 && errno != EINPROGRESS) {
        td_status status = td_fail(TD_E_PEER, "%s: %s", address, strerror(errno));
        close(fd);
        return status;
    }
    return settle(d, index, fd, true) ? TD_OK : td_fail(TD_E_IO, "%s: no descriptors", address);
}

bool td_door_send(td_door *d, int index, const void *data, size_t bytes)
{
    place *p = &d->places[index];
    if (p->fd < 0 || p->ended || bytes == 0 || bytes > TD_DOOR_MESSAGE_MAX || p->out_bytes + bytes + 4 > TD_DOOR_UNSENT_MAX) return false;
    if (!grow(&p->out, &p->out_room, p->out_bytes + bytes + 4)) return false;
    uint8_t *to = p->out + p->out_bytes;
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(bytes >> 8 * i);
    memcpy(to + 4, data, bytes);
    p->out_bytes += bytes + 4;
    if (!p->connecting) flush(d, index); /* if that ends it, `ended` tells */
    return true;
}

bool td_door_unsent(const td_door *d, int index) { return d->places[index].fd >= 0 && !d->places[index].ended && d->places[index].out_bytes > 0; }

void td_door_last(td_door *d, int index)
{
    place *p = &d->places[index];
    if (p->fd >= 0 && !p->ended && !p->connecting) shutdown(p->fd, SHUT_WR);
}

void td_door_close(td_door *d, int index)
{
    place *p = &d->places[index];
    if (p->fd >= 0) close(p->fd);
    free(p->in), free(p->out);
    *p = (place){.fd = -1};
}

td_status td_door_watch(td_door *d, int fd)
{
    return watch(d, EPOLL_CTL_ADD, fd, EPOLLIN, WATCHED) ? TD_OK : td_fail(TD_E_IO, "link: %s", strerror(errno));
}

bool td_door_look(td_door *d, int64_t ns)
{
    struct epoll_event events[EVENTS];
    if (ns > 0) {
        struct pollfd fd = {.fd = d->epoll, .events = POLLIN};
        struct timespec most = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
        if (ppoll(&fd, 1, &most, NULL) <= 0) return false;
    }
    int count = epoll_wait(d->epoll, events, EVENTS, 0);
    bool happened = false;
    for (int i = 0; i < count; i++) {
        int what = (int)events[i].data.u32;
        happened |= what != WATCHED;
        if (what == LISTENER) let_in(d);
        else if (what < TD_DOOR_PLACES) tend(d, what, events[i].events);
    }
    return happened;
}
