/* plan.c - td_plan: checks the options, loads what they name, hands over to the file that answers. */
#define _GNU_SOURCE /* strcasestr */
#include "plan/calibrate.h"
#include "plan/search.h"
#include "plan/sim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/threads.h"

#define DEFAULT_HARDWARE "h800,h20,a800,910b"

/* Bytes of one value by name; block formats with their scales. */
static td_status precision_of(const char *word, const char *what, double *bytes)
{
    static const struct { const char *name; double bytes; } known[] = {{"fp8", 1}, {"8bit", 1}, {"bf16", 2}, {"f16", 2}, {"f32", 4}, {"4bit", 0.5625}, {"q8_0", 34 / 32.0}, {"q4_0", 18 / 32.0}, {"q4_k", 144 / 256.0},
        {"q5_k", 176 / 256.0}, {"q6_k", 210 / 256.0}, {"mxfp4", 17 / 32.0}};
    for (size_t i = 0; i < TD_COUNT(known); i++)
        if (!strcmp(word ? word : "fp8", known[i].name)) {
            *bytes = known[i].bytes;
            return TD_OK;
        }
    return td_fail(TD_E_INVALID, "--%s: expected fp8, bf16, f16, f32, 4bit, q8_0, q4_0, q4_k, q5_k, q6_k or mxfp4, found '%s'", what, word);
}

static td_status precision_read(const td_plan_options *o, plan_precision *out)
{
    *out = PLAN_FP8;
    TD_TRY(precision_of(o->kv, "kv", &out->kv_bytes));
    TD_TRY(precision_of(o->weights, "weights", &out->ffn_weight_bytes));
    out->attention_weight_bytes = out->ffn_weight_bytes;
    out->head_weight_bytes = fmin(2, out->ffn_weight_bytes < 1 ? 1 : 2);
    out->attention_bf16 = out->kv_bytes > 1.1;
    out->linear_bf16 = out->ffn_weight_bytes > 1.1;
    return TD_OK;
}

/* "h800=1.9,h20=0.7" over the table. */
static td_status prices_apply(const char *prices, plan_hardware_table *table)
{
    for (const char *at = prices; at && *at;) {
        char name[64], *end;
        size_t length = strcspn(at, "=,");
        const plan_hardware *h;
        if (at[length] != '=' || length >= sizeof name) return td_fail(TD_E_INVALID, "--price: expected 'name=dollars' separated by commas, found '%s'", at);
        memcpy(name, at, length);
        name[length] = 0;
        TD_TRY(plan_hardware_find(table, name, &h));
        double usd = strtod(at + length + 1, &end);
        if (end == at + length + 1 || (*end && *end != ',') || !plan_figure_fits(usd))
            return td_fail(TD_E_INVALID, "--price: expected 0 or %g to %.0f dollars after '%s=', found '%.*s'", PLAN_FIGURE_MIN, PLAN_FIGURE_MAX, name, (int)strcspn(at + length + 1, ","), at + length + 1);
        table->items[h - table->items].usd_hour = usd;
        at = *end ? end + 1 : end;
    }
    return TD_OK;
}

static td_status hardware_list(const char *list, const plan_hardware_table *table, const plan_hardware **out, size_t capacity, size_t *count)
{
    *count = 0;
    for (const char *at = list; *at;) {
        char name[64];
        size_t length = strcspn(at, ",");
        if (length >= sizeof name) return td_fail(TD_E_INVALID, "--hardware: a name of %zu letters", length);
        memcpy(name, at, length);
        name[length] = 0;
        if (*count == capacity) return td_fail(TD_E_INVALID, "--hardware: expected at most %zu names", capacity);
        if (length > 0) TD_TRY(plan_hardware_find(table, name, &out[(*count)++]));
        at += length + (at[length] == ',');
    }
    return *count ? TD_OK : td_fail(TD_E_INVALID, "--hardware: expected names such as 'h800,h20', found none");
}

