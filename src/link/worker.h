/*
 * worker.h - the FFN side of the corridor: clients (attention instances, control), their submits waiting in places, batches of one layer for the desk, answers.
 *
 * A state machine over a transport, like the crew. Stateless between submits: everything an answer needs is in its submit, so a submit may be repeated, to anyone.
 * Clients never wait for each other: a batch takes what lies there, after a bounded wait for others that are active. Memory is fixed at open: clients_max connections,
 * places decoded submits; whoever has not proven the secret within 3 s is hung up.
 */
#ifndef TD_LINK_WORKER_H
#define TD_LINK_WORKER_H

#include "base/buffer.h"
#include "link/desk.h"
#include "link/outbox.h"
#include "link/session.h"
#include "link/transport.h"

typedef struct {
    const td_shape *shape;         /* borrowed */
    const td_kernel *kernel;
    td_transport *transport;       /* borrowed; its events are taken over */
    td_compute compute;
    td_secret secret;
    bool require_encryption;
    const uint8_t *layers, *experts, *preferred; /* bit sets as in td_hello; copied. NULL: all */
    int clients_max, places;       /* 0: 16, 64 */
    int rows_max;                  /* rows of one batch; 0: 512 */
    size_t frame_bytes_max;        /* 0: 1 MiB */
    int64_t batch_wait;            /* ns that a submit waits for others of its layer; 0: 200 us; < 0: none */
    void (*unlock)(void *user), (*lock)(void *user); /* around the FFN's arithmetic, so that another thread may keep the heartbeats going; NULL: none */
    void *lock_user;
} td_worker_setup;

enum { TD_SERIAL_WINDOW = 256 };

typedef struct {
    bool used, known, leaving;     /* known: said hello */
    int conn, pending;             /* places it occupies */
    uint32_t role;
    char name[128], peer[80];      /* network name; model name it said */
    td_session session;
    int64_t since, heard_at, asked_at;
    uint32_t serial;               /* highest seen */
    uint64_t serials[TD_SERIAL_WINDOW / 64]; /* which of the last ones were seen */
    uint64_t submits, rows, bytes_in, bytes_out, repeated;
} td_client;

typedef enum { TD_PLACE_FREE, TD_PLACE_WAITING, TD_PLACE_COMPUTING } td_place_state;

typedef struct {
    td_place_state state;
    int client, conn;
    td_frame key;                  /* header of the submit */
    int64_t arrived_at, started_at, unseen;
    uint64_t order;
    td_work work;
} td_place;

typedef struct {
    td_worker_setup setup;
    td_hello hello;
    td_arena arena;
    td_client *clients;
    td_place *places;
    td_outbox big, small;
    uint8_t *scratch;
    td_desk desk;
    uint64_t order;
    int waiting;                   /* places waiting */
    bool draining, told;
    int64_t unseen;                /* set by the caller before transport progress: how long nobody had looked at what arrives */
    int64_t drain_at, last_submit;
    uint64_t batches, rows, refused, bad_frames;
    double compute_ms, queue_ms, batch_rows;
} td_worker;

td_status td_worker_open(const td_worker_setup *setup, td_worker **out);
void td_worker_close(td_worker *worker);
/* Timers only: clients that are silent or never said who they are. Safe between unlock and lock. Returns when to call again. */
int64_t td_worker_tend(td_worker *worker);
/* Timers, and at most one batch. Returns when to call again at the latest (now or earlier: at once). */
int64_t td_worker_step(td_worker *worker);
/* No new work is wanted; clients are told. True from td_worker_drained when everything is answered and the goodbye has had time to arrive. */
void td_worker_drain(td_worker *worker);
bool td_worker_drained(const td_worker *worker);
void td_worker_json(const td_worker *worker, td_buffer *out);

#endif
