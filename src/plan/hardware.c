/*
 * hardware.c - the hardware table: the shipped text (data/plan/hardware.txt) and the user's file over it, one line a device. A line that cannot be
 * read is an error that names its number; no line is skipped in silence.
 */
#include "plan/plan.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"

extern const char plan_hardware_txt[];
const char *plan_hardware_text(void) { return plan_hardware_txt; }

int plan_distance(const char *a, const char *b)
{
    enum { LONGEST = 96 };
    int row[LONGEST + 1];
    int n = (int)strnlen(a, LONGEST), k = (int)strnlen(b, LONGEST);
    for (int j = 0; j <= k; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= k; j++) {
            int above = row[j], same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = TD_MIN(TD_MIN(above + 1, row[j - 1] + 1), diagonal + !same);
            diagonal = above;
        }
    }
    return row[k];
}

td_status plan_hardware_put(plan_hardware_table *table, const plan_hardware *item)
{
    for (size_t i = 0; i < table->count; i++)
        if (!strcasecmp(table->items[i].name, item->name)) {
            table->items[i] = *item;
            return TD_OK;
        }
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        plan_hardware *items = capacity > 65536 ? NULL : realloc(table->items, capacity * sizeof *items);
        if (!items) return td_fail(TD_E_MEMORY, "hardware table: no memory for %zu lines", capacity);
        table->items = items;
        table->capacity = capacity;
    }
    table->items[table->count++] = *item;
    return TD_OK;
}

/* One column: a figure or '-' (0). */
static bool column(const char *word, double *out)
{
    if (!strcmp(word, "-")) {
        *out = 0;
        return true;
    }
    char *end;
    *out = strtod(word, &end);
    return end != word && !*end && plan_figure_fits(*out);
}

static bool kind_known(const char *kind) { return !strcmp(kind, "gpu") || !strcmp(kind, "npu") || !strcmp(kind, "cpu"); }

/* Names stand raw in --deploy, JSON and CSV. */
static bool name_is_plain(const char *name) { return !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")]; }

static td_status parse_line(const char *where, int line, char *text, plan_hardware *out)
{
    static const char *const titles[] = {"usd/h", "bf16 TFLOP/s", "fp8 TFLOP/s", "GB", "GB/s", "nic GB/s", "nic us", "scaleup GB/s", "node", "watts"};
    enum { COLUMNS = 10 };
    char *source = strchr(text, '#'), *words[COLUMNS + 2], *save = NULL;
    if (source) *source++ = 0;
    int count = 0;
    for (char *word = strtok_r(text, " \t\r", &save); word; word = strtok_r(NULL, " \t\r", &save), count++)
        if (count < COLUMNS + 2) words[count] = word;
    if (count != COLUMNS + 2)
        return td_fail(TD_E_FORMAT, "%s line %d: expected 12 columns (name kind usd/h bf16 fp8 GB GB/s nic us scaleup node watts) and the source after '#', found %d", where, line, count);
    double v[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        if (!column(words[i + 2], &v[i])) return td_fail(TD_E_FORMAT, "%s line %d: expected '-', 0 or a number from %g to %.0f as %s, found '%s'", where, line, PLAN_FIGURE_MIN, PLAN_FIGURE_MAX, titles[i], words[i + 2]);
    if (v[1] <= 0 || v[3] <= 0 || v[4] <= 0 || v[5] <= 0 || v[8] < 1 || v[8] != floor(v[8]))
        return td_fail(TD_E_FORMAT, "%s line %d: bf16, GB, GB/s, nic must be above 0 and node a whole number of at least 1", where, line);
    plan_hardware h = {.usd_hour = v[0], .bf16 = v[1] * 1e12, .fp8 = v[2] * 1e12, .memory_bytes = v[3] * 1e9, .bandwidth = v[4] * 1e9, .nic = v[5] * 1e9,
                       .nic_latency_s = v[6] * 1e-6, .scale_up = v[7] * 1e9, .node = (int)v[8], .watts = v[9]};
    if (strlen(words[0]) >= sizeof h.name) return td_fail(TD_E_FORMAT, "%s line %d: expected a name of at most %zu letters, found %zu", where, line, sizeof h.name - 1, strlen(words[0]));
    if (!kind_known(words[1])) return td_fail(TD_E_FORMAT, "%s line %d: expected gpu, npu or cpu as kind, found '%s'", where, line, words[1]);
    if (!name_is_plain(words[0])) return td_fail(TD_E_FORMAT, "%s line %d: expected a name of letters, digits, dots, dashes and underscores, found '%s'", where, line, words[0]);
    snprintf(h.name, sizeof h.name, "%s", words[0]);
    snprintf(h.kind, sizeof h.kind, "%s", words[1]);
    while (source && *source == ' ') source++;
    snprintf(h.source, sizeof h.source, "%.199s", source ? source : "no source given");
    *out = h;
    return TD_OK;
}

static td_status parse(const char *where, const char *text, plan_hardware_table *table)
{
    int line = 0;
    while (*text) {
        const char *end = text + strcspn(text, "\n");
        char copy[1024];
        size_t length = (size_t)(end - text);
        line++;
        if (length >= sizeof copy) return td_fail(TD_E_FORMAT, "%s line %d: longer than 1023 bytes", where, line);
        memcpy(copy, text, length);
        copy[length] = 0;
        text = *end ? end + 1 : end;
        char *first = copy + strspn(copy, " \t\r");
        if (!*first || *first == '#') continue;
        plan_hardware item;
        TD_TRY(parse_line(where, line, first, &item));
        TD_TRY(plan_hardware_put(table, &item));
    }
    return TD_OK;
}

td_status plan_hardware_load(const char *path, plan_hardware_table *out)
{
    plan_hardware_table table = {0};
    td_status status = parse("hardware table", plan_hardware_txt, &table);
    if (status == TD_OK && path) {
        char *contents;
        status = td_file_read_text(path, 4 << 20, &contents);
        if (status == TD_OK) {
            status = parse(path, contents, &table);
            free(contents);
        }
    }
    if (status < 0) plan_hardware_free(&table);
    else *out = table;
    return status;
}

void plan_hardware_free(plan_hardware_table *table)
{
    free(table->items);
    *table = (plan_hardware_table){0};
}

td_status plan_hardware_find(const plan_hardware_table *table, const char *name, const plan_hardware **out)
{
    const plan_hardware *nearest = NULL;
    int steps = 1000;
    for (size_t i = 0; i < table->count; i++) {
        if (!strcasecmp(table->items[i].name, name)) {
            *out = &table->items[i];
            return TD_OK;
        }
        int d = plan_distance(table->items[i].name, name);
        if (d < steps) steps = d, nearest = &table->items[i];
    }
    return td_fail(TD_E_NOT_FOUND, "hardware '%s' is not in the table; the nearest name is '%s' ('tandem plan --list-hardware' lists all, --hardware-file adds lines)", name,
                   nearest ? nearest->name : "none");
}
