"""What a training run says while it runs, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event


@dataclass(frozen=True, kw_only=True)
class TrainEvent(Event):
    """Update number `step` of `of` is done when it says so."""

    step: int
    of: int


@dataclass(frozen=True, kw_only=True)
class StepEvent(TrainEvent):
    """One update. `tokens` were read, `trained_tokens` of them taught something; `seconds` for this step."""

    name: ClassVar[str] = "step"
    tokens: int
    trained_tokens: int
    seconds: float
    eta_seconds: float


@dataclass(frozen=True, kw_only=True)
class EvalEvent(TrainEvent):
    """The loss on the held-out examples is in the metrics; `tokens` were scored."""

    name: ClassVar[str] = "eval"
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SaveEvent(TrainEvent):
    """A checkpoint is safely on disk."""

    name: ClassVar[str] = "save"
    path: Path

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "path": str(self.path)}


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """`reason` is "done" or "stopped"; `steps` updates are in the adapter; `final` holds the last value of each metric.

    `adapter` is the folder in PEFT's format, None when nothing was written.
    """

    reason: str
    steps: int
    final: Mapping[str, float] = field(default_factory=dict)
    adapter: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "final": dict(self.final), "adapter": None if self.adapter is None else str(self.adapter)}


class TrainingDiverged(WorkbenchError):
    """The loss or its gradient is no longer a finite number. `step` is the update that could not be made.

    The trained parameters are back at `good_step`, the last state that gave a finite loss; `saved` is where they lie on disk.
    """

    def __init__(self, message: str, *, hint: str, step: int, good_step: int, saved: Path | None) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.good_step = good_step
        self.saved = saved
