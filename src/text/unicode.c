/* unicode.c - categories and normal forms over utf8proc, with the newer code points added. See unicode.h. */
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/unicode_new.h"

unsigned td_unicode_category(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    if (code == 0x1171E) return 'M' << 8 | 'c'; /* Mn before Unicode 16 */
    if (category != UTF8PROC_CATEGORY_CN) {
        const char *name = utf8proc_category_string((utf8proc_int32_t)code);
        return (unsigned)name[0] << 8 | (unsigned)name[1];
    }
    if (code < 0x32000)
        for (size_t i = 0; i < TD_COUNT(new_categories); i++)
            if (code >= new_categories[i].first && code <= new_categories[i].last) return (unsigned)new_categories[i].name[0] << 8 | (unsigned)new_categories[i].name[1];
    return 'C' << 8 | 'n';
}

uint32_t td_unicode_lower(uint32_t code)
{
    for (size_t i = 0; code >= new_lower[0].code && i < TD_COUNT(new_lower); i++)
        if (new_lower[i].code == code) return new_lower[i].lower;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
}

bool td_unicode_punctuation(uint32_t code)
{
    unsigned category = td_unicode_category(code) >> 8;
    for (size_t i = 0; code >= 0x80 && i < TD_COUNT(other_punctuation); i++)
        if (code >= other_punctuation[i].first && code <= other_punctuation[i].last) return other_punctuation[i].name[0] == 'y';
    return category == 'P' || (code < 0x80 && category == 'S');
}

bool td_unicode_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool td_unicode_word(uint32_t code)
{
    if (code == 0x200C || code == 0x200D) return true;
    /* circled and squared letters are symbols with the property Alphabetic */
    if ((code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189)) return true;
    switch (td_unicode_category(code)) {
    case 'N' << 8 | 'd': case 'N' << 8 | 'l': case 'P' << 8 | 'c': return true;
    default: return td_unicode_category(code) >> 8 == 'L' || td_unicode_category(code) >> 8 == 'M';
    }
}

/* Names are compared as the standard says: case, spaces, '-' and '_' do not matter. */
static bool same_name(const char *name, size_t length, const char *known)
{
    size_t i = 0;
    for (; i < length; i++) {
        char c = name[i];
        if (c == '_' || c == '-' || c == ' ') continue;
        while (*known == '_') known++;
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != (*known >= 'A' && *known <= 'Z' ? *known + 32 : *known) || !*known) return false;
        known++;
    }
    return !*known;
}

const char *td_unicode_property(const char *name, size_t length)
{
    static const char *const long_names[][2] = {{"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"}, {"Separator", "Z"}, {"Other", "C"},
        {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"}, {"Titlecase_Letter", "Lt"}, {"Modifier_Letter", "Lm"}, {"Other_Letter", "Lo"}, {"Nonspacing_Mark", "Mn"}, {"Spacing_Mark", "Mc"},
        {"Enclosing_Mark", "Me"}, {"Decimal_Number", "Nd"}, {"Letter_Number", "Nl"}, {"Other_Number", "No"}, {"Connector_Punctuation", "Pc"}, {"Dash_Punctuation", "Pd"}, {"Open_Punctuation", "Ps"},
        {"Close_Punctuation", "Pe"}, {"Initial_Punctuation", "Pi"}, {"Final_Punctuation", "Pf"}, {"Other_Punctuation", "Po"}, {"Math_Symbol", "Sm"}, {"Currency_Symbol", "Sc"}, {"Modifier_Symbol", "Sk"},
        {"Other_Symbol", "So"}, {"Space_Separator", "Zs"}, {"Line_Separator", "Zl"}, {"Paragraph_Separator", "Zp"}, {"Control", "Cc"}, {"Format", "Cf"}, {"Unassigned", "Cn"}, {"Private_Use", "Co"}};
    for (size_t i = 0; i < TD_COUNT(long_names); i++)
        if (same_name(name, length, long_names[i][1]) || same_name(name, length, long_names[i][0])) return long_names[i][1];
    for (size_t i = 0; i < TD_COUNT(new_scripts); i++)
        if (same_name(name, length, new_scripts[i].name)) return new_scripts[i].name;
    return NULL;
}

void td_unicode_new_ranges(const char *name, td_buffer *out)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < TD_COUNT(new_categories); i++)
        if (length <= 2 && !strncmp(name, new_categories[i].name, length)) td_buffer_format(out, "\\x{%x}-\\x{%x}", new_categories[i].first, new_categories[i].last);
    for (size_t i = 0; length > 2 && i < TD_COUNT(new_scripts); i++)
        if (!strcmp(name, new_scripts[i].name)) td_buffer_format(out, "\\x{%x}-\\x{%x}", new_scripts[i].first, new_scripts[i].last);
}

void td_unicode_category_ranges(const char *name, bool others, td_buffer *out)
{
    uint32_t first = 0;
    bool open = false;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        bool surrogate = code >= 0xD800 && code <= 0xDFFF; /* no text holds one */
        unsigned category = code < 0x110000 && !surrogate ? td_unicode_category(code) : 0;
        bool in = category && (category >> 8 == (unsigned char)name[0] && (!name[1] || (category & 0xFF) == (unsigned char)name[1])) != others;
        if (in && !open) first = code;
        if (!in && open) td_buffer_format(out, "\\x{%x}-\\x{%x}", first, code - 1);
        open = in;
    }
}

