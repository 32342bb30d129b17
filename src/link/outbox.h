/* outbox.h - a fixed set of equal buffers for frames on their way out. Each has room for a sealed frame around its payload. Not thread-safe. */
#ifndef TD_LINK_OUTBOX_H
#define TD_LINK_OUTBOX_H

#include "base/arena.h"
#include "link/wire.h"

typedef struct {
    uint8_t *memory;
    size_t each;
    int count, free_count;
    uint16_t *free;
} td_outbox;

/* count buffers (at most 65535) for payloads of up to payload_max bytes. */
static inline td_status td_outbox_reserve(td_outbox *box, int count, size_t payload_max, td_arena *arena)
{
    box->each = (TD_FRAME_OUTER + TD_FRAME_HEADER + payload_max + TD_FRAME_TAG + 63) / 64 * 64;
    box->count = box->free_count = count;
    box->memory = td_arena_array(arena, (size_t)count, box->each);
    box->free = TD_NEW(arena, uint16_t, (size_t)count);
    if (!box->memory || !box->free) return TD_E_MEMORY;
    for (int i = 0; i < count; i++) box->free[i] = (uint16_t)i;
    return TD_OK;
}

/* NULL when all are on their way. */
static inline uint8_t *td_outbox_take(td_outbox *box) { return box->free_count > 0 ? box->memory + (size_t)box->free[--box->free_count] * box->each : NULL; }
static inline bool td_outbox_owns(const td_outbox *box, const void *room)
{
    return (const uint8_t *)room >= box->memory && (const uint8_t *)room < box->memory + box->each * (size_t)box->count;
}
static inline void td_outbox_give(td_outbox *box, const void *room) { box->free[box->free_count++] = (uint16_t)((size_t)((const uint8_t *)room - box->memory) / box->each); }
static inline uint8_t *td_outbox_payload(uint8_t *room) { return room + TD_FRAME_OUTER + TD_FRAME_HEADER; }

#endif
