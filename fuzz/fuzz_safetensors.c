/* fuzz_safetensors.c - any bytes as model.safetensors, or (first byte odd) as the index of a folder: opened and listed, or refused with a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "checkpoint/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[64], single[96], listed[96];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "%s/tandem-fuzz-st-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) abort();
    snprintf(single, sizeof single, "%s/model.safetensors", folder);
    snprintf(listed, sizeof listed, "%s/model.safetensors.index.json", folder);
}

static void remove_folder(void)
{
    unlink(single);
    unlink(listed);
    rmdir(folder);
}

static void put(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f) return;
    fwrite(data, 1, bytes, f);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char small[] = "\x36\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\0\0\0";
    td_log_level(TD_LOG_ERROR);
    if (!folder[0]) {
        make_folder();
        atexit(remove_folder);
    }
    if (bytes < 1) return 0;
    if (data[0] & 1) {
        put(single, small, sizeof small);
        put(listed, data + 1, bytes - 1);
    } else {
        unlink(listed);
        put(single, data + 1, bytes - 1);
    }
    td_checkpoint *c = NULL;
    if (td_checkpoint_open(folder, &c) == TD_OK) {
        for (size_t i = 0; i < td_checkpoint_count(c); i++) {
            const td_tensor *t = td_checkpoint_at(c, i);
            size_t size = t->data ? td_tensor_bytes(t) : 0;
            if (size && ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[size - 1] > 510) abort();
            if (t->type != TD_DTYPES && td_checkpoint_find(c, t->name) != t) abort();
        }
    } else if (strlen(td_error()) < 10) abort();
    td_checkpoint_close(c);
    char *text = NULL;
    if (td_inspect(folder, bytes % 2, &text) == TD_OK) td_free(text);
    return 0;
}
