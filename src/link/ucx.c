/*
 * ucx.c - the transport over UCX active messages. One UCX worker; a connection begins at the door (door.h), where the session is opened, and gets an endpoint of UCX when both
 * sides have joined: each sends the other an offer (its UCX address and a random number) inside an authenticated frame. UCX never listens where strangers are expected, and a message
 * counts only with the number that was offered for its connection. Control connections stay at the door.
 *
 * Settings (measured, docs/operations.md): endpoints in peer-error mode, so that a broken lane is reported; shared memory is allowed to take part in that
 * (MM_ERROR_HANDLING), else UCX drops it silently; everything travels eagerly on hosts without RDMA, where a rendezvous costs more than it saves up to 1 MiB;
 * segments of shared memory of 32 KiB (64 KiB aborts inside UCX 1.13). Each can be overruled by its UCX_ environment variable. A process that dies is seen by its socket at the door;
 * a peer that hangs or whose cable is cut is seen by the heartbeats above this file.
 *
 * Processes of one host share memory: all who send to this one take slots of one queue, in turn. After kills under load it was seen that nothing arrives any more, from anybody (3 probes lost in 360 kills; without
 * the probe connections never came back). The likely cause, not proven: a sender killed between taking its slot and filling it stops the queue. So whenever a joined connection has ended this process sends itself a
 * probe through the same queue; when it does not arrive, UCX is started anew and all connections begin again. A probe that was merely late costs only that.
 *
 * UCX allows closing an endpoint only outside its callbacks: what ends is marked and ended in progress. A hang-up gives what was sent a moment to leave.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>
#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>

#include "base/clock.h"
#include "base/log.h"
#include "link/door.h"
#include "link/transport.h"

enum { CONNS_MAX = TD_DOOR_PLACES, RECEIVES_MAX = 8, SENDS_MAX = 512, AM_ID = 7, EARLY_MAX = 8, NUMBER_BITS = 8 };
#define LINGER_NS ((int64_t)5000000)
#define LINGER_MAX_NS ((int64_t)300000000)
#define PROBE_NS ((int64_t)30000000)
#define PROBE_LOOKS 64              /* a probe counts as lost after both: this process may have computed meanwhile */
#define LOOK_NS ((int64_t)100000)   /* how often progress looks at the door: a system call */

typedef enum { CONN_FREE, CONN_OPEN, CONN_BROKEN, CONN_LEAVING } conn_state;

typedef struct {
    conn_state state;
    bool quiet;             /* hung up by us: no `closed` */
    bool offered;           /* the other side knows the address of this UCX worker */
    int generation, sending;
    ucp_ep_h ep;            /* NULL: not joined, everything goes through the door */
    uint64_t number, theirs;/* what their messages must carry (its low bits are the slot); what ours must */
    int64_t left_at;
    char why[96];
} conn_slot;

/* A large message that UCX hands over by rendezvous (RDMA only). */
typedef struct { struct td_ucx *owner; uint8_t *buffer; int conn; size_t bytes; bool used; } receive_slot;

/* What came by lanes before this side had joined them: kept until UCX's callback is over, since its reader will join. The first is the other side's hello. */
typedef struct { uint8_t *data; size_t bytes; int conn; } early_frame;

/* A buffer on its way. UCX may never report a send whose endpoint was closed by force: then the buffer is given back when the connection is. */
typedef struct { void *buffer; int slot; uint32_t ticket; } send_slot;

