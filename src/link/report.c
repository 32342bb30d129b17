/* report.c - what a crew says about itself: stats, JSON, and who holds the others up and why. */
#include <stdio.h>
#include <string.h>

#include "link/crew.h"

const double td_trip_bounds_us[TD_TRIP_BUCKETS] = {50, 100, 200, 400, 700, 1000, 2000, 4000, 7000, 10000, 20000, 50000, 200000, 1000000};

static const char *state_name(const td_peer *peer)
{
    switch (peer->state) {
    case TD_PEER_AWAY: return "away";
    case TD_PEER_GREETING: return "connecting";
    case TD_PEER_READY: return peer->leave ? "draining" : "ready";
    case TD_PEER_LEAVING: return "leaving";
    case TD_PEER_REFUSED: return "refused";
    default: return "free";
    }
}

static double total_us(const td_peer *peer) { return peer->stats.out_us + peer->stats.queue_us + peer->stats.compute_us + peer->stats.back_us; }

void td_crew_straggler(const td_crew *crew, int *index, const char **cause, double *factor)
{
    int count = 0, slowest = -1;
    double sum = 0;
    *index = -1;
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        const td_peer *peer = &crew->peers[i];
        if (peer->state != TD_PEER_READY || peer->stats.messages < 8) continue;
        count++;
        sum += total_us(peer);
        if (slowest < 0 || total_us(peer) > total_us(&crew->peers[slowest])) slowest = i;
    }
    if (count < 2) return;
    const td_peer *slow = &crew->peers[slowest];
    double others = (sum - total_us(slow)) / (count - 1);
    if (total_us(slow) < 1.5 * others) return;
    double mean[3] = {0}, excess[3], own[3] = {slow->stats.out_us + slow->stats.back_us, slow->stats.queue_us, slow->stats.compute_us};
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        const td_peer *peer = &crew->peers[i];
        if (i == slowest || peer->state != TD_PEER_READY || peer->stats.messages < 8) continue;
        mean[0] += (peer->stats.out_us + peer->stats.back_us) / (count - 1);
        mean[1] += peer->stats.queue_us / (count - 1);
        mean[2] += peer->stats.compute_us / (count - 1);
    }
    static const char *causes[] = {"wire", "queue", "compute"};
    int most = 0;
    for (int i = 0; i < 3; i++) {
        excess[i] = own[i] - mean[i];
        if (excess[i] > excess[most]) most = i;
    }
    *index = slowest;
    *cause = causes[most];
    *factor = total_us(slow) / (others > 0 ? others : 1);
}

void td_crew_stats(const td_crew *crew, td_link_stats *out)
{
    double wait_ms = out->wait_ms; /* the owner's */
    *out = crew->stats;
    out->wait_ms = wait_ms;
    size_t n = 0;
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        const td_peer *peer = &crew->peers[i];
        if (peer->state == TD_PEER_FREE || peer->leave) continue;
        out->workers++;
        if (peer->state == TD_PEER_READY) {
            out->workers_ready++;
            continue;
        }
        if (n < sizeof out->degraded_reason)
            n += (size_t)snprintf(out->degraded_reason + n, sizeof out->degraded_reason - n, "%s%s is %s%s%s", n ? "; " : "", peer->address, state_name(peer), peer->why[0] ? ": " : "", peer->why);
    }
    out->degraded = out->workers_ready < out->workers;
    if (!out->degraded) out->degraded_reason[0] = 0;
}

static void put_ranges(td_buffer *out, const uint8_t *bits, int count)
{
    bool first = true;
    td_buffer_text(out, "\"");
    for (int i = 0; i < count; i++) {
        if (!td_bit(bits, i)) continue;
        int end = i;
        while (end + 1 < count && td_bit(bits, end + 1)) end++;
        td_buffer_format(out, end > i ? "%s%d-%d" : "%s%d", first ? "" : ",", i, end);
        first = false;
        i = end;
    }
    td_buffer_text(out, "\"");
}

static const uint8_t *owners(const td_crew *crew, int layer, int expert)
{
    return crew->placement.owner + ((size_t)layer * (size_t)(crew->shape.experts + 1) + (size_t)expert) * 2;
}

/* How many experts this worker has, and how many of those it shares with another one. */
static void count_experts(const td_crew *crew, int index, int *owned, int *shared)
{
    *owned = *shared = 0;
    for (int layer = 0; layer < crew->shape.layers; layer++)
        for (int e = 0; e < crew->shape.experts; e++) {
            const uint8_t *o = owners(crew, layer, e);
            bool own = o[0] == index || o[1] == index;
            *owned += own;
            *shared += own && o[1] != TD_NOBODY;
        }
}

/* [expert, worker, worker] of those that two share. */
static void put_replicas(const td_crew *crew, int layer, td_buffer *out)
{
    bool first = true;
    td_buffer_text(out, ",\"replicas\":[");
    for (int e = 0; e < crew->shape.experts; e++) {
        const uint8_t *o = owners(crew, layer, e);
        if (o[0] >= TD_PEERS_MAX || o[1] >= TD_PEERS_MAX) continue;
        td_buffer_format(out, "%s[%d", first ? "" : ",", e);
        for (int i = 0; i < 2; i++) {
            td_buffer_text(out, ",");
            td_buffer_json(out, crew->peers[o[i]].address, strlen(crew->peers[o[i]].address));
        }
        td_buffer_text(out, "]");
        first = false;
    }
    td_buffer_text(out, "]");
}

