/*
 * test_kernel.c - every table against the plain one, byte for byte, on random shapes; the plain one against double precision.
 * TD_SEED=n repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "kernel/kernel.h"
#include "tensor/pack.h"

static uint64_t seed;
static const td_kernel *tables[TD_KERNELS_MAX];
static int table_count;

static float uniform(td_random *r, float scale) { return (float)(td_random_next_unit(r) * 2 - 1) * scale; }
static float *floats(td_random *r, size_t n, float scale)
{
    float *x = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++) x[i] = uniform(r, scale);
    return x;
}

static int pick_int(td_random *r, const int *from, size_t count) { return from[td_random_between(r, 0, (int64_t)count - 1)]; }
#define PICK(r, ...) pick_int((r), (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void same_bytes(const void *a, const void *b, size_t bytes, const char *what, const td_kernel *table, uint64_t round)
{
    if (memcmp(a, b, bytes) == 0) return;
    size_t at = 0;
    while (((const char *)a)[at] == ((const char *)b)[at]) at++;
    float fa, fb;
    memcpy(&fa, (const char *)a + at / 4 * 4, 4), memcpy(&fb, (const char *)b + at / 4 * 4, 4);
    fail_msg("%s: %s (%s) differs from ref at byte %zu (as float %d: %.9g, %.9g), round %llu of TD_SEED=%llu", what, table->name, table->why, at, (int)(at / 4), (double)fa,
        (double)fb, (unsigned long long)round, (unsigned long long)seed);
}

/* ---- products ---------------------------------------------------------------------------------------------------------------------------- */

typedef struct { td_tensor w; float *values; float *scale; void *data; } weights;

/* Random weights; quantised types half the time from random bytes (every code occurs, also -128 in Q8_0), else from quantised floats. */
static weights random_weights(td_random *r, td_dtype type, int64_t out, int64_t k)
{
    weights w = {.data = malloc(td_dtype_row_bytes(type, k) * (size_t)out + 64)};
    size_t row_bytes = td_dtype_row_bytes(type, k);
    uint8_t *bytes = w.data;
    bool raw = td_dtype_block_elements(type) > 1 && td_random_between(r, 0, 1);
    float *row = floats(r, (size_t)k, 0);
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < k; i++) row[i] = uniform(r, 1);
        td_quantise_row(type, row, bytes + (size_t)o * row_bytes, k);
    }
    if (raw)
        for (size_t i = 0; i < row_bytes * (size_t)out; i++) {
            size_t in_block = i % (size_t)td_dtype_block_bytes(type);
            bool half = type == TD_Q6_K ? in_block >= 208 : in_block < (type == TD_Q8_0 || type == TD_Q4_0 ? 2u : 4u);
            if (!half) bytes[i] = td_random_between(r, 0, 9) ? (uint8_t)td_random_next(r) : (uint8_t)PICK(r, 0x80, 0x7F, 0, 0xFF);
        }
    free(row);
    w.w = (td_tensor){.type = type, .dims = 2, .shape = {out, k}, .data = w.data};
    int64_t so = (out + 127) / 128, sk = (k + 127) / 128;
    if (type == TD_F8_E4M3) {
        w.scale = floats(r, (size_t)(so * sk), 0.01f);
        w.w.scale = w.scale;
    }
    w.values = floats(r, (size_t)(out * k), 0);
    for (int64_t o = 0; o < out; o++) td_dequantise_row(type, bytes + (size_t)o * row_bytes, w.values + o * k, k);
    if (w.scale)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < k; i++) w.values[o * k + i] *= w.scale[o / 128 * sk + i / 128];
    return w;
}

static void free_weights(weights *w) { free(w->data), free(w->values), free(w->scale); }

