"""Weights as 8-bit whole numbers with one scale per row or group, activations in full precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.fields import setting
from workbench.numerics.low_bit import decoded8, dense, product8, product8_grouped
from workbench.parts.frozen import Planes
from workbench.quantization.base import SCHEMES, Plane, Scheme
from workbench.quantization.rounding import groups_of, scales_up, to_codes

LARGEST = 127


@dataclass(frozen=True)
class Int8Options:
    group_size: int | None = setting(
        None, label="Group size", key="group_size", unit="inputs", minimum=8, maximum=4096, none_label="a whole row",
        source="arXiv:2208.07339", used_by="GGUF's Q8_0 (32), one scale per row elsewhere",
        help="Inputs of one output that share a scale; smaller groups keep single large weights from coarsening the others.",
    )  # fmt: skip


@SCHEMES.register(
    "int8",
    label="INT8, weights only",
    options=Int8Options,
    source="arXiv:2208.07339",
    equation="W ≈ s · q,  q ∈ [−127, 127],  s = max|W| / 127;  y = (x qᵀ) · s",
    used_by="GGUF's Q8_0, torchao, GPTQ at 8 bits",
    help="Keeps each weight in one byte and multiplies activations in full precision: nearly nothing is lost, and a token reads a quarter.",
)
class Int8(Scheme):
    """Planes: `codes` int8 [N, K] and `scales` float32 [N]; with groups `codes` [N, G · g] and `scales` bfloat16 [N, G]."""

    def __init__(self, group_size: int | None = None) -> None:
        self.group = group_size

    def layout(self, rows: int, width: int) -> Mapping[str, Plane]:
        if self.group is None:
            return {"codes": Plane((rows, width), torch.int8), "scales": Plane((rows,), torch.float32)}
        groups = -(-width // self.group)
        return {"codes": Plane((rows, groups * self.group), torch.int8), "scales": Plane((rows, groups), torch.bfloat16)}

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        if self.group is None:
            scales = weight.abs().amax(-1) / LARGEST
            return {"codes": to_codes(weight / _divisor(scales)[:, None], LARGEST).to(torch.int8), "scales": scales}
        parts = groups_of(weight, self.group)
        scales = scales_up(parts.abs().amax(-1) / LARGEST)
        codes = to_codes(parts / _divisor(scales.float())[:, :, None], LARGEST).to(torch.int8)
        return {"codes": codes.view(len(weight), -1), "scales": scales}

    def decode(self, planes: Planes, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        codes, scales = planes["codes"], planes["scales"]
        if self.group is None:
            return codes.to(torch.float32).mul_(scales.float()[:, None]).to(dtype)
        return decoded8(codes, scales, width, dtype)

    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        return (product8 if self.group is None else product8_grouped)(x, planes["codes"], planes["scales"])

    def multiply_back(self, gradient: Tensor, planes: Planes, width: int) -> Tensor:
        if self.group is not None or gradient.dtype == torch.float16:  # whole numbers times gradients may leave float16's range
            return super().multiply_back(gradient, planes, width)
        scaled = (gradient * planes["scales"]).to(gradient.dtype)
        return dense(scaled, planes["codes"].to(gradient.dtype).t())

    def steps(self, planes: Planes, width: int) -> Tensor:
        scales = planes["scales"].float()
        return scales[:, None] if self.group is None else scales.repeat_interleave(self.group, 1)[:, :width]


def _divisor(scales: Tensor) -> Tensor:
    """Scales to divide by: rows and groups of zeros stay zeros."""
    return torch.where(scales > 0, scales, 1.0)
