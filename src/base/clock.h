/* clock.h - monotonic time, in nanoseconds. */
#ifndef TD_BASE_CLOCK_H
#define TD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define TD_MS ((int64_t)1000000)

static inline int64_t td_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline double td_seconds_since(int64_t start_ns) { return (double)(td_now_ns() - start_ns) * 1e-9; }

#endif