/* Activations in the kind's form; every 40th block or so extreme: zero, or all of the largest magnitude (which must not saturate). */
static void *random_activations(td_random *r, const td_kernel *table, td_act_kind kind, int rows, int64_t k, float **plain)
{
    float *x = floats(r, (size_t)(rows * k), 3);
    for (int64_t i = 0; i + 32 <= rows * k; i += 32) {
        int64_t how = td_random_between(r, 0, 39);
        for (int j = 0; j < 32 && how < 2; j++) x[i + j] = how == 0 ? 0 : x[i + j] < 0 ? -3.0f : 3.0f;
    }
    *plain = x;
    void *out = malloc(td_act_row_bytes(kind, k) * (size_t)rows + 64);
    for (int i = 0; i < rows; i++) {
        if (kind == TD_ACT_F32) memcpy((float *)out + i * k, x + i * k, (size_t)k * 4);
        else td_act_quantise(table, kind, x + i * k, k, (char *)out + (size_t)i * td_act_row_bytes(kind, k));
    }
    return out;
}

static int64_t random_k(td_random *r, td_dtype type)
{
    switch (td_act_kind_of(type)) {
    case TD_ACT_Q8: return 32 * PICK(r, 1, 2, 3, 7, 16, 31, 32, 33, 64, 65, 96, 128);
    case TD_ACT_Q8K: return 256 * PICK(r, 1, 2, 3, 4, 7, 8, 9, 16);
    default: return PICK(r, 1, 7, 15, 16, 17, 100, 128, 129, 300, 512, 1000, 1023, 1024, 1025, 2048, 2049, 3000, 4096);
    }
}

/* The same product with the weights packed: whole, and with outputs divided between groups of sixteen. */
static void check_packed(const td_matmul_job *job, const float *expected, float *y, size_t bytes, td_random *r, uint64_t round)
{
    if (!td_pack_fits(job->w)) return;
    size_t row_bytes = td_dtype_row_bytes(job->w->type, job->w->shape[1]);
    int64_t out = job->w->shape[0];
    char *packed = malloc(td_tensor_bytes(job->w)), what[120];
    uint8_t block[256];
    for (int64_t o = 0; o < out; o += TD_PACK_ROWS) td_pack_rows(job->w->type, job->w->shape[1], (const char *)job->w->data + (size_t)o * row_bytes, packed + (size_t)o * row_bytes);
    td_tensor w = *job->w;
    w.data = packed, w.packed = true;
    size_t block_bytes = (size_t)td_dtype_block_bytes(w.type);
    for (int64_t o = 0; o < out; o++)
        for (size_t b = 0; b < row_bytes / block_bytes; b++) {
            td_pack_read(&w, o, (int64_t)b, block);
            assert_memory_equal(block, (const char *)job->w->data + (size_t)o * row_bytes + b * block_bytes, block_bytes);
        }
    snprintf(what, sizeof what, "packed %s out %d k %d rows %d", td_dtype_name(w.type), (int)out, (int)w.shape[1], job->rows);
    for (int t = 0; t < table_count; t++) {
        td_matmul_job other = *job;
        other.w = &w, other.y = y;
        memset(y, 0x55, bytes);
        tables[t]->matmul[w.type](&other);
        same_bytes(expected, y, bytes, what, tables[t], round);
        memset(y, 0x55, bytes);
        for (int64_t begin = 0; begin < out; begin = other.out_end) {
            other.out_begin = begin, other.out_end = begin + TD_PACK_ROWS * td_random_between(r, 1, (out - begin) / TD_PACK_ROWS);
            tables[t]->matmul[w.type](&other);
        }
        same_bytes(expected, y, bytes, what, tables[t], round);
    }
    free(packed);
}

