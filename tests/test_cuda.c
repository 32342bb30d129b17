/*
 * test_cuda.c - the operations of kernel/cuda against arithmetic in double and against the plain CPU kernels, on random shapes with poisoned outputs.
 *
 * Compiled twice: with the emulation of tests/cuda_host (TD_CUDA_HOST: on every machine with a C++ compiler; also in three orders of threads), and, where nvcc is
 * present, for the device. TD_SEED=n repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "attention/router.h"
#include "base/random.h"
#include "kernel/cuda/cuda.h"

#ifdef TD_CUDA_HOST
void cuda_host_order(unsigned order);
void cuda_host_devices(int count);
size_t cuda_host_memory(void);
#endif

static uint64_t seed;
static td_cuda *cuda;
static const td_kernel *ref;

#define OK(call) do { if ((call) < 0) fail_msg("%s: %s (TD_SEED=%llu)", #call, td_error(), (unsigned long long)seed); } while (0)
static int pick_int(td_random *r, const int *from, size_t count) { return from[td_random_between(r, 0, (int64_t)count - 1)]; }
#define PICK(r, ...) pick_int((r), (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static float *floats(td_random *r, size_t n, double scale)
{
    float *x = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++) x[i] = (float)((td_random_next_unit(r) * 2 - 1) * scale);
    return x;
}

static void *to_device(const void *data, size_t bytes)
{
    void *out;
    OK(td_cuda_new(cuda, bytes, &out));
    OK(td_cuda_upload(cuda, out, data, bytes));
    OK(td_cuda_finish(cuda));
    return out;
}
/* Device memory full of NaN. */
static void *poison(size_t bytes)
{
    void *data = malloc(bytes + 1), *out;
    memset(data, 0xFF, bytes);
    out = to_device(data, bytes);
    free(data);
    return out;
}
static void *from_device(const void *data, size_t bytes)
{
    void *out = malloc(bytes + 1);
    OK(td_cuda_download(cuda, out, data, bytes));
    OK(td_cuda_finish(cuda));
    return out;
}

/* |a - b| / |b| over all elements; a NaN anywhere gives NaN. */
static double distance(const float *a, const double *b, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) d += (a[i] - b[i]) * (a[i] - b[i]), s += b[i] * b[i];
    return sqrt(d / (s + 1e-300));
}
static void near(const char *what, const float *a, const double *b, size_t n, double bound)
{
    double d = distance(a, b, n);
    if (d <= bound) return;
    size_t worst = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= fabs(a[worst] - b[worst]))) worst = i;
    fail_msg("%s: expected a relative distance of at most %g, found %g; element %zu of %zu is %g, expected %g (TD_SEED=%llu)", what, bound, d, worst, n, a[worst], b[worst], (unsigned long long)seed);
}

/* Each element within what rounding the activations may do to it at most: allowed [n]. */
static void near_rounded(const char *what, const float *a, const double *b, const double *allowed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= allowed[i])) fail_msg("%s: element %zu of %zu is %g, expected %g within %g (TD_SEED=%llu)", what, i, n, a[i], b[i], allowed[i], (unsigned long long)seed);
}

/* ---- weights and rows ------------------------------------------------------------------------------------------------------------------ */

typedef struct { td_tensor t; void *data; float *scale; double *values; } weights;

static weights random_weights(td_random *r, td_dtype type, int64_t out, int64_t k)
{
    weights w = {.data = malloc(td_dtype_row_bytes(type, k) * (size_t)out + 1), .values = malloc((size_t)(out * k) * sizeof(double))};
    int64_t blocks_k = (k + 127) / 128;
    float *row = malloc((size_t)k * sizeof(float));
    if (type == TD_F8_E4M3) {
        w.scale = floats(r, (size_t)((out + 127) / 128 * blocks_k), 0.01);
        for (int64_t i = 0; i < (out + 127) / 128 * blocks_k; i++) w.scale[i] = fabsf(w.scale[i]) + 0.001f;
    }
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < k; i++) row[i] = (float)((td_random_next_unit(r) * 2 - 1) * (type == TD_F8_E4M3 ? 100 : 1));
        char *at = (char *)w.data + (size_t)o * td_dtype_row_bytes(type, k);
        td_quantise_row(type, row, at, k);
        td_dequantise_row(type, at, row, k);
        for (int64_t i = 0; i < k; i++) w.values[o * k + i] = (double)row[i] * (w.scale ? (double)w.scale[o / 128 * blocks_k + i / 128] : 1);
    }
    free(row);
    w.t = (td_tensor){.type = type, .dims = 2, .shape = {out, k}, .data = w.data, .scale = w.scale};
    return w;
}
static void free_weights(weights *w) { free(w->data), free(w->scale), free(w->values); }

/* What a td_cuda_rows holds, as doubles [rows, k]; the padding must be zero. */
static double *read_rows(const td_cuda_rows *h, int rows)
{
    size_t element = h->form == TD_CUDA_F8 ? 1 : 2, plane = (size_t)h->rows_max * (size_t)h->stride;
    unsigned char *data = from_device(h->data, plane * element * (size_t)td_cuda_planes(h->form));
    float *scale = h->form == TD_CUDA_F8 ? from_device(h->scale, plane / 128 * 4) : NULL;
    double *out = malloc((size_t)rows * (size_t)h->k * sizeof(double) + 1);
    for (int r = 0; r < rows; r++)
        for (int64_t i = 0; i < h->stride; i++) {
            size_t at = (size_t)r * (size_t)h->stride + (size_t)i;
            uint16_t bits[2];
            double v;
            memcpy(&bits[0], data + at * 2 * (element == 2), 2);
            memcpy(&bits[1], data + (at + plane) * 2 * (h->form == TD_CUDA_BF16X2), 2);
            if (h->form == TD_CUDA_F8) v = (double)td_f8e4m3_to_f32(data[at]) * (double)scale[at / 128];
            else v = (double)td_bf16_to_f32(bits[0]) + (h->form == TD_CUDA_BF16X2 ? (double)td_bf16_to_f32(bits[1]) : 0);
            if (i < h->k) out[r * h->k + i] = v;
            else assert_true(v == 0);
        }
    free(data), free(scale);
    return out;
}

