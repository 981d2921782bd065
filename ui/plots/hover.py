"""The cross-hair: a vertical line at the nearest point and a box with the values of every visible curve there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import pyqtgraph as pg
from PySide6.QtCore import QObject, QPointF, Qt, Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QLabel, QWidget

from ui.plots.axes import clock_text, number_text
from ui.plots.curves import Curve
from ui.theme import Colours, tabular
from workbench.core.format import bytes_text

MAX_ROWS = 8


def value_text(value: float, unit: str) -> str:
    """A reading with its unit: 1.346 nats/token, 12.6 MB, 0.0002."""
    if unit == "B":
        return bytes_text(value)
    return f"{number_text(value)} {unit}".rstrip()


def place_text(x: float, axis: str) -> str:
    """Where on the horizontal axis: "step 2000", "at 3:20"."""
    return f"at {clock_text(x)}" if axis == "time" else f"step {x:.0f}"


class Hover(QObject):
    """Follows the mouse over a plot, or the arrow keys. The box lies at the top of `over`: on title and legend, whose values it repeats."""

    def __init__(self, widget: pg.PlotWidget, curves: Callable[[], Sequence[Curve]], axis: str, over: QWidget) -> None:
        super().__init__(widget)
        self._widget, self._curves, self._axis, self._over = widget, curves, axis, over
        self._view: pg.ViewBox = widget.getPlotItem().getViewBox()
        self.line = pg.InfiniteLine(angle=90, movable=False)
        self.line.setZValue(1000)
        self.line.hide()
        self._view.addItem(self.line, ignoreBounds=True)
        self.box = QLabel(over)
        self.box.setTextFormat(Qt.TextFormat.RichText)
        self.box.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.box.setAutoFillBackground(True)
        self.box.setMargin(4)
        self.box.setFont(tabular(self.box.font()))
        self.box.hide()
        self._colours: Colours | None = None
        self._at: float | None = None
        self._proxy = pg.SignalProxy(widget.scene().sigMouseMoved, rateLimit=30, slot=self._moved)

    @property
    def visible(self) -> bool:
        return not self.box.isHidden()

    def restyle(self, colours: Colours, ratio: float) -> None:
        self._colours = colours
        self.line.setPen(pg.mkPen(QColor(colours.muted), width=ratio))
        self.box.setStyleSheet(f"QLabel {{ background: {colours.tooltip}; color: {colours.text}; border: 1px solid {colours.border}; }}")
        if self._at is not None:
            self.show_at(self._at)

    def hide(self) -> None:
        self._at = None
        self.line.hide()
        self.box.hide()

    def step(self, direction: int) -> None:
        """Move to the next or previous point of the longest visible curve; begins at the newest point."""
        curve = max(self._curves(), key=lambda c: len(c.series), default=None)
        if curve is None or not len(curve.series):
            return
        if self._at is None:
            index: int | None = len(curve.series) - 1
        else:
            index = curve.series.nearest(self._at)
            index = None if index is None else min(max(index + direction, 0), len(curve.series) - 1)
        if index is not None:
            self.show_at(float(curve.series.x[index]))

    def show_at(self, x: float) -> None:
        """Show the values nearest to x (in the axis' unit)."""
        readings = [(c, i) for c in self._curves() if (i := c.series.nearest(x)) is not None]
        if not readings:
            self.hide()
            return
        curve, index = min(readings, key=lambda r: abs(r[0].series.x[r[1]] - x))
        at = float(curve.series.x[index])
        self._at = at
        self.line.setPos(at)
        self.line.show()
        self._fill(at, readings)
        self._place(at)
        self.box.show()
        self.box.raise_()

    def _fill(self, at: float, readings: Sequence[tuple[Curve, int]]) -> None:
        """With averages, if the box then still fits the plot."""
        room = self._over.width()
        averaged = any(c.smoothed for c, _ in readings)
        self.box.setText(self._text(at, readings, averaged))
        if averaged and self.box.sizeHint().width() > room:
            self.box.setText(self._text(at, readings, False))
        self.box.adjustSize()

    def _text(self, at: float, readings: Sequence[tuple[Curve, int]], averaged: bool) -> str:
        colours = self._colours
        assert colours is not None
        unit = readings[0][0].metric.unit if readings[0][0].metric.unit != "B" else ""
        head = f"<td><b>{escape(place_text(at, self._axis))}</b></td><td align=right>{escape(unit)}</td>"
        rows = [head + ("<td align=right>&nbsp;&nbsp;average&nbsp;</td>" if averaged else "")]
        for curve, index in readings[-MAX_ROWS:]:
            series = curve.series
            name = f"{curve.metric.label} · {curve.run}" if curve.run else curve.metric.label
            if series.x[index] != at:
                name += f" ({place_text(float(series.x[index]), self._axis)})"
            smooth = number_text(float(series.smooth[index])) if curve.smoothed and math.isfinite(series.smooth[index]) else ""
            value = value_text(float(series.y[index]), "B" if curve.metric.unit == "B" else "")
            rows.append(
                f'<td><span style="color:{curve.style.colour_in(colours).name()}">■</span> {escape(name)}&nbsp;&nbsp;</td>'
                f"<td align=right>{escape(value)}</td>" + (f"<td align=right>&nbsp;&nbsp;{smooth}&nbsp;</td>" if averaged else "")
            )
        return "<table cellspacing=0 cellpadding=0><tr>" + "</tr><tr>".join(rows) + "</tr></table>"

    def _place(self, at: float) -> None:
        """Beside the line, on the side with more room, inside the widget."""
        over = self._over
        inside = self._widget.mapFromScene(self._view.mapViewToScene(QPointF(at, 0.0)))
        x = self._widget.mapTo(over, inside).x()
        width = self.box.width()
        right_fits = x + 12 + width <= over.width()
        left = x + 12 if right_fits or x < over.width() / 2 else x - 12 - width
        self.box.move(min(max(left, 0), max(over.width() - width, 0)), 0)

    @Slot(object)
    def _moved(self, arguments: tuple[QPointF]) -> None:
        position = arguments[0]
        if self._view.sceneBoundingRect().contains(position):
            self.show_at(float(self._view.mapSceneToView(position).x()))
        else:
            self.hide()
