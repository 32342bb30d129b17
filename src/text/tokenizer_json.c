/*
 * tokenizer_json.c - a tokenizer from tokenizer.json (format of the Hugging Face tokenizers library) and tokenizer_config.json.
 * What would change ids and is not known here is refused by name; nothing is skipped silently.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "text/tokenizer_parts.h"

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static bool truth_of(const cJSON *object, const char *key, bool otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : otherwise;
}

static const char *type_of(const cJSON *object)
{
    const char *type = text_of(object, "type");
    return type ? type : "(no type)";
}

static bool is_type(const cJSON *object, const char *type) { return !strcmp(type_of(object), type); }

static td_status unsupported(const char *what, const char *found, const char *expected)
{
    return td_fail(TD_E_UNSUPPORTED, "tokenizer.json: %s: expected %s, found '%.80s'", what, expected, found ? found : "nothing");
}

/* {"Regex": ".."} or {"String": ".."} */
static td_status read_pattern(const cJSON *object, const char *where, td_pattern *out)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(object, "pattern");
    const char *regex = text_of(pattern, "Regex"), *text = text_of(pattern, "String");
    if (!regex && !text) return unsupported(where, "another pattern", "a pattern with Regex or String");
    td_status status = regex ? td_pattern_regex(regex, strlen(regex), out) : td_pattern_text(text, strlen(text), out);
    return status < 0 ? td_context(status, "tokenizer.json: %s", where) : TD_OK;
}

/* ---- normalizer ---- */

typedef td_status (*read_fn)(const cJSON *object, td_tokenizer *t);

/* Calls read on every member of a Sequence. */
static td_status read_sequence(const cJSON *object, const char *key, read_fn read, td_tokenizer *t)
{
    const cJSON *item, *list = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsArray(list)) return unsupported(key, "no list", "a list in a Sequence");
    cJSON_ArrayForEach(item, list) TD_TRY(read(item, t));
    return TD_OK;
}

static td_status read_normalizer(const cJSON *object, td_tokenizer *t)
{
    static const struct { const char *name; td_normal_form form; } forms[] = {{"NFC", TD_NFC}, {"NFD", TD_NFD}, {"NFKC", TD_NFKC}, {"NFKD", TD_NFKD}};
    if (!object || cJSON_IsNull(object)) return TD_OK;
    if (is_type(object, "Sequence")) return read_sequence(object, "normalizers", read_normalizer, t);
    td_normal_step *step;
    TD_TRY(td_pipeline_add_normal(&t->pipeline, &step));
    for (size_t i = 0; i < TD_COUNT(forms); i++)
        if (is_type(object, forms[i].name)) {
            step->kind = TD_STEP_FORM;
            step->form = forms[i].form;
            return TD_OK;
        }
    if (is_type(object, "Prepend")) {
        const char *text = text_of(object, "prepend");
        if (!text) return unsupported("normalizer Prepend", NULL, "a text 'prepend'");
        step->kind = TD_STEP_PREPEND;
        step->bytes = strlen(text);
        return td_text_copy(text, step->bytes, &step->text);
    }
    if (is_type(object, "Replace")) {
        const char *text = text_of(object, "content");
        if (!text) return unsupported("normalizer Replace", NULL, "a text 'content'");
        step->kind = TD_STEP_REPLACE;
        step->bytes = strlen(text);
        TD_TRY(td_text_copy(text, step->bytes, &step->text));
        return read_pattern(object, "normalizer Replace", &step->pattern);
    }
    if (is_type(object, "Strip")) {
        step->kind = TD_STEP_STRIP;
        step->left = truth_of(object, "strip_left", true);
        step->right = truth_of(object, "strip_right", true);
        return TD_OK;
    }
    if (is_type(object, "Lowercase")) {
        step->kind = TD_STEP_LOWERCASE;
        return TD_OK;
    }
    return unsupported("normalizer", type_of(object), "NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Lowercase or a Sequence of them");
}

/* ---- pre-tokenizer ---- */

