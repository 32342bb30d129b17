/*
 * tokenizer_gguf.c - a tokenizer from GGUF metadata (tokenizer.ggml.*): "gpt2" (byte-level, merges, a pre-tokenizer by name) and "llama"
 * (SentencePiece: merges by score, byte tokens). Regular expressions by the names that converters write into tokenizer.ggml.pre.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_parts.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
#define CASED_UPPER "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"
#define CASED_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* letters with case, as DeepSeek-LLM's tokenizer lists them */
#define CASED_LETTERS "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C" \
    "\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A" \
    "\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3" \
    "\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149" \
    "\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17" \
    "\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
#define CJK "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"

static const char *const rules_gpt2[] = {GPT2, NULL};
static const char *const rules_default[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]", NULL};
static const char *const rules_llama3[] = {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" TAIL, NULL};
static const char *const rules_qwen2[] = {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" TAIL, NULL};
static const char *const rules_qwen35[] = {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", NULL};
static const char *const rules_deepseek3[] = {"\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", NULL};
static const char *const rules_deepseek_llm[] = {"[\\r\\n]", "\\s?[" CASED_LETTERS "]+", "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+", "\\s+$", CJK, "\\p{N}+", NULL};
static const char *const rules_deepseek_coder[] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}", NULL};
static const char *const rules_digits_gpt2[] = {"\\p{N}", GPT2, NULL};
static const char *const rules_falcon[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]", NULL};
static const char *const rules_o200k[] = {CASED CONTRACTIONS "?|" CASED_UPPER CONTRACTIONS "?|\\p{N}{1,3}" CASED_TAIL, NULL};
static const char *const rules_tekken[] = {CASED "|" CASED_UPPER "|\\p{N}" CASED_TAIL, NULL};

typedef struct { const char *name; const char *const *patterns; bool llama3, nfc; } pre_rule; /* llama3: whole pieces of the vocabulary before merges, and a bos before the text unless the file says otherwise */
static const pre_rule pre_rules[] = {
    {"gpt-2", rules_gpt2}, {"default", rules_default}, {"mpt", rules_gpt2}, {"olmo", rules_gpt2}, {"jais", rules_gpt2}, {"phi-2", rules_gpt2}, {"trillion", rules_gpt2}, {"granite-docling", rules_gpt2},
    {"llama3", rules_llama3, true}, {"llama-v3", rules_llama3, true}, {"llama-bpe", rules_llama3, true}, {"falcon3", rules_llama3, true}, {"falcon-h1", rules_llama3, true}, {"pixtral", rules_llama3, true},
    {"midm-2.0", rules_llama3, true}, {"lfm2", rules_llama3, true}, {"dbrx", rules_llama3}, {"smaug-bpe", rules_llama3}, {"glm4", rules_llama3}, {"chatglm-bpe", rules_llama3},
    {"qwen2", rules_qwen2, false, true}, {"deepseek-r1-qwen", rules_qwen2, false, true}, {"stablelm2", rules_qwen2}, {"hunyuan", rules_qwen2}, {"solar-open", rules_qwen2}, {"megrez", rules_qwen2},
    {"qwen35", rules_qwen35, false, true}, {"deepseek-v3", rules_deepseek3}, {"hunyuan-dense", rules_deepseek3}, {"step3", rules_deepseek3}, {"deepseek-llm", rules_deepseek_llm}, {"deepseek-coder", rules_deepseek_coder},
    {"starcoder", rules_digits_gpt2}, {"refact", rules_digits_gpt2}, {"command-r", rules_digits_gpt2}, {"smollm", rules_digits_gpt2}, {"codeshell", rules_digits_gpt2}, {"exaone", rules_digits_gpt2}, {"minerva-7b", rules_digits_gpt2},
    {"falcon", rules_falcon}, {"gpt-4o", rules_o200k}, {"llama4", rules_o200k}, {"tekken", rules_tekken, true},
};

#define KEY(name) "tokenizer.ggml." name

static td_status find_rule(const td_checkpoint *c, const pre_rule **out)
{
    const char *name = "default";
    size_t bytes = 7;
    td_gguf_string(c, KEY("pre"), &name, &bytes);
    for (size_t i = 0; i < TD_COUNT(pre_rules); i++)
        if (strlen(pre_rules[i].name) == bytes && !memcmp(pre_rules[i].name, name, bytes)) {
            *out = &pre_rules[i];
            return TD_OK;
        }
    return td_fail(TD_E_UNSUPPORTED, KEY("pre") ": expected a known pre-tokenizer (gpt-2, llama-bpe, qwen2, deepseek-v3, deepseek-llm, default, ...), found '%.*s'", (int)TD_MIN(bytes, 80), name);
}

static td_status add_split(td_tokenizer *t, const char *pattern)
{
    td_split_step *step;
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    return td_pattern_regex(pattern, strlen(pattern), &step->pattern);
}

static int64_t token_type(const td_checkpoint *c, size_t index)
{
    int64_t type = TYPE_NORMAL;
    td_gguf_array_i64(c, KEY("token_type"), index, &type);
    return type;
}

/* Tokens in the order of the file; control and user-defined ones are also cut out of the text as they stand. */
static td_status read_tokens(const td_checkpoint *c, td_tokenizer *t)
{
    size_t count = 0;
    if (!td_gguf_array_count(c, KEY("tokens"), &count)) return td_fail(TD_E_NOT_FOUND, KEY("tokens") ": expected a list of texts");
    if (count > TD_VOCAB_IDS_MAX) return td_fail(TD_E_FORMAT, KEY("tokens") ": expected at most %d tokens, found %zu", TD_VOCAB_IDS_MAX, count);
    for (size_t i = 0; i < count; i++) {
        const char *text;
        size_t bytes;
        if (!td_gguf_array_string(c, KEY("tokens"), i, &text, &bytes)) return td_fail(TD_E_FORMAT, KEY("tokens") "[%zu]: expected a text", i);
        int64_t type = token_type(c, i);
        int32_t id = (int32_t)i;
        bool special = type == TYPE_CONTROL || type == TYPE_UNKNOWN, cut = special || type == TYPE_USER;
        TD_TRY(td_vocab_add(cut ? &t->names : &t->bpe.vocab, id, text, bytes));
        TD_TRY(td_tokenizer_flag(t, id, special ? TD_TOKEN_SPECIAL : 0));
        if (cut) TD_TRY(td_added_put(&t->raw, text, bytes, (td_added){.id = id, .special = special}));
    }
    return TD_OK;
}

static td_status read_merges(const td_checkpoint *c, td_tokenizer *t)
{
    size_t count = 0;
    if (!td_gguf_array_count(c, KEY("merges"), &count)) return td_fail(TD_E_FORMAT, KEY("merges") ": expected a list of texts");
    TD_TRY(td_merges_reserve(&t->bpe.merges, count));
    td_buffer joined = {0};
    td_status status = TD_OK;
    for (size_t i = 0; i < count && status == TD_OK; i++) {
        const char *text = "";
        size_t bytes = 0;
        td_gguf_array_string(c, KEY("merges"), i, &text, &bytes);
        const char *space = bytes > 1 ? memchr(text + 1, ' ', bytes - 1) : NULL; /* a token is never empty */
        if (!space) {
            status = td_fail(TD_E_FORMAT, KEY("merges") "[%zu]: expected two tokens with a space between, found '%.*s'", i, (int)TD_MIN(bytes, 80), text);
            break;
        }
        size_t left = (size_t)(space - text), right = bytes - left - 1;
        td_buffer_clear(&joined);
        td_buffer_put(&joined, text, left);
        td_buffer_put(&joined, space + 1, right);
        int32_t a = td_tokenizer_find(t, text, left), b = td_tokenizer_find(t, space + 1, right), id = td_tokenizer_find(t, joined.data ? joined.data : "", joined.bytes);
        if (joined.failed) status = td_buffer_status(&joined);
        else if (a < 0 || b < 0 || id < 0) status = td_fail(TD_E_FORMAT, KEY("merges") "[%zu]: expected its tokens in the vocabulary, found '%.*s'", i, (int)TD_MIN(bytes, 80), text);
        else status = td_merges_add(&t->bpe.merges, a, b, (uint32_t)i, id);
    }
    td_buffer_free(&joined);
    return status;
}

static td_status build_byte_level(const td_checkpoint *c, td_tokenizer *t, td_decode_rules *rules)
{
    const pre_rule *rule = NULL;
    TD_TRY(find_rule(c, &rule));
    if (rule->nfc) {
        td_normal_step *normal;
        TD_TRY(td_pipeline_add_normal(&t->pipeline, &normal));
        normal->kind = TD_STEP_FORM;
        normal->form = TD_NFC;
    }
    bool space = false;
    td_split_step *step;
    if (td_gguf_bool(c, KEY("add_space_prefix"), &space) && space) {
        TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
        step->kind = TD_STEP_PREFIX;
    }
    for (int i = 0; rule->patterns[i]; i++) TD_TRY(add_split(t, rule->patterns[i]));
    TD_TRY(td_pipeline_add_split(&t->pipeline, &step));
    step->kind = TD_STEP_BYTES;
    t->pipeline.byte_level = true;
    t->bpe.ignore_merges = rule->llama3;
    rules->byte_level = true;
    return read_merges(c, t);
}

typedef struct { double score; int32_t id; } scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

/* The best score gets rank 0; equal scores share a rank, so that the leftmost pair wins among them. */
static td_status rank_scores(const td_checkpoint *c, td_bpe *bpe)
{
    size_t count = (size_t)bpe->vocab.count, used = 0;
    scored *list = malloc((count + 1) * sizeof *list);
    bpe->rank = malloc((count + 1) * sizeof *bpe->rank);
    if (!list || !bpe->rank) {
        free(list);
        return td_fail(TD_E_MEMORY, "tokenizer: no memory for %zu scores", count);
    }
    for (size_t i = 0; i < count; i++) {
        double score = 0;
        int64_t type = token_type(c, i);
        bpe->rank[i] = UINT32_MAX;
        if (!td_vocab_has(&bpe->vocab, (int32_t)i) || type == TYPE_BYTE || type == TYPE_UNKNOWN) continue;
        if (!td_gguf_array_f64(c, KEY("scores"), i, &score) || isnan(score)) {
            free(list);
            return td_fail(TD_E_FORMAT, KEY("scores") "[%zu]: expected a number", i);
        }
        list[used++] = (scored){score, (int32_t)i};
    }
    qsort(list, used, sizeof *list, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < used; i++) {
        if (i > 0 && list[i].score != list[i - 1].score) rank++;
        bpe->rank[list[i].id] = rank;
    }
    free(list);
    return TD_OK;
}

static td_status build_sentencepiece(const td_checkpoint *c, td_tokenizer *t, td_decode_rules *rules)
{
    static const char meta[] = "\xE2\x96\x81";
    bool prefix = true;
    td_normal_step *normal;
    td_gguf_bool(c, KEY("add_space_prefix"), &prefix);
    if (prefix) {
        TD_TRY(td_pipeline_add_normal(&t->pipeline, &normal));
        normal->kind = TD_STEP_PREPEND;
        normal->bytes = 3;
        TD_TRY(td_text_copy(meta, 3, &normal->text));
        t->start_rule = TD_START_ONE_SPACE;
    }
    TD_TRY(td_pipeline_add_normal(&t->pipeline, &normal));
    normal->kind = TD_STEP_REPLACE;
    normal->bytes = 3;
    TD_TRY(td_text_copy(meta, 3, &normal->text));
    TD_TRY(td_pattern_text(" ", 1, &normal->pattern));
    rules->byte_tokens = t->lossy_bytes = true;
    rules->replace[0].from = meta;
    rules->replace[0].from_bytes = 3;
    rules->replace[0].to = " ";
    rules->replace[0].to_bytes = 1;
    rules->replace_count = 1;
    t->bpe.by_score = t->bpe.byte_fallback = true;
    int64_t unknown = -1;
    if (td_gguf_i64(c, KEY("unknown_token_id"), &unknown) && unknown >= 0 && unknown < t->size) t->bpe.unknown = (int32_t)unknown;
    return rank_scores(c, &t->bpe);
}

static int32_t id_of(const td_checkpoint *c, const td_tokenizer *t, const char *key)
{
    int64_t id = -1;
    return td_gguf_i64(c, key, &id) && id >= 0 && id < t->size ? (int32_t)id : -1;
}

static td_status read_ends(const td_checkpoint *c, td_tokenizer *t, bool sentencepiece)
{
    static const char *const ends[] = {KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id")};
    t->bos = id_of(c, t, KEY("bos_token_id"));
    t->eos = id_of(c, t, KEY("eos_token_id"));
    for (size_t i = 0; i < TD_COUNT(ends); i++) {
        int32_t id = id_of(c, t, ends[i]);
        if (id >= 0) TD_TRY(td_tokenizer_flag(t, id, TD_TOKEN_END));
    }
    bool adds = sentencepiece; /* what readers of the format assume when nothing is said */
    const pre_rule *rule;
    if (!sentencepiece) {
        TD_TRY(find_rule(c, &rule));
        adds = rule->llama3;
    }
    td_gguf_bool(c, KEY("add_bos_token"), &adds);
    if (adds && t->bos >= 0) {
        t->prefix = malloc(sizeof *t->prefix);
        if (!t->prefix) return td_fail(TD_E_MEMORY, "tokenizer: no memory");
        t->prefix[0] = t->bos;
        t->prefix_count = 1;
        t->adds_bos = true;
    }
    return td_tokenizer_mark_ends(t);
}

static td_status build(const td_checkpoint *c, td_tokenizer *t)
{
    const char *model;
    size_t bytes;
    td_decode_rules rules = {0};
    if (!td_gguf_string(c, KEY("model"), &model, &bytes)) return td_fail(TD_E_NOT_FOUND, KEY("model") ": the file holds no tokenizer");
    bool gpt2 = bytes == 4 && !memcmp(model, "gpt2", 4), llama = bytes == 5 && !memcmp(model, "llama", 5);
    if (!gpt2 && !llama) return td_fail(TD_E_UNSUPPORTED, KEY("model") ": expected gpt2 or llama, found '%.*s'", (int)TD_MIN(bytes, 80), model);
    TD_TRY(read_tokens(c, t));
    TD_TRY(gpt2 ? build_byte_level(c, t, &rules) : build_sentencepiece(c, t, &rules));
    TD_TRY(td_tokenizer_finish(t, &rules));
    return read_ends(c, t, llama);
}

td_status td_tokenizer_from_gguf(const td_checkpoint *checkpoint, td_tokenizer **out)
{
    td_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return td_fail(TD_E_MEMORY, "tokenizer: no memory");
    t->bos = t->eos = t->bpe.unknown = -1;
    td_status status = build(checkpoint, t);
    if (status == TD_OK) {
        *out = t;
        return TD_OK;
    }
    td_tokenizer_close(t);
    return td_context(status, "%s", td_checkpoint_path(checkpoint));
}
