"""Products with packed vectors, straight from their codes: what attention over a compressed cache consists of.

    vector t = scale[t] · levels[codes[t]]        scores = q · vector        weighted sum = Σ p[t] · vector

The history is read once and never decoded as a whole: a few vectors at a time, in the first-level cache. Compiled by numba where it
is installed; elsewhere, and on other devices, torch does the same tile by tile.

Shapes: B batch, G heads, R query rows that share a head, T stored vectors, W width (a multiple of 8). codes are uint8
[B, G, T, W·bits/8] as `packing.pack` makes them, with levels [2^bits] float32; or int8 [B, G, T, W], the numbers themselves, with
levels None. scale is float16 [B, G, T]. Views of larger tensors will do: only the last axis must be dense.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.numerics import jit
from workbench.numerics.kv_vectors import make_expand
from workbench.numerics.packing import unpack

TILE = 512
"""Vectors that one thread handles at a time, and that torch decodes at a time."""


def scores(q: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None) -> Tensor:
    """q [B, G, R, W] float32 times every vector -> [B, G, R, T] float32."""
    if not _compiled_for(q, codes, q.shape[3]):
        return scores_by_torch(q, codes, scale, levels)
    batch, heads, rows, _ = q.shape
    out = q.new_empty(batch, heads, rows, codes.shape[2])
    _run(0, q.contiguous(), codes, scale, levels, out.flatten(0, 1))
    return out


def weighted_sum(p: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None, width: int) -> Tensor:
    """Σ p · vector: p [B, G, R, T] float32 -> [B, G, R, W] float32."""
    if not _compiled_for(p, codes, width):
        return weighted_sum_by_torch(p, codes, scale, levels, width)
    batch, heads, rows, tokens = p.shape
    # One sum for each tile, whichever thread computes it: the result does not depend on how many there are.
    parts = p.new_empty(batch, heads, -(-tokens // TILE), rows, width)
    _run(1, p.contiguous(), codes, scale, levels, parts.flatten(0, 2))
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


def _bits(levels: Tensor) -> int:
    return levels.numel().bit_length() - 1


# ---- compiled ----------------------------------------------------------------------------------------------------------


def _compiled_for(x: Tensor, codes: Tensor, width: int) -> bool:
    return x.device.type == "cpu" and min(x.numel(), codes.numel()) > 0 and width % 16 == 0 and jit.available()


def _run(which: int, rows: Tensor, codes: Tensor, scale: Tensor, levels: Tensor | None, out: Tensor) -> None:
    """Share the tiles of all heads among the threads. Rows and strides go along as numbers: dense arrays compile to the fastest code."""
    batch, heads, tokens = scale.shape
    bits = 0 if levels is None else _bits(levels)
    table = rows.new_zeros(16) if levels is None else levels if bits >= 4 else torch.nn.functional.pad(levels, (0, 16 - 2**bits))
    row = codes.shape[3]
    if any(s % row for s in codes.stride()[:3]):
        codes = codes.contiguous()
    first, second, third = (s // row for s in codes.stride()[:3])
    _kernels(bits)[which](
        batch * heads * -(-tokens // TILE), rows.flatten(0, 1), _dense(codes).view(torch.uint8).view(-1, row),
        (first, second, third), _dense(scale).view(torch.int16), scale.stride(), heads, tokens, table, out,
    )  # fmt: skip


def _dense(x: Tensor) -> Tensor:
    """The memory that a view with a dense last axis lies in, from its first element to its last, as one row."""
    return x.as_strided((1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)),), (1,))


@cache
def _kernels(bits: int) -> tuple[jit.Kernel, jit.Kernel]:
    """(scores, weighted sums) for codes of so many bits, 0 for int8 numbers. Compiled for each alone: a loop that asks how many there
    are is not vectorised."""
    namespace = {**globals(), "_expand": make_expand(bits)}

    def bound(function: Any, name: str) -> Any:
        made = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), namespace, name)
        made.__module__ = __name__
        return made

    for part in (_decode, _factors, _dots):
        namespace[part.__name__] = jit.part(bound(part, part.__name__))
    scores, weighted = (jit.shared_kernel(bound(f, f"{f.__name__}_{bits}")) for f in (_scores, _weighted))
    return scores, weighted


# What follows is compiled by numba. begin … end are tiles of all heads, counted head by head. A global of these functions is a constant.

_GROUP = 16


def _expand(codes: Any, row: Any, width: Any, chunk: Any, table: Any, out: Any, k: Any) -> Any:
    raise NotImplementedError  # see kv_vectors.make_expand


def _decode(codes: Any, row: Any, table: Any, width: Any, out: Any, k: Any) -> Any:
    """One vector without its scale -> out[k]."""
    for chunk in range(width // 16):
        _expand(codes, row, width, chunk, table, out, k)


def _factors(scale: Any, at: Any, step: Any, count: Any, out: Any) -> Any:
    """float16 given by their bits (int16), finite, -> out[:count]: in a float32's place they are too small by 2^112."""
    for i in range(count):
        number = np.int32(scale[at + i * step])
        out[i] = np.int32((number & 0x7FFF) << 13 | number & -0x80000000).view(np.float32) * np.float32(2.0**112)


