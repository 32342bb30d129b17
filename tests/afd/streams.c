/*
 * streams.c - many requests at once through an engine whose FFN is elsewhere, for as long as stdin stays open; every text is compared with what one process gives.
 *
 *     afd_streams MODEL WORKERS SECRET STREAMS MICRO_BATCHES TOKENS [control=HOST:PORT] [wire=bf16] [fallback] [encrypt] [wait=MS]
 *
 * First the texts of STREAMS prompts are made with the FFN in this process (in the same wire mode's sense only for f32; for other modes a first round through the
 * workers is the reference). Then the streams run round after round. Says "running", at the end one JSON line. Exit 0: nothing failed, nothing differed.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tandem.h"

enum { STREAMS_MAX = 64, TEXT_MAX = 1 << 16 };

typedef struct { td_request *request; char text[TEXT_MAX]; size_t bytes; } stream;

static stream streams[STREAMS_MAX];
static char *expected[STREAMS_MAX];
static size_t expected_bytes[STREAMS_MAX];
static int count, tokens;
static long done, failed, different, generated;
static int64_t heard_ns, longest_gap_ns; /* when any stream last got a token; the longest time that none did */

static void start(td_engine *engine, int i)
{
    static const char *openings[] = {"Once upon a time", "The little dog", "2+3=", "A girl named Mia", "In the garden", "Tom and his friend", "One day in winter", "The old house"};
    char prompt[128];
    snprintf(prompt, sizeof prompt, "%s %.*s", openings[i % 8], i / 8 * 7, "there was one who had a great secret to tell and nobody to hear it");
    td_request_options options = {.text = prompt, .text_bytes = strlen(prompt), .max_tokens = tokens, .ignore_eos = true};
    streams[i].bytes = 0;
    streams[i].request = NULL;
    if (td_request_submit(engine, &options, &streams[i].request) < 0) {
        fprintf(stderr, "streams: %s\n", td_error());
        failed++;
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void take(stream *s, const td_event *event)
{
    if (s->bytes + event->text_bytes > TEXT_MAX) return;
    memcpy(s->text + s->bytes, event->text, event->text_bytes);
    s->bytes += event->text_bytes;
}

/* One event of one stream, if there is one. True: the request has ended. */
static bool look(int i)
{
    stream *s = &streams[i];
    td_event event;
    if (!s->request || td_request_next(s->request, 0, &event) < 0) return false;
    if (event.text_bytes) take(s, &event);
    if (event.kind == TD_EVENT_TOKEN) {
        int64_t now = now_ns();
        if (heard_ns && now - heard_ns > longest_gap_ns) longest_gap_ns = now - heard_ns;
        heard_ns = now;
        generated++;
    }
    if (event.kind != TD_EVENT_FINISHED) return false;
    done++;
    if (event.finish == TD_FINISH_ERROR || event.finish == TD_FINISH_CANCELLED) {
        failed++;
        fprintf(stderr, "streams: request %d: %s\n", i, event.message ? event.message : "cancelled");
    } else if (expected[i] && (s->bytes != expected_bytes[i] || memcmp(s->text, expected[i], s->bytes) != 0)) {
        different++;
        fprintf(stderr, "streams: request %d differs after %zu bytes\nexpected: %.200s\nfound:    %.*s\n", i, s->bytes, expected[i], (int)(s->bytes < 200 ? s->bytes : 200), s->text);
    }
    td_request_free(s->request);
    s->request = NULL;
    return true;
}

static void keep(int i)
{
    expected[i] = malloc(streams[i].bytes + 1);
    if (!expected[i]) exit(1);
    memcpy(expected[i], streams[i].text, streams[i].bytes);
    expected[i][streams[i].bytes] = 0;
    expected_bytes[i] = streams[i].bytes;
}

/* Every stream once. */
static void one_round(td_engine *engine)
{
    int open = count;
    for (int i = 0; i < count; i++) start(engine, i);
    while (open > 0) {
        for (int i = 0; i < count; i++)
            if (look(i)) {
                keep(i);
                open--;
            }
        usleep(200);
    }
}

static bool stdin_open(void)
{
    struct pollfd fd = {.fd = 0, .events = POLLIN};
    char byte;
    return poll(&fd, 1, 0) == 0 || read(0, &byte, 1) > 0;
}

static td_engine *open_engine(const char *path, td_model **model, td_engine_options *options)
{
    td_model_options how = {.attention_only = options->ffn && !options->ffn_fallback};
    td_engine *engine = NULL;
    if (td_model_open(path, &how, model) < 0 || td_engine_open(*model, options, &engine) < 0) {
        fprintf(stderr, "streams: %s\n", td_error());
        exit(1);
    }
    return engine;
}

int main(int argc, char **argv)
{
    if (argc < 7) return 2;
    td_engine_options local = {.threads = 1, .context_max = 1024, .requests_max = STREAMS_MAX}, options = local;
    td_model *model;
    options.ffn = argv[2];
    options.secret_file = argv[3];
    count = atoi(argv[4]);
    options.micro_batches = atoi(argv[5]);
    tokens = atoi(argv[6]);
    if (count < 1 || count > STREAMS_MAX) return 2;
    for (int i = 7; i < argc; i++) {
        if (!strncmp(argv[i], "control=", 8)) options.control = argv[i] + 8;
        else if (!strncmp(argv[i], "wire=", 5)) options.wire = argv[i] + 5;
        else if (!strncmp(argv[i], "wait=", 5)) options.wait_for_workers_ms = atoi(argv[i] + 5);
        else if (!strncmp(argv[i], "threads=", 8)) options.threads = atoi(argv[i] + 8);
        else if (!strcmp(argv[i], "fallback")) options.ffn_fallback = true;
        else if (!strcmp(argv[i], "encrypt")) options.encrypt = true;
        else return 2;
    }
    if (!options.wire || !strcmp(options.wire, "f32")) {
        td_engine *engine = open_engine(argv[1], &model, &local);
        one_round(engine);
        td_engine_close(engine);
        td_model_close(model);
    }
    td_engine *engine = open_engine(argv[1], &model, &options);
    if (!expected[0]) one_round(engine);
    done = failed = different = generated = 0;
    heard_ns = longest_gap_ns = 0;
    printf("running\n");
    fflush(stdout);
    for (int i = 0; i < count; i++) start(engine, i);
    for (bool more = true; more || failed == 0;) {
        bool open = false;
        more = more && stdin_open();
        for (int i = 0; i < count; i++) {
            if (look(i) && more) start(engine, i);
            open |= streams[i].request != NULL;
        }
        if (!open) break;
        usleep(200);
    }
    char *workers = NULL;
    if (td_engine_workers_json(engine, &workers) < 0) workers = NULL;
    printf("{\"done\":%ld,\"failed\":%ld,\"different\":%ld,\"tokens\":%ld,\"longest_gap_ms\":%.1f,\"workers\":%s}\n", done, failed, different, generated, (double)longest_gap_ns * 1e-6, workers ? workers : "null");
    td_free(workers);
    td_engine_close(engine);
    td_model_close(model);
    for (int i = 0; i < count; i++) free(expected[i]);
    return failed || different || done == 0;
}
