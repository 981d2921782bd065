"""The Quantize page: the loaded model's weights in few bits, and the experiment that shows why the norms are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.segmented import SegmentedControl
from ui.widgets.text import Muted

if TYPE_CHECKING:
    from ui.quantizing.norm_experiment import NormExperiment
    from ui.quantizing.weights import WeightsPage

WEIGHTS, NORMS = "weights", "norms"
_WAITING: Final = "Choices appear as soon as the engine is ready."


@PANELS.register(
    "quantize",
    label="Quantize",
    help="Keeps the model's weights in few bits, module by module, and shows why norms are skipped.",
    place=PanelPlace("centre", order=30, icon="memory"),
)
class QuantizePanel(QWidget):
    """Two pages. Empty until it is first looked at."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.weights: WeightsPage | None = None
        self.norms: NormExperiment | None = None
        self.headline = QLabel("Weights in few bits")
        font = self.headline.font()
        font.setWeight(font.Weight.DemiBold)
        self.headline.setFont(font)
        self.pages = SegmentedControl([
            (WEIGHTS, "Weights", "Which modules are kept in how many bits."),
            (NORMS, "Why norms are skipped", "An experiment: what rounding the norms would cost."),
        ])  # fmt: skip
        self.pages.set_group_name("Page")
        self.pages.set_value(WEIGHTS)
        self.pages.chosen.connect(self.show_page)
        self.waiting = Muted(_WAITING)
        self.waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.waiting)
        head = QHBoxLayout()
        head.setContentsMargins(LARGE, MEDIUM, LARGE, SMALL)
        head.addWidget(self.headline, 1)
        head.addWidget(self.pages)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addWidget(self.stack, 1)
        services.bus.engine_ready.connect(self._on_engine)
        services.bus.engine_failed.connect(self._on_engine_failed)

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

    def _make(self) -> None:
        if self.weights is not None or self._services.session is None:
            return
        from ui.quantizing.weights import WeightsPage  # the engine's types: any earlier would import torch

        self.weights = WeightsPage(self._services)
        self.weights.quality_wanted.connect(self._services.bus.quality_requested)
        page = QWidget()
        inside = QVBoxLayout(page)
        inside.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        inside.addWidget(self.weights)
        self.stack.addWidget(page)
        self.show_page(self.pages.value)

    @Slot(object)
    def show_page(self, name: str) -> None:
        """Bring one of the two pages to the front; the experiment is made when it is first asked for."""
        self.pages.set_value(name)
        if self.weights is None:
            return
        if name == NORMS and self.norms is None:
            self._make_norms()
        self.headline.setText("Weights in few bits" if name == WEIGHTS else "Why INT8 skips the norms")
        self.stack.setCurrentIndex(1 if name == WEIGHTS else 2)

    def _make_norms(self) -> None:
        from ui.quantizing.norm_experiment import NormExperiment

        self.norms = NormExperiment(self._services)
        scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        column.addWidget(self.norms)
        scroll.setWidget(content)
        self.stack.addWidget(scroll)
