/*
 * tables.c - every field that a request may have, endpoint by endpoint: name, types, range, where it goes, what it means. /openapi.json is written from
 * these tables. A field that clients send but that this server cannot honour is either absent here (refused by name) or listed with the values that ask
 * for nothing.
 */
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve.h"
#include "serve/shapes.h"

#define AT(member) ((int)offsetof(td_ask, member))
#define WHOLE_MAX 2147483647.0
#define EXACT_MAX 9007199254740991.0
#define TEXT_MAX 33554432.0

/* ---- further checks --------------------------------------------------------------------------------------------------------------------------- */

static td_status take_model(td_exchange *x, const td_field *f, const cJSON *value)
{
    if (!strcmp(value->valuestring, x->server->name) || !strcmp(value->valuestring, "default")) return TD_OK;
    return td_serve_refuse(x, 404, "model_not_found", f->name, "model: expected \"%s\" (or \"default\"), found \"%.120s\"", x->server->name, value->valuestring);
}

static td_status add_stop(td_exchange *x, const cJSON *value, const char *name)
{
    if (!cJSON_IsString(value)) return td_serve_refuse(x, 400, "invalid_type", name, "%s: expected strings, found %s", name, td_body_kind(value));
    size_t bytes = strlen(value->valuestring);
    if (bytes == 0 || bytes > 1024) return td_serve_refuse(x, 400, "invalid_value", name, "%s: expected strings of 1 to 1024 bytes, found %zu", name, bytes);
    if (x->ask.stop_count == TD_SERVE_STOPS_MAX) return td_serve_refuse(x, 400, "invalid_value", name, "%s: expected at most %d strings, found more", name, TD_SERVE_STOPS_MAX);
    x->ask.stops[x->ask.stop_count++] = value->valuestring;
    return TD_OK;
}

static td_status take_stop(td_exchange *x, const td_field *f, const cJSON *value)
{
    if (cJSON_IsString(value)) return add_stop(x, value, f->name);
    for (const cJSON *item = value->child; item; item = item->next) TD_TRY(add_stop(x, item, f->name));
    return TD_OK;
}

/* {"50256": -100} as OpenAI has it; values beyond +-100 are not a preference any more. */
static td_status take_bias(td_exchange *x, const td_field *f, const cJSON *value)
{
    int count = cJSON_GetArraySize(value), i = 0;
    if (count > 4096) return td_serve_refuse(x, 400, "invalid_value", f->name, "logit_bias: expected at most 4096 tokens, found %d", count);
    x->ask.bias = TD_NEW(&x->arena, td_logit_bias, (size_t)count);
    if (!x->ask.bias) return TD_E_MEMORY;
    for (const cJSON *item = value->child; item; item = item->next, i++) {
        char *end;
        long token = strtol(item->string, &end, 10);
        if (!*item->string || *end || strlen(item->string) > 9 || token < 0 || token >= x->server->info->vocab_size)
            return td_serve_refuse(x, 400, "invalid_value", f->name, "logit_bias: expected token ids from 0 to %d as names, found \"%.40s\"", x->server->info->vocab_size - 1, item->string);
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= -100 && item->valuedouble <= 100))
            return td_serve_refuse(x, 400, "invalid_value", f->name, "logit_bias: expected numbers from -100 to 100, found %s for token %ld", cJSON_IsNumber(item) ? "another" : td_body_kind(item), token);
        x->ask.bias[i] = (td_logit_bias){.token = (int32_t)token, .bias = (float)item->valuedouble};
    }
    x->ask.bias_count = count;
    return TD_OK;
}

static td_status take_seed(td_exchange *x, const td_field *f, const cJSON *value)
{
    (void)f;
    (void)value;
    x->ask.seed_given = x->ask.seed != -1;
    return TD_OK;
}

static td_status take_stream_options(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"include_usage", "include_obfuscation", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(value, "include_usage"), *noise = cJSON_GetObjectItemCaseSensitive(value, "include_obfuscation");
    if (usage && !cJSON_IsBool(usage) && !cJSON_IsNull(usage)) return td_serve_refuse(x, 400, "invalid_type", f->name, "stream_options.include_usage: expected a boolean, found %s", td_body_kind(usage));
    if (noise && !cJSON_IsFalse(noise) && !cJSON_IsNull(noise)) return td_serve_refuse(x, 400, "unsupported_value", f->name, "stream_options.include_obfuscation: expected false, which is all that is supported");
    x->ask.include_usage = cJSON_IsTrue(usage);
    return TD_OK;
}

/* For fields of which only the value that asks for nothing is understood. */
static td_status only(td_exchange *x, const td_field *f, const cJSON *value, const char *const *allowed)
{
    char shown[96] = "";
    if (cJSON_IsString(value)) {
        for (int i = 0; allowed[i]; i++)
            if (!strcmp(value->valuestring, allowed[i])) return TD_OK;
        strncat(shown, value->valuestring, 60);
    }
    return td_serve_refuse(x, 400, "unsupported_value", f->name, "%s: expected \"%s\", which is all that is supported, found \"%s\"", f->name, allowed[0], shown);
}

