"""Dropout whose mask follows from a number, so that recomputation and resuming see the same one."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F


def mixed(*numbers: int) -> int:
    """One 63-bit seed from several numbers; neighbours give unrelated seeds."""
    digest = hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def dropped(x: Tensor, share: float, noise: int | None) -> Tensor:
    """x with each element zeroed with probability `share` and the others divided by 1 − share; the gradient likewise.

    With `noise` the mask is a function of that seed, x's shape and device; the global generator is not touched.
    """
    if noise is None:
        return F.dropout(x, share, training=True)
    if share >= 1:
        return x * 0
    generator = torch.Generator(x.device).manual_seed(noise)
    keep = torch.empty(x.shape, device=x.device, dtype=x.dtype).bernoulli_(1 - share, generator=generator)
    return x * keep.div_(1 - share)
