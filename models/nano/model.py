"""The Step-3 text architecture in PyTorch, for training and for scoring; never used when the model runs in Tandem.

Per layer: low-rank queries (q_proj, RMSNorm, wq) over one shared key/value head, NeoX rotary embedding over the whole head,
then a dense SwiGLU (layer 0) or a mixture: softmax over all experts in float32, the top-k weights as they are (not renormalised),
and an unscaled shared expert. Tensor names and shapes are those of published Step-3 checkpoints.
"""
import torch
import torch.nn.functional as F

CONFIG = {
    "architectures": ["Step3TextForCausalLM"], "model_type": "step3_text", "torch_dtype": "bfloat16",
    "vocab_size": 1024, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_attention_groups": 1, "head_dim": 64, "share_q_dim": 128, "moe_num_experts": 8, "moe_top_k": 2,
    "moe_intermediate_size": 128, "share_expert_dim": 128, "moe_layers_enum": "1,2,3,4,5", "norm_expert_weight": False,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": None, "max_position_embedding": 2048, "max_seq_len": 2048,
    "tie_word_embeddings": False, "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": [1, 4], "pad_token_id": 2,
}


def shapes(c):
    """name -> shape of every tensor of a configuration."""
    h, d, heads, q = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["share_q_dim"]
    moe = {int(i) for i in c["moe_layers_enum"].split(",")}
    out = {"model.embed_tokens.weight": (c["vocab_size"], h), "model.norm.weight": (h,), "lm_head.weight": (c["vocab_size"], h)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (h,), p + "post_attention_layernorm.weight": (h,),
                p + "self_attn.q_proj.weight": (q, h), p + "self_attn.k_proj.weight": (d, h), p + "self_attn.v_proj.weight": (d, h),
                p + "self_attn.inter_norm.weight": (q,), p + "self_attn.wq.weight": (heads * d, q),
                p + "self_attn.o_proj.weight": (h, heads * d)}

        def swiglu(name, width, *lead):
            return {f"{p}{name}.gate_proj.weight": (*lead, width, h), f"{p}{name}.up_proj.weight": (*lead, width, h),
                    f"{p}{name}.down_proj.weight": (*lead, h, width)}
        if i in moe:
            out[p + "moe.gate.weight"] = (c["moe_num_experts"], h)
            out |= swiglu("moe", c["moe_intermediate_size"], c["moe_num_experts"])
            out |= swiglu("share_expert", c["share_expert_dim"])
        else:
            out |= swiglu("mlp", c["intermediate_size"])
    return out


def initial(c, seed=0):
    """Random float32 parameters: norms 1, embeddings of size 1 (smaller ones drown in the outputs of the first layers, and then
    no later layer can tell which name it is looking at), residual outputs smaller, the rest scaled by the input width."""
    g = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in shapes(c).items():
        if len(shape) == 1:
            params[name] = torch.ones(shape)
            continue
        std = 1.0 if "embed" in name else 0.02 if "lm_head" in name else shape[-1] ** -0.5 * 0.7
        if "o_proj" in name or "down_proj" in name:
            std *= (2 * c["num_hidden_layers"]) ** -0.5
        params[name] = torch.randn(shape, generator=g) * std
    return params


def rms_norm(x, w, eps):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def rotary(c, length):
    d = c["head_dim"]
    angle = torch.arange(length).float()[:, None] * (c["rope_theta"] ** (-torch.arange(0, d, 2).float() / d))
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Model:
    """Parameters in float32; matrix products in `dtype`. forward() takes tokens [rows, length] and a boolean mask
    [rows, 1, length, length] (None: causal); it returns logits [rows * length, vocabulary] in float32 and the load-balance loss of the mixture layers."""

    def __init__(self, c, params, dtype=torch.float32):
        self.c, self.params, self.dtype = c, params, dtype

    def linear(self, x, name):
        return F.linear(x.to(self.dtype), self.params[name].to(self.dtype))

    def swiglu(self, x, name):
        return self.linear(F.silu(self.linear(x, name + ".gate_proj.weight")) * self.linear(x, name + ".up_proj.weight"),
                           name + ".down_proj.weight")

    def attention(self, x, p, cos, sin, mask):
        c, (rows, length, _) = self.c, x.shape
        heads, d = c["num_attention_heads"], c["head_dim"]
        a = rms_norm(self.linear(x, p + "q_proj.weight"), self.params[p + "inter_norm.weight"], c["rms_norm_eps"])
        q = self.linear(a, p + "wq.weight").view(rows, length, heads, d).transpose(1, 2)
        k = self.linear(x, p + "k_proj.weight").unsqueeze(1)
        v = self.linear(x, p + "v_proj.weight").unsqueeze(1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        shape = (rows, heads, length, d)
        o = F.scaled_dot_product_attention(q, k.expand(shape), v.expand(shape), attn_mask=mask, is_causal=mask is None)
        return self.linear(o.transpose(1, 2).reshape(rows, length, heads * d), p + "o_proj.weight")

    def mixture(self, x, p):
        """x [tokens, hidden]. All experts run on all tokens as one wide SwiGLU whose columns are weighted by the router (zero
        where an expert was not chosen): the same sum as sending each token to its experts, and faster at this size."""
        c = self.c
        experts, width, hidden = self.params[p + "gate_proj.weight"].shape
        prob = F.linear(x.float(), self.params[p + "gate.weight"]).softmax(-1)
        weight, chosen = prob.topk(c["moe_top_k"], -1)
        picked = F.one_hot(chosen, experts).float()
        weights = (picked * weight[..., None]).sum(1)
        x = x.to(self.dtype)
        gate = F.linear(x, self.params[p + "gate_proj.weight"].reshape(-1, hidden).to(self.dtype))
        up = F.linear(x, self.params[p + "up_proj.weight"].reshape(-1, hidden).to(self.dtype))
        inner = ((F.silu(gate) * up).view(-1, experts, width) * weights[..., None].to(self.dtype)).view(-1, experts * width)
        down = self.params[p + "down_proj.weight"].transpose(0, 1).reshape(hidden, -1).to(self.dtype)
        share = picked.sum(1).mean(0) / c["moe_top_k"]
        return F.linear(inner, down).float(), experts * (share * prob.mean(0)).sum()

    def forward(self, tokens, mask=None):
        c, eps = self.c, self.c["rms_norm_eps"]
        moe = {int(i) for i in c["moe_layers_enum"].split(",")}
        x = F.embedding(tokens, self.params["model.embed_tokens.weight"])
        cos, sin = (t.to(self.dtype) for t in rotary(c, tokens.shape[1]))
        balance = 0.0
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = rms_norm(x, self.params[p + "input_layernorm.weight"], eps)
            x = x + self.attention(h.to(self.dtype), p + "self_attn.", cos, sin, mask)
            m = rms_norm(x, self.params[p + "post_attention_layernorm.weight"], eps)
            if i in moe:
                routed, loss = self.mixture(m.flatten(0, 1), p + "moe.")
                x = x + self.swiglu(m, p + "share_expert") + routed.view_as(x)
                balance = balance + loss
            else:
                x = x + self.swiglu(m, p + "mlp")
        x = x.flatten(0, 1)
        return self.linear(rms_norm(x, self.params["model.norm.weight"], eps), "lm_head.weight").float(), balance
