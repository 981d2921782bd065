"""Products with matrices of small whole numbers: compiled loops for a few rows, dense products for many.

Shapes: M rows of x, K inputs, N outputs, g inputs that share a scale, G = ⌈K / g⌉ groups; rows of codes are padded with zeros
to G · g. Codes of 8 bits are int8 [N, G · g]. Codes of 4 bits lie two to a byte, uint8 [N, G · g / 2]: of each group the first
half in the low nibbles, the second half in the high ones. Scales of groups are bfloat16 [N, G], those of rows float32 [N].
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics import jit
from workbench.numerics.products import product

MIDDLE = 8
"""The code of 4 bits that stands for zero where a group has no offset."""
MOST_ROWS = 64
"""More rows are never cheaper one by one."""
_ONE_THREAD = 30e9
"""Bytes of codes that one thread multiplies in a second, roughly: decides when waking the others pays."""


# ---- loops -----------------------------------------------------------------------------------------------------------


@jit.shared_kernel
def _rows8(begin, end, x, codes, scales, out):  # type: ignore[no-untyped-def]
    """out[m, n] = scales[n] · Σ_k x[m, k] · codes[n, k]; x float32."""
    for n in range(begin, end):
        for m in range(x.shape[0]):
            total = np.float32(0)
            for k in range(x.shape[1]):
                total += x[m, k] * np.float32(codes[n, k])
            out[m, n] = total * scales[n]


@jit.shared_kernel
def _groups8(begin, end, x, codes, scales, out):  # type: ignore[no-untyped-def]
    """x [M, G, g], codes [N, G, g], scales int16 [N, G] (the bits of bfloat16, which are the upper half of a float32)."""
    for n in range(begin, end):
        for m in range(x.shape[0]):
            whole = np.float32(0)
            for g in range(x.shape[1]):
                total = np.float32(0)
                for k in range(x.shape[2]):
                    total += x[m, g, k] * np.float32(codes[n, g, k])
                whole += total * np.int32(np.int32(scales[n, g]) << 16).view(np.float32)
            out[m, n] = whole


@jit.shared_kernel
def _groups4(begin, end, first, second, sums, codes, scales, lows, out):  # type: ignore[no-untyped-def]
    """Halves of each group of x [M, G, g / 2], their sums [M, G], codes [N, G, g / 2], scales and lows int16 [N, G]."""
    for n in range(begin, end):
        for m in range(first.shape[0]):
            whole = np.float32(0)
            for g in range(first.shape[1]):
                total = np.float32(0)
                for k in range(first.shape[2]):
                    pair = codes[n, g, k]
                    total += first[m, g, k] * np.float32(pair & np.uint8(15)) + second[m, g, k] * np.float32(pair >> np.uint8(4))
                whole += total * np.int32(np.int32(scales[n, g]) << 16).view(np.float32)
                whole += sums[m, g] * np.int32(np.int32(lows[n, g]) << 16).view(np.float32)
            out[m, n] = whole


@jit.shared_kernel
def _whole8(begin, end, x, codes, out):  # type: ignore[no-untyped-def]
    """out[m, n] = Σ_k x[m, k] · codes[n, k], int32; x int8."""
    for n in range(begin, end):
        for m in range(x.shape[0]):
            total = np.int32(0)
            for k in range(x.shape[1]):
                total += np.int32(x[m, k]) * np.int32(codes[n, k])
            out[m, n] = total


@jit.shared_kernel
def _nothing(begin, end, x):  # type: ignore[no-untyped-def]
    pass


def _run(kernel: jit.Kernel, nbytes: int, count: int, *arguments: object) -> None:
    (kernel if nbytes > _worth_sharing(torch.get_num_threads()) else kernel.alone)(count, *arguments)


@cache
def _worth_sharing(threads: int) -> float:
    """Bytes of codes from which several threads are faster than one. Waking them takes one microsecond while they spin between
    two calls, and fifty when they sleep (OMP_WAIT_POLICY=PASSIVE), so it is measured."""
    nothing = torch.zeros(1)

    def seconds(call: Callable[..., object]) -> float:
        started = time.perf_counter()
        call(threads, nothing)
        return time.perf_counter() - started

    _nothing(threads, nothing)
    waking = statistics.median(seconds(_nothing) for _ in range(15)) - statistics.median(seconds(_nothing.alone) for _ in range(15))
    return max(0.0, waking) * _ONE_THREAD * threads / max(1, threads - 1)


@cache
def border(dtype: torch.dtype) -> int:
    """Up to this many rows of x the loop over 8-bit codes is faster than a dense product in `dtype`; measured once per process
    on a matrix of common size. 0 where loops cannot be compiled."""
    if not jit.available():
        return 0
    codes, scales = torch.ones(1536, 576, dtype=torch.int8), torch.ones(1536)

    def seconds(rows: int, work: Callable[[Tensor], object]) -> float:
        x = torch.ones(rows, codes.shape[1], dtype=dtype)
        work(x)
        found = []
        for _ in range(5):
            started = time.perf_counter()
            work(x)
            found.append(time.perf_counter() - started)
        return min(found)

    rows = 1
    while rows < MOST_ROWS:
        if seconds(2 * rows, lambda x: _few8(x, codes, scales)) > seconds(2 * rows, lambda x: _dense8(x, codes, scales)):
            break
        rows *= 2
    return rows


def _few(x: Tensor) -> bool:
    """Whether a loop suits these rows [M, K]."""
    return x.device.type == "cpu" and x.dtype != torch.float64 and 0 < x.shape[0] <= border(x.dtype)


# ---- products --------------------------------------------------------------------------------------------------------


def product8(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """x [M, K] times (codes [N, K] · scales [N])ᵀ -> [M, N] in x's dtype."""
    return _few8(x, codes, scales) if _few(x) else _dense8(x, codes, scales)


