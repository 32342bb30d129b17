/* inspect.c - tandem inspect: the tensor table of a checkpoint. */
#include <stdio.h>

#include "options.h"
#include "verbs.h"

int verb_inspect(int argc, char **argv)
{
    bool json = false;
    const option options[] = {
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, NULL, "as JSON"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem inspect MODEL [--json]", "Every tensor of a checkpoint with its type, shape, size, layer and side (A: attention, F: FFN), totals and metadata.\n"
                      "MODEL is a Hugging Face folder, a .safetensors file or a GGUF file (any file of a split set).", options, arguments, 1, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    char *out;
    if (td_inspect(arguments[0], json, &out) < 0) return failed();
    fputs(out, stdout);
    td_free(out);
    return EXIT_DONE;
}
