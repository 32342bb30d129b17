/*
 * rows.cu - what works on one row: norms with the change of form, sums, the router's choice, argmax, weighted sums of slots, rotation, and writing K and V.
 * Sums of a row are formed by a fixed number of threads in a fixed tree, so they do not depend on anything but the row.
 */
#include "kernel/cuda/cuda.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Sum over the block; the same value in every thread. `shared` has room for WARPS floats. */
static __device__ float block_sum(float x, float *shared)
{
    x = td_warp_sum(x);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = shared[0];
    for (int i = 1; i < WARPS; i++) sum += shared[i];
    return sum;
}

/* A warp takes 128 elements, a lane 4 of them. */
static __global__ void norm_kernel(const float *x, int64_t x_stride, int64_t n, const float *w, float eps, td_cuda_rows h, float *y)
{
    TD_SHARED(shared);
    int64_t row = blockIdx.x;
    int lane = (int)threadIdx.x % 32;
    float squares = 0, s = 1.0f;
    x += row * x_stride;
    if (eps >= 0) {
        for (int64_t i = threadIdx.x; i < n; i += THREADS) squares = fmaf(x[i], x[i], squares);
        s = 1.0f / sqrtf(block_sum(squares, (float *)shared) / (float)n + eps);
    }
    for (int64_t first = (int64_t)(threadIdx.x / 32) * 128; first < h.stride; first += WARPS * 128) {
        float v[4], most = 0;
        for (int j = 0; j < 4; j++) {
            int64_t i = first + lane * 4 + j;
            v[j] = i < n ? x[i] * s * (w ? w[i] : 1.0f) : 0.0f;
            most = fmaxf(most, fabsf(v[j]));
            if (y && i < n) y[row * n + i] = v[j];
        }
        int64_t at = row * h.stride + first + lane * 4;
        if (h.form == TD_CUDA_F8) {
            float inverse, scale = td_f8_scale(td_warp_max(most), &inverse);
            uint32_t four = 0;
            for (int j = 0; j < 4; j++) four |= (uint32_t)td_f8(v[j] * inverse) << 8 * j;
            *(uint32_t *)((unsigned char *)h.data + at) = four;
            if (lane == 0) h.scale[row * (h.stride / 128) + first / 128] = scale;
        } else if (first + lane * 4 < h.stride) {
            uint32_t *high = (uint32_t *)((uint16_t *)h.data + at), a = td_pack_bf16(v[0], v[1]), b = td_pack_bf16(v[2], v[3]);
            high[0] = a, high[1] = b;
            if (h.form == TD_CUDA_BF16X2) {
                uint32_t *low = high + (int64_t)h.rows_max * h.stride / 2;
                low[0] = td_pack_bf16(v[0] - td_bf16_float((uint16_t)a), v[1] - td_bf16_float((uint16_t)(a >> 16)));
                low[1] = td_pack_bf16(v[2] - td_bf16_float((uint16_t)b), v[3] - td_bf16_float((uint16_t)(b >> 16)));
            }
        }
    }
}

td_status td_cuda_norm(td_cuda *cuda, const float *x, int64_t x_stride, int rows, const float *w, float eps, td_cuda_rows *h, float *y)
{
    if (rows > h->rows_max) return td_fail(TD_E_INVALID, "cuda: expected at most %d rows, found %d", h->rows_max, rows);
    if (rows > 0) td_launch(cuda, norm_kernel, dim3((unsigned)rows), dim3(THREADS), WARPS * 4, x, x_stride, h->k, w, eps, *h, y);
    return TD_OK;
}

static __global__ void add_kernel(float *y, const float *x, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = y[i] + x[i];
}

td_status td_cuda_add(td_cuda *cuda, float *y, const float *x, int64_t n)
{
    if (n > 0) td_launch(cuda, add_kernel, dim3((unsigned)((n + THREADS - 1) / THREADS)), dim3(THREADS), 0, y, x, n);
    return TD_OK;
}

