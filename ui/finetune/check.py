"""The look at data and model before a run: on a thread of its own, begun anew whenever something it depends on changes."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.adapters import LoraConfig
from workbench.adapters.counts import TrainableCounts
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Phase
from workbench.data import DataConfig, DataReport
from workbench.model.surgery import matching

PAUSE_MS: Final = 250
"""Changes within this time are checked together."""
_MATRIX: Final = "_proj.weight"
Word = Literal["none", "checking", "checked", "failed"]


@dataclass(frozen=True)
class Priced:
    """What the loaded model's blocks are made of: each linear's number of weights, and the width that one side of it has."""

    parameters: int
    width: int
    matrices: Mapping[str, int]

    @classmethod
    def of(cls, accounting: Any) -> Priced:
        """From an `Accounting`."""
        matrices = {
            n.removesuffix(".weight"): c for n, c in accounting.by_tensor.items() if n.startswith("blocks.") and n.endswith(_MATRIX)
        }
        return cls(accounting.parameters, accounting.config.d_model, matrices)

    def trainable(self, lora: LoraConfig) -> TrainableCounts:
        """r · (in + out) per chosen matrix. Raises `ConfigError` when a pattern matches no layer."""
        names: Collection[str] = self.matrices
        chosen = matching(names, lora.patterns())
        return TrainableCounts(sum(lora.r * (self.width + self.matrices[n] // self.width) for n in chosen), self.parameters)


@dataclass(frozen=True)
class Wanted:
    """What a check is about; another one makes the last check worthless. `model` is only compared."""

    data: DataConfig
    max_length: int
    model: object


@dataclass(frozen=True)
class Checked:
    """What a check found: the report, or why there is none."""

    wanted: Wanted
    priced: Priced | None = None
    report: DataReport | None = None
    failure: JobFailure | None = None


def run_check(session: Any, wanted: Wanted, control: Control) -> Generator[Event, None, Checked]:
    """Price the model and read the data. What is wrong with the data is a finding, not a failure of the job."""
    yield Phase(word="Checking data")
    priced = None
    try:
        priced = Priced.of(session.account())
        report = yield from session.preflight(wanted.data, wanted.max_length, control)
    except WorkbenchError as error:
        return Checked(wanted, priced, failure=JobFailure.of(error))
    return Checked(wanted, priced, report)


class Preflight(QObject):
    """Keeps one check up to date. `changed` comes when `word`, `progress` or what was found is another."""

    changed = Signal()

    def __init__(self, services: Services, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._wanted: Wanted | None = None
        self._job: Job | None = None
        self._soon = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._soon.timeout.connect(self._begin)
        self.word: Word = "none"
        self.progress = ""
        self.priced: Priced | None = None
        self.report: DataReport | None = None
        self.failure: JobFailure | None = None

    @property
    def usable(self) -> bool:
        """The data were read and something in them would be learnt."""
        return self.word == "checked" and self.report is not None and self.report.usable

    def want(self, wanted: Wanted | None) -> None:
        """Check this soon, unless it is what was checked last; None: there is nothing to check."""
        if wanted == self._wanted:
            return
        if wanted is None or self._wanted is None or wanted.model != self._wanted.model:
            self.priced = None
        self._wanted = wanted
        self.again()

    @Slot()
    def again(self) -> None:
        """Check once more: a file may have changed."""
        self._leave()
        self.report = self.failure = None
        self.progress = ""
        self.word = "none" if self._wanted is None else "checking"
        if self._wanted is not None:
            self._soon.start()
        self.changed.emit()

    def _leave(self) -> None:
        self._soon.stop()
        if self._job is not None:
            self._job.stop(save=False)
            self._job = None

    @Slot()
    def _begin(self) -> None:
        if self._wanted is None:
            return
        try:
            self._job = self._services.jobs.start(
                "Checking the data",
                partial(run_check, self._services.engine, self._wanted),
                "background",
                on_events=self._on_events,
                on_done=self._on_done,
                on_failed=self._on_failed,
            )
        except WorkbenchError as error:  # the window is closing
            self._on_failed(JobFailure.of(error))

    def _on_events(self, events: list[Event]) -> None:
        if self._job is not None:
            done = self._job.progress.done
            self.progress = f"{done:,.0f} rows" if done else ""
            self.changed.emit()

    def _on_done(self, checked: Checked) -> None:
        if checked.wanted != self._wanted or (checked.report is not None and checked.report.stopped):
            return  # a newer check is on its way
        self._job = None
        self.priced, self.report, self.failure = checked.priced or self.priced, checked.report, checked.failure
        self.word = "failed" if checked.failure is not None else "checked"
        self.changed.emit()

    def _on_failed(self, failure: JobFailure) -> None:
        if self._job is not None and self._job.control.stopping:
            return
        self._job = None
        self.failure, self.word = failure, "failed"
        self.changed.emit()
