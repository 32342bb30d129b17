/*
 * test_checkpoint.c - both formats read as written, and every way in which a file can lie: cut off at each byte, one byte changed, sizes, counts, offsets,
 * overlaps, duplicates, split sets. Files are built here byte by byte, not by the program's own writers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/random.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "checkpoint/names.h"

static char folder[256]; /* a fresh directory for the whole program */

static const char *in_folder(const char *name)
{
    static char paths[4][700];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *name, const char *text) { write_file(in_folder(name), text, strlen(text)); }

static td_status open_status(const char *path)
{
    td_checkpoint *c = NULL;
    td_status status = td_checkpoint_open(path, &c);
    if (status == TD_OK) {
        for (size_t i = 0; i < td_checkpoint_count(c); i++) { /* every byte must be readable */
            const td_tensor *t = td_checkpoint_at(c, i);
            unsigned sum = 0;
            for (size_t b = 0; t->data && b < td_tensor_bytes(t); b++) sum += ((const uint8_t *)t->data)[b];
            assert_true(sum < UINT32_MAX);
        }
    } else {
        assert_null(c);
        assert_true(strlen(td_error()) > 10);
    }
    td_checkpoint_close(c);
    return status;
}

static void expect_error(const char *path, td_status expected, const char *part)
{
    td_status status = open_status(path);
    if (status != expected) fail_msg("%s: expected %s, found %s: %s", path, td_status_name(expected), td_status_name(status), status < 0 ? td_error() : "");
    if (part && !strstr(td_error(), part)) fail_msg("expected '%s' in: %s", part, td_error());
}

/* ---- safetensors ---- */

static void put_safetensors(const char *name, const char *header, const void *data, size_t bytes)
{
    td_buffer b = {0};
    uint64_t length = strlen(header);
    td_buffer_put(&b, &length, 8);
    td_buffer_put(&b, header, length);
    td_buffer_put(&b, data, bytes);
    write_file(in_folder(name), b.data, b.bytes);
    td_buffer_free(&b);
}

static const char good_header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                                  "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[22,30]}}";

static void safetensors_are_read(void **state)
{
    (void)state;
    uint8_t data[30];
    float values[4] = {1, -2, 0.5f, 3};
    int64_t whole = 77;
    memcpy(data, values, 16);
    memcpy(data + 16, "\x80\x3F\x00\x40\x00\xC0", 6);
    memcpy(data + 22, &whole, 8);
    put_safetensors("x.safetensors", good_header, data, sizeof data);
    td_checkpoint *c = NULL;
    assert_int_equal(td_checkpoint_open(in_folder("x.safetensors"), &c), TD_OK);
    assert_int_equal(td_checkpoint_format(c), TD_FORMAT_SAFETENSORS);
    assert_int_equal(td_checkpoint_count(c), 3);
    assert_string_equal(td_checkpoint_at(c, 0)->name, "a");
    const td_tensor *a = td_checkpoint_find(c, "a"), *b = td_checkpoint_find(c, "b.weight"), *s = td_checkpoint_find(c, "s");
    assert_true(a && b && s && !td_checkpoint_find(c, "c") && !td_checkpoint_find(c, ""));
    assert_int_equal(a->dims, 2);
    assert_memory_equal(a->data, values, 16);
    assert_int_equal(b->type, TD_BF16);
    float row[3];
    td_tensor_row(b, 0, row);
    assert_true(row[0] == 1 && row[1] == 2 && row[2] == -2);
    assert_int_equal((uintptr_t)s->data % 8, 0); /* lay at an odd place */
    assert_memory_equal(s->data, &whole, 8);
    assert_int_equal(td_tensor_elements(s), 1);
    td_checkpoint_prefetch(a, true);
    td_checkpoint_prefetch(s, false);
    assert_memory_equal(s->data, &whole, 8);
    td_checkpoint_close(c);
}