static td_status take_tier(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const allowed[] = {"auto", "default", "standard_only", NULL};
    return only(x, f, value, allowed);
}

static td_status take_truncation(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const allowed[] = {"disabled", NULL};
    return only(x, f, value, allowed);
}

static td_status take_modalities(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const allowed[] = {"text", NULL};
    for (const cJSON *item = value->child; item; item = item->next) TD_TRY(only(x, f, item, allowed));
    return TD_OK;
}

static td_status take_false(td_exchange *x, const td_field *f, const cJSON *value)
{
    return cJSON_IsFalse(value) ? TD_OK : td_serve_refuse(x, 400, "unsupported_value", f->name, "%s: expected false, which is all that is supported", f->name);
}

static td_status take_true(td_exchange *x, const td_field *f, const cJSON *value)
{
    return cJSON_IsTrue(value) ? TD_OK : td_serve_refuse(x, 400, "unsupported_value", f->name, "%s: expected true, which is all that is supported", f->name);
}

static td_status take_zero(td_exchange *x, const td_field *f, const cJSON *value)
{
    return value->valuedouble == 0 ? TD_OK : td_serve_refuse(x, 400, "unsupported_value", f->name, "%s: expected 0, which is all that is supported", f->name);
}

/* Whom this is for: completions are shared out fairly between clients. */
static td_status take_user(td_exchange *x, const td_field *f, const cJSON *value)
{
    (void)f;
    unsigned char hash[16];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)value->valuestring, strlen(value->valuestring), NULL, 0);
    size_t n = strnlen(x->client_key, 30);
    x->client_key[n++] = '/';
    sodium_bin2hex(x->client_key + n, sizeof x->client_key - n, hash, sizeof hash);
    return TD_OK;
}

static td_status take_effort(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const known[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max", NULL};
    for (int i = 0; known[i]; i++)
        if (!strcmp(known[i], value->valuestring)) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", f->name, "%s: expected none, minimal, low, medium, high, xhigh or max, found \"%.40s\"", f->name, value->valuestring);
}

static td_status take_reasoning_format(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const known[] = {"auto", "deepseek", "none", NULL};
    for (int i = 0; known[i]; i++)
        if (!strcmp(known[i], value->valuestring)) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", f->name, "reasoning_format: expected auto, deepseek or none, found \"%.40s\"", value->valuestring);
}

static td_status take_encoding(td_exchange *x, const td_field *f, const cJSON *value)
{
    x->ask.base64 = !strcmp(value->valuestring, "base64");
    if (x->ask.base64 || !strcmp(value->valuestring, "float")) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", f->name, "encoding_format: expected \"float\" or \"base64\", found \"%.40s\"", value->valuestring);
}

static td_status take_pooling(td_exchange *x, const td_field *f, const cJSON *value)
{
    x->ask.mean_pooling = !strcmp(value->valuestring, "mean");
    if (x->ask.mean_pooling || !strcmp(value->valuestring, "last")) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", f->name, "pooling: expected \"last\" or \"mean\", found \"%.40s\"", value->valuestring);
}

static td_status take_metadata(td_exchange *x, const td_field *f, const cJSON *value)
{
    int count = 0;
    for (const cJSON *item = value->child; item; item = item->next)
        if (++count > 16 || !cJSON_IsString(item) || td_fields_characters(item->string) > 64 || td_fields_characters(item->valuestring) > 512)
            return td_serve_refuse(x, 400, "invalid_value", f->name, "%s: expected at most 16 strings of at most 512 characters under names of at most 64", f->name);
    return TD_OK;
}

/* Anthropic: {"user_id": "..."}. */
static td_status take_user_metadata(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"user_id", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(value, "user_id");
    if (!id || cJSON_IsNull(id)) return TD_OK;
    if (!cJSON_IsString(id)) return td_serve_refuse(x, 400, "invalid_type", f->name, "metadata.user_id: expected a string, found %s", td_body_kind(id));
    return take_user(x, f, id);
}

