/* report.c - answers as a table, as JSON that serve and deploy read, as CSV, and as charts (in the terminal; SVG and PNG by gnuplot through a pipe). */
#include "plan/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>

/* ---- one choice ---- */

static void pools_json(const plan_pool *pools, int count, td_buffer *out)
{
    td_buffer_text(out, "[");
    for (int p = 0; p < count; p++)
        td_buffer_format(out, "%s{\"hardware\":\"%s\",\"devices\":%d,\"batch_per_device\":%.0f}", p ? "," : "", pools[p].hardware->name, pools[p].devices, pools[p].rows);
    td_buffer_text(out, "]");
}

/* What the engine and a worker take (include/tandem.h, cli/config.c). */
enum { WORKER_CLIENTS_MAX = 64, WORKER_ROWS_MAX = 16384 };

static double attention_instances(const plan_deployment *d)
{
    double instances = 0;
    for (int i = 0; i < d->a_pools; i++) instances += d->a[i].devices;
    return instances;
}

/* The tokens of one request where the engine's own choice would refuse what was planned, else 0: it takes the model's context, at most 32768. */
static double engine_context(const plan_model *m, double context)
{
    double own = m->context_max > 0 ? fmin(m->context_max, TD_CONTEXT_DEFAULT_MAX) : TD_CONTEXT_DEFAULT_MAX;
    return context > own ? ceil(context) : 0;
}

/* The engine's KV type that is as wide as the planned one; NULL: it has none so narrow. */
static const char *engine_kv(const plan_precision *p) { return p->kv_bytes > 2 ? "f32" : p->kv_bytes > 1.1 ? "bf16" : p->kv_bytes >= 1 ? "q8_0" : NULL; }

/* Options of one attention instance and of one worker, as 'tandem serve --config' and 'tandem worker --config' take them. */
static void engine_json(const plan_model *m, const plan_deployment *d, const plan_precision *p, double context, td_buffer *out)
{
    double rows = 0, all = 0, limit = engine_context(m, context);
    for (int i = 0; i < d->a_pools; i++) rows = fmax(rows, d->a[i].rows), all += d->a[i].rows * d->a[i].devices;
    double requests = fmax(1, floor(rows * d->micro_batches));
    td_buffer_format(out, ",\"engine\":{\"requests_max\":%.0f", requests);
    if (engine_kv(p)) td_buffer_format(out, ",\"kv_tokens\":%.0f,\"kv_dtype\":\"%s\"", ceil(requests * context), engine_kv(p));
    if (limit > 0) td_buffer_format(out, ",\"context_max\":%.0f", limit);
    td_buffer_format(out, ",\"micro_batches\":%d", d->micro_batches);
    if (!d->colocated)
        td_buffer_format(out, ",\"wire\":\"fp8\"},\"worker\":{\"rows_max\":%.0f,\"clients_max\":%.0f", fmin(WORKER_ROWS_MAX, fmax(1, ceil(all))), fmin(WORKER_CLIENTS_MAX, attention_instances(d)));
    td_buffer_text(out, "}");
}

/* Where the engine cannot do what was planned. */
static void notes_json(const plan_deployment *d, const plan_precision *p, td_buffer *out)
{
    bool crowded = !d->colocated && attention_instances(d) > WORKER_CLIENTS_MAX;
    if (engine_kv(p) && !crowded) return;
    td_buffer_text(out, ",\"notes\":[");
    if (!engine_kv(p)) td_buffer_format(out, "\"the engine has no KV type of %g bytes a value: kv_dtype and kv_tokens are its own choice, and hold fewer sequences than planned\"", p->kv_bytes);
    if (crowded)
        td_buffer_format(out, "%s\"a worker takes at most %d clients: clients_max is cut from %.0f, the others would be turned away\"", engine_kv(p) ? "" : ",", (int)WORKER_CLIENTS_MAX, attention_instances(d));
    td_buffer_text(out, "]");
}

