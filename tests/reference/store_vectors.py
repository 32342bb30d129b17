#!/usr/bin/env python3
"""Makes tests/data/reference: per family a tiny model folder, ids.npy (int32 [tokens]) and logits.npy (float32 [tokens, vocabulary]).

    store_vectors.py [--out DIR] [--check]

The logits come from the references: transformers in float32, for Step-3 the float64 implementation. tests/test_engine.c compares the program with them, so
that `make test` needs no Python. --check makes them again in memory and compares with what is stored (exit status 1 on a difference above 1e-5 of the largest
logit, or on changed model bytes). Sizes, seed and prompts are fixed: running it again changes nothing.
"""
import argparse
import filecmp
import pathlib
import shutil
import sys
import tempfile

import numpy as np

import cases
import folder
import make_models
import reference

SEED, TOKENS, MARGIN = 20, 37, 0.05
ONE_KB, TOTAL_KB = 60, 1200
HERE = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"


def make(out, name):
    path = make_models.make(out / name, name, SEED, table=cases.STORED)
    config, weights = folder.weights_of(path)
    ids = reference.choose_ids(config, weights, TOKENS, MARGIN, SEED)
    np.save(path / "ids.npy", np.array(ids, dtype=np.int32))
    np.save(path / "logits.npy", reference.best_logits(path, ids).astype(np.float32))
    return path


def size_kb(path):
    return sum(f.stat().st_size for f in path.iterdir()) / 1024


def check(fresh, stored):
    """Sentences about what differs."""
    for f in sorted(fresh.iterdir()):
        other = stored / f.name
        if not other.exists():
            yield f"{other}: expected a file, found none"
        elif f.name == "logits.npy":
            error = reference.relative(np.load(other), np.load(f))
            if not error < 1e-5:
                yield f"{other}: differs from a fresh reference by {error:.1e} of the largest logit"
        elif not filecmp.cmp(f, other, shallow=False):
            yield f"{other}: bytes differ from a fresh one"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", type=pathlib.Path, default=HERE)
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    faults, total = [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for name in cases.STORED:
            if a.check:
                faults += check(make(pathlib.Path(scratch), name), a.out / name)
                continue
            shutil.rmtree(a.out / name, ignore_errors=True)
            kb = size_kb(make(a.out, name))
            total += kb
            print(f"{name:20} {kb:6.1f} KB")
            if kb > ONE_KB:
                faults.append(f"{name}: {kb:.0f} KB, at most {ONE_KB} wanted")
    if total > TOTAL_KB:
        faults.append(f"{total:.0f} KB in all, at most {TOTAL_KB} wanted")
    print("\n".join(faults) if faults else "the stored vectors are what the references say" if a.check else f"{total:.0f} KB in all")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
