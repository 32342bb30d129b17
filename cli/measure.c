/*
 * measure.c - see measure.h. The engine is the one that serves; a worker is this program itself, started beside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/sort.h"
#include "base/threads.h"
#include "measure.h"
#include "options.h"
#include "verbs.h"

enum { CHUNK_DEFAULT = 512 }; /* prefill_chunk 0 in td_engine_options */

double median(double *values, int count)
{
    td_sort(values, count);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Random prompts, different for every request, so that nothing is reused. */
static void fill_prompt(int32_t *ids, size_t count, int vocab, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)(td_random_at(seed, i) % (uint64_t)vocab);
}

/* What the engine did between two looks at its statistics. */
static void take_work(timing *t, const td_engine_stats *before, const td_engine_stats *after)
{
    t->steps = (double)(after->steps - before->steps);
    for (int i = 0; i < TD_WORK_CLASSES; i++) {
        t->work[i].seconds = after->work[i].seconds - before->work[i].seconds;
        t->work[i].bytes = after->work[i].bytes - before->work[i].bytes;
        t->work[i].flops = after->work[i].flops - before->work[i].flops;
    }
}

int decode_surplus(int batch, int context, int chunk) { return 3 + (int)((long long)batch * (context > 0 ? context : 1) / (chunk > 0 ? chunk : CHUNK_DEFAULT)); }

/* The first request is the first to end: from the moment that the last one has its first token until then all of them decode together, and that is what is timed. So they ask for more tokens
 * than are timed, by the steps that reading all prompts takes. */
timing time_decode(td_engine *engine, int vocab, int batch, int context, int chunk, int tokens, uint64_t seed)
{
    timing result = {0};
    size_t prompt = context > 0 ? (size_t)context : 1;
    int32_t *ids = malloc(prompt * sizeof *ids);
    td_request **requests = calloc((size_t)batch, sizeof *requests);
    td_event event = {0};
    td_engine_stats submitted, before, after;
    int started = 0, count = 0;
    bool fine = ids && requests;
    td_engine_get_stats(engine, &submitted);
    for (; fine && started < batch; started++) {
        fill_prompt(ids, prompt, vocab, seed + (uint64_t)started);
        td_request_options options = {.tokens = ids, .tokens_count = prompt, .max_tokens = tokens + decode_surplus(batch, context, chunk), .ignore_eos = true};
        if (td_request_submit(engine, &options, &requests[started]) < 0) {
            failed();
            fine = false;
            break;
        }
    }
    for (int i = started; fine && i-- > 0;) fine = td_request_next(requests[i], -1, &event) == TD_OK && event.kind == TD_EVENT_TOKEN;
    while (fine && td_request_next(requests[0], 0, &event) == TD_OK && event.kind == TD_EVENT_TOKEN) {} /* what is already there */
    int64_t start = td_now_ns(), last = start;
    td_engine_get_stats(engine, &before);
    while (fine && count <= tokens && td_request_next(requests[0], -1, &event) == TD_OK && event.kind == TD_EVENT_TOKEN) {
        int64_t now = td_now_ns();
        if (count++ == 0) start = now; /* that step was under way when the clock started */
        last = now;
    }
    result.seconds = (double)(last - start) * 1e-9;
    td_engine_get_stats(engine, &after);
    take_work(&result, &before, &after);
    if (fine && count < 2 && event.kind == TD_EVENT_FINISHED && event.finish == TD_FINISH_LENGTH) { /* over before this thread looked: the engine's own clock, reading of the others' prompts included */
        count = (int)event.generated_tokens;
        result.seconds = event.decode_ms * 1e-3;
        take_work(&result, &submitted, &after);
    }
    result.tokens = (long long)batch * (count - 1);
    result.fine = fine && count > 1 && result.seconds > 0;
    if (fine && !result.fine) fprintf(stderr, "tandem: bench: a request ended early: %s\n", event.finish == TD_FINISH_ERROR ? event.message : "context or KV cache too small");
    for (int i = 0; i < started; i++) td_request_free(requests[i]);
    free(requests);
    free(ids);
    return result;
}

