"""The Monitor panel: one live chart per declared plot, fed by every job's events, on one clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QMenu, QStackedWidget, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.panels import PANELS, PanelPlace
from ui.plots.activity import ActivityClock
from ui.plots.block_plot import BlockPlot
from ui.plots.live_plot import LivePlot
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.combo import OptionCombo
from ui.widgets.slider import ValueSlider
from ui.widgets.toggle import TickBox
from workbench.core.events import Event
from workbench.core.metrics import FAMILIES, METRICS, PLOTS, MetricFamily, PlotInfo

CLOCK_MS: Final = 50
DRAWING_SHARE: Final = 0.015
"""Of the GUI thread's time, as measured. Charts that are dear to draw are drawn less often; values wait, none is lost."""
SIDE_BY_SIDE: Final = 3
"""Charts that always stand beside each other; the others share the last place and are chosen there. A chart whose runs do not
lie over each other (two runs side by side) takes the first place while it is the newest."""
WINDOWS: Final = ((None, "All points"), (1_000, "Last 1,000"), (200, "Last 200"), (50, "Last 50"))
SESSION: Final = "this session"
FILE_KINDS: Final = ("png", "svg", "csv")


@PANELS.register(
    "monitor",
    label="Monitor",
    help="Loss, speed, cache memory and more, measured while work runs.",
    place=PanelPlace("bottom", order=10, icon="monitor"),
)
class MonitorPanel(QWidget):
    """Every event that carries metrics ends up in the chart its `MetricInfo` names.

    What is measured per step belongs to a run: each training job is a new one, drawn over the earlier ones. What is measured
    in time belongs to one axis of the session, from which idle time is cut out.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._activity = ActivityClock()
        self._run_count = 0
        self._run_note = ""
        self._drawn: list[LivePlot | BlockPlot] = []
        self._drawn_at = 0.0
        self.plots = {info.name: self._plot(info) for info in PLOTS.values()}
        self.blocks: dict[str, BlockPlot] = {}
        """Charts of what was seen inside the blocks; made with the first look."""
        self._clock = QTimer(self)
        self._clock.setInterval(CLOCK_MS)
        self._clock.timeout.connect(self._tick)
        self._build()
        self._add_commands()
        services.bus.events.connect(self._on_events)
        services.bus.job_started.connect(self._on_job_started)
        services.bus.job_finished.connect(self._on_job_finished)
        services.theme.changed.connect(self._mark)

    # ---- construction --------------------------------------------------------------------------------------------

    @staticmethod
    def _plot(info: PlotInfo) -> LivePlot:
        metrics = [m for m in METRICS.values() if m.plot == info.name]
        if metrics[0].axis == "step":
            return LivePlot(info, metrics)
        plot = LivePlot(info, metrics, x_label="active time (min:s)", empty_text="Nothing measured yet –\nsend a message or start a run")
        plot.start_run(SESSION)
        return plot

    def _build(self) -> None:
        names = [name for name, info in PLOTS.items() if info.overlay]
        self.first = QStackedWidget()
        for name in (names[0], *(n for n, info in PLOTS.items() if not info.overlay)):
            self.first.addWidget(self.plots[name])
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(1)
        row.addWidget(self.first, 1)
        for name in names[1:SIDE_BY_SIDE]:
            row.addWidget(self.plots[name], 1)
        self.others = QStackedWidget()
        for name in names[SIDE_BY_SIDE:]:
            self.others.addWidget(self.plots[name])
        row.addWidget(self.others, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(self._bar(names[SIDE_BY_SIDE:]))
        layout.addLayout(row, 1)

    def _bar(self, others: Sequence[str]) -> QHBoxLayout:
        tip = "Weight of the earlier points in the averaged curve (exponential moving average); raw values stay visible, faint."
        self.smoothing = ValueSlider("Smoothing", 0.0, 0.99, 0.01, 0.9, tip)
        self.smoothing.setFixedWidth(130)
        self.smoothing.changed.connect(self._smooth)
        label = QLabel("S&moothing")
        label.setToolTip(tip)
        label.setBuddy(self.smoothing.slider)
        self.log = TickBox("Logarithmic")
        self.log.setToolTip("Draw what is measured per step on a logarithmic axis. Each chart's menu ⋯ sets its own axis.")
        self.log.toggled.connect(self._set_log)
        self.window_choice = self._choice(
            "Points shown", "How far back the charts look. Zoom and drag at any time; double-click to follow."
        )
        self.window_choice.fill([(points, text, "") for points, text in WINDOWS])
        self.window_choice.currentIndexChanged.connect(self._set_window)
        self.other_choice = self._choice("Last chart", "What the last chart shows.")
        self.other_choice.setFixedWidth(190)  # "Largest activation by block"
        self.other_choice.fill([(name, PLOTS[name].title, "") for name in others])
        self.other_choice.currentIndexChanged.connect(self._choose_other)
        self.clear_button = self._button("Clear", "trash", "Forget the drawn points; files on disk stay.")
        self.clear_button.clicked.connect(self.clear)
        self.export_button = self._button("Export", "export", "Save every chart that has values into a folder.")
        self.export_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.export_button.setMenu(self._export_menu())
        row = QHBoxLayout()
        row.setContentsMargins(MEDIUM, SMALL, MEDIUM, SMALL)
        row.setSpacing(MEDIUM)
        for widget in (label, self.smoothing, self.log, self.window_choice):
            row.addWidget(widget)
        row.addStretch(1)
        for widget in (self.export_button, self.clear_button, self.other_choice):
            row.addWidget(widget)
        return row

    @staticmethod
    def _choice(name: str, tooltip: str) -> OptionCombo:
        choice = OptionCombo()
        choice.setAccessibleName(name)
        choice.setToolTip(tooltip)
        choice.setFixedWidth(132)
        return choice

    def _button(self, text: str, icon: str, tooltip: str) -> QToolButton:
        button = QToolButton(text=text, autoRaise=True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setToolTip(tooltip)
        button.setAccessibleName(f"{text} the charts")
        button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        icons.bind(button, icon, self._services.theme)
        return button

    def _export_menu(self) -> QMenu:
        menu = QMenu(self)
        for kind in FILE_KINDS:
            action = menu.addAction(f"All charts as {kind.upper()}…")
            action.setData(kind)
        menu.triggered.connect(lambda action: self.ask_export(action.data()))
        return menu

    def _add_commands(self) -> None:
        add, tip = self._services.actions.add, self.clear_button.toolTip()
        add("monitor.clear", "Clear the &charts", self.clear, tooltip=tip, menu="View")
        add("monitor.export", "Save chart &values…", self._export_values, tooltip="Save every chart's values as CSV files.", menu="View")

    # ---- what the charts are fed -----------------------------------------------------------------------------------

    @Slot(object)
    def _on_events(self, events: list[Event]) -> None:
        points: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        seen = False
        for event in events:
            if not event.metrics:
                continue
            at: float | None = None
            side, step = getattr(event, "run", ""), float(getattr(event, "step", 0))
            for name, value in event.metrics.items():
                metric = METRICS.get(name)
                if metric is None or (side and not PLOTS[metric.plot].overlay):  # what compares two runs is said of both at once
                    continue
                timed = metric.axis == "time"
                if timed:
                    at = self._activity.place(event.at) if at is None else at
                xs, ys = points.setdefault((name, getattr(event, "side", "") if timed else side), ([], []))
                xs.append(at if timed and at is not None else step)
                ys.append(value)
            if event.name == "probe":
                seen = self._look_inside(event, step, side) or seen
        for (name, side), (xs, ys) in points.items():
            self._extend(name, side, xs, ys)
        if points or seen:
            self._mark()

    def _extend(self, name: str, side: str, xs: list[float], ys: list[float]) -> None:
        plot = self.plots[METRICS[name].plot]
        if plot.axis == "time":
            if side and side not in plot.runs:
                plot.start_run(side, f"Side {side} of a comparison.")
                plot.start_run(SESSION)  # stays the newest, which values of no side belong to
            plot.extend(name, xs, ys, side or SESSION)
            return
        run = self._run_name(side)
        if run not in plot.runs:
            plot.start_run(run, self._run_note)
        plot.extend(name, xs, ys, run)
        if self.first.indexOf(plot) >= 0 and self.first.currentWidget() is not plot:
            self.first.setCurrentWidget(plot)

    def _run_name(self, side: str) -> str:
        return f"run {max(self._run_count, 1)} {side}".rstrip()

    def _look_inside(self, event: Event, step: float, side: str) -> bool:
        """What an event says of the blocks; True when it said something."""
        found = [(family, values) for family in FAMILIES.values() if (values := family.profile(event.metrics))]
        for family, values in found:
            self._block_plot(family).append(step, values, self._run_name(side))
        return bool(found)

    def _block_plot(self, family: MetricFamily) -> BlockPlot:
        if family.name not in self.blocks:
            plot = self.blocks[family.name] = BlockPlot(family)
            self.others.addWidget(plot)
            self.other_choice.addItem(family.label, family.name)
            if len(self.blocks) == 1:  # who asks to look inside wants to see it
                self.other_choice.setCurrentIndex(self.other_choice.count() - 1)
        return self.blocks[family.name]

    @property
    def charts(self) -> dict[str, LivePlot | BlockPlot]:
        """Every chart there is."""
        return {**self.plots, **self.blocks}

    @Slot(object)
    def _on_job_started(self, job: Any) -> None:
        self._activity.begin(getattr(job, "started_at", time.perf_counter()))
        if job.lane == "train":
            self._run_count += 1
            self._run_note = f"{job.title}, started at {time.strftime('%H:%M')}."
        for metric in METRICS.values():
            if metric.axis == "time":  # a new job is no continuation of the last one's line
                for run in self.plots[metric.plot].runs:
                    self.plots[metric.plot].gap(metric.name, run)

    @Slot(object)
    def _on_job_finished(self, _job: object) -> None:
        self._activity.end()

    # ---- drawing -------------------------------------------------------------------------------------------------

    @Slot()
    def _mark(self) -> None:
        if self.isVisible() and not self._clock.isActive():
            self._clock.start()

    @Slot()
    def _tick(self) -> None:
        """Draw what has changed and can be seen; rest when there is nothing."""
        now = time.perf_counter()
        if now < self._drawn_at + sum(p.cost_seconds for p in self._drawn) / DRAWING_SHARE:
            return
        dirty = [p for p in self.charts.values() if p.dirty and p.isVisible()]
        if not dirty:
            self._clock.stop()
            return
        for plot in dirty:
            plot.refresh()
        self._drawn, self._drawn_at = dirty, now

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._mark()

    def hideEvent(self, event: QHideEvent) -> None:
        self._clock.stop()
        super().hideEvent(event)

    # ---- controls ------------------------------------------------------------------------------------------------

    @Slot(float)
    def _smooth(self, weight: float) -> None:
        for plot in self.plots.values():
            plot.set_smoothing(weight)
        self._mark()

    @Slot(bool)
    def _set_log(self, log: bool) -> None:
        for plot in self.charts.values():
            if plot.axis == "step":
                plot.set_log(log or plot.log_by_nature)
        self._mark()

    @Slot()
    def _set_window(self) -> None:
        for plot in self.plots.values():
            plot.set_window(self.window_choice.currentData())
        self._mark()

    @Slot()
    def _choose_other(self) -> None:
        self.others.setCurrentWidget(self.charts[self.other_choice.currentData()])
        self._mark()

    @Slot()
    def clear(self) -> None:
        """Forget every point. A run that is going on draws on as the newest."""
        self._activity.clear()
        for plot in self.plots.values():
            plot.clear()
            if plot.axis == "time":
                plot.start_run(SESSION)
        for name in list(self.blocks):  # they come back with the next look
            plot = self.blocks.pop(name)
            self._drawn = []
            self.other_choice.removeItem(self.other_choice.findData(name))
            self.others.removeWidget(plot)
            plot.deleteLater()
        self._mark()

    @Slot()
    def _export_values(self) -> None:
        self.ask_export("csv")

    def ask_export(self, kind: str) -> list[Path]:
        """Ask for a folder and save every chart that has values there ("png", "svg", "csv"); the files written."""
        folder = QFileDialog.getExistingDirectory(self, "Save the charts into a folder")
        if not folder:
            return []
        charts = self.charts
        written = [Path(folder) / f"{name}.{kind}" for name, plot in charts.items() if plot.has_values]
        for path in written:
            charts[path.stem].save(path)
        count = f"{len(written)} chart{'s' if len(written) != 1 else ''}"
        self._services.notify.info(f"{count} saved into {folder}." if written else "No chart has values yet; nothing was saved.")
        return written
