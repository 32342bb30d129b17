/*
 * names.h - what every family calls its tensors, in Hugging Face folders and in GGUF: the one table that the loader (model/) and convert share.
 *
 * A slot is a weight's place in the model, whatever the file calls it. The table also says on which side of the house a slot lives.
 *
 * Layout differences between the two formats, beside the names:
 *   - llama GGUF stores the rows of q and k (and their biases) permuted for interleaved RoPE: GGUF row h*D + 2j + s is HF row h*D + s*D/2 + j (head h, D = head_dim,
 *     s in 0..1). So rope_neox is true for llama from HF and false from GGUF. qwen3, qwen3_moe and step3: same rows in both, rope_neox true. deepseek: same rows
 *     in both, rope_neox false (interleaved in the published HF checkpoints too).
 *   - deepseek GGUF has kv_b split: K_B [heads, kv_rank, nope] (W_uk of each head transposed) and V_B [heads, v, kv_rank]; HF (and older GGUF: attn_kv_b) has
 *     KV_B [heads*(nope+v), kv_rank]. td_layout_k_b and td_layout_v_b (layout.h) give the split form.
 *   - experts: GGUF and Step-3 stack them (EXPERTS_*: [experts, out, in]); HF qwen3_moe and deepseek publish one matrix each (EXPERT_*); transformers 5 may write
 *     them stacked with gate and up joined (EXPERTS_GATE_UP: [experts, 2*ff, d], gate rows first), as some GGUFs do. td_names_expert hides this.
 *   - norms of step3, qwen3, llama and deepseek are stored as they are multiplied (no + 1).
 */
#ifndef TD_CHECKPOINT_NAMES_H
#define TD_CHECKPOINT_NAMES_H

#include "checkpoint/checkpoint.h"

typedef enum { TD_FAMILY_NONE, TD_FAMILY_STEP3, TD_FAMILY_QWEN3, TD_FAMILY_QWEN3_MOE, TD_FAMILY_LLAMA, TD_FAMILY_DEEPSEEK, TD_FAMILIES } td_family;

typedef enum {
    TD_SLOT_EMBED,        /* [vocab, d] */
    TD_SLOT_FINAL_NORM,   /* [d] */
    TD_SLOT_HEAD,         /* [vocab, d]; absent: tied to the embedding */
    TD_SLOT_ROPE_FREQS,   /* GGUF only: [rope_dim/2] divisors of the RoPE frequencies (llama3 scaling, already worked out) */
    /* per layer, attention side */
    TD_SLOT_ATTN_NORM, TD_SLOT_FFN_NORM,
    TD_SLOT_Q, TD_SLOT_K, TD_SLOT_V, TD_SLOT_O,                           /* GQA; step3 has K, V, O; deepseek lite has Q */
    TD_SLOT_Q_BIAS, TD_SLOT_K_BIAS, TD_SLOT_V_BIAS, TD_SLOT_O_BIAS,
    TD_SLOT_Q_NORM, TD_SLOT_K_NORM,                                       /* [head_dim] */
    TD_SLOT_Q_A, TD_SLOT_Q_A_NORM, TD_SLOT_Q_B,                           /* step3: q_proj, inter_norm, wq; deepseek: q_a, q_a_layernorm, q_b */
    TD_SLOT_KV_A, TD_SLOT_KV_A_NORM, TD_SLOT_KV_B, TD_SLOT_K_B, TD_SLOT_V_B,
    TD_SLOT_ROUTER, TD_SLOT_ROUTER_BIAS,                                  /* [experts, d]; [experts] for the choice only */
    /* per layer, FFN side */
    TD_SLOT_GATE, TD_SLOT_UP, TD_SLOT_DOWN,                               /* dense layers */
    TD_SLOT_EXPERT_GATE, TD_SLOT_EXPERT_UP, TD_SLOT_EXPERT_DOWN,          /* one expert's matrix */
    TD_SLOT_EXPERTS_GATE, TD_SLOT_EXPERTS_UP, TD_SLOT_EXPERTS_DOWN, TD_SLOT_EXPERTS_GATE_UP, /* all experts of a layer */
    TD_SLOT_SHARED_GATE, TD_SLOT_SHARED_UP, TD_SLOT_SHARED_DOWN,          /* shared expert(s) as one */
    TD_SLOTS
} td_slot;

typedef enum { TD_KIND_MATRIX, TD_KIND_EMBED, TD_KIND_NORM, TD_KIND_BIAS, TD_KIND_ROUTER } td_slot_kind; /* only MATRIX and EMBED (embedding, head) are ever quantised */

enum { TD_NAME_MAX = 160 };

typedef struct { td_slot slot; int layer, expert; } td_name; /* layer and expert are -1 where the slot has none */

const char *td_family_name(td_family family); /* "step3", "qwen3", "qwen3_moe", "llama", "deepseek"; "?" */
/* From config.json's model_type (step3_vl, step3_text, qwen3, qwen3_moe, llama, deepseek_v2, deepseek_v3) or GGUF's general.architecture
 * (step3, qwen3, qwen3moe, llama, deepseek2). TD_FAMILY_NONE for any other; then *found (may be NULL) is what was found, or NULL when nothing was. */
td_family td_family_of(const td_checkpoint *checkpoint, const char **found);
const char *td_family_architecture(td_family family); /* GGUF's general.architecture, which also prefixes the keys */

/* What a checkpoint means by leaving a key out: for config.json the defaults of the published configuration classes (transformers; step3: the published code). */
typedef struct {
    double rope_theta, norm_eps, routed_scale;
    int kv_heads, head_dim;                               /* 0: as many as query heads; hidden_size over heads */
    int first_dense, shared_experts, groups, groups_used; /* deepseek */
} td_family_defaults;
bool td_family_is_v3(const char *model_type); /* deepseek_v3 and what copies it */
td_family_defaults td_family_get_defaults(td_family family, bool v3, td_format format);

const char *td_slot_name(td_slot slot);     /* "attn_norm", ... for messages and tables */
td_slot_kind td_slot_get_kind(td_slot slot);
char td_slot_side(td_slot slot);            /* 'A' or 'F' */
bool td_slot_per_layer(td_slot slot);

/* The name as written in a file of that format; false when the format does not have the slot. layer and expert are ignored where the slot has none. */
bool td_name_write(td_family family, td_format format, td_slot slot, int layer, int expert, char out[TD_NAME_MAX]);

/* The other way; false for tensors that are not part of the text model's plain decoding (vision, MTP, rope caches). Knows the prefixes "model.",
 * "model.language_model.", "language_model.model.", "language_model." and none. */
bool td_name_read(td_family family, td_format format, const char *name, td_name *out);

/* The tensor of a slot, whatever prefix the checkpoint uses; NULL when absent. Experts: use td_names_expert. */
const td_tensor *td_names_find(const td_checkpoint *checkpoint, td_family family, td_slot slot, int layer, int expert);

/* One expert's matrix as a view into the checkpoint, however it is stored. part: TD_SLOT_EXPERT_GATE, _UP or _DOWN.
 * Errors: TD_E_NOT_FOUND names the tensor that was looked for; TD_E_FORMAT: a stacked tensor of another shape, or without this expert. */
td_status td_names_expert(const td_checkpoint *checkpoint, td_family family, td_slot part, int layer, int expert, td_tensor *out);

#endif
