/*
 * tools.c - tool_choice required, any, or a named function: the model must call. The answer is then one JSON object {"name", "arguments"}, held to a grammar made of the tools'
 * schemas; split.c reads it as a call whatever the model's own format is. Thinking, when the template opens it, is free and comes before.
 * With tool_choice auto and a strict function the same grammar holds behind the model's own mark of a call, where its format writes such an object; other formats are refused.
 * With tool_choice auto and a JSON format of text the model may answer in it or call: constrain.c lets the mark of a call through. Llama 3's calls have none and are JSON themselves: there
 * the schema is the format's or that of a call.
 */
#include <stdio.h>
#include <string.h>

#include "serve/serve.h"
#include "text/parsers.h"

/* The tools in OpenAI's shape, wherever they came from. */
static const cJSON *list_of(const td_exchange *x) { return x->converted_tools && x->converted_tools->child ? x->converted_tools : x->ask.tools; }

/* A tool's schema moves from the root into $defs: what refers to places in it must follow. Recursion is bounded by td_body_check. */
static bool move_references(cJSON *schema, const char *place)
{
    for (cJSON *item = schema->child; item; item = item->next) {
        if (item->string && !strcmp(item->string, "$ref") && cJSON_IsString(item) && item->valuestring[0] == '#') {
            char moved[512];
            if (snprintf(moved, sizeof moved, "%s%s", place, item->valuestring + 1) >= (int)sizeof moved || !cJSON_SetValuestring(item, moved)) return false;
        } else if (!move_references(item, place)) {
            return false;
        }
    }
    return true;
}

static const cJSON *schema_of(const cJSON *function)
{
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(function, "parameters");
    return cJSON_IsObject(schema) ? schema : NULL;
}

/* {"type": "object", "properties": {"name": {"const": NAME}, "arguments": {"$ref": ...}}, ...} */
static void add_call(cJSON *calls, const char *name, const char *key, const char *place)
{
    cJSON *call = cJSON_CreateObject(), *properties = cJSON_AddObjectToObject(call, "properties"), *required = cJSON_AddArrayToObject(call, "required");
    cJSON_AddStringToObject(call, "type", "object");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(properties, "name"), "const", name);
    cJSON_AddStringToObject(cJSON_AddObjectToObject(properties, key), "$ref", place);
    cJSON_AddItemToArray(required, cJSON_CreateString("name"));
    cJSON_AddItemToArray(required, cJSON_CreateString(key));
    cJSON_AddFalseToObject(call, "additionalProperties");
    cJSON_AddItemToArray(calls, call);
}

/* The schema can be enforced, alone. */
static td_status try_schema(td_exchange *x, const cJSON *schema)
{
    td_buffer text = {0};
    td_constraint *constraint = NULL;
    td_body_put(&text, schema);
    td_status status = text.failed ? td_fail(TD_E_MEMORY, "tools: no memory") : td_constraint_open(x->server->model, "json_schema", text.data, text.bytes, &constraint);
    td_constraint_close(constraint);
    td_buffer_free(&text);
    return status;
}

/* What cannot be enforced: refused when the tool is strict, else any object. */
static td_status add_schema(td_exchange *x, cJSON *definitions, const cJSON *function, int index)
{
    const cJSON *given = schema_of(function);
    char name[24], place[48];
    snprintf(name, sizeof name, "t%d", index);
    snprintf(place, sizeof place, "#/$defs/%s", name);
    bool enforced = false;
    if (given) {
        td_status status = try_schema(x, given);
        if (status == TD_E_MEMORY) return status;
        if (status < 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(function, "strict")))
            return td_serve_refuse(x, 400, "unsupported_value", "tools", "tools[%d].function.parameters: %.400s; without \"strict\" the arguments may be any object", index, td_error());
        enforced = status == TD_OK;
    }
    cJSON *own = enforced ? cJSON_Duplicate(given, 1) : cJSON_CreateObject();
    if (!own || !move_references(own, place)) {
        cJSON_Delete(own);
        return td_fail(TD_E_MEMORY, "tools: no memory");
    }
    if (!cJSON_HasObjectItem(own, "type") && !cJSON_HasObjectItem(own, "$ref") && !cJSON_HasObjectItem(own, "anyOf")) cJSON_AddStringToObject(own, "type", "object");
    cJSON_AddItemToObject(definitions, name, own);
    return TD_OK;
}

