/*
 * groups.cu - from the router's choice to tiles of rows by expert, on the device: the ragged batches of linear.cu.
 *
 * A block an expert counts, then numbers its slots; rows of an expert keep ascending order, so nothing depends on timing. The number of tiles is fixed by the buffers
 * (a graph needs fixed grids); those not needed have 0 rows and their blocks end at once.
 */
#include "kernel/cuda/cuda.cuh"

enum { THREADS = 256 };

static int tile_rows_for(int slots, int experts)
{
    int average = (slots + experts - 1) / experts;
    return average <= 16 ? 16 : average <= 32 ? 32 : 64;
}

td_status td_cuda_groups_new(td_cuda *cuda, int rows_max, int top_k, int experts, td_cuda_groups *out)
{
    td_cuda_groups g = {};
    int slots = rows_max * top_k;
    g.rows_max = rows_max, g.top_k = top_k, g.experts = experts, g.tile_rows = tile_rows_for(slots, experts);
    g.tiles_max = slots / g.tile_rows + TD_MIN(slots, experts);
    if (g.tiles_max > 65535) return td_fail(TD_E_UNSUPPORTED, "cuda: %d rows with %d experts each are %d tiles: expected at most 65535", rows_max, top_k, g.tiles_max);
    td_status status = td_cuda_new(cuda, (size_t)slots * 4, (void **)&g.row);
    if (status == TD_OK) status = td_cuda_new(cuda, (size_t)slots * 4, (void **)&g.slot_row);
    if (status == TD_OK) status = td_cuda_new(cuda, (size_t)experts * 4, (void **)&g.counts);
    if (status == TD_OK) status = td_cuda_new(cuda, (size_t)g.tiles_max * 16, (void **)&g.tiles);
    if (status < 0) td_cuda_groups_free(cuda, &g);
    else *out = g;
    return status;
}

void td_cuda_groups_free(td_cuda *cuda, td_cuda_groups *groups)
{
    td_cuda_delete(cuda, groups->row);
    td_cuda_delete(cuda, groups->slot_row);
    td_cuda_delete(cuda, groups->counts);
    td_cuda_delete(cuda, groups->tiles);
    *groups = td_cuda_groups();
}

/* A block an expert: how many slots name it. */
static __global__ void count_kernel(const int32_t *ids, int slots, int first, int32_t *counts)
{
    TD_SHARED(shared);
    float *sums = (float *)shared; /* below 2^24 slots floats count exactly */
    float n = 0;
    for (int i = (int)threadIdx.x; i < slots; i += THREADS) n += ids[i] == first + (int)blockIdx.x ? 1.0f : 0.0f;
    n = td_warp_sum(n);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = n;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS / 32; i++) n += sums[i];
    counts[blockIdx.x] = (int32_t)n;
}

/* A block an expert: its first compact index and tile follow from the counts of those before it; then its slots are numbered in order, 256 at a time. */
static __global__ void place_kernel(const int32_t *ids, int slots, int top_k, int first, int experts, int tile_rows, int tiles_max, const int32_t *counts, int32_t *row, int32_t *slot_row, int4 *tiles)
{
    TD_SHARED(shared);
    int *warp_counts = (int *)shared;
    int self = (int)blockIdx.x, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, at = 0, tile = 0, tiles_all = 0;
    for (int e = 0; e < experts; e++) {
        int n = counts[e], t = (n + tile_rows - 1) / tile_rows;
        if (e < self) at += n, tile += t;
        tiles_all += t;
    }
    int count = counts[self];
    for (int i = (int)threadIdx.x; i * tile_rows < count; i += THREADS) tiles[tile + i] = int4{self, at + i * tile_rows, min(tile_rows, count - i * tile_rows), 0};
    if (self == 0)
        for (int i = tiles_all + (int)threadIdx.x; i < tiles_max; i += THREADS) tiles[i] = int4{0, 0, 0, 0};
    for (int base = 0; base < slots; base += THREADS) {
        int i = base + (int)threadIdx.x, id = i < slots ? ids[i] - first : -1, mine = id == self, before = mine;
        if (self == 0 && i < slots && (id < 0 || id >= experts)) slot_row[i] = -1;
        for (int step = 1; step < 32; step *= 2) {
            int other = __shfl_up_sync(0xFFFFFFFFu, before, (unsigned)step);
            if (lane >= step) before += other;
        }
        if (lane == 31) warp_counts[warp] = before;
        __syncthreads();
        int all = 0;
        for (int w = 0; w < THREADS / 32; w++) {
            if (w < warp) before += warp_counts[w];
            all += warp_counts[w];
        }
        if (mine) {
            row[at + before - 1] = i / top_k;
            slot_row[i] = at + before - 1;
        }
        at += all;
        __syncthreads();
    }
}

td_status td_cuda_group(td_cuda *cuda, const int32_t *ids, int rows, int first, td_cuda_groups *groups)
{
    if (rows > groups->rows_max) return td_fail(TD_E_INVALID, "cuda: expected at most %d rows, found %d", groups->rows_max, rows);
    if (rows == 0) return TD_OK;
    int slots = rows * groups->top_k;
    td_launch(cuda, count_kernel, dim3((unsigned)groups->experts), dim3(THREADS), THREADS / 32 * 4, ids, slots, first, groups->counts);
    td_launch(cuda, place_kernel, dim3((unsigned)groups->experts), dim3(THREADS), THREADS / 32 * 4, ids, slots, groups->top_k, first, groups->experts, groups->tile_rows, groups->tiles_max, groups->counts,
              groups->row, groups->slot_row, (int4 *)groups->tiles);
    return TD_OK;
}
