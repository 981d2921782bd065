"""Attention over keys and values that come in pieces, without all scores at once (arXiv:2112.05682)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from workbench.numerics.attention import PADDING, Frame, Scoring

BLOCK = 128
"""Queries handled at once: their scores against a piece stay in a core's second-level cache. Whole prompts took 1.4 times as long."""


@dataclass
class _Block:
    """Queries start … stop−1 of all heads: rows [B·G, R·n, D], scaled; largest score and weights so far [B·G, R·n, 1], and their
    weighted sum of values, in float32."""

    start: int
    stop: int
    rows: Tensor
    best: Tensor | None = None
    sum: Tensor | None = None
    out: Tensor | None = None

    def merge(self, best: Tensor, total: Tensor, out: Tensor) -> None:
        """Add what a piece gave, whose weights are relative to exp(best)."""
        if self.best is not None and self.sum is not None and self.out is not None:
            highest = torch.maximum(best, self.best)
            floor = _floor(highest)
            new, old = torch.exp(best - floor), torch.exp(self.best - floor)
            best, total, out = highest, total * new + self.sum * old, out * new + self.out * old
        self.best, self.sum, self.out = best, total, out


class OnlineAttention:
    """q [B, H, T, D]; pieces of keys and values may come in any order. All sums are in float32; products are in float32 too, but under
    autocast in its type.

    A piece that would overflow the softmax does not: each new maximum rescales what was summed so far. What no query of a block may
    see is left out of its products.
    """

    def __init__(self, q: Tensor, scoring: Scoring, frame: Frame) -> None:
        self.scoring, self.frame, self.like = scoring, frame, q
        where = q.device.type
        self._type = torch.get_autocast_dtype(where) if torch.is_autocast_enabled(where) else torch.float32
        self._blocks: list[_Block] = []

    def add(self, k: Tensor, v: Tensor, at: int) -> None:
        """Slots at … at+S−1: k and v [B, G, S, D] in any dtype."""
        with torch.autocast(self.like.device.type, enabled=False):
            k, v = k.to(self._type), v.to(self._type)
            for block in self._blocks or self._cut(k.shape[1]):
                first, stop, masked = self._seen(block, at, at + k.shape[2])
                if first < stop:
                    keys, values = (x[:, :, first - at : stop - at].flatten(0, 1) for x in (k, v))
                    block.merge(*self._attend(block, keys, values, first, masked))

    def _cut(self, groups: int) -> list[_Block]:
        batch, heads, tokens, width = self.like.shape
        rows = (self.like.float() * self.scoring.scale).reshape(batch * groups, heads // groups, tokens, width)
        self._blocks = [
            _Block(a, min(a + BLOCK, tokens), rows[:, :, a : a + BLOCK].reshape(batch * groups, -1, width).to(self._type))
            for a in range(0, tokens, BLOCK)
        ]
        return self._blocks

    def _seen(self, block: _Block, at: int, stop: int) -> tuple[int, int, bool]:
        """Slots from … to that any query of the block may see, and whether some of these are hidden from some of them."""
        scoring, frame = self.scoring, self.frame
        if not frame.plain or not scoring.causal or frame.segments is not None:
            return at, stop, True
        first, last = frame.start + block.start, frame.start + block.stop - 1
        stop = min(stop, last + 1)
        masked = stop > first + 1
        if scoring.window is not None:
            at = max(at, first - scoring.window + 1)
            masked = masked or last - at >= scoring.window
        return at, stop, masked

    def _attend(self, block: _Block, k: Tensor, v: Tensor, at: int, masked: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(largest score, sum of weights, weighted sum) of k and v [B·G, S, D], which are slots `at` on."""
        scoring = self.scoring
        learns = block.rows.requires_grad or k.requires_grad or v.requires_grad
        fused = _fused() if self._type == torch.float32 and k.device.type == "cpu" and not learns else None
        if fused is not None and not masked and scoring.bias is None and scoring.softcap is None:
            out, size = fused(block.rows[None], k[None], v[None], 0.0, False, attn_mask=None, scale=1.0)
            best = size[0, :, :, None].float()
            return best, torch.ones_like(best), out[0]
        scores = torch.bmm(block.rows, k.transpose(1, 2)).float()
        if masked or scoring.bias is not None or scoring.softcap is not None:
            scores = self._adjusted(scores, block, at, masked)
        best = scores.detach().amax(-1, keepdim=True)  # it cancels out: no gradient is lost
        weights = scores.sub_(_floor(best)).exp_()
        return best, weights.sum(-1, keepdim=True), torch.bmm(weights.to(self._type), v).float()

    def _adjusted(self, scores: Tensor, block: _Block, at: int, masked: bool) -> Tensor:
        """Soft-cap, bias and mask: [B·G, R·n, S] -> the same."""
        scoring, frame = self.scoring, self.frame
        queries, slots = slice(block.start, block.stop), slice(at, at + scores.shape[-1])
        apart = scores.view(self.like.shape[0], -1, block.stop - block.start, scores.shape[-1])
        if scoring.softcap is not None:
            apart = scoring.softcap * torch.tanh(apart / scoring.softcap)
        if scoring.bias is not None:
            apart = apart + scoring.bias(frame.positions[:, queries], frame.keys()[:, slots]).float()
        if masked:
            apart = apart.masked_fill(~frame.mask(scoring)[..., queries, slots], -math.inf)
        return apart.view(scores.shape)

    def result(self) -> Tensor:
        """[B, H, T, D] in q's dtype; rows that saw nothing, and padding, are zero."""
        batch, heads, _, width = self.like.shape
        parts = []
        for block in self._blocks:
            if block.out is None or block.sum is None:
                part = torch.zeros_like(block.rows, dtype=torch.float32)
            else:
                part = torch.where(block.sum > 0, block.out / block.sum, 0.0)
            parts.append(part.view(batch, heads, -1, width))
        if not parts:
            return torch.zeros_like(self.like)
        out = torch.cat(parts, 2).to(self.like.dtype)
        if not self.frame.plain:
            out = out.masked_fill((self.frame.positions == PADDING)[:, None, :, None], 0.0)
        return out


def _floor(best: Tensor) -> Tensor:
    """What scores are compared with: a row that has seen nothing has −∞ for its maximum, and against 0 its weights are 0, not nan."""
    return best.masked_fill(best == -math.inf, 0.0)


@cache
def _fused() -> Any:
    """torch's kernel that gives the logarithm of the weights' sum too, proven on a small product; None where there is none. It takes
    0.6 of the time of products and softmax apart."""
    call = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if call is None:
        return None
    q, k = torch.arange(24.0).view(1, 2, 3, 4) / 24, torch.arange(40.0).view(1, 2, 5, 4) / 40
    try:
        out, size = call(q, k, k, 0.0, False, attn_mask=None, scale=1.0)
    except (RuntimeError, TypeError):  # a torch whose private call takes other arguments
        return None
    scores = q @ k.transpose(-1, -2)
    same = torch.allclose(size, scores.logsumexp(-1), atol=1e-5) and torch.allclose(out, scores.softmax(-1) @ k, atol=1e-5)
    return call if same else None
