/*
 * openapi.c - /openapi.json, written from the tables of routes and fields, so that it cannot say anything else than the code does. docs/openapi.json is this
 * answer, kept by a test. Shapes of answers are described by name and by what they are compatible with; docs/api.md shows them.
 */
#include <string.h>

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

static const td_field_table *table_of(const char *path)
{
    for (int i = 0; td_field_tables[i]; i++) {
        const char *own = td_field_tables[i]->path;
        if (!strcmp(own, path) || (!strncmp(own, "/v1", 3) && !strcmp(own + 3, path))) return td_field_tables[i];
    }
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

static void put_answers(const td_route *r, td_buffer *out)
{
    const char *type = r->type ? strstr(r->type, "html") ? "text/html" : "text/plain" : "application/json";
    td_buffer_format(out, ",\"responses\":{\"200\":{\"description\":\"The answer\",\"content\":{\"%s\":{}", type);
    if (r->shape && r->shape->piece) td_buffer_text(out, ",\"text/event-stream\":{}");
    td_buffer_text(out, "}}");
    if (!r->quick) {
        static const struct { int http; const char *what; } errors[] = {{400, "A field is wrong; the message names it"}, {404, "No such model"}, {413, "The body is too large"},
            {429, "The queue is full; see Retry-After"}, {500, "A fault of the server"}, {503, "Loading, stopping, or FFN workers are missing"}};
        for (size_t i = 0; i < TD_COUNT(errors); i++)
            td_buffer_format(out, ",\"%d\":{\"description\":\"%s\",\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}}}", errors[i].http, errors[i].what);
    }
    else if (strchr(r->path, '{')) td_buffer_text(out, ",\"404\":{\"description\":\"No such model\",\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}}}");
    if (!r->open) td_buffer_text(out, ",\"401\":{\"description\":\"An API key is needed\"}");
    if (r->while_loading && r->quick == td_answer_health) td_buffer_text(out, ",\"503\":{\"description\":\"Loading or stopping\"}");
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
                        "\"schemas\":{\"Error\":{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\",\"required\":[\"message\",\"type\"],\"properties\":"
                        "{\"message\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},\"param\":{\"type\":[\"string\",\"null\"]},\"code\":{\"type\":[\"string\",\"null\"]}}}}}");
    for (int i = 0; td_field_tables[i]; i++) put_request(td_field_tables[i], out);
    td_buffer_text(out, "}},\"security\":[{},{\"bearer\":[]},{\"header\":[]}]}");
    return td_buffer_status(out);
}
