/* grammar_schema.c - JSON schemas and regular expressions as GBNF. What cannot be enforced is refused by name. See grammar.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "base/buffer.h"
#include "text/grammar.h"

enum { DEPTH_MAX = 64, RULES_MAX = 5000 };

static const char common_rules[] =
    "ws ::= ( \" \" | \"\\n\" [ \\t]{0,16} )?\n"
    "char ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" ( [\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4} )\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "integer ::= \"-\"? ( \"0\" | [1-9] [0-9]{0,15} )\n"
    "number ::= integer ( \".\" [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,3} )?\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "value ::= object | array | string | number | boolean | null\n"
    "member ::= string ws \":\" ws value\n"
    "object ::= \"{\" ws ( member ws ( \",\" ws member ws )* )? \"}\"\n"
    "array ::= \"[\" ws ( value ws ( \",\" ws value ws )* )? \"]\"\n";

typedef struct { const cJSON *root; td_buffer out; int rules, depth; const cJSON *refs[256]; int ref_rules[256], refs_count; } maker;

static void put_quoted(td_buffer *out, const char *text, size_t bytes)
{
    td_buffer_text(out, "\"");
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') td_buffer_format(out, "\\%c", c);
        else if (c < 0x20) td_buffer_format(out, "\\x%02X", c);
        else td_buffer_put(out, text + i, 1);
    }
    td_buffer_text(out, "\"");
}

static td_status make_rule(maker *m, const cJSON *schema, int *out);

static void put_rule(td_buffer *body, int rule) { td_buffer_format(body, " r%d ", rule); }

static td_status put_literal(td_buffer *body, const cJSON *value)
{
    char *json = cJSON_PrintUnformatted(value);
    if (!json) return td_fail(TD_E_MEMORY, "schema: no memory");
    put_quoted(body, json, strlen(json));
    cJSON_free(json);
    return TD_OK;
}

static bool is_required(const cJSON *schema, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, "required"))
        if (cJSON_IsString(item) && !strcmp(item->valuestring, name)) return true;
    return false;
}

/* Members in the order of "properties"; rule pair (i, first or not) says what may follow. */
static td_status put_object(maker *m, const cJSON *schema, td_buffer *body)
{
    const cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties"), *property, *item;
    int count = cJSON_GetArraySize(properties), values[512], i = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, "required"))
        if (cJSON_IsString(item) && !cJSON_GetObjectItemCaseSensitive(properties, item->valuestring)) return td_fail(TD_E_UNSUPPORTED, "schema: the required property '%.60s' is not in \"properties\"", item->valuestring);
    if (count == 0) {
        td_buffer_text(body, cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties")) ? "\"{\" ws \"}\"" : "object");
        return TD_OK;
    }
    if (count > 512) return td_fail(TD_E_UNSUPPORTED, "schema: expected at most 512 properties, found %d", count);
    cJSON_ArrayForEach(property, properties) TD_TRY(make_rule(m, property, &values[i++]));
    int base = m->rules;
    m->rules += 2 * (count + 1);
    i = 0;
    cJSON_ArrayForEach(property, properties) {
        for (int later = 0; later < 2; later++) {
            td_buffer_format(&m->out, "r%d ::= %s ", base + 2 * i + later, later ? "\",\" ws" : "");
            td_buffer name = {0};
            td_buffer_json(&name, property->string, strlen(property->string));
            put_quoted(&m->out, name.data ? name.data : "", name.bytes);
            td_buffer_free(&name);
            td_buffer_format(&m->out, " ws \":\" ws r%d ws r%d", values[i], base + 2 * (i + 1) + 1);
            if (!is_required(schema, property->string)) td_buffer_format(&m->out, " | r%d", base + 2 * (i + 1) + later);
            td_buffer_text(&m->out, "\n");
        }
        i++;
    }
    td_buffer_format(&m->out, "r%d ::= \"\"\nr%d ::= \"\"\n", base + 2 * count, base + 2 * count + 1);
    td_buffer_format(body, "\"{\" ws r%d \"}\"", base);
    return TD_OK;
}

static td_status read_bound(const cJSON *schema, const char *key, int otherwise, int *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(schema, key);
    *out = otherwise;
    if (!item) return TD_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 2000)) return td_fail(TD_E_UNSUPPORTED, "schema: %s: expected a number from 0 to 2000", key);
    *out = (int)item->valuedouble;
    return TD_OK;
}

