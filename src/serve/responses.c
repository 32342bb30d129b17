/*
 * responses.c - POST /v1/responses: OpenAI's newer shape, without stored state. Input items become messages; an answer is a list of items (reasoning, message,
 * function calls) that a stream opens, fills and closes one after the other.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"

typedef enum { ITEM_NONE, ITEM_REASONING, ITEM_MESSAGE, ITEM_CALL } item_kind;
typedef struct { item_kind open; int index, call; long long sequence; char id[48]; size_t text_from; td_buffer done; } stream_state;

/* ---- request --------------------------------------------------------------------------------------------------------------------------------------------------- */

/* answer: it may also hold refusals, whose text is in their own member. */
static td_status join_parts(td_exchange *x, const cJSON *content, const char *where, bool answer, td_buffer *out)
{
    static const char *const members[] = {"type", "text", "annotations", "logprobs", "parsed", NULL}, *const refusal_members[] = {"type", "refusal", NULL};
    td_buffer_put(out, "", 0);
    if (cJSON_IsString(content)) {
        td_buffer_text(out, content->valuestring);
        return TD_OK;
    }
    if (!cJSON_IsArray(content)) return td_serve_refuse(x, 400, "invalid_type", where, "%s.content: expected a string or an array of parts, found %s", where, content ? td_body_kind(content) : "nothing");
    for (const cJSON *part = content->child; part; part = part->next) {
        const char *type = cJSON_IsObject(part) ? td_fields_string(part, "type") : NULL;
        bool refusal = answer && type && !strcmp(type, "refusal");
        const char *text = type ? td_fields_string(part, refusal ? "refusal" : "text") : NULL;
        if (!type || !text || (!refusal && strcmp(type, "input_text") && strcmp(type, "output_text") && strcmp(type, "reasoning_text") && strcmp(type, "summary_text")))
            return td_serve_refuse(x, 400, "unsupported_value", where, "%s.content: expected input_text or output_text parts, found \"%.40s\"; this model takes text only", where, type ? type : "");
        TD_TRY(td_fields_only(x, part, where, refusal ? refusal_members : members));
        td_buffer_text(out, text);
    }
    return TD_OK;
}

static cJSON *add_message(cJSON *messages, const char *role, const char *content)
{
    cJSON *message = cJSON_CreateObject();
    if (!message) return NULL;
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content ? content : "");
    cJSON_AddItemToArray(messages, message);
    return message;
}

static td_status take_message(td_exchange *x, const cJSON *item, const char *where, cJSON *messages, td_buffer *reasoning)
{
    static const char *const members[] = {"type", "role", "content", "id", "status", "phase", NULL};
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    TD_TRY(td_fields_only(x, item, where, members));
    const char *role = td_fields_string(item, "role");
    size_t known = 0;
    while (role && known < TD_COUNT(roles) && strcmp(role, roles[known])) known++;
    if (!role || known == TD_COUNT(roles)) return td_serve_refuse(x, 400, "invalid_value", where, "%s.role: expected user, assistant, system or developer, found \"%.40s\"", where, role ? role : "");
    td_buffer text = {0};
    td_status status = join_parts(x, cJSON_GetObjectItemCaseSensitive(item, "content"), where, !strcmp(role, "assistant"), &text);
    cJSON *message = status == TD_OK ? add_message(messages, strcmp(role, "developer") ? role : "system", text.data) : NULL;
    if (message && !strcmp(role, "assistant") && reasoning->bytes) {
        cJSON_AddStringToObject(message, "reasoning_content", reasoning->data);
        td_buffer_clear(reasoning);
    }
    td_buffer_free(&text);
    return status;
}

