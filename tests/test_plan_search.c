/* test_plan_search.c - td_plan as it is asked: the cheapest deployment meets its target, mixed hardware, and one sentence for what cannot be answered. */
#include "plan_support.h"

#include <unistd.h>

#include "plan/search.h"

static td_status searched(const char *model, const char *hardware, double tpot_ms, char **out)
{
    return td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = model, .hardware = hardware, .tpot_ms = tpot_ms, .format = "json", .devices_max = 64}, out);
}

static void the_cheapest_meets_its_target_and_more_time_never_costs_more(void **state)
{
    (void)state;
    double last = INFINITY;
    for (double tpot = 30; tpot <= 240; tpot *= 2) {
        char *out = NULL;
        if (searched("step3", "h800,h20", tpot, &out) < 0) fail_msg("%s", td_error());
        cJSON *json = cJSON_Parse(out), *best = cJSON_GetObjectItem(json, "best"), *choice;
        assert_non_null(best);
        double usd = cJSON_GetObjectItem(best, "usd_per_mtoken")->valuedouble;
        assert_true(usd <= last * 1.01); /* batches are whole numbers */
        last = usd;
        cJSON_ArrayForEach(choice, cJSON_GetObjectItem(json, "choices")) {
            assert_true(cJSON_GetObjectItem(choice, "tpot_ms")->valuedouble <= tpot * 1.0001);
            assert_true(cJSON_GetObjectItem(choice, "attention_memory")->valuedouble <= 0.9001 && cJSON_GetObjectItem(choice, "ffn_memory")->valuedouble <= 0.9001);
            /* what is printed can be asked for again, and gives the same */
            char *again = NULL;
            assert_int_equal(td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "step3", .deploy = cJSON_GetObjectItem(choice, "deploy")->valuestring, .format = "json"}, &again), TD_OK);
            cJSON *one = cJSON_Parse(again);
            assert_near(cJSON_GetObjectItem(one, "tokens_per_s")->valuedouble, cJSON_GetObjectItem(choice, "tokens_per_s")->valuedouble, 1e-6);
            cJSON_Delete(one);
            td_free(again);
        }
        cJSON_Delete(json);
        td_free(out);
    }
}

static void a_side_may_mix_hardware(void **state)
{
    (void)state;
    double rates[3];
    static const char *const deploys[] = {"a=8xh20,f=16xh800", "a=8xh20+8xh800,f=16xh800", "a=8xh20+8xh800,f=16xh800+8xh20"};
    for (int i = 0; i < 3; i++) {
        char *out = NULL;
        if (td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "step3", .deploy = deploys[i], .format = "json", .tpot_ms = 60}, &out) < 0) fail_msg("%s: %s", deploys[i], td_error());
        cJSON *json = cJSON_Parse(out);
        rates[i] = cJSON_GetObjectItem(json, "tokens_per_s")->valuedouble;
        if (i > 0) {
            const cJSON *pools = cJSON_GetObjectItem(json, "attention");
            assert_int_equal(cJSON_GetArraySize(pools), 2);
            double slow = cJSON_GetObjectItem(cJSON_GetArrayItem(pools, 0), "batch_per_device")->valuedouble, fast = cJSON_GetObjectItem(cJSON_GetArrayItem(pools, 1), "batch_per_device")->valuedouble;
            assert_true(fast >= slow); /* the faster card gets the larger batch */
            char *again = NULL;
            assert_int_equal(td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "step3", .deploy = cJSON_GetObjectItem(json, "deploy")->valuestring, .format = "json"}, &again), TD_OK);
            assert_string_equal(out, again);
            td_free(again);
        }
        cJSON_Delete(json);
        td_free(out);
    }
    assert_true(rates[1] > rates[0]);
}

