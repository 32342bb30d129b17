/*
 * layout.cu - weights and activations in the device's layout: made once at load, on the host's cores, and uploaded; or filled at random for timings.
 */
#include "kernel/cuda/cuda.cuh"

#include <cstdlib>

enum { UNIT = 16 };

td_cuda_form td_cuda_form_of(td_dtype type) { return type == TD_F8_E4M3 ? TD_CUDA_F8 : type == TD_BF16 ? TD_CUDA_BF16 : TD_CUDA_BF16X2; }

static td_status allocate(td_cuda *cuda, td_cuda_form form, int64_t outs, int64_t k, int count, bool pair, td_cuda_matrix *out)
{
    int64_t units = (outs + UNIT - 1) / UNIT, tiles_k = td_cuda_padded(form, k) / td_cuda_tile_k(form);
    if (pair && outs % UNIT) return td_fail(TD_E_UNSUPPORTED, "cuda: expected gate and up with a multiple of 8 rows, found %lld", (long long)(outs / 2));
    td_cuda_matrix m = {};
    m.form = form, m.count = count, m.pair = pair, m.out = outs, m.k = k;
    m.matrix_bytes = (size_t)(units * tiles_k) * UNIT * 128 * (size_t)td_cuda_planes(form);
    m.scale_floats = form == TD_CUDA_F8 ? (size_t)(units * 2 * tiles_k) : 0;
    TD_TRY(td_cuda_new(cuda, m.matrix_bytes * (size_t)count, &m.data));
    if (m.scale_floats) {
        td_status status = td_cuda_new(cuda, m.scale_floats * (size_t)count * sizeof(float), (void **)&m.scale);
        if (status < 0) {
            td_cuda_delete(cuda, m.data);
            return status;
        }
    }
    *out = m;
    return TD_OK;
}

/* Row r of the laid out matrix is row *row of gate or up. */
static const td_tensor *source(const td_tensor *w, const td_tensor *up, int64_t r, int64_t *row)
{
    if (!up) return *row = r, w;
    *row = r / UNIT * 8 + r % 8;
    return r % UNIT < 8 ? w : up;
}

/* One row into its unit. `bytes` is the matrix, f32 has room for a row. */
static void place_row(const td_cuda_matrix *m, const td_tensor *w, int64_t row, int64_t r, unsigned char *bytes, float *f32)
{
    int tile_k = td_cuda_tile_k(m->form);
    int64_t tiles_k = td_cuda_padded(m->form, m->k) / tile_k;
    size_t plane = m->matrix_bytes / (size_t)td_cuda_planes(m->form);
    const unsigned char *from = (const unsigned char *)w->data + (size_t)row * td_dtype_row_bytes(w->type, m->k);
    if (m->form == TD_CUDA_BF16X2) td_dequantise_row(w->type, from, f32, m->k);
    for (int64_t k = 0; k < m->k; k++) {
        int64_t tile = k / tile_k;
        int in_row = (int)(k % tile_k) * (128 / tile_k);
        unsigned char *to = bytes + ((r / UNIT * tiles_k + tile) * UNIT * 128) + td_swizzled((int)(r % UNIT), in_row / 16) + in_row % 16;
        if (m->form == TD_CUDA_F8) {
            *to = from[k];
        } else if (m->form == TD_CUDA_BF16) {
            memcpy(to, from + 2 * k, 2);
        } else {
            uint16_t high = td_f32_to_bf16(f32[k]), low = td_f32_to_bf16(f32[k] - td_bf16_to_f32(high));
            memcpy(to, &high, 2);
            memcpy(to + plane, &low, 2);
        }
    }
}

static void place(const td_cuda_matrix *m, const td_tensor *w, const td_tensor *up, unsigned char *bytes, float *scale, float *f32)
{
    int64_t tiles_k = td_cuda_padded(m->form, m->k) / td_cuda_tile_k(m->form), eights = (m->out + UNIT - 1) / UNIT * 2;
    memset(bytes, 0, m->matrix_bytes);
    for (int64_t r = 0, row; r < m->out; r++) {
        const td_tensor *from = source(w, up, r, &row);
        place_row(m, from, row, r, bytes, f32);
        if (m->form == TD_CUDA_F8 && r % 8 == 0)
            for (int64_t t = 0; t < tiles_k; t++) scale[t * eights + r / 8] = from->scale ? from->scale[row / TD_F8_BLOCK * tiles_k + t] : 1.0f;
    }
}

