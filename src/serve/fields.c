/* fields.c - reads a request by its table (tables.c): what is not in the table is refused by name, and so is what has the wrong type or range. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"

static unsigned kind_of(const cJSON *value)
{
    switch (value->type & 0xFF) {
    case cJSON_False: case cJSON_True: return TD_KIND_BOOL;
    case cJSON_Number: return TD_KIND_NUMBER | (isfinite(value->valuedouble) && value->valuedouble == floor(value->valuedouble) ? TD_KIND_INT : 0);
    case cJSON_String: return TD_KIND_STRING;
    case cJSON_Array: return TD_KIND_ARRAY;
    case cJSON_Object: return TD_KIND_OBJECT;
    default: return 0;
    }
}

static void name_kinds(unsigned kinds, char *out, size_t room)
{
    static const struct { unsigned kind; const char *name; } names[] = {{TD_KIND_BOOL, "a boolean"}, {TD_KIND_INT, "an integer"}, {TD_KIND_NUMBER, "a number"},
                                                                        {TD_KIND_STRING, "a string"}, {TD_KIND_ARRAY, "an array"}, {TD_KIND_OBJECT, "an object"}};
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < TD_COUNT(names) && n < room; i++)
        if (kinds & names[i].kind) n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " or " : "", names[i].name);
}

static td_status check_range(td_exchange *x, const td_field *f, double value, const char *what)
{
    if ((f->low == 0 && f->high == 0) || (value >= f->low && value <= f->high)) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", f->name, "%s: expected %s%.15g to %.15g, found %.15g", f->name, what, f->low, f->high, value);
}

static void store(td_exchange *x, const td_field *f, const cJSON *value, unsigned kind)
{
    char *place = (char *)&x->ask + f->offset;
    if (f->kinds & (TD_KIND_ARRAY | TD_KIND_OBJECT)) memcpy(place, &value, sizeof value);
    else if (kind == TD_KIND_BOOL) *(bool *)place = cJSON_IsTrue(value);
    else if (kind == TD_KIND_STRING) memcpy(place, &value->valuestring, sizeof value->valuestring);
    else if (f->kinds & TD_KIND_NUMBER) memcpy(place, &value->valuedouble, sizeof(double));
    else {
        int64_t whole = (int64_t)value->valuedouble;
        memcpy(place, &whole, sizeof whole);
    }
}

static td_status take(td_exchange *x, const td_field *f, const cJSON *value)
{
    unsigned kind = kind_of(value);
    if (!f->kinds) return td_serve_refuse(x, 400, "unsupported_parameter", f->name, "%s: this field is not supported here; only null", f->name);
    if (!(kind & f->kinds)) {
        char expected[96];
        name_kinds(f->kinds, expected, sizeof expected);
        const char *found = kind & TD_KIND_NUMBER && f->kinds & TD_KIND_INT && isfinite(value->valuedouble) ? "a fraction" : td_body_kind(value);
        return td_serve_refuse(x, 400, "invalid_type", f->name, "%s: expected %s, found %s", f->name, expected, found);
    }
    if (kind & TD_KIND_NUMBER) {
        if (!isfinite(value->valuedouble)) return td_serve_refuse(x, 400, "invalid_value", f->name, "%s: expected a finite number", f->name);
        TD_TRY(check_range(x, f, value->valuedouble, ""));
    }
    if (kind == TD_KIND_STRING && !(f->kinds & TD_KIND_ARRAY)) TD_TRY(check_range(x, f, (double)td_fields_characters(value->valuestring), "a length in characters of "));
    if (kind == TD_KIND_ARRAY) TD_TRY(check_range(x, f, cJSON_GetArraySize(value), "a number of items of "));
    if (f->offset >= 0) store(x, f, value, kind);
    return f->take ? f->take(x, f, value) : TD_OK;
}

size_t td_fields_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++) count += (*text & 0xC0) != 0x80;
    return count;
}

static const td_field *find(const td_field *fields, const char *name)
{
    for (; fields->name; fields++)
        if (!strcmp(fields->name, name)) return fields;
    return NULL;
}

td_status td_fields_read(td_exchange *x, const td_field_table *table)
{
    unsigned char seen[128] = {0};
    for (const cJSON *value = x->json->child; value; value = value->next) {
        const td_field *f = find(table->fields, value->string);
        if (!f) return td_serve_refuse(x, 400, "unknown_parameter", value->string, "%.80s: %s has no such field", value->string, table->path);
        size_t index = (size_t)(f - table->fields);
        if (index < sizeof seen && seen[index]++) return td_serve_refuse(x, 400, "invalid_value", f->name, "%s: expected once, found twice", f->name);
        if (!cJSON_IsNull(value)) TD_TRY(take(x, f, value));
    }
    for (int i = 0; i < 4 && table->required[i]; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(x->json, table->required[i]);
        if (!value || cJSON_IsNull(value)) return td_serve_refuse(x, 400, "missing_required_parameter", table->required[i], "%s: this field is required", table->required[i]);
    }
    return TD_OK;
}

td_status td_fields_only(td_exchange *x, const cJSON *object, const char *where, const char *const *names)
{
    unsigned seen = 0; /* names has fewer than 32 entries */
    for (const cJSON *item = object->child; item; item = item->next) {
        int i = 0;
        while (names[i] && strcmp(names[i], item->string)) i++;
        if (!names[i] && cJSON_IsNull(item)) continue;
        if (!names[i]) return td_serve_refuse(x, 400, "unknown_parameter", where, "%s.%.80s: there is no such field here", where, item->string);
        if (seen & 1u << i) return td_serve_refuse(x, 400, "invalid_value", where, "%s.%.80s: expected once, found twice", where, item->string);
        seen |= 1u << i;
    }
    return TD_OK;
}

const char *td_fields_string(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

td_status td_fields_kind(td_exchange *x, const cJSON *object, const char *where, const char *name, unsigned kinds)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    char expected[96];
    if (!item || cJSON_IsNull(item) || kind_of(item) & kinds) return TD_OK;
    name_kinds(kinds, expected, sizeof expected);
    return td_serve_refuse(x, 400, "invalid_type", where, "%s.%s: expected %s, found %s", where, name, expected, td_body_kind(item));
}
