/*
 * linear.cu - products of a few rows with large matrices: projections, dense FFN, and experts over ragged groups of rows, all by one kernel.
 *
 * A block makes 256 outputs (16 units of the matrix's layout) for 16, 32 or 64 rows. k is walked in tiles of 128 bytes through three stages (BF16X2: two) of shared memory filled by cp.async;
 * each of 8 warps holds two units (32 outputs) and all rows. mma's M is outputs and N is rows, so that 8 rows are the smallest cost. The rows
 * may be gathered. Where the matrix is small, k is cut in parts (by the matrix's shape only) and a second kernel adds them in order.
 *
 * F8: the four products of a tile are one partial sum, then acc = fma(part, scale_w * scale_x, acc). BF16X2: the planes' products high*high, low*high, high*low.
 * SwiGLU: a unit's rows 0..7 are gate and 8..15 the same columns of up, so that one thread holds both; F8 rows are quantised over the block's 128 columns.
 */
#include "kernel/cuda/cuda.cuh"

enum { TILE_OUT = 256, UNIT_OUT = 16, UNIT_BYTES = UNIT_OUT * 128, UNITS = TILE_OUT / UNIT_OUT, THREADS = 256, CUTS_MAX = 32, BLOCKS_WANTED = 264 };

struct product {
    const unsigned char *w;
    const float *w_scale;
    int64_t w_plane, w_matrix, w_scale_matrix; /* bytes, bytes, floats from one to the next */
    int units, tiles_k;                        /* 16 outputs each; 128 bytes each */
    const unsigned char *x;
    const float *x_scale;
    int64_t x_plane, x_stride, x_step;         /* bytes */
    int x_scale_stride;
    const int32_t *x_rows;                     /* NULL: compact */
    const int4 *tiles;                         /* NULL: all rows with matrix z / cuts */
    int rows, cuts, tiles_per_cut, then;
    const float *bias;
    float *y, *partial;
    int64_t y_stride, y_step, outs;
    unsigned char *h;
    float *h_scale;
    int64_t h_plane, h_stride;                 /* bytes */
    int h_columns, h_scale_stride, h_form;
};

template <int form> struct stage_shape {
    enum { planes = form == TD_CUDA_BF16X2 ? 2 : 1, stages = form == TD_CUDA_BF16X2 ? 2 : 3 };
    /* weights, then rows, then scales (32 of weights, `rows` of rows) */
    static __host__ __device__ constexpr int bytes(int rows) { return planes * (TILE_OUT + rows) * 128 + (form == TD_CUDA_F8 ? (32 + rows) * 4 : 0); }
};

/* Starts the copies of k tile `tile` into a stage. */
template <int form, int rows> static __device__ __forceinline__ void fetch(const product &p, unsigned char *stage, const unsigned char *w, const float *w_scale, const unsigned char *x, const float *x_scale, const int *row_of, int unit, int tile)
{
    constexpr int planes = stage_shape<form>::planes;
    for (int plane = 0; plane < planes; plane++) {
        for (int i = (int)threadIdx.x; i < UNITS * UNIT_BYTES / 16; i += THREADS) {
            int u = i / (UNIT_BYTES / 16), within = i % (UNIT_BYTES / 16) * 16;
            bool valid = unit + u < p.units;
            const unsigned char *from = w + plane * p.w_plane + ((int64_t)(valid ? unit + u : 0) * p.tiles_k + tile) * UNIT_BYTES + within;
            td_copy16(stage + plane * TILE_OUT * 128 + u * UNIT_BYTES + within, from, valid);
        }
        unsigned char *to = stage + planes * TILE_OUT * 128 + plane * rows * 128;
        for (int i = (int)threadIdx.x; i < rows * 8; i += THREADS) {
            int r = i / 8, piece = i % 8, row = row_of[r];
            td_copy16(to + td_swizzled(r, piece), x + plane * p.x_plane + (int64_t)(row < 0 ? 0 : row) * p.x_stride + (int64_t)tile * 128 + piece * 16, row >= 0);
        }
    }
    if (form == TD_CUDA_F8) {
        unsigned char *to = stage + (TILE_OUT + rows) * 128;
        int i = (int)threadIdx.x;
        if (i < 32) td_copy4(to + i * 4, w_scale + (int64_t)tile * p.units * 2 + (unit * 2 + i < p.units * 2 ? unit * 2 + i : 0), unit * 2 + i < p.units * 2);
        else if (i - 32 < rows) td_copy4(to + i * 4, x_scale + (int64_t)(row_of[i - 32] < 0 ? 0 : row_of[i - 32]) * p.x_scale_stride + tile, row_of[i - 32] >= 0);
    }
}

