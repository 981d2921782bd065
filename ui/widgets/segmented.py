"""A few values side by side, one of them chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QEvent, Signal, Slot
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from ui.widgets.tones import colours_of


class SegmentedControl(QWidget):
    """Options (value, label, help). Arrow keys move within, Tab leaves. `chosen` comes only from a person's hand."""

    chosen = Signal(object)

    def __init__(self, options: Sequence[tuple[Any, str, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._values = [value for value, _, _ in options]
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for index, (_, label, help_text) in enumerate(options):
            button = QPushButton(label, checkable=True)
            button.setToolTip(help_text)
            button.setAccessibleName(label)
            button.setAccessibleDescription(help_text)
            button.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            self._group.addButton(button, index)
            row.addWidget(button)
        row.addStretch(1)
        self._group.idClicked.connect(self._clicked)
        self._tint()

    def buttons(self) -> list[QAbstractButton]:
        return self._group.buttons()

    def set_group_name(self, name: str) -> None:
        """Accessible names become "name: option"."""
        self.setAccessibleName(name)
        for button in self._group.buttons():
            button.setAccessibleName(f"{name}: {button.text()}")

    @property
    def value(self) -> Any:
        """The chosen value; None while nothing is chosen."""
        return self._values[self._group.checkedId()] if self._group.checkedId() >= 0 else None

    def set_value(self, value: Any) -> None:
        """Choose without a signal; an unknown value chooses nothing."""
        index = self._values.index(value) if value in self._values else -1
        self._group.setExclusive(False)
        for i, button in enumerate(self._group.buttons()):
            button.setChecked(i == index)
        self._group.setExclusive(True)

    def focus_button(self) -> QAbstractButton:
        """The button that Tab should reach: the chosen one, or the first."""
        return self._group.checkedButton() or self._group.buttons()[0]

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    @Slot(int)
    def _clicked(self, index: int) -> None:
        self.chosen.emit(self._values[index])

    def _tint(self) -> None:
        c = colours_of(self)
        last = len(self._values) - 1
        for i, button in enumerate(self._group.buttons()):
            left, right = (3 if i == 0 else 0), (3 if i == last else 0)
            sheet = f"""
                QPushButton {{ border: 1px solid {c.border}; {"" if i == 0 else "border-left: none;"} padding: 0 7px;
                    background: {c.base}; color: {c.text}; border-top-left-radius: {left}px; border-bottom-left-radius: {left}px;
                    border-top-right-radius: {right}px; border-bottom-right-radius: {right}px; }}
                QPushButton:hover {{ background: {c.alternate}; }}
                QPushButton:checked {{ background: {c.accent}; color: {c.on_accent}; border-color: {c.accent}; }}
                QPushButton:focus {{ text-decoration: underline; border: 1px solid {c.accent_text}; }}
                QPushButton:disabled {{ color: {c.disabled}; background: {c.window}; border-color: {c.border}; }}
                QPushButton:checked:disabled {{ color: {c.text}; background: {c.raised}; border-color: {c.border}; }}"""
            if sheet != button.styleSheet():
                button.setStyleSheet(sheet)
