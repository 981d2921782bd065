"""Labels that give way: text that does not fit ends in an ellipsis and is whole in the tooltip."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPalette, QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from ui.theme import tabular
from ui.widgets.tones import colours_of


class ElidingLabel(QLabel):
    """One line that is shortened to its width. `full_text` is the whole; assistive tools read the whole."""

    def __init__(self, text: str = "", parent: QWidget | None = None, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__(parent)
        self._full = ""
        self._mode = mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.set_full_text(text)

    @property
    def full_text(self) -> str:
        return self._full

    def set_full_text(self, text: str) -> None:
        if text == self._full:
            return
        self._full = text
        self.setAccessibleName(text)
        self._elide()
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        width = QFontMetrics(self.font()).horizontalAdvance(self._full) + 2 * self.margin() + 2
        return QSize(width, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        room = max(self.width() - 2 * self.margin(), 0)
        shown = QFontMetrics(self.font()).elidedText(self._full, self._mode, room)
        self.setText(shown)
        self.setToolTip(self._full if shown != self._full else "")


class MutedLabel(QLabel):
    """Secondary text in the theme's muted colour; figures of equal width."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setFont(tabular(self.font()))
        self.setForegroundRole(QPalette.ColorRole.WindowText)  # else it follows the background of what it lies on
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        wanted = colours_of(self).muted
        if self.palette().color(QPalette.ColorRole.WindowText).name() != wanted:
            palette = QPalette()  # a fresh one: only the role set here stops following the application
            palette.setColor(QPalette.ColorRole.WindowText, wanted)
            self.setPalette(palette)
