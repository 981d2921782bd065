"""The compiled loops of `kv_kernels`: packed vectors are decoded sixteen at a time, in the first-level cache, and multiplied there."""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from workbench.numerics import jit
from workbench.numerics.kv_vectors import edition, make_add, make_dots, make_expand

TILE = 512
"""Vectors that one thread handles at a time, and that torch decodes at a time."""


@cache
def products(bits: int) -> tuple[jit.Kernel, jit.Kernel]:
    """(scores, weighted sums) for codes of so many bits, 0 for int8 numbers. Compiled for each alone: a loop that asks how many there
    are is not vectorised."""
    names = {**_steps(), "_decode": _decoder(bits)}
    scores, weighted = (jit.shared_kernel(_bound(f, f"{f.__name__}_{bits}", names)) for f in (_scores, _weighted))
    return scores, weighted


@cache
def attention(key_bits: int, value_bits: int) -> tuple[jit.Kernel, jit.Kernel]:
    """(attention tile by tile, what it comes to in all) for keys and values of so many bits."""
    names = {**_steps(), "_decode_keys": _decoder(key_bits), "_decode_values": _decoder(value_bits)}
    return jit.shared_kernel(_bound(_attend, f"_attend_{key_bits}_{value_bits}", names)), _combination()


@cache
def _combination() -> jit.Kernel:
    return jit.kernel(_bound(_combine, "_combine", _steps()))


@cache
def _steps() -> dict[str, Any]:
    """The names that a kernel's code finds: this file's, with the functions it calls compiled, once for all kernels."""
    names = {**globals(), **{f"_dots_{n}": make_dots(n) for n in (1, 2, 3, 4)}, **{f"_add_{n}": make_add(n) for n in (1, 4)}}
    for part in (_exp, _factors, _dots, _add, _raise, _near_scores, _near_sums, _weights):
        names[part.__name__] = jit.part(_bound(part, part.__name__, names))
    return names


@cache
def _decoder(bits: int) -> Any:
    return jit.part(_bound(_decode, f"_decode_{bits}", {**_steps(), "_expand": make_expand(bits)}))


def _bound(function: Any, name: str, names: dict[str, Any]) -> Any:
    """`function` under another name, which compiled code is found by on disk, looking up what it calls in `names`. The name changes with
    the file of the steps, so that code compiled with an older one is not taken."""
    name = f"{name}_{edition()}"
    made = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), names, name)
    made.__module__ = __name__
    return made


# What follows is compiled by numba. begin … end are tiles of all heads, counted head by head.

_GROUP = 16

_expand: Any = None  # what is put in place of these above: the steps made in kv_vectors, and loops for keys' and values' bits
_dots_1: Any = None
_dots_2: Any = None
_dots_3: Any = None
_dots_4: Any = None
_add_1: Any = None
_add_4: Any = None
_decode_keys: Any = None
_decode_values: Any = None


