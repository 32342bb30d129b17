#!/usr/bin/env python3
"""Configurations that nobody chose: random models of every family built by transformers itself (not from cases.py), compared with the program.

    TD_BINARY=build/tandem wild.py [--seed N] [--models N] [--family NAME ...] [--keep DIR]

Every model draws its sizes (any integer, not round ones), layers, head ratio, RoPE scaling with all its keys, routing rules, biases, tied head, the spelling of config.json
(transformers 4 or 5), the number of shards, F32 or BF16. Checked: logits against transformers in float32 (1e-4 of the largest logit: only the order of sums differs), the same
bytes with one thread, other chunks and plain kernels, and both ways through GGUF. Prompts keep routers 0.02 away from another choice. Exit status 1 on any miss; the seed is
printed, and --models 1 --seed N makes one model again.
"""
import argparse
import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import folder
import make_models
import reference

EXACT, TOKENS = 1e-4, 75
FAMILIES = ("llama", "qwen3", "qwen3_moe", "deepseek_v2", "deepseek_v3")


def chance(rng, p):
    return bool(rng.random() < p)


def pick(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def between(rng, low, high):
    return int(rng.integers(low, high + 1))


def scaling(rng, mla):
    """A rope_scaling object (None: no scaling), with rope_type as its key."""
    kind = pick(rng, None, "yarn", "yarn", "linear", "llama3") if mla else pick(rng, None, "linear", "llama3", "yarn")
    more = pick(rng, {}, dict(mscale_all_dim=0.8)) if mla else {}  # which MLA heeds whatever the kind
    if kind == "linear":
        return dict(more, rope_type="linear", factor=pick(rng, 1.0, 2.5, 8.0))
    if kind == "llama3":
        low = pick(rng, 1.0, 0.5, 2.0)
        return dict(more, rope_type="llama3", factor=pick(rng, 2.0, 8.0, 32.0), low_freq_factor=low, high_freq_factor=low * pick(rng, 2.0, 4.0), original_max_position_embeddings=pick(rng, 16, 50, 8192))
    if kind == "yarn":
        s = dict(rope_type="yarn", factor=pick(rng, 1.0, 4.0, 40.0), original_max_position_embeddings=pick(rng, 16, 64, 4096))
        if chance(rng, 0.5):
            s.update(beta_fast=pick(rng, 32, 4, 16.5), beta_slow=pick(rng, 1, 2, 0.5))
        if mla and chance(rng, 0.8):
            s.update(pick(rng, dict(mscale=1.0, mscale_all_dim=1.0), dict(mscale=0.707, mscale_all_dim=0.707), dict(mscale=1.0, mscale_all_dim=0.5), dict(mscale=0.7), dict(mscale_all_dim=0.8),
                          dict(mscale=1.0, mscale_all_dim=0.0)))
        if chance(rng, 0.2):
            s.update(attention_factor=pick(rng, 1.0, 1.3))
        if chance(rng, 0.2):
            s.update(truncate=False)
        return s
    return None


def common(rng):
    return dict(hidden_act="silu", num_hidden_layers=between(rng, 1, 4), vocab_size=between(rng, 30, 200), max_position_embeddings=pick(rng, 128, 300, 65536), rms_norm_eps=pick(rng, 1e-6, 1e-5, 3e-4),
                bos_token_id=1, eos_token_id=pick(rng, 2, [2, 3]), pad_token_id=None)


def grouped(rng, own_head_dim):
    kv, share = between(rng, 1, 4), between(rng, 1, 5)
    dim = 2 * between(rng, 1, 20)
    c = dict(num_key_value_heads=kv, num_attention_heads=kv * share)
    c.update(dict(hidden_size=kv * share * between(rng, 1, 20), head_dim=dim) if own_head_dim else dict(hidden_size=kv * share * dim))
    return c


def draw_config(rng, family):
    """(class name, constructor arguments, rope theta, scaling)."""
    c, theta = common(rng), pick(rng, 1e4, 5e5, 1e6, 1234.5)
    if family in ("llama", "qwen3", "qwen3_moe"):
        c.update(grouped(rng, family != "llama" or chance(rng, 0.4)), intermediate_size=between(rng, 1, 130), attention_bias=chance(rng, 0.3), tie_word_embeddings=chance(rng, 0.4))
        if family == "qwen3" and chance(rng, 0.3):
            c.update(head_dim=128, num_key_value_heads=32, num_attention_heads=32)
        if family == "qwen3_moe" and chance(rng, 0.3):
            c.update(num_key_value_heads=4, num_attention_heads=4 * between(rng, 1, 3))
        if family == "qwen3_moe":
            experts = between(rng, 1, 17)
            c.update(num_experts=experts, num_experts_per_tok=between(rng, 1, min(experts, 8)), moe_intermediate_size=between(rng, 1, 60), norm_topk_prob=chance(rng, 0.5),
                     decoder_sparse_step=between(rng, 1, 3), mlp_only_layers=[i for i in range(c["num_hidden_layers"]) if chance(rng, 0.2)])
        name = {"llama": "Llama", "qwen3": "Qwen3", "qwen3_moe": "Qwen3Moe"}[family]
        return name, c, theta, scaling(rng, False)
    heads, groups, size = between(rng, 1, 6), between(rng, 1, 4), between(rng, 2, 5)
    used = between(rng, 1, groups)
    c.update(hidden_size=heads * between(rng, 1, 20), intermediate_size=between(rng, 1, 130), moe_intermediate_size=between(rng, 1, 60), num_attention_heads=heads, num_key_value_heads=heads,
             q_lora_rank=pick(rng, None, between(rng, 1, 50)), kv_lora_rank=2 * between(rng, 1, 25), qk_nope_head_dim=2 * between(rng, 1, 15), qk_rope_head_dim=2 * between(rng, 1, 12), v_head_dim=between(rng, 1, 30),
             n_routed_experts=groups * size, num_experts_per_tok=between(rng, 1, used * size), n_group=groups, topk_group=used, n_shared_experts=between(rng, 1, 3),
             first_k_dense_replace=between(rng, 0, c["num_hidden_layers"]), routed_scaling_factor=pick(rng, 1.0, 2.5, 16.0), norm_topk_prob=chance(rng, 0.5), tie_word_embeddings=chance(rng, 0.2))
    if chance(rng, 0.3):  # what the class says itself: then the keys may be left out
        c.update(n_group=8, topk_group=4, n_routed_experts=16, num_experts_per_tok=min(c["num_experts_per_tok"], 8), n_shared_experts=1 if family == "deepseek_v3" else 2, routed_scaling_factor=2.5 if family == "deepseek_v3" else 1.0,
                 first_k_dense_replace=3 if family == "deepseek_v3" else 0, num_hidden_layers=between(rng, 3, 4))
    if family == "deepseek_v2":
        c.update(topk_method=pick(rng, "greedy", "group_limited_greedy"), norm_topk_prob=False)
    elif chance(rng, 0.3):
        c.update(rope_interleave=False)
    return {"deepseek_v2": "DeepseekV2", "deepseek_v3": "DeepseekV3"}[family], c, theta, scaling(rng, True)


def randomise(model, rng, tied):
    """Weights under which every mistake shows: hidden states stay near 1, norms and biases are not trivial."""
    import torch

    with torch.no_grad():
        for name, p in [*model.named_parameters(), *model.named_buffers()]:
            if "inv_freq" in name:
                continue
            shape = tuple(p.shape)
            if "e_score_correction_bias" in name:
                kind = "choice"
            elif "norm" in name:
                kind = "norm"
            elif name.endswith("bias"):
                kind = "bias"
            elif "embed_tokens" in name:
                kind = "matrix" if tied else "embed"
            else:
                kind = "router" if ".gate.weight" in name else "matrix"
            p.copy_(torch.tensor(make_models.draw(rng, shape, kind), dtype=torch.float32))


def respell(path, rng, theta, scale):
    """config.json as transformers 4 wrote it: rope_theta and rope_scaling, the latter with `type`, `rope_type` or both."""
    file = path / "config.json"
    config = json.loads(file.read_text())
    for key in ("rope_parameters", "layer_types", "mlp_layer_types", "dtype"):
        config.pop(key, None)
    old = None
    if scale:
        how = pick(rng, "type", "rope_type", "both")
        old = {k: v for k, v in scale.items() if k != "rope_type"}
        old.update({k: scale["rope_type"] for k in (("type", "rope_type") if how == "both" else (how,))})
    config.update(rope_theta=theta, rope_scaling=old, torch_dtype="float32")
    if config["model_type"] == "deepseek_v3":
        config.update(scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, num_nextn_predict_layers=pick(rng, 0, 1), model_type=pick(rng, "deepseek_v3", "kimi_k2"))
    elif config["model_type"] == "deepseek_v2":
        config.update(scoring_func="softmax", moe_layer_freq=1, norm_topk_prob=chance(rng, 0.3))  # which neither published V2 code nor transformers heeds
    file.write_text(json.dumps(config))


LEFT_OUT = ("rope_theta", "rms_norm_eps", "head_dim", "num_key_value_heads", "n_group", "topk_group", "n_shared_experts", "routed_scaling_factor", "first_k_dense_replace", "tie_word_embeddings", "attention_bias",
            "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers")


def disturb(path, rng, name, theta, scale, tied):
    """The same model, as people's tools leave it: keys at the class's own default left out, null for false, a rope_scaling that displaces rope_parameters, a tied flag that the
    weights contradict, an index of an earlier save."""
    import transformers

    file = path / "config.json"
    config = json.loads(file.read_text())
    usual = getattr(transformers, name + "Config")().to_dict()
    usual.update(rope_theta=10000.0)
    usual.pop("head_dim", None) if name == "Llama" else None  # there it is worked out
    usual.pop("num_key_value_heads", None) if name == "Llama" else None
    done = []
    for key in LEFT_OUT:
        if key in config and key in usual and config[key] == usual[key] and chance(rng, 0.5):
            del config[key]
            done.append("no " + key)
    for key in ("attention_bias", "norm_topk_prob", "tie_word_embeddings"):
        if config.get(key) is False and chance(rng, 0.3):
            config[key] = None
            done.append("null " + key)
    if scale and "rope_parameters" in config and chance(rng, 0.5):
        config.update(rope_parameters=dict(rope_type="default", rope_theta=7777.0), rope_scaling=dict(scale, rope_theta=theta))
        done.append("rope_scaling over rope_parameters")
    if not tied and config.get("tie_word_embeddings") is False and chance(rng, 0.3):
        config["tie_word_embeddings"] = True
        done.append("tied, with a head of its own")
    if (path / "model.safetensors").exists() and chance(rng, 0.3):
        (path / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map={"lm_head.weight": "model-00001-of-00002.safetensors"})))
        done.append("an index left behind")
    file.write_text(json.dumps(config))
    return done


