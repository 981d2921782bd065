"""The models of this machine and of the hub in one list: a field that filters the one and searches the other."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QSize, Qt, QTimer, Slot
from PySide6.QtGui import QHideEvent, QKeyEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLineEdit, QProgressBar, QScrollArea, QVBoxLayout, QWidget

from ui import icons
from ui.hub.bits import DownloadLine
from ui.hub.controller import Download, HubController, Search
from ui.hub.rows import NARROW, LibraryRow, ResultRow
from ui.models import ModelController
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.section import CollapsibleSection
from ui.widgets.sizes import control_height
from ui.widgets.text import Muted
from workbench.core.format import bytes_text
from workbench.hub import HubModel
from workbench.library import ModelEntry

WIDEST: Final = 880
ROWS_AT_ONCE: Final = 3
_NONE: Final = "No model on this machine yet."
_NOTHING: Final = "Type a part of a name and press Enter. Nothing is asked of the hub before that."


class ModelsView(QWidget):
    """Reads the disk when it is shown and when models come or go; asks the hub only when a person does."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._models: ModelController = services.models
        self._hub: HubController = self._models.hub
        self._entries: list[ModelEntry] = []
        self.rows: list[LibraryRow] = []
        self.results: list[ResultRow] = []
        self.lines: dict[str, DownloadLine] = {}
        self.field = QLineEdit(placeholderText="Name of a model: filters this list, Enter searches the hub", clearButtonEnabled=True)
        self.field.setAccessibleName("Name of a model")
        self.field.setMaxLength(200)
        self.field.setMinimumHeight(control_height(self.field))
        self.search_button = Button("Search the hub", "Ask the Hugging Face hub for models with these words in their name (Enter).")
        icons.bind(self.search_button, "search", services.theme)
        self.open_button = Button("Open…", "Open a GGUF file, or a model folder by its config.json.")
        icons.bind(self.open_button, "folder", services.theme)
        self.mine = CollapsibleSection("On this machine")
        self.moving = CollapsibleSection("Downloads")
        self.there = CollapsibleSection("On the hub")
        self.empty = Muted(_NONE)
        self.starter_button = Button("Get the starter model", "Download it once, then load it.")
        self.news = Muted(_NOTHING)
        self.again_button = Button("Try again", "Search once more.")
        self.stop_button = Button("Stop", "Give the search up.")
        self.busy = QProgressBar(textVisible=False)
        self.busy.setRange(0, 0)
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._more = QTimer(self, singleShot=True, interval=0)
        self._waiting: list[HubModel] = []
        self._build()
        self._connect()
        self._show_search(self._hub.search)

    def _build(self) -> None:
        self.setFocusProxy(self.field)
        top = QHBoxLayout(spacing=MEDIUM)
        top.addWidget(self.field, 1)
        top.addWidget(self.search_button)
        top.addWidget(self.open_button)
        self.mine.body_layout.addWidget(self.empty)
        self.mine.body_layout.addWidget(self.starter_button, 0, Qt.AlignmentFlag.AlignLeft)
        self.busy.setFixedHeight(SMALL)
        self.busy.setAccessibleName("Searching the hub")
        line = QHBoxLayout(spacing=MEDIUM)
        line.addWidget(self.news, 1)
        line.addWidget(self.again_button)
        line.addWidget(self.stop_button)
        self.there.body_layout.addWidget(self.busy)
        self.there.body_layout.addLayout(line)
        column = QWidget()
        column.setMaximumWidth(WIDEST)
        parts = QVBoxLayout(column)
        parts.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        parts.setSpacing(LARGE)
        for section in (self.mine, self.moving, self.there):
            parts.addWidget(section)
        parts.addStretch(1)
        middle = QWidget()
        across = QHBoxLayout(middle)
        across.setContentsMargins(0, 0, 0, 0)
        across.addStretch(1)
        across.addWidget(column, 1000)
        across.addStretch(1)
        self.scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.scroll.setWidget(middle)
        head = QWidget()
        head.setMaximumWidth(WIDEST)
        inside = QVBoxLayout(head)
        inside.setContentsMargins(LARGE, LARGE, LARGE, MEDIUM)
        inside.addLayout(top)
        over = QHBoxLayout()
        over.addStretch(1)
        over.addWidget(head, 1000)
        over.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(over)
        layout.addWidget(self.scroll, 1)

    def _connect(self) -> None:
        actions = self._services.actions
        self.field.textChanged.connect(self._filter)
        self.field.returnPressed.connect(self.search)
        self.search_button.clicked.connect(self.search)
        self.again_button.clicked.connect(self.search)
        self.stop_button.clicked.connect(self._hub.stop_search)
        self.open_button.clicked.connect(actions["model.open"].trigger)
        self.starter_button.clicked.connect(actions["model.fetch_starter"].trigger)
        self._soon.timeout.connect(self.refresh)
        self._more.timeout.connect(self._make_more)
        self._models.models_changed.connect(self._refresh_soon)
        self._models.changed.connect(self._show_states)
        self._services.bus.model_changed.connect(self._show_states)
        self._services.bus.engine_ready.connect(self._refresh_soon)
        self._hub.search_changed.connect(self._show_search)
        self._hub.downloads_changed.connect(self._show_downloads)
        self._hub.looked.connect(self._on_looked)
        self._hub.appraised.connect(self._show_states)

    def minimumSizeHint(self) -> QSize:
        return QSize(360, super().minimumSizeHint().height())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self._hub.search.word == "Searching":
            self._hub.stop_search()
        else:
            super().keyPressEvent(event)

    # ---- on this machine -----------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._hub.watched = True
        self._hub.read_unfinished()
        self._soon.start()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._hub.watched = False

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = event.size().width() < NARROW
        self.search_button.setText("Search" if narrow else "Search the hub")
        self.open_button.setVisible(not narrow)  # the picker offers it too

    @Slot()
    def _refresh_soon(self, _news: object = None) -> None:
        if self.isVisible():
            self._soon.start()

    @Slot()
    def refresh(self) -> None:
        """Read the disk again and have unknown models looked at."""
        entries = self._models.entries()
        self._hub.appraise(entries)
        if [(e.name, e.path, e.bytes, e.recent) for e in entries] != [(e.name, e.path, e.bytes, e.recent) for e in self._entries]:
            self._entries = entries
            self._make_rows()
        self._show_states()
        self._show_downloads()

    def _make_rows(self) -> None:
        for row in self.rows:
            row.deleteLater()
        self.rows = []
        known = self._models.library.catalogue
        for entry in self._entries:
            label = known[entry.name].label if entry.name in known else entry.name
            row = LibraryRow(self._services.theme, entry, label, self._models.may_remove(entry))
            row.load_wanted.connect(self._load)
            row.remove_wanted.connect(self._models.remove)
            self.rows.append(row)
            self.mine.body_layout.addWidget(row)
        self._filter()

    @Slot()
    def _show_states(self, _news: object = None) -> None:
        summary, dtype = self._models.summary, self._models.dtype
        waiting = "Another model is being loaded." if self._models.activity.busy else ""
        for row in self.rows:
            in_use = summary is not None and summary.path == row.entry.path
            known = self._hub.appraisals.get(row.entry.path)
            row.show_state(known, self._hub.fit(row.entry, dtype), in_use, waiting)
        self._show_empty()
        self.starter_button.setEnabled(not waiting)
        total = sum(entry.bytes for entry in self._entries)
        self.mine.set_badge(f"{len(self._entries)} · {bytes_text(total)}" if self._entries else "")

    @Slot()
    def _filter(self, _text: str = "") -> None:
        wanted = self.field.text().strip().lower()
        for row in self.rows:
            row.setVisible(wanted in row.name.full_text.lower())
        self._show_empty()

    def _show_empty(self) -> None:
        wanted = self.field.text().strip()
        hidden = bool(self.rows) and all(row.isHidden() for row in self.rows)
        self.empty.setText(f"None of the {len(self.rows)} models here has “{wanted}” in its name." if hidden else _NONE)
        self.empty.setVisible(hidden or not self.rows)
        self.starter_button.setVisible(not self.rows)

    def _load(self, entry: ModelEntry) -> None:
        self._models.open(entry.name if entry.name in self._models.library.catalogue else entry.path)

    # ---- on the hub ----------------------------------------------------------------------------------------------

    @Slot()
    def search(self) -> None:
        """Ask the hub for what stands in the field."""
        self._hub.find(self.field.text())

    @Slot(object)
    def _show_search(self, search: Search) -> None:
        searching, failed = search.word == "Searching", search.word == "Failed"
        self.busy.setVisible(searching)
        self.stop_button.setVisible(searching)
        self.again_button.setVisible(failed)
        self.there.set_badge(f"{len(search.results)}" if search.results else "")
        if searching:
            self.news.setText(f"Searching for “{search.text}”…")
        elif failed:
            self.news.setText(f"{search.message}\n{search.hint}".strip())
        elif search.word == "Done" and not search.results:
            self.news.setText(f"The hub has no model with “{search.text}” in its name.")
        else:
            self.news.setText("" if search.results else _NOTHING)
        self.news.setVisible(bool(self.news.text()))
        if not searching:
            self._make_results(search)

    def _make_results(self, search: Search) -> None:
        for old in self.results:
            old.deleteLater()
        self.results = []
        self._waiting = list(search.results)
        self._show_downloads()
        self._more.start()

    @Slot()
    def _make_more(self) -> None:
        """A few rows at a time, so that nothing else has to wait."""
        batch, self._waiting = self._waiting[:ROWS_AT_ONCE], self._waiting[ROWS_AT_ONCE:]
        first = not self.results
        for model in batch:
            row = ResultRow(self._services.theme, model, self._hub.fit_of_result(model, self._models.dtype))
            row.download_wanted.connect(self._hub.download)
            row.stop_wanted.connect(self._hub.stop)
            row.discard_wanted.connect(self._hub.discard)
            row.look_wanted.connect(self._hub.look)
            row.load_wanted.connect(self._load_downloaded)
            self.results.append(row)
            self.there.body_layout.addWidget(row)
        if batch:
            self._show_downloads()
        if self._waiting:
            self._more.start()
        elif self.results and not first:
            QTimer.singleShot(0, self, self._go_to_results)

    @Slot()
    def _go_to_results(self) -> None:
        """The results into view, as far as there is room."""
        self.scroll.verticalScrollBar().setValue(self.there.y() - MEDIUM)

    @Slot(object)
    def _on_looked(self, repo: str) -> None:
        for row in self.results:
            if row.model.id == repo:
                row.show_look(self._hub.looks[repo])
        self._show_downloads()

    @Slot(str)
    def _load_downloaded(self, spec: str) -> None:
        self._models.open(spec)

    # ---- downloads -----------------------------------------------------------------------------------------------

    @Slot(object)
    def _show_downloads(self, changed: Download | None = None) -> None:
        here = frozenset(entry.name for entry in self._entries)
        for row in self.results:
            if changed is None or changed.spec.partition(":")[0] == row.model.id:
                row.show_downloads(self._hub.downloads, here)
        found = {row.model.id for row in self.results}  # these show their own
        shown = {s: d for s, d in self._hub.downloads.items() if d.word != "Done" and s.partition(":")[0] not in found}
        for gone in self.lines.keys() - shown.keys():
            self.lines.pop(gone).deleteLater()
        for spec, download in shown.items():
            if spec not in self.lines:
                self._add_line(spec)
            self.lines[spec].show_download(download)
        self.moving.setVisible(bool(shown))
        self.moving.set_badge(str(len(shown)) if len(shown) > 1 else "")

    def _add_line(self, spec: str) -> None:
        line = self.lines[spec] = DownloadLine(spec)
        line.show_name()
        line.stop_wanted.connect(self._hub.stop)
        line.resume_wanted.connect(self._hub.download)
        line.discard_wanted.connect(self._hub.discard)
        self.moving.body_layout.addWidget(line)
