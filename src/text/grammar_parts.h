/* grammar_parts.h - the rules of a grammar; only for grammar*.c and matcher.c. */
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

#endif