/* One product in three ways with each table: whole, with outputs divided, row by row; all must give ref's bytes. */
static void check_product(td_dtype type, uint64_t round)
{
    td_random r = {.seed = seed * 1000003 + round * 31 + (uint64_t)type};
    int64_t k = random_k(&r, type), out = PICK(&r, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130, 200);
    int rows = PICK(&r, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 33, 64, 70);
    if (out * k > 200000) out = TD_MAX(200000 / k, 1);
    if (round % 3 == 0) out = (out + TD_PACK_ROWS - 1) / TD_PACK_ROWS * TD_PACK_ROWS;
    td_act_kind kind = td_act_kind_of(type);
    weights w = random_weights(&r, type, out, k);
    float *plain;
    char *x = random_activations(&r, tables[0], kind, rows + 2, k, &plain);
    int32_t gathered[80];
    for (int i = 0; i < rows; i++) gathered[i] = (int32_t)td_random_between(&r, 0, rows + 1);
    int64_t stride = out + PICK(&r, 0, 1, 5);
    size_t bytes = (size_t)(rows * stride) * 4;
    float *expected = malloc(bytes + 4), *y = malloc(bytes + 4);
    td_matmul_job job = {.w = &w.w, .x = x, .x_stride = td_act_row_bytes(kind, k), .x_rows = round % 2 ? gathered : NULL, .rows = rows, .out_end = out, .y = expected, .y_stride = stride};
    memset(expected, 0x55, bytes);
    tables[0]->matmul[type](&job);
    for (int t = 0; t < table_count; t++) {
        char what[120];
        td_matmul_job other = job;
        other.y = y;
        snprintf(what, sizeof what, "%s out %d k %d rows %d%s", td_dtype_name(type), (int)out, (int)k, rows, job.x_rows ? " gathered" : "");
        memset(y, 0x55, bytes);
        tables[t]->matmul[type](&other);
        same_bytes(expected, y, bytes, what, tables[t], round);
        memset(y, 0x55, bytes);
        for (int64_t begin = 0; begin < out; begin = other.out_end) { /* outputs divided */
            other.out_begin = begin, other.out_end = begin + td_random_between(&r, 1, out - begin);
            tables[t]->matmul[type](&other);
        }
        same_bytes(expected, y, bytes, strcat(what, " divided"), tables[t], round);
        memset(y, 0x55, bytes);
        for (int i = 0; i < rows; i++) { /* row by row */
            td_matmul_job one = job;
            one.rows = 1, one.y = y + i * stride, one.x_rows = NULL;
            one.x = x + (size_t)(job.x_rows ? gathered[i] : i) * job.x_stride;
            tables[t]->matmul[type](&one);
        }
        same_bytes(expected, y, bytes, strcat(what, " by rows"), tables[t], round);
    }
    check_packed(&job, expected, y, bytes, &r, round);
    free(expected), free(y), free(x), free(plain), free_weights(&w);
}

static void products_have_the_same_bytes(void **state)
{
    (void)state;
    for (td_dtype type = TD_F32; type <= TD_Q6_K; type++)
        for (uint64_t round = 0; round < 60; round++) check_product(type, round);
}

/*
 * Against dequantised weights and unquantised activations in double. Float types: K/16 + 4 + K/1024 roundings on the way of each product, each at most 2^-24 of the sum of
 * magnitudes. Quantised activations: each |x - d*q| <= d/2 (and a rounding of d*q), d = max of the block / 127, times the weight's magnitude; one rounding per block.
 */
