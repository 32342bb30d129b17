/*
 * search.c - tries every pair of cards, side sizes, expert-parallel or tensor-parallel FFN and 1 to 4 micro-batches, each filled with the largest batch that
 * meets the latency target and memory (plan_fill), and keeps the cheapest of each pair. A few ten thousand schedules, a second or two.
 */
#include "plan/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int sizes[] = {1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 128, 144, 192, 256, 320, 384, 512, 768, 1024};

/* Fewer than a node, or whole nodes. */
static bool size_allowed(int devices, const plan_hardware *w, int most) { return devices <= most && (devices < w->node || devices % w->node == 0); }

typedef struct { const plan_question *q; double tpot_s; plan_choice *best; bool *have; plan_choice densest[2]; char why[512]; } hunt;

/* A cheaper choice replaces; on equal cost the smaller deployment. */
static void consider(hunt *h, size_t slot, plan_deployment *d)
{
    const plan_question *q = h->q;
    plan_case c = {.model = q->model, .precision = q->precision, .factors = q->factors, .load = &q->load, .deployment = d};
    plan_result r;
    if (plan_fill(&c, d, h->tpot_s, &r) < 0) {
        snprintf(h->why, sizeof h->why, "%s", td_error());
        return;
    }
    plan_choice *best = &h->best[slot], *dense = &h->densest[d->colocated];
    if (r.tokens_s_device > dense->result.tokens_s_device) *dense = (plan_choice){.deployment = *d, .result = r};
    if (!h->have[slot] || r.usd_mtok < best->result.usd_mtok * (1 - 1e-6) || (r.usd_mtok <= best->result.usd_mtok * (1 + 1e-6) && r.devices < best->result.devices)) {
        *best = (plan_choice){.deployment = *d, .result = r};
        h->have[slot] = true;
    }
}

static void hunt_colocated(hunt *h, size_t slot, const plan_hardware *w)
{
    bool dense = h->q->model->ffn[0].experts == 0;
    for (size_t s = 0; s < TD_COUNT(sizes); s++) {
        if (!size_allowed(sizes[s], w, h->q->devices_max)) continue;
        for (int tp = 1; tp <= (dense ? TD_MIN(sizes[s], w->node) : 1); tp *= 2) {
            if (sizes[s] % tp) continue;
            for (int m = 1; m <= 2; m++) {
                plan_deployment d = {.colocated = true, .a_pools = 1, .ffn_tp = tp, .micro_batches = m};
                d.a[0] = (plan_pool){.hardware = w, .devices = sizes[s]};
                consider(h, slot, &d);
            }
        }
    }
}

static void hunt_split(hunt *h, size_t slot, const plan_hardware *a, const plan_hardware *f)
{
    const plan_question *q = h->q;
    double weights = plan_ffn_parameters(q->model) * plan_weight_bytes(q->model->ffn_weight_bytes, q->precision->ffn_weight_bytes);
    int tried = 0;
    for (size_t i = 0; i < TD_COUNT(sizes) && tried < 8; i++) {
        if (!size_allowed(sizes[i], f, q->devices_max - 1) || weights > 0.9 * sizes[i] * f->memory_bytes) continue;
        tried++;
        for (int tp = 1; tp <= TD_MIN(sizes[i], f->node); tp *= TD_MAX(2, TD_MIN(sizes[i], f->node))) {
            if (sizes[i] % tp) continue;
            for (size_t j = 0; j < TD_COUNT(sizes); j++) {
                if (!size_allowed(sizes[j], a, q->devices_max - sizes[i]) || sizes[j] > 16 * sizes[i] || sizes[i] > 16 * sizes[j]) continue;
                for (int m = 1; m <= 4; m++) {
                    plan_deployment d = {.a_pools = 1, .f_pools = 1, .ffn_tp = tp, .micro_batches = m};
                    d.a[0] = (plan_pool){.hardware = a, .devices = sizes[j]};
                    d.f[0] = (plan_pool){.hardware = f, .devices = sizes[i]};
                    consider(h, slot, &d);
                }
            }
        }
    }
}

