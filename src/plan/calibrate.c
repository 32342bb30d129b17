/*
 * calibrate.c - fits the time of a step to measured rows: non-negative least squares on relative errors, one fit per phase, weight type and deployment; the
 * error bar is what the fit gets wrong on rows it has not seen (each left out in turn).
 */
#include "plan/calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sort.h"
#include "base/threads.h"

enum { WIRE = 6 };

static void features(const plan_measured *r, double x[PLAN_FEATURES])
{
    double t = fmax(r->threads, 1);
    double values[PLAN_FEATURES] = {1, r->batch, r->bytes, r->bytes / t, r->flops, r->flops / t, r->wire_s, r->product_s, r->layers, r->row_elements / t, r->visits, r->logits};
    memcpy(x, values, sizeof values);
}

double plan_fit_seconds(const plan_fit *fit, const plan_measured *what)
{
    double x[PLAN_FEATURES], sum = 0;
    features(what, x);
    for (int i = 0; i < PLAN_FEATURES; i++) sum += fit->c[i] * x[i];
    return sum;
}

/* ---- curves ---- */

/* The curve of a type for a number of threads; NULL and *other when there are only other numbers of threads. */
static const plan_curve *curve_for(const plan_calibration *c, const char *dtype, int threads, const plan_curve **other)
{
    *other = NULL;
    for (int i = 0; i < c->curve_count; i++) {
        if (strcmp(c->curves[i].dtype, dtype)) continue;
        if (c->curves[i].threads == threads) return &c->curves[i];
        *other = &c->curves[i];
    }
    return NULL;
}

td_status plan_measured_work(const plan_model *model, const plan_precision *precision, const char *phase, const char *dtype, const plan_calibration *curves, plan_measured *what)
{
    const double piece = 512; /* prompt tokens of a step */
    bool decode = !strcmp(phase, "decode");
    const plan_curve *other, *curve = curve_for(curves, dtype, (int)what->threads, &other);
    what->visits = 0;
    double tokens = decode ? what->batch : what->batch * what->context, steps = decode ? 1 : ceil(tokens / piece);
    plan_precision p = *precision;
    plan_model m = *model;
    if (!curve && other) return td_fail(TD_E_NOT_FOUND, "calibration: expected the curve of %s with %.0f threads, found it with %d", dtype, what->threads, other->threads);
    what->layers = steps * m.layers;
    what->row_elements = tokens * m.layers * m.hidden;
    what->logits = what->batch * m.vocab;
    for (int g = 0; g < m.ffn_groups; g++) what->visits += steps * m.ffn[g].layers * plan_experts_touched(m.ffn[g].experts, m.ffn[g].top_k, tokens / steps);
    if (curve) { /* weights are in the curve */
        double full = decode ? 0 : floor(tokens / piece), last = tokens - full * piece;
        what->product_s = full * plan_curve_seconds(curve, &m, piece, 0) + (last > 0 ? plan_curve_seconds(curve, &m, last, 0) : 0) + plan_curve_at(curve, what->batch) * m.vocab * m.hidden;
        p.attention_weight_bytes = p.ffn_weight_bytes = p.head_weight_bytes = 0;
        m.attention_weight_bytes = m.ffn_weight_bytes = m.head_weight_bytes = 0;
    }
    if (decode) plan_step_work(&m, &p, what->batch, what->context, &what->bytes, &what->flops);
    else plan_prompt_work(&m, &p, what->batch, what->context, &what->bytes, &what->flops);
    if (curve) what->flops = tokens * plan_token_cost(&m, &p, decode ? what->context : what->context / 2, false).core_flops;
    return TD_OK;
}

/* ---- rows ---- */

static bool number(const cJSON *row, const char *key, double low, double high, double *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, key);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high)) return false;
    *out = item->valuedouble;
    return true;
}

static const char *word(const cJSON *row, const char *key, const char *fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, key);
    return cJSON_IsString(item) && strlen(item->valuestring) < 64 && !strpbrk(item->valuestring, "|\"\\\n") ? item->valuestring : fallback;
}

