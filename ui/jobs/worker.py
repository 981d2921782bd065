"""The only worker: runs one engine generator on a thread of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

from ui.jobs.queue import EventQueue
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event

Make = Callable[[Control], Generator[Event, None, Any]]
"""Called on the worker's thread. May also be a plain function; its value is then the result."""


@dataclass(frozen=True)
class JobFailure:
    """Why work ended badly, in words only: an exception would keep its frames, and with them tensors, alive."""

    message: str
    hint: str = ""
    details: str = ""
    kind: str = ""
    expected: bool = False
    """True for a `WorkbenchError`: the words were written for a person."""

    @classmethod
    def of(cls, error: BaseException) -> JobFailure:
        """Describe any exception; never raises itself."""
        try:
            story = "".join(traceback.format_exception(error))
        except Exception:  # an exception whose own __str__ raises
            story = f"{type(error).__name__} (it could not be printed)"
        kind = type(error).__name__
        if isinstance(error, WorkbenchError):
            return cls(error.message, error.hint, "\n\n".join(filter(None, (error.details, story))), kind, expected=True)
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in story:
            return cls(
                "The computer's memory ran out.",
                "Close other programs, or use a smaller batch, a shorter length, a compressed cache or a smaller model.",
                story,
                kind,
                expected=True,
            )
        hint = "The rest of the window still works. Copy the details if you report this."
        return cls(f"Something unexpected happened ({kind}).", hint, story, kind)


class EventWorker(QObject):
    """Runs one engine generator. Events go to the queue; `ready` only says that it is no longer empty.

    Signals: ready() · succeeded(object) or failed(JobFailure) · finished() – always last, exactly once, whatever was raised.
    """

    ready = Signal()
    succeeded = Signal(object)
    failed = Signal(object)
    finished = Signal()

    def __init__(self, make: Make, control: Control, queue: EventQueue) -> None:
        super().__init__()
        self._make = make
        self._control = control
        self._queue = queue

    @Slot()
    def run(self) -> None:
        """Call on the worker's thread, once."""
        try:
            self.succeeded.emit(self._iterate())
        except BaseException as error:  # torch raises RuntimeError, Rust extensions a bare BaseException
            self.failed.emit(JobFailure.of(error))
        finally:
            self.finished.emit()

    def _iterate(self) -> Any:
        work = self._make(self._control)
        if not isinstance(work, GeneratorType):
            return work
        try:
            while True:
                self._put(next(work))
        except StopIteration as end:
            return end.value
        finally:
            work.close()

    def _put(self, event: Event) -> None:
        if self._queue.put(event):
            self.ready.emit()
        while self._queue.full and not self._control.stopping:
            self._queue.wait_for_room(0.1)
