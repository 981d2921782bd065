"""Rotary settings as config.json spells them: transformers 5 in `rope_parameters`, older files at the top level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.settings import Settings
from workbench.core.errors import ModelError

UNSCALED = ("default", "none")


def read_rope(settings: Settings, default_base: float = 10000.0) -> dict[str, Any]:
    """The `position` of a `ModelConfig`. Files that carry both spellings are read by the newer one.

    Raises `ModelError` for a scaling rule: running such a model without it would degrade it silently.
    """
    newer, older = settings.get("rope_parameters"), settings.get("rope_scaling")
    for key, value in (("rope_parameters", newer), ("rope_scaling", older)):
        if value is not None and not isinstance(value, Mapping):
            raise settings.wrong(key, value, "a table")
    if isinstance(newer, Mapping) and any(isinstance(v, Mapping) for v in newer.values()):
        raise ModelError(f"{settings.where}: rope_parameters differ between layers, which is not supported.", hint="Choose another model.")
    merged = {**(older or {}), **(newer or {})}
    kind = merged.get("rope_type", merged.get("type")) or "default"
    if kind not in UNSCALED:
        raise ModelError(
            f"{settings.where}: the rope_type {kind!r} is not supported.", hint="Only models without RoPE scaling can be opened so far."
        )
    settings.refuse("rope_interleaved", (False,))
    top = {key: value for key in ("rope_theta", "partial_rotary_factor") if (value := settings.get(key)) is not None}
    table = Settings({**top, **merged}, settings.where)
    return {
        "kind": "rope",
        "base": table.number("rope_theta", default=default_base),
        "style": "half",
        "rotary_fraction": table.number("partial_rotary_factor", default=1.0),
    }


def write_rope(options: Any) -> dict[str, Any]:
    """Both spellings at once, so that every version of transformers finds its own."""
    parameters = {"rope_type": "default", "rope_theta": options.base}
    if options.rotary_fraction != 1:
        parameters["partial_rotary_factor"] = options.rotary_fraction
    return {"rope_parameters": parameters, "rope_theta": options.base}