static td_status row_read(const char *path, int index, const cJSON *row, const plan_precision *precision, const plan_calibration *curves, plan_measured *out)
{
    plan_measured r = {.threads = 1};
    double rate;
    static const char *const needed[] = {"batch", "context", "threads", "tokens_per_s"};
    double *into[] = {&r.batch, &r.context, &r.threads, &rate};
    for (int i = 0; i < 4; i++)
        if (!number(row, needed[i], i < 3 ? 0 : 1e-9, 1e12, into[i])) return td_fail(TD_E_FORMAT, "file %s row %d: expected '%s' as a number %s", path, index + 1, needed[i], i < 3 ? "of at least 0" : "above 0");
    const char *phase = word(row, "phase", "decode");
    if (strcmp(phase, "decode") && strcmp(phase, "prefill")) return td_fail(TD_E_FORMAT, "file %s row %d: expected phase decode or prefill, found '%s'", path, index + 1, phase);
    if (r.batch < 1 || r.threads < 1 || (r.context < 1 && !strcmp(phase, "prefill"))) return td_fail(TD_E_FORMAT, "file %s row %d: expected batch, threads (and context of a prefill) of at least 1", path, index + 1);
    snprintf(r.key, sizeof r.key, "%.8s|%.24s|%.40s", phase, word(row, "dtype", "any"), word(row, "deployment", "colocated"));
    r.phase_tokens = strcmp(phase, "decode") ? r.batch * r.context : r.batch;
    r.seconds = r.phase_tokens / rate;
    number(row, "wire_s_per_step", 0, 1e6, &r.wire_s);
    double link_us = 0;
    plan_model model;
    if (plan_model_find(word(row, "model", "?"), &model) == TD_OK) { /* the same arithmetic as a later prediction */
        TD_TRY(plan_measured_work(&model, precision, phase, word(row, "dtype", "any"), curves, &r));
        if (number(row, "link_us", 0, 1e9, &link_us)) r.wire_s = 2e-6 * link_us * model.layers; /* out and back, every layer */
    } else if (!number(row, "bytes_per_step", 0, 1e18, &r.bytes) || !number(row, "flops_per_step", 0, 1e21, &r.flops))
        return td_context(TD_E_FORMAT, "file %s row %d: no bytes_per_step and flops_per_step, and its model cannot be read", path, index + 1);
    *out = r;
    return TD_OK;
}

static bool curve_read(const cJSON *item, plan_curve *c)
{
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(item, "rows"), *seconds = cJSON_GetObjectItemCaseSensitive(item, "seconds_per_weight");
    const char *dtype = word(item, "dtype", "");
    double threads;
    c->count = cJSON_GetArraySize(rows);
    if (strlen(dtype) < 2 || strlen(dtype) >= sizeof c->dtype || !number(item, "threads", 1, 4096, &threads) || c->count < 1 || c->count > PLAN_CURVE_POINTS_MAX || cJSON_GetArraySize(seconds) != c->count) return false;
    snprintf(c->dtype, sizeof c->dtype, "%s", dtype);
    c->threads = (int)threads;
    for (int i = 0; i < c->count; i++) {
        const cJSON *r = cJSON_GetArrayItem(rows, i), *s = cJSON_GetArrayItem(seconds, i);
        if (!cJSON_IsNumber(r) || !cJSON_IsNumber(s) || !(r->valuedouble >= 1 && r->valuedouble <= 1e9) || !(s->valuedouble > 0 && s->valuedouble < 1) || (i && r->valuedouble <= c->rows[i - 1])) return false;
        c->rows[i] = r->valuedouble, c->seconds[i] = s->valuedouble;
    }
    return true;
}

/* "curves" of a rows file or a calibration; none is fine. */
static td_status curves_read(const char *path, const cJSON *root, plan_calibration *out)
{
    const cJSON *list = cJSON_IsObject(root) ? cJSON_GetObjectItemCaseSensitive(root, "curves") : NULL, *item;
    out->curve_count = 0;
    if (!list) return TD_OK;
    if (!cJSON_IsArray(list)) return td_fail(TD_E_FORMAT, "file %s: expected \"curves\" to be a list, found something else", path);
    cJSON_ArrayForEach(item, list)
        if (out->curve_count == PLAN_CURVES_MAX || !curve_read(item, &out->curves[out->curve_count++]))
            return td_fail(TD_E_FORMAT, "file %s: expected at most %d curves of 'dtype', 'threads', ascending 'rows' and 'seconds_per_weight', found a curve %d that is not one", path, (int)PLAN_CURVES_MAX, out->curve_count);
    return TD_OK;
}

