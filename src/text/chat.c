/* chat.c - chat templates: found in a checkpoint, compiled once, rendered with JSON values. See chat.h. */
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

struct td_chat_template {
    j_pool pool;        /* tree and literals */
    j_node *root;
    char *source;       /* in the pool */
    char *bos, *eos;    /* owned; NULL: not known */
    td_chat_template *with_tools; /* owned; NULL: the same */
};

td_status td_chat_template_compile(const char *source, size_t bytes, td_chat_template **out)
{
    td_chat_template *chat = calloc(1, sizeof *chat);
    if (!chat) return td_fail(TD_E_MEMORY, "template: no memory");
    chat->pool.arena.name = "chat template";
    chat->pool.limit = J_MEMORY_MAX;
    chat->source = td_arena_text(&chat->pool.arena, source, bytes);
    td_status status = chat->source ? j_parse(&chat->pool, source, bytes, &chat->root) : TD_E_MEMORY;
    if (status < 0) {
        td_chat_template_close(chat);
        return status;
    }
    *out = chat;
    return TD_OK;
}

const char *td_chat_template_source(const td_chat_template *chat) { return chat->source; }

void td_chat_template_close(td_chat_template *chat)
{
    if (!chat) return;
    td_chat_template_close(chat->with_tools);
    td_arena_free(&chat->pool.arena);
    free(chat->bos);
    free(chat->eos);
    free(chat);
}

static td_status set_text(j_run *run, const char *name, const char *text)
{
    return text ? j_dict_put(run, &run->frame->vars, j_str(name, strlen(name)), j_str(text, strlen(text))) : TD_OK;
}

static td_status set_variables(j_run *run, const td_chat_template *chat, const cJSON *messages, const cJSON *context, bool add_generation_prompt)
{
    j_value v;
    const cJSON *item;
    TD_TRY(set_text(run, "bos_token", chat->bos));
    TD_TRY(set_text(run, "eos_token", chat->eos));
    TD_TRY(j_dict_put(run, &run->frame->vars, j_str("add_generation_prompt", 21), j_bool(add_generation_prompt)));
    TD_TRY(j_dict_put(run, &run->frame->vars, j_str("tools", 5), j_none())); /* none unless the context has them, not undefined: as transformers renders */
    TD_TRY(j_dict_put(run, &run->frame->vars, j_str("documents", 9), j_none()));
    if (messages) {
        TD_TRY(j_from_json(run, messages, 0, &v));
        TD_TRY(j_dict_put(run, &run->frame->vars, j_str("messages", 8), v));
    }
    cJSON_ArrayForEach(item, context) {
        if (!item->string) continue;
        TD_TRY(j_from_json(run, item, 0, &v));
        TD_TRY(j_dict_put(run, &run->frame->vars, j_str(item->string, strlen(item->string)), v));
    }
    return TD_OK;
}

td_status td_chat_template_render(const td_chat_template *chat, const cJSON *messages, const cJSON *context, bool add_generation_prompt, td_buffer *out)
{
    td_buffer text = {0};
    j_frame globals = {0};
    j_run run = {.pool = {.arena.name = "chat rendering", .limit = J_MEMORY_MAX}, .out = &text, .frame = &globals, .block = j_str("", 0)};
    td_status status = set_variables(&run, chat, messages, context, add_generation_prompt);
    const cJSON *tools = cJSON_GetObjectItemCaseSensitive(context, "tools");
    if (status == TD_OK) status = j_execute(&run, chat->with_tools && tools && !cJSON_IsNull(tools) ? chat->with_tools->root : chat->root); /* as transformers chooses */
    if (status == TD_OK) status = td_buffer_status(&text);
    if (status == TD_OK) {
        td_buffer_put(out, text.data ? text.data : "", text.bytes);
        status = td_buffer_status(out);
    }
    td_buffer_free(&text);
    td_arena_free(&run.pool.arena);
    return status;
}

/* ---- a checkpoint's template ---- */

static td_status copy_text(const char *text, size_t bytes, char **out)
{
    char *copy = malloc(bytes + 1);
    if (!copy) return td_fail(TD_E_MEMORY, "template: no memory");
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    *out = copy;
    return TD_OK;
}

