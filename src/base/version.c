/* version.c - what this build calls itself, and the one way to free what the library hands out. */
#include <stdlib.h>

#include "tandem.h"

const char *td_version(void) { return TD_VERSION; }
void td_free(void *memory) { free(memory); }
