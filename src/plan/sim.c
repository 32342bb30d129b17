/*
 * sim.c - the discrete-event simulator (sim.h). Work per step of a copy: its slots once, and layers x micro-batches for the pipeline; work per request: a few
 * heap operations. Everything random is a function of the seed and a counter, so a run can be replayed.
 */
#include "plan/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/sort.h"

typedef struct { /* attention of one group on one pool: the larger of two linear forms, plus the projections */
    double byte_read, flop_read, byte_token, flop_token, byte_row, flop_row, limit, linear_fixed, linear_row, fixed, prompt_row, prompt_read;
} attention_cost;

typedef struct { double device, rows, latency; } wire_cost; /* max(device * device_rows, rows * all_rows) + latency */

typedef struct { int rows, prefilling; double tokens, reserved; int pool, first_prefill; } slot;

typedef struct { double at_s, decode_s, last_s; int prompt, output, left, next, slot; } request;

typedef struct { int64_t step; int request; } ending;

typedef struct {
    slot *slots;
    ending *endings; /* heap by step */
    int ending_count, ending_capacity, active, in_prefill;
    int64_t step;
    bool running;
    double free_a, free_f, free_out, free_back, began, ended, *ready; /* ready: when a micro-batch's tokens are out */
    double *head_left;       /* LM head of the last step that still has to run before the micro-batch's next attention */
    double busy_a, busy_f, busy_wire, busy_device, batch_time;
    double full_from, full_to, full_tokens, full_pending; /* while requests wait: steady state */
} copy;

typedef struct { double at; uint64_t order; int kind, index; } event;
enum { ARRIVAL, PROMPT_READ, STEP };

typedef struct {
    const plan_simulation *s;
    const plan_model *model;
    int m, pools, devices, slots, rows_most[PLAN_POOLS_MAX];
    double tokens_most[PLAN_POOLS_MAX];
    attention_cost attention[PLAN_POOLS_MAX][PLAN_GROUPS_MAX];
    double head_row[PLAN_POOLS_MAX], head_fixed[PLAN_POOLS_MAX];
    wire_cost out[PLAN_GROUPS_MAX], back[PLAN_GROUPS_MAX];
    double *ffn[PLAN_GROUPS_MAX]; /* by rows; 0: not computed yet */
    int ffn_rows_most, f_devices;
    copy *copies;
    request *requests;
    int *queue; /* ring of waiting requests, in order */
    int64_t queue_head, queue_tail;
    event *heap;
    size_t heap_count, heap_capacity;
    uint64_t order, draws;
    double *stage_a; /* m x groups */
    double *server_free;
    int64_t next_arrival;
    double *ttft, *tpot, *queued, *prefill_wait;
    int64_t done, tpot_count;
    double sum_a, sum_out, sum_f, sum_back, sum_head, sum_total;
    plan_sim_result r;
    td_status fault; /* of a place that cannot say so itself */
} world;

/* ---- heaps ---- */

static bool before(const event *a, const event *b) { return a->at < b->at || (a->at == b->at && a->order < b->order); }

static td_status push(world *w, double at, int kind, int index)
{
    if (w->heap_count == w->heap_capacity) {
        size_t capacity = w->heap_capacity ? 2 * w->heap_capacity : 1024;
        event *heap = realloc(w->heap, capacity * sizeof *heap);
        if (!heap) return td_fail(TD_E_MEMORY, "simulation: no memory for %zu events", capacity);
        w->heap = heap;
        w->heap_capacity = capacity;
    }
    event e = {at, w->order++, kind, index};
    size_t i = w->heap_count++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
    return TD_OK;
}