static void plain_products_are_right(void **state)
{
    (void)state;
    for (td_dtype type = TD_F32; type <= TD_Q6_K; type++)
        for (uint64_t round = 0; round < 10; round++) {
            td_random r = {.seed = seed * 77 + round * 31 + (uint64_t)type};
            int64_t k = random_k(&r, type), out = 7;
            td_act_kind kind = td_act_kind_of(type);
            int rows = 3, block = kind == TD_ACT_Q8 ? 32 : kind == TD_ACT_Q8K ? 256 : 1;
            weights w = random_weights(&r, type, out, k);
            float *plain, y[21];
            void *x = random_activations(&r, tables[0], kind, rows, k, &plain);
            td_matmul_job job = {.w = &w.w, .x = x, .x_stride = td_act_row_bytes(kind, k), .rows = rows, .out_end = out, .y = y, .y_stride = out};
            tables[0]->matmul[type](&job);
            for (int i = 0; i < rows * (int)out; i++) {
                const float *row = plain + i / out * k, *weight = w.values + i % out * k;
                double sum = 0, magnitude = 0, bound = 0;
                for (int64_t j = 0; j < k; j++) {
                    float max = 0;
                    for (int64_t b = j / block * block; block > 1 && b < (j / block + 1) * block; b++) max = fmaxf(max, fabsf(row[b]));
                    sum += (double)weight[j] * row[j];
                    magnitude += fabs((double)weight[j]) * (fabs((double)row[j]) + max);
                    bound += fabs((double)weight[j]) * max / 254 * 1.0001;
                }
                if (type == TD_Q4_K || type == TD_Q5_K) magnitude *= 40; /* d*sc*q and dmin*m are summed apart: each up to (31*63*d + 63*dmin) where the weight may be small */
                bound += magnitude * ((double)k / 16 + 16) * 0x1p-24;
                if (fabs(sum - (double)y[i]) > bound)
                    fail_msg("%s k %d: %.9g, expected %.9g within %.3g, TD_SEED=%llu", td_dtype_name(type), (int)k, (double)y[i], sum, bound, (unsigned long long)seed);
            }
            free(x), free(plain), free_weights(&w);
        }
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------------------- */

/* Random floats with the awkward ones among them. */
static float *awkward(td_random *r, int64_t n)
{
    static const float hard[] = {0, -0.0f, 1e-45f, -1e-40f, 1e-38f, 3e38f, -3e38f, 1, -1, 88.8f, -104, -87.4f, 1e-5f};
    float scale = (float)PICK(r, 1, 10, 100);
    float *x = floats(r, (size_t)n, scale);
    if (td_random_between(r, 0, 1))
        for (int64_t i = 0; i < n; i++)
            if (td_random_between(r, 0, 9) == 0) x[i] = hard[td_random_between(r, 0, (int64_t)TD_COUNT(hard) - 1)];
    return x;
}

static float *copy(const float *x, int64_t n)
{
    float *y = malloc((size_t)(n + 1) * 4);
    memcpy(y, x, (size_t)n * 4);
    return y;
}

static void rows_have_the_same_bytes(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 400; round++) {
        td_random r = {.seed = seed * 31337 + round};
        int64_t n = PICK(&r, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 128, 1000, 2049), n2 = n / 2 * 2;
        float *x = awkward(&r, n), *w = awkward(&r, n), *expected = malloc((size_t)n * 4 + 64), limit = (float)PICK(&r, 0, 1, 7), *angles = floats(&r, (size_t)n, 1);
        for (int t = 1; t < table_count; t++) {
#define CHECK(what, call_ref, call_other)                                              \
    do {                                                                               \
        float *a = copy(x, n), *b = copy(x, n);                                        \
        const td_kernel *table = tables[0];                                            \
        float *v = a;                                                                  \
        call_ref;                                                                      \
        table = tables[t], v = b;                                                      \
        call_other;                                                                    \
        same_bytes(a, b, (size_t)n * 4, what, tables[t], round);                       \
        free(a), free(b);                                                              \
    } while (0)
#define BOTH(what, call) CHECK(what, call, call)
            BOTH("rmsnorm", table->rmsnorm(v, v, w, n, 1e-6f));
            BOTH("rmsnorm without weights", table->rmsnorm(v, x, NULL, n, 1e-5f));
            BOTH("silu_mul", table->silu_mul(v, w, n, limit));
            BOTH("add", table->add(v, w, n));
            BOTH("add_scaled", table->add_scaled(v, w, w[0], n));
            BOTH("softmax", table->softmax(v, n));
            BOTH("rope neox", table->rope(v, angles, angles + n2 / 2, (int)n2, true));
            BOTH("rope pairs", table->rope(v, angles, angles + n2 / 2, (int)n2, false));
            assert_int_equal(tables[t]->argmax(x, n), tables[0]->argmax(x, n));
            int64_t blocks = (n + 255) / 256 * 256;
            float *long_row = awkward(&r, blocks);
            if (round % 10 == 0) long_row[td_random_between(&r, 0, blocks - 1)] = round % 20 ? NAN : INFINITY;
            size_t bytes = (size_t)blocks * 4;
            unsigned char *a = malloc(bytes), *b = malloc(bytes);
            memset(a, 0, bytes), memset(b, 0, bytes);
            tables[0]->quantise_q8(long_row, (td_q8 *)a, blocks), tables[t]->quantise_q8(long_row, (td_q8 *)b, blocks);
            same_bytes(a, b, bytes, "quantise_q8", tables[t], round);
            tables[0]->quantise_q8k(long_row, (td_q8k *)a, blocks), tables[t]->quantise_q8k(long_row, (td_q8k *)b, blocks);
            same_bytes(a, b, bytes, "quantise_q8k", tables[t], round);
            static const td_dtype stored[] = {TD_F32, TD_BF16, TD_Q8_0};
            for (size_t s = 0; s < TD_COUNT(stored); s++) {
                tables[0]->store_row(stored[s], long_row, a, blocks), tables[t]->store_row(stored[s], long_row, b, blocks);
                same_bytes(a, b, td_dtype_row_bytes(stored[s], blocks), "store_row", tables[t], round);
            }
            free(a), free(b), free(long_row);
        }
        free(x), free(w), free(expected), free(angles);
    }
}

