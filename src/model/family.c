/* family.c - the list of families, and what they share. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const td_family *const families[] = {&td_family_step3, &td_family_qwen3, &td_family_qwen3_moe, &td_family_llama, &td_family_deepseek};

static bool listed(const char *const *types, size_t count, const char *type)
{
    for (size_t i = 0; i < count && types[i]; i++)
        if (!strcmp(types[i], type)) return true;
    return false;
}

td_status td_family_of(const td_source *source, const td_family **out)
{
    for (size_t i = 0; i < TD_COUNT(families); i++) {
        const td_family *f = families[i];
        if (source->config ? listed(f->hf_types, TD_COUNT(f->hf_types), source->architecture) : listed(f->gguf_types, TD_COUNT(f->gguf_types), source->architecture)) {
            *out = f;
            return TD_OK;
        }
    }
    return td_fail(TD_E_UNSUPPORTED, "%s: expected a model of the families step3, qwen3, qwen3_moe, llama, deepseek_v2, deepseek_v3, found '%s'",
                   td_checkpoint_path(source->checkpoint), source->architecture);
}

void td_name_spell(const td_name *name, bool gguf, int layer, int expert, char *out, size_t room)
{
    const char *pattern = gguf ? name->gguf : name->hf;
    int length = 0;
    int numbers[2] = {layer, expert}, next = 0;
    for (const char *p = pattern; *p && (size_t)length + 12 < room; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            length += snprintf(out + length, room - (size_t)length, "%d", numbers[next++ & 1]);
            p++;
        } else {
            out[length++] = *p;
        }
    }
    out[length] = 0;
}

td_status td_family_common(const td_source *source, td_config *c)
{
    double eps;
    TD_NEED(source, "num_hidden_layers", "block_count", 1, TD_LAYERS_MAX, &c->layers);
    TD_NEED(source, "hidden_size", "embedding_length", 1, 1 << 20, &c->d_model);
    TD_NEED(source, "num_attention_heads", "attention.head_count", 1, TD_HEADS_MAX, &c->heads);
    TD_MAY(source, "intermediate_size", "feed_forward_length", 0, 1 << 24, 0, &c->d_ff);
    TD_TRY(td_source_float(source, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0.0, 1.0, &(double){1e-6}, &eps));
    c->norm_eps = (float)eps;
    if (source->config) TD_NEED(source, "vocab_size", NULL, 1, 1 << 24, &c->vocab);
    c->router_scale = c->rope_magnitude = 1.0f;
    c->groups = c->groups_used = 1;
    if (!source->config) {
        const td_tensor *embed = td_checkpoint_find(source->checkpoint, "token_embd.weight");
        if (!embed || embed->dims != 2) return td_source_wrong(source, "tensor token_embd.weight", "a matrix", "none");
        c->vocab = (int)embed->shape[0];
    }
    TD_MAY(source, "max_position_embeddings", "context_length", 1, 1 << 24, 0, &c->context_max);
    return TD_OK;
}

td_status td_family_gqa(const td_source *source, td_config *c)
{
    int head_dim;
    c->attention = TD_ATTN_GQA;
    TD_MAY(source, "num_key_value_heads", "attention.head_count_kv", 1, TD_HEADS_MAX, c->heads, &c->kv_heads);
    if (c->heads % c->kv_heads) return td_source_wrong(source, "key-value heads", "a divisor of the query heads", "another number");
    TD_MAY(source, "head_dim", "attention.key_length", 2, 1 << 14, c->d_model / c->heads, &head_dim);
    if (head_dim % 2) return td_source_wrong(source, "head_dim", "an even number", "an odd one");
    c->k_dim = c->v_dim = c->head_v_dim = c->rope_dim = head_dim;
    c->softmax_scale = 1.0f / sqrtf((float)head_dim);
    c->rope_neox = true;
    return TD_OK;
}