/* The machine of a calibration as hardware "here": rates from the decode fit at --threads, memory from the system. */
static td_status here_put(const td_plan_options *o, plan_hardware_table *table)
{
    plan_calibration c;
    const plan_fit *f = NULL;
    TD_TRY(plan_calibration_read(o->calibration, &c));
    for (int i = 0; i < c.count; i++)
        if (!strncmp(c.fits[i].key, "decode|", 7) && (!f || c.fits[i].rows > f->rows)) f = &c.fits[i];
    if (!f) return td_fail(TD_E_NOT_FOUND, "file %s: expected measured rows of phase decode, found none", o->calibration);
    double threads = o->threads > 0 ? o->threads : td_cores_usable(), byte = f->c[2] + f->c[3] / threads, flop = f->c[4] + f->c[5] / threads;
    for (int i = 0; i < c.curve_count; i++) { /* one row is bound by bytes, many are bound by arithmetic */
        double stored = 1;
        if (c.curves[i].threads == (int)threads && !strncmp(f->key + 7, c.curves[i].dtype, strlen(c.curves[i].dtype)) && precision_of(c.curves[i].dtype, "weights", &stored) == TD_OK)
            byte = plan_curve_at(&c.curves[i], 1) / stored, flop = plan_curve_at(&c.curves[i], 512) / (2 * 512);
    }
    if (!o->ideal) byte *= PLAN_MEASURED.linear, flop *= PLAN_MEASURED.linear; /* the fit is of what is reached; the schedule takes its share off again */
    if (byte <= 0 && flop <= 0) return td_fail(TD_E_INVALID, "file %s: the fit shows no cost for bytes or FLOPs; measure larger models or contexts", o->calibration);
    plan_hardware h = {.kind = "cpu", .bf16 = flop > 0 ? 1 / flop : 1e18, .bandwidth = byte > 0 ? 1 / byte : 1e18, .nic = 1.25e9, .nic_latency_s = 50e-6, .node = 1};
    h.memory_bytes = td_memory_bytes();
    snprintf(h.name, sizeof h.name, "here");
    snprintf(h.source, sizeof h.source, "calibration %.80s, %.0f threads, error bar %.0f %%", o->calibration, threads, 100 * f->error_p90);
    return plan_hardware_put(table, &h);
}

static td_status list_models(td_buffer *out)
{
    char name[96];
    td_buffer_format(out, "  %-24s %9s %9s  %s\n", "name", "B params", "B active", "attention");
    for (int i = 0; plan_model_at(i, name, sizeof name); i++) {
        plan_model m;
        td_buffer kinds = {0};
        TD_TRY(plan_model_find(name, &m));
        plan_model_kinds(&m, &kinds);
        td_buffer_format(out, "  %-24s %9.1f %9.1f  %s\n", name, plan_total_parameters(&m) / 1e9, plan_active_parameters(&m) / 1e9, kinds.data ? kinds.data : "");
        td_buffer_free(&kinds);
    }
    return td_buffer_status(out);
}

typedef struct { const td_plan_options *o; plan_question question; const plan_hardware_table *table; double *loads, prompt, output; bool schedule; /* the answer comes from the schedule, not from the simulator */ } inputs;

static bool json_wanted(const td_plan_options *o) { return o->format && !strcmp(o->format, "json"); }

/* Numbers separated by anything that is not part of a number; bounded, so that they can be added. */
static td_status loads_read(const char *path, inputs *in)
{
    enum { LOADS_MAX = 100000 };
    char *text;
    TD_TRY(td_file_read_text(path, 16 << 20, &text));
    double *loads = calloc(LOADS_MAX, sizeof *loads), sum = 0;
    int count = 0;
    bool good = loads != NULL;
    for (char *at = text; good && *at;) {
        char *end;
        double v = strtod(at, &end);
        if (end == at) at++;
        else if (!(v >= 0 && v <= 1e15) || count == LOADS_MAX) good = false;
        else loads[count++] = v, sum += v, at = end;
    }
    free(text);
    const plan_ffn *f = &in->question.model->ffn[0];
    if (!good || sum <= 0 || count != f->experts) {
        free(loads);
        return td_fail(TD_E_FORMAT, "file %s: expected %d numbers from 0 to %g, the tokens of each expert, found %d%s", path, f->experts, 1e15, count, good ? "" : " and one that is not");
    }
    in->loads = loads;
    in->question.load.loads = loads;
    in->question.load.loads_count = count;
    return TD_OK;
}

