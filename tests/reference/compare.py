#!/usr/bin/env python3
"""Compares the program's logits with the references, on tiny random models of every family made fresh from a seed.

    TD_BINARY=build/tandem compare.py [--seed N] [--case NAME ...] [--tokens N] [--keep DIR] [--part folders,bytes,cache,gguf,quant]

Prints one row a comparison: what, error (largest difference over the largest logit), bound; exit status 1 on any miss. The bounds:

    F32, BF16, FP8 weights   1e-4. A weight becomes an F32 exactly (an FP8 weight up to one rounding of its block scale) and activations stay F32, so only the order of F32
                             sums differs from the reference: about 1e-6 is expected; 1e-4 leaves room for long sums, and any wrong convention gives 2e-2 or more
                             (check_oracles.py prints what typical mistakes give).
    KV cache in BF16, Q8_0   against a reference whose cached rows are rounded the same way: 1e-4 on half of eight short prompts (a wrong rule misses on all of them). On the long
                             prompt one step of the type, 2^-7 (BF16 numbers just above a power of two lie that far apart) or 1/127: where the values before rounding, which
                             differ in the seventh digit, lie on both sides of a border, an element moves by one step, and at the first positions no other token averages it
                             away. Prompts with such an element were seen at 2e-5 to 9e-4, once at 6e-3; the others at 1e-6 to 1e-5.
    Q8_0 ... Q6_K weights    against dequantise-then-multiply on exactly the weights that the file holds, twice. Without rounding of activations: twice the error that rounding
                             them to 8 bits (per 32 or 256, as the integer kernels define it) causes in the reference on the same prompt. With that rounding in the
                             reference: 1e-4, on half of eight short prompts: a wrong rule misses on all of them, while an activation that by chance rounds the other way
                             (about one token in a hundred), and changes what follows, misses on one. Prompts keep every router logit 0.15 away from another choice.
    quantised weights        rms error of the file's weights over the rms of the original: step / sqrt(12) for Gaussian weights, with some slack.
    bytes                    equal: threads 1 and 2, prefill chunks 1, 3, 64, the plain kernels, and --quant on load against the converted file.
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
import gguf_models
import make_models
import reference

EXACT, PROMPTS = 1e-4, 8
CACHE_STEP = {"bf16": 2.0**-7, "q8_0": 1 / 127}
WEIGHT_RMS = {"q8_0": 0.007, "q6_k": 0.022, "q5_k": 0.048, "q4_k": 0.095, "q4_0": 0.10}
PARTS = ("folders", "bytes", "cache", "gguf", "quant")


class Table:
    """Rows on stdout; counts misses."""

    def __init__(self):
        self.rows = self.misses = 0

    def row(self, case, what, error, bound):
        ok = error is not None and error <= bound
        self.rows += 1
        self.misses += not ok
        print(f"{case:20} {what:34} {'equal' if error == 0 else 'failed' if error is None else format(error, '.1e'):>9} {'bytes' if bound == 0 else format(bound, '.1e'):>9}{'' if ok else '  MISS'}", flush=True)

    def failed(self, case, what, sentence):
        self.row(case, what, None, 0)
        print(f"    {sentence}")


class Binary:
    def __init__(self, path, scratch):
        self.path, self.scratch, self.calls = path, scratch, 0

    def run(self, *arguments):
        """None, or what it said when it failed."""
        r = subprocess.run([self.path, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        return None if r.returncode == 0 else f"exit status {r.returncode}: {r.stderr.strip()[-400:]}"

    def logits(self, model, ids, *options):
        """(float64 array or None, sentence)."""
        self.calls += 1
        out = self.scratch / f"out-{self.calls}.npy"
        said = self.run("logits", model, "--ids", ",".join(map(str, ids)), "--out", out, *options)
        if said:
            return None, said
        got = np.load(out)
        out.unlink()
        if got.dtype != np.float32 or got.shape[0] != len(ids):
            return None, f"expected float32 [{len(ids)}, vocabulary], found {got.dtype} {got.shape}"
        return got, None


class Case:
    """A model folder with its prompt and reference logits."""

    def __init__(self, name, seed, tokens, scratch, margin):
        self.name, self.seed = name, seed
        self.path = make_models.make(scratch / name, name, seed)
        self.config, self.weights = folder.weights_of(self.path)
        self.ids = reference.choose_ids(self.config, self.weights, tokens, margin, seed)
        self.want = reference.best_logits(self.path, self.ids)


def compare(table, binary, case, what, model, want, bound, *options):
    """One row; returns the program's logits or None."""
    got, said = binary.logits(model, case.ids, *options)
    if got is None:
        table.failed(case.name, what, said)
    elif got.shape != want.shape:
        table.failed(case.name, what, f"expected shape {want.shape}, found {got.shape}")
    elif not np.isfinite(got).all():
        table.failed(case.name, what, "logits that are not finite")
    else:
        table.row(case.name, what, reference.relative(got.astype(np.float64), want), bound)
    return got


