"""Attention over keys and values that come in pieces, without all scores at once (arXiv:2112.05682)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.numerics.attention import PADDING, Frame, Scoring


class OnlineAttention:
    """q [B, H, T, D]; pieces of keys and values are given in the order of their slots. All sums are in float32.

    A piece that would overflow the softmax does not: each new maximum rescales what was summed so far.
    """

    def __init__(self, q: Tensor, scoring: Scoring, frame: Frame) -> None:
        self.scoring, self.frame, self.like = scoring, frame, q
        self._at = 0
        self._rows: Tensor | None = None
        self._best: Tensor | None = None
        self._sum: Tensor | None = None
        self._out: Tensor | None = None

    def add(self, k: Tensor, v: Tensor) -> None:
        """The next slots: k and v [B, G, S, D] in any dtype."""
        batch, heads, tokens, width = self.like.shape
        groups, slots = k.shape[1], k.shape[2]
        if self._rows is None:
            self._rows = self.like.reshape(batch, groups, -1, width).float() * self.scoring.scale
        scores = (self._rows @ k.float().transpose(-1, -2)).view(batch, heads, tokens, slots)
        scores = self._adjusted(scores, self._at, self._at + slots).reshape(batch, groups, -1, slots)
        self._at += slots
        best = scores.amax(-1, keepdim=True)
        if self._best is not None:
            best = torch.maximum(best, self._best)
        # A row that has seen nothing so far has −∞ for its maximum; against 0 its weights are 0 instead of nan.
        floor = best.masked_fill(best == -math.inf, 0.0)
        weights = torch.exp(scores - floor)
        total, out = weights.sum(-1, keepdim=True), weights @ v.float()
        if self._best is not None and self._sum is not None and self._out is not None:
            fade = torch.exp(self._best - floor)
            total, out = total + self._sum * fade, out + self._out * fade
        self._best, self._sum, self._out = best, total, out

    def _adjusted(self, scores: Tensor, start: int, stop: int) -> Tensor:
        """Soft-cap, bias and mask of slots start … stop−1: [B, H, T, S] -> the same."""
        scoring, frame = self.scoring, self.frame
        if scoring.softcap is not None:
            scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
        if scoring.bias is not None:
            scores = scores + scoring.bias(frame.positions, frame.keys()[:, start:stop]).float()
        return scores.masked_fill(~frame.mask(scoring)[..., start:stop], -math.inf)

    def result(self) -> Tensor:
        """[B, H, T, D] in q's dtype; rows that saw nothing, and padding, are zero."""
        if self._out is None or self._sum is None:
            return torch.zeros_like(self.like)
        out = torch.where(self._sum > 0, self._out / self._sum, 0.0).view(self.like.shape).to(self.like.dtype)
        if not self.frame.plain:
            out = out.masked_fill((self.frame.positions == PADDING)[:, None, :, None], 0.0)
        return out
