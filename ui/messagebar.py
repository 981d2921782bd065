"""The inline message bar: what happened, what to do, and the long story for those who ask. Never in the way of work."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.notify import Message
from ui.theme import LARGE, MEDIUM, SMALL, Theme, monospace

INFO_SECONDS: Final = 8
KEPT: Final = 50


class MessageBar(QFrame):
    """Shows the newest message, errors before warnings; these stay until dismissed, then the one before comes back."""

    log_wanted = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("messageBar")
        self._theme = theme
        self._messages: list[Message] = []
        self._repeats: dict[tuple[str, str], int] = {}
        self._fade = QTimer(self, singleShot=True, interval=INFO_SECONDS * 1000)
        self._fade.timeout.connect(self._fade_info)
        self._icon = QLabel(alignment=Qt.AlignmentFlag.AlignTop)
        self._text = self._label("messageText")
        self._hint = self._label("messageHint")
        self.details_button = QToolButton(text="&Details", checkable=True, autoRaise=True)
        self.details_button.toggled.connect(self._show_details)
        self.copy_button = QToolButton(text="Cop&y", autoRaise=True)
        self.copy_button.setToolTip("Put the message and its details on the clipboard.")
        self.copy_button.clicked.connect(self._copy)
        self.more_button = QToolButton(autoRaise=True)
        self.more_button.setAccessibleName("More messages")
        self.more_button.setToolTip("Show all messages in the Log panel.")
        self.more_button.clicked.connect(self.log_wanted)
        self.dismiss_button = QToolButton(autoRaise=True, iconSize=QSize(14, 14))
        self.dismiss_button.setAccessibleName("Dismiss the message")
        self.dismiss_button.setToolTip("Dismiss")
        self.dismiss_button.clicked.connect(self.dismiss)
        icons.bind(self.dismiss_button, "close", theme)
        self._details = QPlainTextEdit(readOnly=True, maximumHeight=160, tabChangesFocus=True)
        self._details.setAccessibleName("Details of the message")
        self._build()
        theme.changed.connect(self._refresh)
        self.hide()

    def _label(self, name: str) -> QLabel:
        label = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        label.setObjectName(name)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        return label

    def _build(self) -> None:
        words = QVBoxLayout(spacing=2)
        words.addWidget(self._text)
        words.addWidget(self._hint)
        row = QHBoxLayout(spacing=SMALL)
        row.addWidget(self._icon)
        row.addLayout(words, 1)
        for button in (self.more_button, self.details_button, self.copy_button, self.dismiss_button):
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE - SMALL, MEDIUM, MEDIUM, MEDIUM)
        layout.setSpacing(MEDIUM)
        layout.addLayout(row)
        layout.addWidget(self._details)

    @property
    def current(self) -> Message | None:
        """The message on show."""
        return self._messages[-1] if self._messages else None

    @Slot(object)
    def show_message(self, message: Message) -> None:
        """Show `message`; the same one again only counts up."""
        key = (message.level, message.text)
        kept = [m for m in self._messages if (m.level, m.text) != key and m.level != "info"][-KEPT:]
        kept.append(message)
        if message.level == "warning":  # does not cover an error
            kept.sort(key=lambda m: m.level == "error")
        self._messages = kept
        self._repeats[key] = self._repeats.get(key, 0) + 1
        self._refresh()

    @Slot()
    def dismiss(self) -> None:
        """Put the message on show away."""
        if self._messages:
            gone = self._messages.pop()
            self._repeats.pop((gone.level, gone.text), None)
        self._refresh()

    @Slot()
    def _fade_info(self) -> None:
        if self.current is not None and self.current.level == "info":
            self.dismiss()

    @Slot()
    def _refresh(self) -> None:
        message = self.current
        self._fade.stop()
        if message is None:
            self.hide()
            return
        c = self._theme.colours
        level = message.level if message.level in ("warning", "error") else "info"
        surface = {"info": c.info_surface, "warning": c.warning_surface, "error": c.error_surface}[level]
        line = {"info": c.accent_text, "warning": c.warning, "error": c.error}[level]
        self.setStyleSheet(
            f"#messageBar {{ background: {surface}; border: none;"
            f" border-left: {SMALL}px solid {line}; border-bottom: 1px solid {c.border}; }}"
            f"#messageText {{ color: {c.text}; }} #messageHint {{ color: {c.muted}; }}"
        )
        role = {"info": "accent_text", "warning": "warning", "error": "error"}[level]
        self._icon.setPixmap(icons.icon(level, c, role).pixmap(18, 18))
        self._icon.setAccessibleName(level.capitalize())
        times = self._repeats.get((message.level, message.text), 1)
        self._text.setText(message.text + (f"  ×{times}" if times > 1 else ""))
        self._hint.setText(message.hint)
        self._hint.setVisible(bool(message.hint))
        self.setAccessibleName(f"{level.capitalize()}: {message.text} {message.hint}".strip())
        self.more_button.setText(f"+{len(self._messages) - 1} more")
        self.more_button.setVisible(len(self._messages) > 1)
        self.details_button.setVisible(bool(message.details))
        self.copy_button.setVisible(level != "info")
        self._details.setFont(monospace(self.font()))
        if self._details.toPlainText() != message.details:
            self._details.setPlainText(message.details)
            self.details_button.setChecked(False)
        self._details.setVisible(self.details_button.isChecked() and bool(message.details))
        if level == "info":
            self._fade.start()
        self.show()

    @Slot(bool)
    def _show_details(self, shown: bool) -> None:
        self._details.setVisible(shown)

    @Slot()
    def _copy(self) -> None:
        if self.current is not None:
            QGuiApplication.clipboard().setText(self.current.as_text())
