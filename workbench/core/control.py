"""Stopping and pausing, cooperatively: long work looks at its `Control` between steps or tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Control:
    """Shared between the one who runs a job and the one who may interrupt it. Thread-safe.

    `stop(save=True)` asks for a stop that keeps the work; `stop(save=False)` for one that drops what is unsaved.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self.save_on_stop = True

    def stop(self, *, save: bool = True) -> None:
        self.save_on_stop = save
        self._stop.set()
        self._go.set()

    def pause(self) -> None:
        if not self._stop.is_set():
            self._go.clear()

    def resume(self) -> None:
        self._go.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def paused(self) -> bool:
        return not self._go.is_set() and not self.stopping

    def wait_while_paused(self, on_tick: Callable[[], None] | None = None, every: float = 0.2) -> None:
        """Block until resumed or stopped; `on_tick` is called about every `every` seconds meanwhile."""
        while not self._go.wait(every) and not self.stopping:  # a stop may come between the two lines of `pause`
            if on_tick is not None:
                on_tick()
