"""The only attention of the engine."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from workbench.caches.base import LayerCache
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.parts.linear import Linear
from workbench.parts.positions.base import Position


class Attention(nn.Module):
    """Self-attention with grouped key/value heads (arXiv:2305.13245).

    Shapes: B batch, T new tokens, S stored + new, C stream width, H query heads, G key/value heads, D head width.
    The position encoding belongs to the model and comes along with each call; the module keeps nothing between calls.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        scoring: Scoring,
        bias: bool = False,
        out_bias: bool = False,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        positional: bool = True,
        **where: Any,
    ) -> None:
        super().__init__()
        self.head_width = head_width
        self.scoring = scoring
        self.positional = positional
        self.q_proj = Linear(width, heads * head_width, bias, **where)
        self.k_proj = Linear(width, kv_heads * head_width, bias, **where)
        self.v_proj = Linear(width, kv_heads * head_width, bias, **where)
        self.o_proj = Linear(heads * head_width, width, out_bias, **where)
        self.q_norm = q_norm
        self.k_norm = k_norm

    def forward(self, x: Tensor, frame: Frame, position: Position, cache: LayerCache | None = None) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        batch, tokens, _ = x.shape
        heads = (batch, tokens, -1, self.head_width)
        q = self.q_proj(x).view(heads).transpose(1, 2)
        k = self.k_proj(x).view(heads).transpose(1, 2)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.positional:
            q, k = position.rotate(q, k, frame.rotation)
        out = attend(q, k, v, self.scoring, frame) if cache is None else cache.attend(q, k, v, self.scoring, frame)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, tokens, -1))
        return mixed