static void what_cannot_work_names_what_would(void **state)
{
    (void)state;
    static const struct { const char *model, *hardware; double tpot; const char *deploy, *expect; } cases[] = {
        {"kimi-k2", "rtx-3090", 50, NULL, "at most 32 devices"}, {"step3", "h800", 0.001, "a=8xh800,f=16xh800,m=3", "longer than 0.001 ms"}, {"step3", "h800", 1, NULL, "nearest that works"}, {"step3", "h800", 50, "a=8xh800,f=2xh800", "would hold"}, {"step3", "h800", 50, "a=8xh800", "both a= and f="},
        {"step3", "h800", 50, "a=8xh80,f=8xh20", "'h800'"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,m=3,b=4000", "would fit"}, {"step3", "h800", 50, "a=-1xh800,f=8xh800", "16xh20"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,tp=3", "tp=3"},
        {"step3", "h800", 50, "a=8xh800,f=8xh800,m=99", "micro-batches"}, {"step3", "h800", 50, "c=8xh800,f=8xh800", "colocated"},
        {"step3", "h800", 50, "a=8xh800,c=8xh800", "colocated"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,m=2.7", "whole number"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,b=9,b=8", "twice"},
        {"step3", "h800", 50, "a=8xh800:4.5+8xh20:4,f=8xh800", "whole number"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,q=3", "q=3"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        td_status status = td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = cases[i].model, .hardware = cases[i].hardware, .tpot_ms = cases[i].tpot, .deploy = cases[i].deploy, .devices_max = cases[i].deploy ? 0 : 32}, &out);
        if (status >= 0) fail_msg("case %zu was accepted: %s", i, out);
        assert_null(out);
        if (!strstr(td_error(), cases[i].expect)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, td_error());
    }
}

/* What nothing on one H800 node of 8 meets: the refusal's sentence. */
static const char *refusal(double tpot_ms)
{
    static char sentence[600];
    char *out = NULL;
    assert_int_equal(td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "qwen3-30b-a3b", .hardware = "h800", .tpot_ms = tpot_ms, .devices_max = 8}, &out), TD_E_INVALID);
    snprintf(sentence, sizeof sentence, "%s", td_error());
    return sentence;
}

static void the_nearest_that_works_does_not_depend_on_an_absurd_target(void **state)
{
    (void)state;
    char first[600];
    snprintf(first, sizeof first, "%s", refusal(0.001));
    assert_non_null(strstr(first, "meets 0.001 ms"));
    const char *nearest = strstr(first, "the nearest that works is");
    assert_non_null(nearest);
    static const double targets[] = {0.0013, 0.02, 0.07};
    for (size_t i = 0; i < TD_COUNT(targets); i++) assert_non_null(strstr(refusal(targets[i]), nearest));
    static const double never[] = {1e-320, 1e-300, 0.00099, 2e7, -1, NAN, INFINITY};
    for (size_t i = 0; i < TD_COUNT(never); i++)
        if (!strstr(refusal(never[i]), "--tpot: expected 0.001 to 10000000 ms")) fail_msg("%g: %s", never[i], td_error());
}

/* ---- what the engine is told ---- */

static cJSON *judged(const char *model, const char *kv, double context, const char *deploy)
{
    char *out;
    if (td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = model, .kv = kv, .context = context, .deploy = deploy, .tpot_ms = 1000, .format = "json"}, &out) < 0) fail_msg("%s", td_error());
    cJSON *json = cJSON_Parse(out);
    assert_non_null(json);
    td_free(out);
    return json;
}

static double told(const cJSON *json, const char *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(json, object), key);
    return item ? item->valuedouble : -1;
}

static void the_engine_is_told_the_context_that_was_planned(void **state)
{
    (void)state;
    static const struct { const char *model; double context, told; } cases[] = {{"step3", 8192, -1}, {"step3", 32768, -1}, {"step3", 65000, 65000}, {"qwen3-30b-a3b", 131072, 131072}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        cJSON *json = judged(cases[i].model, NULL, cases[i].context, "a=8xh800,f=16xh800,m=3");
        assert_near(told(json, "engine", "context_max"), cases[i].told, 0);
        assert_true(told(json, "engine", "kv_tokens") >= cases[i].context);
        assert_null(cJSON_GetObjectItem(json, "notes"));
        cJSON_Delete(json);
    }
}

