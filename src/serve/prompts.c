/* prompts.c - messages and prompt fields -> token ids. Everything is checked by name before the template or the tokenizer sees it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "serve/serve.h"

/* ---- messages ------------------------------------------------------------------------------------------------------------------------------ */

/* Joins the text parts of a content array; an answer may also hold refusals, whose text is in their own member. */
static td_status join_parts(td_exchange *x, const cJSON *parts, const char *where, bool answer, td_buffer *out)
{
    static const char *const text_members[] = {"type", "text", NULL}, *const refusal_members[] = {"type", "refusal", NULL};
    int index = 0;
    for (const cJSON *part = parts->child; part; part = part->next, index++) {
        char path[96];
        snprintf(path, sizeof path, "%s.content[%d]", where, index);
        if (!cJSON_IsObject(part)) return td_serve_refuse(x, 400, "invalid_value", path, "%s: expected an object, found %s", path, td_body_kind(part));
        const char *type = td_fields_string(part, "type");
        if (!type) return td_serve_refuse(x, 400, "missing_required_parameter", path, "%s.type: expected a string", path);
        bool refusal = answer && !strcmp(type, "refusal");
        if (!refusal && strcmp(type, "text") && strcmp(type, "input_text") && strcmp(type, "output_text"))
            return td_serve_refuse(x, 400, "unsupported_value", path, "%s.type: expected \"text\", found \"%.40s\"; this model takes text only", path, type);
        TD_TRY(td_fields_only(x, part, path, refusal ? refusal_members : text_members));
        const char *member = refusal ? "refusal" : "text", *text = td_fields_string(part, member);
        if (!text) return td_serve_refuse(x, 400, "missing_required_parameter", path, "%s.%s: expected a string", path, member);
        td_buffer_text(out, text);
    }
    return TD_OK;
}

static td_status check_calls(td_exchange *x, const cJSON *calls, const char *where)
{
    static const char *const members[] = {"id", "type", "function", "index", NULL}, *const function_members[] = {"name", "arguments", "parsed_arguments", NULL};
    if (!cJSON_IsArray(calls)) return td_serve_refuse(x, 400, "invalid_value", where, "%s.tool_calls: expected an array, found %s", where, td_body_kind(calls));
    int index = 0;
    for (cJSON *call = calls->child; call; call = call->next, index++) {
        char path[96];
        snprintf(path, sizeof path, "%s.tool_calls[%d]", where, index);
        if (!cJSON_IsObject(call)) return td_serve_refuse(x, 400, "invalid_value", path, "%s: expected an object, found %s", path, td_body_kind(call));
        TD_TRY(td_fields_only(x, call, path, members));
        TD_TRY(td_fields_kind(x, call, path, "id", TD_KIND_STRING));
        TD_TRY(td_fields_kind(x, call, path, "type", TD_KIND_STRING));
        TD_TRY(td_fields_kind(x, call, path, "index", TD_KIND_NUMBER));
        const char *type = td_fields_string(call, "type");
        if (type && strcmp(type, "function")) return td_serve_refuse(x, 400, "unsupported_value", path, "%s.type: expected \"function\", found \"%.40s\"", path, type);
        cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
        if (!cJSON_IsObject(function)) return td_serve_refuse(x, 400, "missing_required_parameter", path, "%s.function: expected an object", path);
        TD_TRY(td_fields_only(x, function, path, function_members));
        if (!td_fields_string(function, "name")) return td_serve_refuse(x, 400, "missing_required_parameter", path, "%s.function.name: expected a string", path);
        const char *arguments = td_fields_string(function, "arguments");
        if (!arguments) return td_serve_refuse(x, 400, "missing_required_parameter", path, "%s.function.arguments: expected a string of JSON", path);
    }
    return TD_OK;
}

