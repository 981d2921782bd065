"""Which family of checkpoints can say everything that an architecture says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isclose
from typing import Any

import torch

from workbench.checkpoints.families.base import Family
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.load import expected_shapes
from workbench.checkpoints.table import placed
from workbench.checkpoints.tensors import TensorInfo
from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import from_dict, to_dict
from workbench.core.registry import Registry
from workbench.model import ModelConfig

_OTHER_PARTS = ["kinds of parts"]
_SINGLE = 1e-6
"""Relative difference of numbers that a file in single precision cannot tell apart."""


def fitting_family(
    registry: Registry[Family],
    config: ModelConfig,
    wanted: str | None,
    *,
    who: str,
    hint: str,
    prefix: Callable[[str], str] = lambda name: "",
) -> tuple[str, Family]:
    """The family (`wanted`, or the first) whose configuration and tensors say everything that `config` says.

    `who` reads such files, `prefix` is what a family's settings begin with. Raises `ModelError` naming what would be lost.
    """
    parameters = {name: torch.empty(shape, device="meta") for name, shape in expected_shapes(config).items()}
    lost: dict[str, list[str]] = {}
    for entry in [registry[wanted]] if wanted else registry:
        family = entry.make()
        lost[entry.name] = _lost(config, family, parameters, prefix(entry.name))
        if not lost[entry.name]:
            return entry.name, family
    name, fields = min(lost.items(), key=lambda item: (item[1] == _OTHER_PARTS, len(item[1])))
    raise ModelError(
        f"{who} {name} cannot express this model's {', '.join(fields)}.",
        hint=hint,
        details="\n".join(f"{family}: {', '.join(fields)}" for family, fields in lost.items()),
    )


def _lost(config: ModelConfig, family: Family, parameters: Mapping[str, torch.Tensor], prefix: str) -> list[str]:
    """What comes back different when written as `family` and read again, each with its value."""
    if family.write is None:
        return ["configuration"]
    try:
        tensors, left = placed(family.table, config, parameters)
        infos = {t.name: TensorInfo(t.shape, t.dtype, t.nbytes) for t in tensors}
        written = {prefix + key: value for key, value in family.write(config).items()}
        extras = family.extras(config) if family.extras else {}
        fields = family.read(Settings(written, "", tensors=infos, prefix=prefix, extras=extras))
        back = from_dict(ModelConfig, {**fields, "tie_embeddings": config.tie_embeddings})
    except (ConfigError, ModelError, AttributeError):  # options of another kind of part, or an activation without a name
        return _OTHER_PARTS
    ours, theirs = _resolved(config), _resolved(back)
    return [word for name in ours for word in _differences(name, ours[name], theirs.get(name))] or left


def _resolved(config: ModelConfig) -> dict[str, Any]:
    """The settings that decide the arithmetic, automatic ones worked out."""
    plain = {name: value for name, value in to_dict(config).items() if name != "init"}
    blocks = range(config.n_layers)
    full = [config.window_of(index) is None for index in blocks]
    worked_out = {
        "n_kv_heads": config.kv_heads,
        "head_dim": config.head_width,
        "d_ff": config.hidden,
        "final_norm": config.has_final_norm,
        "attention_scale": config.score_scale,
        "sliding_window": None if all(full) else config.sliding_window,
        "full_attention_every": config.full_attention_every if any(full) and not all(full) else None,
        "nope_every": None if all(config.positional(index) for index in blocks) else config.nope_every,
        "position": _resolved_scaling(config, plain["position"]),
    }
    return {**plain, **worked_out}


def _resolved_scaling(config: ModelConfig, position: dict[str, Any]) -> dict[str, Any]:
    """`position` with what its scaling leaves open (the context before scaling, the attention factor) worked out."""
    scaling = getattr(config.position.options, "scaling", None)
    if scaling is None:
        return position
    made = scaling.make()
    known = {"original": made.trained(config.max_positions), "attention_factor": made.attention_factor}
    return {**position, "scaling": {**position["scaling"], **{k: v for k, v in known.items() if k in position["scaling"]}}}


def _differences(name: str, ours: Any, theirs: Any) -> list[str]:
    """What of setting `name` differs, as "name = our value"; options of the same kind of part one by one."""
    if ours == theirs or (isinstance(ours, float) and isinstance(theirs, float) and isclose(ours, theirs, rel_tol=_SINGLE)):
        return []
    if not isinstance(ours, Mapping):
        return [f"{name} = {ours}"]
    if not isinstance(theirs, Mapping) or ours.get("kind") != theirs.get("kind"):
        return [f"{name} = {ours.get('kind')}"]
    return [word for key in ours for word in _differences(f"{name}.{key}", ours[key], theirs.get(key))]
