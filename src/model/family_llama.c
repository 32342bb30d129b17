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
    return td_rope_fill(source, td_source_defaults(source).rope_theta, arena, c);
}

const td_family_rules td_rules_llama = {TD_FAMILY_LLAMA, configure};
