#!/usr/bin/env python3
"""Writes src/text/unicode_new.h: where the reference library (Unicode 16) and the C libraries here (PCRE2 10.42: Unicode 14; utf8proc 2.8: Unicode 15)
know different characters. Both sides are asked about every code point, so the table can be made again when either moves on:
    text_unicode.py > src/text/unicode_new.h          (Debian's libpcre2-8.so.0 and libutf8proc.so.2, tests/requirements.txt)
tests/reference/text_classes.py checks the outcome for every code point."""
import ctypes
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
SCRIPTS = ("Adlam Arabic Armenian Balinese Bengali Bopomofo Braille Cherokee Common Coptic Cyrillic Devanagari Egyptian_Hieroglyphs Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew "
           "Hiragana Inherited Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Oriya Sinhala Syriac Tamil Telugu Thaana Thai Tibetan Yi").split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXTS = ["".join(map(chr, POINTS[i:i + 4096])) for i in range(0, len(POINTS), 4096)]
pcre2, utf8proc = ctypes.CDLL("libpcre2-8.so.0"), ctypes.CDLL("libutf8proc.so.2")
POINTER, SIZE, U32 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
for function, result, arguments in (
        ("pcre2_compile_8", POINTER, [ctypes.c_char_p, SIZE, U32, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(SIZE), POINTER]), ("pcre2_match_data_create_8", POINTER, [U32, POINTER]),
        ("pcre2_match_8", ctypes.c_int, [POINTER, ctypes.c_char_p, SIZE, SIZE, U32, POINTER, POINTER]), ("pcre2_get_ovector_pointer_8", ctypes.POINTER(SIZE), [POINTER])):
    getattr(pcre2, function).restype, getattr(pcre2, function).argtypes = result, arguments
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
utf8proc.utf8proc_tolower.restype = ctypes.c_int32


def library(name):
    """Code points of a property, as the reference library sees it."""
    others = normalizers.Replace(Regex("[^\\p{%s}]" % name), "")
    return {ord(c) for text in TEXTS for c in others.normalize_str(text)}


def here(name):
    """The same for this PCRE2."""
    error, at, found = ctypes.c_int(), SIZE(), set()
    pattern = b"\\p{%s}+" % name.encode()
    code = pcre2.pcre2_compile_8(pattern, len(pattern), 0x00080000 | 0x00020000, ctypes.byref(error), ctypes.byref(at), None)  # UTF, UCP
    match = pcre2.pcre2_match_data_create_8(1, None)
    for text in TEXTS:
        data, start = text.encode(), 0
        while start < len(data) and pcre2.pcre2_match_8(code, data, len(data), start, 0x40000000, match, None) > 0:
            span = pcre2.pcre2_get_ovector_pointer_8(match)
            found.update(map(ord, data[span[0]:span[1]].decode()))
            start = span[1]
    return found


def ranges(points):
    found = []
    for c in sorted(points):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def table(name, rows):
    print(f"static const struct {{ char name[24]; uint32_t first, last; }} {name}[] = {{")
    for key, points in rows:
        for low, high in ranges(points):
            print(f'    {{"{key}", 0x{low:X}, 0x{high:X}}},')
    print("};")


def main():
    print("/*\n * unicode_new.h - where the reference tokenizers (Unicode 16) know other characters than PCRE2 10.42 (Unicode 14) and utf8proc 2.8 (Unicode 15).")
    print(" * Written by tests/reference/text_unicode.py, checked for every code point by text_classes.py. Sorted by code point within each name.\n */")
    theirs = {name: library(name) for name in CATEGORIES}
    ours = {name: here(name) for name in CATEGORIES}
    moved = {name for name in CATEGORIES if ours[name] - theirs[name]}
    if moved != {"Mn"}:
        sys.exit(f"expected that only Mn lost a character, found {moved}: unicode.c has to know")
    table("new_categories", ((name, theirs[name] - ours[name]) for name in CATEGORIES))
    table("new_scripts", ((name, library(name) - here("sc:" + name)) for name in SCRIPTS))
    lower = normalizers.Lowercase()
    pairs = [(c, lower.normalize_str(chr(c)), utf8proc.utf8proc_tolower(c)) for c in POINTS]
    print("/* lower case that utf8proc does not know */\nstatic const struct { uint32_t code, lower; } new_lower[] = {")
    for c, text, mine in pairs:
        if len(text) == 1 and ord(text) != mine:
            print(f"    {{0x{c:X}, 0x{ord(text):X}}},")
    print("};\n/* what the reference's Punctuation pre-tokenizer, which goes by an older Unicode, sees differently than category P and ASCII symbols */")
    split = pre_tokenizers.Punctuation("removed")
    kept = {ord(c) for text in TEXTS for piece, _ in split.pre_tokenize_str(text) for c in piece}
    newer = set().union(*(theirs[name] for name in CATEGORIES if name[0] == "P")) | {c for c in range(128) if c in theirs["Sm"] | theirs["Sc"] | theirs["Sk"]}
    table("other_punctuation", [("no", newer & kept), ("yes", set(POINTS) - kept - newer)])


if __name__ == "__main__":
    main()
