/* vocabulary_read.c - a vocabulary from tokenizer.json (pull reader, one pass) with tokenizer_config.json, or from GGUF keys. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "checkpoint/vocabulary.h"

/* ---- tokenizer.json ---- */

typedef struct { td_vocabulary *v; td_json j; size_t merges_room; td_buffer patterns; bool byte_fallback, bos_in_template; } reader;

static td_status keep_text(reader *r, td_span *out)
{
    char *copy = td_arena_get(r->v->arena, r->j.token_bytes + 1);
    if (!copy) return TD_E_MEMORY;
    out->bytes = td_json_text(&r->j, copy);
    out->text = copy;
    return TD_OK;
}

static td_status keep_word(reader *r, td_span text, int64_t id, td_word_type type)
{
    if (id < 0 || id >= r->v->count) return td_json_fail(&r->j, "expected token ids from 0 to %lld, as the model has, found %lld", (long long)r->v->count - 1, (long long)id);
    r->v->words[id].text = text;
    r->v->words[id].type = type;
    return TD_OK;
}

static td_status read_vocab(reader *r)
{
    TD_TRY(td_json_expect(&r->j, TD_JSON_OBJECT, "\"vocab\""));
    for (;;) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind == TD_JSON_OBJECT_END) return TD_OK;
        td_span text;
        int64_t id = 0;
        TD_TRY(keep_text(r, &text));
        TD_TRY(td_json_next(&r->j));
        TD_TRY(td_json_i64(&r->j, "a token's id", &id));
        TD_TRY(keep_word(r, text, id, TD_WORD_NORMAL));
    }
}

/* "left right", or ["left", "right"] in newer files. */
static td_status read_merge(reader *r, td_span *out)
{
    if (r->j.kind == TD_JSON_STRING) return keep_text(r, out);
    if (r->j.kind != TD_JSON_ARRAY) return td_json_fail(&r->j, "expected a merge, found %s", td_json_kind_name(r->j.kind));
    td_span part[2];
    for (int i = 0; i < 2; i++) {
        TD_TRY(td_json_expect(&r->j, TD_JSON_STRING, "a merge's part"));
        TD_TRY(keep_text(r, &part[i]));
    }
    TD_TRY(td_json_expect(&r->j, TD_JSON_ARRAY_END, "the end of a merge"));
    char *both = td_arena_get(r->v->arena, part[0].bytes + part[1].bytes + 2);
    if (!both) return TD_E_MEMORY;
    memcpy(both, part[0].text, part[0].bytes);
    both[part[0].bytes] = ' ';
    memcpy(both + part[0].bytes + 1, part[1].text, part[1].bytes);
    *out = (td_span){both, part[0].bytes + part[1].bytes + 1};
    return TD_OK;
}

static td_status read_merges(reader *r)
{
    TD_TRY(td_json_expect(&r->j, TD_JSON_ARRAY, "\"merges\""));
    for (;;) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind == TD_JSON_ARRAY_END) return TD_OK;
        if (r->v->merges_count == r->merges_room) {
            size_t room = r->merges_room ? 2 * r->merges_room : 4096;
            td_span *merges = TD_NEW(r->v->arena, td_span, room);
            if (!merges) return TD_E_MEMORY;
            if (r->v->merges_count) memcpy(merges, r->v->merges, r->v->merges_count * sizeof *merges);
            r->v->merges = merges;
            r->merges_room = room;
        }
        TD_TRY(read_merge(r, &r->v->merges[r->v->merges_count]));
        r->v->merges_count++;
    }
}

static td_status read_model(reader *r)
{
    TD_TRY(td_json_expect(&r->j, TD_JSON_OBJECT, "\"model\""));
    for (;;) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind == TD_JSON_OBJECT_END) return TD_OK;
        if (td_json_equals(&r->j, "vocab")) TD_TRY(read_vocab(r));
        else if (td_json_equals(&r->j, "merges")) TD_TRY(read_merges(r));
        else if (td_json_equals(&r->j, "type")) {
            TD_TRY(td_json_expect(&r->j, TD_JSON_STRING, "the model's type"));
            if (!td_json_equals(&r->j, "BPE")) {
                r->j.status = td_fail(TD_E_UNSUPPORTED, "%s: expected a tokenizer of type BPE, found %.*s", r->j.what, (int)TD_MIN(r->j.token_bytes, (size_t)40), r->j.token);
                return r->j.status;
            }
        } else if (td_json_equals(&r->j, "byte_fallback")) {
            TD_TRY(td_json_next(&r->j));
            r->byte_fallback = r->j.kind == TD_JSON_TRUE;
        } else TD_TRY(td_json_skip(&r->j));
    }
}

