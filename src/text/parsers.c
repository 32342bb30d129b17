/* parsers.c - see parsers.h. Text waits in `held` only while it may still become a mark; a call's raw text is kept until the call was understood. */
#define _GNU_SOURCE /* memmem */
#include "text/parsers.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

typedef struct { const char *open, *call_open, *call_close, *close; } marks;

#define BAR "\xEF\xBD\x9C"
#define GAP "\xE2\x96\x81"
static const marks format_marks[] = {
    [TD_CALLS_NONE] = {NULL, NULL, NULL, NULL},
    [TD_CALLS_HERMES] = {"<tool_call>", NULL, "</tool_call>", NULL},
    [TD_CALLS_DEEPSEEK] = {"<" BAR "tool" GAP "calls" GAP "begin" BAR ">", "<" BAR "tool" GAP "call" GAP "begin" BAR ">", "<" BAR "tool" GAP "call" GAP "end" BAR ">", "<" BAR "tool" GAP "calls" GAP "end" BAR ">"},
    [TD_CALLS_STEP3] = {"<" BAR "tool_calls_begin" BAR ">", "<" BAR "tool_call_begin" BAR ">", "<" BAR "tool_call_end" BAR ">", "<" BAR "tool_calls_end" BAR ">"},
    [TD_CALLS_LLAMA3] = {"<|python_tag|>", NULL, NULL, NULL},
};
static const char deepseek_separator[] = "<" BAR "tool" GAP "sep" BAR ">", step3_separator[] = "<" BAR "tool_sep" BAR ">";
static const char think_open[] = "<think>", think_close[] = "</think>";

typedef enum { IN_START, IN_REASONING, IN_CONTENT, BETWEEN_CALLS, IN_HEAD, IN_ARGUMENTS, IN_PARAMETERS, IN_TAIL, IN_WHOLE } state;

struct td_parser {
    td_parser_options options;
    marks marks;
    td_part_fn fn;
    void *user;
    state state;
    td_buffer held;       /* not given out yet */
    td_buffer raw;        /* the call that is being read, from its mark on */
    td_buffer name;
    int call;             /* number of the next call */
    bool trimming;        /* white space before the first text of a part is dropped */
    bool bare;            /* llama3: the call has no mark */
    int depth;            /* JSON scanner of arguments */
    bool in_string, escaped;
    int parameters;       /* step3: so many given out */
};

td_status td_parser_open(const td_parser_options *options, td_part_fn fn, void *user, td_parser **out)
{
    td_parser *p = calloc(1, sizeof *p);
    if (!p) return td_fail(TD_E_MEMORY, "parser: no memory");
    p->options = *options;
    p->marks = format_marks[options->calls];
    p->fn = fn;
    p->user = user;
    p->state = options->starts_in_reasoning ? IN_REASONING : IN_START;
    p->trimming = true;
    *out = p;
    return TD_OK;
}

void td_parser_close(td_parser *p)
{
    if (!p) return;
    td_buffer_free(&p->held);
    td_buffer_free(&p->raw);
    td_buffer_free(&p->name);
    free(p);
}

static void give(td_parser *p, td_part_kind kind, int call, const char *text, size_t bytes)
{
    if (bytes || kind == TD_PART_CALL_END || kind == TD_PART_CALL) p->fn(p->user, kind, call, text ? text : "", bytes);
}

