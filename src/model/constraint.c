/*
 * constraint.c - constrained sampling behind the public header: a grammar, the model's vocabulary sorted by bytes (made once, on first use), and where one
 * request is in it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "text/grammar.h"

struct td_constraint {
    td_grammar *grammar;
    td_matcher *matcher;
    size_t seen;          /* tokens that the matcher went through */
    bool lost;            /* a token came that the grammar does not allow: nothing more is said */
};

static td_status shared_vocab(td_model *model, const td_grammar_vocab **out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (!model->tokenizer) return td_fail(TD_E_UNSUPPORTED, "grammar: %s has no tokenizer", model->info.path);
    pthread_mutex_lock(&lock);
    td_status status = model->grammar_vocab ? TD_OK : td_grammar_vocab_open(model->tokenizer, &model->grammar_vocab);
    *out = model->grammar_vocab;
    pthread_mutex_unlock(&lock);
    return status;
}

static td_status compile(const char *kind, const char *text, size_t bytes, td_grammar **out)
{
    if (!strcmp(kind, "json_object")) return td_grammar_any_object(out);
    if (!strcmp(kind, "gbnf")) return td_grammar_from_gbnf(text, bytes, out);
    if (!strcmp(kind, "regex")) return td_grammar_from_regex(text, bytes, out);
    if (strcmp(kind, "json_schema")) return td_fail(TD_E_INVALID, "grammar: expected the kind gbnf, regex, json_object or json_schema, found '%s'", kind);
    cJSON *schema = cJSON_ParseWithLength(text, bytes);
    if (!schema) return td_fail(TD_E_INVALID, "json_schema: expected JSON");
    td_status status = td_grammar_from_schema(schema, out);
    cJSON_Delete(schema);
    return status;
}

td_status td_constraint_open(td_model *model, const char *kind, const char *text, size_t bytes, td_constraint **out)
{
    const td_grammar_vocab *vocab = NULL;
    TD_TRY(shared_vocab(model, &vocab));
    td_constraint *constraint = calloc(1, sizeof *constraint);
    if (!constraint) return td_fail(TD_E_MEMORY, "grammar: no memory");
    td_status status = compile(kind, text, bytes, &constraint->grammar);
    if (status == TD_OK) status = td_matcher_open(constraint->grammar, vocab, &constraint->matcher);
    if (status < 0) td_constraint_close(constraint);
    else *out = constraint;
    return status;
}

bool td_constraint_mask(void *user, const int32_t *tokens, size_t count, float *logits, int vocab_size)
{
    td_constraint *constraint = user;
    for (; constraint->seen < count && !constraint->lost; constraint->seen++) constraint->lost = !td_matcher_token(constraint->matcher, tokens[constraint->seen]);
    return !constraint->lost && td_matcher_mask(constraint->matcher, logits, vocab_size) > 0;
}

void td_constraint_close(td_constraint *constraint)
{
    if (!constraint) return;
    td_matcher_close(constraint->matcher);
    td_grammar_close(constraint->grammar);
    free(constraint);
}
