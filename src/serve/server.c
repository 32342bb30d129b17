/*
 * server.c - a server's life: listen, load, serve, drain, end. One MHD thread with epoll, two workers, one watcher; every limit is set here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/serve.h"

enum { CONNECTION_MEMORY_BYTES = 32 << 10, END_SECONDS = 5, PEM_BYTES_MAX = 1 << 20 };

static void on_library_log(void *cls, const char *format, va_list args)
{
    char text[512];
    (void)cls;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    td_log(TD_LOG_DEBUG, "serve", "http library: %s", text);
}

/* ---- options ------------------------------------------------------------------------------------------------------------------------------------------- */

static td_status copy_text(td_server *server, const char **text, const char *fallback)
{
    if (!*text) *text = fallback;
    if (*text && !(*text = td_arena_text(&server->arena, *text, strlen(*text)))) return TD_E_MEMORY;
    return TD_OK;
}

static td_status range(const char *name, long long *value, long long fallback, long long high)
{
    if (*value == 0) *value = fallback;
    return *value >= 1 && *value <= high ? TD_OK : td_fail(TD_E_INVALID, "%s: expected 1 to %lld, found %lld", name, high, *value);
}

static td_status number(const char *name, int *value, int fallback, int high)
{
    long long wide = *value;
    TD_TRY(range(name, &wide, fallback, high));
    *value = (int)wide;
    return TD_OK;
}

static td_status fill_defaults(td_server *server, const td_serve_options *options)
{
    td_serve_options *o = &server->options;
    static const td_serve_options none;
    *o = options ? *options : none;
    long long body = (long long)TD_MIN(o->body_bytes_max, (uint64_t)1 << 40);
    TD_TRY(range("body_bytes_max", &body, 32 << 20, (long long)1 << 30));
    o->body_bytes_max = (uint64_t)body;
    if (o->port < -1 || o->port > 65535) return td_fail(TD_E_INVALID, "port: expected 1 to 65535, found %d", o->port);
    o->port = o->port == -1 ? 0 : o->port == 0 ? 8080 : o->port;
    TD_TRY(number("connections_max", &o->connections_max, 4096, 1000000));
    TD_TRY(number("requests_max", &o->requests_max, 64, 1024));
    TD_TRY(number("queue_max", &o->queue_max, 256, 100000));
    TD_TRY(number("idle_s", &o->idle_s, 120, 86400));
    TD_TRY(number("keep_alive_s", &o->keep_alive_s, 15, 86400));
    TD_TRY(number("request_s_max", &o->request_s_max, 3600, 1000000));
    TD_TRY(number("drain_s", &o->drain_s, 30, 86400));
    if (!o->tls_cert_file != !o->tls_key_file) return td_fail(TD_E_INVALID, "TLS: expected a certificate and a key, found only one of them");
    const char **texts[] = {&o->model_name, &o->api_key_file, &o->cors_origin, &o->tls_cert_file, &o->tls_key_file};
    for (size_t i = 0; i < TD_COUNT(texts); i++) TD_TRY(copy_text(server, texts[i], NULL));
    return copy_text(server, &o->host, "127.0.0.1");
}

/* Every connection is a file descriptor. */
static void raise_descriptor_limit(int wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= (rlim_t)wanted) return;
    limit.rlim_cur = TD_MIN(limit.rlim_max, (rlim_t)wanted);
    if (setrlimit(RLIMIT_NOFILE, &limit)) td_log(TD_LOG_WARN, "serve", "the system allows fewer than %d open files", wanted);
}

/* ---- open ---------------------------------------------------------------------------------------------------------------------------------------------- */

static td_status load_tls(td_server *server)
{
    size_t bytes;
    if (!server->options.tls_cert_file) return TD_OK;
    TD_TRY(td_file_read(server->options.tls_cert_file, PEM_BYTES_MAX, &server->tls_cert, &bytes));
    TD_TRY(td_file_read(server->options.tls_key_file, PEM_BYTES_MAX, &server->tls_key, &bytes));
    if (!strstr(server->tls_cert, "BEGIN CERTIFICATE")) return td_fail(TD_E_FORMAT, "file %s: expected a PEM certificate", server->options.tls_cert_file);
    if (!strstr(server->tls_key, "PRIVATE KEY")) return td_fail(TD_E_FORMAT, "file %s: expected a PEM private key", server->options.tls_key_file);
    return TD_OK;
}

