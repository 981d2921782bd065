"""A curve's points: growing arrays, an exponential moving average kept up to date, thinning for the screen. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK = 64


class Ema:
    """Debiased exponential moving average, one sample after the other or many at once with the same result.

    m_k = s·m_(k−1) + (1−s)·y_k, divided by 1 − s^k so that the first values are not pulled towards zero. A sample that
    is not finite is a gap: its average is NaN and the state passes over it. `smoothing` s lies in [0, 1).
    """

    def __init__(self, smoothing: float) -> None:
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing is {smoothing}; it must be at least 0 and less than 1")
        self.smoothing = smoothing
        self._mean = 0.0
        self._count = 0

    def extend(self, values: Floats) -> Floats:
        """values [N] -> averages [N]."""
        out = np.full(len(values), np.nan)
        finite = np.isfinite(values)
        samples = values[finite]
        if len(samples):
            ages = np.arange(self._count + 1, self._count + len(samples) + 1)
            out[finite] = self._means(samples) / (1.0 - self.smoothing**ages) if self.smoothing else samples
            self._count += len(samples)
        return out

    def _means(self, samples: Floats) -> Floats:
        """The recurrence in blocks: a triangular matrix gives each block's own part, one scalar carries over to the next."""
        s = self.smoothing
        width = min(_BLOCK, len(samples))
        padded = np.zeros(-(-len(samples) // width) * width)
        padded[: len(samples)] = samples
        lag = np.subtract.outer(np.arange(width), np.arange(width))
        kernel = np.where(lag >= 0, (1.0 - s) * s ** np.maximum(lag, 0), 0.0)
        blocks = padded.reshape(-1, width) @ kernel.T
        carried = np.empty(len(blocks))
        decay, mean = s**width, self._mean
        for i, last in enumerate(blocks[:, -1]):
            carried[i] = mean
            mean = float(last) + decay * mean
        blocks += carried[:, None] * s ** np.arange(1, width + 1)
        means: Floats = blocks.reshape(-1)[: len(samples)]
        self._mean = float(means[-1])
        return means


class Series:
    """x and y of one curve and y's moving average, in float64 arrays that double when full.

    y may be NaN: a gap in the line. With a `limit`, a series that reaches it is thinned to half, keeping the lowest and
    the highest point of every stretch, so that memory stays bounded and no peak is lost; the average keeps its values.
    """

    def __init__(self, smoothing: float = 0.0, limit: int | None = None) -> None:
        if limit is not None and limit < 16:
            raise ValueError(f"limit is {limit}; the least is 16")
        self.limit = limit
        self.thinned = False
        self._ema = Ema(smoothing)
        self._data = np.empty((3, 256))
        self._length = 0
        self._ordered = True

    def __len__(self) -> int:
        return self._length

    @property
    def x(self) -> Floats:
        return self._data[0, : self._length]

    @property
    def y(self) -> Floats:
        return self._data[1, : self._length]

    @property
    def smooth(self) -> Floats:
        return self._data[2, : self._length]

    @property
    def ordered(self) -> bool:
        """True while x never went back (a run resumed from an earlier step goes back)."""
        return self._ordered

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    @property
    def smoothing(self) -> float:
        return self._ema.smoothing

    def append(self, x: float, y: float) -> None:
        self.extend((x,), (y,))

    def extend(self, xs: Sequence[float] | Floats, ys: Sequence[float] | Floats) -> None:
        """Add points; both must be equally long and every x finite."""
        new_x, new_y = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
        if new_x.shape != new_y.shape or new_x.ndim != 1:
            raise ValueError(f"x has shape {new_x.shape} and y {new_y.shape}; they must be equally long rows")
        if not len(new_x):
            return
        if not np.isfinite(new_x).all():
            raise ValueError("x must be finite; a gap is a y that is NaN")
        end = self._length + len(new_x)
        self._make_room(end)
        self._data[0, self._length : end] = new_x
        self._data[1, self._length : end] = new_y
        self._data[2, self._length : end] = self._ema.extend(new_y)
        if self._ordered:
            first = max(self._length - 1, 0)
            self._ordered = bool((np.diff(self._data[0, first:end]) >= 0).all())
        self._length = end
        while self.limit is not None and self._length > self.limit:
            self._thin(self.limit // 2)

    def gap(self) -> None:
        """Break the line after the last point (does nothing at the start or after another gap)."""
        if self._length and np.isfinite(self.y[-1]):
            self.append(float(self.x[-1]), float("nan"))

    def set_smoothing(self, smoothing: float) -> None:
        """Average all stored points again with another weight."""
        if smoothing == self._ema.smoothing:
            return
        self._ema = Ema(smoothing)
        self._data[2, : self._length] = self._ema.extend(self.y)

    def last(self) -> tuple[float, float] | None:
        """The newest finite point, or None."""
        return last_finite(self.x, self.y)

    def between(self, low: float, high: float) -> slice:
        """The points with low ≤ x ≤ high and one more at each side, so that lines run off the picture's edge."""
        if not self._ordered:
            return slice(0, self._length)
        start = int(np.searchsorted(self.x, low, side="left"))
        stop = int(np.searchsorted(self.x, high, side="right"))
        return slice(max(start - 1, 0), min(stop + 1, self._length))

    def start_of_last(self, count: int) -> float | None:
        """The x at which the newest `count` points begin; None without points."""
        return float(self.x[max(self._length - count, 0)]) if self._length else None

    def nearest(self, x: float) -> int | None:
        """Index of the finite point whose x is closest, or None."""
        distance = np.where(np.isfinite(self.y), np.abs(self.x - x), np.inf)
        if not self._length or not np.isfinite(best := distance.min()):
            return None
        return int(self._length - 1 - np.argmax(distance[::-1] == best))

    def _make_room(self, length: int) -> None:
        capacity = self._data.shape[1]
        if length > capacity:
            while capacity < length:
                capacity *= 2
            grown = np.empty((3, capacity))
            grown[:, : self._length] = self._data[:, : self._length]
            self._data = grown

    def _thin(self, target: int) -> None:
        keep = extreme_indices(self.y, target)
        self._data[:, : len(keep)] = self._data[:, keep]
        self._length = len(keep)
        self.thinned = True


def last_finite(x: Floats, y: Floats) -> tuple[float, float] | None:
    """The newest point whose y is finite, or None. Looks back in strides, so a long curve costs no full scan."""
    stop = len(y)
    while stop > 0:
        start = max(stop - 1024, 0)
        found = np.flatnonzero(np.isfinite(y[start:stop]))
        if len(found):
            at = start + int(found[-1])
            return float(x[at]), float(y[at])
        stop = start
    return None


def extreme_indices(y: Floats, count: int) -> NDArray[np.intp]:
    """At most `count` (≥ 4) ascending indices: first, last, and the lowest, highest and first gap of each equal stretch.

    y [N] with NaN for gaps. Returns all indices when N ≤ count.
    """
    n = len(y)
    if n <= count:
        return np.arange(n)
    gaps = bool(np.isnan(y).any())
    per_stretch = 3 if gaps else 2
    stretches = max((count - 2) // per_stretch, 1)
    width = -(-n // stretches)
    padded = np.full(stretches * width, np.nan)
    padded[:n] = y
    rows = padded.reshape(stretches, width)
    starts = np.arange(stretches) * width
    lowest = starts + np.argmin(np.where(np.isnan(rows), np.inf, rows), axis=1)
    highest = starts + np.argmax(np.where(np.isnan(rows), -np.inf, rows), axis=1)
    picked = [np.array([0, n - 1]), lowest, highest]
    if gaps:
        missing = np.isnan(rows)
        picked.append((starts + np.argmax(missing, axis=1))[missing.any(axis=1)])
    indices = np.unique(np.concatenate(picked))
    return indices[indices < n]


def even_indices(y: Floats, count: int) -> NDArray[np.intp]:
    """At most about `count` evenly spread ascending indices with first and last; gaps inside are kept. For smooth lines."""
    n = len(y)
    if n <= count:
        return np.arange(n)
    even = np.linspace(0, n - 1, count).round().astype(np.intp)
    edges = np.flatnonzero(np.diff(np.isnan(y).astype(np.int8)) != 0)
    if not len(edges) or len(edges) > count:
        return even
    return np.unique(np.concatenate([even, edges, edges + 1]))