td_status plan_measured_read(const char *path, const plan_precision *precision, plan_calibration *curves, plan_measured **out, int *count)
{
    char *text;
    size_t bytes;
    TD_TRY(td_file_read(path, 64 << 20, &text, &bytes));
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    free(text);
    const cJSON *list = cJSON_IsArray(root) ? root : cJSON_GetObjectItemCaseSensitive(root, "rows"), *row;
    int n = cJSON_GetArraySize(list), i = 0;
    td_status status = curves_read(path, root, curves);
    plan_measured *rows = NULL;
    if (status < 0) {}
    else if (!cJSON_IsArray(list) || n < 1 || n > PLAN_ROWS_MAX) status = td_fail(TD_E_FORMAT, "file %s: expected a JSON list of 1 to %d measured rows (docs/planning.md)", path, (int)PLAN_ROWS_MAX);
    else if (!(rows = calloc((size_t)n, sizeof *rows))) status = td_fail(TD_E_MEMORY, "no memory for %d rows", n);
    else
        cJSON_ArrayForEach(row, list) {
            if (status < 0) break;
            status = row_read(path, i, row, precision, curves, &rows[i]);
            i++;
        }
    cJSON_Delete(root);
    if (status < 0) {
        free(rows);
        return status;
    }
    *out = rows;
    *count = n;
    return TD_OK;
}

/* ---- fit ---- */

/* Minimises sum ((c . x) / seconds - 1)^2 over c >= 0 by coordinate descent; columns are scaled so that their size does not matter. */
static void solve(const plan_measured *rows, const int *use, int n, int skip, double c[PLAN_FEATURES])
{
    double gram[PLAN_FEATURES][PLAN_FEATURES] = {{0}}, target[PLAN_FEATURES] = {0}, scale[PLAN_FEATURES] = {0};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            if (i == skip) continue;
            double x[PLAN_FEATURES];
            features(&rows[use[i]], x);
            for (int a = 0; a < PLAN_FEATURES; a++) {
                x[a] /= rows[use[i]].seconds;
                if (pass == 0) scale[a] += x[a] * x[a];
            }
            if (pass == 0) continue;
            for (int a = 0; a < PLAN_FEATURES; a++) {
                double xa = scale[a] > 0 ? x[a] / sqrt(scale[a]) : 0;
                target[a] += xa;
                for (int b = 0; b < PLAN_FEATURES; b++) gram[a][b] += scale[b] > 0 ? xa * x[b] / sqrt(scale[b]) : 0;
            }
        }
    double z[PLAN_FEATURES] = {0};
    for (int round = 0; round < 20000; round++) {
        double moved = 0;
        for (int a = 0; a < PLAN_FEATURES; a++) {
            if (gram[a][a] <= 0) continue;
            double slope = target[a];
            for (int b = 0; b < PLAN_FEATURES; b++) slope -= gram[a][b] * z[b];
            double next = fmax(0, z[a] + slope / gram[a][a]);
            moved = fmax(moved, fabs(next - z[a]));
            z[a] = next;
        }
        if (moved < 1e-12) break;
    }
    for (int a = 0; a < PLAN_FEATURES; a++) c[a] = scale[a] > 0 ? z[a] / sqrt(scale[a]) : 0;
    if (scale[WIRE] <= 0) c[WIRE] = 1; /* no row had a delay: with one micro-batch it is waited for in full */
}

static td_status fit_key(const plan_measured *rows, const int *use, int n, plan_fit *out)
{
    enum { LEFT_OUT_MAX = 400 }; /* rows left out in turn, evenly spread: bounds the time */
    double errors[LEFT_OUT_MAX];
    int tried = 0;
    plan_fit f = {.rows = n, .bytes_low = INFINITY, .flops_low = INFINITY};
    snprintf(f.key, sizeof f.key, "%s", rows[use[0]].key);
    if (n < 6) return td_fail(TD_E_INVALID, "calibration of '%s': expected at least 6 measured rows (different batches, contexts and thread counts), found %d", f.key, n);
    for (int i = 0; i < n; i += TD_MAX(1, (n + LEFT_OUT_MAX - 1) / LEFT_OUT_MAX)) {
        plan_fit without = f;
        solve(rows, use, n, i, without.c);
        errors[tried++] = fabs(plan_fit_seconds(&without, &rows[use[i]]) / rows[use[i]].seconds - 1);
    }
    td_sort(errors, tried);
    for (int i = 0; i < tried; i++) f.error_mean += errors[i] / tried;
    f.error_p90 = errors[(int)(0.9 * (tried - 1) + 0.5)];
    f.error_max = errors[tried - 1];
    solve(rows, use, n, -1, f.c);
    for (int i = 0; i < n; i++) {
        const plan_measured *r = &rows[use[i]];
        f.bytes_low = fmin(f.bytes_low, r->bytes), f.bytes_high = fmax(f.bytes_high, r->bytes);
        f.flops_low = fmin(f.flops_low, r->flops), f.flops_high = fmax(f.flops_high, r->flops);
    }
    *out = f;
    return TD_OK;
}

