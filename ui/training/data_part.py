"""Which data to learn from: what every machine has, files chosen or dropped, and what was used lately."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QMimeData, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ui import icons
from ui.theme import SMALL, Theme
from ui.training.remembered import Sources
from ui.widgets.button import Button
from ui.widgets.combo import OptionCombo
from ui.widgets.sizes import control_height
from ui.widgets.text import Muted, line_of
from workbench.data import SOURCES
from workbench.data.files import suffixes

ChooseFiles = Callable[[QWidget, Callable[[list[str]], Any]], Any]
MODEL_CONFIG: Final = "config.json"


def ask_for_files(parent: QWidget, chosen: Callable[[list[str]], Any]) -> None:
    """A file dialog that calls `chosen(paths)`."""
    known = " ".join(f"*{s}" for s in sorted(suffixes()))
    dialog = QFileDialog(parent, "Choose training data", "", f"Data ({known});;All files (*)")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
    dialog.filesSelected.connect(chosen)
    dialog.open()


def label_of(sources: Sources) -> str:
    """What a choice is called in the list."""
    if len(sources) == 1:
        return SOURCES[sources[0]].label if sources[0] in SOURCES else Path(sources[0]).name or sources[0]
    names = [Path(s).name for s in sources]
    return f"{len(names)} files: {', '.join(names)}"


def help_of(sources: Sources) -> str:
    """One sentence about the choice."""
    if len(sources) == 1 and sources[0] in SOURCES:
        return SOURCES[sources[0]].help
    if len(sources) == 1:
        return str(Path(sources[0]).parent)
    return ", ".join(Path(s).name for s in sources)


def dropped_data(mime: QMimeData) -> list[str]:
    """Local data files and folders that are dragged; empty when one of them is something else, such as a model."""
    paths = [Path(u.toLocalFile()) for u in mime.urls() if u.isLocalFile()]
    if len(paths) != len(mime.urls()) or not all(_is_data(p) for p in paths):
        return []
    return [str(p) for p in paths]


def _is_data(path: Path) -> bool:
    return not (path / MODEL_CONFIG).exists() if path.is_dir() else path.suffix.lower() in suffixes()


class DataPicker(QWidget):
    """A drop-down of data sets and a button for files. `chosen` comes only from a person's hand."""

    chosen = Signal(object)
    """tuple[str, ...]: paths or names of built-in sets."""

    def __init__(self, theme: Theme, choose: ChooseFiles = ask_for_files) -> None:
        super().__init__()
        self.choose = choose
        self._recent: tuple[Sources, ...] = ()
        self._sources: Sources = ()
        self.combo = OptionCombo()
        self.combo.setAccessibleName("Training data")
        self.combo.activated.connect(self._picked)
        self.files = Button("Files…", "Choose text, Markdown, JSON lines, JSON or CSV files; or drop them onto this panel.")
        self.files.setAccessibleName("Choose files")
        icons.bind(self.files, "file", theme)
        self.files.clicked.connect(self._ask)
        self.help = Muted()
        row = line_of(self.combo, self.files)
        row.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(row)
        layout.addWidget(self.help)
        self.combo.setFixedHeight(control_height(self.combo))

    @property
    def sources(self) -> Sources:
        return self._sources

    def show_sources(self, sources: Sources, recent: Iterable[Sources]) -> None:
        """List the built-in sets and the recent files, and show `sources` as chosen; no signal."""
        built_in = [(name,) for name in SOURCES.names()]
        self._sources = sources
        self._recent = tuple(r for r in recent if r not in built_in)
        listed: list[Sources] = [*built_in, *self._recent]
        if sources and sources not in listed:
            listed.append(sources)
        with QSignalBlocker(self.combo):
            self.combo.clear()
            for number, item in enumerate(listed):
                if number == len(built_in):
                    self.combo.insertSeparator(number)
                self.combo.addItem(label_of(item), item)
                self.combo.setItemData(self.combo.count() - 1, "\n".join(item), Qt.ItemDataRole.ToolTipRole)
            self.combo.setCurrentIndex(next((i for i in range(self.combo.count()) if self.combo.itemData(i) == sources), -1))
        self.help.setText(help_of(sources) if sources else "Choose a data set, or drop files here.")
        self.combo.setAccessibleDescription(self.help.text())

    def take(self, paths: Sequence[str]) -> None:
        """Use these files, as if chosen by hand."""
        if paths:
            self._set(tuple(paths))

    @Slot()
    def _ask(self) -> None:
        self.choose(self, self.take)

    @Slot()
    def _picked(self) -> None:
        self._set(tuple(self.combo.currentData()))

    def _set(self, sources: Sources) -> None:
        if sources != self._sources:
            self.show_sources(sources, self._recent if sources in self._recent else (sources, *self._recent))
            self.chosen.emit(sources)
