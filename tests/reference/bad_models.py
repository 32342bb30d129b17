"""Broken model folders and GGUF files, each one change away from a good one. bad_input.py runs the program on them.

faults() yields Fault(name, kind, make, names): make(good, out) copies the good model of that kind to out and breaks it; names is what the error sentence must contain (any of;
a file, tensor or key). Kinds of good models: step3 and deepseek_v3-fp8 (one file), qwen3_moe (three shards with index), all with a tokenizer; gguf (a file).
Verbs that must fail are in must_fail; may_pass lists verbs for which success is right too (a fault they need not look at); every other outcome is a miss.
"""
import json
import os
import shutil
import struct
from typing import Callable, NamedTuple

import numpy as np

import cases
import folder
import gguf_models
import make_models

VERBS = ("logits", "run", "inspect", "convert", "tokenize")
DECODE = ("logits", "run")
GONE = object()  # the key is taken out


class Fault(NamedTuple):
    name: str
    kind: str
    make: Callable
    names: tuple = ()
    must_fail: tuple = DECODE
    must_pass: tuple = ()


# ---- good models ---------------------------------------------------------------------------------------------------------------------

SIZES = {
    "step3": (cases.step3, dict(cases.TINY_STEP3, vocab_size=300), {}, "f32", 1),
    "qwen3_moe": (cases.qwen3_moe, dict(cases.TINY_MOE, vocab_size=300), {}, "f32", 3),
    "deepseek_v3-fp8": (cases.deepseek_v3, dict(cases.TINY_MLA, hidden_size=132, vocab_size=300, n_routed_experts=8), dict(q_lora_rank=12, n_group=4, topk_group=2), "fp8", 1),
}


