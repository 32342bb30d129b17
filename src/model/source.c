/* source.c - see source.h. */
#include "model/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

td_status td_source_open(const td_checkpoint *checkpoint, td_source *out)
{
    td_source source = {.checkpoint = checkpoint};
    if (td_checkpoint_format(checkpoint) == TD_FORMAT_GGUF) {
        const char *name;
        size_t bytes;
        if (!td_gguf_string(checkpoint, "general.architecture", &name, &bytes) || bytes == 0 || bytes >= sizeof source.architecture)
            return td_fail(TD_E_FORMAT, "%s: expected metadata general.architecture, found none", td_checkpoint_path(checkpoint));
        memcpy(source.architecture, name, bytes);
    } else {
        const cJSON *root = td_checkpoint_config(checkpoint);
        if (!cJSON_IsObject(root)) return td_fail(TD_E_FORMAT, "%s: expected config.json with an object, found none", td_checkpoint_path(checkpoint));
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(root, "text_config");
        source.config = cJSON_IsObject(text) ? text : root;
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(source.config, "model_type");
        if (!cJSON_IsString(type)) type = cJSON_GetObjectItemCaseSensitive(root, "model_type");
        if (!cJSON_IsString(type) || strlen(type->valuestring) >= sizeof source.architecture)
            return td_fail(TD_E_FORMAT, "%s: config.json: expected a string model_type, found none", td_checkpoint_path(checkpoint));
        strcpy(source.architecture, type->valuestring);
    }
    *out = source;
    return TD_OK;
}

td_status td_source_wrong(const td_source *source, const char *key, const char *expected, const char *found)
{
    return td_fail(TD_E_FORMAT, "%s: %s%s: expected %s, found %s", td_checkpoint_path(source->checkpoint), source->config ? "config.json " : "", key, expected, found);
}

/* Spells the full key; false when the format has none. */
static bool spell(const td_source *source, const char *hf, const char *gguf, char *key, size_t room)
{
    const char *name = source->config ? hf : gguf;
    if (!name) return false;
    if (source->config) snprintf(key, room, "%s", name);
    else snprintf(key, room, "%s.%s", source->architecture, name);
    return true;
}

/* A number under the key: 1 found, 0 absent, -1 of another type. */
static int number(const td_source *source, const char *key, double *out)
{
    if (!source->config) {
        int64_t whole;
        if (td_gguf_i64(source->checkpoint, key, &whole)) {
            *out = (double)whole;
            return 1;
        }
        if (td_gguf_f64(source->checkpoint, key, out)) return 1;
        return td_gguf_has(source->checkpoint, key) ? -1 : 0;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->config, key);
    if (!item || cJSON_IsNull(item)) return 0;
    if (!cJSON_IsNumber(item)) return -1;
    *out = item->valuedouble;
    return 1;
}

td_status td_source_float(const td_source *source, const char *hf, const char *gguf, double low, double high, const double *fallback, double *out)
{
    char key[128], expected[96], found[64];
    double value = 0;
    int state = spell(source, hf, gguf, key, sizeof key) ? number(source, key, &value) : 0;
    if (state == 0 && fallback) {
        *out = *fallback;
        return TD_OK;
    }
    if (state == 0) snprintf(key, sizeof key, "%s", source->config ? (hf ? hf : "?") : (gguf ? gguf : "?"));
    snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
    if (state <= 0) return td_source_wrong(source, key, expected, state ? "another type" : "nothing");
    snprintf(found, sizeof found, "%g", value);
    if (!(value >= low && value <= high)) return td_source_wrong(source, key, expected, found);
    *out = value;
    return TD_OK;
}

td_status td_source_int(const td_source *source, const char *hf, const char *gguf, int64_t low, int64_t high, const int64_t *fallback, int *out)
{
    double value, otherwise = fallback ? (double)*fallback : 0;
    TD_TRY(td_source_float(source, hf, gguf, (double)low, (double)high, fallback ? &otherwise : NULL, &value));
    if (value != floor(value)) {
        char found[64];
        snprintf(found, sizeof found, "%g", value);
        return td_source_wrong(source, source->config ? hf : gguf, "a whole number", found);
    }
    *out = (int)value;
    return TD_OK;
}

td_status td_source_bool(const td_source *source, const char *hf, const char *gguf, bool fallback, bool *out)
{
    char key[128];
    *out = fallback;
    if (!spell(source, hf, gguf, key, sizeof key)) return TD_OK;
    if (!source->config) {
        bool found = td_gguf_bool(source->checkpoint, key, out);
        return found || !td_gguf_has(source->checkpoint, key) ? TD_OK : td_source_wrong(source, key, "true or false", "another type");
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->config, key);
    if (!item) return TD_OK;
    if (!cJSON_IsBool(item) && !cJSON_IsNull(item)) return td_source_wrong(source, key, "true or false", "another type");
    *out = cJSON_IsTrue(item); /* null is Python's None: false */
    return TD_OK;
}

td_status td_source_text(const td_source *source, const char *hf, const char *fallback, const char **out)
{
    const cJSON *item = source->config ? cJSON_GetObjectItemCaseSensitive(source->config, hf) : NULL;
    if (item && !cJSON_IsNull(item) && !cJSON_IsString(item)) return td_source_wrong(source, hf, "a string", "another type");
    *out = cJSON_IsString(item) ? item->valuestring : fallback;
    return TD_OK;
}
