"""One model per row: on this machine, or on the hub."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal, Slot
from PySide6.QtGui import QFont, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui.hub.bits import Badge, DownloadLine
from ui.hub.controller import Download, Look
from ui.theme import LARGE, MEDIUM, SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted
from ui.widgets.tones import colours_of
from workbench.core.format import bytes_text, count_text
from workbench.hub import HubModel, Offer
from workbench.library import Fit, ModelEntry

FORMATS = {"gguf": "GGUF", "hf": "safetensors", "workbench": "workbench"}
NARROW = 560
"""Pixels; below it a row puts its parts under each other."""


class _Row(QFrame):
    """Name and badge, facts below them, buttons at the right; `below` takes what folds out."""

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__()
        self.setObjectName("modelRow")
        self.setAccessibleName(name)
        self.theme = theme
        self.name = ElidingLabel(name, mode=Qt.TextElideMode.ElideMiddle)
        self.badge = Badge(theme)
        self.facts = Muted()
        self.buttons = QWidget()
        in_line = QHBoxLayout(self.buttons)
        in_line.setContentsMargins(0, 0, 0, 0)
        in_line.setSpacing(SMALL)
        self.below = QVBoxLayout()
        self.below.setContentsMargins(0, 0, 0, 0)
        self.below.setSpacing(SMALL)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(MEDIUM, MEDIUM, MEDIUM, MEDIUM)
        self._grid.setHorizontalSpacing(MEDIUM)
        self._grid.setVerticalSpacing(SMALL // 2)
        self._grid.setColumnStretch(0, 1)
        self._narrow: bool | None = None
        self._arrange(False)
        self._tint()

    def _arrange(self, narrow: bool) -> None:
        """Wide: the badge beside the name, the buttons beside both lines. Narrow: everything below the other."""
        if narrow == self._narrow:
            return
        self._narrow = narrow
        left, middle = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignVCenter
        if narrow:
            places = ((self.name, 0, 0, 1, 3, None), (self.badge, 1, 0, 1, 3, left), (self.facts, 2, 0, 1, 3, None),
                      (self.buttons, 3, 0, 1, 3, left))  # fmt: skip
        else:
            places = ((self.name, 0, 0, 1, 1, None), (self.badge, 0, 1, 1, 1, middle), (self.facts, 1, 0, 1, 2, None),
                      (self.buttons, 0, 2, 2, 1, middle))  # fmt: skip
        for widget, row, column, rows, columns, align in places:
            self._grid.removeWidget(widget)
            self._grid.addWidget(widget, row, column, rows, columns, align or Qt.AlignmentFlag(0))
        if not self._grid.itemAtPosition(4, 0):
            self._grid.addLayout(self.below, 4, 0, 1, 3)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange(event.size().width() < NARROW)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def add_button(self, text: str, tooltip: str) -> Button:
        button = Button(text, tooltip)
        button.setAccessibleName(f"{text}: {self.accessibleName()}")
        button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        layout = self.buttons.layout()
        assert layout is not None
        layout.addWidget(button)
        return button

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._tint()

    def _tint(self) -> None:
        font = QFont(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        if self.name.font() != font:
            self.name.setFont(font)
        c = colours_of(self)
        sheet = f"#modelRow {{ border: none; border-bottom: 1px solid {c.border}; }}"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)


class LibraryRow(_Row):
    """A model on this machine: load it, or move it to the trash."""

    load_wanted = Signal(object)
    remove_wanted = Signal(object)

    def __init__(self, theme: Theme, entry: ModelEntry, label: str, removable: bool) -> None:
        super().__init__(theme, label)
        self.entry = entry
        self._removable = removable
        self.load_button = self.add_button("Load", "Load this model; the one in use stays until it is whole.")
        self.load_button.clicked.connect(lambda: self.load_wanted.emit(self.entry))
        self.remove_button = self.add_button("Remove…", "Move this model to the library's trash.")
        self.remove_button.clicked.connect(lambda: self._ask(True))
        self.yes_button = self.add_button("Move to the trash", "The files stay in the data folder's trash until it is emptied.")
        self.yes_button.clicked.connect(lambda: self.remove_wanted.emit(self.entry))
        self.no_button = self.add_button("Keep", "Leave it where it is.")
        self.no_button.clicked.connect(lambda: self._ask(False))
        self._ask(False)

    def _ask(self, asking: bool) -> None:
        for button in (self.yes_button, self.no_button):
            button.setVisible(asking)
        self.load_button.setVisible(not asking)
        self.remove_button.setVisible(not asking and self._removable)
        if asking:
            self.no_button.setFocus(Qt.FocusReason.OtherFocusReason)

    def show_state(self, known: Any, fit: Fit, in_use: bool, waiting: str) -> None:
        """`known` is the Appraisal, or None; `waiting` is why it cannot be loaded now, "" when it can."""
        entry = self.entry
        parts = [known.architecture, f"{count_text(known.parameters)} parameters"] if known and not known.problem else []
        parts += [bytes_text(entry.bytes), FORMATS.get(entry.format, entry.format)]
        if known and not known.problem:
            parts.append(f"context {known.context:,}")
            parts += [] if known.chat else ["no chat template"]
        parts += ["opened lately"] if entry.recent else []
        self.facts.setText(known.problem if known and known.problem else " · ".join(parts))
        self.setToolTip(str(entry.path))
        if in_use:
            self.badge.show_words("in use", "check", "accent_text", "This model is loaded.")
        elif known and known.problem:
            self.badge.show_words("cannot be opened", "error", "error", known.problem)
        else:
            self.badge.show_fit(fit)
        possible = not in_use and not (known and known.problem)
        self.load_button.setEnabled(possible and not waiting)
        self.load_button.setToolTip(waiting or "Load this model; the one in use stays until it is whole.")
        self.remove_button.setEnabled(not in_use)
        self.remove_button.setToolTip("Unload it first." if in_use else "Move this model to the library's trash.")


class OfferLine(QWidget):
    """One thing of a repository that can be downloaded, with its exact size."""

    def __init__(self, offer: Offer) -> None:
        super().__init__()
        self.offer = offer
        self.label = ElidingLabel(f"{offer.label}  ·  {bytes_text(offer.bytes)}", mode=Qt.TextElideMode.ElideMiddle)
        self.button = Button("Download", f"Download {offer.spec}")
        self.button.setAccessibleName(f"Download {offer.spec}")
        self.line = DownloadLine(offer.spec)
        row = QHBoxLayout(spacing=MEDIUM)
        row.addWidget(self.label, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE, SMALL, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(row)
        layout.addWidget(self.line)

    def show_state(self, download: Download | None, here: bool) -> None:
        """The button says what is so; the line below how it goes."""
        show_button(self.button, self.offer.spec, download, here)
        self.line.show_download(download)


def show_button(button: Button, spec: str, download: Download | None, here: bool) -> None:
    """ "Download" or "Load"; nothing while it is under way."""
    button.setVisible(here or download is None or download.word == "Done")
    here = here or (download is not None and download.word == "Done")
    button.setText("Load" if here else "Download")
    button.setToolTip("It is on this machine: load it." if here else f"Download {spec}")
    button.setAccessibleName(f"{button.text()} {spec}")


class ResultRow(_Row):
    """A model on the hub. One with several files folds them out, asked for when they are wanted."""

    download_wanted = Signal(str)
    load_wanted = Signal(str)
    stop_wanted = Signal(str)
    discard_wanted = Signal(str)
    look_wanted = Signal(str)

    def __init__(self, theme: Theme, model: HubModel, fit: Fit | None) -> None:
        super().__init__(theme, model.id)
        self.model = model
        self.offers: dict[str, OfferLine] = {}
        self._here: frozenset[str] = frozenset()
        self.facts.setText(_facts(model))
        self.get_button = self.add_button("Download", f"Download {model.id}")
        self.get_button.clicked.connect(lambda: self._use(self.model.id))
        self.files_button = self.add_button("Files…", "Show what can be downloaded, with sizes.")
        self.files_button.clicked.connect(self._toggle_files)
        self.line: DownloadLine | None = None
        self.files: QWidget | None = None
        self.news = Muted()
        if model.problem:
            self.badge.show_words("cannot be opened", "error", "error", f"It cannot be opened: {model.problem}.")
            self.facts.setText(f"{_facts(model)}\nCannot be opened: {model.problem}.")
        else:
            self.badge.show_fit(fit)
        self._whole = "safetensors" in model.formats and not model.problem
        self.get_button.setVisible(self._whole)
        self.files_button.setVisible(bool(model.ggufs))

    def _join(self, line: DownloadLine) -> None:
        line.stop_wanted.connect(self.stop_wanted)
        line.resume_wanted.connect(self.download_wanted)
        line.discard_wanted.connect(self.discard_wanted)

    def _use(self, spec: str) -> None:
        (self.load_wanted if spec in self._here else self.download_wanted).emit(spec)

    @Slot()
    def _toggle_files(self) -> None:
        if self.files is None:
            self.files = QWidget()
            inside = QVBoxLayout(self.files)
            inside.setContentsMargins(0, SMALL, 0, 0)
            inside.setSpacing(SMALL)
            inside.addWidget(self.news)
            self.files.hide()
            self.below.addWidget(self.files)
        self.files.setVisible(self.files.isHidden())
        if not self.files.isHidden() and not self.offers:
            self.look_wanted.emit(self.model.id)

    def show_look(self, look: Look) -> None:
        """The files, or that they are asked for, or why they are not known."""
        for offer in self.offers.values():
            offer.deleteLater()
        self.offers.clear()
        asking = "Asking the hub for its files…"
        self.news.setText(f"{look.message} {look.hint}".strip() if look.page is None and look.message else asking)
        self.news.setVisible(look.page is None)
        inside = self.files.layout() if self.files is not None else None
        for offer in look.page.offers if look.page is not None and inside is not None else ():
            line = self.offers[offer.spec] = OfferLine(offer)
            self._join(line.line)
            line.button.clicked.connect(lambda _checked=False, spec=offer.spec: self._use(spec))
            inside.addWidget(line)

    def show_downloads(self, downloads: dict[str, Download], here: frozenset[str]) -> None:
        """What is under way, and what of this repository is on this machine."""
        self._here = here | {spec for spec, d in downloads.items() if d.word == "Done"}
        if self._whole:
            current = downloads.get(self.model.id)
            show_button(self.get_button, self.model.id, current, self.model.id in here)
            if self.line is None and current is not None:
                self.line = DownloadLine(self.model.id)
                self._join(self.line)
                self.below.insertWidget(0, self.line)
            if self.line is not None:
                self.line.show_download(current)
        for spec, line in self.offers.items():
            line.show_state(downloads.get(spec), spec in here)


def _facts(model: HubModel) -> str:
    parts = [model.architecture] if model.architecture else []
    parts += [f"{count_text(model.parameters)} parameters"] if model.parameters else []
    parts += [bytes_text(model.weight_bytes)] if model.weight_bytes else []
    kinds = ["safetensors"] if "safetensors" in model.formats else []
    kinds += [f"{len(model.ggufs)} GGUF"] if model.ggufs else []
    parts += [", ".join(kinds)] if kinds else []
    parts.append(f"{count_text(model.downloads)} downloads")
    parts += [f"{count_text(model.likes)} like{'s' if model.likes != 1 else ''}"] if model.likes else []
    parts += [f"updated {model.updated}"] if model.updated else []
    parts += ["gated: needs an account"] if model.gated else []
    return " · ".join(parts)
