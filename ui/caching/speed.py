"""What a cache saves: milliseconds of a step against its position, with and without, on the loaded model. Imports the engine."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from ui.forms.form import ConfigForm
from ui.jobs.line import JobLine
from ui.plots.live_plot import LivePlot
from ui.services import Services
from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.labels import MutedLabel
from ui.widgets.section import CollapsibleSection
from ui.widgets.text import Muted, wrapping
from workbench.core.format import bytes_text
from workbench.core.metrics import MetricInfo, PlotInfo
from workbench.studies import STUDIES, StudyResult
from workbench.studies.kv_cache import KvCacheOptions

STUDY: Final = "kv-cache"
LANE: Final = "background"
PLOT: Final = PlotInfo("kv_steps", "One step", "ms", "ms", overlay=False)
_HEADS: Final = (
    ("", ""),
    ("ms, last", "Milliseconds of a step at the last position."),
    ("bytes", "What the cache held there, measured."),
    ("same tokens", "Greedy choices of a reply that are those without a cache."),
    ("max |Δ|", "Largest difference of any logit from those without a cache."),
)


class SpeedExperiment(QWidget):
    """Run and Stop, the curves, a line per cache, the verdict."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.result: StudyResult | None = None
        self.form = ConfigForm(KvCacheOptions, compact=True)
        self.settings = CollapsibleSection("What is measured", expanded=False, quiet=True)
        self.settings.body_layout.addWidget(self.form)
        tip = "Time steps at growing positions, without a cache and with caches."
        self.line = JobLine(services, "Measure the speed", tip, stop_tip="Stop; nothing is shown then.")
        self.verdict = wrapping()
        self._plot_holder = QVBoxLayout()
        self.plot: LivePlot | None = None
        self.table = QWidget()
        self.layout_ = QVBoxLayout(self)
        self.layout_.setContentsMargins(0, 0, 0, 0)
        self.layout_.setSpacing(MEDIUM)
        for part in (Muted(STUDIES[STUDY].help), self.settings, self.line):
            self.layout_.addWidget(part)
        self.layout_.addLayout(self._plot_holder)
        self.layout_.addWidget(self.table)
        self.layout_.addWidget(self.verdict)
        self.line.wanted.connect(self.run)
        self.line.changed.connect(self.refresh)
        self.form.changed.connect(self.refresh)
        services.bus.model_changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def run(self) -> None:
        """Measure on the loaded model."""
        session = self._services.session
        if session is not None and not self._hindrance():
            self.line.start(STUDIES[STUDY].label, partial(session.study, STUDY, self.form.value), LANE, self._on_done)

    @Slot()
    def refresh(self) -> None:
        self.form.setEnabled(not self.line.running)
        self.line.show_ready(self._hindrance())

    def _hindrance(self) -> str:
        session = self._services.session
        if session is None or session.model is None:
            return "Load a model first"
        return str(self.form.problems[0]) if self.form.problems else ""

    def _on_done(self, result: StudyResult | None) -> None:
        if result is not None:
            self.show_result(result)

    def show_result(self, result: StudyResult) -> None:
        """Curves, lines and verdict."""
        self.result = result
        names = [str(row["cache"]) for row in result.rows]
        plot = LivePlot(PLOT, [MetricInfo(name, name, "ms", PLOT.name, "Median of the timed steps.") for name in names], x_label="position")
        plot.setFixedHeight(220)
        plot.start_run("study")
        for row in result.tables[1].rows:
            plot.extend(str(row["cache"]), [float(row["position"] or 0)], [float(row["ms"] or 0)], "study")
        if self.plot is not None:
            self._plot_holder.removeWidget(self.plot)
            self.plot.deleteLater()
        self.plot = plot
        self._plot_holder.addWidget(plot)
        plot.refresh()
        self._fill(result)
        self.verdict.setText(result.verdict)

    def _fill(self, result: StudyResult) -> None:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(MEDIUM)
        grid.setVerticalSpacing(SMALL)
        grid.setColumnStretch(0, 1)
        for column, (head, tip) in enumerate(_HEADS):
            label = MutedLabel(head)
            label.setToolTip(tip)
            grid.addWidget(label, 0, column)
        for line, row in enumerate(result.rows, 1):
            for column, text in enumerate(self._texts(row)):
                cell = QLabel(text)
                cell.setFont(tabular(self.font()))
                grid.addWidget(cell, line, column)
        self.layout_.replaceWidget(self.table, holder)
        self.table.deleteLater()
        self.table = holder

    @staticmethod
    def _texts(row: Any) -> tuple[str, ...]:
        size = "–" if not row["cache_bytes"] else bytes_text(row["cache_bytes"])
        return str(row["cache"]), f"{row['last_ms']:.1f}", size, str(row["identical"]), f"{row['difference']:.1e}"
