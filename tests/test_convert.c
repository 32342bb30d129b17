/*
 * test_convert.c - synth and convert: every family there and back without losing a bit, quantising as the row converters do, fallbacks, tokenizer carried along,
 * deviations of random weights, refusal of NaN, cancelling, full disks, existing outputs and wrong options without anything half-written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "checkpoint/names.h"
#include "checkpoint/outline.h"
#include "checkpoint/synth_blocks.h"

static char folder[256];

static const char *in_folder(const char *name)
{
    static char paths[8][700];
    static int next;
    next = (next + 1) % 8;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static void check(td_status status)
{
    if (status < 0) fail_msg("%s", td_error());
}

static void expect(td_status status, td_status expected, const char *part)
{
    if (status != expected) fail_msg("expected %s, found %s: %s", td_status_name(expected), td_status_name(status), status < 0 ? td_error() : "");
    if (!strstr(td_error(), part)) fail_msg("expected '%s' in: %s", part, td_error());
}

static void synth(const char *name, const char *like, const char *dtype, const char *format, int layers, int divisor)
{
    td_synth_options options = {.like = like, .dtype = dtype, .format = format, .layers = layers, .scale_divisor = divisor, .seed = 7};
    check(td_synth(in_folder(name), &options));
}

static void convert(const char *from, const char *to, const char *quant)
{
    td_convert_options options = {.quant = quant, .threads = 2};
    unlink(in_folder(to)); /* of the family before; convert replaces nothing */
    check(td_convert(in_folder(from), in_folder(to), &options));
}

static td_checkpoint *open_checkpoint(const char *name)
{
    td_checkpoint *c = NULL;
    check(td_checkpoint_open(in_folder(name), &c));
    return c;
}

static int entries(void)
{
    DIR *d = opendir(folder);
    int count = 0;
    assert_non_null(d);
    while (readdir(d)) count++;
    closedir(d);
    return count;
}

static void same_tensors(const char *left, const char *right)
{
    td_checkpoint *a = open_checkpoint(left), *b = open_checkpoint(right);
    assert_int_equal(td_checkpoint_count(a), td_checkpoint_count(b));
    for (size_t i = 0; i < td_checkpoint_count(a); i++) {
        const td_tensor *x = td_checkpoint_at(a, i), *y = td_checkpoint_find(b, x->name);
        if (!y) fail_msg("%s has no %s", right, x->name);
        if (x->type != y->type || td_tensor_bytes(x) != td_tensor_bytes(y) || memcmp(x->data, y->data, td_tensor_bytes(x))) fail_msg("%s differs in %s", x->name, right);
    }
    td_checkpoint_close(a);
    td_checkpoint_close(b);
}

static const char *const families[] = {"step3", "qwen3-0.6b", "qwen3-30b-a3b", "llama3.1-8b", "llama3.2-1b", "deepseek-v2-lite", "deepseek-v3"};

static void every_family_there_and_back(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"bf16", "f32", "f16"};
    for (size_t f = 0; f < TD_COUNT(families); f++) {
        synth("hf", families[f], dtypes[f % 3], "safetensors", 3, 32);
        convert("hf", "x.gguf", NULL);
        convert("x.gguf", "back", NULL);
        same_tensors("hf", "back");
        convert("back", "again.gguf", NULL); /* also through what was written for the configuration */
        same_tensors("x.gguf", "again.gguf");
        td_outline *one = calloc(2, sizeof *one), *two = one + 1;
        td_checkpoint *a = open_checkpoint("hf"), *b = open_checkpoint("x.gguf");
        check(td_outline_read(a, one));
        check(td_outline_read(b, two));
        memset(one->name, 0, sizeof one->name);
        memset(two->name, 0, sizeof two->name);
        td_buffer left = {0}, right = {0};
        check(td_outline_config_json(one, "x", &left));
        check(td_outline_config_json(two, "x", &right));
        assert_string_equal(left.data, right.data);
        td_buffer_free(&left);
        td_buffer_free(&right);
        td_checkpoint_close(a);
        td_checkpoint_close(b);
        free(one);
        assert_int_equal(system("cd /; rm -rf \"$TD_TEST_FOLDER\"/hf \"$TD_TEST_FOLDER\"/back"), 0);
    }
}

