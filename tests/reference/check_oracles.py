#!/usr/bin/env python3
"""Checks the references against each other: the float64 numpy implementations against transformers, and that `today`'s folders say the same as the classic ones.

    check_oracles.py [--seed N]        exit status 1 when any differs by more than 1e-5 of the largest logit (float32 arithmetic gives about 1e-6)

Also shows that the comparison has teeth: the error that appears when one convention is got wrong, and that compare.py, given a stand-in for the program, passes a
right one and fails one that is off by twice the bound.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import cases
import folder
import make_models
import reference

BOUND = 1e-5


def check(name, seed, scratch):
    path = make_models.make(scratch / name, name, seed)
    config, weights = folder.weights_of(path)
    ids = reference.choose_ids(config, weights, 40, 0.005, seed)
    own, margins = reference.forward(config, weights, ids)
    spread = np.abs(own).max(), np.std(own)
    if name.startswith("step3"):
        return spread, margins.min(), None, None
    theirs = reference.relative(own, reference.transformers_logits(path, ids))
    today = None
    if not name.endswith(("fp8", "mtp")):
        again = make_models.save_today(path, scratch / (name + "-today"))
        today = reference.relative(reference.own_logits(again, ids), own)
    return spread, margins.min(), theirs, today


def wrong_ones(seed, scratch):
    """Errors that typical mistakes cause: each must be far above every bound that compare.py allows."""
    def error(name, change):
        config, weights = folder.weights_of(make_models.make(scratch / ("wrong-" + name), name, seed))
        ids = reference.choose_ids(config, weights, 40, 0.005, seed)
        right = reference.forward(config, weights, ids)[0]
        wrong_config, wrong_weights = dict(config), dict(weights)
        change(wrong_config, wrong_weights)
        return reference.relative(reference.forward(wrong_config, wrong_weights, ids)[0], right)

    def no_choice_bias(c, w):
        for n in w:
            if n.endswith("correction_bias"):
                w[n] = np.zeros_like(w[n])

    def swap_norms(c, w):
        w["model.layers.1.input_layernorm.weight"], w["model.layers.1.post_attention_layernorm.weight"] = w["model.layers.1.post_attention_layernorm.weight"], w["model.layers.1.input_layernorm.weight"]

    yield "deepseek_v3 without the choice bias", error("deepseek_v3", no_choice_bias)
    yield "deepseek_v3 without groups", error("deepseek_v3", lambda c, w: c.update(n_group=1))
    yield "deepseek_v3 without YaRN", error("deepseek_v3", lambda c, w: c.update(rope_scaling=None))
    yield "deepseek_v3 weights not scaled", error("deepseek_v3", lambda c, w: c.update(routed_scaling_factor=1.0))
    yield "qwen3_moe without renormalising", error("qwen3_moe", lambda c, w: c.update(norm_topk_prob=False))
    yield "llama without llama3 scaling", error("llama-llama3", lambda c, w: c.update(rope_scaling=None))
    yield "llama without biases", error("llama-bias", lambda c, w: [w.pop(n) for n in list(w) if n.endswith(".bias")])
    yield "step3 with one expert too few", error("step3", lambda c, w: c.update(moe_top_k=2))
    yield "step3 with norms swapped", error("step3", swap_norms)


def compare_passes(scratch, error):
    """What compare.py says of the stand-in with this error."""
    here = pathlib.Path(__file__).resolve().parent
    stand_in = scratch / "stand-in"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{here}/fake_tandem.py" "$@"\n')
    stand_in.chmod(0o755)
    command = [sys.executable, str(here / "compare.py"), "--seed", "5", "--case", "llama", "--part", "folders"]
    return subprocess.run(command, env=dict(os.environ, TD_BINARY=str(stand_in), FAKE_ERROR=str(error)), capture_output=True).returncode == 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        print(f"seed {a.seed}\n{'case':22} {'max |logit|':>11} {'std':>6} {'margin':>8} {'transformers':>13} {'today':>9}")
        for name in cases.CASES:
            (largest, std), margin, theirs, today = check(name, a.seed, scratch)
            miss = any(x is not None and not x < BOUND for x in (theirs, today)) or not (0.5 < largest < 1000)
            bad += miss
            show = lambda x: "-" if x is None else f"{x:.1e}"
            print(f"{name:22} {largest:11.2f} {std:6.2f} {margin:8.4f} {show(theirs):>13} {show(today):>9}{'  MISS' if miss else ''}")
        for what, error in wrong_ones(a.seed, scratch):
            bad += error < 0.02
            print(f"{what:40} error {error:.3f}{'  TOO SMALL TO SEE' if error < 0.02 else ''}")
        for fault, passes in ((0.0, True), (2e-4, False)):
            wrong = compare_passes(scratch, fault) != passes
            bad += wrong
            print(f"compare.py {'passes' if passes else 'fails'} a program with error {fault}{': NO' if wrong else ''}")
    print("the references agree" if not bad else f"{bad} misses")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
