/*
 * pipeline.h - what happens to text before byte-pair encoding: normalizers change it, pre-tokenizers cut it into pieces.
 * A piece of text flows through the steps depth first; each step owns one scratch buffer, so nothing is allocated per piece.
 */
#ifndef TD_TEXT_PIPELINE_H
#define TD_TEXT_PIPELINE_H

#include "base/buffer.h"
#include "text/regex.h"
#include "text/unicode.h"

enum { TD_STEPS_MAX = 16 };

typedef enum {
    TD_STEP_FORM,       /* Unicode normal form */
    TD_STEP_PREPEND,    /* text in front of a text that is not empty */
    TD_STEP_REPLACE,    /* every match by text */
    TD_STEP_STRIP,      /* white space at the left and right */
    TD_STEP_LOWERCASE,
} td_normal_kind;

typedef enum { /* what becomes of a match of the pattern */
    TD_SPLIT_ISOLATED, TD_SPLIT_REMOVED, TD_SPLIT_CONTIGUOUS, TD_SPLIT_WITH_PREVIOUS, TD_SPLIT_WITH_NEXT,
} td_split_behavior;

typedef enum {
    TD_STEP_SPLIT,      /* at matches of a pattern */
    TD_STEP_PREFIX,     /* a space in front of every piece that does not begin with one */
    TD_STEP_BYTES,      /* every byte as its byte-level character */
    TD_STEP_METASPACE,  /* spaces become the replacement, which is also put in front as scheme says */
} td_split_kind;

typedef enum { TD_PATTERN_REGEX, TD_PATTERN_TEXT, TD_PATTERN_DIGIT, TD_PATTERN_SPACE, TD_PATTERN_PUNCTUATION } td_pattern_kind;

typedef struct { td_pattern_kind kind; td_regex *regex; char *text; size_t bytes; } td_pattern; /* owns regex and text */

typedef struct {
    td_normal_kind kind;
    td_normal_form form;
    td_pattern pattern;      /* TD_STEP_REPLACE */
    char *text; size_t bytes;/* TD_STEP_PREPEND, TD_STEP_REPLACE; owned */
    bool left, right;        /* TD_STEP_STRIP */
} td_normal_step;

typedef enum { TD_PREPEND_NEVER, TD_PREPEND_FIRST, TD_PREPEND_ALWAYS } td_prepend;

typedef struct {
    td_split_kind kind;
    td_pattern pattern;
    td_split_behavior behavior;
    bool invert;
    char *text; size_t bytes;/* TD_STEP_METASPACE: the replacement; owned */
    td_prepend scheme;
} td_split_step;

typedef struct {
    td_normal_step normal[TD_STEPS_MAX];
    int normal_count;
    td_split_step split[TD_STEPS_MAX];
    int split_count;
    bool byte_level;         /* has a TD_STEP_BYTES */
} td_pipeline;

void td_pipeline_free(td_pipeline *pipeline);
/* Room for one more step, or TD_E_UNSUPPORTED. */
td_status td_pipeline_add_normal(td_pipeline *pipeline, td_normal_step **out);
td_status td_pipeline_add_split(td_pipeline *pipeline, td_split_step **out);
td_status td_pattern_regex(const char *pattern, size_t bytes, td_pattern *out);
td_status td_pattern_text(const char *text, size_t bytes, td_pattern *out);
td_status td_text_copy(const char *text, size_t bytes, char **out); /* NUL-terminated */

typedef struct {
    td_regex_scratch *regex;
    td_buffer normal[2], split[TD_STEPS_MAX];
    size_t start_bytes;    /* so many bytes of the text that was normalised last come from its first character; 0: that one is gone, and nothing stands at the start */
} td_pipeline_scratch;
td_status td_pipeline_scratch_open(td_pipeline_scratch *scratch);
void td_pipeline_scratch_close(td_pipeline_scratch *scratch);

/* Called for every piece in order; pieces are not empty. */
typedef td_status (*td_piece_fn)(void *user, const char *piece, size_t bytes);

/* Normal form of valid UTF-8; *out points into text or the scratch. */
td_status td_pipeline_normalize(const td_pipeline *pipeline, td_pipeline_scratch *scratch, const char *text, size_t bytes, const char **out, size_t *out_bytes);
/* Cuts normalised text. at_start: the text begins at the very start of the whole input. */
td_status td_pipeline_split(const td_pipeline *pipeline, td_pipeline_scratch *scratch, const char *text, size_t bytes, bool at_start, td_piece_fn fn, void *user);
/* The byte-level spelling of any bytes, appended. */
void td_byte_level_put(const char *bytes, size_t count, td_buffer *out);

#endif
