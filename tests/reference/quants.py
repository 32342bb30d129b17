#!/usr/bin/env python3
"""Writes tests/reference/quants_vectors.h: blocks of every quantised type with the values that the gguf package reads from them, and rows with the bytes it
quantises them to; float conversions by torch. Run: build/venv/bin/python tests/reference/quants.py (needs gguf, numpy, torch)."""
import pathlib

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import quants

rng = np.random.default_rng(20)


def array(name, values, kind):
    text = ", ".join(f"0x{int(v):x}" for v in values)
    # break only after a comma and a space
    out, line = [], ""
    for item in text.split(", "):
        if len(line) + len(item) > 150:
            out.append(line.rstrip())
            line = ""
        line += item + ", "
    out.append(line.rstrip(", "))
    return f"static const {kind} {name}[] = {{\n    " + "\n    ".join(out) + "};\n"


def bits(x):
    return np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).ravel()


def halves(*values):
    return np.array(values, dtype=np.float16).view(np.uint8)


def blocks(kind):
    r = lambda n: rng.integers(0, 256, n, dtype=np.uint8)
    if kind in (T.Q8_0, T.Q4_0):
        return np.concatenate([np.concatenate([halves(d), r(32 if kind == T.Q8_0 else 16)]) for d in (0.37, -1.5e-5, 6e-8)])
    if kind == T.Q6_K:
        return np.concatenate([r(208), halves(-0.0123)])
    return np.concatenate([halves(0.02, 0.0031), r(12 + (32 if kind == T.Q5_K else 0) + 128)])


out = ["/* Written by tests/reference/quants.py with the gguf package; do not edit. */\n"]
for kind in (T.Q8_0, T.Q4_0, T.Q4_K, T.Q5_K, T.Q6_K):
    b = blocks(kind)
    out.append(array(f"{kind.name.lower()}_bytes", b, "uint8_t"))
    out.append(array(f"{kind.name.lower()}_values", bits(quants.dequantize(b, kind)), "uint32_t"))
x = np.concatenate([rng.standard_normal(96), np.zeros(32), rng.standard_normal(32) * 1e-4, np.linspace(-2, 2, 32)]).astype(np.float32)
x[3] = 4.0
x[40] = -5.0
out.append(array("row_values", bits(x), "uint32_t"))
for kind in (T.Q8_0, T.Q4_0):
    out.append(array(f"row_{kind.name.lower()}", quants.quantize(x, kind), "uint8_t"))
edge = np.array([0, -0.0, 1, -1, 65504, 65519.9, 65520, 1e9, 6e-8, 2.9e-8, 3e-8, 8.9e-8, 6.1e-5, 6.0976e-5, 2049, 2051, 0.1, -0.3333, 1e-20, np.inf, -np.inf,
                 240, 448, 0.017, 0.0009765625, 0.00292969, 0.0029296875, 0.0155, 17, 19, 25, 27, 1.0625, 1.1875], dtype=np.float32)
out.append(array("edge_values", bits(edge), "uint32_t"))
t = torch.from_numpy(edge)
out.append(array("edge_f16", t.to(torch.float16).view(torch.int16).numpy().view(np.uint16), "uint16_t"))
out.append(array("edge_bf16", t.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16), "uint16_t"))
out.append(array("edge_f8", t.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy(), "uint8_t"))
codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
out.append(array("f8_codes", bits(codes), "uint32_t"))
(pathlib.Path(__file__).parent / "quants_vectors.h").write_text("\n".join(out))
