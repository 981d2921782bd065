"""A time axis without the hours in which nothing ran. Qt-free."""

from __future__ import annotations

PAUSE = 1.0
"""Seconds left on the axis where idle time was cut out."""


class ActivityClock:
    """Seconds in which at least one job ran, up to its last value. `at` is always on the `perf_counter` clock.

    Chat for a minute, lunch, train for five: the axis is six minutes long, not an hour and six.
    """

    def __init__(self) -> None:
        self._running = 0
        self._origin: float | None = None
        self._last: float | None = None

    def begin(self, at: float) -> None:
        """A job starts."""
        if self._running == 0:
            self._origin = at if self._last is None else at - self._last - PAUSE
        self._running += 1

    def end(self) -> None:
        """A job has ended."""
        self._running = max(self._running - 1, 0)

    def place(self, at: float) -> float:
        """Where on the axis something that happened `at` belongs; never left of what was placed before its stretch began."""
        if self._origin is None:
            self._origin = at
        place = max(at - self._origin, 0.0)
        self._last = max(place, self._last or 0.0)
        return place

    def clear(self) -> None:
        """Begin the axis anew; running jobs stay known."""
        self._origin = self._last = None
