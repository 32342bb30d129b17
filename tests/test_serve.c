/*
 * test_serve.c - the pieces of serve/ that need no socket: the check of request bodies against random damage, histograms, error objects, field tables, pooled rows; and what they
 * ask of the rooms below: text with the spaces of a SentencePiece vocabulary.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/model.h"
#include "serve/body.h"
#include "serve/metrics.h"
#include "serve/serve.h"
#include "support.h"

static td_random source(const char *name)
{
    const char *text = getenv("TD_SEED");
    td_random r = {.seed = text ? strtoull(text, NULL, 10) : 20260917};
    printf("%s: TD_SEED=%llu\n", name, (unsigned long long)r.seed);
    return r;
}

static void accepts_what_is_json(void **state)
{
    (void)state;
    static const char *const good[] = {"{}", "[]", " [1, -0.5e+3 ,\"\\u00e9\\ud83d\\ude00\\n\", true,false ,null] ", "{\"a\":{\"b\":[{},[]]}}", "\"x\"", "0", "-1E5", "{\"\":\"\"}"};
    static const char *const bad[] = {"", "{", "[1,]", "{\"a\":}", "01", "1.", "+1", "\"\\x\"", "\"\\u0000\"", "\"\\udc00\"", "\"\xff\"", "[1]]", "{\"a\" 1}", "nul", "\"a", "{,}", "[,1]", "1 2"};
    for (size_t i = 0; i < TD_COUNT(good); i++) assert_int_equal(td_body_check(good[i], strlen(good[i])), TD_OK);
    for (size_t i = 0; i < TD_COUNT(bad); i++) {
        assert_int_equal(td_body_check(bad[i], strlen(bad[i])), TD_E_INVALID);
        assert_non_null(strstr(td_error(), "JSON"));
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * TD_BODY_DEPTH_MAX + 4];
    for (int depth = TD_BODY_DEPTH_MAX - 1; depth <= TD_BODY_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        bool inner_empty_is_free = depth <= TD_BODY_DEPTH_MAX; /* an empty bracket opens no level, but is refused at the limit */
        assert_int_equal(td_body_check(text, 2 * (size_t)depth) == TD_OK, inner_empty_is_free);
    }
}

