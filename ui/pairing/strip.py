"""What was measured on both sides, beside each other: speed, first token, cache, and how far the tokens are the same."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFont, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QWidget

from ui.chat.bits import WrappingLabel
from ui.pairing.difference import Figures, ratio_text
from ui.theme import LARGE, MEDIUM, SMALL, tabular
from ui.widgets.button import ElidingButton
from ui.widgets.text import Muted
from workbench.core.format import bytes_text, duration_text

HEADS: Final = ("tok/s", "First token", "Cache", "per token")

BELOW_EACH_OTHER: Final = 520
"""Pixels at the normal text size below which the sentence stands under the figures."""


def texts(figures: Figures) -> tuple[str, str, str, str]:
    """One side's figures as they are shown."""
    speed = "–" if figures.speed is None else f"{figures.speed:.1f}"
    first = "–" if figures.first_ms is None else duration_text(figures.first_ms / 1000)
    stored = "–" if figures.cache_bytes is None else bytes_text(figures.cache_bytes)
    each = "–" if figures.token_bytes is None else bytes_text(figures.token_bytes)
    return speed, first, stored if figures.cached else "off", each if figures.cached else ""


def ratios(a: Figures, b: Figures) -> tuple[str, str, str, str]:
    """B against A; caches for each token, because one reply may be longer than the other."""
    first, second, third = (
        ratio_text(one, other) for one, other in ((a.speed, b.speed), (a.first_ms, b.first_ms), (a.token_bytes, b.token_bytes))
    )
    return first, second, "", third


class PairStrip(QWidget):
    """Columns of figures for A, B and B / A, a sentence, and the ways on."""

    keep_wanted = Signal(str)
    """Side whose conversation a person wants to go on with."""
    show_wanted = Signal()
    """Both transcripts where they part."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict = WrappingLabel(muted=True)
        self.verdict.setAccessibleName("How far both replies are the same")
        self.cells: dict[tuple[str, int], QLabel] = {}
        self.keep = {side: self._way_on(side) for side in ("A", "B")}
        self.show_button = ElidingButton("Show it", "Go to the first different token on both sides.")
        self.show_button.clicked.connect(self.show_wanted)
        self.show_button.hide()
        self._box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._box.setContentsMargins(LARGE, MEDIUM, LARGE, 0)
        self._box.setSpacing(LARGE)
        self._box.addLayout(self._figures())
        self._words = self._made_words()
        self._box.addLayout(self._words, 1)
        self._box.setAlignment(self._words, Qt.AlignmentFlag.AlignVCenter)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.show_figures(Figures(), Figures())

    def _figures(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(LARGE)
        grid.setVerticalSpacing(2)
        for column, head in enumerate(HEADS, start=1):
            grid.addWidget(self._label(head, muted=True), 0, column)
        for row, name in enumerate(("A", "B", "B / A"), start=1):
            grid.addWidget(self._label(name, bold=row < 3, muted=row == 3, left=True), row, 0)
            for column in range(1, len(HEADS) + 1):
                cell = self.cells[name, column - 1] = self._label("")
                grid.addWidget(cell, row, column)
        return grid

    def _made_words(self) -> QBoxLayout:
        ways = QHBoxLayout(spacing=SMALL)
        ways.addWidget(self.show_button)
        for button in self.keep.values():
            ways.addWidget(button)
        ways.addStretch(1)
        words = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        words.setSpacing(SMALL)
        words.addWidget(self.verdict, 1)
        words.addLayout(ways)
        return words

    def point_out(self, parted: bool) -> None:
        """Whether there is a place where both part."""
        self.show_button.setVisible(parted)

    def _way_on(self, side: str) -> ElidingButton:
        button = ElidingButton(f"Keep {side}", f"End the comparison and go on with the conversation of side {side}.")
        button.clicked.connect(partial(self.keep_wanted.emit, side))
        button.hide()
        return button

    def _label(self, text: str, *, bold: bool = False, muted: bool = False, left: bool = False) -> QLabel:
        label: QLabel = Muted(text) if muted else QLabel(text, textFormat=Qt.TextFormat.PlainText)
        label.setWordWrap(False)
        label.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        font = tabular(QFont(label.font()))
        font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
        label.setFont(font)
        label.setAlignment((Qt.AlignmentFlag.AlignLeft if left else Qt.AlignmentFlag.AlignRight) | Qt.AlignmentFlag.AlignVCenter)
        label.setContentsMargins(0, 0, SMALL if left else 0, 0)
        return label

    def show_figures(self, a: Figures, b: Figures) -> None:
        """The figures of both sides and their ratios."""
        for name, shown in (("A", texts(a)), ("B", texts(b)), ("B / A", ratios(a, b))):
            for column, text in enumerate(shown):
                self.cells[name, column].setText(text)
        told = [f"{side}: {', '.join(f'{h} {t}' for h, t in zip(HEADS, texts(f), strict=True))}" for side, f in (("A", a), ("B", b))]
        self.setAccessibleName("Figures of both replies. " + ". ".join(told))

    def say(self, text: str) -> None:
        """How far both replies are the same."""
        self.verdict.setText(text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = self.width() < BELOW_EACH_OTHER * self.fontMetrics().height() / 15
        down, right = QBoxLayout.Direction.TopToBottom, QBoxLayout.Direction.LeftToRight
        self._box.setDirection(down if narrow else right)
        self._words.setDirection(right if narrow else down)
        self._box.setSpacing(SMALL if narrow else LARGE)

    def offer(self, sides: Collection[str]) -> None:
        """The sides that a person can go on with."""
        for side, button in self.keep.items():
            button.setVisible(side in sides)
