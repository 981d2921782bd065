"""Settings, diagram and costs of an architecture, in step with each other. Made once the engine is there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QActionGroup, QFont
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QScrollArea, QSizePolicy, QSplitter, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.architecture.prices import PriceRow, PriceStrip, PriceTable, PriceView, price_rows, tying_text
from ui.diagram.spec import Spec, spec_of
from ui.diagram.view import DiagramView
from ui.forms import ConfigForm
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.labels import ElidingLabel, MutedLabel
from ui.widgets.section import CollapsibleSection
from workbench.caches.config import CacheConfig
from workbench.model import PRESETS, Accounting, ModelConfig, account

STARTER_PRESET: Final = "smollm2-135m"
WEIGHTS_NOTE: Final = (
    "These settings change the weights, which needs training. This release draws and prices them; the loaded model keeps running unchanged."
)
DIAGRAM_SHARE: Final = (11, 10)


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
        self.rows: list[PriceRow] = []
        self.title = ElidingLabel()
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.presets = self._tool("Presets", "Show a named architecture, or compare with one")
        self.presets.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.presets.setMenu(self._presets_menu())
        self.presets.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the arrow behind the word
        self.presets.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.presets.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        icons.bind(self.presets, "chevron-down", services.theme)
        self.reset_button = self._tool("", "Reset to the loaded model")
        self.reset_button.clicked.connect(self.reset)
        icons.bind(self.reset_button, "refresh", services.theme)
        self.strip = PriceStrip()
        self.trouble = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.trouble.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.trouble.hide()
        self.diagram = DiagramView(services.notify)
        self.form = ConfigForm(ModelConfig, self.home.config, searchable=True)
        self.form.set_baseline(self.home.config)
        self.form.changed.connect(self._on_config)
        self.form.problems_changed.connect(self._show_trouble)
        self.cache = ConfigForm(CacheConfig, services.runtime.cache)
        self.cache.changed.connect(self._on_cache)
        services.runtime.changed.connect(self.cache.set_value)
        self.view = ConfigForm(PriceView, compact=True)
        self.view.changed.connect(self._on_view)
        self.table = PriceTable()
        self.tying = MutedLabel()
        self.tying.setWordWrap(True)
        self._build()
        self._refresh()

    def _tool(self, text: str, name: str) -> QToolButton:
        button = QToolButton(text=text, autoRaise=True)
        button.setAccessibleName(name)
        button.setToolTip(name)
        return button

    # ---- layout --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        head = QHBoxLayout(spacing=SMALL)
        head.addWidget(self.title, 1)
        head.addWidget(self.presets)
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
        self.split = QSplitter(Qt.Orientation.Vertical, childrenCollapsible=True)
        self.split.addWidget(self.diagram)
        self.split.addWidget(self.scroll)
        for index, share in enumerate(DIAGRAM_SHARE):
            self.split.setStretchFactor(index, share)
        self.split.setSizes([share * 100 for share in DIAGRAM_SHARE])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.split, 1)

    def _settings(self) -> QWidget:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(MEDIUM, MEDIUM, MEDIUM, LARGE)
        column.setSpacing(MEDIUM)
        live = CollapsibleSection("Acts on the next message")
        live.body_layout.addWidget(self.cache)
        note = MutedLabel(WEIGHTS_NOTE)
        note.setWordWrap(True)
        note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        weights = CollapsibleSection("Changes the weights")
        weights.body_layout.addWidget(note)
        weights.body_layout.addWidget(self.form)
        costs = CollapsibleSection("Costs in detail")
        self.tying.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        for widget in (self.table, self.view, self.tying):
            costs.body_layout.addWidget(widget)
        self.sections = (live, weights, costs)
        for section in self.sections:
            column.addWidget(section)
        column.addStretch(1)
        return content

    def _presets_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for preset in PRESETS.values():
            action = menu.addAction(preset.label)
            action.setToolTip(f"{preset.help} {preset.source}")
            action.triggered.connect(partial(self.show_preset, preset.name))
        menu.addSeparator()
        compare = menu.addMenu("Compare with")
        self._compare = QActionGroup(compare)
        for name, label in [("", "The loaded model"), *((p.name, p.label) for p in PRESETS.values())]:
            action = compare.addAction(label)
            action.setCheckable(True)
            action.setChecked(not name)
            action.setData(name)
            self._compare.addAction(action)
            action.triggered.connect(partial(self.compare_with, name))
        return menu

    # ---- what is shown -------------------------------------------------------------------------------------------

    def show_model(self, summary: Any) -> None:
        """Another model was loaded, or none (None): it becomes what is shown and compared with."""
        self.loaded = summary is not None
        starter = PRESETS[STARTER_PRESET]
        self.home = Priced.of(summary.name, summary.config) if summary is not None else Priced.of(starter.label, starter.config)
        self.reset()

    @Slot()
    def reset(self) -> None:
        """Back to the loaded model (or the starter's architecture), compared with itself."""
        self.reference = self.home
        self._compare.actions()[0].setChecked(True)
        self._show(self.home)

    def show_preset(self, name: str, _checked: bool = False) -> None:
        """Put a named architecture into the form."""
        preset = PRESETS[name]
        self._show(Priced.of(preset.label, preset.config))

    def compare_with(self, name: str, _checked: bool = False) -> None:
        """Price and mark differences against a preset; "" against the loaded model."""
        self.reference = Priced.of(PRESETS[name].label, PRESETS[name].config) if name else self.home
        next(a for a in self._compare.actions() if a.data() == name).setChecked(True)
        self._refresh()

    def _show(self, priced: Priced) -> None:
        self._base = self.shown = priced
        self.form.set_baseline(priced.config)
        self.form.set_value(priced.config)
        self._refresh()

    @Slot(object)
    def _on_config(self, config: ModelConfig) -> None:
        """A person's edit: draw and price it at once; while it cannot be built, the last one that could stays."""
        if not config.problems():
            self.shown = Priced.of(self._base.name, config)
            self._refresh()

    @Slot(object)
    def _on_view(self, view: PriceView) -> None:
        if not view.problems():
            self._refresh()

    @Slot(object)
    def _on_cache(self, config: CacheConfig) -> None:
        if not config.problems():
            self._services.runtime.set_cache(config)

    @Slot(object)
    def _show_trouble(self, problems: list[Any]) -> None:
        text = f"Not drawn: {problems[0]}" if problems else ""
        self.trouble.setText(text)
        self.trouble.setVisible(bool(text))
        self.trouble.setStyleSheet(f"color: {self._services.theme.colours.error};")

    def _refresh(self) -> None:
        same = self.shown.config == self.reference.config
        before = None if same else self.reference.accounting
        self.rows = price_rows(self.shown.accounting, before, self.view.value.context)
        self.diagram.show_spec(self.shown.spec, None if same else self.reference.spec)
        self.strip.show_prices(self.rows)
        self.table.show_prices(self.rows, self._reference_word())
        self.tying.setText(tying_text(self.shown.accounting))
        self._show_title()

    def _reference_word(self) -> str:
        if self.reference is self.home:
            return "Loaded" if self.loaded else "Starter"
        return self.reference.name

    def _show_title(self) -> None:
        changed = sum(getattr(self.shown.config, f.name) != getattr(self._base.config, f.name) for f in fields(ModelConfig))
        own = self.loaded and self._base is self.home
        if own:
            text = f"{changed} changed from the loaded model" if changed else "As loaded"
        else:
            text = f"{self._base.name} · {f'{changed} changed' if changed else 'not loaded'}"
        self.title.set_full_text(text)
        moved = self.shown.config != self.home.config or self.reference is not self.home
        self.reset_button.setEnabled(moved)
        back = "the loaded model" if self.loaded else "the starter’s architecture"
        self.reset_button.setToolTip(f"Reset to {back}")
        self.reset_button.setAccessibleName(f"Reset to {back}")
        self._compare.actions()[0].setText(back[0].upper() + back[1:])
