/* chat.c - POST /v1/chat/completions: the shape of OpenAI's chat API, with llama-server's additions (reasoning_content, timings, prompt_progress). */
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "serve/serve.h"

static td_status check_choice(td_exchange *x)
{
    const cJSON *choice = x->ask.tool_choice;
    if (!choice) return TD_OK;
    if (cJSON_IsString(choice)) {
        const char *word = choice->valuestring;
        if (strcmp(word, "none") && strcmp(word, "auto") && strcmp(word, "required"))
            return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected none, auto, required or an object, found \"%.40s\"", word);
        if (!strcmp(word, "none")) x->ask.tools = NULL;
        x->ask.force_tool = !strcmp(word, "required");
        if (x->ask.force_tool && !x->ask.tools) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected tools with \"required\", found none");
        return TD_OK;
    }
    static const char *const members[] = {"type", "function", NULL}, *const function_members[] = {"name", NULL};
    TD_TRY(td_fields_only(x, choice, "tool_choice", members));
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(choice, "function");
    const char *type = td_fields_string(choice, "type"), *name = cJSON_IsObject(function) ? td_fields_string(function, "name") : NULL;
    if (!type || strcmp(type, "function") || !name) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected {\"type\":\"function\",\"function\":{\"name\":...}}");
    TD_TRY(td_fields_only(x, function, "tool_choice.function", function_members));
    x->ask.force_tool = true;
    x->ask.forced_tool = name;
    for (const cJSON *tool = x->ask.tools ? x->ask.tools->child : NULL; tool; tool = tool->next)
        if (!strcmp(td_fields_string(cJSON_GetObjectItemCaseSensitive(tool, "function"), "name"), name)) return TD_OK;
    return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected the name of one of the tools, found \"%.80s\"", name);
}

static td_status prepare(td_exchange *x)
{
    td_ask *ask = &x->ask;
    ask->temperature = ask->top_p = 1;
    ask->parallel_tool_calls = true;
    TD_TRY(td_fields_read(x, &td_chat_fields));
    if (ask->max_tokens && ask->max_completion_tokens && ask->max_tokens != ask->max_completion_tokens)
        return td_serve_refuse(x, 400, "invalid_value", "max_completion_tokens", "max_completion_tokens: expected the same as max_tokens, or only one of them");
    if (ask->top_logprobs && !ask->logprobs) return td_serve_refuse(x, 400, "invalid_value", "top_logprobs", "top_logprobs: expected logprobs to be true with it");
    if (!ask->seed_given) randombytes_buf(&ask->seed, sizeof ask->seed);
    if (ask->tools) TD_TRY(td_tools_check(x, ask->tools));
    TD_TRY(check_choice(x));
    cJSON *messages;
    TD_TRY(td_messages_check(x, ask->messages, &messages));
    td_status status = td_prompt_from_messages(x, messages, ask->tools);
    cJSON_Delete(messages);
    if (status < 0 && x->http == 0) return td_serve_refuse_status(x, status, "messages");
    return status < 0 ? status : td_choices_make(x);
}

/* ---- log-probabilities -------------------------------------------------------------------------------------------------------------------------------- */

static void put_entry(td_choice *c, td_buffer *out, int32_t token, float logprob)
{
    size_t bytes = 0;
    char *text = td_token_text(c->exchange->server, token, &bytes);
    td_buffer_text(out, "\"token\":");
    td_buffer_json(out, text ? text : "", bytes);
    td_buffer_format(out, ",\"id\":%d,\"logprob\":%.6f,\"bytes\":", token, logprob < -9999 ? -9999.0 : (double)logprob);
    td_token_bytes(out, text ? text : "", bytes);
    td_free(text);
}

