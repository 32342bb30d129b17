/* convert.c - tandem convert: a checkpoint in the other format, quantised when asked. */
#include <stddef.h>

#include "options.h"
#include "verbs.h"

int verb_convert(int argc, char **argv)
{
    td_convert_options convert = {0};
    const option options[] = {
        {"--quant", "-q", OPTION_TEXT, &convert.quant, 0, 0, "TYPE", "type of weight matrices: f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k (without: as they are)"},
        {"--format", "-f", OPTION_TEXT, &convert.format, 0, 0, "FORMAT", "gguf or safetensors (without: gguf when OUT ends in .gguf)"},
        {"--threads", "-t", OPTION_INT, &convert.threads, 0, 256, "N", "threads for quantising (0: one per core)"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[2] = {NULL, NULL};
    option_set set = {"tandem convert MODEL OUT [options]", "Writes a Hugging Face folder as a new GGUF file, or a GGUF file as a new folder; the tokenizer comes along.\n"
                      "Norms, router and biases are never quantised. A row that is no whole number of blocks falls back: k-quants to q8_0, that to bf16.", options, arguments, 2, 2};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    convert.progress = writing_progress(&convert.progress_user);
    return td_convert(arguments[0], arguments[1], &convert) < 0 ? failed() : EXIT_DONE;
}
