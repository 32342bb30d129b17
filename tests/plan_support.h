/* plan_support.h - what the tests of the planner (test_plan_*.c) share: numbers that agree within a share, experts chosen by dice. */
#ifndef TD_TESTS_PLAN_SUPPORT_H
#define TD_TESTS_PLAN_SUPPORT_H

#include "support.h"

#include <math.h>

#include "base/random.h"

static inline void assert_near(double found, double expected, double relative)
{
    if (!(fabs(found - expected) <= relative * fabs(expected))) fail_msg("expected %g within %g %%, found %g", expected, 100 * relative, found);
}

/* Every token chooses top_k different ones of `experts`, at most 64, at random; load[experts] receives how many tokens chose each. */
static inline void throw_dice(td_random *random, int experts, int top_k, int tokens, int *load)
{
    memset(load, 0, (size_t)experts * sizeof *load);
    for (int t = 0; t < tokens; t++) {
        bool taken[64] = {false};
        for (int k = 0; k < top_k;) {
            int e = (int)td_random_between(random, 0, experts - 1);
            if (!taken[e]) taken[e] = true, k++, load[e]++;
        }
    }
}

#endif
