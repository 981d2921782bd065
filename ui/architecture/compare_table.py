"""The table under architectures that are compared: as high as its lines, so that the page alone scrolls."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QSizePolicy, QTableView

from ui.architecture.side_by_side import Line
from ui.theme import SMALL, tabular

_ROOT: Final = QModelIndex()
LABEL_SHARE: Final = 0.32


class CompareModel(QAbstractTableModel):
    """Labels in the first column, one column for each architecture."""

    def __init__(self, parent: QTableView) -> None:
        super().__init__(parent)
        self.lines: list[Line] = []
        self.names: list[str] = []

    def show_lines(self, lines: list[Line], names: list[str]) -> None:
        self.beginResetModel()
        self.lines, self.names = lines, names
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.names) + 1

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self.names[section - 1] if section else ""
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        return None

    def flags(self, index: QModelIndex | QPersistentModelIndex) -> Qt.ItemFlag:
        heading = index.isValid() and self.lines[index.row()].heading
        return Qt.ItemFlag.ItemIsEnabled if heading else super().flags(index)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        line, column = self.lines[index.row()], index.column()
        text = line.label if not column else line.texts[column - 1] if column <= len(line.texts) else ""
        if role == Qt.ItemDataRole.DisplayRole:
            return text
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(filter(None, (text, line.tip)))
        if role == Qt.ItemDataRole.FontRole:
            font = tabular(QFont(QApplication.font()))
            bold = line.heading or (column > 1 and line.differs and text != line.texts[0])
            font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
            return font
        return None


class CompareTable(QTableView):
    """What differs from the first column is bold. Ctrl+C copies all of it, with tabs."""

    def __init__(self) -> None:
        super().__init__(showGrid=False, alternatingRowColors=True, wordWrap=False, cornerButtonEnabled=False)
        self.compared = CompareModel(self)
        self.setModel(self.compared)
        self.setAccessibleName("Architectures side by side")
        self.setFont(tabular(self.font()))
        self.setFrameShape(QTableView.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setTabKeyNavigation(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setMinimumSectionSize(40)

    def show_lines(self, lines: list[Line], names: list[str]) -> None:
        """Replace everything."""
        self.clearSpans()
        self.compared.show_lines(lines, names)
        for row, line in enumerate(lines):
            if not line.texts:
                self.setSpan(row, 0, 1, len(names) + 1)
        self.fit()

    def fit(self) -> None:
        """Heights and widths for the font in force."""
        row = QFontMetrics(self.font()).height() + SMALL + 2
        self.verticalHeader().setMinimumSectionSize(row)
        self.verticalHeader().setDefaultSectionSize(row)
        header = self.horizontalHeader()
        for column in range(self.compared.columnCount()):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch if column else QHeaderView.ResizeMode.Fixed)
        header.resizeSection(0, max(90, round(self.viewport().width() * LABEL_SHARE)))
        self.setFixedHeight(header.sizeHint().height() + row * max(self.compared.rowCount(), 1) + 2)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.height())

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if self.compared.names:
            self.horizontalHeader().resizeSection(0, max(90, round(self.viewport().width() * LABEL_SHARE)))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "compared"):
            self.fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(self.as_text())
        else:
            super().keyPressEvent(event)

    def as_text(self) -> str:
        """The table with tabs, for a spreadsheet."""
        head = "\t".join(("", *self.compared.names))
        return "\n".join((head, *("\t".join((line.label, *line.texts)) for line in self.compared.lines)))
