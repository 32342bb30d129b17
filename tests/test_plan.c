/* test_plan.c - the planner: published tables to the printed digit, models, hardware, schedule, simulator against closed forms, search, calibration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "plan/calibrate.h"
#include "plan/search.h"
#include "plan/sim.h"

static void assert_near(double found, double expected, double relative)
{
    if (!(fabs(found - expected) <= relative * fabs(expected))) fail_msg("expected %g within %g %%, found %g", expected, 100 * relative, found);
}

static void every_printed_digit_of_the_paper(void **state)
{
    (void)state;
    static plan_paper_value values[PLAN_PAPER_MAX];
    size_t count, held = 0, remarks = 0, per_table[9] = {0};
    assert_int_equal(plan_paper_values(values, PLAN_PAPER_MAX, &count), TD_OK);
    for (size_t i = 0; i < count; i++) {
        const plan_paper_value *v = &values[i];
        if (v->table[0] >= '2' && v->table[0] <= '7') per_table[v->table[0] - '0']++;
        remarks += v->remark != NULL;
        held += !v->remark;
        if (!v->remark && !plan_paper_agrees(v)) fail_msg("table %s, %s, %s: computed %.10g does not round to the printed %.10g", v->table, v->row, v->column, v->computed, v->printed);
    }
    assert_int_equal(per_table[2], 36);
    assert_int_equal(per_table[3], 36);
    assert_int_equal(per_table[4], 18); /* two cards have no FP8 */
    assert_int_equal(per_table[5], 8);
    assert_int_equal(per_table[6], 108);
    assert_int_equal(per_table[7], 4);
    assert_int_equal(held, 286);
    assert_int_equal(remarks, 17 + PLAN_TABLE8_ROWS); /* quoted, cut off or read from a chart: not more than these; and the measured Table 8 */
}

static void a_wrong_digit_is_seen(void **state)
{
    (void)state;
    assert_true(plan_paper_agrees(&(plan_paper_value){"6", "r", "c", 0.05449, 0.054, -3, NULL}));
    assert_false(plan_paper_agrees(&(plan_paper_value){"6", "r", "c", 0.05451, 0.054, -3, NULL}));
    assert_true(plan_paper_agrees(&(plan_paper_value){"2", "r", "c", 287834112, 2.88e8, 3, NULL}));
    assert_false(plan_paper_agrees(&(plan_paper_value){"2", "r", "c", 287434112, 2.88e8, 3, NULL}));
}

static void models_have_their_published_sizes(void **state)
{
    (void)state;
    static const struct { const char *name; double total, active; } known[] = {{"step3", 316.3e9, 37.9e9}, {"deepseek-v3", 671e9, 36.5e9}, {"kimi-k2", 1026e9, 31.5e9}, {"qwen3-235b-a22b", 235.1e9, 21.5e9},
        {"gpt-oss-120b", 116.8e9, 5.1e9}, {"step3.5-flash", 197e9, 11.4e9}, {"glm-4.5", 352.8e9, 32.8e9}, {"qwen3-30b-a3b", 30.5e9, 3.03e9}, {"llama3-70b", 70.6e9, 69.5e9}, {"mixtral-8x7b", 46.7e9, 12.75e9}};
    for (size_t i = 0; i < TD_COUNT(known); i++) {
        plan_model m;
        assert_int_equal(plan_model_find(known[i].name, &m), TD_OK);
        assert_near(plan_total_parameters(&m), known[i].total, 0.003);
        assert_near(plan_active_parameters(&m), known[i].active, 0.005);
    }
    plan_model m;
    assert_int_equal(plan_model_find("stpe3", &m), TD_E_NOT_FOUND);
    assert_non_null(strstr(td_error(), "'step3'"));
}

