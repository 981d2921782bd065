"""What is wrong with a field, shown right under it without moving anything."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRect, Qt
from PySide6.QtWidgets import QLabel, QWidget

from ui.widgets.tones import colours_of


class Callout(QLabel):
    """A small box over the form, under the field it speaks of (above it at the lower edge). The mouse goes through it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._form = parent
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setMargin(5)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()
        self._tint()

    def show_at(self, line: QRect, text: str) -> None:
        """`line` is the field's place in the parent's coordinates."""
        self.setText(text)
        width = self._form.width()
        height = self.heightForWidth(width)
        top = line.bottom() + 2
        if top + height > self._form.height() and line.top() - 2 - height >= 0:
            top = line.top() - 2 - height
        self.setGeometry(0, top, width, height)
        self.show()
        self.raise_()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self)
        sheet = f"background: {c.error_surface}; color: {c.text}; border: 1px solid {c.error}; border-radius: 3px;"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
