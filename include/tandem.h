/*
 * tandem.h - decode large mixture-of-experts language models, attention and FFN decoupled.
 *
 * The life of a program:   td_model_open -> td_engine_open -> td_request_submit -> td_request_next (until finished) -> the same in reverse.
 *
 *     A model is a checkpoint mapped into memory, with its tokenizer and chat template. It is read-only and may be shared by engines and threads.
 *     An engine owns the KV cache, a thread pool and one decoding thread. It batches all running requests: their results do not depend on
 *         each other, on the number of threads, or on how the prompt was cut into pieces. The same bytes come out every time.
 *     A request is one prompt and its completion. Its functions may be called from any one thread at a time; different requests from different threads.
 *
 * Ownership: what a function named ..._open or ..._submit gives, you give back with ..._close or ..._free, in reverse order. Strings and arrays that
 *     you pass are copied before the call returns unless a comment says otherwise. What an event points to is valid until the next call on that request.
 * Errors: a function returns TD_OK (0) or a negative td_status; td_error() then holds one sentence (what, where, expected, found) for the calling
 *     thread. Outputs are written only on success. No function ends the process.
 * Options: structs are zero-initialised; zero means the default named beside the field. Later versions add fields at the end.
 * Units are in the names: bytes, _ms, tokens. Token ids are int32_t. Text is UTF-8 with explicit lengths; NUL is an ordinary byte in it.
 */
#ifndef TANDEM_H
#define TANDEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TD_VERSION "0.1.0"

typedef int td_status;
enum {
    TD_OK = 0,
    TD_E_INVALID = -1,     /* an argument, option or field is wrong */
    TD_E_IO = -2,          /* the system refused to read, write or map */
    TD_E_FORMAT = -3,      /* a file or message does not hold what its format promises */
    TD_E_MEMORY = -4,      /* no memory */
    TD_E_UNSUPPORTED = -5, /* valid, but this program does not do it */
    TD_E_NOT_FOUND = -6,   /* no such file, tensor, token, peer */
    TD_E_FULL = -7,        /* a bounded queue or the context is full */
    TD_E_CANCELLED = -8,
    TD_E_TIMEOUT = -9,
    TD_E_PEER = -10,       /* an FFN worker is gone, silent or wrong, and nobody can replace it */
    TD_E_INTERNAL = -11
};

const char *td_version(void);
const char *td_error(void);                   /* this thread's last error sentence; never NULL */
const char *td_status_name(td_status status); /* "ok", "invalid", ... */

/* ---- model ------------------------------------------------------------------------------------------------------------------------- */

typedef struct td_model td_model;

/* Called while long work goes on; done and total in bytes or items. Return false to give up (TD_E_CANCELLED). */
typedef bool (*td_progress)(void *user, const char *what, uint64_t done, uint64_t total);

typedef struct {
    const char *quant;       /* quantise weight matrices on load: "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "bf16", "f16", "f32"; NULL: as published */
    const char *layout;      /* of integer weights. "file" or NULL: used as they lie in the mapped file. "packed": laid out anew for this machine's vectors while loading, which costs a copy
                                in memory and about half a second a GB, and decodes faster. "auto": packed where the kernels gain by it and it fills at most half of memory */
    td_progress progress;    /* may be NULL */
    void *progress_user;
    bool attention_only;     /* do not require or touch FFN weights (they live on workers) */
    const char *ffn_experts; /* worker: experts to load, as "0-23,40"; NULL: all. Only FFN weights are touched when set or ffn_only */
    const char *ffn_layers;  /* worker: layers to load, as "4-59"; NULL: all */
    bool ffn_only;
    int threads;             /* for quantising and laying out; 0: one per core */
} td_model_options;

