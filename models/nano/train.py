"""Trains the nano model on generated text, on a CPU, and writes config.json and model.safetensors.

Every step makes its own fresh documents from (seed, step), so a run can stop and go on at any step from its state file.
Matrices are trained with Muon (momentum orthogonalised by Newton-Schulz), the rest with Adam. The learning rate warms up,
stays, and falls to zero between --decay-at and --steps. What is exported is a running average of the weights, rounded to BF16.

Usage:  train.py --state /tmp/nano.pt --steps 6000 --decay-at 4000      start, or go on from the state file
        train.py --state /tmp/nano.pt --export                          write the files of the folder from a state
"""
import argparse
import json
import os
import random
import time

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import generate
from model import CONFIG, initial
from step import Step

HERE = os.path.dirname(os.path.abspath(__file__))


def encode(tokenizer, segments):
    """ids and the loss weight of each token: that of the segment in which the token ends."""
    encoding = tokenizer.encode("".join(t for t, _ in segments), add_special_tokens=False)
    ends, total = [], 0
    for text, weight in segments:
        total += len(text)
        ends.append((total, weight))
    weights, at = [], 0
    for _, stop in encoding.offsets:
        while ends[at][0] < stop:
            at += 1
        weights.append(ends[at][1])
    return encoding.ids, weights


def batch(tokenizer, seed, step, rows, length, echo=0.0):
    """Documents packed into rows: tokens, targets, weights, and where in its row each token's document begins, all [rows, length]."""
    r = random.Random(f"{seed}/{step}")
    tokens = torch.full((rows, length + 1), CONFIG["pad_token_id"])
    weights = torch.zeros(rows, length + 1)
    first = torch.arange(length + 1, dtype=torch.int32).repeat(rows, 1)
    free, misses = [length + 1] * rows, 0
    while misses < 12:
        ids, w = (x[:length + 1] for x in encode(tokenizer, generate.document(r, echo)))
        row = next((i for i in range(rows) if free[i] >= len(ids)), None)
        if row is None:
            misses += 1
            continue
        start = length + 1 - free[row]
        stop = start + len(ids)
        tokens[row, start:stop] = torch.tensor(ids)
        weights[row, start + 1:stop] = torch.tensor(w[1:])
        first[row, start:stop] = start
        free[row] -= len(ids)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), weights[:, 1:].contiguous(), first[:, :-1].contiguous()


def export(params, folder):
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=2)
        f.write("\n")
    path = os.path.join(folder, "model.safetensors")
    save_file({n: p.detach().bfloat16().contiguous() for n, p in params.items()}, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def save(path, **state):
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--state", required=True)
    cli.add_argument("--steps", type=int, default=1000000)
    cli.add_argument("--decay-at", type=int, default=900000)
    cli.add_argument("--rows", type=int, default=16)
    cli.add_argument("--length", type=int, default=256)
    cli.add_argument("--rate", type=float, default=0.01, help="of Muon; Adam's is 0.3 of it")
    cli.add_argument("--echo", type=float, default=0.0, help="share of documents that only teach looking back")
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--weights", help="begin with the weights of this model.safetensors instead of random ones (a new state only)")
    cli.add_argument("--export", action="store_true", help="write the files of the folder from the state, and do nothing else")
    cli.add_argument("--to", default=HERE, help="folder for what is exported")
    cli.add_argument("--save-every", type=int, default=100)
    args = cli.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    params = {n: p.float() for n, p in load_file(args.weights).items()} if args.weights else initial(CONFIG, args.seed)
    one, number = Step(CONFIG, params, args.rows, args.length), 0
    if os.path.exists(args.state):
        state = torch.load(args.state)
        number, one.state = state["step"], state["optimizer"]
        for n, p in params.items():
            p.copy_(state["params"][n])
            one.average[n].copy_(state["average"][n])
        one.refresh()
    if args.export:
        export(one.average, args.to)
        print(f"exported the average at step {number}")
        return
    print(f"{sum(p.numel() for p in params.values())} parameters, from step {number}", flush=True)

    def keep_state():
        save(args.state, params=params, average=one.average, optimizer=one.state, step=number)

    clock, seen, losses, rights = time.time(), 0, 0.0, 0.0
    while number < args.steps:
        tokens, targets, weights, first = (t.flatten() for t in batch(tokenizer, args.seed, number, args.rows, args.length, args.echo))
        loss, right = one.forward_backward(tokens, targets, weights, first)
        scale = max(0.0, min(1.0, (one.state["count"] + 1) / 100, (args.steps - number) / max(1, args.steps - args.decay_at)))
        number += 1
        one.optimize(scale * args.rate, scale * args.rate * 0.3, 0.2, min(0.99, number / (number + 10)))
        seen, losses, rights = seen + int((tokens != CONFIG["pad_token_id"]).sum()), losses + loss, rights + right
        if number % 20 == 0:
            print(f"step {number} loss {losses / 20:.4f} right {rights / 20:.4f} rate {scale:.3f} {seen / (time.time() - clock):.0f} tokens/s "
                  f"{time.strftime('%H:%M:%S')}", flush=True)
            clock, seen, losses, rights = time.time(), 0, 0.0, 0.0
        if number % args.save_every == 0:
            keep_state()
    keep_state()
    export(one.average, args.to)


if __name__ == "__main__":
    main()
