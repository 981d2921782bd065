"""Rotary settings as config.json spells them: transformers 5 in `rope_parameters`, older files at the top level and in
`rope_scaling`, GPT-NeoX as `rotary_pct` and `rotary_emb_base`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from workbench.checkpoints.families.settings import Settings
from workbench.core.errors import ModelError
from workbench.model import ModelConfig
from workbench.parts.positions.scaling import ROPE_SCALINGS, Wheel, stretched_base

UNSCALED = ("default", "none")
_TOP = {"rope_theta": ("rotary_emb_base", "rope_theta"), "partial_rotary_factor": ("rotary_pct", "partial_rotary_factor")}
"""Our key -> its spellings at the top level, the one that rules first."""


def read_rope(
    settings: Settings, context: int, default_base: float = 10000.0, default_fraction: float = 1.0, head_width: int | None = None
) -> dict[str, Any]:
    """The `position` of a `ModelConfig` with `context` positions. Files that carry both spellings are read by the newer one.

    `head_width`: given by families that may turn a part of each head only. Raises `ModelError` for a scaling rule that is
    not known: running such a model without it would degrade it silently.
    """
    newer, older = settings.get("rope_parameters"), settings.get("rope_scaling")
    for key, value in (("rope_parameters", newer), ("rope_scaling", older)):
        if value is not None and not isinstance(value, Mapping):
            raise settings.wrong(key, value, "a table")
    if isinstance(newer, Mapping) and any(isinstance(v, Mapping) for v in newer.values()):
        raise ModelError(f"{settings.where}: rope_parameters differ between layers, which is not supported.", hint="Choose another model.")
    settings.refuse("rope_interleaved", (False,))
    top = {key: value for key, names in _TOP.items() if (value := settings.get(*names)) is not None}
    table = Settings({**top, **(older or {}), **(newer or {})}, settings.where)
    return {
        "kind": "rope",
        "base": table.number("rope_theta", default=default_base),
        "style": "half",
        "rotary_fraction": _fraction(table, default_fraction, head_width),
        "scaling": _read_scaling(table, settings.get("original_max_position_embeddings"), context),
    }


def _fraction(table: Settings, usual: float, head_width: int | None) -> float:
    if head_width is None:  # transformers' classes of these families turn whole heads
        table.refuse("partial_rotary_factor", (1,))
        return 1.0
    fraction = table.number("partial_rotary_factor", default=usual)
    if int(head_width * fraction) < 2 or int(head_width * fraction) % 2:
        raise ModelError(
            f"{table.where}: {fraction:g} of a head of {head_width} dimensions cannot be turned in pairs.",
            hint="The configuration is damaged, or the model is of a kind that is not supported.",
        )
    return fraction


def write_rope(config: ModelConfig, partial: bool = False) -> dict[str, Any]:
    """Both spellings at once, so that every version of transformers finds its own; nothing for a model without RoPE.

    `partial`: the family may turn a part of each head. What cannot be said is left out, and reading it back shows that.
    """
    if config.position.kind != "rope":
        return {}
    options = config.position.options
    rule = _write_scaling(config)
    part = {"partial_rotary_factor": options.rotary_fraction} if partial else {}
    parameters = {"rope_type": "default", "rope_theta": options.base, **part, **rule}
    return {"rope_parameters": parameters, "rope_theta": options.base, **part, **({"rope_scaling": rule} if rule else {})}


# ---- scaling ----------------------------------------------------------------------------------------------------


def _linear(table: Settings, context: int) -> dict[str, Any]:
    return {"factor": table.number("factor")}


def _yarn(table: Settings, context: int) -> dict[str, Any]:
    original = table.integer("original_max_position_embeddings", default=context)
    factor = table.number("factor", default=context / max(original, 1))
    scale, scale_all = (table.number(key, default=0.0) for key in ("mscale", "mscale_all_dim"))
    usual = _sharpness(factor, scale) / _sharpness(factor, scale_all) if scale and scale_all else 0.0
    return {
        "factor": factor,
        "original": original,
        "beta_fast": table.number("beta_fast", default=0.0) or 32.0,
        "beta_slow": table.number("beta_slow", default=0.0) or 1.0,
        "attention_factor": table.number("attention_factor", default=usual) or None,
        "truncate": table.flag("truncate", default=True),
    }


def _sharpness(factor: float, scale: float) -> float:
    """DeepSeek's `mscale`: by how much YaRN lengthens queries and keys."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _llama3(table: Settings, context: int) -> dict[str, Any]:
    return {
        "factor": table.number("factor"),
        "low": table.number("low_freq_factor"),
        "high": table.number("high_freq_factor"),
        "original": table.integer("original_max_position_embeddings", default=context),
    }


_RULES: Mapping[str, Callable[[Settings, int], dict[str, Any]]] = {"linear": _linear, "dynamic": _linear, "yarn": _yarn, "llama3": _llama3}
"""Their rope_type, which is our kind -> its options."""


def _read_scaling(table: Settings, original: Any, context: int) -> dict[str, Any]:
    """`original`: Phi-3's place for the context before scaling, which rules where it is used."""
    kind = table.get("rope_type", "type", default="default")
    if kind in UNSCALED:
        return {"kind": "none"}
    if not isinstance(kind, str) or kind not in _RULES:
        raise ModelError(
            f"{table.where}: the rope_type {kind!r} is not supported.", hint=f"Supported: {', '.join((*UNSCALED[:1], *_RULES))}."
        )
    given = {} if original is None else {"original_max_position_embeddings": original}
    return {"kind": kind, **_RULES[kind](Settings({**table.values, **given}, table.where), context)}


def _write_scaling(config: ModelConfig) -> dict[str, Any]:
    """The rule in their words; nothing without one, or for a kind that has no name there."""
    scaling = config.position.options.scaling
    if scaling.kind not in _RULES:
        return {}
    named = {name: value for name, value in scaling.arguments().items() if value is not None}
    rule = {"rope_type": scaling.kind, **{_NAMES.get(name, name): value for name, value in named.items()}}
    if scaling.kind == "dynamic":
        rule.pop(_NAMES["original"], None)  # always the model's own context there
    if scaling.kind == "yarn":
        rule.setdefault(_NAMES["original"], round(scaling.make().trained(config.max_positions)))
    return rule


_NAMES = {"original": "original_max_position_embeddings", "low": "low_freq_factor", "high": "high_freq_factor"}


def without_ntk(config: ModelConfig) -> ModelConfig:
    """The same function with NTK-aware scaling, which config.json has no name for, folded into the base (exactly)."""
    if config.position.kind != "rope" or config.position.options.scaling.kind != "ntk":
        return config
    options = config.position.options
    position: Any = config.position.make(head_width=config.head_width, max_positions=config.max_positions)
    wheel = Wheel(position.rotary, options.base, config.max_positions, torch.float32, torch.device("cpu"))
    plain = replace(options, base=stretched_base(wheel, options.scaling.options.factor), scaling=ROPE_SCALINGS.choose("none"))
    folded = replace(config, position=replace(config.position, options=plain))
    return config if folded.problems() else folded
