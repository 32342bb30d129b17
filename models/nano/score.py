"""Scores the exported model on heldout.jsonl with greedy decoding in float32, and samples stories.

The reference for the engine's own test: an item's prompt, with bos in front, is completed until a stop token or a newline; the
text, without spaces at its ends, must equal `expected`. --quant q8_0 first rounds every matrix product's weights to blocks of
32 int8 values with a half-precision scale, as Q8_0 stores them.

Usage:  score.py [--quant q8_0] [--limit 50] [--no-bos] [--show]        accuracy of every group
        score.py --sample 5 --temp 0.8 [-p "Once upon a time"]          text
"""
import argparse
import json
import os

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from model import Model

HERE = os.path.dirname(os.path.abspath(__file__))


def q8_0(w):
    blocks = w.reshape(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    return (torch.round(blocks * inverse) * scale.half().float()).view_as(w)


def load(quant=None):
    with open(os.path.join(HERE, "config.json")) as f:
        config = json.load(f)
    params = {n: w.float() for n, w in load_file(os.path.join(HERE, "model.safetensors")).items()}
    if quant == "q8_0":
        params = {n: q8_0(w) if w.dim() > 1 and not n.endswith("moe.gate.weight") else w for n, w in params.items()}
    return Model(config, params)


@torch.no_grad()
def complete(model, prompts, stops, most, temp=0.0, generator=None):
    """Completions (lists of ids, the stop token left out) of lists of ids; stops is a set."""
    done = [[] for _ in prompts]
    live = list(range(len(prompts)))
    for _ in range(most):
        longest = max(len(prompts[i]) + len(done[i]) for i in live)
        rows = torch.zeros(len(live), longest, dtype=torch.long)
        for row, i in enumerate(live):
            ids = prompts[i] + done[i]
            rows[row, :len(ids)] = torch.tensor(ids)
        logits = model.forward(rows)[0].view(len(live), longest, -1)
        logits = torch.stack([logits[row, len(prompts[i]) + len(done[i]) - 1] for row, i in enumerate(live)])
        if temp > 0:
            chosen = torch.multinomial((logits / temp).softmax(-1), 1, generator=generator).squeeze(1).tolist()
        else:
            chosen = logits.argmax(-1).tolist()
        still = []
        for token, i in zip(chosen, live):
            if token not in stops:
                done[i].append(token)
                still.append(i)
        live = still
        if not live:
            break
    return done


@torch.no_grad()
def score(model, tokenizer, items, bos=True, show=False, at_once=40):
    """group -> (right, total). Greedy decoding gives the expected text exactly when, at every position of prompt + answer, the
    likeliest token is the next one, and after the last a stop: so one pass over the whole decides, without decoding."""
    newline = {i for token, i in tokenizer.get_vocab().items() if "Ċ" in token}
    stops = set(model.c["eos_token_id"]) | newline
    right, total = {}, {}
    items = sorted(items, key=lambda x: len(x["prompt"]))
    for start in range(0, len(items), at_once):
        part = items[start:start + at_once]
        prompts = [tokenizer.encode(x["prompt"], add_special_tokens=bos).ids for x in part]
        wholes = [tokenizer.encode(x["prompt"] + (" " if "plain" in x["group"] else "") + x["expected"],
                                   add_special_tokens=bos).ids for x in part]
        rows = torch.zeros(len(part), max(map(len, wholes)), dtype=torch.long)
        for row, ids in enumerate(wholes):
            rows[row, :len(ids)] = torch.tensor(ids)
        best = model.forward(rows)[0].argmax(-1).view(rows.shape).tolist()
        for item, prompt, whole, found in zip(part, prompts, wholes, best):
            assert whole[:len(prompt)] == prompt, item
            group = item["group"]
            ok = found[len(prompt) - 1:len(whole) - 1] == whole[len(prompt):] and found[len(whole) - 1] in stops
            total[group] = total.get(group, 0) + 1
            right[group] = right.get(group, 0) + ok
            if show and not ok:
                answer = tokenizer.decode(complete(model, [prompt], stops, 24)[0]).strip()
                print(f"{group}: {item['prompt']!r}\n    expected {item['expected']!r}, found {answer!r}")
    return {g: (right[g], total[g]) for g in sorted(total)}


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--quant", choices=["q8_0"])
    cli.add_argument("--limit", type=int, help="tasks of each group")
    cli.add_argument("--no-bos", action="store_true")
    cli.add_argument("--show", action="store_true", help="print the wrong answers")
    cli.add_argument("--sample", type=int, default=0)
    cli.add_argument("-p", "--prompt", default="Once upon a time")
    cli.add_argument("--temp", type=float, default=0.0)
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args()
    model, tokenizer = load(args.quant), Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    if args.sample:
        ids = tokenizer.encode(args.prompt, add_special_tokens=not args.no_bos).ids
        generator = torch.Generator().manual_seed(args.seed)
        for out in complete(model, [ids] * args.sample, set(model.c["eos_token_id"]), 300, args.temp, generator):
            print(args.prompt + tokenizer.decode(out), end="\n\n----\n")
        return
    with open(os.path.join(HERE, "heldout.jsonl"), encoding="utf-8") as f:
        items = [json.loads(line) for line in f]
    if args.limit:
        kept = {}
        for item in items:
            kept.setdefault(item["group"], []).append(item)
        items = [item for group in kept.values() for item in group[:args.limit]]
    for group, (right, total) in score(model, tokenizer, items, not args.no_bos, args.show).items():
        print(f"{group:16} {right:4} of {total:4}  {100 * right / total:5.1f} %")


if __name__ == "__main__":
    main()
