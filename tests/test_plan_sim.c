/* test_plan_sim.c - one layer and many requests: the schedule's rule against measured rows and dice, the simulator against closed forms. */
#include "plan_support.h"

#include "plan/plan.h"
#include "plan/sim.h"

/* ---- schedule ---- */

static void table_8_is_fitted_on_three_rows_and_predicts_two(void **state)
{
    (void)state;
    plan_factors fitted;
    plan_table8_row rows[PLAN_TABLE8_ROWS];
    int held_out = 0;
    assert_int_equal(plan_table8_fit(&fitted), TD_OK);
    /* the shipped factors are what the fit finds, not something better chosen by hand */
    assert_near(PLAN_MEASURED.ffn_stage_s, fitted.ffn_stage_s, 0.02);
    assert_near(PLAN_MEASURED.wire_exposed, fitted.wire_exposed, 0.02);
    assert_int_equal(plan_table8(&PLAN_MEASURED, rows), TD_OK);
    for (int i = 0; i < PLAN_TABLE8_ROWS; i++) {
        assert_near(rows[i].predicted, rows[i].measured, 0.10);
        held_out += !rows[i].fitted;
    }
    assert_int_equal(held_out, 2);
}

static void the_rule_of_a_layer(void **state)
{
    (void)state;
    assert_true(plan_layer_period(false, 3, 0, 2, 1, 2, 1) == 6);       /* balanced: 3 A = A + F + both wires */
    assert_true(plan_layer_period(false, 1, 0, 2, 1, 3, 1) == 7);       /* one micro-batch: the way through */
    assert_true(plan_layer_period(false, 4, 0, 2, 5, 3, 1) == 20);      /* the wire is the bottleneck */
    assert_true(plan_layer_period(true, 1, 0.5, 2, 1, 3, 1) == 7);
    assert_true(plan_layer_period(true, 2, 0.5, 2, 1, 3, 1) == 12);
    assert_near(plan_imbalance(64, 6, 1e12, 8, NULL, false), 1, 1e-4);  /* many tokens: even */
    assert_near(plan_imbalance(48, 3, 1e12, 40, NULL, false), 40.0 / 24, 1e-3); /* at least one expert a device */
    double loads[8] = {8, 1, 1, 1, 1, 1, 1, 2};
    assert_near(plan_imbalance(8, 2, 1e12, 2, loads, false), 11.0 / 8, 1e-4); /* 8+1+1+1 against 2+1+1+1: the heaviest expert cannot be cut */
    assert_near(plan_normal_max(100), 2.508, 0.005);
    assert_near(plan_experts_touched(64, 6, 1), 6, 1e-9);
    assert_near(plan_experts_touched(64, 6, 1e6), 64, 1e-9);
}

static void random_imbalance_agrees_with_throwing_dice(void **state)
{
    (void)state;
    td_random r = {.seed = 11};
    enum { E = 64, K = 6, T = 256, Y = 16, ROUNDS = 400 };
    double sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int chosen[E], load[Y] = {0}, most = 0;
        throw_dice(&r, E, K, T, chosen);
        for (int e = 0; e < E; e++) load[e * Y / E] += chosen[e];
        for (int y = 0; y < Y; y++) most = TD_MAX(most, load[y]);
        sum += most / ((double)T * K / Y) / ROUNDS;
    }
    assert_near(plan_imbalance(E, K, T, Y, NULL, false), sum, 0.03);
}

/* ---- simulator against closed forms ---- */

/* A machine of pure coefficients: one layer kind; attention costs a1 a cached token and a0, the FFN f1 a token and f0; no wire. */
typedef struct { plan_model model; plan_hardware card; plan_factors factors; plan_workload load; plan_deployment d; plan_case c; } toy;