static td_status read_behavior(const char *name, td_split_behavior *out)
{
    static const struct { const char *name; td_split_behavior behavior; } known[] = {{"Isolated", TD_SPLIT_ISOLATED}, {"Removed", TD_SPLIT_REMOVED},
        {"Contiguous", TD_SPLIT_CONTIGUOUS}, {"MergedWithPrevious", TD_SPLIT_WITH_PREVIOUS}, {"MergedWithNext", TD_SPLIT_WITH_NEXT}};
    for (size_t i = 0; name && i < TD_COUNT(known); i++)
        if (!strcmp(name, known[i].name)) {
            *out = known[i].behavior;
            return TD_OK;
        }
    return unsupported("pre_tokenizer behavior", name, "Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext");
}

static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static td_status add_regex_split(td_tokenizer *t, const char *pattern, td_split_behavior behavior, bool invert)
{
    td_split_step *step;
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->behavior = behavior;
    step->invert = invert;
    return td_pattern_regex(pattern, strlen(pattern), &step->pattern);
}

static td_status read_byte_level(const cJSON *object, td_tokenizer *t)
{
    td_split_step *step;
    if (truth_of(object, "add_prefix_space", true)) {
        TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
        step->kind = TD_STEP_PREFIX;
    }
    if (truth_of(object, "use_regex", true)) TD_TRY(add_regex_split(t, gpt2_pattern, TD_SPLIT_ISOLATED, false));
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->kind = TD_STEP_BYTES;
    t->pipeline.byte_level = true;
    return TD_OK;
}

static td_status read_scheme(const cJSON *object, td_prepend *out)
{
    const char *scheme = text_of(object, "prepend_scheme");
    *out = TD_PREPEND_ALWAYS;
    if (!scheme) { /* the older spelling */
        if (!truth_of(object, "add_prefix_space", true)) *out = TD_PREPEND_NEVER;
        return TD_OK;
    }
    if (!strcmp(scheme, "first")) *out = TD_PREPEND_FIRST;
    else if (!strcmp(scheme, "never")) *out = TD_PREPEND_NEVER;
    else if (strcmp(scheme, "always")) return unsupported("Metaspace prepend_scheme", scheme, "first, never or always");
    return TD_OK;
}

static td_status read_metaspace(const cJSON *object, td_tokenizer *t)
{
    td_split_step *step;
    const char *text = text_of(object, "replacement");
    if (!text) text = "\xE2\x96\x81";
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->kind = TD_STEP_METASPACE;
    TD_TRY(read_scheme(object, &step->scheme));
    step->bytes = strlen(text);
    TD_TRY(td_text_copy(text, step->bytes, &step->text));
    if (!truth_of(object, "split", true)) return TD_OK;
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->behavior = TD_SPLIT_WITH_NEXT;
    return td_pattern_text(text, strlen(text), &step->pattern);
}

static td_status read_pre_tokenizer(const cJSON *object, td_tokenizer *t)
{
    if (!object || cJSON_IsNull(object)) return TD_OK;
    if (is_type(object, "Sequence")) return read_sequence(object, "pretokenizers", read_pre_tokenizer, t);
    if (is_type(object, "ByteLevel")) return read_byte_level(object, t);
    if (is_type(object, "Metaspace")) return read_metaspace(object, t);
    /* to this one the joiners are word characters, and the digits of Latin-1 above are not */
    if (is_type(object, "Whitespace")) return add_regex_split(t, "[\\w\\u200C\\u200D]+|[^\\w\\u200C\\u200D\\s]+", TD_SPLIT_REMOVED, true);
    td_split_step *step;
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->invert = truth_of(object, "invert", false);
    if (is_type(object, "Split")) {
        TD_TRY(read_behavior(text_of(object, "behavior"), &step->behavior));
        return read_pattern(object, "pre_tokenizer Split", &step->pattern);
    }
    if (is_type(object, "Digits")) {
        step->pattern.kind = TD_PATTERN_DIGIT;
        step->behavior = truth_of(object, "individual_digits", false) ? TD_SPLIT_ISOLATED : TD_SPLIT_CONTIGUOUS;
        return TD_OK;
    }
    if (is_type(object, "WhitespaceSplit")) {
        step->pattern.kind = TD_PATTERN_SPACE;
        step->behavior = TD_SPLIT_REMOVED;
        return TD_OK;
    }
    if (is_type(object, "Punctuation")) {
        const char *behavior = text_of(object, "behavior");
        step->pattern.kind = TD_PATTERN_PUNCTUATION;
        return read_behavior(behavior ? behavior : "Isolated", &step->behavior);
    }
    return unsupported("pre_tokenizer", type_of(object), "ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit, Punctuation or a Sequence of them");
}