def _decode(codes: Any, row: Any, step: Any, count: Any, table: Any, out: Any) -> Any:
    """Vectors without their scale, `step` rows apart -> out[:count]."""
    for i in range(count):
        for chunk in range(out.shape[1] // 16):
            _expand(codes, row + i * step, out.shape[1], chunk, table, out, i)


def _factors(scale: Any, at: Any, step: Any, count: Any, out: Any) -> Any:
    """float16 given by their bits (int16), finite, -> out[:count]: in a float32's place they are too small by 2^112."""
    for i in range(count):
        number = np.int32(scale[at + i * step])
        out[i] = np.int32((number & 0x7FFF) << 13 | number & -0x80000000).view(np.float32) * np.float32(2.0**112)


def _dots(q: Any, head: Any, vectors: Any, count: Any, factors: Any, out: Any, to: Any, column: Any) -> Any:
    """out[to, :, column : column + count] = factor · products of vectors with all rows of q[head], four rows at a time."""
    queries, width, step = q.shape[1], q.shape[2], out.shape[2]
    for r in range(0, queries, 4):
        at, place = (head * queries + r) * width, (to * queries + r) * step + column
        for k in range(count):
            if queries - r >= 4:
                _dots_4(q, at, vectors, k * width, width, factors[k], out, place + k, step)
            elif queries - r == 3:
                _dots_3(q, at, vectors, k * width, width, factors[k], out, place + k, step)
            elif queries - r == 2:
                _dots_2(q, at, vectors, k * width, width, factors[k], out, place + k, step)
            else:
                _dots_1(q, at, vectors, k * width, width, factors[k], out, place + k, step)


def _add(p: Any, head: Any, column: Any, count: Any, vectors: Any, factors: Any, out: Any, item: Any) -> Any:
    """out[item, r] += Σ p · factor · vector over `count` columns from `column` on, for all rows of p[head]."""
    width = out.shape[2]
    for r in range(p.shape[1]):
        at, place = (head * p.shape[1] + r) * p.shape[2] + column, (item * p.shape[1] + r) * width
        for start in range(0, width // 64 * 64, 64):
            _add_4(p, at, factors, count, vectors, start, width, out, place + start)
        for start in range(width // 64 * 64, width, 16):
            _add_1(p, at, factors, count, vectors, start, width, out, place + start)


def _exp(x: Any) -> Any:
    """e^x for x ≤ 0 to float32's precision, in operations that are vectorised: 2^n by its exponent, the rest by a polynomial."""
    y = max(x * np.float32(1.4426950408889634), np.float32(-126.0))
    n = np.floor(y + np.float32(0.5))
    f = y - n
    rest = np.float32(1.5403530e-4)
    rest = rest * f + np.float32(1.3333558e-3)
    rest = rest * f + np.float32(9.6181291e-3)
    rest = rest * f + np.float32(5.5504109e-2)
    rest = rest * f + np.float32(2.4022651e-1)
    rest = rest * f + np.float32(6.9314718e-1)
    rest = rest * f + np.float32(1.0)
    return rest * np.int32((np.int32(n) + 127) << 23).view(np.float32)


def _scores(
    begin: Any, end: Any, q: Any, codes: Any, rows: Any, scale: Any, strides: Any, table: Any, heads: Any, tokens: Any, out: Any
) -> Any:
    """q [heads of all batches, R, W], codes [rows, bytes], scale [...] flat -> out [heads of all batches, R, T]."""
    tiles = (tokens + TILE - 1) // TILE
    vectors, factors = np.empty((_GROUP, q.shape[2]), np.float32), np.empty(_GROUP, np.float32)
    for item in range(begin, end):
        head, first = item // tiles, item % tiles * TILE
        row, at = head // heads * rows[0] + head % heads * rows[1], head // heads * strides[0] + head % heads * strides[1]
        for start in range(first, min(first + TILE, tokens), _GROUP):
            count = min(_GROUP, tokens - start)
            _factors(scale, at + start * strides[2], strides[2], count, factors)
            _decode(codes, row + start * rows[2], rows[2], count, table, vectors)
            _dots(q, head, vectors, count, factors, out, head, start)


def _weighted(
    begin: Any, end: Any, p: Any, codes: Any, rows: Any, scale: Any, strides: Any, table: Any, heads: Any, tokens: Any, out: Any
) -> Any:
    """p [heads of all batches, R, T], codes and scale as above -> out [tiles of all heads, R, W]."""
    tiles = (tokens + TILE - 1) // TILE
    vectors, factors = np.empty((_GROUP, out.shape[2]), np.float32), np.empty(_GROUP, np.float32)
    for item in range(begin, end):
        head, first = item // tiles, item % tiles * TILE
        row, at = head // heads * rows[0] + head % heads * rows[1], head // heads * strides[0] + head % heads * strides[1]
        out[item] = 0
        for start in range(first, min(first + TILE, tokens), _GROUP):
            count = min(_GROUP, tokens - start)
            _factors(scale, at + start * strides[2], strides[2], count, factors)
            _decode(codes, row + start * rows[2], rows[2], count, table, vectors)
            _add(p, head, start, count, vectors, factors, out, item)


def _attend(
    begin: Any,
    end: Any,
    q: Any,
    scale_q: Any,
    heads: Any,
    near: Any,
    keys: Any,
    values: Any,
    since: Any,
    tokens: Any,
    sums: Any,
    peaks: Any,
) -> Any:
    """The softmax of each head's exact vectors (its first item) and of each tile of packed ones apart: q [heads of all batches, R, W],
    times scale_q, -> unnormalised sums [items, R, W], and their largest score and total weight in peaks [items, 2, R].

    near: twice (keys, values, strides, first, count). Of the packed ones, `tokens` from `since` on. keys: (codes, rows, scale, strides,
    table, turn, shift), where q is multiplied by the transposed turn [W, W], if there is one, and every score raised by
    q · shift[head], if there is one. values: the first five of these.
    """
    items, queries, width = (tokens + TILE - 1) // TILE + 1, q.shape[1], q.shape[2]
    vectors, factors = np.empty((_GROUP, width), np.float32), np.empty(_GROUP, np.float32)
    turned, p = np.empty((1, queries, width), np.float32), np.empty((1, queries, max(TILE, near[0][4] + near[1][4])), np.float32)
    ones, scales = np.ones(p.shape[2], np.float32), np.full(width, scale_q, np.float32)
    codes, rows, scale, strides, table, turn, shift = keys
    codes_v, rows_v, scale_v, strides_v, table_v = values
    for item in range(begin, end):
        head, first = item // items, (item % items - 1) * TILE
        batch, group = head // heads, head % heads
        sums[item] = 0
        if first < 0:
            count = _near_scores(q, scale_q, head, batch, group, near, p)
            _weights(p, count, peaks, item)
            _near_sums(p, batch, group, near, ones, sums, item)
            continue
        count = min(TILE, tokens - first)
        if turn.shape[0] > 0:
            _dots(q, head, turn, width, scales, turned, 0, 0)
        else:
            turned[0] = q[head] * scale_q
        first += since
        row = batch * rows[0] + group * rows[1] + first * rows[2]
        at = batch * strides[0] + group * strides[1] + first * strides[2]
        for start in range(0, count, _GROUP):
            many = min(_GROUP, count - start)
            _factors(scale, at + start * strides[2], strides[2], many, factors)
            _decode_keys(codes, row + start * rows[2], rows[2], many, table, vectors)
            _dots(turned, 0, vectors, many, factors, p, 0, start)
        _weights(p, count, peaks, item)
        if shift.shape[0] > 0:
            _raise(q, scale_q, head, shift, peaks, item)
        row = batch * rows_v[0] + group * rows_v[1] + first * rows_v[2]
        at = batch * strides_v[0] + group * strides_v[1] + first * strides_v[2]
        for start in range(0, count, _GROUP):
            many = min(_GROUP, count - start)
            _factors(scale_v, at + start * strides_v[2], strides_v[2], many, factors)
            _decode_values(codes_v, row + start * rows_v[2], rows_v[2], many, table_v, vectors)
            _add(p, 0, start, many, vectors, factors, sums, item)


def _raise(q: Any, scale: Any, head: Any, shift: Any, peaks: Any, item: Any) -> Any:
    """What the head's shift adds to all scores of an item."""
    for r in range(q.shape[1]):
        for j in range(q.shape[2]):
            peaks[item, 0, r] += scale * q[head, r, j] * shift[head, j]


def _near_scores(q: Any, scale: Any, head: Any, batch: Any, group: Any, near: Any, p: Any) -> Any:
    """Products with the exact vectors of one head, times scale, -> p[0, R, :count]; returns count."""
    count, width, step = 0, q.shape[2], p.shape[2]
    for x, _, strides, first, many in near:
        of = batch * strides[0] + group * strides[1] + first * strides[2]
        for t in range(many):
            for r in range(q.shape[1]):
                _dots_1(q, (head * q.shape[1] + r) * width, x, of + t * strides[2], width, scale, p, r * step + count + t, step)
        count += many
    return count


def _near_sums(p: Any, batch: Any, group: Any, near: Any, ones: Any, sums: Any, item: Any) -> Any:
    count, width = 0, sums.shape[2]
    for _, x, strides, first, many in near:
        of = batch * strides[0] + group * strides[1] + first * strides[2]
        for r in range(p.shape[1]):
            for start in range(0, width, 16):
                at, to = r * p.shape[2] + count, (item * p.shape[1] + r) * width + start
                _add_1(p, at, ones, many, x, of + start, strides[2], sums, to)
        count += many


def _weights(p: Any, count: Any, peaks: Any, item: Any) -> Any:
    """Scores p[0, R, :count] -> e^(score − largest); the largest and the sum go to peaks[item]."""
    for r in range(p.shape[1]):
        peak = np.float32(-3.0e38)
        for t in range(count):
            peak = max(peak, p[0, r, t])
        total = np.float32(0)
        for t in range(count):
            weight = _exp(p[0, r, t] - peak)
            p[0, r, t] = weight
            total += weight
        peaks[item, 0, r], peaks[item, 1, r] = peak, total


def _combine(sums: Any, peaks: Any, turn: Any, shift: Any, out: Any) -> Any:
    """The items of each head together: sums [heads of all batches, items, R, W], peaks [heads, items, 2, R] -> out [heads, R, W]. All
    but a head's first item are multiplied by turn [W, W] and raised by their weight times shift[head], if there are any."""
    width = out.shape[2]
    mixed, ones = np.empty(width, np.float32), np.ones(width, np.float32)
    for head in range(out.shape[0]):
        for r in range(out.shape[1]):
            peak = peaks[head, 0, 0, r]
            for item in range(1, sums.shape[1]):
                peak = max(peak, peaks[head, item, 0, r])
            mixed[:], weight = 0, np.float32(0)
            for item in range(1, sums.shape[1]):
                share = _exp(peaks[head, item, 0, r] - peak)
                weight += share * peaks[head, item, 1, r]
                for j in range(width):
                    mixed[j] += share * sums[head, item, r, j]
            share = _exp(peaks[head, 0, 0, r] - peak) if peaks[head, 0, 1, r] > 0 else np.float32(0)
            for j in range(width):
                out[head, r, j] = share * sums[head, 0, r, j]
            if shift.shape[0] > 0:
                for j in range(width):
                    out[head, r, j] += weight * shift[head, j]
            if turn.shape[0] > 0:
                for start in range(0, width, 16):
                    _add_1(mixed, 0, ones, width, turn, start, width, out, (head * out.shape[1] + r) * width + start)
            else:
                for j in range(width):
                    out[head, r, j] += mixed[j]
            total = weight + share * peaks[head, 0, 1, r]
            for j in range(width):
                out[head, r, j] /= total
