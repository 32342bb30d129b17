/*
 * door.h - the sockets in front of the transport: everything a stranger can reach is read here, by us. Messages of a length, over TCP, few and small: the handshake, hellos,
 * the control address. Rows of activations go by the lanes of UCX, which are opened only after the secret was proven.
 *
 * A socket also lives as long as its connection: the kernel closes it when a process dies, and that is how a loss is noticed at once.
 * On the wire: u32 length (little-endian), then that many bytes. One thread, besides those that look up names. The door's memory grows only with bytes that have really arrived.
 */
#ifndef TD_LINK_DOOR_H
#define TD_LINK_DOOR_H

#include "base/status.h"

enum { TD_DOOR_PLACES = 256, TD_DOOR_MESSAGE_MAX = 320 * 1024, TD_DOOR_UNSENT_MAX = 1 << 20 };

typedef struct td_door td_door;

/* Called from td_door_look. */
typedef struct {
    void *user;
    int (*arrived)(void *user, const char *name);                               /* the place (0 to TD_DOOR_PLACES - 1, not in use) that the new connection gets; -1: turn it away */
    void (*message)(void *user, int place, const uint8_t *data, size_t bytes);  /* data valid until the function returns */
    void (*ended)(void *user, int place, const char *why);                      /* once; the place is still to be closed */
} td_door_events;

td_status td_door_open(td_door_events events, td_door **out);
void td_door_free(td_door *door);                                               /* NULL allowed */
/* "host:port", "[v6]:port", "*:port"; a name is waited for. Errors: TD_E_INVALID, TD_E_NOT_FOUND, TD_E_IO with a sentence. */
td_status td_door_listen(td_door *door, const char *address);
/* Starts to connect; messages may be sent at once, a failure comes as `ended`. Never waits: TD_E_TIMEOUT while the address of a name is not known yet (names.h); try again. */
td_status td_door_connect(td_door *door, int place, const char *address);
/* Bytes are copied or gone. False: this place has no connection, or the other side takes nothing and TD_DOOR_UNSENT_MAX bytes wait. */
bool td_door_send(td_door *door, int place, const void *data, size_t bytes);
bool td_door_unsent(const td_door *door, int place);
/* What was sent still leaves; the other side sees the end. */
void td_door_last(td_door *door, int place);
void td_door_close(td_door *door, int place);
/* Another descriptor that ends a sleep. */
td_status td_door_watch(td_door *door, int fd);
/* Sleeps until something may have happened, at most ns (0: does not sleep), then handles what did. False: nothing happened to a socket. */
bool td_door_look(td_door *door, int64_t ns);

/* The interfaces by which these addresses ("host:port,...") are reached or listened on, as "eth0,lo"; empty: not known, or all. */
void td_door_interfaces(const char *addresses, char *out, size_t room);
/* Adds the interface that the connection of this place goes by to such a list. True: it was not there. */
bool td_door_interface(const td_door *door, int place, char *names, size_t room);

#endif