/* What rounding a term's factors changes at most, relatively: the activation to BF16 (8 significant bits) or E4M3 (4); in two BF16 both factors (16), and the product of the low parts is left out. */
static double unit_roundoff(td_cuda_form form) { return form == TD_CUDA_F8 ? 0x1p-4 : form == TD_CUDA_BF16 ? 0x1p-8 : 3 * 0x1p-16; }
/* What one rounding may change at v: relative, and in E4M3 below its normals half a step of the block's scale. largest: of the block of 128. */
static double rounding_at(td_cuda_form form, double v, double largest) { return fabs(v) * unit_roundoff(form) + (form == TD_CUDA_F8 ? largest / 448 / 1024 : 0); }
/* What f32 sums of k terms may be off, relative to the sum of magnitudes: one rounding a term at most; in two BF16 the weight's rounding and the low parts' product, too. */
static double sum_roundoff(td_cuda_form form, int64_t k) { return (double)(k + 16) * 0x1p-24 + (form == TD_CUDA_BF16X2 ? 2 * 0x1p-16 : 0); }

/* ---- products ---------------------------------------------------------------------------------------------------------------------------- */

/* With rows of the device's own rounding the result is within f32 sums; against unrounded rows within what the form loses. */
static void check_product(uint64_t round)
{
    td_random r = {.seed = seed * 7919 + round};
    td_dtype type = (td_dtype)PICK(&r, TD_BF16, TD_F8_E4M3, TD_F32, TD_Q8_0, TD_F16);
    int rows = PICK(&r, 1, 3, 8, 15, 16, 17, 33, 64, 70), heads = PICK(&r, 1, 1, 1, 3);
    int64_t out = PICK(&r, 1, 8, 17, 40, 256, 257, 300), k = type == TD_Q8_0 ? 32 * PICK(&r, 1, 3, 8, 33) : PICK(&r, 1, 8, 63, 64, 65, 128, 200, 576, 1100);
    bool add = PICK(&r, 0, 1), with_bias = heads == 1 && PICK(&r, 0, 1);
    weights w[3];
    td_tensor t[3];
    for (int i = 0; i < heads; i++) w[i] = random_weights(&r, type, out, k), t[i] = w[i].t;
    td_cuda_matrix m;
    OK(td_cuda_matrix_load(cuda, t, NULL, heads, &m));
    int64_t step = heads > 1 ? td_cuda_padded(m.form, k) : 0, width = heads > 1 ? heads * step : k, y_stride = out * heads + 5;
    td_cuda_rows x;
    OK(td_cuda_rows_new(cuda, m.form, rows + 2, width, &x));
    float *plain = floats(&r, (size_t)(rows * width), 3), *bias = floats(&r, (size_t)out, 1), *before = floats(&r, (size_t)(rows * y_stride), 1);
    if (heads > 1) /* between heads: zeros, as padding is */
        for (int64_t i = 0; i < rows * width; i++) plain[i] = i % step < k ? plain[i] : 0;
    void *d_plain = to_device(plain, (size_t)(rows * width) * 4), *d_bias = to_device(bias, (size_t)out * 4), *y = add ? to_device(before, (size_t)(rows * y_stride) * 4) : poison((size_t)(rows * y_stride) * 4);
    OK(td_cuda_norm(cuda, d_plain, width, rows, NULL, -1, &x, NULL));
    td_cuda_product p = {.w = &m, .x = &x, .rows = rows, .then = add ? TD_CUDA_ADD : TD_CUDA_STORE, .bias = with_bias ? d_bias : NULL, .y = y, .y_stride = y_stride, .x_step = step, .y_step = out};
    OK(td_cuda_linear(cuda, &p));
    float *got = from_device(y, (size_t)(rows * y_stride) * 4), *packed = malloc((size_t)(rows * out) * 4);
    double *rounded = read_rows(&x, rows), *expected = malloc((size_t)(rows * out) * sizeof(double)), *exact = malloc((size_t)(rows * out) * sizeof(double)), *allowed = calloc((size_t)(rows * out), sizeof(double)), *summing = calloc((size_t)(rows * out), sizeof(double));
    char what[128];
    double largest = 0;
    for (int i = 0; i < rows * width; i++) largest = fmax(largest, fabs(plain[i]));
    for (int head = 0; head < heads; head++) {
        for (int i = 0; i < rows; i++)
            for (int64_t o = 0; o < out; o++) {
                double slack = 0, magnitude = 0, a = (with_bias ? (double)bias[o] : 0) + (add ? (double)before[i * y_stride + head * out + o] : 0), b = a;
                for (int64_t j = 0; j < k; j++) {
                    a += w[head].values[o * k + j] * rounded[i * width + head * step + j];
                    double term = w[head].values[o * k + j] * (double)plain[i * width + head * step + j];
                    b += term, magnitude += fabs(w[head].values[o * k + j] * rounded[i * width + head * step + j]);
                    slack += fabs(term) * unit_roundoff(m.form) + (m.form == TD_CUDA_F8 ? fabs(w[head].values[o * k + j]) * largest / 448 / 1024 : 0); /* below E4M3's normals: half a step of the block's scale */
                }
                summing[i * out + o] = magnitude * sum_roundoff(m.form, k) + 1e-6 * fabs(a) + 1e-7;
                allowed[i * out + o] = slack * 1.001 + 1e-5 * (fabs(b) + slack) + 1e-6;
                expected[i * out + o] = a, exact[i * out + o] = b, packed[i * out + o] = got[i * y_stride + head * out + o];
            }
        snprintf(what, sizeof what, "product %s %lldx%lld, %d rows, head %d of %d%s%s", td_dtype_name(type), (long long)out, (long long)k, rows, head, heads, add ? ", added" : "", with_bias ? ", bias" : "");
        near_rounded(what, packed, expected, summing, (size_t)(rows * out));
        near_rounded(what, packed, exact, allowed, (size_t)(rows * out));
    }
    for (int i = 0; i < heads; i++) free_weights(&w[i]);
    free(plain), free(bias), free(before), free(got), free(packed), free(rounded), free(expected), free(exact), free(allowed), free(summing);
    td_cuda_delete(cuda, d_plain), td_cuda_delete(cuda, d_bias), td_cuda_delete(cuda, y);
    td_cuda_rows_free(cuda, &x), td_cuda_matrix_free(cuda, &m);
}

