"""An inline message: what happened, what to do, and the long story on demand."""

from __future__ import annotations

from typing import Final, Literal

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont, QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout

from ui import icons
from ui.theme import MEDIUM, SMALL, Theme, monospace
from ui.widgets.button import Button
from ui.widgets.text import breakable, line_of, wrapping

Level = Literal["good", "info", "warning", "error"]
_ICONS: Final[dict[Level, tuple[str, str]]] = {
    "good": ("check", "good"), "info": ("info", "accent_text"), "warning": ("warning", "warning"), "error": ("error", "error"),
}  # fmt: skip
DETAILS_LINES: Final = 8


class Message(QFrame):
    """What happened, what to do, and the long story on demand, in the panel itself. `line` takes a further button at its right,
    `buttons` one below."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("inlineMessage")
        self._theme = theme
        self._level: Level = "info"
        self._all = ""
        self._icon = QLabel()
        self.title = wrapping(name="title")
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.text = wrapping(name="text")
        self.hint = wrapping(name="hint")
        self.details_button = Button("Details", "Show or hide the long story.")
        self.details_button.setCheckable(True)
        self.details_button.toggled.connect(self._show_details)
        self.copy_button = Button("Copy", "Put all of it on the clipboard.")
        self.copy_button.clicked.connect(self._copy)
        self.details = QPlainTextEdit(readOnly=True, tabChangesFocus=True, lineWrapMode=QPlainTextEdit.LineWrapMode.NoWrap)
        self.details.setAccessibleName("Details")
        self._build()
        theme.changed.connect(self._tint)
        self.say("info", "")

    def _build(self) -> None:
        words = QVBoxLayout(spacing=2)
        for label in (self.title, self.text, self.hint):
            words.addWidget(label)
        line = self.line = QHBoxLayout(spacing=MEDIUM)
        line.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        line.addLayout(words, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MEDIUM + 2, MEDIUM, MEDIUM, MEDIUM)
        layout.setSpacing(SMALL + 2)
        layout.addLayout(line)
        self.buttons = line_of(1, self.copy_button, self.details_button)
        layout.addLayout(self.buttons)
        layout.addWidget(self.details)

    def say(self, level: Level, title: str, text: str = "", hint: str = "", details: str = "") -> None:
        """Replace the message. Details and Copy are offered when there is a long story."""
        self._level = level
        self._all = "\n".join(filter(None, (title, text, hint, details)))
        for label, words in ((self.title, title), (self.text, text), (self.hint, hint)):
            label.setText(breakable(words))
            label.setVisible(bool(words))
        self.details.setPlainText(details)
        self.details_button.setChecked(False)
        self.details.hide()
        self.details_button.setVisible(bool(details))
        self.copy_button.setVisible(bool(details))
        self.setAccessibleName(" ".join(filter(None, (title, text, hint))))
        self._tint()

    @Slot(bool)
    def _show_details(self, shown: bool) -> None:
        self.details.setFont(monospace(self.font()))
        self.details.setFixedHeight(self.details.fontMetrics().lineSpacing() * DETAILS_LINES)
        self.details.setVisible(shown)

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._all)

    @Slot()
    def _tint(self) -> None:
        c = self._theme.colours
        name, role = _ICONS[self._level]
        surface = {"good": c.info_surface, "info": c.info_surface, "warning": c.warning_surface, "error": c.error_surface}[self._level]
        self._icon.setPixmap(icons.icon(name, c, role).pixmap(16, 16))
        self._icon.setAccessibleName(self._level.capitalize())
        self.setStyleSheet(
            f"#inlineMessage {{ background: {surface}; border: 1px solid {c.border}; border-left: 3px solid {getattr(c, role)};"
            f" border-radius: 3px; }} #inlineMessage QLabel {{ color: {c.text}; }} #inlineMessage #hint {{ color: {c.muted}; }}"
        )
