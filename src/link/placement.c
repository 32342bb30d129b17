/* placement.c - see placement.h. */
#include "link/placement.h"

#include <string.h>

enum { MOVES_MAX = 8 };        /* experts of a layer that change hands in one look: what moves has to be read from disk by its new owner */
#define UNEVEN 1.25            /* largest over mean load that starts a move */

static uint8_t *owners(const td_placement *p, int layer, int expert) { return p->owner + ((size_t)layer * (size_t)(p->shape->experts + 1) + (size_t)expert) * 2; }

td_status td_placement_reserve(td_placement *p, const td_shape *shape, td_arena *arena)
{
    size_t entries = (size_t)shape->layers * (size_t)(shape->experts + 1) * 2;
    *p = (td_placement){.shape = shape};
    p->owner = TD_NEW(arena, uint8_t, entries);
    p->load = TD_NEW(arena, uint32_t, (size_t)shape->layers * (size_t)shape->experts);
    if (!p->owner || !p->load) return TD_E_MEMORY;
    memset(p->owner, TD_NOBODY, entries);
    return TD_OK;
}

/* Can worker `peer` compute it. */
static bool can(const td_placement *p, const td_hello *hello, int layer, int expert)
{
    return td_bit(hello->layers, layer) && (expert == p->shape->experts || td_bit(hello->experts, expert));
}

/* Workers of `allowed` that can compute it; only those started for it when there are any. */
static uint64_t candidates(const td_placement *p, const td_placement_view *view, int layer, int expert, uint64_t allowed)
{
    uint64_t able = 0, preferred = 0;
    for (uint64_t left = allowed & view->usable; left; left &= left - 1) {
        int peer = __builtin_ctzll(left);
        if (!can(p, view->hello[peer], layer, expert)) continue;
        able |= (uint64_t)1 << peer;
        if (expert == p->shape->experts || td_bit(view->hello[peer]->preferred, expert)) preferred |= (uint64_t)1 << peer;
    }
    return preferred ? preferred : able;
}

static int nth_bit(uint64_t bits, int n)
{
    while (n-- > 0) bits &= bits - 1;
    return __builtin_ctzll(bits);
}

void td_placement_rebuild(td_placement *p, const td_placement_view *view)
{
    int experts = p->shape->experts;
    for (int layer = 0; layer < p->shape->layers; layer++)
        for (int e = 0; e <= experts; e++) {
            uint8_t *o = owners(p, layer, e);
            uint64_t able = candidates(p, view, layer, e, ~(uint64_t)0);
            int count = __builtin_popcountll(able);
            o[0] = o[1] = TD_NOBODY;
            if (count) o[0] = (uint8_t)nth_bit(able, e == experts ? layer % count : e * count / experts);
        }
}

int td_placement_choose(const td_placement *p, const td_placement_view *view, int layer, int expert, int row, uint64_t allowed)
{
    const uint8_t *o = owners(p, layer, expert);
    allowed &= view->usable;
    bool first = o[0] != TD_NOBODY && allowed >> o[0] & 1, second = o[1] != TD_NOBODY && allowed >> o[1] & 1;
    if (first && second) return o[row & 1];
    if (first) return o[0];
    if (second) return o[1];
    uint64_t able = candidates(p, view, layer, expert, allowed);
    return able ? nth_bit(able, (expert + layer) % __builtin_popcountll(able)) : -1;
}

bool td_placement_gap(const td_placement *p, const td_placement_view *view, uint64_t allowed, int *layer_out, int *expert_out)
{
    for (int layer = 0; layer < p->shape->layers; layer++)
        for (int e = p->shape->is_moe[layer] ? 0 : p->shape->experts; e <= p->shape->experts; e++)
            if (!candidates(p, view, layer, e, allowed)) {
                *layer_out = layer;
                *expert_out = e;
                return true;
            }
    return false;
}

/* ---- rebalancing --------------------------------------------------------------------------------------------------------------------- */

static void count_loads(const td_placement *p, const td_placement_view *view, int layer, double loads[TD_PEERS_MAX], double *total)
{
    memset(loads, 0, TD_PEERS_MAX * sizeof *loads);
    *total = 0;
    for (int e = 0; e < p->shape->experts; e++) {
        const uint8_t *o = owners(p, layer, e);
        double rows = p->load[(size_t)layer * (size_t)p->shape->experts + (size_t)e];
        *total += rows;
        bool two = o[1] != TD_NOBODY;
        if (o[0] != TD_NOBODY) loads[o[0]] += rows * view->cost[o[0]] * (two ? 0.5 : 1);
        if (two) loads[o[1]] += rows * view->cost[o[1]] * 0.5;
    }
}

/* Takes one expert from the busiest worker. False: nothing would become better. */
static bool move_one(td_placement *p, const td_placement_view *view, int layer, double loads[TD_PEERS_MAX])
{
    int busiest = -1, count = 0, best = -1, best_to = -1;
    double sum = 0, best_after = 0;
    for (uint64_t left = view->usable; left; left &= left - 1) {
        int peer = __builtin_ctzll(left);
        sum += loads[peer];
        count++;
        if (busiest < 0 || loads[peer] > loads[busiest]) busiest = peer;
    }
    if (count < 2 || loads[busiest] * count <= sum * UNEVEN) return false;
    best_after = loads[busiest];
    bool best_copy = false;
    for (int e = 0; e < p->shape->experts; e++) {
        const uint8_t *o = owners(p, layer, e);
        double rows = p->load[(size_t)layer * (size_t)p->shape->experts + (size_t)e];
        if (o[0] != busiest || o[1] != TD_NOBODY || rows == 0) continue;
        uint64_t able = candidates(p, view, layer, e, ~((uint64_t)1 << busiest));
        for (; able; able &= able - 1) {
            int to = __builtin_ctzll(able);
            for (int copy = 0; copy < 2; copy++) { /* a whole expert, or half of its rows */
                double share = copy ? 0.5 : 1, from_after = loads[busiest] - rows * view->cost[busiest] * share, to_after = loads[to] + rows * view->cost[to] * share;
                double after = from_after > to_after ? from_after : to_after;
                if (after < best_after * 0.98) {
                    best_after = after;
                    best = e;
                    best_to = to;
                    best_copy = copy;
                }
            }
        }
    }
    if (best < 0) return false;
    double rows = p->load[(size_t)layer * (size_t)p->shape->experts + (size_t)best] * (best_copy ? 0.5 : 1);
    loads[busiest] -= rows * view->cost[busiest];
    loads[best_to] += rows * view->cost[best_to];
    owners(p, layer, best)[best_copy ? 1 : 0] = (uint8_t)best_to;
    return true;
}

int td_placement_rebalance(td_placement *p, const td_placement_view *view)
{
    int layer = p->next_layer, moves = 0;
    double loads[TD_PEERS_MAX], total;
    p->next_layer = (layer + 1) % p->shape->layers;
    if (!p->shape->is_moe[layer]) return 0;
    count_loads(p, view, layer, loads, &total);
    if (total >= 4.0 * p->shape->experts)
        while (moves < MOVES_MAX && move_one(p, view, layer, loads)) moves++;
    for (int e = 0; e < p->shape->experts; e++) p->load[(size_t)layer * (size_t)p->shape->experts + (size_t)e] /= 2;
    p->moves += (uint64_t)moves;
    return moves;
}
