/*
 * openapi.c - /openapi.json, written from the tables of routes and fields, so that it cannot say anything else than the code does. docs/openapi.json is this
 * answer, kept by a test. What the answers look like is in answers.h.
 */
#include <string.h>

#include "serve/answers.h"
#include "serve/serve.h"

static const struct { const char *path, *summary; } summaries[] = {
    {"/health", "200 when requests are answered (status ok or degraded), 503 while the model loads or the server stops"},
    {"/", "The web page"},
    {"/metrics", "Prometheus metrics"},
    {"/openapi.json", "This description"},
    {"/v1/models", "The model"},
    {"/v1/models/{model}", "The model, by its id"},
    {"/props", "Settings of the server and the engine"},
    {"/slots", "What each place in the batch is doing"},
    {"/state", "Engine, workers and slots in one object, for the web page"},
    {"/v1/chat/completions", "Chat, in OpenAI's shape"},
    {"/v1/completions", "Text completion, in OpenAI's shape"},
    {"/v1/responses", "OpenAI's Responses, without stored state"},
    {"/v1/messages", "Messages, in Anthropic's shape"},
    {"/v1/messages/count_tokens", "Tokens of a message request"},
    {"/v1/embeddings", "Embeddings from the final hidden states"},
    {"/tokenize", "Text to token ids"},
    {"/detokenize", "Token ids to text"},
    {"/apply-template", "The prompt that chat would use"},
};

static const char *summary_of(const char *path)
{
    for (size_t i = 0; i < TD_COUNT(summaries); i++)
        if (!strcmp(summaries[i].path, path)) return summaries[i].summary;
    return "Another name of a path with /v1";
}

/* A path with /v1 also goes without. */
static bool leads_to(const char *path, const char *own) { return !strcmp(own, path) || (!strncmp(own, "/v1", 3) && !strcmp(own + 3, path)); }

static const td_field_table *table_of(const char *path)
{
    for (int i = 0; td_field_tables[i]; i++)
        if (leads_to(path, td_field_tables[i]->path)) return td_field_tables[i];
    return NULL;
}

static void put_bounds(const td_field *f, const char *low, const char *high, td_buffer *out)
{
    if (f->low != 0 || f->high != 0) td_buffer_format(out, ",\"%s\":%.15g,\"%s\":%.15g", low, f->low, high, f->high);
}

static void put_type(const td_field *f, unsigned kind, td_buffer *out)
{
    static const struct { unsigned kind; const char *name, *low, *high; } kinds[] = {{TD_KIND_BOOL, "boolean", NULL, NULL}, {TD_KIND_INT, "integer", "minimum", "maximum"},
        {TD_KIND_NUMBER, "number", "minimum", "maximum"}, {TD_KIND_STRING, "string", "minLength", "maxLength"}, {TD_KIND_ARRAY, "array", "minItems", "maxItems"}, {TD_KIND_OBJECT, "object", NULL, NULL}};
    for (size_t i = 0; i < TD_COUNT(kinds); i++) {
        if (kinds[i].kind != kind) continue;
        td_buffer_format(out, "{\"type\":\"%s\"", kinds[i].name);
        bool counted = kind != TD_KIND_STRING || !(f->kinds & TD_KIND_ARRAY); /* the range is the array's then */
        if (kinds[i].low && counted) put_bounds(f, kinds[i].low, kinds[i].high, out);
        if (kind == TD_KIND_ARRAY) td_buffer_text(out, ",\"items\":{}");
        td_buffer_text(out, "}");
    }
}

/* A schema of shapes.h, whose quotes are single. */
static void put_schema(const char *schema, td_buffer *out)
{
    for (; *schema; schema++) td_buffer_put(out, *schema == '\'' ? "\"" : schema, 1);
}

static bool is_required(const td_field_table *table, const char *name)
{
    for (int i = 0; i < 4 && table->required[i]; i++)
        if (!strcmp(table->required[i], name)) return true;
    return false;
}

