/*
 * serve.h - the room that speaks HTTP. It knows requests, events and text; no tensors.
 *
 * The life of an exchange (one HTTP request and its answer):
 *
 *   server.c    MHD's one thread: route, key, limits, body          -> jobs.c: a worker thread checks JSON, fields.c fills `ask`, the shape
 *   (chat.c, completions.c, ...) makes prompts, text -> tokens      -> admit.c: one choice an engine request; fair queue in front of the engine
 *   generate.c  MHD's thread again: engine events -> pieces (reasoning, text, tool calls) -> shape: SSE chunks or the whole answer
 *
 * While an exchange waits (for a worker, for events) its connection is suspended; td_exchange_wake resumes it. watch.c looks for clients that left
 * and for streams that were silent for long. Only MHD's thread touches an exchange, except a worker between "job pushed" and "woken".
 */
#ifndef TD_SERVE_SERVE_H
#define TD_SERVE_SERVE_H

#include <pthread.h>
#include <stdatomic.h>

#include <microhttpd.h>

#include "base/arena.h"
#include "serve/body.h"
#include "serve/metrics.h"

enum {
    TD_CHOICES_MAX = 64,          /* completions of one HTTP request: prompts * n */
    TD_SERVE_STOPS_MAX = 16,
    TD_BROKEN_MAX = 4,            /* tokens of one character: it has at most four bytes */
    TD_CALLS_MAX = 64,            /* tool calls of one completion */
    TD_OUT_HIGH_BYTES = 64 << 10, /* a stream's buffer: no more events are taken while it holds so much */
    TD_WORKERS = 2
};

typedef struct td_exchange td_exchange;
typedef struct td_choice td_choice;
typedef struct td_client td_client;

/* What a client asks for, whatever the shape. Filled by the field tables; defaults by the shape before. Pointers lead into the request's JSON. */
typedef struct {
    const char *model, *user, *grammar_kind, *grammar_text, *grammar_param, *reasoning_effort, *reasoning_format, *instructions;
    bool stream, include_usage, return_progress, timings_per_token, echo, logprobs, ignore_eos, return_tokens, parallel_tool_calls, mean_pooling, base64;
    bool add_special, parse_special, with_pieces, add_generation_prompt;
    int64_t max_tokens, max_completion_tokens; /* 0: not given */
    int64_t n, top_k, top_logprobs, penalty_window, seed, time_max_ms, dimensions, thinking_budget;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    bool seed_given, thinking_given, thinking_on, thinking_omitted; /* omitted: its block is empty */
    const char *stops[TD_SERVE_STOPS_MAX];
    int stop_count;
    td_logit_bias *bias; /* arena */
    int bias_count;
    const cJSON *messages, *tools, *tool_choice, *response_format, *template_kwargs, *prompt, *input, *system, *metadata, *tokens;
    const char *content, *forced_tool;
    bool force_tool;               /* tool_choice: required, any, or forced_tool */
    const char *calls_schema;      /* tool_choice auto with a strict function or a format of text: what every call must be; arena */
    const char *calls_mark;        /* tool_choice auto with a format of text: how calls of the model's own begin */
} td_ask;

typedef struct { int32_t *tokens; size_t count; char *text; size_t text_bytes; } td_prompt; /* arena; text only for echo */

typedef struct { td_buffer name, arguments; char id[40]; } td_call;

typedef enum { TD_PIECE_REASONING, TD_PIECE_CONTENT, TD_PIECE_CALL, TD_PIECE_ARGUMENTS } td_piece_kind;

/* A part of an answer as the shapes see it. CALL opens call number `call` (name and id are in choice->calls), ARGUMENTS adds text to it. */
typedef struct { td_piece_kind kind; int call; const char *text; size_t bytes; } td_piece;

/* An error as clients are told it: HTTP's status, OpenAI's "code", one sentence. */
typedef struct { int http; const char *code, *message; } td_fault;

