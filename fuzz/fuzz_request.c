/* fuzz_request.c - a request body: the first byte chooses the endpoint, the rest is what a client sent. Everything up to the template runs. */
#include <stdlib.h>
#include <string.h>

#include "serve/serve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const td_model_info info = {.vocab_size = 1000, .context_max = 4096, .d_model = 64, .layers = 2};
    static td_server server = {.info = &info, .name = "m", .context_max = 4096};
    if (bytes < 1) return 0;
    int tables = 0;
    while (td_field_tables[tables]) tables++;
    td_exchange *x = calloc(1, sizeof *x);
    if (!x) return 0;
    x->server = &server;
    x->arena.name = "request";
    if (td_body_parse((const char *)data + 1, bytes - 1, &x->json) == TD_OK && cJSON_IsObject(x->json)) {
        td_status status = td_fields_read(x, td_field_tables[data[0] % tables]);
        cJSON *messages = NULL;
        if (status == TD_OK && x->ask.tools) status = td_tools_check(x, x->ask.tools);
        if (status == TD_OK && x->ask.messages) status = td_messages_check(x, x->ask.messages, &messages);
        cJSON_Delete(messages);
        if (status < 0 && x->http && !x->message[0]) abort(); /* a refusal says why */
    }
    cJSON_Delete(x->json);
    td_arena_free(&x->arena);
    free(x);
    return 0;
}
