/*
 * test_reference.c - logits of the stored tiny models (tests/data/reference) against the references that tests/reference/store_vectors.py made, and the same bytes
 * whatever the threads, the prefill chunk and the instruction set. One test a folder.
 *
 * The bound, 1e-4 of the largest logit, holds for F32, BF16 and FP8 weights alike: weights become F32 exactly and activations stay F32 (compare.py gives the reasons).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tandem.h"

enum { TOKENS_MAX = 4096, VALUES_MAX = 1 << 22 };
static const float BOUND = 1e-4f;

typedef struct {
    size_t rows, columns; /* columns 1 for a vector */
    void *data;           /* 4-byte elements; malloc'd */
} array;

/* A 1-D or 2-D NPY file of '<i4' or '<f4'. */
static array load_npy(const char *folder, const char *name, const char *type)
{
    char path[1024], header[256];
    unsigned char start[10];
    array a = {0, 1, NULL};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened", path);
    assert_int_equal(fread(start, 1, sizeof start, f), sizeof start);
    assert_memory_equal(start, "\x93NUMPY\x01", 7);
    size_t length = (size_t)start[8] | (size_t)start[9] << 8;
    assert_true(length < sizeof header);
    assert_int_equal(fread(header, 1, length, f), length);
    header[length] = 0;
    assert_non_null(strstr(header, type));
    assert_non_null(strstr(header, "'fortran_order': False"));
    const char *shape = strstr(header, "'shape': (");
    assert_non_null(shape);
    assert_true(sscanf(shape, "'shape': (%zu, %zu", &a.rows, &a.columns) >= 1);
    assert_true(a.rows > 0 && a.rows <= TOKENS_MAX && a.columns > 0 && a.rows * a.columns <= VALUES_MAX);
    a.data = malloc(a.rows * a.columns * 4);
    assert_non_null(a.data);
    assert_int_equal(fread(a.data, 4, a.rows * a.columns, f), a.rows * a.columns);
    fclose(f);
    return a;
}

/* Logits of a fresh engine. */
static void compute(td_model *model, const td_engine_options *options, const array *ids, float *out)
{
    td_engine *engine = NULL;
    if (td_engine_open(model, options, &engine) < 0) fail_msg("engine: %s", td_error());
    if (td_engine_logits(engine, ids->data, ids->rows, out) < 0) fail_msg("logits: %s", td_error());
    td_engine_close(engine);
}

static void compare(const char *folder, const array *want, const float *got)
{
    const float *expected = want->data;
    float largest = 0.0f, worst = 0.0f;
    size_t at = 0;
    for (size_t i = 0; i < want->rows * want->columns; i++) {
        float difference = fabsf(got[i] - expected[i]);
        if (!(difference <= worst)) { /* a NaN comes in here */
            worst = difference;
            at = i;
        }
        largest = fmaxf(largest, fabsf(expected[i]));
    }
    printf("%s: error %.1e of the largest logit\n", folder, (double)(worst / largest));
    if (!(worst <= BOUND * largest)) fail_msg("%s: position %zu, token %zu: expected %g, found %g", folder, at / want->columns, at % want->columns, (double)expected[at], (double)got[at]);
}

static void check_folder(void **state)
{
    const char *folder = *state;
    array ids = load_npy(folder, "ids.npy", "<i4"), want = load_npy(folder, "logits.npy", "<f4");
    td_model *model = NULL;
    if (td_model_open(folder, NULL, &model) < 0) fail_msg("%s", td_error());
    assert_int_equal(td_model_get_info(model)->vocab_size, want.columns);
    size_t bytes = want.rows * want.columns * sizeof(float);
    float *first = malloc(bytes), *again = malloc(bytes);
    assert_true(first && again);
    compute(model, &(td_engine_options){.kv_dtype = "f32", .threads = 1}, &ids, first);
    compare(folder, &want, first);
    const td_engine_options others[] = {
        {.kv_dtype = "f32", .threads = 2},
        {.kv_dtype = "f32", .threads = 2, .prefill_chunk = 1},
        {.kv_dtype = "f32", .threads = 1, .prefill_chunk = 5},
        {.kv_dtype = "f32", .threads = 2, .prefill_chunk = 16, .micro_batches = 2},
        {.kv_dtype = "f32", .threads = 1, .isa = "ref"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        memset(again, 0xFF, bytes);
        compute(model, &others[i], &ids, again);
        if (memcmp(first, again, bytes)) fail_msg("%s: other bytes with engine options %zu", folder, i);
    }
    free(first);
    free(again);
    free(ids.data);
    free(want.data);
    td_model_close(model);
}

static const char *const names[] = {"step3", "step3-bf16", "step3-fp8", "qwen3", "qwen3_moe", "qwen3_moe-bf16", "llama", "llama-llama3", "llama-linear", "deepseek_v2", "deepseek_v2-groups",
                                    "deepseek_v3", "deepseek_v3-fp8"};
enum { COUNT = sizeof names / sizeof *names };

int main(void)
{
    static char folders[COUNT][1024];
    static struct CMUnitTest tests[COUNT];
    const char *source = getenv("TD_SOURCE");
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(folders[i], sizeof folders[i], "%s/tests/data/reference/%s", source ? source : ".", names[i]);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = check_folder, .initial_state = folders[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
