"""The legend as check boxes: reachable by keyboard, readable by assistive tools, each with a sample of its line."""

from __future__ import annotations

from pyqtgraph.graphicsItems.ScatterPlotItem import Symbols
from PySide6.QtCore import QPoint, QPointF, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QCheckBox, QSizePolicy, QStyle, QStyleOptionFocusRect, QWidget

from ui.plots.curves import MARKERS, pen_of
from ui.theme import Colours, tabular
from ui.widgets.flow import FlowLayout


class LegendBox(QCheckBox):
    """A check box drawn as a sample of the line and its name; when off, hollow and struck out. May show the newest value."""

    _SAMPLE = 22

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._colour, self._dash = QColor(), 0
        self._marker: int | None = None
        self._value = ""
        self._value_width = 0
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def set_sample(self, colour: QColor, dash: int, marker: int | None) -> None:
        self._colour, self._dash, self._marker = colour, dash, marker
        self.update()

    def set_value(self, text: str) -> None:
        """The newest value beside the name. Its room only grows, so that the legend keeps still."""
        if text != self._value:
            self._value = text
            width = QFontMetrics(self._value_font()).horizontalAdvance(text)
            if width > self._value_width:
                self._value_width = width
                self.updateGeometry()
            self.update()

    @property
    def value_text(self) -> str:
        return self._value

    def _value_font(self) -> QFont:
        font = tabular(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        return font

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        value = self._value_width + 6 if self._value_width else 0
        return QSize(self._SAMPLE + 6 + metrics.horizontalAdvance(self.text()) + value + 4, metrics.height() + 4)

    def minimumSizeHint(self) -> QSize:
        return QSize(self._SAMPLE + 30, self.sizeHint().height())

    def hitButton(self, pos: QPoint) -> bool:
        return self.rect().contains(pos)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        on, middle = self.isChecked(), self.height() / 2
        text_colour = self.palette().color(QPalette.ColorRole.WindowText if on else QPalette.ColorRole.PlaceholderText)
        pen = pen_of(self._colour if on else text_colour, 2.0 if on else 1.0, self._dash, 1.0)
        pen.setCosmetic(False)
        painter.setPen(pen)
        painter.drawLine(QPointF(2, middle), QPointF(self._SAMPLE, middle))
        if self._marker is not None:
            self._paint_marker(painter, on, middle)
        self._paint_text(painter, text_colour, on)
        if self.hasFocus():
            option = QStyleOptionFocusRect()
            option.initFrom(self)
            option.rect = self.rect()
            self.style().drawPrimitive(QStyle.PrimitiveElement.PE_FrameFocusRect, option, painter, self)

    def _paint_marker(self, painter: QPainter, on: bool, middle: float) -> None:
        assert self._marker is not None
        painter.save()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour if on else self.palette().color(QPalette.ColorRole.Base))
        painter.translate(self._SAMPLE / 2 + 1, middle)
        painter.scale(9, 9)
        painter.drawPath(Symbols[MARKERS[self._marker % len(MARKERS)]])
        painter.restore()

    def _paint_text(self, painter: QPainter, colour: QColor, on: bool) -> None:
        left = self._SAMPLE + 6
        font = self.font()
        font.setStrikeOut(not on)
        painter.setFont(font)
        painter.setPen(colour)
        room = QRect(left, 0, self.width() - left - 2, self.height())
        value_room = self._value_width + 6 if self._value_width else 0
        name = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width() - value_room)
        painter.drawText(room, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
        if self._value and on:
            painter.setFont(self._value_font())
            room.setLeft(left + self.fontMetrics().horizontalAdvance(name) + 6)
            painter.drawText(room, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self._value)


class Legend(QWidget):
    """One box per metric and, with several runs, one per run. A curve shows when both of its boxes are checked."""

    toggled = Signal()

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._boxes: dict[tuple[str, str], LegendBox] = {}
        self._samples: dict[tuple[str, str], tuple[int, int, int | None]] = {}
        self._flow = FlowLayout(self, spacing=10)

    def boxes(self) -> list[LegendBox]:
        return list(self._boxes.values())

    def checked(self, kind: str, name: str) -> bool:
        """`kind` is "metric" or "run"; what has no box is shown."""
        box = self._boxes.get((kind, name))
        return box is None or box.isChecked()

    def set_value(self, metric: str, text: str) -> None:
        """The newest value, in the metric's box; nothing where it has none."""
        if ("metric", metric) in self._boxes:
            self._boxes["metric", metric].set_value(text)

    def set_entries(self, kind: str, entries: list[tuple[str, str, str, int, int, int | None]]) -> None:
        """Entries of one kind: (name, text, tooltip, colour, dash, marker). Boxes that stay keep their state."""
        names = [e[0] for e in entries]
        for key in [k for k in self._boxes if k[0] == kind and k[1] not in names]:
            box = self._boxes.pop(key)
            self._samples.pop(key)
            self._flow.removeWidget(box)
            box.deleteLater()
        for name, text, tip, colour, dash, marker in entries:
            key = (kind, name)
            if key not in self._boxes:
                box = LegendBox(self)
                box.toggled.connect(self.toggled)
                self._boxes[key] = box
                self._flow.addWidget(box)
                box.show()
            self._samples[key] = (colour, dash, marker)
            box = self._boxes[key]
            box.setText(text)
            box.setToolTip(f"{tip} Click to hide or show." if tip else "Click to hide or show.")
            box.setAccessibleName(f"{self._title}: show {text}")
        self.updateGeometry()

    def restyle(self, colours: Colours) -> None:
        for key, box in self._boxes.items():
            colour, dash, marker = self._samples[key]
            box.set_sample(QColor(colours.plots[colour % len(colours.plots)]), dash, marker)
