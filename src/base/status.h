/*
 * status.h - errors are values.
 *
 * Every function that can fail returns a td_status: TD_OK (0) or one of the negative codes of tandem.h. The function that detects the
 * failure writes one sentence with td_fail: what was expected, what was found, and where (file, tensor, field, peer). Callers pass the
 * code on unchanged; td_context may put a "where" in front of the sentence. The sentence lives in the calling thread until its next td_fail.
 */
#ifndef TD_BASE_STATUS_H
#define TD_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem.h"

/* Stores the formatted sentence (at most 1023 bytes, cut at a character) for this thread and returns code, which must be negative. */
td_status td_fail(td_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " in front of this thread's sentence; returns code. For adding the place that only a caller knows. */
td_status td_context(td_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Evaluates an expression of type td_status and returns it from the calling function when it is an error. */
#define TD_TRY(expression)                      \
    do {                                        \
        td_status try_status_ = (expression);   \
        if (try_status_ < 0) return try_status_; \
    } while (0)

#define TD_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define TD_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
