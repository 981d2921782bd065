"""The Compare panel: architectures side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ui.panels import PANELS, PanelPlace
from ui.services import Services

if TYPE_CHECKING:
    from ui.architecture.compare import CompareView


@PANELS.register(
    "compare",
    label="Compare",
    help="Architectures side by side: their diagrams, what differs, and what each costs.",
    place=PanelPlace("centre", order=50, icon="architecture", shown=False),
)
class ComparePanel(QWidget):
    """Empty until it is first looked at: most people chat."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.view: CompareView | None = None
        self._draft: Any = None
        self._waiting = QLabel("The comparison appears as soon as the engine is ready.", wordWrap=True)
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._waiting.setEnabled(False)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self._waiting, 1)
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.draft_changed.connect(self._on_draft)
        bus.model_changed.connect(self._on_model)
        bus.compare_requested.connect(self.compare)

    @Slot(object)
    def compare(self, names: tuple[str, ...]) -> None:
        """Come to the front and lay these side by side."""
        if self._make() is not None:
            self.view.compare(names)
        self._services.bus.show_panel.emit("compare")

    def _make(self) -> CompareView | None:
        if self.view is None and self._services.session is not None:
            from ui.architecture.compare import CompareView  # the engine's types: any earlier would import torch

            self._waiting.hide()
            self.view = CompareView(self._services)
            if self._draft is not None:
                self.view.follow_draft(self._draft)
            self._layout.addWidget(self.view, 1)
        return self.view

    def showEvent(self, event: QShowEvent) -> None:
        self._make()
        super().showEvent(event)

    @Slot(object)
    def _on_engine(self, _session: object) -> None:
        if self.isVisible():
            self._make()

    @Slot(object)
    def _on_engine_failed(self, _failure: object) -> None:
        self._waiting.setText("The engine did not load; the Log says why.")

    @Slot(object)
    def _on_draft(self, draft: tuple[str, Any]) -> None:
        self._draft = draft
        if self.view is not None:
            self.view.follow_draft(draft)

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        if self.view is not None:
            self.view.follow_model()
