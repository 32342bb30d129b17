/* vocabulary.c - a vocabulary written as GGUF keys or as tokenizer.json, the pre-tokenisers of the known families, and the made-up vocabulary of synth. */
#include "checkpoint/vocabulary.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* ---- GGUF ---- */

static void put_id(td_gguf_keys *keys, const char *name, int64_t id)
{
    if (id >= 0) td_gguf_put_u32(keys, name, id);
}

void td_vocabulary_gguf_keys(const td_vocabulary *v, td_gguf_keys *keys)
{
    td_gguf_put_string(keys, "tokenizer.ggml.model", v->sentencepiece ? "llama" : "gpt2", v->sentencepiece ? 5 : 4);
    td_gguf_put_string(keys, "tokenizer.ggml.pre", v->pre, strlen(v->pre));
    td_gguf_put_array(keys, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)v->count);
    for (int64_t i = 0; i < v->count; i++) td_gguf_put_element_string(keys, v->words[i].text.text, v->words[i].text.bytes);
    td_gguf_put_array(keys, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)v->count);
    for (int64_t i = 0; i < v->count; i++) td_gguf_put_element_i32(keys, v->words[i].type);
    if (v->sentencepiece) {
        td_gguf_put_array(keys, "tokenizer.ggml.scores", GGUF_F32, (uint64_t)v->count);
        for (int64_t i = 0; i < v->count; i++) td_gguf_put_element_f32(keys, v->words[i].score);
    } else {
        td_gguf_put_array(keys, "tokenizer.ggml.merges", GGUF_STRING, v->merges_count);
        for (size_t i = 0; i < v->merges_count; i++) td_gguf_put_element_string(keys, v->merges[i].text, v->merges[i].bytes);
    }
    put_id(keys, "tokenizer.ggml.bos_token_id", v->bos);
    put_id(keys, "tokenizer.ggml.eos_token_id", v->eos);
    put_id(keys, "tokenizer.ggml.eot_token_id", v->eot);
    put_id(keys, "tokenizer.ggml.padding_token_id", v->pad);
    td_gguf_put_bool(keys, "tokenizer.ggml.add_bos_token", v->add_bos);
    if (v->chat_template.text) td_gguf_put_string(keys, "tokenizer.chat_template", v->chat_template.text, v->chat_template.bytes);
    if (v->json.text) td_gguf_put_string(keys, "tokenizer.huggingface.json", v->json.text, v->json.bytes);
}

/* ---- tokenizer.json ---- */

#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define SEQUENCE(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "," BYTES "]}"
#define TAIL "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static const struct { const char *pre, *json; bool nfc; } pre_tokenizers[] = {
    {"qwen2", SEQUENCE(SPLIT("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" TAIL)), true},
    {"llama-bpe", SEQUENCE(SPLIT("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}" TAIL)), false},
    {"deepseek-v3", SEQUENCE(SPLIT("\\\\p{N}{1,3}") "," SPLIT("[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+") ","
                            SPLIT("[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\\\r\\\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+")), false},
    {"gpt-2", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}", false},
};

static void put_json_text(td_buffer *b, td_span text) { td_buffer_json(b, text.text, text.bytes); }

static void put_added(td_buffer *b, const td_vocabulary *v)
{
    bool first = true;
    for (int64_t i = 0; i < v->count; i++) {
        if (v->words[i].type != TD_WORD_CONTROL && v->words[i].type != TD_WORD_USER) continue;
        td_buffer_format(b, "%s\n    {\"id\": %lld, \"content\": ", first ? "" : ",", (long long)i);
        put_json_text(b, v->words[i].text);
        td_buffer_format(b, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": %s}", v->words[i].type == TD_WORD_CONTROL ? "true" : "false");
        first = false;
    }
}

static void put_model(td_buffer *b, const td_vocabulary *v)
{
    td_buffer_format(b, "{\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false,\n"
                        "    \"ignore_merges\": %s,\n    \"vocab\": {", strcmp(v->pre, "llama-bpe") ? "false" : "true");
    bool first = true;
    for (int64_t i = 0; i < v->count; i++) {
        if (v->words[i].type != TD_WORD_NORMAL && v->words[i].type != TD_WORD_BYTE) continue;
        td_buffer_text(b, first ? "\n      " : ",\n      ");
        put_json_text(b, v->words[i].text);
        td_buffer_format(b, ": %lld", (long long)i);
        first = false;
    }
    td_buffer_text(b, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < v->merges_count; i++) {
        td_buffer_text(b, i ? ",\n      " : "\n      ");
        put_json_text(b, v->merges[i]);
    }
    td_buffer_text(b, "\n    ]\n  }");
}

