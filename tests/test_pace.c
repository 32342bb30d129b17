/* test_pace.c - the rule that predicts a layer's time from stage times, against pipelines worked out event by event: stages with a fixed cost and a cost a row, m = 1 to 4. */
#include "support.h"

#include "engine/pace.h"
#include "link/ops.h"

enum { LAYERS = 40, STEPS = 6 };

/* Microseconds; a stage of r rows takes fixed + r * each. together: the worker takes all micro-batches of a layer that lie there at once. */
typedef struct { double a_fixed, a_each, f_fixed, f_each, wire; bool together; } costs;

typedef struct { td_link base; td_link_times times; } fake_link;

static void fake_times(td_link *link, td_link_times *out) { *out = ((fake_link *)link)->times; }

static const td_link_ops fake_ops = {.get_times = fake_times};

typedef struct { double arrived, back; int rows; bool waiting; } visit;

/* What the worker does until the answer of `wanted` is on its way; the answers' times go to the link as the crew would count them. */
static void work(const costs *c, visit *visits, int m, int wanted, double *worker_free, td_link_times *times)
{
    while (visits[wanted].waiting) {
        int first = -1, rows = 0;
        for (int i = 0; i < m; i++)
            if (visits[i].waiting && (first < 0 || visits[i].arrived < visits[first].arrived)) first = i;
        double start = TD_MAX(*worker_free, visits[first].arrived);
        for (int i = 0; i < m; i++)
            if (visits[i].waiting && (i == first || (c->together && visits[i].arrived <= start))) rows += visits[i].rows;
        double took = c->f_fixed + rows * c->f_each;
        for (int i = 0; i < m; i++) {
            visit *v = &visits[i];
            if (!v->waiting || (i != first && !(c->together && v->arrived <= start))) continue;
            v->waiting = false;
            v->back = start + took + c->wire / 2;
            times->tickets++;
            times->ffn_us += took;
            times->wire_us += c->wire;
            times->busy_us[3] += took * v->rows / rows;
        }
        *worker_free = start + took;
    }
}

/* One step through all layers as the engine walks them; returns its time. */
static double walk(const costs *c, int rows, int m, td_link_times *times, double *attention)
{
    visit visits[TD_MICRO_BATCHES_MAX] = {{0}};
    double here = 0, worker_free = 0;
    for (int layer = 0; layer <= LAYERS; layer++) {
        visit next[TD_MICRO_BATCHES_MAX] = {{0}};
        for (int i = 0; i < m; i++) {
            int r = rows / m + (i < rows % m);
            if (layer > 0) {
                /* what this one sends in this layer reaches the worker after the answers that it waits for have left: no more can join them */
                work(c, visits, m, i, &worker_free, times);
                here = TD_MAX(here, visits[i].back);
            }
            if (layer == LAYERS) continue;
            here += c->a_fixed + r * c->a_each;
            *attention += c->a_fixed + r * c->a_each;
            next[i] = (visit){.arrived = here + c->wire / 2, .rows = r, .waiting = true};
        }
        memcpy(visits, next, sizeof next);
    }
    return here;
}

/* Measured over predicted of steps cut into m. */
static double off_by(const costs *c, int rows, int m)
{
    td_pace pace;
    fake_link link = {.base.ops = &fake_ops, .times.workers_ready = 1};
    td_pace_open(&pace, m, true, LAYERS);
    pace.watching = true;
    for (int s = 0; s < STEPS; s++) {
        double attention = 0;
        assert_int_equal(td_pace_begin(&pace, rows, &link.base), m);
        double took = walk(c, rows, m, &link.times, &attention);
        pace.attention_ns = (int64_t)(attention * 1e3);
        td_pace_end(&pace, rows, &link.base, (int64_t)(took * 1e3));
    }
    const td_pace_row *row = &pace.rows[pace.size][m - 1];
    assert_int_equal(row->steps, STEPS);
    assert_true(row->attention_us > 0 && row->ffn_us > 0 && row->share_us > 0);
    return row->layer_us / td_pace_predict(row, m);
}

static void near_the_bound(const char *what, costs c, int rows, double most)
{
    for (int together = 0; together < 2; together++)
        for (int m = 1; m <= TD_MICRO_BATCHES_MAX; m++) {
            c.together = together;
            double off = off_by(&c, rows, m);
            if (off < 0.98 || off > most) fail_msg("%s, %d micro-batches%s: measured %.3f of what was predicted, expected 0.98 to %.2f", what, m, together ? ", taken together" : "", off, most);
        }
}

static void a_pipeline_of_equal_stages(void **state)
{
    (void)state;
    near_the_bound("equal stages", (costs){20, 30, 20, 30, 300, false}, 24, 1.25);
}

static void an_ffn_that_is_the_bound(void **state)
{
    (void)state;
    near_the_bound("reading weights", (costs){100, 250, 10000, 700, 60, false}, 16, 1.25); /* as qwen3-30b-a3b at batch 16 with a core each: the case that was predicted 1.6 times too long */
    near_the_bound("a cost a row", (costs){50, 20, 0, 400, 60, false}, 16, 1.25);
}

static void attention_that_is_the_bound(void **state)
{
    (void)state;
    near_the_bound("long contexts", (costs){100, 900, 300, 40, 60, false}, 16, 1.05);
}

static void a_wire_that_is_the_bound(void **state)
{
    (void)state;
    near_the_bound("a long wire", (costs){20, 5, 40, 5, 4000, false}, 16, 1.25);
}

/* The busiest worker counts, not the sum of all. */
static void workers_side_by_side(void **state)
{
    (void)state;
    td_pace pace;
    fake_link link = {.base.ops = &fake_ops, .times.workers_ready = 2};
    td_pace_open(&pace, 2, true, 10);
    pace.watching = true;
    td_pace_begin(&pace, 8, &link.base);
    link.times.tickets += 20;
    link.times.busy_us[0] += 20 * 100.0;
    link.times.busy_us[1] += 20 * 300.0;
    link.times.ffn_us += 20 * 300.0;
    pace.attention_ns = 20 * 50000;
    td_pace_end(&pace, 8, &link.base, 10 * 700000);
    const td_pace_row *row = &pace.rows[pace.size][1];
    assert_float_equal(row->share_us, 300, 1e-6);
    assert_float_equal(td_pace_predict(row, 2), 600, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipeline_of_equal_stages), cmocka_unit_test(an_ffn_that_is_the_bound), cmocka_unit_test(attention_that_is_the_bound),
        cmocka_unit_test(a_wire_that_is_the_bound),   cmocka_unit_test(workers_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