static td_status check_content(td_exchange *x, const cJSON *message, const char *where, bool answer, cJSON *copy)
{
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    td_buffer text = {0};
    if (!content || cJSON_IsNull(content)) {
        if (!answer) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.content: expected a string or an array of parts", where);
    } else if (cJSON_IsString(content)) {
        td_buffer_text(&text, content->valuestring);
    } else if (cJSON_IsArray(content)) {
        td_status status = join_parts(x, content, where, answer, &text);
        if (status < 0) {
            td_buffer_free(&text);
            return status;
        }
    } else {
        return td_serve_refuse(x, 400, "invalid_value", where, "%s.content: expected a string or an array of parts, found %s", where, td_body_kind(content));
    }
    cJSON_DeleteItemFromObjectCaseSensitive(copy, "content");
    bool added = cJSON_AddStringToObject(copy, "content", text.data ? text.data : "") != NULL;
    td_buffer_free(&text);
    return added ? TD_OK : td_fail(TD_E_MEMORY, "messages: no memory");
}

/* One message: members by name, role, content; tool calls of an assistant. */
static td_status check_message(td_exchange *x, const cJSON *message, int index, cJSON *copy)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "tool_description", NULL};
    static const char *const members[] = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "refusal", "annotations", "audio", "function_call", "parsed", NULL};
    char where[48];
    snprintf(where, sizeof where, "messages[%d]", index);
    if (!cJSON_IsObject(message)) return td_serve_refuse(x, 400, "invalid_value", where, "%s: expected an object, found %s", where, td_body_kind(message));
    TD_TRY(td_fields_only(x, message, where, members));
    const char *role = td_fields_string(message, "role");
    if (!role) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.role: expected a string", where);
    int known = 0;
    while (roles[known] && strcmp(roles[known], role)) known++;
    if (!roles[known]) return td_serve_refuse(x, 400, "invalid_value", where, "%s.role: expected system, developer, user, assistant or tool, found \"%.40s\"", where, role);
    static const char *const texts[] = {"name", "tool_call_id", "reasoning_content", "reasoning"};
    for (size_t i = 0; i < TD_COUNT(texts); i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(message, texts[i]);
        if (value && !cJSON_IsString(value) && !cJSON_IsNull(value)) return td_serve_refuse(x, 400, "invalid_value", where, "%s.%s: expected a string, found %s", where, texts[i], td_body_kind(value));
    }
    static const char *const refused[] = {"audio", "function_call", "refusal", "annotations"};
    for (size_t i = 0; i < TD_COUNT(refused); i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(message, refused[i]);
        if (value && !cJSON_IsNull(value) && !(cJSON_IsArray(value) && !value->child)) return td_serve_refuse(x, 400, "unsupported_parameter", where, "%s.%s: this field is not supported", where, refused[i]);
    }
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    if (calls && cJSON_IsNull(calls)) calls = NULL;
    if (calls) TD_TRY(check_calls(x, calls, where));
    TD_TRY(check_content(x, message, where, !strcmp(role, "assistant"), copy));
    if (!strcmp(role, "developer")) cJSON_ReplaceItemInObjectCaseSensitive(copy, "role", cJSON_CreateString("system"));
    return TD_OK;
}

/* The official package's parse() adds values read from an answer's own text to it: sent back they say nothing new, and templates do not know them. */
static void drop_parsed(cJSON *message)
{
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    cJSON_DeleteItemFromObjectCaseSensitive(message, "parsed");
    for (const cJSON *call = calls ? calls->child : NULL; call; call = call->next)
        cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(call, "function"), "parsed_arguments");
}

/* Members that are null are absent for templates too ("is defined" would be true). */
static void drop_nulls(cJSON *object)
{
    for (cJSON *item = object->child, *next; item; item = next) {
        next = item->next;
        if (cJSON_IsNull(item) || (cJSON_IsArray(item) && !item->child)) cJSON_Delete(cJSON_DetachItemViaPointer(object, item));
    }
}

