#!/usr/bin/env python3
"""What keys of GGUF files mean: a file changed in one way gives the same logits before and after conversion, to a folder and to GGUF, or the conversion is refused; and keys that other programs write
another way give the logits of the folder that says the same.

    TD_BINARY=build/tandem gguf_keys.py [--seed N]
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

import gguf_models
import make_models
from bad_models import gguf_change

U32, F32, BOOL, STRING = 4, 6, 7, 8
MODELS = ("llama", "qwen3", "qwen3_moe", "llama-bias", "llama-tied", "llama-llama3", "deepseek_v3", "deepseek_v2-lite", "deepseek_v2-groups", "step3")


def u32(g, name, value): g.key(name, U32, struct.pack("<I", value))
def f32(g, name, value): g.key(name, F32, struct.pack("<f", value))
def flag(g, name, value): g.key(name, BOOL, struct.pack("<B", value))
def word(g, name, value): g.key(name, STRING, struct.pack("<Q", len(value)) + value.encode())


def scaling(kind, **more):
    def change(g, arch):
        word(g, f"{arch}.rope.scaling.type", kind)
        f32(g, f"{arch}.rope.scaling.factor", 4)
        if kind == "yarn":
            u32(g, f"{arch}.rope.scaling.original_context_length", 64)
        for name, value in more.items():
            f32(g, f"{arch}.rope.scaling.{name}", value)
    return change


def factor_alone(name):
    def change(g, arch):
        for key in [k for k in g.keys if ".rope.scaling." in k or k.startswith("tandem.rope")]:
            del g.keys[key]
        f32(g, f"{arch}.{name}", 4)
    return change


def without_tensors(keep):
    """keep(name): False for biases that go."""
    def change(g, arch):
        g.tensors[:] = [t for t in g.tensors if not t[0].endswith(".bias") or "exp_probs" in t[0] or keep(t[0])]
    return change


def with_next_token_layer(g, arch):
    """One layer more, a copy of the last, that predicts further tokens: counted in block_count, not used."""
    layers = 1 + max(int(t[0].split(".")[1]) for t in g.tensors if t[0].startswith("blk."))
    u32(g, f"{arch}.nextn_predict_layers", 1)
    u32(g, f"{arch}.block_count", layers + 1)
    g.tensors += [[t[0].replace(f"blk.{layers - 1}.", f"blk.{layers}."), *t[1:]] for t in list(g.tensors) if t[0].startswith(f"blk.{layers - 1}.")]


def changes(model, arch):
    yield "as it is", lambda g, a: None
    for name in ("attention.layer_norm_rms_epsilon", "rope.freq_base", "context_length", "attention.head_count_kv"):
        yield "no " + name, lambda g, a, name=name: g.keys.pop(f"{a}.{name}", None)
    yield "linear", scaling("linear")
    yield "yarn", scaling("yarn")
    yield "yarn, attn_factor", scaling("yarn", attn_factor=1.3)
    yield "yarn, both factors", scaling("yarn", attn_factor=1.2, yarn_attn_factor=1.3)
    yield "yarn, betas", scaling("yarn", yarn_beta_fast=8, yarn_beta_slow=2)
    yield "yarn, log multiplier", scaling("yarn", yarn_log_multiplier=0.0707)
    yield "yarn, log multiplier and attn_factor", scaling("yarn", yarn_log_multiplier=0.0707, attn_factor=1.3)
    yield "linear, log multiplier", scaling("linear", yarn_log_multiplier=0.0707)
    yield "linear, attn_factor", scaling("linear", attn_factor=1.3)
    yield "attn_factor alone", lambda g, a: f32(g, f"{a}.rope.scaling.attn_factor", 1.3)
    for name in ("rope.scaling.factor", "rope.scale_linear"):
        yield "a factor without a kind, " + name, factor_alone(name)
    yield "part of a head rotated", lambda g, a: u32(g, f"{a}.rope.dimension_count", 4)
    if arch == "deepseek2":
        yield "a layer for further tokens", with_next_token_layer
    if model == "llama-bias":
        for kept in ("attn_k", "attn_output", "blk.1."):
            yield "biases only of " + kept, without_tensors(lambda name, kept=kept: kept in name)
        yield "no bias of o", without_tensors(lambda name: "attn_output" not in name)
    if arch in ("qwen3moe", "deepseek2", "step3"):
        for value in (True, False):
            yield f"weights normalised {value}", lambda g, a, value=value: flag(g, f"{a}.expert_weights_norm", value)
        for value in (1, 2):
            yield f"gating {value}", lambda g, a, value=value: u32(g, f"{a}.expert_gating_func", value)
        for name in ("expert_weights_norm", "expert_gating_func", "expert_shared_count", "expert_feed_forward_length"):
            yield "no " + name, lambda g, a, name=name: g.keys.pop(f"{a}.{name}", None)
        yield "scale 2", lambda g, a: f32(g, f"{a}.expert_weights_scale", 2)


class Trials:
    def __init__(self, program, folder, ids):
        self.program, self.folder, self.ids, self.failed, self.equal, self.refused = program, folder, ids, 0, 0, 0

    def run(self, *arguments):
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=120)

    def logits(self, model):
        """Or the sentence why not."""
        out = self.folder / "l.npy"
        out.unlink(missing_ok=True)
        done = self.run("logits", model, "--ids", self.ids, "--out", out)
        assert done.returncode in (0, 1), (model, done.returncode, done.stderr)
        return np.load(out).astype(np.float64) if done.returncode == 0 else done.stderr.strip()

    def compare(self, title, found, wanted):
        if isinstance(found, str) or isinstance(wanted, str):
            error = None
        else:
            error = np.abs(found - wanted).max() / np.abs(wanted).max()
        good = error is not None and error < 1e-4
        self.equal += good
        self.failed += not good
        if not good:
            print(f"FAIL {title}: {'no logits: ' + str(found if isinstance(found, str) else wanted)[-200:] if error is None else f'{error:.2g} of the largest logit apart'}", flush=True)

    def converted(self, title, source, wanted):
        for out in (self.folder / "back", self.folder / "again.gguf"):
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True) if out.suffix else None
            done = self.run("convert", source, out)
            if done.returncode == 0:
                self.compare(f"{title} -> {out.name}", self.logits(out), wanted)
            else:
                self.refused += 1
                said = done.stderr.strip().splitlines()[-1]
                assert done.returncode == 1 and "expected" in said and not out.exists(), (title, done.returncode, done.stderr)


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    o = ask.parse_args()
    program = os.environ.get("TD_BINARY")
    if not program:
        ask.error("TD_BINARY must name the program")
    print(f"seed {o.seed}")
    rng = np.random.default_rng(o.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        t = Trials(program, folder, ",".join(str(i) for i in rng.integers(0, 90, 40)))
        for model in MODELS:
            plain, file, changed = folder / model, folder / (model + ".gguf"), folder / "changed.gguf"
            make_models.make(plain, model, o.seed)
            gguf_models.write(plain, file)
            arch = gguf_models.ARCHITECTURES[json.loads((plain / "config.json").read_text())["model_type"]]
            for title, change in changes(model, arch):
                gguf_change(lambda g, change=change: change(g, arch))(file, changed)
                wanted = t.logits(changed)
                if isinstance(wanted, str):
                    t.refused += 1
                    assert "expected" in wanted, (model, title, wanted)
                else:
                    t.converted(f"{model}, {title}", changed, wanted)
                if title.startswith("a factor without a kind") and model != "llama-llama3":
                    gguf_change(lambda g: (factor_alone("rope.scaling.factor")(g, arch), scaling("linear")(g, arch)))(file, changed)
                    t.compare(f"{model}, {title} against linear scaling", wanted, t.logits(changed))
                if title == "a layer for further tokens":
                    t.compare(f"{model}, {title} against none", wanted, t.logits(file))
        print(f"{t.equal} equal, {t.refused} refused, {t.failed} failed")
        assert t.equal > 150 and t.refused > 20
        return 1 if t.failed else 0


if __name__ == "__main__":
    sys.exit(main())