static td_status workload_read(inputs *in)
{
    const td_plan_options *o = in->o;
    if (o->tpot_ms != 0 && !(o->tpot_ms >= 1e-3 && o->tpot_ms <= 1e7)) return td_fail(TD_E_INVALID, "--tpot: expected 0.001 to 10000000 ms, found %g", o->tpot_ms);
    if (o->devices_max < 0 || o->devices_max > 1000000) return td_fail(TD_E_INVALID, "--devices-max: expected 1 to 1000000, found %d", o->devices_max);
    if (!(o->jitter >= 0 && o->jitter <= 1)) return td_fail(TD_E_INVALID, "--jitter: expected 0 to 1, found %g", o->jitter);
    if (!(o->straggler == 0 || (o->straggler >= 1 && o->straggler <= 1000))) return td_fail(TD_E_INVALID, "--straggler: expected 1 to 1000 times the normal time, found %g", o->straggler);
    if (o->demand != 0 && !(o->demand >= 1 && o->demand <= 1e15)) return td_fail(TD_E_INVALID, "--demand: expected 1 to %g tokens per second, found %g", 1e15, o->demand);
    if (o->rate != 0 && !(o->rate >= 1e-6 && o->rate <= 1e9)) return td_fail(TD_E_INVALID, "--rate: expected %g to %g requests per second, found %g", 1e-6, 1e9, o->rate);
    if (o->replicas != 0 && !(o->replicas >= 1 && o->replicas <= 100000 && o->replicas == floor(o->replicas))) return td_fail(TD_E_INVALID, "--replicas: expected a whole number from 1 to 100000, found %g", o->replicas);
    double output = o->output != 0 ? o->output : 500, prompt = o->prompt != 0 ? o->prompt : fmax(1, in->question.load.context - output);
    if (!(output >= 1 && output <= 1e8)) return td_fail(TD_E_INVALID, "--output: expected 1 to 100000000 tokens, found %g", output);
    if (!(prompt >= 1 && prompt <= 1e8)) return td_fail(TD_E_INVALID, "--prompt: expected 1 to 100000000 tokens, found %g", prompt);
    in->prompt = prompt, in->output = output;
    if (o->prefill && !strcmp(o->prefill, "inline") && in->schedule) in->question.load.prompt_share = prompt / output, in->question.load.prompt = prompt;
    in->question.load.jitter = o->jitter;
    in->question.load.straggler = o->straggler;
    in->question.demand = o->demand;
    return o->loads ? loads_read(o->loads, in) : TD_OK;
}

/* A search, reported in the wanted form. */
static td_status answer(inputs *in, td_buffer *out)
{
    plan_answer *a = malloc(sizeof *a);
    if (!a) return td_fail(TD_E_MEMORY, "no memory");
    td_status status = plan_search(&in->question, true, a);
    if (status == TD_OK && in->o->chart) status = plan_chart_file(&in->question, a, in->o->chart);
    if (status == TD_OK) status = plan_answer_report(&in->question, a, in->o->format ? in->o->format : "text", out);
    free(a);
    return status;
}

/* The deployment that was named, its batch filled up to the latency target unless b= gives it. */
static td_status deployment_of(inputs *in, plan_deployment *d, plan_result *r)
{
    plan_question *q = &in->question;
    TD_TRY(plan_deployment_read(in->o->deploy, in->table, d));
    plan_case c = {.model = q->model, .precision = q->precision, .factors = q->factors, .load = &q->load, .deployment = d};
    return d->a[0].rows > 0 ? plan_evaluate(&c, r) : plan_fill(&c, d, q->tpot_s, r);
}

/* The named deployment, or the cheapest that the search finds. */
static td_status deployment_or_best(inputs *in, plan_deployment *d, plan_result *r)
{
    if (in->o->deploy) return deployment_of(in, d, r);
    plan_answer *a = malloc(sizeof *a);
    if (!a) return td_fail(TD_E_MEMORY, "no memory");
    td_status status = plan_search(&in->question, false, a);
    if (status == TD_OK) *d = a->choices[0].deployment, *r = a->choices[0].result;
    free(a);
    return status;
}

