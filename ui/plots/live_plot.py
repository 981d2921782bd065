"""One chart that grows while work runs: built from `MetricInfo`, several runs over each other, cheap to redraw.

plot = LivePlot(PLOTS["loss"], [METRICS["loss"], METRICS["eval_loss"]])
plot.start_run("run 2")
plot.extend("loss", steps, values)          # into the newest run
plot.refresh()                              # the owner's clock decides when
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QTimer, Signal, Slot
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ui.plots import export
from ui.plots.canvas import Canvas
from ui.plots.curves import Curve, CurveStyle, Reference, scaled
from ui.plots.header import PlotHeader
from ui.plots.hover import Hover, place_text, value_text
from ui.plots.legend import Legend
from ui.plots.ranges import FROM_ZERO, HeightRange, x_range
from ui.plots.series import Floats, Series
from ui.theme import SMALL
from ui.widgets.tones import colours_of
from workbench.core.errors import FileError
from workbench.core.metrics import MetricInfo, PlotInfo

POINT_LIMIT = 200_000
"""Points kept per curve; a longer one is thinned, peaks kept."""
REDRAW_MS = 30
"""After zooming, resizing and the like the plot redraws itself, at most so often."""
PICTURE_RATIO = 2.0
FILTERS = {"png": "PNG image (*.png)", "svg": "SVG drawing (*.svg)", "csv": "CSV table (*.csv)"}


class LivePlot(QWidget):
    """A titled chart with legend, cross-hair, menu and exports. Values come by `extend`; nothing is drawn before `refresh`."""

    follow_changed = Signal(bool)

    def __init__(
        self,
        info: PlotInfo,
        metrics: Sequence[MetricInfo],
        parent: QWidget | None = None,
        *,
        x_label: str | None = None,
        empty_text: str = "No run yet –\nstart one in Build or Fine-tune",
        smoothing: float = 0.9,
        max_runs: int = 4,
        limit: int = POINT_LIMIT,
        colours: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(parent)
        if not metrics or len({m.axis for m in metrics}) != 1:
            raise ValueError(f"the metrics of plot {info.name!r} must share one horizontal axis")
        self.info = info
        self.metrics = {m.name: m for m in metrics}
        self.axis = metrics[0].axis
        self._smoothing, self._limit = smoothing, limit
        self._max_runs = max_runs if info.overlay else 1
        self._by_metric = colours if colours is not None else None if info.overlay else {m.name: i for i, m in enumerate(metrics)}
        self._leader: LivePlot | None = None
        self._log = False
        self._window: int | None = None
        self._follow = True
        self._dirty = True
        self._height = HeightRange(info.unit in FROM_ZERO)
        self._runs: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._curves: dict[tuple[str, str], Curve] = {}
        self._references: dict[str, Reference] = {}
        self._pen_ratio: float | None = None
        self.refresh_seconds = 0.0
        self._build(x_label, empty_text)
        self.set_log(self.log_by_nature)
        self._restyle()

    # ---- construction --------------------------------------------------------------------------------------------

    def _build(self, x_label: str | None, empty_text: str) -> None:
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.palette().ColorRole.Base)
        self.setAccessibleName(f"{self.info.title} plot")
        self.canvas = Canvas(self.info, self.axis, x_label, empty_text)
        self._view = self.canvas.view
        self.hover = Hover(self.canvas, self._shown_curves, self.axis, over=self)
        self.legend = Legend(self.info.title, self)
        self.header = PlotHeader(self.info.title, list(self.metrics.values()))
        self._redraw_timer = QTimer(self, singleShot=True, interval=REDRAW_MS)
        self._redraw_timer.timeout.connect(self._redraw)
        self._connect()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * SMALL, SMALL, SMALL, SMALL)
        layout.setSpacing(2)
        layout.addWidget(self.header)
        layout.addWidget(self.legend)
        layout.addWidget(self.canvas, 1)
        self._update_legend()

    def _connect(self) -> None:
        self.canvas.zoomed.connect(self._zoomed)
        self.canvas.x_moved.connect(self._x_moved)
        self.canvas.resized.connect(self._redraw_soon)
        self.canvas.reset_wanted.connect(self.follow)
        self.canvas.left.connect(self.hover.hide)
        self.canvas.stepped.connect(self.hover.step)
        self.canvas.menu_wanted.connect(self.header.menu.popup)
        self.legend.toggled.connect(self._legend_toggled)
        self.header.follow_wanted.connect(self.follow)
        self.header.log_wanted.connect(self.set_log)
        self.header.copy_image_wanted.connect(self.copy_image)
        self.header.copy_values_wanted.connect(self.copy_values)
        self.header.save_wanted.connect(self.ask_export)

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs shown, oldest first."""
        return tuple(self._runs)

    @property
    def newest_run(self) -> tuple[str, str] | None:
        """(name, note) of the run that values without a run belong to; None before the first."""
        name = next(reversed(self._runs), None)
        return None if name is None else (name, self._notes.get(name, ""))

    @property
    def has_values(self) -> bool:
        return any(len(c.series) for c in self._curves.values())

    @property
    def log_by_nature(self) -> bool:
        """Whether all metrics ask for a logarithmic axis."""
        return all(m.log for m in self.metrics.values())

    def start_run(self, name: str, note: str = "") -> None:
        """Later values belong to `name`; the legend's tooltip says `note`. The oldest run goes when there are `max_runs`."""
        self._notes[name] = note
        if name in self._runs:
            self._runs[name] = self._runs.pop(name)  # to the end: the newest
            self._update_legend()
            return
        while len(self._runs) >= self._max_runs:
            self._forget(next(iter(self._runs)))
        taken = set(self._runs.values())
        self._runs[name] = next(i for i in range(self._max_runs) if i not in taken)
        self._update_legend()

    def extend(self, metric: str, xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, run: str | None = None) -> None:
        """Append points to a curve of `run` (default: the newest). A y that is NaN breaks the line."""
        self._curve(metric, run).series.extend(xs, ys)
        self._dirty = True

    def append(self, metric: str, x: float, y: float, run: str | None = None) -> None:
        self.extend(metric, (x,), (y,), run)

    def gap(self, metric: str, run: str | None = None) -> None:
        """Break the line: what follows is not connected with what was."""
        if self._key(metric, run) in self._curves:
            self._curve(metric, run).series.gap()

    def clear(self) -> None:
        """Forget every run; reference lines stay."""
        for name in list(self._runs):
            self._forget(name)
        self._height.forget()
        self._update_legend()
        self.follow()

    def curve(self, metric: str, run: str | None = None) -> Curve | None:
        """The curve's data and items, or None when it has no values."""
        return self._curves.get(self._key(metric, run))

    def _key(self, metric: str, run: str | None) -> tuple[str, str]:
        return (run if run is not None else next(reversed(self._runs), "")), metric

    def _curve(self, metric: str, run: str | None) -> Curve:
        key = self._key(metric, run)
        if key not in self._curves:
            if key[0] not in self._runs:
                self.start_run(key[0])
            number, run_index = list(self.metrics).index(metric), self._runs[key[0]]
            style = CurveStyle(self._colour(metric, run_index, number), number, run_index)
            series = Series(self._smoothing, self._limit)
            self._curves[key] = Curve(self.metrics[metric], key[0], series, style, self._view)
            self._restyle()
            self._legend_toggled()
        return self._curves[key]

    def _colour(self, metric: str, run: int, number: int) -> int:
        if self._by_metric is not None:
            return self._by_metric.get(metric, 0)
        return run if self.axis == "step" else number + run * len(self.metrics)

    def _forget(self, run: str) -> None:
        for key in [k for k in self._curves if k[0] == run]:
            self._curves.pop(key).remove(self._view)
        self._runs.pop(run, None)
        self._notes.pop(run, None)
        self._dirty = True

    def add_reference(self, name: str, value: float, label: str, estimated: bool = True, at: float = 0.98) -> None:
        """A horizontal line to compare with; an estimate is dashed and labelled as one, `at` that part of its length."""
        self.remove_reference(name)
        text = f"{label} (estimated)" if estimated else label
        line = pg.InfiniteLine(
            angle=0, movable=False, label=text or None, labelOpts={"position": at, "anchors": [(1, 0), (1, 1)], "movable": False}
        )
        line.setZValue(5)
        self._view.addItem(line, ignoreBounds=True)
        self._references[name] = Reference(value, label, estimated, line)
        self._restyle()
        self._dirty = True

    def remove_reference(self, name: str) -> None:
        if name in self._references:
            self._view.removeItem(self._references.pop(name).line)
            self._dirty = True

    # ---- view ----------------------------------------------------------------------------------------------------

    @property
    def log(self) -> bool:
        return self._log

    @property
    def following(self) -> bool:
        return self._follow

    @property
    def dirty(self) -> bool:
        return self._dirty

    @Slot(bool)
    def set_log(self, log: bool) -> None:
        """Logarithmic vertical axis; values that are not positive leave a gap."""
        if log == self._log:
            return
        self._log = log
        self._height.forget()
        self._height.log = log
        self.canvas.set_log(log)
        self.header.log_action.setChecked(log)
        self.follow()

    def set_smoothing(self, smoothing: float) -> None:
        """Weight of the moving average, 0 (none) to 0.99, for the metrics that ask for one."""
        self._smoothing = smoothing
        for curve in self._curves.values():
            if curve.metric.smooth:
                curve.series.set_smoothing(smoothing)
        self._dirty = True

    def set_window(self, points: int | None) -> None:
        """Show the newest run's last so many points, or all."""
        self._window = points
        self.follow()

    @Slot()
    def follow(self) -> None:
        """Leave the zoom: show all, or the window, and grow with the run."""
        self._set_follow(True)
        self._height.forget()
        self._redraw_soon()

    def share_width(self, leader: LivePlot) -> None:
        """Show the same stretch of steps as `leader`, zoomed or following."""
        self._leader = leader
        self._view.setXLink(leader._view)
        self.follow_changed.connect(leader._set_follow)
        leader.follow_changed.connect(self._set_follow)

    def _set_follow(self, on: bool) -> None:
        if on != self._follow:
            self._follow = on
            self.header.follow_button.setVisible(not on)
            self.follow_changed.emit(on)

    @Slot()
    def _zoomed(self) -> None:
        self._set_follow(False)

    @Slot()
    def _x_moved(self) -> None:
        if not self._follow:
            self._redraw_soon()

    @Slot()
    def _redraw_soon(self) -> None:
        self._dirty = True
        if not self._redraw_timer.isActive():
            self._redraw_timer.start()

    @Slot()
    def _redraw(self) -> None:
        self.refresh()

    def _shown_curves(self) -> list[Curve]:
        return [c for c in self._curves.values() if c.shown]

    @Slot()
    def _legend_toggled(self) -> None:
        for (run, metric), curve in self._curves.items():
            curve.set_shown(self.legend.checked("metric", metric) and self.legend.checked("run", run))
        self._height.forget()
        self._redraw_soon()

    def _update_legend(self) -> None:
        newest = next(reversed(self._runs.values()), 0)
        several = len(self._runs) > 1
        stepped = self.axis == "step"
        metrics = [
            (m.name, m.label, m.help, self._colour(m.name, newest, i), i, None if several or not stepped else newest)
            for i, m in enumerate(self.metrics.values())
        ]
        self.legend.set_entries("metric", metrics if len(metrics) > 1 else [])
        number, last = len(self.metrics) - 1, list(self.metrics.values())[-1]
        runs = [
            (name, name or "earlier", self._notes.get(name, ""), self._colour(last.name, index, number), 0 if stepped else number, index)
            for name, index in self._runs.items()
        ]
        self.legend.set_entries("run", runs if several else [])
        self.legend.setVisible(bool(self.legend.boxes()))
        self.legend.restyle(colours_of(self))
        self._dirty = True

    # ---- drawing -------------------------------------------------------------------------------------------------

    def refresh(self, force: bool = False) -> bool:
        """Redraw when something changed and the plot can be seen (or `force`). True when it drew."""
        if not force and (not self._dirty or not self.isVisible()):
            return False
        started = time.thread_time()
        self._dirty = False
        self.canvas.paint_seconds = 0.0
        curves = [c for c in self._shown_curves() if len(c.series)]
        self.canvas.set_empty(not curves)
        if curves and self._follow and self._leader is None:
            newest = self._newest_run(curves)
            self._view.setXRange(*x_range([c.series for c in curves], [c.series for c in newest], self._window), padding=0)
        (low, high), _ = self._view.viewRange()
        pixels = max(int(self._view.width()), 100)
        drawn = [b for c in curves if (b := c.draw(low, high, pixels, self._log)) is not None]
        self._draw_references(drawn)
        if drawn and self._follow:
            height = self._height.fit(min(b[0] for b in drawn), max(b[1] for b in drawn))
            if height is not None:
                self._view.setYRange(*height, padding=0)
        self._tell()
        self._dirty = False  # setting the range has marked it
        self.refresh_seconds = time.thread_time() - started
        return True

    @property
    def cost_seconds(self) -> float:
        """CPU time of the last redraw, with the paintings that followed it so far."""
        return self.refresh_seconds + self.canvas.paint_seconds

    def _newest_run(self, curves: Sequence[Curve]) -> list[Curve]:
        name = next(run for run in reversed(self._runs) if any(c.run == run for c in curves))
        return [c for c in curves if c.run == name]

    def _draw_references(self, drawn: list[tuple[float, float]]) -> None:
        for reference in self._references.values():
            place = float(scaled(np.array([reference.value]), self._log)[0])
            visible = bool(np.isfinite(place))
            reference.line.setVisible(visible)
            if visible:
                reference.line.setPos(place)
                if drawn:
                    drawn.append((place, place))

    def readings(self) -> list[tuple[MetricInfo, float, float]]:
        """(metric, x, value) of the newest point of every metric of the newest run; the average where one is drawn."""
        found = []
        for name, metric in self.metrics.items():
            curve = self.curve(name)
            last = curve.series.last() if curve is not None else None
            if curve is not None and last is not None:
                found.append((metric, *last))
        return found

    def _tell(self) -> None:
        """The newest values, in the header and for assistive tools."""
        readings = self.readings()
        for metric, _, value in readings:  # several: each beside its name in the legend
            self.legend.set_value(metric.name, value_text(value, metric.unit if metric.unit == "B" else ""))
        alone = len(self.metrics) == 1 and bool(readings)
        self.header.reading.set_full_text(value_text(readings[0][2], self.info.unit) if alone else "")
        told = "; ".join(f"{m.label} {value_text(v, m.unit)} {place_text(x, self.axis)}" for m, x, v in readings)
        references = "; ".join(f"{r.text} {value_text(r.value, self.info.unit)}" for r in self._references.values())
        text = "; ".join(t for t in (told, references) if t) or self.canvas.empty.text().replace("\n", " ")
        if text != self.canvas.accessibleDescription():
            self.canvas.setAccessibleDescription(text)
            self.setAccessibleDescription(text)

    def _restyle(self, ratio: float | None = None) -> None:
        """Colours and pens of the theme and screen now in force, or for a picture of another `ratio`."""
        colours, ratio = colours_of(self), ratio or self.devicePixelRatioF()
        self._pen_ratio = ratio
        self.canvas.restyle(colours, ratio, self.font())
        for curve in self._curves.values():
            curve.restyle(colours, ratio)
        for reference in self._references.values():
            reference.restyle(colours, ratio, self)
        self.hover.restyle(colours, ratio)
        self.legend.restyle(colours)
        self._dirty = True

    # ---- files ---------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the plot as it looks (.png, .svg), or every stored value (.csv). `FileError` when that is not possible."""
        kind = path.suffix.lower().lstrip(".")
        if kind not in FILTERS:
            raise FileError(f"A plot cannot be saved as {path.name!r}.", hint="End the name with .png, .svg or .csv.")
        try:
            if kind == "csv":
                path.write_text(export.csv_text(self._curves.values()), encoding="utf-8")
                return
            with self._as_figure(PICTURE_RATIO if kind == "png" else 1.0):
                if kind == "png":
                    export.save_png(self, path, PICTURE_RATIO)
                else:
                    export.save_svg(self, path, self.info.title)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror or error}.", hint="Choose another folder.") from error

    @Slot()
    def copy_image(self) -> None:
        with self._as_figure(PICTURE_RATIO):
            QGuiApplication.clipboard().setPixmap(export.render(self, PICTURE_RATIO))

    @Slot()
    def copy_values(self) -> None:
        """The values as CSV text: a table for those who cannot see the picture."""
        QGuiApplication.clipboard().setText(export.csv_text(self._curves.values()))

    @Slot(str)
    def ask_export(self, kind: str) -> Path | None:
        """Ask for a file name ("png", "svg", "csv") and save there; None when the person changed their mind."""
        name, _ = QFileDialog.getSaveFileName(self, f"Save {self.info.title}", f"{self.info.name}.{kind}", FILTERS[kind])
        if not name:
            return None
        path = Path(name)
        path = path if path.suffix.lower() == f".{kind}" else path.with_name(f"{path.name}.{kind}")
        self.save(path)
        return path

    @contextmanager
    def _as_figure(self, ratio: float) -> Iterator[None]:
        """Without buttons and cross-hair, with pens for `ratio` device pixels to a point, freshly drawn."""
        shown = [tool for tool in self.header.tools if not tool.isHidden()]
        self.hover.hide()
        for tool in shown:
            tool.hide()
        self._restyle(ratio)
        self.refresh(force=True)
        for layout in (self.legend.layout(), self.layout()):  # room for the newest values, now rather than with the next event
            layout.activate()
        self.refresh(force=True)
        try:
            yield
        finally:
            for tool in shown:
                tool.show()
            self._restyle()

    # ---- Qt ------------------------------------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange) and hasattr(self, "hover"):
            self._restyle()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._restyle()
        return super().event(event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._pen_ratio != self.devicePixelRatioF():
            self._restyle()
        self._redraw_soon()
