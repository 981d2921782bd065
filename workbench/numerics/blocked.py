"""Causal attention in bfloat16 on a CPU, out of batched matrix products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128
"""Queries handled at once; a block looks at no key after its last query, so little above the diagonal is computed. 64 and 256
were slower at 256 and at 1024 tokens."""


FEWEST = 64
"""Fewer queries are too few for the CPU's matrix units to gain anything."""


def suits_blocks(q: Tensor) -> bool:
    """True where this beats torch's fused kernel (README, *Log*): bfloat16 on a CPU, whose units batched products use and that
    kernel hardly does. A training step of a 135M model takes 0.85 of the time, a prompt of 512 tokens 0.92, at the same
    distance from float32. In float32 the kernel wins."""
    return q.dtype == torch.bfloat16 and q.device.type == "cpu" and (q.shape[2] >= FEWEST or q.requires_grad)


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """q [B, H, T, D], k and v [B, G, T, D] -> [B, H, T, D]: causal softmax(scale · q kᵀ) v, grouped heads never repeated."""
    out: Tensor = BlockedAttention.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return out


class BlockedAttention(torch.autograd.Function):
    """The query heads of a group are rows of one product: N = B·G products of R·n rows, R = H/G, n queries a block.

    Saved are q, k and v only: keeping the weights (H·T²/2 values a layer) instead of computing them again gained 1 %.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        batch, heads, tokens, width = q.shape
        groups = k.shape[1]
        rows = (q * scale).reshape(batch * groups, heads // groups, tokens, width)
        keys, values = k.reshape(-1, tokens, width), v.reshape(-1, tokens, width)
        out = torch.empty_like(rows)
        for start in range(0, tokens, BLOCK):
            end = min(tokens, start + BLOCK)
            weights = _weights(rows, keys, start, end)
            out[:, :, start:end] = torch.bmm(weights, values[:, :end]).view(*rows.shape[:2], -1, width)
        ctx.save_for_backward(rows, keys, values)
        ctx.scale, ctx.shapes = scale, (q.shape, k.shape)
        return out.view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, keys, values = ctx.saved_tensors
        products, per_group, tokens, width = rows.shape
        gradient = gradient.reshape(rows.shape)
        grad_rows, grad_keys, grad_values = torch.empty_like(rows), torch.zeros_like(keys), torch.zeros_like(values)
        for start in range(0, tokens, BLOCK):
            end = min(tokens, start + BLOCK)
            weights = _weights(rows, keys, start, end)
            seen = gradient[:, :, start:end].reshape(products, -1, width)
            grad_values[:, :end].baddbmm_(weights.transpose(1, 2), seen)
            toward = torch.bmm(seen, values[:, :end].transpose(1, 2))
            scores = torch._softmax_backward_data(toward, weights, -1, weights.dtype)
            grad_rows[:, :, start:end] = torch.bmm(scores, keys[:, :end]).view(products, per_group, -1, width)
            grad_keys[:, :end].baddbmm_(scores.transpose(1, 2), rows[:, :, start:end].reshape(products, -1, width))
        q_shape, k_shape = ctx.shapes
        return grad_rows.mul_(ctx.scale).view(q_shape), grad_keys.view(k_shape), grad_values.view(k_shape), None


def _weights(rows: Tensor, keys: Tensor, start: int, end: int) -> Tensor:
    """Attention weights of queries start … end−1 over keys 0 … end−1: [N, R·n, end]."""
    count = end - start
    queries = rows[:, :, start:end].reshape(rows.shape[0], -1, rows.shape[-1])
    scores = torch.bmm(queries, keys[:, :end].transpose(1, 2)).view(rows.shape[0], -1, count, end)
    future = torch.full((count, count), -math.inf, dtype=scores.dtype, device=scores.device).triu_(1)
    scores[..., start:end] += future
    return torch.softmax(scores, -1).view(rows.shape[0], -1, end)
