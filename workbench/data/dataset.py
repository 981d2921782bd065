"""Examples as token ids: flat arrays, so that a million sequences are three objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Dataset:
    """Sequences of ids. Sequence i is `ids[offsets[i]:offsets[i + 1]]`.

    `trained` [tokens] marks the ids that are targets (a first id never is: nothing comes before it); `rows` [N] numbers
    the example each sequence came from, so that pieces of one document are never parted between training and validation.
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @staticmethod
    def of(sequences: Sequence[tuple[Any, Any]], rows: Sequence[int] | None = None) -> Dataset:
        """From (ids, trained) pairs; without `rows` each sequence is an example of its own."""
        lengths = [len(ids) for ids, _ in sequences]
        ids = [np.asarray(ids, dtype=np.int32) for ids, _ in sequences]
        trained = [np.asarray(mask, dtype=np.bool_) for _, mask in sequences]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        flat = np.concatenate(ids) if ids else np.empty(0, np.int32)
        marks = np.concatenate(trained).copy() if trained else np.empty(0, np.bool_)
        marks[offsets[:-1][np.asarray(lengths, dtype=np.int64) > 0]] = False
        return Dataset(flat, marks, offsets, np.asarray(range(len(lengths)) if rows is None else rows, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sequence [N]."""
        return np.diff(self.offsets)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        """Targets of all sequences."""
        return int(self.trained.sum())

    def sequence(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """(ids, trained) of one sequence."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        return self.ids[part], self.trained[part]

    def take(self, indices: npt.NDArray[np.int64]) -> Dataset:
        """The sequences at `indices`, in that order."""
        return Dataset.of([self.sequence(int(i)) for i in indices], self.rows[indices].tolist())

    def split(self, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
        """(training, validation): about `fraction` of the sequences are held out, whole examples chosen by `seed`.

        A fraction above 0 holds out at least one example where two exist, and never the last that is left; a single long
        document gives its last sequences.
        """
        if fraction <= 0 or len(self) < 2:
            return self, self.take(np.empty(0, np.int64))
        wanted = max(1, round(fraction * len(self)))
        examples, counts = np.unique(self.rows, return_counts=True)
        if len(examples) == 1:
            cut = len(self) - min(wanted, len(self) - 1)
            return self.take(np.arange(cut)), self.take(np.arange(cut, len(self)))
        order = np.random.default_rng([seed, 0x5EED]).permutation(len(examples))
        held = 1 + int(np.searchsorted(np.cumsum(counts[order]), wanted))
        out = np.isin(self.rows, examples[order[: min(held, len(examples) - 1)]])
        return self.take(np.flatnonzero(~out)), self.take(np.flatnonzero(out))

    def fingerprint(self) -> str:
        """SHA-256 over ids, targets and borders: equal data, equal text."""
        digest = hashlib.sha256()
        for array in (self.ids, self.trained, self.offsets):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