static void test_products(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 24; i++) check_product(i);
}

/* A row's bytes are the same alone, in any place of a batch of any size, and in any order of threads. */
static void test_product_batches(void **state)
{
    (void)state;
    for (int form = 0; form < 3; form++) {
        td_random r = {.seed = seed * 31 + (uint64_t)form};
        td_dtype type = form == TD_CUDA_F8 ? TD_F8_E4M3 : form == TD_CUDA_BF16 ? TD_BF16 : TD_F32;
        enum { ROWS = 70 };
        int64_t out = 70, k = 1300;
        weights w = random_weights(&r, type, out, k);
        td_cuda_matrix m;
        td_cuda_rows x;
        OK(td_cuda_matrix_load(cuda, &w.t, NULL, 1, &m));
        OK(td_cuda_rows_new(cuda, m.form, ROWS, k, &x));
        float *plain = floats(&r, (size_t)(ROWS * k), 3), *all = NULL;
        const int counts[] = {ROWS, 1, 7, 17, 33};
        for (int i = 0; i < 5; i++) {
            int rows = counts[i], first = i ? (int)td_random_between(&r, 0, ROWS - rows) : 0;
#ifdef TD_CUDA_HOST
            cuda_host_order((unsigned)i);
#endif
            void *d = to_device(plain + first * k, (size_t)(rows * k) * 4), *y = poison((size_t)(rows * out) * 4);
            OK(td_cuda_norm(cuda, d, k, rows, NULL, 1e-5f, &x, NULL));
            OK(td_cuda_linear(cuda, &(td_cuda_product){.w = &m, .x = &x, .rows = rows, .y = y, .y_stride = out}));
            float *got = from_device(y, (size_t)(rows * out) * 4);
            if (i == 0) all = got;
            else {
                if (memcmp(got, all + first * out, (size_t)(rows * out) * 4)) fail_msg("form %d: %d rows from %d differ from the same rows of a batch of %d (TD_SEED=%llu)", form, rows, first, (int)ROWS, (unsigned long long)seed);
                free(got);
            }
            td_cuda_delete(cuda, d), td_cuda_delete(cuda, y);
        }
#ifdef TD_CUDA_HOST
        cuda_host_order(0);
#endif
        free(all), free(plain), free_weights(&w);
        td_cuda_rows_free(cuda, &x), td_cuda_matrix_free(cuda, &m);
    }
}

/* ---- experts ----------------------------------------------------------------------------------------------------------------------------- */

static double silu(double g) { return g / (1 + exp(-g)); }

