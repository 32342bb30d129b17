#!/usr/bin/env python3
"""Tandem beside llama.cpp and ik_llama.cpp on the same GGUF files, in alternation on the same cores.

The peers are not part of this project: build them yourself, natively, and pass the folders that hold llama-bench and llama-batched-bench. Every case is run `--runs` times in turn
(tandem, peer, peer, tandem, ...), each time by a fresh process; the medians are compared. Before every run the machine must be quiet (--busy, measured from /proc/stat over 0.3 s).
Both of a peer's attention settings (flash attention off and on) are run and the better median counts.

    bench/peers.py --tandem build/tandem --llama PATH/bin [--ik PATH/bin] --out build/peers MODEL.gguf ...

writes OUT.md (the table, with commands, versions and the machine), OUT.svg (the ratios as bars) and OUT.json (every single run).
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time


def busy_share(seconds=0.3):
    """Share of all cores that was busy for a moment."""
    def read():
        fields = [int(x) for x in open("/proc/stat").readline().split()[1:]]
        return sum(fields), fields[3] + fields[4]
    total, idle = read()
    time.sleep(seconds)
    total2, idle2 = read()
    return 1 - (idle2 - idle) / max(1, total2 - total)


def run(command, env=None, timeout=600):
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})


class Tandem:
    name = "tandem"

    def __init__(self, program):
        self.program = program
        self.settings = [""]

    def version(self):
        return run([self.program, "--version"]).stdout.strip()

    def command(self, case, model, threads, _):
        return [self.program, "bench", model, "-t", str(threads), "--json", "-r", "1", "--prefill", str(case["prefill"]), "--batch", str(case["batch"]), "--context", str(case["context"]),
                "--tokens", str(case["tokens"])]

    def rate(self, case, output):
        rows = json.loads(output)
        row = next(r for r in rows if r["phase"] == case["phase"])
        return row["tokens_per_s"], row


class Peer:
    def __init__(self, name, folder, flash):
        self.name, self.folder, self.settings = name, folder, flash
        self.env = {"LD_LIBRARY_PATH": folder + ":" + os.environ.get("LD_LIBRARY_PATH", "")}

    def version(self):
        out = run([os.path.join(self.folder, "llama-bench"), "-h"], self.env)
        found = re.search(r"build: .*|version: .*", out.stdout + out.stderr)
        return found.group(0) if found else "version not told"

    def command(self, case, model, threads, flash):
        if case["batch"] == 1:
            pair = ["-p", str(case["prefill"]), "-n", "0"] if case["phase"] == "prefill" else ["-p", "0", "-n", str(case["tokens"])]
            depth = ["-d", str(case["context"])] if case["context"] else []
            return [os.path.join(self.folder, "llama-bench"), "-m", model, "-t", str(threads), "-r", "1", "-o", "json", "-fa", flash, *pair, *depth]
        size = case["batch"] * (case["tokens"] + 16) + 64
        return [os.path.join(self.folder, "llama-batched-bench"), "-m", model, "-t", str(threads), "-c", str(size), "-npp", "8", "-ntg", str(case["tokens"]), "-npl", str(case["batch"]),
                "-fa", {"0": "off", "1": "on"}[flash], "--output-format", "jsonl"]

    def rate(self, case, output):
        if case["batch"] == 1:
            return json.loads(output)[0]["avg_ts"], {}
        lines = [json.loads(x) for x in output.splitlines() if x.startswith("{")]
        return lines[-1]["speed_tg"], {}


CASES = [
    {"title": "prefill 512", "phase": "prefill", "prefill": 512, "batch": 1, "context": 0, "tokens": 2},
    {"title": "decode, 1 stream", "phase": "decode", "prefill": 1, "batch": 1, "context": 0, "tokens": 32},
    {"title": "decode, 1 stream, 4K context", "phase": "decode", "prefill": 1, "batch": 1, "context": 4096, "tokens": 16},
    {"title": "decode, 4 streams", "phase": "decode", "prefill": 1, "batch": 4, "context": 0, "tokens": 24},
    {"title": "decode, 16 streams", "phase": "decode", "prefill": 1, "batch": 16, "context": 0, "tokens": 24},
    {"title": "decode, 64 streams", "phase": "decode", "prefill": 1, "batch": 64, "context": 0, "tokens": 12},
]


def measure(args, engines, case, model, log):
    """{engine: {setting: [tokens/s]}}; a run that fails is recorded with its last words."""
    found = {e.name: {s: [] for s in e.settings} for e in engines}
    for number in range(args.runs):
        order = engines if number % 2 == 0 else engines[::-1]
        for engine in order:
            for setting in engine.settings:
                waited = time.time()
                while busy_share() > args.busy:
                    if time.time() - waited > args.wait:
                        sys.exit(f"the machine is not quiet: more than {args.busy:.0%} busy for {args.wait} s; stop what else runs, or raise --busy")
                command = engine.command(case, model, args.threads, setting)
                done = run(command, getattr(engine, "env", None))
                entry = {"model": os.path.basename(model), "case": case["title"], "engine": engine.name, "setting": setting, "command": " ".join(command)}
                try:
                    entry["tokens_per_s"], entry["detail"] = engine.rate(case, done.stdout)
                    found[engine.name][setting].append(entry["tokens_per_s"])
                except (ValueError, KeyError, IndexError, StopIteration, TypeError):
                    entry["failed"] = f"exit {done.returncode}: " + (done.stderr.strip().splitlines() or [""])[-1][:200]
                log.append(entry)
    return found


def best(rates):
    medians = [(statistics.median(v), s) for s, v in rates.items() if v]
    return max(medians) if medians else (None, "")


def chart(rows, path):
    """Bars of tandem over each peer; the line at 1 is equality."""
    bars = [(f"{r['model']}  {r['case']}  / {p}", r["ratio"][p]) for r in rows for p in r["ratio"] if r["ratio"][p]]
    width, left, height = 900, 430, 18
    most = max([b for _, b in bars] + [1.0])
    scale = (width - left - 60) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height * len(bars) + 40}" font-family="sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="white"/><text x="8" y="18" font-weight="bold">tokens/s of tandem over its peers, same file, same cores</text>']
    for i, (title, ratio) in enumerate(bars):
        y = 30 + i * height
        out.append(f'<text x="8" y="{y + 12}">{title}</text><rect x="{left}" y="{y + 2}" width="{ratio * scale:.1f}" height="{height - 5}" fill="{"#2a7" if ratio >= 1 else "#c54"}"/>'
                   f'<text x="{left + ratio * scale + 4:.1f}" y="{y + 12}">{ratio:.2f}</text>')
    out.append(f'<line x1="{left + scale:.1f}" x2="{left + scale:.1f}" y1="26" y2="{30 + height * len(bars)}" stroke="black" stroke-dasharray="3 3"/></svg>\n')
    with open(path, "w") as f:
        f.write("\n".join(out))


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("models", nargs="+")
    cli.add_argument("--tandem", default="build/tandem")
    cli.add_argument("--llama", help="folder with llama.cpp's llama-bench and llama-batched-bench")
    cli.add_argument("--ik", help="the same of ik_llama.cpp")
    cli.add_argument("--threads", type=int, default=os.cpu_count())
    cli.add_argument("--runs", type=int, default=5)
    cli.add_argument("--cases", help="case titles, separated by semicolons (all): " + "; ".join(c["title"] for c in CASES))
    cli.add_argument("--busy", type=float, default=0.05, help="how busy the machine may be before a run (share of all cores)")
    cli.add_argument("--wait", type=float, default=120, help="seconds to wait for a quiet machine")
    cli.add_argument("--out", default="build/peers")
    args = cli.parse_args()
    engines = [Tandem(args.tandem)]
    if args.llama:
        engines.append(Peer("llama.cpp", args.llama, ["0", "1"]))
    if args.ik:
        engines.append(Peer("ik_llama.cpp", args.ik, ["0", "1"]))
    if len(engines) == 1:
        cli.error("nothing to compare with: pass --llama FOLDER or --ik FOLDER")
    cases = [c for c in CASES if not args.cases or c["title"] in args.cases.split(";")]
    log, rows = [], []
    for model in args.models:
        for case in cases:
            found = measure(args, engines, case, model, log)
            own, _ = best(found["tandem"])
            row = {"model": os.path.basename(model), "case": case["title"], "rates": {}, "ratio": {}}
            for e in engines:
                row["rates"][e.name] = best(found[e.name])
                if e.name != "tandem":
                    row["ratio"][e.name] = own / row["rates"][e.name][0] if own and row["rates"][e.name][0] else None
            rows.append(row)
            print(row["model"], row["case"], {k: round(v[0], 2) if v[0] else "failed" for k, v in row["rates"].items()}, {k: round(v, 2) for k, v in row["ratio"].items() if v}, flush=True)
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    with open(args.out + ".md", "w") as f:
        f.write(f"Machine: {cpu.group(1) if cpu else '?'}, {os.cpu_count()} cores; {args.threads} threads; {args.runs} runs in alternation, medians.\n\n")
        for e in engines:
            f.write(f"- {e.name}: {e.version()}\n")
        names = [e.name for e in engines]
        f.write("\n| model | case | " + " | ".join(n + " tokens/s" for n in names) + " | " + " | ".join("over " + n for n in names[1:]) + " |\n" + "|---" * (2 + len(names) * 2 - 1) + "|\n")
        for r in rows:
            rates = [f"{r['rates'][n][0]:.1f}" if r["rates"][n][0] else "failed" for n in names]
            ratios = [f"{r['ratio'][n]:.2f}" if r["ratio"][n] else "-" for n in names[1:]]
            f.write(f"| {r['model']} | {r['case']} | " + " | ".join(rates + ratios) + " |\n")
        f.write("\nCommands:\n\n" + "".join(f"    {c}\n" for c in sorted({x["command"] for x in log})))
    with open(args.out + ".json", "w") as f:
        json.dump(log, f, indent=1)
    chart(rows, args.out + ".svg")


if __name__ == "__main__":
    main()
