/* grammar_number.c - integers and numbers between bounds, as GBNF over their digits. See grammar_make.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/grammar_make.h"

enum { DIGITS_MAX = 15 };
#define LIMIT 1000000000000000ll /* bounds are below it, so that doubles hold them exactly */

static void separate(td_buffer *out, bool *any)
{
    if (*any) td_buffer_text(out, " | ");
    *any = true;
}

static void digits_any(td_buffer *out, int count)
{
    if (count > 0) td_buffer_format(out, " [0-9]{%d}", count);
}

/* Numbers of one length from low to high, digit by digit. */
static void put_same_length(td_buffer *out, const char *low, const char *high, bool *any, const char *prefix, int prefix_length)
{
    int n = (int)strlen(low), same = 0;
    while (same < n && low[same] == high[same]) same++;
    if (same == n) {
        separate(out, any);
        td_buffer_format(out, "\"%.*s%s\"", prefix_length, prefix, low);
        return;
    }
    char next[2 * DIGITS_MAX + 4], least[DIGITS_MAX + 2] = "", most[DIGITS_MAX + 2] = "";
    int rest = n - same - 1, length = snprintf(next, sizeof next, "%.*s%.*s", prefix_length, prefix, same, low);
    memset(least, '0', (size_t)rest);
    memset(most, '9', (size_t)rest);
    char first = low[same], last = high[same];
    bool from_least = !strcmp(low + same + 1, least), to_most = !strcmp(high + same + 1, most);
    if (!from_least) {
        next[length] = first++;
        put_same_length(out, low + same + 1, most, any, next, length + 1);
    }
    if (!to_most) last--;
    if (first <= last) {
        separate(out, any);
        if (length) td_buffer_format(out, "\"%.*s\" ", length, next);
        td_buffer_format(out, "[%c-%c]", first, last);
        digits_any(out, rest);
    }
    if (!to_most) {
        next[length] = high[same];
        put_same_length(out, least, high + same + 1, any, next, length + 1);
    }
}

/* Whole numbers low..high (0 <= low), high -1: without end (of at most DIGITS_MAX digits). */
static void put_range(td_buffer *out, long long low, long long high, bool *any)
{
    char from[24], to[24];
    if (high < 0) high = LIMIT - 1;
    if (low > high) return;
    snprintf(from, sizeof from, "%lld", low);
    for (int n = (int)strlen(from);; n++) {
        long long most = 0;
        for (int i = 0; i < n; i++) most = most * 10 + 9;
        snprintf(to, sizeof to, "%lld", most < high ? most : high);
        put_same_length(out, from, to, any, "", 0);
        if (most >= high) return;
        memset(from, '0', (size_t)n + 1);
        from[0] = '1';
        from[n + 1] = 0;
    }
}

/* Magnitudes low..high; open ends are excluded (only with fractions: for whole numbers the caller moved the bound). */
static void put_magnitudes(td_buffer *out, bool whole, long long low, bool low_open, long long high, bool high_open, const char *sign, bool *any)
{
    td_buffer part = {0};
    bool some = false;
    if (whole) {
        put_range(&part, low, high, &some);
        if (some) separate(out, any), td_buffer_format(out, "%s ( %s )", sign, part.data);
        td_buffer_free(&part);
        return;
    }
    long long first = low_open ? low + 1 : low;
    if (high < 0 || first < high) put_range(&part, first, high < 0 ? -1 : high - 1, &some); /* these with any fraction */
    if (some) separate(out, any), td_buffer_format(out, "%s ( %s ) ( \".\" [0-9]{1,15} )?", sign, part.data);
    if (low_open && (high < 0 || low < high)) separate(out, any), td_buffer_format(out, "%s \"%lld.\" [0-9]{0,14} [1-9]", sign, low);
    if (high >= 0 && !high_open && low <= high && !(low_open && low == high)) separate(out, any), td_buffer_format(out, "%s \"%lld\" ( \".\" \"0\"{1,4} )?", sign, high);
    td_buffer_free(&part);
}

/* One of the four bounds; *found false when it is absent. */
static td_status read_bound(const cJSON *schema, const char *key, bool whole, bool lower, bool *found, long long *out, bool *open)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(schema, key);
    bool exclusive = key[0] == 'e';
    *found = false;
    if (!item || (exclusive && cJSON_IsFalse(item))) return TD_OK;
    if (!cJSON_IsNumber(item)) return td_fail(TD_E_UNSUPPORTED, "schema: %s: expected a number", key);
    double v = item->valuedouble;
    if (!(fabs(v) < LIMIT / 10)) return td_fail(TD_E_UNSUPPORTED, "schema: %s: expected a number below 10^14", key);
    if (whole && v != floor(v)) v = lower ? ceil(v) : floor(v), exclusive = false;
    if (v != floor(v)) return td_fail(TD_E_UNSUPPORTED, "schema: %s: a bound with a fraction cannot be enforced here for numbers", key);
    if (whole && exclusive) v += lower ? 1 : -1, exclusive = false;
    *out = (long long)v;
    *open = exclusive;
    *found = true;
    return TD_OK;
}

/* The tighter of an inclusive and an exclusive bound. */
static td_status read_side(const cJSON *schema, const char *inclusive, const char *exclusive, bool whole, bool lower, bool *found, long long *out, bool *open)
{
    bool second, second_open = false;
    long long value = 0;
    TD_TRY(read_bound(schema, inclusive, whole, lower, found, out, open));
    TD_TRY(read_bound(schema, exclusive, whole, lower, &second, &value, &second_open));
    if (second && (!*found || (lower ? value > *out : value < *out) || (value == *out && second_open))) *out = value, *open = second_open;
    *found |= second;
    return TD_OK;
}

td_status td_gbnf_number(td_buffer *out, const cJSON *schema, bool whole, bool *bounded)
{
    bool has_low, has_high, low_open = false, high_open = false, any = false;
    long long low = 0, high = 0;
    TD_TRY(read_side(schema, "minimum", "exclusiveMinimum", whole, true, &has_low, &low, &low_open));
    TD_TRY(read_side(schema, "maximum", "exclusiveMaximum", whole, false, &has_high, &high, &high_open));
    *bounded = has_low || has_high;
    if (!*bounded) return TD_OK;
    td_buffer_text(out, "( ");
    if (!has_high || high >= 0) { /* zero and above */
        bool above = has_low && low >= 0;
        put_magnitudes(out, whole, above ? low : 0, above && low_open, has_high ? high : -1, high_open, "", &any);
    }
    if (!has_low || low < 0) { /* below zero: magnitudes the other way round */
        bool below = has_high && high < 0;
        put_magnitudes(out, whole, below ? -high : whole ? 1 : 0, below ? high_open : !whole, has_low ? -low : -1, low_open, "\"-\"", &any);
    }
    td_buffer_text(out, " )");
    return any ? td_buffer_status(out) : td_fail(TD_E_INVALID, "schema: no number is between its minimum and maximum");
}
