#!/usr/bin/env python3
"""Random tokenizers against the Hugging Face tokenizers library: added tokens with every mix of single_word, lstrip, rstrip, normalized and special, Metaspace
with every scheme, normalizers that change what added tokens look like. Ids of random texts, and texts of their ids.   text_fuzz.py BUILD_DIR SEED SECONDS"""
import contextlib
import json
import os
import pathlib
import random
import resource
import sys
import tempfile
import time

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import text_corpus
from text_probe import Failed, Probe

# Pieces that added tokens and texts are both made of, so that they meet often: cases, compositions, spaces that are not U+0020, the metaspace itself.
PIECES = ["a", "b", "A", "B", "é", "e\u0301", "É", "ﬁ", "fi", "ß", "İ", "x", "xx", "1", "_", "-", "<", ">", ".", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b", "\x85", "▁", "中", "文", "🙂", "\u0301", "word", "Word"]
SPECIAL = 2  # TD_TOKENIZE_SPECIAL


def text_of(rng, pieces, most):
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(1, most)))


def a_normalizer(rng):
    steps = [normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase, lambda: normalizers.Prepend("▁"), lambda: normalizers.Replace(" ", "▁"),
             lambda: normalizers.Strip(left=rng.random() < 0.5, right=rng.random() < 0.5), lambda: normalizers.Replace(Regex(r"x+"), rng.choice(["", "y", "a b"])), lambda: normalizers.Replace("b", "")]
    count = rng.choice([0, 0, 1, 1, 2])
    return normalizers.Sequence([rng.choice(steps)() for _ in range(count)]) if count else None


def a_metaspace(rng):
    return {"prepend_scheme": rng.choice(["always", "first", "never"]), "replacement": rng.choice(["▁", "▁", "▁", "_"])}


