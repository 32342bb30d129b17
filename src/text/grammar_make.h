/* grammar_make.h - GBNF text made from schemas and regular expressions; only for grammar_schema.c, grammar_regex.c and grammar_number.c. */
#ifndef TD_TEXT_GRAMMAR_MAKE_H
#define TD_TEXT_GRAMMAR_MAKE_H

#include <cjson/cJSON.h>

#include "base/buffer.h"

/* "text" as a GBNF literal. */
void td_gbnf_literal(td_buffer *out, const char *text, size_t bytes);

/* A regular expression as one bracketed GBNF expression. in_json: it describes the characters of a JSON string (the rule "char" is there), is searched for
 * unless anchored, and what a string writes with a backslash is written so. */
td_status td_gbnf_regex(td_buffer *out, const char *pattern, size_t bytes, bool in_json);

/* Integers or numbers within minimum, maximum, exclusiveMinimum and exclusiveMaximum of a schema; false (nothing written) when it has none of them. */
td_status td_gbnf_number(td_buffer *out, const cJSON *schema, bool whole, bool *bounded);

#endif
