"""The road from a worker to the window: thread-safe, ordered, and without Qt."""

from __future__ import annotations

import threading

from workbench.core.events import Event

CAPACITY = 20_000
"""Events that may wait before the worker is held back; about a second of the fastest engine loop."""


class EventQueue:
    """Events in the order they were put. Of a `coalesce` type only the newest waits, at its newest place; no other is dropped."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._room = threading.Condition()
        self._waiting: dict[int, Event] = {}
        self._newest: dict[type[Event], int] = {}
        self._count = 0
        self._capacity = capacity

    def put(self, event: Event) -> bool:
        """Append `event`; True when the queue was empty, so the reader must be told."""
        with self._room:
            was_empty = not self._waiting
            self._count += 1
            if event.coalesce:
                self._waiting.pop(self._newest.get(type(event), -1), None)
                self._newest[type(event)] = self._count
            self._waiting[self._count] = event
            return was_empty

    def drain(self, limit: int | None = None) -> list[Event]:
        """Take up to `limit` events (None: all), oldest first, and let a held-back worker go on."""
        with self._room:
            if limit is None or limit >= len(self._waiting):
                taken = list(self._waiting.values())
                self._waiting.clear()
                self._newest.clear()
            else:
                taken = [self._waiting.pop(key) for key in list(self._waiting)[:limit]]
            self._room.notify_all()
            return taken

    def wait_for_room(self, timeout: float) -> bool:
        """Block the calling worker up to `timeout` seconds while the queue is full; True when there is room."""
        with self._room:
            return self._room.wait_for(self._has_room, timeout)

    @property
    def full(self) -> bool:
        return not self._has_room()

    def _has_room(self) -> bool:
        return len(self._waiting) < self._capacity

    def __len__(self) -> int:
        return len(self._waiting)
