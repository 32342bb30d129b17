/* meter.h - where the time of a step goes: a room adds up seconds, bytes and operations of each class of work it does. One thread writes. */
#ifndef TD_BASE_METER_H
#define TD_BASE_METER_H

#include "base/clock.h"
#include "tandem.h"

static inline void td_work_add(td_work_sum *work, int64_t start_ns, double bytes, double flops)
{
    work->seconds += (double)(td_now_ns() - start_ns) * 1e-9;
    work->bytes += bytes;
    work->flops += flops;
}

#endif