static void lying_safetensors(void **state)
{
    (void)state;
    static const struct { const char *header; const char *part; } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", "expected 2 elements of F32, found 16 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}", "ends at byte"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "rising"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-4,12]}}", "rising"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "expected"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "inside tensor a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "comes twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", "63 bits"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,2],\"data_offsets\":[0,16]}}", NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "at least 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", "whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", "an array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", "not all of them"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", "not all of them"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", "not all of them"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,32]}}", "the end of"},
        {"{\"a\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", "a string"},
        {"{\"\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "name"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "NUL"},
        {"[]", "an object"}, {"{}", NULL}, {"{\"a\":1}", "an object"}, {"{} x", "nothing behind"}, {"", "a value"},
    };
    uint8_t data[16] = {0};
    for (size_t i = 0; i < TD_COUNT(cases); i++) {
        put_safetensors("lie.safetensors", cases[i].header, data, sizeof data);
        expect_error(in_folder("lie.safetensors"), TD_E_FORMAT, cases[i].part);
    }
    uint64_t huge = UINT64_MAX;
    write_file(in_folder("lie.safetensors"), &huge, 8);
    expect_error(in_folder("lie.safetensors"), TD_E_FORMAT, "a header of at most");
    write_text("lie.safetensors", "");
    expect_error(in_folder("lie.safetensors"), TD_E_FORMAT, "0 bytes");
    expect_error(in_folder("absent.safetensors"), TD_E_NOT_FOUND, "absent.safetensors");
}

static void unusable_types_are_named(void **state)
{
    (void)state;
    uint8_t data[16] = {0};
    put_safetensors("odd.safetensors", "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"NEW\",\"shape\":[2],\"data_offsets\":[8,12]},"
                                       "\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", data, sizeof data);
    td_checkpoint *c = NULL;
    assert_int_equal(td_checkpoint_open(in_folder("odd.safetensors"), &c), TD_OK);
    assert_int_equal(td_checkpoint_count(c), 3);
    assert_null(td_checkpoint_find(c, "a"));
    const td_tensor *t = NULL;
    assert_int_equal(td_checkpoint_require(c, "b", &t), TD_E_UNSUPPORTED);
    assert_non_null(strstr(td_error(), "NEW"));
    assert_int_equal(td_checkpoint_require(c, "d", &t), TD_E_NOT_FOUND);
    assert_int_equal(td_checkpoint_require(c, "c", &t), TD_OK);
    assert_null(td_checkpoint_at(c, 0)->data);
    assert_int_equal(td_tensor_bytes(td_checkpoint_at(c, 0)), 0);
    td_checkpoint_close(c);
}

static void put_shards(const char *index)
{
    uint8_t data[16] = {0};
    mkdir(in_folder("shards"), 0777);
    put_safetensors("shards/m-1.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", data, 16);
    put_safetensors("shards/m-2.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", data, 16);
    write_text("shards/config.json", "{\"model_type\":\"llama\"}");
    write_text("shards/model.safetensors.index.json", index);
}

