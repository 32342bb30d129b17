#!/usr/bin/env python3
"""Tandem beside llama.cpp and ik_llama.cpp on the same GGUF files, in alternation on the same cores.

The peers are not part of this project: build them yourself, natively, and pass the folders that hold llama-bench and llama-batched-bench. ik_llama.cpp's llama-batched-bench (of August 2026)
gives all sequences the same token, so that in a mixture all of them choose the same experts and it reads a part of the weights only; in this one draw tokens as llama.cpp's does:

    sed -i 's/common_batch_add(batch, 0,/common_batch_add(batch, std::rand() % llama_n_vocab(model),/' examples/batched-bench/batched-bench.cpp

    bench/peers.py --tandem build/tandem --llama PATH/bin [--ik PATH/bin] --out build/peers MODEL.gguf ...

Cases come in groups; one process measures one group of one model once. First each peer's settings (flash attention off and on, then weights repacked at load or not) are tried once each,
and the best one stays, group by group; then the programs run in turn (peer, tandem, peer; peer, tandem, peer; ...) until each has --runs results. A ratio is the median of the turns' ratios, because the speed of a
shared machine's memory changes from minute to minute; figures are medians too. A ratio above 1 is in Tandem's favour: of rates its own over the peer's, of seconds and memory the peer's over its own. Before every run the machine must be quiet (--busy, from /proc/stat over 0.3 s).

Writes OUT.md (the table, with commands, versions and the machine), OUT.svg (the ratios as bars) and OUT.json (every single run); --join puts several of these into one.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

GROUPS = {
    "short": {"cases": ["prefill 512", "decode, 1 stream"], "prefill": 512, "tokens": 32, "batches": [1], "context": 0},
    "streams": {"cases": ["decode, 4 streams", "decode, 16 streams", "decode, 64 streams"], "prefill": 8, "tokens": 12, "batches": [4, 16, 64], "context": 0},
    "4K": {"cases": ["prefill 4096", "decode, 1 stream, 4K context"], "prefill": 4096, "tokens": 16, "batches": [1], "context": 4096},
    "16K": {"cases": ["decode, 1 stream, 16K context"], "prefill": 0, "tokens": 16, "batches": [1], "context": 16384},
    "start": {"cases": ["start-up to first token, 8 prompt tokens", "memory beside the mapped file"], "units": ["s", "MB"], "prefill": 8, "tokens": 1, "batches": [1], "context": 0},
}
RATE = "tokens/s"  # what the cases of a group without units are in: more is better; of seconds and memory, less is


def busy_share(seconds=0.3):
    """Share of all cores that was busy for a moment."""
    def read():
        fields = [int(x) for x in open("/proc/stat").readline().split()[1:]]
        return sum(fields), fields[3] + fields[4]
    total, idle = read()
    time.sleep(seconds)
    total2, idle2 = read()
    return 1 - (idle2 - idle) / max(1, total2 - total)


def units_of(group):
    return group.get("units", [RATE] * len(group["cases"]))


def times_better(unit, own, other):
    return own / other if unit == RATE else other / own


def run(command, env=None, timeout=1200):
    """In a folder of its own: some programs leave logs where they are started."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}, cwd=folder)


def watched(command, env=None, timeout=1200):
    """A whole process from its start to its end: (what run() returns, seconds, MB of memory that is no file's page, at most)."""
    most = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(env or {})}, cwd=folder)
        while process.poll() is None:
            try:
                status = dict(line.split(":", 1) for line in open(f"/proc/{process.pid}/status"))
                most = max(most, sum(int(status.get(k, "0").split()[0]) for k in ("RssAnon", "RssShmem")))
            except OSError:
                pass
            if time.perf_counter() - begun > timeout:
                process.kill()
                process.wait()
                raise subprocess.TimeoutExpired(command, timeout)
            time.sleep(0.002)
        seconds = time.perf_counter() - begun
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, out.read(), err.read()), seconds, most / 1e3


