/*
 * regex.h - the regular expressions of pre-tokenizers, which are written for Oniguruma, run on PCRE2 with its JIT.
 * The pattern is rewritten so that it means the same: \s and \w by their Unicode definition, \p{..} with the newer code points, \h as a hex digit,
 * {n,m}+ as a repeated repeat, scripts by Script and not Script_Extensions. What would silently mean something else is refused.
 */
#ifndef TD_TEXT_REGEX_H
#define TD_TEXT_REGEX_H

#include "base/status.h"

typedef struct td_regex td_regex; /* immutable; shared between threads */
typedef struct td_regex_scratch td_regex_scratch; /* one a thread at a time */

td_status td_regex_open(const char *pattern, size_t bytes, td_regex **out);
void td_regex_close(td_regex *regex);

td_status td_regex_scratch_open(td_regex_scratch **out);
void td_regex_scratch_close(td_regex_scratch *scratch);

/* First match at or after from in valid UTF-8: found, and [*start, *end). The subject is text[0..bytes): lookbehind and lookahead see no further.
 * Fails (TD_E_UNSUPPORTED) when the pattern needs more backtracking than its bound. */
td_status td_regex_find(const td_regex *regex, td_regex_scratch *scratch, const char *text, size_t bytes, size_t from, bool *found, size_t *start, size_t *end);

#endif
