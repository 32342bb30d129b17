/*
 * sampler.c - logit bias, penalties, temperature, top-k, top-p, min-p, draw; in that order. NaN counts as minus infinity. Sums are in double and in a fixed order.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { PENALTY_WINDOW_DEFAULT = 64 };

static void bias_and_clean(const td_request_options *o, float *logits, int vocab)
{
    int odd = 0; /* hardly ever is one of them no number: then nothing is written */
    for (int i = 0; i < vocab; i++) odd |= logits[i] != logits[i];
    for (int i = 0; odd && i < vocab; i++)
        if (logits[i] != logits[i]) logits[i] = -INFINITY;
    for (size_t i = 0; i < o->logit_bias_count; i++) logits[o->logit_bias[i].token] += o->logit_bias[i].bias;
}

/* Until they are filled, the candidates hold a mark for each token id: seen before in this window? Only the marks of the window's own tokens are touched. */
static void forget_seen(td_candidate *marks, const int32_t *tokens, int64_t first, int64_t count)
{
    for (int64_t i = first; i < count; i++) marks[tokens[i]].id = 0;
}

static bool seen_before(td_candidate *marks, int32_t token) { return marks[token].id++ > 0; }

/* Each distinct token of the window once. */
static void repetition(const td_request_options *o, const int32_t *tokens, int64_t count, td_candidate *marks, float *logits)
{
    if (o->repetition_penalty == 0.0f || o->repetition_penalty == 1.0f) return;
    int64_t window = o->penalty_window == 0 ? PENALTY_WINDOW_DEFAULT : o->penalty_window < 0 ? count : o->penalty_window;
    int64_t first = TD_MAX(count - window, (int64_t)0);
    forget_seen(marks, tokens, first, count);
    for (int64_t i = first; i < count; i++) {
        float *logit = &logits[tokens[i]];
        if (!seen_before(marks, tokens[i])) *logit = *logit > 0 ? *logit / o->repetition_penalty : *logit * o->repetition_penalty;
    }
}

static void presence_and_frequency(const td_request_options *o, const int32_t *tokens, int64_t first, int64_t count, td_candidate *marks, float *logits)
{
    if (o->presence_penalty == 0.0f && o->frequency_penalty == 0.0f) return;
    forget_seen(marks, tokens, first, count);
    for (int64_t i = first; i < count; i++) logits[tokens[i]] -= o->frequency_penalty + (seen_before(marks, tokens[i]) ? 0.0f : o->presence_penalty);
}

static int by_probability(const void *a, const void *b)
{
    const td_candidate *x = a, *y = b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Moves the k best to the front, in no order (quickselect over (p, id): a total order, so the chosen set is unique). */
static void select_best(td_candidate *c, int n, int k)
{
    int low = 0, high = n - 1;
    while (low < high) {
        td_candidate pivot = c[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (by_probability(&c[i], &pivot) < 0) i++;
            while (by_probability(&c[j], &pivot) > 0) j--;
            if (i <= j) {
                td_candidate swap = c[i];
                c[i++] = c[j];
                c[j--] = swap;
            }
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else return;
    }
}

/* Sorted candidates whose mass reaches top_p: sorts only as many as it needs, in growing steps. Returns how many. */
static int cut_top_p(td_candidate *c, int n, double total, float top_p)
{
    double wanted = (double)top_p * total;
    for (int k = TD_MIN(256, n);; k = k > n / 16 ? n : k * 16) {
        select_best(c, n, k);
        qsort(c, (size_t)k, sizeof *c, by_probability);
        double mass = 0.0;
        for (int i = 0; i < k; i++) {
            mass += c[i].p;
            if (mass >= wanted) return i + 1;
        }
        if (k == n) return n;
    }
}

static int32_t draw(const td_candidate *c, int n, double unit)
{
    double total = 0.0, mass = 0.0;
    for (int i = 0; i < n; i++) total += c[i].p;
    for (int i = 0; i < n; i++) {
        mass += c[i].p;
        if (unit * total < mass) return c[i].id;
    }
    return c[n - 1].id;
}

int32_t td_sample(td_sampler *sampler, const td_request_options *o, const int32_t *tokens, int64_t prompt_count, int64_t count, float *logits)
{
    int vocab = sampler->vocab;
    bias_and_clean(o, logits, vocab);
    repetition(o, tokens, count, sampler->candidates, logits);
    presence_and_frequency(o, tokens, prompt_count, count, sampler->candidates, logits);
    int32_t best = (int32_t)sampler->kernel->argmax(logits, vocab);
    float highest = logits[best];
    if (o->temperature <= 0.0f || !isfinite(highest)) return best;

    td_candidate *c = sampler->candidates;
    double total = 0.0;
    int n = 0;
    for (int i = 0; i < vocab; i++) {
        float p = td_expf((logits[i] - highest) / o->temperature);
        if (p > 0.0f) c[n++] = (td_candidate){p, i};
    }
    if (o->top_k > 0 && o->top_k < n) {
        select_best(c, n, o->top_k);
        n = o->top_k;
        qsort(c, (size_t)n, sizeof *c, by_probability);
    }
    for (int i = 0; i < n; i++) total += c[i].p;
    if (o->top_p > 0.0f && o->top_p < 1.0f) n = cut_top_p(c, n, total, o->top_p);
    if (o->min_p > 0.0f) {
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (c[i].p >= o->min_p) c[kept++] = c[i]; /* the best has p = 1 */
        n = kept;
    }
    return n > 0 ? draw(c, n, td_random_unit(o->seed, (uint64_t)(count - prompt_count))) : best;
}

int td_logprobs(const float *logits, int vocab, int32_t token, int wanted, float *logprob, td_logprob *top)
{
    float highest = -INFINITY;
    for (int i = 0; i < vocab; i++)
        if (logits[i] > highest) highest = logits[i];
    double sum = 0.0;
    for (int i = 0; i < vocab; i++)
        if (logits[i] == logits[i]) sum += exp((double)logits[i] - (double)highest);
    double log_total = (double)highest + log(sum);
    *logprob = (float)((double)logits[token] - log_total);
    int count = 0;
    for (int i = 0; i < vocab; i++) {
        float value = logits[i];
        if (!(value == value) || (count == wanted && (wanted == 0 || value <= top[count - 1].logprob))) continue;
        int at = count < wanted ? count++ : count - 1;
        for (; at > 0 && top[at - 1].logprob < value; at--) top[at] = top[at - 1];
        top[at] = (td_logprob){i, value};
    }
    for (int i = 0; i < count; i++) top[i].logprob = (float)((double)top[i].logprob - log_total);
    return count;
}
