/* test_plan_cost.c - what one token costs: published tables to the printed digit, models from the table, config.json and GGUF, hardware lines. */
#include "plan_support.h"

#include "plan/schedule.h"

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
                attention = fmin(attention, plan_attention_usd(&t, &PLAN_FP8, w));
                ffn = fmin(ffn, plan_ffn_usd(&t, &PLAN_FP8, w));
            }
            if (fabs(attention + ffn - known[i].usd[c]) > 0.00151) fail_msg("%s at %d: %.4f, expected %.3f", known[i].name, 8192 << (2 * c), attention + ffn, known[i].usd[c]);
        }
    plan_hardware_free(&table);
}

/* ---- the report ---- */

/* A number of the first hardware of a JSON report, or of its part of that name. */
static double reported(const char *out, const char *part, const char *key)
{
    cJSON *json = cJSON_Parse(out), *item, *found = part ? NULL : cJSON_GetArrayItem(cJSON_GetObjectItem(json, "hardware"), 0);
    if (part)
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "parts")) if (!strcmp(cJSON_GetObjectItem(item, "part")->valuestring, part)) found = item;
    double value = cJSON_GetObjectItem(found, key)->valuedouble;
    cJSON_Delete(json);
    return value;
}

static double cost_of(const plan_model *m, const plan_precision *p, const plan_hardware *w, const char *part, const char *key)
{
    td_buffer out = {0};
    assert_int_equal(plan_cost_report(m, p, 8192, &w, 1, true, &out), TD_OK);
    double value = reported(out.data, part, key);
    td_buffer_free(&out);
    return value;
}

static void wider_types_cost_the_rate_they_compute_at(void **state)
{
    (void)state;
    char *narrow, *wide;
    assert_int_equal(td_plan(TD_PLAN_COST, &(td_plan_options){.model = "step3", .hardware = "h800", .format = "json"}, &narrow), TD_OK);
    assert_int_equal(td_plan(TD_PLAN_COST, &(td_plan_options){.model = "step3", .hardware = "h800", .kv = "bf16", .weights = "bf16", .format = "json"}, &wide), TD_OK);
    assert_near(reported(wide, NULL, "ffn_usd"), 1980.0 / 989 * reported(narrow, NULL, "ffn_usd"), 1e-4);
    assert_near(reported(wide, NULL, "attention_usd"), 2 * reported(narrow, NULL, "attention_usd"), 2e-3); /* twice the bytes of the core, half the rate of the linear layers */
    td_free(narrow), td_free(wide);
}

static void text_json_and_schedule_agree_on_what_fits_in_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"step3", "qwen3-0.6b"}; /* the second has one matrix for embedding and head */
    plan_hardware_table table;
    plan_deployment d;
    assert_int_equal(plan_hardware_load(NULL, &table), TD_OK);
    assert_int_equal(plan_deployment_read("a=1xh800,f=16xh800,m=1", &table, &d), TD_OK);
    for (size_t i = 0; i < TD_COUNT(names); i++) {
        plan_model m;
        td_buffer text = {0};
        plan_result r;
        plan_workload load = {.context = 8192};
        char end[40];
        assert_int_equal(plan_model_find(names[i], &m), TD_OK);
        assert_int_equal(m.tied_embeddings, i == 1);
        double sequences = cost_of(&m, &PLAN_FP8, d.a[0].hardware, NULL, "sequences_in_memory");
        assert_int_equal(plan_cost_report(&m, &PLAN_FP8, 8192, &d.a[0].hardware, 1, false, &text), TD_OK);
        snprintf(end, sizeof end, " %.0f\n", sequences);
        assert_string_equal(text.data + text.bytes - strlen(end), end);
        td_buffer_free(&text);
        plan_case c = {.model = &m, .precision = &PLAN_FP8, .factors = &PLAN_MEASURED, .load = &load, .deployment = &d};
        d.a[0].rows = sequences;
        assert_int_equal(plan_evaluate(&c, &r), TD_OK);
        d.a[0].rows++;
        assert_int_equal(plan_evaluate(&c, &r), TD_E_INVALID);
    }
    plan_hardware_free(&table);
}

