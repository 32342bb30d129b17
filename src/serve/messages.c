/*
 * messages.c - POST /v1/messages and /v1/messages/count_tokens: Anthropic's shape. Blocks become the messages that chat templates know: tool_use a tool call,
 * tool_result a message of role tool, thinking the reasoning of its message.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"

typedef enum { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_TOOL } block_kind;
typedef struct { block_kind open; int index; } stream_state;

/* ---- request ----------------------------------------------------------------------------------------------------------------------------------------------- */

static td_status wrong_block(td_exchange *x, const char *where, const char *type)
{
    return td_serve_refuse(x, 400, "unsupported_value", where, "%s.type: expected text, thinking, tool_use or tool_result, found \"%.40s\"; this model takes text only", where, type ? type : "");
}

/* The text of a string or of text blocks. */
static td_status join_text(td_exchange *x, const cJSON *content, const char *where, td_buffer *out)
{
    static const char *const members[] = {"type", "text", "cache_control", "citations", NULL};
    td_buffer_put(out, "", 0);
    if (!content || cJSON_IsNull(content)) return TD_OK;
    if (cJSON_IsString(content)) {
        td_buffer_text(out, content->valuestring);
        return TD_OK;
    }
    if (!cJSON_IsArray(content)) return td_serve_refuse(x, 400, "invalid_type", where, "%s: expected a string or an array of blocks, found %s", where, td_body_kind(content));
    for (const cJSON *block = content->child; block; block = block->next) {
        const char *type = cJSON_IsObject(block) ? td_fields_string(block, "type") : NULL, *text = cJSON_IsObject(block) ? td_fields_string(block, "text") : NULL;
        if (!type || strcmp(type, "text") || !text) return wrong_block(x, where, type);
        TD_TRY(td_fields_only(x, block, where, members));
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

static td_status take_tool_use(td_exchange *x, const cJSON *block, const char *where, cJSON *calls)
{
    static const char *const members[] = {"type", "id", "name", "input", "cache_control", "caller", NULL};
    TD_TRY(td_fields_only(x, block, where, members));
    const char *id = td_fields_string(block, "id"), *name = td_fields_string(block, "name");
    const cJSON *input = cJSON_GetObjectItemCaseSensitive(block, "input");
    if (!id || !name || !cJSON_IsObject(input)) return td_serve_refuse(x, 400, "invalid_value", where, "%s: expected a tool_use with id, name and an input object", where);
    char *arguments = cJSON_PrintUnformatted(input);
    cJSON *call = cJSON_CreateObject(), *function = cJSON_CreateObject();
    cJSON_AddStringToObject(call, "id", id);
    cJSON_AddStringToObject(call, "type", "function");
    cJSON_AddStringToObject(function, "name", name);
    cJSON_AddStringToObject(function, "arguments", arguments ? arguments : "{}");
    cJSON_AddItemToObject(call, "function", function);
    cJSON_AddItemToArray(calls, call);
    cJSON_free(arguments);
    return TD_OK;
}

static td_status take_tool_result(td_exchange *x, const cJSON *block, const char *where, cJSON *messages)
{
    static const char *const members[] = {"type", "tool_use_id", "content", "is_error", "cache_control", NULL};
    td_buffer text = {0};
    TD_TRY(td_fields_only(x, block, where, members));
    TD_TRY(td_fields_kind(x, block, where, "is_error", TD_KIND_BOOL));
    const char *id = td_fields_string(block, "tool_use_id");
    if (!id) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.tool_use_id: expected a string", where);
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(block, "is_error"))) td_buffer_text(&text, "Error: ");
    td_status status = join_text(x, cJSON_GetObjectItemCaseSensitive(block, "content"), where, &text);
    if (status == TD_OK) {
        cJSON *message = add_message(messages, "tool", text.data);
        if (message) cJSON_AddStringToObject(message, "tool_call_id", id);
    }
    td_buffer_free(&text);
    return status;
}

