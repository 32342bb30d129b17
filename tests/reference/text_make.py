#!/usr/bin/env python3
"""Writes tests/data/text/: small tokenizers, a corpus, and what the Hugging Face tokenizers library makes of it. Run again only to change the data."""
import json
import pathlib
import random
import struct

import text_corpus
import text_tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "text"
FULL = 40  # so many texts have their ids in full, the others a count and a hash


def fnv(ids):
    h = 0xCBF29CE484222325
    for byte in b"".join(struct.pack("<i", i) for i in ids):
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return "%016x" % h


def compact(value, path):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    texts = text_corpus.corpus(7, 220)
    compact(texts, OUT / "corpus.json")
    for kind in text_tokenizers.KINDS:
        tokenizer = text_tokenizers.make(kind, 1, 520 if kind not in ("sentencepiece", "metaspace") else 700)
        data = json.loads(tokenizer.to_str())
        if kind == "gpt2":  # the older spelling of merges
            data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
        compact(data, OUT / f"{kind}.tokenizer.json")
        rng = random.Random(3)
        expected = {"special": [], "plain": [], "decode": []}
        for mode in ("special", "plain"):
            tokenizer.encode_special_tokens = mode == "plain"
            for n, text in enumerate(texts):
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                expected[mode].append(ids if n < FULL and mode == "special" else [len(ids), fnv(ids)])
        tokenizer.encode_special_tokens = False
        size = max(tokenizer.get_vocab().values()) + 1
        for n in range(72):
            if n % 3 == 0:
                ids = [rng.randrange(size) for _ in range(rng.randrange(1, 24))]
            else:
                ids = tokenizer.encode(rng.choice(texts), add_special_tokens=n % 3 == 1).ids[:40]
            shown = tokenizer.decode(ids, skip_special_tokens=True)
            if kind in ("sentencepiece", "metaspace") and "\ufffd" in shown:
                continue  # a stream shows broken runs of byte tokens byte by byte, the reference gives up the whole run
            expected["decode"].append([ids, shown, tokenizer.decode(ids, skip_special_tokens=False)])
        compact(expected, OUT / f"{kind}.expected.json")
        print(kind, size, (OUT / f"{kind}.tokenizer.json").stat().st_size, (OUT / f"{kind}.expected.json").stat().st_size)


if __name__ == "__main__":
    main()