/* A call joins the assistant's message before it. */
static td_status take_call(td_exchange *x, const cJSON *item, const char *where, cJSON *messages, td_buffer *reasoning)
{
    static const char *const members[] = {"type", "id", "call_id", "name", "arguments", "status", "parsed_arguments", NULL};
    TD_TRY(td_fields_only(x, item, where, members));
    const char *id = td_fields_string(item, "call_id"), *name = td_fields_string(item, "name"), *arguments = td_fields_string(item, "arguments");
    if (!id || !name || !arguments) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s: expected a function_call with call_id, name and arguments", where);
    int count = cJSON_GetArraySize(messages);
    cJSON *last = count ? cJSON_GetArrayItem(messages, count - 1) : NULL;
    if (!last || strcmp(td_fields_string(last, "role"), "assistant")) last = add_message(messages, "assistant", "");
    if (!last) return td_fail(TD_E_MEMORY, "input: no memory");
    if (reasoning->bytes) {
        cJSON_AddStringToObject(last, "reasoning_content", reasoning->data);
        td_buffer_clear(reasoning);
    }
    cJSON *calls = cJSON_GetObjectItemCaseSensitive(last, "tool_calls");
    if (!calls) calls = cJSON_AddArrayToObject(last, "tool_calls");
    cJSON *call = cJSON_CreateObject(), *function = cJSON_CreateObject();
    cJSON_AddStringToObject(call, "id", id);
    cJSON_AddStringToObject(call, "type", "function");
    cJSON_AddStringToObject(function, "name", name);
    cJSON_AddStringToObject(function, "arguments", arguments);
    cJSON_AddItemToObject(call, "function", function);
    cJSON_AddItemToArray(calls, call);
    return TD_OK;
}

static td_status take_output(td_exchange *x, const cJSON *item, const char *where, cJSON *messages)
{
    static const char *const members[] = {"type", "id", "call_id", "output", "status", NULL};
    TD_TRY(td_fields_only(x, item, where, members));
    const char *id = td_fields_string(item, "call_id");
    if (!id) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.call_id: expected a string", where);
    td_buffer text = {0};
    td_status status = join_parts(x, cJSON_GetObjectItemCaseSensitive(item, "output"), where, false, &text);
    cJSON *message = status == TD_OK ? add_message(messages, "tool", text.data) : NULL;
    if (message) cJSON_AddStringToObject(message, "tool_call_id", id);
    td_buffer_free(&text);
    return status;
}

static td_status take_reasoning(td_exchange *x, const cJSON *item, const char *where, td_buffer *reasoning)
{
    static const char *const members[] = {"type", "id", "summary", "content", "status", NULL};
    TD_TRY(td_fields_only(x, item, where, members));
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
    if (!content || cJSON_IsNull(content)) content = cJSON_GetObjectItemCaseSensitive(item, "summary");
    return content ? join_parts(x, content, where, false, reasoning) : TD_OK;
}

static td_status convert_input(td_exchange *x, cJSON *messages)
{
    td_buffer reasoning = {0};
    td_status status = TD_OK;
    int index = 0;
    if (x->ask.instructions) add_message(messages, "system", x->ask.instructions);
    if (cJSON_IsString(x->ask.input)) return add_message(messages, "user", x->ask.input->valuestring) ? TD_OK : td_fail(TD_E_MEMORY, "input: no memory");
    for (const cJSON *item = x->ask.input->child; item && status == TD_OK; item = item->next, index++) {
        char where[48];
        snprintf(where, sizeof where, "input[%d]", index);
        const char *type = cJSON_IsObject(item) ? td_fields_string(item, "type") : NULL;
        if (!cJSON_IsObject(item)) status = td_serve_refuse(x, 400, "invalid_type", where, "%s: expected an object, found %s", where, td_body_kind(item));
        else if (td_fields_kind(x, item, where, "type", TD_KIND_STRING) < 0) status = TD_E_INVALID;
        else if (!type || !strcmp(type, "message")) status = take_message(x, item, where, messages, &reasoning);
        else if (!strcmp(type, "function_call")) status = take_call(x, item, where, messages, &reasoning);
        else if (!strcmp(type, "function_call_output")) status = take_output(x, item, where, messages);
        else if (!strcmp(type, "reasoning")) status = take_reasoning(x, item, where, &reasoning);
        else status = td_serve_refuse(x, 400, "unsupported_value", where, "%s.type: expected message, function_call, function_call_output or reasoning, found \"%.40s\"", where, type);
    }
    td_buffer_free(&reasoning);
    if (status == TD_OK && !messages->child) return td_serve_refuse(x, 400, "invalid_value", "input", "input: expected at least one item, found none");
    return status;
}