/* Quantised rows are those of td_quantise_row; norms and router stay; rows that do not fit fall back. */
static void quantising(void **state)
{
    (void)state;
    synth("f32.gguf", "qwen3-30b-a3b", "f32", NULL, 2, 16); /* d_model 128: no k-quants there, d_expert 32 */
    convert("f32.gguf", "q.gguf", "q4_k");
    convert("f32.gguf", "q8.gguf", "q8_0");
    td_checkpoint *from = open_checkpoint("f32.gguf"), *to = open_checkpoint("q.gguf"), *q8 = open_checkpoint("q8.gguf");
    for (size_t i = 0; i < td_checkpoint_count(q8); i++) {
        const td_tensor *y = td_checkpoint_at(q8, i), *x = td_checkpoint_find(from, y->name), *k = td_checkpoint_find(to, y->name);
        td_name name;
        assert_true(x && k && td_name_read(TD_FAMILY_QWEN3_MOE, TD_FORMAT_GGUF, y->name, &name));
        td_slot_kind kind = td_slot_get_kind(name.slot);
        int64_t columns = x->shape[x->dims - 1], rows = td_tensor_elements(x) / columns;
        if (kind != TD_KIND_MATRIX && kind != TD_KIND_EMBED) {
            assert_int_equal(y->type, TD_F32);
            assert_memory_equal(x->data, y->data, td_tensor_bytes(x));
            continue;
        }
        assert_int_equal(y->type, TD_Q8_0);
        assert_int_equal(k->type, columns % 256 == 0 ? TD_Q4_K : TD_Q8_0);
        size_t bytes = td_dtype_row_bytes(TD_Q8_0, columns);
        uint8_t *row = malloc(bytes);
        for (int64_t r = 0; r < rows; r += TD_MAX(rows / 7, 1)) {
            td_quantise_row(TD_Q8_0, (const float *)x->data + r * columns, row, columns);
            assert_memory_equal(row, (const uint8_t *)y->data + (size_t)r * bytes, bytes);
        }
        free(row);
    }
    td_checkpoint_close(from);
    td_checkpoint_close(to);
    td_checkpoint_close(q8);
}

/* FP8 with block scales: the converted BF16 is the scaled value, rounded. */
static void fp8_is_scaled(void **state)
{
    (void)state;
    synth("fp8", "deepseek-v3", "f8_e4m3", "safetensors", 2, 32);
    convert("fp8", "fp8.gguf", NULL);
    td_checkpoint *from = open_checkpoint("fp8"), *to = open_checkpoint("fp8.gguf");
    const td_tensor *x = td_names_find(from, TD_FAMILY_DEEPSEEK, TD_SLOT_O, 1, -1), *y = td_names_find(to, TD_FAMILY_DEEPSEEK, TD_SLOT_O, 1, -1);
    assert_true(x && y && x->type == TD_F8_E4M3 && x->scale && y->type == TD_BF16);
    int64_t columns = x->shape[1];
    float *a = malloc(2 * (size_t)columns * sizeof *a), *b = a + columns;
    for (int64_t r = 0; r < x->shape[0]; r++) {
        td_tensor_row(x, r, a);
        td_tensor_row(y, r, b);
        for (int64_t i = 0; i < columns; i++) assert_true(b[i] == td_bf16_to_f32(td_f32_to_bf16(a[i])));
    }
    free(a);
    td_checkpoint_close(from);
    td_checkpoint_close(to);
}