/* ---- model ---- */

/* The text of a key or string of the reader: in place, or unescaped into room. */
static const char *token_text(const td_json *j, td_buffer *room, size_t *bytes)
{
    if (!j->escaped) {
        *bytes = j->token_bytes;
        return j->token;
    }
    td_buffer_clear(room);
    td_buffer_put(room, j->token, j->token_bytes); /* room enough: unescaping never grows */
    if (room->failed) return NULL;
    *bytes = td_json_text(j, room->data);
    return room->data;
}

static td_status read_vocab(td_json *j, td_bpe *bpe, td_buffer *room)
{
    TD_TRY(td_json_expect(j, TD_JSON_OBJECT, "model.vocab"));
    for (;;) {
        int64_t id;
        size_t bytes;
        TD_TRY(td_json_next(j));
        if (j->kind == TD_JSON_OBJECT_END) return bpe->vocab.count ? TD_OK : td_fail(TD_E_FORMAT, "tokenizer.json: model.vocab: expected an object of tokens, found no token");
        const char *text = token_text(j, room, &bytes);
        if (!text) return td_buffer_status(room);
        TD_TRY(td_json_expect(j, TD_JSON_NUMBER, "an id in model.vocab"));
        TD_TRY(td_json_i64(j, "an id in model.vocab", &id));
        TD_TRY(td_vocab_add(&bpe->vocab, id, text, bytes));
    }
}

static td_status add_merge(td_bpe *bpe, const char *left, size_t left_bytes, const char *right, size_t right_bytes, uint32_t rank)
{
    char joined[2 * TD_TOKEN_BYTES_MAX];
    if (left_bytes > TD_TOKEN_BYTES_MAX || right_bytes > TD_TOKEN_BYTES_MAX) return td_fail(TD_E_FORMAT, "tokenizer.json: model.merges[%u]: longer than %d bytes", rank, TD_TOKEN_BYTES_MAX);
    memcpy(joined, left, left_bytes);
    memcpy(joined + left_bytes, right, right_bytes);
    int32_t a = td_vocab_find(&bpe->vocab, left, left_bytes), b = td_vocab_find(&bpe->vocab, right, right_bytes);
    int32_t id = td_vocab_find(&bpe->vocab, joined, left_bytes + right_bytes);
    if (a < 0 || b < 0 || id < 0) {
        const char *missing = a < 0 ? left : b < 0 ? right : joined;
        size_t bytes = a < 0 ? left_bytes : b < 0 ? right_bytes : left_bytes + right_bytes;
        return td_fail(TD_E_FORMAT, "tokenizer.json: model.merges[%u]: expected its tokens in the vocabulary, found no '%.*s'", rank, (int)TD_MIN(bytes, 80), missing);
    }
    return td_merges_add(&bpe->merges, a, b, rank, id);
}

/* "left right" */
static td_status read_joined_merge(td_json *j, td_bpe *bpe, td_buffer *room, uint32_t rank)
{
    size_t bytes;
    const char *text = token_text(j, room, &bytes);
    if (!text) return td_buffer_status(room);
    const char *space = bytes ? memchr(text, ' ', bytes) : NULL;
    size_t left = space ? (size_t)(space - text) : 0, right = bytes - left - 1;
    if (!space || (right && memchr(space + 1, ' ', right))) return td_json_fail(j, "model.merges[%u]: expected two tokens with one space between, found '%.*s'", rank, (int)TD_MIN(bytes, 80), text);
    return add_merge(bpe, text, left, space + 1, right, rank);
}

/* ["left", "right"], whose bracket is read. */
static td_status read_paired_merge(td_json *j, td_bpe *bpe, td_buffer *room, td_buffer *other, uint32_t rank)
{
    size_t left_bytes = 0, right_bytes = 0;
    TD_TRY(td_json_expect(j, TD_JSON_STRING, "the left token of a pair in model.merges"));
    const char *left = token_text(j, room, &left_bytes);
    TD_TRY(td_json_expect(j, TD_JSON_STRING, "the right token of a pair in model.merges"));
    const char *right = token_text(j, other, &right_bytes);
    if (!left || !right) return td_fail(TD_E_MEMORY, "tokenizer: no memory");
    TD_TRY(td_json_expect(j, TD_JSON_ARRAY_END, "the end of a pair in model.merges"));
    return add_merge(bpe, left, left_bytes, right, right_bytes, rank);
}

