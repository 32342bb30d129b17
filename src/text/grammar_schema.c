/*
 * grammar_schema.c - JSON schemas as GBNF. What cannot be enforced is refused by name, never ignored; the texts allowed are a subset of the valid ones:
 * members come in the order of "properties", other members are left out unless "additionalProperties" is a schema, numbers have bounded digits.
 * allOf, and what stands beside anyOf, oneOf and $ref, is merged into one schema first (grammar_merge.c). See grammar.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/grammar.h"
#include "text/grammar_make.h"
#include "text/grammar_merge.h"

enum { DEPTH_MAX = 64, RULES_MAX = 20000, PROPERTIES_MAX = 512 };

static const char common_rules[] =
    "ws ::= ( \" \" | \"\\n\" [ \\t]{0,16} )?\n"
    "plain ::= [^\"\\\\\\x00-\\x1F]\n"
    "char ::= plain | \"\\\\\" ( [\"\\\\/bfnrt] | \"u\" ( [0-9a-cefA-CEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2} ) )\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "integer ::= \"-\"? ( \"0\" | [1-9] [0-9]{0,15} )\n"
    "number ::= integer ( \".\" [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "value ::= object | array | string | number | boolean | null\n"
    "member ::= string ws \":\" ws value\n"
    "object ::= \"{\" ws ( member ws ( \",\" ws member ws )* )? \"}\"\n"
    "array ::= \"[\" ws ( value ws ( \",\" ws value ws )* )? \"]\"\n";

typedef struct {
    const cJSON *root;
    td_buffer out;
    int rules, depth;
    struct { const cJSON *schema; int rule; } *known; /* rules of schemas met so far, for recursion */
    int known_count, known_capacity;
    td_merged merged;     /* schemas made by merging; they live as long as the maker */
} maker;

static td_status make_rule(maker *m, const cJSON *schema, int *out);
static td_status put_schema(maker *m, const cJSON *schema, td_buffer *body);

static const cJSON *member(const cJSON *schema, const char *key) { return cJSON_GetObjectItemCaseSensitive(schema, key); }
static void put_rule(td_buffer *body, int rule) { td_buffer_format(body, " r%d ", rule); }

static td_status put_literal(td_buffer *body, const cJSON *value)
{
    char *json = cJSON_PrintUnformatted(value);
    if (!json) return td_fail(TD_E_MEMORY, "schema: no memory");
    td_gbnf_literal(body, json, strlen(json));
    cJSON_free(json);
    return TD_OK;
}

static td_status read_bound(const cJSON *schema, const char *key, int otherwise, int *out)
{
    const cJSON *item = member(schema, key);
    *out = otherwise;
    if (!item) return TD_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 2000)) return td_fail(TD_E_UNSUPPORTED, "schema: %s: expected a number from 0 to 2000", key);
    *out = (int)item->valuedouble;
    return TD_OK;
}

static td_status read_bounds(const cJSON *schema, const char *least, const char *most, int *low, int *high)
{
    TD_TRY(read_bound(schema, least, 0, low));
    TD_TRY(read_bound(schema, most, -1, high));
    return *high >= 0 && *high < *low ? td_fail(TD_E_INVALID, "schema: %s is less than %s", most, least) : TD_OK;
}

/* thing, then separator and thing, low..high times in all (high -1: without end); one bracketed expression that may be empty. */
static void put_list(td_buffer *body, const char *thing, int low, int high)
{
    char bounds[32] = "*";
    if (high == 0) {
        td_buffer_text(body, "\"\"");
        return;
    }
    if (high > 0) snprintf(bounds, sizeof bounds, "{%d,%d}", TD_MAX(low - 1, 0), high - 1);
    else if (low > 1) snprintf(bounds, sizeof bounds, "{%d,}", low - 1);
    td_buffer_format(body, "( %s ws ( \",\" ws %s ws )%s )%s", thing, thing, bounds, low ? "" : "?");
}

/* ---- objects ---- */

static bool is_required(const cJSON *schema, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, member(schema, "required"))
        if (cJSON_IsString(item) && !strcmp(item->valuestring, name)) return true;
    return false;
}

