/*
 * body.h - what stands between a client's bytes and the JSON library: one strict pass (RFC 8259) that bounds nesting and the number of values and
 * says at which byte a text stops being JSON. The library is lenient and recursive; after this check neither matters.
 */
#ifndef TD_SERVE_BODY_H
#define TD_SERVE_BODY_H

#include <cjson/cJSON.h>

#include "base/buffer.h"

enum { TD_BODY_DEPTH_MAX = 96, TD_BODY_VALUES_MAX = 1 << 20, TD_BODY_NUMBER_MAX = 60 };

/* TD_OK when the text is one JSON value: valid UTF-8, whole surrogate pairs, no U+0000, at most TD_BODY_DEPTH_MAX levels and
 * TD_BODY_VALUES_MAX values. TD_E_INVALID with a sentence that names the byte otherwise. */
td_status td_body_check(const char *text, size_t bytes);

/* Checks and parses. The caller gives *out back with cJSON_Delete. */
td_status td_body_parse(const char *text, size_t bytes, cJSON **out);

/* "a string", "an object", ...: for sentences. */
const char *td_body_kind(const cJSON *value);

/* Appends a value as compact JSON. */
void td_body_put(td_buffer *out, const cJSON *value);

/* Appends "text" quoted; NUL-terminated convenience of td_buffer_json. */
void td_body_text(td_buffer *out, const char *text);

#endif
