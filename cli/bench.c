/*
 * bench.c - tandem bench: decode and prefill speed at given batches and contexts, through the same engine that serves, beside the machine's limits.
 * What is printed per row: tokens/s, the weight and KV bytes a step must read (computed) over the time it took (measured), and the share of the limit. Below it where
 * the step's time went, by class of work: time measured, bytes and operations counted from the shapes that really ran.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "measure.h"
#include "options.h"
#include "verbs.h"

enum { LIST_MAX = 16, PREFILL_TOKENS = 512, BATCH_MAX = 1024, REPEAT_MAX = 64 };

typedef struct {
    const char *batches, *contexts, *predict;
    int tokens, prefill, repeat;
    bool json;
    float link_us;
    td_engine_options engine;
    td_model_options model;
} settings;

/* read_gbs, best_gbs: of the row, measured between its repetitions. */
typedef struct { double read_gbs, best_gbs, f32_gflops, int8_gops; } limits;

static int parse_list(const char *name, const char *text, long low, long high, int *out)
{
    int count = 0;
    for (const char *at = text; count < LIST_MAX;) {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < low || value > high || (*end && *end != ',')) break;
        out[count++] = (int)value;
        if (!*end) return count;
        at = end + 1;
    }
    fprintf(stderr, "tandem: option %s: expected up to %d whole numbers from %ld to %ld separated by commas, found '%s'\n", name, LIST_MAX, low, high, text);
    return 0;
}

/* The number behind "key": in the doctor's JSON. */
static double json_number(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    return at ? atof(at + strlen(key)) : 0.0;
}

static limits measure_limits(const char *isa)
{
    char *json;
    limits l = {0};
    if (td_doctor(isa, true, &json) < 0) return l;
    l = (limits){json_number(json, "\"read_gb_per_s\":"), json_number(json, "\"read_gb_per_s_best\":"), json_number(json, "\"f32_gflops\":"), json_number(json, "\"int8_gops\":")};
    td_free(json);
    return l;
}

typedef struct { double rate, low, high; } prediction;

/* What the calibration says of a row; rate 0 without --predict. The context grows while tokens are timed: its middle counts. */
static bool predict(const settings *s, const td_model_info *info, const td_engine_stats *stats, const char *phase, int batch, int context, prediction *out)
{
    char deployment[32], *json;
    int workers = s->engine.ffn != NULL;
    *out = (prediction){0};
    if (!s->predict) return true;
    for (const char *at = s->engine.ffn; at && *at; at++) workers += *at == ',';
    snprintf(deployment, sizeof deployment, workers ? "1A%dF" : "colocated", workers);
    bool decode = !strcmp(phase, "decode");
    td_plan_options o = {.model = info->path, .calibration = s->predict, .phase = phase, .weights = info->dtype, .kv = s->engine.kv_dtype, .deploy = deployment, .threads = stats->threads, .link_us = s->link_us,
                         .format = "json", .batch = decode ? batch : 1, .context = decode ? (context > 0 ? context : 1) + s->tokens / 2.0 : batch};
    if (td_plan(TD_PLAN_PREDICT, &o, &json) < 0) return failed(), false;
    *out = (prediction){json_number(json, "\"tokens_per_s\":"), json_number(json, "\"low\":"), json_number(json, "\"high\":")};
    td_free(json);
    return true;
}

/* Products run on the units of the weights' type; attention's are f32. */
static double peak_of(const td_model_info *info, const limits *l, int class)
{
    return info->dtype[0] == 'q' && class != TD_WORK_ATTENTION ? l->int8_gops : l->f32_gflops;
}

static double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

/* Where the time of a row's steps went. */
static void print_work(const settings *s, const td_model_info *info, const limits *l, const timing *t)
{
    static const char *names[TD_WORK_CLASSES] = {"projections", "attention", "ffn", "head", "rest"};
    double all = 0;
    for (int i = 0; i < TD_WORK_CLASSES; i++) all += t->work[i].seconds;
    if (s->json) printf(",\"work\":[");
    for (int i = 0; i < TD_WORK_CLASSES; i++) {
        const td_work_sum *w = &t->work[i];
        double ms = share(w->seconds, t->steps) * 1e3, gbs = share(w->bytes, w->seconds) * 1e-9, gflops = share(w->flops, w->seconds) * 1e-9, peak = peak_of(info, l, i);
        if (s->json) {
            printf("%s{\"class\":\"%s\",\"ms_per_step\":%.5f,\"share\":%.4f,\"bytes_per_step\":%.0f,\"gb_per_s\":%.3f,\"flops_per_step\":%.0f,\"gflop_per_s\":%.2f,\"machine_gflop_per_s\":%.1f}", i ? "," : "", names[i], ms,
                   share(w->seconds, all), share(w->bytes, t->steps), gbs, share(w->flops, t->steps), gflops, peak);
        } else {
            printf("  %-13s %9.3f ms %5.1f %%", names[i], ms, 100 * share(w->seconds, all));
            if (w->bytes > 0) printf(" %11.2f %5.0f %% %11.1f %5.0f %%", gbs, 100 * share(gbs, l->read_gbs), gflops, 100 * share(gflops, peak));
            printf("\n");
        }
    }
    if (s->json) printf("]");
}