static void newer_models_cost_what_was_derived(void **state)
{
    (void)state;
    static const struct { const char *name; double usd[3]; } known[] = {{"step3", {.055, .129, .424}}, {"minimax-m2.5", {.066, .239, .933}}, {"glm-4.5", {.116, .373, 1.402}}, {"gpt-oss-120b", {.012, .037, .138}},
        {"step3.5-flash", {.023, .057, .191}}, {"deepseek-v3.2", {.043, .075, .144}}};
    static const char *const cards[] = {"h800", "h20", "a800", "910b"};
    plan_hardware_table table;
    assert_int_equal(plan_hardware_load(NULL, &table), TD_OK);
    for (size_t i = 0; i < TD_COUNT(known); i++)
        for (int c = 0; c < 3; c++) {
            plan_model m;
            assert_int_equal(plan_model_find(known[i].name, &m), TD_OK);
            plan_token t = plan_token_cost(&m, &PLAN_FP8, 8192 << (2 * c), true);
            double attention = INFINITY, ffn = INFINITY;
            for (int h = 0; h < 4; h++) {
                const plan_hardware *w;
                assert_int_equal(plan_hardware_find(&table, cards[h], &w), TD_OK);
                attention = fmin(attention, plan_attention_usd(&t, w));
                ffn = fmin(ffn, plan_ffn_usd(&t, w));
            }
            if (fabs(attention + ffn - known[i].usd[c]) > 0.00151) fail_msg("%s at %d: %.4f, expected %.3f", known[i].name, 8192 << (2 * c), attention + ffn, known[i].usd[c]);
        }
    plan_hardware_free(&table);
}

static void hardware_lines_are_read_or_refused_by_number(void **state)
{
    (void)state;
    char path[] = "/tmp/td_plan_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs("# mine\nmycard gpu 1.5 100 200 48 900 25 5 - 4 300 # a receipt\nh20 gpu 0.5 148 296 96 4000 50 4 450 8 400 # cheaper\n", f);
    fclose(f);
    plan_hardware_table table;
    const plan_hardware *w;
    assert_int_equal(plan_hardware_load(path, &table), TD_OK);
    assert_int_equal(plan_hardware_find(&table, "mycard", &w), TD_OK);
    assert_true(w->fp8 == 200e12 && w->node == 4 && w->scale_up == 0);
    assert_string_equal(w->source, "a receipt");
    assert_int_equal(plan_hardware_find(&table, "H20", &w), TD_OK);
    assert_true(w->usd_hour == 0.5);
    assert_int_equal(plan_hardware_find(&table, "h8000", &w), TD_E_NOT_FOUND);
    assert_non_null(strstr(td_error(), "'h800'"));
    for (size_t i = 0; i < table.count; i++) assert_true(strlen(table.items[i].source) > 6); /* every line says where its figures come from */
    plan_hardware_free(&table);
    static const char *const bad[] = {"x gpu 1 2 3\n", "x gpu -1 100 200 48 900 25 5 - 4 300\n", "x gpu nan 100 200 48 900 25 5 - 4 300\n", "x gpu 1 0 200 48 900 25 5 - 4 300\n", "x gpu 1 1 2 48 900 25 5 - 1.5 300\n"};
    for (size_t i = 0; i < TD_COUNT(bad); i++) {
        f = fopen(path, "w");
        fprintf(f, "\n%s", bad[i]);
        fclose(f);
        assert_int_equal(plan_hardware_load(path, &table), TD_E_FORMAT);
        assert_non_null(strstr(td_error(), "line 2"));
    }
    remove(path);
}

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