static void what_the_engine_cannot_do_is_said(void **state)
{
    (void)state;
    cJSON *json = judged("step3", "4bit", 8192, "a=8xh800,f=16xh800,m=3"), *notes = cJSON_GetObjectItem(json, "notes");
    assert_true(told(json, "engine", "kv_tokens") < 0 && told(json, "engine", "kv_dtype") < 0 && told(json, "engine", "requests_max") >= 1); /* BF16 pages for as many tokens would be 3.6 times the memory */
    assert_int_equal(cJSON_GetArraySize(notes), 1);
    assert_non_null(strstr(cJSON_GetArrayItem(notes, 0)->valuestring, "KV type"));
    cJSON_Delete(json);
    json = judged("step3", NULL, 8192, "a=64xh800:4,f=64xh800,m=3");
    assert_near(told(json, "worker", "clients_max"), 64, 0);
    assert_null(cJSON_GetObjectItem(json, "notes"));
    cJSON_Delete(json);
    json = judged("step3", "4bit", 8192, "a=64xh800:4+8xh20:4,f=64xh800,m=3"), notes = cJSON_GetObjectItem(json, "notes");
    assert_near(told(json, "worker", "clients_max"), 64, 0);
    assert_int_equal(cJSON_GetArraySize(notes), 2);
    assert_non_null(strstr(cJSON_GetArrayItem(notes, 1)->valuestring, "from 72"));
    cJSON_Delete(json);
}

/* ---- verdict ---- */

/* A question whose best split beats the best colocated deployment, answered by hand; the cards are two of the caller's. */
static void two_choices(const plan_hardware *a, const plan_hardware *f, const plan_hardware *together, plan_answer *answer)
{
    memset(answer, 0, sizeof *answer);
    answer->count = 2;
    answer->choices[0].deployment = (plan_deployment){.a_pools = 1, .f_pools = 1, .ffn_tp = 1, .micro_batches = 3, .a = {{a, 8, 100}}, .f = {{f, 8, 0}}};
    answer->choices[0].result = (plan_result){.batch = 2400, .devices = 16, .usd_mtok = a->usd_hour + f->usd_hour, .bound = "FFN"};
    answer->choices[1].deployment = (plan_deployment){.colocated = true, .a_pools = 1, .ffn_tp = 1, .micro_batches = 2, .a = {{together, 16, 100}}};
    answer->choices[1].result = (plan_result){.batch = 3200, .devices = 16, .usd_mtok = 3 * together->usd_hour, .bound = "FFN"};
}

static double ffn_intensity_of_verdict(const plan_question *q, const plan_answer *answer)
{
    td_buffer text = {0};
    plan_verdict(q, answer, &text);
    const char *at = text.data ? strstr(text.data, "the FFN is") : NULL;
    if (!at || !(at = strchr(at, '('))) fail_msg("no FFN in: %s", text.data);
    double intensity = strtod(at + 1, NULL);
    td_buffer_free(&text);
    return intensity;
}

static void the_verdict_counts_weights_as_they_are_stored(void **state)
{
    (void)state;
    static plan_answer answer;
    plan_hardware a = {.name = "a", .usd_hour = 1, .bf16 = 1e14, .fp8 = 1e14, .bandwidth = 1e12}, f = {.name = "f", .usd_hour = 1, .bf16 = 1e14, .fp8 = 1e14, .bandwidth = 1e12};
    plan_model model;
    assert_int_equal(plan_model_find("step3", &model), TD_OK);
    plan_question q = {.model = &model, .precision = &PLAN_FP8, .factors = &PLAN_MEASURED, .load = {.context = 8192}, .tpot_s = 0.05};
    two_choices(&a, &f, &a, &answer);
    double planned = ffn_intensity_of_verdict(&q, &answer);
    model.ffn_weight_bytes = 0.5;
    assert_near(ffn_intensity_of_verdict(&q, &answer), 2 * planned, 0.01);
}