/* What the check accepts, the library parses, and prints to something that the check accepts again. */
static void damaged_texts(void **state)
{
    (void)state;
    static const char seed_text[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e9\\n\xC3\xA9\"}],\"n\":-1.5e3,\"ok\":[true,false,null,{}],\"s\":\"\\ud83d\\ude00\"}";
    static const char pieces[] = "{}[]:,\"\\u0e1-+.tfn \xC3\xA9\xFF\n";
    td_random r = source("damaged_texts");
    int accepted = 0;
    for (int round = 0; round < 200000; round++) {
        char text[sizeof seed_text + 8];
        size_t bytes = sizeof seed_text - 1;
        memcpy(text, seed_text, bytes);
        for (int64_t i = td_random_between(&r, 0, 3); i > 0; i--) {
            size_t at = (size_t)td_random_between(&r, 0, (int64_t)bytes - 1);
            if (td_random_next(&r) & 1) text[at] = pieces[td_random_between(&r, 0, (int64_t)sizeof pieces - 2)];
            else memmove(text + at, text + at + 1, --bytes - at);
        }
        if (td_body_check(text, bytes) < 0) continue;
        cJSON *value;
        td_buffer printed = {0};
        assert_int_equal(td_body_parse(text, bytes, &value), TD_OK);
        td_body_put(&printed, value);
        assert_int_equal(td_body_check(printed.data, printed.bytes), TD_OK);
        cJSON_Delete(value);
        td_buffer_free(&printed);
        accepted++;
    }
    assert_true(accepted > 10000);
}

static void histograms(void **state)
{
    (void)state;
    static td_histogram h;
    td_buffer out = {0};
    assert_true(td_histogram_quantile(&h, 0.5) == 0);
    for (int i = 0; i < 90; i++) td_histogram_add(&h, 0.004);
    for (int i = 0; i < 10; i++) td_histogram_add(&h, 1000);
    assert_true(td_histogram_quantile(&h, 0.5) == 0.005);
    td_histogram_put(&out, "x_seconds", "help", &h);
    assert_non_null(strstr(out.data, "x_seconds_bucket{le=\"0.005\"} 90\n"));
    assert_non_null(strstr(out.data, "x_seconds_bucket{le=\"+Inf\"} 100\n"));
    assert_non_null(strstr(out.data, "x_seconds_count 100\n"));
    td_buffer_free(&out);
}

/* Integers without a range would overflow when stored; every field explains itself; names are unique. */
static void tables_are_sane(void **state)
{
    (void)state;
    for (int t = 0; td_field_tables[t]; t++) {
        int count = 0;
        for (const td_field *f = td_field_tables[t]->fields; f->name; f++, count++) {
            assert_true(f->help && strlen(f->help) > 3); /* no kinds: a known field that is not supported, only null is */
            if (f->kinds & TD_KIND_INT) assert_true(f->high > f->low);
            assert_true(!f->kinds || f->offset >= 0 || f->take);
            for (const td_field *g = f + 1; g->name; g++) assert_string_not_equal(f->name, g->name);
        }
        assert_true(count < 128);
    }
}

static void errors_have_their_shape(void **state)
{
    (void)state;
    static td_exchange x;
    td_buffer out = {0};
    td_serve_refuse(&x, 400, "invalid_value", "n", "n: expected \"%s\"", "1");
    td_serve_error_body(&x, x.http, x.code, x.param, x.message, &out);
    assert_string_equal(out.data, "{\"error\":{\"message\":\"n: expected \\\"1\\\"\",\"type\":\"invalid_request_error\",\"param\":\"n\",\"code\":\"invalid_value\"}}");
    td_buffer_clear(&out);
    x.shape = &td_messages_shape;
    td_serve_error_body(&x, 429, NULL, NULL, "full", &out);
    assert_non_null(strstr(out.data, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"full\"}"));
    td_buffer_free(&out);
    assert_int_equal(td_serve_http_of(TD_E_FULL), 429);
}

static bool is_kind(const char *code)
{
    for (int i = 0; td_error_kinds[i]; i++)
        if (!strcmp(td_error_kinds[i], code)) return true;
    return false;
}

/* A fault of the server is not called a wrong value, and every code is counted as a kind of its own. */
static void codes_fit_their_status(void **state)
{
    (void)state;
    static td_exchange x;
    for (int status = TD_E_INTERNAL; status < TD_OK; status++) {
        td_fail((td_status)status, "why");
        assert_int_equal(td_serve_refuse_status(&x, (td_status)status, NULL), status);
        assert_true(x.http >= 400 && x.http <= 504);
        assert_string_equal(x.message, "why");
        if (x.http >= 500) assert_string_not_equal(x.code, "invalid_value");
        if (x.http < 500) assert_string_not_equal(x.code, "internal_error");
        assert_true(is_kind(x.code));
    }
    td_fail(TD_E_TIMEOUT, "late");
    td_serve_refuse_status(&x, TD_E_TIMEOUT, NULL);
    assert_int_equal(x.http, 504);
    assert_string_equal(x.code, "timeout");
}

/* Rows that are read again after a preemption count once, whatever the pieces. */
static void rows_read_again_count_once(void **state)
{
    (void)state;
    enum { WIDTH = 2, ROWS = 4 };
    static td_server server;
    static const td_model_info info = {.layers = 3, .d_model = WIDTH};
    static float rows[ROWS][WIDTH] = {{1, 10}, {2, 20}, {3, 30}, {4, 40}};
    server.info = &info;
    td_exchange x = {.server = &server};
    for (int mean = 0; mean < 2; mean++) {
        double sum[WIDTH] = {0};
        td_held held = {.sum = sum, .width = WIDTH, .mean = mean};
        td_choice c = {.exchange = &x, .held = &held};
        td_request_options o = {0};
        td_embeddings_shape.adjust(&c, &o);
        o.hook(o.hook_user, TD_POINT_FINAL, 3, 0, 2, WIDTH, rows[0]);
        o.hook(o.hook_user, TD_POINT_FINAL, 3, 0, 1, WIDTH, rows[0]);
        o.hook(o.hook_user, TD_POINT_FINAL, 3, 1, 2, WIDTH, rows[1]);
        o.hook(o.hook_user, TD_POINT_FINAL, 3, 3, 1, WIDTH, rows[3]);
        assert_int_equal(held.rows, ROWS);
        assert_true(sum[0] == (mean ? 10 : 4) && sum[1] == (mean ? 100 : 40));
    }
}

/* ---- spaces of SentencePiece --------------------------------------------------------------------------------------------------------------------------- */

enum { BEGIN = 0, WORD = 3, HIDDEN = 4 }; /* <s>, a word with its space, a special token */

static td_tokenizer *open_words(void)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"<|a|>\",\"special\":true}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}]},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"\u2581\":1,\"a\":2,\"\u2581a\":3},\"merges\":[[\"\u2581\",\"a\"]]}}";
    td_tokenizer *t;
    assert_ok(td_tokenizer_from_json(json, sizeof json - 1, NULL, 0, &t));
    return t;
}

