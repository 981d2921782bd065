"""The only attention of the engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.caches.base import LayerCache
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.parts.linear import Joined, Joint, Linear
from workbench.parts.positions.base import Position


class Attention(Joined):
    """Self-attention with grouped key/value heads (arXiv:2305.13245).

    Shapes: B batch, T new tokens, S stored + new, C stream width, H query heads, G key/value heads, D head width.
    The position encoding belongs to the model and comes along with each call; the module keeps nothing between calls.
    `q_norm` and `k_norm` act on each head (arXiv:2302.05442), or with `norm_whole` on all heads' values at once (arXiv:2501.00656).
    """

    joins = ("q_proj", "k_proj", "v_proj")

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
        norm_whole: bool = False,
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
        self.norm_whole = norm_whole
        self.kv_heads = kv_heads
        self.joint = Joint(self.q_proj, self.k_proj, self.v_proj)

    def forward(self, x: Tensor, frame: Frame, position: Position, cache: LayerCache | None = None) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        batch, tokens, _ = x.shape
        joint = self.joint(x, self.q_proj, self.k_proj, self.v_proj)
        if joint is None:
            q, k, v = self._heads([project(x) for project in (self.q_proj, self.k_proj, self.v_proj)], frame, position)
        elif torch.is_grad_enabled() or self.q_norm is not None:
            # Split before the heads are moved: the gradients of the parts are then laid side by side in one copy.
            turned, kept = self.q_proj.out_features, self.v_proj.out_features
            q, k, v = self._heads(list(torch.split(joint, [turned, kept, kept], -1)), frame, position)
        else:
            heads = joint.view(batch, tokens, -1, self.head_width).transpose(1, 2)
            turning = heads.shape[1] - self.kv_heads
            both, v = heads[:, :turning], heads[:, turning:]
            if self.positional:
                both = position.rotate(both, frame.rotation)
            q, k = both[:, : -self.kv_heads], both[:, -self.kv_heads :]
        out = attend(q, k, v, self.scoring, frame) if cache is None else cache.attend(q, k, v, self.scoring, frame)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, tokens, -1))
        return mixed

    def _heads(self, flat: list[Tensor], frame: Frame, position: Position) -> tuple[Tensor, Tensor, Tensor]:
        """What the three projections gave, [B, T, heads · D] each -> q [B, H, T, D], k and v [B, G, T, D]."""
        if self.norm_whole:
            flat[:2] = self._normed(flat[0], flat[1])
        q, k, v = (y.view(*y.shape[:2], -1, self.head_width).transpose(1, 2) for y in flat)
        if not self.norm_whole:
            q, k = self._normed(q, k)
        if self.positional:
            q, k = position.rotate(q, frame.rotation), position.rotate(k, frame.rotation)
        return q, k, v

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return (q, k) if self.q_norm is None or self.k_norm is None else (self.q_norm(q), self.k_norm(k))
