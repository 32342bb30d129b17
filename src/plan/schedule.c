/*
 * schedule.c - stage times from bytes and FLOPs, and a deployment's time per token, throughput and cost from stage times (schedule.h has the rule).
 * Every stage is the slower of its memory traffic and its arithmetic at the share of the datasheet that is reached, plus a fixed time.
 */
#include "plan/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const plan_factors PLAN_IDEAL = {.attention = 1, .linear = 1, .ffn = 1, .wire = 1, .scale_up = 1};

/*
 * Where each number comes from. Not fitted here: kernel_table, from the slopes of Table 9 between 8K and 32K (MFA, MLA, GQA on H800, H20, A800); linear and
 * attention_stage_s, from its intercepts on H800; wire, 40 of 50 GB/s (paper 5.4, DeepEP); scale_up, NVLS near 80 % of the link; ffn, a grouped GEMM's usual
 * share. Fitted on three rows of Table 8 (plan_table8_fit): ffn_stage_s on the two Step-3 rows at 4K, wire_exposed on the DSv3 profile row.
 */
const plan_factors PLAN_MEASURED = {.kernel_table = true, .attention = 0.8, .linear = 0.8, .ffn = 0.8, .wire = 0.8, .scale_up = 0.8, .wire_exposed = 0.348, .attention_stage_s = 50e-6, .ffn_stage_s = 58.2e-6};

/* Share of the roof that attention kernels reach: (ideal 32K - ideal 8K) / (measured 32K - measured 8K), Table 9. */
static const struct { plan_kind kind; const char *hardware; double share; } kernels[] = {
    {PLAN_MFA, "h800", 0.943}, {PLAN_MFA, "h20", 0.687}, {PLAN_MFA, "a800", 0.845}, {PLAN_MLA, "h800", 0.718}, {PLAN_MLA, "h20", 0.879},
    {PLAN_GQA, "h800", 0.952}, {PLAN_GQA, "h20", 0.361}, {PLAN_GQA, "a800", 0.726},
    {PLAN_MFA, "h100", 0.943}, {PLAN_MLA, "h100", 0.718}, {PLAN_GQA, "h100", 0.952}, /* the same chip as the H800 but for its links */
    {PLAN_MFA, "h200", 0.943}, {PLAN_MLA, "h200", 0.718}, {PLAN_GQA, "h200", 0.952}, {PLAN_MFA, "a100", 0.845}, {PLAN_GQA, "a100", 0.726},
};

double plan_kernel_share(const plan_factors *factors, plan_kind kind, const char *hardware)
{
    if (factors->kernel_table)
        for (size_t i = 0; i < TD_COUNT(kernels); i++)
            if (kernels[i].kind == kind && !strcasecmp(kernels[i].hardware, hardware)) return kernels[i].share;
    return factors->attention;
}

/* ---- random spread ---- */

/* Quantile of the standard normal for p >= 1/2, Abramowitz and Stegun 26.2.23 (error below 5e-4). */
static double normal_quantile(double p)
{
    double t = sqrt(-2 * log(fmax(1 - p, 1e-300)));
    return t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
}