class Tandem:
    name, env, choices = "tandem", None, []

    def __init__(self, program, isa):
        self.program, self.isa = program, ["--isa", isa] if isa else []

    def version(self):
        return run([self.program, "--version"]).stdout.strip()

    def command(self, group, model, threads, _):
        if "units" in group:
            return [self.program, "run", model, *self.isa, "-t", str(threads), "--context", "64", "-n", str(group["tokens"]), "-p", "abcdefgh"[:group["prefill"]]]
        return [self.program, "bench", model, *self.isa, "-t", str(threads), "--json", "-r", "1", "--prefill", str(group["prefill"] or 1), "--batch", ",".join(map(str, group["batches"])),
                "--context", str(group["context"]), "--tokens", str(group["tokens"])]

    def figures(self, group, done):
        """Tokens/s of each case of the group, in order, and what more is known."""
        rows = json.loads(done.stdout)  # the prompt's first, then a row for each number of streams
        rows = rows if group["cases"][0].startswith("prefill") else rows[1:]
        return [r["tokens_per_s"] for r in rows], rows


class Peer:
    def __init__(self, name, folder, repack):
        """repack: {program: {"off": options, "on": options}}"""
        self.name, self.folder, self.repack = name, folder, repack
        self.choices = [("flash", ["on", "off"]), ("repack", ["on", "off"])]
        self.env = {"LD_LIBRARY_PATH": folder + ":" + os.environ.get("LD_LIBRARY_PATH", "")}

    def version(self):
        at = os.path.dirname(os.path.dirname(os.path.abspath(self.folder)))
        told = run(["git", "-C", at, "log", "-1", "--format=commit %h of %as"]).stdout.strip()
        return told or "version not told"

    def command(self, group, model, threads, setting):
        program = "llama-bench" if group["batches"] == [1] else "llama-batched-bench"
        start = [os.path.join(self.folder, program), "-m", model, "-t", str(threads), *self.repack[program][setting["repack"]]]
        if "units" in group:  # the prompt gives the first token; llama-cli wants the server's library, llama-simple takes no number of threads
            return [*start, "-fa", "01"[setting["flash"] == "on"], "-r", "1", "-o", "json", "-p", str(group["prefill"]), "-n", "0", *(["--no-warmup"] if self.name == "llama.cpp" else ["-w", "0"])]
        if program == "llama-bench":
            decode = ["-n", str(group["tokens"])]
            if group["context"]:  # ik's llama-bench has no depth, but decoding after a prompt
                decode = [*decode, "-d", str(group["context"])] if self.name == "llama.cpp" else ["-n", "0", "-gp", f"{group['context']},{group['tokens']}"]
            return [*start, "-fa", "01"[setting["flash"] == "on"], "-r", "1", "-o", "json", "-p", str(group["prefill"]), *decode]
        most = max(group["batches"])
        return [*start, "-c", str(most * (group["tokens"] + group["prefill"]) + 64), "-npp", str(group["prefill"]), "-ntg", str(group["tokens"]), "-npl", ",".join(map(str, group["batches"])),
                "-fa", setting["flash"]]

    def figures(self, group, done):
        if group["batches"] == [1]:
            rows = json.loads(done.stdout[done.stdout.index("["):done.stdout.rindex("]") + 1])
            found = {"prefill": next((r for r in rows if r["n_gen"] == 0), None), "decode": next((r for r in rows if r["n_gen"] > 0), None)}
            return [found[case.split()[0].strip(",")]["avg_ts"] for case in group["cases"]], None
        rows = re.findall(r"^\|((?: +[0-9.]+ \|){10})$", done.stdout + done.stderr, re.M)  # ik prints its table on stderr
        if len(rows) != len(group["cases"]):
            raise ValueError(f"expected {len(group['cases'])} rows, found {len(rows)}")
        return [float(row.split("|")[7]) for row in rows], None


