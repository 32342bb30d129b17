/* memory.h - how much memory this process may hope for. */
#ifndef TD_BASE_MEMORY_H
#define TD_BASE_MEMORY_H

/* Bytes: this machine's memory, or the limit of a control group (a container's) around this process where that is lower. */
double td_memory_bytes(void);
/* The lowest limit of the control groups that `own` (a text as in /proc/self/cgroup) names under `root` (as /sys/fs/cgroup); infinity without one. For td_memory_bytes and tests. */
double td_memory_limit(const char *root, const char *own);

#endif
