#!/usr/bin/env python3
"""Thousands of small models of every format, each damaged at random, through a sanitizer build of inspect, tokenize, logits and convert.

    mutate.py SERVER [--binary build/tandem] [--seconds 60] [--seed N] [--keep FOLDER]

SERVER is tests/verb_server of a build with sanitizers. Whatever a file holds: no signal, no sanitizer report, at most 20 s and 2 GB; a refusal has exit status 1 or 2, one sentence on
stderr and leaves no output. Misses are printed with the seed of their case (`--seed N --cases 1` makes it again), and their files kept. Standard library only.
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
import threading
import time

import model_files
from refusal import one_sentence

SECONDS_MAX, MEMORY_MAX_MB = 20, 2048
EXTREME = (0, 1, 2, 7, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1)
JSON_EXTREME = (0, -1, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, 0.5, -0.0, 1e-300, 1e300, True, False, None, "", "0", "\0", "\udc80", "a" * 70000, [], {}, [[]], {"a": 1}, [0] * 1000)
SANITIZERS = dict(ASAN_OPTIONS="allocator_may_return_null=1:detect_stack_use_after_return=0", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")


# ---- what happens to bytes ---------------------------------------------------------------------------------------------------------------

def place(r, raw):
    """Most faults are worth more in the first bytes, where the numbers are."""
    return r.randrange(min(len(raw), r.choice((32, 300, 4096, len(raw)))))


def damage_bytes(r, raw):
    if not raw:
        return bytes(r.randrange(256) for _ in range(r.choice((1, 8, 100))))
    how, at, b = r.randrange(8), place(r, raw), bytearray(raw)
    if how == 0:
        return raw[:at]
    if how == 1:
        return raw[: len(raw) - r.choice((1, 2, 31, 32, 33, 4096))]
    if how == 2:
        for _ in range(r.choice((1, 1, 2, 8, 64))):
            b[place(r, raw)] ^= 1 << r.randrange(8)
    elif how == 3:
        form = r.choice("BHIQ")
        value = r.choice((*EXTREME, len(raw), len(raw) - 1, len(raw) + 1, len(raw) - at)) % 256 ** struct.calcsize(form)
        new = struct.pack("<" + form, value)
        b[at : at + len(new)] = new
    elif how == 4:
        b[at:at] = bytes(r.randrange(256) for _ in range(r.choice((1, 4, 8, 1000))))
    elif how == 5:
        del b[at : at + r.choice((1, 4, 8, 100))]
    elif how == 6:
        b[at : at + r.choice((8, 100, 5000))] = bytes(r.choice((8, 100, 5000)))
    else:
        other, size = place(r, raw), r.choice((8, 64, 1000))
        b[at : at + size] = raw[other : other + size]
    return bytes(b)


def nodes(value, path=()):
    """Every (container, key) below value."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from nodes(value[key])


def damage_value(r, root):
    """One change anywhere in a JSON value; returns the new root."""
    found = list(nodes(root))
    if not found or r.random() < 0.02:
        return r.choice(JSON_EXTREME)
    shallow = [n for n in found if n[0] is root]
    box, key = r.choice(shallow if r.random() < 0.4 else found)
    how = r.randrange(6)
    if how == 0:
        del box[key]
    elif how == 1:
        box[key] = r.choice(JSON_EXTREME)
    elif how == 2:
        other = r.choice(found)
        box[key] = json.loads(json.dumps(other[0][other[1]]))
    elif how == 3 and isinstance(box, dict):
        box[r.choice((str(key) + "x", "", "\0", "model.norm.weight", str(key)[:-1]))] = box.pop(key)
    elif how == 4 and isinstance(box[key], (int, float)) and not isinstance(box[key], bool):
        box[key] = r.choice((box[key] + 1, box[key] - 1, -box[key], box[key] * 2, box[key] * 1000, str(box[key]), box[key] + 0.5))
    elif isinstance(box, list):
        box.insert(key, r.choice((box[key], r.choice(JSON_EXTREME))))
    else:
        box[key] = [box[key]]
    return root


def damage_json(r, raw):
    if r.random() < 0.25:
        return damage_bytes(r, raw)
    root = json.loads(raw)
    for _ in range(r.choice((1, 1, 1, 2, 5))):
        root = damage_value(r, root)
    text = json.dumps(root)
    if r.random() < 0.05 and text[:1] == "{" and len(text) > 2:  # every key twice
        text = text[:-1] + ", " + text[1:]
    return text.encode()