/* How one API writes answers (chat, completions, responses, messages). Every function appends to exchange->out. */
typedef struct {
    const char *name;                                          /* label in metrics and logs */
    const char *id_prefix;                                     /* "chatcmpl-" */
    bool chats;                                                /* text is split into reasoning, content and tool calls */
    bool keeps_text;                                           /* streams need the whole text at the end, too */
    bool anthropic;                                            /* errors in Anthropic's shape */
    td_status (*prepare)(td_exchange *x);                      /* worker thread: fields -> x->prompts, x->choices */
    void (*adjust)(td_choice *c, td_request_options *o);       /* last change of the engine's options; may be NULL */
    void (*open)(td_exchange *x);                              /* stream: before anything else */
    void (*piece)(td_choice *c, const td_piece *piece);        /* stream */
    void (*token)(td_choice *c, const td_event *event);        /* with logprobs, echo or return_tokens: notes a token before its text; may be NULL */
    void (*progress)(td_choice *c, const td_event *event);     /* stream: prompt progress; may be NULL */
    void (*end_choice)(td_choice *c);                          /* stream: finish reason */
    void (*close)(td_exchange *x);                             /* stream: usage, [DONE] */
    void (*fault)(td_exchange *x, const td_fault *fault);      /* stream: an error after the headers */
    void (*whole)(td_exchange *x);                             /* not a stream: the body */
    void (*forget)(td_exchange *x);                            /* frees what shape_state holds; may be NULL */
} td_shape;

/* What the decoding thread writes to or reads while a request lives: it goes with the request, not with the exchange. malloc'd. */
typedef struct {
    double *sum;                   /* [width] embeddings: the last row, or the sum of all */
    int width;
    bool mean;
    int64_t rows;
    void *mask;                    /* constrained sampling: constrain.c */
} td_held;
void td_held_free(td_held *held);

typedef struct td_splitter td_splitter; /* split.c: reasoning and tool calls out of text */

struct td_choice {
    td_exchange *exchange;
    int index;
    const td_prompt *prompt;
    uint64_t seed;
    _Atomic(td_request *) request; /* NULL until admitted */
    atomic_bool failed;            /* submit refused it: status and message are set */
    bool reads_only;               /* no token was asked for: embeddings, scores of a prompt */
    bool finished, counted;        /* counted: it holds one of the engine's places */
    td_finish finish;
    int stop;                      /* which of ask.stops ended it; -1: none of them */
    td_status status;
    char message[512];
    td_splitter *splitter;
    td_buffer content, reasoning;  /* whole answers only */
    td_piece_kind last;            /* what the text came to last */
    td_buffer warning;             /* what a parser could not read */
    td_call *calls;                /* [TD_CALLS_MAX] arena, on first use */
    int call_count;
    td_buffer logprobs;            /* whole answers: entries joined by commas; streams: since the last chunk */
    td_buffer tokens_json;         /* return_tokens */
    td_buffer lp[4];               /* completions: tokens, token_logprobs, top_logprobs, text_offset */
    size_t text_offset;            /* characters before the next token */
    int32_t broken[TD_BROKEN_MAX]; /* the last tokens, while they end inside a character */
    int broken_count;
    size_t text_from;              /* characters before the first of them */
    bool text_begun;               /* the first of them, or the next token, stands inside the text */
    bool wrote_first;              /* completions: the first prompt token is in the arrays */
    int64_t prompt_tokens, cached_tokens, generated_tokens, reasoning_tokens;
    double queue_ms, prompt_ms, decode_ms;
    int64_t queued_ns, admitted_ns, first_ns, last_ns;
    td_held *held;                 /* NULL: none */
    td_client *client;
    td_choice *next;               /* admit.c: the client's waiting list */
    int slot;                      /* -1: none */
};

/* Never freed while the process runs, so that a late notification finds it: see generate.c. */
typedef struct td_wake_slot { pthread_mutex_t lock; td_exchange *exchange; struct td_wake_slot *next; } td_wake_slot;

typedef enum { TD_PHASE_BODY, TD_PHASE_WORK, TD_PHASE_ANSWER, TD_PHASE_GENERATE, TD_PHASE_SENT } td_phase;

typedef struct td_route {
    const char *method, *path;                   /* a path may end with {name}: any text of at least one byte */
    bool open;                                   /* no key needed */
    bool while_loading;
    td_status (*quick)(td_exchange *x);          /* answers in MHD's thread */
    td_status (*work)(td_exchange *x);           /* answers in a worker thread, with the parsed body in x->json */
    const td_shape *shape;                       /* generates */
    const char *type;                            /* content type of the answer; NULL: JSON */
} td_route;

