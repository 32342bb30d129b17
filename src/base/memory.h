/* memory.h - how much memory this process may hope for, and how large the caches before it are. */
#ifndef TD_BASE_MEMORY_H
#define TD_BASE_MEMORY_H

#include <stdint.h>

/* Bytes: this machine's memory, or the limit of a control group (a container's) around this process where that is lower. */
double td_memory_bytes(void);
/* The lowest limit of the control groups that `own` (a text as in /proc/self/cgroup) names under `root` (as /sys/fs/cgroup); infinity without one. For td_memory_bytes and tests. */
double td_memory_limit(const char *root, const char *own);
/* Bytes of the data cache of a level (1 to 3) that the first core uses, as the system lists it; 0: not known. Not sysconf's figure: that is the whole socket's on some processors. */
int64_t td_cache_bytes(int level);
/* The same from a folder like /sys/devices/system/cpu/cpu0/cache. For td_cache_bytes and tests. */
int64_t td_cache_listed(const char *folder, int level);
/* Bytes that data must have to be read from memory again and again, as a large model is, and not from a cache: five quarters of the last cache, at least `least`, at most an eighth of memory
 * (or `least`, where that is more). */
int64_t td_uncached_bytes(int64_t least);

#endif