/* The inside of a JSON string that is none of names[0..count), which all begin with the same `skip` bytes already written. Names are sorted. */
static void put_other_name(td_buffer *out, const char *const *names, int count, size_t skip)
{
    bool ends = count && names[0][skip] == 0; /* the name that ends here must go on */
    int first = ends;
    td_buffer_text(out, "( [^\"\\\\\\x00-\\x1F");
    for (int i = first; i < count;) {
        size_t length = td_utf8_length(names[i] + skip, strlen(names[i] + skip));
        td_buffer_format(out, "\\U%08X", length ? td_utf8_decode(names[i] + skip, length) : 0xFFFDu);
        size_t step = TD_MAX(length, 1);
        int same = i;
        while (same < count && !strncmp(names[same] + skip, names[i] + skip, step)) same++;
        i = same;
    }
    td_buffer_text(out, "] plain*");
    for (int i = first; i < count;) {
        size_t length = TD_MAX(td_utf8_length(names[i] + skip, strlen(names[i] + skip)), 1);
        int same = i;
        while (same < count && !strncmp(names[same] + skip, names[i] + skip, length)) same++;
        td_buffer_text(out, " | ");
        td_gbnf_literal(out, names[i] + skip, length);
        td_buffer_text(out, " ");
        put_other_name(out, names + i, same - i, skip + length);
        i = same;
    }
    td_buffer_text(out, ends ? " )" : " )?");
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* A rule for `"name": value` of the members that additionalProperties describes; -1: there are none. */
static td_status make_additional(maker *m, const cJSON *schema, int *out)
{
    const cJSON *properties = member(schema, "properties"), *more = member(schema, "additionalProperties"), *item;
    const char *names[PROPERTIES_MAX];
    int value, count = 0;
    *out = -1;
    bool any = !member(schema, "properties") && (!more || cJSON_IsTrue(more));
    if (!any && !cJSON_IsObject(more)) return TD_OK;
    if (!any) TD_TRY(make_rule(m, more, &value));
    cJSON_ArrayForEach(item, properties) {
        for (const char *c = item->string; *c; c++)
            if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20) return td_fail(TD_E_UNSUPPORTED, "schema: additionalProperties beside the property '%.60s' cannot be enforced here", item->string);
        names[count++] = item->string;
    }
    qsort(names, (size_t)count, sizeof *names, by_name);
    *out = m->rules++;
    td_buffer_format(&m->out, "r%d ::= \"\\\"\" ", *out);
    if (count) put_other_name(&m->out, names, count, 0);
    else td_buffer_text(&m->out, "char*");
    td_buffer_format(&m->out, any ? " \"\\\"\" ws \":\" ws value\n" : " \"\\\"\" ws \":\" ws r%d\n", any ? 0 : value);
    return TD_OK;
}

/* One rule for each property and whether a member came before it: the property and what follows, or, when it may be left out, only what follows. */
static td_status put_properties(maker *m, const cJSON *schema, int count, int additional, td_buffer *body)
{
    const cJSON *property, *properties = member(schema, "properties");
    int values[PROPERTIES_MAX], i = 0;
    cJSON_ArrayForEach(property, properties) {
        values[i] = -1;
        if (cJSON_IsFalse(property) && is_required(schema, property->string)) return td_fail(TD_E_INVALID, "schema: the required property '%.60s' allows no value", property->string);
        if (!cJSON_IsFalse(property)) TD_TRY(make_rule(m, property, &values[i]));
        i++;
    }
    int base = m->rules;
    m->rules += 2 * (count + 1);
    i = 0;
    cJSON_ArrayForEach(property, properties) {
        for (int later = 0; later < 2; later++) {
            td_buffer_format(&m->out, "r%d ::= ", base + 2 * i + later);
            if (values[i] >= 0) {
                td_buffer name = {0};
                td_buffer_json(&name, property->string, strlen(property->string));
                if (later) td_buffer_text(&m->out, "\",\" ws ");
                td_gbnf_literal(&m->out, name.data ? name.data : "", name.bytes);
                td_buffer_free(&name);
                td_buffer_format(&m->out, " ws \":\" ws r%d ws r%d", values[i], base + 2 * (i + 1) + 1);
            }
            if (!is_required(schema, property->string)) td_buffer_format(&m->out, "%s r%d", values[i] >= 0 ? " |" : "", base + 2 * (i + 1) + later);
            td_buffer_text(&m->out, "\n");
        }
        i++;
    }
    for (int later = 0; later < 2; later++) {
        td_buffer_format(&m->out, "r%d ::= ", base + 2 * count + later);
        if (additional < 0) td_buffer_text(&m->out, "\"\"\n");
        else if (later) td_buffer_format(&m->out, "( \",\" ws r%d ws )*\n", additional);
        else td_buffer_format(&m->out, "( r%d ws ( \",\" ws r%d ws )* )?\n", additional, additional);
    }
    td_buffer_format(body, "\"{\" ws r%d \"}\"", base);
    return TD_OK;
}

