"""A slider that says its value."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Qt, Signal, Slot
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from ui.theme import SMALL, tabular


class _Quiet(QSlider):
    """The wheel moves it only while it has the focus."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class ValueSlider(QWidget):
    """A number from `low` to `high` in steps, with its value (and `unit`) beside it; `ticks` apart there are marks, and a page
    is half of that. `changed` comes only from a person's hand."""

    changed = Signal(float)

    def __init__(
        self,
        name: str,
        low: float,
        high: float,
        step: float,
        value: float,
        tooltip: str = "",
        *,
        unit: str = "",
        ticks: float | None = None,
    ) -> None:
        super().__init__()
        self._step = step
        self._unit = f" {unit}" if unit else ""
        self._digits = max(0, len(f"{step:g}".partition(".")[2]))
        self.slider = _Quiet(Qt.Orientation.Horizontal)
        self.slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.slider.setRange(round(low / step), round(high / step))
        self.slider.setPageStep(max(1, (self.slider.maximum() - self.slider.minimum()) // 10))
        if ticks is not None:
            self.slider.setTickInterval(round(ticks / step))
            self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
            self.slider.setPageStep(max(1, round(ticks / step / 2)))
        self.slider.setAccessibleName(name)
        self.slider.setAccessibleDescription(tooltip)
        self.slider.setMinimumWidth(60)
        self.reading = QLabel()
        self.reading.setFont(tabular(self.reading.font()))
        widest = max((self._words(v) for v in (low, high)), key=len)
        self.reading.setMinimumWidth(self.reading.fontMetrics().horizontalAdvance(widest) + 2)
        self.reading.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setToolTip(tooltip)
        self.setFocusProxy(self.slider)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SMALL)
        row.addWidget(self.slider, 1)
        row.addWidget(self.reading)
        self.slider.valueChanged.connect(self._moved)
        self.set_value(value)

    def _words(self, value: float) -> str:
        return f"{value:.{self._digits}f}{self._unit}"

    @property
    def value(self) -> float:
        return round(self.slider.value() * self._step, 10)

    def set_value(self, value: float) -> None:
        """Move without a signal."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(value / self._step))
        self.reading.setText(self._words(self.value))

    @Slot(int)
    def _moved(self, _value: int) -> None:
        self.reading.setText(self._words(self.value))
        self.changed.emit(self.value)
