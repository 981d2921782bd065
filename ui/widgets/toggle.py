"""Check boxes that are drawn by the theme's colours: a switch, and a small box (Fusion's own vanishes on dark)."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QCheckBox, QWidget

from ui.widgets.tones import colours_of

_WIDTH, _HEIGHT = 30, 16


class ToggleSwitch(QCheckBox):
    """On: filled, knob at the right with a tick. Off: hollow, knob at the left. Reads as a check box to assistive tools."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def sizeHint(self) -> QSize:
        text = self.fontMetrics().horizontalAdvance(self.text()) + 8 if self.text() else 0
        return QSize(_WIDTH + 6 + text, max(_HEIGHT + 6, self.fontMetrics().height() + 4))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, pos: QPoint) -> bool:
        return QRectF(0, 0, self.sizeHint().width(), self.height()).contains(QPointF(pos))

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = colours_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        on, enabled = self.isChecked(), self.isEnabled()
        track = QRectF(2, (self.height() - _HEIGHT) / 2, _WIDTH, _HEIGHT)
        edge = QColor(colours.disabled if not enabled else colours.accent if on else colours.muted)
        painter.setPen(QPen(edge, 1.2))
        painter.setBrush(QColor(colours.accent if enabled else colours.border) if on else QColor(colours.base))
        painter.drawRoundedRect(track.adjusted(0.6, 0.6, -0.6, -0.6), _HEIGHT / 2, _HEIGHT / 2)
        middle = QPointF(track.right() - _HEIGHT / 2 if on else track.left() + _HEIGHT / 2, track.center().y())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.on_accent) if on else edge)
        painter.drawEllipse(middle, 5.0, 5.0)
        if on:
            painter.setPen(QPen(edge, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
            painter.drawPolyline([middle + QPointF(-2.3, 0.2), middle + QPointF(-0.6, 1.9), middle + QPointF(2.5, -1.8)])
        if self.text():
            painter.setPen(QColor(colours.text if enabled else colours.disabled))
            room = self.rect().adjusted(_WIDTH + 10, 0, 0, 0)
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())
        if self.hasFocus():
            painter.setPen(QPen(QColor(colours.accent_text), 1.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(track.adjusted(-2, -2, 2, 2), _HEIGHT / 2 + 2, _HEIGHT / 2 + 2)


class TickBox(QCheckBox):
    """A small check box whose frame can be seen on every theme."""

    _SIZE = 14

    def sizeHint(self) -> QSize:
        text = self.fontMetrics().horizontalAdvance(self.text()) + 6 if self.text() else 0
        return QSize(self._SIZE + 4 + text, max(self._SIZE + 4, self.fontMetrics().height() + 4))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, pos: QPoint) -> bool:
        return self.rect().contains(pos)

    def paintEvent(self, event: QPaintEvent) -> None:
        c = colours_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        on, enabled, focused = self.isChecked(), self.isEnabled(), self.hasFocus()
        box = QRectF(2, (self.height() - self._SIZE) / 2, self._SIZE, self._SIZE).adjusted(0.5, 0.5, -0.5, -0.5)
        edge = QColor(c.disabled if not enabled else c.accent_text if focused else c.accent if on else c.muted)
        painter.setPen(QPen(edge, 2.0 if focused else 1.0))
        painter.setBrush(QColor(c.accent if enabled else c.border) if on else QColor(c.base))
        painter.drawRoundedRect(box, 2.5, 2.5)
        if on:
            pen = QPen(QColor(c.on_accent if enabled else c.text), 1.8, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
            painter.setPen(pen)
            middle = box.center()
            painter.drawPolyline([middle + QPointF(-3, 0.2), middle + QPointF(-0.8, 2.5), middle + QPointF(3.2, -2.4)])
        if self.text():
            painter.setPen(QColor(c.text if enabled else c.disabled))
            room = self.rect().adjusted(self._SIZE + 8, 0, 0, 0)
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())
