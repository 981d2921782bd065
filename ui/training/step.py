"""A numbered part of the panel: what to do first, second, third, and whether it is done."""

from __future__ import annotations

from typing import Final, Literal

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui.theme import MEDIUM, SMALL
from ui.widgets.labels import ElidingLabel
from ui.widgets.tones import colours_of

State = Literal["open", "busy", "done", "problem"]
_WORDS: Final[dict[State, str]] = {"open": "not done", "busy": "in progress", "done": "done", "problem": "has a problem"}


class _Number(QWidget):
    """A circle: the number while open, a tick when done, an exclamation mark at a problem."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.state: State = "open"
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        side = self.fontMetrics().height() + SMALL + 2
        return QSize(side, side)

    def paintEvent(self, event: QPaintEvent) -> None:
        c = colours_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        edge = {"open": c.muted, "busy": c.accent_text, "done": c.good, "problem": c.error}[self.state]
        circle = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        painter.setPen(QPen(QColor(edge), 1.4))
        painter.setBrush(QColor(c.base))
        painter.drawEllipse(circle)
        if self.state != "done":
            font = QFont(self.font())
            font.setWeight(QFont.Weight.DemiBold)
            painter.setFont(font)
            painter.drawText(circle, Qt.AlignmentFlag.AlignCenter, "!" if self.state == "problem" else str(self._number))
            return
        painter.setPen(QPen(QColor(edge), 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
        middle, unit = circle.center(), circle.width() / 20
        painter.drawPolyline([middle + QPointF(x * unit, y * unit) for x, y in ((-4.2, 0.4), (-1.2, 3.4), (4.6, -3.2))])


class StepSection(QWidget):
    """Number, title, a few words at the right, and `body_layout` below."""

    def __init__(self, number: int, title: str) -> None:
        super().__init__()
        self._title = title
        self._circle = _Number(number)
        self.title = ElidingLabel(title)
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.words = ElidingLabel()
        self.words.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head = QHBoxLayout(spacing=MEDIUM)
        head.addWidget(self._circle)
        head.addWidget(self.title)
        head.addWidget(self.words, 1)
        self.body_layout = QVBoxLayout(spacing=SMALL + 2)
        self.body_layout.setContentsMargins(0, 0, 0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(MEDIUM)
        layout.addLayout(head)
        layout.addLayout(self.body_layout)
        self.set_state("open", "")

    @property
    def state(self) -> State:
        return self._circle.state

    def set_state(self, state: State, words: str) -> None:
        """Show how far this part is; `words` stand at the right end of its header."""
        self._circle.state = state
        self._circle.update()
        self.words.set_full_text(words)
        self.setAccessibleName(f"{self._title}: {words or _WORDS[state]}")
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self)
        colour = c.error if self.state == "problem" else c.muted
        sheet = f"color: {colour};"
        if sheet != self.words.styleSheet():
            self.words.setStyleSheet(sheet)