def damage_safetensors(r, raw):
    if r.random() < 0.3:
        return damage_bytes(r, raw)
    header, data = model_files.read_safetensors(raw)
    names = [n for n in header if n != "__metadata__"]
    one, other = r.choice(names), r.choice(names)
    how = r.randrange(8)
    if how == 0:
        del header[one]
    elif how == 1:
        header[r.choice((other, one + "x", "", "lm_head.weight"))] = header.pop(one)
    elif how == 2:
        header[one], header[other] = header[other], header[one]
    elif how == 3:
        header[one]["data_offsets"] = [r.choice((*EXTREME, *header[other]["data_offsets"])) for _ in range(r.choice((1, 2, 2, 2, 3)))]
    elif how == 4:
        header[one]["dtype"] = r.choice(("F32", "BF16", "F16", "F8_E4M3", "I64", "I8", "U8", "F64", "C64", "F4", "", "f32"))
    elif how == 5:
        shape = header[one]["shape"]
        header[one]["shape"] = r.choice((shape[::-1], shape + [1], [1] + shape, shape[:-1], [r.choice(EXTREME) for _ in range(r.randrange(1, 5))], [0], [-n for n in shape]))
    elif how == 6:  # weights that are no numbers
        begin, end = header[one]["data_offsets"]
        data = data[:begin] + bytes([r.choice((0xFF, 0x7F, 0x80, 0x00))]) * (end - begin) + data[end:]
    else:
        return model_files.write_safetensors(json.dumps(damage_value(r, header)), data)
    return model_files.write_safetensors(header, data)


def damage_gguf(r, raw):
    if r.random() < 0.3:
        return damage_bytes(r, raw)
    g = model_files.Gguf(raw)
    key, tensor, other, how = r.choice(g.keys), r.choice(g.tensors), r.choice(g.tensors), r.randrange(12)
    if how == 0:
        g.keys.remove(key)
    elif how == 1:
        g.keys.append([r.choice((key[0], r.choice(g.keys)[0], b"", b"a\0b", b"\xff")), key[1], key[2]])
    elif how in (2, 3):
        key[2] = damage_bytes(r, key[2])
        if how == 3 and key[1] in model_files.FIXED:  # a number is still one
            size = model_files.FIXED[key[1]]
            key[2] = (r.choice(EXTREME) % 256**size).to_bytes(size, "little")
    elif how == 4:
        key[1] = r.randrange(14)
    elif how == 5:
        g.tensors.remove(tensor)
    elif how == 6:
        tensor[0] = r.choice((other[0], tensor[0] + b"x", b"", b"n" * 70000, b"a\0b", b"\xff\xfe"))
    elif how == 7:
        tensor[1] = r.choice((tensor[1][::-1], tensor[1] + [1], tensor[1][:-1], [], [r.choice(EXTREME) for _ in range(r.randrange(1, 6))], [n + 1 for n in tensor[1]], other[1]))
    elif how == 8:
        tensor[2] = r.choice((*range(40), 2**32 - 1))
    elif how == 9:
        tensor[3] = r.choice((other[3], tensor[3] + 1, *EXTREME, len(g.data), len(g.data) - 32))
    elif how == 10:
        g.key_count, g.tensor_count = r.choice(((None, r.choice(EXTREME)), (r.choice(EXTREME), None), (len(g.keys) - 1, None), (None, len(g.tensors) + 1)))
    else:
        at = tensor[3]
        g.data = g.data[:at] + bytes([r.choice((0xFF, 0x7F, 0x00))]) * 256 + g.data[at + 256 :]
    return g.bytes()


def damage(r, model, models, out):
    """A damaged copy of a model, and a word about it."""
    shutil.copytree(model, out)
    file = r.choice(sorted(out.iterdir()))
    what = r.random()
    if what < 0.03:
        file.write_bytes(b"")
    elif what < 0.08:
        strange = r.choice(sorted(f for m in models for f in m.iterdir()))
        shutil.copyfile(strange, file)
        return f"{file.name} replaced by {strange.parent.name}/{strange.name}"
    elif what < 0.10:
        file.unlink()
    elif what < 0.18:  # the end is where a length that nobody checks shows
        raw = file.read_bytes()
        file.write_bytes(raw[: max(0, len(raw) - r.choice((1, 33, 4097, 20000, r.randrange(len(raw)))))])
        return f"{file.name} cut"
    else:
        change = damage_gguf if file.suffix == ".gguf" else damage_safetensors if file.suffix == ".safetensors" else damage_json
        file.write_bytes(change(r, file.read_bytes()))
    return file.name


# ---- judging ---------------------------------------------------------------------------------------------------------------------------

