/*
 * kernel.h - the arithmetic of the engine as one table of functions, filled once at start with the best the machine has.
 *
 * kernel/ref is the definition; the others (kernel/wide, compiled for each instruction set) give the SAME BITS, for every shape, and are tested for that (only the payload and sign of a NaN may differ). No function
 * depends on the number of rows given, on which rows are neighbours, or on how outputs are divided between threads. Hence every reduction has one order:
 *
 *   float dots (F32, F16, BF16, F8 weights; attention scores): K is cut in blocks of TD_K_BLOCK = 1024. Inside a block 16 partial sums, lane = k mod 16, are
 *     accumulated with fused multiply-add over ascending k from 0 (the last group is filled up with zeros), then added as a tree: lane i + lane i+8, then
 *     i+4, i+2, i+1. Blocks are added in ascending order, starting from the first block's sum. A weight is converted to f32 exactly before it is multiplied; an F8 weight
 *     is f32(byte) * scale of its 128x128 block, rounded to f32 (what a framework that dequantises first would hold). k = 0 gives 0.
 *   integer dots (Q8_0, Q4_0; activations td_q8 blocks of 32): isum exact in int32 per block, then total = fma((float)isum, d_w * d_x, total) over ascending
 *     blocks, starting from 0. Q4_0 uses q-8.
 *   k-quants (activations td_q8k blocks of 256): isum = sum over sub-blocks of sc * dot, msum = sum of m * (sum of the activation's sub-block), both exact in
 *     int32, then total = fma((float)isum, d*d_x, total); for Q4_K and Q5_K then total = fma((float)msum, -(dmin*d_x), total). Ascending blocks, from 0.
 *   sums over a row (norms, softmax): 16 lanes as above without K blocks (softmax: plain additions); max: any order, NaN is passed over.
 *   exp, silu: td_expf's polynomial with fma, the same operations in every table; results do not depend on the vector width.
 *
 * All pointers: float arrays and td_q8/td_q8k rows 4-byte aligned at least, weights to the size of their element (2 for f16 scales), no overlap unless said.
 * Functions are pure (no state, no allocation) and may run in any thread; matmul takes up to 360 KB of stack, the rest little. Rows of
 * activations (F32) and attention q are read fastest when they start at multiples of 64 bytes: elsewhere every load crosses a cache line.
 */
#ifndef TD_KERNEL_KERNEL_H
#define TD_KERNEL_KERNEL_H

#include "tensor/tensor.h"

enum { TD_K_BLOCK = 1024, TD_LANES = 16 };

/* Activations quantised per 32: what integer dots read. d = max|x|/127 as f32, q = round-half-even(x * (1/d)), offset = -8 times the sum of the 32 q: what takes off the offset of Q4_0's
 * unsigned weights (and 16 times it, of Q8_0's made unsigned). A block whose 1/d is no finite number (all
 * zero, or below about 4e-37) is all zero with d = 0. NaN becomes q 0; an infinite element gives d = infinity, so that the outputs are NaN or infinite. */
typedef struct { float d; int32_t offset; int8_t q[32]; } td_q8;
/* The same per 256: sums of the 16 groups of 16. */
typedef struct { float d; int16_t sums[16]; int8_t q[256]; } td_q8k;

/* How a weight type wants its activations. */
typedef enum { TD_ACT_F32, TD_ACT_Q8, TD_ACT_Q8K } td_act_kind;
static inline td_act_kind td_act_kind_of(td_dtype weights)
{
    return weights == TD_Q8_0 || weights == TD_Q4_0 ? TD_ACT_Q8 : weights == TD_Q4_K || weights == TD_Q5_K || weights == TD_Q6_K ? TD_ACT_Q8K : TD_ACT_F32;
}
/* Bytes of one row of k activations of a kind. */
static inline size_t td_act_row_bytes(td_act_kind kind, int64_t k)
{
    return kind == TD_ACT_F32 ? (size_t)k * 4 : kind == TD_ACT_Q8 ? (size_t)(k / 32) * sizeof(td_q8) : (size_t)(k / 256) * sizeof(td_q8k);
}

