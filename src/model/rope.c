/*
 * rope.c - RoPE frequencies with the scalings that these families use: none, linear, llama3, YaRN.
 * Sources: the Hugging Face keys rope_theta / rope_scaling (transformers 4) or rope_parameters (5); GGUF rope.freq_base, rope.scaling.*, and the tensor rope_freqs.weight
 * (divisors per frequency, how GGUF stores llama3). YaRN: arXiv 2309.00071; DeepSeek's mscale as in its published code.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/source.h"

typedef enum { SCALE_NONE, SCALE_LINEAR, SCALE_LLAMA3, SCALE_YARN } scale_kind;

typedef struct {
    scale_kind kind;
    double theta, factor, original_context;
    double low_freq_factor, high_freq_factor;                         /* llama3 */
    double beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor; /* YaRN; attention_factor 0: computed */
    double more_magnitude;                                            /* GGUF rope.scaling.attn_factor: multiplies cos and sin */
    bool truncate;
} scaling;

/* A view of the source whose keys are those of a nested HF object. */
static td_source nested(const td_source *source, const cJSON *object)
{
    td_source inner = *source;
    inner.config = object;
    return inner;
}

static td_status read_kind(const td_source *source, const char *name, scale_kind *kind)
{
    if (!strcmp(name, "default") || !strcmp(name, "none") || !*name) *kind = SCALE_NONE;
    else if (!strcmp(name, "linear")) *kind = SCALE_LINEAR;
    else if (!strcmp(name, "llama3")) *kind = SCALE_LLAMA3;
    else if (!strcmp(name, "yarn")) *kind = SCALE_YARN;
    else {
        td_source_wrong(source, "RoPE scaling", "one of default, linear, llama3, yarn", name);
        return TD_E_UNSUPPORTED;
    }
    return TD_OK;
}

static td_status optional(const td_source *source, const char *key, double low, double high, double fallback, double *out)
{
    return td_source_float(source, key, NULL, low, high, &fallback, out);
}

static td_status read_hf(const td_source *source, const td_config *config, scaling *s)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(source->config, "rope_scaling"); /* displaces rope_parameters where both stand, as in transformers */
    if (!cJSON_IsObject(object) || !object->child) object = cJSON_GetObjectItemCaseSensitive(source->config, "rope_parameters");
    TD_TRY(optional(source, "rope_theta", 1.0, 1e12, s->theta, &s->theta));
    if (!cJSON_IsObject(object)) return TD_OK;
    td_source inner = nested(source, object);
    const char *name, *older;
    TD_TRY(td_source_text(&inner, "type", "default", &older));
    TD_TRY(td_source_text(&inner, "rope_type", older, &name));
    TD_TRY(read_kind(source, name, &s->kind));
    TD_TRY(optional(&inner, "rope_theta", 1.0, 1e12, s->theta, &s->theta));
    if (s->kind == SCALE_NONE) return TD_OK;
    double none = s->kind == SCALE_YARN ? 0.0 : -1.0;
    TD_TRY(optional(&inner, "factor", 1.0, 1e6, none, &s->factor));
    if (s->factor < 0) return td_source_wrong(source, "rope scaling factor", "a number from 1", "nothing");
    TD_TRY(optional(&inner, "original_max_position_embeddings", 1.0, 1e9, config->context_max, &s->original_context));
    TD_TRY(optional(&inner, "low_freq_factor", 1e-6, 1e6, 1.0, &s->low_freq_factor));
    TD_TRY(optional(&inner, "high_freq_factor", 1e-6, 1e6, 4.0, &s->high_freq_factor));
    TD_TRY(optional(&inner, "beta_fast", 1e-6, 1e6, 32.0, &s->beta_fast));
    TD_TRY(optional(&inner, "beta_slow", 1e-6, 1e6, 1.0, &s->beta_slow));
    TD_TRY(optional(&inner, "mscale", 0.0, 1e3, 0.0, &s->mscale));
    TD_TRY(optional(&inner, "mscale_all_dim", 0.0, 1e3, 0.0, &s->mscale_all_dim));
    TD_TRY(optional(&inner, "attention_factor", 0.0, 1e3, 0.0, &s->attention_factor));
    TD_TRY(td_source_bool(&inner, "truncate", NULL, true, &s->truncate));
    if (s->factor == 0.0) s->factor = config->context_max / s->original_context;
    return TD_OK;
}

static td_status gguf_optional(const td_source *source, const char *key, double low, double high, double fallback, double *out)
{
    return td_source_float(source, NULL, key, low, high, &fallback, out);
}

