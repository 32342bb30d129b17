/* support.h - what several tests need: paths below the source tree, engines with a few settings. */
#ifndef TD_TESTS_SUPPORT_H
#define TD_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tandem.h"

/* source tree + "/" + name, in a static buffer (four in turn). */
static inline const char *source_path(const char *name)
{
    static char buffers[4][1024];
    static int turn;
    const char *root = getenv("TD_SOURCE");
    char *buffer = buffers[turn++ & 3];
    snprintf(buffer, sizeof buffers[0], "%s/%s", root ? root : ".", name);
    return buffer;
}

/* Fails the test with the library's sentence. */
#define assert_ok(expression)                                                                \
    do {                                                                                     \
        td_status status_ = (expression);                                                    \
        if (status_ < 0) fail_msg("%s: %s (%s)", #expression, td_error(), td_status_name(status_)); \
    } while (0)

#endif
