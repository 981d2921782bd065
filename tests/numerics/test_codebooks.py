"""Codebooks against tables from another solver and against what makes them optimal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench.core.errors import ConfigError
from workbench.numerics.codebooks import BITS, boundaries, codebook, distortion

LINES = [line.split() for line in Path(__file__).with_name("lloyd_max.txt").read_text().splitlines() if not line.startswith("#")]
PINNED = [(int(bits), None if width == "inf" else int(width), [float(v) for v in values]) for bits, width, *values in LINES]

# The distortion of a unit vector, by bits.
EXACT = {
    64: (0.358387, 0.114526, 0.033391, 0.009132, 2.399227e-03, 6.159629e-04, 1.561451e-04, 3.931679e-05),
    128: (0.360889, 0.116000, 0.033966, 0.009315, 2.451460e-03, 6.299608e-04, 1.597739e-04, 4.024116e-05),
    None: (0.363380, 0.117482, 0.034548, 0.009501, 2.504668e-03, 6.442397e-04, 1.634782e-04, 4.118508e-05),
}


@pytest.mark.parametrize(("bits", "width", "values"), PINNED, ids=[f"{b}-{w}" for b, w, _ in PINNED])
def test_values_are_the_known_ones(bits: int, width: int | None, values: list[float]) -> None:
    levels = codebook(bits, width)
    assert levels.dtype == torch.float32
    assert torch.equal(levels, -levels.flip(0))
    torch.testing.assert_close(levels[2 ** (bits - 1) :], torch.tensor(values), rtol=0.0, atol=1e-6)


def test_every_width_that_matters_is_pinned() -> None:
    pinned = {(b, w) for b, w, _ in PINNED}
    assert {(b, 64) for b in BITS} | {(b, w) for b in range(1, 7) for w in (128, None)} <= pinned


@pytest.mark.parametrize("width", list(EXACT))
def test_distortion_is_the_known_one_and_within_the_bounds(width: int | None) -> None:
    found = [distortion(bits, width) for bits in BITS]
    assert found == pytest.approx(EXACT[width], rel=1e-4)
    assert all(4.0**-b < d < 2.7207 * 4.0**-b for b, d in zip(BITS, found, strict=True))
    assert all(2.7 < a / b < 4 for a, b in pairwise(found))


def samples(width: int) -> Tensor:
    """Coordinates of random points on the sphere of radius √width."""
    x = torch.randn(400_000 // width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(width))
    return (x / x.norm(dim=-1, keepdim=True) * width**0.5).flatten()


@pytest.mark.parametrize("width", [5, 8, 24, 31, 256])
@pytest.mark.parametrize("bits", [1, 3, 4])
def test_any_width_is_solved(width: int, bits: int) -> None:
    """No table to compare with: each value is the mean of what it stands for, and the error is what was promised."""
    x, levels = samples(width), codebook(bits, width).double()
    assert (levels.diff() > 0).all()
    assert levels[-1] < width**0.5
    codes = torch.bucketize(x, boundaries(bits, width))
    count = torch.bincount(codes, minlength=2**bits)
    means = torch.zeros(2**bits, dtype=torch.float64).scatter_add(0, codes, x) / count
    spread = 3.5 * (x - levels[codes]).std() / count.sqrt() + 0.004
    assert ((means - levels).abs() < spread).all()
    assert float((x - levels[codes]).square().mean()) == pytest.approx(distortion(bits, width), rel=0.03)


def test_boundaries_are_midpoints() -> None:
    assert torch.equal(boundaries(3, 64), (codebook(3, 64)[1:].double() + codebook(3, 64)[:-1].double()) / 2)


@pytest.mark.parametrize("bits", [0, 9])
def test_other_bits_have_a_sentence(bits: int) -> None:
    with pytest.raises(ConfigError, match="may have 1 to 8"):
        codebook(bits, 64)