static void stored_weights_cost_their_own_bytes(void **state)
{
    (void)state;
    static const char *const parts[] = {"attention linear", "FFN", "LM head"};
    plan_model planned, stored;
    plan_hardware_table table;
    const plan_hardware *w;
    assert_int_equal(plan_hardware_load(NULL, &table), TD_OK);
    assert_int_equal(plan_hardware_find(&table, "h800", &w), TD_OK);
    assert_int_equal(plan_model_find("step3", &planned), TD_OK);
    stored = planned;
    stored.attention_weight_bytes = 0.5, stored.ffn_weight_bytes = 0.25, stored.head_weight_bytes = 1;
    static const double shares[] = {0.5, 0.25, 0.5}; /* PLAN_FP8: 1, 1 and 2 bytes */
    for (size_t i = 0; i < TD_COUNT(parts); i++) assert_near(cost_of(&stored, &PLAN_FP8, w, parts[i], "bytes"), shares[i] * cost_of(&planned, &PLAN_FP8, w, parts[i], "bytes"), 1e-6);
    assert_true(cost_of(&stored, &PLAN_FP8, w, NULL, "sequences_in_memory") > cost_of(&planned, &PLAN_FP8, w, NULL, "sequences_in_memory"));
    plan_hardware_free(&table);
}

/* ---- what is read: config.json, GGUF, hardware ---- */

static void config_errors_name_the_key(void **state)
{
    (void)state;
    static const struct { const char *json, *expect; } cases[] = {{"{}", "hidden_size"}, {"{\"hidden_size\":-4,\"num_hidden_layers\":2}", "hidden_size"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":99999,\"vocab_size\":10}", "num_hidden_layers"}, {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4}", "intermediate_size"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"kv_lora_rank\":16}", "qk_rope_head_dim"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"num_experts\":8,\"num_experts_per_tok\":9,\"moe_intermediate_size\":4}", "num_experts_per_tok"}, {"[]", "object"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"num_attention_groups\":3}", "'num_attention_groups' to divide the 4 attention heads, found 3"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":65}", "at most the hidden size 64"},
        {"{\"hidden_size\":64,\"num_hidden_layers\":2,\"vocab_size\":10,\"num_attention_heads\":4,\"sliding_window\":8,\"attention_other_setting\":{\"num_attention_heads\":6,\"num_attention_groups\":4}}", "divide the 6 attention heads"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        plan_model m;
        cJSON *json = cJSON_Parse(cases[i].json);
        assert_int_equal(plan_model_from_config(json, "x", &m), TD_E_FORMAT);
        assert_non_null(strstr(td_error(), cases[i].expect));
        cJSON_Delete(json);
    }
}

/* A published configuration of 32 query heads and 128 experts, with one key replaced by other JSON (NULL: left out). */
static td_status with_key(const char *key, const char *value, plan_model *out)
{
    cJSON *json = cJSON_Parse("{\"hidden_size\":2048,\"num_hidden_layers\":48,\"vocab_size\":151936,\"num_attention_heads\":32,\"num_key_value_heads\":4,\"head_dim\":128,\"num_experts\":128,\"num_experts_per_tok\":8,"
                              "\"moe_intermediate_size\":768,\"intermediate_size\":6144,\"n_shared_experts\":0,\"max_position_embeddings\":40960}");
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    if (value) cJSON_AddItemToObject(json, key, cJSON_Parse(value));
    td_status status = plan_model_from_config(json, "x", out);
    cJSON_Delete(json);
    return status;
}

