"""Layer normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.fields import setting
from workbench.parts.norms.base import NORMS


@dataclass(frozen=True)
class LayerNormOptions:
    eps: float = setting(
        1e-5, label="Epsilon", key="layer_norm_epsilon", minimum=1e-12, maximum=1, log=True, advanced=True,
        source="arXiv:1607.06450", equation="√(var(x) + ε)", used_by="GPT-2, Falcon and Pythia (1e-5), BERT (1e-12)",
        help="Added to the variance before the root, so that a constant input does not divide by zero.",
    )  # fmt: skip
    bias: bool = setting(
        True, label="Bias", advanced=True, source="arXiv:1607.06450", equation="y = x̂ · g + b", used_by="GPT-2, BERT, Falcon; not by MPT",
        help="Adds a learned offset after the gain.",
    )  # fmt: skip


@NORMS.register(
    "layernorm",
    label="LayerNorm",
    options=LayerNormOptions,
    source="arXiv:1607.06450",
    equation="y = (x − mean(x)) / √(var(x) + ε) · g + b",
    used_by="Transformer 2017, GPT-1 to GPT-3, BERT, GPT-NeoX, BLOOM, Falcon, Phi",
    help="Removes the mean and divides by the standard deviation of each token's vector, then applies a gain and an offset.",
)
class LayerNorm(nn.Module):
    """x [..., C] -> [..., C], same dtype. Biased variance, ε inside the root; float32 inside."""

    def __init__(
        self, width: int, eps: float = 1e-5, bias: bool = True, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(width, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        # The kernel accumulates in float32 for half-precision inputs; only mixed dtypes need a cast around it.
        if x.dtype == self.weight.dtype:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.weight.shape, self.weight.float(), bias, self.eps).to(x.dtype)
