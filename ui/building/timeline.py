"""What the model wrote, step by step: the newest on top, what came before below it, so that words are seen to appear."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout, QWidget

from ui.theme import MEDIUM, SMALL, Theme
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted
from workbench.core.format import duration_text

KEPT: Final = 60
"""Samples shown of each run; all of them are in the run's folder."""


def head_words(sample: Any, seconds: float | None, loss: float | None) -> str:
    """ "Step 100 · 32 s · loss 3.21"."""
    parts = [f"Step {sample.step:,}"]
    if sample.run:
        parts.insert(0, sample.run)
    if seconds is not None:
        parts.append(duration_text(seconds))
    if loss is not None:
        parts.append(f"loss {loss:.2f}")
    return " · ".join(parts)


class SampleCard(QFrame):
    """One sample: where in the run, and the text, with what it continues in the muted colour."""

    def __init__(self, sample: Any, head: str, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("sample")
        self._theme = theme
        self._newest = True
        self.run: str = sample.run
        self.prompt, self.written = sample.prompt, sample.text.strip("\n")
        self.head = ElidingLabel(head)
        font = QFont(self.head.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.head.setFont(font)
        self.text = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.text.setText(f"{self.prompt}{self.written}" or "(nothing)")
        self.text.setAccessibleName(f"{head}: {self.written}")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MEDIUM + 2, SMALL + 2, MEDIUM, SMALL + 2)
        layout.setSpacing(2)
        layout.addWidget(self.head)
        layout.addWidget(self.text)
        theme.changed.connect(self._tint)
        self._tint()

    def set_newest(self, newest: bool) -> None:
        if newest != self._newest:
            self._newest = newest
            self._tint()

    @Slot()
    def _tint(self) -> None:
        c = self._theme.colours
        edge = c.plots[1 if self.run == "B" else 0] if self._newest else c.border
        ground = c.base if self._newest else "transparent"
        self.setStyleSheet(
            f"#sample {{ background: {ground}; border: none; border-left: 3px solid {edge}; }}"
            f" #sample QLabel {{ color: {c.text if self._newest else c.muted}; }}"
        )


class Timeline(QWidget):
    """Fed with sample events, newest first on screen."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.cards: list[SampleCard] = []
        self.empty = Muted("")
        self._column = QVBoxLayout()
        self._column.setSpacing(SMALL + 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addWidget(self.empty)
        layout.addLayout(self._column)
        self.clear("")

    def clear(self, waiting: str) -> None:
        """Forget every sample; `waiting` says when the first one comes."""
        for card in self.cards:
            card.hide()
            card.deleteLater()
        self.cards = []
        self.empty.setText(waiting)
        self.empty.setVisible(bool(waiting))

    def add(self, sample: Any, seconds: float | None = None, loss: float | None = None) -> None:
        """One more sample, `seconds` after the start."""
        for card in self.cards:
            if card.run == sample.run:
                card.set_newest(False)
        self.cards.insert(0, SampleCard(sample, head_words(sample, seconds, loss), self._theme))
        self._column.insertWidget(0, self.cards[0])
        self.empty.hide()
        while len(self.cards) > KEPT:
            old = self.cards.pop()
            old.hide()
            old.deleteLater()