static void folders_with_an_index(void **state)
{
    (void)state;
    put_shards("{\"metadata\":{},\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    td_checkpoint *c = NULL;
    assert_int_equal(td_checkpoint_open(in_folder("shards"), &c), TD_OK);
    assert_int_equal(td_checkpoint_count(c), 2);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(td_checkpoint_config(c), "model_type")), "llama");
    assert_int_equal(td_family_of(c, NULL), TD_FAMILY_LLAMA);
    char *text = NULL;
    size_t bytes;
    assert_int_equal(td_checkpoint_side_file(c, "config.json", &text, &bytes), TD_OK);
    free(text);
    assert_int_equal(td_checkpoint_side_file(c, "tokenizer.json", &text, &bytes), TD_E_NOT_FOUND);
    td_checkpoint_close(c);

    put_shards("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "m-3.safetensors");
    put_shards("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"z\":\"m-2.safetensors\"}}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "tensor z is in no file");
    put_shards("{\"weight_map\":{\"a\":\"../x.safetensors\"}}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "inside the folder");
    put_shards("{\"weight\":{}}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "weight_map");
    put_shards("{\"weight_map\":{}}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "found none");
    put_shards("{\"weight_map\":[]}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "an object");
    put_shards("not json");
    expect_error(in_folder("shards"), TD_E_FORMAT, "index.json");
    unlink(in_folder("shards/model.safetensors.index.json")); /* without an index: every file */
    assert_int_equal(td_checkpoint_open(in_folder("shards"), &c), TD_OK);
    assert_int_equal(td_checkpoint_count(c), 2);
    td_checkpoint_close(c);
    write_text("shards/config.json", "{\"a\":1,}");
    expect_error(in_folder("shards"), TD_E_FORMAT, "config.json, line 1");
}

/* As the Hugging Face cache lays files out: snapshots/<commit>/name -> ../../blobs/<hash>. */
static void cache_folders_of_links(void **state)
{
    (void)state;
    put_shards("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    mkdir(in_folder("snap"), 0777);
    static const char *const names[] = {"config.json", "m-1.safetensors", "m-2.safetensors", "model.safetensors.index.json"};
    for (size_t i = 0; i < TD_COUNT(names); i++) {
        char target[300], link[300];
        snprintf(target, sizeof target, "../shards/%s", names[i]);
        snprintf(link, sizeof link, "snap/%s", names[i]);
        unlink(in_folder(link));
        assert_int_equal(symlink(target, in_folder(link)), 0);
    }
    assert_int_equal(open_status(in_folder("snap")), TD_OK);
    unlink(in_folder("loop.gguf"));
    assert_int_equal(symlink("loop.gguf", in_folder("loop.gguf")), 0);
    expect_error(in_folder("loop.gguf"), TD_E_IO, "loop.gguf");
    mkdir(in_folder("empty"), 0777);
    expect_error(in_folder("empty"), TD_E_NOT_FOUND, "found none");
    expect_error("/dev/zero", TD_E_INVALID, "a special file");
}

static void put_f8(const char *scale_header, size_t scale_bytes)
{
    td_buffer data = {0}, header = {0};
    for (int i = 0; i < 130 * 129; i++) td_buffer_put(&data, i % 2 ? "\x38" : "\xB8", 1); /* 1, -1 */
    float scales[4] = {1, 2, 3, 4};
    td_buffer_put(&data, scales, scale_bytes);
    td_buffer_format(&header, "{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[130,129],\"data_offsets\":[0,16770]},\"w_scale_inv\":{%s,\"data_offsets\":[16770,%zu]}}", scale_header, 16770 + scale_bytes);
    put_safetensors("f8.safetensors", header.data, data.data, data.bytes);
    td_buffer_free(&data);
    td_buffer_free(&header);
}

static void f8_scales_are_attached(void **state)
{
    (void)state;
    put_f8("\"dtype\":\"F32\",\"shape\":[2,2]", 16);
    td_checkpoint *c = NULL;
    assert_int_equal(td_checkpoint_open(in_folder("f8.safetensors"), &c), TD_OK);
    assert_int_equal(td_checkpoint_count(c), 1);
    const td_tensor *w = td_checkpoint_find(c, "w");
    assert_non_null(w);
    assert_non_null(w->scale);
    float row[129];
    td_tensor_row(w, 129, row);
    assert_true(row[0] == (129 * 129 % 2 ? 3.0f : -3.0f) && (row[128] == 4 || row[128] == -4));
    td_tensor_row(w, 0, row);
    assert_true(row[0] == -1 && row[1] == 1 && row[128] == -2);
    td_checkpoint_close(c);
    put_f8("\"dtype\":\"F32\",\"shape\":[4]", 16);
    expect_error(in_folder("f8.safetensors"), TD_E_FORMAT, "128x128");
    put_f8("\"dtype\":\"I32\",\"shape\":[2,2]", 16);
    expect_error(in_folder("f8.safetensors"), TD_E_UNSUPPORTED, "I32");
}

/* ---- GGUF ---- */

static void put_u32(td_buffer *b, uint32_t v) { td_buffer_put(b, &v, 4); }
static void put_u64(td_buffer *b, uint64_t v) { td_buffer_put(b, &v, 8); }
static void put_string(td_buffer *b, const char *text)
{
    put_u64(b, strlen(text));
    td_buffer_text(b, text);
}
static void put_key_u32(td_buffer *b, const char *key, uint32_t v)
{
    put_string(b, key);
    put_u32(b, 4);
    put_u32(b, v);
}
static void put_row(td_buffer *b, const char *name, uint64_t in, uint64_t out, uint32_t type, uint64_t offset)
{
    put_string(b, name);
    put_u32(b, out ? 2 : 1);
    put_u64(b, in);
    if (out) put_u64(b, out);
    put_u32(b, type);
    put_u64(b, offset);
}
static void put_head(td_buffer *b, uint32_t version, uint64_t tensors, uint64_t values)
{
    td_buffer_clear(b);
    td_buffer_put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, tensors);
    put_u64(b, values);
}
static void pad(td_buffer *b, size_t alignment)
{
    while (b->bytes % alignment) td_buffer_put(b, "", 1);
}

static void good_gguf(td_buffer *b)
{
    put_head(b, 3, 3, 7);
    put_string(b, "general.architecture");
    put_u32(b, 8);
    put_string(b, "llama");
    put_key_u32(b, "llama.block_count", 2);
    put_string(b, "f"), put_u32(b, 6), td_buffer_put(b, "\x00\x00\xC0\x3F", 4); /* 1.5 */
    put_string(b, "yes"), put_u32(b, 7), td_buffer_put(b, "\x01", 1);
    put_string(b, "words"), put_u32(b, 9), put_u32(b, 8), put_u64(b, 3), put_string(b, "one"), put_string(b, ""), put_string(b, "three");
    put_string(b, "numbers"), put_u32(b, 9), put_u32(b, 5), put_u64(b, 2), put_u32(b, 7), put_u32(b, (uint32_t)-3);
    put_string(b, "nested"), put_u32(b, 9), put_u32(b, 9), put_u64(b, 1), put_u32(b, 0), put_u64(b, 2), td_buffer_put(b, "ab", 2);
    put_row(b, "token_embd.weight", 2, 3, 0, 0);
    put_row(b, "q", 32, 2, 8, 32);
    put_row(b, "odd", 256, 0, 11, 128);
    pad(b, 32);
    float values[6] = {1, 2, 3, 4, 5, 6};
    td_buffer_put(b, values, 24);
    pad(b, 32);
    for (int i = 0; i < 68; i++) td_buffer_put(b, "\x02", 1);
    pad(b, 32);
    for (int i = 0; i < 110; i++) td_buffer_put(b, "\x03", 1);
}

static void gguf_is_read(void **state)
{
    (void)state;
    td_buffer b = {0};
    good_gguf(&b);
    write_file(in_folder("good.gguf"), b.data, b.bytes);
    td_buffer_free(&b);
    td_checkpoint *c = NULL;
    assert_int_equal(td_checkpoint_open(in_folder("good.gguf"), &c), TD_OK);
    assert_int_equal(td_family_of(c, NULL), TD_FAMILY_LLAMA);
    int64_t whole = 0;
    double real = 0;
    bool yes = false;
    const char *text;
    size_t bytes;
    assert_true(td_gguf_i64(c, "llama.block_count", &whole) && whole == 2);
    assert_true(td_gguf_f64(c, "llama.block_count", &real) && real == 2);
    assert_true(td_gguf_f64(c, "f", &real) && real == 1.5);
    assert_false(td_gguf_i64(c, "f", &whole));
    assert_false(td_gguf_i64(c, "absent", &whole));
    assert_true(td_gguf_bool(c, "yes", &yes) && yes);
    assert_true(td_gguf_array_count(c, "words", &bytes) && bytes == 3);
    assert_true(td_gguf_array_string(c, "words", 2, &text, &bytes) && bytes == 5 && !memcmp(text, "three", 5));
    assert_true(td_gguf_array_string(c, "words", 1, &text, &bytes) && bytes == 0);
    assert_false(td_gguf_array_string(c, "words", 3, &text, &bytes));
    assert_false(td_gguf_array_i64(c, "words", 0, &whole));
    assert_true(td_gguf_array_i64(c, "numbers", 1, &whole) && whole == -3);
    assert_true(td_gguf_array_f64(c, "numbers", 0, &real) && real == 7);
    assert_false(td_gguf_array_i64(c, "nested", 0, &whole));
    const td_tensor *t = td_checkpoint_find(c, "token_embd.weight");
    assert_non_null(t);
    assert_true(t->dims == 2 && t->shape[0] == 3 && t->shape[1] == 2); /* outermost first */
    assert_true(((const float *)t->data)[5] == 6);
    assert_ptr_equal(td_names_find(c, TD_FAMILY_LLAMA, TD_SLOT_EMBED, 0, 0), t);
    assert_int_equal(td_checkpoint_find(c, "q")->type, TD_Q8_0);
    assert_int_equal(td_checkpoint_require(c, "odd", &t), TD_E_UNSUPPORTED);
    assert_non_null(strstr(td_error(), "q3_K (11)"));
    td_checkpoint_close(c);
}

static void lying_gguf(void **state)
{
    (void)state;
    td_buffer b = {0};
    const char *path = in_folder("lie.gguf");
#define BAD(code, part) (pad(&b, 32), td_buffer_put(&b, (uint8_t[64]){0}, 64), write_file(path, b.data, b.bytes), expect_error(path, code, part))
    put_head(&b, 1, 0, 0), BAD(TD_E_UNSUPPORTED, "version 2 or 3, found 1");
    put_head(&b, 0x03000000, 0, 0), BAD(TD_E_UNSUPPORTED, "big-endian");
    put_head(&b, 3, UINT64_MAX, 0), BAD(TD_E_FORMAT, "the tensor table");
    put_head(&b, 3, 0, UINT64_MAX), BAD(TD_E_FORMAT, "the metadata");
    put_head(&b, 3, 0, UINT64_MAX / 13 + 2), BAD(TD_E_FORMAT, "the metadata");
    put_head(&b, 3, 0, 0), BAD(TD_E_FORMAT, "expected tensors, found none");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 4, 0, 0, 8), BAD(TD_E_FORMAT, "multiple of 32");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 4, 0, 0, 1 << 20), BAD(TD_E_FORMAT, "expected 16 bytes of data at byte");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 4, 0, 0, UINT64_MAX - 31), BAD(TD_E_FORMAT, "data at byte");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 1ull << 40, 1ull << 40, 0, 0), BAD(TD_E_FORMAT, "60 bits");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 1ull << 59, 0, 0, 0), BAD(TD_E_FORMAT, "of data");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 0, 0, 0, 0), BAD(TD_E_FORMAT, "above 0");
    put_head(&b, 3, 1, 0), put_row(&b, "a", 33, 0, 8, 0), BAD(TD_E_FORMAT, "multiple of 32 elements for type q8_0");
    put_head(&b, 3, 2, 0), put_row(&b, "a", 9, 0, 0, 0), put_row(&b, "b", 4, 0, 0, 32), BAD(TD_E_FORMAT, "inside tensor a");
    put_head(&b, 3, 2, 0), put_row(&b, "a", 4, 0, 0, 0), put_row(&b, "a", 4, 0, 0, 32), BAD(TD_E_FORMAT, "comes twice");
    put_head(&b, 3, 1, 2), put_key_u32(&b, "k", 1), put_key_u32(&b, "k", 2), put_row(&b, "a", 4, 0, 0, 0), BAD(TD_E_FORMAT, "key k comes twice");
    put_head(&b, 3, 1, 1), put_key_u32(&b, "general.alignment", 24), put_row(&b, "a", 4, 0, 0, 0), BAD(TD_E_FORMAT, "power of two");
    put_head(&b, 3, 1, 1), put_key_u32(&b, "general.alignment", 0), put_row(&b, "a", 4, 0, 0, 0), BAD(TD_E_FORMAT, "power of two");
    put_head(&b, 3, 1, 1), put_string(&b, "k"), put_u32(&b, 13), put_u32(&b, 0), BAD(TD_E_FORMAT, "value type from 0 to 12 for key k, found 13");
    put_head(&b, 3, 1, 1), put_string(&b, "k"), put_u32(&b, 9), put_u32(&b, 8), put_u64(&b, 1ull << 61), BAD(TD_E_FORMAT, "key k");
    put_head(&b, 3, 1, 1), put_string(&b, "k"), put_u32(&b, 9), put_u32(&b, 10), put_u64(&b, 1ull << 61), BAD(TD_E_FORMAT, "key k");
    put_head(&b, 3, 1, 1), put_string(&b, "k"), put_u32(&b, 8), put_u64(&b, UINT64_MAX), BAD(TD_E_FORMAT, "key k");
    put_head(&b, 3, 1, 1), put_string(&b, "k"), put_u32(&b, 9);
    for (int i = 0; i < 6; i++) put_u32(&b, 9), put_u64(&b, 1);
    BAD(TD_E_FORMAT, "nested arrays");
    put_head(&b, 3, 1, 0), put_string(&b, "a"), put_u32(&b, 5), BAD(TD_E_FORMAT, "1 to 4 dimensions, found 5");
    put_head(&b, 3, 1, 0), put_string(&b, "a"), put_u32(&b, 0), BAD(TD_E_FORMAT, "1 to 4 dimensions, found 0");
    put_head(&b, 3, 1, 0), put_string(&b, ""), put_u32(&b, 1), BAD(TD_E_FORMAT, "a tensor's name");
    write_text("lie.gguf", "");
    expect_error(path, TD_E_FORMAT, "an empty file");
    write_text("lie.gguf", "PK\x03\x04 something else entirely");
    expect_error(path, TD_E_FORMAT, "other bytes");
    td_buffer_free(&b);
}

