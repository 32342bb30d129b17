/* median.h - the median of a few timings. */
#ifndef TD_BENCH_MEDIAN_H
#define TD_BENCH_MEDIAN_H

#include "base/sort.h"

/* Sorts values [count]; of an even count the upper one. */
static inline double median(double *values, int count)
{
    td_sort(values, count);
    return values[count / 2];
}

#endif