static void choice_json(const plan_model *model, const plan_deployment *d, const plan_result *r, const plan_precision *precision, double context, td_buffer *out)
{
    td_buffer_format(out, "{\"kind\":\"%s\",\"deploy\":\"", d->colocated ? "colocated" : "afd");
    plan_deployment_write(d, out);
    td_buffer_text(out, "\",\"attention\":");
    pools_json(d->a, d->a_pools, out);
    if (!d->colocated) {
        td_buffer_text(out, ",\"ffn\":");
        pools_json(d->f, d->f_pools, out);
    }
    td_buffer_format(out, ",\"ffn_tensor_parallel\":%d,\"ffn_instances\":%d", TD_MAX(1, d->ffn_tp), plan_ffn_instances(d));
    engine_json(model, d, precision, context, out);
    notes_json(d, precision, out);
    td_buffer_format(out, ",\"devices\":%.0f,\"batch\":%.0f,\"tpot_ms\":%.4f,\"tokens_per_s\":%.2f,\"tokens_per_s_device\":%.3f,\"usd_per_hour\":%.4f,\"usd_per_mtoken\":%.6f,\"joules_per_token\":%.5f", r->devices, r->batch,
                     1e3 * r->tpot_s, r->tokens_s, r->tokens_s_device, r->usd_hour, r->usd_mtok, r->joule_token);
    td_buffer_format(out, ",\"stages_us\":{\"attention\":%.2f,\"out\":%.2f,\"ffn\":%.2f,\"back\":%.2f,\"layer\":%.2f,\"head\":%.1f},\"bound\":\"%s\",\"attention_busy\":%.4f,\"ffn_busy\":%.4f,\"wire_busy\":%.4f,"
                          "\"attention_memory\":%.4f,\"ffn_memory\":%.4f,\"imbalance\":%.4f}",
                     1e6 * r->a_s, 1e6 * r->out_s, 1e6 * r->f_s, 1e6 * r->back_s, 1e6 * r->layer_s, 1e6 * r->head_s, r->bound, r->a_busy, r->f_busy, r->wire_busy, r->a_memory, r->f_memory, r->imbalance);
}

static void choice_text(size_t rank, const plan_choice *c, td_buffer *out)
{
    td_buffer name = {0};
    plan_deployment_write(&c->deployment, &name);
    const plan_result *r = &c->result;
    td_buffer_format(out, "  %2zu  %-36s %7.0f %7.0f %8.1f %10.0f %9.0f %9.2f %10.4f %8.2f   %s\n", rank, name.data ? name.data : "", r->devices, r->batch, 1e3 * r->tpot_s, r->tokens_s, r->tokens_s_device, r->usd_hour,
                     r->usd_mtok, r->joule_token, r->bound);
    td_buffer_free(&name);
}

td_status plan_result_report(const plan_case *c, const plan_result *r, bool json, td_buffer *out)
{
    const plan_deployment *d = c->deployment;
    if (json) {
        choice_json(c->model, d, r, c->precision, c->load->context, out);
        td_buffer_text(out, "\n");
        return td_buffer_status(out);
    }
    td_buffer_format(out, "%s at context %.0f on ", c->model->name, c->load->context);
    plan_deployment_write(d, out);
    td_buffer_format(out, "\n\n  one layer, one micro-batch:  attention %.0f us   wire out %.0f us   FFN %.0f us   wire back %.0f us\n", 1e6 * r->a_s, 1e6 * r->out_s, 1e6 * r->f_s, 1e6 * r->back_s);
    td_buffer_format(out, "  a layer of %d micro-batches: %.0f us, bound by %s;  %d layers and %.2f ms of LM head: %.2f ms a token\n", d->micro_batches, 1e6 * r->layer_s, r->bound, c->model->layers, 1e3 * r->head_s,
                     1e3 * r->tpot_s);
    td_buffer_format(out, "  three-stage rule: A, F and wire each within a third of the layer (%.0f us): %s;  four-stage: each within a quarter (%.0f us): %s\n", 1e6 * r->layer_s / 3,
                     fmax(fmax(r->a_s, r->f_s), r->out_s + r->back_s) <= r->layer_s / 3 * 1.0001 ? "kept" : "broken", 1e6 * r->layer_s / 4,
                     fmax(fmax(r->a_s, r->f_s), fmax(r->out_s, r->back_s)) <= r->layer_s / 4 * 1.0001 ? "kept" : "broken");
    td_buffer_format(out, "  batch %.0f;  %.0f tokens/s, %.0f a device;  %.4f USD per million tokens, %.2f J a token\n", r->batch, r->tokens_s, r->tokens_s_device, r->usd_mtok, r->joule_token);
    td_buffer_format(out, "  busy: attention %.0f %%, FFN %.0f %%, wire %.0f %%;  memory: attention %.0f %%, FFN %.0f %%;  expert imbalance %.2f\n", 100 * r->a_busy, 100 * r->f_busy, 100 * r->wire_busy, 100 * r->a_memory,
                     100 * r->f_memory, r->imbalance);
    return td_buffer_status(out);
}

