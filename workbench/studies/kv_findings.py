"""From timed steps to growth laws, tables, a figure and a verdict. Every word of the verdict depends on the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.format import bytes_text, duration_text
from workbench.studies.base import Bar, Cell, Column, Figure, StudyResult, Table

QUADRATIC, LINEAR = 3.0, 2.3
"""Times the cost of a text for twice the text: from the first on the growth is called quadratic, below the second linear."""
SAME = 1e-4
"""Differences of logits up to this share of the largest logit are rounding."""

COLUMNS = (
    Column("cache", "Cache"),
    Column("first_ms", "First position", "ms/token", "At the first of the measured positions."),
    Column("last_ms", "Last position", "ms/token", "At the last of the measured positions."),
    Column("text_seconds", "Whole text", "s", "All steps up to the last position, summed along the fitted curve."),
    Column("doubling", "Twice the text", "×", "What a text costs beside one of half the length; 2 is linear, 4 quadratic."),
    Column("reply_seconds", "Reply", "s", "Measured steps of the whole reply."),
    Column("cache_bytes", "Size", "B", "Measured on what the cache holds at the last position."),
    Column("difference", "max |Δ logit|", help="Largest difference of any logit from those without a cache."),
    Column("identical", "Identical tokens", help="Greedy choices of the reply that are those without a cache."),
)
PLACE_COLUMNS = (
    Column("cache", "Cache"),
    Column("position", "Position", "tokens"),
    Column("ms", "Step", "ms", "Median."),
    Column("bytes", "Size", "B"),
    Column("difference", "max |Δ logit|"),
)
FIT_COLUMNS = (
    Column("cache", "Cache"),
    Column("constant", "Constant", "ms"),
    Column("linear", "Linear", "µs/token", "Grows with the position."),
    Column("quadratic", "Quadratic", "ns/token²", "Grows with its square."),
    Column("r2", "R²", help="Share of the variance that the curve explains; small where there is no growth to explain."),
)


@dataclass(frozen=True)
class Place:
    """A step at a position: milliseconds, bytes the cache held, largest difference of a logit from that without a cache."""

    position: int
    ms: float
    bytes: int
    difference: float


@dataclass(frozen=True)
class Kept:
    """All that was measured of one cache, or of none."""

    label: str
    places: tuple[Place, ...]
    reply_seconds: float
    reply_tokens: int
    same: int
    difference: float
    largest: float

    @property
    def fit(self) -> Fit:
        return fitted([p.position for p in self.places], [p.ms for p in self.places])

    @property
    def identical(self) -> str:
        return f"{self.same}/{self.reply_tokens}"

    @property
    def rounding(self) -> bool:
        """Whether it computes the same but for rounding, and chose the same."""
        return self.same == self.reply_tokens and self.difference <= SAME * self.largest


@dataclass(frozen=True)
class Fit:
    """Milliseconds of a step at position t as constant + linear · t + quadratic · t², none of them negative."""

    constant: float
    linear: float
    quadratic: float
    r2: float

    def seconds(self, tokens: int) -> float:
        """All steps at positions 1 … tokens."""
        first, second = tokens * (tokens + 1) / 2, tokens * (tokens + 1) * (2 * tokens + 1) / 6
        return (self.constant * tokens + self.linear * first + self.quadratic * second) / 1000

    def doubling(self, tokens: int) -> float:
        """What `tokens` cost beside half as many."""
        half = self.seconds(tokens // 2)
        return self.seconds(tokens) / half if half > 0 else float("nan")


def fitted(positions: Sequence[int], ms: Sequence[float]) -> Fit:
    """Least squares among the curves without negative terms."""
    t, y = np.asarray(positions, dtype=np.float64), np.asarray(ms, dtype=np.float64)
    best: tuple[float, tuple[float, float, float]] | None = None
    for used in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        solved, *_ = np.linalg.lstsq(np.stack([t**power for power in used], 1), y, rcond=None)
        if (solved < 0).any():
            continue
        terms = dict(zip(used, solved.tolist(), strict=True))
        curve = (terms.get(0, 0.0), terms.get(1, 0.0), terms.get(2, 0.0))
        left = float(((y - curve[0] - curve[1] * t - curve[2] * t * t) ** 2).sum())
        if best is None or left < best[0]:
            best = left, curve
    assert best is not None  # the constant alone is never negative
    spread = float(((y - y.mean()) ** 2).sum())
    return Fit(*best[1], 1 - best[0] / spread if spread > 0 else 1.0)


def result(study: str, model: str, found: Sequence[Kept], about: str, options: Mapping[str, Any]) -> StudyResult:
    """The study's answer; the first of `found` is without a cache, the second exact."""
    tables = (
        Table("caches", "Speed and memory", COLUMNS, tuple(_row(kept) for kept in found)),
        Table("positions", "Steps at growing positions", PLACE_COLUMNS, tuple(r for kept in found for r in _places(kept))),
        Table("growth", "How a step grows with its position", FIT_COLUMNS, tuple(_fit(kept) for kept in found)),
    )
    notes = (
        f"{model}. {about}",
        "All caches compute in turn, token by token, in the model’s own precision; prompts are read in pieces and not timed.",
        "Each cache is given the tokens that were chosen without one: where all choices are identical, its own reply would be the same.",
    )
    return StudyResult(study, tables, verdict(found), notes, _figure(found), options)


