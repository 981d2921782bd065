"""A line under a field: an icon and a few words."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from ui import icons
from ui.theme import GRID, SMALL
from ui.widgets.tones import colours_of

ICON = 14


class Note(QWidget):
    """Words and an icon in one colour of the theme; they say the same, so that nothing depends on the colour."""

    def __init__(self) -> None:
        super().__init__()
        self._icon_name, self._role = "", "muted"
        self.icon = QLabel()
        self.words = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        row = QHBoxLayout(self)
        row.setContentsMargins(3 * GRID, 0, 0, GRID)
        row.setSpacing(SMALL)
        row.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.words, 1)

    @property
    def text(self) -> str:
        return self.words.text()

    def say(self, text: str, icon: str, role: str) -> None:
        """Show `text`; nothing at all when it is empty."""
        if (text, icon, role) == (self.words.text(), self._icon_name, self._role) and text:
            return
        self._icon_name, self._role = icon, role
        self.words.setText(text)
        self.setAccessibleName(text)
        self.setVisible(bool(text))
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self)
        self.icon.setVisible(bool(self._icon_name))
        if self._icon_name:
            self.icon.setPixmap(icons.icon(self._icon_name, c, self._role).pixmap(ICON, ICON))
        sheet = f"color: {getattr(c, self._role)};"
        if sheet != self.words.styleSheet():
            self.words.setStyleSheet(sheet)