typedef struct {
    const char *path, *format;      /* "safetensors" or "gguf" */
    const char *family;             /* "step3", "qwen3_moe", ... */
    const char *name;               /* general.name, or the folder's name */
    const char *dtype;              /* the type that most weight bytes have: "bf16", "q4_k", ... */
    int layers, d_model, vocab_size, context_max;
    int experts, experts_per_token; /* 0 when dense */
    uint64_t parameters, weight_bytes, attention_bytes, ffn_bytes;
    uint64_t active_bytes;          /* weight bytes read to decode one token alone */
    uint64_t kv_bytes_per_token;    /* with BF16 KV */
    uint64_t fingerprint;           /* same model, same layout <=> same value */
    bool has_tokenizer, has_chat_template;
    int32_t bos, eos;               /* -1 when there is none */
    const char *chat_template;      /* its source, or NULL */
} td_model_info;

/* Opens a Hugging Face folder or a GGUF file (the first of a split set is enough). NULL or "" opens the model that ships with the program.
 * Errors: TD_E_NOT_FOUND, TD_E_FORMAT, TD_E_UNSUPPORTED (family or tensor type), TD_E_MEMORY, TD_E_CANCELLED. */
td_status td_model_open(const char *path, const td_model_options *options, td_model **out);
void td_model_close(td_model *model); /* after every engine of it; NULL is allowed */
const td_model_info *td_model_get_info(const td_model *model); /* lives as long as the model */

/* ---- text -------------------------------------------------------------------------------------------------------------------------- */

/* Put the model's BOS first (when it wants one); read special tokens written in the text; the ids do not begin a text (td_detokenize): the first keeps its space. */
enum { TD_TOKENIZE_BOS = 1, TD_TOKENIZE_SPECIAL = 2, TD_TOKENIZE_INSIDE = 4 };

/* Writes up to capacity ids and stores the full number in *count (also when it is larger: TD_E_FULL). ids may be NULL with capacity 0 to measure
 * (returns TD_OK then). Text may hold NUL and invalid UTF-8 (encoded byte by byte). */
td_status td_tokenize(const td_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t capacity, size_t *count);

/* Text of the ids; special tokens are left out unless TD_TOKENIZE_SPECIAL. SentencePiece vocabularies put a space before a word, which the beginning of a text
 * loses; with TD_TOKENIZE_INSIDE nothing is lost. *out is malloc'd (free with td_free), NUL-terminated behind *bytes. */
td_status td_detokenize(const td_model *model, const int32_t *ids, size_t count, unsigned flags, char **out, size_t *bytes);

/* Renders the model's chat template. messages_json: an array of {"role","content"} objects as in the OpenAI API. context_json: an object of further
 * variables (tools, enable_thinking, ...) or NULL. *out is malloc'd (td_free). */
td_status td_chat_render(const td_model *model, const char *messages_json, const char *context_json, bool add_generation_prompt, char **out);

void td_free(void *memory);

/* ---- engine ------------------------------------------------------------------------------------------------------------------------ */

typedef struct td_engine td_engine;

enum { TD_CONTEXT_DEFAULT_MAX = 32768 };

typedef struct {
    int threads;            /* arithmetic threads; 0: one per usable core */
    int requests_max;       /* requests decoded together; 0: 64 */
    int queue_max;          /* requests waiting; more are refused with TD_E_FULL; 0: 1024 */
    int context_max;        /* tokens per request; 0: the model's, at most TD_CONTEXT_DEFAULT_MAX */
    uint64_t kv_tokens;     /* KV capacity over all requests, in tokens, its memory taken at once if that is at most a quarter of all; 0: chosen from free memory, at least one
                               full context, taken when written */
    const char *kv_dtype;   /* "bf16" (default), "f32", "q8_0" */
    int prefill_chunk;      /* prompt tokens per step over all requests; 0: 512 */
    int micro_batches;      /* 1..4; 0: 1 with local FFN, chosen from measured stage times with workers */
    bool no_prefix_reuse;
    const char *ffn;        /* "host:port,host:port": FFN workers; NULL: FFN in this process */
    const char *secret_file;/* the workers' shared secret */
    const char *wire;       /* "f32" (exact, default), "bf16", "fp8" */
    const char *trace;      /* write a Perfetto timeline here when the engine closes */
    const char *isa;        /* "amx", "avx512", "avx2", "ref": use at most this; NULL: the best this machine has */
    bool encrypt;           /* encrypt frames to workers */
    int wait_for_workers_ms;/* how long requests wait when nobody has an expert; 0: 30000 */
    bool ffn_fallback;      /* with ffn: the model has its FFN weights here too; what no worker can compute is computed here */
    const char *control;    /* "host:port" where this process takes 'tandem workers' commands; NULL: nowhere */
} td_engine_options;

