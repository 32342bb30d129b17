/* options.c - see options.h. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "verbs.h"

static const option *find(const option *options, const char *name, size_t length)
{
    for (const option *o = options; o->name; o++)
        if ((strlen(o->name) == length && !strncmp(o->name, name, length)) || (o->other && strlen(o->other) == length && !strncmp(o->other, name, length))) return o;
    return NULL;
}

static void print_help(const option_set *set)
{
    printf("usage: %s\n\n%s\n\noptions:\n", set->usage, set->about);
    for (const option *o = set->options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", o->other ? o->other : "", o->other ? ", " : "", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        printf("  %-28s %s\n", left, o->help);
    }
    printf("  %-28s %s\n", "-h, --help", "this text");
}

static bool take_number(const option *o, const char *text)
{
    char *end;
    errno = 0;
    bool ranged = o->low != 0 || o->high != 0;
    if (!*text || *text == ' ') return false;
    if (o->kind == OPTION_FLOAT) {
        float value = strtof(text, &end);
        if (*end || errno || !isfinite(value) || (ranged && (value < o->low || value > o->high))) return false;
        *(float *)o->value = value;
    } else if (o->kind == OPTION_UINT64) {
        unsigned long long value = strtoull(text, &end, 10);
        if (*end || errno || *text == '-' || (ranged && (double)value > o->high)) return false;
        *(uint64_t *)o->value = value;
    } else {
        long long value = strtoll(text, &end, 10);
        if (*end || errno || (ranged && ((double)value < o->low || (double)value > o->high))) return false;
        if (o->kind == OPTION_INT && (value < INT32_MIN || value > INT32_MAX)) return false;
        if (o->kind == OPTION_INT) *(int *)o->value = (int)value;
        else *(int64_t *)o->value = value;
    }
    return true;
}

static int wrong_value(const option *o, const char *text)
{
    const char *kind = o->kind == OPTION_FLOAT ? "a number" : "a whole number";
    if (o->low != 0 || o->high != 0) fprintf(stderr, "tandem: option %s%s%s: expected %s from %.12g to %.12g, found '%s'\n", o->name, o->other ? "/" : "", o->other ? o->other : "", kind, o->low, o->high, text);
    else fprintf(stderr, "tandem: option %s%s%s: expected %s, found '%s'\n", o->name, o->other ? "/" : "", o->other ? o->other : "", kind, text);
    return EXIT_USAGE;
}

int options_parse(const option_set *set, int argc, char **argv, int *count)
{
    bool only_arguments = false;
    *count = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!only_arguments && !strcmp(word, "--")) {
            only_arguments = true;
        } else if (!only_arguments && (!strcmp(word, "--help") || !strcmp(word, "-h"))) {
            print_help(set);
            return EXIT_DONE;
        } else if (!only_arguments && word[0] == '-' && word[1]) {
            size_t length = strcspn(word, "=");
            const option *o = find(set->options, word, length);
            if (!o) {
                fprintf(stderr, "tandem: unknown option '%s'; 'tandem %s --help' lists them\n", word, argv[0]);
                return EXIT_USAGE;
            }
            const char *text = word[length] == '=' ? word + length + 1 : NULL;
            if (o->kind == OPTION_FLAG) {
                if (text) {
                    fprintf(stderr, "tandem: option %s takes no value, found '%s'\n", o->name, text);
                    return EXIT_USAGE;
                }
                *(bool *)o->value = true;
                continue;
            }
            if (!text && i + 1 >= argc) {
                fprintf(stderr, "tandem: option %s: expected %s behind it, found the end\n", word, o->argument);
                return EXIT_USAGE;
            }
            if (!text) text = argv[++i];
            if (o->kind == OPTION_TEXT) *(const char **)o->value = text;
            else if (!take_number(o, text)) return wrong_value(o, text);
        } else if (*count < set->arguments_max) {
            set->arguments[(*count)++] = word;
        } else {
            fprintf(stderr, "tandem: expected at most %d argument%s, found '%s' too; usage: %s\n", set->arguments_max, set->arguments_max == 1 ? "" : "s", word, set->usage);
            return EXIT_USAGE;
        }
    }
    if (*count < set->arguments_min) {
        fprintf(stderr, "tandem: expected at least %d argument%s, found %d; usage: %s\n", set->arguments_min, set->arguments_min == 1 ? "" : "s", *count, set->usage);
        return EXIT_USAGE;
    }
    return -1;
}

static bool show_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    int *last = user, percent = total ? (int)(done * 100 / total) : 100;
    if (percent == *last) return true;
    *last = percent;
    fprintf(stderr, "\r%-12s [%-30.*s] %3d %%", what, percent * 30 / 100, "##############################", percent);
    if (percent == 100) fprintf(stderr, "\r%60s\r", "");
    return true;
}

static bool show_writing(void *user, const char *tensor, uint64_t done, uint64_t total)
{
    (void)tensor;
    return show_progress(user, "writing", done, total);
}

td_progress writing_progress(void **user)
{
    static int last = -1;
    *user = &last;
    return isatty(STDERR_FILENO) ? show_writing : NULL;
}

void follow_engine(td_model_options *model, const td_engine_options *engine)
{
    model->threads = engine->threads;
    model->attention_only = engine->ffn != NULL && !engine->ffn_fallback;
}

td_model *open_model(const char *path, td_model_options *options)
{
    static int last = -1;
    td_model *model = NULL;
    if (isatty(STDERR_FILENO)) {
        options->progress = show_progress;
        options->progress_user = &last;
    }
    if (td_model_open(path, options, &model) < 0) failed();
    return model;
}

int failed(void)
{
    fprintf(stderr, "tandem: %s\n", td_error());
    return EXIT_FAILED;
}

unsigned long long peak_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (unsigned long long)usage.ru_maxrss * 1024;
}
