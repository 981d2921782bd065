"""What the panel knew when it was last open: the settings of the run, and the files that were used. Qt-free."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from workbench.adapters import LoraConfig
from workbench.core.errors import WorkbenchError
from workbench.core.fields import from_dict
from workbench.core.store import read_json, write_json
from workbench.data import DataConfig
from workbench.requests import FinetuneRequest
from workbench.training import TrainConfig

C = TypeVar("C", DataConfig, LoraConfig, TrainConfig)
Sources = tuple[str, ...]
FILE: Final = "finetune.json"
RECENT_KEPT: Final = 8
_KIND, _VERSION = "workbench fine-tune settings", 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """The settings as left, and the sources used lately, newest first."""

    request: FinetuneRequest
    recent: tuple[Sources, ...] = ()

    def used(self, sources: Sources) -> Remembered:
        """With `sources` as the newest of the recent ones."""
        rest = [s for s in self.recent if s != sources]
        return replace(self, recent=(sources, *rest)[:RECENT_KEPT])


def load(path: Path) -> Remembered:
    """What `path` holds; settings of another age that no longer fit fall back to their default, one by one."""
    fresh = Remembered(FinetuneRequest(data=DataConfig()))
    if not path.exists():
        return fresh
    try:
        data = read_json(path, kind=_KIND, version=_VERSION)
        request = FinetuneRequest(
            data=_tolerant(DataConfig, data.get("data", {})),
            lora=_tolerant(LoraConfig, data.get("lora", {})),
            train=_tolerant(TrainConfig, data.get("train", {})),
        )
        return Remembered(request, tuple(tuple(map(str, s)) for s in data.get("recent", ()) if s)[:RECENT_KEPT])
    except (WorkbenchError, TypeError, ValueError, AttributeError, OSError) as error:
        _log.warning("The fine-tune settings of last time are not used: %s", error)
        return fresh


def save(path: Path, remembered: Remembered) -> None:
    """Write atomically. Raises `FileError`."""
    recent = [list(s) for s in remembered.recent]
    write_json(path, {**remembered.request.to_dict(), "recent": recent}, kind=_KIND, version=_VERSION)


def _tolerant(config_type: type[C], data: Mapping[str, Any]) -> C:
    known = {f.name for f in fields(config_type)}
    value = from_dict(config_type, {k: v for k, v in data.items() if k in known})
    default = config_type()
    return replace(value, **{p.field: getattr(default, p.field) for p in value.problems() if p.field in known})
