/*
 * crew.h - the attention side of the corridor: the workers it knows (peers), the tickets that are open, and the flights that carry their units to workers.
 *
 * A ticket is one submitted micro-batch of one layer. Its units (expert slots, shared expert, dense FFN of each row) are spread over flights; a flight is one message
 * to one worker. When a worker is lost its flights die and their units fly again, with whom the placement chooses, under a new epoch. A late flight is doubled to
 * somebody else; the first answer counts. What holds always:
 *   - a ticket ends exactly once: done, failed or cancelled;   - a unit's value does not depend on who computed it, so neither does the ticket's;
 *   - an answer is used only when epoch, serial, step, layer, micro-batch, part and connection are those of a flight in the air.
 * Everything is a state machine over a transport and its clock; nothing here owns a thread, sleeps or allocates after open.
 */
#ifndef TD_LINK_CREW_H
#define TD_LINK_CREW_H

#include "base/buffer.h"
#include "link/desk.h"
#include "link/link.h"
#include "link/outbox.h"
#include "link/placement.h"
#include "link/session.h"
#include "link/trace.h"
#include "link/transport.h"

enum { TD_FLIGHTS_MAX = 128, TD_ADDRESS_MAX = 256, TD_VISITORS_MAX = 8, TD_LOCAL = TD_PEERS_MAX };
_Static_assert(TD_LOCAL + 1 == TD_COMPUTERS_MAX, "a place for the busy time of each worker and of this process");

typedef struct {
    const td_shape *shape;          /* borrowed */
    const td_kernel *kernel;        /* add and add_scaled are used */
    td_transport *transport;        /* borrowed; its events are taken over */
    td_secret secret;
    td_wire_mode mode;
    const td_compute *local;        /* NULL: no fallback in this process */
    td_trace *trace;                /* may be NULL */
    int rows_max;                   /* per micro-batch */
    bool encrypt;
    size_t frame_bytes_max;         /* 0: 1 MiB */
    /* times in nanoseconds; 0: the default in brackets */
    int64_t silence_min, silence_max;   /* [300 ms, 2 s] a worker that says nothing for 8 round trips, within these bounds, is lost */
    int64_t late_min;                   /* [20 ms] a flight is doubled after 4 times what the fastest worker takes, at least this */
    int64_t patience;                   /* [30 s] how long a ticket waits when nobody has its experts */
    int64_t rebalance_every;            /* [50 ms] one layer each time; < 0: never */
} td_crew_options;

typedef enum { TD_PEER_FREE, TD_PEER_AWAY, TD_PEER_GREETING, TD_PEER_READY, TD_PEER_LEAVING, TD_PEER_REFUSED } td_peer_state;

enum { TD_TRIP_BUCKETS = 14 };
extern const double td_trip_bounds_us[TD_TRIP_BUCKETS];

typedef struct {
    uint64_t trips[TD_TRIP_BUCKETS + 1];          /* answers by their round trip, computing included: at most td_trip_bounds_us; the last one: more */
    double trips_us;                              /* their sum */
    uint64_t messages, bytes_out, bytes_in, rows, lost, bad_frames, late, dropped;
    double out_us, queue_us, compute_us, back_us; /* moving means over answers */
} td_peer_stats;

typedef struct {
    td_peer_state state;
    char address[TD_ADDRESS_MAX], why[256];  /* why: its last trouble */
    int conn;
    td_session session;
    td_hello hello;
    bool known;                              /* hello is from an earlier or the present connection */
    bool leave;                              /* taken off the list when its flights have landed */
    int64_t since, retry_at, backoff;        /* since: of the present state */
    int64_t heard_at, ping_at;
    int64_t offset, best_round;              /* worker clock minus ours, from the shortest round trip */
    double round, base, per_row;             /* moving means, ns: ping round trip; flight time of small flights; further ns per row */
    double clear_out, clear_back;            /* moving means, ns: journeys of messages whose receiver was waiting */
    int64_t shun, shunned_until;             /* it was late: nothing new for it until then, unless nobody else can */
    int in_air;
    uint32_t serial;
    uint64_t asked;                          /* stamp of the last ping */
    td_peer_stats stats;
} td_peer;

typedef enum { TD_FLIGHT_FREE, TD_FLIGHT_READY, TD_FLIGHT_AIR } td_flight_state;

typedef struct {
    td_flight_state state;
    int peer;                  /* or TD_LOCAL */
    uint32_t epoch, serial;
    int rows;
    bool doubled;              /* somebody else has been asked too */
    int64_t look_at, sent_at;  /* look_at: when to look whether it is late */
    size_t answer_bytes;       /* expected, without TD_ANSWER_INFO */
    uint64_t *masks;           /* [rows_max] units of each row */
} td_flight;

typedef enum { TD_TICKET_NONE, TD_TICKET_OPEN, TD_TICKET_DONE, TD_TICKET_FAILED } td_ticket_state;

typedef struct {
    td_ticket_state state;
    td_link_job job;
    int64_t compute_ns, queue_ns, wire_ns; /* of the latest answer */
    int64_t opened_at, stuck_at;   /* stuck_at: since when somebody for its units is missing; 0: nobody is */
    int missing;                   /* units not yet here */
    int uncovered;                 /* units neither here nor in a flight */
    int live;                      /* flights not free */
    uint64_t *here;                /* [rows_max] */
    uint64_t *covered;             /* [rows_max] here or in a flight */
    uint8_t *summed;               /* [rows_max] y already holds the sum */
    float *slots;                  /* [rows_max, top_k + 1, d_model]; the last is the plain unit */
    td_flight flights[TD_FLIGHTS_MAX];
    char why[256];
} td_ticket;

