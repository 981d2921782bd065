"""The Model and architecture panel: which model, how it is built, what each decision costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Slot
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ui.architecture.picker import ModelPicker
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import MEDIUM, SMALL

if TYPE_CHECKING:
    from ui.architecture.editor import ArchitectureEditor


@PANELS.register(
    "architecture",
    label="Model",
    help="The model in use, its architecture as a diagram and as settings, and what each decision costs.",
    place=PanelPlace("left", order=10, icon="architecture"),
)
class ArchitecturePanel(QWidget):
    """The picker works at once; settings, diagram and costs come with the engine."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.editor: ArchitectureEditor | None = None
        self.picker = ModelPicker(services)
        self._waiting = QLabel("The architecture appears as soon as the engine is ready.", wordWrap=True)
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._waiting.setEnabled(False)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, MEDIUM, 0, 0)
        self._layout.setSpacing(MEDIUM)
        top = QVBoxLayout()
        top.setContentsMargins(MEDIUM, 0, MEDIUM, 0)
        top.setSpacing(SMALL)
        top.addWidget(self.picker)
        self._layout.addLayout(top)
        self._layout.addWidget(self._waiting, 1)
        self.setFocusProxy(self.picker.combo)
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.model_changed.connect(self._on_model)
        services.actions.bind("model.pick", self._pick)
        if services.session is not None:
            self._on_engine(services.session)

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        if self.editor is not None:
            return
        from ui.architecture.editor import ArchitectureEditor  # the engine's types: any earlier would import torch

        self._waiting.hide()
        self.editor = ArchitectureEditor(self._services)
        self._layout.addWidget(self.editor, 1)
        summary = getattr(session, "model", None)
        if summary is not None:
            self.editor.show_model(summary)

    @Slot(object)
    def _on_engine_failed(self, failure: object) -> None:
        self._waiting.setText("The engine did not load; the Log says why.")

    @Slot(object)
    def _on_model(self, summary: Any) -> None:
        if self.editor is not None:
            self.editor.show_model(summary)

    def _pick(self) -> None:
        self._services.bus.show_panel.emit("architecture")
        self.picker.combo.setFocus(Qt.FocusReason.ShortcutFocusReason)