/* A whole MoE layer: group, gate and up with SwiGLU, down, weighted sum. Some experts are someone else's. */
static void check_experts(uint64_t round)
{
    td_random r = {.seed = seed * 104729 + round};
    td_dtype type = (td_dtype)PICK(&r, TD_BF16, TD_F8_E4M3, TD_Q8_0);
    enum { EXPERTS_MAX = 9 };
    int rows = PICK(&r, 1, 5, 20, 50), top_k = PICK(&r, 1, 3), here = PICK(&r, 1, 5, EXPERTS_MAX), first = PICK(&r, 0, 2), experts = first + here + PICK(&r, 0, 3);
    if (experts < top_k) top_k = experts;
    int64_t d = PICK(&r, 96, 288), hidden = PICK(&r, 32, 160);
    weights gate[EXPERTS_MAX], up[EXPERTS_MAX], down[EXPERTS_MAX];
    td_tensor tg[EXPERTS_MAX], tu[EXPERTS_MAX], td[EXPERTS_MAX];
    for (int e = 0; e < here; e++) {
        gate[e] = random_weights(&r, type, hidden, d), up[e] = random_weights(&r, type, hidden, d), down[e] = random_weights(&r, type, d, hidden);
        tg[e] = gate[e].t, tu[e] = up[e].t, td[e] = down[e].t;
    }
    td_cuda_matrix pair, out;
    OK(td_cuda_matrix_load(cuda, tg, tu, here, &pair));
    OK(td_cuda_matrix_load(cuda, td, NULL, here, &out));
    td_cuda_rows x, h;
    td_cuda_groups groups;
    OK(td_cuda_rows_new(cuda, pair.form, rows + 1, d, &x));
    OK(td_cuda_rows_new(cuda, out.form, (rows + 1) * top_k, hidden, &h));
    OK(td_cuda_groups_new(cuda, rows + 1, top_k, here, &groups));
    float *plain = floats(&r, (size_t)(rows * d), 0.5), *weight = floats(&r, (size_t)(rows * top_k), 1);
    int32_t *ids = malloc((size_t)(rows * top_k) * 4);
    for (int i = 0; i < rows; i++)
        for (int s = 0; s < top_k; s++) ids[i * top_k + s] = (int32_t)((td_random_next(&r) % 7 == 0 ? 0 : td_random_next(&r)) % (uint64_t)experts);
    void *d_plain = to_device(plain, (size_t)(rows * d) * 4), *d_ids = to_device(ids, (size_t)(rows * top_k) * 4), *d_weight = to_device(weight, (size_t)(rows * top_k) * 4);
    void *slots = poison((size_t)(rows * top_k * d) * 4), *y = poison((size_t)(rows * d) * 4);
    OK(td_cuda_norm(cuda, d_plain, d, rows, NULL, -1, &x, NULL));
    OK(td_cuda_group(cuda, d_ids, rows, first, &groups));
    OK(td_cuda_linear(cuda, &(td_cuda_product){.w = &pair, .x = &x, .rows = rows, .groups = &groups, .gather = true, .then = TD_CUDA_SWIGLU, .h = &h}));
    OK(td_cuda_linear(cuda, &(td_cuda_product){.w = &out, .x = &h, .rows = rows, .groups = &groups, .y = slots, .y_stride = d}));
    OK(td_cuda_combine(cuda, y, slots, groups.slot_row, d_weight, rows, top_k, NULL, d));
    float *got = from_device(y, (size_t)(rows * d) * 4);
    double *rounded = read_rows(&x, rows), *expected = calloc((size_t)(rows * d), sizeof(double)), *allowed = malloc((size_t)(rows * d) * sizeof(double));
    double *hid = malloc((size_t)hidden * sizeof(double)), *off = malloc((size_t)hidden * sizeof(double)); /* a slot's hidden row, and what it may be off by */
    for (int i = 0; i < rows * d; i++) allowed[i] = 1e-7;
    for (int i = 0; i < rows; i++)
        for (int s = 0; s < top_k; s++) {
            int e = ids[i * top_k + s] - first;
            double scale = fabs((double)weight[i * top_k + s]);
            if (e < 0 || e >= here) continue;
            for (int64_t j = 0; j < hidden; j++) {
                double g = 0, u = 0, all_g = 0, all_u = 0;
                for (int64_t c = 0; c < d; c++) {
                    double a = gate[e].values[j * d + c] * rounded[i * d + c], b = up[e].values[j * d + c] * rounded[i * d + c];
                    g += a, u += b, all_g += fabs(a), all_u += fabs(b);
                }
                hid[j] = silu(g) * u;
                off[j] = (1.1 * fabs(u) * all_g + fabs(silu(g)) * all_u) * sum_roundoff(pair.form, d) + 1e-6 * fabs(hid[j]); /* silu's slope is at most 1.1 */
            }
            for (int64_t j = 0; j < hidden; j++) {
                double largest = 0;
                for (int64_t c = j / 128 * 128; c < TD_MIN(hidden, j / 128 * 128 + 128); c++) largest = fmax(largest, fabs(hid[c]) + off[c]);
                off[j] += rounding_at(out.form, fabs(hid[j]) + off[j], largest);
            }
            for (int64_t o = 0; o < d; o++) {
                double v = 0, all = 0, slack = 0;
                for (int64_t j = 0; j < hidden; j++) {
                    v += down[e].values[o * hidden + j] * hid[j];
                    all += fabs(down[e].values[o * hidden + j] * hid[j]), slack += fabs(down[e].values[o * hidden + j]) * off[j];
                }
                expected[i * d + o] += (double)weight[i * top_k + s] * v;
                allowed[i * d + o] += scale * (slack + all * sum_roundoff(out.form, hidden) + 1e-6 * fabs(v));
            }
        }
    char what[128];
    snprintf(what, sizeof what, "experts %s, %d rows, top %d of %d (%d here from %d), %lld to %lld", td_dtype_name(type), rows, top_k, experts, here, first, (long long)d, (long long)hidden);
    near_rounded(what, got, expected, allowed, (size_t)(rows * d));
    for (int e = 0; e < here; e++) free_weights(&gate[e]), free_weights(&up[e]), free_weights(&down[e]);
    free(plain), free(weight), free(ids), free(got), free(rounded), free(expected), free(allowed), free(hid), free(off);
    td_cuda_delete(cuda, d_plain), td_cuda_delete(cuda, d_ids), td_cuda_delete(cuda, d_weight), td_cuda_delete(cuda, slots), td_cuda_delete(cuda, y);
    td_cuda_rows_free(cuda, &x), td_cuda_rows_free(cuda, &h), td_cuda_groups_free(cuda, &groups), td_cuda_matrix_free(cuda, &pair), td_cuda_matrix_free(cuda, &out);
}

static void test_experts(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 12; i++) check_experts(i);
}

/* ---- attention --------------------------------------------------------------------------------------------------------------------------- */

typedef struct { int dk, dv, kv_heads, heads; bool mla; } head_shape;

static double *attend_double(const double *q, const double *k, const double *v, int dk, int dv, int low, int end, double scale, double *out)
{
    double most = -INFINITY, sum = 0, *p = malloc((size_t)end * sizeof(double) + 1);
    for (int t = low; t < end; t++) {
        p[t] = 0;
        for (int i = 0; i < dk; i++) p[t] += q[i] * k[(size_t)t * (size_t)dk + (size_t)i];
        p[t] *= scale;
        most = fmax(most, p[t]);
    }
    for (int d = 0; d < dv; d++) out[d] = 0;
    for (int t = low; t < end; t++) {
        p[t] = exp(p[t] - most);
        sum += p[t];
        for (int d = 0; d < dv; d++) out[d] += p[t] * v[(size_t)t * (size_t)dv + (size_t)d];
    }
    for (int d = 0; d < dv; d++) out[d] /= sum;
    free(p);
    return out;
}