/* Text as JSON; names are whatever a file or folder is called. */
static void print_json_text(const char *text)
{
    td_buffer json = {0};
    td_buffer_json(&json, text, strlen(text));
    fputs(td_buffer_status(&json) == TD_OK ? json.data : "null", stdout);
    td_buffer_free(&json);
}

static bool print_row(const settings *s, const td_model_info *info, const td_engine_stats *stats, const limits *l, const char *phase, int batch, int context, double rate, const timing *t, bool *first)
{
    double bytes = 0, flops = 0, steps = !strcmp(phase, "decode") ? rate / batch : rate * share(t->steps, (double)t->tokens); /* a second */
    for (int i = 0; i < TD_WORK_CLASSES; i++) bytes += share(t->work[i].bytes, t->steps), flops += share(t->work[i].flops, t->steps);
    prediction p;
    if (!predict(s, info, stats, phase, batch, context, &p)) return false;
    double peak = peak_of(info, l, TD_WORK_FFN);
    if (s->json) {
        printf("%s\n  {\"model\":", *first ? "[" : ",");
        print_json_text(info->name);
        printf(",\"dtype\":\"%s\",\"phase\":\"%s\",\"batch\":%d,\"context\":%d,\"threads\":%d,\"isa\":\"%s\",\"tokens_per_s\":%.3f,\"bytes_per_step\":%.0f,\"gb_per_s\":%.3f,"
               "\"machine_gb_per_s\":%.3f,\"machine_gb_per_s_best\":%.3f,\"flops_per_step\":%.0f,\"gflop_per_s\":%.2f,\"machine_gflop_per_s\":%.1f",
               info->dtype, phase, batch, context, stats->threads, stats->isa, rate, bytes, bytes * steps * 1e-9, l->read_gbs, l->best_gbs, flops, flops * steps * 1e-9, peak);
        if (s->predict) printf(",\"predicted\":%.3f,\"low\":%.3f,\"high\":%.3f", p.rate, p.low, p.high);
        print_work(s, info, l, t);
        printf("}");
        *first = false;
    } else {
        printf("%-8s %6d %8d %12.2f %9.2f %5.0f %% %11.1f %5.0f %%", phase, batch, context, rate, bytes * steps * 1e-9, 100 * share(bytes * steps * 1e-9, l->read_gbs), flops * steps * 1e-9,
               100 * share(flops * steps * 1e-9, peak));
        if (s->predict) printf(" %12.2f %12.2f .. %-9.2f %+6.1f %%", p.rate, p.low, p.high, 100 * (p.rate / rate - 1));
        printf("\n");
        print_work(s, info, l, t);
    }
    fflush(stdout);
    return true;
}

static int run_table(const settings *s, const td_model *model, td_engine *engine, const int *batches, int batch_count, const int *contexts, int context_count)
{
    const td_model_info *info = td_model_get_info(model);
    limits l = measure_limits(s->engine.isa);
    td_engine_stats stats;
    td_engine_get_stats(engine, &stats);
    bool first = true;
    if (!s->json) {
        printf("%s %s, %s, %d threads; this machine reads %.1f GB/s (%.1f at best), %.0f GFLOP/s f32, %.0f Gop/s int8\n", info->name, info->dtype, stats.isa, stats.threads, l.read_gbs, l.best_gbs, l.f32_gflops, l.int8_gops);
        printf("%-8s %6s %8s %12s %9s %7s %11s %7s%s\n", "phase", "batch", "context", "tokens/s", "GB/s", "of max", "GFLOP/s", "of max", s->predict ? "    predicted   nine of ten within           error" : "");
    }
    for (int i = -1; i < batch_count * context_count; i++) {
        bool prefill = i < 0;
        int batch = prefill ? s->prefill : batches[i % batch_count], context = prefill ? 0 : contexts[i / batch_count];
        double rates[REPEAT_MAX], reads[REPEAT_MAX], best[REPEAT_MAX];
        timing t = {0}; /* the classes of work are of the last repetition */
        for (int r = prefill ? -1 : 0; r < s->repeat; r++) { /* one more before all, to warm up */
            td_bandwidth read = {0};
            if (td_measure_bandwidth(engine, &read) < 0) return failed();
            t = prefill ? time_prefill(engine, info->vocab_size, s->prefill, 77 + (uint64_t)(r + 1))
                        : time_decode(engine, info->vocab_size, batch, context, s->engine.prefill_chunk, s->tokens, 1000u * (uint64_t)(r + 1) + 31u * (uint64_t)(i % batch_count));
            if (!t.fine) return EXIT_FAILED;
            if (r >= 0) rates[r] = (double)t.tokens / t.seconds, reads[r] = read.read_gbs, best[r] = read.best_gbs;
        }
        l.read_gbs = median(reads, s->repeat), l.best_gbs = median(best, s->repeat);
        if (!print_row(s, info, &stats, &l, prefill ? "prefill" : "decode", batch, context, median(rates, s->repeat), &t, &first)) return EXIT_FAILED;
    }
    if (s->json) printf("\n]\n");
    return EXIT_DONE;
}