def _few8(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], codes.shape[0])
    _run(_rows8, codes.nbytes, codes.shape[0], x.float().contiguous(), codes, scales, out)
    return out.to(x.dtype)


def _dense8(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Whole numbers up to 127 are exact in every floating-point type, so nothing is lost before the scales; but sums of them may leave
    float16's range."""
    if x.dtype == torch.float16:
        return dense(x, (codes * scales[:, None]).to(x.dtype))
    out = dense(x, codes.to(x.dtype))
    return out.mul_(scales) if x.dtype == scales.dtype else (out * scales).to(x.dtype)


def dense(x: Tensor, weight: Tensor) -> Tensor:
    """x [M, K] times weight [N, K] transposed, no gradients, outside autocast, by the fastest product there is."""
    with torch.autocast(x.device.type, enabled=False):
        return product(x, weight) if x.dtype == torch.float32 else F.linear(x, weight)


def padded(x: Tensor, width: int) -> Tensor:
    """x [M, K] with zeros up to `width` columns."""
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]))


def product8_grouped(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """x [M, K] times groups of 8-bit codes -> [M, N] in x's dtype."""
    if not _few(x):
        return dense(x, decoded8(codes, scales, x.shape[-1], x.dtype))
    (count, groups), out = scales.shape, torch.empty(x.shape[0], codes.shape[0])
    rows = padded(x.float(), codes.shape[1]).reshape(x.shape[0], groups, -1)
    _run(_groups8, codes.nbytes, count, rows, codes.view(count, groups, -1), scales.view(torch.int16), out)
    return out.to(x.dtype)


def decoded8(codes: Tensor, scales: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers [N, K] that grouped 8-bit codes stand for."""
    count, groups = scales.shape
    whole = codes.view(count, groups, -1).to(torch.float32) * scales.float()[:, :, None]
    return whole.view(count, -1)[:, :width].to(dtype)


def product4(x: Tensor, codes: Tensor, scales: Tensor, lows: Tensor) -> Tensor:
    """x [M, K] times groups of 4-bit codes, each worth scale · code + low -> [M, N] in x's dtype."""
    if not _few(x):
        return dense(x, decoded4(codes, scales, lows, x.shape[-1], x.dtype))
    (count, groups), out = scales.shape, torch.empty(x.shape[0], codes.shape[0])
    rows = padded(x.float(), 2 * codes.shape[1]).reshape(x.shape[0], groups, 2, -1)
    first, second = rows.unbind(2)
    planes = codes.view(count, groups, -1), scales.view(torch.int16), lows.view(torch.int16)
    _run(_groups4, 4 * codes.nbytes, count, first.contiguous(), second.contiguous(), rows.sum((2, 3)), *planes, out)
    return out.to(x.dtype)


def decoded4(codes: Tensor, scales: Tensor, lows: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers [N, K] that grouped 4-bit codes stand for."""
    count, groups = scales.shape
    pairs = codes.view(count, groups, -1)
    whole = torch.cat((pairs & 15, pairs >> 4), -1).to(torch.float32)
    whole = whole.mul_(scales.float()[:, :, None]).add_(lows.float()[:, :, None])
    return whole.view(count, -1)[:, :width].to(dtype)


def packed4(codes: Tensor, groups: int) -> Tensor:
    """Codes 0 … 15, uint8 [N, G · g], two to a byte [N, G · g / 2]; g is even."""
    halves = codes.view(codes.shape[0], groups, 2, -1)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).reshape(codes.shape[0], -1)


def whole_product(x: Tensor, codes: Tensor) -> Tensor:
    """x int8 [M, K] times codes int8 [N, K] transposed -> int32 [M, N], exact, whichever way it is computed."""
    if x.device.type == "cpu" and x.shape[0] <= 4 and jit.available():
        out = torch.empty(x.shape[0], codes.shape[0], dtype=torch.int32)
        _run(_whole8, codes.nbytes, codes.shape[0], x.contiguous(), codes, out)
        return out
    if _int_mm():
        return torch._int_mm(x, codes.t())
    return sliced_whole_product(x, codes)


def sliced_whole_product(x: Tensor, codes: Tensor, step: int = 1024) -> Tensor:
    """`whole_product` in plain torch: sums over `step` inputs stay below 2²⁴, where float32 counts in whole numbers."""
    out = torch.zeros(x.shape[0], codes.shape[0], dtype=torch.int32, device=x.device)
    for a, b in zip(torch.split(x, step, 1), torch.split(codes, step, 1), strict=True):
        out += (a.float() @ b.float().t()).to(torch.int32)
    return out


@cache
def _int_mm() -> bool:
    """Whether this torch multiplies int8 matrices on the CPU, and rightly."""
    call = getattr(torch, "_int_mm", None)
    if call is None:
        return False
    x, codes = torch.full((3, 40), -127, dtype=torch.int8), torch.full((5, 40), 127, dtype=torch.int8)
    try:
        return bool((call(x, codes.t()) == -127 * 127 * 40).all())
    except (RuntimeError, TypeError):
        return False