static void an_option_that_would_not_be_looked_at_is_refused(void **state)
{
    (void)state;
    static const struct { td_plan_task task; td_plan_options o; const char *expect; } cases[] = {{TD_PLAN_COST, {.model = "step3", .chart = "x.svg"}, "--chart"}, {TD_PLAN_SEARCH, {.model = "step3", .deploy = "c=8xh20", .chart = "x.svg"}, "--chart"},
        {TD_PLAN_SEARCH, {.model = "step3", .rate = 5}, "--rate"}, {TD_PLAN_SIMULATE, {.model = "step3", .rate = 5, .trace = "x"}, "--rate"}, {TD_PLAN_COST, {.model = "step3", .format = "csv"}, "--csv"}, {TD_PLAN_MODELS, {.format = "json"}, "--json"},
        {TD_PLAN_SEARCH, {.model = "step3", .from = "x"}, "--from"}, {TD_PLAN_SEARCH, {.model = "step3", .batch = 4}, "--batch"}, {TD_PLAN_SIMULATE, {.model = "step3", .demand = 5}, "--demand"}, {TD_PLAN_SEARCH, {.model = "step3", .trace = "x"}, "--trace"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        assert_int_equal(td_plan(cases[i].task, &cases[i].o, &out), TD_E_INVALID);
        assert_null(out);
        if (!strstr(td_error(), cases[i].expect)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, td_error());
    }
}

static void config_errors_name_the_key(void **state)
{
    (void)state;
    static const struct { const char *json, *expect; } cases[] = {{"{}", "hidden_size"}, {"{\"hidden_size\":-4,\"num_hidden_layers\":2}", "hidden_size"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":99999,\"vocab_size\":10}", "num_hidden_layers"}, {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4}", "intermediate_size"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"kv_lora_rank\":16}", "qk_rope_head_dim"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"num_experts\":8,\"num_experts_per_tok\":9,\"moe_intermediate_size\":4}", "num_experts_per_tok"}, {"[]", "object"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        plan_model m;
        cJSON *json = cJSON_Parse(cases[i].json);
        assert_int_equal(plan_model_from_config(json, "x", &m), TD_E_FORMAT);
        assert_non_null(strstr(td_error(), cases[i].expect));
        cJSON_Delete(json);
    }
}

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
    assert_near(plan_imbalance(48, 3, 1e12, 40, NULL, false), 40.0 / 24, 1e-3 + 1); /* at least one expert a device */
    assert_true(plan_imbalance(48, 3, 1e12, 40, NULL, false) >= 40.0 / 48 * 1.999);
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
        int load[Y] = {0}, most = 0;
        for (int t = 0; t < T; t++) {
            bool taken[E] = {false};
            for (int k = 0; k < K;) {
                int e = (int)td_random_between(&r, 0, E - 1);
                if (taken[e]) continue;
                taken[e] = true, k++;
                load[e * Y / E]++;
            }
        }
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
    free(arrivals);
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
    remove(path);
}

/* ---- calibration ---- */

/* Step times of an invented machine: 12 GB/s and 40 GFLOP/s a thread, 200 us a step, 30 us a row, some noise. */
static double invented_seconds(const plan_measured *r, td_random *random, double noise)
{
    double t = 200e-6 + 30e-6 * r->batch + r->bytes / (8e9 + 4e9 * r->threads) + r->flops / (40e9 * r->threads);
    return t * (1 + noise * (2 * td_random_next_unit(random) - 1));
}

static void a_machine_is_fitted_and_unseen_rows_predicted(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3-0.6b", "qwen3-30b-a3b", "deepseek-v2-lite"};
    plan_measured rows[120] = {{.batch = 0}};
    td_random random = {.seed = 21};
    int n = 0;
    plan_precision precision = PLAN_FP8;
    precision.kv_bytes = 2;
    for (int m = 0; m < 3; m++)
        for (int b = 1; b <= 64; b *= 4)
            for (int c = 128; c <= 8192; c *= 8)
                for (int t = 1; t <= 2; t++) {
                    plan_model model;
                    plan_measured *r = &rows[n++];
                    assert_int_equal(plan_model_find(names[m], &model), TD_OK);
                    *r = (plan_measured){.key = "decode|q8_0|colocated", .batch = b, .context = c, .threads = t, .phase_tokens = b};
                    plan_step_work(&model, &precision, b, c, &r->bytes, &r->flops);
                    r->seconds = invented_seconds(r, &random, 0.03);
                }
    plan_calibration fit = {.count = 0};
    assert_int_equal(plan_calibrate(rows, n / 2, &fit), TD_OK); /* half of the models' rows: the other half is unseen */
    assert_int_equal(fit.count, 1);
    double mean = 0, worst = 0;
    int inside = 0;
    for (int i = n / 2; i < n; i++) {
        double error = fabs(plan_fit_seconds(&fit.fits[0], &rows[i]) / rows[i].seconds - 1);
        mean += error / (n - n / 2);
        worst = fmax(worst, error);
        inside += error <= 1.5 * fit.fits[0].error_p90;
    }
    print_message("calibration: %d rows unseen, mean error %.1f %%, worst %.1f %%\n", n - n / 2, 100 * mean, 100 * worst);
    assert_true(mean <= 0.07 && worst <= 0.20);
    assert_true(inside >= 0.7 * (n - n / 2));
    char path[] = "/tmp/td_fit_XXXXXX";
    assert_true(mkstemp(path) >= 0);
    plan_calibration again;
    assert_int_equal(plan_calibration_write(path, &fit, "rows.json"), TD_OK);
    assert_int_equal(plan_calibration_read(path, &again), TD_OK);
    assert_near(plan_fit_seconds(&again.fits[0], &rows[3]), plan_fit_seconds(&fit.fits[0], &rows[3]), 1e-9);
    char *out = NULL;
    assert_int_equal(td_plan(TD_PLAN_PREDICT, &(td_plan_options){.model = names[0], .calibration = path, .batch = 4, .context = 1024, .threads = 2, .format = "json"}, &out), TD_OK);
    cJSON *json = cJSON_Parse(out);
    double rate = cJSON_GetObjectItem(json, "tokens_per_s")->valuedouble;
    assert_true(cJSON_GetObjectItem(json, "low")->valuedouble < rate && rate < cJSON_GetObjectItem(json, "high")->valuedouble);
    cJSON_Delete(json);
    td_free(out);
    /* the fitted machine is hardware like any other */
    assert_int_equal(td_plan(TD_PLAN_COST, &(td_plan_options){.model = names[0], .calibration = path, .hardware = "here,h20", .threads = 2, .ideal = true, .format = "json"}, &out), TD_OK);
    json = cJSON_Parse(out);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "hardware"), 0), "name")->valuestring, "here");
    cJSON_Delete(json);
    td_free(out);
    assert_int_equal(plan_calibrate(rows, 5, &fit), TD_E_INVALID); /* too few rows */
    assert_non_null(strstr(td_error(), "at least 6"));
    remove(path);
}

