"""The Monitor panel: one live chart per declared plot, fed by every job's events, on one clock."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QSizePolicy, QSlider, QStackedWidget, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.jobs.runner import Job
from ui.panels import PANELS, PanelPlace
from ui.plots.live_plot import LivePlot
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from workbench.core.events import Event
from workbench.core.metrics import METRICS, PLOTS, MetricInfo, PlotInfo

CLOCK_MS: Final = 50
SIDE_BY_SIDE: Final = 3
"""Charts that always stand beside each other; the others share the last place and are chosen there."""
WINDOWS: Final = (("All points", None), ("Last 1,000", 1_000), ("Last 200", 200), ("Last 50", 50))
BUSY_SHARE: Final = 0.25
"""Drawing may take this share of the GUI thread's time; slower charts are drawn less often."""


@PANELS.register(
    "monitor",
    label="Monitor",
    help="Loss, speed, cache memory and more, measured while work runs.",
    place=PanelPlace("bottom", order=10, icon="monitor"),
)
class MonitorPanel(QWidget):
    """Every event that carries metrics ends up in the chart its `MetricInfo` names."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._began = time.perf_counter()
        self._reply_metrics = [m.name for m in METRICS.values() if m.axis == "time"]
        self.plots = {info.name: self._plot(info) for info in PLOTS.values()}
        self._next_draw = 0.0
        self._clock = QTimer(self)
        self._clock.setInterval(CLOCK_MS)
        self._clock.timeout.connect(self._tick)
        self._build()
        services.bus.events.connect(self._on_events)
        services.bus.job_started.connect(self._on_job_started)
        services.theme.changed.connect(self._mark)

    # ---- construction --------------------------------------------------------------------------------------------

    def _plot(self, info: PlotInfo) -> LivePlot:
        metrics = [m for m in METRICS.values() if m.plot == info.name]
        hint = "Send a message or start a run" if metrics[0].axis == "time" else "No run yet – press Start in Fine-tune"
        plot = LivePlot(info, metrics, empty_text=hint)
        if metrics[0].axis == "time":
            plot.start_run("this session")
        return plot

    def _build(self) -> None:
        names = list(self.plots)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(1)
        for name in names[:SIDE_BY_SIDE]:
            row.addWidget(self.plots[name], 1)
        self.others = QStackedWidget()
        for name in names[SIDE_BY_SIDE:]:
            self.others.addWidget(self.plots[name])
        row.addWidget(self.others, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(self._header(names[SIDE_BY_SIDE:]))
        layout.addLayout(row, 1)

    def _header(self, others: Iterable[str]) -> QHBoxLayout:
        self.smoothing = QSlider(Qt.Orientation.Horizontal)
        self.smoothing.setRange(0, 99)
        self.smoothing.setValue(90)
        self.smoothing.setFixedWidth(96)
        self.smoothing.setToolTip("Weight of earlier points in the smoothed curve (exponential moving average); raw values stay visible.")
        self.smoothing.valueChanged.connect(self._smooth)
        label = QLabel("S&moothing")
        label.setBuddy(self.smoothing)
        self.smoothing.setAccessibleName("Smoothing")
        self.log = QCheckBox("&Logarithmic loss")
        self.log.setToolTip("Draws the loss on a logarithmic axis.")
        self.log.toggled.connect(self.plots["loss"].set_log)
        self.log.toggled.connect(self._mark)
        self.window_choice = QComboBox()
        self.window_choice.setAccessibleName("Points shown")
        self.window_choice.setToolTip("How far back the charts look; zoom and drag work at any time, double-click follows again.")
        for text, points in WINDOWS:
            self.window_choice.addItem(text, points)
        self.window_choice.currentIndexChanged.connect(self._set_window)
        self.other_choice = QComboBox()
        self.other_choice.setAccessibleName("Last chart")
        self.other_choice.setToolTip("What the last chart shows.")
        for name in others:
            self.other_choice.addItem(PLOTS[name].title, name)
        self.other_choice.currentIndexChanged.connect(self._choose_other)
        clear = QToolButton()
        clear.setText("Clear")
        clear.setToolTip("Forget the drawn points; files on disk stay.")
        clear.setAccessibleName("Clear the charts")
        clear.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        icons.bind(clear, "trash", self._services.theme)
        clear.clicked.connect(self._clear)
        row = QHBoxLayout()
        row.setContentsMargins(MEDIUM, SMALL, MEDIUM, SMALL)
        row.setSpacing(MEDIUM)
        spacer = QWidget()
        spacer.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        for widget in (label, self.smoothing, self.log, self.window_choice, spacer, clear, self.other_choice):
            row.addWidget(widget)
        return row

    # ---- what the charts are fed -----------------------------------------------------------------------------------

    @Slot(object)
    def _on_events(self, events: list[Event]) -> None:
        points: dict[str, tuple[list[float], list[float]]] = {}
        for event in events:
            for name, value in event.metrics.items():
                info = METRICS.get(name)
                if info is None:
                    continue
                xs, ys = points.setdefault(name, ([], []))
                xs.append(self._x(info, event))
                ys.append(value)
        for name, (xs, ys) in points.items():
            self.plots[METRICS[name].plot].extend(name, xs, ys)
        if points:
            self._mark()

    def _x(self, info: MetricInfo, event: Event) -> float:
        return event.at - self._began if info.axis == "time" else float(getattr(event, "step", 0))

    @Slot(object)
    def _on_job_started(self, job: Job) -> None:
        if job.lane == "train":
            for plot in self.plots.values():
                if plot.axis == "step":
                    plot.start_run(f"{job.title} {time.strftime('%H:%M:%S')}")
        for name in self._reply_metrics:  # a new job is no continuation of the last one's line
            self.plots[METRICS[name].plot].gap(name)

    # ---- drawing -------------------------------------------------------------------------------------------------

    @Slot()
    def _mark(self) -> None:
        if self.isVisible() and not self._clock.isActive():
            self._clock.start()

    @Slot()
    def _tick(self) -> None:
        now = time.perf_counter()
        if now < self._next_draw:
            return
        dirty = [p for p in self.plots.values() if p.dirty and p.isVisible()]
        if not dirty:
            self._clock.stop()
            return
        for plot in dirty:
            plot.refresh()
        self._next_draw = now + sum(p.cost_seconds for p in dirty) / BUSY_SHARE

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._mark()

    def hideEvent(self, event: QHideEvent) -> None:
        self._clock.stop()
        super().hideEvent(event)

    # ---- controls ------------------------------------------------------------------------------------------------

    @Slot(int)
    def _smooth(self, percent: int) -> None:
        for plot in self.plots.values():
            plot.set_smoothing(percent / 100)
        self._mark()

    @Slot()
    def _set_window(self) -> None:
        for plot in self.plots.values():
            plot.set_window(self.window_choice.currentData())
        self._mark()

    @Slot()
    def _choose_other(self) -> None:
        self.others.setCurrentWidget(self.plots[self.other_choice.currentData()])
        self._mark()

    @Slot()
    def _clear(self) -> None:
        for plot in self.plots.values():
            plot.clear()
            if plot.axis == "time":
                plot.start_run("this session")
        self._mark()
