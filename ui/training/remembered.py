"""What a panel knew when it was last open, as one file of settings: each part a config, and the files used lately. Qt-free."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from workbench.core.errors import WorkbenchError
from workbench.core.fields import from_dict, to_dict
from workbench.core.store import read_json, write_json

C = TypeVar("C")
Sources = tuple[str, ...]
RECENT_KEPT: Final = 8
_log = logging.getLogger(__name__)


def used(recent: tuple[Sources, ...], sources: Sources) -> tuple[Sources, ...]:
    """`recent` with `sources` as the newest."""
    return (sources, *(s for s in recent if s != sources))[:RECENT_KEPT]


@dataclass(frozen=True)
class Stored:
    """The parts by name, the sources used lately (newest first), and plain values beside them."""

    parts: Mapping[str, Any]
    recent: tuple[Sources, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def load(path: Path, kind: str, version: int, defaults: Mapping[str, Any]) -> Stored:
    """What `path` holds. `defaults` are the parts of a first start; settings of another age that no longer fit fall back to
    them, one by one."""
    fresh = Stored(defaults)
    if not path.exists():
        return fresh
    try:
        data = read_json(path, kind=kind, version=version)
        parts = {name: _tolerant(default, data.get(name, {})) for name, default in defaults.items()}
        recent = tuple(tuple(map(str, s)) for s in data.get("recent", ()) if s)[:RECENT_KEPT]
        return Stored(parts, recent, dict(data.get("extra", {})))
    except (WorkbenchError, TypeError, ValueError, AttributeError, OSError) as error:
        _log.warning("The settings of last time are not used (%s): %s", path.name, error)
        return fresh


def save(path: Path, kind: str, version: int, stored: Stored) -> None:
    """Write atomically. Raises `FileError`."""
    parts = {name: to_dict(part) for name, part in stored.parts.items()}
    write_json(path, {**parts, "recent": [list(s) for s in stored.recent], "extra": dict(stored.extra)}, kind=kind, version=version)


def _tolerant(default: C, data: Mapping[str, Any]) -> C:
    known = {f.name for f in fields(default)}  # type: ignore[arg-type]
    value: Any = from_dict(type(default), {**to_dict(default), **{k: v for k, v in data.items() if k in known}})
    return replace(value, **{n: getattr(default, n) for p in value.problems() if (n := p.field.partition(".")[0]) in known})