static void toy_open(toy *t, int layers, double a1, double a0, double f1, double f0, int a, int m, double rows, double context)
{
    *t = (toy){.model = {.name = "toy", .layers = layers, .hidden = 1, .vocab = 1, .attention_groups = 1, .ffn_groups = 1, .ffn_weight_bytes = 1e-12}, .factors = PLAN_IDEAL, .load = {.context = context}};
    t->model.attention[0] = (plan_attention){.kind = PLAN_MQA, .layers = layers, .heads = 1, .kv_heads = 1, .head_dim = 1, .kv_values = a1 * 1e9};
    t->model.ffn[0] = (plan_ffn){.layers = layers, .shared_parameters = f1 * 1e15 / 2};
    t->card = (plan_hardware){.name = "toy", .bf16 = 1e15, .fp8 = 1e15, .memory_bytes = 1e15, .bandwidth = 1e9, .nic = 1e30, .node = 8};
    t->factors.attention_stage_s = a0;
    t->factors.ffn_stage_s = f0;
    t->d = (plan_deployment){.a_pools = 1, .f_pools = 1, .ffn_tp = 1, .micro_batches = m};
    t->d.a[0] = (plan_pool){.hardware = &t->card, .devices = a, .rows = rows};
    t->d.f[0] = (plan_pool){.hardware = &t->card, .devices = 1};
    t->c = (plan_case){.model = &t->model, .precision = &PLAN_FP8, .factors = &t->factors, .load = &t->load, .deployment = &t->d};
}

static void a_pipeline_takes_what_the_rule_says(void **state)
{
    (void)state;
    static const struct { double a0, f0; int m; } cases[] = {{100e-6, 100e-6, 2}, {100e-6, 100e-6, 3}, {200e-6, 100e-6, 3}, {100e-6, 300e-6, 3}, {100e-6, 300e-6, 1}, {150e-6, 150e-6, 4}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        toy t;
        toy_open(&t, 40, 1e-13, cases[i].a0, 1e-12, cases[i].f0, 2, cases[i].m, 16, 200);
        plan_arrival *arrivals;
        plan_result rule;
        plan_sim_result r;
        int64_t count = 2 * 16 * cases[i].m;
        assert_int_equal(plan_poisson(INFINITY, count, 100, 200, true, 1, &arrivals), TD_OK);
        plan_simulation s = {.c = &t.c, .replicas = 1, .arrivals = arrivals, .count = count, .prefill = PLAN_PREFILL_NONE};
        assert_int_equal(plan_simulate(&s, &r), TD_OK);
        assert_int_equal(plan_evaluate(&t.c, &rule), TD_OK);
        assert_int_equal(r.finished, count);
        assert_near(r.output_tokens, 200.0 * count, 0);
        double expected = 40 * fmax(cases[i].m * fmax(cases[i].a0, cases[i].f0), cases[i].a0 + cases[i].f0);
        assert_near(rule.tpot_s, expected, 0.01);
        assert_near(r.tpot_s.mean, expected, 0.01);
        assert_near(r.tpot_s.mean, rule.tpot_s, 0.01);
        assert_near(r.share_a + r.share_out + r.share_f + r.share_back + r.share_head + r.share_wait, 1, 1e-9);
        t.load.straggler = 2.5; /* a side waits for its slowest device */
        assert_int_equal(plan_simulate(&s, &r), TD_OK);
        assert_near(r.tpot_s.mean, 2.5 * expected, 0.01);
        free(arrivals);
    }
}

/* One server with Poisson arrivals and constant service: the mean wait is rho s / 2 (1 - rho). */
static void prefill_waits_like_m_d_1(void **state)
{
    (void)state;
    static const double loads[] = {0.3, 0.5, 0.8};
    for (size_t i = 0; i < TD_COUNT(loads); i++) {
        toy t;
        toy_open(&t, 1, 1e-13, 1e-7, 1e-12, 1e-7, 1, 1, 1000, 200);
        plan_arrival *arrivals;
        plan_sim_result r;
        const double service = 0.1;
        assert_int_equal(plan_poisson(loads[i] / service, 200000, 100, 1, true, 5, &arrivals), TD_OK);
        plan_simulation s = {.c = &t.c, .replicas = 1, .arrivals = arrivals, .count = 200000, .prefill = PLAN_PREFILL_POOL, .prefill_servers = 1, .prefill_s_per_token = service / 100};
        assert_int_equal(plan_simulate(&s, &r), TD_OK);
        assert_near(r.prefill_wait_s.mean, loads[i] * service / (2 * (1 - loads[i])), 0.05);
        free(arrivals);
    }
}

