"""What was measured in every block at some steps of a run: a growing table, thinned to what a screen shows. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ui.plots.series import Floats

LIMIT = 4_096
"""Looks kept; a longer run keeps every second of them."""


class Profiles:
    """One run's looks: step [N] and value [N, blocks], NaN where a block has none. A step that comes again replaces itself
    and what came after it: a run that was resumed does those steps once more."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._rows: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def blocks(self) -> int:
        return max(map(len, self._rows), default=0)

    @property
    def first(self) -> Floats:
        return self._row(0)

    @property
    def newest(self) -> Floats:
        return self._row(-1)

    def append(self, step: float, values: Sequence[float]) -> None:
        """One look at all blocks."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self._rows.pop()
        self.steps.append(step)
        self._rows.append(tuple(values))
        if len(self.steps) > LIMIT:  # the first and the newest stay
            del self.steps[1:-1:2], self._rows[1:-1:2]

    def table(self) -> Floats:
        """[N, blocks]."""
        return np.stack([self._row(i) for i in range(len(self))]) if self._rows else np.empty((0, 0))

    def picture(self, columns: int) -> tuple[Floats, float, float]:
        """([columns', blocks], first edge, last edge): equally wide columns over the steps, each the look nearest to it."""
        steps = np.asarray(self.steps)
        width = float(np.median(np.diff(steps))) if len(steps) > 1 else max(float(steps[0]), 1.0)
        low, high = steps[0] - width / 2, steps[-1] + width / 2
        count = int(min(max(round((high - low) / width), 1), columns))
        middles = low + (np.arange(count) + 0.5) * (high - low) / count
        right = np.searchsorted(steps, middles).clip(1, len(steps) - 1) if len(steps) > 1 else np.zeros(count, dtype=int)
        left = (right - 1).clip(0)
        nearest = np.where(np.abs(steps[left] - middles) <= np.abs(steps[right] - middles), left, right)
        return self.table()[nearest], float(low), float(high)

    def _row(self, index: int) -> Floats:
        row = self._rows[index]
        return np.asarray([*row, *[np.nan] * (self.blocks - len(row))], dtype=np.float64)
