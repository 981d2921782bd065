"""What a training run says while it runs, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event


@dataclass(frozen=True, kw_only=True)
class TrainEvent(Event):
    """Update number `step` of `of` is done when it says so (`of` is an estimate for a run that is as long as a time).
    `run` tells the runs of a pair apart ("A", "B"); it is "" for a run by itself."""

    step: int
    of: int
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        plain = super().to_json()
        return plain if self.run else {k: v for k, v in plain.items() if k != "run"}


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
class ProbeEvent(TrainEvent):
    """A look inside: the metrics are members of `core.metrics.FAMILIES`, one value per block."""

    name: ClassVar[str] = "probe"


@dataclass(frozen=True, kw_only=True)
class SampleEvent(TrainEvent):
    """What the model writes at this step: `text` continues `prompt`. Of a model that fills in masked tokens, `text` is a
    held-out passage with its guesses in brackets."""

    name: ClassVar[str] = "sample"
    kept: ClassVar[bool] = True
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class PairEvent(TrainEvent):
    """Both runs of a pair have done this step: the metrics compare them."""

    name: ClassVar[str] = "pair"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """`reason` is "done" or "stopped"; `steps` updates were made; `final` holds the last value of each metric.

    `adapter` is the folder in PEFT's format, `model` that of a model trained from scratch, `folder` the run's; None when
    nothing was written. `best_step` had the lowest loss on the held-out examples (None: nothing was evaluated). `runs` are the
    results of a pair's two runs.
    """

    reason: str
    steps: int
    final: Mapping[str, float] = field(default_factory=dict)
    adapter: Path | None = None
    model: Path | None = None
    folder: Path | None = None
    best_step: int | None = None
    runs: Mapping[str, TrainResult] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; folders and runs that there are not are left out, but for the adapter."""
        plain: dict[str, Any] = {"reason": self.reason, "steps": self.steps, "final": dict(self.final)}
        plain["adapter"] = None if self.adapter is None else str(self.adapter)
        plain |= {} if self.best_step is None else {"best_step": self.best_step}
        plain |= {name: str(path) for name, path in (("model", self.model), ("folder", self.folder)) if path is not None}
        return plain | ({"runs": {name: run.to_json() for name, run in self.runs.items()}} if self.runs else {})


class TrainingDiverged(WorkbenchError):
    """The loss or its gradient is no longer a finite number. `step` is the update that could not be made.

    The trained parameters are back at `good_step`, the last state that gave a finite loss; `saved` is where they lie on disk.
    """

    def __init__(self, message: str, *, hint: str, step: int, good_step: int, saved: Path | None) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.good_step = good_step
        self.saved = saved