/* The blocks of one message, in order: tool results stand before the text that comes with them. */
static td_status take_blocks(td_exchange *x, const cJSON *content, const char *role, const char *where, cJSON *messages)
{
    static const char *const text_members[] = {"type", "text", "cache_control", "citations", NULL}, *const thinking_members[] = {"type", "thinking", "signature", "cache_control", NULL};
    td_buffer text = {0}, thinking = {0};
    cJSON *calls = cJSON_CreateArray();
    td_status status = calls ? TD_OK : td_fail(TD_E_MEMORY, "messages: no memory");
    bool spoke = false;
    for (const cJSON *block = content->child; block && status == TD_OK; block = block->next) {
        const char *type = cJSON_IsObject(block) ? td_fields_string(block, "type") : NULL;
        bool assistant = !strcmp(role, "assistant");
        if (type && !strcmp(type, "text") && td_fields_string(block, "text")) {
            status = td_fields_only(x, block, where, text_members);
            td_buffer_text(&text, td_fields_string(block, "text"));
            spoke = true;
        } else if (type && assistant && !strcmp(type, "thinking") && td_fields_string(block, "thinking")) {
            status = td_fields_only(x, block, where, thinking_members);
            td_buffer_text(&thinking, td_fields_string(block, "thinking"));
        } else if (type && assistant && !strcmp(type, "tool_use")) {
            status = take_tool_use(x, block, where, calls);
        } else if (type && !assistant && !strcmp(type, "tool_result")) {
            status = take_tool_result(x, block, where, messages);
        } else {
            status = wrong_block(x, where, type);
        }
    }
    if (status == TD_OK && (spoke || !strcmp(role, "assistant"))) {
        cJSON *message = add_message(messages, role, text.data);
        if (message && thinking.bytes) cJSON_AddStringToObject(message, "reasoning_content", thinking.data);
        if (message && calls->child) {
            cJSON_AddItemToObject(message, "tool_calls", calls);
            calls = NULL;
        }
    }
    cJSON_Delete(calls);
    td_buffer_free(&text);
    td_buffer_free(&thinking);
    return status;
}

static td_status convert_messages(td_exchange *x, cJSON *messages)
{
    static const char *const members[] = {"role", "content", NULL};
    int index = 0;
    td_buffer system = {0};
    td_status status = join_text(x, x->ask.system, "system", &system);
    if (status == TD_OK && system.bytes) add_message(messages, "system", system.data);
    td_buffer_free(&system);
    for (const cJSON *m = x->ask.messages->child; m && status == TD_OK; m = m->next, index++) {
        char where[48];
        snprintf(where, sizeof where, "messages[%d]", index);
        if (!cJSON_IsObject(m)) return td_serve_refuse(x, 400, "invalid_type", where, "%s: expected an object, found %s", where, td_body_kind(m));
        TD_TRY(td_fields_only(x, m, where, members));
        const char *role = td_fields_string(m, "role");
        if (!role || (strcmp(role, "user") && strcmp(role, "assistant"))) return td_serve_refuse(x, 400, "invalid_value", where, "%s.role: expected user or assistant, found \"%.40s\"", where, role ? role : "");
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(m, "content");
        if (cJSON_IsString(content)) add_message(messages, role, content->valuestring);
        else if (cJSON_IsArray(content)) status = take_blocks(x, content, role, where, messages);
        else return td_serve_refuse(x, 400, "invalid_type", where, "%s.content: expected a string or an array of blocks, found %s", where, content ? td_body_kind(content) : "nothing");
    }
    return status;
}