/* y[r*y_stride + o] = sum_k W[o,k] * x[r,k] for r in 0..rows-1, o in out_begin..out_end-1. */
typedef struct {
    const td_tensor *w;      /* [out, k] */
    const void *x;           /* rows of td_act_row_bytes(kind of w, k) bytes */
    size_t x_stride;         /* bytes between rows */
    const int32_t *x_rows;   /* NULL: row r is x + r*x_stride; else x + x_rows[r]*x_stride (gathered rows, for experts) */
    int rows;
    int64_t out_begin, out_end;
    float *y;                /* row r starts at y + r*y_stride; column o is element o */
    int64_t y_stride;        /* elements */
    const void *next;        /* weights that are read after these (NULL: not known), fetched while the last of these are used: only a hint */
    size_t next_bytes;
} td_matmul_job;

/* One KV head, one partition of positions, a group of query rows that share it. See attention_part. */
typedef struct {
    td_dtype kv_type;        /* TD_F32, TD_BF16, TD_Q8_0 (rows of dk or dv elements in that type) */
    int dk, dv;
    int page_tokens;         /* positions per page (TD_PAGE_TOKENS) */
    const void *const *k_pages; /* page p of this head: page_tokens rows of dk, k_row_bytes apart */
    const void *const *v_pages; /* the same for v (MLA: points into the k rows) */
    size_t k_row_bytes, v_row_bytes;
    int begin, end;          /* positions of this partition; begin is a multiple of page_tokens. page of position t is k_pages[t / page_tokens] */
    const float *q;          /* queries x dk, row stride q_stride elements; already scaled by the softmax scale */
    int64_t q_stride;
    int queries;
    const int32_t *limits;   /* per query: attends to positions t < limits[i] (causality); those >= end clamp to end; <= begin: nothing */
    int window;              /* 0: none; else only positions t >= limits[i] - window */
    float *m, *l, *o;        /* out per query: maximum, sum of exp, and sum exp*v [queries, dv] (not divided). Nothing attended: m = -INFINITY, l = 0, o = 0 */
    float *scratch;          /* td_attention_scratch_floats(...) floats, the job's own */
} td_attention_job;

/* Scores and a range of every query for one page, and one page of K or V in f32; K may be transposed, both sides in whole groups of lanes. */
static inline int td_attention_columns(int n) { return (n + TD_LANES - 1) / TD_LANES * TD_LANES; }
static inline size_t td_attention_scratch_floats(int queries, int page_tokens, int dk, int dv)
{
    return (size_t)queries * (size_t)(page_tokens + 2) + (size_t)td_attention_columns(page_tokens) * (size_t)td_attention_columns(TD_MAX(dk, dv)) + 64;
}

