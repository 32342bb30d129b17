/* test_plan_calibrate.c - a measured machine: fits and curves must predict rows that they have not seen; files of rows are read or refused. */
#include "plan_support.h"

#include "plan/calibrate.h"

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
    /* and is priced like any other */
    if (td_plan(TD_PLAN_COST, &(td_plan_options){.model = names[0], .calibration = path, .hardware = "here", .prices = "here=0.5", .threads = 2, .format = "json"}, &out) < 0) fail_msg("%s", td_error());
    json = cJSON_Parse(out);
    assert_true(cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "hardware"), 0), "ffn_usd")->valuedouble > 0);
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
    plan_curve of[PLAN_SWEEPS] = {c, c, c}; /* each disturbed elsewhere */
    for (int i = 0; i < c.count; i++) of[i % 3].seconds[i] *= i % 2 ? 1.9 : 0.3;
    plan_curve settled = plan_curve_median(of);
    assert_true(settled.threads == c.threads && settled.count == c.count && !memcmp(settled.seconds, c.seconds, (size_t)c.count * sizeof c.seconds[0]));
    /* a layer of experts against dice: every expert's own number of rows, none for an expert that nobody chose */
    enum { E = 32, K = 4, ROUNDS = 4000 };
    plan_model m = {.name = "dice", .layers = 1, .hidden = 1, .vocab = 1, .ffn_groups = 1, .attention_groups = 1};
    m.ffn[0] = (plan_ffn){.layers = 1, .experts = E, .top_k = K, .expert_parameters = 1e6};
    td_random r = {.seed = 3};
    for (int rows = 1; rows <= 64; rows *= 4) {
        double sum = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int load[E];
            throw_dice(&r, E, K, rows, load);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_is_fitted_and_unseen_rows_predicted),
        cmocka_unit_test(a_curve_is_a_table_with_straight_lines),
        cmocka_unit_test(jumps_of_the_kernels_are_predicted),
        cmocka_unit_test(the_engines_own_products_are_timed),
        cmocka_unit_test(measured_rows_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
