"""Training a tiny GPT from scratch (4 layers of 128, 32 × 128 tokens): ours beside a plain PyTorch script, tokens per second.

    python -m tests.benchmarks.pretrain [--repeats 15] [--threads 2] [--json]

Ours is `train`, the path of the window. The peer is written the way small public training scripts are: joint Q, K, V, the
fused attention kernel, `torch.stack` for batches, autocast for bfloat16, fused AdamW, clipping. A third candidate is our
own arithmetic written out by hand for this one architecture, trained by the same loop: what generality costs.
All run alternately in one process.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks.common import Seconds, interleave, report

LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 4, 128, 4, 128, 32


def our_config(vocabulary: int) -> Any:
    from workbench.model import ModelConfig

    return ModelConfig(
        vocab_size=vocabulary, n_layers=LAYERS, d_model=WIDTH, n_heads=HEADS, max_positions=CONTEXT, position="learned",
        norm={"kind": "layernorm", "bias": False}, mlp="gelu", tie_embeddings=True,
    )  # fmt: skip


def our_steps(model: Any, vocabulary: int, dtype: str, every: int | None = None) -> Iterator[float]:
    """Seconds from one step event to the next: batch, forward, backward, clipping, update, and the event itself."""
    import numpy as np

    from workbench.data import Dataset
    from workbench.training import StepEvent, TrainConfig, train

    rng = np.random.default_rng(0)
    data = Dataset.of([(rng.integers(0, vocabulary, CONTEXT + 1), [True] * (CONTEXT + 1)) for _ in range(1000)])
    config = TrainConfig(
        max_steps=1_000_000, per_device_train_batch_size=BATCH, max_length=CONTEXT, dtype=dtype, eval_steps=None, save_steps=None,
        weight_decay=0.1, probe_every=every,
    )  # fmt: skip
    events = train(model, data, config, adapter=None)
    while True:
        started = time.perf_counter()
        while not isinstance(next(events), StepEvent):
            pass
        yield time.perf_counter() - started


# ---- the peer ----------------------------------------------------------------------------------------------------------


def plain_model(vocabulary: int) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x: Any) -> Any:
            batch, tokens, width = x.shape
            q, k, v = (part.view(batch, tokens, HEADS, -1).transpose(1, 2) for part in self.qkv(self.first(x)).split(width, dim=2))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).contiguous().view(batch, tokens, width))
            return x + self.down(F.gelu(self.up(self.second(x))))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.last = nn.LayerNorm(WIDTH, bias=False)
            self.head = nn.Linear(WIDTH, vocabulary, bias=False)
            self.head.weight = self.tokens.weight
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, ids: Any, targets: Any) -> Any:
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            for layer in self.layers:
                x = layer(x)
            logits = self.head(self.last(x))
            return F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))

    return Plain()


def plain_steps(vocabulary: int, narrow: bool) -> Iterator[float]:
    import torch

    torch.manual_seed(0)
    model = plain_model(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    data = torch.randint(0, vocabulary, (129_000,))
    while True:
        started = time.perf_counter()
        places = torch.randint(len(data) - CONTEXT - 1, (BATCH,)).tolist()
        ids = torch.stack([data[i : i + CONTEXT] for i in places])
        targets = torch.stack([data[i + 1 : i + 1 + CONTEXT] for i in places])
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = model(ids, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        yield time.perf_counter() - started


# ---- the same arithmetic, by hand ----------------------------------------------------------------------------------------


def by_hand(model: Any) -> Any:
    """`model` with its blocks replaced by code for this one architecture and the same products: no kinds, no closures, no
    frame, no cache, no question whether something was replaced."""
    from torch import nn
    from torch.nn import functional as F

    from workbench.numerics.blocked import blocked_attention
    from workbench.numerics.products import fast_linear
    from workbench.parts.linear import _JointProduct

    class Hand(nn.Module):
        def __init__(self, block: Any) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Any, *_: Any) -> Any:
            narrow = torch.is_autocast_enabled("cpu")
            times = F.linear if narrow else fast_linear
            batch, tokens, width = x.shape
            a, m, r = self.block.attention, self.block.mlp, self.block.residual
            h = F.layer_norm(x, (width,), r.attention_norm.weight, None, 1e-5)
            joint = _JointProduct.apply(h, a.joint.weight, 3, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight)
            q, k, v = (part.view(batch, tokens, HEADS, -1).transpose(1, 2) for part in joint.split(width, -1))
            scale = (width // HEADS) ** -0.5
            mixed = blocked_attention(q, k, v, scale) if narrow else F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
            x = x + times(mixed.transpose(1, 2).reshape(batch, tokens, width), a.o_proj.weight, None)
            h = F.layer_norm(x, (width,), r.mlp_norm.weight, None, 1e-5)
            return x + times(F.gelu(times(h, m.up_proj.weight, None)), m.down_proj.weight, None)

    import torch

    for index, block in enumerate(model.blocks):
        model.blocks[index] = Hand(block)
    return model


def candidates(vocabulary: int, narrow: bool) -> dict[str, Iterator[float]]:
    from workbench.model import build_model

    dtype = "bfloat16" if narrow else "float32"
    make: Callable[[], Any] = lambda: build_model(our_config(vocabulary))  # noqa: E731
    return {
        "ours": our_steps(make(), vocabulary, dtype),
        "plain PyTorch": plain_steps(vocabulary, narrow),
        "ours, block by hand": our_steps(by_hand(make()), vocabulary, dtype),
    }


def probing(vocabulary: int, narrow: bool) -> dict[str, Iterator[float]]:
    """Rounds of ten steps, one of them with a look inside; and without."""
    from workbench.model import build_model

    def rounds(every: int | None) -> Iterator[float]:
        steps = our_steps(build_model(our_config(vocabulary)), vocabulary, "bfloat16" if narrow else "float32", every)
        while True:
            yield sum(next(steps) for _ in range(10)) / 10

    return {"ours, ten steps": rounds(None), "ours, ten steps, one probed": rounds(10)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    rows = []
    for vocabulary in (256, 4096):
        for narrow in (False, True):
            running = {**candidates(vocabulary, narrow), **(probing(vocabulary, narrow) if vocabulary == 256 else {})}
            work: dict[str, Seconds] = {name: (lambda steps=steps: next(steps)) for name, steps in running.items()}
            times = interleave(work, args.repeats)
            base = times["plain PyTorch"]["median"]
            rows += [
                {
                    "vocabulary": vocabulary, "precision": "bfloat16" if narrow else "float32", "engine": name,
                    "ms/step": 1000 * found["median"], "tokens/s": round(BATCH * CONTEXT / found["median"]),
                    "speed against plain": base / found["median"], "stolen": found["stolen"],
                }
                for name, found in times.items()
            ]  # fmt: skip
    report(f"{LAYERS} layers of {WIDTH}, {BATCH} × {CONTEXT} tokens, {args.threads} threads", rows, args.json)


if __name__ == "__main__":
    main()