td_status td_messages_check(td_exchange *x, const cJSON *messages, cJSON **out)
{
    if (!messages->child) return td_serve_refuse(x, 400, "invalid_value", "messages", "messages: expected at least one message, found none");
    cJSON *copy = cJSON_CreateArray();
    td_status status = copy ? TD_OK : td_fail(TD_E_MEMORY, "messages: no memory");
    int index = 0;
    for (const cJSON *message = messages->child; message && status == TD_OK; message = message->next, index++) {
        cJSON *own = cJSON_Duplicate(message, 1);
        status = own ? check_message(x, message, index, own) : td_fail(TD_E_MEMORY, "messages: no memory");
        if (status == TD_OK) {
            drop_parsed(own);
            drop_nulls(own);
            cJSON_AddItemToArray(copy, own);
        } else {
            cJSON_Delete(own);
        }
    }
    if (status < 0) cJSON_Delete(copy);
    else *out = copy;
    return status;
}

td_status td_tools_check(td_exchange *x, const cJSON *tools)
{
    static const char *const members[] = {"type", "function", NULL}, *const function_members[] = {"name", "description", "parameters", "strict", NULL};
    int index = 0;
    for (const cJSON *tool = tools->child; tool; tool = tool->next, index++) {
        char where[48];
        snprintf(where, sizeof where, "tools[%d]", index);
        if (!cJSON_IsObject(tool)) return td_serve_refuse(x, 400, "invalid_value", where, "%s: expected an object, found %s", where, td_body_kind(tool));
        const char *type = td_fields_string(tool, "type");
        if (!type || strcmp(type, "function")) return td_serve_refuse(x, 400, "unsupported_value", where, "%s.type: expected \"function\", found \"%.40s\"", where, type ? type : "");
        TD_TRY(td_fields_only(x, tool, where, members));
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        if (!cJSON_IsObject(function)) return td_serve_refuse(x, 400, "missing_required_parameter", where, "%s.function: expected an object", where);
        TD_TRY(td_fields_only(x, function, where, function_members));
        const char *name = td_fields_string(function, "name");
        if (!name || !*name || td_fields_characters(name) > 128) return td_serve_refuse(x, 400, "invalid_value", where, "%s.function.name: expected a string of 1 to 128 characters", where);
        TD_TRY(td_fields_kind(x, function, where, "description", TD_KIND_STRING));
        const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(function, "parameters");
        if (parameters && !cJSON_IsObject(parameters) && !cJSON_IsNull(parameters)) return td_serve_refuse(x, 400, "invalid_value", where, "%s.function.parameters: expected an object (JSON schema), found %s", where, td_body_kind(parameters));
        TD_TRY(td_fields_kind(x, function, where, "strict", TD_KIND_BOOL));
    }
    return TD_OK;
}

/* ---- templates ------------------------------------------------------------------------------------------------------------------------------- */

/* Published templates want the arguments of a call as an object (most) or as a string (DeepSeek): objects first. */
static void arguments_to_objects(cJSON *messages)
{
    for (cJSON *message = messages->child; message; message = message->next) {
        cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
        for (cJSON *call = calls ? calls->child : NULL; call; call = call->next) {
            cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function"), *object = NULL;
            const char *text = function ? td_fields_string(function, "arguments") : NULL;
            if (text && td_body_parse(text, strlen(text), &object) == TD_OK && cJSON_IsObject(object)) cJSON_ReplaceItemInObjectCaseSensitive(function, "arguments", object);
            else cJSON_Delete(object);
        }
    }
}

static cJSON *make_context(const td_exchange *x, const cJSON *tools)
{
    cJSON *context = x->ask.template_kwargs ? cJSON_Duplicate(x->ask.template_kwargs, 1) : cJSON_CreateObject();
    if (!context) return NULL;
    if (tools && tools->child) cJSON_AddItemToObject(context, "tools", cJSON_Duplicate(tools, 1));
    if (x->ask.reasoning_effort) {
        cJSON_AddStringToObject(context, "reasoning_effort", x->ask.reasoning_effort);
        if (!cJSON_HasObjectItem(context, "enable_thinking")) cJSON_AddBoolToObject(context, "enable_thinking", strcmp(x->ask.reasoning_effort, "none") != 0);
    } else if (x->ask.thinking_given && !cJSON_HasObjectItem(context, "enable_thinking")) {
        cJSON_AddBoolToObject(context, "enable_thinking", x->ask.thinking_on);
    }
    return context;
}