/* ---- the router ---------------------------------------------------------------------------------------------------------------------- */

/* The lane's candidate becomes the warp's best: the largest value, the lowest index on ties. index < 0: none. */
static __device__ __forceinline__ void warp_best(float *value, int *index)
{
    for (int i = 16; i > 0; i /= 2) {
        float v = __shfl_xor_sync(0xFFFFFFFFu, *value, i);
        int at = __shfl_xor_sync(0xFFFFFFFFu, *index, i);
        if (at >= 0 && (*index < 0 || v > *value || (v == *value && at < *index))) *value = v, *index = at;
    }
}

static __device__ int best_of(const float *values, int count, float *best)
{
    int lane = (int)threadIdx.x % 32, index = -1;
    float value = 0;
    for (int e = lane; e < count; e += 32)
        if (index < 0 || values[e] > value) value = values[e], index = e;
    warp_best(&value, &index);
    *best = value;
    return index;
}

/* A warp a row. Shared: scores, choice, group scores. */
static __global__ void choose_kernel(td_cuda_router r, const float *logits, int32_t *ids, float *weights)
{
    TD_SHARED(shared);
    float *score = (float *)shared, *choice = score + r.experts, *group = choice + r.experts;
    int64_t row = blockIdx.x;
    int lane = (int)threadIdx.x;
    logits += row * r.experts;
    if (r.softmax) {
        float most = -INFINITY, sum = 0;
        for (int e = lane; e < r.experts; e += 32) most = fmaxf(most, logits[e]);
        most = td_warp_max(most);
        for (int e = lane; e < r.experts; e += 32) sum += score[e] = expf(logits[e] - most);
        sum = td_warp_sum(sum);
        for (int e = lane; e < r.experts; e += 32) score[e] /= sum;
    } else {
        for (int e = lane; e < r.experts; e += 32) score[e] = 1.0f / (1.0f + expf(-logits[e]));
    }
    for (int e = lane; e < r.experts; e += 32) {
        float value = r.bias ? score[e] + r.bias[e] : score[e];
        choice[e] = value == value ? value : -3.0e38f;
    }
    __syncwarp();
    int size = r.groups > 1 ? r.experts / r.groups : 0;
    for (int g = lane; g < r.groups && size > 0; g += 32) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = 0; i < size; i++) {
            float v = choice[g * size + i];
            if (v > first) second = first, first = v;
            else if (v > second) second = v;
        }
        group[g] = r.group_by_top2 && size > 1 ? first + second : first;
    }
    __syncwarp();
    float best, sum = 0;
    for (int used = 0; used < r.groups_used && size > 0; used++) {
        int g = best_of(group, r.groups, &best);
        __syncwarp();
        if (lane == 0) group[g] = -INFINITY;
        __syncwarp();
    }
    for (int e = lane; e < r.experts && size > 0; e += 32)
        if (group[e / size] != -INFINITY) choice[e] = -INFINITY;
    __syncwarp();
    for (int s = 0; s < r.top_k; s++) {
        int e = best_of(choice, r.experts, &best);
        __syncwarp();
        sum += score[e];
        if (lane == 0) {
            choice[e] = -INFINITY;
            ids[row * r.top_k + s] = e;
        }
        __syncwarp();
    }
    for (int s = lane; s < r.top_k; s += 32) {
        float w = score[ids[row * r.top_k + s]];
        weights[row * r.top_k + s] = (r.renormalise ? w / (sum + 1e-20f) : w) * r.scale;
    }
}

td_status td_cuda_choose(td_cuda *cuda, const td_cuda_router *router, const float *logits, int rows, int32_t *ids, float *weights)
{
    if (rows > 0) td_launch(cuda, choose_kernel, dim3((unsigned)rows), dim3(32), (size_t)(2 * router->experts + router->groups) * 4, *router, logits, ids, weights);
    return TD_OK;
}

