"""Rotations keep lengths, are the same for everybody, and are spread evenly."""

from __future__ import annotations

import pytest
import torch

from workbench.numerics.rotation import gaussian, haar


@pytest.mark.parametrize("width", [8, 24, 64, 128])
def test_it_is_orthogonal(width: int) -> None:
    pi = haar(width)
    assert pi.dtype == torch.float32
    assert (pi @ pi.T - torch.eye(width)).abs().max() < 1e-5
    assert (pi.T @ pi - torch.eye(width)).abs().max() < 1e-5


def test_a_seed_fixes_it() -> None:
    assert haar(16, 5) is haar(16, 5)
    haar.cache_clear()
    gaussian.cache_clear()
    again = haar(16, 5)
    gaussian.cache_clear()
    haar.cache_clear()
    assert torch.equal(again, haar(16, 5))
    assert not torch.allclose(haar(16, 5), haar(16, 6))


def test_entries_are_those_of_a_uniform_rotation() -> None:
    """Without the signs, LAPACK's Q has a diagonal of one sign; a uniform one has mean 0 and variance 1/d everywhere."""
    drawn = torch.stack([haar(8, seed) for seed in range(400)])
    assert drawn.mean(0).abs().max() < 5 / (8 * 400) ** 0.5
    torch.testing.assert_close(drawn.square().mean(0), torch.full((8, 8), 1 / 8), rtol=0.4, atol=0.0)
