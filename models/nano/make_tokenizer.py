"""Trains the tokenizer on generated text and writes tokenizer.json, tokenizer_config.json and generation_config.json.

Byte-level BPE over all 256 bytes, split with the pattern of Qwen2 (one digit at a time), special tokens first.
Usage:  tokenizer.py [--docs 20000] [--vocab 1024] [--out FOLDER]
"""
import argparse
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import generate

SPECIAL = [generate.BOS, generate.EOS, "<｜▁pad▁｜>", generate.BOT, generate.EOT, "<think>", "</think>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages if message['role'] == 'system' %}{{ message['content'] }}{% endfor %}"
    "{% for message in messages if message['role'] != 'system' %}"
    "{{ '<|BOT|>' + message['role'] + '\\n' + message['content'] | trim + '<|EOT|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|BOT|>assistant\\n' }}{% endif %}")


def train(docs, vocab):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    r = random.Random(0)
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    text = ("".join(t for t, _ in generate.document(r) if t not in SPECIAL) for _ in range(docs))
    tok.train_from_iterator(text, trainer)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL[:5]])
    tok.add_tokens([AddedToken(s, special=False, normalized=False) for s in SPECIAL[5:]])
    bos = SPECIAL[0]
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tok.token_to_id(bos))])])
    return tok


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--docs", type=int, default=20000)
    cli.add_argument("--vocab", type=int, default=1024)
    cli.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = cli.parse_args()
    tok = train(args.docs, args.vocab)
    tok.save(os.path.join(args.out, "tokenizer.json"))
    ids = {s: tok.token_to_id(s) for s in SPECIAL}
    config = {
        "add_bos_token": True, "add_eos_token": False, "bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[2],
        "unk_token": None, "clean_up_tokenization_spaces": False, "model_max_length": 2048,
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    stops = [ids[generate.EOS], ids[generate.EOT]]
    generation = {"bos_token_id": ids[generate.BOS], "eos_token_id": stops, "pad_token_id": ids[SPECIAL[2]],
                  "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    for name, value in (("tokenizer_config.json", config), ("generation_config.json", generation)):
        with open(os.path.join(args.out, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, indent=2)
            f.write("\n")
    print(f"{tok.get_vocab_size()} tokens, stops {stops}")


if __name__ == "__main__":
    main()