static __global__ void argmax_kernel(const float *x, int64_t n, int32_t *out)
{
    TD_SHARED(shared);
    float *values = (float *)shared, value = 0;
    int *indices = (int *)(values + WARPS), index = -1;
    x += (int64_t)blockIdx.x * n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        if (x[i] == x[i] && (index < 0 || x[i] > value)) value = x[i], index = (int)i;
    warp_best(&value, &index);
    if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value, indices[threadIdx.x / 32] = index;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < WARPS; i++)
        if (indices[i] >= 0 && (index < 0 || values[i] > value || (values[i] == value && indices[i] < index))) value = values[i], index = indices[i];
    out[blockIdx.x] = max(index, 0);
}

td_status td_cuda_argmax(td_cuda *cuda, const float *x, int rows, int64_t n, int32_t *out)
{
    if (rows > 0) td_launch(cuda, argmax_kernel, dim3((unsigned)rows), dim3(THREADS), WARPS * 8, x, n, out);
    return TD_OK;
}

static __global__ void combine_kernel(float *y, const float *slots, const int32_t *slot_row, const float *weights, int top_k, const float *shared_expert, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (i >= n) return;
    float sum = 0;
    for (int s = 0; s < top_k; s++) {
        int at = slot_row[row * top_k + s];
        if (at >= 0) sum = fmaf(weights[row * top_k + s], slots[at * n + i], sum);
    }
    y[row * n + i] = shared_expert ? sum + shared_expert[row * n + i] : sum;
}

td_status td_cuda_combine(td_cuda *cuda, float *y, const float *slots, const int32_t *slot_row, const float *weights, int rows, int top_k, const float *shared, int64_t n)
{
    if (rows > 0) td_launch(cuda, combine_kernel, dim3((unsigned)((n + THREADS - 1) / THREADS), (unsigned)rows), dim3(THREADS), 0, y, slots, slot_row, weights, top_k, shared, n);
    return TD_OK;
}

/* ---- heads: norm, rotation, and the cache ---------------------------------------------------------------------------------------------- */

/* A warp loads a head into shared memory, norms its front and rotates a part. */
static __device__ void prepare(const td_cuda_rope &r, const float *x, int n, int position, float *head)
{
    int lane = (int)threadIdx.x;
    float squares = 0;
    for (int i = lane; i < n; i += 32) {
        head[i] = x[i];
        if (i < r.norm_dim) squares = fmaf(x[i], x[i], squares);
    }
    if (r.norm) {
        float s = 1.0f / sqrtf(td_warp_sum(squares) / (float)r.norm_dim + r.eps);
        for (int i = lane; i < r.norm_dim; i += 32) head[i] = head[i] * s * r.norm[i];
    }
    __syncwarp();
    int half = r.n_rot / 2;
    for (int i = lane; i < half; i += 32) {
        float angle = (float)position * r.frequencies[i], c = cosf(angle) * r.magnitude, s = sinf(angle) * r.magnitude;
        float *a = head + r.rot_first + (r.neox ? i : 2 * i), *b = a + (r.neox ? half : 1), old = *a;
        *a = fmaf(old, c, -(*b * s));
        *b = fmaf(*b, c, old * s);
    }
    __syncwarp();
}

static __global__ void rotate_kernel(td_cuda_rope r, const int32_t *positions, int heads, int dk, float *q)
{
    TD_SHARED(shared);
    int64_t at = blockIdx.x;
    prepare(r, q + at * dk, dk, positions[at / heads], (float *)shared);
    for (int i = (int)threadIdx.x; i < dk; i += 32) q[at * dk + i] = ((float *)shared)[i];
}

td_status td_cuda_rotate(td_cuda *cuda, const td_cuda_rope *rope, const td_cuda_context *context, int rows, int heads, int dk, float *q)
{
    if (rows > 0) td_launch(cuda, rotate_kernel, dim3((unsigned)(rows * heads)), dim3(32), (size_t)dk * 4, *rope, context->positions, heads, dk, q);
    return TD_OK;
}

