"""No position signal at all."""

from __future__ import annotations

from typing import Any

from workbench.parts.positions.base import POSITIONS, Position


@POSITIONS.register(
    "none",
    label="None (NoPE)",
    source="arXiv:2305.19466",
    equation="x ← x",
    used_by="every fourth layer of SmolLM3",
    help="Gives no position signal; the causal mask alone lets a decoder infer order.",
)
class NoPosition(Position):
    movable = True
    has_weights = reads_width = reads_heads = False

    def __init__(self, **_sizes: Any) -> None:
        super().__init__()
