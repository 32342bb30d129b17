/*
 * plan.h - what a model costs on a machine, before anything is bought.
 *
 * A model is reduced to what costs time: layers of a few attention kinds and a few FFN kinds (model.c reads them from config.json, gguf.c from a
 * GGUF file). Hardware is a line of a text file (hardware.c). cost.c turns both into bytes and FLOPs, paper.c recomputes the published tables from
 * them, schedule.c into stage times and tokens per second of a deployment, sim.c replays requests through a deployment in virtual time, search.c
 * looks for the cheapest deployment, calibrate.c fits a measured machine.
 *
 * Units: seconds, bytes, FLOPs, devices, dollars, tokens; names say so where they could be confused. Nothing here touches a tensor.
 */
#ifndef TD_PLAN_PLAN_H
#define TD_PLAN_PLAN_H

#include <cjson/cJSON.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/status.h"

/* ---- model: model.c, gguf.c ---- */

typedef enum { PLAN_MHA, PLAN_GQA, PLAN_MQA, PLAN_MFA, PLAN_MLA, PLAN_LINEAR } plan_kind;
enum { PLAN_GROUPS_MAX = 8, PLAN_LAYERS_MAX = 512 };

typedef struct { /* one kind of attention layer; per layer, per decoded token */
    plan_kind kind;
    int layers, heads, kv_heads, head_dim;
    double kv_values;         /* cached values per token of context */
    double kv_value_bytes;    /* bytes of one cached value when the model insists; 0: the plan's KV precision */
    double core_flops;        /* per token of context that is read */
    double core_flops_paper;  /* as the paper counts them (MLA: V rounded up to the width of K) */
    double read_max;          /* at most this many tokens of context are read: sliding window, chunk, sparse top-k; 0: all */
    bool cache_limited;       /* the cache itself stops growing at read_max (window, chunk), unlike sparse reads */
    double index_bytes, index_flops; /* per token of context, to choose the sparse reads */
    double state_bytes;       /* recurrent state of one sequence; read and written every token */
    double state_flops;
    double parameters;        /* projections around the attention */
    const char *note;         /* "sliding window 512", ...; a literal */
} plan_attention;

typedef struct { /* one kind of FFN layer */
    int layers, experts, top_k;
    double expert_parameters; /* of one expert */
    double shared_parameters; /* shared experts, or the whole dense FFN; every token reads them */
    double router_parameters;
} plan_ffn;

typedef struct {
    char name[96];
    char source[160];
    int layers, hidden, vocab, context_max;
    int attention_groups, ffn_groups;
    plan_attention attention[PLAN_GROUPS_MAX];
    plan_ffn ffn[PLAN_GROUPS_MAX];
    uint8_t layer_attention[PLAN_LAYERS_MAX], layer_ffn[PLAN_LAYERS_MAX]; /* group of every layer */
    bool tied_embeddings;
    double attention_weight_bytes, ffn_weight_bytes, head_weight_bytes; /* bytes of one parameter as stored in a GGUF file; 0: unknown */
} plan_model;

/* A name of the table (data/plan/models.json), a folder with config.json, a config.json, or a GGUF file. TD_E_NOT_FOUND names the nearest. */
td_status plan_model_find(const char *name, plan_model *out);
td_status plan_model_from_config(const cJSON *config, const char *name, plan_model *out);
td_status plan_model_from_gguf(const char *path, plan_model *out);
/* Copies the name of the index-th model of the table; false past the end. */
bool plan_model_at(int index, char *name, size_t bytes);
const char *plan_kind_name(plan_kind kind);
/* "GQA", "MLA + top-2048", "MFA", "linear + GQA": the kinds of a model. */
void plan_model_kinds(const plan_model *model, td_buffer *out);

/* ---- hardware: hardware.c ---- */

typedef struct {
    char name[32], kind[8], source[200];
    double usd_hour, bf16, fp8;      /* FLOP/s; fp8 0: 8-bit storage only */
    double memory_bytes, bandwidth;  /* bytes, bytes/s */
    double nic, nic_latency_s;       /* bytes/s per device and direction */
    double scale_up;                 /* bytes/s per device and direction inside a node; 0: the NIC */
    int node;
    double watts;
} plan_hardware;