/* The reference's normalizer knows Unicode 9. Marks that are younger are ordinary characters to it: they are not reordered and end a composition; younger
 * decompositions do not happen. Found by comparing every code point, alone and among marks (tests/reference/text_compare.py). */
static const struct { int first, last; } young_marks[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C}, {0xD3B, 0xD3C}, {0xEBA, 0xEBA}, {0x1715, 0x1715}, {0x1ABF, 0x1ACE},
    {0x1DF6, 0x1DFA}, {0xA82C, 0xA82C}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};
static const struct { int first, last; } young_decompositions[] = {
    {0x32FF, 0x32FF}, {0xA7F2, 0xA7F4}, {0xAB69, 0xAB69}, {0x10781, 0x107BA}, {0x11938, 0x11938}, {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
};
enum { YOUNG_SECOND = 0x11930 }; /* second half of the only younger composition */

static bool is_young_mark(int code)
{
    if (code < 0x7FD) return false;
    for (size_t i = 0; i < TD_COUNT(young_marks); i++)
        if (code >= young_marks[i].first && code <= young_marks[i].last) return true;
    return false;
}

static bool is_young_decomposition(int code)
{
    if (code < 0x32FF) return false;
    for (size_t i = 0; i < TD_COUNT(young_decompositions); i++)
        if (code >= young_decompositions[i].first && code <= young_decompositions[i].last) return true;
    return false;
}

static int ccc(utf8proc_int32_t code)
{
    int class = utf8proc_get_property(code)->combining_class;
    return class && is_young_mark(code) ? 0 : class;
}

/* Composes in place, each stretch between young marks on its own; returns the new count. */
static size_t compose_all(utf8proc_int32_t *codes, size_t count)
{
    size_t written = 0;
    for (size_t from = 0; from < count;) {
        size_t end = from + 1;
        while (end < count && codes[end] != YOUNG_SECOND && !is_young_mark(codes[end])) end++;
        utf8proc_ssize_t n = utf8proc_normalize_utf32(codes + from, (utf8proc_ssize_t)(end - from), UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        size_t kept = n >= 0 ? (size_t)n : end - from;
        memmove(codes + written, codes + from, kept * sizeof *codes);
        written += kept;
        from = end;
    }
    return written;
}

/* Stable sort of one run of combining marks by their class: counting sort, so that a hostile run of a million marks stays linear. */
static void sort_run(utf8proc_int32_t *codes, utf8proc_int32_t *scratch, size_t count)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++) starts[ccc(codes[i]) + 1]++;
    for (int c = 0; c < 256; c++) starts[c + 1] += starts[c];
    for (size_t i = 0; i < count; i++) scratch[starts[ccc(codes[i])]++] = codes[i];
    memcpy(codes, scratch, count * sizeof *codes);
}

static void order_marks(utf8proc_int32_t *codes, utf8proc_int32_t *scratch, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        bool sorted = true;
        for (; end < count && ccc(codes[end]) > 0; end++)
            if (end > i && ccc(codes[end]) < ccc(codes[end - 1])) sorted = false;
        if (!sorted) sort_run(codes + i, scratch, end - i);
        i = end + (end == i || end < count);
    }
}

/* Below U+0300 everything is its own NFC; a byte above 0xCB starts or belongs to something higher. */
static bool surely_normal(td_normal_form form, const char *text, size_t bytes)
{
    unsigned char limit = form == TD_NFC ? 0xCC : 0x80;
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] >= limit) return false;
    return true;
}

td_status td_unicode_normalize(td_normal_form form, const char *text, size_t bytes, td_buffer *out)
{
    if (surely_normal(form, text, bytes)) {
        td_buffer_put(out, text, bytes);
        return td_buffer_status(out);
    }
    bool compat = form == TD_NFKC || form == TD_NFKD, compose = form == TD_NFC || form == TD_NFKC;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    size_t capacity = bytes + 64, count = 0;
    utf8proc_int32_t *codes = malloc(capacity * sizeof *codes);
    for (size_t i = 0; codes && i < bytes;) {
        size_t length = td_utf8_length(text + i, bytes - i);
        if (capacity - count < 32) {
            utf8proc_int32_t *grown = realloc(codes, (capacity *= 2) * sizeof *codes);
            if (!grown) free(codes);
            codes = grown;
            if (!codes) break;
        }
        int last_boundary = 0;
        utf8proc_int32_t code = (utf8proc_int32_t)td_utf8_decode(text + i, length);
        utf8proc_ssize_t n = 1;
        if (is_young_decomposition(code)) codes[count] = code;
        else n = utf8proc_decompose_char(code, codes + count, (utf8proc_ssize_t)(capacity - count), options, &last_boundary);
        if (n < 0) break; /* cannot happen: the longest decomposition is 18 code points */
        count += (size_t)n;
        i += length;
    }
    utf8proc_int32_t *scratch = codes ? malloc((count + 1) * sizeof *scratch) : NULL;
    if (!scratch) {
        free(codes);
        return td_fail(TD_E_MEMORY, "normalising text: no memory for %zu code points", count);
    }
    order_marks(codes, scratch, count);
    if (compose) count = compose_all(codes, count);
    for (size_t i = 0; i < count; i++) {
        char one[4];
        td_buffer_put(out, one, td_utf8_encode((uint32_t)codes[i], one));
    }
    free(scratch);
    free(codes);
    return td_buffer_status(out);
}
