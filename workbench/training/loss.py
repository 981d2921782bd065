"""The loss without ever holding all logits: only for trained tokens, a few rows of the vocabulary at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workbench.data import IGNORED
from workbench.model import Transformer
from workbench.numerics.products import product, suits
from workbench.training.shapes import rounded

CHUNK_ELEMENTS = 2**23
"""Logits held at once: 32 MiB in float32. Larger chunks were not faster."""
_CACHED = 2**21
"""As many stay in a CPU's cache from one step of the softmax to the next, which counts once the products are fast."""
_FEWEST = 128
"""Fewer rows make the products slow."""


def trained_rows(targets: Tensor) -> tuple[Tensor, Tensor]:
    """targets [B, T], IGNORED where nothing is predicted -> (rows, ids): which of the flattened [B·T] hidden states predict
    something, and what."""
    flat = targets.flatten()
    rows = (flat != IGNORED).nonzero().flatten()
    return rows, flat[rows]


def summed_loss(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """Σ −log p over the targets [B, T], float32 scalar, differentiable; the hidden state at t predicts `targets[:, t]`.
    hidden [B, T, C] as `model.hidden` returns it."""
    rows, wanted = trained_rows(targets)
    states = hidden.flatten(0, 1)
    return head_loss(model, states if len(rows) == len(states) else states.index_select(0, rows), wanted)


def head_loss(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """Σ −log p of targets [N] given hidden [N, C]: fused for a plain output matrix, recomputed chunk by chunk otherwise."""
    head: Any = model.lm_head
    plain = model.config.logit_softcap is None and isinstance(head, nn.Linear) and head.bias is None
    if plain:
        return fused_cross_entropy(model.head_transform(hidden), head.weight, targets)
    size = max(1, CHUNK_ELEMENTS // model.config.vocab_size)
    parts = [
        checkpoint(_chunk_loss, model, h, y, use_reentrant=False)
        for h, y in zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    ]  # fmt: skip
    return torch.stack(parts).sum() if parts else hidden.sum() * 0.0


def _chunk_loss(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum")


def fused_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Float32 scalar; see `FusedCrossEntropy`."""
    loss: Tensor = FusedCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


class FusedCrossEntropy(torch.autograd.Function):
    """Σ −log softmax(h Wᵀ)[target] whose gradient is made in the forward pass, chunk by chunk, while the logits are there.

    hidden [N, C], weight [V, C], targets int64 [N]. Softmax and sums are float32 whatever the products' dtype.
    A frozen weight gets no gradient and costs none.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        fast = suits(hidden, weight)
        elements = min(CHUNK_ELEMENTS, max(_CACHED, _FEWEST * weight.shape[0])) if fast else CHUNK_ELEMENTS
        count, size = hidden.shape[0], max(8, elements // weight.shape[0] // 8 * 8)
        last = min(size, rounded(count % size))
        room = (count // size) * size + last
        grad_hidden = hidden.new_empty(room, hidden.shape[1], dtype=dtype) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        with torch.autocast(kind, enabled=False):
            matrix = weight.to(dtype)
            # Two buffers for all chunks: fresh ones of this size cost more in page faults than the arithmetic does.
            narrow = torch.empty(0 if fast else min(size, room), weight.shape[0], dtype=dtype, device=hidden.device)
            wide = narrow if dtype == torch.float32 else torch.empty_like(narrow, dtype=torch.float32)
            for start in range(0, room, size):
                rows, wanted = hidden[start : start + size].to(dtype), targets[start : start + size, None]
                real, end = rows.shape[0], min(start + size, room)
                rows = F.pad(rows, (0, 0, 0, end - start - real))  # see `shapes`
                if fast:  # small enough to come out of memory that was just given back
                    products = product(rows, matrix)
                    logits = products[:real]
                else:
                    products, logits = torch.mm(rows, matrix.t(), out=narrow[: end - start]), wide[:real]
                    logits.copy_(products[:real])
                top, right = logits.amax(1, keepdim=True), logits.gather(1, wanted)
                mass = logits.sub_(top).exp_().sum(1, keepdim=True)
                total += (top + mass.log() - right).sum()
                if not (wants_hidden or wants_weight):
                    continue
                products[:real].copy_(logits.div_(mass).scatter_add_(1, wanted, torch.full_like(mass, -1.0)))
                products[real:].zero_()
                if grad_hidden is not None:
                    grad_hidden[start:end] = product(products, matrix.t())
                if grad_weight is not None:
                    grad_weight += product(products.t(), rows.t())
        ctx.save_for_backward(None if grad_hidden is None else grad_hidden[:count], grad_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grads = [
            None if made is None else (made * gradient.to(made.dtype)).to(dtype)
            for made, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]  # fmt: skip
        return grads[0], grads[1], None
