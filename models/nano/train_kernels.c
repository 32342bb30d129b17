/*
 * train_kernels.c - the elementwise half of a training step of the nano model (train.py compiles and calls it; nothing at run time does).
 * Matrix products are PyTorch's; what lies between them is here, one pass over memory each. Activations are BF16, the residual stream, its gradient and the
 * parameters float. Built with -O3 -march=native -ffast-math: the loops are written so that the compiler turns them into vector code.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

enum { WIDE = 4096 };

static inline float f(bf16 h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline bf16 b(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (bf16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* x += y + the two slots' outputs (each may be NULL); then out = x / rms(x) * w, inverse[row] kept for the way back. */
void add_norm(int rows, int n, float *restrict x, const float *restrict from, const bf16 *restrict y, const bf16 *restrict slots, const int32_t *restrict slot,
              const float *restrict w, float eps, bf16 *restrict out, float *restrict inverse)
{
    for (int r = 0; r < rows; r++) {
        float *xr = x + (size_t)r * n, sum = 0;
        const float *fr = from + (size_t)r * n;
        const bf16 *yr = y ? y + (size_t)r * n : 0;
        if (slots) {
            const bf16 *s0 = slots + (size_t)slot[2 * r] * n, *s1 = slots + (size_t)slot[2 * r + 1] * n;
            for (int i = 0; i < n; i++) xr[i] = fr[i] + f(yr[i]) + f(s0[i]) + f(s1[i]);
        } else if (yr) {
            for (int i = 0; i < n; i++) xr[i] = fr[i] + f(yr[i]);
        } else if (xr != fr) {
            memcpy(xr, fr, n * sizeof *xr);
        }
        for (int i = 0; i < n; i++) sum += xr[i] * xr[i];
        float inv = 1 / sqrtf(sum / n + eps);
        inverse[r] = inv;
        for (int i = 0; i < n; i++) out[(size_t)r * n + i] = b(xr[i] * inv * w[i]);
    }
}

/* The way back of add_norm: dx += gradient of the norm for dh (float or, with add, BF16 + slots), dw += ...; and dx as BF16 into copy. */
void norm_back(int rows, int n, const float *restrict x, const float *restrict inverse, const float *restrict w, const bf16 *restrict dh,
               const bf16 *restrict slots, const int32_t *restrict slot, const float *restrict more, float *restrict dx, float *restrict dw, bf16 *restrict copy)
{
    float g[WIDE];
    for (int r = 0; r < rows; r++) {
        const float *xr = x + (size_t)r * n;
        const bf16 *dr = dh + (size_t)r * n;
        float *dxr = dx + (size_t)r * n, inv = inverse[r], dot = 0;
        if (slots) {
            const bf16 *s0 = slots + (size_t)slot[2 * r] * n, *s1 = slots + (size_t)slot[2 * r + 1] * n;
            const float *m = more + (size_t)r * n;
            for (int i = 0; i < n; i++) g[i] = f(dr[i]) + f(s0[i]) + f(s1[i]) + m[i];
        } else {
            for (int i = 0; i < n; i++) g[i] = f(dr[i]);
        }
        for (int i = 0; i < n; i++) {
            dw[i] += g[i] * xr[i] * inv;
            g[i] *= w[i];
            dot += g[i] * xr[i];
        }
        dot *= inv * inv / n;
        for (int i = 0; i < n; i++) dxr[i] += inv * (g[i] - xr[i] * dot);
        if (copy)
            for (int i = 0; i < n; i++) copy[(size_t)r * n + i] = b(dxr[i]);
    }
}

/* The norm of the low-rank queries: BF16 in (rows of `stride`), BF16 out. */
void small_norm(int rows, int n, int stride, const bf16 *restrict x, const float *restrict w, float eps, bf16 *restrict out, float *restrict inverse)
{
    for (int r = 0; r < rows; r++) {
        const bf16 *xr = x + (size_t)r * stride;
        float sum = 0;
        for (int i = 0; i < n; i++) sum += f(xr[i]) * f(xr[i]);
        float inv = 1 / sqrtf(sum / n + eps);
        inverse[r] = inv;
        for (int i = 0; i < n; i++) out[(size_t)r * n + i] = b(f(xr[i]) * inv * w[i]);
    }
}