/* {"type": "enabled", "budget_tokens": n}, {"type": "adaptive"} or {"type": "disabled"}, with "display". */
static td_status take_thinking(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"type", "budget_tokens", "display", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    const char *type = td_fields_string(value, "type");
    if (!type || (strcmp(type, "enabled") && strcmp(type, "disabled") && strcmp(type, "adaptive")))
        return td_serve_refuse(x, 400, "invalid_value", f->name, "thinking.type: expected \"enabled\", \"disabled\" or \"adaptive\"");
    const cJSON *budget = cJSON_GetObjectItemCaseSensitive(value, "budget_tokens");
    const cJSON *display = cJSON_GetObjectItemCaseSensitive(value, "display");
    x->ask.thinking_omitted = cJSON_IsString(display) && !strcmp(display->valuestring, "omitted");
    if (display && !cJSON_IsNull(display) && !x->ask.thinking_omitted && !(cJSON_IsString(display) && !strcmp(display->valuestring, "summarized")))
        return td_serve_refuse(x, 400, "unsupported_value", f->name, "thinking.display: expected \"summarized\" (thinking is shown as it is) or \"omitted\"");
    if (budget && !cJSON_IsNull(budget) && (!cJSON_IsNumber(budget) || !(budget->valuedouble >= 1 && budget->valuedouble <= WHOLE_MAX) || budget->valuedouble != floor(budget->valuedouble)))
        return td_serve_refuse(x, 400, "invalid_value", f->name, "thinking.budget_tokens: expected an integer of at least 1");
    x->ask.thinking_given = strcmp(type, "adaptive") != 0;
    x->ask.thinking_on = !strcmp(type, "enabled");
    x->ask.thinking_budget = cJSON_IsNumber(budget) && x->ask.thinking_on ? (int64_t)budget->valuedouble : 0;
    return TD_OK;
}

/* Responses: {"effort": "low"}. */
static td_status take_reasoning(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"effort", "summary", "generate_summary", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    for (int i = 1; i <= 2; i++) { /* auto leaves it to the server, which makes none: reasoning is given as it is */
        const cJSON *summary = cJSON_GetObjectItemCaseSensitive(value, members[i]);
        if (summary && !cJSON_IsNull(summary) && !(cJSON_IsString(summary) && !strcmp(summary->valuestring, "auto")))
            return td_serve_refuse(x, 400, "unsupported_value", f->name, "reasoning.%s: expected \"auto\" or nothing: summaries of reasoning are not made", members[i]);
    }
    const cJSON *effort = cJSON_GetObjectItemCaseSensitive(value, "effort");
    if (!effort || cJSON_IsNull(effort)) return TD_OK;
    if (!cJSON_IsString(effort)) return td_serve_refuse(x, 400, "invalid_type", f->name, "reasoning.effort: expected a string, found %s", td_body_kind(effort));
    x->ask.reasoning_effort = effort->valuestring;
    return take_effort(x, f, effort);
}

/* ---- grammars: one a request */

static td_status set_grammar(td_exchange *x, const char *param, const char *kind, const char *text)
{
    if (x->ask.grammar_kind) return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected one grammar, found another in %s", param, x->ask.grammar_param);
    if (!text) return td_serve_refuse(x, 400, "missing_required_parameter", param, "%s: expected the grammar's text", param);
    x->ask.grammar_kind = kind;
    x->ask.grammar_text = text;
    x->ask.grammar_param = param;
    return TD_OK;
}

static td_status set_schema(td_exchange *x, const char *param, const cJSON *schema)
{
    if (!cJSON_IsObject(schema)) return td_serve_refuse(x, 400, "invalid_type", param, "%s: expected a JSON schema object", param);
    td_buffer text = {0};
    td_body_put(&text, schema);
    char *own = text.failed ? NULL : td_arena_text(&x->arena, text.data, text.bytes);
    td_buffer_free(&text);
    return own ? set_grammar(x, param, "json_schema", own) : td_fail(TD_E_MEMORY, "%s: no memory", param);
}

static td_status take_gbnf(td_exchange *x, const td_field *f, const cJSON *value) { return set_grammar(x, f->name, "gbnf", value->valuestring); }
static td_status take_schema(td_exchange *x, const td_field *f, const cJSON *value) { return set_schema(x, f->name, value); }

/* {"name", "schema", "strict", "description"}, alone or inside "json_schema". */
static td_status take_named_schema(td_exchange *x, const td_field *f, const cJSON *value, bool inside)
{
    static const char *const members[] = {"name", "schema", "strict", "description", NULL};
    if (!cJSON_IsObject(value)) return td_serve_refuse(x, 400, "invalid_type", f->name, "%s.json_schema: expected an object, found %s", f->name, td_body_kind(value));
    if (inside) TD_TRY(td_fields_only(x, value, f->name, members));
    TD_TRY(td_fields_kind(x, value, f->name, "name", TD_KIND_STRING));
    TD_TRY(td_fields_kind(x, value, f->name, "description", TD_KIND_STRING));
    TD_TRY(td_fields_kind(x, value, f->name, "strict", TD_KIND_BOOL));
    return set_schema(x, f->name, cJSON_GetObjectItemCaseSensitive(value, "schema"));
}

