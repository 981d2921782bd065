"""What each rounding costs, as a table with bars: as high as its lines, so that the page alone scrolls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PySide6.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QKeyEvent, QKeySequence, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.tones import colours_of
from workbench.studies.norm_findings import COLUMNS, FATAL, HARMLESS, word

_ROOT: Final = QModelIndex()
SHOWN: Final = ("quantized", "scale", "perplexity", "delta", "error", "kl", "top1")
WIDE_ONLY: Final = ("error", "kl", "top1")
_ALL: Final = "parameters + input + output"
WIDE: Final = 560
"""Pixels at the normal text size from which all columns have room."""
LOWEST: Final = 1e-4
"""Nats at which a bar begins; its axis is logarithmic."""
HIGHEST: Final = 40.0
Row = Mapping[str, Any]


def cell_text(name: str, value: Any) -> str:
    """A figure with the digits that say something."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else "∞"
    if name == "delta":
        text = f"{value:+.4f}" if abs(value) < 1 else f"{value:+.1f}"
        return ("0.0000" if float(text) == 0 else text).replace("-", "−")
    if name == "top1":
        return f"{value:.1f} %"
    if name in ("kl", "error"):
        return f"{value:.4f}" if value < 10 else f"{value:.1f}"
    return f"{value:,.3f}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.2g}".replace("e+", "e")


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def share(delta: float) -> float:
    """How far a bar of so many nats reaches, 0 … 1."""
    if math.isnan(delta):
        return 1.0
    return min(1.0, max(0.0, math.log(max(delta, LOWEST) / LOWEST) / math.log(HIGHEST / LOWEST)))


class RoundingsModel(QAbstractTableModel):
    """A heading per model, below it the unquantized model and each rounding."""

    def __init__(self, parent: QTableView) -> None:
        super().__init__(parent)
        self.columns = [next(c for c in COLUMNS if c.name == name) for name in SHOWN]
        self.lines: list[Row | str] = []

    def show_rows(self, rows: Sequence[Row]) -> None:
        self.beginResetModel()
        self.lines = []
        for row in rows:
            heading = str(row["model"])
            if heading not in self.lines:
                self.lines.append(heading)
            self.lines.append(row)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.label
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.help
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignVCenter | self._side(section))
        return None

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        line, column = self.lines[index.row()], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(line, index.column())
        if role == Qt.ItemDataRole.UserRole:
            return line
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignLeft if isinstance(line, str) else self._side(index.column())
            return int(Qt.AlignmentFlag.AlignVCenter | side)
        if role == Qt.ItemDataRole.ToolTipRole and not isinstance(line, str):
            told = [f"{c.label}: {cell_text(c.name, line.get(c.name))}{f' {c.unit}' if c.name == 'delta' else ''}" for c in self.columns]
            return "\n".join([*told, *filter(None, (column.help,))])
        if role == Qt.ItemDataRole.FontRole:
            font = tabular(QFont(QApplication.font()))
            font.setWeight(QFont.Weight.DemiBold if isinstance(line, str) else QFont.Weight.Normal)
            return font
        return None

    def _text(self, line: Row | str, column: int) -> str:
        if isinstance(line, str):
            return "" if column else sentence(line)
        name = self.columns[column].name
        text = cell_text(name, line.get(name))
        if name == "delta" and line["quantized"] != "nothing":
            return f"{text}  {word(line['delta'])}"
        if name == "quantized":
            return "All three" if text == _ALL else text.capitalize()
        blank = name in ("delta", "error") and line["quantized"] == "nothing"
        return "" if blank else text.capitalize() if name == "scale" else text

    def _side(self, column: int) -> Qt.AlignmentFlag:
        numbers = self.columns[column].name in ("perplexity", "error", "kl", "top1")
        return Qt.AlignmentFlag.AlignRight if numbers else Qt.AlignmentFlag.AlignLeft


class _Bars(QStyledItemDelegate):
    """Loss above the unquantized model as a bar behind its figure, on a logarithmic scale."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        line = index.data(Qt.ItemDataRole.UserRole)
        if not isinstance(line, str) and line["quantized"] != "nothing":
            rect: QRect = option.rect  # type: ignore[attr-defined]
            delta = float(line["delta"])
            colours = colours_of(option.widget)  # type: ignore[attr-defined]
            shade = QColor({"harmless": colours.good, "costly": colours.warning}.get(word(delta), colours.error))
            shade.setAlpha(90 if colours.dark else 70)
            width = max(2, round((rect.width() - MEDIUM) * share(delta)))
            painter.fillRect(QRect(rect.x(), rect.y() + 3, width, rect.height() - 6), shade)
        super().paint(painter, option, index)


class RoundingsTable(QTableView):
    """Ctrl+C copies all of it, with tabs."""

    def __init__(self) -> None:
        super().__init__(showGrid=False, alternatingRowColors=True, wordWrap=False, cornerButtonEnabled=False)
        self.shown = RoundingsModel(self)
        self.setModel(self.shown)
        self._bars = _Bars(self)
        self.setItemDelegateForColumn(SHOWN.index("delta"), self._bars)
        self.setAccessibleName("What each rounding costs")
        self.setToolTip(f"Harmless: below {HARMLESS} nats per token. Fatal: {FATAL:.2f} and more, which doubles perplexity.")
        self.setFont(tabular(self.font()))
        self.setFrameShape(QTableView.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setTabKeyNavigation(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.verticalHeader().hide()
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setMinimumSectionSize(30)

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Replace everything."""
        self.clearSpans()
        self.shown.show_rows(rows)
        for number, line in enumerate(self.shown.lines):
            if isinstance(line, str):
                self.setSpan(number, 0, 1, len(SHOWN))
        self.fit()

    def fit(self) -> None:
        """Heights and widths for the font in force and the room there is."""
        row = QFontMetrics(self.font()).height() + SMALL + 2
        self.verticalHeader().setMinimumSectionSize(row)
        self.verticalHeader().setDefaultSectionSize(row)
        header = self.horizontalHeader()
        wide = self.viewport().width() >= WIDE * self.fontMetrics().height() / 15
        for column, name in enumerate(SHOWN):
            self.setColumnHidden(column, name in WIDE_ONLY and not wide)
            stretched = name == "delta"
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch if stretched else QHeaderView.ResizeMode.Fixed)
            if not stretched:
                header.resizeSection(column, self._width(column))
        self.setFixedHeight(header.sizeHint().height() + row * max(len(self.shown.lines), 1) + 2)

    def _width(self, column: int) -> int:
        """As the widest text of a column; headings of models span all of them."""
        metrics = self.fontMetrics()
        rows = [n for n, line in enumerate(self.shown.lines) if not isinstance(line, str)]
        texts = [str(self.shown.index(n, column).data()) for n in rows] + [self.shown.columns[column].label]
        return max(metrics.horizontalAdvance(text) for text in texts) + 2 * MEDIUM + 2

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.shown.lines and event.size().width() != event.oldSize().width():
            self.fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "shown"):
            self.fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(self.as_text())
        else:
            super().keyPressEvent(event)

    def as_text(self) -> str:
        """The table with tabs, for a spreadsheet."""
        head = "\t".join(("Model", *(c.label for c in self.shown.columns)))
        rows = [line for line in self.shown.lines if not isinstance(line, str)]
        return "\n".join((head, *("\t".join((str(r["model"]), *(cell_text(n, r.get(n)) for n in SHOWN))) for r in rows)))