def tokenizer_json():
    """Byte-level BPE: the 256 bytes, a few merges, two special tokens; 266 ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled, extra = {}, 0
    for b in range(256):
        spelled[b] = chr(b if b in printable else 256 + extra)
        extra += b not in printable
    vocab = {spelled[b]: b for b in range(256)}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), (spelled[32], "t"), ("o", "r"), (spelled[32] + "t", "h"), ("i", "n")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    special = [dict(id=len(vocab) + i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, t in enumerate(("<|bos|>", "<|eos|>"))]
    return dict(version="1.0", truncation=None, padding=None, added_tokens=special, normalizer=None,
                pre_tokenizer=dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True), post_processor=None,
                decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
                model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False,
                           vocab=vocab, merges=[" ".join(m) for m in merges]))


def make_good(out):
    """{kind: path} of the good models."""
    good = {}
    for kind in SIZES:
        good[kind] = make_models.make(out / kind, kind, 3, table=SIZES)
        (good[kind] / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
        (good[kind] / "tokenizer_config.json").write_text(json.dumps(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|bos|>", eos_token="<|eos|>", add_bos_token=False)))
    good["gguf"] = out / "good.gguf"
    gguf_models.write(good["qwen3_moe"], good["gguf"], tokenizer=tokenizer_json())
    return good


def copied(good, out):
    shutil.copytree(good, out) if good.is_dir() else shutil.copyfile(good, out)
    return out


# ---- config.json ---------------------------------------------------------------------------------------------------------------------

def config_change(**changes):
    def make(good, out):
        path = copied(good, out) / "config.json"
        config = json.loads(path.read_text())
        for key, value in changes.items():
            config.pop(key, None)
            if value is not GONE:
                config[key] = value
        path.write_text(json.dumps(config))
    return make


def file_text(name, text):
    def make(good, out):
        (copied(good, out) / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return make


ABSURD = dict(missing=GONE, zero=0, negative=-1, fraction=2.5, huge=2**31, wider=2**63, float_huge=1e300, text="12", null=None, array=[4], object={}, true=True)
NUMBERS = {
    "step3": ("hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "share_q_dim", "vocab_size", "moe_num_experts", "moe_top_k", "moe_intermediate_size"),
    "qwen3_moe": ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "deepseek_v3-fp8": ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "num_experts_per_tok", "moe_intermediate_size"),
}
# (kind, key, value, what the sentence names): each alone makes the folder wrong
CONFIG = [
    ("step3", "moe_layers_enum", "1,99", "moe_layers_enum"), ("step3", "moe_layers_enum", "1,-2", "moe_layers_enum"), ("step3", "moe_layers_enum", "one,two", "moe_layers_enum"),
    ("step3", "moe_layers_enum", "1 2 3;4", "moe_layers_enum"), ("step3", "moe_layers_enum", 7, "moe_layers_enum"), ("step3", "moe_layers_enum", [1, "a"], "moe_layers_enum"),
    ("step3", "moe_layers_enum", {"1": 2}, "moe_layers_enum"), ("step3", "moe_layers_enum", "99999999999999999999", "moe_layers_enum"), ("step3", "moe_layers_enum", "0,1,2", "model.layers.0"),
    ("step3", "moe_top_k", 6, "experts per token"), ("step3", "moe_top_k", 64, "experts per token"), ("step3", "moe_num_experts", 4, "moe"), ("step3", "moe_num_experts", 6, "moe"),
    ("step3", "num_attention_groups", 2, "num_attention_groups"), ("step3", "head_dim", 11, "head_dim"), ("step3", "head_dim", 12, "self_attn"),
    ("step3", "num_hidden_layers", 4, "model.layers.3"), ("step3", "vocab_size", 301, "embed_tokens"), ("step3", "hidden_size", 19, ""), ("step3", "intermediate_size", 24, "mlp"),
    ("step3", "share_expert_dim", 10, "share_expert"), ("step3", "share_q_dim", 14, "self_attn"), ("step3", "rms_norm_eps", -1e-5, "rms_norm_eps"), ("step3", "rms_norm_eps", "small", "rms_norm_eps"),
    ("step3", "rope_theta", 0, "rope_theta"), ("step3", "rope_theta", -5.0, "rope_theta"), ("step3", "rope_theta", "big", "rope_theta"), ("step3", "tie_word_embeddings", "no", "tie_word_embeddings"),
    ("step3", "model_type", GONE, "model_type"), ("step3", "model_type", 5, "model_type"), ("step3", "model_type", "gpt7", "gpt7"), ("step3", "model_type", "x" * 10000, "model_type"),
    ("step3", "model_type", "", ""), ("step3", "norm_expert_weight", "perhaps", "norm_expert_weight"),
    ("qwen3_moe", "num_key_value_heads", 3, "num_key_value_heads|key-value heads"), ("qwen3_moe", "num_key_value_heads", 0, "num_key_value_heads"), ("qwen3_moe", "head_dim", 9, "head_dim"),
    ("qwen3_moe", "num_experts_per_tok", 6, "experts per token"), ("qwen3_moe", "num_experts", 6, "mlp.gate"), ("qwen3_moe", "mlp_only_layers", [99], "mlp_only_layers"),
    ("qwen3_moe", "mlp_only_layers", "all", "mlp_only_layers"), ("qwen3_moe", "mlp_only_layers", [0], "layers.0"), ("qwen3_moe", "decoder_sparse_step", 0, "decoder_sparse_step"),
    ("qwen3_moe", "rope_scaling", {"rope_type": "magic", "factor": 2}, "magic"), ("qwen3_moe", "rope_scaling", {"rope_type": "linear"}, "factor"),
    ("qwen3_moe", "rope_scaling", {"rope_type": "linear", "factor": 0}, "factor"), ("qwen3_moe", "rope_scaling", {"rope_type": "linear", "factor": "two"}, "factor"),
    ("qwen3_moe", "rope_scaling", {"rope_type": 7}, "rope_type"), ("qwen3_moe", "tie_word_embeddings", 3, "tie_word_embeddings"), ("qwen3_moe", "attention_bias", True, "bias"),
    ("qwen3_moe", "max_position_embeddings", -1, "max_position_embeddings"), ("qwen3_moe", "max_position_embeddings", "many", "max_position_embeddings"),
    ("qwen3_moe", "hidden_act", "gelu", "hidden_act"), ("qwen3_moe", "use_sliding_window", True, "use_sliding_window"), ("step3", "hidden_act", 5, "hidden_act"),
    ("qwen3_moe", "partial_rotary_factor", 0.5, "partial_rotary_factor"), ("deepseek_v3-fp8", "attention_bias", True, "attention_bias"), ("qwen3_moe", "mlp_bias", True, "mlp_bias"),
    ("deepseek_v3-fp8", "n_group", 3, "groups"), ("deepseek_v3-fp8", "topk_group", 5, "topk_group"), ("deepseek_v3-fp8", "topk_group", 0, "topk_group"), ("deepseek_v3-fp8", "n_group", -4, "n_group"),
    ("deepseek_v3-fp8", "num_experts_per_tok", 9, "experts per token"), ("deepseek_v3-fp8", "q_lora_rank", 13, "q_"), ("deepseek_v3-fp8", "q_lora_rank", None, "q_proj"),
    ("deepseek_v3-fp8", "kv_lora_rank", 15, "kv_"), ("deepseek_v3-fp8", "qk_rope_head_dim", 7, "qk_rope_head_dim"), ("deepseek_v3-fp8", "first_k_dense_replace", 0, "model.layers.0"),
    ("deepseek_v3-fp8", "first_k_dense_replace", -1, "first_k_dense_replace"), ("deepseek_v3-fp8", "n_shared_experts", 2, "shared_experts"), ("deepseek_v3-fp8", "scoring_func", "tanh", "scoring_func"),
    ("deepseek_v3-fp8", "topk_method", "random", "topk_method"), ("deepseek_v3-fp8", "routed_scaling_factor", "x", "routed_scaling_factor"), ("deepseek_v3-fp8", "topk_group", 1, "experts per token"),
    ("deepseek_v3-fp8", "quantization_config", {"quant_method": "fp8", "weight_block_size": [96, 96]}, "weight_block_size"),
    ("deepseek_v3-fp8", "quantization_config", {"quant_method": "fp8", "weight_block_size": [128, "x"]}, "weight_block_size"),
]


def config_faults():
    for kind, keys in NUMBERS.items():
        for key in keys:
            for how, value in ABSURD.items():
                yield Fault(f"config {key} {how}", kind, config_change(**{key: value}), (key, "number of experts") if how == "zero" else (key,))
    for kind, key, value, names in CONFIG:
        yield Fault(f"config {key}={value if value is not GONE else 'gone'}"[:60], kind, config_change(**{key: value}), tuple(names.split("|")) if names else ())
    deep = "[" * 200000
    texts = {"empty": "", "not JSON": "{hidden_size: 18}", "cut": '{"hidden_size": 1', "array": "[1, 2]", "null": "null", "deep": '{"a":' + deep, "bytes": bytes(range(256)), "NUL": b'{"model_type": "st\x00ep3"}',
             "only braces": "{}", "twice": '{"model_type": "step3_text"} {"model_type": "llama"}'}
    for how, text in texts.items():
        yield Fault(f"config.json {how}", "step3", file_text("config.json", text), ("config.json",))
    def no_config(good, out):
        (copied(good, out) / "config.json").unlink()
    yield Fault("config.json absent", "step3", no_config, ("config.json",))


# ---- safetensors ---------------------------------------------------------------------------------------------------------------------

def tensors_change(change):
    """change(tensors) may replace, remove or add entries; written as one file."""
    def make(good, out):
        config, tensors = folder.read_folder(good)
        path = copied(good, out)
        for f in path.glob("model*"):
            f.unlink()
        change(tensors)
        folder.write_safetensors(path / "model.safetensors", tensors)
    return make


def without(name):
    return tensors_change(lambda t: t.pop(name))


def replaced(name, build):
    return tensors_change(lambda t: t.update({name: build(t[name])}))


def poisoned(name, value):
    def build(t):
        x = np.array(folder.values(t))
        x.flat[x.size // 2] = value
        return folder.store(x, t.dtype)
    return replaced(name, build)


def header_change(change):
    """change(header dict, data bytes) -> (header text or dict, data)."""
    def make(good, out):
        path = copied(good, out) / "model.safetensors"
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        header, data = change(json.loads(raw[8 : 8 + size]), raw[8 + size :])
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return make


def entry_change(**changes):
    def change(header, data):
        header["model.norm.weight"].update(changes)
        return header, data
    return header_change(change)


def raw_change(change, name="model.safetensors"):
    def make(good, out):
        path = copied(good, out) / name
        path.write_bytes(change(path.read_bytes()))
    return make


def instead(build, name="model.safetensors"):
    """build(path) puts something that is not a file where the file was."""
    def make(good, out):
        path = copied(good, out) / name
        path.unlink()
        build(path)
    return make


def duplicate(header, data):
    text = json.dumps(header)
    one = json.dumps({"model.norm.weight": header["model.norm.weight"]})[1:-1]
    return text[:-1] + ", " + one + "}", data


def spread_offsets(header, data):
    header["model.norm.weight"]["data_offsets"] = list(header["model.layers.0.input_layernorm.weight"]["data_offsets"])
    return header, data


def tensor_faults():
    st = ("model.safetensors",)
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.inter_norm.weight",
                 "model.layers.1.moe.gate.weight", "model.layers.2.moe.down_proj.weight", "model.layers.1.share_expert.up_proj.weight", "model.layers.0.mlp.up_proj.weight"):
        yield Fault(f"without {name}", "step3", without(name), (name,))
    for name in ("model.layers.1.mlp.experts.4.up_proj.weight", "model.layers.0.self_attn.k_norm.weight"):
        yield Fault(f"without {name}", "qwen3_moe", without(name), (name,))
    for name in ("model.layers.1.mlp.gate.e_score_correction_bias", "model.layers.1.self_attn.kv_b_proj.weight", "model.layers.0.self_attn.q_a_proj.weight_scale_inv"):
        yield Fault(f"without {name}", "deepseek_v3-fp8", without(name), (name, name.removesuffix("_scale_inv")))
    f32 = lambda shape: (lambda t: folder.store(np.full(shape, 0.01), "F32"))
    shapes = {"model.embed_tokens.weight": (300, 19), "model.norm.weight": (17,), "model.layers.0.self_attn.q_proj.weight": (18, 13), "model.layers.0.self_attn.wq.weight": (30,),
              "model.layers.1.moe.gate_proj.weight": (5 * 7, 18), "model.layers.1.moe.up_proj.weight": (4, 7, 18), "model.layers.1.moe.gate.weight": (4, 18), "lm_head.weight": (0, 18),
              "model.layers.0.mlp.down_proj.weight": (18, 23, 1, 1, 1, 1, 1, 1, 1, 1), "model.layers.0.input_layernorm.weight": ()}
    for name, shape in shapes.items():
        yield Fault(f"{name} of shape {shape}", "step3", replaced(name, f32(shape)), (name,))
    for dtype in ("I64", "I32", "U8"):
        yield Fault(f"norm of type {dtype}", "step3", replaced("model.norm.weight", lambda t, d=dtype: folder.store(np.ones(t.shape), d)), ("model.norm.weight",))
        yield Fault(f"matrix of type {dtype}", "step3", replaced("model.layers.0.mlp.up_proj.weight", lambda t, d=dtype: folder.store(np.ones(t.shape), d)), ("model.layers.0.mlp.up_proj.weight",))
    scale = "model.layers.1.self_attn.q_a_proj.weight_scale_inv"
    yield Fault("scale of a wrong shape", "deepseek_v3-fp8", replaced(scale, f32((3, 3))), (scale, scale.removesuffix("_scale_inv")))
    yield Fault("scale of type I32", "deepseek_v3-fp8", replaced(scale, lambda t: folder.store(np.ones(t.shape), "I32")), (scale, scale.removesuffix("_scale_inv")))
    yield Fault("scale without a weight", "deepseek_v3-fp8", without(scale.removesuffix("_scale_inv")), (scale.removesuffix("_scale_inv"),))
    not_finite = ("model.embed_tokens.weight", "model.norm.weight", "model.layers.1.moe.gate.weight", "model.layers.0.self_attn.k_proj.weight", "lm_head.weight")
    for name in not_finite:
        yield Fault(f"NaN in {name}", "step3", tensors_change(lambda t, n=name: t.update({n: folder.store(np.full(t[n].shape, np.nan), "F32")})), (), DECODE)
    yield Fault("one NaN in the final norm", "step3", poisoned("model.norm.weight", np.nan), (), DECODE)
    yield Fault("one infinity in the final norm", "step3", poisoned("model.norm.weight", np.inf), (), DECODE)
    yield Fault("NaN in every expert", "step3", tensors_change(lambda t: t.update({"model.layers.1.moe.down_proj.weight": folder.store(np.full(t["model.layers.1.moe.down_proj.weight"].shape, np.nan), "F32")})), (), DECODE)
    yield Fault("NaN scales", "deepseek_v3-fp8", replaced(scale, lambda t: folder.store(np.full(t.shape, np.nan), "F32")), (), DECODE)

    every = ("logits", "run", "inspect", "convert")
    for how, changes in {"F4": dict(dtype="F4"), "number": dict(dtype=5), "empty": dict(dtype=""), "long": dict(dtype="F" * 5000)}.items():
        yield Fault(f"dtype {how}", "step3", entry_change(**changes), ("model.norm.weight", *st), every)
    entries = {"offsets backwards": dict(data_offsets=[72, 0]), "offsets beyond the file": dict(data_offsets=[10**9, 10**9 + 72]), "offsets huge": dict(data_offsets=[2**63, 2**63 + 72]),
               "offsets negative": dict(data_offsets=[-72, 0]), "offsets fractional": dict(data_offsets=[0.5, 72.5]), "offsets text": dict(data_offsets="0-72"), "offsets three": dict(data_offsets=[0, 36, 72]),
               "offsets not the shape's": dict(data_offsets=[0, 68]), "shape negative": dict(shape=[-18]), "shape huge": dict(shape=[2**40, 2**40]), "shape text": dict(shape="18"),
               "shape fractional": dict(shape=[4.5, 4]), "shape null": dict(shape=None), "shape overflow": dict(shape=[2**32, 2**32, 18])}
    for how, changes in entries.items():
        yield Fault(f"safetensors {how}", "step3", entry_change(**changes), ("model.norm.weight", *st), every)
    yield Fault("safetensors overlap", "step3", header_change(spread_offsets), ("model.norm.weight", "model.layers.0.input_layernorm.weight", *st), every)
    yield Fault("safetensors name twice", "step3", header_change(duplicate), ("model.norm.weight", *st), every)
    headers = {"array": "[]", "not JSON": "{model}", "cut": '{"a": {"dtype": "F32", ', "deep": '{"a":' + "[" * 200000, "null": "null", "entry is a number": '{"model.norm.weight": 5}', "empty object": "{}", "empty text": ""}
    for how, text in headers.items():
        yield Fault(f"safetensors header {how}", "step3", header_change(lambda h, d, t=text: (t, d)), () if how == "empty object" else st, DECODE if how == "empty object" else every)
    raws = {"empty": lambda b: b"", "4 bytes": lambda b: b[:4], "8 bytes": lambda b: b[:8], "half": lambda b: b[: len(b) // 2], "one byte short": lambda b: b[:-1], "cut in the header": lambda b: b[:500],
            "header longer than the file": lambda b: struct.pack("<Q", len(b) + 1) + b[8:], "header 2^63": lambda b: struct.pack("<Q", 2**63) + b[8:], "header -1": lambda b: b"\xff" * 8 + b[8:],
            "header 0": lambda b: struct.pack("<Q", 0) + b[8:], "a GGUF": lambda b: b"GGUF\x03\0\0\0" + b[8:], "random": lambda b: np.random.default_rng(1).bytes(5000)}
    for how, change in raws.items():
        yield Fault(f"safetensors {how}", "step3", raw_change(change), st, every)
    others = {"a directory": lambda p: p.mkdir(), "a dangling link": lambda p: p.symlink_to("nowhere"), "a link to itself": lambda p: p.symlink_to(p.name), "a pipe": lambda p: os.mkfifo(p), "a device": lambda p: p.symlink_to("/dev/zero")}
    for how, build in others.items():
        yield Fault(f"safetensors is {how}", "step3", instead(build), st, every)


# ---- index, folder ---------------------------------------------------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"


def index_change(change):
    def make(good, out):
        path = copied(good, out) / INDEX
        index = json.loads(path.read_text())
        change(index)
        path.write_text(json.dumps(index))
    return make


def mapping(value, name="model.norm.weight"):
    return index_change(lambda i: i["weight_map"].update({name: value}))


def index_faults():
    shard = "model-00002-of-00003.safetensors"
    def drop(good, out):
        (copied(good, out) / shard).unlink()
    every = ("logits", "run", "inspect", "convert")
    yield Fault("a shard is absent", "qwen3_moe", drop, (shard,), every)
    yield Fault("a shard is cut", "qwen3_moe", raw_change(lambda b: b[: len(b) // 2], shard), (shard,), every)
    yield Fault("a shard is empty", "qwen3_moe", raw_change(lambda b: b"", shard), (shard,), every)
    yield Fault("index names a file that is not there", "qwen3_moe", mapping("model-00009-of-00003.safetensors"), ("model-00009-of-00003.safetensors",), every)
    yield Fault("index names another folder", "qwen3_moe", mapping("../../../../etc/passwd"), (INDEX, "passwd"), every)
    yield Fault("index names an absolute path", "qwen3_moe", mapping("/etc/passwd"), (INDEX, "passwd"), every)
    yield Fault("index maps to a number", "qwen3_moe", mapping(5), (INDEX,), every)
    yield Fault("index maps to an empty name", "qwen3_moe", mapping(""), (INDEX,), every)
    yield Fault("index without weight_map", "qwen3_moe", index_change(lambda i: i.pop("weight_map")), (INDEX,), every)
    yield Fault("index with an array", "qwen3_moe", index_change(lambda i: i.update(weight_map=["a"])), (INDEX,), every)
    yield Fault("index names a tensor that no shard has", "qwen3_moe", mapping(shard, "model.layers.7.nothing.weight"), (), ())
    for how, text in {"not JSON": "{", "empty": "", "array": "[]", "deep": "[" * 200000}.items():
        yield Fault(f"index {how}", "qwen3_moe", file_text(INDEX, text), (INDEX,), every)
    def two_shards_one_name(good, out):
        path = copied(good, out)
        first, second = path / "model-00001-of-00003.safetensors", path / shard
        t = folder.read_safetensors(first)
        folder.write_safetensors(second, {**folder.read_safetensors(second), "model.embed_tokens.weight": t["model.embed_tokens.weight"]})
    yield Fault("a tensor in two shards", "qwen3_moe", two_shards_one_name, ("model.embed_tokens.weight",), ())
    yield Fault("an empty folder", "step3", lambda good, out: out.mkdir(), (), VERBS)
    yield Fault("nothing there", "step3", lambda good, out: None, (), VERBS)
    yield Fault("a text file", "step3", lambda good, out: out.write_text("not a model\n"), (), VERBS)
    yield Fault("an empty file", "step3", lambda good, out: out.write_bytes(b""), (), VERBS)
    yield Fault("a pipe", "step3", lambda good, out: os.mkfifo(out), (), VERBS)
    yield Fault("a device", "step3", lambda good, out: out.symlink_to("/dev/zero"), (), VERBS)
    def only_config(good, out):
        out.mkdir()
        shutil.copyfile(good / "config.json", out / "config.json")
    yield Fault("only config.json", "step3", only_config, (), ("logits", "run", "inspect", "convert"))


# ---- tokenizer ---------------------------------------------------------------------------------------------------------------------

def tokenizer_change(change):
    def make(good, out):
        path = copied(good, out) / "tokenizer.json"
        t = json.loads(path.read_text())
        path.write_text(json.dumps(change(t) or t))
    return make


def tokenizer_faults():
    text = ("run", "tokenize")
    def none(good, out):
        for f in copied(good, out).glob("tokenizer*"):
            f.unlink()
    yield Fault("no tokenizer", "step3", none, ("tokenizer",), text, ("logits",))
    for how, content in {"empty": "", "cut": '{"model": {"type": "BPE", "vocab": {"a": 0', "array": "[]", "null": "null", "number": "7", "deep": "[" * 300000, "bytes": bytes(range(256)), "braces": "{}"}.items():
        yield Fault(f"tokenizer.json {how}", "step3", file_text("tokenizer.json", content), ("tokenizer.json",), text)
    changes = {
        "without model": lambda t: t.pop("model") and None, "model of unknown type": lambda t: t["model"].update(type="Magic"), "vocab an array": lambda t: t["model"].update(vocab=["a", "b"]),
        "vocab empty": lambda t: t["model"].update(vocab={}, merges=[]), "id negative": lambda t: t["model"]["vocab"].update(x=-5), "id huge": lambda t: t["model"]["vocab"].update(xx=2**40),
        "id text": lambda t: t["model"]["vocab"].update(xx="5"), "id fractional": lambda t: t["model"]["vocab"].update(xx=5.5), "merges a number": lambda t: t["model"].update(merges=5),
        "merge of unknown tokens": lambda t: t["model"]["merges"].append("zzzz qqqq"), "merge of one word": lambda t: t["model"]["merges"].append("alone"), "merge of three": lambda t: t["model"]["merges"].append(["a", "b", "c"]),
        "added_tokens a number": lambda t: t.update(added_tokens=3), "added token without content": lambda t: t["added_tokens"].append({"id": 299}), "added token id negative": lambda t: t["added_tokens"].append({"id": -1, "content": "<x>", "special": True}),
        "added token id huge": lambda t: t["added_tokens"].append({"id": 2**40, "content": "<x>", "special": True}), "pre_tokenizer unknown": lambda t: t.update(pre_tokenizer={"type": "Magic"}),
        "pre_tokenizer bad pattern": lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False}),
        "pre_tokenizer a number": lambda t: t.update(pre_tokenizer=4), "normalizer unknown": lambda t: t.update(normalizer={"type": "Magic"}),
    }
    for how, change in changes.items():
        yield Fault(f"tokenizer {how}", "step3", tokenizer_change(change), ("tokenizer", "prompt"), text)


# ---- GGUF ------------------------------------------------------------------------------------------------------------------------------

class Gguf:
    """A GGUF file taken apart: metadata entries and tensor records as raw bytes, so that each can be broken by itself."""

    def __init__(self, path):
        import gguf as package

        reader = package.GGUFReader(path)
        self.version, self.alignment = 3, 32
        self.keys = {n: b"".join(p.tobytes() for p in f.parts) for n, f in reader.fields.items() if not n.startswith("GGUF.")}
        self.tensors = [[t.name, [int(n) for n in t.shape], int(t.tensor_type), t.data.tobytes()] for t in reader.tensors]
        self.key_count = self.tensor_count = self.offsets = None

    def key(self, name, kind, payload):
        text = name.encode()
        self.keys[name] = struct.pack("<Q", len(text)) + text + struct.pack("<I", kind) + payload

    def u32(self, name, value):
        self.key(name, 4, struct.pack("<I", value))

    def named(self, name):
        return next(t for t in self.tensors if t[0] == name)

    def bytes(self):
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors) if self.tensor_count is None else self.tensor_count, len(self.keys) if self.key_count is None else self.key_count)
        head += b"".join(self.keys.values())
        at, data = 0, b""
        for i, (name, shape, kind, raw) in enumerate(self.tensors):
            text = name.encode() if isinstance(name, str) else name
            offset = (self.offsets or {}).get(name, at)
            head += struct.pack("<Q", len(text)) + text + struct.pack("<I", len(shape)) + b"".join(struct.pack("<q" if n < 0 else "<Q", n) for n in shape) + struct.pack("<IQ", kind, offset)
            raw += b"\0" * (-len(raw) % self.alignment)
            data += raw
            at += len(raw)
        return head + b"\0" * (-len(head) % self.alignment) + data


def gguf_change(change):
    def make(good, out):
        g = Gguf(good)
        change(g)
        out.write_bytes(g.bytes())
    return make


def gguf_raw(change):
    return lambda good, out: out.write_bytes(change(good.read_bytes()))


def gguf_tensor(name, place, value):
    return gguf_change(lambda g: g.named(name).__setitem__(place, value))


def gguf_faults():
    every = ("logits", "run", "inspect", "convert")
    head = {"magic": lambda b: b"GGML" + b[4:], "version 1": lambda b: b[:4] + struct.pack("<I", 1) + b[8:], "version 99": lambda b: b[:4] + struct.pack("<I", 99) + b[8:],
            "big-endian": lambda b: b[:4] + struct.pack(">I", 3) + b[8:], "2^60 tensors": lambda b: b[:8] + struct.pack("<Q", 2**60) + b[16:], "one tensor too many": lambda b: b[:8] + struct.pack("<Q", struct.unpack("<Q", b[8:16])[0] + 1) + b[16:],
            "2^60 keys": lambda b: b[:16] + struct.pack("<Q", 2**60) + b[24:], "one key too many": lambda b: b[:16] + struct.pack("<Q", struct.unpack("<Q", b[16:24])[0] + 1) + b[24:],
            "key length 2^63": lambda b: b[:24] + struct.pack("<Q", 2**63) + b[32:], "key length beyond": lambda b: b[:24] + struct.pack("<Q", len(b)) + b[32:], "only a header": lambda b: b[:24], "empty": lambda b: b"", "4 bytes": lambda b: b[:4]}
    for how, change in head.items():
        yield Fault(f"gguf {how}", "gguf", gguf_raw(change), ("model.gguf",), every)
    for part in range(1, 20):
        yield Fault(f"gguf cut at {part * 5} %", "gguf", gguf_raw(lambda b, p=part: b[: len(b) * p // 20]), ("model.gguf",), every)
    yield Fault("gguf one byte short", "gguf", gguf_raw(lambda b: b[:-33]), ("model.gguf",), every)
    keys = {"unknown type": (77, b""), "array in array": (9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 4, 1) + struct.pack("<I", 1)), "array of 2^60": (9, struct.pack("<IQ", 4, 2**60)),
            "array of unknown": (9, struct.pack("<IQ", 50, 2)), "string of 2^62": (8, struct.pack("<Q", 2**62)), "bool of 7": (7, b"\x07")}
    for how, (kind, payload) in keys.items():
        yield Fault(f"gguf key {how}", "gguf", gguf_change(lambda g, k=kind, p=payload: g.key("x.broken", k, p)), (), () if how in ("array in array", "bool of 7") else every)
    for value in (0, 3, 7, 2**31, 2**32 - 1):
        yield Fault(f"gguf alignment {value}", "gguf", gguf_change(lambda g, v=value: g.u32("general.alignment", v)), ("alignment",), every)
    def twice(g):
        g.keys["again"] = g.keys["general.architecture"]
    for key in ("rope.freq_base", "rope.scaling.factor", "attention.layer_norm_rms_epsilon"):
        yield Fault(f"gguf {key} a string", "gguf", gguf_change(lambda g, k=key: g.key("qwen3moe." + k, 8, struct.pack("<Q", 2) + b"12")), (key,), DECODE)
    yield Fault("gguf rope.scaling.type a number", "gguf", gguf_change(lambda g: g.u32("qwen3moe.rope.scaling.type", 4)), ("rope.scaling.type",), DECODE)
    yield Fault("gguf expert_weights_norm a number", "gguf", gguf_change(lambda g: g.u32("qwen3moe.expert_weights_norm", 1)), ("expert_weights_norm",), DECODE)
    yield Fault("gguf key twice", "gguf", gguf_change(twice), (), ())
    yield Fault("gguf without architecture", "gguf", gguf_change(lambda g: g.keys.pop("general.architecture")), ("general.architecture",), DECODE)
    yield Fault("gguf architecture unknown", "gguf", gguf_change(lambda g: g.key("general.architecture", 8, struct.pack("<Q", 4) + b"gpt7")), ("gpt7",), DECODE)
    yield Fault("gguf architecture a number", "gguf", gguf_change(lambda g: g.u32("general.architecture", 4)), ("general.architecture",), DECODE)
    for key in ("block_count", "embedding_length", "attention.head_count", "expert_count", "expert_used_count"):
        full = "qwen3moe." + key
        yield Fault(f"gguf without {key}", "gguf", gguf_change(lambda g, k=full: g.keys.pop(k)), (key, "blk."), DECODE if "expert_count" not in key else ())
        for value in (0, 2**32 - 1, 100000):
            yield Fault(f"gguf {key} {value}", "gguf", gguf_change(lambda g, k=full, v=value: g.u32(k, v)), (key, "blk.", "token_embd"), DECODE)
        yield Fault(f"gguf {key} a string", "gguf", gguf_change(lambda g, k=full: g.key(k, 8, struct.pack("<Q", 2) + b"12")), (key,), DECODE if "expert_count" not in key else ())
    norm, matrix, experts = "output_norm.weight", "blk.0.attn_q.weight", "blk.1.ffn_up_exps.weight"
    tensors = {"type 999": (norm, 2, 999), "type 4 (gone)": (norm, 2, 4), "type 16 (iq2)": (matrix, 2, 16), "integer norm": (norm, 2, 26), "no dimensions": (norm, 1, []), "0 elements": (norm, 1, [0]), "5 dimensions": (norm, 1, [18, 1, 1, 1, 1]),
               "2^31 dimensions": (norm, 1, [18] * 3000), "2^40 by 2^40": (matrix, 1, [2**40, 2**40]), "negative": (norm, 1, [-18]), "2^63": (norm, 1, [2**63]), "larger than the file": (norm, 1, [10**7]),
               "wrong shape": (matrix, 1, [40, 18]), "flat": (matrix, 1, [40 * 18]), "flat experts": (experts, 1, [18, 45]), "name empty": (norm, 0, ""), "name of 5000": (norm, 0, "n" * 5000), "name with NUL": (norm, 0, "output_norm\0weight"),
               "name twice": (norm, 0, "blk.0.attn_norm.weight"), "renamed": (matrix, 0, "blk.0.attn_z.weight")}
    for how, (name, place, value) in tensors.items():
        yield Fault(f"gguf tensor {how}", "gguf", gguf_tensor(name, place, value), (), DECODE)
    for how, offset in {"beyond": 2**40, "overflowing": 2**64 - 32, "unaligned": 1, "at the end": 10**6}.items():
        yield Fault(f"gguf offset {how}", "gguf", gguf_change(lambda g, o=offset: setattr(g, "offsets", {norm: o})), (norm, "model.gguf"), every)
    yield Fault("gguf overlap", "gguf", gguf_change(lambda g: setattr(g, "offsets", {norm: 0})), (norm, "model.gguf"), ())
    def split(g):
        g.key("split.no", 2, struct.pack("<H", 0))
        g.key("split.count", 2, struct.pack("<H", 3))
        g.key("split.tensors.count", 5, struct.pack("<i", 1000))
    yield Fault("gguf of three without its fellows", "gguf", gguf_change(split), (), every)
    tokens = {"tokens a number": ("tokenizer.ggml.tokens", 4, struct.pack("<I", 3)), "merges a string": ("tokenizer.ggml.merges", 8, struct.pack("<Q", 1) + b"a"), "model unknown": ("tokenizer.ggml.model", 8, struct.pack("<Q", 4) + b"zork"),
              "no tokens": ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 0))}
    for how, (name, kind, payload) in tokens.items():
        yield Fault(f"gguf {how}", "gguf", gguf_change(lambda g, n=name, k=kind, p=payload: g.key(n, k, p)), (), ("run", "tokenize"))
    rng = np.random.default_rng(9)
    for i in range(40):  # bits flipped in the metadata: anything may happen except a crash, a hang, or silence on failure
        at, bit = int(rng.integers(24, 6000)), int(rng.integers(8))
        yield Fault(f"gguf bit {bit} of byte {at}", "gguf", gguf_raw(lambda b, a=at, n=bit: b[:a] + bytes([b[a] ^ (1 << n)]) + b[a + 1 :]), (), ())


def faults():
    for group in (config_faults, tensor_faults, index_faults, tokenizer_faults, gguf_faults):
        yield from group()