static event pop(world *w)
{
    event top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap_count; i = child) {
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static td_status ending_push(copy *c, int64_t step, int index)
{
    if (c->ending_count == c->ending_capacity) {
        int capacity = c->ending_capacity ? 2 * c->ending_capacity : 64;
        ending *grown = realloc(c->endings, (size_t)capacity * sizeof *grown);
        if (!grown) return td_fail(TD_E_MEMORY, "simulation: no memory");
        c->endings = grown;
        c->ending_capacity = capacity;
    }
    int i = c->ending_count++;
    for (; i > 0 && step < c->endings[(i - 1) / 2].step; i = (i - 1) / 2) c->endings[i] = c->endings[(i - 1) / 2];
    c->endings[i] = (ending){step, index};
    return TD_OK;
}

static int ending_pop(copy *c)
{
    int top = c->endings[0].request, i = 0;
    ending last = c->endings[--c->ending_count];
    for (int child; (child = 2 * i + 1) < c->ending_count; i = child) {
        if (child + 1 < c->ending_count && c->endings[child + 1].step < c->endings[child].step) child++;
        if (c->endings[child].step >= last.step) break;
        c->endings[i] = c->endings[child];
    }
    c->endings[i] = last;
    return top;
}

/* ---- set-up ---- */

/* The same arithmetic as plan_attention_stage, split into its linear forms once. */
static void attention_costs(const plan_case *c, const plan_hardware *h, int g, attention_cost *out)
{
    const plan_attention *a = &c->model->attention[g];
    const plan_factors *e = c->factors;
    double share = plan_kernel_share(e, a->kind, h->name), value = a->kv_value_bytes > 0 ? a->kv_value_bytes : c->precision->kv_bytes;
    double weight = plan_weight_bytes(c->model->attention_weight_bytes, c->precision->attention_weight_bytes);
    double by = 1 / (h->bandwidth * share), fl = 1 / (plan_flop_rate(h, c->precision->attention_bf16) * share);
    *out = (attention_cost){.byte_read = a->kv_values * value * by, .flop_read = a->core_flops * fl, .byte_token = a->index_bytes * by, .flop_token = a->index_flops * fl, .byte_row = 2 * a->state_bytes * by,
                            .flop_row = a->state_flops * fl, .limit = a->read_max, .linear_fixed = a->parameters * weight / (h->bandwidth * e->linear),
                            .linear_row = 2 * a->parameters / (plan_flop_rate(h, c->precision->linear_bf16) * e->linear), .fixed = e->attention_stage_s, .prompt_row = a->state_flops * fl, .prompt_read = a->core_flops * fl};
}

static double attention_time(const attention_cost *k, double rows, double tokens, double prompt_rows, double prompt_context)
{
    double read = k->limit > 0 ? fmin(tokens, rows * k->limit) : tokens, context = k->limit > 0 ? fmin(prompt_context, k->limit) : prompt_context;
    double core = fmax(k->byte_read * read + k->byte_token * tokens + k->byte_row * rows, k->flop_read * read + k->flop_token * tokens + k->flop_row * rows);
    return core + fmax(k->linear_fixed, k->linear_row * (rows + prompt_rows)) + prompt_rows * (k->prompt_row + k->prompt_read * context) + k->fixed;
}

static void wire_costs(const plan_case *c, int g, wire_cost *out, wire_cost *back)
{
    double a, b;
    plan_wire_stage(c, g, 0, 0, &out->latency, &back->latency);
    plan_wire_stage(c, g, 0, 1, &a, &b);
    out->device = a - out->latency, back->device = b - back->latency;
    plan_wire_stage(c, g, 1, 0, &a, &b);
    out->rows = a - out->latency, back->rows = b - back->latency;
}

static double wire_time(const wire_cost *w, double rows, double device_rows) { return fmax(w->device * device_rows, w->rows * rows) + w->latency; }

static void *zeroed(size_t count, size_t size) { return count > SIZE_MAX / size ? NULL : calloc(count ? count : 1, size); }

static td_status open_world(world *w, const plan_simulation *s)
{
    const plan_case *c = s->c;
    const plan_deployment *d = c->deployment;
    double cache = plan_token_cost(c->model, c->precision, 1000, false).kv_cache_bytes / 1000;
    plan_result fits;
    *w = (world){.s = s, .model = c->model, .m = d->micro_batches, .pools = d->a_pools};
    if (s->replicas < 1 || s->replicas > 100000 || s->count < 1 || s->count > 50000000) return td_fail(TD_E_INVALID, "simulation: expected 1 to 100000 copies and 1 to 50000000 requests, found %d and %lld", s->replicas, (long long)s->count);
    TD_TRY(plan_evaluate(c, &fits));
    double rows = 0;
    for (int p = 0; p < d->a_pools; p++) {
        double spare = d->a[p].hardware->memory_bytes * (0.9 - fits.a_memory) / d->micro_batches / cache; /* beyond what plan_evaluate reserved for the load's context */
        w->rows_most[p] = (int)fmax(1, d->a[p].rows);
        w->tokens_most[p] = d->a[p].rows * c->load->context + fmax(0, spare);
        w->devices += d->a[p].devices;
        rows += (double)d->a[p].devices * w->rows_most[p];
        w->head_fixed[p] = plan_head_stage(c, d->a[p].hardware, 0);
        w->head_row[p] = plan_head_stage(c, d->a[p].hardware, 1e9) / 1e9;
        for (int g = 0; g < c->model->attention_groups; g++) attention_costs(c, d->a[p].hardware, g, &w->attention[p][g]);
    }
    for (int p = 0; p < d->f_pools; p++) w->f_devices += d->f[p].devices;
    w->slots = w->devices * w->m;
    int chunk = s->prefill == PLAN_PREFILL_INLINE ? (s->prefill_chunk > 0 ? s->prefill_chunk : 512) : 0;
    w->ffn_rows_most = (int)fmin(rows + (double)chunk * w->devices, 2e7);
    if ((double)w->devices * s->replicas > 1e6) return td_fail(TD_E_INVALID, "simulation: expected at most 1000000 attention devices, found %.0f", (double)w->devices * s->replicas);
    bool memory = (w->copies = zeroed((size_t)s->replicas, sizeof *w->copies)) && (w->requests = zeroed((size_t)s->count, sizeof *w->requests)) && (w->queue = zeroed((size_t)s->count, sizeof *w->queue)) &&
                  (w->ttft = zeroed((size_t)s->count, sizeof(double))) && (w->tpot = zeroed((size_t)s->count, sizeof(double))) && (w->queued = zeroed((size_t)s->count, sizeof(double))) &&
                  (w->prefill_wait = zeroed((size_t)s->count, sizeof(double))) && (w->stage_a = zeroed((size_t)w->m * PLAN_GROUPS_MAX, sizeof(double))) && (w->server_free = zeroed((size_t)TD_MAX(1, s->prefill_servers), sizeof(double)));
    for (int g = 0; g < c->model->ffn_groups && memory; g++) {
        memory = (w->ffn[g] = zeroed((size_t)w->ffn_rows_most + 1, sizeof(double))) != NULL;
        wire_costs(c, g, &w->out[g], &w->back[g]);
    }
    for (int i = 0; i < s->replicas && memory; i++) {
        copy *k = &w->copies[i];
        memory = (k->slots = zeroed((size_t)w->slots, sizeof *k->slots)) && (k->ready = zeroed((size_t)w->m, sizeof *k->ready)) && (k->head_left = zeroed((size_t)w->m, sizeof *k->head_left));
        for (int n = 0, p = 0, end = d->a[0].devices; n < w->slots && memory; n++) {
            while (n / w->m >= end) end += d->a[++p].devices;
            k->slots[n].pool = p;
            k->slots[n].first_prefill = -1;
        }
    }
    return memory ? TD_OK : td_fail(TD_E_MEMORY, "simulation: no memory for %d copies of %d devices and %lld requests", s->replicas, w->devices, (long long)s->count);
}

static void close_world(world *w)
{
    for (int i = 0; w->copies && i < w->s->replicas; i++) free(w->copies[i].slots), free(w->copies[i].endings), free(w->copies[i].ready), free(w->copies[i].head_left);
    for (int g = 0; g < PLAN_GROUPS_MAX; g++) free(w->ffn[g]);
    free(w->copies), free(w->requests), free(w->queue), free(w->heap), free(w->ttft), free(w->tpot), free(w->queued), free(w->prefill_wait), free(w->stage_a), free(w->server_free);
}

/* ---- one step of one copy ---- */

static double ffn_time(world *w, int g, int rows)
{
    rows = TD_MIN(rows, w->ffn_rows_most);
    double *known = &w->ffn[g][rows];
    if (*known == 0) *known = plan_ffn_stage(w->s->c, g, rows > 0 ? rows : 1);
    return *known;
}

/* A stage of n devices that must all finish: the slowest device's time, and of n normal draws the largest. */
static double jittered(world *w, double seconds, int n)
{
    double cv = w->s->c->load->jitter;
    seconds *= fmax(1, w->s->c->load->straggler);
    if (cv <= 0) return seconds;
    double u = pow(td_random_unit(w->s->seed ^ 0x5151, w->draws++), 1.0 / n), q = u < 0.5 ? u : 1 - u, t = sqrt(-2 * log(fmax(q, 1e-300)));
    double z = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    return seconds * fmax(0.1, 1 + cv * (u < 0.5 ? -z : z));
}

/* Prompt tokens that a slot reads in this step; the request whose prompt ends starts to decode. */
static int read_prompt(world *w, copy *k, slot *s, double *context)
{
    int chunk = w->s->prefill_chunk > 0 ? w->s->prefill_chunk : 512, used = 0;
    while (s->first_prefill >= 0 && used < chunk) {
        request *q = &w->requests[s->first_prefill];
        int take = TD_MIN(chunk - used, q->left);
        *context += take * (q->prompt - q->left + 0.5 * take);
        q->left -= take;
        used += take;
        s->tokens += take;
        if (q->left > 0) break;
        int index = s->first_prefill;
        s->first_prefill = q->next;
        s->prefilling--, s->rows++, k->in_prefill--, k->active++;
        q->last_s = -1; /* its first token comes with this step */
        if (w->fault == TD_OK) w->fault = ending_push(k, k->step + q->output, index);
    }
    if (used > 0) *context /= used;
    return used;
}

typedef struct { int rows, prompt_rows, device_rows; double head, device_a; } micro;

/* Largest attention time of every group over the devices of one micro-batch. */
static micro attention_side(world *w, copy *k, int j, double *stage)
{
    micro b = {0};
    double sum = 0;
    for (int g = 0; g < w->model->attention_groups; g++) stage[g] = 0;
    for (int n = j; n < w->slots; n += w->m) {
        slot *s = &k->slots[n];
        double context = 0, prompt = 0;
        int rows = s->rows;
        if (s->first_prefill >= 0) prompt = read_prompt(w, k, s, &context);
        if (rows == 0 && prompt == 0) continue;
        for (int g = 0; g < w->model->attention_groups; g++) {
            double t = attention_time(&w->attention[s->pool][g], rows, s->tokens, prompt, context);
            stage[g] = fmax(stage[g], t);
            sum += t * w->model->attention[g].layers;
        }
        b.rows += rows + (int)prompt;
        b.device_rows = TD_MAX(b.device_rows, rows + (int)prompt);
        b.head = fmax(b.head, fmax(w->head_fixed[s->pool] / w->m, w->head_row[s->pool] * s->rows));
        s->tokens += s->rows;
    }
    b.device_a = sum / w->devices;
    return b;
}

static void through_the_layers(world *w, copy *k, double now, micro *b)
{
    const plan_model *model = w->model;
    bool colocated = w->s->c->deployment->colocated;
    double x = w->m > 1 ? w->s->c->factors->wire_exposed : 0;
    double start[16];
    for (int j = 0; j < w->m; j++) {
        start[j] = fmax(k->ready[j], now);
        if (k->ready[j] <= now) k->head_left[j] = 0;
        k->ready[j] = start[j] - k->head_left[j];
    }
    double *f_free = colocated ? &k->free_a : &k->free_f;
    for (int l = 0; l < model->layers; l++) {
        int ga = model->layer_attention[l], gf = model->layer_ffn[l];
        for (int j = 0; j < w->m; j++) { /* attention of every micro-batch first: on a colocated device it fills the wait for the wire */
            if (b[j].rows == 0) continue;
            double a = jittered(w, w->stage_a[j * PLAN_GROUPS_MAX + ga], w->devices), out = wire_time(&w->out[gf], b[j].rows, b[j].device_rows);
            k->free_a = fmax(k->ready[j], k->free_a) + k->head_left[j] + a;
            k->head_left[j] = 0;
            k->ready[j] = k->free_out = fmax(k->free_a, k->free_out) + out;
            k->busy_a += a;
            w->sum_a += a * b[j].rows, w->sum_out += out * b[j].rows;
        }
        for (int j = 0; j < w->m; j++) {
            if (b[j].rows == 0) continue;
            double f = jittered(w, ffn_time(w, gf, b[j].rows), colocated ? w->devices : w->f_devices), out = wire_time(&w->out[gf], b[j].rows, b[j].device_rows);
            double back = wire_time(&w->back[gf], b[j].rows, b[j].device_rows), held = colocated ? x * (out + back) : 0; /* the part of the wire that keeps a colocated device busy */
            *f_free = fmax(k->ready[j], *f_free) + f + held;
            k->ready[j] = k->free_back = fmax(*f_free, k->free_back) + back - held;
            k->busy_f += f, k->busy_wire += fmax(out, back);
            w->sum_f += f * b[j].rows, w->sum_back += back * b[j].rows;
        }
    }
    bool first = true; /* the first runs its LM head at once; the others run theirs just before their next attention, so that no side waits for a head */
    for (int j = 0; j < w->m; j++) {
        if (b[j].rows == 0) continue;
        k->ready[j] = fmax(k->ready[j], k->free_a) + b[j].head;
        if (first) k->free_a = k->ready[j];
        else k->head_left[j] = b[j].head;
        first = false;
        k->busy_a += b[j].head;
        k->busy_device += b[j].device_a + b[j].head;
        k->batch_time += b[j].rows * (k->ready[j] - start[j]);
        w->sum_head += b[j].head * b[j].rows;
        w->sum_total += (k->ready[j] - start[j]) * b[j].rows;
    }
}

/* ---- requests ---- */

static bool slot_has_room(const world *w, const slot *s, const request *q)
{
    return s->rows + s->prefilling < w->rows_most[s->pool] && s->reserved + q->prompt + q->output <= w->tokens_most[s->pool];
}

/* The slot with the fewest tokens that has room: of all slots of a small copy or of one that has nothing else to do, of LOOK of a large one. -1: none. */
static int find_slot(world *w, copy *k, const request *q)
{
    enum { LOOK = 192 };
    bool all = w->slots <= LOOK || k->active + k->in_prefill == 0; /* nothing would wake an idle copy again */
    int best = -1, look = all ? w->slots : LOOK, first = w->slots > LOOK ? (int)(td_random_at(w->s->seed ^ 0x77, w->draws++) % (uint64_t)w->slots) : 0;
    for (int i = 0; i < look; i++) {
        int n = (first + i) % w->slots;
        if (slot_has_room(w, &k->slots[n], q) && (best < 0 || k->slots[n].reserved < k->slots[best].reserved)) best = n;
    }
    return best;
}

static td_status admit(world *w, copy *k, double now)
{
    while (w->queue_head < w->queue_tail) {
        int index = w->queue[w->queue_head];
        request *q = &w->requests[index];
        int n = find_slot(w, k, q);
        if (n < 0) break;
        slot *s = &k->slots[n];
        w->queue_head++;
        s->reserved += q->prompt + q->output;
        q->slot = n;
        w->queued[index] = now - q->decode_s;
        if (w->s->prefill == PLAN_PREFILL_INLINE && q->prompt > 0) { /* an empty prompt decodes at once */
            int *tail = &s->first_prefill;
            while (*tail >= 0) tail = &w->requests[*tail].next;
            *tail = index;
            q->next = -1;
            q->left = q->prompt;
            s->prefilling++, k->in_prefill++;
        } else {
            s->rows++, k->active++;
            s->tokens += q->prompt;
            q->last_s = -1;
            TD_TRY(ending_push(k, k->step + q->output, index));
        }
    }
    return TD_OK;
}

static void finish(world *w, copy *k, int index)
{
    request *q = &w->requests[index];
    slot *s = &k->slots[q->slot];
    double now = k->ready[q->slot % w->m];
    s->rows--, k->active--;
    s->tokens -= q->prompt + q->output;
    s->reserved -= q->prompt + q->output;
    if (q->output > 1) w->tpot[w->tpot_count++] = (now - q->last_s) / (q->output - 1);
    w->r.output_tokens += q->output;
    w->r.makespan_s = fmax(w->r.makespan_s, now);
    w->done++;
}

/* First tokens of this step: their time is when their micro-batch came out. A request is in the ending heap exactly when it decodes. */
static void first_tokens(world *w, copy *k)
{
    for (int i = 0; i < k->ending_count; i++) {
        request *q = &w->requests[k->endings[i].request];
        if (q->last_s >= 0) continue;
        q->last_s = k->ready[q->slot % w->m];
        w->ttft[k->endings[i].request] = q->last_s - q->at_s;
    }
}

static td_status step(world *w, int index, double now)
{
    copy *k = &w->copies[index];
    micro b[16] = {{0}};
    while (k->ending_count > 0 && k->endings[0].step <= k->step) finish(w, k, ending_pop(k));
    int64_t waiting = w->queue_head;
    TD_TRY(admit(w, k, now));
    bool newcomers = w->queue_head != waiting || k->in_prefill > 0;
    k->running = k->active + k->in_prefill > 0;
    if (!k->running) return TD_OK;
    if (k->step == 0) k->began = now;
    for (int j = 0; j < w->m; j++) b[j] = attention_side(w, k, j, &w->stage_a[j * PLAN_GROUPS_MAX]);
    TD_TRY(w->fault);
    through_the_layers(w, k, now, b);
    if (w->queue_head < w->queue_tail && w->done >= w->s->count / 5) { /* the first fifth warms up */
        if (k->full_to == 0) k->full_from = now;
        k->full_tokens += k->full_pending;
        k->full_to = now;
        k->full_pending = k->active;
    }
    k->step++;
    w->r.steps++;
    if (newcomers) first_tokens(w, k);
    double next = INFINITY;
    for (int j = 0; j < w->m; j++) {
        if (b[j].rows > 0) next = fmin(next, k->ready[j]);
        k->ended = fmax(k->ended, k->ready[j]);
    }
    return push(w, next, STEP, index);
}

static td_status wake(world *w, double now)
{
    if (w->queue_head == w->queue_tail) return TD_OK;
    int idle = -1;
    for (int i = 0; i < w->s->replicas && idle < 0; i++)
        if (!w->copies[i].running) idle = i;
    if (idle < 0) return TD_OK;
    w->copies[idle].running = true;
    return push(w, now, STEP, idle);
}

static td_status arrive(world *w, double now)
{
    const plan_simulation *s = w->s;
    int index = (int)w->next_arrival++;
    request *q = &w->requests[index];
    const plan_arrival *a = &s->arrivals[index];
    *q = (request){.at_s = a->at_s, .prompt = a->prompt, .output = a->output, .next = -1, .last_s = -1};
    bool possible = false;
    for (int p = 0; p < w->pools; p++) possible |= (double)a->prompt + a->output <= w->tokens_most[p];
    if (!possible) w->r.refused++;
    else if (s->prefill == PLAN_PREFILL_POOL) {
        int first = 0;
        for (int i = 1; i < s->prefill_servers; i++)
            if (w->server_free[i] < w->server_free[first]) first = i;
        double start = fmax(now, w->server_free[first]);
        w->prefill_wait[index] = start - now;
        w->server_free[first] = start + a->prompt * s->prefill_s_per_token;
        TD_TRY(push(w, w->server_free[first], PROMPT_READ, index));
    } else TD_TRY(push(w, now, PROMPT_READ, index));
    return w->next_arrival < s->count ? push(w, s->arrivals[w->next_arrival].at_s, ARRIVAL, 0) : TD_OK;
}

/* ---- results ---- */

static plan_spread spread_of(double *values, int64_t count)
{
    plan_spread s = {0};
    if (count == 0) return s;
    for (int64_t i = 0; i < count; i++) s.mean += values[i] / count;
    td_sort(values, count);
    s.p50 = values[(int64_t)(0.5 * (count - 1))], s.p90 = values[(int64_t)(0.9 * (count - 1))], s.p99 = values[(int64_t)(0.99 * (count - 1))], s.max = values[count - 1];
    return s;
}

static void summarise(world *w, plan_sim_result *out)
{
    plan_sim_result r = w->r;
    double lived = 0;
    int64_t served = 0;
    for (int64_t i = 0; i < w->s->count; i++) /* refused ones waited for nothing and count nowhere */
        if (w->requests[i].last_s >= 0) w->ttft[served] = w->ttft[i], w->queued[served] = w->queued[i], w->prefill_wait[served++] = w->prefill_wait[i];
    r.finished = w->done;
    r.tokens_s = r.makespan_s > 0 ? r.output_tokens / r.makespan_s : 0;
    r.ttft_s = spread_of(w->ttft, served), r.tpot_s = spread_of(w->tpot, w->tpot_count), r.queue_s = spread_of(w->queued, served), r.prefill_wait_s = spread_of(w->prefill_wait, served);
    for (int i = 0; i < w->s->replicas; i++) {
        const copy *k = &w->copies[i];
        lived += k->ended - k->began;
        r.a_busy += k->busy_a, r.f_busy += k->busy_f, r.wire_busy += k->busy_wire, r.a_device_busy += k->busy_device, r.batch_mean += k->batch_time;
        if (k->full_to > k->full_from) r.full_tokens_s += k->full_tokens / (k->full_to - k->full_from);
    }
    if (lived > 0) r.a_busy /= lived, r.f_busy /= lived, r.wire_busy /= lived, r.a_device_busy /= lived, r.batch_mean /= lived;
    if (w->sum_total > 0) {
        r.share_a = w->sum_a / w->sum_total, r.share_out = w->sum_out / w->sum_total, r.share_f = w->sum_f / w->sum_total, r.share_back = w->sum_back / w->sum_total, r.share_head = w->sum_head / w->sum_total;
        r.share_wait = 1 - r.share_a - r.share_out - r.share_f - r.share_back - r.share_head;
    }
    *out = r;
}

td_status plan_simulate(const plan_simulation *s, plan_sim_result *out)
{
    world w;
    td_status status = open_world(&w, s);
    if (status == TD_OK) status = push(&w, s->arrivals[0].at_s, ARRIVAL, 0);
    while (status == TD_OK && w.heap_count > 0) {
        event e = pop(&w);
        w.r.events++;
        if (e.kind == ARRIVAL) status = arrive(&w, e.at);
        else if (e.kind == PROMPT_READ) {
            w.requests[e.index].decode_s = e.at;
            w.queue[w.queue_tail++] = e.index;
            status = wake(&w, e.at);
        } else status = step(&w, e.index, e.at);
    }
    if (status == TD_OK) {
        if (w.done + w.r.refused != s->count) status = td_fail(TD_E_INTERNAL, "simulation: %lld of %lld requests finished", (long long)w.done, (long long)s->count);
        else summarise(&w, out);
    }
    close_world(&w);
    return status;
}