/* ---- the answer ---- */

static void answer_json(const plan_question *q, const plan_answer *a, td_buffer *out)
{
    td_buffer_text(out, "{\"model\":");
    td_buffer_json(out, q->model->name, strlen(q->model->name));
    td_buffer_format(out, ",\"context\":%.0f,\"tpot_target_ms\":%.4f,\"best\":", q->load.context, 1e3 * q->tpot_s);
    choice_json(q->model, &a->choices[0].deployment, &a->choices[0].result, q->precision, q->load.context, out);
    td_buffer_text(out, ",\"verdict\":");
    td_buffer verdict = {0};
    plan_verdict(q, a, &verdict);
    td_buffer_json(out, verdict.data ? verdict.data : "", verdict.bytes);
    td_buffer_free(&verdict);
    td_buffer_text(out, ",\"choices\":[");
    for (size_t i = 0; i < a->count; i++) {
        td_buffer_text(out, i ? ",\n" : "\n");
        choice_json(q->model, &a->choices[i].deployment, &a->choices[i].result, q->precision, q->load.context, out);
    }
    if (q->demand > 0) td_buffer_format(out, "],\n\"demand_tokens_per_s\":%.6g,\"copies\":%.0f", q->demand, ceil(q->demand / a->choices[0].result.tokens_s));
    else td_buffer_text(out, "]");
    td_buffer_text(out, ",\n\"front\":[");
    for (size_t i = 0; i < a->front_count; i++) {
        static const char *const names[] = {"afd_cheapest", "colocated_cheapest", "afd_densest", "colocated_densest"};
        td_buffer_format(out, "%s{\"tpot_target_ms\":%.4f", i ? ",\n" : "\n", 1e3 * a->front_tpot_s[i]);
        for (int k = 0; k < 4; k++) {
            const plan_choice *c = k < 2 ? &a->front_cost[k][i] : &a->front_rate[k - 2][i];
            td_buffer_format(out, ",\"%s\":", names[k]);
            if (c->result.devices > 0) choice_json(q->model, &c->deployment, &c->result, q->precision, q->load.context, out);
            else td_buffer_text(out, "null");
        }
        td_buffer_text(out, "}");
    }
    td_buffer_text(out, "]}\n");
}

static void answer_csv(const plan_answer *a, td_buffer *out)
{
    td_buffer_text(out, "deploy,kind,devices,batch,tpot_ms,tokens_per_s,tokens_per_s_device,usd_per_hour,usd_per_mtoken,joules_per_token,bound\n");
    for (size_t i = 0; i < a->count; i++) {
        const plan_result *r = &a->choices[i].result;
        td_buffer_text(out, "\"");
        plan_deployment_write(&a->choices[i].deployment, out);
        td_buffer_format(out, "\",%s,%.0f,%.0f,%.4f,%.2f,%.3f,%.4f,%.6f,%.5f,%s\n", a->choices[i].deployment.colocated ? "colocated" : "afd", r->devices, r->batch, 1e3 * r->tpot_s, r->tokens_s, r->tokens_s_device,
                         r->usd_hour, r->usd_mtok, r->joule_token, r->bound);
    }
}

static void front_cell(const plan_choice *c, bool rate, int width, td_buffer *out)
{
    td_buffer name = {0};
    if (c->result.devices > 0) {
        plan_deployment_write(&c->deployment, &name);
        td_buffer_format(out, rate ? "   %-*s %9.0f" : "   %-*s %9.4f", width, name.data ? name.data : "", rate ? c->result.tokens_s_device : c->result.usd_mtok);
    } else td_buffer_format(out, "   %-*s %9s", width, "none", "-");
    td_buffer_free(&name);
}

static void front_text(const plan_answer *a, td_buffer *out)
{
    for (int rate = 0; rate < 2; rate++) {
        td_buffer_format(out, "\n  Pareto front, %s:\n    within ms   %-40s %9s   %-28s %9s\n", rate ? "tokens/s a device against latency" : "cost against latency", "disaggregated", rate ? "tok/s/dev" : "USD/1M", "colocated", rate ? "tok/s/dev" : "USD/1M");
        for (size_t i = 0; i < a->front_count; i++) {
            td_buffer_format(out, "    %9.1f", 1e3 * a->front_tpot_s[i]);
            front_cell(rate ? &a->front_rate[0][i] : &a->front_cost[0][i], rate, 40, out);
            front_cell(rate ? &a->front_rate[1][i] : &a->front_cost[1][i], rate, 28, out);
            td_buffer_text(out, "\n");
        }
    }
}

