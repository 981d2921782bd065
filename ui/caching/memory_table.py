"""The table of what caches would take at a context of one's choice."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from ui.caching.memory import MemoryRow, contexts, memory_rows
from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.labels import MutedLabel
from ui.widgets.segmented import SegmentedControl
from workbench.core.format import bytes_text

_HEADS: Final = (
    ("Cache", "The presets; the one in use is bold."),
    ("Bytes", "Counted by the rule that reserves them: codes, scales, what stays exact, unfilled blocks."),
    ("× fp16", "How many times smaller than 16-bit numbers, everything included."),
    ("× fp32", "How many times smaller than 32-bit numbers, everything included."),
    ("bare", "× fp16 if no token and no layer stayed exact: the figure that is usually advertised."),
)


class MemoryTable(QWidget):
    """Rows are made anew with each change; there are few."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Memory of the cache at a context")
        self.rows: list[MemoryRow] = []
        self._asked: tuple[Any, ...] = ()
        self._tokens: int | None = None
        self._control: SegmentedControl | None = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SMALL)
        self._grid_holder = QWidget()
        self._layout.addWidget(self._grid_holder)

    def show_model(self, sizes: Any, current: Any, dtype: Any) -> None:
        """`sizes` is the model's config; None: no model, and nothing is shown."""
        if (sizes, current, dtype) == self._asked:
            return
        fresh = not self._asked or self._asked[0] != sizes
        self._asked = (sizes, current, dtype)
        self.setVisible(sizes is not None)
        if sizes is None:
            return
        if fresh:
            self._offer(list(contexts(sizes.max_positions)))
        self._fill()

    def _offer(self, lengths: list[int]) -> None:
        if self._control is not None:
            self._layout.removeWidget(self._control)
            self._control.deleteLater()
        self._control = SegmentedControl([(n, f"{n:,}", f"A conversation of {n:,} tokens.") for n in lengths])
        self._control.set_group_name("Tokens")
        self._tokens = self._tokens if self._tokens in lengths else lengths[min(1, len(lengths) - 1)]
        self._control.set_value(self._tokens)
        self._control.chosen.connect(self._choose)
        self._layout.insertWidget(0, self._control, 0, Qt.AlignmentFlag.AlignLeft)

    def _choose(self, tokens: int) -> None:
        self._tokens = tokens
        self._fill()

    def _fill(self) -> None:
        sizes, current, dtype = self._asked
        assert self._tokens is not None
        self.rows = memory_rows(sizes, self._tokens, current, dtype)
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(MEDIUM)
        grid.setVerticalSpacing(SMALL)
        grid.setColumnStretch(0, 1)
        for column, (head, tip) in enumerate(_HEADS):
            label = MutedLabel(head)
            label.setToolTip(tip)
            grid.addWidget(label, 0, column, Qt.AlignmentFlag.AlignLeft if not column else Qt.AlignmentFlag.AlignRight)
        for line, row in enumerate(self.rows, 1):
            ratios = (row.against_float16, row.against_float32, row.bare_against_float16)
            for column, text in enumerate((row.label, bytes_text(row.nbytes), *(f"{ratio:.1f}" for ratio in ratios))):
                side = Qt.AlignmentFlag.AlignLeft if not column else Qt.AlignmentFlag.AlignRight
                grid.addWidget(self._cell(text, row.current), line, column, side)
        self._layout.replaceWidget(self._grid_holder, holder)
        self._grid_holder.deleteLater()
        self._grid_holder = holder
        self.setAccessibleDescription("; ".join(f"{r.label}: {bytes_text(r.nbytes)}, {r.against_float16:.1f} × fp16" for r in self.rows))

    def _cell(self, text: str, bold: bool) -> QLabel:
        label = QLabel(text)
        font = tabular(self.font())
        font.setWeight(font.Weight.DemiBold if bold else font.Weight.Normal)
        label.setFont(font)
        return label

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and self._asked and self._asked[0] is not None:
            self._fill()
