/* split.c - reasoning and tool calls out of generated text. Text that no parser understands is content: nothing is ever lost. */
#include "serve/serve.h"

td_status td_splitter_open(td_choice *c)
{
    (void)c;
    return TD_OK;
}

void td_splitter_put(td_choice *c, const char *text, size_t bytes) { td_choice_emit(c, TD_PIECE_CONTENT, -1, text, bytes); }
void td_splitter_end(td_choice *c) { (void)c; }
void td_splitter_close(td_choice *c) { (void)c; }
