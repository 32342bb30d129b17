/*
 * config.c - --config FILE: what 'tandem plan ... --json' chose, as options of serve, run and worker. Read are the objects "engine" and "worker" of the answer's "best", or of the file itself (one
 * choice, or written by hand). What the command line gives stays; a key that is not known is an error.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "options.h"
#include "verbs.h"

enum { CONFIG_BYTES_MAX = 64 << 20 };
typedef struct { const char *name; bool text; double low, high; void *value; size_t bytes; } key; /* bytes: of the number; text: room of value */

static td_status take(td_json *json, const key *k)
{
    double number;
    char role[64];
    snprintf(role, sizeof role, "\"%s\"", k->name);
    TD_TRY(td_json_next(json));
    if (k->text) {
        if (json->kind != TD_JSON_STRING || json->token_bytes >= k->bytes) return td_json_fail(json, "expected %s as a short string, found %s", role, td_json_kind_name(json->kind));
        td_json_text(json, k->value);
        return TD_OK;
    }
    if (json->kind != TD_JSON_NUMBER) return td_json_fail(json, "expected %s as a whole number from %.0f to %.0f, found %s", role, k->low, k->high, td_json_kind_name(json->kind));
    TD_TRY(td_json_f64(json, role, &number));
    if (!(number >= k->low && number <= k->high) || number != floor(number)) return td_json_fail(json, "expected %s as a whole number from %.0f to %.0f, found %g", role, k->low, k->high, number);
    if (k->bytes == sizeof(uint64_t)) *(uint64_t *)k->value = (uint64_t)number;
    else *(int *)k->value = (int)number;
    return TD_OK;
}

static td_status section(td_json *json, const key *keys, size_t count)
{
    TD_TRY(td_json_expect(json, TD_JSON_OBJECT, "the options"));
    for (;;) {
        char known[256] = "";
        size_t i = 0;
        TD_TRY(td_json_next(json));
        if (json->kind == TD_JSON_OBJECT_END) return TD_OK;
        while (i < count && !td_json_equals(json, keys[i].name)) i++;
        if (i == count) {
            for (i = 0; i < count; i++) snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", keys[i].name);
            return td_json_fail(json, "expected %s, found '%.*s'", known, (int)json->token_bytes, json->token);
        }
        TD_TRY(take(json, &keys[i]));
    }
}

/* An object that may hold the section by name, or "best" that holds it. */
static td_status look(td_json *json, const char *name, const key *keys, size_t count, int depth, bool *found)
{
    TD_TRY(td_json_expect(json, TD_JSON_OBJECT, "the configuration"));
    for (;;) {
        TD_TRY(td_json_next(json));
        if (json->kind == TD_JSON_OBJECT_END) return TD_OK;
        if (td_json_equals(json, name)) {
            TD_TRY(section(json, keys, count));
            *found = true;
        } else if (depth == 0 && td_json_equals(json, "best")) TD_TRY(look(json, name, keys, count, 1, found));
        else TD_TRY(td_json_skip(json));
    }
}

static int read_section(const char *path, const char *name, const key *keys, size_t count)
{
    char *text, what[300];
    size_t bytes;
    td_json json;
    bool found = false;
    if (td_file_read(path, CONFIG_BYTES_MAX, &text, &bytes) < 0) return failed();
    snprintf(what, sizeof what, "file %.200s", path);
    td_json_begin(&json, text, bytes, what);
    td_status status = look(&json, name, keys, count, 0, &found);
    if (status == TD_OK) status = td_json_expect(&json, TD_JSON_END, "the end");
    free(text);
    if (status < 0) return failed();
    if (!found) {
        fprintf(stderr, "tandem: --config: file %s: expected '%s' with options, or 'best' that holds it, as 'tandem plan MODEL --json' writes (a colocated choice has no worker), found neither\n", path, name);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int config_engine(const char *path, td_engine_options *engine)
{
    static char wire[16], kv[16];
    td_engine_options e = {0};
    const key keys[] = {{"requests_max", false, 1, 1024, &e.requests_max, sizeof(int)}, {"micro_batches", false, 1, 4, &e.micro_batches, sizeof(int)}, {"context_max", false, 1, 16777216, &e.context_max, sizeof(int)},
        {"prefill_chunk", false, 1, 16384, &e.prefill_chunk, sizeof(int)}, {"threads", false, 1, 256, &e.threads, sizeof(int)}, {"kv_tokens", false, 1, 1e12, &e.kv_tokens, sizeof(uint64_t)},
        {"wire", true, 0, 0, wire, sizeof wire}, {"kv_dtype", true, 0, 0, kv, sizeof kv}};
    wire[0] = kv[0] = 0;
    int status = path ? read_section(path, "engine", keys, sizeof keys / sizeof *keys) : EXIT_DONE;
    if (status || !path) return status;
    int *to[] = {&engine->requests_max, &engine->micro_batches, &engine->context_max, &engine->prefill_chunk, &engine->threads};
    const int from[] = {e.requests_max, e.micro_batches, e.context_max, e.prefill_chunk, e.threads};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++)
        if (*to[i] == 0) *to[i] = from[i];
    if (engine->kv_tokens == 0) engine->kv_tokens = e.kv_tokens;
    if (!engine->wire && *wire) engine->wire = wire;
    if (!engine->kv_dtype && *kv) engine->kv_dtype = kv;
    return EXIT_DONE;
}

int config_worker(const char *path, td_worker_options *worker)
{
    td_worker_options w = {0};
    const key keys[] = {{"rows_max", false, 1, 16384, &w.rows_max, sizeof(int)}, {"clients_max", false, 1, 64, &w.clients_max, sizeof(int)}, {"threads", false, 1, 256, &w.threads, sizeof(int)}};
    int status = path ? read_section(path, "worker", keys, sizeof keys / sizeof *keys) : EXIT_DONE;
    if (status || !path) return status;
    if (worker->rows_max == 0) worker->rows_max = w.rows_max;
    if (worker->clients_max == 0) worker->clients_max = w.clients_max;
    if (worker->threads == 0) worker->threads = w.threads;
    return EXIT_DONE;
}
