"""One training step of the nano model by hand: forward, backward and optimizer without autograd, several times faster than model.py on a CPU.

Matrix products are PyTorch's, in BF16; what lies between them is train_kernels.c, compiled on first use. A token runs only its own two experts,
attention looks only at the document's own tokens, and the head only at positions whose loss counts. `step.py --check` compares every gradient with model.py.
"""
import ctypes
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

from model import rotary

HERE = os.path.dirname(os.path.abspath(__file__))


def kernels():
    """The functions of train_kernels.c; tensors become pointers, Python floats C floats."""
    folder = tempfile.mkdtemp()
    out = os.path.join(folder, "kernels.so")
    subprocess.run(["cc", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fPIC", "-shared", "-o", out,
                    os.path.join(HERE, "train_kernels.c"), "-lm"], check=True)
    library = ctypes.CDLL(out)

    class Calls:
        def __getattr__(self, name):
            function = getattr(library, name)
            function.restype = {"cross_entropy": ctypes.c_double, "momentum": ctypes.c_float}.get(name, ctypes.c_int)
            long_first = name in ("momentum", "apply", "adam")

            def call(*args):
                c = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_void_p(None) if a is None else
                     ctypes.c_float(a) if isinstance(a, float) else ctypes.c_int64(a) if long_first else ctypes.c_int(a) for a in args]
                return function(*c)
            setattr(self, name, call)
            return call
    return Calls()


K, BLOCK = kernels(), 128


def bf(*shape):
    return torch.zeros(shape, dtype=torch.bfloat16)


class Weight:
    """The BF16 copy of one or several matrices that are multiplied together, its gradient, and where each of them lies in it."""

    def __init__(self, params, names):
        first = params[names[0]]
        lead, self.parts = first.shape[:-2], []
        rows = sum(params[n].shape[-2] for n in names)
        self.small, self.grad = bf(*lead, rows, first.shape[-1]), bf(*lead, rows, first.shape[-1])
        at = 0
        for n in names:
            p = params[n]
            for e in range(lead[0] if lead else 1):
                piece = (lambda t, e=e, a=at, z=at + p.shape[-2]: t[e, a:z] if lead else t[a:z])
                self.parts.append((n, e if lead else None, piece(self.small), piece(self.grad)))
                piece(self.small).copy_(p[e] if lead else p)
            at += p.shape[-2]


class Layer:
    def __init__(self, c, params, i, tokens, length):
        p, h, heads, d, q = f"model.layers.{i}.", c["hidden_size"], c["num_attention_heads"], c["head_dim"], c["share_q_dim"]
        self.moe = i in {int(j) for j in c["moe_layers_enum"].split(",")}
        a = p + "self_attn."
        self.qkv = Weight(params, [a + "q_proj.weight", a + "k_proj.weight", a + "v_proj.weight"])
        self.wq, self.o = Weight(params, [a + "wq.weight"]), Weight(params, [a + "o_proj.weight"])
        ffn = p + ("share_expert" if self.moe else "mlp")
        self.gu = Weight(params, [ffn + ".gate_proj.weight", ffn + ".up_proj.weight"])
        self.down = Weight(params, [ffn + ".down_proj.weight"])
        self.weights = [self.qkv, self.wq, self.o, self.gu, self.down]
        self.names = {"norm": p + "input_layernorm.weight", "inner": a + "inter_norm.weight", "post": p + "post_attention_layernorm.weight"}
        wide = c["share_expert_dim"] if self.moe else c["intermediate_size"]
        self.x, self.x2 = torch.zeros(tokens, h), torch.zeros(tokens, h)
        self.inv, self.inv_a, self.inv2 = torch.zeros(tokens), torch.zeros(tokens), torch.zeros(tokens)
        self.h, self.h2, self.a, self.an = bf(tokens, h), bf(tokens, h), bf(tokens, q + 2 * d), bf(tokens, q)
        self.q, self.k, self.v = bf(tokens, heads * d), bf(tokens, d), bf(tokens, d)
        self.p, self.att = bf(tokens * heads * length), bf(tokens, heads * d)
        self.y, self.guo, self.z, self.yf = bf(tokens, h), bf(tokens, 2 * wide), bf(tokens, wide), bf(tokens, h)
        if self.moe:
            m = p + "moe."
            self.names["router"] = m + "gate.weight"
            self.egu = Weight(params, [m + "gate_proj.weight", m + "up_proj.weight"])
            self.edown = Weight(params, [m + "down_proj.weight"])
            self.weights += [self.egu, self.edown]
            n, w = c["moe_num_experts"], c["moe_intermediate_size"]
            slots = 2 * tokens + 64 * n
            self.chosen, self.slot = torch.zeros(tokens, 2, dtype=torch.int32), torch.zeros(tokens, 2, dtype=torch.int32)
            self.token, self.weight = torch.zeros(slots, dtype=torch.int64), torch.zeros(slots)
            self.starts = torch.zeros(n + 1, dtype=torch.int32)
            self.es, self.eguo, self.ez, self.ey = bf(slots, h), bf(slots, 2 * w), bf(slots, w), bf(slots, h)


