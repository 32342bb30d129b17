/* test_json.c - the pull reader: what RFC 8259 allows and refuses, places of errors, skipping, unescaping, depth, and every truncation of a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/random.h"

static td_status read_all_of(const char *text, size_t bytes)
{
    td_json j;
    td_json_begin(&j, text, bytes, "text");
    do TD_TRY(td_json_next(&j));
    while (j.kind != TD_JSON_END);
    assert_int_equal(j.depth, 0);
    return TD_OK;
}

static td_status read_all(const char *text) { return read_all_of(text, strlen(text)); }

static void valid_texts_are_read(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "[]", "0", "-0", "-1.5e+10", "\"\"", "true", "false", "null", " \t\r\n[ ]\n", "[1,2]", "{\"a\":{\"b\":[null]},\"c\":\"d\"}",
                                        "\"\\ud83d\\ude00 \\u00e9 \xF0\x9F\x98\x80\"", "[[],[[]],{}]", "1E2", "\"\x7F\"", "\"\\u0000\""};
    for (size_t i = 0; i < TD_COUNT(texts); i++)
        if (read_all(texts[i]) != TD_OK) fail_msg("%s: %s", texts[i], td_error());
}

static void invalid_texts_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", " ", "{", "[", "}", "]", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{\"a\":}", "[1 2]", "01", "-", "1.", ".5", "1e", "+1", "tru", "nul", "True", "\"", "\"\\\"",
                                        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\n\"", "\"\xC3\"", "\"\xFF\"", "\"\xED\xA0\x80\"", "\"\xC0\x80\"",
                                        "{}{}", "1 2", "[1}", "{\"a\":1]", "\xEF\xBB\xBF{}", "// x\n1", "NaN", "[,1]", "{,}", "'a'", "--1", "0x10", "[1]]"};
    for (size_t i = 0; i < TD_COUNT(texts); i++)
        if (read_all(texts[i]) != TD_E_FORMAT) fail_msg("text %zu was accepted: %s", i, texts[i]);
    assert_int_equal(read_all_of("1\0", 2), TD_E_FORMAT);
}

static void errors_say_where(void **state)
{
    (void)state;
    assert_int_equal(read_all("{\n  \"a\": 1\n  \"b\": 2 }"), TD_E_FORMAT);
    assert_string_equal(td_error(), "text, line 3, byte 13: expected ',' or '}', found '\"'");
    td_json j;
    td_json_begin(&j, "[1,x]", 5, "file f");
    assert_int_equal(td_json_next(&j), TD_OK);
    assert_int_equal(td_json_next(&j), TD_OK);
    assert_int_equal(td_json_next(&j), TD_E_FORMAT);
    assert_int_equal(td_json_next(&j), TD_E_FORMAT); /* it sticks */
    td_json_begin(&j, "[1]", 3, "file f");
    assert_int_equal(td_json_expect(&j, TD_JSON_OBJECT, "the root"), TD_E_FORMAT);
    assert_string_equal(td_error(), "file f, line 1, byte 0: expected an object for the root, found an array");
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * TD_JSON_DEPTH + 3];
    for (int extra = 0; extra < 2; extra++) {
        int depth = TD_JSON_DEPTH + extra;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(read_all_of(text, (size_t)(2 * depth)), extra ? TD_E_FORMAT : TD_OK);
    }
}

static void strings_are_unescaped(void **state)
{
    (void)state;
    static const struct { const char *json, *text; size_t bytes; } cases[] = {
        {"\"a\\n\\t\\\\\\/\\\"\\b\\f\\r\"", "a\n\t\\/\"\b\f\r", 9}, {"\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC", 6},
        {"\"\\ud83d\\ude00!\"", "\xF0\x9F\x98\x80!", 5}, {"\"plain\"", "plain", 5}, {"\"\\u0000x\"", "\0x", 2}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_json j;
        td_json_begin(&j, cases[i].json, strlen(cases[i].json), "text");
        assert_int_equal(td_json_expect(&j, TD_JSON_STRING, "it"), TD_OK);
        char out[64];
        assert_true(j.token_bytes < sizeof out);
        assert_int_equal(td_json_text(&j, out), cases[i].bytes);
        assert_memory_equal(out, cases[i].text, cases[i].bytes + 1);
        assert_int_equal(td_json_equals(&j, cases[i].text), strlen(cases[i].text) == cases[i].bytes);
        assert_false(td_json_equals(&j, "other"));
        assert_false(td_json_equals(&j, ""));
    }
}