/* A machine whose products jump at 8 rows and step at every 16, as tiles make them. */
static plan_curve jumping_curve(int threads)
{
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 24, 32, 33, 40, 48, 64, 128, 256, 512};
    plan_curve c = {.dtype = "q8_0", .threads = threads, .count = TD_COUNT(rows)};
    for (int i = 0; i < c.count; i++) c.rows[i] = rows[i], c.seconds[i] = (rows[i] < 8 ? 80e-12 + 2e-12 * rows[i] : 160e-12 + 40e-12 * ceil(rows[i] / 16.0)) / threads;
    return c;
}

static void a_curve_is_a_table_with_straight_lines(void **state)
{
    (void)state;
    plan_curve c = jumping_curve(1);
    assert_near(plan_curve_at(&c, 1), 82e-12, 1e-12);
    assert_near(plan_curve_at(&c, 7), 94e-12, 1e-12);
    assert_near(plan_curve_at(&c, 7.5), (94e-12 + 200e-12) / 2, 1e-12);
    assert_near(plan_curve_at(&c, 8), 200e-12, 1e-12);
    assert_near(plan_curve_at(&c, 1024), 2 * plan_curve_at(&c, 512), 1e-12);
    /* a layer of experts against dice: every expert's own number of rows, none for an expert that nobody chose */
    enum { E = 32, K = 4, ROUNDS = 4000 };
    plan_model m = {.name = "dice", .layers = 1, .hidden = 1, .vocab = 1, .ffn_groups = 1, .attention_groups = 1};
    m.ffn[0] = (plan_ffn){.layers = 1, .experts = E, .top_k = K, .expert_parameters = 1e6};
    td_random r = {.seed = 3};
    for (int rows = 1; rows <= 64; rows *= 4) {
        double sum = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int load[E] = {0};
            for (int t = 0; t < rows; t++) {
                bool taken[E] = {false};
                for (int k = 0; k < K;) {
                    int e = (int)td_random_between(&r, 0, E - 1);
                    if (!taken[e]) taken[e] = true, k++, load[e]++;
                }
            }
            for (int e = 0; e < E; e++) sum += load[e] ? plan_curve_at(&c, load[e]) * 1e6 / ROUNDS : 0;
        }
        assert_near(plan_curve_seconds(&c, &m, rows, 0), sum, 0.01);
    }
}

