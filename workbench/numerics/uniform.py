"""Runs of numbers as equally spaced steps of a few bits: a scale for each run, and with `minmax` the least number too; and products with
vectors that are stored so, straight from their codes.

Shapes: x [..., N], one run along the last axis; codes uint8 [..., N] below 2^bits; scale and low float16 [...]. Anything not a number
counts as 0; what float16 cannot hold is cut off, so that codes stay finite whatever comes.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics import kv_kernels

LARGEST = torch.finfo(torch.float16).max


def symmetric(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(codes, scale): x ≈ scale · (code − 2^(bits−1)). The number farthest from 0 gets the outermost code, of which there is one more
    on the negative side, so the scale takes the sign that puts it there (llama.cpp's q4_0)."""
    half = 2 ** (bits - 1)
    x = torch.nan_to_num(x.float(), nan=0.0)
    low, high = x.amin(-1), x.amax(-1)
    scale = (torch.where(high > -low, high, low) / -half).clamp(-LARGEST, LARGEST).half()
    steps = (x / _divisor(scale)).round_() + half
    return steps.clamp_(0, 2 * half - 1).to(torch.uint8), scale


def minmax(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, scale, low): x ≈ low + scale · code, from the least number of the run to the largest."""
    x = torch.nan_to_num(x.float(), nan=0.0).clamp_(-LARGEST, LARGEST)
    low = x.amin(-1).half()
    scale = ((x.amax(-1) - low.float()) / (2**bits - 1)).clamp_min(0.0).half()
    steps = ((x - low.float()[..., None]) / _divisor(scale)).round_()
    return steps.clamp_(0, 2**bits - 1).to(torch.uint8), scale, low


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale.float())[..., None]


def runs(width: int, most: int | None) -> int:
    """How many numbers a run has in vectors of `width`, a multiple of 8: the most, up to `most`, that divide it in whole eights."""
    sizes = range(8, min(width, most or width) + 1, 8)
    return max((size for size in sizes if width % size == 0), default=width)


@cache
def levels(bits: int, first: int, device: torch.device) -> Tensor:
    """What the codes stand for, times a scale: first, first + 1, …, [2^bits] float32. Shared: do not write to it."""
    return torch.arange(first, first + 2**bits, dtype=torch.float32, device=device)


# ---- vectors whose runs lie along the width: codes [B, G, T, N, bytes], scale and low [B, G, T, N] -----------------------------------


def scores(q: Tensor, codes: Tensor, scale: Tensor, low: Tensor | None, table: Tensor) -> Tensor:
    """q [B, G, R, W] float32 times every vector -> [B, G, R, T] float32; each run is a product of its own."""
    total: Tensor | None = None
    for i, row in enumerate(q.chunk(codes.shape[3], -1)):
        part = kv_kernels.scores(row, codes[..., i, :], scale[..., i], table)
        total = part if total is None else total.add_(part)
        if low is not None:
            total += row.sum(-1, keepdim=True) * low[..., i].float().unsqueeze(2)
    assert total is not None
    return total


def weighted_sum(p: Tensor, codes: Tensor, scale: Tensor, low: Tensor | None, table: Tensor, size: int) -> Tensor:
    """Σ p · vector: p [B, G, R, T] float32 -> [B, G, R, W] float32, of runs of `size` numbers."""
    parts = []
    for i in range(codes.shape[3]):
        part = kv_kernels.weighted_sum(p, codes[..., i, :], scale[..., i], table, size)
        parts.append(part if low is None else part + p @ low[..., i].float()[..., None])
    return torch.cat(parts, -1)


# ---- vectors whose runs lie along the tokens, one for each channel: codes [B, G, N, S, bytes], scale and low [B, G, N, D] ------------


def channel_scores(q: Tensor, codes: Tensor, scale: Tensor, low: Tensor, table: Tensor, wide: int) -> Tensor:
    """q [B, G, R, D] float32 times every vector -> [B, G, R, N · S] float32. A query is scaled once for each run, as the channels are."""
    count, size = codes.shape[2:4]
    turned = F.pad(q[:, :, None] * scale.float()[:, :, :, None], (0, wide - q.shape[-1]))  # [B, G, N, R, W]
    ones = scale.new_ones(1).expand(codes.shape[1], count, size)
    parts = [kv_kernels.scores(row, code, ones, table) for row, code in zip(turned, codes, strict=True)]  # each [G, N, R, S]
    shift = q @ low.float().transpose(-1, -2)  # [B, G, R, N]
    return (torch.stack(parts).transpose(2, 3) + shift[..., None]).flatten(3)


def channel_sum(p: Tensor, codes: Tensor, scale: Tensor, low: Tensor, table: Tensor, wide: int) -> Tensor:
    """Σ p · vector: p [B, G, R, N · S] float32 -> [B, G, R, D] float32."""
    count, size = codes.shape[2:4]
    apart = p.reshape(*p.shape[:3], count, size).transpose(2, 3)  # [B, G, N, R, S]
    ones = scale.new_ones(1).expand(codes.shape[1], count, size)
    parts = [kv_kernels.weighted_sum(row, code, ones, table, wide) for row, code in zip(apart, codes, strict=True)]  # each [G, N, R, W]
    sums = torch.stack(parts)[..., : scale.shape[-1]] * scale.float()[:, :, :, None]
    return (sums + apart.sum(-1, keepdim=True) * low.float()[:, :, :, None]).sum(2)
