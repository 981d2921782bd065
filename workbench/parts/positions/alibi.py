"""Attention with linear biases: far keys score lower."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from workbench.parts.positions.base import POSITIONS, Position


def slopes(heads: int) -> list[float]:
    """One slope per head: 2^(−8h/H) for a power of two, else those of the next lower power P and every second of 2P's."""
    power = 2 ** math.floor(math.log2(heads))
    found = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    found += [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * (heads - power), 2)]
    return found


@POSITIONS.register(
    "alibi",
    label="ALiBi",
    source="arXiv:2108.12409",
    equation="score(i, j) ← score(i, j) − m_h · (i − j)",
    used_by="BLOOM, MPT, Falcon-RW",
    help="Lowers each score in proportion to the distance between query and key, with a different slope for each head.",
)
class AlibiPosition(Position):
    slopes: Tensor

    def __init__(self, heads: int, device: torch.device | str | None = None, **_sizes: Any) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes(heads), dtype=torch.float32, device=device), persistent=False)
        self.bias = self._bias

    def _bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """[B, T] and [B or 1, S] -> [B, H, T, S], float32."""
        distance = (key_positions[:, None, :] - query_positions[:, :, None]).abs().neg()
        return distance[:, None] * self.slopes[:, None, None]
