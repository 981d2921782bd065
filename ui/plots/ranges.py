"""How far the axes reach while a plot follows its run. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence

from ui.plots.series import Series

FROM_ZERO = frozenset({"B", "tokens/s"})
"""Units of amounts: a linear axis of these begins at zero, else the eye compares wrong heights."""
LEAST_STEPS = 5.0
"""Steps or seconds shown at least: one point alone must not be stretched over the whole width."""


def x_range(shown: Sequence[Series], newest: Sequence[Series], window: int | None) -> tuple[float, float]:
    """All of `shown`, or with a `window` the last so many points of the `newest` run's densest curve."""
    if window is None:
        low = min(float(s.x[0] if s.ordered else s.x.min()) for s in shown)
        high = max(float(s.x[-1] if s.ordered else s.x.max()) for s in shown)
    else:
        low = max(s for series in newest if (s := series.start_of_last(window)) is not None)
        high = max(float(s.x[-1]) for s in newest)
    return low, low + 1.02 * max(high - low, LEAST_STEPS)


class HeightRange:
    """The vertical range: it changes only when values leave it or use less than half of it, so that the axis keeps still."""

    def __init__(self, from_zero: bool) -> None:
        self.from_zero = from_zero
        self.log = False
        self._now: tuple[float, float] | None = None

    def forget(self) -> None:
        """Fit closely the next time."""
        self._now = None

    def fit(self, low: float, high: float) -> tuple[float, float] | None:
        """The new range for values from `low` to `high` (log10 when `log`), or None when the old one still serves."""
        if not self.log and self.from_zero and low >= 0:
            low = 0.0
        if self._now is not None:
            bottom, top = self._now
            if bottom <= low and high <= top and high - low >= 0.5 * (top - bottom):
                return None
        span = high - low
        if span <= 0:
            span = 0.3 if self.log else (abs(high) * 0.2 or 1.0)
            low, high = low - span / 2, high + span / 2
        bottom = 0.0 if low == 0.0 and not self.log else low - 0.06 * span
        self._now = (bottom, high + 0.1 * span)
        return self._now