static void rows_are_right(void **state)
{
    (void)state;
    double worst = 0;
    for (float x = -87.3f; x < 88.7f; x += 0.00093f) {
        double right = exp((double)x), ulp = ldexp(1, (int)floor(log2(right)) - 23);
        worst = fmax(worst, fabs((double)td_expf(x) - right) / ulp);
    }
    print_message("exp: worst error %.3f ulp\n", worst);
    assert_true(worst < 2);
    float last = 0;
    for (float x = -110; x < -80; x += 0.0037f) {
        float e = td_expf(x);
        assert_true(e >= last && e <= 2e-35f);
        last = e;
    }
    assert_true(td_expf(0) == 1 && td_expf(-INFINITY) == 0 && td_expf(INFINITY) == INFINITY && td_expf(89) == INFINITY && isnan(td_expf(NAN)) && td_expf(-1e30f) == 0);
    td_random r = {.seed = seed};
    for (int round = 0; round < 50; round++) {
        int64_t n = td_random_between(&r, 1, 700);
        float *x = floats(&r, (size_t)n, 5), *w = floats(&r, (size_t)n, 2), *y = copy(x, n);
        double squares = 0, sum = 0, max = -1e9;
        for (int64_t i = 0; i < n; i++) squares += (double)x[i] * x[i], max = fmax(max, x[i]);
        for (int64_t i = 0; i < n; i++) sum += exp(x[i] - max);
        tables[0]->rmsnorm(y, x, w, n, 1e-5f);
        for (int64_t i = 0; i < n; i++) assert_true(fabs((double)y[i] - x[i] / sqrt(squares / (double)n + 1e-5) * w[i]) < 2e-6 * fabs((double)y[i]) + 1e-30);
        memcpy(y, x, (size_t)n * 4);
        tables[0]->softmax(y, n);
        for (int64_t i = 0; i < n; i++) assert_true(fabs((double)y[i] - exp(x[i] - max) / sum) < 3e-6 * (double)y[i]);
        memcpy(y, x, (size_t)n * 4);
        tables[0]->silu_mul(y, w, n, 1.5f);
        for (int64_t i = 0; i < n; i++) {
            double right = fmin((double)x[i] / (1 + exp(-(double)x[i])), 1.5) * fmin(fmax(w[i], -1.5), 1.5);
            assert_true(fabs((double)y[i] - right) < 2e-6 * fabs(right) + 1e-30);
        }
        free(x), free(w), free(y);
    }
    const float few[] = {NAN, 1, 3, NAN, 3, -5}, nothing[] = {NAN, NAN}, low[] = {NAN, -INFINITY, -INFINITY};
    for (int t = 0; t < table_count; t++) {
        assert_int_equal(tables[t]->argmax(few, 6), 2);
        assert_int_equal(tables[t]->argmax(nothing, 2), 0);
        assert_int_equal(tables[t]->argmax(low, 3), 1);
    }
    enum { LONG = 20011 }; /* as a vocabulary: the largest one stands twice, whole stretches are no numbers */
    float *x = malloc(LONG * sizeof *x);
    for (int round = 0; round < 40; round++) {
        td_random draw = {.seed = seed * 977 + (uint64_t)round};
        int64_t first = td_random_between(&draw, 0, LONG - 1), second = td_random_between(&draw, 0, LONG - 1), quiet = td_random_between(&draw, 0, LONG - 1);
        for (int i = 0; i < LONG; i++) x[i] = round % 4 == 3 ? -INFINITY : (float)(td_random_next_unit(&draw) - 0.5);
        for (int64_t i = 0; i < quiet; i++) x[i] = round % 2 ? NAN : -INFINITY;
        if (round % 4 != 3) x[first] = x[second] = 7;
        int64_t expected = round % 4 != 3 ? TD_MIN(first, second) : quiet;
        for (int t = 0; t < table_count; t++) assert_int_equal(tables[t]->argmax(x, LONG), expected);
    }
    free(x);
}

