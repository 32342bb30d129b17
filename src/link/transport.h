/*
 * transport.h - how frames move: a small table of functions over UCX (ucx.c) or over virtual time (tests/sim). Everything above it is state machines that own
 * no thread and read no clock but this one, so that the simulation runs the very code that production runs.
 *
 * One thread at a time uses a transport. Events are delivered from inside progress (`sent` also from inside send). A connection is a number that is not used again.
 */
#ifndef TD_LINK_TRANSPORT_H
#define TD_LINK_TRANSPORT_H

#include "base/clock.h"
#include "base/status.h"

typedef struct td_transport td_transport;

typedef struct {
    void *user;
    void (*accepted)(void *user, int conn, const char *name);                   /* somebody connected to us; name for messages */
    void (*frame)(void *user, int conn, const uint8_t *data, size_t bytes);     /* data valid until the function returns */
    void (*closed)(void *user, int conn, const char *why);                      /* the connection is gone; `sent` of what was under way may still follow */
    void (*sent)(void *user, void *buffer);                                     /* the buffer given to send may be used again */
} td_transport_events;

typedef struct {
    td_status (*listen)(td_transport *transport, const char *address);          /* "host:port" */
    /* Starts to connect; frames may be sent at once, a failure comes as `closed`. Errors: an address that cannot be understood, a name without one;
     * TD_E_TIMEOUT: the name is being looked up, try again. */
    td_status (*connect)(td_transport *transport, const char *address, int *conn);
    /* Faster lanes beside the connection, for the many and large frames: what the other side needs to join this one (its length; 0: none can be had), and joining with what it gave,
     * after which frames to conn go by them. To be carried in authenticated frames; a side that has made an offer takes frames by its lanes at once. */
    size_t (*offer)(td_transport *transport, int conn, uint8_t *out, size_t room);
    td_status (*join)(td_transport *transport, int conn, const uint8_t *offer, size_t bytes);
    /* Sends bytes at data; buffer is handed to `sent` exactly once when data is no longer needed, also when the connection fails. False: the connection is unknown; no `sent`. */
    bool (*send)(td_transport *transport, int conn, const void *data, size_t bytes, void *buffer);
    void (*hang_up)(td_transport *transport, int conn);                         /* no more events of it but `sent` */
    bool (*progress)(td_transport *transport);                                  /* false: nothing happened */
    int64_t (*now)(const td_transport *transport);                              /* nanoseconds */
    void (*rest)(td_transport *transport, int64_t ns);                          /* sleeps until something may have happened, at most ns */
    void (*describe)(td_transport *transport, int conn, char *out, size_t room);/* lanes chosen */
    void (*quiesce)(td_transport *transport);                                   /* ends every connection; what was sent has a moment to leave, then no buffer is used any more */
    void (*close)(td_transport *transport);
} td_transport_ops;

struct td_transport { const td_transport_ops *ops; td_transport_events events; };

/* ucx.c. frame_bytes_max bounds what is received. spin_ns: how long rest looks before it sleeps. addresses: "host:port,..." that will be listened on or connected to; without RDMA
 * UCX uses only the interfaces of those (processes of one host: shared memory). UCX itself starts when lanes are first offered or joined. */
td_status td_transport_ucx_open(size_t frame_bytes_max, int64_t spin_ns, const char *addresses, td_transport **out);

#endif
