"""One message: who wrote it, its blocks, its figures, and what can be done with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtCore import QEvent, QRect, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QFont, QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from ui.chat.bits import WrappingLabel, icon_button
from ui.chat.blocks import Block, BlockSplitter
from ui.chat.code_block import CodeBlock
from ui.chat.marking import Needle, needle, occurrences
from ui.chat.text_block import TextBlock
from ui.theme import MEDIUM, SMALL, Theme, tabular
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel


class _Edit(QPlainTextEdit):
    """Enter takes the text, Shift+Enter begins a line, Esc leaves it."""

    taken = Signal()
    left = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.taken.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            event.accept()  # Esc here leaves the edit, it does not stop a reply
            return True
        return super().event(event)


class MessageWidget(QFrame):
    """A message of `role`; a reply may grow by `append` until `finish`."""

    edited = Signal(object, str)
    version_wanted = Signal(object, int)
    regenerate_wanted = Signal()
    link_wanted = Signal(QUrl)

    def __init__(self, role: str, theme: Theme, who: str) -> None:
        super().__init__()
        self.setObjectName("message")
        self.role = role
        self.turn: Any = None
        self.index = -1
        self._theme = theme
        self._text = ""
        self._splitter = BlockSplitter()
        self._widgets: list[TextBlock | CodeBlock] = []
        self._versions = (0, 1)
        self._usable = True
        self.who = ElidingLabel(who)
        self.who.setObjectName("who")
        self.status = WrappingLabel(muted=True)
        self.badge = WrappingLabel(muted=True)
        self.badge.setAccessibleName("Figures of this reply")
        self._blocks = QVBoxLayout(spacing=MEDIUM)
        self._edit: _Edit | None = None
        self._build()
        self.tint()

    def _build(self) -> None:
        self.copy_button = icon_button("copy", "Copy message", self._theme, "Copy the message as Markdown")
        self.copy_button.clicked.connect(self._copy)
        self.edit_button = icon_button("edit", "Edit message", self._theme, "Edit and send again; the old version is kept")
        self.edit_button.clicked.connect(self.begin_edit)
        self.again_button = icon_button("refresh", "Regenerate reply", self._theme, "Answer once more; this reply is kept")
        self.again_button.clicked.connect(self.regenerate_wanted)
        self.back_button = icon_button("chevron-left", "Previous version", self._theme)
        self.forth_button = icon_button("chevron-right", "Next version", self._theme)
        self.back_button.clicked.connect(self._back)
        self.forth_button.clicked.connect(self._forth)
        self.version = QLabel()
        self.version.setFont(tabular(self.version.font()))
        self.tools = QWidget()
        row = QHBoxLayout(self.tools)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for widget in (self.back_button, self.version, self.forth_button, self.copy_button, self.edit_button, self.again_button):
            row.addWidget(widget)
        head = QHBoxLayout(spacing=MEDIUM)
        head.addWidget(self.who, 1)
        head.addWidget(self.tools)
        layout = QVBoxLayout(self)
        side = MEDIUM + SMALL
        layout.setContentsMargins(side, SMALL, SMALL, MEDIUM if self.role == "assistant" else SMALL)
        layout.setSpacing(SMALL)
        layout.addLayout(head)
        inner = QVBoxLayout(spacing=SMALL)
        inner.setContentsMargins(0, 0, MEDIUM, 0)
        inner.addLayout(self._blocks)
        inner.addWidget(self.status)
        inner.addWidget(self.badge)
        layout.addLayout(inner)
        self.status.hide()
        self.badge.hide()
        self._show_tools()

    # ---- what it says ------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return self._text

    @property
    def widgets(self) -> tuple[TextBlock | CodeBlock, ...]:
        """The shown blocks, first one first."""
        return tuple(self._widgets)

    def set_text(self, text: str) -> None:
        """Show another text."""
        if not text.startswith(self._text):
            self._splitter = BlockSplitter()
        self._text = text
        if self.role == "user":
            self._show_blocks([Block("text", text)], 0)
        else:
            self._show_blocks(self._splitter.blocks, self._splitter.update(text))

    def append(self, text: str) -> None:
        """The reply grew; only its last block is drawn anew."""
        self.set_text(self._text + text)

    def finish(self, turn: Any, index: int, versions: tuple[int, int], badge: str) -> None:
        """The message as it is in the conversation: its turn there, which version of how many, its figures."""
        self.turn, self.index, self._versions = turn, index, versions
        self.set_text(turn.content)
        empty = turn.role == "assistant" and not turn.content.strip()
        self.set_status("Nothing was written." if empty else "")
        self.badge.setText(badge)
        self.badge.setVisible(bool(badge))
        self._show_tools()

    def mark(self, offset: int, length: int) -> None:
        """Mark a piece of the text, wherever it is drawn; its end when there is no such piece."""
        wanted = needle(self._text, offset, length)
        before = wanted.nth
        for widget in self._widgets:
            there = occurrences(widget.text if isinstance(widget, CodeBlock) else widget.toPlainText(), wanted)
            if there > before:
                widget.mark(replace(wanted, nth=before))
                return
            before -= there
        if self._widgets:
            self._widgets[-1].mark(Needle(""))

    def mark_place(self) -> QRect:
        """Where the mark is, in this widget; empty without one."""
        for widget in self._widgets:
            place = widget.mark_place()
            if not place.isNull():
                return QRect(widget.mapTo(self, place.topLeft()), place.size())
        return QRect()

    def set_status(self, text: str) -> None:
        """What is going on, under the text; empty hides it."""
        self.status.setText(text)
        self.status.setVisible(bool(text))

    def set_last(self, last: bool) -> None:
        """Only the newest reply can be written again."""
        self.again_button.setVisible(last and self.role == "assistant")

    def set_usable(self, usable: bool) -> None:
        """Whether editing, versions and regenerating are possible now."""
        self._usable = usable
        self._show_tools()

    def _show_blocks(self, blocks: list[Block], first: int) -> None:
        for at, block in enumerate(blocks[first:], first):
            fits = at < len(self._widgets) and isinstance(self._widgets[at], CodeBlock) == (block.kind == "code")
            if not fits:
                self._cut(at)
                self._add(block)
            widget = self._widgets[at]
            if isinstance(widget, CodeBlock):
                widget.show_block(block)
            else:
                widget.show_text(block.text if self.role == "user" else block.text.strip("\n"))
        self._cut(len(blocks))

    def _add(self, block: Block) -> None:
        widget: TextBlock | CodeBlock
        if block.kind == "code":
            widget = CodeBlock(self._theme)
        else:
            widget = TextBlock("Your message" if self.role == "user" else "Text of the reply", self._theme, plain=self.role == "user")
            widget.link_wanted.connect(self.link_wanted)
        self._widgets.append(widget)
        self._blocks.addWidget(widget)

    def _cut(self, at: int) -> None:
        for widget in self._widgets[at:]:
            self._blocks.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        del self._widgets[at:]

    # ---- what can be done with it ------------------------------------------------------------------------------------

    def _show_tools(self) -> None:
        done = self.turn is not None
        shown, count = self._versions
        several = done and count > 1
        for widget in (self.back_button, self.version, self.forth_button):
            widget.setVisible(several)
        self.version.setText(f"{shown + 1}/{count}")
        self.version.setAccessibleName(f"Version {shown + 1} of {count}")
        self.back_button.setEnabled(self._usable and shown > 0)
        self.forth_button.setEnabled(self._usable and shown + 1 < count)
        self.edit_button.setVisible(self.role == "user")
        self.edit_button.setEnabled(self._usable)
        self.again_button.setEnabled(self._usable)
        if self.role == "user":
            self.again_button.hide()
        self.tools.setEnabled(done)
        self.copy_button.setVisible(done)

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._text)

    @Slot()
    def _back(self) -> None:
        self.version_wanted.emit(self, self._versions[0] - 1)

    @Slot()
    def _forth(self) -> None:
        self.version_wanted.emit(self, self._versions[0] + 1)

    @Slot()
    def begin_edit(self) -> None:
        """Turn the message into a field."""
        if self.role != "user" or self._edit is not None or not self._usable:
            return
        self._edit = _Edit(self._text, tabChangesFocus=True)
        self._edit.setAccessibleName("Edit your message")
        self._edit.taken.connect(self._take_edit)
        self._edit.left.connect(self.end_edit)
        lines = min(max(self._edit.blockCount(), 2), 10)
        self._edit.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 3 * MEDIUM)
        send = Button("Send", "Send the changed message; what followed stays beside it.", primary=True)
        cancel = Button("Cancel", "Leave the message as it was.")
        send.clicked.connect(self._take_edit)
        cancel.clicked.connect(self.end_edit)
        self._edit_row = QWidget()
        row = QHBoxLayout(self._edit_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(MEDIUM)
        row.addStretch(1)
        row.addWidget(cancel)
        row.addWidget(send)
        for widget in self._widgets:
            widget.hide()
        self._blocks.addWidget(self._edit)
        self._blocks.addWidget(self._edit_row)
        self._edit.setFocus(Qt.FocusReason.OtherFocusReason)
        self._edit.selectAll()

    @property
    def editor(self) -> QPlainTextEdit | None:
        """The field while the message is edited."""
        return self._edit

    @Slot()
    def _take_edit(self) -> None:
        if self._edit is not None and self._edit.toPlainText().strip():
            text = self._edit.toPlainText()
            self.end_edit()
            self.edited.emit(self, text)

    @Slot()
    def end_edit(self) -> None:
        """Back to the message."""
        if self._edit is None:
            return
        for widget in (self._edit, self._edit_row):
            self._blocks.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self._edit = None
        for block in self._widgets:
            block.show()

    # ---- looks -------------------------------------------------------------------------------------------------------

    def retint(self) -> None:
        """The colours of another theme."""
        self.tint()
        for widget in self._widgets:
            widget.retint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "who"):
            self._bold()

    def _bold(self) -> None:
        font = QFont(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        if self.who.font() != font:
            self.who.setFont(font)

    def tint(self) -> None:
        c = self._theme.colours
        self._bold()
        ground = c.user_bubble if self.role == "user" else "transparent"
        self.setStyleSheet(
            f"#message {{ background: {ground}; border: none; border-radius: 6px; }}"
            f"#message > #who {{ color: {c.muted}; }}"
            f"#message QTextBrowser {{ background: transparent; color: {c.text}; }}"
        )
