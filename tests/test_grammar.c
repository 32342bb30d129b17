/* test_grammar.c - constrained sampling: whatever is drawn from the allowed tokens is a text of the grammar, and what the mask says is what goes on. */
#include <math.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"
#include "grammar_support.h"

static td_random dice = {.seed = 9};

/* Draws until the grammar ends, allowed tokens alike, ends of text and closing characters preferred after a while. NULL: no end was found. */
static char *draw(const td_grammar *g, int most)
{
    td_matcher *m;
    td_buffer text = {0};
    float *logits = malloc((size_t)size * sizeof *logits);
    if (td_matcher_open(g, vocab, &m) < 0) fail_msg("%s", td_error());
    for (int n = 0; n < most; n++) {
        int32_t chosen = -1;
        float best = -INFINITY;
        for (int i = 0; i < size; i++) logits[i] = (float)td_random_next_unit(&dice);
        int allowed = td_matcher_mask(m, logits, size);
        assert_true(allowed > 0);
        for (int i = 0; i < size; i++) {
            size_t bytes;
            const char *token = td_tokenizer_bytes(tokenizer, i, &bytes);
            if (!isinf(logits[i]) && n > 30 && (td_tokenizer_is_end(tokenizer, i) || (bytes == 1 && strchr("\"}],", token[0])))) logits[i] += 10;
            if (!isinf(logits[i]) && logits[i] > best) best = logits[i], chosen = i;
        }
        assert_true(chosen >= 0);
        if (n % 7 == 0) { /* what the mask forbids does not go on */
            int32_t other = (int32_t)td_random_between(&dice, 0, size - 1);
            if (isinf(logits[other])) assert_false(td_matcher_token(m, other));
        }
        assert_true(td_matcher_token(m, chosen));
        if (td_tokenizer_is_end(tokenizer, chosen)) {
            assert_true(td_matcher_complete(m));
            td_matcher_close(m);
            free(logits);
            td_buffer_text(&text, "");
            return text.data ? text.data : calloc(1, 1);
        }
        size_t bytes;
        const char *token = td_tokenizer_bytes(tokenizer, chosen, &bytes);
        td_buffer_put(&text, token, bytes);
    }
    td_matcher_close(m);
    free(logits);
    td_buffer_free(&text);
    return NULL;
}

static void test_schema(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"age\":{\"type\":\"integer\"},\"kind\":{\"enum\":[\"a\",\"b\\\"c\",3,null]},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3},"
        "\"child\":{\"anyOf\":[{\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]},\"x\":{\"type\":[\"number\",\"string\"]}},\"required\":[\"name\",\"kind\",\"tags\"],\"additionalProperties\":false,\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#/$defs/n\"}}}}}";
    cJSON *parsed = cJSON_Parse(schema);
    td_grammar *g;
    int ends = 0;
    assert_non_null(parsed);
    if (td_grammar_from_schema(parsed, &g) < 0) fail_msg("%s", td_error());
    for (int round = 0; round < 60; round++) {
        char *text = draw(g, 400);
        if (!text) continue;
        ends++;
        cJSON *made = cJSON_Parse(text), *tags = cJSON_GetObjectItem(made, "tags"), *age = cJSON_GetObjectItem(made, "age"), *item;
        if (!made) fail_msg("not JSON: %s", text);
        assert_true(cJSON_IsObject(made) && cJSON_IsString(cJSON_GetObjectItem(made, "name")) && cJSON_IsArray(tags) && cJSON_GetArraySize(tags) >= 1 && cJSON_GetArraySize(tags) <= 3);
        assert_true(!age || (cJSON_IsNumber(age) && age->valuedouble == floor(age->valuedouble)));
        cJSON_ArrayForEach(item, tags) assert_true(cJSON_IsBool(item));
        cJSON_Delete(made);
        free(text);
    }
    print_message("%d of 60 came to an end\n", ends);
    assert_true(ends > 30);
    td_grammar_close(g);
    cJSON_Delete(parsed);
}

static void test_any_object(void **state)
{
    (void)state;
    td_grammar *g;
    int ends = 0;
    assert_int_equal(td_grammar_any_object(&g), TD_OK);
    for (int round = 0; round < 40; round++) {
        char *text = draw(g, 300);
        if (!text) continue;
        ends++;
        cJSON *made = cJSON_Parse(text);
        if (!cJSON_IsObject(made)) fail_msg("no object: %s", text);
        cJSON_Delete(made);
        free(text);
    }
    print_message("%d of 40 came to an end\n", ends);
    assert_true(ends > 10);
    td_grammar_close(g);
}

