/* test_parsers.c - generated text into reasoning, content and tool calls: the same parts however the text is cut, and nothing lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "base/random.h"
#include "text/parsers.h"

typedef struct { td_buffer parts; td_part_kind last; int call; size_t bytes; } collected;

/* Neighbouring parts of a kind are joined, so that cutting the text elsewhere gives the same. */
static void collect(void *user, td_part_kind kind, int call, const char *text, size_t bytes)
{
    static const char *const names[] = {"R", "C", "call", "A", "end", "W"};
    collected *c = user;
    if (kind != TD_PART_WARNING) c->bytes += bytes;
    if (c->parts.bytes == 0 || c->last != kind || c->call != call) {
        td_buffer_format(&c->parts, "%s%s", c->parts.bytes ? "|" : "", names[kind]);
        td_buffer_text(&c->parts, kind == TD_PART_CALL_END ? "" : ":");
    }
    if (kind != TD_PART_WARNING) td_buffer_put(&c->parts, text, bytes);
    c->last = kind;
    c->call = call;
}

static char *parse(const td_parser_options *options, const char *text, size_t bytes, td_random *random, size_t *given)
{
    collected c = {0};
    td_parser *p;
    assert_int_equal(td_parser_open(options, collect, &c, &p), TD_OK);
    for (size_t at = 0, n; at < bytes; at += n) {
        n = random ? (size_t)td_random_between(random, 1, 9) : bytes;
        if (n > bytes - at) n = bytes - at;
        assert_int_equal(td_parser_put(p, text + at, n), TD_OK);
    }
    assert_int_equal(td_parser_end(p), TD_OK);
    td_parser_close(p);
    if (given) *given = c.bytes;
    if (!c.parts.data) td_buffer_text(&c.parts, "");
    return c.parts.data;
}

static const char tools_json[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"n\":{\"type\":\"integer\"},\"s\":{\"type\":\"string\"},\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"}}}}}]";

