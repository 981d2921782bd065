"""Carries the chosen cache over to the running conversation, and looks at what it holds."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.errors import WorkbenchError
from workbench.core.format import bytes_text

LANE: Final = "chat"
AFTER_MS: Final = 300
"""Settings changed in quick succession are applied once, when they have come to rest."""
WORDS: Final = {
    "kept": "{tokens:,} tokens stay as they lie",
    "re-encoded": "{tokens:,} tokens were encoded anew from their exact keys and values",
    "recomputed": "what was held cannot be taken over; the conversation is read again with the next message",
}


class CacheController(QObject):
    """Follows `runtime.cache`. While a reply is written a new setting waits for its end; without a conversation there is nothing to do."""

    changed = Signal()

    def __init__(self, services: Services, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._job: Job | None = None
        self.words = ""
        """What became of the conversation when a setting last changed."""
        self.failure: JobFailure | None = None
        self._soon = QTimer(self, singleShot=True, interval=AFTER_MS)
        self._soon.timeout.connect(self.apply)
        services.runtime.changed.connect(self._on_config)
        services.bus.job_finished.connect(self._on_job_finished)
        services.bus.model_changed.connect(self._on_model)

    @property
    def report(self) -> Any:
        """CacheReport of the conversation; None when nothing is cached."""
        session = self._services.session
        return None if session is None else session.cache_state()

    @property
    def waiting(self) -> bool:
        """Whether a setting is chosen that the conversation does not have yet."""
        return self._soon.isActive() or self._job is not None

    @Slot(object)
    def _on_config(self, _config: object) -> None:
        self._soon.start()
        self.changed.emit()

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self.words, self.failure = "", None
        self.changed.emit()

    @Slot(object)
    def _on_job_finished(self, job: Any) -> None:
        report = self.report
        if job is self._job:
            self._job = None
        elif job.lane == LANE:
            self.words = ""  # a reply was written since
        if report is not None and report.config != self._services.runtime.cache and not self._soon.isActive():
            self._soon.start()
        self.changed.emit()

    @Slot()
    def apply(self) -> None:
        """Go over to the chosen cache now, if there is a conversation and nobody is writing."""
        report, config = self.report, self._services.runtime.cache
        if report is None or self._job is not None or report.config == config or self._services.jobs.blocker(LANE) is not None:
            return
        if config.problems():
            return
        self.failure = None
        try:
            self._job = self._services.jobs.start(
                "Changing the cache", partial(self._services.engine.set_cache, config), LANE,
                on_done=self._on_done, on_failed=self._on_failed,
            )  # fmt: skip
        except WorkbenchError as error:
            self.failure = JobFailure.of(error)
        self.changed.emit()

    def _on_done(self, change: Any) -> None:
        if change is None or not (change.bytes_before or change.bytes_after):
            self.words = ""
            return
        sizes = f"{bytes_text(change.bytes_before)} → {bytes_text(change.bytes_after)}: "
        self.words = sizes + WORDS[change.how].format(tokens=change.tokens) + "."

    def _on_failed(self, failure: JobFailure) -> bool:
        self.failure = failure
        return failure.expected