/* Measured rows of a machine with such products: the fit must see them through the curve, on a model and batches it has not seen. */
static void jumps_of_the_kernels_are_predicted(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3-0.6b", "qwen3-30b-a3b", "step3", "deepseek-v2-lite"};
    static const int batches[] = {1, 2, 4, 7, 8, 12, 16, 24, 40};
    plan_calibration c = {.curve_count = 2, .curves = {jumping_curve(1), jumping_curve(2)}}, blind;
    plan_precision precision = PLAN_FP8;
    plan_measured rows[80] = {{.batch = 0}}, without[80];
    td_random random = {.seed = 5};
    int n = 0, seen = 0;
    precision.kv_bytes = 2;
    for (int m = 0; m < 4; m++)
        for (size_t b = 0; b < TD_COUNT(batches); b++)
            for (int t = 1; t <= 2; t++) {
                plan_model model;
                plan_measured *r = &rows[n], *w = &without[n++];
                assert_int_equal(plan_model_find(names[m], &model), TD_OK);
                *w = *r = (plan_measured){.key = "decode|q8_0|colocated", .batch = batches[b], .context = 256, .threads = t, .phase_tokens = batches[b]};
                assert_int_equal(plan_measured_work(&model, &precision, "decode", "q8_0", &c, r), TD_OK);
                plan_step_work(&model, &precision, w->batch, w->context, &w->bytes, &w->flops);
                r->seconds = w->seconds = (1.1 * plan_curve_seconds(&c.curves[t - 1], &model, r->batch, r->batch) + r->bytes / 9e9 + 12e-6 * model.layers) * (1 + 0.06 * (td_random_next_unit(&random) - 0.5));
                if (m < 3) seen = n;
            }
    assert_int_equal(plan_calibrate(rows, seen, &c), TD_OK);
    assert_int_equal(c.curve_count, 2); /* a fit keeps its curves */
    blind = (plan_calibration){.count = 0};
    assert_int_equal(plan_calibrate(without, seen, &blind), TD_OK);
    double worst = 0, worst_blind = 0;
    for (int i = seen; i < n; i++) {
        worst = fmax(worst, fabs(plan_fit_seconds(&c.fits[0], &rows[i]) / rows[i].seconds - 1));
        worst_blind = fmax(worst_blind, fabs(plan_fit_seconds(&blind.fits[0], &without[i]) / without[i].seconds - 1));
    }
    print_message("kernels that jump: worst error with the curve %.1f %%, without %.1f %%\n", 100 * worst, 100 * worst_blind);
    assert_true(worst < 0.07 && worst_blind > 2 * worst);
    /* the file keeps curves to five digits; a type with curves has none for three threads */
    char path[] = "/tmp/td_fit_XXXXXX";
    assert_true(mkstemp(path) >= 0);
    plan_calibration again;
    plan_model model;
    assert_int_equal(plan_calibration_write(path, &c, "x"), TD_OK);
    assert_int_equal(plan_calibration_read(path, &again), TD_OK);
    assert_near(plan_curve_at(&again.curves[1], 12), plan_curve_at(&c.curves[1], 12), 1e-4);
    assert_int_equal(plan_model_find("step3", &model), TD_OK);
    plan_measured three = {.batch = 1, .context = 10, .threads = 3};
    assert_int_equal(plan_measured_work(&model, &precision, "decode", "q8_0", &again, &three), TD_E_NOT_FOUND);
    assert_non_null(strstr(td_error(), "3 threads"));
    remove(path);
}

static void the_engines_own_products_are_timed(void **state)
{
    (void)state;
    plan_curve c;
    assert_int_equal(plan_curve_measure("q8_0", 1, &c), TD_OK);
    for (int i = 0; i < c.count; i++) assert_true(c.seconds[i] > 1e-13 && c.seconds[i] < 1e-6 && (!i || c.rows[i] > c.rows[i - 1]));
    assert_true(c.seconds[c.count - 1] > 3 * c.seconds[0]); /* 512 rows are more work than one */
    assert_int_equal(plan_curve_measure("mxfp4", 1, &c), TD_E_INVALID);
}