static td_status start_daemon(td_server *server)
{
    const td_serve_options *o = &server->options;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem items[20];
    int n = 0;
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_library_log, server};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, server->listen_fd, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_LIMIT, o->connections_max, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_TIMEOUT, o->idle_s, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)td_on_completed, server};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)td_on_connection, server};
    if (server->tls_cert) {
        flags |= MHD_USE_TLS;
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls_cert};
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->tls_key};
    }
    items[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    server->daemon = MHD_start_daemon(flags, 0, NULL, NULL, td_on_request, server, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (server->daemon) { /* closes the socket in the end, unless it gives it back */
        server->listen_fd = -1;
        return TD_OK;
    }
    return server->tls_cert ? td_fail(TD_E_FORMAT, "TLS: the certificate %s and the key %s were not accepted", o->tls_cert_file, o->tls_key_file) : td_fail(TD_E_IO, "serve: the HTTP library did not start");
}

static td_status open_parts(td_server *server, const td_serve_options *options)
{
    TD_TRY(fill_defaults(server, options));
    server->slots = TD_NEW(&server->arena, td_choice *, (size_t)server->options.requests_max);
    if (!server->slots) return TD_E_MEMORY;
    if (pipe2(server->stop_fd, O_CLOEXEC | O_NONBLOCK)) return td_fail(TD_E_IO, "serve: pipe: %s", strerror(errno));
    raise_descriptor_limit(server->options.connections_max + 256);
    if (server->options.api_key_file) TD_TRY(td_keys_load(server, server->options.api_key_file));
    TD_TRY(load_tls(server));
    TD_TRY(td_listen(server->options.host, server->options.port, &server->listen_fd, &server->port));
    TD_TRY(td_watch_open(server));
    TD_TRY(td_jobs_open(server));
    return start_daemon(server);
}

td_status td_server_open(const td_serve_options *options, td_server **out)
{
    if (sodium_init() < 0) return td_fail(TD_E_INTERNAL, "serve: libsodium did not start");
    td_server *server = calloc(1, sizeof *server);
    if (!server) return td_fail(TD_E_MEMORY, "serve: no memory");
    server->arena.name = "server";
    server->listen_fd = server->epoll_fd = server->stop_fd[0] = server->stop_fd[1] = -1;
    server->started_ns = td_now_ns();
    server->started_s = (int64_t)time(NULL);
    pthread_mutex_init(&server->progress_lock, NULL);
    pthread_mutex_init(&server->job_lock, NULL);
    pthread_cond_init(&server->job_wake, NULL);
    pthread_mutex_init(&server->admit_lock, NULL);
    pthread_mutex_init(&server->watch_lock, NULL);
    td_status status = open_parts(server, options);
    if (status < 0) td_server_close(server);
    else *out = server;
    return status;
}

int td_server_port(const td_server *server) { return server->port; }

bool td_server_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    td_server *server = user;
    pthread_mutex_lock(&server->progress_lock);
    snprintf(server->progress_what, sizeof server->progress_what, "%s", what ? what : "");
    server->progress_share = total ? (double)done / (double)total : 0;
    pthread_mutex_unlock(&server->progress_lock);
    return atomic_load(&server->stops) == 0;
}

td_status td_server_attach(td_server *server, td_engine *engine, td_model *model)
{
    if (atomic_load(&server->phase) != TD_SERVER_LOADING) return td_fail(TD_E_INVALID, "serve: expected to be attached once, and before it stops");
    server->engine = engine;
    server->model = model;
    server->info = td_model_get_info(model);
    server->name = server->options.model_name ? server->options.model_name : server->info->name && *server->info->name ? server->info->name : "default";
    int context = server->options.context_max ? server->options.context_max : TD_CONTEXT_DEFAULT_MAX;
    server->context_max = server->info->context_max > 0 ? TD_MIN(context, server->info->context_max) : context;
    TD_TRY(td_splitter_prepare(server));
    td_server_phase loading = TD_SERVER_LOADING;
    atomic_compare_exchange_strong(&server->phase, &loading, TD_SERVER_READY);
    return TD_OK;
}

/* ---- end ----------------------------------------------------------------------------------------------------------------------------------------------- */

void td_server_stop(td_server *server)
{
    int saved = errno;
    atomic_fetch_add(&server->stops, 1);
    if (write(server->stop_fd[1], "x", 1) < 0) errno = saved; /* full: somebody wrote before */
    errno = saved;
}

static void sleep_ms(int ms) { nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL); }

static void wait_for_exchanges(td_server *server, double seconds, bool until_second_stop)
{
    int64_t start = td_now_ns();
    while (atomic_load(&server->exchanges) > 0 && td_seconds_since(start) < seconds && !(until_second_stop && atomic_load(&server->stops) > 1)) sleep_ms(10);
}

/* New connections are refused from now on, and the address is free: something that never becomes ready takes the listening socket's number, which closes it and takes it out of the
 * daemon's epoll set. Not MHD_quiesce_daemon (0.9.75): it and the daemon's thread may both take the socket out, and the second of them aborts the process. */
static void stop_listening(td_server *server)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_LISTEN_FD);
    int idle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (info && idle >= 0) dup3(idle, info->listen_fd, O_CLOEXEC); /* the daemon closes it at its end */
    else if (info) shutdown(info->listen_fd, SHUT_RD);
    if (idle >= 0) close(idle);
}

td_status td_server_wait(td_server *server)
{
    struct pollfd wait = {.fd = server->stop_fd[0], .events = POLLIN};
    while (atomic_load(&server->stops) == 0)
        if (poll(&wait, 1, -1) < 0 && errno != EINTR) return td_fail(TD_E_IO, "serve: poll: %s", strerror(errno));
    td_server_phase ready = TD_SERVER_READY;
    atomic_compare_exchange_strong(&server->phase, &ready, TD_SERVER_DRAINING);
    stop_listening(server);
    td_log(TD_LOG_INFO, "serve", "stopping: %d requests run, at most %d s for them", atomic_load(&server->exchanges), server->options.drain_s);
    wait_for_exchanges(server, server->options.drain_s, true);
    return TD_OK;
}

void td_server_close(td_server *server)
{
    if (!server) return;
    atomic_store(&server->phase, TD_SERVER_ENDING);
    td_watch_end_all(server);
    td_jobs_close(server);
    if (server->daemon) {
        wait_for_exchanges(server, END_SECONDS, false);
        MHD_stop_daemon(server->daemon);
    }
    if (server->listen_fd >= 0) close(server->listen_fd);
    td_watch_close(server);
    for (int i = 0; i < 2; i++)
        if (server->stop_fd[i] >= 0) close(server->stop_fd[i]);
    if (server->tls_key) sodium_memzero(server->tls_key, strlen(server->tls_key));
    free(server->tls_cert);
    free(server->tls_key);
    td_arena_free(&server->arena);
    free(server);
}
