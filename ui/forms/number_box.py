"""A spin box over Python numbers, and how typing becomes an edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal, SignalInstance, Slot
from PySide6.QtGui import QFocusEvent, QPalette, QResizeEvent, QValidator, QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QLabel, QLineEdit, QSizePolicy, QWidget

from ui.forms.numbers import stepped, typed, untyped
from ui.theme import tabular
from ui.widgets.tones import colours_of
from workbench.core.errors import ConfigError
from workbench.core.fields import FieldInfo, parse

TYPING_PAUSE_MS: Final = 350
"""Typing counts as an edit after this pause, at Enter, and when the focus leaves."""


class TypedText:
    """Turns typing into edits: after a pause, at Enter, at the end of focus. Mixed into line-like editors."""

    def _watch(self, line: QLineEdit, owner: QWidget, finished: SignalInstance, commit: Callable[[], None]) -> None:
        self._pause = QTimer(owner, singleShot=True, interval=TYPING_PAUSE_MS)
        self._pause.timeout.connect(commit)
        line.textEdited.connect(lambda _text: self._pause.start())
        finished.connect(commit)


class NumberBox(QAbstractSpinBox, TypedText):
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
