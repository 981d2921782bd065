"""Attention with linear biases: far keys score lower."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.core.fields import setting
from workbench.parts.positions.base import POSITIONS, Position


@dataclass(frozen=True)
class AlibiOptions:
    divided: bool = setting(
        False, label="Divide by √head width", advanced=True, source="arXiv:2311.16867",
        equation="s = (q · k − m_h · (i − j)) / √D", used_by="Falcon-RW",
        help="Scales the bias together with the scores.",
    )  # fmt: skip
    rounded: bool = setting(
        False, label="Round to bfloat16", advanced=True, source="arXiv:2311.16867",
        used_by="Falcon-RW", help="Rounds slopes and biases to bfloat16; far distances lose precision.",
    )  # fmt: skip


def slopes(heads: int) -> list[float]:
    """One slope per head: 2^(−8h/H) for a power of two, else those of the next lower power P and every second of 2P's."""
    power = 2 ** math.floor(math.log2(heads))
    found = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    found += [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * (heads - power), 2)]
    return found


@POSITIONS.register(
    "alibi",
    label="ALiBi",
    options=AlibiOptions,
    source="arXiv:2108.12409",
    equation="score(i, j) ← score(i, j) − m_h · (i − j)",
    used_by="BLOOM, MPT, Falcon-RW",
    help="Lowers each score in proportion to the distance between query and key, with a different slope for each head.",
)
class AlibiPosition(Position):
    acts_in_attention = True
    has_weights = reads_width = False
    slopes: Tensor

    def __init__(
        self,
        heads: int,
        head_width: int = 1,
        divided: bool = False,
        rounded: bool = False,
        device: torch.device | str | None = None,
        **_sizes: Any,
    ) -> None:
        super().__init__()
        found = torch.tensor(slopes(heads), dtype=torch.float32, device=device)
        self.register_buffer("slopes", found, persistent=False)
        self.divisor = math.sqrt(head_width) if divided else 1.0
        self.rounded = rounded
        self.movable = not rounded  # rounded biases are those of absolute positions, which lose their last digits as they grow
        self.bias = self._bias

    def _bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """[B, T] and [B or 1, S] -> [B, H, T, S], float32."""
        if self.rounded:  # of absolute key positions, which the softmax cannot tell from distances but rounding can
            keys = key_positions.clamp(min=0)[:, None, None, :].to(torch.bfloat16)
            biases = (self.slopes.to(torch.bfloat16)[:, None, None] * keys).float()
            return biases.expand(query_positions.shape[0], -1, query_positions.shape[1], -1) / self.divisor
        distance = (key_positions[:, None, :] - query_positions[:, :, None]).abs().neg()
        return distance[:, None] * (self.slopes / self.divisor)[:, None, None]