def same_bytes(table, binary, case, what, model, want, *options):
    got, said = binary.logits(model, case.ids, *options)
    if got is None:
        table.failed(case.name, what, said)
    else:
        table.row(case.name, what, 0.0 if got.tobytes() == want.tobytes() else max(reference.relative(got.astype(np.float64), want), 1e-30), 0.0)


def folders(table, binary, case, scratch):
    got = compare(table, binary, case, "folder as published", case.path, case.want, EXACT)
    kind = case.config["model_type"]
    if kind.startswith("step3") or case.name.endswith(("fp8", "mtp")):
        return got
    compare(table, binary, case, "folder by save_pretrained", make_models.save_today(case.path, scratch / "today"), case.want, EXACT)
    if "moe" in kind or "deepseek" in kind:
        compare(table, binary, case, "folder with fused experts", make_models.save_today(case.path, scratch / "fused", fused=True), case.want, EXACT)
    return got


def byte_identity(table, binary, case):
    first, said = binary.logits(case.path, case.ids)
    if first is None:
        return table.failed(case.name, "bytes", said)
    for options in (["--threads", 1], ["--threads", 2], ["--prefill-chunk", 1], ["--prefill-chunk", 3], ["--prefill-chunk", 64, "--threads", 1], ["--isa", "ref"], ["--no-prefix-reuse"]):
        same_bytes(table, binary, case, " ".join(map(str, options)), case.path, first, *options)


def cache_types(table, binary, case):
    for kind in ("bf16", "q8_0"):
        c = case.config.get("text_config", case.config)
        widths = [c["kv_lora_rank"], c["qk_rope_head_dim"]] if "kv_lora_rank" in c else [c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]]
        if kind == "q8_0" and any(w % 32 for w in widths):
            continue
        def forward(ids, kind=kind):
            return reference.forward(case.config, case.weights, ids, cache=reference.rounding_cache(kind))[0]
        compare(table, binary, case, f"--kv {kind}", case.path, forward(case.ids), CACHE_STEP[kind], "--kv", kind)
        emulated(table, binary, case, f"--kv {kind}, short prompts", case.path, case.weights, forward, case.seed, "--kv", kind)


def largest_difference(ours, theirs):
    """Names that differ, or None: the weights of a file against those of the folder, exactly (as float32)."""
    for name, x in ours.items():
        if name not in theirs:
            return f"{name} is missing"
        if x.shape != theirs[name].shape or not np.array_equal(x.astype(np.float32), theirs[name].astype(np.float32)):
            return f"{name} differs"
    return None


def decoded(config, weights):
    """Without what plain decoding leaves out: vision and multi-token prediction."""
    layers = config.get("text_config", config)["num_hidden_layers"]
    return {n: x for n, x in weights.items() if not n.startswith("vi") and f"model.layers.{layers}." not in n}


