/*
 * test_text.c - tokenizers against what the Hugging Face tokenizers library makes of the same texts (tests/data/text, written by
 * tests/reference/text_make.py), broken input, streaming, long runs.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <cjson/cJSON.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/utf8.h"
#include "checkpoint/checkpoint.h"
#include "text/regex.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

static const char *const kinds[] = {"gpt2", "llama3", "qwen2", "deepseek", "o200k", "sentencepiece", "metaspace", "odd"};

static char *read_data(const char *name, size_t *bytes)
{
    const char *source = getenv("TD_SOURCE");
    char path[4096], *text = NULL;
    snprintf(path, sizeof path, "%s/tests/data/text/%s", source ? source : ".", name);
    if (td_file_read(path, 64u << 20, &text, bytes) < 0) fail_msg("%s", td_error());
    return text;
}

static td_tokenizer *open_kind(const char *kind)
{
    char name[64];
    size_t bytes;
    td_tokenizer *t = NULL;
    snprintf(name, sizeof name, "%s.tokenizer.json", kind);
    char *json = read_data(name, &bytes);
    if (td_tokenizer_from_json(json, bytes, NULL, 0, &t) < 0) fail_msg("%s: %s", name, td_error());
    free(json);
    return t;
}

static cJSON *open_expected(const char *kind)
{
    char name[64];
    size_t bytes;
    snprintf(name, sizeof name, "%s.expected.json", kind);
    char *json = read_data(name, &bytes);
    cJSON *root = cJSON_ParseWithLength(json, bytes);
    assert_non_null(root);
    free(json);
    return root;
}

/* The texts hold NUL, which cJSON's strings cannot; so the pull reader. */
typedef struct { char *pool; char *text[2000]; size_t bytes[2000]; size_t count; } corpus;

static corpus *open_corpus(void)
{
    size_t bytes;
    corpus *c = calloc(1, sizeof *c);
    char *json = read_data("corpus.json", &bytes), *at = c->pool = malloc(bytes + 1);
    td_json j;
    td_json_begin(&j, json, bytes, "corpus.json");
    assert_int_equal(td_json_expect(&j, TD_JSON_ARRAY, "the root"), TD_OK);
    while (td_json_next(&j) == TD_OK && j.kind == TD_JSON_STRING) {
        c->text[c->count] = at;
        c->bytes[c->count] = td_json_text(&j, at);
        at += c->bytes[c->count++] + 1;
    }
    assert_int_equal(j.kind, TD_JSON_ARRAY_END);
    free(json);
    return c;
}

static void close_corpus(corpus *c)
{
    free(c->pool);
    free(c);
}

static uint64_t hash_ids(const int32_t *ids, size_t count)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < 4; b++) h = (h ^ ((uint32_t)ids[i] >> 8 * b & 0xFF)) * 0x100000001B3u;
    return h;
}

typedef struct { int32_t *ids; size_t count, capacity; } id_list;

static void encode(const td_tokenizer *t, const char *text, size_t bytes, unsigned flags, id_list *out)
{
    out->count = 0;
    if (td_tokenizer_encode(t, text, bytes, flags, &out->ids, &out->count, &out->capacity) < 0) fail_msg("%s", td_error());
}

/* expected is [id, ...], or [count, "hash"]. */
static bool same_ids(const id_list *got, const cJSON *expected)
{
    const cJSON *second = cJSON_GetArrayItem(expected, 1);
    if (cJSON_IsString(second)) {
        char hash[32];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_ids(got->ids, got->count));
        return (size_t)cJSON_GetArrayItem(expected, 0)->valuedouble == got->count && !strcmp(hash, second->valuestring);
    }
    size_t i = 0;
    const cJSON *id;
    cJSON_ArrayForEach(id, expected) {
        if (i >= got->count || got->ids[i] != (int32_t)id->valuedouble) return false;
        i++;
    }
    return i == got->count;
}

static void report(const char *kind, const char *mode, const char *text, size_t bytes, const id_list *got)
{
    fprintf(stderr, "%s %s: other ids for ", kind, mode);
    for (size_t i = 0; i < TD_MIN(bytes, 300); i++) fprintf(stderr, (unsigned char)text[i] < 0x20 ? "\\x%02x" : "%c", (unsigned char)text[i]);
    fprintf(stderr, "\n  found");
    for (size_t i = 0; i < TD_MIN(got->count, 60); i++) fprintf(stderr, " %d", got->ids[i]);
    fprintf(stderr, "\n");
}