/* A figure of a device, a price included, in the units of the table: 0, or neither so small nor so large that sums of it stop being numbers. */
#define PLAN_FIGURE_MIN 1e-6
#define PLAN_FIGURE_MAX 1e7
static inline bool plan_figure_fits(double v) { return v == 0 || (v >= PLAN_FIGURE_MIN && v <= PLAN_FIGURE_MAX); }

typedef struct { plan_hardware *items; size_t count, capacity; } plan_hardware_table;

/* The shipped table, then path (may be NULL) whose lines replace lines of the same name. */
td_status plan_hardware_load(const char *path, plan_hardware_table *out);
/* Adds a line, or replaces the one of the same name. */
td_status plan_hardware_put(plan_hardware_table *table, const plan_hardware *item);
void plan_hardware_free(plan_hardware_table *table);
td_status plan_hardware_find(const plan_hardware_table *table, const char *name, const plan_hardware **out);
const char *plan_hardware_text(void); /* the shipped file itself */
/* Steps between two names, for "did you mean". */
int plan_distance(const char *a, const char *b);

/* ---- cost: cost.c ---- */

typedef struct { /* how numbers are stored and computed */
    double kv_bytes;                   /* of one cached value: 1 FP8, 2 BF16, 0.5 4-bit */
    double attention_weight_bytes, ffn_weight_bytes, head_weight_bytes; /* per parameter */
    bool attention_bf16;               /* attention core computes in BF16 even where FP8 exists */
    bool linear_bf16;                  /* linear layers compute in BF16 */
    double wire_out_bytes, wire_back_bytes; /* per hidden value: the paper sends FP8 and gets BF16 back */
} plan_precision;
extern const plan_precision PLAN_FP8;  /* the paper's: everything 8-bit, LM head BF16 */

typedef struct { /* of one decoded token at one context */
    double kv_bytes, core_flops, linear_flops, ffn_flops, head_flops;
    double kv_cache_bytes; /* memory that the sequence occupies */
} plan_token;

plan_token plan_token_cost(const plan_model *model, const plan_precision *precision, double context, bool as_paper);
double plan_attention_parameters(const plan_model *model);
double plan_ffn_parameters(const plan_model *model);
double plan_active_parameters(const plan_model *model); /* with the LM head, without the input embedding */
double plan_total_parameters(const plan_model *model);
double plan_flop_rate(const plan_hardware *hardware, bool bf16);
/* Bytes of one parameter: as a GGUF file stores it, else as planned. */
static inline double plan_weight_bytes(double stored, double planned) { return stored > 0 ? stored : planned; }
/* Weights on every device of the attention side: projections, routers, LM head and an embedding that is not the same matrix. */
double plan_attention_side_bytes(const plan_model *model, const plan_precision *precision);
/* Dollars per million tokens of each part at ideal hardware (paper 4.2). */
double plan_attention_usd(const plan_token *token, const plan_precision *precision, const plan_hardware *hardware);
double plan_ffn_usd(const plan_token *token, const plan_precision *precision, const plan_hardware *hardware);
/* Expected share of `experts` that n tokens choosing k of them at random touch. */
double plan_experts_touched(double experts, double k, double tokens);
/* Step of `batch` tokens at `context`: bytes read (weights touched and KV) and FLOPs, as a bench counts them. */
void plan_step_work(const plan_model *model, const plan_precision *precision, double batch, double context, double *bytes, double *flops);
/* A prompt of `context` tokens read by each of `batch` sequences, in pieces of 512 tokens: weights once a piece. */
void plan_prompt_work(const plan_model *model, const plan_precision *precision, double batch, double context, double *bytes, double *flops);
/* A table of where the bytes, FLOPs and dollars go, with the roofline position of each part. */
td_status plan_cost_report(const plan_model *model, const plan_precision *precision, double context, const plan_hardware *const *hardware, size_t count, bool json, td_buffer *out);

/* ---- the paper: paper.c ---- */

typedef struct {
    const char *table, *row, *column;
    double computed, printed;
    int digits;         /* significant digits (positive) or decimals (negative, -3: three decimals) as printed */
    const char *remark; /* NULL: the digits must agree; else why they are only shown */
} plan_paper_value;
enum { PLAN_PAPER_MAX = 700 };
/* Every published number beside what this program computes. Returns their count. */
td_status plan_paper_values(plan_paper_value *out, size_t capacity, size_t *count);
/* Does the computed value round to the printed one? */
bool plan_paper_agrees(const plan_paper_value *value);
td_status plan_paper_report(const char *format, td_buffer *out);

#endif