static void hardware_without_a_price_decides_nothing(void **state)
{
    (void)state;
    static plan_answer answer;
    static const struct { double a, f, together; const char *expect, *never; } cases[] = {
        {1, 1, 1, "is better here", "price is"}, {0, 0, 0, "All prices are zero", "better"}, {0, 1, 1, "No price is known for a, so", "is better here"}, {1, 0, 0, "for f, c, so", "All prices"}};
    plan_model model;
    assert_int_equal(plan_model_find("step3", &model), TD_OK);
    plan_question q = {.model = &model, .precision = &PLAN_FP8, .factors = &PLAN_MEASURED, .load = {.context = 8192}, .tpot_s = 0.05};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        plan_hardware a = {.name = "a", .usd_hour = cases[i].a, .bf16 = 1e14, .bandwidth = 1e12}, f = a, c = a;
        td_buffer text = {0};
        snprintf(f.name, sizeof f.name, "f"), snprintf(c.name, sizeof c.name, "c");
        f.usd_hour = cases[i].f, c.usd_hour = cases[i].together;
        two_choices(&a, &f, &c, &answer);
        plan_verdict(&q, &answer, &text);
        if (!strstr(text.data, cases[i].expect) || strstr(text.data, cases[i].never)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, text.data);
        td_buffer_free(&text);
    }
}

/* ---- options ---- */

static void bad_options_are_one_sentence(void **state)
{
    (void)state;
    static const td_plan_options bad[] = {{.model = "step3", .format = "yaml"}, {.model = "step3", .hardware = "h900"}, {.model = "step3", .prices = "h800=-1"}, {.model = "step3", .prices = "h800"},
        {.model = "step3", .kv = "fp3"}, {.model = "step3", .context = 1e12}, {.model = "step3", .context = -5}, {.model = "step3", .hardware = ","}, {.model = ""}, {.model = NULL}, {.model = "/nonexistent/model"}};
    for (size_t i = 0; i < TD_COUNT(bad); i++) {
        char *out = NULL;
        assert_true(td_plan(TD_PLAN_COST, &bad[i], &out) < 0);
        assert_null(out);
        assert_true(strlen(td_error()) > 20 && !strchr(td_error(), '\n'));
    }
}

static void numbers_out_of_range_name_the_range(void **state)
{
    (void)state;
    static const struct { td_plan_task task; td_plan_options o; const char *expect; } cases[] = {
        {TD_PLAN_SEARCH, {.prices = "h20=1e308", .format = "json"}, "--price: expected 0 or 1e-06 to 10000000 dollars after 'h20=', found '1e308'"}, {TD_PLAN_COST, {.prices = "h800=2,h20=1.1e7"}, "10000000"},
        {TD_PLAN_SEARCH, {.prices = "h20=1e-320"}, "1e-06"}, {TD_PLAN_SEARCH, {.prices = "h20=-1,h800=2"}, "found '-1'"}, {TD_PLAN_SEARCH, {.prices = "h20=dear"}, "found 'dear'"}, {TD_PLAN_SEARCH, {.prices = "h20=nan"}, "found 'nan'"},
        {TD_PLAN_SEARCH, {.demand = 1e300}, "--demand: expected 1 to 1e+15 tokens per second, found 1e+300"}, {TD_PLAN_SEARCH, {.demand = 1e-300}, "--demand"}, {TD_PLAN_SIMULATE, {.replicas = 1.5}, "--replicas: expected a whole number from 1 to 100000, found 1.5"},
        {TD_PLAN_SIMULATE, {.replicas = 0.5}, "found 0.5"}, {TD_PLAN_SIMULATE, {.replicas = 100001}, "found 100001"}, {TD_PLAN_SIMULATE, {.replicas = NAN}, "found nan"}, {TD_PLAN_SIMULATE, {.prompt = 0.5}, "--prompt: expected 1 to 100000000 tokens, found 0.5"},
        {TD_PLAN_SIMULATE, {.output = 0.5}, "--output: expected 1 to 100000000 tokens, found 0.5"}, {TD_PLAN_SIMULATE, {.output = -1}, "--output"}, {TD_PLAN_SIMULATE, {.prompt = 1e9}, "--prompt"},
        {TD_PLAN_SEARCH, {.prefill = "inline", .prompt = 0.5}, "--prompt"}, {TD_PLAN_SIMULATE, {.rate = 1e-320}, "--rate: expected 1e-06 to 1e+09 requests per second"}, {TD_PLAN_SIMULATE, {.rate = 1e300}, "--rate"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        td_plan_options o = cases[i].o;
        o.model = "qwen3-30b-a3b";
        if (td_plan(cases[i].task, &o, &out) != TD_E_INVALID) fail_msg("case %zu was accepted: %s", i, out ? out : td_error());
        assert_null(out);
        if (!strstr(td_error(), cases[i].expect)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, td_error());
    }
}

static void measured_loads_are_bounded(void **state)
{
    (void)state;
    static const struct { const char *first; bool good; } cases[] = {{"7", true}, {"1e15", true}, {"1e16", false}, {"1e308", false}, {"inf", false}, {"-1", false}};
    char path[] = "/tmp/td_loads_XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        FILE *f = fopen(path, "w");
        for (int e = 0; e < 48; e++) fprintf(f, "%s\n", e % 2 ? "5" : cases[i].first);
        fclose(f);
        td_status status = td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "step3", .deploy = "a=8xh800,f=16xh800,m=3", .loads = path, .format = "json"}, &out);
        if (cases[i].good != (status == TD_OK)) fail_msg("%s: %s", cases[i].first, out ? out : td_error());
        if (status < 0 && !strstr(td_error(), "expected 48 numbers from 0 to 1e+15")) fail_msg("%s: %s", cases[i].first, td_error());
        cJSON *json = cJSON_Parse(out ? out : "{}");
        if (!json) fail_msg("no JSON: %s", out);
        cJSON_Delete(json);
        td_free(out);
    }
    remove(path);
}

