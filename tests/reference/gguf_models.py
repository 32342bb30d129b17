"""Between Hugging Face folders and GGUF files, written with the gguf package from the conventions of published files - not from the program under test.

write(folder, out): an F32 (or F16/BF16) GGUF as published converters make it: llama's q and k rows reordered for interleaved RoPE, norms and routers in F32, experts stacked,
MLA's kv_b split into k_b (transposed) and v_b, llama3 scaling as rope_freqs. old_mla=True writes DeepSeek as older files did (attn_kv_b, true head counts).
read(path, config): the weights of a GGUF file under their Hugging Face names, every type multiplied out, so that the references can run on exactly what the file holds.
"""
import pathlib
import struct

import gguf
import numpy as np

import folder

ARCHITECTURES = {"llama": "llama", "qwen3": "qwen3", "qwen3_moe": "qwen3moe", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "step3_text": "step3"}

TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
COMMON = {"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight", "self_attn.o_proj.weight": "attn_output.weight",
          "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight", "mlp.gate.weight": "ffn_gate_inp.weight",
          "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight"}
GQA = {"self_attn.q_proj.weight": "attn_q.weight", "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias", "self_attn.v_proj.bias": "attn_v.bias",
       "self_attn.o_proj.bias": "attn_output.bias", "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight"}
MLA = {"self_attn.q_proj.weight": "attn_q.weight", "self_attn.q_a_proj.weight": "attn_q_a.weight", "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
       "self_attn.q_b_proj.weight": "attn_q_b.weight", "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight", "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
       "self_attn.kv_b_proj.weight": "attn_kv_b.weight", "mlp.gate.e_score_correction_bias": "exp_probs_b.bias", "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
       "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight", "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight"}
STEP3 = {"self_attn.q_proj.weight": "attn_q_a.weight", "self_attn.inter_norm.weight": "attn_q_a_norm.weight", "self_attn.wq.weight": "attn_q_b.weight",
         "moe.gate.weight": "ffn_gate_inp.weight", "moe.gate_proj.weight": "ffn_gate_exps.weight", "moe.up_proj.weight": "ffn_up_exps.weight",
         "moe.down_proj.weight": "ffn_down_exps.weight", "share_expert.gate_proj.weight": "ffn_gate_shexp.weight", "share_expert.up_proj.weight": "ffn_up_shexp.weight",
         "share_expert.down_proj.weight": "ffn_down_shexp.weight"}


def text_of(config):
    return config.get("text_config", config)


def names_of(c):
    own = {"deepseek2": MLA, "step3": STEP3}.get(ARCHITECTURES[c["model_type"]], GQA)
    return {**COMMON, **own}


def interleave(x, heads):
    """Rows of every head from halves (i, i + dim/2) to neighbours (2i, 2i + 1)."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def deinterleave(x, heads):
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def _metadata(w, c, old_mla):
    arch = ARCHITECTURES[c["model_type"]]
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c.get("max_position_embeddings") or c["max_position_embedding"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_vocab_size(c["vocab_size"])
    if arch == "deepseek2":
        _metadata_mla(w, c, old_mla)
        return
    dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    w.add_head_count_kv(c.get("num_key_value_heads", 1))
    w.add_key_length(dim)
    w.add_value_length(dim)
    w.add_rope_dimension_count(dim)
    scaling = c.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(scaling["factor"])
    if arch == "qwen3moe":
        w.add_expert_count(c["num_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        if not c["norm_topk_prob"]:
            w.add_expert_weights_norm(False)  # published files never say so: qwen3moe renormalises
    if arch == "step3":
        w.add_q_lora_rank(c["share_q_dim"])
        w.add_expert_count(c["moe_num_experts"])
        w.add_expert_used_count(c["moe_top_k"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        w.add_expert_shared_feed_forward_length(c["share_expert_dim"])
        w.add_expert_shared_count(1)
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
        w.add_expert_weights_norm(False)
        w.add_array("step3.moe_layers", [int(x) for x in c["moe_layers_enum"].split(",")])


def _metadata_mla(w, c, old_mla):
    nope, rot, v, rank = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    w.add_head_count_kv(c["num_attention_heads"] if old_mla else 1)
    w.add_key_length(nope + rot if old_mla else rank + rot)
    w.add_value_length(v if old_mla else rank)
    if not old_mla:
        w.add_key_length_mla(nope + rot)
        w.add_value_length_mla(v)
    w.add_rope_dimension_count(rot)
    w.add_kv_lora_rank(rank)
    if c.get("q_lora_rank"):
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    w.add_expert_weights_norm(c["norm_topk_prob"])
    if c["model_type"] == "deepseek_v3":
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if c["n_group"] > 1:
        w.add_expert_group_count(c["n_group"])
        w.add_expert_group_used_count(c["topk_group"])
    scaling = c.get("rope_scaling")
    if scaling:
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(scaling["factor"])
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])
        w.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
        w.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])


def _layer(c, weights, layer, old_mla):
    """(gguf name without block, array) of one layer."""
    prefix = f"model.layers.{layer}."
    mine = {n[len(prefix):]: x for n, x in weights.items() if n.startswith(prefix)}
    arch, heads = ARCHITECTURES[c["model_type"]], c["num_attention_heads"]
    for hf, name in names_of(c).items():
        if hf not in mine:
            continue
        x = mine[hf]
        if arch == "llama" and ".q_proj" in hf:
            x = interleave(x, heads)
        if arch == "llama" and ".k_proj" in hf:
            x = interleave(x, c["num_key_value_heads"])
        if hf == "self_attn.kv_b_proj.weight" and not old_mla:
            k, v = np.split(x.reshape(heads, -1, x.shape[1]), [c["qk_nope_head_dim"]], axis=1)
            yield "attn_k_b.weight", k.swapaxes(1, 2)
            yield "attn_v_b.weight", v
            continue
        yield name, x
    for part in ("gate", "up", "down"):
        stack = [mine[f"mlp.experts.{e}.{part}_proj.weight"] for e in range(c.get("num_experts") or c.get("n_routed_experts") or 0) if f"mlp.experts.{e}.{part}_proj.weight" in mine]
        if stack:
            yield f"ffn_{part}_exps.weight", np.stack(stack)


def _tokenizer(w, t, vocab):
    """A byte-level BPE tokenizer.json in GGUF's keys."""
    tokens = {i: s for s, i in t["model"]["vocab"].items()} | {a["id"]: a["content"] for a in t["added_tokens"]}
    special = {a["id"] for a in t["added_tokens"]}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(vocab)])
    w.add_token_types([3 if i in special else 1 if i in tokens else 5 for i in range(vocab)])
    w.add_token_merges(t["model"]["merges"])
    for a in t["added_tokens"]:
        (w.add_bos_token_id if "bos" in a["content"] else w.add_eos_token_id)(a["id"])