static void tokenizers_come_along(void **state)
{
    (void)state;
    const char *source = getenv("TD_SOURCE");
    char nano[512];
    snprintf(nano, sizeof nano, "%s/models/nano", source ? source : ".");
    check(td_convert(nano, in_folder("nano.gguf"), NULL));
    convert("nano.gguf", "nano", NULL);
    td_checkpoint *c = open_checkpoint("nano"), *g = open_checkpoint("nano.gguf"), *original = NULL;
    check(td_checkpoint_open(nano, &original));
    char *one, *two;
    size_t bytes, more, count;
    check(td_checkpoint_side_file(original, "tokenizer.json", &one, &bytes));
    check(td_checkpoint_side_file(c, "tokenizer.json", &two, &more));
    assert_int_equal(bytes, more);
    assert_memory_equal(one, two, bytes);
    free(one);
    free(two);
    assert_true(td_gguf_array_count(g, "tokenizer.ggml.tokens", &count) && count == 1024);
    assert_true(td_gguf_array_count(g, "tokenizer.ggml.merges", &count) && count > 700);
    const char *text;
    int64_t id = -1;
    bool add = false;
    assert_true(td_gguf_string(g, "tokenizer.ggml.pre", &text, &bytes) && bytes == 5 && !memcmp(text, "qwen2", 5));
    assert_true(td_gguf_array_string(g, "tokenizer.ggml.tokens", 3, &text, &bytes) && bytes == 7 && !memcmp(text, "<|BOT|>", 7));
    assert_true(td_gguf_array_i64(g, "tokenizer.ggml.token_type", 3, &id) && id == 3);
    assert_true(td_gguf_array_i64(g, "tokenizer.ggml.token_type", 5, &id) && id == 4);
    assert_true(td_gguf_i64(g, "tokenizer.ggml.eos_token_id", &id) && id == 1);
    assert_true(td_gguf_i64(g, "tokenizer.ggml.eot_token_id", &id) && id == 4);
    assert_true(td_gguf_bool(g, "tokenizer.ggml.add_bos_token", &add) && add);
    assert_true(td_gguf_string(g, "tokenizer.chat_template", &text, &bytes) && bytes > 100);
    td_checkpoint_close(c);
    td_checkpoint_close(g);
    td_checkpoint_close(original);
    same_tensors("nano", "nano"); /* opens as a folder */

    synth("words.gguf", "qwen3-0.6b", "q8_0", NULL, 1, 64); /* no tokenizer.json inside: one is built, as strict JSON */
    convert("words.gguf", "words", NULL);
    c = open_checkpoint("words");
    check(td_checkpoint_side_file(c, "tokenizer.json", &one, &bytes));
    td_json j;
    td_json_begin(&j, one, bytes, "tokenizer.json");
    check(td_json_expect(&j, TD_JSON_OBJECT, "it"));
    check(td_json_skip(&j));
    check(td_json_expect(&j, TD_JSON_END, "end"));
    free(one);
    td_checkpoint_close(c);
}

static void random_rows_have_their_deviation(void **state)
{
    (void)state;
    static const td_dtype types[] = {TD_F32, TD_F16, TD_BF16, TD_Q8_0, TD_Q4_0, TD_Q4_K, TD_Q5_K, TD_Q6_K, TD_F8_E4M3};
    enum { N = 8192, ROWS = 16 };
    uint8_t *row = malloc(N * 4);
    float *values = malloc(N * sizeof *values);
    for (size_t t = 0; t < TD_COUNT(types); t++)
        for (int big = 0; big < 2; big++) {
            double s = big ? 1 : 0.002, sum = 0, square = 0;
            for (int r = 0; r < ROWS; r++) {
                td_synth_row(types[t], 1234 + (uint64_t)r, s, N, row, values);
                td_dequantise_row(types[t], row, values, N);
                for (int i = 0; i < N; i++) {
                    double v = (double)values[i] * (types[t] == TD_F8_E4M3 ? (double)td_synth_f8_scale(s) : 1);
                    sum += v;
                    square += v * v;
                }
            }
            double n = (double)N * ROWS, mean = sum / n, deviation = sqrt(square / n - mean * mean);
            /* 5 %: f16 scales of small weights are coarse; the mean within 5 standard errors and the lean of nibbles */
            if (fabs(deviation / s - 1) > 0.05 || fabs(mean) > 0.03 * s) fail_msg("%s: deviation %g of %g, mean %g", td_dtype_name(types[t]), deviation, s, mean);
        }
    free(row);
    free(values);
}

