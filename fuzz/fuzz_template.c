/* fuzz_template.c - chat templates from anywhere, rendered with a small conversation. Bounded in time, memory and output whatever the template says. */
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

static const char messages_json[] = "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi <b> \\u00e9\"},{\"role\":\"assistant\",\"content\":\"<think>x</think>y\",\"tool_calls\":[{\"id\":\"abcdefghi\","
    "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,null,true]}}}]},{\"role\":\"tool\",\"content\":\"1\"}]";
static const char context_json[] = "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],\"n\":7,\"l\":[3,1,2],\"s\":\" text \",\"d\":{\"b\":1,\"a\":[]},\"f\":2.5,\"nil\":null}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    td_chat_template *chat;
    if (bytes > 1 << 14 || td_chat_template_compile((const char *)data, bytes, &chat) < 0) return 0;
    cJSON *messages = cJSON_Parse(messages_json), *context = cJSON_Parse(context_json);
    td_buffer out = {0};
    td_status status = td_chat_template_render(chat, messages, context, bytes & 1, &out);
    if (status < 0 && out.bytes) abort();
    if (out.bytes > 16 << 20) abort();
    td_buffer_free(&out);
    cJSON_Delete(messages);
    cJSON_Delete(context);
    td_chat_template_close(chat);
    return 0;
}