/* n values of shared memory into row `at` of the cache. */
static __device__ void store(const td_cuda_kv &kv, const float *from, int n, void *to, float *scale, int64_t at)
{
    int lane = (int)threadIdx.x;
    float most = 0, inverse = 0;
    if (kv.type == TD_CUDA_KV_BF16) {
        for (int i = lane; i < n; i += 32) ((uint16_t *)to)[at * n + i] = td_bf16(from[i]);
        return;
    }
    for (int i = lane; i < n; i += 32) most = fmaxf(most, fabsf(from[i]));
    float s = td_f8_scale(td_warp_max(most), &inverse);
    for (int i = lane; i < n; i += 32) ((unsigned char *)to)[at * n + i] = td_f8(from[i] * inverse);
    if (lane == 0) scale[at] = s;
}

static __global__ void append_kernel(td_cuda_rope r, td_cuda_context context, const float *k, const float *v, td_cuda_kv kv)
{
    TD_SHARED(shared);
    float *head = (float *)shared;
    int64_t of = blockIdx.x, row = of / kv.kv_heads;
    int position = context.positions[row], page = context.tables[row * context.table_stride + position / TD_PAGE_TOKENS];
    int64_t at = ((int64_t)page * kv.kv_heads + of % kv.kv_heads) * TD_PAGE_TOKENS + position % TD_PAGE_TOKENS;
    prepare(r, k + of * kv.dk, kv.dk, position, head);
    store(kv, head, kv.dk, kv.k, kv.k_scale, at);
    if (!v) return;
    __syncwarp();
    for (int i = (int)threadIdx.x; i < kv.dv; i += 32) head[i] = v[of * kv.dv + i];
    __syncwarp();
    store(kv, head, kv.dv, kv.v, kv.v_scale, at);
}

td_status td_cuda_append(td_cuda *cuda, const td_cuda_rope *rope, const td_cuda_context *context, int rows, const float *k, const float *v, td_cuda_kv *kv)
{
    if (rows > 0) td_launch(cuda, append_kernel, dim3((unsigned)(rows * kv->kv_heads)), dim3(32), (size_t)TD_MAX(kv->dk, kv->dv) * 4, *rope, *context, k, v, *kv);
    return TD_OK;
}

td_status td_cuda_kv_new(td_cuda *cuda, td_cuda_kv_type type, int kv_heads, int dk, int dv, bool v_is_k, int pages, td_cuda_kv *out)
{
    td_cuda_kv kv = {};
    int multiple = type == TD_CUDA_KV_F8 ? 16 : 8;
    if (dk % multiple || dv % multiple) return td_fail(TD_E_UNSUPPORTED, "cuda: expected heads of a multiple of %d elements, found %d and %d", multiple, dk, dv);
    kv.type = type, kv.kv_heads = kv_heads, kv.dk = dk, kv.dv = dv, kv.pages = pages;
    size_t rows = (size_t)pages * (size_t)kv_heads * TD_PAGE_TOKENS, element = type == TD_CUDA_KV_F8 ? 1 : 2;
    td_status status = td_cuda_new(cuda, rows * (size_t)dk * element, &kv.k);
    if (status == TD_OK && !v_is_k) status = td_cuda_new(cuda, rows * (size_t)dv * element, &kv.v);
    if (status == TD_OK && type == TD_CUDA_KV_F8) status = td_cuda_new(cuda, rows * sizeof(float), (void **)&kv.k_scale);
    if (status == TD_OK && type == TD_CUDA_KV_F8 && !v_is_k) status = td_cuda_new(cuda, rows * sizeof(float), (void **)&kv.v_scale);
    if (status < 0) td_cuda_kv_free(cuda, &kv);
    else *out = kv;
    return status;
}

void td_cuda_kv_free(td_cuda *cuda, td_cuda_kv *kv)
{
    td_cuda_delete(cuda, kv->k);
    td_cuda_delete(cuda, kv->v);
    td_cuda_delete(cuda, kv->k_scale);
    td_cuda_delete(cuda, kv->v_scale);
    *kv = td_cuda_kv();
}
