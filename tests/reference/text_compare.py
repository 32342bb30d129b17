#!/usr/bin/env python3
"""Slow comparison with the reference libraries: fresh random tokenizers and texts through `tandem tokenize`, every code point and composition through the
normalizer, fresh random templates through tests/test_chat.   text_compare.py BUILD_DIR [SEED]"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

from tokenizers import Tokenizer

import text_corpus
import text_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def ours(build, folder, texts, plain):
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="ascii")
    command = [str(build / "tandem"), "tokenize", str(folder), "--file", str(file), "--each"] + ["--plain"] * plain
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(build, kind, tokenizer, texts):
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file in ("config.json", "model.safetensors"):  # any model: only its tokenizer is asked
            os.symlink(ROOT / "models" / "nano" / file, folder / file)
        tokenizer.save(str(folder / "tokenizer.json"))
        for plain in (False, True):
            tokenizer.encode_special_tokens = plain
            expected = tokenizer.encode_batch(texts, add_special_tokens=False)
            for text, mine, theirs in zip(texts, ours(build, folder, texts, plain), expected):
                if mine != theirs.ids:
                    wrong += 1
                    if wrong < 5:
                        print(f"{kind} plain={plain}: {text!r}\n  expected {theirs.ids}\n  found    {mine}")
    print(f"{kind}: {len(texts)} texts, {wrong} differ")
    return wrong


def unicode_texts():
    singles = ["a" + chr(c) + "b" for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and not (0x3400 < c < 0x9F00 or 0xAC10 < c < 0xD700 or 0x20010 < c < 0x2B700 or c > 0xF0100)]
    marks = [chr(c) for c in range(0x300, 0x20000) if unicodedata.combining(chr(c)) or unicodedata.category(chr(c)) in ("Mn", "Mc")]
    ordered = [t for m in marks for t in ("a" + m + "\u0323", "a\u0301" + m, "a" + m + "\u0301\u0323" + m)]
    composed = [unicodedata.normalize("NFD", chr(c)) for c in range(0x110000) if unicodedata.decomposition(chr(c)) and not unicodedata.decomposition(chr(c)).startswith("<")]
    return singles + ordered + composed


def templates(build, seed):
    made = subprocess.run([sys.executable, "-W", "ignore", str(ROOT / "tests/reference/text_templates.py"), "--random", str(seed), "300"], capture_output=True, text=True, check=True).stdout
    cases = json.loads(made)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        # what prints addresses or differs by Python's own typing of generators is not comparable
        cases["cases"] = [c for c in cases["cases"] if "object at 0x" not in c.get("expected", "") and not c.get("error")]
        json.dump(cases, file, ensure_ascii=False)
        file.flush()
        done = subprocess.run([str(build / "tests/test_chat")], env={**os.environ, "TD_TEMPLATES": file.name, "TD_SOURCE": str(ROOT)}, capture_output=True, text=True, check=False)
    print(f"templates: {len(cases['cases'])} random ones, {'the same' if done.returncode == 0 else 'different'}")
    if done.returncode:
        print(done.stderr[:4000])
    return done.returncode


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print("seed", seed)
    wrong = 0
    for kind in text_tokenizers.KINDS:
        rng = random.Random(f"{seed}{kind}")
        texts = text_corpus.block_texts(rng) + [text_corpus.random_text(rng) for _ in range(600)]
        if kind in ("qwen2", "odd"):
            texts += rng.sample(unicode_texts(), 150000)
        wrong += compare(build, kind, text_tokenizers.make(kind, seed), texts)
    wrong += templates(build, seed)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
