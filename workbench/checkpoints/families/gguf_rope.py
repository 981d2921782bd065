"""Rotary settings as GGUF spells them: keys `rope.*`, and Llama 3's rule as a tensor of divisors.

Only what llama.cpp computes is read and written: `linear` and `yarn` with their factor and original context, YaRN's ramp from 32
to 1 turns, and divisors for the architecture llama. What it ignores is left out, so that a model in need of it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.checkpoints.families.settings import Settings
from workbench.core.errors import ModelError
from workbench.model import ModelConfig
from workbench.parts.positions.scaling import Llama3Scaling, Wheel

DIVISORS = "rope_freqs.weight"
_LLAMA3 = {"low": 1.0, "high": 4.0, "original": 8192}
"""What Llama 3.1 to 3.3 were scaled with; a file of divisors does not say it."""
_TOLERANCE = 1e-4
"""Relative; converters compute in float32."""


def read_rope(settings: Settings, rotary_fraction: float, head_width: int) -> dict[str, Any]:
    """The `position` of a `ModelConfig`. Raises `ModelError` for a scaling that is not known."""
    base = settings.number("rope.freq_base", default=10000.0)
    scaling = _scaling(settings)
    divisors = settings.extras.get(DIVISORS)
    if divisors is not None and bool((divisors != 1).any()):
        if scaling["kind"] != "none":
            raise ModelError(f"{settings.where} scales its RoPE twice, by {DIVISORS} and by rope.scaling.", hint="Get another conversion.")
        scaling = _llama3(divisors, base, head_width, settings.where)
    return {"kind": "rope", "base": base, "style": "half", "rotary_fraction": rotary_fraction, "scaling": scaling}


def _scaling(settings: Settings) -> dict[str, Any]:
    factor = settings.number("rope.scaling.factor", "rope.scale_linear", default=0.0) or 1.0
    kind = settings.get("rope.scaling.type", default="linear")
    if kind == "none" or (kind == "linear" and factor == 1):
        return {"kind": "none"}
    if kind not in ("linear", "yarn"):
        raise ModelError(
            f"{settings.where}: rope.scaling.type is {kind!r}, which is not supported.", hint="Supported: none, linear and yarn."
        )
    if kind == "linear":
        return {"kind": "linear", "factor": factor}
    for key, usual in (("yarn_beta_fast", 32.0), ("yarn_beta_slow", 1.0), ("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)):
        if (found := settings.number(f"rope.scaling.{key}", default=usual)) != usual:
            raise ModelError(f"{settings.where}: rope.scaling.{key} is {found:g}, which is not supported.", hint=f"Supported: {usual:g}.")
    attention = settings.number("rope.scaling.attn_factor", default=1.0)
    return {
        "kind": "yarn",
        "factor": factor,
        "original": settings.integer("rope.scaling.original_context_length", default=settings.integer("context_length")),
        "attention_factor": None if attention == 1 else attention * _usual_attention(factor),
    }


def _usual_attention(factor: float) -> float:
    return 0.1 * math.log(factor) + 1.0


def _llama3(divisors: Tensor, base: float, width: int, where: str) -> dict[str, Any]:
    """The rule whose divisors these are. Raises `ModelError` when it is none of Llama 3's."""
    rule = {"factor": float(divisors.max()), **_LLAMA3}
    if divisors.shape == (width // 2,) and bool(torch.isclose(divisors.double(), _divisors(rule, base, width), rtol=_TOLERANCE).all()):
        return {"kind": "llama3", **rule}
    raise ModelError(
        f"{where} scales its RoPE frequencies by {DIVISORS} in a way that is not known.",
        hint="Known are the divisors of Llama 3.1 to 3.3; open the model's Hugging Face folder, whose config.json names the rule.",
    )


def _divisors(rule: Mapping[str, Any], base: float, width: int) -> Tensor:
    """θ / θ' of Llama 3's rule for each pair of a head, in float64."""
    wheel = Wheel(width, base, 0, torch.float64, torch.device("cpu"))
    return wheel.rates() / Llama3Scaling(**rule).rates(wheel, 0)


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """The settings of a rotary model; nothing for another one."""
    if config.position.kind != "rope":
        return {}
    options = config.position.options
    settings: dict[str, Any] = {"rope.freq_base": float(options.base), "rope.dimension_count": config.head_width}
    scaling = options.scaling
    if scaling.kind == "linear":
        settings |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.options.factor)}
    elif scaling.kind == "yarn":
        factor, attention = float(scaling.options.factor), scaling.options.attention_factor
        settings |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": scaling.options.original or round(config.max_positions / factor),
        }
        if attention is not None:
            settings["rope.scaling.attn_factor"] = attention / _usual_attention(factor)
    return settings


def write_divisors(config: ModelConfig) -> dict[str, Tensor]:
    """The tensor that carries Llama 3's rule; nothing for another one."""
    if config.position.kind != "rope" or config.position.options.scaling.kind != "llama3":
        return {}
    options = config.position.options
    return {DIVISORS: _divisors(options.scaling.arguments(), options.base, config.head_width).float()}