static void prices_at_their_limits_give_numbers(void **state)
{
    (void)state;
    static const char *const prices[] = {"h800=1e7,h20=1e7", "h800=1e-6,h20=1e-6", "h800=1e7,h20=1e-6"};
    for (size_t i = 0; i < TD_COUNT(prices); i++) {
        char *out = NULL;
        assert_int_equal(td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = "step3", .hardware = "h800,h20", .prices = prices[i], .demand = 1e15, .format = "json", .devices_max = 64}, &out), TD_OK);
        cJSON *json = cJSON_Parse(out);
        if (!json) fail_msg("no JSON: %s", out);
        assert_true(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "best"), "usd_per_mtoken")->valuedouble >= 0);
        cJSON_Delete(json);
        td_free(out);
    }
}

static void an_option_that_would_not_be_looked_at_is_refused(void **state)
{
    (void)state;
    static const struct { td_plan_task task; td_plan_options o; const char *expect; } cases[] = {
        {TD_PLAN_SEARCH, {.model = "step3", .prefill = "banana"}, "--prefill"}, {TD_PLAN_SEARCH, {.model = "step3", .prefill = "0.5"}, "--simulate"}, {TD_PLAN_SEARCH, {.model = "step3", .deploy = "c=8xh20", .prefill = "0.5"}, "--simulate"},
        {TD_PLAN_SIMULATE, {.model = "step3", .deploy = "c=8xh20", .prefill = "banana"}, "--prefill"}, {TD_PLAN_COST, {.model = "step3", .prefill = "inline"}, "--prefill"}, {TD_PLAN_COST, {.model = "step3", .deploy = "nonsense"}, "--deploy"},
        {TD_PLAN_COST, {.model = "step3", .ideal = true}, "--ideal"}, {TD_PLAN_COST, {.model = "step3", .tpot_ms = 40}, "--tpot"}, {TD_PLAN_COST, {.model = "step3", .jitter = 0.1}, "--jitter"},
        {TD_PLAN_COST, {.model = "step3", .straggler = 2}, "--straggler"}, {TD_PLAN_COST, {.model = "step3", .loads = "x"}, "--loads"}, {TD_PLAN_COST, {.model = "step3", .demand = 5}, "--demand"},
        {TD_PLAN_COST, {.model = "step3", .devices_max = 5}, "--devices-max"}, {TD_PLAN_COST, {.model = "step3", .threads = 2}, "--threads"}, {TD_PLAN_COST, {.model = "step3", .calibration = "x"}, "'here'"},
        {TD_PLAN_SEARCH, {.model = "step3", .prompt = 100}, "--prompt"}, {TD_PLAN_SEARCH, {.model = "step3", .deploy = "c=8xh20", .output = 100}, "--output"}, {TD_PLAN_SEARCH, {.model = "step3", .prefill = "elsewhere", .output = 9}, "--output"},
        {TD_PLAN_SIMULATE, {.model = "step3", .trace = "x", .prompt = 5}, "--prompt"}, {TD_PLAN_SIMULATE, {.model = "step3", .trace = "x", .output = 5}, "--output"}, {TD_PLAN_SEARCH, {.model = "step3", .deploy = "c=8xh20", .devices_max = 5}, "--devices-max"},
        {TD_PLAN_SIMULATE, {.model = "step3", .deploy = "c=8xh20", .devices_max = 5}, "--devices-max"}, {TD_PLAN_SEARCH, {.model = "step3", .seed = 5}, "--seed"}, {TD_PLAN_COST, {.model = "step3", .seed = 5}, "--seed"},
        {TD_PLAN_PAPER, {.hardware = "h20"}, "--hardware"}, {TD_PLAN_PAPER, {.prices = "h20=1"}, "--price"}, {TD_PLAN_PREDICT, {.model = "step3", .hardware = "h20"}, "--hardware"}, {TD_PLAN_PREDICT, {.model = "step3", .tpot_ms = 5}, "--tpot"},
        {TD_PLAN_MODELS, {.context = 5}, "--context"}, {TD_PLAN_HARDWARE, {.kv = "bf16"}, "--kv"}, {TD_PLAN_CALIBRATE, {.calibration = "x", .deploy = "c=8xh20"}, "--deploy"},
        {TD_PLAN_COST, {.model = "step3", .chart = "x.svg"}, "--chart"}, {TD_PLAN_SEARCH, {.model = "step3", .deploy = "c=8xh20", .chart = "x.svg"}, "--chart"},
        {TD_PLAN_SEARCH, {.model = "step3", .rate = 5}, "--rate"}, {TD_PLAN_SIMULATE, {.model = "step3", .rate = 5, .trace = "x"}, "--rate"}, {TD_PLAN_COST, {.model = "step3", .format = "csv"}, "--csv"}, {TD_PLAN_MODELS, {.format = "json"}, "--json"},
        {TD_PLAN_SEARCH, {.model = "step3", .from = "x"}, "--from"}, {TD_PLAN_SEARCH, {.model = "step3", .batch = 4}, "--batch"}, {TD_PLAN_SIMULATE, {.model = "step3", .demand = 5}, "--demand"}, {TD_PLAN_SEARCH, {.model = "step3", .trace = "x"}, "--trace"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        assert_int_equal(td_plan(cases[i].task, &cases[i].o, &out), TD_E_INVALID);
        assert_null(out);
        if (!strstr(td_error(), cases[i].expect)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, td_error());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cheapest_meets_its_target_and_more_time_never_costs_more),
        cmocka_unit_test(a_side_may_mix_hardware),
        cmocka_unit_test(what_cannot_work_names_what_would),
        cmocka_unit_test(the_nearest_that_works_does_not_depend_on_an_absurd_target),
        cmocka_unit_test(the_engine_is_told_the_context_that_was_planned),
        cmocka_unit_test(what_the_engine_cannot_do_is_said),
        cmocka_unit_test(the_verdict_counts_weights_as_they_are_stored),
        cmocka_unit_test(hardware_without_a_price_decides_nothing),
        cmocka_unit_test(bad_options_are_one_sentence),
        cmocka_unit_test(numbers_out_of_range_name_the_range),
        cmocka_unit_test(measured_loads_are_bounded),
        cmocka_unit_test(prices_at_their_limits_give_numbers),
        cmocka_unit_test(an_option_that_would_not_be_looked_at_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
