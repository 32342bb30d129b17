/*
 * attend.cu - attention of one query token a row over paged K and V: MFA, MQA, GQA and MLA in absorbed form, BF16 or FP8 cache, by one kernel.
 *
 * A block takes one row, the query heads that share a KV head (16 or 64 of them) and one partition of the context. Partitions are counted from position 0 and their
 * size belongs to the scratch, so the order of every sum is a matter of positions. Warps divide heads (16 each), positions (each group takes every PG-th
 * tile of 32) and, where V is wide, its columns. K and V tiles come by cp.async into two stages; scores and outputs are mma.sync m16n8k16 with f32 sums; the
 * running softmax is in base 2. Groups of positions are merged in order, then partitions by a second kernel.
 *
 * FP8: a tile is widened to F16 in shared memory (exact), its rows' scales multiply the scores (K) and the probabilities (V). `exact`: queries and probabilities
 * are split in two BF16, for results as near to f32 as the cache allows.
 */
#include "kernel/cuda/cuda.cuh"

enum { TILE = 32, STAGES = 2 };

struct attend_job {
    const unsigned char *k, *v;
    const float *k_scale, *v_scale;
    const int32_t *positions, *tables;
    int table_stride, partition, partitions, window, heads, kv_heads, head_blocks, dk, dv;
    const float *q;
    float scale; /* with log2(e) */
    float *m, *l, *o;
};

template <int DK_, int DV_, int HT_, int PG_, int DVS_, bool F8_, bool V_IS_K_, bool EXACT_> struct shape {
    static constexpr int DK = DK_, DV = DV_, HT = HT_, PG = PG_, DVS = DVS_, PLANES = EXACT_ ? 2 : 1;
    static constexpr bool F8 = F8_, V_IS_K = V_IS_K_, EXACT = EXACT_;
    static constexpr int WARPS = HT * PG * DVS, THREADS = WARPS * 32, CHUNK = TILE * PG, V_ROWS = V_IS_K ? 0 : CHUNK;
    static constexpr int ELEMENT = F8 ? 1 : 2;
    static constexpr int Q_BYTES = PLANES * HT * 16 * DK * 2, K_RAW = CHUNK * DK * ELEMENT, V_RAW = V_ROWS * DV * ELEMENT;
    static constexpr int SCALES = F8 ? CHUNK * 2 * 4 : 0, STAGE = K_RAW + V_RAW + SCALES, WIDE = F8 ? CHUNK * DK * 2 + V_ROWS * DV * 2 : 0;
    static constexpr int MERGE = PG > 1 ? HT * DVS * 16 * (DV / DVS + 2) * 4 : 0; /* one group has nobody to merge with */
    static constexpr int BODY = STAGES * STAGE + WIDE > MERGE ? STAGES * STAGE + WIDE : MERGE;
    static constexpr int BYTES = Q_BYTES + BODY;
    static_assert(BYTES <= 227 * 1024, "more shared memory than an SM gives to a block");
};

/* Byte of 16-byte piece `piece` in row `row` of rows of row_bytes (a multiple of 128). */
static __device__ __forceinline__ int at_piece(int row, int piece, int row_bytes) { return row * row_bytes + ((piece ^ (row & 7)) << 4); }

/* Queries of the block's heads, scaled, as BF16 (FP8 cache: F16), high and low plane. */
template <class S> static __device__ void load_queries(const attend_job &job, unsigned char *to, int row, int kv_head, int first_head)
{
    int group = job.heads / job.kv_heads;
    for (int i = (int)threadIdx.x; i < S::HT * 16 * (S::DK / 8); i += S::THREADS) {
        int head = i / (S::DK / 8), piece = i % (S::DK / 8);
        const float *q = job.q + ((int64_t)row * job.heads + kv_head * group + first_head + head) * job.dk + piece * 8;
        bool valid = first_head + head < group;
        uint32_t high[4], low[4];
        for (int j = 0; j < 4; j++) {
            float a = valid && piece * 8 + 2 * j < job.dk ? q[2 * j] * job.scale : 0.0f, b = valid && piece * 8 + 2 * j + 1 < job.dk ? q[2 * j + 1] * job.scale : 0.0f;
            high[j] = S::F8 ? td_pack_f16(a, b) : td_pack_bf16(a, b);
            low[j] = S::EXACT ? td_pack_bf16(a - td_bf16_float((uint16_t)high[j]), b - td_bf16_float((uint16_t)(high[j] >> 16))) : 0;
        }
        uint4 *place = (uint4 *)(to + at_piece(head, piece, S::DK * 2));
        *place = uint4{high[0], high[1], high[2], high[3]};
        if (S::EXACT) place[S::HT * 16 * S::DK * 2 / 16] = uint4{low[0], low[1], low[2], low[3]};
    }
}

