/*
 * family.h - what a family file provides: how its hyperparameters become a td_config. What its tensors are called stands in checkpoint/names.
 */
#ifndef TD_MODEL_FAMILY_H
#define TD_MODEL_FAMILY_H

#include "checkpoint/names.h"
#include "model/source.h"

typedef struct {
    td_family family;
    td_status (*configure)(const td_source *source, td_arena *arena, td_config *config, bool *is_moe); /* is_moe has TD_LAYERS_MAX entries, all false */
} td_family_rules;

extern const td_family_rules td_rules_step3, td_rules_qwen3, td_rules_qwen3_moe, td_rules_llama, td_rules_deepseek;

/* The rules of a checkpoint's family; TD_E_UNSUPPORTED lists the families that exist. */
td_status td_family_pick(const td_source *source, const td_family_rules **out);

/* What the source means by leaving a key out. */
td_family_defaults td_source_defaults(const td_source *source);

/* What most families have in common: layers, d_model, vocabulary, context, norm_eps, heads, dense width. */
td_status td_family_common(const td_source *source, td_config *config);
/* Grouped-query heads: heads, kv_heads, head_dim; softmax scale 1/sqrt(head_dim); rotates the whole head. */
td_status td_family_gqa(const td_source *source, td_config *config);
/* Refuses a GGUF file that rotates less than heads of k_dim. */
td_status td_family_whole_rope(const td_source *source, const td_config *config);

#endif
