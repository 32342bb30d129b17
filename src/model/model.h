/*
 * model.h - a model as the two wings see it: one description of shapes and rules, one table of weights for the attention side, one for the FFN side.
 *
 * Families differ only here (model/family_*.c fill td_config and say which tensors a layer has); attention/ and ffn/ read the description and know no family.
 * Everything is immutable after td_model_open. Matrices are [out, in] views into the mapped checkpoint or into the load arena when they were converted.
 */
#ifndef TD_MODEL_MODEL_H
#define TD_MODEL_MODEL_H

#include "base/arena.h"
#include "checkpoint/checkpoint.h"
#include "tensor/tensor.h"
#include "text/chat.h"
#include "text/tokenizer.h"

enum { TD_LAYERS_MAX = 512, TD_EXPERTS_MAX = 4096, TD_TOP_K_MAX = 64, TD_HEADS_MAX = 1024 };

typedef enum { TD_ATTN_GQA, TD_ATTN_MFA, TD_ATTN_MLA } td_attention_kind;
typedef enum { TD_SCORE_SOFTMAX, TD_SCORE_SIGMOID } td_router_score;

typedef struct {
    char family[32];
    int layers, d_model, vocab, context_max;
    float norm_eps, latent_eps; /* latent_eps: of the norms inside MFA and MLA (q_a_norm, kv_a_norm) */

    td_attention_kind attention;
    int heads, kv_heads;       /* query heads; KV heads as cached (MFA, MLA: 1) */
    int k_dim, v_dim;          /* width of a cached K row and V row of one KV head. MLA: kv_rank + rope_dim and kv_rank (V is the front of K) */
    int head_v_dim;            /* width of one head's output before o: v_dim, but MLA: v_head_dim after unabsorbing */
    int q_rank;                /* MFA: share_q_dim; MLA: q_lora_rank, 0 without; GQA: 0 */
    int kv_rank, nope_dim;     /* MLA: kv_lora_rank, qk_nope_head_dim */
    int rope_dim;              /* rotated elements of a head (the last rope_dim of MLA heads, else the first) */
    bool rope_neox;            /* pairs (i, i + rope_dim/2); else (2i, 2i+1) */
    bool qk_norm;              /* RMSNorm over each head of q and k before RoPE */
    bool attention_bias;       /* q, k, v and o have biases: the configuration says so (otherwise they are used where they are) */
    int window;                /* sliding window in tokens, 0: none */
    float softmax_scale;
    float rope_magnitude;      /* multiplies cos and sin (YaRN attention factor), else 1 */
    const float *rope_frequencies; /* [rope_dim/2], scaling applied */

    int d_ff;                  /* dense layers */
    int experts, top_k, d_expert, d_shared; /* d_shared 0: no shared expert */
    td_router_score router_score;
    bool router_norm;          /* chosen weights are divided by their sum */
    float router_scale;        /* then multiplied */
    int groups, groups_used;   /* group-limited choice; groups 1: none */
    bool router_bias;          /* a bias for the choice is required */
    bool group_by_top2;        /* score of a group: sum of its two best (biased) scores; else its best */
    bool tied;                 /* LM head is the embedding */
} td_config;

/* Attention side of a layer. Vectors are float32; a NULL data / pointer means that the family has none. */
typedef struct {
    const float *attn_norm, *ffn_norm;    /* [d_model] */
    td_tensor q;                          /* GQA [heads*k_dim, d_model]; MFA wq [heads*k_dim, q_rank]; MLA q_b (or q) [heads*(nope+rope), q_rank or d_model] */
    td_tensor q_a;                        /* MFA q_proj, MLA q_a: [q_rank, d_model] */
    const float *q_a_norm;                /* [q_rank] */
    td_tensor k, v;                       /* GQA, MFA: [kv_heads*k_dim, d_model], [kv_heads*v_dim, d_model]; MLA: k is kv_a_mqa [kv_rank + rope_dim, d_model] */
    const float *kv_a_norm;               /* MLA [kv_rank] */
    const td_tensor *k_b, *v_b;           /* MLA, per head: k_b [kv_rank, nope_dim] (absorbs W_uk into q), v_b [head_v_dim, kv_rank] */
    td_tensor o;                          /* [d_model, heads*head_v_dim] */
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    const float *q_norm, *k_norm;         /* [k_dim], with qk_norm */
    td_tensor router;                     /* MoE layers: [experts, d_model], F32 */
    const float *router_bias;             /* [experts], for the choice only */
} td_layer_attention;

/* FFN side of a layer. */
typedef struct {
    td_tensor gate, up, down;                                  /* dense: [d_ff, d_model] x2, [d_model, d_ff]; on MoE layers zeroed */
    const td_tensor *expert_gate, *expert_up, *expert_down;    /* MoE: arrays of `experts` matrices; NULL on dense layers. data NULL: not loaded here */
    td_tensor shared_gate, shared_up, shared_down;             /* zeroed without shared expert */
} td_layer_ffn;

enum { TD_ENDS_MAX = 32 };

struct td_model {
    td_config config;
    const bool *is_moe;                  /* [layers] */
    td_tensor embed, head;               /* [vocab, d_model] */
    const float *final_norm;
    const td_layer_attention *attention; /* [layers]; NULL when opened for FFN only */
    const td_layer_ffn *ffn;             /* [layers]; NULL when opened for attention only */
    td_checkpoint *checkpoint;           /* owned */
    td_tokenizer *tokenizer;             /* owned; NULL when the checkpoint has none */
    td_chat_template *chat;              /* owned; NULL likewise */
    struct td_grammar_vocab *grammar_vocab; /* owned; NULL until a grammar was used: constraint.c */
    td_arena arena;                      /* load: converted weights, norms, tables */
    int32_t ends[TD_ENDS_MAX];           /* end tokens that the checkpoint names, whatever its tokenizer knows */
    int end_count;
    td_model_info info;
};

/* A token that ends a text: named by config.json, generation_config.json or GGUF metadata, or by the tokenizer. */
bool td_model_is_end(const td_model *model, int32_t token);

/* After logits that are no numbers: looks through the weights (slow) and leaves a sentence for td_error that names the first tensor with NaN or infinity, or says that
 * all weights are finite and the activations overflowed. Returns TD_E_FORMAT. */
td_status td_model_explain_nan(const td_model *model);

/* The error that td_constraint_mask ended with on this thread since the last call here (td_error() has its sentence), or TD_OK: how an engine tells it from a complete grammar. */
td_status td_constraint_take_error(void);

#endif