static void matches(const td_grammar *g, const char *text, bool expected)
{
    td_matcher *m;
    assert_int_equal(td_matcher_open(g, vocab, &m), TD_OK);
    bool got = td_matcher_bytes(m, text, strlen(text)) && td_matcher_complete(m);
    if (got != expected) fail_msg("'%s': expected %d, found %d", text, expected, got);
    td_matcher_close(m);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct { bool regex; const char *grammar; const char *yes[6], *no[6]; } cases[] = {
        {true, "[a-z]+@[a-z]+\\.(com|org)", {"a@b.com", "xy@z.org"}, {"a@b.net", "@b.com", "a@b.com "}},
        {true, "^\\d{3}-\\d{2,4}$", {"123-45", "123-4567"}, {"12-345", "123-45678", ""}},
        {true, "((a?)*b?)*", {"", "aab", "bab"}, {"c", "aac"}}, /* repeats of what may be empty */
        {true, "(a|bc)*d?", {"", "d", "abcad", "bcbc"}, {"b", "dd", "abd"}},
        {true, "[^\"\\\\é]x.", {"中xy", "axé"}, {"éxa", "\"xa", "ax\n"}},
        {false, "root ::= (\"a\" root \"b\")? # nested\n", {"", "ab", "aabb"}, {"a", "aab", "ba"}},
        {false, "root ::= item (\",\" item)*\nitem ::= [0-9]+ | \"x\"{2,3}\n", {"1", "12,xx,xxx"}, {"x", "1,", "xxxx"}},
        {false, "root ::= \"\\u00e9\" [\\u4e00-\\u9fff]{2} .\n", {"é中文!", "é一一🙂"}, {"é中", "e中文!"}},
    };
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_grammar *g;
        td_status status = cases[i].regex ? td_grammar_from_regex(cases[i].grammar, strlen(cases[i].grammar), &g) : td_grammar_from_gbnf(cases[i].grammar, strlen(cases[i].grammar), &g);
        if (status < 0) fail_msg("%s: %s", cases[i].grammar, td_error());
        for (int k = 0; k < 6 && cases[i].yes[k]; k++) matches(g, cases[i].yes[k], true);
        for (int k = 0; k < 6 && cases[i].no[k]; k++) matches(g, cases[i].no[k], false);
        td_grammar_close(g);
    }
}

