/* test_model.c - what a model is told by its checkpoint beside the weights: its end tokens, from every file that may name them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/model.h"

static char folder[64], model_path[128];

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", model_path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* config.json with another value under a key: JSON text; inside: in text_config, where the key itself is taken out of the root. */
static void spell(const char *key, const char *value, bool inside)
{
    char path[256], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/config.json", model_path);
    assert_int_equal(td_file_read(path, 1 << 20, &text, &bytes), TD_OK);
    cJSON *config = cJSON_ParseWithLength(text, bytes), *root = config;
    free(text);
    cJSON_DeleteItemFromObjectCaseSensitive(config, key);
    if (inside) {
        root = cJSON_CreateObject();
        cJSON_AddStringToObject(root, "model_type", "step3_vl");
        cJSON_AddItemToObject(root, "text_config", config);
    }
    cJSON_AddItemToObject(config, key, cJSON_Parse(value));
    char *out = cJSON_Print(root);
    put("config.json", out);
    cJSON_Delete(root);
    free(out);
}

static void ends_are(const char *wanted)
{
    td_model *model;
    if (td_model_open(model_path, NULL, &model) < 0) fail_msg("%s", td_error());
    char found[256] = "";
    for (int32_t id = 0; id < td_model_get_info(model)->vocab_size; id++)
        if (td_model_is_end(model, id)) snprintf(found + strlen(found), sizeof found - strlen(found), "%d ", id);
    assert_string_equal(found, wanted);
    assert_int_equal(td_model_get_info(model)->eos, *wanted ? atoi(wanted) : -1);
    td_model_close(model);
}

static void fresh(void)
{
    char command[512];
    td_synth_options options = {.like = "step3", .dtype = "bf16", .format = "safetensors", .layers = 2, .scale_divisor = 64, .seed = 3};
    snprintf(command, sizeof command, "rm -rf %s", model_path);
    assert_int_equal(system(command), 0);
    if (td_synth(model_path, &options) < 0) fail_msg("%s", td_error());
    snprintf(command, sizeof command, "rm -f %s/tokenizer* %s/generation_config.json", model_path, model_path);
    assert_int_equal(system(command), 0);
}

static void without_tokenizer_every_named_end_counts(void **state)
{
    (void)state;
    fresh();
    spell("eos_token_id", "7", false);
    ends_are("7 ");
    spell("eos_token_id", "[7, 9]", false);
    ends_are("7 9 ");
    put("generation_config.json", "{\"eos_token_id\": [11, 9, 100000000, -1, \"x\"]}");
    ends_are("7 9 11 ");
    spell("eos_token_id", "null", false);
    put("generation_config.json", "{\"eos_token_id\": 12}");
    ends_are("12 ");
    put("generation_config.json", "{");
    ends_are("");
    spell("eos_token_id", "13", true);
    ends_are("13 ");
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/tandem-model-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(model_path, sizeof model_path, "%s/m", folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_tokenizer_every_named_end_counts)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) || failed;
}
