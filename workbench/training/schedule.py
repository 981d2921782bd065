"""How the learning rate moves over a run; the values are those of transformers' `get_scheduler`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from workbench.core.fields import Option

Decay = Callable[[float], float]
"""Share of the way from the end of the warm-up to the end of the run (0…1) -> share of the peak rate."""


@dataclass(frozen=True)
class Schedule:
    """Rises linearly from 0 during the warm-up, then follows `decay`."""

    option: Option
    decay: Decay

    def factor(self, step: float, steps: float, warmup: float) -> float:
        """Share of the peak rate that update number `step` (from 0) of `steps` uses; the first `warmup` ones rise. All three
        may be seconds instead."""
        if step < warmup:
            return step / warmup
        return self.decay(min(1.0, (step - warmup) / ((steps - warmup) or 1)))


SCHEDULES = {
    s.option.name: s
    for s in (
        Schedule(Option("constant", "Constant", "Stays at the peak after the warm-up."), lambda done: 1.0),
        Schedule(Option("linear", "Linear", "Falls in a straight line to zero."), lambda done: 1.0 - done),
        Schedule(
            Option("cosine", "Cosine", "Falls to zero along half a cosine: slowly at both ends."),
            lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
        ),
    )
}


def warmup_steps(steps: int, ratio: float) -> int:
    """Updates of the warm-up, rounded up."""
    return math.ceil(steps * ratio)
