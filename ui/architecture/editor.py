"""Settings, diagram and costs of an architecture, in step with each other. Made once the engine is there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.architecture.action_bar import ActionBar
from ui.architecture.alternatives import with_value
from ui.architecture.conversion import Conversion
from ui.architecture.help_card import HelpCard
from ui.architecture.presets_menu import PresetsMenu
from ui.architecture.prices import PriceRow, PriceStrip, PriceTable, PriceView, price_rows, tying_text
from ui.architecture.reveal import Reveal
from ui.architecture.trouble import Trouble
from ui.architecture.verdicts import of_change
from ui.diagram.spec import Spec, spec_of
from ui.diagram.view import DiagramView
from ui.forms import ConfigForm
from ui.forms.row import FieldRow
from ui.panels import PANELS
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.labels import ElidingLabel, MutedLabel
from ui.widgets.pages import SplitOrPages
from ui.widgets.section import CollapsibleSection
from workbench.caches.config import CacheConfig
from workbench.core.fields import Problem
from workbench.model import PRESETS, Accounting, ModelConfig, account

STARTER_PRESET: Final = "smollm2-135m"
DIAGRAM_SHARE: Final = (11, 10)
ROOM_FOR_BOTH: Final = 300
"""Pixels of height from which diagram and settings are seen at once."""
BUILD_PANEL: Final = "build"
DRAFT, LOADED = "draft", "loaded"
"""What the page of comparisons calls what is shown here, and the model in use."""


@dataclass(frozen=True)
class Priced:
    """An architecture with its name, its costs and what the diagram shows of it."""

    name: str
    config: ModelConfig
    accounting: Accounting
    spec: Spec

    @classmethod
    def of(cls, name: str, config: ModelConfig) -> Priced:
        """Raises `ConfigError` for a config that cannot be built."""
        accounting = account(config)
        return cls(name, config, accounting, spec_of(config, accounting))


class ArchitectureEditor(QWidget):
    """A draft of an architecture beside the one it is compared with: the loaded model, or a named preset."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        starter = PRESETS[STARTER_PRESET]
        self.home = Priced.of(starter.label, starter.config)
        """What "Reset" goes back to: the loaded model, or the starter's architecture while there is none."""
        self.loaded = False
        self.reference = self.home
        self.shown = self.home
        self._base = self.home
        self._noted: set[str] = set()
        self.rows: list[PriceRow] = []
        self.title = ElidingLabel()
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.presets = self._tool("Presets", "Show a named architecture, or compare with one")
        self.presets.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.presets_menu = PresetsMenu(self, self.show_preset, self.compare_with, self.side_by_side)
        self.presets.setMenu(self.presets_menu)
        self.presets.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the arrow behind the word
        self.presets.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.presets.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        icons.bind(self.presets, "chevron-down", services.theme)
        self.reset_button = self._tool("", "Reset to the loaded model")
        self.reset_button.clicked.connect(self.reset)
        icons.bind(self.reset_button, "refresh", services.theme)
        self.export_button = self._tool("", "Save or copy the diagram")
        self.export_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.export_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        icons.bind(self.export_button, "export", services.theme)
        self.strip = PriceStrip()
        self.trouble = Trouble()
        self.diagram = DiagramView(services.notify)
        self.export_button.setMenu(self.diagram.menu(lasting=True))
        self.form = ConfigForm(ModelConfig, self.home.config, searchable=True)
        self.form.set_baseline(self.home.config)
        self.card = HelpCard(services.theme, self.form)
        self._reveal = Reveal(self)
        self.cache = ConfigForm(CacheConfig, services.runtime.cache)
        self.view = ConfigForm(PriceView, compact=True)
        self.table = PriceTable()
        self.tying = MutedLabel()
        self.tying.setWordWrap(True)
        self.conversion = Conversion(services, self)
        self.actions_bar = ActionBar(services, self.conversion)
        self.actions_bar.allow_build(BUILD_PANEL in PANELS)
        self._build()
        self._connect()
        self._refresh()

    def _tool(self, text: str, name: str) -> QToolButton:
        button = QToolButton(text=text, autoRaise=True)
        button.setAccessibleName(name)
        button.setToolTip(name)
        return button

    def _connect(self) -> None:
        self.form.changed.connect(self._on_config)
        self.form.problems_changed.connect(self._on_problems)
        self.form.explained.connect(self._explain)
        self.form.search.textChanged.connect(self._search)
        self.card.picked.connect(self._pick)
        self.trouble.wanted.connect(self.form.focus_field)
        self.cache.changed.connect(self._on_cache)
        self._services.runtime.changed.connect(self.cache.set_value)
        self.view.changed.connect(self._on_view)
        self.conversion.changed.connect(self._show_verdicts)
        self.actions_bar.build_wanted.connect(self.build)
        self._services.bus.edit_requested.connect(self.edit)

    # ---- layout --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        head = QHBoxLayout(spacing=SMALL)
        head.addWidget(self.title, 1)
        head.addWidget(self.presets)
        head.addWidget(self.export_button)
        head.addWidget(self.reset_button)
        top = QVBoxLayout()
        top.setContentsMargins(MEDIUM + SMALL, SMALL, MEDIUM, MEDIUM)
        top.setSpacing(SMALL)
        top.addLayout(head)
        top.addWidget(self.strip)
        top.addWidget(self.trouble)
        self.scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.scroll.setWidget(self._settings())
        self.split = SplitOrPages(("Diagram", self.diagram), ("Settings", self.scroll), ROOM_FOR_BOTH, DIAGRAM_SHARE)
        line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        line.setForegroundRole(self.palette().ColorRole.Mid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.split, 1)
        layout.addWidget(line)
        layout.addWidget(self.actions_bar)

    def _settings(self) -> QWidget:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(MEDIUM, MEDIUM, MEDIUM, LARGE)
        column.setSpacing(MEDIUM)
        live = CollapsibleSection("Acts on the next message")
        live.body_layout.addWidget(self.cache)
        costs = CollapsibleSection("Costs in detail")
        self.tying.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        for widget in (self.table, self.view, self.tying):
            costs.body_layout.addWidget(widget)
        self.sections = (costs, live)
        column.addWidget(self.form)
        for section in self.sections:
            column.addWidget(section)
        column.addStretch(1)
        return content

    # ---- what is shown -------------------------------------------------------------------------------------------

    def show_model(self, summary: Any) -> None:
        """Another model was loaded, or none (None): it becomes what is shown and compared with."""
        self.loaded = summary is not None
        self.conversion.forget()
        starter = PRESETS[STARTER_PRESET]
        self.home = Priced.of(summary.name, summary.config) if summary is not None else Priced.of(starter.label, starter.config)
        self.reset()

    @Slot()
    def reset(self) -> None:
        """Back to the loaded model (or the starter's architecture), compared with itself."""
        self.reference = self.home
        self.presets_menu.select("")
        self._show(self.home)

    def show_preset(self, name: str) -> None:
        """Put a named architecture into the form."""
        preset = PRESETS[name]
        self._show(Priced.of(preset.label, preset.config))

    def compare_with(self, name: str) -> None:
        """Price and mark differences against a preset; "" against the loaded model."""
        self.reference = Priced.of(PRESETS[name].label, PRESETS[name].config) if name else self.home
        self.presets_menu.select(name)
        self._refresh()

    def side_by_side(self) -> None:
        """Ask for the page that lays the draft beside what it is compared with."""
        name = next((n for n, p in PRESETS.items() if p.config == self.reference.config), LOADED if self.loaded else "")
        self._services.bus.compare_requested.emit((DRAFT, name) if name else (DRAFT,))

    @Slot(object)
    def edit(self, named: tuple[str, ModelConfig]) -> None:
        """Take over an architecture from elsewhere."""
        name, config = named
        self._show(Priced.of(name, config))
        self._services.bus.show_panel.emit("architecture")

    @Slot()
    def build(self) -> None:
        """Hand the draft to the page that trains from scratch."""
        if not self.form.problems:
            self._services.bus.build_requested.emit(self.form.value)

    def _draft_name(self) -> str:
        return self._base.name if self.shown.config == self._base.config else f"{self._base.name}, changed"

    def _show(self, priced: Priced) -> None:
        self._base = self.shown = priced
        self.form.set_baseline(priced.config)
        self.form.set_value(priced.config)
        self._refresh()
        self.conversion.want(priced.config)

    @Slot(object)
    def _on_config(self, config: ModelConfig) -> None:
        """A person's edit: draw and price it at once; while it cannot be built, the last one that could stays."""
        if not config.problems():
            self.shown = Priced.of(self._base.name, config)
            self._refresh()
            self.conversion.want(config)
        else:
            self.conversion.want(None)

    @Slot(str, object)
    def _pick(self, path: str, value: Any) -> None:
        """An alternative of the help card."""
        self.form.take(with_value(self.form.value, path, value))

    @Slot(object)
    def _on_view(self, view: PriceView) -> None:
        if not view.problems():
            self._refresh()

    @Slot(object)
    def _on_cache(self, config: CacheConfig) -> None:
        if not config.problems():
            self._services.runtime.set_cache(config)

    @Slot(object)
    def _on_problems(self, problems: list[Problem]) -> None:
        self.trouble.show_problems(problems)
        label = self._label_of(problems[0].field) if problems else ""
        self.actions_bar.set_problem(f"Correct “{label}” first" if problems else "", str(problems[0]) if problems else "")

    def _label_of(self, field: str) -> str:
        row = self.form.row(field) or self.form.row(field.partition(".")[0])
        return row.info.label if row is not None else field

    @Slot(str)
    def _search(self, text: str) -> None:
        """The search finds what acts on the next message too, and leaves out what is no setting."""
        costs, live = self.sections
        found = self.cache.filter(text)
        self.form.nothing.setVisible(self.form.nothing.isVisibleTo(self.form) and not found)
        live.setVisible(found)
        costs.setVisible(not text)

    # ---- help ----------------------------------------------------------------------------------------------------

    @Slot(object)
    def _explain(self, row: FieldRow) -> None:
        """Tell all about a field under it; asked again, fold it away."""
        if self.card.path == row.path and self.card.isVisibleTo(row):
            self.card.leave()
            return
        self.card.explain(row, self.shown.accounting, self._context)
        for first, second in pairwise((row.editor.stops()[-1], self.card.body, self.card.close_button)):
            QWidget.setTabOrder(first, second)
        self._reveal.begin(self.scroll, row, self.card)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.card.path:
            self.card.leave()
        else:
            super().keyPressEvent(event)

    # ---- drawing -------------------------------------------------------------------------------------------------

    @property
    def _context(self) -> int:
        return self.view.value.context or self.shown.config.max_positions

    def _refresh(self) -> None:
        same = self.shown.config == self.reference.config
        before = None if same else self.reference.accounting
        self.rows = price_rows(self.shown.accounting, before, self.view.value.context)
        self.diagram.show_spec(self.shown.spec, None if same else self.reference.spec)
        self.strip.show_prices(self.rows)
        self.table.show_prices(self.rows, self._reference_word())
        self.tying.setText(tying_text(self.shown.accounting))
        row = self.form.row(self.card.path)
        if row is not None and row.isAncestorOf(self.card):
            self.card.refresh(self.shown.accounting, self._context)
        else:  # it stood under an option of a kind that is no longer chosen
            self.card.leave()
        self._show_title()
        self._services.bus.draft_changed.emit((self._draft_name(), self.shown.config))

    @Slot()
    def _show_verdicts(self) -> None:
        """Beside each changed setting, what its change does to the loaded model."""
        changes = {} if self.conversion.plan is None else {c.field: c for c in self.conversion.plan.changes}
        rows = {field: self.form.row(field) or self.form.row(field.partition(".")[0]) for field in {*changes, *self._noted}}
        for field, row in rows.items():
            if row is not None and field not in changes:
                row.set_note("")
        for field, change in changes.items():
            row = rows[field]
            if row is not None:
                verdict = of_change(change)
                row.set_note(verdict.words, verdict.icon, verdict.role)
        self._noted = set(changes)

    def _reference_word(self) -> str:
        if self.reference is self.home:
            return "Loaded" if self.loaded else "Starter"
        return self.reference.name

    def _show_title(self) -> None:
        changed = sum(getattr(self.shown.config, f.name) != getattr(self._base.config, f.name) for f in fields(ModelConfig))
        own = self.loaded and self._base is self.home
        if own:
            unchanged = "As converted" if self.conversion.report is not None else "As loaded"
            text = f"{changed} setting{'s' if changed > 1 else ''} changed" if changed else unchanged
        else:
            text = f"{self._base.name} · {f'{changed} changed' if changed else 'not loaded'}"
        self.title.set_full_text(text)
        moved = self.shown.config != self.home.config or self.reference is not self.home
        self.reset_button.setEnabled(moved)
        back = "the loaded model" if self.loaded else "the starter’s architecture"
        self.reset_button.setToolTip(f"Reset to {back}")
        self.reset_button.setAccessibleName(f"Reset to {back}")
        self.presets_menu.name_home(back[0].upper() + back[1:])
