/* bandwidth.c - how fast the engine's threads can read as many bytes as one token alone needs: the bound that decode speed is compared with. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "base/clock.h"
#include "base/memory.h"
#include "engine/engine.h"

enum { CHUNK_BYTES = 1 << 18, BUFFER_MIN = 4 << 20, BUFFER_MAX = 256 << 20, PASSES = 5 };

typedef struct { const td_kernel *kernel; const uint8_t *data; _Atomic uint64_t sink; } read_run;

static void read_task(void *arg, int task, int worker)
{
    (void)worker;
    read_run *run = arg;
    run->sink ^= run->kernel->read(run->data + (size_t)task * CHUNK_BYTES, CHUNK_BYTES);
}

td_status td_measure_bandwidth(td_engine *engine, td_bandwidth *out)
{
    pthread_mutex_lock(&engine->lock);
    bool busy = engine->unfinished > 0;
    pthread_mutex_unlock(&engine->lock);
    if (busy) return td_fail(TD_E_INVALID, "bandwidth: expected an idle engine, found running requests");
    uint64_t active = engine->model->info.active_bytes;
    size_t bytes = (size_t)TD_MAX(TD_MIN(active, (uint64_t)BUFFER_MAX), (uint64_t)BUFFER_MIN) / CHUNK_BYTES * CHUNK_BYTES;
    uint8_t *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) return td_fail(TD_E_MEMORY, "bandwidth: no memory for %zu bytes", bytes);
    madvise(buffer, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes; i += 512) buffer[i] = (uint8_t)i;
    read_run run = {.kernel = engine->kernel, .data = buffer};
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        int64_t start = td_now_ns();
        td_pool_run(engine->pool, (int)(bytes / CHUNK_BYTES), read_task, &run);
        double rate = (double)bytes / td_seconds_since(start) * 1e-9;
        if (pass > 0 && rate > best) best = rate;
    }
    munmap(buffer, bytes);
    int64_t cache = td_cache_bytes(3);
    *out = (td_bandwidth){.read_gbs = best, .from_cache = cache > 0 && active < (uint64_t)cache};
    return TD_OK;
}