static td_status read_merges(td_json *j, td_bpe *bpe, td_buffer *room)
{
    td_buffer other = {0};
    TD_TRY(td_json_expect(j, TD_JSON_ARRAY, "model.merges"));
    TD_TRY(td_merges_reserve(&bpe->merges, (size_t)bpe->vocab.count));
    td_status status = TD_OK;
    for (uint32_t rank = 0; status == TD_OK; rank++) {
        if ((status = td_json_next(j)) < 0 || j->kind == TD_JSON_ARRAY_END) break;
        if (j->kind == TD_JSON_STRING) status = read_joined_merge(j, bpe, room, rank);
        else if (j->kind == TD_JSON_ARRAY) status = read_paired_merge(j, bpe, room, &other, rank);
        else status = td_json_fail(j, "model.merges[%u]: expected a pair of tokens, found %s", rank, td_json_kind_name(j->kind));
    }
    td_buffer_free(&other);
    return status;
}

static td_status read_model(const cJSON *root, td_tokenizer *t)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    if (!cJSON_IsObject(model)) return td_fail(TD_E_FORMAT, "tokenizer.json: expected an object 'model'");
    if (!is_type(model, "BPE")) return unsupported("model.type", type_of(model), "BPE");
    const char *prefix = text_of(model, "continuing_subword_prefix"), *suffix = text_of(model, "end_of_word_suffix");
    if (prefix && *prefix) return unsupported("model.continuing_subword_prefix", prefix, "none");
    if (suffix && *suffix) return unsupported("model.end_of_word_suffix", suffix, "none");
    const cJSON *dropout = cJSON_GetObjectItemCaseSensitive(model, "dropout");
    if (cJSON_IsNumber(dropout) && dropout->valuedouble > 0) return unsupported("model.dropout", "a chance", "none: the same text must give the same ids");
    td_bpe *bpe = &t->bpe;
    bpe->ignore_merges = truth_of(model, "ignore_merges", false);
    bpe->byte_fallback = truth_of(model, "byte_fallback", false);
    bpe->fuse_unknown = truth_of(model, "fuse_unk", false);
    const char *unknown = text_of(model, "unk_token");
    bpe->unknown = unknown ? td_vocab_find(&bpe->vocab, unknown, strlen(unknown)) : -1;
    return TD_OK;
}

/* ---- added tokens ---- */

static td_status read_added(const cJSON *item, td_tokenizer *t, td_pipeline_scratch *scratch)
{
    const char *text = text_of(item, "content");
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(item, "id");
    if (!text || !cJSON_IsNumber(number)) return td_fail(TD_E_FORMAT, "tokenizer.json: added_tokens: expected members id and content");
    size_t bytes = strlen(text);
    if (bytes == 0) return TD_OK;
    td_added token = {.special = truth_of(item, "special", false), .single_word = truth_of(item, "single_word", false), .lstrip = truth_of(item, "lstrip", false), .rstrip = truth_of(item, "rstrip", false)};
    token.normalized = truth_of(item, "normalized", !token.special);
    token.id = td_tokenizer_find(t, text, bytes); /* a text that the model has keeps the model's id */
    if (token.id < 0) {
        if (!(number->valuedouble >= 0 && number->valuedouble < TD_VOCAB_IDS_MAX)) return td_fail(TD_E_FORMAT, "tokenizer.json: added token '%.40s': expected an id from 0 to %d", text, TD_VOCAB_IDS_MAX - 1);
        token.id = (int32_t)number->valuedouble;
        TD_TRY(td_vocab_add(&t->names, token.id, text, bytes));
    }
    TD_TRY(td_tokenizer_flag(t, token.id, token.special ? TD_TOKEN_SPECIAL : 0));
    if (!token.normalized) return td_added_put(&t->raw, text, bytes, token);
    const char *normal;
    TD_TRY(td_pipeline_normalize(&t->pipeline, scratch, text, bytes, &normal, &bytes));
    return td_added_put(&t->normalized, normal, bytes, token);
}

