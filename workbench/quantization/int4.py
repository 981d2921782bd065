"""Weights as 4-bit whole numbers with a scale, and perhaps an offset, per small group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.fields import Option, Problem, pick, setting
from workbench.numerics.low_bit import MIDDLE, decoded4, packed4, product4
from workbench.parts.frozen import Planes
from workbench.quantization.base import SCHEMES, Plane, Scheme
from workbench.quantization.rounding import groups_of, lows_down, scales_up, to_codes

SYMMETRIC, MIN_MAX = "symmetric", "min-max"
RANGES = (
    Option(SYMMETRIC, "Symmetric", "Codes −7 … 7 around zero: one scale per group.", "s = max|W| / 7", "GGUF's Q4_0, GPTQ"),
    Option(MIN_MAX, "From least to largest", "Codes 0 … 15 between the group's extremes: a scale and an offset per group.",
           "W ≈ s · q + m", "GGUF's Q4_1, AWQ"),
)  # fmt: skip


@dataclass(frozen=True)
class Int4Options:
    group_size: int = setting(
        32, label="Group size", key="group_size", unit="inputs", minimum=8, maximum=1024, source="arXiv:2210.17323",
        used_by="GGUF (32), GPTQ and AWQ (128)",
        help="Inputs of one output that share a scale, an even number; 32 loses least, 128 takes half a bit less.",
    )  # fmt: skip
    range: str = pick(
        RANGES, MIN_MAX, label="Range", source="arXiv:2210.17323", help="What the sixteen codes of a group span.",
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        if self.group_size % 2 == 0:
            return []
        return [Problem("group_size", f"Groups of {self.group_size} cannot be packed two codes to a byte.", "Use an even number.")]


@SCHEMES.register(
    "int4",
    label="INT4, group-wise",
    options=Int4Options,
    source="arXiv:2210.17323",
    equation="W ≈ s · q + m  in each group of g inputs,  q ∈ [0, 15]",
    used_by="GGUF's Q4_0 and Q4_1, GPTQ, AWQ, QLoRA's base",
    help="Keeps each weight in half a byte beside the scales of small groups: an eighth of float32, at a cost in quality that shows.",
)
class Int4(Scheme):
    """Planes: `codes` uint8 [N, G · g / 2], `scales` bfloat16 [N, G], and for least-to-largest `lows` bfloat16 [N, G]."""

    def __init__(self, group_size: int = 32, range: str = MIN_MAX) -> None:
        self.group = group_size
        self.offset = range == MIN_MAX

    def layout(self, rows: int, width: int) -> Mapping[str, Plane]:
        groups = -(-width // self.group)
        planes = {
            "codes": Plane((rows, groups * self.group // 2), torch.uint8),
            "scales": Plane((rows, groups), torch.bfloat16),
        }
        return {**planes, "lows": Plane((rows, groups), torch.bfloat16)} if self.offset else planes

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        parts = groups_of(weight, self.group)
        if self.offset:
            inside = groups_of(torch.ones_like(weight[:1]), self.group) > 0  # the padding stretches no range
            least = torch.where(inside, parts, torch.inf).amin(-1)
            lows = lows_down(least)
            low = lows.float()
            scales = scales_up((torch.where(inside, parts, -torch.inf).amax(-1) - low) / 15)
            codes = to_codes((parts - low[:, :, None]) / _divisor(scales)[:, :, None], 15, 0)
            planes = {"scales": scales, "lows": lows}
        else:
            scales = scales_up(parts.abs().amax(-1) / 7)
            codes = to_codes(parts / _divisor(scales)[:, :, None], 7) + MIDDLE
            planes = {"scales": scales}
        flat = codes.to(torch.uint8).view(len(weight), -1)
        return {"codes": packed4(flat, scales.shape[1]), **planes}

    def decode(self, planes: Planes, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return decoded4(planes["codes"], planes["scales"], self._lows(planes), width, dtype)

    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        return product4(x, planes["codes"], planes["scales"], self._lows(planes))

    def steps(self, planes: Planes, width: int) -> Tensor:
        return planes["scales"].float().repeat_interleave(self.group, 1)[:, :width]

    def _lows(self, planes: Planes) -> Tensor:
        """What code 0 stands for: eight steps below zero where codes lie around it, exact in bfloat16."""
        return planes["lows"] if self.offset else planes["scales"] * -MIDDLE


def _divisor(scales: Tensor) -> Tensor:
    wide = scales.float()
    return torch.where(wide > 0, wide, 1.0)
