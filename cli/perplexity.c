/* perplexity.c - tandem perplexity: how surprised a model is by a text, in windows of the context. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "options.h"
#include "verbs.h"

enum { FILE_BYTES_MAX = 1 << 30, WINDOW_DEFAULT = 512 };

typedef struct { double nll; long long tokens; } sums;

/* Adds the negative log-likelihood of a window's tokens behind its first. */
static int add_window(td_engine *engine, const int32_t *ids, size_t count, sums *total)
{
    td_request_options options = {.tokens = ids, .tokens_count = count, .max_tokens = -1, .logprobs = 1, .prompt_logprobs = true};
    td_request *request;
    td_event event;
    if (td_request_submit(engine, &options, &request) < 0) return failed();
    while (td_request_next(request, -1, &event) == TD_OK && event.kind != TD_EVENT_FINISHED)
        if (event.kind == TD_EVENT_TOKEN) {
            total->nll -= (double)event.logprob;
            total->tokens++;
        }
    bool error = event.finish == TD_FINISH_ERROR;
    if (error) fprintf(stderr, "tandem: %s\n", event.message);
    td_request_free(request);
    return error ? EXIT_FAILED : EXIT_DONE;
}

static int measure(const td_model *model, td_engine *engine, const char *path, int window, bool json)
{
    char *text;
    size_t bytes, count = 0;
    if (td_file_read(path, FILE_BYTES_MAX, &text, &bytes) < 0) return failed();
    td_status status = td_tokenize(model, text, bytes, TD_TOKENIZE_BOS, NULL, 0, &count);
    int32_t *ids = status == TD_OK ? malloc((count + 1) * sizeof *ids) : NULL;
    if (ids) status = td_tokenize(model, text, bytes, TD_TOKENIZE_BOS, ids, count, &count);
    free(text);
    if (status < 0 || !ids || count < 2) {
        if (status < 0) failed();
        else fprintf(stderr, "tandem: file %s: expected at least 2 tokens, found %zu\n", path, count);
        free(ids);
        return EXIT_FAILED;
    }
    sums total = {0};
    int result = EXIT_DONE;
    int64_t start = td_now_ns();
    for (size_t at = 0; at + 1 < count && result == EXIT_DONE; at += (size_t)window) {
        result = add_window(engine, ids + at, count - at < (size_t)window ? count - at : (size_t)window, &total);
        if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%zu of %zu tokens, perplexity %.4f ", at, count, exp(total.nll / (double)(total.tokens ? total.tokens : 1)));
    }
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%60s\r", "");
    free(ids);
    if (result != EXIT_DONE) return result;
    double mean = total.nll / (double)total.tokens;
    if (json) printf("{\"perplexity\":%.6f,\"nll\":%.8f,\"tokens\":%lld,\"window\":%d,\"seconds\":%.3f}\n", exp(mean), mean, total.tokens, window, td_seconds_since(start));
    else printf("perplexity %.4f (%.5f nats a token, %lld tokens, windows of %d, %.1f s)\n", exp(mean), mean, total.tokens, window, td_seconds_since(start));
    return EXIT_DONE;
}

int verb_perplexity(int argc, char **argv)
{
    td_engine_options engine_options = {.requests_max = 1};
    td_model_options model_options = {.layout = "auto"};
    int window = 0;
    bool json = false;
    const option options[] = {
        {"--window", "-w", OPTION_INT, &window, 0, 16777216, "N", "tokens read together, each window afresh (0: 512)"},
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, NULL, "as JSON"},
        ENGINE_OPTIONS(engine_options, model_options),
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[2] = {NULL, NULL};
    option_set set = {"tandem perplexity MODEL FILE [options]", "Perplexity of a text file under a model. MODEL \"\" is the shipped one.", options, arguments, 2, 2};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    follow_engine(&model_options, &engine_options);
    td_model *model = open_model(arguments[0], &model_options);
    td_engine *engine = NULL;
    if (model && td_engine_open(model, &engine_options, &engine) < 0) failed();
    if (engine) {
        int limit = td_model_get_info(model)->context_max;
        if (window == 0) window = limit < WINDOW_DEFAULT ? limit : WINDOW_DEFAULT;
        if (window == 1) window = 2;
    }
    status = engine ? measure(model, engine, arguments[1], window, json) : EXIT_FAILED;
    td_engine_close(engine);
    td_model_close(model);
    return status;
}