struct td_exchange {
    td_server *server;
    struct MHD_Connection *connection;
    const td_route *route;
    const td_shape *shape;                       /* NULL: not a generation */
    char id[40], client_key[72], peer[64], path_rest[256]; /* path_rest: what stands for {...} in the route */
    int64_t started_ns, created_s;
    td_phase phase;                              /* under wake_lock */
    td_buffer body;
    uint64_t body_bytes;                         /* received; beyond the limit they are not kept */
    cJSON *json, *converted_tools;               /* converted: OpenAI's shape, from messages.c and responses.c */
    td_arena arena;
    td_ask ask;
    td_prompt *prompts;
    int prompt_count;
    td_choice *choices;
    int choice_count, choices_finished;

    int http;                                    /* status of the answer; 0: 200 */
    char code[48], param[96], message[1024], allow[32];
    int retry_after_s;
    td_buffer out;
    size_t out_sent;
    atomic_bool streaming;                       /* the watcher looks at it */
    bool stream_opened, stream_over;
    bool submitted;                              /* its choices are with admit.c */
    void *shape_state;                           /* responses.c, messages.c: arena */

    pthread_mutex_t wake_lock;
    bool ready, suspended;
    td_wake_slot *slot;
    atomic_bool gone, ping, counted;
    atomic_llong last_sent_ns;
    int fd;                                      /* in the watcher's epoll set; -1: not */
    uint64_t watch_number;                       /* of its own, unlike its address: an event of an exchange that is gone must not find another */
    td_exchange *older, *newer;                  /* watcher's list, and jobs */
    td_exchange *job_next;
    const char *log_finish;
};

struct td_client { char key[72]; td_choice *first, *last; int waiting, running; td_client *next; };

typedef struct td_reap { td_request *request; td_held *held; struct td_reap *next; } td_reap;

typedef enum { TD_SERVER_LOADING, TD_SERVER_READY, TD_SERVER_DRAINING, TD_SERVER_ENDING } td_server_phase;

struct td_server {
    td_serve_options options;                    /* defaults filled in; strings in arena */
    td_arena arena;
    struct MHD_Daemon *daemon;
    int listen_fd, port, stop_fd[2];
    _Atomic(td_server_phase) phase;
    atomic_int stops;                            /* calls of td_server_stop */
    td_engine *engine;
    td_model *model;
    const td_model_info *info;
    const char *name;
    int context_max;
    int call_format;                             /* td_call_format of the chat template */
    bool reasons;                                /* the template knows <think> */
    uint8_t *hidden;                             /* one bit a token: split.c */
    int64_t started_ns, started_s;
    char *tls_cert, *tls_key;
    unsigned char (*keys)[32];                   /* BLAKE2b of each key */
    int key_count;

    pthread_mutex_t progress_lock;
    char progress_what[96];
    double progress_share;

    pthread_mutex_t job_lock;                    /* jobs.c */
    pthread_cond_t job_wake;
    td_exchange *job_first, *job_last;
    td_reap *reap_first;
    bool jobs_closing;
    pthread_t workers[TD_WORKERS];
    int worker_count;

    pthread_mutex_t admit_lock;                  /* admit.c */
    td_client *clients;
    int waiting, running;
    td_choice **slots;                           /* [requests_max] */

    pthread_mutex_t watch_lock;                  /* watch.c */
    td_exchange *watched;
    uint64_t watch_count;                        /* exchanges ever watched */
    int epoll_fd;
    pthread_t watcher;
    bool watcher_started;

    td_metrics metrics;
    atomic_int exchanges;                        /* being worked on or generating */
    atomic_int connections;
};

/* ---- errors: one sentence for the client ----------------------------------------------------------------------------------------------- */

