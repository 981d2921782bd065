"""What one curve draws: a faint line of raw values, a line of averages, and a marker at its newest point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QWidget

from ui.plots.series import Floats, Series, even_indices, extreme_indices
from ui.theme import DASHES, Colours
from workbench.core.metrics import MetricInfo

MARKERS = ("o", "s", "t1", "d", "star", "+")
"""The n-th run ends in the n-th marker: runs are told apart without their colour."""
LINE_POINTS = 500
DASHED_POINTS = 250
ROUGH = 20.0
"""A line that crosses its own range more often is drawn 1 px wide: a wide one would fill the picture, and costs ten times as much."""
DOT, END_DOT = 5.0, 7.0
"""Points across; unlike pens, symbols grow with the screen by themselves."""
SPARSE = 40
"""Up to so many points every one gets a dot: validation losses are few."""


@dataclass(frozen=True)
class CurveStyle:
    """How one curve looks: colour and dash by index into the theme, marker by run."""

    colour: int
    dash: int
    marker: int

    def colour_in(self, colours: Colours) -> QColor:
        return QColor(colours.plots[self.colour % len(colours.plots)])

    @property
    def symbol(self) -> str:
        return MARKERS[self.marker % len(MARKERS)]


def pen_of(colour: QColor, width: float, dash: int, ratio: float) -> QPen:
    """A cosmetic pen: pyqtgraph draws its width in device pixels, so `ratio` (devicePixelRatio) must multiply it."""
    pen: QPen = pg.mkPen(colour, width=width * ratio)
    pattern = DASHES[dash % len(DASHES)]
    if pattern:
        pen.setDashPattern([max(p / width, 0.5) for p in pattern])
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    return pen


class Curve:
    """The items of one (run, metric) on a plot. `draw` thins the series to what the screen can show."""

    def __init__(self, metric: MetricInfo, run: str, series: Series, style: CurveStyle, view: pg.ViewBox) -> None:
        self.metric, self.run, self.series, self.style = metric, run, series, style
        self.raw = pg.PlotCurveItem(antialias=True, segmentedLineMode="on", connect="finite")
        # Every segment drawn by itself would begin its dash anew, so a dashed line is stroked as one path, of fewer points.
        self.line = pg.PlotCurveItem(antialias=True, segmentedLineMode="off" if style.dash else "on", connect="finite")
        self.dots = pg.ScatterPlotItem(pxMode=True, useCache=False)  # paths, not cached pixels: sharp in an SVG
        for z, item in enumerate((self.raw, self.line, self.dots)):
            item.setZValue(10 * (style.marker + 1) + z)
            view.addItem(item, ignoreBounds=True)
        self.shown = True
        self._pens = (QPen(), QPen())

    def restyle(self, colours: Colours, ratio: float) -> None:
        colour = self.style.colour_in(colours)
        faint = QColor(colour)
        faint.setAlpha(90)
        self.raw.setPen(pen_of(faint, 1.0, 0, ratio))
        self._pens = (pen_of(colour, 2.0, self.style.dash, ratio), pen_of(colour, 1.0, self.style.dash, ratio))
        self.line.setPen(self._pens[0])
        self.dots.setSymbol(self.style.symbol)
        self.dots.setBrush(pg.mkBrush(colour))
        self.dots.setPen(pg.mkPen(colours.base, width=ratio))

    def set_shown(self, shown: bool) -> None:
        self.shown = shown
        for item in (self.raw, self.line, self.dots):
            item.setVisible(shown)

    def remove(self, view: pg.ViewBox) -> None:
        for item in (self.raw, self.line, self.dots):
            view.removeItem(item)

    @property
    def smoothed(self) -> bool:
        return self.metric.smooth and self.series.smoothing > 0

    def draw(self, low: float, high: float, pixels: int, log: bool) -> tuple[float, float] | None:
        """Hand the visible stretch to the items. Returns the lowest and highest value drawn (log10 when `log`), or None."""
        part = self.series.between(low, high)
        x, raw = self.series.x[part], scaled(self.series.y[part], log)
        budget = DASHED_POINTS if self.style.dash else LINE_POINTS
        if self.smoothed:
            keep = extreme_indices(raw, max(2 * pixels, 64))
            self.raw.setData(x[keep], raw[keep], connect=connection(raw[keep]))
            smooth = scaled(self.series.smooth[part], log)
            keep = even_indices(smooth, budget)
            self.line.setPen(self._pens[0])
            self.line.setData(x[keep], smooth[keep], connect=connection(smooth[keep]))
        else:
            keep = extreme_indices(raw, budget)
            self.raw.setData([], [])
            self.line.setPen(self._pens[is_rough(raw[keep])])
            self.line.setData(x[keep], raw[keep], connect=connection(raw[keep]))
        self._draw_dots(x, raw, log)
        finite = raw[np.isfinite(raw)]
        return (float(finite.min()), float(finite.max())) if len(finite) else None

    def _draw_dots(self, x: Floats, raw: Floats, log: bool) -> None:
        """A dot on every point of a sparse curve, else on the newest alone."""
        if not self.smoothed and len(x) <= SPARSE:
            finite = np.isfinite(raw)
            self.dots.setData(x[finite], raw[finite], size=DOT)
            return
        if not len(self.series):
            self.dots.setData([], [])
            return
        values = self.series.smooth if self.smoothed else self.series.y
        last = scaled(values[-1:], log)
        inside = len(x) and self.series.x[-1] == x[-1] and np.isfinite(last[0])
        self.dots.setData(self.series.x[-1:] if inside else [], last if inside else [], size=END_DOT)


@dataclass
class Reference:
    """A horizontal line beside the measured curves; an estimated one is dashed and says so."""

    value: float
    label: str
    estimated: bool
    line: pg.InfiniteLine = field(repr=False)

    def restyle(self, colours: Colours, ratio: float, owner: QWidget) -> None:
        colour = QColor(colours.muted)
        pen = pg.mkPen(colour, width=1.2 * ratio)
        if self.estimated:
            pen.setDashPattern([5, 4])
        self.line.setPen(pen)
        if self.label:
            self.line.label.setColor(colour)
            self.line.label.fill = pg.mkBrush(colours.base)
            self.line.label.setFont(owner.font())

    @property
    def text(self) -> str:
        return f"{self.label} (estimated)" if self.estimated else self.label


def scaled(values: Floats, log: bool) -> Floats:
    """Values as the axis draws them: on a logarithmic one log10, with a gap where nothing can be drawn."""
    if not log:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Floats = np.log10(np.where(values > 0, values, np.nan))
    return logs


def is_rough(values: Floats) -> bool:
    """Whether the line goes up and down over its whole range more than `ROUGH` times."""
    finite = values[np.isfinite(values)]
    return len(finite) > 2 and bool(np.abs(np.diff(finite)).sum() > ROUGH * np.ptp(finite))


def connection(values: Floats) -> str:
    """pyqtgraph's fast path when there is no gap."""
    return "finite" if np.isnan(values).any() else "all"