/* other: a schema that an answer may have instead, or NULL. */
static td_status make_schema(td_exchange *x, const cJSON *other, cJSON *schema)
{
    cJSON *definitions = cJSON_AddObjectToObject(schema, "$defs"), *calls = cJSON_AddArrayToObject(schema, "anyOf");
    if (other) {
        cJSON *own = cJSON_Duplicate(other, 1), *reference = cJSON_CreateObject();
        bool moved = own && reference && move_references(own, "#/$defs/text");
        cJSON_AddItemToObject(definitions, "text", own);
        cJSON_AddItemToArray(calls, reference);
        cJSON_AddStringToObject(reference, "$ref", "#/$defs/text");
        if (!moved) return td_fail(TD_E_MEMORY, "tools: no memory");
    }
    const char *key = x->server->call_format == TD_CALLS_LLAMA3 ? "parameters" : "arguments";
    int index = 0;
    for (const cJSON *tool = list_of(x)->child; tool; tool = tool->next, index++) {
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        const char *name = td_fields_string(function, "name");
        if (x->ask.forced_tool && strcmp(name, x->ask.forced_tool)) continue;
        char place[48];
        snprintf(place, sizeof place, "#/$defs/t%d", index);
        TD_TRY(add_schema(x, definitions, function, index));
        add_call(calls, name, key, place);
        if (x->ask.forced_tool) break;
    }
    if (!calls->child) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected the name of one of the tools, found \"%.80s\"", x->ask.forced_tool);
    return TD_OK;
}

/* *out: the schema's text, in the arena. */
static td_status write_schema(td_exchange *x, const cJSON *other, const char **out)
{
    cJSON *schema = cJSON_CreateObject();
    td_buffer text = {0};
    td_status status = schema ? make_schema(x, other, schema) : td_fail(TD_E_MEMORY, "tools: no memory");
    if (status == TD_OK) td_body_put(&text, schema);
    const char *own = status == TD_OK && !text.failed ? td_arena_text(&x->arena, text.data, text.bytes) : NULL;
    cJSON_Delete(schema);
    td_buffer_free(&text);
    TD_TRY(status);
    if (!own) return td_fail(TD_E_MEMORY, "tools: no memory");
    *out = own;
    return TD_OK;
}

td_status td_tools_force(td_exchange *x)
{
    const cJSON *tools = list_of(x);
    if (!tools || !tools->child) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected tools to choose from, found none");
    /* A format in JSON is one of text, and there will be none: agents send it with every request, so it waits for the turn that answers. */
    if (x->ask.grammar_kind && strncmp(x->ask.grammar_kind, "json", 4)) return td_serve_refuse(x, 400, "invalid_value", "tool_choice", "tool_choice: expected no %s beside a call that is required", x->ask.grammar_param);
    TD_TRY(write_schema(x, NULL, &x->ask.grammar_text));
    x->ask.grammar_kind = "json_schema";
    x->ask.grammar_param = "tools";
    return TD_OK;
}

/* Llama 3: the text is of the format's schema, or a call's object. Any object may be a call already. */
static td_status join_schemas(td_exchange *x)
{
    if (strcmp(x->ask.grammar_kind, "json_schema")) return TD_OK;
    cJSON *format = cJSON_Parse(x->ask.grammar_text);
    td_status status = format ? try_schema(x, format) : td_fail(TD_E_MEMORY, "tools: no memory");
    if (status < 0 && status != TD_E_MEMORY) status = td_serve_refuse_status(x, status, x->ask.grammar_param);
    if (status == TD_OK) status = write_schema(x, format, &x->ask.grammar_text);
    cJSON_Delete(format);
    return status;
}

/* How calls begin, as text/parsers.c reads them. */
static const char *mark_of(td_call_format format)
{
    switch (format) {
    case TD_CALLS_HERMES: return "<tool_call>";
    case TD_CALLS_DEEPSEEK: return "<\xEF\xBD\x9Ctool\xE2\x96\x81" "calls\xE2\x96\x81" "begin\xEF\xBD\x9C>";
    case TD_CALLS_STEP3: return "<\xEF\xBD\x9Ctool_calls_begin\xEF\xBD\x9C>";
    default: return NULL;
    }
}

td_status td_tools_hold(td_exchange *x)
{
    const cJSON *tools = list_of(x);
    td_call_format calls = (td_call_format)x->server->call_format;
    bool format = x->ask.grammar_kind && !strncmp(x->ask.grammar_kind, "json", 4);
    int strict = -1, index = 0;
    if (!tools || !tools->child || calls == TD_CALLS_NONE || (x->ask.grammar_kind && !format)) return TD_OK; /* a model that does not call, or a grammar that is all there is to say */
    for (const cJSON *tool = tools->child; tool && strict < 0; tool = tool->next, index++)
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(tool, "function"), "strict"))) strict = index;
    if (calls == TD_CALLS_LLAMA3 && format && (strict < 0 || !strcmp(x->ask.grammar_kind, "json_schema"))) return join_schemas(x);
    if (calls != TD_CALLS_HERMES && strict >= 0)
        return td_serve_refuse(x, 400, "unsupported_value", "tools", "tools[%d].strict: expected false: calls in this model's own format cannot be held to a schema while tool_choice is auto; with required they can", strict);
    if (format) x->ask.calls_mark = mark_of(calls);
    return calls == TD_CALLS_HERMES && (strict >= 0 || format) ? write_schema(x, NULL, &x->ask.calls_schema) : TD_OK;
}