/* Somebody who connected to us: a control client. */
typedef struct { int conn; td_session session; int64_t since; bool used; } td_visitor;

/* Per layer sums over answers, for stats. */
typedef struct { uint64_t answers, bytes_out, bytes_in; double out_us, queue_us, compute_us, back_us; } td_layer_stats;

typedef struct {
    td_crew_options options;
    td_shape shape;
    td_arena arena;
    uint64_t instance;
    uint32_t epoch;
    td_peer peers[TD_PEERS_MAX];
    td_visitor visitors[TD_VISITORS_MAX];
    td_ticket tickets[TD_MICRO_BATCHES_MAX];
    td_placement placement;
    td_placement_view view;
    td_outbox big, small;
    uint8_t *scratch;          /* of frame size, for unsealing */
    td_desk desk;
    td_work local_work;
    uint8_t *local_submit, *local_answer;
    td_layer_stats *layers;    /* [layers] */
    uint64_t *wanted;          /* [rows_max] of the spreading in progress */
    bool in_step, due;         /* due: something happened that the returned time does not know of; step as soon as possible */
    int64_t unseen;            /* set by the caller before transport progress: how long nobody had looked at what arrives */
    size_t row_most;           /* frame bytes that one row can need */
    int ready_flights;         /* flights waiting for a buffer or a place at their worker */
    int64_t last_step, wake;   /* end of the last step; when it wanted the next one */
    int64_t rebalance_at, blind_until;
    td_link_stats stats;
    td_link_times times;
} td_crew;

td_status td_crew_open(const td_crew_options *options, td_crew **out);
void td_crew_close(td_crew *crew);      /* hangs up politely; the transport stays the caller's */

/* Adds a worker to connect to (again and again); drain: no new work, then goodbye. Errors: TD_E_FULL, TD_E_NOT_FOUND, TD_E_INVALID (nobody else has its experts). */
td_status td_crew_add(td_crew *crew, const char *address);
td_status td_crew_drain(td_crew *crew, const char *address);
td_status td_crew_command(td_crew *crew, const char *command); /* "add ADDRESS" | "drain ADDRESS" */

/* TD_E_INVALID: the ticket of that micro-batch is still open, or a job out of range. */
td_status td_crew_submit(td_crew *crew, const td_link_job *job);
/* Timers, resends, sends. may_compute: units for the local fallback are computed now. Call after transport progress; returns when to call again at the latest (also crew->wake),
 * at once when crew->due is set. */
int64_t td_crew_step(td_crew *crew, bool may_compute);
td_ticket_state td_crew_look(const td_crew *crew, int micro_batch);
/* Ends a ticket that is done or failed, or gives an open one up. Failed: TD_E_PEER and the sentence. */
td_status td_crew_finish(td_crew *crew, int micro_batch);

/* First refusal (another model, another secret) among the workers, as an error; TD_OK when there is none. */
td_status td_crew_refusal(const td_crew *crew);
/* Everything can be computed by somebody. Else the error says what nobody has. */
td_status td_crew_covered(const td_crew *crew);
bool td_crew_all_ready(const td_crew *crew);

void td_crew_stats(const td_crew *crew, td_link_stats *out);
void td_crew_json(const td_crew *crew, td_buffer *out);                  /* report.c */
void td_crew_straggler(const td_crew *crew, int *peer, const char **cause, double *factor); /* report.c; *peer -1: none */

/* ---- between the files of the crew ---------------------------------------------------------------------------------------------------- */

int64_t td_crew_now(const td_crew *crew);
void td_crew_due(td_crew *crew);                                         /* a step is wanted from now on, whatever the last one returned */
/* flight.c */
td_status td_tickets_reserve(td_crew *crew);
void td_flights_lose(td_crew *crew, int peer);                           /* the peer's flights die */
void td_flights_answer(td_crew *crew, int peer, const td_frame *frame);
void td_flights_missing(td_crew *crew, int peer, uint64_t ping_stamp);   /* the worker says that it has nothing of ours: what was sent before the ping is lost */
void td_flights_step(td_crew *crew, bool may_compute, int64_t *wake);
/* crew.c */
void td_crew_refresh(td_crew *crew);                                     /* the view: who may get work */
bool td_crew_send(td_crew *crew, int peer, td_outbox *box, uint8_t *room, const td_frame *frame);
bool td_crew_send_plain(td_crew *crew, int conn, const uint8_t *data, size_t bytes); /* frames of the handshake: finished already and not sealed */
/* peer.c */
void td_peer_set(td_crew *crew, td_peer *peer, td_peer_state state);
void td_peer_take(td_crew *crew, int peer, const uint8_t *data, size_t bytes);
void td_peer_tend(td_crew *crew, int peer, int64_t now, int64_t *wake);
void td_peer_lose(td_crew *crew, int peer, bool hang_up, const char *why); /* its open flights die; unless it was told to leave it is tried again */
void td_peer_forget(td_crew *crew, td_peer *peer);                       /* its place is free */
void td_peer_goodbye(td_crew *crew, int peer);
/* visitor.c */
void td_visit_begin(td_crew *crew, int conn, const char *name);
void td_visit_frame(td_crew *crew, td_visitor *visitor, const uint8_t *data, size_t bytes);
void td_visit_end(td_crew *crew, td_visitor *visitor, bool hang_up);
void td_visits_tend(td_crew *crew, int64_t now);

#endif
