/* pipeline.c - see pipeline.h. */
#include "text/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/vocab.h"

td_status td_text_copy(const char *text, size_t bytes, char **out)
{
    char *copy = malloc(bytes + 1);
    if (!copy) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %zu bytes", bytes);
    if (bytes) memcpy(copy, text, bytes);
    copy[bytes] = 0;
    *out = copy;
    return TD_OK;
}

td_status td_pattern_regex(const char *pattern, size_t bytes, td_pattern *out)
{
    out->kind = TD_PATTERN_REGEX;
    return td_regex_open(pattern, bytes, &out->regex);
}

td_status td_pattern_text(const char *text, size_t bytes, td_pattern *out)
{
    out->kind = TD_PATTERN_TEXT;
    out->bytes = bytes;
    return td_text_copy(text, bytes, &out->text);
}

static void pattern_free(td_pattern *p)
{
    td_regex_close(p->regex);
    free(p->text);
}

void td_pipeline_free(td_pipeline *p)
{
    for (int i = 0; i < p->normal_count; i++) pattern_free(&p->normal[i].pattern), free(p->normal[i].text);
    for (int i = 0; i < p->split_count; i++) pattern_free(&p->split[i].pattern), free(p->split[i].text);
    *p = (td_pipeline){0};
}

td_status td_pipeline_add_normal(td_pipeline *p, td_normal_step **out)
{
    if (p->normal_count == TD_STEPS_MAX) return td_fail(TD_E_UNSUPPORTED, "tokenizer: more than %d normalizers", TD_STEPS_MAX);
    *out = &p->normal[p->normal_count++];
    return TD_OK;
}

td_status td_pipeline_add_split(td_pipeline *p, td_split_step **out)
{
    if (p->split_count == TD_STEPS_MAX) return td_fail(TD_E_UNSUPPORTED, "tokenizer: more than %d pre-tokenizers", TD_STEPS_MAX);
    *out = &p->split[p->split_count++];
    return TD_OK;
}

td_status td_pipeline_scratch_open(td_pipeline_scratch *scratch)
{
    *scratch = (td_pipeline_scratch){0};
    return td_regex_scratch_open(&scratch->regex);
}

void td_pipeline_scratch_close(td_pipeline_scratch *s)
{
    td_regex_scratch_close(s->regex);
    for (size_t i = 0; i < TD_COUNT(s->normal); i++) td_buffer_free(&s->normal[i]);
    for (size_t i = 0; i < TD_COUNT(s->split); i++) td_buffer_free(&s->split[i]);
}

void td_byte_level_put(const char *bytes, size_t count, td_buffer *out)
{
    char chunk[256];
    for (size_t i = 0; i < count;) {
        size_t filled = 0;
        for (; i < count && filled + 4 <= sizeof chunk; i++) filled += td_utf8_encode(td_byte_char((uint8_t)bytes[i]), chunk + filled);
        td_buffer_put(out, chunk, filled);
    }
}

static bool pattern_char(td_pattern_kind kind, uint32_t code)
{
    if (kind == TD_PATTERN_SPACE) return td_unicode_space(code);
    if (kind == TD_PATTERN_PUNCTUATION) return td_unicode_punctuation(code);
    return code < 0x80 ? code >= '0' && code <= '9' : td_unicode_category(code) >> 8 == 'N' || (code >= 0x11DE0 && code <= 0x11DE9) || (code >= 0x16FF4 && code <= 0x16FF6); /* the last two: Unicode 17 */
}

/* Where `what` (not empty) begins in text, or NULL. By its first byte: memmem under AddressSanitizer looks at all that is left, each time. */
static const char *find_text(const char *text, size_t bytes, const char *what, size_t n)
{
    const char *end = text + bytes, *at = text;
    while ((size_t)(end - at) >= n && (at = memchr(at, what[0], (size_t)(end - at) - n + 1))) {
        if (!memcmp(at, what, n)) return at;
        at++;
    }
    return NULL;
}

/* The next match at or after from: a regex or text match, or one character of a kind. */
static td_status next_match(const td_pattern *p, td_regex_scratch *scratch, const char *text, size_t bytes, size_t from, bool *found, size_t *start, size_t *end)
{
    *found = false;
    if (p->kind == TD_PATTERN_REGEX) return td_regex_find(p->regex, scratch, text, bytes, from, found, start, end);
    if (p->kind == TD_PATTERN_TEXT) {
        const char *hit = p->bytes ? find_text(text + from, bytes - from, p->text, p->bytes) : NULL;
        if (!hit) return TD_OK;
        *found = true;
        *start = (size_t)(hit - text);
        *end = *start + p->bytes;
        return TD_OK;
    }
    for (size_t at = from; at < bytes;) {
        size_t length = td_utf8_length(text + at, bytes - at);
        length += length == 0;
        if (pattern_char(p->kind, td_utf8_decode(text + at, length))) {
            *found = true;
            *start = at;
            *end = at + length;
            return TD_OK;
        }
        at += length;
    }
    return TD_OK;
}

