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
    """Stored vectors of one layer as `attend` reads them: vector t = (scale[t] · levels[codes[t]]) @ turn + shift.

    `turn` [W, W] float32 is a rotation; `shift` [B, G, 1, W] float32 is what all vectors of a head share. None: there is none.
    """

    codes: Tensor
    scale: Tensor
    levels: Tensor | None
    turn: Tensor | None = None
    shift: Tensor | None = None


Exact = tuple[Tensor, Tensor]
"""Keys and values as they are, each [B, G, S, W] float32, with the same strides, dense in the last axis."""


def attends(q: Tensor, keys: Packed, values: Packed) -> bool:
    """Whether `attend` can serve: compiled, on the CPU, and for vectors of whole sixteens."""
    return _compiled_for(q, keys.codes, q.shape[3]) and values.scale.shape == keys.scale.shape


def attend(q: Tensor, keys: Packed, values: Packed, near: tuple[Exact, Exact]) -> Tensor:
    """Attention of q [B, G, R, W] float32, already scaled, over packed vectors and two runs of exact ones -> [B, G, R, W] float32.

    The threads are woken once, and each computes the softmax of its own tiles: waking them for every product apart, and for the
    rotations, took three times as long as all the arithmetic.
    """
    batch, heads, rows, width = q.shape
    tokens = keys.codes.shape[2]
    items = -(-tokens // TILE) + 1
    sums, peaks = q.new_empty(batch * heads, items, rows, width), q.new_empty(batch * heads, items, 2, rows)
    tiles, combine = attention(_bits(keys.levels), _bits(values.levels))
    run = tiles if tokens > FEW else tiles.alone
    run(
        batch * heads * items, q.contiguous().view(-1, rows, width), heads, tuple(_exact(x) for x in near),
        (*_operands(keys.codes, keys.scale, keys.levels), _matrix(keys.turn), _matrix(keys.shift)),
        _operands(values.codes, values.scale, values.levels), tokens, sums.flatten(0, 1), peaks.flatten(0, 1),
    )  # fmt: skip
    out = q.new_empty(batch * heads, rows, width)
    combine(sums, peaks, _matrix(values.turn), _matrix(values.shift), out)
    return out.view(q.shape)


def _exact(near: Exact) -> tuple[Any, Any, tuple[int, ...], int]:
    keys, values = near
    if keys.shape[2] == 0:
        return _NOTHING, _NOTHING, (0, 0, 0), 0
    if values.stride() != keys.stride():
        keys, values = keys.contiguous(), values.contiguous()
    return _dense(keys).numpy(), _dense(values).numpy(), keys.stride()[:3], keys.shape[2]


def _matrix(x: Tensor | None) -> Any:
    return _NO_MATRIX if x is None else x.contiguous().view(-1, x.shape[-1]).numpy()


_NOTHING = torch.zeros(1).numpy()
_NO_MATRIX = torch.zeros(0, 0).numpy()
_NO_LEVELS = torch.zeros(16)


# ---- for the compiled loops -------------------------------------------------------------------------------------------------


def _compiled_for(x: Tensor, codes: Tensor, width: int) -> bool:
    return x.device.type == "cpu" and min(x.numel(), codes.numel()) > 0 and width % 16 == 0 and jit.available()


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
