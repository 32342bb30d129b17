/*
 * test_matcher.c - a matcher whose tables filled up says what one with room for everything says: on long texts of grammars with counts, where each place is a state of its own, and on
 * texts by chance with tables so small that they fill up at nearly every mask.
 */
#include <math.h>

#include "base/buffer.h"
#include "base/random.h"
#include "text/grammar_parts.h"
#include "grammar_support.h"

/* roomy: never full here (at most 19,000 states, 100,000 nodes). tiny: each is short of one thing; 64 states are less than one mask needs of the widest grammar here. */
static const td_matcher_limits roomy = {.states = 1 << 17, .nodes = 1 << 21, .held_bytes = 1 << 28};
static const td_matcher_limits tiny[] = {{.states = 64, .nodes = 1 << 12, .held_bytes = 1 << 14}, {.states = 1 << 10, .nodes = 1 << 9, .held_bytes = 1 << 14}, {.states = 1 << 10, .nodes = 1 << 12, .held_bytes = 3000}};

static td_random dice = {.seed = 17};

static td_matcher *matcher(const td_grammar *g, const td_matcher_limits *limits)
{
    td_matcher *m = NULL;
    if ((limits ? td_matcher_open_sized(g, vocab, limits, &m) : td_matcher_open(g, vocab, &m)) < 0) fail_msg("%s", td_error());
    return m;
}

static td_grammar *schema_grammar(const char *text)
{
    td_grammar *g = NULL;
    cJSON *schema = cJSON_Parse(text);
    if (td_grammar_from_schema(schema, &g) < 0) fail_msg("%s", td_error());
    cJSON_Delete(schema);
    return g;
}

/* logits: 0 where a token may come, else -INFINITY. */
static void mask(td_matcher *m, float *logits, size_t behind)
{
    memset(logits, 0, (size_t)size * sizeof *logits);
    if (td_matcher_mask(m, logits, size) <= 0) fail_msg("behind %zu bytes: %s", behind, td_error());
}

static void masks_agree(td_matcher *a, td_matcher *b, float *logits, size_t behind)
{
    mask(a, logits, behind);
    mask(b, logits + size, behind);
    if (memcmp(logits, logits + size, (size_t)size * sizeof *logits)) fail_msg("two masks behind %zu bytes", behind);
    assert_int_equal(td_matcher_complete(a), td_matcher_complete(b));
}

/* ---- long texts ---- */

static void make_items(td_buffer *text)
{
    for (int i = 0; i < 50; i++) {
        td_buffer_format(text, "%s{\"id\": %lld, \"name\": \"", i ? ", " : "[", (long long)td_random_between(&dice, 0, 1 << 30));
        for (int n = (int)td_random_between(&dice, 90, 120); n > 0; n--) td_buffer_format(text, "%c", (char)td_random_between(&dice, 'a', 'z'));
        td_buffer_format(text, "\", \"price\": %.3f, \"kind\": \"%s\", \"tags\": [\"new\", \"red\", \"of this year\"], \"there\": %s}", td_random_next_unit(&dice) * 100, i % 3 ? "small" : "large", i % 2 ? "true" : "false");
    }
    td_buffer_text(text, "]");
}