/* ---- attention --------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    td_attention_job job;
    void *pages[2][16];
    const void *k_pages[16], *v_pages[16];
    float *q, *out, *scratch;
    int32_t limits[70];
    bool shared; /* V is the front of K */
} attention_case;

static attention_case random_attention(td_random *r)
{
    attention_case c = {0};
    td_attention_job *j = &c.job;
    j->kv_type = (td_dtype)PICK(r, TD_F32, TD_BF16, TD_Q8_0);
    j->dk = j->kv_type == TD_Q8_0 ? 32 * PICK(r, 1, 2, 4, 8, 18) : PICK(r, 1, 5, 16, 24, 40, 64, 100, 128, 256, 576, 1040);
    j->dv = j->kv_type == TD_Q8_0 ? 32 * PICK(r, 1, 2, 4, 8, 16) : PICK(r, 1, 7, 16, 24, 64, 100, 128, 256, 512);
    c.shared = td_random_between(r, 0, 3) == 0 && j->dv <= j->dk;
    j->page_tokens = PICK(r, 64, 64, 16, 8, 4);
    int pages = (int)td_random_between(r, 1, 8), begin_page = (int)td_random_between(r, 0, pages - 1);
    j->begin = begin_page * j->page_tokens;
    j->end = (int)td_random_between(r, j->begin + 1, pages * j->page_tokens);
    j->queries = PICK(r, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 64);
    j->window = PICK(r, 0, 0, 1, 5, 30, 100);
    j->k_row_bytes = td_dtype_row_bytes(j->kv_type, j->dk);
    j->v_row_bytes = c.shared ? j->k_row_bytes : td_dtype_row_bytes(j->kv_type, j->dv);
    for (int p = 0; p < pages; p++) {
        for (int v = 0; v < 2; v++) {
            int n = v ? j->dv : j->dk;
            size_t row_bytes = v ? td_dtype_row_bytes(j->kv_type, n) : j->k_row_bytes;
            c.pages[v][p] = malloc((size_t)j->page_tokens * row_bytes);
            memset(c.pages[v][p], 0xFF, (size_t)j->page_tokens * row_bytes); /* NaN beyond the end: must never count */
            for (int t = 0; t < j->page_tokens && p * j->page_tokens + t < j->end; t++) {
                float *row = floats(r, (size_t)n, 2);
                tables[0]->store_row(j->kv_type, row, (char *)c.pages[v][p] + (size_t)t * row_bytes, n);
                free(row);
            }
        }
        c.k_pages[p] = c.pages[0][p], c.v_pages[p] = c.shared ? c.pages[0][p] : c.pages[1][p];
    }
    j->q_stride = j->dk + PICK(r, 0, 3);
    c.q = floats(r, (size_t)(j->queries * j->q_stride), 3.0f / sqrtf((float)j->dk));
    int same = (int)td_random_between(r, 0, 1), limit = (int)td_random_between(r, j->begin, j->end + 3);
    for (int i = 0; i < j->queries; i++) c.limits[i] = same ? limit : (int32_t)td_random_between(r, 0, j->end + 70);
    c.out = malloc((size_t)j->queries * (size_t)(j->dv + 2) * 4);
    c.scratch = malloc(td_attention_scratch_floats(j->queries, j->page_tokens, j->dk, j->dv) * 4);
    return c;
}

static void free_attention(attention_case *c)
{
    for (int p = 0; p < 16; p++) free(c->pages[0][p]), free(c->pages[1][p]);
    free(c->q), free(c->out), free(c->scratch);
}