static void a_key_out_of_range_is_not_replaced_by_a_default(void **state)
{
    (void)state;
    static const struct { const char *key, *value, *expect; } cases[] = {
        {"num_experts", "-128", "expected 'num_experts' to be a whole number between 0 and 1000000, found -128"}, {"num_experts", "1e9", "found 1000000000"}, {"num_experts", "\"128\"", "found a string"}, {"num_experts", "128.5", "found 128.5"},
        {"num_experts", "true", "found true"}, {"moe_intermediate_size", "0", "'moe_intermediate_size' to be a whole number between 1 and 10000000, found 0"}, {"moe_intermediate_size", "-768", "found -768"},
        {"head_dim", "-128", "'head_dim' to be a whole number between 1 and 65536, found -128"}, {"head_dim", "0", "found 0"}, {"head_dim", "1e9", "found 1000000000"}, {"head_dim", "1e999", "found inf"},
        {"num_key_value_heads", "0", "'num_key_value_heads' to be a whole number between 1 and 32, found 0"}, {"num_key_value_heads", "64", "found 64"}, {"num_key_value_heads", "5", "'num_key_value_heads' to divide the 32 attention heads, found 5"},
        {"n_shared_experts", "100", "'n_shared_experts' to be a whole number between 0 and 64, found 100"}, {"n_shared_experts", "\"1\"", "found a string"},
        {"share_expert_dim", "-1", "'share_expert_dim'"}, {"sliding_window", "-1", "'sliding_window'"}, {"sliding_window", "\"4096\"", "'sliding_window'"}, {"attention_chunk_size", "0.5", "'attention_chunk_size'"},
        {"first_k_dense_replace", "-3", "'first_k_dense_replace'"}, {"decoder_sparse_step", "1.5", "'decoder_sparse_step'"}, {"intermediate_size_mlp", "1e8", "'intermediate_size_mlp'"}, {"max_position_embeddings", "-1", "'max_position_embeddings'"},
        {"kv_lora_rank", "\"512\"", "'kv_lora_rank'"}, {"share_q_dim", "\"2048\"", "'share_q_dim'"}, {"linear_num_value_heads", "\"32\"", "'linear_num_key_heads'"}, {"hidden_size", "\"2048\"", "'hidden_size' to be a whole number between 1 and 1000000, found a string"},
        {"num_experts_per_tok", "129", "between 1 and 128, found 129"}, {"num_attention_heads", "4096.5", "'num_attention_heads'"}};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        plan_model m;
        td_status status = with_key(cases[i].key, cases[i].value, &m);
        if (status != TD_E_FORMAT || !strstr(td_error(), cases[i].expect) || strchr(td_error(), '\n')) fail_msg("%s %s: expected '%s' in: %s", cases[i].key, cases[i].value, cases[i].expect, status < 0 ? td_error() : "no error");
    }
}

static void what_a_published_configuration_leaves_open_is_absent(void **state)
{
    (void)state;
    static const struct { const char *key, *value; } same[] = {{"n_shared_experts", NULL}, {"n_shared_experts", "null"}, {"sliding_window", "0"}, {"sliding_window", "null"}, {"sliding_window", "false"}, {"attention_chunk_size", "null"},
        {"first_k_dense_replace", "0"}, {"decoder_sparse_step", "0"}, {"moe_layer_freq", "[1,1,0]"}, {"num_local_experts", "[64,64]"}, {"q_lora_rank", "null"}, {"max_position_embeddings", "null"}, {"intermediate_size_mlp", "0"},
        {"share_expert_dim", "0"}, {"head_dim", "128.0"}};
    plan_model known, m;
    assert_int_equal(plan_model_find("qwen3-30b-a3b", &known), TD_OK);
    for (size_t i = 0; i < TD_COUNT(same); i++) {
        if (with_key(same[i].key, same[i].value, &m) < 0) fail_msg("%s %s: %s", same[i].key, same[i].value, td_error());
        assert_near(plan_total_parameters(&m), plan_total_parameters(&known), 1e-12);
        assert_int_equal(m.attention_groups, 1);
        assert_near(m.attention[0].kv_values, known.attention[0].kv_values, 0);
    }
    assert_int_equal(with_key("num_experts", "0", &m), TD_OK); /* dense */
    assert_int_equal(m.ffn[0].experts, 0);
    assert_int_equal(with_key("num_key_value_heads", NULL, &m), TD_OK);
    assert_int_equal(m.attention[0].kv_heads, 32);
    assert_int_equal(with_key("head_dim", "null", &m), TD_OK);
    assert_int_equal(m.attention[0].head_dim, 64);
    assert_int_equal(with_key("first_k_dense_replace", "48", &m), TD_OK); /* no layer has experts */
    assert_int_equal(m.ffn[0].layers, 0);
    char name[96];
    int models = 0;
    for (; plan_model_at(models, name, sizeof name); models++)
        if (plan_model_find(name, &m) < 0) fail_msg("%s", td_error());
    assert_true(models >= 24);
}

static void gguf_key(FILE *f, const char *key, uint32_t value)
{
    uint64_t length = strlen(key);
    uint32_t type = 4;
    fwrite(&length, 8, 1, f), fwrite(key, 1, length, f), fwrite(&type, 4, 1, f), fwrite(&value, 4, 1, f);
}