static void measured_rows_are_read_or_refused(void **state)
{
    (void)state;
    static const struct { const char *json; td_status status; } cases[] = {
        {"[{\"model\":\"qwen3-0.6b\",\"phase\":\"decode\",\"batch\":4,\"context\":128,\"threads\":2,\"tokens_per_s\":10}]", TD_OK},
        {"{\"rows\":[{\"model\":\"/gone\",\"batch\":4,\"context\":128,\"threads\":2,\"tokens_per_s\":10,\"bytes_per_step\":5,\"flops_per_step\":6}]}", TD_OK},
        {"[{\"model\":\"/gone\",\"batch\":4,\"context\":128,\"threads\":2,\"tokens_per_s\":10}]", TD_E_FORMAT},
        {"[{\"model\":\"qwen3-0.6b\",\"batch\":0,\"context\":128,\"threads\":2,\"tokens_per_s\":10}]", TD_E_FORMAT},
        {"[{\"model\":\"qwen3-0.6b\",\"batch\":1,\"context\":128,\"threads\":2,\"tokens_per_s\":0}]", TD_E_FORMAT},
        {"{\"curves\":[{\"dtype\":\"q8_0\",\"threads\":1,\"rows\":[2,1],\"seconds_per_weight\":[1e-10,1e-10]}],\"rows\":[]}", TD_E_FORMAT},
        {"{\"curves\":[{\"dtype\":\"q8_0\",\"threads\":1,\"rows\":[1],\"seconds_per_weight\":[0]}],\"rows\":[]}", TD_E_FORMAT},
        {"[]", TD_E_FORMAT}, {"{", TD_E_FORMAT}, {"[1]", TD_E_FORMAT}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char path[] = "/tmp/td_rows_XXXXXX";
        FILE *f = fdopen(mkstemp(path), "w");
        fputs(cases[i].json, f);
        fclose(f);
        plan_measured *rows = NULL;
        int count;
        plan_calibration curves;
        assert_int_equal(plan_measured_read(path, &PLAN_FP8, &curves, &rows, &count), cases[i].status);
        if (cases[i].status == TD_OK) assert_true(count == 1 && rows[0].bytes > 0 && rows[0].seconds == 0.4);
        free(rows);
        remove(path);
    }
}

/* ---- GGUF ---- */

static void gguf_key(FILE *f, const char *key, uint32_t value)
{
    uint64_t length = strlen(key);
    uint32_t type = 4;
    fwrite(&length, 8, 1, f), fwrite(key, 1, length, f), fwrite(&type, 4, 1, f), fwrite(&value, 4, 1, f);
}

static void a_gguf_file_is_read_as_its_configuration_would_be(void **state)
{
    (void)state;
    char path[] = "/tmp/td_plan_XXXXXX.gguf";
    FILE *f = fdopen(mkstemps(path, 5), "w");
    static const struct { const char *key; uint32_t value; } keys[] = {{"qwen3moe.block_count", 48}, {"qwen3moe.embedding_length", 2048}, {"qwen3moe.feed_forward_length", 6144}, {"qwen3moe.attention.head_count", 32},
        {"qwen3moe.attention.head_count_kv", 4}, {"qwen3moe.attention.key_length", 128}, {"qwen3moe.attention.value_length", 128}, {"qwen3moe.expert_count", 128}, {"qwen3moe.expert_used_count", 8},
        {"qwen3moe.expert_feed_forward_length", 768}, {"qwen3moe.vocab_size", 151936}};
    uint64_t tensors = 48 + 2, pairs = TD_COUNT(keys) + 1, length, offset = 0, dims[2] = {32, 2};
    uint32_t version = 3, string = 8, rank = 2, q8_0 = 8;
    fwrite("GGUF", 1, 4, f), fwrite(&version, 4, 1, f), fwrite(&tensors, 8, 1, f), fwrite(&pairs, 8, 1, f);
    length = 20, fwrite(&length, 8, 1, f), fwrite("general.architecture", 1, 20, f), fwrite(&string, 4, 1, f), length = 8, fwrite(&length, 8, 1, f), fwrite("qwen3moe", 1, 8, f);
    for (size_t i = 0; i < TD_COUNT(keys); i++) gguf_key(f, keys[i].key, keys[i].value);
    for (int t = 0; t < 50; t++) { /* a router in every layer; a Q8_0 expert matrix and a head weigh the sides */
        char name[64];
        snprintf(name, sizeof name, t < 48 ? "blk.%d.ffn_gate_inp.weight" : t == 48 ? "blk.0.ffn_up_exps.weight" : "output.weight", t);
        length = strlen(name);
        fwrite(&length, 8, 1, f), fwrite(name, 1, length, f), fwrite(&rank, 4, 1, f), fwrite(dims, 8, 2, f), fwrite(&q8_0, 4, 1, f), fwrite(&offset, 8, 1, f);
        offset += 96;
    }
    while (ftell(f) % 32) fputc(0, f);
    for (uint64_t i = 0; i < offset; i++) fputc(0, f);
    fclose(f);
    plan_model from_file, named;
    if (plan_model_find(path, &from_file) < 0) fail_msg("%s", td_error());
    assert_int_equal(plan_model_find("qwen3-30b-a3b", &named), TD_OK);
    assert_near(plan_total_parameters(&from_file), plan_total_parameters(&named), 1e-12);
    assert_near(plan_active_parameters(&from_file), plan_active_parameters(&named), 1e-12);
    assert_near(from_file.ffn_weight_bytes, 34.0 / 32, 1e-12); /* Q8_0: 34 bytes for 32 values */
    remove(path);
}

