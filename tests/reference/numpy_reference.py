"""Llama, Qwen3, Qwen3-MoE, DeepSeek-V2 and V3 in float64 with numpy alone: a second opinion beside transformers.

It serves three ends that transformers cannot: float64 throughout; the routing margin of every position (so that tests can choose prompts on which no
rounding flips an expert); and a product that can round activations as integer kernels do (so that bounds for quantised types are computed, not guessed).
check_oracles.py compares it with transformers.

MLA is computed in its plain form (k and v of every head are made from the latent by kv_b_proj) unless the absorbed form is asked for.
"""
import math

import numpy as np

LATENT_EPS = 1e-6  # transformers makes q_a_layernorm and kv_a_layernorm with the class default, whatever rms_norm_eps says


def rms_norm(x, weight, eps):
    return weight * (x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps))


def rope_of(c):
    """rope_parameters of either spelling: {rope_theta, rope_type, ...}."""
    r = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    r.setdefault("rope_theta", c.get("rope_theta", 10000.0))
    r["rope_type"] = r.get("rope_type", r.get("type", "default"))
    return r


def yarn_magnitude(factor, m):
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


def frequencies(c, dim):
    """(inverse frequencies [dim/2], factor of cos and sin)."""
    r = rope_of(c)
    base = r["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    kind = r["rope_type"]
    if kind == "default":
        return base, 1.0
    if kind == "linear":
        return base / r["factor"], 1.0
    if kind == "llama3":
        length = r["original_max_position_embeddings"]
        waves = length * base / (2 * math.pi)  # full turns within the original context
        low, high = r["low_freq_factor"], r["high_freq_factor"]
        blend = np.clip((waves - low) / (high - low), 0.0, 1.0)  # 0: few turns, divided by factor; 1: many turns, kept
        return base * (blend + (1 - blend) / r["factor"]), 1.0
    if kind == "yarn":
        def dimension_of(turns):
            return dim * math.log(r["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(r["rope_theta"]))
        low = max(math.floor(dimension_of(r.get("beta_fast", 32))), 0)
        high = min(math.ceil(dimension_of(r.get("beta_slow", 1))), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
        if r.get("mscale") and r.get("mscale_all_dim"):
            magnitude = yarn_magnitude(r["factor"], r["mscale"]) / yarn_magnitude(r["factor"], r["mscale_all_dim"])
        else:
            magnitude = yarn_magnitude(r["factor"], 1.0)
        return base * (1 - ramp) + base / r["factor"] * ramp, magnitude
    raise ValueError(f"rope_type {kind}")


def rope(x, table, interleaved):
    """x [tokens, heads, dim]; pairs (2i, 2i+1) when interleaved, else (i, i + dim/2)."""
    inv, magnitude = table
    angle = np.arange(x.shape[0])[:, None, None] * inv
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    y = np.empty_like(x)
    a, b = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, len(inv)), slice(len(inv), None))
    y[..., a] = x[..., a] * cos - x[..., b] * sin
    y[..., b] = x[..., b] * cos + x[..., a] * sin
    return y


def attend(q, k, v, scale):
    """q [T, heads, dk], k [T, kv, dk], v [T, kv, dv] -> [T, heads * dv], causal."""
    group = q.shape[1] // k.shape[1]
    out = np.empty((q.shape[0], q.shape[1], v.shape[2]))
    mask = np.triu(np.full((q.shape[0], q.shape[0]), -np.inf), 1)
    for h in range(q.shape[1]):
        s = q[:, h] @ k[:, h // group].T * scale + mask
        p = np.exp(s - s.max(axis=1, keepdims=True))
        out[:, h] = p / p.sum(axis=1, keepdims=True) @ v[:, h // group]
    return out.reshape(q.shape[0], -1)


def gqa(c, w, h, product, cache):
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim") or c["hidden_size"] // heads
    def project(n, count):
        y = product(h, w(f"self_attn.{n}_proj.weight")) + w(f"self_attn.{n}_proj.bias", 0.0)
        return y.reshape(len(h), count, dim)
    q, k, v = project("q", heads), project("k", kv), project("v", kv)
    if c["model_type"].startswith("qwen3"):
        q, k = rms_norm(q, w("self_attn.q_norm.weight"), c["rms_norm_eps"]), rms_norm(k, w("self_attn.k_norm.weight"), c["rms_norm_eps"])
    table = frequencies(c, dim)
    o = attend(rope(q, table, False), cache(rope(k, table, False)), cache(v), dim**-0.5)
    return product(o, w("self_attn.o_proj.weight")) + w("self_attn.o_proj.bias", 0.0)


def mla(c, w, h, product, cache, absorbed=None):
    heads, nope, rot, dv, rank = (c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    tokens = len(h)
    if c.get("q_lora_rank"):
        a = rms_norm(product(h, w("self_attn.q_a_proj.weight")), w("self_attn.q_a_layernorm.weight"), LATENT_EPS)
        q = product(a, w("self_attn.q_b_proj.weight"))
    else:
        q = product(h, w("self_attn.q_proj.weight"))
    q = q.reshape(tokens, heads, nope + rot)
    latent = product(h, w("self_attn.kv_a_proj_with_mqa.weight"))
    table = frequencies(c, rot)
    q_rot, k_rot = rope(q[..., nope:], table, True), rope(latent[:, None, rank:], table, True)
    row = cache(np.concatenate([rms_norm(latent[:, :rank], w("self_attn.kv_a_layernorm.weight"), LATENT_EPS), k_rot[:, 0]], axis=-1))  # what an MLA cache holds
    scale, r = (nope + rot) ** -0.5, rope_of(c)
    if r["rope_type"] == "yarn" and r.get("mscale_all_dim"):
        scale *= yarn_magnitude(r["factor"], r["mscale_all_dim"]) ** 2
    if absorbed:  # the same numbers without k and v of single heads: kv_b's halves are applied to the query and to the result
        to_query, to_result = absorbed if isinstance(absorbed, tuple) else (absorbed, absorbed)
        kv_b = w("self_attn.kv_b_proj.weight").reshape(heads, nope + dv, rank)
        query = np.stack([to_query(q[:, i, :nope], kv_b[i, :nope].T) for i in range(heads)], axis=1)
        latent_out = attend(np.concatenate([query, q_rot], axis=-1), row[:, None], row[:, None, :rank], scale).reshape(tokens, heads, rank)
        out = np.concatenate([to_result(latent_out[:, i], kv_b[i, nope:]) for i in range(heads)], axis=1)
        return product(out, w("self_attn.o_proj.weight"))
    kv = product(row[:, :rank], w("self_attn.kv_b_proj.weight")).reshape(tokens, heads, nope + dv)
    k_rot = row[:, None, rank:]
    k = np.concatenate([kv[..., :nope], np.repeat(k_rot, heads, axis=1)], axis=-1)
    return product(attend(np.concatenate([q[..., :nope], q_rot], axis=-1), k, kv[..., nope:], scale), w("self_attn.o_proj.weight"))


def swiglu(w, prefix, x, product):
    g = product(x, w(prefix + "gate_proj.weight"))
    return product(g / (1 + np.exp(-g)) * product(x, w(prefix + "up_proj.weight")), w(prefix + "down_proj.weight"))


def gap(values, k):
    """Between the k-th and the next largest of each row; infinite when all are taken."""
    if k >= values.shape[1]:
        return np.full(len(values), np.inf)
    s = -np.sort(-values, axis=1)
    return s[:, k - 1] - s[:, k]


def route(c, w, m):
    """ids [T, k], weights [T, k], and the margin: about how much a router logit may move before another choice is made."""
    logits = m @ w("mlp.gate.weight").T
    k = c["num_experts_per_tok"]
    sigmoid = c["model_type"] == "deepseek_v3"
    if sigmoid:
        scores = 1 / (1 + np.exp(-logits))
        choice, slope = scores + w("mlp.gate.e_score_correction_bias"), 0.25  # a sigmoid is nowhere steeper than 1/4
    else:
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        choice, slope = np.log(scores), 1.0
    margin = np.full(len(m), np.inf)
    groups = c.get("n_group") or 1
    if groups > 1 and (sigmoid or c["topk_method"] == "group_limited_greedy"):
        by_group = np.sort(choice.reshape(len(m), groups, -1), axis=2)
        best = by_group[..., -2:].sum(axis=2) if sigmoid else by_group[..., -1]
        margin = gap(best, c["topk_group"]) / (2 * slope if sigmoid else slope)
        kept = np.zeros_like(best, dtype=bool)
        np.put_along_axis(kept, np.argsort(-best, axis=1)[:, : c["topk_group"]], True, axis=1)
        choice = np.where(np.repeat(kept, choice.shape[1] // groups, axis=1), choice, -1e30)
    ids = np.argsort(-choice, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(scores, ids, axis=1)
    margin = np.minimum(margin, gap(choice, k) / slope)
    if c.get("norm_topk_prob") and c["model_type"] != "deepseek_v2":
        weights = weights / weights.sum(axis=1, keepdims=True)
    return ids, weights * c.get("routed_scaling_factor", 1.0), margin


def moe(c, w, m, product):
    ids, weights, margin = route(c, w, m)
    y = np.zeros_like(m)
    for e in np.unique(ids):
        rows, slots = np.nonzero(ids == e)
        y[rows] += weights[rows, slots][:, None] * swiglu(w, f"mlp.experts.{e}.", m[rows], product)
    if c["model_type"].startswith("deepseek"):
        y += swiglu(w, "mlp.shared_experts.", m, product)
    return y, margin


def is_moe(c, layer):
    if c["model_type"] == "qwen3_moe":
        return layer not in (c.get("mlp_only_layers") or []) and (layer + 1) % c.get("decoder_sparse_step", 1) == 0
    return c["model_type"].startswith("deepseek") and layer >= c["first_k_dense_replace"]


def forward(c, weights, ids, product=lambda x, w: x @ w.T, cache=lambda x: x, absorbed=None):
    """logits float64 [tokens, vocab] and routing margins [tokens] (infinite for dense models). product stands for every quantisable matrix,
    cache rounds cached rows. absorbed: MLA in the absorbed form, with this product for the halves of kv_b (it rounds activations elsewhere)."""
    full = {n: x.astype(np.float64, copy=False) for n, x in weights.items()}
    attention = (lambda *a: mla(*a, absorbed)) if c["model_type"].startswith("deepseek") else gqa
    x = full["model.embed_tokens.weight"][np.asarray(ids)]
    margins = np.full(len(ids), np.inf)
    for layer in range(c["num_hidden_layers"]):
        w = lambda name, default=None: full.get(f"model.layers.{layer}.{name}", default)
        x = x + attention(c, w, rms_norm(x, w("input_layernorm.weight"), c["rms_norm_eps"]), product, cache)
        m = rms_norm(x, w("post_attention_layernorm.weight"), c["rms_norm_eps"])
        if is_moe(c, layer):
            y, margin = moe(c, w, m, product)
            margins = np.minimum(margins, margin)
        else:
            y = swiglu(w, "mlp.", m, product)
        x = x + y
    head = full["model.embed_tokens.weight"] if c.get("tie_word_embeddings") else full["lm_head.weight"]
    return product(rms_norm(x, full["model.norm.weight"], c["rms_norm_eps"]), head), margins