/* qwen3-30b-a3b, but for the two numbers: a router in every layer; a Q8_0 expert matrix and a head weigh the sides. */
static void gguf_file(char *path, uint32_t kv_heads, uint32_t expert_width)
{
    FILE *f = fdopen(mkstemps(path, 5), "w");
    const struct { const char *key; uint32_t value; } keys[] = {{"qwen3moe.block_count", 48}, {"qwen3moe.embedding_length", 2048}, {"qwen3moe.feed_forward_length", 6144}, {"qwen3moe.attention.head_count", 32},
        {"qwen3moe.attention.head_count_kv", kv_heads}, {"qwen3moe.attention.key_length", 128}, {"qwen3moe.attention.value_length", 128}, {"qwen3moe.expert_count", 128}, {"qwen3moe.expert_used_count", 8},
        {"qwen3moe.expert_feed_forward_length", expert_width}, {"qwen3moe.vocab_size", 151936}};
    uint64_t tensors = 48 + 2, pairs = TD_COUNT(keys) + 1, length, offset = 0, dims[2] = {32, 2};
    uint32_t version = 3, string = 8, rank = 2, q8_0 = 8;
    fwrite("GGUF", 1, 4, f), fwrite(&version, 4, 1, f), fwrite(&tensors, 8, 1, f), fwrite(&pairs, 8, 1, f);
    length = 20, fwrite(&length, 8, 1, f), fwrite("general.architecture", 1, 20, f), fwrite(&string, 4, 1, f), length = 8, fwrite(&length, 8, 1, f), fwrite("qwen3moe", 1, 8, f);
    for (size_t i = 0; i < TD_COUNT(keys); i++) gguf_key(f, keys[i].key, keys[i].value);
    for (int t = 0; t < 50; t++) {
        char name[64];
        snprintf(name, sizeof name, t < 48 ? "blk.%d.ffn_gate_inp.weight" : t == 48 ? "blk.0.ffn_up_exps.weight" : "output.weight", t);
        length = strlen(name);
        fwrite(&length, 8, 1, f), fwrite(name, 1, length, f), fwrite(&rank, 4, 1, f), fwrite(dims, 8, 2, f), fwrite(&q8_0, 4, 1, f), fwrite(&offset, 8, 1, f);
        offset += 96;
    }
    while (ftell(f) % 32) fputc(0, f);
    for (uint64_t i = 0; i < offset; i++) fputc(0, f);
    fclose(f);
}

static void a_gguf_file_is_read_as_its_configuration_would_be(void **state)
{
    (void)state;
    char path[] = "/tmp/td_plan_XXXXXX.gguf", other[] = "/tmp/td_plan_XXXXXX.gguf";
    plan_model from_file, named;
    gguf_file(path, 4, 768);
    if (plan_model_find(path, &from_file) < 0) fail_msg("%s", td_error());
    assert_int_equal(plan_model_find("qwen3-30b-a3b", &named), TD_OK);
    assert_near(plan_total_parameters(&from_file), plan_total_parameters(&named), 1e-12);
    assert_near(plan_active_parameters(&from_file), plan_active_parameters(&named), 1e-12);
    assert_near(from_file.ffn_weight_bytes, 34.0 / 32, 1e-12); /* Q8_0: 34 bytes for 32 values */
    remove(path);
    gguf_file(other, 0, 0); /* as files say "as many as query heads" and "the width of all that a token visits" */
    if (plan_model_find(other, &from_file) < 0) fail_msg("%s", td_error());
    assert_int_equal(from_file.attention[0].kv_heads, 32);
    assert_near(plan_total_parameters(&from_file), plan_total_parameters(&named) + 48 * 2.0 * 2048 * 28 * 128, 1e-12);
    remove(other);
}

static void bad_hardware_line(const char *path, const char *line, const char *expect)
{
    plan_hardware_table table;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "\n%s", line);
    fclose(f);
    if (plan_hardware_load(path, &table) != TD_E_FORMAT || !strstr(td_error(), expect)) fail_msg("%s: expected '%s' in: %s", line, expect, td_error());
}

