/*
 * watch.c - MHD does not look at a suspended connection. This thread does: it sees a client that left (so that its request is cancelled within one step)
 * and a stream that was silent for long (so that it gets a keep-alive comment).
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/serve.h"

enum { TICK_MS = 200, EVENTS_MAX = 64 };

static void look_for_gone(td_server *server, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++)
        for (td_exchange *x = server->watched; x; x = x->older) /* only what is still in the list is alive; its number, because its address may be used again */
            if (x->watch_number == events[i].data.u64) {
                if (!atomic_exchange(&x->gone, true)) td_exchange_wake(x);
                epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, x->fd, NULL);
                break;
            }
}

static void look_for_silent(td_server *server, int64_t now)
{
    int64_t silent_ns = (int64_t)server->options.keep_alive_s * 1000000000;
    for (td_exchange *x = server->watched; x; x = x->older)
        if (x->streaming && now - atomic_load(&x->last_sent_ns) > silent_ns && !atomic_exchange(&x->ping, true)) td_exchange_wake(x);
}

static void *watch(void *arg)
{
    td_server *server = arg;
    struct epoll_event events[EVENTS_MAX];
    while (atomic_load(&server->phase) != TD_SERVER_ENDING || atomic_load(&server->exchanges) > 0) {
        int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, TICK_MS);
        if (count < 0 && errno != EINTR) break;
        pthread_mutex_lock(&server->watch_lock);
        if (count > 0) look_for_gone(server, events, count);
        look_for_silent(server, td_now_ns());
        pthread_mutex_unlock(&server->watch_lock);
    }
    return NULL;
}

td_status td_watch_open(td_server *server)
{
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0) return td_fail(TD_E_IO, "serve: epoll: %s", strerror(errno));
    if (pthread_create(&server->watcher, NULL, watch, server)) return td_fail(TD_E_IO, "serve: the system refused a thread");
    server->watcher_started = true;
    return TD_OK;
}

void td_watch_add(td_exchange *x)
{
    td_server *server = x->server;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info || atomic_load(&x->counted)) return;
    x->fd = info->connect_fd;
    atomic_store(&x->last_sent_ns, td_now_ns());
    pthread_mutex_lock(&server->watch_lock);
    x->older = server->watched;
    x->newer = NULL;
    if (x->older) x->older->newer = x;
    server->watched = x;
    x->watch_number = ++server->watch_count;
    struct epoll_event event = {.events = EPOLLRDHUP, .data.u64 = x->watch_number};
    epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, x->fd, &event);
    pthread_mutex_unlock(&server->watch_lock);
    atomic_store(&x->counted, true);
    atomic_fetch_add(&server->exchanges, 1);
}

void td_watch_remove(td_exchange *x)
{
    td_server *server = x->server;
    if (!atomic_load(&x->counted)) return;
    pthread_mutex_lock(&server->watch_lock);
    epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, x->fd, NULL); /* fails when it is gone already */
    if (x->newer) x->newer->older = x->older;
    else server->watched = x->older;
    if (x->older) x->older->newer = x->newer;
    pthread_mutex_unlock(&server->watch_lock);
    atomic_store(&x->counted, false);
    atomic_fetch_sub(&server->exchanges, 1);
}

void td_watch_end_all(td_server *server)
{
    pthread_mutex_lock(&server->watch_lock);
    for (td_exchange *x = server->watched; x; x = x->older) td_exchange_wake(x);
    pthread_mutex_unlock(&server->watch_lock);
}

void td_watch_close(td_server *server)
{
    if (server->watcher_started) pthread_join(server->watcher, NULL);
    server->watcher_started = false;
    if (server->epoll_fd >= 0) close(server->epoll_fd);
    server->epoll_fd = -1;
}