/* arXiv 2601.21351: the ratio of attention to FFN instances that makes the most tokens an instance. */
static void the_best_ratio_is_the_published_one(void **state)
{
    (void)state;
    static const struct { double a1, a0, f1, f0, prompt, output; int slots; } cases[] = {
        {4e-10, 20e-6, 50e-9, 10e-6, 500, 100, 400},  /* attention decides */
        {2e-10, 10e-6, 20e-9, 20e-6, 200, 150, 300},
        {1e-11, 1e-6, 20e-9, 2000e-6, 100, 100, 400}, /* the FFN's fixed time decides: r_peak */
    };
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        double best = 0, best_ratio = 0;
        plan_arrival *arrivals;
        assert_int_equal(plan_poisson(INFINITY, 100000, cases[i].prompt, cases[i].output, false, 3, &arrivals), TD_OK);
        double theta = plan_theta(arrivals, 100000), ratio = plan_optimal_ratio(cases[i].a1, cases[i].a0, cases[i].f1, cases[i].f0, 0, cases[i].slots, theta);
        free(arrivals);
        for (int r = TD_MAX(1, (int)(0.6 * ratio)); r <= 1.5 * ratio; r++) {
            toy t;
            toy_open(&t, 1, cases[i].a1, cases[i].a0, cases[i].f1, cases[i].f0, r, 3, cases[i].slots, 100000);
            int64_t count = (int64_t)r * 3 * cases[i].slots * 4;
            assert_int_equal(plan_poisson(INFINITY, count, cases[i].prompt, cases[i].output, false, 9, &arrivals), TD_OK);
            plan_simulation s = {.c = &t.c, .replicas = 1, .arrivals = arrivals, .count = count, .prefill = PLAN_PREFILL_NONE};
            plan_sim_result out;
            assert_int_equal(plan_simulate(&s, &out), TD_OK);
            assert_true(out.full_tokens_s > 0);
            if (out.full_tokens_s / (r + 1) > best) best = out.full_tokens_s / (r + 1), best_ratio = r;
            free(arrivals);
        }
        print_message("rA-1F case %zu: published optimum %.2f, simulated %.0f\n", i, ratio, best_ratio);
        assert_true(fabs(best_ratio - ratio) <= fmax(0.5, 0.10 * ratio));
    }
}

static void a_run_can_be_replayed_and_nothing_is_lost(void **state)
{
    (void)state;
    toy t;
    toy_open(&t, 4, 1e-10, 50e-6, 50e-9, 30e-6, 4, 3, 8, 2000);
    t.load.jitter = 0.1;
    plan_arrival *arrivals;
    plan_sim_result a, b, c;
    assert_int_equal(plan_poisson(2000, 5000, 300, 50, false, 7, &arrivals), TD_OK);
    arrivals[100].prompt = 2000000000; /* fits nowhere */
    plan_simulation s = {.c = &t.c, .replicas = 3, .arrivals = arrivals, .count = 5000, .prefill = PLAN_PREFILL_INLINE, .seed = 4};
    t.card.memory_bytes = 1e7;
    assert_int_equal(plan_simulate(&s, &a), TD_OK);
    assert_int_equal(plan_simulate(&s, &b), TD_OK);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(a.finished + a.refused, 5000);
    assert_int_equal(a.refused, 1);
    s.seed = 5;
    assert_int_equal(plan_simulate(&s, &c), TD_OK);
    assert_true(c.tpot_s.mean != a.tpot_s.mean);
    t.load.jitter = 0;
    assert_int_equal(plan_simulate(&s, &c), TD_OK);
    assert_true(c.tpot_s.mean < a.tpot_s.mean); /* jitter costs time: a side waits for its slowest */
    for (int i = 0; i < 3000; i++) arrivals[i].prompt = 2000000000;
    assert_int_equal(plan_simulate(&s, &b), TD_OK); /* those that were refused are no quick answers */
    assert_int_equal(b.refused, 3000);
    assert_true(b.ttft_s.p50 > 0 && b.ttft_s.mean <= b.ttft_s.max);
    free(arrivals);
}

/* Only the eight H200 among 308 attention devices can have room for it. */
static void a_request_that_fits_few_places_finds_one(void **state)
{
    (void)state;
    char path[] = "/tmp/td_trace_XXXXXX", *out;
    FILE *f = fdopen(mkstemp(path), "w");
    fputs("0 800000 10\n", f);
    fclose(f);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        td_plan_options o = {.model = "step3", .deploy = "a=300xh800:4+8xh200:4,f=64xh800,m=3", .trace = path, .seed = seed, .format = "json"};
        if (td_plan(TD_PLAN_SIMULATE, &o, &out) < 0) fail_msg("seed %d: %s", (int)seed, td_error());
        td_free(out);
    }
    remove(path);
}