def gguf(table, binary, case, scratch):
    """GGUF files written independently; then the program's own conversion, judged by reading it independently; then back to safetensors."""
    c = case.config.get("text_config", case.config)
    for matrices in ("F32", "F16") if case.name in ("llama", "step3") else ("F32",):
        written = gguf_models.write(case.path, scratch / "written.gguf", matrices)
        want = case.want if matrices == "F32" else reference.forward(case.config, gguf_models.read(written, case.config), case.ids)[0]
        compare(table, binary, case, f"GGUF by convention, {matrices}", written, want, EXACT)
    odd = gguf_models.write(case.path, scratch / "odd.gguf", gguf_models.mixed, alignment=256, version=2)
    split = gguf_models.write(case.path, scratch / "split.gguf", gguf_models.mixed, split=7)
    held = gguf_models.read(odd, case.config, reference.typed)
    emulated(table, binary, case, "GGUF v2, mixed types, aligned 256", odd, held, lambda ids: forward_mixed(case, held, ids), case.seed)
    got, said = binary.logits(odd, case.ids)
    if got is None:
        table.failed(case.name, "mixed types, whole", said)
    else:
        same_bytes(table, binary, case, "the same, split", split, got)
    if "kv_lora_rank" in c:
        compare(table, binary, case, "GGUF by convention, attn_kv_b", gguf_models.write(case.path, scratch / "old.gguf", old_mla=True), case.want, EXACT)
        if case.name.endswith("-q"):
            old = gguf_models.write(case.path, scratch / "old-q8.gguf", lambda number, name, x: "Q8_0" if x.shape[-1] % 32 == 0 and "ffn_gate_inp" not in name else "F32", old_mla=True)
            first, said = binary.logits(old, case.ids)
            if first is None:
                table.failed(case.name, "GGUF, attn_kv_b as q8_0", said)
            else:
                same_bytes(table, binary, case, "GGUF, attn_kv_b as q8_0, packed", old, first, "--layout", "packed")
    out, back = scratch / "converted.gguf", scratch / "back"
    said = binary.run("convert", case.path, out)
    if said:
        return table.failed(case.name, "convert to GGUF", said)
    held, want = gguf_models.read(out, case.config), case.want
    if case.name.endswith("fp8"):  # GGUF has no such type: BF16, one rounding of 8 bits
        plain = decoded(case.config, case.weights)
        worst = max(float(np.abs(held[n] - x).max() / np.abs(x).max()) for n, x in plain.items())
        table.row(case.name, "converted weights, read by gguf-py", worst, 2.0**-8)
        want = reference.forward(case.config, held, case.ids)[0]
    else:
        wrong = largest_difference(decoded(case.config, case.weights), held)
        if wrong:
            table.failed(case.name, "converted weights, read by gguf-py", wrong)
        else:
            table.row(case.name, "converted weights, read by gguf-py", 0.0, 0.0)
    compare(table, binary, case, "converted to GGUF", out, want, EXACT)
    said = binary.run("convert", out, back, "--format", "safetensors")
    if said:
        return table.failed(case.name, "convert back to safetensors", said)
    compare(table, binary, case, "converted back to safetensors", back, want, EXACT)


def rms_error(original, held, kept):
    """rms of the difference over rms of the original, over matrices that the file holds quantised."""
    error = total = 0.0
    for name in kept:
        error += float(np.square(held[name] - original[name].astype(np.float64)).sum())
        total += float(np.square(original[name].astype(np.float64)).sum())
    return (error / total) ** 0.5


def forward_rounded(case, weights, ids, kind, exact_kv_b=False):
    """What integer kernels make of these weights: activations rounded to 8 bits before every quantised matrix."""
    product = reference.rounding_product(kind.endswith("_k"))
    more = dict(absorbed=reference.exact_product if exact_kv_b else product) if "kv_lora_rank" in case.config else {}
    return reference.forward(case.config, weights, ids, product=product, **more)[0]


def forward_mixed(case, weights, ids):
    """The same where every matrix (reference.typed) has a type of its own."""
    product, more = reference.product_by(lambda w: w.kind), {}
    if "kv_lora_rank" in case.config:
        more = dict(absorbed=tuple(reference.product_by(lambda w, half=half: w.kind[half] if isinstance(w.kind, tuple) else w.kind) for half in (0, 1)))
    return reference.forward(case.config, weights, ids, product=product, **more)[0]


