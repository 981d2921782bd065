"""The chat's settings: system prompt, and how the next token is picked."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QLabel, QPlainTextEdit, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ui.chat.bits import WrappingLabel
from ui.forms.form import ConfigForm
from ui.theme import LARGE, MEDIUM, SMALL

SIDE_BY_SIDE: Final = 640
MOST: Final = 300
PROMPT_LINES: Final = 4


class ChatDrawer(QScrollArea):
    """Folded away by default. Both parts act on the next message."""

    system_changed = Signal(str)
    generation_changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.form: ConfigForm | None = None
        self._title = QLabel("System prompt")
        self.system = QPlainTextEdit(tabChangesFocus=True, placeholderText="Empty: the model's own, if it has one")
        self.system.setAccessibleName("System prompt")
        self.system.setToolTip("Told to the model before the conversation; holds from the next message on.")
        self._title.setBuddy(self.system)
        self.system.setFixedHeight(PROMPT_LINES * self.fontMetrics().lineSpacing() + 2 * MEDIUM)
        self.system.textChanged.connect(self._on_system)
        note = WrappingLabel("Settings hold from the next message on and are saved with the chat.", muted=True)
        left = QWidget()
        words = QVBoxLayout(left)
        words.setContentsMargins(0, 0, 0, 0)
        words.setSpacing(SMALL)
        words.addWidget(self._title)
        words.addWidget(self.system)
        words.addWidget(note)
        words.addStretch(1)
        self._right = QWidget()
        self._form_place = QVBoxLayout(self._right)
        self._form_place.setContentsMargins(0, 0, 0, 0)
        content = QWidget()
        self._split = QBoxLayout(QBoxLayout.Direction.LeftToRight, content)
        self._split.setContentsMargins(MEDIUM + SMALL, SMALL, MEDIUM + SMALL, MEDIUM)
        self._split.setSpacing(LARGE)
        self._split.addWidget(left, 1)
        self._split.addWidget(self._right, 1)
        self.setWidget(content)

    def show_chat(self, system: str, generation: Any) -> None:
        """The settings of another chat; no signal."""
        self.system.blockSignals(True)
        self.system.setPlainText(system)
        self.system.blockSignals(False)
        if self.form is None:
            self.form = ConfigForm(type(generation), generation, compact=True)
            self.form.changed.connect(self.generation_changed)
            self._form_place.addWidget(self.form)
            self._form_place.addStretch(1)
        else:
            self.form.set_value(generation)
        self._fit()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        wide = self.width() >= SIDE_BY_SIDE
        wanted = QBoxLayout.Direction.LeftToRight if wide else QBoxLayout.Direction.TopToBottom
        if self._split.direction() != wanted:
            self._split.setDirection(wanted)
        self._fit()

    def _fit(self) -> None:
        height = min(self.widget().sizeHint().height(), MOST)
        if self.maximumHeight() != height:
            self.setMaximumHeight(height)
            self.setMinimumHeight(min(height, 120))

    @Slot()
    def _on_system(self) -> None:
        self.system_changed.emit(self.system.toPlainText())