timing time_prefill(td_engine *engine, int vocab, int tokens, uint64_t seed)
{
    timing result = {.tokens = tokens};
    int32_t *ids = malloc((size_t)tokens * sizeof *ids);
    td_request *request;
    td_event event = {0};
    td_engine_stats before, after;
    if (!ids) return result;
    fill_prompt(ids, (size_t)tokens, vocab, seed);
    td_request_options options = {.tokens = ids, .tokens_count = (size_t)tokens, .max_tokens = 1, .ignore_eos = true};
    td_engine_get_stats(engine, &before);
    int64_t start = td_now_ns();
    if (td_request_submit(engine, &options, &request) < 0) {
        failed();
    } else {
        result.fine = td_request_next(request, -1, &event) == TD_OK && event.kind == TD_EVENT_TOKEN;
        result.seconds = td_seconds_since(start);
        td_request_free(request);
        do td_engine_get_stats(engine, &after); /* the last step is booked a moment after its token is out */
        while (result.fine && after.prompt_tokens - before.prompt_tokens < (uint64_t)tokens && td_seconds_since(start) < 2 * result.seconds + 0.1);
        take_work(&result, &before, &after);
    }
    free(ids);
    return result;
}

/* ---- this machine ---- */

typedef struct { const char *like; int layers, divide; } shape;
/* Dense with a large head; many small experts; few large ones with one KV head; latent attention; many narrow layers. */
static const shape shapes[] = {{"qwen3-0.6b", 5, 1}, {"qwen3-30b-a3b", 3, 2}, {"step3", 5, 6}, {"deepseek-v3", 6, 8}, {"qwen3-1.7b", 16, 4}};
typedef struct { int batch, context, tokens; } point;
static const point decoded[] = {{1, 128, 16}, {1, 1536, 16}, {2, 128, 12}, {4, 128, 12}, {6, 64, 12}, {8, 32, 10}, {12, 16, 10}, {20, 8, 8}, {40, 8, 8}};
static const int read_prompts[] = {192, 640};
enum { SHAPES = sizeof shapes / sizeof *shapes, DECODED = sizeof decoded / sizeof *decoded, READ = sizeof read_prompts / sizeof *read_prompts };
enum { LAYERS_TIMES_MAX = 4, CONTEXT_MAX = 1536 + 192, REQUESTS_MAX = 40, KV_TOKENS = 16000, PASSES = 3, STEADY_PERCENT = 15 };

typedef struct { int shape, batch, threads; const char *phase, *deployment; double context, rates[PASSES]; } measured;

/* rows: [total], in the same order in every pass. */
typedef struct { measured *rows; const char *dtype, *folder; char paths[SHAPES][512]; int count, total, pass, shape, threads; } run;

static void row(run *r, const char *phase, const char *deployment, int batch, double context, double rate)
{
    measured *m = &r->rows[r->count++];
    m->shape = r->shape, m->batch = batch, m->threads = r->threads, m->phase = phase, m->deployment = deployment, m->context = context, m->rates[r->pass] = rate;
    fprintf(stderr, "\r  pass %d of %d, %3d of %d: %-7s %-9s batch %2d, context %4.0f, %d threads: %10.1f tokens/s   ", r->pass + 1, (int)PASSES, r->count, r->total, phase, deployment, batch, context, r->threads, rate);
}

static bool time_engine(run *r, td_engine *engine, int vocab, const char *deployment)
{
    bool fine = time_prefill(engine, vocab, 64, 1).fine; /* pages are mapped, threads awake */
    for (int i = 0; fine && i < READ; i++) {
        timing t = time_prefill(engine, vocab, read_prompts[i], 100 + (uint64_t)i);
        fine = t.fine;
        if (fine) row(r, "prefill", deployment, 1, read_prompts[i], read_prompts[i] / t.seconds);
    }
    for (int i = 0; fine && i < DECODED; i++) {
        timing t = time_decode(engine, vocab, decoded[i].batch, decoded[i].context, 0, decoded[i].tokens, 1000 * ((uint64_t)i + 1));
        fine = t.fine;
        if (fine) row(r, "decode", deployment, decoded[i].batch, decoded[i].context + decoded[i].tokens / 2.0, (double)t.tokens / t.seconds); /* what bench prints */
    }
    return fine;
}

