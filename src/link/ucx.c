/*
 * ucx.c - the transport over UCX active messages. One UCX worker, a listener where one is wanted, one endpoint a connection.
 *
 * Settings (measured, docs/operations.md): endpoints in peer-error mode, so that the death of a process is reported; shared memory is allowed to take part in that
 * (MM_ERROR_HANDLING), else UCX drops it silently; everything travels eagerly on hosts without RDMA, where a rendezvous costs more than it saves up to 1 MiB;
 * segments of shared memory of 32 KiB (64 KiB aborts inside UCX 1.13). Each can be overruled by its UCX_ environment variable. A peer that hangs or whose cable is cut is never
 * reported by UCX: heartbeats above this file see it.
 *
 * UCX allows closing an endpoint only outside its callbacks: what ends is marked and ended in progress. A hang-up gives what was sent a moment to leave.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>

#include "base/clock.h"
#include "base/log.h"
#include "link/transport.h"

enum { CONNS_MAX = 256, REQUESTS_WAITING_MAX = 32, RECEIVES_MAX = 8, SENDS_MAX = 512, AM_ID = 7 };
#define LINGER_NS ((int64_t)5000000)
#define LINGER_MAX_NS ((int64_t)300000000)

typedef enum { CONN_FREE, CONN_OPEN, CONN_BROKEN, CONN_LEAVING } conn_state;

typedef struct {
    conn_state state;
    bool quiet;             /* hung up by us: no `closed` */
    int generation, sending;
    ucp_ep_h ep;
    int64_t left_at;
    char why[96];
} conn_slot;

/* A large message that UCX hands over by rendezvous (RDMA only). */
typedef struct { struct td_ucx *owner; uint8_t *buffer; int conn; size_t bytes; bool used; } receive_slot;

/* A buffer on its way. UCX may never report a send whose endpoint was closed by force: then the buffer is given back when the connection is. */
typedef struct { void *buffer; int slot; uint32_t ticket; } send_slot;

typedef struct td_ucx {
    td_transport base;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    int wake_fd;
    size_t frame_bytes_max;
    int64_t spin_ns;
    conn_slot conns[CONNS_MAX];
    int busy;               /* connections in a state that progress has to look at */
    ucp_conn_request_h knocking[REQUESTS_WAITING_MAX];
    int knocking_count;
    receive_slot receives[RECEIVES_MAX];
    send_slot sends[SENDS_MAX];
    int next_send;
    bool happened;
} td_ucx;

typedef struct { td_ucx *owner; int index; uint32_t ticket; } send_record; /* in UCX's request memory: which of the sends */

static int conn_id(const td_ucx *u, int slot) { return u->conns[slot].generation * CONNS_MAX + slot; }

static conn_slot *conn_of(td_ucx *u, int conn)
{
    if (conn < 0) return NULL;
    conn_slot *c = &u->conns[conn % CONNS_MAX];
    return c->state != CONN_FREE && c->generation == conn / CONNS_MAX ? c : NULL;
}

static int free_slot(td_ucx *u)
{
    for (int i = 0; i < CONNS_MAX; i++)
        if (u->conns[i].state == CONN_FREE) return i;
    return -1;
}

static void break_conn(td_ucx *u, conn_slot *c, const char *why)
{
    if (c->state != CONN_OPEN) {
        if (c->state == CONN_LEAVING) c->left_at -= LINGER_MAX_NS; /* nothing to linger for */
        return;
    }
    c->state = CONN_BROKEN;
    snprintf(c->why, sizeof c->why, "%s", why);
    u->busy++;
    u->happened = true;
}

/* ---- callbacks of UCX --------------------------------------------------------------------------------------------------------------------- */

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    td_ucx *u = arg;
    for (int i = 0; i < CONNS_MAX; i++)
        if (u->conns[i].state != CONN_FREE && u->conns[i].ep == ep) break_conn(u, &u->conns[i], ucs_status_string(status));
}

static void on_knock(ucp_conn_request_h request, void *arg)
{
    td_ucx *u = arg;
    u->happened = true;
    if (u->knocking_count == REQUESTS_WAITING_MAX) ucp_listener_reject(u->listener, request);
    else u->knocking[u->knocking_count++] = request;
}

/* The send is over; false: it was over before. */
static void sent(td_ucx *u, int index, uint32_t ticket)
{
    send_slot *send = &u->sends[index];
    void *buffer = send->buffer;
    if (!buffer || send->ticket != ticket) return;
    send->buffer = NULL;
    u->conns[send->slot].sending--;
    u->happened = true;
    if (u->base.events.sent) u->base.events.sent(u->base.events.user, buffer);
}

