/*
 * serve.c - tandem serve MODEL: listens at once, loads the model in a thread (/health says 503 and how far), serves until SIGINT or SIGTERM.
 * The first signal lets running requests finish, the second ends them.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "verbs.h"

typedef struct {
    const char *path;
    td_model_options model;
    td_engine_options engine;
    td_serve_options serve;
    td_server *server;
    td_model *opened_model;
    td_engine *opened_engine;
    td_status status;
    char message[1024];
} run_state;

static td_server *signalled;

static void on_signal(int number)
{
    (void)number;
    if (signalled) td_server_stop(signalled);
}

enum { O_HOST = 256, O_PORT, O_NAME, O_KEYS, O_CORS, O_CERT, O_KEY, O_FFN, O_SECRET, O_WIRE, O_ENCRYPT, O_THREADS, O_PARALLEL, O_QUEUE, O_CONTEXT, O_KV_TOKENS, O_KV_TYPE, O_QUANT, O_CHUNK, O_MICRO,
       O_NO_PREFIX, O_ISA, O_TRACE, O_CONNECTIONS, O_BODY, O_IDLE, O_KEEP_ALIVE, O_TIME, O_DRAIN, O_LOG_PROMPTS, O_LOG_JSON, O_QUIET, O_WAIT, O_HELP };

static const struct option long_options[] = {
    {"host", 1, 0, O_HOST}, {"port", 1, 0, O_PORT}, {"name", 1, 0, O_NAME}, {"alias", 1, 0, O_NAME}, {"api-key-file", 1, 0, O_KEYS}, {"cors", 1, 0, O_CORS}, {"tls-cert", 1, 0, O_CERT},
    {"tls-key", 1, 0, O_KEY}, {"ffn", 1, 0, O_FFN}, {"secret-file", 1, 0, O_SECRET}, {"wire", 1, 0, O_WIRE}, {"encrypt", 0, 0, O_ENCRYPT}, {"threads", 1, 0, O_THREADS},
    {"parallel", 1, 0, O_PARALLEL}, {"queue", 1, 0, O_QUEUE}, {"context", 1, 0, O_CONTEXT}, {"kv-tokens", 1, 0, O_KV_TOKENS}, {"kv-type", 1, 0, O_KV_TYPE}, {"quant", 1, 0, O_QUANT},
    {"prefill-chunk", 1, 0, O_CHUNK}, {"micro-batches", 1, 0, O_MICRO}, {"no-prefix-reuse", 0, 0, O_NO_PREFIX}, {"isa", 1, 0, O_ISA}, {"trace", 1, 0, O_TRACE},
    {"connections", 1, 0, O_CONNECTIONS}, {"body-bytes", 1, 0, O_BODY}, {"idle", 1, 0, O_IDLE}, {"keep-alive", 1, 0, O_KEEP_ALIVE}, {"time-max", 1, 0, O_TIME}, {"drain", 1, 0, O_DRAIN},
    {"wait-for-workers", 1, 0, O_WAIT}, {"log-prompts", 0, 0, O_LOG_PROMPTS}, {"log-json", 0, 0, O_LOG_JSON}, {"quiet", 0, 0, O_QUIET}, {"help", 0, 0, O_HELP}, {0}};

static int usage(FILE *out, int status)
{
    fprintf(out,
            "usage: tandem serve [MODEL] [options]      (no MODEL: the small one that ships with the program)\n\n"
            "  --host ADDRESS        listen here (127.0.0.1)        --port N            (8080; 0: any free one)\n"
            "  --name ID             the model's id for clients     --api-key-file FILE one key a line\n"
            "  --tls-cert FILE --tls-key FILE  PEM                  --cors ORIGIN       '*' or one origin\n"
            "  --ffn HOST:PORT,...   FFN workers                    --secret-file FILE  their shared secret\n"
            "  --wire f32|bf16|fp8   rows to workers                --encrypt           encrypt them\n"
            "  --threads N           arithmetic threads             --quant TYPE        quantise on load\n"
            "  --parallel N          requests in a batch (64)       --queue N           requests waiting (256)\n"
            "  --context N           tokens per request             --kv-tokens N       KV capacity of all requests\n"
            "  --kv-type TYPE        bf16, f32, q8_0                --prefill-chunk N   prompt tokens a step (512)\n"
            "  --micro-batches N     1..4                           --isa NAME          avx512, avx2, ref\n"
            "  --no-prefix-reuse                                    --trace FILE        Perfetto timeline\n"
            "  --connections N       (4096)                         --body-bytes N      largest request (32 MiB)\n"
            "  --idle S              close silent connections (120) --keep-alive S      comment in silent streams (15)\n"
            "  --time-max S          longest generation (3600)      --drain S           for running requests at the end (30)\n"
            "  --wait-for-workers MS when nobody has an expert (30000)\n"
            "  --log-json            one JSON object a line         --log-prompts       write requests to the log\n"
            "  --quiet               warnings and errors only\n");
    return status;
}

/* A whole number within [low, high] or a sentence. */
static bool take_number(const char *name, const char *text, long long low, long long high, long long *out)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    if (*text && !*end && value >= low && value <= high) {
        *out = value;
        return true;
    }
    fprintf(stderr, "tandem serve: --%s: expected %lld to %lld, found '%s'\n", name, low, high, text);
    return false;
}