/* Fills a cache through td_cuda_append (identity rotation at frequency 0), reads it back for the expected values, attends. */
static void check_attention(const head_shape *s, td_cuda_kv_type type, bool exact, uint64_t round)
{
    td_random r = {.seed = seed * 15485863 + round};
    enum { ROWS = 3, PARTITION = 128 };
    int positions[ROWS] = {PICK(&r, 0, 5, 31), PICK(&r, 32, 63, 64, 127), PICK(&r, 128, 200, 260)}, window = s->mla ? 0 : PICK(&r, 0, 0, 7, 100), pages = 20, stride = 8;
    int32_t table[ROWS][8], used = 0, order[20];
    for (int i = 0; i < pages; i++) order[i] = i;
    for (int i = pages - 1; i > 0; i--) {
        int j = (int)td_random_between(&r, 0, i), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (int i = 0; i < ROWS; i++)
        for (int p = 0; p < stride; p++) table[i][p] = p * 64 <= positions[i] ? order[used++] : 0x7FFFFFF; /* must not be read */
    td_cuda_kv kv;
    td_cuda_attend_scratch scratch;
    OK(td_cuda_kv_new(cuda, type, s->kv_heads, s->dk, s->dv, s->mla, pages, &kv));
    OK(td_cuda_attend_reserve(cuda, &kv, ROWS, s->heads, 300, PARTITION, &scratch));
    size_t kw = (size_t)(s->kv_heads * s->dk), vw = (size_t)(s->kv_heads * s->dv), element = type == TD_CUDA_KV_F8 ? 1 : 2;
    double *k = calloc(300 * kw * ROWS, sizeof(double)), *v = calloc(300 * vw * ROWS, sizeof(double)); /* [row][head][t][dk] */
    void *d_zero = to_device((float[32]){0}, 128);
    td_cuda_rope none = {.frequencies = d_zero, .magnitude = 1, .n_rot = 2, .neox = true};
    for (int i = 0; i < ROWS; i++) {
        int n = positions[i] + 1;
        float *fk = floats(&r, (size_t)n * kw, 1), *fv = floats(&r, (size_t)n * vw, 1);
        int32_t *at = malloc((size_t)n * 4), *tables = malloc((size_t)(n * stride) * 4);
        for (int t = 0; t < n; t++) at[t] = t, memcpy(tables + t * stride, table[i], sizeof table[i]);
        void *dk = to_device(fk, (size_t)n * kw * 4), *dv = to_device(fv, (size_t)n * vw * 4), *dat = to_device(at, (size_t)n * 4), *dt = to_device(tables, (size_t)(n * stride) * 4);
        td_cuda_context context = {dat, dt, stride, 300};
        OK(td_cuda_append(cuda, &none, &context, n, dk, s->mla ? NULL : dv, &kv));
        OK(td_cuda_finish(cuda));
        td_cuda_delete(cuda, dk), td_cuda_delete(cuda, dv), td_cuda_delete(cuda, dat), td_cuda_delete(cuda, dt);
        free(fk), free(fv), free(at), free(tables);
    }
    for (int which = 0; which < (s->mla ? 1 : 2); which++) {
        int w = which ? s->dv : s->dk;
        size_t all = (size_t)(pages * s->kv_heads * 64);
        unsigned char *data = from_device(which ? kv.v : kv.k, all * (size_t)w * element);
        float *scale = element == 1 ? from_device(which ? kv.v_scale : kv.k_scale, all * 4) : NULL;
        for (int i = 0; i < ROWS; i++)
            for (int h = 0; h < s->kv_heads; h++)
                for (int t = 0; t <= positions[i]; t++)
                    for (int c = 0; c < w; c++) {
                        size_t row = ((size_t)table[i][t / 64] * (size_t)s->kv_heads + (size_t)h) * 64 + (size_t)(t % 64), from = row * (size_t)w + (size_t)c;
                        uint16_t bits;
                        memcpy(&bits, data + (element == 2 ? from * 2 : 0), 2);
                        (which ? v : k)[((size_t)(i * s->kv_heads + h) * 300 + (size_t)t) * (size_t)w + (size_t)c] = element == 2 ? (double)td_bf16_to_f32(bits) : (double)td_f8e4m3_to_f32(data[from]) * (double)scale[row];
                    }
        free(data), free(scale);
    }
    if (s->mla)
        for (size_t i = 0; i < (size_t)(ROWS * s->kv_heads) * 300; i++) memcpy(v + i * (size_t)s->dv, k + i * (size_t)s->dk, (size_t)s->dv * sizeof(double));
    size_t outs = (size_t)(ROWS * s->heads * s->dv);
    float *q = floats(&r, (size_t)(ROWS * s->heads * s->dk), 2), scale = 1 / sqrtf((float)s->dk);
    double *expected = malloc(outs * sizeof(double)), *dq = malloc((size_t)s->dk * sizeof(double));
    for (int i = 0; i < ROWS; i++)
        for (int h = 0; h < s->heads; h++) {
            size_t kv_head = (size_t)(i * s->kv_heads + h / (s->heads / s->kv_heads)) * 300;
            for (int c = 0; c < s->dk; c++) dq[c] = q[(i * s->heads + h) * s->dk + c];
            attend_double(dq, k + kv_head * (size_t)s->dk, v + kv_head * (size_t)s->dv, s->dk, s->dv, window ? TD_MAX(0, positions[i] + 1 - window) : 0, positions[i] + 1, (double)scale, expected + (i * s->heads + h) * s->dv);
        }
    void *d_q = to_device(q, (size_t)(ROWS * s->heads * s->dk) * 4), *d_out = poison(outs * 4), *d_at = to_device(positions, sizeof positions), *d_table = to_device(table, sizeof table);
    td_cuda_context context = {d_at, d_table, stride, 300};
    OK(td_cuda_attend(cuda, &kv, &context, ROWS, s->heads, d_q, scale, window, exact, &scratch, d_out));
    float *got = from_device(d_out, outs * 4);
    char what[160];
    snprintf(what, sizeof what, "attention %dx%d, %d of %d heads%s, %s%s, window %d, positions %d %d %d", s->dk, s->dv, s->heads, s->kv_heads, s->mla ? ", MLA" : "", type == TD_CUDA_KV_F8 ? "FP8" : "BF16", exact ? " exact" : "",
             window, positions[0], positions[1], positions[2]);
    near(what, got, expected, outs, exact ? 4e-5 : type == TD_CUDA_KV_F8 ? 1e-3 : 4e-3);
    for (int i = ROWS - 1; i >= 0; i--) { /* each row alone, threads in other orders */
#ifdef TD_CUDA_HOST
        cuda_host_order((unsigned)i + 1);
#endif
        td_cuda_context alone = {(int32_t *)d_at + i, (int32_t *)d_table + i * stride, stride, 300};
        void *d_one = poison(outs / ROWS * 4);
        OK(td_cuda_attend(cuda, &kv, &alone, 1, s->heads, (float *)d_q + i * s->heads * s->dk, scale, window, exact, &scratch, d_one));
        float *one = from_device(d_one, outs / ROWS * 4);
        if (memcmp(one, got + (size_t)i * outs / ROWS, outs / ROWS * 4)) fail_msg("%s: row %d alone gives other bytes (TD_SEED=%llu)", what, i, (unsigned long long)seed);
        free(one), td_cuda_delete(cuda, d_one);
    }
#ifdef TD_CUDA_HOST
    cuda_host_order(0);
#endif
    free(k), free(v), free(q), free(expected), free(dq), free(got);
    td_cuda_delete(cuda, d_zero), td_cuda_delete(cuda, d_q), td_cuda_delete(cuda, d_out), td_cuda_delete(cuda, d_at), td_cuda_delete(cuda, d_table);
    td_cuda_attend_release(cuda, &scratch), td_cuda_kv_free(cuda, &kv);
}

static void test_attention(void **state)
{
    (void)state;
    static const head_shape shapes[] = {{64, 64, 1, 8, false}, {32, 32, 2, 4, false}, {48, 64, 1, 20, false}, {128, 128, 2, 8, false}, {128, 128, 1, 40, false}, {256, 256, 1, 64, false}, {256, 256, 1, 3, false},
                                        {96, 64, 1, 4, true}, {576, 512, 1, 65, true}};
    for (size_t i = 0; i < TD_COUNT(shapes); i++) {
        check_attention(&shapes[i], TD_CUDA_KV_BF16, false, i);
        check_attention(&shapes[i], TD_CUDA_KV_BF16, true, i + 100);
        if (shapes[i].dk % 16 == 0) check_attention(&shapes[i], TD_CUDA_KV_F8, false, i + 200);
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------------------- */

static void test_norm(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 12; round++) {
        td_random r = {.seed = seed * 32452843 + round};
        int rows = PICK(&r, 1, 3), form = (int)(round % 3);
        int64_t n = PICK(&r, 1, 64, 100, 128, 129, 1000, 1500);
        td_cuda_rows h;
        OK(td_cuda_rows_new(cuda, (td_cuda_form)form, rows, n, &h));
        float *x = floats(&r, (size_t)(rows * n), 2), *w = floats(&r, (size_t)n, 1);
        void *dx = to_device(x, (size_t)(rows * n) * 4), *dw = to_device(w, (size_t)n * 4), *dy = poison((size_t)(rows * n) * 4);
        OK(td_cuda_norm(cuda, dx, n, rows, dw, 1e-5f, &h, dy));
        float *y = from_device(dy, (size_t)(rows * n) * 4), *line = malloc((size_t)n * 4);
        double *got = read_rows(&h, rows), *expected = malloc((size_t)(rows * n) * sizeof(double));
        for (int i = 0; i < rows; i++) {
            ref->rmsnorm(line, x + i * n, w, n, 1e-5f);
            for (int64_t c = 0; c < n; c++) expected[i * n + c] = (double)line[c];
        }
        near("norm", y, expected, (size_t)(rows * n), 1e-6);
        float *as_float = malloc((size_t)(rows * n) * 4);
        for (int64_t i = 0; i < rows * n; i++) as_float[i] = (float)got[i];
        double *allowed = malloc((size_t)(rows * n) * sizeof(double));
        for (int i = 0; i < rows; i++)
            for (int64_t c = 0; c < n; c++) {
                double largest = 0;
                for (int64_t b = c / 128 * 128; b < TD_MIN(n, c / 128 * 128 + 128); b++) largest = fmax(largest, fabs(expected[i * n + b]));
                /* the norm itself is good to 1e-6 of the row (above); in two BF16 only the activation is rounded here */
                allowed[i * n + c] = (h.form == TD_CUDA_BF16X2 ? 0x1p-16 * fabs(expected[i * n + c]) : rounding_at(h.form, expected[i * n + c], largest)) * 1.001 + 3e-6 * fabs(expected[i * n + c]) + 1e-9;
            }
        near_rounded("norm in its form", as_float, expected, allowed, (size_t)(rows * n));
        free(x), free(w), free(y), free(line), free(got), free(expected), free(as_float), free(allowed);
        td_cuda_delete(cuda, dx), td_cuda_delete(cuda, dw), td_cuda_delete(cuda, dy), td_cuda_rows_free(cuda, &h);
    }
}

static void test_router(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 12; round++) {
        td_random r = {.seed = seed * 49979687 + round};
        int rows = 5, experts = PICK(&r, 8, 48, 64, 256);
        td_config c = {.experts = experts, .top_k = PICK(&r, 1, 3, 8), .groups = PICK(&r, 1, 4), .groups_used = 2, .group_by_top2 = PICK(&r, 0, 1), .router_norm = PICK(&r, 0, 1), .router_scale = 2.5f,
                       .router_score = PICK(&r, 0, 1) ? TD_SCORE_SIGMOID : TD_SCORE_SOFTMAX};
        float *logits = floats(&r, (size_t)(rows * experts), 4), *bias = floats(&r, (size_t)experts, 0.1), *chosen = malloc((size_t)(rows * c.top_k) * 4), *scratch = malloc((size_t)experts * 8);
        int32_t *ids = malloc((size_t)(rows * c.top_k) * 4);
        for (int e = 0; e + 1 < experts && round % 2; e += 2) logits[e + 1] = logits[e], bias[e + 1] = bias[e]; /* ties */
        void *dl = to_device(logits, (size_t)(rows * experts) * 4), *db = to_device(bias, (size_t)experts * 4), *di = poison((size_t)(rows * c.top_k) * 4), *dw = poison((size_t)(rows * c.top_k) * 4);
        td_cuda_router router = {experts, c.top_k, c.groups, c.groups_used, c.router_score == TD_SCORE_SOFTMAX, c.router_norm, c.group_by_top2, c.router_scale, db};
        OK(td_cuda_choose(cuda, &router, dl, rows, di, dw));
        int32_t *got_ids = from_device(di, (size_t)(rows * c.top_k) * 4);
        float *got = from_device(dw, (size_t)(rows * c.top_k) * 4);
        for (int i = 0; i < rows; i++) {
            td_router_score_row(&c, ref, logits + i * experts);
            td_router_choose(&c, logits + i * experts, bias, ids + i * c.top_k, chosen + i * c.top_k, scratch);
            for (int s = 0; s < c.top_k; s++) {
                assert_int_equal(got_ids[i * c.top_k + s], ids[i * c.top_k + s]);
                if (!(fabsf(got[i * c.top_k + s] - chosen[i * c.top_k + s]) <= 1e-5f * fabsf(chosen[i * c.top_k + s]))) fail_msg("weight %g, expected %g", (double)got[i * c.top_k + s], (double)chosen[i * c.top_k + s]);
            }
        }
        free(logits), free(bias), free(chosen), free(scratch), free(ids), free(got_ids), free(got);
        td_cuda_delete(cuda, dl), td_cuda_delete(cuda, db), td_cuda_delete(cuda, di), td_cuda_delete(cuda, dw);
    }
}

static void test_argmax(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        td_random r = {.seed = seed * 86028121 + round};
        int64_t n = PICK(&r, 1, 31, 257, 5000);
        float *x = floats(&r, (size_t)(3 * n), 1);
        for (int64_t i = 0; i < 3 * n; i++) x[i] = td_random_next(&r) % 5 == 0 ? NAN : rintf(x[i] * 4);
        for (int64_t i = 0; i < n; i++) x[n + i] = round ? x[n + i] : NAN;
        void *dx = to_device(x, (size_t)(3 * n) * 4), *out = poison(12);
        OK(td_cuda_argmax(cuda, dx, 3, n, out));
        int32_t *got = from_device(out, 12);
        for (int i = 0; i < 3; i++) assert_int_equal(got[i], ref->argmax(x + i * n, n));
        free(x), free(got), td_cuda_delete(cuda, dx), td_cuda_delete(cuda, out);
    }
}