static void on_sent(void *request, ucs_status_t status, void *user_data)
{
    send_record record = *(send_record *)request;
    (void)status, (void)user_data; /* a failure also reaches on_error */
    ucp_request_free(request);
    sent(record.owner, record.index, record.ticket);
}

/* -1: too many are under way. */
static int take_send(td_ucx *u, int slot, void *buffer)
{
    for (int i = 0; i < SENDS_MAX; i++) {
        int index = (u->next_send + i) % SENDS_MAX;
        if (u->sends[index].buffer) continue;
        u->next_send = index + 1;
        u->sends[index] = (send_slot){buffer, slot, u->sends[index].ticket + 1};
        u->conns[slot].sending++;
        return index;
    }
    return -1;
}

static void give_up_sends(td_ucx *u, int slot)
{
    for (int i = 0; i < SENDS_MAX; i++)
        if (u->sends[i].buffer && u->sends[i].slot == slot) sent(u, i, u->sends[i].ticket);
}

static void deliver(td_ucx *u, int conn, const uint8_t *data, size_t bytes)
{
    conn_slot *c = conn_of(u, conn);
    u->happened = true;
    if (c && c->state == CONN_OPEN && u->base.events.frame) u->base.events.frame(u->base.events.user, conn, data, bytes);
}

static void end_receive(receive_slot *slot, bool good)
{
    slot->used = false;
    if (good) deliver(slot->owner, slot->conn, slot->buffer, slot->bytes);
}

static void on_received(void *request, ucs_status_t status, size_t length, void *user_data)
{
    (void)length;
    ucp_request_free(request);
    end_receive(user_data, status == UCS_OK);
}

/* A message that has to be fetched. Refused when all places are taken: its sender sees an error, the submit is repeated. */
static ucs_status_t fetch(td_ucx *u, int conn, void *descriptor, size_t length)
{
    int i = 0;
    while (i < RECEIVES_MAX && u->receives[i].used) i++;
    if (i == RECEIVES_MAX) return UCS_ERR_REJECTED;
    receive_slot *slot = &u->receives[i];
    if (!slot->buffer && !(slot->buffer = malloc(u->frame_bytes_max))) return UCS_ERR_REJECTED;
    *slot = (receive_slot){u, slot->buffer, conn, length, true};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA, .cb.recv_am = on_received, .user_data = slot};
    ucs_status_ptr_t request = ucp_am_recv_data_nbx(u->worker, descriptor, slot->buffer, length, &param);
    if (!request) end_receive(slot, true);
    else if (UCS_PTR_IS_ERR(request)) end_receive(slot, false);
    return UCS_OK;
}

static ucs_status_t on_message(void *arg, const void *header, size_t header_length, void *data, size_t length, const ucp_am_recv_param_t *param)
{
    td_ucx *u = arg;
    (void)header, (void)header_length;
    if (!(param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP)) return UCS_OK;
    int slot = 0;
    while (slot < CONNS_MAX && !(u->conns[slot].state == CONN_OPEN && u->conns[slot].ep == param->reply_ep)) slot++;
    bool rendezvous = param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
    if (slot == CONNS_MAX) return rendezvous ? UCS_ERR_REJECTED : UCS_OK;
    if (length > u->frame_bytes_max) {
        break_conn(u, &u->conns[slot], "it sent a message longer than agreed");
        return rendezvous ? UCS_ERR_REJECTED : UCS_OK;
    }
    if (rendezvous) return fetch(u, conn_id(u, slot), data, length);
    deliver(u, conn_id(u, slot), data, length);
    return UCS_OK;
}

/* ---- connections --------------------------------------------------------------------------------------------------------------------------- */

/* "host:port", "[v6]:port". */
static td_status resolve(const char *address, bool passive, struct sockaddr_storage *out, socklen_t *length)
{
    char host[256];
    const char *colon = strrchr(address, ':'), *begin = address, *end = colon;
    if (!colon || !colon[1] || colon == address) return td_fail(TD_E_INVALID, "address: expected HOST:PORT, found '%s'", address);
    if (*begin == '[' && end[-1] == ']') begin++, end--;
    if ((size_t)(end - begin) >= sizeof host) return td_fail(TD_E_INVALID, "address '%s': the host name is too long", address);
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0}, *found;
    int error = getaddrinfo(host[0] == '*' ? NULL : host, colon + 1, &hints, &found);
    if (error) return td_fail(TD_E_NOT_FOUND, "address '%s': %s", address, gai_strerror(error));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *length = found->ai_addrlen;
    freeaddrinfo(found);
    return TD_OK;
}

