"""A switch for looking inside the blocks while a run goes on, and how often."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.forms.editors import OptionalNumberEditor
from ui.forms.help import field_html
from ui.forms.row import FieldRow
from ui.theme import SMALL
from ui.widgets.text import Muted
from workbench.core.fields import info_of
from workbench.core.metrics import FAMILIES
from workbench.training import TrainConfig

FIELD: Final = "probe_every"
USUAL: Final = 25
"""Steps between two looks: close enough to see a run change, and a look then costs next to nothing."""


class LookInside(QWidget):
    """`value` is the number of steps between two looks, or None. `changed` comes only from a person's hand."""

    changed = Signal()

    def __init__(self, value: int | None) -> None:
        super().__init__()
        info = info_of(TrainConfig, FIELD)
        self.editor = OptionalNumberEditor(info)
        self.editor.suggest(USUAL)
        self.editor.set_value(value)
        self.editor.edited.connect(self._edited)
        self.row = FieldRow(FIELD, self.editor, compact=True)
        what = ", ".join(f.label[0].lower() + f.label[1:] for f in FAMILIES.values())
        self.words = Muted(f"Live in the Monitor: {what}.")
        self.words.setContentsMargins(12, 0, 0, 0)  # where the labels of the forms begin, behind their marks
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addWidget(self.row)
        layout.addWidget(self.words)
        self._show()

    @property
    def value(self) -> int | None:
        self.editor.commit()
        value = self.editor.value()
        return None if value is None else int(value)

    @property
    def problem(self) -> str:
        """What is wrong with the number that is typed; empty when nothing is."""
        return self.editor.error

    def set_value(self, value: int | None) -> None:
        """Show another one; no signal."""
        self.editor.set_value(value)
        self._show()

    @Slot()
    def _edited(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        value = self.editor.value()
        self.words.setVisible(value is not None)
        self.row.set_problem(self.editor.error, value is not None)
        html = field_html(self.row.info, value, problem=self.editor.error)
        self.row.setToolTip(html)
        self.row.setWhatsThis(html)
        self.editor.describe(self.row.info.label, self.row.info.help)