/* Who reads prompts, and how fast: a pool serves one prompt on one node of the attention side's cards. */
static td_status prefill_read(const inputs *in, const plan_deployment *d, double devices, double prompt, plan_simulation *s)
{
    const plan_question *q = &in->question;
    const char *word = in->o->prefill;
    char *end;
    s->prefill = !word || !strcmp(word, "elsewhere") ? PLAN_PREFILL_NONE : PLAN_PREFILL_INLINE;
    if (s->prefill == PLAN_PREFILL_NONE || !strcmp(word, "inline")) return TD_OK;
    double share = strtod(word, &end);
    if (end == word || *end || !(share > 0 && share <= 1000)) return td_fail(TD_E_INVALID, "--prefill: expected elsewhere, inline or a share of additional devices above 0, found '%s'", word);
    const plan_hardware *w = d->a[0].hardware;
    int node = TD_MIN(w->node, 8);
    plan_token t = plan_token_cost(q->model, q->precision, prompt / 2, false);
    s->prefill = PLAN_PREFILL_POOL;
    s->prefill_devices = node * floor(share * devices / node + 1e-5); /* six digits of a third are a third */
    if (s->prefill_devices < node) return td_fail(TD_E_INVALID, "--prefill %s: expected a share of at least %g, one node of %d devices beside the %.0f here", word, node / devices, node, devices);
    s->prefill_servers = (int)fmin(s->prefill_devices / node, s->count); /* with one for each request none waits */
    s->prefill_s_per_token = (t.linear_flops + t.ffn_flops + t.core_flops) / (plan_flop_rate(w, q->precision->linear_bf16) * q->factors->linear * node);
    return TD_OK;
}

/* Requests a second that are 70 % of what the deployment sustains. The simulator reads inline prompts itself, so only this figure carries their share of a step. */
static td_status default_rate(const plan_case *c, const plan_result *filled, const plan_simulation *s, double prompt, double output, double *rate)
{
    plan_workload load = *c->load;
    plan_case reading = *c;
    plan_result r = *filled;
    load.prompt_share = prompt / output, load.prompt = prompt;
    reading.load = &load;
    if (s->prefill == PLAN_PREFILL_INLINE && plan_evaluate(&reading, &r) < 0) return td_context(TD_E_INVALID, "--prefill inline: expected --rate, because what the deployment sustains is not known");
    *rate = 0.7 * r.tokens_s * s->replicas / output;
    return TD_OK;
}

static double mean_prompt(const plan_arrival *arrivals, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += arrivals[i].prompt;
    return sum / count;
}

static td_status simulated(inputs *in, td_buffer *out)
{
    const td_plan_options *o = in->o;
    plan_question *q = &in->question;
    plan_deployment d;
    plan_result r;
    TD_TRY(deployment_or_best(in, &d, &r));
    plan_case c = {.model = q->model, .precision = q->precision, .factors = q->factors, .load = &q->load, .deployment = &d};
    plan_simulation s = {.c = &c, .replicas = o->replicas >= 1 ? (int)o->replicas : 1, .seed = o->seed, .count = o->requests > 0 ? o->requests : 10000};
    plan_arrival *arrivals = NULL;
    double rate = o->rate;
    if (o->trace) TD_TRY(plan_trace_read(o->trace, &arrivals, &s.count));
    td_status status = prefill_read(in, &d, r.devices * s.replicas, arrivals ? mean_prompt(arrivals, s.count) : in->prompt, &s);
    if (status == TD_OK && !arrivals && rate == 0) status = default_rate(&c, &r, &s, in->prompt, in->output, &rate);
    if (status == TD_OK && !arrivals) status = plan_poisson(rate, s.count, in->prompt, in->output, false, o->seed, &arrivals);
    s.arrivals = arrivals;
    plan_sim_result result;
    if (status == TD_OK) status = plan_simulate(&s, &result);
    if (status == TD_OK) status = plan_sim_report(&s, &result, json_wanted(o), out);
    free(arrivals);
    return status;
}

