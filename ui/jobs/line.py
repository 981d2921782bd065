"""A button that starts a job and stops it, and a line that tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure, Make
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.message import Message
from ui.widgets.text import Muted
from workbench.core.errors import WorkbenchError
from workbench.core.format import duration_text

STOPPED: Final = "Stopped."


class JobLine(QWidget):
    """`wanted` asks the owner to call `start`; pressed again it stops. Errors are told below. `buttons` takes more of them."""

    wanted = Signal()
    changed = Signal()
    """A job began or has ended."""

    def __init__(self, services: Services, words: str, tip: str, *, stop_tip: str, stopped: str = STOPPED) -> None:
        super().__init__()
        self._services = services
        self._job: Job | None = None
        self._words, self._tip, self._stop_tip, self._stopped = words, tip, stop_tip, stopped
        self.button = Button(words, tip, primary=True)
        self.bar = QProgressBar(textVisible=False)
        self.bar.setAccessibleName("Progress")
        self.bar.setMaximumHeight(6)
        self.status = Muted()
        self.message = Message(services.theme)
        self.buttons = QHBoxLayout(spacing=SMALL + 2)
        self.buttons.addWidget(self.button)
        self.buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(MEDIUM)
        layout.addLayout(self.buttons)
        for part in (self.bar, self.status, self.message):
            layout.addWidget(part)
        self.bar.hide()
        self.message.hide()
        self.button.clicked.connect(self._pressed)

    @property
    def running(self) -> bool:
        return self._job is not None

    @Slot()
    def _pressed(self) -> None:
        if self._job is None:
            self.wanted.emit()
            return
        self._job.stop(save=True)
        self._follow()

    def start(
        self,
        title: str,
        make: Make,
        lane: str,
        on_done: Callable[[Any], Any],
        on_events: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        """Begin; what keeps the job from running is told below."""
        self.message.hide()
        try:
            self._job = self._services.jobs.start(
                title, make, lane, on_events=on_events, on_done=on_done, on_failed=self._on_failed, on_finished=self._on_finished
            )
        except WorkbenchError as error:
            self.say_error(error.message, error.hint)
            return
        self._job.changed.connect(self._follow)
        self._follow()
        self.changed.emit()

    def show_ready(self, hindrance: str, note: str = "") -> None:
        """While nothing runs: what keeps it from running, as the button's words, and what to know before."""
        if self._job is not None:
            return
        self.button.set_words(hindrance or self._words, hindrance or self._tip)
        self.button.setEnabled(not hindrance)
        self.status.setText(note)

    def say_error(self, message: str, hint: str = "", details: str = "") -> None:
        """An error, below the line."""
        self.message.say("error", message, hint=hint, details=details)
        self.message.show()

    @Slot()
    def _follow(self) -> None:
        if self._job is None:
            return
        self.bar.show()
        self.button.set_words("Stop", self._stop_tip)
        self.button.setEnabled(not self._job.stopping)
        progress = self._job.progress
        words = "Stopping" if self._job.stopping else progress.message or self._job.state
        if progress.unit and progress.total and not self._job.stopping:
            words += f", {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}" if progress.unit != "B" else ""
        if progress.eta_seconds is not None and not self._job.stopping:
            words += f", about {duration_text(progress.eta_seconds)} left"
        self.status.setText(words)
        self.bar.setRange(0, 1000 if progress.total else 0)
        if progress.total:
            self.bar.setValue(round(1000 * progress.done / progress.total))

    def _on_failed(self, failure: JobFailure) -> bool:
        self.say_error(failure.message, failure.hint, failure.details)
        return failure.expected

    def _on_finished(self) -> None:
        stopped = self._job is not None and self._job.state == "Stopped"
        self._job = None
        self.bar.hide()
        self.changed.emit()
        if stopped:
            self.status.setText(self._stopped)