static int take_slot(td_ucx *u, ucp_ep_h ep)
{
    int slot = free_slot(u);
    int generation = u->conns[slot].generation + 1;
    u->conns[slot] = (conn_slot){.state = CONN_OPEN, .generation = generation & 0x3FFFFF, .ep = ep};
    return slot;
}

static td_status ux_connect(td_transport *t, const char *address, int *conn)
{
    td_ucx *u = (td_ucx *)t;
    struct sockaddr_storage to;
    socklen_t length = 0;
    TD_TRY(resolve(address, false, &to, &length));
    if (free_slot(u) < 0) return td_fail(TD_E_FULL, "link: more than %d connections", CONNS_MAX);
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR | UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
                              .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER, .sockaddr = {(struct sockaddr *)&to, length}, .err_mode = UCP_ERR_HANDLING_MODE_PEER, .err_handler = {on_error, u}};
    ucp_ep_h ep;
    ucs_status_t status = ucp_ep_create(u->worker, &params, &ep);
    if (status != UCS_OK) return td_fail(TD_E_PEER, "%s: %s", address, ucs_status_string(status));
    *conn = conn_id(u, take_slot(u, ep));
    return TD_OK;
}

static void accept_one(td_ucx *u, ucp_conn_request_h request)
{
    char name[128] = "somebody", host[64] = "", port[16] = "";
    ucp_conn_request_attr_t attr = {.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR};
    if (ucp_conn_request_query(request, &attr) == UCS_OK &&
        getnameinfo((struct sockaddr *)&attr.client_address, sizeof attr.client_address, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(name, sizeof name, "%s:%s", host, port);
    if (free_slot(u) < 0) {
        ucp_listener_reject(u->listener, request);
        return;
    }
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST | UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE, .conn_request = request,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER, .err_handler = {on_error, u}};
    ucp_ep_h ep;
    ucs_status_t status = ucp_ep_create(u->worker, &params, &ep);
    if (status != UCS_OK) {
        td_log(TD_LOG_WARN, "link", "%s could not be accepted: %s", name, ucs_status_string(status));
        return;
    }
    int slot = take_slot(u, ep);
    if (u->base.events.accepted) u->base.events.accepted(u->base.events.user, conn_id(u, slot), name);
    else ((const td_transport *)u)->ops->hang_up(&u->base, conn_id(u, slot));
}

static void end_endpoint(td_ucx *u, conn_slot *c)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucs_status_ptr_t request = ucp_ep_close_nbx(c->ep, &param);
    for (int i = 0; request && !UCS_PTR_IS_ERR(request) && i < 1000 && ucp_request_check_status(request) == UCS_INPROGRESS; i++) ucp_worker_progress(u->worker);
    if (request && !UCS_PTR_IS_ERR(request)) ucp_request_free(request);
    c->ep = NULL;
}

/* Ends what was marked: outside UCX's callbacks. */
static void tend_conns(td_ucx *u)
{
    int64_t now = td_now_ns();
    for (int i = 0; i < CONNS_MAX && u->busy > 0; i++) {
        conn_slot *c = &u->conns[i];
        if (c->state == CONN_LEAVING && now - c->left_at < (c->sending ? LINGER_MAX_NS : LINGER_NS)) continue;
        if (c->state != CONN_BROKEN && c->state != CONN_LEAVING) continue;
        int conn = conn_id(u, i);
        char why[96];
        bool tell = c->state == CONN_BROKEN && !c->quiet;
        memcpy(why, c->why, sizeof why);
        bool again = c->ep == NULL;
        if (c->ep) end_endpoint(u, c); /* completes its sends; if not at once, then soon */
        if (c->sending == 0 || again) {
            give_up_sends(u, i);
            c->state = CONN_FREE;
            u->busy--;
        } else {
            c->state = CONN_LEAVING;
            c->quiet = true;
            c->left_at = now;
        }
        if (tell && u->base.events.closed) u->base.events.closed(u->base.events.user, conn, why);
    }
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------------------- */

static td_status ux_listen(td_transport *t, const char *address)
{
    td_ucx *u = (td_ucx *)t;
    struct sockaddr_storage at;
    socklen_t length = 0;
    TD_TRY(resolve(address, true, &at, &length));
    ucp_listener_params_t params = {.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER, .sockaddr = {(struct sockaddr *)&at, length}, .conn_handler = {on_knock, u}};
    ucs_status_t status = ucp_listener_create(u->worker, &params, &u->listener);
    if (status != UCS_OK) return td_fail(TD_E_IO, "listen %s: %s", address, ucs_status_string(status));
    return TD_OK;
}

static bool ux_send(td_transport *t, int conn, const void *data, size_t bytes, void *buffer)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    if (!c || c->state != CONN_OPEN) return false;
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_REPLY, .cb.send = on_sent};
    int index = take_send(u, conn % CONNS_MAX, buffer);
    if (index < 0) return false;
    uint32_t ticket = u->sends[index].ticket;
    ucs_status_ptr_t request = ucp_am_send_nbx(c->ep, AM_ID, NULL, 0, data, bytes, &param);
    if (request && !UCS_PTR_IS_ERR(request)) {
        *(send_record *)request = (send_record){u, index, ticket};
        return true;
    }
    if (UCS_PTR_IS_ERR(request)) break_conn(u, c, ucs_status_string(UCS_PTR_STATUS(request)));
    sent(u, index, ticket);
    return true;
}

