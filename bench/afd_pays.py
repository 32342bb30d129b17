#!/usr/bin/env python3
"""Where attention and FFN apart do not pay on a machine of two cores, as a table in Markdown: one process with two threads against one attention instance and one worker with a core each.

usage: afd_pays.py [--build build] [--folder build/afd_pays] [--only NAME] [--seconds 12] [--turns 3]

Each row is one run of bench_afd, both deployments taking turns; models are made once (about 12 GB in the folder). The bound comes from the stage times A and F of one micro-batch: a core each
cannot be better than (A + F) / 2 max(A, F) of two cores that share everything, what the worker computes being F. Nothing else should run on the machine; takes five to eight minutes with its defaults.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]

# name, how it is made (None: the shipped model), batches
MODELS = [
    ("nano (shipped)", None, (1, 16)),
    ("qwen3-0.6b, dense", ("--like", "qwen3-0.6b", "--dtype", "q8_0"), (1, 16)),
    ("qwen3-30b-a3b, 2 layers", ("--like", "qwen3-30b-a3b", "--layers", "2", "--dtype", "q8_0"), (1, 16, 48)),
    ("step3, 4 dense and 2 MoE layers", ("--like", "step3", "--layers", "6", "--dtype", "q4_0"), (1, 16)),
]
ROW = re.compile(r"^1A1F, a core each +(\d+) +\d+ +([\d.]+) +([\d.]+) +[\d.]+ \| +(\d+) +(\d+) +(\d+) +(\d+) \| +(\d+) +(\d+)$", re.M)
ONE = re.compile(r"^1 process, 2 threads +\d+ +([\d.]+)$", re.M)


def made(a, name, how):
    if how is None:
        return SOURCE / "models" / "nano"
    path = a.folder / (re.sub(r"[^a-z0-9]+", "-", name) + ".gguf")
    if not path.exists():
        part = path.with_suffix(".part.gguf")
        subprocess.run([a.build / "tandem", "synth", part, *how], check=True, stdout=subprocess.DEVNULL)
        part.rename(path)
    return path


def bench(a, model, batch, steps, turns):
    counts = "1" if batch == 1 else "1,2,3"
    command = [a.build / "bench" / "bench_afd", model, "--batch", str(batch), "--steps", str(steps), "--turns", str(turns), "--micro-batches", counts]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    one, rows = ONE.search(out), ROW.findall(out)
    if not one or len(rows) != len(counts.split(",")):
        sys.exit(f"afd_pays: bench_afd printed what this script does not understand:\n{out}")
    return float(one.group(1)), [[float(v) for v in row] for row in rows]


def line(a, name, model, batch):
    begin = time.time()
    rate, _ = bench(a, model, batch, 4, 1)  # how fast it is, and its pages in memory
    deployments = 2 if batch == 1 else 4
    seconds = a.seconds / a.turns / deployments
    steps = int(min(max(seconds * rate / batch, 6), 400))
    one, rows = bench(a, model, batch, steps, a.turns)
    m, apart, ratio, *_ = max(rows, key=lambda row: row[1])
    attention, ffn = rows[0][3], rows[0][4]
    bound = (attention + ffn) / 2 / max(attention, ffn)
    side = "FFN" if ffn > attention else "attention"
    print(f"| {name} | {batch} | {one:,.1f} | {apart:,.1f} | {m:.0f} | {apart / one:.2f} | {bound:.2f} | {side} | {attention:,.0f} / {ffn:,.0f} / {rows[0][6]:,.0f} |", flush=True)
    print(f"afd_pays: {name}, batch {batch}: {steps} steps a turn, {time.time() - begin:.0f} s", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build")
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=12, help="that a row times, all deployments and turns together")
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()
    a.build = a.build.resolve()
    a.folder = (a.folder or a.build / "afd_pays").resolve()
    a.folder.mkdir(parents=True, exist_ok=True)
    load = " ".join(f"{v:.1f}" for v in os.getloadavg())
    print(f"`bench/afd_pays.py`, load average before it {load}, context 0, tokens/s, median of {a.turns} turns, the best count of micro-batches\n")
    print("| model | batch | one process, 2 threads | 1A1F, a core each | m | ratio | at most, by stage times | bound by | A / F / wire us, one micro-batch |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name, how, batches in MODELS:
        if a.only in name:
            model = made(a, name, how)
            for batch in batches:
                line(a, name, model, batch)


if __name__ == "__main__":
    main()
