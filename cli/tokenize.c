/* tokenize.c - tandem tokenize: text to token ids (JSON), and ids back to text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "options.h"
#include "verbs.h"

enum { FILE_BYTES_MAX = 1 << 28 };

static int print_ids(const td_model *model, const char *text, size_t bytes, unsigned flags)
{
    size_t count = 0;
    if (td_tokenize(model, text, bytes, flags, NULL, 0, &count) < 0) return failed();
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    if (!ids) {
        fprintf(stderr, "tandem: no memory for %zu ids\n", count);
        return EXIT_FAILED;
    }
    if (td_tokenize(model, text, bytes, flags, ids, count, &count) < 0) {
        free(ids);
        return failed();
    }
    putchar('[');
    for (size_t i = 0; i < count; i++) printf("%s%d", i ? "," : "", (int)ids[i]);
    puts("]");
    free(ids);
    return EXIT_DONE;
}

/* A file that is a JSON array of texts: one line of ids each. */
static int print_each(const td_model *model, const char *path, unsigned flags)
{
    char *json, *text;
    size_t bytes;
    if (td_file_read(path, FILE_BYTES_MAX, &json, &bytes) < 0) return failed();
    text = malloc(bytes + 1);
    td_json j;
    td_json_begin(&j, json, bytes, path);
    int result = text && td_json_expect(&j, TD_JSON_ARRAY, "the root") == TD_OK ? EXIT_DONE : failed();
    while (result == EXIT_DONE) {
        if (td_json_next(&j) < 0) result = failed();
        else if (j.kind == TD_JSON_ARRAY_END) break;
        else if (j.kind != TD_JSON_STRING) {
            td_json_fail(&j, "expected a text, found %s", td_json_kind_name(j.kind));
            result = failed();
        } else {
            size_t length = td_json_text(&j, text);
            result = print_ids(model, text, length, flags);
        }
    }
    free(text);
    free(json);
    return result;
}

static int print_text(const td_model *model, const char *list, unsigned flags)
{
    size_t count = 0, bytes;
    int32_t *ids = malloc((strlen(list) + 1) * sizeof *ids);
    char *text;
    for (const char *at = list; ids && *at;) {
        char *end;
        long long id = strtoll(at, &end, 10);
        while (*end == ' ') end++;
        if (end == at || (*end && *end != ',') || id < 0) {
            fprintf(stderr, "tandem tokenize: --decode: expected ids as 1,5,9, found '%.40s'\n", at);
            free(ids);
            return EXIT_USAGE;
        }
        if (id >= td_model_get_info(model)->vocab_size) {
            fprintf(stderr, "tandem tokenize: --decode: expected ids below %d, found %lld\n", td_model_get_info(model)->vocab_size, id);
            free(ids);
            return EXIT_FAILED;
        }
        ids[count++] = (int32_t)id;
        at = *end ? end + 1 : end;
    }
    td_status status = ids ? td_detokenize(model, ids, count, flags, &text, &bytes) : TD_E_MEMORY;
    free(ids);
    if (status < 0) return failed();
    fwrite(text, 1, bytes, stdout);
    putchar('\n');
    td_free(text);
    return EXIT_DONE;
}

int verb_tokenize(int argc, char **argv)
{
    const char *path = NULL, *prompt = NULL, *file = NULL, *ids = NULL;
    bool each = false, bos = false, plain = false;
    int count;
    const option options[] = {
        {"--prompt", "-p", OPTION_TEXT, &prompt, 0, 0, "TEXT", "the text"},
        {"--file", "-f", OPTION_TEXT, &file, 0, 0, "FILE", "the text is in this file (any bytes)"},
        {"--each", NULL, OPTION_FLAG, &each, 0, 0, NULL, "FILE is a JSON array of texts; one line of ids each"},
        {"--decode", "--ids", OPTION_TEXT, &ids, 0, 0, "IDS", "print the text of these ids (1,5,9) instead"},
        {"--bos", NULL, OPTION_FLAG, &bos, 0, 0, NULL, "put the model's first token in front, when it has one"},
        {"--plain", NULL, OPTION_FLAG, &plain, 0, 0, NULL, "special tokens in the text are ordinary text; --decode leaves them out"},
        {NULL},
    };
    const option_set set = {"tandem tokenize [MODEL] (-p TEXT | --file FILE | --decode IDS)", "Token ids of a text as a JSON array, with special tokens read; or the text of ids.", options, &path, 0, 1};
    int done = options_parse(&set, argc, argv, &count);
    if (done >= 0) return done;
    if ((prompt != NULL) + (file != NULL) + (ids != NULL) != 1) {
        fprintf(stderr, "tandem tokenize: expected one of -p TEXT, --file FILE and --decode IDS\n");
        return EXIT_USAGE;
    }
    td_model *model;
    unsigned flags = (plain ? 0 : TD_TOKENIZE_SPECIAL) | (bos ? TD_TOKENIZE_BOS : 0);
    if (td_model_open(path, NULL, &model) < 0) return failed();
    int result;
    char *text;
    size_t bytes;
    if (ids) result = print_text(model, ids, flags);
    else if (prompt) result = print_ids(model, prompt, strlen(prompt), flags);
    else if (each) result = print_each(model, file, flags);
    else if (td_file_read(file, FILE_BYTES_MAX, &text, &bytes) < 0) result = failed();
    else {
        result = print_ids(model, text, bytes, flags);
        free(text);
    }
    td_model_close(model);
    return result;
}
