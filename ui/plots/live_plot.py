"""One chart that grows while work runs: built from `MetricInfo`, several runs over each other, cheap to redraw.

plot = LivePlot(PLOTS["loss"], [METRICS["loss"], METRICS["eval_loss"]])
plot.start_run("run 2")
plot.extend("loss", steps, values)          # into the newest run
plot.refresh()                              # the owner's clock decides when
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QAction, QFont, QGuiApplication, QKeyEvent, QMouseEvent, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui.plots import export
from ui.plots.axes import UnitAxis
from ui.plots.curves import Curve, CurveStyle, Reference, scaled
from ui.plots.hover import Hover, place_text, value_text
from ui.plots.legend import Legend
from ui.plots.series import Floats, Series
from ui.theme import SMALL, tabular
from ui.widgets.labels import ElidingLabel, MutedLabel
from ui.widgets.tones import colours_of
from workbench.core.metrics import MetricInfo, PlotInfo

FROM_ZERO = frozenset({"B", "tokens/s"})
"""Units of amounts: a linear axis of these begins at zero, else the eye compares wrong heights."""
POINT_LIMIT = 200_000
ZOOM_REDRAW_MS = 30

FileKind = Literal["png", "svg", "csv"]


class _Canvas(pg.PlotWidget):  # type: ignore[misc]
    """The drawing area. Measures what painting costs, so that the owner can pace it."""

    reset_wanted = Signal()
    left = Signal()

    def __init__(self, axes: dict[str, UnitAxis]) -> None:
        super().__init__(axisItems=axes)
        self.paint_seconds = 0.0
        item = self.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.showGrid(x=True, y=True, alpha=0.14)
        item.getViewBox().disableAutoRange()
        self.setFrameShape(self.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumSize(120, 80)

    def paintEvent(self, event: QPaintEvent) -> None:
        started = time.thread_time()
        super().paintEvent(event)
        self.paint_seconds = time.thread_time() - started

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset_wanted.emit()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()


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
        empty_text: str = "No run yet – press Start in Fine-tune",
        smoothing: float = 0.9,
        max_runs: int = 4,
        limit: int = POINT_LIMIT,
    ) -> None:
        super().__init__(parent)
        if not metrics or len({m.axis for m in metrics}) != 1:
            raise ValueError(f"the metrics of plot {info.name!r} must share one horizontal axis")
        self.info = info
        self.metrics = {m.name: m for m in metrics}
        self.axis = metrics[0].axis
        self._smoothing, self._max_runs, self._limit = smoothing, max_runs, limit
        self._log = False
        self._window: int | None = None
        self._follow = True
        self._dirty = True
        self._y_range: tuple[float, float] | None = None
        self._runs: dict[str, int] = {}
        self._curves: dict[tuple[str, str], Curve] = {}
        self._references: dict[str, Reference] = {}
        self._pen_ratio: float | None = None
        self.refresh_seconds = 0.0
        self._build(x_label, empty_text)
        self._name_for_assistance()
        self.set_log(all(m.log for m in metrics))
        self._restyle()

    # ---- construction --------------------------------------------------------------------------------------------

    def _build(self, x_label: str | None, empty_text: str) -> None:
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.palette().ColorRole.Base)
        bottom = UnitAxis("bottom", "s" if self.axis == "time" else "step")
        left = UnitAxis("left", self.info.unit)
        self.canvas = _Canvas({"bottom": bottom, "left": left})
        bottom.setLabel(x_label or ("time (min:s)" if self.axis == "time" else "step"))
        if self.info.unit != "B":
            left.setLabel(y_title(self.info))
        self._axes = (bottom, left)
        self._view: pg.ViewBox = self.canvas.getPlotItem().getViewBox()
        self._view.sigRangeChangedManually.connect(self._zoomed)
        self._view.sigXRangeChanged.connect(self._x_moved)
        self.canvas.reset_wanted.connect(self.follow)
        self.hover = Hover(self.canvas, self._shown_curves, self.axis)
        self.canvas.left.connect(self.hover.hide)
        self.canvas.installEventFilter(self)
        self._empty = MutedLabel(empty_text, self.canvas)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setWordWrap(True)
        self._empty.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.legend = Legend(self.info.title, self)
        self.legend.toggled.connect(self._legend_toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * SMALL, SMALL, SMALL, SMALL)
        layout.setSpacing(2)
        layout.addLayout(self._header())
        layout.addWidget(self.legend)
        layout.addWidget(self.canvas, 1)
        self._zoom_timer = QTimer(self, singleShot=True, interval=ZOOM_REDRAW_MS)
        self._zoom_timer.timeout.connect(self._redraw_zoomed)
        self._update_legend()

    def _header(self) -> QHBoxLayout:
        title = QLabel(self.info.title)
        bold = QFont(title.font())
        bold.setWeight(QFont.Weight.DemiBold)
        title.setFont(bold)
        title.setToolTip("<br>".join(f"<b>{m.label}</b>: {m.help}" for m in self.metrics.values()))
        self._reading = ElidingLabel()
        self._reading.setFont(tabular(self._reading.font()))
        self._reading.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._reading.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._follow_button = QToolButton(text="Follow", autoRaise=True)
        self._follow_button.setToolTip("Show the newest points again (double-click on the plot, or Home)")
        self._follow_button.setAccessibleName(f"{self.info.title}: follow the newest points")
        self._follow_button.clicked.connect(self.follow)
        self._follow_button.hide()
        self._menu_button = QToolButton(text="⋯", autoRaise=True)
        self._menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self._menu_button.setToolTip("View and export")
        self._menu_button.setAccessibleName(f"{self.info.title}: view and export")
        self.menu = self._make_menu()
        self._menu_button.setMenu(self.menu)
        self._tools = (self._follow_button, self._menu_button)
        row = QHBoxLayout()
        row.setSpacing(SMALL)
        row.addWidget(title)
        row.addWidget(self._reading, 1)
        row.addWidget(self._follow_button)
        row.addWidget(self._menu_button)
        return row

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        self._follow_action = self._action(menu, "Follow the newest points", self.follow)
        self._log_action = menu.addAction("Logarithmic axis")
        self._log_action.setCheckable(True)
        self._log_action.toggled.connect(self.set_log)
        menu.addSeparator()
        self._action(menu, "Copy image", self.copy_image)
        self._action(menu, "Copy values", self.copy_values)
        self._action(menu, "Save as PNG…", lambda: self.ask_export("png"))
        self._action(menu, "Save as SVG…", lambda: self.ask_export("svg"))
        self._action(menu, "Save values as CSV…", lambda: self.ask_export("csv"))
        return menu

    @staticmethod
    def _action(menu: QMenu, text: str, slot: Callable[[], object]) -> QAction:
        action = menu.addAction(text)
        action.triggered.connect(lambda _checked=False: slot())
        return action

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs shown, oldest first."""
        return tuple(self._runs)

    def start_run(self, name: str) -> None:
        """Later values belong to `name`. The oldest run goes when there would be more than `max_runs`."""
        if name in self._runs:
            self._runs[name] = self._runs.pop(name)  # to the end: the newest
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
        self._y_range = None
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
            style = CurveStyle(colour=run_index if self.axis == "step" else number, dash=number, marker=run_index)
            series = Series(self._smoothing, self._limit)
            self._curves[key] = Curve(self.metrics[metric], key[0], series, style, self._view)
            self._restyle()
            self._legend_toggled()
        return self._curves[key]

    def _forget(self, run: str) -> None:
        for key in [k for k in self._curves if k[0] == run]:
            self._curves.pop(key).remove(self._view)
        self._runs.pop(run, None)
        self._dirty = True

    def add_reference(self, name: str, value: float, label: str, estimated: bool = True) -> None:
        """A horizontal line to compare with; an estimate is dashed and labelled as one."""
        self.remove_reference(name)
        text = f"{label} (estimated)" if estimated else label
        line = pg.InfiniteLine(
            angle=0, movable=False, label=text, labelOpts={"position": 0.98, "anchors": [(1, 0), (1, 1)], "movable": False}
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
        self._y_range = None
        self._axes[1].setLogMode(x=False, y=log)
        self._log_action.setChecked(log)
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
        self._y_range = None
        self._dirty = True
        if not self._zoom_timer.isActive():
            self._zoom_timer.start()

    def _set_follow(self, on: bool) -> None:
        if on != self._follow:
            self._follow = on
            self._follow_button.setVisible(not on)
            self.follow_changed.emit(on)

    @Slot(object)
    def _zoomed(self, _mouse: object = None) -> None:
        self._set_follow(False)

    @Slot(object, object)
    def _x_moved(self, _view: object = None, _range: object = None) -> None:
        if not self._follow:
            self._dirty = True
            if not self._zoom_timer.isActive():
                self._zoom_timer.start()

    @Slot()
    def _redraw_zoomed(self) -> None:
        self.refresh()

    def _shown_curves(self) -> list[Curve]:
        return [c for c in self._curves.values() if c.shown]

    @Slot()
    def _legend_toggled(self) -> None:
        for (run, metric), curve in self._curves.items():
            curve.set_shown(self.legend.checked("metric", metric) and self.legend.checked("run", run))
        self._y_range = None
        self._dirty = True
        if not self._zoom_timer.isActive():
            self._zoom_timer.start()

    def _update_legend(self) -> None:
        newest = next(reversed(self._runs.values()), 0)
        several = len(self._runs) > 1
        stepped = self.axis == "step"
        metrics = [
            (m.name, m.label, m.help, newest if stepped else i, i, None if several or not stepped else newest)
            for i, m in enumerate(self.metrics.values())
        ]
        self.legend.set_entries("metric", metrics if len(metrics) > 1 else [])
        runs = [(name, name, "", index if stepped else 0, 0, index) for name, index in self._runs.items()]
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
        curves = [c for c in self._shown_curves() if len(c.series)]
        self._empty.setVisible(not curves)
        if curves and self._follow:
            self._view.setXRange(*self._x_bounds(curves), padding=0)
        (low, high), _ = self._view.viewRange()
        pixels = max(int(self._view.width()), 100)
        drawn = [b for c in curves if (b := c.draw(low, high, pixels, self._log)) is not None]
        self._draw_references(drawn)
        if drawn and self._follow:
            self._fit_y(min(b[0] for b in drawn), max(b[1] for b in drawn))
        self._tell()
        self._dirty = False  # setting the range has marked it
        self.refresh_seconds = time.thread_time() - started
        return True

    @property
    def cost_seconds(self) -> float:
        """CPU time of the last redraw, painting included."""
        return self.refresh_seconds + self.canvas.paint_seconds

    def _x_bounds(self, curves: Sequence[Curve]) -> tuple[float, float]:
        low = min(float(c.series.x.min() if not c.series.ordered else c.series.x[0]) for c in curves)
        high = max(float(c.series.x.max() if not c.series.ordered else c.series.x[-1]) for c in curves)
        if self._window is not None:
            newest = [c for c in curves if c.run == curves[-1].run] if self.axis == "time" else self._newest_run(curves)
            starts = [s for c in newest if (s := c.series.start_of_last(self._window)) is not None]
            ends = [float(c.series.x[-1]) for c in newest]
            low, high = max(starts), max(ends)
        span = max(high - low, 5.0)
        return low, low + span * 1.02

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

    def _fit_y(self, low: float, high: float) -> None:
        """New bounds only when the values leave the old ones or use less than half of them: an axis that keeps still."""
        if not self._log and self.info.unit in FROM_ZERO and low >= 0:
            low = 0.0
        if self._y_range is not None:
            bottom, top = self._y_range
            if bottom <= low and high <= top and (high - low) >= 0.5 * (top - bottom):
                return
        span = high - low
        if span <= 0:
            span = 0.3 if self._log else (abs(high) * 0.2 or 1.0)
            low, high = low - span / 2, high + span / 2
        bottom = 0.0 if low == 0.0 and not self._log else low - 0.06 * span
        self._y_range = (bottom, high + 0.1 * span)
        self._view.setYRange(*self._y_range, padding=0)

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
        self._reading.set_full_text(value_text(readings[0][2], self.info.unit) if alone else "")
        told = "; ".join(f"{m.label} {value_text(v, m.unit)} {place_text(x, self.axis)}" for m, x, v in readings)
        references = "; ".join(f"{r.text} {value_text(r.value, self.info.unit)}" for r in self._references.values())
        text = "; ".join(t for t in (told, references) if t) or self._empty.text()
        if text != self.canvas.accessibleDescription():
            self.canvas.setAccessibleDescription(text)
            self.setAccessibleDescription(text)

    def _name_for_assistance(self) -> None:
        self.setAccessibleName(f"{self.info.title} plot")
        self.canvas.setAccessibleName(f"{self.info.title} plot")

    def _restyle(self, ratio: float | None = None) -> None:
        """Colours and pens of the theme and screen now in force, or for a picture of another `ratio`."""
        colours, ratio = colours_of(self), ratio or self.devicePixelRatioF()
        self._pen_ratio = ratio
        self.canvas.setBackground(colours.base)
        for axis in self._axes:
            axis.setPen(pg.mkPen(colours.border, width=ratio))
            axis.setTextPen(colours.muted)
            axis.setTickFont(self.font())
            if axis.labelText:
                axis.setLabel(axis.labelText, **{"font-size": f"{self.font().pointSizeF()}pt", "color": colours.muted})
        for curve in self._curves.values():
            curve.restyle(colours, ratio)
        for reference in self._references.values():
            reference.restyle(colours, ratio, self)
        self.hover.restyle(colours, ratio)
        self.legend.restyle(colours)
        self._dirty = True

    # ---- files ---------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the plot as it looks (.png, .svg), or every stored value (.csv)."""
        kind = path.suffix.lower()
        if kind == ".csv":
            path.write_text(export.csv_text(self._curves.values()), encoding="utf-8")
        elif kind == ".svg":
            with self._as_figure(1.0):
                export.save_svg(self, path, self.info.title)
        elif kind == ".png":
            with self._as_figure(2.0):
                written = export.render(self, 2.0).save(str(path))
            if not written:
                raise OSError(f"{path} cannot be written")
        else:
            raise ValueError(f"{path.name} has no ending this plot can be saved as: .png, .svg or .csv")

    def copy_image(self) -> None:
        with self._as_figure(2.0):
            QGuiApplication.clipboard().setPixmap(export.render(self, 2.0))

    def copy_values(self) -> None:
        """The values as CSV text: a table for those who cannot see the picture."""
        QGuiApplication.clipboard().setText(export.csv_text(self._curves.values()))

    def ask_export(self, kind: FileKind) -> Path | None:
        """Ask for a file name and save there; None when the person changed their mind."""
        filters = {"png": "PNG image (*.png)", "svg": "SVG drawing (*.svg)", "csv": "CSV table (*.csv)"}
        name, _ = QFileDialog.getSaveFileName(self, f"Save {self.info.title}", f"{self.info.name}.{kind}", filters[kind])
        if not name:
            return None
        path = Path(name)
        path = path if path.suffix.lower() == f".{kind}" else path.with_name(f"{path.name}.{kind}")
        self.save(path)
        return path

    @contextmanager
    def _as_figure(self, ratio: float) -> Iterator[None]:
        """Without buttons and cross-hair, with pens for `ratio` device pixels to a point, freshly drawn."""
        shown = [tool for tool in self._tools if not tool.isHidden()]
        self.hover.hide()
        for tool in shown:
            tool.hide()
        self.layout().activate()
        self._restyle(ratio)
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

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._empty.setGeometry(self.canvas.rect().adjusted(40, 10, -10, -30))
            self._dirty = True
            self._zoom_timer.start()
        elif event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            return self._key_pressed(event)
        elif event.type() == QEvent.Type.ContextMenu:
            self.menu.popup(event.globalPos())  # type: ignore[attr-defined]
            return True
        elif event.type() == QEvent.Type.FocusOut:
            self.hover.hide()
        return False

    def _key_pressed(self, event: QKeyEvent) -> bool:
        key = event.key()
        if key in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            self.hover.step(-1 if key == Qt.Key.Key_Left else 1)
        elif key == Qt.Key.Key_Home:
            self.follow()
        elif key == Qt.Key.Key_Escape and self.hover.visible:
            self.hover.hide()
        else:
            return False
        return True

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._pen_ratio != self.devicePixelRatioF():
            self._restyle()
        self._dirty = True
        self._zoom_timer.start()


def y_title(info: PlotInfo) -> str:
    """Label and unit of the vertical axis, without saying the same word twice."""
    return f"{info.y_label} ({info.unit})" if info.unit and info.unit != info.y_label else info.y_label
