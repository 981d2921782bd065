"""The Cache panel: beside the chat, so that a flip of the cache is seen where it acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QTimer, Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import LARGE, MEDIUM
from ui.widgets.column import ScrollColumn
from ui.widgets.text import Muted

if TYPE_CHECKING:
    from ui.caching.view import CacheView


@PANELS.register(
    "cache",
    label="Cache",
    help="In how many bits keys and values are kept, what they take, measured, and what each slot holds.",
    place=PanelPlace("right", order=20, icon="memory"),
)
class CachePanel(QWidget):
    """Empty until it is first looked at."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.view: CacheView | None = None
        self.waiting = Muted("Choices appear as soon as the engine is ready.")
        content = QWidget()
        self._column = QVBoxLayout(content)
        self._column.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        self._column.addWidget(self.waiting)
        self.scroll = ScrollColumn(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll)
        self.waiting.installEventFilter(self)
        services.bus.engine_ready.connect(self._on_engine)
        services.bus.engine_failed.connect(self._on_engine_failed)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # A dock behind another counts as visible (Qt moves it out of sight); what is painted is looked at.
        if watched is self.waiting and event.type() == QEvent.Type.Paint:
            QTimer.singleShot(0, self, self._make)
        return super().eventFilter(watched, event)

    @Slot(object)
    def _on_engine(self, _session: object) -> None:
        self.waiting.update()

    @Slot(object)
    def _on_engine_failed(self, _failure: object) -> None:
        self.waiting.setText("The engine did not load; the Log says why.")

    @Slot()
    def _make(self) -> None:
        if self.view is not None or self._services.session is None:
            return
        from ui.caching.view import CacheView  # the engine's types: any earlier would import torch

        self.waiting.hide()
        self.view = CacheView(self._services)
        self._column.addWidget(self.view)
