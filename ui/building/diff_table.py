"""What two architectures differ in: setting, A, B."""

from __future__ import annotations

from functools import partial
from typing import Final

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QToolButton, QWidget

from ui import icons
from ui.building.words import difference_texts
from ui.theme import MEDIUM, SMALL, Theme, tabular
from ui.widgets.labels import MutedLabel
from workbench.model import ModelConfig, account
from workbench.model.differences import differences

SIDES: Final = ("A", "B")


class DiffTable(QWidget):
    """One line per difference. With `removable` each line has a button that takes the change back."""

    removed = Signal(str)
    """The field of B that should be as in A again."""

    def __init__(self, theme: Theme, *, removable: bool = False) -> None:
        super().__init__()
        self._theme = theme
        self._removable = removable
        self.rows: list[tuple[str, str, str]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(MEDIUM)
        self._grid.setVerticalSpacing(SMALL)
        for column, share in enumerate((4, 3, 3)):
            self._grid.setColumnStretch(column, share)
        self.buttons: dict[str, QToolButton] = {}
        self._shown: tuple[ModelConfig, ModelConfig] | None = None

    def show_configs(self, a: ModelConfig, b: ModelConfig) -> None:
        """Draw the table anew when either is another one."""
        if (a, b) == self._shown:
            return
        self._shown = a, b
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self.buttons = {}
        found = [d for d in differences(a, b) if d.field != "vocab_size"]
        self.rows = [difference_texts(d, a, b) for d in found]
        for column, side in enumerate(SIDES, start=1):
            self._grid.addWidget(MutedLabel(side), 0, column)
        for number, (difference, texts) in enumerate(zip(found, self.rows, strict=True), start=1):
            for column, text in enumerate(texts):
                self._grid.addWidget(self._cell(text, strong=column > 0), number, column)
            field = difference.field.partition(".")[0]
            if self._removable and field not in self.buttons:
                self._grid.addWidget(self._button(field, texts[0]), number, 3)
        self._add_sizes(a, b)
        self.setAccessibleName("; ".join(f"{label}: A {one}, B {other}" for label, one, other in self.rows))
        self.setVisible(bool(self.rows))

    def _add_sizes(self, a: ModelConfig, b: ModelConfig) -> None:
        """How large both are, where that differs."""
        if not self.rows or a.problems() or b.problems():
            return
        sizes = [account(config).parameters for config in (a, b)]
        if sizes[0] != sizes[1]:
            self._grid.addWidget(MutedLabel("Parameters"), len(self.rows) + 1, 0)
            for column, size in enumerate(sizes, start=1):
                self._grid.addWidget(MutedLabel(f"{size:,}"), len(self.rows) + 1, column)

    def _cell(self, text: str, strong: bool) -> QLabel:
        label = QLabel(text, wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        font = QFont(tabular(label.font()))
        font.setWeight(QFont.Weight.DemiBold if strong else QFont.Weight.Normal)
        label.setFont(font)
        return label

    def _button(self, field: str, label: str) -> QToolButton:
        button = QToolButton(autoRaise=True, iconSize=QSize(12, 12))
        button.setToolTip(f"{label}: as in A again")
        button.setAccessibleName(f"{label}: as in A again")
        icons.bind(button, "close", self._theme, "muted")
        button.clicked.connect(partial(self._remove, field))
        self.buttons[field] = button
        return button

    def _remove(self, field: str, _checked: bool = False) -> None:
        self.removed.emit(field)
