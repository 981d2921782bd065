"""What the build page knew when it was last open: the request, what the variant changes, and how fast this machine trains. Qt-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from ui.training import remembered
from ui.training.remembered import Sources, Stored
from workbench.core.errors import WorkbenchError
from workbench.core.fields import from_dict, to_dict
from workbench.model import PRESETS, ModelConfig
from workbench.requests import PretrainRequest
from workbench.training import PretrainConfig

FILE: Final = "build.json"
PRESET: Final = "tiny-llama"
MINUTES: Final = 5.0
"""The first budget: on two cores enough for readable words."""
_KIND, _VERSION = "workbench build settings", 1
_SPEED, _COMPARE, _CHANGES, _PRESET = "flops_per_second", "compare", "changes", "preset"


def first_request() -> PretrainRequest:
    """What a first start shows: a tiny model, the text that every machine has, five minutes."""
    return PretrainRequest(model=PRESETS[PRESET].config, train=PretrainConfig(max_minutes=MINUTES))


@dataclass(frozen=True)
class Remembered:
    """`preset` names the architecture ("" for one of a person's own); `changes` are fields of the variant and their values;
    `flops_per_second` was measured in the newest run (0: never)."""

    request: PretrainRequest = field(default_factory=first_request)
    preset: str = PRESET
    recent: tuple[Sources, ...] = ()
    compare: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    flops_per_second: float = 0.0

    def used(self, sources: Sources) -> Remembered:
        """With `sources` as the newest of the recent ones."""
        return replace(self, recent=remembered.used(self.recent, sources))


def load(path: Path) -> Remembered:
    """What `path` holds; what no longer fits falls back to a first start's, one by one."""
    fresh = first_request()
    defaults = {"model": fresh.model, "data": fresh.data, "tokenizer": fresh.tokenizer, "train": fresh.train}
    stored = remembered.load(path, _KIND, _VERSION, defaults)
    request, extra = PretrainRequest(**stored.parts), stored.extra
    preset, speed = extra.get(_PRESET, PRESET), extra.get(_SPEED, 0.0)
    if preset in PRESETS:  # a preset may have been corrected since
        request = replace(request, model=PRESETS[preset].config)
    speed = float(speed) if isinstance(speed, int | float) and speed > 0 else 0.0
    changes = _changes(request.model, extra.get(_CHANGES, {}))
    return Remembered(request, preset if preset in PRESETS else "", stored.recent, extra.get(_COMPARE) is True, changes, speed)


def save(path: Path, settings: Remembered) -> None:
    """Write atomically. Raises `FileError`."""
    request = settings.request
    parts = {"model": request.model, "data": request.data, "tokenizer": request.tokenizer, "train": request.train}
    variant = to_dict(replace(request.model, **settings.changes))
    extra = {
        _PRESET: settings.preset, _SPEED: settings.flops_per_second, _COMPARE: settings.compare,
        _CHANGES: {name: variant[name] for name in settings.changes},
    }  # fmt: skip
    remembered.save(path, _KIND, _VERSION, Stored(parts, settings.recent, extra))


def _changes(model: ModelConfig, stored: Any) -> dict[str, Any]:
    """The variant's fields from a file; those that are no longer known are left out."""
    found: dict[str, Any] = {}
    known = {f.name for f in fields(ModelConfig)}
    for name, value in stored.items() if isinstance(stored, dict) else ():
        if name in known:
            try:
                found[name] = getattr(from_dict(ModelConfig, {**to_dict(model), name: value}), name)
            except WorkbenchError:
                continue
    return found


