/* engine_support.h - what the tests of the engine (test_engine.c, test_requests.c) share: the stored little models, engines that need little, requests read to their end. */
#ifndef TD_TESTS_ENGINE_SUPPORT_H
#define TD_TESTS_ENGINE_SUPPORT_H

#include "base/random.h"
#include "support.h"

static uint64_t seed = 20261; /* TD_SEED */

static inline td_model *open_reference(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "tests/data/reference/%s", name);
    td_model *model;
    assert_ok(td_model_open(source_path(path), NULL, &model));
    return model;
}

static inline td_engine *open_engine(td_model *model, td_engine_options options)
{
    td_engine *engine;
    if (!options.kv_dtype) options.kv_dtype = "f32";
    if (!options.requests_max) options.requests_max = 8;
    if (!options.context_max) options.context_max = 512;
    assert_ok(td_engine_open(model, &options, &engine));
    return engine;
}

typedef struct { int32_t tokens[512]; size_t count; td_event end; } outcome;

static inline outcome finish_request(td_request *request)
{
    outcome o = {0};
    td_event event;
    do {
        assert_ok(td_request_next(request, 60000, &event));
        if (event.kind == TD_EVENT_TOKEN && !event.from_prompt && o.count < 512) o.tokens[o.count++] = event.token;
    } while (event.kind != TD_EVENT_FINISHED);
    o.end = event;
    td_request_free(request);
    return o;
}

static inline outcome generate(td_engine *engine, td_request_options options)
{
    td_request *request;
    assert_ok(td_request_submit(engine, &options, &request));
    return finish_request(request);
}

static inline void random_ids(int32_t *ids, size_t count, int vocab, uint64_t salt)
{
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)(td_random_at(seed + salt, i) % (uint64_t)vocab);
}

static inline void take_seed(void)
{
    if (getenv("TD_SEED")) seed = strtoull(getenv("TD_SEED"), NULL, 10);
    print_message("TD_SEED=%llu\n", (unsigned long long)seed);
}

#endif
