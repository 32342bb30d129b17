/* grammar_merge.c - see grammar_merge.h. What cannot be merged into one schema with the same meaning is refused by name. */
#include "text/grammar_merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *member(const cJSON *schema, const char *key) { return cJSON_GetObjectItemCaseSensitive(schema, key); }

bool td_schema_says_nothing(const char *keyword)
{
    static const char *const words[] = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "strict",
        "discriminator" /* OpenAPI: which property tells the alternatives apart */};
    for (size_t i = 0; i < TD_COUNT(words); i++)
        if (!strcmp(keyword, words[i])) return true;
    return false;
}

/* ---- types ---- */

static bool is_type(const char *type, const cJSON *value)
{
    if (!strcmp(type, "integer")) return cJSON_IsNumber(value) && value->valuedouble == floor(value->valuedouble);
    return !strcmp(type, "object") ? cJSON_IsObject(value) : !strcmp(type, "array") ? cJSON_IsArray(value) : !strcmp(type, "string") ? cJSON_IsString(value) : !strcmp(type, "number") ? cJSON_IsNumber(value) :
        !strcmp(type, "boolean") ? cJSON_IsBool(value) : !strcmp(type, "null") && cJSON_IsNull(value);
}

bool td_schema_type_allows(const cJSON *type, const cJSON *value)
{
    const cJSON *item;
    if (!type) return true;
    if (cJSON_IsString(type)) return is_type(type->valuestring, value);
    cJSON_ArrayForEach(item, type)
        if (cJSON_IsString(item) && is_type(item->valuestring, value)) return true;
    return false;
}

const char *td_schema_implied_type(const cJSON *schema)
{
    static const char *const words[][2] = {{"properties", "object"}, {"required", "object"}, {"additionalProperties", "object"}, {"minProperties", "object"}, {"maxProperties", "object"}, {"items", "array"}, {"prefixItems", "array"},
        {"minItems", "array"}, {"maxItems", "array"}, {"minLength", "string"}, {"maxLength", "string"}, {"pattern", "string"}, {"format", "string"}, {"minimum", "number"}, {"maximum", "number"},
        {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"}};
    for (size_t i = 0; i < TD_COUNT(words); i++)
        if (member(schema, words[i][0])) return words[i][1];
    return NULL;
}

enum { T_OBJECT = 1, T_ARRAY = 2, T_STRING = 4, T_INTEGER = 8, T_FRACTION = 16, T_BOOLEAN = 32, T_NULL = 64, T_ALL = 127 };

static unsigned type_bit(const char *type)
{
    static const struct { const char *name; unsigned bits; } types[] = {{"object", T_OBJECT}, {"array", T_ARRAY}, {"string", T_STRING}, {"integer", T_INTEGER}, {"number", T_INTEGER | T_FRACTION}, {"boolean", T_BOOLEAN}, {"null", T_NULL}};
    for (size_t i = 0; i < TD_COUNT(types); i++)
        if (!strcmp(type, types[i].name)) return types[i].bits;
    return 0;
}

static unsigned bits_of_type(const cJSON *type)
{
    const cJSON *item;
    unsigned bits = 0;
    if (!type) return T_ALL;
    if (cJSON_IsString(type)) return type_bit(type->valuestring);
    cJSON_ArrayForEach(item, type) if (cJSON_IsString(item)) bits |= type_bit(item->valuestring);
    return bits;
}

static cJSON *type_of_bits(unsigned bits)
{
    static const struct { const char *name; unsigned bits; } types[] = {{"object", T_OBJECT}, {"array", T_ARRAY}, {"string", T_STRING}, {"number", T_INTEGER | T_FRACTION}, {"integer", T_INTEGER}, {"boolean", T_BOOLEAN}, {"null", T_NULL}};
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < TD_COUNT(types); i++)
        if ((bits & types[i].bits) == types[i].bits) {
            cJSON_AddItemToArray(list, cJSON_CreateString(types[i].name));
            bits &= ~types[i].bits;
        }
    return list;
}

/* ---- $ref ---- */

/* One step of a JSON pointer: ~0, ~1 and %XX undone. */
static size_t unescape(const char *from, size_t length, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char hex[3] = {0};
        if (from[i] == '~' && i + 1 < length && (from[i + 1] == '0' || from[i + 1] == '1')) to[n++] = from[++i] == '0' ? '~' : '/';
        else if (from[i] == '%' && i + 2 < length && memcpy(hex, from + i + 1, 2) && strspn(hex, "0123456789abcdefABCDEF") == 2) to[n++] = (char)strtoul(hex, NULL, 16), i += 2;
        else to[n++] = from[i];
    }
    to[n] = 0;
    return n;
}

