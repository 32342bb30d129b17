/* native.c - /tokenize, /detokenize, /apply-template: text and tokens as the model sees them (llama-server's shapes). */
#include <math.h>
#include <string.h>

#include "serve/serve.h"

td_status td_answer_tokenize(td_exchange *x)
{
    x->ask.parse_special = true;
    TD_TRY(td_fields_read(x, &td_tokenize_fields));
    td_prompt prompt = {0};
    unsigned flags = (x->ask.add_special ? TD_TOKENIZE_BOS : 0) | (x->ask.parse_special ? TD_TOKENIZE_SPECIAL : 0);
    TD_TRY(td_prompt_from_text(x, x->ask.content, strlen(x->ask.content), flags, "content", &prompt));
    td_buffer_text(&x->out, "{\"tokens\":[");
    for (size_t i = 0; i < prompt.count; i++) {
        td_buffer_text(&x->out, i ? "," : "");
        if (!x->ask.with_pieces) {
            td_buffer_format(&x->out, "%d", prompt.tokens[i]);
            continue;
        }
        size_t bytes = 0;
        char *text = td_token_text(x->server, prompt.tokens[i], &bytes);
        td_buffer_format(&x->out, "{\"id\":%d,\"piece\":", prompt.tokens[i]);
        td_buffer_json(&x->out, text ? text : "", bytes);
        td_buffer_text(&x->out, "}");
        td_free(text);
    }
    td_buffer_text(&x->out, "]}");
    return td_buffer_status(&x->out);
}

td_status td_answer_detokenize(td_exchange *x)
{
    TD_TRY(td_fields_read(x, &td_detokenize_fields));
    size_t count = (size_t)cJSON_GetArraySize(x->ask.tokens), n = 0, bytes;
    int32_t *ids = TD_NEW(&x->arena, int32_t, count);
    if (!ids) return TD_E_MEMORY;
    for (const cJSON *id = x->ask.tokens->child; id; id = id->next) {
        double value = cJSON_IsNumber(id) ? id->valuedouble : -1;
        if (!(value >= 0 && value < x->server->info->vocab_size) || value != floor(value))
            return td_serve_refuse(x, 400, "invalid_value", "tokens", "tokens: expected token ids from 0 to %d, found something else at index %zu", x->server->info->vocab_size - 1, n);
        ids[n++] = (int32_t)value;
    }
    char *text;
    TD_TRY(td_detokenize(x->server->model, ids, count, TD_TOKENIZE_SPECIAL, &text, &bytes));
    td_buffer_text(&x->out, "{\"content\":");
    td_buffer_json(&x->out, text, bytes);
    td_buffer_text(&x->out, "}");
    td_free(text);
    return td_buffer_status(&x->out);
}

td_status td_answer_template(td_exchange *x)
{
    x->ask.add_generation_prompt = true;
    TD_TRY(td_fields_read(x, &td_template_fields));
    if (x->ask.tools) TD_TRY(td_tools_check(x, x->ask.tools));
    cJSON *messages;
    char *text = NULL;
    TD_TRY(td_messages_check(x, x->ask.messages, &messages));
    td_status status = td_prompt_render(x, messages, x->ask.tools, x->ask.add_generation_prompt, &text);
    cJSON_Delete(messages);
    if (status < 0) return x->http ? status : td_serve_refuse_status(x, status, "messages");
    td_buffer_text(&x->out, "{\"prompt\":");
    td_buffer_json(&x->out, text, strlen(text));
    td_buffer_text(&x->out, "}");
    td_free(text);
    return td_buffer_status(&x->out);
}
