/* pace.c - see pace.h. */
#include "engine/pace.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum { TRIES = 4, AGAIN = 256 }; /* steps with each count before the first choice; steps between two tries of another count */
#define WORTH 0.97               /* a larger count must be faster by this to be taken: it sends more messages */

void td_pace_open(td_pace *pace, int micro_batches, bool remote, int layers)
{
    *pace = (td_pace){.automatic = micro_batches == 0 && remote, .fixed = micro_batches ? micro_batches : 1, .layers = layers};
}

double td_pace_predict(const td_pace_row *row, int m)
{
    double once = row->attention_us + row->ffn_us + row->wire_us, busy = TD_MAX(row->attention_us, row->share_us) * m;
    return TD_MAX(once, busy);
}

static int size_of(int rows)
{
    int size = 0;
    while (rows > 1 && size < TD_PACE_SIZES - 1) rows >>= 1, size++;
    return size;
}

/* The fastest count so far; fewer when that is nearly as fast. */
static int best_of(const td_pace *pace, int size, int most)
{
    int best = 1;
    for (int m = 2; m <= most; m++)
        if (pace->rows[size][m - 1].steps > 0 && pace->rows[size][m - 1].layer_us < WORTH * pace->rows[size][best - 1].layer_us) best = m;
    return best;
}

static void tell(td_pace *pace, int size, int rows, int most)
{
    char text[400];
    size_t n = 0;
    if (pace->told[size] == pace->chosen[size]) return;
    pace->told[size] = pace->chosen[size];
    for (int m = 1; m <= most && n < sizeof text; m++) {
        const td_pace_row *row = &pace->rows[size][m - 1];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%d: %.0f us a layer, %.0f predicted from A %.0f, F %.0f (share of the busiest %.0f), wire %.0f", m > 1 ? "; " : "", m, row->layer_us, td_pace_predict(row, m), row->attention_us,
                              row->ffn_us, row->share_us, row->wire_us);
    }
    td_log(TD_LOG_INFO, "engine", "%d micro-batch%s for steps of about %d rows (%s)", pace->chosen[size], pace->chosen[size] == 1 ? "" : "es", rows, text);
}

/* Workers came or went: what was measured says nothing about those who are here now. */
static void forget_when_changed(td_pace *pace)
{
    if (pace->before.workers_ready == pace->workers) return;
    pace->workers = pace->before.workers_ready;
    memset(pace->age, 0, sizeof pace->age);
    memset(pace->chosen, 0, sizeof pace->chosen);
    memset(pace->rows, 0, sizeof pace->rows);
}

int td_pace_begin(td_pace *pace, int rows, td_link *link)
{
    int most = TD_MIN(rows, TD_MICRO_BATCHES_MAX);
    pace->attention_ns = 0;
    if (!pace->automatic && !pace->watching) return pace->count = TD_MIN(pace->fixed, rows);
    td_link_get_times(link, &pace->before);
    forget_when_changed(pace);
    int size = pace->size = size_of(rows), age = pace->age[size]++;
    if (!pace->automatic) return pace->count = TD_MIN(pace->fixed, rows);
    if (age < TRIES * most) return pace->count = 1 + age % most;
    if (!pace->chosen[size]) {
        pace->chosen[size] = best_of(pace, size, most);
        tell(pace, size, rows, most);
    }
    pace->count = TD_MIN(pace->chosen[size], most);
    if (age % AGAIN >= AGAIN - 2) pace->count = 1 + age / AGAIN % most; /* two steps, so that one jump of the machine does not decide */
    return pace->count;
}

/* What the busiest computer spent between two looks. */
static double busiest(const td_link_times *before, const td_link_times *now)
{
    double most = 0;
    for (int i = 0; i < TD_COMPUTERS_MAX; i++) most = TD_MAX(most, now->busy_us[i] - before->busy_us[i]);
    return most;
}

static void mean(double *to, double value, int steps)
{
    if (steps == 0) *to = value;
    else *to += (TD_MIN(value, 4 * *to) - *to) * (steps < 4 ? 1.0 / (steps + 1) : 0.2);
}

void td_pace_end(td_pace *pace, int rows, td_link *link, int64_t took_ns)
{
    td_link_times now;
    if (!pace->automatic && !pace->watching) return;
    td_link_get_times(link, &now);
    double tickets = (double)(now.tickets - pace->before.tickets), units = (double)pace->count * pace->layers;
    if (tickets < units || pace->before.workers_ready != now.workers_ready) return; /* an unfinished step, or somebody came or went */
    td_pace_row *row = &pace->rows[pace->size][pace->count - 1];
    mean(&row->layer_us, (double)took_ns * 1e-3 / pace->layers, row->steps);
    mean(&row->attention_us, (double)pace->attention_ns * 1e-3 / units, row->steps);
    mean(&row->ffn_us, (now.ffn_us - pace->before.ffn_us) / tickets, row->steps);
    mean(&row->share_us, busiest(&pace->before, &now) / units, row->steps);
    mean(&row->wire_us, (now.wire_us - pace->before.wire_us) / tickets, row->steps);
    row->steps++;
    int most = TD_MIN(rows, TD_MICRO_BATCHES_MAX);
    if (!pace->chosen[pace->size] || pace->age[pace->size] % AGAIN != 0) return;
    pace->chosen[pace->size] = best_of(pace, pace->size, most);
    tell(pace, pace->size, rows, most);
}
