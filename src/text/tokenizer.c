/*
 * tokenizer.c - text to ids: added tokens are cut out, the rest is normalised, cut into pieces and byte-pair encoded. See tokenizer.h.
 * Broken UTF-8 never reaches normalizers and pre-tokenizers: each run of bad bytes is one piece, spelled byte by byte.
 */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_parts.h"

enum { TEXT_BYTES_MAX = 1 << 30 };

void td_tokenizer_close(td_tokenizer *t)
{
    if (!t) return;
    td_bpe_free(&t->bpe);
    td_pipeline_free(&t->pipeline);
    td_added_free(&t->raw);
    td_added_free(&t->normalized);
    td_vocab_free(&t->names);
    td_buffer_free(&t->decoded);
    free(t->flags);
    free(t->spans);
    free(t->first);
    free(t->prefix);
    free(t);
}

int td_tokenizer_size(const td_tokenizer *t) { return t->size; }
int32_t td_tokenizer_bos(const td_tokenizer *t) { return t->bos; }
int32_t td_tokenizer_eos(const td_tokenizer *t) { return t->eos; }
bool td_tokenizer_adds_bos(const td_tokenizer *t) { return t->adds_bos; }
int td_tokenizer_bytes_max(const td_tokenizer *t) { return t->bytes_max; }

static unsigned flags_of(const td_tokenizer *t, int32_t id) { return id >= 0 && id < t->size ? t->flags[id] : 0; }
bool td_tokenizer_is_end(const td_tokenizer *t, int32_t id) { return flags_of(t, id) & TD_TOKEN_END; }
bool td_tokenizer_is_special(const td_tokenizer *t, int32_t id) { return flags_of(t, id) & TD_TOKEN_SPECIAL; }

int32_t td_tokenizer_find(const td_tokenizer *t, const char *token, size_t bytes)
{
    int32_t id = td_vocab_find(&t->names, token, bytes);
    return id >= 0 ? id : td_vocab_find(&t->bpe.vocab, token, bytes);
}

const char *td_tokenizer_name(const td_tokenizer *t, int32_t id, size_t *bytes)
{
    return td_vocab_has(&t->names, id) ? td_vocab_text(&t->names, id, bytes) : td_vocab_text(&t->bpe.vocab, id, bytes);
}

const char *td_tokenizer_bytes(const td_tokenizer *t, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (id < 0 || id >= t->size || t->spans[id].bytes == 0) return "";
    *bytes = t->spans[id].bytes;
    return t->decoded.data + t->spans[id].at;
}

/* ---- building ---- */

td_status td_tokenizer_flag(td_tokenizer *t, int32_t id, unsigned flag)
{
    if (id < 0 || id >= TD_VOCAB_IDS_MAX) return td_fail(TD_E_FORMAT, "tokenizer: expected an id from 0 to %d, found %d", TD_VOCAB_IDS_MAX - 1, id);
    if (id >= t->size) {
        uint8_t *grown = realloc(t->flags, (size_t)id + 1);
        if (!grown) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %d tokens", id + 1);
        memset(grown + t->size, 0, (size_t)(id + 1 - t->size));
        t->flags = grown;
        t->size = id + 1;
    }
    t->flags[id] |= (uint8_t)flag;
    return TD_OK;
}