def _dots(q: Any, head: Any, r: Any, vectors: Any, k: Any) -> Any:
    """Products of one vector with four rows of q from r on (the last one again where there are fewer)."""
    last = q.shape[1] - 1
    r1, r2, r3 = min(r + 1, last), min(r + 2, last), min(r + 3, last)
    a = b = c = d = np.float32(0)
    for j in range(q.shape[2]):
        x = vectors[k, j]
        a += q[head, r, j] * x
        b += q[head, r1, j] * x
        c += q[head, r2, j] * x
        d += q[head, r3, j] * x
    return a, b, c, d


def _scores(
    begin: Any, end: Any, q: Any, codes: Any, rows: Any, scale: Any, strides: Any, heads: Any, tokens: Any, table: Any, out: Any
) -> Any:
    """q [heads of all batches, R, W], codes [rows, bytes], scale [...] flat -> out [heads of all batches, R, T]."""
    tiles, queries = (tokens + TILE - 1) // TILE, q.shape[1]
    vectors, factors = np.empty((_GROUP, q.shape[2]), np.float32), np.empty(_GROUP, np.float32)
    for item in range(begin, end):
        head, first = item // tiles, item % tiles * TILE
        row, at = head // heads * rows[0] + head % heads * rows[1], head // heads * strides[0] + head % heads * strides[1]
        for start in range(first, min(first + TILE, tokens), _GROUP):
            count = min(_GROUP, tokens - start)
            _factors(scale, at + start * strides[2], strides[2], count, factors)
            for i in range(count):
                _decode(codes, row + (start + i) * rows[2], table, q.shape[2], vectors, i)
            for r in range(0, queries, 4):
                for i in range(count):
                    a, b, c, d = _dots(q, head, r, vectors, i)
                    out[head, r, start + i] = a * factors[i]
                    if r + 1 < queries:
                        out[head, r + 1, start + i] = b * factors[i]
                    if r + 2 < queries:
                        out[head, r + 2, start + i] = c * factors[i]
                    if r + 3 < queries:
                        out[head, r + 3, start + i] = d * factors[i]


def _weighted(
    begin: Any, end: Any, p: Any, codes: Any, rows: Any, scale: Any, strides: Any, heads: Any, tokens: Any, table: Any, out: Any
) -> Any:
    """p [heads of all batches, R, T], codes and scale as above -> out [tiles of all heads, R, W]."""
    tiles, queries = (tokens + TILE - 1) // TILE, p.shape[1]
    vectors, factors = np.empty((_GROUP, out.shape[2]), np.float32), np.empty(_GROUP, np.float32)
    for item in range(begin, end):
        head, first = item // tiles, item % tiles * TILE
        row, at = head // heads * rows[0] + head % heads * rows[1], head // heads * strides[0] + head % heads * strides[1]
        out[item] = 0
        for start in range(first, min(first + TILE, tokens), _GROUP):
            count = min(_GROUP, tokens - start)
            _factors(scale, at + start * strides[2], strides[2], count, factors)
            for i in range(count):
                _decode(codes, row + (start + i) * rows[2], table, out.shape[2], vectors, i)
            for i in range(count, _GROUP):
                factors[i] = 0
                vectors[i] = 0
            for r in range(queries):
                for i in range(0, count, 4):
                    last = tokens - 1
                    a = p[head, r, start + i] * factors[i]
                    b = p[head, r, min(start + i + 1, last)] * factors[i + 1]
                    c = p[head, r, min(start + i + 2, last)] * factors[i + 2]
                    d = p[head, r, min(start + i + 3, last)] * factors[i + 3]
                    for j in range(out.shape[2]):
                        out[item, r, j] += a * vectors[i, j] + b * vectors[i + 1, j] + c * vectors[i + 2, j] + d * vectors[i + 3, j]