static td_status put_object(maker *m, const cJSON *schema, td_buffer *body)
{
    const cJSON *properties = member(schema, "properties"), *more = member(schema, "additionalProperties"), *required = member(schema, "required"), *item;
    int count = cJSON_GetArraySize(properties), low, high, additional;
    bool bounded = member(schema, "minProperties") || member(schema, "maxProperties"), missing = false;
    if (properties && !cJSON_IsObject(properties)) return td_fail(TD_E_INVALID, "schema: properties: expected an object");
    cJSON_ArrayForEach(item, required) {
        if (!cJSON_IsString(item)) return td_fail(TD_E_INVALID, "schema: required: expected a list of names");
        missing |= !member(properties, item->valuestring);
    }
    if (missing) { /* what is required and not listed is described by additionalProperties */
        cJSON *whole = td_merged_copy(&m->merged, schema);
        if (!whole) return td_fail(TD_E_MEMORY, "schema: no memory");
        cJSON *list = properties ? cJSON_GetObjectItemCaseSensitive(whole, "properties") : cJSON_AddObjectToObject(whole, "properties");
        cJSON_ArrayForEach(item, required) {
            if (member(list, item->valuestring)) continue;
            if (cJSON_IsFalse(more)) return td_fail(TD_E_INVALID, "schema: the required property '%.60s' is not in \"properties\", and additionalProperties is false", item->valuestring);
            cJSON_AddItemToObject(list, item->valuestring, cJSON_IsObject(more) ? cJSON_Duplicate(more, true) : cJSON_CreateTrue());
        }
        return put_object(m, whole, body);
    }
    if (count > PROPERTIES_MAX) return td_fail(TD_E_UNSUPPORTED, "schema: expected at most %d properties, found %d", PROPERTIES_MAX, count);
    if (bounded && count) return td_fail(TD_E_UNSUPPORTED, "schema: the keywords minProperties and maxProperties beside properties cannot be enforced here");
    TD_TRY(read_bounds(schema, "minProperties", "maxProperties", &low, &high));
    if (bounded && low > 1) return td_fail(TD_E_UNSUPPORTED, "schema: minProperties above 1 cannot be enforced here: names may repeat");
    TD_TRY(make_additional(m, schema, &additional));
    if (count) return put_properties(m, schema, count, additional, body);
    td_buffer_text(body, "\"{\" ws ");
    char name[32] = "\"\"";
    if (additional >= 0) snprintf(name, sizeof name, "r%d", additional);
    if (additional < 0 && low > 0) return td_fail(TD_E_INVALID, "schema: minProperties, and no property is allowed");
    put_list(body, name, additional < 0 ? 0 : low, additional < 0 ? 0 : high);
    td_buffer_text(body, " \"}\"");
    return TD_OK;
}

/* ---- arrays and strings ---- */

/* prefixItems: each in its place, as many as minItems wants; then items. */
static td_status put_tuple(maker *m, const cJSON *schema, const cJSON *prefix, int low, int high, const char *rest, td_buffer *body)
{
    int count = cJSON_GetArraySize(prefix), i = 0, rule;
    const cJSON *item;
    if (count > 256) return td_fail(TD_E_UNSUPPORTED, "schema: prefixItems: expected at most 256, found %d", count);
    if (high >= 0 && high < count) return td_fail(TD_E_UNSUPPORTED, "schema: maxItems below the length of prefixItems cannot be enforced here");
    if (!rest && low > count) return td_fail(TD_E_INVALID, "schema: minItems is more than prefixItems allows");
    (void)schema;
    td_buffer_text(body, "\"[\" ws ");
    int open = 0;
    cJSON_ArrayForEach(item, prefix) {
        TD_TRY(make_rule(m, item, &rule));
        if (i >= low) td_buffer_text(body, "( "), open++;
        td_buffer_format(body, "%s r%d ws ", i ? "\",\" ws" : "", rule);
        i++;
    }
    if (rest && high != count) {
        char bounds[32] = "*";
        if (high >= 0) snprintf(bounds, sizeof bounds, "{%d,%d}", TD_MAX(low - count, 0), high - count);
        else if (low > count) snprintf(bounds, sizeof bounds, "{%d,}", low - count);
        td_buffer_format(body, "( \",\" ws %s ws )%s", rest, bounds);
    }
    while (open-- > 0) td_buffer_text(body, " )?");
    td_buffer_text(body, " \"]\"");
    return TD_OK;
}

