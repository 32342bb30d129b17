"""The logits that a folder must give: one door to the references, and the choice of prompts on which rounding cannot flip an expert."""
import numpy as np

import folder
import numpy_reference
import step3_reference


def forward(config, weights, ids, **more):
    kind = config["model_type"]
    return (step3_reference if kind.startswith("step3") else numpy_reference).forward(config, weights, ids, **more)


def own_logits(path, ids):
    return forward(*folder.weights_of(path), ids)[0]


def transformers_logits(path, ids):
    """float32 on the CPU with plain attention, weights multiplied out to float32."""
    import torch

    import make_models

    with torch.no_grad():
        return make_models.load_transformers(path)(torch.tensor([list(map(int, ids))])).logits[0].numpy().astype(np.float64)


def best_logits(path, ids):
    """Step-3 exists in no library: the float64 implementation. All others: transformers."""
    kind = folder.read_folder(path)[0]["model_type"]
    return own_logits(path, ids) if kind.startswith("step3") else transformers_logits(path, ids)


def relative(got, want):
    """Largest difference over the largest logit."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def choose_ids(config, weights, count, margin, seed):
    """count token ids such that every position stays `margin` (of a router logit) away from choosing other experts. A token is redrawn until it does."""
    rng = np.random.default_rng([seed, count])
    weights = {n: x.astype(np.float64) for n, x in weights.items()}
    vocab = config.get("text_config", config)["vocab_size"]
    ids = rng.integers(0, vocab, size=count)
    for _ in range(200 * count):
        close = np.nonzero(forward(config, weights, ids)[1] < margin)[0]
        if not len(close):
            return [int(i) for i in ids]
        ids[close[0]] = rng.integers(0, vocab)  # earlier positions do not see it; later ones are judged again
    raise RuntimeError(f"no prompt of {count} tokens with margin {margin} found")


def exact_product(x, w):
    return x @ w.T


def rounding_product(wide):
    """A product whose activations are first rounded to 8 bits as integer kernels do: per 256 elements for k-quants (wide) where the row divides into such blocks, else
    per 32; rows that do not divide by 32 are not quantised (their matrices stay BF16)."""
    def product(x, w):
        width = x.shape[-1]
        block = 256 if wide and width % 256 == 0 else 32
        if width % block:
            return x @ w.T
        b = x.reshape(len(x), -1, block)
        d = np.abs(b).max(axis=-1, keepdims=True) / 127.0
        return (np.round(b / np.where(d > 0, d, 1.0)) * d).reshape(len(x), -1) @ w.T
    return product


class Typed(np.ndarray):
    """A matrix that knows how its file stored it; so do its slices and its transpose."""

    kind = None

    def __array_finalize__(self, source):
        self.kind = getattr(source, "kind", None)


def typed(x, kind):
    x = np.asarray(x, np.float64).view(Typed)
    x.kind = kind
    return x


def product_by(kind_of):
    """As rounding_product, but only before matrices that kind_of(w) says are Q8_0 or Q4_0."""
    rounded = rounding_product(False)

    def product(x, w):
        return (rounded if kind_of(w) in ("Q8_0", "Q4_0") else exact_product)(np.asarray(x), np.asarray(w))
    return product


def rounding_cache(kind):
    """Cached rows as the cache stores them: bf16, or q8_0 (blocks of 32 with an F16 scale)."""
    def bf16(x):
        return folder.from_bf16(folder.to_bf16(x.astype(np.float32))).astype(np.float64)

    def q8_0(x):
        b = x.reshape(*x.shape[:-1], -1, 32)
        d = (np.abs(b).max(axis=-1, keepdims=True) / 127.0).astype(np.float32)
        q = np.round(b / np.where(d > 0, d, 1.0))
        return (q * d.astype(np.float16).astype(np.float64)).reshape(x.shape)
    return {"bf16": bf16, "q8_0": q8_0}[kind]
