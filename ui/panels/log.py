"""The Log panel: every message of the window and the engine, filtered, with details."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QFontMetrics, QGuiApplication
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPlainTextEdit,
    QSplitter,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ui import icons
from ui.notify import LEVELS, Message
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import MEDIUM, SMALL, Colours, Theme, monospace, tabular

LEVEL_COLUMN: Final = 1


class _Filter(QSortFilterProxyModel):
    """Rows of at least a level that contain the searched text; levels get their icon."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._least = 0
        self._text = ""
        theme.changed.connect(self._recolour)

    def restrict(self, least: int, text: str) -> None:
        """Show level number `least` and above, and rows with `text` anywhere."""
        self.beginFilterChange()
        self._least, self._text = least, text.lower()
        self.endFilterChange()

    def filterAcceptsRow(self, row: int, parent: QModelIndex | QPersistentModelIndex) -> bool:
        message: Message = self.sourceModel().index(row, 0, parent).data(Qt.ItemDataRole.UserRole)
        level = LEVELS.index(message.level) if message.level in LEVELS else 1
        return level >= self._least and self._text in f"{message.source} {message.text} {message.hint} {message.details}".lower()

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DecorationRole and index.column() == LEVEL_COLUMN:
            level = str(super().data(index, Qt.ItemDataRole.DisplayRole)).lower()
            names = {"warning": ("warning", "warning"), "error": ("error", "error")}
            name, colour = names.get(level, ("info", "muted"))
            return icons.icon(name, self._theme.colours, colour)
        return super().data(index, role)

    @Slot(object)
    def _recolour(self, colours: Colours) -> None:
        if self.rowCount():
            self.dataChanged.emit(self.index(0, LEVEL_COLUMN), self.index(self.rowCount() - 1, LEVEL_COLUMN))


@PANELS.register(
    "log",
    label="Log",
    help="Every message of the window and the engine, newest last, with details.",
    place=PanelPlace("bottom", order=90, icon="log"),
)
class LogPanel(QWidget):
    """Follows the newest line unless the reader has scrolled up or chosen a line."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._model = services.notify.log
        self._shown = _Filter(services.theme, self)
        self._shown.setSourceModel(self._model)
        self.level = QComboBox()
        self.level.setAccessibleName("Least level shown")
        self.level.addItems(["Everything", "Warnings and errors", "Errors"])
        self.level.currentIndexChanged.connect(self._restrict)
        self.search = QLineEdit(placeholderText="Search the log…", clearButtonEnabled=True)
        self.search.setAccessibleName("Search the log")
        self.search.textChanged.connect(self._restrict)
        self.table = self._make_table()
        self.details = QPlainTextEdit(readOnly=True, tabChangesFocus=True)
        self.details.setAccessibleName("Details of the chosen line")
        self.details.setFont(monospace(self.font()))
        self._build()
        self._model.rowsAboutToBeInserted.connect(self._note_position)
        self._shown.rowsInserted.connect(self._follow)
        self._at_end = True

    def _make_table(self) -> QTableView:
        table = QTableView(showGrid=False, alternatingRowColors=True, wordWrap=False, cornerButtonEnabled=False)
        table.setModel(self._shown)
        table.setAccessibleName("Log lines")
        table.setFont(tabular(table.font()))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setTabKeyNavigation(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setFrameShape(QTableView.Shape.NoFrame)
        table.verticalHeader().hide()
        metrics = QFontMetrics(table.font())
        table.verticalHeader().setDefaultSectionSize(metrics.height() + SMALL)
        header = table.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        for column, widest in enumerate(("00:00:00", "Warning   ", "workbench.training")):
            header.resizeSection(column, metrics.horizontalAdvance(widest) + 3 * MEDIUM)
        header.setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        table.selectionModel().currentRowChanged.connect(self._show_details)
        return table

    def _build(self) -> None:
        bar = QHBoxLayout(spacing=MEDIUM)
        bar.setContentsMargins(MEDIUM, SMALL, MEDIUM, SMALL)
        bar.addWidget(self.level)
        bar.addWidget(self.search, 1)
        for icon, text, slot in (
            ("copy", "Copy the shown lines", self._copy),
            ("trash", "Clear the list (the log file keeps everything)", self._model.clear),
            ("folder", "Open the folder of the log files", self._open_folder),
        ):
            button = QToolButton(autoRaise=True)
            button.setToolTip(text)
            button.setAccessibleName(text)
            icons.bind(button, icon, self._services.theme)
            button.clicked.connect(slot)
            bar.addWidget(button)
        self.split = QSplitter(Qt.Orientation.Horizontal, childrenCollapsible=False)
        self.split.addWidget(self.table)
        self.split.addWidget(self.details)
        self.split.setStretchFactor(0, 3)
        self.split.setStretchFactor(1, 2)
        self.details.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(bar)
        layout.addWidget(self.split, 1)

    @Slot()
    def _restrict(self) -> None:
        least = (0, LEVELS.index("warning"), LEVELS.index("error"))[self.level.currentIndex()]
        self._shown.restrict(least, self.search.text())

    @Slot()
    def _note_position(self) -> None:
        bar = self.table.verticalScrollBar()
        self._at_end = bar.value() >= bar.maximum() - 1

    @Slot()
    def _follow(self) -> None:
        if self._at_end:
            self.table.scrollToBottom()

    @Slot(QModelIndex, QModelIndex)
    def _show_details(self, current: QModelIndex, before: QModelIndex) -> None:
        message = current.data(Qt.ItemDataRole.UserRole) if current.isValid() else None
        self.details.setVisible(message is not None)
        if message is not None:
            self.details.setPlainText(message.as_text())

    @Slot()
    def _copy(self) -> None:
        rows = (self._shown.index(n, 0).data(Qt.ItemDataRole.UserRole) for n in range(self._shown.rowCount()))
        QGuiApplication.clipboard().setText("\n".join(message.as_text() for message in rows))

    @Slot()
    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._services.settings.folders.logs)))
