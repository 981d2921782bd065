"""What an architecture costs, as rows before → after, and the table and the three figures that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PySide6.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QApplication, QGridLayout, QHeaderView, QLabel, QSizePolicy, QTableView, QWidget

from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.labels import MutedLabel
from workbench.core.fields import Problem, field_problems, setting
from workbench.core.format import bytes_text, count_text

if TYPE_CHECKING:
    from workbench.model import Accounting

_ROOT: Final = QModelIndex()
MINUS: Final = "\N{MINUS SIGN}"
FLOAT32, BFLOAT16 = 4, 2
INT8_TIP: Final = "Estimated: one byte for each value of a matrix and a scale for each row; norms and biases stay in float32."
CELL_MARGINS: Final = 7
WIDEST: Final = 96
"""Pixels of a column of figures: a long name of a preset gives way to the figures."""


@dataclass(frozen=True, kw_only=True)
class PriceView:
    """At which context length the table prices the KV cache and attention."""

    context: int | None = setting(
        None, label="Price at context", unit="tokens", minimum=1, maximum=1_048_576, none_label="the longest",
        help="Tokens in the conversation for which the KV cache and the FLOPs are given; automatic takes the architecture's own context.",
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        return field_problems(self)


@dataclass(frozen=True)
class PriceRow:
    """One line. `unit` "parameters", "bytes" or "FLOPs"; `before` None: there is nothing to compare with; `estimated`: not counted."""

    label: str
    now: float
    before: float | None
    unit: str
    tip: str
    total: bool = False
    estimated: bool = False

    @property
    def difference(self) -> float:
        return 0.0 if self.before is None else self.now - self.before

    def text(self, value: float) -> str:
        """A value with its unit; parameters and FLOPs are plain counts."""
        return bytes_text(value) if self.unit == "bytes" else count_text(value)

    def difference_text(self) -> str:
        """ "+28.3 M", "−1 k", or a dash for no change."""
        if not self.difference:
            return "–"
        return f"{'+' if self.difference > 0 else MINUS}{self.text(abs(self.difference))}"


def price_rows(now: Accounting, before: Accounting | None, context: int | None) -> list[PriceRow]:
    """All rows: parameters by part, then bytes and FLOPs. `context` None: the architecture's own."""
    parts = list(dict.fromkeys([*now.by_part, *(before.by_part if before else ())]))
    rows = [_row(part, "parameters", f"Parameters of this part in all layers: {part}.", now, before, part=part) for part in parts]
    rows.append(_row("All parameters", "parameters", "A tied matrix counts once.", now, before, lambda a: a.parameters, total=True))
    at = context or now.config.max_positions
    length = f"{at:,} tokens"
    bytes_rows: tuple[tuple[str, str, Any], ...] = (
        ("Weights float32", "Bytes of all parameters, 4 each.", lambda a: a.parameter_bytes(FLOAT32)),
        ("Weights bfloat16", "Bytes of all parameters, 2 each.", lambda a: a.parameter_bytes(BFLOAT16)),
        ("Int8, estimated", INT8_TIP, int8_bytes),
        ("KV per token", f"Keys and values of one token in all layers, in float32.{_none(now)}", lambda a: a.kv_bytes(1, FLOAT32)),
        (f"KV at {at:,}", f"The exact KV cache of {length} in float32.{_none(now)}", lambda a: a.kv_bytes(at, FLOAT32)),
        (f"KV at {at:,} bf16", f"The exact KV cache of {length} in bfloat16.{_none(now)}", lambda a: a.kv_bytes(at, BFLOAT16)),
    )
    rows += [_row(label, "bytes", tip, now, before, value, estimated=tip is INT8_TIP) for label, tip, value in bytes_rows]
    alone, attending = "Forward pass of one token without the attended ones.", f"Forward pass of one token that attends to {length}."
    rows.append(_row("FLOPs per token", "FLOPs", alone, now, before, lambda a: a.flops_per_token(0)))
    rows.append(_row(f"FLOPs at {at:,}", "FLOPs", attending, now, before, lambda a: a.flops_per_token(at)))
    return rows


def _row(
    label: str,
    unit: str,
    tip: str,
    now: Accounting,
    before: Accounting | None,
    value: Any = None,
    *,
    part: str = "",
    total: bool = False,
    estimated: bool = False,
) -> PriceRow:
    read = value or (lambda a: a.by_part.get(part, 0))
    return PriceRow(label, read(now), None if before is None else read(before), unit, tip, total, estimated)


def _none(accounting: Accounting) -> str:
    return "" if accounting.config.causal else " A bidirectional model has none."


