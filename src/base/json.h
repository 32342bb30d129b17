/*
 * json.h - a pull reader of JSON text for big files (safetensors headers, tokenizer.json): one pass, no allocation, the text stays where it is.
 *
 * Strict RFC 8259: UTF-8 only, no comments, no trailing commas, nothing behind the value, no lone surrogates, at most TD_JSON_DEPTH levels.
 * Each td_json_next gives one token; grammar (commas, colons, matching brackets) is checked on the way, so that a caller only looks at kinds:
 *
 *     td_json j;
 *     td_json_begin(&j, text, bytes, "file x/tokenizer.json");
 *     TD_TRY(td_json_expect(&j, TD_JSON_OBJECT, "the root"));
 *     for (;;) {
 *         TD_TRY(td_json_next(&j));
 *         if (j.kind == TD_JSON_OBJECT_END) break;                  // else j.kind is TD_JSON_KEY
 *         if (td_json_equals(&j, "vocab")) ...                      // reads the value with td_json_next
 *         else TD_TRY(td_json_skip(&j));                            // the key's value, however deep
 *     }
 *     TD_TRY(td_json_expect(&j, TD_JSON_END, "the end"));
 *
 * Errors are TD_E_FORMAT with the place in front: "file x/tokenizer.json, line 3, byte 71: expected ',' or '}', found 'q'". They stick: later calls fail too.
 */
#ifndef TD_BASE_JSON_H
#define TD_BASE_JSON_H

#include "base/status.h"

enum { TD_JSON_DEPTH = 128 };

typedef enum {
    TD_JSON_NONE, /* before the first token */
    TD_JSON_OBJECT, TD_JSON_KEY, TD_JSON_OBJECT_END, TD_JSON_ARRAY, TD_JSON_ARRAY_END,
    TD_JSON_STRING, TD_JSON_NUMBER, TD_JSON_TRUE, TD_JSON_FALSE, TD_JSON_NULL,
    TD_JSON_END   /* the text is over */
} td_json_kind;

typedef struct {
    td_json_kind kind;      /* of the token read last */
    const char *token;      /* KEY, STRING: the inside of the quotes, still escaped; NUMBER: its characters; else where it starts. Borrowed from the text */
    size_t token_bytes;
    bool escaped;           /* KEY, STRING: holds at least one backslash (else token is the text itself) */
    int depth;              /* open objects and arrays, a just opened one counted */

    const char *text, *what; /* borrowed; what names the source in messages */
    size_t bytes, at;
    td_status status;       /* sticks */
    uint8_t expects;
    uint8_t is_object[TD_JSON_DEPTH / 8];
} td_json;

/* text need not end in NUL; both pointers must outlive the reader. A byte order mark is an error, as in RFC 8259. */
void td_json_begin(td_json *json, const char *text, size_t bytes, const char *what);

/* Reads the next token into json->kind. After TD_JSON_END it stays there. */
td_status td_json_next(td_json *json);

/* Reads the next token and demands its kind; role names it in the message ("the root", "\"vocab\""). */
td_status td_json_expect(td_json *json, td_json_kind kind, const char *role);

/* Passes over a value. After a KEY: the key's value. After OBJECT or ARRAY: up to and with its end. After a scalar: nothing. */
td_status td_json_skip(td_json *json);

/* KEY, STRING: true when the unescaped text is exactly this (NUL-terminated) one. */
bool td_json_equals(const td_json *json, const char *text);

/* KEY, STRING: writes the unescaped UTF-8 text into out, which has room for token_bytes + 1, puts a NUL behind it and returns its length (<= token_bytes). */
size_t td_json_text(const td_json *json, char *out);

/* NUMBER, or td_json_fail. i64 takes integers in range only ("1e3" and "1.0" are refused). role as above. */
td_status td_json_i64(td_json *json, const char *role, int64_t *out);
td_status td_json_f64(td_json *json, const char *role, double *out);

/* A sentence of the caller's own about the token read last, with the place in front. Sticks. */
td_status td_json_fail(td_json *json, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *td_json_kind_name(td_json_kind kind); /* "an object", "a string", ... */

#endif