typedef struct td_ucx {
    td_transport base;
    ucp_context_h context;
    ucp_worker_h worker;    /* NULL until lanes are needed */
    ucp_ep_h self;          /* to this process, by the way that others use */
    uint64_t probe, probe_number; /* the probe on its way, 0: none; what UCX may still read */
    int64_t probe_at;
    int probe_looks;
    td_door *door;
    char interfaces[256];
    size_t frame_bytes_max;
    int64_t spin_ns;
    conn_slot conns[CONNS_MAX];
    early_frame early[EARLY_MAX];
    int early_count;
    int busy;               /* connections in a state that progress has to look at */
    int64_t looked_at;
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

static int take_slot(td_ucx *u)
{
    int slot = free_slot(u);
    int generation = u->conns[slot].generation + 1;
    u->conns[slot] = (conn_slot){.state = CONN_OPEN, .generation = generation & 0x3FFFFF};
    randombytes_buf(&u->conns[slot].number, sizeof u->conns[slot].number);
    u->conns[slot].number = u->conns[slot].number << NUMBER_BITS | (uint64_t)slot;
    return slot;
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

static void keep_early(td_ucx *u, int conn, const void *data, size_t bytes)
{
    if (u->early_count == EARLY_MAX) return; /* as if lost on the way: asked for again */
    early_frame frame = {malloc(bytes), bytes, conn};
    if (!frame.data) return;
    memcpy(frame.data, data, bytes);
    u->early[u->early_count++] = frame;
    u->happened = true;
}

static void deliver_early(td_ucx *u)
{
    int count = u->early_count;
    u->early_count = 0;
    for (int i = 0; i < count; i++) {
        deliver(u, u->early[i].conn, u->early[i].data, u->early[i].bytes);
        free(u->early[i].data);
    }
}

static ucs_status_t on_message(void *arg, const void *header, size_t header_length, void *data, size_t length, const ucp_am_recv_param_t *param)
{
    td_ucx *u = arg;
    uint64_t number;
    bool rendezvous = param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
    if (header_length != sizeof number) return rendezvous ? UCS_ERR_REJECTED : UCS_OK;
    memcpy(&number, header, sizeof number);
    if (u->probe && number == u->probe) {
        u->probe = 0;
        return UCS_OK;
    }
    int slot = (int)(number % CONNS_MAX);
    conn_slot *c = &u->conns[slot];
    if (c->state != CONN_OPEN || c->number != number) return rendezvous ? UCS_ERR_REJECTED : UCS_OK; /* of a connection that is gone, or nobody we know */
    if (length > u->frame_bytes_max) {
        break_conn(u, c, "it sent a message longer than agreed");
        return rendezvous ? UCS_ERR_REJECTED : UCS_OK;
    }
    if (rendezvous) return fetch(u, conn_id(u, slot), data, length);
    if (c->ep) deliver(u, conn_id(u, slot), data, length);
    else keep_early(u, conn_id(u, slot), data, length);
    return UCS_OK;
}

static void end_endpoint(td_ucx *u, ucp_ep_h *ep)
{
    if (!*ep) return;
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucs_status_ptr_t request = ucp_ep_close_nbx(*ep, &param);
    for (int i = 0; request && !UCS_PTR_IS_ERR(request) && i < 1000 && ucp_request_check_status(request) == UCS_INPROGRESS; i++) ucp_worker_progress(u->worker);
    if (request && !UCS_PTR_IS_ERR(request)) ucp_request_free(request);
    *ep = NULL;
}

/* ---- starting UCX ------------------------------------------------------------------------------------------------------------------------------ */

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

static ucs_status_t connect_self(td_ucx *u)
{
    ucp_address_t *address;
    size_t bytes;
    ucs_status_t status = ucp_worker_get_address(u->worker, &address, &bytes);
    if (status != UCS_OK) return status;
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE, .address = address,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER, .err_handler = {on_error, u}};
    status = ucp_ep_create(u->worker, &params, &u->self);
    ucp_worker_release_address(u->worker, address);
    return status;
}

/* Takes some 20 ms; when lanes are first needed. */
static td_status start_ucx(td_ucx *u)
{
    ucp_config_t *config;
    int wake_fd;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) return td_fail(TD_E_INTERNAL, "UCX: %s", ucs_status_string(status));
    bool rdma = has_rdma();
    set(config, "TLS", rdma ? "posix,tcp,ib" : "posix,tcp");
    const char *wanted = getenv("UCX_TLS");
    if (!wanted || strstr(wanted, "posix") || strstr(wanted, "sysv") || strstr(wanted, "mm") || strstr(wanted, "sm") || strstr(wanted, "all")) {
        set(config, "MM_ERROR_HANDLING", "y");
        set(config, "MM_SEG_SIZE", "32768");
    }
    if (!rdma && u->interfaces[0]) set(config, "NET_DEVICES", u->interfaces); /* UCX would also try networks that the other host is not on */
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
    if (status == UCS_OK) status = ucp_worker_get_efd(u->worker, &wake_fd);
    if (status == UCS_OK) status = connect_self(u);
    return status == UCS_OK ? td_door_watch(u->door, wake_fd) : td_fail(TD_E_INTERNAL, "UCX: %s", ucs_status_string(status));
}

