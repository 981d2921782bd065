"""Which architecture is built: a named one, or what was toggled in the Model panel."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QSignalBlocker, Qt, Signal, Slot
from PySide6.QtGui import QFont, QStandardItemModel
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui import icons
from ui.building.words import architecture_words, size_words, step_words
from ui.theme import SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.combo import OptionCombo
from ui.widgets.sizes import control_height
from ui.widgets.text import Muted, line_of, wrapping
from workbench.core.format import count_text
from workbench.model import PRESETS, Accounting, ModelConfig

OWN: Final = ""
OWN_LABEL: Final = "As toggled in the Model panel"
LISTED: Final = 24


class ArchitecturePart(QWidget):
    """`config` and the `preset` it is ("" for a person's own). `changed` comes from a person's hand, or from `take`."""

    changed = Signal()
    panel_wanted = Signal()
    """A person wants to toggle by hand, in the Model panel."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._own: ModelConfig | None = None
        self.preset = next(iter(PRESETS))
        self.combo = OptionCombo()
        self.combo.setAccessibleName("Architecture")
        self.combo.setMaxVisibleItems(LISTED)
        self.combo.activated.connect(self._picked)
        self.toggle = Button("Toggle…", "Change it option by option in the Model panel; “Train from scratch…” there brings it back here.")
        self.toggle.setAccessibleName("Toggle options in the Model panel")
        icons.bind(self.toggle, "architecture", theme)
        self.toggle.clicked.connect(self.panel_wanted)
        self.words = wrapping(name="architecture")
        self.size = Muted()
        self.time = Muted()
        self.trouble = wrapping(name="trouble")
        self.trouble.hide()
        row = line_of(self.combo, self.toggle)
        row.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(row)
        for widget in (self.words, self.size, self.time, self.trouble):
            layout.addWidget(widget)
        self.combo.setFixedHeight(control_height(self.combo))
        self._fill()

    @property
    def config(self) -> ModelConfig:
        """The architecture chosen; its vocabulary is the preset's own until a tokenizer is known."""
        return self._own if self.preset == OWN and self._own is not None else PRESETS[self.preset].config

    @property
    def name(self) -> str:
        """What the model is called."""
        return "Your architecture" if self.preset == OWN else PRESETS[self.preset].label

    def show_config(self, preset: str, config: ModelConfig) -> None:
        """Show a named architecture, or with `preset` "" one of a person's own; no signal."""
        same = next((p.name for p in PRESETS.values() if p.config == config), OWN)
        self.preset = preset or same
        if self.preset == OWN:
            self._own = config
            self._fill()
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(self.combo.findData(self.preset))

    def take(self, preset: str, config: ModelConfig) -> None:
        """As if a person had chosen it."""
        self.show_config(preset, config)
        self.changed.emit()

    def show_costs(self, accounting: Accounting | None, seconds: float | None, runs: int = 1, problem: str = "") -> None:
        """What it comes to with the tokenizer's vocabulary (None: it cannot be built), `seconds` per step of all runs together,
        and why it cannot be trained here."""
        self.words.setText(architecture_words(self.config))
        self.size.setText("" if accounting is None else size_words(accounting))
        self.size.setVisible(accounting is not None)
        self.time.setText(step_words(seconds, runs))
        self.time.setVisible(bool(self.time.text()))
        self.trouble.setText(problem)
        self.trouble.setVisible(bool(problem))
        self.trouble.setStyleSheet(f"color: {self._theme.colours.error};")

    # ---- the list ------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        with QSignalBlocker(self.combo):
            self.combo.clear()
            if self._own is not None:
                self.combo.fill([(OWN, OWN_LABEL, architecture_words(self._own))])
            for family in dict.fromkeys(p.family for p in PRESETS.values()):
                self._head(family)
                members = [p for p in PRESETS.values() if p.family == family]
                self.combo.fill([(p.name, p.label, f"{p.help} {count_text(p.parameters)} parameters. {p.source}.") for p in members])
            self.combo.setCurrentIndex(self.combo.findData(self.preset))

    def _head(self, family: str) -> None:
        self.combo.addItem(family, None)
        model = self.combo.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(self.combo.count() - 1)
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        font = QFont(self.combo.font())
        font.setWeight(QFont.Weight.DemiBold)
        item.setFont(font)

    @Slot()
    def _picked(self) -> None:
        preset = self.combo.currentData()
        if preset is not None and preset != self.preset:
            self.preset = preset
            self.changed.emit()
