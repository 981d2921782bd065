"""Text that wraps, secondary text, numbers as text, widgets in a line."""

from __future__ import annotations

import re
from typing import Final

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from ui.theme import SMALL, tabular
from ui.widgets.tones import colours_of

_LONG_WORD: Final = re.compile(r"\S{25,}")
_SEAM: Final = re.compile(r"[/\\_.-]")


def decimal(value: float) -> str:
    """At most three figures, always told to be a decimal: 8.0, 0.125, 1.41."""
    text = f"{value:.3g}"
    return text if "." in text or "e" in text else f"{text}.0"


def together(text: str) -> str:
    """The same text, not to be broken at its spaces."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def breakable(text: str) -> str:
    """The same text, whose long words (paths) may be broken behind / \\ _ . and -, so that they fit a narrow panel."""
    return _LONG_WORD.sub(lambda word: _SEAM.sub("\\g<0>\N{ZERO WIDTH SPACE}", word.group()), text)


def wrapping(text: str = "", name: str = "") -> QLabel:
    """Text that wraps and never widens the panel; it can be selected, figures are of equal width."""
    label = QLabel(text, wordWrap=True, textFormat=Qt.TextFormat.PlainText)
    label.setObjectName(name)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    label.setFont(tabular(label.font()))
    return label


class Muted(QLabel):
    """Secondary text that wraps and never widens the panel."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text, wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.setFont(tabular(self.font()))
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        sheet = f"color: {colours_of(self).muted};"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)


def line_of(*widgets: QWidget | int) -> QHBoxLayout:
    """Widgets side by side; a number is a stretch."""
    row = QHBoxLayout(spacing=SMALL + 2)
    for widget in widgets:
        if isinstance(widget, int):
            row.addStretch(widget)
        else:
            row.addWidget(widget)
    return row