static td_status convert_tools(td_exchange *x, cJSON *out)
{
    static const char *const members[] = {"type", "name", "description", "parameters", "strict", NULL};
    int index = 0;
    for (const cJSON *tool = x->ask.tools->child; tool; tool = tool->next, index++) {
        char where[48];
        snprintf(where, sizeof where, "tools[%d]", index);
        const char *type = cJSON_IsObject(tool) ? td_fields_string(tool, "type") : NULL, *name = cJSON_IsObject(tool) ? td_fields_string(tool, "name") : NULL;
        if (!type || strcmp(type, "function")) return td_serve_refuse(x, 400, "unsupported_value", where, "%s.type: expected \"function\", found \"%.40s\"; tools that run on the server are not supported", where, type ? type : "");
        TD_TRY(td_fields_only(x, tool, where, members));
        if (!name || !*name) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.name: expected a string", where);
        cJSON *own = cJSON_CreateObject(), *function = cJSON_Duplicate(tool, 1);
        cJSON_DeleteItemFromObjectCaseSensitive(function, "type");
        cJSON_AddStringToObject(own, "type", "function");
        cJSON_AddItemToObject(own, "function", function);
        cJSON_AddItemToArray(out, own);
    }
    return out->child ? td_tools_check(x, out) : TD_OK;
}

static td_status convert_choice(td_exchange *x)
{
    const cJSON *choice = x->ask.tool_choice;
    if (!choice) return TD_OK;
    if (cJSON_IsString(choice)) {
        const char *word = choice->valuestring;
        if (strcmp(word, "none") && strcmp(word, "auto") && strcmp(word, "required")) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected none, auto, required or an object, found \"%.40s\"", word);
        if (!strcmp(word, "none")) x->ask.tools = NULL;
        x->ask.force_tool = !strcmp(word, "required");
        return TD_OK;
    }
    static const char *const members[] = {"type", "name", NULL};
    TD_TRY(td_fields_only(x, choice, "tool_choice", members));
    const char *type = td_fields_string(choice, "type");
    x->ask.forced_tool = td_fields_string(choice, "name");
    x->ask.force_tool = true;
    return x->ask.forced_tool && type && !strcmp(type, "function") ? TD_OK : td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected {\"type\":\"function\",\"name\":...}");
}

static td_status prepare(td_exchange *x)
{
    x->ask.temperature = x->ask.top_p = 1;
    x->ask.parallel_tool_calls = true;
    TD_TRY(td_fields_read(x, &td_responses_fields));
    if (!x->ask.seed_given) randombytes_buf(&x->ask.seed, sizeof x->ask.seed);
    TD_TRY(convert_choice(x));
    cJSON *messages = cJSON_CreateArray(), *tools = x->converted_tools = cJSON_CreateArray();
    td_status status = messages && tools ? convert_input(x, messages) : td_fail(TD_E_MEMORY, "input: no memory");
    if (status == TD_OK && x->ask.tools) status = convert_tools(x, tools);
    if (status == TD_OK) status = td_prompt_from_messages(x, messages, tools);
    cJSON_Delete(messages);
    if (status < 0 && x->http == 0) return td_serve_refuse_status(x, status, "input");
    TD_TRY(status);
    x->shape_state = TD_NEW(&x->arena, stream_state, 1);
    return x->shape_state ? td_choices_make(x) : TD_E_MEMORY;
}

/* ---- items --------------------------------------------------------------------------------------------------------------------------------------------------------- */