def commands(r, model, out):
    yield ["inspect", model] + r.choice(([], ["--json"]))
    yield ["tokenize", model, "-p", r.choice(("hello the  world 12", "\u00e9\u4e2d\U0001f600 <|endoftext|>"))]
    yield ["logits", model, "--ids", "1,5,9,5", "--out", out / "l.npy", "--threads", "1"] + r.choice(([], [], ["--quant", "q8_0"], ["--kv", "bf16"]))
    yield ["convert", model, out / "c.gguf", "--threads", "1"] + r.choice(([], ["--quant", "q8_0"], ["--quant", "q4_k"], ["--quant", "f32"]))
    yield ["convert", model, out / "folder", "--threads", "1"]


class Server:
    """One verb_server, with the files that it writes."""

    def __init__(self, path, scratch):
        self.out, self.err = scratch / "stdout", scratch / "stderr"
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **SANITIZERS})

    def run(self, arguments):
        """(exit | signal | hang, number, peak MB, stderr)."""
        self.process.stdin.write("\t".join(map(str, (self.out, self.err, SECONDS_MAX, *arguments))) + "\n")
        self.process.stdin.flush()
        how, number, peak = self.process.stdout.readline().split()
        return how, int(number), int(peak) // 1024, self.err.read_bytes()


def judge(how, number, peak_mb, err, out):
    """None, or a sentence about what is wrong."""
    if how != "exit":
        return f"{how} {number}: {err[-2000:].decode(errors='replace')}"
    if peak_mb > MEMORY_MAX_MB:
        return f"used {peak_mb} MB"
    if b"runtime error" in err or b"Sanitizer" in err or number not in (0, 1, 2):
        return f"exit status {number}: {err[:4000].decode(errors='replace')}"
    if number == 0:
        return None
    left = [f.name for f in out.iterdir()]
    return one_sentence(err) or (f"left {left} behind" if left else None)


class Run:
    def __init__(self, arguments, models):
        self.a, self.models, self.lock = arguments, models, threading.Lock()
        self.cases = self.runs = self.refused = self.misses = self.peak_mb = 0
        self.end = time.monotonic() + arguments.seconds

    def next_case(self):
        with self.lock:
            if (self.a.cases and self.cases >= self.a.cases) or time.monotonic() > self.end:
                return None
            self.cases += 1
            return self.a.seed + self.cases - 1

    def miss(self, seed, what, arguments, wrong, model):
        with self.lock:
            self.misses += 1
            print(f"MISS seed {seed}, {model.parent.name}, {what}: {' '.join(map(str, arguments))}\n     {wrong}", flush=True)
        kept = self.a.keep / f"case-{seed}"
        if not kept.exists():
            shutil.copytree(model, kept)

    def case(self, seed, server, scratch):
        r, model, out = random.Random(seed), scratch / "model", scratch / "out"
        source = r.choice(self.models)
        what = f"{source.name}: " + damage(r, source, self.models, model)
        for arguments in commands(r, model_files.open_name(model), out):
            out.mkdir()
            how, number, peak_mb, err = server.run(arguments)
            wrong = judge(how, number, peak_mb, err, out)
            if wrong:
                self.miss(seed, what, arguments, wrong, model)
            with self.lock:
                self.runs += 1
                self.refused += number != 0
                self.peak_mb = max(self.peak_mb, peak_mb)
            shutil.rmtree(out)
        shutil.rmtree(model)

    def work(self, scratch):
        scratch.mkdir()
        server = Server(self.a.server, scratch)
        while (seed := self.next_case()) is not None:
            self.case(seed, server, scratch)
        server.process.stdin.close()
        server.process.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("server")
    p.add_argument("--binary", default="build/tandem", help="makes the good models")
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--cases", type=int, default=0, help="stop after so many")
    p.add_argument("--seed", type=int, default=int(time.time()) % 10**6 * 1000)
    p.add_argument("--keep", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "tandem-mutate", help="where files of misses go")
    a = p.parse_args()
    a.server, a.binary = os.path.abspath(a.server), os.path.abspath(a.binary)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "good").mkdir()
        models = model_files.make(a.binary, scratch / "good")
        run = Run(a, models)
        threads = [threading.Thread(target=run.work, args=(scratch / f"work-{i}",)) for i in range(os.cpu_count() or 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    print(f"seed {a.seed}: {run.cases} damaged models, {run.runs} runs, {run.refused} refused, {run.misses} misses; largest peak {run.peak_mb} MB")
    return 1 if run.misses or run.refused in (0, run.runs) else 0


if __name__ == "__main__":
    sys.exit(main())
