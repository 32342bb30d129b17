#!/usr/bin/env python3
"""Makes tiny random Hugging Face folders of every family, fresh from a seed.

    make_models.py OUT [--seed N] [--case NAME ...] [--layout classic|today|fused] [--list]

classic: config.json with rope_theta and rope_scaling, one tensor per expert: what published checkpoints look like.
today:   the same weights written by the installed transformers' save_pretrained (rope_parameters in config.json; its own choice of names). Not step3.
fused:   today without save_pretrained's way back to published names: mlp.experts.gate_up_proj [experts, 2*ff, width]. Only families with experts.
Values are scaled so that hidden states stay near 1 through the layers, and norms, biases and the choice bias are random, so that any mistake shows.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

import cases
import folder


def draw(rng, shape, kind):
    if kind == "norm":
        return 1.0 + 0.3 * rng.standard_normal(shape)
    if kind == "bias":
        return 0.3 * rng.standard_normal(shape)
    if kind == "choice":
        return 0.25 * rng.standard_normal(shape)
    if kind == "embed":
        return rng.standard_normal(shape)
    gain = {"matrix": 1.2, "router": 2.0}[kind]
    return gain / np.sqrt(shape[-1]) * rng.standard_normal(shape)


def kept_wide(name, kind):
    """Tensors that FP8 checkpoints keep in BF16 (F32 for the choice bias): everything that is not a linear weight, the router, embedding and head."""
    return kind != "matrix" or name == "lm_head.weight" or name.startswith("vi") or ".eh_proj" in name


def quantise_config(config):
    return dict(config, torch_dtype="bfloat16", quantization_config=dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128]))


def make(out, name, seed, shards=None, table=cases.CASES):
    """Writes a classic folder of a case. Returns its path."""
    config, shapes, dtype, published_shards = cases.build(name, seed, table)
    rng = np.random.default_rng([seed, 77, *name.encode()])
    tensors = {}
    for tensor, (shape, kind) in shapes.items():
        x = draw(rng, shape, kind).astype(np.float32)
        if kind == "choice" or dtype == "f32":
            tensors[tensor] = folder.store(x, "F32")
        elif dtype == "fp8" and not kept_wide(tensor, kind):
            tensors[tensor], tensors[tensor + "_scale_inv"] = folder.store_f8(x)
        else:
            tensors[tensor] = folder.store(x, "BF16")
    config = dict(config, torch_dtype="float32" if dtype == "f32" else "bfloat16")
    if dtype == "fp8":
        config = quantise_config(config)
    return folder.write_folder(out, config, tensors, shards or published_shards)


def as_f32_folder(source, out):
    """The same weights as a plain F32 folder (BF16 and F8 multiplied out), which every reader understands."""
    config, weights = folder.weights_of(source)
    config = {k: v for k, v in config.items() if k != "quantization_config"}
    config["torch_dtype"] = "float32"
    return folder.write_folder(out, config, {n: folder.store(x, "F32") for n, x in weights.items()})


def load_transformers(source):
    """The transformers model of a folder in float32 with plain attention; every tensor must have been used (except multi-token prediction)."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as plain:
        as_f32_folder(source, plain)
        model, told = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    layers = model.config.num_hidden_layers
    strange = [k for k in told["unexpected_keys"] if f"layers.{layers}." not in k] + list(told["missing_keys"]) + list(told["mismatched_keys"])
    if strange:
        raise RuntimeError(f"{source}: transformers did not find or did not use {strange[:5]}")
    return model.eval()


def save_today(source, out, fused=False):
    """Writes the folder again with save_pretrained, in the source's dtype (F32 or BF16)."""
    import torch

    model = load_transformers(source)
    if folder.read_folder(source)[0].get("torch_dtype") == "bfloat16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(out, save_original_format=not fused)
    return pathlib.Path(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out", nargs="?")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--case", action="append", choices=list(cases.CASES))
    p.add_argument("--layout", choices=["classic", "today", "fused"], default="classic")
    p.add_argument("--list", action="store_true", help="print the names of the cases")
    a = p.parse_args()
    if a.list:
        print("\n".join(cases.CASES))
        return 0
    if not a.out:
        p.error("OUT: where to write the folders")
    for name in a.case or cases.CASES:
        path = pathlib.Path(a.out) / name
        if a.layout == "classic":
            make(path, name, a.seed)
        elif not name.startswith("step3"):
            with tempfile.TemporaryDirectory() as classic:
                save_today(make(classic, name, a.seed), path, a.layout == "fused")
        else:
            continue
        print(path, f"{sum(f.stat().st_size for f in path.iterdir()) / 1024:.0f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