static bool with_engine(run *r, const td_engine_options *wanted, bool attention_only, const char *deployment)
{
    td_model *model = NULL;
    td_engine *engine = NULL;
    td_model_options open = {.attention_only = attention_only, .layout = "auto"};
    bool fine = td_model_open(r->paths[r->shape], &open, &model) == TD_OK && td_engine_open(model, wanted, &engine) == TD_OK;
    if (!fine) failed();
    else fine = time_engine(r, engine, td_model_get_info(model)->vocab_size, deployment);
    td_engine_close(engine);
    td_model_close(model);
    return fine;
}

/* This program as a worker; returns when it says that it is ready. 0: it did not. */
static pid_t start_worker(const char *model, const char *address, const char *secret, int threads)
{
    char count[16], self[512], byte;
    int ends[2];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0 || pipe(ends) < 0) return 0;
    self[length] = 0;
    snprintf(count, sizeof count, "%d", threads);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(ends[1], 1) < 0) _exit(1);
        close(ends[0]), close(ends[1]);
        execl(self, self, "worker", model, "--listen", address, "--secret-file", secret, "--threads", count, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    bool ready = child > 0 && read(ends[0], &byte, 1) == 1;
    close(ends[0]);
    if (!ready) fprintf(stderr, "tandem plan: the worker at %s did not start\n", address);
    return ready ? child : 0;
}

static bool with_worker(run *r)
{
    char secret[512], address[32];
    snprintf(secret, sizeof secret, "%s/key", r->folder);
    snprintf(address, sizeof address, "127.0.0.1:%d", 20000 + (int)(getpid() + r->pass * r->total + r->count) % 20000);
    mode_t mask = umask(077);
    FILE *f = fopen(secret, "w");
    umask(mask);
    if (!f) return fprintf(stderr, "tandem plan: %s: %s\n", secret, strerror(errno)), false;
    fprintf(f, "%016llx%016llx", (unsigned long long)td_now_ns(), (unsigned long long)td_random_at((uint64_t)getpid(), (uint64_t)td_now_ns())); /* guards a few seconds of random numbers */
    fclose(f);
    pid_t worker = start_worker(r->paths[r->shape], address, secret, r->threads);
    td_engine_options o = {.threads = r->threads, .requests_max = REQUESTS_MAX, .context_max = CONTEXT_MAX, .kv_tokens = KV_TOKENS, .micro_batches = 1, .ffn = address, .secret_file = secret};
    bool fine = worker && with_engine(r, &o, true, "1A1F");
    if (worker) kill(worker, SIGKILL), waitpid(worker, NULL, 0);
    return fine;
}

/* A model that the last cache holds says nothing of those that it does not: layers are added until a token needs more bytes, up to four times as many. */
static bool grown(const char *path, td_synth_options *synth)
{
    td_model_options open = {0};
    td_model *model;
    double wanted = (double)td_uncached_bytes(0);
    if (td_synth(path, synth) < 0 || td_model_open(path, &open, &model) < 0) return false;
    double active = (double)td_model_get_info(model)->active_bytes;
    td_model_close(model);
    if (active >= wanted) return true;
    synth->layers *= (int)fmin(LAYERS_TIMES_MAX, ceil(wanted / active));
    unlink(path);
    return td_synth(path, synth) == TD_OK;
}

static bool synthesise(run *r, int which)
{
    td_synth_options synth = {.like = shapes[which].like, .layers = shapes[which].layers, .scale_divisor = shapes[which].divide, .dtype = r->dtype, .seed = 1};
    snprintf(r->paths[which], sizeof r->paths[which], "%s/%s.gguf", r->folder, shapes[which].like);
    return grown(r->paths[which], &synth) || (failed(), false);
}

static bool time_shape(run *r, int which, int most)
{
    bool fine = true;
    r->shape = which;
    for (int t = 1; fine && t <= most; t = td_more_threads(t, most)) {
        td_engine_options o = {.threads = r->threads = t, .requests_max = REQUESTS_MAX, .context_max = CONTEXT_MAX, .kv_tokens = KV_TOKENS};
        fine = with_engine(r, &o, false, "colocated");
    }
    r->threads = most > 1 ? most / 2 : 1;
    return fine && with_worker(r);
}

