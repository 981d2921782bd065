"""Which adapters of a model act, and how strongly; each thread may choose for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Selection:
    """Shared by all adapted linears of one model.

    `default` (name -> strength) holds for every thread that has not chosen otherwise. `noise` seeds dropout masks; None
    leaves them to the global generator. `frozen` remembers what attaching froze, for the last detach.
    """

    def __init__(self) -> None:
        self.default: dict[str, float] = {}
        self.noise: int | None = None
        self.frozen: list[Any] = []
        self._local = threading.local()

    def active(self) -> Mapping[str, float]:
        """Name -> strength for the calling thread."""
        chosen: Mapping[str, float] | None = getattr(self._local, "chosen", None)
        return self.default if chosen is None else chosen

    @contextmanager
    def use(self, chosen: Mapping[str, float]) -> Iterator[None]:
        """The calling thread uses exactly `chosen` inside the block."""
        before = getattr(self._local, "chosen", None)
        self._local.chosen = dict(chosen)
        try:
            yield
        finally:
            self._local.chosen = before

    def __deepcopy__(self, memo: dict[int, Any]) -> Selection:
        copy = memo[id(self)] = Selection()
        copy.default, copy.noise = dict(self.default), self.noise
        return copy
