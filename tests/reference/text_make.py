#!/usr/bin/env python3
"""Writes tests/data/text/: small tokenizers, a corpus, and what the Hugging Face tokenizers library makes of it. Run again only to change the data."""
import json
import pathlib
import random
import struct

import gguf
import numpy
from tokenizers import Tokenizer

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


PRE = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "deepseek": "deepseek-v3", "o200k": "gpt-4o"}


def write_gguf(kind, tokenizer, path, scores=None):
    """The same tokenizer as GGUF metadata, beside one little tensor."""
    data = json.loads(tokenizer.to_str())
    added = {a["id"]: a for a in data["added_tokens"]}
    size = max(tokenizer.get_vocab().values()) + 1
    tokens = [tokenizer.id_to_token(i) for i in range(size)]
    types = [1 if i not in added else 3 if added[i]["special"] else 4 for i in range(size)]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("gpt2" if kind in PRE else "llama")
    writer.add_token_list(tokens)
    if kind in PRE:
        writer.add_tokenizer_pre(PRE[kind])
        writer.add_token_merges([" ".join(m) for m in data["model"]["merges"]])
        if kind == "llama3":
            writer.add_bos_token_id(tokenizer.token_to_id("<|bos|>"))
        writer.add_eos_token_id(tokenizer.token_to_id("<|endoftext|>"))
    else:
        types = [2 if t == "<unk>" else 6 if t.startswith("<0x") else y for t, y in zip(tokens, types)]
        writer.add_token_scores([scores.get(i, -1e9) for i in range(size)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    writer.add_token_types(types)
    writer.add_tensor("token_embd.weight", numpy.zeros((1, 32), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def by_score(tokenizer):
    """A SentencePiece model: its scores, and the same tokenizer with every pair that makes a token as a merge."""
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    made = ["".join(m) for m in data["model"]["merges"]]
    scores = {vocab[t]: float(-n) for n, t in enumerate(dict.fromkeys(made))}
    pairs = []
    for text in dict.fromkeys(made):
        local = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in vocab and text[i:] in vocab]
        pairs += sorted(local, key=lambda p: (vocab[p[0]], vocab[p[1]]))
    data["model"]["merges"] = [list(p) for p in pairs]
    return scores, Tokenizer.from_str(json.dumps(data))


def expectations(tokenizer, texts):
    expected = {"special": [], "plain": []}
    for mode in expected:
        tokenizer.encode_special_tokens = mode == "plain"
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            expected[mode].append([len(ids), fnv(ids)])
    tokenizer.encode_special_tokens = False
    return expected


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
        if kind in PRE:
            write_gguf(kind, tokenizer, OUT / f"{kind}.gguf")
        if kind == "sentencepiece":
            scores, all_pairs = by_score(tokenizer)
            write_gguf("scores", all_pairs, OUT / "scores.gguf", scores)
            compact(expectations(all_pairs, texts), OUT / "scores.expected.json")
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