def emulated(table, binary, case, what, model, weights, forward, seed, *options):
    """The error that half of several short prompts stay below, against forward(ids), which rounds activations where the program does."""
    errors = []
    for i in range(PROMPTS):
        ids = reference.choose_ids(case.config, weights, 3, 0.15, seed + i)
        got, said = binary.logits(model, ids, *options)
        if got is None:
            return table.failed(case.name, what, said)
        errors.append(reference.relative(got.astype(np.float64), forward(ids)))
    table.row(case.name, what, sorted(errors)[PROMPTS // 2 - 1], EXACT)


def quantised(table, binary, case, scratch, seed):
    kinds = ("q8_0", "q4_k", "q5_k", "q6_k") if case.name.endswith("-k") else ("q8_0", "q4_0") if case.name.endswith("-q") else ("q4_k",)  # odd sizes: other types stand in
    for kind in kinds:
        out = scratch / f"{kind}.gguf"
        said = binary.run("convert", case.path, out, "--quant", kind)
        if said:
            table.failed(case.name, f"convert --quant {kind}", said)
            continue
        types = set(gguf_models.types_of(out).values())
        if kind.upper() not in types and case.name.endswith(("-q", "-k")):
            table.failed(case.name, f"convert --quant {kind}", f"expected tensors of type {kind.upper()}, found {sorted(types)}")
            continue
        held = gguf_models.read(out, case.config)
        changed = [n for n, x in case.weights.items() if x.ndim > 1 and n in held and not np.array_equal(held[n].astype(np.float32), x)]
        table.row(case.name, f"{kind} weights, rms error", rms_error(case.weights, held, changed), WEIGHT_RMS[kind])
        case.ids = reference.choose_ids(case.config, held, 16, 0.15, seed)  # far from another choice for the weights as they are now
        exact, rounded = reference.forward(case.config, held, case.ids)[0], forward_rounded(case, held, case.ids, kind)
        got = compare(table, binary, case, f"{kind} logits, no rounding", out, exact, 2 * reference.relative(rounded, exact) + EXACT)
        if got is None:
            continue
        emulated(table, binary, case, f"{kind} logits, rounding emulated", out, held, lambda ids: forward_rounded(case, held, ids, kind), seed)
        on_load = f"--quant {kind} on load"
        if "kv_lora_rank" in case.config:  # on load the halves of kv_b stay as they are
            kept = {n: x for n, x in case.weights.items() if "kv_b_proj" in n}
            mixed = {**held, **kept}
            emulated(table, binary, case, on_load, case.path, mixed, lambda ids: forward_rounded(case, mixed, ids, kind, exact_kv_b=True), seed, "--quant", kind)
        elif case.config["model_type"] == "llama":  # rows of q and k in another order: the same sums in another order
            emulated(table, binary, case, on_load, case.path, held, lambda ids: forward_rounded(case, held, ids, kind), seed, "--quant", kind)
        else:
            same_bytes(table, binary, case, on_load, case.path, got, "--quant", kind)
        same_bytes(table, binary, case, f"{kind}, chunk 3, 1 thread", out, got, "--prefill-chunk", 3, "--threads", 1)
        same_bytes(table, binary, case, f"{kind}, plain kernels", out, got, "--isa", "ref")
        same_bytes(table, binary, case, f"{kind}, packed", out, got, "--layout", "packed")
        same_bytes(table, binary, case, f"{kind}, packed, chunk 5, plain kernels", out, got, "--layout", "packed", "--prefill-chunk", 5, "--isa", "ref")
        loaded, said = binary.logits(case.path, case.ids, "--quant", kind)
        if loaded is None:
            table.failed(case.name, on_load, said)
        else:
            same_bytes(table, binary, case, f"{on_load}, packed", case.path, loaded, "--quant", kind, "--layout", "packed")


def run_case(table, binary, name, a, scratch):
    for_quants = name.endswith(("-q", "-k")) or name in ("step3", "llama-linear")
    case = Case(name, a.seed, a.tokens, scratch, 0.02)
    if "folders" in a.part:
        folders(table, binary, case, scratch)
    if "bytes" in a.part:
        byte_identity(table, binary, case)
    if "cache" in a.part:
        cache_types(table, binary, case)
    if "gguf" in a.part and not name.endswith("-vl"):
        gguf(table, binary, case, scratch)
    if "quant" in a.part and for_quants:
        quantised(table, binary, case, scratch, a.seed)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int, default=int(os.environ.get("TD_SEED", 0)) or int.from_bytes(os.urandom(2), "little"))
    p.add_argument("--case", action="append", choices=list(cases.CASES))
    p.add_argument("--tokens", type=int, default=70, help="longer than a KV page and than most prefill chunks")
    p.add_argument("--part", type=lambda t: t.split(","), default=PARTS)
    p.add_argument("--keep", type=pathlib.Path, help="leave the models here")
    a = p.parse_args()
    binary = os.environ.get("TD_BINARY")
    if not binary or not os.access(binary, os.X_OK):
        p.error("TD_BINARY must name the program")
    if set(a.part) - set(PARTS):
        p.error(f"--part: any of {','.join(PARTS)}")
    print(f"seed {a.seed}\n{'case':20} {'what':34} {'error':>9} {'bound':>9}")
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        base = a.keep or pathlib.Path(scratch)
        for name in a.case or cases.CASES:
            (base / name).mkdir(parents=True, exist_ok=True)
            run_case(table, Binary(os.path.abspath(binary), base / name), name, a, base / name)
    print(f"{table.rows} comparisons, {table.misses} misses (seed {a.seed})")
    return 1 if table.misses else 0


if __name__ == "__main__":
    sys.exit(main())
