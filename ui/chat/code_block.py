"""A code block: its language, Copy, and colours once it is complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from PySide6.QtCore import QEvent, QRect, Qt, QTimer, Slot
from PySide6.QtGui import QColor, QFont, QGuiApplication, QTextCharFormat, QTextCursor, QTextOption, QWheelEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QTextEdit, QVBoxLayout

from ui.chat.bits import icon_button
from ui.chat.blocks import Block
from ui.chat.marking import MARK, Needle, span, style
from ui.theme import MEDIUM, SMALL, Colours, Theme, monospace

COPIED_MS: Final = 1_500
LONGEST_COLOURED: Final = 60_000
"""Characters; longer code stays plain."""
SLICE_S: Final = 0.006
"""Colours are put on for so long at a time; 400 lines take about thirty slices, and the window goes on between them."""
_ROLES: Final = (
    ("Comment", "muted"), ("Literal.String", "good"), ("Literal.Number", "warning"), ("Keyword", "accent_text"),
    ("Operator.Word", "accent_text"), ("Name.Decorator", "warning"), ("Name.Builtin", "accent_text"), ("Generic.Deleted", "error"),
    ("Generic.Inserted", "good"), ("Generic.Heading", "accent_text"),
)  # fmt: skip


def _coloured(code: str, language: str) -> Iterator[tuple[str, str]]:
    """Pieces of the code with the role of their colour in `Colours`, "text" where it has none."""
    import pygments.lexers
    from pygments.token import string_to_tokentype
    from pygments.util import ClassNotFound

    try:
        lexer: Any = pygments.lexers.get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        yield code, "text"
        return
    kinds = [(string_to_tokentype(name), role) for name, role in _ROLES]
    roles: dict[Any, str] = {}
    for token, piece in lexer.get_tokens(code):
        if token not in roles:
            roles[token] = next((role for kind, role in kinds if token in kind), "text")
        yield piece, roles[token]


class _Code(QPlainTextEdit):
    """Read-only code that is as high as it has lines; only sideways it may scroll."""

    def __init__(self) -> None:
        super().__init__(readOnly=True, tabChangesFocus=True, lineWrapMode=QPlainTextEdit.LineWrapMode.NoWrap)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWordWrapMode(QTextOption.WrapMode.NoWrap)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.viewport().setAutoFillBackground(False)
        self.setUndoRedoEnabled(False)
        self.document().setDocumentMargin(0)
        # Queued: the bar comes while a layout is at work, which would not notice that the code became higher.
        self.horizontalScrollBar().rangeChanged.connect(self.fit, Qt.ConnectionType.QueuedConnection)

    @Slot()
    def fit(self) -> None:
        bar = self.horizontalScrollBar()
        room = bar.sizeHint().height() if bar.maximum() > 0 else 0
        height = self.blockCount() * self.fontMetrics().lineSpacing() + SMALL + room
        if height != self.height():
            self.setFixedHeight(height)

    def wheelEvent(self, event: QWheelEvent) -> None:
        sideways = abs(event.angleDelta().x()) > abs(event.angleDelta().y())
        if sideways and self.horizontalScrollBar().maximum() > 0:
            super().wheelEvent(event)
        else:
            event.ignore()


class CodeBlock(QFrame):
    """Shows one `Block` of kind "code"; plain while it grows."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("codeBlock")
        self._theme = theme
        self._block = Block("code", "")
        self._mark: Needle | None = None
        self.language = QLabel("text", textFormat=Qt.TextFormat.PlainText)
        self.language.setObjectName("language")
        self.copy_button = icon_button("copy", "Copy code", theme)
        self.copy_button.setText("Copy")
        self.copy_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.copy_button.clicked.connect(self._copy)
        self._again = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._again.timeout.connect(self._offer_copy)
        self._pieces: Iterator[tuple[str, str]] = iter(())
        self._coloured_to = 0
        self._go_on = QTimer(self, singleShot=True, interval=0)
        self._go_on.timeout.connect(self._colour_some)
        self.code = _Code()
        self.code.setAccessibleName("Code")
        head = QHBoxLayout(spacing=MEDIUM)
        head.setContentsMargins(MEDIUM + SMALL, 2, SMALL, 2)
        head.addWidget(self.language, 1)
        head.addWidget(self.copy_button)
        body = QVBoxLayout()
        body.setContentsMargins(MEDIUM + SMALL, SMALL, MEDIUM, SMALL)
        body.addWidget(self.code)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addLayout(body)
        self.code.setFont(monospace(self.font()))
        self._tint()

    @property
    def text(self) -> str:
        return self._block.text

    def show_block(self, block: Block) -> None:
        """Show the code; what is already there stays, so that a selection does."""
        before, self._block = self._block, block
        if before == block:
            return
        self._mark = None
        self._underline()
        self.language.setText(block.language or "text")
        self.code.setAccessibleName(f"Code in {block.language}" if block.language else "Code")
        old = self.code.toPlainText()
        if block.text.startswith(old):
            cursor = QTextCursor(self.code.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(block.text[len(old) :])
        else:
            self.code.setPlainText(block.text)
        self._go_on.stop()
        if block.closed:
            self._colour()
        self.code.fit()

    def mark(self, wanted: Needle) -> None:
        """Underline a piece of the code, which itself stays as it is; an empty needle marks its end."""
        self._mark = wanted
        self.language.setText(f"{self._block.language or 'text'}  {MARK}")
        self._underline()

    def mark_place(self) -> QRect:
        """Where the mark is, in this widget; empty without one."""
        if self._mark is None:
            return QRect()
        cursor = span(self.code.document(), self._mark)
        if cursor is None:
            return self.language.geometry()
        place = self.code.cursorRect(cursor)
        return QRect(self.code.viewport().mapTo(self, place.topLeft()), place.size())

    def _underline(self) -> None:
        found = QTextEdit.ExtraSelection()
        cursor = None if self._mark is None else span(self.code.document(), self._mark)
        if cursor is not None:
            found.cursor, found.format = cursor, style(self._theme.colours)  # type: ignore[attr-defined]
        self.code.setExtraSelections([] if cursor is None else [found])

    def retint(self) -> None:
        """The colours of another theme."""
        self._tint()
        self._underline()
        if self._block.closed:
            self._colour()

    def _colour(self) -> None:
        if not self._block.language or len(self._block.text) > LONGEST_COLOURED:
            return
        self._pieces, self._coloured_to = _coloured(self._block.text, self._block.language), 0
        self._colour_some()

    @Slot()
    def _colour_some(self) -> None:
        """The next slice; comes back by itself until all of the code has its colours."""
        until = time.perf_counter() + SLICE_S
        c, last = self._theme.colours, self.code.document().characterCount() - 1
        cursor, form = QTextCursor(self.code.document()), QTextCharFormat()
        cursor.beginEditBlock()
        for piece, role in self._pieces:
            cursor.setPosition(min(self._coloured_to, last))
            self._coloured_to += len(piece.encode("utf-16-le")) // 2  # Qt counts UTF-16 units
            cursor.setPosition(min(self._coloured_to, last), QTextCursor.MoveMode.KeepAnchor)
            form.setForeground(QColor(getattr(c, role)))
            cursor.setCharFormat(form)
            if time.perf_counter() > until:
                self._go_on.start()
                break
        cursor.endEditBlock()

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._block.text)
        self.copy_button.setText("Copied")
        self._again.start()

    @Slot()
    def _offer_copy(self) -> None:
        self.copy_button.setText("Copy")

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "code"):
            font = monospace(self.font())
            if QFont(self.code.font()) != font:
                self.code.setFont(font)
                self.code.fit()

    def _tint(self) -> None:
        c: Colours = self._theme.colours
        self.setStyleSheet(
            f"#codeBlock {{ background: {c.code_background}; border: 1px solid {c.border}; border-radius: 4px; }}"
            f"#codeBlock QPlainTextEdit {{ background: {c.code_background}; color: {c.text}; }}"
            f"#codeBlock #language, #codeBlock QToolButton {{ color: {c.muted}; }}"
        )
