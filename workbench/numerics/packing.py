"""Small whole numbers in as few bytes as they need, in planes of 4, 2 and 1 bits.

A number of 3 bits is kept as a plane of its upper two bits and a plane of its lowest one: no field crosses a byte, so that
reading is a shift and a mask. Within a plane elements follow each other, the first in the lowest bits of a byte.
"""

from __future__ import annotations

import torch
from torch import Tensor


def padded(width: int) -> int:
    """The next multiple of 8: vectors of other widths are stored as if they had that one."""
    return -(-width // 8) * 8


def fields(bits: int) -> tuple[int, ...]:
    """Widths of the planes of `bits`-bit numbers, the uppermost first: 7 -> (4, 2, 1), 8 -> (8,)."""
    return (8,) if bits == 8 else tuple(w for w in (4, 2, 1) if bits & w)


def pack(codes: Tensor, bits: int) -> Tensor:
    """uint8 [..., d] below 2^bits, d a multiple of 8 -> uint8 [..., d·bits/8], plane after plane."""
    if bits == 8:
        return codes.clone(memory_format=torch.contiguous_format)
    planes, left = [], bits
    for field in fields(bits):
        left -= field
        parts = ((codes >> left) & (2**field - 1)).unflatten(-1, (-1, 8 // field))
        byte = parts[..., 0]
        for i in range(1, 8 // field):
            byte = byte | (parts[..., i] << (i * field))
        planes.append(byte)
    return torch.cat(planes, -1)


def unpack(packed: Tensor, bits: int, width: int) -> Tensor:
    """The inverse of `pack`: uint8 [..., width·bits/8] -> uint8 [..., width]."""
    if bits == 8:
        return packed
    codes: Tensor | None = None
    start = 0
    for field in fields(bits):
        plane = packed[..., start : start + width * field // 8]
        start += width * field // 8
        part = torch.stack([(plane >> (i * field)) & (2**field - 1) for i in range(8 // field)], -1).flatten(-2)
        codes = part if codes is None else (codes << field) | part
    assert codes is not None
    return codes
