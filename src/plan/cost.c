/*
 * cost.c - bytes, FLOPs and dollars of one decoded token (arXiv 2507.19427 sections 4 and 5; docs/planning.md has the formulas).
 * Attention reads its cache once a token and computes on it; everything else is a matrix product. Pure functions of model, precision and context.
 */
#include "plan/plan.h"

#include <math.h>
#include <string.h>

const plan_precision PLAN_FP8 = {.kv_bytes = 1, .attention_weight_bytes = 1, .ffn_weight_bytes = 1, .head_weight_bytes = 2, .wire_out_bytes = 1, .wire_back_bytes = 2};

plan_token plan_token_cost(const plan_model *model, const plan_precision *precision, double context, bool as_paper)
{
    plan_token t = {0};
    for (int g = 0; g < model->attention_groups; g++) {
        const plan_attention *a = &model->attention[g];
        double read = a->read_max > 0 ? fmin(context, a->read_max) : context, held = a->cache_limited ? read : context;
        double value_bytes = a->kv_value_bytes > 0 ? a->kv_value_bytes : precision->kv_bytes;
        t.kv_bytes += a->layers * (a->kv_values * value_bytes * read + a->index_bytes * context + 2 * a->state_bytes);
        t.core_flops += a->layers * ((as_paper ? a->core_flops_paper : a->core_flops) * read + a->index_flops * context + a->state_flops);
        t.linear_flops += 2.0 * a->layers * a->parameters;
        t.kv_cache_bytes += a->layers * (a->kv_values * value_bytes * held + a->index_bytes * context + a->state_bytes);
    }
    for (int g = 0; g < model->ffn_groups; g++) t.ffn_flops += 2.0 * model->ffn[g].layers * (model->ffn[g].shared_parameters + model->ffn[g].top_k * model->ffn[g].expert_parameters);
    t.head_flops = 2.0 * model->vocab * model->hidden;
    return t;
}

double plan_attention_parameters(const plan_model *model)
{
    double n = 0;
    for (int g = 0; g < model->attention_groups; g++) n += model->attention[g].layers * model->attention[g].parameters;
    return n;
}

double plan_ffn_parameters(const plan_model *model)
{
    double n = 0;
    for (int g = 0; g < model->ffn_groups; g++) n += model->ffn[g].layers * (model->ffn[g].shared_parameters + model->ffn[g].experts * model->ffn[g].expert_parameters);
    return n;
}

double plan_active_parameters(const plan_model *model)
{
    plan_token t = plan_token_cost(model, &PLAN_FP8, 1, false);
    return (t.linear_flops + t.ffn_flops + t.head_flops) / 2;
}

double plan_total_parameters(const plan_model *model)
{
    double router = 0;
    for (int g = 0; g < model->ffn_groups; g++) router += model->ffn[g].layers * model->ffn[g].router_parameters;
    return plan_attention_parameters(model) + plan_ffn_parameters(model) + router + (model->tied_embeddings ? 1.0 : 2.0) * model->vocab * model->hidden;
}

double plan_flop_rate(const plan_hardware *hardware, bool bf16) { return bf16 || hardware->fp8 <= 0 ? hardware->bf16 : hardware->fp8; }

double plan_attention_side_bytes(const plan_model *model, const plan_precision *precision)
{
    double router = 0;
    for (int g = 0; g < model->ffn_groups; g++) router += 2 * model->ffn[g].layers * model->ffn[g].router_parameters;
    return router + plan_attention_parameters(model) * plan_weight_bytes(model->attention_weight_bytes, precision->attention_weight_bytes) +
           (model->tied_embeddings ? 1.0 : 2.0) * model->vocab * model->hidden * plan_weight_bytes(model->head_weight_bytes, precision->head_weight_bytes);
}

double plan_attention_usd(const plan_token *token, const plan_precision *precision, const plan_hardware *hardware)
{
    double usd_second = hardware->usd_hour / 3600, core = usd_second / plan_flop_rate(hardware, precision->attention_bf16), linear = usd_second / plan_flop_rate(hardware, precision->linear_bf16);
    return 1e6 * (fmax(token->core_flops * core, token->kv_bytes * usd_second / hardware->bandwidth) + token->linear_flops * linear);
}

double plan_ffn_usd(const plan_token *token, const plan_precision *precision, const plan_hardware *hardware)
{
    return 1e6 * token->ffn_flops * hardware->usd_hour / 3600 / plan_flop_rate(hardware, precision->linear_bf16);
}