/* Rotation and head norms against the CPU's. */
static void test_rope(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        td_random r = {.seed = seed * 122949823 + round};
        int rows = 4, heads = 3, dk = PICK(&r, 64, 96), first = PICK(&r, 0, 32), n_rot = PICK(&r, 32, dk - first), norm_dim = PICK(&r, dk, 32), half = n_rot / 2;
        bool neox = PICK(&r, 0, 1), norm = PICK(&r, 0, 1);
        float *x = floats(&r, (size_t)(rows * heads * dk), 1), *w = floats(&r, (size_t)dk, 1), *frequencies = malloc((size_t)half * 4), cos_of[64], sin_of[64];
        int32_t positions[4] = {0, 1, 77, 30000}, tables[4] = {0};
        for (int i = 0; i < half; i++) frequencies[i] = powf(10000, -2.0f * (float)i / (float)n_rot);
        void *dx = to_device(x, (size_t)(rows * heads * dk) * 4), *dw = to_device(w, (size_t)dk * 4), *df = to_device(frequencies, (size_t)half * 4), *dp = to_device(positions, sizeof positions), *dt = to_device(tables, sizeof tables);
        td_cuda_rope rope = {df, 1.25f, first, n_rot, neox, norm ? dw : NULL, norm_dim, 1e-6f};
        td_cuda_context context = {dp, dt, 1, 40000};
        OK(td_cuda_rotate(cuda, &rope, &context, rows, heads, dk, dx));
        float *got = from_device(dx, (size_t)(rows * heads * dk) * 4);
        double *expected = malloc((size_t)(rows * heads * dk) * sizeof(double));
        for (int i = 0; i < rows; i++)
            for (int h = 0; h < heads; h++) {
                float *head = x + (i * heads + h) * dk;
                if (norm) ref->rmsnorm(head, head, w, norm_dim, 1e-6f);
                for (int j = 0; j < half; j++) {
                    double angle = (double)((float)positions[i] * frequencies[j]);
                    cos_of[j] = (float)cos(angle) * 1.25f, sin_of[j] = (float)sin(angle) * 1.25f;
                }
                ref->rope(head + first, cos_of, sin_of, n_rot, neox);
                for (int c = 0; c < dk; c++) expected[(i * heads + h) * dk + c] = (double)head[c];
            }
        near("rotation", got, expected, (size_t)(rows * heads * dk), 1e-6);
        free(x), free(w), free(frequencies), free(got), free(expected);
        td_cuda_delete(cuda, dx), td_cuda_delete(cuda, dw), td_cuda_delete(cuda, df), td_cuda_delete(cuda, dp), td_cuda_delete(cuda, dt);
    }
}

