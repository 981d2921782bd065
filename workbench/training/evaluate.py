"""The loss on examples that are not trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workbench.data import Dataset, evaluation_batches
from workbench.training.bench import Bench
from workbench.training.loss import summed_loss
from workbench.training.precision import multiplying
from workbench.training.shapes import settled


def evaluate(bench: Bench, dataset: Dataset, batch_size: int, stopping: Callable[[], bool]) -> tuple[float, int] | None:
    """(mean negative log-likelihood, trained tokens) over `dataset`; None when `stopping` ended it early.

    Dropout is off inside; the modules are in training mode again afterwards.
    """
    total, targets = 0.0, 0
    model = bench.model.eval()
    try:
        for batch in (settled(b, model.config.max_positions) for b in evaluation_batches(dataset, batch_size)):
            if stopping():
                return None
            with torch.inference_mode(), multiplying(bench):
                hidden = bench.hidden(batch)
                total += float(summed_loss(model, hidden, batch.labels.to(model.device)))
            targets += batch.targets
    finally:
        model.train()
    return total / max(1, targets), targets
