"""What may stand between the last block and the output matrix."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from workbench.parts.linear import Linear


class HeadTransform(nn.Module):
    """BERT's masked-token head without its output matrix: norm(gelu(W x + b)) (arXiv:1810.04805)."""

    def __init__(self, width: int, norm: nn.Module, **where: Any) -> None:
        super().__init__()
        self.dense = Linear(width, width, True, **where)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., C]."""
        out: Tensor = self.norm(F.gelu(self.dense(x)))
        return out