typedef struct { td_call_format format; bool starts; const char *text, *expected; } example;
#define DS(x) "<｜tool▁" x "｜>"
#define S3(x) "<｜tool_" x "｜>"
static const example examples[] = {
    {TD_CALLS_NONE, false, "plain <tool_call>text", "C:plain <tool_call>text"},
    {TD_CALLS_HERMES, false, "<think>\nhm\nso\n</think>\n\nHello there", "R:hm\nso|C:Hello there"},
    {TD_CALLS_HERMES, true, "hm\n</think>\n\nHi", "R:hm|C:Hi"},
    {TD_CALLS_HERMES, true, "never ends <tool_call>", "R:never ends <tool_call>"},
    {TD_CALLS_HERMES, false, "  leading kept </think> x", "C:  leading kept </think> x"},
    {TD_CALLS_HERMES, false, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"{\", \"b\": [1, {}]}}\n</tool_call>", "call:f|A:{\"a\": \"}\\\"{\", \"b\": [1, {}]}|end"},
    {TD_CALLS_HERMES, false, "Let me.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{\"x\":1}}</tool_call>", "C:Let me.|call:f|A:{}|end|call:g|A:{\"x\":1}|end"},
    {TD_CALLS_HERMES, false, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"g\"}</tool_call> after", "call:g|A:{\"x\":1}|end|C:after"},
    {TD_CALLS_HERMES, false, "<tool_call>{\"name\": \"g\"}</tool_call>", "call:g|A:{}|end"},
    {TD_CALLS_HERMES, false, "<tool_call>not json</tool_call> rest", "W:|C:<tool_call>not json</tool_call> rest"},
    {TD_CALLS_HERMES, false, "a <tool_call>{\"name\": \"f\", \"argum", "C:a|W:|C: <tool_call>{\"name\": \"f\", \"argum"},
    {TD_CALLS_HERMES, false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ", "call:f|A:{\"a\": |W:|end"},
    {TD_CALLS_HERMES, false, "x <tool_cal", "C:x <tool_cal"},
    {TD_CALLS_HERMES, false, "a <b <tool <tool_ca x", "C:a <b <tool <tool_ca x"},
    {TD_CALLS_DEEPSEEK, false, "Sure." DS("calls▁begin") DS("call▁begin") "function" DS("sep") "f\n```json\n{\"a\": 1}\n```" DS("call▁end") "\n" DS("call▁begin") "function" DS("sep") "g\n```json\n{}\n```" DS("call▁end") DS("calls▁end"),
     "C:Sure.|call:f|A:{\"a\": 1}|end|call:g|A:{}|end"},
    {TD_CALLS_DEEPSEEK, false, DS("calls▁begin") DS("call▁begin") "f" DS("sep") "{\"a\": 1}" DS("call▁end") DS("calls▁end") "tail", "call:f|A:{\"a\": 1}|end|C:tail"},
    {TD_CALLS_DEEPSEEK, false, DS("calls▁begin") "oops", "W:|C:" DS("calls▁begin") "oops"},
    {TD_CALLS_STEP3, true, "why\n</think>\nok " S3("calls_begin") S3("call_begin") "function" S3("sep") "<steptml:invoke name=\"f\"><steptml:parameter name=\"n\"> 5 </steptml:parameter><steptml:parameter name=\"s\">a < \"b\"\n</steptml:parameter>"
     "<steptml:parameter name=\"b\">True</steptml:parameter><steptml:parameter name=\"o\">{\"k\": [1]}</steptml:parameter><steptml:parameter name=\"u\">7</steptml:parameter></steptml:invoke>" S3("call_end") S3("calls_end"),
     "R:why|C:ok|call:f|A:{\"n\": 5, \"s\": \"a < \\\"b\\\"\\n\", \"b\": true, \"o\": {\"k\": [1]}, \"u\": \"7\"}|end"},
    {TD_CALLS_STEP3, false, S3("calls_begin") S3("call_begin") "function" S3("sep") "<steptml:invoke name=\"f\"></steptml:invoke>" S3("call_end") S3("call_begin") "function" S3("sep") "<steptml:invoke name=\"f\"><steptml:parameter name=\"n\">x</steptml:parameter></steptml:invoke>" S3("call_end") S3("calls_end"),
     "call:f|A:{}|end|call:f|A:{\"n\": \"x\"}|end"},
    {TD_CALLS_STEP3, false, S3("calls_begin") S3("call_begin") "other" S3("sep") "x", "W:|C:" S3("calls_begin") S3("call_begin") "other" S3("sep") "x"},
    {TD_CALLS_LLAMA3, false, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "call:f|A:{\"a\": 1}|end"},
    {TD_CALLS_LLAMA3, false, "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}", "call:f|A:{\"a\": 1}|end|call:g|A:{}|end"},
    {TD_CALLS_LLAMA3, false, "{\"answer\": 42}", "C:{\"answer\": 42}"},
    {TD_CALLS_LLAMA3, false, "Just text {x}", "C:Just text {x}"},
};

static void test_examples(void **state)
{
    (void)state;
    td_random r = {.seed = 5};
    cJSON *tools = cJSON_Parse(tools_json);
    for (size_t i = 0; i < TD_COUNT(examples); i++)
        for (int round = 0; round < 60; round++) {
            td_parser_options options = {.calls = examples[i].format, .reasoning = examples[i].format != TD_CALLS_NONE, .starts_in_reasoning = examples[i].starts, .tools = tools};
            char *got = parse(&options, examples[i].text, strlen(examples[i].text), round ? &r : NULL, NULL);
            if (strcmp(got, examples[i].expected)) fail_msg("%s\n  expected %s\n  found    %s", examples[i].text, examples[i].expected, got);
            free(got);
        }
    cJSON_Delete(tools);
}

/* Pieces of markup thrown together: the parts do not depend on the cuts, and text without any mark is all given out. */
static void test_random(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"f\", \"arguments\": {", "}", "}}", "\"", "text ", "\n", " ", "<", "｜", "\xFF", DS("calls▁begin"), DS("call▁begin"), DS("sep"),
        DS("call▁end"), DS("calls▁end"), "function", "f\n```json\n{", "```", S3("calls_begin"), S3("call_begin"), S3("sep"), S3("call_end"), S3("calls_end"), "<steptml:invoke name=\"", "f\">", "<steptml:parameter name=\"", "</steptml:parameter>", "</steptml:invoke>", "<|python_tag|>", ";"};
    const char *seed = getenv("TD_SEED");
    td_random r = {.seed = seed ? strtoull(seed, NULL, 10) : 11};
    print_message("seed %llu\n", (unsigned long long)r.seed);
    for (int round = 0; round < 4000; round++) {
        td_buffer text = {0};
        td_parser_options options = {.calls = (td_call_format)(round % 5), .reasoning = td_random_next(&r) & 1, .starts_in_reasoning = td_random_next(&r) % 4 == 0};
        for (int n = (int)td_random_between(&r, 1, 14); n > 0; n--) td_buffer_text(&text, pieces[td_random_next(&r) % TD_COUNT(pieces)]);
        char *whole = parse(&options, text.data, text.bytes, NULL, NULL);
        for (int cut = 0; cut < 3; cut++) {
            char *got = parse(&options, text.data, text.bytes, &r, NULL);
            if (strcmp(got, whole)) fail_msg("format %d, %s\n  at once %s\n  in parts %s", options.calls, text.data, whole, got);
            free(got);
        }
        free(whole);
        td_buffer_free(&text);
    }
}

static void test_find(void **state)
{
    (void)state;
    bool reasons;
    assert_int_equal(td_call_format_find("x <tool_call> </think>", 22, &reasons), TD_CALLS_HERMES);
    assert_true(reasons);
    assert_int_equal(td_call_format_find("", 0, &reasons), TD_CALLS_NONE);
    assert_false(reasons);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples), cmocka_unit_test(test_random), cmocka_unit_test(test_find)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
