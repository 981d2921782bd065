"""The loss on examples that are not trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workbench.adapters.dropout import mixed
from workbench.data import Dataset, evaluation_batches
from workbench.training.bench import Bench
from workbench.training.loss import summed_loss
from workbench.training.objectives import NextToken, Objective
from workbench.training.precision import multiplying
from workbench.training.shapes import settled

_MASKS = 0xE7A1
"""Seed of what is masked in an evaluation, so that every one asks the same questions."""


def evaluate(
    bench: Bench, dataset: Dataset, batch_size: int, stopping: Callable[[], bool], objective: Objective | None = None
) -> tuple[float, int] | None:
    """(mean negative log-likelihood, trained tokens) over `dataset`; None when `stopping` ended it early.

    Dropout is off inside; the modules are in training mode again afterwards. Masks are the same each time.
    """
    objective = objective or NextToken()
    total, targets = 0.0, 0
    model = bench.model.eval()
    try:
        for number, batch in enumerate(evaluation_batches(dataset, batch_size)):
            if stopping():
                return None
            task = settled(objective.task(batch, mixed(_MASKS, number)), model.config.max_positions)
            with torch.inference_mode(), multiplying(bench):
                hidden = bench.hidden(task)
                total += float(summed_loss(model, hidden, task.targets.to(model.device)))
            targets += task.count
    finally:
        model.train()
    return total / max(1, targets), targets