static td_status put_array(maker *m, const cJSON *schema, td_buffer *body)
{
    int low, high, item = -1;
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(schema, "items");
    char name[32] = "value";
    TD_TRY(read_bound(schema, "minItems", 0, &low));
    TD_TRY(read_bound(schema, "maxItems", -1, &high));
    if (high >= 0 && high < low) return td_fail(TD_E_INVALID, "schema: maxItems is less than minItems");
    if (cJSON_IsObject(items)) {
        TD_TRY(make_rule(m, items, &item));
        snprintf(name, sizeof name, "r%d", item);
    }
    if (high == 0) {
        td_buffer_text(body, "\"[\" ws \"]\"");
        return TD_OK;
    }
    char bounds[32] = "*";
    if (high > 0) snprintf(bounds, sizeof bounds, "{%d,%d}", TD_MAX(low - 1, 0), high - 1);
    else if (low > 1) snprintf(bounds, sizeof bounds, "{%d,}", low - 1);
    td_buffer_format(body, "\"[\" ws ( %s ws ( \",\" ws %s ws )%s )%s \"]\"", name, name, bounds, low ? "" : "?");
    return TD_OK;
}

static td_status put_type(maker *m, const cJSON *schema, const char *type, td_buffer *body)
{
    if (!strcmp(type, "object")) return put_object(m, schema, body);
    if (!strcmp(type, "array")) return put_array(m, schema, body);
    if (!strcmp(type, "string")) {
        int low, high;
        TD_TRY(read_bound(schema, "minLength", 0, &low));
        TD_TRY(read_bound(schema, "maxLength", -1, &high));
        if (high >= 0 && high < low) return td_fail(TD_E_INVALID, "schema: maxLength is less than minLength");
        if (high >= 0) td_buffer_format(body, "\"\\\"\" char{%d,%d} \"\\\"\"", low, high);
        else td_buffer_format(body, "\"\\\"\" char{%d,} \"\\\"\"", low);
        return TD_OK;
    }
    static const char *const plain[] = {"integer", "number", "boolean", "null"};
    for (size_t i = 0; i < TD_COUNT(plain); i++)
        if (!strcmp(type, plain[i])) {
            td_buffer_text(body, plain[i]);
            return TD_OK;
        }
    return td_fail(TD_E_UNSUPPORTED, "schema: expected a type object, array, string, integer, number, boolean or null, found '%.60s'", type);
}

/* Only what is enforced, and what says nothing about the value. */
static td_status check_members(const cJSON *schema)
{
    static const char *const known[] = {"type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minLength", "maxLength", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs",
        "definitions", "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly", "strict"};
    const cJSON *item;
    cJSON_ArrayForEach(item, schema) {
        size_t i = 0;
        while (i < TD_COUNT(known) && strcmp(item->string, known[i])) i++;
        if (i == TD_COUNT(known)) return td_fail(TD_E_UNSUPPORTED, "schema: the keyword '%.60s' cannot be enforced here", item->string);
    }
    return TD_OK;
}

/* "#/a/b" in the root schema */
static td_status follow(const maker *m, const char *path, const cJSON **out)
{
    *out = m->root;
    if (path[0] != '#') return td_fail(TD_E_UNSUPPORTED, "schema: $ref: expected a place in this schema (#/...), found '%.80s'", path);
    for (path++; *out && *path == '/';) {
        char name[256];
        const char *end = strchr(path + 1, '/');
        size_t length = end ? (size_t)(end - path - 1) : strlen(path + 1);
        if (length >= sizeof name) break;
        memcpy(name, path + 1, length);
        name[length] = 0;
        *out = cJSON_GetObjectItemCaseSensitive(*out, name);
        path += length + 1;
    }
    return *out && !*path ? TD_OK : td_fail(TD_E_INVALID, "schema: $ref leads nowhere at '%.80s'", path);
}