/* end: its status when it has ended, or NULL. */
static void put_item(const td_choice *c, item_kind kind, int call, const char *id, const char *end, size_t text_from, td_buffer *out)
{
    const char *status = end ? end : "in_progress";
    if (kind == ITEM_MESSAGE) {
        td_buffer_format(out, "{\"id\":\"%s\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\",\"content\":[", id, status);
        if (end) {
            td_buffer_text(out, "{\"type\":\"output_text\",\"text\":");
            td_buffer_json(out, c->content.data ? c->content.data + text_from : "", c->content.bytes - text_from);
            td_buffer_text(out, ",\"annotations\":[],\"logprobs\":[]}");
        }
        td_buffer_text(out, "]}");
    } else if (kind == ITEM_REASONING) {
        td_buffer_format(out, "{\"id\":\"%s\",\"type\":\"reasoning\",\"summary\":[],\"status\":\"%s\",\"content\":[", id, status);
        if (end) {
            td_buffer_text(out, "{\"type\":\"reasoning_text\",\"text\":");
            td_buffer_json(out, c->reasoning.data ? c->reasoning.data + text_from : "", c->reasoning.bytes - text_from);
            td_buffer_text(out, "}");
        }
        td_buffer_text(out, "]}");
    } else {
        const td_call *k = &c->calls[call];
        td_buffer_format(out, "{\"id\":\"%s\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":\"%s\",\"name\":", id, status, k->id);
        td_buffer_json(out, k->name.data ? k->name.data : "", k->name.bytes);
        td_buffer_text(out, ",\"arguments\":");
        td_buffer_json(out, k->arguments.data ? k->arguments.data : "", k->arguments.bytes);
        td_buffer_text(out, "}");
    }
}

static void put_response(td_exchange *x, const char *status, const char *items, const char *reason, bool usage, const td_fault *fault)
{
    td_buffer *out = &x->out;
    const td_ask *ask = &x->ask;
    td_buffer_format(out, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,\"error\":", x->id, (long long)x->created_s, status);
    if (fault) {
        td_buffer_format(out, "{\"code\":\"%s\",\"message\":", fault->code);
        td_body_text(out, fault->message);
        td_buffer_text(out, "}");
    } else {
        td_buffer_text(out, "null");
    }
    if (reason) td_buffer_format(out, ",\"incomplete_details\":{\"reason\":\"%s\"}", reason);
    else td_buffer_text(out, ",\"incomplete_details\":null");
    td_buffer_text(out, ",\"instructions\":");
    if (ask->instructions) td_body_text(out, ask->instructions);
    else td_buffer_text(out, "null");
    if (ask->max_tokens) td_buffer_format(out, ",\"max_output_tokens\":%lld", (long long)ask->max_tokens);
    else td_buffer_text(out, ",\"max_output_tokens\":null");
    td_buffer_text(out, ",\"model\":");
    td_body_text(out, x->server->name);
    td_buffer_format(out, ",\"output\":[%s],\"parallel_tool_calls\":%s,\"previous_response_id\":null,\"store\":false,\"temperature\":%g,\"top_p\":%g,\"truncation\":\"disabled\",\"tool_choice\":", items,
                     ask->parallel_tool_calls ? "true" : "false", ask->temperature, ask->top_p);
    if (ask->tool_choice) td_body_put(out, ask->tool_choice);
    else td_buffer_text(out, "\"auto\"");
    td_buffer_text(out, ",\"tools\":");
    if (ask->tools) td_body_put(out, ask->tools);
    else td_buffer_text(out, "[]");
    td_buffer_text(out, ",\"reasoning\":{\"effort\":");
    if (ask->reasoning_effort) td_body_text(out, ask->reasoning_effort);
    else td_buffer_text(out, "null");
    td_buffer_text(out, ",\"summary\":null},\"text\":");
    if (ask->response_format) td_body_put(out, ask->response_format);
    else td_buffer_text(out, "{\"format\":{\"type\":\"text\"}}");
    td_buffer_text(out, ",\"metadata\":");
    if (ask->metadata) td_body_put(out, ask->metadata);
    else td_buffer_text(out, "{}");
    td_buffer_text(out, ",\"usage\":");
    if (usage) {
        int64_t cached, reasoning, prompt = td_usage_prompt(x, &cached), generated = td_usage_generated(x, &reasoning);
        td_buffer_format(out, "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld,\"cache_write_tokens\":0},\"output_tokens\":%lld,\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
                         (long long)prompt, (long long)cached, (long long)generated, (long long)reasoning, (long long)(prompt + generated));
    } else {
        td_buffer_text(out, "null");
    }
    td_buffer_text(out, "}");
}

