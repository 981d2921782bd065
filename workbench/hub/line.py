"""Blocking calls that can be given up: they run on a thread of their own, and a generator looks after them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from workbench.core.control import Control
from workbench.core.events import Progress

T = TypeVar("T")
POLL_SECONDS = 0.1
GRACE_SECONDS = 0.5
"""How long a call that was given up may take to put its files away; one that still waits for a connection is left behind."""


class Cut(Exception):
    """Raised inside a call that was given up; nobody outside sees it."""


class Stopped(Exception):
    """The person asked for a stop."""


class Line:
    """Shared by a call and the one who waits for it: the call checks here whether it is still wanted."""

    def __init__(self) -> None:
        self._cut = threading.Event()
        self._lock = threading.Lock()
        self._response: Any = None

    def check(self) -> None:
        """Raise `Cut` when nobody waits any more."""
        if self._cut.is_set():
            raise Cut

    def pause(self, seconds: float) -> None:
        """Wait, unless given up before."""
        if self._cut.wait(seconds):
            raise Cut

    @contextmanager
    def carrying(self, response: Any) -> Iterator[None]:
        """While `response` is read, giving up closes its socket: a read that waits for bytes returns at once."""
        with self._lock:
            self._response = response
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._response = None

    def cut(self) -> None:
        """Give the call up."""
        self._cut.set()
        with self._lock:
            stream = self._response.extensions.get("network_stream") if self._response is not None else None
            plug = stream.get_extra_info("socket") if stream is not None else None
            if plug is not None:
                with suppress(OSError):
                    plug.shutdown(socket.SHUT_RDWR)


def follow(work: Callable[[Line], T], control: Control, show: Callable[[], Progress]) -> Generator[Progress, None, T]:
    """Run `work` on a thread, yielding what `show` says about ten times a second, and return its result or raise its error.

    Raises `Stopped` within `POLL_SECONDS` + `GRACE_SECONDS` of a stop, whatever the network does.
    """
    line = Line()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(line))
        except Cut:
            pass
        except BaseException as error:  # handed to the one who waits
            errors.append(error)

    thread = threading.Thread(target=run, name="hub", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            if control.stopping:
                raise Stopped
            yield show()
            thread.join(POLL_SECONDS)
        if control.stopping:
            raise Stopped
        yield show()
    finally:
        line.cut()
        thread.join(GRACE_SECONDS)
    if errors:
        raise errors[0]
    return results[0]
