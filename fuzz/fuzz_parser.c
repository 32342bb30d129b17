/*
 * fuzz_parser.c - what a model said, through the parser of reasoning and calls: the first byte chooses the format and the options, the second how the text is cut.
 * Whatever came in: in one piece or in many the same parts; a call begins, has arguments and ends in this order, arguments
 * that are made here (step3) are one JSON object, and nothing is lost: without a call the parts, joined, are the text less the tags of reasoning and white space.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "text/parsers.h"

static const char tools_json[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"},\"s\":{\"type\":\"string\"},"
    "\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},\"l\":{\"type\":\"array\"},\"x\":{}}}}}]";

/* parts: kinds, numbers and texts, neighbours of a kind joined; plain: reasoning and content only; arguments: of the call that is open. */
typedef struct { td_buffer parts, plain, arguments; td_part_kind last; int call, calls, warnings; bool any, open, made; } collected;

static void fail(const char *what, const collected *c)
{
    fprintf(stderr, "%s; parts so far: %.*s\n", what, (int)c->parts.bytes, c->parts.data ? c->parts.data : "");
    abort();
}

static void check_order(collected *c, td_part_kind kind, int call, const char *text, size_t bytes)
{
    switch (kind) {
    case TD_PART_CALL:
        if (c->open || call != c->calls) fail("a call begins inside another, or its number is not the next", c);
        c->open = true;
        td_buffer_clear(&c->arguments);
        break;
    case TD_PART_ARGUMENTS:
        if (!c->open || call != c->calls) fail("arguments without their call", c);
        td_buffer_put(&c->arguments, text, bytes);
        break;
    case TD_PART_CALL_END:
        if (!c->open || call != c->calls || bytes) fail("the end of a call that is not open", c);
        c->open = false;
        c->calls++;
        if (!c->made || c->warnings) break; /* others pass on what the model wrote */
        cJSON *object = cJSON_ParseWithLength(c->arguments.data ? c->arguments.data : "", c->arguments.bytes);
        if (!cJSON_IsObject(object)) fail("arguments that are no JSON object", c);
        cJSON_Delete(object);
        break;
    case TD_PART_WARNING:
        if (!bytes) fail("a warning that says nothing", c);
        c->warnings++;
        break;
    default:
        if (c->open) fail("text inside a call", c);
        if (call != -1) fail("text with the number of a call", c);
        td_buffer_put(&c->plain, text, bytes);
    }
}

static void collect(void *user, td_part_kind kind, int call, const char *text, size_t bytes)
{
    collected *c = user;
    check_order(c, kind, call, text, bytes);
    if (!c->any || c->last != kind || c->call != call || kind == TD_PART_WARNING) td_buffer_format(&c->parts, "\n%d %d:", kind, call);
    td_buffer_put(&c->parts, text, bytes);
    c->any = true, c->last = kind, c->call = call;
}

static void parse(const td_parser_options *options, const char *text, size_t bytes, unsigned cut, collected *c)
{
    td_parser *p;
    *c = (collected){.made = options->calls == TD_CALLS_STEP3};
    if (td_parser_open(options, collect, c, &p) < 0) abort();
    for (size_t at = 0, n; at < bytes; at += n) {
        n = cut ? 1 + cut % 7 : bytes;
        cut = cut ? cut * 1103515245u + 12345u : 0;
        n = TD_MIN(n, bytes - at);
        char *exact = malloc(n); /* so that a read behind the piece is seen */
        if (!exact) abort();
        memcpy(exact, text + at, n);
        if (td_parser_put(p, exact, n) < 0) abort();
        free(exact);
    }
    if (td_parser_end(p) < 0) abort();
    td_parser_close(p);
}

static void release(collected *c)
{
    td_buffer_free(&c->parts);
    td_buffer_free(&c->plain);
    td_buffer_free(&c->arguments);
}

static bool ends_with(const td_buffer *text, const char *tag)
{
    size_t n = strlen(tag);
    return text->bytes >= n && !memcmp(text->data + text->bytes - n, tag, n);
}

/* Text without white space and without tags of reasoning, also those that come about where one was taken out: parsers may take only these from plain text. */
static void essence(const char *text, size_t bytes, td_buffer *out)
{
    for (size_t i = 0; i < bytes; i++) {
        if (isspace((unsigned char)text[i])) continue;
        td_buffer_put(out, text + i, 1);
        out->bytes -= ends_with(out, "<think>") ? 7 : ends_with(out, "</think>") ? 8 : 0;
    }
}

static bool same_essence(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    td_buffer x = {0}, y = {0};
    essence(a, a_bytes, &x);
    essence(b, b_bytes, &y);
    bool same = x.bytes == y.bytes && (x.bytes == 0 || !memcmp(x.data, y.data, x.bytes));
    td_buffer_free(&x);
    td_buffer_free(&y);
    return same;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 2 || bytes > 1 << 14) return 0;
    static cJSON *tools;
    if (!tools) tools = cJSON_Parse(tools_json);
    td_parser_options options = {.calls = (td_call_format)(data[0] % 5), .reasoning = data[0] & 32, .starts_in_reasoning = (data[0] & 96) == 96, .tools = data[0] & 128 ? tools : NULL};
    options.starts_in_call = options.calls == TD_CALLS_HERMES && data[1] & 128;
    const char *text = (const char *)data + 2;
    size_t count = bytes - 2;
    collected whole, cut;
    parse(&options, text, count, 0, &whole);
    for (unsigned i = 0; i < 3; i++) {
        parse(&options, text, count, 1 + data[1] + 977 * i, &cut);
        if (cut.parts.bytes != whole.parts.bytes || (whole.parts.bytes && memcmp(cut.parts.data, whole.parts.data, whole.parts.bytes))) {
            fprintf(stderr, "in one piece: %.*s\n", (int)whole.parts.bytes, whole.parts.data ? whole.parts.data : "");
            fail("cut otherwise, other parts", &cut);
        }
        release(&cut);
    }
    if (whole.calls == 0 && !whole.open && !options.starts_in_call && !same_essence(text, count, whole.plain.data ? whole.plain.data : "", whole.plain.bytes)) fail("text without a call is not the text that went in", &whole);
    release(&whole);
    return 0;
}
