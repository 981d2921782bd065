"""What would become of the loaded model: planned at once, measured in the background, applied and undone by a person."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from PySide6.QtCore import QObject, QTimer, Signal, Slot

from ui.architecture.verdicts import Verdict, loss_text, of_plan
from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.errors import WorkbenchError

MEASURING_LANE: Final = "background"
MEASURE_AFTER_MS: Final = 700
"""Toggles in quick succession are measured once, when they have come to rest."""
AUTOMATIC_UP_TO: Final = 400e6
"""Parameters of a model that is measured without being asked; a larger one would keep the machine busy too long."""
COPIES: Final = 3
"""Measuring needs a converted copy; so many times the weights must be free before it begins by itself."""
REMEMBERED: Final = 32


class Conversion(QObject):
    """Follows the draft in the form. `plan` and `measured` speak of that draft; `report` of the model in use."""

    changed = Signal()

    def __init__(self, services: Services, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._config: Any = None
        self.plan: Any = None
        self.measured: Any = None
        self._job: Job | None = None
        self._converting: Job | None = None
        self._apply_next = False
        self._failure = ""
        self._asked = False
        self.sample: Path | None = None
        """The text that the loss is measured on; None: the built-in one."""
        self._models = 0
        self._known: dict[Any, Any] = {}
        self._applied: Any = None
        self._pending: Any = None
        self._soon = QTimer(self, singleShot=True, interval=MEASURE_AFTER_MS)
        self._soon.timeout.connect(self.measure)
        services.bus.job_started.connect(self._on_job_started)
        services.bus.job_finished.connect(self._on_job_finished)

    # ---- what is known -------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Any:
        """The session when it can convert and has a model; else None."""
        session = self._services.session
        able = session is not None and hasattr(session, "plan_conversion") and session.model is not None
        return session if able else None

    @property
    def has_model(self) -> bool:
        """Whether there is a model that could be converted."""
        return self._session is not None

    @property
    def report(self) -> Any:
        """How the model in use was converted; None for a model as it was loaded."""
        return getattr(self._session, "conversion", None)

    @property
    def can_undo(self) -> bool:
        """Whether the model before the last conversion is still there."""
        return bool(getattr(self._session, "can_undo_conversion", False))

    @property
    def applied_measure(self) -> Any:
        """What was measured of the conversion in force; None when it was not."""
        return self._applied if self.report is not None else None

    @property
    def estimating(self) -> bool:
        return self._job is not None or self._soon.isActive()

    @property
    def busy(self) -> bool:
        """Whether a conversion is being applied."""
        return self._converting is not None or self._apply_next

    def verdict(self) -> Verdict | None:
        """Of the draft; None when it is the model in use, or there is none."""
        return None if self.plan is None else of_plan(self.plan, self.measured, self.estimating, self._failure)

    # ---- the draft -----------------------------------------------------------------------------------------------

    def want(self, config: Any) -> None:
        """Another draft; None while it cannot be built."""
        self._config = config
        self._asked = False
        self._stop_measuring()
        session = self._session
        self.plan = self.measured = None
        self._failure = ""
        if config is not None and session is not None and config != session.model.config:
            self.plan = session.plan_conversion(config)
            self.measured = self._known.get(self._key(config))
            if self._to_be_measured():
                self._soon.start()
        self.changed.emit()

    def forget(self) -> None:
        """Another model is in use: what was measured of the old one says nothing of it."""
        self._stop_measuring()
        self._known.clear()
        self._models += 1

    def _key(self, config: Any) -> Any:
        return self._models, self.sample, config

    def _to_be_measured(self) -> bool:
        """Whether it should be measured without being asked: it may, it was not, and nobody is kept waiting by it."""
        wanted = self.plan is not None and self.plan.verdict == "approximate" and self.measured is None and not self._failure
        if not wanted or self._session is None:
            return False
        summary = self._session.model
        room = psutil.virtual_memory().available > COPIES * summary.parameter_bytes
        return room and summary.parameters <= AUTOMATIC_UP_TO and not any(job.running for job in self._services.jobs.jobs)

    @Slot()
    def measure_on_builtin(self) -> None:
        """A person asks for the loss on the built-in text."""
        self._measure_on(None)

    def measure_on(self, sample: Path) -> None:
        """A person asks for the loss on a text of their own; it is used from now on."""
        self._measure_on(sample)

    def _measure_on(self, sample: Path | None) -> None:
        self.sample = sample
        self._failure = ""
        self.measured = None if self._session is None or self._config is None else self._known.get(self._key(self._config))
        if self.measured is None:
            self._asked = True
            self._stop_measuring()
            self.measure()
        self.changed.emit()

    @Slot()
    def measure(self) -> None:
        """Find out what the draft does to the loss on the sample, unless that is being done."""
        session = self._session
        if self._job is not None or self.plan is None or session is None:
            return
        self._soon.stop()
        config = self._config
        try:
            self._job = self._services.jobs.start(
                "Measuring a conversion",
                partial(session.measure_conversion, config, self.sample),
                MEASURING_LANE,
                on_done=partial(self._on_measured, self._key(config)),
                on_failed=self._on_not_measured,
                on_finished=self._on_measuring_ended,
            )
        except WorkbenchError as error:
            self._services.notify.exception(error, source="architecture")
        self.changed.emit()

    def _stop_measuring(self) -> None:
        self._soon.stop()
        if self._job is not None:
            self._job.stop(save=False)

    def _on_measured(self, key: Any, found: Any) -> None:
        if found is None:
            return  # it was stopped
        self._asked = False
        while len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[key] = found
        if self._session is not None and self._config is not None and key == self._key(self._config):
            self.measured = found

    def _on_not_measured(self, failure: JobFailure) -> bool:
        if failure.expected:
            self._failure = failure.message
        return failure.expected  # said beside the verdict

    def _on_measuring_ended(self) -> None:
        self._job = None
        if self._apply_next:
            self._apply_next = False
            self.apply()
        elif self._asked and self.plan is not None and self.measured is None and not self._failure:
            QTimer.singleShot(0, self, self.measure)  # another text was asked for while one was measured
        elif self._to_be_measured():
            self._soon.start()  # the draft moved on while the old one was measured
        self.changed.emit()

    @Slot(object)
    def _on_job_started(self, job: Job) -> None:
        """A person's own work has the machine for itself."""
        if job.lane != MEASURING_LANE and self._job is not None and not self._asked:
            self._stop_measuring()

    @Slot(object)
    def _on_job_finished(self, _job: Job) -> None:
        """What had to wait for other work may be measured now."""
        if self._job is None and not self.busy and not self._soon.isActive() and self._to_be_measured():
            self._soon.start()
            self.changed.emit()

    # ---- the model -----------------------------------------------------------------------------------------------

    @Slot()
    def apply(self) -> None:
        """Convert the model in use to the draft; the old one can be brought back."""
        session = self._session
        if session is None or self.plan is None or self._converting is not None:
            return
        if self._job is not None:
            self._apply_next = True
            self._stop_measuring()
            self.changed.emit()
            return
        self._soon.stop()
        self._pending = self.measured
        try:
            self._converting = self._services.jobs.start(
                f"Converting {session.model.name}",
                partial(session.convert, self._config),
                "model",
                on_done=self._on_converted,
                on_finished=self._on_converting_ended,
            )
        except WorkbenchError as error:
            self._services.notify.exception(error, source="architecture")
        self.changed.emit()

    def _on_converted(self, report: Any) -> None:
        if report is None:
            return
        self._applied = self._pending
        self._services.bus.model_changed.emit(self._services.session.model)

    def _on_converting_ended(self) -> None:
        self._converting = None
        self.changed.emit()

    @Slot()
    def undo(self) -> None:
        """Bring back the model as it was before the last conversion."""
        session = self._session
        if session is None or not self.can_undo:
            return
        self._stop_measuring()
        try:
            session.undo_conversion()
        except WorkbenchError as error:
            self._services.notify.exception(error, source="architecture")
            return
        self._applied = None
        self._services.bus.model_changed.emit(session.model)

    @Slot()
    def heal(self) -> None:
        """Ask for a fine-tune of the converted model."""
        if self.report is not None:
            self._services.bus.heal_requested.emit(self.told())

    def told(self) -> str:
        """What was done to the model in use, in one sentence; empty when nothing was."""
        report = self.report
        if report is None:
            return ""
        fields = len({change.field.partition(".")[0] for change in report.changes})
        words = f"Converted: {fields} setting{'s' if fields != 1 else ''} changed"
        if report.verdict == "exact":
            return f"{words}; it computes the same as before."
        if self.applied_measure is not None:
            return f"{words}; {loss_text(self.applied_measure)}."
        return f"{words}; it needs training." if report.verdict == "fresh" else f"{words}; it computes nearly the same."
