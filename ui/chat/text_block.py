"""A run of text in a message: as high as it needs, selectable while it grows, drawn anew without losing the selection."""

from __future__ import annotations

import math
from typing import Any, Final

from PySide6.QtCore import QPoint, QRect, QSize, QSizeF, Qt, QUrl, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QMouseEvent,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFrameFormat,
    QTextLength,
    QTextOption,
    QTextTable,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextBrowser

from ui.chat.blocks import readable
from ui.chat.marking import MARK, Needle, put
from ui.theme import GRID, Theme

_FEATURES: Final = QTextDocument.MarkdownFeature.MarkdownDialectGitHub | QTextDocument.MarkdownFeature.MarkdownNoHTML
_LINE_HEIGHT: Final = 130.0
"""Percent: long answers are read, not scanned."""


class TextBlock(QTextBrowser):
    """Markdown, or the plain words of a person. Fetches nothing; a link is only reported."""

    link_wanted = Signal(QUrl)
    """QUrl."""

    def __init__(self, name: str, theme: Theme, *, plain: bool = False) -> None:
        super().__init__()
        self._theme = theme
        self._plain = plain
        self._source = ""
        self._waiting = False
        self._pressed = False
        self._mark: Needle | None = None
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setOpenLinks(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setTabChangesFocus(True)
        self.viewport().setAutoFillBackground(False)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(self._on_size)
        self.anchorClicked.connect(self.link_wanted)
        self.setFixedHeight(self.fontMetrics().height())

    @property
    def source(self) -> str:
        """The text as it was given."""
        return self._source

    def show_text(self, text: str) -> None:
        """Show `text`; a selection in what stays the same stays. While the mouse selects, drawing waits."""
        if text == self._source:
            return
        self._source = text
        self._mark = None
        if self._pressed:
            self._waiting = True
        else:
            self._render()

    def mark(self, wanted: Needle) -> None:
        """Mark a piece of the text until it is another one; an empty needle marks the end."""
        if wanted != self._mark:
            self._mark = wanted
            self._render()

    def mark_place(self) -> QRect:
        """Where the mark is, in this widget; empty without one."""
        found = self.document().find(MARK) if self._mark is not None else QTextCursor()
        return QRect() if found.isNull() else self.cursorRect(found)

    def retint(self) -> None:
        """Draw again in the colours of another theme; only marks, links, tables and rules have any of their own."""
        if self._mark is not None or any(mark in self._source for mark in ("](", "://", "|", "`", "---", ">")):
            self._render()

    def _render(self) -> None:
        self._waiting = False
        cursor = self.textCursor()
        kept = (cursor.anchor(), cursor.position(), cursor.selectedText())
        document = self.document()
        if self._plain:
            document.setPlainText(self._source)
        else:
            document.setMarkdown(readable(self._source), _FEATURES)
            self._style(document)
        if self._mark is not None:
            put(document, self._mark, self._theme.colours)
        self._space(document)
        if kept[2]:
            self._select_again(*kept)

    def _select_again(self, anchor: int, position: int, selected: str) -> None:
        cursor = QTextCursor(self.document())
        last = max(self.document().characterCount() - 1, 0)
        cursor.setPosition(min(anchor, last))
        cursor.setPosition(min(position, last), QTextCursor.MoveMode.KeepAnchor)
        if cursor.selectedText() != selected:  # markup before it was completed and moved it
            found = self.document().find(selected, max(min(anchor, position) - 4 * GRID, 0))
            cursor = found if not found.isNull() else cursor
        if cursor.selectedText() == selected:
            self.setTextCursor(cursor)

    @staticmethod
    def _space(document: QTextDocument) -> None:
        cursor = QTextCursor(document)
        cursor.select(QTextCursor.SelectionType.Document)
        spacing = QTextBlockFormat()
        spacing.setLineHeight(_LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor.mergeBlockFormat(spacing)

    def _style(self, document: QTextDocument) -> None:
        """Headings that do not shout, tables with lines, code that stands out."""
        c = self._theme.colours  # the palette of a widget under a style sheet follows later
        block = document.begin()
        first = True
        while block.isValid():
            level = block.blockFormat().headingLevel()
            if block.blockFormat().intProperty(QTextBlockFormat.Property.BlockQuoteLevel):
                self._style_quote(QTextCursor(block), c.muted)
            if level or first:
                cursor = QTextCursor(block)
                margins = QTextBlockFormat()
                margins.setTopMargin(0 if first else 3 * GRID)
                if level:
                    margins.setBottomMargin(GRID)
                    cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
                    smaller = QTextCharFormat()
                    smaller.setProperty(QTextCharFormat.Property.FontSizeAdjustment, max(3 - level, 0))
                    cursor.mergeCharFormat(smaller)
                cursor.mergeBlockFormat(margins)
            first = False
            block = block.next()
        if "`" in self._source:
            self._style_code(document, c.code_background)
        if "|" in self._source:
            for frame in document.rootFrame().childFrames():
                if isinstance(frame, QTextTable):
                    self._style_table(frame, c.border, c.raised)

    @staticmethod
    def _style_quote(cursor: QTextCursor, colour: str) -> None:
        cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
        quiet = QTextCharFormat()
        quiet.setForeground(QBrush(QColor(colour)))
        quiet.setFontItalic(True)
        cursor.mergeCharFormat(quiet)

    @staticmethod
    def _style_code(document: QTextDocument, ground: str) -> None:
        block = document.begin()
        shade = QTextCharFormat()
        shade.setBackground(QBrush(QColor(ground)))
        spans: list[tuple[int, int]] = []
        while block.isValid():
            for part in block:  # type: ignore[attr-defined]
                fragment = part.fragment()
                if fragment.isValid() and fragment.charFormat().fontFixedPitch():
                    spans.append((fragment.position(), fragment.length()))
            block = block.next()
        for position, length in spans:
            cursor = QTextCursor(document)
            cursor.setPosition(position)
            cursor.setPosition(position + length, QTextCursor.MoveMode.KeepAnchor)
            cursor.mergeCharFormat(shade)

    @staticmethod
    def _style_table(table: QTextTable, line: str, head: str) -> None:
        form = table.format()
        form.setBorder(1)
        form.setBorderCollapse(True)
        form.setBorderBrush(QBrush(QColor(line)))
        form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
        form.setCellPadding(GRID + 1)
        form.setCellSpacing(0)
        form.setTopMargin(GRID)
        form.setBottomMargin(2 * GRID)
        form.setWidth(QTextLength())
        table.setFormat(form)
        for column in range(table.columns()):
            cell = table.cellAt(0, column)
            shade = cell.format()
            shade.setBackground(QBrush(QColor(head)))
            cell.setFormat(shade)

    # ---- as high as the text -----------------------------------------------------------------------------------------

    def _on_size(self, size: QSizeF) -> None:
        height = math.ceil(size.height()) + 1
        if height != self.height():
            self.setFixedHeight(height)

    def minimumSizeHint(self) -> QSize:
        return QSize(80, self.minimumHeight())

    def sizeHint(self) -> QSize:
        return QSize(400, self.minimumHeight())

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the transcript scrolls, never a message

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Nothing to scroll: a selection that leaves the block must not move its text."""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pressed = True
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        self._pressed = False
        if self._waiting:
            self._render()

    # ---- nothing is fetched ------------------------------------------------------------------------------------------

    def loadResource(self, kind: int, name: QUrl) -> Any:
        return None

    def link_at(self, where: QPoint) -> str:
        """The address under a point, for tests and menus."""
        return self.anchorAt(where)