double plan_normal_max(double n)
{
    return n <= 1 ? 0 : normal_quantile((n - 0.375) / (n + 0.25)); /* Blom */
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Largest over mean load when the heaviest expert left goes to the lightest instance that still has room. */
static double placed_imbalance(const double *loads, int experts, int instances)
{
    double *sorted = malloc((size_t)experts * sizeof *sorted), *sum = calloc((size_t)instances, sizeof *sum), total = 0, largest = 0;
    int *held = calloc((size_t)instances, sizeof *held), room = (experts + instances - 1) / instances;
    if (!sorted || !sum || !held) largest = total = 1, experts = 0;
    for (int e = 0; e < experts; e++) sorted[e] = loads[e];
    if (experts) qsort(sorted, (size_t)experts, sizeof *sorted, descending);
    for (int e = 0; e < experts; e++) {
        int best = -1;
        for (int i = 0; i < instances; i++)
            if (held[i] < room && (best < 0 || sum[i] < sum[best])) best = i;
        sum[best] += sorted[e];
        held[best]++;
        total += sorted[e];
        largest = fmax(largest, sum[best]);
    }
    free(sorted), free(sum), free(held);
    return total > 0 ? largest * (experts ? instances : 1) / total : 1;
}

/* Whole experts on the fullest instance; with more instances than experts each holds one, some experts twice. */
static double experts_held(int experts, int instances) { return experts <= instances ? 1 : ceil((double)experts / instances); }

/* Largest over mean when experts are equally loaded but cannot be cut. */
static double whole_experts(int experts, int instances)
{
    if (instances > experts) return (double)instances / (experts * floor((double)instances / experts));
    return experts_held(experts, instances) * instances / experts;
}

double plan_imbalance(int experts, int k, double tokens, int instances, const double *loads, bool redundant)
{
    if (instances <= 1 || experts <= 0 || tokens <= 0) return 1;
    double mean = tokens * k / instances, spread = sqrt(mean * (1 - 1.0 / instances));
    double placed = loads && instances <= experts ? placed_imbalance(loads, experts, instances) : redundant ? 1 : whole_experts(experts, instances);
    return fmin(placed * (1 + plan_normal_max(instances) * spread / mean), instances);
}

/* ---- stages ---- */

static double busy_factor(const plan_case *c, double devices)
{
    double slow = c->load->straggler > 1 ? c->load->straggler : 1;
    return slow * (1 + c->load->jitter * plan_normal_max(devices));
}

static int devices_of(const plan_pool *pools, int count)
{
    int n = 0;
    for (int p = 0; p < count; p++) n += pools[p].devices;
    return n;
}

static const plan_pool *ffn_pools(const plan_deployment *d, int *count)
{
    *count = d->colocated ? d->a_pools : d->f_pools;
    return d->colocated ? d->a : d->f;
}

int plan_ffn_instances(const plan_deployment *d)
{
    int pools;
    const plan_pool *f = ffn_pools(d, &pools);
    return TD_MAX(1, devices_of(f, pools) / TD_MAX(1, d->ffn_tp));
}

double plan_attention_stage(const plan_case *c, const plan_hardware *w, int g, double rows, double tokens)
{
    const plan_attention *a = &c->model->attention[g];
    const plan_factors *e = c->factors;
    double share = plan_kernel_share(e, a->kind, w->name), weight = plan_weight_bytes(c->model->attention_weight_bytes, c->precision->attention_weight_bytes);
    double read = a->read_max > 0 ? fmin(tokens, rows * a->read_max) : tokens;
    double bytes = a->kv_values * (a->kv_value_bytes > 0 ? a->kv_value_bytes : c->precision->kv_bytes) * read + a->index_bytes * tokens + 2 * a->state_bytes * rows;
    double flops = a->core_flops * read + a->index_flops * tokens + a->state_flops * rows;
    double core = fmax(bytes / w->bandwidth, flops / plan_flop_rate(w, c->precision->attention_bf16)) / share;
    double prompt_rows = rows * c->load->prompt_share, linear_rate = plan_flop_rate(w, c->precision->linear_bf16) * e->linear;
    double linear = fmax(a->parameters * weight / (w->bandwidth * e->linear), 2 * a->parameters * (rows + prompt_rows) / linear_rate);
    double prompt_read = a->read_max > 0 ? fmin(c->load->prompt / 2, a->read_max) : c->load->prompt / 2;
    double prompt = prompt_rows * (a->core_flops * prompt_read + a->state_flops) / (plan_flop_rate(w, c->precision->attention_bf16) * share);
    return core + linear + prompt + e->attention_stage_s;
}

double plan_head_stage(const plan_case *c, const plan_hardware *w, double rows)
{
    double values = (double)c->model->vocab * c->model->hidden;
    double weight = plan_weight_bytes(c->model->head_weight_bytes, c->precision->head_weight_bytes);
    return fmax(values * weight / w->bandwidth, 2 * values * rows / plan_flop_rate(w, true)) / c->factors->linear + c->factors->step_s;
}

double plan_ffn_stage(const plan_case *c, int g, double rows)
{
    const plan_ffn *f = &c->model->ffn[g];
    const plan_factors *e = c->factors;
    const plan_deployment *d = c->deployment;
    int pools, instances = plan_ffn_instances(d), tp = TD_MAX(1, d->ffn_tp);
    const plan_pool *pool = ffn_pools(d, &pools);
    double weight = plan_weight_bytes(c->model->ffn_weight_bytes, c->precision->ffn_weight_bytes);
    rows *= 1 + c->load->prompt_share;
    double imbalance = plan_imbalance(f->experts, f->top_k, rows, instances, c->load->loads && c->load->loads_count == f->experts ? c->load->loads : NULL, d->redundant);
    double touched = plan_experts_touched(f->experts, f->top_k, rows);
    /* the fullest instance reads at least one whole expert, at most all it holds */
    double touched_worst = f->experts ? fmin(experts_held(f->experts, instances), fmax(fmin(1, rows * f->top_k), touched / instances * imbalance)) * instances : 0;
    /* colocated devices each hold the shared expert (or the dense FFN, split only over tp); a separate FFN side spreads it */
    double copies = d->colocated ? instances : 1;
    double bytes = weight * (f->shared_parameters * copies + f->expert_parameters * touched_worst);
    double flops = 2 * rows * (f->shared_parameters + f->top_k * f->expert_parameters * imbalance);
    double speed = 0, gather = 0; /* speed: shares of the whole done in a second, all devices together */
    for (int p = 0; p < pools; p++) {
        const plan_hardware *w = pool[p].hardware;
        speed += pool[p].devices / (fmax(bytes / w->bandwidth, flops / plan_flop_rate(w, c->precision->linear_bf16)) / e->ffn);
        double inside = (w->scale_up > 0 ? w->scale_up * e->scale_up : w->nic * e->wire);
        double reach = f->experts && !d->broadcast ? fmin(1, (double)(f->top_k + 1) / instances) : d->colocated ? 1.0 / instances : 1;
        gather = fmax(gather, tp > 1 ? (tp - 1.0) / tp * rows * reach * c->model->hidden * (c->precision->wire_out_bytes + c->precision->wire_back_bytes) / inside : 0);
    }
    return 1 / speed + gather + e->ffn_stage_s;
}

/* Share of the FFN instances that one token visits. */
static double visited(const plan_case *c, int g, int instances)
{
    const plan_ffn *f = &c->model->ffn[g];
    if (c->deployment->broadcast || f->experts == 0) return 1;
    double k = f->top_k + (f->shared_parameters > 0 ? 1 : 0);
    return 1 - pow(1 - 1.0 / instances, k);
}

void plan_wire_stage(const plan_case *c, int g, double rows, double device_rows, double *out_s, double *back_s)
{
    const plan_deployment *d = c->deployment;
    const plan_factors *e = c->factors;
    double row_out = c->model->hidden * c->precision->wire_out_bytes, row_back = c->model->hidden * c->precision->wire_back_bytes;
    int a = devices_of(d->a, d->a_pools), instances = plan_ffn_instances(d);
    device_rows *= 1 + c->load->prompt_share, rows *= 1 + c->load->prompt_share;
    if (d->colocated) {
        const plan_hardware *w = d->a[0].hardware;
        double k = c->model->ffn[g].experts ? c->model->ffn[g].top_k : 0; /* dense FFNs are computed where they are */
        double far = fmax(0, (double)(a - w->node) / a), near = (double)(TD_MIN(a, w->node) - 1) / a, inside = w->scale_up > 0 ? w->scale_up * e->scale_up : w->nic * e->wire;
        if (d->ffn_tp > 1) k = 0; /* split inside the node: the gather in plan_ffn_stage */
        double seconds = device_rows * k * fmax(far / (w->nic * e->wire), near / inside), latency = a > 1 && k > 0 ? w->nic_latency_s : 0;
        *out_s = seconds * row_out + latency;
        *back_s = seconds * row_back + latency;
        return;
    }
    double copies = visited(c, g, instances) * instances, slowest_a = INFINITY, slowest_f = INFINITY, latency = 0;
    for (int p = 0; p < d->a_pools; p++) slowest_a = fmin(slowest_a, d->a[p].hardware->nic), latency = fmax(latency, d->a[p].hardware->nic_latency_s);
    for (int p = 0; p < d->f_pools; p++) slowest_f = fmin(slowest_f, d->f[p].hardware->nic), latency = fmax(latency, d->f[p].hardware->nic_latency_s);
    double f = devices_of(d->f, d->f_pools);
    double seconds = fmax(device_rows * copies / slowest_a, rows * copies / (f * slowest_f)) / e->wire;
    *out_s = seconds * row_out + latency;
    *back_s = seconds * row_back + latency;
}

double plan_layer_period(bool colocated, int m, double exposed, double a, double out, double f, double back)
{
    if (!colocated) return fmax(fmax(m * fmax(a, f), m * fmax(out, back)), a + out + f + back);
    if (m <= 1) return a + out + f + back;
    return fmax(m * (a + f + exposed * (out + back)), fmax(a + f + out + back, m * (out + back)));
}

/* ---- a deployment ---- */

/* FFN weights on the whole FFN side, counting that every instance holds as many whole experts as the fullest. */
static double ffn_side_bytes(const plan_case *c)
{
    double parameters = 0, instances = plan_ffn_instances(c->deployment);
    for (int g = 0; g < c->model->ffn_groups; g++) {
        const plan_ffn *f = &c->model->ffn[g];
        parameters += f->layers * (f->shared_parameters + (f->experts ? instances * experts_held(f->experts, (int)instances) * f->expert_parameters : 0));
    }
    return parameters * plan_weight_bytes(c->model->ffn_weight_bytes, c->precision->ffn_weight_bytes);
}

/* FFN weights on each device of a colocated deployment: whole experts spread over instances, the shared expert in each; tp splits both. */
static double ffn_colocated_bytes(const plan_case *c)
{
    const plan_deployment *d = c->deployment;
    double bytes = 0, weight = plan_weight_bytes(c->model->ffn_weight_bytes, c->precision->ffn_weight_bytes);
    for (int g = 0; g < c->model->ffn_groups; g++) {
        const plan_ffn *f = &c->model->ffn[g];
        bytes += weight * f->layers * ((f->experts ? experts_held(f->experts, plan_ffn_instances(d)) * f->expert_parameters : 0) + f->shared_parameters) / TD_MAX(1, d->ffn_tp);
    }
    return bytes;
}

enum { WORKSPACE_PERCENT = 10 }; /* of memory kept for activations, buffers and fragmentation */

static td_status memory_check(const plan_case *c, plan_result *r)
{
    const plan_deployment *d = c->deployment;
    double cache = plan_token_cost(c->model, c->precision, c->load->context, false).kv_cache_bytes, usable = 1 - WORKSPACE_PERCENT / 100.0;
    double weights = plan_attention_side_bytes(c->model, c->precision) + (d->colocated ? ffn_colocated_bytes(c) : 0);
    for (int p = 0; p < d->a_pools; p++) {
        const plan_hardware *w = d->a[p].hardware;
        double sequences = d->a[p].rows * d->micro_batches, need = weights + cache * sequences, room = usable * w->memory_bytes;
        r->a_memory = fmax(r->a_memory, need / w->memory_bytes);
        if (weights + cache > room)
            return td_fail(TD_E_INVALID, "%s: %.1f GB of weights and %.3f GB for one sequence of %.0f tokens on each %s, %.1f GB usable; %s", c->model->name, weights / 1e9, cache / 1e9, c->load->context, w->name,
                           room / 1e9, weights > room ? "more devices to spread the weights over, or 4-bit weights, would fit" : "a shorter context or a smaller KV type would fit");
        if (need > room * (1 + 1e-9))
            return td_fail(TD_E_INVALID, "%s: %.0f sequences of %.3f GB beside %.1f GB of weights need %.1f GB on each %s, %.1f GB usable; %.0f sequences would fit", c->model->name, sequences, cache / 1e9, weights / 1e9,
                           need / 1e9, w->name, room / 1e9, floor((room - weights) / cache));
    }
    if (d->colocated) return TD_OK;
    double ffn = ffn_side_bytes(c), room = 0;
    for (int p = 0; p < d->f_pools; p++) room += usable * d->f[p].devices * d->f[p].hardware->memory_bytes;
    r->f_memory = ffn / (room / usable);
    if (ffn > room)
        return td_fail(TD_E_INVALID, "%s: the FFN weights are %.1f GB, the FFN side has %.1f GB usable; at least %.0f x %s would hold them", c->model->name, ffn / 1e9, room / 1e9,
                       ceil(ffn / (usable * d->f[0].hardware->memory_bytes)), d->f[0].hardware->name);
    return TD_OK;
}

static double rows_total(const plan_deployment *d)
{
    double rows = 0;
    for (int p = 0; p < d->a_pools; p++) rows += d->a[p].devices * d->a[p].rows;
    return rows;
}

typedef struct { double a[PLAN_GROUPS_MAX], f[PLAN_GROUPS_MAX], out[PLAN_GROUPS_MAX], back[PLAN_GROUPS_MAX], head; } stage_times;

static void stages_of(const plan_case *c, stage_times *t)
{
    const plan_deployment *d = c->deployment;
    double total = rows_total(d), most = 0, a_factor = busy_factor(c, devices_of(d->a, d->a_pools)), f_factor = busy_factor(c, d->colocated ? 1 : devices_of(d->f, d->f_pools));
    *t = (stage_times){0};
    for (int p = 0; p < d->a_pools; p++) {
        most = fmax(most, d->a[p].rows);
        for (int g = 0; g < c->model->attention_groups; g++) t->a[g] = fmax(t->a[g], a_factor * plan_attention_stage(c, d->a[p].hardware, g, d->a[p].rows, d->a[p].rows * c->load->context));
        t->head = fmax(t->head, plan_head_stage(c, d->a[p].hardware, d->a[p].rows * d->micro_batches));
    }
    for (int g = 0; g < c->model->ffn_groups; g++) {
        t->f[g] = f_factor * plan_ffn_stage(c, g, total);
        plan_wire_stage(c, g, total, most, &t->out[g], &t->back[g]);
    }
}

static void costs_of(const plan_case *c, plan_result *r)
{
    const plan_deployment *d = c->deployment;
    double watts = 0;
    for (int p = 0; p < d->a_pools; p++) r->devices += d->a[p].devices, r->usd_hour += d->a[p].devices * d->a[p].hardware->usd_hour, watts += d->a[p].devices * d->a[p].hardware->watts;
    for (int p = 0; p < (d->colocated ? 0 : d->f_pools); p++) r->devices += d->f[p].devices, r->usd_hour += d->f[p].devices * d->f[p].hardware->usd_hour, watts += d->f[p].devices * d->f[p].hardware->watts;
    r->batch = rows_total(d) * d->micro_batches;
    r->tokens_s = r->batch / r->tpot_s;
    r->tokens_s_device = r->tokens_s / r->devices;
    r->usd_mtok = r->usd_hour / 3600 / r->tokens_s * 1e6;
    r->joule_token = watts / r->tokens_s;
}

td_status plan_evaluate(const plan_case *c, plan_result *out)
{
    const plan_deployment *d = c->deployment;
    plan_result r = {0};
    int pools, m = d->micro_batches;
    const plan_pool *f = ffn_pools(d, &pools);
    if (d->a_pools < 1 || pools < 1 || m < 1 || m > 16 || rows_total(d) <= 0) return td_fail(TD_E_INVALID, "deployment: expected devices on both sides, 1 to 16 micro-batches and at least one token a device");
    for (int p = 0; p < pools; p++)
        if (d->ffn_tp > 1 && (d->ffn_tp > f[p].hardware->node || f[p].devices % d->ffn_tp))
            return td_fail(TD_E_INVALID, "deployment: tp=%d must divide the %d %s and stay inside a node of %d", d->ffn_tp, f[p].devices, f[p].hardware->name, f[p].hardware->node);
    TD_TRY(memory_check(c, &r));
    stage_times t;
    stages_of(c, &t);
    double a = 0, of = 0, ow = 0, bk = 0, x = c->factors->wire_exposed;
    for (int l = 0; l < c->model->layers; l++) {
        int ga = c->model->layer_attention[l], gf = c->model->layer_ffn[l];
        a += t.a[ga], of += t.f[gf], ow += t.out[gf], bk += t.back[gf];
        r.tpot_s += plan_layer_period(d->colocated, m, x, t.a[ga], t.out[gf], t.f[gf], t.back[gf]);
    }
    int layers = c->model->layers;
    r.a_s = a / layers, r.f_s = of / layers, r.out_s = ow / layers, r.back_s = bk / layers, r.layer_s = r.tpot_s / layers, r.head_s = t.head;
    double layers_s = r.tpot_s;
    r.tpot_s += t.head;
    r.a_busy = (d->colocated ? m * (a + of) + t.head : m * a + t.head) / r.tpot_s;
    r.f_busy = m * of / r.tpot_s;
    r.wire_busy = m * fmax(ow, bk) / r.tpot_s;
    double top = fmax(fmax(m * a, m * of), m * fmax(ow, bk));
    r.bound = d->colocated ? (ow + bk > fmax(a, of) ? "wire" : a > of ? "attention" : "FFN") : top < 0.98 * layers_s ? "latency of a layer" : top == m * a ? "attention" : top == m * of ? "FFN" : "wire";
    const plan_ffn *ff = &c->model->ffn[0];
    r.imbalance = plan_imbalance(ff->experts, ff->top_k, rows_total(d), plan_ffn_instances(d), c->load->loads && c->load->loads_count == ff->experts ? c->load->loads : NULL, d->redundant);
    costs_of(c, &r);
    *out = r;
    return TD_OK;
}

/* ---- the largest batch within a time ---- */

td_status plan_fill(const plan_case *c, plan_deployment *d, double tpot_s, plan_result *out)
{
    double cache = plan_token_cost(c->model, c->precision, c->load->context, false).kv_cache_bytes, weight[PLAN_POOLS_MAX], most[PLAN_POOLS_MAX], slowest = INFINITY, low = 0, high = 1;
    int m = d->micro_batches;
    plan_case k = *c;
    k.deployment = d;
    for (int p = 0; p < d->a_pools; p++) {
        double fixed = 0, full = 0;
        for (int g = 0; g < c->model->attention_groups; g++) {
            fixed += c->model->attention[g].layers * plan_attention_stage(c, d->a[p].hardware, g, 0, 0);
            full += c->model->attention[g].layers * plan_attention_stage(c, d->a[p].hardware, g, 64, 64 * c->load->context);
        }
        double held = plan_attention_side_bytes(c->model, c->precision) + (d->colocated ? ffn_colocated_bytes(&k) : 0);
        most[p] = fmax(0, ((1 - WORKSPACE_PERCENT / 100.0) * d->a[p].hardware->memory_bytes - held) / cache / m);
        weight[p] = 1 / fmax(full - fixed, 1e-12);
        slowest = fmin(slowest, weight[p]);
    }
    enum { ROWS_MAX = 1 << 16, STEPS = 48 };
    plan_result r, best = {0};
    double rows[PLAN_POOLS_MAX] = {0};
    bool found = false;
    td_status status = TD_OK;
    /* first the smallest batch, then bisection in the logarithm: the time of a step grows with its rows */
    for (int step = 0; step < STEPS && status == TD_OK; step++) {
        double scale = step == 0 ? 1 : step == 1 ? ROWS_MAX : sqrt(low * high);
        if (step == 1) high = ROWS_MAX;
        for (int p = 0; p < d->a_pools; p++) d->a[p].rows = fmin(most[p], scale * weight[p] / slowest);
        status = plan_evaluate(&k, &r);
        bool fits = status == TD_OK && r.tpot_s <= tpot_s;
        if (step == 0) {
            for (int p = 0; p < d->a_pools; p++)
                if (most[p] < 1) return td_fail(TD_E_INVALID, "%s: one sequence a micro-batch of context %.0f does not fit beside the weights on %s; more devices, fewer micro-batches or smaller types would", c->model->name, c->load->context, d->a[p].hardware->name);
            if (!fits) return status < 0 ? status : td_fail(TD_E_INVALID, "%s: with one token a device a step takes %g ms, longer than %.10g ms", c->model->name, 1e3 * r.tpot_s, 1e3 * tpot_s);
        }
        if (fits) {
            low = scale, best = r, found = true;
            for (int p = 0; p < d->a_pools; p++) rows[p] = d->a[p].rows;
            if (step == 1) break; /* memory is the limit */
        } else high = scale;
        if (step > 2 && high / low < 1.0005) break;
    }
    if (status < 0) return status;
    if (!found) return td_fail(TD_E_INTERNAL, "no batch found");
    for (int p = 0; p < d->a_pools; p++) d->a[p].rows = fmax(1, floor(rows[p] + 1e-9));
    status = plan_evaluate(&k, &r);
    *out = status == TD_OK ? r : best;
    return TD_OK;
}