td_status td_vocabulary_tokenizer_json(const td_vocabulary *v, td_buffer *b)
{
    if (v->json.text) {
        td_buffer_put(b, v->json.text, v->json.bytes);
        return td_buffer_status(b);
    }
    if (v->sentencepiece) return td_fail(TD_E_UNSUPPORTED, "tokenizer: a SentencePiece vocabulary without its tokenizer.json cannot be written as one");
    size_t which = 0;
    while (which < TD_COUNT(pre_tokenizers) && strcmp(pre_tokenizers[which].pre, v->pre)) which++;
    if (which == TD_COUNT(pre_tokenizers)) return td_fail(TD_E_UNSUPPORTED, "tokenizer: pre-tokeniser '%s' cannot be written as a tokenizer.json", v->pre);
    td_buffer_text(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    put_added(b, v);
    td_buffer_format(b, "\n  ],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": %s,\n  \"post_processor\": ", pre_tokenizers[which].nfc ? "{\"type\": \"NFC\"}" : "null", pre_tokenizers[which].json);
    if (v->add_bos && v->bos >= 0 && v->bos < v->count) {
        td_buffer_text(b, "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": ");
        put_json_text(b, v->words[v->bos].text);
        td_buffer_text(b, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {");
        put_json_text(b, v->words[v->bos].text);
        td_buffer_text(b, ": {\"id\": ");
        put_json_text(b, v->words[v->bos].text);
        td_buffer_format(b, ", \"ids\": [%lld], \"tokens\": [", (long long)v->bos);
        put_json_text(b, v->words[v->bos].text);
        td_buffer_text(b, "]}}}");
    } else {
        td_buffer_text(b, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}");
    }
    td_buffer_text(b, ",\n  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false},\n  \"model\": ");
    put_model(b, v);
    td_buffer_text(b, "\n}\n");
    return td_buffer_status(b);
}

static void put_token(td_buffer *b, const td_vocabulary *v, const char *key, int64_t id)
{
    if (id < 0 || id >= v->count) return;
    td_buffer_format(b, ",\n  \"%s\": ", key);
    put_json_text(b, v->words[id].text);
}

td_status td_vocabulary_config_json(const td_vocabulary *v, const td_outline *o, td_buffer *b)
{
    td_buffer_format(b, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"model_max_length\": %lld,\n  \"clean_up_tokenization_spaces\": false,\n  \"add_bos_token\": %s", (long long)o->context,
                     v->add_bos ? "true" : "false");
    put_token(b, v, "bos_token", v->bos);
    put_token(b, v, "eos_token", v->eos);
    put_token(b, v, "pad_token", v->pad);
    if (v->chat_template.text) {
        td_buffer_text(b, ",\n  \"chat_template\": ");
        put_json_text(b, v->chat_template);
    }
    td_buffer_text(b, "\n}\n");
    return td_buffer_status(b);
}

/* ---- made up ---- */

/* GPT-2's printable character for a byte: itself where printable, else the next free code point from 256 on. */
static uint32_t byte_character(int byte)
{
    uint32_t next = 256;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (b == byte) return printable ? (uint32_t)b : next;
        if (!printable) next++;
    }
    return next;
}

static td_status put_word(td_vocabulary *v, int64_t id, const char *text, td_word_type type)
{
    char *copy = td_arena_text(v->arena, text, strlen(text));
    if (!copy) return TD_E_MEMORY;
    v->words[id] = (td_word){.text = {copy, strlen(copy)}, .type = type};
    return TD_OK;
}

td_status td_vocabulary_made_up(const td_outline *o, td_arena *arena, td_vocabulary *out)
{
    static const char *const merges[] = {"h e", "i n", "\304\240 t", "\304\240t he", "\304\240 a", "e r", "o n", "r e", "\304\240 s", "a t", "e n", "\304\240 o", "o r", "\304\240 w", "n d", "\304\240a nd"};
    if (o->vocab < 300) return td_fail(TD_E_INVALID, "vocabulary: expected at least 300 tokens for a made-up tokenizer, found %lld", (long long)o->vocab);
    td_vocabulary v = {.arena = arena, .count = o->vocab, .pre = o->family == TD_FAMILY_LLAMA ? "llama-bpe" : o->family == TD_FAMILY_STEP3 || o->family == TD_FAMILY_DEEPSEEK ? "deepseek-v3" : "qwen2",
                       .bos = o->bos, .eos = o->eos[0], .eot = -1, .pad = -1, .merges_count = TD_COUNT(merges)};
    v.words = TD_NEW(arena, td_word, (size_t)v.count);
    v.merges = TD_NEW(arena, td_span, v.merges_count);
    if (!v.words || !v.merges) return TD_E_MEMORY;
    int64_t id = 0;
    char text[48];
    for (; id < 256; id++) {
        text[td_utf8_encode(byte_character((int)id), text)] = 0;
        TD_TRY(put_word(&v, id, text, TD_WORD_NORMAL));
    }
    for (size_t m = 0; m < TD_COUNT(merges); m++) {
        const char *space = strchr(merges[m], ' ');
        snprintf(text, sizeof text, "%.*s%s", (int)(space - merges[m]), merges[m], space + 1);
        TD_TRY(put_word(&v, id++, text, TD_WORD_NORMAL));
        v.merges[m] = (td_span){merges[m], strlen(merges[m])};
    }
    for (; id < v.count; id++) {
        snprintf(text, sizeof text, "[unused%lld]", (long long)id);
        TD_TRY(put_word(&v, id, text, TD_WORD_UNUSED));
    }
    TD_TRY(put_word(&v, v.bos, "<|begin_of_text|>", TD_WORD_CONTROL));
    TD_TRY(put_word(&v, v.eos, "<|end_of_text|>", TD_WORD_CONTROL));
    *out = v;
    return TD_OK;
}