/* A token of tokenizer_config.json: text or {"content": text}. */
static td_status take_token(const cJSON *config, const char *key, char **out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, key);
    if (cJSON_IsObject(item)) item = cJSON_GetObjectItemCaseSensitive(item, "content");
    return cJSON_IsString(item) ? copy_text(item->valuestring, strlen(item->valuestring), out) : TD_OK;
}

/* "chat_template": a text (which counts as "default"), or a list of {"name", "template"}. */
static const char *template_of(const cJSON *config, const char *wanted)
{
    const cJSON *item, *found = cJSON_GetObjectItemCaseSensitive(config, "chat_template");
    if (cJSON_IsString(found)) return strcmp(wanted, "default") ? NULL : found->valuestring;
    cJSON_ArrayForEach(item, found) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name"), *text = cJSON_GetObjectItemCaseSensitive(item, "template");
        if (cJSON_IsString(name) && !strcmp(name->valuestring, wanted) && cJSON_IsString(text)) return text->valuestring;
    }
    return NULL;
}

static td_status open_folder(const td_checkpoint *checkpoint, td_chat_template **out)
{
    char *source = NULL, *config_text = NULL;
    size_t bytes = 0, config_bytes = 0;
    cJSON *config = NULL;
    td_status status = td_checkpoint_side_file(checkpoint, "tokenizer_config.json", &config_text, &config_bytes);
    if (status == TD_OK) config = cJSON_ParseWithLength(config_text, config_bytes);
    status = td_checkpoint_side_file(checkpoint, "chat_template.jinja", &source, &bytes);
    if (status == TD_OK) {
        status = td_chat_template_compile(source, bytes, out);
    } else {
        const char *text = template_of(config, "default"), *with_tools = template_of(config, "tool_use");
        if (status == TD_E_NOT_FOUND) status = text ? td_chat_template_compile(text, strlen(text), out) : td_fail(TD_E_NOT_FOUND, "expected a chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json)");
        if (status == TD_OK && with_tools) status = td_chat_template_compile(with_tools, strlen(with_tools), &(*out)->with_tools);
        if (status < 0 && text && *out) { /* the first of the two was compiled */
            td_chat_template_close(*out);
            *out = NULL;
        }
    }
    td_chat_template *chat = status == TD_OK ? *out : NULL;
    if (status == TD_OK) status = take_token(config, "bos_token", &chat->bos);
    if (status == TD_OK) status = take_token(config, "eos_token", &chat->eos);
    if (status < 0) td_chat_template_close(chat);
    cJSON_Delete(config);
    free(config_text);
    free(source);
    return status;
}

static td_status take_gguf_token(const td_checkpoint *checkpoint, const char *key, char **out)
{
    int64_t id;
    const char *text;
    size_t bytes;
    if (!td_gguf_i64(checkpoint, key, &id) || id < 0 || !td_gguf_array_string(checkpoint, "tokenizer.ggml.tokens", (size_t)id, &text, &bytes)) return TD_OK;
    return copy_text(text, bytes, out);
}

static td_status open_gguf(const td_checkpoint *checkpoint, td_chat_template **out)
{
    const char *source;
    size_t bytes;
    if (!td_gguf_string(checkpoint, "tokenizer.chat_template", &source, &bytes)) return td_fail(TD_E_NOT_FOUND, "expected a chat template in tokenizer.chat_template");
    TD_TRY(td_chat_template_compile(source, bytes, out));
    td_status status = TD_OK;
    if (td_gguf_string(checkpoint, "tokenizer.chat_template.tool_use", &source, &bytes)) status = td_chat_template_compile(source, bytes, &(*out)->with_tools);
    if (status == TD_OK) status = take_gguf_token(checkpoint, "tokenizer.ggml.bos_token_id", &(*out)->bos);
    if (status == TD_OK) status = take_gguf_token(checkpoint, "tokenizer.ggml.eos_token_id", &(*out)->eos);
    if (status < 0) td_chat_template_close(*out);
    return status;
}

td_status td_chat_template_open(const td_checkpoint *checkpoint, td_chat_template **out)
{
    td_chat_template *chat = NULL;
    td_status status = td_checkpoint_format(checkpoint) == TD_FORMAT_GGUF ? open_gguf(checkpoint, &chat) : open_folder(checkpoint, &chat);
    if (status < 0) return td_context(status, "%s", td_checkpoint_path(checkpoint));
    *out = chat;
    return TD_OK;
}