static int cheaper(const void *a, const void *b)
{
    double x = ((const plan_choice *)a)->result.usd_mtok, y = ((const plan_choice *)b)->result.usd_mtok;
    return x < y ? -1 : x > y;
}

/* All pairs at one target; returns how many worked, cheapest first. */
static size_t at_target(const plan_question *q, double tpot_s, plan_choice *out, plan_choice densest[2], char *why, size_t why_bytes)
{
    bool have[PLAN_CHOICES_MAX] = {false};
    hunt h = {.q = q, .tpot_s = tpot_s, .best = out, .have = have};
    size_t n = q->hardware_count, slot = 0, count = 0;
    for (size_t a = 0; a < n; a++) hunt_colocated(&h, slot++, q->hardware[a]);
    for (size_t a = 0; a < n; a++)
        for (size_t f = 0; f < n; f++) hunt_split(&h, slot++, q->hardware[a], q->hardware[f]);
    for (size_t s = 0; s < slot; s++)
        if (have[s]) out[count++] = out[s];
    qsort(out, count, sizeof *out, cheaper);
    snprintf(why, why_bytes, "%s", h.why);
    memcpy(densest, h.densest, sizeof h.densest);
    return count;
}

static const plan_choice *first_of(const plan_choice *choices, size_t count, bool colocated)
{
    for (size_t i = 0; i < count; i++)
        if (choices[i].deployment.colocated == colocated) return &choices[i];
    return NULL;
}

td_status plan_search(const plan_question *q, bool with_front, plan_answer *out)
{
    plan_choice densest[2];
    static const double factors[] = {0.3, 0.45, 0.67, 1, 1.5, 2.2, 4};
    memset(out, 0, sizeof *out);
    if (q->hardware_count * (q->hardware_count + 1) > PLAN_CHOICES_MAX) return td_fail(TD_E_INVALID, "--hardware: expected at most 16 names, found %zu", q->hardware_count);
    out->count = at_target(q, q->tpot_s, out->choices, densest, out->why_none, sizeof out->why_none);
    if (out->count == 0) {
        plan_choice *other = malloc(PLAN_CHOICES_MAX * sizeof *other);
        char why[512], shape[256] = "";
        double reachable = 0;
        if (!other) return td_fail(TD_E_MEMORY, "no memory");
        for (double t = fmax(1.25 * q->tpot_s, 1e-4); t < 100 && reachable == 0; t *= 1.25)
            if (at_target(q, t, other, densest, why, sizeof why) > 0) {
                reachable = t;
                td_buffer text = {0};
                plan_deployment_write(&other[0].deployment, &text);
                snprintf(shape, sizeof shape, "%s at %.1f ms", text.data ? text.data : "", 1e3 * other[0].result.tpot_s);
                td_buffer_free(&text);
            }
        free(other);
        if (reachable > 0) return td_fail(TD_E_INVALID, "%s at context %.0f: nothing on this hardware meets %.10g ms a token; the nearest that works is %s", q->model->name, q->load.context, 1e3 * q->tpot_s, shape);
        return td_fail(TD_E_INVALID, "%s at context %.0f: nothing of at most %d devices works at any latency (%.400s)", q->model->name, q->load.context, q->devices_max, out->why_none);
    }
    out->afd_impossible = !first_of(out->choices, out->count, false);
    out->colocated_impossible = !first_of(out->choices, out->count, true);
    if (!with_front) return TD_OK;
    plan_choice *choices = malloc(PLAN_CHOICES_MAX * sizeof *choices);
    if (!choices) return td_fail(TD_E_MEMORY, "no memory");
    for (size_t i = 0; i < TD_COUNT(factors); i++) {
        char why[512];
        size_t n = at_target(q, q->tpot_s * factors[i], choices, densest, why, sizeof why), at = out->front_count;
        if (n == 0) continue;
        for (int side = 0; side < 2; side++) {
            const plan_choice *cheapest = first_of(choices, n, side == 1), *cost_before = at ? &out->front_cost[side][at - 1] : NULL, *rate_before = at ? &out->front_rate[side][at - 1] : NULL;
            if (cheapest) out->front_cost[side][at] = *cheapest;
            out->front_rate[side][at] = densest[side];
            /* what met a tighter target meets this one: a point that more time makes worse is not on the front */
            if (cost_before && cost_before->result.devices > 0 && (!cheapest || cost_before->result.usd_mtok < cheapest->result.usd_mtok)) out->front_cost[side][at] = *cost_before;
            if (rate_before && rate_before->result.tokens_s_device > densest[side].result.tokens_s_device) out->front_rate[side][at] = *rate_before;
        }
        out->front_tpot_s[out->front_count++] = q->tpot_s * factors[i];
    }
    free(choices);
    return TD_OK;
}

