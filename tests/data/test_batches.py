"""Batches: every sequence once an epoch, the same order from the same seed wherever a run resumes, little padding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.core.errors import DataError
from workbench.data import IGNORED, Dataset, batches, batches_per_epoch, collate, evaluation_batches, longest_batch


def dataset_of(lengths: list[int], rows: list[int] | None = None) -> Dataset:
    return Dataset.of([(range(1, n + 1), [True] * n) for n in lengths], rows)


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate(Dataset.of([([5, 6, 7], [False, False, True]), ([8], [True])]), [0, 1])
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7], [IGNORED] * 3]
    assert batch.positions.tolist() == [[0, 1, 2], [0, -1, -1]]
    assert (batch.tokens, batch.targets, batch.indices) == (4, 1, (0, 1))
    assert batch.ids.dtype == batch.labels.dtype == batch.positions.dtype == torch.int64


def test_a_first_token_is_never_a_target() -> None:
    data = dataset_of([3, 2])
    assert data.trained.tolist() == [False, True, True, False, True]
    assert data.trained_tokens == 3


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), size=st.integers(1, 7), seed=st.integers(0, 9), start=st.integers(0, 60)
)
@settings(max_examples=60, deadline=None)
def test_order_depends_on_the_seed_alone_and_resumes_anywhere(lengths: list[int], size: int, seed: int, start: int) -> None:
    data = dataset_of(lengths)
    whole = [b.indices for b in batches(data, size, seed, epochs=3)]
    per_epoch = batches_per_epoch(data, size)
    assert len(whole) == 3 * per_epoch
    for epoch in range(3):
        seen = list(itertools.chain.from_iterable(whole[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert sorted(seen) == list(range(len(lengths)))
    assert [b.indices for b in batches(data, size, seed, epochs=3, start_step=start)] == whole[start:]


def test_seeds_and_epochs_differ_and_no_end_means_no_end() -> None:
    data = dataset_of(list(range(1, 40)))
    first = [b.indices for b in batches(data, 2, seed=0)]
    assert first != [b.indices for b in batches(data, 2, seed=1)]
    endless = [b.indices for b in itertools.islice(batches(data, 2, seed=0, epochs=None), 2 * len(first))]
    assert endless[: len(first)] == first
    assert endless[len(first) :] != first


def test_like_lengths_share_a_batch() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 300, 1000).tolist()
    made = list(batches(dataset_of(lengths), 8))
    padded = 1 - sum(b.tokens for b in made) / sum(b.ids.numel() for b in made)
    assert padded < 0.03
    shuffled = [max(b.positions.max().item() for b in made[i : i + 10]) for i in range(0, 120, 10)]
    assert max(shuffled) - min(shuffled) < 150  # long ones are spread over the epoch


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to train on") as caught:
        next(batches(dataset_of([]), 2))
    assert caught.value.hint
    assert list(evaluation_batches(dataset_of([]), 2)) == []


def test_evaluation_takes_every_sequence_once_longest_first() -> None:
    data = dataset_of([3, 9, 1, 9, 5])
    assert [b.indices for b in evaluation_batches(data, 2)] == [(1, 3), (4, 0), (2,)]
    assert longest_batch(data, 3).indices == (1, 3, 4)


# ---- held-out data -------------------------------------------------------------------------------------------------


@given(rows=st.lists(st.integers(0, 8), min_size=2, max_size=40), fraction=st.floats(0.01, 0.5), seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_a_split_parts_no_document_and_loses_nothing(rows: list[int], fraction: float, seed: int) -> None:
    rows = sorted(rows)
    data = dataset_of([i + 2 for i in range(len(rows))], rows)
    train, held = data.split(fraction, seed)
    assert len(train) > 0
    assert len(held) > 0
    assert sorted([*train.lengths.tolist(), *held.lengths.tolist()]) == data.lengths.tolist()
    if len(set(rows)) > 1:
        assert not set(train.rows.tolist()) & set(held.rows.tolist())
    again, _ = data.split(fraction, seed)
    assert again.fingerprint() == train.fingerprint()


def test_nothing_is_held_out_where_nothing_is_asked_or_left() -> None:
    for data, fraction in ((dataset_of([3, 4]), 0.0), (dataset_of([3]), 0.5)):
        train, held = data.split(fraction, 0)
        assert (len(train), len(held)) == (len(data), 0)


def test_seeds_hold_out_different_examples() -> None:
    data = dataset_of(list(range(2, 102)))
    held = [data.split(0.1, seed)[1] for seed in (0, 1)]
    assert [len(h) for h in held] == [10, 10]
    assert held[0].fingerprint() != held[1].fingerprint()