/* ---- the device itself --------------------------------------------------------------------------------------------------------------------- */

static void test_graph(void **state)
{
    (void)state;
    td_random r = {.seed = seed + 5};
    weights w = random_weights(&r, TD_BF16, 40, 1000);
    td_cuda_matrix m;
    td_cuda_rows x;
    td_cuda_graph *graph;
    OK(td_cuda_matrix_load(cuda, &w.t, NULL, 1, &m));
    OK(td_cuda_rows_new(cuda, m.form, 4, 1000, &x));
    float *plain = floats(&r, 4000, 1);
    void *d = to_device(plain, 16000), *y = poison(640);
    td_cuda_product p = {.w = &m, .x = &x, .rows = 4, .y = y, .y_stride = 40};
    OK(td_cuda_norm(cuda, d, 1000, 4, NULL, -1, &x, NULL));
    OK(td_cuda_linear(cuda, &p));
    float *before = from_device(y, 640);
    OK(td_cuda_record(cuda));
    OK(td_cuda_norm(cuda, d, 1000, 4, NULL, -1, &x, NULL));
    OK(td_cuda_linear(cuda, &p));
    void *none;
    assert_int_equal(td_cuda_new(cuda, 16, &none), TD_E_INVALID); /* nothing may be allocated inside */
    OK(td_cuda_recorded(cuda, &graph));
    for (int i = 0; i < 4000; i++) plain[i] = -plain[i]; /* the same addresses, other contents */
    OK(td_cuda_upload(cuda, d, plain, 16000));
    OK(td_cuda_replay(cuda, graph));
    float *after = from_device(y, 640);
    for (int i = 0; i < 160; i++) assert_true(after[i] == -before[i] && before[i] != 0);
    td_cuda_graph_free(graph);
    free(before), free(after), free(plain), free_weights(&w);
    td_cuda_delete(cuda, d), td_cuda_delete(cuda, y), td_cuda_rows_free(cuda, &x), td_cuda_matrix_free(cuda, &m);
}