/* Classes of work in a step. FFN: dense, routed and shared experts; with workers, the time that the engine waits for them. REST: norms, RoPE, sampling, scheduling. */
enum { TD_WORK_PROJECTIONS, TD_WORK_ATTENTION, TD_WORK_FFN, TD_WORK_HEAD, TD_WORK_REST, TD_WORK_CLASSES };
/* Time spent, bytes of weights or KV read, operations done (a multiplication with its addition is two). Bytes and operations follow from shapes; those of workers and of REST are not known: 0. */
typedef struct { double seconds, bytes, flops; } td_work_sum;

typedef struct {
    uint64_t steps, prompt_tokens, cached_tokens, decoded_tokens, requests_finished, requests_refused, preemptions;
    int requests_running, requests_waiting;
    uint64_t kv_pages, kv_pages_used, kv_page_tokens;
    uint64_t weight_bytes, kv_bytes, scratch_bytes; /* the memory table */
    double step_ms_mean;
    td_work_sum work[TD_WORK_CLASSES]; /* of all steps since the engine was opened; their seconds add up to those of the steps */
    int threads, micro_batches;
    const char *isa;
    bool degraded;          /* FFN workers are missing; degraded_reason says which */
    char degraded_reason[256];
} td_engine_stats;

/* Allocates everything that decoding needs and starts the decoding thread. The model must outlive the engine. */
td_status td_engine_open(td_model *model, const td_engine_options *options, td_engine **out);
void td_engine_close(td_engine *engine); /* running requests end with TD_FINISH_CANCELLED; NULL is allowed */
void td_engine_get_stats(td_engine *engine, td_engine_stats *out);
/* How fast this machine can feed the engine's threads with the bytes that one token alone needs: from a buffer of that size (4 to 256 MiB), read the way the kernels read, over 0.1 s
 * (read_gbs, what a token can count on) and in its best millisecond (best_gbs), in GB/s. Takes about 0.2 s; the engine must be idle. */
typedef struct { double read_gbs, best_gbs; bool from_cache; } td_bandwidth;
td_status td_measure_bandwidth(td_engine *engine, td_bandwidth *out);
/* Who serves what, load and round trips, as a JSON object in malloc'd memory (td_free). */
td_status td_engine_workers_json(td_engine *engine, char **out);
/* "add host:port", "drain host:port": change the set of workers while requests run. */
td_status td_engine_workers_change(td_engine *engine, const char *command);

/* ---- hooks: look at and replace activations ---------------------------------------------------------------------------------------- */

typedef enum {
    TD_POINT_EMBED,      /* residual stream after the embedding                [rows, d_model] */
    TD_POINT_ATTN_IN,    /* normalised input of attention                      [rows, d_model] */
    TD_POINT_ATTN_OUT,   /* attention's contribution to the residual stream    [rows, d_model] */
    TD_POINT_RESID_MID,  /* residual stream between attention and FFN          [rows, d_model] */
    TD_POINT_FFN_IN,     /* normalised input of the FFN                        [rows, d_model] */
    TD_POINT_ROUTER,     /* weights of all experts before the choice           [rows, experts], MoE layers only */
    TD_POINT_FFN_OUT,    /* the FFN's contribution to the residual stream      [rows, d_model] */
    TD_POINT_RESID_OUT,  /* residual stream after the layer                    [rows, d_model] */
    TD_POINT_FINAL,      /* after the last norm; layer = number of layers      [rows, d_model] */
    TD_POINT_LOGITS,     /* logits of sampled rows; layer = number of layers   [rows, vocab_size] */
    TD_POINTS
} td_point;

