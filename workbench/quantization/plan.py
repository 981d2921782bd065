"""What a quantization would do, module by module, before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.core.fields import require_usable
from workbench.model import Transformer
from workbench.model.surgery import matches
from workbench.quantization.base import Scheme, make_scheme
from workbench.quantization.config import QuantizationConfig
from workbench.quantization.places import NORM, Place, places

CHOSEN, SKIPPED_BY, NOT_NAMED = "", "Left as it is: matches {!r}.", "Not among the modules that were named."
NORM_CODES = "As 8-bit gains with one scale."


@dataclass(frozen=True)
class ModulePlan:
    """One module. `kind`: linear, head, embedding or norm. `reason` says why it stays, or what else there is to know; one that is
    `fixed` stays whatever is chosen."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bytes_before: int
    bytes_after: int
    chosen: bool
    reason: str
    fixed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "shape": list(self.shape)}


@dataclass(frozen=True)
class QuantizationPlan:
    """Every module with weights, in the model's order; bytes of the whole model as loaded and as it would be."""

    rows: tuple[ModulePlan, ...]
    bytes_before: int
    bytes_after: int

    @property
    def chosen(self) -> tuple[ModulePlan, ...]:
        return tuple(row for row in self.rows if row.chosen)

    def to_json(self) -> dict[str, Any]:
        return {"rows": [row.to_json() for row in self.rows], "bytes_before": self.bytes_before, "bytes_after": self.bytes_after}


def plan(model: Transformer, config: QuantizationConfig) -> QuantizationPlan:
    """What `config` would do to `model`, counted from its weights in full precision even where some are quantized now. Nothing is
    allocated. Raises `ConfigError` for unusable settings."""
    require_usable(config)
    scheme = make_scheme(config.scheme)
    rows = tuple(_row(place, config, scheme) for place in places(model))
    return QuantizationPlan(rows, sum(row.bytes_before for row in rows), sum(row.bytes_after for row in rows))


def _row(place: Place, config: QuantizationConfig, scheme: Scheme) -> ModulePlan:
    before = place.plain_nbytes
    chosen, reason = decision(place, config)
    after = after_nbytes(place, scheme) if chosen else before
    return ModulePlan(place.name, place.kind, place.shape, before, after, chosen, reason, bool(place.fixed))


def decision(place: Place, config: QuantizationConfig) -> tuple[bool, str]:
    """Whether `config` takes this place, and why not."""
    if place.fixed:
        return False, place.fixed
    for pattern in config.skip:
        if matches(place.name, pattern):
            return False, " ".join(filter(None, (SKIPPED_BY.format(pattern), place.note)))
    if not any(matches(place.name, pattern) for pattern in config.modules):
        return False, " ".join(filter(None, (NOT_NAMED, place.note)))
    return True, place.note or (NORM_CODES if place.kind == NORM else CHOSEN)


def after_nbytes(place: Place, scheme: Scheme) -> int:
    """Bytes of the module once quantized, its bias included."""
    bias = getattr(place.module, "bias", None)
    extra = 0 if bias is None else bias.nbytes
    if place.kind == NORM:
        return place.shape[0] + 4 + extra
    return scheme.nbytes(place.shape[0], place.shape[1]) + extra
