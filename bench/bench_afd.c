/*
 * bench_afd.c - attention and FFN on one core each, against one process with two threads: decoding of the same requests, in one run, taken in turns.
 *
 *   bench_afd MODEL [--batch 16] [--context 0] [--steps 24] [--turns 3] [--delay-us 0,500] [--micro-batches 1,2,3] [--wire f32] [--beside] [--no-local]
 *
 * The worker is a child process on core 1; attention decodes on core 0. With --beside a second worker shares core 0 with attention, and 1A2F rows use both. A one-way delay is added by the
 * shaping layer of the tests (tests/afd/shape.h) in all processes.
 * Per row: tokens/s (median of the turns), its ratio to one process and to the first delay with the same micro-batches, the stage times A, F, B, W of one micro-batch and layer, and the
 * layer time that max(m A, m B, A + F + W) predicts beside the measured one (B: a micro-batch's share of the worker's computing, see engine/pace.h). Requests share their prompt, so its KV pages are read by all.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/afd/shape.h"
#include "base/clock.h"
#include "median.h"
#include "engine/engine.h"

enum { BATCH_MAX = 256, TURNS_MAX = 15, LIST_MAX = 8 };

typedef struct {
    const char *model, *wire, *secret, *address, *beside; /* beside: of the worker beside attention, or NULL */
    int batch, context, steps, turns, delays[LIST_MAX], delay_count, micro[LIST_MAX], micro_count;
    bool local;
} settings;

static __attribute__((noreturn)) void stop(const char *what)
{
    fprintf(stderr, "bench_afd: %s: %s\n", what, td_error());
    exit(1);
}

static void use_core(int core) /* -1: both */
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < 2; i++)
        if (core < 0 || i == core) CPU_SET(i, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- the worker ------------------------------------------------------------------------------------------------------------------------- */

static void tell_parent(void *user)
{
    char byte = 'r';
    if (write(*(int *)user, &byte, 1) != 1) _exit(1);
}

static pid_t start_worker(const settings *s, const char *address, int core)
{
    int ends[2];
    char byte;
    if (pipe(ends) < 0) exit(1);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        use_core(core);
        td_model_options how = {.ffn_only = true};
        td_model *model;
        td_worker_options worker = {.listen = address, .secret_file = s->secret, .threads = 1, .ready = tell_parent, .ready_user = &ends[1]};
        if (td_model_open(s->model, &how, &model) < 0) stop("worker");
        if (td_worker_run(model, &worker) < 0) stop("worker");
        _exit(0);
    }
    if (child < 0 || read(ends[0], &byte, 1) != 1) exit(1);
    return child;
}

/* ---- decoding ----------------------------------------------------------------------------------------------------------------------------- */

/* Seconds per step once every request has its first token. */
static double decode(td_engine *engine, const settings *s, int steps)
{
    static td_request *requests[BATCH_MAX];
    static int32_t prompt[1 << 16];
    td_event event;
    int tokens = s->context + 1, vocab = engine->model->config.vocab;
    for (int b = 0; b < s->batch; b++) {
        for (int i = 0; i < tokens; i++) prompt[i] = (int32_t)((unsigned)(i < s->context / 64 * 64 ? i * 7919 + 13 : i * 31 + b * 104729) % (unsigned)vocab); /* whole pages are shared */
        td_request_options options = {.tokens = prompt, .tokens_count = (size_t)tokens, .max_tokens = steps + 3, .ignore_eos = true};
        if (td_request_submit(engine, &options, &requests[b]) < 0) stop("submit");
    }
    for (int b = 0; b < s->batch; b++)
        for (int t = 0; t < 2; t++)
            if (td_request_next(requests[b], -1, &event) < 0 || event.kind != TD_EVENT_TOKEN) stop("decode");
    int64_t start = td_now_ns();
    for (int t = 0; t < steps; t++) /* the last request of a step is as late as the step */
        if (td_request_next(requests[s->batch - 1], -1, &event) < 0 || event.kind != TD_EVENT_TOKEN) stop("decode");
    double seconds = td_seconds_since(start) / steps;
    for (int b = 0; b < s->batch; b++) {
        do
            if (td_request_next(requests[b], -1, &event) < 0) stop("decode");
        while (event.kind != TD_EVENT_FINISHED);
        if (event.finish == TD_FINISH_ERROR) stop(event.message);
        td_request_free(requests[b]);
    }
    return seconds;
}

