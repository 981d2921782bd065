"""The line above the transcript: how full the context is, which adapter acts, the cache, settings, chats."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QSizePolicy, QToolButton, QWidget

from ui import icons
from ui.chat.bits import ICON, icon_button
from ui.services import Services
from ui.theme import MEDIUM, SMALL, tabular
from ui.widgets.labels import ElidingLabel
from ui.widgets.toggle import ToggleSwitch
from ui.widgets.tones import colours_of

AMBER: Final = 0.65
RED: Final = 0.85
_BAR: Final = QSize(56, 6)


class _Bar(QWidget):
    """A thin bar; what it means stands beside it in words."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(_BAR)
        self._share, self._role = 0.0, "accent"

    def show_share(self, share: float, role: str) -> None:
        self._share, self._role = min(max(share, 0.0), 1.0), role
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        c = colours_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(c.border))
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        if self._share > 0:
            painter.setBrush(QColor(getattr(c, self._role)))
            painter.drawRoundedRect(QRectF(0, 0, max(self.width() * self._share, 6), self.height()), 3, 3)


class ContextMeter(QWidget):
    """Tokens of the conversation against what the context holds; measured at the last reply."""

    def __init__(self) -> None:
        super().__init__()
        self.level = ""
        self.bar = _Bar()
        self.label = ElidingLabel()
        self.label.setFont(tabular(self.label.font()))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(MEDIUM)
        row.addWidget(self.bar)
        row.addWidget(self.label, 1)
        self.setToolTip("Tokens of this conversation, measured at its last reply, and how many the context holds.")

    def show_use(self, used: int | None, total: int | None, goes_on: bool = False) -> None:
        """`used` None: nothing measured yet; `total` None: no model; `goes_on`: older text makes room, so that full is no alarm."""
        share = (used or 0) / total if total else 0.0
        self.level = "" if goes_on else "red" if share > RED else "amber" if share > AMBER else ""
        self.bar.setVisible(bool(total))
        if not total:
            text = ""
        elif used is None:
            text = f"Context {total:,} tokens"
        else:
            word = {"red": " – almost full", "amber": " – filling up"}.get(self.level, "")
            word = " – older text makes room" if goes_on and share > RED else word
            text = f"{used:,} of {total:,} tokens ({100 * share:.0f} %){word}"
        self.bar.show_share(share, {"red": "error", "amber": "warning"}.get(self.level, "accent"))
        self.label.set_full_text(text)
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self)
        colour = {"red": c.error, "amber": c.warning}.get(self.level, c.muted)
        sheet = f"color: {colour};"
        if sheet != self.label.styleSheet():
            self.label.setStyleSheet(sheet)


class ChatHeader(QWidget):
    """Meter, adapter chip, KV cache switch, settings, chats, New."""

    settings_toggled = Signal(bool)
    new_wanted = Signal()
    compare_toggled = Signal(bool)
    """Two settings side by side, or one again."""
    chats_wanted = Signal()
    """The menu of saved chats is about to open: fill `chats_menu`."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.meter = ContextMeter()
        self.adapter = QLabel(textFormat=Qt.TextFormat.PlainText)
        self.adapter.setObjectName("chip")
        self.adapter.hide()
        self.cache = ToggleSwitch("KV cache")
        self.cache.setToolTip(
            "Keeps the keys and values of earlier tokens (use_cache). Off, everything is computed again for each new token. "
            "Acts on the next message."
        )
        self.cache.setEnabled(False)
        self.compare_button = QToolButton(text="A/B", checkable=True, autoRaise=True)
        self.compare_button.setToolTip("Compare A/B: two settings answer each message side by side, a token of each in turn.")
        self.compare_button.setAccessibleName("Compare A/B")
        self.settings_button = QToolButton(text="Settings", checkable=True, autoRaise=True, iconSize=ICON)
        self.settings_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.settings_button.setToolTip("System prompt and sampling of the next message")
        self.settings_button.setAccessibleName("Chat settings")
        icons.bind(self.settings_button, "settings", services.theme, "muted")
        self.chats_button = icon_button("log", "Saved chats", services.theme, "Open a saved chat")
        self.chats_menu = QMenu(self)
        self.chats_button.setMenu(self.chats_menu)
        self.chats_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.chats_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.new_button = icon_button("add", "New chat", services.theme, "Start an empty conversation (Ctrl+N)")
        row = QHBoxLayout(self)
        row.setContentsMargins(MEDIUM + SMALL, SMALL, MEDIUM, SMALL)
        row.setSpacing(MEDIUM)
        self.meter.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row.addWidget(self.meter, 1)
        for widget in (self.adapter, self.cache, self.compare_button, self.settings_button, self.chats_button, self.new_button):
            row.addWidget(widget)
        self.settings_button.toggled.connect(self.settings_toggled)
        self.compare_button.toggled.connect(self.compare_toggled)
        self.new_button.clicked.connect(self.new_wanted)
        self.chats_menu.aboutToShow.connect(self.chats_wanted)
        self.cache.toggled.connect(self._on_cache)
        services.runtime.changed.connect(self._show_cache)
        services.theme.changed.connect(self._tint)
        self._tint()

    def engine_is_there(self) -> None:
        """The cache's settings can be asked for."""
        self.cache.setEnabled(True)
        self._show_cache(self._services.runtime.cache)

    def show_adapters(self, adapters: tuple[Any, ...]) -> None:
        """The adapters in force, with their strength."""
        text = ", ".join(f"{a.name} ×{a.strength:g}" for a in adapters)
        self.adapter.setText(text if len(text) <= 32 else text[:31] + "…")
        self.adapter.setToolTip(f"Adapter in use: {text}. Its strength acts on the next message.")
        self.adapter.setAccessibleName(f"Adapter in use: {text}")
        self.adapter.setVisible(bool(adapters))

    def show_comparing(self, comparing: bool) -> None:
        """Each side of a comparison has a cache of its own."""
        self.cache.setVisible(not comparing)

    @Slot(bool)
    def _on_cache(self, on: bool) -> None:
        self._services.runtime.set_use_cache(on)

    @Slot(object)
    def _show_cache(self, config: Any) -> None:
        if self.cache.isChecked() != config.use_cache:
            self.cache.setChecked(config.use_cache)

    @Slot()
    def _tint(self) -> None:
        c = self._services.theme.colours
        self.adapter.setStyleSheet(
            f"#chip {{ background: {c.info_surface}; color: {c.text}; border: 1px solid {c.border}; border-radius: 8px;"
            " padding: 1px 8px; }"
        )
        self.settings_button.setStyleSheet(f"QToolButton {{ color: {c.text}; }}")
        self.compare_button.setStyleSheet(f"QToolButton {{ color: {c.text}; }}")