static td_status put_schema(maker *m, const cJSON *schema, td_buffer *body)
{
    const cJSON *item, *list, *type = cJSON_GetObjectItemCaseSensitive(schema, "type");
    int rule;
    if (cJSON_IsTrue(schema) || (cJSON_IsObject(schema) && !schema->child)) {
        td_buffer_text(body, "value");
        return TD_OK;
    }
    if (!cJSON_IsObject(schema)) return td_fail(TD_E_INVALID, "schema: expected an object");
    TD_TRY(check_members(schema));
    if ((item = cJSON_GetObjectItemCaseSensitive(schema, "$ref"))) {
        const cJSON *target;
        if (!cJSON_IsString(item)) return td_fail(TD_E_INVALID, "schema: $ref: expected a text");
        TD_TRY(follow(m, item->valuestring, &target));
        TD_TRY(make_rule(m, target, &rule));
        put_rule(body, rule);
        return TD_OK;
    }
    if ((item = cJSON_GetObjectItemCaseSensitive(schema, "const"))) return put_literal(body, item);
    if ((list = cJSON_GetObjectItemCaseSensitive(schema, "enum"))) {
        if (!cJSON_IsArray(list) || !list->child) return td_fail(TD_E_INVALID, "schema: enum: expected a list of values");
        cJSON_ArrayForEach(item, list) {
            if (item != list->child) td_buffer_text(body, " | ");
            TD_TRY(put_literal(body, item));
        }
        return TD_OK;
    }
    list = cJSON_GetObjectItemCaseSensitive(schema, "anyOf");
    if (!list) list = cJSON_GetObjectItemCaseSensitive(schema, "oneOf");
    if (!list) list = cJSON_GetObjectItemCaseSensitive(schema, "allOf");
    if (list) {
        if (!cJSON_IsArray(list) || !list->child) return td_fail(TD_E_INVALID, "schema: expected a list of schemas");
        if (!strcmp(list->string, "allOf") && list->child->next) return td_fail(TD_E_UNSUPPORTED, "schema: allOf of more than one cannot be enforced here");
        if (type || cJSON_GetObjectItemCaseSensitive(schema, "properties")) return td_fail(TD_E_UNSUPPORTED, "schema: %s beside type or properties cannot be enforced here", list->string);
        cJSON_ArrayForEach(item, list) {
            if (item != list->child) td_buffer_text(body, " | ");
            TD_TRY(make_rule(m, item, &rule));
            put_rule(body, rule);
        }
        return TD_OK;
    }
    if (cJSON_IsString(type)) return put_type(m, schema, type->valuestring, body);
    if (cJSON_IsArray(type)) {
        cJSON_ArrayForEach(item, type) {
            if (!cJSON_IsString(item)) return td_fail(TD_E_INVALID, "schema: type: expected texts");
            if (item != type->child) td_buffer_text(body, " | ");
            TD_TRY(put_type(m, schema, item->valuestring, body));
        }
        return type->child ? TD_OK : td_fail(TD_E_INVALID, "schema: type: expected at least one");
    }
    if (cJSON_GetObjectItemCaseSensitive(schema, "properties")) return put_object(m, schema, body);
    if (cJSON_GetObjectItemCaseSensitive(schema, "items")) return put_array(m, schema, body);
    if (cJSON_GetObjectItemCaseSensitive(schema, "required") || cJSON_GetObjectItemCaseSensitive(schema, "minLength") || cJSON_GetObjectItemCaseSensitive(schema, "maxLength") || cJSON_GetObjectItemCaseSensitive(schema, "minItems") || cJSON_GetObjectItemCaseSensitive(schema, "maxItems"))
        return td_fail(TD_E_UNSUPPORTED, "schema: bounds without a type cannot be enforced here");
    td_buffer_text(body, "value");
    return TD_OK;
}

/* A rule for a schema; one that was met already (recursive $ref) keeps its rule. */
static td_status make_rule(maker *m, const cJSON *schema, int *out)
{
    for (int i = 0; i < m->refs_count; i++)
        if (m->refs[i] == schema) {
            *out = m->ref_rules[i];
            return TD_OK;
        }
    if (++m->depth > DEPTH_MAX) return td_fail(TD_E_INVALID, "schema: nested deeper than %d", DEPTH_MAX);
    if (m->rules > RULES_MAX) return td_fail(TD_E_UNSUPPORTED, "schema: more than %d rules", RULES_MAX);
    int rule = *out = m->rules++;
    if (m->refs_count < (int)TD_COUNT(m->refs)) {
        m->refs[m->refs_count] = schema;
        m->ref_rules[m->refs_count++] = rule;
    }
    td_buffer body = {0};
    td_status status = put_schema(m, schema, &body);
    if (status == TD_OK) td_buffer_format(&m->out, "r%d ::= %s\n", rule, body.data ? body.data : "\"\"");
    td_buffer_free(&body);
    m->depth--;
    return status;
}

td_status td_grammar_from_schema(const cJSON *schema, td_grammar **out)
{
    maker m = {.root = schema};
    int rule;
    td_buffer_text(&m.out, common_rules);
    td_status status = make_rule(&m, schema, &rule);
    if (status == TD_OK) td_buffer_format(&m.out, "root ::= r%d\n", rule);
    if (status == TD_OK) status = td_buffer_status(&m.out);
    if (status == TD_OK) status = td_grammar_from_gbnf(m.out.data, m.out.bytes, out);
    td_buffer_free(&m.out);
    return status;
}