const char *td_point_name(td_point point); /* "embed", "attn_in", ... */

/* Runs on the decoding thread: data is float32 [rows, width], rows at positions position .. position + rows - 1 of this request. It may be changed. */
typedef void (*td_hook)(void *user, td_point point, int layer, int64_t position, int rows, int width, float *data);

/* ---- requests ---------------------------------------------------------------------------------------------------------------------- */

typedef struct td_request td_request;

typedef struct { int32_t token; float bias; } td_logit_bias;
typedef struct { int32_t token; float logprob; } td_logprob;

/* May change one row of logits before the sampler (a grammar sets what is not allowed to -INFINITY). tokens: what was generated so far.
 * Runs on the decoding thread. Return false to end the request (the grammar is complete). */
typedef bool (*td_logits_fn)(void *user, const int32_t *tokens, size_t count, float *logits, int vocab_size);

/* Called from the decoding thread when events became ready; must not block or call into the engine. May come once more just after td_request_free returned: what
 * notify_user points to must outlive the engine. */
typedef void (*td_notify)(void *user);

typedef struct {
    /* prompt: either ids, or text (tokenised with special tokens read and BOS put first) */
    const char *text;
    size_t text_bytes;
    const int32_t *tokens;
    size_t tokens_count;

    int64_t max_tokens;         /* tokens to generate; 0: up to the context's end; -1: none (prefill only) */
    bool ignore_eos;
    const char *const *stop;    /* stop strings; the text ends before the first match */
    size_t stop_count;

    /* sampler chain, in this order; zero switches a stage off; temperature 0 takes the largest logit (lowest id on ties) */
    const td_logit_bias *logit_bias;
    size_t logit_bias_count;
    float repetition_penalty;   /* 1.1 divides positive and multiplies negative logits of tokens seen; 0 or 1: off */
    float presence_penalty, frequency_penalty; /* over generated tokens, as in the OpenAI API */
    int penalty_window;         /* tokens that repetition_penalty looks back over, prompt included; 0: 64; -1: all */
    float temperature;
    int top_k;
    float top_p, min_p;
    uint64_t seed;              /* same seed, same tokens, whatever else runs */

    int logprobs;               /* 0: none; n: the chosen token's and the n-1 best others' (at most 21) */
    bool prompt_logprobs;       /* also for prompt tokens (turns prefix reuse off for this request) */
    bool keep_special;          /* special tokens appear in the text */
    bool want_progress;         /* TD_EVENT_PROGRESS while the prompt is read */
    int64_t time_max_ms;        /* 0: none */

    td_hook hook;
    void *hook_user;
    unsigned hook_points;       /* bit (1 << td_point) */
    int hook_layer_first, hook_layer_last; /* inclusive; 0, 0: all layers */
    td_logits_fn logits_fn;
    void *logits_user;
    td_notify notify;
    void *notify_user;
    const uint8_t *hidden;      /* one bit a token of the vocabulary, lowest first: special tokens that are left out of the text in spite of keep_special. NULL: none. Not copied: must
                                   outlive the request */
} td_request_options;

typedef enum { TD_EVENT_TOKEN, TD_EVENT_PROGRESS, TD_EVENT_FINISHED } td_event_kind;
typedef enum { TD_FINISH_NONE, TD_FINISH_EOS, TD_FINISH_STOP, TD_FINISH_LENGTH, TD_FINISH_CONTEXT, TD_FINISH_CANCELLED, TD_FINISH_TIME, TD_FINISH_ERROR } td_finish;