static void test_self_check(void **state)
{
    (void)state;
    OK(td_cuda_self_check(cuda));
}

static void test_refusals(void **state)
{
    (void)state;
    td_random r = {.seed = seed};
    weights a = random_weights(&r, TD_BF16, 16, 64), b = random_weights(&r, TD_F32, 16, 64);
    td_tensor mixed[2] = {a.t, b.t};
    td_cuda_matrix m;
    assert_int_equal(td_cuda_matrix_load(cuda, mixed, NULL, 2, &m), TD_E_UNSUPPORTED);
    assert_non_null(strstr(td_error(), "one type and shape"));
    td_cuda_kv kv;
    assert_int_equal(td_cuda_kv_new(cuda, TD_CUDA_KV_BF16, 1, 20, 20, false, 1, &kv), TD_E_UNSUPPORTED);
    free_weights(&a), free_weights(&b);
#ifdef TD_CUDA_HOST
    td_cuda *other;
    td_buffer text = {0};
    cuda_host_devices(0);
    assert_int_equal(td_cuda_open(&other), TD_E_UNSUPPORTED);
    assert_non_null(strstr(td_error(), "no CUDA device: CUDA driver version is insufficient"));
    td_cuda_doctor(false, &text);
    assert_non_null(strstr(text.data, "GPU         no CUDA device: "));
    td_buffer_free(&text);
    cuda_host_devices(1);
#endif
}

static void test_nothing_kept(void **state)
{
    (void)state;
    td_cuda_close(cuda);
    cuda = NULL;
#ifdef TD_CUDA_HOST
    assert_int_equal(cuda_host_memory(), 0);
#endif
}

int main(void)
{
    const char *text = getenv("TD_SEED");
    const td_kernel *all[TD_KERNELS_MAX];
    seed = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    (void)td_kernel_all(all);
    ref = all[0];
    if (td_cuda_open(&cuda) < 0) {
        fprintf(stderr, "SKIPPED: kernels of src/kernel/cuda were not run on a device: %s\n", td_error());
        return 77;
    }
    printf("TD_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm), cmocka_unit_test(test_router), cmocka_unit_test(test_argmax), cmocka_unit_test(test_rope), cmocka_unit_test(test_products), cmocka_unit_test(test_product_batches),
        cmocka_unit_test(test_experts), cmocka_unit_test(test_attention), cmocka_unit_test(test_graph), cmocka_unit_test(test_self_check), cmocka_unit_test(test_refusals), cmocka_unit_test(test_nothing_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
