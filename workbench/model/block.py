"""One transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from workbench.caches.base import LayerCache
from workbench.numerics.attention import Frame
from workbench.parts.attention import Attention
from workbench.parts.positions.base import Position
from workbench.parts.residuals.base import Residual


class Block(nn.Module):
    """Attention and MLP, joined to the residual stream the way `residual` says."""

    def __init__(self, attention: Attention, mlp: nn.Module, residual: Residual) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp
        self.residual = residual

    def forward(self, x: Tensor, frame: Frame, position: Position, cache: LayerCache | None = None) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        out: Tensor = self.residual(x, lambda h: self.attention(h, frame, position, cache), self.mlp)
        return out
