/*
 * test_engine.c - the whole path of a token: logits of every family against stored references, and the same bytes whatever the batch, the threads, the chunks,
 * the micro-batches, prefix reuse, preemption, prefill or decode. What a request may ask for: test_requests.c.
 */
#include <math.h>

#include "engine_support.h"

/* Logits that a decoding request saw, row by row. */
typedef struct { float *rows; size_t count, capacity; int vocab; } capture;

static void keep_logits(void *user, td_point point, int layer, int64_t position, int rows, int width, float *data)
{
    capture *c = user;
    (void)layer, (void)position;
    assert_int_equal(point, TD_POINT_LOGITS);
    assert_int_equal(rows, 1);
    if (c->count < c->capacity) memcpy(c->rows + c->count++ * (size_t)width, data, (size_t)width * sizeof *data);
}

/* ---- references ---------------------------------------------------------------------------------------------------------------------- */

static const struct { const char *name; double bound; } references[] = {
    /* F32 weights: 1e-4 of the largest logit. BF16: the reference used the same weights upcast, so the same arithmetic; the bound is 5e-3. F8: weights are
     * exact in f32 (byte times block scale) and activations stay f32, hence the bound of F32. */
    {"step3", 1e-4}, {"step3-bf16", 5e-3}, {"step3-fp8", 1e-4}, {"qwen3", 1e-4}, {"qwen3_moe", 1e-4}, {"qwen3_moe-bf16", 5e-3}, {"llama", 1e-4}, {"llama-linear", 1e-4},
    {"llama-llama3", 1e-4}, {"deepseek_v2", 1e-4}, {"deepseek_v2-groups", 1e-4}, {"deepseek_v3", 1e-4}, {"deepseek_v3-fp8", 1e-4},
};

static void families_match_references(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof references / sizeof *references; i++) {
        char path[256];
        size_t count = 0, expected_count = 0;
        snprintf(path, sizeof path, "tests/data/reference/%s/ids.npy", references[i].name);
        int32_t *ids = read_npy(source_path(path), "<i4", 4, &count);
        snprintf(path, sizeof path, "tests/data/reference/%s/logits.npy", references[i].name);
        float *expected = read_npy(source_path(path), "<f4", 4, &expected_count);
        assert_non_null(ids);
        assert_non_null(expected);
        td_model *model = open_reference(references[i].name);
        size_t vocab = (size_t)td_model_get_info(model)->vocab_size;
        assert_int_equal(expected_count, count * vocab);
        td_engine *engine = open_engine(model, (td_engine_options){0});
        float *logits = malloc(count * vocab * sizeof *logits);
        assert_ok(td_engine_logits(engine, ids, count, logits));
        double worst = 0, largest = 0;
        for (size_t k = 0; k < count * vocab; k++) {
            worst = fmax(worst, fabs((double)logits[k] - (double)expected[k]));
            largest = fmax(largest, fabs((double)expected[k]));
        }
        print_message("%-20s error %.2e of the largest logit (bound %.0e)\n", references[i].name, worst / largest, references[i].bound);
        assert_true(worst <= references[i].bound * largest);
        free(logits);
        free(expected);
        free(ids);
        td_engine_close(engine);
        td_model_close(model);
    }
}

/* ---- the same bytes ------------------------------------------------------------------------------------------------------------------ */

static const char *const shapes[] = {"step3-bf16", "deepseek_v3", "qwen3_moe", "llama-llama3"};
enum { LENGTH = 200, VOCAB_MAX = 64 };