static td_status read_gguf(const td_source *source, const td_config *config, scaling *s)
{
    char key[128], name[32] = "none";
    const char *text;
    size_t bytes;
    snprintf(key, sizeof key, "%s.rope.scaling.type", source->architecture);
    bool found = td_gguf_string(source->checkpoint, key, &text, &bytes);
    if (!found && td_gguf_has(source->checkpoint, key)) return td_source_wrong(source, key, "a string", "another type");
    TD_TRY(gguf_optional(source, "rope.scale_linear", 1.0, 1e6, 1.0, &s->factor)); /* how the factor was spelled before rope.scaling */
    TD_TRY(gguf_optional(source, "rope.scaling.factor", 1.0, 1e6, s->factor, &s->factor));
    if (!found && s->factor != 1.0) snprintf(name, sizeof name, "linear"); /* what readers of the format assume */
    if (found) snprintf(name, sizeof name, "%.*s", (int)TD_MIN(bytes, sizeof name - 1), text);
    TD_TRY(read_kind(source, name, &s->kind));
    TD_TRY(gguf_optional(source, "rope.freq_base", 1.0, 1e12, s->theta, &s->theta));
    TD_TRY(gguf_optional(source, "rope.scaling.original_context_length", 1.0, 1e9, config->context_max, &s->original_context));
    TD_TRY(gguf_optional(source, "rope.scaling.attn_factor", 0.0, 1e3, 1.0, &s->more_magnitude));
    TD_TRY(gguf_optional(source, "rope.scaling.yarn_attn_factor", 0.0, 1e3, 0.0, &s->attention_factor));
    TD_TRY(gguf_optional(source, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32.0, &s->beta_fast));
    TD_TRY(gguf_optional(source, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1.0, &s->beta_slow));
    double multiplier; /* GGUF stores 0.1 * mscale_all_dim for deepseek2; mscale equals it in every published file */
    TD_TRY(gguf_optional(source, "rope.scaling.yarn_log_multiplier", 0.0, 1e3, 0.0, &multiplier));
    s->mscale = s->mscale_all_dim = multiplier * 10.0;
    td_gguf_bool(source->checkpoint, "tandem.rope.yarn.truncate", &s->truncate);
    return TD_OK;
}

static double yarn_mscale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0; }

static double correction_dim(const scaling *s, double rotations, int dim)
{
    return dim * log(s->original_context / (rotations * 2.0 * M_PI)) / (2.0 * log(s->theta));
}

static void yarn_frequencies(const scaling *s, int dim, float *f)
{
    double low = correction_dim(s, s->beta_fast, dim), high = correction_dim(s, s->beta_slow, dim);
    if (s->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, dim - 1.0);
    if (low == high) high += 0.001;
    for (int i = 0; i < dim / 2; i++) {
        float ramp = (float)fmin(fmax((i - low) / (high - low), 0.0), 1.0), keep = 1.0f - ramp;
        float extra = f[i], inter = (float)(1.0 / (s->factor * (1.0 / (double)f[i])));
        f[i] = inter * (1.0f - keep) + extra * keep;
    }
}

static void llama3_frequencies(const scaling *s, int dim, float *f)
{
    double longest = s->original_context / s->low_freq_factor, shortest = s->original_context / s->high_freq_factor;
    for (int i = 0; i < dim / 2; i++) {
        double length = 2.0 * M_PI / (double)f[i];
        if (length > longest) f[i] = (float)((double)f[i] / s->factor);
        else if (length >= shortest) {
            double smooth = (s->original_context / length - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
            f[i] = (float)((1.0 - smooth) * (double)f[i] / s->factor + smooth * (double)f[i]);
        }
    }
}

td_status td_rope_fill(const td_source *source, double default_theta, td_arena *arena, td_config *config)
{
    scaling s = {.theta = default_theta, .factor = 1.0, .original_context = config->context_max, .more_magnitude = 1.0, .truncate = true};
    if (source->config) TD_TRY(read_hf(source, config, &s));
    else TD_TRY(read_gguf(source, config, &s));
    int dim = config->rope_dim;
    float *f = TD_NEW(arena, float, (size_t)dim / 2 + 1);
    if (!f) return TD_E_MEMORY;
    for (int i = 0; i < dim / 2; i++) f[i] = 1.0f / powf((float)s.theta, (float)(2 * i) / (float)dim);
    if (s.kind == SCALE_LINEAR)
        for (int i = 0; i < dim / 2; i++) f[i] = (float)((double)f[i] / s.factor);
    if (s.kind == SCALE_LLAMA3) llama3_frequencies(&s, dim, f);
    if (s.kind == SCALE_YARN) yarn_frequencies(&s, dim, f);
    const td_tensor *divisors = source->config ? NULL : td_checkpoint_find(source->checkpoint, "rope_freqs.weight");
    if (divisors) {
        if (divisors->type != TD_F32 || td_tensor_elements(divisors) != dim / 2) return td_source_wrong(source, "tensor rope_freqs.weight", "f32 with half of the rotated width", "another shape or type");
        for (int i = 0; i < dim / 2; i++) f[i] /= ((const float *)divisors->data)[i];
    }
    config->rope_frequencies = f;
    config->rope_magnitude = (float)s.more_magnitude;
    if (s.kind == SCALE_YARN) {
        double computed = s.mscale > 0 && s.mscale_all_dim > 0 ? yarn_mscale(s.factor, s.mscale) / yarn_mscale(s.factor, s.mscale_all_dim) : yarn_mscale(s.factor, 1.0);
        config->rope_magnitude = (float)(s.more_magnitude * (s.attention_factor > 0 ? s.attention_factor : computed));
    }
    if (s.kind != SCALE_NONE && config->attention == TD_ATTN_MLA && s.mscale_all_dim > 0) { /* whatever the kind, as the published code has it */
        double m = yarn_mscale(s.factor, s.mscale_all_dim);
        config->softmax_scale = (float)((double)config->softmax_scale * m * m);
    }
    return TD_OK;
}