static void same_seed_same_file(void **state)
{
    (void)state;
    synth("one.gguf", "step3", "q4_k", NULL, 2, 16);
    synth("two.gguf", "step3", "q4_k", NULL, 2, 16);
    td_file one, two;
    check(td_file_map(in_folder("one.gguf"), &one));
    check(td_file_map(in_folder("two.gguf"), &two));
    assert_int_equal(one.bytes, two.bytes);
    assert_memory_equal(one.data, two.data, one.bytes);
    td_synth_options other = {.like = "step3", .dtype = "q4_k", .layers = 2, .scale_divisor = 16, .seed = 8};
    td_file_unmap(&two);
    check(td_synth(in_folder("two.gguf"), &other));
    check(td_file_map(in_folder("two.gguf"), &two));
    assert_true(one.bytes != two.bytes || memcmp(one.data, two.data, one.bytes));
    td_file_unmap(&one);
    td_file_unmap(&two);
}

static bool stop_half_way(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)user;
    return what && done * 2 < total;
}

static void wrong_options_and_cancelling(void **state)
{
    (void)state;
    int before = entries();
    td_synth_options s = {.like = "gpt-9"};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "deepseek-v2-lite");
    s = (td_synth_options){0};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "expected the name");
    s = (td_synth_options){.like = "step3", .dtype = "q4_k", .format = "safetensors"};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "for safetensors, found q4_k");
    s = (td_synth_options){.like = "step3", .dtype = "i8"};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "found i8");
    s = (td_synth_options){.like = "step3", .format = "onnx"};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "found onnx");
    s = (td_synth_options){.like = "step3", .layers = -1};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "layers");
    s = (td_synth_options){.like = "step3", .scale_divisor = 100000};
    expect(td_synth(in_folder("no"), &s), TD_E_INVALID, "divisor");
    s = (td_synth_options){.like = "llama3-8b", .layers = 1, .scale_divisor = 16, .progress = stop_half_way};
    expect(td_synth(in_folder("no.gguf"), &s), TD_E_CANCELLED, "cancelled");
    s.format = "safetensors";
    expect(td_synth(in_folder("no"), &s), TD_E_CANCELLED, "cancelled");
    expect(td_synth("/absent-folder/x.gguf", &(td_synth_options){.like = "llama3-8b", .layers = 1, .scale_divisor = 64}), TD_E_IO, "/absent-folder/x.gguf");
    assert_int_equal(entries(), before);

    synth("base.gguf", "qwen3-0.6b", "bf16", NULL, 1, 64);
    before = entries();
    td_convert_options c = {.quant = "q4_k"};
    expect(td_convert(in_folder("base.gguf"), in_folder("out"), &c), TD_E_INVALID, "for safetensors");
    c.quant = "q9";
    expect(td_convert(in_folder("base.gguf"), in_folder("out"), &c), TD_E_INVALID, "q9");
    expect(td_convert(in_folder("absent.gguf"), in_folder("out"), NULL), TD_E_NOT_FOUND, "absent.gguf");
    expect(td_convert(in_folder("base.gguf"), folder, NULL), TD_E_INVALID, "new or empty folder");
    c = (td_convert_options){.progress = stop_half_way};
    expect(td_convert(in_folder("base.gguf"), in_folder("out"), &c), TD_E_CANCELLED, "cancelled");
    assert_int_equal(entries(), before);
}

