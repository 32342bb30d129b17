/* memory.c - see memory.h. */
#include "base/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double number_in(const char *root, const char *group, const char *name)
{
    char path[1024], text[64] = "";
    int length = snprintf(path, sizeof path, "%s%s/%s", root, group, name);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "r") : NULL;
    if (!file) return INFINITY;
    char *end, *read = fgets(text, sizeof text, file);
    fclose(file);
    double bytes = read ? strtod(text, &end) : 0;
    return read && end > text && bytes > 0 ? bytes : INFINITY; /* "max": none */
}

/* Of a group and of all around it, up to the root. */
static double lowest(const char *root, char *group, const char *name)
{
    double least = number_in(root, "", name);
    for (char *slash = group + strlen(group); slash && slash > group; slash = strrchr(group, '/')) {
        *slash = 0;
        if (*group) least = fmin(least, number_in(root, group, name));
    }
    return least;
}

double td_memory_limit(const char *root, const char *own)
{
    double least = INFINITY;
    char line[900], below[1024];
    for (const char *at = own; *at;) {
        size_t length = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : sizeof line - 1), at);
        at += length + (at[length] == '\n');
        char *kinds = strchr(line, ':'), *group = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        if (!strcmp(kinds + 1, "")) least = fmin(least, lowest(root, group, "memory.max")); /* version 2 */
        if (strcmp(kinds + 1, "memory")) continue;
        snprintf(below, sizeof below, "%s/memory", root);
        least = fmin(least, lowest(below, group, "memory.limit_in_bytes")); /* version 1 */
    }
    return least;
}

double td_memory_bytes(void)
{
    char own[4096] = "";
    double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file) return machine;
    size_t bytes = fread(own, 1, sizeof own - 1, file);
    fclose(file);
    own[bytes] = 0;
    return fmin(machine, td_memory_limit("/sys/fs/cgroup", own));
}

static bool cache_line(const char *folder, int index, const char *name, char text[32])
{
    char path[1024];
    int length = snprintf(path, sizeof path, "%s/index%d/%s", folder, index, name);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "r") : NULL;
    if (!file) return false;
    bool read = fgets(text, 32, file) != NULL;
    fclose(file);
    return read;
}

int64_t td_cache_listed(const char *folder, int level)
{
    char number[32], type[32], size[32];
    for (int i = 0; cache_line(folder, i, "level", number); i++) {
        if (atoi(number) != level || !cache_line(folder, i, "type", type) || !strncmp(type, "Instruction", 11) || !cache_line(folder, i, "size", size)) continue;
        char *unit;
        long long count = strtoll(size, &unit, 10);
        int shift = *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
        return count > 0 && count < 1 << 30 ? (int64_t)count << shift : 0;
    }
    return 0;
}

int64_t td_cache_bytes(int level)
{
    int64_t listed = td_cache_listed("/sys/devices/system/cpu/cpu0/cache", level);
    if (listed) return listed;
    static const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    long bytes = level >= 1 && level <= 3 ? sysconf(names[level - 1]) : 0;
    return bytes > 0 ? bytes : 0;
}

int64_t td_uncached_bytes(int64_t least)
{
    return (int64_t)fmax((double)least, fmin(1.25 * (double)td_cache_bytes(3), td_memory_bytes() / 8));
}