/* {"name", "description", "input_schema"} -> OpenAI's function tools. */
static td_status convert_tools(td_exchange *x, cJSON *out)
{
    static const char *const members[] = {"name", "description", "input_schema", "type", "cache_control", "strict", "eager_input_streaming", "input_examples", NULL};
    int index = 0;
    for (const cJSON *tool = x->ask.tools->child; tool; tool = tool->next, index++) {
        char where[48];
        snprintf(where, sizeof where, "tools[%d]", index);
        if (!cJSON_IsObject(tool)) return td_serve_refuse(x, 400, "invalid_type", where, "%s: expected an object, found %s", where, td_body_kind(tool));
        const char *type = td_fields_string(tool, "type"), *name = td_fields_string(tool, "name"), *description = td_fields_string(tool, "description");
        const cJSON *schema = cJSON_GetObjectItemCaseSensitive(tool, "input_schema");
        TD_TRY(td_fields_kind(x, tool, where, "type", TD_KIND_STRING));
        TD_TRY(td_fields_kind(x, tool, where, "description", TD_KIND_STRING));
        TD_TRY(td_fields_kind(x, tool, where, "eager_input_streaming", TD_KIND_BOOL)); /* arguments are always streamed as they come */
        TD_TRY(td_fields_kind(x, tool, where, "input_examples", TD_KIND_ARRAY));       /* templates have no place for them */
        if (type && strcmp(type, "custom")) return td_serve_refuse(x, 400, "unsupported_value", where, "%s.type: expected \"custom\", found \"%.60s\"; tools that run on the server are not supported", where, type);
        TD_TRY(td_fields_only(x, tool, where, members));
        if (!name || !*name || !cJSON_IsObject(schema)) return td_serve_refuse(x, 400, "invalid_value", where, "%s: expected a name and an input_schema object", where);
        cJSON *own = cJSON_CreateObject(), *function = cJSON_CreateObject();
        cJSON_AddStringToObject(own, "type", "function");
        cJSON_AddStringToObject(function, "name", name);
        if (description) cJSON_AddStringToObject(function, "description", description);
        cJSON_AddItemToObject(function, "parameters", cJSON_Duplicate(schema, 1));
        if (cJSON_HasObjectItem(tool, "strict")) cJSON_AddItemToObject(function, "strict", cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(tool, "strict"), 1));
        cJSON_AddItemToObject(own, "function", function);
        cJSON_AddItemToArray(out, own);
    }
    return out->child ? td_tools_check(x, out) : TD_OK;
}

/* auto, any, tool, none -> OpenAI's tool_choice. */
static td_status convert_choice(td_exchange *x)
{
    static const char *const members[] = {"type", "name", "disable_parallel_tool_use", NULL};
    const cJSON *choice = x->ask.tool_choice;
    if (!choice) return TD_OK;
    TD_TRY(td_fields_only(x, choice, "tool_choice", members));
    const char *type = td_fields_string(choice, "type"), *name = td_fields_string(choice, "name");
    if (!type || (strcmp(type, "auto") && strcmp(type, "any") && strcmp(type, "tool") && strcmp(type, "none")))
        return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice.type: expected auto, any, tool or none, found \"%.40s\"", type ? type : "");
    TD_TRY(td_fields_kind(x, choice, "tool_choice", "disable_parallel_tool_use", TD_KIND_BOOL));
    if (strcmp(type, "tool") && cJSON_GetObjectItemCaseSensitive(choice, "name") && !cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(choice, "name")))
        return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice.name: expected only with the type \"tool\", found with \"%s\"", type);
    if (!strcmp(type, "tool") && !name) return td_serve_refuse(x, 400, "missing_required_parameter", "tool_choice", "tool_choice.name: expected a string");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(choice, "disable_parallel_tool_use"))) x->ask.parallel_tool_calls = false;
    if (!strcmp(type, "none")) x->ask.tools = NULL;
    x->ask.force_tool = !strcmp(type, "any") || !strcmp(type, "tool");
    x->ask.forced_tool = !strcmp(type, "tool") ? name : NULL;
    return TD_OK;
}