static void put_field(const td_field_table *table, const td_field *f, td_buffer *out)
{
    const char *comma = "";
    td_body_text(out, f->name);
    td_buffer_text(out, ":{\"description\":");
    td_body_text(out, f->help ? f->help : "");
    td_buffer_text(out, ",\"anyOf\":[");
    if (f->schema) put_schema(f->schema, out);
    for (unsigned kind = 1; kind <= TD_KIND_OBJECT && !f->schema; kind <<= 1)
        if (f->kinds & kind) {
            td_buffer_text(out, comma);
            put_type(f, kind, out);
            comma = ",";
        }
    if (!is_required(table, f->name)) td_buffer_format(out, "%s{\"type\":\"null\"}", f->schema ? "," : comma);
    td_buffer_text(out, "]}");
}

/* "/v1/chat/completions" -> Request.v1.chat.completions */
static void put_name(const td_field_table *table, td_buffer *out)
{
    td_buffer_text(out, "Request");
    for (const char *c = table->path; *c; c++) td_buffer_put(out, *c == '/' ? "." : c, 1);
}

static void put_body(const td_field_table *table, td_buffer *out)
{
    td_buffer_text(out, ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/");
    put_name(table, out);
    td_buffer_text(out, "\"}}}}");
}

static void put_request(const td_field_table *table, td_buffer *out)
{
    td_buffer_text(out, ",\"");
    put_name(table, out);
    td_buffer_text(out, "\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (const td_field *f = table->fields; f->name; f++) {
        if (f != table->fields) td_buffer_text(out, ",");
        put_field(table, f, out);
    }
    td_buffer_text(out, "},\"required\":[");
    for (int i = 0; i < 4 && table->required[i]; i++) {
        td_buffer_text(out, i ? "," : "");
        td_body_text(out, table->required[i]);
    }
    td_buffer_text(out, "]}");
}

/* Shapes of answers and, of those that stream, of an event's data. */
static const struct { const char *name, *schema; } shapes[] = {
    {"Timings", A_TIMINGS}, {"Usage", A_USAGE}, {"ChatCompletion", A_CHAT}, {"ChatCompletionChunk", A_CHAT_CHUNK}, {"Completion", A_COMPLETION}, {"CompletionChunk", A_COMPLETION_CHUNK},
    {"Response", A_RESPONSE}, {"ResponseEvent", A_RESPONSE_EVENT}, {"Message", A_MESSAGE}, {"MessageEvent", A_MESSAGE_EVENT}, {"Embeddings", A_EMBEDDINGS}, {"Model", A_MODEL}, {"Models", A_MODELS},
    {"Health", A_HEALTH}, {"Unhealthy", A_UNHEALTHY}, {"Props", A_PROPS}, {"Slots", A_SLOTS}, {"State", A_STATE}, {"Tokens", A_TOKENIZED}, {"Text", A_DETOKENIZED}, {"Prompt", A_TEMPLATED},
    {"TokenCount", A_COUNTED}, {"Error", A_ERROR}, {"AnthropicError", A_ANTHROPIC_ERROR}};

static const struct { const char *path, *answer, *event; } answers[] = {
    {"/v1/chat/completions", "ChatCompletion", "ChatCompletionChunk"}, {"/v1/completions", "Completion", "CompletionChunk"}, {"/v1/responses", "Response", "ResponseEvent"},
    {"/v1/messages", "Message", "MessageEvent"}, {"/v1/messages/count_tokens", "TokenCount", NULL}, {"/v1/embeddings", "Embeddings", NULL}, {"/v1/models", "Models", NULL},
    {"/v1/models/{model}", "Model", NULL}, {"/v1/health", "Health", NULL}, {"/props", "Props", NULL}, {"/slots", "Slots", NULL}, {"/state", "State", NULL}, {"/tokenize", "Tokens", NULL},
    {"/detokenize", "Text", NULL}, {"/apply-template", "Prompt", NULL}};

static void put_content(const char *schema, td_buffer *out)
{
    td_buffer_format(out, "\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/%s\"}}}", schema);
}

static void put_error(int http, const char *what, const char *schema, td_buffer *out)
{
    td_buffer_format(out, ",\"%d\":{\"description\":\"%s\",", http, what);
    put_content(schema, out);
    td_buffer_text(out, "}");
}

static void put_answers(const td_route *r, td_buffer *out)
{
    const char *error = strncmp(r->path, "/v1/messages", 12) ? "Error" : "AnthropicError";
    size_t i = 0;
    while (i < TD_COUNT(answers) && !leads_to(r->path, answers[i].path)) i++;
    td_buffer_text(out, ",\"responses\":{\"200\":{\"description\":\"The answer\",");
    if (r->type) td_buffer_format(out, "\"content\":{\"%s\":{}}", strstr(r->type, "html") ? "text/html" : "text/plain");
    else if (i == TD_COUNT(answers)) td_buffer_text(out, "\"content\":{\"application/json\":{}}");
    else if (!answers[i].event) put_content(answers[i].answer, out);
    else td_buffer_format(out, "\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/%s\"}},\"text/event-stream\":{\"x-event-data\":{\"$ref\":\"#/components/schemas/%s\"}}}",
                          answers[i].answer, answers[i].event);
    td_buffer_text(out, "}");
    if (!r->quick) {
        static const struct { int http; const char *what; } errors[] = {{400, "A field is wrong; the message names it"}, {404, "No such model"}, {413, "The body is too large"}, {415, "The body is compressed"},
            {429, "The queue is full; see Retry-After"}, {500, "A fault of the server"}, {503, "Loading, stopping, or FFN workers are missing"}, {504, "It took longer than the server allows"}};
        for (size_t e = 0; e < TD_COUNT(errors); e++) put_error(errors[e].http, errors[e].what, error, out);
    }
    else if (strchr(r->path, '{')) put_error(404, "No such model", error, out);
    if (!r->open) put_error(401, "An API key is needed", error, out);
    if (r->while_loading && r->quick == td_answer_health) put_error(503, "Loading or stopping", "Unhealthy", out);
    td_buffer_text(out, "}");
}

td_status td_answer_openapi(td_exchange *x)
{
    td_buffer *out = &x->out;
    td_buffer_format(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Tandem\",\"version\":\"%s\",\"license\":{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}},\"paths\":{", td_version());
    for (const td_route *r = td_routes; r->path; r++) {
        const td_field_table *table = r->quick ? NULL : table_of(r->path);
        if (r != td_routes) td_buffer_text(out, ",");
        td_body_text(out, r->path);
        td_buffer_format(out, ":{\"%s\":{\"summary\":", !strcmp(r->method, "GET") ? "get" : "post");
        td_body_text(out, summary_of(r->path));
        if (strchr(r->path, '{')) td_buffer_text(out, ",\"parameters\":[{\"name\":\"model\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\",\"minLength\":1}}]");
        if (table) put_body(table, out);
        put_answers(r, out);
        td_buffer_text(out, r->open ? ",\"security\":[]}}" : "}}");
    }
    td_buffer_text(out, "},\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"},\"header\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"x-api-key\"}},"
                        "\"schemas\":{");
    for (size_t i = 0; i < TD_COUNT(shapes); i++) {
        td_buffer_format(out, "%s\"%s\":", i ? "," : "", shapes[i].name);
        put_schema(shapes[i].schema, out);
    }
    for (int i = 0; td_field_tables[i]; i++) put_request(td_field_tables[i], out);
    td_buffer_text(out, "}},\"security\":[{},{\"bearer\":[]},{\"header\":[]}]}");
    return td_buffer_status(out);
}