static void make_strings(td_buffer *text)
{
    static const char *const pieces[] = {"a", "Z", " ", ".", "\\n", "\\u00e9", "\\\"", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x99\x82", "\\uABCD", "\\u4e2d"};
    for (int s = 0; s < 2; s++) {
        td_buffer_text(text, s ? ", \"b\": \"" : "{\"a\": \"");
        for (int n = 0; n < 1995 + 5 * s; n++) td_buffer_text(text, pieces[td_random_between(&dice, 0, (int64_t)TD_COUNT(pieces) - 1)]);
        td_buffer_text(text, "\"");
    }
    td_buffer_text(text, "}");
}

static void make_chinese(td_buffer *text, int strings)
{
    for (int s = 0; s < strings; s++) {
        td_buffer_text(text, s ? ", \"" : "[\"");
        for (int n = 0; n < 2000; n++) {
            int code = (int)td_random_between(&dice, 0x4E00, 0x9FFF);
            td_buffer_format(text, "%c%c%c", 0xE0 | code >> 12, 0x80 | (code >> 6 & 0x3F), 0x80 | (code & 0x3F));
        }
        td_buffer_text(text, "\"");
    }
    td_buffer_text(text, "]");
}

static void make_one_chinese(td_buffer *text) { make_chinese(text, 1); }
static void make_two_chinese(td_buffer *text) { make_chinese(text, 2); }

/* Goes through a text token by token, with a mask before each; now and then the roomy matcher is asked too. */
static void go_through(const td_grammar *g, const td_buffer *text)
{
    td_matcher *m = matcher(g, NULL), *all = matcher(g, &roomy);
    float *logits = malloc(2 * (size_t)size * sizeof *logits);
    int32_t *ids = NULL;
    size_t count = 0, room = 0, behind = 0, bytes;
    assert_int_equal(td_tokenizer_encode(tokenizer, text->data, text->bytes, 0, &ids, &count, &room), TD_OK);
    for (size_t i = 0; i < count; i++) {
        if (i + 4 > count || td_random_between(&dice, 0, 15) == 0) masks_agree(m, all, logits, behind);
        else mask(m, logits, behind);
        if (logits[ids[i]] < 0) fail_msg("token %d is not allowed behind %zu bytes", ids[i], behind);
        assert_true(td_matcher_token(m, ids[i]) && td_matcher_token(all, ids[i]));
        td_tokenizer_bytes(tokenizer, ids[i], &bytes);
        behind += bytes;
    }
    assert_int_equal(behind, text->bytes);
    assert_true(td_matcher_complete(m) && td_matcher_complete(all));
    masks_agree(m, all, logits, behind);
    free(ids);
    free(logits);
    td_matcher_close(m);
    td_matcher_close(all);
}

static void long_texts_of_counts_come_to_their_end(void **state)
{
    (void)state;
    static const struct { const char *schema; void (*make)(td_buffer *text); size_t least; } cases[] = {
        {"{\"type\":\"array\",\"maxItems\":50,\"items\":{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"},\"name\":{\"type\":\"string\"},\"price\":{\"type\":\"number\"},\"kind\":{\"enum\":[\"small\",\"large\"]},"
         "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"there\":{\"type\":\"boolean\"}},\"required\":[\"id\",\"name\",\"price\",\"kind\",\"tags\",\"there\"],\"additionalProperties\":false}}", make_items, 10000},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":2000},\"b\":{\"type\":\"string\",\"maxLength\":2000}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}", make_strings, 10000},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":2000},\"maxItems\":1}", make_one_chinese, 6000},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":2000},\"maxItems\":2}", make_two_chinese, 12000},
    };
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_buffer text = {0};
        cases[i].make(&text);
        print_message("%zu bytes\n", text.bytes);
        assert_true(text.bytes > cases[i].least);
        td_grammar *g = schema_grammar(cases[i].schema);
        go_through(g, &text);
        td_grammar_close(g);
        td_buffer_free(&text);
    }
}

/* A whole text in one call; what is refused leaves no trace, however often room was made on the way. */
static void bytes_are_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    td_grammar *g = schema_grammar("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":2000},\"maxItems\":2}");
    td_buffer text = {0};
    make_two_chinese(&text);
    td_matcher *m = matcher(g, NULL), *fresh = matcher(g, NULL);
    float *logits = malloc(2 * (size_t)size * sizeof *logits);
    assert_true(td_matcher_bytes(m, text.data, 100) && td_matcher_bytes(fresh, text.data, 100));
    size_t last = text.bytes - 1;
    text.data[last] = '}';
    assert_false(td_matcher_bytes(m, text.data + 100, text.bytes - 100));
    masks_agree(m, fresh, logits, 100);
    text.data[last] = ']';
    assert_true(td_matcher_bytes(m, text.data + 100, text.bytes - 100) && td_matcher_complete(m));
    assert_true(td_matcher_restart(m));
    assert_true(td_matcher_bytes(m, text.data, text.bytes) && td_matcher_complete(m));
    free(logits);
    td_buffer_free(&text);
    td_matcher_close(m);
    td_matcher_close(fresh);
    td_grammar_close(g);
}

/* ---- tiny tables ---- */