/* ---- stream -------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void begin_event(td_exchange *x, const char *type)
{
    stream_state *s = x->shape_state;
    td_buffer_format(&x->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", type, type, s->sequence++);
}

static void end_event(td_exchange *x) { td_buffer_text(&x->out, "}\n\n"); }

static void response_event(td_exchange *x, const char *type, const char *status, const char *items, const char *reason, bool usage, const td_fault *fault)
{
    begin_event(x, type);
    td_buffer_text(&x->out, ",\"response\":");
    put_response(x, status, items, reason, usage, fault);
    end_event(x);
}

static void open(td_exchange *x)
{
    response_event(x, "response.created", "in_progress", "", NULL, false, NULL);
    response_event(x, "response.in_progress", "in_progress", "", NULL, false, NULL);
}

static void part_event(td_exchange *x, const char *type, bool reasoning, const char *text, size_t bytes)
{
    const stream_state *s = x->shape_state;
    begin_event(x, type);
    td_buffer_format(&x->out, ",\"item_id\":\"%s\",\"output_index\":%d,\"content_index\":0,\"part\":{\"type\":\"%s\",\"text\":", s->id, s->index, reasoning ? "reasoning_text" : "output_text");
    td_buffer_json(&x->out, text, bytes);
    td_buffer_text(&x->out, reasoning ? "}" : ",\"annotations\":[],\"logprobs\":[]}");
    end_event(x);
}

static void text_event(td_exchange *x, const char *type, const char *member, const char *text, size_t bytes, bool logprobs)
{
    const stream_state *s = x->shape_state;
    begin_event(x, type);
    td_buffer_format(&x->out, ",\"item_id\":\"%s\",\"output_index\":%d,", s->id, s->index);
    if (s->open != ITEM_CALL) td_buffer_text(&x->out, "\"content_index\":0,");
    td_buffer_format(&x->out, "\"%s\":", member);
    td_buffer_json(&x->out, text, bytes);
    if (logprobs) td_buffer_text(&x->out, ",\"logprobs\":[]");
    end_event(x);
}

static void close_item(td_choice *c, const char *status)
{
    td_exchange *x = c->exchange;
    stream_state *s = x->shape_state;
    if (s->open == ITEM_NONE) return;
    const td_buffer *text = s->open == ITEM_REASONING ? &c->reasoning : s->open == ITEM_MESSAGE ? &c->content : &c->calls[s->call].arguments;
    const char *from = text->data ? text->data + s->text_from : "";
    size_t bytes = text->bytes - s->text_from;
    if (s->open == ITEM_CALL) {
        text_event(x, "response.function_call_arguments.done", "arguments", from, bytes, false);
    } else {
        bool reasoning = s->open == ITEM_REASONING;
        text_event(x, reasoning ? "response.reasoning_text.done" : "response.output_text.done", "text", from, bytes, !reasoning);
        part_event(x, "response.content_part.done", reasoning, from, bytes);
    }
    td_buffer item = {0};
    put_item(c, s->open, s->call, s->id, status, s->text_from, &item);
    begin_event(x, "response.output_item.done");
    td_buffer_format(&x->out, ",\"output_index\":%d,\"item\":%s", s->index++, item.data ? item.data : "{}");
    end_event(x);
    td_buffer_text(&s->done, s->done.bytes ? "," : "");
    td_buffer_put(&s->done, item.data, item.bytes);
    td_buffer_free(&item);
    s->open = ITEM_NONE;
}

/* bytes: how much of the item's text was kept already when it opens. */
static void open_item(td_choice *c, item_kind kind, int call, size_t bytes)
{
    static const char *const prefixes[] = {"", "rs_", "msg_", "fc_"};
    td_exchange *x = c->exchange;
    stream_state *s = x->shape_state;
    if (s->open == kind && kind != ITEM_CALL) return;
    close_item(c, "completed");
    s->open = kind;
    s->call = call;
    s->text_from = kind == ITEM_CALL ? 0 : (kind == ITEM_MESSAGE ? c->content.bytes : c->reasoning.bytes) - bytes;
    td_serve_random_id(s->id, sizeof s->id, prefixes[kind]);
    begin_event(x, "response.output_item.added");
    td_buffer_format(&x->out, ",\"output_index\":%d,\"item\":", s->index);
    put_item(c, kind, call, s->id, NULL, s->text_from, &x->out);
    end_event(x);
    if (kind != ITEM_CALL) part_event(x, "response.content_part.added", kind == ITEM_REASONING, "", 0);
}