typedef struct {
    td_event_kind kind;
    const char *text;           /* TOKEN: text that became certain (may be empty, never half a character). FINISHED: what was still held back */
    size_t text_bytes;
    int32_t token;              /* TOKEN */
    bool from_prompt;           /* TOKEN: an echo with its log-probability (prompt_logprobs) */
    float logprob;              /* with logprobs > 0; natural logarithm, before the sampler chain */
    const td_logprob *top;      /* logprobs best tokens, best first */
    int top_count;
    int64_t done, total;        /* PROGRESS: prompt tokens read */
    td_finish finish;           /* FINISHED */
    td_status status;           /* FINISHED with TD_FINISH_ERROR: why; message holds the sentence */
    const char *message;
    int64_t prompt_tokens, cached_tokens, generated_tokens; /* FINISHED; so far in other events */
    double queue_ms, prompt_ms, decode_ms;                  /* FINISHED */
    int stop;                   /* FINISHED with TD_FINISH_STOP: number of the stop string that ended the text, -1 when something else did */
} td_event;

/* Puts a request into the bounded queue. Errors: TD_E_FULL (queue), TD_E_INVALID (options, token ids, prompt empty or longer than the context). */
td_status td_request_submit(td_engine *engine, const td_request_options *options, td_request **out);

/* The next event, in order. timeout_ms 0: only what is ready; -1: waits. TD_E_TIMEOUT when there is none. After TD_EVENT_FINISHED, that event again. */
td_status td_request_next(td_request *request, int timeout_ms, td_event *out);
void td_request_cancel(td_request *request); /* within one step; TD_EVENT_FINISHED still comes */
void td_request_free(td_request *request);   /* cancels when needed; NULL is allowed */

/* Logits of every position of a sequence: float32 [count, vocab_size], row i predicts the token after tokens[i]. Goes through the ordinary scheduler. */
td_status td_engine_logits(td_engine *engine, const int32_t *tokens, size_t count, float *logits);

/* ---- constrained sampling ------------------------------------------------------------------------------------------------------------ */

/* What the text of one request must be. kind: "gbnf" (the start rule is root), "json_schema", "json_object" (any; text is not read), "regex" (matched as a
 * whole). The model must outlive it. Errors: TD_E_INVALID (syntax, with its place), TD_E_UNSUPPORTED (what cannot be enforced, by name), TD_E_MEMORY. */
typedef struct td_constraint td_constraint;
td_status td_constraint_open(td_model *model, const char *kind, const char *text, size_t bytes, td_constraint **out);
/* Before its request: the constraint holds only behind each `mark` of the text, until its own text is complete (one line feed may come first); elsewhere everything is allowed. Marks inside
 * thinking do not count: from the beginning of the text (thinks: it is open already; may_think: when the text begins with <think>) up to </think>. mark: 1 to 31 bytes, copied. */
td_status td_constraint_wait(td_constraint *constraint, const char *mark, bool may_think, bool thinks);
/* A td_logits_fn whose user is the constraint: give both to one request. A grammar that can no longer be followed ends it with TD_FINISH_ERROR and TD_E_UNSUPPORTED. */
bool td_constraint_mask(void *constraint, const int32_t *tokens, size_t count, float *logits, int vocab_size);
void td_constraint_close(td_constraint *constraint); /* after the request; NULL is allowed */

/* ---- serve: HTTP ---------------------------------------------------------------------------------------------------------------------- */

typedef struct td_server td_server;

typedef struct {
    const char *host;          /* address to listen on; NULL: "127.0.0.1" */
    int port;                  /* 0: 8080; -1: any free one (td_server_port tells) */
    const char *model_name;    /* the id that clients see; NULL: the model's own name */
    const char *api_key_file;  /* one key a line; NULL: no key is asked for */
    const char *cors_origin;   /* "*" or one origin; NULL: no CORS headers */
    const char *tls_cert_file, *tls_key_file; /* PEM; both or neither */
    int connections_max;       /* 0: 4096 */
    int requests_max;          /* handed to the engine at a time, as in td_engine_options; 0: 64 */
    int queue_max;             /* completions waiting for that; more are answered with 429; 0: 256 */
    int context_max;           /* as in td_engine_options */
    uint64_t body_bytes_max;   /* 0: 32 MiB */
    int idle_s;                /* a connection that says nothing for so long is closed; 0: 120 */
    int keep_alive_s;          /* a silent stream gets a comment line so often; 0: 15 */
    int request_s_max;         /* generation time of one request; 0: 3600 */
    int drain_s;               /* how long a stopping server lets requests finish; 0: 30 */
    bool log_prompts;          /* write request bodies to the log */
} td_serve_options;

