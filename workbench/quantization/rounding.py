"""From numbers to codes: groups, scales that never come out too small, rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.numerics.low_bit import padded


def groups_of(weight: Tensor, size: int) -> Tensor:
    """weight [N, K], padded with zeros, as groups [N, G, size]."""
    groups = -(-weight.shape[1] // size)
    return padded(weight, groups * size).reshape(len(weight), groups, size)


def scales_up(scales: Tensor) -> Tensor:
    """float32 scales ≥ 0 as bfloat16, rounded up: the largest weight of a group then has a code, and none is off by more than half
    a step."""
    bits = scales.contiguous().view(torch.int32)
    return ((bits + 0xFFFF) >> 16).to(torch.int16).view(torch.bfloat16)


def lows_down(lows: Tensor) -> Tensor:
    """float32 numbers as bfloat16, rounded towards −∞."""
    near = lows.to(torch.bfloat16)
    bits = lows.contiguous().view(torch.int32)
    away = ((bits + 0xFFFF) >> 16).to(torch.int16).view(torch.bfloat16)  # of a negative number: the next one further from zero
    cut = (bits >> 16).to(torch.int16).view(torch.bfloat16)  # of a positive one: the next one nearer to it
    return torch.where(lows < 0, away, torch.where(lows > 0, cut, near))


def to_codes(scaled: Tensor, largest: int, least: int | None = None) -> Tensor:
    """Rounded to the nearest whole number, ties to even, within ± largest."""
    return scaled.round().clamp_(-largest if least is None else least, largest)
