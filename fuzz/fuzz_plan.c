/* fuzz_plan.c - a configuration or a deployment as somebody else wrote it: never a crash, and finite results from what is accepted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(const plan_model *model, plan_deployment *d)
{
    plan_workload load = {.context = 8192};
    plan_case c = {.model = model, .precision = &PLAN_FP8, .factors = &PLAN_MEASURED, .load = &load, .deployment = d};
    plan_result r;
    td_status status = d->a[0].rows > 0 ? plan_evaluate(&c, &r) : plan_fill(&c, d, 0.05, &r);
    if (status == TD_OK && !(isfinite(r.tpot_s) && r.tpot_s > 0 && isfinite(r.usd_mtok))) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static plan_hardware_table table;
    static plan_model known;
    if (!table.count && (plan_hardware_load(NULL, &table) < 0 || plan_model_find("step3", &known) < 0)) abort();
    if (size < 1 || size > 1 << 16) return 0;
    char *text = malloc(size);
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    plan_deployment d;
    if (data[0] & 1) {
        if (plan_deployment_read(text, &table, &d) == TD_OK) judge(&known, &d);
    } else {
        cJSON *json = cJSON_Parse(text);
        plan_model m;
        if (json && plan_model_from_config(json, "fuzz", &m) == TD_OK) {
            plan_token t = plan_token_cost(&m, &PLAN_FP8, 8192, true);
            if (!(t.core_flops >= 0 && t.kv_bytes >= 0)) abort();
            if (plan_deployment_read("a=8xh20,f=8xh800,m=3", &table, &d) == TD_OK) judge(&m, &d);
        }
        cJSON_Delete(json);
    }
    free(text);
    return 0;
}