static td_status make_prompt(td_exchange *x)
{
    cJSON *messages = cJSON_CreateArray(), *tools = cJSON_CreateArray();
    td_status status = messages && tools ? convert_choice(x) : td_fail(TD_E_MEMORY, "messages: no memory");
    if (status == TD_OK) status = convert_messages(x, messages);
    if (status == TD_OK && x->ask.tools) status = convert_tools(x, tools);
    if (status == TD_OK) status = td_prompt_from_messages(x, messages, tools);
    cJSON_Delete(messages);
    x->converted_tools = tools; /* for the parser and constrained calls */
    if (status < 0 && x->http == 0) return td_serve_refuse_status(x, status, "messages");
    return status;
}

static td_status prepare(td_exchange *x)
{
    x->ask.temperature = x->ask.top_p = 1;
    x->ask.parallel_tool_calls = true;
    TD_TRY(td_fields_read(x, &td_messages_fields));
    randombytes_buf(&x->ask.seed, sizeof x->ask.seed);
    TD_TRY(make_prompt(x));
    x->shape_state = TD_NEW(&x->arena, stream_state, 1);
    return x->shape_state ? td_choices_make(x) : TD_E_MEMORY;
}

td_status td_answer_count_tokens(td_exchange *x)
{
    TD_TRY(td_fields_read(x, &td_count_tokens_fields));
    TD_TRY(make_prompt(x));
    td_buffer_format(&x->out, "{\"input_tokens\":%zu}", x->prompts[0].count);
    return TD_OK;
}

/* ---- stream ---------------------------------------------------------------------------------------------------------------------------------------------------- */

static const char *stop_reason(const td_choice *c)
{
    if (c->finish != TD_FINISH_EOS && c->finish != TD_FINISH_STOP) return "max_tokens"; /* a call may be cut off */
    if (c->stop >= 0) return "stop_sequence";
    return c->call_count ? "tool_use" : "end_turn";
}

