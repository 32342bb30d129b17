"""Small models of every format, and their files taken apart and put together again, right or wrong. Standard library only."""
import json
import pathlib
import shutil
import struct
import subprocess

# model, how much smaller than the published one, types of the folder and of the GGUF file
FAMILIES = (("step3", 256, "bf16", "q8_0"), ("qwen3-30b-a3b", 128, "f32", "f32"), ("deepseek-v3", 256, "f8_e4m3", "bf16"), ("llama3-8b", 128, "f16", "q4_0"))


def make(binary, out):
    """Lists of models: folders of one file, folders with an index, GGUF files, split GGUF files (the folder that holds them)."""
    def synth(path, like, divide, dtype, form):
        subprocess.run([binary, "synth", path, "--like", like, "--layers", "2", "--divide", str(divide), "--dtype", dtype, "--format", form], check=True, capture_output=True)
        return path
    folders, files = [], []
    for like, divide, folder_type, file_type in FAMILIES:
        folders.append(synth(out / f"{like}-folder", like, divide, folder_type, "safetensors"))
        file = out / f"{like}-file" / "model.gguf"
        file.parent.mkdir()
        files.append(synth(file, like, divide, file_type, "gguf").parent)
    return folders + [sharded(folders[1], out / "sharded"), sharded(folders[2], out / "sharded-fp8")] + files + [split(files[0] / "model.gguf", out / "split"), split(files[3] / "model.gguf", out / "split-2")]


# ---- safetensors ----------------------------------------------------------------------------------------------------------------------

def read_safetensors(raw):
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write_safetensors(header, data):
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def sharded(folder, out):
    """The folder with its tensors in two files and an index."""
    shutil.copytree(folder, out)
    header, data = read_safetensors((folder / "model.safetensors").read_bytes())
    (out / "model.safetensors").unlink()
    names, index = [n for n in header if n != "__metadata__"], {}
    for shard, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        name, rows, body = f"model-{shard:05}-of-00002.safetensors", {}, b""
        for n in part:
            begin, end = header[n]["data_offsets"]
            rows[n] = {**header[n], "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
            index[n] = name
        (out / name).write_bytes(write_safetensors(rows, body))
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": len(data)}, "weight_map": index}))
    return out


# ---- GGUF -----------------------------------------------------------------------------------------------------------------------------

FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each type of value
STRING, ARRAY, ALIGNMENT = 8, 9, 32


class Gguf:
    """keys: [name, type, bytes of the value]; tensors: [name, dimensions, type, offset]; data: what is behind the header."""

    def __init__(self, raw):
        self.raw, self.at = raw, 4
        self.version, tensors, keys = self.take("<IQQ")
        self.keys = [self.key() for _ in range(keys)]
        self.tensors = [self.tensor() for _ in range(tensors)]
        self.data = raw[-(-self.at // ALIGNMENT) * ALIGNMENT :]
        self.key_count = self.tensor_count = None  # to lie about

    def take(self, form):
        values = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        (size,) = self.take("<Q")
        self.at += size
        return self.raw[self.at - size : self.at]

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, count = self.take("<IQ")
            if element == STRING:
                for _ in range(count):
                    self.text()
            else:
                self.at += FIXED[element] * count
        else:
            self.at += FIXED[kind]

    def key(self):
        name, (kind,), start = self.text(), self.take("<I"), self.at
        self.skip(kind)
        return [name, kind, self.raw[start : self.at]]

    def tensor(self):
        name, (dims,) = self.text(), self.take("<I")
        shape = list(self.take(f"<{dims}Q"))
        return [name, shape, *self.take("<IQ")]

    def bytes(self):
        counts = (len(self.tensors) if self.tensor_count is None else self.tensor_count, len(self.keys) if self.key_count is None else self.key_count)
        head = b"GGUF" + struct.pack("<IQQ", self.version, *counts)
        for name, kind, value in self.keys:
            head += struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value
        for name, shape, kind, offset in self.tensors:
            head += struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}Q", len(shape), *(n % 2**64 for n in shape)) + struct.pack("<IQ", kind % 2**32, offset % 2**64)
        return head + b"\0" * (-len(head) % ALIGNMENT) + self.data


def split(file, out):
    """The GGUF file in two parts; the keys are in the first."""
    out.mkdir()
    whole = Gguf(file.read_bytes())
    half = len(whole.tensors) // 2
    border = whole.tensors[half][3]
    for number in range(2):
        part = Gguf(file.read_bytes())
        part.keys = (part.keys if number == 0 else []) + [[b"split.no", 2, struct.pack("<H", number)], [b"split.count", 2, struct.pack("<H", 2)], [b"split.tensors.count", 5, struct.pack("<i", len(whole.tensors))]]
        part.tensors = whole.tensors[:half] if number == 0 else [[n, s, k, o - border] for n, s, k, o in whole.tensors[half:]]
        part.data = whole.data[:border] if number == 0 else whole.data[border:]
        (out / f"model-{number + 1:05}-of-00002.gguf").write_bytes(part.bytes())
    return out


def open_name(model):
    """What the program is given for a model in this folder."""
    files = sorted(model.glob("*.gguf"))
    return files[0] if files else model
