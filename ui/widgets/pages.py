"""Two widgets over each other while there is room, else one at a time."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSplitter, QVBoxLayout, QWidget

from ui.theme import MEDIUM, SMALL
from ui.widgets.segmented import SegmentedControl

LEAST: Final = 100


class SplitOrPages(QWidget):
    """Above `needed` pixels of height a splitter; below, a row of two buttons chooses which of the two is seen."""

    paged = Signal(bool)

    def __init__(self, first: tuple[str, QWidget], second: tuple[str, QWidget], needed: int, shares: tuple[int, int]) -> None:
        super().__init__()
        self._needed = needed
        self._widgets = (first[1], second[1])
        self._page = 1
        self._split: bool | None = None
        self.choose = SegmentedControl([(0, first[0], ""), (1, second[0], "")])
        self.choose.set_group_name("Shown")
        self.choose.chosen.connect(self.show_page)
        self._bar = QWidget()
        bar = QHBoxLayout(self._bar)
        bar.setContentsMargins(MEDIUM + SMALL, 0, MEDIUM, SMALL)
        bar.addWidget(self.choose)
        self.splitter = QSplitter(Qt.Orientation.Vertical, childrenCollapsible=True)
        for index, (widget, share) in enumerate(zip(self._widgets, shares, strict=True)):
            self.splitter.addWidget(widget)
            self.splitter.setStretchFactor(index, share)
        self.splitter.setSizes([share * 100 for share in shares])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._bar)
        layout.addWidget(self.splitter, 1)
        self.choose.set_value(self._page)

    def minimumSizeHint(self) -> QSize:
        """Low: what is inside scrolls or shrinks, and the window must not be pushed about."""
        return QSize(0, LEAST)

    @property
    def split(self) -> bool:
        """Whether both are seen at once."""
        return self._split is not False

    @Slot(object)
    def show_page(self, page: int) -> None:
        """Which of the two is seen when there is room for one only."""
        self._page = int(page)
        self.choose.set_value(self._page)
        if not self.split:
            for index, widget in enumerate(self._widgets):
                widget.setVisible(index == self._page)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        split = self.height() >= self._needed
        if split != self._split:
            self._split = split
            self._bar.setVisible(not split)
            for index, widget in enumerate(self._widgets):
                widget.setVisible(split or index == self._page)
            self.paged.emit(not split)