class Step:
    """forward_backward() fills the gradients, optimize() moves the parameters; both in place on `params` (float32)."""

    def __init__(self, c, params, rows, length):
        self.c, self.params, self.length, self.tokens = c, params, length, rows * length
        h, heads, d, tokens = c["hidden_size"], c["num_attention_heads"], c["head_dim"], rows * length
        self.layers = [Layer(c, params, i, tokens, length) for i in range(c["num_hidden_layers"])]
        self.head = Weight(params, ["lm_head.weight"])
        self.cos, self.sin = (t.contiguous() for t in rotary(c, length))
        matrix = {part[0] for layer in self.layers for w in layer.weights for part in w.parts}
        self.grads = {n: torch.zeros_like(p) for n, p in params.items() if n not in matrix}
        self.x, self.inv, self.dx, self.dxb, self.h = torch.zeros(tokens, h), torch.zeros(tokens), torch.zeros(tokens, h), bf(tokens, h), bf(tokens, h)
        wide = max(2 * c["share_expert_dim"], 2 * c["intermediate_size"])
        slots = 2 * tokens + 64 * c["moe_num_experts"]
        self.b = {"dq": bf(tokens, heads * d), "dq2": bf(tokens, heads * d), "dk": bf(tokens, d), "da": bf(tokens, c["share_q_dim"] + 2 * d),
                  "dan": bf(tokens, c["share_q_dim"]), "dh": bf(tokens, h), "dz": bf(tokens * wide // 2), "dgu": bf(tokens * wide),
                  "dp": bf(BLOCK * heads * length), "do": bf(tokens, heads * d), "dv": bf(tokens, d), "dh_all": bf(tokens, h),
                  "es": bf(slots, h), "ez": bf(slots, c["moe_intermediate_size"]), "egu": bf(slots, 2 * c["moe_intermediate_size"]),
                  "ew": torch.zeros(slots), "dlogits": torch.zeros(tokens, c["moe_num_experts"])}
        groups = {}
        for layer in self.layers:
            for w in layer.weights:
                for name, e, small, grad in w.parts:
                    groups.setdefault(tuple(small.shape), []).append((name, e, small, grad))
        self.groups = [(parts, bf(len(parts), *shape)) for shape, parts in groups.items()]
        self.state = {"momentum": {n: torch.zeros_like(params[n]) for n in matrix},
                      "first": {n: torch.zeros_like(params[n]) for n in self.grads}, "second": {n: torch.zeros_like(params[n]) for n in self.grads}, "count": 0}
        self.average = {n: p.clone() for n, p in params.items()}

    def refresh(self):
        for w in [self.head] + [w for layer in self.layers for w in layer.weights]:
            for name, e, small, _ in w.parts:
                small.copy_(self.params[name] if e is None else self.params[name][e])

    def plan(self, first):
        """Blocks of BLOCK queries: first query, number, first key and end of keys (of the documents in it), place of its probabilities."""
        self.blocks, offset = [], 0
        for at in range(0, self.tokens, BLOCK):
            row = at // self.length * self.length
            n = min(BLOCK, row + self.length - at)
            begin = row + int(first[at]) // 32 * 32
            self.blocks.append((at, n, begin, at + n, offset))
            offset += n * self.c["num_attention_heads"] * (at + n - begin)

    def attention(self, w, x, first, y, slots, slot):
        """The layer's input is x + y + slots; leaves the attention's output in w.y."""
        c, p, tokens, length = self.c, self.params, self.tokens, self.length
        h, heads, d, q, eps = c["hidden_size"], c["num_attention_heads"], c["head_dim"], c["share_q_dim"], c["rms_norm_eps"]
        K.add_norm(tokens, h, w.x, x, y, slots, slot, p[w.names["norm"]], eps, w.h, w.inv)
        torch.mm(w.h, w.qkv.small.T, out=w.a)
        K.small_norm(tokens, q, q + 2 * d, w.a, p[w.names["inner"]], eps, w.an, w.inv_a)
        torch.mm(w.an, w.wq.small.T, out=w.q)
        K.rotate(tokens, length, heads, d, heads * d, heads * d, 1.0, w.q, w.q, self.cos, self.sin)
        K.rotate(tokens, length, 1, d, q + 2 * d, d, 1.0, w.a[:, q:], w.k, self.cos, self.sin)
        w.v.copy_(w.a[:, q + d:])
        q_all, o_all = w.q.view(-1, d), w.att.view(-1, d)
        for at, n, begin, stop, offset in self.blocks:
            some, keys = slice(at * heads, (at + n) * heads), slice(begin, stop)
            p = w.p[offset:offset + n * heads * (stop - begin)].view(n * heads, stop - begin)
            torch.mm(q_all[some], w.k[keys].T, out=p)
            K.softmax(n, stop - begin, heads, at % length, begin - at // length * length, d ** -0.5, first[at:], p)
            torch.mm(p, w.v[keys], out=o_all[some])
        torch.mm(w.att, w.o.small.T, out=w.y)

    def attention_back(self, w, first):
        """self.dxb holds the gradient of the output; adds that of the input to self.dx."""
        c, g, b, tokens, length = self.c, self.grads, self.b, self.tokens, self.length
        h, heads, d, q = c["hidden_size"], c["num_attention_heads"], c["head_dim"], c["share_q_dim"]
        torch.mm(self.dxb, w.o.small, out=b["do"])
        torch.mm(self.dxb.T, w.att, out=w.o.grad)
        q_all, do_all, dq_all, seen = w.q.view(-1, d), b["do"].view(-1, d), b["dq"].view(-1, d), -1
        for at, n, begin, stop, offset in self.blocks:
            some, keys, size = slice(at * heads, (at + n) * heads), slice(begin, stop), n * heads * (stop - begin)
            p, dp, do = w.p[offset:offset + size].view(n * heads, stop - begin), b["dp"][:size].view(n * heads, stop - begin), do_all[some]
            torch.mm(do, w.v[keys].T, out=dp)
            K.softmax_back(n, stop - begin, heads, at % length, begin - at // length * length, d ** -0.5, first[at:], p, dp)
            torch.mm(dp, w.k[keys], out=dq_all[some])
            dv, dk = b["dv"][keys], b["dk"][keys]
            known = max(0, seen - begin)  # rows that an earlier block has begun
            if known:
                more_v, more_k = torch.mm(p.T, do), torch.mm(dp.T, q_all[some])
                dv[:known] += more_v[:known]
                dk[:known] += more_k[:known]
                dv[known:], dk[known:] = more_v[known:], more_k[known:]
            else:
                torch.mm(p.T, do, out=dv)
                torch.mm(dp.T, q_all[some], out=dk)
            seen = stop
        K.rotate(tokens, length, heads, d, heads * d, heads * d, -1.0, b["dq"], b["dq"], self.cos, self.sin)
        K.rotate(tokens, length, 1, d, d, q + 2 * d, -1.0, b["dk"], b["da"][:, q:], self.cos, self.sin)
        b["da"][:, q + d:].copy_(b["dv"])
        torch.mm(b["dq"], w.wq.small, out=b["dan"])
        torch.mm(b["dq"].T, w.an, out=w.wq.grad)
        K.small_norm_back(tokens, q, q + 2 * d, w.a, w.inv_a, self.params[w.names["inner"]], b["dan"], b["da"], g[w.names["inner"]])
        torch.mm(b["da"], w.qkv.small, out=b["dh"])
        torch.mm(b["da"].T, w.h, out=w.qkv.grad)
        K.norm_back(tokens, h, w.x, w.inv, self.params[w.names["norm"]], b["dh"], None, None, None, self.dx, g[w.names["norm"]], self.dxb)

    def ffn(self, w):
        c, p, tokens = self.c, self.params, self.tokens
        K.add_norm(tokens, c["hidden_size"], w.x2, w.x, w.y, None, None, p[w.names["post"]], c["rms_norm_eps"], w.h2, w.inv2)
        torch.mm(w.h2, w.gu.small.T, out=w.guo)
        K.swiglu(tokens, w.z.shape[1], w.guo, None, w.z)
        torch.mm(w.z, w.down.small.T, out=w.yf)
        if not w.moe:
            return
        w.prob = F.linear(w.h2.float(), p[w.names["router"]]).softmax(-1)
        n = K.route(tokens, c["moe_num_experts"], w.prob, w.chosen, w.slot, w.token, w.weight, w.starts)
        w.bounds = w.starts.tolist()
        torch.index_select(w.h2, 0, w.token[:n], out=w.es[:n])
        for e, (s, z) in enumerate(zip(w.bounds, w.bounds[1:])):
            if z > s:
                torch.mm(w.es[s:z], w.egu.small[e].T, out=w.eguo[s:z])
        K.swiglu(n, c["moe_intermediate_size"], w.eguo, w.weight, w.ez)
        for e, (s, z) in enumerate(zip(w.bounds, w.bounds[1:])):
            if z > s:
                torch.mm(w.ez[s:z], w.edown.small[e].T, out=w.ey[s:z])

    def ffn_back(self, w, balance):
        c, g, b, tokens, wide = self.c, self.grads, self.b, self.tokens, w.z.shape[1]
        dz, dgu = b["dz"][:tokens * wide].view(tokens, wide), b["dgu"][:2 * tokens * wide].view(tokens, 2 * wide)
        torch.mm(self.dxb, w.down.small, out=dz)
        torch.mm(self.dxb.T, w.z, out=w.down.grad)
        K.swiglu_back(tokens, wide, w.guo, None, dz, dgu, None)
        torch.mm(dgu, w.gu.small, out=b["dh"])
        torch.mm(dgu.T, w.h2, out=w.gu.grad)
        slots = slot = more = None
        if w.moe:
            n, experts = w.bounds[-1], list(enumerate(zip(w.bounds, w.bounds[1:])))
            torch.index_select(self.dxb, 0, w.token[:n], out=b["es"][:n])
            for e, (s, z) in experts:
                if z > s:
                    torch.mm(b["es"][s:z], w.edown.small[e], out=b["ez"][s:z])
                    torch.mm(b["es"][s:z].T, w.ez[s:z], out=w.edown.grad[e])
                else:
                    w.edown.grad[e].zero_()
            K.swiglu_back(n, c["moe_intermediate_size"], w.eguo, w.weight, b["ez"], b["egu"], b["ew"])
            for e, (s, z) in experts:
                if z > s:
                    torch.mm(b["egu"][s:z], w.egu.small[e], out=b["es"][s:z])
                    torch.mm(b["egu"][s:z].T, w.es[s:z], out=w.egu.grad[e])
                else:
                    w.egu.grad[e].zero_()
            K.route_back(tokens, c["moe_num_experts"], w.prob, w.chosen, w.slot, b["ew"], balance, b["dlogits"])
            slots, slot, more = b["es"], w.slot, b["dlogits"] @ self.params[w.names["router"]]
            torch.mm(b["dlogits"].T, w.h2.float(), out=g[w.names["router"]])
        K.norm_back(tokens, c["hidden_size"], w.x2, w.inv2, self.params[w.names["post"]], b["dh"], slots, slot, more, self.dx, g[w.names["post"]], self.dxb)

    @torch.no_grad()
    def forward_backward(self, ids, targets, weights, first, balance=0.01):
        """ids, targets (int64), weights and first (int32: where in its row the token's document begins), all [tokens]. Returns the loss and the share of
        positions of full weight that are right."""
        c, p, g, tokens, h = self.c, self.params, self.grads, self.tokens, self.c["hidden_size"]
        for t in g.values():
            t.zero_()
        self.plan(first)
        K.embed(tokens, h, ids, p["model.embed_tokens.weight"], self.x)
        x, y, slots, slot = self.x, None, None, None
        for w in self.layers:
            self.attention(w, x, first, y, slots, slot)
            self.ffn(w)
            x, y, slots, slot = w.x2, w.yf, (w.ey if w.moe else None), (w.slot if w.moe else None)
        K.add_norm(tokens, h, self.x, x, y, slots, slot, p["model.norm.weight"], c["rms_norm_eps"], self.h, self.inv)
        at = weights.nonzero().squeeze(1)
        part, some = self.h[at], weights[at]
        logits = part @ self.head.small.T
        right = torch.zeros(len(at), dtype=torch.int32)
        loss = K.cross_entropy(len(at), c["vocab_size"], logits, targets[at], some / some.sum(), right)
        dh = torch.zeros_like(self.h)
        dh[at] = logits @ self.head.small
        torch.mm(logits.T, part, out=self.head.grad)
        g["lm_head.weight"].copy_(self.head.grad)
        self.dx.zero_()
        K.norm_back(tokens, h, self.x, self.inv, p["model.norm.weight"], dh, None, None, None, self.dx, g["model.norm.weight"], self.dxb)
        for w in reversed(self.layers):
            self.ffn_back(w, balance)
            self.attention_back(w, first)
        K.embed_back(tokens, h, ids, self.dx, g["model.embed_tokens.weight"])
        full = some >= 3
        return loss, float(right[full].float().mean()) if full.any() else 1.0

    @torch.no_grad()
    def optimize(self, muon_rate, adam_rate, decay, keep):
        """Muon (momentum orthogonalised by Newton-Schulz) for the matrices, Adam for the rest; keep: of the running average."""
        state = self.state
        state["count"] += 1
        t = state["count"]
        for parts, stack in self.groups:
            for j, (name, e, _, grad) in enumerate(parts):
                m = state["momentum"][name] if e is None else state["momentum"][name][e]
                K.momentum(grad.numel(), grad, m, stack[j])
            update = newton_schulz(stack)
            rate = muon_rate * max(1.0, stack.shape[1] / stack.shape[2]) ** 0.5
            for j, (name, e, small, _) in enumerate(parts):
                p, a = (x[name] if e is None else x[name][e] for x in (self.params, self.average))
                K.apply(p.numel(), update[j], 1.0 - muon_rate * decay, rate, keep, p, a, small)
        for n, grad in self.grads.items():
            small = self.head.small if n == "lm_head.weight" else bf(grad.numel())
            K.adam(grad.numel(), grad, adam_rate, 1 / (1 - 0.9 ** t), 1 / (1 - 0.98 ** t), keep, state["first"][n], state["second"][n], self.params[n],
                   self.average[n], small)


def newton_schulz(g):
    """The nearest semi-orthogonal matrices of g [n, rows, columns], roughly (quintic iteration)."""
    turned = g.shape[1] > g.shape[2]
    x = g.mT.contiguous() if turned else g
    x = x / (x.flatten(1).float().norm(dim=1).view(-1, 1, 1) + 1e-12).bfloat16()
    for _ in range(5):
        s = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT.contiguous() if turned else x


def check():
    """Gradients against autograd in float32, on a batch of real documents and random weights."""
    from tokenizers import Tokenizer
    import train
    from model import CONFIG, Model, initial
    rows, length = 4, 128
    ids, targets, weights, first = train.batch(Tokenizer.from_file(os.path.join(HERE, "tokenizer.json")), 3, 0, rows, length)
    params = initial(CONFIG, 5)
    step = Step(CONFIG, {n: p.clone() for n, p in params.items()}, rows, length)
    loss, _ = step.forward_backward(ids.flatten(), targets.flatten(), weights.flatten(), first.flatten())
    for p in params.values():
        p.requires_grad_(True)
    place = torch.arange(length, dtype=torch.int32)
    mask = (place[None, None, :] >= first[:, :, None]) & (place[None, None, :] <= place[None, :, None])
    logits, balance = Model(CONFIG, params).forward(ids, mask[:, None])
    w = weights.flatten()
    wanted = (F.cross_entropy(logits, targets.flatten(), reduction="none") * w).sum() / w.sum()
    (wanted + 0.01 * balance).backward()
    grads, worst = dict(step.grads), 1.0
    for part in (part for layer in step.layers for one in layer.weights for part in one.parts):
        grads.setdefault(part[0], []).append(part[3])
    for n, p in params.items():
        mine = torch.stack([x.float() for x in grads[n]]).view_as(p) if isinstance(grads[n], list) else grads[n]
        same = F.cosine_similarity(mine.flatten(), p.grad.flatten(), dim=0).item()
        ratio = (mine.norm() / p.grad.norm()).item()
        worst = min(worst, same)
        if "-v" in sys.argv or same < 0.98 or abs(ratio - 1) > 0.03:
            print(f"{n:50} cosine {same:.5f} size {ratio:.4f}")
    print(f"loss {loss:.5f}, by autograd in float32 {wanted.item():.5f}; least cosine of a gradient {worst:.5f}")
    return worst > 0.97


if __name__ == "__main__":
    sys.exit(0 if check() else 1)
