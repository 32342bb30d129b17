/*
 * embeddings.c - POST /v1/embeddings: the model's final hidden states (after the last norm), the last token's or their mean, scaled to length 1. A prompt is
 * an ordinary request without completion; a hook takes the rows.
 */
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve.h"

static td_status prepare(td_exchange *x)
{
    td_ask *ask = &x->ask;
    TD_TRY(td_fields_read(x, &td_embeddings_fields));
    int width = x->server->info->d_model;
    if (ask->dimensions && ask->dimensions != width) return td_serve_refuse(x, 400, "unsupported_value", "dimensions", "dimensions: expected %d, the model's width, found %lld", width, (long long)ask->dimensions);
    TD_TRY(td_prompts_from_field(x, ask->input, "input"));
    for (int i = 0; i < x->prompt_count; i++)
        if (x->prompts[i].text && !x->prompts[i].text_bytes) return td_serve_refuse(x, 400, "invalid_value", "input", "input: expected text, found an empty string");
    TD_TRY(td_choices_make(x));
    for (int i = 0; i < x->choice_count; i++) {
        td_held *held = calloc(1, sizeof *held);
        double *sum = calloc((size_t)width, sizeof *sum);
        x->choices[i].held = held;
        if (held) *held = (td_held){.sum = sum, .width = width, .mean = ask->mean_pooling};
        else free(sum);
        if (!held || !sum) return td_fail(TD_E_MEMORY, "input: no memory");
    }
    return TD_OK;
}

/* Decoding thread. Rows come in order; those that are read again after a preemption were taken already. */
static void take_rows(void *user, td_point point, int layer, int64_t position, int rows, int width, float *data)
{
    td_held *held = user;
    (void)layer;
    if (point != TD_POINT_FINAL || width != held->width) return;
    for (int64_t r = TD_MAX(held->rows - position, (int64_t)0); r < rows; r++, held->rows++)
        for (int i = 0; i < width; i++) held->sum[i] = (held->mean ? held->sum[i] : 0) + (double)data[r * width + i];
}

static void adjust(td_choice *c, td_request_options *o)
{
    int layers = c->exchange->server->info->layers;
    o->max_tokens = -1;
    o->hook = take_rows;
    o->hook_user = c->held;
    o->hook_points = 1u << TD_POINT_FINAL;
    o->hook_layer_first = o->hook_layer_last = layers;
}

static void put_vector(td_choice *c, td_buffer *out)
{
    const td_held *held = c->held;
    double square = 0;
    for (int i = 0; i < held->width; i++) square += held->sum[i] * held->sum[i];
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    float *values = TD_NEW(&c->exchange->arena, float, (size_t)held->width);
    size_t room = sodium_base64_encoded_len((size_t)held->width * sizeof *values, sodium_base64_VARIANT_ORIGINAL);
    char *text = TD_NEW(&c->exchange->arena, char, room);
    if (!values || !text) {
        out->failed = true;
        return;
    }
    for (int i = 0; i < held->width; i++) values[i] = (float)(held->sum[i] * scale);
    if (c->exchange->ask.base64) {
        sodium_bin2base64(text, room, (const unsigned char *)values, (size_t)held->width * sizeof *values, sodium_base64_VARIANT_ORIGINAL);
        td_body_text(out, text);
        return;
    }
    td_buffer_text(out, "[");
    for (int i = 0; i < held->width; i++) td_buffer_format(out, "%s%.9g", i ? "," : "", (double)values[i]);
    td_buffer_text(out, "]");
}

static void whole(td_exchange *x)
{
    td_buffer_text(&x->out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < x->choice_count; i++) {
        td_buffer_format(&x->out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        put_vector(&x->choices[i], &x->out);
        td_buffer_text(&x->out, "}");
    }
    int64_t tokens = td_usage_prompt(x, NULL);
    td_buffer_text(&x->out, "],\"model\":");
    td_body_text(&x->out, x->server->name);
    td_buffer_format(&x->out, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", (long long)tokens, (long long)tokens);
}

const td_shape td_embeddings_shape = {.name = "embeddings", .id_prefix = "emb-", .prepare = prepare, .adjust = adjust, .whole = whole};