static void put_split(int number, int count, int says_number, int says_count, int all)
{
    td_buffer b = {0};
    char name[64];
    put_head(&b, 3, 1, 3);
    put_key_u32(&b, "split.no", (uint32_t)says_number);
    put_key_u32(&b, "split.count", (uint32_t)says_count);
    put_key_u32(&b, "split.tensors.count", (uint32_t)all);
    snprintf(name, sizeof name, "t%d", number);
    put_row(&b, name, 4, 0, 0, 0);
    pad(&b, 32);
    td_buffer_put(&b, (uint8_t[16]){0}, 16);
    snprintf(name, sizeof name, "s-%05d-of-%05d.gguf", number, count);
    write_file(in_folder(name), b.data, b.bytes);
    td_buffer_free(&b);
}

static void split_sets(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) put_split(i, 3, i - 1, 3, 3);
    td_checkpoint *c = NULL;
    for (int i = 1; i <= 3; i++) { /* any of the files is enough */
        char name[64];
        snprintf(name, sizeof name, "s-%05d-of-%05d.gguf", i, 3);
        assert_int_equal(td_checkpoint_open(in_folder(name), &c), TD_OK);
        assert_int_equal(td_checkpoint_count(c), 3);
        td_checkpoint_close(c);
    }
    const char *first = in_folder("s-00001-of-00003.gguf");
    put_split(2, 3, 0, 3, 3); /* a copy of the first: cyclic */
    expect_error(first, TD_E_FORMAT, "expected split 1 of 3, found split.no 0");
    put_split(2, 3, 1, 4, 3);
    expect_error(first, TD_E_FORMAT, "split.count 4");
    put_split(2, 3, 1, 3, 3);
    put_split(1, 3, 0, 3, 7);
    put_split(3, 3, 2, 3, 7);
    expect_error(first, TD_E_FORMAT, NULL);
    put_split(3, 3, 2, 3, 3);
    unlink(in_folder("s-00002-of-00003.gguf"));
    expect_error(first, TD_E_FORMAT, "s-00002-of-00003.gguf");
    put_split(1, 3, 0, 3, 3);
    rename(first, in_folder("renamed.gguf"));
    expect_error(in_folder("renamed.gguf"), TD_E_FORMAT, "split 1 of 3");
}