static void test_encode(void **state)
{
    (void)state;
    corpus *c = open_corpus();
    id_list got = {0};
    int wrong = 0;
    assert_true(c->count > 300);
    for (size_t k = 0; k < TD_COUNT(kinds); k++) {
        td_tokenizer *t = open_kind(kinds[k]);
        cJSON *expected = open_expected(kinds[k]);
        for (int mode = 0; mode < 2; mode++) {
            const char *name = mode ? "plain" : "special";
            const cJSON *list = cJSON_GetObjectItem(expected, name)->child;
            for (size_t i = 0; i < c->count; i++, list = list->next) {
                assert_non_null(list);
                encode(t, c->text[i], c->bytes[i], mode ? 0 : TD_TOKENIZE_SPECIAL, &got);
                if (!same_ids(&got, list) && wrong++ < 12) report(kinds[k], name, c->text[i], c->bytes[i], &got);
            }
        }
        cJSON_Delete(expected);
        td_tokenizer_close(t);
    }
    free(got.ids);
    close_corpus(c);
    assert_int_equal(wrong, 0);
}

static void test_gguf(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "deepseek", "o200k", "scores"};
    const char *source = getenv("TD_SOURCE");
    corpus *c = open_corpus();
    id_list got = {0};
    int wrong = 0;
    for (size_t k = 0; k < TD_COUNT(names); k++) {
        char path[4096];
        td_checkpoint *checkpoint;
        td_tokenizer *t;
        snprintf(path, sizeof path, "%s/tests/data/text/%s.gguf", source ? source : ".", names[k]);
        if (td_checkpoint_open(path, &checkpoint) < 0 || td_tokenizer_open(checkpoint, &t) < 0) fail_msg("%s", td_error());
        cJSON *expected = open_expected(names[k]);
        for (int mode = 0; mode < 2; mode++) {
            const char *name = mode ? "plain" : "special";
            const cJSON *list = cJSON_GetObjectItem(expected, name)->child;
            for (size_t i = 0; i < c->count; i++, list = list->next) {
                encode(t, c->text[i], c->bytes[i], mode ? 0 : TD_TOKENIZE_SPECIAL, &got);
                if (!same_ids(&got, list) && wrong++ < 12) report(names[k], name, c->text[i], c->bytes[i], &got);
            }
        }
        bool wants_bos = !strcmp(names[k], "llama3") || !strcmp(names[k], "scores");
        assert_int_equal(td_tokenizer_adds_bos(t), wants_bos);
        assert_true(td_tokenizer_eos(t) >= 0 && td_tokenizer_is_end(t, td_tokenizer_eos(t)) && td_tokenizer_is_special(t, td_tokenizer_eos(t)));
        cJSON_Delete(expected);
        td_tokenizer_close(t);
        td_checkpoint_close(checkpoint);
    }
    free(got.ids);
    close_corpus(c);
    assert_int_equal(wrong, 0);
}

/* Other names of Llama 3's pre-tokenizer mean a bos before the text as well. */
static void test_names_of_llama3(void **state)
{
    (void)state;
    char changed[] = "/tmp/tandem-text-XXXXXX";
    size_t bytes;
    char *data = read_data("llama3.gguf", &bytes), *name = memmem(data, bytes, "llama-bpe", 9);
    assert_non_null(name);
    memcpy(name, "falcon-h1", 9);
    int fd = mkstemp(changed);
    assert_true(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes && close(fd) == 0);
    td_checkpoint *checkpoint;
    td_tokenizer *t = NULL;
    if (td_checkpoint_open(changed, &checkpoint) < 0 || td_tokenizer_open(checkpoint, &t) < 0) fail_msg("%s", td_error());
    assert_true(td_tokenizer_adds_bos(t));
    td_tokenizer_close(t);
    td_checkpoint_close(checkpoint);
    unlink(changed);
    free(data);
}

static size_t decode(const td_tokenizer *t, const int32_t *ids, size_t count, bool skip, char *out)
{
    td_detokenizer state = {0};
    size_t written = 0;
    for (size_t i = 0; i < count; i++) {
        size_t bytes, now = td_detokenizer_put(t, &state, ids[i], skip, out + written);
        td_tokenizer_bytes(t, ids[i], &bytes);
        assert_true(now <= TD_DETOKENIZE_MAX * (bytes + 8));
        for (size_t at = 0, length; at < now; at += length) { /* every piece is whole characters */
            length = td_utf8_length(out + written + at, now - at);
            assert_true(length > 0);
        }
        written += now;
    }
    return written + td_detokenizer_end(&state, out + written);
}

