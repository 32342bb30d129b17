/*
 * family_llama.c - Llama 2/3 and what copies it: grouped-query attention, optional biases, tied or separate head, llama3 and linear RoPE scaling.
 * GGUF files store q and k rows reordered for interleaved RoPE (pairs 2i, 2i+1); Hugging Face folders for the half-split form.
 */
#include "model/family.h"

static td_status configure(const td_source *source, td_arena *arena, td_config *c, bool *is_moe)
{
    (void)is_moe;
    TD_TRY(td_family_common(source, c));
    TD_TRY(td_family_gqa(source, c));
    c->rope_neox = source->config != NULL;
    if (!source->config) TD_MAY(source, NULL, "rope.dimension_count", 2, c->k_dim, c->k_dim, &c->rope_dim);
    TD_TRY(td_source_bool(source, "tie_word_embeddings", NULL, false, &c->tied));
    if (c->context_max == 0) c->context_max = 2048;
    return td_rope_fill(source, 10000.0, arena, c);
}

static const td_name names[] = {
    {TD_SLOT_EMBED, "model.embed_tokens.weight", "token_embd.weight"},
    {TD_SLOT_FINAL_NORM, "model.norm.weight", "output_norm.weight"},
    {TD_SLOT_HEAD, "lm_head.weight", "output.weight"},
    {TD_SLOT_ATTN_NORM, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight"},
    {TD_SLOT_Q, "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight"},
    {TD_SLOT_K, "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight"},
    {TD_SLOT_V, "model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight"},
    {TD_SLOT_O, "model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight"},
    {TD_SLOT_Q_BIAS, "model.layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias"},
    {TD_SLOT_K_BIAS, "model.layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias"},
    {TD_SLOT_V_BIAS, "model.layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias"},
    {TD_SLOT_O_BIAS, "model.layers.%d.self_attn.o_proj.bias", "blk.%d.attn_output.bias"},
    {TD_SLOT_FFN_NORM, "model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight"},
    {TD_SLOT_GATE, "model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight"},
    {TD_SLOT_UP, "model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight"},
    {TD_SLOT_DOWN, "model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight"},
    {TD_SLOTS, NULL, NULL},
};

const td_family td_family_llama = {"llama", {"llama", "mistral"}, {"llama"}, configure, names};