/* Starts the copies of positions base .. base + CHUNK - 1 (those from `end` on become zeros). */
template <class S> static __device__ void fetch(const attend_job &job, unsigned char *stage, const int32_t *table, int kv_head, int base, int end)
{
    constexpr int per = 16 / S::ELEMENT; /* elements of a piece */
    for (int i = (int)threadIdx.x; i < S::CHUNK * (S::DK / per); i += S::THREADS) {
        int r = i / (S::DK / per), piece = i % (S::DK / per), t = base + r;
        bool valid = t < end && piece * per < job.dk;
        int64_t at = valid ? ((int64_t)table[t / TD_PAGE_TOKENS] * job.kv_heads + kv_head) * TD_PAGE_TOKENS + t % TD_PAGE_TOKENS : 0;
        td_copy16(stage + (S::F8 ? r * S::DK + piece * 16 : at_piece(r, piece, S::DK * 2)), job.k + (at * job.dk + (valid ? piece * per : 0)) * S::ELEMENT, valid);
    }
    for (int i = (int)threadIdx.x; i < S::V_ROWS * (S::DV / per); i += S::THREADS) {
        int r = i / (S::DV / per), piece = i % (S::DV / per), t = base + r;
        bool valid = t < end && piece * per < job.dv;
        int64_t at = valid ? ((int64_t)table[t / TD_PAGE_TOKENS] * job.kv_heads + kv_head) * TD_PAGE_TOKENS + t % TD_PAGE_TOKENS : 0;
        td_copy16(stage + S::K_RAW + (S::F8 ? r * S::DV + piece * 16 : at_piece(r, piece, S::DV * 2)), job.v + (at * job.dv + (valid ? piece * per : 0)) * S::ELEMENT, valid);
    }
    if (S::F8)
        for (int i = (int)threadIdx.x; i < S::CHUNK * 2; i += S::THREADS) {
            int r = i % S::CHUNK, t = base + r;
            bool valid = t < end;
            int64_t at = valid ? ((int64_t)table[t / TD_PAGE_TOKENS] * job.kv_heads + kv_head) * TD_PAGE_TOKENS + t % TD_PAGE_TOKENS : 0;
            const float *from = i < S::CHUNK || S::V_IS_K ? job.k_scale : job.v_scale;
            td_copy4(stage + S::K_RAW + S::V_RAW + i * 4, from + at, valid);
        }
}

/* FP8 rows of a stage as swizzled F16 rows. */
template <class S> static __device__ void widen(const unsigned char *stage, unsigned char *wide)
{
    for (int part = 0; part < (S::V_IS_K ? 1 : 2); part++) {
        int columns = part ? S::DV : S::DK;
        const unsigned char *from = stage + (part ? S::K_RAW : 0);
        unsigned char *to = wide + (part ? S::CHUNK * S::DK * 2 : 0);
        for (int i = (int)threadIdx.x; i < S::CHUNK * (columns / 8); i += S::THREADS) {
            int r = i / (columns / 8), piece = i % (columns / 8);
            const uint16_t *two = (const uint16_t *)(from + r * columns + piece * 8);
            *(uint4 *)(to + at_piece(r, piece, columns * 2)) = uint4{td_f8_to_f16x2(two[0]), td_f8_to_f16x2(two[1]), td_f8_to_f16x2(two[2]), td_f8_to_f16x2(two[3])};
        }
    }
}

