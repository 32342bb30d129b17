/*
 * check.cu - the self-check before a device computes for anyone: the main operations at small shapes against sums formed here on the host. A device, driver or
 * compiler on which they differ is refused in one sentence.
 */
#include "kernel/cuda/cuda.cuh"

#include <cmath>
#include <cstdlib>

enum { ROWS = 5, OUTS = 48, K = 320, HEADS = 8, HEAD = 64, POSITIONS = 150 };

/* A fixed sequence of values within -1..1. */
static float value(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

static td_status verdict(const char *what, double difference, double size, double bound)
{
    double relative = sqrt(difference / (size + 1e-300));
    if (relative <= bound) return TD_OK;
    return td_fail(TD_E_UNSUPPORTED, "cuda: self-check: %s differs from the CPU by %.3g, expected at most %.3g: this device is not used", what, relative, bound);
}

/* Device buffers of one check; freed together. */
struct bag { td_cuda *cuda; void *list[16]; int count; };
static td_status hold(bag *b, const void *data, size_t bytes, void **out)
{
    TD_TRY(td_cuda_new(b->cuda, bytes, out));
    b->list[b->count++] = *out;
    return data ? td_cuda_upload(b->cuda, *out, data, bytes) : TD_OK;
}
static void drop(bag *b)
{
    while (b->count > 0) td_cuda_delete(b->cuda, b->list[--b->count]);
}

struct product_room { unsigned char weights[OUTS * K * 4]; float x[ROWS * K], y[ROWS * OUTS], scale[(OUTS / 128 + 1) * (K / 128 + 1)], row[K], values[OUTS * K]; };

static td_status check_product(td_cuda *cuda, product_room *room, td_dtype type, double bound)
{
    bag b = {cuda, {}, 0};
    uint32_t state = 7;
    td_tensor w = {};
    w.type = type, w.dims = 2, w.shape[0] = OUTS, w.shape[1] = K, w.data = room->weights, w.scale = type == TD_F8_E4M3 ? room->scale : NULL;
    for (size_t i = 0; i < sizeof room->scale / sizeof *room->scale; i++) room->scale[i] = 0.5f + 0.25f * value(&state);
    for (int o = 0; o < OUTS; o++) {
        for (int i = 0; i < K; i++) room->row[i] = value(&state);
        td_quantise_row(type, room->row, room->weights + (size_t)o * td_dtype_row_bytes(type, K), K);
        td_dequantise_row(type, room->weights + (size_t)o * td_dtype_row_bytes(type, K), room->values + o * K, K);
        for (int i = 0; i < K && w.scale; i++) room->values[o * K + i] *= room->scale[i / 128];
    }
    for (int i = 0; i < ROWS * K; i++) room->x[i] = value(&state);
    td_cuda_matrix m = {};
    td_cuda_rows x = {};
    void *dx = NULL, *dy = NULL;
    td_cuda_product p = {};
    td_status status = td_cuda_matrix_load(cuda, &w, NULL, 1, &m);
    if (status == TD_OK) status = td_cuda_rows_new(cuda, m.form, ROWS, K, &x);
    if (status == TD_OK) status = hold(&b, room->x, sizeof room->x, &dx);
    if (status == TD_OK) status = hold(&b, NULL, sizeof room->y, &dy);
    if (status == TD_OK) status = td_cuda_norm(cuda, (const float *)dx, K, ROWS, NULL, -1.0f, &x, NULL);
    p.w = &m, p.x = &x, p.rows = ROWS, p.y = (float *)dy, p.y_stride = OUTS;
    if (status == TD_OK) status = td_cuda_linear(cuda, &p);
    if (status == TD_OK) status = td_cuda_download(cuda, room->y, dy, sizeof room->y);
    if (status == TD_OK) status = td_cuda_finish(cuda);
    double difference = 0, size = 0;
    for (int r = 0; r < ROWS && status == TD_OK; r++)
        for (int o = 0; o < OUTS; o++) {
            double sum = 0, got = room->y[r * OUTS + o];
            for (int i = 0; i < K; i++) sum += (double)room->values[o * K + i] * room->x[r * K + i];
            difference += (got - sum) * (got - sum), size += sum * sum;
        }
    drop(&b);
    if (x.data) td_cuda_rows_free(cuda, &x);
    if (m.data) td_cuda_matrix_free(cuda, &m);
    if (status == TD_OK) status = verdict(type == TD_F8_E4M3 ? "an FP8 product" : type == TD_BF16 ? "a BF16 product" : "an F32 product", difference, size, bound);
    return status;
}

struct attention_room { float q[HEADS * HEAD], k[POSITIONS * HEAD], v[POSITIONS * HEAD], out[HEADS * HEAD]; int32_t positions[POSITIONS], tables[POSITIONS * 3]; };

static void expected_attention(const attention_room *room, int head, double *out)
{
    double scores[POSITIONS], most = -1e300, sum = 0;
    for (int t = 0; t < POSITIONS; t++) {
        scores[t] = 0;
        for (int i = 0; i < HEAD; i++) scores[t] += (double)room->q[head * HEAD + i] * room->k[t * HEAD + i] * 0.125;
        most = scores[t] > most ? scores[t] : most;
    }
    for (int i = 0; i < HEAD; i++) out[i] = 0;
    for (int t = 0; t < POSITIONS; t++) {
        double p = exp(scores[t] - most);
        sum += p;
        for (int i = 0; i < HEAD; i++) out[i] += p * room->v[t * HEAD + i];
    }
    for (int i = 0; i < HEAD; i++) out[i] /= sum;
}

static td_status check_attention(td_cuda *cuda, attention_room *room, td_cuda_kv_type type, double bound)
{
    bag b = {cuda, {}, 0};
    uint32_t state = 11;
    for (int i = 0; i < HEADS * HEAD; i++) room->q[i] = value(&state);
    for (int i = 0; i < POSITIONS * HEAD; i++) room->k[i] = value(&state), room->v[i] = value(&state);
    for (int t = 0; t < POSITIONS; t++) room->positions[t] = t, room->tables[3 * t] = 2, room->tables[3 * t + 1] = 0, room->tables[3 * t + 2] = 3;
    td_cuda_kv kv = {};
    td_cuda_attend_scratch scratch = {};
    void *q = NULL, *k = NULL, *v = NULL, *out = NULL, *positions = NULL, *tables = NULL, *zero = NULL;
    float none[1] = {0};
    td_status status = td_cuda_kv_new(cuda, type, 1, HEAD, HEAD, false, 4, &kv);
    if (status == TD_OK) status = td_cuda_attend_reserve(cuda, &kv, 1, HEADS, 256, 128, &scratch);
    if (status == TD_OK) status = hold(&b, room->q, sizeof room->q, &q);
    if (status == TD_OK) status = hold(&b, room->k, sizeof room->k, &k);
    if (status == TD_OK) status = hold(&b, room->v, sizeof room->v, &v);
    if (status == TD_OK) status = hold(&b, room->positions, sizeof room->positions, &positions);
    if (status == TD_OK) status = hold(&b, room->tables, sizeof room->tables, &tables);
    if (status == TD_OK) status = hold(&b, none, sizeof none, &zero);
    if (status == TD_OK) status = hold(&b, NULL, sizeof room->out, &out);
    td_cuda_rope rope = {};
    rope.frequencies = (const float *)zero, rope.magnitude = 1.0f, rope.n_rot = 2;
    td_cuda_context all = {(const int32_t *)positions, (const int32_t *)tables, 3, 192}, last = {(const int32_t *)positions + POSITIONS - 1, (const int32_t *)tables, 3, 192};
    if (status == TD_OK) status = td_cuda_append(cuda, &rope, &all, POSITIONS, (const float *)k, (const float *)v, &kv);
    if (status == TD_OK) status = td_cuda_attend(cuda, &kv, &last, 1, HEADS, (const float *)q, 0.125f, 0, false, &scratch, (float *)out);
    if (status == TD_OK) status = td_cuda_download(cuda, room->out, out, sizeof room->out);
    if (status == TD_OK) status = td_cuda_finish(cuda);
    double difference = 0, size = 0, expected[HEAD];
    for (int h = 0; h < HEADS && status == TD_OK; h++) {
        expected_attention(room, h, expected);
        for (int i = 0; i < HEAD; i++) {
            double got = room->out[h * HEAD + i];
            difference += (got - expected[i]) * (got - expected[i]), size += expected[i] * expected[i];
        }
    }
    drop(&b);
    td_cuda_attend_release(cuda, &scratch);
    td_cuda_kv_free(cuda, &kv);
    if (status == TD_OK) status = verdict(type == TD_CUDA_KV_F8 ? "attention over an FP8 cache" : "attention over a BF16 cache", difference, size, bound);
    return status;
}

/* Bounds: what the form loses (BF16 2^-9, E4M3 2^-4 at most an element), with room for cancellation in sums around zero. */
td_status td_cuda_self_check(td_cuda *cuda)
{
    product_room *room = (product_room *)malloc(sizeof *room);
    attention_room *attention = (attention_room *)malloc(sizeof *attention);
    td_status status = room && attention ? TD_OK : td_fail(TD_E_MEMORY, "cuda: no memory");
    if (status == TD_OK) status = check_product(cuda, room, TD_F32, 1e-4);
    if (status == TD_OK) status = check_product(cuda, room, TD_BF16, 5e-3);
    if (status == TD_OK) status = check_product(cuda, room, TD_F8_E4M3, 0.06);
    if (status == TD_OK) status = check_attention(cuda, attention, TD_CUDA_KV_BF16, 0.02);
    if (status == TD_OK) status = check_attention(cuda, attention, TD_CUDA_KV_F8, 0.1);
    free(room);
    free(attention);
    return status;
}