static void ux_hang_up(td_transport *t, int conn)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    if (!c || c->quiet) return;
    c->quiet = true;
    if (c->state != CONN_OPEN) return;
    c->state = CONN_LEAVING;
    c->left_at = td_now_ns();
    u->busy++;
}

static bool ux_progress(td_transport *t)
{
    td_ucx *u = (td_ucx *)t;
    u->happened = false;
    bool any = ucp_worker_progress(u->worker) != 0;
    while (u->knocking_count > 0) accept_one(u, u->knocking[--u->knocking_count]);
    if (u->busy > 0) tend_conns(u);
    return any || u->happened;
}

static int64_t ux_now(const td_transport *t) { return (void)t, td_now_ns(); }

static void ux_rest(td_transport *t, int64_t ns)
{
    td_ucx *u = (td_ucx *)t;
    int64_t start = td_now_ns(), spin = TD_MIN(ns, u->spin_ns);
    do {
        if (ux_progress(t)) return;
    } while (td_now_ns() - start < spin);
    int64_t left = ns - (td_now_ns() - start);
    if (u->busy > 0) left = TD_MIN(left, LINGER_NS);
    if (left <= 0 || ucp_worker_arm(u->worker) != UCS_OK) return;
    struct pollfd fd = {.fd = u->wake_fd, .events = POLLIN};
    struct timespec most = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    ppoll(&fd, 1, &most, NULL);
}

static void ux_describe(td_transport *t, int conn, char *out, size_t room)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    char *text = NULL;
    size_t bytes = 0, n = 0;
    out[0] = 0;
    FILE *file = c && c->ep ? open_memstream(&text, &bytes) : NULL;
    if (!file) return;
    ucp_ep_print_info(c->ep, file);
    fclose(file);
    char *rest = text;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) { /* "# lane[1]:  3:tcp/lo.0 md[2] -> ... am am_bw#0 wireup" */
        char *lane = strstr(line, "lane["), *colon = lane ? strchr(lane, ':') : NULL, name[48];
        if (!colon || sscanf(colon + 1, " %*[0-9]:%47s", name) != 1 || n >= room) continue;
        n += (size_t)snprintf(out + n, room - n, "%s%s%s", n ? ", " : "", name, strstr(line, " am ") || strstr(line, " am_bw") ? " (messages)" : "");
    }
    free(text);
}

