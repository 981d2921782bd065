"""What enters each norm of a model: largest and median magnitude, norm by norm, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui.quantizing.roundings_table import sentence
from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.tones import colours_of

HEIGHT: Final = 150
"""Pixels at the normal text size."""
_WORDS: Final = "Largest ▲ and median ● input of each norm"
Row = Mapping[str, Any]


def decades(low: float, high: float) -> list[int]:
    """Powers of ten that an axis from low to high is labelled with: at most six."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 5))
    return list(range(first, last + every, every))


def power(exponent: int) -> str:
    """0.01, 1, 1,000, 10⁶."""
    if -3 <= exponent <= 5:
        return f"{10.0**exponent:,.0f}" if exponent >= 0 else f"{10.0**exponent:.{-exponent}f}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


class NormRanges(QWidget):
    """One line per norm from the median up to the largest. Left and right walk along; the one in question is told at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ""
        self.rows: list[Row] = []
        self.current: int | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFont(tabular(self.font()))
        self._fit()

    def show_rows(self, model: str, rows: Sequence[Row]) -> None:
        """The norms of one model."""
        self.model, self.rows, self.current = model, list(rows), None
        peak = max(self.rows, key=lambda r: float(r["ratio"]), default=None)
        told = "" if peak is None else f" The widest is {self._told(peak)}."
        self.setAccessibleName(f"Inputs of the norms of {model}")
        self.setAccessibleDescription(f"{_WORDS}.{told}")
        self.update()

    @staticmethod
    def _told(row: Row) -> str:
        """One norm in words."""
        values = [f"{row[n]:,.0f}" if row[n] >= 100 else f"{row[n]:.3g}" for n in ("largest", "median", "ratio")]
        return f"{row['norm']}: largest {values[0]}, median {values[1]}, ratio {values[2]}"

    # ---- where things are ----------------------------------------------------------------------------------------

    def _fit(self) -> None:
        self.setFixedHeight(round(HEIGHT * self.fontMetrics().height() / 15))

    def _area(self) -> QRectF:
        metrics = QFontMetrics(self.font())
        left = max((metrics.horizontalAdvance(power(d)) for d in self._decades()), default=20) + MEDIUM
        top = 2 * (metrics.height() + SMALL)
        return QRectF(left, top, max(10.0, self.width() - left - MEDIUM), max(10.0, self.height() - top - SMALL))

    def _decades(self) -> list[int]:
        values = [float(row[name]) for row in self.rows for name in ("largest", "median") if float(row[name]) > 0]
        return decades(min(values), max(values)) if values else []

    def _x(self, area: QRectF, number: int) -> float:
        return area.x() + area.width() * (number + 0.5) / len(self.rows)

    def _y(self, area: QRectF, value: float, marks: Sequence[int]) -> float:
        at = (math.log10(max(value, 10.0 ** marks[0])) - marks[0]) / max(1, marks[-1] - marks[0])
        return area.bottom() - area.height() * min(1.0, at)

    # ---- drawing -------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.rows:
            return
        colours, metrics = colours_of(self), QFontMetrics(self.font())
        area, marks = self._area(), self._decades()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QColor(colours.text))
        painter.drawText(QRectF(0, 0, self.width(), metrics.height()), int(Qt.AlignmentFlag.AlignLeft), sentence(self.model))
        told = _WORDS if self.current is None else self._told(self.rows[self.current])
        painter.setPen(QColor(colours.muted))
        line = metrics.elidedText(told, Qt.TextElideMode.ElideMiddle, self.width())
        painter.drawText(QRectF(0, metrics.height(), self.width(), metrics.height()), int(Qt.AlignmentFlag.AlignLeft), line)
        for exponent in marks:
            y = self._y(area, 10.0**exponent, marks)
            painter.setPen(QPen(QColor(colours.border), 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(QColor(colours.muted))
            box = QRectF(0, y - metrics.height() / 2, area.left() - SMALL, metrics.height())
            painter.drawText(box, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), power(exponent))
        for number, row in enumerate(self.rows):
            self._draw(painter, area, marks, number, row)
        if self.hasFocus():
            painter.setPen(QPen(QColor(colours.accent_text), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))
        painter.end()

    def _draw(self, painter: QPainter, area: QRectF, marks: Sequence[int], number: int, row: Row) -> None:
        colours = colours_of(self)
        x, strong = self._x(area, number), number == self.current
        high, low = (self._y(area, float(row[name]), marks) for name in ("largest", "median"))
        size = min(4.0, max(1.5, area.width() / len(self.rows) / 2.5)) + (1.5 if strong else 0)
        painter.setPen(QPen(QColor(colours.text if strong else colours.border), 2 if strong else 1))
        painter.drawLine(QPointF(x, high), QPointF(x, low))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.plots[1]))
        painter.drawPolygon(QPolygonF([QPointF(x, high - size), QPointF(x - size, high + size), QPointF(x + size, high + size)]))
        painter.setBrush(QColor(colours.plots[0]))
        painter.drawEllipse(QPointF(x, low), size, size)

    # ---- asking --------------------------------------------------------------------------------------------------

    def _choose(self, number: int | None) -> None:
        if number != self.current:
            self.current = number
            self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        area = self._area()
        if self.rows and area.left() <= event.position().x() <= area.right():
            number = int((event.position().x() - area.left()) / area.width() * len(self.rows))
            self._choose(min(number, len(self.rows) - 1))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._choose(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None or not self.rows:
            super().keyPressEvent(event)
            return
        start = -1 if self.current is None and step > 0 else len(self.rows) if self.current is None else self.current
        self._choose(min(max(start + step, 0), len(self.rows) - 1))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def sizeHint(self) -> QSize:
        return QSize(300, self.height())
