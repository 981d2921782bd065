"""How text becomes tokens: bytes, a BPE that is learnt from the data, or the tokenizer of a model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QSignalBlocker, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ui import icons
from ui.forms import ConfigForm
from ui.theme import SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.combo import OptionCombo
from ui.widgets.sizes import control_height
from ui.widgets.text import line_of
from workbench.core.fields import Problem
from workbench.tokenizers.config import TokenizerConfig

EXISTING: Final = "existing"
LEARNT: Final = "bpe"
ChooseModel = Callable[[QWidget, Callable[[str], Any]], Any]


def ask_for_model(parent: QWidget, chosen: Callable[[str], Any]) -> None:
    """A file dialog that calls `chosen(path)`."""
    dialog = QFileDialog(parent, "Take the tokenizer of", "", "Models and tokenizers (*.gguf *.json);;All files (*)")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.fileSelected.connect(chosen)
    dialog.open()


class TokenizerPart(QWidget):
    """A generated form; the model whose tokenizer is taken is chosen from those on this machine. `changed`: by a person."""

    changed = Signal()

    def __init__(self, theme: Theme, value: TokenizerConfig, models: Callable[[], Iterable[tuple[str, str]]]) -> None:
        super().__init__()
        self.choose: ChooseModel = ask_for_model
        self._models = models
        self.form = ConfigForm(TokenizerConfig, value, compact=True, exclude={"path"})
        self.form.changed.connect(self._edited)
        self.form.problems_changed.connect(self._told)
        self.combo = OptionCombo()
        self.combo.setAccessibleName("Model whose tokenizer is taken")
        self.combo.setPlaceholderText("Choose a model")
        self.combo.activated.connect(self._picked)
        self.files = Button("File…", "Choose a GGUF file, a tokenizer.json, or a model folder by its config.json.")
        self.files.setAccessibleName("Choose the tokenizer of a file")
        icons.bind(self.files, "file", theme)
        self.files.clicked.connect(self._ask)
        self.existing = QWidget()
        row = line_of(self.combo, self.files)
        row.setContentsMargins(12, 0, 0, 0)
        row.setStretch(0, 1)
        self.existing.setLayout(row)
        self.combo.setFixedHeight(control_height(self.combo))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addWidget(self.form)
        layout.addWidget(self.existing)
        self._show()

    @property
    def value(self) -> TokenizerConfig:
        found: TokenizerConfig = self.form.value
        return found

    @property
    def problems(self) -> list[Problem]:
        return self.form.problems

    def set_value(self, value: TokenizerConfig) -> None:
        """Show another one; no signal."""
        self.form.set_value(value)
        self._show()

    def set_locked(self, locked: bool) -> None:
        for widget in (self.form, self.existing):
            widget.setEnabled(not locked)

    @Slot(object)
    def _edited(self, _value: object) -> None:
        self._show()
        self.changed.emit()

    @Slot(object)
    def _told(self, _problems: object) -> None:
        self.changed.emit()

    def _show(self) -> None:
        value = self.value
        self.form.rows["vocab_size"].setVisible(value.kind == LEARNT)
        self.existing.setVisible(value.kind == EXISTING)
        if value.kind == EXISTING:
            self._fill(value.path)

    def _fill(self, path: str | None) -> None:
        with QSignalBlocker(self.combo):
            self.combo.clear()
            self.combo.fill([(target, label, target) for target, label in self._models()])
            if path and self.combo.findData(path) < 0:
                self.combo.fill([(path, Path(path).name, path)])
            self.combo.setCurrentIndex(self.combo.findData(path) if path else -1)

    @Slot()
    def _picked(self) -> None:
        self._take(self.combo.currentData())

    @Slot()
    def _ask(self) -> None:
        self.choose(self, self._take)

    def _take(self, path: str) -> None:
        chosen = Path(path)
        path = str(chosen.parent) if chosen.name == "config.json" else path
        if path != self.value.path:
            self.form.set_value(replace(self.value, path=path))
            self._show()
            self.changed.emit()
