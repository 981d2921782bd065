"""The transcript: messages one under the other, growing smoothly, scrolled only where the reader wants it."""

from __future__ import annotations

import time
from typing import Any, Final

from PySide6.QtCore import QEvent, Qt, QTimer, QUrl, Signal, Slot
from PySide6.QtGui import QPalette, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QVBoxLayout, QWidget

from ui import icons
from ui.chat.cards import EmptyCard, ErrorCard
from ui.chat.marking import FIGURE
from ui.chat.message import MessageWidget
from ui.jobs.worker import JobFailure
from ui.services import Services
from ui.theme import GRID, LARGE, MEDIUM
from ui.widgets.button import Button

FLUSH_MS: Final = 40
"""Shortest time between two drawings of a growing reply: at most 25 a second."""
PATIENCE: Final = 4
"""Drawing takes at most one part in this many + 1 of the time."""
SHOWN: Final = 50
"""Messages that are built at once, and how many more each "Show earlier" brings."""
SLICE_S: Final = 0.012
"""Earlier messages are built for so long at a time; the window goes on in between."""
SETTLED_MS: Final = 200
WIDEST: Final = 860
AT_END: Final = 4
LEAST_HEIGHT: Final = 40 * GRID
"""However much the settings take, the last message can be read."""


class TranscriptView(QScrollArea):
    """Shows a `Conversation`; what people ask for comes as signals. With `marks` replies are marked where they part from others."""

    edit_wanted = Signal(int, str)
    version_wanted = Signal(int, int)
    regenerate_wanted = Signal()
    retry_wanted = Signal()
    link_wanted = Signal(QUrl)
    example_chosen = Signal(str)

    def __init__(self, services: Services, *, marks: bool = False) -> None:
        super().__init__()
        self._marks = marks
        self.setObjectName("chat.transcript")
        self.setAccessibleName("Transcript")
        self._services = services
        self.messages: list[MessageWidget] = []
        self.flushes = 0
        self._hidden = 0
        """Turns above the first message that is built."""
        self._wanted_hidden = 0
        self._from_end: int | None = None
        """Pixels below the reader's place, while messages come in above it."""
        self._conversation: Any = None
        self._usable = True
        self._pending: list[str] = []
        self._growing: MessageWidget | None = None
        self._following = True
        self._flush_timer = QTimer(self, singleShot=True, interval=FLUSH_MS)
        self._flush_timer.timeout.connect(self._flush)
        self._earlier_timer = QTimer(self, singleShot=True, interval=0)
        self._earlier_timer.timeout.connect(self._build_earlier)
        self._settled_timer = QTimer(self, singleShot=True, interval=SETTLED_MS)
        self._settled_timer.timeout.connect(self._leave_place)
        self._build()
        services.theme.changed.connect(self._retint)
        self._tint()

    def _build(self) -> None:
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMinimumHeight(LEAST_HEIGHT)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.empty = EmptyCard(self._services)
        self.empty.example_chosen.connect(self.example_chosen)
        self.error = ErrorCard(self._services.theme)
        self.error.retry_wanted.connect(self.retry_wanted)
        self.earlier = Button("Show earlier messages", f"Show {SHOWN} more.")
        self.earlier.clicked.connect(self._show_earlier)
        self._column = QWidget()
        self._column.setMaximumWidth(WIDEST)
        self._layout = QVBoxLayout(self._column)
        self._layout.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        self._layout.setSpacing(MEDIUM)
        self._layout.addStretch(1)
        self._card_row = QWidget()
        middle = QHBoxLayout(self._card_row)
        middle.setContentsMargins(0, 0, 0, 0)
        middle.addStretch(1)
        middle.addWidget(self.empty, 1000)
        middle.addStretch(1)
        self._layout.addWidget(self._card_row)
        self._layout.addStretch(1)
        self._layout.addWidget(self.earlier, 0, Qt.AlignmentFlag.AlignHCenter)
        self._layout.addWidget(self.error)
        self._layout.addStretch(1)
        content = QWidget()
        content.setObjectName("transcriptContent")
        row = QHBoxLayout(content)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch(1)
        row.addWidget(self._column, 1000)
        row.addStretch(1)
        self.setWidget(content)
        self.earlier.hide()
        self.error.hide()
        self.down = QPushButton("New text", self)
        self.down.setAccessibleName("Go to the new text")
        self.down.setToolTip("Go to the end and follow it")
        icons.bind(self.down, "arrow-down", self._services.theme, "on_accent")
        self.down.clicked.connect(self.follow)
        self.down.hide()
        bar = self.verticalScrollBar()
        bar.valueChanged.connect(self._on_scrolled)
        bar.rangeChanged.connect(self._on_range)

    # ---- what is shown -----------------------------------------------------------------------------------------------

    def show_conversation(self, conversation: Any) -> None:
        """Show the chosen path; messages that stay the same keep their widgets."""
        self._end_growing()
        self._earlier_timer.stop()
        self._leave_place()
        self._conversation = conversation
        shown = conversation.shown
        hidden = self._kept_hidden(shown)
        if hidden is None:
            self._drop(0)
            hidden = max(len(shown) - SHOWN, 0)
        self._hidden = hidden
        visible = shown[hidden:]
        same = 0
        while same < min(len(visible), len(self.messages)) and self.messages[same].turn == visible[same]:
            same += 1
        self._drop(same)
        for index, turn in enumerate(visible[same:], hidden + same):
            message = self._add(turn.role, self._who(turn))
            message.index = index
        for message, turn, index in zip(self.messages, visible, range(hidden, len(shown)), strict=True):
            self._finish(message, turn, index, conversation)
        self.error.hide()
        self._arrange()

    def _kept_hidden(self, shown: Any) -> int | None:
        """Turns above the first message that is built, as long as that one stays where it is; None: all must be built anew.
        What is built stays, or sending in a long conversation would build fifty messages each time."""
        stays = bool(self.messages) and self._hidden < len(shown) and self.messages[0].turn == shown[self._hidden]
        return self._hidden if stays and len(shown) - self._hidden <= max(SHOWN, len(self.messages) + 2) else None

    def begin_reply(self, who: str) -> None:
        """An empty reply at the end, to grow; the view follows it."""
        self.error.hide()
        self._growing = self._add("assistant", who)
        self._growing.set_status("Waiting for the first token…")
        self._arrange()
        self.follow()

    def append(self, text: str) -> None:
        """The reply grew; drawn with the next flush."""
        self._pending.append(text)
        if not self._flush_timer.isActive():
            self._flush_timer.start()

    def set_working(self, text: str) -> None:
        """What is going on with the growing reply."""
        if self._growing is not None:
            self._growing.set_status(text)

    def finish_reply(self, conversation: Any) -> None:
        """The reply is complete: the last turn of `conversation`."""
        self._flush_timer.stop()
        self._flush()
        message, self._growing = self._growing, None
        self._conversation = conversation
        if message is None:
            self.show_conversation(conversation)
            return
        index = len(conversation.shown) - 1
        turn = conversation.shown[-1]
        message.who.set_full_text(self._who(turn))
        self._finish(message, turn, index, conversation)
        self._arrange()

    def show_failure(self, failure: JobFailure) -> None:
        """Say under the messages why there is no reply."""
        self._end_growing()
        self.error.show_failure(failure)
        self.error.show()
        self._arrange()
        self.follow()

    def set_usable(self, usable: bool) -> None:
        """Whether messages can be edited and replies asked for again."""
        if usable != self._usable:
            self._usable = usable
            for message in self.messages:
                message.set_usable(usable)
        self.error.retry_button.setEnabled(usable)
        self.empty.refresh()

    @property
    def growing(self) -> bool:
        return self._growing is not None

    @property
    def at_end(self) -> bool:
        """The reader sees the end, or wants to."""
        return self._following

    def edit_last(self) -> None:
        """Turn the newest own message into a field."""
        own = [m for m in self.messages if m.role == "user"]
        if own:
            own[-1].begin_edit()
            self.ensureWidgetVisible(own[-1])

    def _who(self, turn: Any) -> str:
        from ui.chat.transcript import writer_text

        return "You" if turn.role == "user" else writer_text(turn.figures)

    def _badge(self, turn: Any) -> str:
        from ui.chat.transcript import figures_text

        return figures_text(turn.figures) if turn.role == "assistant" else ""

    def _finish(self, message: MessageWidget, turn: Any, index: int, conversation: Any) -> None:
        message.finish(turn, index, conversation.versions(index), self._badge(turn))
        if self._marks and FIGURE in turn.figures:
            message.mark(*turn.figures[FIGURE])

    def _add(self, role: str, who: str, first: bool = False) -> MessageWidget:
        message = MessageWidget(role, self._services.theme, who)
        message.set_usable(self._usable)
        message.edited.connect(self._on_edited)
        message.version_wanted.connect(self._on_version)
        message.regenerate_wanted.connect(self.regenerate_wanted)
        message.link_wanted.connect(self.link_wanted)
        before = self.messages[0] if first and self.messages else self.error
        self._layout.insertWidget(self._layout.indexOf(before), message)
        self.messages.insert(0 if first else len(self.messages), message)
        return message

    def _drop(self, first: int) -> None:
        for message in self.messages[first:]:
            self._layout.removeWidget(message)
            message.hide()
            message.deleteLater()
        del self.messages[first:]

    def _end_growing(self) -> None:
        self._flush_timer.stop()
        self._pending.clear()
        if self._growing is not None:
            self._drop(self.messages.index(self._growing))
            self._growing = None

    def _arrange(self) -> None:
        """The card only when there is nothing else; the stretch above and below it only then."""
        empty = not self.messages and self.error.isHidden()
        self._card_row.setVisible(empty)
        self._layout.setStretch(0, int(empty))
        self._layout.setStretch(2, int(empty))
        self.earlier.setVisible(self._hidden > 0)
        replies = [m for m in self.messages if m.role == "assistant"]
        for message in self.messages:
            message.set_last(bool(replies) and message is replies[-1] and message is self.messages[-1] and message is not self._growing)
        if empty:
            self.empty.refresh()

    # ---- growing -----------------------------------------------------------------------------------------------------

    @Slot()
    def _flush(self) -> None:
        if self._growing is None or not self._pending:
            return
        text = "".join(self._pending)
        self._pending.clear()
        begun = time.perf_counter()
        self._growing.append(text)
        self.flushes += 1
        took = (time.perf_counter() - begun) * 1000
        self._flush_timer.setInterval(max(FLUSH_MS, round(PATIENCE * took)))
        if not self._following:
            self._place_down()
            self.down.show()

    # ---- scrolling ---------------------------------------------------------------------------------------------------

    @Slot()
    def follow(self) -> None:
        """Go to the end and stay there."""
        self._following = True
        bar = self.verticalScrollBar()
        bar.setValue(bar.maximum())
        self.down.hide()

    def show_mark(self) -> None:
        """Go to the newest mark; stay where there is none."""
        for message in reversed(self.messages):
            place = message.mark_place()
            if not place.isNull():
                top = message.mapTo(self.widget(), place.topLeft()).y()
                self.verticalScrollBar().setValue(top - self.viewport().height() // 3)
                return

    @Slot(int)
    def _on_scrolled(self, value: int) -> None:
        self._following = value >= self.verticalScrollBar().maximum() - AT_END
        if self._following:
            self.down.hide()
        if self._from_end is not None:
            self._from_end = self.verticalScrollBar().maximum() - value

    @Slot()
    def _on_range(self) -> None:
        bar = self.verticalScrollBar()
        if self._from_end is not None:
            bar.setValue(bar.maximum() - self._from_end)
        elif self._following:
            bar.setValue(bar.maximum())

    def resizeEvent(self, event: QResizeEvent) -> None:
        following = self._following
        super().resizeEvent(event)
        if following:
            self.follow()
        self._place_down()

    def _place_down(self) -> None:
        self.down.adjustSize()
        self.down.move((self.width() - self.down.width()) // 2, self.height() - self.down.height() - MEDIUM)
        self.down.raise_()

    # ---- asked -------------------------------------------------------------------------------------------------------

    @Slot()
    def _show_earlier(self) -> None:
        self._wanted_hidden = max(self._hidden - SHOWN, 0)
        bar = self.verticalScrollBar()
        self._from_end = bar.maximum() - bar.value()
        self._build_earlier()

    @Slot()
    def _build_earlier(self) -> None:
        """The next messages above the first one; comes back by itself until enough are there."""
        until = time.perf_counter() + SLICE_S
        shown = self._conversation.shown
        while self._hidden > self._wanted_hidden and time.perf_counter() < until:
            self._hidden -= 1
            turn = shown[self._hidden]
            message = self._add(turn.role, self._who(turn), first=True)
            self._finish(message, turn, self._hidden, self._conversation)
            message.set_last(False)
        self.earlier.setVisible(self._hidden > 0)
        if self._hidden > self._wanted_hidden:
            self._earlier_timer.start()
        else:
            self._settled_timer.start()

    @Slot()
    def _leave_place(self) -> None:
        self._from_end = None

    @Slot(object, str)
    def _on_edited(self, message: MessageWidget, text: str) -> None:
        self.edit_wanted.emit(message.index, text)

    @Slot(object, int)
    def _on_version(self, message: MessageWidget, version: int) -> None:
        self.version_wanted.emit(message.index, version)

    # ---- looks -------------------------------------------------------------------------------------------------------

    @Slot()
    def _retint(self) -> None:
        self._tint()
        for message in self.messages:
            message.retint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "down"):
            self._place_down()

    def _tint(self) -> None:
        c = self._services.theme.colours
        self.viewport().setBackgroundRole(QPalette.ColorRole.Base)
        self.setStyleSheet(f"#chat\\.transcript, #transcriptContent {{ background: {c.base}; }}")
        self.down.setStyleSheet(
            f"QPushButton {{ background: {c.accent}; color: {c.on_accent}; border: 1px solid {c.border}; border-radius: 12px;"
            " padding: 4px 12px; } QPushButton:focus { border: 2px solid " + c.text + "; }"
        )


def is_web_link(url: QUrl) -> bool:
    """Only these are ever offered to the browser: a model could name a local file."""
    return url.scheme().lower() in ("http", "https") and bool(url.host())