static void put_peer(const td_crew *crew, const td_peer *peer, td_buffer *out)
{
    const td_peer_stats *s = &peer->stats;
    int owned, shared;
    count_experts(crew, (int)(peer - crew->peers), &owned, &shared);
    td_buffer_text(out, "{\"address\":");
    td_buffer_json(out, peer->address, strlen(peer->address));
    td_buffer_format(out, ",\"state\":\"%s\",\"why\":", state_name(peer));
    td_buffer_json(out, peer->why, strlen(peer->why));
    if (peer->known) {
        td_buffer_text(out, ",\"layers\":");
        put_ranges(out, peer->hello.layers, crew->shape.layers);
        td_buffer_text(out, ",\"experts\":");
        put_ranges(out, peer->hello.experts, crew->shape.experts);
    }
    td_buffer_format(out, ",\"experts_placed\":%d,\"experts_shared\":%d,\"encrypted\":%s,\"in_air\":%d,\"round_trip_us\":%.1f,\"answers\":%llu,\"rows\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu,\"out_us\":%.1f,\"queue_us\":%.1f,"
                     "\"compute_us\":%.1f,\"back_us\":%.1f,\"lost\":%llu,\"late\":%llu,\"dropped\":%llu,\"bad_frames\":%llu,\"trips_us\":%.0f,\"trips\":[",
                     owned, shared, peer->session.encrypt ? "true" : "false", peer->in_air, peer->round * 1e-3, (unsigned long long)s->messages, (unsigned long long)s->rows, (unsigned long long)s->bytes_out,
                     (unsigned long long)s->bytes_in, s->out_us, s->queue_us, s->compute_us, s->back_us, (unsigned long long)s->lost, (unsigned long long)s->late, (unsigned long long)s->dropped,
                     (unsigned long long)s->bad_frames, s->trips_us);
    for (int i = 0; i <= TD_TRIP_BUCKETS; i++) { /* [at most so many microseconds (null: any), answers] */
        td_buffer_text(out, i ? ",[" : "[");
        if (i < TD_TRIP_BUCKETS) td_buffer_format(out, "%.0f", td_trip_bounds_us[i]);
        else td_buffer_text(out, "null");
        td_buffer_format(out, ",%llu]", (unsigned long long)s->trips[i]);
    }
    td_buffer_text(out, "]}");
}

static void put_layer(const td_crew *crew, int layer, td_buffer *out)
{
    const td_layer_stats *s = &crew->layers[layer];
    double n = s->answers ? (double)s->answers : 1;
    td_buffer_format(out, "{\"layer\":%d,\"answers\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu,\"out_us\":%.1f,\"queue_us\":%.1f,\"compute_us\":%.1f,\"back_us\":%.1f", layer, (unsigned long long)s->answers,
                     (unsigned long long)s->bytes_out, (unsigned long long)s->bytes_in, s->out_us / n, s->queue_us / n, s->compute_us / n, s->back_us / n);
    if (crew->shape.is_moe[layer]) {
        const uint32_t *load = crew->placement.load + (size_t)layer * (size_t)crew->shape.experts;
        int hottest = 0;
        uint64_t total = 0;
        for (int e = 0; e < crew->shape.experts; e++) {
            total += load[e];
            if (load[e] > load[hottest]) hottest = e;
        }
        td_buffer_format(out, ",\"hottest_expert\":%d,\"hottest_share\":%.3f", hottest, total ? (double)load[hottest] / (double)total : 0);
        td_buffer_text(out, ",\"load\":[");
        for (int e = 0; e < crew->shape.experts; e++) td_buffer_format(out, "%s%u", e ? "," : "", load[e]);
        td_buffer_text(out, "]");
        put_replicas(crew, layer, out);
    }
    td_buffer_text(out, "}");
}

void td_crew_json(const td_crew *crew, td_buffer *out)
{
    td_link_stats stats = {0};
    int slow;
    const char *cause;
    double factor;
    bool first = true;
    td_crew_stats(crew, &stats);
    td_crew_straggler(crew, &slow, &cause, &factor);
    td_buffer_format(out, "{\"kind\":\"workers\",\"epoch\":%u,\"degraded\":%s,\"degraded_reason\":", crew->epoch, stats.degraded ? "true" : "false");
    td_buffer_json(out, stats.degraded_reason, strlen(stats.degraded_reason));
    td_buffer_format(out, ",\"messages\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu,\"retries\":%llu,\"workers_lost\":%llu,\"experts_moved\":%llu,\"straggler\":", (unsigned long long)stats.messages,
                     (unsigned long long)stats.bytes_out, (unsigned long long)stats.bytes_in, (unsigned long long)stats.retries, (unsigned long long)stats.workers_lost, (unsigned long long)crew->placement.moves);
    if (slow >= 0) {
        td_buffer_text(out, "{\"address\":");
        td_buffer_json(out, crew->peers[slow].address, strlen(crew->peers[slow].address));
        td_buffer_format(out, ",\"cause\":\"%s\",\"times_the_others\":%.1f}", cause, factor);
    } else {
        td_buffer_text(out, "null");
    }
    td_buffer_text(out, ",\"workers\":[");
    for (int i = 0; i < TD_PEERS_MAX; i++) {
        if (crew->peers[i].state == TD_PEER_FREE) continue;
        if (!first) td_buffer_text(out, ",");
        put_peer(crew, &crew->peers[i], out);
        first = false;
    }
    td_buffer_text(out, "],\"layers\":[");
    for (int layer = 0; layer < crew->shape.layers; layer++) {
        if (layer) td_buffer_text(out, ",");
        put_layer(crew, layer, out);
    }
    td_buffer_text(out, "]}");
}