td_status plan_calibrate(const plan_measured *rows, int count, plan_calibration *out)
{
    int *use = malloc((size_t)TD_MAX(1, count) * sizeof *use);
    bool *done = calloc((size_t)TD_MAX(1, count), sizeof *done);
    td_status status = use && done ? TD_OK : td_fail(TD_E_MEMORY, "no memory for %d rows", count);
    plan_calibration c = *out;
    c.count = 0;
    for (int i = 0; i < count && status == TD_OK; i++) {
        int n = 0;
        if (done[i]) continue;
        for (int k = i; k < count; k++)
            if (!strcmp(rows[k].key, rows[i].key)) use[n++] = k, done[k] = true;
        status = c.count == PLAN_FITS_MAX ? td_fail(TD_E_INVALID, "calibration: expected at most %d kinds of rows (phase, dtype, deployment)", (int)PLAN_FITS_MAX) : fit_key(rows, use, n, &c.fits[c.count]);
        c.count++;
    }
    free(use), free(done);
    if (status == TD_OK) *out = c;
    return status;
}

/* ---- the file ---- */

#define CALIBRATION_FORMAT "tandem-calibration-2"

void plan_curves_json(const plan_calibration *c, td_buffer *out)
{
    td_buffer_text(out, "[");
    for (int i = 0; i < c->curve_count; i++) {
        const plan_curve *v = &c->curves[i];
        td_buffer_format(out, "%s\n{\"dtype\":\"%s\",\"threads\":%d,\"rows\":[", i ? "," : "", v->dtype, v->threads);
        for (int k = 0; k < v->count; k++) td_buffer_format(out, "%s%.9g", k ? "," : "", v->rows[k]);
        td_buffer_text(out, "],\"seconds_per_weight\":[");
        for (int k = 0; k < v->count; k++) td_buffer_format(out, "%s%.5g", k ? "," : "", v->seconds[k]);
        td_buffer_text(out, "]}");
    }
    td_buffer_text(out, "]");
}

static void calibration_json(const plan_calibration *c, const char *from, td_buffer *out)
{
    td_buffer_format(out, "{\"format\":\"%s\",\"cores\":%d,\"from\":", CALIBRATION_FORMAT, td_cores_usable());
    td_buffer_json(out, from, strlen(from));
    td_buffer_text(out, ",\"features\":[\"1\",\"batch\",\"bytes\",\"bytes/threads\",\"flops\",\"flops/threads\",\"wire_s\",\"product_s\",\"layers\",\"row_elements/threads\",\"visits\",\"logits\"],\"curves\":");
    plan_curves_json(c, out);
    td_buffer_text(out, ",\"fits\":[");
    for (int i = 0; i < c->count; i++) {
        const plan_fit *f = &c->fits[i];
        td_buffer_text(out, i ? ",\n{\"key\":" : "\n{\"key\":");
        td_buffer_json(out, f->key, strlen(f->key));
        td_buffer_format(out, ",\"rows\":%d,\"error_mean\":%.6g,\"error_p90\":%.6g,\"error_max\":%.6g,\"bytes\":[%.9g,%.9g],\"flops\":[%.9g,%.9g],\"coefficients\":[", f->rows, f->error_mean, f->error_p90, f->error_max, f->bytes_low,
                         f->bytes_high, f->flops_low, f->flops_high);
        for (int k = 0; k < PLAN_FEATURES; k++) td_buffer_format(out, "%s%.12g", k ? "," : "", f->c[k]);
        td_buffer_text(out, "]}");
    }
    td_buffer_text(out, "]}\n");
}