/* acc += the stage's products, for this warp's two units and all rows. */
template <int form, int rows> static __device__ __forceinline__ void multiply(const unsigned char *stage, float (*acc)[rows / 8][4])
{
    constexpr int planes = stage_shape<form>::planes, tiles_n = rows / 8;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float part[2][tiles_n][4];
    float(*sum)[tiles_n][4] = form == TD_CUDA_F8 ? part : acc;
    if (form == TD_CUDA_F8) {
#pragma unroll
        for (int u = 0; u < 2; u++)
#pragma unroll
            for (int n = 0; n < tiles_n; n++) part[u][n][0] = part[u][n][1] = part[u][n][2] = part[u][n][3] = 0.0f;
    }
    const unsigned char *w = stage + warp * 2 * UNIT_BYTES, *x = stage + planes * TILE_OUT * 128;
#pragma unroll
    for (int step = 0; step < 4; step++) {
        uint32_t a[planes][2][4], b[planes][tiles_n / 2][4];
#pragma unroll
        for (int plane = 0; plane < planes; plane++) {
#pragma unroll
            for (int u = 0; u < 2; u++) td_ldmatrix(a[plane][u], w + plane * TILE_OUT * 128 + u * UNIT_BYTES + td_swizzled(lane % 16, step * 2 + lane / 16));
#pragma unroll
            for (int n = 0; n < tiles_n / 2; n++) td_ldmatrix(b[plane][n], x + plane * rows * 128 + td_swizzled(n * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
        }
#pragma unroll
        for (int u = 0; u < 2; u++)
#pragma unroll
            for (int n = 0; n < tiles_n; n++) {
                if (form == TD_CUDA_F8) {
                    td_mma_f8(sum[u][n], a[0][u], b[0][n / 2] + n % 2 * 2);
                } else {
                    td_mma_bf16(sum[u][n], a[0][u], b[0][n / 2] + n % 2 * 2);
                    if (planes == 2) {
                        td_mma_bf16(sum[u][n], a[planes - 1][u], b[0][n / 2] + n % 2 * 2);
                        td_mma_bf16(sum[u][n], a[0][u], b[planes - 1][n / 2] + n % 2 * 2);
                    }
                }
            }
    }
    if (form == TD_CUDA_F8) {
        const float *w_scale = (const float *)(stage + (TILE_OUT + rows) * 128), *x_scale = w_scale + 32;
#pragma unroll
        for (int u = 0; u < 2; u++)
#pragma unroll
            for (int n = 0; n < tiles_n; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    acc[u][n][j] = fmaf(part[u][n][j], w_scale[(warp * 2 + u) * 2 + j / 2] * x_scale[n * 8 + lane % 4 * 2 + j % 2], acc[u][n][j]);
    }
}

/* h = silu(gate) * up of the block's 128 columns, in the form of the next product. F8: `largest` is [8 warps][rows] floats of shared memory. */
template <int rows> static __device__ __forceinline__ void store_hidden(const product &p, float (*acc)[rows / 8][4], const int *out_row, int column, float *largest)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
        for (int n = 0; n < rows / 8; n++)
            for (int j = 0; j < 2; j++) acc[u][n][j] = td_silu(acc[u][n][j]) * acc[u][n][j + 2];
    if (p.h_form == TD_CUDA_F8) {
#pragma unroll
        for (int n = 0; n < rows / 8; n++)
            for (int j = 0; j < 2; j++) {
                float most = fmaxf(fabsf(acc[0][n][j]), fabsf(acc[1][n][j]));
                for (int i = 4; i < 32; i *= 2) most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, i));
                if (g == 0) largest[warp * rows + n * 8 + t * 2 + j] = most;
            }
        __syncthreads();
    }
#pragma unroll
    for (int n = 0; n < rows / 8; n++)
        for (int j = 0; j < 2; j++) {
            int r = n * 8 + t * 2 + j, row = out_row[r];
            float inverse = 0, scale = 0;
            if (p.h_form == TD_CUDA_F8) {
                float most = 0;
                for (int i = 0; i < THREADS / 32; i++) most = fmaxf(most, largest[i * rows + r]);
                scale = td_f8_scale(most, &inverse);
            }
            if (row < 0) continue;
            if (p.h_form == TD_CUDA_F8 && warp == 0 && g == 0) p.h_scale[(int64_t)row * p.h_scale_stride + column / 128] = scale;
#pragma unroll
            for (int u = 0; u < 2; u++) {
                int at = column + (warp * 2 + u) * 8 + g;
                if (at >= p.h_columns) continue;
                float value = acc[u][n][j];
                unsigned char *to = p.h + row * p.h_stride;
                if (p.h_form == TD_CUDA_F8) {
                    to[at] = td_f8(value * inverse);
                } else {
                    uint16_t high = td_bf16(value);
                    ((uint16_t *)to)[at] = high;
                    if (p.h_form == TD_CUDA_BF16X2) ((uint16_t *)(to + p.h_plane))[at] = td_bf16(value - td_bf16_float(high));
                }
            }
        }
}