static td_status judged(inputs *in, td_buffer *out)
{
    plan_question *q = &in->question;
    plan_deployment d;
    plan_result r;
    TD_TRY(deployment_of(in, &d, &r));
    plan_case c = {.model = q->model, .precision = q->precision, .factors = q->factors, .load = &q->load, .deployment = &d};
    return plan_result_report(&c, &r, json_wanted(in->o), out);
}

static td_status with_model(td_plan_task task, const td_plan_options *o, plan_hardware_table *table, td_buffer *out)
{
    const plan_hardware *hardware[16];
    size_t count;
    plan_precision precision;
    plan_model model;
    double context = o->context != 0 ? o->context : 8192;
    TD_TRY(precision_read(o, &precision));
    TD_TRY(plan_model_find(o->model, &model));
    TD_TRY(plan_hardware_load(o->hardware_file, table));
    if (o->calibration) TD_TRY(here_put(o, table));
    TD_TRY(prices_apply(o->prices, table)); /* 'here' has none of its own */
    TD_TRY(hardware_list(o->hardware ? o->hardware : DEFAULT_HARDWARE, table, hardware, TD_COUNT(hardware), &count));
    if (!(context >= 1 && context <= 1e8)) return td_fail(TD_E_INVALID, "--context: expected 1 to 100000000 tokens, found %g", context);
    if (task == TD_PLAN_COST) return plan_cost_report(&model, &precision, context, hardware, count, json_wanted(o), out);
    inputs in = {.o = o, .question = {.model = &model, .precision = &precision, .factors = o->ideal ? &PLAN_IDEAL : &PLAN_MEASURED, .hardware = hardware, .hardware_count = count, .load = {.context = context},
                 .tpot_s = (o->tpot_ms > 0 ? o->tpot_ms : 50) / 1e3, .devices_max = o->devices_max > 0 ? o->devices_max : 256}, .table = table, .schedule = task != TD_PLAN_SIMULATE};
    TD_TRY(workload_read(&in));
    td_status status = task == TD_PLAN_SIMULATE ? simulated(&in, out) : o->deploy ? judged(&in, out) : answer(&in, out);
    free(in.loads);
    return status;
}

/* ---- a measured machine ---- */

static td_status calibrated(const td_plan_options *o, td_buffer *out)
{
    plan_precision precision;
    plan_measured *rows;
    int count;
    plan_calibration c = {.count = 0};
    if (!o->calibration || !*o->calibration) return td_fail(TD_E_INVALID, "--calibrate: expected the file to write the fit into");
    if (!o->from) return td_fail(TD_E_INVALID, "--calibrate: expected --from FILE with measured rows, as 'tandem bench --json' prints them (without it, the program measures its own)");
    TD_TRY(precision_read(o, &precision));
    if (!o->kv) precision.kv_bytes = 2; /* the engine's default */
    TD_TRY(plan_measured_read(o->from, &precision, &c, &rows, &count));
    td_status status = plan_calibrate(rows, count, &c);
    free(rows);
    if (status == TD_OK) status = plan_calibration_write(o->calibration, &c, o->from);
    if (status == TD_OK) status = plan_calibration_report(&c, json_wanted(o), out);
    return status;
}

/* The products' curves at 1, 2, 4, ... threads and at all cores, each of several sweeps some seconds apart: a neighbour that takes the machine for a while moves one of them. */
static td_status curves_measured(const td_plan_options *o, td_buffer *out)
{
    plan_curve sweeps[PLAN_CURVES_MAX][PLAN_SWEEPS];
    plan_calibration c = {.count = 0};
    int most = o->threads > 0 ? o->threads : td_cores_usable();
    if (most > TD_THREADS_MAX) return td_fail(TD_E_INVALID, "--threads: expected at most %d, found %d", (int)TD_THREADS_MAX, most);
    for (int s = 0; s < PLAN_SWEEPS; s++) {
        c.curve_count = 0;
        for (int t = 1; t <= most; t = td_more_threads(t, most)) TD_TRY(plan_curve_measure(o->weights ? o->weights : "q8_0", t, &sweeps[c.curve_count++][s]));
    }
    for (int i = 0; i < c.curve_count; i++) c.curves[i] = plan_curve_median(sweeps[i]);
    plan_curves_json(&c, out);
    return td_buffer_status(out);
}

