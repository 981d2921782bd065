"""The adapter that acts on the chat: its strength, and how to be rid of it."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QSignalBlocker, Qt, Signal, Slot
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QLabel, QSlider, QVBoxLayout, QWidget

from ui import icons
from ui.theme import SMALL, Theme, tabular
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import line_of

MOST: Final = 1.5
PARTS: Final = 20
"""Stops of the slider per whole: one is 0.05."""


class AdapterBar(QWidget):
    """Shown while an adapter is in use. A moved slider acts on the next message."""

    strength_changed = Signal(float)
    off_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.icon = QLabel()
        self.name = ElidingLabel(mode=Qt.TextElideMode.ElideMiddle)
        self.off = Button("Turn off", "Chat with the bare model from the next message on.")
        self.off.setAccessibleName("Turn the adapter off")
        self.off.clicked.connect(self.off_wanted)
        icons.bind(self.off, "close", theme)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, round(MOST * PARTS))
        self.slider.setPageStep(PARTS // 4)
        self.slider.setTickInterval(PARTS // 2)
        self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.slider.setAccessibleName("Adapter strength")
        self.slider.valueChanged.connect(self._moved)
        self.value = QLabel()
        self.value.setFont(tabular(self.value.font()))
        self.value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        label = QLabel("Strength")
        label.setBuddy(self.slider)
        tip = "How strongly the adapter acts from the next message on: 0 is the bare model, 1 as trained, more exaggerates."
        for widget in (label, self.slider, self.value):
            widget.setToolTip(tip)
        top = line_of(self.name, self.off)
        top.setStretch(0, 1)
        below = line_of(label, self.slider, self.value)
        below.setStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(top)
        layout.addLayout(below)
        self._show_value()
        self.hide()

    def show_adapter(self, state: Any) -> None:
        """An `AdapterState`, or None when the bare model answers."""
        self.setVisible(state is not None)
        if state is None:
            return
        self.name.set_full_text(f"Chat uses {state.name}")
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(state.strength * PARTS))
        self._show_value()

    @property
    def strength(self) -> float:
        return self.slider.value() / PARTS

    @Slot(int)
    def _moved(self, _value: int) -> None:
        self._show_value()
        self.strength_changed.emit(self.strength)

    def _show_value(self) -> None:
        self.value.setMinimumWidth(QFontMetrics(self.value.font()).horizontalAdvance("1.50 ×"))
        self.value.setText(f"{self.strength:.2f} ×")
        self.slider.setAccessibleDescription(f"{self.strength:.2f} times as strong as trained")