/* Nothing is read of them, so that the step they wait for would carry no rows and never end. */
static void an_empty_prompt_read_inline_decodes_at_once(void **state)
{
    (void)state;
    toy t;
    plan_sim_result r, elsewhere;
    plan_arrival arrivals[] = {{0, 0, 10}, {0.001, 0, 3}, {0.002, 700, 5}, {5, 0, 1}};
    toy_open(&t, 10, 1e-13, 100e-6, 1e-12, 100e-6, 2, 3, 8, 1000);
    plan_simulation s = {.c = &t.c, .replicas = 1, .arrivals = arrivals, .count = TD_COUNT(arrivals), .prefill = PLAN_PREFILL_INLINE};
    assert_int_equal(plan_simulate(&s, &r), TD_OK);
    assert_int_equal(r.finished, TD_COUNT(arrivals));
    assert_true(isfinite(r.makespan_s) && isfinite(r.ttft_s.max) && isfinite(r.tpot_s.max) && isfinite(r.batch_mean) && isfinite(r.share_wait));
    for (size_t i = 0; i < TD_COUNT(arrivals); i++) arrivals[i].prompt = 0;
    assert_int_equal(plan_simulate(&s, &r), TD_OK);
    s.prefill = PLAN_PREFILL_NONE;
    assert_int_equal(plan_simulate(&s, &elsewhere), TD_OK);
    assert_memory_equal(&r, &elsewhere, sizeof r); /* without prompts it does not matter who reads them */
}

/* The rate that nobody gave is 70 % of what the devices sustain while they also read the prompts. */
static void the_default_rate_leaves_room_for_inline_prompts(void **state)
{
    (void)state;
    static const char *const deploys[] = {"a=16xh800,f=16xh800,m=3", "c=32xh800,m=2"};
    for (size_t i = 0; i < TD_COUNT(deploys); i++) {
        char *out;
        if (td_plan(TD_PLAN_SIMULATE, &(td_plan_options){.model = "step3", .deploy = deploys[i], .prefill = "inline", .requests = 4000, .format = "json"}, &out) < 0) fail_msg("%s", td_error());
        cJSON *json = cJSON_Parse(out), *waits = cJSON_GetObjectItem(json, "queue_s"), *steps = cJSON_GetObjectItem(json, "tpot_s");
        assert_true(cJSON_GetObjectItem(waits, "p99")->valuedouble < 2 * cJSON_GetObjectItem(steps, "p50")->valuedouble); /* a step or two, not a queue that grows */
        cJSON_Delete(json);
        td_free(out);
    }
}

/* A pool reads the trace's prompts at the trace's own length, whatever --context says of decoding. */
static char *with_pool(const char *prefill, double replicas, const char *format, td_status *status)
{
    char *out = NULL;
    *status = td_plan(TD_PLAN_SIMULATE, &(td_plan_options){.model = "step3", .deploy = "a=8xh800:4,f=16xh800,m=3", .prefill = prefill, .replicas = replicas, .requests = 200, .format = format}, &out);
    return out;
}

static void a_share_of_devices_is_whole_nodes_and_reported(void **state)
{
    (void)state;
    static const struct { const char *share; double replicas, devices; } good[] = {{"0.5", 1, 8}, {"0.333333", 1, 8}, {"1", 1, 24}, {"0.66", 1, 8}, {"0.34", 2, 16}, {"1000", 1000, 24e6}};
    td_status status;
    for (size_t i = 0; i < TD_COUNT(good); i++) {
        char *out = with_pool(good[i].share, good[i].replicas, "json", &status), more[64];
        if (status < 0) fail_msg("%s: %s", good[i].share, td_error());
        cJSON *json = cJSON_Parse(out);
        assert_near(cJSON_GetObjectItem(json, "devices")->valuedouble, 24 * good[i].replicas, 0);
        assert_near(cJSON_GetObjectItem(json, "prefill_devices")->valuedouble, good[i].devices, 0);
        cJSON_Delete(json);
        td_free(out);
        snprintf(more, sizeof more, "and %.0f more that read prompts", good[i].devices);
        out = with_pool(good[i].share, good[i].replicas, "text", &status);
        assert_non_null(strstr(out, more));
        td_free(out);
    }
    char *inline_prompts = with_pool("inline", 1, "json", &status);
    assert_non_null(strstr(inline_prompts, "\"prefill_devices\":0,"));
    td_free(inline_prompts);
    static const struct { const char *share; double replicas; const char *expect; } bad[] = {{"0.01", 1, "--prefill 0.01: expected a share of at least 0.333333, one node of 8 devices beside the 24 here"}, {"0.333", 1, "0.333333"}, {"0.16", 2, "0.166667, one node of 8 devices beside the 48"},
        {"0", 1, "above 0"}, {"1001", 1, "share"}, {"nan", 1, "share"}};
    for (size_t i = 0; i < TD_COUNT(bad); i++) {
        char *out = with_pool(bad[i].share, bad[i].replicas, "json", &status);
        if (status != TD_E_INVALID || out || !strstr(td_error(), bad[i].expect)) fail_msg("%s: expected '%s' in: %s", bad[i].share, bad[i].expect, out ? out : td_error());
    }
}