void small_norm_back(int rows, int n, int stride, const bf16 *restrict x, const float *restrict inverse, const float *restrict w, const bf16 *restrict dy,
                     bf16 *restrict dx, float *restrict dw)
{
    float g[WIDE];
    for (int r = 0; r < rows; r++) {
        const bf16 *xr = x + (size_t)r * stride, *dr = dy + (size_t)r * n;
        float inv = inverse[r], dot = 0;
        for (int i = 0; i < n; i++) {
            g[i] = f(dr[i]);
            dw[i] += g[i] * f(xr[i]) * inv;
            g[i] *= w[i];
            dot += g[i] * f(xr[i]);
        }
        dot *= inv * inv / n;
        for (int i = 0; i < n; i++) dx[(size_t)r * stride + i] = b(inv * (g[i] - f(xr[i]) * dot));
    }
}

/* Rotates vectors of d (halves first and second) by the angle of their place in the row, forwards (sign 1) or back (-1). */
void rotate(int tokens, int length, int heads, int d, int from_stride, int to_stride, float sign, const bf16 *from, bf16 *to, const float *restrict cosine,
            const float *restrict sine)
{
    int half = d / 2;
    for (int t = 0; t < tokens; t++) {
        const float *c = cosine + (size_t)(t % length) * half, *s = sine + (size_t)(t % length) * half;
        for (int h = 0; h < heads; h++) {
            const bf16 *x = from + (size_t)t * from_stride + h * d;
            bf16 *y = to + (size_t)t * to_stride + h * d;
            float a[256], e[256];
            for (int i = 0; i < half; i++) {
                float u = f(x[i]), v = f(x[i + half]), z = sign * s[i];
                a[i] = u * c[i] - v * z;
                e[i] = v * c[i] + u * z;
            }
            for (int i = 0; i < half; i++) {
                y[i] = b(a[i]);
                y[i + half] = b(e[i]);
            }
        }
    }
}

/* Scores [queries, heads, width] become probabilities. The first query stands at `place` of its row, the first key at `begin`; query t sees the places
 * first[t] .. its own, the others become zero. width is a multiple of 16: whole vectors only, for the ends of a loop cost more than its middle here. */
void softmax(int queries, int width, int heads, int place, int begin, float scale, const int32_t *restrict first, bf16 *restrict scores)
{
    float e[WIDE];
    for (int t = 0; t < queries; t++) {
        int low = (first[t] - begin) / 16 * 16, from = first[t] - begin - low, to = place + t + 1 - begin - low, n = (to + 15) / 16 * 16;
        for (int h = 0; h < heads; h++) {
            bf16 *s = scores + ((size_t)t * heads + h) * width, *p = s + low;
            float most = -1e30f, sum = 0;
            for (int i = 0; i < n; i++) e[i] = f(p[i]) * scale;
            for (int i = 0; i < from; i++) e[i] = -1e30f;
            for (int i = to; i < n; i++) e[i] = -1e30f;
            for (int i = 0; i < n; i++) most = e[i] > most ? e[i] : most;
            for (int i = 0; i < n; i++) e[i] = expf(e[i] - most);
            for (int i = 0; i < n; i++) sum += e[i];
            sum = 1 / sum;
            memset(s, 0, low * sizeof *s);
            memset(p + n, 0, (width - low - n) * sizeof *s);
            for (int i = 0; i < n; i++) p[i] = b(e[i] * sum);
        }
    }
}

