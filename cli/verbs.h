/* verbs.h - every verb of the program: one function, one file (cli/<verb>.c). Each gets argv from its own name on, and returns the exit status:
 * 0 done, 1 failed (one sentence on stderr), 2 wrong use. */
#ifndef TD_CLI_VERBS_H
#define TD_CLI_VERBS_H

#include "tandem.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int verb_run(int argc, char **argv);
int verb_chat(int argc, char **argv);
int verb_bench(int argc, char **argv);
int verb_logits(int argc, char **argv);
int verb_perplexity(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_plan(int argc, char **argv);
int verb_serve(int argc, char **argv);
int verb_tokenize(int argc, char **argv);
int verb_inspect(int argc, char **argv);
int verb_worker(int argc, char **argv);
int verb_workers(int argc, char **argv);
int verb_convert(int argc, char **argv);
int verb_synth(int argc, char **argv);

#endif
