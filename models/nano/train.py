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
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import generate
from model import CONFIG, Model, initial

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
    """Documents packed into rows: tokens, targets and weights [rows, length], and the mask that keeps documents apart."""
    r = random.Random(f"{seed}/{step}")
    tokens = torch.full((rows, length + 1), CONFIG["pad_token_id"])
    weights = torch.zeros(rows, length + 1)
    owner = torch.zeros(rows, length + 1, dtype=torch.long)
    used, free, number, misses = 0, [length + 1] * rows, 1, 0
    while misses < 12:
        ids, w = encode(tokenizer, generate.document(r, echo))
        row = next((i for i in range(rows) if free[i] >= len(ids)), None)
        if row is None:
            misses += 1
            continue
        start = length + 1 - free[row]
        stop = start + len(ids)
        tokens[row, start:stop] = torch.tensor(ids)
        weights[row, start + 1:stop] = torch.tensor(w[1:])
        owner[row, start:stop] = number
        free[row] -= len(ids)
        number += 1
    own = owner[:, :-1]
    mask = (own[:, None, :, None] == own[:, None, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    return tokens[:, :-1], tokens[:, 1:], weights[:, 1:], mask


def newton_schulz(g):
    """The nearest semi-orthogonal matrices of g [n, rows, columns], roughly (quintic iteration of Muon)."""
    x = g.bfloat16()
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return (x.mT if turned else x).float()


class Optimizer:
    def __init__(self, params):
        self.params = params
        matrix = [n for n, p in params.items() if p.dim() > 1 and not any(k in n for k in ("embed", "lm_head", "moe.gate.weight"))]
        self.groups = {}
        for n in matrix:
            self.groups.setdefault(tuple(params[n].shape[-2:]), []).append(n)
        self.rest = [n for n in params if n not in matrix]
        self.state = {"momentum": {n: torch.zeros_like(params[n]) for n in matrix},
                      "first": {n: torch.zeros_like(params[n]) for n in self.rest},
                      "second": {n: torch.zeros_like(params[n]) for n in self.rest}, "count": 0}

    @torch.no_grad()
    def step(self, scale, muon_lr=0.012, adam_lr=0.004, decay=0.3):
        state = self.state
        state["count"] += 1
        t = state["count"]
        for (rows, columns), names in self.groups.items():
            stack = []
            for n in names:
                m, g = state["momentum"][n], self.params[n].grad
                m.mul_(0.95).add_(g, alpha=0.05)
                stack.append((g * 0.05 + m * 0.95).reshape(-1, rows, columns))
            update = newton_schulz(torch.cat(stack)) * max(1.0, rows / columns) ** 0.5
            for n, u in zip(names, update.split([len(s) for s in stack])):
                p = self.params[n]
                p.mul_(1 - scale * muon_lr * decay).add_(u.view_as(p), alpha=-scale * muon_lr)
        for n in self.rest:
            p, g = self.params[n], self.params[n].grad
            state["first"][n].lerp_(g, 0.1)
            state["second"][n].lerp_(g * g, 0.02)
            first, second = state["first"][n] / (1 - 0.9 ** t), state["second"][n] / (1 - 0.98 ** t)
            p.sub_(first / (second.sqrt() + 1e-8), alpha=scale * adam_lr)


def export(params):
    with open(os.path.join(HERE, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=2)
        f.write("\n")
    path = os.path.join(HERE, "model.safetensors")
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
    cli.add_argument("--minutes", type=float, help="instead of --steps: stop then, with the rate falling over the last 70 %% of the time")
    cli.add_argument("--rows", type=int, default=16)
    cli.add_argument("--length", type=int, default=512)
    cli.add_argument("--echo", type=float, default=0.0, help="share of documents that only teach looking back")
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--float32", action="store_true", help="matrix products in float32 instead of BF16")
    cli.add_argument("--export", action="store_true")
    cli.add_argument("--save-every", type=int, default=200)
    args = cli.parse_args()
    tokenizer = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    params = initial(CONFIG, args.seed)
    average = {n: p.clone() for n, p in params.items()}
    optimizer, step = Optimizer(params), 0
    if os.path.exists(args.state):
        state = torch.load(args.state)
        params, average, step = state["params"], state["average"], state["step"]
        optimizer.params, optimizer.state = params, state["optimizer"]
    if args.export:
        export(average)
        print(f"exported the average at step {step}")
        return
    for p in params.values():
        p.requires_grad_(True)
    model = Model(CONFIG, params, torch.float32 if args.float32 else torch.bfloat16)
    print(f"{sum(p.numel() for p in params.values())} parameters, from step {step}", flush=True)

    @torch.compile(dynamic=False)
    def losses(tokens, targets, weights, mask):
        logits, balance = model.forward(tokens, mask)
        w = weights.flatten()
        return (F.cross_entropy(logits, targets.flatten(), reduction="none") * w).sum() / w.sum(), balance

    def keep_state():
        save(args.state, params={n: p.detach() for n, p in params.items()}, average=average, optimizer=optimizer.state, step=step)

    clock, seen, shown = time.time(), 0, {}
    began = time.time()
    while step < args.steps and (args.minutes is None or time.time() < began + 60 * args.minutes):
        tokens, targets, weights, mask = batch(tokenizer, args.seed, step, args.rows, args.length, args.echo)
        loss, balance = losses(tokens, targets, weights, mask)
        (loss + 0.01 * balance).backward()
        if args.minutes:
            left = (1 - (time.time() - began) / (60 * args.minutes)) / 0.7
        else:
            left = (args.steps - step) / max(1, args.steps - args.decay_at)
        scale = max(0.0, min(1.0, (step + 1) / 100, left))
        optimizer.step(scale)
        step += 1
        keep = min(0.99, step / (step + 10))
        with torch.no_grad():
            for n, p in params.items():
                average[n].lerp_(p, 1 - keep)
                p.grad = None
        seen += int((tokens != CONFIG["pad_token_id"]).sum())
        shown["loss"] = shown.get("loss", 0.0) + loss.detach().item()
        shown["balance"] = shown.get("balance", 0.0) + float(balance.detach()) / 5
        if step % 20 == 0:
            speed = seen / (time.time() - clock)
            print(f"step {step} loss {shown['loss'] / 20:.4f} balance {shown['balance'] / 20:.3f} rate {scale:.3f} {speed:.0f} tokens/s", flush=True)
            clock, seen, shown = time.time(), 0, {}
        if step % args.save_every == 0:
            keep_state()
    keep_state()
    export(average)


if __name__ == "__main__":
    main()