/* Texts of tokens joined are the text: none loses its space where it stands, and offsets count what is there. */
static void tokens_keep_their_space(void **state)
{
    (void)state;
    static td_model model;
    static td_server server;
    static const int32_t prompt[] = {BEGIN, WORD}, words[] = {WORD, WORD};
    char *text;
    size_t bytes;
    model.tokenizer = open_words();
    server.model = &model;
    assert_ok(td_detokenize(&model, words, 2, 0, &text, &bytes));
    assert_string_equal(text, "a a");
    td_free(text);
    assert_ok(td_detokenize(&model, words, 2, TD_TOKENIZE_INSIDE, &text, &bytes));
    assert_string_equal(text, " a a");
    td_free(text);
    td_exchange x = {.server = &server, .ask.logprobs = true};
    static const struct { size_t prompt_count; bool echo; const char *offsets; } cases[] = {{2, true, "0,0,1,3"}, {2, false, "0,2"}, {1, false, "0,1"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        td_prompt given = {.tokens = (int32_t *)(uintptr_t)prompt, .count = cases[i].prompt_count};
        td_choice c = {.exchange = &x, .prompt = &given};
        x.ask.echo = cases[i].echo;
        if (x.ask.echo) td_completions_shape.token(&c, &(td_event){.token = WORD, .from_prompt = true});
        for (int n = 1; n <= 2; n++) td_completions_shape.token(&c, &(td_event){.token = WORD, .generated_tokens = n});
        td_buffer_put(&c.lp[3], "", 0);
        assert_string_equal(c.lp[3].data, cases[i].offsets);
        td_buffer_put(&c.lp[0], "", 0);
        assert_string_equal(c.lp[0].data, x.ask.echo ? "\"<s>\",\" a\",\" a\",\" a\"" : "\" a\",\" a\"");
        for (int b = 0; b < 4; b++) td_buffer_free(&c.lp[b]);
    }
    td_tokenizer_close(model.tokenizer);
}

static const int32_t *forced;

static bool force_tokens(void *user, const int32_t *tokens, size_t count, float *logits, int vocab)
{
    (void)user, (void)tokens;
    for (int i = 0; i < vocab; i++) logits[i] = i == forced[count] ? 1 : 0;
    return true;
}

/* Makes the engine say two tokens behind `last`; the text, and how it ended. */
static td_finish say(td_engine *engine, int32_t last, const int32_t *said, const char *stop, const uint8_t *hidden, td_buffer *out)
{
    td_request *request;
    td_event event;
    forced = said;
    td_buffer_clear(out);
    td_buffer_put(out, "", 0);
    const td_request_options options = {.tokens = &last, .tokens_count = 1, .max_tokens = 2, .stop = &stop, .stop_count = stop ? 1 : 0, .keep_special = hidden, .hidden = hidden, .logits_fn = force_tokens};
    assert_ok(td_request_submit(engine, &options, &request));
    do {
        assert_ok(td_request_next(request, 60000, &event));
        td_buffer_put(out, event.text, event.text_bytes);
    } while (event.kind != TD_EVENT_FINISHED);
    td_request_free(request);
    return event.finish;
}

/* A completion goes on with its prompt's text, unless that ends with a special token; hidden tokens give no text and meet no stop string. */
static void completions_go_on(void **state)
{
    (void)state;
    static const int32_t words[] = {WORD, WORD}, hides[] = {WORD, HIDDEN};
    static const uint8_t hidden[8] = {1 << HIDDEN}, none[8] = {0};
    td_model *model;
    td_engine *engine;
    td_buffer text = {0};
    assert_ok(td_model_open(source_path("tests/data/reference/llama"), NULL, &model));
    assert_null(model->tokenizer);
    model->tokenizer = open_words();
    model->end_count = 0; /* the folder's end tokens are words of this vocabulary */
    assert_ok(td_engine_open(model, &(td_engine_options){.kv_dtype = "f32", .requests_max = 2, .context_max = 64, .threads = 1}, &engine));
    assert_int_equal(say(engine, BEGIN, words, NULL, NULL, &text), TD_FINISH_LENGTH);
    assert_string_equal(text.data, "a a");
    assert_int_equal(say(engine, WORD, words, NULL, NULL, &text), TD_FINISH_LENGTH);
    assert_string_equal(text.data, " a a");
    assert_int_equal(say(engine, WORD, words, " a", NULL, &text), TD_FINISH_STOP);
    assert_string_equal(text.data, "");
    assert_int_equal(say(engine, BEGIN, words, " a", NULL, &text), TD_FINISH_STOP);
    assert_string_equal(text.data, "a");
    assert_int_equal(say(engine, BEGIN, hides, "|>", none, &text), TD_FINISH_STOP);
    assert_string_equal(text.data, "a<|a");
    assert_int_equal(say(engine, BEGIN, hides, "|>", hidden, &text), TD_FINISH_LENGTH);
    assert_string_equal(text.data, "a");
    td_buffer_free(&text);
    td_engine_close(engine);
    td_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepts_what_is_json), cmocka_unit_test(depth_is_bounded), cmocka_unit_test(damaged_texts), cmocka_unit_test(histograms),
                                       cmocka_unit_test(tables_are_sane), cmocka_unit_test(errors_have_their_shape), cmocka_unit_test(codes_fit_their_status),
                                       cmocka_unit_test(rows_read_again_count_once), cmocka_unit_test(tokens_keep_their_space), cmocka_unit_test(completions_go_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