td_status td_schema_follow(const cJSON *root, const cJSON *reference, const cJSON **out)
{
    const char *path = cJSON_GetStringValue(reference), *whole = path;
    *out = root;
    if (!path) return td_fail(TD_E_INVALID, "schema: $ref: expected a text");
    if (path[0] != '#') return td_fail(TD_E_UNSUPPORTED, "schema: $ref: expected a place in this schema (#/...), found '%.80s'", path);
    for (path++; *out && *path == '/';) {
        char name[512];
        const char *end = strchr(path + 1, '/');
        size_t length = end ? (size_t)(end - path - 1) : strlen(path + 1);
        if (length >= sizeof name) break;
        unescape(path + 1, length, name);
        *out = cJSON_IsArray(*out) && strspn(name, "0123456789") == strlen(name) ? cJSON_GetArrayItem(*out, atoi(name)) : member(*out, name);
        path += length + 1;
    }
    return *out && !*path ? TD_OK : td_fail(TD_E_INVALID, "schema: $ref leads nowhere: '%.80s'", whole);
}

/* Through $ref as long as nothing stands beside it. */
static const cJSON *resolve(const cJSON *root, const cJSON *schema)
{
    for (int steps = 0; steps < 16 && member(schema, "$ref") && td_schema_follow(root, member(schema, "$ref"), &schema) == TD_OK; steps++) {}
    return schema;
}

/* ---- merging ---- */

void td_merged_free(td_merged *merged)
{
    for (int i = 0; merged->list && i < merged->list->count; i++) cJSON_Delete(merged->list->items[i].made);
    free(merged->list);
    merged->list = NULL;
}

static td_status keep(td_merged *merged, const cJSON *first, const cJSON *second, cJSON *made)
{
    if (!merged->list) merged->list = calloc(1, sizeof *merged->list);
    if (!merged->list || !made || merged->list->count == TD_MERGED_MAX) {
        bool full = merged->list && made;
        cJSON_Delete(made);
        return full ? td_fail(TD_E_UNSUPPORTED, "schema: more than %d merged schemas", TD_MERGED_MAX) : td_fail(TD_E_MEMORY, "schema: no memory");
    }
    int n = merged->list->count++;
    merged->list->items[n].first = first, merged->list->items[n].second = second, merged->list->items[n].made = made;
    return TD_OK;
}

cJSON *td_merged_copy(td_merged *merged, const cJSON *schema)
{
    cJSON *copy = cJSON_Duplicate(schema, true);
    return keep(merged, NULL, NULL, copy) == TD_OK ? copy : NULL;
}

static td_status add(cJSON *to, const cJSON *item)
{
    cJSON *copy = cJSON_Duplicate(item, true);
    return copy && cJSON_AddItemToObject(to, item->string, copy) ? TD_OK : td_fail(TD_E_MEMORY, "schema: no memory");
}

/* Both schemas of a property hold: allOf of the two, merged when its turn comes. */
static cJSON *both(const cJSON *a, const cJSON *b)
{
    cJSON *schema = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(schema, "allOf");
    cJSON_AddItemToArray(list, cJSON_Duplicate(a, true));
    cJSON_AddItemToArray(list, cJSON_Duplicate(b, true));
    return schema;
}

/* Bounds: the larger of least, the smaller of most. */
static bool tighter(const char *key, const cJSON *a, const cJSON *b, bool *take_b)
{
    static const char *const least[] = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}, *const most[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"};
    if (!cJSON_IsNumber(a) || !cJSON_IsNumber(b)) return false;
    for (size_t i = 0; i < TD_COUNT(least); i++) {
        if (!strcmp(key, least[i])) *take_b = b->valuedouble > a->valuedouble;
        else if (!strcmp(key, most[i])) *take_b = b->valuedouble < a->valuedouble;
        else continue;
        return true;
    }
    return false;
}

static td_status merge_properties(cJSON *into, const cJSON *from)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        cJSON *there = cJSON_GetObjectItemCaseSensitive(into, item->string);
        if (!there) TD_TRY(add(into, item));
        else if (!cJSON_Compare(there, item, true)) cJSON_ReplaceItemInObjectCaseSensitive(into, item->string, both(there, item));
    }
    return TD_OK;
}