def a_tokenizer(rng, training):
    """The tokenizer and whether any list of its ids may be decoded (byte tokens: only what a text gave, see tokenizer.h)."""
    pieces = rng.random() < 0.6
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=rng.random() < 0.5, unk_token="<unk>") if pieces else models.BPE())
    space = a_metaspace(rng)
    if pieces:
        t.pre_tokenizer = pre_tokenizers.Metaspace(**space, split=rng.random() < 0.5)
        bytes_too = rng.random() < 0.7
        specials = ["<unk>"] + ["<0x%02X>" % b for b in range(256)] * bytes_too
        trainer = trainers.BpeTrainer(vocab_size=len(specials) + rng.randrange(150, 300), special_tokens=specials, show_progress=False, limit_alphabet=rng.choice([40, 120]))
        t.train_from_iterator(training, trainer)
        t.decoder = rng.choice([decoders.Metaspace(**space), decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(**space)]),
                                decoders.Sequence([decoders.Replace(space["replacement"], " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])])
    else:
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.5, use_regex=rng.random() < 0.7)
        trainer = trainers.BpeTrainer(vocab_size=rng.randrange(260, 400), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False)
        t.train_from_iterator(training, trainer)
        t.decoder = decoders.ByteLevel()
        if rng.random() < 0.15:
            t.decoder = None
    data = json.loads(t.to_str())  # byte tokens are ordinary tokens, not added ones
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(data))
    t.normalizer = a_normalizer(rng)
    if rng.random() < 0.2:
        t.pre_tokenizer = None if pieces and rng.random() < 0.5 else t.pre_tokenizer
    for _ in range(rng.randrange(1, 7)):
        special = rng.random() < 0.4
        flags = {name: rng.random() < 0.35 for name in ("single_word", "lstrip", "rstrip")}
        content = text_of(rng, PIECES, 4)
        if t.normalizer and not t.normalizer.normalize_str(content):
            continue  # the reference matches a text that normalises to nothing without end
        token = AddedToken(content, normalized=rng.random() < 0.5, special=special, **flags)
        (t.add_special_tokens if special else t.add_tokens)([token])
    return Tokenizer.from_str(t.to_str()), not pieces


def texts_of(rng, tokenizer, count):
    added = [a["content"] for a in json.loads(tokenizer.to_str())["added_tokens"]]
    mixed = PIECES + added * 3 + [a.lower() for a in added] + [a.upper() for a in added]
    return [text_of(rng, mixed, 14) for _ in range(count)] + [text_corpus.random_text(rng) for _ in range(count // 4)] + rng.sample(text_corpus.SENTENCES, 3)


def has_twins(tokenizer):
    """Whether two added tokens are the same text once normalised: which of them the reference finds then is a matter of its hash table, and changes from run to run."""
    if tokenizer.normalizer is None:
        return False
    texts = [tokenizer.normalizer.normalize_str(a["content"]) for a in json.loads(tokenizer.to_str())["added_tokens"] if a["normalized"]]
    return len(set(texts)) < len(texts)


@contextlib.contextmanager
def quiet():
    """What the reference writes to stderr when it panics is not ours."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def reference_ids(tokenizer, text):
    """None: the reference panics where the white space of lstrip and rstrip overlaps ("AddedVocabulary bad split")."""
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


class Comparison:
    def __init__(self):
        self.texts = self.decoded = self.wrong = self.tokenizers = self.panics = self.twins = 0

    def differs(self, number, tokenizer, what, given, expected, found):
        self.wrong += 1
        if self.wrong <= 5:
            data = json.loads(tokenizer.to_str())
            settings = {k: data[k] for k in ("normalizer", "pre_tokenizer", "decoder", "added_tokens")}
            print(f"tokenizer {number}, {what}: {given!r}\n  expected {expected!r}\n  found    {found!r}\n  {json.dumps(settings, ensure_ascii=False)}")

    def encode(self, number, tokenizer, probe, texts):
        for plain in (False, True):
            tokenizer.encode_special_tokens = plain
            with quiet():
                expected = [reference_ids(tokenizer, text) for text in texts]
            for text, mine, theirs in zip(texts, probe.encode(texts, 0 if plain else SPECIAL), expected):
                self.texts += 1
                if theirs is None:
                    self.panics += 1
                    continue
                if mine != theirs:
                    self.differs(number, tokenizer, f"ids plain={plain}", text, [tokenizer.id_to_token(i) for i in theirs], [tokenizer.id_to_token(i) for i in mine])
        tokenizer.encode_special_tokens = False

    def decode(self, number, tokenizer, probe, lists):
        # The reference looks for what it shows among the texts of special tokens: it does not skip one that is shown normalised, and skips others that look
        # like one. Here special is special.
        added = json.loads(tokenizer.to_str())["added_tokens"]
        special, texts = {a["id"] for a in added if a["special"]}, {a["content"] for a in added if a["special"]}
        unlike = {i for i in range(max(tokenizer.get_vocab().values()) + 1) if (i in special) != (tokenizer.id_to_token(i) in texts)}
        for skip in (False, True):
            lists = [ids for ids in lists if not skip or not unlike.intersection(ids)]
            for ids, pieces in zip(lists, probe.pieces(lists, skip)):
                mine, theirs = b"".join(pieces).decode("utf-8"), tokenizer.decode(ids, skip_special_tokens=skip)
                self.decoded += 1
                if mine != theirs:
                    self.differs(number, tokenizer, f"text skip={skip}", [tokenizer.id_to_token(i) for i in ids], theirs, mine)


def main():
    build, seed, seconds = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), float(sys.argv[3])
    print("seed", seed, flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    rng, probe, found, end = random.Random(seed), Probe(build), Comparison(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tokenizer.json"
        while time.monotonic() < end or found.tokenizers < 20:
            training = rng.sample(text_corpus.SENTENCES, 20) + [text_of(rng, PIECES, 30) for _ in range(40)]
            tokenizer, any_ids = a_tokenizer(rng, training)
            if has_twins(tokenizer):
                found.twins += 1
                continue
            tokenizer.save(str(file))
            try:
                probe.open(json=file)
            except Failed as error:
                found.differs(found.tokenizers, tokenizer, "open", "", "a tokenizer", str(error))
                continue
            texts = texts_of(rng, tokenizer, 40)
            found.encode(found.tokenizers, tokenizer, probe, texts)
            with quiet():
                lists = [ids for ids in (reference_ids(tokenizer, t) for t in texts[:25]) if ids is not None]
            if any_ids:
                lists += [[rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(1, 20))] for _ in range(15)]
            found.decode(found.tokenizers, tokenizer, probe, lists)
            found.tokenizers += 1
    probe.close()
    print(f"tokenizers: {found.tokenizers} random ones, {found.texts} texts and {found.decoded} lists of ids, {found.wrong} differ; the reference panics at {found.panics}, and at random finds one of two equal added tokens in {found.twins} tokenizers left out")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
