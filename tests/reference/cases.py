"""The catalogue of tiny models: every family with the variations that checkpoints of it have, odd sizes, and random sizes from the seed.

A case is (config as published, tensors {name: (shape, kind)}). Kinds say how values are drawn (make_models.draw): matrix, router, norm, bias, embed, choice.
Sizes are odd on purpose: a width that is not a multiple of 16, heads that do not divide the width, FP8 shapes that are not multiples of 128. Names ending in
"-k" have all K-quantisable sizes (multiples of 256); "-q" multiples of 32.
"""
import numpy as np


def _pick(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def gqa_tensors(c, is_moe, qk_norm):
    d, heads, kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim") or d // heads
    t = {"model.embed_tokens.weight": ((c["vocab_size"], d), "matrix" if c["tie_word_embeddings"] else "embed")}  # a wide tied head would hide errors behind huge logits
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for n, out in (("q", heads * dim), ("k", kv * dim), ("v", kv * dim)):
            t[p + f"self_attn.{n}_proj.weight"] = ((out, d), "matrix")
            if c.get("attention_bias"):
                t[p + f"self_attn.{n}_proj.bias"] = ((out,), "bias")
        t[p + "self_attn.o_proj.weight"] = ((d, heads * dim), "matrix")
        if c.get("attention_bias"):
            t[p + "self_attn.o_proj.bias"] = ((d,), "bias")
        if qk_norm:
            t[p + "self_attn.q_norm.weight"] = ((dim,), "norm")
            t[p + "self_attn.k_norm.weight"] = ((dim,), "norm")
        t[p + "input_layernorm.weight"] = ((d,), "norm")
        t[p + "post_attention_layernorm.weight"] = ((d,), "norm")
        if is_moe(i):
            t[p + "mlp.gate.weight"] = ((c["num_experts"], d), "router")
            for e in range(c["num_experts"]):
                mlp(t, p + f"mlp.experts.{e}.", d, c["moe_intermediate_size"])
        else:
            mlp(t, p + "mlp.", d, c["intermediate_size"])
    return finish(t, c)


def mlp(t, prefix, d, ff):
    t[prefix + "gate_proj.weight"] = ((ff, d), "matrix")
    t[prefix + "up_proj.weight"] = ((ff, d), "matrix")
    t[prefix + "down_proj.weight"] = ((d, ff), "matrix")


def finish(t, c):
    t["model.norm.weight"] = ((c["hidden_size"],), "norm")
    if not c.get("tie_word_embeddings"):
        t["lm_head.weight"] = ((c["vocab_size"], c["hidden_size"]), "matrix")
    return t


def qwen3(rng, size=None, **more):
    kv = _pick(rng, 1, 2, 3)
    c = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=_pick(rng, 52, 70, 84), intermediate_size=_pick(rng, 90, 117), num_hidden_layers=3,
             num_attention_heads=kv * _pick(rng, 1, 2, 4), num_key_value_heads=kv, head_dim=_pick(rng, 10, 24, 32), hidden_act="silu", rms_norm_eps=1e-6,
             vocab_size=_pick(rng, 101, 133), max_position_embeddings=256, rope_theta=1000000.0, rope_scaling=None, attention_bias=False, tie_word_embeddings=True,
             use_sliding_window=False, sliding_window=None, max_window_layers=3, bos_token_id=1, eos_token_id=2)
    c.update(size or {}, **more)
    return c, gqa_tensors(c, lambda i: False, True)


def qwen3_moe(rng, size=None, **more):
    kv = _pick(rng, 1, 2)
    c = dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", hidden_size=_pick(rng, 44, 60, 76), intermediate_size=_pick(rng, 90, 110),
             moe_intermediate_size=_pick(rng, 26, 40, 50), num_hidden_layers=4, num_attention_heads=kv * _pick(rng, 2, 4), num_key_value_heads=kv,
             head_dim=_pick(rng, 12, 16, 22), hidden_act="silu", rms_norm_eps=1e-6, vocab_size=_pick(rng, 97, 120), max_position_embeddings=256, rope_theta=1000000.0,
             rope_scaling=None, attention_bias=False, tie_word_embeddings=False, num_experts=_pick(rng, 7, 12), num_experts_per_tok=_pick(rng, 2, 3), norm_topk_prob=True,
             decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False, sliding_window=None, max_window_layers=4, bos_token_id=1, eos_token_id=2)
    c.update(size or {}, **more)
    moe = lambda i: i not in c["mlp_only_layers"] and (i + 1) % c["decoder_sparse_step"] == 0
    return c, gqa_tensors(c, moe, True)


