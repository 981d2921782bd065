"""How one side answers: its cache, its weights, whether the adapter acts. Two lists for the usual, a form for the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.caching.named import OTHER, caches, name_of, named
from ui.chat.bits import ICON
from ui.forms.form import ConfigForm
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.combo import OptionCombo
from ui.widgets.labels import MutedLabel
from ui.widgets.toggle import ToggleSwitch
from workbench.caches import CacheConfig
from workbench.quantization import SCHEMES, QuantizationConfig
from workbench.requests import SideSettings

LOADED: Final = "loaded"
MOST: Final = 300
"""Pixels that the form takes at most; what it lacks, it scrolls."""


def first_settings(cache: CacheConfig, weights: QuantizationConfig | None = None) -> tuple[SideSettings, SideSettings]:
    """What is compared before anybody has chosen: the chat's settings, and the same with the smallest cache that is another."""
    other = named(next(preset.name for preset in reversed(caches()) if preset.name != name_of(cache)), cache)
    return SideSettings(cache=cache, quantization=weights), SideSettings(cache=other, quantization=weights)


class SideChooser(QWidget):
    """The letter, two lists, a switch, and a form that folds away. `changed` carries the new `SideSettings`, after a person's edit."""

    changed = Signal(object)

    def __init__(self, services: Services, side: str) -> None:
        super().__init__()
        self._services = services
        self.side = side
        self.value = SideSettings()
        self.letter = QLabel(side)
        self.letter.setObjectName("sideLetter")
        self.letter.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.cache = OptionCombo()
        self.weights = OptionCombo()
        self.adapter = ToggleSwitch()
        self.more = QToolButton(checkable=True, autoRaise=True, iconSize=ICON)
        self.form = ConfigForm(CacheConfig, compact=True)
        self.scheme = ConfigForm(QuantizationConfig, compact=True)
        self.drawer = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self._build()
        self._connect()
        self._tint()
        self.show_settings(self.value)

    def _build(self) -> None:
        side = self.side
        self.cache.setAccessibleName(f"Cache of side {side}")
        self.cache.setToolTip("How this side keeps keys and values. Acts on the next message.")
        self.cache.fill([(n.name, n.label, n.help) for n in caches()])
        self.cache.addItem("Other…", OTHER)
        self.weights.setAccessibleName(f"Weights of side {side}")
        self.weights.setToolTip("In how many bits this side's weights are. Acts on the next message; the chat's weights stay.")
        self.weights.fill([(LOADED, "As loaded", "The weights as they were loaded."), *((s.name, s.label, s.help) for s in SCHEMES)])
        self.adapter.setAccessibleName(f"Adapter of side {side}")
        self.adapter.setToolTip("Off, this side answers as if no adapter were in use.")
        self.more.setToolTip(f"All settings of side {side}")
        self.more.setAccessibleName(f"All settings of side {side}")
        icons.bind(self.more, "settings", self._services.theme, "muted")
        line = QGridLayout()
        line.setContentsMargins(MEDIUM, SMALL, SMALL, SMALL)
        line.setHorizontalSpacing(SMALL)
        line.setVerticalSpacing(2)
        named = QHBoxLayout(spacing=SMALL)
        named.addWidget(self.letter)
        named.addWidget(MutedLabel("Cache"), 1)
        line.addLayout(named, 0, 0)
        self._adapter_caption = MutedLabel("Adapter")
        line.addWidget(MutedLabel("Weights"), 0, 1)
        line.addWidget(self._adapter_caption, 0, 2)
        for column, widget in enumerate((self.cache, self.weights, self.adapter, self.more)):
            line.addWidget(widget, 1, column)
        for column in (0, 1):
            line.setColumnStretch(column, 1)
            line.setColumnMinimumWidth(column, 1)
        for combo in (self.cache, self.weights):
            combo.setMinimumContentsLength(4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(line)
        layout.addWidget(self._drawer())

    def _drawer(self) -> QScrollArea:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(MEDIUM, SMALL, MEDIUM, MEDIUM)
        inner.setSpacing(MEDIUM)
        inner.addWidget(self.form)
        inner.addWidget(self.scheme)
        inner.addStretch(1)
        self.drawer.setWidget(content)
        self.drawer.setAccessibleName(f"All settings of side {self.side}")
        self.drawer.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.drawer.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.drawer.hide()
        return self.drawer

    def _connect(self) -> None:
        self.cache.activated.connect(self._on_cache)
        self.weights.activated.connect(self._on_weights)
        self.adapter.toggled.connect(self._on_adapter)
        self.form.changed.connect(self._on_form)
        self.scheme.changed.connect(self._on_scheme)
        self.more.toggled.connect(self._show_drawer)
        self._services.theme.changed.connect(self._tint)

    # ---- shown -------------------------------------------------------------------------------------------------------

    def show_settings(self, value: SideSettings) -> None:
        """Show these settings; no signal."""
        self.value = value
        self.cache.setCurrentIndex(self.cache.findData(name_of(value.cache)))
        self.weights.setCurrentIndex(self.weights.findData(LOADED if value.quantization is None else value.quantization.scheme.kind))
        self.adapter.setChecked(value.adapter)
        if self.form.value != value.cache:
            self.form.set_value(value.cache)
        if value.quantization is not None and self.scheme.value != value.quantization:
            self.scheme.set_value(value.quantization)
        self.scheme.setVisible(value.quantization is not None)
        self._fit()

    def show_adapter(self, there: bool) -> None:
        """Whether there is an adapter that could act."""
        self.adapter.setVisible(there)
        self._adapter_caption.setVisible(there)

    # ---- chosen ------------------------------------------------------------------------------------------------------

    def _take(self, **values: Any) -> None:
        new = replace(self.value, **values)
        if new != self.value:
            self.show_settings(new)
            self.changed.emit(new)

    @Slot(int)
    def _on_cache(self, _row: int) -> None:
        name = self.cache.currentData()
        if name == OTHER:
            self.more.setChecked(True)
            self.show_settings(self.value)
            return
        self._take(cache=named(name, self.value.cache))

    @Slot(int)
    def _on_weights(self, _row: int) -> None:
        scheme = self.weights.currentData()
        self._take(quantization=None if scheme == LOADED else QuantizationConfig(scheme=scheme))

    @Slot(bool)
    def _on_adapter(self, on: bool) -> None:
        self._take(adapter=on)

    @Slot(object)
    def _on_form(self, config: CacheConfig) -> None:
        self._take(cache=config)

    @Slot(object)
    def _on_scheme(self, config: QuantizationConfig) -> None:
        self._take(quantization=config)

    @Slot(bool)
    def _show_drawer(self, shown: bool) -> None:
        self.drawer.setVisible(shown)
        self._fit()

    def _fit(self) -> None:
        content = self.drawer.widget()
        content.layout().activate()  # else it tells the height before the last change
        self.drawer.setFixedHeight(min(content.sizeHint().height(), MOST))

    @Slot()
    def _tint(self) -> None:
        c = self._services.theme.colours
        self.letter.setStyleSheet(
            f"#sideLetter {{ background: {c.raised}; color: {c.text}; border: 1px solid {c.border}; border-radius: 4px;"
            f" font-weight: 600; padding: 0 {MEDIUM}px; }}"
        )
