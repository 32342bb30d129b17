/* doctor.c - tandem doctor: what this machine can do and what was chosen. */
#include <stdio.h>

#include "options.h"
#include "verbs.h"

int verb_doctor(int argc, char **argv)
{
    bool json = false;
    const char *isa = NULL;
    const option options[] = {
        {"--isa", NULL, OPTION_TEXT, &isa, 0, 0, "NAME", "use at most this instruction set: ref, avx2, avx512, amx"},
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, NULL, "as JSON"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    option_set set = {"tandem doctor [options]", "Measures this machine (about a second) and says which kernels were chosen and why, and what will be slow.", options, NULL, 0, 0};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    char *text;
    if (td_doctor(isa, json, &text) < 0) return failed();
    fputs(text, stdout);
    td_free(text);
    return EXIT_DONE;
}