/* The fit for phase, weight type (any when it is not given) and deployment with the most rows. */
static td_status fit_for(const plan_calibration *c, const char *phase, const char *dtype, const char *deployment, const plan_fit **out)
{
    const plan_fit *best = NULL;
    for (int i = 0; i < c->count; i++) {
        char want[96];
        const plan_fit *f = &c->fits[i];
        const char *bar = strchr(f->key, '|'), *last = strrchr(f->key, '|');
        if (!bar || bar == last || strncmp(f->key, phase, (size_t)(bar - f->key)) || phase[bar - f->key] || strcmp(last + 1, deployment)) continue;
        snprintf(want, sizeof want, "%.*s", (int)(last - bar - 1), bar + 1);
        if (dtype && strcmp(want, dtype)) continue;
        if (!best || f->rows > best->rows) best = f;
    }
    if (!best) return td_fail(TD_E_NOT_FOUND, "calibration: no rows for phase %s, weights %s, deployment %s; the first kind it has is '%s' ('tandem plan --calibrate FILE --weights TYPE' measures another type)", phase, dtype ? dtype : "of any type", deployment, c->fits[0].key);
    *out = best;
    return TD_OK;
}

static td_status predicted(const td_plan_options *o, td_buffer *out)
{
    plan_precision precision;
    plan_model model;
    plan_calibration c;
    const plan_fit *f = NULL;
    double context = o->context > 0 ? o->context : 8192, batch = o->batch > 0 ? o->batch : 1, threads = o->threads > 0 ? o->threads : 1;
    const char *phase = o->phase ? o->phase : "decode";
    if (strcmp(phase, "decode") && strcmp(phase, "prefill")) return td_fail(TD_E_INVALID, "--phase: expected decode or prefill, found '%s'", phase);
    if (o->batch < 0 || o->threads < 0 || o->threads > 4096) return td_fail(TD_E_INVALID, "--batch and --threads: expected at least 1, found %d and %d", o->batch, o->threads);
    if (!o->calibration) return td_fail(TD_E_INVALID, "--predict: expected --calibration FILE, as 'tandem plan --calibrate FILE' writes it");
    TD_TRY(plan_model_find(o->model, &model));
    TD_TRY(plan_calibration_read(o->calibration, &c));
    TD_TRY(precision_read(o, &precision));
    if (!o->kv) precision.kv_bytes = 2;
    TD_TRY(fit_for(&c, phase, o->weights, o->deploy ? o->deploy : "colocated", &f));
    bool decode = !strcmp(phase, "decode");
    plan_measured what = {.batch = batch, .context = context, .threads = threads, .wire_s = 2e-6 * o->link_us * model.layers};
    char dtype[24];
    const char *type = strchr(f->key, '|') + 1;
    snprintf(dtype, sizeof dtype, "%.*s", (int)strcspn(type, "|"), type);
    TD_TRY(plan_measured_work(&model, &precision, phase, dtype, &c, &what));
    double seconds = plan_fit_seconds(f, &what), tokens = decode ? batch : batch * context, bar = f->error_p90;
    bool outside = what.bytes > 2 * f->bytes_high || what.bytes < f->bytes_low / 2 || what.flops > 2 * f->flops_high || what.flops < f->flops_low / 2;
    if (json_wanted(o))
        td_buffer_format(out, "{\"phase\":\"%s\",\"batch\":%.0f,\"context\":%.0f,\"threads\":%.0f,\"bytes_per_step\":%.9g,\"flops_per_step\":%.9g,\"product_s\":%.9g,\"seconds_per_step\":%.9g,\"tokens_per_s\":%.9g,\"low\":%.9g,\"high\":%.9g,\"error_p90\":%.6g,\"outside_measured_range\":%s,\"fit\":\"%s\"}\n",
                         phase, batch, context, threads, what.bytes, what.flops, what.product_s, seconds, tokens / seconds, tokens / seconds / (1 + bar), tokens / seconds * (1 + bar), bar, outside ? "true" : "false", f->key);
    else
        td_buffer_format(out, "%s, %s, batch %.0f, context %.0f, %.0f threads: %.2f tokens/s (%.2f to %.2f: nine of ten rows left out of the fit were within %.1f %%)%s\n", model.name, phase, batch, context, threads,
                         tokens / seconds, tokens / seconds / (1 + bar), tokens / seconds * (1 + bar), 100 * bar, outside ? "; outside the range that was measured: trust it less" : "");
    return td_buffer_status(out);
}

