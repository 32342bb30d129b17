/* pending.c - chat templates and GGUF tokenizers are not in this build yet; both say so. This file goes when chat.c and tokenizer_gguf.c land. */
#include "text/chat.h"
#include "text/tokenizer_parts.h"

td_status td_tokenizer_from_gguf(const td_checkpoint *checkpoint, td_tokenizer **out)
{
    (void)out;
    return td_fail(TD_E_NOT_FOUND, "%s: GGUF tokenizers are not in this build", td_checkpoint_path(checkpoint));
}

td_status td_chat_template_open(const td_checkpoint *checkpoint, td_chat_template **out)
{
    (void)out;
    return td_fail(TD_E_NOT_FOUND, "%s: chat templates are not in this build", td_checkpoint_path(checkpoint));
}

void td_chat_template_close(td_chat_template *chat) { (void)chat; }

td_status td_chat_template_render(const td_chat_template *chat, const cJSON *messages, const cJSON *context, bool add_generation_prompt, td_buffer *out)
{
    (void)chat, (void)messages, (void)context, (void)add_generation_prompt, (void)out;
    return td_fail(TD_E_NOT_FOUND, "chat templates are not in this build");
}
