#!/usr/bin/env python3
"""This machine, calibrated, then predicted where it was not measured: the table of docs/planning.md.

usage: plan_calibration.py [calibrate] [measure] [report]      (default: all three; the first takes five to fifteen minutes, the second about twenty, and both want the machine for themselves)

calibrate   tandem plan --calibrate: other models, batches and contexts than those below
measure     tandem bench --predict with synthetic models of other families and widths, 1 and 2 threads; then with a worker beside (1A1F, one micro-batch), without delay and with 300 us one way on
            the link (tests/afd/shape.h). Three rounds over all rows, minutes apart; a row is the median of its rounds, and how far they lie apart is what no prediction can beat
report      every row, the errors, how many lie inside the error bar, and whether the configuration predicted best is the best measured

What is measured stays in build/plan-bench. Exit status 1 when the mean absolute error of tokens/s is above 7 %, one is above 20 %, or a configuration predicted best is more than 5 % slower
than the best measured one.
"""
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
KEPT = BUILD / "plan-bench"
KEPT_ROWS = KEPT / "rows.json"
FIT = KEPT / "here.json"
TANDEM = BUILD / "tests" / "afd" / "tandem_shaped"  # the same program over a layer that can delay the link
MODELS = {"dense": ("llama3-8b", 2, 2), "experts": ("qwen3-30b-a3b", 1, 1), "latent": ("deepseek-v2-lite", 3, 1)}  # name: like, layers, divide
# model, batch, context, tokens to time: batches 1 to 64, contexts 128 to 8K
POINTS = [("dense", 1, 128, 48), ("dense", 10, 256, 24), ("dense", 1, 8192, 32), ("dense", 64, 128, 12), ("experts", 1, 128, 64), ("experts", 3, 2048, 40), ("experts", 24, 128, 24), ("experts", 64, 128, 16),
          ("latent", 1, 512, 64), ("latent", 5, 1024, 32), ("latent", 32, 128, 20)]
AFD_POINTS = [("dense", 1, 128, 48), ("dense", 10, 256, 24), ("experts", 1, 128, 64), ("experts", 24, 128, 24), ("latent", 5, 1024, 32), ("latent", 32, 128, 20)]
DELAYS, ROUNDS = (0, 300), 3


def call(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def model(name):
    like, layers, divide = MODELS[name]
    path = KEPT / f"{name}-{like}-{layers}-{divide}.gguf"
    if not path.exists():
        call(TANDEM, "synth", path, "--like", like, "--layers", layers, "--divide", divide, "--dtype", "q8_0", "--seed", 9)
    return path


def bench(name, batch, context, tokens, threads, *more, **how):
    rows = json.loads(call(TANDEM, "bench", model(name), "--batch", batch, "--context", context, "-n", tokens, "-r", 1 if batch * context > 3000 else 2, "--prefill", 64, "--threads", threads,
                           "--predict", FIT, "--json", *more, **how))
    return dict(rows[-1], name=name)


def calibrate():
    print(call(TANDEM, "plan", "--calibrate", FIT))


def colocated():
    return [dict(bench(*point, threads), deployment="colocated", link_us=0) for point in POINTS for threads in (1, 2)]


def afd():
    rows, secret = [], KEPT / "key"
    secret.write_text(os.urandom(16).hex())
    secret.chmod(0o600)
    for point in AFD_POINTS:
        for delay in DELAYS:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                address = f"127.0.0.1:{s.getsockname()[1]}"
            env = dict(os.environ, TD_SHAPE=f"delay_us={delay}") if delay else dict(os.environ)
            worker = subprocess.Popen([str(TANDEM), "worker", str(model(point[0])), "--listen", address, "--secret-file", str(secret), "--threads", "1"], stdout=subprocess.PIPE, env=env)
            try:
                worker.stdout.readline()
                rows.append(dict(bench(*point, 1, "--ffn", address, "--secret-file", secret, "--micro-batches", 1, "--link-us", delay, env=env), deployment="1A1F", link_us=delay))
            finally:
                worker.kill()
                worker.wait()
    return rows


def measure():
    rounds = []
    for n in range(ROUNDS):
        rounds.append(colocated() + afd())
        print(f"round {n + 1} of {ROUNDS} measured", file=sys.stderr)
    KEPT_ROWS.write_text(json.dumps([dict(rows[0], tokens_per_s=statistics.median(r["tokens_per_s"] for r in rows), rounds=[r["tokens_per_s"] for r in rows]) for rows in zip(*rounds)], indent=1))


def report():
    rows = json.loads(KEPT_ROWS.read_text())
    errors, inside, groups = [], 0, {}
    print("| model | deployment | link us | batch | context | threads | measured tok/s | predicted | error |\n|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        command = [TANDEM, "plan", model(r["name"]), "--predict", "--calibration", FIT, "--batch", r["batch"], "--threads", r["threads"], "--deploy", r["deployment"], "--link-us", r["link_us"], "--weights", "q8_0", "--json",
                   "--context", r["context"] + next(p[3] for p in POINTS + AFD_POINTS if p[:3] == (r["name"], r["batch"], r["context"])) / 2]
        p = json.loads(call(*command))  # again: the report may follow another calibration than the measurement did
        error = p["tokens_per_s"] / r["tokens_per_s"] - 1
        errors.append(abs(error))
        inside += p["low"] <= r["tokens_per_s"] <= p["high"]
        for delay in DELAYS if r["deployment"] == "colocated" else (r["link_us"],):
            groups.setdefault((r["name"], r["batch"], r["context"], delay), []).append((p["tokens_per_s"], r["tokens_per_s"]))
        print(f"| {'-'.join(map(str, MODELS[r['name']]))} | {r['deployment']} | {r['link_us']} | {r['batch']} | {r['context']} | {r['threads']} | {r['tokens_per_s']:.1f} | {p['tokens_per_s']:.1f} | {100 * error:+.1f} % |")
    mean, worst = sum(errors) / len(errors), max(errors)
    ranking = max(1 - max(pair)[1] / max(m for _, m in pair) for pair in groups.values())
    print(f"\n{len(errors)} configurations not in the fit: mean absolute error {100 * mean:.1f} % (aim 7), worst {100 * worst:.1f} % (aim 20), {inside} inside the error bar; "
          f"the first by prediction is at most {100 * ranking:.1f} % slower than the best measured (aim 5)")
    apart = [abs(a / b - 1) for r in rows for a, b in zip(r["rounds"], r["rounds"][1:])]
    print(f"a row measured twice, minutes apart, differs by {100 * statistics.mean(apart):.1f} % on average, {100 * max(apart):.1f} % at most")
    return 0 if mean <= 0.07 and worst <= 0.20 and ranking <= 0.05 else 1


def main():
    parts = sys.argv[1:] or ["calibrate", "measure", "report"]
    known = {"calibrate": calibrate, "measure": measure, "report": report}
    if any(p not in known for p in parts):
        sys.exit(__doc__)
    KEPT.mkdir(exist_ok=True)
    print(f"load average {' '.join(open('/proc/loadavg').read().split()[:3])}", file=sys.stderr)
    return max(known[p]() or 0 for p in parts)


if __name__ == "__main__":
    sys.exit(main())