/* ---- damage ---- */

static uint64_t seed_of(void)
{
    const char *text = getenv("TD_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 20260729;
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static void damage(const char *name, const uint8_t *good, size_t bytes, size_t header)
{
    const char *path = in_folder(name);
    uint8_t *copy = malloc(bytes);
    assert_non_null(copy);
    for (size_t cut = 0; cut < bytes; cut += cut < header + 16 ? 1 : 13) {
        write_file(path, good, cut);
        if (open_status(path) == TD_OK) fail_msg("%s cut to %zu of %zu bytes was accepted", name, cut, bytes);
    }
    td_random random = {.seed = seed_of()};
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, good, bytes);
        for (int64_t k = td_random_between(&random, 1, 3); k > 0; k--) {
            size_t at = (size_t)td_random_between(&random, 0, (int64_t)header - 1);
            copy[at] = td_random_next(&random) % 4 ? (uint8_t)td_random_next(&random) : (uint8_t)(copy[at] ^ 1u << td_random_next(&random) % 8);
        }
        write_file(path, copy, bytes);
        open_status(path); /* an error or not: it returns, with a sentence */
    }
    free(copy);
}

static void damaged_files(void **state)
{
    (void)state;
    td_log_level(TD_LOG_ERROR);
    td_buffer b = {0};
    good_gguf(&b);
    damage("damaged.gguf", (const uint8_t *)b.data, b.bytes, b.bytes - 110 - 96 - 32);
    td_buffer_clear(&b);
    uint64_t length = strlen(good_header);
    td_buffer_put(&b, &length, 8);
    td_buffer_text(&b, good_header);
    td_buffer_put(&b, (uint8_t[30]){0}, 30);
    damage("damaged.safetensors", (const uint8_t *)b.data, b.bytes, b.bytes - 30);
    td_buffer_free(&b);
    td_log_level(TD_LOG_WARN);
}