static td_status put_array(maker *m, const cJSON *schema, td_buffer *body)
{
    int low, high, rule;
    const cJSON *items = member(schema, "items"), *prefix = member(schema, "prefixItems");
    char name[32] = "value";
    TD_TRY(read_bounds(schema, "minItems", "maxItems", &low, &high));
    if (cJSON_IsArray(items)) return td_fail(TD_E_UNSUPPORTED, "schema: items as a list (an older spelling of prefixItems) cannot be enforced here");
    if (cJSON_IsObject(items)) {
        TD_TRY(make_rule(m, items, &rule));
        snprintf(name, sizeof name, "r%d", rule);
    }
    if (cJSON_IsArray(prefix) && prefix->child) return put_tuple(m, schema, prefix, low, high, cJSON_IsFalse(items) ? NULL : name, body);
    if (cJSON_IsFalse(items) && low > 0) return td_fail(TD_E_INVALID, "schema: minItems, and no item is allowed");
    td_buffer_text(body, "\"[\" ws ");
    put_list(body, name, low, cJSON_IsFalse(items) ? 0 : high);
    td_buffer_text(body, " \"]\"");
    return TD_OK;
}

static td_status put_format(const char *format, td_buffer *body)
{
#define YEAR_DATE "( [1-9] [0-9]{3} | \"0\" [1-9] [0-9]{2} ) " "\"-\" ( ( \"0\" [13578] | \"1\" [02] ) \"-\" ( \"0\" [1-9] | [12] [0-9] | \"3\" [01] ) | ( \"0\" [469] | \"11\" ) \"-\" ( \"0\" [1-9] | [12] [0-9] | \"30\" ) | \"02-\" ( \"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8] ) )"
#define TIME "( [01] [0-9] | \"2\" [0-3] ) \":\" [0-5] [0-9] \":\" [0-5] [0-9] ( \".\" [0-9]{1,6} )? ( \"Z\" | [-+] ( [01] [0-9] | \"2\" [0-3] ) \":\" [0-5] [0-9] )"
    static const struct { const char *name, *rule; } formats[] = {
        {"date", YEAR_DATE}, {"time", TIME}, {"date-time", YEAR_DATE " \"T\" " TIME}, {"uuid", "[0-9a-f]{8} ( \"-\" [0-9a-f]{4} ){3} \"-\" [0-9a-f]{12}"},
        {"ipv4", "( \"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9]? [0-9] ) ( \".\" ( \"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9]? [0-9] ) ){3}"},
        {"email", "[a-zA-Z0-9_]+ ( [.+-] [a-zA-Z0-9_]+ )* \"@\" [a-z0-9]+ ( \"-\" [a-z0-9]+ )* ( \".\" [a-z0-9]+ ( \"-\" [a-z0-9]+ )* ){1,4}"},
    };
    for (size_t i = 0; i < TD_COUNT(formats); i++)
        if (!strcmp(format, formats[i].name)) {
            td_buffer_format(body, "\"\\\"\" %s \"\\\"\"", formats[i].rule);
            return TD_OK;
        }
    return td_fail(TD_E_UNSUPPORTED, "schema: the format '%.60s' cannot be enforced here (date, time, date-time, uuid, ipv4 and email can)", format);
}

static td_status put_string(const cJSON *schema, td_buffer *body)
{
    int low, high;
    const cJSON *pattern = member(schema, "pattern"), *format = member(schema, "format");
    TD_TRY(read_bounds(schema, "minLength", "maxLength", &low, &high));
    if ((pattern || format) && (low > 0 || high >= 0 || (pattern && format))) return td_fail(TD_E_UNSUPPORTED, "schema: pattern, format, and minLength or maxLength beside each other cannot be enforced here");
    if ((pattern && !cJSON_IsString(pattern)) || (format && !cJSON_IsString(format))) return td_fail(TD_E_INVALID, "schema: pattern and format: expected texts");
    if (format) return put_format(format->valuestring, body);
    td_buffer_text(body, "\"\\\"\" ");
    if (pattern) {
        td_status status = td_gbnf_regex(body, pattern->valuestring, strlen(pattern->valuestring), true);
        if (status < 0) return td_context(status, "schema: pattern");
    } else if (high >= 0) td_buffer_format(body, "char{%d,%d}", low, high);
    else if (low > 0) td_buffer_format(body, "char{%d,}", low);
    else td_buffer_text(body, "char*");
    td_buffer_text(body, " \"\\\"\"");
    return TD_OK;
}

