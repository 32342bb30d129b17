/* fuzz_gguf.c - any bytes as a GGUF file: opened, listed and read, or refused with a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/names.h"
#include "checkpoint/outline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *place(void)
{
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "%s/tandem-fuzz-gguf-%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (long)getpid());
    return path;
}

static void look(const td_checkpoint *c)
{
    uint64_t sum = 0;
    const char *text;
    size_t count;
    td_outline *outline = malloc(sizeof *outline);
    for (size_t i = 0; i < td_checkpoint_count(c); i++) {
        const td_tensor *t = td_checkpoint_at(c, i);
        size_t size = t->data ? td_tensor_bytes(t) : 0;
        if (size) sum += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[size - 1];
        if (t->type != TD_DTYPES && td_checkpoint_find(c, t->name) != t) abort();
    }
    if (td_gguf_array_count(c, "tokenizer.ggml.tokens", &count))
        for (size_t i = 0; i < count && td_gguf_array_string(c, "tokenizer.ggml.tokens", i, &text, &count); i++) sum += count;
    if (outline && td_outline_read(c, outline) < 0) sum += strlen(td_error());
    free(outline);
    if (sum == UINT64_MAX) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    td_log_level(TD_LOG_ERROR);
    FILE *f = fopen(place(), "wb");
    if (!f) return 0;
    fwrite(data, 1, bytes, f);
    fclose(f);
    td_checkpoint *c = NULL;
    if (td_checkpoint_open(place(), &c) == TD_OK) look(c);
    else if (strlen(td_error()) < 10) abort();
    td_checkpoint_close(c);
    char *text = NULL;
    if (td_inspect(place(), bytes % 2, &text) == TD_OK) td_free(text);
    unlink(place());
    return 0;
}