double plan_experts_touched(double experts, double k, double tokens)
{
    if (experts <= 0) return 0;
    return experts * -expm1(tokens * log1p(-fmin(k / experts, 1 - 1e-12)));
}

void plan_step_work(const plan_model *model, const plan_precision *precision, double batch, double context, double *bytes, double *flops)
{
    plan_token t = plan_token_cost(model, precision, context, false);
    double attention_byte = plan_weight_bytes(model->attention_weight_bytes, precision->attention_weight_bytes), ffn_byte = plan_weight_bytes(model->ffn_weight_bytes, precision->ffn_weight_bytes);
    double head_byte = plan_weight_bytes(model->head_weight_bytes, precision->head_weight_bytes);
    double b = batch * t.kv_bytes + attention_byte * plan_attention_parameters(model) + head_byte * model->vocab * model->hidden;
    for (int g = 0; g < model->ffn_groups; g++) {
        const plan_ffn *f = &model->ffn[g];
        b += ffn_byte * f->layers * (f->shared_parameters + f->expert_parameters * plan_experts_touched(f->experts, f->top_k, batch));
    }
    *bytes = b;
    *flops = batch * (t.core_flops + t.linear_flops + t.ffn_flops + t.head_flops);
}

void plan_prompt_work(const plan_model *model, const plan_precision *precision, double batch, double context, double *bytes, double *flops)
{
    const double piece = 512;
    double once, unused, tokens = batch * context;
    plan_token t = plan_token_cost(model, precision, context / 2, false);
    plan_step_work(model, precision, fmin(tokens, piece), 0, &once, &unused);
    *bytes = once * ceil(tokens / piece) + batch * t.kv_cache_bytes * ceil(context / piece);
    *flops = tokens * (t.core_flops + t.linear_flops + t.ffn_flops) + batch * t.head_flops;
}

/* ---- report ---- */

typedef struct { const char *part, *bound; double bytes, flops, intensity; } part;

static size_t parts_of(const plan_model *model, const plan_precision *p, double context, double batch, part *out)
{
    plan_token t = plan_token_cost(model, p, context, false);
    double ffn_bytes = 0, attention_byte = plan_weight_bytes(model->attention_weight_bytes, p->attention_weight_bytes), ffn_byte = plan_weight_bytes(model->ffn_weight_bytes, p->ffn_weight_bytes);
    double head_byte = plan_weight_bytes(model->head_weight_bytes, p->head_weight_bytes);
    for (int g = 0; g < model->ffn_groups; g++) {
        const plan_ffn *f = &model->ffn[g];
        ffn_bytes += ffn_byte * f->layers * (f->shared_parameters + f->expert_parameters * plan_experts_touched(f->experts, f->top_k, batch)) / batch;
    }
    size_t n = 0;
    out[n++] = (part){.part = "attention core", .bytes = t.kv_bytes, .flops = t.core_flops};
    out[n++] = (part){.part = "attention linear", .bytes = attention_byte * plan_attention_parameters(model) / batch, .flops = t.linear_flops};
    out[n++] = (part){.part = "FFN", .bytes = ffn_bytes, .flops = t.ffn_flops};
    out[n++] = (part){.part = "LM head", .bytes = head_byte * model->vocab * model->hidden / batch, .flops = t.head_flops};
    out[n++] = (part){.part = "wire", .bytes = model->layers * (double)model->hidden * (p->wire_out_bytes + p->wire_back_bytes)};
    for (size_t i = 0; i < n; i++) out[i].intensity = out[i].bytes > 0 ? out[i].flops / out[i].bytes : 0;
    return n;
}

/* Sequences whose caches fit beside the weights of the attention side in 90 % of a device's memory. */
static double sequences_in_memory(const plan_model *model, const plan_precision *p, const plan_token *t, const plan_hardware *w)
{
    return fmax(0, floor((0.9 * w->memory_bytes - plan_attention_side_bytes(model, p)) / t->kv_cache_bytes));
}