/* m, l and o of all queries, computed by calls of `at_once` queries. */
static void run_attention(attention_case *c, const td_kernel *table, int at_once, float *out)
{
    td_attention_job j = c->job;
    int n = j.queries;
    for (int i = 0; i < n; i += at_once) {
        j = c->job;
        j.k_pages = c->k_pages, j.v_pages = c->v_pages, j.scratch = c->scratch;
        j.queries = TD_MIN(at_once, n - i), j.q = c->q + i * j.q_stride, j.limits = c->limits + i;
        j.m = out + i, j.l = out + n + i, j.o = out + 2 * n + i * j.dv;
        table->attention_part(&j);
    }
}

/* One query against softmax in double. Scores carry dk roundings of 2^-24 of the sum of |q*k|; an error e of a score changes weights by a factor exp(e). */
static void check_attention_query(const attention_case *c, const float *out, int i)
{
    const td_attention_job *j = &c->job;
    int n = j->queries, end = TD_MIN(c->limits[i], j->end), begin = j->window ? TD_MAX(c->limits[i] - j->window, j->begin) : j->begin;
    double scores[600], max = -1e300, sum = 0, score_error = 0, *o = calloc((size_t)j->dv, sizeof *o), v_max = 0;
    float *k = malloc((size_t)j->dk * 4), *v = malloc((size_t)(j->dk + j->dv) * 4);
    for (int t = begin; t < end; t++) {
        double s = 0, magnitude = 0;
        td_dequantise_row(j->kv_type, (const char *)c->k_pages[t / j->page_tokens] + (size_t)(t % j->page_tokens) * j->k_row_bytes, k, j->dk);
        for (int d = 0; d < j->dk; d++) s += (double)c->q[i * j->q_stride + d] * k[d], magnitude += fabs((double)c->q[i * j->q_stride + d] * k[d]);
        scores[t] = s, max = fmax(max, s), score_error = fmax(score_error, magnitude * (j->dk / 16.0 + 8) * 0x1p-24);
    }
    for (int t = begin; t < end; t++) {
        int wanted = c->shared && j->kv_type == TD_Q8_0 ? (j->dv + 31) / 32 * 32 : j->dv;
        td_dequantise_row(j->kv_type, (const char *)c->v_pages[t / j->page_tokens] + (size_t)(t % j->page_tokens) * j->v_row_bytes, v, wanted);
        double p = exp(scores[t] - max);
        sum += p;
        for (int d = 0; d < j->dv; d++) o[d] += p * v[d], v_max = fmax(v_max, fabs((double)v[d]));
    }
    if (begin >= end) {
        assert_true(out[i] == -INFINITY && out[n + i] == 0);
        for (int d = 0; d < j->dv; d++) assert_true(out[2 * n + i * j->dv + d] == 0);
    } else {
        double bound = v_max * (3 * score_error + 2e-6 + (end - begin) * 0x1p-23);
        assert_true(fabs((double)out[i] - max) <= score_error + fabs(max) * 0x1p-23);
        for (int d = 0; d < j->dv; d++) assert_true(fabs((double)out[2 * n + i * j->dv + d] / (double)out[n + i] - o[d] / sum) <= bound);
    }
    free(k), free(v), free(o);
}

static void attention_is_right_and_has_the_same_bytes(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 250; round++) {
        td_random r = {.seed = seed * 911 + round};
        attention_case c = random_attention(&r);
        size_t bytes = (size_t)c.job.queries * (size_t)(c.job.dv + 2) * 4;
        float *other = malloc(bytes);
        run_attention(&c, tables[0], c.job.queries, c.out);
        for (int i = 0; i < c.job.queries; i++) check_attention_query(&c, c.out, i);
        for (int t = 0; t < table_count; t++) {
            char what[120];
            snprintf(what, sizeof what, "attention %s dk %d dv %d queries %d page %d window %d", td_dtype_name(c.job.kv_type), c.job.dk, c.job.dv, c.job.queries, c.job.page_tokens, c.job.window);
            run_attention(&c, tables[t], c.job.queries, other);
            same_bytes(c.out, other, bytes, what, tables[t], round);
            run_attention(&c, tables[t], (int)td_random_between(&r, 1, 5), other);
            same_bytes(c.out, other, bytes, strcat(what, " divided"), tables[t], round);
        }
        free(other), free_attention(&c);
    }
}

