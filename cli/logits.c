/* logits.c - tandem logits: float32 logits of every position as an NPY file [tokens, vocabulary]; what correctness is compared with. Needs no tokenizer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "options.h"
#include "verbs.h"

/* "1,5,9" to ids. Returns the count, or 0 after one sentence. */
static size_t parse_ids(const char *text, int vocab, int32_t **out)
{
    size_t count = 1, i = 0;
    for (const char *t = text; *t; t++) count += *t == ',';
    int32_t *ids = malloc(count * sizeof *ids);
    const char *at = text;
    for (; ids && i < count; i++) {
        char *end;
        errno = 0;
        long value = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        if (value < 0 || errno || (*end != ',' && *end) || value >= vocab) {
            fprintf(stderr, "tandem: option --ids: expected token ids from 0 to %d separated by commas, found '%.40s' at number %zu\n", vocab - 1, at, i + 1);
            free(ids);
            return 0;
        }
        ids[i] = (int32_t)value;
        at = end + 1;
    }
    *out = ids;
    return ids ? count : 0;
}

/* NPY 1.0: magic, header length, a Python dict padded to 64 bytes, then the array. */
static td_status write_npy(const char *path, const float *data, size_t rows, size_t columns)
{
    char header[192];
    int length = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    memset(header + length, ' ', (size_t)(padded - length));
    header[padded - 1] = '\n';
    unsigned char start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(padded & 0xFF), (unsigned char)(padded >> 8)};
    td_writer writer;
    td_status status = td_writer_open(path, &writer);
    if (status < 0) return status;
    status = td_writer_put(&writer, start, sizeof start);
    if (status == TD_OK) status = td_writer_put(&writer, header, (size_t)padded);
    if (status == TD_OK) status = td_writer_put(&writer, data, rows * columns * sizeof *data);
    if (status < 0) {
        td_writer_discard(&writer);
        return status;
    }
    return td_writer_commit(&writer);
}

static int compute(const td_model *model, td_engine *engine, const char *ids_text, const char *out)
{
    int32_t *ids = NULL;
    size_t vocab = (size_t)td_model_get_info(model)->vocab_size, count = parse_ids(ids_text, (int)vocab, &ids);
    if (count == 0) return EXIT_USAGE;
    float *logits = malloc(count * vocab * sizeof *logits);
    int status = EXIT_FAILED;
    if (!logits) fprintf(stderr, "tandem: no memory for %zu x %zu logits\n", count, vocab);
    else if (td_engine_logits(engine, ids, count, logits) < 0 || write_npy(out, logits, count, vocab) < 0) failed();
    else status = EXIT_DONE;
    free(logits);
    free(ids);
    return status;
}

int verb_logits(int argc, char **argv)
{
    const char *ids = NULL, *out = NULL;
    td_engine_options engine_options = {.requests_max = 1};
    td_model_options model_options = {0};
    const option options[] = {
        {"--ids", NULL, OPTION_TEXT, &ids, 0, 0, "1,5,9", "token ids of the sequence"},
        {"--out", "-o", OPTION_TEXT, &out, 0, 0, "FILE", "NPY file to write: float32 [tokens, vocabulary]"},
        ENGINE_OPTIONS(engine_options, model_options),
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem logits [MODEL] --ids 1,5,9 --out FILE.npy [options]", "Writes the logits of every position of a token sequence.", options, arguments, 0, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    if (!ids || !out) {
        fprintf(stderr, "tandem: expected %s; usage: %s\n", ids ? "--out FILE.npy" : "--ids 1,5,9", set.usage);
        return EXIT_USAGE;
    }
    if (!engine_options.kv_dtype) engine_options.kv_dtype = "f32"; /* the comparison is about the model, not about the cache's rounding */
    follow_engine(&model_options, &engine_options);
    td_model *model = open_model(arguments[0], &model_options);
    td_engine *engine = NULL;
    if (model && td_engine_open(model, &engine_options, &engine) < 0) failed();
    status = engine ? compute(model, engine, ids, out) : EXIT_FAILED;
    td_engine_close(engine);
    td_model_close(model);
    return status;
}