static void token(td_choice *c, const td_event *e)
{
    const td_ask *ask = &c->exchange->ask;
    if (ask->return_tokens) td_buffer_format(&c->tokens_json, "%s%d", c->tokens_json.bytes ? "," : "", e->token);
    if (!ask->logprobs) return;
    td_buffer *out = &c->logprobs;
    td_buffer_text(out, out->bytes ? ",{" : "{");
    put_entry(c, out, e->token, e->logprob);
    td_buffer_text(out, ",\"top_logprobs\":[");
    for (int i = 0; i < e->top_count && i < ask->top_logprobs; i++) {
        td_buffer_text(out, i ? ",{" : "{");
        put_entry(c, out, e->top[i].token, e->top[i].logprob);
        td_buffer_text(out, "}");
    }
    td_buffer_text(out, "]}");
}

/* Writes and empties what was noted. */
static void put_logprobs(td_choice *c, td_buffer *out)
{
    if (c->exchange->ask.logprobs) {
        td_buffer_text(out, "{\"content\":[");
        td_buffer_put(out, c->logprobs.data, c->logprobs.bytes);
        td_buffer_text(out, "],\"refusal\":null}");
        td_buffer_clear(&c->logprobs);
    } else {
        td_buffer_text(out, "null");
    }
    if (c->tokens_json.bytes) {
        td_buffer_text(out, ",\"tokens\":[");
        td_buffer_put(out, c->tokens_json.data, c->tokens_json.bytes);
        td_buffer_text(out, "]");
        td_buffer_clear(&c->tokens_json);
    }
}

