/* worker.c - tandem worker MODEL --listen HOST:PORT: an FFN worker. Ends in peace on SIGTERM or SIGINT (what is open is answered first), at once on the second. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "options.h"
#include "verbs.h"

static void on_signal(int number)
{
    (void)number;
    td_worker_stop();
}

static void say_ready(void *user)
{
    printf("ready %s\n", (const char *)user);
    fflush(stdout);
}

int verb_worker(int argc, char **argv)
{
    td_worker_options worker = {0};
    td_model_options model = {.ffn_only = true};
    const char *path = NULL, *arguments[1] = {0};
    bool verbose = false, on_demand = false;
    const char *config = NULL;
    const option options[] = {
        {"--listen", "-l", OPTION_TEXT, (void *)&worker.listen, 0, 0, "HOST:PORT", "where attention instances connect to"},
        {"--secret-file", NULL, OPTION_TEXT, (void *)&worker.secret_file, 0, 0, "FILE", "shared secret, the same everywhere (at least 16 bytes)"},
        {"--experts", NULL, OPTION_TEXT, (void *)&model.ffn_experts, 0, 0, "RANGES", "experts to serve, as 0-23,40 (all)"},
        {"--layers", NULL, OPTION_TEXT, (void *)&model.ffn_layers, 0, 0, "RANGES", "layers to serve, as 4-59 (all)"},
        {"--on-demand", NULL, OPTION_FLAG, &on_demand, 0, 0, NULL, "--experts are preferred only: others are read from the file when their worker is lost"},
        {"--threads", "-t", OPTION_INT, &worker.threads, 0, 256, "N", "arithmetic threads (0: one per core)"},
        {"--rows", NULL, OPTION_INT, &worker.rows_max, 0, 16384, "N", "rows computed together (0: 512)"},
        {"--clients", NULL, OPTION_INT, &worker.clients_max, 0, 64, "N", "connections at the same time (0: 16)"},
        {"--batch-wait", NULL, OPTION_INT, &worker.batch_wait_us, -1, 1000000, "US", "microseconds a submit waits for others of its layer (0: 200; -1: none)"},
        {"--encrypt", NULL, OPTION_FLAG, &worker.encrypt, 0, 0, NULL, "turn unencrypted clients away"},
        {"--isa", NULL, OPTION_TEXT, (void *)&worker.isa, 0, 0, "NAME", "use at most this instruction set: ref, avx2, avx512, amx"},
        {"--quant", NULL, OPTION_TEXT, (void *)&model.quant, 0, 0, "TYPE", "quantise weights on load; must be the same everywhere"},
        {"--layout", NULL, OPTION_TEXT, (void *)&model.layout, 0, 0, "HOW", "of integer weights: file (as they lie), packed (laid out anew while loading: a copy, faster), auto (default with --experts or --layers)"},
        {"--config", NULL, OPTION_TEXT, &config, 0, 0, "FILE", "options from 'tandem plan MODEL --json'; those given here come first"},
        {"--verbose", "-v", OPTION_FLAG, &verbose, 0, 0, NULL, "say who comes and goes"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    option_set set = {"tandem worker [MODEL] --listen HOST:PORT --secret-file FILE [options]",
                      "Serves FFN weights to attention instances (tandem run --ffn, tandem serve --ffn). Prints 'ready HOST:PORT' when it does.", options, arguments, 0, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0 || (status = config_worker(config, &worker))) return status;
    if (count > 0) path = arguments[0];
    if (!worker.listen || !worker.secret_file) {
        fprintf(stderr, "tandem worker: expected --listen HOST:PORT and --secret-file FILE; 'head -c 32 /dev/urandom | base64 > key' makes a secret\n");
        return EXIT_USAGE;
    }
    if (verbose) td_log_level(TD_LOG_INFO);
    if (on_demand) {
        worker.preferred_experts = model.ffn_experts;
        model.ffn_experts = NULL;
    }
    if (!model.layout) model.layout = model.ffn_experts || model.ffn_layers ? "auto" : "file"; /* what may never be asked for is not copied */
    td_model *opened = open_model(path, &model);
    if (!opened) return EXIT_FAILED;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    worker.ready = say_ready;
    worker.ready_user = (void *)worker.listen;
    td_status result = td_worker_run(opened, &worker);
    int exit_status = result < 0 ? failed() : EXIT_DONE;
    td_model_close(opened);
    return exit_status;
}
