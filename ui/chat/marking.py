"""A mark in a message at a place of its source: the word that is found there again once the markup is gone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from PySide6.QtGui import QBrush, QColor, QTextCharFormat, QTextCursor, QTextDocument

from ui.theme import Colours

MARK: Final = "◆"
"""Stands before the marked word, which is underlined too: colour alone says nothing to some."""
FIGURE: Final = "first_difference"
"""The figure of a reply that says where it parts from another one: [offset, length] in its text."""
ENDS: Final = f" {MARK} ends here"
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Needle:
    """A piece of a text that can be found again in its rendered form: its n-th occurrence, from 0. Empty: the text's end."""

    text: str
    nth: int = 0


def needle(source: str, offset: int, length: int) -> Needle:
    """What to look for in the rendered text: the first word of source[offset : offset + length], else the next word after it, else
    what stands there."""
    piece = source[offset : offset + length]
    inside = _WORD.search(piece)
    found = _WORD.search(source, offset + inside.start() if inside else offset)
    if found is not None:
        end = min(found.end(), offset + length) if inside else found.end()
        return _at(source, found.start(), end)
    start = offset + len(piece) - len(piece.lstrip())
    return _at(source, start, start + len(piece.strip()))


def _at(source: str, start: int, end: int) -> Needle:
    text = source[start:end]
    return Needle(text, len(_starts(source[:end], text)) - 1) if text else Needle("")


def _starts(text: str, piece: str) -> list[int]:
    """Where `piece` begins in `text`, overlapping occurrences included."""
    found, at = [], text.find(piece)
    while at >= 0:
        found.append(at)
        at = text.find(piece, at + 1)
    return found


def occurrences(text: str, wanted: Needle) -> int:
    """How often the piece is in `text`."""
    return len(_starts(text, wanted.text)) if wanted.text else 0


def span(document: QTextDocument, wanted: Needle) -> QTextCursor | None:
    """The selected piece in a document; None when it is not there."""
    plain = document.toPlainText()
    starts = _starts(plain, wanted.text) if wanted.text else []
    if wanted.nth >= len(starts):
        return None
    cursor = QTextCursor(document)
    cursor.setPosition(_units(plain[: starts[wanted.nth]]))
    cursor.setPosition(cursor.position() + _units(wanted.text), QTextCursor.MoveMode.KeepAnchor)
    return cursor


def style(colours: Colours) -> QTextCharFormat:
    """Underlined, on a ground of its own."""
    form = QTextCharFormat()
    form.setFontUnderline(True)
    form.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
    form.setBackground(QBrush(QColor(colours.warning_surface)))
    form.setForeground(QBrush(QColor(colours.text)))
    return form


def put(document: QTextDocument, wanted: Needle, colours: Colours) -> None:
    """Mark the piece, or the end of the document when it is not there."""
    form = style(colours)
    cursor = span(document, wanted)
    if cursor is None:
        cursor = QTextCursor(document)
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(ENDS, form)
        return
    cursor.mergeCharFormat(form)
    cursor.setPosition(cursor.selectionStart())
    cursor.insertText(MARK, form)


def _units(text: str) -> int:
    """Qt counts UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2
