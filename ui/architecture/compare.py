"""Two or three architectures beside each other: their diagrams, what differs, what each costs. Made once the engine is there."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont, QShowEvent, QStandardItemModel
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ui.architecture.compare_table import CompareTable
from ui.architecture.editor import BUILD_PANEL, DRAFT, LOADED, Priced
from ui.architecture.prices import PriceView
from ui.architecture.side_by_side import lines
from ui.diagram.view import DiagramView
from ui.forms.form import ConfigForm
from ui.panels import PANELS
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.combo import OptionCombo
from ui.widgets.flow import FlowLayout
from ui.widgets.text import Muted
from ui.widgets.toggle import ToggleSwitch
from workbench.core.errors import WorkbenchError
from workbench.core.format import count_text
from workbench.model import PRESETS

FIRST: Final = ("gpt2", "smollm2-135m")
"""What is compared before anybody has chosen."""
MOST: Final = 3
DIAGRAM_HEIGHT: Final = 330


class _Column:
    """One architecture: which, its diagram, and what can be done with it."""

    def __init__(self, view: CompareView, index: int, services: Services) -> None:
        self.name = ""
        self.priced: Priced | None = None
        self.combo = OptionCombo()
        self.combo.setAccessibleName(f"Architecture {index + 1}")
        self.combo.setMaxVisibleItems(24)
        self.combo.activated.connect(partial(view.chosen, index))
        self.diagram = DiagramView(services.notify)
        self.diagram.setFixedHeight(DIAGRAM_HEIGHT)
        self.edit = Button("Edit", "Make it the draft of the Model panel.")
        self.edit.clicked.connect(partial(view.edit, index))
        self.train = Button("Train…", "Hand it to the page that trains models from scratch.")
        self.train.clicked.connect(partial(view.train, index))
        self.train.setVisible(BUILD_PANEL in PANELS)
        buttons = FlowLayout(spacing=SMALL)
        buttons.addWidget(self.edit)
        buttons.addWidget(self.train)
        self.widget = QWidget()
        self.widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.combo.setMinimumContentsLength(1)
        self.combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        column = QVBoxLayout(self.widget)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SMALL)
        column.addWidget(self.combo)
        column.addWidget(self.diagram)
        column.addLayout(buttons)


class CompareView(QWidget):
    """Follows the Model panel's draft and the loaded model while one of its columns shows them."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._draft: tuple[str, Any] | None = None
        self.columns = [_Column(self, index, services) for index in range(MOST)]
        self.third = ToggleSwitch("Third architecture")
        self.third.setToolTip("Show a third architecture.")
        self.third.clicked.connect(self._show_third)
        self.all_settings = ToggleSwitch("All settings")
        self.all_settings.setToolTip("List settings that are alike too.")
        self.all_settings.clicked.connect(self.refresh)
        self.context = ConfigForm(PriceView, compact=True)
        self.context.changed.connect(self.refresh)
        self.table = CompareTable()
        self._build()
        self._fill()
        for column, name in zip(self.columns, (*FIRST, FIRST[0]), strict=True):
            self._choose(column, name)
        self._show_third(False)

    def _build(self) -> None:
        head = FlowLayout(spacing=LARGE)
        head.addWidget(self.third)
        head.addWidget(self.all_settings)
        grid = QHBoxLayout(spacing=MEDIUM)
        for column in self.columns:
            grid.addWidget(column.widget, 1)
        content = QWidget()
        page = QVBoxLayout(content)
        page.setContentsMargins(LARGE, MEDIUM + SMALL, LARGE, LARGE)
        page.setSpacing(MEDIUM)
        page.addLayout(head)
        page.addLayout(grid)
        page.addWidget(self.table)
        page.addWidget(Muted("Figures in brackets are relative to the first column."))
        page.addWidget(self.context)
        page.addStretch(1)
        self.scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.scroll.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll)

    # ---- which ones ----------------------------------------------------------------------------------------------

    def compare(self, names: tuple[str, ...]) -> None:
        """Lay these side by side: "draft", "loaded" or names of presets; two at least are shown."""
        wanted = list(names[:MOST]) or [DRAFT]
        if len(wanted) == 1:
            wanted.append(LOADED if wanted[0] != LOADED and self._known(LOADED) is not None else FIRST[0])
        for column, name in zip(self.columns, wanted, strict=False):
            self._choose(column, name)
        self.third.setChecked(len(wanted) == MOST)
        self._show_third(self.third.isChecked())

    def follow_draft(self, draft: tuple[str, Any]) -> None:
        """The Model panel shows another architecture."""
        self._draft = draft
        self._follow(DRAFT)

    def follow_model(self) -> None:
        """Another model is loaded, or none."""
        self._follow(LOADED)

    def _follow(self, name: str) -> None:
        if not self.isVisible():
            return
        self._fill()
        for column in self.columns:
            if column.name == name:
                self._choose(column, name)
        self.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fill()
        for column in self.columns:
            if column.name in (DRAFT, LOADED):
                self._choose(column, column.name)
        self.refresh()

    def _known(self, name: str) -> tuple[str, Any] | None:
        """(label, config) of a name; None when there is no such architecture now."""
        if name == DRAFT:
            return self._draft
        if name == LOADED:
            summary = getattr(self._services.session, "model", None)
            return None if summary is None else (summary.name, summary.config)
        preset = PRESETS.get(name)
        return None if preset is None else (preset.label, preset.config)

    def _choose(self, column: _Column, name: str) -> None:
        found = self._known(name)
        if found is None:
            name = FIRST[0]
            found = self._known(name)
        assert found is not None
        label, config = found
        column.name = name
        if column.priced is None or column.priced.config != config or column.priced.name != label:
            try:
                column.priced = Priced.of(label, config)
            except WorkbenchError:  # a draft that cannot be built: what could be stays
                return
        column.combo.setCurrentIndex(column.combo.findData(name))

    def _fill(self) -> None:
        """The list of every combo: the draft, the loaded model, and presets by lineage."""
        loaded = self._known(LOADED)
        firsts = [(DRAFT, "The Model panel’s draft")] if self._draft is not None else []
        if loaded is not None:
            firsts.append((LOADED, f"Loaded: {loaded[0]}"))
        for column in self.columns:
            column.combo.clear()
            for name, label in firsts:
                column.combo.addItem(label, name)
            family = ""
            for preset in PRESETS.values():
                if preset.family != family:
                    family = preset.family
                    self._heading(column.combo, family)
                column.combo.addItem(f"{preset.label} · {count_text(preset.parameters)}", preset.name)
                tip = f"{preset.help} {preset.source} ({preset.year})"
                column.combo.setItemData(column.combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
            column.combo.setCurrentIndex(column.combo.findData(column.name))

    @staticmethod
    def _heading(combo: OptionCombo, text: str) -> None:
        combo.addItem(text)
        model = combo.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(combo.count() - 1)
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        font = QFont(combo.font())
        font.setWeight(QFont.Weight.DemiBold)
        item.setFont(font)

    def chosen(self, index: int, _row: int) -> None:
        """A person has picked an architecture for a column."""
        self._choose(self.columns[index], self.columns[index].combo.currentData())
        self.refresh()

    @Slot(bool)
    def _show_third(self, shown: bool) -> None:
        self.columns[-1].widget.setVisible(shown)
        self.refresh()

    def shown(self) -> list[_Column]:
        """The columns on screen."""
        return [c for c in self.columns[: MOST if self.third.isChecked() else MOST - 1] if c.priced is not None]

    # ---- what is done with them ----------------------------------------------------------------------------------

    def edit(self, index: int, _checked: bool = False) -> None:
        """Make a column's architecture the Model panel's draft."""
        priced = self.columns[index].priced
        if priced is not None:
            self._services.bus.edit_requested.emit((priced.name, priced.config))

    def train(self, index: int, _checked: bool = False) -> None:
        """Hand a column's architecture to the page that trains from scratch."""
        priced = self.columns[index].priced
        if priced is not None:
            self._services.bus.build_requested.emit(priced.config)

    @Slot()
    def refresh(self) -> None:
        """Draw diagrams and table as the columns are now."""
        shown = self.shown()
        first = shown[0].priced
        assert first is not None
        for column in shown:
            assert column.priced is not None
            column.diagram.show_spec(column.priced.spec, None if column is shown[0] else first.spec)
            column.edit.setEnabled(column.name != DRAFT)
        view = self.context.value
        found = lines(
            [c.priced.accounting for c in shown if c.priced is not None],
            view.context if not view.problems() else None,
            only_differences=not self.all_settings.isChecked(),
        )
        self.table.show_lines(found, [c.priced.name for c in shown if c.priced is not None])