/* ---- verdict ---- */

/* "compute bound (512 FLOP a byte, roofline 74), 0.28 USD an EFLOP" for work of some intensity on a card. */
static void why_this_card(double intensity, const plan_hardware *w, bool bf16, td_buffer *out)
{
    double roofline = plan_flop_rate(w, bf16) / w->bandwidth, usd = w->usd_hour / 3600;
    bool compute = intensity > roofline;
    td_buffer_format(out, "%s bound on %s (%.0f FLOP a byte, roofline %.0f), %.2g USD %s", compute ? "compute" : "memory", w->name, intensity, roofline, compute ? usd / plan_flop_rate(w, bf16) * 1e18 : usd / w->bandwidth * 1e15,
                     compute ? "an EFLOP" : "a PB");
}

static void reason_for_split(const plan_question *q, const plan_choice *afd, const plan_choice *together, td_buffer *out)
{
    const plan_hardware *a = afd->deployment.a[0].hardware, *f = afd->deployment.f[0].hardware;
    plan_token t = plan_token_cost(q->model, q->precision, q->load.context, false);
    double tokens = afd->result.batch / afd->deployment.micro_batches, ffn_bytes = 0;
    for (int g = 0; g < q->model->ffn_groups; g++) {
        const plan_ffn *k = &q->model->ffn[g];
        ffn_bytes += plan_weight_bytes(q->model->ffn_weight_bytes, q->precision->ffn_weight_bytes) * k->layers * (k->shared_parameters + k->expert_parameters * plan_experts_touched(k->experts, k->top_k, tokens));
    }
    if (a != f) {
        td_buffer_text(out, "each side runs on the card that is cheap for it: attention is ");
        why_this_card(t.core_flops / t.kv_bytes, a, q->precision->attention_bf16, out);
        td_buffer_text(out, "; the FFN is ");
        why_this_card(t.ffn_flops * tokens / ffn_bytes, f, q->precision->linear_bf16, out);
        return;
    }
    td_buffer_format(out, "the FFN sees %.0f tokens at once on %d devices (%.0f a device) instead of %.0f over %d colocated ones, and the wire hides behind %d micro-batches", tokens, afd->deployment.f[0].devices,
                     tokens / afd->deployment.f[0].devices, together->result.batch / together->deployment.micro_batches, together->deployment.a[0].devices, afd->deployment.micro_batches);
}

