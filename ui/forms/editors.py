"""One editor per kind of field. An editor shows a value, says when a person changed it, and never changes it by itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final

from PySide6.QtCore import QEvent, Signal, Slot
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QHBoxLayout, QLineEdit, QPushButton, QWidget

from ui.forms.number_box import NumberBox, TypedText
from ui.forms.texts import list_parts, list_text
from ui.theme import GRID
from ui.widgets.combo import OptionCombo
from ui.widgets.segmented import SegmentedControl
from ui.widgets.sizes import control_height
from ui.widgets.toggle import TickBox, ToggleSwitch
from workbench.core.errors import ConfigError
from workbench.core.fields import FieldInfo, Option

SEGMENT_OPTIONS: Final = 3
SEGMENT_LETTERS: Final = 25
"""So many options, and letters (four more per option for its edges), fit side by side in a narrow dock; more become a drop-down."""


class Editor(QWidget):
    """Base of all: `value`, `set_value` (no signal), `edited` after a person's change, `error` while the text is no value."""

    edited = Signal()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        left = [name for name in ("value", "set_value", "stops") if getattr(getattr(cls, name), "__isabstractmethod__", False)]
        if left:  # Qt's own metaclass does not look at abstract methods
            raise TypeError(f"{cls.__name__} must say {', '.join(left)}")

    def __init__(self, info: FieldInfo) -> None:
        super().__init__()
        self.info = info
        self.error = ""
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(GRID)

    @abstractmethod
    def value(self) -> Any:
        """What is shown; while the text is no value, the last one that was."""

    @abstractmethod
    def set_value(self, value: Any) -> None:
        """Show a value, without a signal."""

    def commit(self) -> None:
        """Take what is typed but not yet confirmed."""

    @abstractmethod
    def stops(self) -> list[QWidget]:
        """The widgets Tab reaches, in order; the first gets the focus."""

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


class LineEditor(Editor, TypedText):
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