def _row(kept: Kept) -> Mapping[str, Cell]:
    fit, last = kept.fit, kept.places[-1]
    return {
        "cache": kept.label, "first_ms": kept.places[0].ms, "last_ms": last.ms, "text_seconds": fit.seconds(last.position),
        "doubling": fit.doubling(last.position), "reply_seconds": kept.reply_seconds, "cache_bytes": last.bytes,
        "difference": kept.difference, "identical": kept.identical,
    }  # fmt: skip


def _places(kept: Kept) -> list[Mapping[str, Cell]]:
    return [{"cache": kept.label, "position": p.position, "ms": p.ms, "bytes": p.bytes, "difference": p.difference} for p in kept.places]


def _fit(kept: Kept) -> Mapping[str, Cell]:
    fit = kept.fit
    return {"cache": kept.label, "constant": fit.constant, "linear": 1e3 * fit.linear, "quadratic": 1e6 * fit.quadratic, "r2": fit.r2}


def _figure(found: Sequence[Kept]) -> Figure:
    """A bar for each position, in groups of caches, from half the shortest step."""
    groups = tuple((kept.label, tuple(Bar(f"position {p.position:,}", p.ms, f"{p.ms:.3g} ms") for p in kept.places)) for kept in found)
    least = min(p.ms for kept in found for p in kept.places)
    return Figure("Time of a step", "milliseconds", groups, log=True, start=max(least / 2, 1e-6))


# ---- the verdict -----------------------------------------------------------------------------------------------------


def verdict(found: Sequence[Kept]) -> str:
    """What the figures say: one sentence a line."""
    off, exact = found[0], found[1]
    lines = [_growth(off, "Without a cache"), _growth(exact, "With the exact cache"), _gain(off, exact), _equal(exact)]
    lines += [_other(exact, kept) for kept in found[2:]]
    return "\n".join(lines)


def growth(doubling: float) -> str:
    """A word for what doubling a text does to its cost."""
    if doubling >= QUADRATIC:
        return "quadratically"
    return "linearly" if doubling < LINEAR else "faster than linearly"


def _growth(kept: Kept, how: str) -> str:
    first, last = kept.places[0], kept.places[-1]
    doubling = kept.fit.doubling(last.position)
    return (
        f"{how}, a step takes {_ms(first.ms)} at position {first.position:,} and {_ms(last.ms)} at {last.position:,}; the cost of a text "
        f"grows {growth(doubling)} with its length: twice the text, {doubling:.1f} times the time (R² of the fit {kept.fit.r2:.3f})."
    )


def _gain(off: Kept, exact: Kept) -> str:
    last = exact.places[-1]
    slow, fast = off.fit.seconds(last.position), exact.fit.seconds(last.position)
    word = f"{slow / fast:.1f} times as fast" if slow > fast else "no faster"
    return (
        f"For {last.position:,} tokens that is {duration_text(slow)} against {duration_text(fast)}: the cache makes it {word}, "
        f"for {bytes_text(last.bytes)} of memory."
    )


def _equal(exact: Kept) -> str:
    figures = f"max |Δ logit| {exact.difference:.2g} beside logits of up to {exact.largest:.3g}, identical tokens {exact.identical}"
    return f"It computes the same but for rounding: {figures}." if exact.rounding else f"It does not compute the same: {figures}."


def _other(exact: Kept, kept: Kept) -> str:
    ours, theirs = kept.places[-1], exact.places[-1]
    return (
        f"{kept.label} holds {bytes_text(ours.bytes)} at position {ours.position:,}, {theirs.bytes / ours.bytes:.2f} times less than the "
        f"exact cache, at {ours.ms / theirs.ms:.2f} of its time for a step there; max |Δ logit| {kept.difference:.2g}, "
        f"identical tokens {kept.identical}."
    )


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else duration_text(value / 1000)