static bool decode_byte_level(const char *text, size_t bytes, td_buffer *out)
{
    size_t before = out->bytes;
    for (size_t i = 0; i < bytes;) {
        size_t length = td_utf8_length(text + i, bytes - i);
        int byte = length ? td_char_byte(td_utf8_decode(text + i, length)) : -1;
        if (byte < 0) {
            out->bytes = before;
            return false;
        }
        char c = (char)byte;
        td_buffer_put(out, &c, 1);
        i += length;
    }
    return true;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* "<0xAB>" -> 0xAB, else -1 */
static int byte_token(const char *text, size_t bytes)
{
    if (bytes != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* dropped: a replacement that gives nothing here; -1: none. */
static void decode_replaced(const td_decode_rules *rules, const char *text, size_t bytes, int dropped, td_buffer *out)
{
    for (size_t i = 0; i < bytes;) {
        int r = 0;
        for (; r < rules->replace_count; r++)
            if (bytes - i >= rules->replace[r].from_bytes && !memcmp(text + i, rules->replace[r].from, rules->replace[r].from_bytes)) break;
        if (r < rules->replace_count) td_buffer_put(out, rules->replace[r].to, r == dropped ? 0 : rules->replace[r].to_bytes), i += rules->replace[r].from_bytes;
        else td_buffer_put(out, text + i++, 1);
    }
}

/* Most tokens are the same at the start; those share their bytes. */
static void put_first(td_tokenizer *t, int32_t id, const td_decode_rules *rules, const char *text, size_t bytes)
{
    t->first[id] = t->spans[id];
    if ((t->flags[id] & TD_TOKEN_BYTE) || !memmem(text, bytes, rules->replace[rules->mark].from, rules->replace[rules->mark].from_bytes)) return;
    size_t at = t->decoded.bytes;
    decode_replaced(rules, text, bytes, rules->mark, &t->decoded);
    t->first[id] = (td_span){(uint32_t)at, (uint32_t)(t->decoded.bytes - at)};
}

td_status td_tokenizer_finish(td_tokenizer *t, const td_decode_rules *rules)
{
    int32_t size = TD_MAX(t->bpe.vocab.count, t->names.count);
    if (size > t->size) TD_TRY(td_tokenizer_flag(t, size - 1, 0));
    if (t->size == 0) return td_fail(TD_E_FORMAT, "tokenizer: expected a vocabulary, found no token");
    t->spans = calloc((size_t)t->size, sizeof *t->spans);
    if (t->start_rule == TD_START_NO_MARKS) t->first = calloc((size_t)t->size, sizeof *t->first);
    if (!t->spans || (t->start_rule == TD_START_NO_MARKS && !t->first)) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %d tokens", t->size);
    const td_added **shown = calloc((size_t)t->size, sizeof *shown); /* an added token that lives in normalised text is also shown normalised, as the reference does */
    if (!shown) return td_fail(TD_E_MEMORY, "tokenizer: no memory for %d tokens", t->size);
    for (size_t i = 0; i < t->normalized.count; i++) shown[t->normalized.tokens[i].id] = &t->normalized.tokens[i];
    t->bytes_max = 1;
    for (int32_t id = 0; id < t->size; id++) {
        size_t bytes, at = t->decoded.bytes;
        const char *text = td_tokenizer_name(t, id, &bytes);
        if (shown[id]) text = shown[id]->text, bytes = shown[id]->bytes;
        int byte = rules->byte_tokens ? byte_token(text, bytes) : -1;
        if (byte >= 0) {
            char c = (char)byte;
            td_buffer_put(&t->decoded, &c, 1);
            t->flags[id] |= TD_TOKEN_BYTE;
        } else if (!rules->byte_level || !decode_byte_level(text, bytes, &t->decoded)) {
            decode_replaced(rules, text, bytes, -1, &t->decoded);
        }
        if (t->decoded.bytes > UINT32_MAX / 2) {
            free(shown);
            return td_fail(TD_E_FORMAT, "tokenizer: the texts of all tokens are larger than 2 GiB");
        }
        t->spans[id] = (td_span){(uint32_t)at, (uint32_t)(t->decoded.bytes - at)};
        if (t->first) put_first(t, id, rules, text, bytes);
        t->bytes_max = TD_MAX(t->bytes_max, (int)t->spans[id].bytes);
    }
    free(shown);
    td_bpe_ready(&t->bpe);
    td_added_ready(&t->raw);
    td_added_ready(&t->normalized);
    return td_buffer_status(&t->decoded);
}

td_status td_tokenizer_mark_ends(td_tokenizer *t)
{
    static const char *const ends[] = {"<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|EOT|>", "<end_of_turn>", "<|end_of_turn|>", "</s>",
        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<|return|>"};
    for (size_t i = 0; i < TD_COUNT(ends); i++) {
        int32_t id = td_tokenizer_find(t, ends[i], strlen(ends[i]));
        if (id >= 0 && td_tokenizer_is_special(t, id)) TD_TRY(td_tokenizer_flag(t, id, TD_TOKEN_END));
    }
    return TD_OK;
}

/* ---- encoding ---- */

typedef struct {
    const td_tokenizer *t;
    td_pipeline_scratch pipeline;
    td_bpe_scratch *bpe;
    td_buffer spelled;
    td_ids *out;
    bool read_special;
} encoder;

static td_status encode_piece(void *user, const char *piece, size_t bytes)
{
    encoder *e = user;
    return td_bpe_encode(&e->t->bpe, e->bpe, piece, bytes, e->out);
}

static td_status put_id(encoder *e, int32_t id)
{
    TD_TRY(td_ids_reserve(e->out, 1));
    e->out->ids[e->out->count++] = id;
    return TD_OK;
}

/* Normalised text: added tokens that live there, and pieces between them. A piece that begins within the first start_bytes stands at the start of the input, also
 * behind a token that was found in what a normalizer put in front. */
static td_status encode_normalized(encoder *e, const char *text, size_t bytes, size_t start_bytes)
{
    size_t at = 0, done = 0, start, end;
    for (const td_added *token; (token = td_added_next(&e->t->normalized, text, bytes, &at, done, e->read_special, &start, &end)); done = end) {
        if (start > done) TD_TRY(td_pipeline_split(&e->t->pipeline, &e->pipeline, text + done, start - done, done < start_bytes, encode_piece, e));
        TD_TRY(put_id(e, token->id));
    }
    return done < bytes ? td_pipeline_split(&e->t->pipeline, &e->pipeline, text + done, bytes - done, done < start_bytes, encode_piece, e) : TD_OK;
}

/* Bytes that are no characters, each on its own. */
static td_status encode_broken(encoder *e, const char *text, size_t bytes)
{
    if (e->t->pipeline.byte_level) {
        td_buffer_clear(&e->spelled);
        td_byte_level_put(text, bytes, &e->spelled);
        TD_TRY(td_buffer_status(&e->spelled));
        return td_bpe_encode(&e->t->bpe, e->bpe, e->spelled.data, e->spelled.bytes, e->out);
    }
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = e->t->bpe.byte_ids[(uint8_t)text[i]];
        if (id < 0) id = e->t->bpe.unknown;
        if (id >= 0) TD_TRY(put_id(e, id));
    }
    return TD_OK;
}

static td_status encode_text(encoder *e, const char *text, size_t bytes, bool at_start)
{
    for (size_t from = 0; from < bytes;) {
        size_t end = from, length;
        while (end < bytes && (length = td_utf8_length(text + end, bytes - end)) > 0) end += length;
        if (end > from) {
            const char *normal;
            size_t normal_bytes;
            TD_TRY(td_pipeline_normalize(&e->t->pipeline, &e->pipeline, text + from, end - from, &normal, &normal_bytes));
            TD_TRY(encode_normalized(e, normal, normal_bytes, at_start && from == 0 ? e->pipeline.start_bytes : 0));
        }
        for (from = end; end < bytes && td_utf8_length(text + end, bytes - end) == 0;) end++;
        if (end > from) TD_TRY(encode_broken(e, text + from, end - from));
        from = end;
    }
    return TD_OK;
}

static td_status encode_all(encoder *e, const char *text, size_t bytes, unsigned flags)
{
    for (int i = 0; (flags & TD_TOKENIZE_BOS) && e->t->adds_bos && i < e->t->prefix_count; i++) TD_TRY(put_id(e, e->t->prefix[i]));
    size_t at = 0, done = 0, start, end;
    for (const td_added *token; (token = td_added_next(&e->t->raw, text, bytes, &at, done, e->read_special, &start, &end)); done = end) {
        if (start > done) TD_TRY(encode_text(e, text + done, start - done, done == 0));
        TD_TRY(put_id(e, token->id));
    }
    return done < bytes ? encode_text(e, text + done, bytes - done, done == 0) : TD_OK;
}

td_status td_tokenizer_encode(const td_tokenizer *t, const char *text, size_t bytes, unsigned flags, int32_t **ids, size_t *count, size_t *capacity)
{
    if (bytes > TEXT_BYTES_MAX) return td_fail(TD_E_INVALID, "tokenizer: a text of %zu bytes; expected at most %d", bytes, TEXT_BYTES_MAX);
    td_ids out = {*ids, *count, *capacity};
    encoder e = {.t = t, .out = &out, .read_special = flags & TD_TOKENIZE_SPECIAL};
    td_status status = td_pipeline_scratch_open(&e.pipeline);
    e.bpe = td_bpe_scratch_open();
    if (status == TD_OK && !e.bpe) status = td_fail(TD_E_MEMORY, "tokenizer: no memory");
    if (status == TD_OK) status = encode_all(&e, text, bytes, flags);
    td_pipeline_scratch_close(&e.pipeline);
    td_bpe_scratch_close(e.bpe);
    td_buffer_free(&e.spelled);
    *ids = out.ids; /* the array may have moved also when the text could not be encoded; then the count stays */
    *capacity = out.capacity;
    if (status == TD_OK) *count = out.count;
    return status;
}
