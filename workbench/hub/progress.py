"""How a transfer goes: bytes, bytes per second, time left."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from workbench.core.events import Progress

WINDOW_SECONDS = 3.0
"""The speed is that of the last seconds: what a person sees changing."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Progress):
    """Progress in bytes with the present speed; None while it is not known."""

    bytes_per_second: float | None = None
    eta_seconds: float | None = None


class Tally:
    """Counts on the transferring thread, read on the other. `total` bytes are all that will lie here in the end."""

    def __init__(self, message: str, total: int) -> None:
        self._lock = threading.Lock()
        self.message = message
        self.total = total
        self.done = 0
        self._arrivals: deque[tuple[float, int]] = deque()

    def found(self, count: int) -> None:
        """Bytes that were here already (negative: they turned out useless)."""
        with self._lock:
            self.done += count

    def arrived(self, count: int) -> None:
        """Bytes from the network."""
        with self._lock:
            self.done += count
            self._arrivals.append((time.perf_counter(), count))

    def event(self) -> Transfer:
        """The state now."""
        now = time.perf_counter()
        with self._lock:
            while self._arrivals and now - self._arrivals[0][0] > WINDOW_SECONDS:
                self._arrivals.popleft()
            span = now - self._arrivals[0][0] if self._arrivals else 0.0
            speed = sum(count for _, count in self._arrivals) / span if span > 0.2 else None
            left = (self.total - self.done) / speed if speed else None
            return Transfer(
                message=self.message, done=self.done, total=self.total or None, unit="B", bytes_per_second=speed, eta_seconds=left
            )