/* How many copies, devices, dollars and kilowatts a demand in tokens per second takes. */
static void demand_text(const plan_question *q, const plan_answer *a, td_buffer *out)
{
    td_buffer_format(out, "\n  for %.0f tokens/s                          copies  devices   USD/month (730 h)        kW   spare\n", q->demand);
    for (size_t i = 0; i < TD_MIN(a->count, (size_t)6); i++) {
        td_buffer name = {0};
        const plan_result *r = &a->choices[i].result;
        double copies = ceil(q->demand / r->tokens_s);
        plan_deployment_write(&a->choices[i].deployment, &name);
        td_buffer_format(out, "  %2zu  %-36s %7.0f %8.0f %19.0f %9.1f %6.0f %%\n", i + 1, name.data ? name.data : "", copies, copies * r->devices, copies * r->usd_hour * 730, copies * r->joule_token * r->tokens_s / 1e3,
                         100 * (copies * r->tokens_s / q->demand - 1));
        td_buffer_free(&name);
    }
}

static void prices_text(const plan_question *q, td_buffer *out)
{
    td_buffer_text(out, "\n  card           USD/h   TFLOP/s 16/8 bit    GB   GB/s   roofline   where the figures come from\n");
    for (size_t h = 0; h < q->hardware_count; h++) {
        const plan_hardware *w = q->hardware[h];
        td_buffer_format(out, "  %-12s %7.2f   %7.0f / %-7.0f %5.0f %6.0f   %8.0f   %s\n", w->name, w->usd_hour, w->bf16 / 1e12, w->fp8 / 1e12, w->memory_bytes / 1e9, w->bandwidth / 1e9, plan_flop_rate(w, false) / w->bandwidth,
                         w->source);
    }
}

td_status plan_answer_report(const plan_question *q, const plan_answer *a, const char *format, td_buffer *out)
{
    if (!strcmp(format, "json")) answer_json(q, a, out);
    else if (!strcmp(format, "csv")) answer_csv(a, out);
    else {
        td_buffer kinds = {0};
        plan_model_kinds(q->model, &kinds);
        td_buffer_format(out, "%s (%.0f B, %.1f B active, %s) at context %.0f, at most %.10g ms a token, up to %d devices\n\n", q->model->name, plan_total_parameters(q->model) / 1e9, plan_active_parameters(q->model) / 1e9,
                         kinds.data ? kinds.data : "", q->load.context, 1e3 * q->tpot_s, q->devices_max);
        td_buffer_free(&kinds);
        if (q->model->context_max > 0 && q->load.context > q->model->context_max) td_buffer_format(out, "  Note: the model was published for at most %d tokens of context.\n\n", q->model->context_max);
        td_buffer_text(out, "      deployment                           devices   batch  ms/token   tokens/s tok/s/dev     USD/h     USD/1M    J/tok   bound by\n");
        for (size_t i = 0; i < a->count; i++) choice_text(i + 1, &a->choices[i], out);
        td_buffer_text(out, "\n  ");
        plan_verdict(q, a, out);
        td_buffer_text(out, "\n");
        if (q->demand > 0) demand_text(q, a, out);
        if (a->front_count) {
            front_text(a, out);
            plan_chart_text(a, out);
        }
        prices_text(q, out);
        td_buffer_format(out, "\n  a=: attention side, f=: FFN side, c=: colocated, m: micro-batches, tp: devices that split an expert, b: tokens a device and micro-batch. %s\n",
                         q->factors->kernel_table ? "Efficiencies are those measured in the Step-3 paper (docs/planning.md): its Table 8 is met within 10 %; colocated rows rest on one published profile." : "Ideal hardware.");
    }
    return td_buffer_status(out);
}

/* ---- charts ---- */

enum { CHART_WIDTH = 64, CHART_HEIGHT = 14 };

