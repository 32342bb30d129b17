"""Hugging Face folders with numpy alone: tensors in and out of .safetensors, BF16 and F8_E4M3 coding, 128x128 block scales.

Written from the format's description (8-byte header length, JSON header, data), so that neither torch nor the program under test decides what a
byte means. A tensor travels as Stored(dtype name, shape, bytes); values() gives float32 or float64 exactly.
"""
import json
import pathlib
import struct
from typing import NamedTuple

import numpy as np

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
F8_BLOCK = 128


class Stored(NamedTuple):
    dtype: str
    shape: tuple
    data: bytes


def _f8_table():
    codes = np.arange(256)
    sign, exponent, mantissa = codes >> 7, (codes >> 3) & 15, codes & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value = np.where((exponent == 15) & (mantissa == 7), np.nan, value)
    return np.where(sign == 1, -value, value)


F8 = _f8_table()


def to_bf16(x):
    """float32 -> uint16, nearest even (finite values)."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (u.astype(np.uint32) << 16).view(np.float32)


def to_f8(x):
    """float -> uint8 E4M3FN, nearest even, saturating at 448."""
    positive = F8[:127]
    a = np.minimum(np.abs(np.asarray(x, dtype=np.float64)), 448.0)
    above = np.clip(np.searchsorted(positive, a), 0, 126)
    below = np.maximum(above - 1, 0)
    lower, upper = a - positive[below], positive[above] - a
    code = np.where((lower < upper) | ((lower == upper) & (below % 2 == 0)), below, above)
    return (code | np.where(np.signbit(x), 128, 0)).astype(np.uint8)


def values(t):
    """Exact float32 (float64 for F64) array of a stored tensor; F8 without its scales."""
    raw = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}[t.dtype]
    a = np.frombuffer(t.data, dtype=raw).reshape(t.shape)
    if t.dtype == "BF16":
        return from_bf16(a)
    if t.dtype == "F8_E4M3":
        return F8[a].astype(np.float32)
    return a if t.dtype == "F64" else a.astype(np.float32)


def store(x, dtype):
    x = np.asarray(x)
    if dtype == "BF16":
        return Stored(dtype, x.shape, to_bf16(x).tobytes())
    if dtype == "F8_E4M3":
        return Stored(dtype, x.shape, to_f8(x).tobytes())
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}[dtype]
    return Stored(dtype, x.shape, np.ascontiguousarray(x, dtype=kind).tobytes())


def _spread(scale, shape):
    """[..., ceil(out/128), ceil(in/128)] block scales over [..., out, in]."""
    full = np.repeat(np.repeat(scale, F8_BLOCK, axis=-2), F8_BLOCK, axis=-1)
    return full[..., : shape[-2], : shape[-1]]


def store_f8(x):
    """(F8_E4M3 tensor, F32 scale_inv tensor): each 128x128 block of the last two dimensions scaled so that its largest element is 448."""
    x = np.asarray(x, dtype=np.float64)
    out, width = x.shape[-2:]
    rows, cols = -(-out // F8_BLOCK), -(-width // F8_BLOCK)
    scale = np.ones(x.shape[:-2] + (rows, cols))
    for r in range(rows):
        for c in range(cols):
            block = x[..., r * F8_BLOCK : (r + 1) * F8_BLOCK, c * F8_BLOCK : (c + 1) * F8_BLOCK]
            scale[..., r, c] = np.maximum(np.abs(block).max(axis=(-1, -2)), 1e-12) / 448.0
    scale = scale.astype(np.float32)
    return store(x / _spread(scale.astype(np.float64), x.shape), "F8_E4M3"), store(scale, "F32")


def write_safetensors(path, tensors, metadata=None):
    header, offset = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [offset, offset + len(t.data)]}
        offset += len(t.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.data)


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, base = json.loads(raw[8 : 8 + size]), 8 + size
    header.pop("__metadata__", None)
    return {n: Stored(h["dtype"], tuple(h["shape"]), raw[base + h["data_offsets"][0] : base + h["data_offsets"][1]]) for n, h in header.items()}


def write_folder(path, config, tensors, shards=1, side_files=None):
    """config.json and model.safetensors, or `shards` files with an index."""
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors)
    else:
        names, where = list(tensors), {}
        for s in range(shards):
            part = names[s * len(names) // shards : (s + 1) * len(names) // shards]
            file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
            write_safetensors(path / file, {n: tensors[n] for n in part})
            where.update({n: file for n in part})
        total = sum(len(t.data) for t in tensors.values())
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2) + "\n")
    for name, text in (side_files or {}).items():
        (path / name).write_text(text)
    return path


def read_folder(path):
    """(config, {name: Stored}) of every shard, as on disk."""
    path = pathlib.Path(path)
    index = path / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors = {}
    for file in files:
        tensors.update(read_safetensors(path / file))
    return json.loads((path / "config.json").read_text()), tensors


def weights_of(path):
    """(config, {name: float32 array}) with F8 blocks multiplied out in float64 and kept as float64 (no rounding before the reference)."""
    config, tensors = read_folder(path)
    out = {}
    for name, t in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        x = values(t)
        scale = tensors.get(name + "_scale_inv")
        if scale is not None:
            x = x.astype(np.float64) * _spread(values(scale).astype(np.float64), x.shape)
        out[name] = x
    return config, out
