/* bandwidth.c - how fast the engine's threads can read as many bytes as one token alone needs: the bound that decode speed is compared with. */
#include "base/memory.h"
#include "engine/engine.h"

enum { BUFFER_MIN = 4 << 20, BUFFER_MAX = 256 << 20 };
static const double MEASURE_SECONDS = 0.1;

td_status td_measure_bandwidth(td_engine *engine, td_bandwidth *out)
{
    pthread_mutex_lock(&engine->lock);
    bool busy = engine->unfinished > 0;
    pthread_mutex_unlock(&engine->lock);
    if (busy) return td_fail(TD_E_INVALID, "bandwidth: expected an idle engine, found running requests");
    uint64_t active = engine->model->info.active_bytes;
    td_read_rate rate;
    TD_TRY(td_kernel_read_rate(engine->kernel, engine->pool, (size_t)TD_MAX(TD_MIN(active, (uint64_t)BUFFER_MAX), (uint64_t)BUFFER_MIN), MEASURE_SECONDS, &rate));
    int64_t cache = td_cache_bytes(3);
    *out = (td_bandwidth){.read_gbs = rate.steady_gbs, .best_gbs = rate.best_gbs, .from_cache = cache > 0 && active < (uint64_t)cache};
    return TD_OK;
}
