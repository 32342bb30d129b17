/* doctor.c - what this machine is, what was chosen and why, what it reaches, and what will be slow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernel/kernel.h"

typedef struct {
    char cpu[128], huge_pages[64];
    double memory_gb, available_gb;
    int64_t l2, l3;
    int cores;
} machine;

/* The value behind "key ... :" in a /proc file's text. */
static void proc_value(const char *path, const char *key, char *out, size_t room)
{
    char line[512];
    FILE *file = fopen(path, "r");
    snprintf(out, room, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon) continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, room, "%s", colon);
        break;
    }
    if (file) fclose(file);
}

static machine look_around(void)
{
    machine m = {.l2 = td_cache_bytes(2), .l3 = td_cache_bytes(3), .cores = td_cores_usable()};
    char text[64];
    proc_value("/proc/cpuinfo", "model name", m.cpu, sizeof m.cpu);
    m.memory_gb = td_memory_bytes() * 1e-9;
    proc_value("/proc/meminfo", "MemAvailable", text, sizeof text);
    m.available_gb = atof(text) * 1024e-9;
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (!file || !fgets(m.huge_pages, sizeof m.huge_pages, file)) snprintf(m.huge_pages, sizeof m.huge_pages, "unknown");
    m.huge_pages[strcspn(m.huge_pages, "\n")] = 0;
    if (file) fclose(file);
    return m;
}

static void slow_paths(const machine *m, const td_kernel *kernel, td_buffer *out, const char *before, const char *after)
{
    if (!strcmp(kernel->name, "ref")) td_buffer_format(out, "%splain C kernels: no AVX2 on this machine, or limited by --isa%s", before, after);
    if (strstr(m->huge_pages, "[never]")) td_buffer_format(out, "%shuge pages are off (transparent_hugepage is never): weight reads may reach half the bandwidth%s", before, after);
    if (m->cores == 1) td_buffer_format(out, "%sone core: attention and FFN take turns%s", before, after);
    if (m->available_gb < 2.0) td_buffer_format(out, "%sonly %.1f GB of memory are free%s", before, m->available_gb, after);
}

td_status td_doctor(const char *isa, bool json, char **out)
{
    const td_kernel *kernel, *all[TD_KERNELS_MAX];
    td_pool *pool;
    td_machine_limits limits = {0};
    TD_TRY(td_kernel_pick(isa, &kernel));
    TD_TRY(td_pool_open(0, &pool));
    td_status status = td_kernel_limits(kernel, pool, &limits);
    int threads = td_pool_threads(pool), tables = td_kernel_all(all);
    td_pool_close(pool);
    TD_TRY(status);
    machine m = look_around();
    td_buffer text = {0}, slow = {0};
    if (json) {
        td_buffer_text(&text, "{\"cpu\":");
        td_buffer_json(&text, m.cpu, strlen(m.cpu));
        td_buffer_format(&text, ",\"cores\":%d,\"memory_gb\":%.3f,\"available_gb\":%.3f,\"l2_bytes\":%lld,\"l3_bytes\":%lld,\"kernels\":\"%s\",\"threads\":%d,\"read_gb_per_s\":%.3f,\"read_gb_per_s_best\":%.3f,"
                         "\"f32_gflops\":%.1f,\"int8_gops\":%.1f,\"slow_paths\":[", m.cores, m.memory_gb, m.available_gb, (long long)m.l2, (long long)m.l3, kernel->name, threads, limits.read.steady_gbs, limits.read.best_gbs,
                         limits.f32_gflops, limits.int8_gops);
        slow_paths(&m, kernel, &slow, "\"", "\",");
        if (slow.bytes) slow.data[--slow.bytes] = 0;
        td_buffer_format(&text, "%s]}\n", slow.bytes ? slow.data : "");
    } else {
        td_buffer_format(&text, "processor   %s, %d usable cores, L2 %lld KiB, L3 %lld KiB\nmemory      %.1f GB, %.1f GB free, huge pages %s\nkernels     %s (%s); this machine can run:", m.cpu, m.cores, (long long)m.l2 >> 10,
                         (long long)m.l3 >> 10, m.memory_gb, m.available_gb, m.huge_pages, kernel->name, kernel->why);
        for (int i = 0; i < tables; i++)
            if (i == 0 || strcmp(all[i]->name, all[i - 1]->name)) td_buffer_format(&text, " %s", all[i]->name); /* with and without VNNI are one name */
        td_buffer_format(&text, "\nreached     reads %.1f GB/s (%.1f at best, for a millisecond), f32 %.0f GFLOP/s, int8 %.0f Gop/s with %d threads\n", limits.read.steady_gbs, limits.read.best_gbs,
                         limits.f32_gflops, limits.int8_gops, threads);
        slow_paths(&m, kernel, &slow, "slow path   ", "\n");
        td_buffer_text(&text, slow.bytes ? slow.data : "slow paths  none\n");
    }
    td_buffer_free(&slow);
    status = td_buffer_status(&text);
    if (status < 0) td_buffer_free(&text);
    else *out = text.data;
    return status;
}
