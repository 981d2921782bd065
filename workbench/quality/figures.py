"""What changed, token by token, and what follows from it: paired differences, their uncertainty, a label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.model import Transformer

_ROWS = 128
"""Positions whose logits exist at the same time."""
BLOCK = 64
"""Neighbouring tokens that are drawn together: they share a text, and are not independent."""
DRAWS = 2000

LOSSLESS, NEAR, SMALL, LOSSY = "lossless", "near-lossless", "small loss", "lossy"
LABELS = {
    LOSSLESS: "The interval of Δ nats holds 0 and ends below 0.001, KL is below 3 × the noise floor, and 99 % of first choices agree.",
    NEAR: "Perplexity rises by less than 0.5 %, and at least 98 % of first choices agree.",
    SMALL: "Perplexity rises by less than 2 %.",
    LOSSY: "Perplexity rises by 2 % or more.",
}
"""Each label and what it stands for, the best first."""


@dataclass(frozen=True)
class TokenFigures:
    """One float32 or bool per predicted token: the loss without and with the change in nats, the divergence of the predictions in
    nats, and whether both put the same token first."""

    before: np.ndarray[Any, Any]
    after: np.ndarray[Any, Any]
    kl: np.ndarray[Any, Any]
    same: np.ndarray[Any, Any]

    @property
    def tokens(self) -> int:
        return len(self.before)

    @property
    def delta(self) -> np.ndarray[Any, Any]:
        """Loss above the unchanged one, token by token."""
        found: np.ndarray[Any, Any] = self.after - self.before
        return found


def joined(parts: Sequence[TokenFigures]) -> TokenFigures:
    """Several windows as one."""
    return TokenFigures(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("before", "after", "kl", "same")))


@torch.inference_mode()
def compare(models: tuple[Transformer, Transformer], hidden: tuple[Tensor, Tensor], targets: Tensor) -> TokenFigures:
    """`hidden` [T, C] as each model's head reads it, before and after the change; `targets` [T]."""
    found: list[list[Tensor]] = [[], [], [], []]
    for at in range(0, len(targets), _ROWS):
        here = slice(at, at + _ROWS)
        before, after = (F.log_softmax(m.head(h[here]).float(), -1) for m, h in zip(models, hidden, strict=True))
        for kept, log_p in zip(found[:2], (before, after), strict=True):
            kept.append(F.nll_loss(log_p, targets[here], reduction="none"))
        found[2].append(F.kl_div(after, before, reduction="none", log_target=True).sum(-1))
        found[3].append(before.argmax(-1) == after.argmax(-1))
    arrays = [torch.cat(part).cpu().numpy() for part in found]
    return TokenFigures(arrays[0], arrays[1], np.maximum(arrays[2], 0.0), arrays[3])


def interval(delta: np.ndarray[Any, Any], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean by drawing blocks of neighbouring tokens anew (block bootstrap); nan below two blocks."""
    blocks = len(delta) // BLOCK
    if blocks < 2 or not np.isfinite(delta).all():
        return math.nan, math.nan
    means = delta[: blocks * BLOCK].reshape(blocks, BLOCK).mean(1, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, blocks, (DRAWS, blocks))
    low, high = np.percentile(means[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True)
class Summary:
    """The figures of all tokens: nats per token before the change, Δ nats with its 95 % interval, Δ perplexity in per cent, mean, 99th
    percentile and maximum of the divergence in nats, and the share of first choices that agree."""

    tokens: int
    nats: float
    delta: float
    low: float
    high: float
    perplexity_percent: float
    kl: float
    kl_p99: float
    kl_max: float
    top1: float

    def label(self, floor_kl: float) -> str:
        """By the thresholds of `LABELS`; `floor_kl` is the mean divergence of what is no change at all."""
        if self.low <= 0 <= self.high < 0.001 and self.kl < 3 * max(floor_kl, 1e-9) and self.top1 >= 0.99:
            return LOSSLESS
        if self.perplexity_percent < 0.5 and self.top1 >= 0.98:
            return NEAR
        return SMALL if self.perplexity_percent < 2 else LOSSY


def summed(found: TokenFigures) -> Summary:
    """One line out of all tokens. Predictions that are no numbers make it nan, and never a good label."""
    delta = found.delta.astype(np.float64)
    mean = float(delta.mean())
    low, high = interval(delta)
    percent = 100 * math.expm1(mean) if mean < 700 else math.inf
    return Summary(
        tokens=found.tokens, nats=float(found.before.mean(dtype=np.float64)), delta=mean, low=low, high=high,
        perplexity_percent=percent, kl=float(found.kl.mean(dtype=np.float64)), kl_p99=float(np.percentile(found.kl, 99)),
        kl_max=float(found.kl.max()), top1=float(found.same.mean()),
    )  # fmt: skip
