/*
 * grammar.h - constrained sampling: a grammar over bytes, and which tokens of a vocabulary may come next.
 * A grammar comes from GBNF, a JSON schema, "any JSON object", or a regular expression (a subset, matched as a whole). It is run as a pushdown automaton that
 * is turned into states on the way; a state's set of allowed tokens is computed once by walking the vocabulary sorted by bytes, then kept.
 * What a schema asks for and this cannot enforce is refused by name (TD_E_UNSUPPORTED), never ignored.
 */
#ifndef TD_TEXT_GRAMMAR_H
#define TD_TEXT_GRAMMAR_H

#include <cjson/cJSON.h>

#include "text/tokenizer.h"

typedef struct td_grammar td_grammar;             /* immutable, shared */
typedef struct td_grammar_vocab td_grammar_vocab; /* a vocabulary sorted by bytes; immutable, shared; one a model */
typedef struct td_matcher td_matcher;             /* where one request is; one thread at a time */

enum { TD_GRAMMAR_TEXT_MAX = 1 << 20, TD_GRAMMAR_ELEMENTS_MAX = 1 << 20 };

/* Errors: TD_E_INVALID (syntax, undefined rules, left recursion), TD_E_UNSUPPORTED. The start rule is "root". */
td_status td_grammar_from_gbnf(const char *text, size_t bytes, td_grammar **out);
td_status td_grammar_from_schema(const cJSON *schema, td_grammar **out);
td_status td_grammar_from_regex(const char *pattern, size_t bytes, td_grammar **out);
td_status td_grammar_any_object(td_grammar **out);
void td_grammar_close(td_grammar *grammar);

/* The tokenizer must outlive it. Special tokens are never allowed by a grammar. */
td_status td_grammar_vocab_open(const td_tokenizer *tokenizer, td_grammar_vocab **out);
void td_grammar_vocab_close(td_grammar_vocab *vocab);

/* Both must outlive the matcher, which holds at most 41 MB and one mask (a bit a token), however long the text becomes. */
td_status td_matcher_open(const td_grammar *grammar, const td_grammar_vocab *vocab, td_matcher **out);
void td_matcher_close(td_matcher *matcher);
bool td_matcher_restart(td_matcher *matcher); /* a new text begins; what was computed is kept. false: no memory, and only td_matcher_close may follow */
/* Sets logits[0..vocab_size) of what may not come next to -INFINITY. Ends of a generation are allowed when the text is complete, and only they when nothing
 * may follow. Returns how many tokens are allowed, or a negative status: TD_E_UNSUPPORTED when at one place of the text there are more than 4096 stacks, or too high
 * ones. How long the text is does not matter. */
int td_matcher_mask(td_matcher *matcher, float *logits, int vocab_size);
/* Goes on by a token or by bytes; false (no change; td_error says why) when the grammar does not allow it. Ends of a generation are accepted when the text is complete. */
bool td_matcher_token(td_matcher *matcher, int32_t id);
bool td_matcher_bytes(td_matcher *matcher, const char *text, size_t bytes);
bool td_matcher_complete(const td_matcher *matcher); /* the text so far is a whole one */

#endif