static void test_decode(void **state)
{
    (void)state;
    static char out[1 << 20];
    int wrong = 0;
    for (size_t k = 0; k < TD_COUNT(kinds); k++) {
        td_tokenizer *t = open_kind(kinds[k]);
        cJSON *expected = open_expected(kinds[k]), *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(expected, "decode")) {
            int32_t ids[4096];
            size_t count = 0;
            const cJSON *id;
            cJSON_ArrayForEach(id, item->child) ids[count++] = (int32_t)id->valuedouble;
            const cJSON *text = item->child->next;
            for (int skip = 1; skip >= 0; skip--, text = text->next) {
                size_t bytes = decode(t, ids, count, skip, out);
                out[bytes] = 0;
                if (strlen(out) != bytes) continue; /* holds NUL: not comparable as a cJSON string */
                if (strcmp(out, text->valuestring) && wrong++ < 8) fprintf(stderr, "%s skip %d: expected '%s', found '%s'\n", kinds[k], skip, text->valuestring, out);
            }
        }
        cJSON_Delete(expected);
        td_tokenizer_close(t);
    }
    assert_int_equal(wrong, 0);
}

/* Random bytes: encoding never fails, and for byte-level tokenizers the tokens' bytes are the input again. */
static void test_broken_bytes(void **state)
{
    (void)state;
    const char *seed = getenv("TD_SEED");
    td_random r = {.seed = seed ? strtoull(seed, NULL, 10) : 20};
    print_message("seed %llu\n", (unsigned long long)r.seed);
    for (size_t k = 0; k < TD_COUNT(kinds); k++) {
        td_tokenizer *t = open_kind(kinds[k]);
        id_list got = {0};
        bool exact = !strcmp(kinds[k], "gpt2") || !strcmp(kinds[k], "llama3") || !strcmp(kinds[k], "deepseek");
        for (int round = 0; round < 200; round++) {
            char text[64];
            size_t bytes = (size_t)td_random_between(&r, 0, sizeof text), total = 0;
            for (size_t i = 0; i < bytes; i++) text[i] = (char)(td_random_next(&r) % 3 ? td_random_next(&r) : 'a');
            encode(t, text, bytes, TD_TOKENIZE_SPECIAL, &got);
            for (size_t i = 0; exact && i < got.count; i++) {
                size_t n;
                const char *token = td_tokenizer_bytes(t, got.ids[i], &n);
                assert_true(total + n <= bytes);
                assert_memory_equal(token, text + total, n);
                total += n;
            }
            if (exact) assert_int_equal(total, bytes);
        }
        free(got.ids);
        td_tokenizer_close(t);
    }
}

/* Long runs, which naive merging takes quadratic time for. */
static void test_long_runs(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static char text[BYTES];
    static const char *const units[] = {"a", " ", "\n", "1", "ab", " \n", "\xCC\x81", "\xCC\xA3\xCC\x81", "\xFF", "<", "'"};
    for (size_t k = 0; k < TD_COUNT(kinds); k++) {
        td_tokenizer *t = open_kind(kinds[k]);
        id_list got = {0};
        for (size_t u = 0; u < TD_COUNT(units); u++) {
            size_t n = strlen(units[u]);
            for (size_t i = 0; i < BYTES; i++) text[i] = units[u][i % n];
            int64_t start = td_now_ns();
            encode(t, text, BYTES / n * n, 0, &got);
            if (td_seconds_since(start) > 20) fail_msg("%s: 1 MiB of '%s' took %.1f s", kinds[k], units[u], td_seconds_since(start));
            if (getenv("TD_VERBOSE")) print_message("%s unit %zu: %.3f s, %zu ids\n", kinds[k], u, td_seconds_since(start), got.count);
        }
        free(got.ids);
        td_tokenizer_close(t);
    }
}

static void refused(const char *json, const char *part)
{
    td_tokenizer *t = NULL;
    td_status status = td_tokenizer_from_json(json, strlen(json), NULL, 0, &t);
    assert_true(status < 0);
    assert_null(t);
    if (!strstr(td_error(), part)) fail_msg("expected '%s' in the sentence, found '%s'", part, td_error());
}

