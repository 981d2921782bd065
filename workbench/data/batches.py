"""Which sequences make which batch, and batches as tensors.

The order depends on (seed, epoch) alone: a run resumed at any step sees the batches it would have seen. Sequences of like
length share a batch, so that little is padding; which batch comes when is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workbench.core.errors import DataError
from workbench.data.dataset import Dataset

IGNORED = -100
"""The label of a position that is no target, as `torch.nn.functional.cross_entropy` ignores it."""
_BUCKET = 64  # batches whose sequences are sorted together: enough to pad little, few enough to mix all lengths over an epoch


@dataclass(frozen=True)
class Batch:
    """B sequences, padded on the right to the longest, T.

    `ids` [B, T] int64, 0 where padded; `labels` [B, T] int64: the id where it is a target, else `IGNORED`; **aligned with
    `ids`, not shifted**: the loss compares the logits of position t with the label of t + 1; `positions` [B, T] int64 from 0,
    −1 where padded; `segments` None, or [B, T] numbering packed documents from 0, −1 where padded. `tokens` counts ids that
    are no padding, `targets` labels that count; `indices` are the sequences' numbers in the data set.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    tokens: int
    targets: int
    indices: tuple[int, ...]
    segments: Tensor | None = None


def collate(dataset: Dataset, indices: Sequence[int]) -> Batch:
    """The given sequences as one batch."""
    sequences = [dataset.sequence(i) for i in indices]
    longest = max((len(ids) for ids, _ in sequences), default=0)
    ids = np.zeros((len(sequences), longest), np.int64)
    labels = np.full((len(sequences), longest), IGNORED, np.int64)
    positions = np.full((len(sequences), longest), -1, np.int64)
    for row, (tokens, trained) in enumerate(sequences):
        n = len(tokens)
        ids[row, :n] = tokens
        labels[row, :n] = np.where(trained, tokens, IGNORED)
        positions[row, :n] = np.arange(n)
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(positions), sum(len(t) for t, _ in sequences),
        sum(int(m.sum()) for _, m in sequences), tuple(int(i) for i in indices),
    )  # fmt: skip


def batches_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Batches of one pass; the last may be smaller."""
    return -(-len(dataset) // batch_size)


def plan(dataset: Dataset, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The sequence numbers of each batch of one epoch, in order."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(dataset))
    lengths = dataset.lengths
    planned: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = order[start : start + batch_size * _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        planned += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [planned[i] for i in rng.permutation(len(planned))]


def batches(dataset: Dataset, batch_size: int, seed: int = 0, epochs: int | None = 1, start_step: int = 0) -> Iterator[Batch]:
    """Batches of `epochs` passes (None: without end), from batch number `start_step` counted over all epochs.

    Raises `DataError` when there are no sequences.
    """
    count = batches_per_epoch(dataset, batch_size)
    if not count:
        raise DataError("There is nothing to train on: the data set has no sequences.", hint="Add data, or hold out a smaller share.")
    epoch, skip = divmod(start_step, count)
    while epochs is None or epoch < epochs:
        for indices in plan(dataset, batch_size, seed, epoch)[skip:]:
            yield collate(dataset, indices.tolist())
        epoch, skip = epoch + 1, 0


def evaluation_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Every sequence once, longest first: what does not fit into memory fails at once."""
    order = np.argsort(-dataset.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield collate(dataset, order[start : start + batch_size].tolist())


def longest_batch(dataset: Dataset, batch_size: int) -> Batch:
    """The batch that needs the most memory: the `batch_size` longest sequences."""
    return collate(dataset, np.argsort(-dataset.lengths, kind="stable")[:batch_size].tolist())