static td_status take_format(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const types[] = {"text", "json_object", "json_schema", "grammar", "regex"};
    static const char *const members[][6] = {{"type"}, {"type", "schema"}, {"type", "json_schema", "schema", "name", "strict", "description"}, {"type", "grammar"}, {"type", "regex"}};
    const char *type = td_fields_string(value, "type"), *own[7] = {NULL};
    size_t kind = 0;
    if (!type) return td_serve_refuse(x, 400, "missing_required_parameter", f->name, "%s.type: expected a string", f->name);
    while (kind < TD_COUNT(types) && strcmp(type, types[kind])) kind++;
    if (kind < TD_COUNT(types)) {
        memcpy(own, members[kind], sizeof members[kind]);
        TD_TRY(td_fields_only(x, value, f->name, own));
    }
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(value, "json_schema"), *schema = cJSON_GetObjectItemCaseSensitive(value, "schema");
    switch (kind) {
    case 0: return TD_OK;
    case 1: return schema && !cJSON_IsNull(schema) ? set_schema(x, f->name, schema) : set_grammar(x, f->name, "json_object", "");
    case 2: return take_named_schema(x, f, inner && !cJSON_IsNull(inner) ? inner : value, inner && !cJSON_IsNull(inner));
    case 3: return set_grammar(x, f->name, "gbnf", td_fields_string(value, "grammar"));
    case 4: return set_grammar(x, f->name, "regex", td_fields_string(value, "regex"));
    }
    return td_serve_refuse(x, 400, "invalid_value", f->name, "%s.type: expected text, json_object, json_schema, grammar or regex, found \"%.40s\"", f->name, type);
}

static td_status take_verbosity(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const allowed[] = {"medium", NULL};
    return only(x, f, value, allowed);
}

/* Anthropic: {"effort": "low", "format": {"type": "json_schema", "schema": {...}}}. */
static td_status take_output_config(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"effort", "format", NULL}, *const format_members[] = {"type", "schema", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    const cJSON *effort = cJSON_GetObjectItemCaseSensitive(value, "effort"), *format = cJSON_GetObjectItemCaseSensitive(value, "format");
    if (effort && !cJSON_IsNull(effort)) {
        if (!cJSON_IsString(effort)) return td_serve_refuse(x, 400, "invalid_type", f->name, "output_config.effort: expected a string, found %s", td_body_kind(effort));
        x->ask.reasoning_effort = effort->valuestring;
        TD_TRY(take_effort(x, f, effort));
    }
    if (!format || cJSON_IsNull(format)) return TD_OK;
    if (!cJSON_IsObject(format)) return td_serve_refuse(x, 400, "invalid_type", f->name, "output_config.format: expected an object, found %s", td_body_kind(format));
    TD_TRY(td_fields_only(x, format, "output_config.format", format_members));
    const char *type = td_fields_string(format, "type");
    if (!type || strcmp(type, "json_schema")) return td_serve_refuse(x, 400, "invalid_value", f->name, "output_config.format.type: expected \"json_schema\", found \"%.40s\"", type ? type : "");
    return set_schema(x, f->name, cJSON_GetObjectItemCaseSensitive(format, "schema"));
}

static td_status take_include(td_exchange *x, const td_field *f, const cJSON *value)
{
    if (!value->child) return TD_OK;
    const char *first = cJSON_IsString(value->child) ? value->child->valuestring : td_body_kind(value->child);
    return td_serve_refuse(x, 400, "unsupported_value", f->name, "include: expected an empty array, which is all that is supported, found \"%.60s\"", first);
}

/* Responses: {"format": {...}, "verbosity": "medium"}. */
static td_status take_text(td_exchange *x, const td_field *f, const cJSON *value)
{
    static const char *const members[] = {"format", "verbosity", NULL};
    TD_TRY(td_fields_only(x, value, f->name, members));
    const cJSON *verbosity = cJSON_GetObjectItemCaseSensitive(value, "verbosity");
    if (verbosity && !cJSON_IsNull(verbosity) && (!cJSON_IsString(verbosity) || strcmp(verbosity->valuestring, "medium")))
        return td_serve_refuse(x, 400, "unsupported_value", f->name, "text.verbosity: expected \"medium\", which is all that is supported");
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(value, "format");
    if (!format || cJSON_IsNull(format)) return TD_OK;
    return cJSON_IsObject(format) ? take_format(x, f, format) : td_serve_refuse(x, 400, "invalid_type", f->name, "text.format: expected an object, found %s", td_body_kind(format));
}

/* completions: best_of must not ask for more than it gives. */
static td_status take_best_of(td_exchange *x, const td_field *f, const cJSON *value)
{
    return value->valuedouble == 1 ? TD_OK : td_serve_refuse(x, 400, "unsupported_value", f->name, "best_of: expected 1, which is all that is supported; ask for n and choose");
}

static td_status take_count_logprobs(td_exchange *x, const td_field *f, const cJSON *value)
{
    (void)f;
    (void)value;
    x->ask.logprobs = true;
    return TD_OK;
}

static td_status take_nothing(td_exchange *x, const td_field *f, const cJSON *value)
{
    (void)x;
    (void)f;
    (void)value;
    return TD_OK;
}

/* ---- the tables ----------------------------------------------------------------------------------------------------------------------------------- */