static void logits_do_not_depend_on_threads_chunks_or_micro_batches(void **state)
{
    (void)state;
    static const td_engine_options variants[] = {
        {.threads = 1}, {.threads = 2}, {.threads = 3, .prefill_chunk = 1}, {.threads = 1, .prefill_chunk = 7}, {.threads = 2, .prefill_chunk = 64}, {.prefill_chunk = 100, .micro_batches = 2},
        {.micro_batches = 3}, {.micro_batches = 4, .prefill_chunk = 33}, {.kv_tokens = 512}, {.requests_max = 1}, {.requests_max = 1, .prefill_chunk = 5}, {.isa = "ref", .threads = 2},
    };
    static const char *const kv_types[] = {"f32", "bf16", "q8_0"};
    for (size_t s = 0; s < 4; s++)
        for (size_t k = 0; k < 3; k++) {
            td_model *model = open_reference(shapes[s]);
            int vocab = td_model_get_info(model)->vocab_size;
            int32_t ids[LENGTH];
            random_ids(ids, LENGTH, vocab, s);
            float *first = calloc(LENGTH * VOCAB_MAX, sizeof *first), *other = calloc(LENGTH * VOCAB_MAX, sizeof *other);
            bool compared = false;
            for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
                td_engine_options options = variants[v];
                options.kv_dtype = kv_types[k];
                options.context_max = 512;
                td_engine *engine;
                if (td_engine_open(model, &options, &engine) < 0) { /* q8_0 wants widths of 32 */
                    assert_string_equal(kv_types[k], "q8_0");
                    break;
                }
                assert_ok(td_engine_logits(engine, ids, LENGTH, v == 0 ? first : other));
                if (v > 0) assert_memory_equal(first, other, (size_t)LENGTH * (size_t)vocab * sizeof *first);
                compared |= v > 0;
                td_engine_close(engine);
            }
            assert_true(compared || !strcmp(kv_types[k], "q8_0"));
            free(first);
            free(other);
            td_model_close(model);
        }
}

/* An engine for one request reads the head as rarely for the logits of a prompt as one for many. */
static void the_head_is_read_once_for_many_rows(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3");
    size_t vocab = (size_t)td_model_get_info(model)->vocab_size;
    int32_t ids[LENGTH];
    double bytes[2];
    random_ids(ids, LENGTH, (int)vocab, 21);
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        td_engine *engine = open_engine(model, (td_engine_options){.requests_max = i ? 64 : 1});
        logits[i] = malloc(LENGTH * vocab * sizeof(float));
        assert_ok(td_engine_logits(engine, ids, LENGTH, logits[i]));
        td_engine_stats stats;
        do td_engine_get_stats(engine, &stats); /* the last step is booked a moment after its request ended */
        while (stats.prompt_tokens < LENGTH);
        bytes[i] = stats.work[TD_WORK_HEAD].bytes;
        td_engine_close(engine);
    }
    assert_true(bytes[0] > 0);
    assert_true(bytes[0] == bytes[1]);
    assert_memory_equal(logits[0], logits[1], LENGTH * vocab * sizeof(float));
    free(logits[0]);
    free(logits[1]);
    td_model_close(model);
}

