/*
 * schedule.h - stage times of a deployment and what they add up to.
 *
 * A layer of a micro-batch passes four stages: attention (A), the wire out, the FFN (F), the wire back. With m micro-batches in flight the layer takes
 *     disaggregated:  max(m A, m F, m out, m back, A + out + F + back)
 *     colocated:      m = 1: A + out + F + back;   m > 1: max(m (A + F + x (out + back)), A + F + out + back, m (out + back))
 * where x is the share of dispatch and combine that keeps the device busy. The time per output token is the sum over layers plus the LM head.
 */
#ifndef TD_PLAN_SCHEDULE_H
#define TD_PLAN_SCHEDULE_H

#include "plan/plan.h"

typedef struct { /* shares of the datasheet that are reached; all 1 and 0 s: ideal */
    bool kernel_table;         /* attention kernels: the measured shares of Table 9 where there is one, else .attention */
    double attention, linear, ffn, wire, scale_up;
    double wire_exposed;       /* colocated only: x above */
    double attention_stage_s, ffn_stage_s; /* fixed time of a stage: launches, norms, router, quantising */
    double step_s;             /* fixed time of a step: sampling, scheduling */
} plan_factors;
extern const plan_factors PLAN_IDEAL, PLAN_MEASURED;

typedef struct {
    double context;            /* tokens of context while decoding, average over sequences */
    double prompt_share;       /* prompt tokens read by the same devices for every decoded token; 0: prefill happens elsewhere */
    double prompt;             /* their length, when prompt_share > 0 */
    double jitter;             /* standard deviation of a stage over its mean */
    double straggler;          /* the slowest device takes this many times the normal; 0: 1 */
    const double *loads;       /* measured tokens per expert, or NULL: random routing; borrowed */
    int loads_count;
} plan_workload;

enum { PLAN_POOLS_MAX = 4 };
typedef struct { const plan_hardware *hardware; int devices; double rows; } plan_pool; /* rows: tokens per device and micro-batch (attention side) */

typedef struct {
    bool colocated;            /* then f is unused: the a devices hold everything */
    plan_pool a[PLAN_POOLS_MAX], f[PLAN_POOLS_MAX];
    int a_pools, f_pools;
    int ffn_tp;                /* devices that split one expert between them (inside a node); the rest is expert parallel */
    int micro_batches;
    bool redundant;            /* odd experts are held twice so that equally loaded experts load instances equally, as DeepSeek does */
    bool broadcast;            /* every token to every FFN instance, as Step-3 does; else only to owners of its experts */
} plan_deployment;

typedef struct {
    const plan_model *model;
    const plan_precision *precision;
    const plan_factors *factors;
    const plan_workload *load;
    const plan_deployment *deployment;
} plan_case;

typedef struct {
    double a_s, out_s, f_s, back_s;  /* mean over layers, one micro-batch */
    double layer_s, head_s, tpot_s;
    double batch, tokens_s, devices, tokens_s_device, usd_hour, usd_mtok, joule_token;
    double a_busy, f_busy, wire_busy; /* share of the time that a side works */
    double a_memory, f_memory;        /* share of memory used, largest pool */
    double imbalance;                 /* of the FFN instances, largest over mean */
    const char *bound;                /* "attention", "FFN", "wire", "latency of a layer" */
} plan_result;

/* One layer of attention group g on one device: rows tokens whose contexts add up to tokens. */
double plan_attention_stage(const plan_case *c, const plan_hardware *hardware, int g, double rows, double tokens);
/* One layer of FFN group g over all FFN devices for rows tokens in total. */
double plan_ffn_stage(const plan_case *c, int g, double rows);
/* Wire times of FFN group g when the whole side sends rows tokens and the busiest attention device device_rows of them. */
void plan_wire_stage(const plan_case *c, int g, double rows, double device_rows, double *out_s, double *back_s);
/* LM head and embedding of rows tokens on one device, a step. */
double plan_head_stage(const plan_case *c, const plan_hardware *hardware, double rows);
/* Time of a layer by the rule above. */
double plan_layer_period(bool colocated, int m, double exposed, double a, double out, double f, double back);
/* Largest over mean load of instances when tokens choose k of experts; measured loads or NULL. */
double plan_imbalance(int experts, int k, double tokens, int instances, const double *loads, bool redundant);
/* Expected largest of n standard normal draws. */
double plan_normal_max(double n);
double plan_kernel_share(const plan_factors *factors, plan_kind kind, const char *hardware);
int plan_ffn_instances(const plan_deployment *d);

/* Judges a deployment as it stands. TD_E_INVALID when it cannot work (memory, shape): the sentence names what would. */
td_status plan_evaluate(const plan_case *c, plan_result *out);
/* Sets the rows of every attention pool to the largest that meet tpot_s and fit in memory, then evaluates. TD_E_INVALID when one row does not. */
td_status plan_fill(const plan_case *c, plan_deployment *d, double tpot_s, plan_result *out);
/* "a=16xh20+8xh800,f=8xh800,m=3,tp=8,b=128" or "c=32xh800,m=2"; names are looked up in the table; rows are 0 when b is absent. */
td_status plan_deployment_read(const char *text, const plan_hardware_table *table, plan_deployment *out);
void plan_deployment_write(const plan_deployment *d, td_buffer *out);

/* Table 8, measured by its authors: what this model predicts for each row with PLAN_MEASURED. */
typedef struct { const char *row; double measured, predicted; bool fitted; const char *how; } plan_table8_row;
enum { PLAN_TABLE8_ROWS = 5 };
td_status plan_table8(const plan_factors *factors, plan_table8_row out[PLAN_TABLE8_ROWS]);
/* The factors that minimise the squared relative error over the three fitted rows: searched, not looked up. */
td_status plan_table8_fit(plan_factors *out);

#endif
