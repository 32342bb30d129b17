/* synth.c - tandem synth: random weights at the dimensions of a known model. */
#include <stddef.h>

#include "options.h"
#include "verbs.h"

int verb_synth(int argc, char **argv)
{
    td_synth_options synth = {.seed = 1};
    const option options[] = {
        {"--like", "-l", OPTION_TEXT, &synth.like, 0, 0, "MODEL", "step3, qwen3-30b-a3b, qwen3-0.6b, deepseek-v3, deepseek-v2-lite, llama3-8b, ... (a wrong name lists all)"},
        {"--layers", NULL, OPTION_INT, &synth.layers, 0, 512, "N", "layers (0: as published)"},
        {"--divide", NULL, OPTION_INT, &synth.scale_divisor, 1, 4096, "N", "divide widths, heads, experts and vocabulary"},
        {"--dtype", "-d", OPTION_TEXT, &synth.dtype, 0, 0, "TYPE", "gguf: f32, f16, bf16 (default), q8_0, q4_0, q4_k, q5_k, q6_k; safetensors: f32, f16, bf16, f8_e4m3"},
        {"--format", "-f", OPTION_TEXT, &synth.format, 0, 0, "FORMAT", "gguf (default) or safetensors"},
        {"--seed", "-s", OPTION_UINT64, &synth.seed, 0, 0, "N", "same seed, same file (default 1)"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem synth OUT --like MODEL [options]", "Writes a model of random weights of sane scale, for timing and tests.", options, arguments, 1, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    synth.progress = writing_progress(&synth.progress_user);
    return td_synth(arguments[0], &synth) < 0 ? failed() : EXIT_DONE;
}