def llama(rng, size=None, **more):
    kv = _pick(rng, 1, 2, 3)
    heads = kv * _pick(rng, 1, 2)
    c = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=heads * _pick(rng, 10, 14, 26), intermediate_size=_pick(rng, 83, 130), num_hidden_layers=3,
             num_attention_heads=heads, num_key_value_heads=kv, hidden_act="silu", rms_norm_eps=1e-5, vocab_size=_pick(rng, 101, 131), max_position_embeddings=256,
             rope_theta=500000.0, rope_scaling=None, attention_bias=False, mlp_bias=False, tie_word_embeddings=False, bos_token_id=1, eos_token_id=[2, 3])
    c.update(size or {}, **more)
    return c, gqa_tensors(c, lambda i: False, False)


def mla_tensors(c):
    d, heads, rope, nope, v = c["hidden_size"], c["num_attention_heads"], c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
    t = {"model.embed_tokens.weight": ((c["vocab_size"], d), "embed")}
    extra = c.get("num_nextn_predict_layers") or 0
    for i in range(c["num_hidden_layers"] + extra):
        p = f"model.layers.{i}."
        if c.get("q_lora_rank"):
            t[p + "self_attn.q_a_proj.weight"] = ((c["q_lora_rank"], d), "matrix")
            t[p + "self_attn.q_a_layernorm.weight"] = ((c["q_lora_rank"],), "norm")
            t[p + "self_attn.q_b_proj.weight"] = ((heads * (nope + rope), c["q_lora_rank"]), "matrix")
        else:
            t[p + "self_attn.q_proj.weight"] = ((heads * (nope + rope), d), "matrix")
        t[p + "self_attn.kv_a_proj_with_mqa.weight"] = ((c["kv_lora_rank"] + rope, d), "matrix")
        t[p + "self_attn.kv_a_layernorm.weight"] = ((c["kv_lora_rank"],), "norm")
        t[p + "self_attn.kv_b_proj.weight"] = ((heads * (nope + v), c["kv_lora_rank"]), "matrix")
        t[p + "self_attn.o_proj.weight"] = ((d, heads * v), "matrix")
        t[p + "input_layernorm.weight"] = ((d,), "norm")
        t[p + "post_attention_layernorm.weight"] = ((d,), "norm")
        if i < c["first_k_dense_replace"]:
            mlp(t, p + "mlp.", d, c["intermediate_size"])
        else:
            t[p + "mlp.gate.weight"] = ((c["n_routed_experts"], d), "router")
            if c["model_type"] == "deepseek_v3":
                t[p + "mlp.gate.e_score_correction_bias"] = ((c["n_routed_experts"],), "choice")
            for e in range(c["n_routed_experts"]):
                mlp(t, p + f"mlp.experts.{e}.", d, c["moe_intermediate_size"])
            mlp(t, p + "mlp.shared_experts.", d, c["moe_intermediate_size"] * c["n_shared_experts"])
        if i >= c["num_hidden_layers"]:  # multi-token prediction: published beside the layers, not part of plain decoding
            t[p + "enorm.weight"] = ((d,), "norm")
            t[p + "hnorm.weight"] = ((d,), "norm")
            t[p + "eh_proj.weight"] = ((d, 2 * d), "matrix")
            t[p + "shared_head.norm.weight"] = ((d,), "norm")
    return finish(t, c)


def yarn(mscale, mscale_all_dim):
    return dict(type="yarn", factor=40, original_max_position_embeddings=64, beta_fast=4, beta_slow=1, mscale=mscale, mscale_all_dim=mscale_all_dim)