/* What a request decodes, alone, equals what prefill of the same tokens gives, and what it decodes among others. */
static void decoding_equals_prefill_alone_and_in_any_batch(void **state)
{
    (void)state;
    for (size_t s = 0; s < 4; s++) {
        td_model *model = open_reference(shapes[s]);
        int vocab = td_model_get_info(model)->vocab_size;
        td_engine *engine = open_engine(model, (td_engine_options){.threads = 2, .prefill_chunk = 48});
        enum { PROMPT = 70, NEW = 40, OTHERS = 5 };
        int32_t ids[PROMPT + NEW];
        random_ids(ids, PROMPT, vocab, 100 + s);
        capture alone = {.rows = calloc(256 * VOCAB_MAX, sizeof(float)), .capacity = 256, .vocab = vocab}, crowd = {.rows = calloc(256 * VOCAB_MAX, sizeof(float)), .capacity = 256, .vocab = vocab};
        td_request_options options = {.tokens = ids, .tokens_count = PROMPT, .max_tokens = NEW, .ignore_eos = true, .hook = keep_logits, .hook_user = &alone, .hook_points = 1u << TD_POINT_LOGITS};
        outcome o = generate(engine, options);
        assert_int_equal(o.count, NEW);
        assert_int_equal(alone.count, PROMPT + NEW - 1);

        memcpy(ids + PROMPT, o.tokens, NEW * sizeof *ids);
        float *prefill = calloc((PROMPT + NEW) * VOCAB_MAX, sizeof *prefill);
        assert_ok(td_engine_logits(engine, ids, PROMPT + NEW - 1, prefill));
        assert_memory_equal(alone.rows, prefill, (size_t)(PROMPT + NEW - 1) * (size_t)vocab * sizeof(float));

        td_request *others[OTHERS], *request;
        for (int i = 0; i < OTHERS; i++) {
            int32_t mixed[90];
            random_ids(mixed, 90, vocab, 500 + (uint64_t)i);
            td_request_options other = {.tokens = mixed, .tokens_count = (size_t)(10 + 16 * i), .max_tokens = 60, .ignore_eos = true, .temperature = 1.0f, .seed = (uint64_t)i};
            assert_ok(td_request_submit(engine, &other, &others[i]));
            if (i == OTHERS / 2) {
                options.hook_user = &crowd;
                assert_ok(td_request_submit(engine, &options, &request));
            }
        }
        outcome again = finish_request(request);
        for (int i = 0; i < OTHERS; i++) finish_request(others[i]);
        assert_int_equal(again.count, NEW);
        assert_memory_equal(again.tokens, o.tokens, NEW * sizeof(int32_t));
        assert_memory_equal(crowd.rows, alone.rows, alone.count * (size_t)vocab * sizeof(float));
        free(prefill);
        free(alone.rows);
        free(crowd.rows);
        td_engine_close(engine);
        td_model_close(model);
    }
}

static void prefix_reuse_changes_nothing_but_the_work(void **state)
{
    (void)state;
    td_model *model = open_reference("step3-bf16");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *with = open_engine(model, (td_engine_options){0}), *without = open_engine(model, (td_engine_options){.no_prefix_reuse = true});
    int32_t ids[300];
    random_ids(ids, 300, vocab, 7);
    td_request_options options = {.tokens = ids, .tokens_count = 200, .max_tokens = 50, .ignore_eos = true, .temperature = 0.9f, .seed = 5};
    outcome cold = generate(with, options), warm = generate(with, options), plain = generate(without, options);
    assert_int_equal(cold.end.cached_tokens, 0);
    assert_int_equal(warm.end.cached_tokens, 192); /* whole pages of 64, and at least the last token is computed */
    assert_int_equal(plain.end.cached_tokens, 0);
    assert_memory_equal(cold.tokens, plain.tokens, 50 * sizeof(int32_t));
    assert_memory_equal(warm.tokens, plain.tokens, 50 * sizeof(int32_t));
    /* a longer prompt with the same beginning, generated tokens included */
    memcpy(ids + 200, cold.tokens, 50 * sizeof(int32_t));
    options.tokens_count = 280;
    outcome longer = generate(with, options), longer_plain = generate(without, options);
    assert_int_equal(longer.end.cached_tokens, 192);
    assert_memory_equal(longer.tokens, longer_plain.tokens, 50 * sizeof(int32_t));
    options.tokens_count = 128; /* exactly two pages: one of them is computed again for its last token */
    assert_int_equal(generate(with, options).end.cached_tokens, 64);
    td_engine_close(with);
    td_engine_close(without);
    td_model_close(model);
}

/* Pressure takes the end of a finished prefix first, so that its beginning is still found. */
static void eviction_shortens_a_prefix_from_its_end(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3_moe");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *engine = open_engine(model, (td_engine_options){.context_max = 256, .kv_tokens = 256}); /* four pages */
    int32_t kept[200], other[100];
    random_ids(kept, 200, vocab, 90);
    random_ids(other, 100, vocab, 91);
    td_request_options options = {.tokens = kept, .tokens_count = 200, .max_tokens = 4, .ignore_eos = true};
    outcome cold = generate(engine, options);
    td_request_options pressure = {.tokens = other, .tokens_count = 100, .max_tokens = 4, .ignore_eos = true};
    generate(engine, pressure); /* the free page and one of the three published ones */
    outcome warm = generate(engine, options);
    assert_int_equal(warm.end.cached_tokens, 128);
    assert_memory_equal(warm.tokens, cold.tokens, 4 * sizeof(int32_t));
    td_engine_close(engine);
    td_model_close(model);
}

