"""RoPE scaling: how rotation rates change so that a model reads further than it was trained.

Letters: d rotary width, θ_i = base^(−2i/d) the rate of pair i, s the factor, L the original context, n the current length.
Every kind returns what transformers' function of the same name returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workbench.core.fields import setting
from workbench.core.registry import Registry


@dataclass(frozen=True)
class Wheel:
    """What is scaled: `width` d, `base`, the context the model says it has, and where to compute how precisely."""

    width: int
    base: float
    max_positions: int
    precision: torch.dtype
    device: torch.device

    def rates(self, base: float | None = None) -> Tensor:
        """θ_i for i < d/2, rounded step by step as transformers rounds them."""
        exponents = torch.arange(0, self.width, 2, dtype=self.precision, device=self.device) / self.width
        return 1.0 / (self.base if base is None else base) ** exponents


class RopeScaling(Protocol):
    """`attention_factor` multiplies cosines and sines; `depends_on_length` asks for the current length with each pass."""

    attention_factor: float
    depends_on_length: bool

    def rates(self, wheel: Wheel, length: int) -> Tensor: ...


ROPE_SCALINGS: Registry[RopeScaling] = Registry("RoPE scaling")
"""Built as `make(**options)`."""


def _factor(default: float = 4.0) -> float:
    found: float = setting(
        default, label="Factor s", key="factor", minimum=1, maximum=1024, source="arXiv:2306.15595",
        used_by="LLaMA 3.1 (8), LLaMA 3.2 (32), Qwen2.5 for long texts (4)", help="How many times longer the context becomes.",
    )  # fmt: skip
    return found


def _original(default: int | None, none_label: str) -> int | None:
    found: int | None = setting(
        default, label="Original context L", key="original_max_position_embeddings", unit="tokens", minimum=8, maximum=1_048_576,
        none_label=none_label, source="arXiv:2309.00071", used_by="LLaMA 3.1 (8,192)",
        help="The context that the weights were trained with, before scaling.",
    )  # fmt: skip
    return found


class _Plain:
    attention_factor = 1.0
    depends_on_length = False
    original: int | None = None

    def trained(self, context: int) -> float:
        """The context before scaling, of a model with `context` positions."""
        return self.original or context


@ROPE_SCALINGS.register(
    "none",
    label="No scaling",
    source="arXiv:2104.09864",
    equation="θ'_i = θ_i",
    used_by="LLaMA 1 to 3, Mistral, Qwen, SmolLM2",
    help="Turns by the plain angles; no scaling is applied.",
)
class NoScaling(_Plain):
    def rates(self, wheel: Wheel, length: int) -> Tensor:
        return wheel.rates()


@dataclass(frozen=True)
class FactorOptions:
    factor: float = _factor()


@ROPE_SCALINGS.register(
    "linear",
    label="Linear (position interpolation)",
    options=FactorOptions,
    source="arXiv:2306.15595",
    equation="θ'_i = θ_i / s",
    used_by="LongChat, Vicuna 16k",
    help="Turns every pair s times more slowly, so that s times as many positions fit; near positions become harder to tell apart.",
)
@dataclass(frozen=True)
class LinearScaling(_Plain):
    factor: float = 4.0

    def rates(self, wheel: Wheel, length: int) -> Tensor:
        return wheel.rates() / self.factor


def stretched_base(wheel: Wheel, factor: float) -> float:
    """The base at which the slowest pair turns `factor` times more slowly and the fastest as before."""
    return float(wheel.base * factor ** (wheel.width / max(wheel.width - 2, 1)))


@ROPE_SCALINGS.register(
    "ntk",
    label="NTK-aware",
    options=FactorOptions,
    source="bloc97 2023 (NTK-aware scaled RoPE)",
    equation="base' = base · s^(d / (d − 2))",
    used_by="CodeLlama-style long contexts, llama.cpp's rope-freq-base",
    help="Raises the base, so that slow pairs are stretched s times and fast pairs, which tell neighbours apart, hardly at all.",
)
@dataclass(frozen=True)
class NtkScaling(_Plain):
    factor: float = 4.0

    def rates(self, wheel: Wheel, length: int) -> Tensor:
        return wheel.rates(stretched_base(wheel, self.factor))


@dataclass(frozen=True)
class DynamicOptions:
    factor: float = _factor()
    original: int | None = _original(None, "the model's context")


@ROPE_SCALINGS.register(
    "dynamic",
    label="Dynamic NTK",
    options=DynamicOptions,
    source="emozilla 2023 (dynamically scaled RoPE)",
    equation="base' = base · (s · max(n, L) / L − (s − 1))^(d / (d − 2))",
    used_by="Qwen 1, Phi-3 conversions",
    help="Leaves texts within the original context untouched and stretches with the length beyond it; keys cached before stay as they are.",
)
@dataclass(frozen=True)
class DynamicScaling(_Plain):
    factor: float = 4.0
    original: int | None = None
    depends_on_length = True

    def rates(self, wheel: Wheel, length: int) -> Tensor:
        trained = self.trained(wheel.max_positions)
        if length <= trained:
            return wheel.rates()
        return wheel.rates(stretched_base(wheel, self.factor * length / trained - (self.factor - 1)))


@dataclass(frozen=True)
class YarnOptions:
    factor: float = _factor()
    original: int | None = _original(None, "context / s")
    beta_fast: float = setting(
        32.0, label="β fast", key="beta_fast", minimum=0.01, maximum=4096, advanced=True,
        source="arXiv:2309.00071", used_by="Qwen2.5 for long texts (32)",
        help="Pairs that turn at least this often within the original context keep their rate.",
    )  # fmt: skip
    beta_slow: float = setting(
        1.0, label="β slow", key="beta_slow", minimum=0.001, maximum=4096, advanced=True,
        source="arXiv:2309.00071", used_by="Qwen2.5 for long texts (1)",
        help="Pairs that turn at most this often within the original context are slowed down by the whole factor.",
    )  # fmt: skip
    attention_factor: float | None = setting(
        None, label="Attention factor", key="attention_factor", minimum=0.01, maximum=100, none_label="0.1 ln s + 1", advanced=True,
        source="arXiv:2309.00071", equation="t = 0.1 ln s + 1;  q kᵀ ← t² · q kᵀ", used_by="Qwen2.5 for long texts",
        help="Multiplies cosines and sines, which sharpens attention over many more keys.",
    )  # fmt: skip
    truncate: bool = setting(
        True, label="Whole-numbered ramp", key="truncate", advanced=True, source="arXiv:2309.00071",
        used_by="Qwen2.5 for long texts; not by gpt-oss",
        help="Rounds the ends of the ramp to whole pairs, as the paper's code does.",
    )  # fmt: skip


@ROPE_SCALINGS.register(
    "yarn",
    label="YaRN",
    options=YarnOptions,
    source="arXiv:2309.00071",
    equation="θ'_i = θ_i · (1 − ramp_i) + θ_i / s · ramp_i",
    used_by="Qwen2.5 long contexts, DeepSeek-V2, gpt-oss",
    help="Slows slow pairs by s, leaves fast pairs alone, blends between them, and sharpens attention a little.",
)
class YarnScaling(_Plain):
    def __init__(
        self,
        factor: float = 4.0,
        original: int | None = None,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        attention_factor: float | None = None,
        truncate: bool = True,
    ) -> None:
        self.factor = factor
        self.original = original
        self.betas = (beta_fast, beta_slow)
        self.attention_factor = (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0) if attention_factor is None else attention_factor
        self.truncate = truncate

    def trained(self, context: int) -> float:
        return self.original or context / self.factor

    def rates(self, wheel: Wheel, length: int) -> Tensor:
        trained = self.trained(wheel.max_positions)
        low, high = (wheel.width * math.log(trained / (beta * 2 * math.pi)) / (2 * math.log(wheel.base)) for beta in self.betas)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, wheel.width - 1)
        pairs = torch.arange(wheel.width // 2, dtype=wheel.precision, device=wheel.device)
        ramp = ((pairs - low) / (high - low if high != low else 0.001)).clamp(0, 1)
        plain = wheel.rates()
        return plain / self.factor * ramp + plain * (1 - ramp)


@dataclass(frozen=True)
class Llama3Options:
    factor: float = _factor(8.0)
    low: float = setting(
        1.0, label="Low-frequency factor", key="low_freq_factor", minimum=0.01, maximum=1024, advanced=True,
        source="arXiv:2407.21783", used_by="LLaMA 3.1 (1)",
        help="Waves longer than the original context divided by this are slowed down by the whole factor.",
    )  # fmt: skip
    high: float = setting(
        4.0, label="High-frequency factor", key="high_freq_factor", minimum=0.01, maximum=1024, advanced=True,
        source="arXiv:2407.21783", used_by="LLaMA 3.1 (4)",
        help="Waves shorter than the original context divided by this keep their rate.",
    )  # fmt: skip
    original: int = setting(
        8192, label="Original context L", key="original_max_position_embeddings", unit="tokens", minimum=8, maximum=1_048_576,
        source="arXiv:2407.21783", used_by="LLaMA 3.1 (8,192)",
        help="The context that the weights were trained with, before scaling.",
    )  # fmt: skip


@ROPE_SCALINGS.register(
    "llama3",
    label="Llama 3",
    options=Llama3Options,
    source="arXiv:2407.21783",
    equation="θ'_i = (1 − u_i) · θ_i / s + u_i · θ_i,  u_i = clip((L / λ_i − low) / (high − low), 0, 1)",
    used_by="Llama 3.1 to 3.3",
    help="Keeps short waves, slows long ones by s and blends in between, as Llama 3.1 does to reach 128k tokens.",
)
@dataclass(frozen=True)
class Llama3Scaling(_Plain):
    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def rates(self, wheel: Wheel, length: int) -> Tensor:
        plain = wheel.rates()
        turns = self.original * plain / (2 * math.pi)
        kept = ((turns - self.low) / (self.high - self.low if self.high != self.low else 0.001)).clamp(0, 1)
        return (1 - kept) * plain / self.factor + kept * plain