/* ---- names and layout ---- */

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int f = TD_FAMILY_NONE + 1; f < TD_FAMILIES; f++)
        for (int format = TD_FORMAT_SAFETENSORS; format <= TD_FORMAT_GGUF; format++)
            for (int s = 0; s < TD_SLOTS; s++) {
                char name[TD_NAME_MAX], prefixed[TD_NAME_MAX + 32];
                if (!td_name_write((td_family)f, (td_format)format, (td_slot)s, 12, 34, name)) continue;
                td_name found;
                assert_true(td_name_read((td_family)f, (td_format)format, name, &found));
                assert_int_equal(found.slot, s);
                if (td_slot_per_layer((td_slot)s)) assert_int_equal(found.layer, 12);
                else assert_int_equal(found.layer, -1);
                if (format == TD_FORMAT_GGUF) continue;
                snprintf(prefixed, sizeof prefixed, "model.language_model.%s", strncmp(name, "model.", 6) ? name : name + 6);
                assert_true(td_name_read((td_family)f, (td_format)format, prefixed, &found));
                assert_int_equal(found.slot, s);
            }
    td_name n;
    assert_true(td_name_read(TD_FAMILY_QWEN3_MOE, TD_FORMAT_SAFETENSORS, "model.layers.3.mlp.experts.7.up_proj.weight", &n));
    assert_true(n.slot == TD_SLOT_EXPERT_UP && n.layer == 3 && n.expert == 7);
    assert_int_equal(td_slot_side(n.slot), 'F');
    static const char *const no[] = {"model.layers.03.mlp.up_proj.weight", "model.layers.x.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weightx", "vision_model.x", "",
                                     "model.layers.9999999.mlp.up_proj.weight"};
    for (size_t i = 0; i < TD_COUNT(no); i++) assert_false(td_name_read(TD_FAMILY_LLAMA, TD_FORMAT_SAFETENSORS, no[i], &n));
}

