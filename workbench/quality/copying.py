"""A task that a coarse cache fails first: repeat random tokens that were seen once, far back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.model import Transformer

LENGTH = 32
"""Random tokens to be repeated. The first of them is given."""
DEPTHS = (0.1, 0.35, 0.6, 0.85)
"""Where in the text they are first seen."""


def copy_texts(filler: Sequence[int], vocabulary: Sequence[int], context: int, seed: int = 0) -> list[list[int]]:
    """Texts of `context` tokens, one for each depth: filler, the random tokens, filler, the random tokens again."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for depth in DEPTHS:
        picked = torch.randint(len(vocabulary), (LENGTH,), generator=draw).tolist()
        needle = [vocabulary[i] for i in picked]
        room = context - 2 * LENGTH
        before = round(depth * room)
        found.append([*filler[:before], *needle, *filler[before:room], *needle])
    return found


@torch.inference_mode()
def copied(model: Transformer, hidden: Tensor, text: Sequence[int]) -> int:
    """How many of the repeated tokens, the first aside, the model puts first; `hidden` [T, C] over the whole text."""
    at = len(text) - LENGTH
    targets = torch.tensor(text[at + 1 :], device=hidden.device)
    return int((model.head(hidden[at:-1]).argmax(-1) == targets).sum())
