/* plan.c - tandem plan: options in, td_plan out. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"
#include "verbs.h"

static const char help[] =
    "usage: tandem plan MODEL [options]     the cheapest deployments that meet a latency target, and whether disaggregation pays\n"
    "       tandem plan --paper             the Step-3 paper's tables and figures, recomputed beside the printed values\n"
    "       tandem plan MODEL --cost        bytes, FLOPs, roofline and ideal dollars of one token\n"
    "       tandem plan MODEL --simulate    requests in virtual time: latency percentiles, utilisation, where the time goes\n"
    "       tandem plan --calibrate FILE    measure this machine (five to fifteen minutes, nothing else running), fit its step times, keep the fit in FILE\n"
    "       tandem plan --calibrate FILE --from bench.json     the same from rows measured before or elsewhere (docs/planning.md)\n"
    "       tandem plan MODEL --predict --calibration FILE --batch N --context N --threads N\n"
    "       tandem plan --list-models | --list-hardware\n\n"
    "MODEL is a name ('step3', 'deepseek-v3', ...), a folder with config.json, a config.json or a GGUF file.\n\n"
    "  --hardware h800,h20       what may be bought (default: h800,h20,a800,910b)\n"
    "  --hardware-file FILE      lines over the shipped table ('--list-hardware > FILE', edit, pass)\n"
    "  --price h800=1.9,h20=0.7  dollars per device and hour\n"
    "  --context N               tokens of context, on average (default 8192)\n"
    "  --tpot 50ms               time per output token to meet (default 50ms)\n"
    "  --kv fp8|bf16|4bit        precision of the KV cache (default fp8)\n"
    "  --weights fp8|bf16|4bit   precision of weights (default fp8; --calibrate: q8_0; --predict: the dtype of the rows)\n"
    "  --deploy a=16xh20,f=8xh800,m=3     judge this deployment; c=32xh800 is colocated; several sizes a side: a=8xh20+8xh800\n"
    "  --devices-max N           largest deployment to look at (default 256)\n"
    "  --ideal                   datasheet hardware without overheads\n"
    "  --jitter X                standard deviation of a stage over its mean (default 0)\n"
    "  --straggler X             the slowest device takes X times the normal (default 1)\n"
    "  --demand N                tokens per second to serve in all: copies, devices, dollars a month, kilowatts\n"
    "  --loads FILE              measured tokens per expert, instead of random routing\n"
    "  --chart FILE.svg|.png     draw the Pareto front (needs gnuplot)\n"
    "  --json, --csv             machine-readable; serve, run and worker take the JSON of a search or of --deploy with --config\n"
    "  --rate R --requests N --prompt N --output N --trace FILE --replicas N --seed N     for --simulate\n"
    "  --prefill elsewhere|inline|0.5      who reads prompts: others (default), the same devices, or (simulate) additional devices, half as many in whole nodes\n"
    "  --calibration FILE        the fitted machine becomes hardware 'here', for --hardware, --deploy and --price\n"
    "  --batch N --threads N --phase decode|prefill --calibration FILE [--deploy 1A1F --link-us N]     for --predict\n";

typedef enum { TEXT, NUMBER, FLAG, TASK } shape;
typedef struct { const char *name; shape shape; size_t offset; int value; } option;

#define AT(field) offsetof(td_plan_options, field)
static const option options_known[] = {
    {"--hardware", TEXT, AT(hardware), 0}, {"--hardware-file", TEXT, AT(hardware_file), 0}, {"--price", TEXT, AT(prices), 0}, {"--kv", TEXT, AT(kv), 0},
    {"--weights", TEXT, AT(weights), 0}, {"--deploy", TEXT, AT(deploy), 0}, {"--chart", TEXT, AT(chart), 0}, {"--loads", TEXT, AT(loads), 0}, {"--trace", TEXT, AT(trace), 0},
    {"--from", TEXT, AT(from), 0}, {"--calibration", TEXT, AT(calibration), 0}, {"--phase", TEXT, AT(phase), 0}, {"--context", NUMBER, AT(context), 0},
    {"--tpot", NUMBER, AT(tpot_ms), 0}, {"--jitter", NUMBER, AT(jitter), 0}, {"--straggler", NUMBER, AT(straggler), 0}, {"--demand", NUMBER, AT(demand), 0}, {"--link-us", NUMBER, AT(link_us), 0}, {"--rate", NUMBER, AT(rate), 0}, {"--prompt", NUMBER, AT(prompt), 0}, {"--output", NUMBER, AT(output), 0},
    {"--replicas", NUMBER, AT(replicas), 0}, {"--prefill", TEXT, AT(prefill), 0}, {"--devices-max", NUMBER, 0, 'd'}, {"--requests", NUMBER, 0, 'r'},
    {"--seed", NUMBER, 0, 's'}, {"--batch", NUMBER, 0, 'b'}, {"--threads", NUMBER, 0, 't'}, {"--ideal", FLAG, AT(ideal), 0},
    {"--paper", TASK, 0, TD_PLAN_PAPER}, {"--cost", TASK, 0, TD_PLAN_COST}, {"--simulate", TASK, 0, TD_PLAN_SIMULATE}, {"--predict", TASK, 0, TD_PLAN_PREDICT},
    {"--calibrate", TEXT, AT(calibration), TD_PLAN_CALIBRATE}, {"--list-models", TASK, 0, TD_PLAN_MODELS}, {"--list-hardware", TASK, 0, TD_PLAN_HARDWARE},
};

static int wrong(const char *what, const char *found)
{
    fprintf(stderr, "tandem: %s, found '%s'; 'tandem plan --help' lists the options\n", what, found);
    return EXIT_USAGE;
}

/* A number with an optional unit: "50ms", "0.05s", "32K"; milliseconds for --tpot, tokens for the others. */
static int number(const option *o, const char *text, td_plan_options *into)
{
    char *end, expected[80];
    double v = strtod(text, &end);
    if (end != text && !strcmp(o->name, "--tpot")) {
        if (!strcmp(end, "s")) v *= 1000, end++;
        else if (!strcmp(end, "ms")) end += 2;
    } else if (end != text && (*end == 'K' || *end == 'k') && !end[1]) v *= 1024, end++;
    bool zero = strstr("--seed --jitter --link-us", o->name) != NULL; /* elsewhere nothing would be asked for */
    snprintf(expected, sizeof expected, "expected a number %s 0 after %s", zero ? "of at least" : "above", o->name);
    if (end == text || *end || !isfinite(v) || v < 0 || (v == 0 && !zero)) return wrong(expected, text);
    if (o->value && v != floor(v)) return wrong("expected a whole number", text);
    if (o->value && v > 2e9) return wrong("expected a number of at most 2000000000", text);
    switch (o->value) {
    case 'd': into->devices_max = (int)v; break;
    case 'r': into->requests = (int64_t)v; break;
    case 's': into->seed = (uint64_t)v; break;
    case 'b': into->batch = (int)v; break;
    case 't': into->threads = (int)v; break;
    default: *(double *)((char *)into + o->offset) = v;
    }
    return EXIT_DONE;
}

