/* sort.h - numbers in ascending order, for medians and percentiles. */
#ifndef TD_BASE_SORT_H
#define TD_BASE_SORT_H

#include <stdint.h>
#include <stdlib.h>

static inline int td_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static inline void td_sort(double *values, int64_t count) { qsort(values, (size_t)count, sizeof *values, td_by_value); }

#endif
