"""A changed model against the same model unchanged, on the same tokens: loss, divergence, agreement of the first choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.model import Transformer

_ROWS = 128
"""Positions whose logits exist at the same time."""
_LARGEST_NATS = 700.0


@dataclass(frozen=True)
class Figures:
    """Means over `tokens` predicted tokens: nats per token, KL divergence from the unchanged model in nats, and the share of
    positions at which both put the same token first. `delta` and `square` are the means of what each token's loss lies above
    the unchanged model's, and of its square."""

    tokens: int
    nats: float
    kl: float
    top1: float
    delta: float = 0.0
    square: float = 0.0

    @property
    def error(self) -> float:
        """Standard error of `delta`, tokens taken as independent."""
        return math.sqrt(max(0.0, self.square - self.delta**2) / max(1, self.tokens - 1))

    @property
    def perplexity(self) -> float:
        """exp of the nats; infinite beyond what a float holds, NaN when the model's answers are none."""
        return math.inf if self.nats > _LARGEST_NATS else math.exp(self.nats)


def cut(ids: Sequence[int], size: int) -> list[list[int]]:
    """Windows of `size` tokens; the last token of one is the first of the next, so that each is predicted once."""
    return [list(ids[at : at + size]) for at in range(0, len(ids) - 1, size - 1)]


@torch.inference_mode()
def read(model: Transformer, window: Sequence[int]) -> Tensor:
    """What the head reads at all positions that predict a token of the window, [T − 1, C]."""
    ids = torch.tensor(window, device=model.device)
    return model.hidden(ids[None])[0, :-1]


@torch.inference_mode()
def compared(model: Transformer, hidden: Tensor, exact: Tensor, window: Sequence[int]) -> Figures:
    """What `hidden` predicts of the window, against what `exact` does; both as from `read`."""
    targets = torch.tensor(window[1:], device=model.device)
    nats = kl = same = delta = square = 0.0
    for at in range(0, len(targets), _ROWS):
        here = slice(at, at + _ROWS)
        ours, theirs = (F.log_softmax(model.head(h[here]).float(), -1) for h in (hidden, exact))
        losses = F.nll_loss(ours, targets[here], reduction="none").double()
        moved = losses - F.nll_loss(theirs, targets[here], reduction="none").double()
        nats, delta, square = nats + float(losses.sum()), delta + float(moved.sum()), square + float(moved.square().sum())
        kl += float(F.kl_div(ours, theirs, reduction="sum", log_target=True).double())
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    count = len(targets)
    return Figures(count, nats / count, max(0.0, kl / count) if kl == kl else kl, same / count, delta / count, square / count)


def together(parts: Sequence[Figures]) -> Figures:
    """The figures of several windows as one."""
    tokens = sum(p.tokens for p in parts)
    names = ("nats", "kl", "top1", "delta", "square")
    return Figures(tokens, *(sum(getattr(p, name) * p.tokens for p in parts) / tokens for name in names))