/* A member of the second schema goes into the first. */
static td_status merge_member(cJSON *into, const cJSON *item)
{
    cJSON *there = cJSON_GetObjectItemCaseSensitive(into, item->string), *other;
    bool take = false;
    const cJSON *one;
    if (td_schema_says_nothing(item->string)) return TD_OK;
    if (!there) return add(into, item);
    if (cJSON_Compare(there, item, true)) return TD_OK;
    if (!strcmp(item->string, "properties")) return merge_properties(there, item);
    if (!strcmp(item->string, "required")) {
        cJSON_ArrayForEach(one, item) cJSON_AddItemToArray(there, cJSON_Duplicate(one, true));
        return TD_OK;
    }
    if (!strcmp(item->string, "type")) {
        unsigned bits = bits_of_type(there) & bits_of_type(item);
        if (!bits) return td_fail(TD_E_INVALID, "schema: types that exclude each other: no value is left");
        cJSON_ReplaceItemInObjectCaseSensitive(into, "type", type_of_bits(bits));
        return TD_OK;
    }
    if (!strcmp(item->string, "enum") && cJSON_IsArray(there) && cJSON_IsArray(item)) {
        cJSON *common = cJSON_CreateArray();
        cJSON_ArrayForEach(other, there)
            cJSON_ArrayForEach(one, item) if (cJSON_Compare(other, one, true)) cJSON_AddItemToArray(common, cJSON_Duplicate(one, true));
        cJSON_ReplaceItemInObjectCaseSensitive(into, "enum", common);
        return TD_OK;
    }
    if (!strcmp(item->string, "items") && cJSON_IsObject(there) && cJSON_IsObject(item)) {
        cJSON_ReplaceItemInObjectCaseSensitive(into, "items", both(there, item));
        return TD_OK;
    }
    if (tighter(item->string, there, item, &take)) {
        if (take) cJSON_ReplaceItemInObjectCaseSensitive(into, item->string, cJSON_Duplicate(item, true));
        return TD_OK;
    }
    return td_fail(TD_E_UNSUPPORTED, "schema: two different '%.60s' that must hold together cannot be enforced here", item->string);
}

/* additionalProperties speaks of the properties of its own schema, and items of its prefixItems: merged schemas must agree on them, or list the same names. */
static td_status check_additional(const cJSON *a, const cJSON *b)
{
    bool items = member(a, "items") || member(b, "items"), prefix = member(a, "prefixItems") || member(b, "prefixItems");
    if (items && prefix && !cJSON_Compare(member(a, "prefixItems"), member(b, "prefixItems"), true) && !(member(a, "items") && member(a, "prefixItems") && !member(b, "items") && !member(b, "prefixItems")) &&
        !(member(b, "items") && member(b, "prefixItems") && !member(a, "items") && !member(a, "prefixItems")))
        return td_fail(TD_E_UNSUPPORTED, "schema: items and prefixItems of different schemas that must hold together cannot be enforced here");
    const cJSON *x = member(a, "additionalProperties"), *y = member(b, "additionalProperties"), *item;
    const cJSON *p = member(a, "properties"), *q = member(b, "properties");
    if ((!x || cJSON_IsTrue(x)) && (!y || cJSON_IsTrue(y))) return TD_OK;
    bool same = true;
    cJSON_ArrayForEach(item, p) same &= !(y && !cJSON_IsTrue(y)) || member(q, item->string) != NULL;
    cJSON_ArrayForEach(item, q) same &= !(x && !cJSON_IsTrue(x)) || member(p, item->string) != NULL;
    return same ? TD_OK : td_fail(TD_E_UNSUPPORTED, "schema: additionalProperties and properties of different schemas that must hold together cannot be enforced here");
}

static td_status merge(td_merged *merged, const cJSON *root, const cJSON *schema, const char *without, const cJSON *part, const cJSON **out)
{
    const cJSON *item;
    if (cJSON_IsTrue(part)) part = NULL;
    if (part && !cJSON_IsObject(part)) return td_fail(TD_E_INVALID, "schema: expected an object");
    cJSON *made = cJSON_CreateObject();
    td_status status = made ? TD_OK : td_fail(TD_E_MEMORY, "schema: no memory");
    cJSON_ArrayForEach(item, schema)
        if (status == TD_OK && (!without || strcmp(item->string, without)) && !td_schema_says_nothing(item->string)) status = add(made, item);
    part = part ? resolve(root, part) : NULL;
    if (status == TD_OK && part) status = check_additional(made, part);
    if (part) cJSON_ArrayForEach(item, part) if (status == TD_OK) status = merge_member(made, item);
    if (status == TD_OK) status = keep(merged, schema, part, made);
    else cJSON_Delete(made);
    if (status == TD_OK) *out = made;
    return status;
}