typedef struct { int option; size_t offset; long long low, high; bool wide; } number_option;
#define NUMBER(option, member, low, high) {option, offsetof(run_state, member), low, high, sizeof(((run_state *)0)->member) == 8}
static const number_option numbers[] = {
    NUMBER(O_THREADS, engine.threads, 1, 256), NUMBER(O_PARALLEL, engine.requests_max, 1, 1024), NUMBER(O_QUEUE, serve.queue_max, 1, 100000), NUMBER(O_CONTEXT, engine.context_max, 1, 1 << 30),
    NUMBER(O_KV_TOKENS, engine.kv_tokens, 1, 1LL << 40), NUMBER(O_CHUNK, engine.prefill_chunk, 1, 1 << 20), NUMBER(O_MICRO, engine.micro_batches, 1, 4), NUMBER(O_CONNECTIONS, serve.connections_max, 1, 1000000),
    NUMBER(O_BODY, serve.body_bytes_max, 1024, 1 << 30), NUMBER(O_IDLE, serve.idle_s, 1, 86400), NUMBER(O_KEEP_ALIVE, serve.keep_alive_s, 1, 86400), NUMBER(O_TIME, serve.request_s_max, 1, 1000000),
    NUMBER(O_DRAIN, serve.drain_s, 1, 86400), NUMBER(O_WAIT, engine.wait_for_workers_ms, 1, 86400000), NUMBER(O_PORT, serve.port, 0, 65535)};

typedef struct { int option; size_t offset; } text_option;
#define TEXT(option, member) {option, offsetof(run_state, member)}
static const text_option texts[] = {TEXT(O_HOST, serve.host), TEXT(O_NAME, serve.model_name), TEXT(O_KEYS, serve.api_key_file), TEXT(O_CORS, serve.cors_origin), TEXT(O_CERT, serve.tls_cert_file),
    TEXT(O_KEY, serve.tls_key_file), TEXT(O_FFN, engine.ffn), TEXT(O_SECRET, engine.secret_file), TEXT(O_WIRE, engine.wire), TEXT(O_KV_TYPE, engine.kv_dtype), TEXT(O_QUANT, model.quant),
    TEXT(O_ISA, engine.isa), TEXT(O_TRACE, engine.trace)};

static bool take_option(run_state *run, int option, int index)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].option == option) {
            long long value;
            if (!take_number(long_options[index].name, optarg, numbers[i].low, numbers[i].high, &value)) return false;
            if (numbers[i].wide) memcpy((char *)run + numbers[i].offset, &value, 8);
            else memcpy((char *)run + numbers[i].offset, &(int){(int)value}, sizeof(int));
            if (option == O_PORT && value == 0) run->serve.port = -1;
            return true;
        }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].option == option) {
            memcpy((char *)run + texts[i].offset, &optarg, sizeof optarg);
            return true;
        }
    switch (option) {
    case O_ENCRYPT: run->engine.encrypt = true; return true;
    case O_NO_PREFIX: run->engine.no_prefix_reuse = true; return true;
    case O_LOG_PROMPTS: run->serve.log_prompts = true; return true;
    case O_LOG_JSON: td_log_json(1); return true;
    case O_QUIET: td_log_level(TD_LOG_WARN); return true;
    default: return false;
    }
}

static void *load(void *arg)
{
    run_state *run = arg;
    run->model.progress = td_server_progress;
    run->model.progress_user = run->server;
    run->model.attention_only = run->engine.ffn != NULL && !run->engine.ffn_fallback;
    run->status = td_model_open(run->path, &run->model, &run->opened_model);
    if (run->status == TD_OK) run->status = td_engine_open(run->opened_model, &run->engine, &run->opened_engine);
    if (run->status == TD_OK) run->status = td_server_attach(run->server, run->opened_engine, run->opened_model);
    if (run->status == TD_OK) {
        td_log(TD_LOG_INFO, "serve", "ready: model %s", td_model_get_info(run->opened_model)->name);
    } else {
        snprintf(run->message, sizeof run->message, "%s", td_error());
        td_server_stop(run->server);
    }
    return NULL;
}

static int serve(run_state *run)
{
    pthread_t loader;
    if (td_server_open(&run->serve, &run->server) < 0) {
        fprintf(stderr, "tandem serve: %s\n", td_error());
        return EXIT_FAILED;
    }
    signalled = run->server;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    fprintf(stderr, "tandem serve: http%s://%s:%d\n", run->serve.tls_cert_file ? "s" : "", run->serve.host ? run->serve.host : "127.0.0.1", td_server_port(run->server));
    if (pthread_create(&loader, NULL, load, run)) {
        fprintf(stderr, "tandem serve: the system refused a thread\n");
        td_server_close(run->server);
        return EXIT_FAILED;
    }
    td_status waited = td_server_wait(run->server);
    pthread_join(loader, NULL);
    signalled = NULL;
    td_server_close(run->server);
    td_engine_close(run->opened_engine);
    td_model_close(run->opened_model);
    if (run->status < 0 && run->status != TD_E_CANCELLED) fprintf(stderr, "tandem serve: %s\n", run->message);
    return (run->status < 0 && run->status != TD_E_CANCELLED) || waited < 0 ? EXIT_FAILED : EXIT_DONE;
}

int verb_serve(int argc, char **argv)
{
    run_state run = {0};
    int option, index = 0;
    td_log_level(TD_LOG_INFO);
    optind = 1;
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == O_HELP) return usage(stdout, EXIT_DONE);
        if (option == '?') return EXIT_USAGE;
        if (!take_option(&run, option, index)) return EXIT_USAGE;
    }
    if (argc - optind > 1) {
        fprintf(stderr, "tandem serve: expected one model, found '%s' and '%s'\n", argv[optind], argv[optind + 1]);
        return EXIT_USAGE;
    }
    if (optind < argc) run.path = argv[optind];
    run.serve.requests_max = run.engine.requests_max;
    run.serve.context_max = run.engine.context_max;
    return serve(&run);
}
