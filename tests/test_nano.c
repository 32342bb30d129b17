/*
 * test_nano.c - the model that ships with the program: how many held-out sums and questions it gets right, plain and as a chat, and that quantising to Q8_0 changes
 * no score by more than one point. TD_NANO_EVERY=n takes every n-th task (default 4; tests/reference/run_nano.sh takes all, and those of fresh held-out sets, which
 * TD_NANO_ITEMS names).
 */
#include <cjson/cJSON.h>

#include "support.h"

enum { ITEMS_MAX = 2000, GROUPS_MAX = 8, AT_ONCE = 64, ANSWER_MAX = 256 };

typedef struct { cJSON *json; const char *group, *prompt, *expected; } item; /* the texts lie in json */
typedef struct { const char *names[GROUPS_MAX]; int right[GROUPS_MAX], all[GROUPS_MAX], count; } score;

static item items[ITEMS_MAX];
static int item_count;

static int read_items(void **state)
{
    (void)state;
    int every = getenv("TD_NANO_EVERY") ? atoi(getenv("TD_NANO_EVERY")) : 4, number = 0;
    const char *other = getenv("TD_NANO_ITEMS");
    FILE *file = fopen(other ? other : source_path("models/nano/heldout.jsonl"), "r");
    char line[16384];
    assert_non_null(file);
    while (fgets(line, sizeof line, file) && item_count < ITEMS_MAX) {
        if (number++ / 2 % every) continue; /* pairs: the same question plain and as a chat */
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        items[item_count++] = (item){json, cJSON_GetObjectItem(json, "group")->valuestring, cJSON_GetObjectItem(json, "prompt")->valuestring, cJSON_GetObjectItem(json, "expected")->valuestring};
    }
    fclose(file);
    return item_count > 0 ? 0 : -1;
}

static int free_items(void **state)
{
    (void)state;
    while (item_count > 0) cJSON_Delete(items[--item_count].json);
    return 0;
}

static void count_answer(score *s, const item *it, const char *answer)
{
    int g = 0;
    while (g < s->count && strcmp(s->names[g], it->group)) g++;
    if (g == s->count) s->names[s->count++] = it->group;
    while (*answer == ' ' || *answer == '\n') answer++;
    size_t length = strlen(answer);
    while (length && (answer[length - 1] == ' ' || answer[length - 1] == '\n')) length--;
    s->right[g] += length == strlen(it->expected) && !strncmp(answer, it->expected, length);
    s->all[g]++;
}

static void read_answer(td_request *request, char *answer)
{
    td_event event;
    size_t length = 0;
    do {
        assert_ok(td_request_next(request, 120000, &event));
        size_t part = event.text_bytes < ANSWER_MAX - 1 - length ? event.text_bytes : ANSWER_MAX - 1 - length;
        memcpy(answer + length, event.text, part);
        length += part;
    } while (event.kind != TD_EVENT_FINISHED);
    answer[length] = 0;
    assert_int_not_equal(event.finish, TD_FINISH_ERROR);
    td_request_free(request);
}

static score run_all(const char *quant)
{
    static const char *const stop[] = {"\n"};
    score s = {0};
    td_model *model;
    td_engine *engine;
    assert_ok(td_model_open(source_path("models/nano"), &(td_model_options){.quant = quant}, &model));
    assert_ok(td_engine_open(model, &(td_engine_options){.requests_max = AT_ONCE, .context_max = 1024, .kv_tokens = 65536}, &engine));
    td_request *requests[AT_ONCE];
    for (int first = 0; first < item_count; first += AT_ONCE) {
        int count = item_count - first < AT_ONCE ? item_count - first : AT_ONCE;
        for (int i = 0; i < count; i++) {
            const item *it = &items[first + i];
            td_request_options o = {.text = it->prompt, .text_bytes = strlen(it->prompt), .max_tokens = 40, .stop = stop, .stop_count = 1};
            assert_ok(td_request_submit(engine, &o, &requests[i]));
        }
        for (int i = 0; i < count; i++) {
            char answer[ANSWER_MAX];
            read_answer(requests[i], answer);
            count_answer(&s, &items[first + i], answer);
        }
    }
    td_engine_close(engine);
    td_model_close(model);
    for (int g = 0; g < s.count; g++) print_message("%-5s %-16s %d of %d (%.1f %%)\n", quant ? quant : "bf16", s.names[g], s.right[g], s.all[g], 100.0 * s.right[g] / s.all[g]);
    return s;
}

enum { FLOOR_PERCENT = 95 }; /* of every group in every set */

static void held_out_questions_are_answered_and_q8_0_changes_nothing(void **state)
{
    (void)state;
    score published = run_all(NULL), quantised = run_all("q8_0");
    assert_int_equal(published.count, 4);
    for (int g = 0; g < published.count; g++) {
        double percent = 100.0 * published.right[g] / published.all[g], other = 100.0 * quantised.right[g] / quantised.all[g];
        assert_true(percent >= FLOOR_PERCENT);
        /* one point, or one item where a group is smaller than 100 */
        assert_true(abs(published.right[g] - quantised.right[g]) <= 1 || (percent - other <= 1.0 && other - percent <= 1.0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(held_out_questions_are_answered_and_q8_0_changes_nothing, read_items, free_items)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
