#!/usr/bin/env python3
"""Writes src/text/unicode_new.h: code points that Unicode 15, 15.1 and 16 assigned, by category and by script.

PCRE2 10.42 and utf8proc 2.8 know Unicode 14 and 15; the regular expressions of the reference tokenizers know Unicode 16. The table is found by
asking the reference library about every code point, so it can be made again when either side moves on:
    text_unicode.py PCRE2_UNASSIGNED > src/text/unicode_new.h
where PCRE2_UNASSIGNED is a file of 0x110000 bytes, 1 where this PCRE2 says \\p{Cn} (see --probe for the program that writes it)."""
import sys

from tokenizers import Regex, pre_tokenizers

PROBE = r"""
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
int main(void)
{
    int error; size_t at; pcre2_code *code = pcre2_compile((PCRE2_SPTR)"\\p{Cn}", PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &at, 0);
    pcre2_match_data *match = pcre2_match_data_create(1, 0);
    for (unsigned c = 0; c < 0x110000; c++) {
        unsigned char t[4]; size_t n;
        if (c < 0x80) { t[0] = c; n = 1; }
        else if (c < 0x800) { t[0] = 0xC0 | c >> 6; t[1] = 0x80 | (c & 63); n = 2; }
        else if (c < 0x10000) { t[0] = 0xE0 | c >> 12; t[1] = 0x80 | (c >> 6 & 63); t[2] = 0x80 | (c & 63); n = 3; }
        else { t[0] = 0xF0 | c >> 18; t[1] = 0x80 | (c >> 12 & 63); t[2] = 0x80 | (c >> 6 & 63); t[3] = 0x80 | (c & 63); n = 4; }
        putchar((c < 0xD800 || c > 0xDFFF) && pcre2_match(code, t, n, 0, 0, match, 0) > 0);
    }
}
"""
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()
SCRIPTS = "Han Hiragana Katakana Latin Cyrillic Arabic Devanagari Greek Hebrew Thai Hangul Common Inherited".split()


def ranges(points):
    found = []
    for c in points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def main():
    if sys.argv[1:] == ["--probe"]:
        print(PROBE)
        return
    unassigned = open(sys.argv[1], "rb").read()
    points = [c for c in range(0x110000) if unassigned[c]]
    print("/* unicode_new.h - code points assigned by Unicode 15, 15.1 and 16, which PCRE2 10.42 and utf8proc 2.8 do not know yet, by category and script.")
    print(" * Written by tests/reference/text_unicode.py; sorted by code point within each name. */")
    for table, names in (("new_categories", CATEGORIES), ("new_scripts", SCRIPTS)):
        print(f"static const struct {{ char name[12]; uint32_t first, last; }} {table}[] = {{")
        for name in names:
            split = pre_tokenizers.Split(Regex("\\p{%s}" % name), "removed")
            for low, high in ranges([c for c in points if not split.pre_tokenize_str(chr(c))]):
                print(f'    {{"{name}", 0x{low:X}, 0x{high:X}}},')
        print("};")


if __name__ == "__main__":
    main()