/* ffn NULL: everything in this process. */
static td_engine *open_engine(const settings *s, td_model *model, int micro_batches, const char *ffn)
{
    td_engine_options options = {.threads = ffn ? 1 : 2, .requests_max = s->batch, .context_max = s->context + s->steps + 128, .micro_batches = micro_batches, .wire = ffn ? s->wire : NULL,
                                 .kv_tokens = (uint64_t)(s->context + s->batch * (s->steps + 192)), .prefill_chunk = 256, .ffn = ffn, .secret_file = ffn ? s->secret : NULL};
    td_engine *engine;
    use_core(ffn ? 0 : -1);
    if (td_engine_open(model, &options, &engine) < 0) stop("engine");
    use_core(-1);
    return engine;
}

typedef struct { td_engine *engine; bool beside; int m, delay_us; double seconds[TURNS_MAX]; td_pace_row stages; } variant;

static int size_of(int rows)
{
    int size = 0;
    while (rows > 1) rows >>= 1, size++;
    return size;
}

static void measure(variant *v, const settings *s, int turn)
{
    td_shape_weather none = {0};
    *td_shape_now = none;
    if (v->engine->options.ffn) td_shape_now->delay_ns = (int64_t)v->delay_us * 1000;
    td_pace *pace = &v->engine->pace;
    pace->watching = true;
    memset(pace->rows, 0, sizeof pace->rows);
    v->seconds[turn] = decode(v->engine, s, s->steps);
    v->stages = pace->rows[size_of(s->batch)][v->m - 1];
    *td_shape_now = none;
}

static void report(variant *all, int count, const settings *s)
{
    double one = 0, first[2][TD_MICRO_BATCHES_MAX + 1] = {0};
    printf("%-22s %5s %9s %10s %12s %14s | %8s %8s %8s %8s | %10s %10s\n", "deployment", "m", "delay us", "tokens/s", "of 1 process", "of first delay", "A us", "F us", "B us", "W us", "layer us", "predicted");
    for (int i = 0; i < count; i++) {
        variant *v = &all[i];
        double rate = s->batch / median(v->seconds, s->turns);
        if (!v->engine->options.ffn) {
            one = rate;
            printf("%-22s %5d %9s %10.2f\n", "1 process, 2 threads", v->m, "", rate);
            continue;
        }
        if (first[v->beside][v->m] == 0) first[v->beside][v->m] = rate;
        printf("%-22s %5d %9d %10.2f %12.3f %14.3f | %8.0f %8.0f %8.0f %8.0f | %10.0f %10.0f\n", v->beside ? "1A2F, one F beside A" : "1A1F, a core each", v->m, v->delay_us, rate, one > 0 ? rate / one : 0,
               rate / first[v->beside][v->m], v->stages.attention_us, v->stages.ffn_us, v->stages.share_us, v->stages.wire_us, v->stages.layer_us, td_pace_predict(&v->stages, v->m));
    }
}

