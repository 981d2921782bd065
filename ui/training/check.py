"""A look at data before a run: on a thread of its own, begun anew whenever something it depends on changes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Literal

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Phase

PAUSE_MS: Final = 250
"""Changes within this time are checked together."""
Word = Literal["none", "checking", "checked", "failed"]
Look = Callable[[Any, Any, Control], Generator[Event, None, Any]]
"""(session, what is wanted, control) -> what was found."""


def _looked(look: Look, session: Any, wanted: Any, control: Control) -> Generator[Event, None, tuple[Any, Any, JobFailure | None]]:
    """What is wrong with the data is a finding, not a failure of the job."""
    yield Phase(word="Checking data")
    try:
        found = yield from look(session, wanted, control)
    except WorkbenchError as error:
        return wanted, None, JobFailure.of(error)
    return wanted, found, None


class Check(QObject):
    """Keeps one check up to date. `changed` comes when `word`, `progress` or what was found is another."""

    changed = Signal()

    def __init__(self, services: Services, look: Look, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._look = look
        self._wanted: Any = None
        self._job: Job | None = None
        self._soon = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._soon.timeout.connect(self._begin)
        self.word: Word = "none"
        self.progress = ""
        self.found: Any = None
        self.failure: JobFailure | None = None

    def want(self, wanted: Any) -> None:
        """Check this soon, unless it is what was checked last; None: there is nothing to check."""
        if wanted != self._wanted:
            self._wanted = wanted
            self.again()

    @Slot()
    def again(self) -> None:
        """Check once more: a file may have changed."""
        self._leave()
        self.found = self.failure = None
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
                partial(_looked, self._look, self._services.engine, self._wanted),
                "background",
                on_events=self._on_events,
                on_done=self._on_done,
                on_failed=self._on_failed,
            )
        except WorkbenchError as error:  # the window is closing
            self._on_failed(JobFailure.of(error))

    def _on_events(self, events: list[Event]) -> None:
        if self._job is not None:
            now = self._job.progress
            self.progress = f"{now.done:,.0f} {now.unit}".strip() if now.done else now.message
            self.changed.emit()

    def _on_done(self, answer: tuple[Any, Any, JobFailure | None]) -> None:
        wanted, found, failure = answer
        report = getattr(found, "report", found)
        if wanted != self._wanted or getattr(report, "stopped", False):
            return  # a newer check is on its way
        self._job = None
        self.found, self.failure = found, failure
        self.word = "failed" if failure is not None else "checked"
        self.changed.emit()

    def _on_failed(self, failure: JobFailure) -> None:
        if self._job is not None and self._job.control.stopping:
            return
        self._job = None
        self.failure, self.word = failure, "failed"
        self.changed.emit()
