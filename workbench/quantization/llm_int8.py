"""8-bit weights and activations, with the few large activations apart in full precision."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from workbench.core.fields import setting
from workbench.numerics.low_bit import dense, whole_product
from workbench.parts.frozen import Planes
from workbench.quantization.base import SCHEMES
from workbench.quantization.int8 import Int8
from workbench.quantization.int8_dynamic import rounded_rows, scaled


@dataclass(frozen=True)
class LlmInt8Options:
    threshold: float = setting(
        6.0, label="Outlier threshold", key="llm_int8_threshold", minimum=0.0, maximum=10_000.0, source="arXiv:2208.07339",
        used_by="bitsandbytes (6.0)",
        help="An input that is this large in any token of a call is multiplied in full precision.",
    )  # fmt: skip


@SCHEMES.register(
    "llm-int8",
    label="LLM.int8(), outliers apart",
    options=LlmInt8Options,
    source="arXiv:2208.07339",
    equation="y = Σ_{j: |x_j| < t} (8 bits) + Σ_{j: |x_j| ≥ t} x_j W̃_j",
    used_by="bitsandbytes",
    help="Rounds activations to 8 bits except the inputs with large values, which stay in full precision; made for models beyond 6B.",
)
class LlmInt8(Int8):
    """Planes as `int8` with one scale per row. Which inputs are outliers is decided by all tokens of a call together, as in the paper,
    so a token's rounding depends a little on the others."""

    def __init__(self, threshold: float = 6.0) -> None:
        super().__init__(None)
        self.threshold = threshold

    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        codes, scales = planes["codes"], planes["scales"]
        large = (x.abs().amax(0) >= self.threshold) | x.isnan().any(0)
        columns = large.nonzero().flatten()
        rest = x.masked_fill(large, 0.0) if len(columns) else x
        whole, rows = rounded_rows(rest)
        out = scaled(whole_product(whole, codes), rows, scales).to(x.dtype)
        if len(columns):
            kept = self.decode({"codes": codes[:, columns], "scales": scales}, len(columns), x.dtype)
            out += dense(x[:, columns], kept)
        return out
