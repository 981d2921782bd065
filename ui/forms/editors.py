"""One editor per kind of field. An editor shows a value, says when a person changed it, and never changes it by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal, SignalInstance, Slot
from PySide6.QtGui import QFocusEvent, QPalette, QResizeEvent, QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from ui.forms.numbers import stepped, typed, untyped
from ui.forms.texts import list_parts, list_text
from ui.theme import GRID, tabular
from ui.widgets.segmented import SegmentedControl
from ui.widgets.toggle import TickBox, ToggleSwitch
from ui.widgets.tones import colours_of
from workbench.core.errors import ConfigError
from workbench.core.fields import FieldInfo, Option, parse

TYPING_PAUSE_MS: Final = 350
"""Typing counts as an edit after this pause, at Enter, and when the focus leaves."""
SEGMENT_OPTIONS: Final = 3
SEGMENT_LETTERS: Final = 25
"""So many options, and letters (four more per option for its edges), fit side by side in a narrow dock; more become a drop-down."""


def control_height(widget: QWidget) -> int:
    """Height of a control in the widget's font: 24 px at the usual size."""
    return max(widget.fontMetrics().height() + 10, 6 * GRID)


class Editor(QWidget):
    """Base of all: `value`, `set_value` (no signal), `edited` after a person's change, `error` while the text is no value."""

    edited = Signal()

    def __init__(self, info: FieldInfo) -> None:
        super().__init__()
        self.info = info
        self.error = ""
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(GRID)

    def value(self) -> Any:
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        raise NotImplementedError

    def commit(self) -> None:
        """Take what is typed but not yet confirmed."""

    def stops(self) -> list[QWidget]:
        """The widgets Tab reaches, in order; the first gets the focus."""
        raise NotImplementedError

    def fit_height(self) -> None:
        """One height for all controls of a form, whatever the style thinks of each."""
        height = control_height(self)
        for widget in self.findChildren(QWidget):
            if isinstance(widget, (QAbstractSpinBox, QComboBox, QPushButton)) or (type(widget) is QLineEdit and widget.parent() is self):
                widget.setFixedHeight(height)
        self.setMinimumHeight(height)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.fit_height()

    def describe(self, name: str, description: str) -> None:
        """Names for assistive tools: the field's label, and its help with any problem."""
        for widget in self.stops():
            widget.setAccessibleName(name)
            widget.setAccessibleDescription(description)


class _TypedText:
    """Turns typing into edits: after a pause, at Enter, at the end of focus. Mixed into line-like editors."""

    def _watch(self, line: QLineEdit, owner: QWidget, finished: SignalInstance, commit: Callable[[], None]) -> None:
        self._pause = QTimer(owner, singleShot=True, interval=TYPING_PAUSE_MS)
        self._pause.timeout.connect(commit)
        line.textEdited.connect(lambda _text: self._pause.start())
        finished.connect(commit)