def mixed(number, name, x):
    """Another type for every matrix, in turn; blocks only where rows divide into them. The router may be BF16 but is never quantised."""
    kinds = ["BF16", "F16", "F32"] + (["Q8_0", "Q4_0"] if x.shape[-1] % 32 == 0 and "ffn_gate_inp" not in name else [])
    return kinds[number % len(kinds)]


def write(source, out, matrices="F32", old_mla=False, tokenizer=None, alignment=None, version=3, split=0):
    """GGUF of a folder; matrices F32, F16, BF16, or a function of (number, name, array). Vectors and, with a name, routers stay F32. tokenizer: a parsed tokenizer.json.
    alignment: of the data, other than 32. version 2: the same bytes under the older number. split: tensors a file; returns the first of the set."""
    config, weights = folder.weights_of(source)
    c = text_of(config)
    w = gguf.GGUFWriter(out, ARCHITECTURES[c["model_type"]], split_max_tensors=split)
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_name("tiny")
    _metadata(w, c, old_mla)
    if tokenizer:
        _tokenizer(w, tokenizer, c["vocab_size"])
    tensors = [(TOP[n], x) for n, x in weights.items() if n in TOP]
    for layer in range(c["num_hidden_layers"]):
        tensors += [(f"blk.{layer}.{n}", x) for n, x in _layer(c, weights, layer, old_mla)]
    scaling = c.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        import numpy_reference

        dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        plain = numpy_reference.frequencies(dict(c, rope_scaling=None), dim)[0]
        tensors.append(("rope_freqs.weight", plain / numpy_reference.frequencies(c, dim)[0]))
    for number, (name, x) in enumerate(tensors):
        x = np.ascontiguousarray(x, dtype=np.float32)
        kind = "F32" if x.ndim == 1 else matrices(number, name, x) if callable(matrices) else "F32" if "ffn_gate_inp" in name else matrices
        kind = gguf.GGMLQuantizationType[kind]
        w.add_tensor(name, x if kind == gguf.GGMLQuantizationType.F32 else gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    files = files_of(out)
    for file in files:
        with open(file, "r+b") as f:
            f.seek(4)
            f.write(struct.pack("<I", version))
    return files[0]


def files_of(path):
    """The files of a set, of which `path` is the name without its number, or the first; a single file otherwise."""
    path = pathlib.Path(path)
    stem = path.stem.partition("-00001-of-")[0]
    return sorted(path.parent.glob(stem + "-*-of-*.gguf")) or [path]


def types_of(path):
    """{tensor: type name} of a file."""
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


def read(path, config, mark=lambda x, kind: x):
    """{Hugging Face name: float64 array} of a GGUF file whose folder had this config. mark(array, type name) may note how each was stored; kv_b, stored as two halves, has the pair
    of their types."""
    c = text_of(config)
    arch, heads = ARCHITECTURES[c["model_type"]], c["num_attention_heads"]
    back = {v: k for k, v in TOP.items()}
    layer_back = {v: k for k, v in names_of(c).items()}
    out, halves = {}, {}
    for t in (t for file in files_of(path) for t in gguf.GGUFReader(file).tensors):
        raw = t.data
        x = gguf.quants.dequantize(raw, t.tensor_type).astype(np.float64).reshape([int(n) for n in t.shape[::-1]])
        x = mark(x, t.tensor_type.name)
        if t.name in back:
            out[back[t.name]] = x
            continue
        if not t.name.startswith("blk."):
            continue
        _, layer, name = t.name.split(".", 2)
        prefix = f"model.layers.{layer}."
        if name in ("attn_k_b.weight", "attn_v_b.weight"):
            halves.setdefault(prefix, {})[name[5]] = x, t.tensor_type.name
        elif "_exps" in name and arch != "step3":
            part = name.split("_")[1]
            for e in range(x.shape[0]):
                out[f"{prefix}mlp.experts.{e}.{part}_proj.weight"] = x[e]
        else:
            if arch == "llama" and name.startswith("attn_q."):
                x = deinterleave(x, heads)
            if arch == "llama" and name.startswith("attn_k."):
                x = deinterleave(x, c["num_key_value_heads"])
            out[prefix + layer_back[name]] = x
    for prefix, h in halves.items():
        (k, k_type), (v, v_type) = h["k"], h["v"]
        both = np.concatenate([k.swapaxes(1, 2), v], axis=1)
        out[prefix + "self_attn.kv_b_proj.weight"] = mark(both.reshape(-1, both.shape[2]), (k_type, v_type))
    return out