template <int rows> static __device__ __forceinline__ void store_outputs(const product &p, float (*acc)[rows / 8][4], const int *out_row, int first_out, int matrix, int cut)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
        for (int n = 0; n < rows / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int64_t out = first_out + (warp * 2 + u) * UNIT_OUT + g + j / 2 * 8;
                int row = out_row[n * 8 + t * 2 + j % 2];
                if (row < 0 || out >= p.outs) continue;
                if (p.cuts > 1) {
                    p.partial[((int64_t)cut * p.rows + row) * p.outs + out] = acc[u][n][j];
                    continue;
                }
                float value = p.bias ? acc[u][n][j] + p.bias[out] : acc[u][n][j], *y = p.y + matrix * p.y_step + row * p.y_stride + out;
                *y = p.then == TD_CUDA_ADD ? *y + value : value;
            }
}

/* grid: x 256 outputs, y rows, z matrices * cuts. */
template <int form, int rows> static __global__ void __launch_bounds__(THREADS) product_kernel(product p)
{
    TD_SHARED(shared);
    int *row_of = (int *)shared, *out_row = row_of + rows; /* where to read and to write each row, -1: nowhere */
    unsigned char *stages = shared + rows * 8;
    int first = (int)blockIdx.y * rows, count = p.rows - first, matrix = (int)blockIdx.z / p.cuts, cut = (int)blockIdx.z % p.cuts;
    if (p.tiles) {
        int4 tile = p.tiles[blockIdx.y];
        matrix = tile.x, first = tile.y, count = tile.z;
    }
    if (count <= 0) return;
    for (int r = (int)threadIdx.x; r < rows; r += THREADS) {
        row_of[r] = r >= count ? -1 : p.x_rows ? p.x_rows[first + r] : first + r;
        out_row[r] = r >= count ? -1 : first + r;
    }
    __syncthreads();
    int unit = (int)blockIdx.x * UNITS, begin = cut * p.tiles_per_cut, end = min(begin + p.tiles_per_cut, p.tiles_k);
    const unsigned char *w = p.w + matrix * p.w_matrix, *x = p.x + (p.tiles ? 0 : matrix) * p.x_step;
    const float *w_scale = form == TD_CUDA_F8 ? p.w_scale + matrix * p.w_scale_matrix : NULL, *x_scale = form == TD_CUDA_F8 ? p.x_scale + (p.tiles ? 0 : matrix) * (p.x_step / 128) : NULL;
    constexpr int stage_bytes = stage_shape<form>::bytes(rows), stages_count = stage_shape<form>::stages;
    float acc[2][rows / 8][4];
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
        for (int n = 0; n < rows / 8; n++) acc[u][n][0] = acc[u][n][1] = acc[u][n][2] = acc[u][n][3] = 0.0f;
    for (int i = 0; i < stages_count - 1; i++) {
        if (begin + i < end) fetch<form, rows>(p, stages + i * stage_bytes, w, w_scale, x, x_scale, row_of, unit, begin + i);
        td_copy_commit();
    }
    for (int tile = begin; tile < end; tile++) {
        td_copy_wait<stages_count - 2>();
        __syncthreads(); /* the tile is there for all, and all have left the stage that is filled next */
        int next = tile + stages_count - 1;
        if (next < end) fetch<form, rows>(p, stages + (next - begin) % stages_count * stage_bytes, w, w_scale, x, x_scale, row_of, unit, next);
        td_copy_commit();
        multiply<form, rows>(stages + (tile - begin) % stages_count * stage_bytes, acc);
    }
    td_copy_wait<0>();
    __syncthreads();
    if (p.then == TD_CUDA_SWIGLU) store_hidden<rows>(p, acc, out_row, (int)blockIdx.x * TILE_OUT / 2, (float *)stages);
    else store_outputs<rows>(p, acc, out_row, (int)blockIdx.x * TILE_OUT, matrix, cut);
}