class NumberBox(QAbstractSpinBox, _TypedText):
    """A spin box over Python numbers: whole ones of any size, floats in scientific notation, steps by `numbers.stepped`.

    A number outside the bounds may be typed (the form says what is wrong); the arrows stay inside. The wheel does nothing
    without focus, so that scrolling past a form changes no setting.
    """

    edited = Signal()

    def __init__(self, info: FieldInfo) -> None:
        super().__init__()
        self.info = info
        self.whole = info.type is int
        self.error = ""
        self._value: float = 0
        self._unit = QLabel(info.unit, self.lineEdit())
        self._unit.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFont(tabular(self.font()))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._watch(self.lineEdit(), self, self.editingFinished, self.commit)
        self._tint()

    @property
    def number(self) -> float:
        return self._value

    def set_number(self, value: float) -> None:
        """Show a number, without a signal."""
        self._pause.stop()
        self._value, self.error = value, ""
        text = typed(value)
        if self.lineEdit().text() != text:
            self.lineEdit().setText(text)
            self.lineEdit().setCursorPosition(0)

    def show_instead(self, text: str) -> None:
        """A word in place of the number (while the field is automatic)."""
        self._pause.stop()
        self.error = ""
        self.lineEdit().setText(text)
        self.lineEdit().setCursorPosition(0)

    @Slot()
    def commit(self) -> None:
        self._pause.stop()
        if not self.isEnabled():
            return
        before = (self._value, self.error)
        text = untyped(self.text(), self.whole)
        try:
            if not text:
                raise ConfigError(f"{self.info.label} is empty.")
            self._value, self.error = parse(self.info, text), ""
        except ConfigError as error:
            self.error = error.message
        if (self._value, self.error) != before:
            self.edited.emit()

    def stepBy(self, steps: int) -> None:
        self.commit()
        info = self.info
        value = stepped(self._value, steps, whole=self.whole, low=info.minimum, high=info.maximum, log=info.log)
        if value != self._value:
            self.set_number(value)
            self.edited.emit()
        self.lineEdit().selectAll()

    def stepEnabled(self) -> QAbstractSpinBox.StepEnabledFlag:
        flag = QAbstractSpinBox.StepEnabledFlag
        low, high = self.info.minimum, self.info.maximum
        down = flag.StepDownEnabled if low is None or self._value > low else flag.StepNone
        up = flag.StepUpEnabled if high is None or self._value < high else flag.StepNone
        return down | up

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Only characters a number can have may be typed; whether it is one is told at the end of typing."""
        fits = not self.isEnabled() or all(c in "0123456789.,_ eE+-\N{MINUS SIGN}" for c in text)
        return (QValidator.State.Acceptable if fits else QValidator.State.Invalid), text, position

    def fixup(self, text: str) -> str:
        return text

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason):
            self.lineEdit().selectAll()

    def sizeHint(self) -> QSize:
        return QSize(110, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(64, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_unit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.EnabledChange) and hasattr(self, "_unit"):
            self._tint()
            self._place_unit()

    def _tint(self) -> None:
        c = colours_of(self)
        self._unit.setStyleSheet(f"color: {c.muted};")
        if self.palette().color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text).name() != c.muted:
            palette = QPalette()  # a word such as "automatic" says what holds now: readable, though not to be edited
            palette.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text, c.muted)
            self.setPalette(palette)

    def _place_unit(self) -> None:
        """The unit stands inside the box at its right end, and gives way where there is no room."""
        line = self.lineEdit()
        width = self._unit.fontMetrics().horizontalAdvance(self.info.unit) + 6 if self.info.unit else 0
        fits = 0 < width <= line.width() - 44 and self.isEnabled()
        self._unit.setVisible(fits)
        line.setTextMargins(0, 0, width if fits else 0, 0)
        self._unit.setGeometry(line.width() - width, 0, width, line.height())


class NumberEditor(Editor):
    """int and float."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        self.box = NumberBox(info)
        self.box.edited.connect(self._edited)
        self._row.addWidget(self.box)

    def value(self) -> float | None:
        return self.box.number

    def set_value(self, value: Any) -> None:
        self.box.set_number(value)
        self.error = ""

    def commit(self) -> None:
        self.box.commit()

    def stops(self) -> list[QWidget]:
        return [self.box]

    @Slot()
    def _edited(self) -> None:
        self.error = self.box.error
        self.edited.emit()


class OptionalNumberEditor(NumberEditor):
    """int | None and float | None: the box is checked while the number is set by hand; else None, in the field's own words."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        self.by_hand = TickBox()
        self.by_hand.setToolTip(f"Checked: set by hand. Not checked: {info.none_label}.")
        self.by_hand.toggled.connect(self._switched)
        self._row.insertWidget(0, self.by_hand)
        self._number = _starting_number(info)

    def value(self) -> float | None:
        return self.box.number if self.by_hand.isChecked() else None

    def set_value(self, value: Any) -> None:
        self.by_hand.blockSignals(True)
        self.by_hand.setChecked(value is not None)
        self.by_hand.blockSignals(False)
        self.error = ""
        self._show(value)

    def suggest(self, value: float) -> None:
        """The number to begin with when a person takes over from "automatic"."""
        self._number = value

    def commit(self) -> None:
        if self.by_hand.isChecked():
            super().commit()

    def stops(self) -> list[QWidget]:
        return [self.by_hand, self.box]

    def describe(self, name: str, description: str) -> None:
        super().describe(name, description)
        self.by_hand.setAccessibleName(f"Set {name} by hand")

    def _show(self, value: float | None) -> None:
        self.box.setEnabled(value is not None)
        if value is None:
            self.box.show_instead(self.info.none_label)
        else:
            self._number = value
            self.box.set_number(value)

    @Slot(bool)
    def _switched(self, by_hand: bool) -> None:
        if not by_hand:
            self._number = self.box.number if self.box.number else self._number
        self.error = ""
        self._show(self._number if by_hand else None)
        if by_hand:
            self.box.setFocus()
            self.box.selectAll()
        self.edited.emit()


def _starting_number(info: FieldInfo) -> float:
    start = info.default if isinstance(info.default, (int, float)) else info.minimum if info.minimum is not None else 1
    return int(start) if info.type is int else float(start)


class ToggleEditor(Editor):
    """bool."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        self.switch = ToggleSwitch()
        self.switch.clicked.connect(self._clicked)
        self._row.addWidget(self.switch)
        self._row.addStretch(1)

    def value(self) -> bool:
        return self.switch.isChecked()

    def set_value(self, value: Any) -> None:
        self.switch.setChecked(bool(value))

    def stops(self) -> list[QWidget]:
        return [self.switch]

    @Slot()
    def _clicked(self) -> None:
        self.edited.emit()


