"""Runs of numbers as equally spaced steps of a few bits: a scale for each run, and with `minmax` the least number too.

Shapes: x [..., N], one run along the last axis; codes uint8 [..., N] below 2^bits; scale and low float16 [...]. Anything not a number
counts as 0; what float16 cannot hold is cut off, so that codes stay finite whatever comes.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = torch.finfo(torch.float16).max


def symmetric(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(codes, scale): x ≈ scale · (code − 2^(bits−1)). The number farthest from 0 gets the outermost code, of which there is one more
    on the negative side, so the scale takes the sign that puts it there (llama.cpp's q4_0)."""
    half = 2 ** (bits - 1)
    x = torch.nan_to_num(x.float(), nan=0.0)
    low, high = x.amin(-1), x.amax(-1)
    scale = (torch.where(high > -low, high, low) / -half).clamp(-LARGEST, LARGEST).half()
    steps = (x / _divisor(scale)).round_() + half
    return steps.clamp_(0, 2 * half - 1).to(torch.uint8), scale


def minmax(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, scale, low): x ≈ low + scale · code, from the least number of the run to the largest."""
    x = torch.nan_to_num(x.float(), nan=0.0).clamp_(-LARGEST, LARGEST)
    low = x.amin(-1).half()
    scale = ((x.amax(-1) - low.float()) / (2**bits - 1)).clamp_min(0.0).half()
    steps = ((x - low.float()[..., None]) / _divisor(scale)).round_()
    return steps.clamp_(0, 2**bits - 1).to(torch.uint8), scale, low


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale.float())[..., None]


def runs(width: int, most: int | None) -> int:
    """How many numbers a run has in vectors of `width`, a multiple of 8: the most, up to `most`, that divide it in whole eights."""
    sizes = range(8, min(width, most or width) + 1, 8)
    return max((size for size in sizes if width % size == 0), default=width)
