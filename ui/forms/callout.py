"""What is wrong with a field, shown right under it without moving anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRect, Qt
from PySide6.QtWidgets import QLabel, QWidget

from ui.widgets.tones import colours_of

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm
    from ui.forms.row import FieldRow


def row_to_speak_of(root: ConfigForm) -> FieldRow | None:
    """The focused field if something is wrong with it, else the one under the mouse, else the one edited last."""
    focused = root.focused_row()
    forms = list(root.all_forms())
    hovered = next((f.hovered_row for f in reversed(forms) if f.hovered_row is not None and f.hovered_row.problem), None)
    edited = next((f.edited_row for f in forms if f.edited_row is not None and f.edited_row.problem), None) if focused is None else None
    return next((r for r in (focused, hovered, edited) if r is not None and r.problem and r.isVisible()), None)


class Callout(QLabel):
    """A small box over the form, under the field it speaks of (above it at the lower edge). The mouse goes through it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._form = parent
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setMargin(5)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()
        self._tint()

    def show_at(self, line: QRect, text: str) -> None:
        """`line` is the field's place in the parent's coordinates."""
        self.setText(text)
        width = self._form.width()
        height = self.heightForWidth(width)
        top = line.bottom() + 2
        if top + height > self._form.height() and line.top() - 2 - height >= 0:
            top = line.top() - 2 - height
        self.setGeometry(0, top, width, height)
        self.show()
        self.raise_()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self)
        sheet = f"background: {c.error_surface}; color: {c.text}; border: 1px solid {c.error}; border-radius: 3px;"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