class LineEditor(Editor, _TypedText):
    """Text, and lists of texts or numbers with commas between. In lists a backslash escapes: \\n new line, \\, comma."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        self.line = QLineEdit()
        self._value: Any = "" if info.type is str else ()
        if info.optional:
            self.line.setPlaceholderText(info.none_label)
        elif info.type is tuple:
            self.line.setPlaceholderText("none")
        self._watch(self.line, self, self.line.editingFinished, self.commit)
        self._row.addWidget(self.line)

    def value(self) -> Any:
        return self._value

    def set_value(self, value: Any) -> None:
        self._pause.stop()
        self._value, self.error = value, ""
        text = list_text(value) if isinstance(value, tuple) else value or ""
        if self.line.text() != text:
            self.line.setText(text)
            self.line.setCursorPosition(0)

    @Slot()
    def commit(self) -> None:
        self._pause.stop()
        before = (self._value, self.error)
        try:
            self._value, self.error = self._read(self.line.text()), ""
        except ConfigError as error:
            self.error = error.message
        if (self._value, self.error) != before:
            self.edited.emit()

    def _read(self, text: str) -> Any:
        if self.info.optional and not text:
            return None
        if self.info.type is not tuple:
            return text
        item = self.info.item or str
        try:
            return tuple(item(part) for part in list_parts(text))
        except ValueError:
            raise ConfigError(f"{self.info.label} takes numbers with commas between, not {text!r}.") from None

    def stops(self) -> list[QWidget]:
        return [self.line]


class OptionCombo(QComboBox):
    """A drop-down that the wheel changes only while it has the focus, and that may be narrower than its longest entry."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def fill(self, options: list[tuple[Any, str, str]]) -> None:
        for value, label, help_text in options:
            self.addItem(label, value)
            self.setItemData(self.count() - 1, f"<b>{label}</b><br>{help_text}" if help_text else label, Qt.ItemDataRole.ToolTipRole)


class PickEditor(Editor):
    """One of several values: side by side when few and short, else a drop-down. Also bool | None."""

    def __init__(self, info: FieldInfo) -> None:
        super().__init__(info)
        options = pick_options(info)
        self.segments: SegmentedControl | None = None
        self.combo: OptionCombo | None = None
        if len(options) <= SEGMENT_OPTIONS and sum(len(o[1]) + 4 for o in options) <= SEGMENT_LETTERS:
            self.segments = SegmentedControl(options)
            self.segments.chosen.connect(self._chosen)
            self._row.addWidget(self.segments)
        else:
            self.combo = OptionCombo()
            self.combo.fill(options)
            self.combo.activated.connect(self._chosen)
            self._row.addWidget(self.combo)
        self._value: Any = None

    def value(self) -> Any:
        return self._value

    def set_value(self, value: Any) -> None:
        self._value = value
        if self.segments is not None:
            self.segments.set_value(value)
        if self.combo is not None:
            self.combo.setCurrentIndex(next((i for i in range(self.combo.count()) if self.combo.itemData(i) == value), -1))

    def stops(self) -> list[QWidget]:
        if self.segments is not None:
            first = self.segments.focus_button()
            return [first, *(b for b in self.segments.buttons() if b is not first)]
        assert self.combo is not None
        return [self.combo]

    def describe(self, name: str, description: str) -> None:
        if self.segments is not None:
            self.segments.set_group_name(name)
            self.segments.setAccessibleDescription(description)
        else:
            super().describe(name, description)

    @Slot(object)
    def _chosen(self, _what: object) -> None:
        value = self.segments.value if self.segments is not None else self.combo.currentData() if self.combo is not None else None
        if value != self._value:
            self._value = value
            self.edited.emit()


def pick_options(info: FieldInfo) -> list[tuple[Any, str, str]]:
    """(value, label, help) of what a field may be, with None first where it is allowed."""
    none = [(None, info.none_label.capitalize(), "")] if info.optional else []
    if info.type is bool:
        return [*none, (True, "On", ""), (False, "Off", "")]
    options: tuple[Option, ...] = info.pick_options()
    return [*none, *((o.name, o.label, o.help) for o in options)]


def make_editor(info: FieldInfo) -> Editor:
    """The editor for a plain field; `ChoiceEditor` is made by the form, which it needs."""
    if info.pick_options() or (info.type is bool and info.optional):
        return PickEditor(info)
    if info.type is bool:
        return ToggleEditor(info)
    if info.type in (int, float):
        return OptionalNumberEditor(info) if info.optional else NumberEditor(info)
    if info.type in (str, tuple):
        return LineEditor(info)
    raise TypeError(f"there is no editor for {info.type.__name__} ({info.name})")
