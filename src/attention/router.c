/*
 * router.c - softmax or sigmoid scores; optional groups (only experts of the best groups may be chosen); top-k; optional renormalisation and scale.
 * Sources: Step-3 (softmax, plain top-k), Qwen3-MoE (softmax, renormalised), DeepSeek-V2 (softmax, best-of-group), DeepSeek-V3 (sigmoid, bias for the choice, a group's
 * score is the sum of its two best).
 */
#include "attention/router.h"

#include <math.h>
#include <string.h>

void td_router_score_row(const td_config *config, const td_kernel *kernel, float *scores)
{
    if (config->router_score == TD_SCORE_SOFTMAX) {
        kernel->softmax(scores, config->experts);
        return;
    }
    for (int e = 0; e < config->experts; e++) scores[e] = 1.0f / (1.0f + td_expf(-scores[e]));
}

static int best_of(const float *values, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++)
        if (values[i] > values[best]) best = i;
    return best;
}

static float group_score(const float *choice, int size, bool top2)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; i++) {
        if (choice[i] > first) {
            second = first;
            first = choice[i];
        } else if (choice[i] > second) {
            second = choice[i];
        }
    }
    return top2 && size > 1 ? first + second : first;
}

/* Puts experts outside the best groups out of reach. */
static void limit_groups(const td_config *c, float *choice, float *group_scores)
{
    int size = c->experts / c->groups;
    for (int g = 0; g < c->groups; g++) group_scores[g] = group_score(choice + g * size, size, c->group_by_top2);
    for (int used = 0; used < c->groups_used; used++) group_scores[best_of(group_scores, c->groups)] = -INFINITY;
    for (int g = 0; g < c->groups; g++)
        if (group_scores[g] != -INFINITY)
            for (int i = 0; i < size; i++) choice[g * size + i] = -INFINITY;
}

void td_router_choose(const td_config *c, const float *scores, const float *bias, int32_t *ids, float *weights, float *scratch)
{
    float *choice = scratch;
    for (int e = 0; e < c->experts; e++) {
        float value = bias ? scores[e] + bias[e] : scores[e];
        choice[e] = value == value ? value : -3.0e38f; /* a NaN score can still be chosen last, but orders */
    }
    if (c->groups > 1) limit_groups(c, choice, scratch + c->experts);
    float sum = 0.0f;
    for (int s = 0; s < c->top_k; s++) {
        int e = best_of(choice, c->experts);
        choice[e] = -INFINITY;
        ids[s] = e;
        weights[s] = scores[e];
        sum += scores[e];
    }
    for (int s = 0; s < c->top_k; s++) {
        if (c->router_norm) weights[s] = weights[s] / (sum + 1e-20f);
        weights[s] *= c->router_scale;
    }
}