typedef struct td_kernel {
    const char *name;        /* "ref", "avx2", "avx512", "amx" */
    const char *why;         /* one line for doctor */
    bool packs;              /* products with packed weights (tensor/pack.h) are the faster ones; every table can do both */

    /* Matrix product, by weight type; entries for integer types that are not weights are NULL. Any rows >= 0, any k that the type allows. */
    void (*matmul[TD_DTYPES])(const td_matmul_job *job);

    void (*quantise_q8)(const float *x, td_q8 *out, int64_t k);   /* k % 32 == 0 */
    void (*quantise_q8k)(const float *x, td_q8k *out, int64_t k); /* k % 256 == 0 */

    /* y = x * (1/sqrt(mean(x^2) + eps)) * w for one row; w NULL: ones. y may be x. */
    void (*rmsnorm)(float *y, const float *x, const float *w, int64_t n, float eps);

    /* gate[i] = silu(gate[i]) * up[i], silu(g) = g / (1 + exp(-g)); limit > 0 clamps: silu(gate) to at most limit, up to +-limit. */
    void (*silu_mul)(float *gate, const float *up, int64_t n, float limit);
    void (*add)(float *y, const float *x, int64_t n);                /* y += x */
    void (*add_scaled)(float *y, const float *x, float s, int64_t n);/* y = fma(s, x, y) */

    /* x[i] = exp(x[i] - max) / sum for one row, divided at the end. */
    void (*softmax)(float *x, int64_t n);

    /* Rotates pairs of one head of n_rot elements in place; cos/sin [n_rot/2]. neox: pairs (i, i+n_rot/2), else (2i, 2i+1). Products rounded, then added/subtracted with fma:
     * a' = fma(a, cos, -(b*sin)), b' = fma(b, cos, a*sin). */
    void (*rope)(float *x, const float *cos, const float *sin, int n_rot, bool neox);

    /* Flash-style attention of one partition: pages in ascending order; a query attends to the positions t of the page that its limit and the window leave. Scores s_t
     * (float dot order; K and V converted exactly to f32, Q8_0: d*q rounded to f32) and their maximum. A page without a score above -infinity is passed over; else new
     * m = max(m, page maximum); where m changed, l and o are multiplied by exp(m_old - m_new); p_t = td_expf(s_t - m); l += the page's sum of p (16 lanes by t mod 16,
     * tree, positions not attended count 0); o[d] = fma(p_t, v_t[d], o[d]) over ascending attended t. Query rows are independent of each other. Rows at or beyond `end`
     * are never used. */
    void (*attention_part)(const td_attention_job *job);
    /* Merges partition b into a (both as above), in place: for combining partitions in ascending order. new m = max(m, mb), a = exp(m - new), b = exp(mb - new);
     * o = fma(b, ob, a*o), l = fma(b, lb, a*l). When mb is -infinity a stays; when m is, a becomes b. */
    void (*attention_merge)(float *m, float *l, float *o, float mb, float lb, const float *ob, int dv);

    /* f32 -> stored KV row, as td_quantise_row (BF16 rounded to nearest even; Q8_0 blocks of 32; F32 copy). */
    void (*store_row)(td_dtype type, const float *x, void *out, int64_t n);

    /* Index of the largest element, lowest index on ties; NaN never wins unless all are NaN (then 0). */
    int64_t (*argmax)(const float *x, int64_t n);

    /* Reads bytes (a multiple of TD_READ_BYTES, aligned to 64) as fast as this table can, eight streams side by side: the yardstick of everything that is bound by memory.
     * Returns the xor of its 32-bit words, so that nothing can be left out. */
    uint32_t (*read)(const void *data, size_t bytes);

    /* Multiply-adds on registers, in float and with bytes, for td_kernel_limits: run `rounds` rounds and return the operations done (a multiply-add is two). *sink keeps them alive. */
    double (*peak_f32)(int64_t rounds, float *sink);
    double (*peak_int8)(int64_t rounds, float *sink);
} td_kernel;

enum { TD_PAGE_TOKENS = 64, TD_PARTITION_TOKENS = 512, TD_READ_BYTES = 4096 };

/* The best table this machine can run, at most the named one ("amx", "avx512", "avx2", "ref"; NULL: best). TD_E_INVALID for an unknown name. */
td_status td_kernel_pick(const char *at_most, const td_kernel **out);
/* Every table this machine can run, reference first; returns the count. For tests and benches. */
enum { TD_KERNELS_MAX = 5 };
int td_kernel_all(const td_kernel *out[TD_KERNELS_MAX]);

/* The scalar definition of exp used everywhere: |relative error| < 2 ulp; x <= -87.3 gives 0 or a tiny value monotonically, x >= 88.7 gives +inf. */
float td_expf(float x);

/* Quantises one row of k elements into out (td_act_row_bytes bytes) as `kind` wants; TD_ACT_F32 does nothing (callers pass x itself). */
void td_act_quantise(const td_kernel *kernel, td_act_kind kind, const float *x, int64_t k, void *out);

/* How fast the pool's threads read `bytes` bytes of their own memory (in huge pages where the system gives them) again and again for about `seconds`, in GB/s: over all that time, which
 * is what a computation as long as that can count on, and in the best pass of at most 32 MiB (a millisecond or so), which other work did not disturb. TD_E_MEMORY. */
typedef struct { double steady_gbs, best_gbs; } td_read_rate;
struct td_pool;
td_status td_kernel_read_rate(const td_kernel *kernel, struct td_pool *pool, size_t bytes, double seconds, td_read_rate *out);

/* Measured limits of this machine, for doctor and bench, with the pool's threads: reads from a buffer larger than the caches, and the best pass of the multiply-add instructions that
 * the table's kernels use, in GFLOP/s (f32) and Gop/s (int8). Each takes about 0.3 s. */
typedef struct { td_read_rate read; double f32_gflops, int8_gops; } td_machine_limits;
td_status td_kernel_limits(const td_kernel *kernel, struct td_pool *pool, td_machine_limits *out);

#endif