static void layouts_go_both_ways(void **state)
{
    (void)state;
    for (int64_t row = 0; row < 60; row++) {
        assert_int_equal(td_layout_rope_gguf_row(td_layout_rope_hf_row(row, 12), 12), row);
        assert_int_equal(td_layout_rope_hf_row(row, 12) / 12, row / 12);
    }
    assert_int_equal(td_layout_rope_hf_row(1, 12), 6); /* second of the first pair */
    enum { HEADS = 3, NOPE = 4, V = 5, RANK = 6 };
    float kv[HEADS * (NOPE + V) * RANK], k[HEADS * RANK * NOPE], v[HEADS * V * RANK], again[(NOPE + V) * RANK], scratch[RANK];
    for (size_t i = 0; i < TD_COUNT(kv); i++) kv[i] = (float)i;
    td_tensor kv_b = {.type = TD_F32, .dims = 2, .shape = {HEADS * (NOPE + V), RANK}, .data = kv};
    for (int h = 0; h < HEADS; h++) {
        td_layout_k_b(&kv_b, h, NOPE, V, scratch, k + h * RANK * NOPE);
        td_layout_v_b(&kv_b, h, NOPE, V, v + h * V * RANK);
    }
    assert_true(k[1 * RANK * NOPE + 2 * NOPE + 3] == kv[(1 * (NOPE + V) + 3) * RANK + 2]);
    td_tensor k_b = {.type = TD_F32, .dims = 3, .shape = {HEADS, RANK, NOPE}, .data = k}, v_b = {.type = TD_F32, .dims = 3, .shape = {HEADS, V, RANK}, .data = v};
    for (int h = 0; h < HEADS; h++) {
        td_layout_kv_b(&k_b, &v_b, h, scratch, again);
        assert_memory_equal(again, kv + h * (NOPE + V) * RANK, sizeof again);
    }
}