template <class S> static __device__ __forceinline__ void mma(float *c, const uint32_t *a, const uint32_t *b)
{
    if (S::F8) td_mma_f16(c, a, b);
    else td_mma_bf16(c, a, b);
}

/* What a warp carries through its tiles: 16 heads, two of them (g, g+8) in this thread. */
template <class S> struct state { float m[2], l[2], o[S::DV / S::DVS / 8][4]; };

/* Scores of 32 positions: s[tile of 8][4]. */
template <class S> static __device__ __forceinline__ void scores(float (*s)[4], const unsigned char *q, const unsigned char *k, int lane)
{
#pragma unroll
    for (int n = 0; n < 4; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll 4
    for (int step = 0; step < S::DK / 16; step++) {
        uint32_t a[S::PLANES][4], b[2][4];
#pragma unroll
        for (int plane = 0; plane < S::PLANES; plane++) td_ldmatrix(a[plane], q + plane * S::HT * 16 * S::DK * 2 + at_piece(lane % 16, step * 2 + lane / 16, S::DK * 2));
#pragma unroll
        for (int n = 0; n < 2; n++) td_ldmatrix(b[n], k + at_piece(n * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2, S::DK * 2));
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int plane = 0; plane < S::PLANES; plane++) mma<S>(s[n], a[plane], b[n / 2] + n % 2 * 2);
    }
}

/* One tile of 32 positions, first position t0; attended: low <= t < end. */
template <class S> static __device__ __forceinline__ void tile(state<S> &st, const unsigned char *q, const unsigned char *k, const unsigned char *v, int v_row_bytes, const float *k_scale, const float *v_scale, int t0,
                                                               int low, int end, int column)
{
    int lane = (int)threadIdx.x % 32, pair = lane % 4 * 2;
    float s[4][4], most[2] = {-INFINITY, -INFINITY};
    scores<S>(s, q, k, lane);
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int i = n * 8 + pair + j % 2, t = t0 + i;
            s[n][j] = t >= low && t < end ? (S::F8 ? s[n][j] * k_scale[i] : s[n][j]) : -INFINITY;
            most[j / 2] = fmaxf(most[j / 2], s[n][j]);
        }
    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        most[h] = fmaxf(most[h], __shfl_xor_sync(0xFFFFFFFFu, most[h], 1));
        most[h] = fmaxf(most[h], __shfl_xor_sync(0xFFFFFFFFu, most[h], 2));
        float m = fmaxf(st.m[h], most[h]);
        shrink[h] = m == -INFINITY ? 1.0f : exp2f(st.m[h] - m);
        st.m[h] = m, st.l[h] *= shrink[h];
    }
#pragma unroll
    for (int n = 0; n < S::DV / S::DVS / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) st.o[n][j] *= shrink[j / 2];
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float p = st.m[j / 2] == -INFINITY ? 0.0f : exp2f(s[n][j] - st.m[j / 2]);
            st.l[j / 2] += p;
            s[n][j] = S::F8 ? p * v_scale[n * 8 + pair + j % 2] : p;
        }
#pragma unroll
    for (int step = 0; step < 2; step++) {
        uint32_t p[S::PLANES][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float a = s[2 * step + i / 2][i % 2 * 2], b = s[2 * step + i / 2][i % 2 * 2 + 1];
            p[0][i] = S::F8 ? td_pack_f16(a, b) : td_pack_bf16(a, b);
            if (S::EXACT) p[S::PLANES - 1][i] = td_pack_bf16(a - td_bf16_float((uint16_t)p[0][i]), b - td_bf16_float((uint16_t)(p[0][i] >> 16)));
        }
#pragma unroll
        for (int n = 0; n < S::DV / S::DVS / 16; n++) {
            uint32_t b[4];
            td_ldmatrix_transposed(b, v + at_piece(step * 16 + lane % 16, column / 8 + n * 2 + lane / 16, v_row_bytes));
#pragma unroll
            for (int plane = 0; plane < S::PLANES; plane++) {
                mma<S>(st.o[2 * n], p[plane], b);
                mma<S>(st.o[2 * n + 1], p[plane], b + 2);
            }
        }
    }
}

