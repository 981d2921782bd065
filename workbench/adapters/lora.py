"""LoRA: a frozen weight plus the product of two thin matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.adapters.autograd import low_rank_linear
from workbench.adapters.base import ADAPTERS, Adapter
from workbench.adapters.dropout import dropped
from workbench.adapters.initial import INITIAL
from workbench.parts.frozen import FrozenLinear

FEW_ROWS = 32
"""Up to this many rows it is cheaper to widen the input than to narrow the two matrices."""


@ADAPTERS.register(
    "lora",
    label="LoRA",
    source="arXiv:2106.09685",
    equation="y = W x + (α/r) · B (A x)",
    used_by="PEFT, the default of every fine-tuning tool",
    help="Trains two thin matrices beside each frozen one; their product is scaled by α/r, so a higher rank has weaker gradients.",
)
class Lora(Adapter):
    """A [r, in] and B [out, r], both float32; B starts at zero, so that nothing changes before the first step."""

    peft_flags: ClassVar[Mapping[str, bool]] = {"use_rslora": False, "use_dora": False}

    def __init__(
        self, *, in_features: int, out_features: int, kind: str, r: int, alpha: float, dropout: float = 0.0,
        device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kind=kind, r=r, alpha=alpha, dropout=dropout)
        self.A = nn.Parameter(torch.empty(r, in_features, device=device, dtype=torch.float32))
        self.B = nn.Parameter(torch.empty(out_features, r, device=device, dtype=torch.float32))

    @staticmethod
    def scale_rule(alpha: float, r: int) -> float:
        return alpha / r

    @torch.no_grad()
    def reset(self, init: str, generator: torch.Generator, weight: Tensor) -> None:
        """A by the rule of that name, drawn on the CPU so that every device starts alike; B zero."""
        self.A.copy_(INITIAL[init].draw(self.r, self.A.shape[1], generator))
        self.B.zero_()

    def forward(self, x: Tensor, out: Tensor, strength: float, noise: int | None = None) -> Tensor:
        if self.training and self.dropout > 0:
            x = dropped(x, self.dropout, noise)
        few = x.numel() <= FEW_ROWS * x.shape[-1]
        dtype = torch.float32 if few else x.dtype
        low = F.linear(x.to(dtype), self.A.to(dtype))
        change = F.linear(low, self.B.to(dtype)).to(out.dtype)
        if torch.is_grad_enabled():
            return out.add(change, alpha=self.scaling * strength)
        return out.add_(change, alpha=self.scaling * strength)

    def fused(self, x: Tensor, base: nn.Module, strength: float) -> Tensor | None:
        """Only for linears that are not trained themselves, quantized ones among them, and without dropout."""
        if not isinstance(base, (nn.Linear, FrozenLinear)) or (self.training and self.dropout > 0):
            return None
        weight: Any = base if isinstance(base, FrozenLinear) else base.weight
        bias: Any = base.bias
        if (weight is not base and weight.requires_grad) or (bias is not None and bias.requires_grad):
            return None
        return low_rank_linear(x, weight, bias, self.A, self.B, self.scaling * strength)

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        return (self.B @ self.A) * self.scaling

    def peft_tensors(self) -> dict[str, Tensor]:
        return {"lora_A.weight": self.A, "lora_B.weight": self.B}
