/*
 * driver.c - runs a fuzzer's function without libFuzzer, as a plain test: every file of the folders named, and some hundred damaged copies of each
 * (seeded by TD_SEED). Link it with one fuzz_<name>.c.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"

enum { COPIES = 300, BYTES_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void damage(uint8_t *copy, size_t bytes, td_random *random)
{
    for (int64_t k = td_random_between(random, 1, 4); k > 0; k--) copy[td_random_between(random, 0, (int64_t)bytes - 1)] = (uint8_t)td_random_next(random);
}

static int run_file(const char *path, td_random *random)
{
    char *text;
    size_t bytes;
    if (td_file_read(path, BYTES_MAX, &text, &bytes) < 0) {
        fprintf(stderr, "%s\n", td_error());
        return 1;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)text, bytes);
    for (int i = 0; bytes && i < COPIES; i++) {
        size_t part = i % 3 ? bytes : (size_t)td_random_between(random, 1, (int64_t)bytes);
        uint8_t *exact = malloc(part); /* so that a read behind the end is seen */
        if (!exact) break;
        memcpy(exact, text, part);
        damage(exact, part, random);
        LLVMFuzzerTestOneInput(exact, part);
        free(exact);
    }
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("TD_SEED");
    td_random random = {.seed = seed ? strtoull(seed, NULL, 0) : 3};
    int files = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        for (struct dirent *e; folder && (e = readdir(folder));) {
            if (e->d_name[0] == '.') continue;
            char *path = td_path_join(argv[i], e->d_name);
            if (!path) continue;
            failed += run_file(path, &random);
            files++;
            free(path);
        }
        if (folder) closedir(folder);
    }
    printf("%d files, seed %llu\n", files, (unsigned long long)random.seed);
    return failed || files == 0;
}
