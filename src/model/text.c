/* text.c - the public text functions of a model: tokenise, detokenise, render a conversation. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "model/model.h"

static td_status need_tokenizer(const td_model *model)
{
    return model->tokenizer ? TD_OK : td_fail(TD_E_NOT_FOUND, "%s: expected a tokenizer (tokenizer.json or tokenizer.ggml.*), found none", model->info.path);
}

td_status td_tokenize(const td_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t capacity, size_t *count)
{
    int32_t *all = NULL;
    size_t n = 0, room = 0;
    TD_TRY(need_tokenizer(model));
    td_status status = td_tokenizer_encode(model->tokenizer, text, bytes, flags, &all, &n, &room);
    if (status == TD_OK) {
        if (capacity && n) memcpy(ids, all, TD_MIN(n, capacity) * sizeof *ids);
        *count = n;
        if (capacity && n > capacity) status = td_fail(TD_E_FULL, "tokenize: expected at most %zu tokens, found %zu", capacity, n);
    }
    free(all);
    return status;
}

td_status td_detokenize(const td_model *model, const int32_t *ids, size_t count, unsigned flags, char **out, size_t *bytes)
{
    TD_TRY(need_tokenizer(model));
    td_detokenizer state = {.started = flags & TD_TOKENIZE_INSIDE};
    td_buffer text = {0};
    char *piece = malloc(TD_DETOKENIZE_MAX * ((size_t)td_tokenizer_bytes_max(model->tokenizer) + 8));
    if (!piece) return td_fail(TD_E_MEMORY, "detokenize: no memory");
    for (size_t i = 0; i < count; i++) td_buffer_put(&text, piece, td_detokenizer_put(model->tokenizer, &state, ids[i], !(flags & TD_TOKENIZE_SPECIAL), piece));
    td_buffer_put(&text, piece, td_detokenizer_end(&state, piece));
    free(piece);
    if (!text.data) td_buffer_text(&text, "");
    td_status status = td_buffer_status(&text);
    if (status < 0) td_buffer_free(&text);
    else {
        *out = text.data;
        if (bytes) *bytes = text.bytes;
    }
    return status;
}

static td_status parse_json(const char *what, const char *text, bool (*fits)(const cJSON *), const char *expected, cJSON **out)
{
    *out = NULL;
    if (!text) return TD_OK;
    cJSON *json = cJSON_ParseWithOpts(text, NULL, true);
    if (!json || !fits(json)) {
        cJSON_Delete(json);
        return td_fail(TD_E_INVALID, "%s: expected %s, found something else", what, expected);
    }
    *out = json;
    return TD_OK;
}

static bool is_array(const cJSON *json) { return cJSON_IsArray(json); }
static bool is_object(const cJSON *json) { return cJSON_IsObject(json); }

td_status td_chat_render(const td_model *model, const char *messages_json, const char *context_json, bool add_generation_prompt, char **out)
{
    if (!model->chat) return td_fail(TD_E_NOT_FOUND, "%s: expected a chat template, found none", model->info.path);
    if (!messages_json) return td_fail(TD_E_INVALID, "messages: expected a JSON array, found nothing");
    cJSON *messages, *context = NULL;
    td_buffer text = {0};
    TD_TRY(parse_json("messages", messages_json, is_array, "a JSON array", &messages));
    td_status status = parse_json("context", context_json, is_object, "a JSON object", &context);
    if (status == TD_OK) status = td_chat_template_render(model->chat, messages, context, add_generation_prompt, &text);
    if (status == TD_OK) status = td_buffer_status(&text);
    cJSON_Delete(messages);
    cJSON_Delete(context);
    if (status == TD_OK && !text.data) td_buffer_text(&text, "");
    if (status < 0) td_buffer_free(&text);
    else *out = text.data;
    return status;
}
