/* median.h - the median of a few timings. */
#ifndef TD_BENCH_MEDIAN_H
#define TD_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int td_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts values [count]; of an even count the upper one. */
static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, td_by_value);
    return values[count / 2];
}

#endif