/* ---- what would be accepted and not looked at is refused ---- */

enum { PAPER = 1 << TD_PLAN_PAPER, COST = 1 << TD_PLAN_COST, SIMULATE = 1 << TD_PLAN_SIMULATE, CALIBRATE = 1 << TD_PLAN_CALIBRATE, CURVES = 1 << TD_PLAN_CURVES, PREDICT = 1 << TD_PLAN_PREDICT,
       SEARCH = 1 << TD_PLAN_SEARCH, JUDGE = 1 << (TD_PLAN_HARDWARE + 1), /* a search that --deploy answers */
       SCHEDULE = SEARCH | JUDGE | SIMULATE, PLANNING = SCHEDULE | COST, MEASURED = CALIBRATE | CURVES | PREDICT };

#define A_PLAN "a plan of a MODEL (a search, --deploy, --simulate, --cost)"
#define A_SCHEDULE "a search, --deploy and --simulate"

/* An option, whether it was given, the tasks that look at it, and how they are called. */
typedef struct { const char *name; bool given; unsigned tasks; const char *where; } belonging;

static td_status belongs(const belonging *options, size_t count, unsigned task)
{
    for (size_t i = 0; i < count; i++)
        if (options[i].given && !(options[i].tasks & task)) return td_fail(TD_E_INVALID, "%s belongs to %s", options[i].name, options[i].where);
    return TD_OK;
}

/* What is planned, and what with. */
static td_status check_question(unsigned task, const td_plan_options *o)
{
    unsigned inline_prompts = o->prefill && !strcmp(o->prefill, "inline") ? SEARCH | JUDGE : 0, measured_here = o->calibration ? PLANNING : 0;
    const belonging options[] = {
        {"--hardware", o->hardware, PLANNING, A_PLAN}, {"--hardware-file", o->hardware_file, PLANNING, A_PLAN}, {"--price", o->prices, PLANNING, A_PLAN}, {"--context", o->context != 0, PLANNING | PREDICT, A_PLAN " and to --predict"},
        {"--kv", o->kv, PLANNING | CALIBRATE | PREDICT, A_PLAN ", to --calibrate and to --predict"}, {"--weights", o->weights, PLANNING | MEASURED, A_PLAN ", to --calibrate and to --predict"},
        {"--calibration", o->calibration, PLANNING | CALIBRATE | PREDICT, A_PLAN " and to --predict"}, {"--deploy", o->deploy, SCHEDULE | PREDICT, "a search (whose place it takes), to --simulate and to --predict"},
        {"--tpot", o->tpot_ms != 0, SCHEDULE, A_SCHEDULE}, {"--ideal", o->ideal, SCHEDULE | measured_here, A_SCHEDULE ", and to --cost with --calibration"}, {"--jitter", o->jitter != 0, SCHEDULE, A_SCHEDULE},
        {"--straggler", o->straggler != 0, SCHEDULE, A_SCHEDULE}, {"--loads", o->loads, SCHEDULE, A_SCHEDULE}, {"--prefill", o->prefill, SCHEDULE, A_SCHEDULE},
        {"--devices-max", o->devices_max != 0, SEARCH | (o->deploy ? 0 : SIMULATE), "a search and to --simulate, both without --deploy"},
        {"--chart", o->chart, SEARCH, "a search (without --deploy)"}, {"--demand", o->demand != 0, SEARCH, "a search (without --deploy)"},
        {"--prompt", o->prompt != 0, (o->trace ? 0 : SIMULATE) | inline_prompts, "--simulate without --trace and to --prefill inline"},
        {"--output", o->output != 0, (o->trace ? 0 : SIMULATE) | inline_prompts, "--simulate without --trace and to --prefill inline"}};
    return belongs(options, TD_COUNT(options), task);
}