static void experts_however_stored(void **state)
{
    (void)state;
    float values[2 * 6 * 2];
    for (size_t i = 0; i < TD_COUNT(values); i++) values[i] = (float)i;
    put_safetensors("joined.safetensors", "{\"model.layers.0.mlp.experts.gate_up_proj\":{\"dtype\":\"F32\",\"shape\":[2,6,2],\"data_offsets\":[0,96]}}", values, sizeof values);
    td_checkpoint *c = NULL;
    td_tensor m;
    assert_int_equal(td_checkpoint_open(in_folder("joined.safetensors"), &c), TD_OK);
    assert_int_equal(td_names_expert(c, TD_FAMILY_QWEN3_MOE, TD_SLOT_EXPERT_UP, 0, 1, &m), TD_OK);
    assert_true(m.dims == 2 && m.shape[0] == 3 && m.shape[1] == 2 && ((const float *)m.data)[0] == 18);
    assert_int_equal(td_names_expert(c, TD_FAMILY_QWEN3_MOE, TD_SLOT_EXPERT_GATE, 0, 1, &m), TD_OK);
    assert_true(((const float *)m.data)[0] == 12);
    assert_int_equal(td_names_expert(c, TD_FAMILY_QWEN3_MOE, TD_SLOT_EXPERT_GATE, 0, 2, &m), TD_E_FORMAT);
    assert_int_equal(td_names_expert(c, TD_FAMILY_QWEN3_MOE, TD_SLOT_EXPERT_DOWN, 0, 0, &m), TD_E_NOT_FOUND);
    assert_non_null(strstr(td_error(), "experts.0.down_proj.weight is missing"));
    td_checkpoint_close(c);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/tandem-checkpoint-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_are_read), cmocka_unit_test(lying_safetensors), cmocka_unit_test(unusable_types_are_named), cmocka_unit_test(folders_with_an_index),
        cmocka_unit_test(cache_folders_of_links), cmocka_unit_test(f8_scales_are_attached), cmocka_unit_test(gguf_is_read), cmocka_unit_test(lying_gguf),
        cmocka_unit_test(split_sets), cmocka_unit_test(damaged_files), cmocka_unit_test(names_go_both_ways), cmocka_unit_test(layouts_go_both_ways), cmocka_unit_test(experts_however_stored),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