/* Fields of the published APIs that this server cannot honour: null is what clients send when they do not use one. */
#define NOT_HERE(name) {name, 0, 0, 0, -1, NULL, "Not supported: only null."}
#define MODEL_FIELD {"model", TD_KIND_STRING, 1, 1024, AT(model), take_model, "The id that /v1/models lists, or \"default\"."}
#define STREAM_FIELD {"stream", TD_KIND_BOOL, 0, 0, AT(stream), NULL, "Answer with server-sent events."}
#define SAMPLING_FIELDS                                                                                                                                        \
    {"temperature", TD_KIND_NUMBER, 0, 2, AT(temperature), NULL, "0 takes the most likely token. Default 1."},                                                 \
    {"top_p", TD_KIND_NUMBER, 0, 1, AT(top_p), NULL, "Nucleus: the most likely tokens that hold this share; 1 switches it off, 0 leaves the most likely one. Default 1."},                                                            \
    {"top_k", TD_KIND_INT, 0, WHOLE_MAX, AT(top_k), NULL, "Keep the k most likely tokens; 0 switches it off."}
#define MORE_SAMPLING_FIELDS                                                                                                                                   \
    SAMPLING_FIELDS,                                                                                                                                           \
    {"min_p", TD_KIND_NUMBER, 0, 1, AT(min_p), NULL, "Keep tokens at least this likely relative to the most likely one; 0 switches it off."},                   \
    {"repetition_penalty", TD_KIND_NUMBER, 0, 100, AT(repetition_penalty), NULL, "Divides the logits of tokens seen; 0 and 1 switch it off."},                  \
    {"repeat_penalty", TD_KIND_NUMBER, 0, 100, AT(repetition_penalty), NULL, "The same under llama-server's name."},                                            \
    {"repeat_last_n", TD_KIND_INT, -1, WHOLE_MAX, AT(penalty_window), NULL, "Tokens that repetition_penalty looks back over; -1: all, 0: 64."},                 \
    {"presence_penalty", TD_KIND_NUMBER, -2, 2, AT(presence_penalty), NULL, "Subtracted from tokens generated before."},                                       \
    {"frequency_penalty", TD_KIND_NUMBER, -2, 2, AT(frequency_penalty), NULL, "Subtracted as often as a token was generated before."},                         \
    {"logit_bias", TD_KIND_OBJECT, 0, 0, -1, take_bias, "Token id to a number from -100 to 100 that is added to its logit.", S_BIAS},                                  \
    {"seed", TD_KIND_INT, -EXACT_MAX, EXACT_MAX, AT(seed), take_seed, "Same seed, same tokens, whatever else runs. -1 or absent: random."},                     \
    {"stop", TD_KIND_STRING | TD_KIND_ARRAY, 0, TD_SERVE_STOPS_MAX, -1, take_stop, "A string or up to 16; the text ends before the first match.", S_STOP},              \
    {"ignore_eos", TD_KIND_BOOL, 0, 0, AT(ignore_eos), NULL, "Go on after the end token."},                                                                     \
    {"t_max_predict_ms", TD_KIND_INT, 0, WHOLE_MAX, AT(time_max_ms), NULL, "Generation time limit; 0: the server's."},                                          \
    {"n", TD_KIND_INT, 1, TD_CHOICES_MAX, AT(n), NULL, "Completions of each prompt. Default 1."},                                                              \
    {"cache_prompt", TD_KIND_BOOL, 0, 0, -1, take_true, "Prefixes are always reused; only true is understood.", "{'const':true}"},                                               \
    {"return_progress", TD_KIND_BOOL, 0, 0, AT(return_progress), NULL, "Streams tell how far the prompt is read."},                                             \
    {"return_tokens", TD_KIND_BOOL, 0, 0, AT(return_tokens), NULL, "Add the generated token ids."},                                                             \
    {"timings_per_token", TD_KIND_BOOL, 0, 0, AT(timings_per_token), NULL, "Add timings to every chunk of a stream."},                                          \
    {"grammar", TD_KIND_STRING, 0, 1048576, -1, take_gbnf, "GBNF that the text must match."},                                                  \
    {"json_schema", TD_KIND_OBJECT, 0, 0, -1, take_schema, "JSON schema that the text must match."},                                              \
    {"response_format", TD_KIND_OBJECT, 0, 0, -1, take_format, "text, json_object, json_schema, or {\"type\":\"grammar\"|\"regex\"}.", S_FORMAT},         \
    {"stream_options", TD_KIND_OBJECT, 0, 0, -1, take_stream_options, "{\"include_usage\": true} adds a chunk with usage.", S_STREAM_OPTIONS},                                    \
    {"user", TD_KIND_STRING, 0, 1024, AT(user), take_user, "Completions are shared out fairly between users."},                                                \
    {"safety_identifier", TD_KIND_STRING, 0, 1024, -1, take_user, "As user."},                                                                                 \
    {"service_tier", TD_KIND_STRING, 0, 64, -1, take_tier, "auto or default.", "{'enum':['auto','default','standard_only']}"}
