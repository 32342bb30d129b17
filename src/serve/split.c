/*
 * split.c - reasoning and tool calls out of generated text, by the formats that the model's own chat template shows (text/parsers.h). Nothing is lost: what
 * cannot be read comes out as content, with a warning by name.
 *
 * Marks of calls and of thinking are often special tokens, which the engine leaves out of text. A request that is parsed keeps special tokens, and
 * has the engine hide those that are no such marks (td_request_options.hidden), before it looks for stop strings.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "serve/serve.h"
#include "text/parsers.h"

struct td_splitter { td_parser *parser; bool in_reasoning, in_call, enough, ending; };

/* ---- special tokens ----------------------------------------------------------------------------------------------------------------------------- */

static bool is_mark(const char *text)
{
    static const char *const words[] = {"think", "tool", "python_tag", "steptml"};
    for (size_t i = 0; i < TD_COUNT(words); i++)
        if (strstr(text, words[i])) return true;
    return false;
}

/* One bit a token: it is special and no mark. */
td_status td_splitter_prepare(td_server *server)
{
    int vocab = server->info->vocab_size;
    size_t bytes, bytes_special;
    const char *source = server->info->chat_template;
    server->call_format = td_call_format_find(source ? source : "", source ? strlen(source) : 0, &server->reasons);
    server->hidden = td_arena_array(&server->arena, (size_t)vocab / 8 + 1, 1);
    if (!server->hidden) return TD_E_MEMORY;
    for (int32_t token = 0; server->info->has_tokenizer && token < vocab; token++) {
        char *plain, *special;
        if (td_detokenize(server->model, &token, 1, 0, &plain, &bytes) < 0) continue;
        td_free(plain);
        if (bytes || td_detokenize(server->model, &token, 1, TD_TOKENIZE_SPECIAL, &special, &bytes_special) < 0) continue;
        if (bytes_special && !is_mark(special)) server->hidden[token / 8] |= (uint8_t)(1 << token % 8);
        td_free(special);
    }
    return TD_OK;
}

/* ---- parts ------------------------------------------------------------------------------------------------------------------------------------------ */

static void warn(td_choice *c, const char *text, size_t bytes)
{
    if (!c->warning.bytes) atomic_fetch_add(&c->exchange->server->metrics.parser_warnings, 1);
    td_buffer_text(&c->warning, c->warning.bytes ? "; " : "");
    td_buffer_put(&c->warning, text, bytes);
    td_log(TD_LOG_WARN, "serve", "request id=%s: its text could not be parsed and was given as it is: %.*s", c->exchange->id, (int)bytes, text);
}

static void take_part(void *user, td_part_kind kind, int call, const char *text, size_t bytes)
{
    td_choice *c = user;
    if (c->splitter->enough) return;
    if (kind != TD_PART_WARNING) c->splitter->in_reasoning = kind == TD_PART_REASONING;
    switch (kind) {
    case TD_PART_REASONING: td_choice_emit(c, TD_PIECE_REASONING, -1, text, bytes); break;
    case TD_PART_CONTENT: td_choice_emit(c, TD_PIECE_CONTENT, -1, text, bytes); break;
    case TD_PART_CALL:
        c->splitter->in_call = true;
        if (td_choice_call(c, text, bytes) < 0) warn(c, "more tool calls than an answer may have", 39);
        break;
    case TD_PART_ARGUMENTS:
        if (call < c->call_count) td_choice_emit(c, TD_PIECE_ARGUMENTS, call, text, bytes);
        break;
    case TD_PART_CALL_END: /* where the text ends the parser ends calls that were cut off, too */
        if (c->splitter->ending) break;
        c->splitter->in_call = false;
        c->splitter->enough = !c->exchange->ask.parallel_tool_calls;
        break;
    case TD_PART_WARNING: warn(c, text, bytes); break;
    }
}

/* ---- life --------------------------------------------------------------------------------------------------------------------------------------------- */

/* Does the prompt end inside <think>? */
bool td_prompt_thinks(const td_prompt *prompt)
{
    size_t bytes = prompt->text_bytes;
    while (bytes && strchr(" \n\r\t", prompt->text[bytes - 1])) bytes--;
    return bytes >= 7 && !memcmp(prompt->text + bytes - 7, "<think>", 7);
}

bool td_splitter_thinks(const td_exchange *x, const td_prompt *prompt)
{
    bool raw = x->ask.reasoning_format && !strcmp(x->ask.reasoning_format, "none") && !x->ask.force_tool;
    return !raw && (x->server->reasons || td_prompt_thinks(prompt));
}

/* Chat shapes only; others take text as it is. */
td_status td_splitter_open(td_choice *c)
{
    td_exchange *x = c->exchange;
    const td_server *server = x->server;
    const cJSON *tools = x->converted_tools && x->converted_tools->child ? x->converted_tools : x->ask.tools;
    if (!x->shape || !x->shape->chats) return TD_OK;
    bool reasoning = td_splitter_thinks(x, c->prompt);
    td_parser_options options = {.calls = x->ask.force_tool ? TD_CALLS_HERMES : tools && tools->child ? server->call_format : TD_CALLS_NONE, .reasoning = reasoning,
                                 .starts_in_reasoning = reasoning && td_prompt_thinks(c->prompt), .starts_in_call = x->ask.force_tool, .tools = tools};
    c->splitter = calloc(1, sizeof *c->splitter);
    if (!c->splitter) return td_fail(TD_E_MEMORY, "request: no memory");
    c->splitter->in_reasoning = options.starts_in_reasoning;
    return td_parser_open(&options, take_part, c, &c->splitter->parser);
}

void td_splitter_put(td_choice *c, const char *text, size_t bytes)
{
    if (!c->splitter) td_choice_emit(c, TD_PIECE_CONTENT, -1, text, bytes);
    else if (bytes && td_parser_put(c->splitter->parser, text, bytes) < 0) td_choice_emit(c, TD_PIECE_CONTENT, -1, text, bytes); /* no memory: as it is */
}

void td_splitter_end(td_choice *c)
{
    if (c->splitter) c->splitter->ending = true;
    if (c->splitter && td_parser_end(c->splitter->parser) < 0) warn(c, "no memory for the end of the text", 33);
}

void td_splitter_close(td_choice *c)
{
    if (!c->splitter) return;
    td_parser_close(c->splitter->parser);
    free(c->splitter);
    c->splitter = NULL;
}

bool td_splitter_reasons(const td_choice *c) { return c->splitter && c->splitter->in_reasoning; }
bool td_splitter_in_call(const td_choice *c) { return c->splitter && c->splitter->in_call; }
bool td_splitter_enough(const td_choice *c) { return c->splitter && c->splitter->enough; }