/* Requests, measured machines, and the form of the answer. */
static td_status check_rest(unsigned task, const td_plan_options *o, const char *format)
{
    unsigned poisson = o->trace ? 0 : SIMULATE, measured_here = o->calibration ? PLANNING : 0;
    const belonging options[] = {
        {"--rate", o->rate != 0, poisson, "--simulate without --trace"}, {"--requests", o->requests != 0, poisson, "--simulate without --trace"}, {"--trace", o->trace, SIMULATE, "--simulate"},
        {"--replicas", o->replicas != 0, SIMULATE, "--simulate"}, {"--seed", o->seed != 0, SIMULATE, "--simulate"}, {"--from", o->from, CALIBRATE, "--calibrate"}, {"--batch", o->batch != 0, PREDICT, "--predict"},
        {"--phase", o->phase, PREDICT, "--predict"}, {"--link-us", o->link_us != 0, PREDICT, "--predict"}, {"--threads", o->threads != 0, MEASURED | measured_here, "--calibrate, --predict and --calibration"},
        {"--csv", !strcmp(format, "csv"), SEARCH | PAPER, "a search (without --deploy) and to --paper; --json says the same"},
        {"--json", !strcmp(format, "json"), PLANNING | MEASURED | PAPER, "answers, not to --list-models and --list-hardware"}};
    return belongs(options, TD_COUNT(options), task);
}

static td_status contradictions(td_plan_task task, const td_plan_options *o, const char *format)
{
    unsigned bit = task == TD_PLAN_SEARCH && o->deploy ? JUDGE : 1u << task;
    const char *prefill = o->prefill ? o->prefill : "elsewhere";
    TD_TRY(check_question(bit, o));
    TD_TRY(check_rest(bit, o, format));
    if (bit & PLANNING && o->calibration && !strcasestr(o->hardware ? o->hardware : "", "here") && !strcasestr(o->deploy ? o->deploy : "", "here"))
        return td_fail(TD_E_INVALID, "--calibration belongs to --hardware or --deploy that names 'here', the calibrated machine");
    if (bit != SIMULATE && strcmp(prefill, "elsewhere") && strcmp(prefill, "inline")) return td_fail(TD_E_INVALID, "--prefill: expected elsewhere or inline (with --simulate also a share of additional devices), found '%s'", prefill);
    return TD_OK;
}

td_status td_plan(td_plan_task task, const td_plan_options *options, char **out)
{
    static const td_plan_options none;
    const td_plan_options *o = options ? options : &none;
    td_buffer text = {0};
    plan_hardware_table table = {0};
    td_status status;
    if (!out) return td_fail(TD_E_INVALID, "td_plan: expected a place for the text, found NULL");
    const char *format = o->format ? o->format : "text";
    if (strcmp(format, "text") && strcmp(format, "json") && strcmp(format, "csv")) return td_fail(TD_E_INVALID, "format: expected text, json or csv, found '%s'", format);
    TD_TRY(contradictions(task, o, format));
    switch (task) {
    case TD_PLAN_PAPER: status = plan_paper_report(format, &text); break;
    case TD_PLAN_MODELS: status = list_models(&text); break;
    case TD_PLAN_HARDWARE: td_buffer_text(&text, plan_hardware_text()), status = td_buffer_status(&text); break;
    case TD_PLAN_CALIBRATE: status = calibrated(o, &text); break;
    case TD_PLAN_CURVES: status = curves_measured(o, &text); break;
    case TD_PLAN_PREDICT: status = predicted(o, &text); break;
    default: status = with_model(task, o, &table, &text);
    }
    plan_hardware_free(&table);
    if (status == TD_OK) *out = text.data;
    else td_buffer_free(&text);
    return status;
}
