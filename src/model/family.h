/*
 * family.h - what a family file provides: how its hyperparameters become a td_config, and what its tensors are called in either format.
 */
#ifndef TD_MODEL_FAMILY_H
#define TD_MODEL_FAMILY_H

#include "model/source.h"

/* Every place a tensor can take. The first group belongs to the attention side, the second to the FFN side. */
typedef enum {
    TD_SLOT_EMBED, TD_SLOT_FINAL_NORM, TD_SLOT_HEAD,
    TD_SLOT_ATTN_NORM, TD_SLOT_Q, TD_SLOT_Q_A, TD_SLOT_Q_A_NORM, TD_SLOT_K, TD_SLOT_V, TD_SLOT_KV_A_NORM, TD_SLOT_KV_B, TD_SLOT_K_B, TD_SLOT_V_B, TD_SLOT_O,
    TD_SLOT_Q_BIAS, TD_SLOT_K_BIAS, TD_SLOT_V_BIAS, TD_SLOT_O_BIAS, TD_SLOT_Q_NORM, TD_SLOT_K_NORM,
    TD_SLOT_FFN_NORM, TD_SLOT_ROUTER, TD_SLOT_ROUTER_BIAS,
    TD_SLOT_GATE, TD_SLOT_UP, TD_SLOT_DOWN,
    TD_SLOT_EXPERT_GATE, TD_SLOT_EXPERT_UP, TD_SLOT_EXPERT_DOWN,  /* stacked [experts, out, in], or one tensor an expert (HF name with two %d) */
    TD_SLOT_EXPERT_GATE_UP,                                       /* stacked [experts, 2*d_expert, d_model]: gate then up (transformers 5) */
    TD_SLOT_SHARED_GATE, TD_SLOT_SHARED_UP, TD_SLOT_SHARED_DOWN,
    TD_SLOTS
} td_slot;

/* Is the tensor of this slot needed by the FFN side (else by the attention side)? */
static inline bool td_slot_is_ffn(td_slot slot) { return slot >= TD_SLOT_GATE; }

/* %d: layer; a second %d: expert. Patterns without the weight's suffix ".weight" unless another suffix is given. Several rows may name one slot: the first present wins. */
typedef struct { td_slot slot; const char *hf, *gguf; } td_name;

typedef struct {
    const char *name;                 /* "step3" */
    const char *hf_types[8];          /* model_type values, NULL-terminated */
    const char *gguf_types[4];        /* general.architecture values */
    td_status (*configure)(const td_source *source, td_arena *arena, td_config *config, bool *is_moe); /* is_moe has TD_LAYERS_MAX entries */
    const td_name *names;             /* ends with hf and gguf NULL */
} td_family;

extern const td_family td_family_step3, td_family_qwen3, td_family_qwen3_moe, td_family_llama, td_family_deepseek;

/* The family of a checkpoint; TD_E_UNSUPPORTED lists those that exist. */
td_status td_family_of(const td_source *source, const td_family **out);
/* Writes a tensor's full name. */
void td_name_spell(const td_name *name, bool gguf, int layer, int expert, char *out, size_t room);

/* What most families have in common: layers, d_model, vocabulary, context, norm_eps, heads, dense width. */
td_status td_family_common(const td_source *source, td_config *config);
/* Grouped-query heads: heads, kv_heads, head_dim; softmax scale 1/sqrt(head_dim); rotates the whole head. */
td_status td_family_gqa(const td_source *source, td_config *config);

#endif
