/*
 * added.h - added tokens: texts that are cut out of the input before anything else looks at it.
 * At every place the longest one wins, from left to right, as the reference's automaton (leftmost-longest) does.
 */
#ifndef TD_TEXT_ADDED_H
#define TD_TEXT_ADDED_H

#include "base/status.h"

enum { TD_ADDED_BYTES_MAX = 512 }; /* longest text: bounds the work per byte of input */

typedef struct {
    char *text;         /* owned; for normalized ones the normalised text */
    uint32_t bytes;
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} td_added;

typedef struct {
    td_added *tokens;   /* sorted by text once ready; owned */
    size_t count, capacity;
    uint32_t first[257];/* tokens whose first byte is b: first[b] .. first[b+1] - 1 */
} td_added_set;

td_status td_added_put(td_added_set *set, const char *text, size_t bytes, td_added properties);
void td_added_ready(td_added_set *set); /* sorts; of two with the same text the later one stays (where two normalise to the same the reference finds either, from run to run) */
void td_added_free(td_added_set *set);

/* The next token in text at or after *at: found with *start and *end (white space taken in by lstrip and rstrip included, never before floor).
 * *at moves behind the match. Tokens that single_word forbids, and special ones when read_special is false, are passed over. */
const td_added *td_added_next(const td_added_set *set, const char *text, size_t bytes, size_t *at, size_t floor, bool read_special, size_t *start, size_t *end);

#endif