static td_status read_added_tokens(const cJSON *root, td_tokenizer *t)
{
    const cJSON *item, *list = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    if (list && !cJSON_IsNull(list) && !cJSON_IsArray(list)) return td_fail(TD_E_FORMAT, "tokenizer.json: added_tokens: expected a list, found something else");
    td_pipeline_scratch scratch;
    td_status status = td_pipeline_scratch_open(&scratch);
    cJSON_ArrayForEach(item, list) if (status == TD_OK) status = read_added(item, t, &scratch);
    td_pipeline_scratch_close(&scratch);
    return status;
}

/* ---- decoder ---- */

typedef struct { td_decode_rules rules; bool known; } decoder;

static td_status add_replace(td_decode_rules *rules, const char *from, const char *to)
{
    if (!from || !*from || !to || rules->replace_count == (int)TD_COUNT(rules->replace)) return unsupported("decoder Replace", "another pattern", "at most 4 replacements of a String");
    rules->replace[rules->replace_count].from = from;
    rules->replace[rules->replace_count].from_bytes = strlen(from);
    rules->replace[rules->replace_count].to = to;
    rules->replace[rules->replace_count++].to_bytes = strlen(to);
    return TD_OK;
}

static td_status read_strip(const cJSON *object, td_tokenizer *t)
{
    const char *content = text_of(object, "content");
    const cJSON *start = cJSON_GetObjectItemCaseSensitive(object, "start"), *stop = cJSON_GetObjectItemCaseSensitive(object, "stop");
    if (!content || strcmp(content, " ") || !cJSON_IsNumber(start) || start->valuedouble > 1 || !cJSON_IsNumber(stop) || stop->valuedouble > 0)
        return unsupported("decoder Strip", "another rule", "at most one space at the start");
    if (start->valuedouble == 1) t->start_rule = TD_START_ONE_SPACE;
    return TD_OK;
}

static td_status read_decoder(const cJSON *object, td_tokenizer *t, td_decode_rules *rules, int depth)
{
    if (!object || cJSON_IsNull(object)) {
        t->join_with_space = true;
        return TD_OK;
    }
    if (is_type(object, "Sequence") && depth < 4) {
        const cJSON *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(object, "decoders")) TD_TRY(read_decoder(item, t, rules, depth + 1));
        return TD_OK;
    }
    if (is_type(object, "Fuse")) return TD_OK;
    if (is_type(object, "ByteLevel")) {
        rules->byte_level = true;
        return TD_OK;
    }
    if (is_type(object, "ByteFallback")) {
        rules->byte_tokens = t->lossy_bytes = true;
        return TD_OK;
    }
    if (is_type(object, "Replace")) return add_replace(rules, text_of(cJSON_GetObjectItemCaseSensitive(object, "pattern"), "String"), text_of(object, "content"));
    if (is_type(object, "Strip")) return read_strip(object, t);
    if (is_type(object, "Metaspace")) {
        td_prepend scheme;
        const char *from = text_of(object, "replacement");
        TD_TRY(read_scheme(object, &scheme));
        if (scheme != TD_PREPEND_NEVER) t->start_rule = TD_START_NO_MARKS;
        rules->mark = rules->replace_count;
        return add_replace(rules, from ? from : "\xE2\x96\x81", " ");
    }
    return unsupported("decoder", type_of(object), "ByteLevel, ByteFallback, Metaspace, Replace, Strip, Fuse or a Sequence of them");
}

/* ---- beginning and end of text ---- */

static td_status add_prefix(td_tokenizer *t, int32_t id)
{
    int32_t *grown = realloc(t->prefix, ((size_t)t->prefix_count + 1) * sizeof *grown);
    if (!grown) return td_fail(TD_E_MEMORY, "tokenizer: no memory");
    t->prefix = grown;
    t->prefix[t->prefix_count++] = id;
    return TD_OK;
}

