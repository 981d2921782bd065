"""Adapters of matrices that hold several of our layers one below the other (GPT-2's c_attn is query, key and value).

Theirs has one A for all parts; ours has one per part. Both directions are exact: reading copies A and cuts B, writing puts equal
A's back together, and different ones side by side with a block-diagonal B of higher rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """A [r, in], B [out, r], both float32, and the factor α/r or α/√r in front of their product."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def r(self) -> int:
        return self.a.shape[0]


def cut(pair: Pair, sizes: Sequence[int]) -> list[Pair | None]:
    """One pair per part of `sizes` output rows. None for a part that another part is trained without (its B is all zero).

    A block-diagonal B, as `join` writes it, gives back the parts it was made of.
    """
    bs = [b.contiguous() for b in torch.split(pair.b, list(sizes))]
    live = [i for i, b in enumerate(bs) if bool(b.any())]
    if not live:
        return [Pair(pair.a.clone(), b.clone(), pair.scaling) for b in bs]
    blocks = _diagonal(pair, [bs[i] for i in live])
    parts: list[Pair | None] = [None] * len(bs)
    for place, i in enumerate(live):
        part = blocks[place] if blocks is not None else slice(0, pair.r)
        parts[i] = Pair(pair.a[part].clone(), bs[i][:, part].clone(), pair.scaling)
    return parts


def _diagonal(pair: Pair, bs: Sequence[Tensor]) -> list[slice] | None:
    """The rank slices of a block-diagonal B with equal blocks; None when it is not one."""
    if len(bs) < 2 or pair.r % len(bs):
        return None
    width = pair.r // len(bs)
    slices = [slice(k * width, (k + 1) * width) for k in range(len(bs))]
    for b, part in zip(bs, slices, strict=True):
        outside = torch.ones(pair.r, dtype=torch.bool)
        outside[part] = False
        if bool(b[:, outside].any()):
            return None
    return slices


def join(parts: Sequence[Pair | None], sizes: Sequence[int]) -> Pair:
    """The pair of the fused matrix that computes what the parts compute; None counts as zero."""
    present = [p for p in parts if p is not None]
    first = present[0]
    if all(p.scaling == first.scaling and torch.equal(p.a, first.a) for p in present):
        rows = [torch.zeros(size, first.r) if p is None else p.b for p, size in zip(parts, sizes, strict=True)]
        return Pair(first.a, torch.cat(rows), first.scaling)
    ranks = [0 if p is None else p.r for p in parts]
    b = torch.zeros(sum(sizes), sum(ranks))
    row = column = 0
    for part, size in zip(parts, sizes, strict=True):
        if part is not None:
            b[row : row + size, column : column + part.r] = part.b * (part.scaling / first.scaling)
            column += part.r
        row += size
    return Pair(torch.cat([p.a for p in present]), b, first.scaling)
