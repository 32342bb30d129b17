/*
 * unicode.h - what tokenizers need to know of Unicode 16: categories, normal forms, white space.
 * utf8proc is the base; code points newer than it come from unicode_new.h. Text given here is valid UTF-8.
 */
#ifndef TD_TEXT_UNICODE_H
#define TD_TEXT_UNICODE_H

#include "base/buffer.h"

/* Two letters of the general category, as 'L' << 8 | 'u'; "Cn" when unassigned. */
unsigned td_unicode_category(uint32_t code);
bool td_unicode_space(uint32_t code); /* property White_Space */
bool td_unicode_word(uint32_t code);  /* what \w is to the reference's single_word rule */

typedef enum { TD_NFC, TD_NFD, TD_NFKC, TD_NFKD } td_normal_form;

/* Puts the normal form of text behind out. Time grows as n log n also for long runs of combining marks. */
td_status td_unicode_normalize(td_normal_form form, const char *text, size_t bytes, td_buffer *out);

uint32_t td_unicode_lower(uint32_t code);    /* one code point; U+0130, whose lower case is two, gives 'i' */
bool td_unicode_punctuation(uint32_t code);  /* to the reference's Punctuation pre-tokenizer */

/* A general category ("L", "Lu") or script that has newer characters than this PCRE2 knows, by any spelling ("letter", "uppercase_letter", "han"); else NULL. */
const char *td_unicode_property(const char *name, size_t length);
/* Appends the ranges ("\x{..}-\x{..}") of such a property that this PCRE2 does not know. */
void td_unicode_new_ranges(const char *name, td_buffer *out);
/* Appends all ranges of a category, or of everything else. */
void td_unicode_category_ranges(const char *name, bool others, td_buffer *out);

#endif
