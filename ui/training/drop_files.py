"""Data files dragged onto a training panel: a veil says what dropping them does."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from PySide6.QtCore import QEvent, QMimeData, QObject, Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QLabel, QWidget

from ui.services import Services
from ui.theme import MEDIUM


class DropFiles(QObject):
    """Lets `panel` take files. `usable` picks the paths it can use from what is dragged (none: the drag is left to the window, which
    opens models); `take` gets them."""

    def __init__(
        self, panel: QWidget, words: str, services: Services, usable: Callable[[QMimeData], list[str]], take: Callable[[list[str]], None]
    ) -> None:
        super().__init__(panel)
        self._panel, self._services, self._usable, self._take = panel, services, usable, take
        self.veil = QLabel(words, panel, alignment=Qt.AlignmentFlag.AlignCenter)
        self.veil.setObjectName("dropHint")
        self.veil.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.veil.hide()
        panel.setAcceptDrops(True)
        panel.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        kind = event.type()
        if kind == QEvent.Type.DragEnter:
            self._enter(cast(QDragEnterEvent, event))
        elif kind == QEvent.Type.DragLeave:
            self.veil.hide()
        elif kind == QEvent.Type.Drop:
            self._drop(cast(QDropEvent, event))
        else:
            return False
        return True

    def _enter(self, event: QDragEnterEvent) -> None:
        if not self._usable(event.mimeData()):
            event.ignore()
            return
        event.acceptProposedAction()
        c = self._services.theme.colours
        self.veil.setStyleSheet(
            f"#dropHint {{ background: {c.info_surface}; color: {c.text}; border: 2px dashed {c.accent_text}; border-radius: {MEDIUM}px; }}"
        )
        self.veil.setGeometry(self._panel.rect().adjusted(MEDIUM, MEDIUM, -MEDIUM, -MEDIUM))
        self.veil.show()
        self.veil.raise_()

    def _drop(self, event: QDropEvent) -> None:
        self.veil.hide()
        paths = self._usable(event.mimeData())
        if paths:
            event.acceptProposedAction()
            self._take(paths)