td_status plan_calibration_write(const char *path, const plan_calibration *calibration, const char *from)
{
    td_buffer text = {0};
    td_writer writer;
    calibration_json(calibration, from, &text);
    td_status status = td_buffer_status(&text);
    if (status == TD_OK) status = td_writer_open(path, &writer);
    if (status == TD_OK) {
        status = td_writer_put(&writer, text.data, text.bytes);
        if (status == TD_OK) status = td_writer_commit(&writer);
        else td_writer_discard(&writer);
    }
    td_buffer_free(&text);
    return status;
}

static bool pair(const cJSON *item, const char *key, double *low, double *high)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(item, key), *a = cJSON_GetArrayItem(list, 0), *b = cJSON_GetArrayItem(list, 1);
    if (!cJSON_IsNumber(a) || !cJSON_IsNumber(b)) return false;
    *low = a->valuedouble, *high = b->valuedouble;
    return true;
}

static bool fit_read(const cJSON *item, plan_fit *f)
{
    const cJSON *key = cJSON_GetObjectItemCaseSensitive(item, "key"), *list = cJSON_GetObjectItemCaseSensitive(item, "coefficients");
    double rows;
    if (!cJSON_IsString(key) || strlen(key->valuestring) >= sizeof f->key || cJSON_GetArraySize(list) != PLAN_FEATURES || !number(item, "rows", 1, 1e9, &rows)) return false;
    snprintf(f->key, sizeof f->key, "%s", key->valuestring);
    f->rows = (int)rows;
    for (int k = 0; k < PLAN_FEATURES; k++) {
        const cJSON *c = cJSON_GetArrayItem(list, k);
        if (!cJSON_IsNumber(c) || !(c->valuedouble >= 0 && isfinite(c->valuedouble))) return false;
        f->c[k] = c->valuedouble;
    }
    return number(item, "error_mean", 0, 1e9, &f->error_mean) && number(item, "error_p90", 0, 1e9, &f->error_p90) && number(item, "error_max", 0, 1e9, &f->error_max) && pair(item, "bytes", &f->bytes_low, &f->bytes_high) &&
           pair(item, "flops", &f->flops_low, &f->flops_high);
}

td_status plan_calibration_read(const char *path, plan_calibration *out)
{
    char *text;
    size_t bytes;
    TD_TRY(td_file_read(path, 1 << 20, &text, &bytes));
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    free(text);
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format"), *fits = cJSON_GetObjectItemCaseSensitive(root, "fits"), *item;
    plan_calibration c = {.count = 0};
    bool good = cJSON_IsString(format) && !strcmp(format->valuestring, CALIBRATION_FORMAT) && cJSON_IsArray(fits) && cJSON_GetArraySize(fits) >= 1 && cJSON_GetArraySize(fits) <= PLAN_FITS_MAX;
    if (good)
        cJSON_ArrayForEach(item, fits) good = good && fit_read(item, &c.fits[c.count++]);
    td_status curves = curves_read(path, root, &c);
    cJSON_Delete(root);
    if (!good) return td_fail(TD_E_FORMAT, "file %s: expected a calibration (\"format\":\"%s\") as 'tandem plan --calibrate' writes it", path, CALIBRATION_FORMAT);
    TD_TRY(curves);
    *out = c;
    return TD_OK;
}

td_status plan_calibration_report(const plan_calibration *calibration, bool json, td_buffer *out)
{
    if (json) {
        calibration_json(calibration, "", out);
        return td_buffer_status(out);
    }
    static const int shown[] = {1, 2, 4, 8, 16, 64, 512};
    td_buffer_format(out, "  %-34s %5s   error of rows left out in turn: mean, p90, largest\n", "phase|dtype|deployment", "rows");
    for (int i = 0; i < calibration->count; i++) {
        const plan_fit *f = &calibration->fits[i];
        td_buffer_format(out, "  %-34s %5d   %6.1f %% %6.1f %% %6.1f %%\n", f->key, f->rows, 100 * f->error_mean, 100 * f->error_p90, 100 * f->error_max);
    }
    if (calibration->curve_count) td_buffer_text(out, "\n  products, ns per 1000 weights at 1, 2, 4, 8, 16, 64, 512 rows\n");
    for (int i = 0; i < calibration->curve_count; i++) {
        const plan_curve *c = &calibration->curves[i];
        td_buffer_format(out, "  %-6s %d threads  ", c->dtype, c->threads);
        for (size_t k = 0; k < TD_COUNT(shown); k++) td_buffer_format(out, " %9.1f", 1e12 * plan_curve_at(c, shown[k]));
        td_buffer_text(out, "\n");
    }
    return td_buffer_status(out);
}
