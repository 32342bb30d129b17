/*
 * fuzz_tokenizer.c - tokenizer.json from anywhere. A zero byte ends the JSON; what follows is encoded with the tokenizer, and every id decoded.
 * The detokeniser must give whole characters only and stay inside its bound.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

static void decode(const td_tokenizer *t, const int32_t *ids, size_t count)
{
    td_detokenizer state = {0};
    char *out = malloc(TD_DETOKENIZE_MAX * ((size_t)td_tokenizer_bytes_max(t) + 8));
    for (size_t i = 0; out && i < count; i++) {
        size_t bytes, written = td_detokenizer_put(t, &state, ids[i], i & 1, out);
        td_tokenizer_bytes(t, ids[i], &bytes);
        if (written > TD_DETOKENIZE_MAX * (bytes + 8)) abort();
        for (size_t at = 0, length; at < written; at += length)
            if ((length = td_utf8_length(out + at, written - at)) == 0) abort();
    }
    if (out) td_detokenizer_end(&state, out);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *zero = bytes ? memchr(data, 0, bytes) : NULL;
    size_t json_bytes = zero ? (size_t)(zero - data) : bytes;
    td_tokenizer *t;
    if (bytes > 1 << 16 || td_tokenizer_from_json((const char *)data, json_bytes, NULL, 0, &t) < 0) return 0;
    static const char fallback[] = "Hello  w\xC3\xB6rld 123 \xFF\xE4\xB8 <|im_end|>\n\n";
    const char *text = zero ? (const char *)zero + 1 : fallback;
    size_t text_bytes = zero ? bytes - json_bytes - 1 : sizeof fallback - 1, count = 0, capacity = 0;
    int32_t *ids = NULL;
    if (td_tokenizer_encode(t, text, text_bytes, bytes & 3, &ids, &count, &capacity) == TD_OK) decode(t, ids, count);
    free(ids);
    td_tokenizer_close(t);
    return 0;
}