/* Group g's state into shared memory, and group 0 takes it in: groups in ascending order. */
template <class S> static __device__ void merge_groups(state<S> &st, float *shared, int group, int part)
{
    constexpr int width = S::DV / S::DVS + 2;
    int lane = (int)threadIdx.x % 32;
    for (int from = 1; from < S::PG; from++) {
        __syncthreads();
        float *mine = shared + part * 16 * width;
        if (group == from) {
            for (int h = 0; h < 2; h++) {
                float *row = mine + (lane / 4 + h * 8) * width;
                if (lane % 4 == 0) row[0] = st.m[h], row[1] = st.l[h];
#pragma unroll
                for (int n = 0; n < S::DV / S::DVS / 8; n++)
                    for (int j = 0; j < 2; j++) row[2 + n * 8 + lane % 4 * 2 + j] = st.o[n][h * 2 + j];
            }
        }
        __syncthreads();
        if (group == 0) {
            for (int h = 0; h < 2; h++) {
                const float *row = mine + (lane / 4 + h * 8) * width;
                float m = fmaxf(st.m[h], row[0]), a = m == -INFINITY ? 1.0f : exp2f(st.m[h] - m), b = m == -INFINITY ? 1.0f : exp2f(row[0] - m);
                st.m[h] = m, st.l[h] = st.l[h] * a + row[1] * b;
#pragma unroll
                for (int n = 0; n < S::DV / S::DVS / 8; n++)
                    for (int j = 0; j < 2; j++) st.o[n][h * 2 + j] = st.o[n][h * 2 + j] * a + row[2 + n * 8 + lane % 4 * 2 + j] * b;
            }
        }
    }
}

/* grid: x partitions, y KV heads * blocks of heads, z rows. */
template <class S> static __global__ void __launch_bounds__(S::THREADS) attend_kernel(attend_job job)
{
    TD_SHARED(shared);
    unsigned char *body = shared + S::Q_BYTES, *wide = body + STAGES * S::STAGE;
    int row = (int)blockIdx.z, kv_head = (int)blockIdx.y / job.head_blocks, first_head = (int)blockIdx.y % job.head_blocks * S::HT * 16, part = (int)blockIdx.x;
    int limit = job.positions[row] + 1, low = job.window > 0 ? max(0, limit - job.window) : 0, begin = part * job.partition, end = min(limit, begin + job.partition);
    if (begin >= end || end <= low) return; /* combine_kernel knows which are not there */
    int start = max(begin, low / S::CHUNK * S::CHUNK), warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int column = warp % S::DVS * (S::DV / S::DVS), group = warp / S::DVS % S::PG, head_tile = warp / S::DVS / S::PG;
    const int32_t *table = job.tables + (int64_t)row * job.table_stride;
    load_queries<S>(job, shared, row, kv_head, first_head);
    state<S> st;
    st.m[0] = st.m[1] = -INFINITY, st.l[0] = st.l[1] = 0.0f;
#pragma unroll
    for (int n = 0; n < S::DV / S::DVS / 8; n++) st.o[n][0] = st.o[n][1] = st.o[n][2] = st.o[n][3] = 0.0f;
    fetch<S>(job, body, table, kv_head, start, end);
    td_copy_commit();
    for (int base = start, i = 0; base < end; base += S::CHUNK, i++) {
        unsigned char *stage = body + i % STAGES * S::STAGE;
        td_copy_wait<0>();
        __syncthreads(); /* the chunk is there for all, and all have left the other stage and the widened one */
        if (base + S::CHUNK < end) fetch<S>(job, body + (i + 1) % STAGES * S::STAGE, table, kv_head, base + S::CHUNK, end);
        td_copy_commit();
        if (S::F8) {
            widen<S>(stage, wide);
            __syncthreads();
        }
        const unsigned char *k = S::F8 ? wide : stage, *v = S::V_IS_K ? k : S::F8 ? wide + S::CHUNK * S::DK * 2 : stage + S::K_RAW;
        constexpr int v_row = S::V_IS_K ? S::DK * 2 : S::DV * 2;
        const float *scales = (const float *)(stage + S::K_RAW + S::V_RAW) + group * TILE;
        if (base + group * TILE < end)
            tile<S>(st, shared + head_tile * 16 * S::DK * 2, k + group * TILE * S::DK * 2, v + group * TILE * v_row, v_row, scales, scales + S::CHUNK, base + group * TILE, low, end, column);
    }
    td_copy_wait<0>();
    for (int h = 0; h < 2; h++) {
        st.l[h] += __shfl_xor_sync(0xFFFFFFFFu, st.l[h], 1);
        st.l[h] += __shfl_xor_sync(0xFFFFFFFFu, st.l[h], 2);
    }
    merge_groups<S>(st, (float *)body, group, head_tile * S::DVS + warp % S::DVS);
    if (group != 0) return;
    for (int h = 0; h < 2; h++) {
        int head = first_head + head_tile * 16 + lane / 4 + h * 8, heads_each = job.heads / job.kv_heads;
        if (head >= heads_each) continue;
        int64_t at = ((int64_t)row * job.heads + kv_head * heads_each + head) * job.partitions + part;
        if (lane % 4 == 0 && column == 0) job.m[at] = st.m[h], job.l[at] = st.l[h];
#pragma unroll
        for (int n = 0; n < S::DV / S::DVS / 8; n++)
            for (int j = 0; j < 2; j++) {
                int d = column + n * 8 + lane % 4 * 2 + j;
                if (d < job.dv) job.o[at * job.dv + d] = st.o[n][h * 2 + j];
            }
    }
}