static void end_ucx(td_ucx *u)
{
    end_endpoint(u, &u->self);
    if (u->worker) ucp_worker_destroy(u->worker);
    if (u->context) ucp_cleanup(u->context);
    u->worker = NULL, u->context = NULL;
    u->probe = 0;
    for (int i = 0; i < RECEIVES_MAX; i++) u->receives[i].used = false;
}

/* Every connection that uses UCX, or will, ends. Not inside its callbacks. */
static void start_again(td_ucx *u, const char *why)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        conn_slot *c = &u->conns[i];
        if (!c->ep && !c->offered) continue;
        end_endpoint(u, &c->ep);
        give_up_sends(u, i);
        break_conn(u, c, why);
    }
    end_ucx(u);
}

/* UCX, running, for the connection of this slot. One by an interface that UCX was not told of (a worker added on another network) has it started again with that, too. */
static td_status open_worker(td_ucx *u, int slot)
{
    if (u->interfaces[0] && !has_rdma() && td_door_interface(u->door, slot, u->interfaces, sizeof u->interfaces) && u->worker && !getenv("UCX_NET_DEVICES")) {
        td_log(TD_LOG_WARN, "link", "another network joins (%s): all connections by lanes begin again", u->interfaces);
        start_again(u, "lanes begin again with another network");
    }
    if (u->worker) return TD_OK;
    td_status status = start_ucx(u);
    if (status < 0) end_ucx(u);
    return status;
}

/* ---- events of the door -------------------------------------------------------------------------------------------------------------------- */

static int on_arrived(void *user, const char *name)
{
    td_ucx *u = user;
    if (free_slot(u) < 0) return -1;
    int slot = take_slot(u);
    if (u->base.events.accepted) u->base.events.accepted(u->base.events.user, conn_id(u, slot), name);
    else u->base.ops->hang_up(&u->base, conn_id(u, slot));
    return slot;
}

static void on_door_message(void *user, int slot, const uint8_t *data, size_t bytes)
{
    td_ucx *u = user;
    deliver(u, conn_id(u, slot), data, bytes);
}

static void on_ended(void *user, int slot, const char *why)
{
    td_ucx *u = user;
    break_conn(u, &u->conns[slot], why);
}

/* ---- connections --------------------------------------------------------------------------------------------------------------------------- */

static td_status ux_connect(td_transport *t, const char *address, int *conn)
{
    td_ucx *u = (td_ucx *)t;
    if (free_slot(u) < 0) return td_fail(TD_E_FULL, "link: more than %d connections", CONNS_MAX);
    int slot = take_slot(u);
    td_status status = td_door_connect(u->door, slot, address);
    if (status < 0) u->conns[slot].state = CONN_FREE;
    else *conn = conn_id(u, slot);
    return status;
}

/* Processes share memory only when they may look at each other's: the same user in the same namespace of processes. Both are equal on different hosts by chance; UCX knows hosts apart. */
static uint64_t who_are_we(void)
{
    struct stat space = {0};
    stat("/proc/self/ns/pid", &space);
    return (uint64_t)space.st_ino << 32 | (uint64_t)geteuid();
}

/* An address of this process for others: everything that UCX has, or only what goes over networks. NULL: UCX has none. */
static ucp_address_t *own_address(td_ucx *u, bool networks_only, size_t *bytes)
{
    ucp_worker_attr_t attr = {.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_ADDRESS_FLAGS, .address_flags = networks_only ? UCP_WORKER_ADDRESS_FLAG_NET_ONLY : 0};
    if (ucp_worker_query(u->worker, &attr) != UCS_OK) return NULL;
    *bytes = attr.address_length;
    return attr.address;
}

/* What an offer begins with; behind it the whole address and that of networks. */
typedef struct __attribute__((packed)) { uint64_t number, who; uint16_t whole_bytes; } offer_front;