/* grad: gradient of the probabilities (zero where a query does not see), becomes that of the unscaled scores. */
void softmax_back(int queries, int width, int heads, int place, int begin, float scale, const int32_t *restrict first, const bf16 *restrict probability,
                  bf16 *restrict grad)
{
    for (int t = 0; t < queries; t++) {
        int low = (first[t] - begin) / 16 * 16, n = (place + t + 16 - begin - low) / 16 * 16;
        for (int h = 0; h < heads; h++) {
            const bf16 *p = probability + ((size_t)t * heads + h) * width + low;
            bf16 *s = grad + ((size_t)t * heads + h) * width, *g = s + low;
            float dot = 0;
            for (int i = 0; i < n; i++) dot += f(p[i]) * f(g[i]);
            memset(s, 0, low * sizeof *s);
            memset(g + n, 0, (width - low - n) * sizeof *s);
            for (int i = 0; i < n; i++) g[i] = b(f(p[i]) * (f(g[i]) - dot) * scale);
        }
    }
}

/* z = silu(gate) * up * weight; rows of gu hold gate, then up. weight NULL: 1. */
void swiglu(int rows, int n, const bf16 *restrict gu, const float *restrict weight, bf16 *restrict z)
{
    for (int r = 0; r < rows; r++) {
        const bf16 *g = gu + (size_t)r * 2 * n, *u = g + n;
        float k = weight ? weight[r] : 1;
        for (int i = 0; i < n; i++) {
            float x = f(g[i]);
            z[(size_t)r * n + i] = b(x / (1 + expf(-x)) * f(u[i]) * k);
        }
    }
}

void swiglu_back(int rows, int n, const bf16 *restrict gu, const float *restrict weight, const bf16 *restrict dz, bf16 *restrict dgu, float *restrict dweight)
{
    for (int r = 0; r < rows; r++) {
        const bf16 *g = gu + (size_t)r * 2 * n, *u = g + n, *d = dz + (size_t)r * n;
        bf16 *dg = dgu + (size_t)r * 2 * n, *du = dg + n;
        float k = weight ? weight[r] : 1, sum = 0;
        for (int i = 0; i < n; i++) {
            float x = f(g[i]), y = f(u[i]), e = f(d[i]), sig = 1 / (1 + expf(-x)), act = x * sig;
            sum += e * act * y;
            dg[i] = b(e * k * y * sig * (1 + x - act));
            du[i] = b(e * k * act);
        }
        if (dweight) dweight[r] = sum;
    }
}

/* Router: chooses the two likeliest of up to 64 experts and gives every choice a slot, the slots of an expert together and each expert's first slot a
 * multiple of 64. slots: token of a slot (0 where none) and its weight (0 there). starts has experts + 1 entries. Returns the number of slots. */
int route(int tokens, int experts, const float *restrict probability, int32_t *restrict chosen, int32_t *restrict slot, int64_t *restrict token, float *restrict weight,
          int32_t *restrict starts)
{
    int count[64] = {0}, next[64], total = 0;
    for (int t = 0; t < tokens; t++) {
        const float *p = probability + (size_t)t * experts;
        int one = 0, two = -1;
        for (int e = 1; e < experts; e++)
            if (p[e] > p[one]) one = e;
        for (int e = 0; e < experts; e++)
            if (e != one && (two < 0 || p[e] > p[two])) two = e;
        chosen[2 * t] = one, chosen[2 * t + 1] = two;
        count[one]++, count[two]++;
    }
    for (int e = 0; e < experts; e++) {
        starts[e] = next[e] = total;
        total += (count[e] + 63) / 64 * 64;
    }
    starts[experts] = total;
    memset(token, 0, total * sizeof *token);
    memset(weight, 0, total * sizeof *weight);
    for (int i = 0; i < 2 * tokens; i++) {
        int at = next[chosen[i]]++;
        slot[i] = at;
        token[at] = i / 2;
        weight[at] = probability[(size_t)(i / 2) * experts + chosen[i]];
    }
    return total;
}