/* Special tokens that a template puts in front of the sequence. */
static td_status read_template(const cJSON *object, td_tokenizer *t)
{
    const cJSON *item;
    bool behind = false;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(object, "single")) {
        const char *name = text_of(cJSON_GetObjectItemCaseSensitive(item, "SpecialToken"), "id");
        if (name && behind) td_log(TD_LOG_WARN, "text", "tokenizer.json: post_processor: '%.40s' behind the text is left out: a prompt is to be continued, not ended", name);
        behind |= !name; /* the sequence itself */
        if (behind) continue;
        const cJSON *id, *ids = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(object, "special_tokens"), name), "ids");
        cJSON_ArrayForEach(id, ids) {
            if (!cJSON_IsNumber(id) || !(id->valuedouble >= 0 && id->valuedouble < TD_VOCAB_IDS_MAX) || t->prefix_count == 16) return td_fail(TD_E_FORMAT, "tokenizer.json: post_processor: special token '%.40s': expected at most 16 ids", name);
            TD_TRY(add_prefix(t, (int32_t)id->valuedouble));
        }
    }
    return TD_OK;
}

static td_status read_post_processor(const cJSON *object, td_tokenizer *t)
{
    if (!object || cJSON_IsNull(object) || is_type(object, "ByteLevel")) return TD_OK;
    if (is_type(object, "Sequence")) return read_sequence(object, "processors", read_post_processor, t);
    if (is_type(object, "TemplateProcessing")) return read_template(object, t);
    return unsupported("post_processor", type_of(object), "TemplateProcessing, ByteLevel or a Sequence of them");
}

/* A token named in tokenizer_config.json, as text or {"content": text}. */
static int32_t named_token(const td_tokenizer *t, const cJSON *config, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, key);
    const char *text = cJSON_IsString(item) ? item->valuestring : text_of(item, "content");
    return text && *text ? td_tokenizer_find(t, text, strlen(text)) : -1;
}

static td_status read_config(const cJSON *config, td_tokenizer *t)
{
    t->bos = named_token(t, config, "bos_token");
    t->eos = named_token(t, config, "eos_token");
    if (t->bos < 0 && t->prefix_count) t->bos = t->prefix[0];
    t->adds_bos = t->prefix_count > 0;
    const cJSON *add = cJSON_GetObjectItemCaseSensitive(config, "add_bos_token");
    const char *class = text_of(config, "tokenizer_class");
    if (cJSON_IsTrue(add) && t->bos >= 0 && !t->prefix_count) {
        TD_TRY(add_prefix(t, t->bos));
        t->adds_bos = true;
    }
    if (cJSON_IsFalse(add) && class && strstr(class, "Llama")) t->adds_bos = false; /* these classes rebuild the post-processor from this member */
    return t->eos >= 0 ? td_tokenizer_flag(t, t->eos, TD_TOKEN_END) : TD_OK;
}