#define CHAT_FIELDS                                                                                                                                            \
    {"tools", TD_KIND_ARRAY, 0, 128, AT(tools), NULL, "Functions that the model may call.", S_TOOLS},                                                                  \
    {"tool_choice", TD_KIND_STRING | TD_KIND_OBJECT, 0, 0, AT(tool_choice), NULL, "none, auto, required, or one function.", S_CHOICE},                                    \
    {"parallel_tool_calls", TD_KIND_BOOL, 0, 0, AT(parallel_tool_calls), NULL, "false: the answer ends after the first call."},                                 \
    {"reasoning_effort", TD_KIND_STRING, 1, 16, AT(reasoning_effort), take_effort, "Handed to the chat template; \"none\" also sets enable_thinking to false.", S_EFFORT},\
    {"reasoning_format", TD_KIND_STRING, 1, 16, AT(reasoning_format), take_reasoning_format, "auto and deepseek: reasoning_content; none: all in content.", "{'enum':['auto','deepseek','none']}"},     \
    {"thinking_budget_tokens", TD_KIND_INT, 1, WHOLE_MAX, AT(thinking_budget), NULL, "Thinking ends after so many tokens."},                                           \
    {"chat_template_kwargs", TD_KIND_OBJECT, 0, 0, AT(template_kwargs), NULL, "Further variables for the chat template."}

static const td_field chat[] = {
    MODEL_FIELD, STREAM_FIELD,
    {"messages", TD_KIND_ARRAY, 1, 65536, AT(messages), NULL, "The conversation.", S_MESSAGES},
    {"max_tokens", TD_KIND_INT, 1, WHOLE_MAX, AT(max_tokens), NULL, "Tokens to generate at most; default: up to the context's end."},
    {"max_completion_tokens", TD_KIND_INT, 1, WHOLE_MAX, AT(max_completion_tokens), NULL, "The newer name of max_tokens."},
    {"logprobs", TD_KIND_BOOL, 0, 0, AT(logprobs), NULL, "Add log-probabilities."},
    {"top_logprobs", TD_KIND_INT, 0, 20, AT(top_logprobs), NULL, "Also of so many best tokens; needs logprobs."},
    MORE_SAMPLING_FIELDS, CHAT_FIELDS,
    {"modalities", TD_KIND_ARRAY, 0, 8, -1, take_modalities, "[\"text\"].", "{'type':'array','maxItems':8,'items':{'const':'text'}}"},
    {"store", TD_KIND_BOOL, 0, 0, -1, take_false, "Nothing is stored; only false is understood.", "{'const':false}"},
    {"prompt_cache_key", TD_KIND_STRING, 0, 1024, -1, take_nothing, "Prefixes are matched by their tokens, so a hint has nothing to change."},
    {"verbosity", TD_KIND_STRING, 1, 16, -1, take_verbosity, "Only medium.", "{'const':'medium'}"},
    NOT_HERE("audio"), NOT_HERE("function_call"), NOT_HERE("functions"), NOT_HERE("metadata"), NOT_HERE("moderation"), NOT_HERE("prediction"), NOT_HERE("prompt_cache_options"),
    NOT_HERE("prompt_cache_retention"), NOT_HERE("web_search_options"),
    {0}};

static const td_field completions[] = {
    MODEL_FIELD, STREAM_FIELD,
    {"prompt", TD_KIND_STRING | TD_KIND_ARRAY, 0, TD_BODY_VALUES_MAX, AT(prompt), NULL, "Text, token ids, or an array of either.", S_PROMPT},
    {"max_tokens", TD_KIND_INT, 0, WHOLE_MAX, AT(max_tokens), NULL, "Tokens to generate at most; default 16; 0 with echo scores the prompt."},
    {"n_predict", TD_KIND_INT, 0, WHOLE_MAX, AT(max_tokens), NULL, "The same under llama-server's name."},
    {"logprobs", TD_KIND_INT, 0, 20, AT(top_logprobs), take_count_logprobs, "Log-probabilities of the chosen and so many best tokens."},
    {"echo", TD_KIND_BOOL, 0, 0, AT(echo), NULL, "The text begins with the prompt."},
    {"best_of", TD_KIND_INT, 1, TD_CHOICES_MAX, -1, take_best_of, "Only 1.", "{'const':1}"},
    MORE_SAMPLING_FIELDS,
    NOT_HERE("suffix"),
    {0}};