static td_status render(td_exchange *x, const cJSON *messages, const char *context, bool add_generation_prompt, char **text)
{
    char *printed = cJSON_PrintUnformatted(messages);
    td_status status = printed ? td_chat_render(x->server->model, printed, context, add_generation_prompt, text) : td_fail(TD_E_MEMORY, "messages: no memory");
    cJSON_free(printed);
    return status;
}

td_status td_prompt_render(td_exchange *x, const cJSON *messages, const cJSON *tools, bool add_generation_prompt, char **text)
{
    if (!x->server->info->has_chat_template)
        return td_serve_refuse(x, 400, "unsupported", "messages", "messages: the model %s has no chat template; use /v1/completions", x->server->name);
    cJSON *copy = cJSON_Duplicate(messages, 1), *context = make_context(x, tools);
    char *context_text = context ? cJSON_PrintUnformatted(context) : NULL;
    td_status status = copy && context_text ? TD_OK : td_fail(TD_E_MEMORY, "messages: no memory");
    if (status == TD_OK) {
        arguments_to_objects(copy);
        status = render(x, copy, context_text, add_generation_prompt, text);
        if (status < 0 && status != TD_E_MEMORY) { /* the template joins arguments as text */
            char first[512];
            snprintf(first, sizeof first, "%s", td_error());
            status = render(x, messages, context_text, add_generation_prompt, text);
            if (status < 0) status = td_fail(status, "messages: %s", first);
        }
    }
    cJSON_free(context_text);
    cJSON_Delete(context);
    cJSON_Delete(copy);
    return status;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------------------------------------ */

td_status td_prompt_from_text(td_exchange *x, const char *text, size_t bytes, unsigned flags, const char *param, td_prompt *out)
{
    size_t count = 0, room = bytes + 2; /* a token has at least one byte; BOS */
    if (!x->server->info->has_tokenizer) return td_serve_refuse(x, 400, "unsupported", param, "%s: this model has no tokenizer; give token ids", param);
    int32_t *ids = malloc(room * sizeof *ids);
    if (!ids) return td_fail(TD_E_MEMORY, "%s: no memory for %zu bytes", param, bytes);
    td_status status = td_tokenize(x->server->model, text, bytes, flags, ids, room, &count);
    if (status == TD_OK) {
        int32_t *own = TD_NEW(&x->arena, int32_t, count);
        status = own ? TD_OK : td_fail(TD_E_MEMORY, "%s: no memory", param);
        if (own && count) memcpy(own, ids, count * sizeof *ids);
        *out = (td_prompt){.tokens = own, .count = count};
    }
    free(ids);
    return status;
}

td_status td_prompt_from_messages(td_exchange *x, const cJSON *messages, const cJSON *tools)
{
    char *text = NULL;
    TD_TRY(td_prompt_render(x, messages, tools, true, &text));
    x->prompts = TD_NEW(&x->arena, td_prompt, 1);
    td_status status = x->prompts ? td_prompt_from_text(x, text, strlen(text), TD_TOKENIZE_SPECIAL, "messages", &x->prompts[0]) : TD_E_MEMORY;
    if (status == TD_OK) {
        x->prompt_count = 1;
        x->prompts[0].text = td_arena_text(&x->arena, text, strlen(text)); /* split.c: does generation begin inside <think>? */
        x->prompts[0].text_bytes = strlen(text);
    }
    td_free(text);
    return status;
}

static td_status take_ids(td_exchange *x, const cJSON *ids, const char *param, td_prompt *out)
{
    size_t count = 0, n = 0;
    for (const cJSON *id = ids->child; id; id = id->next) count++;
    out->tokens = TD_NEW(&x->arena, int32_t, count);
    if (!out->tokens) return td_fail(TD_E_MEMORY, "%s: no memory", param);
    for (const cJSON *id = ids->child; id; id = id->next, n++) {
        double value = cJSON_IsNumber(id) ? id->valuedouble : -1;
        if (!cJSON_IsNumber(id)) return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected token ids only, found %s at index %zu", param, td_body_kind(id), n);
        if (!(value >= 0 && value < x->server->info->vocab_size) || value != floor(value))
            return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected token ids from 0 to %d, found %g at index %zu", param, x->server->info->vocab_size - 1, value, n);
        out->tokens[n] = (int32_t)value;
    }
    out->count = count;
    return TD_OK;
}

static td_status take_one(td_exchange *x, const cJSON *value, const char *param, td_prompt *out)
{
    if (cJSON_IsArray(value)) {
        TD_TRY(take_ids(x, value, param, out));
    } else if (cJSON_IsString(value)) {
        size_t bytes = strlen(value->valuestring);
        TD_TRY(td_prompt_from_text(x, value->valuestring, bytes, TD_TOKENIZE_BOS | TD_TOKENIZE_SPECIAL, param, out));
        out->text = value->valuestring;
        out->text_bytes = bytes;
    } else {
        return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected a string or an array of token ids, found %s", param, td_body_kind(value));
    }
    if (out->count == 0) return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected at least one token, found an empty prompt", param);
    return TD_OK;
}

td_status td_prompts_from_field(td_exchange *x, const cJSON *value, const char *param)
{
    bool many = cJSON_IsArray(value) && value->child && !cJSON_IsNumber(value->child);
    int count = many ? cJSON_GetArraySize(value) : 1;
    if (count > TD_CHOICES_MAX) return td_serve_refuse(x, 400, "invalid_value", param, "%s: expected at most %d prompts, found %d", param, TD_CHOICES_MAX, count);
    x->prompts = TD_NEW(&x->arena, td_prompt, (size_t)count);
    if (!x->prompts) return TD_E_MEMORY;
    if (!many) TD_TRY(take_one(x, value, param, &x->prompts[0]));
    else {
        int i = 0;
        for (const cJSON *item = value->child; item; item = item->next) TD_TRY(take_one(x, item, param, &x->prompts[i++]));
    }
    x->prompt_count = count;
    return TD_OK;
}

td_status td_choices_make(td_exchange *x)
{
    int64_t n = x->ask.n ? x->ask.n : 1;
    const char *param = x->ask.messages ? "messages" : x->ask.input ? "input" : "prompt";
    TD_TRY(x->ask.force_tool ? td_tools_force(x) : td_tools_hold(x));
    if (n * x->prompt_count > TD_CHOICES_MAX) return td_serve_refuse(x, 400, "invalid_value", "n", "n: expected at most %d completions of one request, found %lld", TD_CHOICES_MAX, (long long)(n * x->prompt_count));
    for (int p = 0; p < x->prompt_count; p++)
        if (x->prompts[p].count > (size_t)x->server->context_max)
            return td_serve_refuse(x, 400, "context_length_exceeded", param, "%s: expected at most %d tokens (the context), found %zu", param, x->server->context_max, x->prompts[p].count);
    x->choice_count = 0;
    x->choices = TD_NEW(&x->arena, td_choice, (size_t)(n * x->prompt_count));
    if (!x->choices) return TD_E_MEMORY;
    for (int p = 0; p < x->prompt_count; p++)
        for (int64_t i = 0; i < n; i++) {
            td_choice *c = &x->choices[x->choice_count];
            c->exchange = x;
            c->index = x->choice_count++;
            c->prompt = &x->prompts[p];
            c->prompt_tokens = (int64_t)x->prompts[p].count;
            c->seed = i ? td_random_at((uint64_t)x->ask.seed, (uint64_t)i) : (uint64_t)x->ask.seed;
            c->slot = -1;
            TD_TRY(td_splitter_open(c));
            TD_TRY(td_constrain_open(c, x->shape && x->shape->chats && td_prompt_thinks(c->prompt)));
        }
    return TD_OK;
}
