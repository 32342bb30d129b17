/*
 * serve.c - tandem serve MODEL: listens at once, loads the model in a thread (/health says 503 and how far), serves until SIGINT or SIGTERM.
 * The first signal lets running requests finish, the second ends them.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/log.h"
#include "options.h"
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

static void *load(void *arg)
{
    run_state *run = arg;
    run->model.progress = td_server_progress;
    run->model.progress_user = run->server;
    follow_engine(&run->model, &run->engine);
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

/* Large pieces (a grammar's tables are 9 MB a request) come from the system and go back to it when they are freed. Without a fixed limit glibc raises it to what was freed, keeps such pieces
 * among the small ones, and a server's memory climbs with every new coincidence of requests. */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

int verb_serve(int argc, char **argv)
{
    run_state run = {.serve.port = 8080, .model.layout = "auto"};
    bool log_json = false, quiet = false;
    const char *config = NULL;
    td_serve_options *o = &run.serve;
    const option options[] = {
        {"--host", NULL, OPTION_TEXT, &o->host, 0, 0, "ADDRESS", "listen on this address (127.0.0.1)"},
        {"--port", "-p", OPTION_INT, &o->port, 0, 65535, "N", "port (8080; 0: any free one, printed at start)"},
        {"--name", NULL, OPTION_TEXT, &o->model_name, 0, 0, "ID", "the model's id for clients (the model's own name)"},
        {"--api-key-file", NULL, OPTION_TEXT, &o->api_key_file, 0, 0, "FILE", "ask clients for one of these keys, one a line"},
        {"--cors", NULL, OPTION_TEXT, &o->cors_origin, 0, 0, "ORIGIN", "let pages of this origin ('*': of any) use the server"},
        {"--tls-cert", NULL, OPTION_TEXT, &o->tls_cert_file, 0, 0, "FILE", "PEM certificate; with --tls-key"},
        {"--tls-key", NULL, OPTION_TEXT, &o->tls_key_file, 0, 0, "FILE", "PEM private key"},
        {"--parallel", NULL, OPTION_INT, &run.engine.requests_max, 0, 1024, "N", "completions decoded together (0: 64)"},
        {"--queue", NULL, OPTION_INT, &o->queue_max, 0, 100000, "N", "completions waiting; more are answered with 429 (0: 256)"},
        {"--connections", NULL, OPTION_INT, &o->connections_max, 0, 1000000, "N", "open connections (0: 4096)"},
        {"--body-bytes", NULL, OPTION_UINT64, &o->body_bytes_max, 0, 1 << 30, "N", "largest request body (0: 32 MiB)"},
        {"--idle", NULL, OPTION_INT, &o->idle_s, 0, 86400, "S", "close connections that are silent for so long (0: 120)"},
        {"--keep-alive", NULL, OPTION_INT, &o->keep_alive_s, 0, 86400, "S", "a comment in streams that are silent for so long (0: 15)"},
        {"--time-max", NULL, OPTION_INT, &o->request_s_max, 0, 1000000, "S", "longest generation (0: 3600)"},
        {"--drain", NULL, OPTION_INT, &o->drain_s, 0, 86400, "S", "time for running requests after the first signal (0: 30)"},
        {"--log-prompts", NULL, OPTION_FLAG, &o->log_prompts, 0, 0, NULL, "write request bodies to the log"},
        {"--log-json", NULL, OPTION_FLAG, &log_json, 0, 0, NULL, "log one JSON object a line"},
        {"--quiet", "-q", OPTION_FLAG, &quiet, 0, 0, NULL, "log warnings and errors only"},
        {"--config", NULL, OPTION_TEXT, &config, 0, 0, "FILE", "options from 'tandem plan MODEL --json'; those given here come first"},
        ENGINE_OPTIONS(run.engine, run.model),
        {NULL}};
    const option_set set = {.usage = "tandem serve [MODEL] [options]",
                            .about = "Answers OpenAI and Anthropic clients over HTTP; a page with chat and a picture of the machine is at /. Without MODEL: the small one that ships with tandem.",
                            .options = options, .arguments = &run.path, .arguments_min = 0, .arguments_max = 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0 || (status = config_engine(config, &run.engine))) return status;
    td_log_level(quiet ? TD_LOG_WARN : TD_LOG_INFO);
    td_log_json(log_json);
    give_memory_back();
    if (o->port == 0) o->port = -1;
    o->requests_max = run.engine.requests_max;
    o->context_max = run.engine.context_max;
    return serve(&run);
}
