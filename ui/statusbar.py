"""The status bar: device, model, memory, KV cache and the running job, in figures that do not jump."""

from __future__ import annotations

from typing import Any, Final

import psutil
from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QFontMetrics, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QStatusBar, QWidget

from ui.jobs.runner import Job
from ui.services import Services
from ui.theme import MEDIUM, SMALL, tabular
from workbench.core.events import Event
from workbench.core.format import bytes_text, count_text, duration_text

LEAST_NAME_WIDTH: Final = 100
MEMORY_EVERY_MS: Final = 2_000
LANE_ORDER: Final = ("train", "model", "chat", "background")
_PANEL_OF: Final = {"train": "finetune", "model": "architecture", "chat": "chat", "background": "log"}


class Cell(QLabel):
    """One figure. Its width only grows, so that its neighbours stay where they are; a name (`grows` False) gives way and is cut."""

    clicked = Signal()

    def __init__(self, name: str, tooltip: str, grows: bool = True) -> None:
        super().__init__()
        self._grows = grows
        self.setObjectName(f"status.{name}")
        self.setToolTip(tooltip)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._name = name

    def show_text(self, text: str) -> None:
        """Replace the text; an empty one hides the cell."""
        if text == self.text():
            return
        self.setText(text)
        self.setAccessibleName(f"{self._name}: {text}")
        self.setVisible(bool(text))
        width = self.fontMetrics().horizontalAdvance(text) + SMALL
        self.setMinimumWidth(max(self.minimumWidth(), width) if text and self._grows else 0)

    def minimumSizeHint(self) -> QSize:
        size = super().minimumSizeHint()
        return size if self._grows else QSize(min(size.width(), LEAST_NAME_WIDTH), size.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._grows:
            super().paintEvent(event)
            return
        painter = QPainter(self)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, self.width())
        self.style().drawItemText(painter, self.rect(), int(Qt.AlignmentFlag.AlignVCenter), self.palette(), self.isEnabled(), text)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.FontChange:
            self.setMinimumWidth(0)
        super().changeEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.clicked.emit()


class StatusBar(QStatusBar):
    """Follows the bus; reads the memory every two seconds while it is visible."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._process = psutil.Process()
        self._cache_bytes: float | None = None
        self.setSizeGripEnabled(False)
        self.setFont(tabular(self.font()))
        self.device = Cell("Device", "Where models are computed, and the format of their weights.", grows=False)
        self.model = Cell("Model", "The model in use and its number of parameters.", grows=False)
        self.memory = Cell("Memory", "Memory of this program, and what is free on this computer. Measured every 2 s.")
        self.cache = Cell("KV cache", "Bytes of the keys and values of the running conversation, measured on the tensors.")
        self.job = Cell("Job", "What is running. Click to go to its panel.", grows=False)
        self.numbers = Cell("Progress", "Steps done, and the time left as far as it is known (estimated).")
        self.bar = QProgressBar(textVisible=False, maximum=1000)
        self.bar.setAccessibleName("Progress of the running job")
        self.bar.setFixedSize(30 * SMALL, 3 * SMALL)
        self._lay_out()
        self._connect(services)
        self._timer = QTimer(self, interval=MEMORY_EVERY_MS)
        self._timer.timeout.connect(self._read_memory)
        self.device.show_text("Loading the engine…")
        self.model.show_text("No model")
        self._show_job()

    def _lay_out(self) -> None:
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(MEDIUM, 0, MEDIUM, 0)
        layout.setSpacing(3 * SMALL)
        for cell in (self.device, self.model, self.memory, self.cache):
            layout.addWidget(cell)
        layout.addStretch(1)
        for part in (self.job, self.bar, self.numbers):
            layout.addWidget(part)
        self.addWidget(row, 1)
        self.numbers.setMinimumWidth(QFontMetrics(self.font()).horizontalAdvance("000/000 · ~00 min left"))

    def _connect(self, services: Services) -> None:
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.model_changed.connect(self._on_model)
        bus.events.connect(self._on_events)
        bus.job_started.connect(self._on_job_started)
        bus.job_finished.connect(self._show_job)
        self.job.clicked.connect(self._go_to_job)
        self.memory.clicked.connect(self._read_memory)

    # ---- figures -------------------------------------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._read_memory()
        self._timer.start()

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        self._timer.stop()

    @Slot()
    def _read_memory(self) -> None:
        own = self._process.memory_info().rss
        self.memory.show_text(f"Memory {bytes_text(own)} · {bytes_text(psutil.virtual_memory().available)} free")

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        self.device.show_text(session.compute.label)
        self.device.setToolTip(f"Where models are computed, and in which precision: {session.compute.reason}.")

    @Slot(object)
    def _on_engine_failed(self, failure: Any) -> None:
        self.device.show_text("The engine did not load")

    @Slot(object)
    def _on_model(self, model: Any) -> None:
        self._cache_bytes = None
        self.cache.show_text("")
        if model is None:
            self.model.show_text("No model")
            return
        self.model.show_text(f"{model.name} · {count_text(model.parameters)}")
        self.model.setToolTip(f"{model.name}\n{model.path}\n{bytes_text(model.parameter_bytes)} of weights in {model.precision}")

    @Slot(object)
    def _on_events(self, events: list[Event]) -> None:
        for event in reversed(events):
            if "cache_bytes" in event.metrics and not getattr(event, "side", ""):  # a comparison shows both of its caches itself
                self.cache.show_text(f"KV cache {bytes_text(event.metrics['cache_bytes'])}")
                return

    # ---- the running job -----------------------------------------------------------------------------------------

    def current_job(self) -> Job | None:
        """The running job that matters most: a training before a chat, a chat before a download."""
        jobs = self._services.jobs
        return next((job for lane in LANE_ORDER if (job := jobs.running(lane)) is not None and job.running), None)

    @Slot(object)
    def _on_job_started(self, job: Job) -> None:
        job.changed.connect(self._show_job)
        self._show_job()

    @Slot()
    def _show_job(self) -> None:
        job = self.current_job()
        if job is None:
            self.job.show_text("Idle")
            self.bar.hide()
            self.numbers.hide()
            return
        progress = job.progress
        more = sum(j.running for j in self._services.jobs.jobs) - 1
        word = "Stopping…" if job.stopping else job.state
        self.job.show_text(f"{word}: {job.title}" + (f" (+{more})" if more > 0 else ""))
        self.job.setToolTip(f"{job.title}. Click to go to its panel.")
        known = bool(progress.total)
        self.bar.setVisible(known)
        if known:
            self.bar.setValue(int(1000 * min(1.0, progress.done / float(progress.total or 1))))
        self.numbers.setText(progress_text(job))
        self.numbers.setVisible(bool(self.numbers.text()))

    @Slot()
    def _go_to_job(self) -> None:
        job = self.current_job()
        if job is not None:
            self._services.bus.show_panel.emit(_PANEL_OF[job.lane])


def progress_text(job: Job) -> str:
    """ "12/60 · ~1 min 05 s left": how far a job is, in its own unit."""
    p = job.progress
    if p.unit == "B":
        parts = [bytes_text(p.done) + (f"/{bytes_text(p.total)}" if p.total else "")]
    elif p.total:
        parts = [f"{p.done:.0f}/{p.total:.0f}"]
    else:
        parts = [f"{p.done:.0f} {p.unit}"] if p.done else ([p.message] if p.message else [])
    if p.eta_seconds is not None and job.state != "Paused":
        parts.append(f"~{duration_text(p.eta_seconds)} left")
    return " · ".join(parts)