static void put_stop(const td_choice *c, td_buffer *out)
{
    const char *reason = stop_reason(c);
    td_buffer_format(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (!strcmp(reason, "stop_sequence")) td_body_text(out, c->exchange->ask.stops[c->stop]);
    else td_buffer_text(out, "null");
}

static void put_usage(const td_exchange *x, td_buffer *out)
{
    int64_t cached = 0, prompt = td_usage_prompt(x, &cached);
    td_buffer_format(out, "{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld}", (long long)(prompt - cached), (long long)cached,
                     (long long)td_usage_generated(x, NULL));
}

static void put_head(td_exchange *x)
{
    td_buffer_format(&x->out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", x->id);
    td_body_text(&x->out, x->server->name);
}

static void open(td_exchange *x)
{
    td_buffer_text(&x->out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    put_head(x);
    td_buffer_text(&x->out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    put_usage(x, &x->out);
    td_buffer_text(&x->out, "}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
}

static void close_block(td_exchange *x)
{
    stream_state *s = x->shape_state;
    if (s->open == BLOCK_NONE) return;
    td_buffer_format(&x->out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":%d}\n\n", s->index++);
    s->open = BLOCK_NONE;
}

static void open_block(td_exchange *x, block_kind kind, const char *block)
{
    stream_state *s = x->shape_state;
    if (s->open == kind && kind != BLOCK_TOOL) return;
    close_block(x);
    s->open = kind;
    td_buffer_format(&x->out, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":%d,\"content_block\":%s}\n\n", s->index, block);
}

static void delta(td_exchange *x, const char *type, const char *member, const char *text, size_t bytes)
{
    const stream_state *s = x->shape_state;
    td_buffer_format(&x->out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":%d,\"delta\":{\"type\":\"%s\",\"%s\":", s->index, type, member);
    td_buffer_json(&x->out, text, bytes);
    td_buffer_text(&x->out, "}}\n\n");
}

static void piece(td_choice *c, const td_piece *p)
{
    td_exchange *x = c->exchange;
    if (p->kind == TD_PIECE_CALL) {
        td_buffer block = {0};
        td_buffer_format(&block, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", c->calls[p->call].id);
        td_buffer_json(&block, p->text, p->bytes);
        td_buffer_text(&block, ",\"input\":{}}");
        open_block(x, BLOCK_TOOL, block.data ? block.data : "{}");
        td_buffer_free(&block);
    } else if (p->kind == TD_PIECE_ARGUMENTS) {
        delta(x, "input_json_delta", "partial_json", p->text, p->bytes);
    } else if (p->kind == TD_PIECE_REASONING) {
        open_block(x, BLOCK_THINKING, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
        if (!x->ask.thinking_omitted) delta(x, "thinking_delta", "thinking", p->text, p->bytes);
    } else if (p->bytes) {
        open_block(x, BLOCK_TEXT, "{\"type\":\"text\",\"text\":\"\"}");
        delta(x, "text_delta", "text", p->text, p->bytes);
    }
}

static void end_choice(td_choice *c)
{
    td_exchange *x = c->exchange;
    close_block(x);
    td_buffer_text(&x->out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    put_stop(c, &x->out);
    td_buffer_text(&x->out, "},\"usage\":");
    put_usage(x, &x->out);
    td_buffer_text(&x->out, "}\n\n");
}

static void close_stream(td_exchange *x) { td_buffer_text(&x->out, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"); }

static void fault(td_exchange *x, const td_fault *fault)
{
    td_buffer_text(&x->out, "event: error\ndata: ");
    td_serve_error_body(x, fault->http, fault->code, NULL, fault->message, &x->out);
    td_buffer_text(&x->out, "\n\n");
}

/* ---- whole ------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_call(const td_call *call, td_buffer *out)
{
    cJSON *input = NULL;
    const char *text = call->arguments.data ? call->arguments.data : "{}";
    td_buffer_format(out, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", call->id);
    td_buffer_json(out, call->name.data ? call->name.data : "", call->name.bytes);
    td_buffer_text(out, ",\"input\":");
    if (td_body_parse(text, strlen(text), &input) == TD_OK && cJSON_IsObject(input)) td_buffer_text(out, text);
    else { /* the model wrote something else: its text is not lost */
        td_buffer_text(out, "{\"raw\":");
        td_body_text(out, text);
        td_buffer_text(out, "}");
    }
    cJSON_Delete(input);
    td_buffer_text(out, "}");
}

static void whole(td_exchange *x)
{
    td_choice *c = &x->choices[0];
    const char *comma = "";
    put_head(x);
    td_buffer_text(&x->out, ",\"content\":[");
    if (c->reasoning.bytes) {
        td_buffer_text(&x->out, "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":");
        td_buffer_json(&x->out, c->reasoning.data, x->ask.thinking_omitted ? 0 : c->reasoning.bytes);
        td_buffer_text(&x->out, "}");
        comma = ",";
    }
    if (c->content.bytes) {
        td_buffer_format(&x->out, "%s{\"type\":\"text\",\"text\":", comma);
        td_buffer_json(&x->out, c->content.data, c->content.bytes);
        td_buffer_text(&x->out, "}");
        comma = ",";
    }
    for (int i = 0; i < c->call_count; i++, comma = ",") {
        td_buffer_text(&x->out, comma);
        put_call(&c->calls[i], &x->out);
    }
    td_buffer_text(&x->out, "],");
    put_stop(c, &x->out);
    td_buffer_text(&x->out, ",\"usage\":");
    put_usage(x, &x->out);
    td_buffer_text(&x->out, "}");
}

const td_shape td_messages_shape = {.name = "messages", .id_prefix = "msg_", .anthropic = true, .chats = true, .prepare = prepare, .open = open, .piece = piece, .end_choice = end_choice, .close = close_stream,
                                    .fault = fault, .whole = whole};
