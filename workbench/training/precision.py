"""The precision of a run's matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from workbench.training.bench import Bench


def multiplying(bench: Bench) -> AbstractContextManager[object]:
    """Inside the block products are taken in the bench's autocast dtype; nothing happens when it has none. Never held
    across a yield: autocast belongs to the thread."""
    if bench.autocast is None:
        return nullcontext()
    return torch.autocast(bench.model.device.type, dtype=bench.autocast)