static td_status read_added(reader *r)
{
    TD_TRY(td_json_expect(&r->j, TD_JSON_ARRAY, "\"added_tokens\""));
    for (;;) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind == TD_JSON_ARRAY_END) return TD_OK;
        if (r->j.kind != TD_JSON_OBJECT) return td_json_fail(&r->j, "expected an added token, found %s", td_json_kind_name(r->j.kind));
        td_span text = {NULL, 0};
        int64_t id = -1;
        bool special = false;
        for (;;) {
            TD_TRY(td_json_next(&r->j));
            if (r->j.kind == TD_JSON_OBJECT_END) break;
            if (td_json_equals(&r->j, "id")) {
                TD_TRY(td_json_next(&r->j));
                TD_TRY(td_json_i64(&r->j, "an added token's id", &id));
            } else if (td_json_equals(&r->j, "content")) {
                TD_TRY(td_json_expect(&r->j, TD_JSON_STRING, "an added token"));
                TD_TRY(keep_text(r, &text));
            } else if (td_json_equals(&r->j, "special")) {
                TD_TRY(td_json_next(&r->j));
                special = r->j.kind == TD_JSON_TRUE;
            } else TD_TRY(td_json_skip(&r->j));
        }
        if (!text.text) return td_json_fail(&r->j, "expected an added token's content, found none");
        TD_TRY(keep_word(r, text, id, special ? TD_WORD_CONTROL : TD_WORD_USER));
    }
}

/* Collects every regular expression below pre_tokenizer, to tell the family by. */
static td_status read_patterns(reader *r)
{
    TD_TRY(td_json_next(&r->j));
    int outside = r->j.depth;
    if (r->j.kind != TD_JSON_OBJECT && r->j.kind != TD_JSON_ARRAY) return TD_OK;
    outside--;
    bool regex = false;
    while (r->j.depth > outside) {
        TD_TRY(td_json_next(&r->j));
        if (regex && r->j.kind == TD_JSON_STRING) {
            td_span text;
            TD_TRY(keep_text(r, &text));
            td_buffer_put(&r->patterns, text.text, text.bytes);
            td_buffer_text(&r->patterns, "\n");
        }
        regex = r->j.kind == TD_JSON_KEY && td_json_equals(&r->j, "Regex");
    }
    return TD_OK;
}

/* Whether TemplateProcessing puts a special token in front of a single text. */
static td_status read_template(reader *r)
{
    TD_TRY(td_json_next(&r->j));
    int outside = r->j.depth - 1;
    if (r->j.kind != TD_JSON_OBJECT && r->j.kind != TD_JSON_ARRAY) return TD_OK;
    bool single = false;
    while (r->j.depth > outside) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind != TD_JSON_KEY) continue;
        if (td_json_equals(&r->j, "single")) single = true;
        else if (single) {
            if (td_json_equals(&r->j, "SpecialToken")) r->bos_in_template = true;
            single = false;
        }
    }
    return TD_OK;
}

static td_status read_tokenizer(reader *r)
{
    TD_TRY(td_json_expect(&r->j, TD_JSON_OBJECT, "the tokenizer"));
    const char *added_from = NULL;
    td_json added = r->j;
    for (;;) {
        TD_TRY(td_json_next(&r->j));
        if (r->j.kind == TD_JSON_OBJECT_END) break;
        if (td_json_equals(&r->j, "model")) TD_TRY(read_model(r));
        else if (td_json_equals(&r->j, "pre_tokenizer")) TD_TRY(read_patterns(r));
        else if (td_json_equals(&r->j, "post_processor")) TD_TRY(read_template(r));
        else if (td_json_equals(&r->j, "added_tokens")) {
            added = r->j; /* read again at the end: the vocabulary may hold them too, as ordinary words */
            added_from = r->j.token;
            TD_TRY(td_json_skip(&r->j));
        } else TD_TRY(td_json_skip(&r->j));
    }
    TD_TRY(td_json_expect(&r->j, TD_JSON_END, "the end"));
    if (!added_from) return TD_OK;
    r->j = added;
    return read_added(r);
}

static const char *pre_name(const char *patterns)
{
    if (!patterns || !*patterns) return "gpt-2";
    bool three = strstr(patterns, "\\p{N}{1,3}") != NULL, han = strstr(patterns, "\xE4\xB8\x80-\xE9\xBE\xA5") != NULL, contractions = strstr(patterns, "(?i:'s|'t|'re|'ve|'m|'ll|'d)") != NULL;
    if (three && han) return "deepseek-v3";
    if (strstr(patterns, "\xC2\xB5\xC3\x80-")) return "deepseek-llm";
    if (three && contractions) return "llama-bpe";
    if (contractions) return "qwen2";
    return NULL;
}