/* What is there stays as it is: another file, the model itself, and the model by another name. */
static void existing_outputs_stay(void **state)
{
    (void)state;
    synth("kept.gguf", "qwen3-0.6b", "bf16", NULL, 1, 64);
    char *data, *after, target[300];
    size_t bytes, bytes_after;
    check(td_file_read(in_folder("kept.gguf"), 1 << 24, &data, &bytes));
    snprintf(target, sizeof target, "%s", in_folder("kept.gguf"));
    assert_int_equal(symlink(target, in_folder("soft.gguf")), 0);
    assert_int_equal(link(target, in_folder("hard.gguf")), 0);
    FILE *other = fopen(in_folder("other.gguf"), "w");
    assert_non_null(other);
    fputs("precious", other);
    fclose(other);
    int before = entries();
    const char *const names[] = {"kept.gguf", "soft.gguf", "hard.gguf", "other.gguf"};
    for (size_t i = 0; i < TD_COUNT(names); i++) expect(td_convert(target, in_folder(names[i]), &(td_convert_options){.quant = "q8_0"}), TD_E_INVALID, names[i]);
    assert_int_equal(entries(), before);
    check(td_file_read(target, 1 << 24, &after, &bytes_after));
    assert_int_equal(bytes, bytes_after);
    assert_memory_equal(data, after, bytes);
    free(data);
    free(after);
    check(td_file_read(in_folder("other.gguf"), 100, &after, &bytes_after));
    assert_string_equal(after, "precious");
    free(after);
}

/* A full disk, played by a limit on the size of files. */
static void full_disk(void **state)
{
    (void)state;
    synth("full.gguf", "qwen3-0.6b", "bf16", NULL, 1, 16);
    int before = entries();
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 300000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    td_status folder_status = td_convert(in_folder("full.gguf"), in_folder("out"), NULL);
    char sentence[512];
    snprintf(sentence, sizeof sentence, "%s", td_error());
    td_status file_status = td_convert(in_folder("full.gguf"), in_folder("out.gguf"), &(td_convert_options){.quant = "q8_0"});
    td_status synth_status = td_synth(in_folder("out2.gguf"), &(td_synth_options){.like = "qwen3-0.6b", .layers = 1, .scale_divisor = 16});
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(folder_status, TD_E_IO);
    assert_int_equal(file_status, TD_E_IO);
    assert_int_equal(synth_status, TD_E_IO);
    assert_non_null(strstr(sentence, "writing stopped"));
    assert_int_equal(entries(), before);
}