static td_status load(td_cuda *cuda, const td_tensor *w, const td_tensor *up, td_cuda_matrix *m)
{
    unsigned char *bytes = (unsigned char *)malloc(m->matrix_bytes);
    float *scale = (float *)calloc(m->scale_floats + 1, sizeof(float)), *f32 = (float *)malloc((size_t)m->k * sizeof(float) + 1);
    td_status status = bytes && scale && f32 ? TD_OK : td_fail(TD_E_MEMORY, "cuda: no memory to lay out a matrix of %.3f GB", (double)m->matrix_bytes * 1e-9);
    for (int i = 0; i < m->count && status == TD_OK; i++) {
        if (!w[i].data) continue; /* not loaded here: zeros */
        place(m, &w[i], up ? &up[i] : NULL, bytes, scale, f32);
        status = td_cuda_upload(cuda, (unsigned char *)m->data + (size_t)i * m->matrix_bytes, bytes, m->matrix_bytes);
        if (status == TD_OK && m->scale) status = td_cuda_upload(cuda, m->scale + (size_t)i * m->scale_floats, scale, m->scale_floats * sizeof(float));
        if (status == TD_OK) status = td_cuda_finish(cuda);
    }
    free(bytes);
    free(scale);
    free(f32);
    return status;
}

td_status td_cuda_matrix_load(td_cuda *cuda, const td_tensor *w, const td_tensor *up, int count, td_cuda_matrix *out)
{
    const td_tensor *first = w;
    for (int i = 0; i < count && !first->data; i++) first = &w[i];
    td_cuda_form form = td_cuda_form_of(first->type);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < (up ? 2 : 1); j++) {
            const td_tensor *t = j ? &up[i] : &w[i];
            if (t->data && (t->type != first->type || t->shape[0] != first->shape[0] || t->shape[1] != first->shape[1]))
                return td_fail(TD_E_UNSUPPORTED, "cuda: expected matrices of one type and shape beside each other (%s), found %s %lld x %lld as well", td_dtype_name(first->type), td_dtype_name(t->type),
                               (long long)t->shape[0], (long long)t->shape[1]);
        }
    if (form == TD_CUDA_BF16X2 && td_dtype_block_elements(first->type) == 1 && first->type != TD_F32 && first->type != TD_F16)
        return td_fail(TD_E_UNSUPPORTED, "cuda: expected weights, found %s", td_dtype_name(first->type));
    td_cuda_matrix m;
    TD_TRY(allocate(cuda, form, first->shape[0] * (up ? 2 : 1), first->shape[1], count, up != NULL, &m));
    td_status status = load(cuda, w, up, &m);
    if (status < 0) td_cuda_matrix_free(cuda, &m);
    else *out = m;
    return status;
}

/* Bytes of small magnitude in every format: BF16 values of about 2^-6, E4M3 of about 1; scales 2^-6. */
static __global__ void random_kernel(uint32_t *data, int64_t words, int form, uint64_t seed)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < words; i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t z = seed + (uint64_t)i * 0x9E3779B97F4A7C15ull;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ z >> 27) * 0x94D049BB133111EBull;
        uint32_t bits = (uint32_t)(z ^ z >> 31);
        data[i] = form == TD_CUDA_F8 ? (bits & 0x8F8F8F8Fu) | 0x30303030u : (bits & 0x80FF80FFu) | 0x3C003C00u;
    }
}

static __global__ void fill_kernel(float *data, int64_t count, float value)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) data[i] = value;
}

td_status td_cuda_matrix_random(td_cuda *cuda, td_cuda_form form, int64_t out_rows, int64_t k, int count, bool pair, uint64_t seed, td_cuda_matrix *out)
{
    TD_TRY(allocate(cuda, form, out_rows, k, count, pair, out));
    td_launch(cuda, random_kernel, dim3(1024), dim3(256), 0, (uint32_t *)out->data, (int64_t)(out->matrix_bytes * (size_t)count / 4), (int)form, seed);
    int64_t scales = (int64_t)(out->scale_floats * (size_t)count);
    if (scales) td_launch(cuda, fill_kernel, dim3((unsigned)((scales + 255) / 256)), dim3(256), 0, out->scale, scales, 0.015625f);
    return TD_OK;
}

void td_cuda_matrix_free(td_cuda *cuda, td_cuda_matrix *matrix)
{
    td_cuda_delete(cuda, matrix->data);
    td_cuda_delete(cuda, matrix->scale);
    *matrix = td_cuda_matrix();
}

td_status td_cuda_rows_new(td_cuda *cuda, td_cuda_form form, int rows_max, int64_t k, td_cuda_rows *out)
{
    td_cuda_rows r = {};
    r.form = form, r.rows_max = rows_max, r.k = k, r.stride = td_cuda_padded(form, k);
    TD_TRY(td_cuda_new(cuda, (size_t)rows_max * (size_t)r.stride * (form == TD_CUDA_F8 ? 1 : 2) * (size_t)td_cuda_planes(form), &r.data));
    if (form == TD_CUDA_F8) {
        td_status status = td_cuda_new(cuda, (size_t)rows_max * (size_t)(r.stride / 128) * sizeof(float), (void **)&r.scale);
        if (status < 0) {
            td_cuda_delete(cuda, r.data);
            return status;
        }
    }
    *out = r;
    return TD_OK;
}

void td_cuda_rows_free(td_cuda *cuda, td_cuda_rows *rows)
{
    td_cuda_delete(cuda, rows->data);
    td_cuda_delete(cuda, rows->scale);
    *rows = td_cuda_rows();
}
