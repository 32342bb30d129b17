/*
 * outline.h - what a text model's configuration says, independent of where it was written: read from config.json or from GGUF keys, written as either. Used by
 * convert and synth; the loader reads the same keys in model/. Knows every family of names.h.
 */
#ifndef TD_CHECKPOINT_OUTLINE_H
#define TD_CHECKPOINT_OUTLINE_H

#include "base/buffer.h"
#include "checkpoint/names.h"

enum { TD_OUTLINE_LAYERS_MAX = 512 };

typedef enum { TD_ROPE_PLAIN, TD_ROPE_LINEAR, TD_ROPE_YARN, TD_ROPE_LLAMA3 } td_rope_kind;

typedef struct {
    td_family family;
    bool v3;                   /* deepseek: V3 (sigmoid, noaux_tc), else V2 */
    int64_t layers, d_model, vocab, context;
    int64_t heads, kv_heads, head_dim, d_ff;
    double norm_eps, rope_theta;
    int64_t q_rank;            /* step3 share_q_dim; deepseek q_lora_rank, 0: none */
    int64_t kv_rank, nope_dim, rope_dim, v_dim; /* deepseek */
    int64_t experts, top_k, d_expert;           /* 0 experts: dense */
    int64_t shared_experts, d_shared;           /* d_shared: width of all together, 0: none */
    bool moe[TD_OUTLINE_LAYERS_MAX];
    bool norm_topk, sigmoid, tied, bias, out_bias; /* bias: on q, k and v; out_bias: on o */
    double routed_scale;       /* 1: none */
    int64_t groups, groups_used; /* 0 or 1: none */
    bool group_greedy;         /* V2: group_limited_greedy */
    td_rope_kind rope;
    double rope_factor, rope_low, rope_high, rope_beta_fast, rope_beta_slow, rope_mscale, rope_mscale_all;
    double rope_attention;     /* YaRN attention_factor, 0: computed from the others */
    bool rope_untruncated;     /* YaRN: the ramp begins and ends between dimensions */
    bool rope_halves;          /* deepseek with rope_interleave false: pairs (i, i + rope_dim/2) */
    int64_t rope_original;     /* original_max_position_embeddings */
    int64_t bos, eos[4];       /* -1: none */
    char name[128];            /* general.name, or the folder's */
} td_outline;

/* Errors: TD_E_UNSUPPORTED (family), TD_E_FORMAT naming the key that is absent or out of range. Every size is within bounds that the rest can multiply without overflow. */
td_status td_outline_read(const td_checkpoint *checkpoint, td_outline *out);

/* config.json as it is published for the family. dtype: "bfloat16", ... */
td_status td_outline_config_json(const td_outline *outline, const char *dtype, td_buffer *out);

/* Shape of a slot's tensor of layer `layer` in a file of that format; false when a model of this outline has no such tensor there. EXPERT_* slots: one expert's. */
bool td_outline_shape(const td_outline *outline, td_format format, td_slot slot, int layer, int *dims, int64_t shape[TD_DIMS_MAX]);

double td_outline_yarn_magnitude(double factor, double mscale); /* what YaRN multiplies cos and sin with */
int64_t td_outline_rope_dim(const td_outline *outline); /* how wide the rotated part of a head is */
/* Divisors of the RoPE frequencies that GGUF stores for llama3 scaling: [td_outline_rope_dim / 2]. */
void td_outline_rope_divisors(const td_outline *outline, float *out);

/* Known models by name ("step3", "qwen3-30b-a3b", ...); TD_E_INVALID lists the names. */
td_status td_outline_preset(const char *like, td_outline *out);
/* Fewer layers (0: all), and widths, heads, experts and vocabulary divided (1: not). */
td_status td_outline_reduce(td_outline *outline, int layers, int divisor);

#endif