static const td_field responses[] = {
    MODEL_FIELD, STREAM_FIELD, SAMPLING_FIELDS,
    {"input", TD_KIND_STRING | TD_KIND_ARRAY, 0, 65536, AT(input), NULL, "Text or items.", S_ITEMS},
    {"instructions", TD_KIND_STRING, 0, TEXT_MAX, AT(instructions), NULL, "The system message."},
    {"max_output_tokens", TD_KIND_INT, 1, WHOLE_MAX, AT(max_tokens), NULL, "Tokens to generate at most."},
    {"top_logprobs", TD_KIND_INT, 0, 20, -1, take_zero, "Only 0.", "{'const':0}"},
    {"metadata", TD_KIND_OBJECT, 0, 0, AT(metadata), take_metadata, "Comes back in the response.", S_METADATA},
    {"tools", TD_KIND_ARRAY, 0, 128, AT(tools), NULL, "Functions that the model may call.", S_FLAT_TOOLS},
    {"tool_choice", TD_KIND_STRING | TD_KIND_OBJECT, 0, 0, AT(tool_choice), NULL, "none, auto, required, or one function.", S_FLAT_CHOICE},
    {"parallel_tool_calls", TD_KIND_BOOL, 0, 0, AT(parallel_tool_calls), NULL, "false: the answer ends after the first call."},
    {"reasoning", TD_KIND_OBJECT, 0, 0, -1, take_reasoning, "{\"effort\": ...}.", S_REASONING},
    {"text", TD_KIND_OBJECT, 0, 0, AT(response_format), take_text, "{\"format\": {\"type\": \"text\" | \"json_object\" | \"json_schema\"}}.", S_TEXT_FORMAT},
    {"seed", TD_KIND_INT, -EXACT_MAX, EXACT_MAX, AT(seed), take_seed, "Same seed, same tokens. -1 or absent: random."},
    {"store", TD_KIND_BOOL, 0, 0, -1, take_false, "Nothing is stored; only false is understood.", "{'const':false}"},
    {"background", TD_KIND_BOOL, 0, 0, -1, take_false, "Only false.", "{'const':false}"},
    {"truncation", TD_KIND_STRING, 0, 64, -1, take_truncation, "Only disabled.", "{'const':'disabled'}"},
    {"user", TD_KIND_STRING, 0, 1024, AT(user), take_user, "Completions are shared out fairly between users."},
    {"safety_identifier", TD_KIND_STRING, 0, 1024, -1, take_user, "As user."},
    {"prompt_cache_key", TD_KIND_STRING, 0, 1024, -1, take_nothing, "Prefixes are matched by their tokens, so a hint has nothing to change."},
    {"service_tier", TD_KIND_STRING, 0, 64, -1, take_tier, "auto or default.", "{'enum':['auto','default','standard_only']}"},
    {"stream_options", TD_KIND_OBJECT, 0, 0, -1, take_stream_options, "Understood for its names; usage is always in the last event.", S_STREAM_OPTIONS},
    {"chat_template_kwargs", TD_KIND_OBJECT, 0, 0, AT(template_kwargs), NULL, "Further variables for the chat template."},
    {"include", TD_KIND_ARRAY, 0, 0, -1, take_include, "Only an empty array.", "{'type':'array','maxItems':0}"},
    NOT_HERE("access_programs"), NOT_HERE("background_options"), NOT_HERE("context_management"), NOT_HERE("conversation"), NOT_HERE("image"), NOT_HERE("max_tool_calls"), NOT_HERE("moderation"),
    NOT_HERE("previous_response_id"), NOT_HERE("prompt"), NOT_HERE("prompt_cache_options"), NOT_HERE("prompt_cache_retention"),
    {0}};

#define MESSAGES_FIELDS                                                                                                                                        \
    MODEL_FIELD,                                                                                                                                               \
    {"messages", TD_KIND_ARRAY, 1, 65536, AT(messages), NULL, "The conversation.", S_TURNS},                                                                           \
    {"system", TD_KIND_STRING | TD_KIND_ARRAY, 0, 4096, AT(system), NULL, "The system message: text or text blocks.", "{'anyOf':[" S_TEXT ",{'type':'array','maxItems':4096,'items':" S_TEXT_BLOCK "}]}"},                                         \
    {"tools", TD_KIND_ARRAY, 0, 128, AT(tools), NULL, "Tools with an input_schema.", S_NAMED_TOOLS},                                                                         \
    {"tool_choice", TD_KIND_OBJECT, 0, 0, AT(tool_choice), NULL, "{\"type\": \"auto\" | \"any\" | \"tool\" | \"none\"}.", S_NAMED_CHOICE},                                     \
    {"thinking", TD_KIND_OBJECT, 0, 0, -1, take_thinking, "{\"type\": \"enabled\" | \"disabled\"}; sets enable_thinking for the template.", S_THINKING},          \
    {"output_config", TD_KIND_OBJECT, 0, 0, -1, take_output_config, "{\"effort\": ..., \"format\": {\"type\": \"json_schema\", \"schema\": ...}}.", S_OUTPUT_CONFIG},             \
    {"cache_control", TD_KIND_OBJECT, 0, 0, -1, take_nothing, "Prefixes are matched by their tokens, so a hint has nothing to change."},                        \
    NOT_HERE("speed"), NOT_HERE("user_profile_id"), NOT_HERE("workspace_id"), NOT_HERE("context_management"), NOT_HERE("mcp_servers"), NOT_HERE("thread")