static const option *known(const char *name)
{
    for (size_t i = 0; i < sizeof options_known / sizeof *options_known; i++)
        if (!strcmp(options_known[i].name, name)) return &options_known[i];
    return NULL;
}

static void forget(char *rows, char *folder)
{
    if (rows) unlink(rows);
    free(rows);
    remove_folder(folder);
}

int verb_plan(int argc, char **argv)
{
    td_plan_options into = {.format = "text"};
    td_plan_task task = TD_PLAN_SEARCH;
    if (argc < 2) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return fputs(help, stdout) < 0 ? EXIT_FAILED : EXIT_DONE;
        if (!strcmp(argv[i], "--json") || !strcmp(argv[i], "--csv")) {
            into.format = argv[i] + 2;
            continue;
        }
        const option *o = known(argv[i]);
        if (!o && argv[i][0] == '-') return wrong("expected an option of this verb", argv[i]);
        if (!o) {
            if (into.model) return wrong("expected one model", argv[i]);
            into.model = argv[i];
            continue;
        }
        bool asks = o->shape == TASK || (o->shape == TEXT && o->value);
        if (asks && task != TD_PLAN_SEARCH) return wrong("expected one thing to do (--paper, --cost, --simulate, --predict, --calibrate, --list-...)", argv[i]);
        if (o->shape == FLAG) *(bool *)((char *)&into + o->offset) = true;
        else if (o->shape == TASK) task = (td_plan_task)o->value;
        else if (i + 1 >= argc) return wrong("expected a value after the last option", argv[i]);
        else if (o->shape == TEXT) {
            *(const char **)((char *)&into + o->offset) = argv[++i];
            if (o->value) task = (td_plan_task)o->value;
        } else if (number(o, argv[++i], &into)) return EXIT_USAGE;
    }
    if (into.model && (task == TD_PLAN_PAPER || task == TD_PLAN_MODELS || task == TD_PLAN_HARDWARE || task == TD_PLAN_CALIBRATE)) return wrong("expected no model for what was asked", into.model);
    if (task == TD_PLAN_CALIBRATE && into.from && into.threads) return wrong("expected no --threads beside --from, whose rows say theirs", into.from);
    char *out, *rows = NULL, *folder = NULL;
    if (task == TD_PLAN_CALIBRATE && !into.from) {
        int status = into.calibration[0] ? measure_machine(into.weights, into.threads, &rows, &folder) : EXIT_DONE;
        into.from = rows;
        if (status) return forget(rows, folder), status;
    }
    td_status done = td_plan(task, &into, &out);
    forget(rows, folder);
    if (done < 0) {
        fprintf(stderr, "tandem: %s\n", td_error());
        return EXIT_FAILED;
    }
    fputs(out, stdout);
    td_free(out);
    return EXIT_DONE;
}