static size_t ux_offer(td_transport *t, int conn, uint8_t *out, size_t room)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    size_t whole_bytes = 0, network_bytes = 0;
    if (!c || c->state != CONN_OPEN || open_worker(u, conn % CONNS_MAX) < 0) return 0;
    ucp_address_t *whole = own_address(u, false, &whole_bytes), *network = own_address(u, true, &network_bytes);
    bool known = whole && network, fits = known && sizeof(offer_front) + whole_bytes + network_bytes <= room;
    if (fits) {
        offer_front front = {c->number, who_are_we(), (uint16_t)whole_bytes};
        c->offered = true;
        memcpy(out, &front, sizeof front);
        memcpy(out + sizeof front, whole, whole_bytes);
        memcpy(out + sizeof front + whole_bytes, network, network_bytes);
    } else if (known) {
        td_log(TD_LOG_WARN, "link", "UCX's addresses of this process take %zu bytes, %zu fit: fewer network devices (UCX_NET_DEVICES) make them shorter", whole_bytes + network_bytes, room - sizeof(offer_front));
    }
    if (whole) ucp_worker_release_address(u->worker, whole);
    if (network) ucp_worker_release_address(u->worker, network);
    return fits ? sizeof(offer_front) + whole_bytes + network_bytes : 0;
}

static td_status ux_join(td_transport *t, int conn, const uint8_t *offer, size_t bytes)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    if (!c || c->state != CONN_OPEN) return td_fail(TD_E_PEER, "the connection is gone");
    offer_front front = {0};
    if (bytes > sizeof front) memcpy(&front, offer, sizeof front);
    if (c->ep || front.whole_bytes == 0 || front.whole_bytes >= bytes - sizeof front) return td_fail(TD_E_FORMAT, "expected one offer of lanes, found %s", c->ep ? "another" : "none");
    const uint8_t *address = offer + sizeof front + (front.who == who_are_we() ? 0 : front.whole_bytes);
    TD_TRY(open_worker(u, conn % CONNS_MAX));
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE, .address = (const ucp_address_t *)address,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER, .err_handler = {on_error, u}};
    ucp_ep_h ep;
    ucs_status_t status = ucp_ep_create(u->worker, &params, &ep);
    if (status != UCS_OK) return td_fail(TD_E_PEER, "UCX finds no lanes to it: %s", ucs_status_string(status));
    c->theirs = front.number;
    c->ep = ep;
    return TD_OK;
}

/* ---- the queue that others fill -------------------------------------------------------------------------------------------------------------- */

static void on_probe_sent(void *request, ucs_status_t status, void *user_data) { (void)status, (void)user_data, ucp_request_free(request); }

static void start_probe(td_ucx *u)
{
    static const uint8_t byte;
    if (u->probe || !u->self) return;
    randombytes_buf(&u->probe_number, sizeof u->probe_number);
    u->probe = u->probe_number |= 1;
    u->probe_at = td_now_ns();
    u->probe_looks = 0;
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK, .cb.send = on_probe_sent};
    ucp_am_send_nbx(u->self, AM_ID, &u->probe_number, sizeof u->probe_number, &byte, 1, &param); /* one that cannot be sent does not arrive either */
}

static void check_probe(td_ucx *u)
{
    if (++u->probe_looks < PROBE_LOOKS || td_now_ns() - u->probe_at < PROBE_NS) return;
    td_log(TD_LOG_WARN, "link", "nothing arrives by lanes, as after a process died with the queue of shared memory blocked: all connections begin again");
    start_again(u, "the queue of shared memory was blocked");
}

