/* grammar_support.h - the vocabulary that the tests of grammars (test_grammar.c, test_matcher.c) share: Llama 3's. */
#ifndef TD_TESTS_GRAMMAR_SUPPORT_H
#define TD_TESTS_GRAMMAR_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "text/grammar.h"

static td_tokenizer *tokenizer;
static td_grammar_vocab *vocab;
static int size; /* tokens */

static inline int open_all(void **state)
{
    (void)state;
    const char *source = getenv("TD_SOURCE");
    char path[4096], *json;
    static const char config[] = "{\"eos_token\":\"<|endoftext|>\"}";
    size_t bytes;
    snprintf(path, sizeof path, "%s/tests/data/text/llama3.tokenizer.json", source ? source : ".");
    if (td_file_read(path, 1 << 26, &json, &bytes) < 0 || td_tokenizer_from_json(json, bytes, config, sizeof config - 1, &tokenizer) < 0 || td_grammar_vocab_open(tokenizer, &vocab) < 0) return 1;
    free(json);
    size = td_tokenizer_size(tokenizer);
    return 0;
}

static inline int close_all(void **state)
{
    (void)state;
    td_grammar_vocab_close(vocab);
    td_tokenizer_close(tokenizer);
    return 0;
}

#endif