/* Listens and answers /health with 503 until a model is attached. Errors: TD_E_INVALID, TD_E_IO (address in use), TD_E_FORMAT (keys, certificates). */
td_status td_server_open(const td_serve_options *options, td_server **out);
int td_server_port(const td_server *server);
/* A td_progress: /health shows how far loading is. Returns false once the server was told to stop. */
bool td_server_progress(void *server, const char *what, uint64_t done, uint64_t total);
/* From now on requests are answered. Engine and model must outlive the server. Once only. */
td_status td_server_attach(td_server *server, td_engine *engine, td_model *model);
/* Waits until td_server_stop was called and every request ended or was handed back. */
td_status td_server_wait(td_server *server);
/* Lets running requests finish, refuses new ones; a second call ends running ones too. May be called from a signal handler. */
void td_server_stop(td_server *server);
void td_server_close(td_server *server); /* NULL is allowed */

/* ---- FFN workers ------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *listen;            /* "host:port" */
    const char *secret_file;       /* at least 16 bytes, the same for all */
    bool encrypt;                  /* turn unencrypted clients away */
    int threads;                   /* arithmetic threads; 0: one per usable core */
    int rows_max;                  /* rows computed together; 0: 512 */
    int clients_max;               /* connections; 0: 16 */
    int batch_wait_us;             /* how long a submit waits for others of its layer when several instances are active; 0: 200; -1: not at all */
    const char *preferred_experts; /* "0-23": which of the loaded experts it should get first; NULL: all */
    const char *isa;               /* as in td_engine_options */
    void (*ready)(void *user);     /* called when connections are accepted; may be NULL */
    void *ready_user;
} td_worker_options;

/* Serves the FFN weights that the model was opened with, to any number of attention instances, until td_worker_stop. One worker per process. */
td_status td_worker_run(td_model *model, const td_worker_options *options);
/* First call: no new work is taken, what is open is answered, then td_worker_run returns TD_OK. Second call: at once. Safe in a signal handler. */
void td_worker_stop(void);

/* Asks a worker, or a process started with a control address: "stats", "add HOST:PORT", "drain HOST:PORT". *out: a JSON object in malloc'd memory (td_free). */
td_status td_workers_ask(const char *address, const char *secret_file, const char *command, char **out);

/* ---- tools ------------------------------------------------------------------------------------------------------------------------- */

/* Tensor table of a checkpoint, sizes, and which side of the house each tensor belongs to; text or JSON in malloc'd memory (td_free). */
td_status td_inspect(const char *path, bool json, char **out);

typedef struct {
    const char *format;    /* "gguf" or "safetensors"; NULL: by the output's name */
    const char *quant;     /* type of weight matrices; NULL: as they are */
    td_progress progress;
    void *progress_user;
    int threads;
} td_convert_options;
/* Writes a new file, or a new or empty folder; what is there already is never replaced (TD_E_INVALID). After an error nothing is left. */
td_status td_convert(const char *from, const char *to, const td_convert_options *options);

typedef struct {
    const char *like;      /* "step3", "qwen3-30b-a3b", "qwen3-0.6b", "deepseek-v3", "deepseek-v2-lite", "llama3-8b", ... */
    int layers;            /* 0: as published */
    int scale_divisor;     /* divide widths, heads, experts and vocabulary; 0: 1 */
    const char *dtype;     /* "q8_0", ...; NULL: bf16 */
    const char *format;    /* NULL: gguf */
    uint64_t seed;
    td_progress progress;
    void *progress_user;
} td_synth_options;
/* Random weights of sane scale at real or reduced dimensions. */
td_status td_synth(const char *out_path, const td_synth_options *options);

/* What this machine can do and what was chosen, as text or JSON in malloc'd memory (td_free). Takes about a second: it measures. isa: as in td_engine_options; peaks are those of its instructions. */
td_status td_doctor(const char *isa, bool json, char **out);