def int8_bytes(accounting: Accounting) -> int:
    """One byte for each value of a matrix, a float32 scale for each of its rows (as many as the width, about), four bytes for all
    other parameters."""
    matrices = sum(n for name, n in accounting.by_tensor.items() if _is_matrix(name))
    return matrices + FLOAT32 * (matrices // accounting.config.d_model) + FLOAT32 * (accounting.parameters - matrices)


def _is_matrix(name: str) -> bool:
    return name.endswith("weight") and "norm" not in name


def tying_text(accounting: Accounting) -> str:
    """What tying saves, or would save."""
    saved = f"{count_text(accounting.tied_saving)} parameters ({bytes_text(accounting.tied_saving * FLOAT32)} in float32)"
    tied = accounting.config.tie_embeddings
    return f"Tying embedding and head saves {saved}." if tied else f"Tying embedding and head would save {saved}."


class PriceModel(QAbstractTableModel):
    """Part, before, now, difference."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[PriceRow] = []
        self._headers = ("", "Loaded", "Shown", "Difference")
        self._bold = QFont()

    def show_rows(self, rows: list[PriceRow], reference: str) -> None:
        """Replace all rows; `reference` names what they are compared with."""
        headers = ("", reference, "Shown", "Difference")
        if len(rows) != len(self.rows) or headers != self._headers:
            self.beginResetModel()
            self.rows, self._headers = rows, headers
            self.endResetModel()
            return
        self.rows = rows
        self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, 3))

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._headers)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self._headers[section]
        return None

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            before = "" if row.before is None else row.text(row.before)
            return (row.label, before, row.text(row.now), row.difference_text())[column]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignVCenter | (Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft))
        if role == Qt.ItemDataRole.ToolTipRole:
            exact = f"{row.now:,.0f} {row.unit}"
            return f"{row.tip}\nExactly {exact}" + (f", {row.difference:+,.0f}" if row.difference else "")
        if role == Qt.ItemDataRole.FontRole and (row.total or row.estimated or (column == 3 and row.difference)):
            font = QFont(QApplication.font())
            font.setItalic(row.estimated)
            font.setWeight(QFont.Weight.DemiBold if row.total or (column == 3 and row.difference) else QFont.Weight.Normal)
            return tabular(font)
        return None


class PriceTable(QTableView):
    """As high as its rows: whoever shows it scrolls. Ctrl+C copies all rows as text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, showGrid=False, alternatingRowColors=True, wordWrap=False, cornerButtonEnabled=False)
        self.prices = PriceModel(self)
        self.setModel(self.prices)
        self.setAccessibleName("Parameters, bytes and FLOPs by part")
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
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        header.setMinimumSectionSize(2 * MEDIUM)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.prices.modelReset.connect(self.fit)
        self.fit()

    def show_prices(self, rows: list[PriceRow], reference: str) -> None:
        """Show rows; without anything that differs only one column of numbers is shown."""
        self.prices.show_rows(rows, reference)
        self.fit()
        differs = any(row.difference for row in rows)
        for column in (1, 3):
            if self.isColumnHidden(column) == differs:
                self.setColumnHidden(column, not differs)

    def fit(self) -> None:
        """Heights and widths for the font in force."""
        metrics = QFontMetrics(self.font())
        row = metrics.height() + SMALL + 1
        self.verticalHeader().setMinimumSectionSize(row)
        self.verticalHeader().setDefaultSectionSize(row)
        for column in (1, 2, 3):
            texts = [str(self.prices.headerData(column, Qt.Orientation.Horizontal)), "888.8 MB"]
            texts += [str(self.prices.index(n, column).data()) for n in range(len(self.prices.rows))]
            widest = max(metrics.horizontalAdvance(text) for text in texts)
            self.horizontalHeader().resizeSection(column, min(round(widest * 1.03), WIDEST) + CELL_MARGINS)
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + row * max(len(self.prices.rows), 1))

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.height())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "prices"):
            self.fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(self.as_text())
        else:
            super().keyPressEvent(event)

    def as_text(self) -> str:
        """The table with tabs, for a spreadsheet; exact numbers."""
        lines = ["\t".join(("Part", "Unit", self.prices._headers[1], "Shown"))]
        lines += [f"{r.label}\t{r.unit}\t{'' if r.before is None else f'{r.before:.0f}'}\t{r.now:.0f}" for r in self.prices.rows]
        return "\n".join(lines)


class PriceStrip(QWidget):
    """Three figures that stay in view while settings below are toggled."""

    SHOWN: Final = (("All parameters", "Parameters"), ("Weights float32", "Weights float32"), ("KV per token", "KV per token"))

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(MEDIUM)
        layout.setVerticalSpacing(0)
        self.values: list[QLabel] = []
        self.differences: list[QLabel] = []
        for column, (_, caption) in enumerate(self.SHOWN):
            value, difference = QLabel("–"), MutedLabel(" ")
            font = tabular(value.font())
            font.setWeight(QFont.Weight.DemiBold)
            value.setFont(font)
            layout.addWidget(MutedLabel(caption), 0, column)
            layout.addWidget(value, 1, column)
            layout.addWidget(difference, 2, column)
            layout.setColumnStretch(column, 1)
            self.values.append(value)
            self.differences.append(difference)

    def show_prices(self, rows: list[PriceRow]) -> None:
        """Take the three figures from the table's rows."""
        by_label = {row.label: row for row in rows}
        for (label, caption), value, difference in zip(self.SHOWN, self.values, self.differences, strict=True):
            row = by_label[label]
            value.setText(row.text(row.now))
            difference.setText(row.difference_text() if row.difference else " ")
            value.setAccessibleName(f"{caption}: {row.text(row.now)}")
            value.setToolTip(f"{row.tip}\nExactly {row.now:,.0f} {row.unit}.")
            difference.setAccessibleName(f"{caption}, difference: {row.difference_text()}" if row.difference else "")