static void test_refused(void **state)
{
    (void)state;
    refused("", "tokenizer.json");
    refused("[", "tokenizer.json");
    refused("[]", "object");
    refused("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "id");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300},\"merges\":[]}}", "id");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "two tokens");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "'ab'");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"ab\"]}}", "one space");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "no token");
    refused("{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"[a-z&&[^b]]+\"}},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "&&");
    refused("{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(a\"}},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "regular expression");
    refused("{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "BertPreTokenizer");
    refused("{\"normalizer\":{\"type\":\"Precompiled\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "Precompiled");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xFF\":0},\"merges\":[]}}", "UTF-8");
}

static void test_names(void **state)
{
    (void)state;
    static const char config[] = "{\"bos_token\":\"<|bos|>\",\"eos_token\":{\"content\":\"<|endoftext|>\"}}";
    size_t bytes;
    td_tokenizer *t = NULL;
    char *json = read_data("llama3.tokenizer.json", &bytes);
    assert_int_equal(td_tokenizer_from_json(json, bytes, config, sizeof config - 1, &t), TD_OK);
    free(json);
    int32_t bos = td_tokenizer_find(t, "<|bos|>", 7), end = td_tokenizer_find(t, "<|im_end|>", 10);
    assert_true(bos >= 0 && end >= 0);
    assert_int_equal(td_tokenizer_bos(t), bos);
    assert_int_equal(td_tokenizer_eos(t), td_tokenizer_find(t, "<|endoftext|>", 13));
    assert_true(td_tokenizer_is_special(t, bos) && !td_tokenizer_is_end(t, bos) && td_tokenizer_is_end(t, end) && td_tokenizer_is_end(t, td_tokenizer_eos(t)));
    assert_true(td_tokenizer_adds_bos(t) && !td_tokenizer_is_special(t, 5) && !td_tokenizer_is_special(t, -1) && !td_tokenizer_is_special(t, 1 << 30));
    id_list got = {0};
    encode(t, "a", 1, TD_TOKENIZE_BOS, &got);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.ids[0], bos);
    assert_int_equal(td_tokenizer_find(t, "no such token", 13), -1);
    assert_string_equal((td_tokenizer_bytes(t, td_tokenizer_size(t), &bytes)), "");
    free(got.ids);
    td_tokenizer_close(t);
}

/* Characters that Unicode versions, scripts with extensions and classes in brackets see differently; tests/reference/text_classes.py asks about every one. */
static void test_classes(void **state)
{
    (void)state;
    static const struct { const char *pattern; uint32_t code; bool expected; } cases[] = {
        {"\\p{C}", 0x897, false}, {"\\p{Cn}", 0x1C89, false}, {"\\p{Cn}", 0x378, true}, {"\\p{Mn}", 0x1171E, false}, {"\\p{Mc}", 0x1171E, true}, {"\\p{Cf}", 0x13439, true}, {"\\p{Lu}", 0x1C89, true},
        {"\\p{uppercase letter}", 0x1C89, true}, {"\\p{Greek}", 0x342, false}, {"\\p{Greek}", 0x3B1, true}, {"\\p{Hangul}", 0x3001, false}, {"\\p{han}", 0x323A0, true}, {"[\\P{M}]", 0x897, false}, {"[\\P{M}]", 'a', true},
        {"\\w", 0xB2, true}, {"[\\w]", 0xB2, false}, {"[\\w]", 0xE9, true}, {"[[:digit:]]", 0x10D40, true}, {"[[:space:]]", 0x180E, false},
    };
    td_regex_scratch *scratch;
    assert_int_equal(td_regex_scratch_open(&scratch), TD_OK);
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_regex *regex;
        char text[4];
        bool found;
        size_t start, end;
        if (td_regex_open(cases[i].pattern, strlen(cases[i].pattern), &regex) < 0) fail_msg("%s", td_error());
        assert_int_equal(td_regex_find(regex, scratch, text, td_utf8_encode(cases[i].code, text), 0, &found, &start, &end), TD_OK);
        if (found != cases[i].expected) fail_msg("%s and U+%04X: expected %d", cases[i].pattern, cases[i].code, cases[i].expected);
        td_regex_close(regex);
    }
    td_regex_scratch_close(scratch);
    assert_int_equal(td_unicode_lower(0x10D50), 0x10D70);
    assert_true(td_unicode_punctuation(0x166D) && td_unicode_punctuation('$') && !td_unicode_punctuation(0x61D));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode), cmocka_unit_test(test_gguf), cmocka_unit_test(test_names_of_llama3), cmocka_unit_test(test_decode), cmocka_unit_test(test_broken_bytes),
        cmocka_unit_test(test_long_runs), cmocka_unit_test(test_refused), cmocka_unit_test(test_names), cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
