"""One road for messages, log lines and unhandled exceptions of every thread."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from PySide6.QtCore import (
    QAbstractTableModel,
    QMessageLogContext,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    QtMsgType,
    Signal,
    Slot,
    qInstallMessageHandler,
)

from ui.jobs.worker import JobFailure
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Notice

LEVELS: Final = ("debug", "info", "warning", "error")
_PYTHON_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ROOT: Final = QModelIndex()
FILE: Final = logging.getLogger("ui.messages")
"""What the notifier takes goes on to the log file through here; not up to the root, whence it would come back."""
FILE.propagate = False
FILE.setLevel(logging.INFO)
FILE.addHandler(logging.NullHandler())
_QUIET_QT: Final = ("This plugin does not support propagateSizeHints",)


@dataclass(frozen=True)
class Message:
    """What happened (`text`), what to do (`hint`), the long story (`details`); `level` is one of `LEVELS`."""

    level: str
    text: str
    hint: str = ""
    details: str = ""
    source: str = "window"
    at: float = 0.0
    """Seconds since the epoch."""
    logged: bool = False
    """It came from Python's logging, so the log file has it."""

    def words(self) -> tuple[str, str, str]:
        return self.text, self.hint, self.details

    def as_text(self) -> str:
        """Everything, for the clipboard."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        return "\n".join(part for part in (f"{stamp} {self.level.upper()} [{self.source}] {self.text}", self.hint, self.details) if part)


class LogModel(QAbstractTableModel):
    """The newest messages, oldest first; bounded."""

    COLUMNS: Final = ("Time", "Level", "Source", "Message")

    def __init__(self, limit: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: deque[Message] = deque()
        self._limit = limit

    def set_limit(self, limit: int) -> None:
        self._limit = limit
        self.append([])

    def append(self, messages: list[Message]) -> None:
        """Add messages, dropping the oldest beyond the limit."""
        messages = messages[-self._limit :]
        over = len(self._rows) + len(messages) - self._limit
        if over > 0:
            self.beginRemoveRows(QModelIndex(), 0, over - 1)
            for _ in range(over):
                self._rows.popleft()
            self.endRemoveRows()
        if messages:
            first = len(self._rows)
            self.beginInsertRows(QModelIndex(), first, first + len(messages) - 1)
            self._rows.extend(messages)
            self.endInsertRows()

    def clear(self) -> None:
        self.beginResetModel()
        self._rows.clear()
        self.endResetModel()

    def message(self, row: int) -> Message:
        return self._rows[row]

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.COLUMNS[section]
        return None

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            stamp = time.strftime("%H:%M:%S", time.localtime(row.at))
            return (stamp, row.level.capitalize(), row.source, f"{row.text} {row.hint}".strip().replace("\n", " "))[index.column()]
        if role == Qt.ItemDataRole.UserRole:
            return row
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(p for p in (row.text, row.hint) if p)
        return None


class Notifier(QObject):
    """Takes messages from any thread; hands them to the log model and, when a person should see them, to the message bar."""

    posted = Signal(object)
    """Message, on the GUI thread, for the message bar."""
    _arrived = Signal()

    def __init__(self, log_lines: int = 5_000, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.log = LogModel(log_lines, self)
        self._lock = threading.Lock()
        self._waiting: list[tuple[Message, bool]] = []
        self._arrived.connect(self._drain, Qt.ConnectionType.QueuedConnection)

    def post(self, message: Message, show: bool = True) -> None:
        """From any thread. `show` False: only into the log."""
        with self._lock:
            was_empty = not self._waiting
            self._waiting.append((message, show))
        if was_empty:  # later ones travel with the first
            self._arrived.emit()

    def info(self, text: str, hint: str = "", details: str = "", source: str = "window") -> None:
        self.post(Message("info", text, hint, details, source, time.time()))

    def warning(self, text: str, hint: str = "", details: str = "", source: str = "window") -> None:
        self.post(Message("warning", text, hint, details, source, time.time()))

    def error(self, text: str, hint: str = "", details: str = "", source: str = "window") -> None:
        self.post(Message("error", text, hint, details, source, time.time()))

    def failure(self, failure: JobFailure, source: str = "window") -> None:
        """Show why a job failed."""
        self.error(failure.message, failure.hint, failure.details, source)

    def exception(self, error: BaseException, source: str = "window") -> None:
        """Show an exception: a `WorkbenchError` in its own words, others as something unexpected with details."""
        if isinstance(error, WorkbenchError):
            self.error(error.message, error.hint, error.details, source)
        else:
            self.failure(JobFailure.of(error), source)

    @Slot(object)
    def follow(self, events: list[Event]) -> None:
        """Show the notices among a batch of engine events."""
        for event in events:
            if isinstance(event, Notice):
                level = event.level if event.level in LEVELS else "info"
                self.post(Message(level, event.message, source="engine", at=time.time()))

    @Slot(object)
    def on_job_finished(self, job: Any) -> None:
        """A failed job never goes unsaid; a panel that showed the failure itself spares the bar, not the log."""
        if job.failure is not None:
            text = f"{job.title}: {job.failure.message}"
            level = "info" if job.failure.expected and job.control.stopping else "error"  # a person stopped it
            self.post(Message(level, text, job.failure.hint, job.failure.details, job.lane, time.time()), show=not job.failure_shown)

    @Slot()
    def _drain(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, []
        self.log.append([message for message, _ in taken])
        for message, show in taken:
            if not message.logged:
                FILE.log(_PYTHON_LEVELS[message.level], "[%s] %s", message.source, "\n".join(filter(None, message.words())))
            if show:
                self.posted.emit(message)


class LogHandler(logging.Handler):
    """Python's log lines, of any thread, into the log model (not the message bar)."""

    def __init__(self, notifier: Notifier) -> None:
        super().__init__(logging.INFO)
        self._notifier = notifier

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
            details = "".join(logging.Formatter().formatException(record.exc_info)) if record.exc_info and record.exc_info[0] else ""
            message = Message(level, record.getMessage(), "", details, record.name, record.created, logged=True)
            self._notifier.post(message, show=False)
        except RuntimeError:  # the notifier is gone: the program is on its way out
            return


class Hooks:
    """Unhandled exceptions of every thread and Qt's own complaints, into the notifier and the log file. Undone by `remove`."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._inside = threading.local()
        self._before = (sys.excepthook, threading.excepthook)
        sys.excepthook = self._on_exception
        threading.excepthook = self._on_thread_exception
        qInstallMessageHandler(self._on_qt_message)

    def remove(self) -> None:
        sys.excepthook, threading.excepthook = self._before
        qInstallMessageHandler(None)

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if getattr(self._inside, "busy", False):
            return self._before[0](kind, error, trace)
        self._inside.busy = True
        try:
            story = JobFailure.of(error.with_traceback(trace))
            self._notifier.error(story.message, story.hint, story.details)
        finally:
            self._inside.busy = False

    def _on_thread_exception(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            self._on_exception(args.exc_type, args.exc_value, args.exc_traceback)

    def _on_qt_message(self, kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
        if text.startswith(_QUIET_QT):
            return
        severe = kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
        level = logging.ERROR if severe else logging.WARNING if kind == QtMsgType.QtWarningMsg else logging.INFO
        logging.getLogger("qt").log(level, "%s", text)
