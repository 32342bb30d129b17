#!/usr/bin/env python3
"""Start-up and memory with a mapped model: wall time from exec to the end of one token's computation (so above the time to its begin), and the peak of anonymous memory.

    bench/start_up.py TANDEM MODEL [--repeat 5] [--context 4096]

Goals: the file in the page cache, under 1 s; memory at most weights + KV + 300 MB: of a mapped model only what is not file counts here, so KV + 300 MB.
Exit status 1 when a goal is missed. Standard library only.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

GOAL_S, GOAL_MB, READ_BYTES = 1.0, 300, 1 << 24


def anonymous_kb(pid):
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def once(command):
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, anonymous_kb(process.pid))
        time.sleep(0.002)
    seconds = time.monotonic() - start
    if process.returncode:
        sys.exit(process.stderr.read().decode())
    return seconds, peak / 1024


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("tandem")
    p.add_argument("model")
    p.add_argument("--repeat", type=int, default=5)
    p.add_argument("--context", type=int, default=4096)
    p.add_argument("--kv-mb", type=float, default=0, help="bytes of the KV cache when known; without: nothing is granted for it")
    a = p.parse_args()
    with open(a.model, "rb", buffering=0) as file:  # into the page cache
        while file.read(READ_BYTES):
            pass
    with tempfile.TemporaryDirectory() as folder:
        command = [a.tandem, "logits", a.model, "--ids", "1", "--out", os.path.join(folder, "l.npy"), "--context", str(a.context)]
        runs = [once(command) for _ in range(a.repeat)]
    seconds, memory = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
    allowed = GOAL_MB + a.kv_mb
    print(f"start-up {os.path.getsize(a.model) / 1e9:.2f} GB mapped: {seconds:.3f} s to the end of the first token (goal below {GOAL_S:g}); {memory:.0f} MB anonymous (goal at most {allowed:.0f}); median of {a.repeat}, load average {os.getloadavg()[0]:.1f}")
    return 0 if seconds < GOAL_S and memory <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