/* Ends what was marked: outside UCX's callbacks. */
static void tend_conns(td_ucx *u)
{
    int64_t now = td_now_ns();
    for (int i = 0; i < CONNS_MAX && u->busy > 0; i++) {
        conn_slot *c = &u->conns[i];
        if (c->state == CONN_LEAVING && now - c->left_at < (c->sending || td_door_unsent(u->door, i) ? LINGER_MAX_NS : LINGER_NS)) continue;
        if (c->state != CONN_BROKEN && c->state != CONN_LEAVING) continue;
        int conn = conn_id(u, i);
        char why[96];
        bool tell = c->state == CONN_BROKEN && !c->quiet;
        memcpy(why, c->why, sizeof why);
        bool again = c->ep == NULL;
        if (c->ep) start_probe(u);
        end_endpoint(u, &c->ep); /* completes its sends; if not at once, then soon */
        td_door_close(u->door, i);
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

static td_status ux_listen(td_transport *t, const char *address) { return td_door_listen(((td_ucx *)t)->door, address); }

static bool ux_send(td_transport *t, int conn, const void *data, size_t bytes, void *buffer)
{
    td_ucx *u = (td_ucx *)t;
    conn_slot *c = conn_of(u, conn);
    if (!c || c->state != CONN_OPEN) return false;
    if (!c->ep) {
        if (!td_door_send(u->door, conn % CONNS_MAX, data, bytes)) {
            break_conn(u, c, "it takes nothing");
            return false;
        }
        if (u->base.events.sent) u->base.events.sent(u->base.events.user, buffer);
        return true;
    }
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK, .cb.send = on_sent};
    int index = take_send(u, conn % CONNS_MAX, buffer);
    if (index < 0) return false;
    uint32_t ticket = u->sends[index].ticket;
    ucs_status_ptr_t request = ucp_am_send_nbx(c->ep, AM_ID, &c->theirs, sizeof c->theirs, data, bytes, &param);
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
    if (!td_door_unsent(u->door, conn % CONNS_MAX)) td_door_last(u->door, conn % CONNS_MAX);
}

static bool look(td_ucx *u, int64_t ns)
{
    bool any = td_door_look(u->door, ns);
    u->looked_at = td_now_ns();
    return any;
}

static bool ux_progress(td_transport *t)
{
    td_ucx *u = (td_ucx *)t;
    u->happened = false;
    bool any = u->worker && ucp_worker_progress(u->worker) != 0;
    if (u->early_count) deliver_early(u);
    if (td_now_ns() - u->looked_at >= LOOK_NS) any |= look(u, 0);
    if (u->busy > 0) tend_conns(u);
    if (u->probe) check_probe(u);
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
    if (u->probe) left = TD_MIN(left, PROBE_NS / PROBE_LOOKS);
    if (left <= 0 || (u->worker && ucp_worker_arm(u->worker) != UCS_OK)) return;
    look(u, left);
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

static void ux_quiesce(td_transport *t)
{
    td_ucx *u = (td_ucx *)t;
    int64_t start = td_now_ns();
    for (int i = 0; i < CONNS_MAX; i++)
        if (u->conns[i].state == CONN_OPEN) ux_hang_up(t, conn_id(u, i));
    while (u->busy > 0 && td_now_ns() - start < LINGER_MAX_NS) ux_progress(t);
    for (int i = 0; i < CONNS_MAX; i++) {
        end_endpoint(u, &u->conns[i].ep); /* UCX drops what it holds of them */
        give_up_sends(u, i);
        td_door_close(u->door, i);
        u->conns[i].state = CONN_FREE;
    }
    u->busy = 0;
}

static void ux_close(td_transport *t)
{
    td_ucx *u = (td_ucx *)t;
    u->base.events = (td_transport_events){0};
    ux_quiesce(t);
    end_ucx(u);
    td_door_free(u->door);
    for (int i = 0; i < u->early_count; i++) free(u->early[i].data);
    for (int i = 0; i < RECEIVES_MAX; i++) free(u->receives[i].buffer);
    free(u);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------------------- */

/* UCX writes its messages to stdout, which belongs to generated text: they go to the log instead. */
static ucs_log_func_rc_t to_log(const char *file, unsigned line, const char *function, ucs_log_level_t level, const ucs_log_component_config_t *component, const char *message, va_list args)
{
    char text[512];
    (void)file, (void)line, (void)function, (void)component;
    vsnprintf(text, sizeof text, message, args);
    td_log(level <= UCS_LOG_LEVEL_WARN ? TD_LOG_WARN : level <= UCS_LOG_LEVEL_INFO ? TD_LOG_INFO : TD_LOG_DEBUG, "ucx", "%s", text);
    return UCS_LOG_FUNC_RC_STOP;
}

static void prepare(void) { ucs_log_push_handler(to_log); }

td_status td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out)
{
    static const td_transport_ops ops = {ux_listen, ux_connect, ux_offer, ux_join, ux_send, ux_hang_up, ux_progress, ux_now, ux_rest, ux_describe, ux_quiesce, ux_close};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    td_ucx *u = calloc(1, sizeof *u);
    if (!u) return td_fail(TD_E_MEMORY, "link: no memory");
    pthread_once(&once, prepare);
    u->base.ops = &ops;
    u->frame_bytes_max = frame_bytes_max;
    u->spin_ns = spin_ns;
    td_door_interfaces(addresses, u->interfaces, sizeof u->interfaces);
    td_status status = sodium_init() < 0 ? td_fail(TD_E_INTERNAL, "libsodium did not start") : td_door_open((td_door_events){u, on_arrived, on_door_message, on_ended}, &u->door);
    if (status < 0) {
        free(u);
        return status;
    }
    *out = &u->base;
    return TD_OK;
}
