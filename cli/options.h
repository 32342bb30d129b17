/*
 * options.h - command-line options as a table: name, kind, where the value goes, one line of help. One parser for every verb, so that every verb refuses
 * nonsense in the same words.
 */
#ifndef TD_CLI_OPTIONS_H
#define TD_CLI_OPTIONS_H

#include "tandem.h"

typedef enum { OPTION_FLAG, OPTION_INT, OPTION_INT64, OPTION_UINT64, OPTION_FLOAT, OPTION_TEXT } option_kind;

typedef struct {
    const char *name;      /* "--threads" */
    const char *other;     /* "-t" or NULL */
    option_kind kind;
    void *value;           /* bool, int, int64_t, uint64_t, float or const char * */
    double low, high;      /* numbers: inclusive range; 0, 0: any */
    const char *argument;  /* shown in the help: "N", "TEXT"; NULL for flags */
    const char *help;
} option;

typedef struct {
    const char *usage;     /* "tandem run [MODEL] [options]" */
    const char *about;     /* what the verb does, one or two sentences */
    const option *options; /* ends with a NULL name */
    const char **arguments; /* positional ones, in order; filled */
    int arguments_min, arguments_max;
} option_set;

/* Parses; *count gets the number of positional arguments. Returns -1 to go on, else the exit status (0 after --help, 2 after one sentence about wrong use). */
int options_parse(const option_set *set, int argc, char **argv, int *count);

/* The options that every decoding verb shares. */
#define ENGINE_OPTIONS(engine, model)                                                                                                                     \
    {"--threads", "-t", OPTION_INT, &(engine).threads, 0, 256, "N", "arithmetic threads (0: one per core)"},                                             \
    {"--context", "-c", OPTION_INT, &(engine).context_max, 0, 16777216, "N", "context in tokens (0: the model's, at most 32768)"},                      \
    {"--prefill-chunk", NULL, OPTION_INT, &(engine).prefill_chunk, 0, 16384, "N", "prompt tokens per step (0: 512)"},                                    \
    {"--kv", NULL, OPTION_TEXT, &(engine).kv_dtype, 0, 0, "TYPE", "type of the KV cache: bf16, f32, q8_0"},                                              \
    {"--kv-tokens", NULL, OPTION_UINT64, &(engine).kv_tokens, 0, 1e12, "N", "tokens the KV cache holds over all requests (0: automatic)"},               \
    {"--micro-batches", NULL, OPTION_INT, &(engine).micro_batches, 0, 4, "M", "micro-batches in flight (0: automatic)"},                                 \
    {"--isa", NULL, OPTION_TEXT, &(engine).isa, 0, 0, "NAME", "use at most this instruction set: ref, avx2, avx512, amx"},                                    \
    {"--no-prefix-reuse", NULL, OPTION_FLAG, &(engine).no_prefix_reuse, 0, 0, NULL, "do not reuse the KV of equal prompt beginnings"},                    \
    {"--ffn", NULL, OPTION_TEXT, &(engine).ffn, 0, 0, "HOST:PORT,...", "FFN workers (without: the FFN runs in this process)"},                          \
    {"--secret-file", NULL, OPTION_TEXT, &(engine).secret_file, 0, 0, "FILE", "shared secret of the workers"},                                           \
    {"--wire", NULL, OPTION_TEXT, &(engine).wire, 0, 0, "TYPE", "rows on the wire to workers: f32 (exact), bf16, fp8"},                                  \
    {"--encrypt", NULL, OPTION_FLAG, &(engine).encrypt, 0, 0, NULL, "encrypt all frames to workers"},                                                     \
    {"--ffn-fallback", NULL, OPTION_FLAG, &(engine).ffn_fallback, 0, 0, NULL, "map the FFN weights here too and compute here what no worker can"},           \
    {"--wait-for-workers", NULL, OPTION_INT, &(engine).wait_for_workers_ms, 0, 86400000, "MS", "how long requests wait when nobody has an expert (0: 30000)"}, \
    {"--control", NULL, OPTION_TEXT, &(engine).control, 0, 0, "HOST:PORT", "take 'tandem workers' commands here"},                                          \
    {"--trace", NULL, OPTION_TEXT, &(engine).trace, 0, 0, "FILE", "write a timeline for Perfetto"},                                                      \
    {"--quant", NULL, OPTION_TEXT, &(model).quant, 0, 0, "TYPE", "quantise weights on load: q8_0, q4_0, q4_k, q5_k, q6_k, bf16"}, \
    {"--layout", NULL, OPTION_TEXT, &(model).layout, 0, 0, "HOW", "of integer weights: file (as they lie; run, logits), packed (laid out anew while loading: a copy, faster), auto (serve, chat, perplexity)"}

/* A model for this engine: loaded by as many threads, without FFN weights when workers have them and no fallback is wanted. */
void follow_engine(td_model_options *model, const td_engine_options *engine);
/* Opens a model with a progress bar on stderr when that is a terminal; prints the error sentence. NULL on failure. */
td_model *open_model(const char *path, td_model_options *options);

/* --config FILE: fills what is still 0 or NULL from the planner's JSON; path NULL: nothing. Returns the exit status, after one sentence on stderr when it is not 0. config.c */
int config_engine(const char *path, td_engine_options *engine);
int config_worker(const char *path, td_worker_options *worker);

/* For verbs that write a checkpoint: a progress bar when stderr is a terminal, else NULL. */
td_progress writing_progress(void **user);

/* "tandem: SENTENCE" on stderr; returns EXIT_FAILED. */
int failed(void);

/* Largest resident size so far of this process, in bytes. */
unsigned long long peak_memory(void);

#endif