/* ---- schemas ---- */

static td_status put_type(maker *m, const cJSON *schema, const char *type, td_buffer *body)
{
    bool whole = !strcmp(type, "integer"), bounded;
    if (!strcmp(type, "object")) return put_object(m, schema, body);
    if (!strcmp(type, "array")) return put_array(m, schema, body);
    if (!strcmp(type, "string")) return put_string(schema, body);
    if (whole || !strcmp(type, "number")) {
        TD_TRY(td_gbnf_number(body, schema, whole, &bounded));
        if (!bounded) td_buffer_text(body, type);
        return TD_OK;
    }
    if (!strcmp(type, "boolean") || !strcmp(type, "null")) {
        td_buffer_text(body, type);
        return TD_OK;
    }
    return td_fail(TD_E_UNSUPPORTED, "schema: expected a type object, array, string, integer, number, boolean or null, found '%.60s'", type);
}

/* Only what is enforced, and what says nothing about the value. */
static td_status check_members(const cJSON *schema)
{
    static const char *const known[] = {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "pattern", "format",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"};
    const cJSON *item;
    cJSON_ArrayForEach(item, schema) {
        size_t i = 0;
        while (i < TD_COUNT(known) && strcmp(item->string, known[i])) i++;
        if (i == TD_COUNT(known) && !td_schema_says_nothing(item->string)) return td_fail(TD_E_UNSUPPORTED, "schema: the keyword '%.60s' cannot be enforced here", item->string);
    }
    return TD_OK;
}

/* enum and const: the values that the rest of the schema lets through. */
static td_status put_values(maker *m, const cJSON *schema, td_buffer *body)
{
    const cJSON *list = member(schema, "enum"), *one = member(schema, "const"), *item;
    bool any = false;
    if (list && (!cJSON_IsArray(list) || !list->child)) return td_fail(TD_E_INVALID, "schema: enum: expected a list of values");
    cJSON_ArrayForEach(item, schema)
        if (strcmp(item->string, "enum") && strcmp(item->string, "const") && strcmp(item->string, "type") && !td_schema_says_nothing(item->string))
            return td_fail(TD_E_UNSUPPORTED, "schema: %.60s beside %s cannot be enforced here", item->string, one ? "const" : "enum");
    for (item = one ? one : list->child; item; item = one ? NULL : item->next) {
        bool listed = !one || !list;
        for (const cJSON *other = one && list ? list->child : NULL; other; other = other->next) listed |= cJSON_Compare(other, one, true);
        if (!listed || !td_schema_type_allows(member(schema, "type"), item)) continue;
        if (any) td_buffer_text(body, " | ");
        TD_TRY(put_literal(body, item));
        any = true;
    }
    (void)m;
    return any ? TD_OK : td_fail(TD_E_INVALID, "schema: enum or const, and type leave no value");
}

/* anyOf, oneOf: each alternative together with what stands beside them. */
static td_status put_alternatives(maker *m, const cJSON *schema, const cJSON *list, td_buffer *body)
{
    const cJSON *item, *other;
    bool any = false, exclusive = !strcmp(list->string, "oneOf");
    if (!cJSON_IsArray(list) || !list->child) return td_fail(TD_E_INVALID, "schema: %s: expected a list of schemas", list->string);
    for (item = list->child; exclusive && item; item = item->next)
        for (other = item->next; other; other = other->next)
            if (!td_schemas_disjoint(m->root, item, other)) return td_fail(TD_E_UNSUPPORTED, "schema: oneOf whose alternatives may hold together cannot be enforced here (give them different types, or a required property with different const values; or use anyOf)");
    cJSON_ArrayForEach(item, list) {
        int rule;
        const cJSON *whole = item;
        TD_TRY(td_merged_with_siblings(&m->merged, m->root, schema, list->string, item, &whole));
        if (cJSON_IsFalse(whole)) continue;
        TD_TRY(make_rule(m, whole, &rule));
        if (any) td_buffer_text(body, " | ");
        put_rule(body, rule);
        any = true;
    }
    return any ? TD_OK : td_fail(TD_E_INVALID, "schema: %s allows no value", list->string);
}

static td_status put_schema(maker *m, const cJSON *schema, td_buffer *body)
{
    const cJSON *item, *list, *type = member(schema, "type"), *target;
    int rule;
    if (cJSON_IsTrue(schema) || (cJSON_IsObject(schema) && !schema->child)) {
        td_buffer_text(body, "value");
        return TD_OK;
    }
    if (cJSON_IsFalse(schema)) return td_fail(TD_E_INVALID, "schema: false allows no value");
    if (!cJSON_IsObject(schema)) return td_fail(TD_E_INVALID, "schema: expected an object");
    TD_TRY(check_members(schema));
    if ((item = member(schema, "$ref")) || (item = member(schema, "allOf"))) {
        if (!strcmp(item->string, "$ref")) {
            TD_TRY(td_schema_follow(m->root, item, &target));
            TD_TRY(td_merged_with_siblings(&m->merged, m->root, schema, "$ref", target, &target));
        } else {
            TD_TRY(td_merged_all(&m->merged, m->root, schema, &target));
        }
        TD_TRY(make_rule(m, target, &rule));
        put_rule(body, rule);
        return TD_OK;
    }
    list = member(schema, "anyOf");
    if (!list) list = member(schema, "oneOf");
    if (list) return put_alternatives(m, schema, list, body);
    if (member(schema, "const") || member(schema, "enum")) return put_values(m, schema, body);
    if (cJSON_IsString(type)) return put_type(m, schema, type->valuestring, body);
    if (cJSON_IsArray(type)) {
        cJSON_ArrayForEach(item, type) {
            if (!cJSON_IsString(item)) return td_fail(TD_E_INVALID, "schema: type: expected texts");
            if (item != type->child) td_buffer_text(body, " | ");
            TD_TRY(put_type(m, schema, item->valuestring, body));
        }
        return type->child ? TD_OK : td_fail(TD_E_INVALID, "schema: type: expected at least one");
    }
    if (type) return td_fail(TD_E_INVALID, "schema: type: expected a text or a list of texts");
    const char *implied = td_schema_implied_type(schema);
    if (implied) return put_type(m, schema, implied, body); /* other types would be valid too; whoever writes "properties" means an object */
    td_buffer_text(body, "value");
    return TD_OK;
}

/* A rule for a schema; one that was met already (recursive $ref) keeps its rule. */
static td_status make_rule(maker *m, const cJSON *schema, int *out)
{
    for (int i = 0; i < m->known_count; i++)
        if (m->known[i].schema == schema) {
            *out = m->known[i].rule;
            return TD_OK;
        }
    if (++m->depth > DEPTH_MAX) return td_fail(TD_E_INVALID, "schema: nested deeper than %d", DEPTH_MAX);
    if (m->rules > RULES_MAX) return td_fail(TD_E_UNSUPPORTED, "schema: more than %d rules", RULES_MAX);
    int rule = *out = m->rules++;
    if (m->known_count == m->known_capacity) {
        int capacity = m->known_capacity ? m->known_capacity * 2 : 64;
        void *grown = realloc(m->known, (size_t)capacity * sizeof *m->known);
        if (!grown) return td_fail(TD_E_MEMORY, "schema: no memory");
        m->known = grown;
        m->known_capacity = capacity;
    }
    m->known[m->known_count].schema = schema;
    m->known[m->known_count++].rule = rule;
    td_buffer body = {0};
    td_status status = put_schema(m, schema, &body);
    if (status == TD_OK) status = td_buffer_status(&body);
    if (status == TD_OK) td_buffer_format(&m->out, "r%d ::= %s\n", rule, body.data ? body.data : "\"\"");
    td_buffer_free(&body);
    m->depth--;
    return status;
}

td_status td_grammar_from_schema(const cJSON *schema, td_grammar **out)
{
    maker m = {.root = schema};
    int rule = -1;
    td_buffer_text(&m.out, common_rules);
    td_status status = make_rule(&m, schema, &rule);
    if (status == TD_OK) td_buffer_format(&m.out, "root ::= r%d\n", rule);
    if (status == TD_OK) status = td_buffer_status(&m.out);
    if (status == TD_OK) status = td_grammar_from_gbnf(m.out.data, m.out.bytes, out);
    td_buffer_free(&m.out);
    free(m.known);
    td_merged_free(&m.merged);
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