static td_status read_root(const cJSON *root, const cJSON *config, td_tokenizer *t)
{
    td_decode_rules rules = {0};
    TD_TRY(read_normalizer(cJSON_GetObjectItemCaseSensitive(root, "normalizer"), t));
    TD_TRY(read_pre_tokenizer(cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer"), t));
    TD_TRY(read_model(root, t));
    TD_TRY(read_added_tokens(root, t));
    TD_TRY(read_post_processor(cJSON_GetObjectItemCaseSensitive(root, "post_processor"), t));
    TD_TRY(read_decoder(cJSON_GetObjectItemCaseSensitive(root, "decoder"), t, &rules, 0));
    TD_TRY(td_tokenizer_finish(t, &rules));
    TD_TRY(read_config(config, t));
    return td_tokenizer_mark_ends(t);
}

/* The value of the key read last, as a member of object. */
static td_status keep_member(td_json *j, cJSON *object)
{
    td_buffer room = {0};
    size_t bytes;
    td_buffer_put(&room, "", 0);
    const char *key = token_text(j, &room, &bytes);
    char *name = NULL;
    td_status status = key ? td_text_copy(key, bytes, &name) : td_fail(TD_E_MEMORY, "tokenizer: no memory");
    td_buffer_free(&room);
    if (status == TD_OK) status = td_json_next(j);
    const char *start = j->token - (j->kind == TD_JSON_STRING);
    if (status == TD_OK) status = td_json_skip(j);
    cJSON *value = status == TD_OK ? cJSON_ParseWithLength(start, (size_t)(j->text + j->at - start)) : NULL;
    if (status == TD_OK && !value) status = td_json_fail(j, "\"%s\" holds what cannot be read (a NUL in a text, or too deep)", name);
    if (status == TD_OK) cJSON_AddItemToObject(object, name, value);
    free(name);
    return status;
}

/* "model": vocabulary and merges go straight into their tables, the rest into object. Merges that stand before the vocabulary are read behind it. */
static td_status pull_model(td_json *j, cJSON *object, td_bpe *bpe, td_buffer *room)
{
    td_json later;
    bool vocab = false, merges = false, waiting = false;
    TD_TRY(td_json_expect(j, TD_JSON_OBJECT, "\"model\""));
    for (;;) {
        TD_TRY(td_json_next(j));
        if (j->kind == TD_JSON_OBJECT_END) break;
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(object, "type");
        bool other_kind = cJSON_IsString(type) && strcmp(type->valuestring, "BPE"); /* its vocabulary may look different; refused by name afterwards */
        if (td_json_equals(j, "vocab") && !other_kind) {
            if (vocab) return td_json_fail(j, "two members \"vocab\"");
            TD_TRY(read_vocab(j, bpe, room));
            vocab = true;
        } else if (td_json_equals(j, "merges") && !other_kind) {
            if (merges) return td_json_fail(j, "two members \"merges\"");
            merges = true;
            waiting = !vocab;
            later = *j;
            TD_TRY(vocab ? read_merges(j, bpe, room) : td_json_skip(j));
        } else if (other_kind && !td_json_equals(j, "type")) {
            TD_TRY(td_json_skip(j));
        } else {
            TD_TRY(keep_member(j, object));
        }
    }
    if (waiting) TD_TRY(read_merges(&later, bpe, room));
    if (vocab && merges && !cJSON_HasObjectItem(object, "type")) cJSON_AddStringToObject(object, "type", "BPE");
    if (!cJSON_HasObjectItem(object, "type") || !strcmp(type_of(object), "BPE")) {
        if (!vocab) return td_fail(TD_E_FORMAT, "tokenizer.json: model.vocab: expected an object, found none");
        if (!merges) return td_fail(TD_E_FORMAT, "tokenizer.json: model.merges: expected a list, found none");
    }
    return TD_OK;
}

static td_status pull_root(const char *json, size_t bytes, cJSON *root, td_bpe *bpe, td_buffer *room)
{
    td_json j;
    td_json_begin(&j, json, bytes, "tokenizer.json");
    TD_TRY(td_json_expect(&j, TD_JSON_OBJECT, "the root"));
    for (;;) {
        TD_TRY(td_json_next(&j));
        if (j.kind == TD_JSON_OBJECT_END) break;
        if (td_json_equals(&j, "model") && !cJSON_HasObjectItem(root, "model")) TD_TRY(pull_model(&j, cJSON_AddObjectToObject(root, "model"), bpe, room));
        else TD_TRY(keep_member(&j, root));
    }
    return td_json_expect(&j, TD_JSON_END, "the end");
}

static td_status parse_config(const char *json, size_t bytes, cJSON **out)
{
    const char *end = json;
    *out = cJSON_ParseWithLengthOpts(json, bytes, &end, 0);
    return *out ? TD_OK : td_fail(TD_E_FORMAT, "tokenizer_config.json: expected JSON, found something else at byte %zu of %zu", (size_t)(end - json), bytes);
}

td_status td_tokenizer_from_json(const char *json, size_t bytes, const char *config_text, size_t config_bytes, td_tokenizer **out)
{
    cJSON *root = cJSON_CreateObject(), *config = NULL;
    td_buffer room = {0};
    td_tokenizer *t = calloc(1, sizeof *t);
    if (!t || !root) {
        cJSON_Delete(root);
        free(t);
        return td_fail(TD_E_MEMORY, "tokenizer: no memory");
    }
    t->bos = t->eos = t->bpe.unknown = -1;
    td_status status = pull_root(json, bytes, root, &t->bpe, &room);
    if (status == TD_OK && config_text) status = parse_config(config_text, config_bytes, &config);
    if (status == TD_OK) status = read_root(root, config, t);
    td_buffer_free(&room);
    cJSON_Delete(root);
    cJSON_Delete(config);
    if (status == TD_OK) *out = t;
    else td_tokenizer_close(t);
    return status;
}