static const td_field messages[] = {
    MESSAGES_FIELDS, STREAM_FIELD, SAMPLING_FIELDS,
    {"max_tokens", TD_KIND_INT, 1, WHOLE_MAX, AT(max_tokens), NULL, "Tokens to generate at most."},
    {"stop_sequences", TD_KIND_ARRAY, 0, TD_SERVE_STOPS_MAX, -1, take_stop, "Strings that end the text.", S_STOPS},
    {"metadata", TD_KIND_OBJECT, 0, 0, -1, take_user_metadata, "{\"user_id\": ...}: completions are shared out fairly between users.", S_USER_METADATA},
    {"service_tier", TD_KIND_STRING, 0, 64, -1, take_tier, "auto or standard_only.", "{'enum':['auto','default','standard_only']}"},
    NOT_HERE("container"), NOT_HERE("diagnostics"), NOT_HERE("inference_geo"),
    {"chat_template_kwargs", TD_KIND_OBJECT, 0, 0, AT(template_kwargs), NULL, "Further variables for the chat template."},
    {0}};

static const td_field count_tokens[] = {MESSAGES_FIELDS, {0}};

static const td_field embeddings[] = {
    MODEL_FIELD,
    {"input", TD_KIND_STRING | TD_KIND_ARRAY, 0, TD_BODY_VALUES_MAX, AT(input), NULL, "Text, token ids, or an array of either.", S_INPUT_TEXT},
    {"encoding_format", TD_KIND_STRING, 1, 16, -1, take_encoding, "float (default) or base64 (little-endian float32).", "{'enum':['float','base64']}"},
    {"dimensions", TD_KIND_INT, 1, WHOLE_MAX, AT(dimensions), NULL, "Only the model's own width."},
    {"pooling", TD_KIND_STRING, 1, 16, -1, take_pooling, "last (default) or mean of the final hidden states; the vector has length 1.", "{'enum':['last','mean']}"},
    {"user", TD_KIND_STRING, 0, 1024, AT(user), take_user, "Work is shared out fairly between users."},
    {0}};

static const td_field tokenize[] = {
    MODEL_FIELD,
    {"content", TD_KIND_STRING, 0, TEXT_MAX, AT(content), NULL, "The text."},
    {"add_special", TD_KIND_BOOL, 0, 0, AT(add_special), NULL, "Put the model's BOS first. Default false."},
    {"parse_special", TD_KIND_BOOL, 0, 0, AT(parse_special), NULL, "Read special tokens written in the text. Default true."},
    {"with_pieces", TD_KIND_BOOL, 0, 0, AT(with_pieces), NULL, "Answer with {id, piece} for each token."},
    {0}};

static const td_field detokenize[] = {MODEL_FIELD, {"tokens", TD_KIND_ARRAY, 0, TD_BODY_VALUES_MAX, AT(tokens), NULL, "Token ids.", "{'type':'array','items':" S_TOKEN "}"}, {0}};

static const td_field apply_template[] = {
    MODEL_FIELD,
    {"messages", TD_KIND_ARRAY, 1, 65536, AT(messages), NULL, "The conversation.", S_MESSAGES},
    {"tools", TD_KIND_ARRAY, 0, 128, AT(tools), NULL, "Functions that the model may call.", S_TOOLS},
    {"add_generation_prompt", TD_KIND_BOOL, 0, 0, AT(add_generation_prompt), NULL, "End with the beginning of the assistant's turn. Default true."},
    {"reasoning_effort", TD_KIND_STRING, 1, 16, AT(reasoning_effort), take_effort, "As in chat.", S_EFFORT},
    {"chat_template_kwargs", TD_KIND_OBJECT, 0, 0, AT(template_kwargs), NULL, "Further variables for the chat template."},
    {0}};

const td_field_table td_chat_fields = {"/v1/chat/completions", chat, {"messages"}}, td_completions_fields = {"/v1/completions", completions, {"prompt"}},
    td_responses_fields = {"/v1/responses", responses, {"input"}}, td_messages_fields = {"/v1/messages", messages, {"messages", "max_tokens"}},
    td_count_tokens_fields = {"/v1/messages/count_tokens", count_tokens, {"messages"}}, td_embeddings_fields = {"/v1/embeddings", embeddings, {"input"}},
    td_tokenize_fields = {"/tokenize", tokenize, {"content"}}, td_detokenize_fields = {"/detokenize", detokenize, {"tokens"}},
    td_template_fields = {"/apply-template", apply_template, {"messages"}};

const td_field_table *const td_field_tables[] = {&td_chat_fields, &td_completions_fields, &td_responses_fields, &td_messages_fields, &td_count_tokens_fields, &td_embeddings_fields,
                                                 &td_tokenize_fields, &td_detokenize_fields, &td_template_fields, NULL};