/* What each keyword lets through, as JSON texts; tests/reference/text_grammars.py asks the jsonschema package about random ones. */
static void test_keywords(void **state)
{
    (void)state;
    static const struct { const char *schema; const char *yes[5], *no[5]; } cases[] = {
        {"{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":105}", {"-12", "0", "9", "99", "104"}, {"-13", "105", "-0", "1.0", "007"}},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}", {"0", "0.25", "1", "1.0"}, {"1.01", "-0.5", "2", "1e5"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":3}", {"3.001", "4", "1000"}, {"3", "3.0", "2.9", "-4"}},
        {"{\"type\":\"string\",\"pattern\":\"^[a-z]+@x$\"}", {"\"ab@x\""}, {"\"@x\"", "\"ab@xy\"", "\"-ab@x\""}},
        {"{\"type\":\"string\",\"pattern\":\"a\\\"b\"}", {"\"a\\\"b\"", "\"xa\\\"by\""}, {"\"a\"b\"", "\"ab\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}", {"\"2024-12-31\"", "\"1999-02-28\""}, {"\"2024-13-01\"", "\"2024-04-31\"", "\"24-01-01\""}},
        {"{\"enum\":[\"a\",1,null],\"type\":[\"string\",\"null\"]}", {"\"a\"", "null"}, {"1", "\"b\""}},
        {"{\"properties\":{\"ab\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"integer\"}}", {"{}", "{\"ab\":null}", "{\"ab\":null,\"a\":1}", "{\"abc\":2,\"\":3}"}, {"{\"ab\":1}", "{\"a\":null}", "{\"a\":1,\"ab\":2}", "{\"\\u0061b\":1}"}},
        {"{\"additionalProperties\":{\"type\":\"integer\"}}", {"{}", "{\"x\":1}"}, {"{\"x\":null}"}},
        {"{\"required\":[\"a\"],\"type\":\"object\"}", {"{\"a\":[]}"}, {"{}"}},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}}},{\"properties\":{\"a\":{\"minimum\":5}},\"required\":[\"a\"]}]}", {"{\"a\":5}"}, {"{\"a\":4}", "{}"}},
        {"{\"type\":\"object\",\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}],\"properties\":{\"a\":{},\"b\":{}}}", {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"}, {"{}"}},
        {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", {"\"x\"", "3"}, {"null", "3.5"}},
        {"{\"discriminator\":{\"propertyName\":\"k\",\"mapping\":{}},\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", {"\"x\"", "3"}, {"null", "3.5"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"integer\"}],\"items\":false,\"minItems\":1}", {"[null]", "[null,3]"}, {"[]", "[3]", "[null,3,4]"}},
        {"{\"$ref\":\"#/$defs/a~1b\",\"maximum\":7,\"$defs\":{\"a/b\":{\"type\":\"integer\",\"minimum\":5}}}", {"5", "7"}, {"4", "8"}},
        {"{\"type\":\"string\",\"maxLength\":1}", {"\"\\u00e9\"", "\"\""}, {"\"\\ud800\"", "\"ab\""}},
    };
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        cJSON *schema = cJSON_Parse(cases[i].schema);
        td_grammar *g;
        assert_non_null(schema);
        if (td_grammar_from_schema(schema, &g) < 0) fail_msg("%s: %s", cases[i].schema, td_error());
        for (int k = 0; k < 5 && cases[i].yes[k]; k++) matches(g, cases[i].yes[k], true);
        for (int k = 0; k < 5 && cases[i].no[k]; k++) matches(g, cases[i].no[k], false);
        td_grammar_close(g);
        cJSON_Delete(schema);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const grammars[][2] = {{"", "root"}, {"root ::= x", "'x'"}, {"root ::= root \"a\" | \"b\"", "left recursion"}, {"root ::= a\na ::= \"x\"* b \"y\"\nb ::= a", "left recursion"}, {"root ::= \"a", "closing"}, {"root ::= [a", "closing"},
        {"root ::= (\"a\"", ")"}, {"root ::= \"a\"{3,2}", "repeats"}, {"root ::= \"a\"\nroot ::= \"b\"", "already"}, {"root = \"a\"", "::="}};
    static const char *const schemas[][2] = {{"{\"type\":\"integer\",\"multipleOf\":3}", "multipleOf"}, {"{\"type\":\"number\",\"minimum\":0.5}", "minimum"}, {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "oneOf"}, {"{\"not\":{}}", "'not'"},
        {"{\"allOf\":[{\"type\":\"string\",\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "pattern"}, {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "no value"}, {"{\"type\":\"string\",\"format\":\"uri\"}", "uri"}, {"{\"enum\":[\"a\"],\"type\":\"null\"}", "no value"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems"}, {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "minimum"}, {"{\"required\":[\"a\"],\"additionalProperties\":false}", "'a'"}, {"{\"type\":\"thing\"}", "thing"}, {"{\"$ref\":\"#/nowhere\"}", "nowhere"}, {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "pattern"}, {"{\"type\":\"string\",\"maxLength\":-1}", "maxLength"}};
    td_grammar *g = NULL;
    for (size_t i = 0; i < TD_COUNT(grammars); i++) {
        assert_true(td_grammar_from_gbnf(grammars[i][0], strlen(grammars[i][0]), &g) < 0);
        if (!strstr(td_error(), grammars[i][1])) fail_msg("%s: %s", grammars[i][0], td_error());
    }
    for (size_t i = 0; i < TD_COUNT(schemas); i++) {
        cJSON *schema = cJSON_Parse(schemas[i][0]);
        assert_true(td_grammar_from_schema(schema, &g) < 0);
        if (!strstr(td_error(), schemas[i][1])) fail_msg("%s: %s", schemas[i][0], td_error());
        cJSON_Delete(schema);
    }
    assert_true(td_grammar_from_regex("a*?", 3, &g) < 0);
    assert_null(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_schema), cmocka_unit_test(test_any_object), cmocka_unit_test(test_keywords), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