/* ---- planning ---------------------------------------------------------------------------------------------------------------------- */

typedef enum {
    TD_PLAN_SEARCH,    /* cheapest deployments that meet tpot_ms at context: table, verdict, Pareto front */
    TD_PLAN_PAPER,     /* the published tables of the Step-3 paper recomputed; needs no model */
    TD_PLAN_COST,      /* bytes, FLOPs, roofline and ideal dollars of one token */
    TD_PLAN_SIMULATE,  /* requests replayed in virtual time through deploy, or through the cheapest deployment */
    TD_PLAN_CALIBRATE, /* fits measured rows (from) and writes calibration; see docs/planning.md */
    TD_PLAN_CURVES,    /* times the engine's matrix products at 1 to 512 rows here (weights: the type, default q8_0; threads: at most), as the "curves" of a rows file */
    TD_PLAN_PREDICT,   /* tokens per second of one configuration on the calibrated machine, with its error bar */
    TD_PLAN_MODELS,    /* lists the models known by name */
    TD_PLAN_HARDWARE   /* the hardware table, in the form that hardware_file takes */
} td_plan_task;

typedef struct {
    const char *model;         /* a name, a folder with config.json, a config.json, or a GGUF file */
    const char *hardware;      /* "h800,h20": what may be bought; NULL: the paper's four cards */
    const char *hardware_file; /* lines over the shipped table; NULL: none */
    const char *prices;        /* "h800=1.9,h20=0.7", dollars an hour over the table's; NULL: none */
    double context;            /* tokens of context while decoding, on average; 0: 8192 */
    double tpot_ms;            /* time per output token that must be met; 0: 50 */
    const char *kv, *weights;  /* "fp8" (default), "bf16", "4bit" */
    const char *deploy;        /* one deployment instead of a search: "a=16xh20,f=8xh800,m=3" or "c=32xh800"; NULL: search */
    const char *format;        /* "text" (default), "json", "csv" */
    const char *chart;         /* also draw the Pareto front into this .svg or .png (needs gnuplot); NULL: none */
    bool ideal;                /* hardware at its datasheet, no overheads, instead of the efficiencies measured in the paper */
    int devices_max;           /* 0: 256 */
    double jitter;             /* standard deviation of a stage over its mean; 0: none */
    double straggler;          /* the slowest device takes this many times the normal; 0: 1 */
    double demand;             /* search: tokens per second to serve in all, for copies, devices, dollars a month; 0: not asked */
    const char *loads;         /* file of measured tokens per expert (numbers); NULL: random routing */
    double rate;               /* simulate: requests per second, Poisson; 0: 70 % of what the deployment sustains */
    int64_t requests;          /* simulate; 0: 10000 */
    double prompt, output;     /* simulate: mean tokens (geometric); 0: context and 500 */
    const char *trace;         /* simulate: file of "arrival_seconds prompt_tokens output_tokens" lines instead of Poisson; NULL: none */
    double replicas;           /* simulate: copies of the deployment behind one queue; 0: 1 */
    const char *prefill;       /* simulate: "elsewhere" (default: prompts arrive read), "inline" (by the same devices), or "0.5": by additional devices, half as many */
    uint64_t seed;
    const char *from;          /* calibrate: measured rows, a JSON list */
    const char *calibration;   /* calibrate: file to write; predict: file to read; cost, search, simulate: makes this machine known as hardware "here" */
    int batch, threads;        /* predict */
    double link_us;            /* predict: one-way delay of the link, in microseconds */
    const char *phase;         /* predict: "decode" (default) or "prefill" */
} td_plan_options;

/* Answers as text in malloc'd memory (td_free). One call at a time per process is enough for any use; calls do not share state.
 * Errors: TD_E_NOT_FOUND (model, hardware, file), TD_E_INVALID (options; the sentence names the nearest that would work), TD_E_FORMAT. */
td_status td_plan(td_plan_task task, const td_plan_options *options, char **out);

#ifdef __cplusplus
}
#endif
#endif