def once(args, engine, group, title, model, setting, log):
    """[figure of each case]; None if the run failed. Either is written down."""
    waited = time.time()
    while busy_share() > args.busy:
        if time.time() - waited > args.wait:
            sys.exit(f"the machine is not quiet: more than {args.busy:.0%} busy for {args.wait} s; stop what else runs, or raise --busy")
    command = engine.command(group, model, args.threads, setting)
    entry = {"model": os.path.basename(model), "group": title, "engine": engine.name, "setting": setting, "command": " ".join(command)}
    log.append(entry)
    begun = time.time()
    try:
        if "units" in group:
            done, *figures = watched(command, engine.env)
            detail = None
            if done.returncode:
                raise ValueError("it failed")
        else:
            done = run(command, engine.env)
            figures, detail = engine.figures(group, done)
    except subprocess.TimeoutExpired as fault:
        entry["failed"] = str(fault)
        return None
    except (ValueError, KeyError, IndexError, StopIteration, TypeError) as fault:
        entry["failed"] = f"exit {done.returncode}: {(done.stderr.strip().splitlines() or [fault])[-1]}"[:300]
        return None
    entry.update(figures=figures, units=units_of(group), detail=detail, seconds=round(time.time() - begun, 1))
    return figures


def measure(args, engines, title, model, log):
    """{engine: ([figures of each run], setting)}"""
    group, found, settings = GROUPS[title], {}, {}
    for engine in engines:
        settings[engine.name] = {choice: values[0] for choice, values in engine.choices}
        found[engine.name] = []
        known = {}
        for choice, values in engine.choices:  # one choice after the other
            for value in values:
                setting = {**settings[engine.name], choice: value}
                key = tuple(setting.values())
                if key not in known:
                    known[key] = once(args, engine, group, title, model, setting, log) or []
            good = {v: known[tuple({**settings[engine.name], choice: v}.values())] for v in values}
            unit = units_of(group)[0]
            settings[engine.name] = {**settings[engine.name], choice: max(values, key=lambda v: times_better(unit, statistics.geometric_mean(good[v]), 1) if good[v] else 0)}
    turn = engines[1:2] + engines[:1] + engines[2:]  # tandem between its peers
    for number in range(args.runs):
        for engine in turn if number % 2 == 0 else turn[::-1]:
            found[engine.name].append(once(args, engine, group, title, model, settings[engine.name], log))
    return {e.name: (found[e.name], settings[e.name]) for e in engines}


def median(values):
    there = [v for v in values if v]
    return statistics.median(there) if there else None


