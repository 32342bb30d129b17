/* run.c - tandem run: one prompt in, its completion streamed to stdout; what it took, on stderr. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "options.h"
#include "verbs.h"

enum { PROMPT_BYTES_MAX = 64 << 20, STOPS_MAX = 16, MEASURABLE_MS = 200 };

typedef struct {
    const char *prompt, *prompt_file, *stop;
    bool quiet, verbose, json;
    td_request_options request;
    td_engine_options engine;
    td_model_options model;
    double load_seconds;
} settings;

static td_request *volatile running;

static void on_interrupt(int signal)
{
    (void)signal;
    if (!running) _exit(130);
    running = NULL; /* seen by the loop, which cancels; a second ^C ends at once */
}

/* One honest line: what was reached of what the weights' size and this machine's read bandwidth allow. */
static void report(const settings *s, const td_model *model, td_engine *engine, const td_event *end)
{
    const td_model_info *info = td_model_get_info(model);
    td_engine_stats stats;
    td_engine_get_stats(engine, &stats);
    int64_t decoded = end->generated_tokens > 0 ? end->generated_tokens - 1 : 0; /* the first token came with the prompt */
    double rate = end->decode_ms > 0 ? (double)decoded / end->decode_ms * 1e3 : 0;
    double prompt_rate = end->prompt_ms > 0 ? (double)(end->prompt_tokens - end->cached_tokens) / end->prompt_ms * 1e3 : 0;
    char reached[160] = "", machine[32] = "null";
    td_bandwidth limit;
    if (end->decode_ms >= MEASURABLE_MS && td_measure_bandwidth(engine, &limit) == TD_OK) { /* a shorter run has no rate worth the time and memory of this */
        snprintf(machine, sizeof machine, "%.3f", limit.read_gbs);
        snprintf(reached, sizeof reached, "; weights read at %.2f of %.2f GB/s (%s)", rate * (double)info->active_bytes * 1e-9, limit.read_gbs, limit.from_cache ? "caches: the model fits" : "memory");
    }
    if (s->json) {
        fprintf(stderr, "{\"prompt_tokens\":%lld,\"cached_tokens\":%lld,\"generated_tokens\":%lld,\"prompt_tokens_per_s\":%.3f,\"decode_tokens_per_s\":%.3f,\"weight_gb_per_s\":%.3f,"
                "\"machine_gb_per_s\":%s,\"memory_bytes\":%llu,\"load_s\":%.3f,\"threads\":%d,\"isa\":\"%s\"}\n",
                (long long)end->prompt_tokens, (long long)end->cached_tokens, (long long)end->generated_tokens, prompt_rate, rate, rate * (double)info->active_bytes * 1e-9, machine, peak_memory(),
                s->load_seconds, stats.threads, stats.isa);
        return;
    }
    fprintf(stderr, "\n%s: prompt %lld tokens at %.1f/s, generated %lld at %.1f/s%s; memory %.0f MB; loaded in %.2f s; %d thread%s, %s\n", info->name, (long long)end->prompt_tokens, prompt_rate,
            (long long)end->generated_tokens, rate, reached, (double)peak_memory() * 1e-6, s->load_seconds, stats.threads, stats.threads == 1 ? "" : "s", stats.isa);
}

static int generate(settings *s, const td_model *model, td_engine *engine)
{
    td_request *request;
    if (td_request_submit(engine, &s->request, &request) < 0) return failed();
    running = request;
    signal(SIGINT, on_interrupt);
    td_event event;
    bool cancelled = false, broken_pipe = false;
    do {
        if (td_request_next(request, 100, &event) == TD_E_TIMEOUT) event = (td_event){.kind = TD_EVENT_PROGRESS};
        if (!cancelled && (!running || broken_pipe)) {
            td_request_cancel(request);
            cancelled = true;
        }
        if (event.text_bytes && !broken_pipe) broken_pipe = fwrite(event.text, 1, event.text_bytes, stdout) != event.text_bytes || fflush(stdout) != 0;
    } while (event.kind != TD_EVENT_FINISHED);
    int status = EXIT_DONE;
    if (event.finish == TD_FINISH_ERROR) {
        fprintf(stderr, "\ntandem: %s\n", event.message);
        status = EXIT_FAILED;
    } else if (broken_pipe) {
        status = EXIT_FAILED; /* main says why */
    } else {
        if (isatty(STDOUT_FILENO)) putchar('\n');
        if (!s->quiet) report(s, model, engine, &event);
    }
    if (cancelled && !broken_pipe) status = 130;
    td_request_free(request);
    return status;
}