static void drop(td_parser *p, size_t bytes)
{
    memmove(p->held.data, p->held.data + bytes, p->held.bytes - bytes);
    p->held.bytes -= bytes;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static size_t spaces(const char *text, size_t bytes)
{
    size_t n = 0;
    while (n < bytes && is_space(text[n])) n++;
    return n;
}

/* Place of mark in the held text, SIZE_MAX when it is not there; *safe: so many bytes cannot belong to it. */
static size_t find_mark(const td_parser *p, const char *mark, size_t *safe)
{
    size_t length = mark ? strlen(mark) : 0;
    if (!mark) return SIZE_MAX;
    const char *hit = p->held.bytes ? memmem(p->held.data, p->held.bytes, mark, length) : NULL;
    if (hit) return (size_t)(hit - p->held.data);
    size_t start = p->held.bytes >= length ? p->held.bytes - length + 1 : 0;
    for (; start < p->held.bytes; start++)
        if (!memcmp(p->held.data + start, mark, p->held.bytes - start)) break;
    *safe = TD_MIN(*safe, start);
    return SIZE_MAX;
}

/* Held text begins with mark: 1, may still: 0, does not: -1. */
static int begins(const td_parser *p, size_t at, const char *mark)
{
    size_t length = strlen(mark), here = p->held.bytes - at;
    if (here && memcmp(p->held.data + at, mark, TD_MIN(length, here))) return -1;
    return here >= length;
}

static void put_part(td_parser *p, td_part_kind kind, size_t bytes)
{
    size_t skip = p->trimming ? spaces(p->held.data, bytes) : 0;
    if (skip < bytes) {
        give(p, kind, -1, p->held.data + skip, bytes - skip);
        p->trimming = false;
    }
    drop(p, bytes);
}

/* The call's text is given back as content. */
static void give_up(td_parser *p, const char *why)
{
    give(p, TD_PART_WARNING, -1, why, strlen(why));
    give(p, TD_PART_CONTENT, -1, p->raw.data, p->raw.bytes);
    td_buffer_clear(&p->raw);
    p->trimming = false;
    p->state = IN_CONTENT;
}

/* Moves bytes of held text to the call's raw text. */
static void keep_raw(td_parser *p, size_t bytes)
{
    td_buffer_put(&p->raw, p->held.data, bytes);
    drop(p, bytes);
}

static void begin_call(td_parser *p, state next)
{
    td_buffer_clear(&p->name);
    p->depth = 0;
    p->in_string = p->escaped = false;
    p->parameters = 0;
    p->state = next;
}

/* ---- outside of calls; each step returns false when it needs more text ---- */

static bool step_start(td_parser *p, bool end)
{
    size_t skip = spaces(p->held.data, p->held.bytes);
    if (skip == p->held.bytes && !end) return false;
    int think = p->options.reasoning ? begins(p, skip, think_open) : -1;
    if (think == 0 && !end) return false;
    if (think == 1) {
        drop(p, skip + sizeof think_open - 1);
        p->state = IN_REASONING;
        p->trimming = true;
        return true;
    }
    p->trimming = false; /* the reply's own white space */
    p->state = IN_CONTENT;
    if (p->options.starts_in_call) begin_call(p, IN_HEAD);
    if (p->options.calls == TD_CALLS_LLAMA3 && skip < p->held.bytes && p->held.data[skip] == '{') {
        p->bare = true;
        keep_raw(p, skip);
        begin_call(p, IN_HEAD);
    }
    return true;
}

static bool step_reasoning(td_parser *p, bool end)
{
    size_t safe = p->held.bytes, at = p->options.reasoning || p->options.starts_in_reasoning ? find_mark(p, think_close, &safe) : SIZE_MAX;
    if (at == SIZE_MAX) {
        if (end) safe = p->held.bytes;
        while (!end && safe > 0 && is_space(p->held.data[safe - 1])) safe--; /* dropped when the end of thinking follows */
        if (safe) put_part(p, TD_PART_REASONING, safe);
        return false;
    }
    size_t text = at;
    while (text > 0 && is_space(p->held.data[text - 1])) text--;
    if (text) put_part(p, TD_PART_REASONING, text);
    drop(p, at - text + sizeof think_close - 1);
    p->trimming = true;
    p->state = IN_CONTENT;
    if (p->options.starts_in_call) begin_call(p, IN_HEAD);
    return true;
}

static bool step_content(td_parser *p, bool end)
{
    size_t safe = p->held.bytes, at = find_mark(p, p->marks.open, &safe), single = find_mark(p, p->marks.call_open, &safe);
    if (single < at) at = single;
    if (at == SIZE_MAX) {
        if (end) safe = p->held.bytes;
        while (!end && p->marks.open && safe > 0 && is_space(p->held.data[safe - 1])) safe--; /* belongs to the call if one follows */
        if (safe) put_part(p, TD_PART_CONTENT, safe);
        return false;
    }
    size_t text = at;
    while (text > 0 && is_space(p->held.data[text - 1])) text--; /* white space between content and call belongs to the call */
    if (text) put_part(p, TD_PART_CONTENT, text);
    td_buffer_clear(&p->raw);
    bool inner = at == single;
    keep_raw(p, at - text + strlen(inner ? p->marks.call_open : p->marks.open));
    p->bare = false;
    if (inner || !p->marks.call_open) begin_call(p, IN_HEAD);
    else p->state = BETWEEN_CALLS;
    return true;
}

static bool step_between(td_parser *p, bool end)
{
    size_t skip = spaces(p->held.data, p->held.bytes);
    if (skip == p->held.bytes && !end) return false;
    int call = begins(p, skip, p->marks.call_open), close = begins(p, skip, p->marks.close);
    if (skip < p->held.bytes && call == 1) {
        keep_raw(p, skip + strlen(p->marks.call_open));
        begin_call(p, IN_HEAD);
        return true;
    }
    if (skip < p->held.bytes && close == 1 && p->raw.bytes == 0) { /* else a list without a call: given back */
        drop(p, skip + strlen(p->marks.close));
        p->trimming = true;
        p->state = IN_CONTENT;
        return true;
    }
    if ((call == 0 || close == 0) && !end) return false;
    if (p->raw.bytes) give_up(p, "text behind a mark of tool calls is not a call");
    p->state = IN_CONTENT;
    return p->held.bytes > 0;
}

/* ---- the head of a call: its name ---- */

/* "text" at *at: 1 with the inside, 0 needs more, -1 something else. */
static int head_string(const char *t, size_t bytes, size_t *at, const char **inside, size_t *length)
{
    *at += spaces(t + *at, bytes - *at);
    if (*at >= bytes) return 0;
    if (t[*at] != '"') return -1;
    size_t i = *at + 1;
    while (i < bytes && t[i] != '"') {
        if (t[i] == '\\') return -1; /* read as a whole later */
        i++;
    }
    if (i >= bytes) return 0;
    *inside = t + *at + 1;
    *length = i - *at - 1;
    *at = i + 1;
    return 1;
}

static int head_char(const char *t, size_t bytes, size_t *at, char c)
{
    *at += spaces(t + *at, bytes - *at);
    if (*at >= bytes) return 0;
    return t[(*at)++] == c ? 1 : -1;
}

/* {"name": "N", "arguments": up to the value, which must be an object. */
static int head_json(td_parser *p, size_t *used)
{
    const char *t = p->held.data, *key, *name;
    size_t bytes = p->held.bytes, at = 0, length, name_bytes;
    int ok;
    if ((ok = head_char(t, bytes, &at, '{')) < 1 || (ok = head_string(t, bytes, &at, &key, &length)) < 1) return ok;
    if (length != 4 || memcmp(key, "name", 4)) return -1;
    if ((ok = head_char(t, bytes, &at, ':')) < 1 || (ok = head_string(t, bytes, &at, &name, &name_bytes)) < 1 || (ok = head_char(t, bytes, &at, ',')) < 1) return ok;
    if ((ok = head_string(t, bytes, &at, &key, &length)) < 1) return ok;
    if (!(length == 9 && !memcmp(key, "arguments", 9)) && !(length == 10 && !memcmp(key, "parameters", 10))) return -1;
    if ((ok = head_char(t, bytes, &at, ':')) < 1) return ok;
    at += spaces(t + at, bytes - at);
    if (at >= bytes) return 0;
    if (t[at] != '{') return -1;
    td_buffer_put(&p->name, name, name_bytes);
    *used = at;
    return 1;
}

/* A name behind from, at most NAME_MOST long, and the mark that ends it: 1 with its length, 0 needs more, -1 no name. The same however the text arrives in pieces. */
static int head_name(const td_parser *p, size_t from, const char *mark, size_t *length)
{
    enum { NAME_MOST = 512 };
    size_t window = NAME_MOST + strlen(mark), here = TD_MIN(p->held.bytes - from, window);
    const char *text = p->held.data + from, *hit = memmem(text, here, mark, strlen(mark));
    if (!hit) return here == window ? -1 : 0;
    *length = (size_t)(hit - text);
    return 1;
}

/* function SEP NAME, newline, ```json, newline {   or   NAME SEP { */
static int head_deepseek(td_parser *p, size_t *used)
{
    size_t name_bytes;
    int ok = head_name(p, 0, deepseek_separator, &name_bytes);
    if (ok < 1) return ok;
    const char *t = p->held.data, *name = t;
    size_t next = name_bytes + sizeof deepseek_separator - 1;
    if (name_bytes == 8 && !memcmp(t, "function", 8)) {
        if ((ok = head_name(p, next, "\n", &name_bytes)) < 1) return ok;
        name = t + next;
        next += name_bytes + 1;
        int fence = begins(p, next, "```json\n");
        if (fence < 1) return fence;
        next += 8;
    }
    next += spaces(t + next, p->held.bytes - next);
    if (next >= p->held.bytes) return 0;
    if (t[next] != '{') return -1;
    name_bytes -= name_bytes > 0 && name[name_bytes - 1] == '\r';
    td_buffer_put(&p->name, name, name_bytes);
    *used = next;
    return 1;
}

static int head_step3(td_parser *p, size_t *used)
{
    static const char invoke[] = "<steptml:invoke name=\"";
    size_t at, name_bytes;
    int ok = head_name(p, 0, step3_separator, &at);
    if (ok < 1) return ok;
    if (at != 8 || memcmp(p->held.data, "function", 8)) return -1;
    at += sizeof step3_separator - 1;
    at += spaces(p->held.data + at, p->held.bytes - at);
    if ((ok = begins(p, at, invoke)) < 1) return ok;
    at += sizeof invoke - 1;
    if ((ok = head_name(p, at, "\">", &name_bytes)) < 1) return ok;
    td_buffer_put(&p->name, p->held.data + at, name_bytes);
    *used = at + name_bytes + 2;
    return 1;
}

static bool step_head(td_parser *p, bool end)
{
    size_t used = 0;
    int ok = p->options.calls == TD_CALLS_DEEPSEEK ? head_deepseek(p, &used) : p->options.calls == TD_CALLS_STEP3 ? head_step3(p, &used) : head_json(p, &used);
    if (ok == 0 && !end) return false;
    if (ok == 1 && p->name.bytes) {
        keep_raw(p, used);
        give(p, TD_PART_CALL, p->call, p->name.data, p->name.bytes);
        p->state = p->options.calls == TD_CALLS_STEP3 ? IN_PARAMETERS : IN_ARGUMENTS;
        return true;
    }
    td_buffer_clear(&p->name);
    if (ok < 0 && p->options.calls != TD_CALLS_DEEPSEEK && p->options.calls != TD_CALLS_STEP3) {
        p->state = IN_WHOLE; /* the members in another order, or escapes in the name */
        if (!p->bare) return true;
        give(p, TD_PART_CONTENT, -1, p->raw.data, p->raw.bytes); /* a reply in JSON that is no call is simply content */
        td_buffer_clear(&p->raw);
        p->state = IN_CONTENT;
        return true;
    }
    give_up(p, "the head of a tool call could not be read");
    return true;
}

/* ---- arguments ---- */

static void end_call(td_parser *p)
{
    give(p, TD_PART_CALL_END, p->call++, "", 0);
    td_buffer_clear(&p->raw);
}

/* Length of the part of the arguments' object that is here; *done when it is complete. */
static size_t scan_object(td_parser *p, bool *done)
{
    size_t i = 0;
    *done = false;
    while (i < p->held.bytes && !*done) {
        char c = p->held.data[i++];
        if (p->escaped) p->escaped = false;
        else if (p->in_string) p->escaped = c == '\\', p->in_string = c != '"';
        else if (c == '"') p->in_string = true;
        else if (c == '{' || c == '[') p->depth++;
        else if (c == '}' || c == ']') *done = --p->depth <= 0;
    }
    return i;
}

static bool step_arguments(td_parser *p, bool end)
{
    bool done;
    size_t bytes = scan_object(p, &done);
    give(p, TD_PART_ARGUMENTS, p->call, p->held.data, bytes);
    drop(p, bytes);
    if (done) p->state = IN_TAIL;
    else if (end) {
        static const char why[] = "a tool call ends inside its arguments";
        give(p, TD_PART_WARNING, -1, why, sizeof why - 1);
        end_call(p);
        p->state = IN_CONTENT;
    }
    return done;
}

/* Behind the arguments: a closing brace or fence, and the closing mark. */
static bool step_tail(td_parser *p, bool end)
{
    size_t at = spaces(p->held.data, p->held.bytes);
    const char *extra = p->options.calls == TD_CALLS_HERMES || p->options.calls == TD_CALLS_LLAMA3 ? "}" : p->options.calls == TD_CALLS_DEEPSEEK ? "```" : "";
    int found = *extra ? begins(p, at, extra) : -1;
    if (found == 0 && !end) return false;
    if (found == 1) at += strlen(extra);
    at += spaces(p->held.data + at, p->held.bytes - at);
    const char *close = p->marks.call_close ? p->marks.call_close : ";";
    int closed = begins(p, at, close);
    if (closed == 0 && !end) return false;
    if (closed == 1) drop(p, at + strlen(close));
    else drop(p, p->marks.call_close && !p->options.starts_in_call ? 0 : at); /* no closing mark: what follows is content */
    end_call(p);
    p->trimming = true;
    if (p->options.calls == TD_CALLS_LLAMA3 && closed == 1) {
        p->state = IN_START; /* another one may follow */
        return true;
    }
    p->state = p->marks.call_open && closed == 1 ? BETWEEN_CALLS : IN_CONTENT;
    return true;
}

/* step3: type of a parameter in the tools' schema, or NULL. */
static const char *parameter_type(const td_parser *p, const char *name, size_t bytes)
{
    const cJSON *tool;
    cJSON_ArrayForEach(tool, p->options.tools) {
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(function ? function : tool, "name");
        if (!cJSON_IsString(own) || strlen(own->valuestring) != p->name.bytes || memcmp(own->valuestring, p->name.data, p->name.bytes)) continue;
        const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(function ? function : tool, "parameters"), *property;
        cJSON_ArrayForEach(property, cJSON_GetObjectItemCaseSensitive(parameters, "properties")) {
            const cJSON *type = cJSON_GetObjectItemCaseSensitive(property, "type");
            if (strlen(property->string) == bytes && !memcmp(property->string, name, bytes)) return cJSON_IsString(type) ? type->valuestring : NULL;
        }
    }
    return NULL;
}

/* A parameter's text as JSON: as its type says when it reads as that, else as a string. */
static void put_value(td_buffer *out, const char *type, const char *text, size_t bytes)
{
    bool textual = !type || !strcmp(type, "string");
    const char *end = NULL;
    cJSON *value = textual ? NULL : cJSON_ParseWithLengthOpts(text, bytes, &end, 0);
    bool whole = value && (size_t)(end - text) + spaces(end, bytes - (size_t)(end - text)) == bytes;
    bool fits = whole && (!strcmp(type, "object") ? cJSON_IsObject(value) : !strcmp(type, "array") ? cJSON_IsArray(value) : !strcmp(type, "boolean") ? cJSON_IsBool(value) :
        !strcmp(type, "null") ? cJSON_IsNull(value) : !strcmp(type, "integer") || !strcmp(type, "number") ? cJSON_IsNumber(value) : false);
    if (fits) td_buffer_put(out, text, bytes);
    else if (!textual && !strcmp(type, "boolean") && bytes >= 4 && (text[0] == 'T' || text[0] == 'F')) td_buffer_text(out, text[0] == 'T' ? "true" : "false");
    else td_buffer_json(out, text, bytes);
    cJSON_Delete(value);
}

static bool step_parameters(td_parser *p, bool end)
{
    static const char open[] = "<steptml:parameter name=\"", close[] = "</steptml:parameter>", invoke_close[] = "</steptml:invoke>", why[] = "a tool call ends inside its parameters";
    size_t at = spaces(p->held.data, p->held.bytes);
    const char *t = p->held.data, *name_end, *value_end;
    int parameter = begins(p, at, open), closed = begins(p, at, invoke_close);
    td_buffer json = {0};
    if (at < p->held.bytes && closed == 1) {
        drop(p, at + sizeof invoke_close - 1);
        give(p, TD_PART_ARGUMENTS, p->call, p->parameters ? "}" : "{}", p->parameters ? 1 : 2);
        p->state = IN_TAIL;
        return true;
    }
    if (at < p->held.bytes && parameter == 1 && (name_end = memmem(t + at, p->held.bytes - at, "\">", 2)) && (value_end = memmem(name_end + 2, p->held.bytes - (size_t)(name_end + 2 - t), close, sizeof close - 1))) {
        const char *name = t + at + sizeof open - 1, *value = name_end + 2;
        size_t name_bytes = name_end > name ? (size_t)(name_end - name) : 0, value_bytes = (size_t)(value_end - value);
        td_buffer_text(&json, p->parameters++ ? ", " : "{");
        td_buffer_json(&json, name, name_bytes);
        td_buffer_text(&json, ": ");
        const char *type = parameter_type(p, name, name_bytes);
        size_t skip = type && strcmp(type, "string") ? spaces(value, value_bytes) : 0;
        while (type && strcmp(type, "string") && value_bytes > skip && is_space(value[value_bytes - 1])) value_bytes--;
        put_value(&json, type, value + skip, value_bytes - skip);
        give(p, TD_PART_ARGUMENTS, p->call, json.data, json.bytes);
        td_buffer_free(&json);
        drop(p, (size_t)(value_end - t) + sizeof close - 1);
        return true;
    }
    bool wait = at == p->held.bytes || parameter >= 0 || closed == 0;
    if (wait && !end) return false;
    give(p, TD_PART_ARGUMENTS, p->call, p->parameters ? "}" : "{}", p->parameters ? 1 : 2);
    give(p, TD_PART_WARNING, -1, why, sizeof why - 1);
    end_call(p);
    p->trimming = false;
    p->state = IN_CONTENT;
    return true;
}

/* A call read at its end: an object with name and arguments (or parameters), in any order. */
static bool take_whole(td_parser *p, const char *text, size_t bytes)
{
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(root, "name"), *arguments = cJSON_GetObjectItemCaseSensitive(root, "arguments");
    if (!arguments) arguments = cJSON_GetObjectItemCaseSensitive(root, "parameters");
    bool good = cJSON_IsString(name) && (cJSON_IsObject(arguments) || cJSON_IsString(arguments) || !arguments || cJSON_IsNull(arguments));
    char *json = good && cJSON_IsObject(arguments) ? cJSON_PrintUnformatted(arguments) : NULL;
    const char *shown = json ? json : cJSON_IsString(arguments) ? arguments->valuestring : "{}";
    if (good) {
        give(p, TD_PART_CALL, p->call, name->valuestring, strlen(name->valuestring));
        give(p, TD_PART_ARGUMENTS, p->call, shown, strlen(shown));
        end_call(p);
    }
    cJSON_free(json);
    cJSON_Delete(root);
    return good;
}

static bool step_whole(td_parser *p, bool end)
{
    size_t safe = p->held.bytes, at = find_mark(p, p->marks.call_close, &safe);
    if (at == SIZE_MAX && !end) return false;
    size_t bytes = at == SIZE_MAX ? p->held.bytes : at;
    if (take_whole(p, p->held.data ? p->held.data : "", bytes)) {
        drop(p, bytes + (at == SIZE_MAX ? 0 : strlen(p->marks.call_close)));
        p->trimming = true;
        p->state = IN_CONTENT;
        return true;
    }
    if (at != SIZE_MAX) bytes += strlen(p->marks.call_close);
    keep_raw(p, bytes);
    give_up(p, "a tool call is not the JSON object that it should be");
    return true;
}

static bool step(td_parser *p, bool end)
{
    switch (p->state) {
    case IN_START: return step_start(p, end);
    case IN_REASONING: return step_reasoning(p, end);
    case IN_CONTENT: return step_content(p, end);
    case BETWEEN_CALLS: return step_between(p, end);
    case IN_HEAD: return step_head(p, end);
    case IN_ARGUMENTS: return step_arguments(p, end);
    case IN_PARAMETERS: return step_parameters(p, end);
    case IN_TAIL: return step_tail(p, end);
    case IN_WHOLE: return step_whole(p, end);
    }
    return false;
}

td_status td_parser_put(td_parser *p, const char *text, size_t bytes)
{
    td_buffer_put(&p->held, text, bytes);
    TD_TRY(td_buffer_status(&p->held));
    while (p->held.bytes && step(p, false)) {}
    return td_buffer_status(&p->raw);
}

td_status td_parser_end(td_parser *p)
{
    for (int rounds = 0; rounds < 100000 && (p->held.bytes || p->raw.bytes || p->state >= IN_HEAD); rounds++) {
        if (!p->held.data) td_buffer_text(&p->held, "");
        state before = p->state;
        size_t held = p->held.bytes, raw = p->raw.bytes;
        step(p, true);
        if (p->state == before && p->held.bytes == held && p->raw.bytes == raw) break;
    }
    return TD_OK;
}

td_call_format td_call_format_find(const char *source, size_t bytes, bool *reasons)
{
    static const struct { const char *mark; td_call_format format; } known[] = {
        {"steptml:", TD_CALLS_STEP3}, {"tool_calls_begin", TD_CALLS_STEP3}, {"tool" GAP "calls" GAP "begin", TD_CALLS_DEEPSEEK}, {"<tool_call>", TD_CALLS_HERMES},
        {"<|python_tag|>", TD_CALLS_LLAMA3}, {"<|start_header_id|>ipython", TD_CALLS_LLAMA3},
    };
    *reasons = bytes && (memmem(source, bytes, think_open, sizeof think_open - 1) || memmem(source, bytes, think_close, sizeof think_close - 1));
    for (size_t i = 0; i < TD_COUNT(known); i++)
        if (bytes && memmem(source, bytes, known[i].mark, strlen(known[i].mark))) return known[i].format;
    return TD_CALLS_NONE;
}
