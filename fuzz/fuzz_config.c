/* fuzz_config.c - any bytes as the config.json of a folder: the outline is read, or refused with a sentence; every tensor shape that follows from it is computed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "checkpoint/outline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[64], weights[96], config[96];

static void put(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f) return;
    fwrite(data, 1, bytes, f);
    fclose(f);
}

static void make_folder(void)
{
    static const char small[] = "\x36\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\0\0\0";
    snprintf(folder, sizeof folder, "%s/tandem-fuzz-config-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) abort();
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    snprintf(config, sizeof config, "%s/config.json", folder);
    put(weights, small, sizeof small);
}

static void remove_folder(void)
{
    unlink(weights);
    unlink(config);
    rmdir(folder);
}

static void shapes(const td_outline *o)
{
    for (int format = TD_FORMAT_SAFETENSORS; format <= TD_FORMAT_GGUF; format++)
        for (int slot = 0; slot < TD_SLOTS; slot++)
            for (int layer = 0; layer < o->layers; layer++) {
                int dims = 0;
                int64_t shape[TD_DIMS_MAX];
                if (!td_outline_shape(o, (td_format)format, (td_slot)slot, layer, &dims, shape)) continue;
                if (dims < 1 || dims > 3) abort();
                for (int d = 0; d < dims; d++)
                    if (shape[d] < 0) abort();
            }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    td_log_level(TD_LOG_ERROR);
    if (!folder[0]) {
        make_folder();
        atexit(remove_folder);
    }
    put(config, data, bytes);
    td_checkpoint *c = NULL;
    td_outline *o = malloc(sizeof *o);
    td_buffer text = {0};
    if (o && td_checkpoint_open(folder, &c) == TD_OK && td_outline_read(c, o) == TD_OK) {
        shapes(o);
        if (td_outline_config_json(o, "float32", &text) < 0) abort();
    } else if (strlen(td_error()) < 10) abort();
    td_buffer_free(&text);
    td_checkpoint_close(c);
    free(o);
    return 0;
}
