"""Step-3's text model in float64, from its equations: multi-matrix factorisation attention (one shared K and V head, low-rank query) and a mixture of experts.

    h = RMSNorm(x, input_layernorm)
    a = RMSNorm(q_proj h, inter_norm);  Q = wq a, heads x head_dim;  k = k_proj h;  v = v_proj h
    RoPE on every head of Q and on k: pairs (i, i + head_dim/2), frequency theta^(-2i/head_dim)
    o_h = sum over t <= p of softmax(Q_h . k_t / sqrt(head_dim)) v_t
    x += o_proj concat(o);  m = RMSNorm(x, post_attention_layernorm)
    dense layer: x += down(silu(gate m) * up m)
    MoE layer:   x += share_expert(m) + sum over the moe_top_k largest p_e of p_e * expert_e(m), p = softmax(moe.gate m) over all experts, NOT renormalised
    logits = lm_head RMSNorm(x, norm)

Source: the published model, see docs/models.md. Nothing here is shared with numpy_reference.py, so that a misunderstanding cannot hide in common code.
"""
import numpy as np


def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


def rotate(x, theta):
    """x [tokens, ..., dim]: token t stands at position t."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[0])[:, None] * theta ** (-2.0 * np.arange(half) / x.shape[-1])
    angle = angle.reshape((x.shape[0],) + (1,) * (x.ndim - 2) + (half,))
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1)


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(c, w, h, product, cache):
    tokens, heads, dim = h.shape[0], c["num_attention_heads"], c["head_dim"]
    a = rms(product(h, w("self_attn.q_proj.weight")), w("self_attn.inter_norm.weight"), c["rms_norm_eps"])
    q = rotate(product(a, w("self_attn.wq.weight")).reshape(tokens, heads, dim), c["rope_theta"])
    k = cache(rotate(product(h, w("self_attn.k_proj.weight")), c["rope_theta"]))
    v = cache(product(h, w("self_attn.v_proj.weight")))
    s = np.einsum("phd,td->hpt", q, k) / np.sqrt(dim)
    s = np.where(np.tril(np.ones((tokens, tokens), dtype=bool)), s, -np.inf)
    o = np.einsum("hpt,td->phd", softmax(s), v)
    return product(o.reshape(tokens, heads * dim), w("self_attn.o_proj.weight"))


def swiglu(m, gate, up, down, product):
    g = product(m, gate)
    return product(g / (1.0 + np.exp(-g)) * product(m, up), down)


def experts(c, w, m, product):
    """(sum of the chosen experts, how far each row is from choosing others, as a difference of router logits)."""
    logits, k = m @ w("moe.gate.weight").T, c["moe_top_k"]
    p = softmax(logits)
    order = np.argsort(-p, axis=-1, kind="stable")
    out = np.zeros_like(m)
    for e in range(c["moe_num_experts"]):
        rows = np.nonzero((order[:, :k] == e).any(axis=-1))[0]
        if len(rows):
            y = swiglu(m[rows], w("moe.gate_proj.weight")[e], w("moe.up_proj.weight")[e], w("moe.down_proj.weight")[e], product)
            out[rows] += p[rows, e][:, None] * y
    ordered = np.take_along_axis(logits, order, axis=-1)
    return out, ordered[:, k - 1] - ordered[:, k] if k < p.shape[-1] else np.full(len(m), np.inf)


def forward(config, weights, ids, product=lambda x, w: x @ w.T, cache=lambda x: x):
    """logits float64 [tokens, vocab] and routing margins [tokens]. weights: as folder.weights_of gives them; product stands for
    every quantisable matrix, cache rounds cached rows."""
    c = config.get("text_config", config)
    full = {n: x.astype(np.float64, copy=False) for n, x in weights.items() if not n.startswith("vi")}
    moe = {int(x) for x in c["moe_layers_enum"].strip().split(",")}
    x = full["model.embed_tokens.weight"][np.asarray(ids)]
    margins = np.full(len(ids), np.inf)
    for layer in range(c["num_hidden_layers"]):
        w = lambda name: full[f"model.layers.{layer}.{name}"]
        x = x + attention(c, w, rms(x, w("input_layernorm.weight"), c["rms_norm_eps"]), product, cache)
        m = rms(x, w("post_attention_layernorm.weight"), c["rms_norm_eps"])
        if layer in moe:
            routed, margin = experts(c, w, m, product)
            margins = np.minimum(margins, margin)
            shared = swiglu(m, *(w(f"share_expert.{n}_proj.weight") for n in ("gate", "up", "down")), product)
            x = x + routed + shared
        else:
            x = x + swiglu(m, *(w(f"mlp.{n}_proj.weight") for n in ("gate", "up", "down")), product)
    return product(rms(x, full["model.norm.weight"], c["rms_norm_eps"]), full["lm_head.weight"]), margins
