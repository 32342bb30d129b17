"""Small tokenizers of every kind that Tandem reads, trained here with the Hugging Face tokenizers library. Used by text_make.py and text_compare.py."""
import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from text_corpus import SENTENCES

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(tokenizer, vocab, text):
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.decoder = decoders.ByteLevel()


def gpt2(vocab, text):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    byte_level(t, vocab, text)
    t.add_special_tokens(["<|endoftext|>"])
    return t


def llama3(vocab, text):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([split(LLAMA3), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level(t, vocab, text)
    t.add_special_tokens(["<|bos|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    bos = t.token_to_id("<|bos|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", bos)])])
    return t


def qwen2(vocab, text):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([split(QWEN2), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level(t, vocab, text)
    t.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    t.add_tokens([AddedToken(x, normalized=False) for x in ("<tool_call>", "<think>", "</think>")])
    t.add_tokens([AddedToken("<nfc\u00e9>", normalized=True)])
    return t


def deepseek(vocab, text):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([split(p) for p in DEEPSEEK] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level(t, vocab, text)
    t.add_special_tokens(["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|endoftext|>"])
    t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=True)])
    return t


def o200k(vocab, text):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([split(O200K), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level(t, vocab, text)
    t.add_special_tokens(["<|endoftext|>"])
    return t


def sentencepiece(vocab, text, metaspace=False):
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    specials = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=specials, show_progress=False, limit_alphabet=160)
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if metaspace else "always", split=metaspace)
    t.train_from_iterator(text, trainer)
    if metaspace:
        t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    else:
        t.pre_tokenizer = None
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    data = json.loads(t.to_str())  # byte tokens are ordinary tokens, not added ones
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(data))
    bos = t.token_to_id("<s>")
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return t


def metaspace(vocab, text):
    return sentencepiece(vocab, text, True)


def odd(vocab, text):
    """Everything that the famous ones do not use."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"x{2,3}+"), "X"), normalizers.Strip(left=False, right=True)])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False), split(r"\s+", "merged_with_next"), split(r"[\p{P}\p{S}]", "merged_with_previous"),
        split(r"\w+|\h+", "contiguous", True), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    byte_level(t, vocab, text)
    t.add_special_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("[MASK]", lstrip=True, rstrip=True)])
    t.add_tokens([AddedToken("word", single_word=True), AddedToken("<think>", single_word=True, normalized=False), AddedToken("ﬁne", normalized=True), "<|im", "<|im_start|>"])
    return t


KINDS = {f.__name__: f for f in (gpt2, llama3, qwen2, deepseek, o200k, sentencepiece, metaspace, odd)}


def training_text(seed):
    rng = random.Random(seed)
    words = [w for s in SENTENCES for w in s.split(" ") if w]
    return SENTENCES * 3 + [" ".join(rng.choice(words) for _ in range(30)) for _ in range(300)]


def make(kind, seed, vocab=None):
    rng = random.Random(seed)
    return KINDS[kind](vocab or rng.randrange(420, 900), training_text(seed))