td_status td_merged_with_siblings(td_merged *merged, const cJSON *root, const cJSON *schema, const char *without, const cJSON *part, const cJSON **out)
{
    const cJSON *item;
    bool beside = false;
    cJSON_ArrayForEach(item, schema) beside |= strcmp(item->string, without) && !td_schema_says_nothing(item->string);
    *out = part;
    if (!beside || cJSON_IsFalse(part)) return TD_OK;
    const cJSON *second = cJSON_IsTrue(part) ? NULL : resolve(root, part);
    for (int i = 0; merged->list && i < merged->list->count; i++)
        if (merged->list->items[i].first == schema && merged->list->items[i].second == second) {
            *out = merged->list->items[i].made;
            return TD_OK;
        }
    return merge(merged, root, schema, without, part, out);
}

td_status td_merged_all(td_merged *merged, const cJSON *root, const cJSON *schema, const cJSON **out)
{
    const cJSON *item, *list = member(schema, "allOf");
    if (!cJSON_IsArray(list) || !list->child) return td_fail(TD_E_INVALID, "schema: allOf: expected a list of schemas");
    const cJSON *so_far = schema;
    cJSON_ArrayForEach(item, list) {
        if (cJSON_IsFalse(item)) return td_fail(TD_E_INVALID, "schema: allOf with false allows no value");
        TD_TRY(merge(merged, root, so_far, so_far == schema ? "allOf" : NULL, item, &so_far));
    }
    *out = so_far;
    return TD_OK;
}

/* ---- oneOf ---- */

/* Values of const or enum, when the schema has them: count, else -1. */
static int values_of(const cJSON *schema, const cJSON **first, bool *single)
{
    const cJSON *one = member(schema, "const"), *list = member(schema, "enum");
    *single = one != NULL;
    *first = one ? one : list ? list->child : NULL;
    return one ? 1 : list ? cJSON_GetArraySize(list) : -1;
}

static bool values_disjoint(const cJSON *a, const cJSON *b)
{
    const cJSON *x, *y;
    bool x_single, y_single;
    if (values_of(a, &x, &x_single) < 0 || values_of(b, &y, &y_single) < 0) return false;
    for (const cJSON *i = x; i; i = x_single ? NULL : i->next)
        for (const cJSON *j = y; j; j = y_single ? NULL : j->next)
            if (cJSON_Compare(i, j, true)) return false;
    return true;
}

static bool requires(const cJSON *schema, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, member(schema, "required")) if (cJSON_IsString(item) && !strcmp(item->valuestring, name)) return true;
    return false;
}

/* Types that a schema's values can have. */
static unsigned types_of(const cJSON *schema)
{
    unsigned bits = bits_of_type(member(schema, "type")), values = 0;
    const cJSON *value;
    bool single;
    if (values_of(schema, &value, &single) < 0) return bits;
    for (; value; value = single ? NULL : value->next)
        for (unsigned bit = 1; bit < T_ALL; bit <<= 1) {
            static const char *const names[] = {"object", "array", "string", "integer", "number", "boolean", "null"};
            int index = 0;
            while (1u << index != bit) index++;
            if (is_type(names[index], value)) values |= bit;
        }
    return bits & values;
}

bool td_schemas_disjoint(const cJSON *root, const cJSON *a, const cJSON *b)
{
    const cJSON *item;
    a = resolve(root, a), b = resolve(root, b);
    if (cJSON_IsFalse(a) || cJSON_IsFalse(b)) return true;
    if (!cJSON_IsObject(a) || !cJSON_IsObject(b)) return false;
    if (!(types_of(a) & types_of(b)) || values_disjoint(a, b)) return true;
    if (bits_of_type(member(a, "type")) != T_OBJECT || bits_of_type(member(b, "type")) != T_OBJECT) return false;
    cJSON_ArrayForEach(item, member(a, "properties")) {
        const cJSON *other = member(member(b, "properties"), item->string);
        if (!requires(a, item->string) && !requires(b, item->string)) continue;
        if (other && requires(a, item->string) && requires(b, item->string) && values_disjoint(resolve(root, item), resolve(root, other))) return true;
    }
    /* one needs a property that the other forbids */
    for (int turn = 0; turn < 2; turn++) {
        const cJSON *needs = turn ? a : b, *forbids = turn ? b : a;
        cJSON_ArrayForEach(item, member(needs, "required"))
            if (cJSON_IsString(item) && cJSON_IsFalse(member(forbids, "additionalProperties")) && !member(member(forbids, "properties"), item->valuestring)) return true;
    }
    return false;
}