static void hardware_lines_are_read_or_refused_by_number(void **state)
{
    (void)state;
    char path[] = "/tmp/td_plan_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs("# mine\nMy-card_2.x gpu 1.5 100 200 48 900 25 5 - 4 300 # a receipt\nmycard gpu 1.5 100 200 48 900 25 5 - 4 300 # a receipt\nh20 gpu 0.5 148 296 96 4000 50 4 450 8 400 # cheaper\n", f);
    fclose(f);
    plan_hardware_table table;
    const plan_hardware *w;
    assert_int_equal(plan_hardware_load(path, &table), TD_OK);
    assert_int_equal(plan_hardware_find(&table, "mycard", &w), TD_OK);
    assert_true(w->fp8 == 200e12 && w->node == 4 && w->scale_up == 0);
    assert_string_equal(w->source, "a receipt");
    assert_int_equal(plan_hardware_find(&table, "My-card_2.x", &w), TD_OK);
    assert_int_equal(plan_hardware_find(&table, "H20", &w), TD_OK);
    assert_true(w->usd_hour == 0.5);
    assert_int_equal(plan_hardware_find(&table, "h8000", &w), TD_E_NOT_FOUND);
    assert_non_null(strstr(td_error(), "'h800'"));
    for (size_t i = 0; i < table.count; i++) assert_true(strlen(table.items[i].source) > 6); /* every line says where its figures come from */
    plan_hardware_free(&table);
    static const char *const bad[] = {"x gpu 1 2 3\n", "x gpu -1 100 200 48 900 25 5 - 4 300\n", "x gpu nan 100 200 48 900 25 5 - 4 300\n", "x gpu 1 0 200 48 900 25 5 - 4 300\n", "x gpu 1 1 2 48 900 25 5 - 1.5 300\n",
        "a\"b gpu 1 100 200 48 900 25 5 - 4 300\n", "a,b gpu 1 100 200 48 900 25 5 - 4 300\n", "a+b gpu 1 100 200 48 900 25 5 - 4 300\n", "a:4 gpu 1 100 200 48 900 25 5 - 4 300\n", "\xc3\xa9 gpu 1 100 200 48 900 25 5 - 4 300\n"};
    for (size_t i = 0; i < TD_COUNT(bad); i++) bad_hardware_line(path, bad[i], "line 2");
    static const struct { const char *line, *expect; } named[] = {
        {"x gpu 1 1e8 200 48 900 25 5 - 4 300", "expected '-', 0 or a number from 1e-06 to 10000000 as bf16 TFLOP/s, found '1e8'"}, {"x gpu 1 100 200 48 1e-300 25 5 - 4 300", "as GB/s, found '1e-300'"},
        {"x gpu 1e308 100 200 48 900 25 5 - 4 300", "as usd/h, found '1e308'"}, {"x gpu 1 100 200 48 900 25 5 - 4 300 7", "expected 12 columns"}, {"x gpu 1 100 200 48 900 25 5 - 4 300 7", "found 13"},
        {"x gpu 1 100 200 48 900 25 5 - 4 300 a dear receipt", "found 15"}, {"x tpu 1 100 200 48 900 25 5 - 4 300", "expected gpu, npu or cpu as kind, found 'tpu'"}, {"x GPU 1 100 200 48 900 25 5 - 4 300", "'GPU'"}};
    for (size_t i = 0; i < TD_COUNT(named); i++) bad_hardware_line(path, named[i].line, named[i].expect);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_printed_digit_of_the_paper),
        cmocka_unit_test(a_wrong_digit_is_seen),
        cmocka_unit_test(models_have_their_published_sizes),
        cmocka_unit_test(newer_models_cost_what_was_derived),
        cmocka_unit_test(wider_types_cost_the_rate_they_compute_at),
        cmocka_unit_test(text_json_and_schedule_agree_on_what_fits_in_memory),
        cmocka_unit_test(stored_weights_cost_their_own_bytes),
        cmocka_unit_test(config_errors_name_the_key),
        cmocka_unit_test(a_key_out_of_range_is_not_replaced_by_a_default),
        cmocka_unit_test(what_a_published_configuration_leaves_open_is_absent),
        cmocka_unit_test(a_gguf_file_is_read_as_its_configuration_would_be),
        cmocka_unit_test(hardware_lines_are_read_or_refused_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
