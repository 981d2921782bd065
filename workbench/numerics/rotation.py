"""Random rotations that every cache of a width shares."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def haar(width: int, seed: int = 0) -> Tensor:
    """A rotation drawn uniformly from all orthogonal matrices, [width, width] float32 on the CPU; the same for the same seed.

    It is the Q of the QR decomposition of a Gaussian matrix, with the signs that make it unique and thereby uniform
    (arXiv:math-ph/0609050). Computed in float64. Shared by all callers: do not write to it.
    """
    q, r = torch.linalg.qr(gaussian(width, seed).double())
    rotation: Tensor = q * r.diagonal().sign()
    return rotation.float().contiguous()


@cache
def gaussian(width: int, seed: int = 0) -> Tensor:
    """Independent N(0, 1) entries, [width, width] float32 on the CPU; the same for the same seed. Do not write to it."""
    return torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
