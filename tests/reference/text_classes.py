#!/usr/bin/env python3
"""Every code point through the regular expressions, the normal forms and the character rules of tokenizers: the same as the `tokenizers` library for all
1,112,064 of them.   text_classes.py BUILD_DIR [--all | NAME..]   (without names: what published tokenizers use, half a minute; --all: several)"""
import json
import pathlib
import sys
import tempfile

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from text_probe import Failed, Probe

CATEGORIES = "L N P S M Z C Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cn Co".split()
SCRIPTS = "Han Hiragana Katakana Latin Cyrillic Arabic Devanagari Greek Hebrew Thai Hangul Common Inherited".split()
PATTERNS = [r"\p{%s}" % c for c in CATEGORIES + SCRIPTS] + [r"\P{L}", r"\p{^N}", r"[^\p{P}]", r"[\P{M}]", r"\s", r"\S", r"[\s]", r"[^\s]", r"\w", r"\W", r"[\w]", r"\d", r"\D", r"[\d]", r"\h", r"\H",
    r"[^\r\n\p{L}\p{N}]", r"[\p{L}\p{M}]", r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{P}\p{S}]", r"[一-龥぀-ゟ゠-ヿ]", r"(?i:[a-z])", r"(?i:s)", r"(?i:k)", r"(?i:ß)", r"(?i:[\u00c0-\u00ff])", r".", r"[[:alpha:]]", r"[[:digit:]]", r"[[:alnum:]]", r"[[:space:]]",
    r"[[:punct:]]", r"[[:upper:]]", r"[[:lower:]]", r"[[:cntrl:]]", r"[[:xdigit:]]", r"[[:word:]]", r"[[:^alpha:]]", r"\p{Letter}", r"\p{Alphabetic}", r"\p{Uppercase}", r"\p{Lowercase}", r"\p{White_Space}"]
USED = [r"\p{L}", r"\p{N}", r"\p{P}", r"\p{Lu}", r"\p{Han}", r"[^\r\n\p{L}\p{N}]", r"[^\r\n\p{L}\p{P}\p{S}]", r"[\p{L}\p{M}]", r"[^\s\p{L}\p{N}]", r"\s", r"\w", "contraction '{}", "NFC", "NFKC"]
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
POINTS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def byte_tokenizer():
    """256 tokens, so that ids are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    return t


def byte_chars():
    """The alphabet of byte-level tokenizers: byte -> code point."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {**{b: b for b in plain}, **{b: 256 + n for n, b in enumerate(b for b in range(256) if b not in plain)}}


def texts_of(unit):
    """unit(c) for every code point, a few thousand a text."""
    return ["".join(unit(c) for c in POINTS[i:i + 4096]) for i in range(0, len(POINTS), 4096)]


def compare(probe, name, normalizer, texts, folder):
    t = byte_tokenizer()
    t.normalizer = normalizer
    file = folder / "t.json"
    t.save(str(file))
    try:
        probe.open(json=file)
    except Failed as refusal:
        print(f"{name}: refused: {refusal}")
        return 0
    wrong = 0
    bytes_of = bytes(b for c, b in sorted((chr(c), b) for b, c in byte_chars().items()))
    ours = [bytes(bytes_of[i] for i in ids).decode() for ids in probe.encode(texts)]
    for text, mine in zip(texts, ours):
        expected = normalizer.normalize_str(text)
        if mine == expected:
            continue
        for a, b, c in zip(mine.split("|"), expected.split("|"), text.split("|")):
            if a != b:
                wrong += 1
                if wrong <= 8:
                    print(f"{name}: {[hex(ord(x)) for x in c]}: expected {b!r}, found {a!r}")
    if wrong:
        print(f"{name}: {wrong} differ")
    return wrong


def lengths(probe, name, pre, texts, folder):
    """Pieces of a pre-tokenizer: marked by a prefix space before each."""
    t = byte_tokenizer()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre, pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])
    file = folder / "t.json"
    t.save(str(file))
    probe.open(json=file)
    wrong = 0
    for text, mine in zip(texts, probe.encode(texts)):
        expected = t.encode(text).ids
        if mine != expected:
            wrong += 1
            if wrong <= 4:
                at = next((i for i, (a, b) in enumerate(zip(mine, expected)) if a != b), min(len(mine), len(expected)))
                print(f"{name}: other pieces near {t.decode(expected[max(0, at - 10):at + 10])!r}, found {t.decode(mine[max(0, at - 10):at + 10])!r}")
    return wrong


def main():
    probe = Probe(pathlib.Path(sys.argv[1]))
    only = [] if sys.argv[2:] == ["--all"] else sys.argv[2:] or USED
    wrong = 0
    singles = texts_of(lambda c: c + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for pattern in PATTERNS:
            if not only or pattern in only:
                wrong += compare(probe, pattern, normalizers.Replace(Regex(pattern), "#"), singles, folder)
        for unit in ("'{}", "'l{}", "'r{}", "'{}e", "'{}l", "'v{}"):
            if not only or f"contraction {unit}" in only:
                wrong += compare(probe, f"contraction {unit}", normalizers.Replace(Regex(CONTRACTION), "#"), texts_of(lambda c, unit=unit: unit.format(c) + "|"), folder)
        for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
            if not only or form in only:
                wrong += compare(probe, form, getattr(normalizers, form)(), singles, folder)
        for kind, pre in (("Digits", pre_tokenizers.Digits(individual_digits=True)), ("Punctuation", pre_tokenizers.Punctuation()), ("WhitespaceSplit", pre_tokenizers.WhitespaceSplit()), ("Whitespace", pre_tokenizers.Whitespace())):
            if not only or kind in only:
                wrong += lengths(probe, kind, pre, texts_of(lambda c: "a" + c), folder)
    print(f"classes: {len(POINTS)} code points, {wrong} differences")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