int verb_bench(int argc, char **argv)
{
    settings s = {.batches = "1", .contexts = "0", .tokens = 32, .prefill = PREFILL_TOKENS, .repeat = 3, .model = {.layout = "auto"}};
    const option options[] = {
        {"--batch", "-b", OPTION_TEXT, &s.batches, 0, 0, "1,4,16", "requests decoded together"},
        {"--context", NULL, OPTION_TEXT, &s.contexts, 0, 0, "0,4096", "tokens already in the context"},
        {"--tokens", "-n", OPTION_INT, &s.tokens, 1, 100000, "N", "tokens to time per request (default 32)"},
        {"--prefill", NULL, OPTION_INT, &s.prefill, 1, 1000000, "N", "prompt tokens to time (default 512)"},
        {"--repeat", "-r", OPTION_INT, &s.repeat, 1, REPEAT_MAX, "N", "runs per row; the median is shown (default 3)"},
        {"--predict", NULL, OPTION_TEXT, &s.predict, 0, 0, "FILE", "the planner's prediction beside each row; FILE: 'tandem plan --calibrate FILE'"},
        {"--link-us", NULL, OPTION_FLOAT, &s.link_us, 0, 1e6, "US", "for --predict with workers: one-way delay of the link (default 0)"},
        {"--json", NULL, OPTION_FLAG, &s.json, 0, 0, NULL, "as JSON"},
        {"--threads", "-t", OPTION_INT, &s.engine.threads, 0, 256, "N", "arithmetic threads (0: one per core)"},
        {"--prefill-chunk", NULL, OPTION_INT, &s.engine.prefill_chunk, 0, 16384, "N", "prompt tokens per step (0: 512)"},
        {"--kv", NULL, OPTION_TEXT, &s.engine.kv_dtype, 0, 0, "TYPE", "type of the KV cache: bf16, f32, q8_0"},
        {"--micro-batches", NULL, OPTION_INT, &s.engine.micro_batches, 0, 4, "M", "micro-batches in flight (0: automatic)"},
        {"--isa", NULL, OPTION_TEXT, &s.engine.isa, 0, 0, "NAME", "use at most this instruction set: ref, avx2, avx512, amx"},
        {"--ffn", NULL, OPTION_TEXT, &s.engine.ffn, 0, 0, "HOST:PORT,...", "FFN workers"},
        {"--secret-file", NULL, OPTION_TEXT, &s.engine.secret_file, 0, 0, "FILE", "shared secret of the workers"},
        {"--wire", NULL, OPTION_TEXT, &s.engine.wire, 0, 0, "TYPE", "rows on the wire to workers: f32, bf16, fp8"},
        {"--quant", NULL, OPTION_TEXT, &s.model.quant, 0, 0, "TYPE", "quantise weights on load"},
        {"--layout", NULL, OPTION_TEXT, &s.model.layout, 0, 0, "HOW", "of integer weights: file (as they lie), packed (laid out anew while loading: a copy, faster), auto (default)"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem bench [MODEL] [options]", "Times prefill and decoding through the engine, and says what share of this machine's limits was reached.", options, arguments, 0, 1};
    int count, status = options_parse(&set, argc, argv, &count), batches[LIST_MAX], contexts[LIST_MAX];
    if (status >= 0) return status;
    int batch_count = parse_list("--batch", s.batches, 1, BATCH_MAX, batches), context_count = parse_list("--context", s.contexts, 0, 1 << 20, contexts);
    if (!batch_count || !context_count) return EXIT_USAGE;
    int batch_most = 1, context_most = s.prefill;
    for (int i = 0; i < batch_count; i++) batch_most = batches[i] > batch_most ? batches[i] : batch_most;
    for (int i = 0; i < context_count; i++) context_most = contexts[i] > context_most ? contexts[i] : context_most;
    int surplus = decode_surplus(batch_most, context_most, s.engine.prefill_chunk);
    s.engine.requests_max = batch_most;
    s.engine.context_max = context_most + s.tokens + 64 + surplus;
    s.engine.kv_tokens = (uint64_t)batch_most * (uint64_t)(context_most + s.tokens + 192 + surplus);
    follow_engine(&s.model, &s.engine);
    td_model *model = open_model(arguments[0], &s.model);
    td_engine *engine = NULL;
    if (model && td_engine_open(model, &s.engine, &engine) < 0) failed();
    status = engine ? run_table(&s, model, engine, batches, batch_count, contexts, context_count) : EXIT_FAILED;
    td_engine_close(engine);
    td_model_close(model);
    return status;
}