static void report_json(const plan_model *model, const plan_precision *p, double context, const part *parts, size_t n, const plan_hardware *const *hw, size_t count, td_buffer *out)
{
    plan_token t = plan_token_cost(model, p, context, false);
    td_buffer_text(out, "{\"model\":");
    td_buffer_json(out, model->name, strlen(model->name));
    td_buffer_format(out, ",\"context\":%.0f,\"parameters\":%.6g,\"active_parameters\":%.6g,\"attention_parameters\":%.6g,\"ffn_parameters\":%.6g,\"kv_cache_bytes\":%.9g,\"parts\":[", context,
                     plan_total_parameters(model), plan_active_parameters(model), plan_attention_parameters(model), plan_ffn_parameters(model), t.kv_cache_bytes);
    for (size_t i = 0; i < n; i++)
        td_buffer_format(out, "%s{\"part\":\"%s\",\"bytes\":%.9g,\"flops\":%.9g,\"intensity\":%.6g}", i ? "," : "", parts[i].part, parts[i].bytes, parts[i].flops, parts[i].intensity);
    td_buffer_text(out, "],\"hardware\":[");
    for (size_t h = 0; h < count; h++)
        td_buffer_format(out, "%s{\"name\":\"%s\",\"roofline\":%.6g,\"attention_usd\":%.6g,\"ffn_usd\":%.6g,\"attention_bound\":\"%s\",\"sequences_in_memory\":%.0f}", h ? "," : "", hw[h]->name,
                         plan_flop_rate(hw[h], p->attention_bf16) / hw[h]->bandwidth, plan_attention_usd(&t, p, hw[h]), plan_ffn_usd(&t, p, hw[h]),
                         parts[0].intensity > plan_flop_rate(hw[h], p->attention_bf16) / hw[h]->bandwidth ? "compute" : "memory",
                         sequences_in_memory(model, p, &t, hw[h]));
    td_buffer_text(out, "]}\n");
}

td_status plan_cost_report(const plan_model *model, const plan_precision *precision, double context, const plan_hardware *const *hardware, size_t count, bool json, td_buffer *out)
{
    enum { BATCH = 256 };
    part parts[8];
    size_t n = parts_of(model, precision, context, BATCH, parts);
    plan_token t = plan_token_cost(model, precision, context, false);
    if (json) {
        report_json(model, precision, context, parts, n, hardware, count, out);
        return td_buffer_status(out);
    }
    td_buffer kinds = {0};
    plan_model_kinds(model, &kinds);
    td_buffer_format(out, "%s: %.1f B parameters (attention %.1f B, FFN %.1f B), %.1f B active a token; %d layers, %s\n", model->name, plan_total_parameters(model) / 1e9,
                     plan_attention_parameters(model) / 1e9, plan_ffn_parameters(model) / 1e9, plan_active_parameters(model) / 1e9, model->layers, kinds.data ? kinds.data : "");
    td_buffer_free(&kinds);
    td_buffer_format(out, "one decoded token at context %.0f (weights read once for a batch of %d); cache of one sequence %.3f GB\n\n", context, (int)BATCH, t.kv_cache_bytes / 1e9);
    td_buffer_text(out, "  part                   bytes       FLOPs   FLOP/byte");
    for (size_t h = 0; h < count; h++) td_buffer_format(out, "   %-14s", hardware[h]->name);
    td_buffer_text(out, "\n");
    for (size_t i = 0; i < n; i++) {
        td_buffer_format(out, "  %-17s %10.3g  %10.3g  %10.1f", parts[i].part, parts[i].bytes, parts[i].flops, parts[i].intensity);
        for (size_t h = 0; h < count; h++) {
            const plan_hardware *w = hardware[h];
            double rate = plan_flop_rate(w, i == 0 ? precision->attention_bf16 : precision->linear_bf16), pace = i == 4 ? w->nic : w->bandwidth;
            double by_bytes = parts[i].bytes / pace, by_flops = parts[i].flops / rate;
            td_buffer_format(out, "   %7.1f us %-4s", 1e6 * fmax(by_bytes, by_flops), i == 4 ? "wire" : by_bytes > by_flops ? "mem" : "comp");
        }
        td_buffer_text(out, "\n");
    }
    td_buffer_text(out, "\n  at ideal hardware    roofline   attention USD/1M   FFN USD/1M   sequences in memory (attention side, 90 %)\n");
    for (size_t h = 0; h < count; h++)
        td_buffer_format(out, "  %-18s %9.0f   %16.4f   %10.4f   %.0f\n", hardware[h]->name, plan_flop_rate(hardware[h], precision->attention_bf16) / hardware[h]->bandwidth,
                         plan_attention_usd(&t, precision, hardware[h]), plan_ffn_usd(&t, precision, hardware[h]), sequences_in_memory(model, precision, &t, hardware[h]));
    return td_buffer_status(out);
}