static void prompts_of_a_trace_are_read_at_their_own_length(void **state)
{
    (void)state;
    char path[] = "/tmp/td_trace_XXXXXX", *out;
    double ttft[2];
    FILE *f = fdopen(mkstemp(path), "w");
    fputs("0 50000 10\n", f);
    fclose(f);
    for (int i = 0; i < 2; i++) {
        td_plan_options o = {.model = "step3", .deploy = "a=8xh800:4,f=16xh800,m=3", .trace = path, .prefill = "1", .context = i ? 16384 : 4096, .format = "json"};
        if (td_plan(TD_PLAN_SIMULATE, &o, &out) < 0) fail_msg("%s", td_error());
        cJSON *json = cJSON_Parse(out);
        ttft[i] = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "ttft_s"), "mean")->valuedouble;
        cJSON_Delete(json);
        td_free(out);
    }
    assert_near(ttft[1], ttft[0], 1e-9);
    remove(path);
}

static void traces_are_read_or_refused_by_line(void **state)
{
    (void)state;
    char path[] = "/tmp/td_trace_XXXXXX";
    plan_arrival *arrivals = NULL;
    int64_t count;
    FILE *f = fdopen(mkstemp(path), "w");
    fputs("# seconds prompt output\n2.5 100 20\n\n0.5, 300, 10 # early\n", f);
    fclose(f);
    assert_int_equal(plan_trace_read(path, &arrivals, &count), TD_OK);
    assert_int_equal(count, 2);
    assert_true(arrivals[0].at_s == 0.5 && arrivals[0].prompt == 300 && arrivals[1].output == 20);
    free(arrivals);
    static const char *const bad[] = {"1 2\n", "1 2 0\n", "-1 2 3\n", "nan 2 3\n", "1 2 3 4\n", "x\n", "# nothing\n"};
    for (size_t i = 0; i < TD_COUNT(bad); i++) {
        f = fopen(path, "w");
        fputs(bad[i], f);
        fclose(f);
        assert_int_equal(plan_trace_read(path, &arrivals, &count), TD_E_FORMAT);
    }
    f = fopen(path, "w");
    fwrite("1 2 3\n\0004 5 6\n", 1, 13, f);
    fclose(f);
    assert_int_equal(plan_trace_read(path, &arrivals, &count), TD_E_FORMAT); /* nothing behind a NUL is passed over */
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_8_is_fitted_on_three_rows_and_predicts_two),
        cmocka_unit_test(the_rule_of_a_layer),
        cmocka_unit_test(random_imbalance_agrees_with_throwing_dice),
        cmocka_unit_test(a_pipeline_takes_what_the_rule_says),
        cmocka_unit_test(prefill_waits_like_m_d_1),
        cmocka_unit_test(the_best_ratio_is_the_published_one),
        cmocka_unit_test(a_run_can_be_replayed_and_nothing_is_lost),
        cmocka_unit_test(a_request_that_fits_few_places_finds_one),
        cmocka_unit_test(an_empty_prompt_read_inline_decodes_at_once),
        cmocka_unit_test(the_default_rate_leaves_room_for_inline_prompts),
        cmocka_unit_test(a_share_of_devices_is_whole_nodes_and_reported),
        cmocka_unit_test(prompts_of_a_trace_are_read_at_their_own_length),
        cmocka_unit_test(traces_are_read_or_refused_by_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
