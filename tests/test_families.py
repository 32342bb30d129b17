#!/usr/bin/env python3
"""All checks against the references, one after the other (a slow tier: a few minutes; needs tests/requirements.txt).

    TD_BINARY=build/tandem build/venv/bin/python tests/test_families.py [--seed N] [--only oracles,stored,compare,wild,keys,bad]

oracles: the references against each other. stored: tests/data/reference is what the references say. compare: the program against the references, fresh models. wild: the same with
configurations drawn at random, and built by transformers. keys: GGUF files with keys that other programs write, before and after conversion.
bad: the program on broken models and wrong command lines. Exit status 1 when any fails; each prints what differs.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent / "reference"
STEPS = {"oracles": ["check_oracles.py"], "stored": ["store_vectors.py", "--check"], "compare": ["compare.py"], "wild": ["wild.py"], "keys": ["gguf_keys.py"], "bad": ["bad_input.py"]}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int, default=int(os.environ.get("TD_SEED", 0)) or int(time.time()) % 100000)
    p.add_argument("--only", type=lambda t: t.split(","), default=list(STEPS))
    p.add_argument("--sanitized", action="store_true", help="the program is a sanitizer build")
    a = p.parse_args()
    if set(a.only) - set(STEPS):
        p.error(f"--only: any of {','.join(STEPS)}")
    failed = []
    for name in a.only:
        more = ["--seed", str(a.seed)] if name in ("oracles", "compare", "wild", "keys") else ["--sanitized"] if name == "bad" and a.sanitized else []
        start = time.monotonic()
        status = subprocess.run([sys.executable, str(HERE / STEPS[name][0]), *STEPS[name][1:], *more]).returncode
        print(f"== {name}: {'passed' if status == 0 else f'exit status {status}'} in {time.monotonic() - start:.0f} s", flush=True)
        if status:
            failed.append(name)
    print(f"seed {a.seed}: {'all passed' if not failed else 'failed: ' + ', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
