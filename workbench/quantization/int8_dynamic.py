"""8-bit weights times 8-bit activations, one scale per token."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.numerics.low_bit import whole_product
from workbench.parts.frozen import Planes
from workbench.quantization.base import SCHEMES
from workbench.quantization.int8 import LARGEST, Int8


@SCHEMES.register(
    "int8-dynamic",
    label="INT8, weights and activations",
    source="arXiv:2206.01861",
    equation="y = (q_x q_Wᵀ) · s_x · s_W,  s_x = max|x| / 127 of each token",
    used_by="torchao's Int8DynamicActivationInt8Weight, vLLM's W8A8",
    help="Rounds activations to 8 bits too, each token with a scale of its own, and multiplies whole numbers: prompts are read fastest.",
)
class Int8Dynamic(Int8):
    """Planes as `int8` with one scale per row. A token's result does not depend on the other tokens, bit by bit."""

    def __init__(self) -> None:
        super().__init__(None)

    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        codes, scales = rounded_rows(x)
        return scaled(whole_product(codes, planes["codes"]), scales, planes["scales"]).to(x.dtype)


def rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [M, K] -> codes int8 [M, K] and scales float32 [M]. A row that holds a NaN or an infinity gets a NaN for scale, so that
    its results say so."""
    wide = x.float()
    scales = wide.abs().amax(-1) / LARGEST
    usable = (scales > 0) & torch.isfinite(scales)
    codes = (wide / torch.where(usable, scales, 1.0)[:, None]).nan_to_num_(0.0, 0.0, 0.0).round_().clamp_(-LARGEST, LARGEST)
    return codes.to(torch.int8), torch.where(torch.isfinite(scales), scales, torch.nan)


def scaled(sums: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """int32 sums [M, N] · rows [M] · columns [N], float32."""
    return sums.to(torch.float32).mul_(rows[:, None]).mul_(columns.float())
