/*
 * parsers.h - generated text, as it streams, into reasoning, content and tool calls.
 * Fail-open: every byte that was put in and is not markup of a call that was understood comes out as reasoning or content. What begins like a call and
 * cannot be read comes out as content, unchanged, behind a TD_PART_WARNING that says so.
 */
#ifndef TD_TEXT_PARSERS_H
#define TD_TEXT_PARSERS_H

#include <cjson/cJSON.h>

#include "base/status.h"

typedef enum {
    TD_CALLS_NONE,     /* text is never read as a call */
    TD_CALLS_HERMES,   /* Qwen3 and others: <tool_call>{"name": .., "arguments": {..}}</tool_call> */
    TD_CALLS_DEEPSEEK, /* <tool_calls_begin><tool_call_begin>function<tool_sep>NAME, a fence of json, ..; and the shorter form of V3.1 */
    TD_CALLS_STEP3,    /* <tool_calls_begin><tool_call_begin>function<tool_sep><steptml:invoke name=".."><steptml:parameter name="..">..; values typed by the schema */
    TD_CALLS_LLAMA3,   /* a reply that is {"name": .., "parameters": {..}}, or the same behind <|python_tag|> */
} td_call_format;

typedef enum {
    TD_PART_REASONING, /* text of the model's thinking, without its tags */
    TD_PART_CONTENT,   /* text for the reader */
    TD_PART_CALL,      /* a call begins: text is its function's name */
    TD_PART_ARGUMENTS, /* more of the call's arguments; all of a call's parts joined are one JSON object, as far as what the model wrote between its braces is JSON */
    TD_PART_CALL_END,  /* the call is complete (text empty) */
    TD_PART_WARNING,   /* text says what could not be read; nothing of the output is in it */
} td_part_kind;

/* call: number of the call from 0 (CALL, ARGUMENTS, CALL_END), else -1. text is valid during the call only. */
typedef void (*td_part_fn)(void *user, td_part_kind kind, int call, const char *text, size_t bytes);

typedef struct {
    td_call_format calls;
    bool reasoning;            /* split <think>..</think> off */
    bool starts_in_reasoning;  /* the prompt ended inside <think>: without </think> everything is reasoning */
    bool starts_in_call;       /* TD_CALLS_HERMES: what follows the reasoning (or begins the text) is a call's JSON, its opening mark was in the prompt or is left out */
    const cJSON *tools;        /* OpenAI's list, for the types of step3's parameters; borrowed; NULL: every value is a string */
} td_parser_options;

typedef struct td_parser td_parser;

td_status td_parser_open(const td_parser_options *options, td_part_fn fn, void *user, td_parser **out);
td_status td_parser_put(td_parser *parser, const char *text, size_t bytes); /* TD_E_MEMORY only */
td_status td_parser_end(td_parser *parser);                                 /* gives out what was held back */
void td_parser_close(td_parser *parser);

/* The format whose marks a chat template's source holds; TD_CALLS_NONE when it holds none. *reasons: it knows <think>. */
td_call_format td_call_format_find(const char *template_source, size_t bytes, bool *reasons);

#endif
