"""One line of a form: a mark, the label, the editor; below it a note, the options of a chosen kind, and what is told about it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QContextMenuEvent, QEnterEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from ui.forms.choice import ChoiceEditor
from ui.forms.editors import Editor
from ui.forms.note import Note
from ui.theme import GRID
from ui.widgets.tones import colours_of

LABEL_SHARE, EDITOR_SHARE = 9, 11
EDITOR_WIDEST = 300
INDENT = 3 * GRID


class Mark(QWidget):
    """A place of fixed width before the label: empty, a dot (not the default; a click resets), or an exclamation mark (a problem)."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.kind = ""
        self.setFixedWidth(12)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def set_kind(self, kind: str) -> None:
        if kind != self.kind:
            self.kind = kind
            self.setCursor(Qt.CursorShape.PointingHandCursor if kind == "changed" else Qt.CursorShape.ArrowCursor)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.kind == "changed" and self.rect().contains(event.position().toPoint()):
            self.clicked.emit()

    def sizeHint(self) -> QSize:
        return QSize(12, 12)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.kind:
            return
        colours = colours_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = QPointF(5, self.height() / 2)
        painter.setPen(Qt.PenStyle.NoPen)
        if self.kind == "changed":
            painter.setBrush(QColor(colours.accent_text))
            painter.drawEllipse(middle, 2.5, 2.5)
            return
        painter.setBrush(QColor(colours.error))
        painter.drawEllipse(middle, 5.0, 5.0)
        painter.setPen(QPen(QColor(colours.base), 1.6))
        painter.drawLine(middle + QPointF(0, -2.8), middle + QPointF(0, 0.8))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.base))
        painter.drawEllipse(middle + QPointF(0, 2.8), 0.9, 0.9)


class FieldLabel(QLabel):
    """The label of a field; a click on it asks for help and puts the keyboard into the field."""

    clicked = Signal()

    def __init__(self, text: str) -> None:
        super().__init__(text, wordWrap=True)
        # Ignored: the longest label must not widen its column; the two shares of the width alone decide.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.clicked.emit()


class FieldRow(QWidget):
    """Label and editor share the width in a fixed proportion, so that all rows of a form line up."""

    menu_wanted = Signal(object, object)
    """(row, global position)."""
    hovered = Signal(object, bool)
    reset_wanted = Signal(str)
    help_wanted = Signal(object)

    def __init__(self, name: str, editor: Editor, *, compact: bool = False, depth: int = 0, path: str = "") -> None:
        super().__init__()
        self.name = name
        self.path = path or name
        """Dotted from the root of the form: "position.scaling.factor"."""
        self.editor = editor
        self.info = editor.info
        self.problem = ""
        self.reason = ""
        self.mark = Mark()
        self.mark.clicked.connect(self._reset)
        self.label = FieldLabel(self.info.label)
        self.label.clicked.connect(self._ask)
        self.note: Note | None = None
        self._described = ""
        self.told: object = None
        """What the tooltip and the description were last made from; the form's own."""
        self.label.setIndent(INDENT * depth)
        self.label.setBuddy(editor.stops()[0])
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        editor.setSizePolicy(policy)
        editor.setMaximumWidth(EDITOR_WIDEST)
        editor.fit_height()
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(0)
        line.addWidget(self.mark)
        line.addWidget(self.label, LABEL_SHARE)
        line.addSpacing(GRID)
        line.addWidget(editor, EDITOR_SHARE)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GRID // 2 if compact else GRID)
        column.addLayout(line)
        if isinstance(editor, ChoiceEditor):
            column.addWidget(editor.nested)

    def set_problem(self, text: str, changed: bool) -> None:
        """Mark the row; `changed`: its value is not the default."""
        self.problem = text
        self.mark.set_kind("problem" if text else "changed" if changed else "")

    def set_note(self, text: str, icon: str = "", role: str = "muted") -> None:
        """A line below the field that says what its value means now; an empty text takes it away. `role` is a colour of the theme."""
        if self.note is None:
            if not text:
                return
            self.note = Note()
            self._column.insertWidget(1, self.note)
        self.note.say(text, icon, role)
        self.describe(self._described)

    def describe(self, text: str) -> None:
        """What assistive tools read at the field, after its name; the note comes first."""
        self._described = text
        note = self.note.text if self.note is not None else ""
        self.editor.describe(self.info.label, f"{note} {text}".strip())

    def show_below(self, widget: QWidget) -> None:
        """Put a widget under the field (over the options of its kind), where it stays until it is moved or hidden."""
        self._column.insertWidget(1 if self.note is None else 2, widget)
        widget.show()

    def _reset(self) -> None:
        self.reset_wanted.emit(self.name)

    def _ask(self) -> None:
        self.editor.stops()[0].setFocus(Qt.FocusReason.MouseFocusReason)
        self.help_wanted.emit(self)

    def has_nested_problem(self) -> bool:
        """Whether something is wrong with the options of the chosen kind."""
        form = self.editor.form if isinstance(self.editor, ChoiceEditor) else None
        return form is not None and any(r.problem or r.has_nested_problem() for r in form.rows.values())

    def set_enabled(self, enabled: bool, reason: str) -> None:
        self.reason = "" if enabled else reason
        self.editor.setEnabled(enabled)
        self.label.setEnabled(enabled)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_wanted.emit(self, event.globalPos())
        event.accept()

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.hovered.emit(self, True)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.hovered.emit(self, False)

    def line_rect(self) -> QRectF:
        """The label-and-editor line, without the options below, in the row's coordinates."""
        return QRectF(0, 0, self.width(), max(self.editor.geometry().bottom(), self.label.geometry().bottom()) + 1)
