"""The measured rows as a table that is as high as its lines, so that the page alone scrolls."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QFont, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QSizePolicy, QTableWidget, QTableWidgetItem

from ui.theme import SMALL, tabular
from workbench.core.format import bytes_text
from workbench.quality import FLOOR, LABELS, QualityRow

_LEAST: Final = 0.9
"""Where even the exact cache copies fewer tokens rightly, the task says nothing about caches."""


def _copied(row: QualityRow) -> str:
    if row.copied is None or row.copied_exact is None:
        return ""
    return f"{row.copied:.0%}" if row.copied_exact >= _LEAST else f"({row.copied:.0%} of {row.copied_exact:.0%})"


COLUMNS: Final[tuple[tuple[str, str, Callable[[QualityRow], str]], ...]] = (
    ("Setting", "What is held against the exact cache.", lambda r: r.side),
    ("Context", "Tokens read at once.", lambda r: f"{r.context:,}"),
    ("Cache", "Bytes of the cache at that context, everything included.", lambda r: bytes_text(r.nbytes)),
    ("× fp16", "How many times smaller than keys and values in 16 bits.", lambda r: f"{r.against_float16:.2f}"),
    ("Verdict", "By the thresholds below.", lambda r: r.label or "reference"),
    ("Δ perplexity", "Change of perplexity on the same tokens.", lambda r: f"{r.perplexity_percent:+.2f} %".replace("-", "−")),
    ("Δ nats", "Mean change of the loss per token, with its 95 % interval (block bootstrap).",
     lambda r: f"{r.delta:+.4f} [{r.low:+.4f}, {r.high:+.4f}]".replace("-", "−")),
    ("KL", "Mean divergence of the predicted distributions, in nats.", lambda r: f"{r.kl:.1e}"),
    ("KL p99", "The divergence that one token in a hundred exceeds.", lambda r: f"{r.kl_p99:.1e}"),
    ("Same choice", "Share of positions at which both put the same token first.", lambda r: f"{r.top1:.1%}"),
    ("Copied", "Random tokens repeated rightly from far back; in brackets where the exact cache fails as well.", _copied),
)  # fmt: skip
_TEXT: Final = (0, 4)


def rows_csv(rows: Sequence[QualityRow]) -> str:
    """Every figure in full, as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0].to_json()) if rows else [])
    writer.writeheader()
    writer.writerows(row.to_json() for row in rows)
    return out.getvalue()


def rows_markdown(rows: Sequence[QualityRow]) -> str:
    """The table as it is shown, for a report."""
    lines = ["| " + " | ".join(head for head, _, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(text(row) for _, _, text in COLUMNS) + " |" for row in rows)])


class QualityTable(QTableWidget):
    """Ctrl+C copies it as Markdown."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.rows: tuple[QualityRow, ...] = ()
        self.setHorizontalHeaderLabels([head for head, _, _ in COLUMNS])
        for column, (_, tip, _) in enumerate(COLUMNS):
            head = self.horizontalHeaderItem(column)
            head.setToolTip(tip)
            head.setTextAlignment(Qt.AlignmentFlag.AlignVCenter | self._side(column))
        self.setAccessibleName("Measured quality")
        self.setShowGrid(False)
        self.setAlternatingRowColors(True)
        self.setWordWrap(False)
        self.setFrameShape(QTableWidget.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setTabKeyNavigation(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.verticalHeader().hide()
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)

    @staticmethod
    def _side(column: int) -> Qt.AlignmentFlag:
        return Qt.AlignmentFlag.AlignLeft if column in _TEXT else Qt.AlignmentFlag.AlignRight

    def show_rows(self, rows: Sequence[QualityRow]) -> None:
        """Replace everything."""
        self.rows = tuple(rows)
        self.setRowCount(len(self.rows))
        for line, row in enumerate(self.rows):
            for column, (_, _, text) in enumerate(COLUMNS):
                item = QTableWidgetItem(text(row))
                item.setTextAlignment(Qt.AlignmentFlag.AlignVCenter | self._side(column))
                item.setToolTip(LABELS.get(row.label, "The exact cache, computed in another order: what no change at all looks like."))
                font = tabular(QFont(QApplication.font()))
                font.setItalic(row.side == FLOOR.name)
                item.setFont(font)
                self.setItem(line, column, item)
        self.fit()

    def fit(self) -> None:
        """As high as its lines, the scroll bar of a narrow page included."""
        row = self.fontMetrics().height() + SMALL + 2
        self.verticalHeader().setMinimumSectionSize(row)
        self.verticalHeader().setDefaultSectionSize(row)
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + row * max(self.rowCount(), 1) + bar + 2)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "rows"):
            self.show_rows(self.rows)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(rows_markdown(self.rows))
        else:
            super().keyPressEvent(event)
