"""The compiled loop of `turboquant.encode`: vectors are rotated, looked up and packed one by one, in the first-level cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.numerics import jit
from workbench.numerics.packing import fields

_LEAST, _MOST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max

FEW = 64
"""Waking the other threads for so few vectors takes longer than doing without them."""


def encode(x: Tensor, bits: int, rule: int, pi: Tensor, edges: Tensor, levels: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """As `turboquant.encode`: x float32 on the CPU, `rule` 0 unbiased, 1 matched, 2 plain, edges float64, levels float32."""
    size, count = x.shape[:-1], x.shape[:-1].numel()
    packed = torch.empty((count, pi.shape[0] * bits // 8), dtype=torch.uint8)
    scale = torch.empty(count)
    run = _encode if count > FEW else _encode.alone
    planes = np.array(fields(bits), np.int64)
    if count:
        rows = x.contiguous().view(count, -1).detach()
        run(count, rows, pi, edges, levels, planes, bits, rule, largest, packed, scale)
    return packed.view(*size, -1), scale.half().view(size)


@jit.shared_kernel
def _encode(
    begin: Any, end: Any, x: Any, pi: Any, edges: Any, levels: Any, planes: Any, bits: Any, rule: Any, largest: Any, out: Any, scale: Any
) -> Any:
    """x [N, D], pi [W, D], edges [2^bits − 1], levels [2^bits] -> out [N, W·bits/8], scale [N]. All sums in float64, in an order that does
    not depend on how many vectors come at once."""
    wide, width = pi.shape
    turn, unit = pi.astype(np.float64), np.empty(width, np.float64)
    y, codes = np.empty(wide, np.float64), np.empty(wide, np.int64)
    root = np.sqrt(np.float64(wide))
    for n in range(begin, end):
        total = 0.0
        for j in range(width):
            value = np.float64(x[n, j])
            unit[j] = min(max(value, -_MOST), _MOST) if value == value else 0.0
            total += unit[j] * unit[j]
        size = np.sqrt(total)
        factor = root / max(size, _LEAST)
        for i in range(0, wide, 4):
            a = b = c = d = 0.0
            for j in range(width):
                a += turn[i, j] * unit[j]
                b += turn[i + 1, j] * unit[j]
                c += turn[i + 2, j] * unit[j]
                d += turn[i + 3, j] * unit[j]
            y[i], y[i + 1], y[i + 2], y[i + 3] = a * factor, b * factor, c * factor, d * factor
        codes[:] = 0
        rest = max(0, bits - 4)
        for edge in edges[(1 << rest) - 1 :: 1 << rest]:
            for i in range(wide):
                codes[i] += (y[i] > edge) << rest
        for power in range(rest - 1, -1, -1):
            step = 1 << power
            for i in range(wide):
                codes[i] += step * (y[i] > edges[codes[i] + step - 1])
        overlap, length = 0.0, 0.0
        for i in range(wide):
            near = np.float64(levels[codes[i]])
            overlap += near * y[i]
            length += near * near
        if rule == 2:
            size /= root
        elif rule == 1:
            size /= np.sqrt(length)
        else:
            size *= root / overlap if overlap > 0 else root
        scale[n] = min(size, largest)
        at, left = 0, bits
        for field in planes:
            left -= field
            each = 8 // field
            for place in range(wide // each):
                byte_ = 0
                for i in range(each):
                    byte_ |= ((codes[place * each + i] >> left) & ((1 << field) - 1)) << (i * field)
                out[n, at + place] = byte_
            at += wide // each