/* ---- stream ----------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_head(td_exchange *x, const char *object)
{
    td_buffer_format(&x->out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", x->id, object, (long long)x->created_s);
    td_body_text(&x->out, x->server->name);
    td_buffer_format(&x->out, ",\"system_fingerprint\":\"fp_%016llx\",", (unsigned long long)x->server->info->fingerprint);
}

static void begin_chunk(td_choice *c)
{
    td_buffer_text(&c->exchange->out, "data: ");
    put_head(c->exchange, "chat.completion.chunk");
    td_buffer_format(&c->exchange->out, "\"choices\":[{\"index\":%d,\"delta\":{", c->index);
}

static void end_chunk(td_choice *c, const char *reason)
{
    td_exchange *x = c->exchange;
    td_buffer *out = &x->out;
    td_buffer_text(out, "},\"logprobs\":");
    put_logprobs(c, out);
    if (reason) td_buffer_format(out, ",\"finish_reason\":\"%s\"", reason);
    else td_buffer_text(out, ",\"finish_reason\":null");
    if (reason && c->warning.bytes) {
        td_buffer_text(out, ",\"warning\":");
        td_buffer_json(out, c->warning.data, c->warning.bytes);
    }
    td_buffer_text(out, "}]");
    if (x->ask.include_usage) td_buffer_text(out, ",\"usage\":null");
    if (reason || x->ask.timings_per_token) {
        td_buffer_text(out, ",\"timings\":");
        td_choice_timings(c, out);
    }
    td_buffer_text(out, "}\n\n");
}

static void open(td_exchange *x)
{
    for (int i = 0; i < x->choice_count; i++) {
        begin_chunk(&x->choices[i]);
        td_buffer_text(&x->out, "\"role\":\"assistant\",\"content\":\"\"");
        end_chunk(&x->choices[i], NULL);
    }
}

static void piece(td_choice *c, const td_piece *p)
{
    td_buffer *out = &c->exchange->out;
    begin_chunk(c);
    switch (p->kind) {
    case TD_PIECE_CONTENT:
    case TD_PIECE_REASONING:
        td_buffer_text(out, p->kind == TD_PIECE_CONTENT ? "\"content\":" : "\"reasoning_content\":");
        td_buffer_json(out, p->text, p->bytes);
        break;
    case TD_PIECE_CALL:
        td_buffer_format(out, "\"tool_calls\":[{\"index\":%d,\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", p->call, c->calls[p->call].id);
        td_buffer_json(out, p->text, p->bytes);
        td_buffer_text(out, ",\"arguments\":\"\"}}]");
        break;
    case TD_PIECE_ARGUMENTS:
        td_buffer_format(out, "\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":", p->call);
        td_buffer_json(out, p->text, p->bytes);
        td_buffer_text(out, "}}]");
        break;
    }
    end_chunk(c, NULL);
}

static void end_choice(td_choice *c)
{
    begin_chunk(c);
    end_chunk(c, td_choice_reason(c));
}

static void close_stream(td_exchange *x)
{
    if (x->ask.include_usage) {
        td_buffer_text(&x->out, "data: ");
        put_head(x, "chat.completion.chunk");
        td_buffer_text(&x->out, "\"choices\":[],\"usage\":");
        td_generate_usage(x, &x->out);
        td_buffer_text(&x->out, "}\n\n");
    }
    td_buffer_text(&x->out, "data: [DONE]\n\n");
}

static void progress(td_choice *c, const td_event *e)
{
    td_exchange *x = c->exchange;
    td_buffer_text(&x->out, "data: ");
    put_head(x, "chat.completion.chunk");
    td_buffer_format(&x->out, "\"choices\":[{\"index\":%d,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}],\"prompt_progress\":{\"total\":%lld,\"cache\":%lld,\"processed\":%lld,\"time_ms\":%.1f}}\n\n",
                     c->index, (long long)e->total, (long long)e->cached_tokens, (long long)e->done, (double)(td_now_ns() - c->admitted_ns) * 1e-6);
}

/* ---- whole ------------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_calls(td_choice *c, td_buffer *out)
{
    td_buffer_text(out, ",\"tool_calls\":[");
    for (int i = 0; i < c->call_count; i++) {
        td_buffer_format(out, "%s{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", i ? "," : "", c->calls[i].id);
        td_buffer_json(out, c->calls[i].name.data ? c->calls[i].name.data : "", c->calls[i].name.bytes);
        td_buffer_text(out, ",\"arguments\":");
        td_buffer_json(out, c->calls[i].arguments.data ? c->calls[i].arguments.data : "", c->calls[i].arguments.bytes);
        td_buffer_text(out, "}}");
    }
    td_buffer_text(out, "]");
}

static void put_choice(td_choice *c, td_buffer *out)
{
    td_buffer_format(out, "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", c->index);
    if (c->call_count && !c->content.bytes) td_buffer_text(out, "null");
    else td_buffer_json(out, c->content.data ? c->content.data : "", c->content.bytes);
    td_buffer_text(out, ",\"refusal\":null");
    if (c->reasoning.bytes) {
        td_buffer_text(out, ",\"reasoning_content\":");
        td_buffer_json(out, c->reasoning.data, c->reasoning.bytes);
    }
    if (c->call_count) put_calls(c, out);
    td_buffer_text(out, "},\"logprobs\":");
    put_logprobs(c, out);
    td_buffer_format(out, ",\"finish_reason\":\"%s\"", td_choice_reason(c));
    if (c->warning.bytes) {
        td_buffer_text(out, ",\"warning\":");
        td_buffer_json(out, c->warning.data, c->warning.bytes);
    }
    td_buffer_text(out, "}");
}

static void whole(td_exchange *x)
{
    put_head(x, "chat.completion");
    td_buffer_text(&x->out, "\"choices\":[");
    for (int i = 0; i < x->choice_count; i++) {
        if (i) td_buffer_text(&x->out, ",");
        put_choice(&x->choices[i], &x->out);
    }
    td_buffer_text(&x->out, "],\"usage\":");
    td_generate_usage(x, &x->out);
    td_buffer_text(&x->out, ",\"timings\":");
    td_choice_timings(&x->choices[0], &x->out);
    td_buffer_text(&x->out, "}");
}

const td_shape td_chat_shape = {.name = "chat", .id_prefix = "chatcmpl-", .chats = true, .prepare = prepare, .open = open, .piece = piece, .token = token, .progress = progress,
                                .end_choice = end_choice, .close = close_stream, .fault = td_fault_event, .whole = whole};
