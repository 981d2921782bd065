"""Rotary position embedding: queries and keys are turned by an angle proportional to their position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.core.fields import Option, choice, coerce_choices, pick, setting
from workbench.core.registry import Choice
from workbench.parts.positions.base import POSITIONS, Position
from workbench.parts.positions.scaling import ROPE_SCALINGS, NoScaling, RopeScaling, Wheel

STYLES = (
    Option(
        "half",
        "Halves (i, i + d/2)",
        "Pairs dimension i with i + d/2, as Hugging Face's LLaMA-like classes store their weights.",
        used_by="Hugging Face folders of LLaMA, Mistral, Qwen, Falcon, GPT-NeoX, Phi, Gemma",
        equation="(x_i, x_{i+d/2})",
    ),
    Option(
        "interleaved",
        "Neighbours (2i, 2i + 1)",
        "Pairs neighbouring dimensions, as RoFormer, GPT-J and GGUF's llama files do.",
        used_by="RoFormer, GPT-J, GGUF files of the llama family",
        equation="(x_{2i}, x_{2i+1})",
        source="arXiv:2104.09864",
    ),
)


@dataclass(frozen=True)
class RopeOptions:
    base: float = setting(
        10000.0, label="Base θ", key="rope_theta", minimum=2, maximum=1e9, log=True,
        source="arXiv:2104.09864", equation="θ_i = base^(−2i/d)",
        used_by="LLaMA 2 and Pythia (10,000), SmolLM2 (100,000), LLaMA 3 (500,000), Qwen2.5 (1,000,000)",
        help="Sets the wavelengths: the slowest pair turns once in about 2π·θ tokens, so a larger base suits longer contexts.",
    )  # fmt: skip
    style: str = pick(
        STYLES, "half", label="Pairing", advanced=True, key="rope_interleaved", source="arXiv:2104.09864",
        used_by="Hugging Face folders (halves), GGUF's llama files (neighbours)",
        help="Which dimensions turn together; it must match the weights, and wrong pairing degrades without an error.",
    )  # fmt: skip
    rotary_fraction: float = setting(
        1.0, label="Rotated part of each head", key="partial_rotary_factor", minimum=0.01, maximum=1, advanced=True,
        source="arXiv:2204.06745", used_by="GPT-NeoX and Pythia (0.25), Phi-2 (0.4)",
        help="Only this part of each head's dimensions turns; the rest carries no position.",
    )  # fmt: skip
    scaling: Choice[RopeScaling] = choice(
        ROPE_SCALINGS, "none", label="Scaling", key="rope_type", source="arXiv:2306.15595", used_by="LLaMA 3.1 (131,072 tokens from 8,192)",
        help="How the angles change so that longer texts fit.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        coerce_choices(self)


class Rotation(NamedTuple):
    """Cosines and sines [B or 1, 1, T, rotary width]; the sign of the half-turn is folded into `sin`."""

    cos: Tensor
    sin: Tensor


@POSITIONS.register(
    "rope",
    label="RoPE",
    options=RopeOptions,
    source="arXiv:2104.09864",
    equation="(q, k) at position p turn by p·θ_i in plane i,  θ_i = base^(−2i/d);  ⟨q_m, k_n⟩ depends on m − n only",
    used_by="LLaMA, Mistral, Qwen, SmolLM, Gemma, Falcon, Phi, GPT-NeoX",
    help="Turns queries and keys by an angle proportional to their position, so that scores depend on distance alone.",
)
class RotaryPosition(Position):
    """Angles are computed once per forward pass: a few microseconds, and no table limits the context.

    In float32, rounded step by step as transformers rounds them, because checkpoints are judged (and were trained) that
    way: exact angles move the starter's logits by 0.001 within 2048 tokens. Models built in float64 get exact angles.
    """

    acts_in_attention = True
    has_weights = reads_width = reads_heads = False

    def __init__(
        self,
        head_width: int,
        max_positions: int = 1024,
        base: float = 10000.0,
        style: str = "half",
        rotary_fraction: float = 1.0,
        scaling: RopeScaling | None = None,
        dtype: torch.dtype | None = None,
        **_sizes: Any,
    ) -> None:
        super().__init__()
        self.precision = torch.float64 if dtype == torch.float64 else torch.float32
        self.rotary = max(2, int(head_width * rotary_fraction) // 2 * 2)
        self.partial = self.rotary != head_width
        self.base = base
        self.halves = style == "half"
        self.max_positions = max_positions
        self.scaling = scaling or NoScaling()
        self.movable = not self.scaling.depends_on_length

    def rates(self, positions: Tensor) -> Tensor:
        """Radians per position of each pair, [rotary width / 2], for texts as long as `positions` say."""
        length = int(positions.max()) + 1 if self.scaling.depends_on_length else 0
        return self.scaling.rates(Wheel(self.rotary, self.base, self.max_positions, self.precision, positions.device), length)

    def prepare(self, positions: Tensor) -> Rotation:
        angles = positions.clamp(min=0).to(self.precision)[:, None, :, None] * self.rates(positions)
        return self._rotation(angles, self.scaling.attention_factor)

    def moved(self, keys: Tensor, by: int) -> Tensor:
        """R(p + by) = R(by) R(p); keys carry the attention factor already. Angles in float64: `by` may be large."""
        steps = torch.full((1, 1), by, device=keys.device)
        angles = steps.double()[:, None, :, None] * self.rates(steps).double()
        return self.rotate(keys.to(self.precision), self._rotation(angles, 1.0)).to(keys.dtype)

    def _rotation(self, angles: Tensor, factor: float) -> Rotation:
        """Angles [B or 1, 1, T, rotary width / 2] -> their rotation, every cosine and sine times `factor`."""
        cos, sin = angles.cos().to(self.precision), angles.sin().to(self.precision)
        if factor != 1:
            cos, sin = cos * factor, sin * factor
        if self.halves:
            return Rotation(torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1))
        return Rotation(cos.repeat_interleave(2, -1), torch.stack((-sin, sin), -1).flatten(-2))

    def rotate(self, heads: Tensor, prepared: Rotation) -> Tensor:
        if self.partial:
            turned = self._turn(heads[..., : self.rotary], prepared)
            return torch.cat((turned, heads[..., self.rotary :]), -1)
        return self._turn(heads, prepared)

    def _turn(self, x: Tensor, rotation: Rotation) -> Tensor:
        if self.halves:
            swapped = x.roll(self.rotary // 2, -1)
        else:
            swapped = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
        return torch.addcmul(x * rotation.cos, swapped, rotation.sin).to(x.dtype)