/* ---- normalizers ---- */

static td_status replace(const td_normal_step *step, td_pipeline_scratch *scratch, const char *text, size_t bytes, td_buffer *out)
{
    size_t at = 0, start, end, from = 0, own = 0;
    for (bool found;;) {
        TD_TRY(next_match(&step->pattern, scratch->regex, text, bytes, from, &found, &start, &end));
        if (!found) break;
        td_buffer_put(out, text + at, start - at);
        own += TD_MIN(start, scratch->start_bytes) - TD_MIN(at, scratch->start_bytes);
        if (end <= scratch->start_bytes) own += step->bytes; /* the reference places what is put in where the last character stood that it replaces */
        td_buffer_put(out, step->text, step->bytes);
        at = from = end;
        if (end == start) { /* an empty match: go on behind the next character */
            if (at >= bytes) break;
            from += td_utf8_length(text + at, bytes - at);
        }
    }
    td_buffer_put(out, text + at, bytes - at);
    scratch->start_bytes = own + scratch->start_bytes - TD_MIN(at, scratch->start_bytes);
    return td_buffer_status(out);
}

static td_status strip(const td_normal_step *step, td_pipeline_scratch *scratch, const char *text, size_t bytes, td_buffer *out)
{
    size_t start = 0, end = bytes;
    while (step->left && start < end) {
        size_t length = td_utf8_length(text + start, end - start);
        if (!td_unicode_space(td_utf8_decode(text + start, length))) break;
        start += length;
    }
    while (step->right && end > start) {
        size_t at = end - 1;
        while (at > start && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
        if (!td_unicode_space(td_utf8_decode(text + at, end - at))) break;
        end = at;
    }
    scratch->start_bytes -= TD_MIN(start, scratch->start_bytes);
    td_buffer_put(out, text + start, end - start);
    return td_buffer_status(out);
}

static td_status lowercase(const char *text, size_t bytes, td_buffer *out)
{
    for (size_t at = 0; at < bytes;) {
        size_t length = td_utf8_length(text + at, bytes - at);
        uint32_t code = td_utf8_decode(text + at, length);
        char lower[4];
        if (code == 0x130) td_buffer_put(out, "i\xCC\x87", 3); /* the only character whose lower case is two */
        else td_buffer_put(out, lower, td_utf8_encode(td_unicode_lower(code), lower));
        at += length;
    }
    return td_buffer_status(out);
}

static td_status normal_step(const td_normal_step *step, td_pipeline_scratch *scratch, const char *text, size_t bytes, td_buffer *out)
{
    td_status status = TD_OK;
    size_t own = scratch->start_bytes;
    switch (step->kind) {
    case TD_STEP_FORM: status = td_unicode_normalize(step->form, text, own, out); break;
    case TD_STEP_LOWERCASE: status = lowercase(text, own, out); break;
    case TD_STEP_PREPEND:
        if (bytes) td_buffer_put(out, step->text, step->bytes);
        td_buffer_put(out, text, bytes);
        if (own) scratch->start_bytes += step->bytes;
        return td_buffer_status(out);
    case TD_STEP_REPLACE: return replace(step, scratch, text, bytes, out);
    case TD_STEP_STRIP: return strip(step, scratch, text, bytes, out);
    }
    TD_TRY(status); /* the first character became as much; now all of the text, where it may also meet the next one */
    scratch->start_bytes = out->bytes;
    td_buffer_clear(out);
    return step->kind == TD_STEP_FORM ? td_unicode_normalize(step->form, text, bytes, out) : lowercase(text, bytes, out);
}

td_status td_pipeline_normalize(const td_pipeline *p, td_pipeline_scratch *s, const char *text, size_t bytes, const char **out, size_t *out_bytes)
{
    s->start_bytes = bytes ? td_utf8_length(text, bytes) : 0;
    for (int i = 0; i < p->normal_count; i++) {
        td_buffer *to = &s->normal[i & 1];
        td_buffer_clear(to);
        TD_TRY(normal_step(&p->normal[i], s, text, bytes, to));
        text = to->data ? to->data : "";
        bytes = to->bytes;
        s->start_bytes = TD_MIN(s->start_bytes, bytes);
        while (s->start_bytes < bytes && ((unsigned char)text[s->start_bytes] & 0xC0) == 0x80) s->start_bytes++; /* composed with the next one */
    }
    *out = text;
    *out_bytes = bytes;
    return TD_OK;
}

/* ---- pre-tokenizers ---- */

typedef struct {
    const td_pipeline *pipeline;
    td_pipeline_scratch *scratch;
    td_piece_fn fn;
    void *user;
} flow;

static td_status flow_step(const flow *f, int index, const char *text, size_t bytes, bool at_start);

static td_status pass_on(const flow *f, int index, const char *text, size_t start, size_t end, bool at_start)
{
    return end > start ? flow_step(f, index + 1, text + start, end - start, at_start && start == 0) : TD_OK;
}

/* Spans alternate between text and matches; pending gathers neighbours that the behaviour keeps together. */
typedef struct { size_t start, end; bool any, match; } pending_span;

static td_status put_span(const flow *f, int index, const char *text, bool at_start, pending_span *p, size_t start, size_t end, bool match)
{
    const td_split_step *step = &f->pipeline->split[index];
    if (start == end) return TD_OK;
    match ^= step->invert;
    bool join = false, drop = false;
    switch (step->behavior) {
    case TD_SPLIT_ISOLATED: break;
    case TD_SPLIT_REMOVED: drop = match; break;
    case TD_SPLIT_CONTIGUOUS: join = p->any && p->match == match; break;
    case TD_SPLIT_WITH_PREVIOUS: join = p->any && match && !p->match; break;
    case TD_SPLIT_WITH_NEXT: join = p->any && !match && p->match; break;
    }
    if (!join && p->any) TD_TRY(pass_on(f, index, text, p->start, p->end, at_start));
    if (drop) p->any = false;
    else *p = (pending_span){join ? p->start : start, end, true, match};
    return TD_OK;
}

static td_status split(const flow *f, int index, const char *text, size_t bytes, bool at_start)
{
    const td_split_step *step = &f->pipeline->split[index];
    pending_span pending = {0};
    size_t at = 0, from = 0, start, end;
    while (from < bytes) {
        bool found;
        TD_TRY(next_match(&step->pattern, f->scratch->regex, text, bytes, from, &found, &start, &end));
        if (!found) break;
        TD_TRY(put_span(f, index, text, at_start, &pending, at, start, false));
        TD_TRY(put_span(f, index, text, at_start, &pending, start, end, true));
        at = from = end;
        if (end == start) from += td_utf8_length(text + from, bytes - from) + (end >= bytes);
    }
    if (at < bytes) TD_TRY(put_span(f, index, text, at_start, &pending, at, bytes, false));
    return pending.any ? pass_on(f, index, text, pending.start, pending.end, at_start) : TD_OK;
}

static td_status metaspace(const flow *f, int index, const char *text, size_t bytes, bool at_start)
{
    const td_split_step *step = &f->pipeline->split[index];
    td_buffer *to = &f->scratch->split[index];
    td_buffer_clear(to);
    bool has = bytes >= step->bytes && !memcmp(text, step->text, step->bytes);
    bool prepend = step->scheme == TD_PREPEND_ALWAYS || (step->scheme == TD_PREPEND_FIRST && at_start);
    if (prepend && !has && text[0] != ' ') td_buffer_put(to, step->text, step->bytes);
    for (size_t at = 0; at < bytes;) {
        const char *space = memchr(text + at, ' ', bytes - at);
        size_t end = space ? (size_t)(space - text) : bytes;
        td_buffer_put(to, text + at, end - at);
        if (space) td_buffer_put(to, step->text, step->bytes);
        at = end + 1;
    }
    TD_TRY(td_buffer_status(to));
    return pass_on(f, index, to->data, 0, to->bytes, at_start);
}

static td_status flow_step(const flow *f, int index, const char *text, size_t bytes, bool at_start)
{
    if (index == f->pipeline->split_count) return f->fn(f->user, text, bytes);
    const td_split_step *step = &f->pipeline->split[index];
    td_buffer *to = &f->scratch->split[index];
    switch (step->kind) {
    case TD_STEP_SPLIT: return split(f, index, text, bytes, at_start);
    case TD_STEP_METASPACE: return metaspace(f, index, text, bytes, at_start);
    case TD_STEP_PREFIX:
        if (text[0] == ' ') return pass_on(f, index, text, 0, bytes, at_start);
        td_buffer_clear(to);
        td_buffer_put(to, " ", 1);
        td_buffer_put(to, text, bytes);
        break;
    case TD_STEP_BYTES:
        td_buffer_clear(to);
        td_byte_level_put(text, bytes, to);
        break;
    }
    TD_TRY(td_buffer_status(to));
    return pass_on(f, index, to->data, 0, to->bytes, at_start);
}

td_status td_pipeline_split(const td_pipeline *pipeline, td_pipeline_scratch *scratch, const char *text, size_t bytes, bool at_start, td_piece_fn fn, void *user)
{
    flow f = {pipeline, scratch, fn, user};
    return bytes ? flow_step(&f, 0, text, bytes, at_start) : TD_OK;
}
