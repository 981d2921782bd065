"""Scrolling to something that has just been put into a form and has not found its place yet."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QObject, QPoint, QTimer, Slot
from PySide6.QtWidgets import QScrollArea, QWidget

from ui.forms.row import FieldRow
from ui.theme import SMALL

LOOK_MS: Final = 25
MOST_LOOKS: Final = 12


class Reveal(QObject):
    """Scrolls as far as the card under a row needs, and no further than the row; after the layout has come to rest, because
    text that wraps finds its height in several passes."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._timer = QTimer(self, interval=LOOK_MS)
        self._timer.timeout.connect(self._look)
        self._looks = 0
        self._seen: object = None

    def begin(self, scroll: QScrollArea, row: FieldRow, card: QWidget) -> None:
        self._scroll, self._row, self._card = scroll, row, card
        self._looks, self._seen = 0, None
        self._timer.start()

    @Slot()
    def _look(self) -> None:
        content = self._scroll.widget()
        top = self._row.mapTo(content, QPoint(0, 0)).y() - SMALL
        bottom = self._card.mapTo(content, self._card.rect().bottomLeft()).y() + SMALL
        now = (top, bottom, content.height())
        self._looks += 1
        if now != self._seen and self._looks < MOST_LOOKS:
            self._seen = now
            return
        self._timer.stop()
        bar, view = self._scroll.verticalScrollBar(), self._scroll.viewport().height()
        if self._card.isVisible() and (bottom > bar.value() + view or top < bar.value()):
            bar.setValue(top if bottom - top > view or top < bar.value() else bottom - view)