static void numbers_are_exact(void **state)
{
    (void)state;
    static const struct { const char *text; bool whole; int64_t value; } cases[] = {{"0", true, 0}, {"-0", true, 0}, {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN}, {"9223372036854775808", false, 0}, {"1.0", false, 0}, {"1e3", false, 0}, {"true", false, 0}, {"-17", true, -17}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_json j;
        td_json_begin(&j, cases[i].text, strlen(cases[i].text), "text");
        assert_int_equal(td_json_next(&j), TD_OK);
        int64_t value = 77;
        assert_int_equal(td_json_i64(&j, "it", &value), cases[i].whole ? TD_OK : TD_E_FORMAT);
        assert_int_equal(value, cases[i].whole ? cases[i].value : 77);
    }
    td_json j;
    td_json_begin(&j, "-2.5e-3", 7, "text");
    double value = 0;
    assert_int_equal(td_json_next(&j), TD_OK);
    assert_int_equal(td_json_f64(&j, "it", &value), TD_OK);
    assert_true(value == -2.5e-3);
}

static void values_are_skipped(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":{\"x\":[1,{\"y\":2}]},\"b\":[[],{}],\"c\":\"s\",\"want\":7,\"d\":null}";
    td_json j;
    td_json_begin(&j, text, sizeof text - 1, "text");
    assert_int_equal(td_json_expect(&j, TD_JSON_OBJECT, "the root"), TD_OK);
    int64_t want = 0;
    int keys = 0;
    for (;;) {
        assert_int_equal(td_json_next(&j), TD_OK);
        if (j.kind == TD_JSON_OBJECT_END) break;
        assert_int_equal(j.kind, TD_JSON_KEY);
        assert_int_equal(j.depth, 1);
        keys++;
        if (td_json_equals(&j, "want")) {
            assert_int_equal(td_json_next(&j), TD_OK);
            assert_int_equal(td_json_i64(&j, "want", &want), TD_OK);
        } else assert_int_equal(td_json_skip(&j), TD_OK);
    }
    assert_int_equal(td_json_expect(&j, TD_JSON_END, "the end"), TD_OK);
    assert_int_equal(keys, 5);
    assert_int_equal(want, 7);
}

/* Every proper prefix of an object is an error, and no byte behind the end is read (the copies are exactly as long as the text). */
static void truncated_and_damaged_texts(void **state)
{
    (void)state;
    static const char text[] = "{\"model\":{\"vocab\":{\"\\u0120a\":1,\"b\\ud83d\\ude00\":-2.5e3},\"merges\":[[\"a\",\"b\"],true,null,false]}}";
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++) {
        char *exact = malloc(bytes ? bytes : 1);
        memcpy(exact, text, bytes);
        assert_int_equal(read_all_of(exact, bytes), TD_E_FORMAT);
        free(exact);
    }
    const char *seed_text = getenv("TD_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    td_random random = {.seed = seed};
    char *copy = malloc(sizeof text - 1);
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, text, sizeof text - 1);
        for (int k = 0; k <= i % 3; k++) copy[td_random_between(&random, 0, sizeof text - 2)] = (char)td_random_next(&random);
        read_all_of(copy, sizeof text - 1); /* must return */
    }
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_texts_are_read), cmocka_unit_test(invalid_texts_are_refused), cmocka_unit_test(errors_say_where), cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(strings_are_unescaped), cmocka_unit_test(numbers_are_exact), cmocka_unit_test(values_are_skipped), cmocka_unit_test(truncated_and_damaged_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
