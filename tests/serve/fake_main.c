/* fake_main.c - `tandem serve` over fake_engine.c: argv as the verb's own. */
#include "../../cli/verbs.h"

int main(int argc, char **argv) { return verb_serve(argc, argv); }