static void ux_close(td_transport *t)
{
    td_ucx *u = (td_ucx *)t;
    int64_t start = td_now_ns();
    u->base.events = (td_transport_events){0};
    while (u->worker && u->busy > 0 && td_now_ns() - start < LINGER_MAX_NS) ux_progress(t);
    for (int i = 0; i < CONNS_MAX; i++)
        if (u->conns[i].ep) end_endpoint(u, &u->conns[i]);
    if (u->listener) ucp_listener_destroy(u->listener);
    if (u->worker) ucp_worker_destroy(u->worker);
    if (u->context) ucp_cleanup(u->context);
    for (int i = 0; i < RECEIVES_MAX; i++) free(u->receives[i].buffer);
    free(u);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------------------- */

static bool has_rdma(void)
{
    DIR *folder = opendir("/sys/class/infiniband");
    int entries = 0;
    if (!folder) return false;
    while (readdir(folder)) entries++;
    closedir(folder);
    return entries > 2;
}

static void set(ucp_config_t *config, const char *name, const char *value)
{
    char variable[64];
    snprintf(variable, sizeof variable, "UCX_%s", name);
    if (getenv(variable)) return; /* whoever sets it knows the machine */
    ucs_status_t status = ucp_config_modify(config, name, value);
    if (status != UCS_OK) td_log(TD_LOG_WARN, "link", "UCX does not know the setting %s=%s: %s", name, value, ucs_status_string(status));
}

static td_status open_worker(td_ucx *u, bool this_host)
{
    ucp_config_t *config;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) return td_fail(TD_E_INTERNAL, "UCX: %s", ucs_status_string(status));
    bool rdma = has_rdma();
    set(config, "TLS", rdma ? "posix,tcp,ib" : "posix,tcp");
    const char *wanted = getenv("UCX_TLS");
    if (!wanted || strstr(wanted, "posix") || strstr(wanted, "sysv") || strstr(wanted, "mm") || strstr(wanted, "sm") || strstr(wanted, "all")) {
        set(config, "MM_ERROR_HANDLING", "y");
        set(config, "MM_SEG_SIZE", "32768");
    }
    if (!rdma && !this_host) set(config, "CM_USE_ALL_DEVICES", "n"); /* only the interface of the connection: UCX would also try networks that the other host is not on */
    if (!rdma) set(config, "RNDV_THRESH", "inf");
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_REQUEST_SIZE, .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP, .request_size = sizeof(send_record)};
    status = ucp_init(&params, config, &u->context);
    ucp_config_release(config);
    if (status != UCS_OK) return td_fail(TD_E_INTERNAL, "UCX: %s", ucs_status_string(status));
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    status = ucp_worker_create(u->context, &worker, &u->worker);
    if (status != UCS_OK) return td_fail(TD_E_INTERNAL, "UCX worker: %s", ucs_status_string(status));
    ucp_am_handler_param_t handler = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS, .id = AM_ID,
                                      .flags = UCP_AM_FLAG_WHOLE_MSG, .cb = on_message, .arg = u};
    status = ucp_worker_set_am_recv_handler(u->worker, &handler);
    if (status == UCS_OK) status = ucp_worker_get_efd(u->worker, &u->wake_fd);
    return status == UCS_OK ? TD_OK : td_fail(TD_E_INTERNAL, "UCX: %s", ucs_status_string(status));
}

/* Every address of the list is this host's loopback. */
static bool all_loopback(const char *list)
{
    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
        size_t n = strcspn(at, ",");
        if (n >= 4 && !strncmp(at, "127.", 4)) continue;
        if (n >= 10 && !strncmp(at, "localhost:", 10)) continue;
        if (n >= 6 && !strncmp(at, "[::1]:", 6)) continue;
        return false;
    }
    return true;
}

/* UCX writes its messages to stdout, which belongs to generated text: they go to the log instead. */
static ucs_log_func_rc_t to_log(const char *file, unsigned line, const char *function, ucs_log_level_t level, const ucs_log_component_config_t *component, const char *message, va_list args)
{
    char text[512];
    (void)file, (void)line, (void)function, (void)component;
    vsnprintf(text, sizeof text, message, args);
    td_log(level <= UCS_LOG_LEVEL_WARN ? TD_LOG_WARN : level <= UCS_LOG_LEVEL_INFO ? TD_LOG_INFO : TD_LOG_DEBUG, "ucx", "%s", text);
    return UCS_LOG_FUNC_RC_STOP;
}

/* Once per process. UCX reads this one setting only from the environment; with it a worker that is restarted gets its port back at once. */
static void prepare(void)
{
    setenv("UCX_TCP_CM_REUSEADDR", "y", 0);
    ucs_log_push_handler(to_log);
}

td_status td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out)
{
    static const td_transport_ops ops = {ux_listen, ux_connect, ux_send, ux_hang_up, ux_progress, ux_now, ux_rest, ux_describe, ux_close};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    td_ucx *u = calloc(1, sizeof *u);
    if (!u) return td_fail(TD_E_MEMORY, "link: no memory");
    pthread_once(&once, prepare);
    u->base.ops = &ops;
    u->frame_bytes_max = frame_bytes_max;
    u->spin_ns = spin_ns;
    td_status status = open_worker(u, all_loopback(addresses));
    if (status < 0) {
        ux_close(&u->base);
        return status;
    }
    *out = &u->base;
    return TD_OK;
}