static void preemption_loses_nothing(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3_moe");
    int vocab = td_model_get_info(model)->vocab_size;
    enum { REQUESTS = 6 };
    outcome roomy[REQUESTS], tight[REQUESTS];
    for (int run = 0; run < 2; run++) {
        td_engine *engine = open_engine(model, (td_engine_options){.context_max = 256, .kv_tokens = run ? 256 : 8192, .no_prefix_reuse = true, .prefill_chunk = 64});
        td_request *requests[REQUESTS];
        for (int i = 0; i < REQUESTS; i++) {
            int32_t ids[150];
            random_ids(ids, 150, vocab, 40 + (uint64_t)i);
            td_request_options options = {.tokens = ids, .tokens_count = (size_t)(20 + 25 * i), .max_tokens = 90, .ignore_eos = true, .temperature = 1.0f, .seed = (uint64_t)i};
            assert_ok(td_request_submit(engine, &options, &requests[i]));
        }
        for (int i = 0; i < REQUESTS; i++) (run ? tight : roomy)[i] = finish_request(requests[i]);
        td_engine_stats stats;
        td_engine_get_stats(engine, &stats);
        if (run) assert_true(stats.preemptions > 0);
        else assert_int_equal(stats.preemptions, 0);
        assert_int_equal(stats.kv_pages_used, 0);
        td_engine_close(engine);
    }
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(tight[i].count, 90);
        assert_memory_equal(tight[i].tokens, roomy[i].tokens, 90 * sizeof(int32_t));
    }
    td_model_close(model);
}

typedef struct { td_event event; td_logprob top[3]; } heard;

static int hear(td_request *request, heard *out, int room)
{
    td_event event;
    int count = 0;
    while (td_request_next(request, 60000, &event) == TD_OK && event.kind != TD_EVENT_FINISHED) {
        if (event.kind != TD_EVENT_TOKEN) continue;
        assert_true(count < room);
        out[count].event = event;
        memcpy(out[count++].top, event.top, (size_t)event.top_count * sizeof *event.top);
    }
    assert_int_equal(event.finish, TD_FINISH_LENGTH);
    td_request_free(request);
    return count;
}

/* A request that is read again says nothing twice: every echo and every token once, with the same log-probabilities. */
static void preemption_repeats_no_echo(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3_moe");
    int vocab = td_model_get_info(model)->vocab_size;
    enum { REQUESTS = 4, PROMPT = 60, NEW = 90 };
    static heard said[2][REQUESTS][PROMPT + NEW];
    for (int run = 0; run < 2; run++) {
        td_engine *engine = open_engine(model, (td_engine_options){.context_max = 256, .kv_tokens = run ? 256 : 8192, .prefill_chunk = 16});
        td_request *requests[REQUESTS];
        for (int i = 0; i < REQUESTS; i++) {
            int32_t ids[PROMPT];
            random_ids(ids, PROMPT, vocab, 60 + (uint64_t)i);
            td_request_options options = {.tokens = ids, .tokens_count = PROMPT, .max_tokens = NEW, .ignore_eos = true, .temperature = 1.0f, .seed = (uint64_t)i, .logprobs = 3, .prompt_logprobs = true};
            assert_ok(td_request_submit(engine, &options, &requests[i]));
        }
        for (int i = 0; i < REQUESTS; i++) assert_int_equal(hear(requests[i], said[run][i], PROMPT + NEW), PROMPT - 1 + NEW);
        td_engine_stats stats;
        td_engine_get_stats(engine, &stats);
        assert_true(run ? stats.preemptions > 0 : stats.preemptions == 0);
        td_engine_close(engine);
    }
    for (int i = 0; i < REQUESTS; i++)
        for (int k = 0; k < PROMPT - 1 + NEW; k++) {
            const heard *roomy = &said[0][i][k], *tight = &said[1][i][k];
            assert_int_equal(tight->event.from_prompt, k < PROMPT - 1);
            assert_int_equal(tight->event.token, roomy->event.token);
            assert_int_equal(tight->event.top_count, 3);
            assert_memory_equal(&tight->event.logprob, &roomy->event.logprob, sizeof(float));
            assert_memory_equal(tight->top, roomy->top, sizeof tight->top);
        }
    td_model_close(model);
}

