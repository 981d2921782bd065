"""Which layers are adapted: a preset, or names and patterns."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.forms.editors import Editor, LineEditor
from ui.theme import SMALL
from ui.widgets.combo import OptionCombo
from workbench.adapters.config import TARGETS
from workbench.core.fields import FieldInfo

CUSTOM: Final = ""


class TargetsEditor(Editor):
    """A drop-down of the presets; its last entry opens a line for names and patterns."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        self.combo = OptionCombo()
        self.combo.fill([(o.name, o.label, o.help) for o in TARGETS.values()])
        self.combo.fill([(CUSTOM, "By name…", "Layer names, dotted ends or patterns, with commas between.")])
        self.combo.activated.connect(self._picked)
        self.names = LineEditor(info)
        self.names.line.setPlaceholderText("q_proj, blocks.3.*")
        self.names.edited.connect(self._named)
        column = QVBoxLayout(spacing=SMALL)
        column.addWidget(self.combo)
        column.addWidget(self.names)
        self._row.addLayout(column)
        self._value: tuple[str, ...] = ()

    def value(self) -> tuple[str, ...]:
        return self._value

    def set_value(self, value: Any) -> None:
        self._value = tuple(value)
        preset = len(self._value) == 1 and self._value[0] in TARGETS
        self._show(self._value[0] if preset else CUSTOM)

    def commit(self) -> None:
        if self.combo.currentData() == CUSTOM:
            self.names.commit()

    def stops(self) -> list[QWidget]:
        return [self.combo, *self.names.stops()]

    def describe(self, name: str, description: str) -> None:
        super().describe(name, description)
        self.names.describe(f"{name} by name", description)

    def _show(self, key: str) -> None:
        self.combo.setCurrentIndex(self.combo.findData(key))
        self.names.setVisible(key == CUSTOM)
        self.names.set_value(self._value)

    @Slot()
    def _picked(self) -> None:
        key = self.combo.currentData()
        if key == CUSTOM:
            self._show(CUSTOM)  # what was chosen stays in force until something else is typed
            self.names.line.setFocus()
            self.names.line.selectAll()
            return
        changed = self._value != (key,)
        self._value = (key,)
        self._show(key)
        if changed:
            self.edited.emit()

    @Slot()
    def _named(self) -> None:
        self._value = tuple(self.names.value())
        self.edited.emit()
