/*
 * constraint.c - constrained sampling behind the public header: a grammar, the model's vocabulary sorted by bytes (made once, on first use), and where one
 * request is in it. A constraint that waits (td_constraint_wait) reads the text along byte by byte, as text/parsers.c will, and holds only behind its mark.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/model.h"
#include "text/grammar.h"

enum { WINDOW = 32 };
static const char think_open[] = "<think>", think_close[] = "</think>";
typedef enum { HOLDS, AT_START, IN_THINKING, IN_FREE_TEXT } place;

struct td_constraint {
    const td_model *model;
    td_grammar *grammar;
    td_matcher *matcher;
    place place;          /* HOLDS from the beginning unless it waits */
    char mark[WINDOW], window[WINDOW]; /* the last bytes of free text */
    size_t window_bytes, mark_bytes;
    int32_t line_feed;    /* the token of one line feed; -1: none */
    bool fresh;           /* nothing came behind the mark yet */
    size_t seen;          /* tokens that the matcher went through */
    bool lost;            /* a token came that the grammar does not allow, or no mask could be made: nothing more is said */
};

static _Thread_local td_status mask_error; /* of this thread's last td_constraint_mask that ended with one */

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
    constraint->model = model;
    if (status == TD_OK) status = td_matcher_open(constraint->grammar, vocab, &constraint->matcher);
    if (status < 0) td_constraint_close(constraint);
    else *out = constraint;
    return status;
}

td_status td_constraint_wait(td_constraint *c, const char *mark, bool may_think, bool thinks)
{
    int32_t *ids = NULL;
    size_t count = 0, room = 0, bytes = strlen(mark);
    if (bytes == 0 || bytes >= WINDOW) return td_fail(TD_E_INVALID, "grammar: expected a mark of 1 to %d bytes, found %zu", WINDOW - 1, bytes);
    TD_TRY(td_tokenizer_encode(c->model->tokenizer, "\n", 1, 0, &ids, &count, &room));
    memcpy(c->mark, mark, bytes);
    c->mark_bytes = bytes;
    c->line_feed = count == 1 ? ids[0] : -1;
    c->place = thinks ? IN_THINKING : may_think ? AT_START : IN_FREE_TEXT;
    free(ids);
    return TD_OK;
}

static bool window_ends(const td_constraint *c, const char *text, size_t bytes)
{
    return c->window_bytes >= bytes && !memcmp(c->window + c->window_bytes - bytes, text, bytes);
}

/* Behind the mark the grammar begins anew. */
static bool begin_again(td_constraint *c)
{
    c->fresh = true;
    c->window_bytes = 0;
    c->place = HOLDS;
    return td_matcher_restart(c->matcher);
}

/* One byte of text; false: the grammar does not allow it. */
static bool see_byte(td_constraint *c, char byte)
{
    bool space = strchr(" \n\t\r", byte) && byte;
    if (c->place == HOLDS) {
        if (c->fresh && byte == '\n') return true;
        c->fresh = false;
        if (!td_matcher_bytes(c->matcher, &byte, 1)) return false;
        if (td_matcher_complete(c->matcher)) c->place = IN_FREE_TEXT;
        return true;
    }
    if (c->place == AT_START && space && !c->window_bytes) return true;
    if (c->window_bytes == WINDOW) memmove(c->window, c->window + 1, --c->window_bytes);
    c->window[c->window_bytes++] = byte;
    if (c->place == AT_START) {
        if (c->window_bytes >= sizeof think_open || memcmp(c->window, think_open, c->window_bytes)) c->place = IN_FREE_TEXT;
        else if (c->window_bytes == sizeof think_open - 1) c->place = IN_THINKING;
    } else if (c->place == IN_THINKING && window_ends(c, think_close, sizeof think_close - 1)) {
        c->place = IN_FREE_TEXT;
    }
    return c->place != IN_FREE_TEXT || !window_ends(c, c->mark, c->mark_bytes) || begin_again(c);
}

static bool see_token(td_constraint *c, int32_t token)
{
    size_t bytes;
    const char *text = td_tokenizer_bytes(c->model->tokenizer, token, &bytes);
    for (size_t i = 0; i < bytes; i++)
        if (!see_byte(c, text[i])) return false;
    return true;
}

td_status td_constraint_take_error(void)
{
    td_status status = mask_error;
    mask_error = TD_OK;
    return status;
}

static bool see_tokens(td_constraint *c, const int32_t *tokens, size_t count)
{
    for (; c->seen < count; c->seen++)
        if (!(c->mark_bytes ? see_token(c, tokens[c->seen]) : td_matcher_token(c->matcher, tokens[c->seen]))) return false;
    return true;
}

/* The request ends before its text is complete, once; td_error() says why. status: what it ends with; TD_OK: as it stands. */
static bool give_up(td_constraint *c, size_t count, td_status status)
{
    td_log(TD_LOG_WARN, "model", "a constrained request ends behind token %zu, before its text is complete: %s", count, td_error());
    c->lost = true;
    mask_error = status;
    return false;
}

bool td_constraint_mask(void *user, const int32_t *tokens, size_t count, float *logits, int vocab_size)
{
    td_constraint *c = user;
    if (c->lost) return false;
    if (!see_tokens(c, tokens, count)) return give_up(c, count, TD_OK);
    if (c->place != HOLDS) return true;
    bool line = c->fresh && c->line_feed >= 0 && c->line_feed < vocab_size && (count == 0 || tokens[count - 1] != c->line_feed);
    float feed = line ? logits[c->line_feed] : 0;
    int allowed = td_matcher_mask(c->matcher, logits, vocab_size);
    if (line) logits[c->line_feed] = feed;
    if (allowed < 0) return give_up(c, count, allowed);
    if (allowed == 0 && !line && !td_matcher_complete(c->matcher)) return give_up(c, count, td_fail(TD_E_UNSUPPORTED, "grammar: no token of the vocabulary goes on"));
    return allowed > 0 || line;
}

void td_constraint_close(td_constraint *constraint)
{
    if (!constraint) return;
    td_matcher_close(constraint->matcher);
    td_grammar_close(constraint->grammar);
    free(constraint);
}