static void piece(td_choice *c, const td_piece *p)
{
    td_exchange *x = c->exchange;
    if (p->kind == TD_PIECE_CALL) open_item(c, ITEM_CALL, p->call, 0);
    else if (p->kind == TD_PIECE_ARGUMENTS) text_event(x, "response.function_call_arguments.delta", "delta", p->text, p->bytes, false);
    else if (p->bytes) {
        bool reasoning = p->kind == TD_PIECE_REASONING;
        open_item(c, reasoning ? ITEM_REASONING : ITEM_MESSAGE, -1, p->bytes);
        text_event(x, reasoning ? "response.reasoning_text.delta" : "response.output_text.delta", "delta", p->text, p->bytes, !reasoning);
    }
}

static bool is_whole(const td_choice *c) { return c->finish == TD_FINISH_EOS || c->finish == TD_FINISH_STOP; }

/* Of the item that the text came to last; those before it are complete. */
static const char *last_status(const td_choice *c)
{
    bool in_call = c->last == TD_PIECE_CALL || c->last == TD_PIECE_ARGUMENTS;
    return is_whole(c) || (in_call && !td_splitter_in_call(c)) ? "completed" : "incomplete";
}

static void end_choice(td_choice *c) { close_item(c, last_status(c)); }

static void close_stream(td_exchange *x)
{
    stream_state *s = x->shape_state;
    bool complete = is_whole(&x->choices[0]);
    response_event(x, complete ? "response.completed" : "response.incomplete", complete ? "completed" : "incomplete", s->done.data ? s->done.data : "", complete ? NULL : "max_output_tokens", true, NULL);
    td_buffer_free(&s->done);
}

static void fault(td_exchange *x, const td_fault *fault)
{
    stream_state *s = x->shape_state;
    response_event(x, "response.failed", "failed", s->done.data ? s->done.data : "", NULL, false, fault);
    td_buffer_free(&s->done);
}

static void whole(td_exchange *x)
{
    td_choice *c = &x->choices[0];
    td_buffer items = {0};
    char id[48];
    const char *status = last_status(c);
    td_serve_random_id(id, sizeof id, "rs_");
    if (c->reasoning.bytes) put_item(c, ITEM_REASONING, -1, id, c->last == TD_PIECE_REASONING ? status : "completed", 0, &items);
    td_serve_random_id(id, sizeof id, "msg_");
    if (c->content.bytes || !c->call_count) {
        td_buffer_text(&items, items.bytes ? "," : "");
        put_item(c, ITEM_MESSAGE, -1, id, c->last == TD_PIECE_CONTENT || !c->content.bytes ? status : "completed", 0, &items);
    }
    for (int i = 0; i < c->call_count; i++) {
        td_serve_random_id(id, sizeof id, "fc_");
        td_buffer_text(&items, items.bytes ? "," : "");
        bool last = i == c->call_count - 1 && (c->last == TD_PIECE_CALL || c->last == TD_PIECE_ARGUMENTS);
        put_item(c, ITEM_CALL, i, id, last ? status : "completed", 0, &items);
    }
    put_response(x, is_whole(c) ? "completed" : "incomplete", items.data ? items.data : "", is_whole(c) ? NULL : "max_output_tokens", true, NULL);
    td_buffer_free(&items);
}

static void forget(td_exchange *x)
{
    stream_state *s = x->shape_state;
    if (s) td_buffer_free(&s->done);
}

const td_shape td_responses_shape = {.name = "responses", .id_prefix = "resp_", .keeps_text = true, .chats = true, .prepare = prepare, .open = open, .piece = piece, .end_choice = end_choice, .close = close_stream,
                                     .fault = fault, .whole = whole, .forget = forget};