static void partitions_merge(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 100; round++) {
        td_random r = {.seed = seed * 13 + round};
        int dv = PICK(&r, 1, 7, 16, 100, 128);
        float *o = floats(&r, (size_t)dv, 4), *ob = floats(&r, (size_t)dv, 4), m = uniform(&r, 5), mb = uniform(&r, 5), l = 1 + uniform(&r, 0.5f), lb = 3 + uniform(&r, 1);
        if (round % 5 == 1) m = -INFINITY, l = 0;
        if (round % 5 == 2) mb = -INFINITY, lb = 0;
        float *first = NULL, first_m = 0, first_l = 0;
        for (int t = 0; t < table_count; t++) {
            float *oc = copy(o, dv), mc = m, lc = l;
            tables[t]->attention_merge(&mc, &lc, oc, mb, lb, ob, dv);
            if (t == 0) {
                first = oc, first_m = mc, first_l = lc;
                double max = fmax(m, mb), a = exp(m - max), b = exp(mb - max);
                assert_true((double)mc == max && fabs((double)lc - (a * l + b * lb)) < 1e-5);
                for (int d = 0; d < dv; d++) assert_true(fabs((double)oc[d] - ((m == -INFINITY ? 0 : a * o[d]) + (mb == -INFINITY ? 0 : b * ob[d]))) < 1e-5);
                continue;
            }
            same_bytes(first, oc, (size_t)dv * 4, "merge", tables[t], round);
            assert_true(mc == first_m && lc == first_l);
            free(oc);
        }
        free(first), free(o), free(ob);
    }
}

static void tables_are_picked_by_name(void **state)
{
    (void)state;
    const td_kernel *kernel = NULL;
    assert_int_equal(td_kernel_pick(NULL, &kernel), TD_OK);
    assert_ptr_equal(kernel, tables[table_count - 1]);
    assert_int_equal(td_kernel_pick("ref", &kernel), TD_OK);
    assert_string_equal(kernel->name, "ref");
    assert_int_equal(td_kernel_pick("avx2", &kernel), TD_OK);
    assert_true(strcmp(kernel->name, "avx512") != 0);
    assert_int_equal(td_kernel_pick("mmx", &kernel), TD_E_INVALID);
    assert_non_null(strstr(td_error(), "avx2"));
}

/* What bandwidth is measured with. */
static void reading_leaves_nothing_out(void **state)
{
    (void)state;
    td_random r = {.seed = seed * 7919};
    for (int pages = 0; pages < 6; pages++) {
        size_t bytes = (size_t)pages * TD_READ_BYTES;
        uint32_t *words = aligned_alloc(TD_READ_BYTES, bytes + TD_READ_BYTES), expected = 0;
        for (size_t i = 0; i < bytes / 4; i++) expected ^= words[i] = (uint32_t)td_random_between(&r, 0, UINT32_MAX);
        for (int t = 0; t < table_count; t++)
            if (tables[t]->read(words, bytes) != expected) fail_msg("%s: %zu bytes", tables[t]->why, bytes);
        free(words);
    }
}

int main(void)
{
    const char *given = getenv("TD_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    table_count = td_kernel_all(tables);
    print_message("TD_SEED=%llu, tables:", (unsigned long long)seed);
    for (int t = 0; t < table_count; t++) print_message(" %s (%s)%s", tables[t]->name, tables[t]->why, t + 1 < table_count ? "," : "\n");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_picked_by_name), cmocka_unit_test(plain_products_are_right), cmocka_unit_test(products_have_the_same_bytes),
        cmocka_unit_test(rows_have_the_same_bytes), cmocka_unit_test(rows_are_right), cmocka_unit_test(attention_is_right_and_has_the_same_bytes), cmocka_unit_test(partitions_merge),
        cmocka_unit_test(reading_leaves_nothing_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
