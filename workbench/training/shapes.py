"""Few different shapes: sizes are rounded up, so that a run meets each of them early and none is new later.

For every new shape of a bfloat16 product a CPU's matrix library makes and keeps machine code: about 10 MB and a slower step for
each new sequence length of a 135M model, 600 MB after 60 steps of unrounded lengths.
"""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional as F

from workbench.data import IGNORED
from workbench.training.objectives import Task

SIZES_PER_OCTAVE = 8
"""Different sizes between n and 2n; at most an eighth of a batch is padding for it, a sixteenth on average."""


def rounded(size: int) -> int:
    """`size`, rounded up to one of eight steps per power of two, and to a multiple of 8."""
    step = max(8, (1 << max(0, size - 1).bit_length()) // (2 * SIZES_PER_OCTAVE))
    return -(-size // step) * step


def settled(task: Task, longest: int) -> Task:
    """`task` with its length rounded up (not beyond `longest`) by padding on the right, which nothing looks at."""
    tokens = task.ids.shape[1]
    extra = min(rounded(tokens), max(tokens, longest)) - tokens
    if not extra:
        return task
    more = (0, extra)
    return replace(
        task,
        ids=F.pad(task.ids, more),
        targets=F.pad(task.targets, more, value=IGNORED),
        positions=F.pad(task.positions, more, value=-1),
        segments=None if task.segments is None else F.pad(task.segments, more, value=-1),
    )
