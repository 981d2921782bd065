"""What long work says while it runs: small frozen values, safe to hand to another thread.

The engine yields them, the worker forwards them, the command line prints them as JSON lines. They carry numbers, strings
and numpy copies, never tensors or models.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """`metrics` maps names of `METRICS` to measured values; `at` is seconds on the `perf_counter` clock."""

    name: ClassVar[str] = "event"
    coalesce: ClassVar[bool] = False
    """True when only the newest of several waiting events matters (progress); tokens and steps are never dropped."""
    kept: ClassVar[bool] = False
    """True when the record of a run keeps it, though it carries no metrics."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    at: float = field(default_factory=time.perf_counter)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields with the event's name first; empty metrics and the clock are left out."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("metrics", "at")}
        return {"event": self.name, **plain, **({"metrics": dict(self.metrics)} if self.metrics else {})}


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Work of known or unknown length: `done` of `total` `unit`s (total None: not known)."""

    name: ClassVar[str] = "progress"
    coalesce: ClassVar[bool] = True
    message: str
    done: float = 0
    total: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something a person should read: `level` is "info" or "warning"."""

    name: ClassVar[str] = "notice"
    message: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class Phase(Event):
    """The job entered another phase; `word` is one of the progress words of the window (Loading, Training, Paused…)."""

    name: ClassVar[str] = "phase"
    word: str