/* A block a row and head: partitions in ascending order, then divided. */
static __global__ void combine_kernel(attend_job job, float *out)
{
    int64_t head = blockIdx.x;
    int row = (int)(head / job.heads), limit = job.positions[row] + 1, low = job.window > 0 ? max(0, limit - job.window) : 0;
    int first = low / job.partition, last = (limit - 1) / job.partition;
    const float *m = job.m + head * job.partitions, *l = job.l + head * job.partitions, *o = job.o + head * job.partitions * job.dv;
    float most = -INFINITY, sum = 0;
    for (int p = first; p <= last; p++) most = fmaxf(most, m[p]);
    for (int p = first; p <= last; p++) sum += most == -INFINITY ? 0.0f : l[p] * exp2f(m[p] - most);
    for (int d = (int)threadIdx.x; d < job.dv; d += (int)blockDim.x) {
        float value = 0;
        for (int p = first; p <= last; p++) value += most == -INFINITY ? 0.0f : o[(int64_t)p * job.dv + d] * exp2f(m[p] - most);
        out[head * job.dv + d] = sum > 0 ? value / sum : 0.0f;
    }
}

/* ---- the host's side ----------------------------------------------------------------------------------------------------------------- */

td_status td_cuda_attend_reserve(td_cuda *cuda, const td_cuda_kv *kv, int rows_max, int heads, int context_max, int partition, td_cuda_attend_scratch *out)
{
    td_cuda_attend_scratch s = {};
    if (partition < TD_PAGE_TOKENS || partition % (4 * TILE)) return td_fail(TD_E_INVALID, "cuda: expected partitions of a multiple of %d positions, found %d", 4 * TILE, partition);
    s.rows_max = rows_max, s.heads = heads, s.partition = partition, s.partitions = (context_max + partition - 1) / partition;
    size_t states = (size_t)rows_max * (size_t)heads * (size_t)s.partitions;
    s.bytes = states * (size_t)(kv->dv + 2) * sizeof(float);
    td_status status = td_cuda_new(cuda, states * sizeof(float), (void **)&s.m);
    if (status == TD_OK) status = td_cuda_new(cuda, states * sizeof(float), (void **)&s.l);
    if (status == TD_OK) status = td_cuda_new(cuda, states * (size_t)kv->dv * sizeof(float), (void **)&s.o);
    if (status < 0) td_cuda_attend_release(cuda, &s);
    else *out = s;
    return status;
}

void td_cuda_attend_release(td_cuda *cuda, td_cuda_attend_scratch *scratch)
{
    td_cuda_delete(cuda, scratch->m);
    td_cuda_delete(cuda, scratch->l);
    td_cuda_delete(cuda, scratch->o);
    *scratch = td_cuda_attend_scratch();
}

