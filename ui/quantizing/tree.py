"""The model's modules with check boxes: what each takes before and after, and how far its weights move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from PySide6.QtCore import QEvent, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QColor, QFont, QKeyEvent, QKeySequence, QPalette
from PySide6.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTreeWidget, QTreeWidgetItem

from ui.quantizing.choice import groups
from ui.theme import Theme, tabular
from workbench.core.format import bytes_text
from workbench.quantization import ModulePlan, ModuleReport

MODULE, SHAPE, BEFORE, AFTER, ERROR, NOTE = range(6)
HEADS: Final = (
    ("Module", "Checked modules are kept in few bits; the others stay as they were loaded."),
    ("Shape", "Outputs × inputs of the matrix; a norm has one gain per channel."),
    ("Before", "Bytes in full precision."),
    ("After", "Bytes as chosen: measured where the module is quantized now, counted from its shape where it is not yet."),
    ("Weight error", "How far the weights moved, ‖W − W̃‖ / ‖W‖; measured when the module was quantized."),
    ("Note", "Why a module stays as it is, or what it shares."),
)
_NAME: Final = Qt.ItemDataRole.UserRole


class ModuleTree(QTreeWidget):
    """Blocks and what is in them. A person's edit is told once, however many boxes it moved. Ctrl+C copies the table."""

    chosen_changed = Signal(object)
    """frozenset of the names of all checked modules."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._items: dict[str, QTreeWidgetItem] = {}
        self._rows: dict[str, ModulePlan] = {}
        self._names: tuple[str, ...] = ()
        self._showing = False
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self._tell)
        self.setHeaderLabels([head for head, _ in HEADS])
        for column, (_, tip) in enumerate(HEADS):
            self.headerItem().setToolTip(column, tip)
            if column in (BEFORE, AFTER, ERROR):
                self.headerItem().setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        self.setAccessibleName("Modules of the model")
        self.setFrameShape(QTreeWidget.Shape.NoFrame)
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setFont(tabular(self.font()))
        header = self.header()
        header.setStretchLastSection(True)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # notes give way, and have tool tips
        self.itemChanged.connect(self._on_item)
        theme.changed.connect(self._tint)
        self._fit()
        self._tint()

    # ---- shown -------------------------------------------------------------------------------------------------------

    def show_plan(self, rows: Sequence[ModulePlan], now: Mapping[str, ModuleReport]) -> None:
        """Show what is planned; `now` are the modules as they are, by name. Opened groups, selection and scroll stay."""
        self._showing = True
        names = tuple(row.name for row in rows)
        if names != self._names:
            self._rebuild(names)
        self._rows = {row.name: row for row in rows}
        for row in rows:
            self._show_row(self._items[row.name], row, now.get(row.name))
        for index in range(self.topLevelItemCount()):
            top = self.topLevelItem(index)
            if top.childCount():
                self._show_group(top)
        self._showing = False

    def _rebuild(self, names: tuple[str, ...]) -> None:
        self.clear()
        self._names, self._items = names, {}
        for group in groups(names):
            parent: Any = self
            if group.label:
                parent = QTreeWidgetItem(self, [group.label])
                parent.setFlags(parent.flags() | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsAutoTristate)
            for leaf in group.leaves:
                item = QTreeWidgetItem(parent, [leaf.label])
                item.setData(MODULE, _NAME, leaf.name)
                item.setToolTip(MODULE, leaf.name)
                for column in (BEFORE, AFTER, ERROR):
                    item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self._items[leaf.name] = item
        for index in range(self.topLevelItemCount()):
            for column in (BEFORE, AFTER, ERROR):
                self.topLevelItem(index).setTextAlignment(column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def _show_row(self, item: QTreeWidgetItem, row: ModulePlan, now: ModuleReport | None) -> None:
        flags = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemNeverHasChildren
        item.setFlags(flags if row.fixed else flags | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(MODULE, Qt.CheckState.Checked if row.chosen else Qt.CheckState.Unchecked)
        quantized = now is not None and now.scheme is not None
        item.setText(SHAPE, " × ".join(f"{n:,}" for n in row.shape))
        item.setText(BEFORE, bytes_text(row.bytes_before))
        item.setText(AFTER, bytes_text(now.bytes_after if quantized and row.chosen and now is not None else row.bytes_after))
        known = now.error if quantized and now is not None and row.chosen else None
        item.setText(ERROR, "" if known is None else f"{known:.2%}")
        item.setText(NOTE, row.reason)
        item.setToolTip(NOTE, row.reason)

    def _show_group(self, top: QTreeWidgetItem) -> None:
        rows = [self._rows[top.child(i).data(MODULE, _NAME)] for i in range(top.childCount())]
        top.setText(SHAPE, f"{sum(row.chosen for row in rows)} of {len(rows)}")
        top.setText(BEFORE, bytes_text(sum(row.bytes_before for row in rows)))
        top.setText(AFTER, bytes_text(sum(row.bytes_after for row in rows)))

    @property
    def chosen(self) -> frozenset[str]:
        """The names of all checked modules."""
        return frozenset(n for n, item in self._items.items() if item.checkState(MODULE) == Qt.CheckState.Checked)

    @property
    def selected(self) -> frozenset[str]:
        """The names of the selected modules, those of selected blocks included."""
        found = set()
        for item in self.selectedItems():
            names = [item.data(MODULE, _NAME), *(item.child(i).data(MODULE, _NAME) for i in range(item.childCount()))]
            found.update(name for name in names if name)
        return frozenset(found)

    # ---- edited ------------------------------------------------------------------------------------------------------

    @Slot(QTreeWidgetItem, int)
    def _on_item(self, _item: QTreeWidgetItem, column: int) -> None:
        if not self._showing and column == MODULE:
            self._soon.start()

    @Slot()
    def _tell(self) -> None:
        self.chosen_changed.emit(self.chosen)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(self.as_text())
        else:
            super().keyPressEvent(event)

    def as_text(self) -> str:
        """Every module with tabs between the columns, for a spreadsheet."""
        lines = ["\t".join(("Quantized", *(head for head, _ in HEADS)))]
        for name, item in self._items.items():
            mark = "yes" if item.checkState(MODULE) == Qt.CheckState.Checked else "no"
            lines.append("\t".join((mark, name, *(item.text(column) for column in range(SHAPE, NOTE + 1)))))
        return "\n".join(lines)

    # ---- widths ------------------------------------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_items"):
            self._fit()

    @Slot()
    def _tint(self) -> None:
        """Fusion draws the frames of empty check boxes in a darker window colour, which on a dark table is no frame at all."""
        palette = QPalette(self.palette())
        palette.setColor(QPalette.ColorRole.Window, QColor(self._theme.colours.muted))
        self.setPalette(palette)

    def _fit(self) -> None:
        """Columns as wide as their words at the font in force."""
        metrics = self.fontMetrics()
        self.header().setFont(QFont(self.font()))
        samples = ("residual.attention_norm ", "49,152 × 999", "99.9 MB ", "99.9 MB ", "Weight error ")
        for column, sample in enumerate(samples):
            indent = 2 * self.indentation() + 24 if column == MODULE else 12
            self.header().resizeSection(column, metrics.horizontalAdvance(sample) + indent)