/* Sets the answer: HTTP status, OpenAI's "code" and "param" (NULL: none) and the sentence. Returns TD_E_INVALID. */
td_status td_serve_refuse(td_exchange *x, int http, const char *code, const char *param, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The same from this thread's td_error and a status of the engine. */
td_status td_serve_refuse_status(td_exchange *x, td_status status, const char *param);
int td_serve_http_of(td_status status);
td_fault td_serve_fault_of(td_status status, const char *message);
bool td_serve_anthropic(const td_exchange *x); /* answers in Anthropic's shape */
/* Writes the error object (with its shape's look) into out. */
void td_serve_error_body(const td_exchange *x, int http, const char *code, const char *param, const char *message, td_buffer *out);

/* ---- exchange.c ------------------------------------------------------------------------------------------------------------------------- */

td_exchange *td_exchange_open(td_server *server, struct MHD_Connection *connection);
void td_exchange_close(td_exchange *x);
void td_exchange_wake(td_exchange *x);
/* The last thing a worker does with an exchange: the new phase and the wake are one step for MHD's thread. */
void td_exchange_hand_back(td_exchange *x, td_phase phase);
td_phase td_exchange_phase(td_exchange *x);
/* Suspends unless it was woken since `ready` was last cleared. Returns false when there is something to do first. MHD's thread. */
bool td_exchange_sleep(td_exchange *x);
void td_exchange_notify(void *wake_slot); /* td_notify */
td_wake_slot *td_wake_slot_get(td_exchange *x);
void td_wake_slot_put(td_wake_slot *slot);
void td_serve_random_id(char *out, size_t bytes, const char *prefix);

/* ---- fields.c --------------------------------------------------------------------------------------------------------------------------- */

enum { TD_KIND_BOOL = 1, TD_KIND_INT = 2, TD_KIND_NUMBER = 4, TD_KIND_STRING = 8, TD_KIND_ARRAY = 16, TD_KIND_OBJECT = 32 };

typedef struct td_field {
    const char *name;
    unsigned kinds;
    double low, high;     /* numbers: value; strings: characters; arrays: items. 0, 0: any */
    int offset;           /* into td_ask; -1: `take` does all */
    td_status (*take)(td_exchange *x, const struct td_field *field, const cJSON *value); /* further checks; may be NULL */
    const char *help;
    const char *schema;   /* for the description where kinds and range do not say all: shapes.h; may be NULL */
} td_field;

typedef struct { const char *path; const td_field *fields; const char *required[4]; } td_field_table;

extern const td_field_table td_chat_fields, td_completions_fields, td_responses_fields, td_messages_fields, td_count_tokens_fields, td_embeddings_fields, td_tokenize_fields,
    td_detokenize_fields, td_template_fields;
/* Every table, NULL at the end: for the OpenAPI description and its test. */
extern const td_field_table *const td_field_tables[];

/* Reads x->json by the table: unknown, doubled, wrong and missing fields are refused by name. */
td_status td_fields_read(td_exchange *x, const td_field_table *table);
/* For nested objects: refuses members that are not in the NULL-terminated list; `where` is the path for the sentence. null counts as absent. */
td_status td_fields_only(td_exchange *x, const cJSON *object, const char *where, const char *const *names);
const char *td_fields_string(const cJSON *object, const char *name); /* NULL: absent or no string */
/* The member is absent, null, or of one of the kinds; else it is refused by name behind `where`. */
td_status td_fields_kind(td_exchange *x, const cJSON *object, const char *where, const char *name, unsigned kinds);
size_t td_fields_characters(const char *text); /* of valid UTF-8 */

/* ---- chat templates and prompts: prompts.c ------------------------------------------------------------------------------------------------ */

/* OpenAI messages (checked and normalised) -> one prompt in x->prompts. */
td_status td_prompt_from_messages(td_exchange *x, const cJSON *messages, const cJSON *tools);
td_status td_prompt_render(td_exchange *x, const cJSON *messages, const cJSON *tools, bool add_generation_prompt, char **text);
td_status td_prompt_from_text(td_exchange *x, const char *text, size_t bytes, unsigned flags, const char *param, td_prompt *out);
/* The "prompt"/"input" field: a string, strings, token ids, or arrays of ids. */
td_status td_prompts_from_field(td_exchange *x, const cJSON *value, const char *param);
/* Checks messages of the OpenAI shape; *out is a new array in which content is a string. */
td_status td_messages_check(td_exchange *x, const cJSON *messages, cJSON **out);
td_status td_tools_check(td_exchange *x, const cJSON *tools);
/* tools.c: the grammar of one call, for tool_choice required, any or a name; and for calls of the model's own choice when a function is strict. */
td_status td_tools_force(td_exchange *x);
td_status td_tools_hold(td_exchange *x);
/* Adds n choices for each prompt and checks them against the context. */
td_status td_choices_make(td_exchange *x);

/* ---- generation ------------------------------------------------------------------------------------------------------------------------- */

extern const td_shape td_chat_shape, td_completions_shape, td_responses_shape, td_messages_shape, td_embeddings_shape;

void td_choice_options(td_choice *c, td_request_options *o, const char *const *stops);
/* Why a choice ended with an error, as whole answers and streams tell it alike. */
td_fault td_choice_fault(const td_choice *c);
/* Ends a stream with an error. */
void td_generate_fault(td_exchange *x, const td_fault *fault);
void td_fault_event(td_exchange *x, const td_fault *fault); /* how OpenAI's two older shapes tell it */
/* Takes what events there are. MHD's thread. */
void td_generate_pump(td_exchange *x);
void td_generate_abandon(td_exchange *x); /* cancels and hands requests to the reaper */
void td_choice_emit(td_choice *c, td_piece_kind kind, int call, const char *text, size_t bytes);
/* Opens a tool call; returns its number, or -1 when there are too many. */
int td_choice_call(td_choice *c, const char *name, size_t name_bytes);
const char *td_choice_reason(const td_choice *c); /* OpenAI's finish_reason */
void td_generate_usage(const td_exchange *x, td_buffer *out);   /* the object "usage" of chat and completions */
void td_choice_timings(const td_choice *c, td_buffer *out);     /* the object "timings" */
int64_t td_usage_prompt(const td_exchange *x, int64_t *cached);
int64_t td_usage_generated(const td_exchange *x, int64_t *reasoning);
/* The text of one token as it stands inside a text (with its space), special or not, in malloc'd memory (td_free). */
char *td_token_text(const td_server *server, int32_t token, size_t *bytes);
void td_token_bytes(td_buffer *out, const char *text, size_t bytes); /* JSON array of bytes, or null when the token is no whole character */

td_status td_splitter_prepare(td_server *server); /* at attach: call format, special tokens */
td_status td_splitter_open(td_choice *c);
bool td_splitter_thinks(const td_exchange *x, const td_prompt *prompt); /* thinking is split off this request's text */
void td_splitter_put(td_choice *c, const char *text, size_t bytes);
void td_splitter_end(td_choice *c);
void td_splitter_close(td_choice *c);
bool td_splitter_reasons(const td_choice *c); /* the last text was reasoning */
bool td_splitter_in_call(const td_choice *c); /* the text ended before the last call was seen to end */
bool td_splitter_enough(const td_choice *c);  /* parallel_tool_calls is false and a call is complete */

/* constrain.c: what the sampler may not choose */
td_status td_constrain_open(td_choice *c, bool starts_in_reasoning);
void td_constrain_free(void *mask);
bool td_prompt_thinks(const td_prompt *prompt); /* it ends inside <think> */
void td_constrain_adjust(td_choice *c, td_request_options *o);

/* admit.c */
td_status td_admit_queue(td_exchange *x);          /* all choices or none: TD_E_FULL */
void td_admit_pump(td_server *server);
void td_admit_remove(td_exchange *x);              /* its waiting choices */
void td_admit_done(td_choice *c);                  /* its place in the engine is free */
void td_admit_slots_json(td_server *server, td_buffer *out);

/* jobs.c */
td_status td_jobs_open(td_server *server);
bool td_jobs_push(td_server *server, td_exchange *x); /* false: the workers are ending */
void td_jobs_reap(td_server *server, td_request *request, td_held *held);
void td_jobs_close(td_server *server);

/* watch.c */
td_status td_watch_open(td_server *server);
void td_watch_add(td_exchange *x);
void td_watch_remove(td_exchange *x);
void td_watch_end_all(td_server *server);          /* every exchange is told that the server ends */
void td_watch_close(td_server *server);

/* security.c */
td_status td_keys_load(td_server *server, const char *path);
bool td_key_accepted(td_exchange *x);
td_status td_listen(const char *host, int port, int *fd, int *bound_port);

/* http.c */
enum MHD_Result td_on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *data, size_t *bytes, void **state);
void td_on_completed(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code);
void td_on_connection(void *cls, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code);

/* quick answers: native.c, state.c, page.c, openapi.c */
td_status td_answer_health(td_exchange *x);
td_status td_answer_models(td_exchange *x);
td_status td_answer_model(td_exchange *x);
td_status td_answer_metrics(td_exchange *x);
td_status td_answer_props(td_exchange *x);
td_status td_answer_slots(td_exchange *x);
td_status td_answer_state(td_exchange *x);
td_status td_answer_page(td_exchange *x);
td_status td_answer_openapi(td_exchange *x);
td_status td_answer_tokenize(td_exchange *x);
td_status td_answer_detokenize(td_exchange *x);
td_status td_answer_template(td_exchange *x);
td_status td_answer_count_tokens(td_exchange *x);

extern const td_route td_routes[]; /* ends with a NULL path */

#endif