def chart(rows, names, path):
    """Bars of tandem over each peer; the line at 1 is equality."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot
    titles = [f"{r['model']}: {r['case']}" for r in rows]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.24 * len(rows) * len(names)))
    high = 0.8 / len(names)
    for i, name in enumerate(names):
        bars = axes.barh([y + i * high for y in range(len(rows))], [r["ratio"][name] or 0 for r in rows], high, label=f"over {name}", color=["#2a7f62", "#7fb069"][i % 2])
        axes.bar_label(bars, [f"{r['ratio'][name]:.2f}" if r["ratio"][name] else "peer failed" for r in rows], padding=3, fontsize=7)
    axes.axvline(1, color="black", linestyle="--", linewidth=0.8)
    axes.set_yticks([y + 0.4 - high / 2 for y in range(len(rows))], titles, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times better than the peer (same file, same cores)")
    axes.margins(x=0.08)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def write(args, engines, rows, log):
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    names = [e.name for e in engines]
    with open(args.out + ".md", "w") as f:
        f.write(f"Machine: {cpu.group(1) if cpu else '?'}, {os.cpu_count()} cores; {args.threads} threads; {args.runs} runs each in turn; rates are medians, ratios the medians of the turns' ratios; every run began on a machine less than {args.busy:.0%} busy.\n\n")
        for e in engines:
            f.write(f"- {e.name}: {e.version()}\n")
        f.write("\n| model | case | " + " | ".join(names) + " | " + " | ".join("over " + n for n in names[1:]) + " | settings of the peers |\n" + "|---" * (2 + len(names) * 2) + "|\n")
        for r in rows:
            unit = r.get("unit", RATE)
            rates = [f"{r['rates'][n]:.{2 if unit == 's' else 1}f} {unit}" if r["rates"][n] else "failed" for n in names]
            ratios = [f"{r['ratio'][n]:.2f}" if r["ratio"][n] else "-" for n in names[1:]]
            told = "; ".join(" ".join(f"{k} {v}" for k, v in r["settings"][n].items()) for n in names[1:])
            f.write(f"| {r['model']} | {r['case']} | " + " | ".join(rates + ratios) + f" | {told} |\n")
        f.write("\nCommands:\n\n" + "".join(f"    {c}\n" for c in sorted({x["command"] for x in log})))
    with open(args.out + ".json", "w") as f:
        json.dump({"rows": rows, "runs": log}, f, indent=1)
    if names[1:]:
        chart(rows, names[1:], args.out + ".svg")


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("models", nargs="*")
    cli.add_argument("--tandem", default="build/tandem")
    cli.add_argument("--isa", help="Tandem's kernels, where the peers were built for less than this machine has (avx2)")
    cli.add_argument("--llama", help="folder with llama.cpp's llama-bench and llama-batched-bench")
    cli.add_argument("--ik", help="the same of ik_llama.cpp")
    cli.add_argument("--threads", type=int, default=os.cpu_count())
    cli.add_argument("--runs", type=int, default=5)
    cli.add_argument("--groups", default="short,streams,4K", help="; ".join(f"{k}: {', '.join(v['cases'])}" for k, v in GROUPS.items()))
    cli.add_argument("--busy", type=float, default=0.05, help="how busy the machine may be before a run (share of all cores)")
    cli.add_argument("--wait", type=float, default=120, help="seconds to wait for a quiet machine")
    cli.add_argument("--join", nargs="*", default=[], metavar="OUT.json", help="begin with the rows of earlier runs")
    cli.add_argument("--out", default="build/peers")
    args = cli.parse_args()
    args.models = [os.path.abspath(m) for m in args.models]
    engines = [Tandem(os.path.abspath(args.tandem), args.isa)]
    if args.llama:
        # llama-bench has no option against repacking; tensors placed in the plain buffer of the CPU are not repacked
        engines.append(Peer("llama.cpp", os.path.abspath(args.llama), {"llama-bench": {"on": [], "off": ["-ot", ".*=CPU"]}, "llama-batched-bench": {"on": ["--repack"], "off": ["--no-repack"]}}))
    if args.ik:
        engines.append(Peer("ik_llama.cpp", os.path.abspath(args.ik), {"llama-bench": {"on": ["-rtr", "1"], "off": ["-rtr", "0"]}, "llama-batched-bench": {"on": ["-rtr"], "off": []}}))
    if len(engines) == 1:
        cli.error("nothing to compare with: pass --llama FOLDER or --ik FOLDER")
    for title in args.groups.split(","):
        if title not in GROUPS:
            cli.error(f"no group '{title}': {', '.join(GROUPS)}")
    log, rows = [], []
    for path in args.join:
        kept = json.load(open(path))
        rows += kept["rows"]
        log += kept["runs"]
    if args.join:
        write(args, engines, rows, log)
    for model in args.models:
        for title in args.groups.split(","):
            found = measure(args, engines, title, model, log)
            for i, (case, unit) in enumerate(zip(GROUPS[title]["cases"], units_of(GROUPS[title]))):
                each = {name: [f and f[i] for f in figures] for name, (figures, _) in found.items()}
                rates = {name: median(values) for name, values in each.items()}
                ratio = {n: median([own and other and times_better(unit, own, other) for own, other in zip(each["tandem"], values)]) for n, values in each.items() if n != "tandem"}
                rows.append({"model": os.path.basename(model).removesuffix(".gguf"), "case": case, "unit": unit, "rates": rates, "ratio": ratio, "settings": {n: s for n, (_, s) in found.items()}})
                print(rows[-1]["model"], case, {k: round(v, 2) if v else "failed" for k, v in rates.items()}, {k: round(v, 2) for k, v in ratio.items() if v}, flush=True)
            write(args, engines, rows, log)  # after every group: what was measured is not lost


if __name__ == "__main__":
    main()