/* A vocabulary of a SentencePiece model: byte tokens by name, and the rank as the score, as such models are numbered. */
static void sentencepiece_types(td_vocabulary *v)
{
    v->sentencepiece = true;
    for (int64_t i = 0; i < v->count; i++) {
        td_span t = v->words[i].text;
        v->words[i].score = v->words[i].type == TD_WORD_NORMAL ? -(float)i : 0;
        if (t.bytes == 6 && !memcmp(t.text, "<0x", 3) && t.text[5] == '>') v->words[i].type = TD_WORD_BYTE;
        else if (t.bytes == 5 && !memcmp(t.text, "<unk>", 5)) v->words[i].type = TD_WORD_UNKNOWN;
    }
}

static td_status fill_unused(td_vocabulary *v)
{
    for (int64_t i = 0; i < v->count; i++) {
        if (v->words[i].text.text) continue;
        char text[32];
        int length = snprintf(text, sizeof text, "[PAD%lld]", (long long)i);
        if (!(v->words[i].text.text = td_arena_text(v->arena, text, (size_t)length))) return TD_E_MEMORY;
        v->words[i].text.bytes = (size_t)length;
        v->words[i].type = TD_WORD_UNUSED;
    }
    return TD_OK;
}

static int64_t id_of(const td_vocabulary *v, const char *text)
{
    size_t bytes = strlen(text);
    for (int64_t i = v->count - 1; i >= 0; i--) /* special tokens are usually last */
        if (v->words[i].text.bytes == bytes && !memcmp(v->words[i].text.text, text, bytes)) return i;
    return -1;
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static int64_t named_token(const td_vocabulary *v, const cJSON *config, const char *key)
{
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(config, key);
    if (cJSON_IsObject(token)) token = cJSON_GetObjectItemCaseSensitive(token, "content");
    return cJSON_IsString(token) ? id_of(v, token->valuestring) : -1;
}

static td_status keep_template(const td_checkpoint *c, const cJSON *config, td_vocabulary *v)
{
    char *text = NULL;
    size_t bytes = 0;
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *entry;
    cJSON_ArrayForEach(entry, found) { /* a list of named ones: the default */
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "name"));
        if (name && !strcmp(name, "default")) found = cJSON_GetObjectItemCaseSensitive(entry, "template");
        if (cJSON_IsString(found)) break;
    }
    if (td_checkpoint_side_file(c, "chat_template.jinja", &text, &bytes) == TD_OK) { /* before the one in tokenizer_config.json, as the loader and transformers take it */
        v->chat_template = (td_span){td_arena_text(v->arena, text, bytes), bytes};
        free(text);
        return v->chat_template.text ? TD_OK : TD_E_MEMORY;
    }
    if (cJSON_IsString(found)) {
        v->chat_template = (td_span){td_arena_text(v->arena, found->valuestring, strlen(found->valuestring)), strlen(found->valuestring)};
        return v->chat_template.text ? TD_OK : TD_E_MEMORY;
    }
    return TD_OK;
}

static td_status read_side_config(const td_checkpoint *c, const td_outline *o, bool bos_in_template, td_vocabulary *v)
{
    char *text = NULL;
    size_t bytes = 0;
    cJSON *config = NULL;
    if (td_checkpoint_side_file(c, "tokenizer_config.json", &text, &bytes) == TD_OK && !(config = cJSON_ParseWithLength(text, bytes)))
        td_log(TD_LOG_WARN, "checkpoint", "%s/tokenizer_config.json is not JSON and is left out", td_checkpoint_path(c));
    free(text);
    v->bos = named_token(v, config, "bos_token");
    v->eos = named_token(v, config, "eos_token");
    v->pad = named_token(v, config, "pad_token");
    if (v->bos < 0) v->bos = o->bos < v->count ? o->bos : -1;
    if (v->eos < 0) v->eos = o->eos[0] < v->count ? o->eos[0] : -1;
    for (int i = 0; i < 4; i++)
        if (o->eos[i] >= 0 && o->eos[i] < v->count && o->eos[i] != v->eos && v->eot < 0) v->eot = o->eos[i];
    const cJSON *add = cJSON_GetObjectItemCaseSensitive(config, "add_bos_token");
    v->add_bos = v->bos >= 0 && (cJSON_IsBool(add) ? cJSON_IsTrue(add) : bos_in_template);
    td_status status = keep_template(c, config, v);
    cJSON_Delete(config);
    return status;
}

