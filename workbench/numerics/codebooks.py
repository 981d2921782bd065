"""The best 2^b values for one coordinate of a random point on a sphere (Max 1960, Lloyd 1982; arXiv:2504.19874, section 3.1).

A coordinate x of a uniformly random vector of length √d in d dimensions has variance 1 and the density
f(x) ∝ (1 − x²/d)^((d−3)/2), which tends to N(0, 1). Here the mass and the first moment of an interval are exact sums, so that
Newton's method finds the optimum to rounding, in milliseconds, and no table has to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from workbench.core.errors import ConfigError

BITS = range(1, 9)


def codebook(bits: int, width: int | None) -> Tensor:
    """The 2^bits reproduction values in rising order, [2**bits] float32, symmetric, for coordinates of variance 1.

    `width` None is the limit of infinitely wide vectors. Kept once computed and shared by all callers: do not write to it.
    """
    return _solved(bits, width)[0]


def distortion(bits: int, width: int | None) -> float:
    """The mean squared error of a coordinate of variance 1 (relative to its square) with `codebook(bits, width)`."""
    return _solved(bits, width)[1]


@cache
def boundaries(bits: int, width: int | None) -> Tensor:
    """The 2^bits − 1 values between neighbours of the codebook, [2**bits − 1] float64: a value's code is how many lie below it."""
    levels = codebook(bits, width).double()
    return (levels[1:] + levels[:-1]) / 2


@dataclass(frozen=True)
class _Density:
    """A symmetric density of variance 1 on [−edge, edge]: itself, its mass and its first moment from 0 up to x ≥ 0."""

    edge: float
    density: Callable[[Tensor], Tensor]
    mass: Callable[[Tensor], Tensor]
    moment: Callable[[Tensor], Tensor]


def _normal() -> _Density:
    peak = 1 / math.sqrt(2 * math.pi)
    return _Density(
        math.inf,
        lambda x: peak * torch.exp(-x * x / 2),
        lambda x: torch.erf(x / math.sqrt(2)) / 2,
        lambda x: peak * (1 - torch.exp(-x * x / 2)),
    )


def _coordinate(width: int) -> _Density:
    """With x = √d sin θ the density becomes cos^(d−2) θ, whose integral is a finite sum of terms of one sign."""
    edge, power = math.sqrt(width), width - 2
    norm = math.sqrt(math.pi) * math.exp(math.lgamma((width - 1) / 2) - math.lgamma(width / 2))  # ∫ over all θ
    steps = range(2 + power % 2, power + 1, 2)

    def mass(x: Tensor) -> Tensor:
        sine = (x / edge).clamp(max=1.0)
        square = 1 - sine * sine
        total = sine.clone() if power % 2 else torch.asin(sine)
        term = sine * (square if power % 2 else square.sqrt())  # cos^(n−1) θ sin θ, from the smallest n up
        for n in steps:
            total = ((n - 1) * total + term) / n
            term = term * square
        return total / norm

    def moment(x: Tensor) -> Tensor:
        return edge / (norm * (width - 1)) * (1 - (1 - (x / edge).square()).clamp(min=0.0) ** ((width - 1) / 2))

    return _Density(edge, lambda x: (1 - (x / edge).square()).clamp(min=0.0) ** ((width - 3) / 2) / (norm * edge), mass, moment)


@cache
def _solved(bits: int, width: int | None) -> tuple[Tensor, float]:
    """Codebook and distortion. The values are symmetric, so only the positive half is searched."""
    if bits not in BITS:
        raise ConfigError(f"A code has {bits} bits; it may have {BITS[0]} to {BITS[-1]}.", hint="Use 4.")
    if width is not None and width < 4:
        raise ConfigError(f"Vectors of width {width} are too short for a code of their direction.", hint="Use 8 or more.")
    f = _normal() if width is None else _coordinate(width)
    levels = _companded(f, 2 ** (bits - 1))
    for _ in range(20):
        # Lloyd's steps keep the order of the values; they bring Newton's, which need not, close enough.
        levels = _moments(f, levels)[1] / _moments(f, levels)[0]
    for _ in range(12):
        step = _newton_step(f, levels)
        levels = levels - step
        if float(step.abs().max()) < 1e-12:
            break
    mass, _ = _moments(f, levels)
    error = 1 - 2 * float((mass * levels.square()).sum())
    return torch.cat((-levels.flip(0), levels)).float(), error


def _companded(f: _Density, count: int) -> Tensor:
    """Where Lloyd's steps start: quantiles of the density's cube root, the best for many values (Panter and Dite 1951)."""
    grid = torch.linspace(0.0, min(f.edge, 8.0), 8193, dtype=torch.float64)
    share = f.density(grid).pow(1 / 3).cumsum(0)
    wanted = (torch.arange(count, dtype=torch.float64) + 0.5) / count * share[-1]
    return grid[torch.searchsorted(share, wanted)]


def _moments(f: _Density, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Mass and first moment of the cell of each positive level."""
    middle = (levels[1:] + levels[:-1]) / 2
    ends = torch.cat((middle.new_zeros(1), middle, middle.new_full((1,), f.edge)))
    return f.mass(ends).diff(), f.moment(ends).diff()


def _newton_step(f: _Density, levels: Tensor) -> Tensor:
    """How far the levels are from being the centroids of their cells, to first order: the residuals c·mass − moment of
    neighbours hang together through the boundary between them."""
    mass, moment = _moments(f, levels)
    middle = (levels[1:] + levels[:-1]) / 2
    weight = f.density(middle) / 2
    above, below = weight * (levels[:-1] - middle), weight * (middle - levels[1:])
    jacobian = torch.diag(mass) + torch.diag(above, 1) + torch.diag(below, -1)
    jacobian.diagonal()[:-1] += above
    jacobian.diagonal()[1:] += below
    step: Tensor = torch.linalg.solve(jacobian, levels * mass - moment)
    return step