/* Gradient of the router's logits: from the slots' weights, and from the balance loss experts * sum_e share_e * mean_t probability, times `balance`. */
void route_back(int tokens, int experts, const float *restrict probability, const int32_t *restrict chosen, const int32_t *restrict slot, const float *restrict dweight,
                float balance, float *restrict dlogits)
{
    float share[64] = {0};
    for (int i = 0; i < 2 * tokens; i++) share[chosen[i]] += 0.5f / tokens;
    for (int t = 0; t < tokens; t++) {
        const float *p = probability + (size_t)t * experts;
        float d[64], dot = 0;
        for (int e = 0; e < experts; e++) d[e] = balance * experts * share[e] / tokens;
        for (int k = 0; k < 2; k++) d[chosen[2 * t + k]] += dweight[slot[2 * t + k]];
        for (int e = 0; e < experts; e++) dot += p[e] * d[e];
        for (int e = 0; e < experts; e++) dlogits[(size_t)t * experts + e] = p[e] * (d[e] - dot);
    }
}

/* Weighted cross entropy of rows of logits, which become their gradient; returns the loss. weights are those of the mean (they sum to 1). right: rows
 * whose likeliest token is the target. */
double cross_entropy(int rows, int n, bf16 *restrict logits, const int64_t *restrict target, const float *restrict weight, int32_t *restrict right)
{
    float e[WIDE];
    double loss = 0;
    for (int r = 0; r < rows; r++) {
        bf16 *x = logits + (size_t)r * n;
        float most = -1e30f, sum = 0, wanted = f(x[target[r]]);
        for (int i = 0; i < n; i++) e[i] = f(x[i]);
        for (int i = 0; i < n; i++) most = e[i] > most ? e[i] : most;
        right[r] = wanted >= most;
        for (int i = 0; i < n; i++) e[i] = expf(e[i] - most);
        for (int i = 0; i < n; i++) sum += e[i];
        loss += weight[r] * (logf(sum) + most - wanted);
        float k = weight[r] / sum;
        float own = e[target[r]] * k - weight[r];
        for (int i = 0; i < n; i++) x[i] = b(e[i] * k);
        x[target[r]] = b(own);
    }
    return loss;
}

void embed(int tokens, int n, const int64_t *restrict ids, const float *restrict table, float *restrict x)
{
    for (int t = 0; t < tokens; t++) memcpy(x + (size_t)t * n, table + ids[t] * n, n * sizeof *x);
}

void embed_back(int tokens, int n, const int64_t *restrict ids, const float *restrict dx, float *restrict grad)
{
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < n; i++) grad[ids[t] * n + i] += dx[(size_t)t * n + i];
}

/* Muon, before and after the orthogonalisation. n values of one matrix. */
float momentum(int64_t n, const bf16 *restrict g, float *restrict m, bf16 *restrict out)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float x = f(g[i]);
        m[i] = 0.95f * m[i] + 0.05f * x;
        float y = 0.05f * x + 0.95f * m[i];
        out[i] = b(y);
        sum += y * y;
    }
    return sum;
}

void apply(int64_t n, const bf16 *restrict update, float shrink, float rate, float keep, float *restrict p, float *restrict average, bf16 *restrict small)
{
    for (int64_t i = 0; i < n; i++) {
        p[i] = p[i] * shrink - rate * f(update[i]);
        average[i] += (1 - keep) * (p[i] - average[i]);
        small[i] = b(p[i]);
    }
}

void adam(int64_t n, const float *restrict g, float rate, float one, float two, float keep, float *restrict first, float *restrict second, float *restrict p,
          float *restrict average, bf16 *restrict small)
{
    for (int64_t i = 0; i < n; i++) {
        first[i] += 0.1f * (g[i] - first[i]);
        second[i] += 0.02f * (g[i] * g[i] - second[i]);
        p[i] -= rate * (first[i] * one) / (sqrtf(second[i] * two) + 1e-8f);
        average[i] += (1 - keep) * (p[i] - average[i]);
        small[i] = b(p[i]);
    }
}