/* y = the parts in ascending order, + bias, + y. */
static __global__ void add_parts(product p)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, all = p.rows * p.outs;
    if (i >= all) return;
    float sum = p.partial[i];
    for (int c = 1; c < p.cuts; c++) sum += p.partial[c * all + i];
    int64_t row = i / p.outs, out = i % p.outs;
    if (p.bias) sum += p.bias[out];
    float *y = p.y + row * p.y_stride + out;
    *y = p.then == TD_CUDA_ADD ? *y + sum : sum;
}

/* ---- the host's side ----------------------------------------------------------------------------------------------------------------- */

/* Into how many parts k is cut: enough blocks for the device, at least 4 tiles each. By the matrix's shape alone: the order of a sum must not depend on the rows. */
static int cuts_of(int64_t units, int tiles_k, int *per_cut)
{
    int64_t blocks = (units + UNITS - 1) / UNITS;
    int cuts = (int)TD_MIN(TD_MIN((int64_t)CUTS_MAX, (BLOCKS_WANTED + blocks - 1) / blocks), (int64_t)(tiles_k + 3) / 4);
    if (cuts < 1) cuts = 1;
    *per_cut = (tiles_k + cuts - 1) / cuts;
    return (tiles_k + *per_cut - 1) / *per_cut;
}

template <int form> static void launch_rows(td_cuda *cuda, const product &p, int tile_rows, dim3 grid)
{
    size_t shared = (size_t)tile_rows * 8 + (size_t)stage_shape<form>::stages * (size_t)stage_shape<form>::bytes(tile_rows);
    if (tile_rows == 16) td_launch(cuda, product_kernel<form, 16>, grid, dim3(THREADS), shared, p);
    else if (tile_rows == 32) td_launch(cuda, product_kernel<form, 32>, grid, dim3(THREADS), shared, p);
    else td_launch(cuda, product_kernel<form, 64>, grid, dim3(THREADS), shared, p);
}

static td_status check(const td_cuda_product *product)
{
    const td_cuda_matrix *w = product->w;
    if (w->form != product->x->form || w->k > product->x->k) return td_fail(TD_E_INVALID, "cuda: a product of forms %d and %d, k %lld and %lld", w->form, product->x->form, (long long)w->k, (long long)product->x->k);
    bool swiglu = product->then == TD_CUDA_SWIGLU;
    if (swiglu != w->pair || (swiglu && (!product->h || product->h->k != w->out / 2))) return td_fail(TD_E_INVALID, "cuda: SwiGLU needs gate and up as pairs, and rows for their product");
    if (product->bias && (product->groups || swiglu)) return td_fail(TD_E_INVALID, "cuda: experts have no bias");
    return TD_OK;
}

