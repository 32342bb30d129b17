/* chat.h - chat templates as published (a Jinja subset), compiled once, rendered with JSON values. */
#ifndef TD_TEXT_CHAT_H
#define TD_TEXT_CHAT_H

#include "base/buffer.h"
#include "checkpoint/checkpoint.h"

typedef struct td_chat_template td_chat_template;

/* Compiles a template. The error says line, column and construct. Source is at most 1 MiB; nesting at most 64. */
td_status td_chat_template_compile(const char *source, size_t bytes, td_chat_template **out);
/* The template of a checkpoint: chat_template.jinja, tokenizer_config.json "chat_template" (string, or list: the one named "default"), or
 * tokenizer.chat_template of GGUF; bos_token and eos_token are taken along. TD_E_NOT_FOUND when there is none. */
td_status td_chat_template_open(const td_checkpoint *checkpoint, td_chat_template **out);
/* The source as it was compiled, NUL-terminated; lives as long as the template. */
const char *td_chat_template_source(const td_chat_template *chat);
void td_chat_template_close(td_chat_template *chat);

/* Renders with variables {messages, add_generation_prompt, bos_token, eos_token} and the members of context (may be NULL). Bounded: at most 16 MiB of output
 * and 10 million evaluation steps. A template's raise_exception("...") gives TD_E_INVALID with its text. Appends to out. */
td_status td_chat_template_render(const td_chat_template *chat, const cJSON *messages, const cJSON *context, bool add_generation_prompt, td_buffer *out);

#endif