/* One weight of a valid file is made NaN; other damage makes the tensor or its shape wrong. */
static void damaged_sources(void **state)
{
    (void)state;
    synth("src.gguf", "qwen3-0.6b", "f32", NULL, 1, 64);
    td_checkpoint *c = open_checkpoint("src.gguf");
    const td_tensor *t = td_names_find(c, TD_FAMILY_QWEN3, TD_SLOT_DOWN, 0, -1);
    td_file file;
    check(td_file_map(in_folder("src.gguf"), &file));
    long at = 0; /* where the tensor's third row is in the file */
    for (size_t i = 0; i + 64 < file.bytes && !at; i += 32)
        if (!memcmp(file.data + i, t->data, 64)) at = (long)(i + 2 * (size_t)t->shape[1] * 4 + 8);
    assert_true(at > 0);
    td_file_unmap(&file);
    td_checkpoint_close(c);
    FILE *f = fopen(in_folder("src.gguf"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite("\x00\x00\xC0\x7F", 1, 4, f), 4);
    fclose(f);
    int before = entries();
    expect(td_convert(in_folder("src.gguf"), in_folder("bad.gguf"), &(td_convert_options){.quant = "q8_0"}), TD_E_FORMAT, "blk.0.ffn_down.weight, row 2: expected finite weights, found NaN");
    expect(td_convert(in_folder("src.gguf"), in_folder("bad"), NULL), TD_E_FORMAT, "row 2: expected finite weights, found NaN");
    assert_int_equal(entries(), before);
}

static bool random_configuration(td_random *random, td_buffer *out)
{
    static const char *const keys[] = {"num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "head_dim", "moe_layers_enum", "rope_scaling",
                                       "kv_lora_rank", "num_experts", "n_routed_experts", "rms_norm_eps", "eos_token_id", "share_q_dim", "decoder_sparse_step", "mlp_only_layers"};
    static const char *const values[] = {"0", "-1", "1e300", "3.5", "1", "4", "null", "\"x\"", "[]", "{}", "[1,2]", "268435457", "true", "\"1,,2\"", "\"9,9999999\"", "{\"type\":\"yarn\",\"factor\":0}", "1e9"};
    static const char *const types[] = {"llama", "step3_text", "qwen3", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt2"};
    td_buffer_clear(out);
    td_buffer_format(out, "{\"model_type\":\"%s\"", types[td_random_between(random, 0, 6)]);
    for (size_t k = 0; k < TD_COUNT(keys); k++)
        if (td_random_next(random) % 8) td_buffer_format(out, ",\"%s\":%s", keys[k], td_random_next(random) % 4 ? "4" : values[td_random_between(random, 0, TD_COUNT(values) - 1)]);
    td_buffer_text(out, "}");
    return !out->failed;
}

/* transformers 5 writes num_local_experts and rope_parameters. */
static void new_spellings_of_keys(void **state)
{
    (void)state;
    static const char text[] = "{\"model_type\":\"qwen3_moe\",\"num_hidden_layers\":2,\"hidden_size\":32,\"vocab_size\":64,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"intermediate_size\":32,"
                               "\"num_local_experts\":6,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,\"rope_parameters\":{\"rope_theta\":5000.0,\"rope_type\":\"linear\",\"factor\":2.0}}";
    synth("keys", "llama3-8b", "f32", "safetensors", 1, 64);
    FILE *f = fopen(in_folder("keys/config.json"), "wb");
    assert_non_null(f);
    fwrite(text, 1, sizeof text - 1, f);
    fclose(f);
    td_checkpoint *c = open_checkpoint("keys");
    td_outline *o = malloc(sizeof *o);
    check(td_outline_read(c, o));
    assert_true(o->experts == 6 && o->rope == TD_ROPE_LINEAR && o->rope_factor == 2 && o->rope_theta == 5000 && o->head_dim == 8);
    free(o);
    td_checkpoint_close(c);
}

static void nonsense_configurations(void **state)
{
    (void)state;
    const char *text = getenv("TD_SEED");
    td_random random = {.seed = text ? strtoull(text, NULL, 0) : 5};
    print_message("seed %llu\n", (unsigned long long)random.seed);
    synth("cfg", "llama3-8b", "f32", "safetensors", 1, 64);
    td_buffer b = {0};
    td_outline *o = malloc(sizeof *o);
    int accepted = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(random_configuration(&random, &b));
        FILE *f = fopen(in_folder("cfg/config.json"), "wb");
        assert_non_null(f);
        fwrite(b.data, 1, b.bytes, f);
        fclose(f);
        td_checkpoint *c = open_checkpoint("cfg");
        td_status status = td_outline_read(c, o);
        accepted += status == TD_OK;
        if (status < 0) assert_true(strlen(td_error()) > 20);
        td_checkpoint_close(c);
        assert_true(td_convert(in_folder("cfg"), in_folder("cfg.gguf"), NULL) < 0); /* the tensors are not those of any of these */
    }
    assert_true(accepted > 0 && accepted < 900);
    free(o);
    td_buffer_free(&b);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/tandem-convert-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(folder) && !setenv("TD_TEST_FOLDER", folder, 1) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return system("rm -rf \"$TD_TEST_FOLDER\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_there_and_back), cmocka_unit_test(quantising), cmocka_unit_test(fp8_is_scaled), cmocka_unit_test(tokenizers_come_along),
        cmocka_unit_test(random_rows_have_their_deviation), cmocka_unit_test(same_seed_same_file), cmocka_unit_test(wrong_options_and_cancelling), cmocka_unit_test(full_disk), cmocka_unit_test(existing_outputs_stay),
        cmocka_unit_test(damaged_sources), cmocka_unit_test(new_spellings_of_keys), cmocka_unit_test(nonsense_configurations),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
