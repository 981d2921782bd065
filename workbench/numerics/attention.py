"""Attention as a pure function of queries, keys, values, a scoring rule and where the tokens stand.

Shapes: B batch, T new tokens, S stored + new tokens, H query heads, G key/value heads (H a multiple of G), D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics.blocked import blocked_attention, suits_blocks

PADDING = -1
"""The position of a token that nobody may see."""

Bias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scoring:
    """How one attention layer turns queries and keys into weights.

    `window` W lets query i see keys i−W < j ≤ i (W keys, itself included). `softcap` c replaces a score z by c·tanh(z/c)
    before the mask (Gemma-2, arXiv:2408.00118). `bias(query_positions [B, T], key_positions [B, S]) -> [B, H, T, S]`
    is added to the scaled scores.
    """

    scale: float
    causal: bool = True
    window: int | None = None
    softcap: float | None = None
    bias: Bias | None = None


@dataclass
class Frame:
    """Where the tokens of one forward pass stand; made once, shared by all layers.

    `plain` means: no padding, no separate documents, and row t of every sequence is at position `start + t`, so that the
    slot of a key is its position and no mask tensor is needed. Otherwise `key_positions` [B, S] (−1: hidden) and,
    for packed documents, `segments` [B, T] say who sees whom. `offset`: a plain frame's slots hold positions `offset` on,
    because older tokens were dropped.
    """

    positions: Tensor
    start: int = 0
    plain: bool = True
    key_positions: Tensor | None = None
    segments: Tensor | None = None
    offset: int = 0
    rotation: Any = None
    _masks: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Number of slots once the new tokens are stored."""
        return self.start + self.positions.shape[1]

    def mask(self, scoring: Scoring) -> Tensor:
        """Which keys each query may see, bool [B or 1, 1, T, S]; made once per rule and forward pass."""
        rule = (scoring.causal, scoring.window)
        if rule not in self._masks:
            self._masks[rule] = self._visible(scoring.causal, scoring.window)[:, None]
        return self._masks[rule]

    def keys(self) -> Tensor:
        """Positions of all stored and new keys, [B or 1, S]."""
        if self.key_positions is not None:
            return self.key_positions
        return torch.arange(self.offset, self.offset + self.end, device=self.positions.device)[None]

    def _visible(self, causal: bool, window: int | None) -> Tensor:
        query, key = self.positions[:, :, None], self.keys()[:, None, :]
        if self.plain:
            query = query[:1]
        seen = (key != PADDING) & (query != PADDING)
        if causal:
            seen = seen & (key <= query)
        if window is not None:
            seen = seen & ((query - key).abs() < window)
        if self.segments is not None:
            seen = seen & (self.segments[:, :, None] == self.segments[:, None, :])
        return seen


def attend(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
    """q [B, H, T, D], k and v [B, G, S, D] -> [B, H, T, D]: softmax(score(q, k)) v, grouped heads never repeated in memory.

    Query head h reads key/value head ⌊h / (H/G)⌋ (arXiv:2305.13245). Rows that may see nothing give zeros.
    """
    tokens, heads, groups = q.shape[2], q.shape[1], k.shape[1]
    if scoring.softcap is not None:
        return _explicit(q, k, v, scoring, frame)
    if frame.plain and scoring.bias is None:
        if tokens == 1 and scoring.causal:
            return _single(q, k, v, scoring)
        if not scoring.causal and scoring.window is None:
            return F.scaled_dot_product_attention(q, k, v, scale=scoring.scale, enable_gqa=heads != groups)
        short = scoring.window is None or k.shape[2] <= scoring.window
        if frame.start == 0 and scoring.causal and short:
            if suits_blocks(q):
                return blocked_attention(q, k, v, scoring.scale)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scoring.scale, enable_gqa=heads != groups)
    mask: Tensor = frame.mask(scoring)
    if scoring.bias is not None:
        bias = scoring.bias(frame.positions, frame.keys()).to(q.dtype)
        mask = torch.where(mask, bias, torch.full((), -math.inf, dtype=q.dtype, device=q.device))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scoring.scale, enable_gqa=heads != groups)
    return out if frame.plain else _silence(out, frame)


def _single(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """One query per sequence sees everything (or the last `window` keys): the query heads of a group become query rows."""
    if scoring.window is not None and k.shape[2] > scoring.window:
        k, v = k[:, :, -scoring.window :], v[:, :, -scoring.window :]
    batch, heads, _, width = q.shape
    groups = k.shape[1]
    rows = q.reshape(batch, groups, heads // groups, width)
    return F.scaled_dot_product_attention(rows, k, v, scale=scoring.scale).reshape(batch, heads, 1, width)


def _explicit(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
    """Scores written out: for soft-capping, which no fused kernel offers, and as the slow twin in the tests."""
    batch, heads, tokens, width = q.shape
    groups = k.shape[1]
    grouped = q.reshape(batch, groups, heads // groups, tokens, width)
    scores = torch.einsum("bgrtd,bgsd->bgrts", grouped.float(), k.float()) * scoring.scale
    if scoring.softcap is not None:
        scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
    if scoring.bias is not None:
        bias = scoring.bias(frame.positions, frame.keys()).float()
        scores = scores + bias.view(bias.shape[0], groups, -1, *bias.shape[2:])
    scores = scores.masked_fill(~frame.mask(scoring)[:, :, None], -math.inf)
    weights = torch.nan_to_num(torch.softmax(scores, dim=-1))
    return torch.einsum("bgrts,bgsd->bgrtd", weights, v.float()).reshape(batch, heads, tokens, width).to(q.dtype)


def _silence(out: Tensor, frame: Frame) -> Tensor:
    """Zero the rows of padding queries; kernels differ in what a row that sees nothing yields."""
    return out.masked_fill((frame.positions == PADDING)[:, None, :, None], 0.0)