typedef struct { td_engine *engine; td_request *_Atomic victim; bool done; } canceller;

/* Cancels the victim in the step in which somebody lost its pages: the victim, the youngest. */
static bool cancel_the_preempted(void *user, const int32_t *tokens, size_t count, float *logits, int vocab_size)
{
    canceller *c = user;
    td_engine_stats stats;
    (void)tokens, (void)count, (void)logits, (void)vocab_size;
    td_engine_get_stats(c->engine, &stats);
    while (stats.preemptions > 0 && !c->done) /* submit returns any moment now, if it has not yet */
        if (c->victim) td_request_cancel(c->victim), c->done = true;
    return true;
}

static void a_preempted_request_can_be_cancelled(void **state)
{
    (void)state;
    td_model *model = open_reference("qwen3_moe");
    int vocab = td_model_get_info(model)->vocab_size;
    td_engine *engine = open_engine(model, (td_engine_options){.context_max = 256, .kv_tokens = 256, .no_prefix_reuse = true});
    int32_t ids[2][100];
    random_ids(ids[0], 100, vocab, 80);
    random_ids(ids[1], 100, vocab, 81);
    canceller cancel = {.engine = engine};
    td_request_options elder = {.tokens = ids[0], .tokens_count = 100, .max_tokens = 150, .ignore_eos = true, .logits_fn = cancel_the_preempted, .logits_user = &cancel};
    td_request_options younger = {.tokens = ids[1], .tokens_count = 100, .max_tokens = 120, .ignore_eos = true};
    outcome alone = generate(engine, younger);
    td_request *first, *second;
    assert_ok(td_request_submit(engine, &elder, &first));
    assert_ok(td_request_submit(engine, &younger, &second));
    cancel.victim = second;
    outcome cut = finish_request(second), whole = finish_request(first);
    assert_true(cancel.done);
    assert_int_equal(cut.end.finish, TD_FINISH_CANCELLED);
    assert_true(cut.count > 0 && cut.count < 120);
    assert_int_equal(cut.end.prompt_tokens, 100);
    assert_int_equal(cut.end.generated_tokens, cut.count);
    assert_memory_equal(cut.tokens, alone.tokens, cut.count * sizeof(int32_t));
    assert_int_equal(whole.end.finish, TD_FINISH_LENGTH);
    assert_int_equal(whole.count, 150);
    td_engine_stats stats;
    td_engine_get_stats(engine, &stats);
    assert_int_equal(stats.kv_pages_used, 0);
    assert_int_equal(stats.requests_running + stats.requests_waiting, 0);
    td_engine_close(engine);
    td_model_close(model);
}
int main(void)
{
    take_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_match_references),
        cmocka_unit_test(logits_do_not_depend_on_threads_chunks_or_micro_batches),
        cmocka_unit_test(the_head_is_read_once_for_many_rows),
        cmocka_unit_test(decoding_equals_prefill_alone_and_in_any_batch),
        cmocka_unit_test(prefix_reuse_changes_nothing_but_the_work),
        cmocka_unit_test(eviction_shortens_a_prefix_from_its_end),
        cmocka_unit_test(preemption_loses_nothing),
        cmocka_unit_test(preemption_repeats_no_echo),
        cmocka_unit_test(a_preempted_request_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
