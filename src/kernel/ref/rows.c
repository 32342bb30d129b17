/* rows.c - the definition of everything that works on one row: exp, quantising activations, norms, silu, softmax, rope, argmax; and the table "ref". */
#include "kernel/ref/ref.h"

static float power_of_two(uint32_t biased)
{
    uint32_t bits = biased << 23;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float td_expf(float x)
{
    if (x < TD_EXP_LOW) return 0;
    if (x > TD_EXP_HIGH) return INFINITY;
    float t = fmaf(x, TD_EXP_LOG2E, TD_EXP_MAGIC), n = t - TD_EXP_MAGIC;
    float r = fmaf(n, -TD_EXP_LN2_HIGH, x);
    r = fmaf(n, -TD_EXP_LN2_LOW, r);
    float p = fmaf(TD_EXP_P0, r, TD_EXP_P1);
    p = fmaf(p, r, TD_EXP_P2);
    p = fmaf(p, r, TD_EXP_P3);
    p = fmaf(p, r, TD_EXP_P4);
    p = fmaf(p, r, TD_EXP_P5);
    p = fmaf(p, r * r, r) + 1.0f;
    uint32_t bits;
    memcpy(&bits, &t, 4);
    int32_t exponent = (int32_t)(bits - 0x4B400000u); /* n as an integer; a NaN gives anything, harmlessly */
    int32_t half = exponent >> 1;
    return p * power_of_two((uint32_t)half + 127) * power_of_two((uint32_t)exponent - (uint32_t)half + 127);
}

/* Largest magnitude of n elements, NaN passed over. */
static float magnitude(const float *x, int n)
{
    float max = 0;
    for (int i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

/* Scale of a block and its inverse; both 0 where the inverse would not be finite. */
static float block_scale(float max, float *inverse)
{
    float d = max / 127.0f, id = 1.0f / d;
    *inverse = id <= 3.4028234664e38f ? id : 0;
    return id <= 3.4028234664e38f ? d : 0;
}

static int8_t quantised(float x)
{
    float q = rintf(x);
    return q == q ? (int8_t)q : 0; /* |q| <= 127: x * (1 / (max/127)) rounds to at most 127 */
}

void td_ref_quantise_q8(const float *x, td_q8 *out, int64_t k)
{
    for (; k > 0; k -= 32, x += 32, out++) {
        float inverse;
        out->d = block_scale(magnitude(x, 32), &inverse);
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) sum += out->q[i] = quantised(x[i] * inverse);
        out->offset = -8 * sum;
    }
}

void td_ref_quantise_q8k(const float *x, td_q8k *out, int64_t k)
{
    for (; k > 0; k -= 256, x += 256, out++) {
        float inverse;
        out->d = block_scale(magnitude(x, 256), &inverse);
        memset(out->sums, 0, sizeof out->sums);
        for (int i = 0; i < 256; i++) {
            out->q[i] = quantised(x[i] * inverse);
            out->sums[i / 16] = (int16_t)(out->sums[i / 16] + out->q[i]);
        }
    }
}

void td_ref_rmsnorm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    float p[TD_LANES] = {0};
    for (int64_t i = 0; i < n; i++) p[i % TD_LANES] = fmaf(x[i], x[i], p[i % TD_LANES]);
    float s = 1.0f / sqrtf(ref_tree(p) / (float)n + eps);
    for (int64_t i = 0; i < n; i++) y[i] = w ? x[i] * s * w[i] : x[i] * s;
}

void td_ref_silu_mul(float *gate, const float *up, int64_t n, float limit)
{
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i] / (1.0f + td_expf(-gate[i])), u = up[i];
        if (limit > 0) {
            g = g > limit ? limit : g;
            u = u > limit ? limit : u < -limit ? -limit : u;
        }
        gate[i] = g * u;
    }
}

void td_ref_add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = y[i] + x[i];
}

void td_ref_add_scaled(float *y, const float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(s, x[i], y[i]);
}

void td_ref_softmax(float *x, int64_t n)
{
    float max = -INFINITY, p[TD_LANES] = {0};
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++) {
        x[i] = td_expf(x[i] - max);
        p[i % TD_LANES] = p[i % TD_LANES] + x[i];
    }
    float sum = ref_tree(p);
    for (int64_t i = 0; i < n; i++) x[i] = x[i] / sum;
}

void td_ref_rope(float *x, const float *cos, const float *sin, int n_rot, bool neox)
{
    int pairs = n_rot / 2, apart = neox ? pairs : 1, step = neox ? 1 : 2;
    for (int i = 0; i < pairs; i++) {
        float *a = x + i * step, *b = a + apart, old = *a;
        *a = fmaf(old, cos[i], -(*b * sin[i]));
        *b = fmaf(*b, cos[i], old * sin[i]);
    }
}

int64_t td_ref_argmax(const float *x, int64_t n)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (x[i] == x[i] && (best < 0 || x[i] > x[best])) best = i;
    return TD_MAX(best, 0);
}

const td_kernel td_kernel_ref = {
    .name = "ref", .why = "plain C, the definition; slow",
    .matmul = {[TD_F32] = td_ref_matmul_float, [TD_F16] = td_ref_matmul_float, [TD_BF16] = td_ref_matmul_float, [TD_F8_E4M3] = td_ref_matmul_float,
        [TD_Q8_0] = td_ref_matmul_q8, [TD_Q4_0] = td_ref_matmul_q8,
        [TD_Q4_K] = td_ref_matmul_kquant, [TD_Q5_K] = td_ref_matmul_kquant, [TD_Q6_K] = td_ref_matmul_kquant},
    .quantise_q8 = td_ref_quantise_q8, .quantise_q8k = td_ref_quantise_q8k, .rmsnorm = td_ref_rmsnorm, .silu_mul = td_ref_silu_mul, .add = td_ref_add,
    .add_scaled = td_ref_add_scaled, .softmax = td_ref_softmax, .rope = td_ref_rope, .attention_part = td_ref_attention_part,
    .attention_merge = td_ref_attention_merge, .store_row = td_quantise_row, .argmax = td_ref_argmax, .read = td_ref_read,
    .peak_f32 = td_ref_peak_f32, .peak_int8 = td_ref_peak_int8,
};
