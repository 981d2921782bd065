"""One protocol for every way of telling a model where a token stands: three hooks, each the identity by default."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from workbench.core.registry import Registry
from workbench.numerics.attention import Bias


class Position(nn.Module):
    """Positions are int64 [B, T]; −1 marks padding, whose value must not matter but must not fail either.

    `bias` is None, or a function added to the attention scores (see `Scoring.bias`). `context_bound` says that positions
    from `max_positions` on do not exist (a table ends) rather than being merely untrained; `acts_in_attention`, that single
    blocks can do without it; `movable`, that a key can be given another position after it was cached (`moved`), because scores
    depend on distances alone. Without it, text of which something was left out must be read again.

    What a conversion must know is supposed to be so unless a kind says otherwise: `has_weights`, that it has parameters of its
    own; `reads_width`, that what it adds to the stream follows from its width, and can be neither centred nor widened;
    `reads_heads`, that it depends on how many heads there are.
    """

    context_bound: bool = False
    acts_in_attention: bool = False
    movable: bool = False
    has_weights: bool = True
    reads_width: bool = True
    reads_heads: bool = True
    bias: Bias | None = None

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings [B, T, C] -> [B, T, C]."""
        return x

    def prepare(self, positions: Tensor) -> Any:
        """What `rotate` needs for these positions; computed once per forward pass, shared by all layers."""
        return None

    def rotate(self, heads: Tensor, prepared: Any) -> Tensor:
        """Queries or keys (or both, side by side) [B, N, T, D] -> the same shape, after the projections and before the cache."""
        return heads

    def moved(self, keys: Tensor, by: int) -> Tensor:
        """Keys [B, G, T, D] as `rotate` gave them -> as it would have given them `by` positions later. Only where `movable`."""
        return keys


POSITIONS: Registry[Position] = Registry("position encoding")
"""Built as `make(width=C, head_width=D, heads=H, max_positions=N, device=…, dtype=…, **options)`."""