td_status td_grammar_any_object(td_grammar **out)
{
    td_buffer text = {0};
    td_buffer_text(&text, common_rules);
    td_buffer_text(&text, "root ::= object\n");
    td_status status = td_buffer_status(&text);
    if (status == TD_OK) status = td_grammar_from_gbnf(text.data, text.bytes, out);
    td_buffer_free(&text);
    return status;
}

/* ---- regular expressions ---- */

static td_status regex_fail(size_t at, const char *what) { return td_fail(TD_E_UNSUPPORTED, "regular expression, byte %zu: %s", at, what); }

/* \d \w \s and escaped characters, inside or outside of a class. */
static td_status put_escape(td_buffer *out, const char *text, size_t bytes, size_t *at, bool in_class)
{
    if (++*at >= bytes) return regex_fail(*at, "expected a character behind \\");
    char c = text[(*at)++];
    const char *set = c == 'd' ? "0-9" : c == 'w' ? "a-zA-Z0-9_" : c == 's' ? " \\t\\n\\r" : NULL;
    if (set) {
        td_buffer_format(out, in_class ? "%s" : "[%s]", set);
        return TD_OK;
    }
    if (c == 'n' || c == 't' || c == 'r') {
        td_buffer_format(out, in_class ? "\\%c" : "\"\\%c\"", c);
        return TD_OK;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80) return regex_fail(*at, "only \\d \\w \\s \\n \\t \\r and escaped punctuation are supported");
    td_buffer_format(out, in_class ? "\\x%02X" : "\"\\x%02X\"", (unsigned char)c);
    return TD_OK;
}

static td_status put_class(td_buffer *out, const char *text, size_t bytes, size_t *at)
{
    td_buffer_text(out, "[");
    if (++*at < bytes && text[*at] == '^') td_buffer_text(out, "^"), ++*at;
    for (bool first = true; *at < bytes && (first || text[*at] != ']'); first = false) {
        char c = text[*at];
        if (c == '\\') {
            TD_TRY(put_escape(out, text, bytes, at, true));
            continue;
        }
        if (c == '[' || c == ']' || c == '"' || c == '^') td_buffer_format(out, "\\x%02X", (unsigned char)c);
        else td_buffer_put(out, &c, 1);
        ++*at;
    }
    if (*at >= bytes) return regex_fail(*at, "expected ]");
    ++*at;
    td_buffer_text(out, "]");
    return TD_OK;
}

static td_status put_regex(td_buffer *out, const char *text, size_t bytes)
{
    size_t at = bytes && text[0] == '^', end = bytes - (bytes > at && text[bytes - 1] == '$' && (bytes < 2 || text[bytes - 2] != '\\'));
    td_buffer_text(out, "root ::= ( ");
    while (at < end) {
        char c = text[at];
        if (c == '\\') TD_TRY(put_escape(out, text, end, &at, false));
        else if (c == '[') TD_TRY(put_class(out, text, end, &at));
        else if (c == '(') {
            at++;
            if (end - at >= 2 && !memcmp(text + at, "?:", 2)) at += 2;
            else if (at < end && text[at] == '?') return regex_fail(at, "only ( ) and (?: ) groups are supported");
            td_buffer_text(out, "( ");
        } else if (strchr(")|*+?", c) && c) {
            td_buffer_put(out, &c, 1);
            at++;
            if (strchr("*+?", c) && at < end && (text[at] == '?' || text[at] == '+')) return regex_fail(at, "lazy and possessive repeats are not supported");
        } else if (c == '{') {
            const char *close = memchr(text + at, '}', end - at);
            if (!close) return regex_fail(at, "expected }");
            td_buffer_put(out, text + at, (size_t)(close - text) - at + 1);
            at = (size_t)(close - text) + 1;
        } else if (c == '.') {
            td_buffer_text(out, "[^\\n]");
            at++;
        } else if (c == '^' || c == '$') {
            return regex_fail(at, "^ and $ are supported at the ends only");
        } else {
            size_t length = td_utf8_length(text + at, end - at);
            if (length == 0) return regex_fail(at, "expected UTF-8");
            put_quoted(out, text + at, length);
            at += length;
        }
        td_buffer_text(out, at < end && text[at] && strchr("*+?{", text[at]) ? "" : " ");
    }
    td_buffer_text(out, ")\n");
    return td_buffer_status(out);
}

td_status td_grammar_from_regex(const char *pattern, size_t bytes, td_grammar **out)
{
    td_buffer text = {0};
    td_status status = bytes > 1 << 16 ? td_fail(TD_E_INVALID, "regular expression: expected at most 65536 bytes, found %zu", bytes) : put_regex(&text, pattern, bytes);
    if (status == TD_OK) status = td_grammar_from_gbnf(text.data, text.bytes, out);
    td_buffer_free(&text);
    return status;
}