/* Room for partial sums. Not inside a recording: the address must stay. */
static td_status partial_room(td_cuda *cuda, size_t bytes)
{
    if (bytes <= cuda->partial_bytes) return TD_OK;
    if (cuda->recording) return td_fail(TD_E_INVALID, "cuda: a recorded product needs %zu bytes for partial sums; run it once before recording", bytes);
    td_cuda_delete(cuda, cuda->partial);
    cuda->partial = NULL, cuda->partial_bytes = 0;
    TD_TRY(td_cuda_new(cuda, bytes, (void **)&cuda->partial));
    cuda->partial_bytes = bytes;
    return TD_OK;
}

td_status td_cuda_linear(td_cuda *cuda, const td_cuda_product *product_)
{
    const td_cuda_matrix *w = product_->w;
    const td_cuda_rows *x = product_->x;
    const td_cuda_groups *groups = product_->groups;
    TD_TRY(check(product_));
    if (product_->rows == 0) return TD_OK;
    int planes = td_cuda_planes(w->form), element = w->form == TD_CUDA_F8 ? 1 : 2;
    product p = {};
    p.w = (const unsigned char *)w->data, p.w_scale = w->scale;
    p.w_matrix = (int64_t)w->matrix_bytes, p.w_plane = p.w_matrix / planes, p.w_scale_matrix = (int64_t)w->scale_floats;
    p.units = (int)((w->out + UNIT_OUT - 1) / UNIT_OUT), p.tiles_k = (int)(td_cuda_padded(w->form, w->k) / td_cuda_tile_k(w->form));
    p.x = (const unsigned char *)x->data, p.x_scale = x->scale, p.x_stride = x->stride * element, p.x_plane = p.x_stride * x->rows_max, p.x_step = product_->x_step * element;
    p.x_scale_stride = (int)(x->stride / 128), p.x_rows = groups && product_->gather ? groups->row : NULL, p.tiles = groups ? (const int4 *)groups->tiles : NULL;
    p.rows = product_->rows, p.then = product_->then, p.bias = product_->bias, p.y = product_->y, p.y_stride = product_->y_stride, p.y_step = product_->y_step, p.outs = w->out;
    if (product_->h) {
        const td_cuda_rows *h = product_->h;
        p.h = (unsigned char *)h->data, p.h_scale = h->scale, p.h_stride = h->stride * (h->form == TD_CUDA_F8 ? 1 : 2), p.h_plane = p.h_stride * h->rows_max;
        p.h_columns = (int)h->stride, p.h_scale_stride = (int)(h->stride / 128), p.h_form = h->form;
    }
    int matrices = groups ? 1 : w->count;
    p.cuts = 1, p.tiles_per_cut = p.tiles_k;
    if (!groups && matrices == 1 && p.then != TD_CUDA_SWIGLU) p.cuts = cuts_of(p.units, p.tiles_k, &p.tiles_per_cut);
    if (p.cuts > 1) {
        TD_TRY(partial_room(cuda, (size_t)p.cuts * (size_t)x->rows_max * (size_t)p.outs * sizeof(float)));
        p.partial = cuda->partial;
    }
    int tile_rows = groups ? groups->tile_rows : p.rows <= 16 ? 16 : p.rows <= 32 ? 32 : 64;
    dim3 grid((unsigned)((p.units + UNITS - 1) / UNITS), (unsigned)(groups ? groups->tiles_max : (p.rows + tile_rows - 1) / tile_rows), (unsigned)(matrices * p.cuts));
    if (w->form == TD_CUDA_F8) launch_rows<TD_CUDA_F8>(cuda, p, tile_rows, grid);
    else if (w->form == TD_CUDA_BF16) launch_rows<TD_CUDA_BF16>(cuda, p, tile_rows, grid);
    else launch_rows<TD_CUDA_BF16X2>(cuda, p, tile_rows, grid);
    if (p.cuts > 1) td_launch(cuda, add_parts, dim3((unsigned)((p.rows * p.outs + 255) / 256)), dim3(256), 0, p);
    return TD_OK;
}