template <class S> static void launch(td_cuda *cuda, attend_job &job, int rows)
{
    job.head_blocks = (job.heads / job.kv_heads + S::HT * 16 - 1) / (S::HT * 16);
    td_launch(cuda, attend_kernel<S>, dim3((unsigned)job.partitions, (unsigned)(job.kv_heads * job.head_blocks), (unsigned)rows), dim3(S::THREADS), S::BYTES, job);
}

/* The smallest shape that holds the head; 16 query heads a block where no more share a KV head, else 64. */
template <bool F8, bool EXACT> static td_status choose(td_cuda *cuda, attend_job &job, int rows, bool v_is_k)
{
    int group = job.heads / job.kv_heads, widest = TD_MAX(job.dk, job.dv);
    if (v_is_k && job.dk <= 128 && job.dv <= 64) return launch<shape<128, 64, 4, 1, 2, F8, true, EXACT>>(cuda, job, rows), TD_OK;
    if (v_is_k && job.dk <= 576 && job.dv <= 512) return launch<shape<576, 512, 4, 1, 2, F8, true, EXACT>>(cuda, job, rows), TD_OK;
    if (v_is_k || widest > 256) return td_fail(TD_E_UNSUPPORTED, "cuda: attention with heads of %d and %d: expected at most 256, or 576 and 512 in one (MLA)", job.dk, job.dv);
    if (widest <= 64 && group <= 16) return launch<shape<64, 64, 1, 4, 1, F8, false, EXACT>>(cuda, job, rows), TD_OK;
    if (widest <= 64) return launch<shape<64, 64, 4, 2, 1, F8, false, EXACT>>(cuda, job, rows), TD_OK;
    if (widest <= 128 && group <= 16) return launch<shape<128, 128, 1, 4, 1, F8, false, EXACT>>(cuda, job, rows), TD_OK;
    if (widest <= 128) return launch<shape<128, 128, 4, 2, 1, F8, false, EXACT>>(cuda, job, rows), TD_OK;
    if (group <= 16) return launch<shape<256, 256, 1, 2, 2, F8, false, EXACT>>(cuda, job, rows), TD_OK;
    return launch<shape<256, 256, 4, 2, 1, F8, false, EXACT>>(cuda, job, rows), TD_OK;
}

td_status td_cuda_attend(td_cuda *cuda, const td_cuda_kv *kv, const td_cuda_context *context, int rows, int heads, const float *q, float scale, int window, bool exact, td_cuda_attend_scratch *scratch, float *out)
{
    attend_job job = {};
    if (rows == 0) return TD_OK;
    if (rows > scratch->rows_max || heads != scratch->heads || heads % kv->kv_heads || context->context_max > scratch->partition * scratch->partitions)
        return td_fail(TD_E_INVALID, "cuda: attention of %d rows and %d heads over %d positions in scratch for %d, %d and %d", rows, heads, context->context_max, scratch->rows_max, scratch->heads,
                       scratch->partition * scratch->partitions);
    job.k = (const unsigned char *)kv->k, job.v = (const unsigned char *)kv->v, job.k_scale = kv->k_scale, job.v_scale = kv->v_scale;
    job.positions = context->positions, job.tables = context->tables, job.table_stride = context->table_stride;
    job.partition = scratch->partition, job.partitions = scratch->partitions, job.window = window, job.heads = heads, job.kv_heads = kv->kv_heads, job.dk = kv->dk, job.dv = kv->dv;
    job.q = q, job.scale = scale * 1.44269504088896341f, job.m = scratch->m, job.l = scratch->l, job.o = scratch->o;
    if (kv->type == TD_CUDA_KV_F8) TD_TRY((choose<true, false>(cuda, job, rows, !kv->v)));
    else if (exact) TD_TRY((choose<false, true>(cuda, job, rows, !kv->v)));
    else TD_TRY((choose<false, false>(cuda, job, rows, !kv->v)));
    td_launch(cuda, combine_kernel, dim3((unsigned)(rows * heads)), dim3((unsigned)TD_MIN(256, (kv->dv + 31) / 32 * 32)), 0, job, out);
    return TD_OK;
}
