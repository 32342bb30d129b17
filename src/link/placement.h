/*
 * placement.h - which worker gets which expert of which layer. Every worker maps the model file, so owning an expert is a decision, and moving one is a change of this
 * map: answers do not depend on it. Each (layer, expert) has an owner and perhaps a replica; rows alternate between the two.
 */
#ifndef TD_LINK_PLACEMENT_H
#define TD_LINK_PLACEMENT_H

#include "base/arena.h"
#include "link/wire.h"

enum { TD_PEERS_MAX = 64, TD_NOBODY = 255 };

typedef struct {
    const td_shape *shape;
    uint8_t *owner;            /* [layers, experts + 1, 2]: owner and replica, or TD_NOBODY; the last column is the shared expert or the dense FFN */
    uint32_t *load;            /* [layers, experts]: rows since the last halving */
    int next_layer;            /* of rebalancing */
    uint64_t moves;
} td_placement;

/* What placement needs to know of the workers. */
typedef struct {
    uint64_t usable;                         /* bit set: may get new work */
    const td_hello *hello[TD_PEERS_MAX];     /* of usable ones */
    double cost[TD_PEERS_MAX];               /* measured time of an answer, relative to the fastest; 1 when unknown */
} td_placement_view;

td_status td_placement_reserve(td_placement *placement, const td_shape *shape, td_arena *arena);
/* Spreads all experts anew over the usable workers: those started for an expert first, then those that could compute it. */
void td_placement_rebuild(td_placement *placement, const td_placement_view *view);
/* The worker for an expert (experts: the plain unit) of a row among allowed ones; -1: nobody. */
int td_placement_choose(const td_placement *placement, const td_placement_view *view, int layer, int expert, int row, uint64_t allowed);
/* Looks at one layer: moves experts away from the worker whose load times cost is largest, and gives a replica to an expert that is hot by itself. Returns the moves. */
int td_placement_rebalance(td_placement *placement, const td_placement_view *view);
/* First (layer, expert) that nobody of `allowed` can compute; false: everything is covered. expert == shape->experts: the plain unit. */
bool td_placement_gap(const td_placement *placement, const td_placement_view *view, uint64_t allowed, int *layer, int *expert);

#endif