/* ---- search ---- */

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
        {"kimi-k2", "rtx-3090", 50, NULL, "at most 32 devices"}, {"step3", "h800", 1, NULL, "nearest that works"}, {"step3", "h800", 50, "a=8xh800,f=2xh800", "would hold"}, {"step3", "h800", 50, "a=8xh800", "both a= and f="},
        {"step3", "h800", 50, "a=8xh80,f=8xh20", "'h800'"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,m=3,b=4000", "would fit"}, {"step3", "h800", 50, "a=-1xh800,f=8xh800", "16xh20"}, {"step3", "h800", 50, "a=8xh800,f=8xh800,tp=3", "tp=3"},
        {"step3", "h800", 50, "a=8xh800,f=8xh800,m=99", "micro-batches"}, {"step3", "h800", 50, "c=8xh800,f=8xh800", "colocated"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        char *out = NULL;
        td_status status = td_plan(TD_PLAN_SEARCH, &(td_plan_options){.model = cases[i].model, .hardware = cases[i].hardware, .tpot_ms = cases[i].tpot, .deploy = cases[i].deploy, .devices_max = 32}, &out);
        if (status >= 0) fail_msg("case %zu was accepted: %s", i, out);
        assert_null(out);
        if (!strstr(td_error(), cases[i].expect)) fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expect, td_error());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_printed_digit_of_the_paper),
        cmocka_unit_test(a_wrong_digit_is_seen),
        cmocka_unit_test(models_have_their_published_sizes),
        cmocka_unit_test(newer_models_cost_what_was_derived),
        cmocka_unit_test(hardware_lines_are_read_or_refused_by_number),
        cmocka_unit_test(bad_options_are_one_sentence),
        cmocka_unit_test(an_option_that_would_not_be_looked_at_is_refused),
        cmocka_unit_test(config_errors_name_the_key),
        cmocka_unit_test(table_8_is_fitted_on_three_rows_and_predicts_two),
        cmocka_unit_test(the_rule_of_a_layer),
        cmocka_unit_test(random_imbalance_agrees_with_throwing_dice),
        cmocka_unit_test(a_pipeline_takes_what_the_rule_says),
        cmocka_unit_test(prefill_waits_like_m_d_1),
        cmocka_unit_test(the_best_ratio_is_the_published_one),
        cmocka_unit_test(a_run_can_be_replayed_and_nothing_is_lost),
        cmocka_unit_test(traces_are_read_or_refused_by_line),
        cmocka_unit_test(a_machine_is_fitted_and_unseen_rows_predicted),
        cmocka_unit_test(a_curve_is_a_table_with_straight_lines),
        cmocka_unit_test(jumps_of_the_kernels_are_predicted),
        cmocka_unit_test(the_engines_own_products_are_timed),
        cmocka_unit_test(measured_rows_are_read_or_refused),
        cmocka_unit_test(a_gguf_file_is_read_as_its_configuration_would_be),
        cmocka_unit_test(the_cheapest_meets_its_target_and_more_time_never_costs_more),
        cmocka_unit_test(a_side_may_mix_hardware),
        cmocka_unit_test(what_cannot_work_names_what_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
