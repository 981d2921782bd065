"""Fixed sine and cosine waves added to the embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.core.fields import setting
from workbench.parts.positions.base import POSITIONS, Position


@dataclass(frozen=True)
class SinusoidalOptions:
    base: float = setting(
        10000.0, label="Longest wavelength / 2π", minimum=2, maximum=1e8, log=True, advanced=True,
        source="arXiv:1706.03762", equation="wavelengths 2π … 2π · base", used_by="Transformer 2017 (10,000)",
        help="The slowest wave repeats after 2π times this many tokens.",
    )  # fmt: skip
    scale_embedding: bool = setting(
        True, label="Scale embeddings by √d", source="arXiv:1706.03762",
        equation="x ← √d · x + PE(p)", used_by="Transformer 2017",
        help="Multiplies token embeddings by √d_model first; without it the waves swamp small embeddings.",
    )  # fmt: skip


def sinusoids(positions: Tensor, width: int, base: float) -> Tensor:
    """PE(p, 2i) = sin(p / base^(2i/C)), PE(p, 2i+1) = cos(…): positions [...] -> float32 [..., C] (arXiv:1706.03762 §3.5)."""
    rates = base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width)
    angles = positions[..., None].double() * rates
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    return waves[..., :width].float()


@POSITIONS.register(
    "sinusoidal",
    label="Sinusoidal",
    options=SinusoidalOptions,
    source="arXiv:1706.03762",
    equation="x ← √d · x + PE(p),  PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(p / 10000^(2i/d))",
    used_by="Transformer 2017",
    help="Adds fixed sine and cosine waves of geometrically spaced wavelengths to the token embeddings.",
)
class SinusoidalPosition(Position):
    has_weights = reads_heads = False

    def __init__(self, width: int, base: float = 10000.0, scale_embedding: bool = True, **_sizes: Any) -> None:
        super().__init__()
        self.width = width
        self.base = base
        self.factor = math.sqrt(width) if scale_embedding else 1.0

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x * self.factor + sinusoids(positions.clamp(min=0), self.width, self.base).to(x.dtype)
