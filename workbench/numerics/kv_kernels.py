"""Products with packed vectors, straight from their codes: what attention over a compressed cache consists of.

    vector t = scale[t] · levels[codes[t]]        scores = q · vector        weighted sum = Σ p[t] · vector

The history is read once and never decoded as a whole: a few vectors at a time, in the first-level cache. Compiled by numba where it
is installed; elsewhere, and on other devices, torch does the same tile by tile.

Shapes: B batch, G heads, R query rows that share a head, T stored vectors, W width (a multiple of 8). codes are uint8
[B, G, T, W·bits/8] as `packing.pack` makes them, with levels [2^bits] float32; or int8 [B, G, T, W], the numbers themselves, with
levels None. scale is float16 [B, G, T]. Views of larger tensors will do: only the last axis must be dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.numerics import jit
from workbench.numerics.kv_loops import TILE, attention, products
from workbench.numerics.packing import unpack

FEW = 256
"""Waking the other threads for so few vectors takes longer than doing without them."""


def scores(q: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None) -> Tensor:
    """q [B, G, R, W] float32 times every vector -> [B, G, R, T] float32."""
    if not _compiled_for(q, codes, q.shape[3]):
        return scores_by_torch(q, codes, scale, levels)
    batch, heads, rows, _ = q.shape
    tokens = codes.shape[2]
    out = q.new_empty(batch, heads, rows, tokens)
    kernel = products(_bits(levels))[0]
    run = kernel if tokens > FEW else kernel.alone
    run(
        batch * heads * -(-tokens // TILE), q.contiguous().flatten(0, 1), *_operands(codes, scale, levels), heads, tokens, out.flatten(0, 1)
    )
    return out


def weighted_sum(p: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None, width: int) -> Tensor:
    """Σ p · vector: p [B, G, R, T] float32 -> [B, G, R, W] float32."""
    if not _compiled_for(p, codes, width):
        return weighted_sum_by_torch(p, codes, scale, levels, width)
    batch, heads, rows, tokens = p.shape
    # One sum for each tile, whichever thread computes it: the result does not depend on how many there are.
    parts = p.new_empty(batch, heads, -(-tokens // TILE), rows, width)
    kernel = products(_bits(levels))[1]
    run = kernel if tokens > FEW else kernel.alone
    run(parts.shape[2] * batch * heads, p.contiguous().flatten(0, 1), *_operands(codes, scale, levels), heads, tokens, parts.flatten(0, 2))
    return parts.sum(2) if parts.shape[2] > 1 else parts[:, :, 0]


def scores_by_torch(q: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None) -> Tensor:
    """`scores` without a compiler, on any device."""
    tiles = [q @ _tile(codes, scale, levels, at, q.shape[3]).transpose(-1, -2) for at in range(0, codes.shape[2], TILE)]
    return torch.cat(tiles, -1) if tiles else q.new_empty(*q.shape[:3], 0)


def weighted_sum_by_torch(p: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None, width: int) -> Tensor:
    """`weighted_sum` without a compiler, on any device."""
    out = p.new_zeros(*p.shape[:3], width)
    for at in range(0, codes.shape[2], TILE):
        out += p[..., at : at + TILE] @ _tile(codes, scale, levels, at, width)
    return out


def _tile(codes: Tensor, scale: Tensor, levels: Tensor | None, at: int, width: int) -> Tensor:
    """Vectors at … at + TILE − 1, decoded: [B, G, ≤ TILE, W] float32."""
    codes, scale = codes[:, :, at : at + TILE], scale[:, :, at : at + TILE]
    if levels is None:
        return codes.float() * scale.float()[..., None]
    return levels[unpack(codes, _bits(levels), width).int()] * scale.float()[..., None]


# ---- all of attention at once --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packed:
    """Stored vectors of one layer as `Attention` reads them: vector t = (scale[t] · levels[codes[t]]) @ turn + shift.

    `turn` [W, W] float32 is a rotation; `shift` [B, G, 1, W] float32 is what all vectors of a head share. None: there is none.
    """

    codes: Tensor
    scale: Tensor
    levels: Tensor | None
    turn: Tensor | None = None
    shift: Tensor | None = None


Exact = tuple[Tensor, Tensor]
Span = tuple[int, int]
"""From a token up to, and without, another."""


class Attention:
    """Attention over packed vectors and two runs of exact ones, prepared once for tensors that stay where they are and change.

    `near`: keys and values of each run, [B, G, S, W], alike in type and strides and dense in the last axis. The threads are woken once
    for a token, and each computes the softmax of its own tiles: waking them for every product apart, and for the rotations, took three
    times as long as all the arithmetic.
    """

    def __init__(self, keys: Packed, values: Packed, near: tuple[Exact, Exact]) -> None:
        turned, shifted = _matrix(keys.turn), _matrix(keys.shift)
        self._keys = (*_operands(keys.codes, keys.scale, keys.levels), turned, shifted)
        self._values = _operands(values.codes, values.scale, values.levels)
        self._back = _matrix(values.turn), _matrix(values.shift)
        self._near = near
        self._runs = [_run(pair) if pair[0].dtype == torch.float32 else None for pair in near]
        self._tiles, self._combine = attention(_bits(keys.levels), _bits(values.levels))

    @staticmethod
    def of(keys: Packed | None, values: Packed | None, near: tuple[Exact, Exact]) -> Attention | None:
        """None where it is not compiled for these: off the CPU, for vectors not in whole sixteens, or codes not in whole rows."""
        if keys is None or values is None or near[0][0].device.type != "cpu" or near[0][0].shape[3] % 16:
            return None
        alike = all(k.stride() == v.stride() and k.dtype == v.dtype for k, v in near)
        whole = all(x.codes.stride(2) == x.codes.shape[3] for x in (keys, values))
        return Attention(keys, values, near) if alike and whole and jit.available() else None

    @property
    def kept(self) -> bool:
        """False: the first call waits some seconds for the compiler."""
        return self._tiles.kept

    def __call__(self, q: Tensor, scale: float, packed: Span, near: tuple[Span, Span]) -> Tensor:
        """q [B, G, R, W] float32 times `scale` attends to packed vectors and to a part of either run -> [B, G, R, W] float32."""
        batch, heads, rows, width = q.shape
        since, tokens = packed[0], packed[1] - packed[0]
        items = -(-tokens // TILE) + 1
        sums, peaks = q.new_empty(batch * heads * items, rows, width), q.new_empty(batch * heads * items, 2, rows)
        run = self._tiles if tokens > FEW else self._tiles.alone
        runs = tuple(self._run(i, span) for i, span in enumerate(near))
        flat = q.reshape(-1, rows, width)
        run(batch * heads * items, flat, np.float32(scale), heads, runs, self._keys, self._values, since, tokens, sums, peaks)
        out = torch.empty_like(flat)
        self._combine(sums.view(-1, items, rows, width), peaks.view(-1, items, 2, rows), *self._back, out)
        return out.view(q.shape)

    def _run(self, which: int, span: Span) -> tuple[Any, Any, tuple[int, ...], int, int]:
        """(keys, values, strides, first, count) of a part of a run, in float32."""
        first, stop = span
        run = self._runs[which]
        if run is not None:
            return *run, first, stop - first
        keys, values = self._near[which]
        return *_run((keys[:, :, first:stop].float(), values[:, :, first:stop].float())), 0, stop - first


def _run(pair: Exact) -> tuple[Any, Any, tuple[int, ...]]:
    keys, values = pair
    if keys.numel() == 0:
        return _NOTHING, _NOTHING, (0, 0, 0)
    return _dense(keys).numpy(), _dense(values).numpy(), keys.stride()[:3]


def _matrix(x: Tensor | None) -> Any:
    return _NO_MATRIX if x is None else x.contiguous().view(-1, x.shape[-1]).numpy()


_NOTHING = torch.zeros(1).numpy()
_NO_MATRIX = torch.zeros(0, 0).numpy()
_NO_LEVELS = torch.zeros(16)


# ---- for the compiled loops -------------------------------------------------------------------------------------------------


def _compiled_for(x: Tensor, codes: Tensor, width: int) -> bool:
    return x.device.type == "cpu" and not x.requires_grad and min(x.numel(), codes.numel()) > 0 and width % 16 == 0 and jit.available()


def _bits(levels: Tensor | None) -> int:
    """0 for numbers that are their own codes."""
    return 0 if levels is None else levels.numel().bit_length() - 1


def _operands(codes: Tensor, scale: Tensor, levels: Tensor | None) -> tuple[Any, tuple[int, ...], Any, tuple[int, ...], Any]:
    """(rows of codes, strides in rows, scales as their bits, their strides, sixteen levels or more): dense arrays and numbers, because
    numba compiles these to the fastest code."""
    row = codes.shape[3]
    if any(s % row for s in codes.stride()[:3]):
        codes = codes.contiguous()
    table = _NO_LEVELS if levels is None else levels
    if table.numel() < 16:
        table = torch.nn.functional.pad(table, (0, 16 - table.numel()))
    rows = _dense(codes).view(torch.uint8).view(-1, row)
    return rows.numpy(), tuple(s // row for s in codes.stride()[:3]), _dense(scale).view(torch.int16).numpy(), scale.stride(), table.numpy()


def _dense(x: Tensor) -> Tensor:
    """The memory that a view with a dense last axis lies in, from its first element to its last, as one row."""
    last = 0
    for n, step in zip(x.shape, x.stride(), strict=True):
        last += (n - 1) * step
    return x.as_strided((last + 1,), (1,))
