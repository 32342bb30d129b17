/*
 * test_constraint.c - a constraint that waits for a mark: behind it whatever is drawn from the allowed tokens is a text of the schema, again and again; everywhere else, and while the model
 * thinks, every token is allowed.
 */
#include <math.h>

#include <cjson/cJSON.h>

#include "base/buffer.h"
#include "base/random.h"
#include "support.h"

enum { WRITTEN_MAX = 4096 };
typedef struct { td_model *model; int32_t tokens[WRITTEN_MAX]; size_t count; td_buffer text; } writer;

static void write_token(writer *w, int32_t token)
{
    char *text;
    size_t bytes;
    assert_true(w->count < WRITTEN_MAX);
    w->tokens[w->count++] = token;
    assert_ok(td_detokenize(w->model, &token, 1, TD_TOKENIZE_SPECIAL, &text, &bytes));
    td_buffer_put(&w->text, text, bytes);
    td_free(text);
}

static void write_text(writer *w, const char *text)
{
    int32_t ids[256];
    size_t count;
    assert_ok(td_tokenize(w->model, text, strlen(text), 0, ids, 256, &count));
    for (size_t i = 0; i < count; i++) write_token(w, ids[i]);
}

/* How many tokens may come next; *chosen: one of them by chance. */
static int choose(writer *w, td_constraint *c, td_random *dice, int32_t *chosen)
{
    int vocab = td_model_get_info(w->model)->vocab_size, allowed = 0;
    float *logits = malloc((size_t)vocab * sizeof *logits), best = -INFINITY;
    for (int i = 0; i < vocab; i++) logits[i] = (float)td_random_next_unit(dice);
    assert_true(td_constraint_mask(c, w->tokens, w->count, logits, vocab));
    for (int i = 0; i < vocab; i++) {
        allowed += logits[i] > -INFINITY;
        if (logits[i] > best) best = logits[i], *chosen = i;
    }
    free(logits);
    return allowed;
}

/* Tokens by chance from where the constraint holds to where it lets go. Returns where in the text they begin. */
static size_t draw_call(writer *w, td_constraint *c, td_random *dice, int vocab)
{
    size_t from = w->text.bytes;
    int32_t token = -1;
    for (int n = 0; choose(w, c, dice, &token) < vocab; n++) {
        assert_true(n < 500);
        write_token(w, token);
    }
    return from;
}

static void a_waiting_constraint_holds_inside_calls_only(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"f\"},\"arguments\":{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[1,2]},\"b\":{\"type\":\"boolean\"}},"
                                 "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false}";
    td_model *model;
    td_random dice = {.seed = 11};
    assert_ok(td_model_open(source_path("models/nano"), NULL, &model));
    int vocab = td_model_get_info(model)->vocab_size;
    for (int round = 0; round < 30; round++) {
        bool thinks = round % 3 == 2, may_think = round % 3 > 0;
        td_constraint *c;
        writer *w = calloc(1, sizeof *w);
        int32_t any;
        w->model = model;
        assert_ok(td_constraint_open(model, "json_schema", schema, sizeof schema - 1, &c));
        assert_ok(td_constraint_wait(c, "<tool_call>", may_think, thinks));
        if (thinks) write_text(w, "I may say <tool_call>anything here");
        else if (may_think) write_text(w, " \n<think> like <tool_call>this");
        assert_int_equal(choose(w, c, &dice, &any), vocab);
        if (may_think) write_text(w, "</think>\n");
        write_text(w, "Well, <tool_cal> is no mark. <think>Nor is this the beginning.");
        for (int call = 0; call < 3; call++) {
            assert_int_equal(choose(w, c, &dice, &any), vocab);
            write_text(w, "<tool_call>");
            size_t from = draw_call(w, c, &dice, vocab);
            char *text = strndup(w->text.data + from, w->text.bytes - from);
            cJSON *json = cJSON_Parse(text), *arguments = cJSON_GetObjectItem(json, "arguments"), *a = cJSON_GetObjectItem(arguments, "a");
            if (!json || !cJSON_IsNumber(a) || (a->valueint != 1 && a->valueint != 2) || !cJSON_IsBool(cJSON_GetObjectItem(arguments, "b")) || cJSON_GetArraySize(arguments) != 2) fail_msg("round %d: %s", round, text);
            cJSON_Delete(json);
            free(text);
            write_text(w, "\n</tool_call> and");
        }
        write_text(w, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 3"); /* what was written without asking is not gone on with */
        float *logits = calloc((size_t)vocab, sizeof *logits);
        assert_false(td_constraint_mask(c, w->tokens, w->count, logits, vocab));
        free(logits);
        td_constraint_close(c);
        td_buffer_free(&w->text);
        free(w);
    }
    td_model_close(model);
}

/* Behind "a" there are more places than a matcher holds. */
static void too_many_places(td_buffer *grammar)
{
    td_buffer_text(grammar, "root ::= \"a\" (\"b\"");
    for (int i = 0; i < 5000; i++) td_buffer_format(grammar, " | \"b%d\"", i);
    td_buffer_text(grammar, ")\n");
}

/* A grammar that cannot be followed is an error, not the end of a text. */
static void a_request_whose_grammar_is_too_large_ends_with_an_error(void **state)
{
    (void)state;
    td_model *model;
    td_engine *engine;
    td_constraint *c;
    td_request *request;
    td_event event;
    td_buffer grammar = {0};
    too_many_places(&grammar);
    assert_ok(td_model_open(source_path("models/nano"), NULL, &model));
    assert_ok(td_engine_open(model, &(td_engine_options){.threads = 2, .context_max = 256}, &engine));
    assert_ok(td_constraint_open(model, "gbnf", grammar.data, grammar.bytes, &c));
    td_request_options options = {.text = "Once", .text_bytes = 4, .max_tokens = 8, .logits_fn = td_constraint_mask, .logits_user = c};
    assert_ok(td_request_submit(engine, &options, &request));
    do assert_ok(td_request_next(request, 60000, &event));
    while (event.kind != TD_EVENT_FINISHED);
    assert_int_equal(event.finish, TD_FINISH_ERROR);
    assert_int_equal(event.status, TD_E_UNSUPPORTED);
    assert_non_null(strstr(event.message, "4096"));
    assert_int_equal(event.generated_tokens, 0);
    td_request_free(request);
    td_constraint_close(c);
    td_engine_close(engine);
    td_model_close(model);
    td_buffer_free(&grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_waiting_constraint_holds_inside_calls_only), cmocka_unit_test(a_request_whose_grammar_is_too_large_ends_with_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