def deepseek_v2(rng, size=None, **more):
    heads = _pick(rng, 2, 3, 5)
    c = dict(architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", hidden_size=heads * _pick(rng, 14, 20), intermediate_size=_pick(rng, 70, 101),
             moe_intermediate_size=_pick(rng, 22, 36), num_hidden_layers=3, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=None,
             kv_lora_rank=_pick(rng, 20, 36), qk_nope_head_dim=_pick(rng, 12, 18), qk_rope_head_dim=_pick(rng, 8, 12), v_head_dim=_pick(rng, 10, 14),
             n_routed_experts=12, n_shared_experts=2, num_experts_per_tok=3, first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False, scoring_func="softmax",
             topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0, hidden_act="silu", rms_norm_eps=1e-6, vocab_size=_pick(rng, 99, 126),
             max_position_embeddings=2560, rope_theta=10000, rope_scaling=yarn(0.707, 0.707), attention_bias=False, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    c.update(size or {}, **more)
    return c, mla_tensors(c)


def deepseek_v3(rng, size=None, **more):
    c, _ = deepseek_v2(rng)
    c.update(architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", q_lora_rank=_pick(rng, 30, 42), n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=4,
             n_group=4, topk_group=2, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc", routed_scaling_factor=2.5, rope_scaling=yarn(1.0, 1.0), ep_size=1,
             num_nextn_predict_layers=0)
    c.update(size or {}, **more)
    return c, mla_tensors(c)


def step3_tensors(c):
    d, heads, dim, share = c["hidden_size"], c["num_attention_heads"], c["head_dim"], c["share_q_dim"]
    moe = {int(x) for x in c["moe_layers_enum"].strip().split(",")}
    experts, ff = c["moe_num_experts"], c["moe_intermediate_size"]
    t = {"model.embed_tokens.weight": ((c["vocab_size"], d), "embed")}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"] = ((d,), "norm")
        t[p + "post_attention_layernorm.weight"] = ((d,), "norm")
        t[p + "self_attn.q_proj.weight"] = ((share, d), "matrix")
        t[p + "self_attn.k_proj.weight"] = ((dim, d), "matrix")
        t[p + "self_attn.v_proj.weight"] = ((dim, d), "matrix")
        t[p + "self_attn.inter_norm.weight"] = ((share,), "norm")
        t[p + "self_attn.wq.weight"] = ((heads * dim, share), "matrix")
        t[p + "self_attn.o_proj.weight"] = ((d, heads * dim), "matrix")
        if i in moe:
            t[p + "moe.gate.weight"] = ((experts, d), "router")
            t[p + "moe.gate_proj.weight"] = ((experts, ff, d), "matrix")
            t[p + "moe.up_proj.weight"] = ((experts, ff, d), "matrix")
            t[p + "moe.down_proj.weight"] = ((experts, d, ff), "matrix")
            mlp(t, p + "share_expert.", d, c["share_expert_dim"])
        else:
            mlp(t, p + "mlp.", d, c["intermediate_size"])
    return finish(t, c)


def step3(rng, size=None, **more):
    c = dict(architectures=["Step3TextForCausalLM"], model_type="step3_text", hidden_size=_pick(rng, 46, 60, 74), intermediate_size=_pick(rng, 90, 107),
             num_attention_heads=_pick(rng, 3, 4, 5), num_attention_groups=1, head_dim=_pick(rng, 14, 20, 32), share_q_dim=_pick(rng, 26, 34), num_hidden_layers=4,
             vocab_size=_pick(rng, 103, 127), rms_norm_eps=1e-5, moe_intermediate_size=_pick(rng, 22, 36), moe_num_experts=_pick(rng, 6, 9), moe_top_k=3,
             share_expert_dim=_pick(rng, 24, 30), norm_expert_weight=False, moe_layers_enum="1,2", moe_every_n_layer=1, use_moe=True, rope_theta=500000.0, rope_scaling=None,
             max_position_embedding=256, max_seq_len=256, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1)
    c.update(size or {}, **more)
    return c, step3_tensors(c)


def step3_vl(rng, size=None, **more):
    """The published wrapping: text_config inside, vision tensors beside the text's (which a text decoder leaves alone)."""
    text, t = step3(rng, size, **more)
    t["vision_model.embeddings.class_embedding"] = ((1, 8), "matrix")
    t["vision_model.transformer.layers.0.self_attn.qkv_proj.weight"] = ((24, 8), "matrix")
    t["vit_downsampler.weight"] = ((4, 8, 2, 2), "matrix")
    t["vit_large_projector.weight"] = ((text["hidden_size"], 8), "matrix")
    inner = dict(text, architectures=["Step3TextForCausalLM"])
    c = dict(architectures=["Step3VLForConditionalGeneration"], model_type="step3_vl", text_config=inner, image_token_id=5, understand_projector_stride=2, projector_bias=False,
             vision_config=dict(model_type="step3_vision_encoder", hidden_size=8), bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16")
    return c, t


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
K_GQA = dict(hidden_size=256, intermediate_size=512, num_attention_heads=8, num_key_value_heads=2, head_dim=32, vocab_size=128)
Q_MLA = dict(hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=32,
             v_head_dim=32)
K_MLA = dict(hidden_size=256, intermediate_size=256, moe_intermediate_size=256, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=256, qk_nope_head_dim=32,
             qk_rope_head_dim=32, v_head_dim=64, n_routed_experts=8)
F8_MLA = dict(hidden_size=200, intermediate_size=300, moe_intermediate_size=136, num_attention_heads=5, num_key_value_heads=5, kv_lora_rank=144, q_lora_rank=132, qk_nope_head_dim=20,
              qk_rope_head_dim=12, v_head_dim=28)
F8_STEP3 = dict(hidden_size=270, intermediate_size=310, head_dim=32, share_q_dim=140, num_attention_heads=5, moe_intermediate_size=136, share_expert_dim=150, moe_num_experts=5)

# name: (builder, size, further config keys, dtype, shards)
CASES = {
    "step3": (step3, None, {}, "f32", 1),
    "step3-bf16": (step3, None, {}, "bf16", 2),
    "step3-vl": (step3_vl, None, {}, "bf16", 1),
    "step3-fp8": (step3, F8_STEP3, {}, "fp8", 1),
    "step3-q": (step3, dict(hidden_size=64, intermediate_size=96, head_dim=32, share_q_dim=64, moe_intermediate_size=32, share_expert_dim=64), {}, "f32", 1),
    "step3-k": (step3, dict(hidden_size=256, intermediate_size=512, head_dim=64, num_attention_heads=4, share_q_dim=256, moe_intermediate_size=256, share_expert_dim=256), {}, "f32", 1),
    "qwen3": (qwen3, None, {}, "f32", 1),
    "qwen3-bias": (qwen3, None, dict(tie_word_embeddings=False, attention_bias=True), "f32", 3),
    "qwen3-bf16": (qwen3, None, {}, "bf16", 1),
    "qwen3-k": (qwen3, K_GQA, {}, "f32", 1),
    "qwen3_moe": (qwen3_moe, None, {}, "f32", 1),
    "qwen3_moe-mixed": (qwen3_moe, None, dict(norm_topk_prob=False, mlp_only_layers=[3], decoder_sparse_step=2, num_hidden_layers=5), "f32", 2),
    "qwen3_moe-bf16": (qwen3_moe, None, {}, "bf16", 1),
    "qwen3_moe-k": (qwen3_moe, dict(K_GQA, moe_intermediate_size=256, num_experts=6), {}, "f32", 1),
    "llama": (llama, None, {}, "f32", 1),
    "llama-llama3": (llama, None, dict(rope_scaling=LLAMA3), "f32", 1),
    "llama-linear": (llama, None, dict(rope_scaling=dict(type="linear", factor=4.0)), "f32", 1),
    "llama-tied": (llama, None, dict(tie_word_embeddings=True, head_dim=18), "f32", 1),
    "llama-bias": (llama, None, dict(attention_bias=True), "f32", 2),
    "llama-bf16": (llama, None, dict(rope_scaling=LLAMA3), "bf16", 1),
    "llama-k": (llama, K_GQA, dict(rope_scaling=LLAMA3), "f32", 1),
    "deepseek_v2-lite": (deepseek_v2, None, {}, "f32", 1),
    "deepseek_v2-groups": (deepseek_v2, None, dict(topk_method="group_limited_greedy", n_group=4, topk_group=2, q_lora_rank=26, routed_scaling_factor=16.0, first_k_dense_replace=0), "f32", 2),
    "deepseek_v2-bf16": (deepseek_v2, None, {}, "bf16", 1),
    "deepseek_v2-q": (deepseek_v2, Q_MLA, {}, "f32", 1),
    "deepseek_v3": (deepseek_v3, None, {}, "f32", 1),
    "deepseek_v3-plain": (deepseek_v3, None, dict(rope_scaling=None, q_lora_rank=None, norm_topk_prob=False, n_group=1, topk_group=1, n_shared_experts=2), "f32", 1),
    "deepseek_v3-mtp": (deepseek_v3, None, dict(num_nextn_predict_layers=1), "bf16", 2),
    "deepseek_v3-fp8": (deepseek_v3, F8_MLA, {}, "fp8", 2),
    "deepseek_v3-wide-fp8": (deepseek_v3, dict(F8_MLA, num_attention_heads=3, num_key_value_heads=3, qk_nope_head_dim=128, v_head_dim=256), {}, "fp8", 1),
    "deepseek_v3-q": (deepseek_v3, dict(Q_MLA, q_lora_rank=64), {}, "f32", 1),
    "deepseek_v3-k": (deepseek_v3, dict(K_MLA, q_lora_rank=256), {}, "f32", 1),
}

# Stored with the tests (tests/data/reference): a few tens of kilobytes each.
TINY = dict(hidden_size=18, intermediate_size=25, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=10, vocab_size=47)
TINY_MLA = dict(hidden_size=18, intermediate_size=19, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=14, qk_nope_head_dim=6, qk_rope_head_dim=8,
                v_head_dim=5, moe_intermediate_size=3, n_routed_experts=8, vocab_size=37)
TINY_STEP3 = dict(hidden_size=18, intermediate_size=23, num_attention_heads=3, head_dim=10, share_q_dim=13, num_hidden_layers=3, vocab_size=41, moe_intermediate_size=7,
                  moe_num_experts=5, share_expert_dim=9)
TINY_F8 = dict(hidden_size=132, intermediate_size=9, num_attention_heads=3, head_dim=6, share_q_dim=7, num_hidden_layers=3, vocab_size=24, moe_intermediate_size=3,
               moe_num_experts=4, share_expert_dim=4)
TINY_MOE = dict(TINY, moe_intermediate_size=9, num_experts=5, num_experts_per_tok=2)
STORED = {
    "step3": (step3, TINY_STEP3, {}, "f32", 1),
    "step3-bf16": (step3_vl, TINY_STEP3, {}, "bf16", 1),
    "step3-fp8": (step3, TINY_F8, {}, "fp8", 1),
    "qwen3": (qwen3, TINY, {}, "f32", 1),
    "qwen3_moe": (qwen3_moe, TINY_MOE, {}, "f32", 1),
    "qwen3_moe-bf16": (qwen3_moe, dict(TINY_MOE, num_hidden_layers=3), dict(norm_topk_prob=False, mlp_only_layers=[1]), "bf16", 2),
    "llama": (llama, dict(TINY, hidden_size=24), dict(head_dim=None), "f32", 1),
    "llama-llama3": (llama, dict(TINY, hidden_size=20), dict(rope_scaling=dict(LLAMA3, original_max_position_embeddings=16), tie_word_embeddings=True), "f32", 1),
    "llama-linear": (llama, dict(TINY, hidden_size=20), dict(rope_scaling=dict(type="linear", factor=4.0), attention_bias=True), "f32", 1),
    "deepseek_v2": (deepseek_v2, TINY_MLA, {}, "f32", 1),
    "deepseek_v2-groups": (deepseek_v2, TINY_MLA, dict(topk_method="group_limited_greedy", n_group=4, topk_group=2, q_lora_rank=12, routed_scaling_factor=4.0), "bf16", 1),
    "deepseek_v3": (deepseek_v3, TINY_MLA, dict(q_lora_rank=12), "f32", 1),
    "deepseek_v3-fp8": (deepseek_v3, dict(TINY_MLA, hidden_size=132, vocab_size=26, num_hidden_layers=2, n_routed_experts=4, intermediate_size=9), dict(q_lora_rank=12, n_group=2, topk_group=1, num_experts_per_tok=2), "fp8", 1),
}


def build(name, seed, table=CASES):
    """(config, {tensor: (shape, kind)}, dtype, shards) of a case; the same seed gives the same sizes."""
    make, size, more, dtype, shards = table[name]
    rng = np.random.default_rng([seed, *name.encode()])
    config, tensors = make(rng, size, **more)
    return config, tensors, dtype, shards
