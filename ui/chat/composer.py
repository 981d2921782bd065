"""Where a message is written: Enter sends, Shift+Enter begins a line, Esc stops; what is in the way is said, with a way out."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, Qt, Signal, Slot
from PySide6.QtGui import QInputMethodEvent, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from ui import icons
from ui.chat.bits import WrappingLabel
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.button import Button

MOST_LINES: Final = 8
_ENTER: Final = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class MessageEdit(QPlainTextEdit):
    """Grows with its text up to a few lines."""

    send_wanted = Signal()
    stop_wanted = Signal()
    edit_last_wanted = Signal()

    def __init__(self) -> None:
        super().__init__(tabChangesFocus=True)
        self.setObjectName("chat.composer")
        self.setAccessibleName("Message")
        self.enter_sends = True
        self._composing = False
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(SMALL)
        self.document().documentLayout().documentSizeChanged.connect(self.fit)
        self.fit()

    @Slot()
    def fit(self) -> None:
        lines = min(max(round(self.document().size().height()), 1), MOST_LINES)
        height = lines * self.fontMetrics().lineSpacing() + 2 * SMALL + MEDIUM
        if height != self.height():
            self.setFixedHeight(height)

    def _sends(self, event: QKeyEvent) -> bool:
        if event.key() not in _ENTER or self._composing:
            return False
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        return held == (Qt.KeyboardModifier.NoModifier if self.enter_sends else Qt.KeyboardModifier.ControlModifier)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and not self.enter_sends and self._sends(event):
            event.accept()  # Ctrl+Enter is the window's shortcut for regenerating; here it sends
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._sends(event):
            self.send_wanted.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.stop_wanted.emit()
        elif event.key() == Qt.Key.Key_Up and not self.toPlainText() and not event.modifiers():
            self.edit_last_wanted.emit()
        else:
            super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:
        self._composing = bool(event.preeditString())
        super().inputMethodEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "enter_sends"):
            self.fit()


class Composer(QWidget):
    """The field, Send or Stop, and the line that says what is in the way."""

    send_wanted = Signal(str)
    stop_wanted = Signal()
    edit_last_wanted = Signal()

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.setObjectName("composerArea")
        self._services = services
        self._generating = False
        self._obstacle = ""
        self.edit = MessageEdit()
        self.send_button = Button("Send", "", primary=True)
        self.send_button.setObjectName("chat.send")
        self.reason = WrappingLabel(muted=True)
        self.help_button = Button("Help", "")
        self._help_action = ""
        self._build()
        self.edit.send_wanted.connect(self._send)
        self.edit.stop_wanted.connect(self._stop)
        self.edit.edit_last_wanted.connect(self.edit_last_wanted)
        self.edit.textChanged.connect(self._show)
        self.send_button.clicked.connect(self._send_or_stop)
        self.help_button.clicked.connect(self._help)
        services.settings.changed.connect(self._on_preferences)
        services.theme.changed.connect(self._tint)
        self._on_preferences(services.settings.value)
        self._tint()

    def _build(self) -> None:
        self._frame = QFrame()
        self._frame.setObjectName("composerFrame")
        line = QHBoxLayout(self._frame)
        line.setContentsMargins(MEDIUM, SMALL, SMALL, SMALL)
        line.setSpacing(MEDIUM)
        line.addWidget(self.edit, 1, Qt.AlignmentFlag.AlignVCenter)
        line.addWidget(self.send_button, 0, Qt.AlignmentFlag.AlignBottom)
        self._why = QWidget()
        why = QHBoxLayout(self._why)
        why.setContentsMargins(0, 0, 0, 0)
        why.setSpacing(MEDIUM)
        why.addWidget(self.reason, 1)
        why.addWidget(self.help_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE, MEDIUM, LARGE, MEDIUM + SMALL)
        layout.setSpacing(MEDIUM)
        layout.addWidget(self._why)
        layout.addWidget(self._frame)

    def set_state(self, obstacle: str, generating: bool, stopping: bool, help_text: str = "", help_action: str = "") -> None:
        """What is in the way (empty: nothing) with a command that helps, and whether a reply is being written."""
        had_focus = self.edit.hasFocus()
        self._obstacle, self._generating, self._help_action = obstacle, generating, help_action
        self._why.setVisible(bool(obstacle))
        self.reason.setText(obstacle)
        self.help_button.setVisible(bool(help_action))
        if help_text:
            self.help_button.set_words(help_text, obstacle)
        self.edit.setEnabled(not obstacle)
        if had_focus and not obstacle:
            self.edit.setFocus()
        if generating:
            self.send_button.set_words("Stopping…" if stopping else "Stop", "End the reply here and keep its text (Esc).")
            icons.bind(self.send_button, "stop", self._services.theme, "on_accent")
        else:
            icons.bind(self.send_button, "send", self._services.theme, "on_accent")
        self._stopping = stopping
        self._show()

    def take(self) -> str:
        """The text, and an empty field."""
        text = self.edit.toPlainText()
        self.edit.clear()
        return text

    @Slot()
    def _show(self) -> None:
        if self._generating:
            self.send_button.setEnabled(not self._stopping)
            return
        written = bool(self.edit.toPlainText().strip())
        keys = "Enter" if self.edit.enter_sends else "Ctrl+Enter"
        why = self._obstacle or ("" if written else "Write a message first.")
        self.send_button.set_words("Send", f"Send the message ({keys})." + (f"\nNot now: {why}" if why else ""))
        self.send_button.setEnabled(written and not self._obstacle)

    @Slot()
    def _send(self) -> None:
        if not self._generating and not self._obstacle and self.edit.toPlainText().strip():
            self.send_wanted.emit(self.edit.toPlainText())

    @Slot()
    def _stop(self) -> None:
        if self._generating:
            self.stop_wanted.emit()

    @Slot()
    def _send_or_stop(self) -> None:
        if self._generating:
            self._stop()
        else:
            self._send()

    @Slot()
    def _help(self) -> None:
        if self._help_action:
            self._services.actions[self._help_action].trigger()

    @Slot(object)
    def _on_preferences(self, value: object) -> None:
        self.edit.enter_sends = bool(getattr(value, "enter_sends", True))
        sends, line = ("Enter", "Shift+Enter") if self.edit.enter_sends else ("Ctrl+Enter", "Enter")
        self.edit.setPlaceholderText(f"Write a message – {sends} sends, {line} begins a new line")
        self.edit.setToolTip(f"{sends} sends, {line} begins a new line, Esc stops a reply, ↑ in an empty field edits the last message.")
        self._show()

    @Slot()
    def _tint(self) -> None:
        c = self._services.theme.colours
        self.setStyleSheet(
            f"#composerFrame {{ background: {c.base}; border: 1px solid {c.border}; border-radius: 6px; }}"
            f"#chat\\.composer {{ background: transparent; color: {c.text}; placeholder-text-color: {c.muted}; }}"
            f"#chat\\.composer:disabled {{ color: {c.disabled}; }}"
        )
