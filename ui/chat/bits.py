"""Small pieces the chat's parts share: buttons, wrapping text."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QToolButton

from ui import icons
from ui.theme import Theme, tabular
from ui.widgets.tones import colours_of

ICON: Final = QSize(16, 16)


def icon_button(icon: str, name: str, theme: Theme, tooltip: str = "") -> QToolButton:
    """A flat button with an icon; `name` is what assistive tools read and the tooltip unless another is given."""
    button = QToolButton(autoRaise=True, iconSize=ICON)
    button.setAccessibleName(name)
    button.setToolTip(tooltip or name)
    icons.bind(button, icon, theme, "muted")
    return button


class WrappingLabel(QLabel):
    """Plain text that wraps and never widens its surroundings; secondary text when `muted`."""

    def __init__(self, text: str = "", *, muted: bool = False) -> None:
        super().__init__(text, wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self._muted = muted
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # As high as its width asks, told as a fixed height: a scroll area does not ask its content for a height per width.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFont(tabular(self.font()))
        self._tint()
        self.fit()

    def setText(self, text: str) -> None:
        super().setText(text)
        self.fit()

    def fit(self) -> None:
        """Take the height that the text needs at this width."""
        self.setMinimumHeight(0)  # a label never asks for less than its minimum
        height = max(super().heightForWidth(max(self.width(), 1)), 0)  # -1 without a text
        self.setFixedHeight(height)

    def hasHeightForWidth(self) -> bool:
        return False

    def heightForWidth(self, width: int) -> int:
        return -1

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()
        elif event.type() == QEvent.Type.FontChange:
            self.fit()

    def _tint(self) -> None:
        sheet = f"color: {colours_of(self).muted};" if self._muted else ""
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