void plan_chart_text(const plan_answer *a, td_buffer *out)
{
    char grid[CHART_HEIGHT][CHART_WIDTH + 1];
    double x_low = INFINITY, x_high = 0, y_high = 0;
    for (size_t i = 0; i < a->front_count; i++)
        for (int side = 0; side < 2; side++) {
            const plan_result *r = &a->front_rate[side][i].result;
            if (r->devices <= 0) continue;
            x_low = fmin(x_low, r->tpot_s), x_high = fmax(x_high, r->tpot_s), y_high = fmax(y_high, r->tokens_s_device);
        }
    if (!(x_high > x_low) || y_high <= 0) return;
    for (int y = 0; y < CHART_HEIGHT; y++) memset(grid[y], ' ', CHART_WIDTH), grid[y][CHART_WIDTH] = 0;
    for (size_t i = 0; i < a->front_count; i++)
        for (int side = 1; side >= 0; side--) {
            const plan_result *r = &a->front_rate[side][i].result;
            if (r->devices <= 0) continue;
            int x = (int)lround((CHART_WIDTH - 1) * log(r->tpot_s / x_low) / log(x_high / x_low)), y = (int)lround((CHART_HEIGHT - 1) * (1 - r->tokens_s_device / y_high));
            grid[y][x] = side ? 'o' : '*';
        }
    td_buffer_text(out, "\n  tokens/s a device against ms a token (*: disaggregated, o: colocated)\n");
    for (int y = 0; y < CHART_HEIGHT; y++) td_buffer_format(out, "  %8.0f |%s\n", y_high * (CHART_HEIGHT - 1 - y) / (CHART_HEIGHT - 1), grid[y]);
    td_buffer_format(out, "           +");
    for (int x = 0; x < CHART_WIDTH; x++) td_buffer_text(out, "-");
    td_buffer_format(out, "\n            %-10.1f%*.1f ms\n", 1e3 * x_low, CHART_WIDTH - 10, 1e3 * x_high);
}

static void series(FILE *f, const plan_answer *a, int colocated, bool cost)
{
    for (size_t i = 0; i < a->front_count; i++) {
        const plan_result *r = cost ? &a->front_cost[colocated][i].result : &a->front_rate[colocated][i].result;
        if (r->devices > 0) fprintf(f, "%.6g %.6g\n", 1e3 * r->tpot_s, cost ? r->usd_mtok : r->tokens_s_device);
    }
    fprintf(f, "e\n");
}

td_status plan_chart_file(const plan_question *q, const plan_answer *a, const char *path)
{
    size_t length = strlen(path);
    bool svg = length > 4 && !strcasecmp(path + length - 4, ".svg"), png = length > 4 && !strcasecmp(path + length - 4, ".png");
    if (!svg && !png) return td_fail(TD_E_INVALID, "--chart: expected a file name that ends in .svg or .png, found '%s'", path);
    if (strpbrk(path, "'\"\\\n`") || length > 1000) return td_fail(TD_E_INVALID, "--chart: expected a file name without quotes, backslashes and line breaks, found '%s'", path);
    if (system("command -v gnuplot >/dev/null 2>&1") != 0) return td_fail(TD_E_NOT_FOUND, "--chart needs the program gnuplot, which is not installed here (package gnuplot-nox); everything else works without it");
    FILE *f = popen("gnuplot >/dev/null 2>&1", "w");
    if (!f) return td_fail(TD_E_IO, "--chart: gnuplot could not be started");
    char title[sizeof q->model->name]; /* a path may hold what gnuplot would run */
    snprintf(title, sizeof title, "%s", q->model->name);
    for (char *at = title; *at; at++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/ -", *at)) *at = '_';
    fprintf(f, "set terminal %s size 1000,480\nset output '%s'\n", svg ? "svg enhanced background rgb 'white' font 'sans,13'" : "pngcairo font 'sans,11'", path);
    fprintf(f, "set multiplot layout 1,2 title \"%s, context %.0f\" noenhanced\nset grid\nset logscale x 2\nset xlabel 'ms per output token'\nset key bottom right\n", title, q->load.context);
    const char *style = "with linespoints pt 7 lw 2 title 'disaggregated', '-' with linespoints pt 6 lw 2 dt 2 title 'colocated'";
    fprintf(f, "set ylabel 'tokens/s per device'\nset yrange [0:*]\nplot '-' %s\n", style);
    series(f, a, 0, false), series(f, a, 1, false);
    fprintf(f, "set ylabel 'USD per million tokens'\nset logscale y\nset yrange [*:*]\nset key top right\nplot '-' %s\n", style);
    series(f, a, 0, true), series(f, a, 1, true);
    fprintf(f, "unset multiplot\n");
    int status = pclose(f);
    if (status != 0) return td_fail(TD_E_IO, "--chart: gnuplot could not write %s (exit status %d)", path, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return TD_OK;
}
