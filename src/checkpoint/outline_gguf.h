/* outline_gguf.h - the outline as GGUF keys. For checkpoint/ only. */
#ifndef TD_CHECKPOINT_OUTLINE_GGUF_H
#define TD_CHECKPOINT_OUTLINE_GGUF_H

#include "checkpoint/outline.h"
#include "checkpoint/sink.h"

/* general.* and <architecture>.* keys; type: what most weights have. */
void td_outline_gguf_keys(const td_outline *outline, td_dtype type, td_gguf_keys *keys);

#endif
