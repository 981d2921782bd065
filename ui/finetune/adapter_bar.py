"""The adapter that acts on the chat: its strength, and how to be rid of it."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ui import icons
from ui.theme import SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.slider import ValueSlider
from ui.widgets.text import line_of

MOST: Final = 1.5
STEP: Final = 0.05
TIP: Final = "How strongly the adapter acts from the next message on: 0 is the bare model, 1 as trained, more exaggerates."


class AdapterBar(QWidget):
    """Shown while an adapter is in use. A moved slider acts on the next message."""

    strength_changed = Signal(float)
    off_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.name = ElidingLabel(mode=Qt.TextElideMode.ElideMiddle)
        self.off = Button("Turn off", "Chat with the bare model from the next message on.")
        self.off.setAccessibleName("Turn the adapter off")
        self.off.clicked.connect(self.off_wanted)
        icons.bind(self.off, "close", theme)
        self.strength_slider = ValueSlider("Adapter strength", 0, MOST, STEP, 1.0, TIP, unit="×", ticks=0.5)
        self.strength_slider.changed.connect(self._moved)
        label = QLabel("Strength")
        label.setBuddy(self.strength_slider.slider)
        label.setToolTip(TIP)
        top = line_of(self.name, self.off)
        top.setStretch(0, 1)
        below = line_of(label, self.strength_slider)
        below.setStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(top)
        layout.addLayout(below)
        self._describe()
        self.hide()

    def show_adapter(self, state: Any) -> None:
        """An `AdapterState`, or None when the bare model answers."""
        self.setVisible(state is not None)
        if state is None:
            return
        self.name.set_full_text(f"Chat uses {state.name}")
        self.strength_slider.set_value(state.strength)
        self._describe()

    @property
    def strength(self) -> float:
        return self.strength_slider.value

    @Slot(float)
    def _moved(self, strength: float) -> None:
        self._describe()
        self.strength_changed.emit(strength)

    def _describe(self) -> None:
        self.strength_slider.slider.setAccessibleDescription(f"{self.strength:.2f} times as strong as trained")