static int run_with(settings *s, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    if (s->prompt_file && td_file_read(s->prompt_file, PROMPT_BYTES_MAX, &text, &bytes) < 0) return failed();
    s->request.text = s->prompt_file ? text : s->prompt;
    s->request.text_bytes = s->prompt_file ? bytes : strlen(s->prompt);
    follow_engine(&s->model, &s->engine);
    int64_t start = td_now_ns();
    int status = EXIT_FAILED;
    td_model *model = open_model(path, &s->model);
    td_engine *engine = NULL;
    if (model && td_engine_open(model, &s->engine, &engine) < 0) failed();
    if (engine) {
        s->load_seconds = td_seconds_since(start);
        status = generate(s, model, engine);
    }
    td_engine_close(engine);
    td_model_close(model);
    free(text);
    return status;
}

int verb_run(int argc, char **argv)
{
    const char *config = NULL;
    settings s = {.prompt = "Once upon a time", .engine = {.requests_max = 1}};
    const option options[] = {
        {"--prompt", "-p", OPTION_TEXT, &s.prompt, 0, 0, "TEXT", "the prompt (default: \"Once upon a time\")"},
        {"--prompt-file", "-f", OPTION_TEXT, &s.prompt_file, 0, 0, "FILE", "read the prompt from a file (any bytes)"},
        {"--tokens", "-n", OPTION_INT64, &s.request.max_tokens, 0, 1e9, "N", "tokens to generate (0: until the model ends)"},
        {"--temp", NULL, OPTION_FLOAT, &s.request.temperature, 0, 100, "T", "temperature (0: always the most likely token)"},
        {"--top-k", NULL, OPTION_INT, &s.request.top_k, 0, 1e9, "K", "sample among the K most likely (0: off)"},
        {"--top-p", NULL, OPTION_FLOAT, &s.request.top_p, 0, 1, "P", "sample among the most likely that hold P of the mass (0: off)"},
        {"--min-p", NULL, OPTION_FLOAT, &s.request.min_p, 0, 1, "P", "leave out what is less likely than P times the best (0: off)"},
        {"--repeat-penalty", NULL, OPTION_FLOAT, &s.request.repetition_penalty, 0, 100, "R", "divide logits of recent tokens (0 or 1: off)"},
        {"--presence-penalty", NULL, OPTION_FLOAT, &s.request.presence_penalty, -100, 100, "R", "lower logits of tokens generated before"},
        {"--frequency-penalty", NULL, OPTION_FLOAT, &s.request.frequency_penalty, -100, 100, "R", "the same, per occurrence"},
        {"--seed", "-s", OPTION_UINT64, &s.request.seed, 0, 1.9e19, "N", "seed of the sampler: same seed, same text"},
        {"--stop", NULL, OPTION_TEXT, &s.stop, 0, 0, "TEXT", "end before this text"},
        {"--ignore-eos", NULL, OPTION_FLAG, &s.request.ignore_eos, 0, 0, NULL, "go on after the model's end token"},
        {"--special", NULL, OPTION_FLAG, &s.request.keep_special, 0, 0, NULL, "show special tokens in the text"},
        {"--quiet", "-q", OPTION_FLAG, &s.quiet, 0, 0, NULL, "no statistics"},
        {"--json", NULL, OPTION_FLAG, &s.json, 0, 0, NULL, "statistics as JSON"},
        {"--verbose", "-v", OPTION_FLAG, &s.verbose, 0, 0, NULL, "say what is going on"},
        {"--config", NULL, OPTION_TEXT, &config, 0, 0, "FILE", "options from 'tandem plan MODEL --json'; those given here come first"},
        ENGINE_OPTIONS(s.engine, s.model),
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem run [MODEL] [options]", "Streams the completion of a prompt to stdout. MODEL is a Hugging Face folder or a GGUF file; without it, the model that ships with Tandem.",
                      options, arguments, 0, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0 || (status = config_engine(config, &s.engine))) return status;
    if (s.verbose) td_log_level(TD_LOG_INFO);
    if (s.stop) {
        s.request.stop = &s.stop;
        s.request.stop_count = 1;
    }
    return run_with(&s, arguments[0]);
}
