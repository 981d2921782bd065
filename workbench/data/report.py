"""The pre-flight report: what of the data will be learnt, what not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.errors import DataError
from workbench.data.examples import RowProblem
from workbench.tokenizers import Tokenizer

MAX_PROBLEMS = 200
SAMPLES = 3
_SAMPLE_TOKENS = 1500
_BINS = 16


@dataclass(frozen=True)
class Segment:
    """A stretch of a sample's text that is learnt or not; `special` when it is a special token."""

    text: str
    trained: bool
    special: bool = False


@dataclass(frozen=True)
class Sample:
    """One sequence as the model will see it. `cut` says that its end is not shown."""

    file: str
    row: int
    segments: tuple[Segment, ...]
    tokens: int
    trained_tokens: int
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Counts of one reading of the data.

    `rows` were read, `kept` of them became `sequences`, `dropped` did not; `truncated` lost their end. `problems` are the
    first dropped rows, `reasons` counts all of them by reason; `duplicates` rows repeat an earlier one. `histogram` holds
    (least tokens, most tokens, sequences). `notes` are sentences about the data as a whole.
    """

    rows: int
    kept: int
    dropped: int
    truncated: int
    sequences: int
    tokens: int
    trained_tokens: int
    longest: int
    duplicates: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    problems: tuple[RowProblem, ...] = ()
    samples: tuple[Sample, ...] = ()
    histogram: tuple[tuple[int, int, int], ...] = ()
    notes: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def usable(self) -> bool:
        """False when training on these data would teach nothing."""
        return self.trained_tokens > 0

    def require_usable(self) -> None:
        """Raise `DataError` naming rows, why and how to mend it, when nothing would be learnt."""
        if self.usable:
            return
        if not self.rows:
            raise DataError("The data are empty: no rows were found.", hint="Choose a file with examples in it.")
        details = "\n".join(str(p) for p in self.problems)
        if not self.problems:
            raise DataError(f"None of the {self.rows} rows has anything to learn.", hint="Add replies to learn, or plain text.")
        first = self.problems[0]
        place = f"row {first.row} of {first.file}" if first.row else first.file
        count = f"None of the {self.rows} rows has" if self.rows > 1 else "The only row does not have"
        raise DataError(f"{count} anything to learn; {place}: {first.reason}", hint=first.fix or "Correct the rows.", details=details)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, under the names of the `data` verb."""
        return {
            "rows": self.rows, "kept": self.kept, "dropped": self.dropped, "truncated": self.truncated, "sequences": self.sequences,
            "tokens": self.tokens, "trained_tokens": self.trained_tokens, "longest": self.longest, "duplicates": self.duplicates,
            "usable": self.usable, "reasons": [{"reason": r, "rows": n} for r, n in self.reasons],
            "problems": [p.to_json() for p in self.problems],
            "samples": [
                {
                    "file": s.file, "row": s.row, "tokens": s.tokens, "trained_tokens": s.trained_tokens, "cut": s.cut,
                    "segments": [{"text": g.text, "trained": g.trained, "special": g.special} for g in s.segments],
                }
                for s in self.samples
            ],
            "histogram": [{"from": a, "to": b, "sequences": n} for a, b, n in self.histogram],
            "notes": list(self.notes), "stopped": self.stopped,
        }  # fmt: skip


class Tally:
    """Collects a `DataReport` while rows go by."""

    def __init__(self) -> None:
        self.rows = self.kept = self.truncated = self.duplicates = 0
        self.problems: list[RowProblem] = []
        self.samples: list[Sample] = []
        self.stopped = False
        self._dropped = 0
        self._reasons: Counter[str] = Counter()
        self._notes: dict[str, None] = {}

    def drop(self, problem: RowProblem) -> None:
        """A row is left out (row 0: a whole file, which counts as one)."""
        self.rows += 1
        self._dropped += 1
        self._reasons[_without_numbers(problem.reason)] += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def note(self, text: str) -> None:
        """A sentence about the data as a whole; told once."""
        self._notes[text] = None

    def report(self, lengths: Sequence[int], trained_tokens: int) -> DataReport:
        """The counts so far, for sequences of the given lengths."""
        return DataReport(
            rows=self.rows, kept=self.kept, dropped=self._dropped, truncated=self.truncated, sequences=len(lengths),
            tokens=int(sum(lengths)), trained_tokens=trained_tokens, longest=max(lengths, default=0), duplicates=self.duplicates,
            reasons=tuple(self._reasons.most_common(50)), problems=tuple(self.problems), samples=tuple(self.samples),
            histogram=histogram(lengths), notes=tuple(self._notes), stopped=self.stopped,
        )  # fmt: skip


def _without_numbers(reason: str) -> str:
    """A reason without what differs from row to row, to be counted."""
    return "".join("#" if c.isdigit() else c for c in reason).replace("##", "#").replace("##", "#")


def histogram(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """(least, most, count) over at most 16 bins of equal width, whole numbers of tokens."""
    if not len(lengths):
        return ()
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // _BINS))
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(lengths, bins=edges)
    return tuple((int(a), int(a + width - 1), int(n)) for a, n in zip(edges, counts, strict=False))


def sample_of(tokenizer: Tokenizer, file: str, row: int, ids: Sequence[int], trained: Sequence[bool]) -> Sample:
    """A sequence as text, parted where learning begins and ends and at special tokens."""
    special = frozenset(tokenizer.special.values())
    segments: list[Segment] = []
    run: list[int] = []

    def close(flag: bool) -> None:
        if run:
            segments.append(Segment(tokenizer.decode_bytes(run).decode("utf-8", "replace"), flag))
            run.clear()

    last = False
    for id, flag in zip(ids[:_SAMPLE_TOKENS], trained, strict=False):
        if flag != last or id in special:
            close(last)
        last = bool(flag)
        if id in special:
            segments.append(Segment(tokenizer.token_text(int(id)), last, special=True))
        else:
            run.append(int(id))
    close(last)
    return Sample(file, row, tuple(segments), len(ids), int(sum(trained)), cut=len(ids) > _SAMPLE_TOKENS)