td_status td_vocabulary_from_folder(const td_checkpoint *c, const td_outline *o, td_arena *arena, td_vocabulary *out)
{
    char *text = NULL, what[512];
    size_t bytes = 0;
    TD_TRY(td_checkpoint_side_file(c, "tokenizer.json", &text, &bytes));
    td_vocabulary v = {.arena = arena, .count = o->vocab, .bos = -1, .eos = -1, .eot = -1, .pad = -1};
    reader r = {.v = &v};
    snprintf(what, sizeof what, "file %.460s/tokenizer.json", td_checkpoint_path(c));
    td_json_begin(&r.j, text, bytes, what);
    v.words = TD_NEW(arena, td_word, (size_t)v.count);
    td_status status = v.words ? read_tokenizer(&r) : TD_E_MEMORY;
    if (status == TD_OK && !(v.json.text = td_arena_text(arena, text, bytes))) status = TD_E_MEMORY;
    v.json.bytes = bytes;
    free(text);
    if (status == TD_OK) status = fill_unused(&v);
    if (status == TD_OK) {
        if (r.byte_fallback) sentencepiece_types(&v);
        v.pre = r.byte_fallback ? "default" : pre_name(r.patterns.data);
        if (!v.pre) {
            td_log(TD_LOG_WARN, "checkpoint", "%s: its pre-tokeniser has no GGUF name; engines that do not read tokenizer.huggingface.json may cut text differently", what);
            v.pre = "default";
        }
        status = read_side_config(c, o, r.bos_in_template, &v);
    }
    td_buffer_free(&r.patterns);
    if (status == TD_OK) *out = v;
    return status;
}

/* ---- GGUF ---- */

static int64_t id_key(const td_checkpoint *c, const char *key, int64_t count)
{
    int64_t id;
    return td_gguf_i64(c, key, &id) && id >= 0 && id < count ? id : -1;
}

td_status td_vocabulary_from_gguf(const td_checkpoint *c, const td_outline *o, td_arena *arena, td_vocabulary *out)
{
    size_t count, bytes;
    const char *text;
    if (!td_gguf_array_count(c, "tokenizer.ggml.tokens", &count)) return td_fail(TD_E_NOT_FOUND, "checkpoint %s: it holds no tokenizer", td_checkpoint_path(c));
    td_vocabulary v = {.arena = arena, .count = (int64_t)TD_MIN(count, (size_t)o->vocab), .pre = "default"};
    v.words = TD_NEW(arena, td_word, count + 1);
    if (!v.words) return TD_E_MEMORY;
    for (int64_t i = 0; i < v.count; i++) {
        td_word *w = &v.words[i];
        int64_t type = TD_WORD_NORMAL;
        double score = 0;
        if (!td_gguf_array_string(c, "tokenizer.ggml.tokens", (size_t)i, &w->text.text, &w->text.bytes))
            return td_fail(TD_E_FORMAT, "checkpoint %s: expected tokenizer.ggml.tokens to hold strings", td_checkpoint_path(c));
        td_gguf_array_i64(c, "tokenizer.ggml.token_type", (size_t)i, &type);
        td_gguf_array_f64(c, "tokenizer.ggml.scores", (size_t)i, &score);
        w->type = type >= TD_WORD_NORMAL && type <= TD_WORD_BYTE ? (td_word_type)type : TD_WORD_NORMAL;
        w->score = (float)score;
    }
    if (td_gguf_array_count(c, "tokenizer.ggml.merges", &count)) {
        if (!(v.merges = TD_NEW(arena, td_span, count))) return TD_E_MEMORY;
        for (size_t i = 0; i < count; i++)
            if (!td_gguf_array_string(c, "tokenizer.ggml.merges", i, &v.merges[i].text, &v.merges[i].bytes))
                return td_fail(TD_E_FORMAT, "checkpoint %s: expected tokenizer.ggml.merges to hold strings", td_checkpoint_path(c));
        v.merges_count = count;
    }
    v.sentencepiece = td_gguf_string(c, "tokenizer.ggml.model", &text, &bytes) && bytes == 5 && !memcmp(text, "llama", 5);
    if (td_gguf_string(c, "tokenizer.ggml.pre", &text, &bytes) && !(v.pre = td_arena_text(arena, text, bytes))) return TD_E_MEMORY;
    v.bos = id_key(c, "tokenizer.ggml.bos_token_id", v.count);
    v.eos = id_key(c, "tokenizer.ggml.eos_token_id", v.count);
    v.eot = id_key(c, "tokenizer.ggml.eot_token_id", v.count);
    v.pad = id_key(c, "tokenizer.ggml.padding_token_id", v.count);
    if (!td_gguf_bool(c, "tokenizer.ggml.add_bos_token", &v.add_bos)) v.add_bos = v.sentencepiece;
    if (td_gguf_string(c, "tokenizer.chat_template", &text, &bytes)) v.chat_template = (td_span){text, bytes};
    if (td_gguf_string(c, "tokenizer.huggingface.json", &text, &bytes)) v.json = (td_span){text, bytes};
    *out = v;
    return TD_OK;
}
