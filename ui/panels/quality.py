"""The Quality page: what caches and weights in few bits do to the model's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import LARGE, MEDIUM
from ui.widgets.text import Muted

if TYPE_CHECKING:
    from ui.quality.view import QualityView


@PANELS.register(
    "quality",
    label="Quality",
    help="Holds caches and weights in few bits against the exact ones: perplexity, divergence, agreement, with their uncertainty.",
    place=PanelPlace("centre", order=40, icon="study"),
)
class QualityPanel(QWidget):
    """Empty until it is first looked at."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.view: QualityView | None = None
        self.headline = QLabel("What compression costs")
        font = self.headline.font()
        font.setWeight(font.Weight.DemiBold)
        self.headline.setFont(font)
        self.waiting = Muted("Choices appear as soon as the engine is ready.")
        self.scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content = QWidget()
        self._column = QVBoxLayout(content)
        self._column.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        self._column.setSpacing(MEDIUM)
        self._column.addWidget(self.headline)
        self._column.addWidget(self.waiting)
        self._column.addStretch(1)
        self.scroll.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll)
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.quality_requested.connect(self._on_request)

    def showEvent(self, event: QShowEvent) -> None:
        self._make()
        super().showEvent(event)

    @Slot(object)
    def _on_engine(self, _session: object) -> None:
        if self.isVisible():
            self._make()

    @Slot(object)
    def _on_engine_failed(self, _failure: object) -> None:
        self.waiting.setText("The engine did not load; the Log says why.")

    @Slot()
    def _on_request(self) -> None:
        self._make()
        if self.view is not None:
            self.view.ask_about_what_is_in_use()
        self._services.bus.show_panel.emit("quality")

    def _make(self) -> None:
        if self.view is not None or self._services.session is None:
            return
        from ui.quality.view import QualityView  # the engine's types: any earlier would import torch

        self.waiting.hide()
        self.view = QualityView(self._services)
        self._column.insertWidget(2, self.view)