class Model:
    def __init__(self, family, seed, path):
        import torch
        import transformers

        rng = np.random.default_rng([seed, *family.encode()])
        name, arguments, theta, scale = draw_config(rng, family)
        self.about = dict(arguments, rope_theta=theta, rope_scaling=scale)
        config = getattr(transformers, name + "Config")(**arguments, rope_parameters=dict(scale or dict(rope_type="default"), rope_theta=theta))
        model = getattr(transformers, name + "ForCausalLM")._from_config(config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).eval()
        randomise(model, rng, config.tie_word_embeddings)
        dtype = pick(rng, torch.float32, torch.bfloat16)
        shutil.rmtree(path, ignore_errors=True)
        copy.deepcopy(model).to(dtype).save_pretrained(path, max_shard_size=pick(rng, "5GB", "40KB", "15KB"), save_original_format=chance(rng, 0.8))
        with torch.no_grad():  # the numbers that the file holds
            for p in (*model.parameters(), *(b for n, b in model.named_buffers() if "inv_freq" not in n)):
                p.copy_(p.to(dtype).to(torch.float32))
        self.spelling = pick(rng, 4, 5)
        if self.spelling == 4:
            respell(path, rng, theta, scale)
        self.about.update(disturbed=disturb(path, rng, name, theta, scale, config.tie_word_embeddings))
        self.path, self.seed, self.family = path, seed, family
        self.model = model
        self.about.update(dtype=str(dtype), spelling=self.spelling, files=len(list(path.glob("*.safetensors"))))

    def reference(self):
        """(ids, logits): a prompt on which rounding cannot flip an expert, found by watching the routers."""
        import torch

        rng = np.random.default_rng([self.seed, 5])
        vocab = self.about["vocab_size"]
        ids = [int(i) for i in rng.integers(0, vocab, size=TOKENS)]
        for _ in range(60):
            margins, logits = self.watched(torch.tensor([ids]))
            close = np.nonzero(margins < 0.02)[0]
            if not len(close):
                return ids, logits
            for i in close:
                ids[i] = int(rng.integers(0, vocab))
        keep = int(np.nonzero(margins < 0.02)[0][0])  # nothing better found: the positions before the first close one
        return (ids[:keep], logits[:keep]) if keep else (None, None)

    def watched(self, ids):
        import torch

        margins = np.full(ids.shape[1], np.inf)
        hooks = []

        def look(module, _inputs, output):
            nonlocal margins
            scores = output[0].detach().float().reshape(ids.shape[1], -1).numpy().astype(np.float64)
            margins = np.minimum(margins, self.margin(scores, module))
        for name, module in self.model.named_modules():
            if name.endswith("mlp.gate"):
                hooks.append(module.register_forward_hook(look))
        with torch.no_grad():
            logits = self.model(ids).logits[0].numpy().astype(np.float64)
        for h in hooks:
            h.remove()
        return margins, logits

    def margin(self, logits, module):
        """How far each row is from another choice, roughly in units of a router logit."""
        import numpy_reference

        a = self.about
        k, groups = a["num_experts_per_tok"], a.get("n_group", 1)
        sigmoid = self.family == "deepseek_v3"
        if self.family == "qwen3_moe":
            logits = np.log(np.maximum(logits, 1e-30)) if (logits >= 0).all() and np.allclose(logits.sum(1), 1, atol=1e-3) else logits
            return numpy_reference.gap(logits, k)
        choice = 1 / (1 + np.exp(-logits)) + module.e_score_correction_bias.float().numpy() if sigmoid else logits
        margin = np.full(len(logits), np.inf)
        if groups > 1 and (sigmoid or a["topk_method"] == "group_limited_greedy"):
            by_group = np.sort(choice.reshape(len(choice), groups, -1), axis=2)
            best = by_group[..., -2:].sum(axis=2) if sigmoid else by_group[..., -1]
            margin = numpy_reference.gap(best, a["topk_group"])
            kept = np.zeros_like(best, dtype=bool)
            np.put_along_axis(kept, np.argsort(-best, axis=1)[:, : a["topk_group"]], True, axis=1)
            choice = np.where(np.repeat(kept, choice.shape[1] // groups, axis=1), choice, -1e30)
        return np.minimum(margin, numpy_reference.gap(choice, k))


class Checker:
    def __init__(self, binary, scratch):
        self.binary, self.scratch, self.checks, self.misses = binary, scratch, 0, 0

    def run(self, *arguments):
        r = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        return None if r.returncode == 0 else f"exit status {r.returncode}: {r.stderr.strip()[-500:]}"

    def logits(self, model, ids, *options):
        out = self.scratch / "out.npy"
        said = self.run("logits", model, "--ids", ",".join(map(str, ids)), "--out", out, *options)
        return (None, said) if said else (np.load(out), None)

    def check(self, model, what, wrong):
        self.checks += 1
        if wrong:
            self.misses += 1
            print(f"MISS {model.family} --seed {model.seed}: {what}: {wrong}\n     {json.dumps(model.about)}", flush=True)

    def near(self, model, what, path, ids, want, *options):
        got, said = self.logits(path, ids, *options)
        if got is not None:
            error = reference.relative(got.astype(np.float64), want) if got.shape == want.shape else f"shape {got.shape}"
            said = None if isinstance(error, float) and error < EXACT else f"error {error}"
        self.check(model, what, said)
        return got

    def equal(self, model, what, path, ids, want, *options):
        got, said = self.logits(path, ids, *options)
        if got is not None and got.tobytes() != want.tobytes():
            said = f"other bytes, error {reference.relative(got.astype(np.float64), want.astype(np.float64)):.1e}"
        self.check(model, what, said)

    def model(self, model):
        ids, want = model.reference()
        if not ids:
            return
        got = self.near(model, "folder", model.path, ids, want)
        if got is None:
            return
        for options in (["--threads", 1, "--prefill-chunk", 1], ["--threads", 2, "--prefill-chunk", 7], ["--isa", "ref"]):
            self.equal(model, " ".join(map(str, options)), model.path, ids, got, *options)
        self.through_gguf(model, ids, want)

    def through_gguf(self, model, ids, want):
        out, back = self.scratch / "c.gguf", self.scratch / "back"
        out.unlink(missing_ok=True)
        said = self.run("convert", model.path, out)
        if said and ("GGUF files of deepseek2 have no key" in said or "rope_scaling.mscale_all_dim" in said):
            self.check(model, "convert refused", None)
            return
        self.check(model, "convert to GGUF", said)
        if said:
            return
        self.near(model, "converted to GGUF", out, ids, want)
        shutil.rmtree(back, ignore_errors=True)
        said = self.run("convert", out, back)
        self.check(model, "convert back", said)
        if not said:
            self.near(model, "converted back", back, ids, want)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int, default=int(os.environ.get("TD_SEED", 0)) or int.from_bytes(os.urandom(3), "little"))
    p.add_argument("--models", type=int, default=8, help="of each family")
    p.add_argument("--family", action="append", choices=FAMILIES)
    p.add_argument("--keep", type=pathlib.Path, help="leave the models here")
    a = p.parse_args()
    binary = os.environ.get("TD_BINARY")
    if not binary or not os.access(binary, os.X_OK):
        p.error("TD_BINARY must name the program")
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"seed {a.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        checker = Checker(os.path.abspath(binary), pathlib.Path(scratch))
        for family in a.family or FAMILIES:
            for i in range(a.models):
                checker.model(Model(family, a.seed + i, (a.keep or pathlib.Path(scratch)) / f"{family}-{a.seed + i}"))
        print(f"{checker.checks} checks, {checker.misses} misses (seed {a.seed})")
    return 1 if checker.misses else 0


if __name__ == "__main__":
    sys.exit(main())
