/* grammar_parts.h - the rules of a grammar and the size of a matcher; only for grammar*.c, matcher.c and tests/test_matcher.c. */
#ifndef TD_TEXT_GRAMMAR_PARTS_H
#define TD_TEXT_GRAMMAR_PARTS_H

#include "text/grammar.h"
#include "text/vocab.h"

typedef enum { TD_ELEMENT_END, TD_ELEMENT_BYTES, TD_ELEMENT_RULE } td_element_kind;
typedef struct { uint8_t kind, low, high; uint32_t rule; } td_element;
typedef struct { uint32_t *starts; int count; } td_rule; /* first elements of the alternatives */

struct td_grammar {
    td_element *elements;
    size_t elements_count, elements_capacity;
    td_rule *rules;
    int rules_count, rules_capacity;
    td_vocab names;   /* of named rules */
    int *named;       /* [names.count] their rules */
    int root;
};

/* Of a matcher's tables; states and nodes: powers of two. held_bytes: of what the states hold, masks above all. */
typedef struct { uint32_t states, nodes; size_t held_bytes; } td_matcher_limits;

/* td_matcher_open with tables of another size. What a matcher says does not depend on it, as long as the path of one token fits. */
td_status td_matcher_open_sized(const td_grammar *grammar, const td_grammar_vocab *vocab, const td_matcher_limits *limits, td_matcher **out);

#endif