static void run(const settings *s)
{
    static variant all[1 + 2 * LIST_MAX * LIST_MAX];
    char both[64];
    int count = 0;
    pid_t workers[2] = {start_worker(s, s->address, 1), s->beside ? start_worker(s, s->beside, 0) : 0};
    td_model *whole = NULL, *attention;
    td_model_options half = {.attention_only = true};
    if (s->local && td_model_open(s->model, NULL, &whole) < 0) stop("model");
    if (td_model_open(s->model, &half, &attention) < 0) stop("model");
    if (s->local) all[count++] = (variant){.engine = open_engine(s, whole, 1, NULL), .m = 1};
    snprintf(both, sizeof both, "%s,%s", s->address, s->beside ? s->beside : "");
    for (int beside = 0; beside <= (s->beside != NULL); beside++)
        for (int m = 0; m < s->micro_count; m++) {
            td_engine *apart = open_engine(s, attention, s->micro[m], beside ? both : s->address);
            for (int d = 0; d < s->delay_count; d++) all[count++] = (variant){.engine = apart, .beside = beside, .m = s->micro[m], .delay_us = s->delays[d]};
        }
    for (int i = 0; i < count; i++) decode(all[i].engine, s, 8); /* every page of the weights is there, every mean is warm */
    for (int t = 0; t < s->turns; t++)
        for (int i = 0; i < count; i++) measure(&all[i], s, t);
    printf("%s %s, %d layers, batch %d, context %d, %d steps a turn, median of %d turns, wire %s\n", whole ? whole->info.name : attention->info.name, attention->info.dtype, attention->config.layers, s->batch,
           s->context, s->steps, s->turns, s->wire);
    report(all, count, s);
    for (int i = count; i-- > 0;)
        if (i == 0 || all[i].engine != all[i - 1].engine) td_engine_close(all[i].engine);
    td_model_close(attention);
    td_model_close(whole);
    for (int w = 0; w < 2; w++)
        if (workers[w]) kill(workers[w], SIGTERM), waitpid(workers[w], NULL, 0);
}

static int parse_list(const char *text, int *out)
{
    int count = 0;
    for (char *end; count < LIST_MAX; text = end + 1) {
        out[count++] = (int)strtol(text, &end, 10);
        if (*end != ',') break;
    }
    return count;
}

int main(int argc, char **argv)
{
    char secret[] = "/tmp/bench_afd_XXXXXX", address[32], beside[32];
    settings s = {.wire = "f32", .batch = 16, .steps = 24, .turns = 3, .delay_count = 1, .micro = {1, 2, 3}, .micro_count = 3, .local = true};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') s.model = argv[i];
        else if (!strcmp(argv[i], "--no-local")) s.local = false;
        else if (!strcmp(argv[i], "--beside")) s.beside = beside;
        else if (!strcmp(argv[i], "--batch")) s.batch = atoi(value), i++;
        else if (!strcmp(argv[i], "--context")) s.context = atoi(value), i++;
        else if (!strcmp(argv[i], "--steps")) s.steps = atoi(value), i++;
        else if (!strcmp(argv[i], "--turns")) s.turns = atoi(value), i++;
        else if (!strcmp(argv[i], "--wire")) s.wire = value, i++;
        else if (!strcmp(argv[i], "--delay-us")) s.delay_count = parse_list(value, s.delays), i++;
        else if (!strcmp(argv[i], "--micro-batches")) s.micro_count = parse_list(value, s.micro), i++;
        else s.model = NULL, i = argc;
    }
    if (!s.model || s.batch < 1 || s.batch > BATCH_MAX || s.turns < 1 || s.turns > TURNS_MAX || s.context > 1 << 15) {
        fprintf(stderr, "usage: bench_afd MODEL [--batch N] [--context N] [--steps N] [--turns N] [--delay-us 0,500] [--micro-batches 1,2,3] [--wire TYPE] [--beside] [--no-local]\n");
        return 2;
    }
    td_shape_now = mmap(NULL, sizeof *td_shape_now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = mkstemp(secret);
    if (fd < 0 || write(fd, "a secret of this benchmark, nobody else is here", 47) != 47) return 1;
    close(fd);
    snprintf(address, sizeof address, "127.0.0.1:%d", 20000 + getpid() % 20000);
    snprintf(beside, sizeof beside, "127.0.0.1:%d", 20001 + getpid() % 20000);
    s.secret = secret;
    s.address = address;
    run(&s);
    unlink(secret);
    return 0;
}