/* Everything once, then all of it again, rather than each row several times: what disturbs this machine for a minute or two then disturbs one pass of three, and rows are medians of their passes. */
static bool time_all(run *r, int most)
{
    int ways = 1; /* a worker beside, and all numbers of threads */
    bool fine = true;
    for (int t = 1; t <= most; t = td_more_threads(t, most)) ways++;
    r->total = SHAPES * (DECODED + READ) * ways;
    r->rows = calloc((size_t)r->total, sizeof *r->rows);
    if (!r->rows) return fprintf(stderr, "tandem plan: no memory\n"), false;
    for (int s = 0; fine && s < SHAPES; s++) fine = synthesise(r, s);
    for (r->pass = 0; fine && r->pass < PASSES; r->pass++) {
        r->count = 0;
        for (int s = 0; fine && s < SHAPES; s++) fine = time_shape(r, s, most);
    }
    fprintf(stderr, "\n");
    return fine;
}

static void write_rows(const run *r, const char *curves, FILE *out)
{
    double sum = 0, most = 0;
    fprintf(out, "{\"curves\":%s,\"rows\":[", curves);
    for (int i = 0; i < r->total; i++) {
        measured *m = &r->rows[i];
        double middle = median(m->rates, PASSES), spread = (m->rates[PASSES - 1] - m->rates[0]) / middle;
        fprintf(out, "%s\n{\"model\":\"%s\",\"dtype\":\"%s\",\"phase\":\"%s\",\"deployment\":\"%s\",\"batch\":%d,\"context\":%.1f,\"threads\":%d,\"tokens_per_s\":%.4f}", i ? "," : "", r->paths[m->shape], r->dtype, m->phase,
                m->deployment, m->batch, m->context, m->threads, middle);
        sum += spread;
        most = spread > most ? spread : most;
    }
    fprintf(out, "]}\n");
    double mean = 100 * sum / r->total;
    fprintf(stderr, "the same row measured %d times, minutes apart, lies %.0f %% apart (mean; at most %.0f %%)%s\n", PASSES, mean, 100 * most,
            mean > STEADY_PERCENT ? ": this machine is busy or changes its speed; measure again when it is quiet, predictions cannot be better than this" : "");
}

void remove_folder(char *folder)
{
    char path[512];
    if (!folder) return;
    for (int i = 0; i <= SHAPES; i++) {
        snprintf(path, sizeof path, i < SHAPES ? "%s/%s.gguf" : "%s/%s", folder, i < SHAPES ? shapes[i].like : "key");
        unlink(path);
    }
    rmdir(folder);
    free(folder);
}

int measure_machine(const char *dtype, int threads, char **path, char **folder)
{
    const char *tmp = getenv("TMPDIR");
    char name[256], *curves = NULL;
    snprintf(name, sizeof name, "%s/tandem-plan-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(name)) return fprintf(stderr, "tandem plan: %s: %s\n", name, strerror(errno)), EXIT_FAILED;
    *folder = strdup(name);
    if (!*folder || asprintf(path, "%s/rows.json", name) < 0) return fprintf(stderr, "tandem plan: no memory\n"), EXIT_FAILED;
    FILE *rows = fopen(*path, "w");
    run r = {.dtype = dtype ? dtype : "q8_0", .folder = name};
    if (!rows) return fprintf(stderr, "tandem plan: %s: %s\n", *path, strerror(errno)), EXIT_FAILED;
    fprintf(stderr, "measuring this machine with %s weights, five to fifteen minutes (the larger its caches, the larger the models); nothing else should run\n", r.dtype);
    td_plan_options o = {.weights = dtype, .threads = threads};
    bool fine = td_plan(TD_PLAN_CURVES, &o, &curves) == TD_OK;
    if (!fine) failed();
    fine = fine && time_all(&r, threads > 0 ? threads : td_cores_usable());
    if (fine) write_rows(&r, curves, rows);
    td_free(curves);
    free(r.rows);
    return fclose(rows) == 0 && fine ? EXIT_DONE : EXIT_FAILED;
}