static void reason_for_together(const plan_choice *afd, td_buffer *out)
{
    const plan_result *r = &afd->result;
    double idle_f = 1 - r->f_busy, idle_a = 1 - r->a_busy, wire = (r->out_s + r->back_s) / (r->a_s + r->f_s + r->out_s + r->back_s);
    if (r->f_memory > 0.6 && idle_f > 0.3)
        td_buffer_format(out, "the FFN side is as large as its weights demand (%.0f %% of its memory) and works only %.0f %% of the time", 100 * r->f_memory, 100 * r->f_busy);
    else if (!strcmp(r->bound, "latency of a layer"))
        td_buffer_format(out, "in the best split a micro-batch's way through attention, wire, FFN and back (%.0f us a layer) is longer than the %d micro-batches keep either side busy, and each further micro-batch reads the weights once more", 1e6 * (r->a_s + r->f_s + r->out_s + r->back_s), afd->deployment.micro_batches);
    else if (wire > 0.35) td_buffer_format(out, "the wire is %.0f %% of the way through a layer when split, more than the micro-batches hide", 100 * wire);
    else if (fmax(idle_f, idle_a) > 0.2)
        td_buffer_format(out, "the two sides of the best split wait for each other (%s side idle %.0f %% of the time), and neither card is much cheaper for one side", idle_f > idle_a ? "FFN" : "attention", 100 * fmax(idle_f, idle_a));
    else td_buffer_text(out, "one card is the cheapest for both sides, so that splitting adds a wire and saves nothing");
}

/* Names the hardware of the choices that has no price, each once; returns whether some other has one. */
static bool unpriced(const plan_answer *answer, td_buffer *names)
{
    const plan_hardware *named[2 * PLAN_CHOICES_MAX];
    size_t count = 0;
    bool priced = false;
    for (size_t i = 0; i < answer->count; i++) {
        const plan_deployment *d = &answer->choices[i].deployment;
        const plan_hardware *sides[] = {d->a[0].hardware, d->colocated ? d->a[0].hardware : d->f[0].hardware};
        for (size_t s = 0; s < TD_COUNT(sides); s++) {
            size_t known = 0;
            while (known < count && named[known] != sides[s]) known++;
            priced |= sides[s]->usd_hour > 0;
            if (sides[s]->usd_hour > 0 || known < count) continue;
            td_buffer_format(names, "%s%s", count ? ", " : "", sides[s]->name);
            named[count++] = sides[s];
        }
    }
    return priced;
}

/* Dollars compare nothing when some of the hardware costs none: says so, and what would help. */
static bool prices_missing(const plan_answer *answer, td_buffer *out)
{
    td_buffer names = {0};
    bool priced = unpriced(answer, &names), missing = names.bytes > 0;
    if (missing && priced)
        td_buffer_format(out, "No price is known for %s, so that dollars do not say which deployment is better: expected --price %.*s=DOLLARS.", names.data, (int)strcspn(names.data, ","), names.data);
    else if (missing) td_buffer_text(out, "All prices are zero, so that no deployment is cheaper than another.");
    td_buffer_free(&names);
    return missing;
}

void plan_verdict(const plan_question *q, const plan_answer *answer, td_buffer *out)
{
    const plan_choice *afd = first_of(answer->choices, answer->count, false), *together = first_of(answer->choices, answer->count, true);
    if (!afd || !together) {
        td_buffer_format(out, "Only %s deployments meet %.10g ms on this hardware.", afd ? "disaggregated" : "colocated", 1e3 * q->tpot_s);
        return;
    }
    bool split = afd->result.usd_mtok < together->result.usd_mtok;
    if (prices_missing(answer, out)) return;
    double gain = 100 * (1 - (split ? afd->result.usd_mtok / together->result.usd_mtok : together->result.usd_mtok / afd->result.usd_mtok));
    td_buffer_format(out, "%s is better here, by %.0f %% in dollars a token (%.4f against %.4f USD per million), because ", split ? "Disaggregated" : "Colocated", gain, fmin(afd->result.usd_mtok, together->result.usd_mtok),
                     fmax(afd->result.usd_mtok, together->result.usd_mtok));
    if (split) reason_for_split(q, afd, together, out);
    else reason_for_together(afd, out);
    td_buffer_text(out, ".");
    if (gain < 7) td_buffer_text(out, " That is within the model's error (7 %): prefer the simpler deployment, colocated.");
    const plan_choice *fewest = split ? together : afd;
    td_buffer_format(out, " The best %s deployment needs %.0f devices, the winner %.0f.", split ? "colocated" : "disaggregated", fewest->result.devices, (split ? afd : together)->result.devices);
}
