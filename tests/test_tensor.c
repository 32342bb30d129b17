/* test_tensor.c - type names and sizes, conversions against vectors of the gguf package and torch, and the errors of quantising. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "reference/quants_vectors.h"
#include "tensor/tensor.h"

static void names_and_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < TD_DTYPES; i++) {
        td_dtype found = TD_DTYPES;
        assert_int_equal(td_dtype_parse(td_dtype_name((td_dtype)i), &found), TD_OK);
        assert_int_equal(found, i);
    }
    td_dtype type = TD_F32;
    assert_int_equal(td_dtype_parse("Q4_K", &type), TD_OK);
    assert_int_equal(type, TD_Q4_K);
    assert_int_equal(td_dtype_parse("q9", &type), TD_E_INVALID);
    assert_non_null(strstr(td_error(), "q6_k"));
    assert_int_equal(type, TD_Q4_K);
    assert_int_equal(td_dtype_row_bytes(TD_Q8_0, 64), 68);
    assert_int_equal(td_dtype_row_bytes(TD_Q8_0, 65), 0);
    assert_int_equal(td_dtype_row_bytes(TD_Q6_K, 512), 420);
    assert_int_equal(td_dtype_row_bytes(TD_BF16, 7), 14);
    assert_int_equal(td_dtype_row_bytes(TD_F32, -1), 0);
    assert_int_equal(td_dtype_row_bytes((td_dtype)99, 1), 0);
}

static void check_values(td_dtype type, const uint8_t *bytes, size_t size, const uint32_t *expected, size_t count)
{
    float values[256];
    assert_int_equal(td_dtype_row_bytes(type, (int64_t)count), size);
    td_dequantise_row(type, bytes, values, (int64_t)count);
    assert_memory_equal(values, expected, count * 4);
}
#define CHECK_VALUES(type, name) check_values(type, name##_bytes, sizeof name##_bytes, name##_values, TD_COUNT(name##_values))

static void dequantise_equals_gguf(void **state)
{
    (void)state;
    CHECK_VALUES(TD_Q8_0, q8_0);
    CHECK_VALUES(TD_Q4_0, q4_0);
    CHECK_VALUES(TD_Q4_K, q4_k);
    CHECK_VALUES(TD_Q5_K, q5_k);
    CHECK_VALUES(TD_Q6_K, q6_k);
}

static void quantise_equals_gguf(void **state)
{
    (void)state;
    uint8_t bytes[sizeof row_q8_0];
    td_quantise_row(TD_Q8_0, (const float *)row_values, bytes, TD_COUNT(row_values));
    assert_memory_equal(bytes, row_q8_0, sizeof row_q8_0);
    td_quantise_row(TD_Q4_0, (const float *)row_values, bytes, TD_COUNT(row_values));
    assert_memory_equal(bytes, row_q4_0, sizeof row_q4_0);
}

static void floats_equal_torch(void **state)
{
    (void)state;
    uint16_t halves[TD_COUNT(edge_values)];
    uint8_t bytes[TD_COUNT(edge_values)];
    td_quantise_row(TD_F16, (const float *)edge_values, halves, TD_COUNT(halves));
    assert_memory_equal(halves, edge_f16, sizeof halves);
    td_quantise_row(TD_BF16, (const float *)edge_values, halves, TD_COUNT(halves));
    assert_memory_equal(halves, edge_bf16, sizeof halves);
    td_quantise_row(TD_F8_E4M3, (const float *)edge_values, bytes, TD_COUNT(bytes));
    assert_memory_equal(bytes, edge_f8, sizeof bytes);
    for (int i = 0; i < 256; i++) {
        float f = td_f8e4m3_to_f32((uint8_t)i), expected;
        memcpy(&expected, &f8_codes[i], 4);
        assert_true(f == expected || (f != f && expected != expected));
        if (f == f) assert_int_equal(td_f32_to_f8e4m3(f), i);
    }
    for (int i = 0; i < 65536; i++) { /* there and back: every half is a float */
        float f = td_f16_to_f32((uint16_t)i);
        if (f == f) assert_int_equal(td_f32_to_f16(f), i);
        else assert_true((i & 0x7FFF) > 0x7C00);
        float b = td_bf16_to_f32((uint16_t)i);
        if (b == b) assert_int_equal(td_f32_to_bf16(b), i);
    }
    assert_true(isnan(td_f16_to_f32(td_f32_to_f16(NAN))) && isnan(td_f8e4m3_to_f32(td_f32_to_f8e4m3(NAN))) && isnan(td_bf16_to_f32(td_f32_to_bf16(NAN))));
}