/* Texts by chance of at most 150 tokens; between them both begin anew. */
static void draw_with_both(const td_grammar *g, const td_matcher_limits *limits)
{
    td_matcher *m = matcher(g, limits), *all = matcher(g, &roomy);
    float *logits = malloc(2 * (size_t)size * sizeof *logits);
    for (int round = 0; round < 4; round++) {
        for (size_t n = 0; n < 150; n++) {
            masks_agree(m, all, logits, n);
            int32_t token = (int32_t)td_random_between(&dice, 0, size - 1);
            while (logits[token] < 0) token = (token + 1) % size;
            assert_true(td_matcher_token(m, token) && td_matcher_token(all, token));
            if (td_tokenizer_is_end(tokenizer, token)) break;
        }
        assert_true(td_matcher_restart(m) && td_matcher_restart(all));
    }
    free(logits);
    td_matcher_close(m);
    td_matcher_close(all);
}

static void draw_with_each(const td_grammar *g)
{
    for (size_t i = 0; i < TD_COUNT(tiny); i++) draw_with_both(g, &tiny[i]);
}

/* Every text of the vocabulary that is a word of ASCII letters: behind each there is another place, all of which one mask looks at. */
static void make_words(td_buffer *out)
{
    td_buffer_text(out, "root ::= \"?\"");
    for (int32_t id = 0; id < size; id++) {
        size_t bytes, letters = 0;
        const char *text = td_tokenizer_bytes(tokenizer, id, &bytes);
        while (letters < bytes && strchr("abcdefghijklmnopqrstuvwxyz", text[letters] | 0x20) && text[letters]) letters++;
        if (bytes == 0 || letters < bytes) continue;
        td_buffer_format(out, " | \"%.*s-%d\" root", (int)bytes, text, id);
    }
    td_buffer_text(out, "\n");
}

static void tiny_tables_say_the_same(void **state)
{
    (void)state;
    static const char *const schemas[] = {
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":60},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":30},\"child\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},\"required\":[\"name\"]}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"format\":\"date\"},\"maxItems\":9}",
        "{\"type\":\"object\"}",
    };
    static const char *const grammars[] = {"root ::= \"a\" root \"b\" | \"(\" root \")\" | \"c\"{0,40} \"d\"\n", "root ::= ([a-z]{1,7} [ ,.]){3,50}\n", "root ::= [^\"]{20,400}\n"};
    td_buffer words = {0};
    td_grammar *g;
    for (size_t i = 0; i < TD_COUNT(schemas); i++) {
        g = schema_grammar(schemas[i]);
        draw_with_each(g);
        td_grammar_close(g);
    }
    make_words(&words);
    for (size_t i = 0; i <= TD_COUNT(grammars); i++) {
        const char *text = i < TD_COUNT(grammars) ? grammars[i] : words.data;
        if (td_grammar_from_gbnf(text, strlen(text), &g) < 0) fail_msg("%s", td_error());
        draw_with_each(g);
        td_grammar_close(g);
    }
    td_buffer_free(&words);
}

/* More stacks than a place may have: an error, again and again, never a wrong mask, and the place stays. */
static void what_does_not_fit_is_an_error(void **state)
{
    (void)state;
    td_buffer text = {0};
    td_grammar *g;
    td_buffer_text(&text, "root ::= \"ok \" (\"x\"");
    for (int i = 0; i < 5000; i++) td_buffer_format(&text, " | \"b%d\"", i);
    td_buffer_text(&text, ")\n");
    if (td_grammar_from_gbnf(text.data, text.bytes, &g) < 0) fail_msg("%s", td_error());
    td_matcher *m = matcher(g, NULL);
    float *logits = calloc((size_t)size, sizeof *logits);
    for (int round = 0; round < 2; round++) {
        mask(m, logits, 0);
        assert_true(td_matcher_bytes(m, "ok", 2));
        for (int i = 0; i < 3; i++) {
            assert_int_equal(td_matcher_mask(m, logits, size), TD_E_UNSUPPORTED);
            assert_non_null(strstr(td_error(), "4096 stacks"));
            assert_false(td_matcher_bytes(m, " ", 1));
            assert_false(td_matcher_bytes(m, "x", 1));
        }
        assert_true(td_matcher_restart(m));
    }
    free(logits);
    td_matcher_close(m);
    td_grammar_close(g);
    td_buffer_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(long_texts_of_counts_come_to_their_end), cmocka_unit_test(bytes_are_taken_whole_or_not_at_all), cmocka_unit_test(tiny_tables_say_the_same), cmocka_unit_test(what_does_not_fit_is_an_error)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
