"""Two columns side by side while there is room, else one below the other."""

from __future__ import annotations

from typing import Final

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QVBoxLayout, QWidget

from ui.theme import LARGE

WIDE: Final = 600
"""Pixels at the normal text size from which two columns have room for their fields."""


class Columns(QWidget):
    """`left` and `right` are layouts to put parts into."""

    def __init__(self, wide: int = WIDE, spacing: int = LARGE, shares: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self._wide = wide
        self.left, self.right = QVBoxLayout(), QVBoxLayout()
        self.box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self.box.setContentsMargins(0, 0, 0, 0)
        self.box.setSpacing(spacing)
        for column, share in zip((self.left, self.right), shares, strict=True):
            column.setSpacing(spacing)
            side = QWidget()
            side.setLayout(column)
            column.setContentsMargins(0, 0, 0, 0)
            self.box.addWidget(side, share)

    @property
    def side_by_side(self) -> bool:
        return self.box.direction() == QBoxLayout.Direction.LeftToRight

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        wide = self.width() >= self._wide * self.fontMetrics().height() / 15
        wanted = QBoxLayout.Direction.LeftToRight if wide else QBoxLayout.Direction.TopToBottom
        if wanted != self.box.direction():
            self.box.setDirection(wanted)
