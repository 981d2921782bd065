"""Sizes are rounded to few, and what is added teaches nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.training.tools import dataset
from workbench.data import collate
from workbench.model import Transformer
from workbench.training.bench import bench_for
from workbench.training.loss import summed_loss
from workbench.training.objectives import NextToken
from workbench.training.shapes import rounded, settled


def test_few_sizes_and_little_waste() -> None:
    found = [rounded(n) for n in range(1, 4097)]
    assert all(size >= n and size % 8 == 0 for n, size in enumerate(found, 1))
    assert all(size <= max(n + 8, 1.126 * n) for n, size in enumerate(found, 1))
    assert found == sorted(found)
    for octave in (64, 128, 256, 2048):
        assert len(set(found[octave : 2 * octave])) == 8
    assert [rounded(n) for n in (0, 1, 8, 9, 129, 256, 257)] == [0, 8, 8, 16, 144, 256, 288]


def test_padding_changes_neither_loss_nor_gradients(make_model: Callable[..., Transformer]) -> None:
    task = NextToken().task(collate(dataset(4, lengths=(9, 14)), [0, 1, 2, 3]), 0)
    wide = settled(task, 32)
    assert wide.ids.shape == (4, 16)
    assert wide.count == task.count
    assert (wide.positions >= 0).sum() == (task.positions >= 0).sum()
    results = []
    for given in (task, wide):
        bench = bench_for(make_model(), "default", torch.float32)
        loss = summed_loss(bench.model, bench.hidden(given), given.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        results.append([loss.detach(), *(p.grad for p in bench.parameters.values())])
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted)


def test_never_beyond_the_models_context() -> None:
    task = NextToken().task(collate(dataset(2, lengths=(14, 15)), [0, 1]), 0)
    assert task.ids.shape[1] == 13
    assert settled(task, 14).ids.shape[1] == 14
    assert settled(task, 13) is task
    assert settled(settled(task, 99), 99).ids.shape[1] == 16
