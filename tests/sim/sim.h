/*
 * sim.h - a network in virtual time: the transport of the deterministic simulation. Nodes send frames over connections; every message may be delayed, dropped,
 * doubled, corrupted or overtaken, nodes may be killed, stopped or cut off, all decided by one seed. Nothing here reads a clock or a random source of the machine.
 */
#ifndef TD_TESTS_SIM_H
#define TD_TESTS_SIM_H

#include "base/random.h"
#include "link/transport.h"

enum { SIM_NODES_MAX = 24, SIM_CONNS_MAX = 1 << 16, SIM_EVENTS_MAX = 1 << 16 };

typedef struct {
    double drop, twice, corrupt, overtake;  /* probabilities per message */
    int64_t delay_min, delay_max;           /* ns */
    double long_delay;                      /* probability of a delay of up to 300 ms more */
} sim_weather;

typedef struct sim sim;

typedef struct {
    td_transport base;
    sim *world;
    int index;
    char address[32];
    bool used, alive, stopped, cut, garbage; /* stopped: as SIGSTOP; cut: its cable is out; garbage: what it sends is random */
    int64_t slow;                            /* added to every message it sends */
    int64_t wake_at;
    int64_t (*step)(void *user);             /* the node's life; returns when to call again */
    void *user;
} sim_node;

typedef struct { bool used; int a, b; bool open_a, open_b; int64_t last_ab, last_ba; } sim_conn; /* nodes; last delivery in each direction */

typedef enum { SIM_ACCEPT, SIM_FRAME, SIM_CLOSED } sim_event_kind;
typedef struct { int64_t at; uint64_t order; sim_event_kind kind; int conn, to; uint8_t *data; size_t bytes; const char *why; } sim_event;

struct sim {
    int64_t now;
    td_random random;
    sim_weather weather;
    sim_node nodes[SIM_NODES_MAX];
    sim_conn conns[SIM_CONNS_MAX];
    int conn_count;
    sim_event *events;                       /* binary heap by (at, order) */
    int event_count;
    uint64_t order, delivered, trace;        /* trace: hash of all that was delivered, to compare two runs */
    uint8_t *held;                           /* copy of the frame being delivered */
};

sim *sim_open(uint64_t seed);
void sim_close(sim *world);
sim_node *sim_add(sim *world, const char *address, int64_t (*step)(void *user), void *user);
/* The node vanishes; its peers learn it after some milliseconds. Its state machine must be closed by the caller before or after. */
void sim_kill(sim_node *node);
void sim_revive(sim_node *node, int64_t (*step)(void *user), void *user);
/* Runs until the time is reached or *stop. */
void sim_run(sim *world, int64_t until, const bool *stop);

#endif
