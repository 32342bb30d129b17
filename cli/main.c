/* main.c - tandem VERB ...: finds the verb and hands over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "verbs.h"

typedef struct { const char *name, *help; int (*run)(int argc, char **argv); } verb;

static const verb verbs[] = {
    /* one line a verb, in the order of the help text */
    {"run", "complete a prompt; without a model, with the one that ships with tandem", verb_run},
    {"chat", "talk with a model in its own chat form", verb_chat},
    {"serve", "answer OpenAI and Anthropic clients over HTTP, with a web page", verb_serve},
    {"bench", "prefill and decode speed, beside what this machine can do", verb_bench},
    {"logits", "logits of every position of a token sequence, as NPY", verb_logits},
    {"perplexity", "perplexity of a text under a model", verb_perplexity},
    {"doctor", "what this machine can do, what was chosen and why", verb_doctor},
    {"worker", "serve FFN weights to attention instances on other machines", verb_worker},
    {"workers", "show, add and drain the FFN workers of a running process", verb_workers},
    {"plan", "what will it cost, how many of what, and does disaggregation pay", verb_plan},
    {"inspect", "tensors, types, sizes and sides of a checkpoint", verb_inspect},
    {"convert", "write a checkpoint in the other format, quantised when asked", verb_convert},
    {"synth", "write a model of random weights at the dimensions of a known one", verb_synth},
    {"tokenize", "token ids of a text, or the text of ids", verb_tokenize},
    {NULL, NULL, NULL},
};

static int usage(FILE *out, int status)
{
    fprintf(out, "tandem %s - decodes mixture-of-experts language models with attention and FFN decoupled\n\nusage: tandem VERB [options]\n\n", td_version());
    for (const verb *v = verbs; v->name; v++) fprintf(out, "  %-11s %s\n", v->name, v->help);
    fprintf(out, "\n'tandem VERB --help' tells more.\n");
    return status;
}

static int run_verb(int argc, char **argv)
{
    if (argc < 2) return usage(stderr, EXIT_USAGE);
    if (!strcmp(argv[1], "--version")) {
        printf("tandem %s\n", td_version());
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return usage(stdout, EXIT_DONE);
    for (const verb *v = verbs; v->name; v++)
        if (!strcmp(argv[1], v->name)) return v->run(argc - 1, argv + 1);
    fprintf(stderr, "tandem: expected a verb, found '%s'; 'tandem --help' lists them\n", argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    int status = run_verb(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    if (errno != EPIPE) fprintf(stderr, "tandem: standard output cannot be written: %s\n", errno ? strerror(errno) : "an earlier write failed"); /* EPIPE: its reader has seen enough */
    return status ? status : EXIT_FAILED;
}
