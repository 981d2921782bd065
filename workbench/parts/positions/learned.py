"""A trained vector per position, added to the embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.parts.positions.base import POSITIONS, Position


@POSITIONS.register(
    "learned",
    label="Learned",
    source="Radford et al. 2019 (GPT-2)",
    equation="x ← x + wpe[p]",
    used_by="GPT-1, GPT-2, GPT-3, BERT, OPT",
    help="Adds a trained vector for each position; there is none beyond the trained context.",
)
class LearnedPosition(Position):
    """`weight` [max_positions, C]. The caller keeps positions below `max_positions` (see `Position.context_bound`)."""

    context_bound = True
    reads_width = reads_heads = False

    def __init__(
        self, width: int, max_positions: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None, **_sizes: Any
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, width, device=device, dtype=dtype))

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        if positions.stride(0) == 0:  # one row for all sequences: it is looked up, and its gradient summed, once
            positions = positions[:1]
        return x + F.embedding(positions.clamp(min=0), self.weight)