/* Root mean square error of quantising normal numbers, in units of their deviation. The bounds are about 10 % above what uniform steps over the block's range give:
 * range/levels/sqrt(12), range of 32 normals +-2.1, of 16 +-1.8, least squares a little less. */
static void quantising_errors_are_small(void **state)
{
    (void)state;
    static const struct { td_dtype type; double bound; } cases[] = {{TD_Q8_0, 0.0056}, {TD_Q4_0, 0.10}, {TD_Q4_K, 0.080}, {TD_Q5_K, 0.040}, {TD_Q6_K, 0.020}, {TD_F8_E4M3, 0.028}};
    enum { N = 8192 };
    static float x[N], back[N];
    static uint8_t bytes[N * 4];
    td_random random = {.seed = 5};
    for (int i = 0; i < N; i++) { /* sum of 12 uniforms: nearly normal */
        double sum = -6;
        for (int j = 0; j < 12; j++) sum += td_random_next_unit(&random);
        x[i] = (float)sum;
    }
    for (size_t c = 0; c < TD_COUNT(cases); c++) {
        td_quantise_row(cases[c].type, x, bytes, N);
        td_dequantise_row(cases[c].type, bytes, back, N);
        double error = 0;
        for (int i = 0; i < N; i++) error += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
        error = sqrt(error / N);
        print_message("%s: rms error %.5f\n", td_dtype_name(cases[c].type), error);
        assert_true(error < cases[c].bound);
    }
}

static void any_input_gives_finite_rows(void **state)
{
    (void)state;
    static const float hard[] = {NAN, 3.4e38f, -3.4e38f, 1e-45f, -1e-38f, 0, 1, -0.0f, 65504, 1e-20f};
    float x[256], back[256];
    uint8_t bytes[1024];
    for (uint64_t round = 0; round < 3000; round++) {
        td_random random = {.seed = round};
        int kinds = (int)td_random_between(&random, 1, TD_COUNT(hard));
        for (int i = 0; i < 256; i++) x[i] = hard[td_random_between(&random, 0, kinds - 1)];
        for (td_dtype type = TD_Q8_0; type <= TD_Q6_K; type++) {
            td_quantise_row(type, x, bytes, 256);
            td_dequantise_row(type, bytes, back, 256);
            for (int i = 0; i < 256; i++) assert_true(isfinite(back[i]));
        }
    }
}

static void slices_of_stacked_tensors(void **state)
{
    (void)state;
    float scales[3 * 2 * 3] = {0};
    static uint8_t data[3 * 200 * 300];
    td_tensor t = {.type = TD_F8_E4M3, .dims = 3, .shape = {3, 200, 300}, .data = data, .scale = scales};
    assert_int_equal(td_tensor_elements(&t), 180000);
    assert_int_equal(td_tensor_bytes(&t), 180000);
    td_tensor second = td_tensor_slice(&t, 2);
    assert_ptr_equal(second.data, data + 120000);
    assert_ptr_equal(second.scale, scales + 12);
    td_tensor none = {0};
    assert_int_equal(td_tensor_bytes(&none), 0);
    assert_int_equal(td_tensor_elements(&none), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes), cmocka_unit_test(dequantise_equals_gguf), cmocka_unit_test(quantise_equals_gguf), cmocka_unit_test(floats_equal_torch),
        cmocka_unit_test(quantising_errors_are_small), cmocka_unit_test(any_input_gives_finite_rows), cmocka_unit_test(slices_of_stacked_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
